/* SPDX-License-Identifier: Apache-2.0 */
/* wait_bell.pml: the bell of a table. Follows host/wait.h, host/wait.c and host/sweep.c, which rings for the dead.
 *
 * Bell word {count, ring}. Waiter: set ring (fetch_or) and keep the value seen; look at the condition again;
 * futex_wait(bell, that value). Committer: change the word, load the bell; if ring is set,
 * CAS {n,1} -> {n+1,0} and wake everybody. A session may die anywhere: its sweep bumps and wakes unconditionally.
 * All accesses of the word and the bell are sequentially consistent, so interleaving them is all there is to see;
 * -DN_SEQCST lets the committer's load of the bell overtake its store, which weaker orders allow. */

#ifndef COMMITTERS
#define COMMITTERS 2
#endif
#ifndef DEATHS
#define DEATHS 0
#endif

byte word;                                 /* moves by one with every commit */
byte count; bit ring;                      /* the bell */
bool asleep[2];                            /* kernel: on the futex queue of the bell */
bool dead[5], swept[5], past[5]; byte deaths;

inline wakeall() { d_step { asleep[0] = false; asleep[1] = false } }

proctype waiter(byte me; byte want) {
  byte seen;
  do
  :: word >= want -> break
  :: else ->
#ifdef N_CHECKFIRST
     d_step { ring = 1; seen = count };    /* and the condition is not looked at again */
#else
     d_step { ring = 1; seen = count };
     if :: word >= want -> break :: else fi;
#endif
#ifdef N_BELLBIT
     d_step { if :: ring -> asleep[me] = true :: else fi };   /* R22's draft: the bell is 0 or 1 */
#else
     d_step { if :: ring && count == seen -> asleep[me] = true :: else fi };
#endif
     !asleep[me]
  od
}

proctype committer(byte me) {
  bit b; byte n;
  {
    skip;
#ifdef N_SEQCST
    d_step { b = ring; n = count };
    word++;
#else
    word++;
    d_step { b = ring; n = count };
#endif
    if
    :: b ->
#ifdef N_WAKEFIRST
       wakeall();
       d_step { if :: ring && count == n -> ring = 0; count++ :: else -> skip fi }
#else
       d_step { if :: ring && count == n -> ring = 0; count++ :: else -> b = 0 fi };   /* lost: who won it wakes */
#ifdef N_WAKEONE
       d_step { if :: !b -> skip :: b && asleep[0] -> asleep[0] = false :: else -> asleep[1] = false fi }
#else
       if :: b -> wakeall() :: else fi
#endif
#endif
    :: else
    fi;
    past[me] = true
  } unless { dead[me] }
}

#if DEATHS
active proctype killer() {
end:
  do
  :: d_step { deaths < DEATHS && !past[0] && !dead[0] -> dead[0] = true; deaths++ }
  :: d_step { deaths < DEATHS && !past[1] && !dead[1] -> dead[1] = true; deaths++ }
  od
}

/* the sweep of a committer that died: it may have changed its word or not; roll forward, then ring */
active proctype sweeper() {
  byte s;
end:
  do
  :: (dead[0] && !swept[0] || dead[1] && !swept[1]) ->
     if :: dead[0] && !swept[0] -> s = 0 :: dead[1] && !swept[1] -> s = 1 fi;
     d_step { if :: word < COMMITTERS -> word++ :: else -> skip fi };
#ifdef N_SWEEPBELL
     if :: ring -> d_step { count++; ring = 0 }; wakeall() :: else fi;   /* the dead may have cleared it and not woken */
#else
     d_step { count++; ring = 0 };
     wakeall();
#endif
     swept[s] = true
  od
}
#endif

init {
  byte i;
  atomic {
    run waiter(0,COMMITTERS);
    run waiter(1,1);
    do :: i < COMMITTERS -> run committer(i); i++ :: else -> break od
  }
}                                          /* a lost wake-up is a waiter asleep for ever: an invalid end state */
