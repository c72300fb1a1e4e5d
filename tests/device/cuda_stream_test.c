/* SPDX-License-Identifier: Apache-2.0 */

/* Backend "cuda" on the fake driver: streams, copies, marks, and every call failing in turn. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/device/cuda_gpu.h"
#include "tests/support/ct.h"

#define OPS    (&pinti_cuda_backend)
#define PIECES 300u
#define PIECE  64u

/* A device with mapped memory, registered host memory and a stream. */
typedef struct bench {
    pinti_backend *backend;
    uint64_t device;
    char *host;
    void *stream;
} bench;

static bench bench_open(const char *const *settings)
{
    bench b = {.backend = gpu_open(settings)};
    pint_error err;
    const int fd = gpu_memory(GRANULE);
    EXPECT_OK(OPS->import(b.backend, PINT_COPY_VMM, fd, NULL, GRANULE, true, &b.device, &err),
              &err);
    EXPECT_EQ(close(fd), 0);
    b.host = gpu_host_memory(GRANULE, true);
    EXPECT_OK(OPS->pin(b.backend, b.host, GRANULE, false, &err), &err);
    EXPECT_OK(OPS->stream_create(b.backend, &b.stream, &err), &err);
    return b;
}

static void bench_close(bench *b)
{
    pint_error err;
    OPS->stream_destroy(b->backend, b->stream);
    EXPECT_OK(OPS->unpin(b->backend, b->host, GRANULE, &err), &err);
    EXPECT_EQ(munmap(b->host, GRANULE), 0);
    OPS->release(b->backend, PINT_COPY_VMM, b->device, GRANULE);
    OPS->close(b->backend);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    fake_end();
}

/* Every other 64 bytes, so that pieces are apart on both sides. */
static void lay_out(const bench *b, pinti_piece *pieces, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        pieces[i] =
            (pinti_piece){b->device + 2ull * i * PIECE, b->host + (size_t)2 * i * PIECE, PIECE};
    }
}

/* There and back; in between the host's bytes are wiped. */
static void move(bench *b, uint32_t n, void *stream)
{
    pinti_piece pieces[PIECES];
    pint_error err;
    lay_out(b, pieces, n);
    memset(b->host, 'h', GRANULE);
    memset((void *)(uintptr_t)b->device, 'd', GRANULE);
    for (uint32_t i = 0; i < n; i++) {
        memset(pieces[i].host, 1 + (int)(i % 100), PIECE);
    }
    ASSERT_OK(OPS->copy(b->backend, true, pieces, n, stream, &err), &err);
    ASSERT_OK(OPS->stream_wait(b->backend, stream, &err), &err);
    const char *device = (const char *)(uintptr_t)b->device;
    for (uint32_t i = 0; i < n; i++) {
        EXPECT_EQ(device[(size_t)2 * i * PIECE], 1 + (int)(i % 100));
        EXPECT_EQ(device[(size_t)2 * i * PIECE + PIECE], 'd');
    }
    memset(b->host, 'h', GRANULE);
    ASSERT_OK(OPS->copy(b->backend, false, pieces, n, stream, &err), &err);
    ASSERT_OK(OPS->stream_wait(b->backend, stream, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        EXPECT_EQ(b->host[(size_t)2 * i * PIECE + PIECE - 1], 1 + (int)(i % 100));
        EXPECT_EQ(b->host[(size_t)2 * i * PIECE + PIECE], 'h');
    }
}

/* ---- copies ---------------------------------------------------------------------------------- */

TEST(CudaCopy, ManyPiecesOnARealStreamAreOneCall)
{
    bench b = bench_open(NULL);
    move(&b, 4, b.stream);
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 2u);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync") + fake.calls("cuMemcpyDtoHAsync"), 0u);
    move(&b, PIECES, b.stream); /* 128, 128, 44, each way */
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 8u);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync") + fake.calls("cuMemcpyDtoHAsync"), 0u);
    EXPECT_EQ(fake.bytes_to_device(), (4u + PIECES) * PIECE);
    EXPECT_EQ(fake.bytes_to_host(), (4u + PIECES) * PIECE);
    bench_close(&b);
}

TEST(CudaCopy, FewPiecesAndDefaultStreamsAreSingleCalls)
{
    bench b = bench_open(NULL);
    move(&b, 3, b.stream);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 3u);
    EXPECT_EQ(fake.calls("cuMemcpyDtoHAsync"), 3u);
    move(&b, 5, NULL);
    move(&b, 5, PINTI_CU_STREAM_LEGACY);
    move(&b, 5, PINTI_CU_STREAM_PER_THREAD);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 18u);
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 0u);
    bench_close(&b);
}

TEST(CudaCopy, WithoutTheBatchEntryPoint)
{
    bench b = bench_open((const char *const[]){"FAKECUDA_FAIL=cuMemcpyBatchAsync:1+:801", NULL});
    move(&b, 6, b.stream); /* there, but refused */
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 2u);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 6u);
    bench_close(&b);
}

TEST(CudaCopy, ABatchThatIsRefusedIsDonePieceByPiece)
{
    bench b = bench_open(
        (const char *const[]){"FAKECUDA_FAIL=cuMemcpyBatchAsync:1:1,cuMemcpyHtoDAsync:7:1", NULL});
    pinti_piece pieces[6];
    pint_error err;
    move(&b, 6, b.stream);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 6u);
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 2u);
    lay_out(&b, pieces, 6);
    pieces[0].host = b.host + GRANULE; /* not registered */
    EXPECT_STATUS(PINT_E_DEVICE, OPS->copy(b.backend, true, pieces, 6, b.stream, &err), &err);
    EXPECT_NE(strstr(err.message, "64 bytes: cuMemcpyHtoDAsync: CUDA_ERROR_INVALID_VALUE"), NULL);
    bench_close(&b);
    b = bench_open((const char *const[]){"FAKECUDA_FAIL=cuMemcpyBatchAsync:1:719", NULL});
    lay_out(&b, pieces, 6);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->copy(b.backend, true, pieces, 6, b.stream, &err), &err);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 0u);
    bench_close(&b);
}

/* A driver of 12.8: its entry point of that name has other parameters. */
PROC(old_driver)
{
    /* its version counts when it is loaded, which is now, and later ones are the fake's own */
    CT_REQUIRE(setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1) == 0);
    CT_REQUIRE(pinti_cuda_load(NULL) == PINT_OK);
    bench b = bench_open((const char *const[]){"FAKECUDA_VERSION=12080", NULL});
    move(&b, 6, b.stream);
    EXPECT_EQ(fake.calls("cuMemcpyBatchAsync"), 0u);
    EXPECT_EQ(fake.calls("cuMemcpyHtoDAsync"), 6u);
    bench_close(&b);
    return 0;
}

TEST(CudaCopy, WithADriverThatDoesNotHaveIt)
{
    static const char *const env[] = {"FAKECUDA_VERSION=12080", NULL};
    const pid_t pid = ct_spawn_opts("old_driver", NULL, .env = env);
    EXPECT_EQ(ct_wait(pid), 0);
}

TEST(CudaCopy, OnlyOfRegisteredMemoryAndNotAcrossTwo)
{
    bench b = bench_open(NULL);
    pint_error err;
    char *plain = gpu_host_memory(2 * 4096, true);
    pinti_piece piece = {b.device, plain, 4096};
    EXPECT_STATUS(PINT_E_DEVICE, OPS->copy(b.backend, true, &piece, 1, b.stream, &err), &err);
    ASSERT_OK(OPS->pin(b.backend, plain, 4096, false, &err), &err);
    ASSERT_OK(OPS->pin(b.backend, plain + 4096, 4096, false, &err), &err);
    piece = (pinti_piece){b.device, plain + 2048, 4096};
    EXPECT_STATUS(PINT_E_DEVICE, OPS->copy(b.backend, false, &piece, 1, b.stream, &err), &err);
    EXPECT_OK(OPS->unpin(b.backend, plain, 4096, &err), &err);
    EXPECT_OK(OPS->unpin(b.backend, plain + 4096, 4096, &err), &err);
    EXPECT_EQ(munmap(plain, 2 * 4096), 0);
    bench_close(&b);
}

/* ---- streams and marks ----------------------------------------------------------------------- */

static void count(void *context)
{
    ++*(int *)context;
}

TEST(CudaStream, DestroyWaitsForItsWork)
{
    bench b = bench_open(NULL);
    void *stream = NULL;
    pint_error err;
    int n = 0;
    ASSERT_OK(OPS->stream_create(b.backend, &stream, &err), &err);
    ASSERT_OK(OPS->stream_call(b.backend, stream, count, &n, &err), &err);
    ASSERT_OK(OPS->stream_call(b.backend, stream, count, &n, &err), &err);
    EXPECT_EQ(n, 0);
    OPS->stream_destroy(b.backend, stream);
    EXPECT_EQ(n, 2);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->stream_wait(b.backend, stream, &err), &err);
    bench_close(&b);
}

TEST(CudaMark, PassesWhenTheWorkBeforeItIsDone)
{
    bench b = bench_open(NULL);
    pinti_mark *mark = NULL;
    pint_error err;
    int n = 0;
    ASSERT_OK(OPS->stream_call(b.backend, b.stream, count, &n, &err), &err);
    ASSERT_OK(OPS->mark(b.backend, b.stream, &mark, &err), &err);
    ASSERT_OK(OPS->stream_call(b.backend, b.stream, count, &n, &err), &err);
    EXPECT_STATUS(PINT_E_TIMEOUT, OPS->mark_passed(b.backend, mark, &err), &err);
    ASSERT_OK(OPS->mark_wait(b.backend, mark, &err), &err);
    EXPECT_EQ(n, 1); /* not what came after it */
    EXPECT_OK(OPS->mark_passed(b.backend, mark, &err), &err);
    OPS->mark_free(b.backend, mark);
    OPS->mark_free(b.backend, NULL);
    EXPECT_EQ(fake.calls("cuEventDestroy"), 1u);
    bench_close(&b);
}

/* In any order of the streams: the second stream's read comes after the first one's write. */
TEST(CudaMark, AnotherStreamWaitsForIt)
{
    for (unsigned int seed = 1; seed <= 20; seed++) {
        char setting[32];
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_SEED=%u", seed);
        bench b = bench_open((const char *const[]){"FAKECUDA_ASYNC=random", setting, NULL});
        void *second = NULL;
        pinti_mark *mark = NULL;
        pint_error err;
        ASSERT_OK(OPS->stream_create(b.backend, &second, &err), &err);
        memset(b.host, 'a', PIECE);
        const pinti_piece there = {b.device, b.host, PIECE};
        const pinti_piece back = {b.device, b.host + PIECE, PIECE};
        ASSERT_OK(OPS->copy(b.backend, true, &there, 1, b.stream, &err), &err);
        ASSERT_OK(OPS->mark(b.backend, b.stream, &mark, &err), &err);
        ASSERT_OK(OPS->stream_after(b.backend, second, mark, &err), &err);
        OPS->mark_free(b.backend, mark); /* the wait does not need it any more */
        ASSERT_OK(OPS->copy(b.backend, false, &back, 1, second, &err), &err);
        ASSERT_OK(OPS->stream_wait(b.backend, second, &err), &err);
        EXPECT_EQ(b.host[PIECE], 'a');
        OPS->stream_destroy(b.backend, second);
        bench_close(&b);
    }
}

TEST(CudaMark, FailedWorkIsALostDevice)
{
    bench b = bench_open((const char *const[]){"FAKECUDA_FAIL=work:1:719", NULL});
    pinti_mark *mark = NULL;
    pint_error err;
    int n = 0;
    ASSERT_OK(OPS->stream_call(b.backend, b.stream, count, &n, &err), &err);
    ASSERT_OK(OPS->mark(b.backend, b.stream, &mark, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->mark_wait(b.backend, mark, &err), &err);
    EXPECT_NE(strstr(err.message, "CUDA_ERROR_LAUNCH_FAILED"), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->mark_passed(b.backend, mark, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->stream_wait(b.backend, b.stream, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->stream_call(b.backend, b.stream, count, &n, &err), &err);
    EXPECT_EQ(n, 0);
    OPS->mark_free(b.backend, mark);
    bench_close(&b); /* everything is given back all the same */
}

TEST(CudaMark, DriversOwnThreadDoesTheWork)
{
    bench b = bench_open((const char *const[]){"FAKECUDA_ASYNC=thread", NULL});
    pinti_mark *mark = NULL;
    pint_error err;
    int n = 0;
    ASSERT_OK(OPS->stream_call(b.backend, b.stream, count, &n, &err), &err);
    ASSERT_OK(OPS->mark(b.backend, b.stream, &mark, &err), &err);
    EXPECT_TRUE(ct_eventually(OPS->mark_passed(b.backend, mark, NULL) == PINT_OK, 10000));
    EXPECT_EQ(n, 1);
    OPS->mark_free(b.backend, mark);
    bench_close(&b);
}

/* ---- every call failing in turn -------------------------------------------------------------- */

/* Everything the backend does, to the first failure; all that was had is given back. */
static pint_status round_trip(int fd, char *host, pint_error *err)
{
    pinti_backend *backend = NULL;
    uint64_t device = 0;
    uint64_t mapped = 0;
    void *stream = NULL;
    void *staging = NULL;
    pinti_mark *mark = NULL;
    int n = 0;
    pint_status status = OPS->open("0", &backend, err);
    if (status != PINT_OK) {
        return status;
    }
    status = OPS->import(backend, PINT_COPY_VMM, fd, NULL, GRANULE, true, &device, err);
    if (status == PINT_OK) {
        status = OPS->staging_alloc(backend, 4096, &staging, err);
    }
    bool is_pinned = false;
    if (status == PINT_OK) {
        status = OPS->pin(backend, host, 4096, false, err);
        is_pinned = status == PINT_OK;
    }
    if (status == PINT_OK) {
        status = OPS->mapped(backend, host, &mapped, err);
    }
    if (status == PINT_OK) {
        status = OPS->stream_create(backend, &stream, err);
    }
    pinti_piece pieces[4];
    for (uint32_t i = 0; i < 4; i++) {
        pieces[i] = (pinti_piece){device + (uint64_t)i * PIECE, host + (size_t)i * PIECE, PIECE};
    }
    if (status == PINT_OK) {
        status = OPS->copy(backend, true, pieces, 4, stream, err);
    }
    if (status == PINT_OK) {
        status = OPS->copy(backend, true, pieces, 1, stream, err);
    }
    if (status == PINT_OK) {
        status = OPS->copy(backend, false, pieces, 1, stream, err);
    }
    if (status == PINT_OK) {
        status = OPS->stream_call(backend, stream, count, &n, err);
    }
    if (status == PINT_OK) {
        status = OPS->mark(backend, stream, &mark, err);
    }
    if (status == PINT_OK) {
        status = OPS->stream_after(backend, NULL, mark, err);
    }
    if (status == PINT_OK) {
        status = OPS->mark_wait(backend, mark, err);
    }
    if (status == PINT_OK) {
        status = OPS->mark_passed(backend, mark, err);
    }
    if (status == PINT_OK) {
        status = OPS->stream_wait(backend, stream, err);
    }
    OPS->mark_free(backend, mark);
    if (stream != NULL) {
        OPS->stream_destroy(backend, stream);
    }
    if (is_pinned) {
        const pint_status undone = OPS->unpin(backend, host, 4096, status == PINT_OK ? err : NULL);
        status = status == PINT_OK ? undone : status;
    }
    if (staging != NULL) {
        OPS->staging_free(backend, staging, 4096);
    }
    if (device != 0) {
        OPS->release(backend, PINT_COPY_VMM, device, GRANULE);
    }
    OPS->close(backend);
    return status;
}

/* Calls that make something, and those that end it. */
static const char *const pairs[][2] = {
    {"cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease"},
    {"cuCtxPushCurrent", "cuCtxPopCurrent"},
    {"cuMemImportFromShareableHandle", "cuMemRelease"},
    {"cuMemAddressReserve", "cuMemAddressFree"},
    {"cuMemMap", "cuMemUnmap"},
    {"cuMemHostRegister", "cuMemHostUnregister"},
    {"cuMemHostAlloc", "cuMemFreeHost"},
    {"cuStreamCreate", "cuStreamDestroy"},
    {"cuEventCreate", "cuEventDestroy"},
};

static bool is_named(const char *name, const char *a, const char *b)
{
    return strcmp(name, a) == 0 || strcmp(name, b) == 0;
}

/* One round with the n-th call of name failing. False: there is no n-th call. */
static bool try_with(int fd, const char *name, unsigned int nth, pint_status *out_status)
{
    char setting[128];
    pint_error err;
    char *host = gpu_host_memory(4096, true);
    (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=%s:%u:1", name, nth);
    fake_begin((const char *const[]){setting, NULL});
    *out_status = round_trip(fd, host, &err);
    EXPECT_EQ(munmap(host, 4096), 0);
    return fake.calls(name) >= nth;
}

/* Memory that another process made, as far as the fake knows. */
static int foreign_memory(void)
{
    fake_begin(NULL);
    const int fd = gpu_memory(GRANULE);
    fake_end();
    return fd;
}

/* Staging memory is registered first; refused, the driver allocates it. */
static bool has_another_way(const char *name, unsigned int nth)
{
    return strcmp(name, "cuMemHostRegister") == 0 && nth == 1;
}

TEST(CudaFailures, EveryCallThatDoesSomethingIsReportedAndUndone)
{
    static const char *const names[] = {
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetUuid",
        "cuDeviceGetName",
        "cuDevicePrimaryCtxRetain",
        "cuMemGetAllocationGranularity",
        "cuMemImportFromShareableHandle",
        "cuMemAddressReserve",
        "cuMemMap",
        "cuMemSetAccess",
        "cuMemRelease",
        "cuMemHostRegister",
        "cuMemHostGetDevicePointer",
        "cuStreamCreate",
        "cuMemcpyHtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuLaunchHostFunc",
        "cuEventCreate",
        "cuEventRecord",
        "cuStreamWaitEvent",
        "cuEventSynchronize",
        "cuEventQuery",
        "work",
    };
    const int fd = foreign_memory();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unsigned int nth = 1;
        for (pint_status status; try_with(fd, names[i], nth, &status); nth++) {
            if ((status == PINT_OK) != has_another_way(names[i], nth)) {
                FAIL("%s failed, the %u. time, and nothing was said", names[i], nth);
            }
            for (size_t k = 0; k < sizeof(pairs) / sizeof(pairs[0]); k++) {
                const uint64_t refused = is_named(names[i], pairs[k][0], "") ? 1 : 0;
                if (fake.calls(pairs[k][0]) - refused != fake.calls(pairs[k][1])) {
                    FAIL("%s failed, the %u. time: %s %u, %s %u", names[i], nth, pairs[k][0],
                         (unsigned int)fake.calls(pairs[k][0]), pairs[k][1],
                         (unsigned int)fake.calls(pairs[k][1]));
                }
            }
            /* A handle that cannot be released keeps its memory. */
            EXPECT_EQ(gpu_used_bytes(), is_named(names[i], "cuMemRelease", "") ? GRANULE : 0);
            fake_end();
        }
        EXPECT_GT(nth, 1u); /* it is called at all */
        fake_end();
    }
    EXPECT_EQ(close(fd), 0);
}

/* What fails while something is given back stays, and nothing else does. */
TEST(CudaFailures, ACallThatEndsSomethingFailsAlone)
{
    static const char *const names[] = {"cuMemUnmap",          "cuMemAddressFree",
                                        "cuStreamDestroy",     "cuEventDestroy",
                                        "cuMemHostUnregister", "cuDevicePrimaryCtxRelease"};
    const int fd = foreign_memory();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unsigned int nth = 1;
        for (pint_status status; try_with(fd, names[i], nth, &status); nth++) {
            for (size_t k = 0; k < sizeof(pairs) / sizeof(pairs[0]); k++) {
                /* addresses that are still mapped are not given back */
                if (!is_named(names[i], pairs[k][1],
                              strcmp(pairs[k][1], "cuMemAddressFree") == 0 ? "cuMemUnmap" : "")) {
                    EXPECT_EQ(fake.calls(pairs[k][0]), fake.calls(pairs[k][1]));
                }
            }
            fake_end();
        }
        EXPECT_GT(nth, 1u);
        fake_end();
    }
    EXPECT_EQ(close(fd), 0);
}

/* As a library that records a graph on another thread has it. */
TEST(CudaCapture, OfAnotherThreadForbidsNothing)
{
    const int fd = foreign_memory();
    pint_error err;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pinti_backend *backend = NULL;
    char *host = gpu_host_memory(4096, true);
    fake_begin((const char *const[]){"FAKECUDA_CAPTURE=elsewhere", NULL});
    EXPECT_OK(round_trip(fd, host, &err), &err);
    ASSERT_OK(OPS->open("0", &backend, &err), &err);
    EXPECT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_TRUE(info.can_vmm == 1 && info.can_ipc == 1 && info.can_map_host == 1);
    OPS->close(backend);
    /* The thread is as it was: its own calls are forbidden. */
    EXPECT_EQ(pinti_cuda.mem_host_unregister(host), PINTI_CU_CAPTURE_UNSUPPORTED);
    EXPECT_EQ(munmap(host, 4096), 0);
    EXPECT_EQ(close(fd), 0);
    fake_end();
}

/* Work on such a stream is only noted down: a mark there never passes. */
TEST(CudaCapture, OfTheStreamItselfIsRefused)
{
    bench b = bench_open((const char *const[]){"FAKECUDA_CAPTURE=streams", NULL});
    pinti_mark *mark = NULL;
    pint_error err;
    EXPECT_STATUS(PINT_E_STATE, OPS->stream_check(b.backend, b.stream, &err), &err);
    EXPECT_STATUS(PINT_E_STATE, OPS->mark(b.backend, b.stream, &mark, &err), &err);
    EXPECT_OK(OPS->stream_check(b.backend, NULL, &err), &err);
    EXPECT_EQ(fake.calls("cuEventCreate"), 0u);
    bench_close(&b);
}

/* Not being able to enter the context is an error of each call, and leaves the thread as it was. */
TEST(CudaFailures, TheContextCannotBeMadeCurrent)
{
    const int fd = foreign_memory();
    unsigned int nth = 1;
    for (pint_status status; try_with(fd, "cuCtxPushCurrent", nth, &status); nth++) {
        EXPECT_EQ((void *)gpu_current(), NULL);
        EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRetain"), fake.calls("cuDevicePrimaryCtxRelease"));
        fake_end();
    }
    EXPECT_GT(nth, 15u);
    fake_end();
    EXPECT_EQ(close(fd), 0);
}
