/* SPDX-License-Identifier: Apache-2.0 */

/* Methods on jobs. A job is created or joined: repeating a request joins what it made. */

#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/service/death.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/operation.h"

#define USES_MAX PINTI_TABLE_COLUMNS_MAX

static pint_status fill_job(cJSON *result, uint32_t job, uint32_t generation, bool created,
                            pint_error *err)
{
    if (!pinti_json_add_u64(result, "job", job) ||
        !pinti_json_add_u64(result, "generation", generation) ||
        cJSON_AddBoolToObject(result, "created", created) == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    return PINT_OK;
}

static const char *job_name(const pinti_assembly *assembly)
{
    return assembly->unnamed ? NULL : assembly->name;
}

static pint_status grow_uses(pinti_service *service, pinti_assembly *assembly, uint32_t n,
                             pint_error *err)
{
    const uint64_t wanted = (uint64_t)assembly->n_uses + n;
    if (wanted > USES_MAX) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "%llu column uses, the limit is %u",
                          (unsigned long long)wanted, USES_MAX);
    }
    if (wanted <= assembly->uses_room) {
        return PINT_OK;
    }
    const uint32_t room = (uint32_t)wanted + assembly->uses_room;
    uint32_t *grown = realloc(assembly->uses, room * sizeof(*grown));
    if (grown == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%u column uses", room);
    }
    service->schema_bytes += (room - assembly->uses_room) * sizeof(*grown);
    assembly->charged_bytes += (room - assembly->uses_room) * sizeof(*grown);
    assembly->uses = grown;
    assembly->uses_room = room;
    return PINT_OK;
}

static pint_status add_uses(pinti_call *call, pint_error *err)
{
    pinti_assembly *assembly = &call->connection->assembly;
    const cJSON *uses = NULL;
    pint_status status = pinti_json_array(call->params, "uses", &uses, err);
    if (status == PINT_OK) {
        status = grow_uses(call->service, assembly, (uint32_t)cJSON_GetArraySize(uses), err);
    }
    const cJSON *item = uses != NULL ? uses->child : NULL;
    for (; item != NULL && status == PINT_OK; item = item->next) {
        const double value = cJSON_IsNumber(item) ? item->valuedouble : -1.0;
        /* written so that NaN fails */
        if (!(value >= 0.0 && value <= (double)UINT32_MAX)) {
            return pinti_fail(err, PINT_E_INVALID, 0, "'uses' holds something that is no use");
        }
        const uint32_t use = (uint32_t)value;
        if ((double)use < value) {
            return pinti_fail(err, PINT_E_INVALID, 0, "'uses' holds something that is no use");
        }
        assembly->uses[assembly->n_uses++] = use;
    }
    return status;
}

pint_status pinti_job_finish(pinti_service *service, const pinti_operation *operation,
                             cJSON *result, bool *out_used, pint_error *err)
{
    const pinti_assembly *assembly = &operation->assembly;
    uint32_t job = 0;
    uint32_t generation = 0;
    /* somebody else may have made it meanwhile */
    pint_status status =
        pinti_cat_job_find(service->cat, assembly->table, assembly->generation, job_name(assembly),
                           assembly->uses, assembly->n_uses, &job, &generation, err);
    if (status == PINT_OK) {
        return fill_job(result, job, generation, false, err);
    }
    if (status != PINT_E_NOT_FOUND) {
        return status;
    }
    status = pinti_cat_job_create(service->cat, assembly->table, assembly->generation,
                                  job_name(assembly), assembly->uses, assembly->n_uses,
                                  assembly->n_undo, &operation->owner, &operation->data,
                                  &operation->sync, &job, &generation, err);
    if (status != PINT_OK) {
        return status;
    }
    *out_used = true;
    return fill_job(result, job, generation, true, err);
}

static pint_status create_assembled(pinti_call *call, pint_error *err)
{
    pinti_service *service = call->service;
    pinti_connection *connection = call->connection;
    pinti_assembly *assembly = &connection->assembly;
    uint32_t job = 0;
    uint32_t generation = 0;
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    pint_status status =
        pinti_cat_job_find(service->cat, assembly->table, assembly->generation, job_name(assembly),
                           assembly->uses, assembly->n_uses, &job, &generation, err);
    if (status == PINT_OK) {
        pinti_assembly_clear(service, connection);
        return fill_job(call->result, job, generation, false, err);
    }
    if (status == PINT_E_NOT_FOUND && assembly->n_uses > 0) {
        status = pinti_cat_job_measure(service->cat, assembly->table, assembly->generation,
                                       assembly->uses, assembly->n_uses, assembly->n_undo,
                                       &data_bytes, &sync_bytes, err);
    }
    if (status != PINT_OK) {
        pinti_assembly_clear(service, connection);
        return status;
    }
    return pinti_operation_create(service, connection, call->id, data_bytes, sync_bytes,
                                  call->result, err);
}

static pint_status assemble(pinti_call *call, pint_error *err)
{
    bool more = false;
    pint_status status = pinti_json_bool_or(call->params, "more", false, &more, err);
    if (status == PINT_OK) {
        status = add_uses(call, err);
    }
    if (status != PINT_OK) {
        pinti_assembly_clear(call->service, call->connection);
        return pinti_call_refuse(status);
    }
    return more ? PINT_OK : create_assembled(call, err);
}

static pint_status read_name(const pinti_call *call, pinti_assembly *assembly, pint_error *err)
{
    const char *name = NULL;
    assembly->unnamed = !pinti_call_has(call, "name");
    if (assembly->unnamed) {
        return PINT_OK;
    }
    const pint_status status = pinti_json_string(call->params, "name", &name, err);
    if (status != PINT_OK) {
        return status;
    }
    const size_t bytes = strlen(name);
    if (!pinti_name_is_valid(name, bytes)) {
        char part[48];
        return pinti_fail(err, PINT_E_INVALID, 0, "'%s' (%zu bytes) is no name for a job",
                          pinti_printable(part, sizeof(part), name, bytes), bytes);
    }
    memcpy(assembly->name, name, bytes + 1);
    return PINT_OK;
}

pint_status pinti_method_job_create(pinti_call *call, pint_error *err)
{
    pinti_assembly *assembly = &call->connection->assembly;
    uint64_t table = 0;
    uint64_t generation = 0;
    uint64_t undo = 0;
    pinti_assembly_clear(call->service, call->connection); /* one that was not finished is gone */
    assembly->kind = PINTI_ASSEMBLY_JOB;
    pint_status status =
        pinti_json_u64(call->params, "request", UINT64_MAX, &assembly->request, err);
    if (status != PINT_OK ||
        (status = pinti_json_u64(call->params, "table", UINT32_MAX, &table, err)) != PINT_OK ||
        (status = pinti_json_u64(call->params, "generation", UINT32_MAX, &generation, err)) !=
            PINT_OK ||
        (status = pinti_json_u64_or(call->params, "undo", PINTI_JOB_UNDO_MAX, 0, &undo, err)) !=
            PINT_OK ||
        (status = read_name(call, assembly, err)) != PINT_OK) {
        pinti_assembly_clear(call->service, call->connection);
        return pinti_call_refuse(status);
    }
    assembly->table = (uint32_t)table;
    assembly->generation = (uint32_t)generation;
    assembly->n_undo = (uint32_t)undo;
    return assemble(call, err);
}

pint_status pinti_method_job_uses(pinti_call *call, pint_error *err)
{
    if (call->connection->assembly.kind != PINTI_ASSEMBLY_JOB) {
        return pinti_fail(err, PINT_E_STATE, 0, "job.uses: no job.create is in progress");
    }
    return assemble(call, err);
}

pint_status pinti_method_job_drop(pinti_call *call, pint_error *err)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    const char *name = NULL;
    uint32_t job = 0;
    uint32_t job_generation = 0;
    pint_status status = pinti_json_u64(call->params, "table", UINT32_MAX, &table, err);
    if (status != PINT_OK ||
        (status = pinti_json_u64(call->params, "generation", UINT32_MAX, &generation, err)) !=
            PINT_OK ||
        (status = pinti_json_string(call->params, "name", &name, err)) != PINT_OK) {
        return pinti_call_refuse(status);
    }
    status = pinti_cat_job_find(call->service->cat, (uint32_t)table, (uint32_t)generation, name,
                                NULL, 0, &job, &job_generation, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_job_rec *rec = &pinti_cat_jobs(call->service->catalog)[job];
    const pinti_table_rec *of = &pinti_cat_tables(call->service->catalog)[table];
    const uint32_t uid = call->connection->uid;
    if (rec->uid != uid && of->uid != uid && !call->connection->is_admin) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "drop: the job belongs to uid %u", rec->uid);
    }
    status = pinti_cat_job_drop(call->service->cat, job, job_generation, err);
    if (status == PINT_OK) {
        pinti_death_rescan(call->service);
    }
    return status;
}
