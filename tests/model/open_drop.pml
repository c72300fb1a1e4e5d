/* SPDX-License-Identifier: Apache-2.0 */
/* open_drop.pml: one-sided open against drop, publish-replace, rename, reuse and service restart.
 * Follows host/catalog.c (lookup), host/table.c (open, close) and host/pool.c (pinti_ref_take); the service's side
 * is ipc/service/catalog_table.c (changes, journal), catalog_index.c (index, repair) and catalog_reap.c.
 *
 * One load, store or compare-and-swap of one word per step. Record word {generation, state}; slot word
 * {generation, count} per session and record; index entry {tag of a name, record}; the record's name is read as
 * one, its sequence lock taken as right; 0: being changed. "ghost": in the model only.
 * Service incarnations die anywhere (RESTARTS) and are followed by one that maps the same catalog;
 * UPGRADE: one is followed by a service with a new catalog while clients still read the old, frozen one. */

#ifndef OPS
#define OPS 2         /* things the service does to names */
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef TRIES
#define TRIES 2       /* lookups of one open, then it asks the service */
#endif
#ifndef THREADS
#define THREADS 2     /* of session 0, each opens and closes once */
#endif
#ifndef SESSION1
#define SESSION1 0    /* a second session with one thread */
#endif
#ifdef UPGRADE
#define NCAT 2
#else
#define NCAT 1
#endif
#define NR 2          /* records */
#define NP 2          /* index positions */
#define NT 3          /* client threads, at most */
#define NS 2
#define A 1
#define B 2

#define FREE 0
#define BUILDING 1
#define LIVE 2
#define DYING 3

byte rg[NCAT*NR], rs[NCAT*NR];             /* record words */
byte rn[NCAT*NR];                          /* names in the records */
byte en[NCAT*NP], er[NCAT*NP];             /* index entries */
byte iseq[NCAT];                           /* odd while the index is being rearranged */
byte sg[NS*NR], sc[NS*NR];                 /* slot words */
bit se[NS];                                /* slot's epoch word: catalogs of another epoch are stale */
bit map[NS];                               /* process memory: the catalog this session maps */
bit cat;                                   /* the catalog the service writes */
byte jop, jn, jr, jx;                      /* the service's journal, in the catalog */
bool up;                                   /* the upgrade has happened */
bool kill, ready; byte kills, done;
byte mem[NR];                              /* ghost: generation whose memory exists, 0: freed */
byte names[NR];                            /* ghost: names this generation has had, as bits */
bool ex[3];                                /* ghost: the name logically exists */
bool pub[NR];                              /* ghost: the table must be reachable by some name */
bool gap[NT]; byte look[NT];               /* ghost: the name looked for was away for a moment */
#ifdef N_CLEARSTALE
#define CLEARED 1
#else
#define CLEARED 0
#endif

#define RS(r) rs[cat*NR+(r)]
#define RG(r) rg[cat*NR+(r)]
#define RN(r) rn[cat*NR+(r)]
#define EN(p) en[cat*NP+(p)]
#define ER(p) er[cat*NP+(p)]
inline exists(n,b) { ex[n] = b; if :: !b -> if :: look[0] == n -> gap[0] = true :: else fi; if :: look[1] == n -> gap[1] = true :: else fi; if :: look[2] == n -> gap[2] = true :: else fi :: else fi }

proctype client(byte t; byte s) {
  byte n, i, g, p, tries, s0; bit c, unsure;
#ifdef ONLYA
  n = A;
#else
  if :: n = A :: n = B fi;
#endif
retry:
  skip;
  d_step { i = 0; g = 0; p = 0; s0 = 0; unsure = 0; look[t] = 0 };
  if :: tries == TRIES -> goto out :: else -> tries++ fi;
  c = map[s];
  d_step { s0 = iseq[c]; gap[t] = !ex[n]; look[t] = n; p = 0 };
  do
  :: d_step { p < NP && en[c*NP+p] == n -> i = er[c*NP+p] };
#ifdef N_BINDGEN                           /* the generation is read after the name was compared */
     if
     :: rn[c*NR+i] == n ->
        if
        :: d_step { rs[c*NR+i] == LIVE -> g = rg[c*NR+i] }; break
        :: else -> p++
        fi
     :: else -> d_step { if :: rn[c*NR+i] == 0 -> unsure = 1 :: else -> skip fi; p++ }
     fi
#else
     if
     :: d_step { rs[c*NR+i] == LIVE -> g = rg[c*NR+i] };
#ifdef N_NAMECHECK
        break
#else
        if
        :: rn[c*NR+i] == n -> break
        :: else -> d_step { if :: rn[c*NR+i] == 0 -> unsure = 1 :: else -> skip fi; p++ }
        fi
#endif
     :: else -> p++
     fi
#endif
  :: d_step { p < NP && en[c*NP+p] != n -> p++ }
  :: p == NP ->
#ifdef UPGRADE
     if :: se[s] != (CLEARED -> 0 : c) -> goto stale :: else fi;
#endif
     if :: unsure -> goto retry :: else fi;
#ifndef N_INDEXSEQ
     if :: (s0 & 1) || iseq[c] != s0 -> goto retry :: else fi;
#endif
     assert(gap[t]);                       /* a trusted miss: the name really was away */
     goto out
  od;
  skip;
  if
  :: d_step { sc[s*NR+i] == 0 -> sg[s*NR+i] = g; sc[s*NR+i] = 1 }
  :: d_step { sc[s*NR+i] && sg[s*NR+i] == g -> sc[s*NR+i]++ }
#ifdef N_OVERWRITE
  :: d_step { sc[s*NR+i] && sg[s*NR+i] < g -> sg[s*NR+i] = g; sc[s*NR+i] = 1 }
  :: sc[s*NR+i] && sg[s*NR+i] > g -> goto retry
#else
#ifdef N_OLDGEN
  :: sc[s*NR+i] && sg[s*NR+i] != g -> assert(sg[s*NR+i] > g); goto retry
#else
  :: sc[s*NR+i] && sg[s*NR+i] != g -> goto retry    /* a sibling thread is on its way out of another generation */
#endif
#endif
  fi;
#ifndef N_REREAD
  if :: rs[c*NR+i] != LIVE || rg[c*NR+i] != g -> goto undo :: else fi;
#endif
#ifdef UPGRADE
  if :: se[s] != (CLEARED -> 0 : c) -> d_step { assert(sc[s*NR+i]); sc[s*NR+i]-- }; goto stale :: else fi;
#endif
  assert(mem[i] == g && (names[i] & n));   /* in use: this table, under this name */
  assert(mem[i] == g);
  d_step { assert(sc[s*NR+i] && sg[s*NR+i] == g); sc[s*NR+i]-- };
  goto out;
undo:
  skip;
  d_step { assert(sc[s*NR+i]); sc[s*NR+i]-- };
  goto retry;
#ifdef UPGRADE
stale: /* ask the service: map the new catalog */
  map[s] = 1;
  if :: CLEARED -> se[s] = 0 :: else fi;
  goto retry;
#endif
out:
  skip;
  d_step { look[t] = 0; n = 0; i = 0; g = 0; p = 0; s0 = 0; c = 0; unsure = 0; tries = 0; done++ }
}

inline insert(n,r) {                       /* an entry, into any free position */
  if
  :: d_step { EN(0) == 0 -> er[cat*NP] = r; en[cat*NP] = n; publish(n,r) }
  :: d_step { EN(1) == 0 -> er[cat*NP+1] = r; en[cat*NP+1] = n; publish(n,r) }
  :: else -> assert(false)
  fi }
inline publish(n,r) { if :: RN(r) == n -> exists(n,true); pub[r] = true; names[r] = names[r] | n :: else -> skip fi }
inline clearat(p,n,r) { d_step { if :: EN(p) == n && ER(p) == r -> en[cat*NP+p] = 0; er[cat*NP+p] = 0 :: else -> skip fi } }
inline setrec(r,st) { d_step { rs[cat*NR+r] = st } }
inline odd()  { d_step { if :: iseq[cat] & 1 -> skip :: else -> iseq[cat]++ fi } }
inline even() { d_step { if :: iseq[cat] & 1 -> iseq[cat]++ :: else -> skip fi } }
inline removeentry(n,r) { odd(); clearat(0,n,r); clearat(1,n,r); even() }
inline build(r,n) { d_step { rg[cat*NR+r]++; rs[cat*NR+r] = BUILDING; mem[r] = RG(r); names[r] = n; rn[cat*NR+r] = n } }
inline setdying(r) { d_step { if :: RS(1-r) == LIVE && RN(1-r) == RN(r) -> skip :: else -> exists(RN(r),false) fi;
                              pub[r] = false; rs[cat*NR+r] = DYING } }
inline setname(r,n,m) {                    /* from n to m */
  rn[cat*NR+r] = 0;
  d_step { rn[cat*NR+r] = m; names[r] = names[r] | m; if :: n != m -> exists(n,false) :: else -> skip fi; exists(m,true) } }

/* 1 drop(n,r)  2 replace(n,r by x)  3 create(n,r)  4 rename(n,r to x)  5 move(n,r from position x); 2 and 4 are
 * journalled in the catalog, of the rest the next incarnation's repair of the index takes care */
#define TABSENT(n) (EN(0) != n && EN(1) != n)

inline perform() {
  if
  :: op == 1 ->
     setdying(or);
     removeentry(on,or)
  :: op == 2 ->
     build(ox,on);
     d_step { jop = 2; jn = on; jr = or; jx = ox };
     d_step { rs[cat*NR+ox] = LIVE; pub[ox] = true };
     odd();
     d_step { if :: EN(0) == on -> er[cat*NP] = ox :: EN(1) == on -> er[cat*NP+1] = ox fi };
     d_step { pub[or] = false; rs[cat*NR+or] = DYING };
     even();
     d_step { jop = 0; jn = 0; jr = 0; jx = 0 }
  :: op == 3 ->
     build(or,on);
     setrec(or,LIVE);
     insert(on,or)
  :: op == 4 ->
     d_step { jop = 4; jn = on; jr = or; jx = ox };
#ifdef N_RENAMEORDER
     setname(or,on,ox); insert(ox,or);
#else
     insert(ox,or); setname(or,on,ox);
#endif
     removeentry(on,or);
     d_step { jop = 0; jn = 0; jr = 0; jx = 0 }
  :: op == 5 ->                            /* a removal moves another's entry up */
     odd();
     d_step { assert(EN(1-ox) == 0); er[cat*NP+1-ox] = or; en[cat*NP+1-ox] = on };
     clearat(ox,on,or);
     even()
  fi;
  d_step { op = 0; on = 0; or = 0; ox = 0 } }

#define LIVES(r) (RS(r) == LIVE)
#define FOUND(r) (!LIVES(r) || EN(0) && ER(0) == r && EN(0) == RN(r) || EN(1) && ER(1) == r && EN(1) == RN(r))
#define ENTRIES ((EN(0) -> 1 : 0) + (EN(1) -> 1 : 0))
#define RIGHT (FOUND(0) && FOUND(1) && ENTRIES == LIVES(0) + LIVES(1) && !(iseq[cat] & 1))

/* the next incarnation: journal, then the index (pinti_cat_rebuild); what was being made belongs to nobody */
inline rebuild() {
#ifndef N_JOURNAL
#ifndef N_REPLAYEVEN                       /* misses do not count from before the replay to after the repair */
  if :: jop -> odd() :: else -> skip fi;
#endif
  if
  :: jop == 4 -> setname(jr,jn,jx)
  :: jop == 2 -> setrec(jx,LIVE); d_step { pub[jx] = true; pub[jr] = false; rs[cat*NR+jr] = DYING }
  :: else -> skip
  fi;
#endif
  d_step { jop = 0; jn = 0; jr = 0; jx = 0 };
  if
  :: RIGHT -> skip
  :: else ->
     odd();
     d_step { en[cat*NP] = 0; er[cat*NP] = 0 };
     d_step { en[cat*NP+1] = 0; er[cat*NP+1] = 0 };
     if :: LIVES(0) -> insert(RN(0),0) :: else -> skip fi;
     if :: LIVES(1) -> insert(RN(1),1) :: else -> skip fi;
     even()
  fi;
  d_step { if :: RS(0) == BUILDING -> rs[cat*NR] = DYING :: else -> skip fi; if :: RS(1) == BUILDING -> rs[cat*NR+1] = DYING :: else -> skip fi } }

#ifdef ONLYA
#define defonlya true
#else
#define defonlya false
#endif
#define ROOM (EN(0) == 0 || EN(1) == 0)
#define NODYING (RS(0) != DYING && RS(1) != DYING)
#define ALLDONE (done == THREADS + SESSION1)

#define RECORDOK(r) (RS(r) == FREE && mem[r] == 0 || RS(r) == LIVE && pub[r] && RN(r) && mem[r] == RG(r))
#define ONENAME (!(LIVES(0) && LIVES(1) && RN(0) == RN(1)))

active proctype service() {
  byte ops, r, s, op, on, or, ox; bit busy, once;
  ready;
again:
  {
    skip;
#if defined(UPGRADE) && !defined(N_STALE) && !defined(N_STALEONCE)
    if :: up -> se[0] = 1; se[1] = 1 :: else fi;   /* every incarnation, first of all: its predecessor may have died before */
#endif
    if :: kills -> rebuild() :: else fi;
    do
#define NEWOP(cond,o,n,r,x) d_step { !op && ops < OPS && (cond) -> ops++; op = o; on = n; or = r; ox = x }
#define OPSFOR(p) \
    :: NEWOP(EN(p) && RS(ER(p)) == LIVE, 1, EN(p), ER(p), 0) \
    :: NEWOP(EN(p) && RS(ER(p)) == LIVE && RS(1-ER(p)) == FREE, 2, EN(p), ER(p), 1-ER(p)) \
    :: NEWOP(EN(p) && RS(ER(p)) == LIVE && TABSENT(3-EN(p)) && ROOM && !defonlya, 4, EN(p), ER(p), 3-EN(p)) \
    :: NEWOP(EN(p) && RS(ER(p)) == LIVE && EN(1-p) == 0, 5, EN(p), ER(p), p)
    :: op -> perform()
    OPSFOR(0)
    OPSFOR(1)
    :: NEWOP(RS(0) == FREE && TABSENT(A) && ROOM, 3, A, 0, 0)
    :: NEWOP(RS(1) == FREE && TABSENT(A) && ROOM, 3, A, 1, 0)
#ifndef ONLYA
    :: NEWOP(RS(0) == FREE && TABSENT(B) && ROOM, 3, B, 0, 0)
    :: NEWOP(RS(1) == FREE && TABSENT(B) && ROOM, 3, B, 1, 0)
#endif
    :: !op && (RS(0) == DYING || RS(1) == DYING) && !once ->   /* the timer: read every slot again */
       if :: RS(0) == DYING -> r = 0 :: RS(1) == DYING -> r = 1 fi;
       s = 0; busy = 0;
       do
       :: s < NS -> d_step { busy = busy || (sc[s*NR+r] && sg[s*NR+r] == RG(r)); s++ }
       :: s == NS -> break
       od;
       skip;
#ifdef N_RESCAN
       once = busy;
#endif
       if
       :: !busy -> d_step { mem[r] = 0 }; setrec(r,FREE)
       :: else -> skip
       fi;
       r = 0; s = 0; busy = 0
#ifdef UPGRADE
    :: !op && !up ->
       d_step {
         rs[NR] = rs[0]; rs[NR+1] = rs[1]; rn[NR] = rn[0]; rn[NR+1] = rn[1]; rg[NR] = rg[0]; rg[NR+1] = rg[1]; iseq[1] = iseq[0];
         en[NP] = en[0]; en[NP+1] = en[1]; er[NP] = er[0]; er[NP+1] = er[1];
         cat = 1; up = true };
#ifdef N_STALELATE
       if :: d_step { ops < OPS && RS(1) == FREE && TABSENT(B) && ROOM -> ops++; op = 3; on = B; or = 1; ox = 0 } -> perform() :: skip fi;
#endif
#ifndef N_STALE
       se[0] = 1;                          /* before its first change of any kind */
       se[1] = 1
#endif
#endif
    :: !op && ALLDONE && (NODYING || once) && !kill -> break
    od
  } unless { d_step { kill -> kill = false; r = 0; s = 0; busy = 0; op = 0; on = 0; or = 0; ox = 0 }; goto again }
#ifndef LIVE_
  /* everything dropped has been freed, everything else has a name, the index is at rest */
  assert(RECORDOK(0) && RECORDOK(1) && ONENAME && !(iseq[cat] & 1))
#else
  skip
#endif
}

#if RESTARTS
active proctype killer() {
end: do :: d_step { kills < RESTARTS && !kill && !ALLDONE -> kill = true; kills++ } od
}
#endif

#define REACHED(r,p) (EN(p) && (ER(p) == r && (EN(p) == RN(r) || RN(r) == 0) || EN(p) == RN(r) && RN(ER(p)) == RN(r)))
#define REACH(r) (!pub[r] || (iseq[cat] & 1) || REACHED(r,0) || REACHED(r,1))
active proctype monitor() { end: d_step { !(REACH(0) && REACH(1)) -> assert(REACH(0) && REACH(1)) } }

init {
  atomic {
    d_step { rs[0] = LIVE; rg[0] = 1; mem[0] = 1; rn[0] = A; en[1] = A; er[1] = 0; ex[A] = true; pub[0] = true; names[0] = A };
    run client(0,0);
#if THREADS > 1
    run client(1,0);
#endif
#if SESSION1
    run client(2,1);
#endif
    ready = true
  }
}

#ifdef LIVE_
ltl freed { <> (done == THREADS + SESSION1 && rs[0] != DYING && rs[1] != DYING) }
#endif
