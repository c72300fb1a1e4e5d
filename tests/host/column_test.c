/* SPDX-License-Identifier: Apache-2.0 */

/* Columns of every type: pointers, widths, values; nulls and bits, also from several threads; mark
 * and versions. */

#include <pthread.h>
#include <string.h>

#include "tests/host/fixture.h"

#define ROWS       1500u
#define CHUNK_ROWS 512u
#define CHUNKS     3u

/* One column of every type, and the bytes a row of it takes. */
static const struct {
    const char *name;
    pint_type type;
    uint32_t flags, width_bytes, list_length, item_type, unit;
    uint32_t row_bytes;
    uint64_t data_bytes, n_categories;
} all[] = {
    {"bool", PINT_BOOL, PINT_NULLABLE, 0, 0, 0, 0, 0, 0, 0},
    {"bool8", PINT_BOOL8, PINT_NULLABLE, 0, 0, 0, 0, 1, 0, 0},
    {"int8", PINT_INT8, PINT_NULLABLE, 0, 0, 0, 0, 1, 0, 0},
    {"int16", PINT_INT16, 0, 0, 0, 0, 0, 2, 0, 0},
    {"int32", PINT_INT32, PINT_NULLABLE, 0, 0, 0, 0, 4, 0, 0},
    {"int64", PINT_INT64, 0, 0, 0, 0, 0, 8, 0, 0},
    {"uint8", PINT_UINT8, 0, 0, 0, 0, 0, 1, 0, 0},
    {"uint16", PINT_UINT16, PINT_NULLABLE, 0, 0, 0, 0, 2, 0, 0},
    {"uint32", PINT_UINT32, 0, 0, 0, 0, 0, 4, 0, 0},
    {"uint64", PINT_UINT64, PINT_NULLABLE, 0, 0, 0, 0, 8, 0, 0},
    {"float16", PINT_FLOAT16, 0, 0, 0, 0, 0, 2, 0, 0},
    {"float32", PINT_FLOAT32, PINT_NULLABLE, 0, 0, 0, 0, 4, 0, 0},
    {"float64", PINT_FLOAT64, 0, 0, 0, 0, 0, 8, 0, 0},
    {"date32", PINT_DATE32, PINT_NULLABLE, 0, 0, 0, 0, 4, 0, 0},
    {"timestamp", PINT_TIMESTAMP, PINT_NULLABLE, 0, 0, 0, PINT_MICROSECOND, 8, 0, 0},
    {"binary", PINT_BINARY_FIXED, 0, 7, 0, 0, 0, 7, 0, 0},
    {"text", PINT_TEXT, PINT_NULLABLE, 0, 0, 0, 0, 0, 100, 0},
    {"dict8", PINT_DICT_TEXT, PINT_NULLABLE, 0, 0, PINT_INT8, 0, 1, 100, 100},
    {"dict32", PINT_DICT_TEXT, 0, 0, 0, PINT_INT32, 0, 4, 100, 100},
    {"list", PINT_LIST_FIXED, PINT_NULLABLE, 0, 3, PINT_FLOAT32, 0, 12, 0, 0},
};
#define N_ALL ((uint32_t)COUNT_OF(all))

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
    pint_table *table;
} setting;

static void set_up_rows(setting *s, uint64_t rows)
{
    pint_field fields[N_ALL];
    for (uint32_t i = 0; i < N_ALL; i++) {
        fields[i] = field_of(all[i].name, all[i].type, all[i].flags);
        fields[i].width_bytes = all[i].width_bytes;
        fields[i].list_length = all[i].list_length;
        fields[i].item_type = all[i].item_type;
        fields[i].unit = all[i].unit;
        fields[i].zone = all[i].type == PINT_TIMESTAMP ? "Europe/Berlin" : NULL;
        fields[i].data_bytes = all[i].data_bytes;
        fields[i].n_categories = all[i].n_categories;
    }
    const pint_schema schema = schema_of(fields, N_ALL, CHUNK_ROWS);
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
    s->table = local_table_new(s->session, "t", &schema, rows);
}

static void set_up(setting *s)
{
    set_up_rows(s, ROWS);
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

/* ---- types and pointers ---------------------------------------------------------------------- */

TEST(Type, NamesAndNumbersLeadToEachOther)
{
    for (pint_type type = PINT_BOOL; type <= PINT_LIST_FIXED; type++) {
        ASSERT_TRUE(pint_type_name(type) != NULL);
        EXPECT_EQ(pint_type_by_name(pint_type_name(type)), type);
    }
    EXPECT_TRUE(pint_type_name(0) == NULL);
    EXPECT_TRUE(pint_type_name(PINT_LIST_FIXED + 1) == NULL);
    EXPECT_TRUE(pint_type_name(UINT32_MAX) == NULL);
    EXPECT_EQ(pint_type_by_name("float128"), 0u);
    EXPECT_EQ(pint_type_by_name(""), 0u);
    EXPECT_EQ(pint_type_by_name(NULL), 0u);
    EXPECT_EQ(pint_type_bytes(0), 0u);
    EXPECT_EQ(pint_type_bytes(UINT32_MAX), 0u);
}

TEST(Column, FactsAreThoseOfTheSchema)
{
    setting s;
    pint_error err;
    set_up(&s);
    ASSERT_EQ(pint_table_columns(s.table), N_ALL);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        EXPECT_EQ(column.index, i);
        EXPECT_EQ(column.type, all[i].type);
        EXPECT_TRUE(column.table == s.table);
        EXPECT_STREQ(pint_column_name(&column), all[i].name);
        EXPECT_EQ(pint_column_row_bytes(&column), all[i].row_bytes);
        EXPECT_EQ(pint_column_unit(&column), all[i].unit);
        EXPECT_STREQ(pint_column_zone(&column),
                     all[i].type == PINT_TIMESTAMP ? "Europe/Berlin" : "");
        EXPECT_EQ(pint_column_is_nullable(&column), (all[i].flags & PINT_NULLABLE) != 0);
        EXPECT_EQ(pint_column_list_length(&column), all[i].list_length);
        EXPECT_EQ(pint_column_item_type(&column), all[i].item_type);
        EXPECT_EQ(pint_column_data_bytes(&column), all[i].data_bytes);
        EXPECT_EQ(pint_column_version(&column, 0), 0ull);
    }
    tear_down(&s);
}

TEST(Column, IsFoundByNameAndByPosition)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column(s.table, all[i].name, &column, &err), &err);
        EXPECT_EQ(column.index, i);
    }
    tear_down(&s);
}

TEST(Column, ThatIsNotThereIsNotFound)
{
    setting s;
    pint_error err;
    pint_column column;
    char name[PINT_NAME_BYTES_MAX + 2];
    set_up(&s);
    memset(name, 'n', sizeof(name));
    name[PINT_NAME_BYTES_MAX + 1] = '\0';
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.table, "INT8", &column, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.table, "", &column, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.table, name, &column, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.table, "a\nb", &column, &err), &err);
    EXPECT_TRUE(strstr(err.message, "'a?b'") != NULL);
    EXPECT_STATUS(PINT_E_RANGE, pint_table_column_at(s.table, N_ALL, &column, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_table_column_at(s.table, UINT32_MAX, &column, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_column(NULL, "int8", &column, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_column(s.table, NULL, &column, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_column_at(s.table, 0, NULL, &err), &err);
    tear_down(&s);
}

TEST(Column, IsFoundAmongThousands)
{
    enum { N = 5000 };
    static char names[N][12];
    static pint_field fields[N];
    pint_error err;
    for (uint32_t i = 0; i < N; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "c%u", i);
        fields[i] = field_of(names[i], PINT_INT8, 0);
    }
    local_pool *local = local_pool_new();
    pint_pool *session = local_session_new(local);
    const pint_schema schema = schema_of(fields, N, CHUNK_ROWS);
    pint_table *table = local_table_new(session, "wide", &schema, 1);
    for (uint32_t i = 0; i < N; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column(table, names[i], &column, &err), &err);
        ASSERT_EQ(column.index, i);
    }
    pint_table_close(table);
    local_pool_free(local);
}

TEST(Column, BuffersBeginAtCacheLines)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        const bool is_text = all[i].type == PINT_TEXT;
        EXPECT_EQ(column.values == NULL, is_text);
        EXPECT_EQ(column.offsets != NULL, is_text);
        EXPECT_EQ(column.data != NULL, is_text);
        EXPECT_EQ(column.validity != NULL, (all[i].flags & PINT_NULLABLE) != 0);
        EXPECT_TRUE(pint_column_values(&column) == column.values);
        EXPECT_EQ((uintptr_t)column.values % 64, 0u);
        EXPECT_EQ((uintptr_t)column.validity % 64, 0u);
        EXPECT_EQ((uintptr_t)column.offsets % 64, 0u);
        EXPECT_EQ((uintptr_t)column.data % 64, 0u);
    }
    tear_down(&s);
}

TEST(Column, FreshRowsAreZeroAndNull)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        for (uint64_t k = 0; k < (uint64_t)ROWS * all[i].row_bytes; k++) {
            ASSERT_EQ(((const char *)column.values)[k], 0);
        }
        EXPECT_EQ(pint_column_count_null(&column, 0, ROWS),
                  (all[i].flags & PINT_NULLABLE) != 0 ? (uint64_t)ROWS : 0ull);
    }
    tear_down(&s);
}

/* Each column is filled to its last byte with a pattern of its own; then all are compared: a buffer
 * that is too short or overlaps another shows. */
TEST(Column, ValuesOfEveryTypeRoundTripWithoutTouchingEachOther)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    set_up(&s);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        for (uint64_t k = 0; k < (uint64_t)ROWS * all[i].row_bytes; k++) {
            ((unsigned char *)column.values)[k] = (unsigned char)(k * 31 + i);
        }
        for (uint64_t row = 0; row < ROWS; row++) {
            if (column.validity != NULL) {
                ASSERT_OK(pint_column_set_null(&column, row, (row + i) % 3 == 0, &err), &err);
            }
            if (column.type == PINT_BOOL) {
                ASSERT_OK(pint_column_set_bool(&column, row, (row + i) % 5 == 0, &err), &err);
            }
        }
    }
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(theirs, i, &column, &err), &err);
        for (uint64_t k = 0; k < (uint64_t)ROWS * all[i].row_bytes; k++) {
            ASSERT_EQ(((const unsigned char *)column.values)[k], (unsigned char)(k * 31 + i));
        }
        for (uint64_t row = 0; row < ROWS; row++) {
            ASSERT_EQ(pint_column_is_null(&column, row),
                      column.validity != NULL && (row + i) % 3 == 0);
            if (column.type == PINT_BOOL) {
                ASSERT_EQ(pint_column_get_bool(&column, row), (row + i) % 5 == 0);
            }
        }
    }
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(Column, OfATableWithoutRowsHasNothingToTouch)
{
    setting s;
    pint_error err;
    set_up_rows(&s, 0);
    EXPECT_EQ(pint_table_chunks(s.table), 0ull);
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        EXPECT_EQ(pint_column_count_null(&column, 0, 10), 0ull);
        EXPECT_EQ(pint_column_is_null(&column, 0), 0);
        EXPECT_EQ(pint_column_get_bool(&column, 0), 0);
        EXPECT_EQ(pint_column_version(&column, 0), 0ull);
        EXPECT_OK(pint_column_mark(&column, 0, 0, &err), &err);
        EXPECT_STATUS(PINT_E_RANGE, pint_column_mark(&column, 0, 1, &err), &err);
        EXPECT_STATUS(PINT_E_RANGE, pint_column_set_null(&column, 0, 1, &err), &err);
    }
    tear_down(&s);
}

/* ---- nulls and bits -------------------------------------------------------------------------- */

TEST(Null, IsRefusedWhereThereIsNoBitmapOrNoRow)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column plain = column_of(s.table, "int16");
    const pint_column nullable = column_of(s.table, "int32");
    EXPECT_STATUS(PINT_E_TYPE, pint_column_set_null(&plain, 0, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_set_null(&nullable, ROWS, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_set_null(&nullable, UINT64_MAX, 1, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_set_null(NULL, 0, 1, &err), &err);
    EXPECT_EQ(pint_column_is_null(&plain, 0), 0);
    EXPECT_EQ(pint_column_is_null(&nullable, ROWS), 0);
    EXPECT_EQ(pint_column_is_null(&nullable, UINT64_MAX), 0);
    tear_down(&s);
}

TEST(Null, LeavesTheValueAlone)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column column = column_of(s.table, "int32");
    ((int32_t *)column.values)[3] = 42;
    ASSERT_OK(pint_column_set_null(&column, 3, 0, &err), &err);
    ASSERT_OK(pint_column_set_null(&column, 3, 1, &err), &err);
    EXPECT_EQ(((const int32_t *)column.values)[3], 42);
    tear_down(&s);
}

TEST(Null, CountAgreesWithALoopForAnyRange)
{
    setting s;
    pint_error err;
    uint64_t random = random_seed();
    set_up(&s);
    const pint_column column = column_of(s.table, "float32");
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_OK(pint_column_set_null(&column, row, random_below(&random, 3) == 0, &err), &err);
    }
    for (int i = 0; i < 3000; i++) {
        const uint64_t first = random_below(&random, ROWS + 10);
        const uint64_t n = random_below(&random, ROWS + 100);
        uint64_t expected = 0;
        for (uint64_t row = first; row < first + n && row < ROWS; row++) {
            expected += (uint64_t)pint_column_is_null(&column, row);
        }
        ASSERT_EQ(pint_column_count_null(&column, first, n), expected);
    }
    tear_down(&s);
}

TEST(Null, CountIsClippedToTheTable)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column column = column_of(s.table, "float32");
    const pint_column plain = column_of(s.table, "int16");
    ASSERT_OK(pint_column_set_null(&column, 0, 0, &err), &err);
    EXPECT_EQ(pint_column_count_null(&column, 0, UINT64_MAX), ROWS - 1ull);
    EXPECT_EQ(pint_column_count_null(&column, ROWS - 1, UINT64_MAX), 1ull);
    EXPECT_EQ(pint_column_count_null(&column, ROWS, 1), 0ull);
    EXPECT_EQ(pint_column_count_null(&column, UINT64_MAX, UINT64_MAX), 0ull);
    EXPECT_EQ(pint_column_count_null(&column, 5, 0), 0ull);
    EXPECT_EQ(pint_column_count_null(&plain, 0, ROWS), 0ull);
    tear_down(&s);
}

TEST(Bool, IsStoredAsABitOrAByte)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column bit = column_of(s.table, "bool");
    const pint_column byte = column_of(s.table, "bool8");
    ASSERT_OK(pint_column_set_bool(&bit, 10, 77, &err), &err);
    ASSERT_OK(pint_column_set_bool(&byte, 10, 77, &err), &err);
    EXPECT_EQ(((const uint8_t *)bit.values)[1], 1u << 2);
    EXPECT_EQ(((const uint8_t *)byte.values)[10], 1u);
    EXPECT_EQ(pint_column_get_bool(&bit, 10), 1);
    EXPECT_EQ(pint_column_get_bool(&byte, 10), 1);
    ((uint8_t *)byte.values)[11] = 200; /* not a proper value, still true */
    EXPECT_EQ(pint_column_get_bool(&byte, 11), 1);
    ASSERT_OK(pint_column_set_bool(&bit, 10, 0, &err), &err);
    ASSERT_OK(pint_column_set_bool(&byte, 10, 0, &err), &err);
    EXPECT_EQ(pint_column_get_bool(&bit, 10) + pint_column_get_bool(&byte, 10), 0);
    tear_down(&s);
}

TEST(Bool, IsRefusedForOtherTypesAndRows)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column bit = column_of(s.table, "bool");
    for (uint32_t i = 0; i < N_ALL; i++) {
        pint_column column;
        ASSERT_OK(pint_table_column_at(s.table, i, &column, &err), &err);
        if (column.type != PINT_BOOL && column.type != PINT_BOOL8) {
            EXPECT_STATUS(PINT_E_TYPE, pint_column_set_bool(&column, 0, 1, &err), &err);
            EXPECT_EQ(pint_column_get_bool(&column, 0), 0);
        }
    }
    EXPECT_STATUS(PINT_E_RANGE, pint_column_set_bool(&bit, ROWS, 1, &err), &err);
    EXPECT_EQ(pint_column_get_bool(&bit, ROWS), 0);
    tear_down(&s);
}

#define BIT_THREADS 4u
#define BIT_ROUNDS  200

typedef struct bit_writer {
    pthread_t thread;
    pint_pool *session;
    uint64_t part; /* rows part, part + BIT_THREADS, ... are its own */
    pint_status status;
} bit_writer;

static void *write_bits(void *argument)
{
    bit_writer *w = argument;
    pint_table *table;
    w->status = pint_table_open(w->session, "t", PINT_WRITE, &table, NULL);
    if (w->status != PINT_OK) {
        return NULL;
    }
    const pint_column value = column_of(table, "bool");
    const pint_column null = column_of(table, "int8");
    for (int round = 0; round <= BIT_ROUNDS && w->status == PINT_OK; round++) {
        for (uint64_t row = w->part; row < 64 && w->status == PINT_OK; row += BIT_THREADS) {
            const int want = (row + (uint64_t)round) % 2 == 0;
            w->status = pint_column_set_bool(&value, row, want, NULL);
            if (w->status == PINT_OK) {
                w->status = pint_column_set_null(&null, row, want, NULL);
            }
            if (pint_column_get_bool(&value, row) != want ||
                pint_column_is_null(&null, row) != want) {
                w->status = PINT_E_CHANGED;
            }
        }
    }
    pint_table_close(table);
    return NULL;
}

TEST(Bits, OfOneByteAreWrittenBySeveralThreadsAtOnce, .timeout_s = 60)
{
    setting s;
    bit_writer writers[BIT_THREADS];
    set_up(&s);
    for (uint32_t i = 0; i < BIT_THREADS; i++) {
        writers[i] = (bit_writer){.session = i % 2 == 0 ? s.session : s.other, .part = i};
        ASSERT_EQ(pthread_create(&writers[i].thread, NULL, write_bits, &writers[i]), 0);
    }
    for (uint32_t i = 0; i < BIT_THREADS; i++) {
        (void)pthread_join(writers[i].thread, NULL);
        EXPECT_STATUS(PINT_OK, writers[i].status, NULL);
    }
    const pint_column value = column_of(s.table, "bool");
    const pint_column null = column_of(s.table, "int8");
    for (uint64_t row = 0; row < 64; row++) {
        EXPECT_EQ(pint_column_get_bool(&value, row), (row + BIT_ROUNDS) % 2 == 0);
        EXPECT_EQ(pint_column_is_null(&null, row), (row + BIT_ROUNDS) % 2 == 0);
    }
    tear_down(&s);
}

/* ---- mark and version ------------------------------------------------------------------------ */

TEST(Mark, MovesTheVersionsOfExactlyTheChunksItTouches)
{
    setting s;
    pint_error err;
    static const struct {
        uint64_t first, n_rows;
        uint64_t moved[CHUNKS];
    } cases[] = {
        {0, 1, {1, 0, 0}},        {0, ROWS, {1, 1, 1}},  {511, 1, {1, 0, 0}},
        {511, 2, {1, 1, 0}},      {512, 512, {0, 1, 0}}, {512, 513, {0, 1, 1}},
        {ROWS - 1, 1, {0, 0, 1}}, {100, 0, {0, 0, 0}},   {ROWS, 0, {0, 0, 0}},
    };
    set_up(&s);
    const pint_column column = column_of(s.table, "float64");
    const pint_column beside = column_of(s.table, "int64");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t before[CHUNKS];
        for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
            before[chunk] = pint_column_version(&column, chunk);
        }
        ASSERT_OK(pint_column_mark(&column, cases[i].first, cases[i].n_rows, &err), &err);
        for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
            EXPECT_EQ(pint_column_version(&column, chunk) - before[chunk], cases[i].moved[chunk]);
        }
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        EXPECT_EQ(pint_column_version(&beside, chunk), 0ull);
    }
    EXPECT_EQ(pint_column_version(&column, CHUNKS), 0ull); /* no such chunk */
    tear_down(&s);
}

TEST(Mark, OutsideTheTableIsRefusedAndMarksNothing)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column column = column_of(s.table, "float64");
    EXPECT_STATUS(PINT_E_RANGE, pint_column_mark(&column, 0, ROWS + 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_mark(&column, ROWS, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_mark(&column, 1, UINT64_MAX, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_mark(&column, UINT64_MAX, 1, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_mark(NULL, 0, 1, &err), &err);
    EXPECT_EQ(pint_column_version(&column, 0), 0ull);
    tear_down(&s);
}

TEST(Mark, StopsAtALeasedChunkAndHasMarkedThoseBefore)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    const pint_column column = column_of(s.table, "float64");
    ASSERT_OK(pint_lease_claim(&column, 1, 1, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_column_mark(&column, 0, ROWS, &err), &err);
    EXPECT_EQ(pint_column_version(&column, 0), 1ull);
    EXPECT_EQ(pint_column_version(&column, 2), 0ull);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_OK(pint_column_mark(&column, 0, ROWS, &err), &err);
    tear_down(&s);
}

TEST(Mark, LeavesATornChunkTorn)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    const pint_column column = column_of(s.table, "float64");
    ASSERT_OK(pint_lease_claim(&column, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_OK(pint_column_mark(&column, 0, ROWS, &err), &err);
    EXPECT_EQ(state_of(&column, 0), (uint32_t)PINTI_CHUNK_TORN);
    tear_down(&s);
}

typedef struct marker {
    pthread_t thread;
    pint_pool *session;
    pint_status status;
} marker;

#define MARKS 2000

static void *mark_often(void *argument)
{
    marker *m = argument;
    pint_table *table;
    m->status = pint_table_open(m->session, "t", PINT_WRITE, &table, NULL);
    if (m->status != PINT_OK) {
        return NULL;
    }
    const pint_column column = column_of(table, "uint8");
    for (int i = 0; i < MARKS && m->status == PINT_OK; i++) {
        m->status = pint_column_mark(&column, 0, ROWS, NULL);
    }
    pint_table_close(table);
    return NULL;
}

TEST(Mark, FromSeveralThreadsIsCountedEachTime, .timeout_s = 60)
{
    setting s;
    marker markers[4];
    set_up(&s);
    for (size_t i = 0; i < COUNT_OF(markers); i++) {
        markers[i].session = i % 2 == 0 ? s.session : s.other;
        ASSERT_EQ(pthread_create(&markers[i].thread, NULL, mark_often, &markers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(markers); i++) {
        (void)pthread_join(markers[i].thread, NULL);
        EXPECT_STATUS(PINT_OK, markers[i].status, NULL);
    }
    const pint_column column = column_of(s.table, "uint8");
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        EXPECT_EQ(pint_column_version(&column, chunk), COUNT_OF(markers) * (uint64_t)MARKS);
    }
    tear_down(&s);
}
