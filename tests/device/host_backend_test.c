/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "host" by itself: asynchronous, in order, and as strict as a driver. */

#include "device/host_backend.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/atomic.h"
#include "tests/support/ct.h"

static pint_error err;

typedef struct fixture {
    pinti_backend *backend;
    const pinti_backend_ops *ops;
    void *stream;
    int fd;
    uint64_t address; /* 1 MiB of device memory */
    char *host;       /* 1 MiB, registered */
} fixture;

#define BYTES (1ull << 20)

static int sealed_memory(uint64_t bytes, unsigned seals)
{
    const int fd = memfd_create("device", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT_EQ(ftruncate(fd, (off_t)bytes), 0);
    EXPECT_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void set_up(fixture *f)
{
    ASSERT_OK(pinti_host_backend.open("", &f->backend, &err), &err);
    f->ops = f->backend->ops;
    f->fd = sealed_memory(BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
    ASSERT_OK(
        f->ops->import(f->backend, PINT_COPY_VMM, f->fd, NULL, BYTES, true, &f->address, &err),
        &err);
    f->host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_TRUE(f->host != MAP_FAILED);
    ASSERT_OK(f->ops->pin(f->backend, f->host, BYTES, false, &err), &err);
    ASSERT_OK(f->ops->stream_create(f->backend, &f->stream, &err), &err);
}

static void tear_down(fixture *f)
{
    f->ops->stream_destroy(f->backend, f->stream);
    EXPECT_OK(f->ops->unpin(f->backend, f->host, BYTES, &err), &err);
    f->ops->release(f->backend, PINT_COPY_VMM, f->address, BYTES);
    f->ops->close(f->backend);
    (void)munmap(f->host, BYTES);
    (void)close(f->fd);
}

typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
} gate;

static void stand(void *context)
{
    gate *g = context;
    (void)pthread_mutex_lock(&g->lock);
    while (!g->is_open) {
        (void)pthread_cond_wait(&g->changed, &g->lock);
    }
    (void)pthread_mutex_unlock(&g->lock);
}

static void let_go(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    g->is_open = true;
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
}

#define GATE                                                                                       \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false                                 \
    }

static char *device_bytes(const fixture *f)
{
    return (char *)(uintptr_t)f->address;
}

static void count(void *context)
{
    (*(pinti_a32 *)context)++;
}

TEST(HostBackend, CopiesLaterAndInOrder)
{
    fixture f;
    gate g = GATE;
    pinti_mark *mark = NULL;
    pinti_a32 n_told = 0;
    ASSERT_NO_FATAL(set_up(&f));
    ASSERT_OK(f.ops->stream_call(f.backend, f.stream, stand, &g, &err), &err);
    const pinti_piece there = {f.address, f.host, 100};
    const pinti_piece back = {f.address, f.host + 4096, 100};
    memset(f.host, 1, 100);
    ASSERT_OK(f.ops->copy(f.backend, true, &there, 1, f.stream, &err), &err);
    ASSERT_OK(f.ops->copy(f.backend, false, &back, 1, f.stream, &err), &err);
    ASSERT_OK(f.ops->mark(f.backend, f.stream, &mark, &err), &err);
    f.ops->mark_notify(f.backend, mark, count, &n_told);
    memset(f.host, 2, 100); /* too early: the copy has not been made */
    EXPECT_EQ(device_bytes(&f)[0], 0);
    EXPECT_EQ(f.ops->mark_passed(f.backend, mark, &err), PINT_E_TIMEOUT);
    EXPECT_EQ(n_told, 0);
    let_go(&g);
    EXPECT_OK(f.ops->mark_wait(f.backend, mark, &err), &err);
    EXPECT_TRUE(ct_eventually(n_told == 1, 5000));
    EXPECT_OK(f.ops->mark_passed(f.backend, mark, &err), &err);
    EXPECT_EQ(device_bytes(&f)[99], 2);
    EXPECT_EQ(f.host[4096 + 99], 2);
    f.ops->mark_notify(f.backend, mark, count, &n_told); /* passed already: at once */
    EXPECT_EQ(n_told, 2);
    f.ops->mark_free(f.backend, mark);
    tear_down(&f);
}

TEST(HostBackend, AStreamWaitsForAMarkOfAnotherEvenIfItWasGivenUp)
{
    fixture f;
    gate g = GATE;
    void *second = NULL;
    pinti_mark *mark = NULL;
    pinti_a32 n = 0;
    ASSERT_NO_FATAL(set_up(&f));
    ASSERT_OK(f.ops->stream_create(f.backend, &second, &err), &err);
    ASSERT_OK(f.ops->stream_call(f.backend, f.stream, stand, &g, &err), &err);
    ASSERT_OK(f.ops->mark(f.backend, f.stream, &mark, &err), &err);
    ASSERT_OK(f.ops->stream_after(f.backend, second, mark, &err), &err);
    f.ops->mark_free(f.backend, mark);
    ASSERT_OK(f.ops->stream_call(f.backend, second, count, &n, &err), &err);
    ASSERT_OK(f.ops->mark(f.backend, second, &mark, &err), &err);
    EXPECT_EQ(f.ops->mark_passed(f.backend, mark, &err), PINT_E_TIMEOUT);
    EXPECT_EQ(n, 0);
    let_go(&g);
    EXPECT_OK(f.ops->stream_wait(f.backend, second, &err), &err);
    EXPECT_EQ(n, 1);
    f.ops->mark_free(f.backend, mark);
    f.ops->stream_destroy(f.backend, second);
    tear_down(&f);
}

TEST(HostBackend, AFailedStreamRunsNothingMoreNorDoWhoWaitForIt)
{
    fixture f;
    void *second = NULL;
    pinti_mark *mark = NULL;
    pinti_a32 n = 0;
    ASSERT_NO_FATAL(set_up(&f));
    ASSERT_OK(f.ops->stream_create(f.backend, &second, &err), &err);
    ASSERT_OK(pinti_host_fail_stream(f.backend, f.stream, &err), &err);
    ASSERT_OK(f.ops->stream_call(f.backend, f.stream, count, &n, &err), &err);
    ASSERT_OK(f.ops->mark(f.backend, f.stream, &mark, &err), &err);
    ASSERT_OK(f.ops->stream_after(f.backend, second, mark, &err), &err);
    ASSERT_OK(f.ops->stream_call(f.backend, second, count, &n, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->mark_wait(f.backend, mark, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->stream_wait(f.backend, second, &err), &err);
    EXPECT_EQ(n, 0);
    f.ops->mark_free(f.backend, mark);
    f.ops->stream_destroy(f.backend, second);
    tear_down(&f);
}

TEST(HostBackend, CopiesOnlyWhatIsRegisteredAndNeverAcross)
{
    fixture f;
    ASSERT_NO_FATAL(set_up(&f));
    char *more = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_TRUE(more != MAP_FAILED);
    const pinti_piece unknown = {f.address, more, 1};
    const pinti_piece across = {f.address, more + 4000, 200};
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->copy(f.backend, true, &unknown, 1, f.stream, &err), &err);
    ASSERT_OK(f.ops->pin(f.backend, more, 4096, false, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->copy(f.backend, true, &across, 1, f.stream, &err), &err);
    ASSERT_OK(f.ops->pin(f.backend, more + 4096, 4096, false, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->copy(f.backend, true, &across, 1, f.stream, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->pin(f.backend, more, 8192, false, &err),
                  &err); /* overlap */
    EXPECT_OK(f.ops->unpin(f.backend, more, 4096, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->unpin(f.backend, more, 4096, &err), &err);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->unpin(f.backend, more + 5000, 4096, &err), &err);
    pinti_host_limit_pin(f.backend, 4096);
    EXPECT_STATUS(PINT_E_DEVICE, f.ops->pin(f.backend, more + 8192, 4097, false, &err), &err);
    EXPECT_OK(f.ops->unpin(f.backend, more + 4096, 4096, &err), &err);
    EXPECT_EQ(pinti_host_n_pinned(f.backend), 1);
    (void)munmap(more, 3 * 4096);
    tear_down(&f);
}

TEST(HostBackend, TakesSealedMemoryOfTheRightSizeOnly)
{
    fixture f;
    uint64_t address = 0;
    ASSERT_NO_FATAL(set_up(&f));
    const int shrinkable = sealed_memory(BYTES, F_SEAL_GROW);
    EXPECT_STATUS(
        PINT_E_PROTOCOL,
        f.ops->import(f.backend, PINT_COPY_VMM, shrinkable, NULL, BYTES, true, &address, &err),
        &err);
    EXPECT_STATUS(
        PINT_E_PROTOCOL,
        f.ops->import(f.backend, PINT_COPY_VMM, f.fd, NULL, BYTES + 1, true, &address, &err), &err);
    EXPECT_STATUS(PINT_E_PROTOCOL,
                  f.ops->import(f.backend, PINT_COPY_VMM, f.fd, NULL, 0, true, &address, &err),
                  &err);
    EXPECT_STATUS(PINT_E_SYSTEM,
                  f.ops->import(f.backend, PINT_COPY_VMM, -1, NULL, BYTES, true, &address, &err),
                  &err);
    EXPECT_STATUS(PINT_E_UNSUPPORTED,
                  f.ops->import(f.backend, PINT_COPY_IPC, f.fd, NULL, BYTES, true, &address, &err),
                  &err);
    EXPECT_EQ(address, 0);
    (void)close(shrinkable);
    tear_down(&f);
}

TEST(HostBackend, KnowsItsStreams)
{
    fixture f;
    int none;
    pinti_a32 n = 0;
    ASSERT_NO_FATAL(set_up(&f));
    EXPECT_STATUS(PINT_E_INVALID, f.ops->stream_wait(f.backend, &none, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, f.ops->stream_check(f.backend, &none, &err), &err);
    ASSERT_OK(f.ops->stream_call(f.backend, NULL, count, &n, &err), &err); /* the default one */
    EXPECT_OK(f.ops->stream_wait(f.backend, NULL, &err), &err);
    EXPECT_EQ(n, 1);
    tear_down(&f);
}
