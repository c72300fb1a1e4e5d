/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Device to host: chunks that are newest on the device, taken, copied on the device's own stream,
 * waited for, and given back before anything else is waited for.
 */

#include <inttypes.h>
#include <stdlib.h>

#include "device/internal.h"
#include "host/error.h"
#include "host/job.h"
#include "ipc/copies.h"

#define BATCH_BYTES  (256ull << 20) /* taken at once: others wait for no more than this */
#define BATCH_CHUNKS 4096u

/* Chunks taken by one pass. */
typedef struct batch {
    uint32_t n;
    uint32_t limit;
    uint32_t chunks[BATCH_CHUNKS];
    uint64_t words[BATCH_CHUNKS];
} batch;

/* What stands in the way of the first chunk that could not be taken. */
typedef struct obstacle {
    bool is_there;
    uint32_t chunk;
    enum pinti_coherence seen;
} obstacle;

/* ---- taking ---------------------------------------------------------------------------------- */

/* Is this what the caller leaves as it is? */
static bool is_left_alone(enum pinti_coherence seen, enum pinti_push_mode mode)
{
    const bool leaves_torn = mode == PINTI_PUSH_SKIP_TORN || mode == PINTI_PUSH_OWN;
    const bool leaves_others = mode == PINTI_PUSH_HERE || mode == PINTI_PUSH_OWN;
    return (seen == PINTI_COH_TORN && leaves_torn) || (seen == PINTI_COH_PUSH && leaves_others);
}

/* Take what is newest on the device, from *next on, until the batch is full. */
static void take(pinti_import *import, uint32_t end, enum pinti_push_mode mode, uint32_t *next,
                 batch *taken, obstacle *first)
{
    for (; *next < end && taken->n < taken->limit; (*next)++) {
        pinti_taken one;
        const enum pinti_coherence seen =
            pinti_device_take(&import->desc, *next, PINTI_TAKE_TO_PUSH, &one);
        if (seen == PINTI_COH_OK) {
            taken->words[taken->n] = one.word;
            taken->chunks[taken->n++] = *next;
        } else if (seen != PINTI_COH_THERE && !first->is_there && !is_left_alone(seen, mode)) {
            *first = (obstacle){.is_there = true, .chunk = *next, .seen = seen};
        }
    }
}

/* Copy a batch and give it back. */
static pint_status move(pinti_import *import, const batch *taken, uint64_t *bytes, pint_error *err)
{
    pinti_backend *backend = import->device->backend;
    void *stream = NULL;
    uint64_t moved = 0;
    pint_status status = pinti_device_copy_stream(import->device, false, &stream, err);
    if (status == PINT_OK) {
        status = pinti_transfer(import, false, taken->chunks, taken->n, stream, &moved, err);
        /* also after a failure: nothing that was enqueued may run on when the chunks are given back
         */
        const pint_status waited =
            backend->ops->stream_wait(backend, stream, status == PINT_OK ? err : NULL);
        status = status == PINT_OK ? waited : status;
    }
    for (uint32_t i = 0; i < taken->n; i++) {
        if (status == PINT_OK) {
            (void)pinti_push_commit(&import->desc, taken->chunks[i], taken->words[i]);
        } else {
            (void)pinti_push_cancel(&import->desc, taken->chunks[i], taken->words[i]);
        }
    }
    *bytes += status == PINT_OK ? moved : 0;
    return status;
}

/* ---- waiting --------------------------------------------------------------------------------- */

typedef struct look {
    pinti_import *import;
    uint32_t chunk;
} look;

/* Is it worth another try? Old bytes that nobody else is putting back are put back here. */
static bool is_free(void *context)
{
    const look *at = context;
    const pinti_copy_desc *desc = &at->import->desc;
    const uint64_t word = pinti_load64_seq(&desc->column->words[at->chunk]);
    if (pinti_chunk_state(word) == PINTI_CHUNK_RESTORE) {
        return pinti_chunk_restore(at->import->table->desc, at->chunk);
    }
    return !pinti_chunk_is_held(pinti_chunk_state(word)) &&
           pinti_load64_seq(&desc->chunks[at->chunk].xcopier) == 0;
}

static pint_status fail_held(const pinti_import *import, uint32_t chunk, const pinti_limit *limit,
                             pint_error *err)
{
    return pinti_fail(err, pinti_limit_status(limit), 0,
                      "to host: chunk %u of column '%s' is held by another", chunk,
                      import->desc.column->name);
}

/* Does the calling thread write the chunk, on this device or another? */
static bool is_written_by_caller(pinti_import *import, uint32_t chunk)
{
    (void)pthread_mutex_lock(&import->lock);
    const bool is_own = pinti_own_bracket(import, chunk, 1, PINT_WRITE) == chunk;
    (void)pthread_mutex_unlock(&import->lock);
    return is_own || pinti_own_bracket_elsewhere(import, chunk);
}

static pint_status wait_for(pinti_import *import, uint32_t chunk, const pinti_limit *limit,
                            pint_error *err)
{
    look at = {import, chunk};
    const pinti_table_desc *table = import->desc.table;
    const char *name = import->desc.column->name;
    if (!pinti_chunk_can_be(pinti_load64_seq(&import->desc.column->words[chunk]))) {
        return pinti_fail(err, PINT_E_CORRUPT, 0,
                          "to host: the word of chunk %u of column '%s' cannot be", chunk, name);
    }
    if (is_written_by_caller(import, chunk)) {
        return pinti_fail(err, PINT_E_BUSY, 0,
                          "to host: chunk %u of column '%s' is in a write bracket that this thread "
                          "has open: end it first",
                          chunk, name);
    }
    const int64_t left_ms = pinti_limit_left(limit);
    if (left_ms == 0) {
        return fail_held(import, chunk, limit, err);
    }
    const pint_status status =
        pinti_wait(table->pool, table->bell, is_free, &at, left_ms, true, "to host", err);
    return status == PINT_E_TIMEOUT ? fail_held(import, chunk, limit, err) : status;
}

/* Get an obstacle out of the way. PINT_OK: look again. */
static pint_status clear(pinti_import *import, const obstacle *at, const pinti_limit *limit,
                         pint_error *err)
{
    const char *name = import->desc.column->name;
    switch (at->seen) {
    case PINTI_COH_BUSY:
        return wait_for(import, at->chunk, limit, err);
    case PINTI_COH_PUSH:
        return pinti_push_elsewhere(import, at->chunk, limit, err);
    case PINTI_COH_RESTORE:
        return pinti_chunk_restore(import->table->desc, at->chunk)
                   ? PINT_OK
                   : wait_for(import, at->chunk, limit, err);
    case PINTI_COH_TORN:
        return pinti_fail(err, PINT_E_TORN, 0,
                          "to host: chunk %u of column '%s' is torn: a writer died in it",
                          at->chunk, name);
    case PINTI_COH_GONE:
    case PINTI_COH_LOST:
    case PINTI_COH_OK:
    case PINTI_COH_THERE:
    case PINTI_COH_PULL:
    case PINTI_COH_CHANGED:
    case PINTI_COH_FROZEN:
        break;
    }
    return pinti_fail(err, PINT_E_DEVICE_LOST, 0, "to host: the copy of column '%s' was dropped",
                      name);
}

/* ---- push ------------------------------------------------------------------------------------ */

static uint32_t batch_limit(const pinti_import *import)
{
    const pinti_column_desc *column = import->desc.column;
    const uint64_t row_bytes = column->row_bytes != 0 ? column->row_bytes : 1;
    const uint64_t n = BATCH_BYTES / (row_bytes << import->desc.table->chunk_shift);
    return n == 0 ? 1 : n > BATCH_CHUNKS ? BATCH_CHUNKS : (uint32_t)n;
}

pint_status pinti_push(pinti_import *import, uint32_t first, uint32_t n, enum pinti_push_mode mode,
                       const pinti_limit *limit, uint64_t *out_bytes, pint_error *err)
{
    const uint32_t end = first + n;
    batch *taken = malloc(sizeof(*taken));
    if (taken == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "to host: no memory");
    }
    pint_status status = PINT_OK;
    for (uint32_t next = first; status == PINT_OK && next < end;) {
        obstacle at = {0};
        taken->n = 0;
        taken->limit = batch_limit(import);
        take(import, end, mode, &next, taken, &at);
        if (taken->n > 0) {
            status = move(import, taken, out_bytes, err);
        }
        if (status == PINT_OK && at.is_there) {
            next = at.chunk; /* those behind it that were taken are there by now */
            status = clear(import, &at, limit, err);
        }
    }
    free(taken);
    return status;
}

pint_status pinti_push_elsewhere(pinti_import *import, uint64_t chunk, const pinti_limit *limit,
                                 pint_error *err)
{
    const pinti_copy_desc *desc = &import->desc;
    const uint64_t places = pinti_chunk_places(pinti_load64_seq(&desc->column->words[chunk]));
    for (uint32_t place = 0; place < PINTI_DEVICES_MAX; place++) {
        if ((places & pinti_place_bit(place)) == 0 || place == desc->device) {
            continue;
        }
        pint_device *device = pinti_device_of_place(desc->table->pool, place);
        pinti_import *other = device != NULL ? pinti_import_of_column(device, desc->column) : NULL;
        pint_status status = PINT_E_DEVICE_AHEAD;
        if (other != NULL && other != import) {
            uint64_t bytes = 0;
            /* HERE: if it has moved on to a third device, the caller finds out */
            status = pinti_push(other, (uint32_t)chunk, 1, PINTI_PUSH_HERE, limit, &bytes, err);
        } else {
            (void)pinti_fail(err, PINT_E_DEVICE_AHEAD, 0,
                             "chunk %" PRIu64
                             " of column '%s' is newest on device '%s', where this "
                             "process has not opened its copy",
                             chunk, desc->column->name,
                             pinti_cat_devices(desc->table->pool->catalog)[place].name);
        }
        if (other != NULL) {
            pinti_import_drop(other);
        }
        pint_device_close(device);
        return status;
    }
    return PINT_OK; /* it has moved on meanwhile: look again */
}

/* ---- public ---------------------------------------------------------------------------------- */

pint_status pint_copy_to_host(pint_copy *copy, uint64_t first, uint64_t n_rows, int64_t timeout_ms,
                              uint64_t *out_bytes, pint_error *err)
{
    const pinti_limit limit = pinti_limit_start(timeout_ms);
    pint_status status = pinti_copy_enter(copy, "to host", err);
    if (status != PINT_OK) {
        return status;
    }
    uint32_t first_chunk;
    uint32_t n_chunks;
    uint64_t bytes = 0;
    status =
        pinti_rows_to_chunks(copy->import, "to host", first, n_rows, &first_chunk, &n_chunks, err);
    if (status == PINT_OK) {
        status =
            pinti_push(copy->import, first_chunk, n_chunks, PINTI_PUSH_ALL, &limit, &bytes, err);
        (void)pinti_add64_relaxed(&copy->to_host, bytes); /* relaxed: only a number */
    }
    if (status == PINT_OK && out_bytes != NULL) {
        *out_bytes = bytes;
    }
    return status;
}

pint_status pint_copy_own_host(pint_copy *copy, uint64_t first, uint64_t n_rows, int64_t timeout_ms,
                               pint_error *err)
{
    const pinti_limit limit = pinti_limit_start(timeout_ms);
    pint_status status = pinti_copy_enter(copy, "own", err);
    if (status == PINT_OK && (copy->access & PINT_WRITE) == 0) {
        status = pinti_fail(err, PINT_E_PERMISSION, 0, "own: the copy was opened to read");
    }
    uint32_t first_chunk = 0;
    uint32_t n_chunks = 0;
    if (status == PINT_OK) {
        status =
            pinti_rows_to_chunks(copy->import, "own", first, n_rows, &first_chunk, &n_chunks, err);
    }
    pinti_import *import = status == PINT_OK ? copy->import : NULL;
    for (uint32_t i = first_chunk; status == PINT_OK && i < first_chunk + n_chunks;) {
        const enum pinti_coherence seen = pinti_own_host(&import->desc, i);
        if (seen == PINTI_COH_OK) {
            i++;
            continue;
        }
        if (seen == PINTI_COH_FROZEN) {
            return pinti_fail(err, PINT_E_FROZEN, 0, "own: the table is frozen");
        }
        if (seen == PINTI_COH_PUSH) { /* all that are left at once */
            uint64_t bytes = 0;
            status = pinti_push(import, i, first_chunk + n_chunks - i, PINTI_PUSH_SKIP_TORN, &limit,
                                &bytes, err);
            (void)pinti_add64_relaxed(&copy->to_host, bytes); /* relaxed: only a number */
        } else {
            const obstacle at = {.is_there = true, .chunk = i, .seen = seen};
            status = clear(import, &at, &limit, err);
        }
    }
    return status;
}
