/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a service, with shell scripts in place of pintabled. */

#include "ipc/connect.h"
#include "ipc/launch.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static pint_error err;
static pinti_address address;

static const char *path(const char *tail)
{
    static char texts[8][512];
    static unsigned next;
    char *text = texts[next++ % 8];
    (void)snprintf(text, sizeof(texts[0]), "%s%s", ct_tmpdir(), tail);
    return text;
}

static void write_file(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(name, "we");
    if (file == NULL || fputs(text, file) < 0 || fchmod(fileno(file), mode) != 0 ||
        fclose(file) != 0) {
        abort();
    }
}

static char *read_file(const char *name)
{
    static char text[1 << 16];
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    const size_t bytes = fd >= 0 ? ct_read_all(fd, text, sizeof(text)) : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    text[bytes < sizeof(text) ? bytes : sizeof(text) - 1] = '\0';
    return text;
}

/* A program that runs these lines in a second process, as --daemonize does. */
static void set_program(const char *lines)
{
    char text[4096];
    (void)snprintf(text, sizeof(text), "#!/bin/sh\n(\n%s\n) &\n", lines);
    write_file(path("/daemon"), text, 0700);
    if (setenv("PINTABLED", path("/daemon"), 1) != 0 ||
        pinti_address_resolve(ct_tmpdir(), 1, &address, &err) != PINT_OK) {
        abort();
    }
}

static pint_status launch(int ms)
{
    return pinti_launch(&address, pinti_clock_ms() + ms, &err);
}

static bool lock_is_free(void)
{
    const int fd = open(address.lock, O_RDWR | O_CLOEXEC);
    const bool is_free = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    (void)close(fd);
    return is_free;
}

TEST(Launch, GivesTheServiceACleanProcess)
{
    char lines[2048];
    sigset_t blocked;
    sigset_t before;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction old_pipe;
    (void)snprintf(lines, sizeof(lines),
                   "exec >%s\n"
                   "echo cwd $(pwd); echo args \"$@\"\n"
                   "for f in /proc/self/fd/*; do echo fd ${f##*/}; done\n"
                   "env\n"
                   "grep '^Sig' /proc/self/status\n"
                   "printf 1 >&4",
                   path("/out"));
    set_program(lines);
    ASSERT_EQ(setenv("PINTABLE_FAMILY", "00000000000000aa", 1), 0);
    ASSERT_EQ(setenv("PINTABLE_LINGER", "7", 1), 0);
    ASSERT_EQ(setenv("PINT_TEST_KEPT", "yes", 1), 0);
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigaddset(&blocked, SIGUSR1);
    ASSERT_EQ(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
    ASSERT_EQ(sigaction(SIGPIPE, &ignore, &old_pipe), 0);
    const int leak = open("/dev/null", O_RDONLY); /* check-ok: is to be inherited */
    ASSERT_GE(leak, 0);
    EXPECT_OK(launch(10000), &err);
    EXPECT_EQ(close(leak), 0);
    EXPECT_EQ(sigprocmask(SIG_SETMASK, &before, NULL), 0);
    EXPECT_EQ(sigaction(SIGPIPE, &old_pipe, NULL), 0);
    EXPECT_EQ(unsetenv("PINTABLE_FAMILY"), 0);
    EXPECT_EQ(unsetenv("PINTABLE_LINGER"), 0);

    const char *out = read_file(path("/out"));
    EXPECT_NE(strstr(out, "cwd /\n"), NULL);
    char arguments[700];
    (void)snprintf(arguments, sizeof(arguments),
                   "args --address %s --private --daemonize --lock-fd 3 --ready-fd 4 --linger 7\n",
                   address.socket);
    EXPECT_NE(strstr(out, arguments), NULL);
    EXPECT_NE(strstr(out, "PINT_TEST_KEPT=yes\n"), NULL);
    EXPECT_EQ(strstr(out, "PINTABLE_FAMILY"), NULL);
    for (int fd = 0; fd <= 4; fd++) {
        char line[16];
        (void)snprintf(line, sizeof(line), "fd %d\n", fd);
        EXPECT_NE(strstr(out, line), NULL);
    }
    EXPECT_NE(strstr(out, "SigBlk:\t0000000000000000\n"), NULL);
    /* but for SIGINT and SIGQUIT, by the shell in the background, and the C library's own 32, 33 */
    const char *ignored = strstr(out, "SigIgn:");
    ASSERT_NE(ignored, NULL);
    EXPECT_EQ(strtoull(ignored + strlen("SigIgn:"), NULL, 16) & ~0x180000006ull, 0);
    for (const char *line = strstr(out, "fd "); line != NULL; line = strstr(line + 1, "\nfd ")) {
        EXPECT_LT(strtol(strstr(line, "fd ") + 3, NULL, 10),
                  11); /* the shell's own copies begin at 10 */
    }
    EXPECT_TRUE(lock_is_free());
    EXPECT_EQ(waitpid(-1, NULL, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
}

TEST(Launch, FindsAProgramByANameRelativeToTheCaller)
{
    char *before = getcwd(NULL, 0);
    ASSERT_NE(before, NULL);
    set_program("printf 1 >&4");
    ASSERT_EQ(chdir(ct_tmpdir()), 0);
    ASSERT_EQ(setenv("PINTABLED", "./daemon", 1), 0);
    EXPECT_OK(launch(10000), &err);
    EXPECT_EQ(chdir(before), 0);
    free(before);
}

TEST(Launch, TellsTheLastWordsOfAServiceThatDoesNotStart)
{
    set_program("echo first line >&2; printf 'no \\033[31mmemory\\n\\n' >&2; exit 71");
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(10000), &err);
    EXPECT_NE(strstr(err.message, "no ?[31mmemory"), NULL);
    EXPECT_EQ(strstr(err.message, "first"), NULL);
    EXPECT_TRUE(lock_is_free());
    struct stat st;
    ASSERT_EQ(stat(address.log, &st), 0);
    EXPECT_EQ(st.st_mode & 07777u, 0600);
    ASSERT_EQ(stat(address.lock, &st), 0);
    EXPECT_EQ(st.st_mode & 07777u, 0600);

    ASSERT_EQ(truncate(address.log, 0), 0);
    set_program("exit 0");
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(10000), &err);
    EXPECT_NE(strstr(err.message, "left no word"), NULL);
}

TEST(Launch, EmptiesALogThatHasGrown)
{
    set_program("echo new >&2");
    write_file(address.log, "old\n", 0600);
    ASSERT_EQ(truncate(address.log, 2 << 20), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(10000), &err);
    EXPECT_STREQ(read_file(address.log), "new\n");
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(10000), &err);
    EXPECT_STREQ(read_file(address.log), "new\nnew\n");
}

TEST(Launch, StopsWaitingAtTheDeadlineAndLeavesTheLockToTheService)
{
    char lines[700];
    ASSERT_EQ(mkfifo(path("/fifo"), 0600), 0);
    const int fifo = open(path("/fifo"), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fifo, 0);
    (void)snprintf(lines, sizeof(lines), "read line <%s", path("/fifo"));
    set_program(lines);
    EXPECT_STATUS(PINT_E_TIMEOUT, launch(200), &err);
    EXPECT_FALSE(lock_is_free()); /* it is still starting */
    EXPECT_STATUS(PINT_E_TIMEOUT, launch(100), &err);
    EXPECT_NE(strstr(err.message, "start lock"), NULL);
    ASSERT_EQ(write(fifo, "go\n", 3), 3);
    EXPECT_TRUE(ct_eventually(lock_is_free(), 5000));
    EXPECT_EQ(close(fifo), 0);
}

TEST(Launch, WorksWhereChildrenAreReapedByOthers)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    set_program("printf 1 >&4");
    ASSERT_EQ(sigaction(SIGCHLD, &ignore, &before), 0);
    EXPECT_OK(launch(10000), &err);
    EXPECT_EQ(sigaction(SIGCHLD, &before, NULL), 0);
}

TEST(Launch, WorksWithoutStandardDescriptors)
{
    int saved[3];
    set_program("printf 1 >&4");
    for (int fd = 0; fd < 3; fd++) {
        saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 50);
        (void)close(fd);
    }
    const pint_status status = launch(10000);
    for (int fd = 0; fd < 3; fd++) {
        if (saved[fd] >= 0) {
            (void)dup2(saved[fd], fd);
            (void)close(saved[fd]);
        }
    }
    EXPECT_OK(status, &err);
}

TEST(Launch, SaysThatThereIsNoProgram)
{
    set_program("exit 0");
    const char *const bad[] = {"/absent", "", "/daemon/x"};
    for (size_t i = 0; i < 3; i++) {
        ASSERT_EQ(setenv("PINTABLED", path(bad[i]), 1), 0); /* "" is the folder itself */
        EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
        EXPECT_NE(strstr(err.message, "$PINTABLED"), NULL);
    }
    write_file(path("/plain"), "x", 0600);
    ASSERT_EQ(setenv("PINTABLED", path("/plain"), 1), 0);
    if (geteuid() != 0 || access(path("/plain"), X_OK) != 0) {
        EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
    }
    write_file(path("/plain"), "no program at all", 0700);
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
    EXPECT_TRUE(lock_is_free());
}

TEST(Launch, RefusesALockThatIsNotOurs)
{
    set_program("printf 1 >&4");
    ASSERT_EQ(symlink(path("/elsewhere"), address.lock), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
    EXPECT_EQ(access(path("/elsewhere"), F_OK), -1);
    ASSERT_EQ(unlink(address.lock), 0);
    ASSERT_EQ(mkdir(address.lock, 0700), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
    ASSERT_EQ(rmdir(address.lock), 0);
    ASSERT_EQ(symlink(path("/elsewhere"), address.log), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
    EXPECT_EQ(access(path("/elsewhere"), F_OK), -1);
    ASSERT_EQ(unlink(address.log), 0);
    EXPECT_OK(launch(10000), &err);
    if (geteuid() == 0) {
        ASSERT_EQ(chown(address.lock, 12345, 12345), 0);
        EXPECT_STATUS(PINT_E_PERMISSION, launch(1000), &err);
        ASSERT_EQ(chown(address.lock, 0, 0), 0);
        ASSERT_EQ(chown(ct_tmpdir(), 12345, 12345), 0);
        EXPECT_STATUS(PINT_E_NO_SERVICE, launch(1000), &err);
        EXPECT_NE(strstr(err.message, "12345"), NULL);
        EXPECT_EQ(chown(ct_tmpdir(), 0, 0), 0);
    }
}
