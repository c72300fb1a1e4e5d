/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C side of the test shim: registration, checks, child processes, per-test environment.
 *
 * The same program is test and child. In a child (in_child) GoogleTest is never initialised:
 * failures go to standard error and into the exit status. Everything here belongs to the thread
 * that runs the test, except the checks, which any thread may make.
 */

#include "tests/support/ct.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define PROC_OPTION "--ct-proc="
#define LINK_OPTION "--ct-link="

#define N_CHILDREN_MAX 256
#define N_ARGS_MAX     64
#define N_ENV_MAX      1024
#define N_FDS_MAX      4096
#define READY_MS       30000

typedef struct child {
    pid_t pid;   /* 0: free */
    int link_fd; /* our end of the ready/go link, or -1 */
} child;

static ct_case *first_case;
static ct_case **last_case = &first_case;
static ct_proc *first_proc;

static bool in_child;
static int parent_link_fd = -1; /* in a child: the link to the parent */
static atomic_bool child_failed;

static child children[N_CHILDREN_MAX];
static char tmpdir[256]; /* empty: not made yet */
static bool fds_before[N_FDS_MAX];
static char timeout_text[512]; /* written before the alarm is set, printed by its handler */

/* --- Registration ----------------------------------------------------------------------------- */

void ct_add_case(ct_case *test)
{
    *last_case = test;
    last_case = &test->next;
}

const ct_case *ct_first_case(void)
{
    return first_case;
}

void ct_add_proc(ct_proc *proc)
{
    proc->next = first_proc;
    first_proc = proc;
}

/* --- Failures --------------------------------------------------------------------------------- */

void ct_fail(const char *file, int line, bool fatal, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (in_child) {
        (void)fprintf(stderr, "%s:%d: in child %d: %s\n", file, line, (int)getpid(), text);
        atomic_store_explicit(&child_failed, true, memory_order_relaxed); /* no data goes with it */
    } else {
        ct_gtest_fail(file, line, fatal, text);
    }
}

void ct_skip(const char *file, int line, const char *why)
{
    ct_gtest_skip(file, line, why);
}

bool ct_has_fatal_failure(void)
{
    return !in_child && ct_gtest_has_fatal_failure() != 0;
}

void ct_require_failed(const char *file, int line, const char *condition)
{
    const int saved_errno = errno;
    (void)fprintf(stderr, "%s:%d: in process %d: %s does not hold (errno %d: %s)\n", file, line,
                  (int)getpid(), condition, saved_errno, strerror(saved_errno));
    _exit(CT_PROC_FAILED);
}

/* --- Checks ----------------------------------------------------------------------------------- */

ct_value ct_value_signed(int64_t i)
{
    return (ct_value){.kind = CT_SIGNED, .as.i = i};
}

ct_value ct_value_unsigned(uint64_t u)
{
    return (ct_value){.kind = CT_UNSIGNED, .as.u = u};
}

ct_value ct_value_double(double d)
{
    return (ct_value){.kind = CT_DOUBLE, .as.d = d};
}

ct_value ct_value_pointer(const void *p)
{
    return (ct_value){.kind = CT_POINTER, .as.p = p};
}

static void print_value(char *text, size_t capacity, ct_value v)
{
    switch (v.kind) {
    case CT_SIGNED:
        (void)snprintf(text, capacity, "%" PRId64, v.as.i);
        break;
    case CT_UNSIGNED:
        (void)snprintf(text, capacity, "%" PRIu64 " (0x%" PRIx64 ")", v.as.u, v.as.u);
        break;
    case CT_DOUBLE:
        (void)snprintf(text, capacity, "%.17g", v.as.d);
        break;
    case CT_POINTER:
        (void)snprintf(text, capacity, "%p", v.as.p);
        break;
    default:
        (void)snprintf(text, capacity, "?");
        break;
    }
}

static double as_double(ct_value v)
{
    if (v.kind == CT_DOUBLE) {
        return v.as.d;
    }
    return v.kind == CT_SIGNED ? (double)v.as.i : (double)v.as.u;
}

enum order { ORDER_LESS, ORDER_EQUAL, ORDER_GREATER, ORDER_NONE /* a NaN */ };

static enum order order_of(bool less, bool greater)
{
    if (less) {
        return ORDER_LESS;
    }
    return greater ? ORDER_GREATER : ORDER_EQUAL;
}

/* By value, whatever the types: -1 is less than every unsigned number. */
static enum order compare(ct_value a, ct_value b)
{
    if (a.kind == CT_DOUBLE || b.kind == CT_DOUBLE) {
        const double x = as_double(a);
        const double y = as_double(b);
        return isnan(x) || isnan(y) ? ORDER_NONE : order_of(x < y, y < x);
    }
    const bool a_negative = a.kind == CT_SIGNED && a.as.i < 0;
    const bool b_negative = b.kind == CT_SIGNED && b.as.i < 0;
    if (a_negative || b_negative) {
        if (a_negative && b_negative) {
            return order_of(a.as.i < b.as.i, b.as.i < a.as.i);
        }
        return a_negative ? ORDER_LESS : ORDER_GREATER;
    }
    const uint64_t x = a.kind == CT_POINTER ? (uint64_t)(uintptr_t)a.as.p : a.as.u;
    const uint64_t y = b.kind == CT_POINTER ? (uint64_t)(uintptr_t)b.as.p : b.as.u;
    return order_of(x < y, y < x);
}

static bool order_satisfies(enum order order, enum ct_op op)
{
    switch (op) {
    case CT_EQ:
        return order == ORDER_EQUAL;
    case CT_NE:
        return order != ORDER_EQUAL;
    case CT_LT:
        return order == ORDER_LESS;
    case CT_LE:
        return order == ORDER_LESS || order == ORDER_EQUAL;
    case CT_GT:
        return order == ORDER_GREATER;
    case CT_GE:
        return order == ORDER_GREATER || order == ORDER_EQUAL;
    default:
        return false;
    }
}

bool ct_check_compare(ct_where at, enum ct_op op, ct_value a, ct_value b, const char *a_text,
                      const char *b_text)
{
    static const char *const op_texts[] = {"==", "!=", "<", "<=", ">", ">="};
    if (order_satisfies(compare(a, b), op)) {
        return true;
    }
    char a_value[64];
    char b_value[64];
    print_value(a_value, sizeof(a_value), a);
    print_value(b_value, sizeof(b_value), b);
    ct_fail(at.file, at.line, at.fatal, "expected: %s %s %s\n  actual: %s vs %s", a_text,
            op_texts[op], b_text, a_value, b_value);
    return false;
}

bool ct_check_bool(ct_where at, bool actual, bool expected, const char *text)
{
    if (actual != expected) {
        ct_fail(at.file, at.line, at.fatal, "expected %s: %s", expected ? "true" : "false", text);
    }
    return actual == expected;
}

bool ct_check_string(ct_where at, const char *a, const char *b, bool equal, const char *a_text,
                     const char *b_text)
{
    const bool same = a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
    if (same != equal) {
        ct_fail(at.file, at.line, at.fatal, "expected: %s %s %s\n  actual: %s%s%s vs %s%s%s",
                a_text, equal ? "==" : "!=", b_text, a ? "\"" : "", a ? a : "NULL", a ? "\"" : "",
                b ? "\"" : "", b ? b : "NULL", b ? "\"" : "");
    }
    return same == equal;
}

bool ct_check_memory(ct_where at, const void *a, const void *b, size_t bytes, const char *a_text,
                     const char *b_text)
{
    const unsigned char *x = a;
    const unsigned char *y = b;
    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i]) {
            ct_fail(at.file, at.line, at.fatal,
                    "expected: %s and %s hold the same %zu bytes\n"
                    "  actual: first difference at byte %zu: 0x%02x vs 0x%02x",
                    a_text, b_text, bytes, i, x[i], y[i]);
            return false;
        }
    }
    return true;
}

bool ct_check_near(ct_where at, double a, double b, double tolerance, const char *a_text,
                   const char *b_text)
{
    const bool near = fabs(a - b) <= tolerance; /* false for a NaN */
    if (!near) {
        ct_fail(at.file, at.line, at.fatal,
                "expected: %s within %g of %s\n  actual: %.17g vs %.17g", a_text, tolerance, b_text,
                a, b);
    }
    return near;
}

bool ct_check_status(ct_where at, pint_status expected, pint_status actual, const pint_error *err,
                     const char *text)
{
    if (actual == expected) {
        return true;
    }
    ct_fail(at.file, at.line, at.fatal,
            "expected: %s gives %s (%" PRId32 ")\n  actual: %s (%" PRId32 ")%s%s", text,
            pint_status_name(expected), expected, pint_status_name(actual), actual,
            err != NULL && actual != PINT_OK ? ": " : "",
            err != NULL && actual != PINT_OK ? err->message : "");
    return false;
}

/* --- Time ------------------------------------------------------------------------------------- */

uint64_t ct_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ct_nap(void)
{
    const struct timespec one_ms = {.tv_nsec = 1000000};
    (void)nanosleep(&one_ms, NULL);
}

/* --- Child processes -------------------------------------------------------------------------- */

static child *find_child(pid_t pid)
{
    for (size_t i = 0; i < N_CHILDREN_MAX; i++) {
        if (children[i].pid == pid) {
            return &children[i];
        }
    }
    return NULL;
}

static void forget_child(child *c)
{
    if (c->link_fd >= 0) {
        (void)close(c->link_fd);
    }
    *c = (child){.pid = 0, .link_fd = -1};
}

/* True if the entries name the same variable: equal up to and including '='. */
static bool same_variable(const char *a, const char *b)
{
    const size_t n = strcspn(a, "=");
    return strncmp(a, b, n + 1) == 0;
}

/* Our environment with additions taking precedence. Borrows all strings. */
static bool make_environment(const char *const *additions, char **out_env)
{
    size_t n = 0;
    for (size_t i = 0; additions != NULL && additions[i] != NULL; i++) {
        if (n == N_ENV_MAX) {
            return false;
        }
        out_env[n++] = (char *)additions[i]; /* posix_spawn takes it, changes nothing */
    }
    const size_t n_additions = n;
    for (char **e = environ; *e != NULL; e++) {
        bool replaced = false;
        for (size_t i = 0; i < n_additions && !replaced; i++) {
            replaced = same_variable(out_env[i], *e);
        }
        if (!replaced) {
            if (n == N_ENV_MAX) {
                return false;
            }
            out_env[n++] = *e;
        }
    }
    out_env[n] = NULL;
    return true;
}

/* A dup2 onto itself clears close-on-exec in the child (posix_spawn of glibc 2.29 and newer). */
static int add_fds(posix_spawn_file_actions_t *actions, const ct_spawn_opts *opts, int link_fd)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < opts->n_inherit_fds; i++) {
        rc = posix_spawn_file_actions_adddup2(actions, opts->inherit_fds[i], opts->inherit_fds[i]);
    }
    if (rc == 0 && link_fd >= 0) {
        rc = posix_spawn_file_actions_adddup2(actions, link_fd, link_fd);
    }
    if (rc == 0 && opts->output_fd > 0) {
        rc = posix_spawn_file_actions_adddup2(actions, opts->output_fd, STDOUT_FILENO);
    }
    if (rc == 0 && opts->output_fd > 0) {
        rc = posix_spawn_file_actions_adddup2(actions, opts->output_fd, STDERR_FILENO);
    }
    return rc;
}

/* Returns 0 or an errno value. */
static int start(const char *path, char *const *argv, const ct_spawn_opts *opts, int link_fd,
                 pid_t *out_pid)
{
    char *env[N_ENV_MAX + 1];
    if (!make_environment(opts->env, env)) {
        return E2BIG;
    }
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        return rc;
    }
    rc = add_fds(&actions, opts, link_fd);
    if (rc == 0) {
        rc = posix_spawn(out_pid, path, &actions, NULL, argv, env);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static size_t append_args(char **argv, size_t n, const char *const *args)
{
    for (size_t i = 0; args != NULL && args[i] != NULL && n < N_ARGS_MAX; i++) {
        argv[n++] = (char *)args[i];
    }
    argv[n] = NULL;
    return n;
}

pid_t ct_spawn_with(const char *name, const char *const *args, const ct_spawn_opts *opts)
{
    int link[2];
    child *c = find_child(0);
    if (c == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) != 0) { /* flags name CLOEXEC */
        ct_fail(__FILE__, __LINE__, true, "ct_spawn(%s): no child slot or socket pair", name);
        return -1;
    }
    char proc_arg[128];
    char link_arg[64];
    (void)snprintf(proc_arg, sizeof(proc_arg), PROC_OPTION "%s", name);
    (void)snprintf(link_arg, sizeof(link_arg), LINK_OPTION "%d,%d", link[1],
                   opts->outlives ? 0 : (int)getpid());
    char *argv[N_ARGS_MAX + 1] = {program_invocation_name, proc_arg, link_arg};
    (void)append_args(argv, 3, args);
    pid_t pid = -1;
    const int rc = start("/proc/self/exe", argv, opts, link[1], &pid);
    (void)close(link[1]);
    if (rc != 0) {
        (void)close(link[0]);
        ct_fail(__FILE__, __LINE__, true, "ct_spawn(%s): %s", name, strerror(rc));
        return -1;
    }
    *c = (child){.pid = pid, .link_fd = link[0]};
    return pid;
}

pid_t ct_spawn(const char *name, const char *const *args)
{
    return ct_spawn_with(name, args, &(const ct_spawn_opts){0});
}

pid_t ct_spawn_program(const char *const *argv, const ct_spawn_opts *opts)
{
    static const ct_spawn_opts defaults;
    child *c = find_child(0);
    char *copy[N_ARGS_MAX + 1];
    (void)append_args(copy, 0, argv);
    pid_t pid = -1;
    const int rc =
        c == NULL ? EAGAIN : start(argv[0], copy, opts != NULL ? opts : &defaults, -1, &pid);
    if (rc != 0) {
        ct_fail(__FILE__, __LINE__, true, "ct_spawn_program(%s): %s", argv[0], strerror(rc));
        return -1;
    }
    *c = (child){.pid = pid, .link_fd = -1};
    return pid;
}

int ct_wait(pid_t pid)
{
    child *c = pid > 0 ? find_child(pid) : NULL;
    int status = 0;
    pid_t got = -1;
    if (c != NULL) {
        do {
            got = waitpid(pid, &status, 0);
        } while (got < 0 && errno == EINTR);
        forget_child(c);
    }
    if (got < 0) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool link_send(int fd)
{
    const char byte = 'x';
    return fd >= 0 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1;
}

/* timeout_ms < 0: no limit. */
static bool link_receive(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = 0;
    do {
        n = fd >= 0 ? poll(&p, 1, timeout_ms) : 0;
    } while (n < 0 && errno == EINTR);
    char byte = 0;
    return n == 1 && recv(fd, &byte, 1, 0) == 1;
}

void ct_ready(void)
{
    CT_REQUIRE(link_send(parent_link_fd));
}

bool ct_wait_ready(pid_t pid)
{
    const child *c = pid > 0 ? find_child(pid) : NULL;
    return c != NULL && link_receive(c->link_fd, READY_MS);
}

bool ct_go(pid_t pid)
{
    const child *c = pid > 0 ? find_child(pid) : NULL;
    return c != NULL && link_send(c->link_fd);
}

bool ct_wait_go(void)
{
    return link_receive(parent_link_fd, -1);
}

size_t ct_read_all(int fd, char *text, size_t capacity)
{
    size_t n = 0;
    while (n + 1 < capacity) {
        const ssize_t got = read(fd, text + n, capacity - 1 - n);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
    }
    text[n] = '\0';
    return n;
}

/* Reads "FD,PPID" and ties this process to its parent. PPID 0: it may outlive the parent. */
static void join_parent(const char *text)
{
    char *end = NULL;
    parent_link_fd = (int)strtol(text, &end, 10);
    CT_REQUIRE(*end == ',');
    const long parent = strtol(end + 1, NULL, 10);
    CT_REQUIRE(fcntl(parent_link_fd, F_SETFD, FD_CLOEXEC) == 0);
    if (parent != 0) {
        CT_REQUIRE(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        if (getppid() != (pid_t)parent) { /* it died before the line above */
            _exit(CT_PROC_FAILED);
        }
    }
}

int ct_proc_main(int argc, char **argv, int *out_status)
{
    for (size_t i = 0; i < N_CHILDREN_MAX; i++) {
        children[i].link_fd = -1;
    }
    if (argc < 3 || strncmp(argv[1], PROC_OPTION, strlen(PROC_OPTION)) != 0 ||
        strncmp(argv[2], LINK_OPTION, strlen(LINK_OPTION)) != 0) {
        return 0;
    }
    in_child = true;
    join_parent(argv[2] + strlen(LINK_OPTION));
    const char *name = argv[1] + strlen(PROC_OPTION);
    for (const ct_proc *p = first_proc; p != NULL; p = p->next) {
        if (strcmp(p->name, name) == 0) {
            argv[2] = argv[1] + strlen(PROC_OPTION);
            const int status = p->body(argc - 2, argv + 2);
            const bool failed = atomic_load_explicit(&child_failed, memory_order_relaxed);
            *out_status = status == 0 && failed ? CT_PROC_FAILED : status;
            return 1;
        }
    }
    (void)fprintf(stderr, "no PROC(%s) in this program\n", name);
    *out_status = CT_PROC_FAILED;
    return 1;
}

/* --- Around each test ------------------------------------------------------------------------- */

/* Marks the open descriptors; the one used for reading the directory is left out. */
static void list_fds(bool *out_open)
{
    memset(out_open, 0, N_FDS_MAX * sizeof(*out_open));
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        ct_fail(__FILE__, __LINE__, true, "/proc/self/fd: %s", strerror(errno));
        return;
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char *end = NULL;
        const long fd = strtol(e->d_name, &end, 10);
        if (end != e->d_name && *end == '\0' && fd < N_FDS_MAX && fd != dirfd(dir)) {
            out_open[fd] = true;
        }
    }
    (void)closedir(dir);
}

static void check_fds(void)
{
    bool now[N_FDS_MAX];
    list_fds(now);
    for (int fd = 0; fd < N_FDS_MAX; fd++) {
        if (now[fd] == fds_before[fd]) {
            continue;
        }
        char link[64];
        char target[256] = "";
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (now[fd] && readlink(link, target, sizeof(target) - 1) < 0) {
            target[0] = '\0';
        }
        ct_fail(__FILE__, __LINE__, false, "descriptor %d %s by the test: %s", fd,
                now[fd] ? "leaked" : "closed", target);
    }
}

static void on_timeout(int signal_number)
{
    (void)signal_number;
    if (write(STDERR_FILENO, timeout_text, strlen(timeout_text)) < 0) {
        _exit(125);
    }
    for (size_t i = 0; i < N_CHILDREN_MAX; i++) {
        if (children[i].pid > 0) {
            (void)kill(children[i].pid, SIGKILL);
        }
    }
    _exit(124);
}

void ct_case_begin(const ct_case *test)
{
    const int timeout_s = test->timeout_s > 0 ? test->timeout_s : CT_DEFAULT_TIMEOUT_S;
    (void)snprintf(timeout_text, sizeof(timeout_text), "%s:%d: %s.%s: timeout after %d s\n",
                   test->file, test->line, test->suite, test->name, timeout_s);
    const struct sigaction action = {.sa_handler = on_timeout};
    (void)sigaction(SIGALRM, &action, NULL);
    list_fds(fds_before);
    (void)alarm((unsigned)timeout_s);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void ct_case_end(void)
{
    for (size_t i = 0; i < N_CHILDREN_MAX; i++) {
        const pid_t pid = children[i].pid;
        if (pid > 0) {
            (void)kill(pid, SIGKILL);
            const int status = ct_wait(pid);
            ct_fail(__FILE__, __LINE__, false, "child %d was not waited for (status %d)", (int)pid,
                    status);
        }
    }
    if (tmpdir[0] != '\0') {
        /* a program that ends may still make or remove a file of its own in there meanwhile */
        int left = -1;
        for (int tries = 0; tries < 50 && left != 0; tries++) {
            left = nftw(tmpdir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
            if (left != 0 && errno != ENOTEMPTY && errno != ENOENT) {
                break;
            }
        }
        if (left != 0) {
            ct_fail(__FILE__, __LINE__, false, "cannot remove %s: %s", tmpdir, strerror(errno));
        }
        tmpdir[0] = '\0';
    }
    check_fds();
    (void)alarm(0);
}

const char *ct_tmpdir(void)
{
    if (in_child) {
        ct_require_failed(__FILE__, __LINE__, "ct_tmpdir() is called in the test's process");
    }
    if (tmpdir[0] == '\0') {
        const char *base = getenv("TMPDIR");
        (void)snprintf(tmpdir, sizeof(tmpdir), "%s/ct-XXXXXX", base != NULL ? base : "/tmp");
        if (mkdtemp(tmpdir) == NULL) {
            ct_fail(__FILE__, __LINE__, true, "mkdtemp(%s): %s", tmpdir, strerror(errno));
            tmpdir[0] = '\0';
        }
    }
    return tmpdir;
}
