/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans for the preparer: what a take needs, what came of it, and the idle work. A plan's size is
 * bounded; see memory_internal.h for the sets.
 */
#include <inttypes.h>

#include "host/error.h"
#include "ipc/service/memory_internal.h"

#define PUNCH_RUNS_MAX    96u /* of one take */
#define POPULATE_RUNS_MAX 96u /* more are joined: populating again changes nothing */
#define SYNC_STEP         (16 * PINTI_PAGE_BYTES)
#define SYNC_RUNS_MAX     16u /* likewise */
#define ZERO_RUNS_MAX     24u /* of data, and of sync; likewise */
_Static_assert(PUNCH_RUNS_MAX + POPULATE_RUNS_MAX + SYNC_RUNS_MAX + 2 * ZERO_RUNS_MAX <=
                   PINTI_WORK_MAX,
               "a take's plan");

/* ---- plans ----------------------------------------------------------------------------------- */

static bool plan_add(pinti_plan *plan, enum pinti_work_kind kind, bool sync, uint64_t off,
                     uint64_t bytes)
{
    if (plan->n == PINTI_WORK_MAX) {
        return false;
    }
    plan->work[plan->n++] =
        (pinti_work){.kind = kind, .sync = sync, .range = {.off = off, .bytes = bytes}};
    return true;
}

/* Let go of warm slabs: out of all sets, PUNCHING, not counted. False: it is pinned. */
static bool begin_punch(pinti_memory *memory, uint64_t off)
{
    const uint32_t slab = pinti_slab_of(off);
    /* Ordered before reading the pins; partner: a client notes its pin, then reads the state. */
    pinti_store8_seq(&memory->slabs[slab], PINTI_SLAB_PUNCHING);
    if (memory->is_pinned != NULL && memory->is_pinned(memory->pinned_ctx, slab)) {
        pinti_store8_seq(&memory->slabs[slab], PINTI_SLAB_COMMITTED);
        return false;
    }
    pinti_pull(&memory->whole, off, PINTI_SLAB_BYTES);
    pinti_pull(&memory->warm, off, PINTI_SLAB_BYTES);
    pinti_pull(&memory->dirty, off, PINTI_SLAB_BYTES);
    memory->data_committed -= PINTI_SLAB_BYTES;
    return true;
}

/* Plan to punch up to bytes of warm slabs outside spare, the highest first, in at most max_runs
 * runs. Returns the bytes planned. */
static uint64_t plan_punch(pinti_memory *memory, uint64_t bytes, pinti_range spare,
                           uint32_t max_runs, pinti_plan *plan)
{
    const uint32_t n_before = plan->n;
    uint64_t planned = 0;
    uint64_t limit = memory->data_bytes;
    pinti_range r;
    while (planned < bytes && plan->n - n_before < max_runs / 2 &&
           pinti_ranges_next(&memory->to_punch, 0, &r)) {
        (void)plan_add(plan, PINTI_WORK_PUNCH, false, r.off, r.bytes);
        pinti_pull(&memory->to_punch, r.off, r.bytes);
        memory->data_committed -= r.bytes;
        planned += r.bytes;
    }
    const uint32_t n_old = plan->n;
    while (planned < bytes && pinti_ranges_prev(&memory->warm, limit, &r)) {
        const uint64_t off = r.off + r.bytes - PINTI_SLAB_BYTES;
        limit = off;
        if (off < spare.off + spare.bytes && spare.off < off + PINTI_SLAB_BYTES) {
            limit = pinti_round_down(spare.off, PINTI_SLAB_BYTES);
            continue;
        }
        pinti_work *run = plan->n > n_old ? &plan->work[plan->n - 1] : NULL;
        const bool adjoins = run != NULL && run->range.off == off + PINTI_SLAB_BYTES;
        if (!adjoins && plan->n - n_before == max_runs) {
            break;
        }
        if (!begin_punch(memory, off)) {
            continue;
        }
        if (adjoins) {
            run->range.off = off;
            run->range.bytes += PINTI_SLAB_BYTES;
        } else {
            (void)plan_add(plan, PINTI_WORK_PUNCH, false, off, PINTI_SLAB_BYTES);
        }
        planned += PINTI_SLAB_BYTES;
    }
    return planned;
}

/* Take planned punches back: to be punched some time, or by the next plan that needs it. */
static void unplan_punch(pinti_memory *memory, pinti_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        const pinti_range r = plan->work[i].range;
        pinti_put(&memory->to_punch, r.off, r.bytes);
        memory->data_committed += r.bytes;
    }
    plan->n = 0;
}

/* Where data of so many bytes go. Warm memory first, so that most takes populate nothing; small
 * ones that are to be zero where it is zero already. */
static bool find_data(const pinti_memory *memory, uint64_t bytes, bool zeroed, uint64_t *out_off)
{
    if (bytes < PINTI_SLAB_BYTES &&
        ((zeroed &&
          pinti_ranges_first_fit(&memory->clean_parts, bytes, PINTI_PAGE_BYTES, out_off)) ||
         pinti_ranges_first_fit(&memory->parts, bytes, PINTI_PAGE_BYTES, out_off))) {
        return true;
    }
    const uint64_t slabs = pinti_round_up(bytes, PINTI_SLAB_BYTES);
    return pinti_ranges_first_fit(&memory->warm, slabs, PINTI_SLAB_BYTES, out_off) ||
           pinti_ranges_first_fit(&memory->whole, slabs, PINTI_SLAB_BYTES, out_off);
}

static bool find_sync(const pinti_memory *memory, uint64_t bytes, uint64_t *out_off)
{
    return pinti_ranges_first_fit(&memory->sync_clean, bytes, PINTI_SYNC_UNIT, out_off) ||
           pinti_ranges_first_fit(&memory->sync_free, bytes, PINTI_SYNC_UNIT, out_off);
}

/* Bytes of the slabs under r, r being free, that have no memory. */
static uint64_t absent_bytes(const pinti_memory *memory, pinti_range r)
{
    uint64_t n = 0;
    if (r.bytes == 0) {
        return 0;
    }
    for (uint32_t slab = pinti_slab_of(r.off); slab <= pinti_slab_of(r.off + r.bytes - 1); slab++) {
        n += pinti_slab_state(memory, slab) == PINTI_SLAB_ABSENT ? PINTI_SLAB_BYTES : 0;
    }
    return n;
}

/* Sync memory under r without pages, in steps of SYNC_STEP so that the next takes find some: its
 * bytes, and run by run into the plan (NULL: only counted). */
static uint64_t missing_sync(const pinti_memory *memory, pinti_range r, pinti_plan *plan)
{
    uint64_t n = 0;
    if (pinti_ranges_has_all(&memory->sync_got, r.off, r.bytes)) {
        return 0;
    }
    const uint64_t end =
        pinti_min64(pinti_round_up(r.off + r.bytes, SYNC_STEP), memory->sync_bytes);
    const uint32_t first_item = plan != NULL ? plan->n : 0;
    for (uint64_t at = pinti_round_down(r.off, SYNC_STEP); at < end;) {
        pinti_range have;
        const bool any = pinti_ranges_next(&memory->sync_got, at, &have);
        const uint64_t stop = any ? pinti_min64(have.off, end) : end;
        if (stop > at && plan != NULL) {
            if (plan->n - first_item < SYNC_RUNS_MAX) {
                (void)plan_add(plan, PINTI_WORK_POPULATE, true, at, stop - at);
            } else { /* joined: populating again changes nothing */
                pinti_range *last = &plan->work[plan->n - 1].range;
                last->bytes = stop - last->off;
            }
        }
        n += stop - at;
        at = any ? have.off + have.bytes : end;
    }
    return n;
}

/* The slabs under r without memory. Runs too many to list are joined over slabs that r covers
 * wholly; the last slab may be shared with others and is never joined over. */
static void plan_populate(const pinti_memory *memory, pinti_range r, pinti_plan *plan)
{
    const uint32_t end = pinti_slab_of(r.off + r.bytes - 1) + 1;
    uint32_t n_runs = 0;
    for (uint32_t slab = pinti_slab_of(r.off); slab < end;) {
        uint32_t stop = slab;
        while (stop < end && pinti_slab_state(memory, stop) == PINTI_SLAB_ABSENT) {
            stop++;
        }
        if (stop == slab) {
            slab++;
            continue;
        }
        const uint64_t stop_off = stop * PINTI_SLAB_BYTES;
        if (n_runs == POPULATE_RUNS_MAX) {
            pinti_range *last = &plan->work[plan->n - 1].range;
            last->bytes = stop_off - last->off;
        } else {
            (void)plan_add(plan, PINTI_WORK_POPULATE, false, slab * PINTI_SLAB_BYTES,
                           stop_off - slab * PINTI_SLAB_BYTES);
            n_runs++;
        }
        slab = stop;
    }
}

/* What of r is dirty; runs too many to list are joined, r being the taker's alone. */
static void plan_zero(const pinti_ranges *dirty, bool sync, pinti_range r, pinti_plan *plan)
{
    const uint64_t end = r.off + r.bytes;
    uint32_t n_runs = 0;
    pinti_range d;
    for (uint64_t at = r.off; at < end && pinti_ranges_next(dirty, at, &d) && d.off < end;) {
        const uint64_t stop = pinti_min64(d.off + d.bytes, end);
        if (n_runs == ZERO_RUNS_MAX) {
            pinti_range *last = &plan->work[plan->n - 1].range;
            last->bytes = stop - last->off;
        } else {
            (void)plan_add(plan, PINTI_WORK_ZERO, sync, d.off, stop - d.off);
            n_runs++;
        }
        at = stop;
    }
}

/* Everything that can fail in a take: places are found and room is made within the budget. */
static pint_status find_room(pinti_memory *memory, bool zeroed, pinti_range *data,
                             pinti_range *sync, pinti_plan *plan, pint_error *err)
{
    if (data->bytes != 0 && !find_data(memory, data->bytes, zeroed, &data->off)) {
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " bytes asked, no free range of the pool's address space of "
                          "%" PRIu64 " bytes is that long",
                          data->bytes, memory->data_bytes);
    }
    if (sync->bytes != 0 && !find_sync(memory, sync->bytes, &sync->off)) {
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " bytes of chunk words asked, no free range of the sync "
                          "segment of %" PRIu64 " bytes is that long",
                          sync->bytes, memory->sync_bytes);
    }
    const uint64_t committed = pinti_memory_committed(memory);
    const uint64_t after =
        committed + absent_bytes(memory, *data) + missing_sync(memory, *sync, NULL);
    const uint64_t limit = memory->ledger.limit;
    if (after > limit &&
        after - limit > plan_punch(memory, after - limit, *data, PUNCH_RUNS_MAX, plan)) {
        unplan_punch(memory, plan);
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " bytes asked, the pool would hold %" PRIu64
                          " bytes, its budget is %" PRIu64,
                          data->bytes + sync->bytes, after, limit);
    }
    return PINT_OK;
}

pint_status pinti_memory_take(pinti_memory *memory, uint64_t data_bytes, uint64_t sync_bytes,
                              bool zeroed, uint32_t uid, pinti_range *out_data,
                              pinti_range *out_sync, pinti_plan *out_plan, pint_error *err)
{
    if (data_bytes > memory->data_bytes || sync_bytes > memory->sync_bytes) {
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " + %" PRIu64 " bytes asked, the pool's segments have %" PRIu64
                          " + %" PRIu64,
                          data_bytes, sync_bytes, memory->data_bytes, memory->sync_bytes);
    }
    pinti_range data = {.bytes = pinti_round_up(data_bytes, PINTI_PAGE_BYTES)};
    pinti_range sync = {.bytes = pinti_round_up(sync_bytes, PINTI_SYNC_UNIT)};
    pint_status status = pinti_ledger_check(&memory->ledger, uid, data.bytes + sync.bytes, err);
    if (status != PINT_OK) {
        return status;
    }
    if (!pinti_memory_reserve(memory)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "ranges of free memory");
    }
    out_plan->purpose = PINTI_PLAN_TAKE;
    out_plan->n = 0;
    status = find_room(memory, zeroed, &data, &sync, out_plan, err);
    if (status != PINT_OK) {
        return status;
    }
    /* Nothing fails from here on. */
    if (data.bytes != 0) {
        memory->data_committed += absent_bytes(memory, data);
        plan_populate(memory, data, out_plan);
    }
    (void)missing_sync(memory, sync, out_plan);
    if (zeroed) {
        plan_zero(&memory->dirty, false, data, out_plan);
    }
    plan_zero(&memory->sync_dirty, true, sync, out_plan);
    if (data.bytes != 0) {
        pinti_memory_occupy(memory, data);
        pinti_pull(&memory->dirty, data.off, data.bytes);
    }
    pinti_pull(&memory->sync_free, sync.off, sync.bytes);
    pinti_pull(&memory->sync_clean, sync.off, sync.bytes);
    pinti_pull(&memory->sync_dirty, sync.off, sync.bytes);
    (void)pinti_ledger_add(&memory->ledger, uid, data.bytes + sync.bytes);
    pinti_memory_report(memory);
    *out_data = data;
    *out_sync = sync;
    return PINT_OK;
}

/* ---- what came of a plan --------------------------------------------------------------------- */

static void slab_populated(pinti_memory *memory, uint32_t slab)
{
    if (pinti_slab_state(memory, slab) != PINTI_SLAB_ABSENT) {
        return; /* joined over */
    }
    /* Publishes nothing but itself; a client that pins reads it after noting the pin (R8). */
    pinti_store8_seq(&memory->slabs[slab], PINTI_SLAB_COMMITTED);
    const uint64_t off = slab * PINTI_SLAB_BYTES;
    const uint32_t used = memory->slab_used[slab]; /* from the slab's start: it was wholly free */
    pinti_put(&memory->parts, off + used, PINTI_SLAB_BYTES - used);
    pinti_put(&memory->clean_parts, off + used, PINTI_SLAB_BYTES - used);
}

static void slab_undone(pinti_memory *memory, uint32_t slab)
{
    pinti_store8_seq(&memory->slabs[slab], PINTI_SLAB_ABSENT);
    memory->data_committed -= PINTI_SLAB_BYTES;
}

/* Slabs that were ABSENT before (recovery) are in whole already. */
static void data_punched(pinti_memory *memory, pinti_range r, bool ok)
{
    for (uint32_t slab = pinti_slab_of(r.off); slab < pinti_slab_of(r.off + r.bytes); slab++) {
        const uint64_t off = slab * PINTI_SLAB_BYTES;
        if (pinti_slab_state(memory, slab) != PINTI_SLAB_PUNCHING) {
            continue;
        }
        if (ok) {
            pinti_store8_seq(&memory->slabs[slab], PINTI_SLAB_ABSENT);
            pinti_put(&memory->whole, off, PINTI_SLAB_BYTES);
        } else {
            pinti_put(&memory->to_punch, off, PINTI_SLAB_BYTES);
            memory->data_committed += PINTI_SLAB_BYTES;
        }
    }
}

static void data_prepared(pinti_memory *memory, enum pinti_plan_purpose purpose,
                          const pinti_work *work, bool ok)
{
    const pinti_range r = work->range;
    switch (work->kind) {
    case PINTI_WORK_POPULATE:
        for (uint32_t slab = pinti_slab_of(r.off); slab < pinti_slab_of(r.off + r.bytes); slab++) {
            if (ok) {
                slab_populated(memory, slab);
            } else {
                slab_undone(memory, slab);
            }
        }
        break;
    case PINTI_WORK_ZERO:
        if (purpose == PINTI_PLAN_CLEAN) {
            pinti_memory_vacate(memory, r, !ok);
        }
        break;
    case PINTI_WORK_PUNCH:
        data_punched(memory, r, ok);
        break;
    }
}

/* Free sync memory that has pages and is not dirty, within r. */
static void find_clean_sync(pinti_memory *memory, pinti_range r)
{
    pinti_range f;
    const uint64_t end = r.off + r.bytes;
    for (uint64_t at = r.off;
         at < end && pinti_ranges_next(&memory->sync_free, at, &f) && f.off < end;
         at = f.off + f.bytes) {
        f.bytes = pinti_min64(f.bytes, end - f.off);
        pinti_memory_put_except(&memory->sync_clean, f.off, f.bytes, &memory->sync_dirty);
    }
}

static void sync_prepared(pinti_memory *memory, enum pinti_plan_purpose purpose,
                          const pinti_work *work, bool ok)
{
    const pinti_range r = work->range;
    switch (work->kind) {
    case PINTI_WORK_POPULATE:
        if (ok) {
            pinti_put(&memory->sync_got, r.off, r.bytes);
            find_clean_sync(memory, r);
        }
        break;
    case PINTI_WORK_ZERO:
        if (purpose == PINTI_PLAN_CLEAN) {
            pinti_put(&memory->sync_free, r.off, r.bytes);
            pinti_put(ok ? &memory->sync_clean : &memory->sync_dirty, r.off, r.bytes);
        }
        break;
    case PINTI_WORK_PUNCH:
        if (purpose == PINTI_PLAN_TRIM) {
            pinti_put(&memory->sync_free, r.off, r.bytes);
            pinti_put(&memory->sync_dirty, r.off, ok ? 0 : r.bytes);
        } else if (ok) {
            pinti_pull(&memory->sync_dirty, r.off, r.bytes);
        }
        break;
    }
}

void pinti_memory_prepared(pinti_memory *memory, const pinti_plan *plan, bool ok)
{
    /* Without room, what a clean or a punch frees is forgotten until the next incarnation. */
    const bool room = pinti_memory_reserve(memory);
    for (uint32_t i = 0; i < plan->n; i++) {
        if (!room && plan->purpose != PINTI_PLAN_TAKE) {
            continue;
        }
        if (plan->work[i].sync) {
            sync_prepared(memory, plan->purpose, &plan->work[i], ok);
        } else {
            data_prepared(memory, plan->purpose, &plan->work[i], ok);
        }
    }
    pinti_memory_report(memory);
}

/* ---- idle work ------------------------------------------------------------------------------- */

bool pinti_memory_plan_recover(pinti_memory *memory, pinti_plan *out_plan)
{
    out_plan->purpose = PINTI_PLAN_RECOVER;
    out_plan->n = 0;
    const uint64_t data_bytes = memory->to_recover ? memory->data_bytes : 0;
    while (memory->recover_data_at < data_bytes && out_plan->n < PINTI_WORK_MAX) {
        uint32_t slab = pinti_slab_of(memory->recover_data_at);
        const uint32_t first = slab;
        while (slab < pinti_slab_of(data_bytes) &&
               pinti_slab_state(memory, slab) != PINTI_SLAB_COMMITTED) {
            slab++;
        }
        if (slab > first) {
            (void)plan_add(out_plan, PINTI_WORK_PUNCH, false, first * PINTI_SLAB_BYTES,
                           (slab - first) * PINTI_SLAB_BYTES);
        }
        memory->recover_data_at = (slab > first ? slab : slab + 1) * PINTI_SLAB_BYTES;
    }
    const uint64_t sync_bytes = memory->to_recover ? memory->sync_bytes : 0;
    pinti_range r;
    while (memory->recover_sync_at < sync_bytes && out_plan->n < PINTI_WORK_MAX &&
           pinti_ranges_next(&memory->sync_free, memory->recover_sync_at, &r)) {
        const uint64_t off = pinti_round_up(r.off, PINTI_PAGE_BYTES);
        const uint64_t end = pinti_round_down(r.off + r.bytes, PINTI_PAGE_BYTES);
        if (end > off) {
            (void)plan_add(out_plan, PINTI_WORK_PUNCH, true, off, end - off);
        }
        memory->recover_sync_at = r.off + r.bytes;
    }
    return out_plan->n != 0;
}

/* Free sync pages that have memory; small change is not worth a system call. */
static void plan_trim_sync(pinti_memory *memory, pinti_plan *plan)
{
    const uint64_t worth = 16 * PINTI_PAGE_BYTES;
    pinti_range free_run;
    for (uint64_t at = 0; pinti_ranges_next(&memory->sync_free, at, &free_run);) {
        at = free_run.off + free_run.bytes;
        const uint64_t end = pinti_round_down(at, PINTI_PAGE_BYTES);
        pinti_range got;
        for (uint64_t from = pinti_round_up(free_run.off, PINTI_PAGE_BYTES);
             from < end && pinti_ranges_next(&memory->sync_got, from, &got) && got.off < end;
             from = got.off + got.bytes) {
            got.bytes = pinti_min64(got.bytes, end - got.off);
            if (got.bytes >= worth && plan_add(plan, PINTI_WORK_PUNCH, true, got.off, got.bytes)) {
                pinti_pull(&memory->sync_free, got.off, got.bytes);
                pinti_pull(&memory->sync_dirty, got.off, got.bytes);
                pinti_pull(&memory->sync_got, got.off, got.bytes);
                pinti_pull(&memory->sync_clean, got.off, got.bytes);
            }
        }
    }
}

bool pinti_memory_plan_trim(pinti_memory *memory, uint64_t keep_bytes, pinti_plan *out_plan)
{
    out_plan->purpose = PINTI_PLAN_TRIM;
    out_plan->n = 0;
    const uint64_t spare = memory->warm.total > keep_bytes ? memory->warm.total - keep_bytes : 0;
    if (spare + memory->to_punch.total == 0 || !pinti_memory_reserve(memory)) {
        return false;
    }
    (void)plan_punch(memory, spare + memory->to_punch.total, (pinti_range){0, 0},
                     PINTI_WORK_MAX / 2, out_plan);
    plan_trim_sync(memory, out_plan);
    pinti_memory_report(memory);
    return out_plan->n != 0;
}

/* The first range at or after from that is in both sets. */
static bool next_in_both(const pinti_ranges *a, const pinti_ranges *b, uint64_t from,
                         pinti_range *out_range)
{
    pinti_range x;
    pinti_range y;
    while (pinti_ranges_next(a, from, &x) && pinti_ranges_next(b, x.off, &y)) {
        if (y.off < x.off + x.bytes) {
            out_range->off = y.off;
            out_range->bytes = pinti_min64(x.off + x.bytes, y.off + y.bytes) - y.off;
            return true;
        }
        from = y.off;
    }
    return false;
}

bool pinti_memory_plan_clean(pinti_memory *memory, uint64_t max_bytes, pinti_plan *out_plan)
{
    out_plan->purpose = PINTI_PLAN_CLEAN;
    out_plan->n = 0;
    if (!pinti_memory_reserve(memory)) {
        return false;
    }
    uint64_t left = pinti_round_up(max_bytes, PINTI_PAGE_BYTES);
    pinti_range r;
    while (left > 0 && out_plan->n < PINTI_WORK_MAX / 2 &&
           pinti_ranges_next(&memory->dirty, 0, &r)) {
        r.bytes = pinti_min64(r.bytes, left);
        (void)plan_add(out_plan, PINTI_WORK_ZERO, false, r.off, r.bytes);
        pinti_pull(&memory->dirty, r.off, r.bytes);
        pinti_memory_occupy(memory, r);
        left -= r.bytes;
    }
    for (uint64_t at = 0; left > 0 && out_plan->n < PINTI_WORK_MAX &&
                          next_in_both(&memory->sync_dirty, &memory->sync_got, at, &r);) {
        at = r.off + r.bytes;
        r.bytes = pinti_min64(r.bytes, pinti_round_up(left, PINTI_SYNC_UNIT));
        (void)plan_add(out_plan, PINTI_WORK_ZERO, true, r.off, r.bytes);
        pinti_pull(&memory->sync_dirty, r.off, r.bytes);
        pinti_pull(&memory->sync_free, r.off, r.bytes);
        left -= pinti_min64(left, r.bytes);
    }
    return out_plan->n != 0;
}
