/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, sharing, dropping and exporting device copies. */

#include "tests/device/device_world.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS (8u * WORLD_CHUNK_ROWS)

/* Opens "cuda:0" with a driver that takes its time. */
static void *open_slowly(void *argument)
{
    const world *w = argument;
    pint_device *device = NULL;
    pint_error err;
    return pint_device_open(w->pool, "cuda:0", &device, &err) == PINT_E_NO_DEVICE ? argument : NULL;
}

/* The driver is a pipe: whoever loads it waits until the other end is closed. */
TEST(Device, OpensWhileAnotherThreadWaitsForADriver, .timeout_s = 30)
{
    world w;
    char path[256];
    pthread_t thread;
    pint_device *device = NULL;
    void *result = NULL;
    int end = -1;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    (void)snprintf(path, sizeof(path), "%s", live_path("libcuda.so.1"));
    ASSERT_EQ(mkfifo(path, 0600), 0);
    ASSERT_EQ(setenv("PINTABLE_LIBCUDA", path, 1), 0);
    ASSERT_EQ(pthread_create(&thread, NULL, open_slowly, &w), 0);
    ASSERT_TRUE(ct_eventually((end = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) >= 0, 10000));
    EXPECT_OK(pint_device_open(w.pool, "host", &device, &live_err), &live_err);
    EXPECT_EQ(device, w.device);
    pint_device_close(device);
    (void)close(end);
    (void)pthread_join(thread, &result);
    EXPECT_TRUE(result != NULL); /* an empty file is no driver */
    ASSERT_EQ(unsetenv("PINTABLE_LIBCUDA"), 0);
    world_tear_down(&w);
}

TEST(Device, IsFoundByName)
{
    world w;
    pint_device *device = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const char *const bad[] = {"", "gpu", "cuda", "host:0", "HOST", "cuda:99", "cuda:x"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT_STATUS(PINT_E_NO_DEVICE, pint_device_open(w.pool, bad[i], &device, &live_err),
                      &live_err);
    }
    EXPECT_STATUS(PINT_E_INVALID, pint_device_open(NULL, "host", &device, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_open(w.pool, NULL, &device, &live_err), &live_err);
    EXPECT_EQ(device, NULL);
    ASSERT_OK(pint_device_open(w.pool, "host", &device, &live_err), &live_err);
    EXPECT_EQ(device, w.device); /* one per process and pool */
    ASSERT_OK(pint_device_get_info(device, &info, &live_err), &live_err);
    EXPECT_EQ(info.is_cuda, 0);
    EXPECT_STREQ(info.name, "host");
    EXPECT_EQ(memcmp(info.uuid, pinti_host_uuid, 16), 0);
    EXPECT_TRUE(info.can_vmm && info.can_map_host && !info.can_ipc);
    EXPECT_GT(info.memory_bytes, 0);
    EXPECT_EQ(info.ordinal, -1);
    pint_device_info old = PINT_DEVICE_INFO_INIT; /* of a caller who does not know the ordinal */
    old.struct_bytes = offsetof(pint_device_info, ordinal);
    old.ordinal = 77;
    ASSERT_OK(pint_device_get_info(device, &old, &live_err), &live_err);
    EXPECT_EQ(old.memory_bytes, info.memory_bytes);
    EXPECT_EQ(old.ordinal, 77);
    info.struct_bytes = 8;
    EXPECT_STATUS(PINT_E_INVALID, pint_device_get_info(device, &info, &live_err), &live_err);
    pint_device_close(device);
    pint_device_close(NULL);
    world_tear_down(&w);
}

TEST(Copy, IsOneForAllHandlesOfAProcess)
{
    world w;
    pint_copy *second = NULL;
    pint_copy *reader = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_copy_open(w.device, &w.x, PINT_COPY_VMM, PINT_WRITE, &second, &live_err),
              &live_err);
    EXPECT_EQ(pint_copy_values(second), pint_copy_values(w.copy));
    EXPECT_EQ(pint_copy_generation(second), pint_copy_generation(w.copy));
    EXPECT_EQ(pint_copy_kind(second), PINT_COPY_VMM);
    EXPECT_GE(pint_copy_bytes(second), ROWS * sizeof(double));
    /* readers have the same memory by an address that cannot be written through */
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_READ, &reader, &live_err), &live_err);
    EXPECT_NE(pint_copy_values(reader), pint_copy_values(w.copy));
    *world_device(&w) = 42;
    EXPECT_EQ(*(const double *)(uintptr_t)pint_copy_values(reader), 42.0);
    const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(read(zero, (void *)(uintptr_t)pint_copy_values(reader), 8), -1); /* EFAULT */
    EXPECT_EQ(read(zero, world_device(&w), 8), 8);
    (void)close(zero);
    pint_copy_close(second);
    pint_copy_close(reader);
    pint_copy_close(NULL);
    world_tear_down(&w);
}

TEST(Copy, RefusesWhatCannotBe)
{
    world w;
    world r;
    pint_copy *copy = NULL;
    pint_field fields[1] = {live_field("s", PINT_TEXT)};
    pint_schema schema = PINT_SCHEMA_INIT;
    pint_table *text = NULL;
    pint_column s;
    fields[0].data_bytes = 100;
    schema.fields = fields;
    schema.n_fields = 1;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_open(w.device, &w.x, 4, PINT_READ, &copy, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_open(w.device, &w.x, 0, 0, &copy, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_open(w.device, NULL, 0, PINT_READ, &copy, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_UNSUPPORTED, /* not on "host" */
                  pint_copy_open(w.device, &w.x, PINT_COPY_IPC, PINT_READ, &copy, &live_err),
                  &live_err);
    ASSERT_OK(pint_table_create(w.pool, "text", &schema, 10, &text, &live_err), &live_err);
    ASSERT_OK(pint_table_column(text, "s", &s, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_TYPE, pint_copy_open(w.device, &s, 0, PINT_READ, &copy, &live_err),
                  &live_err);
    pint_table_close(text);
    /* a table opened to read: its copy is read, too */
    ASSERT_TRUE(world_join(&r, ct_tmpdir(), PINT_READ));
    EXPECT_STATUS(PINT_E_PERMISSION,
                  pint_copy_open(r.device, &r.x, 0, PINT_WRITE, &copy, &live_err), &live_err);
    /* a device and a column of different pools */
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_open(r.device, &w.x, 0, PINT_READ, &copy, &live_err),
                  &live_err);
    EXPECT_EQ(copy, NULL);
    world_leave(&r);
    world_tear_down(&w);
}

TEST(Copy, IsBroughtToTheHostWhenItIsDropped)
{
    world w;
    pint_copy *next = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w.stream, 1000,
                                &live_err),
              &live_err);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(
        pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w.stream, &live_err),
        &live_err);
    ASSERT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[9], 10.0);
    EXPECT_EQ(world_device(&w)[9], 10.0); /* the memory stays while it is open */
    EXPECT_STATUS(PINT_E_DEVICE_LOST,
                  pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_copy_to_host(w.copy, 0, 1, 0, NULL, &live_err),
                  &live_err);
    const uint64_t old = pint_copy_generation(w.copy);
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &next, &live_err), &live_err);
    EXPECT_NE(pint_copy_generation(next), old);
    EXPECT_EQ(pint_copy_places(next, 0), 1);
    w.copy = next;
    world_tear_down(&w);
}

TEST(Copy, HandleCanBeMappedByAForeigner)
{
    world w;
    pint_handle handle = PINT_HANDLE_INIT;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 1000, &live_err),
              &live_err);
    ASSERT_OK(pint_stream_wait(w.device, w.stream, &live_err), &live_err);
    ASSERT_OK(pint_copy_export(w.copy, &handle, &live_err), &live_err);
    EXPECT_EQ(handle.kind, PINT_COPY_VMM);
    EXPECT_EQ(handle.generation, pint_copy_generation(w.copy));
    EXPECT_EQ(handle.validity_off, UINT64_MAX);
    EXPECT_EQ(memcmp(handle.uuid, pinti_host_uuid, 16), 0);
    char *mine = mmap(NULL, handle.bytes, PROT_READ, MAP_SHARED, handle.fd, 0);
    ASSERT_TRUE(mine != MAP_FAILED);
    EXPECT_EQ(((const double *)(void *)(mine + handle.values_off))[ROWS - 1], (double)(ROWS - 1));
    (void)munmap(mine, handle.bytes);
    (void)close(handle.fd);
    handle.struct_bytes = 16;
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_export(w.copy, &handle, &live_err), &live_err);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    world_tear_down(&w);
}

TEST(Copy, OutlivesTheDropOfItsTable)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_drop(w.pool, "t", &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[1], 1.0);
    EXPECT_EQ(world_device(&w)[1], 0.0); /* never brought; mapped all the same */
    world_tear_down(&w);
}

TEST(Copy, IsNotMadeByThoseWhoWantAnExistingOne)
{
    world w;
    pint_column id;
    pint_copy *copy = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_column(w.table, "id", &id, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_NOT_FOUND,
                  pint_copy_open(w.device, &id, PINT_COPY_EXISTING, PINT_READ, &copy, &live_err),
                  &live_err);
    /* once known to this process, and once to the service alone */
    ASSERT_OK(pint_copy_open(w.device, &w.x, PINT_COPY_EXISTING, PINT_READ, &copy, &live_err),
              &live_err);
    pint_copy_close(copy);
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, PINT_COPY_EXISTING, PINT_WRITE, &w.copy, &live_err),
              &live_err);
    EXPECT_EQ(pint_copy_kind(w.copy), PINT_COPY_VMM);
    world_tear_down(&w);
}

/* Of a column that was added to a published table. */
TEST(Copy, OfAnAddedColumn)
{
    world w;
    pint_table *from = NULL;
    pint_column y;
    pint_copy *copy = NULL;
    pint_field field = live_field("y", PINT_FLOAT64);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = WORLD_CHUNK_ROWS;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_create(w.pool, "more", &schema, ROWS, &from, &live_err), &live_err);
    ASSERT_OK(pint_table_column(from, "y", &y, &live_err), &live_err);
    ((double *)y.values)[ROWS - 1] = 3;
    ASSERT_OK(pint_table_add_columns(w.table, from, &live_err), &live_err);
    ASSERT_OK(pint_table_column(w.table, "y", &y, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w.device, &y, 0, PINT_WRITE, &copy, &live_err), &live_err);
    ASSERT_OK(pint_device_begin(copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 1000, &live_err),
              &live_err);
    ASSERT_OK(pint_stream_wait(w.device, w.stream, &live_err), &live_err);
    EXPECT_EQ(((const double *)(uintptr_t)pint_copy_values(copy))[ROWS - 1], 3.0);
    ASSERT_OK(pint_device_end(copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    pint_copy_close(copy);
    world_tear_down(&w);
}

TEST(Copy, NeedsAPoolJoinedToWrite)
{
    world w;
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    pint_column x;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_READ | PINT_JOIN_NO_START, &pool), &live_err);
    ASSERT_OK(pint_table_open(pool, "t", PINT_READ, &table, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &x, &live_err), &live_err);
    /* known already: nothing is changed by opening the device */
    ASSERT_OK(pint_device_open(pool, "host", &device, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_copy_open(device, &x, 0, PINT_READ, &copy, &live_err),
                  &live_err);
    pint_device_close(device);
    pint_table_close(table);
    pint_pool_leave(pool);
    world_tear_down(&w);
}
