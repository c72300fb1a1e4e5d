/* SPDX-License-Identifier: Apache-2.0 */

/* Opening by name against publish, drop, rename, replace and freeze: what is found, which
 * references are left, and that memory comes back. The thread tests run under ThreadSanitizer. */

#include <pthread.h>
#include <string.h>

#include "host/job.h"
#include "host/name.h"
#include "tests/host/fixture.h"

#define CHUNK_ROWS 512u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
} setting;

static void set_up(setting *s)
{
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
}

static pint_table *build(pint_pool *session, const char *name, uint64_t rows)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    return local_table_build(session, name, &schema, rows);
}

static pint_table *make(pint_pool *session, const char *name, uint64_t rows)
{
    pint_table *table = build(session, name, rows);
    local_table_publish(session, table);
    return table;
}

static uint64_t reference(const pint_pool *pool, uint32_t index)
{
    return pinti_load64_seq(&pinti_slot_tables(pool->slot)[index]);
}

static pint_status try_open(pint_pool *pool, const char *name, uint32_t mode)
{
    pint_table *table;
    const pint_status status = pint_table_open(pool, name, mode, &table, NULL);
    if (status == PINT_OK) {
        pint_table_close(table);
    }
    return status;
}

/* ---- finding --------------------------------------------------------------------------------- */

TEST(Open, FindsAPublishedTableInEverySession)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    char name[PINT_NAME_BYTES_MAX + 1];
    set_up(&s);
    pint_table *mine = make(s.session, "t", 1000);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    EXPECT_EQ(pint_table_rows(theirs), 1000ull);
    EXPECT_EQ(pint_table_columns(theirs), 1u);
    EXPECT_EQ(pint_table_chunk_rows(theirs), (uint64_t)CHUNK_ROWS);
    EXPECT_EQ(pint_table_chunks(theirs), 2ull);
    EXPECT_TRUE(pint_table_pool(theirs) == s.other);
    EXPECT_TRUE(column_of(theirs, "x").values == column_of(mine, "x").values);
    pint_table_name(theirs, name);
    EXPECT_STREQ(name, "t");
    pint_table_close(theirs);
    pint_table_close(mine);
    local_pool_free(s.local);
}

TEST(Open, DoesNotFindWhatIsNotPublished)
{
    setting s;
    set_up(&s);
    pint_table *table = build(s.session, "t", 10);
    EXPECT_EQ(try_open(s.session, "t", PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_E_NOT_FOUND);
    local_table_publish(s.session, table);
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_OK);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Open, DoesNotFindOtherSpellings)
{
    setting s;
    pint_error err;
    pint_table *table = NULL;
    static const char *const others[] = {"",     "T",       "table ",    " table",
                                         "tabl", "table\n", "e\xcc\x81", "%s%n"};
    set_up(&s);
    pint_table_close(make(s.session, "table", 10));
    pint_table_close(make(s.session, "\xc3\xa9", 10)); /* composed; "e\xcc\x81" is not */
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        EXPECT_STATUS(others[i][0] == '\0' ? PINT_E_INVALID : PINT_E_NOT_FOUND,
                      pint_table_open(s.session, others[i], PINT_READ, &table, &err), &err);
    }
    EXPECT_TRUE(table == NULL);
    local_pool_free(s.local);
}

TEST(Open, MessageOfANameThatIsNotThereIsPrintable)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    EXPECT_STATUS(PINT_E_NOT_FOUND,
                  pint_table_open(s.session, "a\x1b[31m\n", PINT_READ, &table, &err), &err);
    EXPECT_TRUE(strstr(err.message, "'a?[31m?'") != NULL);
    local_pool_free(s.local);
}

TEST(Open, RefusesNamesAndModesThatAreNone)
{
    setting s;
    pint_error err;
    pint_table *table;
    char name[PINT_NAME_BYTES_MAX + 2];
    set_up(&s);
    memset(name, 'n', sizeof(name));
    name[PINT_NAME_BYTES_MAX + 1] = '\0';
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, name, PINT_READ, &table, &err), &err);
    name[PINT_NAME_BYTES_MAX] = '\0';
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(s.session, name, PINT_READ, &table, &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, "t", 0, &table, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, "t", 4, &table, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, "t", PINT_READ | 8, &table, &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(NULL, "t", PINT_READ, &table, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, NULL, PINT_READ, &table, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open(s.session, "t", PINT_READ, NULL, &err), &err);
    local_pool_free(s.local);
}

TEST(Open, FindsTheLongestName)
{
    setting s;
    char name[PINT_NAME_BYTES_MAX + 1];
    set_up(&s);
    memset(name, 'n', sizeof(name));
    name[PINT_NAME_BYTES_MAX] = '\0';
    pint_table_close(make(s.session, name, 10));
    EXPECT_EQ(try_open(s.other, name, PINT_READ), PINT_OK);
    name[PINT_NAME_BYTES_MAX - 1] = 'm';
    EXPECT_EQ(try_open(s.other, name, PINT_READ), PINT_E_NOT_FOUND);
    local_pool_free(s.local);
}

TEST(Open, FindsEachOfManyTables)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (uint32_t i = 0; i < 300; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "table %u", i);
        pint_table_close(make(s.session, name, i));
    }
    for (uint32_t i = 0; i < 300; i++) {
        char name[32];
        pint_table *table;
        (void)snprintf(name, sizeof(name), "table %u", i);
        ASSERT_OK(pint_table_open(s.other, name, PINT_READ, &table, &err), &err);
        EXPECT_EQ(pint_table_rows(table), (uint64_t)i);
        pint_table_close(table);
    }
    local_pool_free(s.local);
}

TEST(NextTable, ListsEveryLiveTableOnceAndNoOther)
{
    setting s;
    pint_error err;
    char name[PINT_NAME_BYTES_MAX + 1];
    uint32_t seen = 0;
    uint64_t cursor = 0;
    set_up(&s);
    static const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        pint_table_close(make(s.session, names[i], 1));
    }
    pint_table *building = build(s.session, "e", 1);
    EXPECT_OK(local_table_drop(s.session, "b"), NULL);
    pint_status status;
    while ((status = pint_pool_next_table(s.other, &cursor, name, &err)) == PINT_OK) {
        ASSERT_EQ(strlen(name), 1u);
        EXPECT_EQ(seen >> (name[0] - 'a') & 1u, 0u);
        seen |= 1u << (name[0] - 'a');
    }
    EXPECT_STATUS(PINT_E_NOT_FOUND, status, &err);
    EXPECT_EQ(seen, 0xdu);
    pint_table_close(building);
    local_pool_free(s.local);
}

/* ---- references ------------------------------------------------------------------------------ */

TEST(Reference, EveryOpenCountsAndEveryCloseTakesOneBack)
{
    setting s;
    pint_error err;
    pint_table *handles[5];
    set_up(&s);
    pint_table *first = make(s.session, "t", 10);
    const uint32_t index = pinti_table_index(first);
    for (uint32_t i = 0; i < 5; i++) {
        const uint32_t mode = i % 2 == 0 ? PINT_READ : PINT_WRITE;
        ASSERT_OK(pint_table_open(s.session, "t", mode, &handles[i], &err), &err);
        EXPECT_EQ(pinti_ref_count(reference(s.session, index)), i + 2);
    }
    EXPECT_EQ(pinti_ref_generation(reference(s.session, index)), pinti_table_generation(first));
    EXPECT_EQ(pinti_ref_count(reference(s.other, index)), 0u);
    for (uint32_t i = 0; i < 5; i++) {
        pint_table_close(handles[i]);
        EXPECT_EQ(pinti_ref_count(reference(s.session, index)), 5 - i);
    }
    pint_table_close(first);
    EXPECT_EQ(pinti_ref_count(reference(s.session, index)), 0u);
    local_pool_free(s.local);
}

TEST(Reference, OneCloseTooManyIsHarmless)
{
    setting s;
    set_up(&s);
    pint_table *table = make(s.session, "t", 10);
    pint_table_close(table);
    pint_table_close(table);
    pint_table_close(NULL);
    EXPECT_EQ(pinti_ref_count(reference(s.session, pinti_table_index(table))), 0u);
    EXPECT_EQ(try_open(s.session, "t", PINT_READ), PINT_OK);
    local_pool_free(s.local);
}

TEST(Reference, AFailedOpenLeavesNone)
{
    setting s;
    set_up(&s);
    pint_table *table = make(s.session, "t", 10);
    const uint32_t index = pinti_table_index(table);
    ASSERT_OK(local_table_freeze(table), NULL);
    pint_table_close(table);
    EXPECT_EQ(try_open(s.other, "t", PINT_WRITE), PINT_E_FROZEN);
    EXPECT_EQ(pinti_ref_count(reference(s.other, index)), 0u);
    local_pool_free(s.local);
}

TEST(Reference, InAReplacedPoolNothingIsOpenedAndNoneIsLeft)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    pint_table *mine = make(s.session, "t", 10);
    pinti_slot_header *slot = (pinti_slot_header *)(void *)s.other->slot;
    pinti_store32_seq(&slot->xstale, 1);
    EXPECT_STATUS(PINT_E_STALE, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    EXPECT_EQ(pinti_ref_count(reference(s.other, pinti_table_index(mine))), 0u);
    pint_table_close(mine);
    local_pool_free(s.local);
}

TEST(Reference, TakeCountsOnlyOneGenerationAtATime)
{
    pinti_a64 refs[2] = {0};
    EXPECT_TRUE(pinti_ref_take(refs, 1, 7));
    EXPECT_TRUE(pinti_ref_take(refs, 1, 7));
    EXPECT_FALSE(pinti_ref_take(refs, 1, 8));
    EXPECT_FALSE(pinti_ref_drop(refs, 1, 8));
    EXPECT_TRUE(pinti_ref_drop(refs, 1, 7));
    EXPECT_TRUE(pinti_ref_drop(refs, 1, 7));
    EXPECT_FALSE(pinti_ref_drop(refs, 1, 7));
    EXPECT_TRUE(pinti_ref_take(refs, 1, 8));
    EXPECT_EQ(pinti_load64_seq(&refs[1]), 8ull << 32 | 1);
    EXPECT_EQ(pinti_load64_seq(&refs[0]), 0ull);
}

TEST(Reference, CountNeverRunsIntoTheGeneration)
{
    pinti_a64 refs[1];
    pinti_store64_seq(refs, 7ull << 32 | UINT32_MAX);
    EXPECT_FALSE(pinti_ref_take(refs, 0, 7));
    EXPECT_EQ(pinti_load64_seq(refs), 7ull << 32 | UINT32_MAX);
}

/* ---- modes ----------------------------------------------------------------------------------- */

TEST(OpenMode, AReadHandleCannotWrite)
{
    setting s;
    pint_error err;
    pint_table *table;
    pint_lease lease;
    pint_job *job;
    const pint_use uses[] = {{"x", PINT_OUT, 0}};
    set_up(&s);
    pint_table_close(make(s.session, "t", 10));
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ, &table, &err), &err);
    const pint_column x = column_of(table, "x");
    EXPECT_FALSE(pint_table_is_writable(table));
    EXPECT_STATUS(PINT_E_PERMISSION, pint_column_mark(&x, 0, 1, &err), &err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_column_recover(&x, 0, &err), &err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_lease_claim(&x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_job_create(table, "j", uses, 1, &job, &err), &err);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(OpenMode, OneSessionHasHandlesOfBothModes)
{
    setting s;
    pint_error err;
    pint_table *reader;
    pint_table *writer;
    set_up(&s);
    pint_table_close(make(s.session, "t", 10));
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ, &reader, &err), &err);
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ | PINT_WRITE, &writer, &err), &err);
    EXPECT_FALSE(pint_table_is_writable(reader));
    EXPECT_TRUE(pint_table_is_writable(writer));
    pint_table_close(writer);
    EXPECT_EQ(pint_table_rows(reader), 10ull);
    pint_table_close(reader);
    local_pool_free(s.local);
}

TEST(OpenMode, APoolJoinedReadOnlyOpensOnlyToRead)
{
    setting s;
    set_up(&s);
    pint_table_close(make(s.session, "t", 10));
    s.other->writable = false;
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_OK);
    EXPECT_EQ(try_open(s.other, "t", PINT_WRITE), PINT_E_PERMISSION);
    local_pool_free(s.local);
}

/* ---- drop ------------------------------------------------------------------------------------ */

TEST(Drop, TheNameIsGoneAndTheOpenTableStaysWhole)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    set_up(&s);
    const uint64_t before = local_pool_used(s.local);
    pint_table *mine = make(s.session, "t", 2000);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    const pint_column x = column_of(mine, "x");
    ((int64_t *)x.values)[1999] = 77;
    EXPECT_FALSE(pint_table_is_dropped(theirs));
    ASSERT_OK(local_table_drop(s.session, "t"), NULL);
    EXPECT_EQ(try_open(s.session, "t", PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_TRUE(pint_table_is_dropped(theirs));
    EXPECT_EQ(((const int64_t *)column_of(theirs, "x").values)[1999], 77);
    pint_table_close(mine);
    EXPECT_NE(local_pool_used(s.local), before); /* the other one still has it */
    pint_table_close(theirs);
    EXPECT_EQ(local_pool_used(s.local), before);
    local_pool_free(s.local);
}

TEST(Drop, AReusedIndexHasANewGeneration)
{
    setting s;
    set_up(&s);
    pint_table *old = make(s.session, "t", 10);
    const uint32_t index = pinti_table_index(old);
    const uint32_t generation = pinti_table_generation(old);
    pint_table_close(old);
    ASSERT_OK(local_table_drop(s.session, "t"), NULL);
    pint_table *table = make(s.session, "t", 20);
    ASSERT_EQ(pinti_table_index(table), index);
    EXPECT_NE(pinti_table_generation(table), generation);
    EXPECT_EQ(pint_table_rows(table), 20ull);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Drop, AnIndexIsNotReusedWhileAnybodyRefersToIt)
{
    setting s;
    pint_error err;
    pint_table *theirs;
    set_up(&s);
    pint_table *old = make(s.session, "t", 10);
    const uint32_t index = pinti_table_index(old);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    pint_table_close(old);
    ASSERT_OK(local_table_drop(s.session, "t"), NULL);
    pint_table *table = make(s.session, "t", 20);
    EXPECT_NE(pinti_table_index(table), index);
    EXPECT_EQ(pint_table_rows(theirs), 10ull);
    pint_table_close(table);
    pint_table_close(theirs);
    local_pool_free(s.local);
}

TEST(Drop, ClosingAnUnpublishedTableDropsIt)
{
    setting s;
    set_up(&s);
    const uint64_t before = local_pool_used(s.local);
    pint_table *table = build(s.session, "t", 2000);
    EXPECT_NE(local_pool_used(s.local), before);
    pint_table_close(table);
    EXPECT_EQ(local_pool_used(s.local), before);
    pint_table_close(make(s.session, "t", 10)); /* the name is free */
    local_pool_free(s.local);
}

TEST(Drop, DeathOfTheCreatorDropsWhatItHasNotPublished)
{
    setting s;
    set_up(&s);
    const uint64_t before = local_pool_used(s.local);
    (void)build(s.other, "t", 2000);
    (void)local_session_kill(s.local, s.other, false);
    EXPECT_EQ(local_pool_used(s.local), before);
    local_pool_free(s.local);
}

TEST(Drop, LeaseSetsOfATableGoWithItsLastHandle)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_table *again;
    set_up(&s);
    const uint64_t before = local_pool_used(s.local);
    pint_table *table = make(s.session, "t", 2000);
    const pint_column x = column_of(table, "x");
    ASSERT_OK(pint_lease_claim(&x, 1, 0, PINT_INOUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    ASSERT_OK(pint_table_open(s.session, "t", PINT_READ, &again, &err), &err);
    ASSERT_OK(local_table_drop(s.session, "t"), NULL);
    pint_table_close(table);
    EXPECT_NE(local_pool_used(s.local), before);
    pint_table_close(again);
    (void)local_pool_reap(s.local); /* the table after its jobs */
    EXPECT_EQ(local_pool_used(s.local), before);
    local_pool_free(s.local);
}

TEST(Drop, LeaseSetsAreMadeAnewAfterTheLastHandleWasClosed)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    pint_table_close(make(s.session, "t", 2000));
    for (int i = 0; i < 3; i++) {
        pint_table *table;
        ASSERT_OK(pint_table_open(s.session, "t", PINT_WRITE, &table, &err), &err);
        const pint_column x = column_of(table, "x");
        ASSERT_OK(pint_lease_claim(&x, 1, 1, PINT_INOUT, 0, &lease, &err), &err);
        ASSERT_OK(pint_lease_commit(&lease, &err), &err);
        EXPECT_TRUE(table->desc->lease_sets != NULL);
        pint_table_close(table);
        EXPECT_TRUE(table->desc->lease_sets == NULL);
    }
    local_pool_free(s.local);
}

/* ---- rename, replace, freeze ----------------------------------------------------------------- */

TEST(Rename, TheTableIsFoundUnderTheNewNameOnly)
{
    setting s;
    char name[PINT_NAME_BYTES_MAX + 1];
    set_up(&s);
    pint_table *table = make(s.session, "old", 10);
    ASSERT_OK(local_table_rename(s.session, "old", "new"), NULL);
    EXPECT_EQ(try_open(s.other, "old", PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_EQ(try_open(s.other, "new", PINT_READ), PINT_OK);
    pint_table_name(table, name);
    EXPECT_STREQ(name, "new");
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Rename, ATakenNameIsRefusedAndNothingChanges)
{
    setting s;
    set_up(&s);
    pint_table_close(make(s.session, "a", 10));
    pint_table_close(make(s.session, "b", 10));
    EXPECT_STATUS(PINT_E_EXISTS, local_table_rename(s.session, "a", "b"), NULL);
    EXPECT_EQ(try_open(s.other, "a", PINT_READ), PINT_OK);
    EXPECT_EQ(try_open(s.other, "b", PINT_READ), PINT_OK);
    local_pool_free(s.local);
}

TEST(Rename, AnOldNameCanBeTakenByAnotherTable)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    pint_table_close(make(s.session, "a", 10));
    ASSERT_OK(local_table_rename(s.session, "a", "b"), NULL);
    pint_table_close(make(s.session, "a", 20));
    ASSERT_OK(pint_table_open(s.other, "a", PINT_READ, &table, &err), &err);
    EXPECT_EQ(pint_table_rows(table), 20ull);
    pint_table_close(table);
    ASSERT_OK(pint_table_open(s.other, "b", PINT_READ, &table, &err), &err);
    EXPECT_EQ(pint_table_rows(table), 10ull);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Replace, TheNameLeadsToTheNewTableAndTheOldOneStaysOpen)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    pint_table *old = make(s.session, "t", 10);
    pint_table *fresh = build(s.session, "t", 20);
    local_table_replace(s.session, fresh);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    EXPECT_EQ(pint_table_rows(table), 20ull);
    EXPECT_TRUE(pint_table_is_dropped(old));
    EXPECT_FALSE(pint_table_is_dropped(fresh));
    EXPECT_EQ(pint_table_rows(old), 10ull);
    pint_table_close(table);
    pint_table_close(fresh);
    pint_table_close(old);
    local_pool_free(s.local);
}

TEST(Freeze, NobodyOpensItForWritingAndOlderHandlesAreRefused)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    pint_table *table = make(s.session, "t", 10);
    const pint_column x = column_of(table, "x");
    EXPECT_TRUE(pint_table_is_writable(table));
    ASSERT_OK(local_table_freeze(table), NULL);
    EXPECT_TRUE(pint_table_is_frozen(table));
    EXPECT_FALSE(pint_table_is_writable(table));
    EXPECT_EQ(try_open(s.other, "t", PINT_WRITE), PINT_E_FROZEN);
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_OK);
    EXPECT_STATUS(PINT_E_FROZEN, pint_column_mark(&x, 0, 1, &err), &err);
    EXPECT_STATUS(PINT_E_FROZEN, pint_lease_claim(&x, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_FROZEN, pint_lease_claim(&x, 1, 0, PINT_INOUT, 0, &lease, &err), &err);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Freeze, AJobMadeBeforeHandsOutNoChunk)
{
    setting s;
    pint_error err;
    pint_lease lease;
    pint_job *job;
    const pint_use uses[] = {{"x", PINT_INOUT, 0}};
    set_up(&s);
    pint_table *table = make(s.session, "t", 4 * CHUNK_ROWS);
    ASSERT_OK(pint_job_create(table, "j", uses, 1, &job, &err), &err);
    ASSERT_OK(local_table_freeze(table), NULL);
    EXPECT_STATUS(PINT_E_FROZEN, pint_job_next(job, &lease, &err), &err);
    pint_job_close(job);
    pint_table_close(table);
    local_pool_free(s.local);
}

/* ---- records that cannot be ------------------------------------------------------------------ */

TEST(Record, ThatCannotBeIsRefusedAndNoReferenceIsLeft)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    pint_table *mine = make(s.session, "t", 2000);
    const uint32_t index = pinti_table_index(mine);
    pinti_table_rec *rec = &pinti_cat_tables(s.other->catalog)[index];
    pinti_column_rec *column = &pinti_cat_columns(s.other->catalog)[rec->runs[0].first];
    const pinti_column_rec good_column = *column;
    const uint64_t chunk_rows = rec->chunk_rows;
    const uint32_t n_chunks = rec->n_chunks;
    const uint32_t count = rec->runs[0].count;
    uint64_t *const offsets[] = {&column->values_off, &column->words_off, &column->state_off};
    static const uint64_t wrong[] = {1, 8, UINT64_MAX - 63, 1ull << 40, PINTI_NO_BUFFER};
    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
        for (size_t k = 0; k < COUNT_OF(wrong); k++) {
            *offsets[i] = wrong[k];
            EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err),
                          &err);
            *column = good_column;
        }
    }
    column->type = 99;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    *column = good_column;
    column->row_bytes = UINT32_MAX;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    *column = good_column;
    column->flags |= PINT_NULLABLE; /* without a bitmap */
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    *column = good_column;
    column->name_bytes = 256;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    *column = good_column;
    rec->chunk_rows = 3;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    rec->chunk_rows = chunk_rows;
    rec->n_chunks = n_chunks + 1;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    rec->n_chunks = n_chunks;
    rec->runs[0].count = 0;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    rec->runs[0].count = count;
    EXPECT_EQ(pinti_ref_count(reference(s.other, index)), 0u);
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_OK);
    pint_table_close(mine);
    local_pool_free(s.local);
}

TEST(Record, ASlotThatRefersToAnotherGenerationIsCorrupt)
{
    setting s;
    pint_error err;
    pint_table *table;
    set_up(&s);
    pint_table *mine = make(s.session, "t", 10);
    pinti_a64 *word = &pinti_slot_tables(s.other->slot)[pinti_table_index(mine)];
    pinti_store64_seq(word, 0x7777ull << 32 | 1);
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    pinti_store64_seq(word, 0);
    EXPECT_EQ(try_open(s.other, "t", PINT_READ), PINT_OK);
    pint_table_close(mine);
    local_pool_free(s.local);
}

/* ---- threads --------------------------------------------------------------------------------- */

#define FAMILIES       2
#define NAMES          3 /* of a family */
#define OPENERS        4
#define ROUNDS         150
#define N_ROWS(value_) (CHUNK_ROWS + (uint64_t)(value_) % 5 * 100)

typedef struct race {
    setting s;
    pinti_a32 stop;
    pinti_a64 n_opened;
} race;

typedef struct actor {
    pthread_t thread;
    race *race;
    pint_pool *session;
    uint32_t family;
    uint64_t random;
    char wrong[120]; /* what was seen that must not be; "" if all was well */
} actor;

static void name_of(char out[16], uint32_t family, uint64_t n)
{
    (void)snprintf(out, 16, "f%u-%" PRIu64, family, n);
}

/* Have the openers had their share? On a busy machine it takes more rounds. */
static bool opened_enough(race *r, int64_t n_rounds)
{
    return pinti_load64_relaxed(&r->n_opened) >= 100 || n_rounds >= 1000 * ROUNDS;
}

/* Builds, publishes, replaces, renames and drops tables of one family. Every row of a table holds
 * its value; the value says the family and the number of rows. */
static void *churn(void *argument)
{
    actor *a = argument;
    for (int64_t n = 0; n < ROUNDS || !opened_enough(a->race, n); n++) {
        const int64_t value = n * FAMILIES + a->family;
        char name[16];
        char other[16];
        name_of(name, a->family, random_below(&a->random, NAMES));
        name_of(other, a->family, random_below(&a->random, NAMES));
        pint_table *table = build(a->session, name, N_ROWS(value));
        int64_t *x = column_of(table, "x").values;
        for (uint64_t row = 0; row < N_ROWS(value); row++) {
            x[row] = value;
        }
        local_table_replace(a->session, table);
        (void)local_table_rename(a->session, name, other); /* taken, perhaps by itself */
        if (random_below(&a->random, 2) == 0) {
            pint_table_close(table);
            (void)local_table_drop(a->session, other);
        } else {
            (void)local_table_drop(a->session, other);
            pint_table_close(table);
        }
    }
    return NULL;
}

static void check_table(actor *a, pint_table *table, uint32_t family)
{
    const pint_column column = column_of(table, "x");
    const int64_t *x = column.values;
    const uint64_t rows = pint_table_rows(table);
    const int64_t value = x[0];
    if (value % FAMILIES != family || rows != N_ROWS(value)) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "family %u: value %" PRId64 ", %" PRIu64 " rows",
                       family, value, rows);
    }
    for (uint64_t row = 0; row < rows; row++) {
        if (x[row] != value) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "row %" PRIu64 ": %" PRId64 " not %" PRId64,
                           row, x[row], value);
        }
    }
}

static void *open_often(void *argument)
{
    actor *a = argument;
    while (pinti_load32_acquire(&a->race->stop) == 0 && a->wrong[0] == '\0') {
        const uint32_t family = (uint32_t)random_below(&a->random, FAMILIES);
        char name[16];
        pint_table *table;
        pint_error err;
        name_of(name, family, random_below(&a->random, NAMES));
        const pint_status status = pint_table_open(a->session, name, PINT_READ, &table, &err);
        if (status == PINT_OK) {
            (void)pinti_add64_relaxed(&a->race->n_opened, 1);
            check_table(a, table, family);
            pint_table_close(table);
        } else if (status != PINT_E_NOT_FOUND) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "%s: %.100s", pint_status_name(status),
                           err.message);
        }
    }
    return NULL;
}

TEST(OpenRace, OpenersNeverMeetAWrongTableAndAllMemoryComesBack, .timeout_s = 100)
{
    race r = {0};
    actor churners[FAMILIES] = {0};
    actor openers[OPENERS] = {0};
    uint64_t random = random_seed();
    set_up(&r.s);
    const uint64_t before = local_pool_used(r.s.local);
    for (uint32_t i = 0; i < OPENERS; i++) { /* two threads to a session */
        openers[i] = (actor){.race = &r,
                             .session = i % 2 == 0 ? r.s.session : r.s.other,
                             .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&openers[i].thread, NULL, open_often, &openers[i]), 0);
    }
    for (uint32_t i = 0; i < FAMILIES; i++) {
        churners[i] = (actor){.race = &r,
                              .session = local_session_new(r.s.local),
                              .family = i,
                              .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&churners[i].thread, NULL, churn, &churners[i]), 0);
    }
    for (uint32_t i = 0; i < FAMILIES; i++) {
        (void)pthread_join(churners[i].thread, NULL);
    }
    pinti_store32_release(&r.stop, 1);
    for (uint32_t i = 0; i < OPENERS; i++) {
        (void)pthread_join(openers[i].thread, NULL);
        EXPECT_STREQ(openers[i].wrong, "");
    }
    EXPECT_GT(pinti_load64_relaxed(&r.n_opened), 0ull);
    for (uint32_t family = 0; family < FAMILIES; family++) { /* what was renamed away and is left */
        for (uint32_t n = 0; n < NAMES; n++) {
            char name[16];
            name_of(name, family, n);
            (void)local_table_drop(r.s.session, name);
        }
    }
    (void)local_pool_reap(r.s.local);
    EXPECT_EQ(local_pool_used(r.s.local), before);
    for (uint32_t index = 0; index < 64; index++) {
        EXPECT_EQ(pinti_ref_count(reference(r.s.session, index)), 0u);
        EXPECT_EQ(pinti_ref_count(reference(r.s.other, index)), 0u);
    }
    local_pool_free(r.s.local);
}

/* One index reused as fast as it goes, by threads of one session: references of an old and the new
 * generation meet in one slot word. */
static void *open_one(void *argument)
{
    actor *a = argument;
    while (pinti_load32_acquire(&a->race->stop) == 0 && a->wrong[0] == '\0') {
        pint_table *table;
        pint_error err;
        const pint_status status = pint_table_open(a->session, "t", PINT_WRITE, &table, &err);
        if (status == PINT_OK) {
            const pint_column x = column_of(table, "x");
            pint_lease lease;
            (void)pinti_add64_relaxed(&a->race->n_opened, 1);
            if (random_below(&a->random, 8) == 0 &&
                pint_lease_claim(&x, 1, 0, PINT_INOUT, 0, &lease, NULL) == PINT_OK &&
                pint_lease_commit(&lease, &err) != PINT_OK) {
                (void)snprintf(a->wrong, sizeof(a->wrong), "commit: %.100s", err.message);
            }
            pint_table_close(table);
        } else if (status != PINT_E_NOT_FOUND) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "%s: %.100s", pint_status_name(status),
                           err.message);
        }
    }
    return NULL;
}

TEST(OpenRace, ThreadsOfOneSessionOpenAndCloseWhileTheIndexIsReused, .timeout_s = 100)
{
    race r = {0};
    actor openers[OPENERS] = {0};
    uint64_t random = random_seed();
    set_up(&r.s);
    const uint64_t before = local_pool_used(r.s.local);
    for (uint32_t i = 0; i < OPENERS; i++) {
        openers[i] = (actor){.race = &r, .session = r.s.session, .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&openers[i].thread, NULL, open_one, &openers[i]), 0);
    }
    for (uint32_t n = 0; n < 20 * ROUNDS; n++) {
        pint_table_close(make(r.s.other, "t", 100 + n % 3));
        if (n % 4 == 0) { /* let them in before it goes */
            const uint64_t seen = pinti_load64_relaxed(&r.n_opened);
            (void)ct_eventually(pinti_load64_relaxed(&r.n_opened) != seen, 100);
        }
        EXPECT_STATUS(PINT_OK, local_table_drop(r.s.other, "t"), NULL);
    }
    pinti_store32_release(&r.stop, 1);
    for (uint32_t i = 0; i < OPENERS; i++) {
        (void)pthread_join(openers[i].thread, NULL);
        EXPECT_STREQ(openers[i].wrong, "");
    }
    while (local_pool_reap(r.s.local) != 0) {
    }
    EXPECT_EQ(local_pool_used(r.s.local), before);
    local_pool_free(r.s.local);
}

/* At a rename in progress the table answers first to the old name, then to the new one: who looks
 * for the old first and the new second, within one rename, finds it under one of them. */
typedef struct pingpong {
    race race;
    pinti_a64 phase; /* odd: rename phase / 2 is in progress */
} pingpong;

#define N_RENAMES 4000u
#define WATCHERS  3

/* They differ in several words, so that a rename takes several stores. */
static const char *const ping_pong[] = {"ping: a name that takes several words, ping",
                                        "pong: a name that takes several words, and more, pong"};

typedef struct watcher {
    pthread_t thread;
    pingpong *pp;
    pint_pool *session;
    pinti_a64 n_checked;
    uint64_t n_missed;
} watcher;

static void *watch(void *argument)
{
    watcher *w = argument;
    while (pinti_load32_acquire(&w->pp->race.stop) == 0) {
        const uint64_t phase = pinti_load64_seq(&w->pp->phase);
        const uint64_t at = phase / 2 % 2; /* name before the rename that is, or comes next */
        const bool old_found = try_open(w->session, ping_pong[at], PINT_READ) == PINT_OK;
        const bool new_found = try_open(w->session, ping_pong[1 - at], PINT_READ) == PINT_OK;
        if (pinti_load64_seq(&w->pp->phase) == phase) {
            (void)pinti_add64_relaxed(&w->n_checked, 1);
            w->n_missed += !old_found && !new_found;
            w->n_missed += (phase & 1) == 0 && (!old_found || new_found);
        }
    }
    return NULL;
}

static bool all_checked(const watcher w[WATCHERS])
{
    bool all = true;
    for (int i = 0; i < WATCHERS; i++) {
        all = all && pinti_load64_relaxed(&w[i].n_checked) >= 100;
    }
    return all;
}

TEST(OpenRace, ATableIsFoundUnderOneOfItsNamesAtEveryMomentOfARename, .timeout_s = 100)
{
    pingpong pp = {.race = {.stop = 0}};
    watcher watchers[WATCHERS] = {0};
    set_up(&pp.race.s);
    pint_table_close(make(pp.race.s.session, ping_pong[0], 10));
    for (size_t i = 0; i < COUNT_OF(watchers); i++) {
        watchers[i].pp = &pp;
        watchers[i].session = i == 0 ? pp.race.s.session : pp.race.s.other;
        ASSERT_EQ(pthread_create(&watchers[i].thread, NULL, watch, &watchers[i]), 0);
    }
    for (uint64_t n = 0; n < N_RENAMES || (n < 100 * N_RENAMES && !all_checked(watchers)); n++) {
        pinti_store64_seq(&pp.phase, 2 * n + 1);
        const pint_status status =
            local_table_rename(pp.race.s.session, ping_pong[n % 2], ping_pong[1 - n % 2]);
        pinti_store64_seq(&pp.phase, 2 * n + 2);
        EXPECT_STATUS(PINT_OK, status, NULL);
    }
    pinti_store32_release(&pp.race.stop, 1);
    for (size_t i = 0; i < COUNT_OF(watchers); i++) {
        (void)pthread_join(watchers[i].thread, NULL);
        EXPECT_EQ(watchers[i].n_missed, 0ull);
    }
    local_pool_free(pp.race.s.local);
}

/* A table whose entry lies behind those of its neighbours in the index is moved as they go: it must
 * be found each time. Phases are odd while it is there. */
static void *find_often(void *argument)
{
    watcher *w = argument;
    while (pinti_load32_acquire(&w->pp->race.stop) == 0) {
        const uint64_t phase = pinti_load64_seq(&w->pp->phase);
        if ((phase & 1) != 0) {
            const bool found = try_open(w->session, "stays", PINT_READ) == PINT_OK;
            const bool is_counted = pinti_load64_seq(&w->pp->phase) == phase;
            (void)pinti_add64_relaxed(&w->n_checked, is_counted);
            w->n_missed += is_counted && !found;
        }
    }
    return NULL;
}

/* Names whose first place in the index is that of "stays" or the one before it. */
static uint32_t find_neighbours(char names[][24], uint32_t n_wanted)
{
    pinti_name key;
    uint32_t n = 0;
    if (!pinti_name_set(&key, "stays")) {
        return 0;
    }
    const uint32_t place = pinti_index_first(key.hash);
    for (uint32_t i = 0; n < n_wanted && i < 50000000u; i++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "n%u", i);
        if (pinti_name_set(&key, name) &&
            (place - pinti_index_first(key.hash)) % PINTI_INDEX_SLOTS < 2) {
            memcpy(names[n++], name, sizeof(name));
        }
    }
    return n;
}

TEST(OpenRace, ATableIsAlwaysFoundWhileItsEntryMoves, .timeout_s = 100)
{
    pingpong pp = {.race = {.stop = 0}};
    watcher w[WATCHERS] = {0};
    char names[4][24];
    set_up(&pp.race.s);
    pint_pool *session = pp.race.s.session;
    ASSERT_EQ(find_neighbours(names, COUNT_OF(names)), (uint32_t)COUNT_OF(names));
    for (size_t i = 0; i < COUNT_OF(w); i++) {
        w[i].pp = &pp;
        w[i].session = i == 0 ? session : pp.race.s.other;
        ASSERT_EQ(pthread_create(&w[i].thread, NULL, find_often, &w[i]), 0);
    }
    for (uint32_t round = 0; round < 1000 || (round < 100000 && !all_checked(w)); round++) {
        for (uint32_t i = 0; i < COUNT_OF(names); i++) {
            pint_table_close(make(session, names[i], 1));
        }
        pint_table_close(make(session, "stays", 10));
        (void)pinti_add64_relaxed(&pp.phase, 1);
        for (uint32_t i = 0; i < COUNT_OF(names); i++) {
            EXPECT_STATUS(PINT_OK, local_table_drop(session, names[i]), NULL);
        }
        (void)pinti_add64_relaxed(&pp.phase, 1);
        EXPECT_STATUS(PINT_OK, local_table_drop(session, "stays"), NULL);
    }
    pinti_store32_release(&pp.race.stop, 1);
    for (size_t i = 0; i < COUNT_OF(w); i++) {
        (void)pthread_join(w[i].thread, NULL);
        EXPECT_EQ(w[i].n_missed, 0ull);
    }
    local_pool_free(pp.race.s.local);
}
