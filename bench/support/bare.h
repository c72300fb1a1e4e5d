/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SUPPORT_BARE_H
#define BENCH_SUPPORT_BARE_H

/*
 * What device copies are compared with: plain copies between memory of the bench's own, and waking
 * a thread.
 *
 *   device "host"  memcpy between shared memory with pages of the same size as the library's
 *   device "cuda"  cuMemcpy*Async between memory that the driver allocated on both sides
 */

#include "bench/support/bench.h"

typedef struct bench_bare {
    bool is_cuda;
    uint64_t bytes;
    uint64_t *from;  /* host: values(i) at word i; as bench_bare_stamp() left them */
    uint64_t *to;    /* host: room for what comes back */
    uint64_t device; /* address of bytes on the device */
    uint64_t stamp;
} bench_bare;

/* The driver has been started for a CUDA device. Pages: of the host memory and of the device's. */
void bench_bare_make(bench_bare *bare, bool is_cuda, uint64_t bytes, const char *host_pages,
                     const char *device_pages);
void bench_bare_free(bench_bare *bare);

/* Change a word in each page of some values, to something they have not been. */
#define BENCH_STAMP_WORDS 512u
void bench_bare_stamp(uint64_t *values, uint64_t n, uint64_t stamp);

/* One plain copy of all bytes, changed before: ns. */
double bench_bare_to_device(bench_bare *bare);
double bench_bare_to_host(bench_bare *bare);

/* Look at device memory. */
void bench_bare_get(const bench_bare *bare, void *to, uint64_t from, uint64_t bytes);

/* Wake a thread that has slept for a while by a futex: ns from before the call to its first
 * instruction, the median of some. */
void bench_wakes_start(void);
void bench_wakes_end(void);
double bench_wake(void);

#endif
