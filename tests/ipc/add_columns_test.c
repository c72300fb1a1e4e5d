/* SPDX-License-Identifier: Apache-2.0 */
/* pint_table_add_columns() between processes, with a service that may die. */

#include "tests/ipc/live.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 2048, CHUNK_ROWS = 512 };

static pint_status build(pint_pool *pool, const pint_field *fields, uint32_t n, uint64_t rows,
                         pint_table **out)
{
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = n;
    schema.chunk_rows = CHUNK_ROWS;
    return pint_table_create(pool, "a name of no matter", &schema, rows, out, &live_err);
}

/* A table of one int64 column, not published. */
static pint_status build_one(pint_pool *pool, const char *name, pint_table **out)
{
    const pint_field field = live_field(name, PINT_INT64);
    return build(pool, &field, 1, ROWS, out);
}

static pint_status publish(pint_pool *pool, const char *name, pint_table **out)
{
    pint_field fields[2] = {live_field("id", PINT_INT64), live_field("x", PINT_FLOAT64)};
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = 2;
    schema.chunk_rows = CHUNK_ROWS;
    const pint_status status = pint_table_create(pool, name, &schema, ROWS, out, &live_err);
    return status == PINT_OK ? pint_table_publish(*out, 0, &live_err) : status;
}

static pint_status add_one(pint_pool *pool, pint_table *table, const char *name)
{
    pint_table *from = NULL;
    pint_status status = build_one(pool, name, &from);
    if (status == PINT_OK) {
        status = pint_table_add_columns(table, from, &live_err);
        if (status != PINT_OK) {
            pint_table_close(from);
        }
    }
    return status;
}

static int64_t *values_of(pint_table *table, const char *name)
{
    pint_column column;
    return pint_table_column(table, name, &column, &live_err) == PINT_OK
               ? pint_column_values(&column)
               : NULL;
}

static bool all_is_back(void)
{
    return ct_eventually(live_stat_number("used_bytes") == 0 && live_stat_number("dying") == 0,
                         10000);
}

/* ---- what is seen ---------------------------------------------------------------------------- */

/* arguments: address. Has the table open before, looks when told to. */
PROC(sees_all)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_column column;
    const char *text = NULL;
    uint64_t bytes = 0;
    CT_REQUIRE(argc == 2);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_columns(table) == 2);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    EXPECT_EQ(pint_table_columns(table), 6);
    CT_REQUIRE(pint_table_column(table, "text", &column, &live_err) == PINT_OK);
    EXPECT_OK(pint_column_get_text(&column, 3, &text, &bytes, &live_err), &live_err);
    EXPECT_TRUE(bytes == 5 && memcmp(text, "three", 5) == 0);
    EXPECT_OK(pint_column_get_text(&column, ROWS - 1, &text, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, 0); /* never put: empty */
    CT_REQUIRE(pint_table_column(table, "kind", &column, &live_err) == PINT_OK);
    EXPECT_OK(pint_column_get_text(&column, 5, &text, &bytes, &live_err), &live_err);
    EXPECT_TRUE(bytes == 3 && memcmp(text, "red", 3) == 0);
    int32_t code = -1;
    EXPECT_OK(pint_column_add_category(&column, "blue", 4, &code, &live_err), &live_err);
    EXPECT_EQ(code, 1);
    CT_REQUIRE(pint_table_column(table, "list", &column, &live_err) == PINT_OK);
    EXPECT_EQ(pint_column_list_length(&column), 4);
    EXPECT_EQ(((const float *)pint_column_values(&column))[4 * 9 + 2], 9.5F);
    CT_REQUIRE(pint_table_column(table, "maybe", &column, &live_err) == PINT_OK);
    EXPECT_EQ(pint_column_count_null(&column, 0, ROWS), ROWS - 1);
    EXPECT_EQ(((const int64_t *)pint_column_values(&column))[8], 88);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

static void fill(pint_table *from)
{
    pint_column column;
    int32_t code = -1;
    ASSERT_OK(pint_table_column(from, "text", &column, &live_err), &live_err);
    ASSERT_OK(pint_column_put_text(&column, 3, "three", 5, &live_err), &live_err);
    ASSERT_OK(pint_table_column(from, "kind", &column, &live_err), &live_err);
    ASSERT_OK(pint_column_add_category(&column, "red", 3, &code, &live_err), &live_err);
    ((int16_t *)pint_column_values(&column))[5] = (int16_t)code;
    ASSERT_OK(pint_table_column(from, "list", &column, &live_err), &live_err);
    ((float *)pint_column_values(&column))[4 * 9 + 2] = 9.5F;
    ASSERT_OK(pint_table_column(from, "maybe", &column, &live_err), &live_err);
    ((int64_t *)pint_column_values(&column))[8] = 88;
    ASSERT_OK(pint_column_set_null(&column, 8, 0, &live_err), &live_err);
}

TEST(AddColumns, OfAllKindsAreSeenByAProcessThatHadTheTableOpen)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *from = NULL;
    pint_column column;
    pint_field fields[4] = {live_field("text", PINT_TEXT), live_field("kind", PINT_DICT_TEXT),
                            live_field("list", PINT_LIST_FIXED), live_field("maybe", PINT_INT64)};
    fields[0].data_bytes = 100;
    fields[1].item_type = PINT_INT16;
    fields[1].n_categories = 10;
    fields[1].data_bytes = 100;
    fields[2].item_type = PINT_FLOAT32;
    fields[2].list_length = 4;
    fields[3].flags = PINT_NULLABLE;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t child = ct_spawn("sees_all", arguments);
    ASSERT_TRUE(ct_wait_ready(child));
    ASSERT_OK(build(pool, fields, 4, ROWS, &from), &live_err);
    ASSERT_NO_FATAL(fill(from));
    const uint64_t bytes = pint_table_bytes(table) + pint_table_bytes(from);
    ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
    EXPECT_EQ(pint_table_bytes(table), bytes);
    EXPECT_EQ(live_stat_number("used_bytes"), (double)bytes);
    ct_go(child);
    EXPECT_EQ(ct_wait(child), 0);
    ASSERT_OK(pint_table_column(table, "kind", &column, &live_err), &live_err);
    EXPECT_EQ(pint_column_categories(&column), 2);
    /* text of a published table does not change */
    ASSERT_OK(pint_table_column(table, "text", &column, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_STATE, pint_column_put_text(&column, 9, "x", 1, &live_err), &live_err);
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
    live_stop();
}

TEST(AddColumns, TwoHundredOneAfterAnotherAndAllGoesWithTheTable, .timeout_s = 60)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    char name[16];
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    for (int i = 0; i < 200; i++) {
        pint_table *from = NULL;
        (void)snprintf(name, sizeof(name), "c%d", i);
        ASSERT_OK(build_one(pool, name, &from), &live_err);
        values_of(from, name)[i] = i;
        ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
    }
    EXPECT_EQ(pint_table_columns(table), 202);
    ASSERT_EQ(kill(live_service_pid(), SIGKILL), 0); /* the next one knows all of it */
    EXPECT_EQ(live_stat_number("used_bytes"), (double)pint_table_bytes(table));
    ASSERT_OK(add_one(pool, table, "after"), &live_err);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "c%d", i);
        const int64_t *values = values_of(table, name);
        ASSERT_TRUE(values != NULL);
        ASSERT_EQ(values[i], i);
        ASSERT_EQ(values[(i + 1) % ROWS], 0);
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("dying") == 0, 10000)); /* the donors */
    EXPECT_EQ(live_stat_number("used_bytes"), (double)pint_table_bytes(table));
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
    live_stop();
}

/* ---- what is refused ------------------------------------------------------------------------- */

/* The table is as it was, and from still is what it was: it can be added elsewhere. */
TEST(AddColumns, RefusedOnesLeaveBothTablesAsTheyWere)
{
    pint_pool *pool = NULL;
    pint_pool *second = NULL;
    pint_table *table = NULL;
    pint_table *read_only = NULL;
    pint_table *from = NULL;
    pint_table *other = NULL;
    pint_job *job = NULL;
    pint_column column;
    pint_lease lease;
    const pint_use use = {"y", PINT_OUT, 0};
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_join(ct_tmpdir(), 0, &second), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    ASSERT_OK(build_one(pool, "y", &from), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(table, NULL, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(table, table, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(from, from, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_STATE, pint_table_add_columns(from, table, &live_err), &live_err);
    ASSERT_OK(pint_table_open(pool, "t", PINT_READ, &read_only, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_add_columns(read_only, from, &live_err), &live_err);
    pint_table_close(read_only);
    ASSERT_OK(pint_table_open(second, "t", PINT_WRITE, &other, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(other, from, &live_err), &live_err);
    pint_table_close(other);
    /* a name that is there, other rows, other chunks */
    EXPECT_STATUS(PINT_E_EXISTS, add_one(pool, table, "x"), &live_err);
    const pint_field field = live_field("z", PINT_INT64);
    ASSERT_OK(build(pool, &field, 1, ROWS + 1, &other), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(table, other, &live_err), &live_err);
    pint_table_close(other);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = 2ull * CHUNK_ROWS;
    ASSERT_OK(pint_table_create(pool, "u", &schema, ROWS, &other, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_add_columns(table, other, &live_err), &live_err);
    pint_table_close(other);
    /* a chunk of it is leased; a job of it is open */
    ASSERT_OK(pint_table_column(from, "y", &column, &live_err), &live_err);
    ASSERT_OK(pint_lease_claim(&column, 1, 0, PINT_OUT, 0, &lease, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_table_add_columns(table, from, &live_err), &live_err);
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    ASSERT_OK(pint_job_create(from, "j", &use, 1, &job, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_table_add_columns(table, from, &live_err), &live_err);
    pint_job_close(job);
    ASSERT_OK(pint_lease_claim(&column, 1, 0, PINT_INOUT, 0, &lease, &live_err), &live_err);
    ((int64_t *)pint_column_values(&column))[0] = 17;
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    /* frozen */
    ASSERT_OK(publish(pool, "frozen", &other), &live_err);
    ASSERT_OK(pint_table_freeze(other, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_FROZEN, pint_table_add_columns(other, from, &live_err), &live_err);
    ASSERT_OK(pint_table_drop(pool, "frozen", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_DROPPED, pint_table_add_columns(other, from, &live_err), &live_err);
    pint_table_close(other);
    /* none of it did anything: now it works, with the undo lease and the job of before */
    EXPECT_EQ(pint_table_columns(table), 2);
    ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
    ASSERT_TRUE(values_of(table, "y") != NULL);
    EXPECT_EQ(values_of(table, "y")[0], 17);
    ASSERT_OK(pint_table_column(table, "y", &column, &live_err), &live_err);
    ASSERT_OK(pint_lease_claim(&column, 1, 0, PINT_INOUT, 0, &lease, &live_err), &live_err);
    ASSERT_OK(pint_lease_abandon(&lease, &live_err), &live_err);
    ASSERT_OK(pint_job_create(table, "j", &use, 1, &job, &live_err), &live_err);
    pint_job_close(job);
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
    pint_pool_leave(second);
    live_stop();
}

/* arguments: address. Adds twenty columns, each of which another adds too. Status: how many it was
 * that this one added. */
PROC(adds_the_same)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    char name[16];
    int n = 0;
    CT_REQUIRE(argc == 2);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "c%d", i);
        const pint_status status = add_one(pool, table, name);
        CT_REQUIRE(status == PINT_OK || status == PINT_E_EXISTS);
        CT_REQUIRE(values_of(table, name) != NULL); /* whoever did it */
        n += status == PINT_OK;
    }
    pint_table_close(table);
    pint_pool_leave(pool);
    return n;
}

TEST(AddColumns, OfOneNameAreAddedByOneOfTwoProcesses)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pid_t children[2];
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    const char *const arguments[] = {ct_tmpdir(), NULL};
    for (int i = 0; i < 2; i++) {
        children[i] = ct_spawn("adds_the_same", arguments);
        ASSERT_TRUE(ct_wait_ready(children[i]));
    }
    ct_go(children[0]);
    ct_go(children[1]);
    EXPECT_EQ(ct_wait(children[0]) + ct_wait(children[1]), 20);
    EXPECT_EQ(pint_table_columns(table), 22);
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
    live_stop();
}

/* ---- deaths ---------------------------------------------------------------------------------- */

/* arguments: address. Makes columns, and is killed before it adds them. */
PROC(makes_columns)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *from = NULL;
    CT_REQUIRE(argc == 2);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(build_one(pool, "y", &from) == PINT_OK);
    ct_ready();
    (void)ct_wait_go();
    return 1; /* not reached */
}

TEST(AddColumns, OfOneWhoDiesBeforeTheCallLeaveNothing)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    const double used = live_stat_number("used_bytes");
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t child = ct_spawn("makes_columns", arguments);
    ASSERT_TRUE(ct_wait_ready(child));
    EXPECT_GT(live_stat_number("used_bytes"), used);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(ct_wait(child), 128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == used, 10000));
    EXPECT_EQ(pint_table_columns(table), 2);
    EXPECT_OK(add_one(pool, table, "y"), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* arguments: address. Dies with a lease with undo, one without, and a chunk of a job, all on an
 * added column. */
PROC(holds_added)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_column column;
    pint_lease lease;
    const pint_use use = {"y", PINT_INOUT, 0};
    CT_REQUIRE(argc == 2);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "y", &column, &live_err) == PINT_OK);
    int64_t *values = pint_column_values(&column);
    CT_REQUIRE(pint_job_create(table, "job", &use, 1, &job, &live_err) == PINT_OK);
    CT_REQUIRE(pint_job_next(job, &lease, &live_err) == PINT_OK);
    CT_REQUIRE(lease.first == 0);
    values[lease.first] = -1;
    CT_REQUIRE(pint_lease_claim(&column, 1, 1, PINT_INOUT, 0, &lease, &live_err) == PINT_OK);
    values[lease.first] = -1;
    CT_REQUIRE(pint_lease_claim(&column, 1, 2, PINT_UPDATE, 0, &lease, &live_err) == PINT_OK);
    ct_ready();
    (void)ct_wait_go();
    return 1; /* not reached */
}

TEST(AddColumns, AreUndoneAndTornWhenTheirHolderIsKilled)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_column column;
    pint_lease lease;
    const pint_use use = {"y", PINT_INOUT, 0};
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    ASSERT_OK(add_one(pool, table, "y"), &live_err);
    int64_t *values = values_of(table, "y");
    ASSERT_TRUE(values != NULL);
    for (int i = 0; i < ROWS; i++) {
        values[i] = i;
    }
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t child = ct_spawn("holds_added", arguments);
    ASSERT_TRUE(ct_wait_ready(child));
    ASSERT_OK(pint_table_column(table, "y", &column, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&column, 1, 2, PINT_OUT, 0, &lease, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_table_freeze(table, &live_err), &live_err);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(ct_wait(child), 128 + SIGKILL);
    ASSERT_OK(pint_lease_claim(&column, 1, 1, PINT_UPDATE, 10000, &lease, &live_err), &live_err);
    EXPECT_EQ(values[CHUNK_ROWS], CHUNK_ROWS); /* the old bytes */
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_TORN,
                  pint_lease_claim(&column, 1, 2, PINT_UPDATE, 10000, &lease, &live_err),
                  &live_err);
    ASSERT_OK(pint_column_recover(&column, 2, &live_err), &live_err);
    ASSERT_OK(pint_job_create(table, "job", &use, 1, &job, &live_err), &live_err);
    int n = 0;
    while (pint_job_next(job, &lease, &live_err) == PINT_OK) {
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            values[row]++;
        }
        ASSERT_OK(pint_job_done(job, &lease, &live_err), &live_err);
        n++;
    }
    EXPECT_EQ(n, ROWS / CHUNK_ROWS);
    for (int i = 0; i < ROWS; i++) {
        ASSERT_EQ(values[i], i + 1);
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* A child that was forked with the donor open keeps its bytes, also when the table they went to is
 * dropped. */
TEST(AddColumns, StayForAForkedChildThatHasTheirTableOpen)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *from = NULL;
    int to_child[2];
    int to_parent[2];
    char byte = 0;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    ASSERT_OK(build_one(pool, "y", &from), &live_err);
    int64_t *values = values_of(from, "y");
    values[1] = 11;
    ASSERT_EQ(pipe(to_child), 0);
    ASSERT_EQ(pipe(to_parent), 0);
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        (void)alarm(30);
        pint_table *own = NULL; /* becomes a session of its own, that refers to both */
        bool good = pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_OK;
        pint_table_close(own);
        pint_table_close(table); /* from is all it has */
        good = good && write(to_parent[1], "r", 1) == 1 && read(to_child[0], &byte, 1) == 1;
        good = good && values[1] == 11;
        pint_table_close(from);
        pint_pool_leave(pool);
        _exit(good ? 0 : 1);
    }
    ASSERT_EQ(read(to_parent[0], &byte, 1), 1);
    ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
    pint_table_close(table);
    const double used = live_stat_number("used_bytes");
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    /* what could take the bytes over does not */
    for (int i = 0; i < 20; i++) {
        ASSERT_OK(build_one(pool, "z", &from), &live_err);
        values_of(from, "z")[1] = 99;
        pint_table_close(from);
    }
    EXPECT_EQ(values[1], 11);
    EXPECT_GE(live_stat_number("used_bytes"), used);
    EXPECT_EQ(write(to_child[1], "g", 1), 1);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(all_is_back());
    for (int i = 0; i < 2; i++) {
        (void)close(to_child[i]);
        (void)close(to_parent[i]);
    }
    pint_pool_leave(pool);
    live_stop();
}

/* ---- the service dies ------------------------------------------------------------------------ */

TEST(AddColumns, AServiceThatDiesIsNotNoticed)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *from = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    for (int i = 0; i < 3; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "c%d", i);
        ASSERT_OK(build_one(pool, name, &from), &live_err);
        ASSERT_EQ(kill(live_service_pid(), SIGKILL), 0);
        ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
        EXPECT_EQ(pint_table_columns(table), 3 + i);
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("dying") == 0, 10000));
    EXPECT_EQ(live_stat_number("used_bytes"), (double)pint_table_bytes(table));
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
    live_stop();
}

#if PINT_CRASHPOINTS
/* The request comes back with success, whatever step the service died at. */
static void live_through_additions(void)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *from = NULL;
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(publish(pool, "t", &table), &live_err);
    for (int i = 0; i < 3; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "c%d", i);
        ASSERT_OK(build_one(pool, name, &from), &live_err);
        values_of(from, name)[3] = i;
        ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
        ASSERT_EQ(pint_table_columns(table), 3 + i);
        ASSERT_EQ(values_of(table, name)[3], i);
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("dying") == 0, 10000));
    EXPECT_EQ(live_stat_number("used_bytes"), (double)pint_table_bytes(table));
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_TRUE(all_is_back());
    pint_pool_leave(pool);
}

TEST(AddColumns, AServiceThatDiesAtAnyStepIsNotNoticed, .timeout_s = 120)
{
    static const char *const points[] = {"SERVICE_ADD_COPIED", "SERVICE_ADD_NOTED",
                                         "SERVICE_ADD_HALF",   "SERVICE_ADD_SEEN",
                                         "SERVICE_ADDED",      "SERVICE_FREE_HALF"};
    live_set_up();
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        for (int nth = 1; nth <= 2; nth++) {
            char text[64];
            (void)snprintf(text, sizeof(text), "%s:%d", points[i], nth);
            ASSERT_EQ(setenv("PINTABLE_CRASH", text, 1), 0); /* for the service we start */
            live_through_additions();
            EXPECT_EQ(unsetenv("PINTABLE_CRASH"), 0);
            if (ct_has_fatal_failure()) {
                FAIL("at %s", text);
            }
            EXPECT_EQ(live_stat_number("incarnation"), 2); /* it did die */
            live_stop();
        }
    }
}
#endif
