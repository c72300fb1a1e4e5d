#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Nothing needs a symbol newer than glibc 2.34.
# usage: glibc_test.sh READELF FILE...
set -euo pipefail
export LC_ALL=C
newest=2.34
readelf=$1
shift
n_failed=0
n_symbols=0
for file in "$@"; do
    symbols=$("$readelf" --dyn-syms --wide "$file")
    needed=$(grep -o '[^ ]*@GLIBC_[0-9.]*' <<<"$symbols" | sort -u || true)
    while IFS= read -r symbol; do
        [[ -n $symbol ]] || continue
        n_symbols=$((n_symbols + 1))
        version=${symbol##*@GLIBC_}
        if [[ $(printf '%s\n%s\n' "$newest" "$version" | sort -V | tail -n 1) != "$newest" ]]; then
            echo "$file: $symbol is newer than glibc $newest"
            n_failed=$((n_failed + 1))
        fi
    done <<<"$needed"
    echo "$file: newest is $(sed 's/.*@GLIBC_//' <<<"$needed" | sort -V | tail -n 1)"
done
((n_failed == 0 && n_symbols > 0))
