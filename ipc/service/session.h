/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_SESSION_H
#define IPC_SERVICE_SESSION_H

/*
 * Sessions from join to the end of their references. A session outlives its connection (restart of
 * the service), its process (forked children that still map its pages) and incarnations. Ends in
 * death.c only.
 */

#include "ipc/service/service.h"

struct pinti_session {
    pinti_source source; /* of the pidfd */
    uint64_t id;
    uint64_t token[2];
    uint64_t family;
    uint64_t joined_ns;
    uint32_t index;
    uint32_t uid;
    uint32_t gid;
    int32_t pid;
    uint32_t place; /* in service->sessions */
    bool read_only;
    bool pidfd_is_foreign;
    bool process_ended; /* its pidfd said so */
    bool leases_ended;
    bool has_left; /* by request */
    int slot_fd;
    int tether_fd;
    int pidfd; /* -1: EOF of the socket is all that tells */
    void *slot;
    pinti_connection *connection; /* NULL: none now */
    uint64_t away_since_ms;       /* its socket ended; 0: it has one, or never had */
    uint64_t ended_ms;            /* its process ended; 0: not, or nobody tells */
    uint64_t free_since_ms;       /* its tether was found free, for ever; 0: not yet */
    uint64_t probe_ms;            /* 0: not waiting */
    uint32_t probe_wait_ms;
};

typedef struct pinti_join {
    uint32_t uid, gid;
    int32_t pid; /* 0: in a foreign pid namespace */
    bool read_only;
    uint64_t family; /* wanted; 0: a new one */
    char command[32];
    int pidfd; /* taken on success; -1: none */
    bool pidfd_is_foreign;
} pinti_join;

/* Make the session: slot, tether, record in the catalog, descriptors with the keeper. */
pint_status pinti_session_create(pinti_service *service, const pinti_join *join,
                                 pinti_session **out_session, pint_error *err);

/* The sessions that the last incarnation left in base->held; finishes ends that were cut off. */
pint_status pinti_sessions_restore(pinti_service *service, pint_error *err);

/* The way back: base->held from the sessions, for a new keeper. False: out of memory. */
bool pinti_sessions_hand_over(pinti_service *service);

/* Give all up without ending any. close_fds false: they are in base->held now. */
void pinti_sessions_abandon(pinti_service *service, bool close_fds);

pinti_session *pinti_session_by_id(pinti_service *service, uint64_t id);
bool pinti_family_lives(void *service, uint64_t family);
uint32_t pinti_sessions_of_uid(const pinti_service *service, uint32_t uid);
pinti_session_rec *pinti_session_record(const pinti_service *service, uint32_t index);

/* Take the session out of the lists and free it; the keeper forgets it. For death.c. */
void pinti_session_remove(pinti_service *service, pinti_session *session);

/* Does any slot refer to this generation of a table, job or copy (enum pinti_ref_kind)? service:
 * void * for pinti_cat_reap(). */
bool pinti_session_refers(void *service, int kind, uint32_t index, uint32_t generation);
/* How many sessions' slots do. */
uint32_t pinti_session_count_holders(const pinti_service *service, int kind, uint32_t index,
                                     uint32_t generation);
/* A session that refers to the table; one of this uid if there is one. NULL: none. */
const pinti_session *pinti_session_holder(const pinti_service *service, uint32_t table,
                                          uint32_t generation, uint32_t uid);
bool pinti_session_pins(void *service, uint32_t slab);

/* References in the slot, for stat; looks only at pages that exist. */
uint64_t pinti_session_count_tables(const pinti_service *service, const pinti_session *session);
uint64_t pinti_session_count_leases(const pinti_service *service, const pinti_session *session);

#endif
