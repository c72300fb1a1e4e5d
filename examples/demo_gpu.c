/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A kernel for the demo's device phase, without a compiler for one: its assembly (PTX) is text that
 * every driver translates for its own GPU. The driver is found at run time, as the library does, so
 * that the demo starts everywhere. A program built with nvcc has none of this: it includes
 * <pintable/device.cuh> and writes kernel<<<...>>>.
 */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "demo.h"

/* The driver's types and calls, from its documentation. All calls give 0 when they succeed. */
typedef int cu_device;
typedef void *cu_handle; /* context, module, function, stream */

static struct driver {
    int (*count)(int *out_n);
    int (*device)(cu_device *out_device, int ordinal);
    int (*uuid)(uint8_t out_uuid[16], cu_device device);
    int (*retain)(cu_handle *out_context, cu_device device);
    int (*push)(cu_handle context);
    int (*load)(cu_handle *out_module, const void *image);
    int (*find)(cu_handle *out_function, cu_handle module, const char *name);
    int (*launch)(cu_handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                  unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                  cu_handle stream, void **parameters, void **extra);
} driver;

static cu_handle square;

static const char image[] = ".version 6.0\n"
                            ".target sm_60\n"
                            ".address_size 64\n"
                            ".visible .entry square(\n"
                            "    .param .u64 p_to, .param .u64 p_from, .param .u64 p_n)\n"
                            "{\n"
                            "    .reg .pred %end;\n"
                            "    .reg .b32 %block, %width, %thread;\n"
                            "    .reg .b64 %to, %from, %n, %i, %at;\n"
                            "    .reg .f64 %x;\n"
                            "    ld.param.u64 %to, [p_to];\n"
                            "    ld.param.u64 %from, [p_from];\n"
                            "    ld.param.u64 %n, [p_n];\n"
                            "    mov.u32 %block, %ctaid.x;\n"
                            "    mov.u32 %width, %ntid.x;\n"
                            "    mov.u32 %thread, %tid.x;\n"
                            "    mul.wide.u32 %i, %block, %width;\n"
                            "    cvt.u64.u32 %at, %thread;\n"
                            "    add.u64 %i, %i, %at;\n"
                            "    setp.ge.u64 %end, %i, %n;\n"
                            "    @%end bra done;\n"
                            "    shl.b64 %i, %i, 3;\n"
                            "    add.u64 %from, %from, %i;\n"
                            "    add.u64 %to, %to, %i;\n"
                            "    ld.global.f64 %x, [%from];\n"
                            "    mul.rn.f64 %x, %x, %x;\n"
                            "    st.global.f64 [%to], %x;\n"
                            "done:\n"
                            "    ret;\n"
                            "}\n";

#define THREADS 256u

static bool find_call(void *library, const char *name, void *out_function)
{
    void *found = dlsym(library, name);
    memcpy(out_function, &found, sizeof(found)); /* C converts no pointer to a function pointer */
    return found != NULL;
}

static bool find_calls(void)
{
    const char *path = getenv("PINTABLE_LIBCUDA");
    void *library = dlopen(path != NULL && path[0] != '\0' ? path : "libcuda.so.1", RTLD_NOW);
    return library != NULL && find_call(library, "cuDeviceGetCount", (void *)&driver.count) &&
           find_call(library, "cuDeviceGet", (void *)&driver.device) &&
           find_call(library, "cuDeviceGetUuid_v2", (void *)&driver.uuid) &&
           find_call(library, "cuDevicePrimaryCtxRetain", (void *)&driver.retain) &&
           find_call(library, "cuCtxPushCurrent_v2", (void *)&driver.push) &&
           find_call(library, "cuModuleLoadData", (void *)&driver.load) &&
           find_call(library, "cuModuleGetFunction", (void *)&driver.find) &&
           find_call(library, "cuLaunchKernel", (void *)&driver.launch);
}

bool demo_gpu_load(const uint8_t uuid[16], const char **why)
{
    int n = 0;
    *why = "this driver loads no modules";
    if (!find_calls()) {
        return false;
    }
    *why = "the driver refused the kernel";
    cu_device found = -1;
    if (driver.count(&n) != 0) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        uint8_t of[16];
        cu_device device;
        if (driver.device(&device, i) == 0 && driver.uuid(of, device) == 0 &&
            memcmp(of, uuid, sizeof(of)) == 0) {
            found = device;
        }
    }
    /* the primary context is the one that the library uses */
    cu_handle context = NULL;
    cu_handle module = NULL;
    return found >= 0 && driver.retain(&context, found) == 0 && driver.push(context) == 0 &&
           driver.load(&module, image) == 0 && driver.find(&square, module, "square") == 0;
}

bool demo_gpu_square(void *stream, uint64_t to, uint64_t from, uint64_t n)
{
    void *parameters[] = {&to, &from, &n};
    const unsigned blocks = (unsigned)((n + THREADS - 1) / THREADS);
    return driver.launch(square, blocks, 1, 1, THREADS, 1, 1, 0, stream, parameters, NULL) == 0;
}
