/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_PREPARER_WORK_H
#define IPC_SERVICE_PREPARER_WORK_H

/* The child's side of the preparer. */

#include <sys/types.h>

#include "ipc/service/preparer.h"

typedef struct pinti_preparer_setup {
    int data_fd;
    int sync_fd;
    uint64_t data_bytes;
    uint64_t sync_bytes;
    uint32_t flags;
} pinti_preparer_setup;

/* The answer to a plan, one packet. A plan that failed has been undone. */
typedef struct pinti_preparer_reply {
    pint_status status;
    int32_t sys_errno;
    uint32_t failed; /* number of the work that failed */
    uint32_t pages;  /* PINTI_PAGES_* of this plan */
} pinti_preparer_reply;

/* Life of the child, after fork(). Plans come in and replies go out by socket; it ends with the
 * socket, and with the parent. */
_Noreturn void pinti_preparer_child(const pinti_preparer_setup *setup, int socket, pid_t parent);

#endif
