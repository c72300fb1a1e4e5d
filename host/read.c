/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading while others write, without a lease (R6).
 *
 *   reader                                        writer
 *   1 word: readable (acquire)                    a claim: word changes (seq)
 *   2 read the bytes                              b stores
 *   3 word again: wholly unchanged?               c commit: word changes (release)
 *
 * A read that mixes old and new bytes fails in 3, since seq moves at the claim and at every end of
 * a hold. What must not happen is that a load of 2 is done after 3.
 *
 * pint_column_read() makes the loads of 2 itself: each is an acquire load, and nothing comes before
 * an acquire load that stands after it. On x86 that costs nothing.
 *
 * Between pint_column_read_begin() and pint_column_read_end() they are the caller's, and plain. So
 * 3 has to wait for them:
 *   - where the words may be written, 3 swaps the word for itself, seq. A swap is a store, too, and
 *     releases: loads before it stay before it. If it succeeds, a writer's claim comes after it in
 *     the order of the word, and so do the writer's stores.
 *   - in a pool joined read-only, 3 can only load. x86-64 keeps loads in their order (TSO), so
 * there an acquire load is enough, behind a barrier that binds the compiler alone. Other processors
 *     may do a plain load of 2 after it: PINT_E_UNSUPPORTED.
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

/* The newest committed bytes are in host memory, and nobody writes there: no holder, neither torn
 * nor to be restored; or held for a device while the host stays among the places, as in a pull. */
static bool is_readable(uint64_t word)
{
    const uint32_t state = pinti_chunk_state(word);
    const bool is_free = state == PINTI_CHUNK_CLEAN && pinti_chunk_holder(word) == 0;
    return (is_free || state == PINTI_CHUNK_DEVICE_HELD) && (word & PINTI_HOST_STALE) == 0;
}

static pint_status refuse(const pinti_column_desc *column, uint64_t chunk, uint64_t word,
                          pint_error *err)
{
    const uint32_t state = pinti_chunk_state(word);
    if (state == PINTI_CHUNK_TORN) {
        return pinti_claim_fail(PINTI_CLAIM_TORN, "read", column, chunk, err);
    }
    if (state == PINTI_CHUNK_CLEAN && (word & PINTI_HOST_STALE) != 0) {
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
    if (!is_readable(before)) {
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

/* ---- in place -------------------------------------------------------------------------------- */

/* The compiler moves no load or store over this. It does not bind the processor. */
#define COMPILER_BARRIER() __asm__("" ::: "memory")

static pint_status check_chunk(const pint_column *column, uint64_t chunk, const char *operation,
                               pint_error *err)
{
    if (column == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    if (chunk >= column->table->desc->n_chunks) {
        return pinti_fail(err, PINT_E_RANGE, 0, "%s: chunk %" PRIu64 " of %u in column '%s'",
                          operation, chunk, column->table->desc->n_chunks,
                          pinti_column_desc_of(column)->name);
    }
    return PINT_OK;
}

pint_status pint_column_read_begin(const pint_column *column, uint64_t chunk, uint64_t *out_stamp,
                                   pint_error *err)
{
    const pint_status status = check_chunk(column, chunk, "read", err);
    if (status != PINT_OK || out_stamp == NULL) {
        return status != PINT_OK ? status
                                 : pinti_fail(err, PINT_E_INVALID, 0, "read: NULL argument");
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    /* acquire: the caller's loads come after; pairs with the commit */
    const uint64_t word = pinti_load64_acquire(&desc->words[chunk]);
    if (!is_readable(word)) {
        return refuse(desc, chunk, word, err);
    }
    *out_stamp = word;
    return PINT_OK;
}

/* Step 3. False: this processor cannot do it in a pool joined read-only. */
static bool look_again(const pint_column *column, uint64_t chunk, uint64_t stamp,
                       bool *out_is_unchanged)
{
    pinti_a64 *word = &pinti_column_desc_of(column)->words[chunk];
    if (column->table->desc->pool->writable) {
        uint64_t now = stamp;
        /* seq, hence release: the caller's loads come before; pairs with the next claim. A failure
         * means that the word has changed. */
        *out_is_unchanged = pinti_cas64_seq(word, &now, stamp);
        return true;
    }
#if defined(__x86_64__)
    COMPILER_BARRIER();
    *out_is_unchanged = pinti_load64_acquire(word) == stamp;
    return true;
#else
    return false;
#endif
}

pint_status pint_column_read_end(const pint_column *column, uint64_t chunk, uint64_t stamp,
                                 pint_error *err)
{
    const pint_status status = check_chunk(column, chunk, "read", err);
    if (status != PINT_OK) {
        return status;
    }
    bool is_unchanged = false;
    /* A stamp that pint_column_read_begin() does not give is not swapped into the word. */
    if (is_readable(stamp) && !look_again(column, chunk, stamp, &is_unchanged)) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "read: this processor reorders loads, and the pool was joined read-only");
    }
    return is_unchanged ? PINT_OK
                        : pinti_fail(err, PINT_E_CHANGED, 0,
                                     "read: chunk %" PRIu64 " of column '%s' changed meanwhile",
                                     chunk, pinti_column_desc_of(column)->name);
}
