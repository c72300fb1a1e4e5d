/* SPDX-License-Identifier: Apache-2.0 */

/* Starting and ending the service and child processes. */

#include "bench/support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CPUS_VARIABLE "BENCH_CPUS"
#define READY_MS      10000
#define STOP_MS       10000
#define CHILDREN_MAX  64u

static char folder[64]; /* "": none */
static pid_t service;   /* 0: none */
static pid_t children[CHILDREN_MAX];

/* ---- CPUs ------------------------------------------------------------------------------------ */

/* The set as it was when the program started: bench_pin() narrows it. A parent passes on its own.
 */
static void find_cpus(cpu_set_t *set)
{
    const char *text = getenv(CPUS_VARIABLE);
    CPU_ZERO(set);
    for (size_t cpu = 0; text != NULL && cpu < CPU_SETSIZE && text[cpu] != '\0'; cpu++) {
        if (text[cpu] == '1') {
            CPU_SET(cpu, set);
        }
    }
    if (text == NULL && sched_getaffinity(0, sizeof(*set), set) != 0) {
        bench_die("sched_getaffinity: %s", strerror(errno));
    }
}

static const cpu_set_t *allowed_cpus(void)
{
    static cpu_set_t set;
    static bool is_known = false;
    if (!is_known) {
        find_cpus(&set);
        is_known = true;
    }
    return &set;
}

static void pass_on_cpus(void)
{
    char text[CPU_SETSIZE + 1];
    const cpu_set_t *set = allowed_cpus();
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        text[cpu] = CPU_ISSET(cpu, set) ? '1' : '0';
    }
    text[CPU_SETSIZE] = '\0';
    (void)setenv(CPUS_VARIABLE, text, 1);
}

unsigned bench_n_cpus(void)
{
    return (unsigned)CPU_COUNT(allowed_cpus());
}

int bench_cpu(unsigned place)
{
    unsigned skip = place % bench_n_cpus();
    for (size_t cpu = CPU_SETSIZE; cpu-- > 0;) {
        if (CPU_ISSET(cpu, allowed_cpus()) && skip-- == 0) {
            return (int)cpu;
        }
    }
    bench_die("no CPU");
}

static bool pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu == BENCH_ANY_CPU) {
        set = *allowed_cpus();
    } else {
        CPU_SET((size_t)cpu, &set);
    }
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

void bench_pin(int cpu)
{
    if (!pin(cpu)) {
        bench_die("sched_setaffinity to CPU %d: %s", cpu, strerror(errno));
    }
}

/* ---- temporary folder ------------------------------------------------------------------------ */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Ask the service to end. False: it has not within STOP_MS. */
static bool stop_service(void)
{
    (void)kill(service, SIGTERM);
    for (unsigned ms = 0; ms < STOP_MS; ms++) {
        if (waitpid(service, NULL, WNOHANG) == service) {
            service = 0;
            return true;
        }
        bench_pause_us(1000);
    }
    return false;
}

/* Kill whatever is left of what we started: it has become ours (PR_SET_CHILD_SUBREAPER). Over and
 * over, because of keeper and service each starts the other again. */
static void kill_descendants(void)
{
    char path[64];
    char line[4096];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    for (unsigned round = 0; round < 1000; round++) {
        FILE *file = fopen(path, "re");
        const bool are_some = file != NULL && fgets(line, sizeof(line), file) != NULL;
        if (file != NULL) {
            (void)fclose(file);
        }
        if (!are_some) {
            return;
        }
        char *end = line;
        for (long pid = strtol(line, &end, 10); pid > 0; pid = strtol(end, &end, 10)) {
            (void)kill((pid_t)pid, SIGKILL);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        bench_pause_us(1000);
    }
}

static void clean_up(void)
{
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] != 0) {
            (void)kill(children[i], SIGKILL);
            (void)waitpid(children[i], NULL, 0);
            children[i] = 0;
        }
    }
    if (service != 0) {
        (void)stop_service();
        service = 0;
    }
    kill_descendants();
    if (folder[0] != '\0') {
        (void)nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        folder[0] = '\0';
    }
}

void bench_processes_start(void)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] != '/' || strlen(parent) > 30) {
        parent = "/tmp";
    }
    (void)snprintf(folder, sizeof(folder), "%s/pintable-bench-XXXXXX", parent);
    if (mkdtemp(folder) == NULL) {
        folder[0] = '\0';
        bench_die("mkdtemp in %s: %s", parent, strerror(errno));
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)atexit(clean_up);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setenv("PINTABLE_ADDRESS", folder, 1);
    pass_on_cpus();
}

void bench_processes_end(void)
{
    if (service != 0) {
        bench_service_stop();
    }
    clean_up();
}

/* ---- service --------------------------------------------------------------------------------- */

/* Between fork and exec of anything we start. */
static void prepare_child(int cpu, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || !pin(cpu)) {
        _exit(126);
    }
    (void)signal(SIGPIPE, SIG_DFL);
}

static void find_service(char out[PATH_MAX])
{
    const char *named = getenv("PINTABLED");
    if (named != NULL && named[0] != '\0') {
        (void)snprintf(out, PATH_MAX, "%s", named);
        return;
    }
    char self[PATH_MAX];
    const ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 32);
    if (bytes <= 0) {
        bench_die("readlink /proc/self/exe: %s", strerror(errno));
    }
    self[bytes] = '\0';
    *strrchr(self, '/') = '\0';
    (void)snprintf(out, PATH_MAX, "%.*s/../bin/pintabled", PATH_MAX - 32, self);
}

static void start_service(int cpu, const char *program, int ready_fd, int log_fd)
{
    const pid_t parent = getpid();
    service = fork();
    if (service < 0) {
        service = 0;
        bench_die("fork: %s", strerror(errno));
    }
    if (service == 0) {
        prepare_child(cpu, parent);
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* it ends its other half, too */
        (void)dup2(ready_fd, STDOUT_FILENO);
        (void)dup2(log_fd, STDERR_FILENO);
        (void)execl(program, "pintabled", (char *)NULL);
        _exit(127);
    }
}

/* Fails with the end of the service's log. */
static _Noreturn void die_of_service(const char *what, const char *log)
{
    char line[512];
    char last[512] = "(its log is empty)\n";
    FILE *file = fopen(log, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        memcpy(last, line, sizeof(last));
    }
    bench_die("the service %s: %s", what, last);
}

void bench_service_start(int cpu)
{
    char program[PATH_MAX];
    char log[128];
    int ready[2];
    find_service(program);
    (void)snprintf(log, sizeof(log), "%s/bench.log", folder);
    const int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0 || pipe2(ready, O_CLOEXEC) != 0) {
        bench_die("%s: %s", log, strerror(errno));
    }
    start_service(cpu, program, ready[1], log_fd);
    (void)close(ready[1]);
    (void)close(log_fd);
    char byte;
    struct pollfd entry = {.fd = ready[0], .events = POLLIN};
    if (poll(&entry, 1, READY_MS) != 1 || read(ready[0], &byte, 1) != 1) {
        die_of_service("did not start", log);
    }
    (void)close(ready[0]);
}

void bench_service_stop(void)
{
    if (!stop_service()) {
        bench_die("the service did not stop within %d ms", STOP_MS);
    }
}

pint_pool *bench_join(void)
{
    pint_pool *pool;
    pint_error err;
    const pint_join_options options = {.struct_bytes = sizeof(options),
                                       .flags = PINT_JOIN_NO_START};
    BENCH_OK(pint_pool_join(NULL, &options, &pool, &err), &err);
    return pool;
}

#define COLUMNS_MAX 16u

pint_table *bench_table(pint_pool *pool, const char *name, pint_type type, uint32_t n_columns,
                        uint64_t n_rows, uint64_t chunk_rows, uint32_t flags)
{
    static const char *const names[COLUMNS_MAX] = {"c0",  "c1",  "c2",  "c3", "c4",  "c5",
                                                   "c6",  "c7",  "c8",  "c9", "c10", "c11",
                                                   "c12", "c13", "c14", "c15"};
    pint_field fields[COLUMNS_MAX];
    BENCH_CHECK(n_columns <= COLUMNS_MAX);
    for (uint32_t i = 0; i < n_columns; i++) {
        fields[i] = (pint_field)PINT_FIELD_INIT;
        fields[i].name = names[i];
        fields[i].type = type;
    }
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = n_columns;
    schema.chunk_rows = chunk_rows;
    schema.flags = flags;
    pint_table *table;
    pint_error err;
    BENCH_OK(pint_table_create(pool, name, &schema, n_rows, &table, &err), &err);
    return table;
}

pint_table *bench_open(pint_pool *pool, const char *name)
{
    pint_table *table;
    pint_error err;
    BENCH_OK(pint_table_open(pool, name, PINT_WRITE, &table, &err), &err);
    return table;
}

pint_column bench_column(pint_table *table, uint32_t index)
{
    pint_column column;
    pint_error err;
    BENCH_OK(pint_table_column_at(table, index, &column, &err), &err);
    return column;
}

/* ---- children -------------------------------------------------------------------------------- */

static void write_message(int fd, const bench_message *message)
{
    ssize_t bytes;
    do {
        bytes = write(fd, message, sizeof(*message));
    } while (bytes < 0 && errno == EINTR);
    if (bytes != (ssize_t)sizeof(*message)) {
        bench_die("a pipe to another process is closed");
    }
}

static bool read_message(int fd, bench_message *out)
{
    ssize_t bytes;
    do {
        bytes = read(fd, out, sizeof(*out));
    } while (bytes < 0 && errno == EINTR);
    return bytes == (ssize_t)sizeof(*out);
}

/* In the child: standard input and output become the pipes, and only shared_fd stays besides. */
static _Noreturn void become(const char *role, int in, int out, int shared_fd)
{
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0) {
        _exit(126);
    }
    if (shared_fd == BENCH_SHARED_FD) {
        (void)fcntl(shared_fd, F_SETFD, 0);
    } else if (shared_fd >= 0) {
        (void)dup2(shared_fd, BENCH_SHARED_FD);
    }
    (void)execl("/proc/self/exe", program_invocation_short_name, BENCH_ROLE_OPTION, role,
                (char *)NULL);
    _exit(127);
}

static pid_t *free_place(void)
{
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] == 0) {
            return &children[i];
        }
    }
    bench_die("more than %u children", CHILDREN_MAX);
}

void bench_spawn(const char *role, int cpu, int shared_fd, bench_child *out_child)
{
    int to[2];
    int from[2];
    pid_t *place = free_place();
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
        bench_die("pipe2: %s", strerror(errno));
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        bench_die("fork: %s", strerror(errno));
    }
    if (pid == 0) {
        prepare_child(cpu, parent);
        become(role, to[0], from[1], shared_fd);
    }
    *place = pid;
    (void)close(to[0]);
    (void)close(from[1]);
    *out_child = (bench_child){.pid = pid, .to = to[1], .from = from[0]};
    bench_message ready;
    if (!read_message(out_child->from, &ready)) {
        bench_die("a child process in role %s did not start", role);
    }
}

void bench_tell(const bench_child *child, bench_message message)
{
    write_message(child->to, &message);
}

bench_message bench_hear(const bench_child *child)
{
    bench_message message;
    if (!read_message(child->from, &message)) {
        bench_die("a child process has failed");
    }
    return message;
}

static int reap(bench_child *child)
{
    int status = 0;
    (void)close(child->to);
    (void)close(child->from);
    (void)waitpid(child->pid, &status, 0);
    for (unsigned i = 0; i < CHILDREN_MAX; i++) {
        if (children[i] == child->pid) {
            children[i] = 0;
        }
    }
    child->pid = 0;
    return status;
}

void bench_child_end(bench_child *child)
{
    (void)close(child->to);
    bench_message message;
    while (read_message(child->from, &message)) { /* until it exits */
    }
    child->to = -1;
    const int status = reap(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS) {
        bench_die("a child process ended with status 0x%x", (unsigned)status);
    }
}

void bench_child_reap(bench_child *child)
{
    (void)reap(child);
}

bool bench_child_hear(bench_message *out_message)
{
    return read_message(STDIN_FILENO, out_message);
}

void bench_child_say(bench_message message)
{
    write_message(STDOUT_FILENO, &message);
}
