/* SPDX-License-Identifier: Apache-2.0 */

/* See cuda_gpu.h. */

#include "tests/device/cuda_gpu.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/ct.h"

pinti_backend *gpu_open(const char *const *settings)
{
    pinti_backend *backend = NULL;
    pint_error err;
    fake_begin(settings);
    EXPECT_OK(pinti_cuda_backend.open("0", &backend, &err), &err);
    return backend;
}

char *gpu_host_memory(size_t bytes, bool writable)
{
    const int fd = memfd_create("table", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(fd, (off_t)bytes), 0);
    char *at = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_NE((void *)at, MAP_FAILED);
    return at;
}

int gpu_memory(size_t bytes)
{
    pinti_cuda_device device;
    pint_error err;
    int fd = -1;
    EXPECT_OK(pinti_cuda_device_find("0", &device, &err), &err);
    EXPECT_OK(pinti_cuda_make_exported(&device, bytes, &fd, &err), &err);
    return fd;
}

size_t gpu_used_bytes(void)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    pinti_cu_context context = NULL;
    EXPECT_EQ(pinti_cuda.primary_ctx_retain(&context, 0), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.ctx_push_current(context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.mem_get_info(&free_bytes, &total_bytes), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.ctx_pop_current(&context), PINTI_CU_SUCCESS);
    EXPECT_EQ(pinti_cuda.primary_ctx_release(0), PINTI_CU_SUCCESS);
    return total_bytes - free_bytes;
}

pinti_cu_context gpu_current(void)
{
    pinti_cu_context context = NULL;
    EXPECT_EQ(pinti_cuda.ctx_get_current(&context), PINTI_CU_SUCCESS);
    return context;
}
