/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Text. Written once, row after row, by the creator before the table is published. Reading a row of
 * text, or the category of a row (host/dict.c). Offsets in shared memory are a peer's: each pair is
 * read once and checked against the room.
 */

#include <inttypes.h>
#include <string.h>

#include "host/error.h"
#include "host/name.h"
#include "host/table.h"
#include "host/word.h"

/* ---- writing --------------------------------------------------------------------------------- */

static pint_status check_put(const pint_column *column, uint64_t row, const char *text,
                             uint64_t text_bytes, pint_error *err)
{
    if (column == NULL || (text == NULL && text_bytes != 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "put text: NULL argument");
    }
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (column->type != PINT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "put text: column '%s' is of type %s", desc->name,
                          pint_type_name(column->type));
    }
    if (row >= table->n_rows) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "put text: row %" PRIu64 " of %" PRIu64 " in column '%s'", row,
                          table->n_rows, desc->name);
    }
    const uint64_t state = pinti_load64_acquire(&table->rec->xgen_state);
    if (pinti_state_of(state) != PINTI_BUILDING || (column->table->mode & PINT_WRITE) == 0) {
        return pinti_fail(err, PINT_E_STATE, 0,
                          "put text: column '%s' of a published table cannot change", desc->name);
    }
    if (!pinti_utf8_is_valid(text, text_bytes)) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "put text: row %" PRIu64 " of column '%s' is not UTF-8", row, desc->name);
    }
    return PINT_OK;
}

pint_status pint_column_put_text(const pint_column *column, uint64_t row, const char *text,
                                 uint64_t text_bytes, pint_error *err)
{
    const pint_status status = check_put(column, row, text, text_bytes, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    /* relaxed: one creator; nobody else sees the table */
    const uint64_t rows = pinti_load64_relaxed(&desc->state->xtext_rows);
    if (row < rows) {
        return pinti_fail(err, PINT_E_STATE, 0,
                          "put text: row %" PRIu64 " of column '%s' after row %" PRIu64, row,
                          desc->name, rows - 1);
    }
    if (rows == 0) {
        desc->offsets[0] = 0; /* the memory may be uninitialised */
    }
    const int64_t end = desc->offsets[rows];
    if (end < 0 || (uint64_t)end > desc->data_bytes ||
        text_bytes > desc->data_bytes - (uint64_t)end) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "put text: row %" PRIu64 " of column '%s': %" PRIu64
                          " bytes after %" PRId64 ", room for %" PRIu64,
                          row, desc->name, text_bytes, end, desc->data_bytes);
    }
    if (text_bytes != 0) {
        memcpy(desc->data + end, text, text_bytes);
    }
    for (uint64_t skipped = rows; skipped < row; skipped++) {
        desc->offsets[skipped + 1] = end;
    }
    desc->offsets[row + 1] = end + (int64_t)text_bytes;
    pinti_store64_relaxed(&desc->state->xtext_rows, row + 1);
    return PINT_OK;
}

void pinti_text_finish(const pint_table *table)
{
    const pinti_table_desc *desc = table->desc;
    for (uint32_t i = 0; i < desc->n_first; i++) { /* nothing is added to one that is built */
        const pinti_column_desc *column = &desc->columns[i];
        /* relaxed: one creator; nobody else sees the table */
        const uint64_t rows = column->type == PINT_TEXT
                                  ? pinti_load64_relaxed(&column->state->xtext_rows)
                                  : desc->n_rows + 1;
        if (rows == 0 || rows > desc->n_rows) {
            continue; /* 0: empty, or its buffers were filled as a whole by the caller */
        }
        const int64_t end = column->offsets[rows];
        for (uint64_t row = rows; row < desc->n_rows; row++) {
            column->offsets[row + 1] = end;
        }
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

pint_status pinti_text_slice(const pinti_column_desc *desc, const int64_t *offsets, uint64_t i,
                             const char **out_text, uint64_t *out_bytes, pint_error *err)
{
    const uint64_t begin = pinti_load64_relaxed((const pinti_a64 *)(const void *)&offsets[i]);
    const uint64_t end = pinti_load64_relaxed((const pinti_a64 *)(const void *)&offsets[i + 1]);
    if (begin > end || end > desc->data_bytes) {
        return pinti_fail(err, PINT_E_CORRUPT, 0,
                          "text: offsets %" PRIu64 " to %" PRIu64 " of column '%s', room %" PRIu64,
                          begin, end, desc->name, desc->data_bytes);
    }
    *out_text = desc->data + begin;
    *out_bytes = end - begin;
    return PINT_OK;
}

/* Code of a row, -1 for a value that is no code. */
static int64_t code_of(const pint_column *column, uint64_t row)
{
    switch (pinti_column_desc_of(column)->row_bytes) {
    case 1:
        return ((const int8_t *)column->values)[row];
    case 2:
        return ((const int16_t *)column->values)[row];
    case 4:
        return ((const int32_t *)column->values)[row];
    default:
        return -1;
    }
}

pint_status pint_column_get_text(const pint_column *column, uint64_t row, const char **out_text,
                                 uint64_t *out_bytes, pint_error *err)
{
    if (column == NULL || out_text == NULL || out_bytes == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "get text: NULL argument");
    }
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (row >= table->n_rows) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "get text: row %" PRIu64 " of %" PRIu64 " in column '%s'", row,
                          table->n_rows, desc->name);
    }
    if (column->type == PINT_TEXT) {
        const uint64_t state = pinti_load64_relaxed(&table->rec->xgen_state);
        if (pinti_state_of(state) == PINTI_BUILDING &&
            row >= pinti_load64_relaxed(&desc->state->xtext_rows)) {
            *out_text = desc->data; /* offsets beyond what was written are not there yet */
            *out_bytes = 0;
            return PINT_OK;
        }
        return pinti_text_slice(desc, desc->offsets, row, out_text, out_bytes, err);
    }
    if (column->type != PINT_DICT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "get text: column '%s' is of type %s", desc->name,
                          pint_type_name(column->type));
    }
    if (pint_column_is_null(column, row)) {
        *out_text = desc->data;
        *out_bytes = 0;
        return PINT_OK;
    }
    const int64_t code = code_of(column, row);
    if (code < 0) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "get text: row %" PRIu64 " of column '%s' has code %" PRId64, row,
                          desc->name, code);
    }
    return pint_column_category(column, (uint64_t)code, out_text, out_bytes, err);
}
