/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The keeper's loop is one poll() over the link, a signalfd and the service's pidfd; it does no
 * allocation but for its table. A death of the service is believed only when the process is gone
 * (waited for, or its pidfd readable, or the pair at its end where neither can be had), and the
 * next incarnation starts only when nobody maps the life page of the last: helpers of a dead
 * service may still be zeroing memory.
 */

#include "ipc/service/keeper.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/error.h"
#include "ipc/service/listener.h"
#include "ipc/service/log.h"
#include "ipc/wire.h"

enum message_type {
    MESSAGE_UP = 1,
    MESSAGE_HOLD,
    MESSAGE_FORGET,
    MESSAGE_KEEP,
    MESSAGE_FORGET_KEPT,
    MESSAGE_BYE,
    MESSAGE_STOP
};

typedef struct link_message {
    uint32_t type;
    uint32_t index;
    uint64_t id;
    uint64_t token[2];
    uint32_t pidfd_is_foreign;
    int32_t exit_status;
    uint32_t kind; /* KEEP, FORGET_KEPT: as in pinti_kept */
    uint32_t device;
    int32_t pid;
    uint32_t reserved;
} link_message;

#define HOLD_FDS_MAX 3u
#define SETTLE_MS    30000u /* for the helpers of a dead service */
#define STOP_MS      10000u /* for a service that was told to stop */
#define SEND_WAIT_MS 1000

typedef struct keeper {
    pinti_base *base;
    char *buffer; /* PINTI_WIRE_BYTES_MAX + 1 */
    int signal_fd;
    bool link_ended;
    bool said_bye;
    bool stopping;
    uint64_t stop_ms; /* then the service is killed */
} keeper;

/* ---- messages ------------------------------------------------------------------------------ */

/* A keeper that is stopped or swamped is waited for once, not by every join. */
static bool send_message(pinti_base *base, const link_message *message, const int *fds,
                         unsigned n_fds)
{
    static bool keeper_is_slow;
    const uint64_t end_ms = pinti_clock_ms() + (keeper_is_slow ? 0 : SEND_WAIT_MS);
    for (;;) {
        const int rc = pinti_wire_send(base->link_fd, (const char *)message, sizeof(*message), fds,
                                       n_fds, true);
        if (rc == 0) {
            keeper_is_slow = false;
            return true;
        }
        if (rc == PINTI_WIRE_CLOSED) {
            return true; /* it has died; its successor is forked from us, who know all */
        }
        const bool again = rc == PINTI_WIRE_WOULD_BLOCK || rc == PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT;
        if (!again || pinti_clock_ms() >= end_ms) {
            keeper_is_slow = again;
            return false;
        }
        (void)poll(NULL, 0, 1);
    }
}

bool pinti_keeper_send_up(pinti_base *base)
{
    const link_message message = {.type = MESSAGE_UP};
    return send_message(base, &message, NULL, 0);
}

bool pinti_keeper_send_hold(pinti_base *base, const pinti_held *entry)
{
    const link_message message = {.type = MESSAGE_HOLD,
                                  .index = entry->index,
                                  .id = entry->id,
                                  .token = {entry->token[0], entry->token[1]},
                                  .pidfd_is_foreign = entry->pidfd_is_foreign ? 1 : 0};
    const int fds[HOLD_FDS_MAX] = {entry->slot_fd, entry->tether_fd, entry->pidfd};
    return send_message(base, &message, fds, entry->pidfd >= 0 ? 3 : 2);
}

bool pinti_keeper_send_forget(pinti_base *base, uint64_t id)
{
    const link_message message = {.type = MESSAGE_FORGET, .id = id};
    return send_message(base, &message, NULL, 0);
}

bool pinti_keeper_send_keep(pinti_base *base, const pinti_kept *entry)
{
    const link_message message = {.type = MESSAGE_KEEP,
                                  .id = entry->id,
                                  .kind = entry->kind,
                                  .device = entry->device,
                                  .pid = entry->pid};
    return send_message(base, &message, entry->fds, entry->fds[1] >= 0 ? 2 : 1);
}

bool pinti_keeper_send_forget_kept(pinti_base *base, uint32_t kind, uint64_t id)
{
    const link_message message = {.type = MESSAGE_FORGET_KEPT, .id = id, .kind = kind};
    return send_message(base, &message, NULL, 0);
}

void pinti_keeper_send_bye(pinti_base *base, int exit_status)
{
    const link_message message = {.type = MESSAGE_BYE, .exit_status = exit_status};
    (void)send_message(base, &message, NULL, 0);
}

enum pinti_keeper_event pinti_keeper_receive(pinti_base *base)
{
    static char buffer[PINTI_WIRE_BYTES_MAX + 1];
    size_t bytes = 0;
    const int rc = pinti_wire_recv(base->link_fd, buffer, &bytes, NULL, 0, NULL, true);
    if (rc == PINTI_WIRE_WOULD_BLOCK) {
        return PINTI_KEEPER_NOTHING;
    }
    if (rc != 0) {
        return PINTI_KEEPER_DIED;
    }
    link_message message;
    if (bytes != sizeof(message)) {
        return PINTI_KEEPER_NOTHING;
    }
    memcpy(&message, buffer, sizeof(message));
    return message.type == MESSAGE_STOP ? PINTI_KEEPER_STOP : PINTI_KEEPER_NOTHING;
}

/* ---- the keeper's side --------------------------------------------------------------------- */

static void notify_systemd(const char *text)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof(name.sun_path)) {
        return;
    }
    memcpy(name.sun_path, path, strlen(path));
    if (path[0] == '@') {
        name.sun_path[0] = '\0';
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        const socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                     (const struct sockaddr *)&name, bytes);
        (void)close(fd);
    }
}

/* The first service is up: let the next starter in, tell whoever waits. */
static void announce(pinti_base *base)
{
    if (base->announced) {
        return;
    }
    base->announced = true;
    pinti_listener_unlock(base);
    notify_systemd("READY=1");
    if (base->options.ready_fd >= 0) {
        ssize_t rc = write(base->options.ready_fd, "1", 1);
        (void)rc;
        (void)close(base->options.ready_fd);
        base->options.ready_fd = -1;
    } else if (!base->options.private_service) {
        ssize_t rc = write(STDOUT_FILENO, "ready\n", 6);
        (void)rc;
    }
}

static void close_fds(const int *fds, unsigned n_fds)
{
    for (unsigned i = 0; i < n_fds; i++) {
        (void)close(fds[i]);
    }
}

static void take_session(pinti_base *base, const link_message *message, const int *fds,
                         unsigned n_fds)
{
    const pinti_held entry = {.id = message->id,
                              .token = {message->token[0], message->token[1]},
                              .index = message->index,
                              .pidfd_is_foreign = message->pidfd_is_foreign != 0,
                              .slot_fd = n_fds > 0 ? fds[0] : -1,
                              .tether_fd = n_fds > 1 ? fds[1] : -1,
                              .pidfd = n_fds > 2 ? fds[2] : -1};
    PINTI_CRASHPOINT(KEEPER_GOT_FDS);
    if (n_fds < 2 || !pinti_base_hold(base, &entry)) {
        pinti_log("keeper: cannot hold the descriptors of session %u", entry.index);
        close_fds(fds, n_fds);
    }
}

static void take_kept(pinti_base *base, const link_message *message, const int *fds, unsigned n_fds)
{
    const pinti_kept entry = {.kind = message->kind,
                              .device = message->device,
                              .id = message->id,
                              .pid = message->pid,
                              .fds = {n_fds > 0 ? fds[0] : -1, n_fds > 1 ? fds[1] : -1}};
    if (n_fds < 1 || n_fds > PINTI_KEPT_FDS || !pinti_base_keep(base, &entry)) {
        pinti_log("keeper: cannot keep the descriptors of %" PRIu64, entry.id);
        close_fds(fds, n_fds);
    }
}

/* Read the link until it would block or has ended. */
static void drain_link(keeper *k)
{
    pinti_base *base = k->base;
    while (base->link_fd >= 0 && !k->link_ended) {
        int fds[HOLD_FDS_MAX];
        unsigned n_fds = 0;
        size_t bytes = 0;
        const int rc =
            pinti_wire_recv(base->link_fd, k->buffer, &bytes, fds, HOLD_FDS_MAX, &n_fds, true);
        if (rc == PINTI_WIRE_WOULD_BLOCK) {
            return;
        }
        link_message message;
        if (rc != 0 || bytes != sizeof(message)) {
            k->link_ended = rc != 0;
            if (rc == 0) {
                close_fds(fds, n_fds);
            }
            continue;
        }
        memcpy(&message, k->buffer, sizeof(message));
        if (message.type == MESSAGE_HOLD) {
            take_session(base, &message, fds, n_fds);
            continue;
        }
        if (message.type == MESSAGE_KEEP) {
            take_kept(base, &message, fds, n_fds);
            continue;
        }
        close_fds(fds, n_fds);
        if (message.type == MESSAGE_UP) {
            announce(base);
        } else if (message.type == MESSAGE_FORGET) {
            pinti_base_forget(base, message.id);
        } else if (message.type == MESSAGE_FORGET_KEPT) {
            pinti_base_forget_kept(base, message.kind, message.id);
        } else if (message.type == MESSAGE_BYE) {
            k->said_bye = true;
            base->exit_status = message.exit_status;
        }
    }
}

/* ---- starting each other ------------------------------------------------------------------- */

static bool make_link(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static enum pinti_role give_up(keeper *k, int exit_status)
{
    pinti_listener_unlink(k->base);
    k->base->exit_status = exit_status;
    return PINTI_ROLE_EXIT;
}

/* In the child: become the service. */
static enum pinti_role enter_service(keeper *k, int pair[2], pid_t keeper_pid)
{
    pinti_base *base = k->base;
    close_one(&k->signal_fd);
    free(k->buffer);
    k->buffer = NULL;
    (void)close(pair[0]);
    close_one(&base->service_pidfd);
    base->link_fd = pair[1];
    base->keeper_pid = keeper_pid;
    base->service_pid = getpid();
    (void)setpgid(0, 0); /* one group with its helpers, to end them together */
    base->life =
        mmap(NULL, PINTI_TETHER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, base->life_fd, 0);
    if (base->life == MAP_FAILED) {
        base->life = NULL;
        base->exit_status = PINTI_EXIT_OS;
        return PINTI_ROLE_EXIT;
    }
    return PINTI_ROLE_SERVICE;
}

/* KEEPER in the keeper, SERVICE in the child, EXIT on failure. */
static enum pinti_role start_service(keeper *k)
{
    pinti_base *base = k->base;
    int pair[2];
    close_one(&base->link_fd);
    close_one(&base->life_fd);
    close_one(&base->service_pidfd);
    base->life_fd = pinti_memfd(&base->features, "pintable-life", PINTI_TETHER_BYTES);
    if (base->life_fd < 0 || !make_link(pair)) {
        pinti_log("keeper: cannot start the service: %s", strerror(errno));
        return give_up(k, PINTI_EXIT_OS);
    }
    const pid_t keeper_pid = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        return enter_service(k, pair, keeper_pid);
    }
    (void)close(pair[1]);
    base->link_fd = pair[0];
    if (pid < 0) {
        pinti_log("keeper: cannot fork the service: %s", strerror(errno));
        return give_up(k, PINTI_EXIT_OS);
    }
    base->service_pid = pid;
    base->service_pidfd = pinti_pidfd_open(pid);
    k->link_ended = false;
    return PINTI_ROLE_KEEPER;
}

/* In the child of a service: become the keeper. Closes what only the service needs. */
static bool enter_keeper(pinti_base *base, int pair[2], int service_pidfd, pid_t service_pid)
{
    (void)setpgid(0, 0); /* not in the service's group */
    (void)munmap(base->life, PINTI_TETHER_BYTES);
    base->life = NULL;
    close_one(&base->link_fd);
    (void)close(pair[1]);
    base->link_fd = pair[0];
    base->service_pid = service_pid;
    base->service_pidfd = service_pidfd;
    pinti_crash_arm(PINTI_CRASH_NONE, 0);

    const pinti_segments *s = &base->segments;
    const int fixed[] = {s->catalog_fd,         s->sync_fd,    s->sync_ro_fd,       s->data_fd,
                         s->data_ro_fd,         s->bell_fd,    base->listen_fd,     base->lock_fd,
                         base->link_fd,         base->life_fd, base->service_pidfd, pinti_log_fd(),
                         base->options.ready_fd};
    const size_t n_fixed = sizeof(fixed) / sizeof(fixed[0]);
    int *keep = malloc(
        (n_fixed + (size_t)HOLD_FDS_MAX * base->n_held + (size_t)PINTI_KEPT_FDS * base->n_kept) *
        sizeof(*keep));
    if (keep != NULL) {
        size_t n = 0;
        memcpy(keep, fixed, sizeof(fixed));
        n = n_fixed;
        for (uint32_t i = 0; i < base->n_held; i++) {
            keep[n++] = base->held[i].slot_fd;
            keep[n++] = base->held[i].tether_fd;
            keep[n++] = base->held[i].pidfd;
        }
        for (uint32_t i = 0; i < base->n_kept; i++) {
            keep[n++] = base->kept[i].fds[0];
            keep[n++] = base->kept[i].fds[1];
        }
        pinti_close_all_but(keep, n);
        free(keep);
    }
    return keep != NULL;
}

bool pinti_keeper_respawn(pinti_base *base, bool *out_failed)
{
    *out_failed = true;
    if (!pinti_base_may_restart(base)) {
        pinti_log("the keeper died more than %u times in %u s", base->options.restarts_max,
                  PINTI_RESTART_WINDOW_MS / 1000u);
        return false;
    }
    int pair[2];
    if (!make_link(pair)) {
        return false;
    }
    const int service_pidfd = pinti_pidfd_open(getpid());
    const pid_t service_pid = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        *out_failed = !enter_keeper(base, pair, service_pidfd, service_pid);
        return true;
    }
    (void)close(pair[0]);
    if (service_pidfd >= 0) {
        (void)close(service_pidfd);
    }
    if (pid < 0) {
        (void)close(pair[1]);
        return false;
    }
    (void)close(base->link_fd);
    base->link_fd = pair[1];
    base->keeper_pid = pid;
    pinti_log("the keeper died; its successor is process %d", (int)pid);
    *out_failed = false;
    return false;
}

/* ---- the keeper's loop --------------------------------------------------------------------- */

static void log_death(const keeper *k, int status)
{
    if (!k->said_bye && WIFSIGNALED(status)) {
        pinti_log("keeper: the service was ended by signal %d", WTERMSIG(status));
    } else if (!k->said_bye) {
        pinti_log("keeper: the service ended with status %d",
                  WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    }
}

/*
 * Wait for every child that has ended; is the service among them? As process 1 of a container, or a
 * subreaper, the keeper is given the children that dead processes leave: helpers of a service that
 * crashed, brokers. Nobody else would ever wait for them.
 */
static bool reap_children(const keeper *k)
{
    int status = 0;
    bool is_dead = false;
    for (;;) {
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return is_dead;
        }
        if (pid == k->base->service_pid) {
            log_death(k, status);
            is_dead = true;
        }
    }
}

/* Is the service's process gone? */
static bool service_is_dead(keeper *k)
{
    pinti_base *base = k->base;
    siginfo_t info = {.si_pid = 0};
    if (reap_children(k)) {
        return true;
    }
    if (waitid(P_PID, (id_t)base->service_pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        return false; /* our child; if it has ended just now, there is an event for it */
    }
    if (base->service_pidfd >= 0) {
        struct pollfd entry = {.fd = base->service_pidfd, .events = POLLIN};
        return poll(&entry, 1, 0) > 0;
    }
    return k->link_ended;
}

/* End the helpers of the dead service and wait until their memory is gone. */
static bool settle(keeper *k)
{
    pinti_base *base = k->base;
    const uint64_t end_ms = pinti_clock_ms() + SETTLE_MS;
    while (pinti_tether_probe(base->life_fd) == PINTI_TETHER_MAPPED) {
        if (pinti_clock_ms() >= end_ms) {
            pinti_log("keeper: a helper of the dead service does not end");
            return false;
        }
        /* somebody maps the page, so the group has a member and its number is not another's */
        (void)kill(-base->service_pid, SIGKILL);
        (void)poll(NULL, 0, 1);
    }
    return true;
}

/* The service is dead: exit with it, or start another. */
static enum pinti_role replace_service(keeper *k)
{
    pinti_base *base = k->base;
    drain_link(k); /* its last messages count: see keeper.h */
    if (!settle(k)) {
        return give_up(k, PINTI_EXIT_INTERNAL);
    }
    if (k->said_bye) {
        return give_up(k, base->exit_status);
    }
    if (k->stopping) {
        return give_up(k, PINTI_EXIT_OK);
    }
    if (!pinti_base_may_restart(base)) {
        pinti_log("keeper: more than %u deaths in %u s, giving up", base->options.restarts_max,
                  PINTI_RESTART_WINDOW_MS / 1000u);
        return give_up(k, PINTI_EXIT_INTERNAL);
    }
    pinti_crash_arm(PINTI_CRASH_NONE, 0);
    return start_service(k);
}

static void tell_to_stop(keeper *k)
{
    const link_message message = {.type = MESSAGE_STOP};
    if (k->stopping) {
        k->stop_ms = 0; /* asked twice: at once */
        return;
    }
    k->stopping = true;
    k->stop_ms = pinti_clock_ms() + STOP_MS;
    (void)send_message(k->base, &message, NULL, 0);
}

static void take_signals(keeper *k)
{
    struct signalfd_siginfo info;
    while (read(k->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            tell_to_stop(k);
        }
    }
}

static void wait_for_events(keeper *k)
{
    const pinti_base *base = k->base;
    struct pollfd entries[3] = {
        {.fd = k->signal_fd, .events = POLLIN},
        {.fd = k->link_ended ? -1 : base->link_fd, .events = POLLIN},
        {.fd = base->service_pidfd, .events = POLLIN},
    };
    int timeout_ms = -1;
    if (k->stopping || k->link_ended) {
        timeout_ms = 20; /* an end that is seen on the link only has no event of its own */
    }
    (void)poll(entries, 3, timeout_ms);
}

enum pinti_role pinti_keeper_run(pinti_base *base)
{
    keeper k = {.base = base, .signal_fd = -1};
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    k.buffer = malloc(PINTI_WIRE_BYTES_MAX + 1);
    k.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    enum pinti_role role = PINTI_ROLE_KEEPER;
    if (k.buffer == NULL || k.signal_fd < 0) {
        role = give_up(&k, PINTI_EXIT_OS);
    } else if (base->service_pid == 0) {
        role = start_service(&k);
    }
    while (role == PINTI_ROLE_KEEPER) {
        wait_for_events(&k);
        take_signals(&k);
        drain_link(&k);
        if (service_is_dead(&k)) {
            role = replace_service(&k);
        } else if (k.stopping && pinti_clock_ms() >= k.stop_ms) {
            (void)kill(base->service_pid, SIGKILL);
        }
    }
    if (role == PINTI_ROLE_EXIT) {
        if (k.signal_fd >= 0) {
            (void)close(k.signal_fd);
        }
        free(k.buffer);
    }
    return role;
}
