/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_CONNECTION_H
#define IPC_SERVICE_CONNECTION_H

/*
 * One client's socket: who is at the other end, what it may do, replies that wait. Nothing a client
 * does or omits delays another: a connection is read only while no request of it is being worked
 * on, replies queue up to a limit, and silence ends it.
 */

#include "ipc/service/service.h"

#define PINTI_GREET_MS         2000u
#define PINTI_OUTBOX_BYTES_MAX (256u << 10)
#define PINTI_JOIN_FDS         6u

typedef struct pinti_reply {
    struct pinti_reply *next;
    size_t bytes;
    bool with_fds; /* the descriptors of the connection's session go with it */
    int fd;        /* goes with it, owned; -1: none */
    char text[];
} pinti_reply;

/* A create that comes in several messages. */
typedef struct pinti_assembly {
    enum {
        PINTI_ASSEMBLY_NONE,
        PINTI_ASSEMBLY_TABLE,
        PINTI_ASSEMBLY_JOB,
        PINTI_ASSEMBLY_COPY
    } kind;
    uint64_t request;
    uint64_t charged_bytes; /* in service->schema_bytes */
    pinti_schema schema;
    uint32_t table, generation, n_undo;
    bool unnamed;
    char name[PINTI_NAME_BYTES_MAX + 1];
    uint32_t *uses;
    uint32_t n_uses;
    uint32_t uses_room;
    pinti_copy_ask copy;
    bool any_kind; /* of copy: one that is there already may be of another kind */
} pinti_assembly;

struct pinti_connection {
    pinti_source source;
    int fd;
    uint32_t uid;
    uint32_t gid;
    int32_t pid;    /* 0: in a foreign pid namespace */
    uint32_t place; /* in service->connections */
    bool may_read;  /* join ro, look */
    bool may_write; /* join rw */
    bool is_admin;  /* root, or the service's own user */
    bool greeted;
    bool busy;       /* a request is being worked on: no other is read */
    bool fds_unread; /* join's reply went out, nothing came in since */
    bool closing;    /* closed when the outbox is empty */
    bool closed;     /* to be freed; only its owner of the moment still looks at it */
    uint64_t connected_ms;
    uint32_t events; /* as epoll has them */
    pinti_connection *silent_next, *silent_prev;
    pinti_session *session;
    pinti_assembly assembly;
    pinti_reply *first_reply, **last_reply;
    size_t outbox_bytes;
    uint32_t n_queued_fds;      /* replies in the outbox with a descriptor of their own */
    uint32_t n_sent_fds;        /* such replies sent, since all was known to be read */
    pinti_operation *operation; /* what it is busy with, if that is an operation */
    uint64_t waits_for_end_of;  /* session id: evict answers when its leases have ended */
    uint64_t waits_for_copy;    /* record id: copy.open answers when it has memory, or cannot */
    uint32_t waits_at;          /* its index */
    bool makes_copy;            /* by this request */
    uint64_t waiting_id;        /* id of the request that waits */
};

/* The listener is readable. */
void pinti_connections_accept(pinti_service *service);

void pinti_connection_ready(pinti_service *service, pinti_connection *connection, uint32_t events);

/* Close at once; the session, if any, goes on without. */
void pinti_connection_close(pinti_service *service, pinti_connection *connection);
void pinti_connections_close_all(pinti_service *service); /* without a word to their sessions */

/* Answer a request. result is taken. */
void pinti_connection_reply(pinti_service *service, pinti_connection *connection, uint64_t id,
                            cJSON *result, bool with_fds);
/* The same, with a descriptor, which is borrowed. */
void pinti_connection_reply_fd(pinti_service *service, pinti_connection *connection, uint64_t id,
                               cJSON *result, int fd);
void pinti_connection_fail(pinti_service *service, pinti_connection *connection, uint64_t id,
                           int code, const char *message); /* id 0: null */

/* The request it was busy with has been answered: read on. */
void pinti_connection_resume(pinti_service *service, pinti_connection *connection);

/* Do descriptors that were sent to it still lie in its queue? */
bool pinti_connection_has_unread_fds(const pinti_connection *connection);

void pinti_connection_greet(pinti_service *service, pinti_connection *connection);

/* Timers. */
void pinti_connections_greet_due(pinti_service *service);
void pinti_connections_listen_due(pinti_service *service);
void pinti_connections_send_due(pinti_service *service);

void pinti_assembly_clear(pinti_service *service, pinti_connection *connection);

#endif
