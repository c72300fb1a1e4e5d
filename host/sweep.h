/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_SWEEP_H
#define HOST_SWEEP_H

/*
 * Ending a dead session's leases (R1, R2). Run by the service, which maps catalog (or its own
 * writable view of it), sync and bells, and the dead session's slot; never the data. Every value
 * read from sync and slot is checked before use. May be cut off at any instruction and run again.
 */

#include "host/layout.h"

typedef struct pinti_sweep_view {
    void *catalog;
    char *sync;
    uint64_t sync_bytes;
    pinti_bell *bells;
} pinti_sweep_view;

typedef struct pinti_sweep_result {
    uint64_t n_reverted; /* claims undone before anything was written */
    uint64_t n_restore;  /* chunks whose old bytes will be put back */
    uint64_t n_torn;
    uint64_t n_rolled_back; /* not torn: devices still have the committed bytes */
    uint64_t n_forwarded;   /* commits completed */
} pinti_sweep_result;

/* Sweep what the dead session's intents list: quick, done at once at death. slot may be NULL. */
void pinti_sweep_listed(const pinti_sweep_view *view, void *slot, uint32_t session_index,
                        pinti_sweep_result *result);

/* Sweep every word of every table and job: before session_index is given to another session. Run
 * in a helper process; touches all sync pages in use. */
void pinti_sweep_all(const pinti_sweep_view *view, uint32_t session_index,
                     pinti_sweep_result *result);

/* Leases a session holds, for `stat` and freeze: counts words held by it in its intents. */
uint64_t pinti_sweep_count_held(const pinti_sweep_view *view, void *slot, uint32_t session_index);

/* Is any chunk of this live table held by anybody? For freeze. */
int pinti_sweep_table_is_held(const pinti_sweep_view *view, uint32_t table_index);

/* Does a chunk of this job, dropped or not, still have a holder or old bytes to be put back? Such a
 * job must not be freed while its table lives. To be asked before the slots are read. */
int pinti_sweep_job_is_busy(const pinti_sweep_view *view, uint32_t job_index);

#endif
