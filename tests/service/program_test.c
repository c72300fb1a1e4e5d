/* SPDX-License-Identifier: Apache-2.0 */
/* pintabled as a program: options, exit statuses, what it finds at its address, how it ends. */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/service/raw.h"
#include "tests/support/ct.h"

static const char *path_in_tmpdir(const char *name)
{
    static char path[108];
    const int bytes = snprintf(path, sizeof(path), "%s/%s", ct_tmpdir(), name);
    EXPECT_LT(bytes, (int)sizeof(path));
    return path;
}

TEST(Program, ExitsWith64OnWrongUsage)
{
    static const char *const wrong[][4] = {
        {"--nothing"},           {"argument"},
        {"--budget", "x"},       {"--budget", "1"},
        {"--budget", "-1"},      {"--budget", "99999999999T"},
        {"--budget", "4G4"},     {"--mode", "8"},
        {"--mode", "rw"},        {"--mode", "7777"},
        {"--sessions-max", "0"}, {"--ready-fd", "99"},
        {"--ready-fd", "-1"},    {"--lock-fd", "99"},
        {"--linger", "5"},       {"--private", "--linger", "x"},
        {"--address", ""},       {"--log", ""},
        {"--idle-trim", "1.5"},  {"--budget"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const int status = raw_run(wrong[i], NULL);
        if (status != 64) {
            (void)fprintf(stderr, "case %zu: %s\n", i, wrong[i][0]);
        }
        EXPECT_EQ(status, 64);
    }
    const char *env[] = {"PINTABLED_DISABLE=pidfd,warp", NULL};
    const char *args[] = {"--address", path_in_tmpdir("a.sock"), NULL};
    EXPECT_EQ(raw_run(args, env), 64);
}

TEST(Program, ShowsHelpAndVersion)
{
    const char *help[] = {"--help", NULL};
    const char *version[] = {"--version", NULL};
    EXPECT_EQ(raw_run(help, NULL), 0);
    EXPECT_EQ(raw_run(version, NULL), 0);
}

TEST(Program, ExitsWith69WhenTheAddressIsTaken)
{
    raw_service service;
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", NULL, NULL));
    const char *args[] = {"--address", service.address, NULL};
    EXPECT_EQ(raw_run(args, NULL), 69);
    raw_stat now;
    EXPECT_TRUE(raw_get_stat(service.address, &now)); /* the first one serves on */
    EXPECT_EQ(raw_terminate(&service), 0);
}

TEST(Program, LeavesFilesAloneThatAreNoSocketsOfItsKind)
{
    const char *path = path_in_tmpdir("a.sock");
    const char *args[] = {"--address", path, NULL};
    struct stat st;
    const int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    EXPECT_EQ(close(file), 0);
    EXPECT_EQ(raw_run(args, NULL), 69);
    EXPECT_EQ(lstat(path, &st), 0);
    EXPECT_EQ(unlink(path), 0);
    EXPECT_EQ(symlink("/nowhere", path), 0);
    EXPECT_EQ(raw_run(args, NULL), 69);
    EXPECT_EQ(unlink(path), 0);
    EXPECT_EQ(mkdir(path, 0700), 0);
    EXPECT_EQ(raw_run(args, NULL), 69);
    EXPECT_EQ(rmdir(path), 0);

    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    const int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(other, (const struct sockaddr *)&name, sizeof(name)), 0);
    EXPECT_EQ(listen(other, 1), 0);
    EXPECT_EQ(raw_run(args, NULL), 69);
    EXPECT_EQ(lstat(path, &st), 0);
    EXPECT_EQ(close(other), 0);
}

TEST(Program, ReplacesASocketThatNobodyListensAt)
{
    raw_service service;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", path_in_tmpdir("a.sock"));
    const int dead = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(dead, (const struct sockaddr *)&name, sizeof(name)), 0);
    EXPECT_EQ(close(dead), 0);
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", NULL, NULL));
    EXPECT_EQ(raw_terminate(&service), 0);
}

TEST(Program, RefusesPathsThatAreTooLongOrNotThere)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/", ct_tmpdir());
    const size_t used = strlen(path);
    memset(path + used, 'x', 120);
    (void)snprintf(path + used + 120, sizeof(path) - used - 120, ".sock");
    const char *args[] = {"--address", path, NULL};
    EXPECT_EQ(raw_run(args, NULL), 64);
    const char *nowhere[] = {"--address", path_in_tmpdir("no/such/folder/a.sock"), NULL};
    EXPECT_EQ(raw_run(nowhere, NULL), 69);
}

TEST(Program, EndsCleanlyOnSigterm)
{
    raw_service service;
    raw_session session;
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", NULL, NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(raw_terminate(&service), 0);
    EXPECT_NE(access(service.address, F_OK), 0);
    EXPECT_TRUE(raw_is_closed(session.fd));
    raw_close(&session);
}

TEST(Program, StopsWhenAskedUnlessOthersAreJoined)
{
    raw_service service;
    raw_session session;
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", NULL, NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    const int admin = raw_connect(service.address);
    EXPECT_EQ(raw_code(admin, "stop", "{}"), PINT_E_STATE);
    EXPECT_EQ(raw_code(admin, "stop", "{\"force\":true}"), 0);
    EXPECT_EQ(ct_wait(service.pid), 0);
    EXPECT_NE(access(service.address, F_OK), 0);
    EXPECT_EQ(close(admin), 0);
    raw_close(&session);
}

TEST(Program, LeavesASocketAloneThatIsNotItsAnyMore)
{
    raw_service first;
    raw_service second;
    ASSERT_TRUE(raw_start(&first, ct_tmpdir(), "a", NULL, NULL));
    EXPECT_EQ(unlink(first.address), 0);
    ASSERT_TRUE(raw_start(&second, ct_tmpdir(), "a", NULL, NULL));
    EXPECT_EQ(raw_terminate(&first), 0);
    raw_stat now;
    EXPECT_TRUE(raw_get_stat(second.address, &now));
    EXPECT_EQ(raw_terminate(&second), 0);
}

TEST(Program, WritesALogOfItsOwn)
{
    raw_service service;
    char log[300];
    char text[4096];
    (void)snprintf(log, sizeof(log), "%s", path_in_tmpdir("log"));
    const char *args[] = {"--log", log, NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", args, NULL));
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "stop", "{}"), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_EQ(ct_wait(service.pid), 0);
    const int file = open(log, O_RDONLY | O_CLOEXEC);
    EXPECT_GT(ct_read_all(file, text, sizeof(text)), 0);
    EXPECT_EQ(close(file), 0);
    EXPECT_TRUE(strstr(text, "stopped by uid") != NULL);
}

/* ---- private -------------------------------------------------------------------------------- */

TEST(Private, EndsWhenNobodyNeedsItAnyMore)
{
    raw_service service;
    raw_session session;
    const char *args[] = {"--private", "--linger", "1", NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "a", args, NULL));
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(raw_make_table(&session, "kept", 10, true, NULL, NULL), 0);
    EXPECT_EQ(raw_code(session.fd, "table.keep", "{\"name\":\"kept\"}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    (void)poll(NULL, 0, 1500); /* a kept table keeps it */
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"kept\"}"), 0);
    (void)poll(NULL, 0, 1500); /* and so does a session */
    EXPECT_EQ(raw_code(session.fd, "ping", "{}"), 0);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_TRUE(raw_leave(&session));
    EXPECT_EQ(ct_wait(service.pid), 0);
    EXPECT_GE(ct_now_ms() - start_ms, 900);
    EXPECT_NE(access(service.address, F_OK), 0);
}

TEST(Private, UnlocksWhatItsLauncherLockedAndDoesNotEndWhileAnotherStarts)
{
    raw_service service;
    char lock[300];
    char number[16];
    (void)snprintf(lock, sizeof(lock), "%s/a.lock", ct_tmpdir());
    const int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const int other = open(lock, O_RDWR | O_CLOEXEC);
    ASSERT_EQ(flock(fd, LOCK_EX), 0);
    int ready[2];
    ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
    char ready_number[16];
    (void)snprintf(number, sizeof(number), "%d", fd);
    (void)snprintf(ready_number, sizeof(ready_number), "%d", ready[1]);
    (void)snprintf(service.address, sizeof(service.address), "%s/a.sock", ct_tmpdir());
    const char *argv[] = {PINT_BIN_DIR "/pintabled",
                          "--address",
                          service.address,
                          "--private",
                          "--linger",
                          "1", /* seconds: it must not be over before the first join */
                          "--lock-fd",
                          number,
                          "--ready-fd",
                          ready_number,
                          "--budget",
                          "64M",
                          NULL};
    const int inherit[] = {fd, ready[1]};
    service.pid =
        ct_spawn_program(argv, &(const ct_spawn_opts){.inherit_fds = inherit, .n_inherit_fds = 2});
    EXPECT_EQ(close(ready[1]), 0);
    raw_session session;
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_TRUE(ct_eventually(flock(other, LOCK_EX | LOCK_NB) == 0, 5000));
    EXPECT_TRUE(raw_leave(&session));
    (void)poll(NULL, 0, 1300);                                  /* past the linger */
    ASSERT_TRUE(raw_join(&session, service.address, "rw", "")); /* we hold the lock: it stays */
    EXPECT_TRUE(raw_leave(&session));
    EXPECT_EQ(flock(other, LOCK_UN), 0);
    EXPECT_EQ(ct_wait(service.pid), 0);
    EXPECT_EQ(close(ready[0]), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_EQ(close(other), 0);
}
