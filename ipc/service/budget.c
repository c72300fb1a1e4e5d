/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory a pool may take if nobody says: half of what there is, where "there" is the
 * machine or the smallest cgroup limit above this process. Files that are missing or unreadable
 * limit nothing.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/layout.h"
#include "ipc/service/memory.h"

#define TEXT_BYTES 4096

/* The first bytes of a file, terminated; "" if there is none. */
static void read_text(const char *path, char out[TEXT_BYTES])
{
    size_t n = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = 0;
        do {
            n += (size_t)got;
            got = read(fd, out + n, TEXT_BYTES - 1 - n);
        } while (got > 0 && n + (size_t)got < TEXT_BYTES - 1);
        n += got > 0 ? (size_t)got : 0;
        (void)close(fd);
    }
    out[n] = '\0';
}

/* A limit file: a number, or "max". */
static uint64_t read_limit(const char *path)
{
    char text[TEXT_BYTES];
    char *end = text;
    read_text(path, text);
    const unsigned long long n = strtoull(text, &end, 10);
    return end == text || n == 0 ? UINT64_MAX : n;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The limits of a cgroup and of all above it. In a container the path may be that of the host,
 * which is not mounted; then the mount's own root is the container's group. */
static uint64_t limit_above(const char *mount, const char *group, const char *file)
{
    char path[TEXT_BYTES];
    char at[1024];
    uint64_t limit = UINT64_MAX;
    (void)snprintf(at, sizeof(at), "%s", group);
    for (;;) {
        if (snprintf(path, sizeof(path), "%s%s/%s", mount, at, file) < (int)sizeof(path)) {
            limit = min_of(limit, read_limit(path));
        }
        char *slash = strrchr(at, '/');
        if (slash == NULL) {
            return limit;
        }
        *slash = '\0';
    }
}

/* Lines "0::/path" (v2) and "7:memory:/path" (v1) of /proc/self/cgroup. */
static uint64_t cgroup_limit(void)
{
    char text[TEXT_BYTES];
    char *rest = NULL;
    uint64_t limit = UINT64_MAX;
    read_text("/proc/self/cgroup", text);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL) {
            continue;
        }
        *group++ = '\0';
        if (controllers[1] == '\0') {
            limit = min_of(limit, limit_above("/sys/fs/cgroup", group, "memory.max"));
        } else if (strstr(controllers, "memory") != NULL) {
            limit =
                min_of(limit, limit_above("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
        }
    }
    return limit;
}

uint64_t pinti_memory_default_budget(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes
                                                 : 1024ull * 1024 * 1024;
    bytes = min_of(bytes, cgroup_limit()) / 2;
    bytes -= bytes % PINTI_SLAB_BYTES;
    return bytes < PINTI_SLAB_BYTES ? PINTI_SLAB_BYTES : bytes;
}
