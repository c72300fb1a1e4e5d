/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: how fast do two processes take chunks of one job, when the work on them is nothing?
 * Ours:     pint_job_next() and pint_job_done() until PINT_FINISHED, on a job with one PINT_OUT
 *           column, each process on a CPU of its own. A job is new each time.
 * Baseline: the least that shares out numbers exactly once and notes each as taken: a fetch-add on
 *           a shared counter, then a compare-and-swap on the number's own word; the same CPUs.
 * Speed is that of both together, from the first start to the last end.
 */

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define N_CHUNKS   200000u
#define CHUNK_ROWS 512u
#define N_WORKERS  2u

enum { TAKE_JOB = 1, TAKE_BARE = 2 };

/* Shared with the workers. */
struct board {
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint64_t cursor;
    _Alignas(64) _Atomic uint64_t words[N_CHUNKS];
};

struct session {
    bench_child workers[N_WORKERS];
    struct board *board;
    pint_table *table;
    uint64_t n_runs;
};

/* ---- worker ---------------------------------------------------------------------------------- */

static void meet(struct board *board, uint64_t run)
{
    atomic_fetch_add(&board->arrived, 1);
    while (atomic_load(&board->arrived) < (uint32_t)(run * N_WORKERS)) {
        bench_touch(board); /* each has a CPU of its own: no need to let go of it */
    }
}

static bench_message take_job(struct board *board, pint_table *table, uint64_t run)
{
    char name[32];
    pint_error err;
    pint_job *job;
    const pint_use use = {.column = "c0", .use = PINT_OUT};
    (void)snprintf(name, sizeof(name), "run%u", (unsigned)run);
    BENCH_OK(pint_job_create(table, name, &use, 1, &job, &err), &err);
    meet(board, run);
    bench_message result = {.what = TAKE_JOB, .a = 0, .b = bench_now_ns()};
    for (;;) {
        pint_lease lease;
        const pint_status status = pint_job_next(job, &lease, &err);
        if (status == PINT_FINISHED) {
            break;
        }
        BENCH_OK(status, &err);
        BENCH_OK(pint_job_done(job, &lease, &err), &err);
        result.a++;
    }
    result.c = bench_now_ns();
    pint_job_close(job);
    return result;
}

static bench_message take_bare(struct board *board, uint64_t run)
{
    meet(board, run);
    bench_message result = {.what = TAKE_BARE, .a = 0, .b = bench_now_ns()};
    for (;;) {
        const uint64_t i = atomic_fetch_add_explicit(&board->cursor, 1, memory_order_relaxed);
        if (i >= N_CHUNKS) {
            break;
        }
        uint64_t now = atomic_load_explicit(&board->words[i], memory_order_relaxed);
        if (now != run && atomic_compare_exchange_strong(&board->words[i], &now, run)) {
            result.a++;
        }
    }
    result.c = bench_now_ns();
    return result;
}

static void worker(void)
{
    struct board *board = bench_map(BENCH_SHARED_FD, sizeof(*board));
    pint_pool *pool = bench_join();
    pint_table *table = bench_open(pool, "job");
    bench_child_say((bench_message){0});
    bench_message message;
    while (bench_child_hear(&message)) {
        bench_child_say(message.what == TAKE_JOB ? take_job(board, table, message.a)
                                                 : take_bare(board, message.a));
    }
    pint_table_close(table);
    pint_pool_leave(pool);
}

static const bench_role roles[] = {{"worker", worker}};

/* ---- measuring ------------------------------------------------------------------------------- */

static double run_once(struct session *session, uint64_t what)
{
    uint64_t n_taken = 0;
    uint64_t start = UINT64_MAX;
    uint64_t end = 0;
    session->n_runs++;
    atomic_store(&session->board->cursor, 0);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        bench_tell(&session->workers[i], (bench_message){.what = what, .a = session->n_runs});
    }
    for (unsigned i = 0; i < N_WORKERS; i++) {
        const bench_message result = bench_hear(&session->workers[i]);
        n_taken += result.a;
        start = result.b < start ? result.b : start;
        end = result.c > end ? result.c : end;
    }
    BENCH_CHECK(n_taken == N_CHUNKS);
    return N_CHUNKS / ((double)(end - start) / 1000);
}

static double ours(void *context)
{
    struct session *session = context;
    char name[32];
    pint_error err;
    pint_job *job;
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    const double sample = run_once(session, TAKE_JOB);
    (void)snprintf(name, sizeof(name), "run%u", (unsigned)session->n_runs);
    BENCH_OK(pint_job_create(session->table, name, NULL, 0, &job, &err), &err);
    BENCH_OK(pint_job_get_progress(job, &progress, &err), &err);
    BENCH_CHECK(progress.n_done == N_CHUNKS && progress.n_redone == 0);
    pint_job_close(job);
    BENCH_OK(pint_job_drop(session->table, name, &err), &err);
    return sample;
}

static double baseline(void *context)
{
    return run_once(context, TAKE_BARE);
}

static void run(void)
{
    pint_error err;
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    struct session session = {.n_runs = 0};
    session.table = bench_table(pool, "job", PINT_INT8, 1, (uint64_t)N_CHUNKS * CHUNK_ROWS,
                                CHUNK_ROWS, PINT_UNINITIALISED);
    BENCH_OK(pint_table_publish(session.table, 0, &err), &err);
    const int fd = bench_memfd(sizeof(struct board));
    session.board = bench_map(fd, sizeof(struct board));
    for (unsigned i = 0; i < N_WORKERS; i++) {
        bench_spawn("worker", bench_cpu(i), fd, &session.workers[i]);
    }
    (void)close(fd);
    const bench_spec spec = {.name = "job_throughput",
                             .unit = "M/s",
                             .baseline = "bare fetch-add + compare-and-swap by two processes",
                             .kind = BENCH_RATIO_MIN,
                             .target = 0.5,
                             .n_rounds = 61,
                             .n_warm = 3};
    bench_measure(&spec, ours, baseline, &session);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        bench_child_end(&session.workers[i]);
    }
    bench_unmap(session.board, sizeof(struct board));
    pint_table_close(session.table);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
