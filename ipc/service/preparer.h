/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_PREPARER_H
#define IPC_SERVICE_PREPARER_H

/*
 * The preparer: a forked helper process that prefaults, zeroes and punches pool memory. Under a
 * memory limit the kernel answers an allocation by SIGKILL, so the process that allocates is one
 * that may die: it offers itself first (oom_score_adj), its plan is undone and fails, and another
 * one is forked. Plans are done in the order of their submission, one at a time.
 *
 * The child inherits the caller's mappings. Those that must not live on in it (slots of sessions)
 * the caller marks MADV_DONTFORK.
 */

#include "ipc/service/memory.h"

typedef struct pinti_preparer pinti_preparer;

/* Features to leave unused, for kernels without them and for tests. */
#define PINTI_PREPARER_NO_COLLAPSE 1u /* MADV_COLLAPSE */
#define PINTI_PREPARER_NO_POPULATE 2u /* MADV_POPULATE_WRITE */

/* How pages were got. */
#define PINTI_PAGES_COLLAPSE 1u /* 2 MiB pages */
#define PINTI_PAGES_4K       2u

/* A plan that is over. */
typedef struct pinti_prepared {
    uint64_t token;         /* as submitted */
    pint_status status;     /* not PINT_OK: the plan was undone, see pinti_memory_prepared() */
    int sys_errno;          /* behind status, or 0 */
    uint32_t failed;        /* number of the work in the plan that failed */
    const pinti_plan *plan; /* view, valid until the next call of pinti_preparer_complete() */
} pinti_prepared;

/* Creates *out_preparer and forks the child. Borrows the descriptors, which stay open as long as
 * the preparer; they are writable, of at least these sizes. */
pint_status pinti_preparer_start(int data_fd, uint64_t data_bytes, int sync_fd, uint64_t sync_bytes,
                                 uint32_t flags, pinti_preparer **out_preparer, pint_error *err);

/* Kills and reaps the child; plans not over are forgotten. NULL is allowed. */
void pinti_preparer_stop(pinti_preparer *preparer);

/* Frees the memory only: in a process forked from the caller, where child and descriptors are not
 * its own. NULL is allowed. */
void pinti_preparer_abandon(pinti_preparer *preparer);

/* Readable when pinti_preparer_complete() has something to do. The same for the preparer's life. */
int pinti_preparer_fd(const pinti_preparer *preparer);

/* Queue a plan (duplicates it). A plan with n == 0 completes too, but needs no preparer. */
pint_status pinti_preparer_submit(pinti_preparer *preparer, const pinti_plan *plan, uint64_t token,
                                  pint_error *err);

/* The next plan that is over, if any; does not block. Call it until it says false. A child that
 * died is replaced here. */
bool pinti_preparer_complete(pinti_preparer *preparer, pinti_prepared *out_prepared);

/* Submit a plan and wait for it; only while no other plan is queued (start-up). */
pint_status pinti_preparer_do(pinti_preparer *preparer, const pinti_plan *plan, pint_error *err);

/* For `stat`: how pages were got so far (PINTI_PAGES_*), and the child's pid (0: none now). */
uint32_t pinti_preparer_pages(const pinti_preparer *preparer);
int pinti_preparer_pid(const pinti_preparer *preparer);

#endif
