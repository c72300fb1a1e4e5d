/* SPDX-License-Identifier: Apache-2.0 */

/* Waiting for a chunk or a job to move on: timeouts, what wakes, and that no wake-up is lost. A
 * lost one would show as a wait of PINTI_WAIT_SLICE_MS, after which a waiter looks again by itself;
 * so the tests of many rounds count how many rounds lasted that long. */

#include <pthread.h>
#include <string.h>

#include "host/job.h"
#include "tests/host/fixture.h"

#define CHUNK_ROWS 512u
#define CHUNKS     4u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
    pint_table *table, *theirs;
    pint_column x, their_x;
} setting;

static void set_up(setting *s)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    pint_error err;
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
    s->table = local_table_new(s->session, "t", &schema, CHUNKS * CHUNK_ROWS);
    s->x = column_of(s->table, "x");
    ASSERT_OK(pint_table_open(s->other, "t", PINT_WRITE, &s->theirs, &err), &err);
    s->their_x = column_of(s->theirs, "x");
}

static void tear_down(setting *s)
{
    pint_table_close(s->theirs);
    pint_table_close(s->table);
    local_pool_free(s->local);
}

/* ---- alone ----------------------------------------------------------------------------------- */

TEST(Wait, EndsAtOnceWhenTheVersionIsAnother)
{
    setting s;
    pint_error err;
    uint64_t version = 99;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_column_mark(&s.x, 0, 1, &err), &err);
    ASSERT_OK(pint_column_wait(&s.x, 0, 0, -1, &version, &err), &err);
    EXPECT_EQ(version, 1ull);
    ASSERT_OK(pint_column_wait(&s.x, 0, 0, 0, NULL, &err), &err);
    ASSERT_OK(pint_column_wait(&s.x, 0, UINT64_MAX, 0, &version, &err), &err);
    tear_down(&s);
}

TEST(Wait, OnlyLooksWithATimeoutOfZero)
{
    setting s;
    pint_error err;
    uint64_t version = 99;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_column_wait(&s.x, 0, 0, 0, &version, &err), &err);
    EXPECT_EQ(version, 99ull);
    tear_down(&s);
}

TEST(Wait, LastsAtLeastItsTimeout)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    const uint64_t start = ct_now_ms();
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_column_wait(&s.x, 0, 0, 40, NULL, &err), &err);
    EXPECT_GE(ct_now_ms() - start, 39ull);
    tear_down(&s);
}

TEST(Wait, LastsLongerThanTheTimeAfterWhichItLooksAgain)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    const uint64_t start = ct_now_ms();
    EXPECT_STATUS(PINT_E_TIMEOUT,
                  pint_column_wait(&s.x, 0, 0, PINTI_WAIT_SLICE_MS + 100, NULL, &err), &err);
    EXPECT_GE(ct_now_ms() - start, PINTI_WAIT_SLICE_MS + 99ull);
    tear_down(&s);
}

TEST(Wait, ForAChunkThatIsNotIsOutOfRange)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_STATUS(PINT_E_RANGE, pint_column_wait(&s.x, CHUNKS, 0, 0, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_wait(NULL, 0, 0, 0, NULL, &err), &err);
    tear_down(&s);
}

/* ---- woken ----------------------------------------------------------------------------------- */

typedef struct waiter {
    pthread_t thread;
    const pint_column *column;
    pint_job *job;
    uint64_t seen;
    uint64_t version;
    pint_status status;
    pint_error err;
} waiter;

static void *wait_for_version(void *argument)
{
    waiter *w = argument;
    w->status = pint_column_wait(w->column, 1, w->seen, 30000, &w->version, &w->err);
    return NULL;
}

enum event { BY_MARK, BY_CLAIM, BY_COMMIT, BY_ABANDON, BY_RECOVER, BY_SWEEP, N_EVENTS };

static void make_event(setting *s, enum event event, pint_lease *lease)
{
    pint_error err;
    switch (event) {
    case BY_MARK:
        EXPECT_OK(pint_column_mark(&s->their_x, CHUNK_ROWS, 1, &err), &err);
        break;
    case BY_CLAIM:
        EXPECT_OK(pint_lease_claim(&s->their_x, 1, 1, PINT_OUT, 0, lease, &err), &err);
        EXPECT_OK(pint_lease_commit(lease, &err), &err);
        break;
    case BY_COMMIT:
        EXPECT_OK(pint_lease_commit(lease, &err), &err);
        break;
    case BY_ABANDON:
        EXPECT_OK(pint_lease_abandon(lease, &err), &err);
        break;
    case BY_RECOVER:
        EXPECT_OK(pint_column_recover(&s->their_x, 1, &err), &err);
        break;
    case BY_SWEEP:
    case N_EVENTS:
    default:
        (void)local_session_sweep(s->local, s->other, false);
        break;
    }
}

TEST(Wait, IsEndedByEverythingThatMovesTheVersion, .timeout_s = 60)
{
    for (int event = 0; event < N_EVENTS; event++) {
        setting s;
        pint_error err;
        pint_lease lease;
        ASSERT_NO_FATAL(set_up(&s));
        if (event == BY_COMMIT || event == BY_ABANDON || event == BY_SWEEP) {
            ASSERT_OK(pint_lease_claim(&s.their_x, 1, 1, PINT_UPDATE, 0, &lease, &err), &err);
        } else if (event == BY_RECOVER) {
            ASSERT_OK(pint_lease_claim(&s.their_x, 1, 1, PINT_UPDATE, 0, &lease, &err), &err);
            ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
        }
        waiter w = {.column = &s.x, .seen = pint_column_version(&s.x, 1)};
        ASSERT_EQ(pthread_create(&w.thread, NULL, wait_for_version, &w), 0);
        EXPECT_TRUE(ct_eventually(is_anybody_asleep(s.table), 20000));
        make_event(&s, (enum event)event, &lease);
        EXPECT_FALSE(is_anybody_asleep(s.table)); /* rung */
        (void)pthread_join(w.thread, NULL);
        EXPECT_OK(w.status, &w.err);
        EXPECT_NE(w.version, w.seen);
        tear_down(&s);
    }
}

TEST(Wait, IsNotEndedByAnotherChunk)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    waiter w = {.column = &s.x, .seen = 0, .status = PINT_E_STATE};
    ASSERT_EQ(pthread_create(&w.thread, NULL, wait_for_version, &w), 0);
    for (int i = 0; i < 20; i++) {
        EXPECT_TRUE(ct_eventually(is_anybody_asleep(s.table), 20000));
        ASSERT_OK(pint_column_mark(&s.their_x, 0, 1, &err), &err); /* wakes, for nothing */
    }
    ASSERT_OK(pint_column_mark(&s.their_x, CHUNK_ROWS, 1, &err), &err);
    (void)pthread_join(w.thread, NULL);
    EXPECT_OK(w.status, &w.err);
    EXPECT_EQ(w.version, 1ull);
    tear_down(&s);
}

static void *wait_for_job(void *argument)
{
    waiter *w = argument;
    w->status = pint_job_wait(w->job, 30000, &w->err);
    return NULL;
}

TEST(JobWait, EndsWhenEveryChunkIsDoneOrFailed)
{
    static const pint_use uses[] = {{"x", PINT_INOUT, 0}};
    setting s;
    pint_error err;
    pint_lease lease;
    pint_job *job;
    pint_job *theirs;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_create(s.table, "j", uses, 1, &job, &err), &err);
    ASSERT_OK(pint_job_create(s.theirs, "j", NULL, 0, &theirs, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_wait(job, 0, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_job_wait(job, 20, &err), &err);
    waiter w = {.job = job};
    ASSERT_EQ(pthread_create(&w.thread, NULL, wait_for_job, &w), 0);
    EXPECT_TRUE(ct_eventually(is_anybody_asleep(s.table), 20000));
    pint_status status;
    while ((status = pint_job_next(theirs, &lease, &err)) == PINT_OK) {
        if (lease.chunk == 2) {
            EXPECT_OK(pint_job_fail(theirs, &lease, "always", &err), &err);
        } else {
            EXPECT_OK(pint_job_done(theirs, &lease, &err), &err);
        }
    }
    EXPECT_STATUS(PINT_FINISHED, status, &err);
    (void)pthread_join(w.thread, NULL);
    EXPECT_OK(w.status, &w.err);
    EXPECT_OK(pint_job_wait(job, 0, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_wait(NULL, 0, &err), &err);
    pint_job_close(theirs);
    pint_job_close(job);
    tear_down(&s);
}

/* ---- many rounds ----------------------------------------------------------------------------- */

#define ROUNDS          1500u
#define SLOW_MS         (PINTI_WAIT_SLICE_MS - 50u)
#define SLOW_ROUNDS_MAX (ROUNDS / 50u) /* a loaded machine may stop a thread for as long */

typedef struct runner {
    pthread_t thread;
    setting *s;
    pint_pool *session;
    uint64_t chunk;
    uint64_t n_slow;
    uint32_t use;
    bool is_waiter;
    pinti_a32 *n_ready; /* all begin together */
    char wrong[120];
} runner;

/* Two pairs play ball, each on a chunk of its own but with one bell: the waiter waits for the next
 * version and answers; the committer does it the other way round. */
static void *play(void *argument)
{
    runner *r = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(r->session, "t", PINT_WRITE, &table, &err) != PINT_OK) {
        (void)snprintf(r->wrong, sizeof(r->wrong), "%.100s", err.message);
        return NULL;
    }
    const pint_column x = column_of(table, "x");
    /* mark number n makes version n: evens are the committer's, odds the waiter's answers */
    for (uint64_t n = r->is_waiter ? 1 : 0; n < 2 * ROUNDS && r->wrong[0] == '\0'; n += 2) {
        const uint64_t start = ct_now_ms();
        pint_status status = PINT_OK;
        if (n > 0) { /* until it is version n */
            status = pint_column_wait(&x, r->chunk, n - 1, 60000, NULL, &err);
        }
        r->n_slow += ct_now_ms() - start >= SLOW_MS;
        if (status == PINT_OK) {
            status = pint_column_mark(&x, r->chunk * CHUNK_ROWS, 1, &err);
        }
        if (status != PINT_OK) {
            (void)snprintf(r->wrong, sizeof(r->wrong), "%.100s", err.message);
        }
    }
    pint_table_close(table);
    return NULL;
}

TEST(WaitRace, NoWakeUpIsLostBetweenTwoWaitersAndTwoCommitters, .timeout_s = 200)
{
    setting s;
    runner runners[4];
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < 4; i++) {
        runners[i] = (runner){.s = &s,
                              .session = i % 2 == 0 ? s.session : s.other,
                              .chunk = i / 2,
                              .is_waiter = i % 2 == 0};
        ASSERT_EQ(pthread_create(&runners[i].thread, NULL, play, &runners[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        (void)pthread_join(runners[i].thread, NULL);
        EXPECT_STREQ(runners[i].wrong, "");
        EXPECT_LT(runners[i].n_slow, (uint64_t)SLOW_ROUNDS_MAX);
    }
    for (uint64_t chunk = 0; chunk < 2; chunk++) {
        EXPECT_EQ(pint_column_version(&s.x, chunk), 2ull * ROUNDS);
    }
    tear_down(&s);
}

/* Four threads want one chunk and wait for each other: each commit must wake one that goes on. */
static void *hand_over(void *argument)
{
    runner *r = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(r->session, "t", PINT_WRITE, &table, &err) != PINT_OK) {
        (void)snprintf(r->wrong, sizeof(r->wrong), "%.100s", err.message);
        return NULL;
    }
    const pint_column x = column_of(table, "x");
    (void)pinti_add32_relaxed(r->n_ready, 1);
    while (pinti_load32_acquire(r->n_ready) < 4) {
    }
    for (uint32_t n = 0; n < ROUNDS && r->wrong[0] == '\0'; n++) {
        pint_lease lease;
        const uint64_t start = ct_now_ms();
        pint_status status = pint_lease_claim(&x, 1, 3, r->use, 60000, &lease, &err);
        r->n_slow += ct_now_ms() - start >= SLOW_MS;
        if (status == PINT_OK) {
            ((int64_t *)x.values)[3 * CHUNK_ROWS] += 1;
            if (n % 16 == 0) {
                ct_nap(); /* so that the others sleep */
            }
            status = pint_lease_commit(&lease, &err);
        }
        if (status != PINT_OK) {
            (void)snprintf(r->wrong, sizeof(r->wrong), "%.100s", err.message);
        }
    }
    pint_table_close(table);
    return NULL;
}

static void hand_over_rounds(uint32_t use)
{
    setting s;
    runner runners[4];
    pinti_a32 n_ready = 0;
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < 4; i++) {
        runners[i] = (runner){
            .s = &s, .session = i % 2 == 0 ? s.session : s.other, .use = use, .n_ready = &n_ready};
        ASSERT_EQ(pthread_create(&runners[i].thread, NULL, hand_over, &runners[i]), 0);
    }
    for (uint32_t i = 0; i < 4; i++) {
        (void)pthread_join(runners[i].thread, NULL);
        EXPECT_STREQ(runners[i].wrong, "");
        EXPECT_LT(runners[i].n_slow, (uint64_t)SLOW_ROUNDS_MAX);
    }
    EXPECT_EQ(((const int64_t *)s.x.values)[3 * CHUNK_ROWS], 4 * (int64_t)ROUNDS);
    tear_down(&s);
}

TEST(WaitRace, NoWakeUpIsLostAmongClaimersOfOneChunk, .timeout_s = 200)
{
    hand_over_rounds(PINT_UPDATE);
}

TEST(WaitRace, NoWakeUpIsLostAmongClaimersWithUndo, .timeout_s = 200)
{
    hand_over_rounds(PINT_INOUT);
}
