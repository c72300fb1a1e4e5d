/* SPDX-License-Identifier: Apache-2.0 */
/* The service dies: at any point, under load, with its keeper. */

#include "tests/ipc/live.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TEST(ServiceDeath, IsNotNoticedByRequests)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    const uint64_t session = pint_pool_session(pool);
    for (int i = 0; i < 2; i++) { /* it gives up after five crashes in ten seconds */
        const pid_t pid = live_service_pid();
        ASSERT_GT(pid, 0);
        ASSERT_EQ(kill(pid, SIGKILL), 0);
        EXPECT_OK(live_create(pool, "t", 1000, &table), &live_err);
        EXPECT_NE(live_service_pid(), pid);
        ASSERT_EQ(kill(live_service_pid(), SIGKILL), 0);
        EXPECT_OK(pint_table_publish(table, PINT_REPLACE, &live_err), &live_err);
        pint_table_close(table);
    }
    EXPECT_EQ(pint_pool_session(pool), session);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    pint_pool_leave(pool);
    live_stop();
}

TEST(ServiceDeath, WithItsKeeperLeavesDataAndSaysGoneThenStale)
{
    pint_pool *pool = NULL;
    pint_pool *second = NULL;
    pint_table *table = NULL;
    pint_table *again = NULL;
    pint_column column;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 1000, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_NO_FATAL(live_kill_all());

    ASSERT_OK(pint_table_open(pool, "t", PINT_WRITE, &again, &live_err), &live_err);
    ASSERT_OK(pint_table_column(again, "id", &column, &live_err), &live_err);
    ((int64_t *)pint_column_values(&column))[7] = 42;
    const uint64_t start_ms = ct_now_ms();
    EXPECT_STATUS(PINT_E_GONE, pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_LE(ct_now_ms() - start_ms, 2500);

    ASSERT_OK(live_join(ct_tmpdir(), 0, &second), &live_err); /* takes the dead socket's place */
    EXPECT_STATUS(PINT_E_STALE, pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_STATUS(PINT_E_STALE, live_create(pool, "u", 10, &table), &live_err);
    EXPECT_EQ(((const int64_t *)pint_column_values(&column))[7], 42);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(second, "t", PINT_READ, &table, &live_err),
                  &live_err);
    pint_table_close(again);
    pint_pool_leave(pool);
    pint_pool_leave(second);
    live_stop();
}

#if PINT_CRASHPOINTS
/* Everything a table can go through; each call must succeed, whatever happens to the service. */
static void live_through_everything(void)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *other = NULL;
    pint_job *job = NULL;
    const pint_use use = {"x", PINT_INOUT, 0};
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(live_create(pool, "a", 1000, &table), &live_err);
        ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
        ASSERT_OK(pint_job_create(table, "job", &use, 1, &job, &live_err), &live_err);
        pint_job_close(job);
        ASSERT_OK(pint_job_drop(table, "job", &live_err), &live_err);
        pint_table_close(table);
        ASSERT_OK(live_create(pool, "a", 2000, &table), &live_err);
        ASSERT_OK(pint_table_publish(table, PINT_REPLACE, &live_err), &live_err);
        pint_table_close(table);
        ASSERT_OK(pint_table_rename(pool, "a", "b", &live_err), &live_err);
        ASSERT_OK(pint_table_open(pool, "b", PINT_WRITE, &table, &live_err), &live_err);
        EXPECT_EQ(pint_table_rows(table), 2000);
        EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(pool, "a", PINT_READ, &other, &live_err),
                      &live_err);
        ASSERT_OK(pint_table_freeze(table, &live_err), &live_err);
        EXPECT_TRUE(pint_table_is_frozen(table));
        ASSERT_OK(pint_table_drop(pool, "b", &live_err), &live_err);
        EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(pool, "b", PINT_READ, &other, &live_err),
                      &live_err);
        pint_table_close(table);
        ASSERT_OK(live_create(pool, "c", 10, &table), &live_err);
        pint_table_close(table); /* never published */
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == 0, 5000));
    pint_pool_leave(pool);
}

TEST(ServiceDeath, AtAnyCrashPointIsNotNoticedByRequests, .timeout_s = 300)
{
    static const char *const points[] = {
        "SERVICE_CREATE_HALF", "SERVICE_CREATED",   "SERVICE_PUBLISH_HALF", "SERVICE_RENAME_HALF",
        "SERVICE_RENAMED",     "SERVICE_DROP_HALF", "SERVICE_FREE_HALF",    "SERVICE_INDEX_MOVING",
        "SERVICE_JOIN_HALF",   "KEEPER_GOT_FDS",    "SERVICE_TEARDOWN_HALF"};
    live_set_up();
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        for (int nth = 1; nth <= 3; nth++) {
            char text[64];
            (void)snprintf(text, sizeof(text), "%s:%d", points[i], nth);
            ASSERT_EQ(setenv("PINTABLE_CRASH", text, 1), 0); /* for the service we start */
            live_through_everything();
            EXPECT_EQ(unsetenv("PINTABLE_CRASH"), 0);
            if (ct_has_fatal_failure()) {
                FAIL("at %s", text);
            }
            /* it did die; entries of the index move only when names collide, and the keeper's death
             * makes no new incarnation */
            if (nth == 1 && strcmp(points[i], "SERVICE_INDEX_MOVING") != 0 &&
                strcmp(points[i], "KEEPER_GOT_FDS") != 0) {
                EXPECT_EQ(live_stat_number("incarnation"), 2);
            }
            live_stop();
        }
    }
}
#endif

/* arguments: address, number */
PROC(live_on)
{
    pint_pool *pool = NULL;
    char name[32];
    char other[32];
    CT_REQUIRE(argc == 3);
    (void)snprintf(name, sizeof(name), "t%s", argv[2]);
    (void)snprintf(other, sizeof(other), "u%s", argv[2]);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    const uint64_t end_ms = ct_now_ms() + 4000;
    int n = 0;
    for (; ct_now_ms() < end_ms; n++) {
        pint_table *table = NULL;
        EXPECT_OK(live_create(pool, name, 1000, &table), &live_err);
        EXPECT_OK(pint_table_publish(table, 0, &live_err), &live_err);
        pint_table_close(table);
        EXPECT_OK(pint_table_rename(pool, name, other, &live_err), &live_err);
        EXPECT_OK(pint_table_open(pool, other, PINT_WRITE, &table, &live_err), &live_err);
        pint_table_close(table);
        EXPECT_OK(pint_table_drop(pool, other, &live_err), &live_err);
        EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open(pool, other, PINT_READ, &table, &live_err),
                      &live_err);
    }
    pint_pool_leave(pool);
    EXPECT_GE(n, 10);
    return 0;
}

TEST(ServiceDeath, UnderLoadLosesNoRequestAndRepeatsNone, .timeout_s = 60)
{
    enum { N = 4 };
    pid_t children[N];
    live_set_up();
    const pid_t keeper = live_start("--restarts-max", "60");
    for (int i = 0; i < N; i++) {
        char number[16];
        (void)snprintf(number, sizeof(number), "%d", i);
        const char *const arguments[] = {ct_tmpdir(), number, NULL};
        children[i] = ct_spawn("live_on", arguments);
    }
    for (int i = 0; i < 25; i++) {
        (void)poll(NULL, 0, 100 + i * 3);
        const pid_t pid = live_service_pid();
        if (pid > 0) {
            EXPECT_EQ(kill(pid, SIGKILL), 0);
        }
    }
    for (int i = 0; i < N; i++) {
        EXPECT_EQ(ct_wait(children[i]), 0);
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == 0, 5000));
    EXPECT_GE(live_stat_number("incarnation"), 15);
    live_stop();
    EXPECT_EQ(ct_wait(keeper), 0);
}
