/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_LISTENER_H
#define IPC_SERVICE_LISTENER_H

/*
 * The socket at the address. Owned by the keeper, so that clients wait in its backlog while a
 * killed service is replaced. Made and removed under the start lock (R18).
 */

#include "ipc/service/base.h"

/* Take the start lock (unless options.lock_fd holds it), see that nobody serves the address, bind
 * and listen. PINT_E_EXISTS: another service, or something that is no socket, is there. */
pint_status pinti_listener_open(pinti_base *base, pint_error *err);

/* Let others start: the service is up. */
void pinti_listener_unlock(pinti_base *base);

/* Take the start lock again, to exit. False: somebody is starting just now. */
bool pinti_listener_try_lock(pinti_base *base);

/* Remove the socket's file if it is still ours. */
void pinti_listener_unlink(pinti_base *base);

#endif
