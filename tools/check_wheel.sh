#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks what is in a wheel: every part is there, and what its programs and libraries load is either
# inside or part of glibc.
# usage: check_wheel.sh FILE.whl
set -euo pipefail
export LC_ALL=C
wheel=$(realpath -- "$1")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
n_bad=0
bad() {
    echo "$(basename "$wheel"): $1" >&2
    n_bad=$((n_bad + 1))
}

python3 -m zipfile -e "$wheel" "$work"
package=$work/pintable
for file in __init__.py __main__.py __init__.pyi py.typed _native.abi3.so lib/libpintable.so \
    bin/pintable bin/pintabled include/pintable/pintable.h include/pintable/version.h; do
    [[ -s $package/$file || $file == py.typed && -e $package/$file ]] || bad "no $file"
done
if [[ $(echo "$package"/lib/libpintable.so.*) == *[*\ ]* ]]; then
    bad "not exactly one lib/libpintable.so.N"
fi
for file in LICENSE THIRD-PARTY.txt LGPL-2.1.txt; do
    [[ -n $(find "$work"/pintable-*.dist-info -name "$file") ]] || bad "no licence text $file"
done
if [[ -n $(find "$work" -name '*.pyc') ]]; then
    bad "holds .pyc files"
fi

for file in "$package"/_native.abi3.so "$package"/bin/* "$package"/lib/lib*.so.*; do
    for needed in $(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p'); do
        case $needed in
        libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux-*.so.*) ;;
        *) [[ -e $package/lib/$needed ]] || bad "${file#"$package"/} needs $needed, which is not inside" ;;
        esac
    done
done
((n_bad == 0))
