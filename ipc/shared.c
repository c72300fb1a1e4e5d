/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One handle of a process on an address, for libraries that do not know of each other
 * (PINT_JOIN_SHARED). A list of handles, each with a count, under one mutex.
 *
 * The mutex is held for looks at the list only: joining, asking whether the service lives, and
 * leaving take time, and fork() takes the mutex, too. So two threads may both find nothing and both
 * join; the later one finds the other's handle when it comes to enter its own in the list, takes
 * that one and leaves its own again.
 *
 * A handle is counted before it is tried out: it cannot go meanwhile. One that turns out to be of
 * no use is retired: it stays in the list, for those who have it, and is given to nobody else.
 *
 * fork(): the child inherits list and counts, and its handles become sessions of its own at their
 * first use, which trying one out is.
 */

#include "ipc/shared.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/interrupt.h"
#include "host/pool.h"
#include "ipc/pool_ops.h"

typedef struct shared {
    struct shared *next;
    pint_pool *pool; /* its address is half the key */
    bool writable;   /* the other half */
    bool is_retired;
    uint64_t n_users;
} shared;

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static shared *list;

/* ---- fork ------------------------------------------------------------------------------------ */

static void lock_list(void)
{
    (void)pthread_mutex_lock(&list_lock);
}

static void unlock_list(void)
{
    (void)pthread_mutex_unlock(&list_lock);
}

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;
static int watch_errno;

/* No other lock is taken under this one, so the order of fork handlers does not matter. */
static void start_watching(void)
{
    watch_errno = pthread_atfork(lock_list, unlock_list, unlock_list);
}

/* ---- the list: requires list_lock ------------------------------------------------------------ */

static shared *find(const char *socket, bool writable)
{
    for (shared *entry = list; entry != NULL; entry = entry->next) {
        if (!entry->is_retired && entry->writable == writable &&
            strcmp(entry->pool->address, socket) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* The link that points to a handle's entry, or to NULL. */
static shared **link_of(const pint_pool *pool)
{
    shared **link = &list;
    while (*link != NULL && (*link)->pool != pool) {
        link = &(*link)->next;
    }
    return link;
}

/* ---- joining and leaving --------------------------------------------------------------------- */

/* The handle of the list, counted, or NULL. */
static pint_pool *take(const char *socket, bool writable)
{
    pint_pool *pool = NULL;
    lock_list();
    shared *entry = find(socket, writable);
    if (entry != NULL) {
        entry->n_users++;
        pool = entry->pool;
    }
    unlock_list();
    return pool;
}

/* Can its holder still do what a handle is for? Within about a second. PINT_E_INTERRUPTED: not
 * known. */
static pint_status try_out(pint_pool *pool, pint_error *err)
{
    pint_status status = pinti_pool_enter(pool, err);
    if (status == PINT_OK && !pinti_pool_is_stale(pool)) {
        status = pool->ops->alive(pool, err);
    }
    return status == PINT_OK && pinti_pool_is_stale(pool) ? PINT_E_STALE : status;
}

static void retire(const pint_pool *pool)
{
    lock_list();
    shared *entry = *link_of(pool);
    if (entry != NULL) {
        entry->is_retired = true;
    }
    unlock_list();
}

/* Enter a new handle. Another's, counted, if there is one by now: then entry was not used. */
static pint_pool *enter(shared *entry)
{
    lock_list();
    shared *other = find(entry->pool->address, entry->writable);
    if (other == NULL) {
        entry->next = list;
        list = entry;
    } else {
        other->n_users++;
    }
    pint_pool *pool = other == NULL ? entry->pool : other->pool;
    unlock_list();
    return pool;
}

pint_status pinti_shared_join(const pinti_address *address, const pint_join_options *options,
                              int64_t deadline_ms, pint_pool **out_pool, pint_error *err)
{
    const bool writable = (options->flags & PINT_JOIN_READ) == 0;
    (void)pthread_once(&watch_once, start_watching);
    if (watch_errno != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, watch_errno, "join: cannot watch for fork()");
    }
    for (;;) {
        pint_pool *pool = take(address->socket, writable);
        if (pool == NULL) {
            break;
        }
        pint_error why;
        const pint_status status = try_out(pool, &why);
        if (status == PINT_OK) {
            *out_pool = pool;
            return PINT_OK;
        }
        if (status != PINT_E_INTERRUPTED) {
            retire(pool);
        }
        pint_pool_leave(pool);
        if (status == PINT_E_INTERRUPTED) {
            return pinti_fail_interrupted("join", err);
        }
    }
    shared *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join: shared handle");
    }
    const pint_status status = pinti_pool_join_at(address, options, deadline_ms, &entry->pool, err);
    if (status != PINT_OK) {
        free(entry);
        return status;
    }
    pint_pool *own = entry->pool;
    entry->writable = writable;
    entry->n_users = 1;
    *out_pool = enter(entry);
    if (*out_pool != own) {
        free(entry);
        pinti_pool_leave_now(own);
    }
    return PINT_OK;
}

bool pinti_shared_leave(pint_pool *pool)
{
    lock_list();
    shared **link = link_of(pool);
    shared *entry = *link;
    const bool is_last = entry == NULL || --entry->n_users == 0;
    if (is_last && entry != NULL) {
        *link = entry->next;
        free(entry);
    }
    unlock_list();
    return is_last;
}
