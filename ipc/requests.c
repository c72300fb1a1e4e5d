/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests of a joined pool: tables and jobs made, published, dropped. Text is checked here to be
 * UTF-8 and short enough to be sent; what a schema may hold is the service's to judge.
 *
 * After a lost connection a change is repeated only if the catalog says that it has not happened
 * (pinti_exchange in ipc/client.h):
 *
 *   create    known by its request number: repeated as it is
 *   publish   happened when the record is LIVE; a record gone from BUILDING otherwise was published
 *             and dropped, which is success too
 *   drop      happened when the record that had the name before is not LIVE any more
 *   rename    happened when the record that had the name before has the new one
 *   freeze    happened when the record says so
 *
 * So drop and rename look the name up first. If it was not found (it is being published just now),
 * they cannot tell, are repeated, and may report PINT_E_NOT_FOUND for a change that was made.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/catalog.h"
#include "host/error.h"
#include "host/interrupt.h"
#include "host/table.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/pool_ops.h"
#include "pintable/table.h"

#define MESSAGE_BYTES       60000u /* of parameters; the envelope comes on top */
#define MESSAGE_ROOM        (MESSAGE_BYTES + 64u)
#define MESSAGE_NODES       8000u /* of PINTI_JSON_NODES_MAX */
#define COLUMN_NODES        16u   /* at least as many as one column has */
#define DISCARD_MS          1000
#define PREPARE_BYTES_OF_MS 100000ull /* 0.1 GB/s: a third of the slowest first touch measured */
#define CREATE_MS_MAX       (24 * 3600 * 1000)

/* Structs as callers had them before there was metadata. */
#define FIELD_BYTES_MIN  offsetof(pint_field, metadata)
#define SCHEMA_BYTES_MIN offsetof(pint_schema, metadata)

/* ---- small things ---------------------------------------------------------------------------- */

static pint_status fail_memory(const char *what, pint_error *err)
{
    return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%s: request", what);
}

static pint_status fail_result(const char *what, pint_error *err)
{
    return pinti_fail(err, PINT_E_PROTOCOL, 0, "%s: the service sent a result that is none", what);
}

static pint_status check_name(const char *what, const char *name, pint_error *err)
{
    char text[64];
    const size_t bytes = strnlen(name, PINTI_NAME_BYTES_MAX + 1u);
    if (pinti_name_is_valid(name, bytes)) {
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_INVALID, 0,
                      "%s: '%s' is no name: UTF-8 of 1 to %u bytes, no control characters, no '/'",
                      what, pinti_printable(text, sizeof(text), name, bytes), PINTI_NAME_BYTES_MAX);
}

static pint_status enter_writable(pint_pool *pool, const char *what, pint_error *err)
{
    const pint_status status = pinti_pool_enter(pool, err);
    if (status == PINT_OK && !pool->writable) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: the pool was joined read-only", what);
    }
    return status;
}

/* {"table":…,"generation":…}, or NULL. */
static cJSON *table_params(uint32_t table, uint32_t generation)
{
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && pinti_json_add_u64(params, "table", table) &&
        pinti_json_add_u64(params, "generation", generation)) {
        return params;
    }
    cJSON_Delete(params);
    return NULL;
}

/* The two numbers that name a table or job. Deletes result. */
static pint_status take_result(const char *what, cJSON *result, const char *key, uint32_t limit,
                               uint32_t *out_index, uint32_t *out_generation, pint_error *err)
{
    const char *const keys[] = {key, "generation", "created", "zero"};
    uint64_t index = 0;
    uint64_t generation = 0;
    const bool good =
        pinti_json_only(result, keys, 4, NULL) == PINT_OK &&
        pinti_json_u64(result, key, limit - 1, &index, NULL) == PINT_OK &&
        pinti_json_u64(result, "generation", UINT32_MAX, &generation, NULL) == PINT_OK &&
        generation != 0;
    cJSON_Delete(result);
    if (!good) {
        return fail_result(what, err);
    }
    *out_index = (uint32_t)index;
    *out_generation = (uint32_t)generation;
    return PINT_OK;
}

static uint64_t record_state(const pint_pool *pool, uint32_t table)
{
    return pinti_load64_acquire(&pinti_cat_tables(pool->catalog)[table].xgen_state);
}

/* ---- create ---------------------------------------------------------------------------------- */

typedef struct creation {
    const char *name;
    const pint_schema *schema; /* our copy; the fields are the caller's */
    uint32_t field_bytes;      /* as the caller was compiled */
    uint64_t n_rows;
    uint64_t row_bytes;      /* roughly, of all columns */
    uint64_t metadata_bytes; /* of the table and its columns */
    uint32_t n_sent;         /* fields in the messages so far */
} creation;

static pint_status check_metadata(const char *of, const void *metadata, uint64_t bytes,
                                  pint_error *err)
{
    if (bytes > PINT_METADATA_BYTES_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "create: '%s': %" PRIu64 " bytes of metadata, at most %u", of, bytes,
                          PINT_METADATA_BYTES_MAX);
    }
    if (bytes != 0 && metadata == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "create: '%s': metadata is NULL and has %" PRIu64 " bytes", of, bytes);
    }
    return PINT_OK;
}

/* Copy a field, checked so far that it can be written as JSON. */
static pint_status read_field(const creation *c, uint32_t i, pint_field *out, pint_error *err)
{
    const char *in = (const char *)c->schema->fields + (size_t)i * c->field_bytes;
    uint32_t in_bytes;
    char text[64];
    memcpy(&in_bytes, in, sizeof(in_bytes));
    *out = (pint_field)PINT_FIELD_INIT;
    if (in_bytes != c->field_bytes) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "create: field %u has struct_bytes %u, the first one %u", i, in_bytes,
                          c->field_bytes);
    }
    const pint_status status =
        pinti_copy_struct(out, sizeof(*out), in, in_bytes, FIELD_BYTES_MIN, "pint_field", err);
    if (status != PINT_OK) {
        return status;
    }
    if (out->name == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "create: field %u has no name", i);
    }
    const size_t bytes = strnlen(out->name, PINTI_NAME_BYTES_MAX + 1u);
    (void)pinti_printable(text, sizeof(text), out->name, bytes);
    if (!pinti_column_name_is_valid(out->name, bytes)) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "create: column %u, '%s': a name is UTF-8 of 1 to %u bytes without "
                          "control characters",
                          i, text, PINTI_NAME_BYTES_MAX);
    }
    if (pint_type_name(out->type) == NULL ||
        (out->item_type != 0 && pint_type_name(out->item_type) == NULL)) {
        return pinti_fail(err, PINT_E_TYPE, 0, "create: column '%s': no type has number %u", text,
                          pint_type_name(out->type) == NULL ? out->type : out->item_type);
    }
    if ((out->flags & ~PINT_NULLABLE) != 0 || out->reserved != 0 || out->unit > PINT_NANOSECOND) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "create: column '%s': flags 0x%x, unit %u, reserved %u", text, out->flags,
                          out->unit, out->reserved);
    }
    if (out->zone != NULL) {
        const size_t zone_bytes = strnlen(out->zone, PINT_ZONE_BYTES_MAX + 1u);
        if (zone_bytes > PINT_ZONE_BYTES_MAX || !pinti_utf8_is_valid(out->zone, zone_bytes)) {
            return pinti_fail(err, PINT_E_INVALID, 0,
                              "create: column '%s': a zone is UTF-8 of at most %u bytes", text,
                              PINT_ZONE_BYTES_MAX);
        }
    }
    return check_metadata(text, out->metadata, out->metadata_bytes, err);
}

static bool add_optional(cJSON *object, const char *key, uint64_t value)
{
    return value == 0 || pinti_json_add_u64(object, key, value);
}

static bool add_text(cJSON *object, const char *key, const char *text)
{
    return cJSON_AddStringToObject(object, key, text) != NULL;
}

/* Text of one column, to be freed with cJSON_free(), or NULL. */
static char *column_text(const pint_field *field)
{
    static const char *const units[] = {"", "s", "ms", "us", "ns"};
    char *text = NULL;
    cJSON *column = cJSON_CreateObject();
    if (column != NULL && add_text(column, "name", field->name) &&
        add_text(column, "type", pint_type_name(field->type)) &&
        ((field->flags & PINT_NULLABLE) == 0 ||
         cJSON_AddTrueToObject(column, "nullable") != NULL) &&
        (field->unit == 0 || add_text(column, "unit", units[field->unit])) &&
        (field->zone == NULL || field->zone[0] == '\0' || add_text(column, "zone", field->zone)) &&
        add_optional(column, "width", field->width_bytes) &&
        add_optional(column, "length", field->list_length) &&
        (field->item_type == 0 || add_text(column, "item", pint_type_name(field->item_type))) &&
        add_optional(column, "data_bytes", field->data_bytes) &&
        add_optional(column, "categories", field->n_categories) &&
        add_optional(column, "metadata_bytes", field->metadata_bytes)) {
        text = cJSON_PrintUnformatted(column);
    }
    cJSON_Delete(column);
    return text;
}

/* What the first message says beside columns: text without the closing brace. */
static char *head_text(const creation *c, uint64_t request)
{
    char *text = NULL;
    cJSON *head = cJSON_CreateObject();
    if (head != NULL && pinti_json_add_u64(head, "request", request) &&
        add_text(head, "name", c->name) && pinti_json_add_u64(head, "rows", c->n_rows) &&
        pinti_json_add_u64(head, "chunk_rows", c->schema->chunk_rows) &&
        pinti_json_add_u64(head, "flags", c->schema->flags) &&
        add_optional(head, "metadata_bytes", c->schema->metadata_bytes)) {
        text = cJSON_PrintUnformatted(head);
    }
    cJSON_Delete(head);
    return text;
}

/* Append columns to out[*bytes] as long as they fit. */
static pint_status add_columns(creation *c, char *out, size_t *bytes, pint_error *err)
{
    uint32_t nodes = COLUMN_NODES;
    const uint32_t first = c->n_sent;
    while (c->n_sent < c->schema->n_fields && nodes + COLUMN_NODES <= MESSAGE_NODES) {
        pint_field field;
        const pint_status status = read_field(c, c->n_sent, &field, err);
        if (status != PINT_OK) {
            return status;
        }
        char *text = column_text(&field);
        if (text == NULL) {
            return fail_memory("create", err);
        }
        const size_t text_bytes = strlen(text);
        /* one column is at most 2 KB, so at least one always fits */
        const bool fits = *bytes + text_bytes + 32 <= MESSAGE_BYTES;
        if (fits) {
            if (c->n_sent > first) {
                out[(*bytes)++] = ',';
            }
            memcpy(out + *bytes, text, text_bytes + 1); /* with its end, for the last one */
            *bytes += text_bytes;
            c->n_sent++;
            nodes += COLUMN_NODES;
        }
        cJSON_free(text);
        if (!fits) {
            break;
        }
    }
    return PINT_OK;
}

static pint_status make_creation(void *context, uint64_t request, unsigned part, char **out_params,
                                 bool *out_more, pint_error *err)
{
    creation *c = context;
    char *head = NULL;
    if (part == 0) {
        c->n_sent = 0;
        head = head_text(c, request);
        if (head == NULL) {
            return fail_memory("create", err);
        }
    }
    char *out = cJSON_malloc(MESSAGE_ROOM);
    if (out == NULL) {
        cJSON_free(head);
        return fail_memory("create", err);
    }
    size_t bytes = 0;
    if (head != NULL) {
        bytes = strlen(head);
        head[bytes - 1] = ','; /* the members go on */
        memcpy(out, head, bytes);
        cJSON_free(head);
    } else {
        out[bytes++] = '{';
    }
    bytes += (size_t)snprintf(out + bytes, MESSAGE_ROOM - bytes, "\"columns\":[");
    const pint_status status = add_columns(c, out, &bytes, err);
    if (status != PINT_OK) {
        cJSON_free(out);
        return status;
    }
    *out_more = c->n_sent < c->schema->n_fields;
    (void)snprintf(out + bytes, MESSAGE_ROOM - bytes, "],\"more\":%s}",
                   *out_more ? "true" : "false");
    *out_params = out;
    return PINT_OK;
}

/* Bytes of a row, about: only the time to wait depends on it. */
static uint64_t rough_row_bytes(const pint_field *field)
{
    const uint64_t item_bytes = pint_type_bytes(field->item_type);
    return 1 + pint_type_bytes(field->type) + field->width_bytes +
           item_bytes * (field->list_length > 0 ? field->list_length : 1);
}

/* Memory is made at PREPARE_BYTES_OF_MS at least; and the service may have others to serve first.
 */
static int creation_ms(const creation *c)
{
    const double ms =
        PINTI_CREATE_MS + ((double)c->n_rows * (double)c->row_bytes + (double)c->metadata_bytes) /
                              (double)PREPARE_BYTES_OF_MS;
    return ms < (double)CREATE_MS_MAX ? (int)ms : CREATE_MS_MAX;
}

static pint_status read_schema(const pint_schema *in, pint_schema *out, uint32_t *out_field_bytes,
                               pint_error *err)
{
    *out = (pint_schema)PINT_SCHEMA_INIT;
    const pint_status status = pinti_copy_struct(out, sizeof(*out), in, in->struct_bytes,
                                                 SCHEMA_BYTES_MIN, "pint_schema", err);
    if (status != PINT_OK) {
        return status;
    }
    if (out->n_fields == 0 || out->fields == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "create: a table has at least one column");
    }
    if (out->n_fields > PINTI_TABLE_COLUMNS_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0, "create: %u columns, the limit is %u",
                          out->n_fields, PINTI_TABLE_COLUMNS_MAX);
    }
    if (out->reserved != 0 || (out->flags & ~(PINT_UNINITIALISED | PINT_KEPT)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "create: flags 0x%x, reserved %u", out->flags,
                          out->reserved);
    }
    *out_field_bytes = out->fields[0].struct_bytes;
    return check_metadata("the table", out->metadata, out->metadata_bytes, err);
}

/* Zero the data of a table that was just made and that nobody else sees: see table.create. */
static void zero_data(pint_pool *pool, uint32_t index)
{
    const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[index];
    uint32_t next = rec->first_extent;
    for (uint32_t n = 0; next != 0 && next <= PINTI_EXTENTS_MAX && n < PINTI_EXTENTS_MAX; n++) {
        const pinti_extent *extent = &pinti_cat_extents(pool->catalog)[next - 1];
        const uint64_t off = extent->off;
        const uint64_t bytes = extent->bytes;
        if (extent->owner == index && bytes <= pool->data_bytes &&
            off <= pool->data_bytes - bytes) {
            memset(pool->data + off, 0, bytes);
        }
        next = extent->next;
    }
}

/* False: the record has no place of this size. */
static bool put_metadata(const pinti_metadata *place, const void *metadata, uint64_t bytes)
{
    if (place->bytes != bytes) {
        return false;
    }
    if (bytes != 0) {
        memcpy(place->at, metadata, bytes);
    }
    return true;
}

/* The creator's own bytes, into the table that was just made and that nobody else sees. */
static pint_status write_metadata(const creation *c, const pint_table *table, pint_error *err)
{
    const pinti_table_desc *desc = table->desc;
    if (desc->n_first != c->schema->n_fields ||
        !put_metadata(&desc->metadata, c->schema->metadata, c->schema->metadata_bytes)) {
        return fail_result("create", err);
    }
    for (uint32_t i = 0; i < desc->n_first; i++) {
        pint_field field;
        const pint_status status = read_field(c, i, &field, err);
        if (status != PINT_OK) {
            return status;
        }
        if (!put_metadata(&desc->columns[i].metadata, field.metadata, field.metadata_bytes)) {
            return fail_result("create", err);
        }
    }
    return PINT_OK;
}

static pint_status request_creation(pint_pool *pool, creation *c, pint_table **out_table,
                                    pint_error *err)
{
    const pinti_exchange exchange = {.method = "table.create",
                                     .more_method = "table.columns",
                                     .make = make_creation,
                                     .context = c,
                                     .timeout_ms = creation_ms(c),
                                     .numbered = true,
                                     .makes_table = true};
    cJSON *result = NULL;
    uint32_t index = 0;
    uint32_t generation = 0;
    pint_status status = pinti_client_call(pinti_client_of(pool), &exchange, &result, err);
    if (status != PINT_OK) {
        return status;
    }
    bool zero = false;
    const pint_status read = pinti_json_bool_or(result, "zero", false, &zero, NULL);
    status = take_result("create", result, "table", PINTI_TABLES_MAX, &index, &generation, err);
    if (status == PINT_OK && read != PINT_OK) {
        status = fail_result("create", err);
    }
    if (status != PINT_OK) {
        return status;
    }
    pint_table *table = NULL;
    status = pinti_table_adopt(pool, index, generation, PINT_WRITE, &table, err);
    if (status != PINT_OK) {
        pool->ops->discard_table(pool, index, generation);
        return status;
    }
    if (zero && (c->schema->flags & PINT_UNINITIALISED) == 0) {
        zero_data(pool, index);
    }
    status = write_metadata(c, table, err);
    if (status != PINT_OK) {
        pint_table_close(table); /* never published: it is discarded */
        return status;
    }
    *out_table = table;
    return PINT_OK;
}

pint_status pint_table_create(pint_pool *pool, const char *name, const pint_schema *schema,
                              uint64_t n_rows, pint_table **out_table, pint_error *err)
{
    pint_schema own = PINT_SCHEMA_INIT;
    creation c = {.name = name, .schema = &own, .n_rows = n_rows};
    if (pool == NULL || name == NULL || schema == NULL || out_table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "create: NULL argument");
    }
    pint_status status = check_name("create", name, err);
    if (status == PINT_OK) {
        status = read_schema(schema, &own, &c.field_bytes, err);
    }
    c.metadata_bytes = own.metadata_bytes;
    for (uint32_t i = 0; status == PINT_OK && i < own.n_fields; i++) {
        pint_field field;
        status = read_field(&c, i, &field, err);
        c.row_bytes += status == PINT_OK ? rough_row_bytes(&field) : 0;
        c.metadata_bytes += status == PINT_OK ? field.metadata_bytes : 0;
    }
    if (status == PINT_OK) {
        status = enter_writable(pool, "create", err);
    }
    return status == PINT_OK ? request_creation(pool, &c, out_table, err) : status;
}

/* A pinti_find_made; context: the pool. */
bool pinti_requests_find_made(void *context, uint64_t session, uint64_t request,
                              uint32_t *out_table, uint32_t *out_generation)
{
    const pint_pool *pool = context;
    const uint32_t n_tables = pinti_load32_acquire(&pool->header->xn_tables);
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX; i++) {
        const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[i];
        const uint64_t state = record_state(pool, i);
        /* What was BUILDING for this session's request stays so: its number is in no other request,
         * and only this session publishes it. */
        if (pinti_state_of(state) == PINTI_BUILDING && rec->creator_session == session &&
            rec->creator_request == request) {
            *out_table = i;
            *out_generation = pinti_gen_of(state);
            return true;
        }
    }
    return false;
}

/* ---- publish, freeze ------------------------------------------------------------------------- */

/* A change of a known table: the parameters, and the record that tells whether it happened. */
typedef struct change {
    const pint_pool *pool;
    const cJSON *params;
    uint32_t table;
    uint32_t generation;
    bool is_known;
    const char *new_name;
} change;

static pint_status make_change(void *context, uint64_t request, unsigned part, char **out_params,
                               bool *out_more, pint_error *err)
{
    const change *c = context;
    (void)request;
    (void)part;
    *out_more = false;
    *out_params = cJSON_PrintUnformatted(c->params);
    return *out_params != NULL ? PINT_OK : fail_memory("request", err);
}

/* Consumes params, which may be NULL for want of memory. */
static pint_status request_change(pint_pool *pool, const char *method, change *c, cJSON *params,
                                  bool (*took_effect)(void *context), int timeout_ms,
                                  pint_error *err)
{
    if (params == NULL) {
        return fail_memory(method, err);
    }
    c->pool = pool;
    c->params = params;
    const pinti_exchange exchange = {.method = method,
                                     .make = make_change,
                                     .took_effect = took_effect,
                                     .context = c,
                                     .timeout_ms = timeout_ms};
    const pint_status status = pinti_client_call(pinti_client_of(pool), &exchange, NULL, err);
    cJSON_Delete(params);
    return status;
}

static bool is_published(void *context)
{
    const change *c = context;
    const uint64_t state = record_state(c->pool, c->table);
    return pinti_gen_of(state) != c->generation || pinti_state_of(state) != PINTI_BUILDING;
}

static bool is_frozen(void *context)
{
    const change *c = context;
    const uint64_t state = record_state(c->pool, c->table);
    return pinti_gen_of(state) == c->generation && (state & PINTI_RECORD_FROZEN) != 0;
}

pint_status pint_table_publish(pint_table *table, uint32_t flags, pint_error *err)
{
    if (table == NULL || (flags & ~PINT_REPLACE) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          table == NULL ? "publish: NULL argument" : "publish: unknown flags");
    }
    pint_pool *pool = pint_table_pool(table);
    const pint_status status = enter_writable(pool, "publish", err);
    if (status != PINT_OK) {
        return status;
    }
    change c = {.table = pinti_table_index(table), .generation = pinti_table_generation(table)};
    if (pint_table_is_dropped(table)) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "publish: the table was dropped");
    }
    if (pinti_state_of(record_state(pool, c.table)) != PINTI_BUILDING) {
        return pinti_fail(err, PINT_E_STATE, 0, "publish: the table is published already");
    }
    pinti_text_finish(table);
    cJSON *params = table_params(c.table, c.generation);
    if (params != NULL &&
        cJSON_AddBoolToObject(params, "replace", (flags & PINT_REPLACE) != 0) == NULL) {
        cJSON_Delete(params);
        params = NULL;
    }
    return request_change(pool, "table.publish", &c, params, is_published, PINTI_REQUEST_MS, err);
}

pint_status pint_table_freeze(pint_table *table, pint_error *err)
{
    if (table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "freeze: NULL argument");
    }
    pint_pool *pool = pint_table_pool(table);
    const pint_status status = enter_writable(pool, "freeze", err);
    if (status != PINT_OK) {
        return status;
    }
    if (pint_table_is_dropped(table)) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "freeze: the table was dropped");
    }
    change c = {.table = pinti_table_index(table), .generation = pinti_table_generation(table)};
    return request_change(pool, "table.freeze", &c, table_params(c.table, c.generation), is_frozen,
                          PINTI_REQUEST_MS, err);
}

/* ---- drop, rename ---------------------------------------------------------------------------- */

static bool find(const pint_pool *pool, const char *name, uint32_t *out_table,
                 uint32_t *out_generation)
{
    pinti_name key;
    uint64_t state;
    if (!pinti_name_set(&key, name) ||
        pinti_catalog_lookup(pool->catalog, &key, out_table, &state) != PINTI_LOOKUP_FOUND) {
        return false;
    }
    *out_generation = pinti_gen_of(state);
    return true;
}

static bool is_dropped(void *context)
{
    const change *c = context;
    if (!c->is_known) {
        return false;
    }
    const uint64_t state = record_state(c->pool, c->table);
    return pinti_gen_of(state) != c->generation || pinti_state_of(state) != PINTI_LIVE;
}

static bool is_renamed(void *context)
{
    const change *c = context;
    uint32_t table;
    uint32_t generation;
    return c->is_known && find(c->pool, c->new_name, &table, &generation) && table == c->table &&
           generation == c->generation;
}

static cJSON *name_params(const char *name)
{
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && add_text(params, "name", name)) {
        return params;
    }
    cJSON_Delete(params);
    return NULL;
}

pint_status pint_table_drop(pint_pool *pool, const char *name, pint_error *err)
{
    if (pool == NULL || name == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "drop: NULL argument");
    }
    pint_status status = check_name("drop", name, err);
    if (status == PINT_OK) {
        status = enter_writable(pool, "drop", err);
    }
    if (status != PINT_OK) {
        return status;
    }
    change c = {0};
    c.is_known = find(pool, name, &c.table, &c.generation);
    return request_change(pool, "table.drop", &c, name_params(name), is_dropped, PINTI_REQUEST_MS,
                          err);
}

pint_status pint_table_rename(pint_pool *pool, const char *name, const char *new_name,
                              pint_error *err)
{
    if (pool == NULL || name == NULL || new_name == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "rename: NULL argument");
    }
    pint_status status = check_name("rename", name, err);
    if (status == PINT_OK) {
        status = check_name("rename", new_name, err);
    }
    if (status == PINT_OK) {
        status = enter_writable(pool, "rename", err);
    }
    if (status != PINT_OK) {
        return status;
    }
    change c = {.new_name = new_name};
    c.is_known = find(pool, name, &c.table, &c.generation);
    cJSON *params = name_params(name);
    if (params != NULL && !add_text(params, "new_name", new_name)) {
        cJSON_Delete(params);
        params = NULL;
    }
    return request_change(pool, "table.rename", &c, params, is_renamed, PINTI_REQUEST_MS, err);
}

/* ---- what host/ asks for --------------------------------------------------------------------- */

static pint_status find_table(pint_pool *pool, const char *name, uint32_t *out_index,
                              uint32_t *out_generation, pint_error *err)
{
    cJSON *result = NULL;
    pint_status status = check_name("find", name, err);
    if (status != PINT_OK) {
        return status;
    }
    cJSON *params = name_params(name);
    if (params == NULL) {
        return fail_memory("find", err);
    }
    status = pinti_client_request(pinti_client_of(pool), "table.find", params, PINTI_REQUEST_MS,
                                  &result, err);
    cJSON_Delete(params);
    return status == PINT_OK ? take_result("find", result, "table", PINTI_TABLES_MAX, out_index,
                                           out_generation, err)
                             : status;
}

typedef struct job_creation {
    uint32_t table;
    uint32_t generation;
    const char *name; /* NULL: a lease set */
    const uint32_t *uses;
    uint32_t n_uses;
    uint32_t undo;
    uint32_t n_sent;
} job_creation;

/* Members of the first message. */
static bool add_job_head(const job_creation *c, uint64_t request, cJSON *params)
{
    return pinti_json_add_u64(params, "request", request) &&
           pinti_json_add_u64(params, "table", c->table) &&
           pinti_json_add_u64(params, "generation", c->generation) &&
           pinti_json_add_u64(params, "undo", c->undo) &&
           (c->name == NULL || add_text(params, "name", c->name));
}

static pint_status make_job(void *context, uint64_t request, unsigned part, char **out_params,
                            bool *out_more, pint_error *err)
{
    enum { USES_OF_A_MESSAGE = 6000 }; /* at most 7 characters each, and a node */
    job_creation *c = context;
    cJSON *params = cJSON_CreateObject();
    cJSON *uses = params != NULL ? cJSON_AddArrayToObject(params, "uses") : NULL;
    bool good = uses != NULL;
    if (part == 0) {
        c->n_sent = 0;
        good = good && add_job_head(c, request, params);
    }
    for (unsigned n = 0; good && n < USES_OF_A_MESSAGE && c->n_sent < c->n_uses; n++) {
        cJSON *use = cJSON_CreateNumber(c->uses[c->n_sent]);
        good = use != NULL && cJSON_AddItemToArray(uses, use);
        c->n_sent++;
    }
    *out_more = c->n_sent < c->n_uses;
    good = good && cJSON_AddBoolToObject(params, "more", *out_more) != NULL;
    *out_params = good ? cJSON_PrintUnformatted(params) : NULL;
    cJSON_Delete(params);
    return *out_params != NULL ? PINT_OK : fail_memory("job", err);
}

/* NOLINTNEXTLINE(readability-function-size): nine parameters, as host/pool.h declares it */
static pint_status create_job(pint_pool *pool, uint32_t table, uint32_t generation,
                              const char *name, const uint32_t *uses, uint32_t n_uses,
                              uint32_t *out_job, uint32_t *out_generation, pint_error *err)
{
    job_creation c = {
        .table = table, .generation = generation, .name = name, .uses = uses, .n_uses = n_uses};
    const pinti_exchange exchange = {.method = "job.create",
                                     .more_method = "job.uses",
                                     .make = make_job,
                                     .context = &c,
                                     .timeout_ms = PINTI_CREATE_MS,
                                     .numbered = true};
    cJSON *result = NULL;
    pint_status status = name != NULL ? check_name("job", name, err) : PINT_OK;
    if (status == PINT_OK) {
        status = pinti_client_call(pinti_client_of(pool), &exchange, &result, err);
    }
    return status == PINT_OK
               ? take_result("job", result, "job", PINTI_JOBS_MAX, out_job, out_generation, err)
               : status;
}

/* Repeated after a lost answer it may find the job gone: that is what was asked for. */
static pint_status drop_job(pint_pool *pool, uint32_t table, uint32_t generation, const char *name,
                            pint_error *err)
{
    pint_status status = check_name("drop job", name, err);
    if (status != PINT_OK) {
        return status;
    }
    cJSON *params = table_params(table, generation);
    if (params == NULL || !add_text(params, "name", name)) {
        cJSON_Delete(params);
        return fail_memory("drop job", err);
    }
    status = pinti_client_request(pinti_client_of(pool), "job.drop", params, PINTI_REQUEST_MS, NULL,
                                  err);
    cJSON_Delete(params);
    return status;
}

static pint_status alive(pint_pool *pool, pint_error *err)
{
    return pinti_client_alive(pinti_client_of(pool), err);
}

static void closed_dropped(pint_pool *pool)
{
    (void)pinti_client_post(pinti_client_of(pool), "table.closed", NULL);
}

static bool is_discarded(void *context)
{
    const change *c = context;
    const uint64_t state = record_state(c->pool, c->table);
    return pinti_gen_of(state) != c->generation || pinti_state_of(state) != PINTI_BUILDING;
}

static void discard_table(pint_pool *pool, uint32_t table, uint32_t generation)
{
    char params[64];
    (void)snprintf(params, sizeof(params), "{\"table\":%u,\"generation\":%u}", table, generation);
    if (pinti_client_post(pinti_client_of(pool), "table.drop", params)) {
        return;
    }
    change c = {.table = table, .generation = generation};
    pinti_interrupt_hold(); /* DISCARD_MS at most, and what another thread's request takes */
    (void)request_change(pool, "table.drop", &c, table_params(table, generation), is_discarded,
                         DISCARD_MS, NULL);
    pinti_interrupt_release();
}

const pinti_pool_ops pinti_ipc_ops = {
    .rejoin = pinti_pool_rejoin,
    .find_table = find_table,
    .create_job = create_job,
    .drop_job = drop_job,
    .alive = alive,
    .closed_dropped = closed_dropped,
    .discard_table = discard_table,
    .leave = pinti_pool_leave_now,
};
