/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests about device copies, and references on them. Repeating one after a lost connection does
 * no harm: a copy that is there is found, one that is gone is gone.
 *
 * Opening: the answer names a copy; then the slot notes a reference; then the record is looked at
 * again. If it is LIVE still, the service sees the reference before it frees anything (R11). While
 * it is CLOSING, that is waited for. If it is neither, the copy was dropped or evicted in between:
 * the question is asked again.
 */

#include "ipc/copies.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"
#include "host/wait.h"
#include "host/word.h"
#include "ipc/connect.h"
#include "ipc/json.h"
#include "ipc/pool_ops.h"
#include "pintable/device.h"

#define OPEN_MS         120000 /* a broker's first allocation starts the driver */
#define TRIES_MAX       64u    /* of copies that are evicted as soon as they are made */
#define BUSY_MS         2000   /* for sessions that are closing the copy that was dropped */
#define BUSY_PAUSE_MS   5
#define DEVICE_NAME_MAX 31u

/* ---- devices --------------------------------------------------------------------------------- */

static pint_status fail_memory(const char *what, pint_error *err)
{
    return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%s: request", what);
}

static pint_status fail_result(const char *what, pint_error *err)
{
    return pinti_fail(err, PINT_E_PROTOCOL, 0, "%s: the service sent a result that is none", what);
}

static cJSON *device_params(const uint8_t uuid[16], bool is_cuda, const char *name)
{
    char digits[33];
    char text[DEVICE_NAME_MAX + 1];
    for (size_t i = 0; i < 16; i++) {
        (void)snprintf(digits + 2 * i, 3, "%02x", uuid[i]);
    }
    (void)pinti_printable(text, sizeof(text), name, strlen(name));
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && cJSON_AddStringToObject(params, "uuid", digits) != NULL &&
        cJSON_AddBoolToObject(params, "cuda", is_cuda) != NULL &&
        cJSON_AddStringToObject(params, "name", text) != NULL) {
        return params;
    }
    cJSON_Delete(params);
    return NULL;
}

pint_status pinti_request_device(pint_pool *pool, const uint8_t uuid[16], bool is_cuda,
                                 const char *name, uint32_t *out_device, pint_error *err)
{
    static const char *const keys[] = {"device"};
    uint64_t device = 0;
    pint_status status = pinti_pool_enter(pool, err);
    if (status != PINT_OK) {
        return status;
    }
    cJSON *params = device_params(uuid, is_cuda, name);
    cJSON *result = NULL;
    status = params == NULL ? fail_memory("device", err)
                            : pinti_client_request(pinti_client_of(pool), "device.open", params,
                                                   PINTI_REQUEST_MS, &result, err);
    if (status == PINT_OK &&
        (pinti_json_only(result, keys, 1, NULL) != PINT_OK ||
         pinti_json_u64(result, "device", PINTI_DEVICES_MAX - 1, &device, NULL) != PINT_OK)) {
        status = fail_result("device", err);
    }
    cJSON_Delete(params);
    cJSON_Delete(result);
    if (status == PINT_OK) {
        *out_device = (uint32_t)device;
    }
    return status;
}

/* ---- looking --------------------------------------------------------------------------------- */

static uint64_t record_state(const pint_pool *pool, uint32_t index)
{
    /* seq: after the slot's word, as the service stores DYING before it reads slots (R11) */
    return pinti_load64_seq(&pinti_cat_copies(pool->catalog)[index].xgen_state);
}

bool pinti_copy_is_dropped(const pint_pool *pool, uint32_t index, uint32_t generation)
{
    if (index >= PINTI_COPIES_MAX) {
        return true;
    }
    const uint64_t state = record_state(pool, index);
    return pinti_gen_of(state) != generation ||
           (pinti_state_of(state) != PINTI_LIVE && pinti_state_of(state) != PINTI_CLOSING);
}

bool pinti_copy_find(const pint_column *column, uint32_t device, uint32_t *out_index,
                     uint32_t *out_generation)
{
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_rec *rec = pinti_column_desc_of(column)->rec;
    if (device >= PINTI_DEVICES_MAX) {
        return false;
    }
    /* acquire: pairs with the service's release store; the record is complete */
    const uint32_t name = pinti_load32_acquire(&rec->xcopy[device]);
    if (name == 0 || name > PINTI_COPIES_MAX) {
        return false;
    }
    const pinti_copy_rec *copy = &pinti_cat_copies(table->pool->catalog)[name - 1];
    const uint64_t state = record_state(table->pool, name - 1);
    /* CLOSING, too: it is there unless the service decides otherwise. The index may be another
     * copy's by now. */
    if ((pinti_state_of(state) != PINTI_LIVE && pinti_state_of(state) != PINTI_CLOSING) ||
        copy->table != table->index || copy->table_generation != table->generation ||
        copy->column != column->index || copy->device != device ||
        pinti_gen_of(record_state(table->pool, name - 1)) != pinti_gen_of(state)) {
        return false;
    }
    *out_index = name - 1;
    *out_generation = pinti_gen_of(state);
    return true;
}

/* ---- open ------------------------------------------------------------------------------------ */

typedef struct opening {
    const pint_column *column;
    uint32_t device;
    uint32_t kind;
    bool may_create;
} opening;

static pint_status make_open(void *context, uint64_t request, unsigned part, char **out_params,
                             bool *out_more, pint_error *err)
{
    const opening *open = context;
    const pinti_table_desc *table = open->column->table->desc;
    (void)request;
    (void)part;
    *out_more = false;
    *out_params = NULL;
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && pinti_json_add_u64(params, "table", table->index) &&
        pinti_json_add_u64(params, "generation", table->generation) &&
        pinti_json_add_u64(params, "column", open->column->index) &&
        pinti_json_add_u64(params, "device", open->device) &&
        pinti_json_add_u64(params, "kind", open->kind) &&
        cJSON_AddBoolToObject(params, "create", open->may_create) != NULL) {
        *out_params = cJSON_PrintUnformatted(params);
    }
    cJSON_Delete(params);
    return *out_params != NULL ? PINT_OK : fail_memory("copy", err);
}

/* Takes result and *fd apart. */
static pint_status take_opened(cJSON *result, int fd, pinti_opened_copy *out, pint_error *err)
{
    static const char *const keys[] = {"copy", "generation", "kind", "created"};
    uint64_t index = 0;
    uint64_t generation = 0;
    uint64_t kind = 0;
    bool created = false;
    const bool good =
        pinti_json_only(result, keys, 4, NULL) == PINT_OK &&
        pinti_json_u64(result, "copy", PINTI_COPIES_MAX - 1, &index, NULL) == PINT_OK &&
        pinti_json_u64(result, "generation", UINT32_MAX, &generation, NULL) == PINT_OK &&
        pinti_json_u64(result, "kind", PINT_COPY_IPC, &kind, NULL) == PINT_OK &&
        pinti_json_bool_or(result, "created", false, &created, NULL) == PINT_OK &&
        generation != 0 && (kind == PINT_COPY_VMM) == (fd >= 0) && kind != 0;
    cJSON_Delete(result);
    if (!good) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return fail_result("copy", err);
    }
    *out = (pinti_opened_copy){
        .index = (uint32_t)index, .generation = (uint32_t)generation, .created = created, .fd = fd};
    return PINT_OK;
}

/* A copy whose record is looked at until it is not CLOSING. */
typedef struct settling {
    const pint_pool *pool;
    uint32_t index;
    uint32_t generation;
    bool is_live;
} settling;

static bool is_settled(void *context)
{
    settling *s = context;
    const uint64_t state = record_state(s->pool, s->index);
    const bool is_same = pinti_gen_of(state) == s->generation;
    s->is_live = is_same && pinti_state_of(state) == PINTI_LIVE;
    return !is_same || pinti_state_of(state) != PINTI_CLOSING;
}

/* Refer to the copy; *out_adopted false, with nothing held, when it is gone already. Between the
 * reference and LIVE nothing may be done in the copy. */
static pint_status adopt(const pinti_table_desc *table, const pinti_opened_copy *copy,
                         bool *out_adopted, pint_error *err)
{
    pint_pool *pool = table->pool;
    pinti_a64 *refs = pinti_slot_copies(pool->slot);
    settling s = {.pool = pool, .index = copy->index, .generation = copy->generation};
    *out_adopted = false;
    if (!pinti_ref_take_patiently(refs, copy->index, copy->generation)) {
        return PINT_OK;
    }
    const pint_status status =
        is_settled(&s) ? PINT_OK
                       : pinti_wait(pool, table->bell, is_settled, &s, OPEN_MS, true, "copy", err);
    if (status == PINT_OK && s.is_live) {
        *out_adopted = true;
    } else {
        (void)pinti_ref_drop(refs, copy->index, copy->generation);
    }
    return status;
}

static pint_status ask_once(const opening *open, pinti_opened_copy *out, pint_error *err)
{
    int fd = -1;
    const pinti_exchange exchange = {.method = "copy.open",
                                     .make = make_open,
                                     .context = (void *)open, /* only read */
                                     .timeout_ms = OPEN_MS,
                                     .out_fd = &fd};
    cJSON *result = NULL;
    const pint_status status = pinti_client_call(pinti_client_of(open->column->table->desc->pool),
                                                 &exchange, &result, err);
    return status == PINT_OK ? take_opened(result, fd, out, err) : status;
}

pint_status pinti_request_copy(const pint_column *column, uint32_t device, uint32_t kind,
                               bool may_create, pinti_opened_copy *out_copy, pint_error *err)
{
    pint_pool *pool = column->table->desc->pool;
    const opening open = {
        .column = column, .device = device, .kind = kind, .may_create = may_create};
    const int64_t busy_until_ms = pinti_clock_ms() + BUSY_MS;
    bool was_created = false;
    pint_status status = pinti_pool_enter(pool, err);
    if (status == PINT_OK && !pool->writable) {
        status = pinti_fail(err, PINT_E_PERMISSION, 0, "copy: the pool was joined read-only");
    }
    for (unsigned n = 0; status == PINT_OK && n < TRIES_MAX;) {
        pinti_opened_copy copy;
        pint_error inner;
        status = ask_once(&open, &copy, &inner);
        if (status == PINT_E_BUSY && pinti_left_ms(busy_until_ms) > 0) {
            if (!pinti_pause_ms(BUSY_PAUSE_MS, busy_until_ms)) {
                return pinti_fail_interrupted("copy", err);
            }
            status = PINT_OK;
            continue;
        }
        if (status != PINT_OK) {
            if (err != NULL) {
                *err = inner;
            }
            return status;
        }
        was_created = was_created || copy.created;
        bool is_adopted = false;
        if (pinti_pool_is_stale(pool)) {
            status = pinti_fail(err, PINT_E_STALE, 0,
                                "copy: the pool was replaced: leave it and join again");
        } else {
            status = adopt(column->table->desc, &copy, &is_adopted, err);
        }
        if (is_adopted) {
            copy.created = was_created;
            *out_copy = copy;
            return PINT_OK;
        }
        if (copy.fd >= 0) {
            (void)close(copy.fd);
        }
        n++;
    }
    return status != PINT_OK
               ? status
               : pinti_fail(err, PINT_E_QUOTA, 0, "copy: evicted %u times before it could be used",
                            TRIES_MAX);
}

void pinti_copy_release(pint_pool *pool, uint32_t index, uint32_t generation)
{
    /* relaxed, acquire: as in pinti_pool_enter(); a forked child has no such slot, or a new one */
    if (pinti_load64_relaxed(pinti_fork_word) != pinti_load64_acquire(&pool->fork_word) ||
        !pinti_ref_drop(pinti_slot_copies(pool->slot), index, generation)) {
        return;
    }
    if (pinti_copy_is_dropped(pool, index, generation)) {
        (void)pinti_client_post(pinti_client_of(pool), "table.closed", NULL);
    }
}

/* ---- drop ------------------------------------------------------------------------------------ */

static pint_status drop(pint_pool *pool, uint32_t index, uint32_t generation, bool force,
                        pint_error *err)
{
    pint_status status = pinti_pool_enter(pool, err);
    if (status == PINT_OK && !pool->writable) {
        status = pinti_fail(err, PINT_E_PERMISSION, 0, "drop copy: the pool was joined read-only");
    }
    if (status != PINT_OK) {
        return status;
    }
    cJSON *params = cJSON_CreateObject();
    if (params == NULL || !pinti_json_add_u64(params, "copy", index) ||
        !pinti_json_add_u64(params, "generation", generation) ||
        cJSON_AddBoolToObject(params, "force", force) == NULL) {
        cJSON_Delete(params);
        return fail_memory("drop copy", err);
    }
    status = pinti_client_request(pinti_client_of(pool), "copy.drop", params, PINTI_REQUEST_MS,
                                  NULL, err);
    cJSON_Delete(params);
    return status;
}

pint_status pinti_request_copy_drop(pint_pool *pool, uint32_t index, uint32_t generation,
                                    pint_error *err)
{
    return drop(pool, index, generation, false, err);
}

pint_status pinti_request_copy_discard(pint_pool *pool, uint32_t index, uint32_t generation,
                                       pint_error *err)
{
    return drop(pool, index, generation, true, err);
}
