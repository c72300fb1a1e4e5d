/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Budgets of device memory. Copies that nobody has open stay, so that the next to come finds them
 * up to date, until their room is needed: then the least recently opened go first. One that holds
 * bytes the host does not have is never dropped for room, and none is when that would not do.
 *
 * For device "host" the budgets are the pool's and the uid's; for others --device-budget.
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

static bool is_live(const pinti_service *service, uint32_t copy)
{
    const pinti_copy_rec *rec = &pinti_cat_copies(service->catalog)[copy];
    return pinti_state_of(pinti_load64_relaxed(&rec->xgen_state)) == PINTI_LIVE; /* own store */
}

/* The one that goes first, among those that were not passed over. */
static uint32_t choose(pinti_service *service, uint32_t device, uint32_t uid, const uint8_t *passed)
{
    uint32_t best = NONE;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    const pinti_copy_rec *recs = pinti_cat_copies(service->catalog);
    for (uint32_t i = 0; i < n; i++) {
        if (!is_live(service, i) || recs[i].device != device ||
            (uid != UINT32_MAX && recs[i].uid != uid) ||
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

/* ---- room ------------------------------------------------------------------------------------ */

/* What eviction of every idle copy on a device would give back. A hint: sessions may open or change
 * some meanwhile. */
typedef struct idle_copies {
    uint64_t bytes;
    uint64_t uid_bytes; /* of these, what one uid is charged for */
    uint32_t n_fds;
} idle_copies;

static idle_copies find_idle(pinti_service *service, uint32_t device, uint32_t uid)
{
    idle_copies idle = {0};
    const uint32_t n = pinti_cat_n_copies(service->cat);
    const pinti_copy_rec *recs = pinti_cat_copies(service->catalog);
    for (uint32_t i = 0; i < n; i++) {
        pinti_copy_view view;
        if (recs[i].device != device || !is_live(service, i) || is_open(service, i) ||
            !pinti_copies_view(service, i, &view)) {
            continue;
        }
        pinti_copies_mend(service, i);
        if (pinti_copy_use_of(view.chunks, view.words, view.n_chunks, device) == PINTI_COPY_IDLE) {
            idle.bytes += recs[i].bytes;
            idle.uid_bytes += recs[i].uid == uid ? recs[i].bytes : 0;
            idle.n_fds += pinti_copies_fd(service, i) >= 0 ? 1 : 0;
        }
    }
    return idle;
}

/* Something of which there is so much, and who may be asked to give some of it back. */
typedef struct budget {
    const char *of;
    uint64_t used;
    uint64_t limit;
    uint64_t idle;
    uint32_t uid; /* whose copies make way; UINT32_MAX: anybody's */
} budget;

static bool fits(uint64_t asked, uint64_t used, uint64_t limit)
{
    return used <= limit && asked <= limit - used;
}

/* PINT_E_QUOTA, and nobody has made way for nothing. */
static pint_status check(const budget *b, uint64_t bytes, pint_error *err)
{
    if (fits(bytes, b->used - (b->idle < b->used ? b->idle : b->used), b->limit)) {
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_QUOTA, 0,
                      "copy.open: %" PRIu64 " bytes asked, %" PRIu64 " of %s %" PRIu64
                      " bytes are in use, of these %" PRIu64 " by copies that could make way",
                      bytes, b->used, b->of, b->limit, b->idle);
}

static budget device_budget(const pinti_service *service, uint32_t device)
{
    const uint64_t limit = pinti_cat_devices(service->catalog)[device].budget_bytes;
    return (budget){.of = "the device's",
                    .used = pinti_cat_device_bytes(service->cat, device),
                    .limit = limit != 0 ? limit : UINT64_MAX,
                    .uid = UINT32_MAX};
}

static budget uid_budget(const pinti_service *service, uint32_t uid)
{
    const uint64_t limit = service->base->options.uid_bytes;
    return (budget){.of = "the user's",
                    .used = pinti_memory_uid_used(service->memory, uid),
                    .limit = limit != 0 ? limit : UINT64_MAX,
                    .uid = uid};
}

static budget pool_budget(const pinti_service *service)
{
    return (budget){.of = "the pool's",
                    .used = pinti_memory_used(service->memory),
                    .limit = pinti_memory_budget(service->memory),
                    .uid = UINT32_MAX};
}

/* The budgets that concern a copy: device, uid, pool. */
#define BUDGETS_MAX 3u

static uint32_t budgets_of(const pinti_service *service, const pinti_copy_ask *ask,
                           budget out[BUDGETS_MAX])
{
    out[0] = device_budget(service, ask->device);
    if (pinti_cat_devices(service->catalog)[ask->device].is_cuda != 0) {
        return 1;
    }
    out[1] = uid_budget(service, ask->uid);
    out[2] = pool_budget(service);
    return 3;
}

static pint_status fail_fds(const pinti_service *service, pint_error *err)
{
    return pinti_fail(err, PINT_E_LIMIT, 0,
                      "copy.open: the service holds %" PRIu32
                      " descriptors of copies, its limit is %" PRIu32,
                      service->n_copy_fds, service->copy_fds_max);
}

/* Would it do if every idle copy made way? */
static pint_status check_all(pinti_service *service, const pinti_copy_ask *ask, uint64_t bytes,
                             pint_error *err)
{
    budget budgets[BUDGETS_MAX];
    const uint32_t n = budgets_of(service, ask, budgets);
    pint_status status = PINT_OK;
    bool all_fit = service->n_copy_fds < service->copy_fds_max;
    for (uint32_t i = 0; i < n; i++) {
        all_fit = all_fit && fits(bytes, budgets[i].used, budgets[i].limit);
    }
    if (all_fit) {
        return PINT_OK; /* without anybody making way: nothing to look for */
    }
    const idle_copies idle = find_idle(service, ask->device, ask->uid);
    if (service->n_copy_fds - idle.n_fds >= service->copy_fds_max) {
        return fail_fds(service, err);
    }
    for (uint32_t i = 0; i < n && status == PINT_OK; i++) {
        budgets[i].idle = budgets[i].uid == UINT32_MAX ? idle.bytes : idle.uid_bytes;
        status = check(&budgets[i], bytes, err);
    }
    return status;
}

pint_status pinti_copies_make_room(pinti_service *service, const pinti_copy_ask *ask,
                                   pint_error *err)
{
    const uint64_t bytes = pinti_cat_copy_bytes(service->cat, ask);
    pint_status status = check_all(service, ask, bytes, err);
    budget budgets[BUDGETS_MAX];
    const uint32_t n = budgets_of(service, ask, budgets);
    for (uint32_t i = 0; i < n && status == PINT_OK; i++) {
        while (!fits(bytes, budgets[i].used, budgets[i].limit) && status == PINT_OK) {
            /* somebody may have opened one that was idle: then there is less than was found */
            status = pinti_copies_evict_one(service, ask->device, budgets[i].uid)
                         ? PINT_OK
                         : check(&budgets[i], bytes, err);
            (void)budgets_of(service, ask, budgets);
        }
    }
    while (status == PINT_OK && service->n_copy_fds >= service->copy_fds_max) {
        status = pinti_copies_evict_one(service, ask->device, UINT32_MAX) ? PINT_OK
                                                                          : fail_fds(service, err);
    }
    if (status == PINT_OK && n > 1) { /* host memory */
        /* warm free memory of the pool makes way, as for a smaller budget */
        const uint64_t limit = pinti_memory_budget(service->memory);
        const uint64_t after = pinti_memory_used(service->memory) + bytes;
        if (pinti_memory_committed(service->memory) + bytes > limit) {
            pinti_operation_trim_to(service, limit > after ? limit - after : 0);
        }
    }
    return status;
}
