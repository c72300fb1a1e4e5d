/* SPDX-License-Identifier: Apache-2.0 */

/* Packing of the words that protocols turn on: every field round trips at its widest value beside
 * any neighbours, and no carry leaves a field. */

#include "tests/host/fixture.h"

#define CHUNK_SEQ_MAX ((1ull << 38) - 1)
#define JOB_SEQ_MAX   ((1ull << 26) - 1)

/* A chunk word with each field as given. */
static uint64_t chunk_word(uint64_t seq, uint32_t holder, uint32_t state, uint64_t mask)
{
    return pinti_chunk_next((seq - 1) << PINTI_CHUNK_SEQ_SHIFT, state, holder, mask);
}

static void expect_chunk(uint64_t word, uint64_t seq, uint32_t holder, uint32_t state,
                         uint64_t mask)
{
    EXPECT_EQ(pinti_chunk_seq(word), seq);
    EXPECT_EQ(pinti_chunk_holder(word), holder);
    EXPECT_EQ(pinti_chunk_state(word), state);
    EXPECT_EQ(word & PINTI_CHUNK_MASK, mask);
}

TEST(ChunkWord, ZeroIsAFreshCleanChunkWithTheHostNewest)
{
    expect_chunk(0, 0, 0, PINTI_CHUNK_CLEAN, 0);
    EXPECT_EQ(0 & PINTI_HOST_STALE, 0ull);
}

TEST(ChunkWord, EveryFieldHoldsItsWidestValueAlone)
{
    expect_chunk(chunk_word(CHUNK_SEQ_MAX, 0, 0, 0), CHUNK_SEQ_MAX, 0, 0, 0);
    expect_chunk(chunk_word(1, PINTI_HOLDER_MASK, 0, 0), 1, PINTI_HOLDER_MASK, 0, 0);
    expect_chunk(chunk_word(1, 0, 7, 0), 1, 0, 7, 0);
    expect_chunk(chunk_word(1, 0, 0, PINTI_CHUNK_MASK), 1, 0, 0, PINTI_CHUNK_MASK);
}

TEST(ChunkWord, EveryFieldHoldsItsWidestValueBesideTheOthers)
{
    const uint64_t word = chunk_word(CHUNK_SEQ_MAX, PINTI_HOLDER_MASK, 7, PINTI_CHUNK_MASK);
    EXPECT_EQ(word, UINT64_MAX);
    expect_chunk(word, CHUNK_SEQ_MAX, PINTI_HOLDER_MASK, 7, PINTI_CHUNK_MASK);
}

TEST(ChunkWord, SeqWrapsInsideItsField)
{
    expect_chunk(pinti_chunk_next(UINT64_MAX, 0, 0, 0), 0, 0, 0, 0);
    expect_chunk(pinti_chunk_next(UINT64_MAX, 5, 0x2aaa, 0x155), 0, 0x2aaa, 5, 0x155);
}

TEST(ChunkWord, NextMovesSeqByOneAndTakesNothingElseFromTheOldWord)
{
    uint64_t random = random_seed();
    for (int i = 0; i < 100000; i++) {
        const uint64_t old = random_next(&random);
        const uint32_t state = (uint32_t)random_below(&random, 8);
        const uint32_t holder = (uint32_t)random_below(&random, PINTI_HOLDER_MASK + 1);
        const uint64_t mask = random_below(&random, PINTI_CHUNK_MASK + 1);
        const uint64_t next = pinti_chunk_next(old, state, holder, mask);
        ASSERT_EQ(pinti_chunk_seq(next), (pinti_chunk_seq(old) + 1) & CHUNK_SEQ_MAX);
        ASSERT_EQ(pinti_chunk_holder(next), holder);
        ASSERT_EQ(pinti_chunk_state(next), state);
        ASSERT_EQ(next & PINTI_CHUNK_MASK, mask);
    }
}

TEST(ChunkWord, EverySessionIndexIsAHolder)
{
    for (uint32_t holder = 0; holder < PINTI_SESSIONS_MAX; holder++) {
        ASSERT_EQ(pinti_chunk_holder(chunk_word(7, holder, 1, 1)), holder);
    }
}

TEST(ChunkWord, ExactlyTheFourHeldStatesAreHeld)
{
    for (uint32_t state = 0; state < 8; state++) {
        const bool held = state == PINTI_CHUNK_HELD || state == PINTI_CHUNK_HELD_TORN ||
                          state == PINTI_CHUNK_JOB_HELD || state == PINTI_CHUNK_JOB_HELD_TORN ||
                          state == PINTI_CHUNK_DEVICE_HELD;
        EXPECT_EQ(pinti_chunk_is_held(state), held);
    }
}

TEST(JobWord, ZeroIsAPendingChunkNeverTried)
{
    EXPECT_EQ(pinti_job_state(0), (uint32_t)PINTI_JOB_PENDING);
    EXPECT_EQ(pinti_job_attempts(0), 0u);
    EXPECT_EQ(pinti_job_undo(0), 0u);
    EXPECT_EQ(pinti_job_holder(0), 0u);
}

TEST(JobWord, EveryFieldHoldsItsWidestValueBesideTheOthers)
{
    const uint64_t word =
        pinti_job_next_word((JOB_SEQ_MAX - 1) << 38, 15, 15, 0xffff, PINTI_HOLDER_MASK);
    EXPECT_EQ(word, UINT64_MAX);
    EXPECT_EQ(pinti_job_state(word), 15u);
    EXPECT_EQ(pinti_job_attempts(word), 15u);
    EXPECT_EQ(pinti_job_undo(word), 0xffffu);
    EXPECT_EQ(pinti_job_holder(word), (uint32_t)PINTI_HOLDER_MASK);
}

TEST(JobWord, SeqWrapsInsideItsField)
{
    const uint64_t word = pinti_job_next_word(UINT64_MAX, PINTI_JOB_LEASED, 2, 0x8001, 0x2001);
    EXPECT_EQ(word >> 38, 0ull);
    EXPECT_EQ(pinti_job_state(word), (uint32_t)PINTI_JOB_LEASED);
    EXPECT_EQ(pinti_job_attempts(word), 2u);
    EXPECT_EQ(pinti_job_undo(word), 0x8001u);
    EXPECT_EQ(pinti_job_holder(word), 0x2001u);
}

TEST(JobWord, NextMovesSeqByOneAndTakesNothingElseFromTheOldWord)
{
    uint64_t random = random_seed();
    for (int i = 0; i < 100000; i++) {
        const uint64_t old = random_next(&random);
        const uint32_t state = (uint32_t)random_below(&random, 16);
        const uint32_t attempts = (uint32_t)random_below(&random, 16);
        const uint32_t undo = (uint32_t)random_below(&random, 0x10000);
        const uint32_t holder = (uint32_t)random_below(&random, PINTI_HOLDER_MASK + 1);
        const uint64_t next = pinti_job_next_word(old, state, attempts, undo, holder);
        ASSERT_EQ(next >> 38, ((old >> 38) + 1) & JOB_SEQ_MAX);
        ASSERT_EQ(pinti_job_state(next), state);
        ASSERT_EQ(pinti_job_attempts(next), attempts);
        ASSERT_EQ(pinti_job_undo(next), undo);
        ASSERT_EQ(pinti_job_holder(next), holder);
    }
}

TEST(JobWord, TheLastUndoBufferHasANumber)
{
    const uint64_t word = pinti_job_next_word(0, PINTI_JOB_LEASED, 0, PINTI_JOB_UNDO_MAX + 1, 1);
    EXPECT_EQ(pinti_job_undo(word), PINTI_JOB_UNDO_MAX + 1);
}

TEST(UndoWord, HolderAndChunkRoundTripAtTheirLimits)
{
    const uint64_t chunks[] = {0, 1, PINTI_CHUNKS_MAX - 1ull, (1ull << 48) - 2};
    for (size_t i = 0; i < COUNT_OF(chunks); i++) {
        const uint64_t word = pinti_undo_word(PINTI_HOLDER_MASK, chunks[i]);
        EXPECT_NE(word, 0ull);
        EXPECT_EQ(pinti_undo_holder(word), (uint32_t)PINTI_HOLDER_MASK);
        EXPECT_EQ(pinti_undo_chunk(word), chunks[i]);
    }
}

TEST(UndoWord, ATakenBufferIsNeverZero)
{
    EXPECT_NE(pinti_undo_word(0, 0), 0ull);
}

TEST(IntentWord, FieldsRoundTripAtTheirLimits)
{
    const uint64_t word = pinti_intent(PINTI_INTENT_DICT, PINTI_TABLES_MAX - 1,
                                       PINTI_TABLE_COLUMNS_MAX - 1, PINTI_CHUNKS_MAX - 1);
    EXPECT_EQ(word, UINT64_MAX);
    EXPECT_EQ(pinti_intent_kind(word), (uint32_t)PINTI_INTENT_DICT);
    EXPECT_EQ(pinti_intent_index(word), PINTI_TABLES_MAX - 1);
    EXPECT_EQ(pinti_intent_column(word), PINTI_TABLE_COLUMNS_MAX - 1);
    EXPECT_EQ(pinti_intent_chunk(word), PINTI_CHUNKS_MAX - 1ull);
}

TEST(IntentWord, FieldsDoNotReachIntoEachOther)
{
    uint64_t random = random_seed();
    for (int i = 0; i < 100000; i++) {
        const uint32_t kind = 1 + (uint32_t)random_below(&random, 3);
        const uint32_t index = (uint32_t)random_below(&random, PINTI_TABLES_MAX);
        const uint32_t column = (uint32_t)random_below(&random, PINTI_TABLE_COLUMNS_MAX);
        const uint64_t chunk = random_below(&random, PINTI_CHUNKS_MAX);
        const uint64_t word = pinti_intent(kind, index, column, chunk);
        ASSERT_EQ(pinti_intent_kind(word), kind);
        ASSERT_EQ(pinti_intent_index(word), index);
        ASSERT_EQ(pinti_intent_column(word), column);
        ASSERT_EQ(pinti_intent_chunk(word), chunk);
    }
}

TEST(IntentWord, IsNeverZero)
{
    EXPECT_NE(pinti_intent(PINTI_INTENT_LEASE, 0, 0, 0), 0ull);
    EXPECT_NE(pinti_intent(PINTI_INTENT_JOB, 0, 0, 0), 0ull);
    EXPECT_NE(pinti_intent(PINTI_INTENT_DICT, 0, 0, 0), 0ull);
}

TEST(RefWord, GenerationAndCountAreTheTwoHalves)
{
    const uint64_t word = 0xfedcba9876543210ull;
    EXPECT_EQ(pinti_ref_generation(word), 0xfedcba98u);
    EXPECT_EQ(pinti_ref_count(word), 0x76543210u);
}

TEST(RecordState, GenerationStateAndFlagsAreApart)
{
    const uint64_t word =
        0xffffffffull << 32 | PINTI_RECORD_FROZEN | PINTI_RECORD_KEPT | PINTI_DYING;
    EXPECT_EQ(pinti_gen_of(word), UINT32_MAX);
    EXPECT_EQ(pinti_state_of(word), (uint32_t)PINTI_DYING);
}
