/* SPDX-License-Identifier: Apache-2.0 */

/* Device copies that are dropped while they are in use, and records that cannot be. */

#include "tests/host/coherence_world.h"

/* ---- copies that are dropped ----------------------------------------------------------------- */

TEST(Coherence, NothingBeginsOnACopyThatWasDropped)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    local_copy_drop(w.local, w.copy_a);
    for (enum operation operation = READ; operation < OWN; operation++) {
        for (uint32_t places = 0; places < 8; places++) {
            /* words in which the device's place belongs to another copy by now, or to none */
            pinti_taken taken;
            put_places(&w, places);
            const int expected = expected_on(pinti_chunk_state(word_now(&w)), 0, places, operation);
            EXPECT_EQ(perform(&w, operation, &taken), expected == OK ? PINTI_COH_GONE : expected);
            EXPECT_EQ(pinti_load64_seq(&chunk_of(&w, 'A')->xcopier), 0ull);
            EXPECT_EQ(pinti_chunk_holder(word_now(&w)), 0u);
            expect_readers(&w, 0, 0);
        }
    }
    tear_down(&w);
}

TEST(Coherence, ForgettingTakesThePlaceOutOfEveryWordThatNobodyHolds)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (uint32_t places = 0; places < 8; places++) {
        put_places(&w, places);
        const uint32_t left = places & ~(uint32_t)A;
        pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
        expect_settled(&w, (places & A) != 0 ? SEQ0 + 1 : SEQ0, left);
        pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
        expect_settled(&w, (places & A) != 0 ? SEQ0 + 1 : SEQ0, left); /* twice is once */
    }
    put_word(&w, make_word(SEQ0, PINTI_CHUNK_RESTORE, 0, A)); /* cannot be, and is mended */
    pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
    EXPECT_EQ(word_now(&w), make_word(SEQ0, PINTI_CHUNK_RESTORE, 0, NOWHERE));
    tear_down(&w);
}

/* The host's holder knows nothing of devices, and must not lose its lease for one. */
TEST(Coherence, AHostLeaseOutlivesTheCopyAndEndsAsIfItHadNotBeen)
{
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    static const struct {
        uint32_t before, use;
        bool is_commit;
        uint32_t after;
    } cases[] = {
        {H | A, PINT_UPDATE, true, H},         {H | A, PINT_UPDATE, false, NOWHERE},
        {H | A | B, PINT_OUT, false, B},       {A, PINT_OUT, true, H},
        {A, PINT_OUT, false, NOWHERE},         {A | B, PINT_OUT, false, B},
        {H | A, PINT_INOUT, true, H},          {H | A, PINT_INOUT, false, H},
        {H | A | B, PINT_INOUT, false, H | B},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        put_places(&w, cases[i].before);
        ASSERT_OK(pint_lease_claim(&w.x[OTHER], 1, CHUNK, cases[i].use, 0, &lease, &err), &err);
        pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
        EXPECT_OK(cases[i].is_commit ? pint_lease_commit(&lease, &err)
                                     : pint_lease_abandon(&lease, &err),
                  &err);
        expect_settled(&w, SEQ0 + 2, cases[i].after);
    }
    tear_down(&w);
}

TEST(Coherence, AWriterOfACopyThatWasDroppedHasLostAndTheChunkIsRolledBack)
{
    static const struct {
        enum operation operation;
        uint32_t before, after;
    } cases[] = {{CHANGE, H | A, H}, {CHANGE, A, NOWHERE}, {REPLACE, A | B, B}, {PULL, H, H}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        pinti_taken taken;
        ASSERT_NO_FATAL(set_up(&w));
        put_places(&w, cases[i].before);
        ASSERT_EQ(perform(&w, cases[i].operation, &taken), OK);
        local_copy_drop(w.local, w.copy_a);
        EXPECT_EQ(places_of(word_now(&w)), cases[i].after);
        EXPECT_EQ(pinti_chunk_holder(word_now(&w)), 0u);
        EXPECT_EQ(cases[i].operation == PULL
                      ? pinti_device_pulled(&w.a[ME], CHUNK, taken.word)
                      : pinti_device_write_commit(&w.a[ME], CHUNK, taken.word),
                  PINTI_COH_LOST);
        expect_settled(&w, SEQ0 + 2, cases[i].after);
        tear_down(&w);
    }
}

TEST(Coherence, AWriterOnAnotherDeviceDoesNotNoticeTheDrop)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, A | B);
    ASSERT_EQ(pinti_device_take(&w.b[ME], CHUNK, PINTI_TAKE_TO_CHANGE, &taken), OK);
    local_copy_drop(w.local, w.copy_a);
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)NOWHERE);
    EXPECT_EQ(pinti_chunk_seq(word_now(&w)), pinti_chunk_seq(taken.word));
    EXPECT_EQ(pinti_device_write_commit(&w.b[ME], CHUNK, taken.word), OK);
    expect_settled(&w, SEQ0 + 2, B);
    tear_down(&w);
}

/* The host is being written by it: nobody else may be let in before it has ended. */
TEST(Coherence, APushFromACopyThatWasDroppedIsCompleted)
{
    for (int is_commit = 0; is_commit < 2; is_commit++) {
        world w;
        pinti_taken taken;
        ASSERT_NO_FATAL(set_up(&w));
        put_places(&w, A);
        ASSERT_EQ(perform(&w, PUSH, &taken), OK);
        local_copy_drop(w.local, w.copy_a);
        EXPECT_EQ(pinti_chunk_state(word_now(&w)), (uint32_t)PINTI_CHUNK_DEVICE_HELD);
        EXPECT_EQ(is_commit != 0 ? pinti_push_commit(&w.a[ME], CHUNK, taken.word)
                                 : pinti_push_cancel(&w.a[ME], CHUNK, taken.word),
                  OK);
        expect_settled(&w, SEQ0 + 2, is_commit != 0 ? H : NOWHERE);
        tear_down(&w);
    }
}

/* Between its claim and its look at the record: forget leaves it alone, and it gives up itself. */
TEST(Coherence, AClaimerThatForgetDidNotSeeIsNotTakenForAnother)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const uint64_t held = make_word(SEQ0, PINTI_CHUNK_DEVICE_HELD, index_of(&w, ME), H);
    static const uint32_t kinds[] = {PINTI_COPIER_CLAIM, PINTI_COPIER_PUSH};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        put_word(&w, held);
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, pinti_copier(index_of(&w, ME), kinds[i], 0));
        pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
        EXPECT_EQ(word_now(&w), held);
    }
    const uint64_t not_mine[] = {
        pinti_copier(index_of(&w, OTHER), PINTI_COPIER_WRITE, held),
        pinti_copier(index_of(&w, ME), PINTI_COPIER_WRITE, held - (1ull << PINTI_CHUNK_SEQ_SHIFT))};
    for (size_t i = 0; i < COUNT_OF(not_mine); i++) {
        pinti_store64_seq(&chunk_of(&w, 'A')->xcopier, not_mine[i]);
        pinti_copy_forget(w.a[ME].chunks, w.a[ME].column->words, w.a[ME].n_chunks, DEVICE_A);
        EXPECT_EQ(word_now(&w), held);
    }
    tear_down(&w);
}

/* ---- descriptions ---------------------------------------------------------------------------- */

static void expect_refused(world *w, const pinti_copy_rec *good, const char *what)
{
    pinti_copy_desc out = {.n_chunks = 77};
    pint_error err;
    EXPECT_STATUS(PINT_E_CORRUPT,
                  pinti_copy_describe(w->session[ME], w->copy_a, LOCAL_COPY_GENERATION, &w->x[ME],
                                      &out, &err),
                  &err);
    if (out.n_chunks != 77) {
        FAIL("%s: described", what);
    }
    memcpy(&pinti_cat_copies(w->session[ME]->catalog)[w->copy_a], good, sizeof(*good));
}

TEST(CopyDescription, OfARecordThatCannotBeIsRefused)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    pinti_copy_rec *rec = &pinti_cat_copies(w.session[ME]->catalog)[w.copy_a];
    const uint64_t room = w.session[ME]->sync_bytes;
    pinti_copy_rec good;
    memcpy(&good, rec, sizeof(good));
#define REFUSED(field_, value_)                                                                    \
    do {                                                                                           \
        rec->field_ = (value_);                                                                    \
        ASSERT_NO_FATAL(expect_refused(&w, &good, #field_ " = " #value_));                         \
    } while (0)
    REFUSED(table, good.table + 1);
    REFUSED(table_generation, good.table_generation + 1);
    REFUSED(column, good.column + 1);
    REFUSED(column, UINT32_MAX);
    REFUSED(device, PINTI_DEVICES_MAX);
    REFUSED(device, UINT32_MAX);
    REFUSED(n_chunks, good.n_chunks + 1);
    REFUSED(n_chunks, 0);
    REFUSED(sync_off, good.sync_off + 8);
    REFUSED(sync_off, room);
    REFUSED(sync_off, UINT64_MAX - 63);
    REFUSED(sync_bytes, sizeof(pinti_copy_sync) + good.n_chunks * sizeof(pinti_copy_chunk) - 1);
    REFUSED(sync_bytes, room);
    REFUSED(sync_bytes, UINT64_MAX);
    REFUSED(values_off, 64);
    REFUSED(values_off, good.bytes);
    REFUSED(values_off, UINT64_MAX - 255);
    REFUSED(values_bytes, good.values_bytes - 1);
    REFUSED(values_bytes, UINT64_MAX);
    REFUSED(validity_off, PINTI_NO_BUFFER);
    REFUSED(validity_off, good.bytes);
    REFUSED(validity_off, 1);
    REFUSED(validity_bytes, good.validity_bytes - 1);
    REFUSED(validity_bytes, UINT64_MAX);
    REFUSED(bytes, good.bytes - 1);
    REFUSED(bytes, 0);
#undef REFUSED
    tear_down(&w);
}

TEST(CopyDescription, SaysWhyItIsNoneNow)
{
    world w;
    pint_error err;
    pinti_copy_desc out;
    ASSERT_NO_FATAL(set_up(&w));
    pint_pool *session = w.session[ME];
    EXPECT_STATUS(
        PINT_E_CORRUPT,
        pinti_copy_describe(session, PINTI_COPIES_MAX, LOCAL_COPY_GENERATION, &w.x[ME], &out, &err),
        &err);
    EXPECT_STATUS(
        PINT_E_DROPPED,
        pinti_copy_describe(session, w.copy_a, LOCAL_COPY_GENERATION + 1, &w.x[ME], &out, &err),
        &err);
    EXPECT_STATUS(PINT_E_DROPPED,
                  pinti_copy_describe(session, w.copy_b + 1, 0, &w.x[ME], &out, &err), &err);
    session->writable = false;
    EXPECT_STATUS(
        PINT_E_PERMISSION,
        pinti_copy_describe(session, w.copy_a, LOCAL_COPY_GENERATION, &w.x[ME], &out, &err), &err);
    session->writable = true;
    tear_down(&w);
}

TEST(CopyDescription, OfAColumnThatWasAddedLater)
{
    world w;
    pint_error err;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_field field = field_of("bit", PINT_BOOL, 0);
    const pint_schema schema = schema_of(&field, 1, CHUNK_ROWS);
    pint_table *more = local_table_build(w.session[ME], "more", &schema, ROWS);
    ASSERT_OK(local_table_add_columns(w.table[ME], more, &err), &err);
    const pint_column bit = column_of(w.table[OTHER], "bit");
    const uint32_t index = local_copy_new(w.local, &bit, DEVICE_B);
    pinti_copy_desc copy;
    ASSERT_OK(
        pinti_copy_describe(w.session[OTHER], index, LOCAL_COPY_GENERATION, &bit, &copy, &err),
        &err);
    ASSERT_EQ(pinti_device_take(&copy, 3, PINTI_TAKE_TO_CHANGE, &taken), OK);
    ASSERT_EQ(pinti_device_write_commit(&copy, 3, taken.word), OK);
    EXPECT_EQ(places_of(pinti_load64_seq(word_of(&bit, 3))), (uint32_t)B);
    local_copy_drop(w.local, index);
    EXPECT_EQ(state_of(&bit, 3), (uint32_t)PINTI_CHUNK_TORN);
    tear_down(&w);
}
