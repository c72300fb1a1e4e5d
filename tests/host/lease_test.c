/* SPDX-License-Identifier: Apache-2.0 */

/* Leases outside jobs: who gets a chunk, what commit, abandon and death leave of it, what torn
 * means (R7), and mutual exclusion among threads and sessions of every way to take a chunk. */

#include <pthread.h>
#include <string.h>

#include "host/intent.h"
#include "host/job.h"
#include "tests/host/fixture.h"

#define ROWS       2100u
#define CHUNK_ROWS 512u
#define CHUNKS     5u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
    pint_table *table;  /* of session */
    pint_table *theirs; /* the same table, of other */
    pint_column x, y, bit;
    pint_column their_x, their_y;
} setting;

static void set_up(setting *s)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, PINT_NULLABLE),
                                 field_of("y", PINT_INT32, 0), field_of("bit", PINT_BOOL, 0),
                                 field_of("text", PINT_TEXT, 0)};
    const pint_schema schema = schema_of(fields, 4, CHUNK_ROWS);
    pint_error err;
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
    s->table = local_table_new(s->session, "t", &schema, ROWS);
    s->x = column_of(s->table, "x");
    s->y = column_of(s->table, "y");
    s->bit = column_of(s->table, "bit");
    ASSERT_OK(pint_table_open(s->other, "t", PINT_WRITE, &s->theirs, &err), &err);
    s->their_x = column_of(s->theirs, "x");
    s->their_y = column_of(s->theirs, "y");
}

static void tear_down(setting *s)
{
    pint_table_close(s->theirs);
    pint_table_close(s->table);
    local_pool_free(s->local);
}

/* Does a claim without waiting give this status? An OK one is committed at once. */
static void expect_claim(pint_status expected, const pint_column *column, uint64_t chunk,
                         uint32_t use)
{
    pint_lease lease;
    pint_error err;
    const pint_status status = pint_lease_claim(column, 1, chunk, use, 0, &lease, &err);
    EXPECT_STATUS(expected, status, &err);
    if (status == PINT_OK) {
        EXPECT_OK(pint_lease_commit(&lease, &err), &err);
    }
}

static uint64_t n_intents(const pint_pool *session)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
        n += pinti_load64_seq(&pinti_slot_intents(session->slot)[i]) != 0;
    }
    return n;
}

static void tear(const pint_column *column, uint64_t chunk)
{
    pint_lease lease;
    pint_error err;
    ASSERT_OK(pint_lease_claim(column, 1, chunk, PINT_UPDATE, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    ASSERT_EQ(state_of(column, chunk), (uint32_t)PINTI_CHUNK_TORN);
}

/* ---- claim and commit ------------------------------------------------------------------------ */

TEST(Lease, SaysWhichRowsItIsFor)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t i = 0; i < COUNT_OF(all_uses); i++) {
        ASSERT_OK(pint_lease_claim(&s.x, 1, 1, all_uses[i], 0, &lease, &err), &err);
        EXPECT_EQ(lease.first, (uint64_t)CHUNK_ROWS);
        EXPECT_EQ(lease.n_rows, (uint64_t)CHUNK_ROWS);
        EXPECT_EQ(lease.chunk, 1ull);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        ASSERT_OK(pint_lease_claim(&s.x, 1, CHUNKS - 1, all_uses[i], 0, &lease, &err), &err);
        EXPECT_EQ(lease.first, (CHUNKS - 1) * (uint64_t)CHUNK_ROWS);
        EXPECT_EQ(lease.n_rows, ROWS - (CHUNKS - 1) * (uint64_t)CHUNK_ROWS); /* short */
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    }
    tear_down(&s);
}

TEST(Lease, ExcludesEverybodyFromItsChunkAndNobodyFromOthers)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t i = 0; i < COUNT_OF(all_uses); i++) {
        ASSERT_OK(pint_lease_claim(&s.x, 1, 1, all_uses[i], 0, &lease, &err), &err);
        for (size_t k = 0; k < COUNT_OF(all_uses); k++) {
            expect_claim(PINT_E_BUSY, &s.their_x, 1, all_uses[k]);
            expect_claim(PINT_E_BUSY, &s.x, 1, all_uses[k]); /* not recursive */
            expect_claim(PINT_OK, &s.their_x, 0, all_uses[k]);
            expect_claim(PINT_OK, &s.their_x, 2, all_uses[k]);
            expect_claim(PINT_OK, &s.their_y, 1, all_uses[k]);
        }
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        expect_claim(PINT_OK, &s.their_x, 1, PINT_UPDATE);
    }
    EXPECT_EQ(n_intents(s.session), 0ull);
    EXPECT_EQ(n_intents(s.other), 0ull);
    tear_down(&s);
}

TEST(Lease, BusyMessageNamesTheColumnAndTheHolder)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_lease none;
    char holder[32];
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_lease_claim(&s.x, 1, 1, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&s.their_x, 1, 1, PINT_OUT, 0, &none, &err), &err);
    (void)snprintf(holder, sizeof(holder), "session index %u", s.session->session_index);
    EXPECT_TRUE(strstr(err.message, "'x'") != NULL);
    EXPECT_TRUE(strstr(err.message, holder) != NULL);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    tear_down(&s);
}

TEST(Lease, ClaimAndCommitMoveTheVersion)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_lease_claim(&s.x, 1, 1, PINT_OUT, 0, &lease, &err), &err);
    const uint64_t held = pint_column_version(&s.x, 1);
    EXPECT_GT(held, 0ull);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_GT(pint_column_version(&s.x, 1), held);
    tear_down(&s);
}

TEST(Lease, ArgumentsThatAreNoneAreRefusedAndNothingIsHeld)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column text = column_of(s.table, "text");
    const pint_column mixed[] = {s.x, s.their_y};
    const pint_column twice[] = {s.x, s.y, s.x};
    const pint_column with_text[] = {s.x, text};
    pint_column beyond[] = {s.x, s.y};
    beyond[1].index = 4;
    EXPECT_STATUS(PINT_E_RANGE, pint_lease_claim(&s.x, 1, CHUNKS, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_lease_claim(&s.x, 1, UINT64_MAX, PINT_INOUT, 0, &lease, &err),
                  &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_lease_claim(&s.x, 0, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_lease_claim(&s.x, 65, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(&s.x, 1, 0, PINT_IN, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(&s.x, 1, 0, 0, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(&s.x, 1, 0, 5, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(NULL, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(&s.x, 1, 0, PINT_OUT, 0, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(mixed, 2, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(twice, 3, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_claim(beyond, 2, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_lease_claim(&text, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_lease_claim(&text, 1, 0, PINT_INOUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_lease_claim(with_text, 2, 0, PINT_UPDATE, 0, &lease, &err),
                  &err);
    EXPECT_EQ(n_intents(s.session), 0ull);
    expect_claim(PINT_OK, &s.their_x, 0, PINT_OUT);
    expect_claim(PINT_OK, &s.their_y, 0, PINT_OUT);
    tear_down(&s);
}

TEST(Lease, OfATableWithoutRowsIsOutOfRange)
{
    pint_error err;
    pint_lease lease;
    const pint_field fields[] = {field_of("x", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 1, 0);
    local_pool *local = local_pool_new();
    pint_table *table = local_table_new(local_session_new(local), "empty", &schema, 0);
    const pint_column x = column_of(table, "x");
    EXPECT_STATUS(PINT_E_RANGE, pint_lease_claim(&x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Lease, IsVoidAfterItsEnd)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t i = 0; i < COUNT_OF(all_uses); i++) {
        ASSERT_OK(pint_lease_claim(&s.x, 1, 0, all_uses[i], 0, &lease, &err), &err);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        EXPECT_STATUS(PINT_E_INVALID, pint_lease_commit(&lease, &err), &err);
        EXPECT_STATUS(PINT_E_INVALID, pint_lease_abandon(&lease, &err), &err);
    }
    memset(&lease, 0, sizeof(lease));
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_commit(&lease, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_commit(NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_abandon(NULL, &err), &err);
    expect_claim(PINT_OK, &s.their_x, 0, PINT_UPDATE);
    tear_down(&s);
}

TEST(Lease, OfAJobIsNotForThePlainCallsNorTheOtherWayRound)
{
    setting s;
    pint_error err;
    pint_lease plain;
    pint_lease of_job;
    pint_job *job;
    const pint_use uses[] = {{"y", PINT_OUT, 0}};
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_create(s.table, "j", uses, 1, &job, &err), &err);
    ASSERT_OK(pint_job_next(job, &of_job, &err), &err);
    ASSERT_OK(pint_lease_claim(&s.x, 1, 0, PINT_OUT, 0, &plain, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_commit(&of_job, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_lease_abandon(&of_job, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_done(job, &plain, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_job_fail(job, &plain, "no", &err), &err);
    EXPECT_OK(pint_job_done(job, &of_job, &err), &err);
    EXPECT_OK(pint_lease_commit(&plain, &err), &err);
    pint_job_close(job);
    tear_down(&s);
}

/* ---- several columns ------------------------------------------------------------------------- */

TEST(LeaseOfSeveral, TakesAllOrNone)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_lease none;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column both[] = {s.their_x, s.their_y};
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t i = 0; i < COUNT_OF(all_uses); i++) {
        ASSERT_OK(pint_lease_claim(&s.y, 1, 3, PINT_UPDATE, 0, &lease, &err), &err);
        EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(both, 2, 3, all_uses[i], 0, &none, &err), &err);
        expect_claim(PINT_OK, &s.x, 3, PINT_UPDATE);
        EXPECT_EQ(n_intents(s.other), 0ull);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        ASSERT_OK(pint_lease_claim(both, 2, 3, all_uses[i], 0, &lease, &err), &err);
        expect_claim(PINT_E_BUSY, &s.x, 3, PINT_UPDATE);
        expect_claim(PINT_E_BUSY, &s.y, 3, PINT_UPDATE);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    }
    tear_down(&s);
}

TEST(LeaseOfSeveral, TakesColumnsInAnyOrder)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column c[3] = {s.x, s.y, s.bit};
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        for (size_t k = 0; k < COUNT_OF(all_uses); k++) {
            const pint_column columns[] = {c[orders[i][0]], c[orders[i][1]], c[orders[i][2]]};
            ASSERT_OK(pint_lease_claim(columns, 3, 2, all_uses[k], 0, &lease, &err), &err);
            for (int n = 0; n < 3; n++) {
                EXPECT_TRUE(pinti_chunk_is_held(state_of(&c[n], 2)));
            }
            ASSERT_OK(pint_lease_commit(&lease, &err), &err);
            for (int n = 0; n < 3; n++) {
                EXPECT_EQ(state_of(&c[n], 2), (uint32_t)PINTI_CHUNK_CLEAN);
            }
        }
    }
    tear_down(&s);
}

TEST(LeaseOfSeveral, SixtyFourColumnsAreOneLease)
{
    char names[64][8];
    pint_field fields[64];
    pint_column columns[64];
    pint_error err;
    pint_lease lease;
    for (uint32_t i = 0; i < 64; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "c%u", i);
        fields[i] = field_of(names[i], PINT_INT64, 0);
    }
    const pint_schema schema = schema_of(fields, 64, CHUNK_ROWS);
    local_pool *local = local_pool_new();
    pint_table *table = local_table_new(local_session_new(local), "t", &schema, 2 * CHUNK_ROWS);
    for (uint32_t i = 0; i < 64; i++) {
        columns[63 - i] = column_of(table, names[i]);
    }
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t k = 0; k < COUNT_OF(all_uses); k++) {
        ASSERT_OK(pint_lease_claim(columns, 64, 1, all_uses[k], 0, &lease, &err), &err);
        for (uint32_t i = 0; i < 64; i++) {
            for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
                ((int64_t *)columns[i].values)[row] += 1;
            }
        }
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    }
    for (uint32_t i = 0; i < 64; i++) {
        EXPECT_EQ(((const int64_t *)columns[i].values)[CHUNK_ROWS], 3);
        EXPECT_EQ(((const int64_t *)columns[i].values)[CHUNK_ROWS - 1], 0);
    }
    pint_table_close(table);
    local_pool_free(local);
}

TEST(LeaseOfSeveral, WithOneTornColumnIsTornAsAWholeUnlessRewritten)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column both[] = {s.x, s.y};
    ASSERT_NO_FATAL(tear(&s.y, 0));
    EXPECT_STATUS(PINT_E_TORN, pint_lease_claim(both, 2, 0, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_TRUE(strstr(err.message, "'y'") != NULL);
    EXPECT_STATUS(PINT_E_TORN, pint_lease_claim(both, 2, 0, PINT_INOUT, 0, &lease, &err), &err);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_CLEAN);
    ASSERT_OK(pint_lease_claim(both, 2, 0, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(state_of(&s.y, 0), (uint32_t)PINTI_CHUNK_CLEAN);
    tear_down(&s);
}

TEST(LeaseOfSeveral, OneColumnLostDoesNotKeepTheOthersHeld)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column all[] = {s.x, s.y, s.bit};
    ASSERT_OK(pint_lease_claim(all, 3, 0, PINT_UPDATE, 0, &lease, &err), &err);
    pinti_store64_seq(word_of(&s.x, 0), 0); /* a hostile writer */
    EXPECT_STATUS(PINT_E_LEASE_LOST, pint_lease_commit(&lease, &err), &err);
    expect_claim(PINT_OK, &s.their_x, 0, PINT_OUT);
    expect_claim(PINT_OK, &s.their_y, 0, PINT_OUT);
    EXPECT_FALSE(pinti_chunk_is_held(state_of(&s.bit, 0)));
    EXPECT_EQ(n_intents(s.session), 0ull);
    tear_down(&s);
}

/* ---- torn (R7) ------------------------------------------------------------------------------- */

TEST(Torn, IsWhatAbandonLeavesOfOutAndUpdate)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t uses[] = {PINT_OUT, PINT_UPDATE};
    for (uint64_t i = 0; i < COUNT_OF(uses); i++) {
        ASSERT_OK(pint_lease_claim(&s.x, 1, i, uses[i], 0, &lease, &err), &err);
        ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
        EXPECT_EQ(state_of(&s.x, i), (uint32_t)PINTI_CHUNK_TORN);
        expect_claim(PINT_E_TORN, &s.their_x, i, PINT_UPDATE);
        expect_claim(PINT_E_TORN, &s.their_x, i, PINT_INOUT);
    }
    tear_down(&s);
}

TEST(Torn, IsNotWaitedFor)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_NO_FATAL(tear(&s.x, 0));
    EXPECT_STATUS(PINT_E_TORN, pint_lease_claim(&s.x, 1, 0, PINT_UPDATE, -1, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_TORN, pint_lease_claim(&s.x, 1, 0, PINT_INOUT, -1, &lease, &err), &err);
    tear_down(&s);
}

TEST(Torn, IsClearedByACommittedRewriteOnly)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_NO_FATAL(tear(&s.x, 0));
    ASSERT_OK(pint_lease_claim(&s.their_x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_TORN);
    ASSERT_OK(pint_lease_claim(&s.their_x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_CLEAN);
    expect_claim(PINT_OK, &s.x, 0, PINT_UPDATE);
    tear_down(&s);
}

TEST(Torn, StaysWhenARewriterDiesAndWhenOthersOfSeveralAreBusy)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_lease none;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column both[] = {s.x, s.y};
    ASSERT_NO_FATAL(tear(&s.x, 0));
    ASSERT_OK(pint_lease_claim(&s.their_y, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(both, 2, 0, PINT_OUT, 0, &none, &err), &err);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_TORN); /* claimed or not, and given back */
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    ASSERT_OK(pint_lease_claim(&s.their_x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    pint_table_close(s.theirs);
    (void)local_session_kill(s.local, s.other, false);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_TORN);
    pint_table_close(s.table);
    local_pool_free(s.local);
}

TEST(Torn, IsAcceptedByRecover)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_NO_FATAL(tear(&s.x, 0));
    const uint64_t version = pint_column_version(&s.x, 0);
    ASSERT_OK(pint_column_recover(&s.their_x, 0, &err), &err);
    EXPECT_GT(pint_column_version(&s.x, 0), version);
    expect_claim(PINT_OK, &s.x, 0, PINT_UPDATE);
    expect_claim(PINT_OK, &s.x, 0, PINT_INOUT);
    tear_down(&s);
}

TEST(Recover, IsRefusedWhereNothingIsTorn)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_STATUS(PINT_E_STATE, pint_column_recover(&s.x, 0, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_recover(&s.x, CHUNKS, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_recover(NULL, 0, &err), &err);
    ASSERT_NO_FATAL(tear(&s.x, 0));
    ASSERT_OK(pint_lease_claim(&s.x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_STATE, pint_column_recover(&s.their_x, 0, &err), &err); /* held */
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    tear_down(&s);
}

/* ---- undo ------------------------------------------------------------------------------------ */

static void fill(const setting *s, int64_t add)
{
    pint_error err;
    for (uint64_t row = 0; row < ROWS; row++) {
        ((int64_t *)s->x.values)[row] = (int64_t)row + add;
        ((int32_t *)s->y.values)[row] = (int32_t)((int64_t)row + add);
        EXPECT_OK(pint_column_set_null(&s->x, row, (row + (uint64_t)add) % 3 == 0, &err), &err);
        EXPECT_OK(pint_column_set_bool(&s->bit, row, (row + (uint64_t)add) % 2 == 0, &err), &err);
    }
}

static void scribble(const setting *s, const pint_lease *lease)
{
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows; row++) {
        ((int64_t *)s->x.values)[row] = -1;
        ((int32_t *)s->y.values)[row] = -1;
        EXPECT_OK(pint_column_set_null(&s->x, row, row % 2 == 0, NULL), NULL);
        EXPECT_OK(pint_column_set_bool(&s->bit, row, row % 7 == 0, NULL), NULL);
    }
}

static void expect_filled(const setting *s, int64_t add)
{
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s->x.values)[row], (int64_t)row + add);
        ASSERT_EQ(((const int32_t *)s->y.values)[row], (int64_t)row + add);
        ASSERT_EQ(pint_column_is_null(&s->x, row), (row + (uint64_t)add) % 3 == 0);
        ASSERT_EQ(pint_column_get_bool(&s->bit, row), (row + (uint64_t)add) % 2 == 0);
    }
}

TEST(Undo, AbandonPutsValuesAndBitsBack)
{
    setting s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column all[] = {s.bit, s.x, s.y};
    fill(&s, 5);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        ASSERT_OK(pint_lease_claim(all, 3, chunk, PINT_INOUT, 0, &lease, &err), &err);
        scribble(&s, &lease);
        ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    }
    expect_filled(&s, 5);
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        EXPECT_EQ(state_of(&s.x, chunk), (uint32_t)PINTI_CHUNK_CLEAN);
        expect_claim(PINT_OK, &s.their_x, chunk, PINT_UPDATE);
    }
    tear_down(&s);
}

TEST(Undo, DeathPutsValuesAndBitsBackBeforeAnyoneGetsTheChunk)
{
    static const uint32_t next_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (size_t i = 0; i < COUNT_OF(next_uses); i++) {
        setting s;
        pint_error err;
        pint_lease lease;
        ASSERT_NO_FATAL(set_up(&s));
        const pint_column all[] = {column_of(s.theirs, "bit"), s.their_x, s.their_y};
        fill(&s, 5);
        ASSERT_OK(pint_lease_claim(all, 3, 2, PINT_INOUT, 0, &lease, &err), &err);
        scribble(&s, &lease);
        (void)local_session_kill(s.local, s.other, false);
        EXPECT_EQ(state_of(&s.x, 2), (uint32_t)PINTI_CHUNK_RESTORE);
        expect_claim(PINT_OK, &s.y, 2, next_uses[i]); /* one of the three brings back all */
        expect_filled(&s, 5);
        expect_claim(PINT_OK, &s.x, 2, next_uses[i]);
        expect_claim(PINT_OK, &s.bit, 2, next_uses[i]);
        pint_table_close(s.table);
        local_pool_free(s.local);
    }
}

TEST(Undo, MoreChunksAtOnceThanBuffersWaitForOneAndGetIt)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    pint_error err;
    static pint_lease leases[2000];
    local_pool *local = local_pool_new();
    pint_table *table =
        local_table_new(local_session_new(local), "t", &schema, COUNT_OF(leases) * CHUNK_ROWS);
    const pint_column x = column_of(table, "x");
    uint64_t n = 0;
    pint_status status = PINT_OK;
    while (n < COUNT_OF(leases)) {
        status = pint_lease_claim(&x, 1, n, PINT_INOUT, 0, &leases[n], &err);
        if (status != PINT_OK) {
            break;
        }
        n++;
    }
    EXPECT_STATUS(PINT_E_BUSY, status, &err);
    EXPECT_GE(n, 8ull);
    const uint64_t version = pint_column_version(&x, n);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(&x, 1, n, PINT_INOUT, 20, &leases[n], &err),
                  &err);
    EXPECT_EQ(pint_column_version(&x, n), version); /* waiting did not touch the chunk */
    ASSERT_OK(pint_lease_commit(&leases[0], &err), &err);
    ASSERT_OK(pint_lease_claim(&x, 1, n, PINT_INOUT, 10000, &leases[0], &err), &err);
    for (uint64_t i = 0; i < n; i++) {
        EXPECT_OK(pint_lease_commit(&leases[i], &err), &err);
    }
    pint_table_close(table);
    local_pool_free(local);
}

/* ---- waiting --------------------------------------------------------------------------------- */

TEST(LeaseWait, EndsAtItsTimeout)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_lease none;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column both[] = {s.their_x, s.their_y};
    ASSERT_OK(pint_lease_claim(&s.x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
    const uint64_t start = ct_now_ms();
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(&s.their_x, 1, 0, PINT_UPDATE, 30, &none, &err),
                  &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(&s.their_x, 1, 0, PINT_INOUT, 30, &none, &err),
                  &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(both, 2, 0, PINT_OUT, 30, &none, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(&s.x, 1, 0, PINT_UPDATE, 30, &none, &err), &err);
    EXPECT_GE(ct_now_ms() - start, 4 * 29ull);
    EXPECT_EQ(n_intents(s.other), 0ull);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    tear_down(&s);
}

typedef struct claimer {
    pthread_t thread;
    const pint_column *columns;
    uint32_t n_columns;
    uint32_t use;
    pint_status status;
    pint_error err;
    pint_lease lease;
} claimer;

static void *claim_and_wait(void *argument)
{
    claimer *c = argument;
    c->status = pint_lease_claim(c->columns, c->n_columns, 0, c->use, 30000, &c->lease, &c->err);
    return NULL;
}

enum ending { BY_COMMIT, BY_ABANDON, BY_DEATH, N_ENDINGS };

/* A waiter gets the chunk by whatever ends the holder's lease. */
TEST(LeaseWait, EndsWhenTheHolderCommitsAbandonsOrDies, .timeout_s = 60)
{
    for (int how = 0; how < N_ENDINGS; how++) {
        setting s;
        pint_error err;
        pint_lease lease;
        ASSERT_NO_FATAL(set_up(&s));
        const pint_column both[] = {s.x, s.y};
        claimer waiter = {.columns = both, .n_columns = 2, .use = PINT_OUT};
        ASSERT_OK(pint_lease_claim(&s.their_x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
        ASSERT_EQ(pthread_create(&waiter.thread, NULL, claim_and_wait, &waiter), 0);
        EXPECT_TRUE(ct_eventually(is_anybody_asleep(s.table), 20000));
        if (how == BY_COMMIT) {
            EXPECT_OK(pint_lease_commit(&lease, &err), &err);
        } else if (how == BY_ABANDON) {
            EXPECT_OK(pint_lease_abandon(&lease, &err), &err);
        } else {
            (void)local_session_sweep(s.local, s.other, false);
        }
        (void)pthread_join(waiter.thread, NULL);
        ASSERT_OK(waiter.status, &waiter.err);
        EXPECT_OK(pint_lease_commit(&waiter.lease, &err), &err);
        tear_down(&s);
    }
}

/* ---- loss ------------------------------------------------------------------------------------ */

TEST(LeaseLost, IsWhatASweptHolderIsTold)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t all_uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    for (uint64_t i = 0; i < COUNT_OF(all_uses); i++) {
        pint_lease lease;
        ASSERT_OK(pint_lease_claim(&s.their_x, 1, i, all_uses[i], 0, &lease, &err), &err);
        (void)local_session_sweep(s.local, s.other, false);
        EXPECT_STATUS(
            PINT_E_LEASE_LOST,
            i % 2 == 0 ? pint_lease_commit(&lease, &err) : pint_lease_abandon(&lease, &err), &err);
        EXPECT_STATUS(PINT_E_INVALID, pint_lease_commit(&lease, &err), &err); /* void */
        expect_claim(PINT_OK, &s.x, i, PINT_OUT);
    }
    tear_down(&s);
}

TEST(LeaseLost, DoesNotTouchWhoHasTheChunkNow)
{
    setting s;
    pint_error err;
    pint_lease lost;
    pint_lease held;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_lease_claim(&s.their_x, 1, 0, PINT_OUT, 0, &lost, &err), &err);
    (void)local_session_sweep(s.local, s.other, false);
    ASSERT_OK(pint_lease_claim(&s.x, 1, 0, PINT_OUT, 0, &held, &err), &err);
    EXPECT_STATUS(PINT_E_LEASE_LOST, pint_lease_abandon(&lost, &err), &err);
    expect_claim(PINT_E_BUSY, &s.their_x, 0, PINT_OUT);
    EXPECT_OK(pint_lease_commit(&held, &err), &err);
    tear_down(&s);
}

TEST(Intent, OfAThreadIsNotKeptFromAPoolThatIsGone)
{
    /* A second pool may lie at the address of the first and have the same session id: the block of
     * intents noted for the first is not this thread's any more. */
    for (int round = 0; round < 3; round++) {
        local_pool *local = local_pool_new();
        pint_pool *session = local_session_new(local);
        const uint32_t place = pinti_intent_note(session, 1);
        EXPECT_EQ(place, 0u);
        EXPECT_EQ(session->intent_hint, PINTI_INTENT_BLOCK); /* taken from this pool */
        pinti_intent_clear(session, place);
        local_pool_free(local);
    }
}

TEST(Intent, ASessionNotesAsManyAsThereArePlacesAndGoesOnWithout)
{
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
        ASSERT_LT(pinti_intent_note(session, pinti_intent(PINTI_INTENT_LEASE, 1, 2, i)),
                  PINTI_INTENTS);
    }
    EXPECT_EQ(pinti_intent_note(session, 1), PINTI_INTENT_NONE);
    pinti_intent_clear(session, PINTI_INTENT_NONE);
    EXPECT_EQ(n_intents(session), (uint64_t)PINTI_INTENTS);
    pinti_intent_clear(session, 77);
    EXPECT_EQ(pinti_intent_note(session, 1), 77u);
    local_pool_free(local);
}

TEST(Intent, ALeaseWithoutAPlaceForItIsClaimedAndEndedAllTheSame)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    while (pinti_intent_note(s.session, 1) != PINTI_INTENT_NONE) {
    }
    for (int round = 0; round < 2; round++) {
        pint_lease lease;
        ASSERT_OK(pint_lease_claim(&s.x, 1, 0, PINT_UPDATE, 0, &lease, &err), &err);
        expect_claim(PINT_E_BUSY, &s.their_x, 0, PINT_UPDATE);
        ASSERT_OK(round == 0 ? pint_lease_commit(&lease, &err) : pint_lease_abandon(&lease, &err),
                  &err);
        expect_claim(PINT_OK, &s.their_x, 0, PINT_OUT);
    }
    EXPECT_EQ(n_intents(s.session), (uint64_t)PINTI_INTENTS);
    tear_down(&s);
}

TEST(Intent, IsNotedForTheColumnAndChunkThatIsClaimed)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    for (int round = 0; round < 2; round++) { /* the first claim of a thread takes the slow path */
        pint_lease lease;
        ASSERT_OK(pint_lease_claim(&s.y, 1, 3, PINT_OUT, 0, &lease, &err), &err);
        uint64_t noted = 0;
        for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
            noted |= pinti_load64_seq(&pinti_slot_intents(s.session->slot)[i]);
        }
        EXPECT_EQ(noted, pinti_intent(PINTI_INTENT_LEASE, pinti_table_index(s.table), 1, 3));
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    }
    tear_down(&s);
}

TEST(LeaseClaim, IsRefusedThroughAHandleToReadThoughTheThreadMayClaim)
{
    setting s;
    pint_error err;
    pint_table *reading;
    ASSERT_NO_FATAL(set_up(&s));
    expect_claim(PINT_OK, &s.x, 0, PINT_UPDATE); /* from here on the thread is on the fast path */
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ, &reading, &err), &err);
    const pint_column x = column_of(reading, "x");
    const pint_column text = column_of(s.table, "text");
    expect_claim(PINT_E_PERMISSION, &x, 0, PINT_UPDATE);
    expect_claim(PINT_E_TYPE, &text, 0, PINT_OUT);
    expect_claim(PINT_E_RANGE, &s.x, CHUNKS, PINT_OUT);
    pint_lease lease;
    ASSERT_OK(pint_lease_claim(&s.x, 1, CHUNKS - 1, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_EQ(lease.first, (CHUNKS - 1) * (uint64_t)CHUNK_ROWS);
    EXPECT_EQ(lease.n_rows, ROWS - (CHUNKS - 1) * (uint64_t)CHUNK_ROWS);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    pint_table_close(reading);
    tear_down(&s);
}

TEST(LeaseClaim, OfAFrozenTableIsTakenBackByTheFastPathToo)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    expect_claim(PINT_OK, &s.x, 0, PINT_UPDATE); /* as above */
    const uint64_t version = pint_column_version(&s.x, 0);
    ASSERT_OK(local_table_freeze(s.table), &err);
    expect_claim(PINT_E_FROZEN, &s.x, 0, PINT_UPDATE);
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(pint_column_version(&s.x, 0), version + 2); /* it was claimed, and given back */
    EXPECT_EQ(n_intents(s.session), 0ull);
    tear_down(&s);
}

/* ---- mutual exclusion ------------------------------------------------------------------------ */

#define CONTENDERS 6u
#define TURNS      300u

enum way { WAY_UPDATE, WAY_INOUT, WAY_OUT_BOTH, WAY_UNDONE, WAY_JOB, N_WAYS };

typedef struct contender {
    pthread_t thread;
    pint_pool *session;
    uint32_t number;
    uint64_t random;
    uint64_t n_added; /* to each row of x in chunk 0 */
    char wrong[160];
} contender;

static void note_wrong(contender *c, const char *what, const pint_error *err)
{
    (void)snprintf(c->wrong, sizeof(c->wrong), "%s: %.100s", what, err->message);
}

/* Adds 1 to every row, checking that all were equal: plain stores, guarded by nothing but the
 * lease. */
static void add_one(contender *c, const pint_column *x, const pint_lease *lease)
{
    int64_t *values = x->values;
    const int64_t before = values[lease->first];
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows; row++) {
        if (values[row] != before) {
            (void)snprintf(c->wrong, sizeof(c->wrong),
                           "row %" PRIu64 " is %" PRId64 ", not %" PRId64, row, values[row],
                           before);
        }
        values[row] = before + 1;
    }
}

static void take_turn(contender *c, pint_table *table, enum way way)
{
    pint_error err;
    pint_lease lease;
    const pint_column x = column_of(table, "x");
    const pint_column y = column_of(table, "y");
    const pint_column both[] = {y, x};
    const bool is_both = way == WAY_OUT_BOTH || (way == WAY_INOUT && c->number % 2 == 0);
    const uint32_t use = way == WAY_UPDATE     ? PINT_UPDATE
                         : way == WAY_OUT_BOTH ? PINT_OUT
                                               : PINT_INOUT;
    if (pint_lease_claim(is_both ? both : &x, is_both ? 2 : 1, 0, use, 60000, &lease, &err) !=
        PINT_OK) {
        note_wrong(c, "claim", &err);
        return;
    }
    add_one(c, &x, &lease);
    const bool undone = way == WAY_UNDONE;
    if ((undone ? pint_lease_abandon(&lease, &err) : pint_lease_commit(&lease, &err)) != PINT_OK) {
        note_wrong(c, undone ? "abandon" : "commit", &err);
    }
    c->n_added += !undone;
}

static void take_job_turn(contender *c, pint_table *table, uint32_t turn)
{
    const bool may_fail = turn % 3 == 0; /* then without PINT_OUT, which failing would tear */
    const pint_use uses[] = {{"x", PINT_INOUT, 0}, {"y", may_fail ? PINT_INOUT : PINT_OUT, 0}};
    pint_error err;
    pint_lease lease;
    pint_job *job;
    char name[32];
    const pint_column x = column_of(table, "x");
    (void)snprintf(name, sizeof(name), "job %u-%u", c->number, turn);
    if (pint_job_create(table, name, uses, 2, &job, &err) != PINT_OK) {
        note_wrong(c, "job", &err);
        return;
    }
    pint_status status;
    uint32_t n = 0;
    while ((status = pint_job_next_timed(job, 60000, &lease, &err)) == PINT_OK) {
        add_one(c, &x, &lease);
        if (n++ == 0 && may_fail) {
            status = pint_job_fail(job, &lease, "on purpose", &err); /* undone, comes again */
        } else {
            c->n_added += lease.chunk == 0;
            status = pint_job_done(job, &lease, &err);
        }
        if (status != PINT_OK) {
            break;
        }
    }
    if (status != PINT_FINISHED && status != PINT_AGAIN) {
        note_wrong(c, "next or done", &err);
    }
    /* PINT_AGAIN: a sibling thread of the session has chunk 0; leave it */
    if (pint_job_drop(table, name, &err) != PINT_OK) {
        note_wrong(c, "drop", &err);
    }
    pint_job_close(job);
}

static void *contend(void *argument)
{
    contender *c = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(c->session, "t", PINT_WRITE, &table, &err) != PINT_OK) {
        note_wrong(c, "open", &err);
        return NULL;
    }
    for (uint32_t turn = 0; turn < TURNS && c->wrong[0] == '\0'; turn++) {
        const enum way way = (enum way)random_below(&c->random, N_WAYS);
        if (way == WAY_JOB) {
            take_job_turn(c, table, turn);
        } else {
            take_turn(c, table, way);
        }
    }
    pint_table_close(table);
    return NULL;
}

TEST(Exclusion, OneAtATimeHasAChunkWhateverTheWayItIsTaken, .timeout_s = 200)
{
    setting s;
    static contender contenders[CONTENDERS];
    uint64_t random = random_seed();
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < CONTENDERS; i++) { /* sessions of one thread and of several */
        contenders[i] = (contender){.session = i < 2   ? s.session
                                               : i < 4 ? s.other
                                                       : local_session_new(s.local),
                                    .number = i,
                                    .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&contenders[i].thread, NULL, contend, &contenders[i]), 0);
    }
    uint64_t n_added = 0;
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        (void)pthread_join(contenders[i].thread, NULL);
        EXPECT_STREQ(contenders[i].wrong, "");
        n_added += contenders[i].n_added;
    }
    for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s.x.values)[row], (int64_t)n_added);
    }
    EXPECT_EQ(state_of(&s.x, 0), (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(n_intents(s.session) + n_intents(s.other), 0ull);
    tear_down(&s);
}

/* Holders that die in the middle, while others wait and claim: values are whole afterwards. */
typedef struct mortal {
    pthread_t thread;
    local_pool *local;
    uint64_t random;
    uint64_t n_added;
    char wrong[160];
} mortal;

static void *live_and_die(void *argument)
{
    mortal *m = argument;
    for (int life = 0; life < 40 && m->wrong[0] == '\0'; life++) {
        pint_pool *session = local_session_new(m->local);
        pint_table *table;
        pint_error err = {0};
        pint_lease lease;
        contender c = {.session = session};
        pint_status status = pint_table_open(session, "t", PINT_WRITE, &table, &err);
        const uint64_t n_turns = random_below(&m->random, 4);
        for (uint64_t i = 0; i <= n_turns && status == PINT_OK; i++) {
            const pint_column x = column_of(table, "x");
            status = pint_lease_claim(&x, 1, 0, PINT_INOUT, 60000, &lease, &err);
            if (status == PINT_OK) {
                add_one(&c, &x, &lease);
            }
            if (status == PINT_OK && i < n_turns) {
                status = pint_lease_commit(&lease, &err);
                m->n_added++;
            }
        }
        if (status != PINT_OK || c.wrong[0] != '\0') {
            (void)snprintf(m->wrong, sizeof(m->wrong), "%.60s %.60s", err.message, c.wrong);
        }
        (void)local_session_kill(m->local, session, random_below(&m->random, 2) == 0);
    }
    return NULL;
}

TEST(Exclusion, HoldersThatDieLeaveNothingHalfWritten, .timeout_s = 200)
{
    setting s;
    static mortal mortals[4];
    uint64_t random = random_seed();
    ASSERT_NO_FATAL(set_up(&s));
    for (size_t i = 0; i < COUNT_OF(mortals); i++) {
        mortals[i] = (mortal){.local = s.local, .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&mortals[i].thread, NULL, live_and_die, &mortals[i]), 0);
    }
    uint64_t n_added = 0;
    for (size_t i = 0; i < COUNT_OF(mortals); i++) {
        (void)pthread_join(mortals[i].thread, NULL);
        EXPECT_STREQ(mortals[i].wrong, "");
        n_added += mortals[i].n_added;
    }
    expect_claim(PINT_OK, &s.x, 0, PINT_INOUT);
    for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s.x.values)[row], (int64_t)n_added);
    }
    tear_down(&s);
}

/* ---- a job's stash --------------------------------------------------------------------------- */

/* Chunks a thread took from one job's cursor must not be tried in another job whose descriptor may
 * lie at the same address, with fewer chunks. */
TEST(Stash, OfAJobThatIsGoneIsNotUsedForAnother)
{
    static const pint_use uses[] = {{"x", PINT_OUT, 0}};
    const pint_field fields[] = {field_of("x", PINT_INT8, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    pint_error err;
    for (int round = 0; round < 4; round++) {
        const uint64_t n_chunks = round % 2 == 0 ? 4000 : 3;
        local_pool *local = local_pool_new();
        pint_table *table =
            local_table_new(local_session_new(local), "t", &schema, n_chunks * CHUNK_ROWS);
        pint_job *job;
        pint_lease lease;
        ASSERT_OK(pint_job_create(table, "j", uses, 1, &job, &err), &err);
        if (round % 2 == 0) {
            pinti_store64_relaxed(&job->desc->sync->xcursor, 2000);
        }
        ASSERT_OK(pint_job_next(job, &lease, &err), &err);
        EXPECT_LT(lease.chunk, n_chunks);
        ASSERT_OK(pint_job_done(job, &lease, &err), &err);
        pint_job_close(job);
        pint_table_close(table);
        local_pool_free(local);
    }
}
