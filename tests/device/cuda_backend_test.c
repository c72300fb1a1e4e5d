/* SPDX-License-Identifier: Apache-2.0 */

/* Backend "cuda" on the fake driver: devices, contexts, abilities, memory. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/device/cuda_gpu.h"
#include "tests/support/ct.h"

#define OPS (&pinti_cuda_backend)

/* "fakecuda-device" and the number of the device. */
#define UUID_0_DASHED "66616b65-6375-6461-2d64-657669636500"
#define UUID_0_DIGITS "66616b65637564612d64657669636500"
#define UUID_1_DASHED "66616b65-6375-6461-2d64-657669636501"

static const char *const two_devices[] = {"FAKECUDA_DEVICES=2", NULL};

/* ---- which device ---------------------------------------------------------------------------- */

static uint8_t last_of_uuid(const char *which)
{
    pinti_backend *backend = NULL;
    pint_error err;
    const pint_status status = OPS->open(which, &backend, &err);
    EXPECT_OK(status, &err);
    if (status != PINT_OK) {
        return 255;
    }
    const uint8_t last = backend->uuid[15];
    EXPECT_TRUE(backend->is_cuda);
    EXPECT_MEMEQ(backend->uuid, "fakecuda-device", 15);
    OPS->close(backend);
    return last;
}

TEST(CudaOpen, ByNumberAndByUuid)
{
    fake_begin(two_devices);
    EXPECT_EQ(last_of_uuid("0"), 0);
    EXPECT_EQ(last_of_uuid("1"), 1);
    EXPECT_EQ(last_of_uuid("001"), 1);
    EXPECT_EQ(last_of_uuid("GPU-" UUID_1_DASHED), 1);
    EXPECT_EQ(last_of_uuid("MIG-" UUID_0_DASHED), 0);
    EXPECT_EQ(last_of_uuid(UUID_0_DIGITS), 0);
    EXPECT_EQ(last_of_uuid("GPU-66616B65-6375-6461-2D64-657669636501"), 1);
    fake_end();
}

TEST(CudaOpen, WhatIsNotThereIsSaid)
{
    static const char *const none[] = {"2", "999", "GPU-00000000-0000-0000-0000-000000000000",
                                       "00000000000000000000000000000000",
                                       "66616b65637564612d64657669636502"};
    static const char *const wrong[] = {"",
                                        "-1",
                                        "+0",
                                        " 0",
                                        "0 ",
                                        "0000",
                                        "0x0",
                                        "gpu-" UUID_0_DASHED,
                                        UUID_0_DASHED,
                                        "GPU-" UUID_0_DIGITS,
                                        "GPU-" UUID_0_DASHED "0",
                                        UUID_0_DIGITS "0",
                                        "66616b65637564612d6465766963650",
                                        "66616b65637564612d6465766963650g",
                                        "GPU-66616b656-375-6461-2d64-657669636500"};
    pinti_backend *backend = NULL;
    pint_error err;
    fake_begin(two_devices);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        EXPECT_STATUS(PINT_E_NO_DEVICE, OPS->open(none[i], &backend, &err), &err);
        EXPECT_NE(strstr(err.message, none[i]), NULL);
        EXPECT_NE(strstr(err.message, "CUDA_VISIBLE_DEVICES"), NULL);
        EXPECT_NE(strstr(err.message, "2 GPUs"), NULL);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        EXPECT_STATUS(PINT_E_NO_DEVICE, OPS->open(wrong[i], &backend, &err), &err);
        EXPECT_NE(strstr(err.message, "32 hexadecimal digits"), NULL);
    }
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRetain"), 0u);
    fake_end();
}

TEST(CudaOpen, NumbersAreThoseOfTheVisibleDevices)
{
    pinti_backend *backend = NULL;
    pint_error err;
    fake_begin((const char *const[]){"FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=1", NULL});
    EXPECT_EQ(last_of_uuid("0"), 1);
    EXPECT_STATUS(PINT_E_NO_DEVICE, OPS->open("1", &backend, &err), &err);
    EXPECT_STATUS(PINT_E_NO_DEVICE, OPS->open("GPU-" UUID_0_DASHED, &backend, &err), &err);
    fake_end();
}

TEST(CudaOpen, DeviceInUseByAnotherIsSaid)
{
    pinti_backend *backend = NULL;
    pint_error err;
    fake_begin((const char *const[]){"FAKECUDA_FAIL=cuDevicePrimaryCtxRetain:1:46", NULL});
    EXPECT_STATUS(PINT_E_NO_DEVICE, OPS->open("0", &backend, &err), &err);
    EXPECT_NE(strstr(err.message, "compute mode"), NULL);
    fake_end();
}

/* ---- context --------------------------------------------------------------------------------- */

TEST(CudaContext, IsRetainedWhileOpenAndNeverLeftCurrent)
{
    pinti_backend *backend = gpu_open(NULL);
    pinti_backend *second = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    void *stream = NULL;
    EXPECT_EQ((void *)gpu_current(), NULL);
    EXPECT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ((void *)gpu_current(), NULL);
    EXPECT_OK(OPS->open("0", &second, &err), &err);
    OPS->close(second);
    /* The second's end did not take the first's context. */
    EXPECT_OK(OPS->stream_create(backend, &stream, &err), &err);
    OPS->stream_destroy(backend, stream);
    EXPECT_EQ((void *)gpu_current(), NULL);
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRetain"), 2u);
    OPS->close(backend);
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRelease"), 2u);
    EXPECT_EQ(fake.calls("cuCtxPushCurrent"), fake.calls("cuCtxPopCurrent"));
    fake_end();
}

TEST(CudaContext, AnotherDevicesContextStaysCurrent)
{
    pinti_backend *backend = gpu_open(two_devices);
    pinti_cu_context other = NULL;
    pint_error err;
    void *stream = NULL;
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&other, 1), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.ctx_push_current(other), PINTI_CU_SUCCESS);
    EXPECT_OK(OPS->stream_create(backend, &stream, &err), &err);
    EXPECT_OK(OPS->stream_wait(backend, stream, &err), &err);
    OPS->stream_destroy(backend, stream);
    EXPECT_EQ((void *)gpu_current(), (void *)other);
    OPS->close(backend);
    fake_end();
}

TEST(CudaContext, TakenAwayByAResetIsLost)
{
    pinti_backend *backend = gpu_open(NULL);
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    void *stream = NULL;
    ASSERT_OK(OPS->stream_create(backend, &stream, &err), &err);
    ASSERT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->info(backend, &info, &err), &err);
    EXPECT_NE(strstr(err.message, "cudaDeviceReset"), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->stream_wait(backend, stream, &err), &err);
    OPS->stream_destroy(backend, stream);
    OPS->close(backend);
    fake_end();
}

/* At the same address, but nothing that we had in it is there. */
TEST(CudaContext, MadeAnewAfterAResetIsLostToo)
{
    pinti_backend *backend = gpu_open(NULL);
    pinti_cu_context anew = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    void *stream = NULL;
    ASSERT_OK(OPS->stream_create(backend, &stream, &err), &err);
    ASSERT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&anew, 0), PINTI_CU_SUCCESS);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->info(backend, &info, &err), &err);
    EXPECT_NE(strstr(err.message, "cudaDeviceReset"), NULL);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->stream_wait(backend, stream, &err), &err);
    EXPECT_EQ((void *)gpu_current(), NULL);
    OPS->stream_destroy(backend, stream);
    OPS->close(backend);
    fake_end();
}

/* ---- abilities ------------------------------------------------------------------------------- */

TEST(CudaInfo, IsWhatWasTriedOnce)
{
    pinti_backend *backend = gpu_open((const char *const[]){"FAKECUDA_MEMORY_MIB=64", NULL});
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    ASSERT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ(info.is_cuda, 1u);
    EXPECT_EQ(info.memory_bytes, 64ull << 20);
    EXPECT_EQ(info.free_bytes, 64ull << 20);
    EXPECT_EQ(info.can_vmm, 1u);
    EXPECT_EQ(info.can_ipc, 1u);
    EXPECT_EQ(info.can_map_host, 1u);
    EXPECT_EQ(info.driver_version, 13000u);
    EXPECT_STREQ(backend->name, "Fake device 0");
    const uint64_t n_created = fake.calls("cuMemCreate");
    EXPECT_EQ(n_created, 1u);
    ASSERT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ(fake.calls("cuMemCreate"), n_created);
    EXPECT_EQ(fake.calls("cuMemHostRegister"), 1u);
    EXPECT_EQ(info.free_bytes, 64ull << 20); /* nothing stayed */
    OPS->close(backend);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    fake_end();
}

static pint_device_info info_with(const char *setting)
{
    pinti_backend *backend = gpu_open((const char *const[]){setting, NULL});
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    EXPECT_OK(OPS->info(backend, &info, &err), &err);
    OPS->close(backend);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    fake_end();
    return info;
}

TEST(CudaInfo, EveryStepOfATrialCounts)
{
    static const char *const vmm[] = {"cuMemCreate",
                                      "cuMemExportToShareableHandle",
                                      "cuMemImportFromShareableHandle",
                                      "cuMemAddressReserve",
                                      "cuMemMap",
                                      "cuMemSetAccess",
                                      "cuMemGetAllocationGranularity"};
    static const char *const ipc[] = {"cuMemAlloc", "cuIpcGetMemHandle"};
    static const char *const map[] = {"cuMemHostRegister", "cuMemHostGetDevicePointer"};
    char setting[128];
    for (size_t i = 0; i < sizeof(vmm) / sizeof(vmm[0]); i++) {
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=%s:1:801", vmm[i]);
        const pint_device_info info = info_with(setting);
        EXPECT_TRUE(info.can_vmm == 0 && info.can_ipc == 1 && info.can_map_host == 1);
    }
    for (size_t i = 0; i < sizeof(ipc) / sizeof(ipc[0]); i++) {
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=%s:1:801", ipc[i]);
        const pint_device_info info = info_with(setting);
        EXPECT_TRUE(info.can_vmm == 1 && info.can_ipc == 0 && info.can_map_host == 1);
    }
    for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=%s:1:801", map[i]);
        const pint_device_info info = info_with(setting);
        EXPECT_TRUE(info.can_vmm == 1 && info.can_ipc == 1 && info.can_map_host == 0);
    }
}

TEST(CudaInfo, AFullDeviceSaysNothingAboutItsAbilities)
{
    pinti_backend *backend = gpu_open((const char *const[]){"FAKECUDA_FAIL=cuMemCreate:1:2", NULL});
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    ASSERT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ(info.can_vmm, 1u);
    ASSERT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ(fake.calls("cuMemCreate"), 2u);
    ASSERT_OK(OPS->info(backend, &info, &err), &err);
    EXPECT_EQ(fake.calls("cuMemCreate"), 2u);
    OPS->close(backend);
    fake_end();
}

/* ---- memory of copies ------------------------------------------------------------------------ */

TEST(CudaImport, SameMemoryTwiceOnceToWriteOnceToRead)
{
    pinti_backend *backend = gpu_open(NULL);
    const uint64_t bytes = GRANULE + 1; /* as a copy: not in granules */
    uint64_t writable = 0;
    uint64_t readable = 0;
    pint_error err;
    const int fd = gpu_memory(2 * GRANULE);
    ASSERT_OK(OPS->import(backend, PINT_COPY_VMM, fd, NULL, bytes, true, &writable, &err), &err);
    ASSERT_OK(OPS->import(backend, PINT_COPY_VMM, fd, NULL, bytes, false, &readable, &err), &err);
    ASSERT_EQ(close(fd), 0);
    EXPECT_NE(writable, readable);
    char *to = (char *)(uintptr_t)writable;
    const char *from = (const char *)(uintptr_t)readable;
    to[GRANULE] = 'x';
    EXPECT_EQ(from[GRANULE], 'x');
    EXPECT_EQ(gpu_used_bytes(), 2 * GRANULE);
    /* Written through the one that may only be read: the work fails. */
    char *host = gpu_host_memory(4096, true);
    ASSERT_OK(OPS->pin(backend, host, 4096, false, &err), &err);
    const pinti_piece piece = {readable, host, 4096};
    ASSERT_OK(OPS->copy(backend, true, &piece, 1, NULL, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->stream_wait(backend, NULL, &err), &err);
    OPS->release(backend, PINT_COPY_VMM, readable, bytes);
    OPS->release(backend, PINT_COPY_VMM, writable, bytes);
    EXPECT_EQ(fake.calls("cuMemUnmap"), 2u);
    EXPECT_EQ(fake.calls("cuMemAddressFree"), 2u);
    OPS->close(backend);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    ASSERT_EQ(munmap(host, 4096), 0);
    fake_end();
}

TEST(CudaImport, ProgramsDoNotInheritDescriptors)
{
    pinti_backend *backend = gpu_open(NULL);
    const int fd = gpu_memory(GRANULE);
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(close(fd), 0);
    OPS->close(backend);
    fake_end();
}

TEST(CudaImport, WhatIsNoMemoryOfTheDeviceIsRefused)
{
    pinti_backend *backend = gpu_open(NULL);
    const uint8_t no_handle[64] = {1};
    uint64_t address = 0;
    pint_error err;
    const int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int small_fd = gpu_memory(GRANULE);
    EXPECT_STATUS(PINT_E_DEVICE,
                  OPS->import(backend, PINT_COPY_VMM, null_fd, NULL, 1, true, &address, &err),
                  &err);
    EXPECT_STATUS(
        PINT_E_DEVICE,
        OPS->import(backend, PINT_COPY_VMM, small_fd, NULL, GRANULE + 1, true, &address, &err),
        &err);
    EXPECT_STATUS(
        PINT_E_UNSUPPORTED,
        OPS->import(backend, PINT_COPY_VMM, small_fd, NULL, UINT64_MAX, true, &address, &err),
        &err);
    EXPECT_STATUS(PINT_E_DEVICE,
                  OPS->import(backend, PINT_COPY_IPC, -1, no_handle, 1, true, &address, &err),
                  &err);
    EXPECT_NE(strstr(err.message, "CUDA_ERROR_INVALID_HANDLE"), NULL);
    EXPECT_NE(strstr(err.message, "one PID namespace"), NULL);
    EXPECT_STATUS(PINT_E_PROTOCOL,
                  OPS->import(backend, 3, small_fd, no_handle, 1, true, &address, &err), &err);
    EXPECT_EQ(close(null_fd), 0);
    EXPECT_EQ(close(small_fd), 0);
    OPS->close(backend);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    fake_end();
}

TEST(CudaImport, DeviceWithoutDescriptorsSaysSo)
{
    pinti_backend *backend =
        gpu_open((const char *const[]){"FAKECUDA_FAIL=cuMemGetAllocationGranularity:1:801", NULL});
    uint64_t address = 0;
    pint_error err;
    EXPECT_STATUS(PINT_E_UNSUPPORTED,
                  OPS->import(backend, PINT_COPY_VMM, 0, NULL, 1, true, &address, &err), &err);
    OPS->close(backend);
    fake_end();
}

/* ---- registration ---------------------------------------------------------------------------- */

TEST(CudaPin, RulesOfTheDriver)
{
    pinti_backend *backend = gpu_open(NULL);
    pint_error err;
    char *host = gpu_host_memory(4 * 4096, true);
    ASSERT_OK(OPS->pin(backend, host, 2 * 4096, false, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host + 4096, 2 * 4096, false, &err), &err);
    EXPECT_NE(strstr(err.message, "ALREADY_REGISTERED"), NULL);
    EXPECT_OK(OPS->pin(backend, host + 2 * 4096, 2 * 4096, false, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->unpin(backend, host + 4096, 4096, &err), &err);
    EXPECT_OK(OPS->unpin(backend, host, 2 * 4096, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->unpin(backend, host, 2 * 4096, &err), &err);
    EXPECT_OK(OPS->unpin(backend, host + 2 * 4096, 2 * 4096, &err), &err);
    EXPECT_OK(OPS->pin(backend, host, 4 * 4096, false, &err), &err);
    EXPECT_OK(OPS->unpin(backend, host, 4 * 4096, &err), &err);
    ASSERT_EQ(munmap(host, 4 * 4096), 0);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host, 4096, false, &err), &err);
    OPS->close(backend);
    fake_end();
}

TEST(CudaPin, ReadOnlyMemoryNeedsTheFlagAndItsSupport)
{
    pint_error err;
    char *host = gpu_host_memory(4096, false);
    pinti_backend *backend = gpu_open(NULL);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host, 4096, false, &err), &err);
    EXPECT_OK(OPS->pin(backend, host, 4096, true, &err), &err);
    EXPECT_OK(OPS->unpin(backend, host, 4096, &err), &err);
    OPS->close(backend);
    backend = gpu_open((const char *const[]){"FAKECUDA_NO_READ_ONLY=1", NULL});
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host, 4096, true, &err), &err);
    EXPECT_EQ(fake.calls("cuMemHostRegister"), 0u);
    OPS->close(backend);
    ASSERT_EQ(munmap(host, 4096), 0);
    fake_end();
}

/* Drivers refuse large pieces as "out of memory": that is no reason to give up. */
TEST(CudaPin, EveryRefusalIsOfOneKindButALostDevice)
{
    pint_error err;
    char *host = gpu_host_memory(4096, true);
    pinti_backend *backend = gpu_open((const char *const[]){
        "FAKECUDA_FAIL=cuMemHostRegister:1:2,cuMemHostRegister:2:801,cuMemHostRegister:3:700",
        NULL});
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host, 4096, false, &err), &err);
    EXPECT_NE(strstr(err.message, "CUDA_ERROR_OUT_OF_MEMORY"), NULL);
    EXPECT_STATUS(PINT_E_DEVICE, OPS->pin(backend, host, 4096, false, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE_LOST, OPS->pin(backend, host, 4096, false, &err), &err);
    OPS->close(backend);
    ASSERT_EQ(munmap(host, 4096), 0);
    fake_end();
}

TEST(CudaPin, DeviceAddressIsAskedFor)
{
    pinti_backend *backend = gpu_open((const char *const[]){"FAKECUDA_HOST_ALIAS=1", NULL});
    uint64_t address = 0;
    pint_error err;
    char *host = gpu_host_memory(2 * 4096, true);
    host[4100] = 'm';
    EXPECT_STATUS(PINT_E_DEVICE, OPS->mapped(backend, host, &address, &err), &err);
    ASSERT_OK(OPS->pin(backend, host, 2 * 4096, false, &err), &err);
    ASSERT_OK(OPS->mapped(backend, host + 4100, &address, &err), &err);
    EXPECT_NE(address, (uint64_t)(uintptr_t)(host + 4100));
    EXPECT_EQ(*(const char *)(uintptr_t)address, 'm');
    EXPECT_OK(OPS->unpin(backend, host, 2 * 4096, &err), &err);
    OPS->close(backend);
    ASSERT_EQ(munmap(host, 2 * 4096), 0);
    fake_end();
}

TEST(CudaStaging, IsRegisteredFromTheStart)
{
    pinti_backend *backend = gpu_open(NULL);
    uint64_t address = 0;
    void *staging = NULL;
    pint_error err;
    ASSERT_OK(OPS->staging_alloc(backend, GRANULE, &staging, &err), &err);
    EXPECT_OK(OPS->mapped(backend, (char *)staging + GRANULE - 1, &address, &err), &err);
    unsigned char there = 0;
    EXPECT_EQ(mincore(staging, 4096, &there), 0);
    OPS->staging_free(backend, staging, GRANULE);
    EXPECT_EQ(fake.calls("cuMemHostUnregister"), 1u);
    EXPECT_TRUE(mincore(staging, 4096, &there) != 0 && errno == ENOMEM); /* unmapped */
    OPS->close(backend);
    fake_end();
}

/* Where nothing can be registered at all, copies would have no way. */
TEST(CudaStaging, IsTheDriversOwnWhereNothingCanBeRegistered)
{
    pinti_backend *backend =
        gpu_open((const char *const[]){"FAKECUDA_FAIL=cuMemHostRegister:1+:801", NULL});
    uint64_t address = 0;
    void *staging[2] = {NULL, NULL};
    pint_error err;
    const int fd = gpu_memory(GRANULE);
    ASSERT_OK(OPS->import(backend, PINT_COPY_VMM, fd, NULL, GRANULE, true, &address, &err), &err);
    ASSERT_EQ(close(fd), 0);
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(OPS->staging_alloc(backend, GRANULE, &staging[i], &err), &err);
        const pinti_piece piece = {address, staging[i], GRANULE};
        memset(staging[i], 's' + i, GRANULE);
        ASSERT_OK(OPS->copy(backend, true, &piece, 1, NULL, &err), &err);
        ASSERT_OK(OPS->stream_wait(backend, NULL, &err), &err);
        EXPECT_EQ(((const char *)(uintptr_t)address)[GRANULE - 1], 's' + i);
    }
    EXPECT_EQ(fake.calls("cuMemHostAlloc"), 2u);
    OPS->staging_free(backend, staging[0], GRANULE);
    OPS->staging_free(backend, staging[1], GRANULE);
    EXPECT_EQ(fake.calls("cuMemFreeHost"), 2u);
    EXPECT_EQ(fake.calls("cuMemHostUnregister"), 0u);
    OPS->release(backend, PINT_COPY_VMM, address, GRANULE);
    OPS->close(backend);
    fake_end();
}

TEST(CudaStaging, WhatTheDriverDoesNotGiveIsSaid)
{
    pinti_backend *backend = gpu_open(
        (const char *const[]){"FAKECUDA_FAIL=cuMemHostRegister:1:2,cuMemHostAlloc:1:2", NULL});
    void *staging = NULL;
    pint_error err;
    EXPECT_STATUS(PINT_E_DEVICE, OPS->staging_alloc(backend, GRANULE, &staging, &err), &err);
    EXPECT_NE(strstr(err.message, "cuMemHostAlloc: CUDA_ERROR_OUT_OF_MEMORY"), NULL);
    EXPECT_EQ(staging, NULL);
    OPS->close(backend);
    fake_end();
}

/* ---- fork ------------------------------------------------------------------------------------ */

static void trap(void)
{
    static const char text[] = "a forked child called the driver\n";
    const ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(n > 0 ? CT_PROC_FAILED : CT_PROC_FAILED + 1);
}

/* Every call of the driver ends the child. */
static void set_traps(void)
{
    void (*const entry)(void) = trap;
    char *table = (char *)&pinti_cuda;
    for (size_t at = 0; at + sizeof(entry) <= sizeof(pinti_cuda); at += sizeof(entry)) {
        memcpy(table + at, &entry, sizeof(entry));
    }
}

static void nothing(void *context)
{
    (void)context;
}

static bool is_all_forked(pinti_backend *backend, void *host, void *stream, pinti_mark *mark)
{
    const pinti_piece piece = {0, host, 1};
    const uint8_t ipc[64] = {0};
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    uint64_t address = 0;
    pinti_mark *new_mark = NULL;
    pinti_backend *another = NULL;
    void *out = NULL;
    pint_error err;
    bool good = OPS->open("0", &another, &err) == PINT_E_FORKED;
    good = good && OPS->info(backend, &info, &err) == PINT_E_FORKED;
    good = good && strstr(err.message, "fork()") != NULL;
    good = good &&
           OPS->import(backend, PINT_COPY_VMM, 0, NULL, 1, true, &address, &err) == PINT_E_FORKED;
    good = good &&
           OPS->import(backend, PINT_COPY_IPC, -1, ipc, 1, true, &address, &err) == PINT_E_FORKED;
    OPS->release(backend, PINT_COPY_VMM, 0, 1);
    OPS->release(backend, PINT_COPY_IPC, 0, 1);
    good = good && OPS->pin(backend, host, 4096, false, &err) == PINT_E_FORKED;
    good = good && OPS->unpin(backend, host, 4096, &err) == PINT_E_FORKED;
    good = good && OPS->mapped(backend, host, &address, &err) == PINT_E_FORKED;
    good = good && OPS->staging_alloc(backend, 4096, &out, &err) == PINT_E_FORKED;
    good = good && OPS->stream_create(backend, &out, &err) == PINT_E_FORKED;
    good = good && OPS->stream_wait(backend, stream, &err) == PINT_E_FORKED;
    good = good && OPS->stream_call(backend, stream, nothing, NULL, &err) == PINT_E_FORKED;
    good = good && OPS->copy(backend, true, &piece, 1, stream, &err) == PINT_E_FORKED;
    good = good && OPS->mark(backend, stream, &new_mark, &err) == PINT_E_FORKED;
    good = good && OPS->mark_passed(backend, mark, &err) == PINT_E_FORKED;
    good = good && OPS->mark_wait(backend, mark, &err) == PINT_E_FORKED;
    good = good && OPS->stream_after(backend, stream, mark, &err) == PINT_E_FORKED;
    OPS->mark_free(backend, mark);
    OPS->stream_destroy(backend, stream);
    OPS->close(backend);
    return good;
}

TEST(CudaFork, ChildGetsAnErrorAndTheDriverIsNotCalled)
{
    pinti_backend *backend = gpu_open(NULL);
    void *stream = NULL;
    void *staging = NULL;
    pinti_mark *mark = NULL;
    pint_error err;
    int status = 0;
    char *host = gpu_host_memory(4096, true);
    ASSERT_OK(OPS->pin(backend, host, 4096, false, &err), &err);
    ASSERT_OK(OPS->staging_alloc(backend, 4096, &staging, &err), &err);
    ASSERT_OK(OPS->stream_create(backend, &stream, &err), &err);
    ASSERT_OK(OPS->mark(backend, stream, &mark, &err), &err);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        set_traps();
        OPS->staging_free(backend, staging, 4096);
        _exit(is_all_forked(backend, host, stream, mark) ? 0 : 1);
    }
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    /* The parent goes on. */
    EXPECT_OK(OPS->mark_wait(backend, mark, &err), &err);
    OPS->mark_free(backend, mark);
    OPS->stream_destroy(backend, stream);
    OPS->staging_free(backend, staging, 4096);
    EXPECT_OK(OPS->unpin(backend, host, 4096, &err), &err);
    OPS->close(backend);
    ASSERT_EQ(munmap(host, 4096), 0);
    fake_end();
}
