/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Brokers that were killed. One may sleep inside its driver, where no signal ends it, for seconds
 * or for ever, and holds the memory of its GPU until it has ended. So nothing here waits: the end
 * comes as an event of its pidfd, or with SIGCHLD where there is none. Until then its successor
 * waits, for END_WAIT_MS; who has not ended by then hangs, and two that hang are enough for one
 * device.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/broker.h"
#include "ipc/service/log.h"

#define END_WAIT_MS 5000u

static pinti_ending *first_of(pinti_service *service, uint32_t device)
{
    return &service->endings[(size_t)device * PINTI_ENDINGS];
}

void pinti_endings_init(pinti_service *service)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX * PINTI_ENDINGS; i++) {
        service->endings[i] = (pinti_ending){
            .source = {.kind = PINTI_SOURCE_ENDING}, .device = i / PINTI_ENDINGS, .pidfd = -1};
    }
}

uint32_t pinti_endings_count(const pinti_service *service, uint32_t device)
{
    const pinti_ending *endings = &service->endings[(size_t)device * PINTI_ENDINGS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < PINTI_ENDINGS; i++) {
        n += endings[i].pid != 0 && !endings[i].is_over ? 1 : 0;
    }
    return n;
}

/* ---- following one --------------------------------------------------------------------------- */

static void stop_watching(pinti_service *service, pinti_ending *ending)
{
    if (ending->pidfd >= 0) {
        pinti_service_unwatch(service, ending->pidfd);
        (void)close(ending->pidfd);
        ending->pidfd = -1;
    }
}

static bool is_readable(int pidfd)
{
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};
    return pidfd >= 0 && poll(&entry, 1, 0) > 0;
}

static void log_end(const pinti_ending *ending, int status)
{
    const unsigned device = ending->device;
    const int pid = (int)ending->pid;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        pinti_log("broker of device %u (pid %d): ended with status %d", device, pid,
                  WEXITSTATUS(status));
    } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
        pinti_log("broker of device %u (pid %d): ended by signal %d", device, pid,
                  WTERMSIG(status));
    }
}

/* Look whether it has ended. A process that has ended has given everything back, whether or not it
 * can be reaped: a debugger may have the first look at it. */
static void look(pinti_service *service, pinti_ending *ending)
{
    int status = 0;
    const bool was_over = ending->is_over;
    if (ending->pid == 0) {
        return;
    }
    ending->is_over = ending->is_over || is_readable(ending->pidfd);
    const pid_t reaped = ending->is_child ? waitpid(ending->pid, &status, WNOHANG) : 0;
    if (reaped == ending->pid) {
        log_end(ending, status);
    }
    const bool is_gone =
        reaped == ending->pid || (reaped < 0 && errno == ECHILD) || !ending->is_child;
    ending->is_over = ending->is_over || (ending->is_child && is_gone);
    if (!ending->is_over) {
        return;
    }
    stop_watching(service, ending); /* it stays readable */
    if (is_gone) {
        ending->pid = 0;
    }
    if (!was_over) {
        pinti_brokers_wake(service); /* its successor may start */
    }
}

void pinti_ending_ready(pinti_service *service, pinti_ending *ending)
{
    look(service, ending);
}

void pinti_endings_reap(pinti_service *service)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX * PINTI_ENDINGS; i++) {
        if (service->endings[i].is_child) {
            look(service, &service->endings[i]);
        }
    }
}

/* One that is free, else one whose process has ended: its zombie goes with the service. */
static pinti_ending *take_place(pinti_service *service, uint32_t device)
{
    pinti_ending *endings = first_of(service, device);
    for (uint32_t i = 0; i < PINTI_ENDINGS; i++) {
        if (endings[i].pid == 0) {
            return &endings[i];
        }
    }
    for (uint32_t i = 0; i < PINTI_ENDINGS; i++) {
        if (endings[i].is_over) {
            return &endings[i];
        }
    }
    return NULL;
}

void pinti_broker_kill(pinti_service *service, uint32_t device, pid_t pid, int pidfd, bool is_child)
{
    if (pidfd >= 0) {
        (void)pinti_pidfd_kill(pidfd, SIGKILL);
    } else if (is_child) {
        (void)kill(pid, SIGKILL);
    }
    pinti_ending *ending = take_place(service, device);
    if (ending == NULL || (pidfd < 0 && !is_child)) {
        /* Without a pidfd, one that an earlier incarnation started ends when its socket does. */
        if (pidfd >= 0) {
            (void)close(pidfd);
        }
        return;
    }
    ending->pid = pid;
    ending->pidfd = pidfd;
    ending->is_child = is_child;
    ending->is_over = false;
    ending->since_ms = pinti_clock_ms();
    if (pidfd >= 0 && !pinti_service_watch(service, pidfd, EPOLLIN, &ending->source)) {
        (void)close(pidfd);
        ending->pidfd = -1;
        ending->is_over = !is_child; /* nothing would tell */
        ending->pid = is_child ? pid : 0;
    }
    look(service, ending); /* most are quick, or were dead before */
}

/* ---- who comes after ------------------------------------------------------------------------- */

pint_status pinti_endings_wait(pinti_service *service, uint32_t device, uint64_t *out_wait_ms,
                               pint_error *err)
{
    const pinti_ending *endings = first_of(service, device);
    const uint64_t now_ms = pinti_clock_ms();
    uint32_t n_hanging = 0;
    *out_wait_ms = 0;
    for (uint32_t i = 0; i < PINTI_ENDINGS; i++) {
        if (endings[i].pid == 0 || endings[i].is_over) {
            continue;
        }
        const uint64_t until_ms = endings[i].since_ms + END_WAIT_MS;
        if (until_ms <= now_ms) {
            n_hanging++;
        } else if (until_ms - now_ms > *out_wait_ms) {
            *out_wait_ms = until_ms - now_ms;
        }
    }
    if (n_hanging == PINTI_ENDINGS) {
        return pinti_fail(err, PINT_E_DEVICE, 0,
                          "the brokers of the device (pid %d, pid %d) were killed and do not end: "
                          "they hang in its driver",
                          (int)endings[0].pid, (int)endings[1].pid);
    }
    return PINT_OK;
}

void pinti_endings_stop(pinti_service *service, bool forked)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX * PINTI_ENDINGS; i++) {
        if (service->endings[i].pidfd >= 0 && !forked) {
            (void)close(service->endings[i].pidfd);
        }
        service->endings[i].pidfd = -1;
        service->endings[i].pid = 0;
    }
}
