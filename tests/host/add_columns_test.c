/* SPDX-License-Identifier: Apache-2.0 */

/* Columns added to a table that is open: found by those who look, used as all others are. */

#include <pthread.h>
#include <string.h>

#include "host/job.h"
#include "tests/host/fixture.h"

#define ROWS       1536u
#define CHUNK_ROWS 512u

typedef struct scene {
    local_pool *local;
    pint_pool *a;
    pint_pool *b;
    pint_table *table; /* a's, for writing */
    pint_table *other; /* b's */
} scene;

static pint_table *build(pint_pool *session, const char *const *names, uint32_t n, pint_type type)
{
    pint_field fields[4];
    for (uint32_t i = 0; i < n; i++) {
        fields[i] = field_of(names[i], type, 0);
    }
    const pint_schema schema = schema_of(fields, n, CHUNK_ROWS);
    return local_table_build(session, "donor", &schema, ROWS);
}

static pint_status add_one(pint_pool *session, pint_table *table, const char *name, pint_error *err)
{
    const char *const names[] = {name};
    pint_table *from = build(session, names, 1, PINT_INT64);
    const pint_status status = local_table_add_columns(table, from, err);
    if (status != PINT_OK) {
        pint_table_close(from);
    }
    return status;
}

static void set_up(scene *s)
{
    pint_error err;
    const pint_field fields[] = {field_of("x", PINT_INT64, 0), field_of("y", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 2, CHUNK_ROWS);
    s->local = local_pool_new();
    s->a = local_session_new(s->local);
    s->b = local_session_new(s->local);
    s->table = local_table_new(s->a, "t", &schema, ROWS);
    ASSERT_OK(pint_table_open(s->b, "t", PINT_WRITE, &s->other, &err), &err);
}

static void tear_down(scene *s)
{
    pint_table_close(s->table);
    pint_table_close(s->other);
    EXPECT_OK(local_table_drop(s->a, "t"), NULL);
    (void)local_pool_reap(s->local);
    EXPECT_EQ(local_pool_used(s->local), 0u);
    local_pool_free(s->local);
}

TEST(AddColumns, AreFoundByNameAndPositionInTablesOpenBefore)
{
    scene s;
    pint_error err;
    pint_column column;
    ASSERT_NO_FATAL(set_up(&s));
    const pint_column x = column_of(s.other, "x"); /* a copy from before */
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.other, "one", &column, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pint_table_column_at(s.other, 2, &column, &err), &err);
    const uint64_t bytes = pint_table_bytes(s.other);
    const char *const names[] = {"one", "two"};
    pint_table *from = build(s.a, names, 2, PINT_INT64);
    const pint_column before = column_of(from, "two");
    ((int64_t *)before.values)[7] = 77;
    ASSERT_OK(local_table_add_columns(s.table, from, &err), &err);
    ASSERT_OK(pint_table_column_at(s.other, 3, &column, &err), &err);
    EXPECT_STREQ(pint_column_name(&column), "two");
    EXPECT_EQ(((const int64_t *)column.values)[7], 77);
    ASSERT_OK(pint_table_column(s.other, "one", &column, &err), &err);
    EXPECT_EQ(column.index, 2u);
    EXPECT_EQ(pint_table_columns(s.other), 4u);
    EXPECT_EQ(pint_table_columns(s.table), 4u);
    EXPECT_GT(pint_table_bytes(s.other), bytes);
    EXPECT_STATUS(PINT_E_RANGE, pint_table_column_at(s.other, 4, &column, &err), &err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_column(s.other, "three", &column, &err), &err);
    /* the copy from before is what it was */
    EXPECT_STREQ(pint_column_name(&x), "x");
    EXPECT_EQ(x.values, column_of(s.other, "x").values);
    EXPECT_OK(pint_column_mark(&x, 0, 1, &err), &err);
    ASSERT_NO_FATAL(tear_down(&s));
}

TEST(AddColumns, TwoHundredOneByOneKeepTheirPlaces)
{
    scene s;
    pint_error err;
    char name[16];
    pint_column kept[200];
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "c%u", i);
        ASSERT_OK(add_one(i % 2 == 0 ? s.a : s.b, i % 2 == 0 ? s.table : s.other, name, &err),
                  &err);
        kept[i] = column_of(s.table, name);
        ASSERT_EQ(kept[i].index, 2 + i);
    }
    ASSERT_EQ(pint_table_columns(s.other), 202u);
    pint_pool *late = local_session_new(s.local);
    pint_table *table;
    ASSERT_OK(pint_table_open(late, "t", PINT_READ, &table, &err), &err);
    for (uint32_t i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "c%u", i);
        ASSERT_STREQ(pint_column_name(&kept[i]), name);
        ASSERT_EQ(column_of(s.other, name).index, 2 + i);
        ASSERT_EQ(column_of(table, name).values, kept[i].values);
    }
    /* one that was opened late grows from where it is */
    ASSERT_OK(add_one(s.a, s.table, "last", &err), &err);
    EXPECT_EQ(column_of(table, "last").index, 202u);
    EXPECT_STATUS(PINT_E_EXISTS, add_one(s.b, s.other, "c17", &err), &err);
    pint_table_close(table);
    ASSERT_NO_FATAL(tear_down(&s));
}

/* ---- leases and jobs ------------------------------------------------------------------------- */

TEST(AddColumns, AreLeasedAloneAndWithOthers)
{
    scene s;
    pint_error err;
    pint_lease lease;
    pint_lease refused;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(add_one(s.a, s.table, "z", &err), &err);
    const pint_column z = column_of(s.table, "z");
    const pint_column theirs = column_of(s.other, "z");
    ASSERT_OK(pint_lease_claim(&z, 1, 1, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&theirs, 1, 1, PINT_OUT, 0, &refused, &err), &err);
    const uint64_t version = pint_column_version(&z, 1);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_GT(pint_column_version(&theirs, 1), version);
    const pint_column both[] = {theirs, column_of(s.other, "x")};
    ASSERT_OK(pint_lease_claim(both, 2, 2, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_EQ(state_of(&z, 2), PINTI_CHUNK_HELD);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&z, 1, 2, PINT_OUT, 0, &refused, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(state_of(&z, 2), PINTI_CHUNK_CLEAN);
    /* with undo */
    int64_t *values = z.values;
    values[0] = 5;
    ASSERT_OK(pint_lease_claim(&z, 1, 0, PINT_INOUT, 0, &lease, &err), &err);
    values[0] = 6;
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_EQ(values[0], 5);
    const pint_column mixed[] = {z, column_of(s.table, "y")};
    ASSERT_OK(pint_lease_claim(mixed, 2, 0, PINT_INOUT, 0, &lease, &err), &err);
    values[0] = 7;
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(((const int64_t *)theirs.values)[0], 7);
    ASSERT_NO_FATAL(tear_down(&s));
}

/* A session that dies with leases on an added column: torn, or put back where it had undo. */
static void die_with_leases(bool all_words)
{
    scene s;
    pint_error err;
    pint_lease lease;
    pint_table *table;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(add_one(s.a, s.table, "z", &err), &err);
    pint_pool *dead = local_session_new(s.local);
    ASSERT_OK(pint_table_open(dead, "t", PINT_WRITE, &table, &err), &err);
    const pint_column theirs = column_of(table, "z");
    const pint_column z = column_of(s.other, "z");
    ((int64_t *)z.values)[CHUNK_ROWS] = 1;
    ASSERT_OK(pint_lease_claim(&theirs, 1, 0, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_claim(&theirs, 1, 1, PINT_INOUT, 0, &lease, &err), &err);
    ((int64_t *)theirs.values)[CHUNK_ROWS] = 2;
    const pinti_sweep_result result = local_session_kill(s.local, dead, all_words);
    EXPECT_EQ(result.n_torn, 1u);
    EXPECT_EQ(result.n_restore, 1u);
    EXPECT_EQ(state_of(&z, 0), PINTI_CHUNK_TORN);
    EXPECT_EQ(state_of(&z, 1), PINTI_CHUNK_RESTORE);
    ASSERT_OK(pint_lease_claim(&z, 1, 1, PINT_UPDATE, 0, &lease, &err), &err);
    EXPECT_EQ(((const int64_t *)z.values)[CHUNK_ROWS], 1); /* the old bytes */
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_OK(pint_column_recover(&z, 0, &err), &err);
    ASSERT_NO_FATAL(tear_down(&s));
}

TEST(AddColumns, AreSweptByIntentsWhenAHolderDies)
{
    die_with_leases(false);
}

TEST(AddColumns, AreSweptByWordsWhenAHolderDies)
{
    die_with_leases(true);
}

static uint32_t run_job(pint_job *job, const pint_column *column)
{
    pint_error err;
    pint_lease lease;
    uint32_t n = 0;
    while (pint_job_next(job, &lease, &err) == PINT_OK) {
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            ((int64_t *)column->values)[row]++;
        }
        EXPECT_OK(pint_job_done(job, &lease, &err), &err);
        n++;
    }
    return n;
}

TEST(AddColumns, AreUsedByJobsThatAnotherSessionJoinsUnseen)
{
    scene s;
    pint_error err;
    pint_job *old;
    pint_job *job;
    pint_job *joined;
    pint_lease lease;
    const pint_use use_x[] = {{"x", PINT_INOUT, 0}};
    const pint_use uses[] = {{"z", PINT_INOUT, 0}, {"x", PINT_IN, 0}};
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_create(s.table, "old", use_x, 1, &old, &err), &err);
    ASSERT_OK(pint_job_next(old, &lease, &err), &err);
    ASSERT_OK(add_one(s.a, s.table, "z", &err), &err);
    /* a job from before goes on, with a lease from before */
    ASSERT_OK(pint_job_done(old, &lease, &err), &err);
    const pint_column x = column_of(s.table, "x");
    EXPECT_EQ(run_job(old, &x), ROWS / CHUNK_ROWS - 1);
    pint_job_close(old);
    ASSERT_OK(pint_job_create(s.table, "j", uses, 2, &job, &err), &err);
    ASSERT_EQ(pinti_load32_relaxed(&s.other->desc->xn_columns), 2u); /* b has not looked */
    ASSERT_OK(pint_job_create(s.other, "j", NULL, 0, &joined, &err), &err);
    /* b takes a chunk and dies: it is done by a */
    ASSERT_OK(pint_job_next(joined, &lease, &err), &err);
    const pint_column z = column_of(s.table, "z");
    ((int64_t *)z.values)[lease.first] = 1000;
    const pinti_sweep_result result = local_session_kill(s.local, s.b, false);
    EXPECT_EQ(result.n_restore, 1u);
    EXPECT_EQ(run_job(job, &z), ROWS / CHUNK_ROWS);
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_EQ(((const int64_t *)z.values)[row], 1);
    }
    pint_job_close(job);
    s.b = local_session_new(s.local);
    ASSERT_OK(pint_table_open(s.b, "t", PINT_READ, &s.other, &err), &err);
    ASSERT_NO_FATAL(tear_down(&s));
}

/* The operation locks of columns in different blocks are different ones. */
TEST(AddColumns, HaveOperationLocksOfTheirOwn)
{
    scene s;
    pint_error err;
    char name[16];
    pint_lease leases[40];
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < 40; i++) { /* into the second block */
        (void)snprintf(name, sizeof(name), "c%u", i);
        ASSERT_OK(add_one(s.a, s.table, name, &err), &err);
    }
    ASSERT_EQ(pint_table_columns(s.table), 42u);
    for (uint32_t i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof(name), "c%u", i);
        const pint_column column = column_of(s.table, name);
        ASSERT_OK(pint_lease_claim(&column, 1, 2, PINT_INOUT, 0, &leases[i], &err), &err);
    }
    for (uint32_t i = 0; i < 40; i++) {
        ASSERT_OK(pint_lease_commit(&leases[i], &err), &err);
    }
    ASSERT_NO_FATAL(tear_down(&s));
}

TEST(AddColumns, AreNotAddedToAFrozenTableAndFreezeSeesTheirLeases)
{
    scene s;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(add_one(s.a, s.table, "z", &err), &err);
    const pint_column z = column_of(s.table, "z");
    const pinti_sweep_view view = {s.a->catalog, s.a->sync, s.a->sync_bytes, s.a->bells};
    EXPECT_FALSE(pinti_sweep_table_is_held(&view, pinti_table_index(s.table)));
    ASSERT_OK(pint_lease_claim(&z, 1, 2, PINT_OUT, 0, &lease, &err), &err);
    EXPECT_TRUE(pinti_sweep_table_is_held(&view, pinti_table_index(s.table)));
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    ASSERT_OK(local_table_freeze(s.table), NULL);
    EXPECT_STATUS(PINT_E_FROZEN, add_one(s.a, s.table, "w", &err), &err);
    EXPECT_STATUS(PINT_E_FROZEN, pint_lease_claim(&z, 1, 2, PINT_OUT, 0, &lease, &err), &err);
    ASSERT_NO_FATAL(tear_down(&s));
}

/* A record that cannot be is found at the look, and the columns before it are usable. */
TEST(AddColumns, ARecordThatCannotBeIsCorrupt)
{
    scene s;
    pint_error err;
    pint_column column;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(add_one(s.a, s.table, "good", &err), &err);
    ASSERT_OK(add_one(s.a, s.table, "bad", &err), &err);
    pinti_column_rec *rec = pinti_cat_column(s.a->catalog, s.table->desc->rec, 3);
    const uint64_t words_off = rec->words_off;
    rec->words_off = s.a->sync_bytes;
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_column(s.other, "bad", &column, &err), &err);
    EXPECT_STATUS(PINT_E_CORRUPT, pint_table_column_at(s.other, 3, &column, &err), &err);
    EXPECT_OK(pint_table_column(s.other, "good", &column, &err), &err);
    EXPECT_OK(pint_table_column_at(s.other, 2, &column, &err), &err);
    EXPECT_EQ(pint_table_columns(s.other), 3u);
    rec->words_off = words_off;
    EXPECT_OK(pint_table_column(s.other, "bad", &column, &err), &err);
    ASSERT_NO_FATAL(tear_down(&s));
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { ADDED = 150, LOOKERS = 3 };

typedef struct looker {
    pthread_t thread;
    pint_table *table;
    uint64_t random;
    uint32_t number;
    char wrong[160];
} looker;

/* Every column that is found is whole, stays where it was, and can be leased. */
static void *look(void *argument)
{
    looker *l = argument;
    pint_error err;
    uint32_t n_seen = 0;
    while (n_seen < 2 + ADDED && l->wrong[0] == '\0') {
        const uint32_t n = pint_table_columns(l->table);
        const uint32_t index = (uint32_t)random_below(&l->random, n);
        pint_column by_index;
        pint_column by_name;
        pint_lease lease;
        if (n < n_seen || pint_table_column_at(l->table, index, &by_index, &err) != PINT_OK ||
            pint_table_column(l->table, pint_column_name(&by_index), &by_name, &err) != PINT_OK ||
            by_name.values != by_index.values || by_name.index != index) {
            (void)snprintf(l->wrong, sizeof(l->wrong), "column %u of %u", index, n);
            break;
        }
        const uint32_t use = n % 3 == 0 ? PINT_INOUT : PINT_UPDATE;
        pint_status status = pint_lease_claim(&by_name, 1, l->number % 3, use, 0, &lease, &err);
        if (status == PINT_OK) {
            ((int64_t *)by_name.values)[lease.first]++;
            status = pint_lease_commit(&lease, &err);
        }
        if (status != PINT_OK && status != PINT_E_BUSY) {
            (void)snprintf(l->wrong, sizeof(l->wrong), "%.150s", err.message);
        }
        if (index >= 2 && ((const int64_t *)by_index.values)[ROWS - 1] != (int64_t)index) {
            (void)snprintf(l->wrong, sizeof(l->wrong), "column %u was seen half made", index);
        }
        n_seen = n;
    }
    return NULL;
}

TEST(AddColumns, AreSeenWholeByThreadsThatLookMeanwhile, .timeout_s = 200)
{
    scene s;
    pint_error err;
    looker lookers[LOOKERS];
    uint64_t random = random_seed();
    char name[16];
    ASSERT_NO_FATAL(set_up(&s));
    for (uint32_t i = 0; i < LOOKERS; i++) {
        lookers[i] = (looker){
            .table = i % 2 == 0 ? s.other : s.table, .random = random_next(&random), .number = i};
        ASSERT_EQ(pthread_create(&lookers[i].thread, NULL, look, &lookers[i]), 0);
    }
    for (uint32_t i = 0; i < ADDED; i++) {
        (void)snprintf(name, sizeof(name), "c%u", i);
        const char *const names[] = {name};
        pint_table *from = build(s.a, names, 1, PINT_INT64);
        const pint_column column = column_of(from, name);
        ((int64_t *)column.values)[ROWS - 1] = 2 + i;
        ASSERT_OK(local_table_add_columns(s.table, from, &err), &err);
    }
    for (uint32_t i = 0; i < LOOKERS; i++) {
        (void)pthread_join(lookers[i].thread, NULL);
        EXPECT_STREQ(lookers[i].wrong, "");
    }
    ASSERT_NO_FATAL(tear_down(&s));
}
