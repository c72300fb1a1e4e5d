#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Nothing is linked to CUDA, so everything starts on a machine without a driver.
# usage: link_test.sh READELF FILE...
set -euo pipefail
export LC_ALL=C
readelf=$1
shift
n_failed=0
for file in "$@"; do
    needed=$("$readelf" -d --wide "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    if ! grep -q '^libc\.so' <<<"$needed"; then
        echo "$file: no libc among what it needs: readelf was misread"
        n_failed=$((n_failed + 1))
    fi
    if grep -iE 'cuda|nvidia|nvrtc|nvml' <<<"$needed"; then
        echo "$file: needs the above"
        n_failed=$((n_failed + 1))
    fi
    undefined=$("$readelf" --dyn-syms --wide "$file" | awk '$7 == "UND" { print $8 }')
    if grep -E '^(cu[A-Z]|cuda[A-Z]|nvml)' <<<"$undefined"; then
        echo "$file: wants the symbols above from a CUDA library"
        n_failed=$((n_failed + 1))
    fi
done
((n_failed == 0 && $# > 0))
