/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping and discarding device copies, with others at work. */

#include "tests/device/device_world.h"

#define ROWS (4u * WORLD_CHUNK_ROWS)
#define RW   (PINT_READ | PINT_WRITE)

/* Add 1 to all of x on the device, which then has the newest bytes alone. */
static void write_on_device(world *w)
{
    ASSERT_OK(pint_device_begin(w->copy, 0, PINT_ALL_ROWS, RW, w->stream, 10000, &live_err),
              &live_err);
    world_device_add(w, 0, ROWS, 1);
    ASSERT_OK(pint_device_end(w->copy, 0, PINT_ALL_ROWS, RW, w->stream, &live_err), &live_err);
    ASSERT_OK(pint_copy_wait(w->copy, 0, PINT_ALL_ROWS, 10000, &live_err), &live_err);
    ASSERT_EQ(pint_copy_places(w->copy, 0), 2);
}

/* ---- drop ------------------------------------------------------------------------------------ */

TEST(Drop, DoesNotWaitForOtherCopies, .timeout_s = 30)
{
    world w;
    gate g;
    pint_column id;
    pint_copy *other = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_column(w.table, "id", &id, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w.device, &id, 0, PINT_WRITE, &other, &live_err), &live_err);
    ASSERT_OK(pint_device_begin(w.copy, 0, 1, RW, w.stream, 10000, &live_err), &live_err);
    gate_put(&g, &w, w.stream);
    ASSERT_OK(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err), &live_err);
    EXPECT_OK(pint_copy_drop(other, &live_err), &live_err); /* the stream stands still */
    gate_open(&g);
    pint_copy_close(other);
    world_tear_down(&w);
}

TEST(Drop, GivesUpOnWorkThatDoesNotEnd, .timeout_s = 30)
{
    world w;
    gate g;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 10000, &live_err), &live_err);
    gate_put(&g, &w, w.stream);
    ASSERT_OK(pint_device_end(w.copy, 0, 1, PINT_READ, w.stream, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_copy_drop(w.copy, &live_err), &live_err);
    gate_open(&g);
    EXPECT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    world_tear_down(&w);
}

/* Has chunk 0 of x in a reading bracket until it is told to go on. */
PROC(device_reader)
{
    world w;
    CT_REQUIRE(world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 10000, &live_err) == PINT_OK);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    CT_REQUIRE(pint_device_end(w.copy, 0, 1, PINT_READ, w.stream, &live_err) == PINT_OK);
    world_leave(&w);
    return 0;
}

typedef struct dropper {
    world *w;
    pint_status status;
    pint_error err;
} dropper;

static void *drop_patiently(void *argument)
{
    dropper *d = argument;
    do { /* a slow machine may take longer than one call waits */
        d->status = pint_copy_drop(d->w->copy, &d->err);
    } while (d->status == PINT_E_BUSY);
    return NULL;
}

TEST(Drop, WaitsForAReaderOfAnotherProcess, .timeout_s = 60)
{
    world w;
    pthread_t thread;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    dropper d = {.w = &w};
    const pinti_bell *bell = w.copy->import->desc.table->bell;
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t reader = ct_spawn("device_reader", arguments);
    ASSERT_TRUE(ct_wait_ready(reader));
    ASSERT_EQ(pthread_create(&thread, NULL, drop_patiently, &d), 0);
    /* it was refused by the service, and rests before it asks again */
    EXPECT_TRUE(ct_eventually((pinti_load32_seq(&bell->xbell) & PINTI_BELL_ASLEEP) != 0, 10000));
    EXPECT_EQ(pint_copy_places(w.copy, 0) & 1u, 1);
    ASSERT_TRUE(ct_go(reader));
    (void)pthread_join(thread, NULL);
    EXPECT_STATUS(PINT_OK, d.status, &d.err);
    EXPECT_EQ(ct_wait(reader), 0);
    world_tear_down(&w);
}

/* Writes chunk 0 of x on the device, again and again. */
PROC(device_writer)
{
    world w;
    CT_REQUIRE(world_join(&w, argv[1], PINT_WRITE));
    ct_ready();
    for (;;) {
        const pint_status status = pint_device_begin(w.copy, 0, 1, RW, w.stream, 10000, &live_err);
        if (status == PINT_E_DEVICE_LOST) {
            break;
        }
        CT_REQUIRE(status == PINT_OK);
        world_device_add(&w, 0, 1, 1);
        CT_REQUIRE(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err) == PINT_OK);
        CT_REQUIRE(pint_copy_wait(w.copy, 0, 1, 10000, &live_err) == PINT_OK);
    }
    world_leave(&w);
    return 0;
}

/* Whenever the service looks, the other has made chunk 0 newest on the device, or works there. */
TEST(Drop, TriesAgainWhileAnotherProcessWorks, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const char *const arguments[] = {ct_tmpdir(), NULL};
    const pid_t writer = ct_spawn("device_writer", arguments);
    ASSERT_TRUE(ct_wait_ready(writer));
    pint_status status;
    do { /* it may give up: that is honest */
        status = pint_copy_drop(w.copy, &live_err);
    } while (status == PINT_E_BUSY);
    EXPECT_OK(status, &live_err);
    EXPECT_EQ(ct_wait(writer), 0);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    world_tear_down(&w);
}

/* ---- discard --------------------------------------------------------------------------------- */

TEST(Discard, TearsWhatWasThereAlone)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_NO_FATAL(write_on_device(&w));
    ASSERT_OK(pint_copy_to_host(w.copy, 0, 1, 1000, NULL, &live_err), &live_err);
    ASSERT_OK(pint_copy_discard(w.device, &w.x, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1); /* the host has it */
    EXPECT_EQ(pint_copy_places(w.copy, 1), 0);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_copy_discard(w.device, &w.x, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST,
                  pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 0, &live_err), &live_err);
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &w.copy, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_TORN,
                  pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 0, &live_err),
                  &live_err);
    world_tear_down(&w);
}

TEST(Discard, MakesOpenBracketsLost)
{
    world w;
    pint_lease lease;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, 1, RW, w.stream, 10000, &live_err), &live_err);
    world_device_add(&w, 0, 1, 1);
    ASSERT_OK(pint_copy_discard(w.device, &w.x, &live_err), &live_err);
    ASSERT_OK(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err), &live_err);
    ASSERT_OK(pint_copy_wait(w.copy, 0, 1, 10000, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1); /* as it was */
    EXPECT_EQ(world_host(&w)[0], 0.0);
    ASSERT_OK(pint_lease_claim(&w.x, 1, 0, PINT_UPDATE, 0, &lease, &live_err), &live_err);
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    world_tear_down(&w);
}

/* Whoever only wants to be rid of it need not open it, nor have had it open. */
TEST(Discard, NeedsNoHandle)
{
    world w;
    pint_table *reader = NULL;
    pint_column x;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    pint_copy_close(w.copy);
    w.copy = NULL;
    ASSERT_OK(pint_table_open(w.pool, "t", PINT_READ, &reader, &live_err), &live_err);
    ASSERT_OK(pint_table_column(reader, "x", &x, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_copy_discard(w.device, &x, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_discard(NULL, &w.x, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_discard(w.device, NULL, &live_err), &live_err);
    EXPECT_OK(pint_copy_discard(w.device, &w.x, &live_err), &live_err);
    EXPECT_STATUS(
        PINT_E_NOT_FOUND,
        pint_copy_open(w.device, &w.x, PINT_COPY_EXISTING, PINT_WRITE, &w.copy, &live_err),
        &live_err);
    pint_table_close(reader);
    world_tear_down(&w);
}
