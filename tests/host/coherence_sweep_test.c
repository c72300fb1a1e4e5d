/* SPDX-License-Identifier: Apache-2.0 */

/* A session that dies in every state of the coherence protocol: what its death leaves of the chunk,
 * of the copier words, the reader bits and the slots; and what it leaves to others. */

#include "tests/host/coherence_world.h"

static pinti_sweep_result sweep_leases(world *w, bool all_words)
{
    return local_session_sweep(w->local, w->session[ME], all_words);
}

static void sweep_copies(world *w)
{
    EXPECT_TRUE(local_copy_sweep(w->local, w->copy_a, index_of(w, ME)));
    (void)local_copy_sweep(w->local, w->copy_b, index_of(w, ME));
    EXPECT_FALSE(local_copy_sweep(w->local, w->copy_a, index_of(w, ME))); /* twice is once */
    EXPECT_FALSE(local_copy_sweep(w->local, w->copy_b, index_of(w, ME)));
}

static uint64_t bit_of(const pinti_copy_desc *copy)
{
    return UINT64_C(1) << copy->slot;
}

/* ---- host leases ----------------------------------------------------------------------------- */

TEST(CoherenceSweep, ADeadHostHolderTearsOnlyWhatNoDeviceHas)
{
    static const struct {
        uint32_t use, before, after;
    } cases[] = {
        {PINT_UPDATE, H, NOWHERE}, {PINT_UPDATE, H | A, A},      {PINT_UPDATE, H | A | B, A | B},
        {PINT_OUT, H | B, B},      {PINT_OUT, NOWHERE, NOWHERE}, {PINT_OUT, A, A},
    };
    for (size_t i = 0; i < COUNT_OF(cases) * 2; i++) {
        world w;
        pint_error err;
        pint_lease lease;
        const size_t n = i / 2;
        ASSERT_NO_FATAL(set_up(&w));
        put_places(&w, cases[n].before);
        ASSERT_OK(pint_lease_claim(&w.x[ME], 1, CHUNK, cases[n].use, 0, &lease, &err), &err);
        const pinti_sweep_result result = sweep_leases(&w, i % 2 == 1);
        EXPECT_EQ(result.n_torn, cases[n].after == NOWHERE ? 1ull : 0ull);
        EXPECT_EQ(result.n_rolled_back, cases[n].after != NOWHERE ? 1ull : 0ull);
        expect_settled(&w, SEQ0 + 2, cases[n].after);
        tear_down(&w);
    }
}

TEST(CoherenceSweep, ADeadHolderWithUndoIsRestoredAsBefore)
{
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    int64_t *values = (int64_t *)w.x[ME].values + CHUNK * CHUNK_ROWS;
    values[0] = 41;
    put_places(&w, H | A);
    ASSERT_OK(pint_lease_claim(&w.x[ME], 1, CHUNK, PINT_INOUT, 0, &lease, &err), &err);
    values[0] = 13;
    EXPECT_EQ(sweep_leases(&w, false).n_restore, 1ull);
    EXPECT_EQ(state_of(&w.x[ME], CHUNK), (uint32_t)PINTI_CHUNK_RESTORE);
    pinti_taken taken;
    EXPECT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_REPLACE, &taken),
              PINTI_COH_RESTORE);
    ASSERT_OK(pint_lease_claim(&w.x[OTHER], 1, CHUNK, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_EQ(values[0], 41);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)H);
    tear_down(&w);
}

/* ---- devices --------------------------------------------------------------------------------- */

TEST(CoherenceSweep, ADeadHolderOnADeviceIsRolledBackOrTorn)
{
    static const struct {
        enum operation operation;
        uint32_t before, after;
    } cases[] = {
        {PULL, H, H},
        {PULL, H | B, H | B},
        {CHANGE, H, H},
        {CHANGE, H | A, H},
        {CHANGE, A, NOWHERE},
        {CHANGE, A | B, B},
        {REPLACE, NOWHERE, NOWHERE},
        {REPLACE, B, B},
        {REPLACE, H | A | B, H | B},
        {PUSH, A, A},
        {PUSH, A | B, A | B},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        pinti_taken taken;
        ASSERT_NO_FATAL(set_up(&w));
        put_places(&w, cases[i].before);
        ASSERT_EQ(perform(&w, cases[i].operation, &taken), OK);
        /* at once end only leases of the host: a kernel or a copy may still run */
        const pinti_sweep_result result = sweep_leases(&w, false);
        EXPECT_EQ(result.n_torn + result.n_rolled_back + result.n_reverted, 0ull);
        EXPECT_EQ(word_now(&w), taken.word);
        sweep_copies(&w);
        expect_settled(&w, SEQ0 + 2, cases[i].after);
        tear_down(&w);
    }
}

/* Of a copy that was freed before its holder: the last sweep of all words finds it. */
TEST(CoherenceSweep, BeforeAnIndexIsUsedAgainNoWordIsHeldForADevice)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_EQ(perform(&w, CHANGE, &taken), OK);
    EXPECT_EQ(sweep_leases(&w, true).n_rolled_back, 1ull);
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)H);
    put_places(&w, A);
    pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, 0);
    ASSERT_EQ(perform(&w, CHANGE, &taken), OK);
    EXPECT_EQ(sweep_leases(&w, true).n_torn, 1ull);
    EXPECT_EQ(state_of(&w.x[ME], CHUNK), (uint32_t)PINTI_CHUNK_TORN);
    tear_down(&w);
}

/* Between the steps of a begin and of an end: words as they are there. */
TEST(CoherenceSweep, ADeathBetweenTwoStepsLeavesNothingTaken)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const uint32_t me = index_of(&w, ME);
    const struct {
        uint32_t state, places;
        uint64_t copier;
        uint32_t after;
    } cases[] = {
        {PINTI_CHUNK_CLEAN, H | A, pinti_copier(me, PINTI_COPIER_CLAIM, 0), H | A},
        {PINTI_CHUNK_TORN, NOWHERE, pinti_copier(me, PINTI_COPIER_CLAIM, 0), NOWHERE},
        /* the word is claimed, the copier word not stored yet */
        {PINTI_CHUNK_DEVICE_HELD, H, pinti_copier(me, PINTI_COPIER_CLAIM, 0), H},
        {PINTI_CHUNK_DEVICE_HELD, A, pinti_copier(me, PINTI_COPIER_CLAIM, 0), A},
        {PINTI_CHUNK_DEVICE_HELD, NOWHERE, pinti_copier(me, PINTI_COPIER_CLAIM, 0), NOWHERE},
        /* the word has ended, the copier word is not given back */
        {PINTI_CHUNK_CLEAN, A, pinti_copier(me, PINTI_COPIER_WRITE, 5ull << 26), A},
        {PINTI_CHUNK_CLEAN, H | A, pinti_copier(me, PINTI_COPIER_PUSH, 5ull << 26), H | A},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const bool is_held = cases[i].state == PINTI_CHUNK_DEVICE_HELD;
        put_word(&w, make_word(SEQ0, cases[i].state, is_held ? me : 0, cases[i].places));
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, cases[i].copier);
        announce_waiter(&w);
        EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, me));
        EXPECT_TRUE(has_rung(&w));
        expect_settled(&w, is_held ? SEQ0 + 1 : SEQ0, cases[i].after);
    }
    tear_down(&w);
}

TEST(CoherenceSweep, AllSlotsOfTheDeadAreClearedAndOnlyTheirs)
{
    world w;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&w));
    pinti_copy_desc second = w.a[ME]; /* a second handle of the session */
    ASSERT_OK(pinti_copy_slot_take(&second, &err), &err);
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_read_begin(&w.a[ME], CHUNK), OK);
    ASSERT_EQ(pinti_device_read_begin(&second, CHUNK), OK);
    ASSERT_EQ(pinti_device_read_begin(&w.a[OTHER], CHUNK), OK);
    EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)));
    expect_readers(&w, bit_of(&w.a[OTHER]), 0);
    EXPECT_EQ(pinti_load32_seq(&w.a[ME].sync->xslots[w.a[ME].slot]), 0u);
    EXPECT_EQ(pinti_load32_seq(&w.a[ME].sync->xslots[second.slot]), 0u);
    EXPECT_EQ(pinti_load32_seq(&w.a[ME].sync->xslots[w.a[OTHER].slot]), index_of(&w, OTHER));
    expect_settled(&w, SEQ0, H | A);
    tear_down(&w);
}

TEST(CoherenceSweep, WhatOthersHoldIsLeftAlone)
{
    world w;
    pinti_taken taken;
    pinti_taken pull;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_take(&w.b[OTHER], CHUNK, PINTI_TAKE_TO_REPLACE, &taken), OK);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK + 1, PINTI_TAKE_TO_PULL, &pull), OK);
    EXPECT_FALSE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)) &&
                 word_now(&w) != taken.word);
    EXPECT_FALSE(local_copy_sweep(w.local, w.copy_b, 0)); /* nobody's index */
    EXPECT_EQ(word_now(&w), taken.word);
    EXPECT_EQ(pinti_device_write_commit(&w.b[OTHER], CHUNK, taken.word), OK);
    EXPECT_EQ(pinti_device_pulled(&w.a[OTHER], CHUNK + 1, pull.word), OK);
    tear_down(&w);
}

/* The survivors' side: what was BUSY by the dead goes on after the sweep. */
TEST(CoherenceSweep, AfterItTheOthersGoOn)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H);
    ASSERT_EQ(perform(&w, PULL, &taken), OK);
    EXPECT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), BUSY);
    sweep_copies(&w);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    ASSERT_EQ(pinti_device_pulled(&w.a[OTHER], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 4, H | A);
    tear_down(&w);
}

/* A hold of the dead that forget has ended already, by the copy's drop. */
TEST(CoherenceSweep, OfADroppedCopyOnlyThePushIsLeftToEnd)
{
    static const struct {
        enum operation operation;
        uint32_t before, after;
    } cases[] = {{CHANGE, A | B, B}, {PUSH, A, NOWHERE}, {PUSH, A | B, B}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        pinti_taken taken;
        ASSERT_NO_FATAL(set_up(&w));
        put_places(&w, cases[i].before);
        ASSERT_EQ(perform(&w, cases[i].operation, &taken), OK);
        local_copy_drop(w.local, w.copy_a);
        EXPECT_EQ(pinti_chunk_holder(word_now(&w)) != 0, cases[i].operation == PUSH);
        EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)));
        expect_settled(&w, SEQ0 + 2, cases[i].after);
        tear_down(&w);
    }
}

/* ---- garbage --------------------------------------------------------------------------------- */

TEST(CoherenceSweep, OnWordsThatHostileSessionsWroteItEndsAndTakesOnlyTheDeadOnes)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    uint64_t random = random_seed();
    const uint32_t me = index_of(&w, ME);
    for (int round = 0; round < 20000; round++) {
        const uint64_t session = random_below(&random, 2) == 0 ? me : random_below(&random, 100);
        const uint64_t word =
            pinti_chunk_next(random_next(&random), (uint32_t)random_below(&random, 8),
                             (uint32_t)session, random_below(&random, 512));
        const uint64_t copier =
            (random_next(&random) & ~(uint64_t)PINTI_HOLDER_MASK) | random_below(&random, 4);
        const uint64_t readers = random_next(&random);
        put_word(&w, word);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, copier);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, readers);
        pinti_store32_seq(&w.a[ME].sync->xslots[w.a[ME].slot], me);
        (void)local_copy_sweep(w.local, w.copy_a, me);
        const bool is_dead =
            pinti_chunk_state(word) == PINTI_CHUNK_DEVICE_HELD && pinti_chunk_holder(word) == me;
        const uint64_t now = word_now(&w);
        /* no copier tells of this hold: devices do not stay beside the host */
        const uint64_t left = (word & PINTI_HOST_STALE) == 0 ? 0 : word & PINTI_CHUNK_MASK;
        EXPECT_TRUE(is_dead ? !pinti_chunk_is_held(pinti_chunk_state(now)) &&
                                  pinti_chunk_holder(now) == 0 && (now & PINTI_CHUNK_MASK) == left
                            : now == word);
        EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier),
                  pinti_copier_session(copier) == me ? 0 : copier);
        EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xreaders), readers & ~bit_of(&w.a[ME]));
    }
    tear_down(&w);
}
