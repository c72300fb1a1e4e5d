/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Does what lies in shared memory keep what the column's type promises? For code that uses offsets
 * and codes without checks of its own.
 *
 * Rows are taken in blocks: a block is copied out of shared memory, each byte read once, and judged
 * in the copy by loops without branches, for compilers to make vector code of. Only a block in
 * which something is wrong is looked through row by row, in the same copy.
 */

#include <inttypes.h>
#include <string.h>

#include "host/error.h"
#include "host/table.h"

#define BLOCK_ROWS 1024u

/* ---- bytes 0 or 1 ---------------------------------------------------------------------------- */

static pint_status check_bool8(const pinti_column_desc *desc, uint64_t first, uint64_t n,
                               pint_error *err)
{
    uint8_t block[BLOCK_ROWS];
    uint8_t all = 0;
    memcpy(block, desc->values + first, n);
    for (uint64_t i = 0; i < n; i++) {
        all |= block[i];
    }
    if (all <= 1) {
        return PINT_OK;
    }
    uint64_t i = 0;
    while (block[i] <= 1) {
        i++;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0,
                      "validate: row %" PRIu64 " of column '%s' is %u, not 0 or 1", first + i,
                      desc->name, block[i]);
}

/* ---- offsets --------------------------------------------------------------------------------- */

/* *end: in, the end of the row before, as it was read; out, that of the last row. Offsets are
 * compared as unsigned numbers: a negative one is over any room. */
static pint_status check_offsets(const pinti_column_desc *desc, uint64_t first, uint64_t n,
                                 uint64_t *end, pint_error *err)
{
    uint64_t block[BLOCK_ROWS + 1];
    uint64_t n_bad = 0;
    block[0] = *end;
    memcpy(block + 1, desc->offsets + first + 1, n * sizeof(*block));
    for (uint64_t i = 0; i < n; i++) {
        n_bad += block[i] > block[i + 1];
    }
    *end = block[n];
    if (n_bad == 0 && block[n] <= desc->data_bytes) {
        return PINT_OK; /* they ascend to one inside the room: all are inside */
    }
    uint64_t i = 0;
    while (block[i] <= block[i + 1] && block[i + 1] <= desc->data_bytes) {
        i++;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0,
                      "validate: row %" PRIu64 " of column '%s' has offsets %" PRId64 " to %" PRId64
                      ", room %" PRIu64,
                      first + i, desc->name, (int64_t)block[i], (int64_t)block[i + 1],
                      desc->data_bytes);
}

/* ---- codes ----------------------------------------------------------------------------------- */

static void copy_codes(const pinti_column_desc *desc, uint64_t first, uint64_t n, int32_t *out)
{
    if (desc->row_bytes == 1) {
        int8_t codes[BLOCK_ROWS];
        memcpy(codes, desc->values + first, n);
        for (uint64_t i = 0; i < n; i++) {
            out[i] = codes[i];
        }
    } else if (desc->row_bytes == 2) {
        int16_t codes[BLOCK_ROWS];
        memcpy(codes, desc->values + first * 2, n * 2);
        for (uint64_t i = 0; i < n; i++) {
            out[i] = codes[i];
        }
    } else {
        memcpy(out, desc->values + first * 4, n * 4);
    }
}

/* A byte for each row, 1 where it has a value. Rows up to the next multiple of 8 are written, too.
 */
static const uint8_t *copy_validity(const pinti_column_desc *desc, uint64_t first, uint64_t n,
                                    uint8_t out[BLOCK_ROWS + 16])
{
    const uint64_t skipped = first % 8;
    uint8_t bits[BLOCK_ROWS / 8 + 2];
    const uint64_t n_bytes = (skipped + n + 7) / 8;
    memcpy(bits, desc->validity + first / 8, n_bytes);
    for (uint64_t i = 0; i < n_bytes; i++) {
        /* bit k of the byte to byte k, then 1 for whatever is not 0 */
        uint64_t spread = bits[i] * 0x0101010101010101ull & 0x8040201008040201ull;
        spread = (spread + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
        memcpy(out + i * 8, &spread, sizeof(spread));
    }
    return out + skipped;
}

/* Rows whose code is not as promised; valid NULL: every row has a value. */
static uint64_t count_bad(const int32_t *codes, const uint8_t *valid, uint64_t n,
                          uint32_t n_categories)
{
    uint32_t n_bad = 0;
    for (uint64_t i = 0; i < n; i++) {
        const uint32_t is_outside = (uint32_t)codes[i] >= n_categories;
        const uint32_t is_valid = valid != NULL ? valid[i] : 1u;
        n_bad += (is_outside & is_valid) | (uint32_t)(codes[i] < -1);
    }
    return n_bad;
}

static pint_status check_codes(const pint_column *column, uint64_t first, uint64_t n,
                               pint_error *err)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    int32_t codes[BLOCK_ROWS];
    uint8_t room[BLOCK_ROWS + 16];
    const uint8_t *valid = NULL;
    copy_codes(desc, first, n, codes);
    if (desc->validity != NULL) {
        valid = copy_validity(desc, first, n, room);
    }
    /* The count comes after the codes: a category is published before its code is handed out. At
     * most INT32_MAX: checked when the table was described. */
    const uint32_t n_categories = (uint32_t)pint_column_categories(column);
    if (count_bad(codes, valid, n, n_categories) == 0) {
        return PINT_OK;
    }
    uint64_t i = 0;
    while (count_bad(&codes[i], valid != NULL ? &valid[i] : NULL, 1, n_categories) == 0) {
        i++;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0,
                      "validate: row %" PRIu64 " of column '%s', %s, has code %" PRId32
                      " of %" PRIu32 " categories",
                      first + i, desc->name, valid != NULL && valid[i] == 0 ? "null" : "not null",
                      codes[i], n_categories);
}

/* ---- all ------------------------------------------------------------------------------------- */

/* Are rows as wide as the loops above take them to be? The catalog says so, not the type. */
static bool has_known_rows(const pinti_column_desc *desc)
{
    const uint32_t bytes = desc->row_bytes;
    return desc->type == PINT_BOOL8       ? bytes == 1
           : desc->type == PINT_DICT_TEXT ? bytes == 1 || bytes == 2 || bytes == 4
                                          : true;
}

pint_status pint_column_validate(const pint_column *column, uint64_t first, uint64_t n_rows,
                                 pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "validate: NULL argument");
    }
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (first > table->n_rows || n_rows > table->n_rows - first) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "validate: rows %" PRIu64 " + %" PRIu64 " of %" PRIu64 " in column '%s'",
                          first, n_rows, table->n_rows, desc->name);
    }
    if (!has_known_rows(desc)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "validate: column '%s' has rows of %u bytes",
                          desc->name, desc->row_bytes);
    }
    uint64_t end = 0;
    if (column->type == PINT_TEXT && n_rows != 0) {
        end = pinti_load64_relaxed((const pinti_a64 *)(const void *)&desc->offsets[first]);
    }
    pint_status status = PINT_OK;
    for (uint64_t done = 0; done < n_rows && status == PINT_OK;) {
        const uint64_t n = n_rows - done < BLOCK_ROWS ? n_rows - done : BLOCK_ROWS;
        if (column->type == PINT_TEXT) {
            status = check_offsets(desc, first + done, n, &end, err);
        } else if (column->type == PINT_DICT_TEXT) {
            status = check_codes(column, first + done, n, err);
        } else if (column->type == PINT_BOOL8) {
            status = check_bool8(desc, first + done, n, err);
        } else {
            break; /* every pattern of bits is a value */
        }
        done += n;
    }
    return status;
}
