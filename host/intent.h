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
    uint64_t session; /* pool->serial */
    uint32_t base;
    uint32_t next; /* where to look first, inside the block */
};

extern __thread struct pinti_intent_place pinti_intent_mine
    __attribute__((tls_model("initial-exec")));

uint32_t pinti_intent_note_slow(pint_pool *pool, uint64_t intent);

/* Note an intent at this thread's own place, if it is free; else PINTI_INTENT_NONE. No calls. */
static inline uint32_t pinti_intent_note_fast(pint_pool *pool, uint64_t intent)
{
    const struct pinti_intent_place *mine = &pinti_intent_mine;
    if (__builtin_expect(mine->session == pool->serial, 1)) {
        const uint32_t place = mine->base + mine->next;
        pinti_a64 *entry = &pinti_slot_intents(pool->slot)[place];
        /* relaxed: only this thread fills its block; others only clear */
        if (__builtin_expect(pinti_load64_relaxed(entry) == 0, 1)) {
            pinti_store64_relaxed(entry, intent);
            return place;
        }
    }
    return PINTI_INTENT_NONE;
}

/* Note an intent; returns its place, or PINTI_INTENT_NONE when all are taken (then the full sweep
 * must do). Ordered before the claim that follows by that claim's swap. */
static inline uint32_t pinti_intent_note(pint_pool *pool, uint64_t intent)
{
    const uint32_t place = pinti_intent_note_fast(pool, intent);
    return __builtin_expect(place != PINTI_INTENT_NONE, 1) ? place
                                                           : pinti_intent_note_slow(pool, intent);
}

static inline void pinti_intent_clear(pint_pool *pool, uint32_t place)
{
    if (place < PINTI_INTENTS) {
        /* release: the words it spoke of are settled before it goes; read by the sweep at death */
        pinti_store64_release(&pinti_slot_intents(pool->slot)[place], 0);
    }
}

#endif
