/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freeing what was dropped, and dropping what belongs to nobody. A record is FREE before its memory
 * goes back to the allocator, so that a crash between the two only makes rebuild do the second. A
 * table is freed after its jobs and its device copies.
 */
#include <string.h>

#include "ipc/service/catalog_internal.h"

typedef bool (*refers_fn)(void *ctx, int kind, uint32_t index, uint32_t generation);

static uint32_t generation_of(const pinti_a64 *gen_state)
{
    return (uint32_t)(pinti_load64_relaxed(gen_state) >> 32);
}

/* Data memory of a record that is FREE now, and the extents that say so. */
static void free_extents(pinti_cat *cat, uint32_t first_extent, uint32_t uid)
{
    for (uint32_t at = first_extent; at != 0 && at <= PINTI_EXTENTS_MAX;) {
        const pinti_range data = pinti_cat_extent(cat, at);
        const uint32_t next = cat->extents[at - 1].next;
        memset(&cat->extents[at - 1], 0, sizeof(pinti_extent));
        (void)pinti_ranges_add(&cat->free_extents, at - 1, 1);
        pinti_memory_give(cat->memory, data, (pinti_range){0, 0}, uid);
        at = next;
    }
}

static void free_job(pinti_cat *cat, uint32_t job)
{
    pinti_job_rec *rec = &cat->jobs[job];
    const pinti_range sync = {.off = rec->sync_off, .bytes = rec->sync_bytes};
    pinti_cat_unlink_job(cat, job);
    pinti_cat_set_state(&rec->xgen_state, PINTI_FREE);
    free_extents(cat, rec->first_extent, cat->job_info[job].uid);
    pinti_memory_give(cat->memory, (pinti_range){0, 0}, sync, cat->job_info[job].uid);
    (void)pinti_ranges_add(&cat->free_uses, rec->first_use, rec->n_uses);
    (void)pinti_ranges_add(&cat->free_jobs, job, 1);
    cat->n_dying--;
}

/* Column records of a table that is FREE now, and the sync blocks that came with added columns. Old
 * records never look valid. */
static void free_columns(pinti_cat *cat, const pinti_table_rec *rec, uint32_t uid)
{
    const uint32_t n_columns = pinti_load32_relaxed(&rec->xn_columns);
    const uint32_t n_runs = pinti_cat_n_runs(rec);
    for (uint32_t i = 0; i < n_columns; i++) {
        pinti_column_rec *column = pinti_cat_column(cat->catalog, rec, i);
        const pinti_range block = pinti_cat_column_block(column);
        if (block.bytes != 0) {
            pinti_memory_give(cat->memory, (pinti_range){0, 0}, block, uid);
        }
        memset(column, 0, sizeof(*column));
    }
    for (uint32_t run = 0; run < n_runs; run++) {
        (void)pinti_ranges_add(&cat->free_columns, rec->runs[run].first, rec->runs[run].count);
    }
}

static void free_table(pinti_cat *cat, uint32_t index)
{
    pinti_table_rec *rec = &cat->tables[index];
    const pinti_range sync = {.off = rec->sync_off, .bytes = rec->sync_bytes};
    const uint32_t uid = cat->table_info[index].uid;
    pinti_cat_unlink_request(cat, index);
    pinti_cat_set_state(&rec->xgen_state, PINTI_FREE);
    PINTI_CRASHPOINT(SERVICE_FREE_HALF);
    free_columns(cat, rec, uid); /* nobody reads them: no slot refers to the table */
    free_extents(cat, rec->first_extent, uid);
    pinti_memory_give(cat->memory, (pinti_range){0, 0}, sync, uid);
    if (rec->moved_to != 0) {
        cat->table_info[(uint32_t)rec->moved_to - 1].n_donors--; /* it waited for this one */
    }
    (void)pinti_ranges_add(&cat->free_tables, index, 1);
    cat->n_dying--;
}

/*
 * May nobody need this DYING job any more? The words are asked before the slots: whoever puts old
 * bytes back refers to the job in its slot first, finds REDO then, and drops the reference last. So
 * when no word waits, and after that no slot refers, it is over with all of it (tests/model).
 */
static bool job_is_done(const pinti_cat *cat, uint32_t job, refers_fn refers, void *ctx)
{
    const pinti_job_rec *rec = &cat->jobs[job];
    const bool table_lives = pinti_cat_state(&cat->tables[rec->table].xgen_state) != PINTI_DYING;
    if (table_lives && cat->needs_undo != NULL && cat->needs_undo(cat->needs_undo_ctx, rec)) {
        return false;
    }
    if (refers(ctx, PINTI_REF_JOB, job, generation_of(&rec->xgen_state))) {
        return false;
    }
    return (table_lives && cat->needs_undo != NULL) ||
           !refers(ctx, PINTI_REF_TABLE, rec->table, rec->table_generation);
}

/* Tables: those whose columns were moved to another, or those where that is not so. A target whose
 * donor is still referred to waits: the bytes under that reference are its own now. */
static uint32_t reap_tables(pinti_cat *cat, bool moved, refers_fn refers, void *ctx)
{
    uint32_t n_freed = 0;
    uint32_t n_left = cat->n_dying;
    const uint32_t n_tables = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n_tables && n_left > 0; i++) {
        const pinti_table_rec *rec = &cat->tables[i];
        if (pinti_cat_state(&rec->xgen_state) != PINTI_DYING) {
            continue;
        }
        n_left--;
        if ((rec->moved_to != 0) == moved && cat->table_info[i].jobs == 0 &&
            cat->table_info[i].n_donors == 0 && cat->table_info[i].n_copies == 0 &&
            !refers(ctx, PINTI_REF_TABLE, i, generation_of(&rec->xgen_state))) {
            free_table(cat, i);
            n_freed++;
        }
    }
    return n_freed;
}

uint32_t pinti_cat_reap(pinti_cat *cat,
                        bool (*refers)(void *ctx, int kind, uint32_t index, uint32_t generation),
                        void *ctx)
{
    uint32_t n_freed = pinti_cat_reap_copies(cat, refers, ctx);
    uint32_t n_left = cat->n_dying;
    const uint32_t n_jobs = pinti_load32_relaxed(&cat->header->xn_jobs);
    for (uint32_t i = 0; i < n_jobs && n_left > 0; i++) {
        if (pinti_cat_state(&cat->jobs[i].xgen_state) == PINTI_DYING) {
            n_left--;
            if (job_is_done(cat, i, refers, ctx)) {
                free_job(cat, i);
                n_freed++;
            }
        }
    }
    n_freed += reap_tables(cat, true, refers, ctx); /* first, so that their targets need not wait */
    return n_freed + reap_tables(cat, false, refers, ctx);
}

void pinti_cat_session_ended(pinti_cat *cat, uint64_t session)
{
    uint32_t n_left = cat->n_building;
    const uint32_t n = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n && n_left > 0; i++) {
        if (pinti_cat_state(&cat->tables[i].xgen_state) == PINTI_BUILDING) {
            n_left--;
            if (cat->tables[i].creator_session == session) {
                pinti_cat_table_kill(cat, i);
            }
        }
    }
}

bool pinti_cat_drop_ownerless(pinti_cat *cat, bool (*family_lives)(void *ctx, uint64_t family),
                              bool (*refers)(void *ctx, int kind, uint32_t index,
                                             uint32_t generation),
                              void *ctx)
{
    bool remain = false;
    uint32_t n_left = cat->n_live - cat->n_kept;
    const uint32_t n = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n && n_left > 0; i++) {
        const pinti_table_rec *rec = &cat->tables[i];
        const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
        if ((gen_state & 0xffu) != PINTI_LIVE || (gen_state & PINTI_RECORD_KEPT) != 0) {
            continue;
        }
        n_left--;
        if (family_lives(ctx, rec->family)) {
            continue;
        }
        if (refers(ctx, PINTI_REF_TABLE, i, generation_of(&rec->xgen_state))) {
            remain = true;
        } else {
            pinti_cat_table_kill(cat, i);
        }
    }
    return remain;
}
