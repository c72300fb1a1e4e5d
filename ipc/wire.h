/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_WIRE_H
#define IPC_WIRE_H

/*
 * One message on a SOCK_SEQPACKET socket: JSON text and, from service to client, descriptors.
 * docs/protocol.md. The only place where sendmsg and recvmsg are called for the protocol.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "pintable/status.h"

#define PINTI_WIRE_BYTES_MAX   65536u /* one message */
#define PINTI_WIRE_FDS_MAX     8u     /* the kernel takes 253 */
#define PINTI_PROTOCOL_VERSION 1u

/* Outcomes that the caller must handle (positive, never forwarded). */
enum pinti_wire_outcome {
    PINTI_WIRE_WOULD_BLOCK = 1,
    PINTI_WIRE_CLOSED = 2,    /* end of file or reset */
    PINTI_WIRE_MALFORMED = 3, /* too long, truncated, stray control data: close the connection */
    PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT = 4, /* ETOOMANYREFS: try again later */
    PINTI_WIRE_INTERRUPTED = 5             /* pint_set_interrupt() ends the call */
};

/* Send one message with n_fds borrowed descriptors (MSG_NOSIGNAL). dont_wait: MSG_DONTWAIT.
 * Returns 0, an outcome, or -errno. Retries EINTR. */
int pinti_wire_send(int socket, const char *text, size_t text_bytes, const int *fds, unsigned n_fds,
                    bool dont_wait);

/* Receive one message into buffer[PINTI_WIRE_BYTES_MAX + 1] (terminated with 0 on success).
 * Descriptors that arrive beyond fds_room are closed and make the message MALFORMED; fds_room 0
 * closes any (the service takes none but in join). All received are close-on-exec. Counts come
 * from cmsg_len. A message of 0 bytes is CLOSED. Returns 0, an outcome, or -errno. */
int pinti_wire_recv(int socket, char *buffer, size_t *out_bytes, int *fds, unsigned fds_room,
                    unsigned *out_n_fds, bool dont_wait);

/* Wait until the socket (or another descriptor) can be read, up to timeout_ms (-1: no limit). 0,
 * WOULD_BLOCK on timeout, INTERRUPTED, or -errno. */
int pinti_wire_wait(int socket, int timeout_ms);

/* The same until it can be written to, or has ended. */
int pinti_wire_wait_room(int socket, int timeout_ms);

#endif
