/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_DEVICE_CUDA_GPU_H
#define TESTS_DEVICE_CUDA_GPU_H

/* A GPU of the fake driver opened as a backend, and what tests ask about it. */

#include "device/backend.h"
#include "device/cuda_device.h"
#include "tests/fakecuda/attach.h"

#define GRANULE ((size_t)2 << 20)

/* Start the fake with these settings and open "cuda:0". Fails the test and gives NULL. */
pinti_backend *gpu_open(const char *const *settings);

/* Shared memory of whole pages, as a table's is. */
char *gpu_host_memory(size_t bytes, bool writable);

/* Memory of GPU 0 as a broker makes it: only the descriptor keeps it. */
int gpu_memory(size_t bytes);

/* Bytes of GPU 0 that this process refers to. */
size_t gpu_used_bytes(void);

/* The context that is current in this thread. */
pinti_cu_context gpu_current(void);

#endif
