/* SPDX-License-Identifier: Apache-2.0 */

/* System calls and constants by number where headers of glibc 2.34 have none. */

#include "ipc/service/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#    define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#    define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#    define SYS_close_range 436
#endif
#ifndef SO_PEERPIDFD
#    define SO_PEERPIDFD 77
#endif
#ifndef MFD_NOEXEC_SEAL
#    define MFD_NOEXEC_SEAL 0x0008u
#endif
#ifndef F_ADD_SEALS
#    define F_ADD_SEALS 1033
#    define F_GET_SEALS 1034
#endif
#ifndef F_SEAL_WRITE
#    define F_SEAL_WRITE 0x0008
#endif
#ifndef F_SEAL_FUTURE_WRITE
#    define F_SEAL_FUTURE_WRITE 0x0010
#endif

static bool *feature_by_name(pinti_features *features, const char *name, size_t bytes)
{
    const struct {
        const char *name;
        bool *flag;
    } all[] = {
        {"peerpidfd", &features->peerpidfd},     {"pidfd", &features->pidfd},
        {"collapse", &features->collapse},       {"populate", &features->populate},
        {"noexec_seal", &features->noexec_seal}, {"future_write", &features->future_write},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strlen(all[i].name) == bytes && memcmp(all[i].name, name, bytes) == 0) {
            return all[i].flag;
        }
    }
    return NULL;
}

bool pinti_features_set(pinti_features *features, const char *disabled)
{
    *features = (pinti_features){true, true, true, true, true, true};
    while (disabled != NULL && disabled[0] != '\0') {
        const size_t bytes = strcspn(disabled, ",");
        bool *flag = feature_by_name(features, disabled, bytes);
        if (flag == NULL && bytes != 0) {
            return false;
        }
        if (flag != NULL) {
            *flag = false;
        }
        disabled += bytes + (disabled[bytes] == ',' ? 1 : 0);
    }
    return true;
}

static bool has_peerpidfd(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    const int fd = pinti_pidfd_of_peer(pair[0]);
    if (fd >= 0) {
        (void)close(fd);
    }
    (void)close(pair[0]);
    (void)close(pair[1]);
    return fd >= 0;
}

void pinti_features_probe(pinti_features *features)
{
    const uint64_t page = 4096;
    if (features->peerpidfd) {
        features->peerpidfd = has_peerpidfd();
    }
    if (features->pidfd) {
        const int fd = pinti_pidfd_open(getpid());
        features->pidfd = fd >= 0;
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    if (features->noexec_seal) {
        const int fd = memfd_create("probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
        features->noexec_seal = fd >= 0;
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    const int fd = pinti_memfd(features, "probe", page);
    if (features->future_write) {
        features->future_write = fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

int pinti_memfd(const pinti_features *features, const char *name, uint64_t bytes)
{
    const unsigned extra = features->noexec_seal ? MFD_NOEXEC_SEAL : 0;
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | extra);
    if (fd < 0 && errno == EINVAL && extra != 0) {
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0) {
        return -1;
    }
    if (ftruncate(fd, (off_t)bytes) != 0) {
        const int reason = errno;
        (void)close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

int pinti_reopen_read_only(int fd)
{
    char path[40];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

int pinti_pidfd_open(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0u);
}

int pinti_pidfd_of_peer(int socket)
{
    int fd = -1;
    socklen_t bytes = sizeof(fd);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) != 0) {
        return -1;
    }
    if (bytes != sizeof(fd) || fd < 0) {
        errno = EINVAL;
        return -1;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* the kernel sets it; costs nothing to be sure */
    return fd;
}

int pinti_pidfd_kill(int pidfd, int signal_number)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0u);
}

bool pinti_pidfd_check(int fd)
{
    char path[40];
    char target[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const ssize_t bytes = readlink(path, target, sizeof(target) - 1);
    if (bytes <= 0) {
        return false;
    }
    target[bytes] = '\0';
    /* "anon_inode:[pidfd]" until 6.8, "pidfd:[inode]" in pidfs */
    return strcmp(target, "anon_inode:[pidfd]") == 0 || strncmp(target, "pidfd:[", 7) == 0;
}

enum pinti_tether pinti_tether_probe(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0) {
        return PINTI_TETHER_FREE;
    }
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_WRITE) != 0) {
        return PINTI_TETHER_FREE;
    }
    /* with F_SEAL_SEAL nothing can be told any more; only a client can have added it */
    return seals < 0 || (seals & F_SEAL_SEAL) != 0 ? PINTI_TETHER_TAMPERED : PINTI_TETHER_MAPPED;
}

static void close_between(int first, int last)
{
    if (first > last || syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0u) == 0) {
        return;
    }
    struct rlimit limit;
    int end = last;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)last) {
        end = (int)limit.rlim_cur;
    }
    for (int fd = first; fd <= end; fd++) {
        (void)close(fd);
    }
}

static int compare_ints(const void *a, const void *b)
{
    const int left = *(const int *)a;
    const int right = *(const int *)b;
    return (left > right) - (left < right);
}

void pinti_close_all_but(const int *keep, size_t n_keep)
{
    const int last = INT32_MAX;
    int *sorted = n_keep > 0 ? malloc(n_keep * sizeof(*sorted)) : NULL;
    if (n_keep > 0 && sorted == NULL) {
        return; /* better too many open than a wrong one closed */
    }
    if (n_keep > 0) {
        memcpy(sorted, keep, n_keep * sizeof(*sorted));
        qsort(sorted, n_keep, sizeof(*sorted), compare_ints);
    }
    int first = 3;
    for (size_t i = 0; i < n_keep; i++) {
        if (sorted[i] >= first) {
            close_between(first, sorted[i] - 1);
            first = sorted[i] + 1;
        }
    }
    close_between(first, last);
    free(sorted);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t pinti_clock_ms(void)
{
    return clock_ns(CLOCK_MONOTONIC) / 1000000u;
}

uint64_t pinti_clock_realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

bool pinti_random(void *out, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        const ssize_t n = getrandom((char *)out + got, bytes - got, 0);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}
