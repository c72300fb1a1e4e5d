/* SPDX-License-Identifier: Apache-2.0 */

/* Finding a free place for an intent: see intent.h. */

#include "host/intent.h"

__thread struct pinti_intent_place pinti_intent_mine
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

uint32_t pinti_intent_note_slow(pint_pool *pool, uint64_t intent)
{
    struct pinti_intent_place *mine = &pinti_intent_mine;
    if (mine->session != pinti_intent_session(pool)) {
        const uint32_t n =
            atomic_fetch_add_explicit(&pool->intent_hint, PINTI_INTENT_BLOCK, memory_order_relaxed);
        mine->session = pinti_intent_session(pool);
        mine->base = n % PINTI_INTENTS;
        mine->next = 0;
        mine->entry = pinti_intent_entry(pool, mine->base);
    }
    pinti_a64 *entries = pinti_slot_intents(pool->slot);
    for (uint32_t i = 0; i < PINTI_INTENT_BLOCK; i++) {
        const uint32_t at = (mine->next + i) % PINTI_INTENT_BLOCK;
        uint64_t empty = 0;
        if (pinti_cas64_seq(&entries[mine->base + at], &empty, intent)) {
            mine->next = at;
            mine->entry = &entries[mine->base + at];
            return mine->base + at;
        }
    }
    for (uint32_t at = 0; at < PINTI_INTENTS; at++) { /* a thread with over 64 leases */
        uint64_t empty = 0;
        if (pinti_load64_relaxed(&entries[at]) == 0 &&
            pinti_cas64_seq(&entries[at], &empty, intent)) {
            return at;
        }
    }
    return PINTI_INTENT_NONE;
}
