/* SPDX-License-Identifier: Apache-2.0 */

/* Categories put all at once, and the index by which they are found among many. Adding one by one
 * is in text_test.c. */

#include <pthread.h>
#include <string.h>

#include "tests/host/fixture.h"

#define MANY 100000u
#define ROOM (MANY * 12u)

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
    pint_table *table;
    pint_column small, many, x;
} setting;

static void set_up(setting *s)
{
    pint_field fields[] = {field_of("small", PINT_DICT_TEXT, 0),
                           field_of("many", PINT_DICT_TEXT, 0), field_of("x", PINT_INT64, 0)};
    fields[0].item_type = PINT_INT8;
    fields[0].n_categories = 4;
    fields[0].data_bytes = 16;
    fields[1].item_type = PINT_INT32;
    fields[1].n_categories = MANY;
    fields[1].data_bytes = ROOM;
    pint_schema schema = schema_of(fields, COUNT_OF(fields), 512);
    schema.flags = PINT_UNINITIALISED;
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
    s->table = local_table_build(s->session, "t", &schema, 100);
    s->small = column_of(s->table, "small");
    s->many = column_of(s->table, "many");
    s->x = column_of(s->table, "x");
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

static bool category_is(const pint_column *column, uint64_t code, const char *text)
{
    const char *have = NULL;
    uint64_t bytes = 0;
    return pint_column_category(column, code, &have, &bytes, NULL) == PINT_OK &&
           bytes == strlen(text) && memcmp(have, text, bytes) == 0;
}

static int32_t add(const pint_column *column, const char *text)
{
    int32_t code = -1;
    pint_error err;
    EXPECT_OK(pint_column_add_category(column, text, strlen(text), &code, &err), &err);
    return code;
}

static const pinti_column_state *state_of_column(const pint_column *column)
{
    return pinti_column_desc_of(column)->state;
}

/* ---- all at once ----------------------------------------------------------------------------- */

TEST(PutCategories, CodesAreInTheirOrderAndFurtherOnesCanBeAdded)
{
    setting s;
    pint_error err;
    static const int64_t offsets[] = {3, 6, 6, 11};
    pint_table *theirs;
    set_up(&s);
    ASSERT_OK(pint_column_put_categories(&s.small, 3, offsets, "???redgreen", &err), &err);
    EXPECT_EQ(pint_column_categories(&s.small), 3ull);
    EXPECT_TRUE(category_is(&s.small, 0, "red"));
    EXPECT_TRUE(category_is(&s.small, 1, ""));
    EXPECT_TRUE(category_is(&s.small, 2, "green"));
    EXPECT_EQ(add(&s.small, "green"), 2);
    EXPECT_EQ(add(&s.small, ""), 1);
    local_table_publish(s.session, s.table);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_WRITE, &theirs, &err), &err);
    const pint_column small = column_of(theirs, "small");
    EXPECT_EQ(add(&small, "red"), 0);
    EXPECT_EQ(add(&small, "blue"), 3);
    EXPECT_EQ(pinti_load64_seq(&state_of_column(&small)->xdict_lease), 0ull);
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(PutCategories, OfNoneIsGoodAndMayBeFollowedByOthers)
{
    setting s;
    static const int64_t offsets[] = {7, 7};
    set_up(&s);
    EXPECT_OK(pint_column_put_categories(&s.small, 0, NULL, NULL, NULL), NULL);
    EXPECT_OK(pint_column_put_categories(&s.small, 0, offsets, NULL, NULL), NULL);
    EXPECT_EQ(pint_column_categories(&s.small), 0ull);
    EXPECT_OK(pint_column_put_categories(&s.small, 1, offsets, NULL, NULL), NULL); /* one, empty */
    EXPECT_TRUE(category_is(&s.small, 0, ""));
    tear_down(&s);
}

TEST(PutCategories, FillsTheRoomToTheLastByteAndNoFurther)
{
    setting s;
    static const char text[] = "0123456789abcdefg";
    static const int64_t over[] = {0, 17};
    static const int64_t full[] = {1, 2, 3, 4, 17};
    static const int64_t many[] = {0, 1, 2, 3, 4, 5};
    set_up(&s);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_categories(&s.small, 1, over, text, NULL), NULL);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_categories(&s.small, 5, many, text, NULL), NULL);
    EXPECT_STATUS(PINT_E_RANGE, pint_column_put_categories(&s.small, UINT64_MAX, many, text, NULL),
                  NULL); /* before it reads so many offsets */
    EXPECT_EQ(pint_column_categories(&s.small), 0ull);
    EXPECT_OK(pint_column_put_categories(&s.small, 4, full, text, NULL), NULL);
    EXPECT_TRUE(category_is(&s.small, 3, "456789abcdefg"));
    tear_down(&s);
}

TEST(PutCategories, BadOffsetsAndBadTextAreRefusedAndNothingIsWritten)
{
    setting s;
    pint_error err;
    static const int64_t down[] = {0, 3, 2, 4};
    static const int64_t negative[] = {-1, 2};
    static const int64_t lowest[] = {INT64_MIN, INT64_MAX};
    static const int64_t good[] = {0, 2, 4};
    static const int64_t inside[] = {0, 1, 2}; /* two halves of one character */
    set_up(&s);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(NULL, 2, good, "abcd", &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 2, NULL, "abcd", &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 2, good, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_TYPE, pint_column_put_categories(&s.x, 2, good, "abcd", &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 3, down, "abcd", &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 1, negative, "abcd", &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 1, lowest, "abcd", &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_column_put_categories(&s.small, 2, good,
                                             "ab\xff"
                                             "d",
                                             &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 2, good, "abc\xc3", &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_put_categories(&s.small, 2, inside, "\xc3\xbc", &err),
                  &err);
    EXPECT_EQ(pint_column_categories(&s.small), 0ull);
    EXPECT_EQ(pinti_load64_seq(&state_of_column(&s.small)->xdict_lease), 0ull);
    EXPECT_OK(pint_column_put_categories(&s.small, 2, good, "ab\xc3\xbc", &err), &err);
    tear_down(&s);
}

TEST(PutCategories, TwiceOrAfterPublishingIsAWrongState)
{
    setting s;
    pint_error err;
    static const int64_t offsets[] = {0, 1};
    set_up(&s);
    ASSERT_OK(pint_column_put_categories(&s.small, 1, offsets, "a", &err), &err);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_categories(&s.small, 1, offsets, "b", &err), &err);
    EXPECT_TRUE(category_is(&s.small, 0, "a"));
    EXPECT_EQ(add(&s.many, "z"), 0);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_categories(&s.many, 1, offsets, "b", &err), &err);
    EXPECT_EQ(pinti_load64_seq(&state_of_column(&s.many)->xdict_lease), 0ull);
    local_table_publish(s.session, s.table);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_categories(&s.small, 1, offsets, "b", &err), &err);
    tear_down(&s);
}

/* ---- the index ------------------------------------------------------------------------------- */

static void name_of(uint32_t i, char out[16])
{
    (void)snprintf(out, 16, "text %u", i * 7919u % MANY); /* 7919 and MANY: no common divisor */
}

/* The linear search this replaces takes a minute for it. */
TEST(DictIndex, FindsEachOfAHundredThousand, .timeout_s = 100)
{
    setting s;
    char text[16];
    set_up(&s);
    for (uint32_t i = 0; i < MANY; i++) {
        name_of(i, text);
        ASSERT_EQ(add(&s.many, text), (int32_t)i);
    }
    for (uint32_t i = 0; i < MANY; i += 3) {
        name_of(i, text);
        ASSERT_EQ(add(&s.many, text), (int32_t)i);
    }
    EXPECT_EQ(pint_column_categories(&s.many), (uint64_t)MANY);
    tear_down(&s);
}

TEST(DictIndex, TakesInWhatOthersPutAtOnceAndAdded)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    char text[16];
    static char all[MANY * 11];
    static int64_t offsets[MANY + 1];
    enum { N = 50000 };
    set_up(&s);
    for (uint32_t i = 0; i < N; i++) {
        name_of(i, text);
        memcpy(all + offsets[i], text, strlen(text));
        offsets[i + 1] = offsets[i] + (int64_t)strlen(text);
    }
    ASSERT_OK(pint_column_put_categories(&s.many, N, offsets, all, &err), &err);
    local_table_publish(s.session, s.table);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_WRITE, &theirs, &err), &err);
    const pint_column many = column_of(theirs, "many");
    for (uint32_t i = 0; i < N + 1000; i++) { /* by turns: each learns what the other added */
        name_of(i, text);
        ASSERT_EQ(add(i % 2 != 0 ? &many : &s.many, text), (int32_t)i);
        ASSERT_EQ(add(i % 2 != 0 ? &s.many : &many, text), (int32_t)i);
    }
    pint_table_close(theirs);
    tear_down(&s);
}

TEST(DictIndex, OfATextThatIsThereTwiceGivesTheFirstCode)
{
    setting s;
    static const int64_t offsets[] = {0, 1, 2, 3};
    set_up(&s);
    ASSERT_OK(pint_column_put_categories(&s.small, 3, offsets, "aba", NULL), NULL);
    EXPECT_EQ(add(&s.small, "a"), 0);
    EXPECT_EQ(add(&s.small, "b"), 1);
    tear_down(&s);
}

TEST(DictIndex, NeverGivesACodeWhoseTextIsAnother)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(add(&s.many, "red"), 0);
    EXPECT_EQ(add(&s.many, "blue"), 1);
    EXPECT_EQ(add(&s.many, "red"), 0);
    const pinti_column_desc *desc = pinti_column_desc_of(&s.many);
    desc->data[0] = 'b'; /* a hostile peer makes a bed of it */
    EXPECT_EQ(add(&s.many, "red"), 2);
    EXPECT_TRUE(category_is(&s.many, 2, "red"));
    EXPECT_EQ(add(&s.many, "blue"), 1);
    tear_down(&s);
}

TEST(DictIndex, SurvivesOffsetsThatCannotBe)
{
    setting s;
    pint_error err;
    int32_t code;
    uint64_t random = random_seed();
    set_up(&s);
    const pinti_column_desc *desc = pinti_column_desc_of(&s.many);
    for (uint32_t n = 0; n < 200; n++) {
        char text[16];
        name_of(n, text);
        const pint_status status =
            pint_column_add_category(&s.many, text, strlen(text), &code, &err);
        EXPECT_TRUE(status == PINT_OK || status == PINT_E_RANGE);
        const uint64_t published = pint_column_categories(&s.many);
        desc->dict_offsets[random_below(&random, published + 1)] =
            random_below(&random, 2) != 0 ? (int64_t)random_next(&random)
                                          : (int64_t)random_below(&random, ROOM);
        if (n % 50 == 49) { /* and a count that jumps: what lies there was never written */
            pinti_store64_seq(&desc->state->xdict_count, random_below(&random, MANY));
        }
    }
    pinti_store64_seq(&desc->state->xdict_count, UINT64_MAX);
    EXPECT_LT(pint_column_add_category(&s.many, "one more", 8, &code, &err), 0);
    tear_down(&s);
}

#define ADDERS 4u
#define WORDS  3000u

typedef struct adder {
    pthread_t thread;
    const pint_column *column;
    uint32_t start;
    pint_status status;
    int32_t codes[WORDS];
} adder;

static void *add_words(void *argument)
{
    adder *a = argument;
    for (uint32_t i = 0; i < WORDS && a->status == PINT_OK; i++) {
        const uint32_t word = (a->start + i * 7) % WORDS; /* 7 and WORDS: no common divisor */
        char text[16];
        name_of(word, text);
        a->status = pint_column_add_category(a->column, text, strlen(text), &a->codes[word], NULL);
    }
    return NULL;
}

TEST(DictIndex, IsSharedByTheThreadsOfASession, .timeout_s = 60)
{
    setting s;
    static adder adders[ADDERS];
    set_up(&s);
    for (uint32_t i = 0; i < ADDERS; i++) {
        adders[i] = (adder){.column = &s.many, .start = i * (WORDS / ADDERS)};
        ASSERT_EQ(pthread_create(&adders[i].thread, NULL, add_words, &adders[i]), 0);
    }
    for (uint32_t i = 0; i < ADDERS; i++) {
        (void)pthread_join(adders[i].thread, NULL);
        EXPECT_OK(adders[i].status, NULL);
        EXPECT_MEMEQ(adders[i].codes, adders[0].codes, sizeof(adders[0].codes));
    }
    EXPECT_EQ(pint_column_categories(&s.many), (uint64_t)WORDS);
    tear_down(&s);
}
