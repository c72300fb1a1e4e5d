/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_SWEEPER_H
#define IPC_SERVICE_SWEEPER_H

/*
 * Session indices and the full sweeps between two uses of one. An index never used is always
 * preferred; a used one comes back only after every word of every table was searched for it, which
 * a forked helper does. After a session that died (rather than left) the sweep is run soon, in case
 * its slot did not list all its leases; else when fresh indices run low.
 */

#include "ipc/service/service.h"

bool pinti_sweeper_init(pinti_service *service);
void pinti_sweeper_done(pinti_service *service);

/* An index for a new session; 0: none now. */
uint32_t pinti_sweeper_take_index(pinti_service *service);
void pinti_sweeper_give_back(pinti_service *service, uint32_t index);    /* nobody ever saw it */
void pinti_sweeper_index_in_use(pinti_service *service, uint32_t index); /* found at restart */

/* The session with this index is over. soon: it did not leave in good order. */
void pinti_sweeper_index_over(pinti_service *service, uint32_t index, bool soon);

void pinti_sweeper_due(pinti_service *service);      /* PINTI_TIMER_SWEEP */
void pinti_sweeper_finished(pinti_service *service); /* the helper's pipe has ended */

/* While true no sync memory may be given back: the helper may be reading it. */
bool pinti_sweeper_runs(const pinti_service *service);

#endif
