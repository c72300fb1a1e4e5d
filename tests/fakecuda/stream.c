/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams, events, and when work runs. Operations of a stream run in order. A stream's first
 * operation has to wait when it is a WAIT for a later point of another stream, or by the rule of
 * the legacy default stream: it and blocking streams run in the order of the calls.
 *
 * Operations are numbered in the order of the calls, and a wait names an earlier number, so there
 * is no circle: whoever follows the blockers ends at an operation that can run.
 *
 * Records of streams and events are not freed before a reset: a stale handle is found out.
 */

#include <stdlib.h>
#include <string.h>

#include "tests/fakecuda/internal.h"

struct CUstream_st {
    struct CUstream_st *next;
    pinti_cu_context context;
    unsigned int flags;
    bool live;      /* not destroyed */
    bool is_legacy; /* the default stream */
    bool running;   /* some thread carries out the head */
    fake_op *head, *tail;
    uint64_t done; /* number of the last operation carried out */
    uint64_t last; /* number of the last operation appended */
};

struct CUevent_st {
    struct CUevent_st *next;
    pinti_cu_context context;
    bool live;
    pinti_cu_stream stream; /* of the last record, or NULL */
    uint64_t number;        /* of the last record */
};

static pinti_cu_stream streams;
static pinti_cu_event events;
static uint64_t n_operations;
static unsigned int random_state;
static bool random_seeded;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER; /* an operation came or went */
static bool worker_runs, worker_should_stop;

/* --- Which operation can run -------------------------------------------------------------------
 */

/* An operation of other has to come before number. */
static bool is_behind(const struct CUstream_st *other, uint64_t number)
{
    return other->head != NULL && other->head->number < number;
}

/* The stream that must move before this one's first operation can run, or NULL. */
static pinti_cu_stream blocker(pinti_cu_stream stream)
{
    const fake_op *op = stream->head;
    if (op->work == FAKE_WAIT && op->wait_stream->done < op->wait_number) {
        return op->wait_stream;
    }
    if (stream->is_legacy) {
        for (pinti_cu_stream other = streams; other != NULL; other = other->next) {
            if (other != stream && other->context == stream->context &&
                (other->flags & PINTI_CU_STREAM_NON_BLOCKING) == 0 &&
                is_behind(other, op->number)) {
                return other;
            }
        }
    } else if ((stream->flags & PINTI_CU_STREAM_NON_BLOCKING) == 0) {
        pinti_cu_stream legacy = stream->context->legacy;
        if (legacy != NULL && is_behind(legacy, op->number)) {
            return legacy;
        }
    }
    return NULL;
}

static bool can_run(pinti_cu_stream stream)
{
    return stream->head != NULL && !stream->running && blocker(stream) == NULL;
}

/* --- Running ---------------------------------------------------------------------------------- */

/* Carry out the first operation. Once work of a context has failed, the rest of its work is passed
 * over, host functions too: as the driver does. */
static void run_head(pinti_cu_stream stream)
{
    fake_op *op = stream->head;
    pinti_cu_context context = stream->context;
    stream->running = true;
    const bool is_work = op->work != FAKE_RECORD && op->work != FAKE_WAIT;
    if (is_work && context->broken == PINTI_CU_SUCCESS) {
        pinti_cu_result result = fake_count_work();
        if (result == PINTI_CU_SUCCESS && op->work == FAKE_FUNCTION) {
            (void)pthread_mutex_unlock(&fake_lock);
            fake_in_host_func = true;
            op->function(op->data);
            fake_in_host_func = false;
            (void)pthread_mutex_lock(&fake_lock);
        } else if (result == PINTI_CU_SUCCESS) {
            result = fake_work_do(op);
        }
        context->broken = result;
    }
    stream->head = op->next;
    if (stream->head == NULL) {
        stream->tail = NULL;
    }
    stream->done = op->number;
    stream->running = false;
    free(op);
    (void)pthread_cond_broadcast(&moved);
}

static unsigned int random_below(unsigned int n)
{
    if (!random_seeded) {
        random_state = fake_set.seed;
        random_seeded = true;
    }
    return (unsigned int)rand_r(&random_state) % n;
}

/* Run one operation of any stream, chosen by lot; false if none can run. */
static bool run_any(void)
{
    unsigned int n = 0;
    pinti_cu_stream chosen = NULL;
    for (pinti_cu_stream stream = streams; stream != NULL; stream = stream->next) {
        if (can_run(stream) && random_below(++n) == 0) {
            chosen = stream;
        }
    }
    if (chosen == NULL) {
        return false;
    }
    run_head(chosen);
    return true;
}

/* Run one operation that stream waits for, or its own first. If another thread is at it: wait until
 * it is done, or leave it. */
static void step_towards(pinti_cu_stream stream, bool may_wait)
{
    for (pinti_cu_stream before; stream->head != NULL && (before = blocker(stream)) != NULL;) {
        stream = before;
    }
    if (stream->running) {
        if (may_wait) {
            (void)pthread_cond_wait(&moved, &fake_lock);
        }
    } else if (stream->head != NULL) {
        run_head(stream);
    }
}

static void finish(pinti_cu_stream stream, uint64_t number)
{
    while (stream->done < number && stream->head != NULL) {
        if (fake_set.async == FAKE_ASYNC_SYNC) {
            step_towards(stream, true);
        } else if (fake_set.async == FAKE_ASYNC_THREAD || !run_any()) {
            (void)pthread_cond_wait(&moved, &fake_lock);
        }
    }
}

/* The driver's own thread, in the mode thread. */
static void *work_on(void *nothing)
{
    (void)nothing;
    (void)pthread_mutex_lock(&fake_lock);
    while (!worker_should_stop) {
        if (!run_any()) {
            (void)pthread_cond_wait(&moved, &fake_lock);
        }
    }
    worker_runs = false;
    (void)pthread_cond_broadcast(&moved);
    (void)pthread_mutex_unlock(&fake_lock);
    return NULL;
}

/* What a call gives other work: a chance to run. */
static void let_run(void)
{
    if (fake_set.async == FAKE_ASYNC_RANDOM) {
        for (unsigned int n = random_below(3); n > 0 && run_any(); n--) {
        }
    } else if (fake_set.async == FAKE_ASYNC_THREAD && !worker_runs) {
        pthread_t worker;
        worker_should_stop = false;
        if (pthread_create(&worker, NULL, work_on, NULL) != 0) {
            abort();
        }
        (void)pthread_detach(worker);
        worker_runs = true;
    }
    (void)pthread_cond_broadcast(&moved);
}

pinti_cu_result fake_stream_append(pinti_cu_stream stream, const fake_op *op, uint64_t *out_number)
{
    fake_op *own = malloc(sizeof(*own));
    if (own == NULL) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    *own = *op;
    own->next = NULL;
    own->number = ++n_operations;
    if (stream->tail != NULL) {
        stream->tail->next = own;
    } else {
        stream->head = own;
    }
    stream->tail = own;
    stream->last = own->number;
    if (out_number != NULL) {
        *out_number = own->number;
    }
    let_run();
    return PINTI_CU_SUCCESS;
}

/* --- Streams ---------------------------------------------------------------------------------- */

static pinti_cu_stream new_stream(pinti_cu_context context, unsigned int flags)
{
    pinti_cu_stream stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        abort();
    }
    stream->context = context;
    stream->flags = flags;
    stream->live = true;
    stream->next = streams;
    streams = stream;
    return stream;
}

pinti_cu_result fake_stream_of(pinti_cu_context context, pinti_cu_stream handle,
                               pinti_cu_stream *out_stream)
{
    if (handle == NULL || handle == PINTI_CU_STREAM_LEGACY) {
        if (context->legacy == NULL) {
            context->legacy = new_stream(context, 0);
            context->legacy->is_legacy = true;
        }
        *out_stream = context->legacy;
        return PINTI_CU_SUCCESS;
    }
    if (handle == PINTI_CU_STREAM_PER_THREAD) { /* one for all threads: no weaker */
        if (context->per_thread == NULL) {
            context->per_thread = new_stream(context, 0);
        }
        *out_stream = context->per_thread;
        return PINTI_CU_SUCCESS;
    }
    for (pinti_cu_stream stream = streams; stream != NULL; stream = stream->next) {
        if (stream == handle && stream->live && stream->context == context) {
            *out_stream = stream;
            return PINTI_CU_SUCCESS;
        }
    }
    return PINTI_CU_INVALID_HANDLE;
}

pinti_cu_result fake_stream_create(pinti_cu_stream *out_stream, unsigned int flags)
{
    FAKE_ENTER_CONTEXT(stream_create, context)
    if (out_stream == NULL || (flags & ~PINTI_CU_STREAM_NON_BLOCKING) != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    *out_stream = new_stream(context, flags);
    return PINTI_CU_SUCCESS;
}

/* Returns at once; what was enqueued is still done, in the order it would have been. */
pinti_cu_result fake_stream_destroy(pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(stream_destroy, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS) {
        return result;
    }
    if (stream == context->legacy || stream == context->per_thread) {
        return PINTI_CU_INVALID_HANDLE;
    }
    stream->live = false;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_stream_synchronize(pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(stream_synchronize, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS) {
        return result;
    }
    finish(stream, stream->last);
    return context->broken;
}

/* A query moves the stream on by one operation, so that a loop of queries comes to an end. */
static pinti_cu_result query(pinti_cu_stream stream, uint64_t number)
{
    if (stream->done < number && stream->head != NULL) {
        if (fake_set.async == FAKE_ASYNC_SYNC) {
            step_towards(stream, false);
        } else {
            let_run();
        }
    }
    if (stream->context->broken != PINTI_CU_SUCCESS) {
        return stream->context->broken;
    }
    return stream->done < number ? PINTI_CU_NOT_READY : PINTI_CU_SUCCESS;
}

pinti_cu_result fake_stream_query(pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(stream_query, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    return result != PINTI_CU_SUCCESS ? result : query(stream, stream->last);
}

pinti_cu_result fake_launch_host_func(pinti_cu_stream handle, pinti_cu_host_fn function, void *data)
{
    FAKE_ENTER_CONTEXT(launch_host_func, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS || function == NULL) {
        return result != PINTI_CU_SUCCESS ? result : PINTI_CU_INVALID_VALUE;
    }
    const fake_op op = {.work = FAKE_FUNCTION, .function = function, .data = data};
    return fake_stream_append(stream, &op, NULL);
}

/* --- Capture of graphs: nothing is ever captured, but threads and streams can be told so
 * ----------
 */

pinti_cu_result fake_thread_exchange_capture_mode(pinti_cu_capture_mode *mode)
{
    FAKE_ENTER(thread_exchange_capture_mode);
    if (mode == NULL || (unsigned int)*mode > PINTI_CU_CAPTURE_RELAXED) {
        return PINTI_CU_INVALID_VALUE;
    }
    const pinti_cu_capture_mode before = fake_capture_mode;
    fake_capture_mode = *mode;
    *mode = before;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_stream_is_capturing(pinti_cu_stream handle,
                                         pinti_cu_capture_status *out_status)
{
    FAKE_ENTER_CONTEXT(stream_is_capturing, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result == PINTI_CU_SUCCESS) {
        *out_status = fake_set.capture == FAKE_CAPTURE_STREAMS && handle != NULL
                          ? PINTI_CU_CAPTURE_ACTIVE
                          : PINTI_CU_CAPTURE_NONE;
    }
    return result;
}

/* --- Events ----------------------------------------------------------------------------------- */

static pinti_cu_result event_of(pinti_cu_event handle)
{
    for (pinti_cu_event event = events; event != NULL; event = event->next) {
        if (event == handle) {
            return event->live ? PINTI_CU_SUCCESS : PINTI_CU_INVALID_HANDLE;
        }
    }
    return PINTI_CU_INVALID_HANDLE;
}

pinti_cu_result fake_event_create(pinti_cu_event *out_event, unsigned int flags)
{
    FAKE_ENTER_CONTEXT(event_create, context)
    if (out_event == NULL ||
        (flags & ~(PINTI_CU_EVENT_BLOCKING_SYNC | PINTI_CU_EVENT_DISABLE_TIMING)) != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    pinti_cu_event event = calloc(1, sizeof(*event));
    if (event == NULL) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    event->context = context;
    event->live = true;
    event->next = events;
    events = event;
    *out_event = event;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_event_destroy(pinti_cu_event event)
{
    FAKE_ENTER(event_destroy);
    const pinti_cu_result result = event_of(event);
    if (result == PINTI_CU_SUCCESS) {
        event->live = false;
    }
    return result;
}

pinti_cu_result fake_event_record(pinti_cu_event event, pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(event_record, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS || event_of(event) != PINTI_CU_SUCCESS ||
        event->context != context) {
        return PINTI_CU_INVALID_HANDLE;
    }
    const fake_op op = {.work = FAKE_RECORD};
    uint64_t number = 0;
    const pinti_cu_result appended = fake_stream_append(stream, &op, &number);
    if (appended == PINTI_CU_SUCCESS) {
        event->stream = stream;
        event->number = number;
    }
    return appended;
}

pinti_cu_result fake_stream_wait_event(pinti_cu_stream handle, pinti_cu_event event,
                                       unsigned int flags)
{
    FAKE_ENTER_CONTEXT(stream_wait_event, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS || event_of(event) != PINTI_CU_SUCCESS) {
        return PINTI_CU_INVALID_HANDLE;
    }
    if (flags != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (event->stream == NULL) {
        return PINTI_CU_SUCCESS; /* never recorded: nothing to wait for */
    }
    /* The last record as of now: a later one does not count. */
    const fake_op op = {
        .work = FAKE_WAIT, .wait_stream = event->stream, .wait_number = event->number};
    return fake_stream_append(stream, &op, NULL);
}

pinti_cu_result fake_event_query(pinti_cu_event event)
{
    FAKE_ENTER(event_query);
    const pinti_cu_result result = event_of(event);
    if (result != PINTI_CU_SUCCESS || event->stream == NULL) {
        return result;
    }
    return query(event->stream, event->number);
}

pinti_cu_result fake_event_synchronize(pinti_cu_event event)
{
    FAKE_ENTER(event_synchronize);
    const pinti_cu_result result = event_of(event);
    if (result != PINTI_CU_SUCCESS || event->stream == NULL) {
        return result;
    }
    finish(event->stream, event->number);
    return event->context->broken;
}

/* --- The end ---------------------------------------------------------------------------------- */

static void drop_operations(pinti_cu_stream stream)
{
    while (stream->running) { /* a host function is not torn off */
        (void)pthread_cond_wait(&moved, &fake_lock);
    }
    while (stream->head != NULL) {
        fake_op *op = stream->head;
        stream->head = op->next;
        stream->done = op->number;
        free(op);
    }
    stream->tail = NULL;
}

void fake_streams_drop(pinti_cu_context context)
{
    for (pinti_cu_stream stream = streams; stream != NULL; stream = stream->next) {
        if (stream->context == context) {
            drop_operations(stream);
            stream->live = false;
        }
    }
    for (pinti_cu_event event = events; event != NULL; event = event->next) {
        if (event->context == context) {
            event->live = false;
        }
    }
    context->legacy = NULL;
    context->per_thread = NULL;
}

void fake_streams_reset(void)
{
    worker_should_stop = true;
    (void)pthread_cond_broadcast(&moved);
    while (worker_runs) {
        (void)pthread_cond_wait(&moved, &fake_lock);
    }
    while (streams != NULL) {
        pinti_cu_stream stream = streams;
        drop_operations(stream);
        streams = stream->next;
        free(stream);
    }
    while (events != NULL) {
        pinti_cu_event event = events;
        events = event->next;
        free(event);
    }
    random_seeded = false;
}
