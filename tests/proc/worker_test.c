/* SPDX-License-Identifier: Apache-2.0 */

/* Whole systems: a real service, worker processes that are killed, and what is left afterwards. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/ipc/live.h"

#define ROWS    65536u
#define WORKERS 4
#define KILLS   40

static const pint_use uses[] = {{"id", PINT_INOUT, 0}, {"x", PINT_OUT, 0}};

/* Take chunks until there are none: id + 1, x = id. Arguments: address, and the chunk (counted from
 * 0) in which to die half way, -1 for none. */
PROC(worker)
{
    pint_pool *pool;
    pint_table *table;
    pint_column id, x;
    pint_job *job;
    pint_lease lease;
    const long fatal = argc > 2 ? strtol(argv[2], NULL, 10) : -1;
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "id", &id, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "x", &x, &live_err) == PINT_OK);
    CT_REQUIRE(pint_job_create(table, "job", uses, 2, &job, &live_err) == PINT_OK);
    pint_status status;
    long n = 0;
    while ((status = pint_job_next_timed(job, 30000, &lease, &live_err)) == PINT_OK) {
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            ((int64_t *)id.values)[row] += 1;
            ((double *)x.values)[row] = (double)((int64_t *)id.values)[row];
            if (n == fatal && row == lease.first + lease.n_rows / 2) {
                (void)kill(getpid(), SIGKILL);
            }
        }
        CT_REQUIRE(pint_job_done(job, &lease, &live_err) == PINT_OK);
        n++;
    }
    CT_REQUIRE(status == PINT_FINISHED);
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

static pint_table *make_table(pint_pool *pool)
{
    pint_table *table = NULL;
    pint_column id;
    if (live_create(pool, "t", ROWS, &table) != PINT_OK ||
        pint_table_column(table, "id", &id, &live_err) != PINT_OK) {
        return NULL;
    }
    for (uint64_t row = 0; row < ROWS; row++) {
        ((int64_t *)id.values)[row] = (int64_t)row;
    }
    return pint_table_publish(table, 0, &live_err) == PINT_OK ? table : NULL;
}

static void expect_done_once(pint_table *table)
{
    pint_column id, x;
    ASSERT_OK(pint_table_column(table, "id", &id, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &x, &live_err), &live_err);
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_EQ(((const int64_t *)id.values)[row], (int64_t)row + 1);
        ASSERT_EQ(((const double *)x.values)[row], (double)(row + 1));
    }
}

static pid_t start_worker(long fatal)
{
    char number[24];
    (void)snprintf(number, sizeof(number), "%ld", fatal);
    const char *const arguments[] = {ct_tmpdir(), number, NULL};
    return ct_spawn("worker", arguments);
}

TEST(Workers, OneKilledInsideAChunkLeavesTheResultRight, .timeout_s = 60)
{
    pint_pool *pool;
    live_set_up();
    const pid_t service = live_start("--sessions-max", "100");
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool), &live_err);
    pint_table *table = make_table(pool);
    ASSERT_TRUE(table != NULL);
    pid_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = start_worker(i == 0 ? 3 : -1); /* the first dies in its fourth chunk */
        if (i == 0) {
            EXPECT_EQ(ct_wait(workers[i]), 128 + SIGKILL); /* before the others leave it none */
        }
    }
    for (int i = 1; i < WORKERS; i++) {
        EXPECT_EQ(ct_wait(workers[i]), 0);
    }
    expect_done_once(table);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 10000));
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
    EXPECT_EQ(ct_wait(service), 0);
}

TEST(Workers, KilledAtRandomMomentsNeverDoAChunkTwice, .timeout_s = 100)
{
    pint_pool *pool;
    pint_job *job;
    unsigned seed = (unsigned)getpid();
    (void)printf("seed %u\n", seed);
    live_set_up();
    const pid_t service = live_start("--sessions-max", "100");
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool), &live_err);
    pint_table *table = make_table(pool);
    ASSERT_TRUE(table != NULL);
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &live_err), &live_err);
    pid_t workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = start_worker(-1);
    }
    for (int n = 0; n < KILLS; n++) {
        const int i = rand_r(&seed) % WORKERS;
        const uint64_t until = ct_now_ms() + (uint64_t)(rand_r(&seed) % 12);
        while (ct_now_ms() < until) {
            ct_nap();
        }
        (void)kill(workers[i], SIGKILL);
        (void)ct_wait(workers[i]);
        workers[i] = start_worker(-1);
    }
    for (int i = 0; i < WORKERS; i++) {
        EXPECT_EQ(ct_wait(workers[i]), 0);
    }
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    ASSERT_OK(pint_job_get_progress(job, &progress, &live_err), &live_err);
    EXPECT_EQ(progress.n_done + progress.n_failed, progress.n_chunks);
    if (progress.n_failed == 0) { /* three deaths in one chunk are possible, if unlikely */
        expect_done_once(table);
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
    EXPECT_EQ(ct_wait(service), 0);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void fill_and_drop(pint_pool *pool, uint64_t rows)
{
    pint_table *table;
    pint_column x;
    ASSERT_OK(live_create(pool, "full", rows, &table), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &x, &live_err), &live_err);
    memset(x.values, 0xa5, rows * sizeof(double));
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    pint_table_close(table);
    ASSERT_OK(pint_table_drop(pool, "full", &live_err), &live_err);
}

TEST(Memory, OfADroppedTableReadsAsZeroInTheNext, .timeout_s = 60)
{
    const uint64_t rows[] = {1000, 20000, 1000000}; /* zeroed by the library, and by the service */
    pint_pool *pool;
    live_set_up();
    const pid_t service = live_start("--sessions-max", "100");
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool), &live_err);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int again = 0; again < 10; again++) {
            pint_table *table;
            pint_column x;
            ASSERT_NO_FATAL(fill_and_drop(pool, rows[i]));
            ASSERT_OK(live_create(pool, "next", rows[i], &table), &live_err);
            ASSERT_OK(pint_table_column(table, "x", &x, &live_err), &live_err);
            for (uint64_t row = 0; row < rows[i]; row++) {
                ASSERT_EQ(((const uint64_t *)x.values)[row], 0ull);
            }
            pint_table_close(table); /* never published: gone */
        }
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == 0, 10000));
    pint_pool_leave(pool);
    live_stop();
    EXPECT_EQ(ct_wait(service), 0);
}

/* ---- examples -------------------------------------------------------------------------------- */

#ifdef PINT_DEMO
/* A file as the demo wants it: numbers, missing values, text. */
static void write_csv(const char *path)
{
    FILE *file = fopen(path, "we");
    ASSERT_TRUE(file != NULL);
    (void)fputs("a,b,c,name\n", file);
    for (int i = 0; i < 20000; i++) {
        (void)fprintf(file, "%d,%s,%d.5,row %d\n", i % 97, i % 11 == 0 ? "NA" : "3", i % 13, i);
    }
    ASSERT_EQ(fclose(file), 0);
}

TEST(Demo, FinishesRightWithAWorkerKilledAndLeavesNothing, .timeout_s = 100)
{
    char csv[300];
    char output[8192];
    int pipe_fds[2];
    (void)snprintf(csv, sizeof(csv), "%s/demo.csv", ct_tmpdir());
    ASSERT_NO_FATAL(write_csv(csv));
    const char *const argv[] = {PINT_DEMO, csv, "3", NULL};
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t pid = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = pipe_fds[1]});
    (void)close(pipe_fds[1]);
    const size_t n = ct_read_all(pipe_fds[0], output, sizeof(output) - 1);
    output[n < sizeof(output) ? n : sizeof(output) - 1] = '\0';
    (void)close(pipe_fds[0]);
    EXPECT_EQ(ct_wait(pid), 0);
    EXPECT_TRUE(strstr(output, "killed by signal 9") != NULL);
    EXPECT_TRUE(strstr(output, "identical to the single-process result") != NULL);
    EXPECT_TRUE(strstr(output, "20000 rows") != NULL);
}
#endif
