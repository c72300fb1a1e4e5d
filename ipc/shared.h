/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SHARED_H
#define IPC_SHARED_H

/* Handles that a process shares: PINT_JOIN_SHARED. */

#include <stdbool.h>

#include "ipc/address.h"
#include "pintable/pool.h"

/* The process's handle on this address, counted once more; joined if there is none. */
pint_status pinti_shared_join(const pinti_address *address, const pint_join_options *options,
                              int64_t deadline_ms, pint_pool **out_pool, pint_error *err);

/* Count one less. True: the caller is the last one, or the handle is not shared, and leaves. */
bool pinti_shared_leave(pint_pool *pool);

#endif
