/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SUPPORT_PROCESS_H
#define BENCH_SUPPORT_PROCESS_H

/*
 * A service of the bench's own, and other processes: the same program, executed again in a role.
 * Whatever way the program ends, nothing of it stays: children and service are told by the kernel
 * when it dies, and the temporary folder is removed at exit.
 */

#include <sys/types.h>

#include "bench/support/bench.h"

#define BENCH_ROLE_OPTION "--role"

/* Make the temporary folder and point $PINTABLE_ADDRESS at it. bench_main() does both. */
void bench_processes_start(void);
void bench_processes_end(void);

/* CPUs this program may use, from the last down: the first ones serve interrupts. The same place
 * gives the same CPU in every process; places beyond the CPUs there are start again. */
#define BENCH_ANY_CPU (-1)
int bench_cpu(unsigned place);
unsigned bench_n_cpus(void);
void bench_pin(int cpu); /* this process; BENCH_ANY_CPU: back to all */

/* Start pintabled ($PINTABLED, or bin/pintabled beside the folder of this program) on a CPU, and
 * wait until it serves. One at a time. */
void bench_service_start(int cpu);
void bench_service_stop(void);

/* Join the bench's service. */
pint_pool *bench_join(void);

/* Create a table of n_columns columns c0, c1, ... of one type; not published. */
pint_table *bench_table(pint_pool *pool, const char *name, pint_type type, uint32_t n_columns,
                        uint64_t n_rows, uint64_t chunk_rows, uint32_t flags);
pint_table *bench_open(pint_pool *pool, const char *name);
pint_column bench_column(pint_table *table, uint32_t index);

/* ---- other processes: fixed messages over pipes ---------------------------------------------- */

typedef struct bench_message {
    uint64_t what; /* the bench's own; 0 is the first message of a child: it runs */
    uint64_t a;
    uint64_t b;
    uint64_t c;
} bench_message;

typedef struct bench_child {
    pid_t pid;
    int to;
    int from;
} bench_child;

/* Start a role on a CPU. shared_fd: a file the child gets as BENCH_SHARED_FD, or -1. Returns when
 * the child runs. */
#define BENCH_SHARED_FD 3
void bench_spawn(const char *role, int cpu, int shared_fd, bench_child *out_child);
void bench_tell(const bench_child *child, bench_message message);
bench_message bench_hear(const bench_child *child);
/* Close its pipe (bench_child_hear() then says false there) and wait until it is gone. */
void bench_child_end(bench_child *child);
/* Reap one that was killed. */
void bench_child_reap(bench_child *child);

/* In the child. */
bool bench_child_hear(bench_message *out_message);
void bench_child_say(bench_message message);

#endif
