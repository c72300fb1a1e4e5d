#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the image runs: bench (the default), serve, demo, worker, or any command of `pintable`. Always
# by exec, so that the signals of `docker stop` reach the program itself.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")

case ${1:-bench} in
bench) exec "$here/bench.sh" "${@:2}" ;;
demo) exec "$here/demo.sh" "${@:2}" ;;
worker) exec pintable-worker "${@:2}" ;;
*) exec pintable "$@" ;;
esac
