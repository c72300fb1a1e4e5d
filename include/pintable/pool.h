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

/** How to join. Start from PINT_JOIN_INIT. */
typedef struct pint_join_options {
    uint32_t struct_bytes; /* sizeof(pint_join_options) as the caller was compiled */
    uint32_t flags;        /* PINT_JOIN_READ, PINT_JOIN_NO_START */
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
 * the same address in one process gives a second, independent session.
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
 * had died. NULL is allowed.
 * @since 0.1
 */
PINT_API void pint_pool_leave(pint_pool *pool);

/**
 * The session's id in this pool: never 0, never reused; another one after fork().
 * @since 0.1
 */
PINT_API uint64_t pint_pool_session(pint_pool *pool);

/**
 * Path of the socket this pool was joined at. View, valid until pint_pool_leave().
 * @since 0.1
 */
PINT_API const char *pint_pool_address(const pint_pool *pool);

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

#ifdef __cplusplus
}
#endif

#endif
