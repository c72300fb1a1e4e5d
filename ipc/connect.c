/* SPDX-License-Identifier: Apache-2.0 */

/* Connecting, and telling a socket of a stranger from one of ours. */

#include "ipc/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"

#define QUEUE_FULL_PAUSE_MS 5

typedef struct path_text {
    char text[112];
} path_text;

static const char *show(path_text *out, const char *path)
{
    return pinti_printable(out->text, sizeof(out->text), path, strlen(path));
}

int64_t pinti_clock_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int pinti_left_ms(int64_t deadline_ms)
{
    const int64_t left = deadline_ms - pinti_clock_ms();
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

bool pinti_pause_ms(int ms, int64_t deadline_ms)
{
    const int left = pinti_left_ms(deadline_ms);
    (void)poll(NULL, 0, ms < left ? ms : left); /* a signal only shortens it */
    return !pinti_is_interrupted();
}

/* What lies at the path must be a socket. ENOENT is left to connect(). */
static pint_status check_node(const char *path, pint_error *err)
{
    path_text text;
    struct stat st;
    if (lstat(path, &st) != 0 || S_ISSOCK(st.st_mode)) {
        return PINT_OK;
    }
    if (S_ISLNK(st.st_mode)) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "'%s' is a symbolic link (uid %u), no socket",
                          show(&text, path), (unsigned)st.st_uid);
    }
    return pinti_fail(err, PINT_E_INVALID, 0, "'%s' exists and is no socket (uid %u, mode %04o)",
                      show(&text, path), (unsigned)st.st_uid, (unsigned)st.st_mode & 07777u);
}

static pint_status fail_connect(const char *path, int error, pint_error *err)
{
    path_text text;
    show(&text, path);
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return pinti_fail(err, PINT_E_NO_SERVICE, error, "no service at '%s'", text.text);
    case EACCES:
    case EPERM:
        return pinti_fail(err, PINT_E_PERMISSION, error, "connect to '%s'", text.text);
    case EINTR:
        return pinti_fail_interrupted("connect", err);
    case EAGAIN:
    case EINPROGRESS:
        return pinti_fail(err, PINT_E_TIMEOUT, 0, "the service at '%s' takes no connections",
                          text.text);
    case EPROTOTYPE:
        return pinti_fail(err, PINT_E_INVALID, error, "'%s' is a socket of another kind",
                          text.text);
    default:
        return pinti_fail(err, PINT_E_SYSTEM, error, "connect to '%s'", text.text);
    }
}

/* Who listens there? Credentials are those of the process that called listen(). */
static pint_status check_peer(int fd, const char *path, pint_error *err)
{
    path_text text;
    struct ucred peer = {0};
    socklen_t bytes = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "credentials of the service at '%s'",
                          show(&text, path));
    }
    if (peer.uid == geteuid() || peer.uid == 0) {
        return PINT_OK;
    }
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    struct stat st;
    const char *slash = strrchr(path, '/');
    const size_t folder_bytes = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    memcpy(folder, path, folder_bytes);
    memcpy(folder + folder_bytes, ".", 2);
    if (stat(folder, &st) == 0 && st.st_uid == peer.uid) {
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_PERMISSION, 0,
                      "uid %u listens at '%s': neither this user, nor root, nor the owner of the "
                      "folder",
                      (unsigned)peer.uid, show(&text, path));
}

/* connect(), again while the listener's queue is full. 0 or an errno; EINTR: to be given up. */
static int connect_until(int fd, const struct sockaddr_un *address, int64_t deadline_ms)
{
    for (;;) {
        if (connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) == 0) {
            return 0;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EAGAIN || pinti_left_ms(deadline_ms) == 0) {
            return errno;
        }
        if (!pinti_pause_ms(QUEUE_FULL_PAUSE_MS, deadline_ms)) {
            return EINTR;
        }
    }
}

pint_status pinti_connect(const char *path, int64_t deadline_ms, int *out_fd, pint_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    path_text text;
    if (strlen(path) >= sizeof(address.sun_path)) {
        return pinti_fail(err, PINT_E_RANGE, 0, "socket path is longer than %zu bytes: '%s'",
                          sizeof(address.sun_path) - 1, show(&text, path));
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    pint_status status = check_node(path, err);
    if (status != PINT_OK) {
        return status;
    }
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        const bool full = errno == EMFILE || errno == ENFILE;
        return pinti_fail(err, full ? PINT_E_FD_LIMIT : PINT_E_SYSTEM, errno, "socket");
    }
    const int error = connect_until(fd, &address, deadline_ms);
    if (error != 0) {
        status = fail_connect(path, error, err);
        goto err_close;
    }
    status = check_peer(fd, path, err);
    if (status != PINT_OK) {
        goto err_close;
    }
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0) {
        status = pinti_fail(err, PINT_E_SYSTEM, errno, "socket flags");
        goto err_close;
    }
    *out_fd = fd;
    return PINT_OK;
err_close:
    (void)close(fd);
    return status;
}
