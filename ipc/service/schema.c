/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a schema that came over the socket, and laying a table out: for each column in order
 * validity, values, offsets, text, offsets of categories, text of categories, metadata; then the
 * metadata of the table. Buffers begin at cache lines; those of a slab or more at pages. All
 * arithmetic on counts that a client named is checked for overflow.
 */
#include "ipc/service/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"

#define WIDTH_BYTES_MAX (1u << 20)
#define LIST_LENGTH_MAX (1u << 20)
#define TEXT_BYTES_MAX  (1ull << 48)
#define CHUNK_BITS      (8ull << 20) /* a chunk of the widest column has at most 1 MiB */
#define CHUNKS_WANTED   64u
#define WHERE_BYTES     150

typedef struct pinti_schema_column column;

/* "table 'a': column 'b'" for messages. Returns out. */
static const char *where(char out[WHERE_BYTES], const pinti_schema *schema, const column *col)
{
    char table[60];
    char name[60];
    (void)pinti_printable(table, sizeof(table), schema->name,
                          strnlen(schema->name, sizeof(schema->name)));
    if (col == NULL) {
        (void)snprintf(out, WHERE_BYTES, "table '%s'", table);
    } else {
        (void)pinti_printable(name, sizeof(name), col->name, strnlen(col->name, sizeof(col->name)));
        (void)snprintf(out, WHERE_BYTES, "table '%s': column '%s'", table, name);
    }
    return out;
}

/* ---- checking -------------------------------------------------------------------------------- */

static bool is_item_type(uint32_t type)
{
    return type != PINT_TIMESTAMP && pint_type_bytes(type) != 0;
}

/* Categories that codes of this type can name; 0 if it is no type of codes. */
static uint64_t categories_max(uint32_t code_type)
{
    switch (code_type) {
    case PINT_INT8:
        return 1u << 7;
    case PINT_INT16:
        return 1u << 15;
    case PINT_INT32:
        return INT32_MAX;
    default:
        return 0;
    }
}

static pint_status check_timestamp(const pinti_schema *schema, const column *col, pint_error *err)
{
    char at[WHERE_BYTES];
    const bool is_timestamp = col->type == PINT_TIMESTAMP;
    const size_t zone_bytes = strnlen(col->zone, sizeof(col->zone));
    if (is_timestamp ? col->unit < PINT_SECOND || col->unit > PINT_NANOSECOND : col->unit != 0) {
        return pinti_fail(
            err, PINT_E_INVALID, 0, "%s: unit %" PRIu32 "; %s", where(at, schema, col), col->unit,
            is_timestamp ? "a timestamp needs s, ms, us or ns" : "only a timestamp has one");
    }
    if (zone_bytes > PINT_ZONE_BYTES_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: zone of more than %u bytes",
                          where(at, schema, col), PINT_ZONE_BYTES_MAX);
    }
    if (zone_bytes != 0 && (!is_timestamp || !pinti_column_name_is_valid(col->zone, zone_bytes))) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: %s", where(at, schema, col),
                          is_timestamp ? "zone is not UTF-8 without control characters"
                                       : "only a timestamp has a zone");
    }
    return PINT_OK;
}

static pint_status check_width(const pinti_schema *schema, const column *col, pint_error *err)
{
    char at[WHERE_BYTES];
    const bool is_binary = col->type == PINT_BINARY_FIXED;
    const bool is_list = col->type == PINT_LIST_FIXED;
    if (is_binary ? col->width_bytes == 0 || col->width_bytes > WIDTH_BYTES_MAX
                  : col->width_bytes != 0) {
        return pinti_fail(err, is_binary ? PINT_E_RANGE : PINT_E_INVALID, 0,
                          "%s: width of %" PRIu32 " bytes; binary_fixed has 1 to %u, other types "
                          "none",
                          where(at, schema, col), col->width_bytes, WIDTH_BYTES_MAX);
    }
    if (is_list ? col->list_length == 0 || col->list_length > LIST_LENGTH_MAX
                : col->list_length != 0) {
        return pinti_fail(err, is_list ? PINT_E_RANGE : PINT_E_INVALID, 0,
                          "%s: length of %" PRIu32
                          " items; list_fixed has 1 to %u, other types none",
                          where(at, schema, col), col->list_length, LIST_LENGTH_MAX);
    }
    if (is_list && !is_item_type(col->item_type)) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "%s: item type %" PRIu32 " is not a number, bool8 or date32",
                          where(at, schema, col), col->item_type);
    }
    return PINT_OK;
}

static pint_status check_text(const pinti_schema *schema, const column *col, pint_error *err)
{
    char at[WHERE_BYTES];
    const bool is_dict = col->type == PINT_DICT_TEXT;
    const bool has_text = is_dict || col->type == PINT_TEXT;
    if (has_text ? col->data_bytes > TEXT_BYTES_MAX : col->data_bytes != 0) {
        return pinti_fail(err, has_text ? PINT_E_RANGE : PINT_E_INVALID, 0,
                          "%s: room for %" PRIu64 " bytes of text; text has at most %llu, other "
                          "types none",
                          where(at, schema, col), col->data_bytes, TEXT_BYTES_MAX);
    }
    if (!is_dict && col->n_categories != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: only dict_text has categories",
                          where(at, schema, col));
    }
    if (!is_dict) {
        return col->type == PINT_LIST_FIXED || col->item_type == 0
                   ? PINT_OK
                   : pinti_fail(err, PINT_E_INVALID, 0,
                                "%s: only list_fixed and dict_text have an item type",
                                where(at, schema, col));
    }
    const uint64_t limit = categories_max(col->item_type);
    if (limit == 0) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "%s: codes of type %" PRIu32 "; they are int8, int16 or int32",
                          where(at, schema, col), col->item_type);
    }
    if (col->n_categories > limit) {
        return pinti_fail(
            err, PINT_E_RANGE, 0, "%s: %" PRIu64 " categories, codes of %s name at most %" PRIu64,
            where(at, schema, col), col->n_categories, pint_type_name(col->item_type), limit);
    }
    return PINT_OK;
}

static pint_status check_metadata(const pinti_schema *schema, const column *col, uint64_t bytes,
                                  pint_error *err)
{
    char at[WHERE_BYTES];
    return bytes <= PINT_METADATA_BYTES_MAX
               ? PINT_OK
               : pinti_fail(err, PINT_E_RANGE, 0, "%s: %" PRIu64 " bytes of metadata, at most %u",
                            where(at, schema, col), bytes, PINT_METADATA_BYTES_MAX);
}

static pint_status check_column(const pinti_schema *schema, const column *col, pint_error *err)
{
    char at[WHERE_BYTES];
    const size_t name_bytes = strnlen(col->name, sizeof(col->name));
    if (!pinti_column_name_is_valid(col->name, name_bytes)) {
        return pinti_fail(
            err, PINT_E_INVALID, 0,
            "%s: a column's name is 1 to %u bytes of UTF-8 without control characters",
            where(at, schema, col), PINTI_NAME_BYTES_MAX);
    }
    if (pint_type_name(col->type) == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: unknown type %" PRIu32,
                          where(at, schema, col), col->type);
    }
    if ((col->flags & ~PINT_NULLABLE) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: unknown flags 0x%" PRIx32,
                          where(at, schema, col), col->flags);
    }
    pint_status status = check_timestamp(schema, col, err);
    if (status == PINT_OK) {
        status = check_width(schema, col, err);
    }
    if (status == PINT_OK) {
        status = check_text(schema, col, err);
    }
    return status != PINT_OK ? status : check_metadata(schema, col, col->metadata_bytes, err);
}

/* Every column's name once: a hash set of column numbers. */
static pint_status check_names_differ(const pinti_schema *schema, pint_error *err)
{
    char at[WHERE_BYTES];
    uint32_t room = 16;
    while (room < schema->n_columns * 2) {
        room *= 2;
    }
    uint32_t *seen = calloc(room, sizeof(*seen));
    if (seen == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "%s: %" PRIu32 " columns",
                          where(at, schema, NULL), schema->n_columns);
    }
    pint_status status = PINT_OK;
    for (uint32_t i = 0; i < schema->n_columns && status == PINT_OK; i++) {
        pinti_name name;
        if (!pinti_name_set(&name, schema->columns[i].name)) {
            continue; /* was checked */
        }
        uint32_t place = (uint32_t)name.hash & (room - 1);
        while (seen[place] != 0 && status == PINT_OK) {
            if (strcmp(schema->columns[seen[place] - 1].name, schema->columns[i].name) == 0) {
                status = pinti_fail(err, PINT_E_INVALID, 0,
                                    "%s: columns %" PRIu32 " and %" PRIu32 " have the same name",
                                    where(at, schema, &schema->columns[i]), seen[place] - 1, i);
            }
            place = (place + 1) & (room - 1);
        }
        seen[place] = i + 1;
    }
    free(seen);
    return status;
}

static uint64_t row_bits(const column *col)
{
    const uint32_t row_bytes = pinti_schema_row_bytes(col);
    if (row_bytes != 0) {
        return row_bytes * 8ull;
    }
    return col->type == PINT_TEXT ? 64 : 1;
}

static uint64_t choose_chunk_rows(const pinti_schema *schema)
{
    uint64_t widest_bits = 1;
    for (uint32_t i = 0; i < schema->n_columns; i++) {
        const uint64_t bits = row_bits(&schema->columns[i]);
        widest_bits = bits > widest_bits ? bits : widest_bits;
    }
    uint64_t rows = PINTI_CHUNK_ROWS_MIN;
    while (rows * 2 * widest_bits <= CHUNK_BITS &&
           schema->n_rows / (rows * 2) + (schema->n_rows % (rows * 2) != 0) >= CHUNKS_WANTED) {
        rows *= 2;
    }
    return rows;
}

static pint_status check_table(const pinti_schema *schema, pint_error *err)
{
    char at[WHERE_BYTES];
    const uint64_t chunk_rows = schema->chunk_rows;
    if (!pinti_name_is_valid(schema->name, strnlen(schema->name, sizeof(schema->name)))) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "%s: a table's name is 1 to %u bytes of UTF-8 without control characters "
                          "and '/', and not . or ..",
                          where(at, schema, NULL), PINTI_NAME_BYTES_MAX);
    }
    if ((schema->flags & ~(PINT_UNINITIALISED | PINT_KEPT)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: unknown flags 0x%" PRIx32,
                          where(at, schema, NULL), schema->flags);
    }
    if (schema->n_rows > PINTI_ROWS_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: %" PRIu64 " rows, at most %llu",
                          where(at, schema, NULL), schema->n_rows, PINTI_ROWS_MAX);
    }
    if (schema->n_columns == 0 || schema->n_columns > PINTI_TABLE_COLUMNS_MAX) {
        return pinti_fail(err, schema->n_columns == 0 ? PINT_E_INVALID : PINT_E_LIMIT, 0,
                          "%s: %" PRIu32 " columns; a table has 1 to %u", where(at, schema, NULL),
                          schema->n_columns, PINTI_TABLE_COLUMNS_MAX);
    }
    if (chunk_rows != 0 && (chunk_rows < PINTI_CHUNK_ROWS_MIN || chunk_rows > PINTI_ROWS_MAX ||
                            (chunk_rows & (chunk_rows - 1)) != 0)) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "%s: chunks of %" PRIu64 " rows; a power of two, %u or more",
                          where(at, schema, NULL), chunk_rows, PINTI_CHUNK_ROWS_MIN);
    }
    return check_metadata(schema, NULL, schema->metadata_bytes, err);
}

pint_status pinti_cat_check_schema(pinti_schema *schema, pint_error *err)
{
    pint_status status = check_table(schema, err);
    for (uint32_t i = 0; i < schema->n_columns && status == PINT_OK; i++) {
        status = check_column(schema, &schema->columns[i], err);
    }
    if (status == PINT_OK) {
        status = check_names_differ(schema, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const uint64_t asked = schema->chunk_rows;
    if (asked == 0) {
        schema->chunk_rows = choose_chunk_rows(schema);
    }
    pinti_shape shape;
    status = pinti_schema_shape(schema, &shape, err);
    if (status != PINT_OK) {
        schema->chunk_rows = asked;
    }
    return status;
}

/* ---- laying out ------------------------------------------------------------------------------ */

uint32_t pinti_schema_row_bytes(const struct pinti_schema_column *col)
{
    switch (col->type) {
    case PINT_BINARY_FIXED:
        return col->width_bytes;
    case PINT_LIST_FIXED:
        return col->list_length * pint_type_bytes(col->item_type);
    case PINT_DICT_TEXT:
        return pint_type_bytes(col->item_type);
    default:
        return pint_type_bytes(col->type);
    }
}

/* n rounded up to a power of two; false: overflow. */
static bool align_up(uint64_t *n, uint64_t unit)
{
    if (__builtin_add_overflow(*n, unit - 1, n)) {
        return false;
    }
    *n &= ~(unit - 1);
    return true;
}

/* The next buffer of bytes: its place, and *cursor behind it. False: overflow. */
static bool put_buffer(uint64_t *cursor, uint64_t bytes, uint64_t *out_place)
{
    const uint64_t unit = bytes >= PINTI_SLAB_BYTES ? PINTI_PAGE_BYTES : PINTI_CACHE_LINE;
    if (!align_up(cursor, unit)) {
        return false;
    }
    *out_place = *cursor;
    return !__builtin_add_overflow(*cursor, bytes, cursor);
}

/* (n + 1) offsets of 8 bytes. n is at most 2^48 + 2^48. */
static bool put_offsets(uint64_t *cursor, uint64_t n, uint64_t *out_place)
{
    return put_buffer(cursor, (n + 1) * 8, out_place);
}

bool pinti_schema_place(const pinti_schema *schema, const pinti_shape *shape, uint32_t i,
                        uint64_t *cursor, pinti_place *out_place)
{
    const column *col = &schema->columns[i];
    const uint32_t row_bytes = pinti_schema_row_bytes(col);
    uint64_t value_bytes = shape->row_capacity / 8;
    *out_place = (pinti_place){.validity = PINTI_NO_BUFFER,
                               .values = PINTI_NO_BUFFER,
                               .offsets = PINTI_NO_BUFFER,
                               .data = PINTI_NO_BUFFER,
                               .dict_offsets = PINTI_NO_BUFFER,
                               .metadata = PINTI_NO_BUFFER};
    if (row_bytes != 0 && __builtin_mul_overflow(shape->row_capacity, row_bytes, &value_bytes)) {
        return false;
    }
    bool ok = true;
    if ((col->flags & PINT_NULLABLE) != 0) {
        ok = put_buffer(cursor, shape->row_capacity / 8, &out_place->validity);
    }
    if (col->type == PINT_TEXT) {
        ok = ok && put_offsets(cursor, shape->row_capacity, &out_place->offsets) &&
             put_buffer(cursor, col->data_bytes, &out_place->data);
    } else {
        ok = ok && put_buffer(cursor, value_bytes, &out_place->values);
    }
    if (col->type == PINT_DICT_TEXT) {
        ok = ok && put_offsets(cursor, col->n_categories, &out_place->dict_offsets) &&
             put_buffer(cursor, col->data_bytes, &out_place->data);
    }
    if (col->metadata_bytes != 0) {
        ok = ok && put_buffer(cursor, col->metadata_bytes, &out_place->metadata);
    }
    const uint64_t states = sizeof(pinti_table_sync);
    const uint64_t words = states + schema->n_columns * sizeof(pinti_column_state);
    out_place->state = states + i * sizeof(pinti_column_state);
    out_place->words = words + i * shape->words_bytes;
    return ok;
}

pint_status pinti_schema_shape(const pinti_schema *schema, pinti_shape *out_shape, pint_error *err)
{
    char at[WHERE_BYTES];
    pinti_shape shape = {.chunk_rows = schema->chunk_rows};
    const uint64_t n_chunks =
        schema->n_rows / shape.chunk_rows + (schema->n_rows % shape.chunk_rows != 0);
    if (n_chunks > PINTI_CHUNKS_MAX) {
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "%s: %" PRIu64 " chunks of %" PRIu64 " rows, at most %u chunks",
                          where(at, schema, NULL), n_chunks, shape.chunk_rows, PINTI_CHUNKS_MAX);
    }
    shape.n_chunks = (uint32_t)n_chunks;
    /* At most 2^48 rows: no overflow. Rows of one chunk are not rounded up to all of it. */
    shape.row_capacity =
        n_chunks > 1 ? n_chunks * shape.chunk_rows : (schema->n_rows + 63) / 64 * 64;
    shape.row_capacity = shape.row_capacity < 64 ? 64 : shape.row_capacity;
    shape.words_bytes = (n_chunks * 8 + PINTI_CACHE_LINE - 1) / PINTI_CACHE_LINE * PINTI_CACHE_LINE;
    shape.sync_bytes = sizeof(pinti_table_sync) +
                       schema->n_columns * (sizeof(pinti_column_state) + shape.words_bytes);
    for (uint32_t i = 0; i < schema->n_columns; i++) {
        pinti_place place;
        if (!pinti_schema_place(schema, &shape, i, &shape.data_bytes, &place) ||
            shape.data_bytes > INT64_MAX) {
            return pinti_fail(err, PINT_E_RANGE, 0,
                              "%s: %" PRIu64 " rows of %" PRIu32
                              " bytes pass the limit of 2^63 bytes of a table",
                              where(at, schema, &schema->columns[i]), schema->n_rows,
                              pinti_schema_row_bytes(&schema->columns[i]));
        }
    }
    shape.metadata = PINTI_NO_BUFFER;
    if (schema->metadata_bytes != 0 &&
        (!put_buffer(&shape.data_bytes, schema->metadata_bytes, &shape.metadata) ||
         shape.data_bytes > INT64_MAX)) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "%s: passes the limit of 2^63 bytes of a table with its metadata",
                          where(at, schema, NULL));
    }
    *out_shape = shape;
    return PINT_OK;
}

pint_status pinti_cat_measure(const pinti_schema *schema, uint64_t *out_data_bytes,
                              uint64_t *out_sync_bytes, pint_error *err)
{
    pinti_shape shape = {0};
    const pint_status status = pinti_schema_shape(schema, &shape, err);
    if (status == PINT_OK) {
        *out_data_bytes = shape.data_bytes;
        *out_sync_bytes = shape.sync_bytes;
    }
    return status;
}
