/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim tested by itself. Cases of DISABLED_Broken fail, skip or end the program; they run in a
 * child, by name, and their output is looked at.
 */

#include "tests/support/ct.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- What passes ------------------------------------------------------------------------------ */

TEST(CtCompare, ComparesIntegersByValueWhateverTheirTypes)
{
    const uint64_t big = UINT64_MAX;
    const uint8_t small = 3;
    EXPECT_NE(big, -1);
    EXPECT_LT(-1, big);
    EXPECT_GT(big, INT64_MAX);
    EXPECT_EQ(small, 3L);
    EXPECT_EQ('a', 97U);
    EXPECT_LE((short)-2, (long long)-2);
    EXPECT_GE(true, 1);
}

TEST(CtCompare, ComparesDoublesAndNeverEqualsNan)
{
    EXPECT_EQ(0.5, 0.5F);
    EXPECT_LT(1, 1.5);
    EXPECT_NE((double)NAN, (double)NAN);
    EXPECT_NEAR(1.0, 1.0 + 1e-12, 1e-9);
}

TEST(CtCompare, ComparesPointersStringsAndMemory)
{
    int x = 0;
    const int *same = &x;
    EXPECT_EQ(&x, same);
    EXPECT_NE(same, NULL);
    EXPECT_STREQ("abc", "abc");
    EXPECT_STRNE("abc", NULL);
    EXPECT_STREQ(NULL, NULL);
    EXPECT_MEMEQ("abcd", "abce", 3);
}

TEST(CtCompare, EvaluatesOperandsOnce)
{
    int n = 0;
    EXPECT_EQ(++n, 1);
    ASSERT_TRUE(++n == 2);
    EXPECT_EQ(n, 2);
}

TEST(CtStatus, ComparesStatusCodes)
{
    pint_error err = {.message = "unused"};
    EXPECT_OK(PINT_OK, &err);
    ASSERT_OK(PINT_OK, NULL);
    EXPECT_STATUS(PINT_E_BUSY, PINT_E_BUSY, &err);
}

TEST(CtTmpdir, IsPrivateAndStableWithinATest)
{
    struct stat st;
    ASSERT_EQ(stat(ct_tmpdir(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777U, 0700);
    EXPECT_EQ(ct_tmpdir(), ct_tmpdir());
    char file[300];
    (void)snprintf(file, sizeof(file), "%s/file", ct_tmpdir());
    const int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(close(fd), 0);
}

static int count_to(int *n, int limit)
{
    *n += *n < limit ? 1 : 0;
    return *n;
}

TEST(CtEventually, WaitsForTheConditionAndGivesUpAtTheDeadline)
{
    int n = 0;
    EXPECT_TRUE(ct_eventually(count_to(&n, 3) == 3, 5000));
    const uint64_t start_ms = ct_now_ms();
    EXPECT_FALSE(ct_eventually(false, 20));
    EXPECT_GE(ct_now_ms() - start_ms, 20);
}

/* --- Other processes -------------------------------------------------------------------------- */

PROC(exit_with)
{
    return argc == 2 ? (int)strtol(argv[1], NULL, 10) : 1;
}

PROC(kill_itself)
{
    (void)raise(SIGKILL);
    return 0;
}

PROC(fail_an_expectation)
{
    EXPECT_EQ(1, 2);
    return 0;
}

PROC(require_the_impossible)
{
    CT_REQUIRE(argc < 0);
    return 0;
}

PROC(answer_go)
{
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    ct_ready();
    return ct_wait_go() ? 1 : 0; /* the parent closes its end by dying or waiting */
}

PROC(write_to_fd)
{
    const int fd = (int)strtol(argv[1], NULL, 10);
    const char *text = getenv("CT_TEXT");
    CT_REQUIRE(text != NULL);
    CT_REQUIRE(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    return 0;
}

PROC(wait_for_ever)
{
    ct_ready();
    for (;;) {
        (void)pause();
    }
    return 0;
}

PROC(leave_an_orphan)
{
    const pid_t pid = strcmp(argv[1], "outlives") == 0
                          ? ct_spawn_opts("wait_for_ever", NULL, .outlives = true)
                          : ct_spawn("wait_for_ever", NULL);
    CT_REQUIRE(ct_wait_ready(pid));
    const int fd = (int)strtol(argv[2], NULL, 10);
    CT_REQUIRE(write(fd, &pid, sizeof(pid)) == sizeof(pid));
    return 0;
}

TEST(CtProc, ReportsExitStatusSignalAndFailure)
{
    const char *args[] = {"42", NULL};
    EXPECT_EQ(ct_wait(ct_spawn("exit_with", args)), 42);
    EXPECT_EQ(ct_wait(ct_spawn("kill_itself", NULL)), 128 + SIGKILL);
    EXPECT_EQ(ct_wait(ct_spawn("fail_an_expectation", NULL)), CT_PROC_FAILED);
    EXPECT_EQ(ct_wait(ct_spawn("require_the_impossible", NULL)), CT_PROC_FAILED);
    EXPECT_EQ(ct_wait(ct_spawn("no_such_proc", NULL)), CT_PROC_FAILED);
    EXPECT_EQ(ct_wait(1), -1);
}

TEST(CtProc, StepsWithItsParentThroughReadyAndGo)
{
    const pid_t pid = ct_spawn("answer_go", NULL);
    ASSERT_TRUE(ct_wait_ready(pid));
    ASSERT_TRUE(ct_go(pid));
    ASSERT_TRUE(ct_wait_ready(pid));
    EXPECT_TRUE(ct_go(pid));
    EXPECT_EQ(ct_wait(pid), 1);
}

TEST(CtProc, WaitReadyEndsWhenTheChildDies)
{
    const pid_t pid = ct_spawn("kill_itself", NULL);
    EXPECT_FALSE(ct_wait_ready(pid));
    EXPECT_EQ(ct_wait(pid), 128 + SIGKILL);
}

TEST(CtProc, InheritsTheGivenDescriptorsAndEnvironment)
{
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    char number[16];
    (void)snprintf(number, sizeof(number), "%d", fds[1]);
    const char *args[] = {number, NULL};
    const char *env[] = {"CT_TEXT=hello", NULL};
    const pid_t pid =
        ct_spawn_opts("write_to_fd", args, .env = env, .inherit_fds = &fds[1], .n_inherit_fds = 1);
    EXPECT_EQ(close(fds[1]), 0);
    char text[16];
    EXPECT_EQ(ct_read_all(fds[0], text, sizeof(text)), 5);
    EXPECT_STREQ(text, "hello");
    EXPECT_EQ(close(fds[0]), 0);
    EXPECT_EQ(ct_wait(pid), 0);
}

/* A grandchild whose parent is gone; how is "dies" or "outlives". */
static void make_orphan(const char *how, pid_t *out_pid)
{
    int fds[2];
    ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
    char number[16];
    (void)snprintf(number, sizeof(number), "%d", fds[1]);
    const char *args[] = {how, number, NULL};
    const pid_t pid =
        ct_spawn_opts("leave_an_orphan", args, .inherit_fds = &fds[1], .n_inherit_fds = 1);
    EXPECT_EQ(close(fds[1]), 0);
    EXPECT_EQ(read(fds[0], out_pid, sizeof(*out_pid)), sizeof(*out_pid));
    EXPECT_EQ(close(fds[0]), 0);
    ASSERT_EQ(ct_wait(pid), 0);
}

/* Gone, or a zombie that nobody has collected yet. */
static bool is_dead(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return true;
    }
    char state = '?';
    const int n = fscanf(f, "%*d (%*[^)]) %c", &state);
    (void)fclose(f);
    return n == 1 && state == 'Z';
}

TEST(CtProc, DiesWithItsParentUnlessItOutlives)
{
    pid_t orphan = 0;
    ASSERT_NO_FATAL(make_orphan("dies", &orphan));
    EXPECT_TRUE(ct_eventually(is_dead(orphan), 10000));

    ASSERT_NO_FATAL(make_orphan("outlives", &orphan));
    EXPECT_FALSE(is_dead(orphan));
    EXPECT_EQ(kill(orphan, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(is_dead(orphan), 10000));
}

/* --- What fails, skips or ends the program ---------------------------------------------------- */

TEST(DISABLED_Broken, Leak)
{
    EXPECT_GE(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
}

TEST(DISABLED_Broken, Expect)
{
    const uint64_t n_rows = 7;
    EXPECT_EQ(n_rows, -1);
    EXPECT_STREQ("left", "right");
    (void)puts("still running");
    ASSERT_LT(n_rows, 3);
    (void)puts("not reached");
}

TEST(DISABLED_Broken, Status)
{
    const pint_error err = {.message = "chunk 3 of 'price' is leased"};
    EXPECT_OK(PINT_E_BUSY, &err);
}

static void assert_false(void)
{
    ASSERT_TRUE(false);
}

TEST(DISABLED_Broken, Helper)
{
    ASSERT_NO_FATAL(assert_false());
    (void)puts("not reached");
}

TEST(DISABLED_Broken, Abort)
{
    abort();
}

TEST(DISABLED_Broken, Timeout, .timeout_s = 1)
{
    for (;;) {
        (void)pause();
    }
}

TEST(DISABLED_Broken, ForgottenChild)
{
    EXPECT_TRUE(ct_wait_ready(ct_spawn("wait_for_ever", NULL)));
}

TEST(DISABLED_Broken, Skip)
{
    SKIP("no such device");
}

TEST(DISABLED_Broken, Tmpdir)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/below", ct_tmpdir());
    ASSERT_EQ(mkdir(path, 0700), 0);
    (void)printf("tmpdir=%s\n", ct_tmpdir());
}

/* Runs one of the above; out_text holds what it printed. */
static int run_broken(const char *name, char *out_text, size_t capacity)
{
    char filter[128];
    (void)snprintf(filter, sizeof(filter), "--gtest_filter=DISABLED_Broken.%s", name);
    const char *argv[] = {"/proc/self/exe", filter, "--gtest_also_run_disabled_tests",
                          "--gtest_color=no", NULL};
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return -1;
    }
    const pid_t pid = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = fds[1]});
    (void)close(fds[1]);
    (void)ct_read_all(fds[0], out_text, capacity);
    (void)close(fds[0]);
    return ct_wait(pid);
}

#define EXPECT_CONTAINS(text_, part_) EXPECT_TRUE(strstr((text_), (part_)) != NULL)

static char output[65536];

TEST(CtFailure, ALeakedDescriptorFailsTheTestAndIsNamed)
{
    EXPECT_EQ(run_broken("Leak", output, sizeof(output)), 1);
    EXPECT_CONTAINS(output, "leaked by the test: /dev/null");
}

TEST(CtFailure, ExpectGoesOnAndAssertReturns)
{
    EXPECT_EQ(run_broken("Expect", output, sizeof(output)), 1);
    EXPECT_CONTAINS(output, "expected: n_rows == -1");
    EXPECT_CONTAINS(output, "actual: 7 (0x7) vs -1");
    EXPECT_CONTAINS(output, "\"left\" vs \"right\"");
    EXPECT_CONTAINS(output, "still running");
    EXPECT_CONTAINS(output, "expected: n_rows < 3");
    EXPECT_CONTAINS(output, "ct_test.c:");
    EXPECT_TRUE(strstr(output, "not reached") == NULL);
}

TEST(CtFailure, AStatusIsPrintedWithNameAndMessage)
{
    EXPECT_EQ(run_broken("Status", output, sizeof(output)), 1);
    EXPECT_CONTAINS(output, pint_status_name(PINT_E_BUSY));
    EXPECT_CONTAINS(output, "chunk 3 of 'price' is leased");
}

TEST(CtFailure, AFatalFailureInAHelperStopsTheTest)
{
    EXPECT_EQ(run_broken("Helper", output, sizeof(output)), 1);
    EXPECT_TRUE(strstr(output, "not reached") == NULL);
}

TEST(CtFailure, AnAbortEndsTheProgramBySignal)
{
    EXPECT_EQ(run_broken("Abort", output, sizeof(output)), 128 + SIGABRT);
}

TEST(CtFailure, ATestThatHangsIsEnded)
{
    EXPECT_EQ(run_broken("Timeout", output, sizeof(output)), 124);
    EXPECT_CONTAINS(output, "DISABLED_Broken.Timeout: timeout after 1 s");
}

TEST(CtFailure, AChildThatIsLeftIsKilledAndFailsTheTest)
{
    EXPECT_EQ(run_broken("ForgottenChild", output, sizeof(output)), 1);
    EXPECT_CONTAINS(output, "was not waited for (status 137)");
}

TEST(CtSkip, IsReportedWithPlaceAndReason)
{
    EXPECT_EQ(run_broken("Skip", output, sizeof(output)), 0);
    EXPECT_CONTAINS(output, "[  SKIPPED ]");
    EXPECT_CONTAINS(output, "ct_test.c:");
    EXPECT_CONTAINS(output, "no such device");
}

TEST(CtTmpdir, IsRemovedWithItsContentsAfterTheTest)
{
    EXPECT_EQ(run_broken("Tmpdir", output, sizeof(output)), 0);
    const char *path = strstr(output, "tmpdir=");
    ASSERT_TRUE(path != NULL);
    path += strlen("tmpdir=");
    output[strlen(output) - strlen(path) + strcspn(path, "\n")] = '\0';
    EXPECT_EQ(path[0], '/');
    EXPECT_NE(access(path, F_OK), 0);
}

TEST(CtFailure, AFilterThatMatchesNothingRunsNothing)
{
    EXPECT_EQ(run_broken("NoSuchTest", output, sizeof(output)), 0);
    EXPECT_CONTAINS(output, "0 tests");
}
