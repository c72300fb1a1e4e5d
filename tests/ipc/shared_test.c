/* SPDX-License-Identifier: Apache-2.0 */
/* One handle of a process on an address: PINT_JOIN_SHARED. */

#include "tests/ipc/live.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pint_status join_shared(uint32_t flags, pint_pool **out)
{
    return live_join(ct_tmpdir(), PINT_JOIN_SHARED | flags, out);
}

TEST(Shared, ASecondJoinGivesTheSameHandleUntilTheLastHasLeft)
{
    pint_pool *first = NULL;
    pint_pool *second = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &first), &live_err);
    ASSERT_OK(join_shared(PINT_JOIN_NO_START, &second), &live_err);
    EXPECT_EQ(first, second);
    EXPECT_EQ(live_stat_sessions(), 1);
    pint_pool_leave(first);
    EXPECT_EQ(live_stat_sessions(), 1);
    EXPECT_OK(live_create(second, "t", 10, &table), &live_err); /* it works on */
    pint_table_close(table);
    pint_pool_leave(second);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 5000));
    ASSERT_OK(join_shared(0, &first), &live_err); /* anew */
    EXPECT_EQ(live_stat_sessions(), 1);
    pint_pool_leave(first);
    live_stop();
}

TEST(Shared, OthersAndReadersHaveHandlesOfTheirOwn)
{
    pint_pool *shared = NULL;
    pint_pool *reader = NULL;
    pint_pool *reader2 = NULL;
    pint_pool *own = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &own), &live_err); /* not shared: never given out */
    ASSERT_OK(join_shared(0, &shared), &live_err);
    ASSERT_OK(join_shared(PINT_JOIN_READ, &reader), &live_err);
    ASSERT_OK(join_shared(PINT_JOIN_READ, &reader2), &live_err);
    EXPECT_NE(own, shared);
    EXPECT_NE(shared, reader);
    EXPECT_EQ(reader, reader2);
    EXPECT_EQ(live_stat_sessions(), 3);
    EXPECT_STATUS(PINT_E_PERMISSION, live_create(reader, "t", 10, &table), &live_err);
    EXPECT_OK(live_create(shared, "t", 10, &table), &live_err);
    pint_table_close(table);
    pint_pool_leave(own);
    pint_pool_leave(reader2);
    pint_pool_leave(reader);
    pint_pool_leave(shared);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 5000));
    live_stop();
}

TEST(Shared, AnAddressIsTheSameHoweverItIsNamed)
{
    pint_pool *by_folder = NULL;
    pint_pool *by_socket = NULL;
    pint_pool *by_variable = NULL;
    pint_pool *elsewhere = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &by_folder), &live_err);
    ASSERT_OK(live_join(live_path("/pool-v1.sock"), PINT_JOIN_SHARED, &by_socket), &live_err);
    ASSERT_EQ(setenv("PINTABLE_ADDRESS", ct_tmpdir(), 1), 0);
    ASSERT_OK(live_join(NULL, PINT_JOIN_SHARED, &by_variable), &live_err);
    ASSERT_EQ(unsetenv("PINTABLE_ADDRESS"), 0);
    EXPECT_EQ(by_folder, by_socket);
    EXPECT_EQ(by_folder, by_variable);
    EXPECT_STATUS(
        PINT_E_NO_SERVICE,
        live_join(live_path("/other.sock"), PINT_JOIN_SHARED | PINT_JOIN_NO_START, &elsewhere),
        &live_err);
    EXPECT_EQ(elsewhere, NULL);
    pint_pool_leave(by_folder);
    pint_pool_leave(by_socket);
    pint_pool_leave(by_variable);
    live_stop();
}

TEST(Shared, AJoinThatFailsLeavesNothing)
{
    pint_pool *pool = NULL;
    live_set_up();
    EXPECT_STATUS(PINT_E_NO_SERVICE, join_shared(PINT_JOIN_NO_START, &pool), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, join_shared(8, &pool), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, live_join("", PINT_JOIN_SHARED, &pool), &live_err);
    EXPECT_EQ(pool, NULL);
    ASSERT_OK(join_shared(0, &pool), &live_err);
    pint_pool_leave(pool);
    live_stop();
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { THREADS = 8, ROUNDS = 25 };

typedef struct joiner {
    pthread_t thread;
    pthread_barrier_t *barrier;
    const char *address;
    pint_pool *pool;
    pint_status status;
    int n_wrong;
    pint_error err;
} joiner;

static pint_status join_own(joiner *j)
{
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = PINT_JOIN_SHARED;
    return pint_pool_join(j->address, &options, &j->pool, &j->err);
}

static void *join_once(void *argument)
{
    joiner *j = argument;
    (void)pthread_barrier_wait(j->barrier);
    j->status = join_own(j);
    return NULL;
}

/* The first join of a process leaves $PINTABLE_FAMILY for its children, which must not meet threads
 * that read the environment (ipc/join.c): a family that was inherited is left as it is. */
static void set_up_for_threads(void)
{
    live_set_up();
    ASSERT_EQ(setenv("PINTABLE_FAMILY", "0123456789abcdef", 1), 0);
}

/* All at once, the service not running: whoever loses the race gets the winner's handle. */
TEST(Shared, ThreadsThatJoinAtOnceGetOneHandle)
{
    joiner joiners[THREADS] = {0};
    pthread_barrier_t barrier;
    ASSERT_NO_FATAL(set_up_for_threads());
    ASSERT_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        joiners[i].barrier = &barrier;
        joiners[i].address = ct_tmpdir();
        ASSERT_EQ(pthread_create(&joiners[i].thread, NULL, join_once, &joiners[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(joiners[i].thread, NULL);
        ASSERT_OK(joiners[i].status, &joiners[i].err);
        EXPECT_EQ(joiners[i].pool, joiners[0].pool);
    }
    (void)pthread_barrier_destroy(&barrier);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 5000)); /* what the losers made is gone */
    for (int i = 0; i < THREADS; i++) {
        EXPECT_EQ(live_stat_sessions(), 1);
        pint_pool_leave(joiners[i].pool);
    }
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 5000));
    live_stop();
}

static void *join_and_leave(void *argument)
{
    joiner *j = argument;
    (void)pthread_barrier_wait(j->barrier);
    for (int n = 0; n < ROUNDS && j->status == PINT_OK; n++) {
        j->status = join_own(j);
        if (j->status == PINT_OK) {
            j->n_wrong += pint_pool_session(j->pool) == 0;
            pint_pool_leave(j->pool);
        }
    }
    return NULL;
}

/* The last leave of one meets the join of another. */
TEST(Shared, JoiningAndLeavingDoNotMeetBadly, .timeout_s = 100)
{
    joiner joiners[THREADS] = {0};
    pthread_barrier_t barrier;
    ASSERT_NO_FATAL(set_up_for_threads());
    ASSERT_EQ(pthread_barrier_init(&barrier, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        joiners[i].barrier = &barrier;
        joiners[i].address = ct_tmpdir();
        ASSERT_EQ(pthread_create(&joiners[i].thread, NULL, join_and_leave, &joiners[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(joiners[i].thread, NULL);
        EXPECT_OK(joiners[i].status, &joiners[i].err);
        EXPECT_EQ(joiners[i].n_wrong, 0);
    }
    (void)pthread_barrier_destroy(&barrier);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 10000));
    live_stop();
}

/* ---- handles that are of no use any more ----------------------------------------------------- */

TEST(Shared, AfterTheServiceIsGoneForGoodANewOneIsJoined, .timeout_s = 60)
{
    pint_pool *old = NULL;
    pint_pool *old2 = NULL;
    pint_pool *next = NULL;
    pint_pool *next2 = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &old), &live_err);
    ASSERT_OK(join_shared(0, &old2), &live_err);
    ASSERT_NO_FATAL(live_kill_all());
    ASSERT_OK(join_shared(0, &next), &live_err);
    EXPECT_NE(old, next);
    ASSERT_OK(join_shared(0, &next2), &live_err);
    EXPECT_EQ(next, next2);
    EXPECT_LT(live_create(old, "t", 10, &table), 0); /* those who have it keep it as it is */
    uint8_t ids[2][16];
    pint_pool_id(old, ids[0]);
    pint_pool_id(next, ids[1]);
    EXPECT_NE(memcmp(ids[0], ids[1], 16), 0);
    pint_pool_leave(old);
    EXPECT_LT(live_create(old2, "t", 10, &table), 0); /* one user is left */
    pint_pool_leave(old2);
    EXPECT_OK(live_create(next, "t", 10, &table), &live_err);
    pint_table_close(table);
    pint_pool_leave(next);
    pint_pool_leave(next2);
    live_stop();
}

TEST(Shared, AServiceThatCameBackIsTheSamePool, .timeout_s = 60)
{
    pint_pool *first = NULL;
    pint_pool *second = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &first), &live_err);
    const pid_t service = live_service_pid();
    ASSERT_GT(service, 1);
    ASSERT_EQ(kill(service, SIGKILL), 0);
    ASSERT_OK(join_shared(0, &second), &live_err);
    EXPECT_EQ(first, second);
    pint_pool_leave(first);
    pint_pool_leave(second);
    live_stop();
}

/* ---- fork ------------------------------------------------------------------------------------ */

static int in_child(int (*body)(pint_pool *pool), pint_pool *pool)
{
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        _exit(body(pool));
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

static uint64_t parents_session;

static int child_joins_again(pint_pool *pool)
{
    pint_pool *again = NULL;
    pint_table *table = NULL;
    CHECK(join_shared(0, &again) == PINT_OK);
    CHECK(again == pool); /* the inherited handle, with a session of the child's */
    CHECK(pint_pool_session(again) != parents_session && pint_pool_session(again) != 0);
    CHECK(live_create(again, "c", 10, &table) == PINT_OK);
    pint_table_close(table);
    pint_pool_leave(again);
    CHECK(pint_pool_session(pool) != 0); /* one user is left: the parent's join counts, too */
    pint_pool_leave(pool);
    CHECK(join_shared(0, &again) == PINT_OK);
    pint_pool_leave(again);
    return 0;
}

static int child_leaves(pint_pool *pool)
{
    pint_pool_leave(pool);
    return 0;
}

static int child_without_service(pint_pool *pool)
{
    pint_pool *again = NULL;
    CHECK(join_shared(PINT_JOIN_NO_START, &again) == PINT_E_NO_SERVICE);
    CHECK(again == NULL);
    CHECK(join_shared(0, &again) == PINT_OK); /* starts one */
    CHECK(again != pool);
    pint_pool_leave(again);
    pint_pool_leave(pool);
    return 0;
}

TEST(Shared, InAForkedChildIsTheInheritedHandleWithItsOwnSession, .timeout_s = 60)
{
    pint_pool *pool = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &pool), &live_err);
    parents_session = pint_pool_session(pool);
    EXPECT_EQ(in_child(child_leaves, pool), 0);
    EXPECT_EQ(in_child(child_joins_again, pool), 0);
    EXPECT_EQ(pint_pool_session(pool), parents_session);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 5000));
    ASSERT_NO_FATAL(live_kill_all());
    EXPECT_EQ(in_child(child_without_service, pool), 0);
    pint_pool_leave(pool);
    live_stop();
}

/* A thread joins and leaves all the while: fork() must not catch the lock taken. */
typedef struct busy {
    pthread_t thread;
    const char *address;
    _Atomic int stop;
    int n;
} busy;

static void *join_all_the_while(void *argument)
{
    busy *b = argument;
    pint_error err;
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = PINT_JOIN_SHARED;
    while (!b->stop) {
        pint_pool *pool = NULL;
        if (pint_pool_join(b->address, &options, &pool, &err) == PINT_OK) {
            b->n++;
            pint_pool_leave(pool);
        }
    }
    return NULL;
}

static int child_joins(pint_pool *pool)
{
    pint_pool *again = NULL;
    CHECK(join_shared(0, &again) == PINT_OK && again == pool);
    pint_pool_leave(again);
    return 0;
}

TEST(Shared, ForksWhileAnotherThreadJoins, .timeout_s = 100)
{
    busy b = {.address = ct_tmpdir()};
    pint_pool *pool = NULL;
    live_set_up();
    ASSERT_OK(join_shared(0, &pool), &live_err);
    ASSERT_EQ(pthread_create(&b.thread, NULL, join_all_the_while, &b), 0);
    for (int i = 0; i < 30; i++) {
        ASSERT_EQ(in_child(child_joins, pool), 0);
    }
    b.stop = 1;
    (void)pthread_join(b.thread, NULL);
    EXPECT_GT(b.n, 0);
    pint_pool_leave(pool);
    live_stop();
}
