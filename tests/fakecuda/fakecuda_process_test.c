/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fake driver across processes. An exported descriptor outlives the process that made it: a
 * third imports it after the creator was killed. A legacy handle does not. And forked children.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fakecuda/attach.h"
#include "tests/support/ct.h"

#define GRANULE ((size_t)2 << 20)
#define FIRST   0x31 /* what the creator writes */
#define SECOND  0x32 /* what the second process writes */

/* --- A descriptor through a socket -------------------------------------------------------------
 */

static void send_fd(int socket_fd, int fd)
{
    char byte = 'f';
    struct iovec data = {&byte, 1};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof(control.room)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    CT_REQUIRE(sendmsg(socket_fd, &message, MSG_NOSIGNAL) == 1);
}

static int receive_fd(int socket_fd)
{
    char byte = 0;
    struct iovec data = {&byte, 1};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof(control.room)};
    CT_REQUIRE(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) == 1);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    CT_REQUIRE(header != NULL && header->cmsg_type == SCM_RIGHTS);
    int fd = -1;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* Import fd and map it with this access. */
static char *map_import(int fd, pinti_cu_access access)
{
    pinti_cu_mem mem = 0;
    pinti_cu_ptr ptr = 0;
    const pinti_cu_access_desc desc = {.location = {PINTI_CU_LOCATION_DEVICE, 0}, .flags = access};
    CT_REQUIRE(pinti_cuda.mem_import(&mem, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD) ==
               0);
    CT_REQUIRE(pinti_cuda.mem_address_reserve(&ptr, GRANULE, 0, 0, 0) == 0);
    CT_REQUIRE(pinti_cuda.mem_map(ptr, GRANULE, 0, mem, 0) == 0);
    CT_REQUIRE(pinti_cuda.mem_release(mem) == 0);
    CT_REQUIRE(pinti_cuda.mem_set_access(ptr, GRANULE, &desc, 1) == 0);
    return (char *)(uintptr_t)ptr;
}

/* Makes memory without a context, sends its descriptor, waits to be killed. argv[1]: socket. */
PROC(vmm_creator)
{
    fake_begin(NULL);
    const pinti_cu_mem_prop prop = {.type = PINTI_CU_MEM_TYPE_PINNED,
                                    .handle_types = PINTI_CU_HANDLE_TYPE_POSIX_FD,
                                    .location = {PINTI_CU_LOCATION_DEVICE, 0}};
    pinti_cu_mem mem = 0;
    int fd = -1;
    CT_REQUIRE(pinti_cuda.mem_create(&mem, GRANULE, &prop, 0) == 0);
    CT_REQUIRE(pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0) == 0);
    *map_import(fd, PINTI_CU_ACCESS_READWRITE) = FIRST;
    send_fd((int)strtol(argv[1], NULL, 10), fd);
    ct_ready();
    (void)ct_wait_go();
    return 1; /* nobody says go */
}

/* Maps while the creator lives, writes after its death, passes the descriptor on and ends. */
PROC(vmm_second)
{
    fake_begin(NULL);
    const int socket_fd = (int)strtol(argv[1], NULL, 10);
    const int fd = receive_fd(socket_fd);
    char *at = map_import(fd, PINTI_CU_ACCESS_READWRITE);
    CT_REQUIRE(at[0] == FIRST);
    ct_ready();
    CT_REQUIRE(ct_wait_go()); /* the creator is dead now */
    CT_REQUIRE(at[0] == FIRST);
    at[1] = SECOND;
    send_fd(socket_fd, fd);
    fake_end();
    CT_REQUIRE(close(fd) == 0);
    return 0;
}

/* Imports when the creator and the second have ended, read-only, by a copy and by address. */
PROC(vmm_third)
{
    pinti_cu_context context = fake_begin_context(NULL);
    CT_REQUIRE(context != NULL);
    const int fd = receive_fd((int)strtol(argv[1], NULL, 10));
    char *at = map_import(fd, PINTI_CU_ACCESS_READ);
    CT_REQUIRE(close(fd) == 0);
    CT_REQUIRE(at[0] == FIRST && at[1] == SECOND);
    char *host = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CT_REQUIRE(host != MAP_FAILED);
    CT_REQUIRE(pinti_cuda.mem_host_register(host, 4096, 0) == 0);
    CT_REQUIRE(pinti_cuda.memcpy_dtoh_async(host, (uintptr_t)at, 2, NULL) == 0);
    CT_REQUIRE(pinti_cuda.stream_synchronize(NULL) == 0);
    CT_REQUIRE(host[0] == FIRST && host[1] == SECOND);
    CT_REQUIRE(pinti_cuda.memset_d8_async((uintptr_t)at, 0, 1, NULL) == 0);
    CT_REQUIRE(pinti_cuda.stream_synchronize(NULL) == PINTI_CU_ILLEGAL_ADDRESS);
    CT_REQUIRE(at[0] == FIRST);
    fake_end();
    CT_REQUIRE(munmap(host, 4096) == 0);
    return 0;
}

static pid_t spawn_with_socket(const char *name, int fd)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%d", fd);
    const char *const args[] = {number, NULL};
    return ct_spawn_opts(name, args, .inherit_fds = &fd, .n_inherit_fds = 1);
}

TEST(FakeProcesses, AThirdImportsMemoryWhoseCreatorWasKilled)
{
    /* The first sends from one end to the second, which sends back to that end for the third. */
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const pid_t creator = spawn_with_socket("vmm_creator", ends[0]);
    const pid_t second = spawn_with_socket("vmm_second", ends[1]);
    ASSERT_TRUE(ct_wait_ready(creator));
    ASSERT_TRUE(ct_wait_ready(second));
    ASSERT_EQ(kill(creator, SIGKILL), 0);
    ASSERT_EQ(ct_wait(creator), 128 + SIGKILL);
    ASSERT_TRUE(ct_go(second));
    ASSERT_EQ(ct_wait(second), 0);
    const pid_t third = spawn_with_socket("vmm_third", ends[0]);
    EXPECT_EQ(ct_wait(third), 0);
    EXPECT_EQ(close(ends[0]), 0);
    EXPECT_EQ(close(ends[1]), 0);
}

/* --- Legacy handles --------------------------------------------------------------------------- */

static void read_handle(int fd, pinti_cu_ipc_handle *out)
{
    CT_REQUIRE(read(fd, out, sizeof(*out)) == (ssize_t)sizeof(*out));
}

/* Writes a handle into argv[1], waits; frees the memory if argv[2] says so, waits to be killed. */
PROC(ipc_owner)
{
    (void)fake_begin_context(NULL);
    pinti_cu_ptr ptr = 0;
    pinti_cu_ptr own = 0;
    pinti_cu_ipc_handle handle;
    CT_REQUIRE(pinti_cuda.mem_alloc(&ptr, GRANULE) == 0);
    CT_REQUIRE(pinti_cuda.ipc_get_mem_handle(&handle, ptr + 1) == PINTI_CU_INVALID_VALUE);
    CT_REQUIRE(pinti_cuda.ipc_get_mem_handle(&handle, ptr) == 0);
    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&own, handle, 1) == PINTI_CU_INVALID_CONTEXT);
    *(char *)(uintptr_t)ptr = FIRST;
    CT_REQUIRE(write((int)strtol(argv[1], NULL, 10), &handle, sizeof(handle)) ==
               (ssize_t)sizeof(handle));
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    if (strcmp(argv[2], "free") == 0) {
        CT_REQUIRE(pinti_cuda.mem_free(ptr) == 0);
        /* In its place, and under the same number of a descriptor: still another allocation. */
        pinti_cu_ipc_handle other;
        CT_REQUIRE(pinti_cuda.mem_alloc(&ptr, GRANULE) == 0);
        CT_REQUIRE(pinti_cuda.ipc_get_mem_handle(&other, ptr) == 0);
        CT_REQUIRE(memcmp(&other, &handle, sizeof(handle)) != 0);
    }
    ct_ready();
    (void)ct_wait_go();
    return 1;
}

PROC(ipc_importer)
{
    (void)fake_begin_context(NULL);
    pinti_cu_ipc_handle handle;
    read_handle((int)strtol(argv[1], NULL, 10), &handle);
    pinti_cu_ptr ptr = 0;
    pinti_cu_ptr again = 0;
    char *host = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CT_REQUIRE(host != MAP_FAILED && pinti_cuda.mem_host_register(host, 4096, 0) == 0);

    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&ptr, handle, 0) == PINTI_CU_INVALID_VALUE);
    pinti_cu_ipc_handle flipped = handle;
    flipped.bytes[0] ^= 1;
    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&ptr, flipped, 1) == PINTI_CU_INVALID_HANDLE);
    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&ptr, handle, 1) == 0);
    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&again, handle, 1) == 0 && again == ptr);
    CT_REQUIRE(*(char *)(uintptr_t)ptr == FIRST);
    CT_REQUIRE(pinti_cuda.mem_free(ptr) == PINTI_CU_INVALID_VALUE); /* not ours to free */
    CT_REQUIRE(pinti_cuda.ipc_get_mem_handle(&flipped, ptr) == PINTI_CU_INVALID_VALUE);
    CT_REQUIRE(pinti_cuda.ipc_close_mem_handle(ptr + 1) == PINTI_CU_INVALID_VALUE);
    CT_REQUIRE(pinti_cuda.ipc_close_mem_handle(ptr) == 0);
    CT_REQUIRE(pinti_cuda.memcpy_dtoh_async(host, ptr, 1, NULL) == 0);
    CT_REQUIRE(pinti_cuda.stream_synchronize(NULL) == 0 && host[0] == FIRST);
    ct_ready();
    CT_REQUIRE(ct_wait_go()); /* the memory is gone now */

    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&again, handle, 1) == PINTI_CU_INVALID_HANDLE);
    CT_REQUIRE(strcmp(argv[2], "kill") == 0 || *(unsigned char *)(uintptr_t)ptr == 0xdb);
    CT_REQUIRE(pinti_cuda.memcpy_dtoh_async(host, ptr, 1, NULL) == 0);
    CT_REQUIRE(pinti_cuda.stream_synchronize(NULL) == PINTI_CU_ILLEGAL_ADDRESS);

    (void)fake_begin_context(NULL);
    CT_REQUIRE(pinti_cuda.ipc_open_mem_handle(&again, handle, 1) == PINTI_CU_INVALID_HANDLE);
    fake_end();
    CT_REQUIRE(munmap(host, 4096) == 0);
    return 0;
}

static void handle_dies_by(const char *how)
{
    int handles[2];
    ASSERT_EQ(pipe2(handles, O_CLOEXEC), 0);
    char in[16];
    char out[16];
    (void)snprintf(in, sizeof(in), "%d", handles[0]);
    (void)snprintf(out, sizeof(out), "%d", handles[1]);
    const char *const owner_args[] = {out, how, NULL};
    const char *const importer_args[] = {in, how, NULL};
    const pid_t owner =
        ct_spawn_opts("ipc_owner", owner_args, .inherit_fds = &handles[1], .n_inherit_fds = 1);
    ASSERT_TRUE(ct_wait_ready(owner));
    const pid_t importer = ct_spawn_opts("ipc_importer", importer_args, .inherit_fds = &handles[0],
                                         .n_inherit_fds = 1);
    ASSERT_TRUE(ct_wait_ready(importer));
    ASSERT_TRUE(ct_go(owner));
    ASSERT_TRUE(ct_wait_ready(owner)); /* it has freed, or has not */
    if (strcmp(how, "kill") == 0) {
        ASSERT_EQ(kill(owner, SIGKILL), 0);
        ASSERT_EQ(ct_wait(owner), 128 + SIGKILL);
    }
    ASSERT_TRUE(ct_go(importer));
    EXPECT_EQ(ct_wait(importer), 0);
    if (strcmp(how, "free") == 0) {
        ASSERT_EQ(kill(owner, SIGKILL), 0);
        ASSERT_EQ(ct_wait(owner), 128 + SIGKILL);
    }
    EXPECT_EQ(close(handles[0]), 0);
    EXPECT_EQ(close(handles[1]), 0);
}

TEST(FakeProcesses, ALegacyHandleDiesWithItsOwner)
{
    handle_dies_by("kill");
}

TEST(FakeProcesses, ALegacyHandleDiesWhenItsOwnerFreesTheMemory)
{
    handle_dies_by("free");
}

/* --- fork() ----------------------------------------------------------------------------------- */

/* The number of entry points that do not give 3; those that only translate do not count. */
static int calls_that_work(void)
{
    int n = 0;
    int number = 0;
    size_t bytes = 0;
    pinti_cu_ptr ptr = 0;
    pinti_cu_context context = NULL;
    pinti_cu_stream stream = NULL;
    n += pinti_cuda.init(0) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.driver_get_version(&number) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.device_get_count(&number) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.primary_ctx_retain(&context, 0) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.ctx_pop_current(&context) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.mem_get_info(&bytes, &bytes) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.mem_alloc(&ptr, 1) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.mem_address_reserve(&ptr, GRANULE, 0, 0, 0) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.mem_host_unregister(&n) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.stream_create(&stream, 0) != PINTI_CU_NOT_INITIALIZED;
    n += pinti_cuda.stream_synchronize(NULL) != PINTI_CU_NOT_INITIALIZED;
    return n;
}

TEST(FakeFork, EveryCallOfAForkedChildIsRefused)
{
    (void)fake_begin_context(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        _exit(calls_that_work());
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
    int n = 0;
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 0);
    fake_end();
}

TEST(FakeInit, ComesBeforeAllElse)
{
    fake_begin(NULL);
    fake.reset();
    int n = 0;
    EXPECT_EQ(pinti_cuda.driver_get_version(&n), 0);
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 3);
    EXPECT_EQ(pinti_cuda.init(1), 1);
    EXPECT_EQ(pinti_cuda.init(0), 0);
    EXPECT_EQ(pinti_cuda.init(0), 0);
    EXPECT_EQ(pinti_cuda.device_get_count(&n), 0);
    fake_end();
}
