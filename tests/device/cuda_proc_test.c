/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The public API on a GPU of the fake driver, with a real service and its real broker: both kinds
 * of handle, in several processes, and what the broker's death leaves of them.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/device/device_world.h"

#define ROWS (8u * WORLD_CHUNK_ROWS)
#define RW   (PINT_READ | PINT_WRITE)

/* A world on "host", and its column n on the GPU. */
typedef struct gpu {
    pint_device *device;
    pint_column n;
    pint_copy *copy;
    void *stream;
} gpu;

static void use_fake(const char *device)
{
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_DIR "/libcuda.so.1", 1), 0);
    EXPECT_EQ(setenv("FAKECUDA_ASYNC", "thread", 1), 0);
    EXPECT_EQ(setenv("PINT_TEST_DEVICE", device, 1), 0);
}

static void open_gpu(gpu *g, world *w, uint32_t kind)
{
    *g = (gpu){0};
    ASSERT_OK(pint_device_open(w->pool, "cuda:0", &g->device, &live_err), &live_err);
    ASSERT_OK(pint_table_column(w->table, "n", &g->n, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(g->device, &g->n, kind, PINT_WRITE, &g->copy, &live_err), &live_err);
    ASSERT_OK(pint_stream_create(g->device, &g->stream, &live_err), &live_err);
}

static void close_gpu(gpu *g)
{
    pint_stream_destroy(g->device, g->stream);
    pint_copy_close(g->copy);
    pint_device_close(g->device);
}

static pid_t broker_pid(const char *address)
{
    cJSON *result = NULL;
    double pid = 0;
    EXPECT_OK(live_ask(address, "stat", NULL, &result), &live_err);
    const cJSON *device;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(result, "devices"))
    {
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "cuda"))) {
            pid = cJSON_GetObjectItemCaseSensitive(device, "broker_pid")->valuedouble;
        }
    }
    cJSON_Delete(result);
    return (pid_t)pid;
}

/* Kill the GPU's broker, and wait until the service has seen it. */
static void kill_broker(void)
{
    const pid_t pid = broker_pid(ct_tmpdir());
    ASSERT_GT(pid, 1);
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_TRUE(ct_eventually(broker_pid(ct_tmpdir()) != pid, 10000));
}

/* ---- by descriptor --------------------------------------------------------------------------- */

/* Joins, and finds on the device the sum argv[2] of all rows without moving anything. */
PROC(cuda_reader)
{
    world w;
    uint64_t to_device = 0;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_READ));
    CT_REQUIRE(pint_copy_kind(w.copy) == PINT_COPY_VMM);
    CT_REQUIRE(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 10000, &live_err) ==
               PINT_OK);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), strtod(argv[2], NULL));
    CT_REQUIRE(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err) ==
               PINT_OK);
    pint_copy_moved(w.copy, &to_device, NULL);
    CT_REQUIRE(to_device == 0);
    world_leave(&w);
    return 0;
}

/* Holds the copy mapped for reading, and then writes to it: the mapping does not allow it. */
PROC(cuda_trespasser)
{
    world w;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_READ));
    CT_REQUIRE(world_device(&w)[0] == world_device(&w)[0]); /* reads it */
    ct_ready();
    world_device(&w)[0] = 1;
    return 0;
}

TEST(CudaProcesses, ACopyByDescriptorOutlivesItsBroker, .timeout_s = 60)
{
    world w;
    gpu g;
    char sum[64];
    use_fake("cuda:0");
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, 10000, &live_err),
              &live_err);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err), &live_err);
    ASSERT_TRUE(world_places(&w, 7, 2));
    const pid_t first = broker_pid(ct_tmpdir());
    ASSERT_NO_FATAL(kill_broker());
    (void)snprintf(sum, sizeof(sum), "%.0f", (double)ROWS * (ROWS + 1) / 2);
    const pid_t reader = ct_spawn("cuda_reader", (const char *const[]){ct_tmpdir(), sum, NULL});
    EXPECT_EQ(ct_wait(reader), 0);
    EXPECT_EQ(pint_copy_places(w.copy, 7), 2u);
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[ROWS - 1], (double)ROWS);
    /* The next copy starts another. */
    ASSERT_NO_FATAL(open_gpu(&g, &w, PINT_COPY_VMM));
    EXPECT_NE(broker_pid(ct_tmpdir()), first);
    close_gpu(&g);
    world_tear_down(&w);
}

TEST(CudaProcesses, WhoOnlyReadsCannotWrite, .timeout_s = 60)
{
    world w;
    use_fake("cuda:0");
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    const pid_t pid = ct_spawn("cuda_trespasser", (const char *const[]){ct_tmpdir(), NULL});
    EXPECT_TRUE(ct_wait_ready(pid));
    EXPECT_NE(ct_wait(pid), 0); /* SIGSEGV, or a sanitizer's report of it */
    world_tear_down(&w);
}

/* ---- by handle ------------------------------------------------------------------------------- */

static void set_all(void *context)
{
    float *n = context;
    for (uint32_t i = 0; i < ROWS; i++) {
        n[i] = 2.5f;
    }
}

static void write_on_gpu(gpu *g)
{
    void *const at = (void *)(uintptr_t)pint_copy_values(g->copy);
    ASSERT_OK(pint_device_begin(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, 10000, &live_err),
              &live_err);
    ASSERT_OK(pint_stream_call(g->device, g->stream, set_all, at, &live_err), &live_err);
    ASSERT_OK(pint_device_end(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, &live_err), &live_err);
    ASSERT_TRUE(ct_eventually(pint_copy_places(g->copy, 7) == 2, 10000));
}

/* Opens the copy as it is, reads what the other wrote, waits until the broker is dead. */
PROC(cuda_ipc_reader)
{
    world w;
    gpu g;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_WRITE));
    open_gpu(&g, &w, 0);
    CT_REQUIRE(pint_copy_kind(g.copy) == PINT_COPY_IPC);
    CT_REQUIRE(((const float *)(uintptr_t)pint_copy_values(g.copy))[ROWS - 1] == 2.5f);
    pint_copy *other = NULL;
    CT_REQUIRE(pint_copy_open(g.device, &g.n, PINT_COPY_VMM, PINT_WRITE, &other, &live_err) ==
               PINT_E_EXISTS);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    /* Bytes that nobody has any more are not made up. */
    const pint_status status =
        pint_device_begin(g.copy, 0, 1, PINT_READ, g.stream, 10000, &live_err);
    CT_REQUIRE(status != PINT_OK && status != PINT_E_TIMEOUT);
    close_gpu(&g);
    world_leave(&w);
    return 0;
}

TEST(CudaProcesses, ACopyByHandleDiesWithItsBroker, .timeout_s = 60)
{
    world w;
    gpu g;
    pint_handle handle = PINT_HANDLE_INIT;
    use_fake("host");
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_NO_FATAL(open_gpu(&g, &w, PINT_COPY_IPC));
    EXPECT_EQ(pint_copy_kind(g.copy), PINT_COPY_IPC);
    const uint64_t generation = pint_copy_generation(g.copy);
    ASSERT_NO_FATAL(write_on_gpu(&g));
    ASSERT_OK(pint_copy_export(g.copy, &handle, &live_err), &live_err);
    EXPECT_EQ(handle.kind, PINT_COPY_IPC);
    EXPECT_EQ(handle.fd, -1);
    EXPECT_EQ(memcmp(handle.ipc, "fakeIPC", 7), 0); /* as the broker's driver made it */
    const pid_t reader = ct_spawn("cuda_ipc_reader", (const char *const[]){ct_tmpdir(), NULL});
    ASSERT_TRUE(ct_wait_ready(reader));
    ASSERT_NO_FATAL(kill_broker());
    EXPECT_TRUE(ct_go(reader));
    EXPECT_EQ(ct_wait(reader), 0);
    close_gpu(&g);
    /* What was newest there only is torn; after a whole write on the host it comes back. */
    pint_lease lease;
    EXPECT_STATUS(PINT_E_TORN, pint_lease_claim(&g.n, 1, 0, PINT_UPDATE, 10000, &lease, &live_err),
                  &live_err);
    ASSERT_NO_FATAL(open_gpu(&g, &w, PINT_COPY_IPC));
    EXPECT_GT(pint_copy_generation(g.copy), generation);
    close_gpu(&g);
    world_tear_down(&w);
}

/* ---- refusals -------------------------------------------------------------------------------- */

TEST(CudaProcesses, AFullGpuSaysSo, .timeout_s = 60)
{
    world w;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    use_fake("host");
    EXPECT_EQ(setenv("FAKECUDA_MEMORY_MIB", "4", 1), 0);
    ASSERT_NO_FATAL(world_set_up(&w, 1u << 20)); /* 8 MiB of doubles */
    ASSERT_OK(pint_device_open(w.pool, "cuda:0", &device, &live_err), &live_err);
    ASSERT_OK(pint_device_get_info(device, &info, &live_err), &live_err);
    EXPECT_GE(info.memory_bytes, 4u << 20); /* more, if this process has used the fake before */
    EXPECT_EQ(info.is_cuda, 1u);
    EXPECT_STREQ(info.name, "Fake device 0");
    for (uint32_t kind = PINT_COPY_VMM; kind <= PINT_COPY_IPC; kind++) {
        EXPECT_STATUS(PINT_E_DEVICE_MEMORY,
                      pint_copy_open(device, &w.x, kind, PINT_WRITE, &copy, &live_err), &live_err);
        EXPECT_NE(strstr(live_err.message, "CUDA_ERROR_OUT_OF_MEMORY"), NULL);
    }
    pint_device_close(device);
    world_tear_down(&w);
    EXPECT_EQ(unsetenv("FAKECUDA_MEMORY_MIB"), 0);
}

TEST(CudaProcesses, WithoutTheProgramNoCopyIsMade, .timeout_s = 60)
{
    world w;
    pint_device *device = NULL;
    pint_device *same = NULL;
    pint_copy *copy = NULL;
    use_fake("host");
    EXPECT_EQ(setenv("PINTABLE_BROKER", "/nowhere/pintable-broker", 1), 0);
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_open(w.pool, "cuda:0", &device, &live_err), &live_err);
    ASSERT_OK(
        pint_device_open(w.pool, "cuda:GPU-66616b65-6375-6461-2d64-657669636500", &same, &live_err),
        &live_err);
    EXPECT_EQ((void *)device, (void *)same);
    pint_device_close(same);
    EXPECT_STATUS(PINT_E_UNSUPPORTED, pint_copy_open(device, &w.x, 0, PINT_WRITE, &copy, &live_err),
                  &live_err);
    EXPECT_NE(strstr(live_err.message, "pintable-broker"), NULL);
    pint_device_close(device);
    world_tear_down(&w);
    EXPECT_EQ(unsetenv("PINTABLE_BROKER"), 0);
}
