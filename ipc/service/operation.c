/* SPDX-License-Identifier: Apache-2.0 */

/*
 * take -> preparer -> record -> reply. The preparer does one plan after another; several creates
 * may be in its queue. Housekeeping (zeroing freed memory, handing free memory back) is in the same
 * queue in small pieces, one at a time, and only when no create waits.
 */

#include "ipc/service/operation.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "host/error.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/log.h"

#define TOKEN_CLEAN        1u
#define TOKEN_TRIM         2u
#define TOKEN_FIRST        3u /* of creates */
#define CLEAN_BYTES        (64ull << 20)
#define CLEAN_AFTER_MS     100u
#define RECOVER_ROUNDS_MAX 100000u
#define ZERO_BY_CLIENT     (256ull << 10) /* asking the preparer takes longer than zeroing so much */
#define ZERO_BY_SERVICE    (64ull << 10)  /* of sync, which the service maps */

/* ---- start and stop ------------------------------------------------------------------------ */

/* What the last incarnation may have left half prepared. */
static void recover_memory(pinti_service *service)
{
    pinti_plan plan;
    for (uint32_t i = 0;
         i < RECOVER_ROUNDS_MAX && pinti_memory_plan_recover(service->memory, &plan); i++) {
        pint_error err;
        const pint_status status = pinti_preparer_do(service->preparer, &plan, &err);
        pinti_memory_prepared(service->memory, &plan, status == PINT_OK);
        if (status != PINT_OK) {
            pinti_log("memory left by the last incarnation: %s", err.message);
            return;
        }
    }
}

pint_status pinti_operations_start(pinti_service *service, pint_error *err)
{
    const pinti_segments *segments = &service->base->segments;
    const pinti_features *features = &service->base->features;
    uint32_t flags = 0;
    flags |= features->collapse ? 0 : PINTI_PREPARER_NO_COLLAPSE;
    flags |= features->populate ? 0 : PINTI_PREPARER_NO_POPULATE;
    const pint_status status =
        pinti_preparer_start(segments->data_fd, segments->data_bytes, segments->sync_fd,
                             segments->sync_bytes, flags, &service->preparer, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_memory_on_pinned(service->memory, pinti_session_pins, service);
    if (service->incarnation > 1) {
        recover_memory(service);
    }
    if (!pinti_service_watch(service, pinti_preparer_fd(service->preparer), EPOLLIN,
                             &service->preparer_source)) {
        return pinti_fail(err, PINT_E_SYSTEM, 0, "epoll does not take the preparer");
    }
    return PINT_OK;
}

static void free_operation(pinti_service *service, pinti_operation *operation)
{
    service->schema_bytes -= operation->assembly.charged_bytes;
    free(operation->assembly.schema.columns);
    free(operation->assembly.uses);
    free(operation);
}

void pinti_operations_stop(pinti_service *service)
{
    pinti_preparer_stop(service->preparer);
    service->preparer = NULL;
    while (service->first_operation != NULL) {
        pinti_operation *next = service->first_operation->next;
        free_operation(service, service->first_operation);
        service->first_operation = next;
    }
}

void pinti_operations_forget(pinti_service *service)
{
    pinti_preparer_abandon(service->preparer);
    service->preparer = NULL;
}

/* ---- creates ------------------------------------------------------------------------------- */

void pinti_operation_orphan(pinti_operation *operation)
{
    operation->connection = NULL;
}

static pint_status make(pinti_service *service, const pinti_operation *operation, cJSON *result,
                        pint_error *err)
{
    bool used = false;
    pint_status status = PINT_OK;
    if (operation->assembly.kind == PINTI_ASSEMBLY_TABLE) {
        status = pinti_table_finish(service, operation, result, &used, err);
    } else if (operation->assembly.kind == PINTI_ASSEMBLY_JOB) {
        status = pinti_job_finish(service, operation, result, &used, err);
    } else {
        status = pinti_copy_finish(service, operation, result, &used, err);
    }
    if (!used) {
        pinti_memory_give(service->memory, operation->data, operation->sync, operation->owner.uid);
        pinti_operation_memory_freed(service);
    }
    return status;
}

static void append(pinti_service *service, pinti_operation *operation)
{
    operation->next = NULL;
    if (service->first_operation == NULL) {
        service->first_operation = operation;
    } else {
        service->last_operation->next = operation;
    }
    service->last_operation = operation;
}

static void unlink_operation(pinti_service *service, const pinti_operation *operation)
{
    pinti_operation *prev = NULL;
    for (pinti_operation *o = service->first_operation; o != NULL; prev = o, o = o->next) {
        if (o == operation) {
            *(prev != NULL ? &prev->next : &service->first_operation) = o->next;
            if (service->last_operation == o) {
                service->last_operation = prev;
            }
            return;
        }
    }
}

/* Memory is charged and taken; have it prepared. */
static pint_status submit(pinti_service *service, pinti_operation *operation,
                          const pinti_plan *plan, pint_error *err)
{
    operation->token = TOKEN_FIRST + service->n_submitted++;
    const pint_status status =
        pinti_preparer_submit(service->preparer, plan, operation->token, err);
    if (status != PINT_OK) {
        pinti_memory_prepared(service->memory, plan, false);
        pinti_memory_give(service->memory, operation->data, operation->sync, operation->owner.uid);
        return status;
    }
    append(service, operation);
    operation->connection->operation = operation;
    return PINTI_CALL_LATER;
}

/*
 * A plan that only zeroes a little committed memory is not worth a round trip to the preparer: the
 * service zeroes what is in sync, the library that asked zeroes the data before it returns from its
 * create (it maps them, and is about to write there). If it dies first, the table was never seen,
 * and its memory is dirty again. Leaves the plan empty.
 */
static void zero_without_preparer(pinti_service *service, pinti_operation *operation,
                                  pinti_plan *plan)
{
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        if (plan->work[i].kind != PINTI_WORK_ZERO) {
            return;
        }
        *(plan->work[i].sync ? &sync_bytes : &data_bytes) += plan->work[i].range.bytes;
    }
    if (plan->n == 0 || data_bytes > ZERO_BY_CLIENT || sync_bytes > ZERO_BY_SERVICE) {
        return;
    }
    for (uint32_t i = 0; i < plan->n; i++) {
        if (plan->work[i].sync) {
            memset(service->sync + plan->work[i].range.off, 0, plan->work[i].range.bytes);
        }
    }
    operation->client_zeroes = data_bytes != 0;
    pinti_memory_prepared(service->memory, plan, true);
    plan->n = 0;
}

static void postpone_trim(pinti_service *service)
{
    const uint64_t idle_s = service->base->options.idle_trim_s;
    service->trim_keep_bytes = 0;
    service->due_ms[PINTI_TIMER_TRIM] = idle_s == 0 ? 0 : pinti_clock_ms() + idle_s * 1000u;
}

pint_status pinti_operation_create(pinti_service *service, pinti_connection *connection,
                                   uint64_t id, uint64_t data_bytes, uint64_t sync_bytes,
                                   cJSON *result, pint_error *err)
{
    pinti_operation *operation = calloc(1, sizeof(*operation));
    if (operation == NULL) {
        pinti_assembly_clear(service, connection);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "create");
    }
    operation->connection = connection;
    operation->session = connection->session->id;
    operation->id = id;
    operation->owner = (pinti_owner){.session = connection->session->id,
                                     .request = connection->assembly.request,
                                     .family = connection->session->family,
                                     .uid = connection->session->uid,
                                     .gid = connection->session->gid};
    operation->assembly = connection->assembly;
    memset(&connection->assembly, 0, sizeof(connection->assembly));

    const bool zeroed = operation->assembly.kind == PINTI_ASSEMBLY_TABLE &&
                        (operation->assembly.schema.flags & PINT_UNINITIALISED) == 0;
    pinti_plan plan;
    pint_status status =
        pinti_memory_take(service->memory, data_bytes, sync_bytes, zeroed, operation->owner.uid,
                          &operation->data, &operation->sync, &plan, err);
    if (status == PINT_OK) {
        postpone_trim(service);
        zero_without_preparer(service, operation, &plan);
        if (plan.n != 0) {
            status = submit(service, operation, &plan, err);
            if (status == PINTI_CALL_LATER) {
                return status;
            }
        } else {
            status = make(service, operation, result, err); /* a copy may still wait for a device */
        }
    }
    free_operation(service, operation);
    return status;
}

static void finish(pinti_service *service, pinti_operation *operation, pint_status status,
                   pint_error *err)
{
    unlink_operation(service, operation);
    pinti_connection *connection = operation->connection;
    const bool wanted = connection != NULL && connection->session != NULL &&
                        connection->session->id == operation->session;
    cJSON *result = NULL;
    if (status == PINT_OK && wanted) {
        result = cJSON_CreateObject();
        status = result == NULL ? pinti_fail(err, PINT_E_NO_MEMORY, 0, "create") : PINT_OK;
        if (status == PINT_OK) {
            status = make(service, operation, result, err);
        } else {
            pinti_memory_give(service->memory, operation->data, operation->sync,
                              operation->owner.uid);
        }
    } else {
        pinti_memory_give(service->memory, operation->data, operation->sync, operation->owner.uid);
        pinti_operation_memory_freed(service);
    }
    if (status == PINTI_CALL_LATER) {
        connection->operation = NULL; /* it is wanted, and stays busy */
    } else if (connection != NULL) {
        pinti_connection_resume(service, connection);
        if (status == PINT_OK && wanted) {
            pinti_connection_reply(service, connection, operation->id, result, false);
            result = NULL;
        } else {
            pinti_connection_fail(service, connection, operation->id,
                                  status == PINT_OK ? PINT_E_STATE : status,
                                  status == PINT_OK ? "the session has ended" : err->message);
        }
    }
    cJSON_Delete(result);
    free_operation(service, operation);
}

/* ---- what the preparer has done ------------------------------------------------------------ */

static void housekeeping_done(pinti_service *service, uint64_t token, pint_status status)
{
    service->housekeeping = false;
    if (status != PINT_OK) {
        return; /* there will be another occasion */
    }
    if (token == TOKEN_CLEAN) {
        pinti_service_in(service, PINTI_TIMER_CLEAN, 0);
    } else {
        pinti_service_in(service, PINTI_TIMER_TRIM, 0);
    }
}

void pinti_operation_ready(pinti_service *service)
{
    pinti_prepared prepared;
    while (pinti_preparer_complete(service->preparer, &prepared)) {
        pint_error err = {.status = PINT_OK};
        pinti_memory_prepared(service->memory, prepared.plan, prepared.status == PINT_OK);
        if (prepared.token == TOKEN_CLEAN || prepared.token == TOKEN_TRIM) {
            housekeeping_done(service, prepared.token, prepared.status);
            continue;
        }
        if (prepared.status != PINT_OK) {
            (void)pinti_fail(&err, prepared.status, prepared.sys_errno,
                             "the machine refused the memory");
        }
        pinti_operation *operation = service->first_operation;
        while (operation != NULL && operation->token != prepared.token) {
            operation = operation->next;
        }
        if (operation != NULL) {
            finish(service, operation, prepared.status, &err);
        }
    }
}

/* ---- idle time ----------------------------------------------------------------------------- */

void pinti_operation_memory_freed(pinti_service *service)
{
    pinti_service_in(service, PINTI_TIMER_CLEAN, CLEAN_AFTER_MS);
    postpone_trim(service);
}

void pinti_operation_trim_to(pinti_service *service, uint64_t keep_bytes)
{
    service->trim_keep_bytes = keep_bytes;
    pinti_service_in(service, PINTI_TIMER_TRIM, 0);
}

static void start_housekeeping(pinti_service *service, const pinti_plan *plan, uint64_t token)
{
    pint_error err;
    if (pinti_preparer_submit(service->preparer, plan, token, &err) == PINT_OK) {
        service->housekeeping = true;
    } else {
        pinti_memory_prepared(service->memory, plan, false);
    }
}

void pinti_operation_clean_due(pinti_service *service)
{
    if (service->housekeeping || service->first_operation != NULL) {
        pinti_service_in(service, PINTI_TIMER_CLEAN, CLEAN_AFTER_MS);
        return;
    }
    pinti_plan plan;
    if (pinti_memory_plan_clean(service->memory, CLEAN_BYTES, &plan)) {
        start_housekeeping(service, &plan, TOKEN_CLEAN);
    }
}

void pinti_operation_trim_due(pinti_service *service)
{
    if (service->housekeeping || service->first_operation != NULL) {
        pinti_service_in(service, PINTI_TIMER_TRIM, CLEAN_AFTER_MS);
        return;
    }
    pinti_plan plan;
    if (pinti_memory_plan_trim(service->memory, service->trim_keep_bytes, &plan)) {
        start_housekeeping(service, &plan, TOKEN_TRIM);
    }
}
