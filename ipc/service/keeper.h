/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_KEEPER_H
#define IPC_SERVICE_KEEPER_H

/*
 * The keeper holds every descriptor of the pool and starts the service again when it dies (R3,
 * R15). It serves no client. The two talk over a socket pair:
 *
 *   service -> keeper   UP, HOLD (a session's descriptors), FORGET, KEEP (others), FORGET_KEPT,
 *                       BYE (it exits on purpose)
 *   keeper -> service   STOP
 *
 * HOLD is sent before the reply that reveals the descriptors. It needs no answer: what lies in the
 * pair's queue belongs to the keeper already, and it reads the queue to its end before it starts
 * another service; a keeper that dies with messages unread is forked again from the service, which
 * has all of it.
 */

#include "ipc/service/base.h"

/* Keeper: start the service if none runs, then serve until there is another role to play (in a
 * forked child: SERVICE) or nothing to do any more (EXIT, with base->exit_status set). */
enum pinti_role pinti_keeper_run(pinti_base *base);

/* Service: fork a new keeper, which comes out with true. Both ends of the link are renewed.
 * base->held must have been filled. On failure *out_failed is set. */
bool pinti_keeper_respawn(pinti_base *base, bool *out_failed);

/* Service: the messages. False: the keeper cannot take it now. */
bool pinti_keeper_send_up(pinti_base *base);
bool pinti_keeper_send_hold(pinti_base *base,
                            const pinti_held *entry); /* borrows the descriptors */
bool pinti_keeper_send_forget(pinti_base *base, uint64_t id);
bool pinti_keeper_send_keep(pinti_base *base, const pinti_kept *entry); /* borrows likewise */
bool pinti_keeper_send_forget_kept(pinti_base *base, uint32_t kind, uint64_t id);
void pinti_keeper_send_bye(pinti_base *base, int exit_status);

/* Service: read what the keeper sent. */
enum pinti_keeper_event { PINTI_KEEPER_NOTHING, PINTI_KEEPER_STOP, PINTI_KEEPER_DIED };
enum pinti_keeper_event pinti_keeper_receive(pinti_base *base);

#endif
