/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freeing what was dropped, and dropping what belongs to nobody. A record is FREE before its memory
 * goes back to the allocator, so that a crash between the two only makes rebuild do the second. A
 * table is freed after its jobs.
 */
#include <string.h>

#include "ipc/service/catalog_internal.h"

typedef bool (*refers_fn)(void *ctx, int kind, uint32_t index, uint32_t generation);

enum { KIND_TABLE = 1, KIND_JOB = 2 };

static uint32_t generation_of(const pinti_a64 *gen_state)
{
    return (uint32_t)(pinti_load64_relaxed(gen_state) >> 32);
}

static void free_extent(pinti_cat *cat, uint32_t first_extent)
{
    if (first_extent != 0) {
        memset(&cat->extents[first_extent - 1], 0, sizeof(pinti_extent));
        (void)pinti_ranges_add(&cat->free_extents, first_extent - 1, 1);
    }
}

static void free_job(pinti_cat *cat, uint32_t job)
{
    pinti_job_rec *rec = &cat->jobs[job];
    const pinti_range data = pinti_cat_extent(cat, rec->first_extent);
    const pinti_range sync = {.off = rec->sync_off, .bytes = rec->sync_bytes};
    pinti_cat_unlink_job(cat, job);
    pinti_cat_set_state(&rec->xgen_state, PINTI_FREE);
    free_extent(cat, rec->first_extent);
    pinti_memory_give(cat->memory, data, sync, cat->job_info[job].uid);
    (void)pinti_ranges_add(&cat->free_uses, rec->first_use, rec->n_uses);
    (void)pinti_ranges_add(&cat->free_jobs, job, 1);
    cat->n_dying--;
}

static void free_table(pinti_cat *cat, uint32_t index)
{
    pinti_table_rec *rec = &cat->tables[index];
    const pinti_range data = pinti_cat_extent(cat, rec->first_extent);
    const pinti_range sync = {.off = rec->sync_off, .bytes = rec->sync_bytes};
    pinti_cat_unlink_request(cat, index);
    /* Old column records never look valid. Nobody reads them: no slot refers to the table. */
    memset(&cat->columns[rec->runs[0].first], 0, rec->runs[0].count * sizeof(pinti_column_rec));
    PINTI_CRASHPOINT(SERVICE_FREE_HALF);
    pinti_cat_set_state(&rec->xgen_state, PINTI_FREE);
    free_extent(cat, rec->first_extent);
    pinti_memory_give(cat->memory, data, sync, cat->table_info[index].uid);
    (void)pinti_ranges_add(&cat->free_columns, rec->runs[0].first, rec->runs[0].count);
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
    if (refers(ctx, KIND_JOB, job, generation_of(&rec->xgen_state))) {
        return false;
    }
    return (table_lives && cat->needs_undo != NULL) ||
           !refers(ctx, KIND_TABLE, rec->table, rec->table_generation);
}

uint32_t pinti_cat_reap(pinti_cat *cat,
                        bool (*refers)(void *ctx, int kind, uint32_t index, uint32_t generation),
                        void *ctx)
{
    uint32_t n_freed = 0;
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
    const uint32_t n_tables = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n_tables && n_left > 0; i++) {
        if (pinti_cat_state(&cat->tables[i].xgen_state) == PINTI_DYING) {
            n_left--;
            if (cat->table_info[i].jobs == 0 &&
                !refers(ctx, KIND_TABLE, i, generation_of(&cat->tables[i].xgen_state))) {
                free_table(cat, i);
                n_freed++;
            }
        }
    }
    return n_freed;
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
        if (refers(ctx, KIND_TABLE, i, generation_of(&rec->xgen_state))) {
            remain = true;
        } else {
            pinti_cat_table_kill(cat, i);
        }
    }
    return remain;
}
