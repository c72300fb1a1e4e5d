/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making, restoring and removing sessions. Order at join, so that a crash between any two steps
 * leaves nothing behind that the next incarnation does not find: id taken from the catalog's
 * counter, descriptors with the keeper, record in the catalog (xid last), reply. A held entry
 * without its record is a join or an end that was cut off; it is ended again.
 */

#include "ipc/service/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/word.h"
#include "ipc/service/death.h"
#include "ipc/service/keeper.h"
#include "ipc/service/log.h"
#include "ipc/service/sweeper.h"

#define PROBE_RESTORED_MS 2000u /* it may just be mapping what the last reply brought */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

pinti_session_rec *pinti_session_record(const pinti_service *service, uint32_t index)
{
    return &pinti_cat_sessions(service->catalog)[index];
}

pinti_session *pinti_session_by_id(pinti_service *service, uint64_t id)
{
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        if (service->sessions[i]->id == id) {
            return service->sessions[i];
        }
    }
    return NULL;
}

bool pinti_family_lives(void *service, uint64_t family)
{
    const pinti_service *s = service;
    for (uint32_t i = 0; i < s->n_sessions; i++) {
        if (s->sessions[i]->family == family) {
            return true;
        }
    }
    return false;
}

uint32_t pinti_sessions_of_uid(const pinti_service *service, uint32_t uid)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        n += service->sessions[i]->uid == uid ? 1 : 0;
    }
    return n;
}

static bool add(pinti_service *service, pinti_session *session)
{
    if (service->n_sessions == service->sessions_room) {
        const uint32_t room = service->sessions_room == 0 ? 16 : service->sessions_room * 2;
        pinti_session **grown = realloc(service->sessions, room * sizeof(pinti_session *));
        if (grown == NULL) {
            return false;
        }
        service->sessions = grown;
        service->sessions_room = room;
    }
    session->place = service->n_sessions;
    service->sessions[service->n_sessions++] = session;
    service->by_index[session->index] = session;
    return true;
}

static void unlist(pinti_service *service, pinti_session *session)
{
    pinti_session *last = service->sessions[--service->n_sessions];
    service->sessions[session->place] = last;
    last->place = session->place;
    service->by_index[session->index] = NULL;
}

static pinti_session *allocate(void)
{
    pinti_session *session = calloc(1, sizeof(*session));
    if (session != NULL) {
        session->source.kind = PINTI_SOURCE_DEATH;
        session->slot_fd = -1;
        session->tether_fd = -1;
        session->pidfd = -1;
    }
    return session;
}

static void release(pinti_session *session)
{
    if (session->slot != NULL) {
        (void)munmap(session->slot, PINTI_SLOT_BYTES);
    }
    close_fd(&session->slot_fd);
    close_fd(&session->tether_fd);
    close_fd(&session->pidfd);
}

static pinti_held held_entry(const pinti_session *session)
{
    return (pinti_held){.id = session->id,
                        .token = {session->token[0], session->token[1]},
                        .index = session->index,
                        .pidfd_is_foreign = session->pidfd_is_foreign,
                        .slot_fd = session->slot_fd,
                        .tether_fd = session->tether_fd,
                        .pidfd = session->pidfd};
}

/* A pidfd that epoll will not take is as good as none. */
static void watch_death(pinti_service *service, pinti_session *session)
{
    if (session->pidfd >= 0 &&
        !pinti_service_watch(service, session->pidfd, EPOLLIN, &session->source)) {
        close_fd(&session->pidfd);
    }
}

/* ---- join ---------------------------------------------------------------------------------- */

/* The record others read; its id makes it valid, so it is stored last. */
static void write_record(pinti_service *service, const pinti_session *session,
                         const char command[32])
{
    pinti_catalog_header *header = service->catalog;
    pinti_session_rec *rec = pinti_session_record(service, session->index);
    rec->uid = session->uid;
    rec->gid = session->gid;
    rec->pid = session->pid;
    rec->flags = session->read_only ? PINTI_SESSION_READONLY : 0;
    rec->family = session->family;
    rec->joined_ns = session->joined_ns;
    memcpy(rec->command, command, sizeof(rec->command));
    rec->command[sizeof(rec->command) - 1] = '\0';
    pinti_store32_release(&rec->xstate, PINTI_SESSION_LIVE);
    /* relaxed load: only the service writes it */
    if (pinti_load32_relaxed(&header->xn_sessions) <= session->index) {
        pinti_store32_release(&header->xn_sessions, session->index + 1);
    }
    pinti_store64_release(&rec->xid, session->id);
}

/* Does a session or a table of another user have this family? */
static bool is_foreign_family(const pinti_service *service, uint64_t family, uint32_t uid)
{
    const pinti_catalog_header *header = service->catalog;
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        if (service->sessions[i]->family == family && service->sessions[i]->uid != uid) {
            return true;
        }
    }
    const uint32_t n_tables = pinti_load32_relaxed(&header->xn_tables); /* own earlier store */
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX; i++) {
        const pinti_table_rec *rec = &pinti_cat_tables(service->catalog)[i];
        if (rec->family == family && rec->uid != uid &&
            pinti_state_of(pinti_load64_relaxed(&rec->xgen_state)) != PINTI_FREE) {
            return true;
        }
    }
    return false;
}

/* The family asked for, unless it is another user's; else a new one. */
static uint64_t choose_family(pinti_service *service, const pinti_join *join)
{
    if (join->family != 0 && !is_foreign_family(service, join->family, join->uid)) {
        return join->family;
    }
    pinti_catalog_header *header = service->catalog;
    if (header->next_family_id == 0) {
        header->next_family_id = 1;
    }
    return header->next_family_id++;
}

static uint64_t take_id(pinti_service *service)
{
    pinti_catalog_header *header = service->catalog;
    if (header->next_session_id == 0) {
        header->next_session_id = 1; /* 0 means nobody */
    }
    return header->next_session_id++;
}

static pint_status make_descriptors(pinti_service *service, pinti_session *session, pint_error *err)
{
    const pinti_features *features = &service->base->features;
    if (!pinti_random(session->token, sizeof(session->token))) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "join: getrandom");
    }
    pint_status status = pinti_slot_create(features, session->id, session->index, session->token,
                                           &session->slot_fd, &session->slot, err);
    if (status == PINT_OK) {
        status = pinti_tether_create(features, &session->tether_fd, err);
    }
    if (status == PINT_E_FD_LIMIT) {
        /* that status would tell the client about its own descriptors */
        return pinti_fail(err, PINT_E_LIMIT, 0, "join: the service has no descriptors left");
    }
    return status;
}

static pint_status check_limits(pinti_service *service, const pinti_join *join, pint_error *err)
{
    const uint32_t max = service->base->options.sessions_max;
    if (pinti_sessions_of_uid(service, join->uid) >= max) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "join: uid %u has %u sessions, the limit is %u",
                          join->uid, max, max);
    }
    return PINT_OK;
}

pint_status pinti_session_create(pinti_service *service, const pinti_join *join,
                                 pinti_session **out_session, pint_error *err)
{
    pint_status status = check_limits(service, join, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_session *session = allocate();
    if (session == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join");
    }
    session->index = pinti_sweeper_take_index(service);
    if (session->index == 0) {
        status = pinti_fail(err, PINT_E_LIMIT, 0,
                            "join: all %u session indices are in use or not "
                            "yet swept",
                            service->base->options.index_max - 1);
        goto err_free;
    }
    session->id = take_id(service);
    session->uid = join->uid;
    session->gid = join->gid;
    session->pid = join->pid;
    session->read_only = join->read_only;
    session->pidfd_is_foreign = join->pidfd_is_foreign;
    session->joined_ns = pinti_clock_realtime_ns();
    status = make_descriptors(service, session, err);
    if (status != PINT_OK) {
        goto err_index;
    }
    session->pidfd = join->pidfd;
    const pinti_held held = held_entry(session);
    if (!pinti_keeper_send_hold(service->base, &held)) {
        status = pinti_fail(err, PINT_E_LIMIT, 0, "join: the keeper does not take descriptors now");
        goto err_pidfd;
    }
    if (!add(service, session)) {
        status = pinti_fail(err, PINT_E_NO_MEMORY, 0, "join");
        goto err_held;
    }
    session->family = choose_family(service, join);
    write_record(service, session, join->command);
    PINTI_CRASHPOINT(SERVICE_JOIN_HALF);
    watch_death(service, session);
    *out_session = session;
    return PINT_OK;
err_held:
    (void)pinti_keeper_send_forget(service->base, session->id);
err_pidfd:
    session->pidfd = -1;
err_index:
    pinti_sweeper_give_back(service, session->index);
err_free:
    release(session);
    free(session);
    return status;
}

void pinti_session_remove(pinti_service *service, pinti_session *session)
{
    if (session->pidfd >= 0) {
        pinti_service_unwatch(service, session->pidfd);
    }
    unlist(service, session);
    (void)pinti_keeper_send_forget(service->base, session->id);
    release(session);
    pinti_service_bury(service, &session->source);
}

/* ---- restart ------------------------------------------------------------------------------- */

static pint_status restore_one(pinti_service *service, const pinti_held *held, pint_error *err)
{
    const pinti_session_rec *rec = pinti_session_record(service, held->index);
    pinti_session *session = allocate();
    if (session == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "session %" PRIu64, held->id);
    }
    session->index = held->index;
    if (!add(service, session)) {
        free(session);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "session %" PRIu64, held->id);
    }
    session->id = held->id;
    session->token[0] = held->token[0];
    session->token[1] = held->token[1];
    session->pidfd_is_foreign = held->pidfd_is_foreign;
    session->slot_fd = held->slot_fd;
    session->tether_fd = held->tether_fd;
    session->pidfd = held->pidfd;
    session->family = rec->family;
    session->joined_ns = rec->joined_ns;
    session->uid = rec->uid;
    session->gid = rec->gid;
    session->pid = rec->pid;
    session->has_left = pinti_load32_relaxed(&rec->xstate) == PINTI_SESSION_ENDING;
    session->read_only = (rec->flags & PINTI_SESSION_READONLY) != 0;
    pinti_sweeper_index_in_use(service, session->index);
    const pint_status status = pinti_slot_map(session->slot_fd, &session->slot, err);
    if (status != PINT_OK) {
        return status;
    }
    watch_death(service, session);
    session->probe_ms = pinti_clock_ms() + PROBE_RESTORED_MS;
    pinti_service_at(service, PINTI_TIMER_PROBE, session->probe_ms);
    return PINT_OK;
}

/* A join or an end that was cut off: no reply ever showed this session, or it was over already. */
static void finish_one(pinti_service *service, pinti_held *held)
{
    void *slot = NULL;
    pint_error err;
    (void)pinti_slot_map(held->slot_fd, &slot, &err);
    pinti_death_settle(service, held->id, held->index, slot);
    pinti_sweeper_index_over(service, held->index, true);
    if (slot != NULL) {
        (void)munmap(slot, PINTI_SLOT_BYTES);
    }
    (void)pinti_keeper_send_forget(service->base, held->id);
    close_fd(&held->slot_fd);
    close_fd(&held->tether_fd);
    close_fd(&held->pidfd);
}

/* Records whose descriptors nobody holds, and unpublished tables of sessions that are no more. */
static void end_strays(pinti_service *service)
{
    const pinti_catalog_header *header = service->catalog;
    uint32_t n_sessions = pinti_load32_relaxed(&header->xn_sessions); /* own earlier store */
    n_sessions = n_sessions > PINTI_SESSIONS_MAX ? PINTI_SESSIONS_MAX : n_sessions;
    for (uint32_t i = 1; i < n_sessions; i++) {
        const uint64_t id = pinti_load64_relaxed(&pinti_session_record(service, i)->xid);
        if (id != 0 && pinti_session_by_id(service, id) == NULL) {
            pinti_death_settle(service, id, i, NULL);
            pinti_sweeper_index_over(service, i, true);
        }
    }
    uint32_t n_tables = pinti_load32_relaxed(&header->xn_tables);
    n_tables = n_tables > PINTI_TABLES_MAX ? PINTI_TABLES_MAX : n_tables;
    for (uint32_t i = 0; i < n_tables; i++) {
        const pinti_table_rec *rec = &pinti_cat_tables(service->catalog)[i];
        if (pinti_state_of(pinti_load64_relaxed(&rec->xgen_state)) == PINTI_BUILDING &&
            pinti_session_by_id(service, rec->creator_session) == NULL) {
            pinti_cat_session_ended(service->cat, rec->creator_session);
        }
    }
}

pint_status pinti_sessions_restore(pinti_service *service, pint_error *err)
{
    pinti_base *base = service->base;
    pint_status status = PINT_OK;
    uint32_t n_cut_off = 0;
    for (uint32_t i = 0; i < base->n_held && status == PINT_OK; i++) {
        pinti_held *held = &base->held[i];
        const uint64_t id = pinti_load64_relaxed(&pinti_session_record(service, held->index)->xid);
        if (id == held->id) {
            status = restore_one(service, held, err);
        } else {
            base->held[n_cut_off++] = *held; /* after all live ones are known */
        }
    }
    if (status != PINT_OK) {
        return status;
    }
    for (uint32_t i = 0; i < n_cut_off; i++) {
        finish_one(service, &base->held[i]);
    }
    free(base->held);
    base->held = NULL;
    base->n_held = 0;
    base->held_room = 0;
    end_strays(service);
    if (service->n_sessions > 0) {
        pinti_log("service: incarnation %u goes on with %u sessions", service->incarnation,
                  service->n_sessions);
    }
    return PINT_OK;
}

bool pinti_sessions_hand_over(pinti_service *service)
{
    pinti_base *base = service->base;
    base->n_held = 0;
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        const pinti_held held = held_entry(service->sessions[i]);
        if (!pinti_base_hold(base, &held)) {
            return false;
        }
    }
    return true;
}

void pinti_sessions_abandon(pinti_service *service, bool close_fds)
{
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        pinti_session *session = service->sessions[i];
        if (!close_fds) {
            session->slot_fd = -1;
            session->tether_fd = -1;
            session->pidfd = -1;
            session->slot = NULL; /* not mapped in a forked child */
        }
        release(session);
        free(session);
    }
    free(service->sessions);
    free(service->by_index);
    service->by_index = NULL;
    service->sessions = NULL;
    service->n_sessions = 0;
}

/* ---- references ---------------------------------------------------------------------------- */

static bool refers(const pinti_session *session, int kind, uint32_t index, uint32_t generation)
{
    void *slot = session->slot;
    const pinti_a64 *words = kind == PINTI_REF_TABLE ? pinti_slot_tables(slot)
                             : kind == PINTI_REF_JOB ? pinti_slot_jobs(slot)
                                                     : pinti_slot_copies(slot);
    _Static_assert(PINTI_TABLES_MAX == PINTI_JOBS_MAX, "sizes of the slot's arrays");
    if (index >= (kind == PINTI_REF_COPY ? PINTI_COPIES_MAX : PINTI_TABLES_MAX)) {
        return false;
    }
    /* seq: the record was marked before; an opener writes this word before it reads the record
     * again, so one of the two sees the other (R11) */
    const uint64_t word = pinti_load64_seq(&words[index]);
    return pinti_ref_generation(word) == generation && pinti_ref_count(word) != 0;
}

bool pinti_session_refers(void *service, int kind, uint32_t index, uint32_t generation)
{
    const pinti_service *s = service;
    for (uint32_t i = 0; i < s->n_sessions; i++) {
        if (refers(s->sessions[i], kind, index, generation)) {
            return true;
        }
    }
    return false;
}

uint32_t pinti_session_count_holders(const pinti_service *service, int kind, uint32_t index,
                                     uint32_t generation)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        n += refers(service->sessions[i], kind, index, generation) ? 1 : 0;
    }
    return n;
}

const pinti_session *pinti_session_holder(const pinti_service *service, uint32_t table,
                                          uint32_t generation, uint32_t uid)
{
    const pinti_session *holder = NULL;
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        const pinti_session *session = service->sessions[i];
        if ((holder == NULL || session->uid == uid) &&
            refers(session, PINTI_REF_TABLE, table, generation)) {
            holder = session;
        }
        if (holder != NULL && holder->uid == uid) {
            break;
        }
    }
    return holder;
}

bool pinti_session_pins(void *service, uint32_t slab)
{
    const pinti_service *s = service;
    for (uint32_t i = 0; i < s->n_sessions && slab < PINTI_SLABS_MAX; i++) {
        const pinti_a8 *pins = (pinti_a8 *)((char *)s->sessions[i]->slot + PINTI_SLOT_PINS_OFF);
        /* seq: as above, with the slab's state in place of the record */
        const unsigned bits = pinti_load8_seq(&pins[slab / 8]);
        if ((bits >> (slab % 8) & 1u) != 0) {
            return true;
        }
    }
    return false;
}

uint64_t pinti_session_count_tables(const pinti_service *service, const pinti_session *session)
{
    const pinti_catalog_header *header = service->catalog;
    uint32_t n_tables = pinti_load32_relaxed(&header->xn_tables); /* own earlier store */
    n_tables = n_tables > PINTI_TABLES_MAX ? PINTI_TABLES_MAX : n_tables;
    const pinti_a64 *words = pinti_slot_tables(session->slot);
    const off_t begin = (off_t)PINTI_SLOT_TABLES_OFF;
    const off_t end = begin + (off_t)n_tables * 8;
    uint64_t n = 0;
    off_t at = begin;
    while (at < end) {
        at = lseek(session->slot_fd, at, SEEK_DATA); /* reading a hole would fill it */
        if (at < 0 || at >= end) {
            break;
        }
        const off_t page_end = (at / 4096 + 1) * 4096;
        for (; at < page_end && at < end; at += 8) {
            /* relaxed: a count for people */
            n += pinti_ref_count(pinti_load64_relaxed(&words[(at - begin) / 8])) != 0 ? 1 : 0;
        }
    }
    return n;
}

uint64_t pinti_session_count_leases(const pinti_service *service, const pinti_session *session)
{
    const off_t at = lseek(session->slot_fd, (off_t)PINTI_SLOT_INTENTS_OFF, SEEK_DATA);
    if (at < 0 || at >= (off_t)PINTI_SLOT_TABLES_OFF) {
        return 0; /* it never noted an intent */
    }
    return pinti_sweep_count_held(&service->view, session->slot, session->index);
}
