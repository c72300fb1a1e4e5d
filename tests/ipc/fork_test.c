/* SPDX-License-Identifier: Apache-2.0 */
/* fork() in a process that has joined. */

#include "tests/ipc/live.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Run body in a forked child; its exit status, or 128 + signal. */
static int in_child(int (*body)(pint_pool *pool, pint_table *table), pint_pool *pool,
                    pint_table *table)
{
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        _exit(body(pool, table));
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define CHECK(condition_)                                                                          \
    do {                                                                                           \
        if (!(condition_)) {                                                                       \
            (void)fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition_, live_err.message);  \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static uint64_t parent_session;

static int child_uses_pool(pint_pool *pool, pint_table *table)
{
    pint_column column;
    pint_table *own = NULL;
    CHECK(pint_table_column(table, "id", &column, &live_err) == PINT_OK);
    CHECK(((const int64_t *)pint_column_values(&column))[3] == 33); /* inherited view */
    CHECK(pint_table_open(pool, "t", PINT_WRITE, &own, &live_err) == PINT_OK);
    CHECK(pint_pool_session(pool) != parent_session && pint_pool_session(pool) != 0);
    CHECK(pint_table_column(own, "id", &column, &live_err) == PINT_OK);
    ((int64_t *)pint_column_values(&column))[4] = 44;
    pint_table_close(own);
    CHECK(live_create(pool, "child", 10, &own) == PINT_OK);
    CHECK(pint_table_publish(own, 0, &live_err) == PINT_OK);
    pint_table_close(own);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

static int child_leaves_at_once(pint_pool *pool, pint_table *table)
{
    (void)table;
    pint_pool_leave(pool);
    return 0;
}

static int child_exits(pint_pool *pool, pint_table *table)
{
    (void)pool;
    (void)table;
    return 0;
}

static int child_forks(pint_pool *pool, pint_table *table)
{
    pint_table *own = NULL;
    CHECK(pint_table_open(pool, "t", PINT_WRITE, &own, &live_err) == PINT_OK);
    parent_session = pint_pool_session(pool);
    CHECK(in_child(child_uses_pool, pool, table) == 0);
    CHECK(pint_table_drop(pool, "child", &live_err) == PINT_OK);
    pint_table_close(own);
    return in_child(child_exits, pool, table);
}

TEST(Fork, GivesTheChildASessionOfItsOwnOnFirstUse)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *found = NULL;
    pint_column column;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 1000, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "id", &column, &live_err), &live_err);
    ((int64_t *)pint_column_values(&column))[3] = 33;
    parent_session = pint_pool_session(pool);
    EXPECT_EQ(in_child(child_exits, pool, table), 0);
    EXPECT_EQ(in_child(child_leaves_at_once, pool, table), 0);
    EXPECT_EQ(in_child(child_uses_pool, pool, table), 0);
    EXPECT_EQ(((const int64_t *)pint_column_values(&column))[4], 44);
    EXPECT_EQ(pint_pool_session(pool), parent_session);
    EXPECT_OK(pint_table_open(pool, "child", PINT_READ, &found, &live_err),
              &live_err); /* same family */
    pint_table_close(found);
    EXPECT_OK(pint_table_drop(pool, "child", &live_err), &live_err);
    EXPECT_EQ(in_child(child_forks, pool, table), 0);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

static int gate[2]; /* a child waits until the parent has closed its end */

static int child_after_the_parents_close(pint_pool *pool, pint_table *table)
{
    char byte;
    pint_table *own = NULL;
    (void)close(gate[1]);
    CHECK(read(gate[0], &byte, 1) == 0);
    CHECK(live_create(pool, "child", 10, &own) == PINT_OK); /* takes the index over */
    CHECK(pint_table_is_dropped(table));
    pint_table_close(table);
    CHECK(pint_table_publish(own, 0, &live_err) == PINT_OK);
    pint_table_close(own);
    return 0;
}

TEST(Fork, ForgetsTablesThatTheParentHasClosedSince)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 1000, &table), &live_err);
    ASSERT_EQ(pipe2(gate, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        _exit(child_after_the_parents_close(pool, table));
    }
    EXPECT_EQ(close(gate[0]), 0);
    pint_table_close(table); /* never published: it is dropped and freed */
    EXPECT_TRUE(ct_eventually(live_stat_number("used_bytes") == 0, 5000));
    EXPECT_EQ(close(gate[1]), 0);
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    pint_pool_leave(pool);
    live_stop();
}

static int child_without_service(pint_pool *pool, pint_table *table)
{
    pint_table *own = NULL;
    pint_column column;
    CHECK(pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_E_GONE);
    CHECK(pint_table_column(table, "id", &column, &live_err) == PINT_OK);
    CHECK(((const int64_t *)pint_column_values(&column))[3] == 33);
    pint_pool_leave(pool);
    return 0;
}

static int child_of_another_pool(pint_pool *pool, pint_table *table)
{
    pint_table *own = NULL;
    (void)table;
    CHECK(pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_E_STALE);
    pint_pool_leave(pool);
    return 0;
}

TEST(Fork, WithoutTheServiceSaysSoAndKeepsInheritedData)
{
    pint_pool *pool = NULL;
    pint_pool *second = NULL;
    pint_table *table = NULL;
    pint_column column;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 1000, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "id", &column, &live_err), &live_err);
    ((int64_t *)pint_column_values(&column))[3] = 33;
    ASSERT_NO_FATAL(live_kill_all());
    EXPECT_EQ(in_child(child_without_service, pool, table), 0);
    ASSERT_OK(live_join(ct_tmpdir(), 0, &second), &live_err);
    EXPECT_EQ(in_child(child_of_another_pool, pool, table), 0);
    pint_table_close(table);
    pint_pool_leave(pool);
    pint_pool_leave(second);
    live_stop();
}

static int child_requests(pint_pool *pool, pint_table *table)
{
    pint_table *own = NULL;
    (void)table;
    CHECK(live_create(pool, "forked", 10, &own) == PINT_OK);
    pint_table_close(own);
    return 0;
}

typedef struct worker {
    pthread_t thread;
    pint_pool *pool;
    pint_status status;
} worker;

static void *create_and_close(void *argument)
{
    worker *w = argument;
    pint_error own;
    pint_field field = live_field("x", PINT_INT64);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    for (int i = 0; i < 200 && w->status == PINT_OK; i++) {
        pint_table *table = NULL;
        w->status = pint_table_create(w->pool, "busy", &schema, 100, &table, &own);
        pint_table_close(table);
    }
    return NULL;
}

/* The lock of the connection may be held, or an answer be on its way, when the process forks. */
TEST(Fork, InTheMiddleOfAnotherThreadsRequest, .timeout_s = 60)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer's malloc() may be locked for ever in a child of fork()");
#endif
    worker w = {.status = PINT_OK};
    pint_pool *pool = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    w.pool = pool;
    ASSERT_EQ(pthread_create(&w.thread, NULL, create_and_close, &w), 0);
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(in_child(child_requests, pool, NULL), 0);
    }
    ASSERT_EQ(pthread_join(w.thread, NULL), 0);
    EXPECT_OK(w.status, NULL);
    pint_pool_leave(pool);
    live_stop();
}
