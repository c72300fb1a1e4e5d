#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the benches that the image has and prints their tables.
# usage: bench.sh [--short] [--json FILE] [NAME]...
# --short, or a PINTABLE_BENCH_SHORT other than empty and 0: a sign of life of some seconds.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")/bench
order=(machine claim open join create job undo scan publish wake reissue device)
short=(machine claim join)

usage() {
    echo "usage: bench [--short] [--json FILE] [NAME]..." >&2
    echo "names: $(for file in "$folder"/*_bench; do basename "$file" _bench; done | paste -sd ' ')" >&2
    exit 64
}

json=() names=() is_short=${PINTABLE_BENCH_SHORT:-0}
while (($# > 0)); do
    case $1 in
    --short) is_short=1 ;;
    --json)
        (($# >= 2)) || usage
        : >"$2" # the benches append
        json=(--json "$2")
        shift
        ;;
    -*) usage ;;
    *)
        [[ $1 =~ ^[a-z_]+$ && -x $folder/$1_bench ]] || { echo "bench: no bench '$1'" >&2; usage; }
        names+=("$1")
        ;;
    esac
    shift
done
if ((${#names[@]} == 0)); then
    if [[ -n $is_short && $is_short != 0 ]]; then
        names=("${short[@]}")
    else
        names=("${order[@]}") # and those that the list above does not know, at the end
        for file in "$folder"/*_bench; do
            name=$(basename "$file" _bench)
            [[ " ${order[*]} " == *" $name "* ]] || names+=("$name")
        done
    fi
fi

PINTABLED=$(command -v pintabled)
TMPDIR=$(mktemp -d)
export PINTABLED TMPDIR

# As process 1 of a container this shell must act on signals itself: nothing is done by default.
running=
finish() {
    rm -rf -- "$TMPDIR"
}
stop() {
    [[ -z $running ]] || kill -TERM "$running" 2>/dev/null || true
    exit "$1"
}
trap finish EXIT
trap 'stop 130' INT
trap 'stop 143' TERM

n_failed=0
for name in "${names[@]}"; do
    [[ -x $folder/${name}_bench ]] || continue # device is there from the version that has it
    "$folder/${name}_bench" "${json[@]}" &
    running=$!
    wait "$running" || { n_failed=$((n_failed + 1)) && echo "bench: $name failed" >&2; }
    running=
done
((n_failed == 0))
