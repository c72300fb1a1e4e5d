/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SUPPORT_GPU_H
#define BENCH_SUPPORT_GPU_H

/*
 * The CUDA driver without the library: what figures on a GPU are compared with, and the means to
 * look at device memory. Found at run time by its exported names ($PINTABLE_LIBCUDA, or
 * libcuda.so.1); declarations are those of device/cuda_abi.h. Used by the thread that started it.
 * A call that fails ends the program.
 */

#include "bench/support/bench.h"

/* Make the primary context of the GPU with this UUID current in this thread. */
void bench_gpu_start(const uint8_t uuid[16]);
void bench_gpu_end(void);

/* Page-locked host memory as the driver allocates it; shared anonymous memory that is registered
 * where the driver has no call for it, which a fact line then says. */
void *bench_gpu_host_alloc(uint64_t bytes);
void bench_gpu_host_free(void *at, uint64_t bytes);

uint64_t bench_gpu_alloc(uint64_t bytes);
void bench_gpu_free(uint64_t address);

/* Copies that are over when the call returns. */
void bench_gpu_to_device(uint64_t to, const void *from, uint64_t bytes);
void bench_gpu_to_host(void *to, uint64_t from, uint64_t bytes);
/* Enqueued on a stream of the caller's. */
void bench_gpu_on_device(uint64_t to, uint64_t from, uint64_t bytes, void *stream);

void bench_gpu_register(void *at, uint64_t bytes);
void bench_gpu_unregister(void *at);

/* NULL: kernels can be run; else why not. */
const char *bench_gpu_no_kernels(void);
/* Sum of 64-bit words at a device address, by a kernel. */
uint64_t bench_gpu_sum(uint64_t words, uint64_t n);

#endif
