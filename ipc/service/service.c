/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The loop. Events of a batch are handled deaths first (a dead worker's chunks go to another as
 * soon as they can), then in the order the kernel gave them. What a handler frees stays in the
 * graveyard until the batch is over, since a later event of the batch may point at it.
 */

#include "ipc/service/service.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/broker.h"
#include "ipc/service/connection.h"
#include "ipc/service/copies.h"
#include "ipc/service/death.h"
#include "ipc/service/keeper.h"
#include "ipc/service/listener.h"
#include "ipc/service/log.h"
#include "ipc/service/operation.h"
#include "ipc/service/sweeper.h"
#include "ipc/wire.h"

#define BATCH        64
#define EXIT_LOCK_MS 2000u

/* ---- time ---------------------------------------------------------------------------------- */

void pinti_service_at(pinti_service *service, enum pinti_timer timer, uint64_t due_ms)
{
    if (service->due_ms[timer] == 0 || due_ms < service->due_ms[timer]) {
        service->due_ms[timer] = due_ms;
    }
}

void pinti_service_in(pinti_service *service, enum pinti_timer timer, uint64_t after_ms)
{
    pinti_service_at(service, timer, pinti_clock_ms() + after_ms);
}

/* One timerfd for all deadlines; off when there are none. */
static void arm_timer(pinti_service *service)
{
    uint64_t first_ms = 0;
    for (int i = 0; i < PINTI_TIMERS; i++) {
        if (service->due_ms[i] != 0 && (first_ms == 0 || service->due_ms[i] < first_ms)) {
            first_ms = service->due_ms[i];
        }
    }
    if (first_ms == service->armed_ms) {
        return;
    }
    const struct itimerspec when = {.it_value = {.tv_sec = (time_t)(first_ms / 1000),
                                                 .tv_nsec = (long)(first_ms % 1000) * 1000000}};
    if (timerfd_settime(service->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0) {
        service->armed_ms = first_ms;
    }
}

static void exit_due(pinti_service *service)
{
    pinti_service_check_idle(service);
    if (service->due_ms[PINTI_TIMER_EXIT] == 0) {
        return; /* somebody came */
    }
    if (!pinti_listener_try_lock(service->base)) {
        /* somebody is starting: he will find us and join, or go away */
        service->due_ms[PINTI_TIMER_EXIT] = pinti_clock_ms() + 1000;
        return;
    }
    service->due_ms[PINTI_TIMER_EXIT] = 0;
    pinti_connections_accept(service);
    if (service->n_connections > 0) {
        pinti_listener_unlock(service->base);
        return;
    }
    pinti_service_stop(service, PINTI_EXIT_OK); /* the lock is held until the socket is unlinked */
}

static void run_timer(pinti_service *service, enum pinti_timer timer)
{
    switch (timer) {
    case PINTI_TIMER_PROBE:
        pinti_death_probe_due(service);
        break;
    case PINTI_TIMER_RESCAN:
        pinti_death_rescan(service);
        break;
    case PINTI_TIMER_GREET:
        pinti_connections_greet_due(service);
        break;
    case PINTI_TIMER_LISTEN:
        pinti_connections_listen_due(service);
        break;
    case PINTI_TIMER_BROKER:
        pinti_brokers_due(service);
        break;
    case PINTI_TIMER_SEND:
        pinti_connections_send_due(service);
        break;
    case PINTI_TIMER_SWEEP:
        pinti_sweeper_due(service);
        break;
    case PINTI_TIMER_CLEAN:
        pinti_operation_clean_due(service);
        break;
    case PINTI_TIMER_TRIM:
        pinti_operation_trim_due(service);
        break;
    case PINTI_TIMER_EXIT:
    case PINTI_TIMERS:
        break;
    }
}

static void timer_ready(pinti_service *service)
{
    uint64_t n = 0;
    const ssize_t rc = read(service->timer_fd, &n, sizeof(n));
    (void)rc;
    service->armed_ms = 0;
    const uint64_t now_ms = pinti_clock_ms();
    for (int i = 0; i < PINTI_TIMERS; i++) {
        if (service->due_ms[i] == 0 || service->due_ms[i] > now_ms) {
            continue;
        }
        if (i == PINTI_TIMER_EXIT) {
            exit_due(service); /* looks at its own deadline */
            continue;
        }
        service->due_ms[i] = 0;
        run_timer(service, (enum pinti_timer)i);
    }
}

void pinti_service_check_idle(pinti_service *service)
{
    if (!service->base->options.private_service) {
        return;
    }
    const bool idle = service->n_sessions == 0 && service->n_connections == 0 &&
                      pinti_cat_n_live(service->cat) == 0;
    if (!idle) {
        service->due_ms[PINTI_TIMER_EXIT] = 0;
    } else if (service->due_ms[PINTI_TIMER_EXIT] == 0) {
        pinti_service_in(service, PINTI_TIMER_EXIT, service->base->options.linger_s * 1000u + 1);
    }
}

void pinti_service_stop(pinti_service *service, int exit_status)
{
    service->stopping = true;
    service->exit_status = exit_status;
}

/* ---- events -------------------------------------------------------------------------------- */

bool pinti_service_watch(pinti_service *service, int fd, uint32_t events, pinti_source *source)
{
    struct epoll_event event = {.events = events, .data = {.ptr = source}};
    return epoll_ctl(service->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void pinti_service_unwatch(pinti_service *service, int fd)
{
    (void)epoll_ctl(service->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void pinti_service_bury(pinti_service *service, pinti_source *thing)
{
    thing->dead = true;
    if (service->n_graves == service->graves_room) {
        const uint32_t room = service->graves_room == 0 ? 64 : service->graves_room * 2;
        void **grown = realloc(service->graveyard, room * sizeof(*grown));
        if (grown == NULL) {
            return; /* lost; rather that than freed too early */
        }
        service->graveyard = grown;
        service->graves_room = room;
    }
    service->graveyard[service->n_graves++] = thing;
}

static void empty_graveyard(pinti_service *service)
{
    for (uint32_t i = 0; i < service->n_graves; i++) {
        free(service->graveyard[i]);
    }
    service->n_graves = 0;
}

static void signal_ready(pinti_service *service)
{
    struct signalfd_siginfo info;
    while (read(service->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            pinti_service_stop(service, PINTI_EXIT_OK);
        }
    }
    /* a keeper that we forked is our child; helpers are waited for by those who started them */
    (void)waitpid(service->base->keeper_pid, NULL, WNOHANG);
    pinti_endings_reap(service);
}

/* True: this process is the new keeper. */
static bool replace_keeper(pinti_service *service)
{
    pinti_base *base = service->base;
    bool failed = true;
    pinti_service_unwatch(service, base->link_fd);
    bool is_keeper = false;
    if (pinti_sessions_hand_over(service) && pinti_copies_hand_over(service) &&
        pinti_brokers_hand_over(service)) {
        is_keeper = pinti_keeper_respawn(base, &failed);
    }
    if (is_keeper) {
        base->exit_status = failed ? PINTI_EXIT_OS : PINTI_EXIT_OK;
        return true;
    }
    /* the sessions own the descriptors; the table was for the child */
    free(base->held);
    base->held = NULL;
    base->n_held = 0;
    base->held_room = 0;
    free(base->kept);
    base->kept = NULL;
    base->n_kept = 0;
    base->kept_room = 0;
    if (failed || !pinti_service_watch(service, base->link_fd, EPOLLIN, &service->keeper_source)) {
        pinti_log("cannot start a keeper: the service ends");
        pinti_service_stop(service, PINTI_EXIT_INTERNAL);
    }
    return false;
}

/* True: this process is the new keeper. */
static bool keeper_ready(pinti_service *service)
{
    switch (pinti_keeper_receive(service->base)) {
    case PINTI_KEEPER_STOP:
        pinti_service_stop(service, PINTI_EXIT_OK);
        return false;
    case PINTI_KEEPER_DIED:
        (void)waitpid(service->base->keeper_pid, NULL, WNOHANG);
        return replace_keeper(service);
    case PINTI_KEEPER_NOTHING:
        return false;
    }
    return false;
}

static bool handle(pinti_service *service, pinti_source *source, uint32_t events)
{
    switch (source->kind) {
    case PINTI_SOURCE_LISTENER:
        pinti_connections_accept(service);
        return false;
    case PINTI_SOURCE_KEEPER:
        return keeper_ready(service);
    case PINTI_SOURCE_SIGNAL:
        signal_ready(service);
        return false;
    case PINTI_SOURCE_TIMER:
        timer_ready(service);
        return false;
    case PINTI_SOURCE_PREPARER:
        pinti_operation_ready(service);
        return false;
    case PINTI_SOURCE_SWEEPER:
        pinti_sweeper_finished(service);
        return false;
    case PINTI_SOURCE_BROKER:
        pinti_broker_ready(service, (pinti_broker *)(void *)source);
        return false;
    case PINTI_SOURCE_ENDING:
        pinti_ending_ready(service, (pinti_ending *)(void *)source);
        return false;
    case PINTI_SOURCE_CONNECTION:
        pinti_connection_ready(service, (pinti_connection *)(void *)source, events);
        return false;
    case PINTI_SOURCE_DEATH:
        pinti_session_process_ended(service, (pinti_session *)(void *)source);
        return false;
    }
    return false;
}

/* True: this process is the new keeper. */
static bool handle_batch(pinti_service *service, struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        pinti_source *source = events[i].data.ptr;
        if (source->kind == PINTI_SOURCE_DEATH && !source->dead) {
            (void)handle(service, source, events[i].events);
        }
    }
    for (int i = 0; i < n; i++) {
        pinti_source *source = events[i].data.ptr;
        if (source->kind != PINTI_SOURCE_DEATH && !source->dead &&
            handle(service, source, events[i].events)) {
            return true;
        }
    }
    return false;
}

/* ---- coming up and going down -------------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static pint_status map_shared(pinti_service *service, pint_error *err)
{
    const pinti_segments *segments = &service->base->segments;
    const int protection = PROT_READ | PROT_WRITE;
    void *sync = mmap(NULL, segments->sync_bytes, protection, MAP_SHARED, segments->sync_fd, 0);
    if (sync == MAP_FAILED) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "mapping the sync segment");
    }
    service->sync = sync;
    void *bells = mmap(NULL, PINTI_BELL_BYTES, protection, MAP_SHARED, segments->bell_fd, 0);
    if (bells == MAP_FAILED) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "mapping the bell segment");
    }
    service->bells = bells;
    (void)madvise(sync, segments->sync_bytes, MADV_DONTDUMP);
    service->catalog = segments->catalog;
    service->view = (pinti_sweep_view){.catalog = segments->catalog,
                                       .sync = sync,
                                       .sync_bytes = segments->sync_bytes,
                                       .bells = bells};
    return PINT_OK;
}

static pint_status open_events(pinti_service *service, pint_error *err)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    service->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    service->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    service->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    service->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (service->epoll_fd < 0 || service->timer_fd < 0 || service->signal_fd < 0 ||
        service->reserve_fd < 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "descriptors of the event loop");
    }
    if (!pinti_service_watch(service, service->timer_fd, EPOLLIN, &service->timer_source) ||
        !pinti_service_watch(service, service->signal_fd, EPOLLIN, &service->signal_source) ||
        !pinti_service_watch(service, service->base->link_fd, EPOLLIN, &service->keeper_source) ||
        !pinti_service_watch(service, service->base->listen_fd, EPOLLIN,
                             &service->listener_source)) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "epoll");
    }
    service->listening = true;
    return PINT_OK;
}

static pint_status open_catalog(pinti_service *service, pint_error *err)
{
    pinti_catalog_header *header = service->catalog;
    const pinti_options *options = &service->base->options;
    /* relaxed: only the service writes it, and there is one service at a time */
    service->incarnation = pinti_load32_relaxed(&header->xincarnation) + 1;
    pinti_store32_release(&header->xincarnation, service->incarnation);
    service->memory = pinti_memory_new(service->catalog, header->data_bytes, header->sync_bytes,
                                       pinti_load64_relaxed(&header->xbudget_bytes));
    if (service->memory == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "memory ledger");
    }
    if (options->uid_bytes != 0) {
        pinti_memory_set_uid_limit(service->memory, options->uid_bytes);
    }
    service->cat = pinti_cat_new(service->catalog, service->memory);
    if (service->cat == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "catalog index");
    }
    pinti_cat_on_needs_undo(service->cat, pinti_death_needs_undo, service);
    pinti_cat_on_copy_free(service->cat, pinti_copies_on_free, service);
    return pinti_cat_rebuild(service->cat, err);
}

/* Half of the descriptors that may be in flight, in answers to join. */
static uint32_t joins_in_flight(void)
{
    struct rlimit files = {1024, 1024};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    const rlim_t n = files.rlim_cur / 2 / PINTI_JOIN_FDS;
    return n < 8 ? 8 : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static pint_status come_up(pinti_service *service, pint_error *err)
{
    service->buffer = malloc(PINTI_WIRE_BYTES_MAX + 1);
    service->by_index = calloc(PINTI_SESSIONS_MAX, sizeof(pinti_session *));
    service->joins_in_flight_max = joins_in_flight();
    pinti_brokers_init(service);
    if (service->buffer == NULL || service->by_index == NULL || !pinti_sweeper_init(service) ||
        !pinti_copies_init(service)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "service");
    }
    pint_status status = map_shared(service, err);
    if (status == PINT_OK) {
        status = open_catalog(service, err);
    }
    if (status == PINT_OK) {
        status = open_events(service, err);
    }
    if (status == PINT_OK) {
        status = pinti_operations_start(service, err);
    }
    if (status == PINT_OK) {
        status = pinti_sessions_restore(service, err);
    }
    if (status == PINT_OK) {
        pinti_copies_restore(service);
    }
    if (status != PINT_OK) {
        return status;
    }
    pinti_death_rescan(service);
    pinti_service_check_idle(service);
    (void)pinti_keeper_send_up(service->base);
    /* The keeper unlocks and announces. Our copy of the lock must not look like a lock held. */
    close_fd(&service->base->lock_fd);
    close_fd(&service->base->options.ready_fd);
    service->base->announced = true;
    return PINT_OK;
}

/* Free all process-local state, leaving catalog, slots and descriptors of the pool as they are. */
static void let_go(pinti_service *service, bool close_sessions)
{
    pinti_connections_close_all(service);
    pinti_operations_stop(service);
    pinti_sessions_abandon(service, close_sessions);
    pinti_brokers_stop(service, !close_sessions);
    pinti_copies_abandon(service, close_sessions);
    empty_graveyard(service);
    free(service->graveyard);
    pinti_sweeper_done(service);
    if (service->cat != NULL) {
        pinti_cat_free(service->cat);
    }
    if (service->memory != NULL) {
        pinti_memory_free(service->memory);
    }
    if (service->sync != NULL) {
        (void)munmap(service->sync, service->base->segments.sync_bytes);
    }
    if (service->bells != NULL) {
        (void)munmap(service->bells, PINTI_BELL_BYTES);
    }
    free(service->buffer);
    close_fd(&service->epoll_fd);
    close_fd(&service->timer_fd);
    close_fd(&service->signal_fd);
    close_fd(&service->reserve_fd);
}

/* In the new keeper: the descriptors were closed already, their numbers may be others by now. */
static void let_go_as_keeper(pinti_service *service)
{
    service->epoll_fd = -1;
    service->timer_fd = -1;
    service->signal_fd = -1;
    service->reserve_fd = -1;
    for (uint32_t i = 0; i < service->n_connections; i++) {
        service->connections[i]->fd = -1;
    }
    service->sweeper_fd = -1;
    service->sweeper_pid = 0;
    pinti_operations_forget(service);
    let_go(service, false);
}

/* The sessions that are left learn that nobody will look after this pool any more. */
static void mark_stale(pinti_service *service)
{
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        pinti_slot_header *header = service->sessions[i]->slot;
        pinti_store32_seq(&header->xstale, 1);
    }
}

static void shut_down(pinti_service *service)
{
    pinti_base *base = service->base;
    const uint64_t end_ms = pinti_clock_ms() + EXIT_LOCK_MS;
    while (!pinti_listener_try_lock(base) && pinti_clock_ms() < end_ms) {
        (void)poll(NULL, 0, 1);
    }
    pinti_listener_unlink(base);
    mark_stale(service);
    pinti_keeper_send_bye(base, service->exit_status);
    base->exit_status = service->exit_status;
}

static enum pinti_role serve(pinti_service *service)
{
    struct epoll_event events[BATCH];
    while (!service->stopping) {
        arm_timer(service);
        const int n = epoll_wait(service->epoll_fd, events, BATCH, -1);
        if (n < 0 && errno != EINTR) {
            pinti_log("epoll_wait: %s", strerror(errno));
            return PINTI_ROLE_EXIT; /* without goodbye: the keeper starts another */
        }
        if (n > 0 && handle_batch(service, events, n)) {
            return PINTI_ROLE_KEEPER;
        }
        empty_graveyard(service);
    }
    return PINTI_ROLE_EXIT;
}

enum pinti_role pinti_service_run(pinti_base *base)
{
    pinti_service service = {
        .base = base,
        .epoll_fd = -1,
        .timer_fd = -1,
        .signal_fd = -1,
        .reserve_fd = -1,
        .sweeper_fd = -1,
        .started_ms = pinti_clock_ms(),
        .listener_source = {.kind = PINTI_SOURCE_LISTENER},
        .keeper_source = {.kind = PINTI_SOURCE_KEEPER},
        .signal_source = {.kind = PINTI_SOURCE_SIGNAL},
        .timer_source = {.kind = PINTI_SOURCE_TIMER},
        .preparer_source = {.kind = PINTI_SOURCE_PREPARER},
        .sweeper_source = {.kind = PINTI_SOURCE_SWEEPER},
    };
    pint_error err = {.status = PINT_OK};
    enum pinti_role role = PINTI_ROLE_EXIT;
    if (come_up(&service, &err) == PINT_OK) {
        role = serve(&service);
        if (role == PINTI_ROLE_KEEPER) {
            let_go_as_keeper(&service);
            return base->exit_status == PINTI_EXIT_OK ? PINTI_ROLE_KEEPER : PINTI_ROLE_EXIT;
        }
        if (service.stopping) {
            shut_down(&service);
        } else {
            base->exit_status = PINTI_EXIT_INTERNAL;
        }
    } else {
        pinti_log("the service cannot start: %s", err.message);
        base->exit_status = PINTI_EXIT_OS;
        if (!base->announced && service.incarnation <= 1) {
            pinti_keeper_send_bye(base, PINTI_EXIT_OS); /* it would fail again */
        }
    }
    let_go(&service, true);
    return PINTI_ROLE_EXIT;
}
