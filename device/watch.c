/* SPDX-License-Identifier: Apache-2.0 */

/* The watcher's thread: see watch.h. */

#include "device/watch.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "host/error.h"

/* Between two looks at marks that nobody tells about: an eighth of the time waited so far, so that
 * a result is seen at most that much late, within these limits. */
#define NAP_NS_MIN 20000
#define NAP_NS_MAX 1000000

static struct {
    pthread_mutex_t lock;
    pthread_cond_t rung;     /* something to look at */
    pthread_cond_t finished; /* for drain */
    pinti_task *oldest;      /* the oldest task of each stream */
    uint64_t n_rings;
    uint64_t n_devices;
    pthread_t thread;
    bool is_running;
    bool is_ending;
    const void *finishing; /* owner of the task being finished, which is not in the list */
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .rung = PTHREAD_COND_INITIALIZER,
           .finished = PTHREAD_COND_INITIALIZER};

/* ---- fork ------------------------------------------------------------------------------------ */

void pinti_watch_before_fork(void)
{
    (void)pthread_mutex_lock(&watch.lock);
}

void pinti_watch_after_fork(bool is_child)
{
    if (is_child) {
        /* The parent's tasks refer to streams and sessions that are the parent's: left alone. */
        watch.oldest = NULL;
        watch.n_devices = 0;
        watch.is_running = false;
        watch.is_ending = false;
        watch.finishing = NULL;
        (void)pthread_cond_init(&watch.rung, NULL);
        (void)pthread_cond_init(&watch.finished, NULL);
    }
    (void)pthread_mutex_unlock(&watch.lock);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void ring_locked(void)
{
    watch.n_rings++;
    (void)pthread_cond_signal(&watch.rung);
}

/* A mark has passed: called by a backend, on any thread. */
static void on_passed(void *context)
{
    (void)context;
    (void)pthread_mutex_lock(&watch.lock);
    ring_locked();
    (void)pthread_mutex_unlock(&watch.lock);
}

/* Take the oldest task of a stream out: the next one of the stream is in its place. */
static void take_out(pinti_task **link)
{
    pinti_task *task = *link;
    pinti_task *next = task->next;
    if (next == NULL) {
        *link = task->next_stream;
    } else {
        next->next_stream = task->next_stream;
        next->latest = task->latest;
        *link = next;
    }
}

/* Finish what is over. Requires the lock, which is given up meanwhile: others add tasks then, but
 * only this thread takes them out, so that link stays good. True: something was finished. */
static bool finish_passed(void)
{
    bool is_progress = false;
    pinti_task **link = &watch.oldest;
    while (*link != NULL) {
        pinti_task *task = *link;
        (void)pthread_mutex_unlock(&watch.lock);
        pint_status status = task->backend->ops->mark_passed(task->backend, task->mark, NULL);
        (void)pthread_mutex_lock(&watch.lock);
        if (status == PINT_E_TIMEOUT) {
            link = &task->next_stream;
            continue;
        }
        take_out(link);
        watch.finishing = task->owner;
        (void)pthread_mutex_unlock(&watch.lock);
        if (status != PINT_OK) {
            /* the work failed, or the question alone: then it may run on, and nothing is lost */
            status = task->backend->ops->mark_wait(task->backend, task->mark, NULL);
        }
        task->finish(task, status);
        (void)pthread_mutex_lock(&watch.lock);
        watch.finishing = NULL;
        (void)pthread_cond_broadcast(&watch.finished);
        is_progress = true;
    }
    return is_progress;
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sleep until rung, or for a nap when some backend does not ring. Requires the lock. */
static void rest(uint64_t rings_seen, int64_t since_ns)
{
    bool is_asking = false;
    for (const pinti_task *task = watch.oldest; task != NULL; task = task->next_stream) {
        is_asking = is_asking || task->backend->ops->mark_notify == NULL;
    }
    if (!is_asking) {
        while (watch.n_rings == rings_seen && !watch.is_ending) {
            (void)pthread_cond_wait(&watch.rung, &watch.lock);
        }
        return;
    }
    int64_t nap_ns = (now_ns() - since_ns) / 8;
    nap_ns = nap_ns < NAP_NS_MIN ? NAP_NS_MIN : nap_ns > NAP_NS_MAX ? NAP_NS_MAX : nap_ns;
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until); /* the clock of pthread_cond_timedwait() */
    const int64_t ns = until.tv_nsec + nap_ns;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    if (watch.n_rings == rings_seen) {
        (void)pthread_cond_timedwait(&watch.rung, &watch.lock, &until);
    }
}

static void *watch_main(void *argument)
{
    (void)argument;
    int64_t since_ns = now_ns();
    (void)pthread_mutex_lock(&watch.lock);
    while (!watch.is_ending) {
        const uint64_t rings_seen = watch.n_rings;
        if (finish_passed() || watch.n_rings != rings_seen) {
            since_ns = now_ns();
        } else {
            rest(rings_seen, since_ns);
        }
    }
    (void)pthread_mutex_unlock(&watch.lock);
    return NULL;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static pint_status start_thread(pint_error *err)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* signals are for the program's own threads */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int reason = pthread_create(&watch.thread, NULL, watch_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (reason != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, reason, "device: thread");
    }
    watch.is_running = true;
    return PINT_OK;
}

void pinti_watch_retain(void)
{
    (void)pthread_mutex_lock(&watch.lock);
    watch.n_devices++;
    (void)pthread_mutex_unlock(&watch.lock);
}

void pinti_watch_release(void)
{
    (void)pthread_mutex_lock(&watch.lock);
    while (watch.is_ending) { /* another last one is just ending the thread */
        (void)pthread_cond_wait(&watch.finished, &watch.lock);
    }
    if (--watch.n_devices == 0 && watch.is_running) {
        watch.is_ending = true;
        ring_locked();
        (void)pthread_mutex_unlock(&watch.lock);
        (void)pthread_join(watch.thread, NULL);
        (void)pthread_mutex_lock(&watch.lock);
        watch.is_running = false;
        watch.is_ending = false;
        (void)pthread_cond_broadcast(&watch.finished);
    }
    (void)pthread_mutex_unlock(&watch.lock);
}

pint_status pinti_watch_prepare(pint_error *err)
{
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&watch.lock);
    while (watch.is_ending) {
        (void)pthread_cond_wait(&watch.finished, &watch.lock);
    }
    if (!watch.is_running) {
        status = start_thread(err);
    }
    (void)pthread_mutex_unlock(&watch.lock);
    return status;
}

void pinti_watch_submit(pinti_task *task)
{
    pinti_backend *backend = task->backend;
    task->next = NULL;
    task->next_stream = NULL;
    task->latest = task;
    if (backend->ops->mark_notify != NULL) {
        /* first: once it is in the list, the watcher may finish it and give its mark back; a ring
         * that comes too early is made up for by our own below */
        backend->ops->mark_notify(backend, task->mark, on_passed, NULL);
    }
    (void)pthread_mutex_lock(&watch.lock);
    pinti_task **link = &watch.oldest;
    while (*link != NULL && ((*link)->backend != backend || (*link)->stream != task->stream)) {
        link = &(*link)->next_stream;
    }
    if (*link == NULL) {
        *link = task;
    } else {
        (*link)->latest->next = task;
        (*link)->latest = task;
    }
    ring_locked();
    (void)pthread_mutex_unlock(&watch.lock);
}

void pinti_watch_drain(const void *owner)
{
    (void)pthread_mutex_lock(&watch.lock);
    for (;;) {
        bool is_there = watch.finishing == owner;
        for (const pinti_task *task = watch.oldest; task != NULL; task = task->next_stream) {
            for (const pinti_task *one = task; one != NULL; one = one->next) {
                is_there = is_there || one->owner == owner;
            }
        }
        if (!is_there) {
            break;
        }
        (void)pthread_cond_wait(&watch.finished, &watch.lock);
    }
    (void)pthread_mutex_unlock(&watch.lock);
}
