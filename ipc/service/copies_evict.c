/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Budgets of device memory. Copies that nobody has open stay, so that the next to come finds them
 * up to date, until their room is needed: then the least recently opened go first. One that holds
 * bytes the host does not have is never dropped for room.
 *
 * For device "host" the budget is the pool's, and the uid's; for others --device-budget.
 */

#include <inttypes.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/service/copies.h"
#include "ipc/service/death.h"
#include "ipc/service/log.h"
#include "ipc/service/operation.h"
#include "ipc/service/session.h"
#include "ipc/service/sweeper.h"

#define NONE UINT32_MAX

static bool is_open(pinti_service *service, uint32_t copy)
{
    const pinti_copy_rec *rec = &pinti_cat_copies(service->catalog)[copy];
    const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state); /* own earlier store */
    return pinti_session_refers(service, PINTI_REF_COPY, copy, pinti_gen_of(gen_state));
}

/* The one that goes first, among those that were not passed over. */
static uint32_t choose(pinti_service *service, uint32_t device, uint32_t uid, const uint8_t *passed)
{
    uint32_t best = NONE;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    const pinti_copy_rec *recs = pinti_cat_copies(service->catalog);
    for (uint32_t i = 0; i < n; i++) {
        if (pinti_state_of(pinti_load64_relaxed(&recs[i].xgen_state)) != PINTI_LIVE ||
            recs[i].device != device || (uid != UINT32_MAX && recs[i].uid != uid) ||
            ((uint32_t)passed[i / 8] >> (i % 8) & 1u) != 0) {
            continue;
        }
        const uint64_t opened_ms = service->copies[i].opened_ms;
        if (best == NONE || opened_ms < service->copies[best].opened_ms ||
            (opened_ms == service->copies[best].opened_ms && recs[i].id < recs[best].id)) {
            best = i;
        }
    }
    return best;
}

static bool evict(pinti_service *service, uint32_t copy)
{
    if (is_open(service, copy) || pinti_copies_close(service, copy) != PINTI_COPY_IDLE) {
        return false;
    }
    /* Once more: whoever opens it looks for LIVE after he has noted his reference. */
    if (is_open(service, copy)) {
        pinti_copies_reopen(service, copy);
        return false;
    }
    const pinti_copy_rec *rec = &pinti_cat_copies(service->catalog)[copy];
    pinti_log("device copy %" PRIu64 " of %" PRIu64 " bytes evicted from device %" PRIu32, rec->id,
              rec->bytes, rec->device);
    pinti_copies_kill(service, copy); /* out of the masks */
    pinti_copies_release(service, copy);
    pinti_service_in(service, PINTI_TIMER_RESCAN, 0);
    return true;
}

bool pinti_copies_evict_one(pinti_service *service, uint32_t device, uint32_t uid)
{
    uint8_t passed[PINTI_COPIES_MAX / 8] = {0};
    for (;;) {
        const uint32_t copy = choose(service, device, uid, passed);
        if (copy == NONE) {
            return false;
        }
        if (evict(service, copy)) {
            return true;
        }
        passed[copy / 8] |= (uint8_t)(1u << (copy % 8));
    }
}

/* Would so many bytes more pass what the pool, or the uid, may have? */
static bool passes_pool(const pinti_service *service, uint64_t bytes)
{
    const uint64_t used = pinti_memory_used(service->memory);
    const uint64_t budget = pinti_memory_budget(service->memory);
    return used > budget || bytes > budget - used;
}

static bool passes_uid(const pinti_service *service, uint32_t uid, uint64_t bytes)
{
    const uint64_t limit = service->base->options.uid_bytes;
    const uint64_t used = pinti_memory_uid_used(service->memory, uid);
    return limit != 0 && (used > limit || bytes > limit - used);
}

static pint_status make_host_room(pinti_service *service, const pinti_copy_ask *ask, uint64_t bytes,
                                  pint_error *err)
{
    while (passes_uid(service, ask->uid, bytes)) {
        if (!pinti_copies_evict_one(service, ask->device, ask->uid)) {
            return pinti_fail(err, PINT_E_QUOTA, 0,
                              "copy.open: %" PRIu64 " bytes asked, uid %" PRIu32 " uses %" PRIu64
                              " of its %" PRIu64,
                              bytes, ask->uid, pinti_memory_uid_used(service->memory, ask->uid),
                              service->base->options.uid_bytes);
        }
    }
    while (passes_pool(service, bytes)) {
        if (!pinti_copies_evict_one(service, ask->device, UINT32_MAX)) {
            return pinti_fail(err, PINT_E_QUOTA, 0,
                              "copy.open: %" PRIu64 " bytes asked, %" PRIu64
                              " of the pool's budget of %" PRIu64 " bytes are in use",
                              bytes, pinti_memory_used(service->memory),
                              pinti_memory_budget(service->memory));
        }
    }
    return PINT_OK;
}

pint_status pinti_copies_make_room(pinti_service *service, const pinti_copy_ask *ask,
                                   pint_error *err)
{
    const pinti_device_rec *device = &pinti_cat_devices(service->catalog)[ask->device];
    const uint64_t bytes = pinti_cat_copy_bytes(service->cat, ask);
    const uint64_t budget = device->budget_bytes;
    while (budget != 0 &&
           (bytes > budget || pinti_cat_device_bytes(service->cat, ask->device) > budget - bytes)) {
        if (bytes > budget || !pinti_copies_evict_one(service, ask->device, UINT32_MAX)) {
            return pinti_fail(err, PINT_E_QUOTA, 0,
                              "copy.open: %" PRIu64 " bytes asked, %" PRIu64
                              " of the device's budget of %" PRIu64 " bytes are in use",
                              bytes, pinti_cat_device_bytes(service->cat, ask->device), budget);
        }
    }
    if (service->n_copy_fds >= service->copy_fds_max) {
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "copy.open: the service holds %u descriptors of copies, its limit",
                          service->n_copy_fds);
    }
    if (device->is_cuda != 0) {
        return PINT_OK;
    }
    const pint_status status = make_host_room(service, ask, bytes, err);
    if (status == PINT_OK) {
        /* warm free memory of the pool makes way, as for a smaller budget */
        const uint64_t limit = pinti_memory_budget(service->memory);
        const uint64_t after = pinti_memory_used(service->memory) + bytes;
        if (pinti_memory_committed(service->memory) + bytes > limit) {
            pinti_operation_trim_to(service, limit > after ? limit - after : 0);
        }
    }
    return status;
}
