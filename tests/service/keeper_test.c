/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service and keeper killed at any moment: sessions, tables and descriptors survive, each starts
 * the other again, nothing is left behind.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/layout.h"
#include "tests/service/raw.h"
#include "tests/support/ct.h"

static raw_service service;
static raw_stat before;

static void start(const char *const *env)
{
    const char *args[] = {"--restarts-max", "60", NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "k", args, env));
    ASSERT_TRUE(raw_get_stat(service.address, &before));
}

static void finish(void)
{
    EXPECT_TRUE(raw_is_back(service.address, &before));
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "stop", "{\"force\":true}"), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(ct_eventually(access(service.address, F_OK) != 0, 10000));
    (void)ct_wait(service.pid);
}

static bool has_new_keeper(uint64_t old, raw_stat *now)
{
    return raw_get_stat(service.address, now) && now->keeper_pid != old;
}

static bool is_gone(pid_t pid)
{
    char path[64];
    char state = 'Z';
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return true;
    }
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
        state = 'Z';
    }
    (void)fclose(file);
    return state == 'Z';
}

TEST(Keeper, StartsAKilledServiceAgainWithItsSessionsAndTables)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    raw_session session;
    raw_stat now;
    ASSERT_NO_FATAL(start(NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_EQ(raw_make_table(&session, "t", 1000, true, &table, &generation), 0);
    const pinti_catalog_header *catalog =
        mmap(NULL, PINTI_CAT_BYTES, PROT_READ, MAP_SHARED, session.fds[0], 0);
    ASSERT_NE(catalog, MAP_FAILED);
    const pinti_table_rec *rec = &pinti_cat_tables((void *)(uintptr_t)catalog)[table];
    for (uint32_t n = 2; n <= 4; n++) {
        ASSERT_TRUE(raw_get_stat(service.address, &now));
        EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
        EXPECT_TRUE(raw_is_closed(session.fd));
        EXPECT_TRUE(raw_resume(&session, service.address));         /* waits in the backlog */
        EXPECT_EQ(pinti_load32_acquire(&catalog->xincarnation), n); /* the old mapping, live */
        cJSON *found = raw_call(session.fd, "table.find", "{\"name\":\"t\"}");
        EXPECT_EQ(raw_number(found, "generation"), generation);
        cJSON_Delete(found);
    }
    EXPECT_EQ(rec->n_rows, 1000);
    /* a request that was answered before is not done twice */
    session.request = 0;
    uint64_t again = 0;
    uint64_t again_generation = 0;
    EXPECT_EQ(raw_make_table(&session, "t", 1000, false, &again, &again_generation), 0);
    EXPECT_EQ(again, table);
    EXPECT_EQ(again_generation, generation);
    EXPECT_EQ(munmap((void *)(uintptr_t)catalog, PINTI_CAT_BYTES), 0);
    EXPECT_TRUE(raw_leave(&session)); /* the table was its family's */
    ASSERT_NO_FATAL(finish());
}

TEST(Keeper, LetsOnlyTheSessionItselfResume)
{
    raw_session session;
    ASSERT_NO_FATAL(start(NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "resume",
                       "{\"session\":\"%s\",\"token\":\"00000000000000000000000000000000\"}",
                       session.id),
              PINT_E_STALE);
    EXPECT_EQ(raw_code(fd, "resume", "{\"session\":\"%s\",\"token\":\"\"}", session.id),
              PINT_E_STALE);
    EXPECT_EQ(raw_code(fd, "resume", "{\"session\":\"00000000000000ff\",\"token\":\"%s\"}",
                       session.token),
              PINT_E_STALE);
    /* with the token it takes over from a connection that still stands */
    EXPECT_EQ(
        raw_code(fd, "resume", "{\"session\":\"%s\",\"token\":\"%s\"}", session.id, session.token),
        0);
    EXPECT_TRUE(raw_is_closed(session.fd));
    EXPECT_EQ(raw_code(fd, "leave", "{}"), 0);
    EXPECT_EQ(close(fd), 0);
    raw_close(&session);
    ASSERT_NO_FATAL(finish());
}

TEST(Keeper, IsStartedAgainByTheServiceWithAllItHeld)
{
    raw_session session;
    raw_stat now;
    ASSERT_NO_FATAL(start(NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_EQ(raw_make_table(&session, "t", 1000, true, NULL, NULL), 0);
    uint64_t keeper = before.keeper_pid;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(kill((pid_t)keeper, SIGKILL), 0);
        ASSERT_TRUE(ct_eventually(has_new_keeper(keeper, &now), 10000));
        EXPECT_EQ(raw_code(session.fd, "table.find", "{\"name\":\"t\"}"), 0); /* nobody noticed */
        EXPECT_EQ(now.incarnation, (uint64_t)i + 1);
        keeper = now.keeper_pid;
        EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0); /* the new keeper can do its work */
        EXPECT_TRUE(raw_resume(&session, service.address));
        EXPECT_EQ(raw_code(session.fd, "table.find", "{\"name\":\"t\"}"), 0);
    }
    EXPECT_TRUE(raw_leave(&session));
    before.keeper_pid = keeper;
    ASSERT_NO_FATAL(finish());
    EXPECT_TRUE(ct_eventually(is_gone((pid_t)keeper), 5000));
}

TEST(Keeper, GivesUpWhenTheServiceKeepsDying)
{
    const char *args[] = {"--restarts-max", "2", NULL};
    raw_stat now;
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "k", args, NULL));
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(ct_eventually(raw_get_stat(service.address, &now), 5000));
        EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
        EXPECT_TRUE(ct_eventually(is_gone((pid_t)now.pid), 5000));
    }
    EXPECT_EQ(ct_wait(service.pid), 70);
    EXPECT_NE(access(service.address, F_OK), 0);
}

PROC(join_and_wait)
{
    raw_session session;
    uint64_t table = 0;
    uint64_t generation = 0;
    CT_REQUIRE(raw_join(&session, argv[1], "rw", ""));
    CT_REQUIRE(raw_make_table(&session, argv[2], 1000, true, &table, &generation) == 0);
    raw_refer(&session, table, generation);
    ct_ready();
    for (;;) {
        (void)pause();
    }
    return 0;
}

TEST(Keeper, EndsSessionsThatDiedTogetherWithTheService)
{
    raw_stat now;
    pid_t clients[8];
    ASSERT_NO_FATAL(start(NULL));
    for (int i = 0; i < 8; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "t%d", i);
        const char *args[] = {service.address, name, NULL};
        clients[i] = ct_spawn("join_and_wait", args);
        ASSERT_TRUE(ct_wait_ready(clients[i]));
    }
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.n_sessions, 8);
    EXPECT_EQ(now.tables, 8);
    EXPECT_EQ(kill((pid_t)now.pid, SIGSTOP), 0);
    for (int i = 0; i < 8; i++) {
        EXPECT_EQ(kill(clients[i], SIGKILL), 0);
        EXPECT_EQ(ct_wait(clients[i]), 128 + SIGKILL);
    }
    EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
    ASSERT_NO_FATAL(finish()); /* before: no session, no table, no byte */
}

TEST(Keeper, SurvivesServiceAndKeeperKilledUnderLoad, .timeout_s = 120)
{
    raw_stat now;
    ASSERT_NO_FATAL(start(NULL));
    raw_session session;
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    for (int i = 0; i < 20; i++) {
        ASSERT_TRUE(ct_eventually(raw_get_stat(service.address, &now), 10000));
        char name[32];
        (void)snprintf(name, sizeof(name), "t%d", i);
        (void)raw_send(
            session.fd,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"table.create\",\"params\":{"
            "\"request\":99,\"name\":\"x\",\"rows\":2000000,\"columns\":[{\"name\":\"a\","
            "\"type\":\"int64\"}]}}"); /* its helper is at work when it dies */
        (void)poll(NULL, 0, i % 5);
        if (i % 4 == 3) { /* one of the two at a time: together they hold everything */
            const uint64_t old = now.keeper_pid;
            EXPECT_EQ(kill((pid_t)old, SIGKILL), 0);
            EXPECT_TRUE(ct_eventually(has_new_keeper(old, &now), 10000));
        } else {
            EXPECT_EQ(kill((pid_t)now.pid, SIGKILL), 0);
        }
        EXPECT_TRUE(ct_eventually(raw_resume(&session, service.address), 10000));
        EXPECT_EQ(raw_make_table(&session, name, 1000, true, NULL, NULL), 0);
    }
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.tables, 20);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(finish());
}

/* ---- deaths at chosen places ---------------------------------------------------------------- */

#define PUBLISH "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}"

static void die_at(const char *point)
{
    char env_text[64];
    uint64_t table = 0;
    uint64_t generation = 0;
    raw_session session;
    (void)snprintf(env_text, sizeof(env_text), "PINTABLE_CRASH=%s", point);
    const char *env[] = {env_text, NULL};
    ASSERT_NO_FATAL(start(env));
    for (int i = 0; i < 3; i++) {
        bool joined = false;
        /* a join that was cut off is tried again; nobody ever heard of the first */
        for (int k = 0; k < 3 && !joined; k++) {
            joined = raw_join(&session, service.address, "rw", "");
            if (!joined) {
                raw_close(&session);
            }
        }
        ASSERT_TRUE(joined);
        session.request = 0;
        int code = raw_make_table(&session, "t", 1000, false, &table, &generation);
        if (code != 0) {
            EXPECT_TRUE(raw_resume(&session, service.address));
            session.request = 0; /* the same request again */
            code = raw_make_table(&session, "t", 1000, false, &table, &generation);
        }
        EXPECT_EQ(code, 0);
        code = raw_code(session.fd, "table.publish", PUBLISH, table, generation);
        if (code != 0) {
            EXPECT_TRUE(raw_resume(&session, service.address));
            code = raw_code(session.fd, "table.publish", PUBLISH, table, generation);
            EXPECT_TRUE(code == 0 || code == PINT_E_STATE);
        }
        code = raw_code(session.fd, "table.rename", "{\"name\":\"t\",\"new_name\":\"u\"}");
        if (code != 0) {
            EXPECT_TRUE(raw_resume(&session, service.address));
            /* found under one of the two */
            EXPECT_NE(raw_code(session.fd, "table.find", "{\"name\":\"t\"}"),
                      raw_code(session.fd, "table.find", "{\"name\":\"u\"}"));
            (void)raw_code(session.fd, "table.rename", "{\"name\":\"t\",\"new_name\":\"u\"}");
        }
        code = raw_code(session.fd, "table.drop", "{\"name\":\"u\"}");
        if (code != 0) {
            EXPECT_TRUE(raw_resume(&session, service.address));
            code = raw_code(session.fd, "table.drop", "{\"name\":\"u\"}");
            EXPECT_TRUE(code == 0 || code == PINT_E_NOT_FOUND);
        }
        if (!raw_leave(&session)) {
            raw_close(&session);
        }
        EXPECT_TRUE(raw_is_back(service.address, &before));
    }
    ASSERT_NO_FATAL(finish());
}

TEST(Keeper, FinishesWhatADeathAtAnyPlaceCutOff, .timeout_s = 120)
{
#if PINT_CRASHPOINTS
    static const char *const points[] = {
        "SERVICE_CREATE_HALF", "SERVICE_CREATED",    "SERVICE_PUBLISH_HALF",
        "SERVICE_RENAME_HALF", "SERVICE_RENAMED",    "SERVICE_DROP_HALF",
        "SERVICE_FREE_HALF",   "SERVICE_JOIN_HALF",  "SERVICE_TEARDOWN_HALF",
        "KEEPER_GOT_FDS",      "SERVICE_SWEEP_HALF", "SERVICE_INDEX_MOVING",
    };
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        (void)printf("%s\n", points[i]);
        ASSERT_NO_FATAL(die_at(points[i]));
    }
#else
    (void)die_at;
    SKIP("built without crash points");
#endif
}
