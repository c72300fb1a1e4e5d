#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The demo on a CSV file of yours, or on a made-up table of the shape of the nycflights13 flights.
# usage: demo.sh [FILE.csv [WORKERS]]
set -euo pipefail
if (($# == 0)); then
    made=$(mktemp --suffix=.csv)
    trap 'rm -f -- "$made"' EXIT
    echo "a SYNTHETIC table of the shape of the flights of 2013; 'demo FILE.csv' takes a file of yours"
    "$(dirname "${BASH_SOURCE[0]}")/synthetic_flights.sh" "$made"
    pintable-demo "$made"
else
    exec pintable-demo "$@"
fi
