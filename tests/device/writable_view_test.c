/* SPDX-License-Identifier: Apache-2.0 */
/* Brackets on columns that are stored to at any time: what views store without a mark is there. */

#include "host/writable_view.h"
#include "tests/device/device_world.h"

#include <signal.h>
#include <stdlib.h>

#define CHUNKS 4u
#define ROWS   (CHUNKS * WORLD_CHUNK_ROWS)
#define BYTES  (ROWS * sizeof(double))
#define RW     (PINT_READ | PINT_WRITE)

static pint_status begin_all(world *w, uint32_t access, void *stream, int64_t timeout_ms)
{
    return pint_device_begin(w->copy, 0, PINT_ALL_ROWS, access, stream, timeout_ms, &live_err);
}

static pint_status end_all(world *w, uint32_t access, void *stream)
{
    return pint_device_end(w->copy, 0, PINT_ALL_ROWS, access, stream, &live_err);
}

static uint64_t moved(const world *w)
{
    uint64_t to_device;
    pint_copy_moved(w->copy, &to_device, NULL);
    return to_device;
}

/* First value on the device, as a reading bracket finds it. */
static double read_first(world *w)
{
    EXPECT_OK(begin_all(w, PINT_READ, w->stream, 10000), &live_err);
    const double found = world_device_sum(w, 0, 1);
    EXPECT_OK(end_all(w, PINT_READ, w->stream), &live_err);
    EXPECT_OK(pint_stream_wait(w->device, w->stream, &live_err), &live_err);
    return found;
}

/* Nobody reads the first chunk on the device any more: the watcher has seen its bracket end. */
static bool is_unread(const world *w)
{
    return pinti_load64_seq(&w->copy->import->desc.chunks[0].xreaders) == 0;
}

TEST(WritableView, StoresAfterAWritingBracketAreNotLost)
{
    world w;
    pint_view *view;
    uint64_t to_host;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    for (int i = 1; i <= 3; i++) {
        ASSERT_OK(begin_all(&w, RW, w.stream, 10000), &live_err);
        ASSERT_OK(pint_stream_wait(w.device, w.stream, &live_err), &live_err);
        EXPECT_EQ(world_device(&w)[0], i == 1 ? 0.0 : i - 1 + 100);
        world_device(&w)[0] = i;
        ASSERT_OK(end_all(&w, RW, w.stream), &live_err);
        EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
        EXPECT_EQ(world_host(&w)[0], (double)i);
        world_host(&w)[0] += 100;
    }
    pint_copy_moved(w.copy, NULL, &to_host);
    EXPECT_EQ(to_host, 3 * BYTES);
    pint_column_view_end(view);
    /* without a view end does not wait, and nothing is brought */
    ASSERT_OK(begin_all(&w, RW, w.stream, 10000), &live_err);
    ASSERT_OK(end_all(&w, RW, w.stream), &live_err);
    ASSERT_OK(pint_copy_wait(w.copy, 0, PINT_ALL_ROWS, 10000, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2);
    world_tear_down(&w);
}

TEST(WritableView, StoresWithoutAMarkAreReadByTheNextBracket)
{
    world w;
    pint_view *view;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    EXPECT_EQ(read_first(&w), 0.0);
    EXPECT_TRUE(world_places(&w, 0, 3));
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    for (int i = 1; i <= 3; i++) {
        world_host(&w)[0] = i;
        EXPECT_EQ(read_first(&w), (double)i);
        EXPECT_TRUE(ct_eventually(is_unread(&w), 10000));
        EXPECT_EQ(pint_copy_places(w.copy, 0), 1); /* never on both sides */
    }
    EXPECT_EQ(moved(&w), 4 * BYTES);
    world_host(&w)[0] = 4;
    pint_column_view_end(view);
    EXPECT_EQ(read_first(&w), 4.0); /* what was stored last, too */
    EXPECT_TRUE(world_places(&w, 0, 3));
    EXPECT_EQ(read_first(&w), 4.0);
    EXPECT_EQ(moved(&w), 5 * BYTES); /* without views nothing is brought twice */
    world_tear_down(&w);
}

TEST(WritableView, IsSeenByBracketsThatReadAndWrite)
{
    world w;
    pint_view *view;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    EXPECT_EQ(read_first(&w), 0.0);
    EXPECT_TRUE(world_places(&w, 0, 3));
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    world_host(&w)[0] = 10;
    ASSERT_OK(begin_all(&w, RW, w.stream, 10000), &live_err);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(end_all(&w, RW, w.stream), &live_err);
    EXPECT_EQ(world_host(&w)[0], 11.0); /* end has brought it */
    EXPECT_EQ(world_host(&w)[5], 6.0);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    const uint64_t before = moved(&w);
    ASSERT_OK(begin_all(&w, PINT_WRITE, w.stream, 10000), &live_err);
    EXPECT_EQ(moved(&w), before); /* every row is going to be written */
    ASSERT_OK(pint_device_cancel(w.copy, 0, PINT_ALL_ROWS, PINT_WRITE, w.stream, &live_err),
              &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    pint_column_view_end(view);
    world_tear_down(&w);
}

/* What an open bracket reads must stand still, and its thread does not wait for itself. */
TEST(WritableView, BracketsInsideOthersReadWhatThoseRead)
{
    world w;
    pint_view *view;
    void *second = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_stream_create(w.device, &second, &live_err), &live_err);
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    ASSERT_OK(begin_all(&w, PINT_READ, w.stream, 10000), &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, 1), 0.0);
    world_host(&w)[0] = 5;
    ASSERT_OK(begin_all(&w, PINT_READ, second, 0), &live_err);
    EXPECT_EQ(moved(&w), BYTES);
    EXPECT_EQ(world_device_sum(&w, 0, 1), 0.0);
    ASSERT_OK(end_all(&w, PINT_READ, second), &live_err);
    ASSERT_OK(end_all(&w, PINT_READ, w.stream), &live_err);
    EXPECT_EQ(read_first(&w), 5.0);
    /* begun when both sides had it, and no view was there */
    pint_column_view_end(view);
    EXPECT_EQ(read_first(&w), 5.0);
    EXPECT_TRUE(world_places(&w, 0, 3));
    ASSERT_OK(begin_all(&w, PINT_READ, w.stream, 10000), &live_err);
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    ASSERT_OK(begin_all(&w, PINT_READ, second, 0), &live_err);
    ASSERT_OK(end_all(&w, PINT_READ, second), &live_err);
    /* not what somebody has committed since */
    world_host_write(&w, 0, 7);
    EXPECT_STATUS(PINT_E_BUSY, begin_all(&w, PINT_READ, second, 0), &live_err);
    ASSERT_OK(end_all(&w, PINT_READ, w.stream), &live_err);
    EXPECT_EQ(read_first(&w), 7.0);
    pint_column_view_end(view);
    pint_stream_destroy(w.device, second);
    world_tear_down(&w);
}

/* A copy in flight for a bracket that has ended was begun before the next one's stores. */
TEST(WritableView, BracketsDoNotShareACopyThatIsOlderThanTheStores)
{
    world w;
    gate g;
    pint_view *view;
    void *copies = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_column_view_begin(&w.x, &view, &live_err), &live_err);
    ASSERT_OK(pinti_device_copy_stream(w.device, true, &copies, &live_err), &live_err);
    ASSERT_OK(begin_all(&w, PINT_READ, w.stream, 10000), &live_err);
    EXPECT_OK(pint_stream_wait(w.device, w.stream, &live_err), &live_err);
    gate_put(&g, &w, w.stream); /* the work of a bracket goes on after its end */
    ASSERT_OK(end_all(&w, PINT_READ, w.stream), &live_err);
    world_host(&w)[0] = 8;
    EXPECT_STATUS(PINT_E_BUSY, begin_all(&w, PINT_READ, w.stream, 0), &live_err);
    gate_open(&g);
    EXPECT_EQ(read_first(&w), 8.0);
    EXPECT_TRUE(ct_eventually(is_unread(&w), 10000));

    gate_put(&g, &w, copies); /* the copy itself is late */
    ASSERT_OK(begin_all(&w, PINT_READ, w.stream, 10000), &live_err);
    ASSERT_OK(end_all(&w, PINT_READ, w.stream), &live_err);
    world_host(&w)[0] = 9;
    EXPECT_STATUS(PINT_E_BUSY, begin_all(&w, PINT_READ, w.stream, 0), &live_err);
    gate_open(&g);
    EXPECT_EQ(read_first(&w), 9.0);
    pint_column_view_end(view);
    world_tear_down(&w);
}

/* ---- another process ------------------------------------------------------------------------- */

/* The two take turns by the values of column id: row 0 is the child's, row 1 the parent's. */
static pinti_a64 *turns(pint_table *table)
{
    pint_column id;
    return pint_table_column(table, "id", &id, &live_err) == PINT_OK
               ? (pinti_a64 *)pint_column_values(&id)
               : NULL;
}

/* Stores through a view and never marks. Arguments: address, "end" or "stay". */
PROC(view_storer)
{
    pint_pool *pool;
    pint_table *table;
    pint_column x;
    pint_view *view;
    CT_REQUIRE(argc == 3 && live_join(argv[1], 0, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(table, "x", &x, &live_err) == PINT_OK);
    pinti_a64 *turn = turns(table);
    CT_REQUIRE(turn != NULL);
    CT_REQUIRE(pint_column_view_begin(&x, &view, &live_err) == PINT_OK);
    for (uint64_t i = 1; i <= 3; i++) {
        ((double *)pint_column_values(&x))[0] = (double)(100 + i);
        pinti_store64_release(&turn[0], i << 32);
        CT_REQUIRE(ct_eventually(pinti_load64_acquire(&turn[1]) == i << 32, 20000));
    }
    if (argv[2][0] == 's') {
        (void)pause();
    }
    pint_column_view_end(view);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

static void follow_storer(world *w, const char *how)
{
    const char *const arguments[] = {ct_tmpdir(), how, NULL};
    pinti_a64 *turn = turns(w->table);
    ASSERT_TRUE(turn != NULL);
    pinti_store64_release(&turn[0], 0);
    pinti_store64_release(&turn[1], 0);
    const pid_t pid = ct_spawn("view_storer", arguments);
    for (uint64_t i = 1; i <= 3; i++) {
        ASSERT_TRUE(ct_eventually(pinti_load64_acquire(&turn[0]) == i << 32, 20000));
        EXPECT_EQ(read_first(w), (double)(100 + i));
        EXPECT_TRUE(ct_eventually(is_unread(w), 10000));
        pinti_store64_release(&turn[1], i << 32);
    }
    if (how[0] == 's') {
        EXPECT_TRUE(pinti_column_is_host_changed(pinti_column_desc_of(&w->x)));
        ASSERT_EQ(kill(pid, SIGKILL), 0);
        EXPECT_EQ(ct_wait(pid), 128 + SIGKILL);
    } else {
        EXPECT_EQ(ct_wait(pid), 0);
    }
    /* the service ends what a dead process had */
    EXPECT_TRUE(ct_eventually(!pinti_column_is_host_changed(pinti_column_desc_of(&w->x)), 10000));
    EXPECT_EQ(read_first(w), 103.0);
    EXPECT_TRUE(world_places(w, 0, 3));
    const uint64_t before = moved(w);
    EXPECT_EQ(read_first(w), 103.0);
    EXPECT_EQ(moved(w), before);
}

TEST(WritableView, OfAnotherProcessCountsUntilItEndsOrDies)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_NO_FATAL(follow_storer(&w, "end"));
    ASSERT_NO_FATAL(follow_storer(&w, "stay"));
    world_tear_down(&w);
}
