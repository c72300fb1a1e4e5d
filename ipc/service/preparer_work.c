/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prefaulting, zeroing and punching, in a process that may be killed for it.
 *
 * Huge pages of a memfd: touch one page in every 2 MiB, then MADV_COLLAPSE, which works although
 * shmem_enabled is "never" and takes a fifth of the time that touching every page takes. It wants
 * one page there, and gets slow when all are. Where the memory is at hand one thread fills it as
 * fast as the machine can; in a virtual machine whose host has taken free memory back, each page is
 * a fault in the host, and four threads are nearly four times as fast as one. Without MADV_COLLAPSE
 * (6.1) or when it fails: MADV_POPULATE_WRITE (5.14), which answers EFAULT where a touch would
 * raise SIGBUS. Without that: touching, and a SIGBUS ends the process, which counts as its answer.
 */
#include "ipc/service/preparer_work.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/layout.h"
#include "ipc/service/kernel.h"

#ifndef MADV_POPULATE_WRITE
#    define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#    define MADV_COLLAPSE 25
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#    define FALLOC_FL_KEEP_SIZE 0x01
#endif
#ifndef FALLOC_FL_PUNCH_HOLE
#    define FALLOC_FL_PUNCH_HOLE 0x02
#endif

#define THREAD_BYTES (16ull << 20) /* at least, for each thread */
#define THREADS_MAX  4u
#define RETRIES      10u

typedef struct segment {
    int fd;
    char *base;
} segment;

typedef struct worker {
    segment data;
    segment sync;
    uint32_t flags;
    uint32_t n_threads;
    uint32_t pages;
} worker;

/* ---- populate -------------------------------------------------------------------------------- */

/* Write access that changes nothing. */
static void touch(char *at)
{
    (void)pinti_or8_release((pinti_a8 *)at, 0);
}

/* MADV_POPULATE_WRITE; 0 or errno. EAGAIN and EINTR pass. */
static int populate_write(char *at, uint64_t bytes)
{
    int error = 0;
    for (uint32_t i = 0; i < RETRIES; i++) {
        if (madvise(at, bytes, MADV_POPULATE_WRITE) == 0) {
            return 0;
        }
        error = errno;
        if (error != EAGAIN && error != EINTR) {
            break;
        }
    }
    return error;
}

/* 4 KiB pages, by whatever means. 0 or errno. */
static int populate_small(char *at, uint64_t bytes, uint32_t flags)
{
    if ((flags & PINTI_PREPARER_NO_POPULATE) == 0) {
        const int error = populate_write(at, bytes);
        if (error != EINVAL) {
            return error;
        }
    }
    for (uint64_t off = 0; off < bytes; off += PINTI_PAGE_BYTES) {
        touch(at + off);
    }
    return 0;
}

/* One page in every slab, then all in huge pages. 0 or errno. */
static int populate_huge(char *at, uint64_t bytes, uint32_t flags)
{
    for (uint64_t off = 0; off < bytes; off += PINTI_SLAB_BYTES) {
        const int error = populate_small(at + off, PINTI_PAGE_BYTES, flags);
        if (error != 0) {
            return error;
        }
    }
    return madvise(at, bytes, MADV_COLLAPSE) == 0 ? 0 : errno;
}

typedef struct piece {
    char *at;
    uint64_t bytes;
    uint32_t flags;
    uint32_t pages;
    int error;
} piece;

static void *populate_piece(void *argument)
{
    piece *p = argument;
    if ((p->flags & PINTI_PREPARER_NO_COLLAPSE) == 0 &&
        populate_huge(p->at, p->bytes, p->flags) == 0) {
        p->pages |= PINTI_PAGES_COLLAPSE;
        return NULL;
    }
    p->pages |= PINTI_PAGES_4K;
    p->error = populate_small(p->at, p->bytes, p->flags);
    return NULL;
}

/* Whole slabs of data, in as many pieces as there are threads to do them. 0 or errno. */
static int populate_data(worker *w, char *at, uint64_t bytes)
{
    piece pieces[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    uint32_t n =
        (uint32_t)(bytes / THREAD_BYTES < w->n_threads ? bytes / THREAD_BYTES : w->n_threads);
    n = n == 0 ? 1 : n;
    const uint64_t part = bytes / n / PINTI_SLAB_BYTES * PINTI_SLAB_BYTES;
    uint32_t n_started = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t off = i * part;
        pieces[i] =
            (piece){.at = at + off, .bytes = i + 1 < n ? part : bytes - off, .flags = w->flags};
        if (i + 1 < n && i == n_started &&
            pthread_create(&threads[i], NULL, populate_piece, &pieces[i]) == 0) {
            n_started++;
        }
    }
    for (uint32_t i = n_started; i < n; i++) { /* the last one, or all that got no thread */
        (void)populate_piece(&pieces[i]);
    }
    int error = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i < n_started) {
            (void)pthread_join(threads[i], NULL);
        }
        w->pages |= pieces[i].pages;
        error = error != 0 ? error : pieces[i].error;
    }
    return error;
}

/* Is there memory under all of it? Other processes may punch holes at any time; a second try is
 * made for what was missed by ourselves. */
static bool has_hole(const segment *s, pinti_range r)
{
    const off_t hole = lseek(s->fd, (off_t)r.off, SEEK_HOLE);
    return hole >= 0 && (uint64_t)hole < r.off + r.bytes;
}

static int populate(worker *w, const segment *s, const pinti_work *work)
{
    char *at = s->base + work->range.off;
    int error = work->sync ? populate_small(at, work->range.bytes, w->flags)
                           : populate_data(w, at, work->range.bytes);
    if (error == 0 && has_hole(s, work->range)) {
        error = populate_small(at, work->range.bytes, w->flags);
        if (error == 0 && has_hole(s, work->range)) {
            error = ENOMEM;
        }
    }
    return error;
}

/* ---- plans ----------------------------------------------------------------------------------- */

static int punch(const segment *s, pinti_range r)
{
    int error;
    do {
        error = fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r.off,
                          (off_t)r.bytes) == 0
                    ? 0
                    : errno;
    } while (error == EINTR);
    return error;
}

static int do_work(worker *w, const pinti_work *work)
{
    const segment *s = work->sync ? &w->sync : &w->data;
    switch (work->kind) {
    case PINTI_WORK_POPULATE:
        return populate(w, s, work);
    case PINTI_WORK_ZERO:
        memset(s->base + work->range.off, 0, work->range.bytes);
        return 0;
    case PINTI_WORK_PUNCH:
        return punch(s, work->range);
    }
    return EINVAL;
}

/* What was populated in the data segment goes back. */
static void undo(const worker *w, const pinti_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        if (!plan->work[i].sync && plan->work[i].kind == PINTI_WORK_POPULATE) {
            (void)punch(&w->data, plan->work[i].range);
        }
    }
}

static pint_status status_of(int error)
{
    switch (error) {
    case 0:
        return PINT_OK;
    case ENOMEM:
    case ENOSPC:
    case EFAULT: /* MADV_POPULATE_WRITE, where a touch would raise SIGBUS */
    case EAGAIN:
    case EBUSY:
        return PINT_E_NO_MEMORY;
    default:
        return PINT_E_SYSTEM;
    }
}

static void do_plan(worker *w, const pinti_plan *plan, pinti_preparer_reply *out_reply)
{
    int error = 0;
    w->pages = 0;
    uint32_t i = 0;
    for (; i < plan->n && error == 0; i++) {
        if (i > 0) {
            PINTI_CRASHPOINT(PREPARER_WORKING);
        }
        error = do_work(w, &plan->work[i]);
    }
    if (error != 0) {
        undo(w, plan);
    }
    *out_reply = (pinti_preparer_reply){.status = status_of(error),
                                        .sys_errno = error,
                                        .failed = error != 0 ? i - 1 : 0,
                                        .pages = w->pages};
}

/* ---- the process ----------------------------------------------------------------------------- */

/* Be the one the kernel kills when memory is short. */
static void offer_itself(void)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        const ssize_t n = write(fd, "1000", 4);
        (void)n; /* best effort: no /proc, no choice */
        (void)close(fd);
    }
}

/* The parent's handlers and mask are not ours. It ends us by SIGKILL or by its death; a terminal's
 * signals go to all its processes and are for the parent to act on. */
static void reset_signals(void)
{
    for (int number = 1; number < NSIG; number++) {
        const bool ignored = number == SIGINT || number == SIGTERM || number == SIGHUP ||
                             number == SIGQUIT || number == SIGPIPE;
        (void)signal(number, ignored ? SIG_IGN : SIG_DFL);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Map a segment at a multiple of 2 MiB, so that huge pages can be mapped as such. */
static char *map_segment(int fd, uint64_t bytes)
{
    char *room = mmap(NULL, bytes + PINTI_SLAB_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return NULL;
    }
    char *at = room + (0 - (uintptr_t)room) % PINTI_SLAB_BYTES;
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
        MAP_FAILED) {
        return NULL;
    }
    (void)madvise(at, bytes, MADV_DONTDUMP);
    return at;
}

static void settle(const pinti_preparer_setup *setup, int socket, pid_t parent)
{
    const struct rlimit no_core = {0, 0};
    const int keep[] = {setup->data_fd, setup->sync_fd, socket};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(0); /* it died before it could be told to take us along */
    }
    reset_signals();
    (void)prctl(PR_SET_NAME, "pintabled-mem");
    offer_itself();
    (void)setrlimit(RLIMIT_CORE, &no_core);
    pinti_close_all_but(keep, sizeof(keep) / sizeof(keep[0]));
}

static uint32_t count_threads(void)
{
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n < (long)THREADS_MAX ? (uint32_t)n : THREADS_MAX;
}

_Noreturn void pinti_preparer_child(const pinti_preparer_setup *setup, int socket, pid_t parent)
{
    static pinti_plan plan; /* the process has one thread that uses it */
    settle(setup, socket, parent);
    worker w = {
        .data = {.fd = setup->data_fd, .base = map_segment(setup->data_fd, setup->data_bytes)},
        .sync = {.fd = setup->sync_fd, .base = map_segment(setup->sync_fd, setup->sync_bytes)},
        .flags = setup->flags,
        .n_threads = count_threads()};
    for (;;) {
        const ssize_t n = recv(socket, &plan, sizeof(plan), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            _exit(0);
        }
        pinti_preparer_reply reply = {.status = PINT_E_NO_MEMORY, .sys_errno = ENOMEM};
        if (w.data.base != NULL && w.sync.base != NULL) {
            do_plan(&w, &plan, &reply);
        }
        ssize_t sent;
        do {
            sent = send(socket, &reply, sizeof(reply), MSG_NOSIGNAL);
        } while (sent < 0 && errno == EINTR);
        if (sent < 0) {
            _exit(0);
        }
    }
}
