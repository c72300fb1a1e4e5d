/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_DEMO_H
#define EXAMPLES_DEMO_H

/*
 * What the demo's files share. demo.c is the program; demo_work.c the computation, the same for
 * workers and for the reference; demo_worker.c a worker process; demo_crew.c the workers seen from
 * their parent; demo_print.c what is printed; demo_device.c the device phase, demo_gpu.c its kernel
 * on a GPU.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <pintable/pintable.h>

#define TABLE       "demo"
#define DISTANCE    "row_distance" /* float64: root of the mean square of the row's scores */
#define MISSING     "row_missing"  /* int32: null values in the row */
#define COLUMNS_MAX 256u
#define WORKERS_MAX 64

/* Say what failed and end. err: or NULL. */
_Noreturn void die(const char *what, const pint_error *err);

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            die(#call, &err);                                                                      \
        }                                                                                          \
    } while (0)

double now_s(void);

/* ---- the computation: demo_work.c ------------------------------------------------------------ */

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

void find_columns(pint_table *table, work *w);
pint_job *join_job(pint_table *table, const work *w);
/* Mean and deviation of a column; nulls and what is not finite left out. */
moments column_moments(const double *values, const uint8_t *valid, uint64_t n);
/* Standardise a chunk and fill its row results. must_die: half way through, by SIGKILL. */
void do_chunk(const work *w, const pint_lease *lease, bool must_die);

/* The same in one process, on private memory. */
typedef struct reference {
    double *values[COLUMNS_MAX];
    double *distance;
    int32_t *missing;
    double seconds;
    uint64_t n_null;
} reference;

void compute_reference(const work *w, uint64_t rows, reference *ref);
/* Values of the table that differ from it in their bytes. */
uint64_t count_differences(const work *w, uint64_t rows, const reference *ref);
void free_reference(const work *w, const reference *ref);

/* ---- workers: demo_worker.c, and from outside: demo_crew.c ----------------------------------- */

/* What a worker tells the parent when it is done. */
typedef struct report {
    double attach_s; /* join, open, columns */
    double busy_s;   /* inside chunks */
    uint64_t n_chunks;
    uint64_t attach_bytes; /* private memory that attaching added: copies of data would show here */
    uint64_t pss_bytes;
    uint64_t private_bytes;
} report;

int worker_main(bool is_victim, int from_parent, int to_parent);

typedef struct worker {
    pid_t pid;
    int to;   /* pipe: moments */
    int from; /* pipe: report */
    report r;
    bool has_report;
} worker;

/* Start a process that attaches to the table and waits to be told. */
void start_worker(worker *w, int number, bool is_victim);
/* It begins with what to subtract and divide by. */
void tell_worker(const worker *to, const work *w);
void await_first_chunk(pint_job *job);
/* Wait for the job; reap workers that end. Returns the seconds it took, and who was killed: -1,
 * nobody. */
double watch(pint_job *job, worker *workers, int n, int *out_killed);
void read_reports(worker *workers, int n);

/* ---- what is printed: demo_print.c ----------------------------------------------------------- */

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

double mib(uint64_t bytes);
/* One line: a name, and printf's. */
void line(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
void print_facts(const facts *f, const worker *workers);
/* On a terminal: how far the job is, on one line that is written again and again. */
void show_progress(const pint_job_progress *p, uint32_t n_live);
void hide_progress(void);

/* ---- the device phase: demo_device.c --------------------------------------------------------- */

/*
 * Square a float64 column on a device into another, let a worker process change 1 % of the chunks,
 * square those, and have n_readers processes compare on the CPU. Prints its lines. False: wrong.
 */
bool demo_device_phase(pint_table *table, const char *from, const char *to, int n_readers);

#define DEMO_DEVICE_ROLE "--device-worker"
/* A process started by the phase: argv of main(). Returns its exit status. */
int demo_device_worker(const char *table, int argc, char **argv);

/* Load the kernel for the GPU with this UUID; false, with the reason in why, if it cannot be. */
bool demo_gpu_load(const uint8_t uuid[16], const char **why);
/* Enqueue to[i] = from[i] * from[i] for n float64 values at device addresses. */
bool demo_gpu_square(void *stream, uint64_t to, uint64_t from, uint64_t n);

#endif
