/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_DEVICE_BENCH_H
#define BENCH_DEVICE_BENCH_H

/* What the parts of the device bench share. */

#include "bench/support/bare.h"
#include "bench/support/bench.h"

#define LIMIT_MS 10000 /* for whatever others must do first */

typedef struct device_bench {
    pint_pool *pool;
    pint_device *device;
    pint_device_info info;
    void *stream;
    pint_table *table; /* one column of 64-bit integers */
    pint_column column;
    uint64_t *values;
    uint64_t n_chunks;
    uint64_t chunk_words;
    uint64_t bytes; /* of the column's values */
    pint_copy *copy;
    bench_bare bare;
    uint64_t stamp;
} device_bench;

/* device_cuda.c: what has a meaning on a GPU alone; a fact line says so elsewhere. */
void device_bench_register(device_bench *b);
void device_bench_mapped(device_bench *b);

#endif
