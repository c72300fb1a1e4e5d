/* SPDX-License-Identifier: Apache-2.0 */

/* Optimistic reads, one thread: what is copied, bit for bit, and when a read is refused. Reading
 * against a writer that runs is in read_race_test.c. */

#include <string.h>

#include "host/claim.h"
#include "tests/host/fixture.h"

#define ROWS          1700u
#define CHUNK_ROWS    512u
#define MAX_ROW_BYTES 13u

static const struct {
    const char *name;
    pint_type type;
    uint32_t flags, width_bytes;
} all[] = {
    {"bool", PINT_BOOL, PINT_NULLABLE, 0},
    {"bit", PINT_BOOL, 0, 0},
    {"int8", PINT_INT8, PINT_NULLABLE, 0},
    {"int16", PINT_INT16, 0, 0},
    {"int32", PINT_INT32, PINT_NULLABLE, 0},
    {"int64", PINT_INT64, 0, 0},
    {"binary", PINT_BINARY_FIXED, PINT_NULLABLE, MAX_ROW_BYTES},
};

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_table *table;
    pint_column columns[COUNT_OF(all)];
    uint64_t random;
} setting;

/* Every buffer full of random bytes. */
static void set_up(setting *s)
{
    pint_field fields[COUNT_OF(all) + 1];
    for (uint32_t i = 0; i < COUNT_OF(all); i++) {
        fields[i] = field_of(all[i].name, all[i].type, all[i].flags);
        fields[i].width_bytes = all[i].width_bytes;
    }
    fields[COUNT_OF(all)] = field_of("text", PINT_TEXT, 0);
    const pint_schema schema = schema_of(fields, COUNT_OF(all) + 1, CHUNK_ROWS);
    s->random = random_seed();
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->table = local_table_new(s->session, "t", &schema, ROWS);
    for (uint32_t i = 0; i < COUNT_OF(all); i++) {
        pint_column *column = &s->columns[i];
        *column = column_of(s->table, all[i].name);
        const uint64_t row_bytes = pint_column_row_bytes(column);
        const uint64_t bytes = row_bytes != 0 ? ROWS * row_bytes : (ROWS + 7) / 8;
        for (uint64_t k = 0; k < bytes; k++) {
            ((uint8_t *)column->values)[k] = (uint8_t)random_next(&s->random);
        }
        for (uint64_t k = 0; column->validity != NULL && k < (ROWS + 7) / 8; k++) {
            column->validity[k] = (uint8_t)random_next(&s->random);
        }
    }
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

static bool bit_of(const uint8_t *bits, uint64_t at)
{
    return (bits[at / 8] >> (at % 8) & 1) != 0;
}

/* Read a range into a dirty buffer at an odd address and compare with a loop over the rows. */
static void expect_read(const setting *s, const pint_column *column, uint64_t first, uint64_t n,
                        uint64_t shift, uint8_t dirt)
{
    static uint8_t room[(ROWS + 2) * MAX_ROW_BYTES + 64];
    static uint8_t validity[ROWS / 8 + 64];
    pint_error err;
    const uint64_t row_bytes = pint_column_row_bytes(column);
    uint8_t *out = room + 8 + shift;
    (void)s;
    memset(room, dirt, sizeof(room));
    memset(validity, dirt, sizeof(validity));
    ASSERT_OK(pint_column_read(column, first, n, out, validity + 8, &err), &err);
    for (uint64_t i = 0; i < n; i++) {
        if (row_bytes == 0) {
            ASSERT_EQ(bit_of(out, i), pint_column_get_bool(column, first + i) != 0);
        }
        ASSERT_EQ(bit_of(validity + 8, i), pint_column_is_null(column, first + i) == 0);
    }
    if (row_bytes != 0) {
        ASSERT_MEMEQ(out, (const uint8_t *)column->values + first * row_bytes, n * row_bytes);
    }
    /* nothing beside */
    const uint64_t bytes = row_bytes != 0 ? n * row_bytes : (n + 7) / 8;
    ASSERT_EQ(out[-1], dirt);
    ASSERT_EQ(out[bytes], dirt);
    ASSERT_EQ(validity[7], dirt);
    ASSERT_EQ(validity[8 + (n + 7) / 8], dirt);
    for (uint64_t i = n; i % 8 != 0; i++) { /* bits behind the last stay */
        ASSERT_EQ(bit_of(validity + 8, i), (dirt >> (i % 8) & 1) != 0);
        if (row_bytes == 0) {
            ASSERT_EQ(bit_of(out, i), (dirt >> (i % 8) & 1) != 0);
        }
    }
}

TEST(Read, CopiesAnyRangeToAnyAddress, .timeout_s = 60)
{
    setting s;
    set_up(&s);
    for (int round = 0; round < 400; round++) {
        for (uint32_t i = 0; i < COUNT_OF(all); i++) {
            const uint64_t first = random_below(&s.random, ROWS);
            const uint64_t n =
                random_below(&s.random, round % 2 == 0 ? 20 : ROWS) % (ROWS - first + 1);
            ASSERT_NO_FATAL(expect_read(&s, &s.columns[i], first, n, random_below(&s.random, 8),
                                        round % 3 == 0 ? 0xff : 0x5a));
        }
    }
    tear_down(&s);
}

TEST(Read, CopiesAllAndEveryEdgeOfAChunk)
{
    setting s;
    static const uint64_t edges[] = {0,   1,    7,    8,    9,        511, 512,
                                     513, 1023, 1024, 1025, ROWS - 1, ROWS};
    set_up(&s);
    for (uint32_t i = 0; i < COUNT_OF(all); i++) {
        for (size_t a = 0; a < COUNT_OF(edges); a++) {
            for (size_t b = a; b < COUNT_OF(edges); b++) {
                ASSERT_NO_FATAL(
                    expect_read(&s, &s.columns[i], edges[a], edges[b] - edges[a], a % 8, 0xa5));
            }
        }
    }
    tear_down(&s);
}

TEST(Read, WithoutRoomForValidityCopiesValuesOnly)
{
    setting s;
    pint_error err;
    int32_t out[3];
    set_up(&s);
    ASSERT_OK(pint_column_read(&s.columns[4], 510, 3, out, NULL, &err), &err);
    EXPECT_MEMEQ(out, (const int32_t *)s.columns[4].values + 510, sizeof(out));
    tear_down(&s);
}

TEST(Read, ArgumentsThatAreNoneAreRefused)
{
    setting s;
    pint_error err;
    char out[64];
    set_up(&s);
    const pint_column text = column_of(s.table, "text");
    const pint_column *x = &s.columns[4];
    EXPECT_STATUS(PINT_E_TYPE, pint_column_read(&text, 0, 1, out, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read(x, 0, ROWS + 1, out, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read(x, ROWS, 1, out, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read(x, UINT64_MAX, 2, out, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read(x, 1, UINT64_MAX, out, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_read(x, 0, 1, NULL, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_read(NULL, 0, 1, out, NULL, &err), &err);
    EXPECT_OK(pint_column_read(x, ROWS, 0, NULL, NULL, &err), &err);
    tear_down(&s);
}

TEST(Read, IsBusyWhileAnyChunkOfTheRangeIsHeld)
{
    setting s;
    pint_error err;
    pint_lease lease;
    static int32_t out[ROWS];
    set_up(&s);
    const pint_column *x = &s.columns[4];
    static const uint32_t uses[] = {PINT_OUT, PINT_UPDATE, PINT_INOUT};
    for (size_t i = 0; i < COUNT_OF(uses); i++) {
        ASSERT_OK(pint_lease_claim(x, 1, 1, uses[i], 0, &lease, &err), &err);
        EXPECT_STATUS(PINT_E_BUSY, pint_column_read(x, 0, ROWS, out, NULL, &err), &err);
        EXPECT_STATUS(PINT_E_BUSY, pint_column_read(x, 512, 1, out, NULL, &err), &err);
        EXPECT_STATUS(PINT_E_BUSY, pint_column_read(x, 511, 2, out, NULL, &err), &err);
        EXPECT_OK(pint_column_read(x, 0, 512, out, NULL, &err), &err);
        EXPECT_OK(pint_column_read(x, 1024, ROWS - 1024, out, NULL, &err), &err);
        EXPECT_OK(pint_column_read(&s.columns[5], 512, 1, out, NULL, &err), &err);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        EXPECT_OK(pint_column_read(x, 0, ROWS, out, NULL, &err), &err);
    }
    tear_down(&s);
}

TEST(Read, IsTornWhereAWriterGaveUpUntilItIsRecovered)
{
    setting s;
    pint_error err;
    pint_lease lease;
    static int32_t out[ROWS];
    set_up(&s);
    const pint_column *x = &s.columns[4];
    ASSERT_OK(pint_lease_claim(x, 1, 1, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_STATUS(PINT_E_TORN, pint_column_read(x, 600, 1, out, NULL, &err), &err);
    EXPECT_OK(pint_column_read(x, 0, 512, out, NULL, &err), &err);
    ASSERT_OK(pint_column_recover(x, 1, &err), &err);
    EXPECT_OK(pint_column_read(x, 600, 1, out, NULL, &err), &err);
    tear_down(&s);
}

TEST(Read, IsRefusedWhileOldBytesAreToBePutBackOrTheHostIsBehind)
{
    setting s;
    pint_error err;
    int32_t out;
    set_up(&s);
    const pint_column *x = &s.columns[4];
    static const uint64_t words[][3] = {
        {PINTI_CHUNK_RESTORE, 0, PINTI_HOST_STALE},
        {PINTI_CHUNK_CLEAN, 7, 0},
        {PINTI_CHUNK_DEVICE_HELD, 7, PINTI_HOST_STALE | 2},
        {PINTI_CHUNK_JOB_HELD_TORN, 7, 1},
    };
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        pinti_store64_seq(word_of(x, 0), pinti_chunk_next(0, (uint32_t)words[i][0],
                                                          (uint32_t)words[i][1], words[i][2]));
        EXPECT_STATUS(PINT_E_BUSY, pint_column_read(x, 0, 1, &out, NULL, &err), &err);
    }
    pinti_store64_seq(word_of(x, 0),
                      pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2 | 16));
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_column_read(x, 0, 1, &out, NULL, &err), &err);
    EXPECT_TRUE(strstr(err.message, "device places 0, 3") != NULL);
    pinti_store64_seq(word_of(x, 0), pinti_chunk_next(0, PINTI_CHUNK_DEVICE_HELD, 7, 4));
    EXPECT_OK(pint_column_read(x, 0, 1, &out, NULL, &err), &err); /* the host is not written */
    pinti_store64_seq(word_of(x, 0), 0);
    EXPECT_OK(pint_column_read(x, 0, 1, &out, NULL, &err), &err);
    tear_down(&s);
}

TEST(Read, WorksThroughAReadHandleAndOnAFrozenTable)
{
    setting s;
    pint_error err;
    pint_table *reader;
    int32_t out[2];
    set_up(&s);
    ASSERT_OK(local_table_freeze(s.table), NULL);
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ, &reader, &err), &err);
    const pint_column x = column_of(reader, "int32");
    ASSERT_OK(pint_column_read(&x, 3, 2, out, NULL, &err), &err);
    EXPECT_MEMEQ(out, (const int32_t *)x.values + 3, sizeof(out));
    pint_table_close(reader);
    tear_down(&s);
}

/* ---- in place -------------------------------------------------------------------------------- */

TEST(ReadInPlace, OfAChunkThatNobodyTouchesIsGood)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        for (uint64_t chunk = 0; chunk < pint_table_chunks(s.table); chunk++) {
            uint64_t stamp = 0;
            const uint64_t word = pinti_load64_seq(word_of(&s.columns[i], chunk));
            ASSERT_OK(pint_column_read_begin(&s.columns[i], chunk, &stamp, &err), &err);
            EXPECT_OK(pint_column_read_end(&s.columns[i], chunk, stamp, &err), &err);
            EXPECT_OK(pint_column_read_end(&s.columns[i], chunk, stamp, &err), &err);
            EXPECT_EQ(pinti_load64_seq(word_of(&s.columns[i], chunk)), word);
        }
    }
    const pint_column text = column_of(s.table, "text"); /* every type */
    uint64_t stamp;
    ASSERT_OK(pint_column_read_begin(&text, 0, &stamp, &err), &err);
    EXPECT_OK(pint_column_read_end(&text, 0, stamp, &err), &err);
    tear_down(&s);
}

TEST(ReadInPlace, ArgumentsThatAreNoneAreRefused)
{
    setting s;
    pint_error err;
    uint64_t stamp = 5;
    set_up(&s);
    const pint_column *x = &s.columns[5];
    const uint64_t n_chunks = pint_table_chunks(s.table);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_read_begin(NULL, 0, &stamp, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_read_begin(x, 0, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read_begin(x, n_chunks, &stamp, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read_begin(x, UINT64_MAX, &stamp, &err), &err);
    EXPECT_EQ(stamp, 5ull);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_read_end(NULL, 0, stamp, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read_end(x, n_chunks, stamp, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_read_end(x, UINT64_MAX, stamp, &err), &err);
    tear_down(&s);
}

TEST(ReadInPlace, FailsInTheEndWhateverHappenedToTheChunk)
{
    setting s;
    pint_error err;
    pint_lease lease;
    uint64_t stamp;
    set_up(&s);
    const pint_column *x = &s.columns[5];
    for (uint32_t use = PINT_OUT; use <= PINT_UPDATE; use++) {
        for (int how = 0; how < 2; how++) {
            ASSERT_OK(pint_column_read_begin(x, 1, &stamp, &err), &err);
            ASSERT_OK(pint_lease_claim(x, 1, 1, use, 0, &lease, &err), &err);
            EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 1, stamp, &err), &err);
            ASSERT_OK(how == 0 ? pint_lease_commit(&lease, &err) : pint_lease_abandon(&lease, &err),
                      &err);
            EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 1, stamp, &err), &err);
            if (state_of(x, 1) == PINTI_CHUNK_TORN) {
                ASSERT_OK(pint_column_recover(x, 1, &err), &err);
            }
        }
    }
    ASSERT_OK(pint_column_read_begin(x, 1, &stamp, &err), &err);
    ASSERT_OK(pint_column_mark(x, CHUNK_ROWS, 1, &err), &err);
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 1, stamp, &err), &err);
    ASSERT_OK(pint_column_read_begin(x, 1, &stamp, &err), &err);
    ASSERT_OK(pint_column_mark(x, 0, 1, &err), &err); /* another chunk */
    EXPECT_OK(pint_column_read_end(x, 1, stamp, &err), &err);
    tear_down(&s);
}

TEST(ReadInPlace, DoesNotBeginWhereTheBytesAreNotGood)
{
    setting s;
    pint_error err;
    pint_lease lease;
    uint64_t stamp = 5;
    set_up(&s);
    const pint_column *x = &s.columns[5];
    ASSERT_OK(pint_lease_claim(x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_read_begin(x, 0, &stamp, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_STATUS(PINT_E_TORN, pint_column_read_begin(x, 0, &stamp, &err), &err);
    ASSERT_OK(pint_column_recover(x, 0, &err), &err);
    pinti_a64 *word = word_of(x, 0);
    const uint64_t good = pinti_load64_seq(word);
    pinti_store64_seq(word, pinti_chunk_next(good, PINTI_CHUNK_RESTORE, 0, PINTI_HOST_STALE));
    EXPECT_STATUS(PINT_E_BUSY, pint_column_read_begin(x, 0, &stamp, &err), &err);
    pinti_store64_seq(word, good | PINTI_HOST_STALE);
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_column_read_begin(x, 0, &stamp, &err), &err);
    EXPECT_EQ(stamp, 5ull);
    pinti_store64_seq(word, good);
    EXPECT_OK(pint_column_read_begin(x, 0, &stamp, &err), &err);
    tear_down(&s);
}

/* A caller's mistake, or worse: nothing it passes may look like a word that was not changed. */
TEST(ReadInPlace, AStampThatWasNotGivenIsAChangeAndIsNotStored)
{
    setting s;
    pint_error err;
    pint_lease lease;
    uint64_t stamp;
    set_up(&s);
    const pint_column *x = &s.columns[5];
    ASSERT_OK(pint_lease_claim(x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    const uint64_t held = pinti_load64_seq(word_of(x, 0));
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 0, held, &err), &err);
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 0, UINT64_MAX, &err), &err);
    EXPECT_EQ(pinti_load64_seq(word_of(x, 0)), held);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    ASSERT_OK(pint_column_read_begin(x, 0, &stamp, &err), &err);
    EXPECT_STATUS(PINT_E_CHANGED,
                  pint_column_read_end(x, 0, stamp + (1ull << PINTI_CHUNK_SEQ_SHIFT), &err), &err);
    tear_down(&s);
}

/* With its sync pages mapped without write permission a swap would end the process. */
TEST(ReadInPlace, InAPoolJoinedReadOnlyLooksWithoutWriting)
{
    setting s;
    pint_error err;
    uint64_t stamp;
    set_up(&s);
    const pint_column *x = &s.columns[5];
    s.session->writable = false; /* as if joined read-only */
#if defined(__x86_64__)
    ASSERT_OK(pint_column_read_begin(x, 0, &stamp, &err), &err);
    EXPECT_OK(pint_column_read_end(x, 0, stamp, &err), &err);
    s.session->writable = true;
    ASSERT_OK(pint_column_mark(x, 0, 1, &err), &err);
    s.session->writable = false;
    EXPECT_STATUS(PINT_E_CHANGED, pint_column_read_end(x, 0, stamp, &err), &err);
#else
    ASSERT_OK(pint_column_read_begin(x, 0, &stamp, &err), &err);
    EXPECT_STATUS(PINT_E_UNSUPPORTED, pint_column_read_end(x, 0, stamp, &err), &err);
#endif
    s.session->writable = true;
    tear_down(&s);
}
