/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Brackets: rights on chunks for work on a stream.
 *
 *   begin   take every chunk, ascending, or none (bracket_take.c); enqueue copies of stale ones on
 *           the device's own stream; let the caller's stream wait for them (pull.c); return
 *   end     put a mark on the caller's stream; return
 *   the watcher, when the mark has passed: commit or cancel, give the rights back
 */

#include <inttypes.h>
#include <stdlib.h>

#include "device/bracket.h"
#include "host/error.h"

/* ---- rows ------------------------------------------------------------------------------------ */

pint_status pinti_rows_to_chunks(const pinti_import *import, const char *operation, uint64_t first,
                                 uint64_t n_rows, uint32_t *out_first, uint32_t *out_n,
                                 pint_error *err)
{
    const pinti_table_desc *table = import->desc.table;
    const uint64_t rows = table->n_rows;
    if (first > rows) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: row %" PRIu64 " of %" PRIu64, operation, first,
                          rows);
    }
    const uint64_t n = n_rows == PINT_ALL_ROWS ? rows - first : n_rows;
    if (n > rows - first) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "%s: %" PRIu64 " rows from row %" PRIu64 " on, of %" PRIu64, operation,
                          n_rows, first, rows);
    }
    *out_first = (uint32_t)(first >> table->chunk_shift);
    *out_n = n == 0 ? 0
                    : (uint32_t)(((first + n - 1) >> table->chunk_shift) + 1 -
                                 (first >> table->chunk_shift));
    return PINT_OK;
}

/* ---- whose ----------------------------------------------------------------------------------- */

/* Of the calling thread; no other one of this process has or had it. */
static uint64_t this_thread(void)
{
    static pinti_a64 n_threads;
    static _Thread_local uint64_t number;
    if (number == 0) {
        number = pinti_add64_relaxed(&n_threads, 1) + 1; /* relaxed: only a number */
    }
    return number;
}

uint32_t pinti_own_bracket(const pinti_import *import, uint32_t first, uint32_t n, uint32_t access)
{
    const uint64_t me = this_thread();
    uint32_t found = UINT32_MAX;
    for (const pinti_bracket *at = import->brackets; at != NULL; at = at->next) {
        const uint32_t begin = at->first_chunk > first ? at->first_chunk : first;
        const uint32_t end =
            at->first_chunk + at->n_chunks < first + n ? at->first_chunk + at->n_chunks : first + n;
        if (at->thread == me && (at->access & access) != 0 && begin < end && begin < found) {
            found = begin;
        }
    }
    return found;
}

bool pinti_own_bracket_elsewhere(const pinti_import *import, uint32_t chunk)
{
    bool is_own = false;
    for (uint32_t place = 0; !is_own && place < PINTI_DEVICES_MAX; place++) {
        pint_device *device = place == import->desc.device
                                  ? NULL
                                  : pinti_device_of_place(import->desc.table->pool, place);
        pinti_import *other =
            device != NULL ? pinti_import_of_column(device, import->desc.column) : NULL;
        if (other != NULL) {
            (void)pthread_mutex_lock(&other->lock);
            is_own = pinti_own_bracket(other, chunk, 1, PINT_WRITE) == chunk;
            (void)pthread_mutex_unlock(&other->lock);
            pinti_import_drop(other);
        }
        pint_device_close(device);
    }
    return is_own;
}

/* ---- begin ----------------------------------------------------------------------------------- */

/* What all columns of a begin have in common. */
typedef struct request {
    uint64_t first; /* rows */
    uint64_t n_rows;
    uint32_t access;
    void *stream;
} request;

static pint_status check(const pint_copy *copy, const request *wanted, pint_error *err)
{
    const pint_status status = pinti_copy_enter(copy, "begin", err);
    if (status != PINT_OK) {
        return status;
    }
    if (wanted->access == 0 || (wanted->access & ~(PINT_READ | PINT_WRITE)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "begin: access %u", wanted->access);
    }
    if ((wanted->access & PINT_WRITE) == 0) {
        return PINT_OK;
    }
    if ((copy->access & PINT_WRITE) == 0) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "begin: the copy was opened to read");
    }
    /* not the import's own handle, which whoever came first opened, perhaps to read */
    return pinti_table_check_write(&copy->import->desc.table->head->handles[1], "begin", err);
}

/* All memory that is needed, before anything is taken: end cannot fail for lack of it. */
static pint_status prepare(pinti_begin *b, pint_error *err)
{
    const size_t n = b->n;
    const bool is_write = (b->access & PINT_WRITE) != 0;
    b->bracket = calloc(1, sizeof(*b->bracket) + (is_write ? n : 0) * sizeof(uint64_t));
    b->taken = malloc((n + 1) * sizeof(*b->taken));
    b->stale = malloc((n + 1) * sizeof(*b->stale));
    if (!is_write) {
        b->pull = calloc(1, sizeof(*b->pull) + n * sizeof(b->pull->chunks[0]));
        b->shared = malloc((n + 1) * sizeof(pinti_pull *));
    }
    if (b->bracket == NULL || b->taken == NULL || b->stale == NULL ||
        (!is_write && (b->pull == NULL || b->shared == NULL))) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "begin: %u chunks", b->n);
    }
    if (b->pull != NULL) {
        b->pull->import = b->import;
    }
    return PINT_OK;
}

/* One column of a begin; what it has is freed whatever comes of it. */
static pint_status begin_init(pinti_begin *b, pint_copy *copy, const request *wanted,
                              pint_error *err)
{
    pint_status status = check(copy, wanted, err);
    if (status != PINT_OK) {
        return status;
    }
    b->copy = copy;
    b->import = copy->import;
    b->access = wanted->access;
    b->stream = wanted->stream;
    status = pinti_rows_to_chunks(b->import, "begin", wanted->first, wanted->n_rows, &b->first,
                                  &b->n, err);
    return status == PINT_OK ? prepare(b, err) : status;
}

static void begin_done(pinti_begin *b)
{
    free(b->bracket);
    free(b->taken);
    free(b->stale);
    free(b->pull);
    free(b->shared);
}

static void enter_bracket(pinti_begin *b, const request *wanted)
{
    pinti_import *import = b->import;
    pinti_bracket *bracket = b->bracket;
    b->bracket = NULL;
    bracket->import = import;
    bracket->copy = b->copy;
    bracket->thread = this_thread();
    bracket->stream = b->stream;
    bracket->first = wanted->first;
    bracket->n_rows = wanted->n_rows;
    bracket->access = b->access;
    bracket->first_chunk = b->first;
    bracket->n_chunks = b->n;
    pinti_import_use(import);
    (void)pthread_mutex_lock(&import->lock);
    bracket->next = import->brackets;
    import->brackets = bracket;
    (void)pthread_mutex_unlock(&import->lock);
}

static int by_column(const void *left, const void *right)
{
    const uint32_t a = ((const pinti_begin *)left)->import->column.index;
    const uint32_t b = ((const pinti_begin *)right)->import->column.index;
    return a < b ? -1 : a > b;
}

/* Ascending, and of one table and device. */
static pint_status order(pinti_begins *group, pint_error *err)
{
    const pinti_import *one = group->all[0].import;
    for (uint32_t i = 1; i < group->n; i++) {
        const pinti_import *other = group->all[i].import;
        if (other->device != one->device || other->desc.table != one->desc.table) {
            return pinti_fail(err, PINT_E_INVALID, 0,
                              "begin: copies of several tables or on several devices");
        }
    }
    qsort(group->all, group->n, sizeof(*group->all), by_column);
    for (uint32_t i = 1; i < group->n; i++) {
        const pinti_column_desc *column = group->all[i].import->desc.column;
        if (column == group->all[i - 1].import->desc.column) {
            return pinti_fail(err, PINT_E_INVALID, 0, "begin: column '%s' twice", column->name);
        }
    }
    return PINT_OK;
}

static pint_status begin_group(pinti_begins *group, const request *wanted, int64_t timeout_ms,
                               pint_error *err)
{
    const pinti_limit limit = pinti_limit_start(timeout_ms);
    pinti_backend *backend = group->all[0].import->device->backend;
    pint_status status = order(group, err);
    if (status == PINT_OK && backend->ops->stream_check != NULL) {
        status = backend->ops->stream_check(backend, wanted->stream, err);
    }
    if (status == PINT_OK) {
        status = pinti_watch_prepare(err);
    }
    if (status == PINT_OK) {
        status = pinti_begin_take(group, &limit, err);
    }
    if (status == PINT_OK) {
        status = pinti_begin_bring(group, err);
    }
    for (uint32_t i = 0; status == PINT_OK && i < group->n; i++) {
        enter_bracket(&group->all[i], wanted);
    }
    return status;
}

pint_status pint_device_begin(pint_copy *copy, uint64_t first, uint64_t n_rows, uint32_t access,
                              void *stream, int64_t timeout_ms, pint_error *err)
{
    const request wanted = {first, n_rows, access, stream};
    pinti_begin b = {0};
    pinti_begins group = {.all = &b, .n = 1};
    pint_status status = begin_init(&b, copy, &wanted, err);
    if (status == PINT_OK) {
        status = begin_group(&group, &wanted, timeout_ms, err);
    }
    begin_done(&b);
    return status;
}

pint_status pint_device_begin_all(pint_copy *const *copies, uint32_t n_copies, uint64_t first,
                                  uint64_t n_rows, uint32_t access, void *stream,
                                  int64_t timeout_ms, pint_error *err)
{
    if (copies == NULL || n_copies == 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "begin: no copies");
    }
    const request wanted = {first, n_rows, access, stream};
    pinti_begins group = {.all = calloc(n_copies, sizeof(pinti_begin)), .n = n_copies};
    if (group.all == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "begin: %u columns", n_copies);
    }
    pint_status status = PINT_OK;
    for (uint32_t i = 0; status == PINT_OK && i < n_copies; i++) {
        status = begin_init(&group.all[i], copies[i], &wanted, err);
    }
    if (status == PINT_OK) {
        status = begin_group(&group, &wanted, timeout_ms, err);
    }
    for (uint32_t i = 0; i < n_copies; i++) {
        begin_done(&group.all[i]);
    }
    free(group.all);
    return status;
}
