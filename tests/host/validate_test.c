/* SPDX-License-Identifier: Apache-2.0 */

/* Rows that hold what their type promises, and each way in which hostile bytes do not: first row of
 * a block, last row, and everything between. */

#include <string.h>

#include "tests/host/fixture.h"

#define ROWS       5000u /* several blocks, the last one not full */
#define CATEGORIES 20u
#define ROOM       10000u

typedef struct setting {
    local_pool *local;
    pint_table *table;
    pint_column text, flag, number;
    pint_column codes[6]; /* int8, int16, int32; then the same, nullable */
} setting;

static const pint_type code_types[] = {PINT_INT8, PINT_INT16, PINT_INT32};
static const char *const code_names[] = {"a", "b", "c", "d", "e", "f"};

static void store_code(const pint_column *column, uint64_t row, int32_t code)
{
    switch (pint_column_row_bytes(column)) {
    case 1:
        ((int8_t *)column->values)[row] = (int8_t)code;
        break;
    case 2:
        ((int16_t *)column->values)[row] = (int16_t)code;
        break;
    default:
        ((int32_t *)column->values)[row] = code;
        break;
    }
}

static void set_up(setting *s)
{
    pint_field fields[9];
    fields[0] = field_of("text", PINT_TEXT, 0);
    fields[0].data_bytes = ROOM;
    fields[1] = field_of("flag", PINT_BOOL8, 0);
    fields[2] = field_of("number", PINT_INT32, 0);
    for (uint32_t i = 0; i < COUNT_OF(s->codes); i++) {
        fields[3 + i] = field_of(code_names[i], PINT_DICT_TEXT, i < 3 ? 0 : PINT_NULLABLE);
        fields[3 + i].item_type = code_types[i % 3];
        fields[3 + i].n_categories = CATEGORIES + 5;
        fields[3 + i].data_bytes = 200;
    }
    const pint_schema schema = schema_of(fields, COUNT_OF(fields), 512);
    s->local = local_pool_new();
    s->table = local_table_build(local_session_new(s->local), "t", &schema, ROWS);
    s->text = column_of(s->table, "text");
    s->flag = column_of(s->table, "flag");
    s->number = column_of(s->table, "number");
    for (uint32_t i = 0; i < COUNT_OF(s->codes); i++) {
        s->codes[i] = column_of(s->table, code_names[i]);
        for (int32_t k = 0; k < (int32_t)CATEGORIES; k++) {
            const char text[2] = {(char)('a' + k), '\0'};
            int32_t code;
            ASSERT_OK(pint_column_add_category(&s->codes[i], text, 1, &code, NULL), NULL);
        }
        for (uint64_t row = 0; row < ROWS; row++) {
            store_code(&s->codes[i], row, (int32_t)(row % CATEGORIES));
        }
        if (s->codes[i].validity != NULL) {
            memset(s->codes[i].validity, 0xff, (ROWS + 7) / 8);
        }
    }
    for (uint64_t row = 0; row <= ROWS; row++) {
        s->text.offsets[row] = (int64_t)(row * 2); /* to the last byte of the room */
    }
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

/* Valid up to the row, corrupt in each range with it, and the message names it. */
static void expect_corrupt_at(const pint_column *column, uint64_t row)
{
    pint_error err;
    char name[32];
    const uint64_t firsts[] = {0, row, row > 3 ? row - 3 : 0};
    (void)snprintf(name, sizeof(name), "row %" PRIu64 " ", row);
    for (size_t i = 0; i < COUNT_OF(firsts); i++) {
        EXPECT_STATUS(PINT_E_CORRUPT,
                      pint_column_validate(column, firsts[i], ROWS - firsts[i], &err), &err);
        if (strstr(err.message, name) == NULL) {
            EXPECT_STREQ(err.message, name);
        }
        EXPECT_STATUS(PINT_E_CORRUPT,
                      pint_column_validate(column, firsts[i], row + 1 - firsts[i], &err), &err);
        EXPECT_OK(pint_column_validate(column, firsts[i], row - firsts[i], &err), &err);
    }
}

static const uint64_t places[] = {0, 1, 7, 8, 511, 1023, 1024, 1025, 2047, 2048, 4096, ROWS - 1};

TEST(Validate, RowsAsTheyShouldBeAreGoodInEveryRange)
{
    setting s;
    pint_error err;
    uint64_t random = random_seed();
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column *all[] = {&s.text,     &s.flag,     &s.number,   &s.codes[0], &s.codes[1],
                                &s.codes[2], &s.codes[3], &s.codes[4], &s.codes[5]};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        EXPECT_OK(pint_column_validate(all[i], 0, ROWS, &err), &err);
        EXPECT_OK(pint_column_validate(all[i], ROWS, 0, &err), &err);
        for (int n = 0; n < 200; n++) {
            const uint64_t first = random_below(&random, ROWS);
            const uint64_t n_rows = random_below(&random, ROWS - first + 1);
            ASSERT_OK(pint_column_validate(all[i], first, n_rows, &err), &err);
        }
    }
    tear_down(&s);
}

TEST(Validate, ArgumentsThatAreNoneAreRefused)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_STATUS(PINT_E_INVALID, pint_column_validate(NULL, 0, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_validate(&s.text, 0, ROWS + 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_validate(&s.text, ROWS + 1, 0, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_validate(&s.text, ROWS, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_validate(&s.text, 1, UINT64_MAX, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_validate(&s.number, UINT64_MAX, 2, &err), &err);
    tear_down(&s);
}

TEST(Validate, ABool8ThatIsNeitherIsCorrupt)
{
    setting s;
    static const uint8_t wrong[] = {2, 3, 0x80, 0xff};
    ASSERT_NO_FATAL(set_up(&s));
    uint8_t *values = s.flag.values;
    memset(values, 1, ROWS);
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        values[places[i]] = wrong[i % COUNT_OF(wrong)];
        expect_corrupt_at(&s.flag, places[i]);
        values[places[i]] = 0;
    }
    EXPECT_OK(pint_column_validate(&s.flag, 0, ROWS, NULL), NULL);
    tear_down(&s);
}

TEST(Validate, OffsetsThatDescendOrLeaveTheRoomAreCorrupt)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        int64_t *end = &s.text.offsets[places[i] + 1];
        const int64_t good = *end;
        const int64_t wrong[] = {good - 3, -1, INT64_MIN, INT64_MAX, (int64_t)ROOM + 1};
        for (size_t k = 0; k < COUNT_OF(wrong); k++) {
            if (places[i] == 0 && k == 0) {
                continue; /* the same as -1 */
            }
            *end = wrong[k];
            expect_corrupt_at(&s.text, places[i]);
        }
        *end = good;
    }
    s.text.offsets[0] = -1;
    expect_corrupt_at(&s.text, 0);
    s.text.offsets[0] = 1;
    EXPECT_OK(pint_column_validate(&s.text, 0, ROWS, NULL), NULL); /* need not begin at 0 */
    for (uint64_t row = 0; row <= ROWS; row++) {
        s.text.offsets[row] = (int64_t)ROOM + 1; /* ascending, and all outside */
    }
    expect_corrupt_at(&s.text, 0);
    tear_down(&s);
}

TEST(Validate, CodesOfNoCategoryAreCorrupt)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    for (size_t c = 0; c < COUNT_OF(s.codes); c++) {
        static const int32_t lows[] = {INT8_MIN, INT16_MIN, INT32_MIN};
        static const int32_t highs[] = {INT8_MAX, INT16_MAX, INT32_MAX};
        const int32_t wrong[] = {CATEGORIES, CATEGORIES + 1, -1, -2, lows[c % 3], highs[c % 3]};
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            for (size_t k = 0; k < COUNT_OF(wrong); k++) {
                store_code(&s.codes[c], places[i], wrong[k]);
                expect_corrupt_at(&s.codes[c], places[i]);
            }
            store_code(&s.codes[c], places[i], 0);
        }
        EXPECT_OK(pint_column_validate(&s.codes[c], 0, ROWS, NULL), NULL);
    }
    tear_down(&s);
}

TEST(Validate, CodesUnderNullAreFromMinusOneUp)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    for (size_t c = 3; c < COUNT_OF(s.codes); c++) {
        const pint_column *column = &s.codes[c];
        static const int32_t good[] = {-1, 0, CATEGORIES, INT8_MAX};
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            ASSERT_OK(pint_column_set_null(column, places[i], 1, NULL), NULL);
            for (size_t k = 0; k < COUNT_OF(good); k++) {
                store_code(column, places[i], good[k]);
                ASSERT_OK(pint_column_validate(column, 0, ROWS, NULL), NULL);
                ASSERT_OK(pint_column_validate(column, places[i], 1, NULL), NULL);
            }
            store_code(column, places[i], -2);
            expect_corrupt_at(column, places[i]);
            /* the same code, not null any more: the null bit of this very row counts */
            store_code(column, places[i], -1);
            ASSERT_OK(pint_column_set_null(column, places[i], 0, NULL), NULL);
            expect_corrupt_at(column, places[i]);
            store_code(column, places[i], 0);
        }
    }
    tear_down(&s);
}

/* Against the rule written out, one row after another. */
TEST(Validate, RandomCodesAndNullsAreJudgedRowByRow)
{
    setting s;
    uint64_t random = random_seed();
    ASSERT_NO_FATAL(set_up(&s));
    for (int n = 0; n < 3000; n++) {
        const pint_column *column = &s.codes[3 + n % 3];
        const uint64_t first = random_below(&random, ROWS - 40);
        const uint64_t n_rows = 1 + random_below(&random, 40);
        bool is_good = true;
        for (uint64_t row = first; row < first + n_rows; row++) {
            const int32_t code = random_below(&random, 40) != 0
                                     ? (int32_t)random_below(&random, CATEGORIES)
                                     : (int32_t)random_below(&random, 30) - 3;
            const bool is_null = random_below(&random, 2) != 0;
            store_code(column, row, code);
            ASSERT_OK(pint_column_set_null(column, row, is_null, NULL), NULL);
            is_good = is_good && (is_null ? code >= -1 : code >= 0 && code < (int32_t)CATEGORIES);
        }
        ASSERT_EQ(pint_column_validate(column, first, n_rows, NULL),
                  is_good ? PINT_OK : PINT_E_CORRUPT);
    }
    tear_down(&s);
}

TEST(Validate, ACategoryAddedMakesItsCodeGood)
{
    setting s;
    int32_t code;
    ASSERT_NO_FATAL(set_up(&s));
    store_code(&s.codes[0], 9, CATEGORIES);
    expect_corrupt_at(&s.codes[0], 9);
    ASSERT_OK(pint_column_add_category(&s.codes[0], "new", 3, &code, NULL), NULL);
    EXPECT_EQ(code, (int32_t)CATEGORIES);
    EXPECT_OK(pint_column_validate(&s.codes[0], 0, ROWS, NULL), NULL);
    /* a count that cannot be is clamped to the room, and so are codes */
    pinti_store64_seq(&pinti_column_desc_of(&s.codes[0])->state->xdict_count, UINT64_MAX);
    store_code(&s.codes[0], 9, CATEGORIES + 5);
    expect_corrupt_at(&s.codes[0], 9);
    tear_down(&s);
}

TEST(Validate, ARecordWithRowsOfAnotherWidthIsCorrupt)
{
    setting s;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&s));
    static const uint32_t wrong[] = {0, 3, 8};
    pinti_column_desc *desc = &s.table->desc->columns[s.codes[2].index];
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        desc->row_bytes = wrong[i];
        EXPECT_STATUS(PINT_E_CORRUPT, pint_column_validate(&s.codes[2], 0, ROWS, &err), &err);
    }
    desc = &s.table->desc->columns[s.flag.index];
    desc->row_bytes = 2;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_column_validate(&s.flag, 0, ROWS, &err), &err);
    tear_down(&s);
}
