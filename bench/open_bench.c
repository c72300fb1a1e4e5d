/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: what does opening a table by name and closing it cost, with 10,000 tables in the pool,
 *           made by another process?
 * Ours:     pint_table_open() and pint_table_close(). open_close_hot: always the same name;
 *           open_close_random: any of the 10,000; open_close_first: each for the first time in this
 *           process, which checks the record and makes a descriptor.
 * Baseline: the atomic operations of it alone, on words of a shared mapping: read index and record,
 *           compare-and-swap the reference, read record and stale flag again; to close,
 *           compare-and-swap and read the record. No name, no check, no handle. It says how much of
 *           the figure is protocol; there is no target for the ratio.
 */

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define N_TABLES    10000u
#define NAME_BYTES  24u
#define BATCH       20000u
#define FIRST_GROUP 100u /* first opens in one sample */

struct bare_record {
    _Alignas(64) _Atomic uint64_t gen_state;
};

struct bare {
    _Alignas(64) _Atomic uint32_t stale;
    _Alignas(64) _Atomic uint64_t index[N_TABLES];
    _Atomic uint64_t refs[N_TABLES];
    struct bare_record records[N_TABLES];
};

struct open {
    pint_pool *pool;
    const uint32_t *order; /* BATCH table numbers */
    char (*names)[NAME_BYTES];
    struct bare *bare;
};

static void set_name(char out[NAME_BYTES], uint32_t i)
{
    (void)snprintf(out, NAME_BYTES, "bench.table.%05u", i);
}

/* Makes the tables; they live as long as its session. Table i has i + 1 rows. */
static void creator(void)
{
    pint_error err;
    pint_pool *pool = bench_join();
    for (uint32_t i = 0; i < N_TABLES; i++) {
        char name[NAME_BYTES];
        set_name(name, i);
        pint_table *table = bench_table(pool, name, PINT_INT8, 1, i + 1, 0, 0);
        BENCH_OK(pint_table_publish(table, 0, &err), &err);
        pint_table_close(table);
    }
    bench_child_say((bench_message){0});
    bench_message message;
    while (bench_child_hear(&message)) {
    }
    pint_pool_leave(pool);
}

static const bench_role roles[] = {{"creator", creator}};

static double ours(void *context)
{
    const struct open *open = context;
    pint_error err;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        pint_table *table;
        BENCH_OK(pint_table_open(open->pool, open->names[open->order[i]], PINT_READ, &table, &err),
                 &err);
        pint_table_close(table);
    }
    return (double)(bench_now_ns() - start) / BATCH;
}

static double baseline(void *context)
{
    const struct open *open = context;
    struct bare *bare = open->bare;
    uint64_t n_right = 0;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        const uint64_t at =
            atomic_load_explicit(&bare->index[open->order[i]], memory_order_acquire);
        const uint64_t state =
            atomic_load_explicit(&bare->records[at].gen_state, memory_order_acquire);
        uint64_t word = atomic_load_explicit(&bare->refs[at], memory_order_relaxed);
        n_right += atomic_compare_exchange_strong(&bare->refs[at], &word, word + 1);
        n_right += atomic_load(&bare->records[at].gen_state) == state;
        n_right += atomic_load(&bare->stale) == 0;
        word = atomic_load_explicit(&bare->refs[at], memory_order_relaxed);
        n_right += atomic_compare_exchange_strong(&bare->refs[at], &word, word - 1);
        n_right += atomic_load(&bare->records[at].gen_state) == state;
    }
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(n_right == 5ull * BATCH);
    return (double)(end - start) / BATCH;
}

/* The first open of each table, which also checks that each is the right one. */
static void measure_first(const struct open *open)
{
    double samples[N_TABLES / FIRST_GROUP];
    pint_error err;
    for (uint32_t group = 0; group < N_TABLES / FIRST_GROUP; group++) {
        const uint64_t start = bench_now_ns();
        for (uint32_t i = group * FIRST_GROUP; i < (group + 1) * FIRST_GROUP; i++) {
            pint_table *table;
            BENCH_OK(pint_table_open(open->pool, open->names[i], PINT_READ, &table, &err), &err);
            BENCH_CHECK(pint_table_rows(table) == i + 1);
            pint_table_close(table);
        }
        samples[group] = (double)(bench_now_ns() - start) / FIRST_GROUP;
    }
    const bench_spec spec = {.name = "open_close_first", .unit = "ns", .kind = BENCH_NO_TARGET};
    bench_report(&spec, samples, NULL, N_TABLES / FIRST_GROUP);
}

static uint32_t *make_order(bool is_random)
{
    uint32_t *order = bench_alloc(BATCH * sizeof(*order));
    uint64_t state = 88172645463325252u;
    for (unsigned i = 0; i < BATCH; i++) {
        state ^= state << 13; /* xorshift: the same order in each run */
        state ^= state >> 7;
        state ^= state << 17;
        order[i] = is_random ? (uint32_t)(state % N_TABLES) : N_TABLES / 2;
    }
    return order;
}

static void measure(struct open *open, const char *name, bool is_random, double target)
{
    uint32_t *order = make_order(is_random);
    open->order = order;
    const bench_spec spec = {.name = name,
                             .unit = "ns",
                             .baseline = "its bare atomic operations",
                             .kind = BENCH_VALUE_MAX,
                             .target = target,
                             .n_rounds = 201,
                             .n_warm = 9};
    bench_measure(&spec, ours, baseline, open);
    free(order);
}

static void run(void)
{
    bench_child child;
    bench_pin(bench_cpu(0));
    bench_service_start(BENCH_ANY_CPU);
    bench_spawn("creator", BENCH_ANY_CPU, -1, &child);
    struct open open = {.pool = bench_join(),
                        .names = bench_alloc(N_TABLES * sizeof(*open.names)),
                        .bare = bench_shared(sizeof(struct bare), BENCH_PAGES_4K)};
    for (uint32_t i = 0; i < N_TABLES; i++) {
        set_name(open.names[i], i);
        atomic_store(&open.bare->index[i], i);
    }
    measure_first(&open);
    measure(&open, "open_close_hot", false, 60);
    measure(&open, "open_close_random", true, 150);
    bench_unmap(open.bare, sizeof(struct bare));
    free(open.names);
    pint_pool_leave(open.pool);
    bench_child_end(&child);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
