/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The device phase of the demo: a GPU if there is one, else device "host".
 *
 * Chunks that the device has not got, or not the newest bytes of, are brought; the device squares
 * them into another column; that is brought back, and CPU workers read it. Then a worker process
 * changes 1 % of the chunks on the host, and the same function runs again: it finds that only these
 * are stale, and only these move.
 */

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "demo.h"

#define READERS_MAX 64
#define ON_DEVICE   2u /* of pint_copy_places() */

typedef struct phase {
    pint_table *table;
    pint_device *device;
    pint_device_info info;
    void *stream;
    pint_column from;
    pint_column to;
    pint_copy *from_copy;
    pint_copy *to_copy;
    uint64_t rows, chunk_rows, chunks;
} phase;

/* ---- on the device --------------------------------------------------------------------------- */

typedef struct piece {
    double *to;
    const double *from;
    uint64_t n;
} piece;

static void square_on_host(void *context)
{
    const piece *p = context;
    for (uint64_t i = 0; i < p->n; i++) {
        p->to[i] = p->from[i] * p->from[i];
    }
    free(context);
}

static void enqueue_square(const phase *p, uint64_t first, uint64_t n)
{
    pint_error err;
    const uint64_t to = pint_copy_values(p->to_copy) + first * sizeof(double);
    const uint64_t from = pint_copy_values(p->from_copy) + first * sizeof(double);
    if (p->info.is_cuda != 0) {
        if (!demo_gpu_square(p->stream, to, from, n)) {
            die("the kernel was not launched", NULL);
        }
        return;
    }
    piece *squares = malloc(sizeof(*squares));
    if (squares == NULL) {
        die("out of memory", NULL);
    }
    *squares = (piece){(double *)(uintptr_t)to, (const double *)(uintptr_t)from, n};
    TRY(pint_stream_call(p->device, p->stream, square_on_host, squares, &err));
}

/* Rows of chunks [first, end) that are stale on the device: brought, squared, given back. */
static void do_stale(const phase *p, uint64_t first, uint64_t end)
{
    pint_error err;
    const uint64_t row = first * p->chunk_rows;
    const uint64_t last = end * p->chunk_rows < p->rows ? end * p->chunk_rows : p->rows;
    const uint64_t n = last - row;
    TRY(pint_device_begin(p->from_copy, row, n, PINT_READ, p->stream, -1, &err));
    TRY(pint_device_begin(p->to_copy, row, n, PINT_WRITE, p->stream, -1, &err));
    enqueue_square(p, row, n);
    TRY(pint_device_end(p->to_copy, row, n, PINT_WRITE, p->stream, &err));
    TRY(pint_device_end(p->from_copy, row, n, PINT_READ, p->stream, &err));
}

typedef struct moved {
    uint64_t to_device;
    uint64_t to_host;
    double seconds;
} moved;

static uint64_t moved_to_device(const phase *p)
{
    uint64_t from[2];
    uint64_t to[2];
    pint_copy_moved(p->from_copy, &from[0], &from[1]);
    pint_copy_moved(p->to_copy, &to[0], &to[1]);
    return from[0] + to[0];
}

/* One round: whatever is stale, and its results back on the host. */
static moved run_round(const phase *p)
{
    pint_error err;
    moved m = {.to_device = moved_to_device(p)};
    const double start = now_s();
    for (uint64_t chunk = 0; chunk < p->chunks;) {
        const uint64_t first = chunk;
        while (chunk < p->chunks && (pint_copy_places(p->from_copy, chunk) & ON_DEVICE) == 0) {
            chunk++;
        }
        if (chunk > first) {
            do_stale(p, first, chunk);
        } else {
            chunk++;
        }
    }
    TRY(pint_copy_to_host(p->to_copy, 0, PINT_ALL_ROWS, -1, &m.to_host, &err));
    m.seconds = now_s() - start;
    m.to_device = moved_to_device(p) - m.to_device;
    return m;
}

/* ---- other processes ------------------------------------------------------------------------- */

static pid_t start(const char *role, const char *from, const char *to, uint64_t part,
                   uint64_t parts)
{
    char numbers[2][24];
    (void)snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, part);
    (void)snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, parts);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl("/proc/self/exe", "demo", DEMO_DEVICE_ROLE, role, from, to, numbers[0],
                    numbers[1], (char *)NULL);
        _exit(127);
    }
    return pid;
}

static bool ended_well(pid_t pid)
{
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Each of n processes looks at its share of the rows. */
static bool read_by_workers(const char *from, const char *to, int n)
{
    pid_t pids[READERS_MAX];
    bool is_right = true;
    n = n > READERS_MAX ? READERS_MAX : n;
    for (int i = 0; i < n; i++) {
        pids[i] = start("read", from, to, (uint64_t)i, (uint64_t)n);
    }
    for (int i = 0; i < n; i++) {
        is_right = ended_well(pids[i]) && is_right;
    }
    return is_right;
}

/* Every step-th chunk, under leases. */
static void change(pint_column *column, uint64_t step)
{
    pint_error err;
    const uint64_t n_chunks = pint_table_chunks(column->table);
    double *values = pint_column_values(column);
    for (uint64_t chunk = 0; chunk < n_chunks; chunk += step) {
        pint_lease lease;
        TRY(pint_lease_claim(column, 1, chunk, PINT_UPDATE, -1, &lease, &err));
        for (uint64_t i = 0; i < lease.n_rows; i++) {
            values[lease.first + i] += 1;
        }
        TRY(pint_lease_commit(&lease, &err));
    }
}

/* The plain computation, against what the device has left. */
static bool is_square(const pint_column *from, const pint_column *to, uint64_t part, uint64_t parts)
{
    const uint64_t rows = pint_table_rows(from->table);
    const double *values = pint_column_values(from);
    const double *squares = pint_column_values(to);
    for (uint64_t i = rows / parts * part;
         i < (part + 1 == parts ? rows : rows / parts * (part + 1)); i++) {
        const double want = values[i] * values[i];
        /* the payload of a NaN is another on a GPU */
        if (memcmp(&want, &squares[i], sizeof(want)) != 0 && !(isnan(want) && isnan(squares[i]))) {
            return false;
        }
    }
    return true;
}

int demo_device_worker(const char *table_name, int argc, char **argv)
{
    pint_error err;
    pint_pool *pool;
    pint_table *table;
    pint_column from;
    pint_column to;
    bool is_right = true;
    if (argc != 7) {
        return 64;
    }
    const uint64_t part = strtoull(argv[5], NULL, 10);
    const uint64_t parts = strtoull(argv[6], NULL, 10);
    TRY(pint_pool_join(NULL, NULL, &pool, &err));
    TRY(pint_table_open(pool, table_name, PINT_WRITE, &table, &err));
    TRY(pint_table_column(table, argv[3], &from, &err));
    TRY(pint_table_column(table, argv[4], &to, &err));
    if (strcmp(argv[2], "change") == 0) {
        change(&from, parts);
    } else {
        is_right = is_square(&from, &to, part, parts);
    }
    pint_table_close(table);
    pint_pool_leave(pool);
    return is_right ? 0 : 1;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* cuda:0 where there is one that takes the kernel, else "host". */
static void open_device(phase *p)
{
    pint_error err;
    const char *why = NULL;
    pint_pool *pool = pint_table_pool(p->table);
    p->info = (pint_device_info)PINT_DEVICE_INFO_INIT;
    if (pint_device_open(pool, "cuda:0", &p->device, &err) == PINT_OK) {
        TRY(pint_device_get_info(p->device, &p->info, &err));
        if (demo_gpu_load(p->info.uuid, &why)) {
            (void)printf("device: cuda:0, %s\n", p->info.name);
            return;
        }
        (void)printf("device: cuda:0 is there, but %s\n", why);
        pint_device_close(p->device);
    }
    TRY(pint_device_open(pool, "host", &p->device, &err));
    TRY(pint_device_get_info(p->device, &p->info, &err));
    (void)printf("device: host, for want of a GPU: the same code, on host memory\n");
}

static void print_round(const char *what, const moved *m, uint64_t to_device, uint64_t to_host)
{
    line(what, "%.2f of %.2f MiB to the device, %.2f of %.2f MiB back, %.2f ms", mib(m->to_device),
         mib(to_device), mib(m->to_host), mib(to_host), m->seconds * 1e3);
}

/* A worker process changes every step-th chunk on the host, and the device does these. */
static bool change_and_redo(const phase *p, const char *from, const char *to, moved *out_moved,
                            uint64_t *out_n_changed)
{
    const uint64_t step = p->chunks == 0 ? 1 : p->chunks < 100 ? p->chunks : 100;
    *out_n_changed = (p->chunks + step - 1) / step;
    const bool is_changed = ended_well(start("change", from, to, 0, step));
    *out_moved = run_round(p);
    return is_changed;
}

bool demo_device_phase(pint_table *table, const char *from, const char *to, int n_readers)
{
    pint_error err;
    phase p = {.table = table,
               .rows = pint_table_rows(table),
               .chunk_rows = pint_table_chunk_rows(table),
               .chunks = pint_table_chunks(table)};
    (void)printf("\n");
    open_device(&p);
    TRY(pint_table_column(table, from, &p.from, &err));
    TRY(pint_table_column(table, to, &p.to, &err));
    TRY(pint_stream_create(p.device, &p.stream, &err));
    TRY(pint_copy_open(p.device, &p.from, 0, PINT_WRITE, &p.from_copy, &err));
    TRY(pint_copy_open(p.device, &p.to, 0, PINT_WRITE, &p.to_copy, &err));
    (void)printf("  squares column %s into %s, and gives it back to %d CPU workers\n", from, to,
                 n_readers);
    const uint64_t to_host = p.rows * sizeof(double);
    const uint64_t to_device = to_host + (p.from.validity != NULL ? (p.rows + 7) / 8 : 0);
    char what[32];

    const moved first = run_round(&p);
    bool is_right = read_by_workers(from, to, n_readers);
    (void)snprintf(what, sizeof(what), "all %" PRIu64 " chunks stale", p.chunks);
    print_round(what, &first, to_device, to_host);
    moved second;
    uint64_t n_changed;
    is_right = change_and_redo(&p, from, to, &second, &n_changed) && is_right;
    is_right = read_by_workers(from, to, n_readers) && is_right;
    (void)snprintf(what, sizeof(what), "%" PRIu64 " of %" PRIu64 " changed since", n_changed,
                   p.chunks);
    print_round(what, &second, to_device, to_host);
    line("CPU workers read", "%s",
         is_right ? "what the plain computation gives, bit for bit" : "WRONG: values differ");
    pint_copy_close(p.to_copy);
    pint_copy_close(p.from_copy);
    pint_stream_destroy(p.device, p.stream);
    pint_device_close(p.device);
    return is_right;
}
