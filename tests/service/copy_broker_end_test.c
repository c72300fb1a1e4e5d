/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a broker: at every step of its life, by a driver that fails, and one that does not
 * come, because the process sleeps where no signal reaches it. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/word.h"
#include "pintable/device.h"
#include "tests/service/copy_raw.h"
#include "tests/support/ct.h"

enum { ROWS = 4096, TABLES = 3 };

static raw_service service;
static copy_client a;
static copy_client b;
static uint32_t table[TABLES];
static uint32_t generation[TABLES];
static int gpu;

/* broker_ms: what it may take over an allocation; twice that over its first. */
static void start_with(const char *broker_ms, const char *disable)
{
    const char *args[] = {"--test-broker-ms", broker_ms, "--restarts-max", "60", NULL};
    const char *const *fake = fake_broker_env();
    const char *env[] = {fake[0], fake[1], disable, NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "b", args, env));
    ASSERT_TRUE(copy_join(&a, service.address));
    ASSERT_TRUE(copy_join(&b, service.address));
    for (int i = 0; i < TABLES; i++) {
        const char name[2] = {(char)('t' + i), '\0'};
        ASSERT_TRUE(copy_table(&a, name, ROWS, &table[i], &generation[i]));
    }
    gpu = copy_device(&a, COPY_CUDA, true);
    ASSERT_EQ(gpu, 0);
}

static void finish(void)
{
    EXPECT_TRUE(copy_leave(&a));
    EXPECT_TRUE(copy_leave(&b));
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "stop", "{\"force\":true}"), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(ct_eventually(access(service.address, F_OK) != 0, 10000));
    (void)ct_wait(service.pid);
}

static raw_copy without_fd(raw_copy copy)
{
    if (copy.fd >= 0) {
        EXPECT_EQ(close(copy.fd), 0);
    }
    return copy;
}

static raw_copy open_at(copy_client *client, int i, uint32_t kind)
{
    return without_fd(copy_open(client, table[i], generation[i], gpu, kind, true));
}

static void send_open(copy_client *client, int i, uint32_t kind)
{
    EXPECT_TRUE(copy_send_open(client, table[i], generation[i], gpu, kind, true));
}

static pid_t broker_pid(void)
{
    return (pid_t)copy_stat(service.address, gpu, "broker_pid");
}

static uint64_t n_ending(void)
{
    return copy_stat(service.address, gpu, "brokers_ending");
}

/* ---- killed at each step --------------------------------------------------------------------- */

/* Killed with a request in it: who asked hears of it, who asks next gets another broker. */
static void kill_at(const char *place, const char *mode, uint32_t kind)
{
    char line[64];
    const int n_started = fake_broker_count("start ");
    (void)snprintf(line, sizeof(line), "stopped %s", place);
    const int n_stopped = fake_broker_count(line);
    const int n_asked = fake_broker_count("allocate");
    fake_broker_mode(mode);
    if (strcmp(mode, "hang") != 0) {
        fake_broker_stop_at(place);
    }
    send_open(&a, 0, kind);
    EXPECT_TRUE(ct_eventually(strcmp(mode, "hang") == 0 ? fake_broker_count("allocate") > n_asked
                                                        : fake_broker_count(line) > n_stopped,
                              10000));
    EXPECT_EQ(kill(broker_pid(), SIGKILL), 0);
    EXPECT_EQ(copy_receive(&a).code, PINT_E_DEVICE);
    EXPECT_EQ(copy_named(&a, table[0], gpu), 0u);
    EXPECT_EQ(copy_stat(service.address, gpu, "bytes"), 0u);
    fake_broker_mode("ok");
    const raw_copy copy = open_at(&a, 0, kind);
    EXPECT_EQ(copy.code, 0);
    EXPECT_EQ(fake_broker_count("start "), n_started + 2);
    EXPECT_EQ(copy_drop(&a, &copy, false), 0);
    EXPECT_EQ(kill(broker_pid(), SIGKILL), 0); /* idle */
    EXPECT_TRUE(ct_eventually(broker_pid() == 0 && n_ending() == 0, 10000));
}

TEST(BrokerEnd, KilledAtEachStepOfMaking, .timeout_s = 60)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    for (uint32_t kind = PINT_COPY_VMM; kind <= PINT_COPY_IPC; kind++) {
        kill_at("start", "ok", kind);
        kill_at("asked", "hang", kind);
        kill_at("made", "ok", kind);
    }
    ASSERT_NO_FATAL(finish());
}

/* The answer was sent, and read after the death. Memory by descriptor is there, that of a handle
 * never can be. */
TEST(BrokerEnd, KilledBehindItsAnswer)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    fake_broker_mode("answer_die");
    const raw_copy vmm = open_at(&a, 0, PINT_COPY_VMM);
    EXPECT_EQ(vmm.code, 0);
    EXPECT_TRUE(ct_eventually(broker_pid() == 0, 10000));
    EXPECT_EQ(copy_state(&a, vmm.copy), PINTI_LIVE);
    const raw_copy ipc = open_at(&a, 1, PINT_COPY_IPC);
    EXPECT_EQ(ipc.code, 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, ipc.copy) == PINTI_FREE, 10000));
    EXPECT_EQ(copy_named(&a, table[1], gpu), 0u);
    ASSERT_NO_FATAL(finish());
}

/* Memory that was being freed is gone with it, and so is all other memory by handle. */
TEST(BrokerEnd, KilledWhileItFrees)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    const raw_copy freed = open_at(&a, 0, PINT_COPY_IPC);
    const raw_copy other = open_at(&a, 1, PINT_COPY_IPC);
    const raw_copy vmm = open_at(&a, 2, PINT_COPY_VMM);
    ASSERT_TRUE(freed.code == 0 && other.code == 0 && vmm.code == 0);
    fake_broker_stop_at("free");
    EXPECT_EQ(copy_drop(&a, &freed, false), 0);
    EXPECT_TRUE(ct_eventually(fake_broker_count("stopped free") == 1, 10000));
    EXPECT_EQ(kill(broker_pid(), SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, other.copy) == PINTI_FREE, 10000));
    EXPECT_EQ(copy_state(&a, vmm.copy), PINTI_LIVE);
    EXPECT_EQ(copy_stat(service.address, gpu, "copies"), 1u);
    EXPECT_EQ(open_at(&a, 0, PINT_COPY_IPC).code, 0);
    EXPECT_EQ(fake_broker_count("start "), 2);
    ASSERT_NO_FATAL(finish());
}

/* While it works it reads nothing, and its socket fills: that is no reason to end it. */
TEST(BrokerEnd, OneThatIsBusyHearsOfAllThatIsToBeFreed, .timeout_s = 60)
{
    enum { N = 1000 };
    static raw_copy copies[N];
    ASSERT_NO_FATAL(start_with("30000", NULL));
    for (uint32_t i = 0; i < N; i++) {
        char name[16];
        uint32_t index = 0;
        uint32_t of = 0;
        (void)snprintf(name, sizeof(name), "n%u", i);
        ASSERT_TRUE(copy_table(&a, name, 1, &index, &of));
        copies[i] = copy_open(&a, index, of, gpu, PINT_COPY_IPC, true);
        ASSERT_EQ(copies[i].code, 0);
    }
    const pid_t pid = broker_pid();
    EXPECT_EQ(kill(pid, SIGSTOP), 0);
    for (uint32_t i = 0; i < N; i++) {
        EXPECT_EQ(copy_drop(&a, &copies[i], false), 0);
    }
    send_open(&a, 0, PINT_COPY_IPC);
    EXPECT_EQ(copy_stat(service.address, gpu, "copies"), 1u); /* asked for, and others are served */
    EXPECT_EQ(broker_pid(), pid);
    EXPECT_EQ(kill(pid, SIGCONT), 0);
    EXPECT_EQ(copy_receive(&a).code, 0);
    EXPECT_EQ(fake_broker_count("free"), N);
    EXPECT_EQ(fake_broker_count("start "), 1);
    ASSERT_NO_FATAL(finish());
}

/* The answer to a service without descriptors is no reason to end who gave it. */
TEST(BrokerEnd, ADescriptorThatFindsNoRoomIsNotItsFault)
{
    enum { FDS = 96 };
    int clients[FDS];
    int n = 0;
    raw_stat now;
    struct rlimit before;
    ASSERT_NO_FATAL(start_with("30000", NULL));
    const raw_copy ipc = open_at(&a, 0, PINT_COPY_IPC);
    ASSERT_EQ(ipc.code, 0);
    const pid_t pid = broker_pid();
    fake_broker_stop_at("made");
    send_open(&a, 1, PINT_COPY_VMM);
    EXPECT_TRUE(ct_eventually(fake_broker_count("stopped made") == 1, 10000));
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    ASSERT_LT(now.fds, FDS);
    ASSERT_EQ(prlimit((pid_t)now.pid, RLIMIT_NOFILE, NULL, &before), 0);
    const struct rlimit few = {FDS, before.rlim_max};
    ASSERT_EQ(prlimit((pid_t)now.pid, RLIMIT_NOFILE, &few, NULL), 0);
    for (; n < FDS; n++) {
        clients[n] = raw_connect(service.address);
        if (raw_code(clients[n], "ping", "{}") != 0) {
            EXPECT_EQ(close(clients[n]), 0);
            break; /* turned away: that was the last */
        }
    }
    EXPECT_LT(n, FDS);
    EXPECT_EQ(kill(pid, SIGCONT), 0);
    EXPECT_EQ(copy_receive(&a).code, PINT_E_LIMIT);
    EXPECT_EQ(copy_state(&a, ipc.copy), PINTI_LIVE);
    EXPECT_EQ(prlimit((pid_t)now.pid, RLIMIT_NOFILE, &before, NULL), 0);
    while (n > 0) {
        EXPECT_EQ(close(clients[--n]), 0);
    }
    EXPECT_EQ(open_at(&a, 1, PINT_COPY_VMM).code, 0);
    EXPECT_TRUE(ct_eventually(broker_pid() == pid, 10000)); /* until clients are taken again */
    ASSERT_NO_FATAL(finish());
}

/* One that was never asked for a second answer does not get one believed. */
TEST(BrokerEnd, AnswersTooMany)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    fake_broker_mode("twice");
    EXPECT_EQ(open_at(&a, 0, PINT_COPY_VMM).code, 0);
    EXPECT_TRUE(ct_eventually(broker_pid() == 0 && n_ending() == 0, 10000));
    ASSERT_NO_FATAL(finish());
}

TEST(BrokerEnd, ItsHangingIsSaid)
{
    ASSERT_NO_FATAL(start_with("300", NULL));
    fake_broker_mode("hang");
    send_open(&a, 0, 0);
    unsigned n_fds = 0;
    cJSON *answer = raw_receive(a.session.fd, NULL, &n_fds);
    EXPECT_EQ(raw_code_of(answer), PINT_E_DEVICE);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(error, "message");
    EXPECT_TRUE(cJSON_IsString(message) && strstr(message->valuestring, "in time") != NULL &&
                strstr(message->valuestring, "pid") != NULL);
    cJSON_Delete(answer);
    ASSERT_NO_FATAL(finish());
}

/* ---- a driver that has failed ---------------------------------------------------------------- */

/* As after a reset of the GPU: only a new process gets it back. */
TEST(BrokerEnd, OneThatLostItsDeviceIsReplacedAndItsSuccessorAsked)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    fake_broker_mode("worn");
    EXPECT_EQ(open_at(&a, 0, 0).code, 0);
    const raw_copy ipc = open_at(&a, 1, PINT_COPY_IPC);
    EXPECT_EQ(ipc.code, 0); /* by its second broker */
    EXPECT_TRUE(ipc.created);
    EXPECT_EQ(fake_broker_count("start "), 2);
    EXPECT_EQ(open_at(&a, 2, 0).code, 0); /* by its third: what the second made by handle is gone */
    EXPECT_EQ(fake_broker_count("start "), 3);
    EXPECT_EQ(fake_broker_count("allocate"), 5);
    EXPECT_TRUE(ct_eventually(copy_state(&a, ipc.copy) == PINTI_FREE, 10000));
    EXPECT_TRUE(ct_eventually(n_ending() == 0, 10000));
    ASSERT_NO_FATAL(finish());
}

TEST(BrokerEnd, ADeviceThatIsLostToTheNextTooIsLost)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    fake_broker_mode("lost");
    EXPECT_EQ(open_at(&a, 0, 0).code, PINT_E_DEVICE_LOST);
    EXPECT_EQ(fake_broker_count("start "), 2);
    EXPECT_EQ(open_at(&a, 0, 0).code, PINT_E_DEVICE_LOST); /* each request has its own try */
    EXPECT_EQ(fake_broker_count("start "), 4);
    EXPECT_EQ(broker_pid(), 0);
    ASSERT_NO_FATAL(finish());
}

/* One whose driver never worked is not tried again; one that worked before is. */
TEST(BrokerEnd, LastWordsOfAnUnknownKind)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    fake_broker_mode("last");
    EXPECT_EQ(open_at(&a, 0, 0).code, PINT_E_DEVICE);
    EXPECT_EQ(fake_broker_count("start "), 1);
    fake_broker_mode("ok");
    EXPECT_EQ(open_at(&a, 0, 0).code, 0);
    fake_broker_mode("last");
    EXPECT_EQ(open_at(&a, 1, 0).code, PINT_E_DEVICE);
    EXPECT_EQ(fake_broker_count("start "), 3);
    ASSERT_NO_FATAL(finish());
}

/* ---- an end that does not come --------------------------------------------------------------- */

/*
 * A process that is traced so stops on its way out, before it has given anything back, killed or
 * not: like one that sleeps in a driver. False: not permitted here.
 */
static bool keep_from_ending(pid_t pid)
{
    return ptrace(PTRACE_SEIZE, pid, NULL, (void *)(uintptr_t)PTRACE_O_TRACEEXIT) == 0;
}

static void await_stop(pid_t pid)
{
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
    EXPECT_EQ(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
}

static void let_end(pid_t pid)
{
    int status = 0;
    EXPECT_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
    EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void one_that_does_not_end(const char *disable)
{
    ASSERT_NO_FATAL(start_with("1000", disable));
    EXPECT_EQ(open_at(&a, 0, PINT_COPY_VMM).code, 0);
    const pid_t pid = broker_pid();
    if (!keep_from_ending(pid)) {
        ASSERT_NO_FATAL(finish());
        SKIP("ptrace is not permitted");
    }
    fake_broker_mode("hang");
    EXPECT_EQ(open_at(&a, 1, PINT_COPY_VMM).code, PINT_E_DEVICE);
    await_stop(pid); /* killed, and there */
    EXPECT_EQ(n_ending(), 1u);
    EXPECT_EQ(broker_pid(), 0);
    fake_broker_mode("ok");
    EXPECT_EQ(open_at(&a, 0, 0).code, 0); /* what is there is there */
    send_open(&a, 1, PINT_COPY_VMM);
    /* others are served, and the next broker waits: this one has its memory still */
    EXPECT_EQ(n_ending(), 1u);
    EXPECT_EQ(fake_broker_count("start "), 1);
    let_end(pid);
    EXPECT_EQ(without_fd(copy_receive(&a)).code, 0);
    EXPECT_EQ(fake_broker_count("start "), 2);
    EXPECT_EQ(n_ending(), 0u);
    EXPECT_TRUE(ct_eventually(kill(pid, 0) != 0 && errno == ESRCH, 10000)); /* it was waited for */
    ASSERT_NO_FATAL(finish());
}

TEST(BrokerEnd, OneThatDoesNotEndStopsNobody)
{
    one_that_does_not_end(NULL);
}

TEST(BrokerEnd, OneThatDoesNotEndStopsNobodyWithoutPidfds)
{
    one_that_does_not_end("PINTABLED_DISABLE=pidfd");
}

/* A driver that hangs would eat process after process. */
TEST(BrokerEnd, TwoThatDoNotEndAreEnough, .timeout_s = 60)
{
    pid_t pids[2];
    ASSERT_NO_FATAL(start_with("1000", NULL));
    for (int i = 0; i < 2; i++) {
        fake_broker_mode("ok");
        const raw_copy copy = open_at(&a, i, 0); /* the second is waited for: 5 s */
        EXPECT_EQ(copy.code, 0);
        pids[i] = broker_pid();
        if (!keep_from_ending(pids[i])) {
            ASSERT_NO_FATAL(finish());
            SKIP("ptrace is not permitted");
        }
        fake_broker_mode("hang");
        EXPECT_EQ(open_at(&a, 2, 0).code, PINT_E_DEVICE);
        await_stop(pids[i]);
    }
    EXPECT_EQ(n_ending(), 2u);
    fake_broker_mode("ok");
    EXPECT_EQ(open_at(&a, 2, 0).code, PINT_E_DEVICE);
    EXPECT_EQ(fake_broker_count("start "), 2);
    let_end(pids[0]);
    EXPECT_TRUE(ct_eventually(n_ending() == 1, 10000));
    EXPECT_EQ(open_at(&a, 2, 0).code, 0);
    EXPECT_EQ(fake_broker_count("start "), 3);
    let_end(pids[1]);
    EXPECT_TRUE(ct_eventually(n_ending() == 0, 10000));
    ASSERT_NO_FATAL(finish());
}

/* A debugger sees the end first: the process has given all back, but cannot be waited for. */
TEST(BrokerEnd, OneThatCannotBeReapedHasEnded)
{
    ASSERT_NO_FATAL(start_with("20000", NULL));
    EXPECT_EQ(open_at(&a, 0, 0).code, 0);
    const pid_t pid = broker_pid();
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0) {
        ASSERT_NO_FATAL(finish());
        SKIP("ptrace is not permitted");
    }
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(broker_pid() == 0 && n_ending() == 0, 10000));
    EXPECT_EQ(open_at(&a, 1, 0).code, 0);
    EXPECT_EQ(kill(pid, 0), 0);
    EXPECT_EQ(waitpid(pid, NULL, __WALL), pid);
    EXPECT_TRUE(ct_eventually(kill(pid, 0) != 0 && errno == ESRCH, 10000));
    ASSERT_NO_FATAL(finish());
}
