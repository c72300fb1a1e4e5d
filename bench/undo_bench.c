/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: what does it cost that a killed writer's chunk can be put back as it was?
 * Ours:     pint_lease_claim() with PINT_INOUT of a chunk of 512 KiB, which saves its bytes; work
 * on the chunk; pint_lease_commit(). lease_undo: the work is to copy other bytes over the chunk;
 * the same chunk each time. lease_undo_add: 1 is added to every value in place, the same chunk each
 * time: hardly any work, in the cache, so the most that the saving can ever weigh. lease_undo_walk:
 * the same, chunk after chunk of a column that is larger than the caches, as a job does it.
 * Baseline: the same work on the same chunks, without a lease.
 */

#include <stdlib.h>
#include <string.h>

#include "bench/support/bench.h"
#include "bench/support/process.h"

#define CHUNK_ROWS 65536u
#define N_CHUNKS   128u
#define REPEATS    32u

struct undo {
    pint_column column;
    double *values;
    const double *source; /* to copy from; NULL: add 1 */
    uint64_t n_chunks;    /* one sample writes chunks 0 to n_chunks - 1, */
    uint64_t n_times;     /* so many times */
    uint64_t n_done;      /* times each of them was written so far */
};

static void work_on(const struct undo *undo, double *values)
{
    if (undo->source != NULL) {
        memcpy(values, undo->source, CHUNK_ROWS * sizeof(*values));
        values[0] = (double)(undo->n_done + 1);
    } else {
        for (uint64_t i = 0; i < CHUNK_ROWS; i++) {
            values[i] += 1;
        }
    }
    bench_touch(values);
}

static void work_leased(const struct undo *undo, uint64_t chunk)
{
    pint_error err;
    pint_lease lease;
    BENCH_OK(pint_lease_claim(&undo->column, 1, chunk, PINT_INOUT, 0, &lease, &err), &err);
    work_on(undo, undo->values + lease.first);
    BENCH_OK(pint_lease_commit(&lease, &err), &err);
}

static void check(const struct undo *undo)
{
    for (uint64_t row = 0; row < undo->n_chunks * CHUNK_ROWS; row += 4096) {
        const bool is_copied = undo->source != NULL && row % CHUNK_ROWS != 0;
        const double wanted = is_copied ? undo->source[row % CHUNK_ROWS] : (double)undo->n_done;
        BENCH_CHECK(undo->values[row] >= wanted && undo->values[row] <= wanted);
    }
}

static double us_of_chunk(struct undo *undo, uint64_t start_ns)
{
    const uint64_t ns = bench_now_ns() - start_ns;
    check(undo);
    return (double)ns / (double)(undo->n_times * undo->n_chunks) / 1000;
}

static double ours(void *context)
{
    struct undo *undo = context;
    const uint64_t start = bench_now_ns();
    for (uint64_t i = 0; i < undo->n_times; i++, undo->n_done++) {
        for (uint64_t chunk = 0; chunk < undo->n_chunks; chunk++) {
            work_leased(undo, chunk);
        }
    }
    return us_of_chunk(undo, start);
}

static double baseline(void *context)
{
    struct undo *undo = context;
    const uint64_t start = bench_now_ns();
    for (uint64_t i = 0; i < undo->n_times; i++, undo->n_done++) {
        for (uint64_t chunk = 0; chunk < undo->n_chunks; chunk++) {
            work_on(undo, undo->values + chunk * CHUNK_ROWS);
        }
    }
    return us_of_chunk(undo, start);
}

static void measure(pint_pool *pool, const char *name, const double *source, uint64_t n_chunks,
                    enum bench_target kind)
{
    pint_table *table =
        bench_table(pool, name, PINT_FLOAT64, 1, (uint64_t)N_CHUNKS * CHUNK_ROWS, CHUNK_ROWS, 0);
    struct undo undo = {.column = bench_column(table, 0),
                        .source = source,
                        .n_chunks = n_chunks,
                        .n_times = n_chunks == 1 ? REPEATS : 1};
    undo.values = pint_column_values(&undo.column);
    const bench_spec spec = {.name = name,
                             .unit = "us",
                             .baseline = "the same work without a lease",
                             .kind = kind,
                             .target = 2.2,
                             .n_rounds = 61,
                             .n_warm = 3};
    bench_measure(&spec, ours, baseline, &undo);
    pint_table_close(table);
}

static void run(void)
{
    bench_pin(bench_cpu(0));
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    double *source = bench_alloc(CHUNK_ROWS * sizeof(*source));
    for (uint64_t i = 0; i < CHUNK_ROWS; i++) {
        source[i] = (double)i;
    }
    measure(pool, "lease_undo", source, 1, BENCH_RATIO_MAX);
    measure(pool, "lease_undo_add", NULL, 1, BENCH_NO_TARGET);
    measure(pool, "lease_undo_walk", NULL, N_CHUNKS, BENCH_RATIO_MAX);
    free(source);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, NULL, 0);
}
