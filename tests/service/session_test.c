/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lives and deaths of sessions (R2): what ends when the process dies, when it calls exec, when a
 * forked child still maps its pages, with and without each kernel feature.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host/layout.h"
#include "tests/service/raw.h"
#include "tests/support/ct.h"

#ifndef SYS_pidfd_open
#    define SYS_pidfd_open 434
#endif

static raw_service service;
static raw_stat before;

static void start(const char *const *args, const char *const *env)
{
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "s", args, env));
    ASSERT_TRUE(raw_get_stat(service.address, &before));
}

static void finish(void)
{
    EXPECT_TRUE(raw_is_back(service.address, &before));
    EXPECT_EQ(raw_terminate(&service), 0);
}

static raw_stat get(void)
{
    raw_stat now;
    EXPECT_TRUE(raw_get_stat(service.address, &now));
    return now;
}

/* argv: address, then what to do when told */
PROC(member)
{
    raw_session session;
    CT_REQUIRE(raw_join(&session, argv[1], "rw", ""));
    CT_REQUIRE(raw_make_table(&session, "t", 1000, true, NULL, NULL) == 0);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    if (strcmp(argv[2], "exec") == 0) {
        (void)execl("/bin/sleep", "sleep", "20", (char *)NULL);
        return 1;
    }
    if (strcmp(argv[2], "fork") == 0) {
        const pid_t pid = fork();
        if (pid == 0) {
            ct_ready(); /* maps the tether, holds the socket */
            (void)ct_wait_go();
            _exit(0);
        }
        for (;;) {
            (void)pause();
        }
    }
    if (strcmp(argv[2], "unmap") == 0) {
        raw_close(&session);
        ct_ready();
    }
    for (;;) {
        (void)pause();
    }
    return 0;
}

static pid_t spawn_member(const char *what)
{
    const char *args[] = {service.address, what, NULL};
    const pid_t pid = ct_spawn("member", args);
    EXPECT_TRUE(ct_wait_ready(pid));
    EXPECT_EQ(get().n_sessions, before.n_sessions + 1);
    return pid;
}

static void end(pid_t pid)
{
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_EQ(ct_wait(pid), 128 + SIGKILL);
}

TEST(Session, EndsWhenItsProcessIsKilled)
{
    ASSERT_NO_FATAL(start(NULL, NULL));
    const pid_t pid = spawn_member("wait");
    ASSERT_NO_FATAL(end(pid));
    ASSERT_NO_FATAL(finish());
}

TEST(Session, EndsWhenItsProcessCallsExec)
{
    ASSERT_NO_FATAL(start(NULL, NULL));
    const pid_t pid = spawn_member("exec");
    EXPECT_TRUE(ct_go(pid));
    EXPECT_TRUE(raw_is_back(service.address, &before)); /* the process lives on */
    ASSERT_NO_FATAL(end(pid));
    ASSERT_NO_FATAL(finish());
}

TEST(Session, EndsWhenItClosesAndUnmapsWithoutAWord)
{
    ASSERT_NO_FATAL(start(NULL, NULL));
    const pid_t pid = spawn_member("unmap");
    EXPECT_TRUE(ct_go(pid));
    EXPECT_TRUE(ct_wait_ready(pid));
    EXPECT_TRUE(raw_is_back(service.address, &before));
    ASSERT_NO_FATAL(end(pid));
    ASSERT_NO_FATAL(finish());
}

TEST(Session, IsOrphanedWhileAForkedChildMapsItsPages)
{
    ASSERT_NO_FATAL(start(NULL, NULL));
    const pid_t pid = spawn_member("fork");
    EXPECT_TRUE(ct_go(pid));
    EXPECT_TRUE(ct_wait_ready(pid)); /* the grandchild, by the same link */
    EXPECT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(get().n_orphaned == 1, 5000));
    EXPECT_EQ(get().tables, 1);
    (void)poll(NULL, 0, 700);
    EXPECT_EQ(get().n_orphaned, 1);         /* and stays so */
    EXPECT_EQ(ct_wait(pid), 128 + SIGKILL); /* closes the link, which ends the grandchild */
    ASSERT_NO_FATAL(finish());
}

TEST(Session, EndsWithEachKernelFeatureMissing, .timeout_s = 60)
{
    static const char *const disabled[] = {
        "PINTABLED_DISABLE=peerpidfd",
        "PINTABLED_DISABLE=peerpidfd,pidfd",
        "PINTABLED_DISABLE=collapse,noexec_seal",
        "PINTABLED_DISABLE=future_write,populate",
        "PINTABLED_DISABLE=peerpidfd,pidfd,collapse,populate,noexec_seal,future_write",
    };
    static const char *const deaths[] = {"wait", "exec", "unmap"};
    for (size_t i = 0; i < sizeof(disabled) / sizeof(disabled[0]); i++) {
        const char *env[] = {disabled[i], NULL};
        ASSERT_NO_FATAL(start(NULL, env));
        for (size_t k = 0; k < 3; k++) {
            const pid_t pid = spawn_member(deaths[k]);
            EXPECT_TRUE(ct_go(pid));
            if (k == 0) {
                ASSERT_NO_FATAL(end(pid));
            }
            EXPECT_TRUE(raw_is_back(service.address, &before));
            if (k != 0) {
                ASSERT_NO_FATAL(end(pid));
            }
        }
        ASSERT_NO_FATAL(finish());
    }
}

TEST(Session, CatalogIsReadOnlyWithoutTheSealToo)
{
    const char *env[] = {"PINTABLED_DISABLE=future_write", NULL};
    raw_session session;
    ASSERT_NO_FATAL(start(NULL, env));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, session.fds[0], 0), MAP_FAILED);
    void *catalog = mmap(NULL, 4096, PROT_READ, MAP_SHARED, session.fds[0], 0);
    ASSERT_NE(catalog, MAP_FAILED);
    EXPECT_EQ(mprotect(catalog, 4096, PROT_READ | PROT_WRITE), -1);
    EXPECT_EQ(munmap(catalog, 4096), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(finish());
}

/* The client's own pidfd, where the kernel gives the service none. */
TEST(Session, EndsByThePidfdThatTheClientSent)
{
    const char *env[] = {"PINTABLED_DISABLE=peerpidfd,pidfd", NULL};
    char text[512];
    ASSERT_NO_FATAL(start(NULL, env));
    const pid_t pid = ct_spawn_program((const char *[]){"/bin/sleep", "60", NULL}, NULL);
    const int pidfd = (int)syscall(SYS_pidfd_open, pid, 0u);
    ASSERT_GE(pidfd, 0);
    (void)snprintf(text, sizeof(text),
                   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"join\",\"params\":{\"protocol\":1,"
                   "\"layout\":3,\"signature\":%" PRIu32 ",\"mode\":\"rw\",\"pidfd\":true}}",
                   raw_signature());
    const int fd = raw_connect(service.address);
    int fds[RAW_FDS_MAX];
    unsigned n_fds = 0;
    ASSERT_TRUE(raw_send_bytes(fd, text, strlen(text), &pidfd, 1));
    cJSON *answer = raw_receive(fd, fds, &n_fds);
    EXPECT_EQ(raw_code_of(answer), 0);
    EXPECT_EQ(n_fds, 6);
    /* nobody is killed by such a descriptor: it could be anybody's */
    const int admin = raw_connect(service.address);
    EXPECT_EQ(raw_code(admin, "evict", "{\"session\":\"%s\"}", raw_text(answer, "session")),
              PINT_E_UNSUPPORTED);
    EXPECT_EQ(close(admin), 0);
    cJSON_Delete(answer);
    EXPECT_EQ(get().n_sessions, 1);
    ASSERT_NO_FATAL(end(pid));
    EXPECT_TRUE(ct_eventually(get().n_sessions == 0, 10000));
    for (unsigned i = 0; i < n_fds; i++) {
        EXPECT_EQ(close(fds[i]), 0);
    }
    EXPECT_EQ(close(pidfd), 0);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(finish());
}

/* Sealed by its own client, the tether says nothing any more. */
TEST(Session, EndsWhenItsTetherWasTamperedWith)
{
    raw_session session;
    ASSERT_NO_FATAL(start(NULL, NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(fcntl(session.fds[5], F_ADD_SEALS, F_SEAL_SEAL), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(munmap(session.tether, PINTI_TETHER_BYTES), 0);
    session.tether = NULL;
    EXPECT_EQ(fcntl(session.fds[5], F_ADD_SEALS, F_SEAL_WRITE), 0);
    raw_close(&session);
    ASSERT_NO_FATAL(finish());
}

TEST(Session, IsEvictedByTheOwner)
{
    ASSERT_NO_FATAL(start(NULL, NULL));
    const pid_t pid = spawn_member("wait");
    const int fd = raw_connect(service.address);
    cJSON *stat = raw_call(fd, "stat", "{}");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(stat, "result");
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(result, "sessions"), 0);
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(first, "id"));
    EXPECT_EQ(raw_code(fd, "evict", "{\"session\":\"%s\"}", id), 0);
    EXPECT_EQ(ct_wait(pid), 128 + SIGKILL);
    EXPECT_EQ(raw_code(fd, "evict", "{\"session\":\"00000000000000ff\"}"), PINT_E_NOT_FOUND);
    cJSON_Delete(stat);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(finish());
}

TEST(Session, FamiliesOwnTheirTables)
{
    char extra[64];
    raw_session first;
    raw_session second;
    raw_session stranger;
    ASSERT_NO_FATAL(start(NULL, NULL));
    ASSERT_TRUE(raw_join(&first, service.address, "rw", ",\"family\":\"00000000deadbeef\""));
    EXPECT_STREQ(first.family, "00000000deadbeef");
    (void)snprintf(extra, sizeof(extra), ",\"family\":\"%s\"", first.family);
    ASSERT_TRUE(raw_join(&second, service.address, "rw", extra));
    EXPECT_STREQ(first.family, second.family);
    ASSERT_TRUE(raw_join(&stranger, service.address, "rw", ""));
    EXPECT_STRNE(first.family, stranger.family);
    EXPECT_EQ(raw_make_table(&first, "t", 10, true, NULL, NULL), 0);
    EXPECT_EQ(raw_make_table(&first, "kept", 10, true, NULL, NULL), 0);
    EXPECT_EQ(raw_code(first.fd, "table.keep", "{\"name\":\"kept\"}"), 0);
    EXPECT_TRUE(raw_leave(&first));
    EXPECT_EQ(raw_code(stranger.fd, "table.find", "{\"name\":\"t\"}"), 0); /* second lives */
    EXPECT_TRUE(raw_leave(&second));
    EXPECT_EQ(raw_code(stranger.fd, "table.find", "{\"name\":\"t\"}"), PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(stranger.fd, "table.find", "{\"name\":\"kept\"}"), 0);
    EXPECT_EQ(raw_code(stranger.fd, "table.drop", "{\"name\":\"kept\"}"), 0);
    EXPECT_TRUE(raw_leave(&stranger));
    ASSERT_NO_FATAL(finish());
}

TEST(Session, AReferenceKeepsADroppedTablesMemory)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    raw_session maker;
    raw_session reader;
    ASSERT_NO_FATAL(start(NULL, NULL));
    ASSERT_TRUE(raw_join(&maker, service.address, "rw", ""));
    ASSERT_TRUE(raw_join(&reader, service.address, "ro", ""));
    ASSERT_EQ(raw_make_table(&maker, "t", 100000, true, &table, &generation), 0);
    raw_refer(&reader, table, generation);
    const uint64_t used_bytes = get().used_bytes;
    EXPECT_EQ(raw_code(maker.fd, "table.drop", "{\"name\":\"t\"}"), 0);
    EXPECT_EQ(get().used_bytes, used_bytes);
    EXPECT_EQ(get().dying, 1);
    EXPECT_EQ(raw_code(maker.fd, "table.find", "{\"name\":\"t\"}"), PINT_E_NOT_FOUND);
    /* without a word the rescan finds it gone (R16) */
    pinti_store64_seq(&pinti_slot_tables(reader.slot)[table], 0);
    EXPECT_TRUE(ct_eventually(get().dying == 0, 5000));
    EXPECT_EQ(get().used_bytes, before.used_bytes);
    EXPECT_TRUE(raw_leave(&reader));
    EXPECT_TRUE(raw_leave(&maker));
    ASSERT_NO_FATAL(finish());
}

static bool try_to_join(raw_session *session)
{
    const bool joined = raw_join(session, service.address, "rw", "");
    if (!joined) {
        raw_close(session);
    }
    return joined;
}

TEST(Session, IndicesComeBackAfterAFullSweepOnly, .timeout_s = 60)
{
    const char *args[] = {"--test-indices", "5", NULL}; /* 1 to 4 */
    raw_session sessions[4];
    raw_session more;
    ASSERT_NO_FATAL(start(args, NULL));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++) {
            ASSERT_TRUE(ct_eventually(try_to_join(&sessions[i]), 10000));
        }
        for (int i = 0; i < 4; i++) {
            for (int k = 0; k < i; k++) {
                EXPECT_NE(sessions[i].index, sessions[k].index);
            }
        }
        EXPECT_FALSE(try_to_join(&more));
        for (int i = 0; i < 4; i++) {
            EXPECT_TRUE(raw_leave(&sessions[i]));
        }
    }
    ASSERT_NO_FATAL(finish());
}

TEST(Session, OfOneUserAreLimited)
{
    const char *args[] = {"--sessions-max", "3", NULL};
    raw_session sessions[4];
    ASSERT_NO_FATAL(start(args, NULL));
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(raw_join(&sessions[i], service.address, "rw", ""));
    }
    EXPECT_FALSE(raw_join(&sessions[3], service.address, "rw", ""));
    for (int i = 0; i < 4; i++) {
        raw_close(&sessions[i]);
    }
    ASSERT_NO_FATAL(finish());
}

TEST(Session, AreListedInSeveralAnswersWhenThereAreMany, .timeout_s = 60)
{
    enum { N = 450 };
    static raw_session sessions[N];
    ASSERT_NO_FATAL(start(NULL, NULL));
    for (int i = 0; i < N; i++) {
        ASSERT_TRUE(raw_join(&sessions[i], service.address, "rw", ""));
    }
    const int fd = raw_connect(service.address);
    uint64_t first = 0;
    int n = 0;
    int n_answers = 0;
    do {
        cJSON *answer = raw_call(fd, "stat", "{\"first\":%" PRIu64 "}", first);
        const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
        n += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(result, "sessions"));
        first = raw_number(answer, "next");
        cJSON_Delete(answer);
        n_answers++;
    } while (first != UINT64_MAX && n_answers < 10);
    EXPECT_EQ(n, N);
    EXPECT_EQ(n_answers, 3);
    EXPECT_LT(get().rss_bytes, 64u << 20);
    EXPECT_EQ(close(fd), 0);
    for (int i = 0; i < N; i++) {
        raw_close(&sessions[i]);
    }
    ASSERT_NO_FATAL(finish());
}

static uint64_t cpu_ticks(uint64_t pid)
{
    char path[64];
    unsigned long user = 0;
    unsigned long system = 0;
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        (void)fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                     &user, &system);
        (void)fclose(file);
    }
    return user + system;
}

TEST(Session, IdleTakesNoTime)
{
    raw_session session;
    ASSERT_NO_FATAL(start(NULL, NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_EQ(raw_make_table(&session, "t", 1000, true, NULL, NULL), 0);
    (void)poll(NULL, 0, 500);
    const uint64_t service_ticks = cpu_ticks(before.pid);
    const uint64_t keeper_ticks = cpu_ticks(before.keeper_pid);
    (void)poll(NULL, 0, 1500);
    EXPECT_LE(cpu_ticks(before.pid) - service_ticks, 1);
    EXPECT_LE(cpu_ticks(before.keeper_pid) - keeper_ticks, 1);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(finish());
}
