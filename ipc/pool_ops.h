/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_POOL_OPS_H
#define IPC_POOL_OPS_H

/* What requests.c and join.c share. */

#include "ipc/client.h"

/* The operations host/ asks for. */
extern const pinti_pool_ops pinti_ipc_ops;

/* Become a session of one's own in a forked child: pinti_pool_ops.rejoin. */
pint_status pinti_pool_rejoin(pint_pool *pool, pint_error *err);

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
