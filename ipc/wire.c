/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Packets with descriptors. What the kernel counts decides: descriptors are counted from cmsg_len,
 * and every one that arrived is either handed to the caller or closed here.
 */

#include "ipc/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "host/interrupt.h"

/* Room for one descriptor more than any message has: CMSG_SPACE rounds up, and a surplus one is
 * seen and closed rather than told by MSG_CTRUNC only. */
#define CONTROL_BYTES CMSG_SPACE((PINTI_WIRE_FDS_MAX + 1u) * sizeof(int))

typedef union control_buffer {
    struct cmsghdr align;
    char bytes[CONTROL_BYTES];
} control_buffer;

static int outcome_of_errno(int error)
{
    switch (error) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return PINTI_WIRE_WOULD_BLOCK;
    case EPIPE:
    case ECONNRESET:
        return PINTI_WIRE_CLOSED;
    case ETOOMANYREFS:
        return PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT;
    default:
        return -error;
    }
}

int pinti_wire_send(int socket, const char *text, size_t text_bytes, const int *fds, unsigned n_fds,
                    bool dont_wait)
{
    if (text_bytes == 0 || text_bytes > PINTI_WIRE_BYTES_MAX || n_fds > PINTI_WIRE_FDS_MAX) {
        return -EMSGSIZE;
    }
    /* sendmsg() does not write through iov_base. */
    struct iovec iov = {.iov_base = (void *)text, .iov_len = text_bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    control_buffer control;
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    const int flags = MSG_NOSIGNAL | (dont_wait ? MSG_DONTWAIT : 0);
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, flags);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return outcome_of_errno(errno);
    }
    /* A packet goes whole or not at all; anything else is no packet socket. */
    return (size_t)sent == text_bytes ? 0 : -EPROTOTYPE;
}

static void close_fds(const int *fds, unsigned n_fds)
{
    for (unsigned i = 0; i < n_fds; i++) {
        (void)close(fds[i]);
    }
}

/* Move the descriptors of one control message to fds, closing those beyond the room. True when all
 * of them fitted. */
static bool take_rights(const struct cmsghdr *cmsg, int *fds, unsigned fds_room, unsigned *n_fds)
{
    const size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool fitted = true;
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
        if (*n_fds < fds_room) {
            fds[(*n_fds)++] = fd;
        } else {
            (void)close(fd);
            fitted = false;
        }
    }
    return fitted;
}

/* True when the message carried nothing but descriptors that fitted. */
static bool take_control(struct msghdr *message, int *fds, unsigned fds_room, unsigned *n_fds)
{
    bool clean = true;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg != NULL;
         cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
            cmsg->cmsg_len >= CMSG_LEN(0)) {
            clean = take_rights(cmsg, fds, fds_room, n_fds) && clean;
        } else {
            clean = false;
        }
    }
    return clean && (message->msg_flags & MSG_CTRUNC) == 0;
}

int pinti_wire_recv(int socket, char *buffer, size_t *out_bytes, int *fds, unsigned fds_room,
                    unsigned *out_n_fds, bool dont_wait)
{
    struct iovec iov = {.iov_base = buffer, .iov_len = PINTI_WIRE_BYTES_MAX};
    control_buffer control;
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    const int flags = MSG_CMSG_CLOEXEC | (dont_wait ? MSG_DONTWAIT : 0);
    ssize_t received;
    do {
        received = recvmsg(socket, &message, flags);
    } while (received < 0 && errno == EINTR);
    if (received < 0) {
        return outcome_of_errno(errno);
    }

    unsigned n_fds = 0;
    const bool clean = take_control(&message, fds, fds_room, &n_fds);
    if (!clean || received == 0 || (message.msg_flags & MSG_TRUNC) != 0) {
        close_fds(fds, n_fds);
        /* End of file and an empty packet look alike, and both end the conversation. */
        return clean && received == 0 ? PINTI_WIRE_CLOSED : PINTI_WIRE_MALFORMED;
    }
    buffer[received] = '\0';
    *out_bytes = (size_t)received;
    if (out_n_fds != NULL) {
        *out_n_fds = n_fds;
    } else {
        close_fds(fds, n_fds);
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, int timeout_ms)
{
    const int64_t deadline_ms = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;
    for (int64_t left_ms = timeout_ms;;) {
        struct pollfd entry = {.fd = fd, .events = events};
        const bool has_slices =
            pinti_has_interrupt() && (left_ms < 0 || left_ms > PINTI_INTERRUPT_MS);
        const int ready = poll(&entry, 1, has_slices ? PINTI_INTERRUPT_MS : (int)left_ms);
        if (ready > 0) {
            /* Errors and hang-ups are told by the next receive. */
            return (entry.revents & POLLNVAL) != 0 ? -EBADF : 0;
        }
        if (ready < 0 && errno != EINTR) {
            return -errno;
        }
        if (timeout_ms >= 0) {
            left_ms = deadline_ms - now_ms();
            if (ready == 0 && left_ms <= 0) {
                return PINTI_WIRE_WOULD_BLOCK;
            }
            left_ms = left_ms > 0 ? left_ms : 0;
        }
        if (pinti_is_interrupted()) {
            return PINTI_WIRE_INTERRUPTED;
        }
    }
}

int pinti_wire_wait(int socket, int timeout_ms)
{
    return wait_for(socket, POLLIN, timeout_ms);
}

int pinti_wire_wait_room(int socket, int timeout_ms)
{
    return wait_for(socket, POLLOUT, timeout_ms);
}
