/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Opening jobs: descriptors checked against the segments once, references counted in the slot like
 * tables' (R11), and the lease sets of a table. A handle also holds a reference on the table.
 */

#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/job.h"

static bool range_is_inside(uint64_t off, uint64_t bytes, uint64_t limit)
{
    return off % 8 == 0 && bytes <= limit && off <= limit - bytes;
}

static uint64_t align_line(uint64_t bytes)
{
    return (bytes + PINTI_CACHE_LINE - 1) & ~(uint64_t)(PINTI_CACHE_LINE - 1);
}

/* The job may use columns that this process has not looked at yet: the last is the highest. False:
 * it cannot be described. */
static bool knows_last_use(const pinti_job_desc *job, pint_error *err)
{
    pinti_table_desc *table = job->table;
    const uint32_t *uses = pinti_cat_uses(job->pool->catalog) + job->rec->first_use;
    const uint32_t last = uses[job->n_uses - 1] >> 2;
    /* relaxed: changed under pool->lock, which is held */
    return last < pinti_load32_relaxed(&table->xn_columns) ||
           pinti_columns_extend_locked(table, err) == PINT_OK ||
           last < pinti_load32_relaxed(&table->xn_columns);
}

/* Fill the uses and where their bytes lie in an undo buffer: for each INOUT column, ascending, the
 * values of a chunk, then its validity bits, each from a cache line on. */
static bool describe_uses(pinti_job_desc *job)
{
    const pinti_table_desc *table = job->table;
    const uint32_t *uses = pinti_cat_uses(job->pool->catalog) + job->rec->first_use;
    uint64_t off = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        pinti_job_use *use = &job->uses[i];
        use->index = uses[i] >> 2;
        use->use = (uses[i] & 3u) + 1;
        if (use->index >= pinti_load32_relaxed(&table->xn_columns) ||
            (i > 0 && use->index <= last) || use->use > PINT_INOUT) {
            return false;
        }
        last = use->index;
        use->column = pinti_column_desc_at(table, use->index);
        if (use->use != PINT_IN && use->column->type == PINT_TEXT) {
            return false;
        }
        if (use->use != PINT_INOUT) {
            continue;
        }
        job->has_inout = true;
        use->undo_values_off = off;
        off += align_line(use->column->row_bytes != 0 ? table->chunk_rows * use->column->row_bytes
                                                      : table->chunk_rows / 8);
        if (use->column->validity != NULL) {
            use->undo_validity_off = off;
            off += align_line(table->chunk_rows / 8);
        }
    }
    return off <= job->undo_bytes;
}

/* The operation locks of what the job writes. Under pool->lock. */
static bool find_operation_locks(pinti_job_desc *job)
{
    bool good = true;
    for (uint32_t i = 0; i < job->n_uses && good; i++) {
        pinti_job_use *use = &job->uses[i];
        good = use->use == PINT_IN ||
               pinti_operation_locks(job->table, use->index, &use->operation_locks);
    }
    return good;
}

static pinti_job_desc *desc_new(pinti_table_desc *table, uint32_t index, uint32_t generation,
                                pint_error *err)
{
    pint_pool *pool = table->pool;
    const pinti_job_rec *rec = &pinti_cat_jobs(pool->catalog)[index];
    const uint32_t n_uses = rec->n_uses;
    const uint32_t n_undo = rec->n_undo;
    uint64_t undo_bytes;
    if (rec->table != table->index || rec->table_generation != table->generation ||
        rec->n_chunks != table->n_chunks || n_uses == 0 || n_uses > PINTI_TABLE_COLUMNS_MAX ||
        rec->first_use > PINTI_USES_MAX || n_uses > PINTI_USES_MAX - rec->first_use ||
        n_undo > PINTI_JOB_UNDO_MAX ||
        __builtin_mul_overflow(rec->undo_bytes, (uint64_t)n_undo, &undo_bytes) ||
        (n_undo != 0 && !range_is_inside(rec->undo_off, undo_bytes, pool->data_bytes)) ||
        !range_is_inside(rec->sync_off, sizeof(pinti_job_sync), pool->sync_bytes) ||
        !range_is_inside(rec->words_off, rec->n_chunks * 8ull, pool->sync_bytes) ||
        !range_is_inside(rec->undo_words_off, n_undo * 8ull, pool->sync_bytes) ||
        !range_is_inside(rec->fails_off, PINTI_FAIL_TEXTS * sizeof(pinti_fail_text),
                         pool->sync_bytes)) {
        (void)pinti_fail(err, PINT_E_CORRUPT, 0, "job: record %u cannot be", index);
        return NULL;
    }
    pinti_job_desc *job = calloc(1, sizeof(*job) + (size_t)n_uses * sizeof(job->uses[0]));
    if (job == NULL) {
        (void)pinti_fail(err, PINT_E_NO_MEMORY, 0, "job: %u columns", n_uses);
        return NULL;
    }
    static pinti_a64 n_descs;
    job->serial = pinti_add64_relaxed(&n_descs, 1) + 1; /* relaxed: only a number */
    job->pool = pool;
    job->table = table;
    job->rec = rec;
    job->index = index;
    job->generation = generation;
    job->n_chunks = rec->n_chunks;
    job->n_undo = n_undo;
    job->is_lease_set = rec->name_bytes == 0;
    job->words = (pinti_a64 *)(void *)(pool->sync + rec->words_off);
    job->undo_words = (pinti_a64 *)(void *)(pool->sync + rec->undo_words_off);
    job->sync = (pinti_job_sync *)(void *)(pool->sync + rec->sync_off);
    job->fails = (pinti_fail_text *)(void *)(pool->sync + rec->fails_off);
    job->undo = n_undo != 0 ? pool->data + rec->undo_off : NULL;
    job->undo_bytes = n_undo != 0 ? rec->undo_bytes : 0;
    job->n_uses = n_uses;
    job->handle.desc = job;
    if (!knows_last_use(job, err)) {
        goto err_job;
    }
    if (!describe_uses(job) || (job->has_inout && n_undo == 0)) {
        (void)pinti_fail(err, PINT_E_CORRUPT, 0, "job: the uses of record %u cannot be", index);
        goto err_job;
    }
    if (!find_operation_locks(job)) {
        (void)pinti_fail(err, PINT_E_NO_MEMORY, 0, "job: %u columns", n_uses);
        goto err_job;
    }
    return job;
err_job:
    free(job);
    return NULL;
}

/* The descriptor of a generation this session refers to, made if need be. See table.h for why it
 * may be followed without a lock. */
static pinti_job_desc *desc_get(pinti_table_desc *table, uint32_t index, uint32_t generation,
                                pint_error *err)
{
    pint_pool *pool = table->pool;
    (void)pthread_mutex_lock(&pool->lock);
    pinti_job_desc *job = pool->jobs[index];
    if (job == NULL || job->generation != generation || job->table != table) {
        pinti_job_desc *fresh = desc_new(table, index, generation, err);
        if (fresh != NULL) {
            pool->jobs[index] = fresh;
            free(job);
        }
        job = fresh;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return job;
}

void pinti_job_descs_free(pint_pool *pool)
{
    const uint32_t n = pool->header != NULL ? pinti_load32_acquire(&pool->header->xn_jobs) : 0;
    for (uint32_t i = 0; i < n && i < PINTI_JOBS_MAX; i++) {
        free(pool->jobs[i]);
        pool->jobs[i] = NULL;
    }
}

/* A job that was dropped can still be opened while a chunk of it waits for its old bytes: the
 * service frees no job with such a word, and reads the slots after the words. */
static bool may_open(const pint_pool *pool, uint32_t index, uint32_t generation)
{
    const uint64_t state = pinti_load64_seq(
        &pinti_cat_jobs(pool->catalog)[index].xgen_state); /* seq: after the slot */
    return pinti_gen_of(state) == generation &&
           (pinti_state_of(state) == PINTI_LIVE || pinti_state_of(state) == PINTI_DYING);
}

bool pinti_job_is_there(const pinti_job_desc *job)
{
    return may_open(job->pool, job->index, job->generation);
}

pint_status pinti_job_open(pint_table *table, uint32_t index, uint32_t generation,
                           pint_job **out_job, pint_error *err)
{
    pinti_table_desc *desc = table->desc;
    pint_pool *pool = desc->pool;
    if (index >= PINTI_JOBS_MAX ||
        !pinti_ref_take_patiently(pinti_slot_jobs(pool->slot), index, generation)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "job: record %u cannot be", index);
    }
    if (!may_open(pool, index, generation)) {
        (void)pinti_ref_drop(pinti_slot_jobs(pool->slot), index, generation);
        return pinti_fail(err, PINT_E_NOT_FOUND, 0, "job: it was dropped");
    }
    pinti_job_desc *job = desc_get(desc, index, generation, err);
    if (job == NULL) {
        (void)pinti_ref_drop(pinti_slot_jobs(pool->slot), index, generation);
        return err != NULL ? err->status : PINT_E_CORRUPT;
    }
    /* one is held by the caller's handle, so this cannot fail but by overflow */
    if (!pinti_ref_take(pinti_slot_tables(pool->slot), desc->index, desc->generation)) {
        (void)pinti_ref_drop(pinti_slot_jobs(pool->slot), index, generation);
        return pinti_fail(err, PINT_E_STATE, 0, "job: its table is not open");
    }
    *out_job = &job->handle;
    return PINT_OK;
}

void pint_job_close(pint_job *job)
{
    if (job == NULL) {
        return;
    }
    pinti_job_desc *desc = job->desc;
    pint_pool *pool = desc->pool;
    pint_table *table = &desc->table->head->handles[0];
    if (pinti_pool_enter_to_close(pool) != PINT_OK) {
        return;
    }
    if (pinti_ref_drop(pinti_slot_jobs(pool->slot), desc->index, desc->generation)) {
        pint_table_close(table);
    }
}

/* ---- lease sets ------------------------------------------------------------------------------ */

static bool set_is_for(const pinti_job_desc *job, const uint32_t *columns, uint32_t n_columns)
{
    if (job->n_uses != n_columns) {
        return false;
    }
    for (uint32_t i = 0; i < n_columns; i++) {
        if (job->uses[i].index != columns[i]) {
            return false;
        }
    }
    return true;
}

static pinti_job_desc *find_set(const pinti_table_desc *table, const uint32_t *columns,
                                uint32_t n_columns)
{
    for (const struct pinti_lease_set *set = table->lease_sets; set != NULL; set = set->next) {
        if (set_is_for(set->job->desc, columns, n_columns)) {
            return set->job->desc;
        }
    }
    return NULL;
}

pint_status pinti_lease_set_get(pint_table *table, const uint32_t *columns, uint32_t n_columns,
                                pinti_job_desc **out_job, pint_error *err)
{
    pinti_table_desc *desc = table->desc;
    pint_pool *pool = desc->pool;
    (void)pthread_mutex_lock(&pool->lock);
    *out_job = find_set(desc, columns, n_columns);
    (void)pthread_mutex_unlock(&pool->lock);
    if (*out_job != NULL) {
        return PINT_OK;
    }
    uint32_t uses[64];
    for (uint32_t i = 0; i < n_columns; i++) {
        uses[i] = columns[i] << 2 | (PINT_INOUT - 1);
    }
    uint32_t index;
    uint32_t generation;
    pint_status status = pool->ops->create_job(pool, desc->index, desc->generation, NULL, uses,
                                               n_columns, &index, &generation, err);
    if (status != PINT_OK) {
        return status;
    }
    struct pinti_lease_set *set = calloc(1, sizeof(*set));
    if (set == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "lease: no memory");
    }
    status = pinti_job_open(table, index, generation, &set->job, err);
    if (status != PINT_OK) {
        free(set);
        return status;
    }
    /* The set holds a reference on the job only: one on the table would keep it open for ever.
     * pint_table_close() ends the sets with the last handle. */
    (void)pinti_ref_drop(pinti_slot_tables(pool->slot), desc->index, desc->generation);
    (void)pthread_mutex_lock(&pool->lock);
    *out_job = find_set(desc, columns, n_columns);
    const bool is_first = *out_job == NULL;
    if (is_first) {
        *out_job = set->job->desc;
        set->next = desc->lease_sets;
        desc->lease_sets = set;
        (void)pinti_add32_relaxed(&pool->n_lease_sets, 1);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (!is_first) { /* another thread was faster: the same job, one reference too many */
        (void)pinti_ref_drop(pinti_slot_jobs(pool->slot), index, generation);
        free(set);
    }
    return PINT_OK;
}

void pinti_lease_sets_close(pint_pool *pool, uint32_t table, uint32_t generation)
{
    (void)pthread_mutex_lock(&pool->lock);
    pinti_table_desc *desc =
        pool->tables[table].head != NULL ? pool->tables[table].head->handles[0].desc : NULL;
    const uint64_t word = pinti_load64_relaxed(&pinti_slot_tables(pool->slot)[table]);
    if (desc != NULL && desc->generation == generation && pinti_ref_count(word) == 0) {
        while (desc->lease_sets != NULL) {
            struct pinti_lease_set *set = desc->lease_sets;
            desc->lease_sets = set->next;
            const pinti_job_desc *job = set->job->desc;
            (void)pinti_ref_drop(pinti_slot_jobs(pool->slot), job->index, job->generation);
            (void)pinti_add32_relaxed(&pool->n_lease_sets, UINT32_MAX); /* less one */
            free(set);
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
}
