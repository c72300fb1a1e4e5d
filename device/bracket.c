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

/* ---- begin ----------------------------------------------------------------------------------- */

static pint_status check(const pint_copy *copy, const char *operation, uint32_t access,
                         pint_error *err)
{
    pint_status status = pinti_copy_enter(copy, operation, err);
    if (status != PINT_OK) {
        return status;
    }
    if (access == 0 || (access & ~(PINT_READ | PINT_WRITE)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: access %u", operation, access);
    }
    if ((access & PINT_WRITE) != 0 && (copy->access & PINT_WRITE) == 0) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: the copy was opened to read", operation);
    }
    return PINT_OK;
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
    return pinti_watch_prepare(err);
}

static void enter_bracket(pinti_begin *b, uint64_t first_row, uint64_t n_rows)
{
    pinti_import *import = b->import;
    pinti_bracket *bracket = b->bracket;
    b->bracket = NULL;
    bracket->import = import;
    bracket->copy = b->copy;
    bracket->stream = b->stream;
    bracket->first = first_row;
    bracket->n_rows = n_rows;
    bracket->access = b->access;
    bracket->first_chunk = b->first;
    bracket->n_chunks = b->n;
    pinti_import_use(import);
    (void)pthread_mutex_lock(&import->lock);
    bracket->next = import->brackets;
    import->brackets = bracket;
    (void)pthread_mutex_unlock(&import->lock);
}

pint_status pint_device_begin(pint_copy *copy, uint64_t first, uint64_t n_rows, uint32_t access,
                              void *stream, int64_t timeout_ms, pint_error *err)
{
    pint_status status = check(copy, "begin", access, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_begin b = {.copy = copy, .import = copy->import, .access = access, .stream = stream};
    pinti_backend *backend = b.import->device->backend;
    status = pinti_rows_to_chunks(b.import, "begin", first, n_rows, &b.first, &b.n, err);
    if (status == PINT_OK && (access & PINT_WRITE) != 0) {
        /* not the import's own handle, which whoever came first opened, perhaps to read */
        status = pinti_table_check_write(&b.import->desc.table->head->handles[1], "begin", err);
    }
    if (status == PINT_OK && backend->ops->stream_check != NULL) {
        status = backend->ops->stream_check(backend, stream, err);
    }
    if (status == PINT_OK) {
        status = prepare(&b, err);
    }
    if (status == PINT_OK) {
        status = pinti_begin_take(&b, timeout_ms, err);
    }
    if (status == PINT_OK) {
        status = pinti_begin_bring(&b, err);
    }
    if (status == PINT_OK) {
        enter_bracket(&b, first, n_rows);
    }
    free(b.bracket);
    free(b.taken);
    free(b.stale);
    free(b.pull);
    free(b.shared);
    return status;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* The work is done, or failed: on the watcher's thread, or on the caller's who waited for it. */
static void bracket_finish(pinti_task *task, pint_status status)
{
    pinti_bracket *bracket = (pinti_bracket *)(void *)task; /* task is its first member */
    pinti_import *import = bracket->import;
    pinti_backend *backend = import->device->backend;
    const bool is_write = (bracket->access & PINT_WRITE) != 0;
    (void)pthread_mutex_lock(&import->lock);
    for (uint32_t i = 0; i < bracket->n_chunks; i++) {
        const uint32_t chunk = bracket->first_chunk + i;
        pinti_chunk_use *use = &import->uses[chunk];
        if (is_write) {
            /* LOST: the copy was dropped, and what the device had went with it */
            if (status == PINT_OK) {
                (void)pinti_device_write_commit(&import->desc, chunk, bracket->words[i]);
            } else {
                (void)pinti_device_write_cancel(&import->desc, chunk, bracket->words[i]);
            }
            use->writer = PINTI_WRITER_NONE;
        } else if (--use->n_readers == 0) {
            pinti_device_read_end(&import->desc, chunk);
        }
    }
    (void)pthread_mutex_unlock(&import->lock);
    if (bracket->task.mark != NULL) {
        backend->ops->mark_free(backend, bracket->task.mark);
    }
    free(bracket);
    pinti_import_drop(import);
}

/* Take an open bracket out of the list: it has ended. Requires import->lock. */
static pinti_bracket *bracket_close(pinti_bracket **link)
{
    pinti_bracket *bracket = *link;
    *link = bracket->next;
    bracket->copy = NULL;
    for (uint32_t i = 0; i < bracket->n_chunks; i++) {
        pinti_chunk_use *use = &bracket->import->uses[bracket->first_chunk + i];
        if ((bracket->access & PINT_WRITE) != 0) {
            use->writer = PINTI_WRITER_ENDED;
        } else {
            use->n_open--;
        }
    }
    return bracket;
}

static pinti_bracket *find_and_close(const pint_copy *copy, uint64_t first, uint64_t n_rows,
                                     uint32_t access, void *stream)
{
    pinti_import *import = copy->import;
    (void)pthread_mutex_lock(&import->lock);
    pinti_bracket **link = &import->brackets;
    while (*link != NULL &&
           ((*link)->copy != copy || (*link)->first != first || (*link)->n_rows != n_rows ||
            (*link)->access != access || (*link)->stream != stream)) {
        link = &(*link)->next;
    }
    pinti_bracket *bracket = *link != NULL ? bracket_close(link) : NULL;
    (void)pthread_mutex_unlock(&import->lock);
    return bracket;
}

/* Also on a copy that was dropped meanwhile. */
static pint_status take_bracket(const pint_copy *copy, const char *operation, uint64_t first,
                                uint64_t n_rows, uint32_t access, void *stream,
                                pinti_bracket **out_bracket, pint_error *err)
{
    if (copy == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    pint_status status = pinti_device_check_process(copy->process, operation, err);
    if (status != PINT_OK) {
        return status;
    }
    *out_bracket = find_and_close(copy, first, n_rows, access, stream);
    return *out_bracket != NULL
               ? PINT_OK
               : pinti_fail(err, PINT_E_STATE, 0,
                            "%s: no open bracket of these rows, access and stream", operation);
}

pint_status pint_device_end(pint_copy *copy, uint64_t first, uint64_t n_rows, uint32_t access,
                            void *stream, pint_error *err)
{
    pinti_bracket *bracket;
    pint_status status = take_bracket(copy, "end", first, n_rows, access, stream, &bracket, err);
    if (status != PINT_OK) {
        return status;
    }
    pint_device *device = copy->import->device;
    pinti_backend *backend = device->backend;
    bracket->task = (pinti_task){
        .owner = device, .backend = backend, .stream = stream, .finish = bracket_finish};
    status = backend->ops->mark(backend, stream, &bracket->task.mark, err);
    if (status == PINT_OK) {
        pinti_watch_submit(&bracket->task);
        return PINT_OK;
    }
    bracket->task.mark = NULL; /* no memory for one: waited for instead; or the stream failed */
    status = backend->ops->stream_wait(backend, stream, err);
    bracket_finish(&bracket->task, status);
    return status;
}

static void cancel(pinti_bracket *bracket)
{
    pinti_backend *backend = bracket->import->device->backend;
    /* whatever comes of it: nothing runs any more */
    (void)backend->ops->stream_wait(backend, bracket->stream, NULL);
    bracket_finish(&bracket->task, PINT_E_DEVICE);
}

pint_status pint_device_cancel(pint_copy *copy, uint64_t first, uint64_t n_rows, uint32_t access,
                               void *stream, pint_error *err)
{
    pinti_bracket *bracket;
    const pint_status status =
        take_bracket(copy, "cancel", first, n_rows, access, stream, &bracket, err);
    if (status == PINT_OK) {
        cancel(bracket);
    }
    return status;
}

void pinti_brackets_abandon(pint_copy *copy)
{
    pinti_import *import = copy->import;
    for (;;) {
        (void)pthread_mutex_lock(&import->lock);
        pinti_bracket **link = &import->brackets;
        while (*link != NULL && (*link)->copy != copy) {
            link = &(*link)->next;
        }
        pinti_bracket *bracket = *link != NULL ? bracket_close(link) : NULL;
        (void)pthread_mutex_unlock(&import->lock);
        if (bracket == NULL) {
            return;
        }
        cancel(bracket);
    }
}
