/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Brackets: rights on chunks for work on a stream.
 *
 *   begin   take every chunk, ascending, or none; enqueue copies of stale ones on the device's own
 *           stream; let the caller's stream wait for them; return
 *   end     put a mark on the caller's stream; return
 *   the watcher, when the mark has passed: commit or cancel, give the rights back
 *
 * All or none: a begin that meets a chunk which another has gives back what it took, untouched, and
 * waits on the table's bell with nothing in its hands; so no two of them can wait for each other.
 * It looks at all chunks before it takes the first, so that two waiters do not wake each other for
 * ever. Chunks that this process has in an open bracket of its own are refused at once: waiting
 * for them would be waiting for the caller.
 *
 * Stale chunks of a reading bracket are held while they are copied, as for a write (coherence.h
 * says why), and become newest on both sides when the watcher has seen the copy done. The bracket's
 * own work does not wait for that: it is behind the copy on its stream, and the session's reader
 * bit is set before the hold ends. Another bracket of this process on such a chunk shares the copy:
 * its stream waits for the same mark.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/internal.h"
#include "host/error.h"
#include "host/job.h"
#include "host/wait.h"

/* What a pass over the chunks found. */
enum verdict {
    TAKEN,
    BLOCKED,         /* by another: wait */
    BLOCKED_BY_SELF, /* by an open bracket of this process */
    REFUSED          /* by what seen says */
};

typedef struct begin {
    pint_copy *copy;
    pinti_import *import;
    uint32_t access;
    uint32_t first; /* chunks */
    uint32_t n;
    void *stream;
    pinti_bracket *bracket;
    pinti_taken *taken; /* n with PINT_WRITE; else of those that are pulled */
    uint32_t *stale;    /* chunks to be copied, ascending */
    uint32_t n_stale;
    pinti_pull *pull;    /* reading: what is to be copied */
    pinti_pull **shared; /* pulls of other brackets to wait for */
    uint32_t n_shared;
    enum verdict verdict;
    enum pinti_coherence seen;
    uint32_t chunk; /* where verdict comes from */
} begin;

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

/* ---- pulls: n_users under import->lock ------------------------------------------------------- */

/* One user less. Requires import->lock. True: the caller frees it, with the lock given up. */
static bool pull_leave(pinti_pull *pull)
{
    return --pull->n_users == 0;
}

static void pull_free(pinti_pull *pull)
{
    pinti_import *import = pull->import;
    pinti_backend *backend = import->device->backend;
    if (pull->task.mark != NULL) {
        backend->ops->mark_free(backend, pull->task.mark);
    }
    free(pull);
    pinti_import_drop(import);
}

/* The copies are done, or failed: on the watcher's thread. */
static void pull_finish(pinti_task *task, pint_status status)
{
    pinti_pull *pull = (pinti_pull *)(void *)task; /* task is its first member */
    pinti_import *import = pull->import;
    (void)pthread_mutex_lock(&import->lock);
    for (uint32_t i = 0; i < pull->n; i++) {
        const uint32_t chunk = pull->chunks[i].chunk;
        const uint64_t word = pull->chunks[i].word;
        if (status == PINT_OK) {
            (void)pinti_device_pulled(&import->desc, chunk, word);
        } else {
            (void)pinti_device_write_cancel(&import->desc, chunk, word);
        }
        import->uses[chunk].pull = NULL;
    }
    const bool is_last = pull_leave(pull);
    (void)pthread_mutex_unlock(&import->lock);
    if (is_last) {
        pull_free(pull);
    }
}

/* ---- taking one chunk: require import->lock -------------------------------------------------- */

static enum verdict refuse(begin *b, enum pinti_coherence seen, uint32_t chunk)
{
    b->seen = seen;
    b->chunk = chunk;
    return seen == PINTI_COH_BUSY ? BLOCKED : REFUSED;
}

static enum verdict block(begin *b, bool by_self, uint32_t chunk)
{
    b->seen = PINTI_COH_BUSY;
    b->chunk = chunk;
    return by_self ? BLOCKED_BY_SELF : BLOCKED;
}

/* The chunk is being copied for another bracket of this process, and held by us. */
static enum verdict share_pull(begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    pinti_pull *pull = use->pull;
    if (!pull->is_marked) {
        return block(b, false, chunk); /* just being enqueued: the bell will ring */
    }
    bool is_known = false;
    for (uint32_t i = 0; i < b->n_shared; i++) {
        is_known = is_known || b->shared[i] == pull;
    }
    if (!is_known) {
        b->shared[b->n_shared++] = pull;
        pull->n_users++;
    }
    pinti_device_read_join(&b->import->desc, chunk);
    return TAKEN;
}

static enum verdict take_to_read(begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    if (use->writer != PINTI_WRITER_NONE) {
        return block(b, use->writer == PINTI_WRITER_OPEN, chunk);
    }
    enum verdict verdict = TAKEN;
    if (use->pull != NULL) {
        verdict = share_pull(b, chunk);
    } else {
        enum pinti_coherence seen;
        do {
            seen = pinti_device_read_begin(&b->import->desc, chunk);
            if (seen != PINTI_COH_PULL) {
                break;
            }
            if (use->n_readers > 0) { /* of older bytes, which the copy would change */
                return block(b, use->n_open > 0, chunk);
            }
            pinti_taken *taken = &b->taken[b->n_stale];
            seen = pinti_device_take(&b->import->desc, chunk, PINTI_TAKE_TO_PULL, taken);
            if (seen == PINTI_COH_OK) {
                pinti_device_read_join(&b->import->desc, chunk);
                use->pull = b->pull;
                b->pull->chunks[b->n_stale].chunk = chunk;
                b->pull->chunks[b->n_stale].word = taken->word;
                b->stale[b->n_stale++] = chunk;
            }
        } while (seen == PINTI_COH_THERE); /* another session was faster: read */
        if (seen != PINTI_COH_OK) {
            return refuse(b, seen, chunk);
        }
    }
    if (verdict == TAKEN) {
        use->n_readers++;
        use->n_open++;
    }
    return verdict;
}

static enum verdict take_to_write(begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    if (use->writer != PINTI_WRITER_NONE || use->n_readers > 0 || use->pull != NULL) {
        return block(b, use->writer == PINTI_WRITER_OPEN || use->n_open > 0, chunk);
    }
    pinti_taken *taken = &b->taken[chunk - b->first];
    const bool is_read = (b->access & PINT_READ) != 0;
    const enum pinti_coherence seen = pinti_device_take(
        &b->import->desc, chunk, is_read ? PINTI_TAKE_TO_CHANGE : PINTI_TAKE_TO_REPLACE, taken);
    if (seen != PINTI_COH_OK) {
        return refuse(b, seen, chunk);
    }
    use->writer = PINTI_WRITER_OPEN;
    b->bracket->words[chunk - b->first] = taken->word;
    if (is_read && !taken->had_device) {
        b->stale[b->n_stale++] = chunk;
    }
    return TAKEN;
}

/* Is a chunk held, without taking anything? */
static bool is_held_by_another(const begin *b, uint32_t chunk)
{
    const pinti_copy_desc *desc = &b->import->desc;
    const uint64_t word = pinti_load64_seq(&desc->column->words[chunk]);
    const pinti_chunk_use *use = &b->import->uses[chunk];
    return pinti_chunk_is_held(pinti_chunk_state(word)) && use->pull == NULL &&
           use->writer != PINTI_WRITER_OPEN;
}

/* Give back chunks [first, end), which were taken and neither read nor written. Requires
 * import->lock. */
static void give_back(begin *b, uint32_t end)
{
    pinti_import *import = b->import;
    uint32_t at_stale = 0;
    for (uint32_t chunk = b->first; chunk < end; chunk++) {
        pinti_chunk_use *use = &import->uses[chunk];
        if ((b->access & PINT_WRITE) != 0) {
            (void)pinti_device_give_back(&import->desc, chunk, &b->taken[chunk - b->first]);
            use->writer = PINTI_WRITER_NONE;
            continue;
        }
        use->n_open--;
        if (--use->n_readers == 0) {
            pinti_device_read_end(&import->desc, chunk);
        }
        if (at_stale < b->n_stale && b->stale[at_stale] == chunk) {
            (void)pinti_device_give_back(&import->desc, chunk, &b->taken[at_stale++]);
            use->pull = NULL;
        }
    }
    b->n_stale = 0;
}

/* Leave the pulls of others. Takes import->lock. */
static void leave_shared(begin *b)
{
    while (b->n_shared > 0) {
        pinti_pull *pull = b->shared[--b->n_shared];
        (void)pthread_mutex_lock(&b->import->lock);
        const bool is_last = pull_leave(pull);
        (void)pthread_mutex_unlock(&b->import->lock);
        if (is_last) {
            pull_free(pull);
        }
    }
}

/* ---- taking all ------------------------------------------------------------------------------ */

/* One attempt: true when it is over, with b->verdict. */
static bool try_all(void *context)
{
    begin *b = context;
    const uint32_t end = b->first + b->n;
    b->verdict = TAKEN;
    (void)pthread_mutex_lock(&b->import->lock);
    for (uint32_t chunk = b->first; b->verdict == TAKEN && chunk < end; chunk++) {
        if (is_held_by_another(b, chunk)) {
            b->verdict = block(b, false, chunk);
        }
    }
    for (uint32_t chunk = b->first; b->verdict == TAKEN && chunk < end; chunk++) {
        b->verdict =
            (b->access & PINT_WRITE) != 0 ? take_to_write(b, chunk) : take_to_read(b, chunk);
        if (b->verdict != TAKEN) {
            give_back(b, chunk);
        }
    }
    (void)pthread_mutex_unlock(&b->import->lock);
    if (b->verdict != TAKEN) {
        leave_shared(b);
    }
    return b->verdict != BLOCKED;
}

static pint_status explain(const begin *b, pint_error *err)
{
    const char *name = b->import->desc.column->name;
    if (b->verdict == BLOCKED_BY_SELF) {
        return pinti_fail(err, PINT_E_BUSY, 0,
                          "begin: chunk %u of column '%s' is in an open bracket of this process",
                          b->chunk, name);
    }
    switch (b->seen) {
    case PINTI_COH_BUSY:
        return pinti_fail(err, PINT_E_BUSY, 0, "begin: chunk %u of column '%s' is held by another",
                          b->chunk, name);
    case PINTI_COH_TORN:
        return pinti_fail(err, PINT_E_TORN, 0,
                          "begin: chunk %u of column '%s' is torn: a writer died in it", b->chunk,
                          name);
    case PINTI_COH_FROZEN:
        return pinti_fail(err, PINT_E_FROZEN, 0, "begin: the table is frozen");
    case PINTI_COH_GONE:
    case PINTI_COH_LOST:
        return pinti_fail(err, PINT_E_DEVICE_LOST, 0, "begin: the copy of column '%s' was dropped",
                          name);
    case PINTI_COH_OK:
    case PINTI_COH_THERE:
    case PINTI_COH_PULL:
    case PINTI_COH_PUSH:
    case PINTI_COH_RESTORE:
        break;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0, "begin: chunk %u of column '%s' cannot be", b->chunk,
                      name);
}

/* Get what refused a chunk out of the way. PINT_OK: try again. */
static pint_status clear(begin *b, int64_t left_ms, pint_error *err)
{
    if (b->verdict == REFUSED && b->seen == PINTI_COH_PUSH) {
        return pinti_push_elsewhere(b->import, b->chunk, left_ms, err);
    }
    if (b->verdict == REFUSED && b->seen == PINTI_COH_RESTORE) {
        if (!pinti_chunk_restore(b->import->table->desc, b->chunk)) {
            b->verdict = BLOCKED; /* another puts it back, or the job is not swept yet */
        }
        return PINT_OK;
    }
    return explain(b, err);
}

static bool was_refused_once(void *context)
{
    begin *b = context;
    return try_all(b) && !(b->verdict == REFUSED && b->seen == PINTI_COH_RESTORE);
}

static pint_status take_all(begin *b, int64_t timeout_ms, pint_error *err)
{
    const pinti_table_desc *table = b->import->desc.table;
    const int64_t start_ms = pinti_now_ms();
    (void)try_all(b);
    while (b->verdict != TAKEN) {
        const int64_t left_ms = pinti_time_left(start_ms, timeout_ms);
        if (b->verdict == BLOCKED) {
            if (timeout_ms == 0) {
                return explain(b, err);
            }
            const pint_status status = pinti_wait(table->pool, table->bell, was_refused_once, b,
                                                  left_ms, true, "begin", err);
            if (status != PINT_OK) {
                return status;
            }
            continue;
        }
        const pint_status status = clear(b, left_ms, err);
        if (status != PINT_OK) {
            return status;
        }
        if (b->verdict != BLOCKED) {
            (void)try_all(b);
        }
    }
    return PINT_OK;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Copy the stale chunks; the caller's stream waits for them. *out_mark: behind the copies. */
static pint_status enqueue_copies(begin *b, void *copy_stream, pinti_mark **out_mark,
                                  pint_error *err)
{
    pinti_backend *backend = b->import->device->backend;
    uint64_t bytes = 0;
    pint_status status =
        pinti_transfer(b->import, true, b->stale, b->n_stale, copy_stream, &bytes, err);
    (void)pinti_add64_relaxed(&b->copy->to_device, bytes); /* relaxed: only a number */
    if (status == PINT_OK) {
        status = backend->ops->mark(backend, copy_stream, out_mark, err);
    }
    if (status == PINT_OK) {
        status = backend->ops->stream_after(backend, b->stream, *out_mark, err);
        if (status != PINT_OK) {
            backend->ops->mark_free(backend, *out_mark);
        }
    }
    if (status != PINT_OK) { /* nothing may run on when the chunks are given back */
        (void)backend->ops->stream_wait(backend, copy_stream, NULL);
    }
    return status;
}

/* Reading: the watcher ends the holds. */
static void submit_pull(begin *b, void *copy_stream, pinti_mark *mark)
{
    pinti_import *import = b->import;
    pinti_pull *pull = b->pull;
    b->pull = NULL;
    pull->task = (pinti_task){.owner = import->device,
                              .backend = import->device->backend,
                              .stream = copy_stream,
                              .mark = mark,
                              .finish = pull_finish};
    (void)pthread_mutex_lock(&import->lock);
    pull->n = b->n_stale;
    pull->n_users = 1;
    pull->is_marked = true;
    (void)pthread_mutex_unlock(&import->lock);
    pinti_import_use(import);
    pinti_bell_ring(pinti_import_bell(import)); /* for those who found it not marked */
    pinti_watch_submit(&pull->task);
}

static pint_status bring(begin *b, pint_error *err)
{
    pinti_import *import = b->import;
    pinti_backend *backend = import->device->backend;
    pint_status status = PINT_OK;
    for (uint32_t i = 0; status == PINT_OK && i < b->n_shared; i++) {
        status = backend->ops->stream_after(backend, b->stream, b->shared[i]->task.mark, err);
    }
    void *copy_stream = NULL;
    pinti_mark *mark = NULL;
    if (status == PINT_OK && b->n_stale > 0) {
        status = pinti_device_copy_stream(import->device, true, &copy_stream, err);
        if (status == PINT_OK) {
            status = enqueue_copies(b, copy_stream, &mark, err);
        }
    }
    if (status != PINT_OK) {
        (void)pthread_mutex_lock(&import->lock);
        give_back(b, b->first + b->n);
        (void)pthread_mutex_unlock(&import->lock);
    } else if (mark != NULL && (b->access & PINT_WRITE) == 0) {
        submit_pull(b, copy_stream, mark);
    } else if (mark != NULL) {
        backend->ops->mark_free(backend, mark); /* the stream waits for it all the same */
    }
    leave_shared(b);
    return status;
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
static pint_status prepare(begin *b, pint_error *err)
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

static void enter_bracket(begin *b, uint64_t first_row, uint64_t n_rows)
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
    begin b = {.copy = copy, .import = copy->import, .access = access, .stream = stream};
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
        status = take_all(&b, timeout_ms, err);
    }
    if (status == PINT_OK) {
        status = bring(&b, err);
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
