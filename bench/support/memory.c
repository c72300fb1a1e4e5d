/* SPDX-License-Identifier: Apache-2.0 */

/* Memory of chosen page size, and how much there is. */

#include "bench/support/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#    define MADV_COLLAPSE 25
#endif

#define SMALL_BYTES 4096ull
#define HUGE_BYTES  (2ull << 20)
#define LEAST_BYTES (16ull << 20)

static bool is_huge(const char *pages)
{
    return pages != NULL && strcmp(pages, BENCH_PAGES_2M) == 0;
}

/* The number after prefix at the start of line, in *out; else false and *out stays. */
static bool read_number(const char *line, const char *prefix, int base, uint64_t *out)
{
    char *end;
    const size_t skip = strlen(prefix);
    if (strncmp(line, prefix, skip) != 0) {
        return false;
    }
    const uint64_t number = strtoull(line + skip, &end, base);
    if (end == line + skip) {
        return false;
    }
    *out = number;
    return true;
}

/* The first line of a mapping in smaps: "from-to ...", hexadecimal, where others have "Name: ...".
 */
static bool read_range(const char *line, uint64_t *out_from, uint64_t *out_to)
{
    const char *dash = strchr(line, '-');
    return dash != NULL && strcspn(line, ": ") > (size_t)(dash - line) &&
           read_number(line, "", 16, out_from) && read_number(dash, "-", 16, out_to);
}

const char *bench_pages_of(const void *address)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool is_inside = false;
    uint64_t rss = 0;
    uint64_t shared = 0;
    uint64_t private = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        uint64_t from;
        uint64_t to;
        if (read_range(line, &from, &to)) {
            is_inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        } else if (is_inside) {
            (void)read_number(line, "Rss:", 10, &rss);
            (void)read_number(line, "ShmemPmdMapped:", 10, &shared);
            (void)read_number(line, "AnonHugePages:", 10, &private);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return rss > 0 && (shared + private) * 2 >= rss ? BENCH_PAGES_2M : BENCH_PAGES_4K;
}

int bench_memfd(uint64_t bytes)
{
    const int fd = memfd_create("pintable-bench", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
        bench_die("memfd of %" PRIu64 " bytes: %s", bytes, strerror(errno));
    }
    return fd;
}

/* Reserve 2 MiB more, map inside, give the ends back. */
static void *map_aligned(int fd, uint64_t bytes, int flags)
{
    char *room = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        bench_die("mmap of %" PRIu64 " bytes: %s", bytes, strerror(errno));
    }
    const uint64_t lead = (HUGE_BYTES - ((uintptr_t)room & (HUGE_BYTES - 1))) & (HUGE_BYTES - 1);
    void *at = mmap(room + lead, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
    if (at == MAP_FAILED) {
        bench_die("mmap of %" PRIu64 " bytes: %s", bytes, strerror(errno));
    }
    if (lead > 0) {
        (void)munmap(room, lead);
    }
    const uint64_t end = (bytes + SMALL_BYTES - 1) / SMALL_BYTES * SMALL_BYTES;
    (void)munmap(room + lead + end, HUGE_BYTES - lead - (end - bytes));
    return at;
}

void *bench_map(int fd, uint64_t bytes)
{
    return map_aligned(fd, bytes, MAP_SHARED);
}

void *bench_shared(uint64_t bytes, const char *pages)
{
    const int fd = bench_memfd(bytes);
    char *at = bench_map(fd, bytes);
    (void)close(fd);
    const uint64_t step = is_huge(pages) ? HUGE_BYTES : SMALL_BYTES;
    for (uint64_t i = 0; i < bytes; i += step) {
        at[i] = 1;
    }
    if (is_huge(pages) && madvise(at, bytes, MADV_COLLAPSE) != 0) {
        bench_die("MADV_COLLAPSE of %" PRIu64 " bytes: %s", bytes, strerror(errno));
    }
    memset(at, 0, bytes);
    if (bench_pages_of(at) != pages) {
        bench_die("the baseline's memory has not got %s pages", pages);
    }
    return at;
}

void *bench_private(uint64_t bytes, const char *pages)
{
    char *at = map_aligned(-1, bytes, MAP_PRIVATE | MAP_ANONYMOUS);
    if (pages != NULL) {
        (void)madvise(at, bytes, is_huge(pages) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    memset(at, 0, bytes);
    if (is_huge(pages) && bench_pages_of(at) != pages) { /* transparent huge pages are off */
        (void)madvise(at, bytes, MADV_COLLAPSE);
    }
    if (pages != NULL && bench_pages_of(at) != pages) {
        bench_die("private memory has not got %s pages", pages);
    }
    return at;
}

void bench_unmap(void *at, uint64_t bytes)
{
    (void)munmap(at, bytes);
}

void bench_use_machine_memory(uint64_t bytes)
{
    char *at = map_aligned(-1, bytes, MAP_PRIVATE | MAP_ANONYMOUS);
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    for (uint64_t i = 0; i < bytes; i += SMALL_BYTES) {
        at[i] = 1;
    }
    bench_touch(at);
    (void)munmap(at, bytes);
}

/* The number after prefix, at the start of a line; UINT64_MAX when there is none. */
static uint64_t number_in(const char *path, const char *prefix)
{
    char line[256];
    uint64_t number = UINT64_MAX;
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL &&
           !read_number(line, prefix, 10, &number)) {
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return number;
}

uint64_t bench_memory_available(void)
{
    const uint64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    uint64_t bytes = kib == UINT64_MAX ? 1ull << 30 : kib * 1024;
    const uint64_t limits[] = {
        number_in("/sys/fs/cgroup/memory.max", ""),
        number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes", ""),
    };
    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        bytes = limits[i] < bytes ? limits[i] : bytes;
    }
    return bytes;
}

uint64_t bench_scaled(const char *bench, uint64_t wanted, unsigned times)
{
    const uint64_t room = bench_memory_available() / 4 * 3;
    uint64_t bytes = wanted;
    while (bytes * times > room && bytes > LEAST_BYTES) {
        bytes /= 2;
    }
    if (bytes != wanted) {
        bench_fact("scaled", "%s: %" PRIu64 " MiB instead of %" PRIu64 ", memory is short", bench,
                   bytes >> 20, wanted >> 20);
    }
    return bytes;
}
