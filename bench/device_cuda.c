/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The part of the device bench that has a meaning on a GPU alone.
 *
 * Question: register_1gib: what does registering a table's memory with the driver cost?
 *           register_1gib_new: the same for memory that this process has not touched yet.
 *           kernel_mapped: how fast does a kernel read a column over the bus, without a copy?
 * Ours:     pint_device_pin() of a table of 1 GiB; a kernel that adds up the words of a column at
 *           the address of pint_device_mapped().
 * Baseline: cuMemHostRegister of shared memory with pages of the same size, in one call, touched;
 *           a plain copy of the column's bytes to the device.
 */

#include <inttypes.h>
#include <stdio.h>

#include "bench/device_bench.h"
#include "bench/support/gpu.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define TABLE_BYTES (1ull << 30)
#define ROUNDS      7u
#define ROUNDS_NEW  3u

/* ---- registering ----------------------------------------------------------------------------- */

typedef struct registering {
    device_bench *b;
    pint_table *table; /* touched */
    void *plain;
    uint64_t bytes;
    unsigned n_made;
} registering;

static double pin_once(const registering *r, pint_table *table)
{
    pint_error err;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    const uint64_t start = bench_now_ns();
    BENCH_OK(pint_device_pin(r->b->device, table, NULL, NULL, &err), &err);
    const uint64_t end = bench_now_ns();
    BENCH_OK(pint_device_get_info(r->b->device, &info, &err), &err);
    BENCH_CHECK(info.pinned_bytes >= r->bytes);
    BENCH_OK(pint_device_unpin(r->b->device, table, &err), &err);
    return (double)(end - start) / 1e6;
}

static double ours_touched(void *context)
{
    const registering *r = context;
    return pin_once(r, r->table);
}

/* A table that is new each time: in this process none of its pages is mapped. */
static double ours_new(void *context)
{
    registering *r = context;
    char name[32];
    (void)snprintf(name, sizeof(name), "new%u", r->n_made++);
    pint_table *table = bench_table(r->b->pool, name, PINT_INT64, 1, r->bytes / sizeof(uint64_t), 0,
                                    PINT_UNINITIALISED);
    const double ms = pin_once(r, table);
    pint_table_close(table);
    return ms;
}

static double plain_register(void *context)
{
    const registering *r = context;
    const uint64_t start = bench_now_ns();
    bench_gpu_register(r->plain, r->bytes);
    const uint64_t end = bench_now_ns();
    bench_gpu_unregister(r->plain);
    return (double)(end - start) / 1e6;
}

void device_bench_register(device_bench *b)
{
    if (!b->info.is_cuda) {
        bench_fact("register_1gib", "skipped: only a GPU's driver registers memory");
        return;
    }
    registering r = {.b = b, .bytes = bench_scaled("register_1gib", TABLE_BYTES, 3)};
    const uint64_t n = r.bytes / sizeof(uint64_t);
    r.table = bench_table(b->pool, "pinned", PINT_INT64, 1, n, 0, PINT_UNINITIALISED);
    const pint_column column = bench_column(r.table, 0);
    uint64_t *values = pint_column_values(&column);
    for (uint64_t i = 0; i < n; i++) {
        values[i] = i;
    }
    r.plain = bench_shared(r.bytes, bench_pages_of(values));
    bench_spec spec = {.name = "register_1gib",
                       .unit = "ms",
                       .baseline = "cuMemHostRegister, same page size",
                       .kind = BENCH_NO_TARGET,
                       .n_rounds = ROUNDS,
                       .n_warm = 1};
    bench_measure(&spec, ours_touched, plain_register, &r);
    pint_table_close(r.table);
    spec.name = "register_1gib_new";
    spec.n_rounds = ROUNDS_NEW;
    bench_measure(&spec, ours_new, plain_register, &r);
    bench_unmap(r.plain, r.bytes);
}

/* ---- a kernel on host memory ----------------------------------------------------------------- */

typedef struct mapped {
    device_bench *b;
    uint64_t address;
    uint64_t sum;
} mapped;

static double ours_mapped(void *context)
{
    const mapped *m = context;
    const uint64_t start = bench_now_ns();
    const uint64_t sum = bench_gpu_sum(m->address, m->b->bytes / sizeof(uint64_t));
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(sum == m->sum);
    return (double)m->b->bytes / (double)(end - start);
}

static double plain_copy(void *context)
{
    const mapped *m = context;
    return (double)m->b->bytes / bench_bare_to_device(&m->b->bare);
}

void device_bench_mapped(device_bench *b)
{
    pint_error err;
    mapped m = {.b = b};
    const char *why_not = !b->info.is_cuda        ? "there is no bus to read over on \"host\""
                          : !b->info.can_map_host ? "this GPU cannot read host memory"
                                                  : bench_gpu_no_kernels();
    if (why_not != NULL) {
        bench_fact("kernel_mapped", "skipped: %s", why_not);
        return;
    }
    BENCH_OK(pint_device_mapped(b->device, &b->column, &m.address, &err), &err);
    for (uint64_t i = 0; i < b->bytes / sizeof(uint64_t); i++) {
        m.sum += b->values[i];
    }
    const bench_spec spec = {.name = "kernel_mapped",
                             .unit = "GB/s",
                             .baseline = "cuMemcpyHtoDAsync, driver's memory",
                             .kind = BENCH_NO_TARGET,
                             .n_rounds = ROUNDS,
                             .n_warm = 1};
    bench_measure(&spec, ours_mapped, plain_copy, &m);
}
