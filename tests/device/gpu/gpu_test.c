/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What only a GPU and its driver can confirm, through the public API. Skipped, with the reason,
 * where there is none. The same program runs on the fake driver too, which shows that the test is
 * right.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda_driver.h"
#include "tests/ipc/live.h"

#define ROWS  (3u << 20)
#define BYTES ((uint64_t)ROWS * sizeof(double))
#define RW    (PINT_READ | PINT_WRITE)

typedef struct gpu {
    pint_pool *pool;
    pint_table *table;
    pint_column x;
    pint_device *device;
    pint_device_info info;
    pint_copy *copy;
    void *stream;
} gpu;

/* The service of this build, wherever it was carried to: machines with a GPU may have no compiler.
 */
static void name_service(void)
{
    char path[512];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    ASSERT_GT(n, 0);
    path[n] = '\0';
    char *const end = strstr(path, "/tests/bin/");
    ASSERT_NE((void *)end, NULL);
    (void)snprintf(end, sizeof(path) - (size_t)(end - path), "/bin/pintabled");
    ASSERT_EQ(setenv("PINTABLED", path, 1), 0);
}

/* NULL: there is a GPU. Else why not. */
static const char *open_gpu(gpu *g)
{
    static pint_error why;
    *g = (gpu){.info = PINT_DEVICE_INFO_INIT};
    live_set_up();
    name_service();
    EXPECT_OK(live_join(ct_tmpdir(), 0, &g->pool), &live_err);
    const pint_status status = pint_device_open(g->pool, "cuda:0", &g->device, &why);
    if (status == PINT_E_NO_DEVICE) {
        pint_pool_leave(g->pool);
        live_stop();
        return why.message;
    }
    EXPECT_OK(status, &why);
    EXPECT_OK(pint_device_get_info(g->device, &g->info, &live_err), &live_err);
    EXPECT_OK(live_create(g->pool, "t", ROWS, &g->table), &live_err);
    EXPECT_OK(pint_table_column(g->table, "x", &g->x, &live_err), &live_err);
    EXPECT_OK(pint_table_publish(g->table, 0, &live_err), &live_err);
    EXPECT_OK(pint_stream_create(g->device, &g->stream, &live_err), &live_err);
    return NULL;
}

static void close_gpu(gpu *g)
{
    pint_stream_destroy(g->device, g->stream);
    pint_copy_close(g->copy);
    pint_device_close(g->device);
    pint_table_close(g->table);
    pint_pool_leave(g->pool);
}

/* A "kernel" without a compiler: every byte of x on the device. */
static void fill_on_gpu(gpu *g, unsigned char value)
{
    pinti_cu_context context = NULL;
    ASSERT_OK(pint_device_begin(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, 10000, &live_err),
              &live_err);
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&context, 0), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ctx_push_current(context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.memset_d8_async(pint_copy_values(g->copy), value, BYTES, g->stream),
              PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(&context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    ASSERT_OK(pint_device_end(g->copy, 0, PINT_ALL_ROWS, RW, g->stream, &live_err), &live_err);
    ASSERT_OK(pint_stream_wait(g->device, g->stream, &live_err), &live_err);
    ASSERT_TRUE(ct_eventually(pint_copy_places(g->copy, 0) == 2, 10000));
}

static bool is_filled(const gpu *g, unsigned char value)
{
    const unsigned char *at = g->x.values;
    for (uint64_t i = 0; i < BYTES; i++) {
        if (at[i] != value) {
            return false;
        }
    }
    return true;
}

static pid_t broker_pid(void)
{
    cJSON *result = NULL;
    EXPECT_OK(live_ask(ct_tmpdir(), "stat", NULL, &result), &live_err);
    const cJSON *device = cJSON_GetArrayItem(cJSON_GetObjectItem(result, "devices"), 0);
    const double pid = cJSON_GetNumberValue(cJSON_GetObjectItem(device, "broker_pid"));
    cJSON_Delete(result);
    return (pid_t)pid;
}

/* Opens the other process's copy, and brings what is newest there to the host by its own mapping.
 */
PROC(gpu_other)
{
    gpu g = {0};
    uint64_t bytes = 0;
    CT_REQUIRE(argc == 2 && live_join(argv[1], PINT_JOIN_NO_START, &g.pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(g.pool, "t", PINT_WRITE, &g.table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(g.table, "x", &g.x, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_open(g.pool, "cuda:0", &g.device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_stream_create(g.device, &g.stream, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(g.device, &g.x, 0, PINT_WRITE, &g.copy, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_to_host(g.copy, 0, PINT_ALL_ROWS, 20000, &bytes, &live_err) == PINT_OK);
    CT_REQUIRE(bytes == BYTES && is_filled(&g, 0x41));
    close_gpu(&g);
    return 0;
}

static void share(uint32_t kind)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    const bool can = kind == PINT_COPY_VMM ? g.info.can_vmm != 0 : g.info.can_ipc != 0;
    if (can) {
        ASSERT_OK(pint_copy_open(g.device, &g.x, kind, PINT_WRITE, &g.copy, &live_err), &live_err);
        ASSERT_NO_FATAL(fill_on_gpu(&g, 0x41));
        EXPECT_TRUE(is_filled(&g, 0)); /* not on the host yet */
        const pid_t other = ct_spawn("gpu_other", (const char *const[]){ct_tmpdir(), NULL});
        EXPECT_EQ(ct_wait(other), 0);
        EXPECT_TRUE(is_filled(&g, 0x41));
    }
    close_gpu(&g);
    live_stop();
    if (!can) {
        SKIP("this GPU does not share memory in this way");
    }
}

TEST(Gpu, AnotherProcessSeesTheSameMemoryByDescriptor, .timeout_s = 120)
{
    share(PINT_COPY_VMM);
}

TEST(Gpu, AnotherProcessSeesTheSameMemoryByHandle, .timeout_s = 120)
{
    share(PINT_COPY_IPC);
}

TEST(Gpu, MemoryByDescriptorOutlivesItsBroker, .timeout_s = 120)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    if (g.info.can_vmm != 0) {
        ASSERT_OK(pint_copy_open(g.device, &g.x, PINT_COPY_VMM, PINT_WRITE, &g.copy, &live_err),
                  &live_err);
        ASSERT_NO_FATAL(fill_on_gpu(&g, 0x41));
        const pid_t pid = broker_pid();
        ASSERT_GT(pid, 1);
        ASSERT_EQ(kill(pid, SIGKILL), 0);
        ASSERT_TRUE(ct_eventually(broker_pid() != pid, 10000));
        const pid_t late = ct_spawn("gpu_other", (const char *const[]){ct_tmpdir(), NULL});
        EXPECT_EQ(ct_wait(late), 0);
        EXPECT_TRUE(is_filled(&g, 0x41));
    }
    close_gpu(&g);
    live_stop();
}

/* Makes the copy, writes it, and stays. */
PROC(gpu_creator)
{
    gpu g = {0};
    CT_REQUIRE(argc == 2 && live_join(argv[1], PINT_JOIN_NO_START, &g.pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(g.pool, "t", PINT_WRITE, &g.table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(g.table, "x", &g.x, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_open(g.pool, "cuda:0", &g.device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_stream_create(g.device, &g.stream, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(g.device, &g.x, PINT_COPY_VMM, PINT_WRITE, &g.copy, &live_err) ==
               PINT_OK);
    fill_on_gpu(&g, 0x41);
    ct_ready();
    (void)pause();
    return 0;
}

TEST(Gpu, WhatAKilledCreatorWroteIsThereForALaterImporter, .timeout_s = 120)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    if (g.info.can_vmm != 0) {
        const pid_t creator = ct_spawn("gpu_creator", (const char *const[]){ct_tmpdir(), NULL});
        EXPECT_TRUE(ct_wait_ready(creator));
        EXPECT_EQ(kill(creator, SIGKILL), 0);
        EXPECT_EQ(ct_wait(creator), 128 + SIGKILL);
        EXPECT_TRUE(is_filled(&g, 0)); /* newest on the GPU alone */
        const pid_t late = ct_spawn("gpu_other", (const char *const[]){ct_tmpdir(), NULL});
        EXPECT_EQ(ct_wait(late), 0);
        EXPECT_TRUE(is_filled(&g, 0x41));
    }
    close_gpu(&g);
    live_stop();
}

/* A write through memory that is mapped to read fails, one way or the other. */
PROC(gpu_reader)
{
    gpu g = {0};
    pinti_cu_context context = NULL;
    CT_REQUIRE(argc == 2 && live_join(argv[1], PINT_JOIN_NO_START, &g.pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(g.pool, "t", PINT_READ, &g.table, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(g.table, "x", &g.x, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_open(g.pool, "cuda:0", &g.device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_stream_create(g.device, &g.stream, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(g.device, &g.x, 0, PINT_READ, &g.copy, &live_err) == PINT_OK);
    CT_REQUIRE(pinti_cuda.primary_ctx_retain(&context, 0) == PINTI_CU_SUCCESS);
    CT_REQUIRE(pinti_cuda.ctx_push_current(context) == PINTI_CU_SUCCESS);
    const pinti_cu_result result =
        pinti_cuda.memset_d8_async(pint_copy_values(g.copy), 0x55, BYTES, g.stream);
    CT_REQUIRE(result != PINTI_CU_SUCCESS ||
               pinti_cuda.stream_synchronize(g.stream) != PINTI_CU_SUCCESS);
    CT_REQUIRE(pinti_cuda.ctx_pop_current(&context) == PINTI_CU_SUCCESS);
    CT_REQUIRE(pinti_cuda.primary_ctx_release(0) == PINTI_CU_SUCCESS);
    close_gpu(&g); /* also on a GPU that is lost to this process */
    return 0;
}

TEST(Gpu, WhoOnlyReadsCannotWrite, .timeout_s = 120)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    if (g.info.can_vmm != 0) {
        ASSERT_OK(pint_copy_open(g.device, &g.x, PINT_COPY_VMM, PINT_WRITE, &g.copy, &live_err),
                  &live_err);
        ASSERT_NO_FATAL(fill_on_gpu(&g, 0x41));
        const pid_t reader = ct_spawn("gpu_reader", (const char *const[]){ct_tmpdir(), NULL});
        EXPECT_EQ(ct_wait(reader), 0);
        EXPECT_OK(pint_copy_to_host(g.copy, 0, PINT_ALL_ROWS, 20000, NULL, &live_err), &live_err);
        EXPECT_TRUE(is_filled(&g, 0x41));
    }
    close_gpu(&g);
    live_stop();
}

/* ---- the host's side ------------------------------------------------------------------------- */

/* As the runtime library sees it, too: cudaPointerGetAttributes() asks the same driver. */
TEST(Gpu, APinnedTableIsHostMemoryThatKernelsMayWrite, .timeout_s = 120)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    if (g.info.can_map_host != 0) {
        pinti_cu_context context = NULL;
        unsigned int type = 0;
        uint64_t address = 0;
        ASSERT_OK(pint_device_pin(g.device, g.table, NULL, NULL, &live_err), &live_err);
        ASSERT_OK(pint_device_mapped(g.device, &g.x, &address, &live_err), &live_err);
        ASSERT_EQ(pinti_cuda.primary_ctx_retain(&context, 0), PINTI_CU_SUCCESS);
        ASSERT_EQ(pinti_cuda.ctx_push_current(context), PINTI_CU_SUCCESS);
        EXPECT_EQ(pinti_cuda.pointer_get_attribute(&type, PINTI_CU_POINTER_MEMORY_TYPE,
                                                   (uintptr_t)g.x.values),
                  PINTI_CU_SUCCESS);
        EXPECT_EQ(type, PINTI_CU_MEMORY_HOST);
        EXPECT_EQ(pinti_cuda.memset_d8_async(address, 0x42, BYTES, g.stream), PINTI_CU_SUCCESS);
        EXPECT_EQ(pinti_cuda.ctx_pop_current(&context), PINTI_CU_SUCCESS);
        EXPECT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
        EXPECT_OK(pint_stream_wait(g.device, g.stream, &live_err), &live_err);
        EXPECT_TRUE(is_filled(&g, 0x42));
        EXPECT_OK(pint_device_unpin(g.device, g.table, &live_err), &live_err);
    }
    close_gpu(&g);
    live_stop();
}

/* Every other chunk anew on the host: single values of these chunks are looked at on the GPU. */
static void look_at_scattered(gpu *g, unsigned char *seen)
{
    pinti_cu_context context = NULL;
    const uint64_t chunk_rows = pint_table_chunk_rows(g->table);
    const uint64_t n_chunks = (ROWS + chunk_rows - 1) / chunk_rows;
    ASSERT_GT(n_chunks, 8u); /* enough for one call with many copies */
    for (uint64_t chunk = 0; chunk < n_chunks; chunk += 2) {
        pint_lease lease;
        ASSERT_OK(pint_lease_claim(&g->x, 1, chunk, PINT_OUT, 10000, &lease, &live_err), &live_err);
        memset((double *)g->x.values + lease.first, 0x43, lease.n_rows * sizeof(double));
        ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    }
    ASSERT_OK(pint_device_begin(g->copy, 0, PINT_ALL_ROWS, PINT_READ, g->stream, 10000, &live_err),
              &live_err);
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&context, 0), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ctx_push_current(context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.mem_host_register(seen, BYTES, 0), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(seen, pint_copy_values(g->copy), BYTES, g->stream),
              PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.stream_synchronize(g->stream), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(seen), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(&context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    ASSERT_OK(pint_device_end(g->copy, 0, PINT_ALL_ROWS, PINT_READ, g->stream, &live_err),
              &live_err);
    for (uint64_t row = 0; row < ROWS; row += chunk_rows / 4) {
        EXPECT_EQ(seen[row * sizeof(double)], row / chunk_rows % 2 == 0 ? 0x43 : 0x41);
    }
}

TEST(Gpu, ChunksThatAreNewOnTheHostComeWhereTheyBelong, .timeout_s = 120)
{
    gpu g;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    unsigned char *seen =
        mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE((void *)seen, MAP_FAILED);
    ASSERT_OK(pint_copy_open(g.device, &g.x, 0, PINT_WRITE, &g.copy, &live_err), &live_err);
    ASSERT_NO_FATAL(fill_on_gpu(&g, 0x41));
    look_at_scattered(&g, seen);
    EXPECT_EQ(munmap(seen, BYTES), 0);
    close_gpu(&g);
    live_stop();
}

TEST(Gpu, ForkedChildIsToldSo, .timeout_s = 60)
{
    gpu g;
    int status = 0;
    const char *why = open_gpu(&g);
    if (why != NULL) {
        SKIP(why);
    }
    const pid_t pid = fork();
    if (pid == 0) {
        pint_error err;
        _exit(pint_stream_wait(g.device, g.stream, &err) == PINT_E_FORKED ? 0 : 1);
    }
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    close_gpu(&g);
    live_stop();
}
