/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: is reading a column in shared memory as fast as reading an array of one's own?
 * Ours:     the sum of a float64 column, warm, larger than the caches.
 * Baseline: scan: the same loop over private memory with pages of the size that the pool got.
 *           scan_plain: over private memory with the pages that malloc() users get here.
 */

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define COLUMN_BYTES (256ull << 20)
#define LANES        16u

struct scan {
    const double *shared;
    const double *private;
    uint64_t n;
};

/* Several sums side by side, else the additions are what is measured. */
static double sum(const double *values, uint64_t n)
{
    double lanes[LANES] = {0};
    for (uint64_t i = 0; i < n; i += LANES) {
        for (unsigned lane = 0; lane < LANES; lane++) {
            lanes[lane] += values[i + lane];
        }
    }
    double total = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        total += lanes[lane];
    }
    return total;
}

static double scan_once(const double *values, uint64_t n)
{
    const uint64_t start = bench_now_ns();
    const double total = sum(values, n);
    const uint64_t end = bench_now_ns();
    const uint64_t wanted = n / 1024 * (1023 * 1024 / 2); /* 0 to 1023 over and over: exact */
    BENCH_CHECK((uint64_t)total == wanted);
    return (double)(n * sizeof(double)) / (double)(end - start);
}

static double ours(void *context)
{
    const struct scan *scan = context;
    return scan_once(scan->shared, scan->n);
}

static double baseline(void *context)
{
    const struct scan *scan = context;
    return scan_once(scan->private, scan->n);
}

static void fill(double *values, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        values[i] = (double)(i % 1024);
    }
}

static void measure(struct scan *scan, const char *pages, bench_spec spec)
{
    const uint64_t bytes = scan->n * sizeof(double);
    double *values = bench_private(bytes, pages);
    fill(values, scan->n);
    scan->private = values;
    bench_measure(&spec, ours, baseline, scan);
    if (pages == NULL) {
        bench_fact("scan_plain", "private memory as it comes has %s pages", bench_pages_of(values));
    }
    bench_unmap(values, bytes);
}

static void run(void)
{
    const uint64_t bytes = bench_scaled("scan", COLUMN_BYTES, 3);
    struct scan scan = {.n = bytes / sizeof(double)};
    bench_pin(bench_cpu(0));
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    pint_table *table = bench_table(pool, "scan", PINT_FLOAT64, 1, scan.n, 0, PINT_UNINITIALISED);
    const pint_column column = bench_column(table, 0);
    fill(pint_column_values(&column), scan.n);
    scan.shared = pint_column_values(&column);
    bench_spec spec = {.name = "scan",
                       .unit = "GB/s",
                       .baseline = "private memory, same page size",
                       .kind = BENCH_RATIO_MIN,
                       .target = 0.95,
                       .n_rounds = 31,
                       .n_warm = 3};
    measure(&scan, bench_pages_of(scan.shared), spec);
    spec.name = "scan_plain";
    spec.baseline = "private memory as it comes";
    spec.kind = BENCH_NO_TARGET;
    measure(&scan, NULL, spec);
    pint_table_close(table);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, NULL, 0);
}
