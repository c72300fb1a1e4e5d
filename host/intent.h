/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_INTENT_H
#define HOST_INTENT_H

/*
 * Intents: what this session is about to take, noted in its slot before the claim and cleared after
 * the end, so that the service sweeps a dead session's leases without a scan of all words. Hints:
 * when one is lost (more threads than blocks, hostile bytes) the full sweep finds the word.
 *
 * Each thread has a block of 64 entries to itself, until more than 128 threads have used the pool.
 */

#include "host/pool.h"
#include "host/word.h"

#define PINTI_INTENT_NONE  UINT32_MAX
#define PINTI_INTENT_BLOCK 64u

struct pinti_intent_place {
    uint64_t session; /* pinti_intent_session() */
    pinti_a64 *entry; /* in the slot of that session: base + next */
    uint32_t base;
    uint32_t next; /* where to look first, inside the block */
};

extern __thread struct pinti_intent_place pinti_intent_mine
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

uint32_t pinti_intent_note_slow(pint_pool *pool, uint64_t intent);

/* A session as this very process has it: pool->serial is in the high half, the process in the low.
 * A thread that has a place of this number has been through pinti_pool_enter() in this process,
 * since pool->serial was given: no need to enter again. In a forked child the fork word differs,
 * whether the child has settled or not; after the child's rejoin pool->serial does. */
static inline uint64_t pinti_intent_session(const pint_pool *pool)
{
    /* relaxed: while a sibling rejoins neither value fits a number that this thread may have */
    return pinti_load64_relaxed(&pool->serial) + pinti_fork_word32();
}

/* Note an intent at this thread's own place. False: it has none in this session, or it is taken. No
 * calls, and no need to enter the pool before. */
static inline bool pinti_intent_note_fast(const pint_pool *pool, uint64_t intent,
                                          pinti_a64 **out_entry)
{
    const struct pinti_intent_place *mine = &pinti_intent_mine;
    if (__builtin_expect(mine->session == pinti_intent_session(pool), 1)) {
        pinti_a64 *entry = mine->entry;
        /* relaxed: only this thread fills its block; others only clear */
        if (__builtin_expect(pinti_load64_relaxed(entry) == 0, 1)) {
            pinti_store64_relaxed(entry, intent);
            *out_entry = entry;
            return true;
        }
    }
    return false;
}

/* Note an intent; returns its place, or PINTI_INTENT_NONE when all are taken (then the full sweep
 * must do). Ordered before the claim that follows by that claim's swap. */
static inline uint32_t pinti_intent_note(pint_pool *pool, uint64_t intent)
{
    pinti_a64 *entry;
    return __builtin_expect(pinti_intent_note_fast(pool, intent, &entry), 1)
               ? pinti_intent_mine.base + pinti_intent_mine.next
               : pinti_intent_note_slow(pool, intent);
}

/* NULL: none was noted. */
static inline void pinti_intent_clear_entry(pinti_a64 *entry)
{
    if (__builtin_expect(entry != NULL, 1)) {
        /* release: the words it spoke of are settled before it goes; read by the sweep at death */
        pinti_store64_release(entry, 0);
    }
}

static inline pinti_a64 *pinti_intent_entry(pint_pool *pool, uint32_t place)
{
    return place < PINTI_INTENTS ? &pinti_slot_intents(pool->slot)[place] : NULL;
}

static inline void pinti_intent_clear(pint_pool *pool, uint32_t place)
{
    pinti_intent_clear_entry(pinti_intent_entry(pool, place));
}

#endif
