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
 *   read on d          reader bit := 1; then word: CLEAN, d in mask; work; reader bit := 0
 *   pull (host -> d)   copier := me; word: CLEAN, host in mask, d not; then readers of d: none;
 * copy; word: same seq, CLEAN -> mask | d; copier := 0 all others hold    copier := me; word ->
 * DEVICE_HELD, seq+1; then readers of d; work; word -> CLEAN, seq+1; copier := 0 pull CLEAN, host
 * in mask, d not; readers: none       -> mask | d push (d -> host) CLEAN, d in mask, host not;
 * readers: any        -> mask | host change           CLEAN, d or host in mask   \  d leaves the
 * mask; replace          CLEAN or TORN              /  readers: own only -> d alone death, cancel
 * DEVICE_HELD -> seq+1, holder 0: CLEAN if a place is left in the mask (rolled back to it), else
 * TORN; copier, reader bits of the dead := 0
 *
 * "Then" is the heart of it: each side says what it does first, and looks at the other after, both
 * seq, so that at least one of two sees the other.
 *
 * The same rule for host leases without undo (claim.h): where a device still holds the committed
 * bytes, a dead holder's chunk is not torn but newest there.
 *
 * The record of a copy that is dropped is marked DYING first, then pinti_copy_forget() takes it out
 * of all words, then another copy of the column on that device may be made. Whoever begins here
 * looks at the record after his first change, so that either he sees DYING or forget sees him.
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
    PINTI_COH_BUSY = 2,  /* somebody holds, copies or reads: wait on the table's bell */
    PINTI_COH_PULL = 3,  /* read, write: the device must be brought up to date first */
    PINTI_COH_PUSH = 4,  /* pull, own_host: the host must be brought up to date first, from a device
                            that is in the mask; push: that is another device than this one */
    PINTI_COH_TORN = 5,
    PINTI_COH_RESTORE = 6, /* old bytes must be put back first (pinti_chunk_restore()) */
    PINTI_COH_CHANGED = 7, /* pull_commit: the bytes copied are not the newest any more */
    PINTI_COH_FROZEN = 8,
    PINTI_COH_LOST = 9, /* commit, cancel: not held as claimed (the copy was dropped) */
    PINTI_COH_GONE = 10 /* the copy was dropped: open it anew */
};

/* chunk < copy->n_chunks always; *word: for the matching commit or cancel. A commit ends the
 * operation whatever it returns. */

/* Without a hold: host writers are not kept out, and pull_commit() notices them (CHANGED). For
 * bytes that nobody uses before the commit. A frozen table, too. */
enum pinti_coherence pinti_pull_begin(pinti_copy_desc *copy, uint64_t chunk, uint64_t *word);
enum pinti_coherence pinti_pull_commit(pinti_copy_desc *copy, uint64_t chunk, uint64_t word);
void pinti_pull_cancel(pinti_copy_desc *copy, uint64_t chunk);

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

/* The host alone, from now on: takes all devices out of the mask (seq+1), and makes pulls that run
 * fail. Host must be in it. */
enum pinti_coherence pinti_own_host(pinti_copy_desc *copy, uint64_t chunk);

/* ---- for the service, on the mapped sync segment ------------------------------------------------
 * Arrays are bound-checked by the caller. Both may be cut off anywhere and run again. */

/* What a dead session leaves in one copy: to be called for each copy it referred to, when none of
 * its streams can run any more on any device (R9). Returns whether a bell must be rung, always. */
bool pinti_copy_sweep(pinti_copy_sync *sync, pinti_copy_chunk *chunks, pinti_a64 *words,
                      uint32_t n_chunks, uint32_t device, uint32_t session);

/* A copy that is gone (dropped, its broker dead), after its record was marked DYING (seq), before
 * there may be another one in its place: out of every mask. Chunks that were newest there alone are
 * torn, pulls that run fail, writes are lost (live writers find out at their commit); pushes go on,
 * for they write to the host. The bell must be rung afterwards. */
void pinti_copy_forget(pinti_copy_chunk *chunks, pinti_a64 *words, uint32_t n_chunks,
                       uint32_t device);

/* Would forgetting it lose bytes: is there a chunk that is newest on this device alone, or written
 * there now? To be asked after the record was marked DYING, which may then be taken back. */
bool pinti_copy_is_needed(const pinti_copy_chunk *chunks, const pinti_a64 *words, uint32_t n_chunks,
                          uint32_t device);

#endif
