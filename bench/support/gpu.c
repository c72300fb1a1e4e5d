/* SPDX-License-Identifier: Apache-2.0 */

/* See gpu.h. */

#include "bench/support/gpu.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "device/cuda_abi.h"

/* Declared in cuda_abi.h: member, symbol. */
#define CALLS(X)                                                                                   \
    X(init, cuInit)                                                                                \
    X(get_error_name, cuGetErrorName)                                                              \
    X(device_get_count, cuDeviceGetCount)                                                          \
    X(device_get, cuDeviceGet)                                                                     \
    X(device_get_uuid, cuDeviceGetUuid_v2)                                                         \
    X(primary_ctx_retain, cuDevicePrimaryCtxRetain)                                                \
    X(primary_ctx_release, cuDevicePrimaryCtxRelease_v2)                                           \
    X(ctx_push_current, cuCtxPushCurrent_v2)                                                       \
    X(ctx_pop_current, cuCtxPopCurrent_v2)                                                         \
    X(mem_alloc, cuMemAlloc_v2)                                                                    \
    X(mem_free, cuMemFree_v2)                                                                      \
    X(mem_host_register, cuMemHostRegister_v2)                                                     \
    X(mem_host_unregister, cuMemHostUnregister)                                                    \
    X(stream_create, cuStreamCreate)                                                               \
    X(stream_destroy, cuStreamDestroy_v2)                                                          \
    X(stream_synchronize, cuStreamSynchronize)                                                     \
    X(memcpy_htod_async, cuMemcpyHtoDAsync_v2)                                                     \
    X(memcpy_dtoh_async, cuMemcpyDtoHAsync_v2)                                                     \
    X(memcpy_dtod_async, cuMemcpyDtoDAsync_v2)

typedef void *cu_module;
typedef void *cu_function;

/* What the library itself does not call, and so cuda_abi.h does not declare. May be missing. */
typedef struct extra_calls {
    pinti_cu_result (*mem_alloc_host)(void **out, size_t bytes);
    pinti_cu_result (*mem_free_host)(void *at);
    pinti_cu_result (*module_load_data)(cu_module *out, const void *image);
    pinti_cu_result (*module_unload)(cu_module module);
    pinti_cu_result (*module_get_function)(cu_function *out, cu_module module, const char *name);
    pinti_cu_result (*launch_kernel)(cu_function function, unsigned grid_x, unsigned grid_y,
                                     unsigned grid_z, unsigned block_x, unsigned block_y,
                                     unsigned block_z, unsigned shared_bytes,
                                     pinti_cu_stream stream, void **parameters, void **extra);
} extra_calls;

static pinti_cuda_api cu;
static extra_calls more;
static pinti_cu_device device;
static pinti_cu_stream stream;
static cu_module module; /* NULL: not loaded */
static cu_function sum_function;
static uint64_t sum_result; /* device address of one word */

/* A grid of threads, each with every so many-th word; integer sums have no order. */
static const char sum_image[] = ".version 6.0\n"
                                ".target sm_60\n"
                                ".address_size 64\n"
                                ".visible .entry sum_words(\n"
                                "    .param .u64 p_words, .param .u64 p_n, .param .u64 p_sum)\n"
                                "{\n"
                                "    .reg .pred %end;\n"
                                "    .reg .b32 %block, %width, %thread, %blocks;\n"
                                "    .reg .b64 %words, %n, %sum, %i, %step, %at, %word, %total;\n"
                                "    ld.param.u64 %words, [p_words];\n"
                                "    ld.param.u64 %n, [p_n];\n"
                                "    ld.param.u64 %sum, [p_sum];\n"
                                "    mov.u32 %block, %ctaid.x;\n"
                                "    mov.u32 %width, %ntid.x;\n"
                                "    mov.u32 %thread, %tid.x;\n"
                                "    mov.u32 %blocks, %nctaid.x;\n"
                                "    mul.wide.u32 %i, %block, %width;\n"
                                "    cvt.u64.u32 %at, %thread;\n"
                                "    add.u64 %i, %i, %at;\n"
                                "    mul.wide.u32 %step, %blocks, %width;\n"
                                "    mov.u64 %total, 0;\n"
                                "next:\n"
                                "    setp.ge.u64 %end, %i, %n;\n"
                                "    @%end bra done;\n"
                                "    shl.b64 %at, %i, 3;\n"
                                "    add.u64 %at, %at, %words;\n"
                                "    ld.global.u64 %word, [%at];\n"
                                "    add.u64 %total, %total, %word;\n"
                                "    add.u64 %i, %i, %step;\n"
                                "    bra next;\n"
                                "done:\n"
                                "    red.global.add.u64 [%sum], %total;\n"
                                "    ret;\n"
                                "}\n";

#define SUM_BLOCKS  1024u
#define SUM_THREADS 256u

static void check(pinti_cu_result result, const char *call)
{
    if (result != PINTI_CU_SUCCESS) {
        const char *name = "unknown error";
        (void)cu.get_error_name(result, &name);
        bench_die("%s: %s (%d)", call, name, (int)result);
    }
}

#define CU(call_, ...) check(cu.call_(__VA_ARGS__), #call_)

/* A function pointer is not converted to void * but copied: C has no such conversion. */
static bool find(void *library, const char *symbol, void *out_function)
{
    void *found = dlsym(library, symbol);
    memcpy(out_function, &found, sizeof(found));
    return found != NULL;
}

static void find_calls(void)
{
    const char *path = getenv("PINTABLE_LIBCUDA");
    path = path != NULL && path[0] != '\0' ? path : "libcuda.so.1";
    void *library = dlopen(path, RTLD_NOW); /* never closed: its threads run on */
    if (library == NULL) {
        bench_die("%s: %s", path, dlerror());
    }
#define FIND(member_, symbol_)                                                                     \
    if (!find(library, #symbol_, (void *)&cu.member_)) {                                           \
        bench_die("%s has no " #symbol_, path);                                                    \
    }
    CALLS(FIND)
#undef FIND
    (void)find(library, "cuMemAllocHost_v2", (void *)&more.mem_alloc_host);
    (void)find(library, "cuMemFreeHost", (void *)&more.mem_free_host);
    (void)find(library, "cuModuleLoadData", (void *)&more.module_load_data);
    (void)find(library, "cuModuleUnload", (void *)&more.module_unload);
    (void)find(library, "cuModuleGetFunction", (void *)&more.module_get_function);
    (void)find(library, "cuLaunchKernel", (void *)&more.launch_kernel);
}

void bench_gpu_start(const uint8_t uuid[16])
{
    int n = 0;
    bool is_found = false;
    find_calls();
    CU(init, 0);
    CU(device_get_count, &n);
    for (int i = 0; i < n && !is_found; i++) {
        pinti_cu_uuid of;
        CU(device_get, &device, i);
        CU(device_get_uuid, &of, device);
        is_found = memcmp(of.bytes, uuid, sizeof(of.bytes)) == 0;
    }
    if (!is_found) {
        bench_die("the driver has no GPU of the device's UUID");
    }
    pinti_cu_context context = NULL;
    CU(primary_ctx_retain, &context, device);
    CU(ctx_push_current, context);
    CU(stream_create, &stream, PINTI_CU_STREAM_NON_BLOCKING);
}

void bench_gpu_end(void)
{
    pinti_cu_context context = NULL;
    if (module != NULL) {
        bench_gpu_free(sum_result);
        check(more.module_unload(module), "cuModuleUnload");
        module = NULL;
    }
    CU(stream_destroy, stream);
    CU(ctx_pop_current, &context);
    CU(primary_ctx_release, device);
}

/* ---- memory ---------------------------------------------------------------------------------- */

void *bench_gpu_host_alloc(uint64_t bytes)
{
    void *at = NULL;
    if (more.mem_alloc_host != NULL && more.mem_free_host != NULL) {
        check(more.mem_alloc_host(&at, bytes), "cuMemAllocHost");
        return at;
    }
    at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) {
        bench_die("no memory to register");
    }
    bench_gpu_register(at, bytes);
    static bool is_said = false;
    if (!is_said) {
        bench_fact("baseline", "registered memory: this driver has no cuMemAllocHost");
        is_said = true;
    }
    return at;
}

void bench_gpu_host_free(void *at, uint64_t bytes)
{
    if (more.mem_alloc_host != NULL && more.mem_free_host != NULL) {
        check(more.mem_free_host(at), "cuMemFreeHost");
        return;
    }
    bench_gpu_unregister(at);
    (void)munmap(at, bytes);
}

uint64_t bench_gpu_alloc(uint64_t bytes)
{
    pinti_cu_ptr address = 0;
    CU(mem_alloc, &address, bytes);
    return address;
}

void bench_gpu_free(uint64_t address)
{
    CU(mem_free, address);
}

void bench_gpu_register(void *at, uint64_t bytes)
{
    CU(mem_host_register, at, bytes, PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP);
}

void bench_gpu_unregister(void *at)
{
    CU(mem_host_unregister, at);
}

/* ---- copies ---------------------------------------------------------------------------------- */

void bench_gpu_to_device(uint64_t to, const void *from, uint64_t bytes)
{
    CU(memcpy_htod_async, to, from, bytes, stream);
    CU(stream_synchronize, stream);
}

void bench_gpu_to_host(void *to, uint64_t from, uint64_t bytes)
{
    CU(memcpy_dtoh_async, to, from, bytes, stream);
    CU(stream_synchronize, stream);
}

void bench_gpu_on_device(uint64_t to, uint64_t from, uint64_t bytes, void *on)
{
    CU(memcpy_dtod_async, to, from, bytes, on);
}

/* ---- kernel ---------------------------------------------------------------------------------- */

const char *bench_gpu_no_kernels(void)
{
    const bool are_there = more.module_load_data != NULL && more.module_unload != NULL &&
                           more.module_get_function != NULL && more.launch_kernel != NULL;
    return are_there ? NULL : "this driver loads no modules";
}

uint64_t bench_gpu_sum(uint64_t words, uint64_t n)
{
    uint64_t sum = 0;
    if (module == NULL) {
        check(more.module_load_data(&module, sum_image), "cuModuleLoadData");
        check(more.module_get_function(&sum_function, module, "sum_words"), "cuModuleGetFunction");
        sum_result = bench_gpu_alloc(sizeof(sum));
    }
    void *parameters[] = {&words, &n, &sum_result};
    bench_gpu_to_device(sum_result, &sum, sizeof(sum));
    check(more.launch_kernel(sum_function, SUM_BLOCKS, 1, 1, SUM_THREADS, 1, 1, 0, stream,
                             parameters, NULL),
          "cuLaunchKernel");
    bench_gpu_to_host(&sum, sum_result, sizeof(sum));
    return sum;
}
