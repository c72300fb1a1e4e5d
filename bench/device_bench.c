/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: what does the library add to moving a column between host and device, and is no more
 *           moved than what is stale?
 * Ours:     to_device_full, to_device_1pct_near, to_device_1pct_far: some chunks were changed under
 *           leases (all; 1 % in a row; 1 % spread evenly); a reading bracket of the whole column,
 *           until its stream has passed. to_host_full: pint_copy_to_host() after the device wrote
 *           all. import: pint_copy_open() of a copy that is there, by a process that has not got
 *           it.
 * Baseline: Full: one plain copy of as many bytes, waited for. On "host" that is memcpy by the
 *           caller, of the same pages after the same changes: which pages the kernel gave a file is
 *           worth up to 10 %, and stays so for the whole run. On a GPU it is cuMemcpy*Async from
 *           and to memory of the driver's.
 *           1 %: 2 % (spread: 4 %) of a plain copy of as many bytes as the column has, and three
 *           bare wakes of a sleeping thread: the library's copy stream, the caller's stream, the
 *           caller. Import: none.
 *
 * Every sample is checked: bytes moved by the library's own count, and bytes compared.
 *
 * usage: device_bench [--device NAME] [--json FILE]     ("host" if not said)
 */

#include "bench/device_bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/gpu.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

/* 500 MiB; 1 % are 20 chunks. With less memory chunks are smaller. */
#define N_CHUNKS     2000u
#define N_ONE_PCT    (N_CHUNKS / 100)
#define CHUNK_BYTES  (256ull << 10)
#define WORD_BYTES   sizeof(uint64_t)
#define ROUNDS_FULL  21u
#define ROUNDS_SMALL 21u

/* Chunks that are made stale: n, step apart. */
typedef struct selection {
    device_bench *b;
    uint64_t first;
    uint64_t step;
    uint64_t n;
    double part; /* of a full copy, allowed */
} selection;

static const char *device_name = "host";

/* ---- making stale, and looking ----------------------------------------------------------------
 */

static void change_on_host(const selection *s)
{
    device_bench *b = s->b;
    pint_error err;
    b->stamp++;
    for (uint64_t i = 0; i < s->n; i++) {
        pint_lease lease;
        BENCH_OK(pint_lease_claim(&b->column, 1, s->first + i * s->step, PINT_UPDATE, LIMIT_MS,
                                  &lease, &err),
                 &err);
        bench_bare_stamp(b->values + lease.first, lease.n_rows, b->stamp);
        BENCH_OK(pint_lease_commit(&lease, &err), &err);
    }
}

/* The device has these chunks as the host has. Uses the bare copy's room. */
static void compare(const selection *s)
{
    const device_bench *b = s->b;
    const uint64_t chunk_bytes = b->chunk_words * WORD_BYTES;
    const uint64_t address = pint_copy_values(b->copy);
    if (s->step == 1) {
        bench_bare_get(&b->bare, b->bare.to, address + s->first * chunk_bytes, s->n * chunk_bytes);
        BENCH_CHECK(memcmp(b->bare.to, b->values + s->first * b->chunk_words, s->n * chunk_bytes) ==
                    0);
        return;
    }
    for (uint64_t i = 0; i < s->n; i++) {
        const uint64_t chunk = s->first + i * s->step;
        bench_bare_get(&b->bare, b->bare.to, address + chunk * chunk_bytes, chunk_bytes);
        BENCH_CHECK(memcmp(b->bare.to, b->values + chunk * b->chunk_words, chunk_bytes) == 0);
    }
}

static uint64_t moved_to_device(const device_bench *b)
{
    uint64_t to_device = 0;
    uint64_t to_host = 0;
    pint_copy_moved(b->copy, &to_device, &to_host);
    return to_device;
}

/* ---- to the device --------------------------------------------------------------------------- */

/* What is stale is on the device when this returns. */
static void read_on_device(device_bench *b)
{
    pint_error err;
    BENCH_OK(pint_device_begin(b->copy, 0, PINT_ALL_ROWS, PINT_READ, b->stream, LIMIT_MS, &err),
             &err);
    BENCH_OK(pint_device_end(b->copy, 0, PINT_ALL_ROWS, PINT_READ, b->stream, &err), &err);
    BENCH_OK(pint_stream_wait(b->device, b->stream, &err), &err);
}

/* ns */
static double bring(const selection *s)
{
    device_bench *b = s->b;
    change_on_host(s);
    bench_pause_us(500); /* the streams' threads sleep */
    const uint64_t before = moved_to_device(b);
    const uint64_t start = bench_now_ns();
    read_on_device(b);
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(moved_to_device(b) - before == s->n * b->chunk_words * WORD_BYTES);
    compare(s);
    return (double)(end - start);
}

/* The same on "host" by memcpy. The chunks stay stale on the device, where nobody reads them until
 * they have been brought by the library, too. */
static double bring_by_memcpy(const selection *s)
{
    device_bench *b = s->b;
    void *device = (void *)(uintptr_t)pint_copy_values(b->copy);
    change_on_host(s);
    bench_pause_us(500);
    const uint64_t start = bench_now_ns();
    memcpy(device, b->values, b->bytes);
    bench_touch(device);
    const uint64_t end = bench_now_ns();
    compare(s);
    read_on_device(b);
    return (double)(end - start);
}

static double gb_per_s(uint64_t bytes, double ns)
{
    return (double)bytes / ns;
}

static double ours_to_device(void *context)
{
    const selection *s = context;
    return gb_per_s(s->b->bytes, bring(s));
}

static double plain_to_device(void *context)
{
    const selection *s = context;
    device_bench *b = s->b;
    return gb_per_s(b->bytes,
                    b->info.is_cuda ? bench_bare_to_device(&b->bare) : bring_by_memcpy(s));
}

static double ours_part(void *context)
{
    return bring(context) / 1000;
}

static double allowed_part(void *context)
{
    const selection *s = context;
    return (s->part * bench_bare_to_device(&s->b->bare) + 3 * bench_wake()) / 1000;
}

static void measure_to_device(device_bench *b)
{
    selection all = {.b = b, .step = 1, .n = b->n_chunks};
    const bench_spec full = {.name = "to_device_full",
                             .unit = "GB/s",
                             .baseline = b->info.is_cuda ? "cuMemcpyHtoDAsync, driver's memory"
                                                         : "memcpy, same pages",
                             .kind = BENCH_RATIO_MIN,
                             .target = 0.95,
                             .n_rounds = ROUNDS_FULL,
                             .n_warm = 3};
    bench_measure(&full, ours_to_device, plain_to_device, &all);
    selection part = {.b = b, .first = N_CHUNKS / 2, .step = 1, .n = N_ONE_PCT, .part = 0.02};
    bench_spec spec = {.name = "to_device_1pct_near",
                       .unit = "us",
                       .baseline = "2 % of a plain full copy + 3 bare wakes",
                       .kind = BENCH_RATIO_MAX,
                       .target = 1,
                       .n_rounds = ROUNDS_SMALL,
                       .n_warm = 3};
    bench_measure(&spec, ours_part, allowed_part, &part);
    part = (selection){.b = b, .step = N_CHUNKS / N_ONE_PCT, .n = N_ONE_PCT, .part = 0.04};
    spec.name = "to_device_1pct_far";
    spec.baseline = "4 % of a plain full copy + 3 bare wakes";
    bench_measure(&spec, ours_part, allowed_part, &part);
    double wakes[ROUNDS_SMALL];
    for (unsigned i = 0; i < ROUNDS_SMALL; i++) {
        wakes[i] = bench_wake() / 1000;
    }
    const bench_spec wake = {.name = "bare_wake", .unit = "us", .kind = BENCH_NO_TARGET};
    bench_report(&wake, wakes, NULL, ROUNDS_SMALL);
}

/* ---- to the host ----------------------------------------------------------------------------- */

typedef struct device_copy {
    void *to;
    const void *from;
    uint64_t bytes;
} device_copy;

static void copy_on_host_device(void *context)
{
    const device_copy *copy = context;
    memcpy(copy->to, copy->from, copy->bytes);
}

/* The device writes the column: what the last plain copy left in the bench's device memory. */
static void write_on_device(device_bench *b)
{
    pint_error err;
    device_copy copy = {(void *)(uintptr_t)pint_copy_values(b->copy),
                        (const void *)(uintptr_t)b->bare.device, b->bytes};
    BENCH_OK(pint_device_begin(b->copy, 0, PINT_ALL_ROWS, PINT_WRITE, b->stream, LIMIT_MS, &err),
             &err);
    if (b->info.is_cuda) {
        bench_gpu_on_device(pint_copy_values(b->copy), b->bare.device, b->bytes, b->stream);
    } else {
        BENCH_OK(pint_stream_call(b->device, b->stream, copy_on_host_device, &copy, &err), &err);
    }
    BENCH_OK(pint_device_end(b->copy, 0, PINT_ALL_ROWS, PINT_WRITE, b->stream, &err), &err);
    BENCH_OK(pint_stream_wait(b->device, b->stream, &err), &err);
    for (uint64_t chunk = 0; chunk < b->n_chunks; chunk++) {
        while (pint_copy_places(b->copy, chunk) != 2u) { /* until the watcher has seen it */
            bench_pause_us(50);
        }
    }
}

static uint64_t to_host(device_bench *b)
{
    pint_error err;
    uint64_t bytes = 0;
    BENCH_OK(pint_copy_to_host(b->copy, 0, PINT_ALL_ROWS, LIMIT_MS, &bytes, &err), &err);
    return bytes;
}

static double ours_to_host(void *context)
{
    device_bench *b = context;
    (void)bench_bare_to_device(&b->bare); /* something else each time */
    write_on_device(b);
    const uint64_t start = bench_now_ns();
    const uint64_t bytes = to_host(b);
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(bytes == b->bytes);
    BENCH_CHECK(memcmp(b->values, b->bare.from, b->bytes) == 0);
    return gb_per_s(b->bytes, (double)(end - start));
}

/* The same on "host" by memcpy; the chunks stay newest on the device until the library has brought
 * them, too. */
static double to_host_by_memcpy(device_bench *b)
{
    (void)bench_bare_to_device(&b->bare);
    write_on_device(b);
    const uint64_t start = bench_now_ns();
    memcpy(b->values, (const void *)(uintptr_t)pint_copy_values(b->copy), b->bytes);
    bench_touch(b->values);
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(memcmp(b->values, b->bare.from, b->bytes) == 0);
    BENCH_CHECK(to_host(b) == b->bytes);
    return (double)(end - start);
}

static double plain_to_host(void *context)
{
    device_bench *b = context;
    return gb_per_s(b->bytes,
                    b->info.is_cuda ? bench_bare_to_host(&b->bare) : to_host_by_memcpy(b));
}

static void measure_to_host(device_bench *b)
{
    const bench_spec spec = {.name = "to_host_full",
                             .unit = "GB/s",
                             .baseline = b->info.is_cuda ? "cuMemcpyDtoHAsync, driver's memory"
                                                         : "memcpy, same pages",
                             .kind = BENCH_RATIO_MIN,
                             .target = 0.95,
                             .n_rounds = ROUNDS_FULL,
                             .n_warm = 3};
    bench_measure(&spec, ours_to_host, plain_to_host, b);
}

/* ---- import ---------------------------------------------------------------------------------- */

/* ms */
static double import_once(void *context)
{
    device_bench *b = context;
    pint_error err;
    const uint64_t generation = pint_copy_generation(b->copy);
    bench_pause_us(2000);     /* the library's own thread lets go of it */
    pint_copy_close(b->copy); /* the last use: the memory is mapped anew */
    const uint64_t start = bench_now_ns();
    BENCH_OK(pint_copy_open(b->device, &b->column, 0, PINT_WRITE, &b->copy, &err), &err);
    const uint64_t end = bench_now_ns();
    BENCH_CHECK(pint_copy_generation(b->copy) == generation);
    read_on_device(b);
    BENCH_CHECK(moved_to_device(b) == 0);
    compare(&(selection){.b = b, .step = N_CHUNKS / N_ONE_PCT, .n = N_ONE_PCT});
    return (double)(end - start) / 1e6;
}

static void measure_import(device_bench *b)
{
    const bench_spec spec = {.name = "import",
                             .unit = "ms",
                             .kind = b->info.is_cuda ? BENCH_VALUE_MAX : BENCH_NO_TARGET,
                             .target = 5,
                             .n_rounds = ROUNDS_SMALL,
                             .n_warm = 1};
    (void)bring(&(selection){.b = b, .step = 1, .n = b->n_chunks});
    bench_measure(&spec, import_once, NULL, b);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void set_up(device_bench *b)
{
    pint_error err;
    /* two of the table's, three of the bare copies; a GPU's own memory is not counted */
    const uint64_t wanted = bench_scaled("device", N_CHUNKS * CHUNK_BYTES, 6);
    b->chunk_words = CHUNK_BYTES / WORD_BYTES;
    while (N_CHUNKS * b->chunk_words * WORD_BYTES > wanted) {
        b->chunk_words /= 2;
    }
    b->n_chunks = N_CHUNKS;
    b->bytes = N_CHUNKS * b->chunk_words * WORD_BYTES;
    b->pool = bench_join();
    b->info = (pint_device_info)PINT_DEVICE_INFO_INIT;
    BENCH_OK(pint_device_open(b->pool, device_name, &b->device, &err), &err);
    BENCH_OK(pint_device_get_info(b->device, &b->info, &err), &err);
    BENCH_OK(pint_stream_create(b->device, &b->stream, &err), &err);
    b->table = bench_table(b->pool, "device", PINT_INT64, 1, b->bytes / WORD_BYTES, b->chunk_words,
                           PINT_UNINITIALISED);
    b->column = bench_column(b->table, 0);
    b->values = pint_column_values(&b->column);
    for (uint64_t i = 0; i < b->bytes / WORD_BYTES; i++) {
        b->values[i] = i;
    }
    BENCH_OK(pint_copy_open(b->device, &b->column, 0, PINT_WRITE, &b->copy, &err), &err);
    if (b->info.is_cuda) {
        bench_gpu_start(b->info.uuid);
    }
    /* the copy's pages are there before one asks how large they are */
    read_on_device(b);
    BENCH_CHECK(moved_to_device(b) == b->bytes);
    const char *pages =
        b->info.is_cuda ? NULL : bench_pages_of((void *)(uintptr_t)pint_copy_values(b->copy));
    bench_bare_make(&b->bare, b->info.is_cuda != 0, b->bytes, bench_pages_of(b->values), pages);
    bench_fact("device", "%s, %s, driver %" PRIu32, device_name, b->info.name,
               b->info.driver_version);
    bench_fact("column", "%.0f MiB in %" PRIu64 " chunks, pages %s, on the device %s",
               (double)b->bytes / (1 << 20), b->n_chunks, bench_pages_of(b->values),
               pages != NULL ? pages : "its own");
}

static void run(void)
{
    device_bench b = {0};
    bench_service_start(BENCH_ANY_CPU);
    set_up(&b);
    bench_wakes_start();
    measure_to_device(&b);
    measure_to_host(&b);
    measure_import(&b);
    device_bench_mapped(&b);
    bench_wakes_end();
    bench_bare_free(&b.bare);
    pint_copy_close(b.copy);
    pint_table_close(b.table);
    device_bench_register(&b);
    if (b.info.is_cuda) {
        bench_gpu_end();
    }
    pint_stream_destroy(b.device, b.stream);
    pint_device_close(b.device);
    pint_pool_leave(b.pool);
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "--device") == 0) {
        device_name = argv[2];
        argv[2] = argv[0];
        argv += 2;
        argc -= 2;
    }
    return bench_main(argc, argv, run, NULL, 0);
}
