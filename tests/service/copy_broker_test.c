/* SPDX-License-Identifier: Apache-2.0 */
/* Brokers: started on need, believed only when they make sense, replaced when they die. */

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/word.h"
#include "pintable/device.h"
#include "tests/service/copy_raw.h"
#include "tests/support/ct.h"

enum { ROWS = 4096 };

static raw_service service;
static raw_stat before;
static copy_client a;
static copy_client b;
static uint32_t table;
static uint32_t generation;
static int gpu;

static void start_with(const char *const *env)
{
    const char *args[] = {"--test-broker-ms", "500", "--restarts-max", "60", NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "b", args, env));
    ASSERT_TRUE(copy_join(&a, service.address));
    ASSERT_TRUE(copy_join(&b, service.address));
    ASSERT_TRUE(copy_table(&a, "t", ROWS, &table, &generation));
    gpu = copy_device(&a, COPY_CUDA, true);
    ASSERT_EQ(gpu, 0);
    ASSERT_TRUE(raw_get_stat(service.address, &before));
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
    /* a broker ends with the last who holds its socket */
    EXPECT_TRUE(ct_eventually(fake_broker_count("end") + fake_broker_count("killed") <=
                                  fake_broker_count("start"),
                              10000));
}

static raw_copy open_kind(copy_client *client, uint32_t kind)
{
    const raw_copy copy = copy_open(client, table, generation, gpu, kind, true);
    if (copy.fd >= 0) {
        EXPECT_EQ(close(copy.fd), 0);
    }
    return copy;
}

static pid_t broker_pid(void)
{
    return (pid_t)copy_stat(service.address, gpu, "broker_pid");
}

TEST(Broker, IsStartedOnFirstNeedAndMakesBothKinds)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    EXPECT_EQ(broker_pid(), 0);
    const raw_copy vmm = copy_open(&a, table, generation, gpu, PINT_COPY_VMM, true);
    ASSERT_EQ(vmm.code, 0);
    ASSERT_GE(vmm.fd, 0);
    struct stat st;
    EXPECT_EQ(fstat(vmm.fd, &st), 0);
    EXPECT_EQ((uint64_t)st.st_size, copy_record(&a, vmm.copy)->bytes);
    EXPECT_EQ(copy_record(&a, vmm.copy)->bytes % (2u << 20), 0u); /* a GPU's granularity */
    EXPECT_EQ(close(vmm.fd), 0);
    EXPECT_EQ(fake_broker_count("start " COPY_CUDA), 1);
    EXPECT_GT(broker_pid(), 0);
    EXPECT_EQ(open_kind(&b, PINT_COPY_IPC).code, PINT_E_EXISTS);
    EXPECT_EQ(open_kind(&b, 0).code, 0); /* whatever is there */
    EXPECT_EQ(copy_drop(&a, &vmm, false), 0);
    EXPECT_EQ(fake_broker_count("free"), 0); /* the descriptor was all */

    const raw_copy ipc = open_kind(&a, PINT_COPY_IPC);
    ASSERT_EQ(ipc.code, 0);
    EXPECT_EQ(ipc.fd, -1);
    EXPECT_EQ(ipc.kind, PINT_COPY_IPC);
    const pinti_copy_rec *rec = copy_record(&a, ipc.copy);
    for (int i = 0; i < 64; i++) {
        EXPECT_EQ(rec->ipc[i], i);
    }
    char text[64];
    (void)snprintf(text, sizeof(text), "{\"free\":%" PRIu64 "}", rec->id);
    EXPECT_EQ(copy_drop(&a, &ipc, false), 0);
    EXPECT_TRUE(ct_eventually(fake_broker_count(text) == 1, 10000));
    EXPECT_EQ(fake_broker_count("start"), 1);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, RefusalsAreHandedOn)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    fake_broker_mode("refuse");
    EXPECT_EQ(open_kind(&a, 0).code, PINT_E_DEVICE_MEMORY);
    fake_broker_mode("strange");
    EXPECT_EQ(open_kind(&a, PINT_COPY_IPC).code, PINT_E_DEVICE);
    fake_broker_mode("ok");
    EXPECT_EQ(open_kind(&a, 0).code, 0);
    EXPECT_EQ(fake_broker_count("start"), 1); /* it is none the worse for it */
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, OutOfMemoryEvictsWhatNobodyHasOpen)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    uint32_t other = 0;
    uint32_t other_generation = 0;
    ASSERT_TRUE(copy_table(&a, "u", ROWS, &other, &other_generation));
    EXPECT_EQ(open_kind(&a, 0).code, 0);
    fake_broker_mode("refuse");
    EXPECT_EQ(copy_open(&a, other, other_generation, gpu, 0, true).code, PINT_E_DEVICE_MEMORY);
    EXPECT_EQ(copy_named(&a, table, gpu), 0u); /* gone for nothing, but it was worth the try */
    EXPECT_EQ(fake_broker_count("allocate"), 3);
    ASSERT_NO_FATAL(finish());
}

/* Answers that make no sense cost the broker its life, and nothing else. */
TEST(Broker, NonsenseIsNotBelieved)
{
    static const struct {
        const char *mode;
        uint32_t kind;
    } all[] = {{"text", 1},      {"no_fd", 1}, {"with_fd", 1},  {"with_fd", 2},
               {"short_ipc", 2}, {"both", 1},  {"two_fds", 1},  {"die", 1},
               {"die", 2},       {"hang", 1},  {"other_id", 1}, {"last", 1}};
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        fake_broker_mode(all[i].mode);
        const raw_copy copy = open_kind(&a, all[i].kind);
        EXPECT_EQ(copy.code, PINT_E_DEVICE);
        if (copy.code != PINT_E_DEVICE) {
            (void)fprintf(stderr, "mode %s\n", all[i].mode);
        }
        EXPECT_EQ(copy_named(&a, table, gpu), 0u);
    }
    EXPECT_EQ(fake_broker_count("start"), (int)(sizeof(all) / sizeof(all[0])));
    EXPECT_EQ(broker_pid(), 0);
    fake_broker_mode("ok");
    EXPECT_EQ(open_kind(&a, 0).code, 0);
    EXPECT_EQ(copy_stat(service.address, gpu, "copies"), 1u);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, SeveralWaitForOneCopyAndAllGetIt)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    fake_broker_mode("hang");
    EXPECT_TRUE(copy_send_open(&a, table, generation, gpu, 0, true));
    EXPECT_TRUE(ct_eventually(fake_broker_count("allocate") == 1, 10000));
    EXPECT_TRUE(copy_send_open(&b, table, generation, gpu, 0, true));
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now)); /* others are served meanwhile */
    const raw_copy one = copy_receive(&a);
    const raw_copy two = copy_receive(&b);
    EXPECT_EQ(one.code, PINT_E_DEVICE);
    EXPECT_EQ(two.code, PINT_E_DEVICE);
    fake_broker_mode("ok");
    EXPECT_TRUE(copy_send_open(&a, table, generation, gpu, 0, true));
    EXPECT_TRUE(copy_send_open(&b, table, generation, gpu, 0, true));
    const raw_copy first = copy_receive(&a);
    const raw_copy second = copy_receive(&b);
    EXPECT_EQ(first.code, 0);
    EXPECT_EQ(second.code, 0);
    EXPECT_EQ(first.copy, second.copy);
    EXPECT_EQ((int)first.created + (int)second.created, 1);
    EXPECT_EQ(fake_broker_count("allocate"), 2);
    EXPECT_EQ(close(first.fd), 0);
    EXPECT_EQ(close(second.fd), 0);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, OneWhoLeavesWhileItWorksLeavesNothing)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    fake_broker_mode("hang");
    EXPECT_TRUE(copy_send_open(&b, table, generation, gpu, 0, true));
    EXPECT_TRUE(ct_eventually(fake_broker_count("allocate") == 1, 10000));
    copy_die(&b);
    fake_broker_mode("ok");
    EXPECT_TRUE(ct_eventually(copy_stat(service.address, gpu, "copies") == 0, 10000));
    ASSERT_TRUE(copy_join(&b, service.address));
    EXPECT_EQ(open_kind(&b, 0).code, 0);
    ASSERT_NO_FATAL(finish());
}

/* Memory by descriptor outlives its broker; memory by IPC handle does not, and its chunks come back
 * from the host or are torn. */
TEST(Broker, ItsDeathEndsIpcCopiesOnly)
{
    uint32_t other = 0;
    uint32_t other_generation = 0;
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    ASSERT_TRUE(copy_table(&a, "u", ROWS, &other, &other_generation));
    const raw_copy vmm = open_kind(&a, PINT_COPY_VMM);
    ASSERT_EQ(vmm.code, 0);
    const raw_copy ipc = copy_open(&a, other, other_generation, gpu, PINT_COPY_IPC, true);
    ASSERT_EQ(ipc.code, 0);
    copy_refer(&b, &ipc);
    pinti_a64 *words = copy_words(&a, other);
    pinti_store64_seq(&words[0], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2u));
    pinti_store64_seq(&words[1], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u));
    EXPECT_EQ(kill(broker_pid(), SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, ipc.copy) == PINTI_DYING, 10000));
    EXPECT_TRUE(ct_eventually(pinti_chunk_state(pinti_load64_seq(&words[0])) == PINTI_CHUNK_TORN &&
                                  (pinti_load64_seq(&words[1]) & PINTI_CHUNK_MASK) == 0,
                              10000));
    EXPECT_EQ(copy_state(&a, vmm.copy), PINTI_LIVE);
    EXPECT_EQ(copy_open(&a, other, other_generation, gpu, PINT_COPY_IPC, true).code, PINT_E_BUSY);
    copy_unrefer(&b, &ipc);
    const raw_copy next = copy_open(&a, other, other_generation, gpu, PINT_COPY_IPC, true);
    EXPECT_EQ(next.code, 0);
    EXPECT_TRUE(next.created);
    EXPECT_NE(copy_record(&a, next.copy)->id, 0u);
    EXPECT_EQ(fake_broker_count("start"), 2);
    EXPECT_EQ(open_kind(&b, 0).copy, vmm.copy);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, OutlivesTheServiceWithItsCopies)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    const raw_copy ipc = open_kind(&a, PINT_COPY_IPC);
    ASSERT_EQ(ipc.code, 0);
    const pid_t pid = broker_pid();
    for (int n = 0; n < 2; n++) {
        raw_stat now;
        ASSERT_TRUE(raw_get_stat(service.address, &now));
        EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
        EXPECT_TRUE(raw_is_closed(a.session.fd));
        EXPECT_TRUE(raw_resume(&a.session, service.address));
        EXPECT_TRUE(raw_resume(&b.session, service.address));
        EXPECT_EQ(copy_state(&a, ipc.copy), PINTI_LIVE);
        EXPECT_EQ(broker_pid(), pid);
        EXPECT_EQ(open_kind(&b, 0).copy, ipc.copy);
    }
    /* it works for the new one as for the old, and its death is seen */
    EXPECT_EQ(copy_drop(&a, &ipc, false), 0);
    EXPECT_TRUE(ct_eventually(fake_broker_count("free") == 1, 10000));
    const raw_copy next = open_kind(&a, PINT_COPY_IPC);
    EXPECT_EQ(next.code, 0);
    EXPECT_EQ(fake_broker_count("start"), 1);
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, next.copy) == PINTI_FREE, 10000));
    ASSERT_NO_FATAL(finish());
}

/* The service dies while a broker works for it: what comes then is nobody's, and is given back. */
TEST(Broker, AnswersToADeadServiceAreGivenBack)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env()));
    EXPECT_EQ(open_kind(&a, PINT_COPY_IPC).code, 0);
    const raw_copy first = open_kind(&a, PINT_COPY_IPC);
    EXPECT_EQ(copy_drop(&a, &first, false), 0);
    const pid_t pid = broker_pid();
    EXPECT_EQ(kill(pid, SIGSTOP), 0);
    EXPECT_TRUE(copy_send_open(&a, table, generation, gpu, PINT_COPY_IPC, true));
    EXPECT_TRUE(ct_eventually(copy_stat(service.address, gpu, "bytes") != 0, 10000));
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
    EXPECT_TRUE(raw_is_closed(a.session.fd));
    EXPECT_TRUE(raw_resume(&a.session, service.address));
    EXPECT_TRUE(raw_resume(&b.session, service.address));
    EXPECT_EQ(kill(pid, SIGCONT), 0);
    EXPECT_TRUE(ct_eventually(copy_stat(service.address, gpu, "copies") == 0, 10000));
    const int allocated = fake_broker_count("allocate");
    EXPECT_TRUE(ct_eventually(fake_broker_count("free") >= allocated, 10000));
    EXPECT_EQ(open_kind(&a, PINT_COPY_IPC).code, 0);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, IsNamedWhenThereIsNone)
{
    const char *env[] = {"PINTABLE_BROKER=/nowhere/pintable-broker", NULL};
    ASSERT_NO_FATAL(start_with(env));
    EXPECT_EQ(open_kind(&a, 0).code, PINT_E_UNSUPPORTED);
    EXPECT_EQ(copy_stat(service.address, gpu, "copies"), 0u);
    ASSERT_NO_FATAL(finish());
}

TEST(Broker, AProgramThatIsNoneIsADeviceError)
{
    const char *env[] = {"PINTABLE_BROKER=/bin/true", NULL};
    ASSERT_NO_FATAL(start_with(env));
    EXPECT_EQ(open_kind(&a, 0).code, PINT_E_DEVICE);
    EXPECT_EQ(open_kind(&a, PINT_COPY_IPC).code, PINT_E_DEVICE);
    ASSERT_NO_FATAL(finish());
}

/* The one of device "host" is a helper of the service's. */
TEST(Broker, OfTheHostIsReplacedToo)
{
    ASSERT_NO_FATAL(start_with(NULL));
    const int host = copy_device(&a, COPY_HOST, false);
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    const pid_t pid = (pid_t)copy_stat(service.address, host, "broker_pid");
    ASSERT_GT(pid, 0);
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(copy_stat(service.address, host, "broker_pid") == 0, 10000));
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE);
    EXPECT_EQ(pwrite(copy.fd, "x", 1, 0), 1);
    EXPECT_EQ(close(copy.fd), 0);
    EXPECT_EQ(copy_drop(&a, &copy, false), 0);
    const raw_copy next = copy_open(&a, table, generation, host, 0, true);
    EXPECT_EQ(next.code, 0);
    EXPECT_EQ(close(next.fd), 0);
    EXPECT_NE((pid_t)copy_stat(service.address, host, "broker_pid"), pid);
    ASSERT_NO_FATAL(finish());
}
