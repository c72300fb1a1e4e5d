/* SPDX-License-Identifier: Apache-2.0 */
/* writable_view.pml: one chunk of a column on the host and one device, and processes that store to the host
 * whenever they like. Follows host/writable_view.h, host/writable_view.c, host/writable_view_sweep.c and the
 * ends of holds in host/coherence.c and coherence_sweep.c.
 *
 * Each step is one load, one store or one compare-and-swap; a word's fields only change together in one d_step.
 * Sessions 0 and 1 have views, two threads each; session 2 is a child forked from session 0. Holders of the
 * chunk are sessions of their own, 3 to 6. "ghost": in the model only.
 *
 * What must hold: host and device in the mask of a free chunk never differ, though a view may store at any time;
 * no fewer registrations than sessions with views; none are left when all has ended and nobody died. */

#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1                           /* of each thread */
#endif

#define CLEAN   0
#define TORN    1
#define HELD    2                          /* host lease */
#define DEVHELD 3

#define REGISTERING   1                    /* phases of the slot's word; 0: free */
#define REGISTERED    2
#define UNREGISTERING 3

byte st, holder; bit host = 1, dev = 1;    /* chunk word: state, holder, mask */
byte hv, dv;                               /* bytes on the host and on the device */
byte cnt, ever;                            /* view word of the column */
byte phase[3];                             /* the slots' words */
byte n[3]; bit locked[3], kept[3];         /* in each process: its views, view_lock, is_kept */
byte maps[3];                              /* processes that map the session's pages */
bool dead[7], over[3]; byte deaths;
byte live[3];                              /* ghost: views that somebody may store through */
bit inherited;                             /* ghost: the child has some, under the registration of session 0 */
byte todo;                                 /* ghost: threads and children that have not ended */

inline inv() {
  assert(st != CLEAN || host || dev);
  assert(!(st == CLEAN && host && dev) || hv == dv) }
inline covered() { assert(cnt >= (live[0] > 0 || inherited) + (live[1] > 0) + (live[2] > 0)) }

/* step 4: devices_leave() */
inline leave() {
#ifndef N_PASS
  d_step {
    if
#ifdef N_AHEAD                             /* also where the device is ahead */
    :: st == CLEAN || st == DEVHELD -> dev = 0
#elif defined(N_PASSHELD)                  /* held words are left alone */
    :: st == CLEAN && host -> dev = 0
#else
    :: (st == CLEAN || st == DEVHELD) && host -> dev = 0
#endif
#ifndef N_PASSLEASE
    :: st == HELD -> dev = 0
#endif
    :: else -> skip
    fi;
    inv() }
#else
  skip
#endif
}

inline register(s) {
#ifdef N_PASSFIRST
  leave();
#endif
  phase[s] = REGISTERING;
  d_step { cnt++; ever++ };
  phase[s] = REGISTERED;
#ifndef N_PASSFIRST
  leave();
#endif
}

inline unregister(s) {
  phase[s] = UNREGISTERING;
  d_step { cnt--; covered() };
  phase[s] = 0 }

inline lock(s) { d_step { !locked[s] -> locked[s] = 1 } }

inline begin_view(s) {
#ifdef N_LOCK                              /* a second thread does not wait for the first to have registered */
  if
  :: d_step { n[s] > 0 -> n[s]++; live[s]++ }; goto begun
  :: d_step { n[s] == 0 -> n[s]++ }; register(s); d_step { live[s]++ }; goto begun
  fi;
#endif
  lock(s);
  if
  :: phase[s] != REGISTERED -> register(s)
  :: else -> skip
  fi;
  d_step { n[s]++; live[s]++; covered(); locked[s] = 0 } }

inline end_view(s) {
  d_step { live[s]-- };
  lock(s);
  d_step { n[s]-- };
  if
#ifdef N_KEEP
  :: n[s] == 0 && phase[s] == REGISTERED -> unregister(s)
#else
  :: n[s] == 0 && phase[s] == REGISTERED && !kept[s] -> unregister(s)
#endif
  :: else -> skip
  fi;
  locked[s] = 0 }

inline store() { d_step { hv++; inv() } }

proctype thread(byte s) {
  byte round;
  {
    do
    :: round < ROUNDS ->
       begin_view(s);
begun: skip;
       store();
       end_view(s);
       round++
    :: else -> break
    od;
    skip
  } unless { dead[s] };
  d_step { todo--; round = 0 } }

/* fork() of session 0, by a thread that is not inside a call: its handlers have the lock */
proctype child() {
  if
  :: d_step { !locked[0] && !dead[0] && n[0] > 0 -> inherited = 1; maps[0]++; kept[0] = 1 }
  :: dead[0] || n[0] == 0 -> goto out
  fi;
  store();
  if
  :: d_step { inherited = 0; maps[0]-- }   /* exec, exit, death */
  :: skip ->                               /* a session of its own: pinti_views_take_over() */
#ifdef N_TAKEOVER
     maps[0]--;
     register(2);
#else
     register(2);
#endif
     d_step { live[2] = 1; inherited = 0; covered() };
#ifndef N_TAKEOVER
     maps[0]--;
#endif
     store();
     live[2] = 0;
     unregister(2)
  fi;
out: skip;
  todo-- }

/* ---- those who hold the chunk ------------------------------------------------------------------------- */

#define NOTE(c,e) d_step { c = cnt; e = ever }
#ifdef N_EVER
#define CHANGED(c,e) (c != 0 || cnt != c)
#else
#define CHANGED(c,e) (c != 0 || cnt != c || ever != e)
#endif

/* hold_end(): both sides, the look, the end */
inline both_end(me,c,e) {
#ifdef N_LOOKFIRST                         /* the look before both are in the held word's mask */
  d_step { ok = !CHANGED(c,e) };
  d_step { host = 1; dev = 1 };
#else
  d_step { host = 1; dev = 1 };
#ifdef N_LOOK
  ok = 1;
#else
  d_step { ok = !CHANGED(c,e) };
#endif
#endif
  d_step { assert(st == DEVHELD && holder == me);
           if :: !ok -> dev = 0 :: else -> skip fi;
           st = CLEAN; holder = 0; ok = 0; c = 0; e = 0; inv() } }

/* a pull, or what had the device's bytes and gives them back untouched */
proctype puller(byte me) {
  byte c, e; bit ok;
  {
#ifndef N_NOTELATE
    NOTE(c,e);
#endif
    if
    :: d_step { st == CLEAN && host && !dev -> st = DEVHELD; holder = me };
#ifdef N_NOTELATE
       NOTE(c,e);
#endif
       dv = hv
    :: d_step { st == CLEAN && host && dev -> st = DEVHELD; holder = me; dev = 0 };
#ifdef N_NOTELATE
       NOTE(c,e);
#endif
       skip
    :: else -> goto x
    fi;
    both_end(me,c,e);
x:  skip
  } unless { dead[me] };
  d_step { c = 0; e = 0; ok = 0 } }

proctype kernel(byte me) {
  {
    if
    :: d_step { st == CLEAN -> st = DEVHELD; holder = me; dev = 0 }
    :: else -> goto x
    fi;
    dv = 99;
    d_step { st = CLEAN; holder = 0; host = 0; dev = 1; inv() };
x:  skip
  } unless { dead[me] } }

proctype pusher(byte me) {
  byte c, e; bit ok;
  {
    if :: st == CLEAN && dev && !host -> skip :: todo == 0 -> goto x fi;
    NOTE(c,e);
    if
    :: d_step { st == CLEAN && dev && !host -> st = DEVHELD; holder = me }
    :: else -> goto x
    fi;
    hv = dv;
    both_end(me,c,e);
x:  skip
  } unless { dead[me] };
  d_step { c = 0; e = 0; ok = 0 } }

proctype lease(byte me) {
  byte before;
  {
    if
    :: d_step { st == CLEAN && host -> st = HELD; holder = me; host = 0; before = hv }
    :: else -> goto x
    fi;
    if
    :: d_step { hv == before; st = CLEAN; holder = 0; host = 1; inv() }; goto x    /* unclaimed */
    :: skip
    fi;
    hv++;
    d_step { st = CLEAN; holder = 0; host = 1; dev = 0; inv() };
x:  skip
  } unless { dead[me] };
  before = 0 }

/* ---- the service -------------------------------------------------------------------------------------- */

#ifdef N_TETHER
#define OVER(s) (dead[s] && !over[s])
#else
#define OVER(s) (dead[s] && !over[s] && maps[s] == 0)
#endif

inline end_session(s) {                    /* pinti_views_sweep() */
  skip;
again: skip;
  if
  :: phase[s] == REGISTERED ->
     phase[s] = UNREGISTERING;
     if
     :: skip; d_step { cnt--; covered() }; if :: true -> goto again :: true fi
     :: goto again                         /* it dies: the next incarnation looks */
     fi
#ifdef N_AMBIGUOUS                         /* a passing phase is taken for a registration */
  :: phase[s] == REGISTERING || phase[s] == UNREGISTERING -> d_step { cnt--; covered() }
#endif
  :: else -> skip
  fi;
  phase[s] = 0;
  over[s] = true }

active proctype service() {
end: do
  :: OVER(0) -> end_session(0)
  :: st == DEVHELD && dead[holder] ->      /* coherence_sweep.c, end_device_hold() */
     d_step { if
#ifdef N_DEADMASK
              :: skip
#else
              :: host -> dev = 0
              :: else -> skip
#endif
              fi;
              st = (host || dev -> CLEAN : TORN); holder = 0; inv() }
  :: st == HELD && dead[holder] -> d_step { st = (dev -> CLEAN : TORN); holder = 0; inv() }
  od }

#define DIE(k) :: d_step { deaths < DEATHS && !dead[k] -> dead[k] = true; deaths++; \
                           if :: k < 3 -> maps[k]--; live[k] = 0 :: else -> skip fi }
active proctype death() {
end: do
  DIE(0)
#ifdef PULLER
  DIE(3)
#endif
#ifdef PUSHER
  DIE(5)
#endif
#ifdef LEASE
  DIE(6)
#endif
  :: deaths == DEATHS -> break
  od }

init {
  atomic {
    maps[0] = 1; maps[1] = 1; maps[2] = 1;
    todo = 2; run thread(0); run thread(1);
#ifdef THREADS2
    todo++; run thread(0);
#endif
#ifdef FORK
    todo++; run child();
#endif
#ifdef PULLER
    run puller(3);
#endif
#ifdef KERNEL
    run kernel(4);
#endif
#ifdef PUSHER
    run pusher(5);
#endif
#ifdef LEASE
    run lease(6);
#endif
  };
  todo == 0;
  assert(deaths != 0 || cnt == 0 || kept[0] && cnt == 1)
}
