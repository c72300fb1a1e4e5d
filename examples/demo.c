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
 * The other files: demo.h.
 *
 * usage: demo FILE.csv [WORKERS]     (pintable and pintabled beside it in bin/)
 */

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "demo.h"

#define VICTIM 1 /* worker that dies */

void die(const char *what, const pint_error *err)
{
    (void)fprintf(stderr, "demo: %s%s%s\n", what, err != NULL ? ": " : "",
                  err != NULL ? err->message : "");
    exit(1);
}

double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

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
    tell_worker(&workers[VICTIM], w);
    await_first_chunk(job); /* so that it has one to die in, however fast the others are */
    for (int i = 0; i < f->n_workers; i++) {
        if (i != VICTIM) {
            tell_worker(&workers[i], w);
        }
    }
    f->job_s = watch(job, workers, f->n_workers, &f->killed);
    read_reports(workers, f->n_workers);
    pint_error err;
    f->progress = (pint_job_progress)PINT_JOB_PROGRESS_INIT;
    TRY(pint_job_get_progress(job, &f->progress, &err));
    f->differences = count_differences(w, f->rows, &ref);
    free_reference(w, &ref);
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
