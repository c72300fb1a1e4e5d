#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tries what needs a CUDA toolkit on a machine that has none, with the toolkits of the Python package
# index, kept in build/toolkit. Nothing of it needs a driver or a GPU.
#
#   headers   device/cuda_abi.h against the cuda.h of several versions (12 MB are fetched)
#   nvcc      a build that finds the newest compiler: device.cuh and the example for GPUs are compiled
#             without warnings, and the tests of the CUDA half run (130 MB are fetched)
#
# The index has no nvcc of CUDA 12. Ends with a table. Exit status: 0, 1 if a line of it failed, else 77
# if something could not be fetched.
# usage: toolkit.sh [headers|nvcc]...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The first of CUDA 12, which is the oldest driver that is taken; those around changes; the newest.
headers=(
    nvidia-cuda-runtime-cu12==12.0.146
    nvidia-cuda-runtime-cu12==12.4.127
    nvidia-cuda-runtime-cu12==12.8.90
    nvidia-cuda-runtime-cu12==12.9.79
    nvidia-cuda-runtime==13.0.96
    nvidia-cuda-runtime==13.5.37
)
compiler=(
    nvidia-cuda-nvcc==13.5.37
    nvidia-nvvm==13.5.37
    nvidia-cuda-crt==13.5.37
    nvidia-cuda-runtime==13.5.37
)
folder=build/toolkit
architectures="80 90"

n_failed=0
n_missing=0
table=()

# line NAME RESULT
line() {
    table+=("$(printf '%-28s %s' "$1" "$2")")
    case $2 in
    passed*) ;;
    missing*) n_missing=$((n_missing + 1)) ;;
    *) n_failed=$((n_failed + 1)) ;;
    esac
}

# fetch NAME REQUIREMENT...: unpacked into a folder of that name, once.
fetch() {
    local into=$folder/$1
    shift
    [[ -e $into/.made && $(<"$into/.made") == "$*" ]] && return 0
    rm -rf -- "$into"
    python3 -m pip install --quiet --no-deps --only-binary=:all: --target "$into" "$@" \
        >"$into.log" 2>&1 || return 1
    printf '%s\n' "$*" >"$into/.made"
}

compare() {
    local wheel name include out
    for wheel in "${headers[@]}"; do
        name=cuda.h-${wheel##*==}
        echo "== $name"
        if ! fetch "$name" "$wheel"; then
            tail -n 3 "$folder/$name.log" >&2 || true
            line "$name" "missing: pip could not get $wheel"
            continue
        fi
        include=$(dirname "$(find "$folder/$name" -name cudaTypedefs.h -print -quit)")
        if cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -I . -isystem "$include" \
            tests/device/abi_check.c -o "$folder/abi_check" && out=$("$folder/abi_check"); then
            line "$name" "passed: $out"
        else
            line "$name" FAILED
        fi
    done
}

# Every architecture by itself, so that a warning of one is not hidden by another's.
compile_one() {
    "$1/bin/nvcc" -std=c++17 -O2 -arch "sm_$2" -Xcompiler -Wall,-Wextra,-Wshadow,-Wconversion \
        -Werror all-warnings -I include -I "$folder/build/include" \
        -c examples/gpu_worker.cu -o "$folder/gpu_worker.$2.o"
}

compile() {
    local root name=nvcc-${compiler[0]##*==} architecture
    echo "== $name"
    if ! fetch "$name" "${compiler[@]}"; then
        tail -n 3 "$folder/$name.log" >&2 || true
        line "$name" "missing: pip could not get ${compiler[*]}"
        return
    fi
    root=$(dirname "$(dirname "$(find "$PWD/$folder/$name" -path '*/bin/nvcc' -print -quit)")")
    if ! cmake -S . -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DPINT_BUILD_TESTS=ON \
        -DPINT_CRASHPOINTS=ON -DCUDAToolkit_ROOT="$root" >"$folder/build.log" 2>&1 ||
        ! grep -q "compared with $root" "$folder/build.log" ||
        ! cmake --build "$folder/build" --parallel "$(nproc)" >>"$folder/build.log" 2>&1; then
        tail -n 20 "$folder/build.log" >&2
        line "$name" "FAILED: the build does not find it, or does not succeed"
        return
    fi
    for architecture in $architectures; do
        if compile_one "$root" "$architecture"; then
            line "$name sm_$architecture" passed
        else
            line "$name sm_$architecture" FAILED
        fi
    done
    if ctest --test-dir "$folder/build" --output-on-failure --parallel "$(nproc)" \
        --repeat until-pass:2 -R '[Cc]uda|device\.(abi_check|cuh|link)'; then
        line "$name tests" passed
    else
        line "$name tests" FAILED
    fi
}

(($# > 0)) || set -- headers nvcc
mkdir -p "$folder"
for leg in "$@"; do
    case $leg in
    headers) compare ;;
    nvcc) compile ;;
    *)
        echo "usage: toolkit.sh [headers|nvcc]..." >&2
        exit 64
        ;;
    esac
done
printf '%s\n' "${table[@]}"
if ((n_failed > 0)); then
    exit 1
fi
((n_missing == 0)) || exit 77
