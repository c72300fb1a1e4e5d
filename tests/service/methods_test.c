/* SPDX-License-Identifier: Apache-2.0 */
/* Methods on tables and jobs, and what the descriptors of a join allow, against a real service. */

#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/service/raw.h"
#include "tests/support/ct.h"

static raw_service service;
static raw_stat before;

static void set_up(void)
{
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "p", NULL, NULL));
    ASSERT_TRUE(raw_get_stat(service.address, &before));
}

static void tear_down(void)
{
    EXPECT_TRUE(raw_is_back(service.address, &before));
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.incarnation, 1); /* it never died */
    EXPECT_EQ(raw_terminate(&service), 0);
}

/* ---- tables --------------------------------------------------------------------------------- */

TEST(Methods, MakeFindRenameFreezeKeepAndDropTables)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    const int fd = session.fd;
    EXPECT_EQ(raw_make_table(&session, "t", 1000, false, &table, &generation), 0);
    EXPECT_EQ(raw_code(fd, "table.find", "{\"name\":\"t\"}"), PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(fd, "table.publish", "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}",
                       table, generation),
              0);
    EXPECT_EQ(raw_code(fd, "table.publish", "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}",
                       table, generation),
              PINT_E_STATE);
    EXPECT_EQ(raw_code(fd, "table.find", "{\"name\":\"t\"}"), 0);
    EXPECT_EQ(raw_code(fd, "table.rename", "{\"name\":\"t\",\"new_name\":\"u\"}"), 0);
    EXPECT_EQ(raw_code(fd, "table.find", "{\"name\":\"t\"}"), PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(fd, "table.find", "{\"name\":\"u\"}"), 0);
    EXPECT_EQ(raw_code(fd, "table.rename", "{\"name\":\"u\",\"new_name\":\"a/b\"}"),
              PINT_E_INVALID);
    EXPECT_EQ(raw_code(fd, "table.freeze", "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}",
                       table, generation),
              0);
    EXPECT_EQ(raw_code(fd, "table.keep", "{\"name\":\"u\",\"keep\":true}"), 0);
    EXPECT_EQ(raw_make_table(&session, "u", 1000, true, NULL, NULL), PINT_E_EXISTS);
    EXPECT_EQ(raw_code(fd, "table.drop", "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}",
                       table, generation + 1),
              PINT_E_DROPPED);
    EXPECT_EQ(raw_code(fd, "table.drop", "{\"name\":\"u\"}"), 0);
    EXPECT_EQ(raw_code(fd, "table.drop", "{\"name\":\"u\"}"), PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(fd, "table.closed", "{}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

static int add_columns(const raw_session *session, uint64_t table, uint64_t generation,
                       uint64_t from, uint64_t from_generation)
{
    return raw_code(session->fd, "table.add_columns",
                    "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 ",\"from\":%" PRIu64
                    ",\"from_generation\":%" PRIu64 "}",
                    table, generation, from, from_generation);
}

/* A table of 1000 rows and one column; not published. */
static int make_column(raw_session *session, const char *name, uint64_t *out_table,
                       uint64_t *out_generation)
{
    cJSON *answer = raw_call(session->fd, "table.create",
                             "{\"request\":%" PRIu64 ",\"name\":\"%s\",\"rows\":1000,"
                             "\"columns\":[{\"name\":\"%s\",\"type\":\"float64\"}]}",
                             ++session->request, name, name);
    const int code = raw_code_of(answer);
    *out_table = raw_number(answer, "table");
    *out_generation = raw_number(answer, "generation");
    cJSON_Delete(answer);
    return code;
}

TEST(Methods, AddColumnsOnlyAsTheyMayBe)
{
    uint64_t t = 0;
    uint64_t t_generation = 0;
    uint64_t d = 0;
    uint64_t d_generation = 0;
    uint64_t e = 0;
    uint64_t e_generation = 0;
    raw_session session;
    raw_session other;
    raw_session reader;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_TRUE(raw_join(&other, service.address, "rw", ""));
    ASSERT_TRUE(raw_join(&reader, service.address, "ro", ""));
    const int fd = session.fd;
    ASSERT_EQ(raw_make_table(&session, "t", 1000, true, &t, &t_generation), 0);
    ASSERT_EQ(make_column(&session, "d", &d, &d_generation), 0);
    ASSERT_EQ(make_column(&other, "e", &e, &e_generation), 0);
    static const char *const bad[] = {
        "{}",
        "{\"table\":0,\"generation\":1,\"from\":1}",
        "{\"table\":0,\"generation\":1,\"from_generation\":1}",
        "{\"table\":0,\"generation\":1,\"from\":-1,\"from_generation\":1}",
        "{\"table\":0,\"generation\":1,\"from\":\"d\",\"from_generation\":1}",
        "{\"table\":0,\"generation\":1,\"from\":1,\"from_generation\":4294967296}",
        "{\"table\":0,\"generation\":1,\"from\":1,\"from_generation\":1,\"name\":\"t\"}",
        "{\"table\":[0],\"generation\":1,\"from\":1,\"from_generation\":1}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        EXPECT_EQ(raw_code(fd, "table.add_columns", "%s", bad[i]), -32602);
    }
    EXPECT_EQ(add_columns(&session, t, t_generation, t, t_generation), PINT_E_INVALID);
    EXPECT_EQ(add_columns(&session, d, d_generation, d, d_generation), PINT_E_INVALID);
    EXPECT_EQ(add_columns(&session, t, t_generation + 1, d, d_generation), PINT_E_DROPPED);
    EXPECT_EQ(add_columns(&session, t, t_generation, d, d_generation + 1), PINT_E_DROPPED);
    EXPECT_EQ(add_columns(&session, t, 0, d, 0), PINT_E_DROPPED);
    EXPECT_EQ(add_columns(&session, UINT32_MAX, 1, d, d_generation), PINT_E_RANGE);
    EXPECT_EQ(add_columns(&session, t, t_generation, 65536, 1), PINT_E_RANGE);
    EXPECT_EQ(add_columns(&session, t, t_generation, 65535, 0), PINT_E_DROPPED);
    EXPECT_EQ(add_columns(&session, d, d_generation, t, t_generation), PINT_E_STATE);
    /* what another session makes is not taken, not even by its own user */
    EXPECT_EQ(add_columns(&session, t, t_generation, e, e_generation), PINT_E_PERMISSION);
    EXPECT_EQ(add_columns(&other, t, t_generation, d, d_generation), PINT_E_PERMISSION);
    EXPECT_EQ(add_columns(&reader, t, t_generation, d, d_generation), PINT_E_PERMISSION);
    EXPECT_EQ(add_columns(&session, t, t_generation, d, d_generation), 0);
    EXPECT_EQ(raw_code(fd, "table.publish", "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}", d,
                       d_generation),
              PINT_E_DROPPED);
    /* one session may add to a table that another made */
    EXPECT_EQ(add_columns(&other, t, t_generation, e, e_generation), 0);
    EXPECT_EQ(raw_code(fd, "table.drop", "{\"name\":\"t\"}"), 0);
    EXPECT_TRUE(raw_leave(&reader));
    EXPECT_TRUE(raw_leave(&other));
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

/* Asked again, after a lost answer, while the session still refers to what it made. */
TEST(Methods, AddColumnsOnceHoweverOftenAsked)
{
    uint64_t t = 0;
    uint64_t t_generation = 0;
    uint64_t d = 0;
    uint64_t d_generation = 0;
    raw_session session;
    raw_stat stat;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_EQ(raw_make_table(&session, "t", 1000, true, &t, &t_generation), 0);
    ASSERT_EQ(make_column(&session, "d", &d, &d_generation), 0);
    raw_refer(&session, d, d_generation);
    ASSERT_TRUE(raw_get_stat(service.address, &stat));
    const uint64_t used = stat.used_bytes;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(add_columns(&session, t, t_generation, d, d_generation), 0);
    }
    ASSERT_TRUE(raw_get_stat(service.address, &stat));
    EXPECT_EQ(stat.used_bytes, used);
    EXPECT_EQ(stat.dying, 1); /* one refers to it */
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"t\"}"), 0);
    ASSERT_TRUE(raw_get_stat(service.address, &stat));
    EXPECT_EQ(stat.used_bytes, used); /* the bytes stay under the reference */
    EXPECT_EQ(stat.dying, 2);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

TEST(Methods, MakeAWideTableFromSeveralMessages)
{
    static char columns[60000];
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    int n = 0;
    cJSON *answer = NULL;
    for (int message = 0; message < 12; message++) {
        size_t used = 0;
        for (int i = 0; i < 900; i++, n++) {
            used += (size_t)snprintf(columns + used, sizeof(columns) - used,
                                     "%s{\"name\":\"column %d\",\"type\":\"int8\"}",
                                     i == 0 ? "" : ",", n);
        }
        cJSON_Delete(answer);
        answer = message == 0
                     ? raw_call(session.fd, "table.create",
                                "{\"request\":1,\"name\":\"wide\",\"rows\":10,\"columns\":[%s],"
                                "\"more\":true}",
                                columns)
                     : raw_call(session.fd, "table.columns", "{\"columns\":[%s],\"more\":%s}",
                                columns, message < 11 ? "true" : "false");
        EXPECT_EQ(raw_code_of(answer), 0);
    }
    EXPECT_NE(raw_number(answer, "generation"), UINT64_MAX);
    /* the same request again, without its columns, gives the same table */
    cJSON *again = raw_call(session.fd, "table.create",
                            "{\"request\":1,\"name\":\"wide\",\"rows\":10,\"columns\":[]}");
    EXPECT_EQ(raw_number(again, "table"), raw_number(answer, "table"));
    EXPECT_EQ(raw_number(again, "generation"), raw_number(answer, "generation"));
    cJSON_Delete(again);
    cJSON_Delete(answer);
    EXPECT_TRUE(raw_leave(&session)); /* never published: goes with its session */
    ASSERT_NO_FATAL(tear_down());
}

TEST(Methods, RefuseBadSchemas)
{
    static const char *const bad[] = {
        "\"name\":\"t\",\"rows\":1,\"columns\":[]",
        "\"name\":\"\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"}]",
        "\"name\":\"..\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"}]",
        "\"name\":\"a\\nb\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":281474976710657,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":\"18446744073709551615\",\"columns\":[{\"name\":\"a\",\"type\":"
        "\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"chunk_rows\":3,\"columns\":[{\"name\":\"a\",\"type\":"
        "\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"flags\":4,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int9\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"\",\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\",\"unit\":\"h\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"binary_fixed\","
        "\"width\":0}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"list_fixed\",\"item\":"
        "\"int8\",\"length\":4294967295}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\"},{\"name\":\"a\","
        "\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\",\"Name\":\"b\"}]",
        "\"name\":\"t\",\"rows\":1,\"metadata_bytes\":16777217,\"columns\":[{\"name\":\"a\","
        "\"type\":\"int8\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\","
        "\"metadata_bytes\":\"18446744073709551615\"}]",
        "\"name\":\"t\",\"rows\":1,\"columns\":[{\"name\":\"a\",\"type\":\"int8\","
        "\"metadata_bytes\":-1}]",
        "\"name\":\"t\",\"rows\":100000000000,\"columns\":[{\"name\":\"a\",\"type\":\"int64\"}]",
    };
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const int code =
            raw_code(session.fd, "table.create", "{\"request\":%zu,%s}", i + 1, bad[i]);
        if (code >= 0) {
            (void)fprintf(stderr, "schema %zu: %s\n", i, bad[i]);
        }
        EXPECT_LT(code, 0);
    }
    raw_stat now;
    EXPECT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.used_bytes, before.used_bytes); /* at once: nothing was ever taken */
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

TEST(Methods, GiveMemoryBackWhenTheCreatorGoesAwayMeanwhile, .timeout_s = 60)
{
    ASSERT_NO_FATAL(set_up());
    for (int i = 0; i < 30; i++) {
        raw_session session;
        ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
        ASSERT_TRUE(raw_send(
            session.fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"table.create\",\"params\":{"
                        "\"request\":1,\"name\":\"t\",\"rows\":6000000,\"columns\":[{\"name\":"
                        "\"a\",\"type\":\"int64\"}]}}"));
        if (i % 2 == 0) {
            (void)poll(NULL, 0, i);
        }
        raw_close(&session);
    }
    ASSERT_NO_FATAL(tear_down());
}

TEST(Methods, KeepToTheBudget)
{
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(raw_make_table(&session, "big", 10000000, true, NULL, NULL), PINT_E_QUOTA);
    EXPECT_EQ(raw_make_table(&session, "fits", 1000000, true, NULL, NULL), 0);
    EXPECT_EQ(raw_code(session.fd, "budget", "{\"bytes\":4194304}"), PINT_E_RANGE);
    EXPECT_EQ(raw_code(session.fd, "budget", "{\"bytes\":\"134217728\"}"), 0);
    EXPECT_EQ(raw_make_table(&session, "big", 10000000, true, NULL, NULL), 0);
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"big\"}"), 0);
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"fits\"}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

#define JOB_FORMAT                                                                                 \
    "{\"request\":%d,\"table\":%" PRIu64 ",\"generation\":%" PRIu64 ",\"name\":\"j\",\"uses\":[%"  \
    "s]}"

TEST(Methods, MakeAndJoinJobs)
{
    uint64_t table = 0;
    uint64_t generation = 0;
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_EQ(raw_make_table(&session, "t", 100000, true, &table, &generation), 0);
    cJSON *first = raw_call(session.fd, "job.create", JOB_FORMAT, 2, table, generation, "2");
    cJSON *second = raw_call(session.fd, "job.create", JOB_FORMAT, 3, table, generation, "2");
    EXPECT_EQ(raw_code_of(first), 0);
    EXPECT_EQ(raw_number(first, "job"), raw_number(second, "job"));
    EXPECT_EQ(raw_number(first, "generation"), raw_number(second, "generation"));
    cJSON_Delete(first);
    cJSON_Delete(second);
    EXPECT_EQ(raw_code(session.fd, "job.create", JOB_FORMAT, 4, table, generation, "1"),
              PINT_E_EXISTS);
    EXPECT_LT(raw_code(session.fd, "job.create", JOB_FORMAT, 5, table, generation, "4000000000"),
              0);
    EXPECT_LT(raw_code(session.fd, "job.create", JOB_FORMAT, 6, table, generation + 1, "1"), 0);
    EXPECT_EQ(raw_code(session.fd, "job.create",
                       "{\"request\":7,\"table\":%" PRIu64 ",\"generation\":%" PRIu64
                       ",\"name\":\"none\",\"uses\":[]}",
                       table, generation),
              PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(session.fd, "job.create",
                       "{\"request\":8,\"table\":%" PRIu64 ",\"generation\":%" PRIu64
                       ",\"uses\":[],\"more\":true}",
                       table, generation),
              0);
    EXPECT_EQ(raw_code(session.fd, "job.uses", "{\"uses\":[2]}"), 0);
    EXPECT_EQ(raw_code(session.fd, "job.drop",
                       "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 ",\"name\":\"j\"}", table,
                       generation),
              0);
    EXPECT_EQ(raw_code(session.fd, "job.drop",
                       "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 ",\"name\":\"j\"}", table,
                       generation),
              PINT_E_NOT_FOUND);
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"t\"}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

/* ---- what is handed out -----------------------------------------------------------------------
 */

TEST(Segments, CannotBeShrunkNorWrittenWhereTheyMustNot)
{
    raw_session rw;
    raw_session ro;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&rw, service.address, "rw", ""));
    ASSERT_TRUE(raw_join(&ro, service.address, "ro", ""));
    for (int i = 0; i < 6; i++) {
        struct stat st;
        ASSERT_EQ(fstat(rw.fds[i], &st), 0);
        EXPECT_EQ(st.st_mode & 07777u, 0);
        EXPECT_EQ(ftruncate(rw.fds[i], 0), -1);
        EXPECT_EQ(ftruncate(rw.fds[i], st.st_size + 4096), -1);
    }
    const int protection = PROT_READ | PROT_WRITE;
    EXPECT_EQ(mmap(NULL, 4096, protection, MAP_SHARED, rw.fds[0], 0), MAP_FAILED);
    EXPECT_EQ(pwrite(rw.fds[0], "x", 1, 0), -1);
    EXPECT_EQ(fallocate(rw.fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    EXPECT_EQ(mmap(NULL, 4096, protection, MAP_SHARED, ro.fds[1], 0), MAP_FAILED);
    EXPECT_EQ(mmap(NULL, 4096, protection, MAP_SHARED, ro.fds[2], 0), MAP_FAILED);
    void *data = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro.fds[2], 0);
    ASSERT_NE(data, MAP_FAILED);
    EXPECT_EQ(mprotect(data, 4096, protection), -1);
    EXPECT_EQ(munmap(data, 4096), 0);
    EXPECT_EQ(raw_make_table(&ro, "t", 1, true, NULL, NULL), PINT_E_PERMISSION);
    EXPECT_EQ(raw_code(ro.fd, "table.find", "{\"name\":\"t\"}"), PINT_E_NOT_FOUND);
    EXPECT_TRUE(raw_leave(&rw));
    EXPECT_TRUE(raw_leave(&ro));
    ASSERT_NO_FATAL(tear_down());
}

/* argv: address. Another user, to whom the mode gives read-only. */
PROC(stranger)
{
    raw_session ro;
    raw_session rw;
    CT_REQUIRE(setgroups(0, NULL) == 0);
    CT_REQUIRE(setresgid(65534, 65534, 65534) == 0);
    CT_REQUIRE(setresuid(65534, 65534, 65534) == 0);
    CT_REQUIRE(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); /* or /proc/self/fd would be closed */
    const int own = memfd_create("own", MFD_CLOEXEC);
    char own_path[64];
    (void)snprintf(own_path, sizeof(own_path), "/proc/self/fd/%d", own);
    const int own_again = open(own_path, O_RDWR | O_CLOEXEC);
    EXPECT_GE(own_again, 0);
    EXPECT_FALSE(raw_join(&rw, argv[1], "rw", ""));
    CT_REQUIRE(raw_join(&ro, argv[1], "ro", ""));
    for (int i = 0; i < 3; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ro.fds[i]);
        EXPECT_EQ(open(path, O_RDWR | O_CLOEXEC), -1);
        EXPECT_EQ(fchmod(ro.fds[i], 0600), -1);
    }
    EXPECT_EQ(raw_code(ro.fd, "budget", "{\"bytes\":134217728}"), PINT_E_PERMISSION);
    EXPECT_EQ(raw_code(ro.fd, "stop", "{\"force\":true}"), PINT_E_PERMISSION);
    EXPECT_EQ(raw_code(ro.fd, "evict", "{\"session\":\"0000000000000001\"}"), PINT_E_PERMISSION);
    EXPECT_EQ(raw_code(ro.fd, "stat", "{}"), 0);
    raw_close(&rw);
    EXPECT_TRUE(raw_leave(&ro));
    return 0;
}

TEST(Segments, OfAnotherUserCannotBeOpenedAgainForWriting)
{
    if (geteuid() != 0) {
        SKIP("needs root, to be two users");
    }
    const char *args[] = {"--mode", "0604", NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "p", args, NULL));
    EXPECT_EQ(chmod(ct_tmpdir(), 0711), 0);
    const char *child_args[] = {service.address, NULL};
    EXPECT_EQ(ct_wait(ct_spawn("stranger", child_args)), 0);
    EXPECT_EQ(raw_terminate(&service), 0);
}
