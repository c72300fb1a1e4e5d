/* SPDX-License-Identifier: Apache-2.0 */

/* Device copies that are closed to find out whether they can be dropped: nothing begins meanwhile,
 * and what somebody works on, or has on the device alone, is seen. */

#include <pthread.h>

#include "tests/host/coherence_world.h"

/* ---- what begins while it is closed -----------------------------------------------------------
 */

TEST(CoherenceClose, NothingBeginsMeanwhileAndNothingIsTouched)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (enum operation operation = READ; operation < OWN; operation++) {
        for (uint32_t places = 0; places < 8; places++) {
            pinti_taken taken;
            put_places(&w, H);
            ASSERT_EQ(local_copy_close(w.local, w.copy_a), PINTI_COPY_IDLE);
            put_places(&w, places);
            const uint64_t before = word_now(&w);
            const int expected = expected_on(pinti_chunk_state(before), 0, places, operation);
            announce_waiter(&w);
            EXPECT_EQ(perform(&w, operation, &taken), expected == OK ? BUSY : expected);
            EXPECT_FALSE(has_rung(&w)); /* waiters would wake each other for ever */
            EXPECT_EQ(word_now(&w), before);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), 0ull);
            expect_readers(&w, 0, 0);
            local_copy_reopen(w.local, w.copy_a);
            EXPECT_TRUE(has_rung(&w));
            EXPECT_EQ(perform(&w, operation, &taken), expected);
            pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, 0);
            pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, 0);
        }
    }
    tear_down(&w);
}

TEST(CoherenceClose, ALookSaysWhatATakeWouldSayAndTakesNothing)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (uint32_t n = 0; n < 8u * 4u * 3u; n++) {
        const enum pinti_device_use use = (enum pinti_device_use)(n / 8 % 4);
        pinti_taken taken;
        put_places(&w, n % 8);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, n / 32 == 1 ? UINT64_MAX : 0);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier,
                          n / 32 == 2 ? pinti_copier(index_of(&w, OTHER), PINTI_COPIER_CLAIM, 0)
                                      : 0);
        const uint64_t before = word_now(&w);
        announce_waiter(&w);
        const enum pinti_coherence seen = pinti_device_look(&w.a[ME], CHUNK, use);
        EXPECT_FALSE(has_rung(&w));
        EXPECT_EQ(word_now(&w), before);
        EXPECT_EQ(pinti_device_take(&w.a[ME], CHUNK, use, &taken), seen);
    }
    tear_down(&w);
}

/* A hold is not ended by a close, nor by what follows it when the copy stays. */
TEST(CoherenceClose, WhoHoldsOrReadsIsSeenAndGoesOn)
{
    static const struct {
        enum operation operation;
        uint32_t before;
    } cases[] = {{READ, H | A}, {PULL, H}, {CHANGE, A}, {CHANGE, H}, {REPLACE, NOWHERE}, {PUSH, A}};
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        pinti_taken taken;
        put_places(&w, cases[i].before);
        ASSERT_EQ(perform(&w, cases[i].operation, &taken), OK);
        const uint64_t held = word_now(&w);
        EXPECT_EQ(local_copy_close(w.local, w.copy_a), PINTI_COPY_IN_USE);
        EXPECT_EQ(word_now(&w), held);
        if (cases[i].operation == READ) {
            pinti_device_read_end(&w.a[ME], CHUNK);
        } else {
            EXPECT_EQ(pinti_device_give_back(&w.a[ME], CHUNK, &taken), OK);
            expect_settled(&w, SEQ0 + 2, cases[i].before);
        }
        EXPECT_EQ(local_copy_close(w.local, w.copy_a),
                  cases[i].before == A ? PINTI_COPY_AHEAD : PINTI_COPY_IDLE);
        local_copy_reopen(w.local, w.copy_a);
    }
    tear_down(&w);
}

TEST(CoherenceClose, TellsWhatIsAheadFromWhatSomebodyWorksOn)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const uint32_t me = index_of(&w, ME);
    const struct {
        uint32_t state, places;
        uint64_t copier, readers;
        enum pinti_copy_use use;
    } cases[] = {
        {PINTI_CHUNK_CLEAN, H, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_CLEAN, A, 0, 0, PINTI_COPY_AHEAD},
        {PINTI_CHUNK_CLEAN, A, 0, 1, PINTI_COPY_IN_USE},
        {PINTI_CHUNK_CLEAN, A | B, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_CLEAN, H | A, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_CLEAN, H | A, 0, 1ull << 63, PINTI_COPY_IN_USE},
        {PINTI_CHUNK_CLEAN, H, pinti_copier(me, PINTI_COPIER_CLAIM, 0), 0, PINTI_COPY_IN_USE},
        {PINTI_CHUNK_TORN, NOWHERE, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_RESTORE, NOWHERE, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_HELD, A, 0, 0, PINTI_COPY_IDLE}, /* the host had them, too */
        {PINTI_CHUNK_JOB_HELD, A, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_HELD_TORN, A, 0, 0, PINTI_COPY_IN_USE}, /* the host had not */
        {PINTI_CHUNK_JOB_HELD_TORN, A, 0, 0, PINTI_COPY_IN_USE},
        {PINTI_CHUNK_HELD_TORN, A | B, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_DEVICE_HELD, A, 0, 0, PINTI_COPY_IN_USE}, /* B is written */
        {PINTI_CHUNK_DEVICE_HELD, H, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_DEVICE_HELD, NOWHERE, 0, 0, PINTI_COPY_IDLE},
        {PINTI_CHUNK_DEVICE_HELD, H, pinti_copier(me, PINTI_COPIER_WRITE, 0), 0, PINTI_COPY_IN_USE},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const bool is_held = pinti_chunk_is_held(cases[i].state);
        put_word(&w, make_word(SEQ0, cases[i].state, is_held ? me : 0, cases[i].places));
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, cases[i].copier);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, cases[i].readers);
        const uint64_t before = word_now(&w);
        if (local_copy_close(w.local, w.copy_a) != cases[i].use || word_now(&w) != before) {
            FAIL("case %zu", i);
        }
        local_copy_reopen(w.local, w.copy_a);
    }
    /* one that is in use hides one that is ahead, wherever it is */
    put_places(&w, A);
    pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, 0);
    pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, 0);
    EXPECT_EQ(local_copy_close(w.local, w.copy_a), PINTI_COPY_AHEAD);
    pinti_store64_seq(&w.a[ME].chunks[CHUNK + 1].xreaders, 1);
    EXPECT_EQ(local_copy_close(w.local, w.copy_a), PINTI_COPY_IN_USE);
    tear_down(&w);
}

/* ---- strays -----------------------------------------------------------------------------------
 */

/* Sessions 1 to 5 have the copy open: those of the world, and of the race below. */
static bool is_of_the_world(const void *context, uint32_t index)
{
    (void)context;
    return index >= 1 && index <= 5;
}

TEST(CoherenceClose, WordsOfNobodyAreClearedAndThoseOfTheLivingStay)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pinti_copy_users users = {is_of_the_world, &w};
    const uint32_t me = index_of(&w, ME);
    const struct {
        uint64_t copier;
        bool is_stray;
    } copiers[] = {
        {0, false},
        {pinti_copier(me, PINTI_COPIER_CLAIM, 0), false},
        {pinti_copier(me, PINTI_COPIER_PUSH, 7ull << PINTI_CHUNK_SEQ_SHIFT), false},
        {pinti_copier(me, PINTI_COPIER_WRITE, UINT64_MAX), false},
        {pinti_copier(me, PINTI_COPIER_WRITE, 0), false}, /* seq wraps */
        {pinti_copier(me, PINTI_COPIER_CLAIM, 7ull << PINTI_CHUNK_SEQ_SHIFT), true},
        {pinti_copier(me, 1, 0), true}, /* no such kind */
        {pinti_copier(me, PINTI_COPIER_WRITE, 0) | 1ull << 16, true},
        {pinti_copier(me, PINTI_COPIER_CLAIM, 0) | 1ull << 25, true},
        {pinti_copier(0, PINTI_COPIER_WRITE, UINT64_MAX), true},
        {pinti_copier(6, PINTI_COPIER_CLAIM, 0), true},
        {pinti_copier(PINTI_HOLDER_MASK, PINTI_COPIER_PUSH, 0), true},
        {UINT64_MAX, true},
        {1ull << 63, true},
    };
    put_places(&w, H);
    for (size_t i = 0; i < COUNT_OF(copiers); i++) {
        pinti_a64 *at = &chunk_of(&w, 'A')->xcopier;
        pinti_store64_seq(at, copiers[i].copier);
        EXPECT_EQ(pinti_copy_has_strays(w.a[ME].sync, w.a[ME].chunks, w.a[ME].n_chunks, &users),
                  copiers[i].is_stray);
        announce_waiter(&w);
        if (local_copy_mend(w.local, w.copy_a, &users) != copiers[i].is_stray ||
            pinti_load64_seq(at) != (copiers[i].is_stray ? 0 : copiers[i].copier)) {
            FAIL("copier word %zu", i);
        }
        EXPECT_TRUE(has_rung(&w));
    }
    tear_down(&w);
}

/* Whatever is in them: what is left can be, what was by right is left, and what was blocked goes
 * on. */
TEST(CoherenceClose, OfRandomGarbageNothingIsLeftThatCannotBe)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pinti_copy_users users = {is_of_the_world, &w};
    uint64_t random = random_seed();
    const uint64_t own = 1ull << w.a[ME].slot | 1ull << w.a[OTHER].slot;
    for (int round = 0; round < 5000; round++) {
        const bool is_read = random_below(&random, 2) == 0;
        const uint64_t copier =
            random_below(&random, 2) == 0
                ? random_next(&random)
                : pinti_copier((uint32_t)random_below(&random, 9),
                               (uint32_t)random_below(&random, 4), random_next(&random));
        put_places(&w, H | A);
        if (is_read) {
            ASSERT_EQ(pinti_device_read_begin(&w.a[ME], CHUNK), OK);
        }
        pinti_store64_seq(&w.a[ME].chunks[CHUNK + 1].xreaders, random_next(&random) & ~own);
        pinti_store64_seq(&w.a[ME].chunks[CHUNK + 1].xcopier, copier);
        for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
            if ((own >> i & 1u) == 0) {
                pinti_store32_seq(&w.a[ME].sync->xslots[i],
                                  random_below(&random, 2) == 0
                                      ? (uint32_t)random_next(&random)
                                      : (uint32_t)random_below(&random, 9));
            }
        }
        (void)local_copy_mend(w.local, w.copy_a, &users);
        EXPECT_FALSE(pinti_copy_has_strays(w.a[ME].sync, w.a[ME].chunks, w.a[ME].n_chunks, &users));
        uint64_t good = 0;
        for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
            const uint32_t slot = pinti_load32_seq(&w.a[ME].sync->xslots[i]);
            EXPECT_LE(slot, 5u);
            good |= slot != 0 ? 1ull << i : 0;
        }
        EXPECT_EQ(good & own, own);
        EXPECT_EQ(pinti_load64_seq(&w.a[ME].chunks[CHUNK + 1].xreaders) & ~good, 0ull);
        const uint64_t left = pinti_load64_seq(&w.a[ME].chunks[CHUNK + 1].xcopier);
        EXPECT_TRUE(left == 0 ||
                    (left == copier && is_of_the_world(NULL, pinti_copier_session(left))));
        expect_readers(&w, is_read ? 1ull << w.a[ME].slot : 0, 0);
        if (is_read) {
            pinti_device_read_end(&w.a[ME], CHUNK);
        }
    }
    tear_down(&w);
}

/* ---- races ------------------------------------------------------------------------------------
 */

/*
 * Workers on a chunk that is newest on the device alone, against one who closes the copy as fast as
 * he can. It is ahead or in use at every moment, so it is never idle; nobody who works on it loses
 * anything, and nobody is told that it is gone.
 */

#define WORKERS 3u
#define CLOSES  20000u /* at least, and works of each worker */
#define WORKS   2000u

typedef struct race {
    world w;
    pinti_a32 stop;
    uint64_t n_versions; /* plain: two at once in the chunk are a data race */
} race;

typedef struct racer {
    pthread_t thread;
    race *race;
    pinti_copy_desc copy;
    uint64_t random;
    pinti_a64 n_done;
    int wrong; /* an end that should not have been; OK: none */
} racer;

static enum pinti_coherence act(racer *r)
{
    pinti_taken taken;
    const uint64_t what = random_below(&r->random, 4);
    if (what == 0) {
        const enum pinti_coherence seen = pinti_device_read_begin(&r->copy, CHUNK);
        if (seen == PINTI_COH_OK) {
            pinti_device_read_end(&r->copy, CHUNK);
        }
        return seen;
    }
    const enum pinti_coherence seen = pinti_device_take(
        &r->copy, CHUNK, what == 1 ? PINTI_TAKE_TO_PUSH : PINTI_TAKE_TO_CHANGE, &taken);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    r->race->n_versions++;
    return what == 1   ? pinti_push_cancel(&r->copy, CHUNK, taken.word)
           : what == 2 ? pinti_device_write_commit(&r->copy, CHUNK, taken.word)
                       : pinti_device_give_back(&r->copy, CHUNK, &taken);
}

static void *work(void *argument)
{
    racer *r = argument;
    while (pinti_load32_acquire(&r->race->stop) == 0 && r->wrong == OK) {
        const enum pinti_coherence end = act(r);
        if (end == PINTI_COH_OK) {
            (void)pinti_add64_relaxed(&r->n_done, 1); /* relaxed: a count */
        } else if (end != PINTI_COH_BUSY) {
            r->wrong = (int)end;
        }
    }
    return NULL;
}

static bool have_all_worked(racer *racers)
{
    bool all = true;
    for (uint32_t i = 0; i < WORKERS; i++) {
        all = all && (pinti_load64_relaxed(&racers[i].n_done) >= WORKS || racers[i].wrong != OK);
    }
    return all;
}

TEST(CoherenceClose, WhatIsNewestThereAloneIsNeverIdle, .timeout_s = 200)
{
    static race shared;
    static racer racers[WORKERS];
    world *w = &shared.w;
    uint64_t random = random_seed();
    uint64_t n_in_use = 0;
    uint64_t n_strays = 0;
    ASSERT_NO_FATAL(set_up(w));
    put_places(w, A);
    for (uint32_t i = 0; i < WORKERS; i++) {
        pint_table *table;
        pint_error err;
        racers[i] = (racer){.race = &shared, .random = random_next(&random)};
        pint_pool *session = local_session_new(w->local);
        ASSERT_OK(pint_table_open(session, "t", PINT_WRITE, &table, &err), &err);
        const pint_column x = column_of(table, "x");
        ASSERT_OK(pinti_copy_describe(session, w->copy_a, LOCAL_COPY_GENERATION, &x,
                                      &racers[i].copy, &err),
                  &err);
        ASSERT_OK(pinti_copy_slot_take(&racers[i].copy, &err), &err);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        ASSERT_EQ(pthread_create(&racers[i].thread, NULL, work, &racers[i]), 0);
    }
    enum pinti_copy_use use = PINTI_COPY_AHEAD;
    const pinti_copy_users users = {is_of_the_world, w};
    for (uint64_t n = 0; use != PINTI_COPY_IDLE && (n < CLOSES || !have_all_worked(racers)); n++) {
        use = local_copy_close(w->local, w->copy_a);
        n_in_use += use == PINTI_COPY_IN_USE ? 1 : 0;
        n_strays += local_copy_mend(w->local, w->copy_a, &users) ? 1 : 0;
    }
    if (use == PINTI_COPY_IDLE) { /* as the service would go on */
        local_copy_drop(w->local, w->copy_a);
    }
    pinti_store32_release(&shared.stop, 1);
    for (uint32_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(racers[i].thread, NULL);
        EXPECT_EQ(racers[i].wrong, OK);
    }
    EXPECT_NE(use, PINTI_COPY_IDLE);
    EXPECT_GT(n_in_use, 0ull);
    EXPECT_EQ(n_strays, 0ull); /* what those who live and have it open wrote is left alone */
    EXPECT_EQ(places_of(word_now(w)), (uint32_t)A);
    expect_readers(w, 0, 0);
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'A')->xcopier), 0ull);
    tear_down(w);
}
