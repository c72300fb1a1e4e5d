/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Methods on devices and device copies. copy.open finds or makes; making waits twice, for sync
 * memory (an operation, like a create) and for the device's (a broker), and whoever asks meanwhile
 * waits for the same. Repeating a request finds what it made.
 */

#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/service/broker.h"
#include "ipc/service/copies.h"
#include "ipc/service/death.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/operation.h"
#include "pintable/device.h"

#define UUID_DIGITS 32u

/* ---- devices ------------------------------------------------------------------------------- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_uuid(const char *text, uint8_t out[16])
{
    if (strnlen(text, UUID_DIGITS + 1) != UUID_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < 16; i++) {
        const int high = digit_of(text[2 * i]);
        const int low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* What --device-budget says about it. */
static uint64_t budget_of(const pinti_options *options, const uint8_t uuid[16], bool is_cuda)
{
    for (uint32_t i = 0; i < options->n_device_budgets; i++) {
        if (memcmp(options->device_budgets[i].uuid, uuid, 16) == 0) {
            return options->device_budgets[i].bytes;
        }
    }
    return is_cuda ? options->device_bytes : 0;
}

pint_status pinti_method_device_open(pinti_call *call, pint_error *err)
{
    const char *uuid = NULL;
    const char *name = NULL;
    pinti_device_ask ask = {.may_make = !call->connection->session->read_only};
    uint32_t device = 0;
    if (pinti_json_string(call->params, "uuid", &uuid, err) != PINT_OK ||
        pinti_json_bool_or(call->params, "cuda", false, &ask.is_cuda, err) != PINT_OK ||
        pinti_json_string_or(call->params, "name", "", &name, err) != PINT_OK) {
        return PINTI_CALL_BAD_PARAMS;
    }
    if (!read_uuid(uuid, ask.uuid)) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "'uuid' is not 32 hexadecimal digits");
        return PINTI_CALL_BAD_PARAMS;
    }
    (void)pinti_printable(ask.name, sizeof(ask.name), name, strlen(name));
    ask.budget_bytes = budget_of(&call->service->base->options, ask.uuid, ask.is_cuda);
    const pint_status status = pinti_cat_device_open(call->service->cat, &ask, &device, err);
    if (status != PINT_OK) {
        return status;
    }
    return pinti_json_add_u64(call->result, "device", device)
               ? PINT_OK
               : pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
}

/* ---- open ---------------------------------------------------------------------------------- */

/* What there is for a request: a copy that can be answered or waited for, or nothing. */
enum found { FOUND_NOTHING, FOUND_LIVE, FOUND_BUILDING, FOUND_FAILS };

static uint32_t state_of(const pinti_service *service, uint32_t copy)
{
    return pinti_state_of(
        pinti_load64_relaxed(&pinti_cat_copies(service->catalog)[copy].xgen_state)); /* own store */
}

/* *out_status is set with FOUND_FAILS. */
static enum found look(pinti_service *service, const pinti_assembly *assembly, uint32_t *out_copy,
                       pint_status *out_status, pint_error *err)
{
    const pinti_copy_ask *ask = &assembly->copy;
    if (!pinti_cat_copy_find(service->cat, ask, out_copy)) {
        return FOUND_NOTHING;
    }
    if (state_of(service, *out_copy) == PINTI_DYING) {
        pinti_death_rescan(service); /* it may be over */
        if (!pinti_cat_copy_find(service->cat, ask, out_copy)) {
            return FOUND_NOTHING;
        }
        *out_status = pinti_fail(err, PINT_E_BUSY, 0,
                                 "copy.open: the copy that was dropped is still open somewhere");
        return FOUND_FAILS;
    }
    const pinti_copy_rec *rec = &pinti_cat_copies(service->catalog)[*out_copy];
    if (!assembly->any_kind && rec->kind != ask->kind) {
        *out_status = pinti_fail(err, PINT_E_EXISTS, 0,
                                 "copy.open: the column has a copy of the other kind there");
        return FOUND_FAILS;
    }
    return state_of(service, *out_copy) == PINTI_LIVE ? FOUND_LIVE : FOUND_BUILDING;
}

static pint_status wait_for(pinti_service *service, pinti_connection *connection, uint64_t id,
                            uint32_t copy, bool makes)
{
    connection->waits_for_copy = pinti_cat_copies(service->catalog)[copy].id;
    connection->waits_at = copy;
    connection->makes_copy = makes;
    connection->waiting_id = id;
    return PINTI_CALL_LATER;
}

/* FOUND_LIVE: the answer, now. */
static pint_status answer(pinti_call *call, uint32_t copy, pint_error *err)
{
    pinti_copies_mend(call->service, copy);
    if (!pinti_copies_fill(call->service, copy, false, call->result)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    call->reply_fd_plus_1 = pinti_copies_fd(call->service, copy) + 1;
    return PINT_OK;
}

pint_status pinti_copy_finish(pinti_service *service, const pinti_operation *operation,
                              cJSON *result, bool *out_used, pint_error *err)
{
    const pinti_copy_ask *ask = &operation->assembly.copy;
    uint32_t copy = 0;
    (void)result; /* the answer comes later in any case, with a descriptor */
    pint_status status = pinti_cat_copy_check(service->cat, ask, err);
    if (status != PINT_OK) {
        return status;
    }
    /* somebody else may have made it meanwhile */
    const enum found found = look(service, &operation->assembly, &copy, &status, err);
    if (found == FOUND_FAILS) {
        return status;
    }
    const bool makes = found == FOUND_NOTHING;
    if (makes) {
        status = pinti_copies_make_room(service, ask, err);
        if (status == PINT_OK) {
            status = pinti_cat_copy_create(service->cat, ask, &operation->sync, &copy, err);
        }
        if (status != PINT_OK) {
            return status;
        }
        *out_used = true;
    }
    pinti_brokers_wake(service);
    return wait_for(service, operation->connection, operation->id, copy, makes);
}

static pint_status read_ask(const pinti_call *call, pinti_assembly *assembly, bool *out_create,
                            pint_error *err)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    uint64_t column = 0;
    uint64_t device = 0;
    uint64_t kind = 0;
    const pinti_session *session = call->connection->session;
    pint_status status = PINT_OK;
    if ((status = pinti_json_u64(call->params, "table", PINTI_TABLES_MAX - 1, &table, err)) !=
            PINT_OK ||
        (status = pinti_json_u64(call->params, "generation", UINT32_MAX, &generation, err)) !=
            PINT_OK ||
        (status = pinti_json_u64(call->params, "column", UINT32_MAX, &column, err)) != PINT_OK ||
        (status = pinti_json_u64(call->params, "device", UINT32_MAX, &device, err)) != PINT_OK ||
        (status = pinti_json_u64_or(call->params, "kind", UINT32_MAX, 0, &kind, err)) != PINT_OK ||
        (status = pinti_json_bool_or(call->params, "create", false, out_create, err)) != PINT_OK) {
        return pinti_call_refuse(status);
    }
    assembly->kind = PINTI_ASSEMBLY_COPY;
    assembly->any_kind = kind == 0;
    assembly->copy = (pinti_copy_ask){.table = (uint32_t)table,
                                      .generation = (uint32_t)generation,
                                      .column = (uint32_t)column,
                                      .device = (uint32_t)device,
                                      .kind = kind == 0 ? PINT_COPY_VMM : (uint32_t)kind,
                                      .uid = session->uid,
                                      .session = session->id};
    return PINT_OK;
}

pint_status pinti_method_copy_open(pinti_call *call, pint_error *err)
{
    pinti_service *service = call->service;
    pinti_connection *connection = call->connection;
    pinti_assembly *assembly = &connection->assembly;
    bool create = false;
    uint32_t copy = 0;
    pinti_assembly_clear(service, connection); /* one that was not finished is gone */
    pint_status status = read_ask(call, assembly, &create, err);
    if (status == PINT_OK) {
        status = pinti_cat_copy_check(service->cat, &assembly->copy, err);
    }
    const enum found found =
        status == PINT_OK ? look(service, assembly, &copy, &status, err) : FOUND_FAILS;
    switch (found) {
    case FOUND_LIVE:
        status = answer(call, copy, err);
        break;
    case FOUND_BUILDING:
        status = wait_for(service, connection, call->id, copy, false);
        break;
    case FOUND_NOTHING:
        if (create) {
            const uint64_t bytes = pinti_cat_copy_sync_bytes(service->cat, &assembly->copy);
            return pinti_operation_create(service, connection, call->id, 0, bytes, call->result,
                                          err);
        }
        status = pinti_fail(err, PINT_E_NOT_FOUND, 0, "copy.open: the column has no copy there");
        break;
    case FOUND_FAILS:
        break;
    }
    pinti_assembly_clear(service, connection);
    return status;
}

/* ---- drop ---------------------------------------------------------------------------------- */

pint_status pinti_method_copy_drop(pinti_call *call, pint_error *err)
{
    pinti_service *service = call->service;
    uint64_t copy = 0;
    uint64_t generation = 0;
    bool force = false;
    pint_status status = PINT_OK;
    if ((status = pinti_json_u64(call->params, "copy", UINT32_MAX, &copy, err)) != PINT_OK ||
        (status = pinti_json_u64(call->params, "generation", UINT32_MAX, &generation, err)) !=
            PINT_OK ||
        (status = pinti_json_bool_or(call->params, "force", false, &force, err)) != PINT_OK) {
        return pinti_call_refuse(status);
    }
    if (!pinti_cat_has_copy(service->cat, (uint32_t)copy, (uint32_t)generation) ||
        state_of(service, (uint32_t)copy) == PINTI_DYING) {
        return PINT_OK; /* it is gone, as was asked */
    }
    const pinti_copy_rec *rec = &pinti_cat_copies(service->catalog)[copy];
    const pinti_table_rec *of = &pinti_cat_tables(service->catalog)[rec->table];
    const uint32_t uid = call->connection->uid;
    if (rec->uid != uid && of->uid != uid && !call->connection->is_admin) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "copy.drop: it belongs to uid %u", rec->uid);
    }
    if (force) {
        pinti_copies_kill(service, (uint32_t)copy);
    } else {
        status = pinti_copies_drop(service, (uint32_t)copy, err);
    }
    if (status == PINT_OK) {
        pinti_death_rescan(service);
    }
    return status;
}
