/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_WATCH_H
#define DEVICE_WATCH_H

/*
 * The library's own thread: finishes what depends on a stream having come to a point. One per
 * process, started with the first task, ended with the last device.
 *
 *   submit(task)          the mark of the task has passed, or the work before it failed
 *   ------------------>   task->finish(task, PINT_OK or PINT_E_DEVICE)    on the watcher's thread
 *
 * Tasks of one stream finish in the order they were submitted in. Tasks of different streams do not
 * wait for each other: the thread looks at the oldest of each, and sleeps until one moves, which a
 * backend that can tells it; else it asks again after a time that grows with the wait.
 *
 * fork(): the thread does not exist in the child, whose list is empty. What the parent had
 * submitted is the parent's to finish.
 */

#include "device/backend.h"

typedef struct pinti_task {
    const void *owner; /* for drain */
    pinti_backend *backend;
    void *stream;     /* compared only */
    pinti_mark *mark; /* given back by finish */
    /* the watcher's: later ones of the stream; for the oldest of a stream, the oldest of another,
     * and where its latest one ends */
    struct pinti_task *next;
    struct pinti_task *next_stream;
    struct pinti_task *latest;
    /* Takes the task. May lock and ring bells; may not wait. */
    void (*finish)(struct pinti_task *task, pint_status status);
} pinti_task;

/* A device was opened, or closed. The last close ends the thread; all tasks must be finished. */
void pinti_watch_retain(void);
void pinti_watch_release(void);

/* For the fork handlers of device.c, whose lock is taken before the watcher's. */
void pinti_watch_before_fork(void);
void pinti_watch_after_fork(bool is_child);

/* Start the thread if there is none, so that submit cannot fail. */
pint_status pinti_watch_prepare(pint_error *err);

/* All but the watcher's own fields are filled in. */
void pinti_watch_submit(pinti_task *task);

/* Wait until no task of an owner is left. Not on the watcher's thread. */
void pinti_watch_drain(const void *owner);

#endif
