/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the demo computes: for each chunk, every float column standardised in place, and two columns
 * filled: how far the row is from the average row, and how many of its values are missing. Workers
 * and the reference in one process run the same functions.
 */

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demo.h"

#define JOB "standardise"

/* ---- the table's columns --------------------------------------------------------------------- */

void find_columns(pint_table *table, work *w)
{
    pint_error err;
    w->n = 0;
    w->n_all = 0;
    for (uint32_t i = 0; i < pint_table_columns(table); i++) {
        pint_column column;
        TRY(pint_table_column_at(table, i, &column, &err));
        if (strcmp(pint_column_name(&column), DISTANCE) == 0) {
            w->distance = column;
        } else if (strcmp(pint_column_name(&column), MISSING) == 0) {
            w->missing = column;
        } else {
            if (column.type == PINT_FLOAT64 && w->n < COLUMNS_MAX) {
                w->columns[w->n++] = column;
            }
            if (pint_column_is_nullable(&column) && w->n_all < COLUMNS_MAX) {
                w->nullable[w->n_all++] = column;
            }
        }
    }
    if (w->n == 0 || w->distance.table == NULL || w->missing.table == NULL) {
        die("the file has no numeric column", NULL);
    }
}

pint_job *join_job(pint_table *table, const work *w)
{
    pint_error err;
    pint_use uses[COLUMNS_MAX + 2];
    uint32_t n = 0;
    for (; n < w->n; n++) {
        uses[n] = (pint_use){pint_column_name(&w->columns[n]), PINT_INOUT, 0};
    }
    uses[n++] = (pint_use){DISTANCE, PINT_OUT, 0};
    uses[n++] = (pint_use){MISSING, PINT_OUT, 0};
    pint_job *job;
    TRY(pint_job_create(table, JOB, uses, n, &job, &err));
    return job;
}

/* ---- the computation ------------------------------------------------------------------------- */

static bool bit(const uint8_t *bits, uint64_t row)
{
    return bits == NULL || (bits[row / 8] >> (row % 8) & 1) != 0;
}

moments column_moments(const double *values, const uint8_t *valid, uint64_t n)
{
    double sum = 0;
    double squares = 0;
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (bit(valid, i) && isfinite(values[i])) {
            sum += values[i];
            count++;
        }
    }
    const double mean = count == 0 ? 0 : sum / (double)count;
    for (uint64_t i = 0; i < n; i++) {
        if (bit(valid, i) && isfinite(values[i])) {
            squares += (values[i] - mean) * (values[i] - mean);
        }
    }
    const double deviation = count < 2 ? 0 : sqrt(squares / (double)(count - 1));
    return (moments){mean, deviation > 0 ? 1 / deviation : 1};
}

static void standardise(double *values, uint64_t n, moments m)
{
    for (uint64_t i = 0; i < n; i++) {
        values[i] = (values[i] - m.mean) * m.scale;
    }
}

/* values[c]: column c's first row of the range; valid[c] its whole bitmap, rows from first on */
static void row_results(double *const *values, const uint8_t *const *valid, uint32_t n,
                        const uint8_t *const *all_valid, uint32_t n_all, uint64_t first,
                        uint64_t n_rows, double *distance, int32_t *missing)
{
    for (uint64_t i = 0; i < n_rows; i++) {
        double squares = 0;
        uint32_t count = 0;
        for (uint32_t c = 0; c < n; c++) {
            if (bit(valid[c], first + i) && isfinite(values[c][i])) {
                squares += values[c][i] * values[c][i];
                count++;
            }
        }
        distance[i] = count == 0 ? 0 : sqrt(squares / count);
        int32_t n_null = 0;
        for (uint32_t c = 0; c < n_all; c++) {
            n_null += !bit(all_valid[c], first + i);
        }
        missing[i] = n_null;
    }
}

void do_chunk(const work *w, const pint_lease *lease, bool must_die)
{
    double *values[COLUMNS_MAX];
    const uint8_t *valid[COLUMNS_MAX];
    const uint8_t *all_valid[COLUMNS_MAX];
    for (uint32_t c = 0; c < w->n; c++) {
        values[c] = (double *)pint_column_values(&w->columns[c]) + lease->first;
        valid[c] = w->columns[c].validity;
        standardise(values[c], lease->n_rows, w->moments[c]);
        if (must_die && c == w->n / 2) {
            (void)kill(getpid(), SIGKILL); /* half of the chunk is overwritten */
        }
    }
    for (uint32_t c = 0; c < w->n_all; c++) {
        all_valid[c] = w->nullable[c].validity;
    }
    row_results(values, valid, w->n, all_valid, w->n_all, lease->first, lease->n_rows,
                (double *)pint_column_values(&w->distance) + lease->first,
                (int32_t *)pint_column_values(&w->missing) + lease->first);
}

/* ---- reference ------------------------------------------------------------------------------- */

static void *copy_of(const void *from, size_t bytes)
{
    void *to = malloc(bytes == 0 ? 1 : bytes);
    if (to == NULL) {
        die("out of memory", NULL);
    }
    return memcpy(to, from, bytes);
}

void compute_reference(const work *w, uint64_t rows, reference *ref)
{
    const uint8_t *valid[COLUMNS_MAX];
    const uint8_t *all_valid[COLUMNS_MAX];
    for (uint32_t c = 0; c < w->n; c++) {
        ref->values[c] = copy_of(pint_column_values(&w->columns[c]), rows * sizeof(double));
        valid[c] = w->columns[c].validity;
    }
    for (uint32_t c = 0; c < w->n_all; c++) {
        all_valid[c] = w->nullable[c].validity;
        ref->n_null += pint_column_count_null(&w->nullable[c], 0, rows);
    }
    ref->distance = copy_of(pint_column_values(&w->distance), rows * sizeof(double));
    ref->missing = copy_of(pint_column_values(&w->missing), rows * sizeof(int32_t));
    const double start = now_s();
    for (uint32_t c = 0; c < w->n; c++) {
        standardise(ref->values[c], rows, w->moments[c]);
    }
    row_results(ref->values, valid, w->n, all_valid, w->n_all, 0, rows, ref->distance,
                ref->missing);
    ref->seconds = now_s() - start;
}

uint64_t count_differences(const work *w, uint64_t rows, const reference *ref)
{
    uint64_t n = 0;
    for (uint32_t c = 0; c < w->n; c++) {
        const double *have = pint_column_values(&w->columns[c]);
        for (uint64_t i = 0; i < rows; i++) {
            n += memcmp(&have[i], &ref->values[c][i], sizeof(double)) != 0;
        }
    }
    const double *distance = pint_column_values(&w->distance);
    const int32_t *missing = pint_column_values(&w->missing);
    for (uint64_t i = 0; i < rows; i++) {
        n += memcmp(&distance[i], &ref->distance[i], sizeof(double)) != 0;
        n += missing[i] != ref->missing[i];
    }
    return n;
}

void free_reference(const work *w, const reference *ref)
{
    for (uint32_t c = 0; c < w->n; c++) {
        free(ref->values[c]);
    }
    free(ref->distance);
    free(ref->missing);
}
