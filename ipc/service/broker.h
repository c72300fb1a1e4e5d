/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_BROKER_H
#define IPC_SERVICE_BROKER_H

/*
 * Who makes the memory of device copies: one process for each device, started on first need,
 * replaced when it dies. The service itself never loads a driver, and never allocates in bulk.
 *
 *   "host"   forked from the service: makes memfds (broker_host.c). Nothing is lost when it ends.
 *   CUDA     the program pintable-broker, exec'ed. The keeper holds its socket, so that it outlives
 *            a crash of the service: memory shared by CUDA IPC handles lives as long as it does.
 *
 * Protocol: docs/protocol.md, "Brokers". One allocation is asked of a broker at a time; which one
 * is next the catalog says: the oldest copy of the device that is BUILDING. One that does not
 * answer in time is killed.
 */

#include "ipc/service/service.h"

#define PINTI_BROKER_MS 60000u /* for one allocation; the first one starts the driver */

/* Sees to it that what is BUILDING is asked for; soon, not now. */
void pinti_brokers_wake(pinti_service *service);

/* Timer: ask for what waits, give up on who does not answer. */
void pinti_brokers_due(pinti_service *service);

/* Its socket is readable. */
void pinti_broker_ready(pinti_service *service, pinti_broker *broker);

/* A copy of kind PINT_COPY_IPC is over: tell the broker that made it, if it lives. serial 0: who it
 * was is not known. */
void pinti_broker_free(pinti_service *service, uint32_t device, uint64_t serial, uint64_t id);

/* Take up one that the keeper held; takes the descriptors. */
void pinti_broker_restore(pinti_service *service, const pinti_kept *kept);
/* The way back, for a new keeper. False: out of memory. */
bool pinti_brokers_hand_over(pinti_service *service);

void pinti_brokers_init(pinti_service *service);
/* End those that end with the service; close the sockets. forked: this process is not their owner
 * and its descriptors are closed already. */
void pinti_brokers_stop(pinti_service *service, bool forked);

int pinti_broker_pid(const pinti_service *service, uint32_t device); /* 0: none runs */

/* ---- broker_message.c ---- */

typedef struct pinti_broker_reply {
    uint64_t id;
    pint_status status; /* PINT_OK, or one that tells about the device */
    bool has_ipc;
    uint8_t ipc[64];
    char text[PINT_ERROR_MESSAGE_BYTES]; /* of an error; printable */
} pinti_broker_reply;

/* Text of a request. Returns its length. */
size_t pinti_broker_ask(char *out, size_t room, uint64_t bytes, uint32_t kind, uint64_t id);

/* Take an answer apart; PINT_E_PROTOCOL when it is none. */
pint_status pinti_broker_parse(const char *text, size_t bytes, pinti_broker_reply *out);

/* 64 bytes of base64 (88 characters). False: it is none. */
bool pinti_base64_decode(const char *text, uint8_t out[64]);

/* ---- broker_spawn.c ---- */

/* Start the broker of a device: *out_fd is our end of its socket (non-blocking). */
pint_status pinti_broker_spawn(pinti_service *service, uint32_t device, int *out_fd, pid_t *out_pid,
                               pint_error *err);

/* ---- broker_host.c ---- */

/* In the forked child. */
_Noreturn void pinti_broker_host(const pinti_features *features, int fd, pid_t parent);

#endif
