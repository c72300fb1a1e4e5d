/* SPDX-License-Identifier: Apache-2.0 */
/* A column on two devices at once: "host", and a GPU of the fake driver. */

#include "tests/device/device_world.h"

#include <stdlib.h>
#include <string.h>

#define ROWS (8u * WORLD_CHUNK_ROWS)
#define RW   (PINT_READ | PINT_WRITE)

typedef struct gpu {
    pint_device *device;
    pint_copy *copy;
    void *stream;
} gpu;

static void set_up(world *w, gpu *g)
{
    ASSERT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_DIR "/libcuda.so.1", 1), 0);
    ASSERT_NO_FATAL(world_set_up(w, ROWS)); /* the service inherits it, and its broker */
    ASSERT_OK(pint_device_open(w->pool, "cuda:0", &g->device, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(g->device, &w->x, 0, PINT_WRITE, &g->copy, &live_err), &live_err);
    ASSERT_OK(pint_stream_create(g->device, &g->stream, &live_err), &live_err);
}

static void tear_down(world *w, gpu *g)
{
    pint_stream_destroy(g->device, g->stream);
    pint_copy_close(g->copy);
    pint_device_close(g->device);
    world_tear_down(w);
    ASSERT_EQ(unsetenv("PINTABLE_LIBCUDA"), 0);
}

/* Make the GPU the only place that has the newest bytes, and the host's plainly wrong. */
static void move_to_gpu(world *w, gpu *g)
{
    ASSERT_OK(pint_device_begin(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, 10000, &live_err),
              &live_err);
    ASSERT_OK(pint_device_end(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, &live_err), &live_err);
    ASSERT_TRUE(ct_eventually(pint_copy_places(g->copy, 7) == 2, 10000));
    memset(world_host(w), 0xff, ROWS * sizeof(double));
}

TEST(TwoDevices, BytesGoFromOneToTheOtherByWayOfTheHost)
{
    world w;
    gpu g = {0};
    ASSERT_NO_FATAL(set_up(&w, &g));
    ASSERT_NO_FATAL(move_to_gpu(&w, &g));
    EXPECT_EQ(pint_copy_places(w.copy, 0), 0); /* neither here nor on the host */
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 10000, &live_err),
              &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    EXPECT_TRUE(world_places(&w, 0, 3)); /* all three have it */
    EXPECT_EQ(pint_copy_places(g.copy, 0), 3);
    /* written here: nowhere else any more */
    ASSERT_OK(pint_device_begin(w.copy, 0, 1, RW, w.stream, 10000, &live_err), &live_err);
    world_device_add(&w, 0, 1, 1);
    ASSERT_OK(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err), &live_err);
    EXPECT_TRUE(world_places(&w, 0, 2));
    EXPECT_EQ(pint_copy_places(g.copy, 0), 0);
    ASSERT_OK(pint_copy_to_host(g.copy, 0, 1, 10000, NULL, &live_err),
              &live_err); /* by the other */
    EXPECT_EQ(world_host(&w)[0], 1.0);
    tear_down(&w, &g);
}

TEST(TwoDevices, AheadOnOneThatIsNotOpenSaysSo)
{
    world w;
    gpu g = {0};
    ASSERT_NO_FATAL(set_up(&w, &g));
    ASSERT_NO_FATAL(move_to_gpu(&w, &g));
    pint_copy_close(g.copy);
    g.copy = NULL;
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD,
                  pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 0, &live_err), &live_err);
    EXPECT_TRUE(strstr(live_err.message, "newest on device") != NULL);
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_device_begin(w.copy, 0, 1, RW, w.stream, 0, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD, pint_copy_to_host(w.copy, 0, 1, 0, NULL, &live_err),
                  &live_err);
    EXPECT_OK(pint_device_begin(w.copy, 0, 1, PINT_WRITE, w.stream, 0, &live_err), &live_err);
    ASSERT_OK(pint_device_cancel(w.copy, 0, 1, PINT_WRITE, w.stream, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(g.device, &w.x, 0, PINT_WRITE, &g.copy, &live_err), &live_err);
    ASSERT_OK(pint_copy_to_host(w.copy, WORLD_CHUNK_ROWS, PINT_ALL_ROWS, 10000, NULL, &live_err),
              &live_err);
    EXPECT_EQ(world_host(&w)[WORLD_CHUNK_ROWS], (double)WORLD_CHUNK_ROWS);
    tear_down(&w, &g);
}

/* What is newest on another device is none of a copy's business. */
TEST(TwoDevices, ACopyIsDroppedWhoseColumnIsNewestElsewhere)
{
    world w;
    gpu g = {0};
    ASSERT_NO_FATAL(set_up(&w, &g));
    ASSERT_NO_FATAL(move_to_gpu(&w, &g));
    EXPECT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(g.copy, 0), 2); /* not brought to the host either */
    tear_down(&w, &g);
}

/* To wait for a chunk that the same thread writes on another device is to wait for oneself. */
TEST(TwoDevices, OneThreadDoesNotWaitForItself, .timeout_s = 30)
{
    world w;
    gpu g = {0};
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    ASSERT_NO_FATAL(set_up(&w, &g));
    ASSERT_OK(pint_device_get_info(g.device, &info, &live_err), &live_err);
    EXPECT_EQ(info.ordinal, 0);
    ASSERT_OK(pint_device_begin(g.copy, 0, 1, RW, g.stream, 10000, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_device_begin(w.copy, 0, 1, RW, w.stream, -1, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_copy_to_host(w.copy, 0, 1, -1, NULL, &live_err), &live_err);
    ASSERT_OK(pint_device_end(g.copy, 0, 1, RW, g.stream, &live_err), &live_err);
    tear_down(&w, &g);
}
