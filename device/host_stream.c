/* SPDX-License-Identifier: Apache-2.0 */

/* Streams and marks of backend "host": see host_stream.h. */

#include "device/host_stream.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "device/host_copy.h"
#include "host/atomic.h"
#include "host/error.h"

enum mark_state { MARK_PENDING, MARK_PASSED, MARK_FAILED };

/* A point on a stream. Counted: its owner, the queue entry that will pass it, and the entries of
 * other streams that wait for it. */
struct pinti_mark {
    pinti_a32 n_users;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum mark_state state;
    void (*notify)(void *context);
    void *context;
};

enum op_kind { OP_COPY, OP_CALL, OP_MARK, OP_AFTER, OP_FAIL };

typedef struct op {
    struct op *next;
    enum op_kind kind;
    bool to_device;
    uint32_t n_pieces;
    void (*function)(void *context);
    void *context;
    pinti_mark *mark;
    pinti_piece pieces[]; /* n_pieces */
} op;

struct pinti_host_stream {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    op *first; /* under lock, as all below */
    op **last;
    bool is_ending;
    bool has_failed; /* of the thread alone */
};

/* ---- marks ----------------------------------------------------------------------------------- */

static pinti_mark *mark_use(pinti_mark *mark)
{
    (void)pinti_add32_relaxed(&mark->n_users, 1); /* relaxed: the caller's own use keeps it */
    return mark;
}

static void mark_drop(pinti_mark *mark)
{
    /* acquire and release: whoever frees it has seen what the others did with it */
    if (atomic_fetch_sub_explicit(&mark->n_users, 1, memory_order_acq_rel) == 1) {
        (void)pthread_cond_destroy(&mark->changed);
        (void)pthread_mutex_destroy(&mark->lock);
        free(mark);
    }
}

static void mark_pass(pinti_mark *mark, enum mark_state state)
{
    (void)pthread_mutex_lock(&mark->lock);
    mark->state = state;
    void (*const notify)(void *) = mark->notify;
    void *const context = mark->context;
    (void)pthread_cond_broadcast(&mark->changed);
    (void)pthread_mutex_unlock(&mark->lock);
    if (notify != NULL) {
        notify(context);
    }
}

static enum mark_state mark_await(pinti_mark *mark)
{
    (void)pthread_mutex_lock(&mark->lock);
    while (mark->state == MARK_PENDING) {
        (void)pthread_cond_wait(&mark->changed, &mark->lock);
    }
    const enum mark_state state = mark->state;
    (void)pthread_mutex_unlock(&mark->lock);
    return state;
}

static pint_status mark_status(enum mark_state state, pint_error *err)
{
    switch (state) {
    case MARK_PASSED:
        return PINT_OK;
    case MARK_PENDING:
        return PINT_E_TIMEOUT; /* an answer, not an error: err stays as it is */
    case MARK_FAILED:
        break;
    }
    return pinti_fail(err, PINT_E_DEVICE, 0, "device 'host': work on the stream failed");
}

pint_status pinti_host_mark_passed(pinti_mark *mark, pint_error *err)
{
    (void)pthread_mutex_lock(&mark->lock);
    const enum mark_state state = mark->state;
    (void)pthread_mutex_unlock(&mark->lock);
    return mark_status(state, err);
}

pint_status pinti_host_mark_wait(pinti_mark *mark, pint_error *err)
{
    return mark_status(mark_await(mark), err);
}

void pinti_host_mark_free(pinti_mark *mark)
{
    (void)pthread_mutex_lock(&mark->lock);
    mark->notify = NULL; /* nobody is called for a mark that was given up */
    (void)pthread_mutex_unlock(&mark->lock);
    mark_drop(mark);
}

void pinti_host_mark_notify(pinti_mark *mark, void (*function)(void *context), void *context)
{
    (void)pthread_mutex_lock(&mark->lock);
    const bool is_over = mark->state != MARK_PENDING;
    if (!is_over) {
        mark->notify = function;
        mark->context = context;
    }
    (void)pthread_mutex_unlock(&mark->lock);
    if (is_over) {
        function(context);
    }
}

static pinti_mark *mark_make(void)
{
    pinti_mark *mark = calloc(1, sizeof(*mark));
    if (mark != NULL) {
        pinti_store32_relaxed(&mark->n_users, 1); /* relaxed: nobody else has it yet */
        (void)pthread_mutex_init(&mark->lock, NULL);
        (void)pthread_cond_init(&mark->changed, NULL);
    }
    return mark;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void *address_of(uint64_t device_address)
{
    return (void *)(uintptr_t)device_address; /* device memory is host memory here */
}

static void run_copy(const op *work)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < work->n_pieces; i++) {
        bytes += work->pieces[i].bytes;
    }
    for (uint32_t i = 0; i < work->n_pieces; i++) {
        const pinti_piece *piece = &work->pieces[i];
        void *device = address_of(piece->device_address);
        pinti_host_copy(work->to_device ? device : piece->host,
                        work->to_device ? piece->host : device, piece->bytes,
                        bytes > PINTI_HOST_PAST_BYTES);
    }
}

static void run(pinti_host_stream *stream, const op *work)
{
    switch (work->kind) {
    case OP_COPY:
        if (!stream->has_failed) {
            run_copy(work);
        }
        break;
    case OP_CALL:
        if (!stream->has_failed) {
            work->function(work->context);
        }
        break;
    case OP_MARK:
        mark_pass(work->mark, stream->has_failed ? MARK_FAILED : MARK_PASSED);
        mark_drop(work->mark);
        break;
    case OP_AFTER:
        if (mark_await(work->mark) == MARK_FAILED) {
            stream->has_failed = true;
        }
        mark_drop(work->mark);
        break;
    case OP_FAIL:
        stream->has_failed = true;
        break;
    }
}

/* The oldest entry, waiting for one; NULL: none will come. */
static op *take(pinti_host_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    while (stream->first == NULL && !stream->is_ending) {
        (void)pthread_cond_wait(&stream->filled, &stream->lock);
    }
    op *work = stream->first;
    if (work != NULL) {
        stream->first = work->next;
        if (stream->first == NULL) {
            stream->last = &stream->first;
        }
    }
    (void)pthread_mutex_unlock(&stream->lock);
    return work;
}

static void *stream_main(void *argument)
{
    pinti_host_stream *stream = argument;
    for (op *work = take(stream); work != NULL; work = take(stream)) {
        run(stream, work);
        free(work);
    }
    return NULL;
}

/* ---- enqueueing ------------------------------------------------------------------------------ */

static op *op_new(enum op_kind kind, uint32_t n_pieces, pint_error *err)
{
    op *work = calloc(1, sizeof(*work) + n_pieces * sizeof(work->pieces[0]));
    if (work == NULL) {
        (void)pinti_fail(err, PINT_E_NO_MEMORY, 0, "stream: no memory to enqueue");
        return NULL;
    }
    work->kind = kind;
    work->n_pieces = n_pieces;
    return work;
}

static pint_status enqueue(pinti_host_stream *stream, op *work)
{
    (void)pthread_mutex_lock(&stream->lock);
    *stream->last = work;
    stream->last = &work->next;
    (void)pthread_cond_signal(&stream->filled);
    (void)pthread_mutex_unlock(&stream->lock);
    return PINT_OK;
}

pint_status pinti_host_stream_call(pinti_host_stream *stream, void (*function)(void *context),
                                   void *context, pint_error *err)
{
    op *work = op_new(OP_CALL, 0, err);
    if (work == NULL) {
        return PINT_E_NO_MEMORY;
    }
    work->function = function;
    work->context = context;
    return enqueue(stream, work);
}

pint_status pinti_host_stream_copy(pinti_host_stream *stream, bool to_device,
                                   const pinti_piece *pieces, uint32_t n_pieces, pint_error *err)
{
    op *work = op_new(OP_COPY, n_pieces, err);
    if (work == NULL) {
        return PINT_E_NO_MEMORY;
    }
    work->to_device = to_device;
    memcpy(work->pieces, pieces, n_pieces * sizeof(*pieces));
    return enqueue(stream, work);
}

pint_status pinti_host_stream_after(pinti_host_stream *stream, pinti_mark *mark, pint_error *err)
{
    op *work = op_new(OP_AFTER, 0, err);
    if (work == NULL) {
        return PINT_E_NO_MEMORY;
    }
    work->mark = mark_use(mark);
    return enqueue(stream, work);
}

pint_status pinti_host_stream_fail(pinti_host_stream *stream, pint_error *err)
{
    op *work = op_new(OP_FAIL, 0, err);
    return work != NULL ? enqueue(stream, work) : PINT_E_NO_MEMORY;
}

pint_status pinti_host_mark_new(pinti_host_stream *stream, pinti_mark **out_mark, pint_error *err)
{
    op *work = op_new(OP_MARK, 0, err);
    pinti_mark *mark = work != NULL ? mark_make() : NULL;
    if (mark == NULL) {
        free(work);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "stream: no memory for a mark");
    }
    work->mark = mark_use(mark);
    *out_mark = mark;
    return enqueue(stream, work);
}

pint_status pinti_host_stream_wait(pinti_host_stream *stream, pint_error *err)
{
    pinti_mark *mark;
    pint_status status = pinti_host_mark_new(stream, &mark, err);
    if (status == PINT_OK) {
        status = pinti_host_mark_wait(mark, err);
        pinti_host_mark_free(mark);
    }
    return status;
}

/* ---- streams --------------------------------------------------------------------------------- */

pint_status pinti_host_stream_new(pinti_host_stream **out_stream, pint_error *err)
{
    pinti_host_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "stream: no memory");
    }
    stream->last = &stream->first;
    (void)pthread_mutex_init(&stream->lock, NULL);
    (void)pthread_cond_init(&stream->filled, NULL);
    /* signals are for the program's own threads */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int reason = pthread_create(&stream->thread, NULL, stream_main, stream);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (reason != 0) {
        (void)pthread_cond_destroy(&stream->filled);
        (void)pthread_mutex_destroy(&stream->lock);
        free(stream);
        return pinti_fail(err, PINT_E_SYSTEM, reason, "stream: thread");
    }
    *out_stream = stream;
    return PINT_OK;
}

void pinti_host_stream_free(pinti_host_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    stream->is_ending = true;
    (void)pthread_cond_signal(&stream->filled);
    (void)pthread_mutex_unlock(&stream->lock);
    (void)pthread_join(stream->thread, NULL);
    (void)pthread_cond_destroy(&stream->filled);
    (void)pthread_mutex_destroy(&stream->lock);
    free(stream);
}
