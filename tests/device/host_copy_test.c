/* SPDX-License-Identifier: Apache-2.0 */
/* How backend "host" copies: every byte that was asked for and no other, however it lies. */

#include "device/host_copy.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/host_backend.h"
#include "tests/support/ct.h"

static pint_error err;

static unsigned char *pages(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_TRUE(at != MAP_FAILED);
    return at;
}

/* Not the same at any two distances that a copy could get wrong. */
static void fill(unsigned char *at, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) {
        at[i] = (unsigned char)(1 + (i ^ i >> 8 ^ i >> 16) % 251);
    }
}

/* ---- one copy -------------------------------------------------------------------------------- */

#define ROOM 4096u

static bool is_all(const unsigned char *at, uint64_t bytes, unsigned char value)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (at[i] != value) {
            return false;
        }
    }
    return true;
}

TEST(HostCopy, EveryOffsetAndLength)
{
    static const uint64_t lengths[] = {0, 1, 15, 16, 63, 64, 65, 127, 128, 129, 191, 1000, 2048};
    unsigned char *from = pages(ROOM);
    unsigned char *to = pages(ROOM);
    fill(from, ROOM);
    for (int past = 0; past < 2; past++) {
        for (uint32_t at = 0; at <= 65; at++) {
            for (uint32_t source = 0; source < 64; source += 7) {
                for (uint32_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                    const uint64_t n = lengths[i];
                    memset(to, 0, ROOM);
                    pinti_host_copy(to + at, from + source, n, past == 1);
                    ASSERT_EQ(memcmp(to + at, from + source, n), 0);
                    ASSERT_TRUE(is_all(to, at, 0));
                    ASSERT_TRUE(is_all(to + at + n, ROOM - at - n, 0));
                }
            }
        }
    }
    (void)munmap(from, ROOM);
    (void)munmap(to, ROOM);
}

/* It fetches ahead, but must not read there. */
TEST(HostCopy, ReadsAndWritesNothingBehindTheEnd)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned char *from = pages(2 * page);
    unsigned char *to = pages(2 * page);
    ASSERT_EQ(mprotect(from + page, page, PROT_NONE), 0);
    ASSERT_EQ(mprotect(to + page, page, PROT_NONE), 0);
    fill(from, page);
    for (uint64_t n = 0; n <= 200; n++) {
        pinti_host_copy(to + page - n, from + page - n, n, true);
        ASSERT_EQ(memcmp(to + page - n, from + page - n, n), 0);
    }
    (void)munmap(from, 2 * page);
    (void)munmap(to, 2 * page);
}

/* ---- copies on a stream ---------------------------------------------------------------------- */

#define LARGE (PINTI_HOST_PAST_BYTES + (1ull << 20))

typedef struct fixture {
    pinti_backend *backend;
    const pinti_backend_ops *ops;
    void *stream;
    unsigned char *device; /* LARGE, as host */
    unsigned char *host;   /* registered */
    unsigned char *wanted;
} fixture;

static void set_up(fixture *f)
{
    ASSERT_OK(pinti_host_backend.open("", &f->backend, &err), &err);
    f->ops = f->backend->ops;
    ASSERT_OK(f->ops->stream_create(f->backend, &f->stream, &err), &err);
    f->device = pages(LARGE);
    f->host = pages(LARGE);
    f->wanted = pages(LARGE);
    ASSERT_OK(f->ops->pin(f->backend, f->host, LARGE, false, &err), &err);
}

static void tear_down(fixture *f)
{
    f->ops->stream_destroy(f->backend, f->stream);
    EXPECT_OK(f->ops->unpin(f->backend, f->host, LARGE, &err), &err);
    f->ops->close(f->backend);
    (void)munmap(f->device, LARGE);
    (void)munmap(f->host, LARGE);
    (void)munmap(f->wanted, LARGE);
}

static pinti_piece piece(const fixture *f, uint64_t device, uint64_t host, uint64_t bytes)
{
    return (pinti_piece){(uintptr_t)f->device + device, (char *)f->host + host, bytes};
}

/* Pieces one way: what was copied is `wanted`, made by plain copies, and nothing else changed. */
static void copy_and_compare(fixture *f, bool to_device, const pinti_piece *pieces, uint32_t n)
{
    unsigned char *from = to_device ? f->host : f->device;
    unsigned char *to = to_device ? f->device : f->host;
    fill(from, LARGE);
    memset(to, 0, LARGE);
    memset(f->wanted, 0, LARGE);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t device = pieces[i].device_address - (uintptr_t)f->device;
        const uint64_t host = (uint64_t)((unsigned char *)pieces[i].host - f->host);
        memcpy(f->wanted + (to_device ? device : host), from + (to_device ? host : device),
               pieces[i].bytes);
    }
    ASSERT_OK(f->ops->copy(f->backend, to_device, pieces, n, f->stream, &err), &err);
    ASSERT_OK(f->ops->stream_wait(f->backend, f->stream, &err), &err);
    EXPECT_EQ(memcmp(to, f->wanted, LARGE), 0);
}

/* Adjacent on both sides, on one of them, on none, in another order; little and much in all. */
TEST(HostCopy, PiecesOfOneCopyComeWhereTheyBelong)
{
    const uint64_t half = PINTI_HOST_PAST_BYTES / 2;
    fixture f;
    ASSERT_NO_FATAL(set_up(&f));
    const pinti_piece little[] = {
        piece(&f, 0, 0, 100),      piece(&f, 100, 100, 33),       /* both */
        piece(&f, 133, 500, 64),   piece(&f, 197, 1000, 64),      /* the device's side */
        piece(&f, 5000, 1064, 64), piece(&f, 6000, 1128, 300),    /* the host's */
        piece(&f, 9001, 9003, 7),  piece(&f, 8000, 8000, 1),      /* neither; not ascending */
        piece(&f, 20000, 0, 128),  piece(&f, 30000, 40000, 4096), /* bytes that were sent before */
    };
    const pinti_piece much[] = {
        piece(&f, 0, 0, half - 5),
        piece(&f, half - 5, half - 5, 5),
        piece(&f, half, half + 100, 999),
        piece(&f, half + 999, half + 2000, 1),
        piece(&f, half + 3000, half + 2001, half),
    };
    for (int to_device = 0; to_device < 2; to_device++) {
        /* towards the host two pieces may not go to the same bytes */
        ASSERT_NO_FATAL(copy_and_compare(&f, to_device == 1, little, to_device == 1 ? 10 : 8));
        ASSERT_NO_FATAL(copy_and_compare(&f, to_device == 1, much, 5));
    }
    tear_down(&f);
}

static void look_at_bytes(void *context)
{
    const fixture *f = context;
    EXPECT_EQ(f->device[LARGE - 1], 7);
    f->wanted[0] = f->device[LARGE / 2];
}

/* The mark publishes what was stored past the caches to another thread. */
TEST(HostCopy, WorkBehindALargeCopySeesItsBytes)
{
    fixture f;
    void *second = NULL;
    pinti_mark *mark = NULL;
    ASSERT_NO_FATAL(set_up(&f));
    ASSERT_OK(f.ops->stream_create(f.backend, &second, &err), &err);
    memset(f.host, 7, LARGE);
    const pinti_piece all = piece(&f, 0, 0, LARGE);
    ASSERT_OK(f.ops->copy(f.backend, true, &all, 1, f.stream, &err), &err);
    ASSERT_OK(f.ops->mark(f.backend, f.stream, &mark, &err), &err);
    ASSERT_OK(f.ops->stream_after(f.backend, second, mark, &err), &err);
    ASSERT_OK(f.ops->stream_call(f.backend, second, look_at_bytes, &f, &err), &err);
    ASSERT_OK(f.ops->stream_wait(f.backend, second, &err), &err);
    EXPECT_EQ(f.wanted[0], 7);
    f.ops->mark_free(f.backend, mark);
    f.ops->stream_destroy(f.backend, second);
    tear_down(&f);
}
