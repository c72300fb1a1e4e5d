/* SPDX-License-Identifier: Apache-2.0 */

/* Columns: finding them, their facts, nulls and bits, raw writes' mark, versions, waiting. */

#include <inttypes.h>
#include <string.h>

#include "host/claim.h"
#include "host/error.h"
#include "host/name.h"

static void fill_column(pint_table *table, uint32_t index, pint_column *out)
{
    const pinti_column_desc *column = pinti_column_desc_at(table->desc, index);
    *out = (pint_column){
        .table = table,
        .values = column->values,
        .validity = column->validity,
        .offsets = column->offsets,
        .data = column->type == PINT_TEXT ? column->data : NULL,
        .index = index,
        .type = column->type,
    };
    memcpy(&out->reserved[0], &column, sizeof(out->reserved[0])); /* see pinti_column_desc_of() */
    if ((table->mode & PINT_WRITE) != 0 && column->type != PINT_TEXT) {
        /* see pinti_column_desc_claimable() */
        memcpy(&out->reserved[1], &column, sizeof(out->reserved[1]));
    }
}

pint_status pint_table_column(pint_table *table, const char *name, pint_column *out_column,
                              pint_error *err)
{
    if (table == NULL || name == NULL || out_column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "column: NULL argument");
    }
    pinti_table_desc *desc = table->desc;
    pinti_name key;
    pint_error failure = {.status = PINT_OK};
    if (pinti_name_set(&key, name)) {
        for (uint64_t at = key.hash; desc->buckets[at & (desc->n_buckets - 1)] != 0; at++) {
            const uint32_t index = desc->buckets[at & (desc->n_buckets - 1)] - 1;
            if (strcmp(desc->columns[index].name, name) == 0) {
                fill_column(table, index, out_column);
                return PINT_OK;
            }
        }
        uint32_t added;
        if (pinti_column_find_added(desc, name, key.hash, &added, &failure)) {
            fill_column(table, added, out_column);
            return PINT_OK;
        }
        if (failure.status != PINT_OK) {
            return pinti_fail(err, failure.status, 0, "%s", failure.message);
        }
    }
    char shown[80];
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "column: the table has no column '%s'",
                      pinti_printable(shown, sizeof(shown), name, strlen(name)));
}

pint_status pint_table_column_at(pint_table *table, uint32_t index, pint_column *out_column,
                                 pint_error *err)
{
    if (table == NULL || out_column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "column: NULL argument");
    }
    pinti_table_desc *desc = table->desc;
    pint_status status = PINT_OK;
    /* acquire: the column is complete; pairs with pinti_columns_extend_locked() */
    if (index >= pinti_load32_acquire(&desc->xn_columns) &&
        index < pinti_load32_acquire(&desc->rec->xn_columns)) {
        status = pinti_columns_extend(desc, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const uint32_t n_columns = pinti_load32_acquire(&desc->xn_columns);
    if (index >= n_columns) {
        return pinti_fail(err, PINT_E_RANGE, 0, "column: index %u of %u columns", index, n_columns);
    }
    fill_column(table, index, out_column);
    return PINT_OK;
}

/* ---- facts ----------------------------------------------------------------------------------- */

const char *pint_column_name(const pint_column *column)
{
    return pinti_column_desc_of(column)->name;
}

pint_unit pint_column_unit(const pint_column *column)
{
    return pinti_column_desc_of(column)->rec->unit;
}

const char *pint_column_zone(const pint_column *column)
{
    return pinti_column_desc_of(column)->zone;
}

int pint_column_is_nullable(const pint_column *column)
{
    return column->validity != NULL;
}

uint32_t pint_column_row_bytes(const pint_column *column)
{
    return pinti_column_desc_of(column)->row_bytes;
}

uint32_t pint_column_list_length(const pint_column *column)
{
    return pinti_column_desc_of(column)->rec->list_length;
}

pint_type pint_column_item_type(const pint_column *column)
{
    return pinti_column_desc_of(column)->rec->item_type;
}

uint64_t pint_column_data_bytes(const pint_column *column)
{
    return pinti_column_desc_of(column)->data_bytes;
}

/* ---- nulls and bits -------------------------------------------------------------------------- */

static pint_status check_row(const pint_column *column, uint64_t row, const char *operation,
                             pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    if (row >= column->table->desc->n_rows) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: row %" PRIu64 " of %" PRIu64 " in column '%s'",
                          operation, row, column->table->desc->n_rows,
                          pinti_column_desc_of(column)->name);
    }
    return pinti_table_check_write(column->table, operation, err);
}

/* R10: set or clear one bit; other rows share its byte. */
static void store_bit(uint8_t *bits, uint64_t row, bool value)
{
    pinti_a8 *byte = (pinti_a8 *)(void *)&bits[row / 8];
    const uint8_t bit = (uint8_t)(1u << (row % 8));
    /* release: a value stored before is seen by who acquires the bit's chunk word later */
    if (value) {
        (void)pinti_or8_release(byte, bit);
    } else {
        (void)pinti_and8_release(byte, (uint8_t)~bit);
    }
}

static bool load_bit(const uint8_t *bits, uint64_t row)
{
    const pinti_a8 *byte = (const pinti_a8 *)(const void *)&bits[row / 8];
    return ((uint32_t)pinti_load8_relaxed(byte) >> (row % 8) & 1u) !=
           0; /* relaxed: one byte, no order */
}

pint_status pint_column_set_null(const pint_column *column, uint64_t row, int is_null,
                                 pint_error *err)
{
    const pint_status status = check_row(column, row, "set null", err);
    if (status != PINT_OK) {
        return status;
    }
    if (column->validity == NULL) {
        return pinti_fail(err, PINT_E_TYPE, 0, "set null: column '%s' is not nullable",
                          pinti_column_desc_of(column)->name);
    }
    store_bit(column->validity, row, is_null == 0);
    return PINT_OK;
}

int pint_column_is_null(const pint_column *column, uint64_t row)
{
    return column->validity != NULL && row < column->table->desc->n_rows &&
           !load_bit(column->validity, row);
}

uint64_t pint_column_count_null(const pint_column *column, uint64_t first, uint64_t n_rows)
{
    const uint64_t rows = column->table->desc->n_rows;
    if (column->validity == NULL || first >= rows) {
        return 0;
    }
    const uint64_t end = n_rows > rows - first ? rows : first + n_rows;
    uint64_t n_valid = 0;
    uint64_t row = first;
    for (; row < end && row % 64 != 0; row++) {
        n_valid += load_bit(column->validity, row);
    }
    for (; row + 64 <= end; row += 64) {
        const pinti_a64 *word = (const pinti_a64 *)(const void *)&column->validity[row / 8];
        n_valid += (uint64_t)__builtin_popcountll(pinti_load64_relaxed(word));
    }
    for (; row < end; row++) {
        n_valid += load_bit(column->validity, row);
    }
    return end - first - n_valid;
}

pint_status pint_column_set_bool(const pint_column *column, uint64_t row, int value,
                                 pint_error *err)
{
    const pint_status status = check_row(column, row, "set bool", err);
    if (status != PINT_OK) {
        return status;
    }
    if (column->type == PINT_BOOL) {
        store_bit(column->values, row, value != 0);
        return PINT_OK;
    }
    if (column->type == PINT_BOOL8) {
        ((uint8_t *)column->values)[row] = value != 0;
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_TYPE, 0, "set bool: column '%s' is of type %s",
                      pinti_column_desc_of(column)->name, pint_type_name(column->type));
}

int pint_column_get_bool(const pint_column *column, uint64_t row)
{
    if (row >= column->table->desc->n_rows) {
        return 0;
    }
    if (column->type == PINT_BOOL) {
        return load_bit(column->values, row);
    }
    return column->type == PINT_BOOL8 && ((const uint8_t *)column->values)[row] != 0;
}

/* ---- versions -------------------------------------------------------------------------------- */

/* R5: one chunk was stored to plainly: devices do not have the newest bytes any more. BUSY when
 * somebody holds it, AHEAD when the host did not have them before the stores: the newest would be
 * lost. */
static enum pinti_claim mark_chunk(pinti_a64 *word)
{
    uint64_t now = pinti_load64_relaxed(word); /* relaxed: the swap checks it */
    for (;;) {
        if (pinti_chunk_state(now) != PINTI_CHUNK_CLEAN) {
            /* torn stays torn: a plain store does not vouch for the whole chunk */
            return pinti_chunk_state(now) == PINTI_CHUNK_TORN ? PINTI_CLAIMED : PINTI_CLAIM_BUSY;
        }
        if ((now & PINTI_HOST_STALE) != 0) {
            return PINTI_CLAIM_AHEAD;
        }
        /* seq, hence release: the plain stores come before; pairs with readers' acquire */
        if (pinti_cas64_seq(word, &now, pinti_chunk_next(now, PINTI_CHUNK_CLEAN, 0, 0))) {
            return PINTI_CLAIMED;
        }
    }
}

pint_status pint_column_mark(const pint_column *column, uint64_t first, uint64_t n_rows,
                             pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "mark: NULL argument");
    }
    pinti_table_desc *desc = column->table->desc;
    if (first > desc->n_rows || n_rows > desc->n_rows - first) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "mark: rows %" PRIu64 " + %" PRIu64 " of %" PRIu64 " in column '%s'",
                          first, n_rows, desc->n_rows, pinti_column_desc_of(column)->name);
    }
    const pint_status status = pinti_table_check_write(column->table, "mark", err);
    if (status != PINT_OK || n_rows == 0) {
        return status;
    }
    const uint64_t last = (first + n_rows - 1) >> desc->chunk_shift;
    for (uint64_t chunk = first >> desc->chunk_shift; chunk <= last; chunk++) {
        const enum pinti_claim claim = mark_chunk(&pinti_column_desc_of(column)->words[chunk]);
        if (claim != PINTI_CLAIMED) {
            pinti_bell_ring(desc->bell);
            return pinti_claim_fail(claim, "mark", pinti_column_desc_of(column), chunk, err);
        }
    }
    pinti_bell_ring(desc->bell);
    return PINT_OK;
}

uint64_t pint_column_version(const pint_column *column, uint64_t chunk)
{
    if (chunk >= column->table->desc->n_chunks) {
        return 0;
    }
    return pinti_chunk_seq(pinti_load64_acquire(&pinti_column_desc_of(column)->words[chunk]));
}

struct version_wait {
    const pinti_a64 *word;
    uint64_t seen;
    uint64_t now;
};

static bool version_differs(void *context)
{
    struct version_wait *wait = context;
    wait->now = pinti_chunk_seq(pinti_load64_seq(wait->word)); /* seq: after the bell was set */
    return wait->now != wait->seen;
}

pint_status pint_column_wait(const pint_column *column, uint64_t chunk, uint64_t seen_version,
                             int64_t timeout_ms, uint64_t *out_version, pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "wait: NULL argument");
    }
    pinti_table_desc *desc = column->table->desc;
    if (chunk >= desc->n_chunks) {
        return pinti_fail(err, PINT_E_RANGE, 0, "wait: chunk %" PRIu64 " of %u in column '%s'",
                          chunk, desc->n_chunks, pinti_column_desc_of(column)->name);
    }
    struct version_wait wait = {&pinti_column_desc_of(column)->words[chunk], seen_version, 0};
    const pint_status status =
        pinti_wait(desc->pool, desc->bell, version_differs, &wait, timeout_ms, false, "wait", err);
    if (status == PINT_OK && out_version != NULL) {
        *out_version = wait.now;
    }
    return status;
}

pint_status pint_column_recover(const pint_column *column, uint64_t chunk, pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "recover: NULL argument");
    }
    pinti_table_desc *desc = column->table->desc;
    if (chunk >= desc->n_chunks) {
        return pinti_fail(err, PINT_E_RANGE, 0, "recover: chunk %" PRIu64 " of %u in column '%s'",
                          chunk, desc->n_chunks, pinti_column_desc_of(column)->name);
    }
    const pint_status status = pinti_table_check_write(column->table, "recover", err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_a64 *word = &pinti_column_desc_of(column)->words[chunk];
    uint64_t now = pinti_load64_acquire(word);
    while (pinti_chunk_state(now) == PINTI_CHUNK_TORN) {
        if (pinti_cas64_seq(word, &now, pinti_chunk_next(now, PINTI_CHUNK_CLEAN, 0, 0))) {
            pinti_bell_ring(desc->bell);
            return PINT_OK;
        }
    }
    return pinti_fail(err, PINT_E_STATE, 0, "recover: chunk %" PRIu64 " of column '%s' is not torn",
                      chunk, pinti_column_desc_of(column)->name);
}
