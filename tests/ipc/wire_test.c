/* SPDX-License-Identifier: Apache-2.0 */
/* Packets with descriptors: limits, surplus, foreign control data, closed peers. */

#include "ipc/wire.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char buffer[PINTI_WIRE_BYTES_MAX + 1];
static char long_text[PINTI_WIRE_BYTES_MAX + 2];

static bool make_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0;
}

static void close_pair(const int pair[2])
{
    EXPECT_EQ(close(pair[0]), 0);
    EXPECT_EQ(close(pair[1]), 0);
}

/* Send anything: what a peer that does not use our code can do. */
static bool send_raw(int socket, const void *text, size_t bytes, const int *fds, size_t n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } control = {{0}};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static bool same_file(int a, int b)
{
    struct stat sa;
    struct stat sb;
    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

TEST(Wire, CarriesTextUpToTheLimitAndTerminatesIt)
{
    int pair[2];
    ASSERT_TRUE(make_pair(pair));
    memset(long_text, 'x', sizeof(long_text));
    const size_t sizes[] = {1, 2, 4095, 65535, PINTI_WIRE_BYTES_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t bytes = 0;
        unsigned n_fds = 99;
        ASSERT_EQ(pinti_wire_send(pair[0], long_text, sizes[i], NULL, 0, true), 0);
        ASSERT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, NULL, 0, &n_fds, true), 0);
        EXPECT_EQ(bytes, sizes[i]);
        EXPECT_EQ(n_fds, 0);
        EXPECT_EQ(buffer[bytes], '\0');
        EXPECT_MEMEQ(buffer, long_text, bytes);
    }
    close_pair(pair);
}

TEST(Wire, RefusesToSendWhatNoReceiverMayTake)
{
    int pair[2];
    int fds[PINTI_WIRE_FDS_MAX + 1] = {0};
    ASSERT_TRUE(make_pair(pair));
    EXPECT_EQ(pinti_wire_send(pair[0], "", 0, NULL, 0, true), -EMSGSIZE);
    EXPECT_EQ(pinti_wire_send(pair[0], long_text, PINTI_WIRE_BYTES_MAX + 1, NULL, 0, true),
              -EMSGSIZE);
    EXPECT_EQ(pinti_wire_send(pair[0], "x", 1, fds, PINTI_WIRE_FDS_MAX + 1, true), -EMSGSIZE);
    close_pair(pair);
}

TEST(Wire, CallsAPacketBeyondTheLimitMalformed)
{
    int pair[2];
    size_t bytes = 7;
    ASSERT_TRUE(make_pair(pair));
    ASSERT_TRUE(send_raw(pair[0], long_text, PINTI_WIRE_BYTES_MAX + 1, NULL, 0));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, NULL, 0, NULL, true), PINTI_WIRE_MALFORMED);
    EXPECT_EQ(bytes, 7);
    close_pair(pair);
}

TEST(Wire, ClosesTheDescriptorsOfAPacketThatIsTooLong)
{
    int pair[2];
    size_t bytes;
    int got[PINTI_WIRE_FDS_MAX];
    ASSERT_TRUE(make_pair(pair));
    ASSERT_TRUE(send_raw(pair[0], long_text, PINTI_WIRE_BYTES_MAX + 1, pair, 2));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, PINTI_WIRE_FDS_MAX, NULL, true),
              PINTI_WIRE_MALFORMED);
    close_pair(pair); /* the shim fails the test if one is left open */
}

TEST(Wire, CarriesDescriptorsCloseOnExec)
{
    for (unsigned n = 1; n <= PINTI_WIRE_FDS_MAX; n++) {
        int pair[2];
        int sent[PINTI_WIRE_FDS_MAX];
        int got[PINTI_WIRE_FDS_MAX];
        size_t bytes;
        unsigned n_got = 0;
        ASSERT_TRUE(make_pair(pair));
        for (unsigned i = 0; i < n; i++) {
            sent[i] = i % 2 == 0 ? pair[0] : STDIN_FILENO;
        }
        ASSERT_EQ(pinti_wire_send(pair[0], "x", 1, sent, n, true), 0);
        ASSERT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, n, &n_got, true), 0);
        ASSERT_EQ(n_got, n);
        for (unsigned i = 0; i < n; i++) {
            EXPECT_TRUE(same_file(got[i], sent[i]));
            EXPECT_NE(fcntl(got[i], F_GETFD) & FD_CLOEXEC, 0);
            EXPECT_EQ(close(got[i]), 0);
        }
        close_pair(pair);
    }
}

/* One more than the room, also where the rounding of CMSG_SPACE has room for it, and many more. */
TEST(Wire, ClosesSurplusDescriptorsAndCallsThePacketMalformed)
{
    const unsigned rooms[] = {0, 1, 2, 6, 7, 8};
    const unsigned counts[] = {1, 2, 3, 9, 10, 60};
    for (size_t r = 0; r < 6; r++) {
        for (size_t c = 0; c < 6; c++) {
            int pair[2];
            int sent[60];
            int got[PINTI_WIRE_FDS_MAX];
            size_t bytes;
            unsigned n_got = 55;
            if (counts[c] <= rooms[r]) {
                continue;
            }
            ASSERT_TRUE(make_pair(pair));
            for (unsigned i = 0; i < counts[c]; i++) {
                sent[i] = STDIN_FILENO;
            }
            ASSERT_TRUE(send_raw(pair[0], "x", 1, sent, counts[c]));
            EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, rooms[r], &n_got, true),
                      PINTI_WIRE_MALFORMED);
            EXPECT_EQ(n_got, 55);
            close_pair(pair);
        }
    }
}

TEST(Wire, TakesAnEmptyPacketForTheEndAndClosesItsDescriptors)
{
    int pair[2];
    size_t bytes;
    int got[2];
    ASSERT_TRUE(make_pair(pair));
    ASSERT_TRUE(send_raw(pair[0], "", 0, NULL, 0));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, 2, NULL, true), PINTI_WIRE_CLOSED);
    ASSERT_TRUE(send_raw(pair[0], "", 0, pair, 2));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, 2, NULL, true), PINTI_WIRE_CLOSED);
    close_pair(pair);
}

TEST(Wire, CallsControlDataOfAnotherKindMalformed)
{
    int pair[2];
    size_t bytes;
    int got[2];
    const int on = 1;
    ASSERT_TRUE(make_pair(pair));
    ASSERT_EQ(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    ASSERT_TRUE(send_raw(pair[0], "x", 1, NULL, 0));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, 2, NULL, true), PINTI_WIRE_MALFORMED);
    ASSERT_TRUE(send_raw(pair[0], "x", 1, pair, 2));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, got, 2, NULL, true), PINTI_WIRE_MALFORMED);
    close_pair(pair);
}

TEST(Wire, ReportsWouldBlockAndClosed)
{
    int pair[2];
    size_t bytes;
    ASSERT_TRUE(make_pair(pair));
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, NULL, 0, NULL, true),
              PINTI_WIRE_WOULD_BLOCK);
    int status = 0;
    unsigned sent = 0;
    while ((status = pinti_wire_send(pair[0], long_text, 60000, NULL, 0, true)) == 0) {
        sent++;
    }
    EXPECT_EQ(status, PINTI_WIRE_WOULD_BLOCK);
    EXPECT_GT(sent, 0);
    ASSERT_EQ(close(pair[0]), 0);
    for (; sent > 0; sent--) {
        EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, NULL, 0, NULL, true), 0);
    }
    EXPECT_EQ(pinti_wire_recv(pair[1], buffer, &bytes, NULL, 0, NULL, true), PINTI_WIRE_CLOSED);
    /* no SIGPIPE: it would end this program */
    EXPECT_EQ(pinti_wire_send(pair[1], "x", 1, NULL, 0, true), PINTI_WIRE_CLOSED);
    EXPECT_EQ(close(pair[1]), 0);
}

TEST(Wire, ReportsOtherErrorsAsErrno)
{
    size_t bytes;
    EXPECT_EQ(pinti_wire_send(-1, "x", 1, NULL, 0, true), -EBADF);
    EXPECT_EQ(pinti_wire_recv(-1, buffer, &bytes, NULL, 0, NULL, true), -EBADF);
    EXPECT_EQ(pinti_wire_send(STDIN_FILENO, "x", 1, NULL, 0, true), -ENOTSOCK);
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

TEST(Wire, WaitsUntilReadableOrTimeAndThroughSignals)
{
    int pair[2];
    ASSERT_TRUE(make_pair(pair));
    EXPECT_EQ(pinti_wire_wait(pair[1], 0), PINTI_WIRE_WOULD_BLOCK);

    struct sigaction action = {.sa_handler = on_alarm};
    struct sigaction before;
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
    const pid_t child = ct_spawn("signal_parent", NULL);
    ASSERT_GT(child, 0);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_EQ(pinti_wire_wait(pair[1], 100), PINTI_WIRE_WOULD_BLOCK);
    EXPECT_GE(ct_now_ms() - start_ms, 99);
    EXPECT_EQ(ct_wait(child), 0);
    EXPECT_EQ(sigaction(SIGUSR1, &before, NULL), 0);

    ASSERT_EQ(pinti_wire_send(pair[0], "x", 1, NULL, 0, true), 0);
    EXPECT_EQ(pinti_wire_wait(pair[1], -1), 0);
    ASSERT_EQ(close(pair[0]), 0);
    EXPECT_EQ(pinti_wire_wait(pair[1], -1), 0);
    EXPECT_EQ(close(pair[1]), 0);
    EXPECT_EQ(pinti_wire_wait(pair[1], 0), -EBADF);
}

PROC(signal_parent)
{
    for (int i = 0; i < 20; i++) {
        CT_REQUIRE(kill(getppid(), SIGUSR1) == 0);
        ct_nap();
    }
    return 0;
}

/* The receiver may have no descriptor left: what did arrive is closed, not kept. */
TEST(Wire, CallsAPacketMalformedWhenNoDescriptorIsFree)
{
    int pair[2];
    size_t bytes;
    int got[4];
    struct rlimit before;
    ASSERT_TRUE(make_pair(pair));
    const int sent[4] = {pair[0], pair[0], pair[0], pair[0]};
    ASSERT_EQ(pinti_wire_send(pair[0], "x", 1, sent, 4, true), 0);
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const int next = dup(pair[0]); /* the lowest free number */
    ASSERT_GE(next, 0);
    ASSERT_EQ(close(next), 0);
    const struct rlimit tight = {.rlim_cur = (rlim_t)next + 1, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
    const int status = pinti_wire_recv(pair[1], buffer, &bytes, got, 4, NULL, true);
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(status, PINTI_WIRE_MALFORMED);
    close_pair(pair);
}
