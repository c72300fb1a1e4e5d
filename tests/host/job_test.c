/* SPDX-License-Identifier: Apache-2.0 */

/* Jobs among threads that share one mapping, each a session of its own: exactly once, failures,
 * progress, waiting, and jobs against leases. ThreadSanitizer runs these. */

#include <pthread.h>
#include <string.h>

#include "host/job.h"
#include "tests/support/ct.h"
#include "tests/support/local_pool.h"

#define ROWS       65536u
#define CHUNK_ROWS 512u
#define CHUNKS     (ROWS / CHUNK_ROWS)
#define THREADS    4

static pint_table *make_table(pint_pool *session, uint64_t rows)
{
    pint_field fields[3] = {PINT_FIELD_INIT, PINT_FIELD_INIT, PINT_FIELD_INIT};
    fields[0].name = "x";
    fields[0].type = PINT_INT64;
    fields[1].name = "y";
    fields[1].type = PINT_FLOAT32;
    fields[1].flags = PINT_NULLABLE;
    fields[2].name = "text";
    fields[2].type = PINT_TEXT;
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.n_fields = 3;
    schema.fields = fields;
    schema.chunk_rows = CHUNK_ROWS;
    return local_table_new(session, "t", &schema, rows);
}

static const pint_use uses[] = {{"y", PINT_OUT, 0}, {"x", PINT_INOUT, 0}};

typedef struct worker {
    pthread_t thread;
    pint_pool *session;
    uint64_t n_chunks;
    uint64_t n_failed;
    unsigned fail_every; /* 0: never */
    pint_status status;
    pint_error err;
} worker;

static void *work(void *argument)
{
    worker *w = argument;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_lease lease;
    pint_column x, y;
    w->status = pint_table_open(w->session, "t", PINT_WRITE, &table, &w->err);
    if (w->status == PINT_OK) {
        w->status = pint_job_create(table, "job", uses, 2, &job, &w->err);
    }
    if (w->status == PINT_OK) {
        w->status = pint_table_column(table, "x", &x, &w->err);
    }
    if (w->status == PINT_OK) {
        w->status = pint_table_column(table, "y", &y, &w->err);
    }
    while (w->status == PINT_OK) {
        w->status = pint_job_next_timed(job, 60000, &lease, &w->err);
        if (w->status != PINT_OK) {
            break;
        }
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            ((int64_t *)x.values)[row] += 1;
            ((float *)y.values)[row] = (float)row;
        }
        w->n_chunks++;
        if (w->fail_every != 0 && w->n_chunks % w->fail_every == 0) {
            w->n_failed++;
            w->status = pint_job_fail(job, &lease, "on purpose", &w->err);
        } else {
            w->status = pint_job_done(job, &lease, &w->err);
        }
    }
    pint_job_close(job);
    pint_table_close(table);
    return NULL;
}

static void run_workers(local_pool *local, unsigned fail_every, worker *workers)
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.session = local_session_new(local), .fail_every = fail_every};
    }
    for (int i = 0; i < THREADS; i++) {
        ASSERT_EQ(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
}

TEST(Job, EachChunkIsDoneExactlyOnceByAnyNumberOfWorkers, .timeout_s = 60)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_table *table = make_table(session, ROWS);
    worker workers[THREADS];
    pint_column x;
    pint_error err;
    ASSERT_NO_FATAL(run_workers(local, 0, workers));
    uint64_t n = 0;
    for (int i = 0; i < THREADS; i++) {
        EXPECT_STATUS(PINT_FINISHED, workers[i].status, &workers[i].err);
        n += workers[i].n_chunks;
    }
    EXPECT_EQ(n, (uint64_t)CHUNKS);
    ASSERT_OK(pint_table_column(table, "x", &x, &err), &err);
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_EQ(((const int64_t *)x.values)[row], 1);
    }
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, AFailedChunkGetsItsOldBytesBackAndGoesToAnother, .timeout_s = 60)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_table *table = make_table(session, ROWS);
    worker workers[THREADS];
    pint_column x;
    pint_job *job;
    pint_error err;
    ASSERT_NO_FATAL(run_workers(local, 7, workers));
    ASSERT_OK(pint_job_create(table, "job", NULL, 0, &job, &err), &err);
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    ASSERT_OK(pint_job_get_progress(job, &progress, &err), &err);
    uint64_t failures = 0;
    for (int i = 0; i < THREADS; i++) {
        failures += workers[i].n_failed;
    }
    EXPECT_EQ(progress.n_done + progress.n_failed, (uint64_t)CHUNKS);
    EXPECT_EQ(progress.n_redone, failures);
    EXPECT_EQ(progress.n_held, 0ull);
    ASSERT_OK(pint_table_column(table, "x", &x, &err), &err);
    for (uint64_t row = 0; row < ROWS; row++) {
        const uint32_t state =
            pinti_job_state(pinti_load64_seq(&job->desc->words[row / CHUNK_ROWS]));
        ASSERT_EQ(((const int64_t *)x.values)[row], state == PINTI_JOB_DONE);
    }
    for (uint32_t u = 0; u < job->desc->n_undo; u++) {
        EXPECT_EQ(pinti_load64_seq(&job->desc->undo_words[u]), 0ull);
    }
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, AChunkThatFailsThreeTimesIsSetAsideWithItsText)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_table *table = make_table(session, CHUNK_ROWS);
    pint_job *job;
    pint_lease lease;
    pint_error err;
    char text[201];
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_failure(job, 0, text, &err), &err);
    const char *const reasons[] = {"first", "second", "third\nwith a newline"};
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(pint_job_next(job, &lease, &err), &err);
        ASSERT_OK(pint_job_fail(job, &lease, reasons[i], &err), &err);
    }
    EXPECT_STATUS(PINT_FINISHED, pint_job_next(job, &lease, &err), &err);
    ASSERT_OK(pint_job_failure(job, 0, text, &err), &err);
    EXPECT_STREQ(text, "third?with a newline");
    EXPECT_OK(pint_job_wait(job, 0, &err), &err);
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(local);
}

/* Waiting for a buffer that only oneself could give back would be for ever. */
TEST(Job, NextSaysAgainWhenTheCallerHoldsEveryUndoBuffer)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_pool *other = local_session_new(local);
    pint_table *table = make_table(session, ROWS);
    pint_table *theirs;
    pint_job *job;
    pint_job *their_job;
    pint_lease leases[CHUNKS];
    pint_lease more;
    pint_error err;
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &err), &err);
    ASSERT_OK(pint_table_open(other, "t", PINT_WRITE, &theirs, &err), &err);
    ASSERT_OK(pint_job_create(theirs, "job", uses, 2, &their_job, &err), &err);
    const uint32_t n = job->desc->n_undo;
    ASSERT_LT(n, (uint32_t)CHUNKS); /* else chunks run out before buffers do */
    for (uint32_t i = 0; i < n; i++) {
        ASSERT_OK(pint_job_next(job, &leases[i], &err), &err);
    }
    EXPECT_STATUS(PINT_AGAIN, pint_job_next(job, &more, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_next_timed(their_job, 10, &more, &err), &err);
    ASSERT_OK(pint_job_done(job, &leases[0], &err), &err);
    ASSERT_OK(pint_job_next(their_job, &more, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_next_timed(job, 10, &leases[0], &err), &err);
    ASSERT_OK(pint_job_done(their_job, &more, &err), &err);
    ASSERT_OK(pint_job_next(job, &leases[0], &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        ASSERT_OK(pint_job_done(job, &leases[i], &err), &err);
    }
    pint_job_close(their_job);
    pint_table_close(theirs);
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, NextSaysAgainWhenOnlyTheCallerHoldsChunks)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_pool *other = local_session_new(local);
    pint_table *table = make_table(session, CHUNK_ROWS);
    pint_table *theirs;
    pint_job *job;
    pint_job *their_job;
    pint_lease lease;
    pint_lease second;
    pint_error err;
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &err), &err);
    ASSERT_OK(pint_table_open(other, "t", PINT_WRITE, &theirs, &err), &err);
    ASSERT_OK(pint_job_create(theirs, "job", uses, 2, &their_job, &err), &err);
    ASSERT_OK(pint_job_next(job, &lease, &err), &err);
    EXPECT_STATUS(PINT_AGAIN, pint_job_next(job, &second, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_next_timed(their_job, 10, &second, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_wait(their_job, 0, &err), &err);
    ASSERT_OK(pint_job_done(job, &lease, &err), &err);
    EXPECT_STATUS(PINT_FINISHED, pint_job_next(their_job, &second, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_done(job, &lease, &err), &err); /* void by now */
    pint_job_close(their_job);
    pint_table_close(theirs);
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, SameNameWithOtherColumnsIsRefused)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_table *table = make_table(session, ROWS);
    pint_job *job;
    pint_job *other;
    pint_error err;
    const pint_use text_out = {"text", PINT_OUT, 0};
    const pint_use text_in = {"text", PINT_IN, 0};
    const pint_use nobody = {"nobody", PINT_IN, 0};
    const pint_use twice[] = {{"x", PINT_IN, 0}, {"x", PINT_OUT, 0}};
    const pint_use wrong = {"x", 9, 0};
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &err), &err);
    EXPECT_STATUS(PINT_E_EXISTS, pint_job_create(table, "job", uses, 1, &other, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_create(table, "none", NULL, 0, &other, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_job_create(table, "b", &text_out, 1, &other, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_create(table, "b", &nobody, 1, &other, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_create(table, "b", twice, 2, &other, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_create(table, "b", &wrong, 1, &other, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_create(table, "a/b", uses, 2, &other, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_create(table, NULL, uses, 2, &other, &err), &err);
    ASSERT_OK(pint_job_create(table, "in", &text_in, 1, &other, &err), &err);
    pint_job_close(other);
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, WaitsForAChunkThatALeaseHoldsAndRefusesATornOne)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_pool *other = local_session_new(local);
    pint_table *table = make_table(session, CHUNK_ROWS);
    pint_table *theirs;
    pint_column x;
    pint_job *job;
    pint_lease lease;
    pint_lease chunk;
    pint_error err;
    ASSERT_OK(pint_table_open(other, "t", PINT_WRITE, &theirs, &err), &err);
    ASSERT_OK(pint_table_column(theirs, "x", &x, &err), &err);
    ASSERT_OK(pint_job_create(table, "job", uses, 2, &job, &err), &err);
    ASSERT_OK(pint_lease_claim(&x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_next_timed(job, 5, &chunk, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err); /* torn */
    EXPECT_STATUS(PINT_E_TORN, pint_job_next(job, &chunk, &err), &err);
    EXPECT_TRUE(strstr(err.message, "'x'") != NULL);
    ASSERT_OK(pint_column_recover(&x, 0, &err), &err);
    ASSERT_OK(pint_job_next(job, &chunk, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_mark(&x, 0, 1, &err), &err);
    ASSERT_OK(pint_job_done(job, &chunk, &err), &err);
    EXPECT_OK(pint_column_mark(&x, 0, 1, &err), &err);
    pint_job_close(job);
    pint_table_close(theirs);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Job, DroppedWithAChunkWaitingForItsBytesIsStillRestored)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    pint_pool *dying = local_session_new(local);
    pint_table *table = make_table(session, CHUNK_ROWS);
    pint_table *theirs;
    pint_column x;
    pint_job *job;
    pint_lease lease;
    pint_error err;
    ASSERT_OK(pint_table_open(dying, "t", PINT_WRITE, &theirs, &err), &err);
    ASSERT_OK(pint_job_create(theirs, "job", uses, 2, &job, &err), &err);
    ASSERT_OK(pint_job_next(job, &lease, &err), &err);
    ASSERT_OK(pint_table_column(table, "x", &x, &err), &err);
    ((int64_t *)x.values)[9] = 77; /* half written */
    ASSERT_OK(pint_job_drop(table, "job", &err), &err);
    (void)local_session_kill(local, dying, false);
    EXPECT_EQ(local_pool_reap(local), 0u); /* not freed: its undo buffer is needed */
    ASSERT_OK(pint_lease_claim(&x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_EQ(((const int64_t *)x.values)[9], 0);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(local_pool_reap(local), 1u);
    pint_table_close(table);
    local_pool_free(local);
}
