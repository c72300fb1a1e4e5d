/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_CLAIM_H
#define HOST_CLAIM_H

/*
 * One chunk word through the states in which the host writes (host/word.h); coherence.h has those
 * of devices. Used by leases, jobs and the sweep.
 *
 *            claim                         commit
 *   CLEAN ----------> HELD / JOB_HELD ----------------> CLEAN
 *     ^                 |     |  \___ unclaim (nothing was written) __> CLEAN
 *     |         abandon |     |
 *     |         death   v     | death, abandon: HELD
 *     |                 |     v
 *     |  recover        |    LOST --claim to rewrite--> HELD_TORN / JOB_HELD_TORN --commit--> CLEAN
 *     +-----------------|-----+                            \__ unclaim, death, abandon __> LOST
 *     |                 v
 *     |              RESTORE   (JOB_HELD with undo: the old bytes are in an undo buffer)
 *     +---- restore ----+
 *
 *   LOST   the host's bytes are no good: TORN when no device has the newest ones, else CLEAN with
 *          the host not among the places ("ahead"), which a push mends, too. Recover is for TORN.
 *
 * Whoever holds a word is the only one to change it; after its death, the sweep. But for one thing:
 * the service takes a device that is gone out of the mask at any time (pinti_copy_forget()). So the
 * end of a hold is tried again when nothing but device bits has changed.
 *
 * The host leaves the set of places with the newest bytes at the claim; devices stay in it, so that
 * death can go back to them. At the commit the host is the only place (R4).
 */

#include "host/table.h"
#include "host/wait.h"
#include "host/word.h"

enum pinti_claim {
    PINTI_CLAIMED = 0,
    PINTI_CLAIM_BUSY = 1,    /* somebody holds it */
    PINTI_CLAIM_TORN = 2,    /* torn; allowed to a full rewrite */
    PINTI_CLAIM_RESTORE = 3, /* old bytes must be put back first */
    PINTI_CLAIM_AHEAD = 4,   /* the newest bytes are on devices only; allowed to a full rewrite */
    PINTI_CLAIM_FROZEN = 5,  /* the table was frozen; the claim was taken back */
};

/* R6, R7: take the word for session. for_job chooses JOB_HELD; may_be_torn: the whole chunk will be
 * rewritten, so that the host's bytes need not be good; is_restorer: take it from RESTORE.
 * *out_word: as claimed. */
static inline enum pinti_claim pinti_chunk_claim(pinti_a64 *word, uint32_t session, bool for_job,
                                                 bool may_be_torn, bool is_restorer,
                                                 uint64_t *out_word)
{
    /* acquire: bytes committed before are visible to the new holder; pairs with pinti_chunk_commit
     */
    uint64_t now = pinti_load64_acquire(word);
    for (;;) {
        uint32_t state = for_job ? PINTI_CHUNK_JOB_HELD : PINTI_CHUNK_HELD;
        uint64_t mask = (now & PINTI_CHUNK_MASK) | PINTI_HOST_STALE;
        const uint32_t old = pinti_chunk_state(now);
        if (__builtin_expect(old != PINTI_CHUNK_CLEAN || (now & PINTI_HOST_STALE) != 0, 0)) {
            if (old == PINTI_CHUNK_RESTORE) {
                if (!is_restorer) {
                    return PINTI_CLAIM_RESTORE;
                }
                mask = PINTI_HOST_STALE;
            } else if (old != PINTI_CHUNK_CLEAN && old != PINTI_CHUNK_TORN) {
                return PINTI_CLAIM_BUSY;
            } else if (!may_be_torn) {
                return old == PINTI_CHUNK_TORN ? PINTI_CLAIM_TORN : PINTI_CLAIM_AHEAD;
            } else {
                state = for_job ? PINTI_CHUNK_JOB_HELD_TORN : PINTI_CHUNK_HELD_TORN;
                mask = old == PINTI_CHUNK_TORN ? PINTI_HOST_STALE : mask;
            }
        }
        const uint64_t next = pinti_chunk_next(now, state, session, mask);
        /* seq, hence acquire: the claim comes before the holder's stores; a failure means another
         * claimer was faster and now is its word */
        if (__builtin_expect(pinti_cas64_seq(word, &now, next), 1)) {
            *out_word = next;
            return PINTI_CLAIMED;
        }
    }
}

/* How a hold ends. */
enum pinti_hold_end {
    PINTI_HOLD_COMMIT,  /* the host alone has the newest bytes */
    PINTI_HOLD_UNCLAIM, /* nothing was written: as before the claim */
    PINTI_HOLD_TEAR,    /* the places that left the mask at the claim cannot be trusted */
    PINTI_HOLD_RESTORE  /* nor these, but the old ones lie in an undo buffer */
};

/* What held becomes. */
static inline uint64_t pinti_chunk_after(uint64_t held, enum pinti_hold_end end)
{
    const uint32_t state = pinti_chunk_state(held);
    const bool was_bad = state == PINTI_CHUNK_HELD_TORN || state == PINTI_CHUNK_JOB_HELD_TORN;
    /* those that still have the committed bytes: what is written left the mask at the claim */
    const uint64_t places = pinti_chunk_places(held);
    if (end == PINTI_HOLD_COMMIT) {
        return pinti_chunk_next(held, PINTI_CHUNK_CLEAN, 0, 0);
    }
    if (end == PINTI_HOLD_RESTORE) {
        return pinti_chunk_next(held, PINTI_CHUNK_RESTORE, 0, PINTI_HOST_STALE);
    }
    return pinti_chunk_settled(
        held, end == PINTI_HOLD_UNCLAIM && !was_bad ? places | PINTI_PLACE_HOST : places);
}

/* Is now the same hold as held, though a device may have gone from its mask? */
static inline bool pinti_chunk_is_same_hold(uint64_t now, uint64_t held)
{
    return ((now ^ held) & ~(PINTI_CHUNK_MASK & ~PINTI_HOST_STALE)) == 0;
}

/* The swap failed: again while only device bits have changed. */
bool pinti_chunk_end_slow(pinti_a64 *word, uint64_t held, enum pinti_hold_end end);

/* One swap. False: not held as claimed, or a device has gone. */
static inline bool pinti_chunk_end_once(pinti_a64 *word, uint64_t held, enum pinti_hold_end end)
{
    /* seq, hence release: the holder's stores come before; pairs with the acquire loads of claimers
     * and readers */
    return pinti_cas64_seq(word, &held, pinti_chunk_after(held, end));
}

/* False: not held as claimed. */
static inline bool pinti_chunk_end(pinti_a64 *word, uint64_t held, enum pinti_hold_end end)
{
    return __builtin_expect(pinti_chunk_end_once(word, held, end), 1) ||
           pinti_chunk_end_slow(word, held, end);
}

/* Publish what the holder wrote. False, here and below: not held as claimed. */
static inline bool pinti_chunk_commit(pinti_a64 *word, uint64_t claimed)
{
    return pinti_chunk_end(word, claimed, PINTI_HOLD_COMMIT);
}

/* Give back a claim under which nothing was written. */
static inline bool pinti_chunk_unclaim(pinti_a64 *word, uint64_t claimed)
{
    return pinti_chunk_end(word, claimed, PINTI_HOLD_UNCLAIM);
}

/* End a hold that may have written, also a dead one on a device: torn, unless a place still has the
 * committed bytes. */
static inline bool pinti_chunk_tear(pinti_a64 *word, uint64_t held)
{
    return pinti_chunk_end(word, held, PINTI_HOLD_TEAR);
}

/* End a job's hold whose old bytes lie in an undo buffer. */
static inline bool pinti_chunk_to_restore(pinti_a64 *word, uint64_t held)
{
    return pinti_chunk_end(word, held, PINTI_HOLD_RESTORE);
}

/* What a failed claim means to a caller who does not wait. */
pint_status pinti_claim_fail(enum pinti_claim claim, const char *operation,
                             const pinti_column_desc *column, uint64_t chunk, pint_error *err);

#endif
