/* SPDX-License-Identifier: Apache-2.0 */
/* job_reap.pml: freeing a dropped job whose chunk may wait for its old bytes. Follows ipc/service/catalog_reap.c
 * (job_is_done), ipc/service/death.c (needs_undo, teardown), host/job_desc.c (pinti_job_open, may_open) and
 * host/job_chunk.c (pinti_chunk_restore). The table lives on.
 *
 *   restorer                                  service
 *   1 look: record not FREE, word REDO        a any word that has a holder or is REDO? then not now
 *   2 slot word += 1 (seq)                    b any slot refers? then not now
 *   3 word again: still REDO?                 c FREE; the memory is anybody's
 *   4 record again: still this generation?
 *   5 CAS REDO -> RESTORING, ...
 *
 * One job, one chunk. Generation 1 was dropped before the start; its memory may be used again by generation 2,
 * which is dropped at once, too. Restorers are sessions 1 and 2, the worker that held the chunk when the job was
 * dropped is session 3; all may die. The service does one thing at a time, so sweep and teardown are one step
 * each. "ghost": in the model only. */

#ifndef DEATHS
#define DEATHS 2
#endif

#define FREE 0
#define LIVE 1
#define DYING 2
#define PENDING    0
#define CLAIMED    1
#define LEASED     2
#define REDO       3
#define RESTORING  4

byte rs = DYING, rg = 1;                   /* record word */
byte ws = LEASED, wh = 3;                  /* job word: state, holder */
bit slot[4], sg[4];                        /* slot words: count, generation - 1 */
bool dead[4], over[4], done[4], lost, ready;      /* over: torn down, its slot is not looked at; lost: its intent was lost */
bool atrisk = true;                        /* ghost: old bytes lie in the undo buffer only */
byte mem = 1; byte deaths, reuse;          /* ghost: generation the memory belongs to */

#define GEN (g - 1)
inline used() { assert(mem == g && rg == g && rs != FREE) }   /* one shared change by someone who believes in generation g */

/* meets a column in RESTORE and puts the bytes back on the job's behalf */
proctype restorer(byte me) {
  byte g;
  {
    skip;
    d_step { if :: rs != FREE -> g = rg :: else -> skip fi };
    if :: g == 0 || ws != REDO -> goto out :: else -> skip fi;
    d_step { slot[me] = 1; sg[me] = GEN };
#ifdef N_STATEFIRST
    if :: rg == g && rs != FREE -> skip :: else -> goto undo fi;
    if :: ws == REDO -> skip :: else -> goto undo fi;
#else
    if :: ws == REDO -> skip :: else -> goto undo fi;
    if :: rg == g && rs != FREE -> skip :: else -> goto undo fi;
#endif
    if
    :: d_step { ws == REDO -> ws = RESTORING; wh = me; used() }
    :: else -> goto undo
    fi;
    d_step { used() };                     /* undo word, columns from RESTORE, bytes */
    d_step { used(); assert(ws == RESTORING && wh == me); ws = CLAIMED; atrisk = false };
    d_step { used() };                     /* columns to CLEAN */
    d_step { used(); assert(ws == CLAIMED && wh == me); ws = PENDING; wh = 0 };
    d_step { used() };                     /* undo word freed */
undo:
    skip;
    d_step { slot[me] = 0; sg[me] = 0 };
out:
    skip;
    d_step { done[me] = true; g = 0 }
  } unless { dead[me] }
}

/* holds the chunk: commits or dies, and gives up its handle when nothing is held */
proctype worker(byte g) {
  {
    skip;
    if
    :: d_step { used(); assert(ws == LEASED && wh == 3); ws = PENDING; wh = 0; atrisk = false }
#ifdef FAILS
    :: d_step { used(); ws = RESTORING };
       d_step { used(); ws = CLAIMED; atrisk = false };
       d_step { used(); ws = PENDING; wh = 0 }
#endif
    fi;
    d_step { used() };                     /* undo word freed */
    d_step { slot[3] = 0; sg[3] = 0 };
    d_step { done[3] = true }
  } unless { dead[3] }
}

inline sweepword(s) {
  if
  :: wh == s && (ws == LEASED || ws == RESTORING) -> ws = REDO; wh = 0
  :: wh == s && ws == CLAIMED -> ws = PENDING; wh = 0
  :: else -> skip
  fi }

#ifdef N_REDOONLY                          /* only what waits for its bytes, not what somebody holds */
#define NEEDED (ws == REDO || ws == RESTORING)
#else
#define NEEDED (ws == REDO || wh != 0)
#endif
#define REFERS(s) (!over[s] && slot[s] && sg[s] == rg - 1)

inline words() { d_step { if :: NEEDED -> no = 1 :: else -> skip fi } }
inline slots() {
  d_step { if :: REFERS(1) -> no = 1 :: else -> skip fi };
  d_step { if :: REFERS(2) -> no = 1 :: else -> skip fi };
  d_step { if :: REFERS(3) -> no = 1 :: else -> skip fi } }

#define TODO(s) (dead[s] && !over[s])
#define SILENT(s) (done[s] || over[s])

active proctype service() {
  bit no, swept[4];
  ready;
  do
  :: d_step { rs == DYING -> no = 0 };
#ifdef N_SLOTSFIRST
     slots(); words();
#else
     words(); slots();
#endif
     d_step {
       if
       :: !no ->
          assert(!atrisk);                 /* the old bytes are not given away while a column waits for them */
          rs = FREE; mem = 0
       :: else -> skip
       fi;
       no = 0 }
  :: d_step { rs == FREE && reuse == 0 -> reuse++; rg = 2; rs = DYING; mem = 2; ws = REDO; wh = 0; atrisk = true }
  :: d_step { TODO(1) && !swept[1] -> sweepword(1); swept[1] = 1 }
  :: d_step { TODO(2) && !swept[2] -> sweepword(2); swept[2] = 1 }
  :: d_step { TODO(3) && !swept[3] -> sweepword(3); swept[3] = 1 }
#ifdef LOST
  :: d_step { TODO(3) && !swept[3] -> lost = true; swept[3] = 1 }   /* the listed sweep finds nothing */
  :: d_step { lost && over[3] -> sweepword(3); lost = false }       /* the full sweep, later */
#endif
  :: d_step { TODO(1) && swept[1] -> over[1] = true }
  :: d_step { TODO(2) && swept[2] -> over[2] = true }
  :: d_step { TODO(3) && swept[3] -> over[3] = true }
  :: SILENT(1) && SILENT(2) && SILENT(3) && !lost && (rs == FREE && reuse || rs == DYING && NEEDED) -> break
  od;
  /* what nobody needs has been freed; what is left waits for its bytes */
  assert(rs == FREE || ws == REDO && atrisk)
}

active proctype killer() {
end:
  do
  :: d_step { deaths < DEATHS && !done[1] && !dead[1] -> dead[1] = true; deaths++ }
  :: d_step { deaths < DEATHS && !done[2] && !dead[2] -> dead[2] = true; deaths++ }
  :: d_step { deaths < DEATHS && !done[3] && !dead[3] -> dead[3] = true; deaths++ }
  od
}

init {
  atomic {
    d_step { slot[3] = 1; sg[3] = 0 };
    run restorer(1);
    run restorer(2);
    run worker(1);
    ready = true
  }
}
