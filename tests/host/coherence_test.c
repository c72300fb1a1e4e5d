/* SPDX-License-Identifier: Apache-2.0 */

/* Device coherence: every operation on every word, what every end leaves, who is in whose way.
 * Copies that are dropped are in coherence_drop_test.c, what host writers see in
 * coherence_host_test.c, death in coherence_sweep_test.c, threads in coherence_stress_test.c. */

#include "tests/host/coherence_world.h"

/* ---- every operation on every word ----------------------------------------------------------- */

/* What a word becomes by a begin that succeeded. */
static void expect_begun(world *w, uint64_t before, enum operation operation,
                         const pinti_taken *taken)
{
    const uint64_t word = word_now(w);
    const uint64_t copier = pinti_load64_seq(&chunk_of(w, 'A')->xcopier);
    const uint32_t places =
        pinti_chunk_state(before) == PINTI_CHUNK_TORN ? NOWHERE : places_of(before);
    if (operation == READ) {
        EXPECT_EQ(word, before);
        expect_readers(w, 1, 0);
        EXPECT_EQ(copier, 0ull);
        return;
    }
    expect_readers(w, 0, 0);
    EXPECT_EQ(pinti_chunk_seq(word), pinti_chunk_seq(before) + 1);
    if (operation == OWN) {
        expect_settled(w, SEQ0 + 1, H);
        return;
    }
    EXPECT_EQ(word, taken->word);
    EXPECT_EQ(pinti_chunk_state(word), (uint32_t)PINTI_CHUNK_DEVICE_HELD);
    EXPECT_EQ(pinti_chunk_holder(word), index_of(w, ME));
    EXPECT_EQ(places_of(word), operation == PUSH ? places : places & ~(uint32_t)A);
    EXPECT_EQ(taken->had_device, (places & A) != 0);
    EXPECT_EQ(copier,
              pinti_copier(index_of(w, ME),
                           operation == PUSH ? PINTI_COPIER_PUSH : PINTI_COPIER_WRITE, word));
}

TEST(Coherence, EveryOperationOnEveryWordDoesWhatItMayOrNothing)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const uint32_t holders[] = {0, index_of(&w, ME), index_of(&w, OTHER), PINTI_HOLDER_MASK};
    for (uint32_t n = 0; n < 8 * 8 * 4 * N_OPERATIONS; n++) {
        const enum operation operation = n % N_OPERATIONS;
        const uint32_t places = n / N_OPERATIONS % 8;
        const uint32_t state = n / N_OPERATIONS / 8 % 8;
        const uint32_t holder = holders[n / N_OPERATIONS / 64];
        const uint64_t before = make_word(SEQ0, state, holder, places);
        pinti_taken taken = {0, PINTI_TAKE_TO_PULL, false};
        put_word(&w, before);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, 0);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, 0);
        const int expected = expected_on(state, holder, places, operation);
        const int actual = perform(&w, operation, &taken);
        if (actual != expected) {
            FAIL("operation %d, state %u, holder %u, places %u: %d, not %d", (int)operation, state,
                 holder, places, actual, expected);
        }
        if (actual == OK) {
            expect_begun(&w, before, operation, &taken);
        } else {
            EXPECT_EQ(word_now(&w), before);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), 0ull);
            expect_readers(&w, 0, 0);
        }
    }
    tear_down(&w);
}

/* ---- what the ends leave --------------------------------------------------------------------- */

typedef enum pinti_coherence (*end_fn)(pinti_copy_desc *copy, uint64_t chunk, uint64_t word);

TEST(Coherence, EveryEndOfAHoldLeavesThePlacesThatHaveTheNewestBytes)
{
    static const struct {
        enum operation operation;
        uint32_t before;
        end_fn end; /* NULL: given back */
        uint32_t after;
    } cases[] = {
        {PULL, H, pinti_device_pulled, H | A},
        {PULL, H | B, pinti_device_pulled, H | A | B},
        {PULL, H, pinti_device_write_cancel, H},
        {PULL, H | B, NULL, H | B},
        {CHANGE, H, pinti_device_write_commit, A},
        {CHANGE, H | A, pinti_device_write_commit, A},
        {CHANGE, H | A | B, pinti_device_write_commit, A},
        {CHANGE, A, pinti_device_write_commit, A},
        {CHANGE, H, pinti_device_write_cancel, H},
        {CHANGE, H | A, pinti_device_write_cancel, H},
        {CHANGE, A | B, pinti_device_write_cancel, B},
        {CHANGE, A, pinti_device_write_cancel, NOWHERE},
        {CHANGE, H | A, NULL, H | A},
        {CHANGE, A, NULL, A},
        {CHANGE, H | B, NULL, H | B},
        {REPLACE, NOWHERE, pinti_device_write_commit, A},
        {REPLACE, B, pinti_device_write_commit, A},
        {REPLACE, H | A | B, pinti_device_write_commit, A},
        {REPLACE, NOWHERE, pinti_device_write_cancel, NOWHERE},
        {REPLACE, B, pinti_device_write_cancel, B},
        {REPLACE, A, pinti_device_write_cancel, NOWHERE},
        {REPLACE, NOWHERE, NULL, NOWHERE},
        {REPLACE, A | B, NULL, A | B},
        {PUSH, A, pinti_push_commit, H | A},
        {PUSH, A | B, pinti_push_commit, H | A | B},
        {PUSH, A, pinti_push_cancel, A},
        {PUSH, A | B, pinti_push_cancel, A | B},
        {PUSH, A, NULL, A},
    };
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        pinti_taken taken;
        put_places(&w, cases[i].before);
        ASSERT_EQ(perform(&w, cases[i].operation, &taken), OK);
        announce_waiter(&w);
        EXPECT_EQ(cases[i].end != NULL ? cases[i].end(&w.a[ME], CHUNK, taken.word)
                                       : pinti_device_give_back(&w.a[ME], CHUNK, &taken),
                  OK);
        EXPECT_TRUE(has_rung(&w));
        expect_settled(&w, SEQ0 + 2, cases[i].after);
        /* once more: it is not held any more, and nothing changes */
        EXPECT_EQ(cases[i].end != NULL ? cases[i].end(&w.a[ME], CHUNK, taken.word)
                                       : pinti_device_give_back(&w.a[ME], CHUNK, &taken),
                  PINTI_COH_LOST);
        expect_settled(&w, SEQ0 + 2, cases[i].after);
    }
    tear_down(&w);
}

TEST(Coherence, AnEndOfWhatAnotherSessionHoldsIsLostAndChangesNothing)
{
    static const end_fn ends[] = {pinti_device_pulled, pinti_device_write_commit,
                                  pinti_device_write_cancel, pinti_push_commit, pinti_push_cancel};
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, A);
    ASSERT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PUSH, &taken), OK);
    const uint64_t copier = pinti_load64_seq(&chunk_of(&w, 'A')->xcopier);
    const uint64_t words[] = {taken.word,
                              make_word(SEQ0 + 1, PINTI_CHUNK_DEVICE_HELD, index_of(&w, ME), A),
                              make_word(SEQ0, PINTI_CHUNK_CLEAN, 0, A),
                              make_word(SEQ0, PINTI_CHUNK_DEVICE_HELD, index_of(&w, OTHER), A),
                              0,
                              UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(words) * COUNT_OF(ends); i++) {
        EXPECT_EQ(ends[i % COUNT_OF(ends)](&w.a[ME], CHUNK, words[i / COUNT_OF(ends)]),
                  PINTI_COH_LOST);
        EXPECT_EQ(word_now(&w), taken.word);
        EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), copier);
    }
    EXPECT_EQ(pinti_push_commit(&w.a[OTHER], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 2, H | A);
    tear_down(&w);
}

TEST(Coherence, TheSequenceWrapsInsideItsField)
{
    world w;
    pinti_taken taken;
    const uint64_t last = (1ull << (64 - PINTI_CHUNK_SEQ_SHIFT)) - 1;
    ASSERT_NO_FATAL(set_up(&w));
    put_word(&w, make_word(last, PINTI_CHUNK_CLEAN, 0, H | A));
    ASSERT_EQ(perform(&w, CHANGE, &taken), OK);
    EXPECT_EQ(pinti_device_write_commit(&w.a[ME], CHUNK, taken.word), OK);
    expect_settled(&w, 1, A);
    tear_down(&w);
}

/* ---- one at a time --------------------------------------------------------------------------- */

/* A copier word that is taken keeps others away by itself, before the chunk word is claimed. */
TEST(Coherence, OneAtATimeTakesAChunkByWayOfACopy)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    for (int first = ME; first <= OTHER; first++) { /* a thread of this session, or another */
        pinti_a64 *copier = &chunk_of(&w, 'A')->xcopier;
        const uint64_t claim = pinti_copier(index_of(&w, first), PINTI_COPIER_CLAIM, 0);
        for (enum operation operation = PULL; operation <= PUSH; operation++) {
            put_places(&w, operation == PUSH ? A : H);
            pinti_store64_seq(copier, claim);
            const uint64_t before = word_now(&w);
            EXPECT_EQ(perform(&w, operation, &taken), BUSY);
            EXPECT_EQ(word_now(&w), before);
            EXPECT_EQ(pinti_load64_seq(copier), claim);
            /* another device, and another chunk, are not concerned */
            ASSERT_EQ(pinti_device_take(&w.b[ME], CHUNK, PINTI_TAKE_TO_REPLACE, &taken), OK);
            EXPECT_EQ(pinti_device_give_back(&w.b[ME], CHUNK, &taken), OK);
            ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK + 1, PINTI_TAKE_TO_REPLACE, &taken), OK);
            EXPECT_EQ(pinti_device_give_back(&w.a[ME], CHUNK + 1, &taken), OK);
            pinti_store64_seq(copier, 0);
            EXPECT_EQ(perform(&w, operation, &taken), OK);
            EXPECT_EQ(pinti_device_give_back(&w.a[ME], CHUNK, &taken), OK);
        }
    }
    tear_down(&w);
}

TEST(Coherence, AHoldKeepsAllOthersOutOnBothDevices)
{
    world w;
    pinti_taken mine;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A | B);
    ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_CHANGE, &mine), OK);
    for (int device = 0; device < 2; device++) {
        pinti_copy_desc *copy = device == 0 ? &w.a[OTHER] : &w.b[OTHER];
        EXPECT_EQ(pinti_device_read_begin(copy, CHUNK), BUSY);
        EXPECT_EQ(pinti_own_host(copy, CHUNK), BUSY);
        for (enum pinti_device_use use = PINTI_TAKE_TO_PULL; use <= PINTI_TAKE_TO_PUSH; use++) {
            EXPECT_EQ(pinti_device_take(copy, CHUNK, use, &taken), BUSY);
        }
    }
    EXPECT_EQ(word_now(&w), mine.word);
    expect_readers(&w, 0, 0);
    EXPECT_EQ(pinti_device_write_commit(&w.a[ME], CHUNK, mine.word), OK);
    expect_settled(&w, SEQ0 + 2, A);
    tear_down(&w);
}

static void host_commits(world *w)
{
    pint_lease lease;
    pint_error err;
    ASSERT_OK(pint_lease_claim(&w->x[OTHER], 1, CHUNK, PINT_UPDATE, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
}

/* A reader that goes on behind a pull must not find half of what the host stores meanwhile. */
TEST(Coherence, APullKeepsHostWritersOutAndLetsHostReadersIn)
{
    world w;
    pinti_taken taken;
    pint_lease lease;
    pint_error err;
    uint8_t bytes[CHUNK_ROWS * 8];
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H);
    ASSERT_EQ(perform(&w, PULL, &taken), OK);
    EXPECT_STATUS(PINT_E_BUSY,
                  pint_lease_claim(&w.x[OTHER], 1, CHUNK, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_mark(&w.x[OTHER], CHUNK * CHUNK_ROWS, 1, &err), &err);
    EXPECT_EQ(pinti_own_host(&w.b[OTHER], CHUNK), BUSY);
    EXPECT_OK(pint_column_read(&w.x[OTHER], CHUNK * CHUNK_ROWS, CHUNK_ROWS, bytes, NULL, &err),
              &err);
    ASSERT_EQ(pinti_device_pulled(&w.a[ME], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 2, H | A);
    tear_down(&w);
}

/* ---- readers --------------------------------------------------------------------------------- */

TEST(Coherence, ReadersAreInTheWayOfWhoeverChangesTheDevice)
{
    static const struct {
        enum operation operation;
        uint32_t places;
        int with_other, with_own;
    } cases[] = {
        {PULL, H, BUSY, BUSY},      {CHANGE, H, BUSY, OK},        {CHANGE, H | A, BUSY, OK},
        {REPLACE, H | A, BUSY, OK}, {REPLACE, NOWHERE, BUSY, OK}, {PUSH, A, OK, OK},
        {OWN, H | A, OK, OK},
    };
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < COUNT_OF(cases) * 2; i++) {
        const bool is_own = i % 2 == 1;
        const int expected = is_own ? cases[i / 2].with_own : cases[i / 2].with_other;
        pinti_copy_desc *reader = &w.a[is_own ? ME : OTHER];
        pinti_taken taken;
        put_places(&w, H | A); /* read on A, then A goes out of date, or not */
        ASSERT_EQ(pinti_device_read_begin(reader, CHUNK), OK);
        put_places(&w, cases[i / 2].places);
        const uint64_t before = word_now(&w);
        EXPECT_EQ(perform(&w, cases[i / 2].operation, &taken), expected);
        if (expected == BUSY) {
            EXPECT_EQ(word_now(&w), before);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), 0ull);
            expect_readers(&w, 1ull << reader->slot, 0);
            announce_waiter(&w);
            pinti_device_read_end(reader, CHUNK);
            EXPECT_TRUE(has_rung(&w));
            EXPECT_EQ(perform(&w, cases[i / 2].operation, &taken), OK);
        }
        expect_readers(&w, expected == BUSY ? 0 : 1ull << reader->slot, 0);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, 0);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, 0);
    }
    tear_down(&w);
}

TEST(Coherence, ReadersOfAnotherDeviceAreInNobodysWay)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | B);
    ASSERT_EQ(pinti_device_read_begin(&w.b[OTHER], CHUNK), OK);
    ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    ASSERT_EQ(pinti_device_write_commit(&w.a[ME], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 2, A); /* it goes on with the bytes it began with */
    pinti_device_read_end(&w.b[OTHER], CHUNK);
    expect_readers(&w, 0, 0);
    tear_down(&w);
}

TEST(Coherence, EachReaderOfASessionLooksForItself)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_read_begin(&w.a[ME], CHUNK), OK);
    ASSERT_EQ(pinti_device_read_begin(&w.a[ME], CHUNK), OK);
    ASSERT_NO_FATAL(host_commits(&w));
    EXPECT_EQ(pinti_device_read_begin(&w.a[ME], CHUNK), UP); /* out of date for a third */
    expect_readers(&w, 1ull << w.a[ME].slot, 0);             /* while the others go on */
    pinti_device_read_end(&w.a[ME], CHUNK);
    expect_readers(&w, 0, 0);
    tear_down(&w);
}

TEST(Coherence, AReaderCanJoinTheHoldItPulledUnder)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H);
    ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    pinti_device_read_join(&w.a[ME], CHUNK);
    ASSERT_EQ(pinti_device_pulled(&w.a[ME], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 2, H | A);
    expect_readers(&w, 1ull << w.a[ME].slot, 0);
    ASSERT_NO_FATAL(host_commits(&w));
    EXPECT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), BUSY);
    pinti_device_read_end(&w.a[ME], CHUNK);
    EXPECT_EQ(pinti_device_take(&w.a[OTHER], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    tear_down(&w);
}

TEST(Coherence, SlotsAreGivenOutOncePerOpenCopyAndRunOut)
{
    world w;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&w));
    EXPECT_NE(w.a[ME].slot, w.a[OTHER].slot);
    pinti_copy_desc more[PINTI_COPY_READERS - N_SESSIONS];
    uint64_t seen = 1ull << w.a[ME].slot | 1ull << w.a[OTHER].slot;
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        ASSERT_OK(pinti_copy_describe(w.session[ME], w.copy_a, LOCAL_COPY_GENERATION, &w.x[ME],
                                      &more[i], &err),
                  &err);
        EXPECT_EQ(more[i].slot, PINTI_COPY_READERS);
        ASSERT_OK(pinti_copy_slot_take(&more[i], &err), &err);
        EXPECT_EQ(seen & 1ull << more[i].slot, 0ull);
        seen |= 1ull << more[i].slot;
        EXPECT_EQ(pinti_load32_seq(&w.a[ME].sync->xslots[more[i].slot]), index_of(&w, ME));
    }
    EXPECT_EQ(seen, UINT64_MAX);
    pinti_copy_desc one_too_many = w.a[ME];
    one_too_many.slot = PINTI_COPY_READERS;
    EXPECT_STATUS(PINT_E_LIMIT, pinti_copy_slot_take(&one_too_many, &err), &err);
    EXPECT_EQ(one_too_many.slot, PINTI_COPY_READERS);
    pinti_copy_slot_give(&one_too_many); /* it has none */
    const uint32_t freed = more[5].slot;
    pinti_copy_slot_give(&more[5]);
    EXPECT_EQ(more[5].slot, PINTI_COPY_READERS);
    EXPECT_OK(pinti_copy_slot_take(&one_too_many, &err), &err);
    EXPECT_EQ(one_too_many.slot, freed);
    tear_down(&w);
}

/* ---- frozen tables --------------------------------------------------------------------------- */

TEST(Coherence, AFrozenTableIsReadAndCopiedOnDevicesNotWritten)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, A);
    ASSERT_OK(local_table_freeze(w.table[ME]), NULL);
    for (enum pinti_device_use use = PINTI_TAKE_TO_CHANGE; use <= PINTI_TAKE_TO_REPLACE; use++) {
        static const uint32_t places[] = {A, H | A, A | B};
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            put_places(&w, places[i]);
            announce_waiter(&w);
            EXPECT_EQ(pinti_device_take(&w.a[ME], CHUNK, use, &taken), PINTI_COH_FROZEN);
            EXPECT_TRUE(has_rung(&w)); /* it was held for a moment */
            expect_settled(&w, SEQ0 + 2, places[i]);
        }
    }
    put_places(&w, NOWHERE);
    EXPECT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_REPLACE, &taken), PINTI_COH_FROZEN);
    expect_settled(&w, SEQ0 + 2, NOWHERE);
    put_places(&w, H | A);
    EXPECT_EQ(pinti_own_host(&w.a[ME], CHUNK), PINTI_COH_FROZEN);
    expect_settled(&w, SEQ0, H | A);
    /* what changes no bytes goes on: device to host, host to device, reading */
    put_places(&w, A);
    ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_PUSH, &taken), OK);
    ASSERT_EQ(pinti_push_commit(&w.a[ME], CHUNK, taken.word), OK);
    ASSERT_EQ(pinti_device_take(&w.b[ME], CHUNK, PINTI_TAKE_TO_PULL, &taken), OK);
    ASSERT_EQ(pinti_device_pulled(&w.b[ME], CHUNK, taken.word), OK);
    ASSERT_EQ(pinti_device_read_begin(&w.b[ME], CHUNK), OK);
    expect_settled(&w, SEQ0 + 4, H | A | B);
    tear_down(&w);
}

TEST(Coherence, AFreezeWaitsForWhatADeviceHolds)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_EQ(pinti_device_take(&w.a[ME], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    const pinti_sweep_view view = {w.session[ME]->catalog, w.session[ME]->sync,
                                   w.session[ME]->sync_bytes, w.session[ME]->bells};
    EXPECT_EQ(pinti_sweep_table_is_held(&view, pinti_table_index(w.table[ME])), 1);
    ASSERT_EQ(pinti_device_write_commit(&w.a[ME], CHUNK, taken.word), OK);
    EXPECT_EQ(pinti_sweep_table_is_held(&view, pinti_table_index(w.table[ME])), 0);
    tear_down(&w);
}

/* ---- garbage --------------------------------------------------------------------------------- */

/* Whatever a hostile session leaves in the words: what is refused changes nothing, what is done
 * moves seq on, and nobody but the asking session comes to hold anything. */
TEST(Coherence, GarbageInTheWordsHarmsNobodyElse)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    uint64_t random = random_seed();
    for (int round = 0; round < 20000; round++) {
        pinti_taken taken;
        const enum operation operation = (enum operation)random_below(&random, N_OPERATIONS);
        const uint64_t word = random_next(&random);
        const uint64_t copier = random_below(&random, 2) == 0 ? 0 : random_next(&random);
        const uint64_t readers = random_below(&random, 2) == 0 ? 0 : random_next(&random);
        put_word(&w, word);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, copier);
        pinti_store64_seq(&chunk_of(&w, 'A')->xreaders, readers);
        const int result = perform(&w, operation, &taken);
        const uint64_t now = word_now(&w);
        if (result != OK) {
            EXPECT_EQ(now, word);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), copier);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xreaders), readers);
            continue;
        }
        EXPECT_TRUE(now == word || pinti_chunk_seq(now) == pinti_chunk_seq(word + (1ull << 26)));
        EXPECT_TRUE(pinti_chunk_holder(now) == 0 || pinti_chunk_holder(now) == index_of(&w, ME));
        if (operation >= PULL && operation <= PUSH) {
            EXPECT_EQ(pinti_device_give_back(&w.a[ME], CHUNK, &taken), OK);
            EXPECT_FALSE(pinti_chunk_is_held(pinti_chunk_state(word_now(&w))));
        }
    }
    tear_down(&w);
}
