/* SPDX-License-Identifier: Apache-2.0 */

/*
 * States of a session index: FRESH -> IN_USE -> TO_SWEEP -> SWEEPING -> SWEPT -> IN_USE. What an
 * earlier incarnation used and did not leave to us is TO_SWEEP. Sweeps that nobody waits for take
 * at most a tenth of the time.
 */

#include "ipc/service/sweeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/service/copies.h"
#include "ipc/service/log.h"

enum index_state { INDEX_FRESH, INDEX_IN_USE, INDEX_TO_SWEEP, INDEX_SWEEPING, INDEX_SWEPT };

#define BATCH_MAX   64u
#define LOW_WATER   64u
#define SOON_MS     50u
#define RETRY_MS    1000u
#define REST_FACTOR 10u

bool pinti_sweeper_init(pinti_service *service)
{
    const pinti_catalog_header *header = service->base->segments.catalog;
    service->index_state = calloc(PINTI_SESSIONS_MAX, sizeof(*service->index_state));
    if (service->index_state == NULL) {
        return false;
    }
    uint32_t n_used = pinti_load32_relaxed(&header->xn_sessions); /* written by the service only */
    n_used = n_used > PINTI_SESSIONS_MAX ? PINTI_SESSIONS_MAX : n_used;
    for (uint32_t i = 1; i < n_used; i++) {
        service->index_state[i] = INDEX_TO_SWEEP;
    }
    service->next_fresh_index = n_used > 1 ? n_used : 1; /* 0 means nobody */
    return true;
}

void pinti_sweeper_done(pinti_service *service)
{
    if (service->sweeper_pid != 0) {
        (void)kill(service->sweeper_pid, SIGKILL);
        (void)waitpid(service->sweeper_pid, NULL, 0);
        service->sweeper_pid = 0;
    }
    if (service->sweeper_fd >= 0) {
        (void)close(service->sweeper_fd);
        service->sweeper_fd = -1;
    }
    free(service->index_state);
    service->index_state = NULL;
}

uint32_t pinti_sweeper_take_index(pinti_service *service)
{
    const uint32_t max = service->base->options.index_max;
    if (service->next_fresh_index + LOW_WATER >= max) {
        pinti_service_in(service, PINTI_TIMER_SWEEP, 0);
    }
    if (service->next_fresh_index < max) {
        const uint32_t index = service->next_fresh_index++;
        service->index_state[index] = INDEX_IN_USE;
        return index;
    }
    for (uint32_t i = 1; i < max; i++) {
        if (service->index_state[i] == INDEX_SWEPT) {
            service->index_state[i] = INDEX_IN_USE;
            return i;
        }
    }
    return 0;
}

void pinti_sweeper_give_back(pinti_service *service, uint32_t index)
{
    if (index + 1 == service->next_fresh_index) {
        service->next_fresh_index--;
        service->index_state[index] = INDEX_FRESH;
    } else {
        service->index_state[index] = INDEX_SWEPT;
    }
}

void pinti_sweeper_index_in_use(pinti_service *service, uint32_t index)
{
    service->index_state[index] = INDEX_IN_USE;
}

void pinti_sweeper_index_over(pinti_service *service, uint32_t index, bool soon)
{
    service->index_state[index] = INDEX_TO_SWEEP;
    if (soon || service->next_fresh_index + LOW_WATER >= service->base->options.index_max) {
        pinti_service_in(service, PINTI_TIMER_SWEEP, SOON_MS);
    }
}

bool pinti_sweeper_runs(const pinti_service *service)
{
    return service->sweeper_pid != 0;
}

/* ---- the helper ---------------------------------------------------------------------------- */

_Noreturn static void sweep(const pinti_service *service, int end_fd, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(0); /* it died before it could be told to take us along: the next one sweeps again */
    }
    (void)setpriority(PRIO_PROCESS, 0, 10);
    pinti_close_all_but(&end_fd, 1);
    for (uint32_t i = 1; i < PINTI_SESSIONS_MAX; i++) {
        if (service->index_state[i] == INDEX_SWEEPING) {
            pinti_sweep_result result = {0};
            pinti_copies_sweep_index(service, i);
            pinti_sweep_all(&service->view, i, &result);
        }
    }
    _exit(0);
}

static uint32_t choose(pinti_service *service)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i < PINTI_SESSIONS_MAX && n < BATCH_MAX; i++) {
        if (service->index_state[i] == INDEX_TO_SWEEP) {
            service->index_state[i] = INDEX_SWEEPING;
            n++;
        }
    }
    return n;
}

static void set_swept(pinti_service *service, enum index_state state)
{
    for (uint32_t i = 1; i < PINTI_SESSIONS_MAX; i++) {
        if (service->index_state[i] == INDEX_SWEEPING) {
            service->index_state[i] = (uint8_t)state;
        }
    }
}

static bool has_more(const pinti_service *service)
{
    for (uint32_t i = 1; i < PINTI_SESSIONS_MAX; i++) {
        if (service->index_state[i] == INDEX_TO_SWEEP) {
            return true;
        }
    }
    return false;
}

static bool start(pinti_service *service)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return false;
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        sweep(service, pipe_fds[1], parent);
    }
    (void)close(pipe_fds[1]);
    if (pid < 0 || !pinti_service_watch(service, pipe_fds[0], EPOLLIN, &service->sweeper_source)) {
        (void)close(pipe_fds[0]);
        if (pid > 0) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, NULL, 0);
        }
        return false;
    }
    service->sweeper_pid = pid;
    service->sweeper_fd = pipe_fds[0];
    service->sweep_started_ms = pinti_clock_ms();
    return true;
}

void pinti_sweeper_due(pinti_service *service)
{
    if (service->sweeper_pid != 0 || choose(service) == 0) {
        return; /* its end looks for more */
    }
    if (!start(service)) {
        set_swept(service, INDEX_TO_SWEEP);
        pinti_service_in(service, PINTI_TIMER_SWEEP, RETRY_MS);
    }
}

void pinti_sweeper_finished(pinti_service *service)
{
    int status = 0;
    pinti_service_unwatch(service, service->sweeper_fd);
    (void)close(service->sweeper_fd);
    service->sweeper_fd = -1;
    const pid_t pid = waitpid(service->sweeper_pid, &status, 0);
    const bool good = pid == service->sweeper_pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    service->sweeper_pid = 0;
    set_swept(service, good ? INDEX_SWEPT : INDEX_TO_SWEEP);
    if (!good) {
        pinti_log("a full sweep was ended before its time (status %d)", status);
        pinti_service_in(service, PINTI_TIMER_SWEEP, RETRY_MS);
    } else if (has_more(service)) {
        const uint64_t took_ms = pinti_clock_ms() - service->sweep_started_ms;
        const bool needed = service->next_fresh_index >= service->base->options.index_max;
        pinti_service_in(service, PINTI_TIMER_SWEEP, needed ? 0 : took_ms * REST_FACTOR);
    }
}
