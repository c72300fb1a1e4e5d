/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fake driver keeps the driver's rules: registration, device memory, mappings, contexts,
 * devices, wanted failures. One process; fakecuda_process_test.c has several.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fakecuda/attach.h"
#include "tests/support/ct.h"

#define PAGE     ((size_t)4096)
#define GRANULE  ((size_t)2 << 20)
#define MIB      ((size_t)1 << 20)
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

static char *shared_pages(size_t n)
{
    void *base = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

static pinti_cu_mem_prop prop_of(pinti_cu_device device)
{
    return (pinti_cu_mem_prop){.type = PINTI_CU_MEM_TYPE_PINNED,
                               .handle_types = PINTI_CU_HANDLE_TYPE_POSIX_FD,
                               .location = {PINTI_CU_LOCATION_DEVICE, device}};
}

static pinti_cu_access_desc access_of(pinti_cu_access access)
{
    return (pinti_cu_access_desc){.location = {PINTI_CU_LOCATION_DEVICE, 0}, .flags = access};
}

/* --- Registration ----------------------------------------------------------------------------- */

TEST(FakeRegister, RefusesWhatOverlapsEvenInAPage)
{
    (void)fake_begin_context(NULL);
    char *base = shared_pages(8);
    ASSERT_TRUE(base != NULL);
    ASSERT_EQ(pinti_cuda.mem_host_register(base + 2 * PAGE, 2 * PAGE, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + 2 * PAGE, 2 * PAGE, 0), 712);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + PAGE, 2 * PAGE, 0), 712);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + 3 * PAGE, 2 * PAGE, 0), 712);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, 8 * PAGE, 0), 712);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + 4 * PAGE, 8, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + 4 * PAGE + 64, 8, 0), 712);
    fake_end();
    EXPECT_EQ(munmap(base, 8 * PAGE), 0);
}

TEST(FakeRegister, IsEndedByItsBaseAlone)
{
    (void)fake_begin_context(NULL);
    char *base = shared_pages(2);
    ASSERT_EQ(pinti_cuda.mem_host_register(base, 2 * PAGE, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(base + PAGE), 713);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(base), 0);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(base), 713);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, 0), 0);
    fake_end();
    EXPECT_EQ(munmap(base, 2 * PAGE), 0);
}

TEST(FakeRegister, RefusesNothingTooMuchAndWhatIsNotThere)
{
    (void)fake_begin_context(NULL);
    char *base = shared_pages(4);
    ASSERT_EQ(munmap(base + 2 * PAGE, PAGE), 0);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, 0, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(NULL, PAGE, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, 0x10), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, (size_t)1 << 39, 0), 2);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, ((size_t)1 << 39) - PAGE, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base + PAGE, 2 * PAGE, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, 2 * PAGE, 0), 0);
    fake_end();
    EXPECT_EQ(munmap(base, 4 * PAGE), 0);
}

TEST(FakeRegister, ReadOnlyMemoryNeedsTheFlagAndTheFlagAnAttribute)
{
    (void)fake_begin_context(NULL);
    char *base = shared_pages(1);
    ASSERT_EQ(mprotect(base, PAGE, PROT_READ), 0);
    int supported = -1;
    EXPECT_EQ(pinti_cuda.device_get_attribute(&supported, PINTI_CU_DEV_READ_ONLY_HOST_REGISTER, 0),
              0);
    EXPECT_EQ(supported, 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, PINTI_CU_REGISTER_READ_ONLY), 0);
    (void)fake_begin_context(ENV("FAKECUDA_NO_READ_ONLY=1"));
    EXPECT_EQ(pinti_cuda.device_get_attribute(&supported, PINTI_CU_DEV_READ_ONLY_HOST_REGISTER, 0),
              0);
    EXPECT_EQ(supported, 0);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, PINTI_CU_REGISTER_READ_ONLY), 801);
    fake_end();
    EXPECT_EQ(munmap(base, PAGE), 0);
}

TEST(FakeRegister, RefusesASharedMappingOfAFile)
{
    (void)fake_begin_context(NULL);
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/file", ct_tmpdir());
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, (off_t)PAGE), 0);
    void *base = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT_TRUE(base != MAP_FAILED);
    EXPECT_EQ(pinti_cuda.mem_host_register(base, PAGE, 0), 1);
    fake_end();
    EXPECT_EQ(munmap(base, PAGE), 0);
    EXPECT_EQ(close(fd), 0);
}

TEST(FakeRegister, DevicePointerMayBeAnotherMappingOfTheSamePages)
{
    for (int alias = 0; alias < 2; alias++) {
        (void)fake_begin_context(ENV(alias ? "FAKECUDA_HOST_ALIAS=1" : "FAKECUDA_HOST_ALIAS=0"));
        char *base = shared_pages(2);
        ASSERT_EQ(pinti_cuda.mem_host_register(base, 2 * PAGE, 0), 0);
        int same = -1;
        EXPECT_EQ(
            pinti_cuda.device_get_attribute(&same, PINTI_CU_DEV_HOST_POINTER_FOR_REGISTERED, 0), 0);
        EXPECT_EQ(same, !alias);
        pinti_cu_ptr ptr = 0;
        EXPECT_EQ(pinti_cuda.mem_host_get_device_pointer(&ptr, base + 5000, 0), 0);
        EXPECT_EQ(ptr == (uintptr_t)(base + 5000), !alias);
        base[5000] = 'x';
        EXPECT_EQ(*(char *)(uintptr_t)ptr, 'x');
        void *host = NULL;
        EXPECT_EQ(pinti_cuda.pointer_get_attribute(&host, PINTI_CU_POINTER_HOST_POINTER, ptr), 0);
        EXPECT_EQ(host, (void *)(base + 5000));
        EXPECT_EQ(pinti_cuda.mem_host_get_device_pointer(&ptr, base - 1, 0), 1);
        EXPECT_EQ(pinti_cuda.mem_host_unregister(base), 0);
        EXPECT_EQ(pinti_cuda.mem_host_get_device_pointer(&ptr, base, 0), 1);
        fake_end();
        EXPECT_EQ(munmap(base, 2 * PAGE), 0);
    }
}

/* --- Device memory ---------------------------------------------------------------------------- */

TEST(FakeMemory, RunsOutAtTheConfiguredSizeAndComesBackWhenFreed)
{
    (void)fake_begin_context(ENV("FAKECUDA_MEMORY_MIB=8"));
    size_t free_bytes = 0;
    size_t total = 0;
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total), 0);
    EXPECT_EQ(total, 8 * MIB);
    EXPECT_EQ(free_bytes, 8 * MIB);
    pinti_cu_ptr a = 0;
    pinti_cu_ptr b = 0;
    EXPECT_EQ(pinti_cuda.mem_alloc(&a, 6 * MIB), 0);
    EXPECT_EQ(pinti_cuda.mem_alloc(&b, 2 * MIB + 1), 2);
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total), 0);
    EXPECT_EQ(free_bytes, 2 * MIB);
    const pinti_cu_mem_prop prop = prop_of(0);
    pinti_cu_mem mem = 0;
    EXPECT_EQ(pinti_cuda.mem_create(&mem, 4 * MIB, &prop, 0), 2);
    EXPECT_EQ(pinti_cuda.mem_create(&mem, 2 * MIB, &prop, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_alloc(&b, 1), 2);
    EXPECT_EQ(pinti_cuda.mem_release(mem), 0);
    EXPECT_EQ(pinti_cuda.mem_free(a), 0);
    EXPECT_EQ(pinti_cuda.mem_alloc(&b, 8 * MIB), 0);
    fake_end();
}

TEST(FakeMemory, IsNotZeroWhenNewAndFreedByItsBaseAlone)
{
    (void)fake_begin_context(NULL);
    pinti_cu_ptr ptr = 0;
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, 0), 1);
    ASSERT_EQ(pinti_cuda.mem_alloc(&ptr, 10000), 0);
    EXPECT_NE(*(char *)(uintptr_t)ptr, 0);
    pinti_cu_ptr base = 0;
    size_t bytes = 0;
    EXPECT_EQ(pinti_cuda.mem_get_address_range(&base, &bytes, ptr + 9999), 0);
    EXPECT_EQ(base, ptr);
    EXPECT_EQ(bytes, 10000u);
    EXPECT_EQ(pinti_cuda.mem_get_address_range(&base, &bytes, ptr + 10000), 500);
    EXPECT_EQ(pinti_cuda.mem_free(ptr + 1), 1);
    EXPECT_EQ(pinti_cuda.mem_free(ptr), 0);
    EXPECT_EQ(pinti_cuda.mem_free(ptr), 1);
    fake_end();
}

TEST(FakeMemory, AddressesHaveAttributes)
{
    pinti_cu_context context = fake_begin_context(NULL);
    char *host = shared_pages(1);
    pinti_cu_ptr ptr = 0;
    ASSERT_EQ(pinti_cuda.mem_host_register(host, PAGE, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 0);
    unsigned int type = 0;
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&type, PINTI_CU_POINTER_MEMORY_TYPE, ptr + 7), 0);
    EXPECT_EQ(type, PINTI_CU_MEMORY_DEVICE);
    EXPECT_EQ(
        pinti_cuda.pointer_get_attribute(&type, PINTI_CU_POINTER_MEMORY_TYPE, (uintptr_t)host), 0);
    EXPECT_EQ(type, PINTI_CU_MEMORY_HOST);
    int legacy = -1;
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&legacy, PINTI_CU_POINTER_LEGACY_IPC, ptr), 0);
    EXPECT_EQ(legacy, 1);
    int ordinal = -1;
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&ordinal, PINTI_CU_POINTER_DEVICE_ORDINAL, ptr), 0);
    EXPECT_EQ(ordinal, 0);
    pinti_cu_context owner = NULL;
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&owner, PINTI_CU_POINTER_CONTEXT, ptr), 0);
    EXPECT_EQ(owner, context);
    unsigned long long a = 0;
    unsigned long long b = 0;
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&a, PINTI_CU_POINTER_BUFFER_ID, ptr), 0);
    EXPECT_EQ(pinti_cuda.pointer_get_attribute(&b, PINTI_CU_POINTER_BUFFER_ID, (uintptr_t)host), 0);
    EXPECT_NE(a, b);
    EXPECT_EQ(
        pinti_cuda.pointer_get_attribute(&type, PINTI_CU_POINTER_MEMORY_TYPE, (uintptr_t)&type), 1);
    fake_end();
    EXPECT_EQ(munmap(host, PAGE), 0);
}

/* --- Mappings --------------------------------------------------------------------------------- */

TEST(FakeVmm, SizesAreWholeGranules)
{
    fake_begin(NULL);
    pinti_cu_mem_prop prop = prop_of(0);
    size_t granule = 0;
    EXPECT_EQ(pinti_cuda.mem_get_granularity(&granule, &prop, PINTI_CU_GRANULARITY_MINIMUM), 0);
    EXPECT_EQ(granule, GRANULE);
    pinti_cu_mem mem = 0;
    EXPECT_EQ(pinti_cuda.mem_create(&mem, 0, &prop, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_create(&mem, GRANULE + PAGE, &prop, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 1), 1);
    prop.location.id = 1;
    EXPECT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 101);
    prop = prop_of(0);
    prop.location.type = PINTI_CU_LOCATION_HOST;
    EXPECT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 1);
    prop = prop_of(0);
    prop.handle_types = PINTI_CU_HANDLE_TYPE_NONE;
    ASSERT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 0);
    int fd = -1;
    EXPECT_EQ(pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0), 1);
    pinti_cu_ptr ptr = 0;
    EXPECT_EQ(pinti_cuda.mem_address_reserve(&ptr, GRANULE + 1, 0, 0, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_address_reserve(&ptr, GRANULE, 3, 0, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_address_reserve(&ptr, GRANULE, 4 * GRANULE, 0, 0), 0);
    EXPECT_EQ(ptr % (4 * GRANULE), 0u);
    fake_end();
}

TEST(FakeVmm, MapsAtOffsetZeroOnFreeReservedAddresses)
{
    fake_begin(NULL);
    const pinti_cu_mem_prop prop = prop_of(0);
    pinti_cu_mem mem = 0;
    pinti_cu_ptr ptr = 0;
    ASSERT_EQ(pinti_cuda.mem_create(&mem, 2 * GRANULE, &prop, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_address_reserve(&ptr, 4 * GRANULE, 0, 0, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_map(ptr, GRANULE, GRANULE, mem, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_map(ptr + PAGE, GRANULE, 0, mem, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_map(ptr, 3 * GRANULE, 0, mem, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_map(ptr + 3 * GRANULE, 2 * GRANULE, 0, mem, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_map(ptr, 2 * GRANULE, 0, mem + 1, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_map(ptr, 2 * GRANULE, 0, mem, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_map(ptr + GRANULE, 2 * GRANULE, 0, mem, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_address_free(ptr, 4 * GRANULE), 1);
    EXPECT_EQ(pinti_cuda.mem_unmap(ptr, GRANULE), 1);
    EXPECT_EQ(pinti_cuda.mem_unmap(ptr, 2 * GRANULE), 0);
    EXPECT_EQ(pinti_cuda.mem_unmap(ptr, 2 * GRANULE), 1);
    EXPECT_EQ(pinti_cuda.mem_address_free(ptr, GRANULE), 1);
    EXPECT_EQ(pinti_cuda.mem_address_free(ptr, 4 * GRANULE), 0);
    EXPECT_EQ(pinti_cuda.mem_release(mem), 0);
    EXPECT_EQ(pinti_cuda.mem_release(mem), 1);
    fake_end();
}

/* How a child ends that stores a byte, or only loads it. */
static int end_of_access(pinti_cu_ptr ptr, bool store)
{
    const pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would report and exit */
        _Atomic char *at = (_Atomic char *)(uintptr_t)ptr;
        if (store) {
            *at = 1;
        }
        _exit(*at == 1 ? 0 : 3);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(FakeVmm, AccessIsEnforcedByThePageTables)
{
    fake_begin(NULL);
    const pinti_cu_mem_prop prop = prop_of(0);
    pinti_cu_mem mem = 0;
    pinti_cu_ptr ptr = 0;
    ASSERT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_address_reserve(&ptr, GRANULE, 0, 0, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_map(ptr, GRANULE, 0, mem, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_release(mem), 0); /* the mapping keeps the memory */
    EXPECT_EQ(end_of_access(ptr, false), 128 + SIGSEGV);
    pinti_cu_access_desc access = access_of(PINTI_CU_ACCESS_READWRITE);
    EXPECT_EQ(pinti_cuda.mem_set_access(ptr, GRANULE / 2, &access, 1), 1);
    EXPECT_EQ(pinti_cuda.mem_set_access(ptr, 2 * GRANULE, &access, 1), 1);
    EXPECT_EQ(pinti_cuda.mem_set_access(ptr, GRANULE, &access, 0), 1);
    EXPECT_EQ(pinti_cuda.mem_set_access(ptr, GRANULE, &access, 1), 0);
    EXPECT_EQ(end_of_access(ptr, true), 0);
    access = access_of(PINTI_CU_ACCESS_READ);
    EXPECT_EQ(pinti_cuda.mem_set_access(ptr, GRANULE, &access, 1), 0);
    EXPECT_EQ(end_of_access(ptr, false), 0);
    EXPECT_EQ(end_of_access(ptr, true), 128 + SIGSEGV);
    fake_end();
}

TEST(FakeVmm, TheBudgetIsFreeOnlyWhenNoHandleAndNoMappingIsLeft)
{
    (void)fake_begin_context(ENV("FAKECUDA_MEMORY_MIB=4"));
    const pinti_cu_mem_prop prop = prop_of(0);
    pinti_cu_mem mem = 0;
    pinti_cu_mem again = 0;
    pinti_cu_ptr ptr = 0;
    size_t free_bytes = 0;
    size_t total = 0;
    int fd = -1;
    ASSERT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0), 0);
    EXPECT_EQ(fcntl(fd, F_GETFD), 0); /* programs would inherit it */
    EXPECT_EQ(pinti_cuda.mem_import(&again, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD),
              0);
    ASSERT_EQ(pinti_cuda.mem_address_reserve(&ptr, GRANULE, 0, 0, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_map(ptr, GRANULE, 0, mem, 0), 0);
    EXPECT_EQ(pinti_cuda.mem_release(mem), 0);
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total), 0);
    EXPECT_EQ(free_bytes, GRANULE);
    EXPECT_EQ(pinti_cuda.mem_release(again), 0);
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total), 0);
    EXPECT_EQ(free_bytes, GRANULE);
    EXPECT_EQ(pinti_cuda.mem_unmap(ptr, GRANULE), 0);
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total), 0);
    EXPECT_EQ(free_bytes, 2 * GRANULE);
    EXPECT_EQ(close(fd), 0);
    fake_end();
}

TEST(FakeVmm, ImportsNothingButMemoryOfADevice)
{
    fake_begin(NULL);
    const int fd = memfd_create("other", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, (off_t)GRANULE), 0);
    pinti_cu_mem mem = 0;
    EXPECT_EQ(pinti_cuda.mem_import(&mem, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD), 1);
    EXPECT_EQ(pinti_cuda.mem_import(&mem, (void *)(intptr_t)-1, PINTI_CU_HANDLE_TYPE_POSIX_FD), 1);
    EXPECT_EQ(close(fd), 0);
    fake_end();
}

/* --- Contexts and devices --------------------------------------------------------------------- */

TEST(FakeContext, WithoutOneMostCallsAreRefused)
{
    fake_begin(NULL);
    char *host = shared_pages(1);
    pinti_cu_ptr ptr = 0;
    size_t bytes = 0;
    pinti_cu_stream stream = NULL;
    pinti_cu_event event = NULL;
    pinti_cu_ipc_handle handle = {{0}};
    EXPECT_EQ(pinti_cuda.mem_host_register(host, PAGE, 0), 201);
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 201);
    EXPECT_EQ(pinti_cuda.mem_get_info(&bytes, &bytes), 201);
    EXPECT_EQ(pinti_cuda.stream_create(&stream, 0), 201);
    EXPECT_EQ(pinti_cuda.event_create(&event, 0), 201);
    EXPECT_EQ(pinti_cuda.stream_synchronize(NULL), 201);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(1, host, 1, NULL), 201);
    EXPECT_EQ(pinti_cuda.ipc_open_mem_handle(&ptr, handle, 1), 201);
    fake_end();
    EXPECT_EQ(munmap(host, PAGE), 0);
}

TEST(FakeContext, LastReleaseDestroysItWithAllThatIsInIt)
{
    pinti_cu_context context = fake_begin_context(NULL);
    char *host = shared_pages(1);
    pinti_cu_ptr ptr = 0;
    pinti_cu_context same = NULL;
    ASSERT_EQ(pinti_cuda.primary_ctx_retain(&same, 0), 0);
    EXPECT_EQ(same, context);
    ASSERT_EQ(pinti_cuda.mem_host_register(host, PAGE, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 0);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), 0);
    EXPECT_EQ(pinti_cuda.mem_free(ptr), 0);
    ASSERT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 0);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), 0);
    EXPECT_EQ(pinti_cuda.mem_free(ptr), 709); /* still on the stack, but gone */
    EXPECT_EQ(pinti_cuda.mem_host_unregister(host), 709);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), 201);
    EXPECT_EQ(pinti_cuda.ctx_push_current(context), 201);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(&same), 0);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(&same), 201);
    fake_end();
    EXPECT_EQ(munmap(host, PAGE), 0);
}

TEST(FakeContext, UnregisterWorksWithoutACurrentOne)
{
    (void)fake_begin_context(NULL);
    char *host = shared_pages(1);
    ASSERT_EQ(pinti_cuda.mem_host_register(host, PAGE, 0), 0);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(NULL), 0);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(host), 0);
    fake_end();
    EXPECT_EQ(munmap(host, PAGE), 0);
}

static void uuids(pinti_cu_uuid *out, int n)
{
    for (int i = 0; i < n; i++) {
        EXPECT_EQ(pinti_cuda.device_get_uuid(&out[i], i), 0);
    }
}

TEST(FakeDevice, VisibleOnesAreChosenAndOrderedByTheVariable)
{
    pinti_cu_uuid all[2];
    pinti_cu_uuid seen[2];
    int n = 0;
    fake_begin(ENV("FAKECUDA_DEVICES=2"));
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 0);
    EXPECT_EQ(n, 2);
    uuids(all, 2);
    EXPECT_NE(memcmp(&all[0], &all[1], sizeof(all[0])), 0);
    fake_begin(ENV("FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=1,0"));
    uuids(seen, 2);
    EXPECT_MEMEQ(&seen[0], &all[1], sizeof(all[0]));
    EXPECT_MEMEQ(&seen[1], &all[0], sizeof(all[0]));
    fake_begin(ENV("FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=1,7,0"));
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 0);
    EXPECT_EQ(n, 1);
    uuids(seen, 1);
    EXPECT_MEMEQ(&seen[0], &all[1], sizeof(all[0]));
    fake_begin(ENV("FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=1,1,0"));
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 0);
    EXPECT_EQ(n, 1);
    pinti_cu_device device = -1;
    EXPECT_EQ(pinti_cuda.device_get(&device, 1), 101);
    EXPECT_EQ(pinti_cuda.device_get(&device, -1), 101);
    fake_begin(
        ENV("FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=GPU-66616b65-6375-6461-2d64-657669636501"));
    uuids(seen, 1);
    EXPECT_MEMEQ(&seen[0], &all[1], sizeof(all[0]));
    fake_end();
}

TEST(FakeDevice, MemoryOfAHiddenOneCannotBeImported)
{
    fake_begin(ENV("FAKECUDA_DEVICES=2"));
    const pinti_cu_mem_prop prop = prop_of(1);
    pinti_cu_mem mem = 0;
    int fd = -1;
    ASSERT_EQ(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0), 0);
    fake_begin(ENV("FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=0"));
    EXPECT_EQ(pinti_cuda.mem_import(&mem, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD),
              101);
    EXPECT_EQ(close(fd), 0);
    fake_end();
}

/* --- Wanted failures and the log -------------------------------------------------------------- */

TEST(FakeFail, RefusesTheCallThatTheTestNames)
{
    (void)fake_begin_context(ENV("FAKECUDA_FAIL=cuMemAlloc:2:2,cuMemGetInfo:1+:719"));
    pinti_cu_ptr ptr = 0;
    size_t bytes = 0;
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 0);
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 2);
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 0);
    EXPECT_EQ(pinti_cuda.mem_get_info(&bytes, &bytes), 719);
    EXPECT_EQ(pinti_cuda.mem_get_info(&bytes, &bytes), 719);
    EXPECT_EQ(fake.calls("cuMemAlloc"), 3u);
    EXPECT_EQ(fake.calls("cuMemGetInfo"), 2u);
    EXPECT_EQ(fake.calls("cuMemFree"), 0u);
    (void)fake_begin_context(ENV("FAKECUDA_FAIL=cuMemAlloc:1"));
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 999);
    fake_end();
}

/* Every entry point: refused before it looks at its arguments, counted under its name. */
TEST(FakeFail, RefusesEveryEntryPoint)
{
    static const struct {
        const char *name;
        size_t off;
    } entries[] = {
#define ENTRY(member_, name_, symbol_, version_, params_)                                          \
    {#name_, offsetof(pinti_cuda_api, member_)},
        PINTI_CU_REQUIRED(ENTRY) PINTI_CU_OPTIONAL(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        pinti_cu_result (*call)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t) = NULL;
        char setting[64];
        (void)fake_begin_context(NULL);
        memcpy(&call, (const char *)&pinti_cuda + entries[i].off, sizeof(call));
        const uint64_t n = fake.calls(entries[i].name) + 1;
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=%s:%u:46", entries[i].name,
                       (unsigned)n);
        (void)fake_begin_context(ENV(setting));
        if (call(0, 0, 0, 0, 0) != 46 || fake.calls(entries[i].name) != n) {
            FAIL("%s", entries[i].name);
        }
        fake_end();
    }
}

TEST(FakeLog, HasALinePerCall)
{
    char setting[256];
    (void)snprintf(setting, sizeof(setting), "FAKECUDA_LOG=%s/log", ct_tmpdir());
    fake_begin(ENV(setting, "FAKECUDA_FAIL=cuDeviceGetCount:1:999"));
    int n = 0;
    (void)pinti_cuda.device_get_count(&n);
    fake_end();
    char expected[128];
    (void)snprintf(expected, sizeof(expected), "%d cuInit\n%d cuDeviceGetCount refused 999\n",
                   (int)getpid(), (int)getpid());
    const int fd = open(setting + strlen("FAKECUDA_LOG="), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    char text[256];
    (void)ct_read_all(fd, text, sizeof(text));
    EXPECT_STREQ(text, expected);
    EXPECT_EQ(close(fd), 0);
}

TEST(FakeSetting, ThatIsNotUnderstoodEndsTheProcess)
{
    fake_begin(NULL);
    fake.reset();
    static const char *const bad[][2] = {
        {"FAKECUDA_FAIL", "cuMemCreat:2"}, {"FAKECUDA_FAIL", "cuMemCreate:0"},
        {"FAKECUDA_STOP", "cuMemCreate"},  {"FAKECUDA_STOP", "cuMemCreate:1"},
        {"FAKECUDA_ASYNC", "later"},       {"FAKECUDA_DEVICES", "two"},
        {"FAKECUDA_DRIVER", "none"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            (void)signal(SIGABRT, SIG_DFL);
            (void)setenv(bad[i][0], bad[i][1], 1);
            (void)pinti_cuda.init(0);
            _exit(0);
        }
        int status = 0;
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
    fake_end();
}
