#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image and uses it as docker/README.md says: a service in one container, workers in others
# that share only the folder of its socket. Ends with "N passed, N failed, N skipped".
#
# Uses the Docker engine that answers; where none does, or with PINTABLE_ENGINE=own, a private one
# (docker/engine.sh, needs root on Debian), which is gone again afterwards.
# Settings: DOCKER (client program), BUILD_NETWORK (of docker build, as --network), PINTABLE_ENGINE=own,
# KEEP_IMAGES=1 (keep what was built).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ROWS=50000 CHUNK_ROWS=4096
CHUNKS=$(((ROWS + CHUNK_ROWS - 1) / CHUNK_ROWS))
WAIT_S=60 # for whatever is to happen in a container; seconds where it does

client=${DOCKER:-docker}
owns_engine=0
build_network=(${BUILD_NETWORK:+--network "$BUILD_NETWORK"})
if [[ ${PINTABLE_ENGINE:-} == own ]] || ! "$client" info >/dev/null 2>&1; then
    client=/usr/bin/docker owns_engine=1 build_network=(--network host)
    trap 'docker/engine.sh stop' EXIT
    DOCKER_HOST=$(docker/engine.sh start)
    export DOCKER_HOST DOCKER_BUILDKIT=1
fi
d() { "$client" "$@"; }

prefix=pintable-check-$$
image=$prefix build_image=$prefix-build worker_image=$prefix-worker
volume=$prefix-socket service=$prefix-service holder=$prefix-holder helper=$prefix-helper
work=$(mktemp -d)

# Invariant: whatever is made here has a name that begins with $prefix.
remove_containers() {
    local names
    names=$(d ps --all --quiet --filter "name=^/$prefix")
    # shellcheck disable=SC2086 # one word each
    [[ -z $names ]] || d rm --force $names >/dev/null
}
clean() {
    remove_containers || true
    d volume rm --force "$volume" >/dev/null || true
    if [[ ${KEEP_IMAGES:-0} == 0 ]]; then
        d rmi --force "$worker_image" "$image" "$build_image" >/dev/null 2>&1 || true
    fi
    rm -rf -- "$work"
    ((owns_engine == 0)) || docker/engine.sh stop
}
trap clean EXIT

n_passed=0 n_failed=0 n_skipped=0

# ok WHAT STATUS PATTERN COMMAND...: the command ends with STATUS, and its output has the pattern.
ok() {
    local what=$1 want=$2 pattern=$3 output status=0
    shift 3
    output=$("$@" 2>&1) || status=$?
    if [[ $status == "$want" ]] && grep -qE -e "$pattern" <<<"$output"; then
        n_passed=$((n_passed + 1))
        echo "ok    $what"
    else
        n_failed=$((n_failed + 1))
        printf 'FAIL  %s: status %s, wanted %s and "%s"\n%s\n' "$what" "$status" "$want" "$pattern" "$output"
    fi
}

# saw CONTAINER N PATTERN: waits until the container has written N lines with the pattern.
saw() { [[ $(grep -m "$2" -c -e "$3" < <(timeout "$WAIT_S" "$client" logs --follow "$1" 2>&1)) == "$2" ]]; }

is_healthy() {
    local tenth
    for ((tenth = 0; tenth < WAIT_S * 10; tenth++)); do
        [[ $(d inspect "$1" --format '{{.State.Health.Status}}') != healthy ]] || return 0
        sleep 0.1
    done
    return 1
}

# Own pid, ipc and network namespace, nothing writable but the socket's folder and /tmp, no rights.
alone=(--network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)
shared=("${alone[@]}" --volume "$volume:/run/pintable")
once() { d run --rm --no-healthcheck "${shared[@]}" "$@"; }
in_service() { d exec "$service" "$@"; }
exit_status() { timeout "$WAIT_S" "$client" wait "$1"; }

# --- Steps ----------------------------------------------------------------------------------------

build() {
    d build "${build_network[@]}" --target build -t "$build_image" -f docker/Dockerfile . &&
        d build "${build_network[@]}" -t "$image" -f docker/Dockerfile . &&
        d build "${build_network[@]}" --build-arg "BUILD_IMAGE=$build_image" \
            --build-arg "IMAGE=$image" -t "$worker_image" -f tests/docker/Dockerfile tests/docker
}

# start_service [OPTION OF docker run]... [-- OPTION OF pintabled...]
start_service() {
    local options=()
    while (($# > 0)) && [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    d run --detach --name "$service" "${shared[@]}" "${options[@]}" "$image" serve "${@:2}" &&
        is_healthy "$service"
}

load_numbers() { # x is id + 0.5: every value and its double are exact
    awk -v n="$ROWS" 'BEGIN { print "id,x"; for (i = 0; i < n; i++) { print i ",", i + 0.5 } }' |
        tr -d ' ' | once --interactive "$image" load --floats --chunk-rows "$CHUNK_ROWS" - numbers
}

load_column() { # NAME ROWS: 8 bytes each
    awk -v n="$2" 'BEGIN { print "x"; for (i = 0; i < n; i++) { print i } }' |
        once --interactive "$image" load --floats - "$1"
}

start_worker() { # NAME [ARGUMENT]
    d run --detach --name "$1" --no-healthcheck "${shared[@]}" --entrypoint chunk_worker \
        "$worker_image" numbers x "${@:2}"
}

namespaces_differ() {
    local kind ours its
    for kind in pid ipc net; do
        ours=$(in_service readlink "/proc/self/ns/$kind") &&
            its=$(d exec "$holder" readlink "/proc/self/ns/$kind") && [[ $ours != "$its" ]] || return 1
    done
}

last_of_helper() { d logs "$helper" | tail -n 2 | paste -s -d , | sed 's/,/ then /'; }

# The kernel lets nobody send a signal into a pid namespace that is not below his own.
evict_is_refused() {
    local session status=0
    session=$(in_service pintable stat | sed -nE 's/^([0-9a-f]{16}) .* chunk_worker$/\1/p')
    in_service pintable evict "$session" || status=$?
    [[ $status != 0 && $(d inspect "$holder" --format '{{.State.Running}}') == true ]]
}

# Every value doubled once: rubbish of the dead, a chunk done twice or not at all would show.
table_is_right() {
    once "$image" head numbers -n "$ROWS" --csv >"$work/numbers.csv" &&
        awk -F, -v n="$ROWS" '
            NR > 1 && ($1 != NR - 2 || $2 != 2 * $1 + 1) { n_bad++ }
            END { print n_bad + 0, "wrong of", NR - 1; exit n_bad > 0 || NR - 1 != n }' "$work/numbers.csv"
}

# The main story: a worker dies in the middle of a chunk; another, in another container, does it again.
death_of_a_worker() { # WHAT [OPTION OF docker run]...
    local what=$1
    ok "$what: service is healthy" 0 '' start_service "${@:2}"
    ok "$what: a table is loaded from another container" 0 "^numbers: $ROWS rows" load_numbers
    ok "$what: a worker takes a chunk" 0 '' start_worker "$holder" --hold
    ok "$what: it has overwritten half of it" 0 '' saw "$holder" 1 '^holding chunk 0$'
    ok "$what: pid, ipc, network namespaces are its own" 0 '' namespaces_differ
    ok "$what: stat shows it, pid 0, by its command" 0 \
        '^[0-9a-f]{16} +0 +10001 +rw +live +[0-9]+ s +1 +1 +up +chunk_worker$' in_service pintable stat
    ok "$what: the service has a pidfd of it" 0 '"pidfd":.true' in_service pintable stat --json
    ok "$what: another worker begins" 0 '' start_worker "$helper"
    ok "$what: it does all other chunks" 0 '' saw "$helper" $((CHUNKS - 1)) '^did chunk [1-9]'
    ok "$what: one chunk is held, the job open" 0 \
        "^numbers +double +$CHUNKS +$((CHUNKS - 1)) +0 +1 +0 .* open$" in_service pintable jobs
    ok "$what: evict from another pid namespace is refused" 0 '^pintable: evict: ' evict_is_refused
    ok "$what: the holder is killed" 0 '' d kill --signal KILL "$holder"
    ok "$what: it died of it" 0 '^137$' exit_status "$holder"
    ok "$what: the other worker finishes" 0 '^0$' exit_status "$helper"
    ok "$what: it did the dead one's chunk last" 0 "^did chunk 0 then $CHUNKS chunks$" last_of_helper
    ok "$what: job complete, one chunk redone" 0 \
        "^numbers +double +$CHUNKS +$CHUNKS +0 +0 +1 .* finished$" in_service pintable jobs
    ok "$what: every value was doubled exactly once" 0 "^0 wrong of $ROWS$" table_is_right
    ok "$what: no session is left" 0 '^no sessions$' in_service pintable stat
}

foreign() {
    d run --rm --no-healthcheck "${alone[@]}" --volume "$volume:/run/pintable:ro" \
        --user 20002:20002 "$image" "$@"
}

# Prints the exit status: 137 if SIGTERM did not do it.
stop_service() {
    d stop --time 10 "$service" >/dev/null && d inspect "$service" --format '{{.State.ExitCode}}'
}

# --- The checks -----------------------------------------------------------------------------------

echo "== build"
if ! build >"$work/build.log" 2>&1; then
    tail -n 40 "$work/build.log"
    echo "check: the image does not build" >&2
    exit 1
fi
d volume create "$volume" >/dev/null

echo "== image"
ok 'not root' 0 '^uid=10001\(pintable\) gid=10001\(pintable\)' once --entrypoint id "$image"
ok 'health is asked by pintable ping' 0 '\[CMD pintable ping\]' \
    d image inspect "$image" --format '{{.Config.Healthcheck.Test}}'
ok 'stop signal' 0 '^SIGTERM$' d image inspect "$image" --format '{{.Config.StopSignal}}'
ok 'no compiler in it' 1 '^0$' once --entrypoint sh "$image" -c \
    'ls /usr/bin | grep -cE "^(cc|gcc|cmake|ninja)"'
ok 'every library is there' 0 '^all$' once --entrypoint sh "$image" -c \
    'cd /usr/local && ldd bin/pintable* libexec/pintable/pintable-broker libexec/pintable/bench/* |
         grep "not found" || echo all'
ok 'no service: ping says so' 69 'pintable: ' once "$image" ping

echo "== a worker dies"
death_of_a_worker 'peer pidfd'
ok 'stop: exit status 0' 0 '^0$' stop_service
ok 'stop: no socket left' 0 '^pool-v1.lock$' once --entrypoint ls "$image" /run/pintable
remove_containers

# The same where the kernel has no SO_PEERPIDFD (before 6.5): the worker sends a pidfd of itself.
death_of_a_worker "worker's own pidfd" --env PINTABLED_DISABLE=peerpidfd
ok 'service killed' 0 '' d kill --signal KILL "$service"
ok 'its socket is left behind' 0 '^pool-v1.sock$' once --entrypoint ls "$image" /run/pintable
ok 'and nobody answers there' 69 'pintable: ' once "$image" ping
remove_containers

echo "== sharing and memory"
ok 'a new service takes the folder over' 0 '' start_service --memory 512m -- --budget 256M --mode 0666
ok '72 MB, above the 64 MiB of /dev/shm' 0 '^big: 9000000 rows' load_column big 9000000
ok 'the worker of the image, folder read-only, other uid' 0 '' foreign worker big x
ok 'it has doubled the values' 0 '^17999998$' foreign head big --from 8999999 -n 1 --csv
ok 'budget lowered' 0 '' in_service pintable quota 80M
ok 'above the budget: refused, in words' 1 'pintable: .*budget' load_column more 2000000
ok 'the service lives' 0 '^pintabled ' in_service pintable ping
ok 'stop: exit status 0' 0 '^0$' stop_service
remove_containers

echo "== bench and demo"
by_itself() { d run --rm --no-healthcheck "${alone[@]}" "$@"; }
ok 'bench is the default command' 0 '^claim_commit +ns ' by_itself --env PINTABLE_BENCH_SHORT=1 "$image"
ok 'one bench by name' 0 '^join_pool +us ' by_itself "$image" bench join
ok 'a bench that is not there' 64 "no bench 'nonsense'" by_itself "$image" bench nonsense
ok 'the full bench starts' 0 '' \
    d run --detach --name "$prefix-bench" --no-healthcheck "${alone[@]}" "$image"
ok 'it runs' 0 '' saw "$prefix-bench" 1 '^# cpu '
ok 'it is stopped' 0 '' d stop --time 10 "$prefix-bench"
ok 'by SIGTERM, not by SIGKILL' 0 '^143$' d inspect "$prefix-bench" --format '{{.State.ExitCode}}'
ok 'demo' 0 'identical to the single-process result, bit for bit' by_itself "$image" demo

# What a GPU needs beyond this is the NVIDIA container toolkit on the host.
echo "skip  GPU in a container: no check yet"
n_skipped=$((n_skipped + 1))

echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
((n_failed == 0))
