/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_DEATH_H
#define IPC_SERVICE_DEATH_H

/*
 * The end of sessions (R2). Leases end when the process is dead or its tether free; references when
 * the tether is free, which is when no process maps the session's pages any more. Everything else
 * (end of the socket, a request to leave, time) is only a reason to look.
 */

#include "ipc/service/session.h"

/* The pidfd is readable: leases end now, references if nobody else maps the tether. */
void pinti_session_process_ended(pinti_service *service, pinti_session *session);

/* Look whether the tether is free, and end the session if so. True: it has ended and is freed.
 * Else it is looked at again later, where nothing would tell. */
bool pinti_session_probe(pinti_service *service, pinti_session *session);

/* The session said it has unmapped everything: its leases end whatever the tether says. True: it
 * has ended and is freed. */
bool pinti_session_leave(pinti_service *service, pinti_session *session);

/* Timers. */
void pinti_death_probe_due(pinti_service *service);
void pinti_death_rescan(pinti_service *service);

/* Does a chunk of this job wait for old bytes in its undo buffers? For pinti_cat_on_needs_undo().
 */
bool pinti_death_needs_undo(void *service, const pinti_job_rec *job);

/* What the end of a session does to catalog and tables, without a session: for ends that a crash
 * cut off. slot may be NULL. */
void pinti_death_settle(pinti_service *service, uint64_t id, uint32_t index, void *slot);

#endif
