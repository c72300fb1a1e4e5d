#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks every model with Spin: the rules as built must hold, and with one rule switched off
# the checker must find the violation. Usage: tests/model/run.sh short|full   (JOBS=n in parallel)
set -u
here=$(cd "$(dirname "$0")" && pwd)
tier=${1:-short}
case $tier in short | full) ;; *) echo "usage: $0 short|full" >&2; exit 2 ;; esac
for tool in spin gcc; do
  command -v "$tool" >/dev/null || { echo "$0: $tool is not installed" >&2; exit 2; }
done
jobs=${JOBS:-$(nproc)}
work=$(mktemp -d "${TMPDIR:-/tmp}/pintable-model.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# tier (s: both, f: full only) | model | expected | switches
# expected: pass, or the kind of violation that must be found: assert, stuck (invalid end state), cycle (never gets there)
runs() { cat <<'TABLE'
f|lease_job|pass|-DLIVE -DFOREIGN=1 -DW2=0 -DDEATHS=2 -DSKILLS=0
f|lease_job|cycle|-DLIVE -DFOREIGN=1 -DW2=0 -DDEATHS=2 -DSKILLS=0 -DN_REDOOUT
f|open_drop|pass|-DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DLIVE_
s|lease_job|pass|-DW2=0
s|lease_job|pass|-DW2=0 -DUFAIL=2 -DMAXA=2
s|lease_job|pass|-DREJECT -DUFAIL=1 -DW2=0
f|lease_job|pass|-DREJECT -DUFAIL=2 -DW2=0
s|lease_job|pass|-DNC=2 -DW2=0 -DDEATHS=1
s|lease_job|pass|-DFOREIGN=1 -DW2=0 -DDEATHS=1 -DSKILLS=0
s|lease_job|pass|-DFOREIGN=1 -DW2=0 -DNOW3
s|lease_job|pass|-DREADER=2 -DW2=0 -DSKILLS=0
s|lease_job|pass|-DDEV -DW2=0
s|lease_job|pass|-DONLYOUT -DUFAIL=1 -DW2=0
s|lease_job|pass|-DLOCALS -DPLAIN1=1 -DW2=0 -DDEATHS=1 -DSKILLS=0
s|lease_job|pass|-DLOCALS -DNJ=2 -DW2=0 -DDEATHS=1 -DSKILLS=0
s|lease_job|pass|-DLOST -DW2=0
s|lease_job|pass|-DSETS=2 -DW2=0
s|lease_job|pass|-DLIVE -DW2=0 -DDEATHS=1
f|lease_job|pass|
f|lease_job|pass|-DMAXA=2
f|lease_job|pass|-DFOREIGN=1 -DW2=0 -DSKILLS=0
f|lease_job|pass|-DFOREIGN=1 -DW2=0 -DDEATHS=1
f|lease_job|pass|-DUFAIL=1 -DDEATHS=1
f|lease_job|pass|-DNC=2 -DDEATHS=1 -DSKILLS=0
f|lease_job|pass|-DNC=2 -DNU=2 -DW2=0 -DUFAIL=1 -DDEATHS=1
f|lease_job|pass|-DREADER=1 -DFOREIGN=1 -DW2=0 -DNOW3
f|lease_job|pass|-DLOCALS -DPLAIN1=2 -DW2=0 -DDEATHS=1 -DSKILLS=0
f|lease_job|pass|-DLOCALS -DNJ=2 -DUFAIL=1 -DW2=0 -DDEATHS=1
f|lease_job|pass|-DLOCALS -DPLAIN1=1 -DNJ=2 -DW2=0 -DDEATHS=1 -DSKILLS=0 -DNOW3
f|lease_job|pass|-DLOCALS -DPLAIN1=1 -DLOST -DW2=0 -DDEATHS=1 -DSKILLS=0
f|lease_job|pass|-DSETS=1 -DFOREIGN=1 -DW2=0 -DDEATHS=1 -DSKILLS=0
f|lease_job|pass|-DSETS=1 -DNC=2 -DW2=0 -DDEATHS=1
f|lease_job|pass|-DSETS=1 -DLOCALS -DNJ=2 -DW2=0 -DDEATHS=1 -DSKILLS=0
s|lease_job|assert|-DW2=0 -DN_NOUNDO
s|lease_job|assert|-DW2=0 -DN_COMMIT
s|lease_job|assert|-DW2=0 -DN_JOBFIRST
s|lease_job|assert|-DW2=0 -DN_PLAINFIRST
s|lease_job|assert|-DW2=0 -DUFAIL=2 -DMAXA=2 -DN_PUTBACK
s|lease_job|assert|-DFOREIGN=1 -DW2=0 -DNOW3 -DUFAIL=1 -DN_FAILOUT
s|lease_job|assert|-DREJECT -DUFAIL=1 -DW2=0 -DN_REJECT
s|lease_job|assert|-DW2=0 -DUFAIL=2 -DMAXA=2 -DN_HELDTORN
s|lease_job|assert|-DW2=0 -DUFAIL=2 -DMAXA=2 -DN_FAILEDEARLY
s|lease_job|assert|-DNC=2 -DW2=0 -DDEATHS=1 -DN_UNDOSTORE
s|lease_job|assert|-DFOREIGN=1 -DW2=0 -DDEATHS=1 -DSKILLS=0 -DN_REDOCLEAN
s|lease_job|stuck|-DFOREIGN=1 -DW2=0 -DNOW3 -DN_HELP
s|lease_job|assert|-DREADER=2 -DW2=0 -DSKILLS=0 -DN_SEQ
f|lease_job|assert|-DREADER=2 -DW2=0 -DSKILLS=0 -DN_READSTATE
s|lease_job|assert|-DDEV -DW2=0 -DN_DEVBIT
s|lease_job|assert|-DLOCALS -DPLAIN1=1 -DW2=0 -DDEATHS=1 -DSKILLS=0 -DN_JOBHELD
s|lease_job|assert|-DLOCALS -DNJ=2 -DW2=0 -DDEATHS=1 -DSKILLS=0 -DN_LOCAL
s|lease_job|assert|-DLOST -DW2=0 -DN_LISTEDALL
f|lease_job|cycle|-DLIVE -DFOREIGN=1 -DW2=0 -DDEATHS=1 -DSKILLS=0 -DN_RECOVER
s|open_drop|pass|-DTHREADS=1 -DOPS=2
s|open_drop|pass|-DTHREADS=1 -DOPS=1 -DRESTARTS=1
f|open_drop|pass|-DTHREADS=1 -DOPS=2 -DRESTARTS=1
s|open_drop|pass|-DUPGRADE -DTHREADS=1 -DOPS=1 -DRESTARTS=1
f|open_drop|pass|-DUPGRADE -DONLYA -DOPS=1
f|open_drop|pass|-DTHREADS=1 -DOPS=2 -DLIVE_
f|open_drop|pass|-DONLYA -DOPS=2 -DTRIES=1
f|open_drop|pass|-DTHREADS=1 -DOPS=3
f|open_drop|pass|-DTHREADS=1 -DSESSION1=1 -DONLYA -DOPS=1
f|open_drop|pass|-DTHREADS=1 -DOPS=1 -DRESTARTS=2
f|open_drop|pass|-DUPGRADE -DTHREADS=1 -DOPS=1 -DRESTARTS=2
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_REREAD
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_NAMECHECK
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_BINDGEN
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_INDEXSEQ
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_RENAMEORDER
s|open_drop|assert|-DTHREADS=1 -DOPS=2 -DN_RESCAN
f|open_drop|cycle|-DTHREADS=1 -DOPS=2 -DLIVE_ -DN_RESCAN
f|open_drop|assert|-DONLYA -DOPS=2 -DN_OLDGEN
f|open_drop|assert|-DONLYA -DOPS=2 -DN_OVERWRITE
s|open_drop|assert|-DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DN_JOURNAL
s|open_drop|assert|-DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DN_REPLAYEVEN
s|open_drop|assert|-DUPGRADE -DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DN_STALE
s|open_drop|assert|-DUPGRADE -DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DN_STALELATE
s|open_drop|assert|-DUPGRADE -DTHREADS=1 -DOPS=1 -DRESTARTS=1 -DN_STALEONCE
f|open_drop|assert|-DUPGRADE -DONLYA -DOPS=1 -DN_CLEARSTALE
s|job_reap|pass|-DDEATHS=1
s|job_reap|pass|-DDEATHS=1 -DLOST -DFAILS
f|job_reap|pass|-DLOST -DFAILS
s|job_reap|assert|-DDEATHS=1 -DN_SLOTSFIRST
s|job_reap|assert|-DDEATHS=1 -DN_STATEFIRST
s|job_reap|assert|-DDEATHS=1 -DLOST -DN_REDOONLY
s|coherence|pass|-DHOSTWRITER -DPULLER -DREADER
s|coherence|pass|-DHOSTWRITER -DKERNEL=1 -DRECOVER
s|coherence|pass|-DKERNEL=0 -DPUSHER -DHOSTWRITER
s|coherence|pass|-DKERNEL=1 -DPUSHER -DHOSTREADER
s|coherence|pass|-DTWO -DKERNEL=1 -DPULLERB -DPUSHER
s|coherence|pass|-DJOB -DPULLER -DKERNEL=1
s|coherence|pass|-DRAW -DPULLER -DREADER
s|coherence|pass|-DDROP -DKERNEL=1 -DNEWREADER
s|coherence|pass|-DDROP -DPULLER -DNEWREADER
s|coherence|pass|-DDROP -DPUSHER -DHOSTREADER
s|coherence|pass|-DDROP -DREADER
s|coherence|pass|-DKILL -DKERNEL=1 -DNEWREADER
s|coherence|pass|-DKILL -DPUSHER -DHOSTREADER
f|coherence|pass|-DDROP -DPUSHER -DHOSTWRITER
f|coherence|pass|-DDROP -DKERNEL=0 -DREADER
f|coherence|pass|-DDROP -DTWO -DKERNEL=0 -DKERNEL2=0
f|coherence|pass|-DKILL -DPUSHER -DHOSTWRITER
f|coherence|pass|-DHOSTWRITER -DPULLER -DPULLER2
f|coherence|pass|-DKERNEL=1 -DPULLER -DREADER
f|coherence|pass|-DRAW -DPULLER -DHOSTREADER
f|coherence|pass|-DHOSTWRITER -DPULLER -DREADER -DDEATHS=2
f|coherence|pass|-DHOSTWRITER -DPULLER -DREADER -DKERNEL=1 -DDEATHS=0
f|coherence|pass|-DHOSTWRITER -DPULLER -DPULLER2 -DREADER -DDEATHS=0
f|coherence|pass|-DHOSTWRITER -DJOB -DPULLER -DDEATHS=2
f|coherence|pass|-DKERNEL=1 -DPUSHER -DHOSTWRITER -DDEATHS=2
f|coherence|pass|-DKERNEL=1 -DPUSHER -DHOSTWRITER -DHOSTREADER -DRECOVER
f|coherence|pass|-DTWO -DPULLER -DKERNELB=0 -DREADER
f|coherence|pass|-DRAW -DPULLER -DREADER -DHOSTREADER
f|coherence|pass|-DDROP -DKERNEL=0 -DHOSTWRITER
f|coherence|pass|-DDROP -DKERNEL=1 -DPULLER
f|coherence|pass|-DDROP -DKERNEL=0 -DPUSHER
f|coherence|pass|-DDROP -DJOB -DKERNEL=0
f|coherence|pass|-DDROP -DPULLER -DREADER -DDEATHS=2
f|coherence|pass|-DDROP -DKERNEL=1 -DREADER -DDEATHS=2
f|coherence|pass|-DDROP -DTWO -DKERNEL=0 -DPUSHERB
f|coherence|pass|-DDROP -DTWO -DKERNELB=0 -DREADER
f|coherence|pass|-DDROP -DPULLER -DNEWREADER -DNEWPULLER
f|coherence|pass|-DDROP -DKERNEL=0 -DNEWREADER -DHOSTWRITER
f|coherence|pass|-DDROP -DPUSHER -DHOSTWRITER -DNEWREADER
f|coherence|pass|-DKILL -DPULLER -DNEWREADER -DNEWPULLER
f|coherence|pass|-DKILL -DKERNEL=0 -DNEWREADER -DHOSTWRITER
f|coherence|pass|-DKILL -DTWO -DKERNEL=0 -DKERNEL2=0
f|coherence|pass|-DKILL -DTWO -DKERNEL=0 -DPUSHERB
s|coherence|assert|-DHOSTWRITER -DPULLER -DN_MASK
f|coherence|assert|-DKERNEL=0 -DPULLER -DN_KMASK
s|coherence|assert|-DHOSTWRITER -DPULLER -DREADER -DN_READLOOK
s|coherence|assert|-DKERNEL=0 -DREADER -DN_WRITELOOK
f|coherence|assert|-DHOSTWRITER -DPULLER -DREADER -DN_WRITELOOK
s|coherence|assert|-DPULLER -DHOSTWRITER -DN_HOLDPULL
s|coherence|assert|-DHOSTWRITER -DN_TORN
f|coherence|assert|-DKERNEL=0 -DN_DEVTORN
s|coherence|assert|-DKERNEL=0 -DPULLER -DN_EARLY
f|coherence|assert|-DPUSHER -DHOSTWRITER -DN_EARLY
s|coherence|assert|-DRAW -DPULLER -DN_MARK
s|coherence|assert|-DDROP -DKERNEL=0 -DN_CLOSING
f|coherence|assert|-DDROP -DPUSHER -DN_CLOSING
f|coherence|assert|-DDROP -DPULLER -DN_CLOSING
s|coherence|assert|-DDROP -DREADER -DN_CLOSING
s|coherence|assert|-DDROP -DKERNEL=0 -DN_LOOKFIRST
s|coherence|assert|-DDROP -DKERNEL=0 -DN_RELOOK
s|coherence|assert|-DDROP -DKERNEL=0 -DN_COPIER
s|coherence|assert|-DDROP -DKERNEL=1 -DN_LIVE
f|coherence|assert|-DDROP -DREADER -DNEWPULLER -DN_LIVE
s|coherence|assert|-DKILL -DKERNEL=0 -DN_FORGETWRITER
s|coherence|assert|-DKILL -DPUSHER -DHOSTWRITER -DN_FORGETPUSH
s|coherence|assert|-DDROP -DHOSTWRITER -DN_SAMEHOLD
s|coherence|assert|-DKILL -DTWO -DKERNEL=0 -DKERNEL2=0 -DN_COPIERSEQ
s|wait_bell|pass|
s|wait_bell|pass|-DDEATHS=1
f|wait_bell|pass|-DCOMMITTERS=3
f|wait_bell|pass|-DDEATHS=2
s|wait_bell|stuck|-DN_CHECKFIRST
s|wait_bell|stuck|-DN_BELLBIT
s|wait_bell|stuck|-DN_SEQCST
s|wait_bell|stuck|-DN_WAKEONE
s|wait_bell|stuck|-DN_WAKEFIRST
s|wait_bell|stuck|-DDEATHS=1 -DN_SWEEPBELL
s|writable_view|pass|
s|writable_view|pass|-DPULLER -DDEATHS=0
s|writable_view|pass|-DFORK
s|writable_view|pass|-DLEASE
f|writable_view|pass|-DPULLER
f|writable_view|pass|-DPULLER -DROUNDS=2 -DDEATHS=0
f|writable_view|pass|-DPULLER -DTHREADS2 -DDEATHS=0
f|writable_view|pass|-DFORK -DPULLER -DDEATHS=0
f|writable_view|pass|-DKERNEL -DPUSHER -DDEATHS=0
f|writable_view|pass|-DTWO -DPUSHER
s|writable_view|pass|-DDROP -DPULLER -DDEATHS=0
f|writable_view|pass|-DDROP -DKERNEL -DDEATHS=0
f|writable_view|pass|-DDROP -DTWO -DPUSHER -DDEATHS=0
f|writable_view|pass|-DLEASE -DPULLER -DDEATHS=0
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_PASS
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_PASSFIRST
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_PASSHELD
s|writable_view|assert|-DLEASE -DN_PASSLEASE
s|writable_view|assert|-DKERNEL -DDEATHS=0 -DN_AHEAD
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_NOTELATE
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_EVER
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_LOOK
f|writable_view|assert|-DKERNEL -DPUSHER -DDEATHS=0 -DN_LOOK
s|writable_view|assert|-DPULLER -DDEATHS=0 -DN_LOOKFIRST
s|writable_view|assert|-DPULLER -DN_DEADMASK
s|writable_view|assert|-DTWO -DPUSHER -DN_DEADPUSH
s|writable_view|assert|-DDROP -DPULLER -DDEATHS=0 -DN_GONEPLACE
s|writable_view|assert|-DN_AMBIGUOUS
s|writable_view|assert|-DFORK -DN_TETHER
s|writable_view|assert|-DFORK -DDEATHS=0 -DN_KEEP
s|writable_view|assert|-DFORK -DN_TAKEOVER
s|writable_view|assert|-DTHREADS2 -DDEATHS=0 -DN_LOCK
TABLE
}

# one run in its own folder; writes its line to $1/line and "ok" or "bad" to $1/verdict
check() {
  local dir=$1 model=$2 want=$3 flags=$4 opt=$5 kind=-DSAFETY search=() got states depth note="" rc=0 start=$SECONDS
  if [[ $flags == *-DLIVE* ]]; then kind=-DNFAIR=3; search=(-a -f); fi
  mkdir "$dir" && cd "$dir" || return
  # shellcheck disable=SC2086
  if ! spin -a $flags "$here/$model.pml" >spin.out 2>&1 || grep -qiE '^(spin:.*)?error' spin.out ||
     ! gcc "$opt" -w "$kind" -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=2000 -o pan pan.c >gcc.out 2>&1; then
    got=broken; states=0; note=$(cat spin.out gcc.out 2>/dev/null | head -n 1)
  else
    ./pan -m500000 -w22 "${search[@]}" >pan.out 2>&1 || rc=$?
    states=$(sed -n 's/^ *\([0-9][0-9.e+]*\) states, stored.*/\1/p' pan.out)
    depth=$(sed -n 's/.*depth reached \([0-9]*\),.*/\1/p' pan.out)
    if grep -q '^pan:1: invalid end state' pan.out; then got=stuck
    elif grep -q '^pan:1: acceptance cycle' pan.out; then got=cycle
    elif grep -q '^pan:1: assertion violated' pan.out; then got=assert
    elif [ "$rc" -ne 0 ] || grep -qiE 'max search depth|out of memory|memory limit|reached -DMEMLIM|search not completed|truncated' pan.out; then
      got=truncated; note="depth $depth"
    elif grep -q 'errors: 0$' pan.out; then got=pass
    else got=broken; note=$(head -n 1 pan.out)
    fi
  fi
  local verdict=bad; [ "$got" = "$want" ] && verdict=ok
  printf '%-4s %-13s states=%-9s %3ss expected=%-7s %s%s\n' "$([ $verdict = ok ] && echo ok || echo FAIL)" "$model" "${states:-0}" $((SECONDS - start)) \
    "$want" "$flags" "$([ $verdict = ok ] || echo "  got=$got $note")" >line
  echo $verdict >verdict
  rm -f pan pan.* ./*.trail
}

n=0
while IFS='|' read -r when model want flags; do
  [ "$tier" = short ] && [ "$when" = f ] && continue
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  n=$((n + 1))
  opt=-O1; [ "$when" = s ] && opt=-O0   # compiling the checker is most of a small run
  (check "$work/$n" "$model" "$want" "$flags" $opt) &
done < <(runs)
wait
passed=0
for ((i = 1; i <= n; i++)); do
  cat "$work/$i/line" 2>/dev/null || echo "FAIL run $i left no result"
  [ "$(cat "$work/$i/verdict" 2>/dev/null)" = ok ] && passed=$((passed + 1))
done
echo "$passed passed, $((n - passed)) failed"
[ "$passed" -eq "$n" ]
