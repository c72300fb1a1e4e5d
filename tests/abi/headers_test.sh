#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles alone, as C11 and as C++17.
# usage: headers_test.sh CC CXX INCLUDE_DIR GENERATED_INCLUDE_DIR FILE...
set -euo pipefail
cc=$1 cxx=$2 include=$3 generated=$4
shift 4
flags=(-Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$include" -I "$generated")
n_failed=0
for file in "$@"; do
    case $file in
    *.c) command=("$cc" -std=c11 "${flags[@]}" "$file") ;;
    *.cc) command=("$cxx" -std=c++17 "${flags[@]}" "$file") ;;
    esac
    if "${command[@]}"; then
        echo "ok: $(basename "$file")"
    else
        echo "FAILED: ${command[*]}"
        n_failed=$((n_failed + 1))
    fi
done
((n_failed == 0 && $# > 0))
