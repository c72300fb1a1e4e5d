/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Handles that are not what they were, and memory whose makers are gone, on a GPU of the fake
 * driver: handles flipped bit by bit, used again after a drop, opened by their owner; a copy whose
 * maker was killed; a copy whose kernel failed.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/device/bad/scenario.h"

#define ROWS     (4u * WORLD_CHUNK_ROWS)
#define RW       (PINT_READ | PINT_WRITE)
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

static void set_up(world *w, uint32_t kind)
{
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1), 0);
    EXPECT_EQ(setenv("FAKECUDA_ASYNC", "thread", 1), 0);
    ASSERT_NO_FATAL(world_set_up(w, ROWS));
    /* x is on the GPU, not on device "host" */
    pint_stream_destroy(w->device, w->stream);
    ASSERT_OK(pint_copy_drop(w->copy, &live_err), &live_err);
    pint_copy_close(w->copy);
    pint_device_close(w->device);
    ASSERT_OK(pint_device_open(w->pool, "cuda:0", &w->device, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w->device, &w->x, kind, PINT_WRITE, &w->copy, &live_err), &live_err);
    ASSERT_OK(pint_stream_create(w->device, &w->stream, &live_err), &live_err);
}

static pint_status begin_all(world *w, uint32_t access)
{
    return pint_device_begin(w->copy, 0, PINT_ALL_ROWS, access, w->stream, 10000, &live_err);
}

static pint_status end_all(world *w, uint32_t access)
{
    return pint_device_end(w->copy, 0, PINT_ALL_ROWS, access, w->stream, &live_err);
}

/* Add 1 to all rows on the device, which is then the only place that has them. */
static void put_ahead(world *w)
{
    ASSERT_OK(begin_all(w, RW), &live_err);
    world_device_add(w, 0, ROWS, 1);
    ASSERT_OK(end_all(w, RW), &live_err);
    ASSERT_TRUE(world_places(w, 3, 2));
}

static pint_status import(const world *w, uint32_t kind, int fd, const uint8_t ipc[64],
                          uint64_t *out_address)
{
    pinti_backend *backend = w->device->backend;
    return backend->ops->import(backend, kind, fd, ipc, pint_copy_bytes(w->copy), true, out_address,
                                &live_err);
}

static void release(const world *w, uint32_t kind, uint64_t address)
{
    pinti_backend *backend = w->device->backend;
    backend->ops->release(backend, kind, address, pint_copy_bytes(w->copy));
}

/* ---- handles --------------------------------------------------------------------------------- */

/* The driver refuses it, by name, or it is another name of the same memory: never a crash, and
 * nothing stays. */
TEST(BadHandle, FlippedBitByBit, .timeout_s = 60)
{
    world w;
    pint_handle handle = PINT_HANDLE_INIT;
    int n_refused = 0;
    ASSERT_NO_FATAL(set_up(&w, PINT_COPY_IPC));
    ASSERT_NO_FATAL(put_ahead(&w));
    ASSERT_OK(pint_copy_export(w.copy, &handle, &live_err), &live_err);
    const int n_fds = scenario_descriptors();
    for (unsigned int bit = 0; bit < 8 * PINT_IPC_HANDLE_BYTES; bit++) {
        uint8_t ipc[PINT_IPC_HANDLE_BYTES];
        uint64_t address = 0;
        memcpy(ipc, handle.ipc, sizeof(ipc));
        ipc[bit / 8] = (uint8_t)(ipc[bit / 8] ^ 1u << bit % 8);
        const pint_status status = import(&w, PINT_COPY_IPC, -1, ipc, &address);
        if (status == PINT_OK) {
            EXPECT_EQ(((const double *)(uintptr_t)address)[1], 2.0);
            release(&w, PINT_COPY_IPC, address);
            continue;
        }
        n_refused++;
        EXPECT_EQ(address, 0u);
        EXPECT_TRUE(status == PINT_E_DEVICE || status == PINT_E_NO_DEVICE ||
                    status == PINT_E_DEVICE_MEMORY);
        EXPECT_NE(strstr(live_err.message, "cuIpcOpenMemHandle: CUDA_ERROR_"), NULL);
    }
    EXPECT_GT(n_refused, 100);
    EXPECT_EQ(scenario_descriptors(), n_fds);
    EXPECT_EQ(world_device_sum(&w, 0, 3), 6.0); /* 1, 2, 3: the copy itself has not suffered */
    ASSERT_OK(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[ROWS - 1], (double)ROWS);
    world_tear_down(&w);
}

/* What is behind an old descriptor is the old memory, for as long as it is open, and no other. */
TEST(BadHandle, ADescriptorUsedAfterTheDrop, .timeout_s = 60)
{
    world w;
    pint_handle old = PINT_HANDLE_INIT;
    uint64_t address = 0;
    ASSERT_NO_FATAL(set_up(&w, PINT_COPY_VMM));
    ASSERT_NO_FATAL(put_ahead(&w));
    ASSERT_OK(pint_copy_export(w.copy, &old, &live_err), &live_err);
    ASSERT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[ROWS - 1], (double)ROWS); /* brought first */
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &w.copy, &live_err), &live_err);
    EXPECT_GT(pint_copy_generation(w.copy), old.generation);
    ASSERT_OK(begin_all(&w, PINT_READ), &live_err);
    ASSERT_OK(import(&w, PINT_COPY_VMM, old.fd, NULL, &address), &live_err);
    double *const x = (double *)(uintptr_t)(address + old.values_off);
    EXPECT_EQ(x[1], 2.0);
    x[1] = -1;
    EXPECT_EQ(world_device_sum(&w, 0, 3), 6.0);
    ASSERT_OK(end_all(&w, PINT_READ), &live_err);
    release(&w, PINT_COPY_VMM, address);
    EXPECT_EQ(close(old.fd), 0);
    world_tear_down(&w);
}

/* Behind an old handle is nothing: the broker has freed it when nobody has it open any more. */
TEST(BadHandle, AHandleUsedAfterTheDrop, .timeout_s = 60)
{
    world w;
    pint_handle old = PINT_HANDLE_INIT;
    pint_handle now = PINT_HANDLE_INIT;
    uint64_t address = 0;
    ASSERT_NO_FATAL(set_up(&w, PINT_COPY_IPC));
    ASSERT_NO_FATAL(put_ahead(&w));
    ASSERT_OK(pint_copy_export(w.copy, &old, &live_err), &live_err);
    ASSERT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    EXPECT_EQ(world_host(&w)[ROWS - 1], (double)ROWS);
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, PINT_COPY_IPC, PINT_WRITE, &w.copy, &live_err),
              &live_err);
    ASSERT_OK(pint_copy_export(w.copy, &now, &live_err), &live_err);
    EXPECT_GT(now.generation, old.generation);
    EXPECT_NE(memcmp(now.ipc, old.ipc, sizeof(now.ipc)), 0);
    pint_status status = PINT_OK;
    EXPECT_TRUE(
        ct_eventually((status = import(&w, PINT_COPY_IPC, -1, old.ipc, &address)) != PINT_OK ||
                          (release(&w, PINT_COPY_IPC, address), false),
                      10000));
    EXPECT_STATUS(PINT_E_DEVICE, status, &live_err);
    EXPECT_NE(strstr(live_err.message, "CUDA_ERROR_INVALID_HANDLE (400)"), NULL);
    world_tear_down(&w);
}

/* A handle is for others: the driver has the name of who opens his own. */
TEST(BadHandle, OfTheProcessItself, .timeout_s = 60)
{
    world w;
    pinti_cu_context context = NULL;
    pinti_cu_ptr memory = 0;
    pinti_cu_ipc_handle handle;
    uint64_t address = 0;
    uint8_t ipc[PINT_IPC_HANDLE_BYTES];
    ASSERT_NO_FATAL(set_up(&w, PINT_COPY_IPC));
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&context, 0), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ctx_push_current(context), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.mem_alloc(&memory, 1u << 21), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ipc_get_mem_handle(&handle, memory), PINTI_CU_SUCCESS);
    memcpy(ipc, handle.bytes, sizeof(ipc));
    EXPECT_STATUS(PINT_E_DEVICE, import(&w, PINT_COPY_IPC, -1, ipc, &address), &live_err);
    EXPECT_NE(strstr(live_err.message, "CUDA_ERROR_INVALID_CONTEXT (201)"), NULL);
    EXPECT_EQ(address, 0u);
    ASSERT_EQ(pinti_cuda.mem_free(memory), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ctx_pop_current(&context), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    ASSERT_NO_FATAL(put_ahead(&w)); /* and the copy goes on */
    world_tear_down(&w);
}

/* Drops the copy while another process has it open. */
PROC(dropper)
{
    world w;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_copy_drop(w.copy, &live_err) == PINT_OK);
    world_leave(&w);
    return 0;
}

TEST(BadHandle, OfAGenerationThatIsGone, .timeout_s = 60)
{
    for (uint32_t kind = PINT_COPY_VMM; kind <= PINT_COPY_IPC; kind++) {
        world w;
        pint_handle handle = PINT_HANDLE_INIT;
        uint64_t bytes = 7;
        ASSERT_NO_FATAL(set_up(&w, kind));
        ASSERT_NO_FATAL(put_ahead(&w));
        const uint64_t generation = pint_copy_generation(w.copy);
        const pid_t pid =
            ct_spawn_opts("dropper", ENV(ct_tmpdir()), .env = ENV("PINT_TEST_DEVICE=cuda:0"));
        ASSERT_EQ(ct_wait(pid), 0);
        EXPECT_EQ(world_host(&w)[ROWS - 1], (double)ROWS); /* whoever dropped it has brought it */
        for (uint32_t access = PINT_READ; access <= RW; access++) {
            EXPECT_STATUS(PINT_E_DEVICE_LOST, begin_all(&w, access), &live_err);
        }
        EXPECT_STATUS(PINT_E_DEVICE_LOST,
                      pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, -1, &bytes, &live_err),
                      &live_err);
        EXPECT_STATUS(PINT_E_DEVICE_LOST,
                      pint_copy_own_host(w.copy, 0, PINT_ALL_ROWS, -1, &live_err), &live_err);
        EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_copy_export(w.copy, &handle, &live_err), &live_err);
        EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_copy_drop(w.copy, &live_err), &live_err);
        EXPECT_NE(strstr(live_err.message, "'x' was dropped"), NULL);
        EXPECT_EQ(handle.fd, -1);
        EXPECT_EQ(bytes, 7u);
        EXPECT_EQ(pint_copy_places(w.copy, 0), 1u); /* the host; the place is nobody's now */
        pint_copy_close(w.copy);
        ASSERT_OK(pint_copy_open(w.device, &w.x, kind, PINT_WRITE, &w.copy, &live_err), &live_err);
        EXPECT_GT(pint_copy_generation(w.copy), generation);
        ASSERT_NO_FATAL(put_ahead(&w));
        world_tear_down(&w);
    }
}

/* ---- who made it is gone --------------------------------------------------------------------- */

/* Opens the copy (the first one makes it), role argv[2]:
 *   maker   adds 1 to all rows on the device, and waits to be killed
 *   second  has it open over the maker's death, and reads then
 *   third   opens it when the maker is dead, reads, and brings it to the host */
PROC(one_of_three)
{
    world w;
    pint_device *device = NULL;
    uint64_t to_device = 7;
    CT_REQUIRE(argc == 4 && scenario_join(&w, argv[1]));
    const bool is_maker = strcmp(argv[2], "maker") == 0;
    const uint32_t kind = (uint32_t)strtoul(argv[3], NULL, 10);
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    w.device = device;
    CT_REQUIRE(pint_copy_open(device, &w.x, is_maker ? kind : 0, PINT_WRITE, &w.copy, &live_err) ==
               PINT_OK);
    CT_REQUIRE(pint_copy_kind(w.copy) == kind);
    CT_REQUIRE(pint_stream_create(device, &w.stream, &live_err) == PINT_OK);
    if (is_maker) {
        put_ahead(&w);
        ct_ready();
        CT_REQUIRE(ct_wait_go()); /* never: it is killed */
        return 1;
    }
    if (strcmp(argv[2], "second") == 0) {
        ct_ready();
        CT_REQUIRE(ct_wait_go());
    }
    CT_REQUIRE(pint_copy_places(w.copy, 3) == 2); /* on the device alone, and there still */
    CT_REQUIRE(begin_all(&w, PINT_READ) == PINT_OK);
    EXPECT_EQ(world_device_sum(&w, 0, ROWS), (double)ROWS * (ROWS + 1) / 2);
    CT_REQUIRE(end_all(&w, PINT_READ) == PINT_OK);
    pint_copy_moved(w.copy, &to_device, NULL);
    EXPECT_EQ(to_device, 0u);
    if (strcmp(argv[2], "third") == 0) {
        CT_REQUIRE(pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 10000, NULL, &live_err) == PINT_OK);
    }
    world_leave(&w);
    return 0;
}

static pid_t start(const char *role, uint32_t kind)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", kind);
    const char *const args[] = {ct_tmpdir(), role, number, NULL};
    return ct_spawn("one_of_three", args);
}

static void outlive_the_maker(uint32_t kind)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w, kind));
    /* this process has no part in it */
    pint_stream_destroy(w.device, w.stream);
    ASSERT_OK(pint_copy_drop(w.copy, &live_err), &live_err);
    pint_copy_close(w.copy);
    pint_device_close(w.device);
    w.stream = NULL;
    w.copy = NULL;
    w.device = NULL;
    const pid_t maker = start("maker", kind);
    ASSERT_TRUE(ct_wait_ready(maker));
    const pid_t second = start("second", kind);
    ASSERT_TRUE(ct_wait_ready(second));
    ASSERT_EQ(kill(maker, SIGKILL), 0);
    EXPECT_EQ(ct_wait(maker), 128 + SIGKILL);
    ASSERT_TRUE(ct_eventually(live_stat_sessions() == 2, 20000)); /* the service has swept it */
    EXPECT_TRUE(ct_go(second));
    EXPECT_EQ(ct_wait(second), 0);
    EXPECT_EQ(ct_wait(start("third", kind)), 0);
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(world_host(&w)[i], (double)(i + 1));
    }
    world_tear_down(&w);
}

TEST(ThreeProcesses, TheMakerOfADescriptorIsKilledAndAThirdImports, .timeout_s = 60)
{
    outlive_the_maker(PINT_COPY_VMM);
}

TEST(ThreeProcesses, TheMakerOfAHandleIsKilledAndAThirdImports, .timeout_s = 60)
{
    outlive_the_maker(PINT_COPY_IPC);
}

/* ---- a kernel that fails --------------------------------------------------------------------- */

static void nothing(void *context)
{
    (void)context;
}

/* Every call says so from then on, with the driver's name; closing works. */
static void expect_lost(world *w)
{
    void *stream = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    const char *const name = "CUDA_ERROR_LAUNCH_FAILED (719)";
    EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_stream_wait(w->device, w->stream, &live_err), &live_err);
    EXPECT_NE(strstr(live_err.message, name), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_stream_create(w->device, &stream, &live_err), &live_err);
    EXPECT_NE(strstr(live_err.message, name), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST,
                  pint_stream_call(w->device, w->stream, nothing, NULL, &live_err), &live_err);
    EXPECT_NE(strstr(live_err.message, name), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, pint_device_get_info(w->device, &info, &live_err), &live_err);
    EXPECT_NE(strstr(live_err.message, name), NULL);
}

/* Its driver fails the argv[3]-th piece of work; argv[2] is what the kernel of that number does:
 *   write  the rows are newest on the host, too: they come back from there
 *   tear   they are newest on the device alone
 *   read   likewise, and they stay there */
PROC(has_bad_kernel)
{
    world w;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    const uint32_t access = strcmp(argv[2], "read") == 0 ? PINT_READ : RW;
    if (strcmp(argv[2], "write") != 0) {
        put_ahead(&w); /* work 1, 2: the pull, the kernel */
    }
    CT_REQUIRE(begin_all(&w, access) == PINT_OK); /* "write": work 1 */
    CT_REQUIRE(pint_stream_call(w.device, w.stream, nothing, NULL, &live_err) == PINT_OK);
    const pint_status ended = end_all(&w, access); /* may know by now */
    CT_REQUIRE(ended == PINT_OK || ended == PINT_E_DEVICE_LOST);
    expect_lost(&w);
    const uint32_t places = strcmp(argv[2], "write") == 0  ? 1
                            : strcmp(argv[2], "tear") == 0 ? 0
                                                           : 2;
    CT_REQUIRE(world_places(&w, 0, places) && world_places(&w, 3, places));
    /* whether the chunk is looked at first, or the stream */
    const pint_status begun = begin_all(&w, PINT_READ);
    CT_REQUIRE(begun == PINT_E_DEVICE_LOST || begun == (places == 0   ? PINT_E_TORN
                                                        : places == 1 ? PINT_E_DEVICE_LOST
                                                                      : PINT_OK));
    world_leave(&w);
    return 0;
}

static void fail_kernel(const char *what, const char *setting, pint_status status, double first)
{
    world w;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w, PINT_COPY_VMM));
    const pid_t pid = ct_spawn_opts("has_bad_kernel", ENV(ct_tmpdir(), what),
                                    .env = ENV("PINT_TEST_DEVICE=cuda:0", setting));
    EXPECT_EQ(ct_wait(pid), 0);
    const pint_status brought = pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, 20000, NULL, &live_err);
    EXPECT_STATUS(status, brought, &live_err);
    if (status == PINT_OK) {
        for (uint64_t i = 0; i < ROWS; i++) {
            ASSERT_EQ(world_host(&w)[i], first + (double)i);
        }
    }
    EXPECT_STATUS(status, pint_lease_claim(&w.x, 1, 0, PINT_UPDATE, 10000, &lease, &live_err),
                  &live_err);
    if (status == PINT_OK) {
        ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    }
    /* a whole rewrite is allowed always, here where the context is in order */
    ASSERT_OK(begin_all(&w, PINT_WRITE), &live_err);
    ASSERT_OK(end_all(&w, PINT_WRITE), &live_err);
    EXPECT_TRUE(world_places(&w, 0, 2));
    world_tear_down(&w);
}

TEST(BadKernel, WritingRollsBackToTheHost, .timeout_s = 60)
{
    fail_kernel("write", "FAKECUDA_FAIL=work:2:719", PINT_OK, 0);
}

TEST(BadKernel, WritingWhatTheDeviceAloneHasTears, .timeout_s = 60)
{
    fail_kernel("tear", "FAKECUDA_FAIL=work:3:719", PINT_E_TORN, 0);
}

TEST(BadKernel, ReadingLeavesTheRowsOnTheDevice, .timeout_s = 60)
{
    fail_kernel("read", "FAKECUDA_FAIL=work:3:719", PINT_OK, 1);
}
