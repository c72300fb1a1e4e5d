/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The main job, end to end, on a real table: ./run demo
 *
 * A private service is started and a CSV file is loaded. Then one worker process per core takes
 * chunks of a job that, for each chunk, standardises every float column in place and fills two new
 * columns: how far the row is from the average row, and how many of its values are missing. One
 * worker kills itself with SIGKILL half way through a chunk, with half of the chunk's numbers
 * already overwritten. The others finish the job. The result is compared, bit for bit, with the
 * same computation in one process on private memory.
 *
 * Then a device works on the table (demo_device.c): a GPU if there is one.
 *
 * usage: demo FILE.csv [WORKERS]     (pintable and pintabled beside it in bin/)
 */

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <pintable/pintable.h>

#include "demo_device.h"

#define TABLE        "demo"
#define JOB          "standardise"
#define DISTANCE     "row_distance" /* float64: root of the mean square of the row's scores */
#define MISSING      "row_missing"  /* int32: null values in the row */
#define COLUMNS_MAX  256u
#define WORKERS_MAX  64
#define VICTIM       1  /* worker that dies */
#define VICTIM_CHUNK 0u /* in which of its chunks, counted from 0 */

static void die(const char *what, const pint_error *err)
{
    (void)fprintf(stderr, "demo: %s%s%s\n", what, err != NULL ? ": " : "",
                  err != NULL ? err->message : "");
    exit(1);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            die(#call, &err);                                                                      \
        }                                                                                          \
    } while (0)

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the computation: the same functions for workers and for the reference ------------------- */

typedef struct moments {
    double mean;
    double scale; /* 1 / standard deviation; 1 for a constant column */
} moments;

/* The numeric columns of the table, and where the results go. */
typedef struct work {
    uint32_t n; /* float columns */
    pint_column columns[COLUMNS_MAX];
    moments moments[COLUMNS_MAX];
    uint32_t n_all; /* all columns with nulls, for counting */
    pint_column nullable[COLUMNS_MAX];
    pint_column distance;
    pint_column missing;
} work;

static bool bit(const uint8_t *bits, uint64_t row)
{
    return bits == NULL || (bits[row / 8] >> (row % 8) & 1) != 0;
}

static moments column_moments(const double *values, const uint8_t *valid, uint64_t n)
{
    double sum = 0;
    double squares = 0;
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (bit(valid, i) && isfinite(values[i])) {
            sum += values[i];
            count++;
        }
    }
    const double mean = count == 0 ? 0 : sum / (double)count;
    for (uint64_t i = 0; i < n; i++) {
        if (bit(valid, i) && isfinite(values[i])) {
            squares += (values[i] - mean) * (values[i] - mean);
        }
    }
    const double deviation = count < 2 ? 0 : sqrt(squares / (double)(count - 1));
    return (moments){mean, deviation > 0 ? 1 / deviation : 1};
}

static void standardise(double *values, uint64_t n, moments m)
{
    for (uint64_t i = 0; i < n; i++) {
        values[i] = (values[i] - m.mean) * m.scale;
    }
}

/* values[c]: column c's first row of the range; valid[c] its whole bitmap, rows from first on */
static void row_results(double *const *values, const uint8_t *const *valid, uint32_t n,
                        const uint8_t *const *all_valid, uint32_t n_all, uint64_t first,
                        uint64_t n_rows, double *distance, int32_t *missing)
{
    for (uint64_t i = 0; i < n_rows; i++) {
        double squares = 0;
        uint32_t count = 0;
        for (uint32_t c = 0; c < n; c++) {
            if (bit(valid[c], first + i) && isfinite(values[c][i])) {
                squares += values[c][i] * values[c][i];
                count++;
            }
        }
        distance[i] = count == 0 ? 0 : sqrt(squares / count);
        int32_t n_null = 0;
        for (uint32_t c = 0; c < n_all; c++) {
            n_null += !bit(all_valid[c], first + i);
        }
        missing[i] = n_null;
    }
}

/* ---- both sides: the table's columns --------------------------------------------------------- */

static void find_columns(pint_table *table, work *w)
{
    pint_error err;
    w->n = 0;
    w->n_all = 0;
    for (uint32_t i = 0; i < pint_table_columns(table); i++) {
        pint_column column;
        TRY(pint_table_column_at(table, i, &column, &err));
        if (strcmp(pint_column_name(&column), DISTANCE) == 0) {
            w->distance = column;
        } else if (strcmp(pint_column_name(&column), MISSING) == 0) {
            w->missing = column;
        } else {
            if (column.type == PINT_FLOAT64 && w->n < COLUMNS_MAX) {
                w->columns[w->n++] = column;
            }
            if (pint_column_is_nullable(&column) && w->n_all < COLUMNS_MAX) {
                w->nullable[w->n_all++] = column;
            }
        }
    }
    if (w->n == 0 || w->distance.table == NULL || w->missing.table == NULL) {
        die("the file has no numeric column", NULL);
    }
}

static pint_job *join_job(pint_table *table, const work *w)
{
    pint_error err;
    pint_use uses[COLUMNS_MAX + 2];
    uint32_t n = 0;
    for (; n < w->n; n++) {
        uses[n] = (pint_use){pint_column_name(&w->columns[n]), PINT_INOUT, 0};
    }
    uses[n++] = (pint_use){DISTANCE, PINT_OUT, 0};
    uses[n++] = (pint_use){MISSING, PINT_OUT, 0};
    pint_job *job;
    TRY(pint_job_create(table, JOB, uses, n, &job, &err));
    return job;
}

/* ---- worker ---------------------------------------------------------------------------------- */

/* What a worker tells the parent when it is done. */
typedef struct report {
    double attach_s; /* join, open, columns */
    double busy_s;   /* inside chunks */
    uint64_t n_chunks;
    uint64_t attach_bytes; /* private memory that attaching added: copies of data would show here */
    uint64_t pss_bytes;
    uint64_t private_bytes;
} report;

static uint64_t rollup_kib(const char *field)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    uint64_t kib = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const size_t n = strlen(field);
        if (strncmp(line, field, n) == 0 && line[n] == ':') {
            kib += strtoull(line + n + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib;
}

static uint64_t private_bytes(void)
{
    return rollup_kib("Anonymous") * 1024;
}

static void do_chunk(const work *w, const pint_lease *lease, bool is_last_act)
{
    double *values[COLUMNS_MAX];
    const uint8_t *valid[COLUMNS_MAX];
    const uint8_t *all_valid[COLUMNS_MAX];
    for (uint32_t c = 0; c < w->n; c++) {
        values[c] = (double *)pint_column_values(&w->columns[c]) + lease->first;
        valid[c] = w->columns[c].validity;
        standardise(values[c], lease->n_rows, w->moments[c]);
        if (is_last_act && c == w->n / 2) {
            (void)kill(getpid(), SIGKILL); /* half of the chunk is overwritten */
        }
    }
    for (uint32_t c = 0; c < w->n_all; c++) {
        all_valid[c] = w->nullable[c].validity;
    }
    row_results(values, valid, w->n, all_valid, w->n_all, lease->first, lease->n_rows,
                (double *)pint_column_values(&w->distance) + lease->first,
                (int32_t *)pint_column_values(&w->missing) + lease->first);
}

static int worker_main(bool is_victim, int from_parent, int to_parent)
{
    pint_error err;
    report r = {0};
    static work w; /* large */
    const uint64_t before = private_bytes();
    const double start = now_s();
    pint_pool *pool;
    TRY(pint_pool_join(NULL, NULL, &pool, &err));
    pint_table *table;
    TRY(pint_table_open(pool, TABLE, PINT_WRITE, &table, &err));
    find_columns(table, &w);
    r.attach_s = now_s() - start;
    const uint64_t after = private_bytes();
    r.attach_bytes = after > before ? after - before : 0;
    if (read(from_parent, w.moments, sizeof(w.moments)) != (ssize_t)sizeof(w.moments)) {
        die("worker: no moments", NULL);
    }
    pint_job *job = join_job(table, &w);
    pint_lease lease;
    pint_status status;
    while ((status = pint_job_next(job, &lease, &err)) == PINT_OK) {
        const double t = now_s();
        do_chunk(&w, &lease, is_victim && r.n_chunks == VICTIM_CHUNK);
        TRY(pint_job_done(job, &lease, &err));
        r.busy_s += now_s() - t;
        r.n_chunks++;
    }
    if (status != PINT_FINISHED) {
        die("worker: next", &err);
    }
    r.pss_bytes = rollup_kib("Pss") * 1024;
    r.private_bytes = private_bytes();
    if (write(to_parent, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        return 1;
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

/* ---- parent ---------------------------------------------------------------------------------- */

typedef struct worker {
    pid_t pid;
    int to;   /* pipe: moments */
    int from; /* pipe: report */
    report r;
    bool has_report;
} worker;

#define PATH_ROOM (PATH_MAX + 64)

static char program_folder[PATH_MAX];
static char work_folder[] = "/tmp/pintable-demo-XXXXXX";

static void program_path(const char *name, char *out, size_t room)
{
    (void)snprintf(out, room, "%s/bin/%s", program_folder, name);
    if (access(out, X_OK) != 0) {
        (void)snprintf(out, room, "%s/%s", program_folder, name);
    }
}

static int run_program(const char *const argv[])
{
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execv(argv[0], (char *const *)(uintptr_t)argv); /* execv does not change them */
        _exit(127);
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void stop_service(void)
{
    char path[PATH_ROOM];
    program_path("pintable", path, sizeof(path));
    const char *argv[] = {path, "stop", "--force", NULL};
    (void)run_program(argv);
    static const char *const leftovers[] = {"pool-v1.lock", "pool-v1.log", "pool-v1.sock"};
    for (size_t i = 0; i < sizeof(leftovers) / sizeof(leftovers[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", work_folder, leftovers[i]);
        (void)unlink(path);
    }
    (void)rmdir(work_folder);
}

static void load_file(const char *file)
{
    char path[PATH_ROOM];
    program_path("pintable", path, sizeof(path));
    const char *argv[] = {
        path,    "load",           file,      TABLE, "--floats", "--add", DISTANCE "=float64",
        "--add", MISSING "=int32", "--quiet", NULL};
    if (run_program(argv) != 0) {
        die("pintable load failed", NULL);
    }
}

static void start_worker(worker *w, int number, bool is_victim)
{
    int down[2];
    int up[2];
    if (pipe(down) != 0 || pipe(up) != 0) {
        die("pipe", NULL);
    }
    char arguments[4][16];
    (void)snprintf(arguments[0], sizeof(arguments[0]), "%d", number);
    (void)snprintf(arguments[1], sizeof(arguments[1]), "%d", is_victim);
    (void)snprintf(arguments[2], sizeof(arguments[2]), "%d", down[0]);
    (void)snprintf(arguments[3], sizeof(arguments[3]), "%d", up[1]);
    w->pid = fork();
    if (w->pid < 0) {
        die("fork", NULL);
    }
    if (w->pid == 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        (void)execl("/proc/self/exe", "demo", "--worker", arguments[0], arguments[1], arguments[2],
                    arguments[3], (char *)NULL);
        _exit(127);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    w->to = down[1];
    w->from = up[0];
}

static void show_progress(const pint_job_progress *p, uint32_t n_live, bool on_terminal)
{
    const int width = 40;
    const int full = p->n_chunks == 0 ? width : (int)(p->n_done * (uint64_t)width / p->n_chunks);
    if (on_terminal) {
        (void)printf("\r  [");
        for (int i = 0; i < width; i++) {
            (void)fputs(i < full ? "█" : "·", stdout);
        }
        (void)printf("] %" PRIu64 "/%" PRIu64 " chunks, %u workers, %" PRIu64 " redone ", p->n_done,
                     p->n_chunks, n_live, p->n_redone);
        (void)fflush(stdout);
    }
}

/* Wait for the job; reap workers that end. Returns the seconds it took, and who was killed. */
static double watch(pint_job *job, worker *workers, int n, int *out_killed)
{
    pint_error err;
    const bool on_terminal = isatty(STDOUT_FILENO) == 1;
    const double start = now_s();
    double end = 0;
    int left = n;
    uint32_t live = (uint32_t)n;
    *out_killed = -1;
    while (left > 0) {
        pint_job_progress p = PINT_JOB_PROGRESS_INIT;
        TRY(pint_job_get_progress(job, &p, &err));
        if (end == 0 && p.n_done + p.n_failed == p.n_chunks) {
            end = now_s();
        }
        show_progress(&p, live, on_terminal);
        int status;
        const pid_t pid = waitpid(-1, &status, end == 0 ? WNOHANG : 0);
        for (int i = 0; pid > 0 && i < n; i++) {
            if (workers[i].pid != pid) {
                continue;
            }
            left--;
            live--;
            if (WIFSIGNALED(status)) {
                *out_killed = i;
                (void)printf("%s  worker %d killed by signal %d, %s half way through a chunk\n",
                             on_terminal ? "\r\033[K" : "", i, WTERMSIG(status),
                             WTERMSIG(status) == SIGKILL ? "SIGKILL," : "");
            } else if (WEXITSTATUS(status) != 0) {
                die("a worker failed", NULL);
            }
        }
        if (pid <= 0 && end == 0) {
            /* until the job moves on, or 20 ms */
            if (pint_job_wait(job, 20, &err) < PINT_E_TIMEOUT) {
                die("wait", &err);
            }
        }
    }
    (void)printf("%s", on_terminal ? "\r\033[K" : "");
    return (end == 0 ? now_s() : end) - start;
}

/* ---- reference ------------------------------------------------------------------------------- */

typedef struct reference {
    double *values[COLUMNS_MAX];
    double *distance;
    int32_t *missing;
    double seconds;
    uint64_t n_null;
} reference;

static void *copy_of(const void *from, size_t bytes)
{
    void *to = malloc(bytes == 0 ? 1 : bytes);
    if (to == NULL) {
        die("out of memory", NULL);
    }
    return memcpy(to, from, bytes);
}

static void compute_reference(const work *w, uint64_t rows, reference *ref)
{
    const uint8_t *valid[COLUMNS_MAX];
    const uint8_t *all_valid[COLUMNS_MAX];
    for (uint32_t c = 0; c < w->n; c++) {
        ref->values[c] = copy_of(pint_column_values(&w->columns[c]), rows * sizeof(double));
        valid[c] = w->columns[c].validity;
    }
    for (uint32_t c = 0; c < w->n_all; c++) {
        all_valid[c] = w->nullable[c].validity;
        ref->n_null += pint_column_count_null(&w->nullable[c], 0, rows);
    }
    ref->distance = copy_of(pint_column_values(&w->distance), rows * sizeof(double));
    ref->missing = copy_of(pint_column_values(&w->missing), rows * sizeof(int32_t));
    const double start = now_s();
    for (uint32_t c = 0; c < w->n; c++) {
        standardise(ref->values[c], rows, w->moments[c]);
    }
    row_results(ref->values, valid, w->n, all_valid, w->n_all, 0, rows, ref->distance,
                ref->missing);
    ref->seconds = now_s() - start;
}

/* Values that differ in their bytes. */
static uint64_t count_differences(const work *w, uint64_t rows, const reference *ref)
{
    uint64_t n = 0;
    for (uint32_t c = 0; c < w->n; c++) {
        const double *have = pint_column_values(&w->columns[c]);
        for (uint64_t i = 0; i < rows; i++) {
            n += memcmp(&have[i], &ref->values[c][i], sizeof(double)) != 0;
        }
    }
    const double *distance = pint_column_values(&w->distance);
    const int32_t *missing = pint_column_values(&w->missing);
    for (uint64_t i = 0; i < rows; i++) {
        n += memcmp(&distance[i], &ref->distance[i], sizeof(double)) != 0;
        n += missing[i] != ref->missing[i];
    }
    return n;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void line(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(const char *what, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)printf("  %-28s %s\n", what, text);
}

typedef struct facts {
    const char *file;
    double load_s;
    double scan_s;
    double job_s;
    double single_s;
    uint64_t rows, columns, bytes, touched, n_null, differences;
    pint_job_progress progress;
    int n_workers, killed;
} facts;

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_facts(const facts *f, const worker *workers)
{
    double attach[WORKERS_MAX];
    uint64_t pss = 0;
    uint64_t attach_bytes = 0;
    int n = 0;
    for (int i = 0; i < f->n_workers; i++) {
        if (workers[i].has_report) {
            attach[n] = workers[i].r.attach_s;
            pss += workers[i].r.pss_bytes;
            attach_bytes += workers[i].r.attach_bytes;
            n++;
        }
    }
    qsort(attach, (size_t)n, sizeof(attach[0]), compare_seconds);
    const double median = n == 0 ? 0 : attach[n / 2];
    n = n == 0 ? 1 : n;
    (void)printf("\n");
    line("table", "%" PRIu64 " rows, %" PRIu64 " columns, %.1f MiB, %" PRIu64 " nulls", f->rows,
         f->columns, mib(f->bytes), f->n_null);
    line("load from CSV", "%.2f s", f->load_s);
    line("scan for mean, deviation", "%.1f ms", f->scan_s * 1e3);
    line("job, in place", "%.1f ms with %d workers, %.2f GB/s read and written", f->job_s * 1e3,
         f->n_workers, (double)f->touched / f->job_s * 1e-9);
    line("the same in one process", "%.1f ms", f->single_s * 1e3);
    line("attach (join, open)",
         "%.0f us (median); table bytes copied: 0 of %" PRIu64 ", private memory added: %.2f MiB",
         median * 1e6, f->bytes, mib(attach_bytes) / n);
    line("memory a worker", "PSS %.1f MiB, against %.1f MiB for a private copy of the table",
         mib(pss) / n, mib(f->bytes));
    line("chunks", "%" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " redone", f->progress.n_done,
         f->progress.n_failed, f->progress.n_redone);
    line("killed",
         f->killed >= 0 ? "worker %d, its chunk put back and done by another"
                        : "nobody (the job was over too soon)%.0d",
         f->killed);
    line("result", f->differences == 0 ? "identical to the single-process result, bit for bit"
                                       : "WRONG: values differ");
}

/* A worker waits for what to subtract and divide by: with it, it begins. */
static void tell(const worker *to, const work *w)
{
    if (write(to->to, w->moments, sizeof(w->moments)) != (ssize_t)sizeof(w->moments)) {
        die("cannot tell a worker", NULL);
    }
}

static void await_first_chunk(pint_job *job)
{
    pint_error err;
    pint_job_progress p = PINT_JOB_PROGRESS_INIT;
    while (p.n_held + p.n_done + p.n_redone == 0) {
        if (pint_job_wait(job, 1, &err) < PINT_E_TIMEOUT) {
            die("wait", &err);
        }
        TRY(pint_job_get_progress(job, &p, &err));
    }
}

static void run_job(pint_table *table, work *w, worker *workers, facts *f)
{
    const double start = now_s();
    for (uint32_t c = 0; c < w->n; c++) {
        w->moments[c] =
            column_moments(pint_column_values(&w->columns[c]), w->columns[c].validity, f->rows);
    }
    f->scan_s = now_s() - start;
    reference ref = {0};
    compute_reference(w, f->rows, &ref);
    f->single_s = ref.seconds;
    f->n_null = ref.n_null;
    f->touched = f->rows * (w->n * 16ull + 12);
    pint_job *job = join_job(table, w);
    (void)printf("job: %d workers standardise %u columns in place, chunk by chunk of %" PRIu64
                 " rows\n",
                 f->n_workers, w->n, pint_table_chunk_rows(table));
    for (int i = 0; i < f->n_workers; i++) {
        start_worker(&workers[i], i, i == VICTIM);
    }
    tell(&workers[VICTIM], w);
    await_first_chunk(job); /* so that it has one to die in, however fast the others are */
    for (int i = 0; i < f->n_workers; i++) {
        if (i != VICTIM) {
            tell(&workers[i], w);
        }
    }
    f->job_s = watch(job, workers, f->n_workers, &f->killed);
    for (int i = 0; i < f->n_workers; i++) {
        workers[i].has_report =
            read(workers[i].from, &workers[i].r, sizeof(report)) == (ssize_t)sizeof(report);
        (void)close(workers[i].to);
        (void)close(workers[i].from);
    }
    pint_error err;
    f->progress = (pint_job_progress)PINT_JOB_PROGRESS_INIT;
    TRY(pint_job_get_progress(job, &f->progress, &err));
    f->differences = count_differences(w, f->rows, &ref);
    for (uint32_t c = 0; c < w->n; c++) {
        free(ref.values[c]);
    }
    free(ref.distance);
    free(ref.missing);
    pint_job_close(job);
}

static int demo_main(const char *file, int n_workers)
{
    static work w;
    static worker workers[WORKERS_MAX];
    facts f = {.file = file, .n_workers = n_workers, .killed = -1};
    pint_error err;
    if (mkdtemp(work_folder) == NULL || setenv("PINTABLE_ADDRESS", work_folder, 1) != 0) {
        die("cannot make a folder in /tmp", NULL);
    }
    char service[PATH_ROOM];
    program_path("pintabled", service, sizeof(service));
    (void)setenv("PINTABLED", service, 1);
    pint_pool *pool;
    TRY(pint_pool_join(NULL, NULL, &pool, &err)); /* starts the private service */
    (void)atexit(stop_service);
    (void)printf("load: %s\n", file);
    double start = now_s();
    load_file(file);
    f.load_s = now_s() - start;
    pint_table *table;
    TRY(pint_table_open(pool, TABLE, PINT_WRITE, &table, &err));
    find_columns(table, &w);
    f.rows = pint_table_rows(table);
    f.columns = pint_table_columns(table);
    f.bytes = pint_table_bytes(table);
    run_job(table, &w, workers, &f);
    print_facts(&f, workers);
    uint32_t c = 0; /* a column with nulls, if there is one: its bitmap moves too */
    while (c + 1 < w.n && w.columns[c].validity == NULL) {
        c++;
    }
    const bool is_right =
        demo_device_phase(table, pint_column_name(&w.columns[c]), DISTANCE, n_workers);
    pint_table_close(table);
    pint_pool_leave(pool);
    return is_right && f.differences == 0 && f.progress.n_failed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    char self[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n <= 0) {
        die("/proc/self/exe", NULL);
    }
    self[n] = '\0';
    (void)snprintf(program_folder, sizeof(program_folder), "%s", dirname(self));
    if (argc == 6 && strcmp(argv[1], "--worker") == 0) {
        int numbers[4];
        for (int i = 0; i < 4; i++) {
            numbers[i] = (int)strtol(argv[2 + i], NULL, 10);
        }
        return worker_main(numbers[1] != 0, numbers[2], numbers[3]);
    }
    if (argc > 2 && strcmp(argv[1], DEMO_DEVICE_ROLE) == 0) {
        return demo_device_worker(TABLE, argc, argv);
    }
    if (argc < 2 || argc > 3 || argv[1][0] == '-') {
        (void)fprintf(stderr, "usage: demo FILE.csv [WORKERS]\n");
        return 64;
    }
    long n_workers = argc == 3 ? strtol(argv[2], NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);
    if (n_workers < 2) {
        n_workers = 2; /* one of them dies */
    }
    return demo_main(argv[1], n_workers > WORKERS_MAX ? WORKERS_MAX : (int)n_workers);
}
