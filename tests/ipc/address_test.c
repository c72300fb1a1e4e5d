/* SPDX-License-Identifier: Apache-2.0 */
/* Where the socket is, and which folders are refused. */

#include "ipc/address.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pint_error err;
static pinti_address address;

/* The test's folder with a tail; a few texts are kept at a time. */
static const char *path(const char *tail)
{
    static char texts[8][512];
    static unsigned next;
    char *text = texts[next++ % 8];
    (void)snprintf(text, sizeof(texts[0]), "%s%s", ct_tmpdir(), tail);
    return text;
}

/* Variables that decide, all unset but for those a test sets. */
static void clear_environment(void)
{
    (void)unsetenv("PINTABLE_ADDRESS");
    (void)unsetenv("XDG_RUNTIME_DIR");
    (void)unsetenv("TMPDIR");
}

static unsigned mode_of(const char *name)
{
    struct stat st;
    return lstat(name, &st) == 0 ? st.st_mode & 07777u : 0;
}

TEST(Address, OfAFolderHasFixedNamesInIt)
{
    ASSERT_OK(pinti_address_resolve(path(""), 0, &address, &err), &err);
    EXPECT_STREQ(address.folder, path(""));
    EXPECT_STREQ(address.socket, path("/" PINTI_SOCKET_NAME));
    EXPECT_STREQ(address.lock, path("/" PINTI_LOCK_NAME));
    EXPECT_STREQ(address.log, path("/" PINTI_LOG_NAME));
    ASSERT_OK(pinti_address_resolve(path("//"), 0, &address, &err), &err);
    EXPECT_STREQ(address.folder, path(""));
}

TEST(Address, OfASocketHasItsLockAndLogBeside)
{
    ASSERT_OK(pinti_address_resolve(path("/my.sock"), 0, &address, &err), &err);
    EXPECT_STREQ(address.folder, path(""));
    EXPECT_STREQ(address.socket, path("/my.sock"));
    EXPECT_STREQ(address.lock, path("/my.lock"));
    EXPECT_STREQ(address.log, path("/my.log"));
}

TEST(Address, BecomesAbsolute)
{
    char before[4096];
    ASSERT_NE(getcwd(before, sizeof(before)), NULL);
    ASSERT_EQ(chdir(ct_tmpdir()), 0);
    EXPECT_OK(pinti_address_resolve("sub", 1, &address, &err), &err);
    EXPECT_EQ(strncmp(address.socket, "/", 1), 0);
    EXPECT_STREQ(address.folder, path("/sub"));
    EXPECT_OK(pinti_address_resolve("x.sock", 0, &address, &err), &err);
    EXPECT_STREQ(address.socket, path("/x.sock"));
    EXPECT_EQ(chdir(before), 0);
}

TEST(Address, ComesFromTheEnvironmentWhenNotGiven)
{
    clear_environment();
    ASSERT_EQ(setenv("PINTABLE_ADDRESS", path("/a.sock"), 1), 0);
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", path(""), 1), 0);
    ASSERT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
    EXPECT_STREQ(address.socket, path("/a.sock"));
    ASSERT_EQ(setenv("PINTABLE_ADDRESS", "", 1), 0); /* as if unset */
    ASSERT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
    EXPECT_STREQ(address.folder, path("/pintable"));
    EXPECT_EQ(mode_of(path("/pintable")), 0700);
    ASSERT_OK(pinti_address_resolve(path("/b.sock"), 1, &address, &err), &err);
    EXPECT_STREQ(address.socket, path("/b.sock"));
    clear_environment();
}

TEST(Address, FallsBackFromRuntimeFolderToTemporaryFolder)
{
    char expected[600];
    char run_user[64];
    clear_environment();
    (void)snprintf(run_user, sizeof(run_user), "/run/user/%u", (unsigned)geteuid());
    if (access(run_user, F_OK) == 0) {
        SKIP("this user has a /run/user folder");
    }
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", path("/absent"), 1), 0);
    ASSERT_EQ(setenv("TMPDIR", ct_tmpdir(), 1), 0);
    ASSERT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
    (void)snprintf(expected, sizeof(expected), "%s/pintable-%u", ct_tmpdir(), (unsigned)geteuid());
    EXPECT_STREQ(address.folder, expected);
    EXPECT_EQ(mode_of(expected), 0700);
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", "relative", 1), 0);
    EXPECT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
    EXPECT_STREQ(address.folder, expected);
    clear_environment();
}

TEST(Address, RefusesADefaultFolderThatOthersMayEnter)
{
    clear_environment();
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", ct_tmpdir(), 1), 0);
    ASSERT_EQ(mkdir(path("/pintable"), 0700), 0);
    const unsigned bad[] = {0755, 0750, 0711, 0701, 0710, 0777, 0500, 0000};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char octal[16];
        ASSERT_EQ(chmod(path("/pintable"), (mode_t)bad[i]), 0);
        EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(NULL, 1, &address, &err), &err);
        (void)snprintf(octal, sizeof(octal), "%04o", bad[i]);
        EXPECT_NE(strstr(err.message, octal), NULL);
        EXPECT_NE(strstr(err.message, "/pintable'"), NULL);
    }
    ASSERT_EQ(chmod(path("/pintable"), 0700), 0);
    EXPECT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
    clear_environment();
}

TEST(Address, RefusesLinksAndFilesInPlaceOfTheFolder)
{
    clear_environment();
    ASSERT_EQ(mkdir(path("/real"), 0700), 0);
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", ct_tmpdir(), 1), 0);
    ASSERT_EQ(symlink(path("/real"), path("/pintable")), 0);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(NULL, 1, &address, &err), &err);
    EXPECT_NE(strstr(err.message, "symbolic link"), NULL);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(path("/pintable"), 1, &address, &err),
                  &err);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(path("/pintable/"), 1, &address, &err),
                  &err);
    ASSERT_EQ(unlink(path("/pintable")), 0);
    ASSERT_EQ(symlink(path("/nowhere"), path("/pintable")), 0);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(NULL, 1, &address, &err), &err);
    ASSERT_EQ(unlink(path("/pintable")), 0);
    const int fd = open(path("/pintable"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_STATUS(PINT_E_INVALID, pinti_address_resolve(NULL, 1, &address, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pinti_address_resolve(path("/pintable/x.sock"), 1, &address, &err), &err);
    clear_environment();
}

TEST(Address, RefusesANamedFolderThatEverybodyMayWrite)
{
    ASSERT_EQ(mkdir(path("/open"), 0700), 0);
    ASSERT_EQ(chmod(path("/open"), 01777), 0);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(path("/open"), 1, &address, &err), &err);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(path("/open/a.sock"), 1, &address, &err),
                  &err);
    EXPECT_NE(strstr(err.message, "1777"), NULL);
    ASSERT_EQ(chmod(path("/open"), 0755), 0);
    EXPECT_OK(pinti_address_resolve(path("/open"), 1, &address, &err), &err);
    ASSERT_EQ(chmod(path("/open"), 0770), 0);
    EXPECT_OK(pinti_address_resolve(path("/open"), 1, &address, &err), &err);
}

TEST(Address, RefusesAFolderThatAnotherUserCouldHavePlaced)
{
    if (geteuid() != 0) {
        SKIP("needs root, to make a folder of another user");
    }
    clear_environment();
    ASSERT_EQ(mkdir(path("/sticky"), 0700), 0);
    ASSERT_EQ(chmod(path("/sticky"), 01777), 0);
    ASSERT_EQ(mkdir(path("/sticky/theirs"), 0755), 0);
    ASSERT_EQ(chown(path("/sticky/theirs"), 12345, 12345), 0);
    EXPECT_STATUS(PINT_E_PERMISSION,
                  pinti_address_resolve(path("/sticky/theirs"), 0, &address, &err), &err);
    EXPECT_NE(strstr(err.message, "12345"), NULL);
    /* a folder that only its parent's owner could have made is fine by name, never by default */
    ASSERT_EQ(mkdir(path("/pintable"), 0700), 0);
    ASSERT_EQ(chown(path("/pintable"), 12345, 12345), 0);
    EXPECT_OK(pinti_address_resolve(path("/pintable"), 0, &address, &err), &err);
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", ct_tmpdir(), 1), 0);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_address_resolve(NULL, 0, &address, &err), &err);
    /* a runtime folder of another user is passed over */
    ASSERT_EQ(setenv("XDG_RUNTIME_DIR", path("/pintable"), 1), 0);
    ASSERT_EQ(setenv("TMPDIR", ct_tmpdir(), 1), 0);
    if (access("/run/user/0", F_OK) != 0) {
        EXPECT_OK(pinti_address_resolve(NULL, 1, &address, &err), &err);
        EXPECT_STREQ(address.folder, path("/pintable-0"));
    }
    clear_environment();
}

TEST(Address, MakesTheFolderOnlyWhenAskedAndOnlyTheLastPart)
{
    EXPECT_STATUS(PINT_E_NO_SERVICE, pinti_address_resolve(path("/new"), 0, &address, &err), &err);
    EXPECT_EQ(access(path("/new"), F_OK), -1);
    EXPECT_STATUS(PINT_E_NO_SERVICE, pinti_address_resolve(path("/a/b"), 1, &address, &err), &err);
    const mode_t mask = umask(0);
    EXPECT_OK(pinti_address_resolve(path("/new/x.sock"), 1, &address, &err), &err);
    (void)umask(mask);
    EXPECT_EQ(mode_of(path("/new")), 0700);
    EXPECT_EQ(mode_of(path("/new/x.sock")), 0);
}

TEST(Address, RefusesPathsThatAreTooLongForASocket)
{
    char text[5000];
    /* the longest that fits, and one more */
    const size_t base = strlen(ct_tmpdir());
    ASSERT_LT(base, 90);
    memcpy(text, ct_tmpdir(), base);
    text[base] = '/';
    memset(text + base + 1, 'x', sizeof(text) - base - 1);
    memcpy(text + 107 - 5, ".sock", sizeof(".sock"));
    EXPECT_OK(pinti_address_resolve(text, 0, &address, &err), &err);
    EXPECT_EQ(strlen(address.socket), 107);
    memset(text + base + 1, 'x', sizeof(text) - base - 1);
    memcpy(text + 108 - 5, ".sock", sizeof(".sock"));
    EXPECT_STATUS(PINT_E_RANGE, pinti_address_resolve(text, 0, &address, &err), &err);
    EXPECT_NE(strstr(err.message, "107"), NULL);
    for (size_t bytes = 4000; bytes < 4999; bytes++) {
        memset(text + base + 1, 'x', sizeof(text) - base - 1);
        text[bytes] = '\0';
        EXPECT_STATUS(PINT_E_RANGE, pinti_address_resolve(text, 1, &address, &err), &err);
        memcpy(text + bytes - 5, ".sock", sizeof(".sock"));
        EXPECT_STATUS(PINT_E_RANGE, pinti_address_resolve(text, 1, &address, &err), &err);
    }
}

TEST(Address, ShowsHostilePathsSafely)
{
    EXPECT_STATUS(PINT_E_INVALID, pinti_address_resolve("", 0, &address, &err), &err);
    EXPECT_STATUS(PINT_E_NO_SERVICE,
                  pinti_address_resolve(path("/\x1b[31m\n%s%n\xff"), 0, &address, &err), &err);
    EXPECT_EQ(strchr(err.message, '\x1b'), NULL);
    EXPECT_EQ(strchr(err.message, '\n'), NULL);
    EXPECT_EQ(strchr(err.message, '\xff'), NULL);
    EXPECT_NE(strstr(err.message, "%s%n"), NULL);
}
