/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_POOL_OPS_H
#define IPC_POOL_OPS_H

/* What join.c shares with requests.c and shared.c. */

#include "ipc/address.h"
#include "ipc/client.h"

/* The operations host/ asks for. */
extern const pinti_pool_ops pinti_ipc_ops;

/* A pinti_find_made (client.h); context: the pool. */
bool pinti_requests_find_made(void *context, uint64_t session, uint64_t request,
                              uint32_t *out_table, uint32_t *out_generation);

/* Become a session of one's own in a forked child: pinti_pool_ops.rejoin. */
pint_status pinti_pool_rejoin(pint_pool *pool, pint_error *err);

/* Join, and leave, whoever else has a handle on the address, or holds the pool. The options are
 * checked and complete. */
pint_status pinti_pool_join_at(const pinti_address *address, const pint_join_options *options,
                               int64_t deadline_ms, pint_pool **out_pool, pint_error *err);
void pinti_pool_leave_now(pint_pool *pool);

static inline pinti_client *pinti_client_of(pint_pool *pool)
{
    return pool->client;
}

/*
 * Growth of parameter structs: the caller's may be shorter (older) or longer (newer) than ours.
 * Copies what both have over `out`, which holds the defaults. min_bytes: size in version 0.1.
 * PINT_E_INVALID: too short, or longer with something set that this library does not know.
 */
pint_status pinti_copy_struct(void *out, size_t own_bytes, const void *in, uint32_t in_bytes,
                              size_t min_bytes, const char *what, pint_error *err);

#endif
