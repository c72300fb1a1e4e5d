/* SPDX-License-Identifier: Apache-2.0 */
/* Brackets on device "host" against a real service. */

#include "tests/device/device_world.h"

#include <stdlib.h>

#define ROWS   (16u * WORLD_CHUNK_ROWS + 100) /* the last chunk is short */
#define CHUNKS 17u
#define RW     (PINT_READ | PINT_WRITE)

static pint_status begin_all(world *w, uint32_t access)
{
    return pint_device_begin(w->copy, 0, PINT_ALL_ROWS, access, w->stream, 10000, &live_err);
}

static pint_status end_all(world *w, uint32_t access)
{
    return pint_device_end(w->copy, 0, PINT_ALL_ROWS, access, w->stream, &live_err);
}

TEST(Bracket, ReadsWorkOnTheDeviceAndWritesComeBack)
{
    world w;
    uint64_t bytes = 0;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(end_all(&w, PINT_READ), &live_err);
    EXPECT_TRUE(world_places(&w, 0, 3)); /* both have it */

    ASSERT_OK(begin_all(&w, RW), &live_err);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(end_all(&w, RW), &live_err);
    EXPECT_TRUE(world_places(&w, CHUNKS - 1, 2)); /* the device alone */
    EXPECT_EQ(world_host(&w)[5], 5.0);

    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, ROWS * sizeof(double));
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(world_host(&w)[i], (double)(i + 1));
    }
    EXPECT_EQ(pint_copy_places(w.copy, 0), 3);
    world_tear_down(&w);
}

static pint_status begin_rows(world *w, uint64_t first, uint64_t n, uint32_t access, void *stream,
                              int64_t timeout_ms)
{
    return pint_device_begin(w->copy, first, n, access, stream, timeout_ms, &live_err);
}

static pint_status end_rows(world *w, uint64_t first, uint64_t n, uint32_t access, void *stream)
{
    return pint_device_end(w->copy, first, n, access, stream, &live_err);
}

/* ---- rights ---------------------------------------------------------------------------------- */

TEST(Bracket, ReturnsBeforeItsCopiesAndItsWorkAreDone)
{
    world w;
    gate g;
    pint_lease lease;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, RW), &live_err);
    gate_put(&g, &w, w.stream);
    ASSERT_OK(end_all(&w, RW), &live_err); /* the stream stands still */
    gate_await(&g);
    EXPECT_EQ(pint_copy_places(w.copy, 0) & 2u, 0); /* not before the stream has passed */
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&w.x, 1, 0, PINT_UPDATE, 0, &lease, &live_err),
                  &live_err);
    gate_open(&g);
    EXPECT_TRUE(world_places(&w, 0, 2));
    EXPECT_STATUS(PINT_E_DEVICE_AHEAD,
                  pint_lease_claim(&w.x, 1, 0, PINT_UPDATE, 0, &lease, &live_err), &live_err);
    world_tear_down(&w);
}

TEST(Bracket, AWriterIsAloneAndReadersShare)
{
    world w;
    void *other = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_stream_create(w.device, &other, &live_err), &live_err);
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_OK(begin_rows(&w, 0, 10, PINT_READ, other, 0), &live_err); /* shares the copy */
    /* an open bracket of this process is in the way: waiting would be for ever */
    EXPECT_STATUS(PINT_E_BUSY, begin_rows(&w, 0, 10, RW, other, -1), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, begin_rows(&w, 0, 10, PINT_WRITE, other, 0), &live_err);
    EXPECT_OK(end_rows(&w, 0, 10, PINT_READ, other), &live_err);
    EXPECT_OK(end_all(&w, PINT_READ), &live_err);
    /* ended ones are waited for */
    EXPECT_OK(begin_rows(&w, 0, 10, PINT_WRITE, other, 10000), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, begin_all(&w, PINT_READ), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, begin_rows(&w, 5, 1, RW, w.stream, -1), &live_err);
    EXPECT_OK(begin_rows(&w, WORLD_CHUNK_ROWS, 1, RW, w.stream, 0), &live_err); /* another chunk */
    EXPECT_OK(end_rows(&w, WORLD_CHUNK_ROWS, 1, RW, w.stream), &live_err);
    EXPECT_OK(end_rows(&w, 0, 10, PINT_WRITE, other), &live_err);
    EXPECT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_OK(end_all(&w, PINT_READ), &live_err);
    pint_stream_destroy(w.device, other);
    world_tear_down(&w);
}

TEST(Bracket, TakesNothingWhenAChunkIsHeldOnTheHost)
{
    world w;
    pint_lease lease;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, RW), &live_err); /* newest on the device alone */
    ASSERT_OK(end_all(&w, RW), &live_err);
    ASSERT_TRUE(world_places(&w, CHUNKS - 1, 2));
    ASSERT_OK(pint_copy_to_host(w.copy, 3 * WORLD_CHUNK_ROWS, 1, 1000, NULL, &live_err), &live_err);
    ASSERT_OK(pint_lease_claim(&w.x, 1, 3, PINT_UPDATE, 0, &lease, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_BUSY,
                  pint_device_begin(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, 0, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_TIMEOUT,
                  pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 20, &live_err),
                  &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2); /* given back as they were, not torn */
    EXPECT_EQ(pint_copy_places(w.copy, 2), 2);
    EXPECT_STATUS(PINT_E_TIMEOUT, pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 20, NULL, &live_err),
                  &live_err);
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    EXPECT_OK(begin_all(&w, RW), &live_err);
    EXPECT_OK(end_all(&w, RW), &live_err);
    world_tear_down(&w);
}

typedef struct committer {
    pint_lease *lease;
    pint_status status;
} committer;

static void *commit_soon(void *argument)
{
    committer *c = argument;
    ct_nap();
    c->status = pint_lease_commit(c->lease, NULL);
    return NULL;
}

TEST(Bracket, WaitsForALeaseAndSeesWhatItWrote)
{
    world w;
    pint_lease lease;
    pthread_t thread;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    ASSERT_OK(end_all(&w, PINT_READ), &live_err);
    ASSERT_OK(pint_lease_claim(&w.x, 1, 2, PINT_OUT, 10000, &lease, &live_err), &live_err);
    for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
        world_host(&w)[row] = 1;
    }
    committer c = {&lease, PINT_E_STATE};
    ASSERT_EQ(pthread_create(&thread, NULL, commit_soon, &c), 0);
    EXPECT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_EQ(world_device_sum(&w, 2 * WORLD_CHUNK_ROWS, WORLD_CHUNK_ROWS),
              (double)WORLD_CHUNK_ROWS);
    EXPECT_OK(end_all(&w, PINT_READ), &live_err);
    (void)pthread_join(thread, NULL);
    EXPECT_EQ(c.status, PINT_OK);
    world_tear_down(&w);
}

/* What the bracket reads must not change under its copy, before or after the watcher saw it done.
 */
TEST(Bracket, HostWritersAreKeptOutOfAPull)
{
    world w;
    gate g;
    pint_lease lease;
    void *pulls = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pinti_device_copy_stream(w.device, true, &pulls, &live_err), &live_err);
    gate_put(&g, &w, pulls); /* copies towards the device stand still */
    gate_await(&g);
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_lease_claim(&w.x, 1, 0, PINT_OUT, 0, &lease, &live_err),
                  &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    gate_open(&g);
    EXPECT_TRUE(world_places(&w, 0, 3));
    ASSERT_NO_FATAL(world_host_write(&w, 0, -1)); /* readers on the device do not mind */
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    /* but a second one would want the new bytes, and this one is in the way */
    EXPECT_STATUS(PINT_E_BUSY, begin_rows(&w, 0, 1, PINT_READ, w.stream, -1), &live_err);
    EXPECT_OK(end_all(&w, PINT_READ), &live_err);
    EXPECT_OK(begin_rows(&w, 0, 1, PINT_READ, w.stream, 10000), &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, 2), -2.0);
    EXPECT_OK(end_rows(&w, 0, 1, PINT_READ, w.stream), &live_err);
    world_tear_down(&w);
}

/* ---- writing --------------------------------------------------------------------------------- */

TEST(Bracket, AWholeRewriteBringsNothing)
{
    world w;
    uint64_t to_device = 1;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, PINT_WRITE), &live_err);
    for (uint64_t i = 0; i < ROWS; i++) {
        world_device(&w)[i] = 7;
    }
    ASSERT_OK(end_all(&w, PINT_WRITE), &live_err);
    pint_copy_moved(w.copy, &to_device, NULL);
    EXPECT_EQ(to_device, 0);
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[ROWS - 1], 7.0);
    world_tear_down(&w);
}

TEST(Bracket, CancelRollsBackToTheHostOrTears)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, RW), &live_err);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(pint_device_cancel(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1); /* the host had it */
    EXPECT_EQ(world_host(&w)[3], 3.0);

    ASSERT_OK(begin_rows(&w, 0, 1, RW, w.stream, 1000), &live_err);
    ASSERT_OK(end_rows(&w, 0, 1, RW, w.stream), &live_err);
    ASSERT_TRUE(world_places(&w, 0, 2));
    ASSERT_OK(begin_rows(&w, 0, 1, RW, w.stream, 1000), &live_err);
    ASSERT_OK(pint_device_cancel(w.copy, 0, 1, RW, w.stream, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 0); /* nobody had it */
    EXPECT_STATUS(PINT_E_TORN, begin_all(&w, PINT_READ), &live_err);
    EXPECT_STATUS(PINT_E_TORN, begin_rows(&w, 0, 1, RW, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_TORN, pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 0, NULL, &live_err),
                  &live_err);
    EXPECT_OK(begin_rows(&w, 0, 1, PINT_WRITE, w.stream, 1000), &live_err); /* rewritten */
    EXPECT_OK(end_rows(&w, 0, 1, PINT_WRITE, w.stream), &live_err);
    EXPECT_TRUE(world_places(&w, 0, 2));
    world_tear_down(&w);
}

TEST(Bracket, AFailedStreamCancels)
{
    world w;
    void *bad = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_stream_create(w.device, &bad, &live_err), &live_err);
    ASSERT_OK(begin_rows(&w, 0, 1, RW, bad, 1000), &live_err);
    ASSERT_OK(pinti_host_fail_stream(w.device->backend, bad, &live_err), &live_err);
    EXPECT_OK(end_rows(&w, 0, 1, RW, bad), &live_err); /* not known yet */
    EXPECT_STATUS(PINT_E_DEVICE, pint_stream_wait(w.device, bad, &live_err), &live_err);
    EXPECT_OK(begin_rows(&w, 0, 1, PINT_READ, w.stream, 10000), &live_err); /* from the host */
    EXPECT_EQ(world_device_sum(&w, 0, 2), 1.0);
    EXPECT_OK(end_rows(&w, 0, 1, PINT_READ, w.stream), &live_err);
    pint_stream_destroy(w.device, bad);
    world_tear_down(&w);
}

TEST(Bracket, OwnHostTakesTheDeviceOut)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(begin_all(&w, RW), &live_err);
    world_device_add(&w, 0, ROWS, 5);
    ASSERT_OK(end_all(&w, RW), &live_err);
    ASSERT_OK(pint_copy_own_host(w.copy, 0, PINT_ALL_ROWS, 10000, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, CHUNKS - 1), 1);
    EXPECT_EQ(world_host(&w)[1], 6.0);
    world_host(&w)[1] = 100; /* a plain store */
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_EQ(world_device_sum(&w, 1, 1), 100.0);
    ASSERT_OK(end_all(&w, PINT_READ), &live_err);
    world_tear_down(&w);
}

/* ---- bad input ------------------------------------------------------------------------------- */

TEST(Bracket, RefusesWhatCannotBe)
{
    world w;
    pint_copy *reader = NULL;
    int none;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    EXPECT_STATUS(PINT_E_INVALID, pint_device_begin(NULL, 0, 1, PINT_READ, w.stream, 0, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, begin_rows(&w, 0, 1, 0, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, begin_rows(&w, 0, 1, 8, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, begin_rows(&w, 0, 1, PINT_READ, &none, 0), &live_err);
    EXPECT_STATUS(PINT_E_RANGE, begin_rows(&w, ROWS + 1, 0, PINT_READ, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_RANGE, begin_rows(&w, 1, ROWS, PINT_READ, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_RANGE, begin_rows(&w, 1, UINT64_MAX - 1, PINT_READ, w.stream, 0),
                  &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_all(&w, PINT_READ), &live_err);
    EXPECT_OK(begin_rows(&w, 0, 0, RW, w.stream, 0), &live_err); /* nothing, twice */
    EXPECT_OK(begin_rows(&w, 0, 0, RW, w.stream, 0), &live_err);
    EXPECT_OK(end_rows(&w, 0, 0, RW, w.stream), &live_err);
    EXPECT_OK(end_rows(&w, 0, 0, RW, w.stream), &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, 0, RW, w.stream), &live_err);
    ASSERT_OK(begin_rows(&w, 0, 1, RW, w.stream, 0), &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, 2, RW, w.stream), &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, 1, PINT_READ, w.stream), &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, 1, RW, NULL), &live_err);
    EXPECT_STATUS(PINT_E_BUSY, pint_copy_drop(w.copy, &live_err), &live_err);
    EXPECT_OK(end_rows(&w, 0, 1, RW, w.stream), &live_err);
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, 1, RW, w.stream), &live_err);
    ASSERT_OK(begin_rows(&w, 1, PINT_ALL_ROWS, RW, w.stream, -1), &live_err); /* the same rows */
    EXPECT_STATUS(PINT_E_STATE, end_rows(&w, 0, PINT_ALL_ROWS, RW, w.stream), &live_err);
    EXPECT_OK(end_rows(&w, 1, ROWS - 1, RW, w.stream), &live_err);
    ASSERT_OK(begin_rows(&w, 0, ROWS, RW, w.stream, -1), &live_err);
    EXPECT_OK(end_rows(&w, 0, PINT_ALL_ROWS, RW, w.stream), &live_err);

    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_READ, &reader, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION,
                  pint_device_begin(reader, 0, 1, PINT_WRITE, w.stream, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_copy_own_host(reader, 0, 1, 0, &live_err), &live_err);
    pint_copy_close(reader);
    world_tear_down(&w);
}

TEST(Bracket, OfAFrozenTableReadsOnly)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_freeze(w.table, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_FROZEN, begin_all(&w, PINT_WRITE), &live_err);
    EXPECT_STATUS(PINT_E_FROZEN, pint_copy_own_host(w.copy, 0, 1, 0, &live_err), &live_err);
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, 3), 3.0);
    ASSERT_OK(end_all(&w, PINT_READ), &live_err);
    world_tear_down(&w);
}

TEST(Bracket, LeftOpenIsCancelledByClose)
{
    world w;
    pint_copy *second = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &second, &live_err), &live_err);
    ASSERT_OK(pint_device_begin(second, 0, PINT_ALL_ROWS, RW, w.stream, 0, &live_err), &live_err);
    pint_copy_close(second);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1);
    ASSERT_OK(begin_all(&w, RW), &live_err);
    ASSERT_OK(end_all(&w, RW), &live_err);
    world_tear_down(&w);
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct adder {
    pthread_t thread;
    world *w;
    unsigned seed;
    int n_failed;
    pint_error err;
} adder;

static void add_one_to_chunk(void *context)
{
    double *values = context;
    for (uint32_t i = 0; i < WORLD_CHUNK_ROWS; i++) {
        values[i] += 1;
    }
}

static void *add_now_and_then(void *argument)
{
    adder *a = argument;
    world *w = a->w;
    void *stream = NULL;
    if (pint_stream_create(w->device, &stream, &a->err) != PINT_OK) {
        a->n_failed++;
        return NULL;
    }
    for (int n = 0; n < 200 && a->n_failed == 0; n++) {
        const uint64_t chunk = (uint64_t)(rand_r(&a->seed) % 4);
        const uint64_t row = chunk * WORLD_CHUNK_ROWS;
        pint_status status;
        if (rand_r(&a->seed) % 2 == 0) { /* on the device */
            status = pint_device_begin(w->copy, row, WORLD_CHUNK_ROWS, RW, stream, 20000, &a->err);
            if (status == PINT_OK) {
                status = pint_stream_call(w->device, stream, add_one_to_chunk,
                                          world_device(w) + row, &a->err);
                const pint_status ended =
                    pint_device_end(w->copy, row, WORLD_CHUNK_ROWS, RW, stream, &a->err);
                status = status == PINT_OK ? ended : status;
            }
        } else { /* on the host */
            pint_lease lease;
            do {
                status = pint_copy_to_host(w->copy, row, 1, 20000, NULL, &a->err);
                if (status == PINT_OK) {
                    status = pint_lease_claim(&w->x, 1, chunk, PINT_UPDATE, 20000, &lease, &a->err);
                }
            } while (status == PINT_E_DEVICE_AHEAD);
            if (status == PINT_OK) {
                add_one_to_chunk(world_host(w) + row);
                status = pint_lease_commit(&lease, &a->err);
            }
        }
        a->n_failed += status != PINT_OK;
    }
    pint_stream_destroy(w->device, stream); /* waits for its work */
    return NULL;
}

TEST(Bracket, NoAdditionIsLostBetweenHostAndDevice, .timeout_s = 120)
{
    enum { THREADS = 4 };
    world w;
    adder adders[THREADS] = {0};
    ASSERT_NO_FATAL(world_set_up(&w, 4 * WORLD_CHUNK_ROWS));
    for (int i = 0; i < THREADS; i++) {
        adders[i].w = &w;
        adders[i].seed = (unsigned)(i + 1);
        ASSERT_EQ(pthread_create(&adders[i].thread, NULL, add_now_and_then, &adders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(adders[i].thread, NULL);
        EXPECT_EQ(adders[i].n_failed, 0);
        EXPECT_STREQ(adders[i].n_failed == 0 ? "" : adders[i].err.message, "");
    }
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    double sum = 0;
    for (uint64_t row = 0; row < 4 * WORLD_CHUNK_ROWS; row += WORLD_CHUNK_ROWS) {
        sum += world_host(&w)[row] - (double)row;
        for (uint64_t i = 1; i < WORLD_CHUNK_ROWS; i++) { /* whole chunks, never half of one */
            ASSERT_EQ(world_host(&w)[row + i] - (double)i, world_host(&w)[row]);
        }
    }
    EXPECT_EQ(sum, (double)THREADS * 200);
    world_tear_down(&w);
}
