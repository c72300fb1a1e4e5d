/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_BASE_H
#define IPC_SERVICE_BASE_H

/*
 * What keeper and service have in common. The program starts as the keeper; it forks the service,
 * and whichever of the two dies is forked again from the other (R15), always without exec: so both
 * hold this struct, the descriptors in it and the writable mapping of the catalog.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/address.h"
#include "ipc/service/kernel.h"
#include "ipc/service/segments.h"

/* Exit statuses of pintabled (sysexits.h). */
enum pinti_exit {
    PINTI_EXIT_OK = 0,
    PINTI_EXIT_USAGE = 64,
    PINTI_EXIT_UNAVAILABLE = 69, /* another service, or no socket, at the address */
    PINTI_EXIT_INTERNAL = 70,
    PINTI_EXIT_OS = 71,
    PINTI_EXIT_PERMISSION = 77
};

typedef struct pinti_options {
    const char *address;   /* NULL: the default */
    uint64_t budget_bytes; /* 0: half of the machine's memory */
    uint64_t uid_bytes;    /* 0: the budget */
    uint32_t mode;         /* octal like a file's: group and other, r = ro, w = rw */
    uint32_t sessions_max; /* of one uid */
    uint32_t index_max;    /* session indices below this are used; tests make it small */
    uint32_t restarts_max; /* within PINTI_RESTART_WINDOW_MS, of service and keeper together */
    uint64_t device_bytes; /* for copies on one CUDA device; 0: no limit */
    struct {
        uint8_t uuid[16];
        uint64_t bytes;
    } device_budgets[8]; /* of devices that were named */
    uint32_t n_device_budgets;
    uint32_t broker_ms;   /* a broker that takes longer over one allocation is killed */
    uint64_t linger_s;    /* private: exit after so long without sessions and tables */
    uint64_t idle_trim_s; /* hand warm free memory back after so long without creates; 0: never */
    const char *log;      /* file, NULL: standard error */
    int lock_fd;          /* taken: holds the start lock; -1: we take it ourselves */
    int ready_fd;         /* gets one byte when clients are served; -1: a line on stdout instead */
    bool private_service;
    bool daemonize; /* go on in a second process */
} pinti_options;

#define PINTI_RESTART_WINDOW_MS 10000u
#define PINTI_RESTARTS_ROOM     64u

/* Long-lived descriptors of one session, as the keeper holds them. */
typedef struct pinti_held {
    uint64_t id;
    uint64_t token[2];
    uint32_t index;
    bool pidfd_is_foreign; /* the client gave it: no signal is ever sent through it */
    int slot_fd;
    int tether_fd;
    int pidfd; /* -1: none could be had */
} pinti_held;

/* Other things that live as long as a descriptor is open: memory of device copies, brokers. */
#define PINTI_KEPT_FDS 2
enum pinti_kept_kind { PINTI_KEPT_COPY = 1, PINTI_KEPT_BROKER = 2 };

typedef struct pinti_kept {
    uint32_t kind;
    uint32_t device;         /* of a broker: index */
    uint64_t id;             /* pinti_copy_rec.id; of a broker: its serial */
    int32_t pid;             /* of a broker */
    int fds[PINTI_KEPT_FDS]; /* the memory; a broker's socket and pidfd. -1: none */
} pinti_kept;

typedef struct pinti_base {
    pinti_options options;
    pinti_features features;
    pinti_address address;
    pinti_segments segments;
    uid_t uid; /* effective, of the service */
    gid_t gid;
    int listen_fd;
    dev_t socket_dev; /* of the socket's file, to unlink no other */
    ino_t socket_ino;
    int lock_fd;    /* start lock while it is held, else -1 */
    int link_fd;    /* this process's end of the pair between keeper and service */
    bool announced; /* a first service has come up: the ready byte was written */
    int exit_status;

    /*
     * Life of one incarnation's memory: a page that the service and its helpers map and the keeper
     * does not. While F_SEAL_WRITE on it fails, one of them may still write to the pool, and no
     * next incarnation is started.
     */
    int life_fd;
    void *life;

    pid_t service_pid; /* 0: none */
    int service_pidfd; /* in the keeper; -1: none */
    pid_t keeper_pid;  /* in the service */

    pinti_held *held; /* in the keeper, and handed to a new incarnation of either */
    uint32_t n_held;
    uint32_t held_room;
    pinti_kept *kept; /* likewise */
    uint32_t n_kept;
    uint32_t kept_room;

    uint64_t restart_ms[PINTI_RESTARTS_ROOM]; /* ring of the last restarts */
    uint32_t n_restarts;
} pinti_base;

/* What a process is to do next; fork() lets a process come out of one role and go on in another. */
enum pinti_role { PINTI_ROLE_KEEPER, PINTI_ROLE_SERVICE, PINTI_ROLE_EXIT };

void pinti_base_init(pinti_base *base);

/* Give everything up: descriptors, mappings, memory. Does not unlink. */
void pinti_base_done(pinti_base *base);

/* Note a restart; false when there were too many in too short a time. */
bool pinti_base_may_restart(pinti_base *base);

/* Take the entry of a session into the table, replacing (and closing) one of the same id. The
 * descriptors are taken. False: out of memory, nothing taken. */
bool pinti_base_hold(pinti_base *base, const pinti_held *entry);
void pinti_base_forget(pinti_base *base, uint64_t id); /* closes its descriptors */

/* The same for the other things. */
bool pinti_base_keep(pinti_base *base, const pinti_kept *entry);
void pinti_base_forget_kept(pinti_base *base, uint32_t kind, uint64_t id);

#endif
