/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Filling. Nobody else sees the table before it is published, so buffers are written as a whole: a
 * call per value, and a search of the categories for each new one, would take longer than reading
 * the file.
 */

#include "ipc/cli/load_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/table.h"
#include "ipc/cli/cli.h"

#define CATEGORIES_SPARE_MIN 16u
#define CATEGORY_BYTES_SPARE 1024u

/* ---- schema ---------------------------------------------------------------------------------- */

static pint_type type_of(pinti_csv_kind kind)
{
    static const pint_type types[] = {
        [PINTI_CSV_AUTO] = PINT_TEXT,          [PINTI_CSV_BOOL] = PINT_BOOL8,
        [PINTI_CSV_INT8] = PINT_INT8,          [PINTI_CSV_INT16] = PINT_INT16,
        [PINTI_CSV_INT32] = PINT_INT32,        [PINTI_CSV_INT64] = PINT_INT64,
        [PINTI_CSV_UINT8] = PINT_UINT8,        [PINTI_CSV_UINT16] = PINT_UINT16,
        [PINTI_CSV_UINT32] = PINT_UINT32,      [PINTI_CSV_UINT64] = PINT_UINT64,
        [PINTI_CSV_FLOAT32] = PINT_FLOAT32,    [PINTI_CSV_FLOAT64] = PINT_FLOAT64,
        [PINTI_CSV_DATE32] = PINT_DATE32,      [PINTI_CSV_TIMESTAMP] = PINT_TIMESTAMP,
        [PINTI_CSV_CATEGORY] = PINT_DICT_TEXT, [PINTI_CSV_TEXT] = PINT_TEXT,
    };
    return types[kind];
}

static pint_unit unit_of(pinti_csv_unit unit)
{
    static const pint_unit units[] = {
        [PINTI_CSV_UNIT_AUTO] = PINT_UNIT_NONE,     [PINTI_CSV_SECOND] = PINT_SECOND,
        [PINTI_CSV_MILLISECOND] = PINT_MILLISECOND, [PINTI_CSV_MICROSECOND] = PINT_MICROSECOND,
        [PINTI_CSV_NANOSECOND] = PINT_NANOSECOND,
    };
    return units[unit];
}

static uint64_t with_spare(uint64_t n, uint64_t spare_min)
{
    return n + (n / 4 > spare_min ? n / 4 : spare_min);
}

/* Room and code type of the categories. */
static void describe_categories(const pinti_csv_strings *strings, pint_field *field)
{
    const uint64_t room = with_spare(strings->n, CATEGORIES_SPARE_MIN);
    const uint64_t text_bytes = (uint64_t)strings->offsets[strings->n];
    field->item_type = room <= 1u << 7 ? PINT_INT8 : room <= 1u << 15 ? PINT_INT16 : PINT_INT32;
    field->n_categories = room < INT32_MAX ? room : INT32_MAX;
    field->data_bytes = with_spare(text_bytes, CATEGORY_BYTES_SPARE);
}

static void describe(const pinti_csv_column *source, pint_field *field)
{
    *field = (pint_field)PINT_FIELD_INIT;
    field->name = source->name;
    field->type = type_of(source->type.kind);
    field->flags = source->n_null > 0 ? PINT_NULLABLE : 0;
    if (field->type == PINT_TIMESTAMP) {
        field->unit = unit_of(source->type.unit);
        field->zone = source->type.utc ? "UTC" : NULL;
    } else if (field->type == PINT_TEXT) {
        field->data_bytes = (uint64_t)source->strings.offsets[source->strings.n];
    } else if (field->type == PINT_DICT_TEXT) {
        describe_categories(&source->strings, field);
    }
}

static pint_status create(pint_pool *pool, const char *name, const pinti_csv_table *source,
                          const pinti_load_options *options, pint_table **out, pint_error *err)
{
    pint_field *fields =
        pinti_cli_alloc((size_t)source->n_columns + options->n_added, sizeof(*fields));
    for (uint32_t i = 0; i < source->n_columns; i++) {
        describe(&source->columns[i], &fields[i]);
    }
    for (uint32_t i = 0; i < options->n_added; i++) {
        fields[source->n_columns + i] = (pint_field)PINT_FIELD_INIT;
        fields[source->n_columns + i].name = options->added[i].name;
        fields[source->n_columns + i].type = options->added[i].type;
    }
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.n_fields = source->n_columns + options->n_added;
    schema.fields = fields;
    schema.chunk_rows = options->chunk_rows;
    schema.flags = PINT_UNINITIALISED | (options->is_kept ? PINT_KEPT : 0);
    const pint_status status = pint_table_create(pool, name, &schema, source->n_rows, out, err);
    free(fields);
    return status;
}

/* ---- filling --------------------------------------------------------------------------------- */

static void copy(void *out, const void *from, uint64_t bytes)
{
    if (bytes > 0) {
        memcpy(out, from, (size_t)bytes);
    }
}

static void fill_text(const pint_column *column, const pinti_csv_strings *strings)
{
    copy(column->data, strings->data, (uint64_t)strings->offsets[strings->n]);
    copy(column->offsets, strings->offsets, (strings->n + 1) * sizeof(int64_t));
    /* relaxed: publishing the table publishes it; until then only its creator looks */
    pinti_store64_relaxed(&pinti_column_desc_of(column)->state->xtext_rows, strings->n);
}

/* Codes are the file's own numbers of the categories, -1 under nulls. */
static void fill_codes(const pint_column *column, const int32_t *codes, uint64_t n_rows)
{
    if (pint_column_item_type(column) == PINT_INT8) {
        int8_t *out = column->values;
        for (uint64_t row = 0; row < n_rows; row++) {
            out[row] = (int8_t)codes[row];
        }
    } else if (pint_column_item_type(column) == PINT_INT16) {
        int16_t *out = column->values;
        for (uint64_t row = 0; row < n_rows; row++) {
            out[row] = (int16_t)codes[row];
        }
    } else {
        copy(column->values, codes, n_rows * sizeof(*codes));
    }
}

static void fill_categories(const pint_column *column, const pinti_csv_strings *strings)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    copy(desc->data, strings->data, (uint64_t)strings->offsets[strings->n]);
    copy(desc->dict_offsets, strings->offsets, (strings->n + 1) * sizeof(int64_t));
    /* release: text and offsets before the count, as for every appender (host/text.c) */
    pinti_store64_release(&desc->state->xdict_count, strings->n);
}

static void fill(const pint_column *column, const pinti_csv_column *source, uint64_t n_rows)
{
    if (source->validity != NULL) {
        copy(column->validity, source->validity, (n_rows + 7) / 8);
    }
    if (column->type == PINT_TEXT) {
        fill_text(column, &source->strings);
    } else if (column->type == PINT_DICT_TEXT) {
        fill_categories(column, &source->strings);
        fill_codes(column, source->values, n_rows);
    } else {
        copy(column->values, source->values, n_rows * pinti_csv_item_bytes(source->type.kind));
    }
}

static bool fits_double(const pinti_csv_column *column, uint64_t n_rows)
{
    const int64_t limit = 1ll << 53;
    const int64_t *values = column->values;
    bool fits = true;
    for (uint64_t row = 0; row < n_rows && fits; row++) {
        /* an unsigned value beyond the limit is beyond it, or negative, as a signed one */
        fits = values[row] <= limit &&
               values[row] >= (column->type.kind == PINTI_CSV_UINT64 ? 0 : -limit);
    }
    return fits;
}

void pinti_load_floats(pinti_csv_table *table)
{
    for (uint32_t i = 0; i < table->n_columns; i++) {
        pinti_csv_column *column = &table->columns[i];
        if ((column->type.kind != PINTI_CSV_INT64 && column->type.kind != PINTI_CSV_UINT64) ||
            !fits_double(column, table->n_rows)) {
            continue;
        }
        column->type.kind = PINTI_CSV_FLOAT64;
        for (uint64_t row = 0; row < table->n_rows; row++) {
            char *at = (char *)column->values + row * sizeof(double);
            int64_t integer;
            memcpy(&integer, at, sizeof(integer));
            const bool is_null = column->validity != NULL &&
                                 ((uint32_t)column->validity[row / 8] >> (row % 8) & 1u) == 0;
            const double value = is_null ? NAN : (double)integer;
            memcpy(at, &value, sizeof(value));
        }
    }
}

pint_status pinti_load_table(pint_pool *pool, const char *name, const pinti_csv_table *source,
                             const pinti_load_options *options, pinti_loaded *out, pint_error *err)
{
    pint_table *table;
    pint_status status = create(pool, name, source, options, &table, err);
    if (status != PINT_OK) {
        return status;
    }
    for (uint32_t i = 0; i < source->n_columns && status == PINT_OK; i++) {
        pint_column column;
        status = pint_table_column_at(table, i, &column, err);
        if (status == PINT_OK) {
            fill(&column, &source->columns[i], source->n_rows);
        }
    }
    for (uint32_t i = 0; i < options->n_added && status == PINT_OK; i++) {
        pint_column column;
        status = pint_table_column_at(table, source->n_columns + i, &column, err);
        if (status == PINT_OK) {
            memset(column.values, 0, (size_t)(source->n_rows * pint_column_row_bytes(&column)));
        }
    }
    if (status == PINT_OK) {
        status = pint_table_publish(table, options->replace ? PINT_REPLACE : 0, err);
    }
    if (status == PINT_OK) {
        out->n_rows = pint_table_rows(table);
        out->n_columns = pint_table_columns(table);
        out->bytes = pint_table_bytes(table);
    }
    pint_table_close(table); /* drops it when it is not published */
    return status;
}
