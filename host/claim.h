/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_CLAIM_H
#define HOST_CLAIM_H

/*
 * One chunk word through its states (host/word.h). Used by leases, jobs and the sweep.
 *
 *            claim                         commit
 *   CLEAN ----------> HELD / JOB_HELD ----------------> CLEAN
 *     ^                 |     |  \___ unclaim (nothing was written) __> CLEAN
 *     |         abandon |     |
 *     |         death   v     | death, abandon: HELD
 *     |                 |     v
 *     |  recover        |    TORN --claim to rewrite--> HELD_TORN / JOB_HELD_TORN --commit--> CLEAN
 *     +-----------------|-----+                            \__ unclaim, death, abandon __> TORN
 *     |                 v
 *     |              RESTORE   (JOB_HELD with undo: the old bytes are in an undo buffer)
 *     +---- restore ----+
 *
 * Whoever holds a word is the only one to change it; after its death, the sweep. The host leaves
 * the set of places with newest bytes at the claim and comes back at the commit (R4).
 */

#include "host/table.h"
#include "host/wait.h"
#include "host/word.h"

enum pinti_claim {
    PINTI_CLAIMED = 0,
    PINTI_CLAIM_BUSY = 1,    /* somebody holds it */
    PINTI_CLAIM_TORN = 2,    /* torn, and torn was not allowed */
    PINTI_CLAIM_RESTORE = 3, /* old bytes must be put back first */
    PINTI_CLAIM_AHEAD = 4,   /* the newest bytes are on a device */
    PINTI_CLAIM_FROZEN = 5,  /* the table was frozen; the claim was taken back */
};

/* R6, R7: take the word for session. for_job chooses JOB_HELD; may_be_torn: the whole chunk will be
 * rewritten; is_restorer: take it from RESTORE. *out_word: as claimed. */
static inline enum pinti_claim pinti_chunk_claim(pinti_a64 *word, uint32_t session, bool for_job,
                                                 bool may_be_torn, bool is_restorer,
                                                 uint64_t *out_word)
{
    /* acquire: bytes committed before are visible to the new holder; pairs with pinti_chunk_commit
     */
    uint64_t now = pinti_load64_acquire(word);
    for (;;) {
        uint32_t state = for_job ? PINTI_CHUNK_JOB_HELD : PINTI_CHUNK_HELD;
        const uint32_t old = pinti_chunk_state(now);
        if (__builtin_expect(old != PINTI_CHUNK_CLEAN, 0)) {
            if (old == PINTI_CHUNK_TORN) {
                if (!may_be_torn) {
                    return PINTI_CLAIM_TORN;
                }
                state = for_job ? PINTI_CHUNK_JOB_HELD_TORN : PINTI_CHUNK_HELD_TORN;
            } else if (old == PINTI_CHUNK_RESTORE) {
                if (!is_restorer) {
                    return PINTI_CLAIM_RESTORE;
                }
            } else {
                return PINTI_CLAIM_BUSY;
            }
        } else if (__builtin_expect((now & PINTI_HOST_STALE) != 0, 0)) {
            return PINTI_CLAIM_AHEAD;
        }
        const uint64_t next =
            pinti_chunk_next(now, state, session, (now & PINTI_CHUNK_MASK) | PINTI_HOST_STALE);
        /* seq, hence acquire: the claim comes before the holder's stores; a failure means another
         * claimer was faster and now is its word */
        if (__builtin_expect(pinti_cas64_seq(word, &now, next), 1)) {
            *out_word = next;
            return PINTI_CLAIMED;
        }
    }
}

/* Publish what the holder wrote. False: not held as claimed. */
static inline bool pinti_chunk_commit(pinti_a64 *word, uint64_t claimed)
{
    /* seq, hence release: the holder's stores come before; pairs with the acquire loads of claimers
     * and readers. The mask becomes the host alone. */
    return pinti_cas64_seq(word, &claimed, pinti_chunk_next(claimed, PINTI_CHUNK_CLEAN, 0, 0));
}

/* Give back a claim under which nothing was written. */
static inline bool pinti_chunk_unclaim(pinti_a64 *word, uint64_t claimed)
{
    const uint32_t state = pinti_chunk_state(claimed);
    const bool was_torn = state == PINTI_CHUNK_HELD_TORN || state == PINTI_CHUNK_JOB_HELD_TORN;
    const uint64_t next = was_torn
                              ? pinti_chunk_next(claimed, PINTI_CHUNK_TORN, 0, PINTI_HOST_STALE)
                              : pinti_chunk_next(claimed, PINTI_CHUNK_CLEAN, 0,
                                                 claimed & PINTI_CHUNK_MASK & ~PINTI_HOST_STALE);
    return pinti_cas64_seq(word, &claimed, next);
}

/* End a hold that may have written: the bytes cannot be trusted. */
static inline bool pinti_chunk_tear(pinti_a64 *word, uint64_t held)
{
    return pinti_cas64_seq(word, &held,
                           pinti_chunk_next(held, PINTI_CHUNK_TORN, 0, PINTI_HOST_STALE));
}

/* End a job's hold whose old bytes lie in an undo buffer. */
static inline bool pinti_chunk_to_restore(pinti_a64 *word, uint64_t held)
{
    return pinti_cas64_seq(word, &held,
                           pinti_chunk_next(held, PINTI_CHUNK_RESTORE, 0, PINTI_HOST_STALE));
}

/* What a failed claim means to a caller who does not wait. */
pint_status pinti_claim_fail(enum pinti_claim claim, const char *operation,
                             const pinti_column_desc *column, uint64_t chunk, pint_error *err);

#endif
