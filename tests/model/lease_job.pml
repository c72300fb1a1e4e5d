/* SPDX-License-Identifier: Apache-2.0 */
/* lease_job.pml: column words, job words, undo buffers, death anywhere, sweep, restore.
 * Follows host/claim.h (column words), host/lease.c (plain leases), host/job_chunk.c (job words, undo,
 * operation locks), host/column.c (recover) and host/sweep.c.
 *
 * Every step below is one load, one store or one compare-and-swap of one word; a word's fields are
 * several Promela variables that only ever change together in one d_step. Variables marked "ghost"
 * exist in the model only. Death: `unless { dead[s] }` may cut in between any two steps.
 * Column 0 (X) is INOUT, column 1 (Y) is OUT. See README.md for the switches. */

#ifndef NC
#define NC 1          /* chunks */
#endif
#ifndef NJ
#define NJ 1          /* jobs over the same columns */
#endif
#ifndef NU
#define NU 1          /* undo buffers per job */
#endif
#ifndef DEATHS
#define DEATHS 2      /* sessions killed, at most */
#endif
#ifndef SKILLS
#define SKILLS 1      /* service incarnations killed, at most */
#endif
#ifndef UFAIL
#define UFAIL 0       /* pint_job_fail calls, at most */
#endif
#ifndef MAXA
#define MAXA 3        /* failures after which a chunk is FAILED */
#endif
#ifndef W2
#define W2 1          /* second mortal worker */
#endif
#ifndef FOREIGN
#define FOREIGN 0     /* plain leases taken by session 4 */
#endif

#define NW  (2*NC)
#define NK  (NJ*NC)
#define NUT (NJ*NU)
#define X(c) (c)
#define Y(c) (NC+(c))

/* column word states. *_TORN: held, and the host bytes were not good when it was claimed */
#define CLEAN         0
#define HELD          1
#define HELD_TORN     2
#define TORN          3
#define RESTORE       4
#ifdef N_JOBHELD                           /* one held state for plain leases and jobs */
#define JOB_HELD      1
#define JOB_HELD_TORN 2
#else
#define JOB_HELD      5
#define JOB_HELD_TORN 6
#endif
#define ISJOB(i)  (cs[i] == JOB_HELD || cs[i] == JOB_HELD_TORN)
#define ISHELD(i) (cs[i] == HELD || cs[i] == HELD_TORN || ISJOB(i))
/* job word states */
#define PENDING    0
#define CLAIMED    1
#define LEASED     2
#define COMMITTING 3
#define DONE       4
#define REDO       5
#define RESTORING  6
#define FAILED     7

byte cs[NW], ch[NW]; bit hv[NW] = 1;           /* column word: state, holder, host valid */
#ifdef DEV
bit dv[NW];                                /*   and: a device copy is valid */
#define DV(i) dv[i]
#define SETDV(i,b) dv[i] = b
#else
#define DV(i) false
#define SETDV(i,b) skip
#endif
/*   and: seq, 38 bits, moves with every change. Only the reader compares it, and only with the value it
 *   loaded: so it is one bit here, set by every change of X's word and cleared by the reader's load. */
#ifdef READER
bit moved;
#endif
#if defined(READER) && !defined(N_SEQ)
#define BUMP(i) moved = moved || i == 0
#else
#define BUMP(i) skip
#endif
byte js[NK], jh[NK], ju[NK], ja[NK];       /* job word: state, holder, undo (0: none), attempts */
byte uo[NUT+1], uk[NUT+1];                 /* undo word: session (0: free), chunk of the job */
byte d[2*NW], ud[2*(NUT+1)];               /* the bytes: two halves per chunk, per buffer */
bool dead[5], swept[5], gone[5];
byte deaths, skills, ufails; bool svckill, sbusy;
#ifdef REJECT
bit rejected[NK];                          /* ghost: never done, never handed out again */
#define REJOK(k) (!rejected[k] || (js[k] != LEASED && js[k] != COMMITTING && js[k] != DONE && js[k] != PENDING))
#else
#define REJOK(k) true
#endif
byte tv[2*NW]; bit eff[NK]; bit ptorn[NW]; /* ghost: newest committed bytes; effects; a plain lease died here */

/* operation locks (process memory, not shared): one job operation of a session at a time on a column of
 * a chunk. Plain leases take none. */
#ifdef LOCALS
bit lk[5*NW];
#ifdef N_LOCAL
#define LFREE(s,i) true
#define LSET(s,i,b) skip
#else
#define LFREE(s,i) (lk[(s)*NW+(i)] == 0)
#define LSET(s,i,b) lk[(s)*NW+(i)] = b
#endif
#else
#define LFREE(s,i) true
#define LSET(s,i,b) skip
#endif
#define LFREEJ(s,c) (LFREE(s,X(c)) && LFREE(s,Y(c)))
#define LSETJ(s,c,b) LSET(s,X(c),b); LSET(s,Y(c),b)

inline setc(i,st,h,v) { cs[i] = st; ch[i] = h; hv[i] = v; BUMP(i) }
inline setj(k,st,h,u,a) { js[k] = st; jh[k] = h; ju[k] = u; ja[k] = a }
inline sett(i,a,b) { tv[2*(i)] = a; tv[2*(i)+1] = b }
#define BADSTATE(i) (DV(i) -> CLEAN : TORN)
#define MIN(a) ((a) > MAXA -> MAXA : (a))
#ifdef SETS                                /* lease sets: no DONE, no FAILED, attempts do not matter */
#define ENDSTATE(k) PENDING
#define ENDATT(k) 0
#define COMMITTED PENDING
#define LAST(k) false
#else
#define ENDSTATE(k) (ja[k] >= MAXA -> FAILED : PENDING)
#define ENDATT(k) ja[k]
#define COMMITTED DONE
#define LAST(k) (ja[k] >= MAXA)
#endif

/* CAS of a word held for a job of s whose bytes nobody has touched since the claim */
inline untouched(i,s) {
  d_step { if :: ch[i] == s && cs[i] == JOB_HELD -> setc(i,CLEAN,0,1)
              :: ch[i] == s && cs[i] == JOB_HELD_TORN ->
#ifdef N_HELDTORN
                 setc(i,CLEAN,0,1)
#else
                 setc(i,BADSTATE(i),0,0)
#endif
              :: else -> skip fi } }
inline touched(i,s) { d_step { if :: ch[i] == s && ISJOB(i) -> setc(i,BADSTATE(i),0,0) :: else -> skip fi } }
inline forward(i,s) { d_step { if :: ch[i] == s && ISJOB(i) -> setc(i,CLEAN,0,1); SETDV(i,0) :: else -> skip fi } }

/* CAS a full-rewrite claim: from CLEAN or TORN */
#ifdef N_DEVBIT
#define CANOUT_HELD(i) (cs[i] == CLEAN)
#else
#define CANOUT_HELD(i) (cs[i] == CLEAN && hv[i])
#endif
#define CANOUT_BAD(i)  (!CANOUT_HELD(i) && (cs[i] == CLEAN || cs[i] == TORN))

/* holder `me` of RESTORING(me,u), with X held: put the old bytes back and give the chunk up */
inline putback(me,k,c,u,plus) {
  d[2*X(c)] = ud[2*u];
  d[2*X(c)+1] = ud[2*u+1];
#ifdef N_PUTBACK                           /* as first drafted: still RESTORING while the column goes CLEAN */
  untouched(X(c),me);
  d_step { setj(k,ENDSTATE(k),0,0,MIN(ja[k]+plus)); js[k] = ENDSTATE(k) };
#else
  d_step { setj(k,CLAIMED,me,0,MIN(ja[k]+plus)) };   /* from here the bytes are whole and u is not needed */
  untouched(X(c),me);
  d_step { setj(k,ENDSTATE(k),0,0,ENDATT(k)) };
#endif
  d_step { uo[u] = 0; uk[u] = 0 } }

/* CAS REDO -> RESTORING, undo word, INOUT column from RESTORE */
inline takeredo(me,k,c,u) {
  d_step { uo[u] = me; uk[u] = k };
  d_step { assert(cs[X(c)] == RESTORE); setc(X(c),JOB_HELD,me,0) } }

#ifdef ONLYOUT
#define XGHOST(c) skip
#else
#define XGHOST(c) tv[2*X(c)]++; tv[2*X(c)+1]++
#endif

#define JOBEND(k) (js[k] == DONE || js[k] == FAILED)
#if NC > 1
#define ALLEND(j) (JOBEND((j)*NC) && JOBEND((j)*NC+1))
#else
#define ALLEND(j) JOBEND((j)*NC)
#endif

proctype worker(byte me; byte j) {
  byte k, c, u;
#ifdef REJECT
  bool rejects;                            /* pint_job_reject: the last attempt, whatever came before */
#endif
#ifdef SETS
  byte n = SETS;                           /* leases still to be committed */
#endif
  {
    skip;
next:
    if
#ifdef SETS
    :: n == 0 -> goto finished
#define MORE n
#else
#define MORE true
#endif
    :: d_step { MORE && js[j*NC] == PENDING && LFREEJ(me,0) -> c = 0; k = j*NC; LSETJ(me,0,1); setj(k,CLAIMED,me,0,ja[k]) } -> goto claim
    :: d_step { MORE && js[j*NC] == REDO && LFREEJ(me,0) -> c = 0; k = j*NC; u = ju[k]; LSETJ(me,0,1); setj(k,RESTORING,me,u,ja[k]) } -> goto redo
#if NC > 1
    :: d_step { MORE && js[j*NC+1] == PENDING && LFREEJ(me,1) -> c = 1; k = j*NC+1; LSETJ(me,1,1); setj(k,CLAIMED,me,0,ja[k]) } -> goto claim
    :: d_step { MORE && js[j*NC+1] == REDO && LFREEJ(me,1) -> c = 1; k = j*NC+1; u = ju[k]; LSETJ(me,1,1); setj(k,RESTORING,me,u,ja[k]) } -> goto redo
#endif
#ifndef SETS
    :: ALLEND(j) -> goto finished
#endif
    fi;

claim: /* CLAIMED(me): column words, ascending, all or none */
#ifndef ONLYOUT
    if
    :: d_step { cs[X(c)] == CLEAN && hv[X(c)] -> setc(X(c),JOB_HELD,me,0) }
#ifndef N_RECOVER
    :: cs[X(c)] == TORN ->                 /* PINT_E_TORN to the caller, who calls pint_column_recover */
       d_step { setj(k,PENDING,0,0,ja[k]); LSETJ(me,c,0) };
       d_step { if :: cs[X(c)] == TORN -> setc(X(c),CLEAN,0,1); sett(X(c),d[2*X(c)],d[2*X(c)+1]); ptorn[X(c)] = 0 :: else -> skip fi;
                k = 0; c = 0 };
       goto next
#endif
#if NJ > 1
    :: cs[X(c)] == RESTORE ->     /* another job's chunk waits for its bytes: give back, restore for it */
       d_step { setj(k,PENDING,0,0,ja[k]); LSETJ(me,c,0) };
       if
       :: d_step { js[(1-j)*NC+c] == REDO && LFREEJ(me,c) -> k = (1-j)*NC+c; u = ju[k]; LSETJ(me,c,1); setj(k,RESTORING,me,u,ja[k]) };
          takeredo(me,k,c,u); putback(me,k,c,u,0); d_step { LSETJ(me,c,0); k = 0; c = 0; u = 0 }
       :: else -> d_step { k = 0; c = 0 }
       fi; goto next
#endif
    :: else -> goto unclaim0
    fi;
#endif
    if
    :: d_step { CANOUT_HELD(Y(c)) -> setc(Y(c),JOB_HELD,me,0) }
    :: d_step { CANOUT_BAD(Y(c)) -> setc(Y(c),JOB_HELD_TORN,me,0) }
    :: else -> goto unclaim1
    fi;
#ifndef ONLYOUT
    if
    :: d_step { uo[1+j*NU] == 0 -> u = 1+j*NU; uo[u] = me; uk[u] = k }
#if NU > 1
    :: d_step { uo[2+j*NU] == 0 -> u = 2+j*NU; uo[u] = me; uk[u] = k }
#endif
    :: else -> goto unclaim2
    fi;
    ud[2*u] = d[2*X(c)];
    ud[2*u+1] = d[2*X(c)+1];
#endif
    d_step { setj(k,LEASED,me,u,ja[k]) };
    goto body;

unclaim2:                                  /* only the words this claim took */
    skip; untouched(Y(c),me);
unclaim1:
    skip; untouched(X(c),me);
unclaim0:
    skip;
    d_step { setj(k,PENDING,0,0,ja[k]); LSETJ(me,c,0); k = 0; c = 0 };
    goto next;

redo: /* RESTORING(me,u) */
    takeredo(me,k,c,u);
    if
    :: LAST(k) -> putback(me,k,c,u,0); d_step { LSETJ(me,c,0); k = 0; c = 0; u = 0 }; goto next
    :: else -> skip
    fi;
    if
#ifndef N_REDOOUT
    :: d_step { CANOUT_HELD(Y(c)) -> setc(Y(c),JOB_HELD,me,0) }
    :: d_step { CANOUT_BAD(Y(c)) -> setc(Y(c),JOB_HELD_TORN,me,0) }
#else
    :: d_step { cs[Y(c)] == TORN -> setc(Y(c),JOB_HELD_TORN,me,0) }
#endif
    :: else ->                    /* somebody has Y: give X back as RESTORE, the job word as REDO */
#ifdef N_REDOCLEAN
       untouched(X(c),me);
#else
       d_step { setc(X(c),RESTORE,0,0) };
#endif
       d_step { setj(k,REDO,0,u,ja[k]); LSETJ(me,c,0); k = 0; c = 0; u = 0 }; goto next
    fi;
    d[2*X(c)] = ud[2*u];
    d[2*X(c)+1] = ud[2*u+1];
    d_step { setj(k,LEASED,me,u,ja[k]) };

body: /* the user's stores: x := x + 1 in two halves, y := 7 in two halves */
#ifndef ONLYOUT
    d[2*X(c)]++;
#endif
    d[2*Y(c)] = 7;
    if
    :: ufails < UFAIL -> ufails++; goto failed
#ifdef REJECT
    :: ufails < UFAIL -> d_step { ufails++; rejects = true }; goto failed
#endif
    :: skip
    fi;
#ifndef ONLYOUT
    d[2*X(c)+1]++;
#endif
    d[2*Y(c)+1] = 7;
#ifndef N_COMMIT
    d_step { setj(k,COMMITTING,me,u,ja[k]); XGHOST(c); sett(Y(c),7,7);   /* the commit point */
#ifndef SETS
             assert(!eff[k]);
#endif
             eff[k] = 1 };
#else
    d_step { XGHOST(c); sett(Y(c),7,7); eff[k] = 1; };
#endif
    forward(X(c),me);
    forward(Y(c),me);
    d_step { setj(k,COMMITTED,0,0,ENDATT(k)) };
    d_step { if :: u -> uo[u] = 0; uk[u] = 0 :: else -> skip fi;
#ifdef SETS
             n--;
#endif
             LSETJ(me,c,0); k = 0; c = 0; u = 0 };
    goto next;

failed: /* pint_job_fail: OUT columns are torn, INOUT columns are put back */
    skip;
#ifndef N_FAILOUT
    touched(Y(c),me);
#endif
#ifndef ONLYOUT
#ifdef REJECT
    d_step { setj(k,RESTORING,me,u,ja[k]);
             if
#ifndef N_REJECT
             :: rejects -> ja[k] = MAXA; rejected[k] = 1
#else
             :: rejects -> rejected[k] = 1
#endif
             :: else -> skip
             fi;
             rejects = false };
#else
    d_step { setj(k,RESTORING,me,u,ja[k]) };
#endif
#ifdef N_FAILOUT
    untouched(Y(c),me);
#endif
    putback(me,k,c,u,1);
#else
    d_step { setj(k,(ja[k]+1 >= MAXA -> FAILED : PENDING),0,0,ja[k]+1) };
#endif
    d_step { LSETJ(me,c,0); k = 0; c = 0; u = 0 };
    goto next;

finished:
    skip; d_step {
#ifndef SETS
      assert(ALLEND(j));
      assert(cs[X(0)] != RESTORE && cs[X(NC-1)] != RESTORE || NJ > 1);
#endif
      k = 0; c = 0; u = 0; gone[me] = true }
  } unless { dead[me] }
}

/* a plain lease without undo: on X (read and write) or Y (full rewrite) */
proctype foreign(byte me; byte n) {
  byte k, c, i, u; bit col;
  {
    do
    :: n == 0 -> break
    :: n > 0 -> n--;
       if :: c = 0
#if NC > 1
          :: c = 1
#endif
       fi;
       if :: col = 0 :: col = 1 fi;
       i = (col -> Y(c) : X(c));
again:
       if
       :: d_step { cs[i] == CLEAN && hv[i] -> setc(i,HELD,me,0) }
       :: d_step { col && CANOUT_BAD(i) -> setc(i,HELD_TORN,me,0) }
       :: cs[i] == TORN && !col -> goto out    /* error TORN to the caller */
#ifndef N_HELP
       :: d_step { cs[i] == RESTORE && js[c] == REDO && LFREEJ(me,c) -> k = c; u = ju[k]; LSETJ(me,c,1); setj(k,RESTORING,me,u,ja[k]) };
          takeredo(me,k,c,u); putback(me,k,c,u,0); d_step { LSETJ(me,c,0); k = 0; u = 0 }; goto again
#if NJ > 1
       :: d_step { cs[i] == RESTORE && js[NC+c] == REDO && LFREEJ(me,c) -> k = NC+c; u = ju[k]; LSETJ(me,c,1); setj(k,RESTORING,me,u,ja[k]) };
          takeredo(me,k,c,u); putback(me,k,c,u,0); d_step { LSETJ(me,c,0); k = 0; u = 0 }; goto again
#endif
       :: cs[i] == RESTORE && !LFREEJ(me,c) -> goto out   /* error BUSY: an operation of this process is at it */
#endif
       :: ISHELD(i) -> goto out            /* error BUSY */
       fi;
       d[2*i] = (col -> 5 : d[2*i]+16);
       d[2*i+1] = (col -> 5 : d[2*i+1]+16);
       d_step { assert(ch[i] == me && ISHELD(i)); sett(i,d[2*i],d[2*i+1]); setc(i,CLEAN,0,1); SETDV(i,0) };
out:   skip; d_step { k = 0; c = 0; i = 0; u = 0; col = 0 }
    od;
    skip;
    d_step { if :: me == 4 -> gone[me] = true :: else -> skip fi }
  } unless { dead[me] }
}

#define TODO(s) (dead[s] && !swept[s])
#define SREF(k,u) (ju[k] == u)

/* the service: one sweep of one dead session; may be killed anywhere and then starts again */
active proctype sweeper() {
  byte s, k, i, u, kk;
#ifdef LOST
  bit all;                                 /* first what the intents list, some of them lost; then everything */
#define ALLWORDS all
#else
#define ALLWORDS true
#endif
again:
  {
    skip;
endidle:
    if
    :: d_step { TODO(1) -> s = 1; sbusy = true }
    :: d_step { TODO(2) -> s = 2; sbusy = true }
    :: d_step { TODO(4) -> s = 4; sbusy = true }
    fi;
#ifdef N_PLAINFIRST
    i = 0;
    do :: i < NW -> d_step { if :: ch[i] == s -> setc(i,BADSTATE(i),0,0) :: else -> skip fi; i++ } :: else -> break od;
    i = 0;
#endif
#ifdef LOST
round:
#endif
    skip;
    k = 0;                                 /* pass 1: job words */
    do
#ifdef LOST
    :: k < NK && !all && jh[k] == s -> k++ /* its intent was lost */
#endif
    :: k < NK && jh[k] == s && js[k] == CLAIMED ->
#ifdef N_JOBFIRST
       d_step { setj(k,ENDSTATE(k),0,0,ENDATT(k)) };
       untouched(X(k%NC),s); untouched(Y(k%NC),s);
#else
       untouched(X(k%NC),s);
       untouched(Y(k%NC),s);
       d_step { setj(k,ENDSTATE(k),0,0,ENDATT(k)) };
#endif
       k++
    :: k < NK && jh[k] == s && (js[k] == LEASED || js[k] == RESTORING) ->
#ifdef N_JOBFIRST
       d_step { i = k; setj(k,REDO,0,ju[k],MIN(ja[k]+1)) };
#endif
#ifndef ONLYOUT
#ifdef N_NOUNDO
       touched(X(k%NC),s);
#else
       d_step { if :: ch[X(k%NC)] == s && ISJOB(X(k%NC)) -> setc(X(k%NC),RESTORE,0,0) :: else -> skip fi };
#endif
#endif
       touched(Y(k%NC),s);
#ifndef N_JOBFIRST
       d_step {
         if
#ifdef N_NOUNDO
         :: true -> cs[X(k%NC)] = CLEAN; hv[X(k%NC)] = 1; setj(k,PENDING,0,0,MIN(ja[k]+1))
#else
         :: ju[k] == 0 -> ja[k] = MIN(ja[k]+1); setj(k,ENDSTATE(k),0,0,ENDATT(k))
#ifdef N_FAILEDEARLY
         :: ju[k] && ja[k]+1 >= MAXA -> setj(k,FAILED,0,0,MAXA)
         :: ju[k] && ja[k]+1 < MAXA -> setj(k,REDO,0,ju[k],MIN(ja[k]+1))
#else
         :: ju[k] -> setj(k,REDO,0,ju[k],MIN(ja[k]+1))
#endif
#endif
         fi };
#endif
       k++
    :: k < NK && jh[k] == s && js[k] == COMMITTING ->
       forward(X(k%NC),s);
       forward(Y(k%NC),s);
       d_step { setj(k,COMMITTED,0,0,ENDATT(k)) };
       k++
    :: k < NK && jh[k] != s -> k++
    :: k == NK -> break
    od;
    skip;
    d_step { k = 0; i = 0 };
    do                                     /* pass 2: what is left is plain leases */
    :: i < NW ->
       d_step {
         if
         :: ch[i] == s && (cs[i] == HELD || cs[i] == HELD_TORN) -> ptorn[i] = 1; setc(i,BADSTATE(i),0,0)
#ifndef N_JOBHELD
#ifdef N_LISTEDALL
         :: ch[i] == s && ISJOB(i) -> setc(i,BADSTATE(i),0,0)
#else
         :: ALLWORDS && ch[i] == s && ISJOB(i) -> assert(false)   /* no job word spoke for it: cannot be */
#endif
#endif
         :: else -> skip
         fi;
         i++ }
    :: else -> break
    od;
    skip;
#ifdef LOST
    if :: !all -> all = 1; i = 0; goto round :: else -> all = 0 fi;
#endif
    d_step { i = 0; u = 1 };
    do                                     /* pass 3: undo words nobody refers to */
    :: u <= NUT && uo[u] == s ->
       kk = uk[u];
       if
       :: SREF(kk,u) -> skip
#ifdef N_UNDOSTORE
       :: !SREF(kk,u) -> d_step { uo[u] = 0; uk[u] = 0 }
#else
       :: !SREF(kk,u) -> d_step { if :: uo[u] == s && uk[u] == kk -> uo[u] = 0; uk[u] = 0 :: else -> skip fi }
#endif
       fi;
       d_step { kk = 0; u++ }
    :: u <= NUT && uo[u] != s -> u++
    :: u > NUT -> break
    od;
    skip;
    d_step { swept[s] = true; s = 0; u = 0; sbusy = false }
  } unless { d_step { svckill -> svckill = false; s = 0; k = 0; i = 0; u = 0; kk = 0; sbusy = false;
#ifdef LOST
    all = 0
#endif
  } };
  goto again
}

active proctype killer() {
end:
  do
  :: d_step { deaths < DEATHS && !gone[1] && !dead[1] -> dead[1] = true; deaths++ }
#if W2
  :: d_step { deaths < DEATHS && !gone[2] && !dead[2] -> dead[2] = true; deaths++ }
#endif
#if FOREIGN && !defined(NOW3)
  :: d_step { deaths < DEATHS && !gone[4] && !dead[4] -> dead[4] = true; deaths++ }
#endif
  :: d_step { skills < SKILLS && sbusy && !svckill -> svckill = true; skills++ }
  od
}

#ifdef READER
/* optimistic read of X: the whole word before, the bytes, the whole word again */
active proctype reader() {
  byte a, b, n = READER, st; bit v;
  do
  :: n > 0 -> n--;
#ifdef N_READSTATE
     d_step { moved = 0; st = cs[0]; v = hv[0] };
#else
end: d_step { cs[0] == CLEAN && hv[0] -> moved = 0; st = cs[0]; v = hv[0] };
#endif
     a = d[0];
     b = d[1];
     d_step { if :: !moved && st == cs[0] && v == hv[0] -> assert(a == tv[0] && b == tv[1]) :: else -> skip fi };
     d_step { a = 0; b = 0; st = 0; v = 0 }
  :: n == 0 -> break
  od
}
#endif

#define WORDOK(i) (ISHELD(i) == (ch[i] != 0) && \
                   (!(cs[i] == CLEAN && hv[i]) || (d[2*(i)] == tv[2*(i)] && d[2*(i)+1] == tv[2*(i)+1])) && \
                   (cs[i] == CLEAN || !hv[i]) && (!(cs[i] == CLEAN && !hv[i]) || DV(i)))
#define JOBOK(k,c) ((js[k] != REDO || (ju[k] && cs[X(c)] == RESTORE && jh[k] == 0)) && \
                    REJOK(k) && (js[k] != DONE || eff[k]) && (js[k] != FAILED || !eff[k]) && \
                    (js[k] != LEASED || dead[jh[k]] || (ch[Y(c)] == jh[k] || ufails) && \
                      (ju[k] == 0 || ch[X(c)] == jh[k] && cs[X(c)] == JOB_HELD && uo[ju[k]] == jh[k] && uk[ju[k]] == k)) && \
                    (cs[X(c)] != TORN || ptorn[X(c)]))
#if NK > 1
#define NOSHARE (ju[0] == 0 || ju[0] != ju[1])
#else
#define NOSHARE true
#endif
#if NC > 1
#define INV (WORDOK(0) && WORDOK(1) && WORDOK(2) && WORDOK(3) && JOBOK(0,0) && JOBOK(1,1) && NOSHARE)
#elif NJ > 1
#define INV (WORDOK(0) && WORDOK(1) && JOBOK(0,0) && JOBOK(1,0) && NOSHARE)
#else
#define INV (WORDOK(0) && WORDOK(1) && JOBOK(0,0))
#endif
active proctype monitor() { end: d_step { !(INV) -> assert(INV) } }

#define OVER(s) (gone[s] || swept[s])

#ifdef LOCALS
#define LASTLOOK (dead[1] && swept[1])
#else
#define LASTLOOK true
#endif

init {
  byte i;
  atomic {
#ifdef DEV
    d_step { hv[Y(0)] = 0; dv[Y(0)] = 1; sett(Y(0),9,9) };
#endif
    run worker(1,0);
#if W2
    run worker(2,(NJ > 1 -> 1 : 0));
#else
    gone[2] = true;
#endif
#ifdef NOW3
    gone[3] = true;
#else
    run worker(3,0);
#endif
#if NJ > 1
    run worker(1,1);                       /* session 1 has a second thread, on the other job */
#endif
#ifdef PLAIN1
    run foreign(1,PLAIN1);                 /* session 1 has a second thread, with plain leases */
#endif
#if FOREIGN
    run foreign(4,FOREIGN);
#else
    gone[4] = true;
#endif
  };
#if defined(LOCALS) || defined(NOW3)
end:                                       /* these runs may stop early: the states on the way matter */
#endif
#ifdef SETS
#define JOBSOVER true
#else
#define JOBSOVER (JOBEND(0) && JOBEND(NK-1))
#endif
  (OVER(1) && OVER(2) && OVER(3) && OVER(4) && JOBSOVER && LASTLOOK);
  d_step {
    i = 1;
    do :: i <= NUT -> assert(uo[i] == 0 || js[uk[i]] == REDO && ju[uk[i]] == i); i++ :: else -> break od;
    i = 0;
    do :: i < NW -> assert(cs[i] == CLEAN || cs[i] == TORN || cs[i] == RESTORE && (js[i%NC] == REDO || js[(NJ-1)*NC+i%NC] == REDO)); i++ :: else -> break od;
    i = 0
  }
}

#ifdef LIVE
ltl fin { <> gone[3] }
#endif
