/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the service does to the words of device copies: for the dead, and for copies that go. Words
 * are changed by compare-and-swap only, copiers after words, slots after reader bits: either may be
 * cut off anywhere and run again.
 */

#include "host/claim.h"
#include "host/coherence.h"

static void clear_bits(pinti_a64 *readers, uint64_t bits)
{
    uint64_t now = pinti_load64_acquire(readers);
    /* seq, hence release: the dead read no more; pairs with the looks of pullers and writers */
    while (!pinti_cas64_seq(readers, &now, now & ~bits)) {
    }
}

/* End a hold of the dead. One that was about to put host and device into one mask may not have
 * looked at the views yet (writable_view.h): of the two the host stays. Which device that is the
 * copier tells; if it tells of another hold, no device stays. */
static bool end_device_hold(pinti_a64 *at, uint64_t held, bool is_this_copys, uint64_t device)
{
    uint64_t now = held;
    while (pinti_chunk_is_same_hold(now, held)) {
        uint64_t places = pinti_chunk_places(now);
        if ((places & PINTI_PLACE_HOST) != 0) {
            places &= is_this_copys ? ~device : PINTI_PLACE_HOST;
        }
        /* seq, hence release: the dead write no more; pairs with the acquire loads of claimers */
        if (pinti_cas64_seq(at, &now, pinti_chunk_settled(now, places))) {
            return true;
        }
    }
    return false;
}

bool pinti_copy_sweep(pinti_copy_sync *sync, pinti_copy_chunk *chunks, pinti_a64 *words,
                      uint32_t n_chunks, uint32_t device, uint32_t session)
{
    uint64_t bits = 0;
    bool has_changed = false;
    if (session == 0) {
        return false;
    }
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        bits |= pinti_load32_acquire(&sync->xslots[i]) == session ? 1ull << i : 0;
    }
    for (uint32_t i = 0; i < n_chunks; i++) {
        const uint64_t word = pinti_load64_acquire(&words[i]);
        uint64_t copier = pinti_load64_acquire(&chunks[i].xcopier);
        /* The word may be held by way of another copy: then, too, nothing of its hold runs any
         * more. Words before copiers: while the copier is taken, nobody works there. */
        if (pinti_chunk_state(word) == PINTI_CHUNK_DEVICE_HELD &&
            pinti_chunk_holder(word) == session) {
            const bool is_here = copier == pinti_copier(session, PINTI_COPIER_WRITE, word) ||
                                 copier == pinti_copier(session, PINTI_COPIER_PUSH, word);
            has_changed =
                end_device_hold(&words[i], word, is_here, pinti_place_bit(device)) || has_changed;
        }
        if (copier != 0 && pinti_copier_session(copier) == session) {
            has_changed = pinti_cas64_seq(&chunks[i].xcopier, &copier, 0) || has_changed;
        }
        if ((pinti_load64_acquire(&chunks[i].xreaders) & bits) != 0) {
            clear_bits(&chunks[i].xreaders, bits);
            has_changed = true;
        }
    }
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        if ((bits >> i & 1u) != 0) { /* last: the next owner's bits are all clear */
            pinti_store32_release(&sync->xslots[i], 0);
        }
    }
    return has_changed;
}

void pinti_copy_forget(pinti_copy_chunk *chunks, pinti_a64 *words, uint32_t n_chunks,
                       uint32_t device)
{
    const uint64_t bit = pinti_place_bit(device);
    for (uint32_t i = 0; i < n_chunks; i++) {
        /* seq: after DYING, before the word; an operation that takes the copier later sees DYING */
        const uint64_t copier = pinti_load64_seq(&chunks[i].xcopier);
        uint64_t now = pinti_load64_seq(&words[i]);
        for (;;) {
            const uint32_t state = pinti_chunk_state(now);
            const uint64_t places = pinti_chunk_places(now) & ~bit;
            const bool is_writer =
                state == PINTI_CHUNK_DEVICE_HELD &&
                copier == pinti_copier(pinti_chunk_holder(now), PINTI_COPIER_WRITE, now);
            uint64_t next;
            if (state == PINTI_CHUNK_CLEAN ? (now & bit) != 0 || copier != 0 : is_writer) {
                next = pinti_chunk_settled(now, places);
            } else if ((now & bit) != 0) {
                next = now & ~bit; /* held by somebody who is not concerned: seq stays */
            } else {
                break;
            }
            if (pinti_cas64_seq(&words[i], &now, next)) {
                break;
            }
        }
    }
}

bool pinti_copy_is_needed(const pinti_copy_chunk *chunks, const pinti_a64 *words, uint32_t n_chunks,
                          uint32_t device)
{
    const uint64_t bit = pinti_place_bit(device);
    for (uint32_t i = 0; i < n_chunks; i++) {
        /* seq: both after DYING; the copier first: a writer's word is d's before it gives it up */
        const uint64_t copier = pinti_load64_seq(&chunks[i].xcopier);
        const uint64_t word = pinti_load64_seq(&words[i]);
        const uint32_t state = pinti_chunk_state(word);
        /* of a chunk that the host had when it was claimed, d has what death would go back to, no
         * more */
        const bool is_host_writing = state == PINTI_CHUNK_HELD || state == PINTI_CHUNK_JOB_HELD;
        if (pinti_chunk_places(word) == bit && !is_host_writing) {
            return true;
        }
        if (state == PINTI_CHUNK_DEVICE_HELD && copier != 0 &&
            pinti_copier_session(copier) == pinti_chunk_holder(word)) {
            return true;
        }
    }
    return false;
}
