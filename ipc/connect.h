/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CONNECT_H
#define IPC_CONNECT_H

/* A connected socket whose other end has been looked at. */

#include <stdbool.h>
#include <stdint.h>

#include "pintable/status.h"

/* Milliseconds of the monotonic clock: deadlines are given in these. */
int64_t pinti_clock_ms(void);

/* Milliseconds left until a deadline, 0 to INT32_MAX. */
int pinti_left_ms(int64_t deadline_ms);

/* Sleep, but not beyond the deadline. False: the call is to be given up (host/interrupt.h). */
PINT_MUST_CHECK bool pinti_pause_ms(int ms, int64_t deadline_ms);

/*
 * Connect to a service's socket; *out_fd is close-on-exec and blocking. Waits only while the queue
 * of the listener is full.
 *
 * The process that listens must run as this user, as root, or as the owner of the socket's folder;
 * whoever may write in the folder was judged by pinti_address_resolve().
 *
 * PINT_E_NO_SERVICE: no socket there, or nobody listens. PINT_E_PERMISSION: not ours to connect to,
 * a symbolic link, or a stranger listens. PINT_E_INVALID: something else than a socket is there.
 * PINT_E_TIMEOUT: the queue stayed full. PINT_E_INTERRUPTED.
 */
pint_status pinti_connect(const char *path, int64_t deadline_ms, int *out_fd, pint_error *err);

#endif
