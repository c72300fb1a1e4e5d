/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A driver does what it is told when it likes: the fake at the last moment that the rules allow, at
 * random, or on a thread of its own. Whatever it likes, what a call of ours says is there is there
 * when it returns, and nobody reads, unregisters or gives away before.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/device/bad/scenario.h"

#define ROWS SCENARIO_ROWS
#define RW   (PINT_READ | PINT_WRITE)

/* As world_device_add(), but the kernel is not waited for. */
typedef struct adding {
    double *x;
    double number;
} adding;

static void add(void *context)
{
    const adding *a = context;
    for (uint64_t i = 0; i < ROWS; i++) {
        a->x[i] += a->number;
    }
}

static void begin(world *w, uint32_t access)
{
    ASSERT_OK(pint_device_begin(w->copy, 0, PINT_ALL_ROWS, access, w->stream, 10000, &live_err),
              &live_err);
}

/* Add a number to all rows on the device; returns before any of it needs to have happened. */
static void add_later(world *w, adding *a, double number)
{
    *a = (adding){world_device(w), number};
    ASSERT_NO_FATAL(begin(w, RW));
    ASSERT_OK(pint_stream_call(w->device, w->stream, add, a, &live_err), &live_err);
    ASSERT_OK(pint_device_end(w->copy, 0, PINT_ALL_ROWS, RW, w->stream, &live_err), &live_err);
}

static void expect_host(const world *w, double added)
{
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(world_host(w)[i], (double)i + added);
    }
}

/* All chunks stored anew on the host, by leases: x[i] = i + number. */
static void store(world *w, double number)
{
    for (uint64_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk++) {
        pint_lease lease;
        ASSERT_OK(pint_lease_claim(&w->x, 1, chunk, PINT_OUT, 10000, &lease, &live_err), &live_err);
        for (uint64_t i = lease.first; i < lease.first + lease.n_rows; i++) {
            world_host(w)[i] = (double)i + number;
        }
        ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    }
}

/* The host's bytes are read when the pull runs, not when it is enqueued: whoever writes them waits
 * for the pull, however late it is. */
static void pull_before_the_next_store(world *w, adding *a)
{
    ASSERT_NO_FATAL(store(w, 100));
    ASSERT_NO_FATAL(begin(w, PINT_READ));
    ASSERT_OK(pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, &live_err),
              &live_err);
    ASSERT_NO_FATAL(store(w, 200)); /* waits chunk by chunk */
    ASSERT_NO_FATAL(add_later(w, a, 1));
    ASSERT_OK(pint_copy_to_host(w->copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    ASSERT_NO_FATAL(expect_host(w, 201));
}

/* Arguments: address, mode, kind. */
PROC(defers)
{
    world w;
    adding a;
    CT_REQUIRE(argc == 4 && scenario_join(&w, argv[1]));
    const bool is_sync = strcmp(argv[2], "sync") == 0;
    const uint32_t kind = (uint32_t)strtoul(argv[3], NULL, 10);
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &w.device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(w.device, &w.x, kind, PINT_WRITE, &w.copy, &live_err) == PINT_OK);
    CT_REQUIRE(pint_stream_create(w.device, &w.stream, &live_err) == PINT_OK);
    CT_REQUIRE(fake_find());
    /* nothing has happened yet, and begin has returned */
    begin(&w, RW);
    EXPECT_TRUE(!is_sync || fake.calls("work") == 0);
    EXPECT_TRUE(!is_sync || world_device(&w)[1] != 1.0);
    CT_REQUIRE(pint_device_end(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err) == PINT_OK);
    for (int n = 1; n <= 5; n++) { /* to the host: there when it returns */
        add_later(&w, &a, 1);
        CT_REQUIRE(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err) == PINT_OK);
        expect_host(&w, n);
    }
    /* two kernels behind one another, the second's rows from the first */
    adding b;
    add_later(&w, &a, 1);
    add_later(&w, &b, 1);
    CT_REQUIRE(pint_copy_own_host(w.copy, 0, PINT_ALL_ROWS, 10000, &live_err) == PINT_OK);
    expect_host(&w, 7);
    pull_before_the_next_store(&w, &a);
    /* given up: not before the kernel is over, and the host has what it had */
    begin(&w, RW);
    a = (adding){world_device(&w), 1000};
    CT_REQUIRE(pint_stream_call(w.device, w.stream, add, &a, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_cancel(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err) == PINT_OK);
    expect_host(&w, 201);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 1u);
    EXPECT_EQ(world_device(&w)[0], 1201.0); /* it ran, where nobody reads */
    /* dropped, closed and given back with a kernel on its way: the rows are brought first */
    add_later(&w, &a, 1);
    CT_REQUIRE(pint_copy_drop(w.copy, &live_err) == PINT_OK);
    expect_host(&w, 202);
    pint_stream_destroy(w.device, w.stream);
    pint_copy_close(w.copy);
    pint_device_close(w.device);
    scenario_leave(&w);
    return 0;
}

static void defer(const char *mode, const char *seed, const char *pin_bytes, uint32_t kind)
{
    world w;
    char number[16];
    char mode_setting[64];
    char seed_setting[64];
    char pin_setting[64];
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1), 0);
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_copy_drop(w.copy, &live_err), &live_err); /* of device "host" */
    (void)snprintf(number, sizeof(number), "%u", kind);
    (void)snprintf(mode_setting, sizeof(mode_setting), "FAKECUDA_ASYNC=%s", mode);
    (void)snprintf(seed_setting, sizeof(seed_setting), "FAKECUDA_SEED=%s", seed);
    (void)snprintf(pin_setting, sizeof(pin_setting), "PINTABLE_PIN_BYTES=%s", pin_bytes);
    const char *const args[] = {ct_tmpdir(), mode, number, NULL};
    const char *const env[] = {mode_setting, seed_setting, pin_setting, NULL};
    if (ct_wait(ct_spawn_opts("defers", args, .env = env)) != 0) {
        FAIL("mode %s, seed %s, at most '%s' bytes pinned", mode, seed, pin_bytes);
    }
    world_tear_down(&w);
}

TEST(CudaDeferred, AsLateAsMayBe, .timeout_s = 60)
{
    defer("sync", "1", "", PINT_COPY_VMM);
    defer("sync", "1", "0", PINT_COPY_VMM); /* through the staging ring */
    defer("sync", "1", "", PINT_COPY_IPC);
}

TEST(CudaDeferred, InRandomOrder, .timeout_s = 100)
{
    char seed[16];
    for (int n = 1; n <= 12; n++) {
        (void)snprintf(seed, sizeof(seed), "%d", n);
        defer("random", seed, n % 3 == 0 ? "0" : "", PINT_COPY_VMM);
    }
}

TEST(CudaDeferred, OnTheDriversThread, .timeout_s = 60)
{
    for (int n = 0; n < 4; n++) {
        defer("thread", "1", n % 2 == 0 ? "" : "0", PINT_COPY_VMM);
    }
}
