/* SPDX-License-Identifier: Apache-2.0 */

/* See bare.h. */

#include "bench/support/bare.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/support/gpu.h"
#include "bench/support/memory.h"

/* ---- copies ---------------------------------------------------------------------------------- */

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address; /* of memory on "host", which is ours */
}

void bench_bare_make(bench_bare *bare, bool is_cuda, uint64_t bytes, const char *host_pages,
                     const char *device_pages)
{
    *bare = (bench_bare){.is_cuda = is_cuda, .bytes = bytes};
    if (is_cuda) {
        bare->from = bench_gpu_host_alloc(bytes);
        bare->to = bench_gpu_host_alloc(bytes);
        bare->device = bench_gpu_alloc(bytes);
    } else {
        bare->from = bench_shared(bytes, host_pages);
        bare->to = bench_shared(bytes, host_pages);
        bare->device = (uintptr_t)bench_shared(bytes, device_pages);
    }
    for (uint64_t i = 0; i < bytes / sizeof(uint64_t); i++) {
        bare->from[i] = i * 0x9e3779b97f4a7c15u;
    }
}

void bench_bare_free(bench_bare *bare)
{
    if (bare->is_cuda) {
        bench_gpu_free(bare->device);
        bench_gpu_host_free(bare->to, bare->bytes);
        bench_gpu_host_free(bare->from, bare->bytes);
        return;
    }
    bench_unmap(pointer(bare->device), bare->bytes);
    bench_unmap(bare->to, bare->bytes);
    bench_unmap(bare->from, bare->bytes);
}

void bench_bare_stamp(uint64_t *values, uint64_t n, uint64_t stamp)
{
    for (uint64_t i = 0; i < n; i += BENCH_STAMP_WORDS) {
        values[i] = ~(i + stamp * n);
    }
}

void bench_bare_get(const bench_bare *bare, void *to, uint64_t from, uint64_t bytes)
{
    if (bare->is_cuda) {
        bench_gpu_to_host(to, from, bytes);
    } else {
        memcpy(to, pointer(from), bytes);
    }
}

/* ns */
static double send(bench_bare *bare)
{
    bench_bare_stamp(bare->from, bare->bytes / sizeof(uint64_t), ++bare->stamp);
    const uint64_t start = bench_now_ns();
    if (bare->is_cuda) {
        bench_gpu_to_device(bare->device, bare->from, bare->bytes);
    } else {
        memcpy(pointer(bare->device), bare->from, bare->bytes);
        bench_touch(pointer(bare->device));
    }
    return (double)(bench_now_ns() - start);
}

double bench_bare_to_device(bench_bare *bare)
{
    const double ns = send(bare);
    bench_bare_get(bare, bare->to, bare->device, bare->bytes);
    BENCH_CHECK(memcmp(bare->to, bare->from, bare->bytes) == 0);
    return ns;
}

/* What is copied has been written just before, and not read since, as where it is compared with. */
double bench_bare_to_host(bench_bare *bare)
{
    (void)send(bare);
    bench_pause_us(1000);
    const uint64_t start = bench_now_ns();
    bench_bare_get(bare, bare->to, bare->device, bare->bytes);
    bench_touch(bare->to);
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(memcmp(bare->to, bare->from, bare->bytes) == 0); /* the stamp is a new one */
    return (double)(end - start);
}

/* ---- wakes ----------------------------------------------------------------------------------- */

#define WAKES   9u
#define REST_US 500u

static pthread_t sleeper;
static _Atomic uint32_t bell;    /* one more: wake up; UINT32_MAX: end */
static _Atomic uint32_t answers; /* wakes seen */
static uint64_t woken_ns;        /* written before answers moves on */

static long futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static void *sleep_and_answer(void *argument)
{
    uint32_t seen = 0;
    while (seen != UINT32_MAX) {
        const uint32_t now = atomic_load(&bell);
        if (now == seen) {
            if (futex(&bell, FUTEX_WAIT_PRIVATE, seen) != 0 && errno != EAGAIN && errno != EINTR) {
                bench_die("futex");
            }
            continue;
        }
        woken_ns = bench_now_ns();
        seen = now;
        (void)atomic_fetch_add(&answers, 1); /* publishes woken_ns */
    }
    return argument;
}

static void ring(uint32_t value)
{
    atomic_store(&bell, value);
    (void)futex(&bell, FUTEX_WAKE_PRIVATE, 1);
}

void bench_wakes_start(void)
{
    atomic_store(&bell, 0);
    atomic_store(&answers, 0);
    if (pthread_create(&sleeper, NULL, sleep_and_answer, NULL) != 0) {
        bench_die("no thread");
    }
}

void bench_wakes_end(void)
{
    ring(UINT32_MAX);
    (void)pthread_join(sleeper, NULL);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_wake(void)
{
    double ns[WAKES];
    for (unsigned i = 0; i < WAKES; i++) {
        bench_pause_us(REST_US); /* it sleeps by now */
        const uint32_t before = atomic_load(&answers);
        const uint64_t start = bench_now_ns();
        ring(atomic_load(&bell) + 1);
        while (atomic_load(&answers) == before) {
            bench_pause_us(20);
        }
        ns[i] = (double)(woken_ns - start);
    }
    qsort(ns, WAKES, sizeof(ns[0]), compare);
    return ns[WAKES / 2];
}
