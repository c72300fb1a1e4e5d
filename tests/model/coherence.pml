/* SPDX-License-Identifier: Apache-2.0 */
/* coherence.pml: one chunk of a column on the host and two devices; death anywhere, sweep, a copy that is
 * dropped and made again. Follows host/coherence.c, host/coherence_sweep.c, host/claim.h, host/column.c
 * (mark, recover) and host/read.c.
 *
 * Every step below is one load, one store or one compare-and-swap of one word, or one half of a chunk's
 * bytes; a word's fields are several Promela variables that only ever change together in one d_step.
 * Variables marked "ghost" exist in the model only. Death: `unless { dead[me] }` may cut in between any two
 * steps; what was on a stream then may still be done or not, and only after that is the session quiet.
 * Memory 0 is the host's, 1 device 1's, 2 device 2's, 3 that of a second copy on device 1. See README.md for
 * the switches. The cast: each NAME=n below is a process that tries its operation once, at any time. */

#ifndef DEATHS
#define DEATHS 1      /* sessions killed, at most */
#endif

#define CLEAN   0
#define HELD    1     /* host lease without undo */
#define JOBHELD 2     /* with undo */
#define TORN    3
#define RESTORE 4
#define DEVHELD 5
#define HELDBAD 6     /* HELD_TORN: the same, of a chunk that the host did not have */

#define CLAIM 0       /* copier word: what it does */
#define PUSH  2
#define WRITE 3

#define R_NONE    0   /* a copy's record */
#define R_LIVE    1
#define R_CLOSING 2
#define R_DYING   3

byte st, h, mask, seq;                     /* chunk word; mask: bit 0 the host, 1 and 2 devices */
byte fs;                                   /* of dropper: the seq it found, in the copier word or the word */
byte kept;                                 /* ghost: how many remember a seq; none: it starts again at 1 */
byte cop[4], copk[4], cops[4];             /* copier words of copies 1..3: session, kind, seq held */
short rb[4];                               /* reader bits, by session */
byte rec[4];                               /* the copy's record */
bool forced;                               /* ghost: a copy went that others worked on, as when its broker dies */
bool told;                                 /* ghost: somebody was told that the copy is gone */
bool fell;                                 /* ghost: a hold ended on what is left in the mask */
bool wastorn;                              /* ghost: the chunk was torn when it was taken for a device */
byte v[8];                                 /* the bytes: two halves of each memory */
byte ua, ub; bool leased, committing;      /* the job's undo buffer, and its word */
bool dead[16]; byte busy[16];              /* busy: processes of the session whose streams may run */
byte deaths;
byte ta, tb;                               /* ghost: newest committed bytes; a writer writes its number */
byte wr[4], rd[4];                         /* ghost: who writes into a memory; how many read it by right */
byte cur1 = 1;                             /* ghost: the memory that mask bit 1 speaks of */
bool raw;                                  /* ghost: somebody stores plainly to the host */

#define BIT(p)   (1 << (p))
#define HAS(p)   ((mask >> (p)) & 1)
#define DEV(c)   ((c) == 3 -> 1 : (c))
#define SPEAKS(c) ((c) == 0 -> HAS(0) : ((c) == 2 -> HAS(2) : (HAS(1) && cur1 == (c))))
#define GOOD(c)  (v[2*(c)] == ta && v[2*(c)+1] == tb)
#define HOLDS(me,s) (st == DEVHELD && h == (me) && seq == (s))
#ifdef N_EARLY                             /* device state of the dead is cleared at once */
#define QUIET(k) true
#else
#define QUIET(k) (busy[k] == 0)
#endif

inline inv() {
  assert(st != CLEAN || mask != 0);
  assert(raw || !HAS(0) || GOOD(0));
  assert(raw || !HAS(1) || GOOD(cur1));
  assert(raw || !HAS(2) || GOOD(2)) }
#define settle(places) mask = (places); st = (mask == 0 -> TORN : CLEAN); h = 0; seq++   /* pinti_chunk_settled() */
inline begin_write(c,me) { d_step { assert(wr[c] == 0); wr[c] = me } }
#define W(c,half,val,who) d_step { assert(wr[c] == who && rd[c] == 0 && !SPEAKS(c)); v[2*(c)+half] = val }
/* after death: the stream may still do the next half, or no more */
inline straggle(c,x,me) { if :: wr[c] == me -> if :: W(c,0,x,me) :: W(c,1,x,me) :: skip fi :: else -> skip fi }
#define KEEP(s) if :: s == 0 -> kept++ :: else -> skip fi; s = seq
#define DROPSEQ(s) if :: s != 0 -> kept--; s = 0 :: else -> skip fi; \
  if :: kept == 0 && cops[1] == 0 && cops[2] == 0 && cops[3] == 0 && fs == 0 -> seq = 1 :: else -> skip fi
#define QUIETLY(c,me) if :: wr[c] == me -> wr[c] = 0 :: else -> skip fi; busy[me]--

#ifdef N_MASK                              /* the host stays in the mask while it is written */
#define WITHOUT_HOST(m) (m)
#else
#define WITHOUT_HOST(m) ((m) & ~1)
#endif
#ifdef N_KMASK
#define WITHOUT(m,p) (m)
#else
#define WITHOUT(m,p) ((m) & ~BIT(p))
#endif

/* ---- host --------------------------------------------------------------------------------------------- */

/* lease without undo: PINT_UPDATE, or PINT_OUT of a chunk that the host does not have */
proctype hostwriter(byte me) {
  byte s, m; bool bad;
  {
    if
    :: d_step { st == CLEAN && HAS(0) -> st = HELD; h = me; mask = WITHOUT_HOST(mask); m = mask; seq++; KEEP(s) }
    :: d_step { st == TORN || (st == CLEAN && !HAS(0)) -> bad = 1;
                if :: st == TORN -> mask = 0 :: else -> skip fi; st = HELDBAD; h = me; m = mask; seq++; KEEP(s) }
    :: else -> goto x
    fi;
    if
    :: d_step { settle((bad -> mask : mask | 1)); fell = fell || bad; inv() }; goto x   /* unclaimed */
    :: skip
    fi;
    begin_write(0,me);
    W(0,0,me,me);
    if
    :: d_step { wr[0] = 0; settle(mask); fell = 1; inv() }; goto x                /* abandoned */
    :: skip
    fi;
    W(0,1,me,me);
    d_step { assert((st == HELD || st == HELDBAD) && h == me && seq == s);
#ifdef N_SAMEHOLD                          /* an exact compare-and-swap: lost when a device has gone meanwhile */
             assert(mask == m);
#endif
             wr[0] = 0; settle(1); ta = me; tb = me; inv() };
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY(0,me); DROPSEQ(s); m = 0; bad = 0 } }

/* lease or job with undo; the job word is `leased`, `committing` */
proctype jobwriter(byte me) {
  {
    if
    :: d_step { st == CLEAN && HAS(0) -> st = JOBHELD; h = me; mask = WITHOUT_HOST(mask); seq++ }
    :: else -> goto x
    fi;
    d_step { ua = v[0]; ub = v[1] };
    leased = 1;
    begin_write(0,me);
    W(0,0,me,me);
    W(0,1,me,me);
    committing = 1;
    d_step { wr[0] = 0; settle(1); ta = me; tb = me; inv() };
    d_step { leased = 0; committing = 0 };
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY(0,me) } }

/* whoever meets RESTORE; does not die here: lease_job.pml is about that */
proctype restorer(byte me) {
end: st == RESTORE;
  d_step { st == RESTORE -> st = JOBHELD; h = me; seq++ };
  begin_write(0,me);
  W(0,0,ua,me);
  W(0,1,ub,me);
  d_step { wr[0] = 0; settle(mask | 1); leased = 0; inv() } }

proctype recoverer() {
end: st == TORN;
  d_step { if :: st == TORN -> settle(1); ta = v[0]; tb = v[1]; inv() :: else -> skip fi } }

/* pint_copy_own_host(), plain stores, pint_column_mark() */
proctype rawwriter(byte me) {
  {
    if
    :: d_step { st == CLEAN && HAS(0) -> settle(1); raw = 1 }
    :: else -> goto x
    fi;
    v[0] = me;
    v[1] = me;
    d_step { st == CLEAN && HAS(0) -> raw = 0; ta = me; tb = me;
#ifdef N_MARK
             st = CLEAN; h = 0; seq++;
#else
             settle(1);
#endif
             inv() };
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY(0,me) } }

/* optimistic read: the whole word before and after */
proctype hostreader() {
  byte x, y, a, b, s0, s, m; bool was_raw;
  if
  :: d_step { HAS(0) && (st == CLEAN || st == DEVHELD) -> s0 = st; KEEP(s); m = mask; a = ta; b = tb; was_raw = raw }
  :: else -> goto end_reader
  fi;
  x = v[0];
  y = v[1];
  d_step { assert(was_raw || raw || !(s0 == st && s == seq && m == mask) || (x == a && y == b));
           DROPSEQ(s); x = 0; y = 0; a = 0; b = 0; s0 = 0; m = 0; was_raw = 0 };
end_reader: skip }

/* ---- devices ------------------------------------------------------------------------------------------ */

inline give_copier(me,c) { d_step { if :: cop[c] == me -> cop[c] = 0; copk[c] = 0; cops[c] = 0 :: else -> skip fi } }
inline look_at_record(c,ok,had) {
#ifndef N_LIVE
  d_step { if :: rec[c] == R_LIVE -> skip
              :: rec[c] == R_CLOSING -> ok = 0
              :: else -> ok = 0; had = 0; told = 1 fi }    /* the place is not this copy's any more */
#else
  skip
#endif
}
/* nothing was done: the chunk is as it was, and not torn by a drop that should not be noticed */
#define give_back(me,s,places) \
  d_step { if :: HOLDS(me,s) -> settle(places); assert(st != TORN || wastorn || fell || forced); inv() :: else -> skip fi }
/* not held any more: only if it went with the copy */
#define LOST(c) assert(forced && (c) == 1)

#ifdef N_COPIERSEQ                         /* the copier word does not say which hold */
#define CLAIMS(kind) kind
#else
#define CLAIMS(kind) CLAIM
#endif
inline take_copier(me,c,kind) {
#ifndef N_COPIER
  if
  :: d_step { cop[c] == 0 -> cop[c] = me; copk[c] = CLAIMS(kind) }
  :: else -> goto x
  fi
#else
  skip
#endif
}
inline name_hold(me,c,kind,s) {
#ifdef N_COPIER                            /* the copier word is taken after the claim */
  d_step { if :: cop[c] == 0 -> cop[c] = me :: else -> skip fi };
#endif
  d_step { if :: cop[c] == me -> copk[c] = kind; cops[c] = s :: else -> skip fi } }

/* Take the copier word and the chunk word for a write or a pull, look at record and readers. had: device in
 * the mask; on failure all is given back and control is at x. */
inline take(me,c,canhold,ownbits,s,had,ok) {
  take_copier(me,c,WRITE);
  if
  :: d_step { canhold -> had = st == CLEAN && HAS(DEV(c)); wastorn = (st == TORN);
              if :: st == TORN -> mask = 0 :: else -> skip fi;
              mask = WITHOUT(mask,DEV(c)); st = DEVHELD; h = me; seq++; KEEP(s) }
  :: else -> goto give
  fi;
  name_hold(me,c,WRITE,s);
  ok = 1;
  look_at_record(c,ok,had);
#ifndef N_WRITELOOK
  d_step { if :: (rb[c] & ~(ownbits)) != 0 -> ok = 0 :: else -> skip fi };
#endif
  if
  :: ok -> skip
  :: else -> give_back(me,s,(had -> mask | BIT(DEV(c)) : mask)); goto give
  fi }

/* kernel that writes: PINTI_TAKE_TO_CHANGE, or _REPLACE */
proctype kernel(byte me; byte c; bool whole) {
  byte s; bool had, ok;
  {
#ifdef N_WRITELOOK                         /* readers before the claim only */
    if :: rb[c] == 0 -> skip :: else -> goto x fi;
#endif
    take(me,c,((st == CLEAN && (whole || HAS(0) || HAS(DEV(c)))) || (st == TORN && whole)),(1 << me),s,had,ok);
    begin_write(c,me);
    if
    :: !whole && !had -> W(c,0,v[0],me); W(c,1,v[1],me)
    :: else -> skip
    fi;
    assert(whole || GOOD(c) || !HOLDS(me,s));
    W(c,0,me,me);
    W(c,1,me,me);
    wr[c] = 0;
    d_step { if :: HOLDS(me,s) -> settle(BIT(DEV(c))); ta = me; tb = me; inv() :: else -> LOST(c) fi };
give: skip; give_copier(me,c);
x:  skip
  } unless { dead[me] };
  straggle(c,9,me); d_step { QUIETLY(c,me); DROPSEQ(s); had = 0; ok = 0 } }

/* pull, and a kernel that reads on the same stream: it looks at the bytes before the pull has committed */
proctype puller(byte me; byte c) {
  byte s, a, b; bool had, ok, mine, reads;
end_open: (c != 3 || rec[3] == R_LIVE);    /* opened when it is there */
  {
    take(me,c,(st == CLEAN && HAS(0) && !HAS(DEV(c))),0,s,had,ok);
    d_step { a = ta; b = tb; mine = !raw };
#ifdef N_HOLDPULL                          /* without a hold: the word is given back before the copy */
    d_step { if :: HOLDS(me,s) -> settle(mask) :: else -> skip fi };
#endif
    begin_write(c,me);
    W(c,0,v[0],me);
    W(c,1,v[1],me);
    wr[c] = 0;
    d_step { rb[c] = rb[c] | (1 << me); rd[c]++; reads = 1 };
    assert(!mine || forced || (v[2*c] == a && v[2*c+1] == b));
#ifdef N_HOLDPULL
    d_step { if :: st == CLEAN && HAS(0) -> mask = mask | BIT(DEV(c)); inv() :: else -> skip fi };
#else
    d_step { if :: HOLDS(me,s) -> settle(mask | BIT(DEV(c))); inv() :: else -> LOST(c) fi };
#endif
    give_copier(me,c);
    assert(!mine || forced || (v[2*c] == a && v[2*c+1] == b));
    d_step { rd[c]--; reads = 0; rb[c] = rb[c] & ~(1 << me) };
    goto x;
give: skip; give_copier(me,c);
x:  skip
  } unless { dead[me] };
  straggle(c,v[0],me);
  d_step { if :: reads -> rd[c]--; reads = 0 :: else -> skip fi;
           QUIETLY(c,me); DROPSEQ(s); a = 0; b = 0; had = 0; ok = 0; mine = 0 } }

proctype pusher(byte me; byte c) {
  byte s; bool ok, had;
  {
    take_copier(me,c,PUSH);
    if
    :: d_step { st == CLEAN && HAS(DEV(c)) && !HAS(0) -> wastorn = 0; st = DEVHELD; h = me; seq++; KEEP(s) }
    :: else -> goto give
    fi;
    name_hold(me,c,PUSH,s);
    ok = 1;
    look_at_record(c,ok,had);
    if
    :: ok -> skip
    :: else -> give_back(me,s,mask); goto give
    fi;
    begin_write(0,me);
    W(0,0,v[2*c],me);
    W(0,1,v[2*c+1],me);
    wr[0] = 0;
    d_step { assert(HOLDS(me,s)); settle(mask | 1); inv() };
give: skip; give_copier(me,c);
x:  skip
  } unless { dead[me] };
  straggle(0,v[2*c],me); d_step { QUIETLY(0,me); DROPSEQ(s); ok = 0; had = 0 } }

proctype reader(byte me; byte c) {
  byte a, b; bool ok, had, reads;
end_open: (c != 3 || rec[3] == R_LIVE);
  {
#ifndef N_READLOOK
    d_step { rb[c] = rb[c] | (1 << me) };
#endif
    d_step { if :: st == CLEAN && HAS(DEV(c)) -> ok = 1; a = ta; b = tb :: else -> skip fi;
             if :: raw -> ok = 0 :: else -> skip fi };
#ifdef N_READLOOK                          /* looks first, then sets its bit */
    d_step { rb[c] = rb[c] | (1 << me) };
#endif
    look_at_record(c,ok,had);
    if :: ok -> d_step { reads = 1; rd[c]++ } :: else -> goto clear fi;
    assert(v[2*c] == a);
    assert(v[2*c+1] == b);
    d_step { reads = 0; rd[c]-- };
clear: skip; d_step { rb[c] = rb[c] & ~(1 << me) }
  } unless { dead[me] };
  if
  :: reads -> assert(v[2*c] == a); assert(v[2*c+1] == b); d_step { reads = 0; rd[c]-- }
  :: else -> skip
  fi;
  d_step { QUIETLY(c,me); a = 0; b = 0; ok = 0; had = 0 } }

/* ---- the service -------------------------------------------------------------------------------------- */

#define SWEEP_BITS(k) \
  :: d_step { ((rb[1] | rb[2] | rb[3]) & (1 << k)) != 0 && dead[k] && QUIET(k) -> \
              rb[1] = rb[1] & ~(1 << k); rb[2] = rb[2] & ~(1 << k); rb[3] = rb[3] & ~(1 << k) }

active proctype sweep() {
end: do
  /* host leases, at once (host/sweep.c) */
  :: d_step { (st == HELD || st == HELDBAD) && dead[h] -> wr[0] = 0; fell = 1;
#ifdef N_TORN                              /* clean, whatever the mask */
              mask = mask | 1; st = CLEAN; h = 0; seq++;
#else
              settle(mask);
#endif
              inv() }
  :: d_step { st == JOBHELD && dead[h] -> wr[0] = 0;
              if :: committing -> settle(1); ta = v[0]; tb = v[1]; leased = 0; committing = 0
                 :: leased && !committing -> st = RESTORE; h = 0; mask = 0; seq++
                 :: else -> settle(mask | 1) fi;
              inv() }
  /* devices, when the streams have ended (pinti_copy_sweep()) */
  :: d_step { st == DEVHELD && dead[h] && QUIET(h) -> fell = 1;
#ifdef N_DEVTORN
              mask = mask | 1; st = CLEAN; h = 0; seq++;
#else
              settle(mask);
#endif
              inv() }
  :: d_step { cop[1] != 0 && dead[cop[1]] && QUIET(cop[1]) -> cop[1] = 0; copk[1] = 0; cops[1] = 0 }
  :: d_step { cop[2] != 0 && dead[cop[2]] && QUIET(cop[2]) -> cop[2] = 0; copk[2] = 0; cops[2] = 0 }
  :: d_step { cop[3] != 0 && dead[cop[3]] && QUIET(cop[3]) -> cop[3] = 0; copk[3] = 0; cops[3] = 0 }
  SWEEP_BITS(4)
  SWEEP_BITS(6)
  SWEEP_BITS(7)
  SWEEP_BITS(9)
  od }

/* The copy on device 1 is closed and dropped: it is LIVE again when somebody needs it, or when the service died
 * before it was DYING. Then forgotten (perhaps twice: the service may die), and made again. kill: at any price. */
#ifdef N_CLOSING                           /* it is DYING while the service looks whether it is needed */
#define R_LOOK R_DYING
#elif defined(N_LOOKFIRST)                 /* the service looks, and marks it then */
#define R_LOOK R_LIVE
#else
#define R_LOOK R_CLOSING
#endif

proctype dropper(bool kill) {
  byte fc, fk, wst, wm, n;
  bool again;
  if :: kill -> forced = 1; goto die :: else -> skip fi;
close: rec[1] = R_LOOK;
look: skip;                                /* pinti_copy_use_of() */
  d_step { wst = st; wm = mask; fs = seq };
  d_step { fc = cop[1] };
  if :: fc != 0 || rb[1] != 0 -> goto open :: else -> skip fi;
#ifndef N_RELOOK                           /* a held word is not looked at again */
  if :: d_step { wst == DEVHELD && !(st == DEVHELD && seq == fs && mask == wm) -> fs = 0 }; goto look :: else -> skip fi;
#endif
  if :: wm == 2 && wst != HELD && wst != JOBHELD -> goto open :: else -> skip fi;
  if :: goto die :: skip fi;               /* or the service dies, and the next one opens the copy again */
open: skip; d_step { assert(!told); rec[1] = R_LIVE; fc = 0; fs = 0; wst = 0; wm = 0; n++ };
  if :: n < 2 -> goto close :: goto end_dropper fi;
die: skip; d_step { rec[1] = R_DYING; fc = 0; fs = 0; wst = 0; wm = 0; n = 0 };
forget: skip;                              /* pinti_copy_forget() */
  d_step { fc = cop[1]; fk = copk[1]; fs = cops[1] };
  d_step {
    if
    :: st == CLEAN -> if :: HAS(1) -> settle(mask & ~2); assert(st != TORN || fell || forced) :: else -> skip fi
#ifdef N_FORGETPUSH                        /* pushes are taken back like writes */
    :: st == DEVHELD && fc == h && fs == seq && fk != CLAIM -> settle(mask & ~2)
#elif defined(N_COPIERSEQ)                 /* taken for the holder by its session alone */
    :: st == DEVHELD && fc == h && fk == WRITE -> settle(mask & ~2)
#elif !defined(N_FORGETWRITER)
    :: st == DEVHELD && fc == h && fs == seq && fk == WRITE ->
       settle(mask & ~2); assert(st != TORN || wastorn || fell || forced)
#endif
    :: else -> mask = mask & ~2
    fi;
    inv() };
  if :: !again -> again = 1; goto forget :: skip fi;
  d_step { assert(!HAS(1)); cur1 = 3; rec[3] = R_LIVE };
end_dropper: skip; d_step { fc = 0; fk = 0; fs = 0; wst = 0; wm = 0; n = 0; again = 0 } }

#define DIE(k) :: d_step { deaths < DEATHS && busy[k] > 0 && !dead[k] -> dead[k] = 1; deaths++ }
active proctype death() {
end: do
  DIE(1) DIE(2) DIE(3) DIE(4) DIE(5) DIE(6) DIE(7) DIE(8) DIE(9)
  :: deaths == DEATHS -> break
  od }

#define START(k) busy[k]++; run
init { atomic {
  seq = 1;
  v[2] = 9; v[3] = 9; v[4] = 9; v[5] = 9; v[6] = 9; v[7] = 9; rec[1] = R_LIVE; rec[2] = R_LIVE;
  if                                       /* who has the newest bytes at first */
  :: mask = 1
  :: mask = 2; v[0] = 9; v[1] = 9; v[2] = 0; v[3] = 0
  :: mask = 3; v[2] = 0; v[3] = 0
#ifdef TWO
  :: mask = 6; v[0] = 9; v[1] = 9; v[2] = 0; v[3] = 0; v[4] = 0; v[5] = 0
  :: mask = 7; v[2] = 0; v[3] = 0; v[4] = 0; v[5] = 0
#endif
  fi;
#ifdef HOSTWRITER
  START(1) hostwriter(1);
#endif
#ifdef JOB
  START(2) jobwriter(2); run restorer(10);
#endif
#ifdef RAW
  START(2) rawwriter(2);
#endif
#ifdef KERNEL                              /* 1: also a whole rewrite, 0: not */
  START(3) kernel(3,1,KERNEL);
#endif
#ifdef KERNEL2                             /* on device 2; by the session of KERNEL */
  START(3) kernel(3,2,KERNEL2);
#endif
#ifdef KERNELB                             /* on device 2, by another */
  START(4) kernel(4,2,KERNELB);
#endif
#ifdef PULLER
  START(7) puller(7,1);
#endif
#ifdef PULLER2
  START(6) puller(6,1);
#endif
#ifdef PULLERB
  START(6) puller(6,2);
#endif
#ifdef PUSHER
  START(8) pusher(8,1);
#endif
#ifdef PUSHERB                             /* from device 2, by the session of KERNEL */
  START(3) pusher(3,2);
#endif
#ifdef READER
  START(9) reader(9,1);
#endif
#ifdef NEWREADER                           /* of the copy made after the drop */
  START(9) reader(9,3);
#endif
#ifdef NEWPULLER
  START(4) puller(4,3);
#endif
#ifdef HOSTREADER
  run hostreader();
#endif
#ifdef RECOVER
  run recoverer();
#endif
#ifdef DROP
  run dropper(0);
#endif
#ifdef KILL
  run dropper(1);
#endif
} }
