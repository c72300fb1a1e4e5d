/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_FORK_H
#define HOST_FORK_H

/*
 * Noticing fork() (R11). *pinti_fork_word lies in a page that the kernel wipes in the child, so a
 * child sees another value than its parent did, however it was made. pthread_atfork handlers
 * moreover copy the slot's references, for the child's own session to take over.
 */

#include "host/pool.h"

/* Set up once per process: from here on *pinti_fork_word is another in every child. */
pint_status pinti_fork_start(pint_error *err);

/* The same, and register a pool for the handlers. */
pint_status pinti_fork_watch(pint_pool *pool, pint_error *err);
void pinti_fork_forget(pint_pool *pool);

/* Give a forked child a word of its own if it has none yet. */
void pinti_fork_settle(void);

#endif
