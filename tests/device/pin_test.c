/* SPDX-License-Identifier: Apache-2.0 */
/* Registered host memory: counted, within the budget, in pieces a driver takes, noted in the slot.
 */

#include "tests/device/device_world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS (3u << 20) /* x: 24 MiB */

static uint64_t pinned_bytes(const world *w)
{
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    EXPECT_OK(pint_device_get_info(w->device, &info, &live_err), &live_err);
    return info.pinned_bytes;
}

/* Slabs noted in the session's slot. */
static uint64_t noted_slabs(const world *w)
{
    const pinti_a8 *pins = (const pinti_a8 *)(const void *)(w->pool->slot + PINTI_SLOT_PINS_OFF);
    uint64_t n = 0;
    for (uint32_t i = 0; i < w->pool->n_slabs; i++) {
        n += (uint32_t)pins[i / 8] >> i % 8 & 1u;
    }
    return n;
}

typedef struct watcher {
    uint64_t calls;
    uint64_t stop_at;
    uint64_t last_done;
    uint64_t all;
} watcher;

static int on_progress(void *context, uint64_t done_bytes, uint64_t all_bytes)
{
    watcher *p = context;
    p->calls++;
    EXPECT_GT(done_bytes, p->last_done);
    EXPECT_LE(done_bytes, all_bytes);
    p->last_done = done_bytes;
    p->all = all_bytes;
    return p->calls == p->stop_at;
}

TEST(Pin, IsCountedAndNoted)
{
    world w;
    watcher p = {0};
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_pin(w.device, w.table, on_progress, &p, &live_err), &live_err);
    EXPECT_GT(p.calls, 0);
    EXPECT_EQ(p.last_done, p.all);
    const uint64_t bytes = pinned_bytes(&w);
    EXPECT_EQ(bytes, p.all);
    EXPECT_GE(bytes, pint_table_bytes(w.table) - (pint_table_bytes(w.table) >> 3));
    EXPECT_EQ(noted_slabs(&w) * PINTI_SLAB_BYTES, bytes);
    ASSERT_OK(pint_device_pin(w.device, w.table, NULL, NULL, &live_err), &live_err);
    EXPECT_EQ(pinned_bytes(&w), bytes);
    ASSERT_OK(pint_device_unpin(w.device, w.table, &live_err), &live_err);
    EXPECT_EQ(pinned_bytes(&w), bytes);
    ASSERT_OK(pint_device_unpin(w.device, w.table, &live_err), &live_err);
    EXPECT_EQ(pinned_bytes(&w), 0);
    EXPECT_EQ(noted_slabs(&w), 0);
    EXPECT_STATUS(PINT_E_STATE, pint_device_unpin(w.device, w.table, &live_err), &live_err);
    world_tear_down(&w);
}

TEST(Pin, IsHalvedUntilTheDriverTakesIt)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    pinti_host_limit_pin(w.device->backend, 3 * PINTI_SLAB_BYTES);
    ASSERT_OK(pint_device_pin(w.device, w.table, NULL, NULL, &live_err), &live_err);
    EXPECT_GE(pinti_host_n_pinned(w.device->backend), pinned_bytes(&w) / PINTI_SLAB_BYTES / 3);
    /* a chunk that crosses from one registration into the next is copied in two */
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 10000, &live_err),
              &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    world_tear_down(&w);
}

TEST(Pin, RefusedLeavesNothingAndCopiesAreStaged)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    pinti_host_limit_pin(w.device->backend, PINTI_SLAB_BYTES - 1);
    EXPECT_STATUS(PINT_E_DEVICE, pint_device_pin(w.device, w.table, NULL, NULL, &live_err),
                  &live_err);
    EXPECT_EQ(pinned_bytes(&w), 0);
    EXPECT_EQ(noted_slabs(&w), 0);
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 10000, &live_err),
              &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    EXPECT_EQ(pinti_host_n_pinned(w.device->backend), 0);
    world_tear_down(&w);
}

TEST(Pin, StopsAtTheBudgetAndWhenTheCallerSaysSo)
{
    world w;
    watcher p = {.stop_at = 2};
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_EQ(setenv("PINTABLE_PIN_BYTES", "8388608", 1), 0);
    EXPECT_STATUS(PINT_E_QUOTA, pint_device_pin(w.device, w.table, NULL, NULL, &live_err),
                  &live_err);
    EXPECT_EQ(pinned_bytes(&w), 0);
    ASSERT_EQ(unsetenv("PINTABLE_PIN_BYTES"), 0);
    pinti_host_limit_pin(w.device->backend, 4 * PINTI_SLAB_BYTES);
    EXPECT_STATUS(PINT_E_INTERRUPTED,
                  pint_device_pin(w.device, w.table, on_progress, &p, &live_err), &live_err);
    EXPECT_EQ(p.calls, 2);
    EXPECT_EQ(pinned_bytes(&w), 0);
    EXPECT_EQ(noted_slabs(&w), 0);
    world_tear_down(&w);
}

TEST(Pin, MappedKeepsTheTablePinned)
{
    world w;
    uint64_t address = 0;
    uint64_t again = 0;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_mapped(w.device, &w.x, &address, &live_err), &live_err);
    EXPECT_EQ(address, (uint64_t)(uintptr_t)w.x.values);
    ASSERT_OK(pint_device_mapped(w.device, &w.x, &again, &live_err), &live_err);
    EXPECT_EQ(again, address);
    EXPECT_STATUS(PINT_E_STATE, pint_device_unpin(w.device, w.table, &live_err), &live_err);
    EXPECT_GT(pinned_bytes(&w), 0);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_mapped(w.device, NULL, &again, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_pin(NULL, w.table, NULL, NULL, &live_err), &live_err);
    world_tear_down(&w);
}

/* Can the kernel read there? */
static bool is_mapped(const void *at)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    const bool is_there = write(ends[1], at, 1) == 1;
    (void)close(ends[0]);
    (void)close(ends[1]);
    return is_there;
}

/* A driver whose registered memory goes away is not to be trusted any more. */
TEST(Pin, OutlivesALeaveBeforeTheDeviceIsClosed)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_pin(w.device, w.table, NULL, NULL, &live_err), &live_err);
    const void *values = w.x.values;
    pint_table_close(w.table);
    pint_pool_leave(w.pool);
    ASSERT_TRUE(is_mapped(values));
    EXPECT_EQ(live_stat_sessions(), 1);
    EXPECT_GT(pinned_bytes(&w), 0);
    pint_stream_destroy(w.device, w.stream);
    pint_copy_close(w.copy);
    ASSERT_TRUE(is_mapped(values));
    pint_device_close(w.device);
    EXPECT_FALSE(is_mapped(values)); /* left now */
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 0, 10000));
    live_stop();
}

/* A forked child has nothing registered: it leaves at once what it inherited. */
PROC(leaver)
{
    world w;
    CT_REQUIRE(world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_device_pin(w.device, w.table, NULL, NULL, &live_err) == PINT_OK);
    const void *values = w.x.values;
    const pid_t child = fork();
    CT_REQUIRE(child >= 0);
    if (child == 0) {
        pint_pool_leave(w.pool);
        _exit(is_mapped(values) ? 1 : 0);
    }
    int status = -1;
    CT_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    CT_REQUIRE(is_mapped(values));
    world_leave(&w);
    return 0;
}

TEST(Pin, HoldsNoPoolInAForkedChild)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const char *const arguments[] = {ct_tmpdir(), NULL};
    EXPECT_EQ(ct_wait(ct_spawn("leaver", arguments)), 0);
    world_tear_down(&w);
}
