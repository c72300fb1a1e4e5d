/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The broker of device "host": a forked process that makes memfds. It is not the service, because
 * allocating takes time and, under a memory limit, the life of who does it.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/json.h"
#include "ipc/service/broker.h"
#include "ipc/wire.h"
#include "pintable/device.h"

#ifndef F_ADD_SEALS
#    define F_ADD_SEALS   1033
#    define F_SEAL_SEAL   0x0001
#    define F_SEAL_SHRINK 0x0002
#    define F_SEAL_GROW   0x0004
#endif

#define FIRST_TO_DIE "1000" /* as the preparer: rather this process than the service */

/* A memfd whose pages exist, of a size that nobody can change. -1 with errno. */
static int make_memory(const pinti_features *features, uint64_t bytes)
{
    const int fd = pinti_memfd(features, "pintable-copy", bytes);
    if (fd < 0) {
        return -1;
    }
    int error = 0;
    if (bytes > INT64_MAX) {
        error = EFBIG;
    } else {
        /* returns the error; without pages now, an access later could end its process */
        do {
            error = posix_fallocate(fd, 0, (off_t)bytes);
        } while (error == EINTR);
    }
    if (error == 0 && (fchmod(fd, 0600) != 0 ||
                       fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
        error = errno;
    }
    if (error != 0) {
        (void)close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static bool answer(int socket, uint64_t id, int fd)
{
    char text[256];
    if (fd >= 0) {
        (void)snprintf(text, sizeof(text), "{\"id\":%" PRIu64 ",\"ok\":true}", id);
    } else {
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%" PRIu64 ",\"error\":\"memfd: error %d\",\"status\":%d}", id,
                       errno, (int)PINT_E_DEVICE_MEMORY);
    }
    return pinti_wire_send(socket, text, strlen(text), &fd, fd >= 0 ? 1 : 0, false) == 0;
}

static bool serve_one(const pinti_features *features, int socket, const char *text, size_t bytes)
{
    cJSON *root = NULL;
    uint64_t size = 0;
    uint64_t id = 0;
    const bool good = pinti_json_parse(text, bytes, &root, NULL) == PINT_OK &&
                      pinti_json_u64(root, "allocate", UINT64_MAX, &size, NULL) == PINT_OK &&
                      pinti_json_u64(root, "id", UINT64_MAX, &id, NULL) == PINT_OK;
    cJSON_Delete(root);
    if (!good) {
        return false;
    }
    const int fd = make_memory(features, size);
    const bool sent = answer(socket, id, fd);
    if (fd >= 0) {
        (void)close(fd);
    }
    return sent;
}

void pinti_broker_host(const pinti_features *features, int fd, pid_t parent)
{
    static char buffer[PINTI_WIRE_BYTES_MAX + 1];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(0);
    }
    const int adjust = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjust >= 0) {
        const ssize_t rc = write(adjust, FIRST_TO_DIE, sizeof(FIRST_TO_DIE) - 1);
        (void)rc;
    }
    pinti_close_all_but(&fd, 1);
    for (;;) {
        size_t bytes = 0;
        const int rc = pinti_wire_recv(fd, buffer, &bytes, NULL, 0, NULL, false);
        if (rc == PINTI_WIRE_WOULD_BLOCK) {
            continue; /* a blocking socket: cannot be */
        }
        if (rc != 0 || !serve_one(features, fd, buffer, bytes)) {
            _exit(0);
        }
    }
}
