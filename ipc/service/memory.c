/* SPDX-License-Identifier: Apache-2.0 */
/* The sets of free memory and how ranges move between them; see memory_internal.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "host/error.h"
#include "ipc/service/memory_internal.h"

/* Ranges that one call may add to a set, at most: every item of a plan, at both ends. */
#define RESERVE (2u * PINTI_WORK_MAX + 16u)

void pinti_memory_report(pinti_memory *memory)
{
    /* Counters for `stat`: nothing is ordered by them. */
    pinti_store64_relaxed(&memory->header->xcommitted_bytes, pinti_memory_committed(memory));
    pinti_store64_relaxed(&memory->header->xused_bytes, memory->ledger.used);
    pinti_store64_relaxed(&memory->header->xbudget_bytes, memory->ledger.limit);
}

bool pinti_memory_reserve(pinti_memory *memory)
{
    return pinti_ranges_reserve(&memory->whole, RESERVE) &&
           pinti_ranges_reserve(&memory->warm, RESERVE) &&
           pinti_ranges_reserve(&memory->parts, RESERVE) &&
           pinti_ranges_reserve(&memory->clean_parts, RESERVE) &&
           pinti_ranges_reserve(&memory->dirty, RESERVE) &&
           pinti_ranges_reserve(&memory->to_punch, RESERVE) &&
           pinti_ranges_reserve(&memory->sync_free, RESERVE) &&
           pinti_ranges_reserve(&memory->sync_dirty, RESERVE) &&
           pinti_ranges_reserve(&memory->sync_got, RESERVE) &&
           pinti_ranges_reserve(&memory->sync_clean, RESERVE);
}

/* ---- construction -------------------------------------------------------------------------- */

/* Read the slab states that the last incarnation left; PUNCHING ones stay out of every set. */
static bool load_slabs(pinti_memory *memory)
{
    const uint32_t n_slabs = (uint32_t)(memory->data_bytes / PINTI_SLAB_BYTES);
    uint32_t at = 0;
    while (at < n_slabs) {
        const uint32_t state = pinti_slab_state(memory, at);
        uint32_t end = at + 1;
        while (end < n_slabs && pinti_slab_state(memory, end) == state) {
            end++;
        }
        const uint64_t off = at * PINTI_SLAB_BYTES;
        const uint64_t bytes = (end - at) * PINTI_SLAB_BYTES;
        bool ok = true;
        if (state == PINTI_SLAB_ABSENT) {
            ok = pinti_ranges_add(&memory->whole, off, bytes);
        } else if (state == PINTI_SLAB_COMMITTED) {
            ok = pinti_ranges_add(&memory->whole, off, bytes) &&
                 pinti_ranges_add(&memory->warm, off, bytes) &&
                 pinti_ranges_add(&memory->dirty, off, bytes);
            memory->data_committed += bytes;
        }
        if (!ok) {
            return false;
        }
        at = end;
    }
    return true;
}

pinti_memory *pinti_memory_new(void *catalog, uint64_t data_bytes, uint64_t sync_bytes,
                               uint64_t budget_bytes)
{
    pinti_memory *memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        return NULL;
    }
    memory->header = catalog;
    memory->slabs = pinti_cat_slabs(catalog);
    memory->data_bytes = pinti_min64(pinti_round_down(data_bytes, PINTI_SLAB_BYTES),
                                     PINTI_SLABS_MAX * PINTI_SLAB_BYTES);
    memory->sync_bytes = pinti_round_down(sync_bytes, PINTI_PAGE_BYTES);
    memory->ledger.limit = budget_bytes;
    memory->slab_used =
        calloc(memory->data_bytes / PINTI_SLAB_BYTES + 1, sizeof(*memory->slab_used));
    /* The first unit of sync is never handed out: offset 0 in a zeroed record names nothing. */
    const bool fresh = pinti_load32_relaxed(&memory->header->xn_tables) == 0;
    if (memory->slab_used == NULL || memory->sync_bytes == 0 || !load_slabs(memory) ||
        !pinti_ranges_add(&memory->sync_free, PINTI_SYNC_UNIT,
                          memory->sync_bytes - PINTI_SYNC_UNIT) ||
        (!fresh && !pinti_ranges_add(&memory->sync_dirty, PINTI_SYNC_UNIT,
                                     memory->sync_bytes - PINTI_SYNC_UNIT))) {
        pinti_memory_free(memory);
        return NULL;
    }
    memory->to_recover = pinti_load32_relaxed(&memory->header->xincarnation) > 1 || !fresh;
    pinti_memory_report(memory);
    return memory;
}

void pinti_memory_free(pinti_memory *memory)
{
    if (memory == NULL) {
        return;
    }
    pinti_ranges_done(&memory->whole);
    pinti_ranges_done(&memory->warm);
    pinti_ranges_done(&memory->parts);
    pinti_ranges_done(&memory->clean_parts);
    pinti_ranges_done(&memory->dirty);
    pinti_ranges_done(&memory->to_punch);
    pinti_ranges_done(&memory->sync_free);
    pinti_ranges_done(&memory->sync_dirty);
    pinti_ranges_done(&memory->sync_got);
    pinti_ranges_done(&memory->sync_clean);
    pinti_ledger_done(&memory->ledger);
    free(memory->slab_used);
    free(memory);
}

void pinti_memory_on_pinned(pinti_memory *memory, bool (*is_pinned)(void *ctx, uint32_t slab),
                            void *ctx)
{
    memory->is_pinned = is_pinned;
    memory->pinned_ctx = ctx;
}

/* ---- moving ranges between free and in use --------------------------------------------------- */

/* Slabs [first, end) that are in the same state and either all wholly in use by [off, end_off), or
 * a single one. */
static uint32_t run_end(const pinti_memory *memory, uint32_t first, uint64_t off, uint64_t end_off)
{
    const uint64_t slab_off = first * PINTI_SLAB_BYTES;
    uint32_t end = first + 1;
    if (slab_off < off || end * PINTI_SLAB_BYTES > end_off) {
        return end;
    }
    const uint32_t state = pinti_slab_state(memory, first);
    const uint32_t used = memory->slab_used[first];
    while ((end + 1) * PINTI_SLAB_BYTES <= end_off && pinti_slab_state(memory, end) == state &&
           memory->slab_used[end] == used) {
        end++;
    }
    return end;
}

void pinti_memory_put_except(pinti_ranges *set, uint64_t off, uint64_t bytes,
                             const pinti_ranges *but)
{
    const uint64_t end = off + bytes;
    while (off < end) {
        pinti_range r = {.off = end, .bytes = 0};
        (void)pinti_ranges_next(but, off, &r);
        const uint64_t stop = pinti_min64(r.off, end);
        /* As many pieces as but has there: more than was reserved, so it may fail. Then clean
         * memory counts as dirty. */
        pinti_put(set, off, stop - off);
        off = r.off + r.bytes > stop ? r.off + r.bytes : end;
    }
}

static void put_parts(pinti_memory *memory, uint64_t off, uint64_t bytes)
{
    pinti_put(&memory->parts, off, bytes);
    pinti_memory_put_except(&memory->clean_parts, off, bytes, &memory->dirty);
}

void pinti_memory_occupy(pinti_memory *memory, pinti_range r)
{
    const uint64_t end = r.off + r.bytes;
    for (uint64_t at = r.off; at < end;) {
        const uint32_t first = pinti_slab_of(at);
        const uint32_t last = run_end(memory, first, r.off, end);
        const uint64_t run_off = first * PINTI_SLAB_BYTES;
        const uint64_t run_stop = last * PINTI_SLAB_BYTES;
        const uint64_t stop = pinti_min64(end, run_stop);
        if (memory->slab_used[first] == 0) {
            pinti_pull(&memory->whole, run_off, run_stop - run_off);
            pinti_pull(&memory->warm, run_off, run_stop - run_off);
            if (pinti_slab_state(memory, first) == PINTI_SLAB_COMMITTED) {
                put_parts(memory, run_off, at - run_off);
                put_parts(memory, stop, run_stop - stop);
            }
        } else {
            pinti_pull(&memory->parts, at, stop - at);
            pinti_pull(&memory->clean_parts, at, stop - at);
        }
        for (uint32_t i = first; i < last; i++) {
            memory->slab_used[i] += (uint32_t)(pinti_min64(end, (i + 1) * PINTI_SLAB_BYTES) -
                                               (i == first ? at : i * PINTI_SLAB_BYTES));
        }
        at = stop;
    }
}

void pinti_memory_vacate(pinti_memory *memory, pinti_range r, bool is_dirty)
{
    const uint64_t end = r.off + r.bytes;
    for (uint64_t at = r.off; at < end;) {
        const uint32_t first = pinti_slab_of(at);
        const uint32_t last = run_end(memory, first, r.off, end);
        const uint64_t run_off = first * PINTI_SLAB_BYTES;
        const uint64_t run_stop = last * PINTI_SLAB_BYTES;
        const uint64_t stop = pinti_min64(end, run_stop);
        const bool committed = pinti_slab_state(memory, first) == PINTI_SLAB_COMMITTED;
        for (uint32_t i = first; i < last; i++) {
            memory->slab_used[i] -= (uint32_t)(pinti_min64(end, (i + 1) * PINTI_SLAB_BYTES) -
                                               (i == first ? at : i * PINTI_SLAB_BYTES));
        }
        if (memory->slab_used[first] == 0) {
            pinti_pull(&memory->parts, run_off, run_stop - run_off);
            pinti_pull(&memory->clean_parts, run_off, run_stop - run_off);
            pinti_put(&memory->whole, run_off, run_stop - run_off);
            pinti_put(&memory->warm, run_off, committed ? run_stop - run_off : 0);
        } else if (committed) {
            pinti_put(&memory->parts, at, stop - at);
            pinti_put(&memory->clean_parts, at, is_dirty ? 0 : stop - at);
        }
        pinti_put(&memory->dirty, at, committed && is_dirty ? stop - at : 0);
        at = stop;
    }
}

pint_status pinti_memory_mark_used(pinti_memory *memory, bool sync, pinti_range range, uint32_t uid,
                                   pint_error *err)
{
    const uint64_t limit = sync ? memory->sync_bytes : memory->data_bytes;
    const uint64_t unit = sync ? PINTI_SYNC_UNIT : PINTI_PAGE_BYTES;
    if (range.bytes == 0) {
        return PINT_OK;
    }
    if (range.off > limit || range.bytes > limit - range.off || range.off % unit != 0 ||
        range.bytes % unit != 0) {
        return pinti_fail(err, PINT_E_CORRUPT, 0,
                          "%s range at %" PRIu64 " of %" PRIu64 " bytes is no range of the segment",
                          sync ? "sync" : "data", range.off, range.bytes);
    }
    if (!pinti_memory_reserve(memory) || !pinti_ledger_add(&memory->ledger, uid, range.bytes)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "ranges in use");
    }
    if (sync) {
        if (!pinti_ranges_has_all(&memory->sync_free, range.off, range.bytes)) {
            goto taken;
        }
        pinti_pull(&memory->sync_free, range.off, range.bytes);
        pinti_pull(&memory->sync_dirty, range.off, range.bytes);
        const uint64_t first = pinti_round_down(range.off, PINTI_PAGE_BYTES);
        pinti_put(&memory->sync_got, first,
                  pinti_round_up(range.off + range.bytes, PINTI_PAGE_BYTES) - first);
    } else {
        for (uint64_t at = range.off; at < range.off + range.bytes;) {
            const uint64_t stop = pinti_min64(
                range.off + range.bytes, pinti_round_down(at, PINTI_SLAB_BYTES) + PINTI_SLAB_BYTES);
            if (pinti_slab_state(memory, pinti_slab_of(at)) != PINTI_SLAB_COMMITTED ||
                !pinti_ranges_has_all(memory->slab_used[pinti_slab_of(at)] == 0 ? &memory->warm
                                                                                : &memory->parts,
                                      at, stop - at)) {
                goto taken;
            }
            at = stop;
        }
        pinti_memory_occupy(memory, range);
        pinti_pull(&memory->dirty, range.off, range.bytes);
    }
    pinti_memory_report(memory);
    return PINT_OK;

taken:
    pinti_ledger_sub(&memory->ledger, uid, range.bytes);
    return pinti_fail(err, PINT_E_CORRUPT, 0,
                      "%s range at %" PRIu64 " of %" PRIu64 " bytes is in use twice or not there",
                      sync ? "sync" : "data", range.off, range.bytes);
}

void pinti_memory_give(pinti_memory *memory, pinti_range data, pinti_range sync, uint32_t uid)
{
    pinti_ledger_sub(&memory->ledger, uid, data.bytes + sync.bytes);
    if (pinti_memory_reserve(memory)) { /* else forgotten until the next incarnation */
        pinti_memory_vacate(memory, data, true);
        pinti_put(&memory->sync_free, sync.off, sync.bytes);
        pinti_put(&memory->sync_dirty, sync.off, sync.bytes);
    }
    pinti_memory_report(memory);
}

void pinti_memory_charge(pinti_memory *memory, uint64_t bytes, uint32_t from_uid, uint32_t to_uid)
{
    if (from_uid != to_uid && pinti_ledger_add(&memory->ledger, to_uid, bytes)) {
        pinti_ledger_sub(&memory->ledger, from_uid, bytes);
    }
}

pint_status pinti_memory_take_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes,
                                      pint_error *err)
{
    const pint_status status = pinti_ledger_check(&memory->ledger, uid, bytes, err);
    if (status == PINT_OK) {
        (void)pinti_memory_count_outside(memory, uid, bytes); /* the uid has its line */
    }
    return status;
}

bool pinti_memory_count_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes)
{
    if (!pinti_ledger_add(&memory->ledger, uid, bytes)) {
        return false;
    }
    memory->outside_bytes += bytes;
    pinti_memory_report(memory);
    return true;
}

void pinti_memory_give_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes)
{
    pinti_ledger_sub(&memory->ledger, uid, bytes);
    memory->outside_bytes -= bytes;
    pinti_memory_report(memory);
}

/* ---- numbers --------------------------------------------------------------------------------- */

pint_status pinti_memory_set_budget(pinti_memory *memory, uint64_t bytes, pint_error *err)
{
    if (bytes < memory->ledger.used || bytes > memory->data_bytes) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "budget of %" PRIu64 " bytes: %" PRIu64
                          " are in use, the address space has %" PRIu64,
                          bytes, memory->ledger.used, memory->data_bytes);
    }
    memory->ledger.limit = bytes;
    pinti_memory_report(memory);
    return PINT_OK;
}

void pinti_memory_set_uid_limit(pinti_memory *memory, uint64_t bytes)
{
    memory->ledger.uid_limit = bytes;
}

uint64_t pinti_memory_budget(const pinti_memory *memory)
{
    return memory->ledger.limit;
}

uint64_t pinti_memory_used(const pinti_memory *memory)
{
    return memory->ledger.used;
}

uint64_t pinti_memory_committed(const pinti_memory *memory)
{
    return memory->data_committed + memory->sync_got.total + memory->outside_bytes;
}

uint64_t pinti_memory_warm(const pinti_memory *memory)
{
    return memory->warm.total;
}

uint64_t pinti_memory_dirty(const pinti_memory *memory)
{
    return memory->dirty.total;
}

uint64_t pinti_memory_uid_used(const pinti_memory *memory, uint32_t uid)
{
    return pinti_ledger_of(&memory->ledger, uid);
}
