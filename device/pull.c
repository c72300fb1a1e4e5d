/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bringing stale chunks to the device for a bracket: the copies are enqueued on the device's own
 * stream, and the caller's stream waits for a mark behind them.
 *
 * Stale chunks of a reading bracket are held while they are copied, as for a write (coherence.h
 * says why), and become newest on both sides when the watcher has seen the copy done. The bracket's
 * own work does not wait for that: it is behind the copy on its stream, and the session's reader
 * bit is set before the hold ends. Another bracket of this process on such a chunk shares the copy:
 * its stream waits for the same mark.
 */

#include <stdlib.h>

#include "device/bracket.h"

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
            if (pinti_device_pulled(&import->desc, chunk, word) == PINTI_COH_OK) {
                import->uses[chunk].seq = pinti_chunk_seq(pinti_chunk_next(word, 0, 0, 0));
            }
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

void pinti_begin_leave_shared(pinti_begin *b)
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

/* ---- copies ---------------------------------------------------------------------------------- */

/* Copy the stale chunks; the caller's stream waits for them. */
static pint_status enqueue_copies(pinti_begin *b, void *copy_stream, pint_error *err)
{
    pinti_backend *backend = b->import->device->backend;
    uint64_t bytes = 0;
    pint_status status =
        pinti_transfer(b->import, true, b->stale, b->n_stale, copy_stream, &bytes, err);
    (void)pinti_add64_relaxed(&b->copy->to_device, bytes); /* relaxed: only a number */
    if (status == PINT_OK) {
        status = backend->ops->mark(backend, copy_stream, &b->mark, err);
    }
    if (status == PINT_OK) {
        status = backend->ops->stream_after(backend, b->stream, b->mark, err);
    }
    return status;
}

/* What a column needs on the caller's stream. */
static pint_status bring(pinti_begin *b, void **copy_stream, pint_error *err)
{
    pinti_backend *backend = b->import->device->backend;
    pint_status status = PINT_OK;
    for (uint32_t i = 0; status == PINT_OK && i < b->n_shared; i++) {
        status = backend->ops->stream_after(backend, b->stream, b->shared[i]->task.mark, err);
    }
    if (status == PINT_OK && b->n_stale > 0) {
        status = pinti_device_copy_stream(b->import->device, true, copy_stream, err);
        if (status == PINT_OK) {
            status = enqueue_copies(b, *copy_stream, err);
        }
    }
    return status;
}

static void mark_drop(pinti_begin *b)
{
    pinti_backend *backend = b->import->device->backend;
    if (b->mark != NULL) {
        backend->ops->mark_free(backend, b->mark);
        b->mark = NULL;
    }
}

/* Reading: the watcher ends the holds. */
static void submit_pull(pinti_begin *b, void *copy_stream)
{
    pinti_import *import = b->import;
    pinti_pull *pull = b->pull;
    b->pull = NULL;
    pull->task = (pinti_task){.owner = import->device,
                              .backend = import->device->backend,
                              .stream = copy_stream,
                              .mark = b->mark,
                              .finish = pull_finish};
    b->mark = NULL;
    (void)pthread_mutex_lock(&import->lock);
    pull->n = b->n_stale;
    pull->n_users = 1;
    pull->is_marked = true;
    (void)pthread_mutex_unlock(&import->lock);
    pinti_import_use(import);
    pinti_bell_ring(pinti_import_bell(import)); /* for those who found it not marked */
    pinti_watch_submit(&pull->task);
}

/* Nothing that was enqueued may run on when the chunks are given back. */
static void bring_undo(pinti_begins *group)
{
    pinti_backend *backend = group->all[0].import->device->backend;
    if (group->copy_stream != NULL) {
        (void)backend->ops->stream_wait(backend, group->copy_stream, NULL);
    }
    for (uint32_t i = 0; i < group->n; i++) {
        mark_drop(&group->all[i]);
    }
    pinti_begin_give_back(group);
}

pint_status pinti_begin_bring(pinti_begins *group, pint_error *err)
{
    pint_status status = PINT_OK;
    for (uint32_t i = 0; status == PINT_OK && i < group->n; i++) {
        status = bring(&group->all[i], &group->copy_stream, err);
    }
    if (status != PINT_OK) {
        bring_undo(group);
        return status;
    }
    for (uint32_t i = 0; i < group->n; i++) {
        pinti_begin *b = &group->all[i];
        if (b->mark != NULL && (b->access & PINT_WRITE) == 0) {
            submit_pull(b, group->copy_stream);
        }
        mark_drop(b); /* writing: the stream waits for it all the same */
        pinti_begin_leave_shared(b);
    }
    return PINT_OK;
}
