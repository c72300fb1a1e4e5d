/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_COHERENCE_H
#define HOST_COHERENCE_H

/*
 * Host and device copies of a chunk: who may read, write and copy where (R4;
 * tests/model/coherence.pml). Shared words only: nothing here knows what a device is, copies a byte
 * of data, or blocks. device/ drives it. docs/device.md draws it.
 *
 *   chunk word (host/word.h)   mask of places that hold the newest committed bytes whole
 *   copy chunk (layout.h)      xcopier: who changes or copies the chunk on the device;
 *                              xreaders: who reads it there
 *
 * A place leaves the mask before anyone writes into it, and enters it when it holds the newest
 * bytes whole. Never are two places in the mask when they differ.
 *
 *   read on d   reader bit := 1; then word: CLEAN, d in mask; work; reader bit := 0
 *   hold        copier := me; word -> DEVICE_HELD, seq+1; then readers of d; work;
 *               word -> CLEAN, seq+1; copier := 0
 *
 *               may begin when CLEAN and       readers of d    afterwards
 *     pull      host in mask, d not            none            mask | d
 *     push      d in mask, host not            any             mask | host
 *     change    d or host in mask              own only        d alone
 *     replace   always; also when TORN         own only        d alone
 *
 *   meanwhile d is not in the mask, but for push: that writes to the host
 *   death, cancel   DEVICE_HELD -> seq+1, holder 0: CLEAN if a place is left in the mask (rolled
 *               back to it), else TORN; copier, reader bits of the dead := 0
 *
 * "Then" is the heart of it: each side says what it does first, and looks at the other after, both
 * seq, so that at least one of two sees the other.
 *
 * The same rule for host leases without undo (claim.h): where a device still holds the committed
 * bytes, a dead holder's chunk is not torn but newest there.
 *
 * A copy goes in two steps, and whoever begins here looks at its record after his first change:
 *
 *   record   who begins      service, then
 *   LIVE     goes on         -> CLOSING; looks whether it is in use, or ahead: if so -> LIVE again
 *   CLOSING  BUSY            -> DYING; pinti_copy_forget() takes it out of all words
 *   DYING    GONE            another copy of the column on that device may be made
 *
 * Either he sees CLOSING, or the service sees him. If he does, he gives back exactly what he took,
 * d's place in the mask, too. That is right also when DYING comes meanwhile: he looked before it,
 * and at that time his copier word named his hold, so forget ends the hold (his giving back is
 * LOST), or comes after it and takes the place out. When he sees DYING, the place is not this
 * copy's any more, and he leaves it out. A copy that must go (its broker is dead) is DYING at once,
 * and takes holds with it.
 *
 * Completed work only: a caller commits a push, a pull or a write, and ends a read, after the
 * stream has passed it. Cancel likewise: what was enqueued must not run any more.
 *
 * All calls ring the table's bell when they give something back, also after an attempt that failed.
 */

#include <stdbool.h>

#include "host/table.h"
#include "host/word.h"

/* A device copy as this process sees it: filled and checked once, by pinti_copy_describe(). */
typedef struct pinti_copy_desc {
    const pinti_table_desc *table;
    const pinti_column_desc *column;
    const pinti_copy_rec *rec;
    pinti_copy_sync *sync;
    pinti_copy_chunk *chunks; /* n_chunks */
    uint32_t n_chunks;
    uint32_t device;     /* place in the mask: bit 1 + device of the chunk word */
    uint32_t slot;       /* reader slot; set by pinti_copy_slot_take(), PINTI_COPY_READERS: none */
    uint32_t index;      /* copy record */
    uint32_t generation; /* of it */
} pinti_copy_desc;

static inline uint64_t pinti_place_bit(uint32_t device)
{
    return 2ull << device;
}

/* Bound-check a copy's record against the pool, table and column. The session refers to the copy
 * (its slot) from before until after. PINT_E_CORRUPT; PINT_E_PERMISSION in a pool joined read-only,
 * whose words cannot be changed; PINT_E_DROPPED when the record is not of this generation. */
pint_status pinti_copy_describe(const pint_pool *pool, uint32_t index, uint32_t generation,
                                const pint_column *column, pinti_copy_desc *out_copy,
                                pint_error *err);

/* Take a reader slot for this session; PINT_E_LIMIT. Give it back after all brackets ended. One is
 * enough for a process, and one that reads and writes the same chunk must use only one. */
pint_status pinti_copy_slot_take(pinti_copy_desc *copy, pint_error *err);
void pinti_copy_slot_give(pinti_copy_desc *copy);

enum pinti_coherence {
    PINTI_COH_OK = 0,
    PINTI_COH_THERE = 1, /* pull, push: nothing to do, the place has the newest bytes */
    PINTI_COH_BUSY = 2,  /* somebody holds, copies or reads, or the copy may be about to be dropped:
                            wait on the table's bell */
    PINTI_COH_PULL = 3,  /* read, write: the device must be brought up to date first */
    PINTI_COH_PUSH = 4,  /* pull, own_host: the host must be brought up to date first, from a device
                            that is in the mask; push: that is another device than this one */
    PINTI_COH_TORN = 5,
    PINTI_COH_RESTORE = 6, /* old bytes must be put back first (pinti_chunk_restore()) */
    PINTI_COH_FROZEN = 7,
    PINTI_COH_LOST = 8, /* commit, cancel: not held as claimed (the copy was dropped) */
    PINTI_COH_GONE = 9  /* the copy was dropped: open it anew */
};

/* chunk < copy->n_chunks always. A commit ends the operation whatever it returns. */

/*
 * Holding a chunk, until pulled(), push_commit(), write_commit(), the cancel of one of these, or
 * give_back() when nothing was done.
 *
 * PULL is for a reader that goes on on the same stream before anybody has looked whether the copy
 * is complete: it must keep host writers out while the copy runs, or it reads half of what they
 * store. The host stays in the mask, and may be read there. CHANGE copies the host's bytes first
 * where the device does not have the newest. REPLACE will write every row: the device need not be
 * up to date, the chunk may be torn.
 *
 * PULL and PUSH also on a frozen table. Readers of other sessions are in the way of PULL, CHANGE
 * and REPLACE, those of this session of PULL alone: callers of one process keep their own readers
 * apart from their writers.
 */
enum pinti_device_use {
    PINTI_TAKE_TO_PULL,
    PINTI_TAKE_TO_CHANGE,
    PINTI_TAKE_TO_REPLACE,
    PINTI_TAKE_TO_PUSH
};

typedef struct pinti_taken {
    uint64_t word; /* as held: for the commit or cancel */
    enum pinti_device_use use;
    bool had_device; /* d was in the mask; if not, TO_CHANGE needs a copy first */
} pinti_taken;

/* What pinti_device_take() would say now. Takes nothing and rings nothing: for those who wait, so
 * that they do not wake each other for ever. */
enum pinti_coherence pinti_device_look(const pinti_copy_desc *copy, uint64_t chunk,
                                       enum pinti_device_use use);

enum pinti_coherence pinti_device_take(pinti_copy_desc *copy, uint64_t chunk,
                                       enum pinti_device_use use, pinti_taken *out_taken);

/* What was taken is as it was; where d was not in the mask its bytes may have been changed. */
enum pinti_coherence pinti_device_give_back(pinti_copy_desc *copy, uint64_t chunk,
                                            const pinti_taken *taken);
enum pinti_coherence pinti_device_pulled(pinti_copy_desc *copy, uint64_t chunk, uint64_t word);
enum pinti_coherence pinti_device_write_commit(pinti_copy_desc *copy, uint64_t chunk,
                                               uint64_t word);
/* The device may have been written, and does not have the newest bytes any more. */
enum pinti_coherence pinti_device_write_cancel(pinti_copy_desc *copy, uint64_t chunk,
                                               uint64_t word);
enum pinti_coherence pinti_push_commit(pinti_copy_desc *copy, uint64_t chunk, uint64_t word);
/* The host may have been written: the chunk is newest on the device, as before. */
enum pinti_coherence pinti_push_cancel(pinti_copy_desc *copy, uint64_t chunk, uint64_t word);

/* Of a chunk that this process holds: may what was copied be older than stores through a writable
 * view (writable_view.h)? */
bool pinti_hold_is_older_than_views(const pinti_copy_desc *copy, uint64_t chunk);

/*
 * Reading, with a slot taken. The bit is the session's: callers of one process count among
 * themselves, per chunk, which of them is the last, and only he ends. Each of them begins, though:
 * the device may have gone out of date since the first one did. A begin that fails leaves the bit
 * as it was.
 */
enum pinti_coherence pinti_device_read_begin(pinti_copy_desc *copy, uint64_t chunk);
void pinti_device_read_end(pinti_copy_desc *copy, uint64_t chunk);

/* Set the bit of a chunk that this session holds: the reading goes on when the hold has ended. */
void pinti_device_read_join(pinti_copy_desc *copy, uint64_t chunk);

/* The host alone, from now on: takes all devices out of the mask (seq+1). Host must be in it. */
enum pinti_coherence pinti_own_host(pinti_copy_desc *copy, uint64_t chunk);

/* ---- for the service, on the mapped sync segment ------------------------------------------------
 * Arrays are bound-checked by the caller. All may be cut off anywhere and run again. */

/* What a dead session leaves in one copy: to be called for each copy it referred to, when none of
 * its streams can run any more on any device (R9). Returns whether a bell must be rung, always. */
bool pinti_copy_sweep(pinti_copy_sync *sync, pinti_copy_chunk *chunks, pinti_a64 *words,
                      uint32_t n_chunks, uint32_t device, uint32_t session);

/* What stands in the way of dropping a copy. */
enum pinti_copy_use {
    PINTI_COPY_IDLE,
    PINTI_COPY_IN_USE, /* somebody reads or holds a chunk there, or its death would go back to it */
    PINTI_COPY_AHEAD   /* a chunk at rest is newest on this device alone */
};

/* IN_USE before AHEAD. While the record is CLOSING an answer stays true, but for host leases: one
 * that is abandoned or dies may fall back to a device whose copy was found IDLE. Else a hint. */
enum pinti_copy_use pinti_copy_use_of(const pinti_copy_chunk *chunks, const pinti_a64 *words,
                                      uint32_t n_chunks, uint32_t device);

/*
 * Strays: what a hostile or broken session left in copier words, reader bits and slots, and what
 * would stand in the way for ever: a copier word that is none or whose session does not refer to
 * the copy; a slot of such a session; a bit whose slot is free or such. A session refers to the
 * copy from before its first change until after its last, so none of these is anybody's.
 */
typedef struct pinti_copy_users {
    /* Does the session with this index refer to the copy? index: any value. */
    bool (*refers)(const void *context, uint32_t index);
    const void *context;
} pinti_copy_users;

/* A hint: at the next moment there may be none. */
bool pinti_copy_has_strays(const pinti_copy_sync *sync, const pinti_copy_chunk *chunks,
                           uint32_t n_chunks, const pinti_copy_users *users);

/* While the record is CLOSING: whoever opens the copy then waits for LIVE, so that who does not
 * refer to it cannot write a word of his own in place of the one that was looked at. Returns
 * whether there were any; the bell must be rung then. */
bool pinti_copy_clear_strays(pinti_copy_sync *sync, pinti_copy_chunk *chunks, uint32_t n_chunks,
                             const pinti_copy_users *users);

/* A copy that is gone (dropped, its broker dead), after its record was marked DYING (seq), before
 * there may be another one in its place: out of every mask. Chunks that were newest there alone are
 * torn, pulls and writes are lost (who is alive finds out at his commit); pushes go on, for they
 * write to the host. The bell must be rung afterwards. */
void pinti_copy_forget(pinti_copy_chunk *chunks, pinti_a64 *words, uint32_t n_chunks,
                       uint32_t device);

#endif
