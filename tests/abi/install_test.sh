#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs build and run against an installed tree that was moved after its installation: through
# find_package and through pkg-config, shared and static.
# usage: install_test.sh CMAKE GENERATOR BUILD_DIR CONSUMER_DIR CC VERSION
set -euo pipefail
export LC_ALL=C
cmake=$1 generator=$2 build=$3 consumer=$4 cc=$5 version=$6

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { echo "== $*"; }
needs_shared_library() { readelf -d "$1" | grep -q 'NEEDED.*libpintable\.so'; }
fail() {
    echo "$*"
    exit 1
}

step "install, then move"
"$cmake" --install "$build" --prefix "$work/first" >"$work/install.log"
prefix=$work/moved/prefix
mkdir -p "$work/moved"
mv "$work/first" "$prefix"
for file in bin/pintable bin/pintabled include/pintable/version.h include/pintable/status.h; do
    [[ -s $prefix/$file ]] || fail "not installed: $file"
done
if grep -rIlF "$work/first" "$prefix"; then
    fail "the files above name the prefix of installation"
fi

step "find_package"
"$cmake" -G "$generator" -S "$consumer" -B "$work/cmake" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" -DEXPECTED_VERSION="$version" >"$work/cmake.log" || fail "$(<"$work/cmake.log")"
"$cmake" --build "$work/cmake" >"$work/build.log" || fail "$(<"$work/build.log")"
[[ $("$work/cmake/consumer_shared") == "$version" ]]
[[ $("$work/cmake/consumer_static") == "$version" ]]
needs_shared_library "$work/cmake/consumer_shared" || fail "the shared consumer is not shared"
! needs_shared_library "$work/cmake/consumer_static" || fail "the static consumer is shared"

step "pkg-config"
pc=$(find "$prefix" -name pintable.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
[[ $(pkg-config --modversion pintable) == "$version" ]]
read -ra cflags <<<"$(pkg-config --cflags pintable)"
read -ra libs <<<"$(pkg-config --libs pintable)"
read -ra static_libs <<<"$(pkg-config --static --libs pintable)"
libdir=$(pkg-config --variable=libdir pintable)
"$cc" -std=c11 "${cflags[@]}" "$consumer/consumer.c" -o "$work/shared" "${libs[@]}" \
    -Wl,-rpath,"$libdir"
[[ $("$work/shared") == "$version" ]]
"$cc" -std=c11 "${cflags[@]}" "$consumer/consumer.c" -o "$work/static" "$libdir/libpintable.a" \
    -Wl,--as-needed "${static_libs[@]}"
! needs_shared_library "$work/static" || fail "the static pkg-config consumer is shared"
[[ $("$work/static") == "$version" ]]
step "done"
