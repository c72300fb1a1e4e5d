#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that a machine with a GPU is wanted for, in under 8 minutes: builds, asks the driver what
# documents leave open, runs the tests that need a GPU and the device bench on it, and writes a dated
# report into bench/results/.
#
# usage: bench/gpu/run.sh [--build FOLDER]
#
#   --build FOLDER     take programs that are built already (with tests and benches): for machines
#                      without a compiler or the libraries' headers
#   $DEVICE            which GPU the bench uses; cuda:0 if unset. Facts and tests: the first visible
#   $RESULTS           folder for the report; bench/results if unset
#   $PINTABLE_LIBCUDA  the driver, if it is not libcuda.so.1: the fake one tries this script out
#
# Needs neither nvcc nor nvidia-smi. Packages that the build needs are installed with apt-get.
#
# Exit status: 0, 1 when something failed (the report says what), 77 without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

limit_s=460 # for all of it
device=${DEVICE:-cuda:0}
results=${RESULTS:-bench/results}
folder=""
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
    sed -n '3,/^set/{s/^# \?//p}' "bench/gpu/${0##*/}"
    exit 0
elif [[ ${1:-} == --build && $# -eq 2 ]]; then
    folder=$(realpath -- "$2")
elif (($# > 0)); then
    echo "usage: bench/gpu/run.sh [--build FOLDER]" >&2
    exit 64
fi

# Only so that nothing is built for nothing: the driver is who knows.
may_have_gpu() {
    [[ -n ${PINTABLE_LIBCUDA:-} ]] || compgen -G '/dev/nvidia[0-9]*' >/dev/null ||
        [[ -e /dev/dxg || -e /dev/nvgpu || -e /dev/nvhost-gpu ]] ||
        [[ $(nvidia-smi -L 2>/dev/null || true) == GPU* ]]
}
no_gpu() {
    echo "no GPU on this machine: nothing was $1" >&2
    exit 77
}
may_have_gpu || no_gpu "built, run or reported"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
failed=0 rc=0

# step NAME MOST_S COMMAND...: within the time that is left; output into $work/NAME, status in rc.
step() {
    local name=$1 most=$2 left=$((limit_s - SECONDS))
    rc=0
    shift 2
    ((left < most)) || left=$most
    echo "== $name" >&2
    if ((left <= 0)); then
        echo "not run: $limit_s s are over" >"$work/$name"
        rc=1
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

programs=(pintabled pintable_cli pintable_broker device_gpu_test machine_bench device_bench
    device_gpu_facts)

# shellcheck disable=SC2317 # called by a shell under timeout
configure() {
    local generator=()
    if command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    cmake -S . -B build/gpu "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPINT_BUILD_TESTS=ON \
        -DPINT_BUILD_BENCH=ON
}
# shellcheck disable=SC2317
build_all() {
    local packages=(cmake make ninja-build gcc g++ libc6-dev pkg-config libcjson-dev libcsv-dev
        zlib1g-dev libgtest-dev)
    local as_root=()
    if ((EUID != 0)); then
        as_root=(sudo -n)
    fi
    if ! configure; then
        echo "== installing ${packages[*]}"
        rm -rf build/gpu # what was found by another generator or compiler
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
                --no-install-recommends "${packages[@]}" && configure || return 1
    fi
    cmake --build build/gpu --parallel "$(nproc)" --target "$@"
}
export -f configure build_all

if [[ -z $folder ]]; then
    step build 200 bash -c 'build_all "$@"' build_all "${programs[@]}"
    if ((rc != 0)); then
        tail -n 40 "$work/build" >&2
        echo "run.sh: it does not build; with --build FOLDER programs built elsewhere are taken" >&2
        exit 1
    fi
    folder=$PWD/build/gpu
fi
BENCH_COMMIT=$(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)
export BENCH_COMMIT PINTABLED=$folder/bin/pintabled PINTABLE_BROKER=$folder/bin/pintable-broker

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

step facts 120 "$folder/tests/bin/device_gpu_facts"
if ((rc == 77)); then
    cat "$work/facts" >&2
    no_gpu "run or reported"
fi
step tests 100 bash -c run_gpu_tests
step machine 20 "$folder/bench/machine_bench" --json "$work/lines.json"
step bench 180 "$folder/bench/device_bench" --device "$device" --json "$work/lines.json"

# --- The report -----------------------------------------------------------------------------------

# What it prints when it fails is no answer.
gpu_field() {
    local answer
    if answer=$(nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null); then
        paste -sd ';' <<<"$answer"
    fi
}
# What the driver itself said.
fact() { sed -n "s/^$1   *//p" "$work/facts" | head -n 1; }
gpu_name() {
    local name
    name=$(gpu_field name)
    echo "${name:-$(fact GPU)}"
}
driver_version() {
    local version
    version=$(gpu_field driver_version)
    if [[ -z $version && -r /proc/driver/nvidia/version ]]; then
        version=$(head -n 1 /proc/driver/nvidia/version)
    fi
    echo "${version:-not said}, of CUDA $(fact "CUDA version of the driver")"
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
    printf '| GPU | %s |\n' "$(gpu_name)"
    printf '| driver | %s |\n' "$(driver_version)"
    printf '| kernel | %s |\n' "$(uname -srm)"
    printf '| CPU | %s x %s |\n' "$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
    printf '| commit | %s |\n' "$BENCH_COMMIT"
    printf '| outcome | %s |\n' "$( ((failed == 0)) && echo 'all ran' || echo 'SOMETHING FAILED')"
    printf '| time | %s s |\n' "$SECONDS"
    section "Figures" bench
    section "Machine" machine
    section "Tests" tests
    section "Facts" facts
} >"$name.md"
if [[ -s $work/lines.json ]]; then
    cp "$work/lines.json" "$name.json"
fi
cat "$name.md"
exit "$failed"
