/* SPDX-License-Identifier: Apache-2.0 */
/* Adding columns, as far as the catalog goes: what moves, what is refused, what comes back. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/word.h"
#include "tests/service/catalog_support.h"
#include "tests/support/ct.h"

#define USE_INOUT(column_) ((uint32_t)(column_) << 2 | 2u)

typedef struct named {
    uint32_t index;
    uint32_t generation;
} named;

static const pinti_table_rec *record(const world *w, named t)
{
    return &pinti_cat_tables(w->catalog)[t.index];
}

static uint32_t state_of(const world *w, named t)
{
    return pinti_state_of(pinti_load64_relaxed(&record(w, t)->xgen_state));
}

static uint32_t n_columns(const world *w, named t)
{
    return pinti_load32_relaxed(&record(w, t)->xn_columns);
}

static uint64_t bytes_of(const world *w, named t)
{
    return pinti_load64_relaxed(&record(w, t)->xbytes);
}

static const char *column_name(const world *w, named t, uint32_t i)
{
    const pinti_column_rec *column = pinti_cat_column(w->catalog, record(w, t), i);
    return column == NULL ? NULL : (const char *)column->name;
}

/* A live table of 1000 rows. */
static bool publish(world *w, const char *name, const char *columns, named *out)
{
    return world_create(w, name, 1000, columns, 0, &out->index, &out->generation, NULL) ==
               PINT_OK &&
           pinti_cat_publish(w->cat, out->index, out->generation, false, NULL) == PINT_OK;
}

static bool build(world *w, const char *columns, named *out)
{
    return world_create(w, "donor", 1000, columns, 0, &out->index, &out->generation, NULL) ==
           PINT_OK;
}

static pint_status add(world *w, named to, named from, pint_error *err)
{
    return pinti_cat_add_columns(w->cat, to.index, to.generation, from.index, from.generation,
                                 WORLD_SESSION, err);
}

TEST(CatalogColumns, MoveAsTheyAreBehindThoseThere)
{
    world w;
    named t;
    named d;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32 b:text", &t));
    ASSERT_TRUE(build(&w, "c:dict_text d:list_fixed e:bool?", &d));
    pinti_column_rec before[3];
    for (uint32_t i = 0; i < 3; i++) {
        before[i] = *pinti_cat_column(w.catalog, record(&w, d), i);
    }
    const uint64_t sync_off = record(&w, d)->sync_off;
    const uint64_t sync_bytes = record(&w, d)->sync_bytes;
    const uint64_t used = pinti_memory_used(w.memory);
    ASSERT_OK(add(&w, t, d, &err), &err);
    ASSERT_EQ(n_columns(&w, t), 5u);
    for (uint32_t i = 0; i < 3; i++) {
        const pinti_column_rec *now = pinti_cat_column(w.catalog, record(&w, t), 2 + i);
        ASSERT_TRUE(now != NULL);
        EXPECT_STREQ((const char *)now->name, (const char *)before[i].name);
        EXPECT_EQ(now->values_off, before[i].values_off);
        EXPECT_EQ(now->validity_off, before[i].validity_off);
        EXPECT_EQ(now->dict_offsets_off, before[i].dict_offsets_off);
        EXPECT_EQ(now->words_off, before[i].words_off);
        EXPECT_EQ(now->state_off, before[i].state_off);
        EXPECT_EQ(now->birth, 2u);
        EXPECT_EQ(now->block_off, i == 0 ? sync_off : 0);
        EXPECT_EQ(now->block_bytes, i == 0 ? sync_bytes : 0);
    }
    EXPECT_STREQ(column_name(&w, t, 0), "a");
    EXPECT_EQ(record(&w, t)->schema_generation, 2u);
    EXPECT_EQ(bytes_of(&w, t), used);
    EXPECT_EQ(bytes_of(&w, d), 0u);
    EXPECT_EQ(state_of(&w, d), PINTI_DYING);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_memory_uid_used(w.memory, WORLD_UID), used);
    world_close(&w);
}

TEST(CatalogColumns, ComeBackWholeInTheNextIncarnationAndGoWithTheirTable)
{
    world w;
    named t;
    named d;
    named e;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_TRUE(build(&w, "b:int64", &d));
    ASSERT_OK(add(&w, t, d, &err), &err);
    ASSERT_TRUE(build(&w, "c:int64 d:float64?", &e));
    ASSERT_OK(add(&w, t, e, &err), &err);
    const uint64_t used = pinti_memory_used(w.memory);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 2u); /* the donors */
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    /* nobody else gets the moved bytes */
    ASSERT_TRUE(build(&w, "x:int64", &d));
    const pinti_column_rec *x = pinti_cat_column(w.catalog, record(&w, d), 0);
    for (uint32_t i = 0; i < 4; i++) {
        const pinti_column_rec *column = pinti_cat_column(w.catalog, record(&w, t), i);
        EXPECT_NE(column->values_off, x->values_off);
        EXPECT_NE(column->words_off, x->words_off);
        EXPECT_NE(column->state_off, x->state_off);
    }
    ASSERT_OK(pinti_cat_drop(w.cat, d.index, d.generation, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    EXPECT_EQ(pinti_memory_uid_used(w.memory, WORLD_UID), 0u);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    world_close(&w);
}

TEST(CatalogColumns, FillARunBeforeTheNextIsTaken)
{
    world w;
    named t;
    named d;
    pint_error err;
    char text[32];
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    for (uint32_t i = 0; i < 200; i++) {
        (void)snprintf(text, sizeof(text), "c%" PRIu32 ":int8", i);
        ASSERT_TRUE(build(&w, text, &d));
        ASSERT_OK(add(&w, t, d, &err), &err);
        ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
        if (i % 67 == 15) {
            ASSERT_OK(world_restart(&w, &err), &err);
        }
    }
    ASSERT_EQ(n_columns(&w, t), 201u);
    EXPECT_EQ(record(&w, t)->runs[0].count, 1u);
    EXPECT_EQ(record(&w, t)->runs[1].count, 16u);
    EXPECT_EQ(record(&w, t)->runs[2].count, 64u);
    EXPECT_EQ(record(&w, t)->runs[3].count, 256u);
    EXPECT_EQ(record(&w, t)->runs[4].count, 0u);
    for (uint32_t i = 0; i < 200; i++) {
        (void)snprintf(text, sizeof(text), "c%" PRIu32, i);
        ASSERT_STREQ(column_name(&w, t, 1 + i), text);
    }
    EXPECT_EQ(column_name(&w, t, 201), NULL);
    const uint32_t first = record(&w, t)->runs[3].first;
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    /* all record numbers are free again: the lowest are taken */
    ASSERT_TRUE(build(&w, "z:int8", &d));
    EXPECT_EQ(record(&w, d)->runs[0].first, 0u);
    EXPECT_EQ(pinti_cat_columns(w.catalog)[first].name_bytes, 0u); /* and empty */
    world_close(&w);
}

TEST(CatalogColumns, RefuseWhatDoesNotFit)
{
    world w;
    named t;
    named d;
    named other;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32 b:int32", &t));
    ASSERT_TRUE(build(&w, "x:int8 b:int8", &d));
    const uint64_t used = pinti_memory_used(w.memory);
    EXPECT_STATUS(PINT_E_EXISTS, add(&w, t, d, &err), &err);
    EXPECT_TRUE(strstr(err.message, "'b'") != NULL);
    EXPECT_STATUS(PINT_E_INVALID, add(&w, t, t, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, add(&w, d, d, &err), &err);
    ASSERT_TRUE(build(&w, "x:int8", &other));
    EXPECT_STATUS(PINT_E_STATE, add(&w, other, d, &err), &err); /* to one that is not published */
    ASSERT_OK(pinti_cat_publish(w.cat, other.index, other.generation, false, &err), &err);
    EXPECT_STATUS(PINT_E_STATE, add(&w, t, other, &err), &err); /* of one that is */
    /* other rows, other chunks */
    ASSERT_OK(world_create(&w, "u", 1001, "x:int8", 0, &other.index, &other.generation, &err),
              &err);
    EXPECT_STATUS(PINT_E_INVALID, add(&w, t, other, &err), &err);
    ASSERT_OK(
        world_create(&w, "u", 300000, "x:list_fixed", 0, &other.index, &other.generation, &err),
        &err);
    named wide;
    ASSERT_OK(world_create(&w, "v", 300000, "x:int8", 0, &wide.index, &wide.generation, &err),
              &err);
    ASSERT_OK(pinti_cat_publish(w.cat, wide.index, wide.generation, false, &err), &err);
    ASSERT_NE(record(&w, wide)->chunk_rows, record(&w, other)->chunk_rows);
    EXPECT_STATUS(PINT_E_INVALID, add(&w, wide, other, &err), &err);
    /* another session's, another user's, wrong generations and numbers */
    ASSERT_TRUE(build(&w, "y:int8", &other));
    EXPECT_STATUS(PINT_E_PERMISSION,
                  pinti_cat_add_columns(w.cat, t.index, t.generation, other.index, other.generation,
                                        WORLD_SESSION + 1, &err),
                  &err);
    pinti_cat_tables(w.catalog)[t.index].uid++;
    EXPECT_STATUS(PINT_E_PERMISSION, add(&w, t, other, &err), &err);
    pinti_cat_tables(w.catalog)[t.index].uid--;
    named wrong = {t.index, t.generation + 1};
    EXPECT_STATUS(PINT_E_NOT_FOUND, add(&w, wrong, other, &err), &err);
    wrong = (named){other.index, other.generation + 1};
    EXPECT_STATUS(PINT_E_NOT_FOUND, add(&w, t, wrong, &err), &err);
    wrong = (named){UINT32_MAX, 1};
    EXPECT_STATUS(PINT_E_NOT_FOUND, add(&w, t, wrong, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, add(&w, wrong, other, &err), &err);
    /* frozen, dropped */
    ASSERT_OK(pinti_cat_freeze(w.cat, t.index, t.generation, &err), &err);
    EXPECT_STATUS(PINT_E_FROZEN, add(&w, t, other, &err), &err);
    pinti_cat_thaw(w.cat, t.index, t.generation);
    EXPECT_EQ(n_columns(&w, t), 2u);
    EXPECT_EQ(state_of(&w, d), PINTI_BUILDING);
    EXPECT_EQ(state_of(&w, other), PINTI_BUILDING);
    ASSERT_OK(pinti_cat_drop(w.cat, d.index, d.generation, &err), &err);
    EXPECT_STATUS(PINT_E_DROPPED, add(&w, t, d, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    EXPECT_STATUS(PINT_E_DROPPED, add(&w, t, other, &err), &err);
    EXPECT_GE(pinti_memory_used(w.memory), used);
    world_close(&w);
}

TEST(CatalogColumns, AreAddedOnceHoweverOftenAsked)
{
    world w;
    named t;
    named u;
    named d;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_TRUE(publish(&w, "u", "a:int32", &u));
    ASSERT_TRUE(build(&w, "b:int32", &d));
    ASSERT_OK(add(&w, t, d, &err), &err);
    EXPECT_OK(add(&w, t, d, &err), &err);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_OK(add(&w, t, d, &err), &err);
    EXPECT_EQ(n_columns(&w, t), 2u);
    EXPECT_STATUS(PINT_E_DROPPED, add(&w, u, d, &err), &err); /* it went elsewhere */
    EXPECT_EQ(n_columns(&w, u), 1u);
    world_close(&w);
}

static named referred; /* by somebody */

static bool refers_to_it(void *ctx, int kind, uint32_t index, uint32_t generation)
{
    (void)ctx;
    return kind == 1 && index == referred.index && generation == referred.generation;
}

TEST(CatalogColumns, StayWhileSomebodyRefersToTheTableTheyCameFrom)
{
    world w;
    named t;
    named d;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(build(&w, "b:int32", &d)); /* of a lower index than its target */
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_OK(add(&w, t, d, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    referred = d;
    const uint64_t used = pinti_memory_used(w.memory);
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_it, NULL), 0u);
    ASSERT_OK(world_restart(&w, &err), &err);
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_it, NULL), 0u);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u); /* in one go */
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    /* and the other way round: a donor goes although its target is referred to */
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_TRUE(build(&w, "b:int32", &d));
    ASSERT_OK(add(&w, t, d, &err), &err);
    referred = t;
    EXPECT_EQ(pinti_cat_reap(w.cat, refers_to_it, NULL), 1u);
    EXPECT_EQ(state_of(&w, d), 0u);
    EXPECT_EQ(n_columns(&w, t), 2u);
    world_close(&w);
}

TEST(CatalogColumns, AJobsUndoBuffersAreOfTheAddedColumn)
{
    world w;
    named t;
    named d;
    uint32_t job;
    uint32_t generation;
    uint64_t data_bytes;
    uint64_t sync_bytes;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int8", &t));
    ASSERT_TRUE(build(&w, "b:int64", &d));
    const uint32_t first[] = {USE_INOUT(0)};
    const uint32_t second[] = {USE_INOUT(1)};
    EXPECT_STATUS(PINT_E_NOT_FOUND,
                  world_job(&w, t.index, t.generation, "j", second, 1, &job, &generation, &err),
                  &err);
    ASSERT_OK(world_job(&w, t.index, t.generation, "old", first, 1, &job, &generation, &err), &err);
    const uint32_t donor_uses[] = {USE_INOUT(0)};
    ASSERT_OK(world_job(&w, d.index, d.generation, "gone", donor_uses, 1, &job, &generation, &err),
              &err);
    ASSERT_OK(add(&w, t, d, &err), &err);
    EXPECT_EQ(pinti_state_of(pinti_load64_relaxed(&pinti_cat_jobs(w.catalog)[job].xgen_state)),
              PINTI_DYING);
    ASSERT_OK(pinti_cat_job_measure(w.cat, t.index, t.generation, second, 1, 1, &data_bytes,
                                    &sync_bytes, &err),
              &err);
    EXPECT_EQ(data_bytes, record(&w, t)->chunk_rows * 8);
    EXPECT_OK(world_job(&w, t.index, t.generation, "j", second, 1, &job, &generation, &err), &err);
    EXPECT_OK(
        pinti_cat_job_find(w.cat, t.index, t.generation, "old", first, 1, &job, &generation, &err),
        &err);
    world_close(&w);
}

/* A table of n columns, of names that begin with a letter; too many for a text. */
static pint_status build_wide(world *w, char letter, uint64_t n_rows, uint32_t n, named *out,
                              pint_error *err)
{
    pinti_schema schema;
    pinti_range data;
    pinti_range sync;
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    static pinti_plan plan;
    memset(&schema, 0, sizeof(schema));
    (void)snprintf(schema.name, sizeof(schema.name), "wide");
    schema.n_rows = n_rows;
    schema.n_columns = n;
    schema.columns = calloc(n, sizeof(*schema.columns));
    if (schema.columns == NULL) {
        return PINT_E_NO_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(schema.columns[i].name, sizeof(schema.columns[i].name), "%c%" PRIu32, letter,
                       i);
        schema.columns[i].type = PINT_INT32;
    }
    const pinti_owner owner = {.session = WORLD_SESSION,
                               .request = ++w->request,
                               .family = WORLD_FAMILY,
                               .uid = WORLD_UID};
    pint_status status = pinti_cat_check_schema(&schema, err);
    if (status == PINT_OK) {
        status = pinti_cat_measure(&schema, &data_bytes, &sync_bytes, err);
    }
    if (status == PINT_OK) {
        status = pinti_memory_take(w->memory, data_bytes, sync_bytes, true, WORLD_UID, &data, &sync,
                                   &plan, err);
    }
    if (status == PINT_OK) {
        pinti_memory_prepared(w->memory, &plan, true);
        status = pinti_cat_create(w->cat, &schema, &owner, &data, &sync, &out->index,
                                  &out->generation, err);
    }
    free(schema.columns);
    return status;
}

TEST(CatalogColumns, AreAsManyAsATableMayHave, .timeout_s = 120)
{
    world w;
    named t;
    named d;
    named e;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_OK(build_wide(&w, 'd', 1000, PINTI_TABLE_COLUMNS_MAX - 1, &d, &err), &err);
    ASSERT_TRUE(build(&w, "one:int32", &e));
    ASSERT_OK(add(&w, t, e, &err), &err);
    EXPECT_STATUS(PINT_E_LIMIT, add(&w, t, d, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_OK(add(&w, t, d, &err), &err);
    EXPECT_EQ(n_columns(&w, t), PINTI_TABLE_COLUMNS_MAX);
    EXPECT_STREQ(column_name(&w, t, PINTI_TABLE_COLUMNS_MAX - 1), "d65534");
    ASSERT_TRUE(build(&w, "more:int32", &e));
    EXPECT_STATUS(PINT_E_LIMIT, add(&w, t, e, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, t.index, t.generation, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, e.index, e.generation, &err), &err);
    (void)pinti_cat_reap(w.cat, nobody_refers, NULL);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    world_close(&w);
}

/* No run of records is left although there are numbers: nothing is taken. */
TEST(CatalogColumns, WithoutRecordNumbersNothingChanges, .timeout_s = 120)
{
    world w;
    named t;
    named d;
    named filler;
    pint_error err;
    ASSERT_TRUE(world_open(&w));
    ASSERT_TRUE(publish(&w, "t", "a:int32", &t));
    ASSERT_OK(build_wide(&w, 'd', 1000, 100, &d, &err), &err);
    for (uint32_t left = PINTI_COLUMNS_MAX - 101 - 20; left > 0;) {
        const uint32_t n = left < PINTI_TABLE_COLUMNS_MAX ? left : PINTI_TABLE_COLUMNS_MAX;
        ASSERT_OK(build_wide(&w, 'f', 1, n, &filler, &err), &err);
        left -= n;
    }
    EXPECT_STATUS(PINT_E_LIMIT, add(&w, t, d, &err), &err); /* run 1 would fit, run 2 does not */
    EXPECT_EQ(n_columns(&w, t), 1u);
    EXPECT_EQ(state_of(&w, d), PINTI_BUILDING);
    ASSERT_OK(pinti_cat_drop(w.cat, filler.index, filler.generation, &err), &err);
    ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    EXPECT_OK(add(&w, t, d, &err), &err);
    EXPECT_EQ(n_columns(&w, t), 101u);
    world_close(&w);
}
