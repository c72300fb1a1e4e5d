/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: a worker is killed in the middle of a chunk; how long until another has it?
 * Ours:     from right before kill(SIGKILL) of the holder to the return of pint_job_next() in a
 *           process that waits there, with the chunk's old bytes put back. The victim is small: it
 *           has joined, taken the chunk and scribbled over it. A new victim and job each time.
 * Baseline: none: nothing bare does the same.
 */

#include <signal.h>
#include <stdio.h>

#include "bench/support/bench.h"
#include "bench/support/process.h"

#define N_KILLS   61u
#define N_WARM    3u
#define N_ROWS    512u
#define SETTLE_US 2000u /* for the waiter to be asleep */

static pint_job *join_job(pint_table *table, uint64_t number)
{
    char name[32];
    pint_error err;
    pint_job *job;
    const pint_use use = {.column = "c0", .use = PINT_INOUT};
    (void)snprintf(name, sizeof(name), "kill%u", (unsigned)number);
    BENCH_OK(pint_job_create(table, name, &use, 1, &job, &err), &err);
    return job;
}

static void victim(void)
{
    pint_error err;
    pint_lease lease;
    bench_message message;
    pint_pool *pool = bench_join();
    pint_table *table = bench_open(pool, "reissue");
    const pint_column column = bench_column(table, 0);
    bench_child_say((bench_message){0});
    if (!bench_child_hear(&message)) {
        return;
    }
    pint_job *job = join_job(table, message.a);
    BENCH_OK(pint_job_next(job, &lease, &err), &err);
    int64_t *values = pint_column_values(&column);
    for (unsigned i = 0; i < N_ROWS; i++) {
        values[i] = -1;
    }
    bench_child_say((bench_message){.a = lease.chunk});
    (void)bench_child_hear(&message); /* is killed here */
}

static void waiter(void)
{
    pint_error err;
    pint_lease lease;
    bench_message message;
    pint_pool *pool = bench_join();
    pint_table *table = bench_open(pool, "reissue");
    const pint_column column = bench_column(table, 0);
    const int64_t *values = pint_column_values(&column);
    bench_child_say((bench_message){0});
    while (bench_child_hear(&message)) {
        pint_job *job = join_job(table, message.a);
        bench_child_say((bench_message){.what = 1});
        BENCH_OK(pint_job_next_timed(job, 10000, &lease, &err), &err);
        const uint64_t now = bench_now_ns();
        for (unsigned i = 0; i < N_ROWS; i++) {
            BENCH_CHECK(values[i] == (int64_t)i);
        }
        BENCH_OK(pint_job_done(job, &lease, &err), &err);
        BENCH_CHECK(pint_job_next(job, &lease, &err) == PINT_FINISHED);
        pint_job_close(job);
        bench_child_say((bench_message){.what = 2, .a = now});
    }
    pint_table_close(table);
    pint_pool_leave(pool);
}

static const bench_role roles[] = {{"victim", victim}, {"waiter", waiter}};

static double kill_one(pint_table *table, const bench_child *waiting, uint64_t number)
{
    char name[32];
    pint_error err;
    bench_child held;
    bench_spawn("victim", BENCH_ANY_CPU, -1, &held);
    bench_tell(&held, (bench_message){.what = 1, .a = number});
    BENCH_CHECK(bench_hear(&held).a == 0);
    bench_tell(waiting, (bench_message){.what = 1, .a = number});
    (void)bench_hear(waiting);
    bench_pause_us(SETTLE_US);
    const uint64_t start = bench_now_ns();
    (void)kill(held.pid, SIGKILL);
    const bench_message result = bench_hear(waiting);
    bench_child_reap(&held);
    BENCH_CHECK(result.a > start);
    (void)snprintf(name, sizeof(name), "kill%u", (unsigned)number);
    BENCH_OK(pint_job_drop(table, name, &err), &err);
    return (double)(result.a - start) / 1e6;
}

static void run(void)
{
    double ms[N_KILLS];
    pint_error err;
    bench_child waiting;
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    pint_table *table = bench_table(pool, "reissue", PINT_INT64, 1, N_ROWS, 512, 0);
    const pint_column column = bench_column(table, 0);
    int64_t *values = pint_column_values(&column);
    for (unsigned i = 0; i < N_ROWS; i++) {
        values[i] = (int64_t)i;
    }
    BENCH_OK(pint_table_publish(table, 0, &err), &err);
    bench_spawn("waiter", BENCH_ANY_CPU, -1, &waiting);
    for (unsigned i = 0; i < N_WARM + N_KILLS; i++) {
        const double sample = kill_one(table, &waiting, i);
        if (i >= N_WARM) {
            ms[i - N_WARM] = sample;
        }
    }
    const bench_spec spec = {
        .name = "kill_to_reissue", .unit = "ms", .kind = BENCH_VALUE_MAX, .target = 5};
    bench_report(&spec, ms, NULL, N_KILLS);
    bench_child_end(&waiting);
    pint_table_close(table);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
