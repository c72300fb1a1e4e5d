/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The service's side of the brokers. What is asked for is a record of the catalog (BUILDING); what
 * a broker answers about anything else is from before a restart of the service: given back.
 */

#include "ipc/service/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/service/copies.h"
#include "ipc/service/keeper.h"
#include "ipc/service/log.h"
#include "ipc/wire.h"
#include "pintable/device.h"

#define NONE       UINT32_MAX
#define STRAYS_MAX 64u /* more restarts in a row than these there are not */

static pinti_copy_rec *record(const pinti_service *service, uint32_t copy)
{
    return &pinti_cat_copies(service->catalog)[copy];
}

static bool is_cuda(const pinti_service *service, uint32_t device)
{
    return pinti_cat_devices(service->catalog)[device].is_cuda != 0;
}

void pinti_brokers_init(pinti_service *service)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX; i++) {
        service->brokers[i] = (pinti_broker){.source = {.kind = PINTI_SOURCE_BROKER},
                                             .device = i,
                                             .fd = -1,
                                             .pidfd = -1,
                                             .asked_copy = NONE};
    }
    pinti_endings_init(service);
}

int pinti_broker_pid(const pinti_service *service, uint32_t device)
{
    return service->brokers[device].fd >= 0 ? (int)service->brokers[device].pid : 0;
}

/* ---- its end --------------------------------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* What it was working on fails, and copies that live in it are gone. */
static void end(pinti_service *service, pinti_broker *broker, const char *why)
{
    const uint64_t serial = broker->serial;
    const uint32_t asked = broker->asked_copy;
    const uint64_t asked_id = broker->asked_id;
    const pid_t pid = broker->pid;
    if (broker->fd < 0) {
        return;
    }
    pinti_log("broker of device %u (pid %d): %s", broker->device, (int)pid, why);
    pinti_service_unwatch(service, broker->fd);
    close_fd(&broker->fd);
    pinti_broker_outbox_clear(broker);
    pinti_broker_kill(service, broker->device, broker->pid, broker->pidfd, broker->is_child);
    broker->pidfd = -1;
    broker->pid = 0;
    broker->is_child = false;
    broker->serial = 0;
    broker->asked_copy = NONE;
    if (is_cuda(service, broker->device)) {
        (void)pinti_keeper_send_forget_kept(service->base, PINTI_KEPT_BROKER, serial);
        pinti_copies_broker_died(service, broker->device, serial);
    }
    if (asked != NONE) {
        char text[PINT_ERROR_MESSAGE_BYTES];
        (void)snprintf(text, sizeof(text), "the broker of the device (pid %d): %s", (int)pid, why);
        pinti_copies_failed(service, asked, asked_id, PINT_E_DEVICE, text);
    }
    pinti_brokers_wake(service);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The oldest copy of the device that waits for memory. */
static uint32_t next_copy(const pinti_service *service, uint32_t device)
{
    uint32_t best = NONE;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = record(service, i);
        if (pinti_state_of(pinti_load64_relaxed(&rec->xgen_state)) == PINTI_BUILDING &&
            rec->device == device && (best == NONE || rec->id < record(service, best)->id)) {
            best = i;
        }
    }
    return best;
}

static pint_status start(pinti_service *service, pinti_broker *broker, pint_error *err)
{
    pinti_catalog_header *header = service->catalog;
    pint_status status =
        pinti_broker_spawn(service, broker->device, &broker->fd, &broker->pid, err);
    if (status != PINT_OK) {
        return status;
    }
    broker->is_child = true;
    broker->pidfd = service->base->features.pidfd ? pinti_pidfd_open(broker->pid) : -1;
    broker->serial = ++header->next_copy_id;
    broker->has_answered = false;
    broker->has_made = false;
    if (!pinti_service_watch(service, broker->fd, EPOLLIN, &broker->source)) {
        status = pinti_fail(err, PINT_E_DEVICE, errno, "broker: epoll");
    } else if (is_cuda(service, broker->device)) {
        const pinti_kept kept = {.kind = PINTI_KEPT_BROKER,
                                 .id = broker->serial,
                                 .device = broker->device,
                                 .pid = broker->pid,
                                 .fds = {broker->fd, broker->pidfd}};
        if (!pinti_keeper_send_keep(service->base, &kept)) {
            status = pinti_fail(err, PINT_E_LIMIT, 0,
                                "broker: the keeper does not take descriptors now");
        }
    }
    if (status != PINT_OK) {
        end(service, broker, "not started");
    }
    return status;
}

/* How long a broker may take over an allocation. */
static uint64_t limit_ms(const pinti_service *service, const pinti_broker *broker, uint64_t bytes)
{
    const uint64_t ms = service->base->options.broker_ms;
    return (broker->has_answered ? ms : 2 * ms) + (bytes >> 20);
}

/* Ask for the memory of a copy; the copy fails where that cannot be. */
static void ask(pinti_service *service, pinti_broker *broker, uint32_t copy)
{
    const pinti_copy_rec *rec = record(service, copy);
    pint_error err = {.status = PINT_OK};
    const uint64_t id = rec->id;
    const bool was_there = broker->fd >= 0;
    if (!was_there) {
        const pint_status status = start(service, broker, &err);
        if (status != PINT_OK) {
            pinti_copies_failed(service, copy, id, status, err.message);
            return;
        }
    }
    broker->request_bytes =
        pinti_broker_ask(broker->request, sizeof(broker->request), rec->bytes, rec->kind, id);
    broker->asked_copy = copy;
    broker->asked_id = id;
    broker->due_ms = pinti_clock_ms() + limit_ms(service, broker, rec->bytes);
    const int rc = pinti_broker_flush(service, broker);
    if (rc == PINTI_WIRE_CLOSED && was_there) {
        broker->asked_copy = NONE; /* it died idle, and did not hear of this: its successor will */
    }
    if (rc != 0) {
        end(service, broker, rc == PINTI_WIRE_CLOSED ? "it has ended" : "its socket has failed");
    }
}

/* May the next broker start? False: not yet (the timer is set), or the copy has failed over it. */
static bool may_start(pinti_service *service, const pinti_broker *broker, uint32_t copy)
{
    pint_error err = {.status = PINT_OK};
    uint64_t wait_ms = 0;
    const pint_status status = pinti_endings_wait(service, broker->device, &wait_ms, &err);
    if (status != PINT_OK) {
        pinti_copies_failed(service, copy, record(service, copy)->id, status, err.message);
        pinti_brokers_wake(service);
        return false;
    }
    if (wait_ms > 0) {
        pinti_service_in(service, PINTI_TIMER_BROKER, wait_ms);
        return false;
    }
    return true;
}

/* Give up on one that is late; ask for what waits. */
static void see_to(pinti_service *service, pinti_broker *broker)
{
    if (broker->asked_copy != NONE && broker->due_ms <= pinti_clock_ms()) {
        end(service, broker, "it did not answer in time, and was killed: its driver hangs");
    }
    const uint32_t copy = broker->asked_copy == NONE ? next_copy(service, broker->device) : NONE;
    if (copy != NONE && (broker->fd >= 0 || may_start(service, broker, copy))) {
        ask(service, broker, copy);
        if (broker->asked_copy == NONE) {
            pinti_brokers_wake(service); /* that copy has failed: the next */
        }
    }
    if (broker->asked_copy != NONE) {
        pinti_service_at(service, PINTI_TIMER_BROKER, broker->due_ms);
    }
}

void pinti_brokers_wake(pinti_service *service)
{
    pinti_service_in(service, PINTI_TIMER_BROKER, 0);
}

void pinti_brokers_due(pinti_service *service)
{
    pinti_copies_answer(service);
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX; i++) {
        see_to(service, &service->brokers[i]);
    }
}

void pinti_broker_free(pinti_service *service, uint32_t device, uint64_t serial, uint64_t id)
{
    pinti_broker *broker = &service->brokers[device];
    if (broker->fd < 0 || (serial != 0 && serial != broker->serial)) {
        return; /* the memory went with it */
    }
    if (!pinti_broker_queue_free(broker, id)) {
        pinti_log("broker of device %u: out of memory, copy %" PRIu64 " is not freed", device, id);
        return;
    }
    const int rc = pinti_broker_flush(service, broker);
    if (rc != 0 && rc != PINTI_WIRE_CLOSED) { /* an end is seen as an event */
        end(service, broker, "its socket has failed");
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* A memfd that is shorter than it is said to be would end its readers by SIGBUS. */
static bool is_good_fd(const pinti_service *service, const pinti_copy_rec *rec, int fd)
{
    struct stat st;
    return is_cuda(service, rec->device) ||
           (fstat(fd, &st) == 0 && st.st_size >= 0 && (uint64_t)st.st_size >= rec->bytes);
}

/* It has given up. Is the same to be asked of its successor? Once, and where that may help: a
 * driver that never worked is not better the second time. */
static bool asks_again(pinti_broker *broker, const pinti_broker_reply *reply, bool has_made)
{
    const bool again =
        (has_made || reply->status == PINT_E_DEVICE_LOST) && broker->retried_id != reply->id;
    if (again) {
        broker->retried_id = reply->id;
    }
    return again; /* the copy is still BUILDING, and the oldest */
}

static void give_up(pinti_service *service, pinti_broker *broker, const pinti_broker_reply *reply)
{
    char why[PINT_ERROR_MESSAGE_BYTES + 16];
    (void)snprintf(why, sizeof(why), "it gave up: %s", reply->text);
    end(service, broker, why);
}

/* Who asks has opened the device, so a GPU that is not there is not there for the service alone. */
static void fail_copy(pinti_service *service, uint32_t copy, const pinti_broker_reply *reply)
{
    char text[sizeof(reply->text) + 64];
    (void)snprintf(text, sizeof(text), "%s%s",
                   reply->status == PINT_E_NO_DEVICE ? "the service's broker: " : "", reply->text);
    pinti_copies_failed(service, copy, reply->id, reply->status, text);
}

/* The answer we wait for. False: it makes no sense. *fd is taken when it is -1 afterwards. */
static bool take_answer(pinti_service *service, pinti_broker *broker,
                        const pinti_broker_reply *reply, int *fd)
{
    const uint32_t copy = broker->asked_copy;
    const pinti_copy_rec *rec = record(service, copy);
    const bool is_ipc = rec->kind == PINT_COPY_IPC;
    if (rec->id != broker->asked_id) {
        broker->asked_copy = NONE; /* dropped, and its index taken by another, meanwhile */
        if (reply->is_last) {
            give_up(service, broker, reply);
        }
        pinti_brokers_wake(service);
        return true;
    }
    if (reply->status == PINT_OK && (reply->has_ipc != is_ipc || (*fd >= 0) == is_ipc ||
                                     (!is_ipc && !is_good_fd(service, rec, *fd)))) {
        return false;
    }
    if (reply->status != PINT_OK && *fd >= 0) {
        return false;
    }
    broker->asked_copy = NONE;
    const bool has_made = broker->has_made;
    broker->has_answered = true;
    broker->has_made = has_made || reply->status == PINT_OK;
    if (reply->status == PINT_OK) {
        pinti_copies_made(service, copy, reply->id, *fd, is_ipc ? reply->ipc : NULL,
                          broker->serial);
        *fd = -1;
    } else if (reply->is_last) {
        give_up(service, broker, reply);
        if (!asks_again(broker, reply, has_made)) {
            fail_copy(service, copy, reply);
        }
    } else {
        fail_copy(service, copy, reply);
    }
    pinti_brokers_wake(service);
    return true;
}

/* One that was not asked for. A broker that is older than this incarnation owes answers to the
 * dead, whose memory is given back; few, since one is asked at a time. False: it makes no sense. */
static bool take_stray(pinti_service *service, pinti_broker *broker,
                       const pinti_broker_reply *reply)
{
    if (broker->is_child || ++broker->n_strays > STRAYS_MAX) {
        return false; /* all that it was ever asked we have asked, one after the other */
    }
    if (reply->status == PINT_OK && reply->has_ipc) {
        pinti_broker_free(service, broker->device, 0, reply->id);
    }
    if (reply->is_last) {
        give_up(service, broker, reply);
    }
    return true;
}

/* A packet whose descriptor finds no room is cut short, and cannot be told from one that makes no
 * sense. So the spare one makes room for it; if that was the last, it is given back. */
static int receive(pinti_service *service, const pinti_broker *broker, size_t *out_bytes,
                   int *out_fd, bool *out_full)
{
    unsigned n_fds = 0;
    close_fd(&service->reserve_fd);
    const int rc = pinti_wire_recv(broker->fd, service->buffer, out_bytes, out_fd, 1, &n_fds, true);
    *out_fd = rc == 0 && n_fds > 0 ? *out_fd : -1;
    service->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    *out_full = service->reserve_fd < 0 && *out_fd >= 0;
    if (*out_full) {
        close_fd(out_fd);
        service->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    return rc;
}

void pinti_broker_ready(pinti_service *service, pinti_broker *broker)
{
    size_t bytes = 0;
    int fd = -1;
    bool is_full = false;
    if (broker->fd < 0) {
        return;
    }
    if (broker->wants_room && pinti_broker_flush(service, broker) == PINTI_WIRE_MALFORMED) {
        end(service, broker, "its socket has failed");
        return;
    }
    const int rc = receive(service, broker, &bytes, &fd, &is_full);
    if (rc == PINTI_WIRE_WOULD_BLOCK) {
        return;
    }
    if (rc != 0) {
        end(service, broker, rc == PINTI_WIRE_CLOSED ? "it has ended" : "it sent a bad packet");
        return;
    }
    pinti_broker_reply reply;
    bool good = pinti_broker_parse(service->buffer, bytes, &reply) == PINT_OK;
    if (good && is_full && reply.status == PINT_OK) {
        reply.status = PINT_E_LIMIT;
        (void)snprintf(reply.text, sizeof(reply.text),
                       "copy.open: the service has no descriptors left");
    }
    if (good && broker->asked_copy != NONE && reply.id == broker->asked_id) {
        good = take_answer(service, broker, &reply, &fd);
    } else if (good) {
        good = take_stray(service, broker, &reply);
    }
    close_fd(&fd);
    if (!good) {
        end(service, broker, "it sent what is no answer");
    }
}

/* ---- from one incarnation to the next -------------------------------------------------------- */

void pinti_broker_restore(pinti_service *service, const pinti_kept *kept)
{
    int fds[PINTI_KEPT_FDS] = {kept->fds[0], kept->fds[1]};
    pinti_broker *broker = &service->brokers[kept->device % PINTI_DEVICES_MAX];
    if (!pinti_cat_has_device(service->cat, kept->device) || broker->fd >= 0 || fds[0] < 0 ||
        !pinti_service_watch(service, fds[0], EPOLLIN, &broker->source)) {
        (void)pinti_keeper_send_forget_kept(service->base, PINTI_KEPT_BROKER, kept->id);
        close_fd(&fds[0]);
        close_fd(&fds[1]);
        return;
    }
    broker->fd = fds[0];
    broker->pidfd = fds[1];
    broker->pid = kept->pid;
    broker->serial = kept->id;
    broker->has_made = true; /* nobody knows; then it is worth a second try */
    broker->n_strays = 0;
}

bool pinti_brokers_hand_over(pinti_service *service)
{
    bool good = true;
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX && good; i++) {
        const pinti_broker *broker = &service->brokers[i];
        const pinti_kept kept = {.kind = PINTI_KEPT_BROKER,
                                 .id = broker->serial,
                                 .device = i,
                                 .pid = broker->pid,
                                 .fds = {broker->fd, broker->pidfd}};
        good = broker->fd < 0 || !is_cuda(service, i) || pinti_base_keep(service->base, &kept);
    }
    return good;
}

void pinti_brokers_stop(pinti_service *service, bool forked)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX; i++) {
        pinti_broker *broker = &service->brokers[i];
        if (broker->fd >= 0 && !forked) {
            /* A program ends when nobody holds the other end: the keeper, if there is to be another
             * service. */
            if (!is_cuda(service, i)) {
                (void)kill(broker->pid, SIGKILL); /* our child; reaped by who reaps ours */
            }
            close_fd(&broker->fd);
            close_fd(&broker->pidfd);
        }
        broker->fd = -1;
        broker->pidfd = -1;
        pinti_broker_outbox_clear(broker);
    }
    pinti_endings_stop(service, forked);
}
