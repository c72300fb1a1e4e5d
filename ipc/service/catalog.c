/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Life of the catalog's writer: format, attach, rebuild after a crash, and what all its parts use.
 * The process-local state (free numbers, lists, counts) is a function of the catalog; rebuild
 * computes it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/catalog_internal.h"

void pinti_cat_format(void *catalog, uint64_t data_bytes, uint64_t sync_bytes,
                      uint64_t budget_bytes, const uint64_t pool_id[2])
{
    pinti_catalog_header *header = catalog;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    header->magic = PINTI_MAGIC;
    header->layout_version = PINTI_LAYOUT_VERSION;
    header->signature = pinti_layout_signature();
    header->pool_id[0] = pool_id[0];
    header->pool_id[1] = pool_id[1];
    header->data_bytes = data_bytes;
    header->sync_bytes = sync_bytes;
    header->bell_bytes = PINTI_BELL_BYTES;
    header->slot_bytes = PINTI_SLOT_BYTES;
    header->n_slabs = (uint32_t)(data_bytes / PINTI_SLAB_BYTES);
    header->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    header->next_session_id = 1;
    header->next_table_id = 1;
    header->next_job_id = 1;
    header->next_family_id = 1;
    /* Nobody has joined: no order needed. */
    pinti_store64_relaxed(&header->xbudget_bytes, budget_bytes);
}

static bool init_numbers(pinti_cat *cat)
{
    return pinti_ranges_add(&cat->free_tables, 0, PINTI_TABLES_MAX) &&
           pinti_ranges_add(&cat->free_jobs, 0, PINTI_JOBS_MAX) &&
           pinti_ranges_add(&cat->free_extents, 0, PINTI_EXTENTS_MAX) &&
           pinti_ranges_add(&cat->free_columns, 0, PINTI_COLUMNS_MAX) &&
           pinti_ranges_add(&cat->free_uses, 0, PINTI_USES_MAX) &&
           pinti_ranges_add(&cat->free_copies, 0, PINTI_COPIES_MAX);
}

pinti_cat *pinti_cat_new(void *catalog, pinti_memory *memory)
{
    pinti_cat *cat = calloc(1, sizeof(*cat));
    if (cat == NULL) {
        return NULL;
    }
    cat->catalog = catalog;
    cat->header = catalog;
    cat->tables = pinti_cat_tables(catalog);
    cat->jobs = pinti_cat_jobs(catalog);
    cat->copies = pinti_cat_copies(catalog);
    cat->extents = pinti_cat_extents(catalog);
    cat->uses = pinti_cat_uses(catalog);
    cat->columns = pinti_cat_columns(catalog);
    cat->index = pinti_cat_index(catalog);
    cat->memory = memory;
    const long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
    cat->n_cpus = n_cpus > 0 ? (uint32_t)n_cpus : 1;
    cat->table_info = calloc(PINTI_TABLES_MAX, sizeof(*cat->table_info));
    cat->job_info = calloc(PINTI_JOBS_MAX, sizeof(*cat->job_info));
    cat->copy_info = calloc(PINTI_COPIES_MAX, sizeof(*cat->copy_info));
    cat->request_buckets = calloc(PINTI_REQUEST_BUCKETS, sizeof(*cat->request_buckets));
    if (cat->table_info == NULL || cat->job_info == NULL || cat->copy_info == NULL ||
        cat->request_buckets == NULL || !init_numbers(cat)) {
        pinti_cat_free(cat);
        return NULL;
    }
    return cat;
}

void pinti_cat_free(pinti_cat *cat)
{
    if (cat == NULL) {
        return;
    }
    pinti_ranges_done(&cat->free_tables);
    pinti_ranges_done(&cat->free_jobs);
    pinti_ranges_done(&cat->free_extents);
    pinti_ranges_done(&cat->free_columns);
    pinti_ranges_done(&cat->free_uses);
    pinti_ranges_done(&cat->free_copies);
    free(cat->table_info);
    free(cat->job_info);
    free(cat->copy_info);
    free(cat->request_buckets);
    free(cat);
}

void pinti_cat_on_needs_undo(pinti_cat *cat,
                             bool (*needs_undo)(void *ctx, const pinti_job_rec *job), void *ctx)
{
    cat->needs_undo = needs_undo;
    cat->needs_undo_ctx = ctx;
}

/* ---- what the parts use ---------------------------------------------------------------------- */

bool pinti_cat_has_table(const pinti_cat *cat, uint32_t index, uint32_t generation)
{
    if (index >= PINTI_TABLES_MAX) {
        return false;
    }
    const uint64_t gen_state = pinti_load64_relaxed(&cat->tables[index].xgen_state);
    return pinti_gen_of(gen_state) == generation && pinti_state_of(gen_state) != PINTI_FREE;
}

bool pinti_cat_has_job(const pinti_cat *cat, uint32_t index, uint32_t generation)
{
    if (index >= PINTI_JOBS_MAX) {
        return false;
    }
    const uint64_t gen_state = pinti_load64_relaxed(&cat->jobs[index].xgen_state);
    return pinti_gen_of(gen_state) == generation && pinti_state_of(gen_state) != PINTI_FREE;
}

uint32_t pinti_cat_next_generation(const pinti_a64 *gen_state)
{
    const uint32_t next = pinti_gen_of(pinti_load64_relaxed(gen_state)) + 1;
    return next == 0 ? 1 : next;
}

void pinti_cat_set_state(pinti_a64 *gen_state, enum pinti_record_state state)
{
    const uint64_t old = pinti_load64_relaxed(gen_state);
    pinti_store64_seq(gen_state, (old & ~0xffull) | (uint64_t)state);
}

const char *pinti_cat_name(const pinti_table_rec *rec, char out[PINTI_NAME_BYTES_MAX + 1])
{
    uint64_t words[PINTI_NAME_WORDS];
    for (uint32_t i = 0; i < PINTI_NAME_WORDS; i++) {
        words[i] = pinti_load64_relaxed(&rec->xname[i]);
    }
    memcpy(out, words, PINTI_NAME_BYTES_MAX + 1);
    out[PINTI_NAME_BYTES_MAX] = '\0';
    return out;
}

bool pinti_cat_take_number(pinti_ranges *numbers, uint32_t n, uint32_t *out_first)
{
    uint64_t first = 0;
    if (!pinti_ranges_first_fit(numbers, n, 1, &first) || !pinti_ranges_remove(numbers, first, n)) {
        return false;
    }
    *out_first = (uint32_t)first;
    return true;
}

pinti_range pinti_cat_extent(const pinti_cat *cat, uint32_t first_extent)
{
    if (first_extent == 0 || first_extent > PINTI_EXTENTS_MAX) {
        return (pinti_range){0, 0};
    }
    const pinti_extent *extent = &cat->extents[first_extent - 1];
    return (pinti_range){.off = extent->off, .bytes = extent->bytes};
}

static uint32_t request_bucket(uint64_t session, uint64_t request)
{
    const uint64_t h = (session * 0x9e3779b97f4a7c15ull) ^ (request * 0xff51afd7ed558ccdull);
    return (uint32_t)(h >> 40) & (PINTI_REQUEST_BUCKETS - 1u);
}

static uint32_t *bucket_of(pinti_cat *cat, uint32_t index)
{
    const pinti_table_rec *rec = &cat->tables[index];
    return &cat->request_buckets[request_bucket(rec->creator_session, rec->creator_request)];
}

void pinti_cat_link_request(pinti_cat *cat, uint32_t index)
{
    uint32_t *bucket = bucket_of(cat, index);
    cat->table_info[index].next_request = *bucket;
    *bucket = index + 1;
}

void pinti_cat_unlink_request(pinti_cat *cat, uint32_t index)
{
    uint32_t *link = bucket_of(cat, index);
    while (*link != 0 && *link != index + 1) {
        link = &cat->table_info[*link - 1].next_request;
    }
    if (*link != 0) {
        *link = cat->table_info[index].next_request;
    }
}

bool pinti_cat_find_request(pinti_cat *cat, uint64_t session, uint64_t request, uint32_t *out_index,
                            uint32_t *out_generation)
{
    for (uint32_t at = cat->request_buckets[request_bucket(session, request)]; at != 0;
         at = cat->table_info[at - 1].next_request) {
        const pinti_table_rec *rec = &cat->tables[at - 1];
        const uint32_t state = pinti_cat_state(&rec->xgen_state);
        if (rec->creator_session == session && rec->creator_request == request &&
            (state == PINTI_BUILDING || state == PINTI_LIVE)) {
            *out_index = at - 1;
            *out_generation = pinti_gen_of(pinti_load64_relaxed(&rec->xgen_state));
            return true;
        }
    }
    return false;
}

void pinti_cat_link_job(pinti_cat *cat, uint32_t job)
{
    uint32_t *list = &cat->table_info[cat->jobs[job].table].jobs;
    cat->job_info[job].next = *list;
    *list = job + 1;
}

void pinti_cat_unlink_job(pinti_cat *cat, uint32_t job)
{
    uint32_t *link = &cat->table_info[cat->jobs[job].table].jobs;
    while (*link != 0 && *link != job + 1) {
        link = &cat->job_info[*link - 1].next;
    }
    if (*link != 0) {
        *link = cat->job_info[job].next;
    }
}

uint32_t pinti_cat_n_dying(const pinti_cat *cat)
{
    return cat->n_dying;
}

uint32_t pinti_cat_n_live(const pinti_cat *cat)
{
    return cat->n_live;
}

uint32_t pinti_cat_n_kept(const pinti_cat *cat)
{
    return cat->n_kept;
}

/* ---- rebuild --------------------------------------------------------------------------------- */

/* These numbers are in use. False: they are not free, or there are no such numbers. */
static bool use_numbers(pinti_ranges *numbers, uint64_t first, uint64_t n)
{
    return n == 0 ||
           (pinti_ranges_has_all(numbers, first, n) && pinti_ranges_remove(numbers, first, n));
}

/* Memory of a record: its extents, if they are the record's, and its sync block. */
static pint_status use_memory(pinti_cat *cat, const pinti_extent *wanted, uint32_t first_extent,
                              pinti_range sync, uint32_t uid, pint_error *err)
{
    for (uint32_t at = first_extent; at != 0; at = cat->extents[at - 1].next) {
        /* a chain that runs in a circle uses a number twice */
        if (at > PINTI_EXTENTS_MAX || !use_numbers(&cat->free_extents, at - 1, 1)) {
            return pinti_fail(err, PINT_E_CORRUPT, 0,
                              "extent %" PRIu32 " is not there or used twice", at);
        }
        const pinti_extent *extent = &cat->extents[at - 1];
        if (extent->owner != wanted->owner || extent->kind != wanted->kind ||
            extent->generation != wanted->generation) {
            return pinti_fail(err, PINT_E_CORRUPT, 0,
                              "extent %" PRIu32 " belongs to another record", at);
        }
        const pint_status status =
            pinti_memory_mark_used(cat->memory, false, pinti_cat_extent(cat, at), uid, err);
        if (status != PINT_OK) {
            return status;
        }
    }
    return pinti_memory_mark_used(cat->memory, true, sync, uid, err);
}

/* Column records, and the sync blocks that came with added columns. */
static pint_status use_columns(pinti_cat *cat, const pinti_table_rec *rec, pint_error *err)
{
    const uint32_t n_runs = pinti_cat_n_runs(rec);
    const uint32_t n_columns = pinti_load32_relaxed(&rec->xn_columns);
    bool good = n_runs != 0;
    for (uint32_t run = 0; run < n_runs && good; run++) {
        good = use_numbers(&cat->free_columns, rec->runs[run].first, rec->runs[run].count);
    }
    if (!good) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "column records of table %" PRIu32 " are taken",
                          (uint32_t)(rec - cat->tables));
    }
    pint_status status = PINT_OK;
    for (uint32_t i = rec->runs[0].count; i < n_columns && status == PINT_OK; i++) {
        const pinti_range block = pinti_cat_column_block(pinti_cat_column(cat->catalog, rec, i));
        status = pinti_memory_mark_used(cat->memory, true, block, rec->uid, err);
    }
    return status;
}

static pint_status rebuild_table(pinti_cat *cat, uint32_t index, pint_error *err)
{
    pinti_table_rec *rec = &cat->tables[index];
    const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
    if (pinti_state_of(gen_state) == PINTI_FREE) {
        return PINT_OK;
    }
    const pinti_extent wanted = {
        .owner = index, .kind = PINTI_EXTENT_TABLE, .generation = pinti_gen_of(gen_state)};
    if (!use_numbers(&cat->free_tables, index, 1)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "table %" PRIu32 " is there twice", index);
    }
    pint_status status = use_columns(cat, rec, err);
    if (status == PINT_OK) {
        status = use_memory(cat, &wanted, rec->first_extent,
                            (pinti_range){.off = rec->sync_off, .bytes = rec->sync_bytes}, rec->uid,
                            err);
    }
    if (status != PINT_OK) {
        return status;
    }
    cat->table_info[index].uid = rec->uid;
    if (rec->moved_to != 0 &&
        pinti_cat_has_table(cat, (uint32_t)rec->moved_to - 1, pinti_gen_of(rec->moved_to))) {
        cat->table_info[(uint32_t)rec->moved_to - 1].n_donors++;
    }
    pinti_cat_link_request(cat, index);
    cat->n_building += pinti_state_of(gen_state) == PINTI_BUILDING;
    cat->n_dying += pinti_state_of(gen_state) == PINTI_DYING;
    if (pinti_state_of(gen_state) == PINTI_LIVE) {
        cat->n_live++;
        cat->n_kept += (gen_state & PINTI_RECORD_KEPT) != 0;
    }
    return PINT_OK;
}

static pint_status rebuild_job(pinti_cat *cat, uint32_t index, pint_error *err)
{
    pinti_job_rec *rec = &cat->jobs[index];
    const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
    if (pinti_state_of(gen_state) == PINTI_FREE) {
        return PINT_OK;
    }
    const pinti_extent wanted = {
        .owner = index, .kind = PINTI_EXTENT_JOB, .generation = pinti_gen_of(gen_state)};
    if (!pinti_cat_has_table(cat, rec->table, rec->table_generation) ||
        !use_numbers(&cat->free_jobs, index, 1) ||
        !use_numbers(&cat->free_uses, rec->first_use, rec->n_uses)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "job %" PRIu32 " has no table or no uses", index);
    }
    const pint_status status =
        use_memory(cat, &wanted, rec->first_extent,
                   (pinti_range){.off = rec->sync_off, .bytes = rec->sync_bytes}, rec->uid, err);
    if (status != PINT_OK) {
        return status;
    }
    cat->job_info[index].uid = rec->uid;
    pinti_cat_link_job(cat, index);
    if (pinti_state_of(gen_state) == PINTI_DYING) {
        cat->n_dying++;
    } else if (pinti_cat_state(&cat->tables[rec->table].xgen_state) == PINTI_DYING) {
        pinti_cat_job_kill(cat, index); /* the drop of its table was cut off */
    }
    return PINT_OK;
}

pint_status pinti_cat_rebuild(pinti_cat *cat, pint_error *err)
{
    pinti_cat_finish_journal(cat);
    pinti_index_repair(cat);
    pint_status status = PINT_OK;
    const uint32_t n_tables = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX && status == PINT_OK; i++) {
        status = rebuild_table(cat, i, err);
    }
    const uint32_t n_jobs = pinti_load32_relaxed(&cat->header->xn_jobs);
    for (uint32_t i = 0; i < n_jobs && i < PINTI_JOBS_MAX && status == PINT_OK; i++) {
        status = rebuild_job(cat, i, err);
    }
    return status == PINT_OK ? pinti_cat_rebuild_copies(cat, err) : status;
}
