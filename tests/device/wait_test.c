/* SPDX-License-Identifier: Apache-2.0 */
/* What begin, to host and own host wait for, for how long, and what they say when they do not. */

#include "tests/device/device_world.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "host/wait.h"
#include "host/word.h"

#define ROWS (4u * WORLD_CHUNK_ROWS)
#define RW   (PINT_READ | PINT_WRITE)

static pint_status begin_first(world *w, uint32_t access, int64_t timeout_ms)
{
    return pint_device_begin(w->copy, 0, 1, access, w->stream, timeout_ms, &live_err);
}

static pint_status end_first(world *w, uint32_t access)
{
    return pint_device_end(w->copy, 0, 1, access, w->stream, &live_err);
}

static pint_status to_host(world *w, int64_t timeout_ms)
{
    return pint_copy_to_host(w->copy, 0, PINT_ALL_ROWS, timeout_ms, NULL, &live_err);
}

static pint_status own_host(world *w, int64_t timeout_ms)
{
    return pint_copy_own_host(w->copy, 0, PINT_ALL_ROWS, timeout_ms, &live_err);
}

/* ---- another thread -------------------------------------------------------------------------- */

/* One call on a thread of its own. */
typedef struct caller {
    pthread_t thread;
    world *w;
    enum { CALL_BEGIN_WRITE, CALL_BEGIN_READ, CALL_TO_HOST, CALL_OWN_HOST } what;
    int64_t timeout_ms;
    pint_status status;
    pint_error err;
} caller;

static pint_status call_begin(caller *c, uint32_t access)
{
    void *stream = NULL;
    pint_status status = pint_stream_create(c->w->device, &stream, &c->err);
    if (status == PINT_OK) {
        status = pint_device_begin(c->w->copy, 0, 1, access, stream, c->timeout_ms, &c->err);
    }
    if (status == PINT_OK) {
        status = pint_device_end(c->w->copy, 0, 1, access, stream, &c->err);
    }
    pint_stream_destroy(c->w->device, stream);
    return status;
}

static void *call(void *argument)
{
    caller *c = argument;
    switch (c->what) {
    case CALL_BEGIN_WRITE:
        c->status = call_begin(c, RW);
        break;
    case CALL_BEGIN_READ:
        c->status = call_begin(c, PINT_READ);
        break;
    case CALL_TO_HOST:
        c->status = pint_copy_to_host(c->w->copy, 0, 1, c->timeout_ms, NULL, &c->err);
        break;
    case CALL_OWN_HOST:
        c->status = pint_copy_own_host(c->w->copy, 0, 1, c->timeout_ms, &c->err);
        break;
    }
    return NULL;
}

/* Somebody sleeps on the table's bell. */
static bool is_anybody_asleep(const world *w)
{
    const pinti_bell *bell = w->copy->import->desc.table->bell;
    return (pinti_load32_seq(&bell->xbell) & PINTI_BELL_ASLEEP) != 0;
}

static void call_start(caller *c, world *w)
{
    c->w = w;
    pinti_bell_ring_always(w->copy->import->desc.table->bell); /* what earlier sleepers left */
    ASSERT_EQ(pthread_create(&c->thread, NULL, call, c), 0);
    ASSERT_TRUE(ct_eventually(is_anybody_asleep(w), 10000));
}

static void call_expect(caller *c, pint_status expected)
{
    (void)pthread_join(c->thread, NULL);
    EXPECT_STATUS(expected, c->status, &c->err);
}

/* A call with its own thread's time limit, which runs out. */
static void call_in_vain(world *w, int what, int64_t timeout_ms, pint_status expected)
{
    caller c = {.w = w, .what = what, .timeout_ms = timeout_ms};
    ASSERT_EQ(pthread_create(&c.thread, NULL, call, &c), 0);
    call_expect(&c, expected);
}

TEST(Wait, ForABracketOfAnotherThread, .timeout_s = 60)
{
    static const int calls[] = {CALL_BEGIN_WRITE, CALL_BEGIN_READ, CALL_TO_HOST, CALL_OWN_HOST};
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        caller c = {.what = calls[i], .timeout_ms = -1};
        ASSERT_OK(begin_first(&w, RW, 10000), &live_err);
        ASSERT_NO_FATAL(call_in_vain(&w, calls[i], 0, PINT_E_BUSY));
        ASSERT_NO_FATAL(call_in_vain(&w, calls[i], 20, PINT_E_TIMEOUT));
        ASSERT_NO_FATAL(call_start(&c, &w));
        world_device_add(&w, 0, 1, 1);
        EXPECT_OK(end_first(&w, RW), &live_err);
        ASSERT_NO_FATAL(call_expect(&c, PINT_OK));
    }
    ASSERT_OK(to_host(&w, 10000), &live_err);
    EXPECT_EQ(world_host(&w)[0], 4.0);
    world_tear_down(&w);
}

TEST(Wait, OfAWriterForAReaderOfAnotherThread)
{
    world w;
    caller c = {.what = CALL_BEGIN_WRITE, .timeout_ms = -1};
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_first(&w, PINT_READ, 10000), &live_err);
    ASSERT_TRUE(world_places(&w, 0, 3));
    ASSERT_NO_FATAL(call_in_vain(&w, CALL_BEGIN_WRITE, 20, PINT_E_TIMEOUT));
    ASSERT_NO_FATAL(call_in_vain(&w, CALL_BEGIN_READ, 0, PINT_OK)); /* readers share */
    ASSERT_NO_FATAL(call_start(&c, &w));
    EXPECT_OK(end_first(&w, PINT_READ), &live_err);
    ASSERT_NO_FATAL(call_expect(&c, PINT_OK));
    world_tear_down(&w);
}

TEST(Wait, NeverForOneself)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_first(&w, RW, 10000), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, begin_first(&w, PINT_READ, -1), &live_err);
    EXPECT_TRUE(strstr(live_err.message, "this thread has open") != NULL);
    EXPECT_STATUS(PINT_E_BUSY,
                  pint_device_begin(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, -1, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_BUSY, to_host(&w, -1), &live_err);
    EXPECT_TRUE(strstr(live_err.message, "this thread has open") != NULL);
    EXPECT_STATUS(PINT_E_BUSY, own_host(&w, -1), &live_err);
    EXPECT_TRUE(strstr(live_err.message, "this thread has open") != NULL);
    EXPECT_OK(end_first(&w, RW), &live_err);
    EXPECT_OK(to_host(&w, 10000), &live_err); /* what has ended is waited for */
    world_tear_down(&w);
}

/* ---- words that stay as they are ------------------------------------------------------------- */

static pinti_a64 *first_word(const world *w)
{
    return &pinti_column_desc_of(&w->x)->words[0];
}

static void expect_all(world *w, int64_t timeout_ms, pint_status expected)
{
    EXPECT_STATUS(expected, begin_first(w, PINT_READ, timeout_ms), &live_err);
    EXPECT_STATUS(expected, begin_first(w, RW, timeout_ms), &live_err);
    EXPECT_STATUS(expected, begin_first(w, PINT_WRITE, timeout_ms), &live_err);
    EXPECT_STATUS(expected, to_host(w, timeout_ms), &live_err);
    EXPECT_STATUS(expected, own_host(w, timeout_ms), &live_err);
}

TEST(Wait, ForOldBytesThatAnotherPutsBackEndsInTime, .timeout_s = 30)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const uint64_t before = pinti_load64_seq(first_word(&w));
    pinti_store64_seq(first_word(&w), pinti_chunk_next(before, PINTI_CHUNK_RESTORE, 0,
                                                       PINTI_HOST_STALE)); /* of no job */
    expect_all(&w, 0, PINT_E_BUSY);
    expect_all(&w, 20, PINT_E_TIMEOUT);
    pinti_store64_seq(first_word(&w), before);
    EXPECT_OK(begin_first(&w, RW, 0), &live_err);
    EXPECT_OK(end_first(&w, RW), &live_err);
    world_tear_down(&w);
}

TEST(Wait, IsNotBegunForAWordThatCannotBe, .timeout_s = 30)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const uint64_t before = pinti_load64_seq(first_word(&w));
    pinti_store64_seq(first_word(&w), pinti_chunk_next(before, PINTI_CHUNK_CLEAN, 77, 0));
    expect_all(&w, -1, PINT_E_CORRUPT);
    pinti_store64_seq(first_word(&w), pinti_chunk_next(before, PINTI_CHUNK_HELD, 0, 0));
    expect_all(&w, -1, PINT_E_CORRUPT);
    pinti_store64_seq(first_word(&w), before);
    world_tear_down(&w);
}

/* ---- a dead worker --------------------------------------------------------------------------- */

/* Takes chunk 0 of x in a job, spoils it, and waits to be killed. */
PROC(job_holder)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_lease lease;
    pint_column x;
    const pint_use use = {"x", PINT_INOUT, 0};
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_NO_START, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "x", &x, &live_err) == PINT_OK);
    CT_REQUIRE(pint_job_create(table, "j", &use, 1, &job, &live_err) == PINT_OK);
    CT_REQUIRE(pint_job_next(job, &lease, &live_err) == PINT_OK && lease.chunk == 0);
    ((double *)x.values)[0] = -1;
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    return 0;
}

/* It sleeps while the dead one's chunk becomes one whose old bytes wait, and puts them back itself:
 * nobody else may ever come. */
TEST(Wait, PutsOldBytesBackWhenAWorkerDiesMeanwhile, .timeout_s = 60)
{
    static const int calls[] = {CALL_BEGIN_READ, CALL_TO_HOST, CALL_OWN_HOST};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        world w;
        caller c = {.what = calls[i], .timeout_ms = 30000};
        ASSERT_NO_FATAL(world_set_up(&w, ROWS));
        const char *const arguments[] = {ct_tmpdir(), NULL};
        const pid_t holder = ct_spawn("job_holder", arguments);
        ASSERT_TRUE(ct_wait_ready(holder));
        ASSERT_NO_FATAL(call_start(&c, &w));
        ASSERT_EQ(kill(holder, SIGKILL), 0);
        EXPECT_EQ(ct_wait(holder), 128 + SIGKILL);
        ASSERT_NO_FATAL(call_expect(&c, PINT_OK));
        EXPECT_EQ(world_host(&w)[0], 0.0);
        world_tear_down(&w);
    }
}

/* ---- sleeping -------------------------------------------------------------------------------- */

/* Reads the last chunk of x on the device until it is told to go on. */
PROC(last_reader)
{
    world w;
    CT_REQUIRE(world_join(&w, argv[1], PINT_READ));
    CT_REQUIRE(pint_device_begin(w.copy, ROWS - 1, 1, PINT_READ, w.stream, 10000, &live_err) ==
               PINT_OK);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    CT_REQUIRE(pint_device_end(w.copy, ROWS - 1, 1, PINT_READ, w.stream, &live_err) == PINT_OK);
    world_leave(&w);
    return 0;
}

static uint32_t rings(const world *w)
{
    return pinti_load32_seq(&w->copy->import->desc.table->bell->xbell);
}

/* Whoever takes the chunks before the one that is in the way, and gives them back, rings the bell
 * that he is about to sleep on. */
TEST(Wait, DoesNotWakeItself)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t reader = ct_spawn("last_reader", arguments);
    ASSERT_TRUE(ct_wait_ready(reader));
    ASSERT_TRUE(world_places(&w, 3, 3));
    static const uint32_t accesses[] = {RW, PINT_WRITE, PINT_READ};
    for (int i = 0; i < 3; i++) {
        if (accesses[i] == PINT_READ) { /* it reads older bytes then */
            ASSERT_NO_FATAL(world_host_write(&w, 3, 1));
        }
        const uint32_t before = rings(&w);
        EXPECT_STATUS(
            PINT_E_TIMEOUT,
            pint_device_begin(w.copy, 0, PINT_ALL_ROWS, accesses[i], w.stream, 100, &live_err),
            &live_err);
        EXPECT_LE(rings(&w) - before, 8u);
    }
    ASSERT_TRUE(ct_go(reader));
    EXPECT_EQ(ct_wait(reader), 0);
    EXPECT_OK(begin_first(&w, RW, 10000), &live_err);
    EXPECT_OK(end_first(&w, RW), &live_err);
    world_tear_down(&w);
}

static void expect_sleep(world *w, uint32_t access)
{
    const uint32_t before = rings(w);
    EXPECT_STATUS(PINT_E_TIMEOUT,
                  pint_device_begin(w->copy, 0, PINT_ALL_ROWS, access, w->stream, 100, &live_err),
                  &live_err);
    EXPECT_LE(rings(w) - before, 8u);
}

TEST(Wait, ForOldBytesThatAnotherPutsBackDoesNotWakeItself)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    pinti_a64 *last = &first_word(&w)[3];
    const uint64_t before = pinti_load64_seq(last);
    pinti_store64_seq(
        last, pinti_chunk_next(before, PINTI_CHUNK_RESTORE, 0, PINTI_HOST_STALE)); /* of no job */
    expect_sleep(&w, RW);
    expect_sleep(&w, PINT_WRITE);
    expect_sleep(&w, PINT_READ);
    pinti_store64_seq(last, before);
    world_tear_down(&w);
}

TEST(Wait, ForACopyThatCannotBeSharedDoesNotWakeItself)
{
    world w;
    gate copying;
    pint_view *view;
    void *copy_stream;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    /* the first chunks are there, and can be taken */
    ASSERT_OK(pint_device_begin(w.copy, 0, ROWS / 2, RW, w.stream, 10000, &live_err), &live_err);
    ASSERT_OK(pint_device_end(w.copy, 0, ROWS / 2, RW, w.stream, &live_err), &live_err);
    ASSERT_TRUE(world_places(&w, 0, 2));
    /* the last is copied for a bracket that ends meanwhile: a view may have stored since */
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    ASSERT_OK(pinti_device_copy_stream(w.device, true, &copy_stream, &live_err), &live_err);
    gate_put(&copying, &w, copy_stream);
    ASSERT_OK(pint_device_begin(w.copy, ROWS - 1, 1, PINT_READ, w.stream, 10000, &live_err),
              &live_err);
    ASSERT_OK(pint_device_end(w.copy, ROWS - 1, 1, PINT_READ, w.stream, &live_err), &live_err);
    expect_sleep(&w, PINT_READ);
    gate_open(&copying);
    EXPECT_OK(begin_first(&w, PINT_READ, 10000), &live_err);
    EXPECT_OK(end_first(&w, PINT_READ), &live_err);
    pint_column_view_end(view);
    world_tear_down(&w);
}

/* ---- what has ended -------------------------------------------------------------------------- */

static pint_status wait_chunk(world *w, uint64_t chunk, int64_t timeout_ms)
{
    return pint_copy_wait(w->copy, chunk * WORLD_CHUNK_ROWS, 1, timeout_ms, &live_err);
}

TEST(Wait, UntilWhatHasEndedIsPublished)
{
    world w;
    gate g;
    void *other = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_stream_create(w.device, &other, &live_err), &live_err);
    ASSERT_OK(begin_first(&w, RW, 10000), &live_err);
    EXPECT_OK(wait_chunk(&w, 0, 0), &live_err); /* it is open: not waited for */
    gate_put(&g, &w, w.stream);
    ASSERT_OK(end_first(&w, RW), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, wait_chunk(&w, 0, 0), &live_err);
    EXPECT_STATUS(PINT_E_TIMEOUT, wait_chunk(&w, 0, 20), &live_err);
    EXPECT_OK(wait_chunk(&w, 1, 0), &live_err);
    gate_open(&g);
    ASSERT_OK(wait_chunk(&w, 0, 20000), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2);

    /* a reader that has ended, beside one that goes on */
    ASSERT_OK(begin_first(&w, PINT_READ, 10000), &live_err);
    ASSERT_OK(pint_device_begin(w.copy, 0, 1, PINT_READ, other, 10000, &live_err), &live_err);
    gate_put(&g, &w, w.stream);
    ASSERT_OK(end_first(&w, PINT_READ), &live_err);
    EXPECT_STATUS(PINT_E_TIMEOUT, wait_chunk(&w, 0, 20), &live_err);
    gate_open(&g);
    EXPECT_OK(wait_chunk(&w, 0, 20000), &live_err);
    ASSERT_OK(pint_device_end(w.copy, 0, 1, PINT_READ, other, &live_err), &live_err);

    EXPECT_STATUS(PINT_E_RANGE, wait_chunk(&w, 4, 0), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_wait(NULL, 0, 1, 0, &live_err), &live_err);
    pint_stream_destroy(w.device, other);
    world_tear_down(&w);
}
