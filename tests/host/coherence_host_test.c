/* SPDX-License-Identifier: Apache-2.0 */

/* What leases, jobs, marks, recoveries and reads on the host do with chunks that devices have. */

#include "host/job.h"
#include "tests/host/coherence_world.h"

static void expect_message(const pint_error *err, const char *part)
{
    if (strstr(err->message, part) == NULL) {
        FAIL("'%s' does not say '%s'", err->message, part);
    }
}

/* As a kernel would, that has written the chunk on device B. */
static void write_on_b(world *w)
{
    pinti_taken taken;
    ASSERT_EQ(pinti_device_take(&w->b[OTHER], CHUNK, PINTI_TAKE_TO_REPLACE, &taken), OK);
    ASSERT_EQ(pinti_device_write_commit(&w->b[OTHER], CHUNK, taken.word), OK);
}

/* ---- leases ---------------------------------------------------------------------------------- */

TEST(CoherenceHost, AClaimOfWhatOnlyDevicesHaveSaysSoUnlessItRewrites)
{
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_column both[] = {column_of(w.table[ME], "y"), w.x[ME]};
    static const uint32_t uses[] = {PINT_UPDATE, PINT_INOUT};
    for (size_t i = 0; i < COUNT_OF(uses); i++) {
        for (uint32_t n = 1; n <= 2; n++) {
            const pint_column *columns = n == 1 ? &w.x[ME] : both;
            put_places(&w, A | B);
            /* with a time limit, too: waiting does not mend it */
            EXPECT_STATUS(PINT_E_DEVICE_AHEAD,
                          pint_lease_claim(columns, n, CHUNK, uses[i], -1, &lease, &err), &err);
            expect_message(&err, "device places 0, 7");
            expect_message(&err, "'x'");
            expect_settled(&w, SEQ0, A | B);
            EXPECT_EQ(state_of(&both[0], CHUNK), (uint32_t)PINTI_CHUNK_CLEAN);
            put_places(&w, B);
            EXPECT_STATUS(PINT_E_DEVICE_AHEAD,
                          pint_lease_claim(columns, n, CHUNK, uses[i], 0, &lease, &err), &err);
            expect_message(&err, "device place 7");
        }
    }
    for (uint32_t n = 1; n <= 2; n++) {
        put_places(&w, A | B);
        ASSERT_OK(pint_lease_claim(n == 1 ? &w.x[ME] : both, n, CHUNK, PINT_OUT, 0, &lease, &err),
                  &err);
        EXPECT_EQ(state_of(&w.x[ME], CHUNK), (uint32_t)PINTI_CHUNK_HELD_TORN);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        expect_settled(&w, SEQ0 + 2, H);
    }
    tear_down(&w);
}

TEST(CoherenceHost, ALeaseTakesTheHostOutAndItsCommitTheDevices)
{
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    for (uint32_t use = PINT_OUT; use <= PINT_UPDATE; use++) {
        put_places(&w, H | A | B);
        ASSERT_OK(pint_lease_claim(&w.x[ME], 1, CHUNK, use, 0, &lease, &err), &err);
        EXPECT_EQ(places_of(word_now(&w)), (uint32_t)(A | B));
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        expect_settled(&w, SEQ0 + 2, H);
    }
    tear_down(&w);
}

TEST(CoherenceHost, WhatIsAbandonedIsNotTornWhereADeviceHasTheCommittedBytes)
{
    static const struct {
        uint32_t use, before, after;
    } cases[] = {
        {PINT_UPDATE, H, NOWHERE},    {PINT_UPDATE, H | A, A}, {PINT_UPDATE, H | A | B, A | B},
        {PINT_OUT, H, NOWHERE},       {PINT_OUT, H | B, B},    {PINT_OUT, A, A},
        {PINT_OUT, NOWHERE, NOWHERE}, {PINT_INOUT, H, H},      {PINT_INOUT, H | A, H | A},
    };
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_places(&w, cases[i].before);
        ASSERT_OK(pint_lease_claim(&w.x[ME], 1, CHUNK, cases[i].use, 0, &lease, &err), &err);
        ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
        expect_settled(&w, SEQ0 + 2, cases[i].after);
    }
    tear_down(&w);
}

TEST(CoherenceHost, ALeaseWaitsForADeviceAndIsWokenWhenItGivesTheChunkBack)
{
    world w;
    pint_error err;
    pint_lease lease;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    for (uint32_t use = PINT_OUT; use <= PINT_UPDATE; use++) {
        EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&w.x[ME], 1, CHUNK, use, 0, &lease, &err),
                      &err);
        EXPECT_STATUS(PINT_E_TIMEOUT, pint_lease_claim(&w.x[ME], 1, CHUNK, use, 5, &lease, &err),
                      &err);
    }
    ASSERT_EQ(pinti_device_write_cancel(&w.a[OTHER], CHUNK, taken.word), OK);
    EXPECT_TRUE(has_rung(&w)); /* the waiters above had announced themselves */
    ASSERT_OK(pint_lease_claim(&w.x[ME], 1, CHUNK, PINT_UPDATE, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    expect_settled(&w, SEQ0 + 4, H);
    tear_down(&w);
}

TEST(CoherenceHost, ABareUnclaimOfAFrozenTableLeavesTheWordAsItWas)
{
    static const uint32_t places[] = {H, H | A, A, NOWHERE};
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        for (int for_job = 0; for_job < 2; for_job++) {
            uint64_t word = 0;
            put_places(&w, places[i]);
            ASSERT_EQ(pinti_chunk_claim(word_of(&w.x[ME], CHUNK), index_of(&w, ME), for_job != 0,
                                        true, false, &word),
                      PINTI_CLAIMED);
            EXPECT_TRUE(pinti_chunk_unclaim(word_of(&w.x[ME], CHUNK), word));
            expect_settled(&w, SEQ0 + 2, places[i]);
            EXPECT_FALSE(pinti_chunk_unclaim(word_of(&w.x[ME], CHUNK), word));
        }
    }
    tear_down(&w);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

TEST(CoherenceHost, AJobHandsOutWhatTheHostHasAndThenSaysWhatADeviceHas)
{
    static const struct {
        uint32_t use_of_x;
        bool is_refused;
    } cases[] = {{PINT_IN, true}, {PINT_INOUT, true}, {PINT_OUT, false}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        pint_error err;
        pint_job *job;
        pint_lease lease;
        ASSERT_NO_FATAL(set_up(&w));
        const pint_use uses[] = {{"x", cases[i].use_of_x, 0}, {"y", PINT_OUT, 0}};
        ASSERT_OK(pint_job_create(w.table[ME], "job", uses, 2, &job, &err), &err);
        ASSERT_NO_FATAL(write_on_b(&w));
        uint32_t n_done = 0;
        pint_status status;
        while ((status = pint_job_next_timed(job, 5000, &lease, &err)) == PINT_OK) {
            EXPECT_TRUE(!cases[i].is_refused || lease.chunk != CHUNK);
            ASSERT_OK(pint_job_done(job, &lease, &err), &err);
            n_done++;
        }
        if (cases[i].is_refused) {
            EXPECT_STATUS(PINT_E_DEVICE_AHEAD, status, &err);
            expect_message(&err, "device place 7");
            EXPECT_EQ(n_done, 3u);
            pinti_taken taken; /* it is brought to the host, and the job goes on */
            ASSERT_EQ(pinti_device_take(&w.b[ME], CHUNK, PINTI_TAKE_TO_PUSH, &taken), OK);
            ASSERT_EQ(pinti_push_commit(&w.b[ME], CHUNK, taken.word), OK);
            ASSERT_OK(pint_job_next_timed(job, 5000, &lease, &err), &err);
            EXPECT_EQ(lease.chunk, (uint64_t)CHUNK);
            ASSERT_OK(pint_job_done(job, &lease, &err), &err);
            status = pint_job_next_timed(job, 5000, &lease, &err);
        } else {
            EXPECT_EQ(n_done, 4u);
        }
        EXPECT_STATUS(PINT_FINISHED, status, &err);
        EXPECT_EQ(places_of(word_now(&w)), cases[i].use_of_x == PINT_IN ? H | B : (uint32_t)H);
        pint_job_close(job);
        tear_down(&w);
    }
}

/* Its next worker rewrites the column, and needs no device for it. */
TEST(CoherenceHost, AFailedChunkWhoseOutputADeviceHasIsHandedOutAgain)
{
    world w;
    pint_error err;
    pint_job *job;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_use use = {"x", PINT_OUT, 0};
    ASSERT_OK(pint_job_create(w.table[ME], "job", &use, 1, &job, &err), &err);
    put_places(&w, H | A);
    for (;;) {
        ASSERT_OK(pint_job_next_timed(job, 5000, &lease, &err), &err);
        if (lease.chunk == CHUNK) {
            break;
        }
        ASSERT_OK(pint_job_done(job, &lease, &err), &err);
    }
    ASSERT_OK(pint_job_fail(job, &lease, "half written", &err), &err);
    expect_settled(&w, SEQ0 + 2, A);
    uint32_t n = 0;
    while (pint_job_next_timed(job, 5000, &lease, &err) == PINT_OK) {
        n += lease.chunk == CHUNK;
        ASSERT_OK(pint_job_done(job, &lease, &err), &err);
    }
    EXPECT_EQ(n, 1u);
    expect_settled(&w, SEQ0 + 4, H);
    pint_job_close(job);
    tear_down(&w);
}

/* ---- mark, recover, read --------------------------------------------------------------------- */

TEST(CoherenceHost, AMarkTakesDevicesOutAndRefusesWhatTheHostDidNotHave)
{
    world w;
    pint_error err;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    static const uint32_t with_host[] = {H, H | A, H | A | B};
    for (size_t i = 0; i < COUNT_OF(with_host); i++) {
        put_places(&w, with_host[i]);
        ASSERT_OK(pint_column_mark(&w.x[ME], 0, ROWS, &err), &err);
        expect_settled(&w, SEQ0 + 1, H);
    }
    static const uint32_t without[] = {A, B, A | B};
    for (size_t i = 0; i < COUNT_OF(without); i++) {
        put_places(&w, without[i]);
        EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_column_mark(&w.x[ME], 0, ROWS, &err), &err);
        expect_message(&err, "mark: chunk 1 of column 'x' is newest on device place");
        expect_settled(&w, SEQ0, without[i]);
    }
    put_places(&w, NOWHERE);
    ASSERT_OK(pint_column_mark(&w.x[ME], 0, ROWS, &err), &err);
    expect_settled(&w, SEQ0, NOWHERE);
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_take(&w.b[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_mark(&w.x[ME], 0, ROWS, &err), &err);
    EXPECT_EQ(word_now(&w), taken.word);
    tear_down(&w);
}

TEST(CoherenceHost, ARecoveryIsForTornChunksOnly)
{
    world w;
    pint_error err;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    for (uint32_t places = 1; places < 8; places++) {
        put_places(&w, places);
        EXPECT_STATUS(PINT_E_STATE, pint_column_recover(&w.x[ME], CHUNK, &err), &err);
        expect_settled(&w, SEQ0, places);
    }
    put_places(&w, A);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    EXPECT_STATUS(PINT_E_STATE, pint_column_recover(&w.x[ME], CHUNK, &err), &err);
    ASSERT_EQ(pinti_device_write_cancel(&w.a[OTHER], CHUNK, taken.word), OK);
    ASSERT_OK(pint_column_recover(&w.x[ME], CHUNK, &err), &err);
    expect_settled(&w, SEQ0 + 3, H);
    tear_down(&w);
}

TEST(CoherenceHost, AReadGoesOnWhileADeviceIsFilledAndNotAcrossACommitThere)
{
    world w;
    pint_error err;
    pinti_taken taken;
    uint64_t stamp;
    int64_t value;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H);
    const uint64_t row = CHUNK * CHUNK_ROWS;
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    EXPECT_OK(pint_column_read(&w.x[ME], row, 1, &value, NULL, &err), &err);
    ASSERT_OK(pint_column_read_begin(&w.x[ME], CHUNK, &stamp, &err), &err);
    EXPECT_OK(pint_column_read_end(&w.x[ME], CHUNK, stamp, &err), &err);
    EXPECT_EQ(word_now(&w), taken.word);
    ASSERT_EQ(pinti_device_pulled(&w.a[OTHER], CHUNK, taken.word), OK);
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(&w.x[ME], CHUNK, stamp, &err), &err);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    ASSERT_OK(pint_column_read_begin(&w.x[ME], CHUNK, &stamp, &err), &err); /* the last commit's */
    ASSERT_EQ(pinti_device_write_commit(&w.a[OTHER], CHUNK, taken.word), OK);
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(&w.x[ME], CHUNK, stamp, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_column_read(&w.x[ME], row, 1, &value, NULL, &err),
                  &err);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PUSH, &taken), OK);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_read(&w.x[ME], row, 1, &value, NULL, &err), &err);
    ASSERT_EQ(pinti_push_commit(&w.a[OTHER], CHUNK, taken.word), OK);
    EXPECT_OK(pint_column_read(&w.x[ME], row, 1, &value, NULL, &err), &err);
    tear_down(&w);
}
