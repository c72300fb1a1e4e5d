/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: how fast do private data become a table that others see?
 * Ours:     create uninitialised, copy 8 float64 columns of 512 MiB together, publish. Not timed:
 *           drop. publish_warm: the slabs held a table before and are mapped here; publish_cold:
 *           a new service each time, all memory is touched for the first time.
 * Baseline: memcpy() of the same columns into a memfd. Warm: touched before, with pages of the size
 *           that the pool got. Cold: a new plain memfd each time, mapped and written to, as a
 *           program without the library would have it. Before each cold sample as much memory is
 *           used and given back, and the first round is dropped, so that neither of the two gets
 *           memory that the machine itself has never used, or has handed back to its host.
 */

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define N_COLUMNS   8u
#define TOTAL_BYTES (512ull << 20)
#define PAGE_BYTES  4096u

struct publish {
    pint_pool *pool; /* warm; else one for each sample */
    char *source;
    char *memfd; /* warm baseline */
    uint64_t bytes;
    uint64_t sum; /* of the words looked at */
    const void *last_place;
    unsigned n_moved; /* how often a table came to lie elsewhere than the last */
};

static double gb_per_s(const struct publish *publish, uint64_t ns)
{
    return (double)publish->bytes / (double)ns;
}

/* One word of each page. */
static uint64_t checksum(const char *at, uint64_t bytes)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes; i += PAGE_BYTES) {
        uint64_t word;
        memcpy(&word, at + i + (i / PAGE_BYTES * 8) % PAGE_BYTES, sizeof(word));
        sum = sum * 31 + word;
    }
    return sum;
}

static uint64_t publish_once(struct publish *publish, pint_pool *pool)
{
    pint_error err;
    const uint64_t column_bytes = publish->bytes / N_COLUMNS;
    const uint64_t start = bench_now_ns();
    pint_table *table = bench_table(pool, "publish", PINT_FLOAT64, N_COLUMNS, column_bytes / 8, 0,
                                    PINT_UNINITIALISED);
    for (uint32_t i = 0; i < N_COLUMNS; i++) {
        const pint_column column = bench_column(table, i);
        memcpy(pint_column_values(&column), publish->source + i * column_bytes, column_bytes);
    }
    BENCH_OK(pint_table_publish(table, 0, &err), &err);
    const uint64_t end = bench_now_ns();
    for (uint32_t i = 0; i < N_COLUMNS; i++) {
        const pint_column column = bench_column(table, i);
        BENCH_CHECK(checksum(pint_column_values(&column), column_bytes) ==
                    checksum(publish->source + i * column_bytes, column_bytes));
    }
    const pint_column first = bench_column(table, 0);
    publish->n_moved += pint_column_values(&first) != publish->last_place;
    publish->last_place = pint_column_values(&first);
    pint_table_close(table);
    BENCH_OK(pint_table_drop(pool, "publish", &err), &err);
    return end - start;
}

static uint64_t copy_once(struct publish *publish, char *to)
{
    const uint64_t column_bytes = publish->bytes / N_COLUMNS;
    const uint64_t start = bench_now_ns();
    for (uint32_t i = 0; i < N_COLUMNS; i++) {
        memcpy(to + i * column_bytes, publish->source + i * column_bytes, column_bytes);
    }
    return bench_now_ns() - start;
}

static double warm_ours(void *context)
{
    struct publish *publish = context;
    return gb_per_s(publish, publish_once(publish, publish->pool));
}

static double warm_baseline(void *context)
{
    struct publish *publish = context;
    const uint64_t ns = copy_once(publish, publish->memfd);
    BENCH_CHECK(checksum(publish->memfd, publish->bytes) == publish->sum);
    return gb_per_s(publish, ns);
}

static double cold_ours(void *context)
{
    struct publish *publish = context;
    bench_use_machine_memory(publish->bytes / 4 * 5);
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    const uint64_t ns = publish_once(publish, pool);
    pint_pool_leave(pool);
    bench_service_stop();
    return gb_per_s(publish, ns);
}

static double cold_baseline(void *context)
{
    struct publish *publish = context;
    bench_use_machine_memory(publish->bytes / 4 * 5);
    const uint64_t start = bench_now_ns();
    const int fd = bench_memfd(publish->bytes);
    char *at = bench_map(fd, publish->bytes);
    (void)copy_once(publish, at);
    const uint64_t ns = bench_now_ns() - start;
    BENCH_CHECK(checksum(at, publish->bytes) == publish->sum);
    bench_unmap(at, publish->bytes);
    (void)close(fd);
    return gb_per_s(publish, ns);
}

static void fill(struct publish *publish)
{
    publish->source = bench_private(publish->bytes, NULL);
    double *values = (double *)(void *)publish->source;
    for (uint64_t i = 0; i < publish->bytes / sizeof(*values); i++) {
        values[i] = (double)i;
    }
    publish->sum = checksum(publish->source, publish->bytes);
}

static void measure_warm(struct publish *publish)
{
    bench_service_start(BENCH_ANY_CPU);
    publish->pool = bench_join();
    (void)publish_once(publish, publish->pool);
    const char *pages = bench_pages_of(publish->last_place);
    publish->memfd = bench_shared(publish->bytes, pages);
    publish->n_moved = 0;
    const bench_spec spec = {.name = "publish_warm",
                             .unit = "GB/s",
                             .baseline = "memcpy into warm shared memory, same page size",
                             .kind = BENCH_RATIO_MIN,
                             .target = 0.90,
                             .n_rounds = 21,
                             .n_warm = 3};
    bench_measure(&spec, warm_ours, warm_baseline, publish);
    if (publish->n_moved > 0) {
        bench_fact("publish_warm", "%u of %u tables did not get the slabs of the one before",
                   publish->n_moved, spec.n_warm + spec.n_rounds);
    }
    bench_unmap(publish->memfd, publish->bytes);
    pint_pool_leave(publish->pool);
    bench_service_stop();
}

static void run(void)
{
    struct publish publish = {.bytes = bench_scaled("publish", TOTAL_BYTES, 4)};
    bench_pin(bench_cpu(0));
    fill(&publish);
    measure_warm(&publish);
    const bench_spec spec = {.name = "publish_cold",
                             .unit = "GB/s",
                             .baseline = "memcpy into a new plain memfd",
                             .kind = BENCH_RATIO_MIN,
                             .target = 1.5,
                             .n_rounds = 7,
                             .n_warm = 1};
    bench_measure(&spec, cold_ours, cold_baseline, &publish);
    bench_unmap(publish.source, publish.bytes);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, NULL, 0);
}
