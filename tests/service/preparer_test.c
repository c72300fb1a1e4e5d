/* SPDX-License-Identifier: Apache-2.0 */
/* The preparer on real memfds: what it makes, what it undoes, and what follows its death. */
#include "ipc/service/preparer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/layout.h"
#include "tests/support/ct.h"

#define SLAB       PINTI_SLAB_BYTES
#define PAGE       PINTI_PAGE_BYTES
#define DATA_BYTES (128 * SLAB)
#define SYNC_BYTES (1ull << 20)

typedef struct rig {
    int data_fd;
    int sync_fd;
    pinti_preparer *preparer;
} rig;

static bool make_files(rig *r)
{
    r->preparer = NULL;
    r->data_fd = memfd_create("test-data", MFD_CLOEXEC);
    r->sync_fd = memfd_create("test-sync", MFD_CLOEXEC);
    return r->data_fd >= 0 && r->sync_fd >= 0 && ftruncate(r->data_fd, (off_t)DATA_BYTES) == 0 &&
           ftruncate(r->sync_fd, (off_t)SYNC_BYTES) == 0;
}

static bool start(rig *r, uint32_t flags)
{
    pint_error err;
    return make_files(r) && pinti_preparer_start(r->data_fd, DATA_BYTES, r->sync_fd, SYNC_BYTES,
                                                 flags, &r->preparer, &err) == PINT_OK;
}

static void stop(rig *r)
{
    pinti_preparer_stop(r->preparer);
    (void)close(r->data_fd);
    (void)close(r->sync_fd);
}

static void add_work(pinti_plan *plan, enum pinti_work_kind kind, bool sync, uint64_t off,
                     uint64_t bytes)
{
    plan->work[plan->n++] =
        (pinti_work){.kind = kind, .sync = sync, .range = {.off = off, .bytes = bytes}};
}

static uint64_t held_bytes(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : UINT64_MAX;
}

/* The next plan that is over. */
static bool wait_complete(rig *r, pinti_prepared *out)
{
    for (uint32_t i = 0; i < 30; i++) {
        if (pinti_preparer_complete(r->preparer, out)) {
            return true;
        }
        struct pollfd p = {.fd = pinti_preparer_fd(r->preparer), .events = POLLIN};
        (void)poll(&p, 1, 1000);
    }
    return false;
}

static bool file_is(int fd, uint64_t off, uint64_t bytes, int value)
{
    const unsigned char *at = mmap(NULL, DATA_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return false;
    }
    bool same = true;
    for (uint64_t i = 0; i < bytes && same; i++) {
        same = at[off + i] == value;
    }
    (void)munmap((void *)(uintptr_t)at, DATA_BYTES);
    return same;
}

static void expect_populates(uint32_t flags, uint32_t pages)
{
    rig r;
    pint_error err;
    pinti_plan plan = {.n = 0};
    ASSERT_TRUE(start(&r, flags));
    add_work(&plan, PINTI_WORK_POPULATE, false, 4 * SLAB, 70 * SLAB);
    add_work(&plan, PINTI_WORK_POPULATE, true, PAGE, 3 * PAGE);
    ASSERT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
    EXPECT_EQ(held_bytes(r.data_fd), 70 * SLAB);
    EXPECT_EQ(held_bytes(r.sync_fd), 3 * PAGE);
    EXPECT_EQ(lseek(r.data_fd, 4 * (off_t)SLAB, SEEK_HOLE), 74 * (off_t)SLAB);
    EXPECT_EQ(pinti_preparer_pages(r.preparer) & ~pages, 0u);
    EXPECT_NE(pinti_preparer_pages(r.preparer), 0u);
    stop(&r);
}

TEST(Preparer, PopulatesExactlyWhatItIsTold)
{
    expect_populates(0, PINTI_PAGES_COLLAPSE | PINTI_PAGES_4K);
}

TEST(Preparer, PopulatesWithoutCollapse)
{
    expect_populates(PINTI_PREPARER_NO_COLLAPSE, PINTI_PAGES_4K);
}

TEST(Preparer, PopulatesByTouchingAlone)
{
    expect_populates(PINTI_PREPARER_NO_COLLAPSE | PINTI_PREPARER_NO_POPULATE, PINTI_PAGES_4K);
}

TEST(Preparer, PopulatesHugePagesAfterTouching)
{
    expect_populates(PINTI_PREPARER_NO_POPULATE, PINTI_PAGES_COLLAPSE | PINTI_PAGES_4K);
}

TEST(Preparer, PopulatingAgainChangesNoByte)
{
    static const char text[] = "still here";
    rig r;
    pint_error err;
    pinti_plan plan = {.n = 0};
    char read_back[sizeof(text)] = "";
    ASSERT_TRUE(start(&r, 0));
    ASSERT_EQ(pwrite(r.data_fd, text, sizeof(text), 0), (ssize_t)sizeof(text));
    ASSERT_EQ(pwrite(r.data_fd, text, sizeof(text), (off_t)SLAB + 5000), (ssize_t)sizeof(text));
    add_work(&plan, PINTI_WORK_POPULATE, false, 0, 4 * SLAB);
    ASSERT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
    ASSERT_EQ(pread(r.data_fd, read_back, sizeof(text), 0), (ssize_t)sizeof(text));
    EXPECT_STREQ(read_back, text);
    ASSERT_EQ(pread(r.data_fd, read_back, sizeof(text), (off_t)SLAB + 5000), (ssize_t)sizeof(text));
    EXPECT_STREQ(read_back, text);
    stop(&r);
}

TEST(Preparer, ZeroesAndPunches)
{
    rig r;
    pint_error err;
    pinti_plan plan = {.n = 0};
    char ones[3 * PAGE];
    memset(ones, 1, sizeof(ones));
    ASSERT_TRUE(start(&r, 0));
    add_work(&plan, PINTI_WORK_POPULATE, false, 0, 2 * SLAB);
    ASSERT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
    ASSERT_EQ(pwrite(r.data_fd, ones, sizeof(ones), 0), (ssize_t)sizeof(ones));
    plan.n = 0;
    add_work(&plan, PINTI_WORK_ZERO, false, PAGE, PAGE);
    add_work(&plan, PINTI_WORK_PUNCH, false, SLAB, SLAB);
    ASSERT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
    EXPECT_EQ(held_bytes(r.data_fd), SLAB);
    EXPECT_TRUE(file_is(r.data_fd, 0, PAGE, 1));
    EXPECT_TRUE(file_is(r.data_fd, PAGE, PAGE, 0));
    EXPECT_TRUE(file_is(r.data_fd, 2 * PAGE, PAGE, 1));
    stop(&r);
}

TEST(Preparer, CompletesPlansInOrderWithTheirTokens)
{
    rig r;
    pint_error err;
    pinti_prepared done;
    pinti_plan plan = {.n = 0};
    ASSERT_TRUE(start(&r, 0));
    add_work(&plan, PINTI_WORK_POPULATE, false, 0, SLAB);
    for (uint64_t i = 0; i < 20; i++) {
        plan.work[0].range.off = i * SLAB;
        ASSERT_OK(pinti_preparer_submit(r.preparer, &plan, 100 + i, &err), &err);
    }
    for (uint64_t i = 0; i < 20; i++) {
        ASSERT_TRUE(wait_complete(&r, &done));
        EXPECT_EQ(done.token, 100 + i);
        EXPECT_EQ(done.status, PINT_OK);
        EXPECT_EQ(done.plan->work[0].range.off, i * SLAB);
    }
    EXPECT_FALSE(pinti_preparer_complete(r.preparer, &done));
    EXPECT_EQ(held_bytes(r.data_fd), 20 * SLAB);
    stop(&r);
}

TEST(Preparer, DeathWhileIdleIsNotNoticedByTheNextPlan)
{
    rig r;
    pint_error err;
    pinti_plan plan = {.n = 0};
    pinti_prepared done;
    ASSERT_TRUE(start(&r, 0));
    const int first = pinti_preparer_pid(r.preparer);
    ASSERT_EQ(kill(first, SIGKILL), 0);
    struct pollfd p = {.fd = pinti_preparer_fd(r.preparer), .events = POLLIN};
    ASSERT_EQ(poll(&p, 1, 10000), 1);
    EXPECT_FALSE(pinti_preparer_complete(r.preparer, &done));
    add_work(&plan, PINTI_WORK_POPULATE, false, 0, SLAB);
    EXPECT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
    EXPECT_NE(pinti_preparer_pid(r.preparer), first);
    stop(&r);
}

/* Killed after the first work of a plan: the plan fails, what was populated is gone, and the plans
 * behind it are done. */
TEST(Preparer, DeathInsideAPlanUndoesItAndFailsOnlyIt)
{
#if PINT_CRASHPOINTS
    rig r;
    pint_error err;
    pinti_prepared done;
    pinti_plan plan = {.n = 0};
    ASSERT_TRUE(make_files(&r));
    pinti_crash_arm(PINTI_CRASH_PREPARER_WORKING, 1); /* inherited by the child */
    ASSERT_OK(
        pinti_preparer_start(r.data_fd, DATA_BYTES, r.sync_fd, SYNC_BYTES, 0, &r.preparer, &err),
        &err);
    pinti_crash_arm(PINTI_CRASH_NONE, 0);
    add_work(&plan, PINTI_WORK_POPULATE, false, 0, 8 * SLAB);
    add_work(&plan, PINTI_WORK_POPULATE, false, 20 * SLAB, 8 * SLAB);
    ASSERT_OK(pinti_preparer_submit(r.preparer, &plan, 1, &err), &err);
    plan.n = 1;
    plan.work[0].range = (pinti_range){.off = 40 * SLAB, .bytes = SLAB};
    ASSERT_OK(pinti_preparer_submit(r.preparer, &plan, 2, &err), &err);
    ASSERT_TRUE(wait_complete(&r, &done));
    EXPECT_EQ(done.token, 1u);
    EXPECT_EQ(done.status, PINT_E_NO_MEMORY);
    EXPECT_EQ(done.plan->n, 2u);
    ASSERT_TRUE(wait_complete(&r, &done));
    EXPECT_EQ(done.token, 2u);
    EXPECT_EQ(done.status, PINT_OK);
    EXPECT_EQ(held_bytes(r.data_fd), SLAB);
    stop(&r);
#else
    SKIP("crash points are not compiled in");
#endif
}

PROC(own_a_preparer)
{
    rig r;
    pint_error err;
    CT_REQUIRE(make_files(&r));
    CT_REQUIRE(pinti_preparer_start(r.data_fd, DATA_BYTES, r.sync_fd, SYNC_BYTES, 0, &r.preparer,
                                    &err) == PINT_OK);
    (void)printf("%d\n", pinti_preparer_pid(r.preparer));
    (void)fflush(stdout);
    _exit(0); /* without stopping it */
}

/* Gone, or a zombie that some other process will reap. */
static bool is_dead(int pid)
{
    char path[64];
    char text[512] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    (void)ct_read_all(fd, text, sizeof(text));
    (void)close(fd);
    return strstr(text, "State:\tZ") != NULL;
}

TEST(Preparer, DiesWithItsParent, .timeout_s = 30)
{
    int output[2];
    char text[32] = "";
    ASSERT_EQ(pipe2(output, O_CLOEXEC), 0);
    const pid_t parent = ct_spawn_opts("own_a_preparer", NULL, .output_fd = output[1]);
    (void)close(output[1]);
    ASSERT_GT(ct_read_all(output[0], text, sizeof(text)), 0u);
    (void)close(output[0]);
    EXPECT_EQ(ct_wait(parent), 0);
    const int pid = (int)strtol(text, NULL, 10);
    ASSERT_GT(pid, 1);
    EXPECT_TRUE(ct_eventually(is_dead(pid), 10000));
}

/* A file system with a limit answers where a cgroup would kill. */
TEST(Preparer, RefusalOfMemoryFailsThePlanAndLeavesNothing)
{
    rig r = {.data_fd = -1};
    pint_error err;
    pinti_plan plan = {.n = 0};
    char path[512];
    const char *dir = ct_tmpdir();
    if (mount("none", dir, "tmpfs", 0, "size=16m,mode=0700") != 0) {
        SKIP("needs the right to mount a tmpfs");
    }
    (void)snprintf(path, sizeof(path), "%s/data", dir);
    r.data_fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    r.sync_fd = memfd_create("test-sync", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(r.data_fd, (off_t)DATA_BYTES), 0);
    EXPECT_EQ(ftruncate(r.sync_fd, (off_t)SYNC_BYTES), 0);
    for (uint32_t flags = 0; flags < 4; flags++) {
        EXPECT_OK(pinti_preparer_start(r.data_fd, DATA_BYTES, r.sync_fd, SYNC_BYTES, flags,
                                       &r.preparer, &err),
                  &err);
        plan.n = 0;
        add_work(&plan, PINTI_WORK_POPULATE, true, 0, PAGE);
        add_work(&plan, PINTI_WORK_POPULATE, false, 0, 2 * SLAB);
        add_work(&plan, PINTI_WORK_POPULATE, false, 4 * SLAB, 32 * SLAB);
        EXPECT_STATUS(PINT_E_NO_MEMORY, pinti_preparer_do(r.preparer, &plan, &err), &err);
        plan.n = 2;
        EXPECT_OK(pinti_preparer_do(r.preparer, &plan, &err), &err);
        EXPECT_EQ(held_bytes(r.data_fd), 2 * SLAB);
        pinti_preparer_stop(r.preparer);
        r.preparer = NULL;
    }
    (void)close(r.data_fd);
    (void)close(r.sync_fd);
    EXPECT_EQ(umount(dir), 0);
}
