#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A private Docker engine on a Debian machine that has none, or that reaches no image registry.
#
#   engine.sh start     installs what is missing by apt-get, starts dockerd with its own data and
#                       socket, imports a base image; prints the DOCKER_HOST to use
#   engine.sh stop      ends that dockerd and deletes its data; the base's tar file is kept
#
# Run as root. The base image is made here from Debian packages and stands in, in this engine only,
# for the official one of the same name. Without a bridge and without rules of its own in the
# firewall: builds need `--network host`, containers have `--network none` or `host`.
#
# Settings: ENGINE_WORK (folder), ENGINE_SUITE, ENGINE_BASE (name of the image), ENGINE_STORAGE
# (overlay2, or vfs where that cannot be).
set -euo pipefail
work=${ENGINE_WORK:-${TMPDIR:-/tmp}/pintable-engine}
suite=${ENGINE_SUITE:-bookworm}
base=${ENGINE_BASE:-debian:bookworm-slim}
storage=${ENGINE_STORAGE:-overlay2}
rootfs=$work.base-$suite.tar
mark=$work/.pintable-engine # a folder without it is not ours to delete
READY_TENTHS=300

# The package's own client: a newer one elsewhere in PATH may want plug-ins that are not there.
docker=/usr/bin/docker
export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=1

say() { echo "engine: $*" >&2; }

# need PROGRAM PACKAGE
need() {
    [[ -x /usr/bin/$1 || -x /usr/sbin/$1 ]] && return
    say "installing $2"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$2"; } \
        >>"$work/apt.log" 2>&1 || { tail -n 20 "$work/apt.log" >&2; exit 69; }
}

# What this machine's apt needs to reach its mirror goes into the base, so that no Dockerfile has to
# know of it. The rest is what the official images set: no caches in the layers.
make_rootfs() {
    local sources=/etc/apt/sources.list.d/debian.sources
    grep -qs "^Suites:.*\b$suite\b" "$sources" || sources=
    apt-config dump | grep -E \
        '^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy|http::Proxy-Auto-Detect) ' \
        >"$work/apt.conf" || true
    printf '%s\n' 'Dir::Cache::pkgcache "";' 'Dir::Cache::srcpkgcache "";' \
        'Acquire::Languages "none";' 'Acquire::GzipIndexes "true";' >>"$work/apt.conf"
    # shellcheck disable=SC2016 # $1 is mmdebstrap's; shellcheck disable=SC2086 # $sources may be empty
    mmdebstrap --quiet --format=tar --variant=minbase --aptopt="$work/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' \
        "$suite" "$rootfs.part" ${sources:+"$sources"} >"$work/rootfs.log" 2>&1 ||
        { tail -n 20 "$work/rootfs.log" >&2; exit 69; }
    mv "$rootfs.part" "$rootfs"
}

start() {
    ((EUID == 0)) || { say "must be root to start an engine"; exit 77; }
    mkdir -p "$work"
    touch "$mark"
    need dockerd docker.io
    need docker docker.io
    if [[ ! -s $rootfs ]]; then
        need mmdebstrap mmdebstrap
        say "making $base from packages"
        make_rootfs
    fi
    if ! $docker info >/dev/null 2>&1; then
        setsid dockerd --data-root "$work/data" --exec-root "$work/exec" \
            --pidfile "$work/dockerd.pid" -H "$DOCKER_HOST" --storage-driver "$storage" \
            --exec-opt native.cgroupdriver=cgroupfs --iptables=false --ip6tables=false \
            --ip-forward=false --ip-masq=false --bridge=none --oom-score-adjust 0 \
            --log-level warn >"$work/dockerd.log" 2>&1 </dev/null &
        local tenth
        for ((tenth = 0; tenth < READY_TENTHS; tenth++)); do
            $docker info >/dev/null 2>&1 && break
            sleep 0.1
        done
        $docker info >/dev/null 2>&1 || { tail -n 20 "$work/dockerd.log" >&2; exit 69; }
    fi
    $docker image inspect "$base" >/dev/null 2>&1 ||
        $docker import -c 'CMD ["bash"]' \
            -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            "$rootfs" "$base" >/dev/null
    echo "$DOCKER_HOST"
}

stop() {
    [[ -e $mark ]] || return 0
    if [[ -s $work/dockerd.pid ]]; then
        local tenth
        kill "$(<"$work/dockerd.pid")" 2>/dev/null || true
        for ((tenth = 0; tenth < READY_TENTHS; tenth++)); do
            [[ -e $work/dockerd.pid ]] || break
            sleep 0.1
        done
    fi
    # dockerd leaves a network namespace mounted, and more when it was killed: innermost first
    awk -v prefix="$work/" 'index($2, prefix) == 1 { print $2 }' /proc/mounts | sort -r |
        while IFS= read -r mount; do umount "$mount" || umount -l "$mount"; done
    rm -rf -- "$work"
}

case ${1:-} in
start) start ;;
stop) stop ;;
*)
    echo "usage: engine.sh start|stop" >&2
    exit 64
    ;;
esac
