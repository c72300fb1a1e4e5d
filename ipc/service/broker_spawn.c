/* SPDX-License-Identifier: Apache-2.0 */

/* Starting a broker. A program is named by $PINTABLE_BROKER, or lies beside the service's own, or
 * in libexec. It gets its socket as descriptor 3 and the UUID of its GPU as the only argument. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/broker.h"

#define PROGRAM       "pintable-broker"
#define PATH_BYTES    4096
#define BROKER_SOCKET 3
#define NOT_EXECUTED  127

extern char **environ;

/* ---- which program --------------------------------------------------------------------------- */

static bool try_beside(char out[PATH_BYTES], const char *folder, size_t bytes, const char *tail)
{
    const int n = snprintf(out, PATH_BYTES, "%.*s%s" PROGRAM, (int)bytes, folder, tail);
    return n > 0 && n < PATH_BYTES && access(out, X_OK) == 0;
}

static bool find_program(char out[PATH_BYTES])
{
    char self[PATH_BYTES];
    const char *named = secure_getenv("PINTABLE_BROKER");
    if (named != NULL && named[0] != '\0') {
        const size_t bytes = strnlen(named, PATH_BYTES);
        memcpy(out, named, bytes < PATH_BYTES ? bytes + 1 : 0);
        return bytes < PATH_BYTES && access(named, X_OK) == 0;
    }
    const ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (bytes > 0) {
        self[bytes] = '\0';
        const char *slash = strrchr(self, '/');
        const size_t folder = slash == NULL ? 0 : (size_t)(slash - self);
        if (try_beside(out, self, folder, "/") ||
            try_beside(out, self, folder, "/../libexec/pintable/")) {
            return true;
        }
    }
#ifdef PINT_LIBEXECDIR
    return try_beside(out, PINT_LIBEXECDIR, strlen(PINT_LIBEXECDIR), "/");
#else
    return false;
#endif
}

/* ---- the child ------------------------------------------------------------------------------- */

_Noreturn static void execute(const char *path, char *uuid, int fd)
{
    char name[] = PROGRAM;
    char *argv[] = {name, uuid, NULL};
    sigset_t none;
    const int high = fcntl(fd, F_DUPFD, BROKER_SOCKET + 1);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Not in the service's group: it lives on when that is killed to the last helper. */
    (void)setpgid(0, 0);
    if (high < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(high, BROKER_SOCKET) < 0) {
        _exit(NOT_EXECUTED);
    }
    const int keep[] = {BROKER_SOCKET};
    pinti_close_all_but(keep, 1);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGHUP, SIG_IGN); /* comes when the service dies while it is stopped */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execve(path, argv, environ);
    _exit(NOT_EXECUTED);
}

static void uuid_text(const uint8_t uuid[16], char out[33])
{
    for (int i = 0; i < 16; i++) {
        (void)snprintf(out + 2 * (size_t)i, 3, "%02x", uuid[i]);
    }
}

pint_status pinti_broker_spawn(pinti_service *service, uint32_t device, int *out_fd, pid_t *out_pid,
                               pint_error *err)
{
    const pinti_device_rec *rec = &pinti_cat_devices(service->catalog)[device];
    char path[PATH_BYTES];
    char uuid[33];
    int pair[2];
    uuid_text(rec->uuid, uuid);
    if (rec->is_cuda != 0 && !find_program(path)) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "no program " PROGRAM " beside the service: set $PINTABLE_BROKER");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return pinti_fail(err, PINT_E_DEVICE, errno, "broker: socketpair");
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        if (rec->is_cuda != 0) {
            execute(path, uuid, pair[1]);
        }
        pinti_broker_host(&service->base->features, pair[1], parent);
    }
    const int fork_errno = errno;
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        return pinti_fail(err, PINT_E_DEVICE, fork_errno, "broker: fork");
    }
    *out_fd = pair[0];
    *out_pid = pid;
    return PINT_OK;
}
