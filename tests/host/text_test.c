/* SPDX-License-Identifier: Apache-2.0 */

/* Text written row by row before publishing, categories appended by many, and what hostile offsets
 * and codes in shared memory give: an error, never a read outside the column. */

#include <pthread.h>
#include <string.h>

#include "tests/host/fixture.h"

#define ROWS       1000u
#define ROOM       64u
#define CATEGORIES 10u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
    pint_table *table;
    pint_column text, kind;
} setting;

static pint_table *build(pint_pool *session, const char *name, uint64_t room, uint32_t flags)
{
    pint_field fields[] = {field_of("text", PINT_TEXT, 0), field_of("kind", PINT_DICT_TEXT, 0),
                           field_of("wide", PINT_DICT_TEXT, PINT_NULLABLE),
                           field_of("x", PINT_INT64, 0)};
    fields[0].data_bytes = room;
    fields[1].data_bytes = ROOM;
    fields[1].n_categories = CATEGORIES;
    fields[1].item_type = PINT_INT8;
    fields[2].data_bytes = 1u << 16;
    fields[2].n_categories = 5000;
    fields[2].item_type = PINT_INT32;
    pint_schema schema = schema_of(fields, 4, 512);
    schema.flags = flags;
    return local_table_build(session, name, &schema, ROWS);
}

static void set_up(setting *s)
{
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
    s->table = build(s->session, "t", ROOM, 0);
    s->text = column_of(s->table, "text");
    s->kind = column_of(s->table, "kind");
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

static pint_status put(const setting *s, uint64_t row, const char *text)
{
    return pint_column_put_text(&s->text, row, text, strlen(text), NULL);
}

/* The text of a row, or the name of what went wrong. */
static const char *get(const pint_column *column, uint64_t row)
{
    static char out[256];
    const char *text;
    uint64_t bytes;
    const pint_status status = pint_column_get_text(column, row, &text, &bytes, NULL);
    if (status != PINT_OK || bytes >= sizeof(out)) {
        return pint_status_name(status);
    }
    memcpy(out, text, bytes);
    out[bytes] = '\0';
    return out;
}

static const char *category(const pint_column *column, uint64_t code)
{
    static char out[256];
    const char *text;
    uint64_t bytes;
    const pint_status status = pint_column_category(column, code, &text, &bytes, NULL);
    if (status != PINT_OK || bytes >= sizeof(out)) {
        return pint_status_name(status);
    }
    memcpy(out, text, bytes);
    out[bytes] = '\0';
    return out;
}

static int32_t add(const pint_column *column, const char *text)
{
    int32_t code = -1;
    pint_error err;
    EXPECT_OK(pint_column_add_category(column, text, strlen(text), &code, &err), &err);
    return code;
}

/* ---- text ------------------------------------------------------------------------------------ */

TEST(Text, RoundTripsBeforeAndAfterPublishing)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    set_up(&s);
    ASSERT_OK(put(&s, 0, "first"), NULL);
    ASSERT_OK(put(&s, 1, ""), NULL);
    ASSERT_OK(put(&s, 2, "z\xc3\xbcrich"), NULL);
    EXPECT_STREQ(get(&s.text, 0), "first");
    EXPECT_STREQ(get(&s.text, 1), "");
    EXPECT_STREQ(get(&s.text, 2), "z\xc3\xbcrich");
    local_table_publish(s.session, s.table);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    const pint_column text = column_of(theirs, "text");
    EXPECT_STREQ(get(&text, 0), "first");
    EXPECT_STREQ(get(&text, 2), "z\xc3\xbcrich");
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(Text, RowsThatAreSkippedReadAsEmptyAtOnceAndAfterPublishing)
{
    setting s;
    set_up(&s);
    ASSERT_OK(put(&s, 2, "two"), NULL);
    ASSERT_OK(put(&s, 5, "five"), NULL);
    for (int published = 0; published <= 1; published++) {
        for (uint64_t row = 0; row < ROWS; row++) {
            ASSERT_STREQ(get(&s.text, row), row == 2 ? "two" : row == 5 ? "five" : "");
        }
        if (published == 0) {
            local_table_publish(s.session, s.table);
        }
    }
    tear_down(&s);
}

TEST(Text, OffsetsOfAPublishedTableAreArrows)
{
    setting s;
    set_up(&s);
    ASSERT_OK(put(&s, 1, "abc"), NULL);
    local_table_publish(s.session, s.table);
    EXPECT_EQ(s.text.offsets[0], 0);
    EXPECT_EQ(s.text.offsets[1], 0);
    for (uint64_t row = 2; row <= ROWS; row++) {
        ASSERT_EQ(s.text.offsets[row], 3);
    }
    tear_down(&s);
}

TEST(Text, OfATableWhereNothingWasPutIsEmpty)
{
    setting s;
    set_up(&s);
    local_table_publish(s.session, s.table);
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_STREQ(get(&s.text, row), "");
        ASSERT_EQ(s.text.offsets[row + 1], 0);
    }
    tear_down(&s);
}

TEST(Text, InUninitialisedMemoryIsWrittenAndReadLikeAnyOther)
{
    setting s;
    set_up(&s);
    /* dirty all of a first table, give it back, and build the second in its place */
    memset(s.text.offsets, 0xee, (ROWS + 1) * sizeof(int64_t));
    memset(s.text.data, 0xee, ROOM);
    const int64_t *place = s.text.offsets;
    pint_table_close(s.table);
    s.table = build(s.session, "u", ROOM, PINT_UNINITIALISED);
    s.text = column_of(s.table, "text");
    ASSERT_TRUE(s.text.offsets == place); /* else this tests nothing */
    EXPECT_STREQ(get(&s.text, 0), "");
    ASSERT_OK(put(&s, 1, "one"), NULL);
    EXPECT_STREQ(get(&s.text, 0), "");
    EXPECT_STREQ(get(&s.text, 1), "one");
    local_table_publish(s.session, s.table);
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_STREQ(get(&s.text, row), row == 1 ? "one" : "");
    }
    tear_down(&s);
}

TEST(Text, BuffersFilledAsAWholeByTheirCreatorArePublishedAsTheyAre)
{
    setting s;
    set_up(&s);
    for (uint64_t row = 0; row <= ROWS; row++) {
        s.text.offsets[row] = row < 10 ? (int64_t)row : 10;
    }
    memcpy(s.text.data, "0123456789", 10);
    local_table_publish(s.session, s.table);
    EXPECT_STREQ(get(&s.text, 0), "0");
    EXPECT_STREQ(get(&s.text, 9), "9");
    EXPECT_STREQ(get(&s.text, 10), "");
    EXPECT_STREQ(get(&s.text, ROWS - 1), "");
    tear_down(&s);
}

TEST(Text, IsPutInAscendingRowsOnly)
{
    setting s;
    pint_error err;
    set_up(&s);
    ASSERT_OK(put(&s, 5, "five"), NULL);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_text(&s.text, 5, "again", 5, &err), &err);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_text(&s.text, 4, "four", 4, &err), &err);
    ASSERT_OK(put(&s, 6, "six"), NULL);
    EXPECT_STREQ(get(&s.text, 5), "five");
    EXPECT_STREQ(get(&s.text, 6), "six");
    tear_down(&s);
}

TEST(Text, FillsItsRoomToTheLastByteAndNoFurther)
{
    setting s;
    pint_error err;
    char text[ROOM + 1];
    set_up(&s);
    memset(text, 'x', sizeof(text));
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_text(&s.text, 0, text, ROOM + 1, &err), &err);
    ASSERT_OK(pint_column_put_text(&s.text, 0, text, ROOM - 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_text(&s.text, 1, text, 2, &err), &err);
    ASSERT_OK(pint_column_put_text(&s.text, 1, text, 1, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_text(&s.text, 2, text, 1, &err), &err);
    ASSERT_OK(pint_column_put_text(&s.text, ROWS - 1, text, 0, &err), &err);
    EXPECT_STREQ(get(&s.text, 1), "x");
    EXPECT_STREQ(get(&s.text, ROWS - 1), "");
    tear_down(&s);
}

TEST(Text, OutsideTheTableOrNotUtf8IsRefusedAndNothingIsWritten)
{
    setting s;
    pint_error err;
    set_up(&s);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_text(&s.text, ROWS, "x", 1, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_text(&s.text, 0, "\xff", 1, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_text(&s.text, 0, "a\xc3", 2, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_text(&s.text, 0, NULL, 1, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_text(NULL, 0, "x", 1, &err), &err);
    const pint_column x = column_of(s.table, "x");
    EXPECT_STATUS(PINT_E_TYPE, pint_column_put_text(&x, 0, "x", 1, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_column_put_text(&s.kind, 0, "x", 1, &err), &err);
    ASSERT_OK(pint_column_put_text(&s.text, 0, NULL, 0, &err), &err); /* nothing, written so */
    EXPECT_STREQ(get(&s.text, 0), "");
    tear_down(&s);
}

TEST(Text, OfAPublishedTableCannotBePut)
{
    setting s;
    pint_error err;
    set_up(&s);
    local_table_publish(s.session, s.table);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_text(&s.text, 0, "x", 1, &err), &err);
    tear_down(&s);
}

TEST(Text, MayHoldZeroBytes)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    int32_t code;
    set_up(&s);
    ASSERT_OK(pint_column_put_text(&s.text, 0, "a\0b", 3, &err), &err);
    ASSERT_OK(pint_column_get_text(&s.text, 0, &text, &bytes, &err), &err);
    ASSERT_EQ(bytes, 3ull);
    EXPECT_MEMEQ(text, "a\0b", 3);
    ASSERT_OK(pint_column_add_category(&s.kind, "a\0b", 3, &code, &err), &err);
    const int32_t shorter = add(&s.kind, "a");
    EXPECT_NE(code, shorter);
    ASSERT_OK(pint_column_category(&s.kind, (uint64_t)code, &text, &bytes, &err), &err);
    ASSERT_EQ(bytes, 3ull);
    EXPECT_MEMEQ(text, "a\0b", 3);
    tear_down(&s);
}

TEST(Text, IsGotOnlyFromTextColumnsAndRowsThatAre)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    set_up(&s);
    const pint_column x = column_of(s.table, "x");
    EXPECT_STATUS(PINT_E_TYPE, pint_column_get_text(&x, 0, &text, &bytes, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_get_text(&s.text, ROWS, &text, &bytes, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_get_text(&s.kind, UINT64_MAX, &text, &bytes, &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_get_text(&s.text, 0, NULL, &bytes, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_get_text(&s.text, 0, &text, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_get_text(NULL, 0, &text, &bytes, &err), &err);
    tear_down(&s);
}

/* ---- hostile offsets ------------------------------------------------------------------------- */

TEST(TextOffsets, ThatCannotBeAreCorrupt)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    static const int64_t wrong[][2] = {
        {5, 3},
        {-1, 3},
        {0, -1},
        {-5, -3},
        {0, ROOM + 1},
        {ROOM + 1, ROOM + 1},
        {INT64_MIN, INT64_MAX},
        {0, INT64_MAX},
        {INT64_MIN, 0},
    };
    set_up(&s);
    local_table_publish(s.session, s.table);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        s.text.offsets[7] = wrong[i][0];
        s.text.offsets[8] = wrong[i][1];
        text = NULL;
        EXPECT_STATUS(PINT_E_CORRUPT, pint_column_get_text(&s.text, 7, &text, &bytes, &err), &err);
        EXPECT_TRUE(text == NULL);
    }
    s.text.offsets[7] = ROOM;
    s.text.offsets[8] = ROOM;
    EXPECT_STREQ(get(&s.text, 7), ""); /* the very end of the room is inside */
    tear_down(&s);
}

TEST(TextOffsets, RandomOnesNeverLeadOutsideTheRoom)
{
    setting s;
    uint64_t random = random_seed();
    set_up(&s);
    local_table_publish(s.session, s.table);
    for (int i = 0; i < 20000; i++) {
        const char *text;
        uint64_t bytes;
        const uint64_t row = random_below(&random, ROWS);
        s.text.offsets[row] = (int64_t)(random_next(&random) >> random_below(&random, 64));
        s.text.offsets[row + 1] = (int64_t)(random_next(&random) >> random_below(&random, 64));
        if (pint_column_get_text(&s.text, row, &text, &bytes, NULL) == PINT_OK) {
            ASSERT_GE((uintptr_t)text, (uintptr_t)s.text.data);
            ASSERT_LE((uintptr_t)text + bytes, (uintptr_t)s.text.data + ROOM);
        }
    }
    tear_down(&s);
}

TEST(TextOffsets, OfCategoriesThatCannotBeAreCorruptAndNoneIsFoundOrAppendedOutside)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    int32_t code = -7;
    set_up(&s);
    EXPECT_EQ(add(&s.kind, "a"), 0);
    EXPECT_EQ(add(&s.kind, "b"), 1);
    int64_t *offsets = pinti_column_desc_of(&s.kind)->dict_offsets;
    offsets[2] = -1;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_column_category(&s.kind, 1, &text, &bytes, &err), &err);
    EXPECT_NE(pint_column_add_category(&s.kind, "c", 1, &code, &err), PINT_OK);
    offsets[2] = INT64_MAX;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_column_category(&s.kind, 1, &text, &bytes, &err), &err);
    EXPECT_NE(pint_column_add_category(&s.kind, "c", 1, &code, &err), PINT_OK);
    EXPECT_EQ(code, -7);
    EXPECT_STREQ(category(&s.kind, 0), "a");
    offsets[2] = 2;
    EXPECT_EQ(add(&s.kind, "c"), 2); /* the tail was given back each time */
    tear_down(&s);
}

/* ---- categories ------------------------------------------------------------------------------ */

TEST(Category, TheSameTextHasTheSameCode)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    set_up(&s);
    local_table_publish(s.session, s.table);
    EXPECT_EQ(add(&s.kind, "red"), 0);
    EXPECT_EQ(add(&s.kind, "green"), 1);
    EXPECT_EQ(add(&s.kind, ""), 2);
    EXPECT_EQ(add(&s.kind, "red"), 0);
    EXPECT_EQ(add(&s.kind, "re"), 3);
    EXPECT_EQ(add(&s.kind, ""), 2);
    EXPECT_EQ(pint_column_categories(&s.kind), 4ull);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_WRITE, &theirs, &err), &err);
    const pint_column kind = column_of(theirs, "kind");
    EXPECT_EQ(add(&kind, "green"), 1);
    EXPECT_STREQ(category(&kind, 3), "re");
    EXPECT_STREQ(category(&kind, 2), "");
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(Category, BeyondTheCountIsOutOfRange)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    set_up(&s);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_category(&s.kind, 0, &text, &bytes, &err), &err);
    EXPECT_EQ(add(&s.kind, "a"), 0);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_category(&s.kind, 1, &text, &bytes, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_category(&s.kind, UINT64_MAX, &text, &bytes, &err),
                  &err);
    /* a count from a hostile writer is clamped to the room */
    pinti_store64_seq(&pinti_column_desc_of(&s.kind)->state->xdict_count, UINT64_MAX);
    EXPECT_EQ(pint_column_categories(&s.kind), (uint64_t)CATEGORIES);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_category(&s.kind, CATEGORIES, &text, &bytes, &err),
                  &err);
    tear_down(&s);
}

TEST(Category, NoFurtherOneFitsAFullDictionaryAndOldOnesAreStillFound)
{
    setting s;
    pint_error err;
    int32_t code = -7;
    set_up(&s);
    for (int i = 0; i < (int)CATEGORIES; i++) {
        const char text[2] = {(char)('a' + i), '\0'};
        EXPECT_EQ(add(&s.kind, text), i);
    }
    EXPECT_STATUS(PINT_E_RANGE, pint_column_add_category(&s.kind, "zz", 2, &code, &err), &err);
    EXPECT_EQ(code, -7);
    EXPECT_EQ(add(&s.kind, "c"), 2);
    EXPECT_EQ(pint_column_categories(&s.kind), (uint64_t)CATEGORIES);
    tear_down(&s);
}

TEST(Category, TextBeyondTheRoomIsRefusedAndAShorterOneStillFits)
{
    setting s;
    pint_error err;
    int32_t code;
    char text[ROOM + 1];
    set_up(&s);
    memset(text, 'x', sizeof(text));
    EXPECT_STATUS(PINT_E_RANGE, pint_column_add_category(&s.kind, text, ROOM + 1, &code, &err),
                  &err);
    ASSERT_OK(pint_column_add_category(&s.kind, text, ROOM - 1, &code, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_add_category(&s.kind, "yz", 2, &code, &err), &err);
    EXPECT_EQ(add(&s.kind, "y"), 1);
    EXPECT_EQ(add(&s.kind, ""), 2);
    tear_down(&s);
}

TEST(Category, OtherColumnsBadTextAndReadersAreRefused)
{
    setting s;
    pint_error err;
    int32_t code;
    const char *text;
    uint64_t bytes;
    pint_table *theirs;
    set_up(&s);
    local_table_publish(s.session, s.table);
    const pint_column x = column_of(s.table, "x");
    EXPECT_STATUS(PINT_E_TYPE, pint_column_add_category(&x, "a", 1, &code, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_column_add_category(&s.text, "a", 1, &code, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_column_category(&x, 0, &text, &bytes, &err), &err);
    EXPECT_EQ(pint_column_categories(&x), 0ull);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_add_category(&s.kind, "\xc0\x80", 2, &code, &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_add_category(&s.kind, NULL, 1, &code, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_add_category(&s.kind, "a", 1, NULL, &err), &err);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    const pint_column kind = column_of(theirs, "kind");
    EXPECT_STATUS(PINT_E_PERMISSION, pint_column_add_category(&kind, "a", 1, &code, &err), &err);
    ASSERT_OK(local_table_freeze(s.table), NULL);
    EXPECT_STATUS(PINT_E_FROZEN, pint_column_add_category(&s.kind, "a", 1, &code, &err), &err);
    EXPECT_EQ(pint_column_categories(&s.kind), 0ull);
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(Category, RowsReadTheTextOfTheirCode)
{
    setting s;
    pint_error err;
    set_up(&s);
    const pint_column wide = column_of(s.table, "wide");
    ((int32_t *)wide.values)[3] = add(&wide, "x");
    ((int32_t *)wide.values)[4] = add(&wide, "y");
    EXPECT_STREQ(get(&wide, 4), ""); /* null until said otherwise */
    ASSERT_OK(pint_column_set_null(&wide, 3, 0, &err), &err);
    ASSERT_OK(pint_column_set_null(&wide, 4, 0, &err), &err);
    EXPECT_STREQ(get(&wide, 3), "x");
    EXPECT_STREQ(get(&wide, 4), "y");
    ((int8_t *)s.kind.values)[0] = (int8_t)add(&s.kind, "k");
    EXPECT_STREQ(get(&s.kind, 0), "k");
    tear_down(&s);
}

TEST(Category, CodesThatAreNoneAreOutOfRange)
{
    setting s;
    pint_error err;
    const char *text;
    uint64_t bytes;
    set_up(&s);
    EXPECT_EQ(add(&s.kind, "a"), 0);
    static const int8_t codes[] = {1, 2, (int8_t)CATEGORIES, 127, -1, -128};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        ((int8_t *)s.kind.values)[9] = codes[i];
        EXPECT_STATUS(PINT_E_RANGE, pint_column_get_text(&s.kind, 9, &text, &bytes, &err), &err);
    }
    tear_down(&s);
}

TEST(Category, TailOfADeadAppenderIsFreedByTheSweep)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    int32_t code;
    set_up(&s);
    local_table_publish(s.session, s.table);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_WRITE, &theirs, &err), &err);
    const uint32_t dead = s.session->session_index;
    pinti_a64 *tail = &pinti_column_desc_of(&s.kind)->state->xdict_lease;
    pinti_store64_seq(tail, dead); /* as if it had died inside, its intent lost */
    (void)local_session_sweep(s.local, s.other, true);
    EXPECT_EQ(pinti_load64_seq(tail), (uint64_t)dead); /* not that one's */
    (void)local_session_sweep(s.local, s.session, true);
    const pint_column kind = column_of(theirs, "kind");
    ASSERT_OK(pint_column_add_category(&kind, "a", 1, &code, &err), &err);
    pint_table_close(theirs);
    tear_down(&s);
}

#define ADDERS 4u
#define WORDS  400u

typedef struct adder {
    pthread_t thread;
    pint_pool *session;
    uint64_t random;
    int32_t codes[WORDS];
    char wrong[120];
} adder;

/* Adds every word, in an order of its own, and checks each code while the others append. */
static void *add_words(void *argument)
{
    adder *a = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(a->session, "t", PINT_WRITE, &table, &err) != PINT_OK) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "%.100s", err.message);
        return NULL;
    }
    const pint_column wide = column_of(table, "wide");
    const uint32_t start = (uint32_t)random_below(&a->random, WORDS);
    for (uint32_t i = 0; i < WORDS && a->wrong[0] == '\0'; i++) {
        const uint32_t word = (start + i * 7) % WORDS; /* 7 and WORDS have no common divisor */
        char text[16];
        const char *have;
        uint64_t bytes;
        (void)snprintf(text, sizeof(text), "word %u", word);
        pint_status status =
            pint_column_add_category(&wide, text, strlen(text), &a->codes[word], &err);
        if (status == PINT_OK) {
            status = pint_column_category(&wide, (uint64_t)a->codes[word], &have, &bytes, &err);
        }
        if (status != PINT_OK) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "%.100s", err.message);
        } else if (bytes != strlen(text) || memcmp(have, text, bytes) != 0) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "'%s' has the code of '%.*s'", text,
                           (int)bytes, have);
        }
    }
    pint_table_close(table);
    return NULL;
}

TEST(Category, AddedBySeveralThreadsHasOneCodeForAll, .timeout_s = 60)
{
    setting s;
    static adder adders[ADDERS];
    uint64_t random = random_seed();
    set_up(&s);
    local_table_publish(s.session, s.table);
    for (uint32_t i = 0; i < ADDERS; i++) {
        adders[i] =
            (adder){.session = i % 2 == 0 ? s.session : s.other, .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&adders[i].thread, NULL, add_words, &adders[i]), 0);
    }
    for (uint32_t i = 0; i < ADDERS; i++) {
        (void)pthread_join(adders[i].thread, NULL);
        EXPECT_STREQ(adders[i].wrong, "");
    }
    const pint_column wide = column_of(s.table, "wide");
    EXPECT_EQ(pint_column_categories(&wide), (uint64_t)WORDS);
    for (uint32_t i = 1; i < ADDERS; i++) {
        EXPECT_MEMEQ(adders[i].codes, adders[0].codes, sizeof(adders[0].codes));
    }
    EXPECT_EQ(pinti_load64_seq(&pinti_column_desc_of(&wide)->state->xdict_lease), 0ull);
    tear_down(&s);
}
