/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_LOCAL_POOL_H
#define TESTS_SUPPORT_LOCAL_POOL_H

/*
 * A pool without a service: the segments are anonymous shared memory of the test process, requests
 * go straight to the service's catalog code, and sessions are pint_pool objects that share one
 * mapping. ThreadSanitizer sees races between them (it is blind across two mappings), and a forked
 * child may be killed at a crash point and swept by the test as the service would.
 */

#include "host/coherence.h"
#include "host/pool.h"
#include "host/sweep.h"

typedef struct local_pool local_pool;

local_pool *local_pool_new(void);
void local_pool_free(local_pool *local); /* all sessions must have been ended */

/* A further session. */
pint_pool *local_session_new(local_pool *local);

/* End it as its death would: leases swept (listed or all), references gone, handles void. */
pinti_sweep_result local_session_kill(local_pool *local, pint_pool *session, bool all_words);

/* Sweep only, the session's slot stays: for children that died with the session's slot. */
pinti_sweep_result local_session_sweep(local_pool *local, pint_pool *session, bool all_words);

/* Create and publish in one go; the handle is open for writing. */
pint_table *local_table_new(pint_pool *session, const char *name, const pint_schema *schema,
                            uint64_t n_rows);

/* Create without publishing. */
pint_table *local_table_build(pint_pool *session, const char *name, const pint_schema *schema,
                              uint64_t n_rows);
void local_table_publish(pint_pool *session, pint_table *table);

/* Publish, taking the name over from a live table of that name (PINT_REPLACE). */
void local_table_replace(pint_pool *session, pint_table *table);

/* pint_table_add_columns(), which needs a service otherwise. */
pint_status local_table_add_columns(pint_table *table, pint_table *from, pint_error *err);

pint_status local_table_drop(pint_pool *session, const char *name);
pint_status local_table_rename(pint_pool *session, const char *name, const char *new_name);
pint_status local_table_freeze(pint_table *table);

/* A device copy of a column: a LIVE record and its sync block, no device memory. Returns its index;
 * the generation is LOCAL_COPY_GENERATION. There may be several on a device: the column's record
 * names the last one. */
#define LOCAL_COPY_GENERATION 7u
uint32_t local_copy_new(local_pool *local, const pint_column *column, uint32_t device);

/* What the service does when a copy goes: DYING, then out of all words. */
void local_copy_drop(local_pool *local, uint32_t copy);

/* What it does before when nothing may be lost: CLOSING; and LIVE again unless it is IDLE. */
enum pinti_copy_use local_copy_close(local_pool *local, uint32_t copy);
void local_copy_reopen(local_pool *local, uint32_t copy);

/* What it does about words that are nobody's: CLOSING, cleared, LIVE. Returns whether there were.
 */
bool local_copy_mend(local_pool *local, uint32_t copy, const pinti_copy_users *users);

/* What it does when a session that had it open is dead for good. */
bool local_copy_sweep(local_pool *local, uint32_t copy, uint32_t session);

/* Free what is dropped and not referred to; returns how many records went. */
uint32_t local_pool_reap(local_pool *local);
uint64_t local_pool_used(local_pool *local);
local_pool *local_pool_of(pint_pool *session);

#endif
