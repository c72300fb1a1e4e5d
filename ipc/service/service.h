/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_SERVICE_H
#define IPC_SERVICE_SERVICE_H

/*
 * One incarnation of the service: an epoll loop over the listener, connections, pidfds of sessions,
 * the link to the keeper, its helpers, signals and one timer. Single-threaded. Maps catalog, sync,
 * bell and the slots; never the data. Without work it sleeps without a timer.
 */

#include <cjson/cJSON.h>

#include "host/sweep.h"
#include "ipc/service/base.h"
#include "ipc/service/catalog.h"
#include "ipc/service/memory.h"

typedef struct pinti_service pinti_service;
typedef struct pinti_connection pinti_connection;
typedef struct pinti_session pinti_session;
typedef struct pinti_operation pinti_operation;
struct pinti_preparer;

/* What an epoll event is about; first member of what it belongs to. */
enum pinti_source_kind {
    PINTI_SOURCE_LISTENER,
    PINTI_SOURCE_KEEPER,
    PINTI_SOURCE_SIGNAL,
    PINTI_SOURCE_TIMER,
    PINTI_SOURCE_PREPARER,
    PINTI_SOURCE_SWEEPER,
    PINTI_SOURCE_BROKER,
    PINTI_SOURCE_ENDING, /* pidfd of a broker that was killed */
    PINTI_SOURCE_CONNECTION,
    PINTI_SOURCE_DEATH /* a session's pidfd: handled before all others */
};

typedef struct pinti_source {
    enum pinti_source_kind kind;
    bool dead; /* its owner was freed while events of the same batch were still waiting */
} pinti_source;

/* Things to do later; at most one deadline each. Order is the order of work when several are due.
 */
enum pinti_timer {
    PINTI_TIMER_PROBE,  /* tethers of orphaned and silent sessions */
    PINTI_TIMER_RESCAN, /* references to dropped and ownerless tables (R16) */
    PINTI_TIMER_GREET,  /* connections that say nothing */
    PINTI_TIMER_LISTEN, /* take connections again after running out of descriptors */
    PINTI_TIMER_BROKER, /* device copies that wait for memory, brokers that are slow */
    PINTI_TIMER_SEND,   /* replies that met too many descriptors in flight */
    PINTI_TIMER_SWEEP,  /* full sweeps */
    PINTI_TIMER_CLEAN,  /* zero free memory ahead of need */
    PINTI_TIMER_TRIM,   /* hand free memory back */
    PINTI_TIMER_EXIT,   /* private service: nobody needs it */
    PINTI_TIMERS
};

/* Who makes memory on one device (broker.h). */
typedef struct pinti_broker {
    pinti_source source;
    uint32_t device;
    int fd; /* -1: none runs */
    int pidfd;
    pid_t pid;
    bool is_child; /* of this incarnation */
    uint64_t serial;
    uint32_t asked_copy; /* UINT32_MAX: none */
    uint64_t asked_id;   /* of the record */
    uint64_t due_ms;
    uint32_t n_strays; /* answers to what an earlier incarnation asked */
    bool has_answered; /* its driver has been started */
    bool has_made;     /* so once it worked */
    uint64_t *frees;   /* [n_frees] records whose memory it is yet to be told to free */
    uint32_t n_frees;
    uint32_t frees_room;
    size_t request_bytes; /* 0: it was sent */
    char request[128];
    bool wants_room;     /* in its socket */
    uint64_t retried_id; /* record that a broker gave up over, and its successor was asked for */
} pinti_broker;

/* A broker that was killed and may not have ended yet (broker_end.c). */
#define PINTI_ENDINGS 2u /* for each device */
typedef struct pinti_ending {
    pinti_source source;
    uint32_t device;
    pid_t pid; /* 0: none */
    int pidfd; /* -1: none, or not needed any more */
    bool is_child;
    bool is_over; /* has ended, but could not be reaped yet */
    uint64_t since_ms;
} pinti_ending;

/* A device copy, beside its record. */
typedef struct pinti_copy {
    int fd_plus_1; /* its memory; 0: none */
    uint64_t opened_ms;
} pinti_copy;

struct pinti_service {
    pinti_base *base;
    int epoll_fd;
    int timer_fd;
    int signal_fd;
    int reserve_fd; /* given up for a moment to turn a client away when descriptors run out */
    bool listening;
    bool stopping;
    int exit_status;
    uint64_t due_ms[PINTI_TIMERS]; /* 0: off */
    uint64_t armed_ms;
    uint64_t started_ms;
    uint32_t incarnation;

    void *catalog;
    char *sync;
    pinti_bell *bells;
    pinti_sweep_view view;
    pinti_memory *memory;
    pinti_cat *cat;

    pinti_session **sessions; /* [n_sessions], no order */
    uint32_t n_sessions;
    uint32_t sessions_room;
    pinti_session **by_index;     /* [PINTI_SESSIONS_MAX] */
    uint32_t joins_in_flight_max; /* answers to join that a user's clients may leave unread */
    bool ownerless_remain;        /* tables of ended families that somebody still has open */
    uint64_t rescan_since_ms;

    pinti_connection **connections; /* [n_connections], no order */
    uint32_t n_connections;
    uint32_t connections_room;
    pinti_connection *oldest_silent; /* those that have not greeted, by time of connecting */
    pinti_connection *newest_silent;
    char *buffer;          /* PINTI_WIRE_BYTES_MAX + 1: the message being handled */
    uint64_t schema_bytes; /* held by creates in progress, of all connections */

    struct pinti_preparer *preparer;
    pinti_operation *first_operation; /* the one the preparer works on, then those that wait */
    pinti_operation *last_operation;
    uint64_t n_submitted; /* creates ever given to the preparer */
    bool housekeeping;    /* the preparer has a plan of ours that no client waits for */
    uint64_t trim_keep_bytes;

    pinti_broker brokers[PINTI_DEVICES_MAX];
    pinti_ending endings[PINTI_DEVICES_MAX * PINTI_ENDINGS];
    pinti_copy *copies; /* [PINTI_COPIES_MAX] */
    uint32_t n_copy_fds;
    uint32_t copy_fds_max;

    pid_t sweeper_pid; /* helper that runs full sweeps; 0: none */
    int sweeper_fd;    /* ends when it has */
    uint64_t sweep_started_ms;
    uint8_t *index_state; /* [PINTI_SESSIONS_MAX], see sweeper.c */
    uint32_t next_fresh_index;

    void **graveyard; /* freed after the batch of events: their sources may be in it */
    uint32_t n_graves;
    uint32_t graves_room;

    pinti_source listener_source, keeper_source, signal_source, timer_source, preparer_source,
        sweeper_source;
};

/* Serve until stopped. EXIT, with base->exit_status; KEEPER in the child that replaces the keeper.
 */
enum pinti_role pinti_service_run(pinti_base *base);

/* Do it at this time or, if it is due earlier, then. */
void pinti_service_at(pinti_service *service, enum pinti_timer timer, uint64_t due_ms);
void pinti_service_in(pinti_service *service, enum pinti_timer timer, uint64_t after_ms);

bool pinti_service_watch(pinti_service *service, int fd, uint32_t events, pinti_source *source);
void pinti_service_unwatch(pinti_service *service, int fd);

/* Free something whose first member is a source. */
void pinti_service_bury(pinti_service *service, pinti_source *thing);

void pinti_service_stop(pinti_service *service, int exit_status);

/* A session, table or connection went: a private service may begin to linger. */
void pinti_service_check_idle(pinti_service *service);

#endif
