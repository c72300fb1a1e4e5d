/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The broker on the fake driver: messages, as the service's own side writes and reads them; the
 * program; and what importers in other processes see when it is killed.
 */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device/cuda_broker.h"
#include "ipc/service/broker.h"
#include "ipc/wire.h"
#include "tests/device/cuda_gpu.h"
#include "tests/support/ct.h"

#define PROGRAM PINT_BIN_DIR "/pintable-broker"
#define OPS     (&pinti_cuda_backend)
#define UUID_0  "66616b65637564612d64657669636500"
#define UUID_1  "66616b65637564612d64657669636501"
#define NOBODY  "00000000000000000000000000000000"

#define FIRST  0x31
#define SECOND 0x32

/* ---- messages -------------------------------------------------------------------------------- */

TEST(CudaBrokerMessage, WhatTheServiceAsks)
{
    char text[128];
    pinti_broker_order order;
    pint_error err;
    size_t bytes = pinti_broker_ask(text, sizeof(text), 4096, PINT_COPY_IPC, 77);
    ASSERT_OK(pinti_broker_order_parse(text, bytes, &order, &err), &err);
    EXPECT_FALSE(order.is_free);
    EXPECT_EQ(order.bytes, 4096u);
    EXPECT_EQ(order.kind, PINT_COPY_IPC);
    EXPECT_EQ(order.id, 77u);
    bytes = (size_t)snprintf(text, sizeof(text), "{\"free\":9}");
    ASSERT_OK(pinti_broker_order_parse(text, bytes, &order, &err), &err);
    EXPECT_TRUE(order.is_free);
    EXPECT_EQ(order.id, 9u);
}

TEST(CudaBrokerMessage, NothingElse)
{
    static const char *const wrong[] = {
        "",
        "{}",
        "[]",
        "7",
        "{\"allocate\":1}",
        "{\"allocate\":1,\"kind\":1}",
        "{\"allocate\":0,\"kind\":1,\"id\":1}",
        "{\"allocate\":1,\"kind\":0,\"id\":1}",
        "{\"allocate\":1,\"kind\":3,\"id\":1}",
        "{\"allocate\":-1,\"kind\":1,\"id\":1}",
        "{\"allocate\":1.5,\"kind\":1,\"id\":1}",
        "{\"allocate\":1,\"kind\":1,\"id\":1,\"more\":1}",
        "{\"allocate\":1,\"kind\":1,\"id\":1}x",
        "{\"free\":1,\"id\":1}",
        "{\"free\":true}",
    };
    pinti_broker_order order;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        pint_error err = {.status = PINT_OK};
        EXPECT_STATUS(PINT_E_PROTOCOL,
                      pinti_broker_order_parse(wrong[i], strlen(wrong[i]), &order, &err), &err);
    }
}

TEST(CudaBrokerMessage, HandlesAsTheServiceReadsThem)
{
    uint8_t handle[64];
    uint8_t back[64];
    char text[89];
    for (unsigned int seed = 0; seed < 256; seed++) {
        for (unsigned int i = 0; i < 64; i++) {
            handle[i] = (uint8_t)(seed + i * 37u + (i * seed >> 3));
        }
        pinti_base64_of_handle(handle, text);
        ASSERT_TRUE(pinti_base64_decode(text, back));
        EXPECT_MEMEQ(handle, back, 64);
    }
    memset(handle, 0, sizeof(handle));
    memcpy(handle, "Man", 3);
    pinti_base64_of_handle(handle, text);
    EXPECT_EQ(strncmp(text, "TWFuAAAA", 8), 0);
}

/* ---- in this process ------------------------------------------------------------------------- */

typedef struct answer {
    pinti_broker_reply reply;
    int fd; /* -1: none */
} answer;

static void send_text(int socket_fd, const char *text)
{
    ASSERT_EQ(pinti_wire_send(socket_fd, text, strlen(text), NULL, 0, false), 0);
}

static void ask(int socket_fd, uint64_t bytes, uint32_t kind, uint64_t id)
{
    char text[128];
    (void)pinti_broker_ask(text, sizeof(text), bytes, kind, id);
    send_text(socket_fd, text);
}

/* False: there is none, the socket has ended. */
static bool read_answer(int socket_fd, answer *out)
{
    static char text[PINTI_WIRE_BYTES_MAX + 1];
    size_t bytes = 0;
    unsigned int n_fds = 0;
    out->fd = -1;
    const int rc = pinti_wire_recv(socket_fd, text, &bytes, &out->fd, 1, &n_fds, false);
    if (rc != 0) {
        return false;
    }
    EXPECT_EQ(pinti_broker_parse(text, bytes, &out->reply), PINT_OK);
    out->fd = n_fds == 1 ? out->fd : -1;
    return true;
}

/* All that was sent on pair[0] is served to its end; the answers lie in the socket. */
static pint_status serve(int pair[2], const char *device, pint_error *err)
{
    pinti_cuda_broker *broker = NULL;
    EXPECT_EQ(shutdown(pair[0], SHUT_WR), 0);
    pint_status status = pinti_cuda_broker_open(device, &broker, err);
    if (status == PINT_OK) {
        status = pinti_cuda_broker_serve(broker, pair[1], err);
    }
    pinti_cuda_broker_close(broker);
    EXPECT_EQ(close(pair[1]), 0);
    return status;
}

TEST(CudaBroker, DescriptorsNeedNoContext)
{
    int pair[2];
    answer a;
    pint_error err;
    fake_begin(NULL);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ask(pair[0], GRANULE + 1, PINT_COPY_VMM, 5);
    ASSERT_OK(serve(pair, UUID_0, &err), &err);
    ASSERT_TRUE(read_answer(pair[0], &a));
    EXPECT_EQ(a.reply.id, 5u);
    EXPECT_EQ((int)a.reply.status, (int)PINT_OK);
    EXPECT_FALSE(a.reply.has_ipc);
    EXPECT_EQ(lseek(a.fd, 0, SEEK_END), (off_t)(2 * GRANULE)); /* the fake's memory is a memfd */
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRetain"), 0u);
    EXPECT_EQ(fake.calls("cuMemMap"), 0u);
    EXPECT_EQ(fake.calls("cuMemCreate"), fake.calls("cuMemRelease"));
    EXPECT_EQ(close(a.fd), 0);
    EXPECT_EQ(close(pair[0]), 0);
    fake_end();
}

TEST(CudaBroker, HandlesAreAskedForTwiceAndFreedTwice)
{
    int pair[2];
    answer a;
    answer b;
    pint_error err;
    fake_begin(NULL);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    ask(pair[0], 100, PINT_COPY_IPC, 5);
    ask(pair[0], 100, PINT_COPY_IPC, 5);
    ask(pair[0], GRANULE + 1, PINT_COPY_IPC, 5); /* not the same */
    ask(pair[0], 100, PINT_COPY_IPC, 6);
    send_text(pair[0], "{\"free\":5}");
    ask(pair[0], 100, PINT_COPY_IPC, 5); /* it is still there */
    send_text(pair[0], "{\"free\":99}");
    ASSERT_OK(serve(pair, UUID_0, &err), &err);
    ASSERT_TRUE(read_answer(pair[0], &a) && read_answer(pair[0], &b));
    EXPECT_TRUE(a.reply.has_ipc && b.reply.has_ipc && a.fd == -1 && b.fd == -1);
    EXPECT_MEMEQ(a.reply.ipc, b.reply.ipc, 64);
    ASSERT_TRUE(read_answer(pair[0], &a));
    EXPECT_EQ((int)a.reply.status, (int)PINT_E_DEVICE);
    ASSERT_TRUE(read_answer(pair[0], &a));
    EXPECT_EQ(a.reply.id, 6u);
    ASSERT_TRUE(read_answer(pair[0], &a));
    EXPECT_MEMEQ(a.reply.ipc, b.reply.ipc, 64);
    EXPECT_FALSE(read_answer(pair[0], &a));
    EXPECT_EQ(fake.calls("cuMemAlloc"), 2u);
    EXPECT_EQ(fake.calls("cuMemFree"), 2u); /* both at the end */
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRetain"), 1u);
    EXPECT_EQ(fake.calls("cuDevicePrimaryCtxRelease"), 1u);
    EXPECT_EQ(close(pair[0]), 0);
    fake_end();
}

static void expect_failure(const char *setting, uint64_t bytes, uint32_t kind, pint_status status,
                           const char *in_text)
{
    int pair[2];
    answer a;
    pint_error err;
    fake_begin((const char *const[]){setting, NULL});
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    /* what says nothing about the request says that this process of the driver is past help */
    const bool is_last = status == PINT_E_DEVICE_LOST || status == PINT_E_DEVICE;
    ask(pair[0], bytes, kind, 1);
    ask(pair[0], 1, kind, 2); /* the next one is served, unless nothing is any more */
    const pint_status served = serve(pair, UUID_0, &err);
    ASSERT_TRUE(read_answer(pair[0], &a));
    EXPECT_EQ(a.reply.id, 1u);
    EXPECT_EQ(a.fd, -1);
    EXPECT_EQ((int)a.reply.status, (int)status);
    EXPECT_NE(strstr(a.reply.text, in_text), NULL);
    EXPECT_EQ(a.reply.is_last, is_last);
    if (is_last) {
        EXPECT_EQ((int)served, (int)status);
        ASSERT_TRUE(read_answer(pair[0], &a));
        EXPECT_EQ((int)a.reply.status, (int)status);
        EXPECT_EQ(a.reply.id, 2u);
        EXPECT_FALSE(read_answer(pair[0], &a));
    } else {
        EXPECT_EQ((int)served, (int)PINT_OK);
        ASSERT_TRUE(read_answer(pair[0], &a));
        EXPECT_EQ(a.reply.id, 2u);
        EXPECT_EQ((int)a.reply.status, (int)PINT_OK);
        if (a.fd >= 0) {
            EXPECT_EQ(close(a.fd), 0);
        }
    }
    EXPECT_EQ(close(pair[0]), 0);
    EXPECT_EQ(gpu_used_bytes(), 0u);
    fake_end();
}

TEST(CudaBroker, EveryFailureIsAnsweredAndUndone)
{
    expect_failure("FAKECUDA_MEMORY_MIB=8", 16ull << 20, PINT_COPY_VMM, PINT_E_DEVICE_MEMORY,
                   "CUDA_ERROR_OUT_OF_MEMORY");
    expect_failure("FAKECUDA_MEMORY_MIB=8", 16ull << 20, PINT_COPY_IPC, PINT_E_DEVICE_MEMORY,
                   "CUDA_ERROR_OUT_OF_MEMORY");
    expect_failure("FAKECUDA_SEED=1", UINT64_MAX >> 11, PINT_COPY_VMM, PINT_E_DEVICE_MEMORY,
                   "cuMemCreate");
    expect_failure("FAKECUDA_FAIL=cuMemExportToShareableHandle:1:801", 1, PINT_COPY_VMM,
                   PINT_E_UNSUPPORTED, "cuMemExportToShareableHandle");
    expect_failure("FAKECUDA_FAIL=cuMemCreate:1:214", 1, PINT_COPY_VMM, PINT_E_DEVICE_LOST,
                   "cuMemCreate");
    expect_failure("FAKECUDA_FAIL=cuDevicePrimaryCtxRetain:1:999", 1, PINT_COPY_IPC, PINT_E_DEVICE,
                   "cuDevicePrimaryCtxRetain");
    expect_failure("FAKECUDA_FAIL=cuCtxPushCurrent:1:999", 1, PINT_COPY_IPC, PINT_E_DEVICE,
                   "cuCtxPushCurrent");
    expect_failure("FAKECUDA_FAIL=cuMemAlloc:1:2", 1, PINT_COPY_IPC, PINT_E_DEVICE_MEMORY,
                   "cuMemAlloc");
    expect_failure("FAKECUDA_FAIL=cuIpcGetMemHandle:1:801", 1, PINT_COPY_IPC, PINT_E_UNSUPPORTED,
                   "cuIpcGetMemHandle");
}

/* Memory shared by handles goes with the process: that is worth more than a failure that may pass.
 */
TEST(CudaBroker, AFailureOfUnknownKindDoesNotEndItWhileItHasMemory)
{
    int pair[2];
    answer a;
    pint_error err;
    fake_begin((const char *const[]){"FAKECUDA_FAIL=cuMemAlloc:2:999,cuMemAlloc:4:46", NULL});
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    for (uint64_t id = 1; id <= 5; id++) {
        ask(pair[0], 1, PINT_COPY_IPC, id);
    }
    EXPECT_STATUS(PINT_E_NO_DEVICE, serve(pair, UUID_0, &err), &err);
    static const pint_status statuses[] = {PINT_OK, PINT_E_DEVICE, PINT_OK, PINT_E_NO_DEVICE,
                                           PINT_E_NO_DEVICE};
    for (size_t i = 0; i < 5; i++) {
        ASSERT_TRUE(read_answer(pair[0], &a));
        EXPECT_EQ((int)a.reply.status, (int)statuses[i]);
        EXPECT_EQ(a.reply.is_last, i >= 3);
    }
    EXPECT_FALSE(read_answer(pair[0], &a));
    EXPECT_EQ(close(pair[0]), 0);
    fake_end();
}

TEST(CudaBroker, AMessageThatIsNoneEndsIt)
{
    int pair[2];
    answer a;
    pint_error err;
    fake_begin(NULL);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    send_text(pair[0], "{\"allocate\":1}");
    ask(pair[0], 1, PINT_COPY_VMM, 2);
    EXPECT_STATUS(PINT_E_PROTOCOL, serve(pair, UUID_0, &err), &err);
    EXPECT_FALSE(read_answer(pair[0], &a));
    EXPECT_EQ(close(pair[0]), 0);
    fake_end();
}

/* ---- the program ----------------------------------------------------------------------------- */

/* Start it as the service does: the socket is descriptor 3. settings are of its environment. */
static pid_t start_program(const char *uuid, const char *library, const char *const *settings,
                           int *out_socket)
{
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        char name[64];
        (void)setenv("PINTABLE_LIBCUDA", library, 1);
        for (size_t i = 0; settings != NULL && settings[i] != NULL; i++) {
            const size_t n = strcspn(settings[i], "=");
            (void)snprintf(name, sizeof(name), "%.*s", (int)n, settings[i]);
            (void)setenv(name, settings[i] + n + 1, 1);
        }
        const int high = fcntl(pair[1], F_DUPFD_CLOEXEC, 10);
        if (high < 0 || dup2(high, 3) != 3) {
            _exit(126);
        }
        (void)execl(PROGRAM, "pintable-broker", uuid, (char *)NULL);
        _exit(127);
    }
    EXPECT_GT(pid, 0);
    EXPECT_EQ(close(pair[1]), 0);
    *out_socket = pair[0];
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void kill_program(pid_t pid)
{
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_EQ(wait_for(pid), 128 + SIGKILL);
}

static int n_descriptors(pid_t pid)
{
    char path[64];
    int n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return -1;
    }
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        n += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return n;
}

TEST(CudaBrokerProgram, EndsWithItsSocketAndKeepsNoDescriptor)
{
    int socket_fd = -1;
    answer a;
    const pid_t pid = start_program(UUID_0, FAKECUDA_PATH, NULL, &socket_fd);
    ask(socket_fd, 1, PINT_COPY_VMM, 1);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    EXPECT_EQ((int)a.reply.status, (int)PINT_OK);
    EXPECT_GE(a.fd, 0);
    EXPECT_EQ(close(a.fd), 0);
    const int n_after_one = n_descriptors(pid);
    ask(socket_fd, 1, PINT_COPY_VMM, 2);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    EXPECT_EQ(close(a.fd), 0);
    /* it may still be closing its own when its answer is here */
    EXPECT_TRUE(ct_eventually(n_descriptors(pid) <= n_after_one, 10000));
    EXPECT_EQ(close(socket_fd), 0);
    EXPECT_EQ(wait_for(pid), 0);
}

/* The service may have been started by a client that sees another GPU. */
TEST(CudaBrokerProgram, SeesItsGpuWhateverTheServiceSees)
{
    static const char *const settings[] = {"FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=0", NULL};
    int socket_fd = -1;
    answer a;
    const pid_t pid = start_program(UUID_1, FAKECUDA_PATH, settings, &socket_fd);
    ask(socket_fd, 1, PINT_COPY_VMM, 1);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    EXPECT_EQ((int)a.reply.status, (int)PINT_OK);
    EXPECT_EQ(close(a.fd), 0);
    EXPECT_EQ(close(socket_fd), 0);
    EXPECT_EQ(wait_for(pid), 0);
}

static void expect_refused(const char *uuid, const char *library, const char *const *settings,
                           pint_status status)
{
    int socket_fd = -1;
    answer a;
    const pid_t pid = start_program(uuid, library, settings, &socket_fd);
    send_text(socket_fd, "{\"free\":3}");
    ask(socket_fd, 1, PINT_COPY_VMM, 8);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    EXPECT_EQ(a.reply.id, 8u);
    EXPECT_EQ((int)a.reply.status, (int)status);
    EXPECT_NE(a.reply.text[0], '\0');
    EXPECT_TRUE(a.reply.is_last);
    send_text(socket_fd, "{\"free\":3}");
    ask(socket_fd, 1, PINT_COPY_VMM, 9); /* by a service that has not read it yet */
    ASSERT_TRUE(read_answer(socket_fd, &a));
    EXPECT_EQ(a.reply.id, 9u);
    EXPECT_EQ((int)a.reply.status, (int)status);
    EXPECT_EQ(shutdown(socket_fd, SHUT_WR), 0);
    EXPECT_FALSE(read_answer(socket_fd, &a));
    EXPECT_EQ(wait_for(pid), 1);
    EXPECT_EQ(close(socket_fd), 0);
}

TEST(CudaBrokerProgram, WithoutItsGpuItAnswersWhyAndEnds)
{
    static const char *const failing[] = {"FAKECUDA_FAIL=cuInit:1:999", NULL};
    expect_refused(NOBODY, FAKECUDA_PATH, NULL, PINT_E_NO_DEVICE);
    expect_refused(UUID_0, "/nowhere/libcuda.so.1", NULL, PINT_E_NO_DEVICE);
    expect_refused(UUID_0, FAKECUDA_OLD_PATH, NULL, PINT_E_NO_DEVICE);
    expect_refused(UUID_0, FAKECUDA_PATH, failing, PINT_E_DEVICE);
}

TEST(CudaBrokerProgram, StartedByHandItSaysWhatItIs)
{
    int out[2];
    char text[256];
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    static const char *const arguments[] = {PROGRAM, UUID_0, NULL};
    const pid_t pid = ct_spawn_program(arguments, &(ct_spawn_opts){.output_fd = out[1]});
    EXPECT_EQ(close(out[1]), 0);
    (void)ct_read_all(out[0], text, sizeof(text));
    EXPECT_NE(strstr(text, "pintabled"), NULL);
    EXPECT_EQ(ct_wait(pid), 2);
    EXPECT_EQ(close(out[0]), 0);
}

/* ---- across processes ------------------------------------------------------------------------ */

static pint_status gpu_copy(pinti_backend *backend, bool to_device, uint64_t device, char *host,
                            pint_error *err)
{
    const pinti_piece piece = {device, host, 4096};
    pint_status status = OPS->copy(backend, to_device, &piece, 1, NULL, err);
    return status == PINT_OK ? OPS->stream_wait(backend, NULL, err) : status;
}

/* Imports the descriptor argv[1] when the broker is dead: finds FIRST, leaves SECOND. */
PROC(late_importer)
{
    pinti_backend *backend = gpu_open(NULL);
    uint64_t device = 0;
    pint_error err;
    const int fd = (int)strtol(argv[1], NULL, 10);
    char *host = gpu_host_memory(4096, true);
    CT_REQUIRE(OPS->import(backend, PINT_COPY_VMM, fd, NULL, 4096, true, &device, &err) == PINT_OK);
    CT_REQUIRE(OPS->pin(backend, host, 4096, false, &err) == PINT_OK);
    CT_REQUIRE(gpu_copy(backend, false, device, host, &err) == PINT_OK);
    CT_REQUIRE(host[4095] == FIRST);
    memset(host, SECOND, 4096);
    CT_REQUIRE(gpu_copy(backend, true, device, host, &err) == PINT_OK);
    OPS->release(backend, PINT_COPY_VMM, device, 4096);
    CT_REQUIRE(OPS->unpin(backend, host, 4096, &err) == PINT_OK);
    OPS->close(backend);
    return 0;
}

TEST(CudaBrokerDeath, MemoryBehindADescriptorLivesOn)
{
    int socket_fd = -1;
    answer a;
    uint64_t device = 0;
    pint_error err;
    char number[16];
    const pid_t pid = start_program(UUID_0, FAKECUDA_PATH, NULL, &socket_fd);
    ask(socket_fd, 4096, PINT_COPY_VMM, 1);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    pinti_backend *backend = gpu_open(NULL);
    char *host = gpu_host_memory(4096, true);
    ASSERT_OK(OPS->pin(backend, host, 4096, false, &err), &err);
    ASSERT_OK(OPS->import(backend, PINT_COPY_VMM, a.fd, NULL, 4096, false, &device, &err), &err);
    uint64_t writable = 0;
    ASSERT_OK(OPS->import(backend, PINT_COPY_VMM, a.fd, NULL, 4096, true, &writable, &err), &err);
    memset(host, FIRST, 4096);
    ASSERT_OK(gpu_copy(backend, true, writable, host, &err), &err);
    kill_program(pid);
    memset(host, 0, 4096);
    ASSERT_OK(gpu_copy(backend, false, device, host, &err), &err);
    EXPECT_EQ(host[0], FIRST);
    (void)snprintf(number, sizeof(number), "%d", a.fd);
    const pid_t late = ct_spawn_opts("late_importer", ((const char *const[]){number, NULL}),
                                     .inherit_fds = &a.fd, .n_inherit_fds = 1);
    EXPECT_EQ(ct_wait(late), 0);
    ASSERT_OK(gpu_copy(backend, false, device, host, &err), &err);
    EXPECT_EQ(host[4095], SECOND);
    OPS->release(backend, PINT_COPY_VMM, writable, 4096);
    OPS->release(backend, PINT_COPY_VMM, device, 4096);
    EXPECT_OK(OPS->unpin(backend, host, 4096, &err), &err);
    OPS->close(backend);
    EXPECT_EQ(munmap(host, 4096), 0);
    EXPECT_EQ(close(a.fd), 0);
    EXPECT_EQ(close(socket_fd), 0);
    fake_end();
}

/* Opens the handle in the file argv[1], reads FIRST, waits for the broker's death: the memory is
 * gone, and the driver says so. */
PROC(handle_importer)
{
    pinti_backend *backend = gpu_open(NULL);
    uint64_t device = 0;
    uint64_t again = 0;
    uint8_t ipc[64];
    pint_error err;
    FILE *file = fopen(argv[1], "re");
    CT_REQUIRE(file != NULL && fread(ipc, sizeof(ipc), 1, file) == 1 && fclose(file) == 0);
    char *host = gpu_host_memory(4096, true);
    CT_REQUIRE(OPS->pin(backend, host, 4096, false, &err) == PINT_OK);
    CT_REQUIRE(OPS->import(backend, PINT_COPY_IPC, -1, ipc, 4096, true, &device, &err) == PINT_OK);
    CT_REQUIRE(OPS->import(backend, PINT_COPY_IPC, -1, ipc, 1, true, &again, &err) == PINT_OK);
    CT_REQUIRE(again == device);
    OPS->release(backend, PINT_COPY_IPC, again, 1);
    CT_REQUIRE(OPS->import(backend, PINT_COPY_IPC, -1, ipc, GRANULE + 1, true, &again, &err) ==
               PINT_E_PROTOCOL);
    CT_REQUIRE(gpu_copy(backend, false, device, host, &err) == PINT_OK);
    CT_REQUIRE(host[0] == FIRST || argc < 3);
    memset(host, FIRST, 4096);
    CT_REQUIRE(gpu_copy(backend, true, device, host, &err) == PINT_OK);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    CT_REQUIRE(OPS->import(backend, PINT_COPY_IPC, -1, ipc, 1, true, &again, &err) ==
               PINT_E_DEVICE);
    CT_REQUIRE(gpu_copy(backend, false, device, host, &err) == PINT_E_DEVICE_LOST);
    OPS->release(backend, PINT_COPY_IPC, device, 4096);
    OPS->close(backend);
    return 0;
}

static void expect_gone(bool by_death)
{
    int socket_fd = -1;
    answer a;
    char path[4096];
    const pid_t pid = start_program(UUID_0, FAKECUDA_PATH, NULL, &socket_fd);
    ask(socket_fd, 4096, PINT_COPY_IPC, 1);
    ASSERT_TRUE(read_answer(socket_fd, &a));
    ASSERT_TRUE(a.reply.has_ipc);
    (void)snprintf(path, sizeof(path), "%s/handle", ct_tmpdir());
    FILE *file = fopen(path, "we");
    ASSERT_TRUE(file != NULL && fwrite(a.reply.ipc, 64, 1, file) == 1 && fclose(file) == 0);
    const pid_t first = ct_spawn("handle_importer", (const char *const[]){path, NULL});
    ASSERT_TRUE(ct_wait_ready(first));
    const pid_t second = ct_spawn("handle_importer", (const char *const[]){path, "finds", NULL});
    ASSERT_TRUE(ct_wait_ready(second)); /* it found what the first had written */
    if (by_death) {
        kill_program(pid);
    } else {
        send_text(socket_fd, "{\"free\":1}");
        ask(socket_fd, 1, PINT_COPY_VMM, 2); /* in order: the first is done when this is answered */
        ASSERT_TRUE(read_answer(socket_fd, &a));
        EXPECT_EQ(close(a.fd), 0);
    }
    EXPECT_TRUE(ct_go(first));
    EXPECT_TRUE(ct_go(second));
    EXPECT_EQ(ct_wait(first), 0);
    EXPECT_EQ(ct_wait(second), 0);
    EXPECT_EQ(close(socket_fd), 0);
    if (!by_death) {
        EXPECT_EQ(wait_for(pid), 0);
    }
}

TEST(CudaBrokerDeath, MemoryBehindAHandleDies)
{
    expect_gone(true);
}

TEST(CudaBrokerDeath, AndWhenItIsFreed)
{
    expect_gone(false);
}
