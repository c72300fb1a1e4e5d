/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A socket file that nobody listens at is left by a service that was killed together with its
 * keeper: it is replaced. Anything else at the address is left alone.
 */

#include "ipc/service/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/error.h"

#define LOCK_WAIT_MS 10000u
#define LOCK_POLL_MS 10
#define BACKLOG      4096

static int open_lock(const pinti_base *base)
{
    return open(base->address.lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static pint_status fail_system(const char *what, const char *path, pint_error *err)
{
    const int reason = errno;
    const pint_status status =
        reason == EACCES || reason == EPERM || reason == EROFS ? PINT_E_PERMISSION : PINT_E_SYSTEM;
    char text[160];
    return pinti_fail(err, status, reason, "%s '%s'", what,
                      pinti_printable(text, sizeof(text), path, strlen(path)));
}

static pint_status take_lock(pinti_base *base, pint_error *err)
{
    if (base->options.lock_fd >= 0) {
        base->lock_fd = base->options.lock_fd; /* our launcher took it for us */
        base->options.lock_fd = -1;
        (void)fcntl(base->lock_fd, F_SETFD, FD_CLOEXEC);
        return PINT_OK;
    }
    const int fd = open_lock(base);
    if (fd < 0) {
        return fail_system("start lock", base->address.lock, err);
    }
    const uint64_t end_ms = pinti_clock_ms() + LOCK_WAIT_MS;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            (void)close(fd);
            return fail_system("start lock", base->address.lock, err);
        }
        if (pinti_clock_ms() >= end_ms) {
            (void)close(fd);
            return pinti_fail(err, PINT_E_EXISTS, 0,
                              "another service has been starting or stopping here for %u ms",
                              LOCK_WAIT_MS);
        }
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
    base->lock_fd = fd;
    return PINT_OK;
}

static struct sockaddr_un socket_name(const pinti_base *base)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, base->address.socket, sizeof(name.sun_path));
    return name;
}

/* 0: nobody listens; else the errno that a connect gave, EISCONN if it succeeded. */
static int try_connect(const pinti_base *base)
{
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    const struct sockaddr_un name = socket_name(base);
    const int rc = connect(fd, (const struct sockaddr *)&name, sizeof(name));
    const int reason = rc == 0 ? EISCONN : errno;
    (void)close(fd);
    return reason == ECONNREFUSED ? 0 : reason;
}

static pint_status make_way(const pinti_base *base, pint_error *err)
{
    const char *path = base->address.socket;
    struct stat st;
    if (lstat(path, &st) != 0) {
        return errno == ENOENT ? PINT_OK : fail_system("socket", path, err);
    }
    char text[160];
    (void)pinti_printable(text, sizeof(text), path, strlen(path));
    if (!S_ISSOCK(st.st_mode)) {
        return pinti_fail(err, PINT_E_EXISTS, 0, "'%s' exists and is no socket", text);
    }
    const int answer = try_connect(base);
    switch (answer) {
    case 0:
        break;
    case EISCONN:
    case EAGAIN:     /* its backlog is full */
    case EPROTOTYPE: /* a socket of another kind */
        return pinti_fail(err, PINT_E_EXISTS, 0, "another service serves '%s'", text);
    case EACCES:
    case EPERM:
        return pinti_fail(err, PINT_E_PERMISSION, answer, "socket '%s'", text);
    case ENOENT:
        return PINT_OK;
    default:
        return pinti_fail(err, PINT_E_SYSTEM, answer, "socket '%s'", text);
    }
    return unlink(path) == 0 || errno == ENOENT ? PINT_OK : fail_system("unlink", path, err);
}

/* Who may connect: the owner, and those whom the pool's mode lets join in some way. */
static mode_t socket_mode(uint32_t mode)
{
    mode_t socket_bits = 0600;
    socket_bits |= (mode & 0060u) != 0 ? 0060 : 0;
    socket_bits |= (mode & 0006u) != 0 ? 0006 : 0;
    return socket_bits;
}

pint_status pinti_listener_open(pinti_base *base, pint_error *err)
{
    pint_status status = take_lock(base, err);
    if (status == PINT_OK) {
        status = make_way(base, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return fail_system("socket", base->address.socket, err);
    }
    const struct sockaddr_un name = socket_name(base);
    const mode_t before = umask((mode_t)(0777 & ~socket_mode(base->options.mode)));
    const int bound = bind(fd, (const struct sockaddr *)&name, sizeof(name));
    const int reason = errno;
    (void)umask(before);
    errno = reason;
    if (bound != 0) {
        status = fail_system("bind", base->address.socket, err);
        (void)close(fd);
        return status;
    }
    struct stat st;
    if (lstat(base->address.socket, &st) != 0 || listen(fd, BACKLOG) != 0) {
        status = fail_system("listen", base->address.socket, err);
        (void)unlink(base->address.socket);
        (void)close(fd);
        return status;
    }
    base->socket_dev = st.st_dev;
    base->socket_ino = st.st_ino;
    base->listen_fd = fd;
    return PINT_OK;
}

void pinti_listener_unlock(pinti_base *base)
{
    if (base->lock_fd >= 0) {
        /* the launcher's copy of the descriptor shares this lock: unlock, do not just close */
        (void)flock(base->lock_fd, LOCK_UN);
        (void)close(base->lock_fd);
        base->lock_fd = -1;
    }
}

bool pinti_listener_try_lock(pinti_base *base)
{
    if (base->lock_fd >= 0) {
        return true;
    }
    const int fd = open_lock(base);
    if (fd < 0) {
        return true; /* the folder is gone: nobody can start here */
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        return false;
    }
    base->lock_fd = fd;
    return true;
}

void pinti_listener_unlink(pinti_base *base)
{
    struct stat st;
    if (base->socket_ino != 0 && lstat(base->address.socket, &st) == 0 &&
        st.st_dev == base->socket_dev && st.st_ino == base->socket_ino) {
        (void)unlink(base->address.socket);
    }
    base->socket_ino = 0;
}
