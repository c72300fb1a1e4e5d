/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Order, so that a crash between any two steps leaves nothing that the next incarnation does not
 * find: record BUILDING, memory made, descriptor with the keeper, LIVE, the column's name for it,
 * reply. At the end: CLOSING, if nobody is in the way DYING, out of the masks, descriptor given
 * back, FREE. A kept descriptor without a record that wants it is closed; a record without its
 * descriptor is dropped.
 */

#include "ipc/service/copies.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/wait.h"
#include "ipc/json.h"
#include "ipc/service/broker.h"
#include "ipc/service/connection.h"
#include "ipc/service/death.h"
#include "ipc/service/keeper.h"
#include "ipc/service/log.h"
#include "ipc/service/session.h"
#include "pintable/device.h"

static pinti_copy_rec *record(const pinti_service *service, uint32_t copy)
{
    return &pinti_cat_copies(service->catalog)[copy];
}

static uint32_t state_of(const pinti_service *service, uint32_t copy)
{
    /* relaxed: written by the service alone */
    return pinti_state_of(pinti_load64_relaxed(&record(service, copy)->xgen_state));
}

static uint32_t generation_of(const pinti_service *service, uint32_t copy)
{
    return pinti_gen_of(pinti_load64_relaxed(&record(service, copy)->xgen_state));
}

static bool is_cuda(const pinti_service *service, uint32_t device)
{
    return pinti_cat_devices(service->catalog)[device % PINTI_DEVICES_MAX].is_cuda != 0;
}

/* ---- words ----------------------------------------------------------------------------------- */

static char *sync_at(const pinti_service *service, uint64_t off, uint64_t bytes)
{
    const pinti_sweep_view *view = &service->view;
    return off % 8 != 0 || bytes > view->sync_bytes || off > view->sync_bytes - bytes
               ? NULL
               : view->sync + off;
}

bool pinti_copies_view(const pinti_service *service, uint32_t copy, pinti_copy_view *out)
{
    const pinti_copy_rec *rec = record(service, copy);
    if (state_of(service, copy) == PINTI_FREE) {
        return false;
    }
    const pinti_column_rec *column = pinti_cat_copy_column(service->cat, rec);
    if (column == NULL) {
        return false;
    }
    char *sync = sync_at(service, rec->sync_off,
                         sizeof(pinti_copy_sync) + rec->n_chunks * sizeof(pinti_copy_chunk));
    char *words = sync_at(service, column->words_off, rec->n_chunks * sizeof(pinti_a64));
    if (sync == NULL || words == NULL) {
        return false;
    }
    *out = (pinti_copy_view){
        .sync = (pinti_copy_sync *)(void *)sync,
        .chunks = (pinti_copy_chunk *)(void *)(sync + sizeof(pinti_copy_sync)),
        .words = (pinti_a64 *)(void *)words,
        .n_chunks = rec->n_chunks,
        .table = rec->table,
        .device = rec->device,
    };
    return true;
}

static void ring(const pinti_service *service, uint32_t table)
{
    pinti_bell_ring_always(&service->bells[table % PINTI_BELLS]);
}

static void forget(pinti_service *service, uint32_t copy)
{
    pinti_copy_view view;
    if (pinti_copies_view(service, copy, &view)) {
        pinti_copy_forget(view.chunks, view.words, view.n_chunks, view.device);
        ring(service, view.table);
    }
}

/* ---- closing --------------------------------------------------------------------------------- */

static bool refers(void *slot, uint32_t copy)
{
    /* seq: the record was marked before; who opens it notes his reference, then reads the record.
     * Hence acquire: what the session did in the copy comes before the end of its reference. */
    return pinti_ref_count(pinti_load64_seq(&pinti_slot_copies(slot)[copy])) != 0;
}

/* A copy, for pinti_copy_users. */
typedef struct users_of {
    const pinti_service *service;
    uint32_t copy;
} users_of;

static bool is_user(const void *context, uint32_t index)
{
    const users_of *of = context;
    const pinti_session *session =
        index != 0 && index < PINTI_SESSIONS_MAX ? of->service->by_index[index] : NULL;
    return session != NULL && refers(session->slot, of->copy);
}

static bool clear_strays(const pinti_service *service, uint32_t copy, const pinti_copy_view *view)
{
    const users_of of = {service, copy};
    const pinti_copy_users users = {is_user, &of};
    if (!pinti_copy_clear_strays(view->sync, view->chunks, view->n_chunks, &users)) {
        return false;
    }
    pinti_log("device copy %" PRIu64 ": cleared words that belong to no session of it",
              record(service, copy)->id);
    return true;
}

void pinti_copies_mend(pinti_service *service, uint32_t copy)
{
    pinti_copy_view view;
    const users_of of = {service, copy};
    const pinti_copy_users users = {is_user, &of};
    if (state_of(service, copy) == PINTI_LIVE && pinti_copies_view(service, copy, &view) &&
        pinti_copy_has_strays(view.sync, view.chunks, view.n_chunks, &users)) {
        pinti_cat_copy_close(service->cat, copy);
        (void)clear_strays(service, copy, &view);
        pinti_copies_reopen(service, copy);
    }
}

void pinti_copies_reopen(pinti_service *service, uint32_t copy)
{
    pinti_cat_copy_reopen(service->cat, copy);
    ring(service, record(service, copy)->table); /* who met CLOSING waits */
}

enum pinti_copy_use pinti_copies_close(pinti_service *service, uint32_t copy)
{
    pinti_copy_view view;
    enum pinti_copy_use use = PINTI_COPY_IDLE;
    pinti_cat_copy_close(service->cat, copy);
    if (pinti_copies_view(service, copy, &view)) {
        use = pinti_copy_use_of(view.chunks, view.words, view.n_chunks, view.device);
        if (use == PINTI_COPY_IN_USE && clear_strays(service, copy, &view)) {
            use = pinti_copy_use_of(view.chunks, view.words, view.n_chunks, view.device);
        }
    }
    if (use != PINTI_COPY_IDLE) {
        pinti_copies_reopen(service, copy);
    }
    return use;
}

/* ---- life of the table of copies ------------------------------------------------------------- */

bool pinti_copies_init(pinti_service *service)
{
    struct rlimit files = {1024, 1024};
    (void)getrlimit(RLIMIT_NOFILE, &files);
    /* the rest is for sessions and connections */
    service->copy_fds_max =
        files.rlim_cur / 2 < PINTI_COPIES_MAX ? (uint32_t)files.rlim_cur / 2 : PINTI_COPIES_MAX;
    service->copies = calloc(PINTI_COPIES_MAX, sizeof(*service->copies));
    return service->copies != NULL;
}

int pinti_copies_fd(const pinti_service *service, uint32_t copy)
{
    return service->copies[copy].fd_plus_1 - 1;
}

static void hold_fd(pinti_service *service, uint32_t copy, int fd)
{
    service->copies[copy].fd_plus_1 = fd + 1;
    service->n_copy_fds++;
}

static bool restore_fd(pinti_service *service, const pinti_kept *kept)
{
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = record(service, i);
        if (rec->id == kept->id && rec->kind == PINT_COPY_VMM &&
            state_of(service, i) != PINTI_FREE && pinti_copies_fd(service, i) < 0) {
            hold_fd(service, i, kept->fds[0]);
            return true;
        }
    }
    return false;
}

static void restore_kept(pinti_service *service)
{
    pinti_base *base = service->base;
    for (uint32_t i = 0; i < base->n_kept; i++) {
        const pinti_kept *kept = &base->kept[i];
        if (kept->kind == PINTI_KEPT_BROKER) {
            pinti_broker_restore(service, kept);
        } else if (!restore_fd(service, kept)) {
            (void)close(kept->fds[0]);
            (void)pinti_keeper_send_forget_kept(base, kept->kind, kept->id);
        }
    }
    free(base->kept);
    base->kept = NULL;
    base->n_kept = 0;
    base->kept_room = 0;
}

void pinti_copies_restore(pinti_service *service)
{
    restore_kept(service);
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = record(service, i);
        if (state_of(service, i) == PINTI_DYING) {
            forget(service, i); /* a crash may have come between DYING and this */
        }
        if (state_of(service, i) != PINTI_LIVE) {
            continue;
        }
        ring(service, rec->table); /* or between LIVE again and the bell */
        const bool has_memory = rec->kind == PINT_COPY_VMM
                                    ? pinti_copies_fd(service, i) >= 0
                                    : service->brokers[rec->device].serial == rec->broker;
        if (!has_memory) {
            pinti_log("device copy %" PRIu64 " lost its memory in a restart", rec->id);
            pinti_copies_kill(service, i);
        }
    }
}

bool pinti_copies_hand_over(pinti_service *service)
{
    bool good = true;
    service->base->n_kept = 0;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n && good; i++) {
        const pinti_kept kept = {.kind = PINTI_KEPT_COPY,
                                 .id = record(service, i)->id,
                                 .fds = {pinti_copies_fd(service, i), -1}};
        good = kept.fds[0] < 0 || pinti_base_keep(service->base, &kept);
    }
    return good;
}

void pinti_copies_abandon(pinti_service *service, bool close_fds)
{
    for (uint32_t i = 0; close_fds && service->copies != NULL && i < PINTI_COPIES_MAX; i++) {
        if (service->copies[i].fd_plus_1 != 0) {
            (void)close(service->copies[i].fd_plus_1 - 1);
        }
    }
    free(service->copies);
    service->copies = NULL;
}

/* ---- making ---------------------------------------------------------------------------------- */

bool pinti_copies_fill(const pinti_service *service, uint32_t copy, bool created, cJSON *result)
{
    service->copies[copy].opened_ms = pinti_clock_ms();
    return pinti_json_add_u64(result, "copy", copy) &&
           pinti_json_add_u64(result, "generation", generation_of(service, copy)) &&
           pinti_json_add_u64(result, "kind", record(service, copy)->kind) &&
           cJSON_AddBoolToObject(result, "created", created) != NULL;
}

static void reply(pinti_service *service, pinti_connection *connection, uint32_t copy)
{
    cJSON *result = cJSON_CreateObject();
    if (connection->session == NULL) {
        pinti_connection_fail(service, connection, connection->waiting_id, PINT_E_STATE,
                              "copy.open: the session has ended");
    } else if (!pinti_copies_fill(service, copy, connection->makes_copy, result)) {
        pinti_connection_fail(service, connection, connection->waiting_id, PINT_E_NO_MEMORY,
                              "answer");
    } else if (pinti_copies_fd(service, copy) >= 0) {
        pinti_connection_reply_fd(service, connection, connection->waiting_id, result,
                                  pinti_copies_fd(service, copy));
        return;
    } else {
        pinti_connection_reply(service, connection, connection->waiting_id, result, false);
        return;
    }
    cJSON_Delete(result);
}

/* Everybody who waits for this copy gets an answer: the copy, or what went wrong. */
static void answer_waiters(pinti_service *service, uint32_t copy, uint64_t id, pint_status status,
                           const char *text)
{
    for (uint32_t i = 0; i < service->n_connections;) {
        pinti_connection *connection = service->connections[i];
        if (connection->waits_for_copy != id) {
            i++;
            continue;
        }
        connection->waits_for_copy = 0;
        pinti_connection_resume(service, connection);
        if (status == PINT_OK) {
            reply(service, connection, copy);
        } else {
            pinti_connection_fail(service, connection, connection->waiting_id, status, text);
        }
        i += connection->closed ? 0 : 1; /* another one took its place */
    }
}

void pinti_copies_answer(pinti_service *service)
{
    for (uint32_t i = 0; i < service->n_connections;) {
        const pinti_connection *connection = service->connections[i];
        const uint32_t copy = connection->waits_at;
        const uint64_t id = connection->waits_for_copy;
        if (id == 0 || state_of(service, copy) != PINTI_LIVE || record(service, copy)->id != id) {
            i++;
            continue;
        }
        answer_waiters(service, copy, id, PINT_OK, NULL);
        i = 0; /* answers may end connections, and others take their places */
    }
}

void pinti_copies_made(pinti_service *service, uint32_t copy, uint64_t id, int fd,
                       const uint8_t ipc[64], uint64_t broker)
{
    const pinti_kept kept = {.kind = PINTI_KEPT_COPY, .id = id, .fds = {fd, -1}};
    if (state_of(service, copy) != PINTI_BUILDING || record(service, copy)->id != id) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return; /* dropped meanwhile; an allocation of the broker's is freed with the record */
    }
    if (fd >= 0) {
        hold_fd(service, copy, fd);
        if (!pinti_keeper_send_keep(service->base, &kept)) {
            pinti_copies_failed(service, copy, id, PINT_E_LIMIT,
                                "copy.open: the keeper does not take descriptors now");
            return;
        }
    }
    PINTI_CRASHPOINT(SERVICE_COPY_HELD);
    pinti_cat_copy_set_live(service->cat, copy, ipc, broker);
    answer_waiters(service, copy, id, PINT_OK, NULL);
}

void pinti_copies_failed(pinti_service *service, uint32_t copy, uint64_t id, pint_status status,
                         const char *text)
{
    const uint32_t device = record(service, copy)->device;
    if (state_of(service, copy) != PINTI_BUILDING || record(service, copy)->id != id) {
        return;
    }
    if (status == PINT_E_DEVICE_MEMORY && pinti_copies_evict_one(service, device, UINT32_MAX)) {
        pinti_brokers_wake(service); /* it is still BUILDING: asked for again */
        return;
    }
    pinti_cat_copy_kill(service->cat, copy);
    answer_waiters(service, copy, id, status, text);
    pinti_death_rescan(service); /* nobody refers to it */
}

/* ---- ending ---------------------------------------------------------------------------------- */

void pinti_copies_kill(pinti_service *service, uint32_t copy)
{
    const uint64_t id = record(service, copy)->id;
    pinti_cat_copy_kill(service->cat, copy);
    forget(service, copy);
    answer_waiters(service, copy, id, PINT_E_DROPPED, "copy.open: the copy was dropped");
}

pint_status pinti_copies_drop(pinti_service *service, uint32_t copy, pint_error *err)
{
    const enum pinti_copy_use use =
        state_of(service, copy) == PINTI_LIVE ? pinti_copies_close(service, copy) : PINTI_COPY_IDLE;
    switch (use) {
    case PINTI_COPY_IN_USE:
        return pinti_fail(err, PINT_E_BUSY, 0, "copy.drop: a session works on it");
    case PINTI_COPY_AHEAD:
        return pinti_fail(err, PINT_E_DEVICE_AHEAD, 0,
                          "copy.drop: a chunk is newest on the device alone: bring it to the host");
    case PINTI_COPY_IDLE:
        break;
    }
    pinti_copies_kill(service, copy);
    return PINT_OK;
}

void pinti_copies_release(pinti_service *service, uint32_t copy)
{
    const pinti_copy_rec *rec = record(service, copy);
    const int fd = pinti_copies_fd(service, copy);
    if (fd >= 0) {
        (void)close(fd);
        service->copies[copy].fd_plus_1 = 0;
        service->n_copy_fds--;
        (void)pinti_keeper_send_forget_kept(service->base, PINTI_KEPT_COPY, rec->id);
    }
    if (rec->kind == PINT_COPY_IPC && pinti_cat_copy_has_memory(service->cat, copy)) {
        pinti_broker_free(service, rec->device, rec->broker, rec->id);
    }
    pinti_cat_copy_released(service->cat, copy);
}

void pinti_copies_on_free(void *service, uint32_t copy)
{
    forget(service, copy); /* of one that was never LIVE, or whose table was dropped */
    pinti_copies_release(service, copy);
    ((pinti_service *)service)->copies[copy].opened_ms = 0;
}

void pinti_copies_broker_died(pinti_service *service, uint32_t device, uint64_t serial)
{
    uint32_t n_lost = 0;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = record(service, i);
        if (state_of(service, i) == PINTI_LIVE && rec->device == device &&
            rec->kind == PINT_COPY_IPC && rec->broker == serial) {
            pinti_copies_kill(service, i);
            n_lost++;
        }
    }
    if (n_lost > 0) {
        pinti_log("device %u: %u copies ended with their broker", device, n_lost);
        pinti_service_in(service, PINTI_TIMER_RESCAN, 0);
    }
}

/* ---- sessions -------------------------------------------------------------------------------- */

static bool sweep(const pinti_service *service, uint32_t copy, uint32_t index)
{
    pinti_copy_view view;
    return pinti_copies_view(service, copy, &view) &&
           pinti_copy_sweep(view.sync, view.chunks, view.words, view.n_chunks,
                            record(service, copy)->device, index);
}

void pinti_copies_end_session(pinti_service *service, uint32_t index, void *slot)
{
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        if (slot != NULL && !refers(slot, i)) {
            continue;
        }
        if (sweep(service, i, index)) {
            ring(service, record(service, i)->table);
        }
        pinti_copies_mend(service, i);
    }
}

void pinti_copies_sweep_index(const pinti_service *service, uint32_t index)
{
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        if (sweep(service, i, index)) {
            ring(service, record(service, i)->table);
        }
    }
}

bool pinti_copies_has_cuda(const pinti_service *service, void *slot)
{
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = 0; i < n; i++) {
        if (refers(slot, i) && is_cuda(service, record(service, i)->device)) {
            return true;
        }
    }
    return false;
}
