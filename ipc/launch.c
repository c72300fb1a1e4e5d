/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The service is started with posix_spawn(): the caller may have many threads and much memory, so
 * nothing of ours runs between fork and exec and no page tables are copied. --daemonize makes the
 * program fork once more and its first process exit, which is waited for here: the service is
 * nobody's child. It gets descriptors 0 to 4 and no other:
 *
 *   0 /dev/null   1, 2 the log   3 the start lock, locked   4 a pipe for the ready byte
 *
 * The lock is one open file description shared with the service, which unlocks it when clients are
 * served. Whoever holds it while nobody serves is starting, or has died: the kernel unlocks.
 */

#include "ipc/launch.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"
#include "ipc/connect.h"
#include "ipc/wire.h"

#define PROGRAM            "pintabled"
#define PROGRAM_PATH_BYTES 4096
#define LOCK_FD            3
#define READY_FD           4
#define HIGH_FD            10 /* our own copies lie from here on: out of the way of 0 to 4 */
#define LOCK_PAUSE_MS      10
#define REAP_MS            5000
#define LOG_BYTES_MAX      (1 << 20) /* a longer log is emptied when a service starts */
#define LOG_TAIL_BYTES     1024
#define FAMILY_VARIABLE    "PINTABLE_FAMILY="

#ifndef SYS_pidfd_send_signal
#    define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#    define SYS_pidfd_open 434
#endif

extern char **environ;

/* ---- where the program is -------------------------------------------------------------------- */

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* folder + between + PROGRAM, if that is a program. */
static bool try_folder(char *out, const char *folder, size_t folder_bytes, const char *between)
{
    const int bytes =
        snprintf(out, PROGRAM_PATH_BYTES, "%.*s%s" PROGRAM, (int)folder_bytes, folder, between);
    return bytes > 0 && bytes < PROGRAM_PATH_BYTES && is_program(out);
}

/* Around a file: in its folder, or in bin or libexec beside that. */
static bool try_around(char *out, const char *file)
{
    const char *slash = strrchr(file, '/');
    if (slash == NULL) {
        return false;
    }
    const size_t folder_bytes = (size_t)(slash - file);
    return try_folder(out, file, folder_bytes, "/") ||
           try_folder(out, file, folder_bytes, "/../bin/") ||
           try_folder(out, file, folder_bytes, "/../libexec/pintable/");
}

static bool try_path(char *out)
{
    const char *path = secure_getenv("PATH");
    while (path != NULL && *path != '\0') {
        const size_t bytes = strcspn(path, ":");
        /* an empty or relative entry depends on the working directory: passed over */
        if (path[0] == '/' && try_folder(out, path, bytes, "/")) {
            return true;
        }
        path += bytes + (path[bytes] == ':' ? 1 : 0);
    }
    return false;
}

/* Perhaps by a name that is relative to our working directory. */
static pint_status look_for_program(char *out, pint_error *err)
{
    char file[PROGRAM_PATH_BYTES];
    char text[128];
    const char *named = secure_getenv("PINTABLED");
    if (named != NULL && named[0] != '\0') {
        if (strlen(named) < PROGRAM_PATH_BYTES && is_program(named)) {
            memcpy(out, named, strlen(named) + 1);
            return PINT_OK;
        }
        return pinti_fail(err, PINT_E_NO_SERVICE, 0, "$PINTABLED names no program: '%s'",
                          pinti_printable(text, sizeof(text), named, strlen(named)));
    }
    Dl_info info;
    if (dladdr((const void *)&pinti_launch, &info) != 0 && info.dli_fname != NULL &&
        try_around(out, info.dli_fname)) {
        return PINT_OK;
    }
    const ssize_t bytes = readlink("/proc/self/exe", file, sizeof(file) - 1);
    if (bytes > 0) {
        file[bytes] = '\0';
        if (try_around(out, file)) {
            return PINT_OK;
        }
    }
#ifdef PINT_LIBEXECDIR
    if (try_folder(out, PINT_LIBEXECDIR, strlen(PINT_LIBEXECDIR), "/")) {
        return PINT_OK;
    }
#endif
    if (try_path(out)) {
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_NO_SERVICE, 0,
                      "no service runs, and '" PROGRAM "' was found neither beside the library nor "
                      "in $PATH to start one: set $PINTABLED");
}

/* By an absolute name: the service is started in the root folder. */
static pint_status find_program(char *out, pint_error *err)
{
    const pint_status status = look_for_program(out, err);
    if (status != PINT_OK || out[0] == '/') {
        return status;
    }
    char *full = realpath(out, NULL);
    const bool fits = full != NULL && strlen(full) < PROGRAM_PATH_BYTES;
    if (fits) {
        memcpy(out, full, strlen(full) + 1);
    }
    free(full);
    return fits ? PINT_OK
                : pinti_fail(err, PINT_E_NO_SERVICE, 0,
                             "no service runs, and the absolute name of '" PROGRAM
                             "' is not known here: set $PINTABLED to it");
}

/* ---- the start lock -------------------------------------------------------------------------- */

static int move_high(int fd)
{
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    const int error = errno;
    (void)close(fd);
    errno = error;
    return high;
}

static pint_status fail_file(const char *what, const char *path, pint_error *err)
{
    char text[128];
    const int error = errno;
    const bool full = error == EMFILE || error == ENFILE;
    return pinti_fail(err, full ? PINT_E_FD_LIMIT : PINT_E_NO_SERVICE, error,
                      "no service runs and none can be started: %s '%s'", what,
                      pinti_printable(text, sizeof(text), path, strlen(path)));
}

static pint_status open_lock(const pinti_address *address, int *out_fd, pint_error *err)
{
    struct stat st;
    char text[128];
    if (stat(address->folder, &st) == 0 && st.st_uid != geteuid()) {
        return pinti_fail(
            err, PINT_E_NO_SERVICE, 0,
            "no service runs, and only the owner of '%s' (uid %u) may start one",
            pinti_printable(text, sizeof(text), address->folder, strlen(address->folder)),
            (unsigned)st.st_uid);
    }
    int fd = open(address->lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        fd = move_high(fd);
    }
    if (fd < 0) {
        return fail_file("lock", address->lock, err);
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
        (void)close(fd);
        return pinti_fail(
            err, PINT_E_PERMISSION, 0, "'%s' is no file of this user's",
            pinti_printable(text, sizeof(text), address->lock, strlen(address->lock)));
    }
    *out_fd = fd;
    return PINT_OK;
}

/* Does somebody listen? Fails only with PINT_E_INTERRUPTED. */
static pint_status look_served(const pinti_address *address, int64_t deadline_ms, bool *out_served,
                               pint_error *err)
{
    int fd;
    pint_error inner;
    const pint_status status = pinti_connect(address->socket, deadline_ms, &fd, &inner);
    if (status == PINT_OK) {
        (void)close(fd);
    }
    *out_served = status != PINT_E_NO_SERVICE; /* other trouble is told by the caller's connect */
    return status == PINT_E_INTERRUPTED ? pinti_fail_interrupted("join", err) : PINT_OK;
}

/* Take the lock, or find that another process has started the service meanwhile. */
static pint_status take_lock(const pinti_address *address, int fd, int64_t deadline_ms,
                             bool *out_served, pint_error *err)
{
    for (;;) {
        const bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (!locked && errno != EWOULDBLOCK && errno != EINTR) {
            return fail_file("flock", address->lock, err);
        }
        const pint_status status = look_served(address, deadline_ms, out_served, err);
        if ((*out_served || status != PINT_OK) && locked) {
            (void)flock(fd, LOCK_UN);
        }
        if (*out_served || locked || status != PINT_OK) {
            return status;
        }
        if (pinti_left_ms(deadline_ms) == 0) {
            char text[128];
            return pinti_fail(
                err, PINT_E_TIMEOUT, 0, "another process has held the start lock '%s' all the time",
                pinti_printable(text, sizeof(text), address->lock, strlen(address->lock)));
        }
        if (!pinti_pause_ms(LOCK_PAUSE_MS, deadline_ms)) {
            return pinti_fail_interrupted("join", err);
        }
    }
}

/* ---- spawning -------------------------------------------------------------------------------- */

typedef struct start {
    int lock_fd;
    int log_fd;
    int ready_in;  /* ours */
    int ready_out; /* the service's */
    char program[PROGRAM_PATH_BYTES];
} start;

/* The environment without the family: the service belongs to none. NULL: out of memory. */
static char **service_environment(void)
{
    size_t n = 0;
    while (environ != NULL && environ[n] != NULL) {
        n++;
    }
    char **copy = malloc((n + 1) * sizeof(*copy));
    if (copy == NULL) {
        return NULL;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(environ[i], FAMILY_VARIABLE, strlen(FAMILY_VARIABLE)) != 0) {
            copy[kept++] = environ[i];
        }
    }
    copy[kept] = NULL;
    return copy;
}

/* 0 or an errno. */
static int set_actions(posix_spawn_file_actions_t *actions, const start *s)
{
    const int copies[][2] = {
        {s->log_fd, 1}, {s->log_fd, 2}, {s->lock_fd, LOCK_FD}, {s->ready_out, READY_FD}};
    int error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]) && error == 0; i++) {
        error = posix_spawn_file_actions_adddup2(actions, copies[i][0], copies[i][1]);
    }
    if (error == 0) {
        error = posix_spawn_file_actions_addclosefrom_np(actions, READY_FD + 1);
    }
    if (error == 0) {
        error = posix_spawn_file_actions_addchdir_np(actions, "/");
    }
    return error;
}

/* A session of its own, no signal blocked, every disposition the default. 0 or an errno. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int error = posix_spawnattr_setsigmask(attributes, &none);
    if (error == 0) {
        error = posix_spawnattr_setsigdefault(attributes, &all);
    }
    if (error == 0) {
        error = posix_spawnattr_setflags(
            attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    }
    return error;
}

static int spawn_with(const start *s, char *const argv[], char *const envp[], pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return error;
    }
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = set_actions(&actions, s);
        if (error == 0) {
            error = set_attributes(&attributes);
        }
        if (error == 0) {
            error = posix_spawn(out_pid, s->program, &actions, &attributes, argv, envp);
        }
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Start the program. 0 or an errno. */
static int spawn(const start *s, const pinti_address *address, pid_t *out_pid)
{
    char lock_fd[16];
    char ready_fd[16];
    (void)snprintf(lock_fd, sizeof(lock_fd), "%d", LOCK_FD);
    (void)snprintf(ready_fd, sizeof(ready_fd), "%d", READY_FD);
    const char *linger = secure_getenv("PINTABLE_LINGER");
    const bool lingers = linger != NULL && linger[0] != '\0';
    const char *const argv[] = {
        PROGRAM,     "--address", address->socket, "--private", "--daemonize",
        "--lock-fd", lock_fd,     "--ready-fd",    ready_fd,    lingers ? "--linger" : NULL,
        linger,      NULL};
    char **envp = service_environment();
    if (envp == NULL) {
        return ENOMEM;
    }
    /* posix_spawn() does not write to the arguments; its type says otherwise */
    const int error = spawn_with(s, (char *const *)argv, envp, out_pid);
    free(envp);
    return error;
}

/*
 * The first process of the program forks the service and exits at once. One that does not is no
 * service of ours: it is killed, so that no child is left to the caller. It has REAP_MS for that
 * even if the caller has less: what it starts serves the next one who comes. Without pidfds it is
 * waited for without a limit.
 */
static pint_status reap(pid_t pid, int64_t deadline_ms, pint_error *err)
{
    pint_status status = PINT_OK;
    const int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    const int left = pinti_left_ms(deadline_ms);
    const int waited = pidfd < 0 ? 0 : pinti_wire_wait(pidfd, left < REAP_MS ? REAP_MS : left);
    if (waited != 0) {
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        status = waited == PINTI_WIRE_INTERRUPTED
                     ? pinti_fail_interrupted("join", err)
                     : pinti_fail(err, PINT_E_TIMEOUT, 0, "the private service does not start");
    }
    if (pidfd >= 0) {
        (void)close(pidfd);
    }
    /* ECHILD: a handler of the program's, or SIG_IGN for SIGCHLD, was faster */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* ---- waiting for it -------------------------------------------------------------------------- */

/* Last line of the log, printable; "" when there is none. */
static void read_last_line(const char *path, char *out, size_t room)
{
    char tail[LOG_TAIL_BYTES];
    out[0] = '\0';
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    const off_t end = lseek(fd, 0, SEEK_END);
    const off_t from = end > LOG_TAIL_BYTES ? end - LOG_TAIL_BYTES : 0;
    ssize_t bytes = pread(fd, tail, sizeof(tail), from);
    (void)close(fd);
    while (bytes > 0 && (tail[bytes - 1] == '\n' || tail[bytes - 1] == ' ')) {
        bytes--;
    }
    ssize_t first = bytes;
    while (first > 0 && tail[first - 1] != '\n') {
        first--;
    }
    if (bytes > first) {
        (void)pinti_printable(out, room, tail + first, (size_t)(bytes - first));
    }
}

static pint_status fail_start(const start *s, const pinti_address *address, pint_error *err)
{
    char line[128];
    char log[96];
    char program[64];
    read_last_line(address->log, line, sizeof(line));
    (void)pinti_printable(log, sizeof(log), address->log, strlen(address->log));
    (void)pinti_printable(program, sizeof(program), s->program, strlen(s->program));
    if (line[0] != '\0') {
        return pinti_fail(err, PINT_E_NO_SERVICE, 0, "'%s' did not start: %s", program, line);
    }
    return pinti_fail(err, PINT_E_NO_SERVICE, 0, "'%s' did not start and left no word in '%s'",
                      program, log);
}

/* Wait for the ready byte, or the end of the last process that could send it. */
static pint_status wait_ready(const start *s, const pinti_address *address, int64_t deadline_ms,
                              pint_error *err)
{
    for (;;) {
        char byte;
        const ssize_t bytes = read(s->ready_in, &byte, 1);
        if (bytes == 1) {
            return PINT_OK;
        }
        if (bytes == 0) {
            return fail_start(s, address, err);
        }
        if (errno != EAGAIN && errno != EINTR) {
            return pinti_fail(err, PINT_E_SYSTEM, errno, "waiting for the private service");
        }
        const int left = pinti_left_ms(deadline_ms);
        if (left == 0) {
            return pinti_fail(err, PINT_E_TIMEOUT, 0, "the private service is still starting");
        }
        if (pinti_wire_wait(s->ready_in, left) == PINTI_WIRE_INTERRUPTED) {
            return pinti_fail_interrupted("join", err);
        }
    }
}

static pint_status open_log(const pinti_address *address, int *out_fd, pint_error *err)
{
    struct stat st;
    int fd = open(address->log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        fd = move_high(fd);
    }
    if (fd < 0) {
        return fail_file("log", address->log, err);
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_BYTES_MAX) {
        (void)ftruncate(fd, 0);
    }
    *out_fd = fd;
    return PINT_OK;
}

static pint_status open_pipe(start *s, pint_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return fail_file("pipe", "ready", err);
    }
    s->ready_in = ends[0];
    s->ready_out = move_high(ends[1]);
    if (s->ready_out < 0 || fcntl(s->ready_in, F_SETFL, O_NONBLOCK) != 0) {
        return fail_file("pipe", "ready", err);
    }
    return PINT_OK;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

/* Requires: the lock. Gives it up, unless a service may still be starting with it. */
static pint_status start_locked(start *s, const pinti_address *address, int64_t deadline_ms,
                                pint_error *err)
{
    pint_status status = find_program(s->program, err);
    if (status == PINT_OK) {
        status = open_log(address, &s->log_fd, err);
    }
    if (status == PINT_OK) {
        status = open_pipe(s, err);
    }
    if (status == PINT_OK) {
        pid_t pid;
        const int error = spawn(s, address, &pid);
        if (error != 0) {
            errno = error;
            status = fail_file("spawn", s->program, err);
        } else {
            status = reap(pid, deadline_ms, err);
        }
    }
    if (status == PINT_OK) {
        close_one(&s->ready_out); /* so that the end of the service ends the pipe */
        status = wait_ready(s, address, deadline_ms, err);
    }
    if (status != PINT_E_TIMEOUT && status != PINT_E_INTERRUPTED) {
        (void)flock(s->lock_fd, LOCK_UN);
    }
    close_one(&s->ready_in);
    close_one(&s->ready_out);
    close_one(&s->log_fd);
    return status;
}

pint_status pinti_launch(const pinti_address *address, int64_t deadline_ms, pint_error *err)
{
    start s = {.lock_fd = -1, .log_fd = -1, .ready_in = -1, .ready_out = -1};
    bool served = false;
    pint_status status = open_lock(address, &s.lock_fd, err);
    if (status != PINT_OK) {
        return status;
    }
    status = take_lock(address, s.lock_fd, deadline_ms, &served, err);
    if (status == PINT_OK && !served) {
        status = start_locked(&s, address, deadline_ms, err);
    }
    close_one(&s.lock_fd);
    return status;
}
