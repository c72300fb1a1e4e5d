/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs and lease sets. A job's sync block: pinti_job_sync, a word for each chunk, a word for each
 * undo buffer, the texts of failures; each part begins at a cache line. Its data extent: n_undo
 * undo buffers, each with values and validity of the INOUT columns of one chunk in ascending order.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/error.h"
#include "ipc/service/catalog_internal.h"

#define USE_INOUT 2u /* the low two bits of a use: PINT_IN 1, OUT 2, INOUT 3, less 1 */
#define USE_IN    0u
#define UNDO_MIN  8u
#define UNDO_MAX  64u

typedef struct job_shape {
    uint32_t n_undo;
    uint64_t undo_bytes;
    uint64_t words; /* from the start of the sync block */
    uint64_t undo_words;
    uint64_t fails;
    uint64_t data_bytes;
    uint64_t sync_bytes;
} job_shape;

/* A job as asked for, its uses checked and sorted. The last three are for create only. */
typedef struct job_ask {
    uint32_t table;
    const char *name; /* NULL: a lease set */
    const uint32_t *sorted;
    uint32_t n_uses;
    const pinti_owner *owner;
    const pinti_range *data;
    const pinti_range *sync;
} job_ask;

static uint64_t line_up(uint64_t n)
{
    return (n + PINTI_CACHE_LINE - 1) & ~(uint64_t)(PINTI_CACHE_LINE - 1);
}

/* ---- uses ------------------------------------------------------------------------------------ */

static int compare_uses(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static const char *column_shown(const pinti_column_rec *column, char out[100])
{
    return pinti_printable(out, 100, (const char *)column->name, column->name_bytes);
}

static pint_status check_use(const pinti_cat *cat, const pinti_table_rec *table, uint32_t use,
                             pint_error *err)
{
    char text[100];
    const pinti_column_rec *column = pinti_cat_column(cat->catalog, table, use >> 2);
    if (column == NULL) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0,
                          "job.create: column %" PRIu32 " of a table with %" PRIu32 " columns",
                          use >> 2, pinti_load32_relaxed(&table->xn_columns));
    }
    if ((use & 3u) > USE_INOUT) {
        return pinti_fail(err, PINT_E_INVALID, 0, "job.create: column '%s': unknown use",
                          column_shown(column, text));
    }
    if (column->type == PINT_TEXT && (use & 3u) != USE_IN) {
        return pinti_fail(err, PINT_E_TYPE, 0,
                          "job.create: column '%s': text is not written in place",
                          column_shown(column, text));
    }
    return PINT_OK;
}

/* A sorted copy of checked uses; free() it. */
static pint_status sort_uses(const pinti_cat *cat, const pinti_table_rec *table,
                             const uint32_t *uses, uint32_t n_uses, uint32_t **out_sorted,
                             pint_error *err)
{
    char text[100];
    const uint32_t n_columns = pinti_load32_relaxed(&table->xn_columns);
    if (n_uses > n_columns) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "job.create: %" PRIu32 " uses of a table with %" PRIu32 " columns",
                          n_uses, n_columns);
    }
    uint32_t *sorted = malloc(((size_t)n_uses + 1) * sizeof(*sorted));
    if (sorted == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "job.create: %" PRIu32 " uses", n_uses);
    }
    if (n_uses != 0) {
        memcpy(sorted, uses, n_uses * sizeof(*sorted));
        qsort(sorted, n_uses, sizeof(*sorted), compare_uses);
    }
    pint_status status = PINT_OK;
    for (uint32_t i = 0; i < n_uses && status == PINT_OK; i++) {
        status = check_use(cat, table, sorted[i], err);
        if (status == PINT_OK && i > 0 && sorted[i] >> 2 == sorted[i - 1] >> 2) {
            status = pinti_fail(
                err, PINT_E_INVALID, 0, "job.create: column '%s' is named twice",
                column_shown(pinti_cat_column(cat->catalog, table, sorted[i] >> 2), text));
        }
    }
    if (status != PINT_OK) {
        free(sorted);
        return status;
    }
    *out_sorted = sorted;
    return PINT_OK;
}

/* The table of a job: BUILDING or LIVE. */
static pint_status get_table(const pinti_cat *cat, uint32_t index, uint32_t generation,
                             const pinti_table_rec **out_rec, pint_error *err)
{
    if (!pinti_cat_has_table(cat, index, generation)) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0,
                          "job on table %" PRIu32 ", generation %" PRIu32 ": no such table", index,
                          generation);
    }
    if (pinti_cat_state(&cat->tables[index].xgen_state) == PINTI_DYING) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "job on a dropped table");
    }
    *out_rec = &cat->tables[index];
    return PINT_OK;
}

/* ---- find ------------------------------------------------------------------------------------ */

static bool has_uses(const pinti_cat *cat, const pinti_job_rec *job, const uint32_t *sorted,
                     uint32_t n_uses)
{
    return job->n_uses == n_uses &&
           memcmp(&cat->uses[job->first_use], sorted, n_uses * sizeof(*sorted)) == 0;
}

static pint_status find_job(const pinti_cat *cat, const job_ask *ask, uint32_t *out_job,
                            uint32_t *out_generation, pint_error *err)
{
    char text[100] = "";
    const char *name = ask->name;
    const size_t name_bytes = name == NULL ? 0 : strnlen(name, PINTI_NAME_BYTES_MAX + 1);
    for (uint32_t at = cat->table_info[ask->table].jobs; at != 0; at = cat->job_info[at - 1].next) {
        const pinti_job_rec *job = &cat->jobs[at - 1];
        if (pinti_cat_state(&job->xgen_state) != PINTI_LIVE || job->name_bytes != name_bytes ||
            (name != NULL && memcmp(job->name, name, name_bytes) != 0)) {
            continue;
        }
        const bool same = has_uses(cat, job, ask->sorted, ask->n_uses);
        if (name == NULL && !same) {
            continue;
        }
        if (!same && ask->n_uses != 0) {
            return pinti_fail(err, PINT_E_EXISTS, 0, "job '%s' exists with other columns or uses",
                              pinti_printable(text, sizeof(text), name, name_bytes));
        }
        *out_job = at - 1;
        *out_generation = pinti_gen_of(pinti_load64_relaxed(&job->xgen_state));
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "job '%s': no such job",
                      name == NULL ? "" : pinti_printable(text, sizeof(text), name, name_bytes));
}

pint_status pinti_cat_job_find(pinti_cat *cat, uint32_t table, uint32_t generation,
                               const char *name_or_null, const uint32_t *uses, uint32_t n_uses,
                               uint32_t *out_job, uint32_t *out_generation, pint_error *err)
{
    const pinti_table_rec *rec = NULL;
    uint32_t *sorted = NULL;
    pint_status status = get_table(cat, table, generation, &rec, err);
    if (status == PINT_OK) {
        status = sort_uses(cat, rec, uses, n_uses, &sorted, err);
    }
    if (status == PINT_OK) {
        const job_ask ask = {
            .table = table, .name = name_or_null, .sorted = sorted, .n_uses = n_uses};
        status = find_job(cat, &ask, out_job, out_generation, err);
    }
    free(sorted);
    return status;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Old bytes of one chunk of the INOUT columns. False: overflow. */
static bool undo_bytes_of(const pinti_cat *cat, const pinti_table_rec *table,
                          const uint32_t *sorted, uint32_t n_uses, uint64_t *out_bytes)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n_uses; i++) {
        const pinti_column_rec *column = pinti_cat_column(cat->catalog, table, sorted[i] >> 2);
        const uint64_t bits = line_up(table->chunk_rows / 8);
        uint64_t values = bits;
        if ((sorted[i] & 3u) != USE_INOUT) {
            continue;
        }
        if (column->row_bytes != 0 &&
            __builtin_mul_overflow(table->chunk_rows, column->row_bytes, &values)) {
            return false;
        }
        if (values > INT64_MAX || __builtin_add_overflow(bytes, line_up(values), &bytes) ||
            ((column->flags & PINT_NULLABLE) != 0 && __builtin_add_overflow(bytes, bits, &bytes))) {
            return false;
        }
    }
    *out_bytes = bytes;
    return true;
}

static uint32_t choose_n_undo(const pinti_cat *cat, const pinti_table_rec *table, uint32_t asked)
{
    uint32_t n = asked;
    if (n == 0) {
        n = cat->n_cpus * 2;
        n = n < UNDO_MIN ? UNDO_MIN : n;
        n = n > UNDO_MAX ? UNDO_MAX : n;
    }
    n = n > PINTI_JOB_UNDO_MAX ? PINTI_JOB_UNDO_MAX : n;
    return n > table->n_chunks ? table->n_chunks : n;
}

static pint_status shape_job(const pinti_cat *cat, const pinti_table_rec *table,
                             const uint32_t *sorted, uint32_t n_uses, uint32_t n_undo,
                             job_shape *out_shape, pint_error *err)
{
    job_shape shape = {0};
    if (!undo_bytes_of(cat, table, sorted, n_uses, &shape.undo_bytes)) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "job.create: chunks of %" PRIu64 " rows pass 2^63 bytes",
                          table->chunk_rows);
    }
    shape.n_undo = shape.undo_bytes == 0 ? 0 : choose_n_undo(cat, table, n_undo);
    if (__builtin_mul_overflow(shape.undo_bytes, shape.n_undo, &shape.data_bytes) ||
        shape.data_bytes > INT64_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "job.create: %" PRIu32 " undo buffers of %" PRIu64
                          " bytes pass 2^63 bytes",
                          shape.n_undo, shape.undo_bytes);
    }
    shape.words = sizeof(pinti_job_sync);
    shape.undo_words = shape.words + line_up(table->n_chunks * 8ull);
    shape.fails = shape.undo_words + line_up(shape.n_undo * 8ull);
    shape.sync_bytes = shape.fails + PINTI_FAIL_TEXTS * sizeof(pinti_fail_text);
    *out_shape = shape;
    return PINT_OK;
}

pint_status pinti_cat_job_measure(pinti_cat *cat, uint32_t table, uint32_t generation,
                                  const uint32_t *uses, uint32_t n_uses, uint32_t n_undo,
                                  uint64_t *out_data_bytes, uint64_t *out_sync_bytes,
                                  pint_error *err)
{
    const pinti_table_rec *rec = NULL;
    uint32_t *sorted = NULL;
    job_shape shape = {0};
    pint_status status = get_table(cat, table, generation, &rec, err);
    if (status == PINT_OK) {
        status = sort_uses(cat, rec, uses, n_uses, &sorted, err);
    }
    if (status == PINT_OK) {
        status = shape_job(cat, rec, sorted, n_uses, n_undo, &shape, err);
    }
    free(sorted);
    if (status == PINT_OK) {
        *out_data_bytes = shape.data_bytes;
        *out_sync_bytes = shape.sync_bytes;
    }
    return status;
}

/* ---- create ---------------------------------------------------------------------------------- */

static void fill_job(pinti_cat *cat, uint32_t index, const job_ask *ask, const job_shape *shape)
{
    pinti_job_rec *rec = &cat->jobs[index];
    const pinti_table_rec *table_rec = &cat->tables[ask->table];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    memset(rec->name, 0, sizeof(rec->name));
    rec->name_bytes = 0;
    if (ask->name != NULL) {
        rec->name_bytes = (uint32_t)strnlen(ask->name, PINTI_NAME_BYTES_MAX);
        memcpy(rec->name, ask->name, rec->name_bytes);
    }
    rec->table = ask->table;
    rec->id = cat->header->next_job_id++;
    rec->table_generation = pinti_gen_of(pinti_load64_relaxed(&table_rec->xgen_state));
    rec->n_chunks = table_rec->n_chunks;
    rec->n_undo = shape->n_undo;
    rec->undo_off = shape->n_undo == 0 ? PINTI_NO_BUFFER : ask->data->off;
    rec->undo_bytes = shape->undo_bytes;
    rec->sync_off = ask->sync->off;
    rec->sync_bytes = ask->sync->bytes;
    rec->words_off = ask->sync->off + shape->words;
    rec->undo_words_off = ask->sync->off + shape->undo_words;
    rec->fails_off = ask->sync->off + shape->fails;
    rec->creator_session = ask->owner->session;
    rec->creator_request = ask->owner->request;
    rec->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    rec->bytes = ask->data->bytes + ask->sync->bytes;
    rec->uid = ask->owner->uid;
}

static pint_status take_numbers(pinti_cat *cat, uint32_t n_uses, bool has_data, uint32_t *out_job,
                                uint32_t *out_use, uint32_t *out_extent, pint_error *err)
{
    if (!pinti_cat_take_number(&cat->free_jobs, 1, out_job)) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "job.create: %u jobs are in use", PINTI_JOBS_MAX);
    }
    if (!pinti_cat_take_number(&cat->free_uses, n_uses, out_use)) {
        (void)pinti_ranges_add(&cat->free_jobs, *out_job, 1);
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "job.create: no room for %" PRIu32 " uses, the pool has %u", n_uses,
                          PINTI_USES_MAX);
    }
    if (has_data && !pinti_cat_take_number(&cat->free_extents, 1, out_extent)) {
        (void)pinti_ranges_add(&cat->free_jobs, *out_job, 1);
        (void)pinti_ranges_add(&cat->free_uses, *out_use, n_uses);
        return pinti_fail(err, PINT_E_LIMIT, 0, "job.create: %u extents are in use",
                          PINTI_EXTENTS_MAX);
    }
    return PINT_OK;
}

/* With everything checked: the record. At least one use. */
static pint_status make_job(pinti_cat *cat, const job_ask *ask, const job_shape *shape,
                            uint32_t *out_job, pint_error *err)
{
    uint32_t index = 0;
    uint32_t first_use = 0;
    uint32_t extent = 0;
    const bool has_data = ask->data->bytes != 0;
    const pint_status status =
        take_numbers(cat, ask->n_uses, has_data, &index, &first_use, &extent, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_job_rec *rec = &cat->jobs[index];
    const uint32_t generation = pinti_cat_next_generation(&rec->xgen_state);
    memcpy(&cat->uses[first_use], ask->sorted, ask->n_uses * sizeof(*ask->sorted));
    if (has_data) {
        cat->extents[extent] = (pinti_extent){.off = ask->data->off,
                                              .bytes = ask->data->bytes,
                                              .owner = index,
                                              .kind = PINTI_EXTENT_JOB,
                                              .generation = generation};
    }
    fill_job(cat, index, ask, shape);
    rec->n_uses = ask->n_uses;
    rec->first_use = first_use;
    rec->first_extent = has_data ? extent + 1 : 0;
    if (index >= pinti_load32_relaxed(&cat->header->xn_jobs)) {
        pinti_store32_release(&cat->header->xn_jobs, index + 1);
    }
    /* Publishes all of the record; pairs with the acquire loads of whoever opens it. */
    pinti_store64_release(&rec->xgen_state, (uint64_t)generation << 32 | PINTI_LIVE);
    cat->job_info[index].uid = ask->owner->uid;
    pinti_cat_link_job(cat, index);
    *out_job = index;
    return PINT_OK;
}

static pint_status check_job(const pinti_table_rec *table, const char *name, const uint32_t *sorted,
                             uint32_t n_uses, pint_error *err)
{
    char text[100];
    if (name != NULL && !pinti_name_is_valid(name, strnlen(name, PINTI_NAME_BYTES_MAX + 1))) {
        return pinti_fail(
            err, PINT_E_INVALID, 0,
            "job.create '%s': a name is 1 to %u bytes of UTF-8 without control "
            "characters and '/', and not . or ..",
            pinti_printable(text, sizeof(text), name, strnlen(name, PINTI_NAME_BYTES_MAX + 1)),
            PINTI_NAME_BYTES_MAX);
    }
    if (n_uses == 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "job.create: no columns are named");
    }
    bool writes = false;
    for (uint32_t i = 0; i < n_uses; i++) {
        writes = writes || (sorted[i] & 3u) != USE_IN;
    }
    if (writes && (pinti_load64_relaxed(&table->xgen_state) & PINTI_RECORD_FROZEN) != 0) {
        return pinti_fail(err, PINT_E_FROZEN, 0, "job.create: writes to a frozen table");
    }
    return PINT_OK;
}

pint_status pinti_cat_job_create(pinti_cat *cat, uint32_t table, uint32_t generation,
                                 const char *name_or_null, const uint32_t *uses, uint32_t n_uses,
                                 uint32_t n_undo, const pinti_owner *owner, const pinti_range *data,
                                 const pinti_range *sync, uint32_t *out_job,
                                 uint32_t *out_generation, pint_error *err)
{
    const pinti_table_rec *rec = NULL;
    uint32_t *sorted = NULL;
    job_shape shape = {0};
    uint32_t job = 0;
    pint_status status = get_table(cat, table, generation, &rec, err);
    if (status == PINT_OK) {
        status = sort_uses(cat, rec, uses, n_uses, &sorted, err);
    }
    const job_ask ask = {.table = table,
                         .name = name_or_null,
                         .sorted = sorted,
                         .n_uses = n_uses,
                         .owner = owner,
                         .data = data,
                         .sync = sync};
    if (status == PINT_OK) {
        status = check_job(rec, name_or_null, sorted, n_uses, err);
    }
    if (status == PINT_OK && find_job(cat, &ask, &job, out_generation, err) != PINT_E_NOT_FOUND) {
        status = pinti_fail(err, PINT_E_EXISTS, 0, "job.create: the job exists");
    }
    if (status == PINT_OK) {
        status = shape_job(cat, rec, sorted, n_uses, n_undo, &shape, err);
    }
    if (status == PINT_OK && (data->bytes < shape.data_bytes || sync->bytes < shape.sync_bytes)) {
        status = pinti_fail(err, PINT_E_INVALID, 0, "job.create: the memory is too short");
    }
    if (status == PINT_OK) {
        status = make_job(cat, &ask, &shape, &job, err);
    }
    free(sorted);
    if (status == PINT_OK) {
        *out_job = job;
        *out_generation = pinti_gen_of(pinti_load64_relaxed(&cat->jobs[job].xgen_state));
    }
    return status;
}

/* ---- end ------------------------------------------------------------------------------------- */

void pinti_cat_job_kill(pinti_cat *cat, uint32_t job)
{
    pinti_job_rec *rec = &cat->jobs[job];
    if (pinti_cat_state(&rec->xgen_state) == PINTI_LIVE) {
        cat->n_dying++;
        /* Ordered before the slots are read; partner: open notes the slot, then reads the state. */
        pinti_cat_set_state(&rec->xgen_state, PINTI_DYING);
    }
}

pint_status pinti_cat_job_drop(pinti_cat *cat, uint32_t job, uint32_t generation, pint_error *err)
{
    if (!pinti_cat_has_job(cat, job, generation) ||
        pinti_cat_state(&cat->jobs[job].xgen_state) != PINTI_LIVE) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0,
                          "job %" PRIu32 ", generation %" PRIu32 ": no such job", job, generation);
    }
    pinti_cat_job_kill(cat, job);
    return PINT_OK;
}
