/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_COPIES_H
#define IPC_SERVICE_COPIES_H

/*
 * Device copies as the service handles them: their descriptors, who waits for one, what ends with a
 * session, a broker, a budget. Records are catalog_copy.c's, words host/coherence.c's, memory the
 * brokers'.
 *
 * The service never maps the memory of a copy. That of kind PINT_COPY_VMM is a descriptor, held
 * here and by the keeper, from before the first reply that shows it to the release: when the copy
 * is DYING and no slot refers to it. That of kind PINT_COPY_IPC lives in its broker until then.
 */

#include "host/coherence.h"
#include "ipc/service/service.h"

bool pinti_copies_init(pinti_service *service);

/* After catalog and sessions: the descriptors the keeper held; copies whose memory nobody holds any
 * more are dropped. */
void pinti_copies_restore(pinti_service *service);
bool pinti_copies_hand_over(pinti_service *service); /* as pinti_sessions_hand_over() */
void pinti_copies_abandon(pinti_service *service, bool close_fds);

/* A broker answered for the record of this id: it has memory (fd taken, -1 for an ipc handle), or
 * will have none. Whoever waits for it gets his reply. */
void pinti_copies_made(pinti_service *service, uint32_t copy, uint64_t id, int fd,
                       const uint8_t ipc[64], uint64_t broker);
void pinti_copies_failed(pinti_service *service, uint32_t copy, uint64_t id, pint_status status,
                         const char *text);

/* Whoever waits for a copy that is LIVE gets his reply. */
void pinti_copies_answer(pinti_service *service);

/* Copies that lived in it are gone with all that was newest there. */
void pinti_copies_broker_died(pinti_service *service, uint32_t device, uint64_t serial);

/* DYING, out of all masks, its waiters woken. Its memory goes when no slot refers to it. */
void pinti_copies_kill(pinti_service *service, uint32_t copy);

/* The same, unless that loses bytes or takes rights away: nothing has changed then.
 * PINT_E_DEVICE_AHEAD: newest there alone. PINT_E_BUSY: a session reads there, or holds a chunk. */
pint_status pinti_copies_drop(pinti_service *service, uint32_t copy, pint_error *err);

/* A session's end: what it held, copied and read in copies. slot NULL: look at all. */
void pinti_copies_end_session(pinti_service *service, uint32_t index, void *slot);
void pinti_copies_sweep_index(const pinti_service *service, uint32_t index); /* in the sweeper */
/* Does the slot refer to a copy on a CUDA device? */
bool pinti_copies_has_cuda(const pinti_service *service, void *slot);

/* For pinti_cat_on_copy_free(). */
void pinti_copies_on_free(void *service, uint32_t copy);

/* Answer copy.open: opened now. */
bool pinti_copies_fill(const pinti_service *service, uint32_t copy, bool created, cJSON *result);
int pinti_copies_fd(const pinti_service *service, uint32_t copy); /* -1: none */

/* ---- copies_evict.c ---- */

/* Room for a copy in the budgets that concern it, by dropping the least recently opened ones on its
 * device that no session refers to and that hold nothing the host does not have. PINT_E_QUOTA. */
pint_status pinti_copies_make_room(pinti_service *service, const pinti_copy_ask *ask,
                                   pint_error *err);

/* One of them on the device is gone. False: there is none. uid: only copies it is charged for;
 * UINT32_MAX: any. */
bool pinti_copies_evict_one(pinti_service *service, uint32_t device, uint32_t uid);

/* ---- inside ---- */

typedef struct pinti_copy_view {
    pinti_copy_sync *sync;
    pinti_copy_chunk *chunks;
    pinti_a64 *words; /* of the column */
    uint32_t n_chunks;
    uint32_t table;
    uint32_t device;
} pinti_copy_view;

/* Its words in the sync segment, bound-checked. False: the record is FREE, or cannot be. */
bool pinti_copies_view(const pinti_service *service, uint32_t copy, pinti_copy_view *out);

/* Of a LIVE copy: clear what no session can have left in its words (coherence.h, strays). */
void pinti_copies_mend(pinti_service *service, uint32_t copy);

/* Close a LIVE copy. IDLE: it is CLOSING, and the caller goes on at once with pinti_copies_kill()
 * or _reopen(); else it is LIVE again. */
enum pinti_copy_use pinti_copies_close(pinti_service *service, uint32_t copy);
void pinti_copies_reopen(pinti_service *service, uint32_t copy);
void pinti_copies_release(pinti_service *service, uint32_t copy);

#endif
