/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Text and categories. Text is written once, row after row, before the table is published.
 * Categories are append-only (R20): the tail lease is taken, the list is looked through again, text
 * and offset are written, the count is published, the lease is given back; only then is the code
 * handed out. A reader clamps to the published count. A dead appender published nothing: the sweep
 * frees the lease and what it wrote beyond the count is overwritten.
 */

#include <inttypes.h>
#include <string.h>

#include "host/claim.h"
#include "host/crash.h"
#include "host/error.h"
#include "host/intent.h"
#include "host/name.h"

/* ---- PINT_TEXT ------------------------------------------------------------------------------- */

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
    for (uint32_t i = 0; i < desc->n_columns; i++) {
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

/* One (begin, end) pair of offsets, read once and checked against the room. */
static pint_status slice(const pinti_column_desc *desc, const int64_t *offsets, uint64_t at,
                         const char **out_text, uint64_t *out_bytes, pint_error *err)
{
    const uint64_t begin = pinti_load64_relaxed((const pinti_a64 *)(const void *)&offsets[at]);
    const uint64_t end = pinti_load64_relaxed((const pinti_a64 *)(const void *)&offsets[at + 1]);
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
        return slice(desc, desc->offsets, row, out_text, out_bytes, err);
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

/* ---- PINT_DICT_TEXT -------------------------------------------------------------------------- */

static uint64_t published_categories(const pinti_column_desc *desc)
{
    /* acquire: their text and offsets are complete; pairs with the release in append() */
    const uint64_t n = pinti_load64_acquire(&desc->state->xdict_count);
    return n < desc->n_categories ? n : desc->n_categories;
}

uint64_t pint_column_categories(const pint_column *column)
{
    return column->type == PINT_DICT_TEXT ? published_categories(pinti_column_desc_of(column)) : 0;
}

pint_status pint_column_category(const pint_column *column, uint64_t code, const char **out_text,
                                 uint64_t *out_bytes, pint_error *err)
{
    if (column == NULL || out_text == NULL || out_bytes == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "category: NULL argument");
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (column->type != PINT_DICT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "category: column '%s' is of type %s", desc->name,
                          pint_type_name(column->type));
    }
    const uint64_t n = published_categories(desc);
    if (code >= n) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "category: code %" PRIu64 " of %" PRIu64 " in column '%s'", code, n,
                          desc->name);
    }
    return slice(desc, desc->dict_offsets, code, out_text, out_bytes, err);
}

/* Look among categories [from, n): the code, or -1. */
static int64_t find_category(const pint_column *column, uint64_t from, uint64_t n, const char *text,
                             uint64_t text_bytes)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    for (uint64_t code = from; code < n; code++) {
        const char *have = NULL;
        uint64_t have_bytes = 0;
        if (slice(desc, desc->dict_offsets, code, &have, &have_bytes, NULL) == PINT_OK &&
            have_bytes == text_bytes && (text_bytes == 0 || memcmp(have, text, text_bytes) == 0)) {
            return (int64_t)code;
        }
    }
    return -1;
}

struct tail_wait {
    pinti_a64 *lease;
    uint64_t session;
};

static bool take_tail(void *context)
{
    const struct tail_wait *wait = context;
    uint64_t nobody = 0;
    /* seq: pairs with the release when it is given back, or with the sweep */
    return pinti_cas64_seq(wait->lease, &nobody, wait->session);
}

/* R20, under the tail lease: n categories are published, text is none of them. */
static pint_status append(const pinti_column_desc *desc, uint64_t n, const char *text,
                          uint64_t text_bytes, pint_error *err)
{
    const uint64_t end =
        n == 0 ? 0 : pinti_load64_relaxed((const pinti_a64 *)(const void *)&desc->dict_offsets[n]);
    if (n >= desc->n_categories) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "add category: column '%s' has room for %" PRIu64 " categories",
                          desc->name, desc->n_categories);
    }
    if (end > desc->data_bytes || text_bytes > desc->data_bytes - end) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "add category: column '%s': %" PRIu64 " bytes after %" PRIu64
                          ", room for %" PRIu64,
                          desc->name, text_bytes, end, desc->data_bytes);
    }
    if (text_bytes != 0) {
        memcpy(desc->data + end, text, text_bytes);
    }
    if (n == 0) {
        desc->dict_offsets[0] = 0;
    }
    desc->dict_offsets[n + 1] = (int64_t)(end + text_bytes);
    PINTI_CRASHPOINT(DICT_WRITTEN);
    /* release: text and offset before the count; pairs with published_categories() */
    pinti_store64_release(&desc->state->xdict_count, n + 1);
    PINTI_CRASHPOINT(DICT_PUBLISHED);
    return PINT_OK;
}

static pint_status check_category(const pint_column *column, const char *text, uint64_t text_bytes,
                                  const int32_t *out_code, pint_error *err)
{
    if (column == NULL || out_code == NULL || (text == NULL && text_bytes != 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add category: NULL argument");
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (column->type != PINT_DICT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "add category: column '%s' is of type %s",
                          desc->name, pint_type_name(column->type));
    }
    if (!pinti_utf8_is_valid(text, text_bytes)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add category: column '%s': not UTF-8",
                          desc->name);
    }
    return pinti_table_check_write(column->table, "add category", err);
}

pint_status pint_column_add_category(const pint_column *column, const char *text,
                                     uint64_t text_bytes, int32_t *out_code, pint_error *err)
{
    pint_status status = check_category(column, text, text_bytes, out_code, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_table_desc *table = column->table->desc;
    pint_pool *pool = table->pool;
    status = pinti_pool_enter(pool, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t seen = published_categories(desc);
    int64_t code = find_category(column, 0, seen, text, text_bytes);
    if (code < 0) {
        const uint32_t place = pinti_intent_note(
            pool, pinti_intent(PINTI_INTENT_DICT, table->index, column->index, 0));
        struct tail_wait wait = {&desc->state->xdict_lease, pool->session_index};
        status = pinti_wait(pool, table->bell, take_tail, &wait, -1, true, "add category", err);
        if (status != PINT_OK) {
            pinti_intent_clear(pool, place);
            return status;
        }
        PINTI_CRASHPOINT(DICT_HELD);
        const uint64_t n = published_categories(desc);
        code = find_category(column, seen, n, text, text_bytes);
        if (code < 0) {
            status = append(desc, n, text, text_bytes, err);
            code = (int64_t)n;
        }
        /* seq, hence release: gives the tail to take_tail(); and before the look at the bell */
        pinti_store64_seq(&desc->state->xdict_lease, 0);
        pinti_bell_ring(table->bell);
        pinti_intent_clear(pool, place);
    }
    if (status == PINT_OK) {
        *out_code = (int32_t)code;
    }
    return status;
}
