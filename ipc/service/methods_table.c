/* SPDX-License-Identifier: Apache-2.0 */

/* Methods on tables. The catalog checks what a schema may be; here it is only put together. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/service/death.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/operation.h"

#define SCHEMAS_BYTES_MAX (64ull << 20) /* of all creates in progress */

/* ---- putting a schema together ------------------------------------------------------------- */

static pint_status copy_text(char *out, size_t room, const char *text, const char *what,
                             pint_error *err)
{
    const size_t bytes = strlen(text);
    if (bytes >= room) {
        char part[48];
        return pinti_fail(err, PINT_E_RANGE, 0, "%s '%s' has %zu bytes, the limit is %zu", what,
                          pinti_printable(part, sizeof(part), text, bytes), bytes, room - 1);
    }
    memcpy(out, text, bytes + 1);
    return PINT_OK;
}

static pint_status unknown(const char *what, const char *text, pint_error *err)
{
    char part[64];
    return pinti_fail(err, PINT_E_INVALID, 0, "unknown %s '%s'", what,
                      pinti_printable(part, sizeof(part), text, strlen(text)));
}

static pint_status read_type(const cJSON *item, const char *key, const char *fallback,
                             uint32_t *out_type, pint_error *err)
{
    const char *text = NULL;
    const pint_status status = fallback == NULL
                                   ? pinti_json_string(item, key, &text, err)
                                   : pinti_json_string_or(item, key, fallback, &text, err);
    if (status != PINT_OK) {
        return status;
    }
    *out_type = text[0] == '\0' ? 0 : pint_type_by_name(text);
    return *out_type == 0 && text[0] != '\0' ? unknown("type", text, err) : PINT_OK;
}

static pint_status read_unit(const cJSON *item, uint32_t *out_unit, pint_error *err)
{
    static const char *const names[] = {"", "s", "ms", "us", "ns"}; /* by pint_unit */
    const char *text = NULL;
    const pint_status status = pinti_json_string_or(item, "unit", "", &text, err);
    if (status != PINT_OK) {
        return status;
    }
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i], text) == 0) {
            *out_unit = i;
            return PINT_OK;
        }
    }
    return unknown("unit", text, err);
}

static pint_status read_u32(const cJSON *item, const char *key, uint32_t *out, pint_error *err)
{
    uint64_t value = 0;
    const pint_status status = pinti_json_u64_or(item, key, UINT32_MAX, 0, &value, err);
    *out = (uint32_t)value;
    return status;
}

static pint_status read_column(const cJSON *item, struct pinti_schema_column *column,
                               pint_error *err)
{
    static const char *const keys[] = {"name",       "type",       "nullable",      "unit",
                                       "zone",       "width",      "length",        "item",
                                       "data_bytes", "categories", "metadata_bytes"};
    const char *name = NULL;
    const char *zone = NULL;
    bool nullable = false;
    memset(column, 0, sizeof(*column));
    pint_status status = pinti_json_only(item, keys, sizeof(keys) / sizeof(keys[0]), err);
    if (status != PINT_OK || (status = pinti_json_string(item, "name", &name, err)) != PINT_OK ||
        (status = copy_text(column->name, sizeof(column->name), name, "column name", err)) !=
            PINT_OK ||
        (status = read_type(item, "type", NULL, &column->type, err)) != PINT_OK ||
        (status = read_type(item, "item", "", &column->item_type, err)) != PINT_OK ||
        (status = read_unit(item, &column->unit, err)) != PINT_OK ||
        (status = pinti_json_string_or(item, "zone", "", &zone, err)) != PINT_OK ||
        (status = copy_text(column->zone, sizeof(column->zone), zone, "zone", err)) != PINT_OK ||
        (status = pinti_json_bool_or(item, "nullable", false, &nullable, err)) != PINT_OK ||
        (status = read_u32(item, "width", &column->width_bytes, err)) != PINT_OK ||
        (status = read_u32(item, "length", &column->list_length, err)) != PINT_OK ||
        (status = pinti_json_u64_or(item, "data_bytes", UINT64_MAX, 0, &column->data_bytes, err)) !=
            PINT_OK ||
        (status = pinti_json_u64_or(item, "metadata_bytes", UINT64_MAX, 0, &column->metadata_bytes,
                                    err)) != PINT_OK) {
        return status;
    }
    column->flags = nullable ? PINT_NULLABLE : 0;
    return pinti_json_u64_or(item, "categories", UINT64_MAX, 0, &column->n_categories, err);
}

/* Room for n columns more, charged to all creates in progress. */
static pint_status grow_schema(pinti_service *service, pinti_assembly *assembly, uint32_t n,
                               pint_error *err)
{
    pinti_schema *schema = &assembly->schema;
    const uint64_t wanted = (uint64_t)schema->n_columns + n;
    if (wanted > PINTI_TABLE_COLUMNS_MAX) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "%" PRIu64 " columns, the limit is %u", wanted,
                          PINTI_TABLE_COLUMNS_MAX);
    }
    if (wanted <= schema->room) {
        return PINT_OK;
    }
    uint32_t room = schema->room < 8 ? 8 : schema->room + schema->room / 2;
    room = room < wanted ? (uint32_t)wanted : room;
    const uint64_t bytes = room * sizeof(*schema->columns);
    const uint64_t more = bytes - assembly->charged_bytes;
    if (service->schema_bytes + more > SCHEMAS_BYTES_MAX) {
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "the tables being created by all clients take %llu MiB of descriptions",
                          SCHEMAS_BYTES_MAX >> 20);
    }
    struct pinti_schema_column *grown = realloc(schema->columns, bytes);
    if (grown == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%u columns", room);
    }
    schema->columns = grown;
    schema->room = room;
    assembly->charged_bytes = bytes;
    service->schema_bytes += more;
    return PINT_OK;
}

static pint_status add_columns(pinti_call *call, pint_error *err)
{
    pinti_assembly *assembly = &call->connection->assembly;
    const cJSON *columns = NULL;
    pint_status status = pinti_json_array(call->params, "columns", &columns, err);
    if (status == PINT_OK) {
        status = grow_schema(call->service, assembly, (uint32_t)cJSON_GetArraySize(columns), err);
    }
    const cJSON *item = columns != NULL ? columns->child : NULL;
    for (; item != NULL && status == PINT_OK; item = item->next) {
        status = read_column(item, &assembly->schema.columns[assembly->schema.n_columns], err);
        assembly->schema.n_columns += status == PINT_OK ? 1 : 0;
    }
    return status;
}

/* ---- create -------------------------------------------------------------------------------- */

static pint_status fill_table(cJSON *result, uint32_t table, uint32_t generation, pint_error *err)
{
    if (!pinti_json_add_u64(result, "table", table) ||
        !pinti_json_add_u64(result, "generation", generation)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    return PINT_OK;
}

/* zero: the client is to zero the table's data, unless it asked for them as they are. */
static pint_status fill_created(cJSON *result, uint32_t table, uint32_t generation, bool zero,
                                pint_error *err)
{
    if (zero && cJSON_AddTrueToObject(result, "zero") == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    return fill_table(result, table, generation, err);
}

pint_status pinti_table_finish(pinti_service *service, const pinti_operation *operation,
                               cJSON *result, bool *out_used, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    /* the same request may have come again, on another connection, while this one was prepared */
    if (pinti_cat_find_request(service->cat, operation->owner.session, operation->owner.request,
                               &table, &generation)) {
        return fill_created(result, table, generation, true, err);
    }
    const pint_status status =
        pinti_cat_create(service->cat, &operation->assembly.schema, &operation->owner,
                         &operation->data, &operation->sync, &table, &generation, err);
    if (status != PINT_OK) {
        return status;
    }
    *out_used = true; /* also if there is no memory for the answer: a repeated request finds it */
    return fill_created(result, table, generation, operation->client_zeroes, err);
}

/* The last columns have come. */
static pint_status create_assembled(pinti_call *call, pint_error *err)
{
    pinti_service *service = call->service;
    pinti_connection *connection = call->connection;
    pinti_assembly *assembly = &connection->assembly;
    uint32_t table = 0;
    uint32_t generation = 0;
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    if (pinti_cat_find_request(service->cat, connection->session->id, assembly->request, &table,
                               &generation)) {
        pinti_assembly_clear(service, connection);
        /* the lost answer may have asked for it, and nobody can have written yet */
        return fill_created(call->result, table, generation, true, err);
    }
    pint_status status = pinti_cat_check_schema(&assembly->schema, err);
    if (status == PINT_OK) {
        status = pinti_cat_measure(&assembly->schema, &data_bytes, &sync_bytes, err);
    }
    if (status != PINT_OK) {
        pinti_assembly_clear(service, connection);
        return status;
    }
    return pinti_operation_create(service, connection, call->id, data_bytes, sync_bytes,
                                  call->result, err);
}

/* Add the columns of this message; create when there are no more to come. */
static pint_status assemble(pinti_call *call, pint_error *err)
{
    bool more = false;
    pint_status status = pinti_json_bool_or(call->params, "more", false, &more, err);
    if (status == PINT_OK) {
        status = add_columns(call, err);
    }
    if (status != PINT_OK) {
        pinti_assembly_clear(call->service, call->connection);
        return pinti_call_refuse(status);
    }
    return more ? PINT_OK : create_assembled(call, err);
}

pint_status pinti_method_table_create(pinti_call *call, pint_error *err)
{
    pinti_assembly *assembly = &call->connection->assembly;
    pinti_schema *schema = &assembly->schema;
    const char *name = NULL;
    uint64_t flags = 0;
    pinti_assembly_clear(call->service, call->connection); /* one that was not finished is gone */
    assembly->kind = PINTI_ASSEMBLY_TABLE;
    pint_status status =
        pinti_json_u64(call->params, "request", UINT64_MAX, &assembly->request, err);
    if (status != PINT_OK ||
        (status = pinti_json_string(call->params, "name", &name, err)) != PINT_OK ||
        (status = copy_text(schema->name, sizeof(schema->name), name, "table name", err)) !=
            PINT_OK ||
        (status = pinti_json_u64(call->params, "rows", UINT64_MAX, &schema->n_rows, err)) !=
            PINT_OK ||
        (status = pinti_json_u64_or(call->params, "chunk_rows", UINT64_MAX, 0, &schema->chunk_rows,
                                    err)) != PINT_OK ||
        (status = pinti_json_u64_or(call->params, "metadata_bytes", UINT64_MAX, 0,
                                    &schema->metadata_bytes, err)) != PINT_OK ||
        (status = pinti_json_u64_or(call->params, "flags", UINT32_MAX, 0, &flags, err)) !=
            PINT_OK) {
        pinti_assembly_clear(call->service, call->connection);
        return pinti_call_refuse(status);
    }
    schema->flags = (uint32_t)flags;
    return assemble(call, err);
}

pint_status pinti_method_table_columns(pinti_call *call, pint_error *err)
{
    if (call->connection->assembly.kind != PINTI_ASSEMBLY_TABLE) {
        return pinti_fail(err, PINT_E_STATE, 0, "table.columns: no table.create is in progress");
    }
    return assemble(call, err);
}

/* ---- others -------------------------------------------------------------------------------- */

static pint_status read_table(const pinti_call *call, uint32_t *out_table, uint32_t *out_generation,
                              pint_error *err)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    pint_status status = pinti_json_u64(call->params, "table", UINT32_MAX, &table, err);
    if (status == PINT_OK) {
        status = pinti_json_u64(call->params, "generation", UINT32_MAX, &generation, err);
    }
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    *out_table = (uint32_t)table;
    *out_generation = (uint32_t)generation;
    return PINT_OK;
}

static pint_status find_by_name(const pinti_call *call, const char *key, uint32_t *out_table,
                                uint32_t *out_generation, pint_error *err)
{
    const char *name = NULL;
    const pint_status status = pinti_json_string(call->params, key, &name, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    return pinti_cat_find(call->service->cat, name, out_table, out_generation, err);
}

/* Tables are changed by their user, the service's and root. */
static pint_status check_owner(const pinti_call *call, uint32_t table, uint32_t generation,
                               const char *what, pint_error *err)
{
    const pinti_table_rec *rec = &pinti_cat_tables(call->service->catalog)[table];
    if (table >= PINTI_TABLES_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: table %u, the limit is %u", what, table,
                          PINTI_TABLES_MAX - 1);
    }
    const uint64_t word = pinti_load64_relaxed(&rec->xgen_state); /* own earlier store */
    if (pinti_gen_of(word) != generation || pinti_state_of(word) == PINTI_FREE) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "%s: table %u generation %u is gone", what, table,
                          generation);
    }
    if (rec->uid != call->connection->uid && !call->connection->is_admin) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: the table belongs to uid %u", what,
                          rec->uid);
    }
    return PINT_OK;
}

static void name_of(const pinti_table_rec *rec, char out[PINTI_NAME_BYTES_MAX + 1])
{
    uint64_t words[PINTI_NAME_WORDS];
    for (size_t i = 0; i < PINTI_NAME_WORDS; i++) {
        words[i] = pinti_load64_relaxed(&rec->xname[i]); /* own earlier stores */
    }
    memcpy(out, words, PINTI_NAME_BYTES_MAX);
    out[PINTI_NAME_BYTES_MAX] = '\0';
}

pint_status pinti_method_table_publish(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    bool replace = false;
    pint_status status = read_table(call, &table, &generation, err);
    if (status != PINT_OK) {
        return status;
    }
    if (pinti_json_bool_or(call->params, "replace", false, &replace, err) != PINT_OK) {
        return PINTI_CALL_BAD_PARAMS;
    }
    status = check_owner(call, table, generation, "publish", err);
    uint32_t old = 0;
    uint32_t old_generation = 0;
    char name[PINTI_NAME_BYTES_MAX + 1];
    if (status == PINT_OK && replace) {
        name_of(&pinti_cat_tables(call->service->catalog)[table], name);
        if (pinti_cat_find(call->service->cat, name, &old, &old_generation, NULL) == PINT_OK) {
            status = check_owner(call, old, old_generation, "publish in place of it", err);
        }
    }
    if (status == PINT_OK) {
        status = pinti_cat_publish(call->service->cat, table, generation, replace, err);
    }
    if (status == PINT_OK && replace) {
        pinti_death_rescan(call->service);
    }
    return status;
}

pint_status pinti_method_table_drop(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    const bool by_name = pinti_call_has(call, "name");
    if (by_name && (pinti_call_has(call, "table") || pinti_call_has(call, "generation"))) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "drop: 'name' or 'table', not both");
        return PINTI_CALL_BAD_PARAMS;
    }
    pint_status status = by_name ? find_by_name(call, "name", &table, &generation, err)
                                 : read_table(call, &table, &generation, err);
    if (status == PINT_OK) {
        status = check_owner(call, table, generation, "drop", err);
    }
    if (status == PINT_OK) {
        status = pinti_cat_drop(call->service->cat, table, generation, err);
    }
    if (status == PINT_OK) {
        pinti_death_rescan(call->service);
        pinti_service_check_idle(call->service);
    }
    return status;
}

pint_status pinti_method_table_rename(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    const char *new_name = NULL;
    pint_status status = pinti_json_string(call->params, "new_name", &new_name, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    status = find_by_name(call, "name", &table, &generation, err);
    if (status == PINT_OK) {
        status = check_owner(call, table, generation, "rename", err);
    }
    return status == PINT_OK
               ? pinti_cat_rename(call->service->cat, table, generation, new_name, err)
               : status;
}

pint_status pinti_method_table_freeze(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    pint_status status = read_table(call, &table, &generation, err);
    if (status == PINT_OK) {
        status = check_owner(call, table, generation, "freeze", err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const uint64_t before =
        pinti_load64_relaxed(&pinti_cat_tables(call->service->catalog)[table].xgen_state);
    if ((before & PINTI_RECORD_FROZEN) != 0) {
        return PINT_OK;
    }
    /* The flag first, then the words: a claimer changes its word first and looks at the flag after.
     * Either we see the claim, or it sees the flag and takes the claim back. */
    status = pinti_cat_freeze(call->service->cat, table, generation, err);
    if (status == PINT_OK && pinti_sweep_table_is_held(&call->service->view, table)) {
        pinti_cat_thaw(call->service->cat, table, generation);
        status = pinti_fail(err, PINT_E_BUSY, 0, "freeze: a chunk of the table is leased");
    }
    return status;
}

/* A held word belongs to a lease or a job that knows the column as one of the table that is made.
 * Once that is DYING its words are another table's. */
static pint_status check_not_held(pinti_service *service, uint32_t from, pint_error *err)
{
    const uint64_t gen_state =
        pinti_load64_relaxed(&pinti_cat_tables(service->catalog)[from].xgen_state); /* own store */
    if (pinti_state_of(gen_state) == PINTI_BUILDING &&
        pinti_sweep_table_is_held(&service->view, from)) {
        return pinti_fail(err, PINT_E_BUSY, 0, "add columns: a chunk of them is leased");
    }
    return PINT_OK;
}

pint_status pinti_method_table_add_columns(pinti_call *call, pint_error *err)
{
    pinti_service *service = call->service;
    uint32_t table = 0;
    uint32_t generation = 0;
    uint64_t from = 0;
    uint64_t from_generation = 0;
    pint_status status = read_table(call, &table, &generation, err);
    if (status != PINT_OK) {
        return status;
    }
    if (pinti_json_u64(call->params, "from", UINT32_MAX, &from, err) != PINT_OK ||
        pinti_json_u64(call->params, "from_generation", UINT32_MAX, &from_generation, err) !=
            PINT_OK) {
        return PINTI_CALL_BAD_PARAMS;
    }
    status = check_owner(call, table, generation, "add columns", err);
    if (status == PINT_OK) {
        status = check_owner(call, (uint32_t)from, (uint32_t)from_generation, "add columns", err);
    }
    if (status == PINT_OK) {
        status = check_not_held(service, (uint32_t)from, err);
    }
    if (status == PINT_OK) {
        status =
            pinti_cat_add_columns(service->cat, table, generation, (uint32_t)from,
                                  (uint32_t)from_generation, call->connection->session->id, err);
    }
    if (status == PINT_OK) {
        pinti_death_rescan(service);
    }
    return status;
}

pint_status pinti_method_table_keep(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    bool keep = true;
    if (pinti_json_bool_or(call->params, "keep", true, &keep, err) != PINT_OK) {
        return PINTI_CALL_BAD_PARAMS;
    }
    pint_status status = find_by_name(call, "name", &table, &generation, err);
    if (status == PINT_OK) {
        status = check_owner(call, table, generation, "keep", err);
    }
    if (status == PINT_OK) {
        status = pinti_cat_keep(call->service->cat, table, generation, keep, err);
    }
    if (status == PINT_OK && !keep) {
        pinti_death_rescan(call->service);
    }
    return status;
}

pint_status pinti_method_table_find(pinti_call *call, pint_error *err)
{
    uint32_t table = 0;
    uint32_t generation = 0;
    const pint_status status = find_by_name(call, "name", &table, &generation, err);
    return status == PINT_OK ? fill_table(call->result, table, generation, err) : status;
}

pint_status pinti_method_table_closed(pinti_call *call, pint_error *err)
{
    (void)err;
    pinti_death_rescan(call->service);
    return PINT_OK;
}
