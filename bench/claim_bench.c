/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: what does it cost to claim and commit a chunk that nobody else wants?
 * Ours:     pint_lease_claim() without undo and pint_lease_commit(), the same chunk each time.
 * Baseline: what no protocol with crash recovery can do without: a store (the note of what is about
 *           to be taken), a compare-and-swap (the claim), a release store (the commit), on words of
 *           a shared mapping, each on a cache line of its own.
 */

#include <stdatomic.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define BATCH 20000u

struct bare {
    _Alignas(64) _Atomic uint64_t note;
    _Alignas(64) _Atomic uint64_t word;
};

struct claim {
    pint_column column;
    struct bare *bare;
};

static double ours(void *context)
{
    const struct claim *claim = context;
    pint_error err;
    const uint64_t before = pint_column_version(&claim->column, 0);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        pint_lease lease;
        BENCH_OK(pint_lease_claim(&claim->column, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
        BENCH_OK(pint_lease_commit(&lease, &err), &err);
    }
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(pint_column_version(&claim->column, 0) == before + 2ull * BATCH);
    return (double)(end - start) / BATCH;
}

static double baseline(void *context)
{
    struct bare *bare = ((struct claim *)context)->bare;
    const uint64_t before = atomic_load(&bare->word);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        /* orders as a lease needs them; nobody is at the other end here */
        atomic_store_explicit(&bare->note, i + 1, memory_order_relaxed);
        uint64_t now = atomic_load_explicit(&bare->word, memory_order_relaxed);
        BENCH_CHECK(atomic_compare_exchange_strong_explicit(
            &bare->word, &now, now + 1, memory_order_seq_cst, memory_order_relaxed));
        atomic_store_explicit(&bare->word, now + 2, memory_order_release);
    }
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(atomic_load(&bare->word) == before + 2ull * BATCH);
    return (double)(end - start) / BATCH;
}

static void run(void)
{
    bench_pin(bench_cpu(0));
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    pint_table *table = bench_table(pool, "claim", PINT_INT64, 1, 512, 512, 0);
    struct claim claim = {.column = bench_column(table, 0),
                          .bare = bench_shared(4096, BENCH_PAGES_4K)};
    const bench_spec spec = {.name = "claim_commit",
                             .unit = "ns",
                             .baseline = "bare store + compare-and-swap + release store",
                             .kind = BENCH_RATIO_MAX,
                             .target = 3,
                             .n_rounds = 201,
                             .n_warm = 9};
    bench_measure(&spec, ours, baseline, &claim);
    bench_unmap(claim.bare, 4096);
    pint_table_close(table);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, NULL, 0);
}
