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

/* ---- batches towards the host ---------------------------------------------------------------- */

/* As push.c: chunks that are taken together, and batches under way at once. */
#define BATCH_CHUNKS 4096u
#define TWO_BATCHES  (2 * BATCH_CHUNKS)
#define MANY_CHUNKS  (TWO_BATCHES + 100u)
#define MANY_ROWS    ((uint64_t)MANY_CHUNKS * WORLD_CHUNK_ROWS)

typedef struct pusher {
    pthread_t thread;
    world *w;
    pint_status status;
    uint64_t bytes;
    pint_error err;
} pusher;

static void *push(void *argument)
{
    pusher *p = argument;
    p->status = pint_copy_to_host(p->w->copy, 0, PINT_ALL_ROWS, 60000, &p->bytes, &p->err);
    return NULL;
}

static bool is_held(const world *w, uint64_t chunk)
{
    return pinti_chunk_is_held(
        pinti_chunk_state(pinti_load64_seq(&w->copy->import->desc.column->words[chunk])));
}

/* All chunks are newest on the device: one more in each row. The stream of copies to the host
 * stands at a gate. */
static void set_up_many(world *w, gate *g, void **out_copies)
{
    ASSERT_NO_FATAL(world_set_up(w, MANY_ROWS));
    ASSERT_OK(pint_device_begin(w->copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w->stream, 10000,
                                &live_err),
              &live_err);
    world_device_add(w, 0, MANY_ROWS, 1);
    ASSERT_OK(
        pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w->stream, &live_err),
        &live_err);
    for (uint64_t chunk = 0; chunk < MANY_CHUNKS; chunk++) {
        ASSERT_TRUE(world_places(w, chunk, 2));
    }
    ASSERT_OK(pinti_device_copy_stream(w->device, false, out_copies, &live_err), &live_err);
    gate_put(g, w, *out_copies);
}

static bool has_come(const world *w, uint64_t chunk)
{
    const uint64_t row = chunk * WORLD_CHUNK_ROWS;
    return pint_copy_places(w->copy, chunk) == 3 && world_host(w)[row] == (double)row + 1 &&
           memcmp(world_host(w) + row, world_device(w) + row, CHUNK_BYTES) == 0;
}

TEST(Transfer, TwoBatchesAreUnderWayAndNoneIsCommittedBeforeItsCopy)
{
    world w;
    gate g;
    void *copies = NULL;
    pusher p = {.w = &w};
    ASSERT_NO_FATAL(set_up_many(&w, &g, &copies));
    ASSERT_EQ(pthread_create(&p.thread, NULL, push, &p), 0);
    EXPECT_TRUE(ct_eventually(is_held(&w, TWO_BATCHES - 1), 10000));
    EXPECT_TRUE(is_held(&w, 0));
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2);
    EXPECT_FALSE(is_held(&w, TWO_BATCHES)); /* others may have it meanwhile */
    gate_open(&g);
    (void)pthread_join(p.thread, NULL);
    EXPECT_OK(p.status, &p.err);
    EXPECT_EQ(p.bytes, MANY_ROWS * sizeof(double));
    for (uint64_t chunk = 0; chunk < MANY_CHUNKS; chunk++) {
        ASSERT_TRUE(has_come(&w, chunk));
    }
    world_tear_down(&w);
}

TEST(Transfer, WhatIsInTheWayStopsNothingThatIsUnderWay)
{
    world w;
    gate g;
    void *copies = NULL;
    pint_lease lease;
    const uint64_t in_the_way = BATCH_CHUNKS + 7;
    ASSERT_NO_FATAL(set_up_many(&w, &g, &copies));
    gate_open(&g);
    ASSERT_OK(pint_lease_claim(&w.x, 1, in_the_way, PINT_OUT, 0, &lease, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 0, NULL, &live_err),
                  &live_err);
    for (uint64_t chunk = 0; chunk < in_the_way; chunk++) {
        ASSERT_TRUE(has_come(&w, chunk));
    }
    EXPECT_TRUE(has_come(&w, in_the_way + 1)); /* of the same batch */
    ASSERT_OK(pint_lease_abandon(&lease, &live_err), &live_err);
    EXPECT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    EXPECT_TRUE(has_come(&w, in_the_way));
    EXPECT_TRUE(has_come(&w, MANY_CHUNKS - 1));
    world_tear_down(&w);
}

/* The stream fails behind the first batch. */
TEST(Transfer, AFailedStreamKeepsWhatCameBefore)
{
    world w;
    gate g;
    void *copies = NULL;
    pusher p = {.w = &w};
    ASSERT_NO_FATAL(set_up_many(&w, &g, &copies));
    ASSERT_EQ(pthread_create(&p.thread, NULL, push, &p), 0);
    EXPECT_TRUE(ct_eventually(is_held(&w, TWO_BATCHES - 1), 10000)); /* the first is enqueued */
    EXPECT_OK(pinti_host_fail_stream(w.device->backend, copies, &live_err), &live_err);
    gate_open(&g);
    (void)pthread_join(p.thread, NULL);
    EXPECT_STATUS(PINT_E_DEVICE, p.status, &p.err);
    for (uint64_t chunk = 0; chunk < MANY_CHUNKS; chunk++) {
        ASSERT_FALSE(is_held(&w, chunk));
        if (chunk < BATCH_CHUNKS) {
            ASSERT_TRUE(has_come(&w, chunk));
        } else if (chunk >= TWO_BATCHES) {
            ASSERT_EQ(pint_copy_places(w.copy, chunk), 2); /* as before */
        } else { /* enqueued before the failure or after it */
            ASSERT_TRUE(pint_copy_places(w.copy, chunk) == 2 || has_come(&w, chunk));
        }
    }
    world_tear_down(&w);
}
