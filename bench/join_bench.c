/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: how long does a worker that has just been started take until it has the pool mapped?
 * Ours:     pint_pool_join() in a process that was executed, runs, and is told to go through a
 *           pipe; each joins once. Connecting, the service's work and mapping six segments are in
 * it. Baseline: none: nothing bare does the same.
 */

#include "bench/support/bench.h"
#include "bench/support/process.h"

#define N_JOINS 101u
#define N_WARM  5u

static void joiner(void)
{
    bench_message go;
    bench_child_say((bench_message){0});
    if (!bench_child_hear(&go)) {
        return;
    }
    const uint64_t start = bench_now_ns();
    pint_pool *pool = bench_join();
    const uint64_t end = bench_now_ns();
    bench_child_say((bench_message){.a = end - start, .b = pint_pool_session(pool)});
    pint_pool_leave(pool);
}

static const bench_role roles[] = {{"joiner", joiner}};

static void run(void)
{
    double us[N_JOINS];
    uint64_t last_session = 0;
    bench_service_start(BENCH_ANY_CPU);
    for (unsigned i = 0; i < N_WARM + N_JOINS; i++) {
        bench_child child;
        bench_spawn("joiner", BENCH_ANY_CPU, -1, &child);
        bench_tell(&child, (bench_message){.what = 1});
        const bench_message result = bench_hear(&child);
        BENCH_CHECK(result.b != 0 && result.b != last_session);
        last_session = result.b;
        bench_child_end(&child);
        if (i >= N_WARM) {
            us[i - N_WARM] = (double)result.a / 1000;
        }
    }
    const bench_spec spec = {
        .name = "join_pool", .unit = "us", .kind = BENCH_VALUE_MAX, .target = 500};
    bench_report(&spec, us, NULL, N_JOINS);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
