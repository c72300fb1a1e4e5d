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
 * answer in time is killed. Its successor starts when it has ended, or seems never to
 * (broker_end.c).
 *
 * A broker whose driver has failed says so with its last answer. If it had made memory before, or
 * lost its device, the same is asked once more, of its successor: a new process gets a device back
 * that was reset.
 */

#include "ipc/service/service.h"

#define PINTI_BROKER_MS                                                                            \
    30000u /* for one allocation; twice as long for the first, which starts the                    \
              driver; and longer by a second for each GiB */

/* Sees to it that what is BUILDING is asked for; soon, not now. */
void pinti_brokers_wake(pinti_service *service);

/* Timer: ask for what waits, give up on who does not answer. */
void pinti_brokers_due(pinti_service *service);

/* Its socket is readable, or has room for what it is to be told. */
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
    bool is_last; /* of an error: it answers nothing any more */
    uint8_t ipc[64];
    char text[PINT_ERROR_MESSAGE_BYTES]; /* of an error; printable */
} pinti_broker_reply;

/* Text of a request. Returns its length. */
size_t pinti_broker_ask(char *out, size_t room, uint64_t bytes, uint32_t kind, uint64_t id);

/* Take an answer apart; PINT_E_PROTOCOL when it is none. */
pint_status pinti_broker_parse(const char *text, size_t bytes, pinti_broker_reply *out);

/* 64 bytes of base64 (88 characters). False: it is none. */
bool pinti_base64_decode(const char *text, uint8_t out[64]);

/* ---- broker_outbox.c ---- */

/* Note that this is to be freed; false: out of memory. */
bool pinti_broker_queue_free(pinti_broker *broker, uint64_t id);

/* Send what there is, as far as there is room; the rest when there is. 0, or an outcome of
 * pinti_wire_send() that ends the broker. */
int pinti_broker_flush(pinti_service *service, pinti_broker *broker);
void pinti_broker_outbox_clear(pinti_broker *broker);

/* ---- broker_spawn.c ---- */

/* Start the broker of a device: *out_fd is our end of its socket. */
pint_status pinti_broker_spawn(pinti_service *service, uint32_t device, int *out_fd, pid_t *out_pid,
                               pint_error *err);

/* ---- broker_end.c ---- */

void pinti_endings_init(pinti_service *service);

/* Kill a broker and follow it to its end; takes the pidfd (-1: none). Never waits. is_child: of
 * this process. */
void pinti_broker_kill(pinti_service *service, uint32_t device, pid_t pid, int pidfd,
                       bool is_child);

/* How long the next broker of the device is to wait for the end of those before it; 0: it may
 * start. PINT_E_DEVICE: too many of them hang. */
pint_status pinti_endings_wait(pinti_service *service, uint32_t device, uint64_t *out_wait_ms,
                               pint_error *err);
uint32_t pinti_endings_count(const pinti_service *service, uint32_t device); /* not ended yet */

/* Events: its pidfd is readable; children have ended. */
void pinti_ending_ready(pinti_service *service, pinti_ending *ending);
void pinti_endings_reap(pinti_service *service);

void pinti_endings_stop(pinti_service *service, bool forked); /* forked: see pinti_brokers_stop() */

/* ---- broker_host.c ---- */

/* In the forked child. */
_Noreturn void pinti_broker_host(const pinti_features *features, int fd, pid_t parent);

#endif
