/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service's side of the preparer: a queue of plans, one of them at the child. The child is
 * forked, gets a plan as one packet and answers with one; the end of its socket is its death. Then
 * the plan at it fails, a plan that undoes it goes to the front of the queue, and another child is
 * forked. The work itself is in preparer_work.c.
 */
#include "ipc/service/preparer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/preparer_work.h"

#define UNDO_TRIES 3u

typedef struct entry {
    struct entry *next;
    uint64_t token;
    uint32_t undo_tries; /* not 0: undoes a plan, completes silently */
    pinti_plan plan;     /* last: only the works in use are copied */
} entry;

struct pinti_preparer {
    pinti_preparer_setup setup;
    int epoll_fd;  /* holds socket_fd; stays while children come and go */
    int socket_fd; /* -1: no child */
    pid_t pid;
    entry *first; /* the first is at the child when sent */
    entry **last_link;
    bool sent;
    entry *given; /* whose plan the caller looks at */
    uint32_t pages;
};

static size_t plan_bytes(const pinti_plan *plan)
{
    return offsetof(pinti_plan, work) + plan->n * sizeof(plan->work[0]);
}

/* ---- the child's life ------------------------------------------------------------------------ */

static void reap_child(pinti_preparer *preparer)
{
    if (preparer->socket_fd >= 0) {
        (void)close(preparer->socket_fd); /* leaves the epoll set by that */
        preparer->socket_fd = -1;
    }
    if (preparer->pid > 0) {
        (void)kill(preparer->pid, SIGKILL);
        while (waitpid(preparer->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        preparer->pid = 0;
    }
}

static pint_status start_child(pinti_preparer *preparer, pint_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "preparer: socketpair");
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        pinti_preparer_child(&preparer->setup, pair[1], parent); /* does not return */
    }
    const int fork_errno = errno;
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return pinti_fail(err, PINT_E_SYSTEM, fork_errno, "preparer: fork");
    }
    preparer->pid = pid;
    preparer->socket_fd = pair[0];
    struct epoll_event event = {.events = EPOLLIN};
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(preparer->epoll_fd, EPOLL_CTL_ADD, pair[0], &event) != 0) {
        const int saved = errno;
        reap_child(preparer);
        return pinti_fail(err, PINT_E_SYSTEM, saved, "preparer: epoll");
    }
    return PINT_OK;
}

pint_status pinti_preparer_start(int data_fd, uint64_t data_bytes, int sync_fd, uint64_t sync_bytes,
                                 uint32_t flags, pinti_preparer **out_preparer, pint_error *err)
{
    pinti_preparer *preparer = calloc(1, sizeof(*preparer));
    if (preparer == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "preparer");
    }
    preparer->setup = (pinti_preparer_setup){.data_fd = data_fd,
                                             .sync_fd = sync_fd,
                                             .data_bytes = data_bytes,
                                             .sync_bytes = sync_bytes,
                                             .flags = flags};
    preparer->socket_fd = -1;
    preparer->last_link = &preparer->first;
    preparer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pint_status status = PINT_OK;
    if (preparer->epoll_fd < 0) {
        status = pinti_fail(err, PINT_E_SYSTEM, errno, "preparer: epoll");
    } else {
        status = start_child(preparer, err);
    }
    if (status != PINT_OK) {
        pinti_preparer_stop(preparer);
        return status;
    }
    *out_preparer = preparer;
    return PINT_OK;
}

void pinti_preparer_stop(pinti_preparer *preparer)
{
    if (preparer == NULL) {
        return;
    }
    reap_child(preparer);
    if (preparer->epoll_fd >= 0) {
        (void)close(preparer->epoll_fd);
    }
    pinti_preparer_abandon(preparer);
}

void pinti_preparer_abandon(pinti_preparer *preparer)
{
    if (preparer == NULL) {
        return;
    }
    while (preparer->first != NULL) {
        entry *next = preparer->first->next;
        free(preparer->first);
        preparer->first = next;
    }
    free(preparer->given);
    free(preparer);
}

/* ---- queue ----------------------------------------------------------------------------------- */

/* The first plan goes to the child. The socket holds more than one packet of ours: no EAGAIN. */
static void send_first(pinti_preparer *preparer)
{
    if (preparer->first == NULL || preparer->sent) {
        return;
    }
    if (preparer->socket_fd < 0 && start_child(preparer, NULL) != PINT_OK) {
        return; /* tried again at the next submit or complete */
    }
    const pinti_plan *plan = &preparer->first->plan;
    ssize_t n;
    do {
        n = send(preparer->socket_fd, plan, plan_bytes(plan), MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    /* On an error the child is gone; complete() finds that out by the end of the socket. */
    preparer->sent = true;
}

static entry *make_entry(const pinti_plan *plan, uint64_t token)
{
    entry *e = malloc(offsetof(entry, plan) + plan_bytes(plan));
    if (e != NULL) {
        e->next = NULL;
        e->token = token;
        e->undo_tries = 0;
        memcpy(&e->plan, plan, plan_bytes(plan));
    }
    return e;
}

static void push_front(pinti_preparer *preparer, entry *e)
{
    e->next = preparer->first;
    preparer->first = e;
    if (e->next == NULL) {
        preparer->last_link = &e->next;
    }
}

static entry *pop_front(pinti_preparer *preparer)
{
    entry *e = preparer->first;
    preparer->first = e->next;
    if (preparer->first == NULL) {
        preparer->last_link = &preparer->first;
    }
    preparer->sent = false;
    return e;
}

pint_status pinti_preparer_submit(pinti_preparer *preparer, const pinti_plan *plan, uint64_t token,
                                  pint_error *err)
{
    entry *e = make_entry(plan, token);
    if (e == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "preparer: plan of %" PRIu32 " works", plan->n);
    }
    *preparer->last_link = e;
    preparer->last_link = &e->next;
    send_first(preparer);
    if (preparer->socket_fd < 0 && preparer->first == e) {
        free(pop_front(preparer)); /* nothing would ever call for its completion */
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "preparer: no process can be started");
    }
    return PINT_OK;
}

/* ---- answers --------------------------------------------------------------------------------- */

/* The plan that leaves without memory what a failed plan may have populated. It may find nothing.
 */
static void push_undo(pinti_preparer *preparer, const entry *failed)
{
    entry *undo = make_entry(&failed->plan, 0);
    if (undo == NULL) {
        return; /* memory that nobody counts, until it is populated again */
    }
    undo->undo_tries = failed->undo_tries + 1;
    undo->plan.n = 0;
    for (uint32_t i = 0; i < failed->plan.n; i++) {
        const pinti_work *work = &failed->plan.work[i];
        if (!work->sync && work->kind != PINTI_WORK_ZERO) {
            pinti_work *punch = &undo->plan.work[undo->plan.n++];
            *punch = *work;
            punch->kind = PINTI_WORK_PUNCH;
        }
    }
    push_front(preparer, undo);
}

static void child_died(pinti_preparer *preparer, pinti_preparer_reply *out_reply)
{
    *out_reply = (pinti_preparer_reply){.status = PINT_E_NO_MEMORY, .sys_errno = 0};
    reap_child(preparer);
}

/* The first plan is over, as reply says. True: the caller hears of it. */
static bool finish_first(pinti_preparer *preparer, const pinti_preparer_reply *reply, bool died,
                         pinti_prepared *out_prepared)
{
    entry *e = pop_front(preparer);
    const bool silent = e->undo_tries != 0;
    if (died && e->undo_tries < UNDO_TRIES) {
        push_undo(preparer, e);
    }
    if (silent) {
        free(e);
        return false;
    }
    preparer->given = e;
    *out_prepared = (pinti_prepared){.token = e->token,
                                     .status = reply->status,
                                     .sys_errno = reply->sys_errno,
                                     .failed = reply->failed,
                                     .plan = &e->plan};
    return true;
}

bool pinti_preparer_complete(pinti_preparer *preparer, pinti_prepared *out_prepared)
{
    free(preparer->given);
    preparer->given = NULL;
    for (;;) {
        send_first(preparer);
        if (preparer->socket_fd < 0) {
            /* No child can be had: plans fail now rather than hang; there is nothing to undo. */
            const pinti_preparer_reply reply = {.status = PINT_E_NO_MEMORY, .sys_errno = 0};
            if (preparer->first == NULL) {
                return false;
            }
            if (finish_first(preparer, &reply, false, out_prepared)) {
                return true;
            }
            continue;
        }
        pinti_preparer_reply reply;
        const ssize_t n = recv(preparer->socket_fd, &reply, sizeof(reply), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return false;
        }
        const bool died = n != (ssize_t)sizeof(reply);
        if (died) {
            child_died(preparer, &reply);
        }
        preparer->pages |= died ? 0 : reply.pages;
        if (!preparer->sent) {
            continue; /* it died with nothing to do */
        }
        if (finish_first(preparer, &reply, died, out_prepared)) {
            send_first(preparer);
            return true;
        }
    }
}

pint_status pinti_preparer_do(pinti_preparer *preparer, const pinti_plan *plan, pint_error *err)
{
    pinti_prepared prepared;
    const pint_status status = pinti_preparer_submit(preparer, plan, 0, err);
    if (status != PINT_OK) {
        return status;
    }
    while (!pinti_preparer_complete(preparer, &prepared)) {
        struct pollfd wait = {.fd = preparer->epoll_fd, .events = POLLIN};
        (void)poll(&wait, 1, 1000);
    }
    if (prepared.status != PINT_OK) {
        return pinti_fail(err, prepared.status, prepared.sys_errno, "preparing memory");
    }
    return PINT_OK;
}

int pinti_preparer_fd(const pinti_preparer *preparer)
{
    return preparer->epoll_fd;
}

uint32_t pinti_preparer_pages(const pinti_preparer *preparer)
{
    return preparer->pages;
}

int pinti_preparer_pid(const pinti_preparer *preparer)
{
    return (int)preparer->pid;
}
