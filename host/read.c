/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading while others write, without a lease (R6, models: opt.pml).
 *
 *   reader                                        writer
 *   1 word: no holder, clean (acquire)            a claim: word changes (seq)
 *   2 copy the bytes, each load acquire           b stores
 *   3 word again: wholly unchanged?               c commit: word changes (release)
 *
 * The loads of 2 are acquire so that 3 cannot come before them; on x86 that costs nothing. A copy
 * that mixes old and new bytes fails in 3, since seq moves at the claim and at every end of a hold.
 */

#include <inttypes.h>
#include <string.h>

#include "host/claim.h"
#include "host/error.h"

/* Copy with acquire loads, eight bytes at a time where aligned. */
static void copy_acquire(char *out, const char *from, uint64_t bytes)
{
    uint64_t i = 0;
    for (; i < bytes && ((uintptr_t)(from + i) & 7u) != 0; i++) {
        out[i] = (char)pinti_load8_acquire((const pinti_a8 *)(const void *)(from + i));
    }
    for (; i + 8 <= bytes; i += 8) {
        const uint64_t w = pinti_load64_acquire((const pinti_a64 *)(const void *)(from + i));
        memcpy(out + i, &w, sizeof(w));
    }
    for (; i < bytes; i++) {
        out[i] = (char)pinti_load8_acquire((const pinti_a8 *)(const void *)(from + i));
    }
}

/* Copy n bits from bit first of from to bit to of out (whose other bits stay). */
static void copy_bits(uint8_t *out, uint64_t to, const uint8_t *from, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n;) {
        const uint64_t bit = first + i;
        const uint8_t byte = pinti_load8_acquire((const pinti_a8 *)(const void *)&from[bit / 8]);
        if (bit % 8 == 0 && (to + i) % 8 == 0 && n - i >= 8) {
            out[(to + i) / 8] = byte;
            i += 8;
            continue;
        }
        const uint8_t mask = (uint8_t)(1u << ((to + i) % 8));
        if ((byte >> (bit % 8) & 1u) != 0) {
            out[(to + i) / 8] |= mask;
        } else {
            out[(to + i) / 8] &= (uint8_t)~mask;
        }
        i++;
    }
}

static pint_status refuse(const pinti_column_desc *column, uint64_t chunk, uint64_t word,
                          pint_error *err)
{
    const uint32_t state = pinti_chunk_state(word);
    if (state == PINTI_CHUNK_TORN) {
        return pinti_claim_fail(PINTI_CLAIM_TORN, "read", column, chunk, err);
    }
    if (state == PINTI_CHUNK_CLEAN) {
        return pinti_claim_fail(PINTI_CLAIM_AHEAD, "read", column, chunk, err);
    }
    return pinti_claim_fail(PINTI_CLAIM_BUSY, "read", column, chunk, err);
}

/* The part of the rows that lies in one chunk: rows [first, first + n). */
static pint_status read_chunk(const pint_column *column, uint64_t chunk, uint64_t first, uint64_t n,
                              char *out_values, uint64_t to, uint8_t *out_validity, pint_error *err)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t before = pinti_load64_acquire(&desc->words[chunk]);
    if (pinti_chunk_state(before) != PINTI_CHUNK_CLEAN || pinti_chunk_holder(before) != 0 ||
        (before & PINTI_HOST_STALE) != 0) {
        return refuse(desc, chunk, before, err);
    }
    if (desc->row_bytes != 0) {
        copy_acquire(out_values + to * desc->row_bytes, desc->values + first * desc->row_bytes,
                     n * desc->row_bytes);
    } else {
        copy_bits((uint8_t *)out_values, to, (const uint8_t *)desc->values, first, n);
    }
    if (out_validity != NULL) {
        if (desc->validity != NULL) {
            copy_bits(out_validity, to, desc->validity, first, n);
        } else {
            for (uint64_t i = to; i < to + n; i++) {
                out_validity[i / 8] |= (uint8_t)(1u << (i % 8));
            }
        }
    }
    if (pinti_load64_acquire(&desc->words[chunk]) != before) {
        return pinti_fail(err, PINT_E_CHANGED, 0,
                          "read: chunk %" PRIu64 " of column '%s' changed meanwhile", chunk,
                          desc->name);
    }
    return PINT_OK;
}

pint_status pint_column_read(const pint_column *column, uint64_t first, uint64_t n_rows,
                             void *out_values, uint8_t *out_validity, pint_error *err)
{
    if (column == NULL || (out_values == NULL && n_rows != 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "read: NULL argument");
    }
    const pinti_table_desc *table = column->table->desc;
    if (column->type == PINT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "read: column '%s' is of type text",
                          pinti_column_desc_of(column)->name);
    }
    if (first > table->n_rows || n_rows > table->n_rows - first) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "read: rows %" PRIu64 " + %" PRIu64 " of %" PRIu64 " in column '%s'",
                          first, n_rows, table->n_rows, pinti_column_desc_of(column)->name);
    }
    uint64_t done = 0;
    while (done < n_rows) {
        const uint64_t row = first + done;
        const uint64_t chunk = row >> table->chunk_shift;
        const uint64_t end = (chunk + 1) << table->chunk_shift;
        const uint64_t n = end - row < n_rows - done ? end - row : n_rows - done;
        const pint_status status =
            read_chunk(column, chunk, row, n, out_values, done, out_validity, err);
        if (status != PINT_OK) {
            return status;
        }
        done += n;
    }
    return PINT_OK;
}
