/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's writer: what readers find, what is freed, what the next incarnation finds. */
#include "ipc/service/catalog.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/catalog.h"
#include "host/word.h"
#include "tests/service/catalog_support.h"
#include "tests/support/ct.h"

#define IN               0u /* use - 1 */
#define OUT              1u
#define INOUT            2u
#define USE(column, use) ((uint32_t)(column) << 2 | (use))

static uint32_t state_of(const world *w, uint32_t index)
{
    return pinti_state_of(pinti_load64_relaxed(&pinti_cat_tables(w->catalog)[index].xgen_state));
}

TEST(Catalog, TableIsInvisibleUntilPublished)
{
    world w;
    uint32_t index;
    uint32_t generation;
    uint32_t found;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 1000, "a:int32 b:text", 0, &index, &generation, &err), &err);
    EXPECT_EQ(state_of(&w, index), PINTI_BUILDING);
    EXPECT_EQ(world_lookup(&w, "t"), 0u);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pinti_cat_find(w.cat, "t", &found, &generation, &err), &err);
    ASSERT_OK(pinti_cat_publish(w.cat, index, generation, false, &err), &err);
    EXPECT_EQ(world_lookup(&w, "t"), index + 1);
    EXPECT_OK(pinti_cat_find(w.cat, "t", &found, &generation, &err), &err);
    EXPECT_EQ(found, index);
    EXPECT_STATUS(PINT_E_STATE, pinti_cat_publish(w.cat, index, generation, true, &err), &err);
    EXPECT_EQ(pinti_cat_n_live(w.cat), 1u);
    world_close(&w);
}

TEST(Catalog, RecordSaysWhatWasAskedFor)
{
    world w;
    uint32_t index;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 100000, "a:timestamp? b:list_fixed c:dict_text", PINT_KEPT,
                           &index, &generation, &err),
              &err);
    const pinti_table_rec *rec = &pinti_cat_tables(w.catalog)[index];
    EXPECT_EQ(rec->n_rows, 100000u);
    EXPECT_EQ(pinti_load32_relaxed(&rec->xn_columns), 3u);
    EXPECT_EQ(rec->uid, WORLD_UID);
    EXPECT_EQ(rec->family, WORLD_FAMILY);
    EXPECT_EQ(rec->creator_session, WORLD_SESSION);
    EXPECT_EQ(pinti_load64_relaxed(&rec->xbytes), pinti_memory_used(w.memory));
    EXPECT_TRUE((pinti_load64_relaxed(&rec->xgen_state) & PINTI_RECORD_KEPT) != 0);
    const pinti_column_rec *columns = &pinti_cat_columns(w.catalog)[rec->runs[0].first];
    EXPECT_STREQ((const char *)columns[0].name, "a");
    EXPECT_EQ(columns[0].unit, PINT_NANOSECOND);
    EXPECT_EQ(columns[0].row_bytes, 8u);
    EXPECT_NE(columns[0].validity_off, PINTI_NO_BUFFER);
    EXPECT_EQ(columns[1].row_bytes, 400u);
    EXPECT_EQ(columns[1].validity_off, PINTI_NO_BUFFER);
    EXPECT_EQ(columns[2].row_bytes, 2u);
    EXPECT_NE(columns[2].dict_offsets_off, PINTI_NO_BUFFER);
    EXPECT_GE(columns[2].words_off, rec->sync_off);
    world_close(&w);
}

TEST(Catalog, PublishReplacesOnlyWhenToldTo)
{
    world w;
    uint32_t old;
    uint32_t old_generation;
    uint32_t index;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &old, &old_generation));
    ASSERT_OK(world_create(&w, "t", 10, "a:int8", 0, &index, &generation, &err), &err);
    EXPECT_STATUS(PINT_E_EXISTS, pinti_cat_publish(w.cat, index, generation, false, &err), &err);
    EXPECT_EQ(world_lookup(&w, "t"), old + 1);
    EXPECT_OK(pinti_cat_publish(w.cat, index, generation, true, &err), &err);
    EXPECT_EQ(world_lookup(&w, "t"), index + 1);
    EXPECT_EQ(state_of(&w, old), PINTI_DYING);
    EXPECT_STATUS(PINT_E_DROPPED, pinti_cat_drop(w.cat, old, old_generation, &err), &err);
    EXPECT_EQ(pinti_cat_n_live(w.cat), 1u);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 1u);
    world_close(&w);
}

TEST(Catalog, DroppedTableKeepsItsMemoryWhileReferredTo)
{
    world w;
    uint32_t index;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &index, &generation));
    const uint64_t used = pinti_memory_used(w.memory);
    ASSERT_OK(pinti_cat_drop(w.cat, index, generation, &err), &err);
    EXPECT_EQ(world_lookup(&w, "t"), 0u);
    EXPECT_EQ(pinti_cat_reap(w.cat, everybody_refers, NULL), 0u);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    EXPECT_EQ(state_of(&w, index), PINTI_FREE);
    world_close(&w);
}

TEST(Catalog, IndexIsReusedWithAnotherGeneration)
{
    world w;
    uint32_t index;
    uint32_t generation;
    uint32_t next_index;
    uint32_t next_generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &index, &generation));
    ASSERT_OK(pinti_cat_drop(w.cat, index, generation, &err), &err);
    ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    ASSERT_TRUE(world_publish(&w, "u", &next_index, &next_generation));
    EXPECT_EQ(next_index, index);
    EXPECT_EQ(next_generation, generation + 1);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pinti_cat_drop(w.cat, index, generation, &err), &err);
    /* a generation is never 0 */
    ASSERT_OK(pinti_cat_drop(w.cat, next_index, next_generation, &err), &err);
    ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    pinti_store64_relaxed(&pinti_cat_tables(w.catalog)[index].xgen_state,
                          (uint64_t)UINT32_MAX << 32);
    ASSERT_TRUE(world_publish(&w, "v", &next_index, &next_generation));
    EXPECT_EQ(next_index, index);
    EXPECT_EQ(next_generation, 1u);
    world_close(&w);
}

TEST(Catalog, RenameMovesTheNameAndRefusesATakenOne)
{
    world w;
    uint32_t a;
    uint32_t b;
    uint32_t generation_a;
    uint32_t generation_b;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "a", &a, &generation_a));
    ASSERT_TRUE(world_publish(&w, "b", &b, &generation_b));
    EXPECT_STATUS(PINT_E_EXISTS, pinti_cat_rename(w.cat, a, generation_a, "b", &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pinti_cat_rename(w.cat, a, generation_a, "x/y", &err), &err);
    EXPECT_OK(pinti_cat_rename(w.cat, a, generation_a, "a", &err), &err);
    EXPECT_OK(pinti_cat_rename(w.cat, a, generation_a, "a much longer name than before", &err),
              &err);
    EXPECT_EQ(world_lookup(&w, "a"), 0u);
    EXPECT_EQ(world_lookup(&w, "a much longer name than before"), a + 1);
    EXPECT_OK(pinti_cat_rename(w.cat, b, generation_b, "a", &err), &err);
    EXPECT_EQ(world_lookup(&w, "a"), b + 1);
    world_close(&w);
}

TEST(Catalog, FreezeAndKeepAreFlagsBesideTheState)
{
    world w;
    uint32_t index;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &index, &generation));
    EXPECT_OK(pinti_cat_keep(w.cat, index, generation, true, &err), &err);
    EXPECT_OK(pinti_cat_keep(w.cat, index, generation, true, &err), &err);
    EXPECT_EQ(pinti_cat_n_kept(w.cat), 1u);
    EXPECT_OK(pinti_cat_freeze(w.cat, index, generation, &err), &err);
    const uint64_t gen_state = pinti_load64_relaxed(&pinti_cat_tables(w.catalog)[index].xgen_state);
    EXPECT_EQ(gen_state,
              (uint64_t)generation << 32 | PINTI_RECORD_FROZEN | PINTI_RECORD_KEPT | PINTI_LIVE);
    EXPECT_OK(pinti_cat_keep(w.cat, index, generation, false, &err), &err);
    EXPECT_EQ(pinti_cat_n_kept(w.cat), 0u);
    EXPECT_EQ(world_lookup(&w, "t"), index + 1);
    world_close(&w);
}

TEST(Catalog, RepeatedCreateIsFoundByItsRequest)
{
    world w;
    uint32_t index;
    uint32_t generation;
    uint32_t found;
    uint32_t found_generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 1, "a:int8", 0, &index, &generation, &err), &err);
    EXPECT_FALSE(
        pinti_cat_find_request(w.cat, WORLD_SESSION, w.request + 1, &found, &found_generation));
    EXPECT_FALSE(
        pinti_cat_find_request(w.cat, WORLD_SESSION + 1, w.request, &found, &found_generation));
    ASSERT_OK(world_restart(&w, &err), &err);
    ASSERT_TRUE(pinti_cat_find_request(w.cat, WORLD_SESSION, w.request, &found, &found_generation));
    EXPECT_EQ(found, index);
    EXPECT_EQ(found_generation, generation);
    ASSERT_OK(pinti_cat_drop(w.cat, index, generation, &err), &err);
    EXPECT_FALSE(
        pinti_cat_find_request(w.cat, WORLD_SESSION, w.request, &found, &found_generation));
    world_close(&w);
}

TEST(Catalog, EndOfASessionDropsWhatItWasBuilding)
{
    world w;
    uint32_t building;
    uint32_t live;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "b", 1, "a:int8", 0, &building, &generation, &err), &err);
    ASSERT_TRUE(world_publish(&w, "l", &live, &generation));
    pinti_cat_session_ended(w.cat, WORLD_SESSION + 1);
    EXPECT_EQ(state_of(&w, building), PINTI_BUILDING);
    pinti_cat_session_ended(w.cat, WORLD_SESSION);
    EXPECT_EQ(state_of(&w, building), PINTI_DYING);
    EXPECT_EQ(state_of(&w, live), PINTI_LIVE);
    world_close(&w);
}

static bool family_lives(void *ctx, uint64_t family)
{
    (void)ctx;
    return family != WORLD_FAMILY;
}

static bool all_families_live(void *ctx, uint64_t family)
{
    (void)ctx;
    (void)family;
    return true;
}

TEST(Catalog, UnkeptTablesEndWithTheirFamilyOnceNobodyHasThemOpen)
{
    world w;
    uint32_t kept;
    uint32_t other;
    uint32_t generation;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "kept", &kept, &generation));
    ASSERT_OK(pinti_cat_keep(w.cat, kept, generation, true, &err), &err);
    ASSERT_TRUE(world_publish(&w, "other", &other, &generation));
    EXPECT_FALSE(pinti_cat_drop_ownerless(w.cat, all_families_live, nobody_refers, NULL));
    EXPECT_EQ(pinti_cat_n_live(w.cat), 2u);
    EXPECT_TRUE(pinti_cat_drop_ownerless(w.cat, family_lives, everybody_refers, NULL));
    EXPECT_EQ(pinti_cat_n_live(w.cat), 2u);
    EXPECT_FALSE(pinti_cat_drop_ownerless(w.cat, family_lives, nobody_refers, NULL));
    EXPECT_EQ(pinti_cat_n_live(w.cat), 1u);
    EXPECT_EQ(world_lookup(&w, "kept"), kept + 1);
    world_close(&w);
}

TEST(Catalog, HolderOfADroppedTableIsChargedForIt)
{
    world w;
    uint32_t index;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    const uint32_t uses[] = {USE(0, INOUT)};
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &index, &generation));
    ASSERT_OK(world_job(&w, index, generation, "j", uses, 1, &job, &job_generation, &err), &err);
    const uint64_t used = pinti_memory_used(w.memory);
    ASSERT_OK(pinti_cat_drop(w.cat, index, generation, &err), &err);
    pinti_cat_charge(w.cat, index, generation, 2000);
    EXPECT_EQ(pinti_memory_uid_used(w.memory, WORLD_UID), 0u);
    EXPECT_EQ(pinti_memory_uid_used(w.memory, 2000), used);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u);
    EXPECT_EQ(pinti_memory_uid_used(w.memory, 2000), 0u);
    world_close(&w);
}

TEST(Catalog, TooManyColumnsOfAllTablesAreRefused, .timeout_s = 60)
{
    world w;
    pint_error err = {0};
    pinti_schema schema;
    uint32_t index;
    uint32_t generation;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_schema("wide", 1, "a:int8", &schema));
    free(schema.columns);
    schema.columns = calloc(PINTI_TABLE_COLUMNS_MAX, sizeof(*schema.columns));
    ASSERT_TRUE(schema.columns != NULL);
    schema.n_columns = PINTI_TABLE_COLUMNS_MAX;
    for (uint32_t i = 0; i < schema.n_columns; i++) {
        (void)snprintf(schema.columns[i].name, sizeof(schema.columns[i].name), "c%u", i);
        schema.columns[i].type = PINT_INT8;
    }
    ASSERT_OK(pinti_cat_check_schema(&schema, &err), &err);
    const pinti_owner owner = {.session = 1, .uid = WORLD_UID};
    pint_status status = PINT_OK;
    uint32_t n = 0;
    for (; n < 17 && status == PINT_OK; n++) {
        const pinti_range data = {.off = 0, .bytes = 1ull << 40};
        const pinti_range sync = {.off = 0, .bytes = 1ull << 40};
        status = pinti_cat_create(w.cat, &schema, &owner, &data, &sync, &index, &generation, &err);
    }
    EXPECT_STATUS(PINT_E_LIMIT, status, &err);
    EXPECT_EQ(n, 17u);
    free(schema.columns);
    world_close(&w);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

TEST(CatalogJob, SecondCreatorFindsTheSameJobInAnyOrderOfUses)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    uint32_t found;
    pint_error err;
    const uint32_t uses[] = {USE(1, OUT), USE(0, IN)};
    const uint32_t swapped[] = {USE(0, IN), USE(1, OUT)};
    const uint32_t others[] = {USE(0, IN), USE(1, INOUT)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 1000, "a:int32 b:int32", 0, &table, &generation, &err), &err);
    EXPECT_STATUS(
        PINT_E_NOT_FOUND,
        pinti_cat_job_find(w.cat, table, generation, "j", uses, 2, &found, &job_generation, &err),
        &err);
    ASSERT_OK(world_job(&w, table, generation, "j", uses, 2, &job, &job_generation, &err), &err);
    EXPECT_OK(pinti_cat_job_find(w.cat, table, generation, "j", swapped, 2, &found, &job_generation,
                                 &err),
              &err);
    EXPECT_EQ(found, job);
    EXPECT_OK(
        pinti_cat_job_find(w.cat, table, generation, "j", NULL, 0, &found, &job_generation, &err),
        &err);
    EXPECT_STATUS(
        PINT_E_EXISTS,
        pinti_cat_job_find(w.cat, table, generation, "j", others, 2, &found, &job_generation, &err),
        &err);
    EXPECT_STATUS(PINT_E_EXISTS,
                  world_job(&w, table, generation, "j", others, 2, &job, &job_generation, &err),
                  &err);
    world_close(&w);
}

TEST(CatalogJob, LeaseSetsAreKnownByTheirUses)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t one;
    uint32_t two;
    uint32_t found;
    uint32_t job_generation;
    pint_error err;
    const uint32_t out[] = {USE(0, OUT)};
    const uint32_t inout[] = {USE(0, INOUT)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &table, &generation));
    ASSERT_OK(world_job(&w, table, generation, NULL, out, 1, &one, &job_generation, &err), &err);
    ASSERT_OK(world_job(&w, table, generation, NULL, inout, 1, &two, &job_generation, &err), &err);
    EXPECT_NE(one, two);
    EXPECT_OK(
        pinti_cat_job_find(w.cat, table, generation, NULL, inout, 1, &found, &job_generation, &err),
        &err);
    EXPECT_EQ(found, two);
    world_close(&w);
}

TEST(CatalogJob, BadUsesAreRefused)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t job;
    pint_error err;
    const uint32_t text_out[] = {USE(1, OUT)};
    const uint32_t text_in[] = {USE(1, IN)};
    const uint32_t twice[] = {USE(0, IN), USE(0, OUT)};
    const uint32_t unknown[] = {USE(0, 3u)};
    const uint32_t beyond[] = {USE(2, IN)};
    const uint32_t good[] = {USE(0, OUT)};
    const uint32_t dict[] = {USE(0, IN), USE(1, IN), USE(2, IN)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 1000, "a:int32 b:text", 0, &table, &generation, &err), &err);
#define JOB(uses_)                                                                                 \
    world_job(&w, table, generation, "j", (uses_), sizeof(uses_) / 4, &job, &job, &err)
    EXPECT_STATUS(PINT_E_TYPE, JOB(text_out), &err);
    EXPECT_STATUS(PINT_E_INVALID, JOB(twice), &err);
    EXPECT_STATUS(PINT_E_INVALID, JOB(unknown), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, JOB(beyond), &err);
    EXPECT_STATUS(PINT_E_INVALID, JOB(dict), &err); /* more than there are columns */
    EXPECT_STATUS(PINT_E_INVALID, world_job(&w, table, generation, "j", NULL, 0, &job, &job, &err),
                  &err);
    EXPECT_STATUS(PINT_E_INVALID,
                  world_job(&w, table, generation, "a/b", good, 1, &job, &job, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND,
                  world_job(&w, table, generation + 1, "j", good, 1, &job, &job, &err), &err);
    EXPECT_OK(JOB(text_in), &err);
    ASSERT_OK(pinti_cat_freeze(w.cat, table, generation, &err), &err);
    EXPECT_STATUS(PINT_E_FROZEN, world_job(&w, table, generation, "k", good, 1, &job, &job, &err),
                  &err);
    ASSERT_OK(pinti_cat_drop(w.cat, table, generation, &err), &err);
    EXPECT_STATUS(PINT_E_DROPPED, JOB(good), &err);
#undef JOB
    world_close(&w);
}

TEST(CatalogJob, UndoBuffersHoldTheInoutColumnsOfOneChunk)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    pint_error err;
    const uint32_t uses[] = {USE(0, INOUT), USE(1, INOUT), USE(2, IN), USE(3, OUT)};
    const uint32_t reads[] = {USE(2, IN), USE(3, OUT)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", 512 * 1000, "a:int32 b:bool? c:int64 d:int8", 0, &table,
                           &generation, &err),
              &err);
    ASSERT_OK(world_job(&w, table, generation, "j", uses, 4, &job, &job_generation, &err), &err);
    const pinti_table_rec *table_rec = &pinti_cat_tables(w.catalog)[table];
    const pinti_job_rec *rec = &pinti_cat_jobs(w.catalog)[job];
    const uint64_t rows = table_rec->chunk_rows;
    EXPECT_EQ(rec->undo_bytes, rows * 4 + rows / 8 + rows / 8);
    EXPECT_GE(rec->n_undo, 8u);
    EXPECT_LE(rec->n_undo, 64u);
    EXPECT_EQ(rec->n_chunks, table_rec->n_chunks);
    EXPECT_EQ(rec->words_off % 64, 0u);
    EXPECT_EQ(rec->undo_words_off % 64, 0u);
    EXPECT_GE(rec->undo_words_off, rec->words_off + rec->n_chunks * 8);
    EXPECT_GE(rec->fails_off, rec->undo_words_off + rec->n_undo * 8);
    EXPECT_LE(rec->fails_off + PINTI_FAIL_TEXTS * sizeof(pinti_fail_text),
              rec->sync_off + rec->sync_bytes);
    ASSERT_OK(world_job(&w, table, generation, "k", reads, 2, &job, &job_generation, &err), &err);
    rec = &pinti_cat_jobs(w.catalog)[job];
    EXPECT_EQ(rec->n_undo, 0u);
    EXPECT_EQ(rec->first_extent, 0u);
    world_close(&w);
}

/* refers() of a service where one session has only this kind open. */
static bool refers_to_kind(void *ctx, int kind, uint32_t index, uint32_t generation)
{
    (void)index;
    (void)generation;
    return kind == *(const int *)ctx;
}

TEST(CatalogJob, DiesWithItsTableAndTheTableWaitsForIt)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    pint_error err;
    int kind = 2;
    const uint32_t uses[] = {USE(0, INOUT)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &table, &generation));
    ASSERT_OK(world_job(&w, table, generation, "j", uses, 1, &job, &job_generation, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, table, generation, &err), &err);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 2u);
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_kind, &kind), 0u);
    kind = 1;
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_kind, &kind), 0u);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    world_close(&w);
}

static bool needs_undo(void *ctx, const pinti_job_rec *job)
{
    (void)job;
    return *(const bool *)ctx;
}

TEST(CatalogJob, DroppedJobIsFreedWhileItsTableIsInUseUnlessUndoIsNeeded)
{
    world w;
    uint32_t table;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    pint_error err;
    int kind = 1;
    bool needed = true;
    const uint32_t uses[] = {USE(0, INOUT)};
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "t", &table, &generation));
    ASSERT_OK(world_job(&w, table, generation, "j", uses, 1, &job, &job_generation, &err), &err);
    ASSERT_OK(pinti_cat_job_drop(w.cat, job, job_generation, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pinti_cat_job_drop(w.cat, job, job_generation, &err), &err);
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_kind, &kind), 0u);
    pinti_cat_on_needs_undo(w.cat, needs_undo, &needed);
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_kind, &kind), 0u);
    needed = false;
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_kind, &kind), 1u);
    /* the name is free again */
    EXPECT_OK(world_job(&w, table, generation, "j", uses, 1, &job, &job_generation, &err), &err);
    world_close(&w);
}

/* ---- many names ------------------------------------------------------------------------------ */

#define NAMES 3000u

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char *name_of(uint32_t i, char out[32])
{
    (void)snprintf(out, 32, "name-%u", i);
    return out;
}

/* Every name is found where the model says, by readers and by the writer. */
static void expect_model(const world *w, const uint32_t model[NAMES])
{
    char name[32];
    for (uint32_t i = 0; i < NAMES; i++) {
        uint32_t index = 0;
        uint32_t generation = 0;
        ASSERT_EQ(world_lookup(w, name_of(i, name)), model[i]);
        const pint_status status = pinti_cat_find(w->cat, name, &index, &generation, NULL);
        ASSERT_EQ(status, model[i] == 0 ? PINT_E_NOT_FOUND : PINT_OK);
        ASSERT_TRUE(model[i] == 0 || model[i] == index + 1);
    }
}

TEST(Catalog, RandomChangesKeepEveryNameFindable, .timeout_s = 120)
{
    static uint32_t model[NAMES];
    uint64_t seed = 0xabcdef12345ull;
    world w;
    memset(model, 0, sizeof(model));
    ASSERT_TRUE(world_open(&w));
    for (uint32_t round = 0; round < 20000; round++) {
        char name[32];
        uint32_t index = 0;
        uint32_t generation = 0;
        const uint32_t i = (uint32_t)(next_random(&seed) % NAMES);
        const uint32_t j = (uint32_t)(next_random(&seed) % NAMES);
        const uint64_t what = next_random(&seed) % 8;
        (void)name_of(i, name);
        const bool is_live = pinti_cat_find(w.cat, name, &index, &generation, NULL) == PINT_OK;
        ASSERT_EQ(is_live, model[i] != 0);
        if (what < 4) {
            ASSERT_TRUE(world_publish(&w, name, &index, &generation));
            model[i] = index + 1;
        } else if (is_live && what < 6) {
            ASSERT_OK(pinti_cat_drop(w.cat, index, generation, NULL), NULL);
            model[i] = 0;
        } else if (is_live) {
            const pint_status status =
                pinti_cat_rename(w.cat, index, generation, name_of(j, name), NULL);
            ASSERT_EQ(status, model[j] == 0 || i == j ? PINT_OK : PINT_E_EXISTS);
            if (status == PINT_OK && i != j) {
                model[j] = model[i];
                model[i] = 0;
            }
        }
        if (round % 16 == 0) {
            (void)pinti_cat_reap(w.cat, nobody_refers, NULL);
        }
        if (round % 4000 == 999) {
            ASSERT_NO_FATAL(expect_model(&w, model));
            ASSERT_OK(world_restart(&w, NULL), NULL);
            ASSERT_NO_FATAL(expect_model(&w, model));
        }
    }
    ASSERT_NO_FATAL(expect_model(&w, model));
    const pinti_catalog_header *header = w.catalog;
    EXPECT_EQ(pinti_load32_relaxed(&header->xindex_seq) % 2, 0u);
    world_close(&w);
}

typedef struct reader {
    const world *w;
    atomic_bool stop;
    uint64_t n_found;
    uint64_t n_missed;
    uint64_t n_unsure;
} reader;

static void *read_names(void *argument)
{
    reader *r = argument;
    pinti_name name;
    (void)pinti_name_set(&name, "always");
    while (!atomic_load(&r->stop)) {
        uint32_t index;
        uint64_t gen_state;
        const enum pinti_lookup found =
            pinti_catalog_lookup(r->w->catalog, &name, &index, &gen_state);
        r->n_found += found == PINTI_LOOKUP_FOUND;
        r->n_missed += found == PINTI_LOOKUP_MISS;
        r->n_unsure += found == PINTI_LOOKUP_UNSURE;
    }
    return NULL;
}

TEST(Catalog, ReaderNeverMissesANameThatIsReplacedOrMoved, .timeout_s = 60)
{
    world w;
    pthread_t thread;
    uint32_t index;
    uint32_t generation;
    char name[32];
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(world_publish(&w, "always", &index, &generation));
    reader r = {.w = &w};
    ASSERT_EQ(pthread_create(&thread, NULL, read_names, &r), 0);
    for (uint32_t i = 0; i < 10000; i++) {
        EXPECT_TRUE(world_publish(&w, "always", &index, &generation));
        EXPECT_TRUE(world_publish(&w, name_of(i % 50, name), &index, &generation));
        EXPECT_OK(pinti_cat_drop(w.cat, index, generation, NULL), NULL);
        (void)pinti_cat_reap(w.cat, nobody_refers, NULL);
    }
    atomic_store(&r.stop, true);
    ASSERT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_GT(r.n_found, 0u);
    EXPECT_EQ(r.n_missed, 0u);
    world_close(&w);
}

TEST(Catalog, RestartChangesNothing)
{
    world w;
    uint32_t t;
    uint32_t b;
    uint32_t generation;
    uint32_t job;
    uint32_t job_generation;
    uint32_t found;
    const uint32_t uses[] = {USE(0, INOUT)};
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "b", 5000, "a:text? c:int8", PINT_KEPT, &b, &generation, &err),
              &err);
    ASSERT_TRUE(world_publish(&w, "t", &t, &generation));
    ASSERT_OK(world_job(&w, t, generation, "j", uses, 1, &job, &job_generation, &err), &err);
    const uint64_t used = pinti_memory_used(w.memory);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_n_live(w.cat), 1u);
    EXPECT_OK(pinti_cat_job_find(w.cat, t, generation, "j", uses, 1, &found, &job_generation, &err),
              &err);
    EXPECT_EQ(found, job);
    pinti_cat_session_ended(w.cat, WORLD_SESSION);
    EXPECT_EQ(state_of(&w, b), PINTI_DYING);
    ASSERT_OK(pinti_cat_drop(w.cat, t, generation, &err), &err);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 3u);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 3u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    world_close(&w);
}
