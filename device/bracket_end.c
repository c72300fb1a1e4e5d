/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ends of brackets: ended by the caller, over when the watcher has seen that the stream came to
 * that point, or given up.
 *
 *   open (import->brackets)  -- end, cancel -->  ended (import->ended)  -- stream passed -->  over
 *
 * A commit, or a cancel, and the rights go back; then the bell rings.
 */

#include <stdlib.h>

#include "device/bracket.h"
#include "host/error.h"
#include "host/wait.h"
#include "host/writable_view.h"

/* ---- over ------------------------------------------------------------------------------------ */

static void unlink_from(pinti_bracket **link, const pinti_bracket *bracket)
{
    while (*link != bracket) {
        link = &(*link)->next;
    }
    *link = bracket->next;
}

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
    unlink_from(&import->ended, bracket);
    (void)pthread_mutex_unlock(&import->lock);
    pinti_bell_ring(pinti_import_bell(import)); /* for those who wait for it to be over */
    if (bracket->task.mark != NULL) {
        backend->ops->mark_free(backend, bracket->task.mark);
    }
    free(bracket);
    pinti_import_drop(import);
}

typedef struct settling {
    pinti_import *import;
    uint32_t first;
    uint32_t n;
} settling;

static bool is_settled(void *context)
{
    const settling *s = context;
    bool is_over = true;
    (void)pthread_mutex_lock(&s->import->lock);
    for (const pinti_bracket *at = s->import->ended; at != NULL; at = at->next) {
        is_over = is_over && (at->first_chunk >= s->first + s->n ||
                              s->first >= at->first_chunk + at->n_chunks);
    }
    (void)pthread_mutex_unlock(&s->import->lock);
    return is_over;
}

pint_status pinti_brackets_settle(pinti_import *import, uint32_t first, uint32_t n,
                                  const pinti_limit *limit, const char *operation, pint_error *err)
{
    settling s = {import, first, n};
    const int64_t left_ms = pinti_limit_left(limit);
    if (is_settled(&s)) {
        return PINT_OK;
    }
    const pint_status status = left_ms == 0
                                   ? PINT_E_TIMEOUT
                                   : pinti_wait(import->desc.table->pool, import->desc.table->bell,
                                                is_settled, &s, left_ms, false, operation, err);
    return status != PINT_E_TIMEOUT
               ? status
               : pinti_fail(err, pinti_limit_status(limit), 0,
                            "%s: work of this process on column '%s' has not come to its end",
                            operation, import->desc.column->name);
}

pint_status pint_copy_wait(pint_copy *copy, uint64_t first, uint64_t n_rows, int64_t timeout_ms,
                           pint_error *err)
{
    if (copy == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "wait: NULL argument");
    }
    const pinti_limit limit = pinti_limit_start(timeout_ms);
    pint_status status = pinti_device_check_process(copy->process, "wait", err);
    uint32_t first_chunk;
    uint32_t n_chunks;
    if (status == PINT_OK) {
        status =
            pinti_rows_to_chunks(copy->import, "wait", first, n_rows, &first_chunk, &n_chunks, err);
    }
    return status == PINT_OK
               ? pinti_brackets_settle(copy->import, first_chunk, n_chunks, &limit, "wait", err)
               : status;
}

/* ---- ended ----------------------------------------------------------------------------------- */

/* What a caller names a bracket by, beside the copy. */
typedef struct name {
    uint64_t first; /* rows */
    uint64_t n_rows;
    uint32_t access;
    void *stream;
} name;

/* From the list of open ones to that of ended ones. Requires import->lock. */
static pinti_bracket *bracket_close(pinti_bracket **link)
{
    pinti_bracket *bracket = *link;
    pinti_import *import = bracket->import;
    *link = bracket->next;
    bracket->next = import->ended;
    import->ended = bracket;
    bracket->copy = NULL;
    for (uint32_t i = 0; i < bracket->n_chunks; i++) {
        pinti_chunk_use *use = &import->uses[bracket->first_chunk + i];
        if ((bracket->access & PINT_WRITE) != 0) {
            use->writer = PINTI_WRITER_ENDED;
        } else {
            use->n_open--;
        }
    }
    return bracket;
}

/* Back again, as if it had not ended. */
static void bracket_reopen(pinti_bracket *bracket, const pint_copy *copy)
{
    pinti_import *import = bracket->import;
    (void)pthread_mutex_lock(&import->lock);
    unlink_from(&import->ended, bracket);
    bracket->next = import->brackets;
    import->brackets = bracket;
    bracket->copy = copy;
    for (uint32_t i = 0; i < bracket->n_chunks; i++) {
        pinti_chunk_use *use = &import->uses[bracket->first_chunk + i];
        if ((bracket->access & PINT_WRITE) != 0) {
            use->writer = PINTI_WRITER_OPEN;
        } else {
            use->n_open++;
        }
    }
    (void)pthread_mutex_unlock(&import->lock);
    pinti_bell_ring(
        pinti_import_bell(import)); /* for pint_copy_wait(), which may have seen it ended */
}

/* Whoever begins with PINT_ALL_ROWS may end with their number, and the other way round. */
static uint64_t rows_meant(const pinti_import *import, uint64_t first, uint64_t n_rows)
{
    return n_rows == PINT_ALL_ROWS ? import->desc.table->n_rows - first : n_rows;
}

static pinti_bracket *find_and_close(const pint_copy *copy, const name *wanted)
{
    pinti_import *import = copy->import;
    const uint64_t n_rows = rows_meant(import, wanted->first, wanted->n_rows);
    (void)pthread_mutex_lock(&import->lock);
    pinti_bracket **link = &import->brackets;
    while (*link != NULL &&
           ((*link)->copy != copy || (*link)->first != wanted->first ||
            rows_meant(import, (*link)->first, (*link)->n_rows) != n_rows ||
            (*link)->access != wanted->access || (*link)->stream != wanted->stream)) {
        link = &(*link)->next;
    }
    pinti_bracket *bracket = *link != NULL ? bracket_close(link) : NULL;
    (void)pthread_mutex_unlock(&import->lock);
    return bracket;
}

/* Also on a copy that was dropped meanwhile. */
static pint_status take_bracket(const pint_copy *copy, const char *operation, const name *wanted,
                                pinti_bracket **out_bracket, pint_error *err)
{
    if (copy == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    const pint_status status = pinti_device_check_process(copy->process, operation, err);
    if (status != PINT_OK) {
        return status;
    }
    *out_bracket = find_and_close(copy, wanted);
    return *out_bracket != NULL
               ? PINT_OK
               : pinti_fail(err, PINT_E_STATE, 0,
                            "%s: no open bracket of these rows, access and stream on column '%s'",
                            operation, copy->import->desc.column->name);
}

/* The bracket of every copy, or none. */
static pint_status take_brackets(pint_copy *const *copies, uint32_t n_copies, const char *operation,
                                 const name *wanted, pinti_bracket ***out_brackets, pint_error *err)
{
    if (copies == NULL || n_copies == 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: no copies", operation);
    }
    pinti_bracket **brackets = malloc(n_copies * sizeof(pinti_bracket *));
    if (brackets == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%s: %u columns", operation, n_copies);
    }
    for (uint32_t i = 0; i < n_copies; i++) {
        const pint_status status = take_bracket(copies[i], operation, wanted, &brackets[i], err);
        if (status != PINT_OK) {
            while (i-- > 0) {
                bracket_reopen(brackets[i], copies[i]);
            }
            free(brackets);
            return status;
        }
    }
    *out_brackets = brackets;
    return PINT_OK;
}

static pint_status end(pinti_bracket *bracket, pint_error *err)
{
    pint_device *device = bracket->import->device;
    pinti_backend *backend = device->backend;
    bracket->task = (pinti_task){
        .owner = device, .backend = backend, .stream = bracket->stream, .finish = bracket_finish};
    if (backend->ops->mark(backend, bracket->stream, &bracket->task.mark, err) == PINT_OK) {
        pinti_watch_submit(&bracket->task);
        return PINT_OK;
    }
    bracket->task.mark = NULL; /* no memory for one: waited for instead; or the stream failed */
    const pint_status status = backend->ops->stream_wait(backend, bracket->stream, err);
    bracket_finish(&bracket->task, status);
    return status;
}

/*
 * Of a column that is stored to at any time (host/writable_view.h) what a kernel has written comes
 * to the host before end returns: the next store through a view would go into rows that are newest
 * on the device, and be lost when these come later. What others have taken or written meanwhile is
 * theirs.
 */
static pint_status bring_under_views(pint_copy *copy, const name *ended, pint_error *err)
{
    pinti_import *import = copy->import;
    uint32_t first;
    uint32_t n;
    if ((ended->access & PINT_WRITE) == 0 || !pinti_column_is_host_changed(import->desc.column) ||
        pinti_rows_to_chunks(import, "end", ended->first, ended->n_rows, &first, &n, NULL) !=
            PINT_OK) {
        return PINT_OK;
    }
    const pinti_limit no_limit = pinti_limit_start(-1);
    const pinti_limit at_once = pinti_limit_start(0);
    uint64_t bytes = 0;
    pint_status status = pinti_brackets_settle(import, first, n, &no_limit, "end", err);
    if (status == PINT_OK) {
        status = pinti_push(import, first, n, PINTI_PUSH_OWN, &at_once, &bytes, err);
    }
    (void)pinti_add64_relaxed(&copy->to_host, bytes); /* relaxed: only a number */
    return status == PINT_E_BUSY ? PINT_OK : status;
}

pint_status pint_device_end(pint_copy *copy, uint64_t first, uint64_t n_rows, uint32_t access,
                            void *stream, pint_error *err)
{
    const name wanted = {first, n_rows, access, stream};
    pinti_bracket *bracket;
    pint_status status = take_bracket(copy, "end", &wanted, &bracket, err);
    if (status == PINT_OK) {
        status = end(bracket, err);
    }
    return status == PINT_OK ? bring_under_views(copy, &wanted, err) : status;
}

pint_status pint_device_end_all(pint_copy *const *copies, uint32_t n_copies, uint64_t first,
                                uint64_t n_rows, uint32_t access, void *stream, pint_error *err)
{
    const name wanted = {first, n_rows, access, stream};
    pinti_bracket **brackets;
    pint_status status = take_brackets(copies, n_copies, "end", &wanted, &brackets, err);
    if (status != PINT_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_copies; i++) {
        const pint_status one = end(brackets[i], status == PINT_OK ? err : NULL);
        status = status == PINT_OK ? one : status;
    }
    free(brackets);
    for (uint32_t i = 0; status == PINT_OK && i < n_copies; i++) {
        status = bring_under_views(copies[i], &wanted, err);
    }
    return status;
}

/* ---- given up -------------------------------------------------------------------------------- */

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
    const name wanted = {first, n_rows, access, stream};
    pinti_bracket *bracket;
    const pint_status status = take_bracket(copy, "cancel", &wanted, &bracket, err);
    if (status == PINT_OK) {
        cancel(bracket);
    }
    return status;
}

pint_status pint_device_cancel_all(pint_copy *const *copies, uint32_t n_copies, uint64_t first,
                                   uint64_t n_rows, uint32_t access, void *stream, pint_error *err)
{
    const name wanted = {first, n_rows, access, stream};
    pinti_bracket **brackets;
    const pint_status status = take_brackets(copies, n_copies, "cancel", &wanted, &brackets, err);
    if (status != PINT_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_copies; i++) {
        cancel(brackets[i]);
    }
    free(brackets);
    return PINT_OK;
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
