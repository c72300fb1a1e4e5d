/* SPDX-License-Identifier: Apache-2.0 */
/* A pool from join to leave against the real service: started on demand, shared by threads. */

#include "tests/ipc/live.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- joining --------------------------------------------------------------------------------- */

TEST(Join, StartsAPrivateServiceAndLeaves)
{
    pint_pool *pool = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    EXPECT_NE(pint_pool_session(pool), 0);
    EXPECT_STREQ(pint_pool_address(pool), live_path("/pool-v1.sock"));
    const char *family = getenv("PINTABLE_FAMILY");
    ASSERT_NE(family, NULL);
    EXPECT_EQ(strlen(family), 16);
    pint_pool_leave(pool);
    pint_pool_leave(NULL);
    live_stop();
}

TEST(Join, WithoutStartingSaysThatNoServiceRuns)
{
    pint_pool *pool = NULL;
    live_set_up();
    EXPECT_STATUS(PINT_E_NO_SERVICE, live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool), &live_err);
    EXPECT_STATUS(PINT_E_NO_SERVICE, live_join(live_path("/none"), PINT_JOIN_NO_START, &pool),
                  &live_err);
    EXPECT_EQ(access(live_path("/none"), F_OK), -1);
    EXPECT_EQ(pool, NULL);
}

TEST(Join, ChecksItsArguments)
{
    struct {
        pint_join_options own;
        uint64_t later; /* a member of a newer version */
    } longer = {.own = PINT_JOIN_INIT};
    pint_pool *pool = NULL;
    live_set_up();
    EXPECT_STATUS(PINT_E_INVALID, pint_pool_join(ct_tmpdir(), NULL, NULL, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, live_join(ct_tmpdir(), 8, &pool), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, live_join("", 0, &pool), &live_err);
    pint_join_options options = PINT_JOIN_INIT;
    options.timeout_ms = -1;
    EXPECT_STATUS(PINT_E_INVALID, pint_pool_join(ct_tmpdir(), &options, &pool, &live_err),
                  &live_err);
    options = (pint_join_options)PINT_JOIN_INIT;
    options.struct_bytes = 4;
    EXPECT_STATUS(PINT_E_INVALID, pint_pool_join(ct_tmpdir(), &options, &pool, &live_err),
                  &live_err);
    longer.own.flags = PINT_JOIN_NO_START;
    longer.own.struct_bytes = sizeof(longer);
    EXPECT_STATUS(PINT_E_NO_SERVICE, pint_pool_join(ct_tmpdir(), &longer.own, &pool, &live_err),
                  &live_err);
    longer.later = 1;
    EXPECT_STATUS(PINT_E_INVALID, pint_pool_join(ct_tmpdir(), &longer.own, &pool, &live_err),
                  &live_err);
    ASSERT_EQ(setenv("PINTABLE_FAMILY", "not a family", 1), 0);
    EXPECT_STATUS(PINT_E_INVALID, live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool), &live_err);
    EXPECT_EQ(unsetenv("PINTABLE_FAMILY"), 0);
    EXPECT_EQ(pool, NULL);
}

TEST(Join, GivesIndependentSessionsAndDoesNotLeakDescriptors)
{
    enum { N = 8 };
    pint_pool *pools[N];
    live_set_up();
    for (int i = 0; i < N; i++) {
        ASSERT_OK(live_join(ct_tmpdir(), i % 2 == 0 ? 0 : PINT_JOIN_READ, &pools[i]), &live_err);
        for (int j = 0; j < i; j++) {
            EXPECT_NE(pint_pool_session(pools[i]), pint_pool_session(pools[j]));
        }
    }
    for (int i = 0; i < N; i++) {
        pint_pool_leave(pools[i]);
    }
    live_stop();
}

TEST(Join, FindsTheProgramInThePath)
{
    pint_pool *pool = NULL;
    char *before = strdup(getenv("PATH"));
    live_set_up();
    ASSERT_EQ(unsetenv("PINTABLED"), 0);
    ASSERT_EQ(setenv("PATH", ".:relative::/absent", 1), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, live_join(ct_tmpdir(), 0, &pool), &live_err);
    EXPECT_NE(strstr(live_err.message, "$PINTABLED"), NULL);
    ASSERT_EQ(setenv("PATH", ":/absent:" PINT_BIN_DIR ":/usr/bin", 1), 0);
    EXPECT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    pint_pool_leave(pool);
    ASSERT_EQ(setenv("PATH", before, 1), 0);
    free(before);
    live_stop();
}

/* With n descriptors free, for every n up to where it succeeds; the shim sees any leak. */
TEST(Join, FailsCleanlyWhenDescriptorsRunOut)
{
    pint_pool *first = NULL;
    struct rlimit before;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &first), &live_err);
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    pint_status status = PINT_E_FD_LIMIT;
    int n = 0;
    for (; status != PINT_OK && n < 40; n++) {
        const int next = dup(STDIN_FILENO);
        ASSERT_GE(next, 0);
        ASSERT_EQ(close(next), 0);
        const struct rlimit tight = {.rlim_cur = (rlim_t)(next + n), .rlim_max = before.rlim_max};
        pint_pool *pool = NULL;
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
        status = live_join(ct_tmpdir(), 0, &pool);
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (status != PINT_OK) {
            EXPECT_STATUS(PINT_E_FD_LIMIT, status, &live_err);
        }
        pint_pool_leave(pool);
    }
    EXPECT_OK(status, &live_err);
    EXPECT_GE(n, 7);
    /* no session is left of those that the service made but we could not take */
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 5000));
    pint_pool_leave(first);
    live_stop();
}

/* arguments: address, uid, expected status read-write, expected status read-only */
PROC(join_as_another)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    CT_REQUIRE(argc == 5);
    CT_REQUIRE(setgid((gid_t)strtoul(argv[2], NULL, 10)) == 0 &&
               setuid((uid_t)strtoul(argv[2], NULL, 10)) == 0);
    EXPECT_STATUS((int)strtol(argv[3], NULL, 10), live_join(argv[1], 0, &pool), &live_err);
    if (pool != NULL) {
        EXPECT_OK(live_create(pool, "theirs", 10, &table), &live_err);
        EXPECT_OK(pint_table_publish(table, 0, &live_err), &live_err);
        pint_table_close(table);
        EXPECT_STATUS(PINT_E_PERMISSION, pint_table_drop(pool, "ours", &live_err), &live_err);
        pint_pool_leave(pool);
        pool = NULL;
    }
    EXPECT_STATUS((int)strtol(argv[4], NULL, 10), live_join(argv[1], PINT_JOIN_READ, &pool),
                  &live_err);
    if (pool != NULL) {
        EXPECT_OK(pint_table_open(pool, "ours", PINT_READ, &table, &live_err), &live_err);
        pint_table_close(table);
        pint_pool_leave(pool);
    }
    return 0;
}

TEST(Join, ByAnotherUserIsUpToTheMode)
{
    static const char *const modes[][3] = {
        {"0666", "0", "0"}, {"0664", "-5", "0"}, {"0600", "-5", "-5"}};
    if (geteuid() != 0) {
        SKIP("needs root, to become another user");
    }
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        pint_pool *pool = NULL;
        pint_table *table = NULL;
        live_set_up();
        ASSERT_EQ(chmod(ct_tmpdir(), 0755), 0);
        const pid_t keeper = live_start("--mode", modes[i][0]);
        ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
        ASSERT_OK(live_create(pool, "ours", 10, &table), &live_err);
        ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
        const char *const arguments[] = {ct_tmpdir(), "12345", modes[i][1], modes[i][2], NULL};
        EXPECT_EQ(ct_wait(ct_spawn("join_as_another", arguments)), 0);
        pint_table_close(table);
        pint_pool_leave(pool);
        live_stop();
        EXPECT_EQ(ct_wait(keeper), 0);
    }
}

/* ---- tables ---------------------------------------------------------------------------------- */

TEST(Requests, MakePublishOpenRenameFreezeAndDropATable)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *again = NULL;
    pint_column column;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "flights", 1000, &table), &live_err);
    EXPECT_EQ(pint_table_rows(table), 1000);
    EXPECT_EQ(pint_table_columns(table), 2);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(pool, "flights", PINT_READ, &again, &live_err),
                  &live_err);
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    ((double *)pint_column_values(&column))[999] = 1.5;
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_STATE, pint_table_publish(table, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_publish(table, 8, &live_err), &live_err);
    ASSERT_OK(pint_table_open(pool, "flights", PINT_READ, &again, &live_err), &live_err);
    ASSERT_OK(pint_table_column(again, "x", &column, &live_err), &live_err);
    EXPECT_EQ(((const double *)pint_column_values(&column))[999], 1.5);
    pint_table_close(again);

    ASSERT_OK(pint_table_rename(pool, "flights", "old \xc3\xa9", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_rename(pool, "flights", "y", &live_err), &live_err);
    ASSERT_OK(pint_table_open(pool, "old \xc3\xa9", PINT_WRITE, &again, &live_err), &live_err);
    pint_table_close(again);
    ASSERT_OK(pint_table_freeze(table, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_FROZEN,
                  pint_table_open(pool, "old \xc3\xa9", PINT_WRITE, &again, &live_err), &live_err);
    ASSERT_OK(pint_table_drop(pool, "old \xc3\xa9", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_drop(pool, "old \xc3\xa9", &live_err), &live_err);
    EXPECT_TRUE(pint_table_is_dropped(table));
    EXPECT_STATUS(PINT_E_DROPPED, pint_table_publish(table, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_DROPPED, pint_table_freeze(table, &live_err), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

TEST(Requests, ReplaceANameInOneStep)
{
    pint_pool *pool = NULL;
    pint_table *first = NULL;
    pint_table *second = NULL;
    pint_table *found = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 10, &first), &live_err);
    ASSERT_OK(pint_table_publish(first, 0, &live_err), &live_err);
    ASSERT_OK(live_create(pool, "t", 20, &second), &live_err);
    EXPECT_STATUS(PINT_E_EXISTS, pint_table_publish(second, 0, &live_err), &live_err);
    EXPECT_OK(pint_table_publish(second, PINT_REPLACE, &live_err), &live_err);
    ASSERT_OK(pint_table_open(pool, "t", PINT_READ, &found, &live_err), &live_err);
    EXPECT_EQ(pint_table_rows(found), 20);
    EXPECT_TRUE(pint_table_is_dropped(first));
    pint_table_close(found);
    pint_table_close(first);
    pint_table_close(second);
    pint_pool_leave(pool);
    live_stop();
}

TEST(Requests, DropATableThatWasNeverPublishedWhenItIsClosed)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    for (int i = 0; i < 20; i++) {
        ASSERT_OK(live_create(pool, "t", 1 << 20, &table), &live_err);
        pint_table_close(table);
    }
    EXPECT_EQ(live_stat_number("used_bytes"), 0);
    pint_pool_leave(pool);
    live_stop();
}

/* Every type with what belongs to it. */
TEST(Requests, PassEveryMemberOfAField)
{
    pint_field fields[24];
    char names[24][32];
    uint32_t n = 0;
    for (pint_type type = PINT_BOOL; type <= PINT_LIST_FIXED; type++) {
        (void)snprintf(names[n], sizeof(names[n]), "c%u \"\\\xe2\x82\xac", n);
        fields[n] = live_field(names[n], type);
        fields[n].flags = type % 2 == 0 ? PINT_NULLABLE : 0;
        switch (type) {
        case PINT_TIMESTAMP:
            fields[n].unit = PINT_MICROSECOND;
            fields[n].zone = "Europe/Berlin";
            break;
        case PINT_BINARY_FIXED:
            fields[n].width_bytes = 7;
            break;
        case PINT_TEXT:
            fields[n].data_bytes = 100000;
            break;
        case PINT_DICT_TEXT:
            fields[n].item_type = PINT_INT16;
            fields[n].data_bytes = 5000;
            fields[n].n_categories = 300;
            break;
        case PINT_LIST_FIXED:
            fields[n].item_type = PINT_FLOAT32;
            fields[n].list_length = 3;
            break;
        default:
            break;
        }
        n++;
    }
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = n;
    schema.chunk_rows = 1024;
    schema.flags = PINT_KEPT;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(pint_table_create(pool, "all", &schema, 5000, &table, &live_err), &live_err);
    EXPECT_EQ(pint_table_columns(table), n);
    EXPECT_EQ(pint_table_chunk_rows(table), 1024);
    for (uint32_t i = 0; i < n; i++) {
        pint_column column;
        pint_field info = PINT_FIELD_INIT;
        ASSERT_OK(pint_table_column(table, names[i], &column, &live_err), &live_err);
        (void)info;
    }
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

TEST(Requests, TakeTenThousandColumns, .timeout_s = 120)
{
    enum { N = 10000 };
    pint_field *fields = calloc(N, sizeof(*fields));
    char(*names)[256] = calloc(N, sizeof(*names));
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    ASSERT_TRUE(fields != NULL && names != NULL);
    for (int i = 0; i < N; i++) {
        /* long names, and quotes that grow in JSON */
        memset(names[i], '"', 200);
        (void)snprintf(names[i] + 200, 56, "%d", i);
        fields[i] = live_field(names[i], i % 2 == 0 ? PINT_FLOAT64 : PINT_INT8);
    }
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = N;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(pint_table_create(pool, "wide", &schema, 100, &table, &live_err), &live_err);
    EXPECT_EQ(pint_table_columns(table), N);
    pint_column column;
    EXPECT_OK(pint_table_column(table, names[N - 1], &column, &live_err), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    free(fields);
    free(names);
    live_stop();
}

TEST(Requests, CheckTheirArguments)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    char long_name[300];
    memset(long_name, 'x', sizeof(long_name));
    long_name[256] = '\0';
    const char *const bad[] = {"",     ".",        "..",           "a/b",      "a\nb",   "\x7f",
                               "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xc2\x85", long_name};
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT_STATUS(PINT_E_INVALID, live_create(pool, bad[i], 1, &table), NULL);
        EXPECT_STATUS(PINT_E_INVALID, pint_table_drop(pool, bad[i], &live_err), NULL);
        EXPECT_STATUS(PINT_E_INVALID, pint_table_rename(pool, "a", bad[i], &live_err), NULL);
        EXPECT_STATUS(PINT_E_INVALID, pint_table_rename(pool, bad[i], "a", &live_err), NULL);
    }
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(NULL, "a", NULL, 1, &table, &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "a", NULL, 1, &table, &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_publish(NULL, 0, &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_freeze(NULL, &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_drop(NULL, "a", &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_drop(pool, NULL, &live_err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_rename(pool, "a", NULL, &live_err), NULL);

    pint_field field = live_field("c", PINT_INT8);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "a", &schema, 1, &table, &live_err),
                  NULL);
    schema.n_fields = 65537;
    EXPECT_STATUS(PINT_E_RANGE, pint_table_create(pool, "a", &schema, 1, &table, &live_err), NULL);
    schema.n_fields = 1;
    schema.flags = 4;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "a", &schema, 1, &table, &live_err),
                  NULL);
    schema.flags = 0;
    schema.struct_bytes = 8;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "a", &schema, 1, &table, &live_err),
                  NULL);
    schema.struct_bytes = sizeof(schema);
    const struct {
        pint_field field;
        pint_status status;
    } fields[] = {
        {{sizeof(field), PINT_INT8, NULL, 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), PINT_INT8, "", 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), PINT_INT8, "\xff", 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), 0, "c", 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_TYPE},
        {{sizeof(field), 99, "c", 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_TYPE},
        {{sizeof(field), PINT_INT8, "c", 2, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), PINT_INT8, "c", 0, 9, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), PINT_INT8, "c", 0, 0, NULL, 0, 0, 0, 7, 0, 0, NULL, 0}, PINT_E_INVALID},
        {{sizeof(field), PINT_TIMESTAMP, "c", 0, 1, "\xff", 0, 0, 0, 0, 0, 0, NULL, 0},
         PINT_E_INVALID},
        {{sizeof(field), PINT_TIMESTAMP, "c", 0, 1, long_name, 0, 0, 0, 0, 0, 0, NULL, 0},
         PINT_E_INVALID},
        {{4, PINT_INT8, "c", 0, 0, NULL, 0, 0, 0, 0, 0, 0, NULL, 0}, PINT_E_INVALID},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        schema.fields = &fields[i].field;
        EXPECT_STATUS(fields[i].status, pint_table_create(pool, "a", &schema, 1, &table, &live_err),
                      &live_err);
    }
    EXPECT_EQ(table, NULL);
    pint_pool_leave(pool);
    live_stop();
}

/* A caller compiled with a newer header has larger fields. */
TEST(Requests, StepThroughFieldsBySizeOfTheCaller)
{
    struct newer_field {
        pint_field own;
        uint64_t later;
    } fields[3] = {{.own = PINT_FIELD_INIT}, {.own = PINT_FIELD_INIT}, {.own = PINT_FIELD_INIT}};
    const char *const names[] = {"a", "b", "c"};
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_schema schema = PINT_SCHEMA_INIT;
    for (int i = 0; i < 3; i++) {
        fields[i].own.struct_bytes = sizeof(fields[i]);
        fields[i].own.name = names[i];
        fields[i].own.type = PINT_INT32;
    }
    schema.fields = &fields[0].own;
    schema.n_fields = 3;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(pint_table_create(pool, "t", &schema, 1, &table, &live_err), &live_err);
    EXPECT_EQ(pint_table_columns(table), 3);
    pint_table_close(table);
    fields[2].later = 1;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                  &live_err);
    fields[2].later = 0;
    fields[2].own.struct_bytes = sizeof(pint_field);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                  &live_err);
    pint_pool_leave(pool);
    live_stop();
}

TEST(Requests, AreRefusedInAPoolJoinedReadOnly)
{
    pint_pool *pool = NULL;
    pint_pool *reader = NULL;
    pint_table *table = NULL;
    pint_table *found = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_READ, &reader), &live_err);
    ASSERT_OK(live_create(pool, "t", 10, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, live_create(reader, "u", 10, &found), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_drop(reader, "t", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_rename(reader, "t", "u", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_open(reader, "t", PINT_WRITE, &found, &live_err),
                  &live_err);
    ASSERT_OK(pint_table_open(reader, "t", PINT_READ, &found, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_freeze(found, &live_err), &live_err);
    pint_table_close(found);
    pint_table_close(table);
    pint_pool_leave(reader);
    pint_pool_leave(pool);
    live_stop();
}

static unsigned allocations_left = UINT32_MAX;

static void *limited_malloc(size_t bytes)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return malloc(bytes);
}

/* Join, create, publish and drop with the k-th allocation of JSON failing, for every k. */
static pint_status live_with(unsigned k)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    allocations_left = k;
    pint_status status = live_join(ct_tmpdir(), PINT_JOIN_NO_START, &pool);
    if (status == PINT_OK) {
        status = live_create(pool, "t", 10, &table);
    }
    if (status == PINT_OK) {
        status = pint_table_publish(table, PINT_REPLACE, &live_err);
        pint_table_close(table);
    }
    if (status == PINT_OK) {
        status = pint_table_rename(pool, "t", "u", &live_err);
    }
    if (status == PINT_OK) {
        status = pint_table_drop(pool, "u", &live_err);
    }
    allocations_left = UINT32_MAX;
    pint_pool_leave(pool);
    return status;
}

TEST(Requests, FailCleanlyAtEveryAllocation, .timeout_s = 120)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    cJSON_Hooks hooks = {.malloc_fn = limited_malloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
    pint_status status = PINT_E_NO_MEMORY;
    unsigned k = 0;
    for (; status != PINT_OK && k < 2000; k++) {
        status = live_with(k);
        pint_status dropped = pint_table_drop(pool, "t", NULL); /* what was left */
        EXPECT_TRUE(dropped == PINT_OK || dropped == PINT_E_NOT_FOUND);
        dropped = pint_table_drop(pool, "u", NULL);
        EXPECT_TRUE(dropped == PINT_OK || dropped == PINT_E_NOT_FOUND);
        if (status != PINT_OK && status != PINT_E_NO_MEMORY) {
            cJSON_InitHooks(NULL);
            FAIL("allocation %u: status %d, %s", k, status, live_err.message);
        }
    }
    cJSON_InitHooks(NULL);
    EXPECT_OK(status, &live_err);
    EXPECT_GE(k, 100);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 5000));
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == 0, 5000));
    EXPECT_OK(live_create(pool, "t", 10, &table), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* ---- threads and processes ------------------------------------------------------------------- */

typedef struct worker {
    pthread_t thread;
    pint_pool *pool;
    int number;
    pint_status status;
} worker;

static void *create_tables(void *argument)
{
    worker *w = argument;
    for (int i = 0; i < 20 && w->status == PINT_OK; i++) {
        char name[32];
        pint_table *table = NULL;
        pint_error own;
        pint_field field = live_field("x", PINT_INT64);
        pint_schema schema = PINT_SCHEMA_INIT;
        schema.fields = &field;
        schema.n_fields = 1;
        (void)snprintf(name, sizeof(name), "t%d.%d", w->number, i);
        w->status = pint_table_create(w->pool, name, &schema, 100, &table, &own);
        if (w->status == PINT_OK) {
            w->status = pint_table_publish(table, 0, &own);
            pint_table_close(table);
        }
        if (w->status == PINT_OK && i % 2 == 0) {
            w->status = pint_table_drop(w->pool, name, &own);
        }
    }
    return NULL;
}

TEST(Threads, ShareAPoolHandle)
{
    enum { N = 8 };
    worker workers[N] = {0};
    pint_pool *pool = NULL;
    char name[PINT_NAME_BYTES_MAX + 1];
    uint64_t cursor = 0;
    int n = 0;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    for (int i = 0; i < N; i++) {
        workers[i].pool = pool;
        workers[i].number = i;
        ASSERT_EQ(pthread_create(&workers[i].thread, NULL, create_tables, &workers[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(pthread_join(workers[i].thread, NULL), 0);
        EXPECT_OK(workers[i].status, NULL);
    }
    while (pint_pool_next_table(pool, &cursor, name, &live_err) == PINT_OK) {
        n++;
    }
    EXPECT_EQ(n, N * 10);
    pint_pool_leave(pool);
    live_stop();
}

/* arguments: address, family or "", how often */
PROC(join_and_leave)
{
    pint_pool *pool = NULL;
    const int times = (int)strtol(argv[3], NULL, 10);
    CT_REQUIRE(argc == 4);
    if (argv[2][0] != '\0') {
        EXPECT_STREQ(getenv("PINTABLE_FAMILY"), argv[2]);
    }
    for (int i = 0; i < times; i++) {
        EXPECT_OK(live_join(argv[1], 0, &pool), &live_err);
        if (times == 1) {
            ct_ready();
            CT_REQUIRE(ct_wait_go());
        }
        pint_pool_leave(pool);
    }
    return 0;
}

TEST(Launch, HappensOnceHoweverManyJoinAtOnce)
{
    enum { N = 16 };
    pid_t children[N];
    live_set_up();
    const char *const arguments[] = {ct_tmpdir(), "", "1", NULL};
    for (int i = 0; i < N; i++) {
        children[i] = ct_spawn("join_and_leave", arguments);
    }
    for (int i = 0; i < N; i++) {
        EXPECT_TRUE(ct_wait_ready(children[i]));
    }
    cJSON *result = NULL;
    ASSERT_OK(live_ask(ct_tmpdir(), "stat", NULL, &result), &live_err);
    EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItem(result, "sessions")), N);
    cJSON_Delete(result);
    for (int i = 0; i < N; i++) {
        EXPECT_TRUE(ct_go(children[i]));
        EXPECT_EQ(ct_wait(children[i]), 0);
    }
    live_stop();
}

/* The service exits as soon as the last session has left, while others are about to join. */
TEST(Launch, AndExitDoNotMeetBadly, .timeout_s = 120)
{
    enum { N = 4 };
    pid_t children[N];
    live_set_up();
    ASSERT_EQ(setenv("PINTABLE_LINGER", "0", 1), 0);
    const char *const arguments[] = {ct_tmpdir(), "", "40", NULL};
    for (int i = 0; i < N; i++) {
        children[i] = ct_spawn("join_and_leave", arguments);
    }
    for (int i = 0; i < N; i++) {
        EXPECT_EQ(ct_wait(children[i]), 0);
    }
    EXPECT_TRUE(ct_eventually(access(live_path("/pool-v1.sock"), F_OK) != 0, 10000));
}

TEST(Family, IsPassedOnInTheEnvironment)
{
    pint_pool *pool = NULL;
    char family[32];
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    (void)snprintf(family, sizeof(family), "%s", getenv("PINTABLE_FAMILY"));
    const char *const arguments[] = {ct_tmpdir(), family, "1", NULL};
    const pid_t child = ct_spawn("join_and_leave", arguments);
    ASSERT_TRUE(ct_wait_ready(child));
    cJSON *result = NULL;
    ASSERT_OK(live_ask(ct_tmpdir(), "stat", NULL, &result), &live_err);
    const cJSON *sessions = cJSON_GetObjectItem(result, "sessions");
    EXPECT_EQ(cJSON_GetArraySize(sessions), 2);
    for (int i = 0; i < cJSON_GetArraySize(sessions); i++) {
        const cJSON *session = cJSON_GetArrayItem(sessions, i);
        EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(session, "family")), family);
    }
    cJSON_Delete(result);
    EXPECT_TRUE(ct_go(child));
    EXPECT_EQ(ct_wait(child), 0);
    pint_pool_leave(pool);
    live_stop();
}
