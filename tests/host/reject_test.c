/* SPDX-License-Identifier: Apache-2.0 */

/* Chunks that nobody can do: set aside at once with their old bytes, listed, and never handed out.
 */

#include <pthread.h>
#include <string.h>

#include "host/claim.h"
#include "host/job.h"
#include "tests/host/fixture.h"

#define CHUNK_ROWS 512u
#define CHUNKS     16u

static const pint_use uses[] = {{"x", PINT_INOUT, 0}, {"y", PINT_OUT, 0}};

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_table *table;
    pint_column x, y;
    pint_job *job;
} setting;

static void set_up(setting *s)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, PINT_NULLABLE),
                                 field_of("y", PINT_FLOAT32, 0)};
    const pint_schema schema = schema_of(fields, 2, CHUNK_ROWS);
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->table = local_table_new(s->session, "t", &schema, CHUNKS * CHUNK_ROWS);
    s->x = column_of(s->table, "x");
    s->y = column_of(s->table, "y");
    for (uint64_t row = 0; row < pint_table_rows(s->table); row++) {
        ((int64_t *)s->x.values)[row] = (int64_t)row;
    }
    ASSERT_OK(pint_job_create(s->table, "job", uses, 2, &s->job, NULL), NULL);
}

static void tear_down(setting *s)
{
    pint_job_close(s->job);
    pint_table_close(s->table);
    local_pool_free(s->local);
}

static void spoil(const setting *s, const pint_lease *lease)
{
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows; row++) {
        ((int64_t *)s->x.values)[row] = -1;
        ((float *)s->y.values)[row] = -1;
        EXPECT_OK(pint_column_set_null(&s->x, row, 0, NULL), NULL);
    }
}

static uint32_t job_state(const setting *s, uint64_t chunk)
{
    return pinti_job_state(pinti_load64_seq(&s->job->desc->words[chunk]));
}

TEST(Reject, SetsTheChunkAsideAtOnceWithItsOldBytesAndText)
{
    setting s;
    pint_error err;
    pint_lease lease;
    char text[201];
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_next(s.job, &lease, &err), &err);
    const uint64_t chunk = lease.first / CHUNK_ROWS;
    spoil(&s, &lease);
    ASSERT_OK(pint_job_reject(s.job, &lease, "no such key", &err), &err);
    EXPECT_EQ(job_state(&s, chunk), (uint32_t)PINTI_JOB_FAILED);
    ASSERT_OK(pint_job_failure(s.job, chunk, text, &err), &err);
    EXPECT_STREQ(text, "no such key");
    for (uint64_t row = chunk * CHUNK_ROWS; row < (chunk + 1) * CHUNK_ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s.x.values)[row], (int64_t)row);
        ASSERT_EQ(pint_column_is_null(&s.x, row), 1);
    }
    EXPECT_EQ(state_of(&s.x, chunk), (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(state_of(&s.y, chunk), (uint32_t)PINTI_CHUNK_TORN); /* OUT: half written, perhaps */
    for (uint32_t u = 0; u < s.job->desc->n_undo; u++) {
        EXPECT_EQ(pinti_load64_seq(&s.job->desc->undo_words[u]), 0ull);
    }
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    ASSERT_OK(pint_job_get_progress(s.job, &progress, &err), &err);
    EXPECT_EQ(progress.n_failed, 1ull);
    EXPECT_EQ(progress.n_held, 0ull);
    EXPECT_EQ(progress.n_redone, 0ull); /* nobody gets it again */
    EXPECT_STATUS(PINT_E_INVALID, pint_job_reject(s.job, &lease, "again", &err), &err);
    tear_down(&s);
}

TEST(Reject, GivesTheChunkToNobodyAndTheJobStillFinishes)
{
    setting s;
    pint_error err;
    pint_lease lease;
    uint64_t n_done = 0;
    ASSERT_NO_FATAL(set_up(&s));
    pint_status status;
    while ((status = pint_job_next(s.job, &lease, &err)) == PINT_OK) {
        const uint64_t chunk = lease.first / CHUNK_ROWS;
        ASSERT_NE(job_state(&s, chunk), (uint32_t)PINTI_JOB_FAILED);
        if (chunk % 3 == 0) {
            ASSERT_OK(pint_job_reject(s.job, &lease, NULL, &err), &err); /* no text is no text */
        } else {
            ASSERT_OK(pint_job_done(s.job, &lease, &err), &err);
            n_done++;
        }
    }
    EXPECT_STATUS(PINT_FINISHED, status, &err);
    EXPECT_EQ(n_done, (uint64_t)CHUNKS - (CHUNKS + 2) / 3);
    EXPECT_OK(pint_job_wait(s.job, 0, &err), &err);
    char text[201];
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_failure(s.job, 0, text, &err), &err);
    tear_down(&s);
}

TEST(Reject, AfterAFailureStillSetsAsideAtOnce)
{
    setting s;
    pint_error err;
    pint_lease lease;
    char text[201];
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_next(s.job, &lease, &err), &err);
    const uint64_t chunk = lease.first / CHUNK_ROWS;
    ASSERT_OK(pint_job_fail(s.job, &lease, "first", &err), &err);
    while (true) {
        ASSERT_OK(pint_job_next(s.job, &lease, &err), &err);
        if (lease.first / CHUNK_ROWS == chunk) {
            break;
        }
        ASSERT_OK(pint_job_done(s.job, &lease, &err), &err);
    }
    ASSERT_OK(pint_job_reject(s.job, &lease, "second", &err), &err);
    EXPECT_EQ(job_state(&s, chunk), (uint32_t)PINTI_JOB_FAILED);
    ASSERT_OK(pint_job_failure(s.job, chunk, text, &err), &err);
    EXPECT_STREQ(text, "second");
    tear_down(&s);
}

TEST(Reject, ArgumentsThatAreNoneAndLeasesThatAreLostAreRefused)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_lease plain;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_next(s.job, &lease, &err), &err);
    const uint64_t chunk = lease.first / CHUNK_ROWS;
    EXPECT_STATUS(PINT_E_INVALID, pint_job_reject(NULL, &lease, "", &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_reject(s.job, NULL, "", &err), &err);
    ASSERT_OK(pint_lease_claim(&s.y, 1, CHUNKS - 1, PINT_OUT, 0, &plain, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_reject(s.job, &plain, "", &err), &err);
    ASSERT_OK(pint_lease_commit(&plain, &err), &err);
    pinti_a64 *word = &s.job->desc->words[chunk];
    pinti_store64_seq(word,
                      pinti_load64_seq(word) + (1ull << 38)); /* swept, and taken by another */
    EXPECT_STATUS(PINT_E_LEASE_LOST, pint_job_reject(s.job, &lease, "", &err), &err);
    EXPECT_EQ(job_state(&s, chunk), (uint32_t)PINTI_JOB_LEASED);
    tear_down(&s);
}

TEST(NextFailed, ListsFailedChunksAscendingAndNoOthers)
{
    setting s;
    pint_error err;
    pint_lease lease;
    uint64_t cursor = 0;
    uint64_t chunk = 99;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_next_failed(s.job, &cursor, &chunk, &err), &err);
    EXPECT_EQ(chunk, 99ull);
    while (pint_job_next(s.job, &lease, &err) == PINT_OK) {
        const uint64_t now = lease.first / CHUNK_ROWS;
        ASSERT_OK(now == 0 || now == 7 || now == CHUNKS - 1
                      ? pint_job_reject(s.job, &lease, "", &err)
                      : pint_job_done(s.job, &lease, &err),
                  &err);
    }
    static const uint64_t failed[] = {0, 7, CHUNKS - 1};
    cursor = 0;
    for (size_t i = 0; i < COUNT_OF(failed); i++) {
        ASSERT_OK(pint_job_next_failed(s.job, &cursor, &chunk, &err), &err);
        EXPECT_EQ(chunk, failed[i]);
    }
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_next_failed(s.job, &cursor, &chunk, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_next_failed(s.job, &cursor, &chunk, &err), &err);
    cursor = UINT64_MAX;
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_job_next_failed(s.job, &cursor, &chunk, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_next_failed(NULL, &cursor, &chunk, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_next_failed(s.job, NULL, &chunk, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_next_failed(s.job, &cursor, NULL, &err), &err);
    tear_down(&s);
}

/* A rejecter that dies with the old bytes half back: the next one puts them back, then FAILED. */
TEST(Reject, OfOneThatDiesMeanwhileIsCompletedByOthers)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    pint_pool *doomed = local_session_new(s.local);
    pint_table *theirs;
    pint_job *job;
    ASSERT_OK(pint_table_open(doomed, "t", PINT_WRITE, &theirs, &err), &err);
    ASSERT_OK(pint_job_create(theirs, "job", uses, 2, &job, &err), &err);
    ASSERT_OK(pint_job_next(job, &lease, &err), &err);
    const uint64_t chunk = lease.first / CHUNK_ROWS;
    spoil(&s, &lease);
    /* the steps of pinti_job_abandon(), up to the middle of the copy */
    pinti_a64 *out = word_of(&s.y, chunk);
    ASSERT_TRUE(pinti_chunk_tear(out, pinti_load64_seq(out)));
    pinti_a64 *word = &s.job->desc->words[chunk];
    const uint64_t leased = pinti_load64_seq(word);
    pinti_store64_seq(word, pinti_job_next_word(leased, PINTI_JOB_RESTORING, PINTI_ATTEMPTS_MAX,
                                                pinti_job_undo(leased), pinti_job_holder(leased)));
    (void)local_session_kill(s.local, doomed, false);
    EXPECT_EQ(job_state(&s, chunk), (uint32_t)PINTI_JOB_REDO);
    ASSERT_OK(pint_column_recover(&s.y, chunk, &err), &err);
    pint_status status;
    while ((status = pint_job_next(s.job, &lease, &err)) == PINT_OK) {
        ASSERT_NE(lease.first / CHUNK_ROWS, chunk);
        ASSERT_OK(pint_job_done(s.job, &lease, &err), &err);
    }
    EXPECT_STATUS(PINT_FINISHED, status, &err);
    EXPECT_EQ(job_state(&s, chunk), (uint32_t)PINTI_JOB_FAILED);
    for (uint64_t row = chunk * CHUNK_ROWS; row < (chunk + 1) * CHUNK_ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s.x.values)[row], (int64_t)row);
    }
    tear_down(&s);
}
