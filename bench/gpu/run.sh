#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that a machine with a GPU is wanted for, in under 8 minutes: builds, a probe's facts,
# the tests that need a GPU, the device bench on it, and a dated report in bench/results/.
#
# usage: bench/gpu/run.sh [--build FOLDER]
#
#   --build FOLDER  take programs that are built already (with tests and benches): for machines
#                   without a compiler or the libraries' headers
#   $PROBE          a program whose output goes into the report as it is
#   $DEVICE         which GPU; cuda:0 if unset
#   $RESULTS        folder for the report; bench/results if unset
#
# Exit status: 0, 1 when something failed (the report says what), 77 without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit_s=460 # for all of it
device=${DEVICE:-cuda:0}
results=${RESULTS:-bench/results}
folder=""
if [[ ${1:-} == --build && $# -eq 2 ]]; then
    folder=$(realpath -- "$2")
elif (($# > 0)); then
    echo "usage: bench/gpu/run.sh [--build FOLDER]" >&2
    exit 64
fi

has_gpu() {
    [[ -e /dev/nvidia0 || -e /dev/dxg ]] || { nvidia-smi -L 2>/dev/null | grep -q .; }
}
if ! has_gpu; then
    echo "no GPU on this machine: nothing was built, run or reported" >&2
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
failed=0

# step NAME MOST_S COMMAND...: within the time that is left; output into $work/NAME.
step() {
    local name=$1 most=$2 left=$((limit_s - SECONDS)) rc=0
    shift 2
    ((left < most)) || left=$most
    echo "== $name" >&2
    if ((left <= 0)); then
        echo "not run: $limit_s s are over" >"$work/$name"
        failed=1
        return
    fi
    timeout -k 5 "$left" "$@" >"$work/$name" 2>&1 || rc=$?
    if ((rc == 124 || rc == 137)); then
        echo "ended after $left s" >>"$work/$name"
    fi
    if ((rc != 0)); then
        echo "exit status $rc" >>"$work/$name"
        failed=1
    fi
}

build_all() {
    cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release -DPINT_BUILD_TESTS=ON \
        -DPINT_BUILD_BENCH=ON >"$1" 2>&1 && cmake --build build/gpu --parallel "$(nproc)" >>"$1" 2>&1
}

if [[ -z $folder ]]; then
    echo "== build" >&2
    if ! build_all "$work/build"; then
        tail -n 40 "$work/build" >&2
        echo "run.sh: it does not build; with --build FOLDER programs built elsewhere are taken" >&2
        exit 1
    fi
    folder=$PWD/build/gpu
fi
export PINTABLED=$folder/bin/pintabled PINTABLE_BROKER=$folder/bin/pintable-broker

# shellcheck disable=SC2317 # called by a shell under timeout
run_gpu_tests() {
    local test n=0 rc=0
    for test in "$folder"/tests/bin/*_gpu_test; do
        if [[ -x $test ]]; then
            n=$((n + 1))
            "$test" || rc=1
        fi
    done
    ((n > 0)) || { echo "no tests in $folder/tests/bin"; rc=1; }
    return "$rc"
}
export -f run_gpu_tests
export folder

if [[ -n ${PROBE:-} ]]; then
    step probe 120 "$PROBE"
fi
step tests 150 bash -c run_gpu_tests
step machine 30 "$folder/bench/machine_bench" --json "$work/lines.json"
step bench 200 "$folder/bench/device_bench" --device "$device" --json "$work/lines.json"

# --- The report -----------------------------------------------------------------------------------

gpu_field() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | paste -sd ';' || true; }
driver_version() {
    local version
    version=$(gpu_field driver_version)
    if [[ -z $version && -r /proc/driver/nvidia/version ]]; then
        version=$(head -n 1 /proc/driver/nvidia/version)
    fi
    echo "${version:-unknown}"
}
section() {
    if [[ -e $work/$2 ]]; then
        printf '\n## %s\n\n```\n' "$1"
        cat "$work/$2"
        printf '```\n'
    fi
}

mkdir -p "$results"
name=$results/gpu-$(date -u +%Y-%m-%d-%H%M)
{
    printf '# Device bench on %s, %s\n\n' "$device" "$(date -u '+%Y-%m-%d %H:%M UTC')"
    printf '| what | |\n|---|---|\n'
    printf '| GPU | %s |\n' "$(gpu_field name)"
    printf '| driver | %s |\n' "$(driver_version)"
    printf '| kernel | %s |\n' "$(uname -srm)"
    printf '| CPU | %s x %s |\n' "$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    printf '| commit | %s |\n' "$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)"
    printf '| outcome | %s |\n' "$( ((failed == 0)) && echo 'all ran' || echo 'SOMETHING FAILED')"
    printf '| time | %s s |\n' "$SECONDS"
    section "Figures" bench
    section "Machine" machine
    section "Tests" tests
    section "Probe" probe
} >"$name.md"
if [[ -s $work/lines.json ]]; then
    cp "$work/lines.json" "$name.json"
fi
cat "$name.md"
exit "$failed"
