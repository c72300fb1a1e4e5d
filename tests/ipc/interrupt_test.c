/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pint_set_interrupt() against the real service: it ends every wait, the session goes on, and what
 * an interrupted request has made is gone as soon as the service answers again. A service that does
 * not answer is one that was stopped (SIGSTOP).
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/ipc/live.h"
#include "tests/support/ct.h"

#define LONG_MS 60000
#define PROMPT_MS                                                                                  \
    5000 /* far less than any limit of the calls; a loaded machine needs some of it                \
          */

/* ---- the function that is asked -------------------------------------------------------------- */

static _Atomic int n_questions;
static _Atomic int ends_at; /* the question that is answered with yes */
static pthread_t asked_thread;

static int count_questions(void *context)
{
    asked_thread = pthread_self();
    EXPECT_EQ(context, &n_questions);
    return atomic_fetch_add(&n_questions, 1) + 1 >= atomic_load(&ends_at);
}

/* Set up a test: the n-th question ends the call, and all after it. */
static void end_at_question(int n)
{
    atomic_store(&n_questions, 0);
    atomic_store(&ends_at, n);
    pint_set_interrupt(count_questions, &n_questions);
}

static void ask_no_more(void)
{
    pint_set_interrupt(NULL, NULL);
}

/* ---- the service ----------------------------------------------------------------------------- */

static pid_t service;

static void freeze_service(void)
{
    service = live_service_pid();
    ASSERT_GT(service, 1);
    ASSERT_EQ(kill(service, SIGSTOP), 0);
}

static void thaw_service(void)
{
    EXPECT_EQ(kill(service, SIGCONT), 0);
}

/* A change that needs an answer, in a pool whose connection may have been given up. */
static void expect_requests_work(pint_pool *pool, const char *name)
{
    pint_table *table = NULL;
    ASSERT_OK(live_create(pool, name, 100, &table), &live_err);
    EXPECT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    pint_table_close(table);
    EXPECT_OK(pint_table_drop(pool, name, &live_err), &live_err);
}

/* Bytes in use, once the service has freed what nobody needs. */
static bool used_bytes_become(double bytes)
{
    return ct_eventually(live_stat_number("used_bytes") == bytes, 5000);
}

/* ---- waits for other processes --------------------------------------------------------------- */

TEST(Interrupt, EndsAWaitForAVersionAndLeavesItAsATimeoutDoes)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_column column;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 100, &table), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    const uint64_t version = pint_column_version(&column, 0);

    end_at_question(3);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(pint_column_wait(&column, 0, version, -1, NULL, &live_err), PINT_E_INTERRUPTED);
    EXPECT_EQ(live_err.status, PINT_E_INTERRUPTED);
    EXPECT_EQ(n_questions, 3);
    EXPECT_GE(ct_now_ms() - start_ms, 250); /* asked every 100 ms, not all the time */
    EXPECT_LT(ct_now_ms() - start_ms, PROMPT_MS);
    EXPECT_TRUE(pthread_equal(asked_thread, pthread_self()) != 0);

    /* what is there already is returned, whatever the answer would be */
    atomic_store(&ends_at, 0);
    EXPECT_OK(pint_column_mark(&column, 0, 100, &live_err), &live_err);
    EXPECT_OK(pint_column_wait(&column, 0, version, -1, NULL, &live_err), &live_err);
    /* a limit that is shorter than the time between questions still holds */
    end_at_question(1);
    EXPECT_EQ(pint_column_wait(&column, 0, version + 1, 20, NULL, &live_err), PINT_E_TIMEOUT);
    ask_no_more();
    EXPECT_EQ(pint_column_wait(&column, 0, version + 1, 20, NULL, &live_err), PINT_E_TIMEOUT);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

static _Atomic int stops_signals;

static void *send_signals(void *thread)
{
    while (atomic_load(&stops_signals) == 0) {
        (void)pthread_kill(*(pthread_t *)thread, SIGUSR1);
        ct_nap();
    }
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
}

/* Between two signals there is no time for 100 ms of waiting: the questions are the signals'. */
TEST(Interrupt, AsksWhenASignalEndsASystemCall)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_column column;
    pthread_t sender;
    pthread_t self = pthread_self();
    live_set_up();
    const struct sigaction action = {.sa_handler = on_signal};
    ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 100, &table), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    end_at_question(1000);
    atomic_store(&stops_signals, 0);
    ASSERT_EQ(pthread_create(&sender, NULL, send_signals, &self), 0);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(pint_column_wait(&column, 0, pint_column_version(&column, 0), -1, NULL, &live_err),
              PINT_E_INTERRUPTED);
    EXPECT_LT(ct_now_ms() - start_ms, 50000); /* 1000 questions of 100 ms would take 100 s */
    atomic_store(&stops_signals, 1);
    ASSERT_EQ(pthread_join(sender, NULL), 0);
    ask_no_more();
    ASSERT_EQ(signal(SIGUSR1, SIG_DFL) != SIG_ERR, 1);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* ---- joining --------------------------------------------------------------------------------- */

TEST(Interrupt, EndsJoiningAServiceThatDoesNotAnswer)
{
    pint_pool *pool = NULL;
    pint_pool *first = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &first), &live_err);
    freeze_service();
    end_at_question(3);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(live_join(ct_tmpdir(), 0, &pool), PINT_E_INTERRUPTED);
    EXPECT_LT(ct_now_ms() - start_ms, PROMPT_MS);
    EXPECT_TRUE(pool == NULL);
    end_at_question(1);
    EXPECT_EQ(live_join(ct_tmpdir(), PINT_JOIN_SHARED, &pool), PINT_E_INTERRUPTED);
    EXPECT_TRUE(pool == NULL);
    ask_no_more();
    thaw_service();
    /* the service has read the messages of the two by then, and found that nobody is there */
    expect_requests_work(first, "t");
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 5000));
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    pint_pool_leave(pool);
    pint_pool_leave(first);
    live_stop();
}

/* A socket that takes connections into its queue and never answers. */
TEST(Interrupt, EndsJoiningAListenerThatSaysNothing)
{
    pint_pool *pool = NULL;
    live_set_up();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/pool-v1.sock", ct_tmpdir());
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)), 0);
    ASSERT_EQ(listen(fd, 0), 0);
    end_at_question(2);
    EXPECT_EQ(live_join(ct_tmpdir(), 0, &pool), PINT_E_INTERRUPTED); /* waits for the answer */
    end_at_question(2);
    EXPECT_EQ(live_join(ct_tmpdir(), 0, &pool), PINT_E_INTERRUPTED); /* waits to be let in */
    EXPECT_TRUE(pool == NULL);
    ask_no_more();
    EXPECT_EQ(close(fd), 0);
}

static void write_program(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    ASSERT_TRUE(file != NULL);
    EXPECT_GE(fputs(text, file), 0);
    ASSERT_EQ(fclose(file), 0);
    ASSERT_EQ(chmod(path, 0700), 0);
}

/* A program that neither becomes a service nor ends. */
TEST(Interrupt, EndsStartingAServiceThatDoesNotStart)
{
    pint_pool *pool = NULL;
    live_set_up();
    write_program(live_path("/hangs"), "#!/bin/sh\nexec sleep 1000\n");
    (void)setenv("PINTABLED", live_path("/hangs"), 1);
    end_at_question(3);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(live_join(ct_tmpdir(), 0, &pool), PINT_E_INTERRUPTED);
    EXPECT_LT(ct_now_ms() - start_ms, PROMPT_MS);
    EXPECT_EQ(waitpid(-1, NULL, 0), -1); /* it is no child of ours any more */
    EXPECT_EQ(errno, ECHILD);
    /* and one that forks a process which never says that it is ready */
    write_program(live_path("/silent"), "#!/bin/sh\nsleep 2 &\n");
    (void)setenv("PINTABLED", live_path("/silent"), 1);
    end_at_question(3);
    EXPECT_EQ(live_join(ct_tmpdir(), 0, &pool), PINT_E_INTERRUPTED);
    ask_no_more();
    /* the start lock is with the one that started, as long as it runs; then a real one can start */
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    pint_pool_leave(pool);
    live_stop();
}

/* ---- requests -------------------------------------------------------------------------------- */

TEST(Interrupt, KeepsTheSessionAndItsLeasesWhenARequestIsInterrupted)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_table *lost = NULL;
    pint_column column;
    pint_lease lease;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 1000, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    ASSERT_OK(pint_lease_claim(&column, 1, 0, PINT_INOUT, -1, &lease, &live_err), &live_err);
    const uint64_t session = pint_pool_session(pool);
    expect_requests_work(pool, "other"); /* so that memory of this size is warm */
    const double used = live_stat_number("used_bytes");
    const double tables = live_stat_number("tables");

    freeze_service();
    for (int i = 0; i < 3; i++) { /* the later ones wait for a connection */
        end_at_question(3);
        const uint64_t start_ms = ct_now_ms();
        EXPECT_EQ(live_create(pool, "lost", 1000, &lost), PINT_E_INTERRUPTED);
        EXPECT_LT(ct_now_ms() - start_ms, PROMPT_MS);
        EXPECT_TRUE(lost == NULL);
    }
    ask_no_more();
    thaw_service();

    expect_requests_work(pool, "lost"); /* the name is free */
    EXPECT_EQ(pint_pool_session(pool), session);
    EXPECT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    EXPECT_TRUE(used_bytes_become(used));
    EXPECT_EQ(live_stat_number("tables"), tables);
    EXPECT_EQ(live_stat_sessions(), 1);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

typedef struct maker {
    pint_pool *pool;
    uint64_t rows;
    pint_status status;
} maker;

/* The service makes the table, but its answer is not read: it was stopped when the request was sent
 * and reads it before it hears that the connection was given up. */
TEST(Interrupt, DropsTheTableThatWasMadeAllTheSame)
{
    pint_pool *pool = NULL;
    pint_table *lost = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_SHARED, &pool), &live_err);
    expect_requests_work(pool, "t");
    const double used = live_stat_number("used_bytes");

    freeze_service();
    end_at_question(1);
    EXPECT_EQ(live_create(pool, "lost", 100, &lost), PINT_E_INTERRUPTED);
    ask_no_more();
    thaw_service();
    /* Nobody has come back: the table is there, or still in the service's socket. */
    ASSERT_TRUE(ct_eventually(live_stat_number("used_bytes") > used, 5000));
    /* Looking whether the service lives is enough, as a second join of a shared handle does. */
    pint_pool *again = NULL;
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_SHARED, &again), &live_err);
    EXPECT_TRUE(again == pool);
    EXPECT_TRUE(used_bytes_become(used));
    pint_pool_leave(again);
    expect_requests_work(pool, "t");
    pint_pool_leave(pool);
    live_stop();
}

TEST(Interrupt, LeavesAChangeDoneOrNotDoneAndTheHandleGood)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 100, &table), &live_err);
    freeze_service();
    end_at_question(1);
    EXPECT_EQ(pint_table_publish(table, 0, &live_err), PINT_E_INTERRUPTED);
    end_at_question(1);
    EXPECT_EQ(pint_table_rename(pool, "t", "u", &live_err), PINT_E_INTERRUPTED);
    end_at_question(1);
    EXPECT_EQ(pint_table_drop(pool, "t", &live_err), PINT_E_INTERRUPTED);
    ask_no_more();
    thaw_service();
    /* settles it: published or not, in the catalog and for good */
    const pint_status status = pint_table_publish(table, 0, &live_err);
    EXPECT_TRUE(status == PINT_OK || status == PINT_E_STATE);
    pint_table *opened = NULL;
    ASSERT_OK(pint_table_open(pool, "t", PINT_WRITE, &opened, &live_err), &live_err);
    pint_table_close(opened);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* ---- threads --------------------------------------------------------------------------------- */

static pthread_t main_thread;

/* As Python does it: only one thread is interrupted. */
static int end_main_thread(void *context)
{
    (void)context;
    const bool is_main = pthread_equal(pthread_self(), main_thread) != 0;
    return is_main && atomic_fetch_add(&n_questions, 1) + 1 >= atomic_load(&ends_at);
}

static void *create_in_thread(void *context)
{
    maker *m = context;
    pint_table *table = NULL;
    m->status = live_create(m->pool, "of the thread", m->rows, &table);
    pint_table_close(table);
    return NULL;
}

/* The other thread's request holds the connection; this one's wait for it ends, the other's goes on
 * and is answered. */
TEST(Interrupt, EndsTheWaitForAnotherThreadsRequestAndNotThatRequest)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pthread_t thread;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    freeze_service();
    main_thread = pthread_self();
    atomic_store(&n_questions, 0);
    atomic_store(&ends_at, 4);
    maker m = {.pool = pool, .rows = 100, .status = PINT_E_INVALID};
    pint_set_interrupt(end_main_thread, NULL);
    ASSERT_EQ(pthread_create(&thread, NULL, create_in_thread, &m), 0);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(live_create(pool, "u", 100, &table), PINT_E_INTERRUPTED);
    EXPECT_LT(ct_now_ms() - start_ms, PROMPT_MS);
    thaw_service();
    ASSERT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(m.status, PINT_OK);
    ask_no_more();
    expect_requests_work(pool, "u");
    pint_pool_leave(pool);
    live_stop();
}

/* The function may use the library; only the pool whose request it interrupts is closed to it. */
static pint_pool *pool_of_request;
static pint_status status_inside;

static int make_a_request(void *context)
{
    (void)context;
    pint_table *table = NULL;
    status_inside = live_create(pool_of_request, "inside", 100, &table);
    return 1;
}

TEST(Interrupt, RefusesARequestInTheMiddleOfAnother)
{
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool_of_request), &live_err);
    freeze_service();
    pint_set_interrupt(make_a_request, NULL);
    EXPECT_EQ(live_create(pool_of_request, "t", 100, &table), PINT_E_INTERRUPTED);
    ask_no_more();
    EXPECT_EQ(status_inside, PINT_E_STATE);
    thaw_service();
    expect_requests_work(pool_of_request, "t");
    pint_pool_leave(pool_of_request);
    live_stop();
}

/* Leaving tells nobody that it was interrupted, so it is not. */
TEST(Interrupt, DoesNotEndLeaving)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", 100, &table), &live_err);
    freeze_service();
    end_at_question(1);
    pint_table_close(table); /* is discarded */
    pint_pool_leave(pool);
    EXPECT_EQ(n_questions, 0);
    ask_no_more();
    thaw_service();
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 5000));
    EXPECT_TRUE(ct_eventually(live_stat_number("tables") == 0, 5000));
    live_stop();
}

PROC(waits_for_ever)
{
    CT_REQUIRE(argc == 2);
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_column column;
    CT_REQUIRE(live_join(argv[1], 0, &pool) == PINT_OK);
    CT_REQUIRE(live_create(pool, "t", 10, &table) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "x", &column, NULL) == PINT_OK);
    end_at_question(2);
    const pid_t child = fork(); /* inherits who is asked */
    if (child == 0) {
        _exit(pint_column_wait(&column, 0, pint_column_version(&column, 0), LONG_MS, NULL, NULL) ==
                      PINT_E_INTERRUPTED
                  ? 0
                  : 1);
    }
    int status = -1;
    CT_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    ask_no_more();
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

TEST(Interrupt, IsInheritedByAForkedChild)
{
    live_set_up();
    const char *const args[] = {ct_tmpdir(), NULL};
    const pid_t child = ct_spawn("waits_for_ever", args);
    ASSERT_GT(child, 0);
    EXPECT_EQ(ct_wait(child), 0);
    live_stop();
}
