/* SPDX-License-Identifier: Apache-2.0 */
/* Which bytes are moved, and by which way. */

#include "tests/device/device_world.h"

#include <stdlib.h>
#include <string.h>

#define CHUNKS      200u
#define ROWS        (CHUNKS * WORLD_CHUNK_ROWS)
#define CHUNK_BYTES (WORLD_CHUNK_ROWS * sizeof(double))

static void bracket(world *w, pint_copy *copy, uint32_t access)
{
    ASSERT_OK(pint_device_begin(copy, 0, PINT_ALL_ROWS, access, w->stream, 10000, &live_err),
              &live_err);
    ASSERT_OK(pint_device_end(copy, 0, PINT_ALL_ROWS, access, w->stream, &live_err), &live_err);
    ASSERT_OK(pint_stream_wait(w->device, w->stream, &live_err), &live_err);
}

static uint64_t moved_to_device(const world *w)
{
    uint64_t bytes = 0;
    pint_copy_moved(w->copy, &bytes, NULL);
    return bytes;
}

TEST(Transfer, MovesStaleChunksOnly)
{
    world w;
    uint64_t bytes = 1;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_NO_FATAL(bracket(&w, w.copy, PINT_READ));
    EXPECT_EQ(moved_to_device(&w), ROWS * sizeof(double));
    ASSERT_TRUE(world_places(&w, CHUNKS - 1, 3));
    ASSERT_NO_FATAL(bracket(&w, w.copy, PINT_READ));
    EXPECT_EQ(moved_to_device(&w), ROWS * sizeof(double)); /* nothing is stale */
    ASSERT_NO_FATAL(world_host_write(&w, 0, 0.5));         /* 1 %: one by itself, one at the end */
    ASSERT_NO_FATAL(world_host_write(&w, CHUNKS - 1, 0.5));
    ASSERT_NO_FATAL(bracket(&w, w.copy, PINT_READ));
    EXPECT_EQ(moved_to_device(&w), ROWS * sizeof(double) + 2 * CHUNK_BYTES);
    EXPECT_EQ(memcmp(world_host(&w), world_device(&w), ROWS * sizeof(double)), 0);
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, 0);

    ASSERT_OK(pint_device_begin(w.copy, 5 * WORLD_CHUNK_ROWS, 1, PINT_READ | PINT_WRITE, w.stream,
                                10000, &live_err),
              &live_err);
    world_device_add(&w, 5 * WORLD_CHUNK_ROWS, 1, 1);
    ASSERT_OK(pint_device_end(w.copy, 5 * WORLD_CHUNK_ROWS, 1, PINT_READ | PINT_WRITE, w.stream,
                              &live_err),
              &live_err);
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, CHUNK_BYTES);
    EXPECT_EQ(memcmp(world_host(&w), world_device(&w), ROWS * sizeof(double)), 0);
    world_tear_down(&w);
}

/* bool: bits, 32 times fewer bytes than float32; nullable: a bitmap beside the values. */
TEST(Transfer, BitsAndValidityGoWithTheValues)
{
    world w;
    pint_column b;
    pint_column n;
    pint_copy *copies[2];
    uint64_t bytes = 0;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS + 3));
    ASSERT_OK(pint_table_column(w.table, "b", &b, &live_err), &live_err);
    ASSERT_OK(pint_table_column(w.table, "n", &n, &live_err), &live_err);
    for (uint64_t i = 0; i < ROWS + 3; i += 3) {
        ASSERT_OK(pint_column_set_bool(&b, i, 1, &live_err), &live_err);
        ASSERT_OK(pint_column_set_null(&b, i, 0, &live_err), &live_err);
        ((float *)n.values)[i] = (float)i;
        ASSERT_OK(pint_column_set_null(&n, i, 0, &live_err), &live_err);
    }
    ASSERT_OK(pint_copy_open(w.device, &b, 0, PINT_WRITE, &copies[0], &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w.device, &n, 0, PINT_WRITE, &copies[1], &live_err), &live_err);
    ASSERT_NO_FATAL(bracket(&w, copies[0], PINT_READ));
    ASSERT_NO_FATAL(bracket(&w, copies[1], PINT_READ | PINT_WRITE));
    const uint64_t bits = (ROWS + 3 + 7) / 8;
    pint_copy_moved(copies[0], &bytes, NULL);
    EXPECT_EQ(bytes, 2 * bits);
    EXPECT_EQ(memcmp((void *)(uintptr_t)pint_copy_values(copies[0]), b.values, bits), 0);
    EXPECT_EQ(memcmp((void *)(uintptr_t)pint_copy_validity(copies[0]), b.validity, bits), 0);
    EXPECT_EQ(memcmp((void *)(uintptr_t)pint_copy_values(copies[1]), n.values, (ROWS + 3) * 4), 0);
    EXPECT_EQ(memcmp((void *)(uintptr_t)pint_copy_validity(copies[1]), n.validity, bits), 0);
    EXPECT_EQ(pint_copy_validity(w.copy), 0);
    memset(n.validity, 0xff, bits); /* of no matter: the device has the newest */
    ASSERT_OK(pint_copy_to_host(copies[1], 0, PINT_ALL_ROWS, 10000, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, (ROWS + 3) * 4 + bits);
    EXPECT_TRUE(pint_column_is_null(&n, 1));
    EXPECT_FALSE(pint_column_is_null(&n, 3));
    pint_copy_close(copies[0]);
    pint_copy_close(copies[1]);
    world_tear_down(&w);
}

/* Memory that may not be registered: more than the ring has room for, there and back. */
TEST(Transfer, GoesThroughTheStagingRingWhenNothingMayBePinned)
{
    world w;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    const uint64_t rows = (PINTI_STAGING_BYTES + (8ull << 20)) / sizeof(double) + 77;
    ASSERT_EQ(setenv("PINTABLE_PIN_BYTES", "0", 1), 0);
    ASSERT_NO_FATAL(world_set_up(&w, rows));
    ASSERT_NO_FATAL(bracket(&w, w.copy, PINT_READ | PINT_WRITE));
    ASSERT_OK(pint_device_get_info(w.device, &info, &live_err), &live_err);
    EXPECT_EQ(info.pinned_bytes, 0);
    EXPECT_EQ(memcmp(world_host(&w), world_device(&w), rows * sizeof(double)), 0);
    memset(world_host(&w), 0, rows * sizeof(double));
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    for (uint64_t i = 0; i < rows; i++) {
        ASSERT_EQ(world_host(&w)[i], (double)i);
    }
    /* room now: from here on it is registered */
    ASSERT_EQ(unsetenv("PINTABLE_PIN_BYTES"), 0);
    ASSERT_NO_FATAL(world_host_write(&w, 1, -1));
    ASSERT_NO_FATAL(bracket(&w, w.copy, PINT_READ));
    ASSERT_OK(pint_device_get_info(w.device, &info, &live_err), &live_err);
    EXPECT_GE(info.pinned_bytes, rows * sizeof(double));
    EXPECT_EQ(world_device(&w)[WORLD_CHUNK_ROWS], -1.0);
    world_tear_down(&w);
}

TEST(Transfer, AFailureGivesEverythingBack)
{
    world w;
    void *pulls = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pinti_device_copy_stream(w.device, true, &pulls, &live_err), &live_err);
    ASSERT_OK(pinti_host_fail_stream(w.device->backend, pulls, &live_err), &live_err);
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 0, &live_err),
              &live_err); /* it is enqueued, and fails later */
    EXPECT_STATUS(PINT_E_DEVICE, pint_stream_wait(w.device, w.stream, &live_err), &live_err);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);   /* never there: the copy was not made */
    ASSERT_NO_FATAL(world_host_write(&w, 0, 1)); /* nobody holds it */
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    world_tear_down(&w);
}
