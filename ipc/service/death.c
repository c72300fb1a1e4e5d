/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ends of sessions. Each step may be cut off by a crash and done again by the next incarnation:
 * leases (words are swept one by one), what it left in device copies, its writable views, record
 * freed (xid 0), tables of the session, then the keeper forgets, which is last: as long as it holds
 * the descriptors the end is repeated.
 */

#include "ipc/service/death.h"

#include <inttypes.h>

#include "host/crash.h"
#include "host/word.h"
#include "host/writable_view.h"
#include "ipc/service/connection.h"
#include "ipc/service/copies.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/log.h"
#include "ipc/service/operation.h"
#include "ipc/service/sweeper.h"

#define PROBE_FIRST_MS      250u
#define PROBE_ORPHAN_MAX_MS 2000u
#define PROBE_QUIET_MAX_MS  60000u /* its pidfd will tell of its death: this finds an exec */
#define DEVICE_REST_MS      1000u
#define RESCAN_MS           100u
#define RESCAN_SLOW_MS      1000u
#define RESCAN_FAST_FOR_MS  10000u

/* ---- steps --------------------------------------------------------------------------------- */

static void end_leases(pinti_service *service, pinti_session *session)
{
    if (session->leases_ended) {
        return;
    }
    pinti_sweep_result result = {0};
    pinti_sweep_listed(&service->view, session->slot, session->index, &result);
    session->leases_ended = true;
    const uint64_t n = result.n_reverted + result.n_restore + result.n_torn + result.n_rolled_back +
                       result.n_forwarded;
    if (n != 0) {
        pinti_log("session %" PRIu64 " (pid %d) ended with leases: %" PRIu64 " undone, %" PRIu64
                  " to restore, %" PRIu64 " torn, %" PRIu64 " left to devices, %" PRIu64
                  " completed",
                  session->id, (int)session->pid, result.n_reverted, result.n_restore,
                  result.n_torn, result.n_rolled_back, result.n_forwarded);
    }
    pinti_admin_leases_ended(service, session->id);
}

/* Writable views of those who could store; a reader's slot says nothing that is believed. */
static void end_views(pinti_service *service, uint32_t index, void *slot)
{
    if ((pinti_session_record(service, index)->flags & PINTI_SESSION_READONLY) == 0) {
        pinti_views_sweep(&service->view, slot);
    }
}

static void free_record(pinti_service *service, uint32_t index)
{
    pinti_session_rec *rec = pinti_session_record(service, index);
    pinti_store64_release(&rec->xid, 0);
    pinti_store32_release(&rec->xstate, PINTI_SESSION_FREE);
}

void pinti_death_settle(pinti_service *service, uint64_t id, uint32_t index, void *slot)
{
    pinti_sweep_result result = {0};
    pinti_sweep_listed(&service->view, slot, index, &result);
    const uint64_t recorded = pinti_load64_relaxed(&pinti_session_record(service, index)->xid);
    if (recorded == id) {
        free_record(service, index);
    }
    pinti_copies_end_session(service, index, slot);
    end_views(service, index, slot);
    pinti_cat_session_ended(service->cat, id);
}

/* References are void: nobody maps the session's pages. Frees the session. */
static void tear_down(pinti_service *service, pinti_session *session)
{
    const uint64_t id = session->id;
    const uint32_t index = session->index;
    const bool soon = !session->has_left;
    end_leases(service, session);
    if (session->source.dead) {
        return; /* ending its leases ended a connection, and that the session */
    }
    pinti_connection *connection = session->connection;
    session->connection = NULL;
    pinti_copies_end_session(service, index, session->slot); /* before another gets the index */
    end_views(service, index, session->slot);                /* while its tables are there */
    free_record(service, index);
    PINTI_CRASHPOINT(SERVICE_TEARDOWN_HALF);
    pinti_cat_session_ended(service->cat, id);
    pinti_session_remove(service, session);
    pinti_sweeper_index_over(service, index, soon);
    if (connection != NULL) {
        connection->session = NULL;
        if (!connection->busy && soon) {
            /* its process is gone, or has unmapped everything without a word */
            pinti_connection_close(service, connection);
        }
    }
    pinti_death_rescan(service);
    pinti_service_check_idle(service);
}

/* ---- looking ------------------------------------------------------------------------------- */

static void look_again(pinti_service *service, pinti_session *session)
{
    const bool quiet = session->pidfd >= 0 && !session->process_ended && !session->has_left;
    const uint32_t max = quiet ? PROBE_QUIET_MAX_MS : PROBE_ORPHAN_MAX_MS;
    uint32_t wait_ms = session->probe_wait_ms == 0 ? PROBE_FIRST_MS : session->probe_wait_ms * 2;
    wait_ms = wait_ms > max ? max : wait_ms;
    session->probe_wait_ms = wait_ms;
    session->probe_ms = pinti_clock_ms() + wait_ms;
    pinti_service_at(service, PINTI_TIMER_PROBE, session->probe_ms);
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/*
 * R9: what a GPU still does for the dead is over when the driver has seen the end of their last
 * descriptor. A forked child may hold that, and shows it by holding the session's socket too, or by
 * mapping the tether. Memory goes before descriptors when a process ends, and its own socket may
 * have ended long ago: so wait for all three, socket, process and tether, and a second from the
 * last. True: not yet.
 */
static bool device_may_run(pinti_service *service, pinti_session *session)
{
    if (!pinti_copies_has_cuda(service, session->slot)) {
        return false;
    }
    const uint64_t now_ms = pinti_clock_ms();
    if (session->connection != NULL) {
        return true; /* its end probes again */
    }
    if (session->away_since_ms == 0) {
        session->away_since_ms = now_ms; /* of before a restart */
    }
    const uint64_t last_ms =
        later(session->away_since_ms, later(session->ended_ms, session->free_since_ms));
    const uint64_t due_ms = last_ms + DEVICE_REST_MS;
    if (due_ms <= now_ms) {
        return false;
    }
    session->probe_ms = due_ms;
    pinti_service_at(service, PINTI_TIMER_PROBE, due_ms);
    return true;
}

bool pinti_session_probe(pinti_service *service, pinti_session *session)
{
    if (session->source.dead) {
        return true;
    }
    const enum pinti_tether tether = pinti_tether_probe(session->tether_fd);
    /* One that was tampered with says nothing any more. Its session keeps what it has until its
     * process ends; what its children still map after that is its own affair. */
    const bool over = tether == PINTI_TETHER_FREE ||
                      (tether == PINTI_TETHER_TAMPERED &&
                       (session->process_ended || session->has_left || session->pidfd < 0));
    if (over && session->free_since_ms == 0) {
        session->free_since_ms = pinti_clock_ms();
    }
    if (over && device_may_run(service, session)) {
        return false;
    }
    if (over) {
        tear_down(service, session);
        return true;
    }
    const bool orphaned = session->process_ended || session->has_left;
    pinti_session_rec *rec = pinti_session_record(service, session->index);
    pinti_store32_release(&rec->xstate, session->process_ended ? PINTI_SESSION_ORPHANED
                                        : session->has_left    ? PINTI_SESSION_ENDING
                                                               : PINTI_SESSION_LIVE);
    if (orphaned || session->connection == NULL) {
        look_again(service, session);
    } else {
        session->probe_ms = 0;
        session->probe_wait_ms = 0;
    }
    return false;
}

void pinti_session_process_ended(pinti_service *service, pinti_session *session)
{
    session->process_ended = true;
    session->ended_ms = pinti_clock_ms();
    pinti_service_unwatch(service, session->pidfd); /* it stays readable */
    end_leases(service, session);
    session->probe_wait_ms = 0;
    (void)pinti_session_probe(service, session);
}

bool pinti_session_leave(pinti_service *service, pinti_session *session)
{
    session->has_left = true;
    end_leases(service, session);
    session->probe_wait_ms = 0;
    return pinti_session_probe(service, session);
}

void pinti_death_probe_due(pinti_service *service)
{
    const uint64_t now_ms = pinti_clock_ms();
    for (uint32_t i = 0; i < service->n_sessions;) {
        pinti_session *session = service->sessions[i];
        const bool due = session->probe_ms != 0 && session->probe_ms <= now_ms;
        if (due) {
            session->probe_ms = 0;
        }
        if (!due || !pinti_session_probe(service, session)) {
            i++; /* else another one is at i now */
        }
    }
    for (uint32_t i = 0; i < service->n_sessions; i++) {
        if (service->sessions[i]->probe_ms != 0) {
            pinti_service_at(service, PINTI_TIMER_PROBE, service->sessions[i]->probe_ms);
        }
    }
}

/* ---- what belongs to nobody ---------------------------------------------------------------- */

bool pinti_death_needs_undo(void *service, const pinti_job_rec *job)
{
    const pinti_service *s = service;
    /* Also words that are merely held: their holder may be dead, its intent lost, and the full
     * sweep yet to come. */
    return pinti_sweep_job_is_busy(&s->view, (uint32_t)(job - pinti_cat_jobs(s->catalog))) != 0;
}

/* For reaping. What outlives its drop is charged to who has it open, not to its maker. */
static bool refers_and_pays(void *service, int kind, uint32_t index, uint32_t generation)
{
    pinti_service *s = service;
    if (kind != PINTI_REF_TABLE) {
        return pinti_session_refers(service, kind, index, generation);
    }
    const uint32_t maker = pinti_cat_tables(s->catalog)[index].uid;
    const pinti_session *holder = pinti_session_holder(s, index, generation, maker);
    if (holder != NULL && holder->uid != maker) {
        pinti_cat_charge(s->cat, index, generation, holder->uid);
    }
    return holder != NULL;
}

void pinti_death_rescan(pinti_service *service)
{
    const uint64_t now_ms = pinti_clock_ms();
    if (pinti_sweeper_runs(service)) {
        /* the helper may be reading the words of a table that would be freed */
        pinti_service_at(service, PINTI_TIMER_RESCAN, now_ms + RESCAN_MS);
        return;
    }
    service->ownerless_remain =
        pinti_cat_drop_ownerless(service->cat, pinti_family_lives, pinti_session_refers, service);
    if (pinti_cat_n_dying(service->cat) > 0 &&
        pinti_cat_reap(service->cat, refers_and_pays, service) > 0) {
        pinti_operation_memory_freed(service);
        pinti_service_check_idle(service);
    }
    if (!service->ownerless_remain && pinti_cat_n_dying(service->cat) == 0) {
        service->due_ms[PINTI_TIMER_RESCAN] = 0;
        service->rescan_since_ms = 0;
        return;
    }
    if (service->rescan_since_ms == 0) {
        service->rescan_since_ms = now_ms;
    }
    const bool fast = now_ms - service->rescan_since_ms < RESCAN_FAST_FOR_MS;
    pinti_service_at(service, PINTI_TIMER_RESCAN, now_ms + (fast ? RESCAN_MS : RESCAN_SLOW_MS));
}
