/* SPDX-License-Identifier: Apache-2.0 */
/* writable_view.pml: one chunk of a column on the host and two devices, and processes that store to the host
 * whenever they like. Operations are on the first device; the second one is there only to be in masks. The
 * copy on the first may be closed, dropped at any time and made again. Follows host/writable_view.h, host/writable_view.c, host/writable_view_sweep.c and the
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

#define CLAIM 1                            /* copier word: what it does */
#define PUSH  2
#define WRITE 3

#define LIVE    0                          /* the record */
#define CLOSING 1
#define DYING   2

#define REGISTERING   1                    /* phases of the slot's word; 0: free */
#define REGISTERED    2
#define UNREGISTERING 3

byte st, holder; bit host = 1, dev = 1, dev2;  /* chunk word: state, holder, mask */
byte hold;                                 /* its seq: how many held it for the device */
byte hv, dv, dv2;                          /* bytes on the host and on the devices */
byte rec;                                  /* the record of the copy on the first device */
byte made;                                 /* copies made there after it: 0 or 1 */
byte cop[2], copk[2], cops[2];             /* copier words of both: session, kind, seq held */
byte cnt, ever;                            /* view word of the column */
byte phase[3];                             /* the slots' words */
byte n[3]; bit locked[3], kept[3];         /* in each process: its views, view_lock, is_kept */
byte maps[3];                              /* processes that map the session's pages */
bool dead[7], over[3]; byte deaths;
byte live[3];                              /* ghost: views that somebody may store through */
bit inherited;                             /* ghost: the child has some, under the registration of session 0 */
byte todo;                                 /* ghost: threads and children that have not ended */

inline inv() {
  assert(st != CLEAN || host || dev || dev2);
  assert(!(st == CLEAN && host && dev) || hv == dv);
  assert(!(st == CLEAN && host && dev2) || hv == dv2) }
#define settle() st = (host || dev || dev2 -> CLEAN : TORN); holder = 0; inv()
inline covered() { assert(cnt >= (live[0] > 0 || inherited) + (live[1] > 0) + (live[2] > 0)) }

/* step 4: devices_leave() */
inline leave() {
#ifndef N_PASS
  d_step {
    if
#ifdef N_AHEAD                             /* also where the device is ahead */
    :: st == CLEAN || st == DEVHELD -> dev = 0; dev2 = 0
#elif defined(N_PASSHELD)                  /* held words are left alone */
    :: st == CLEAN && host -> dev = 0; dev2 = 0
#else
    :: (st == CLEAN || st == DEVHELD) && host -> dev = 0; dev2 = 0
#endif
#ifndef N_PASSLEASE
    :: st == HELD -> dev = 0; dev2 = 0
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

#define HOLDS(me,s) (st == DEVHELD && holder == (me) && hold == (s))
#define QUIETLY c = 0; e = 0; ok = 0; had = 0; s = 0; g = 0

/* The copier word of the copy that was opened; the chunk's is claimed next. */
inline take_copier(me,g) {
  d_step { g = made; ok = cop[g] == 0;
           if :: ok -> cop[g] = me; copk[g] = CLAIM :: else -> skip fi };
  if :: ok -> skip :: else -> goto x fi }
inline give_copier(me,g) { d_step { if :: cop[g] == me -> cop[g] = 0; copk[g] = 0; cops[g] = 0 :: else -> skip fi } }

/* name the hold, then look at the record */
inline look_at_record(me,g,kind,s,had,ok) {
  d_step { if :: cop[g] == me -> copk[g] = kind; cops[g] = s :: else -> skip fi };
  d_step { ok = made == g && rec == LIVE;
#ifndef N_GONEPLACE                        /* the place is given back though it is not this copy's any more */
           if :: made != g || rec == DYING -> had = 0 :: else -> skip fi
#else
           skip
#endif
         } }

/* hold_end(): both sides, the look, the end; plus: the device that is added */
inline both_end(me,s,plus,c,e) {
#ifdef N_LOOKFIRST                         /* the look before both are in the held word's mask */
  d_step { ok = !CHANGED(c,e) };
  d_step { if :: HOLDS(me,s) -> host = 1; dev = dev || plus :: else -> skip fi };
#else
  d_step { if :: HOLDS(me,s) -> host = 1; dev = dev || plus :: else -> skip fi };
#ifdef N_LOOK
  ok = 1;
#else
  d_step { ok = !CHANGED(c,e) };
#endif
#endif
  d_step { if
           :: HOLDS(me,s) -> if :: !ok -> dev = 0; dev2 = 0 :: else -> skip fi; settle()
           :: else -> assert(rec != LIVE || made > 0)              /* LOST */
           fi } }

/* a pull, or what had the device's bytes and gives them back untouched */
proctype puller(byte me) {
  byte c, e, s, g; bit ok, had;
  {
    take_copier(me,g);
#ifndef N_NOTELATE
    NOTE(c,e);
#endif
    if
    :: d_step { st == CLEAN && host -> had = dev; st = DEVHELD; holder = me; dev = 0; hold++; s = hold }
    :: else -> goto give
    fi;
#ifdef N_NOTELATE
    NOTE(c,e);
#endif
    look_at_record(me,g,WRITE,s,had,ok);
    if
    :: ok && !had -> d_step { if :: made == g -> dv = hv :: else -> skip fi; had = 1 }
    :: else -> skip
    fi;
    if
    :: had -> both_end(me,s,1,c,e)
    :: else -> d_step { if :: HOLDS(me,s) -> settle() :: else -> skip fi }
    fi;
give: skip; give_copier(me,g);
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY } }

proctype kernel(byte me) {
  byte c, e, s, g; bit ok, had;
  {
    take_copier(me,g);
    NOTE(c,e);
    if
    :: d_step { st == CLEAN -> had = dev; st = DEVHELD; holder = me; dev = 0; hold++; s = hold }
    :: else -> goto give
    fi;
    look_at_record(me,g,WRITE,s,had,ok);
    if
    :: ok -> d_step { if :: made == g -> dv = 99 :: else -> skip fi };
       d_step { if :: HOLDS(me,s) -> host = 0; dev = 1; dev2 = 0; settle() :: else -> skip fi }
    :: !ok && !had -> d_step { if :: HOLDS(me,s) -> settle() :: else -> skip fi }
    :: !ok && had -> both_end(me,s,1,c,e)
    fi;
give: skip; give_copier(me,g);
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY } }

proctype pusher(byte me) {
  byte c, e, s, g; bit ok, had;
  {
    if :: st == CLEAN && dev && !host -> skip :: todo == 0 -> goto x fi;
    take_copier(me,g);
    NOTE(c,e);
    if
    :: d_step { st == CLEAN && dev && !host -> st = DEVHELD; holder = me; hold++; s = hold }
    :: else -> goto give
    fi;
    look_at_record(me,g,PUSH,s,had,ok);
    if
    :: ok -> d_step { hv = (made == g -> dv : dv2) }               /* what is pushed was newest when it was taken */
       both_end(me,s,0,c,e)
    :: else -> d_step { if :: HOLDS(me,s) -> settle() :: else -> skip fi }
    fi;
give: skip; give_copier(me,g);
x:  skip
  } unless { dead[me] };
  d_step { QUIETLY } }

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
    d_step { st = CLEAN; holder = 0; host = 1; dev = 0; dev2 = 0; inv() };
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
  :: st == DEVHELD && dead[holder] ->      /* coherence_sweep.c, end_device_hold(): words before copiers */
     d_step { if
#ifdef N_DEADMASK
              :: skip
#else
              :: host -> dev = 0;
#ifdef N_DEADPUSH                          /* of a dead push only the device that it came from */
                 if :: cop[0] == holder || cop[1] == holder -> skip
#else
                 if :: copk[0] == WRITE && cop[0] == holder && cops[0] == hold -> skip
                    :: copk[1] == WRITE && cop[1] == holder && cops[1] == hold -> skip
#endif
                    :: else -> dev2 = 0 fi
              :: else -> skip
#endif
              fi;
              settle() }
  :: st == HELD && dead[holder] -> d_step { settle() }
  :: d_step { cop[0] != 0 && dead[cop[0]] && !(st == DEVHELD && holder == cop[0]) -> cop[0] = 0; copk[0] = 0; cops[0] = 0 }
  :: d_step { cop[1] != 0 && dead[cop[1]] && !(st == DEVHELD && holder == cop[1]) -> cop[1] = 0; copk[1] = 0; cops[1] = 0 }
  od }

/* The copy on the first device is closed, opened again or dropped, at any price, and made again: coherence.pml is
 * about what may be lost thereby. */
proctype dropper() {
  byte fc, fk, fs;
  rec = CLOSING;
  if :: rec = LIVE; rec = CLOSING :: skip fi;
  rec = DYING;
  d_step { fc = cop[0]; fk = copk[0]; fs = cops[0] };                /* pinti_copy_forget() */
  d_step { dev = 0;
           if :: st == CLEAN || (st == DEVHELD && fc == holder && fk == WRITE && fs == hold) -> settle() :: else -> skip fi };
  d_step { assert(!dev); made = 1; rec = LIVE; dv = 77; fc = 0; fk = 0; fs = 0 } }

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
#ifdef TWO                                 /* both devices, and not the host: a lease without undo has died */
    if :: host = 0; dev2 = 1; hv = 5 :: dev2 = 1 fi;
#endif
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
#ifdef DROP
    run dropper();
#endif
  };
  todo == 0;
  assert(deaths != 0 || cnt == 0 || kept[0] && cnt == 1)
}
