/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_POOL_H
#define PINTABLE_POOL_H

/*
 * A pool is one area of shared memory with its tables, served by one pintabled. Joining maps it
 * and makes the process a session; everything else happens through the pool handle.
 *
 * Threads:   a pool handle may be used by any number of threads at once; pint_pool_leave() only
 *            when no other thread uses it or anything opened from it.
 * Processes: a handle works in the process that joined. A child made by fork() may go on using
 *            inherited handles: it becomes a session of its own on first use. Leases are never
 *            inherited.
 */

#include <pintable/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pint_pool pint_pool; /* process-local handle on a joined pool */

#define PINT_JOIN_READ     1u /* read-only: data pages are mapped without write permission */
#define PINT_JOIN_NO_START 2u /* do not start a private service when none runs */
#define PINT_JOIN_SHARED   4u /* the process's one shared handle on this address; see below */

/** How to join. Start from PINT_JOIN_INIT. */
typedef struct pint_join_options {
    uint32_t struct_bytes; /* sizeof(pint_join_options) as the caller was compiled */
    uint32_t flags;        /* PINT_JOIN_READ, PINT_JOIN_NO_START, PINT_JOIN_SHARED */
    int64_t timeout_ms;    /* for connecting and starting; 0: 10 000 */
} pint_join_options;

#define PINT_JOIN_INIT                                                                             \
    {                                                                                              \
        sizeof(pint_join_options), 0, 0                                                            \
    }

/**
 * Join the pool at an address and map it.
 *
 * With no service at the address a private one is started: it serves the calling user, needs no
 * set-up, and exits 60 s after the last session has left and no table is kept. A second join of
 * the same address in one process gives a second, independent session, unless both say
 * PINT_JOIN_SHARED: then the second gives the first one's handle, counted, so that libraries which
 * do not know of each other use one mapping and one session. Handles that may write and those that
 * may not are two. The last pint_pool_leave() of such a handle leaves. A shared handle whose
 * service is gone for good, or whose pool was replaced, is not given out again: the next join
 * starts anew.
 *
 * Owns:      creates *out_pool, to be given up with pint_pool_leave(); borrows its arguments.
 * Processes: maps the pool's segments (address space of many times the byte budget; memory is used
 *            only where tables are). The process keeps one socket open.
 * On error:  *out_pool untouched, nothing mapped, no descriptor open.
 *
 * @param[in]  address  socket path or directory of it; NULL: $PINTABLE_ADDRESS, else the user's
 *                      runtime directory
 * @param[in]  options  NULL for the defaults
 * @param[out] out_pool the pool
 * @retval PINT_E_NO_SERVICE  nothing listens there and none was to be, or could be, started
 * @retval PINT_E_PERMISSION  this user may not join in this mode, or the socket is not safe to use
 * @retval PINT_E_VERSION     the service has another layout or protocol version
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_pool_join(const char *address,
                                                    const pint_join_options *options,
                                                    pint_pool **out_pool, pint_error *err);

/**
 * Leave: close every table and job of this handle, unmap, end the session.
 *
 * Views (pointers into columns) are invalid afterwards. Leases still held end as if the process
 * had died. While a device is open (pintable/device.h) all this waits for the last
 * pint_device_close(): a driver must not find memory gone that is registered with it. NULL is
 * allowed.
 * @since 0.1
 */
PINT_API void pint_pool_leave(pint_pool *pool);

/**
 * The session's id in this pool: never reused; another one after fork(). 0 only in a child made by
 * fork() that could not become a session, or was interrupted.
 * @since 0.1
 */
PINT_API uint64_t pint_pool_session(pint_pool *pool);

/**
 * Path of the socket this pool was joined at. View, valid until pint_pool_leave().
 * @since 0.1
 */
PINT_API const char *pint_pool_address(const pint_pool *pool);

/**
 * Copy the pool's id, 16 random bytes chosen when its service started: two pools never have the
 * same, not even one after the other at one address.
 * @since 0.1
 */
PINT_API void pint_pool_id(const pint_pool *pool, uint8_t *out_id);

/**
 * 1 if all of [address, address + n_bytes) lies in this pool's column memory as mapped here, else
 * 0. A range of no bytes counts as one byte. For telling a view from a copy.
 * @since 0.1
 */
PINT_API int pint_pool_contains(const pint_pool *pool, const void *address, uint64_t n_bytes);

/**
 * One table after another, in no special order.
 *
 * Start with *cursor 0. A table published or dropped during the walk may or may not be seen.
 *
 * @param[in,out] cursor   position; opaque
 * @param[out]    out_name room for PINT_NAME_BYTES_MAX + 1 bytes
 * @retval PINT_E_NOT_FOUND  no further table
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_pool_next_table(pint_pool *pool, uint64_t *cursor,
                                                          char *out_name, pint_error *err);

/** Looks whether calls are to be given up: not 0 ends the call that asks. */
typedef int (*pint_interrupt)(void *context);

/**
 * Set the function that calls ask while they wait; NULL takes it away. One for the process, every
 * pool and thread; none at first. For programs that catch a signal such as SIGINT and want their
 * calls to end.
 *
 * A thread that waits inside a call asks whenever a signal has ended a system call of it, and every
 * 100 ms or so. Calls that wait are those that talk to the service (join and starting a private
 * service, create, publish, drop, rename, freeze, add columns, open when names just moved, jobs
 * created and dropped), or for other processes (claims, chunks of a job, its end, versions, adding
 * a category). A call that has what it wants returns that, and does not ask. Leaving a pool and
 * closing handles do not ask.
 *
 * The call then returns PINT_E_INTERRUPTED, and leaves behind
 *   - pint_pool_join(): nothing. A private service that was just being started may come up, and
 *     exits when it was not used;
 *   - waits for other processes: what PINT_E_TIMEOUT leaves, nothing claimed;
 *   - pint_table_create(): nothing. If the service makes the table all the same, it is dropped as
 *     soon as it answers this session again, before the next request or look at the service;
 *   - every other request: it takes effect or not, as the next request of this handle, and the
 *     catalog before it, will show. The handles it used stay as they were.
 * The session and what it holds go on: leases, open tables, views.
 *
 * Owns:      borrows context until the function is replaced.
 * Threads:   set it while no other thread is in a call of the library. The function is called by
 *            the threads that wait, several at once, also while one of the library's locks is held:
 *            it may use pintable, but requests to a pool in the middle of whose request it was
 *            asked fail with PINT_E_STATE.
 * Processes: a child made by fork() inherits it.
 * @since 0.1
 */
PINT_API void pint_set_interrupt(pint_interrupt check, void *context);

#ifdef __cplusplus
}
#endif

#endif
