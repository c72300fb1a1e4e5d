/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the service does to the words of device copies: for the dead, and for copies that go. Words
 * are changed by compare-and-swap only, copiers after words, slots after reader bits: all of it may
 * be cut off anywhere and run again.
 */

#include "host/claim.h"
#include "host/coherence.h"

/* ---- the dead, and copies that are gone ------------------------------------------------------ */

static void clear_bits(pinti_a64 *readers, uint64_t bits)
{
    uint64_t now = pinti_load64_acquire(readers);
    /* seq, hence release: the dead read no more; pairs with the looks of pullers and writers */
    while (!pinti_cas64_seq(readers, &now, now & ~bits)) {
    }
}

/* End a hold of the dead. One that was about to put host and device into one mask may not have
 * looked at the views yet (writable_view.h): of the two the host stays. The end of a write or a
 * pull adds one device, which the copier tells; that of a push adds the host to all there are. So
 * after a push, and if the copier tells of another hold, no device stays. */
static bool end_device_hold(pinti_a64 *at, uint64_t held, bool is_write_here, uint64_t device)
{
    uint64_t now = held;
    while (pinti_chunk_is_same_hold(now, held)) {
        uint64_t places = pinti_chunk_places(now);
        if ((places & PINTI_PLACE_HOST) != 0) {
            places &= is_write_here ? ~device : PINTI_PLACE_HOST;
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
            const bool is_write_here = copier == pinti_copier(session, PINTI_COPIER_WRITE, word);
            has_changed =
                end_device_hold(&words[i], word, is_write_here, pinti_place_bit(device)) ||
                has_changed;
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
            if (!is_writer && (now & bit) == 0) {
                break;
            }
            if (is_writer || state == PINTI_CHUNK_CLEAN) {
                next = pinti_chunk_settled(now, places);
            } else {
                next = now & ~bit; /* held by somebody who is not concerned: seq stays */
            }
            if (pinti_cas64_seq(&words[i], &now, next)) {
                break;
            }
        }
    }
}

/* ---- can it go? ------------------------------------------------------------------------------ */

/* A word that changes under every look has somebody who works on it. */
#define LOOKS_MAX 100

static enum pinti_copy_use look_at_chunk(const pinti_copy_chunk *chunk, const pinti_a64 *word,
                                         uint64_t bit)
{
    for (int n = 0; n < LOOKS_MAX; n++) {
        /* seq: all three after CLOSING. Who began before has his copier word or reader bit still,
         * or has ended, and the word shows what he left. */
        const uint64_t now = pinti_load64_seq(word);
        if (pinti_load64_seq(&chunk->xcopier) != 0 || pinti_load64_seq(&chunk->xreaders) != 0) {
            return PINTI_COPY_IN_USE;
        }
        const uint32_t state = pinti_chunk_state(now);
        if (state == PINTI_CHUNK_DEVICE_HELD && pinti_load64_seq(word) != now) {
            continue; /* it may have been held here, and the copier word given back in between */
        }
        /* Now a hold is by way of another copy: that one's copier word would have been seen. */
        if (pinti_chunk_places(now) != bit) {
            return PINTI_COPY_IDLE;
        }
        switch (state) {
        case PINTI_CHUNK_CLEAN:
            return PINTI_COPY_AHEAD;
        case PINTI_CHUNK_HELD_TORN: /* the host has not what death would go back to: d has */
        case PINTI_CHUNK_JOB_HELD_TORN:
        case PINTI_CHUNK_DEVICE_HELD:
            return PINTI_COPY_IN_USE;
        default:
            /* a chunk that the host had when it was claimed: d has what death would go back to, no
             * more than any host chunk has */
            return PINTI_COPY_IDLE;
        }
    }
    return PINTI_COPY_IN_USE;
}

enum pinti_copy_use pinti_copy_use_of(const pinti_copy_chunk *chunks, const pinti_a64 *words,
                                      uint32_t n_chunks, uint32_t device)
{
    const uint64_t bit = pinti_place_bit(device);
    enum pinti_copy_use use = PINTI_COPY_IDLE;
    for (uint32_t i = 0; i < n_chunks && use != PINTI_COPY_IN_USE; i++) {
        const enum pinti_copy_use here = look_at_chunk(&chunks[i], &words[i], bit);
        use = here != PINTI_COPY_IDLE ? here : use;
    }
    return use;
}

/* ---- strays ---------------------------------------------------------------------------------- */

static bool is_stray_copier(uint64_t copier, const pinti_copy_users *users)
{
    const uint32_t session = pinti_copier_session(copier);
    const uint32_t kind = pinti_copier_kind(copier);
    const bool is_one = kind == PINTI_COPIER_CLAIM
                            ? copier == pinti_copier(session, kind, 0)
                            : (kind == PINTI_COPIER_PUSH || kind == PINTI_COPIER_WRITE) &&
                                  copier == pinti_copier(session, kind, copier);
    return copier != 0 && !(is_one && users->refers(users->context, session));
}

/* The slots as they are, and the bits of those that belong to a session that refers to the copy. */
static uint64_t look_at_slots(const pinti_copy_sync *sync, const pinti_copy_users *users,
                              uint32_t slots[PINTI_COPY_READERS])
{
    uint64_t good = 0;
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        slots[i] = pinti_load32_seq(&sync->xslots[i]);
        good |= slots[i] != 0 && users->refers(users->context, slots[i]) ? 1ull << i : 0;
    }
    return good;
}

bool pinti_copy_has_strays(const pinti_copy_sync *sync, const pinti_copy_chunk *chunks,
                           uint32_t n_chunks, const pinti_copy_users *users)
{
    uint32_t slots[PINTI_COPY_READERS];
    const uint64_t good = look_at_slots(sync, users, slots);
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        if (slots[i] != 0 && (good >> i & 1u) == 0) {
            return true;
        }
    }
    for (uint32_t i = 0; i < n_chunks; i++) {
        if (is_stray_copier(pinti_load64_acquire(&chunks[i].xcopier), users) ||
            (pinti_load64_acquire(&chunks[i].xreaders) & ~good) != 0) {
            return true;
        }
    }
    return false;
}

bool pinti_copy_clear_strays(pinti_copy_sync *sync, pinti_copy_chunk *chunks, uint32_t n_chunks,
                             const pinti_copy_users *users)
{
    uint32_t slots[PINTI_COPY_READERS];
    bool has_changed = false;
    /* Slots before bits: whoever reads by right took his slot, and refers to the copy, before the
     * record was CLOSING. */
    const uint64_t good = look_at_slots(sync, users, slots);
    for (uint32_t i = 0; i < n_chunks; i++) {
        /* seq: before the look at the session's reference */
        uint64_t copier = pinti_load64_seq(&chunks[i].xcopier);
        if (is_stray_copier(copier, users)) {
            has_changed = pinti_cas64_seq(&chunks[i].xcopier, &copier, 0) || has_changed;
        }
        if ((pinti_load64_seq(&chunks[i].xreaders) & ~good) != 0) {
            clear_bits(&chunks[i].xreaders, ~good);
            has_changed = true;
        }
    }
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        if (slots[i] != 0 && (good >> i & 1u) == 0) { /* last: the next owner's bits are clear */
            has_changed = pinti_cas32_seq(&sync->xslots[i], &slots[i], 0) || has_changed;
        }
    }
    return has_changed;
}
