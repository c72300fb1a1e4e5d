/* SPDX-License-Identifier: Apache-2.0 */
/* The program pintable from outside: arguments, exit statuses, load, and what changes the service.
 */

#include "ipc/cli/cli.h"
#include "tests/cli/cli_run.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/layout.h"

static const char small_csv[] = "id,price,name\n1,1.5,ann\n2,,bob\n3,2.25,\"c,d\"\n";

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static const char *const commands[] = {"serve", "ls",      "show",   "head",   "load",  "drop",
                                       "jobs",  "stat",    "ping",   "evict",  "quota", "keep",
                                       "stop",  "devices", "copies", "discard"};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

TEST(CliUsage, HelpNamesEveryCommandAndExitStatus)
{
    ASSERT_EQ(CLI("--help"), 0);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char line[32];
        (void)snprintf(line, sizeof(line), "\n  %-7s ", commands[i]);
        EXPECT_TRUE(cli_said(line));
    }
    EXPECT_TRUE(cli_said("exit status: 0 "));
    EXPECT_EQ(CLI("help"), 0);
    EXPECT_TRUE(cli_said("usage: pintable "));
}

TEST(CliUsage, EveryCommandHasHelp)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        EXPECT_EQ(CLI(commands[i], "--help"), 0);
        EXPECT_TRUE(cli_said("sage: pintable")); /* serve shows pintabled's own */
        EXPECT_EQ(CLI("help", commands[i]), 0);
        EXPECT_TRUE(cli_said("usage: pintable "));
        EXPECT_TRUE(cli_said(commands[i]));
    }
}

TEST(CliUsage, VersionIsPrinted)
{
    EXPECT_EQ(CLI("--version"), 0);
    EXPECT_STREQ(cli_output, "pintable " PINT_VERSION_STRING "\n");
    EXPECT_EQ(CLI("-V"), 0);
}

TEST(CliUsage, WrongCommandLinesAre64)
{
    EXPECT_EQ(cli_run((const char *const[]){cli_program, NULL}), 64);
    EXPECT_EQ(CLI("frob"), 64);
    EXPECT_STREQ(cli_output, "pintable: unknown command 'frob'; see 'pintable --help'\n");
    EXPECT_EQ(CLI("--frob"), 64);
    EXPECT_EQ(CLI("--address"), 64);
    EXPECT_EQ(CLI("ls", "--frob"), 64);
    EXPECT_STREQ(cli_output, "pintable: ls: unknown option '--frob'; see 'pintable ls --help'\n");
    EXPECT_EQ(CLI("ls", "-x"), 64);
    EXPECT_EQ(CLI("ls", "extra"), 64);
    EXPECT_EQ(CLI("ls", "--json=yes"), 64);
    EXPECT_EQ(CLI("show"), 64);
    EXPECT_STREQ(cli_output, "pintable: usage: pintable show [OPTION]... NAME\n");
    EXPECT_EQ(CLI("show", "a", "b"), 64);
    EXPECT_EQ(CLI("drop"), 64);
    EXPECT_EQ(CLI("head", "x", "-n"), 64);
    EXPECT_EQ(CLI("head", "x", "-n", "-1"), 64);
    EXPECT_EQ(CLI("head", "x", "-n", "1x"), 64);
    EXPECT_EQ(CLI("head", "x", "--rows=18446744073709551616"), 64);
    EXPECT_EQ(CLI("head", "x", "--json", "--csv"), 64);
    EXPECT_EQ(CLI("evict", "xyz"), 64);
    EXPECT_EQ(CLI("evict", "12345678901234567"), 64);
    EXPECT_EQ(CLI("quota", "10X"), 64);
    EXPECT_EQ(CLI("quota", "-1"), 64);
    EXPECT_EQ(CLI("quota", "99999999T"), 64);
    EXPECT_EQ(CLI("load", "only-one"), 64);
    EXPECT_EQ(CLI("load", "a", "b", "--chunk-rows", "1000"), 64);
    EXPECT_EQ(CLI("load", "a", "b", "--delimiter", "ab"), 64);
    EXPECT_EQ(CLI("help", "frob"), 64);
    EXPECT_NE(access(cli_address(), F_OK), 0); /* nothing was started */
}

TEST(CliUsage, ControlCharactersAreEscaped)
{
    EXPECT_EQ(CLI("show", "a\x1b[31mb"), 64);
    EXPECT_TRUE(cli_said("'a\\x1B[31mb' cannot be the name of a table"));
    EXPECT_EQ(CLI("l\ns"), 64);
    EXPECT_TRUE(cli_said("unknown command 'l\\ns'"));
    EXPECT_EQ(CLI("ls", "--\xff\xc2\x9b\xe2\x80\xa8"), 64);
    EXPECT_TRUE(cli_said("'--\\xFF\\u{9B}\\u{2028}'"));
    EXPECT_EQ(CLI("drop", "x", "a/b"), 64);
    EXPECT_EQ(CLI("keep", ""), 64);
    EXPECT_EQ(CLI("jobs", "\xff"), 64);
}

TEST(CliUsage, StatusesOfTheLibraryMapToExitStatuses)
{
    EXPECT_EQ(pinti_cli_exit_of(PINT_OK), 0);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_NOT_FOUND), 1);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_EXISTS), 1);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_QUOTA), 1);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_DROPPED), 1);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_TIMEOUT), 2);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_BUSY), 2);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_NO_SERVICE), 69);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_GONE), 69);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_VERSION), 69);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_PROTOCOL), 70);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_NO_MEMORY), 70);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_CORRUPT), 70);
    EXPECT_EQ(pinti_cli_exit_of(PINT_E_PERMISSION), 77);
}

/* ---- no service ------------------------------------------------------------------------------ */

static void expect_no_service(void)
{
    EXPECT_TRUE(cli_said("pintable: no service "));
    EXPECT_TRUE(cli_said("('pintable serve' starts one)\n"));
}

TEST(CliNoService, NothingButLoadStartsOne)
{
    static const char *const lines[][2] = {{"ls", NULL},   {"show", "x"},     {"head", "x"},
                                           {"jobs", NULL}, {"stat", NULL},    {"ping", NULL},
                                           {"drop", "x"},  {"evict", "0001"}, {"quota", "1G"},
                                           {"keep", "x"},  {"stop", NULL}};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        EXPECT_EQ(CLI(lines[i][0], lines[i][1]), 69);
        expect_no_service();
    }
    EXPECT_NE(access(cli_address(), F_OK), 0);
    ASSERT_EQ(mkdir(cli_address(), 0700), 0); /* the folder is there, nobody listens */
    EXPECT_EQ(CLI("ls"), 69);
    expect_no_service();
    EXPECT_EQ(CLI("ping"), 69);
    expect_no_service();
}

TEST(CliNoService, AFileThatCannotBeReadStartsNone)
{
    EXPECT_EQ(CLI("load", "/nonexistent/file.csv", "x"), 1);
    EXPECT_TRUE(cli_said("pintable: /nonexistent/file.csv: "));
    EXPECT_TRUE(cli_said("No such file or directory"));
    EXPECT_EQ(CLI("load", cli_file("bad.csv", "a\n1\nx\n"), "x", "-t", "a=int8"), 1);
    EXPECT_EQ(CLI("ping"), 69);
}

/* ---- load ------------------------------------------------------------------------------------ */

TEST(CliLoad, ReportsWhatItMade)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "small"), 0);
    EXPECT_TRUE(cli_said("small: 3 rows, 3 columns, "));
    ASSERT_EQ(CLI("ls", "--json"), 0);
    cJSON *tables = cli_json();
    ASSERT_EQ(cJSON_GetArraySize(tables), 1);
    const cJSON *table = cJSON_GetArrayItem(tables, 0);
    EXPECT_STREQ(text_of(table, "name"), "small");
    EXPECT_NEAR(number_of(table, "rows"), 3, 0);
    EXPECT_NEAR(number_of(table, "columns"), 3, 0);
    EXPECT_NEAR(number_of(table, "jobs"), 0, 0);
    EXPECT_TRUE(cJSON_IsTrue(cJSON_GetObjectItem(table, "kept")));
    EXPECT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(table, "frozen")));
    cJSON_Delete(tables);
    ASSERT_EQ(CLI("ls"), 0);
    EXPECT_EQ(strncmp(cli_output, "NAME   ROWS  COLUMNS", 20), 0);
    EXPECT_TRUE(cli_said("\nsmall     3        3"));
    EXPECT_TRUE(cli_said("kept\n"));
}

TEST(CliLoad, TypesComeFromTheValuesOrTheUser)
{
    CLI_SERVICE;
    const char *path = cli_file("t.csv", "b,i,f,d,t,z,c,n\n"
                                         "true,1,1.5,2020-01-02,2020-01-02 03:04,"
                                         "2020-01-02T03:04:05.123Z,x,7\n"
                                         "false,2,,2020-01-03,2020-01-02 03:05,"
                                         "2020-01-02T03:04:05Z,x,8\n");
    ASSERT_EQ(CLI("load", path, "t", "--type", "n=uint16"), 0);
    ASSERT_EQ(CLI("show", "t"), 0);
    EXPECT_TRUE(cli_said("\nb       bool8 "));
    EXPECT_TRUE(cli_said("\ni       int64 "));
    EXPECT_TRUE(cli_said("\nf       float64                 1 "));
    EXPECT_TRUE(cli_said("\nd       date32                  - "));
    EXPECT_TRUE(cli_said("\nt       timestamp[s] "));
    EXPECT_TRUE(cli_said("\nz       timestamp[ms, UTC] "));
    EXPECT_TRUE(cli_said("\nc       dict_text[int8] "));
    EXPECT_TRUE(cli_said(" 1 of 17\n"));
    EXPECT_TRUE(cli_said("\nn       uint16 "));
    EXPECT_TRUE(cli_said("\nchunks   1 of 512 rows\n"));
}

TEST(CliLoad, ValuesComeBackAsCsv)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "small"), 0);
    ASSERT_EQ(CLI("head", "small", "--csv"), 0);
    EXPECT_STREQ(cli_output, small_csv);
    ASSERT_EQ(CLI("head", "small", "--csv", "--columns", "name,id", "-n1", "--from", "2"), 0);
    EXPECT_STREQ(cli_output, "name,id\n\"c,d\",3\n");
    ASSERT_EQ(CLI("load", cli_file("b.csv", "a;b\n-9;\"x\ny\"\n0;z\n"), "b", "-d;", "--null=-9",
                  "--chunk-rows", "4096", "--type", "b=text"),
              0);
    ASSERT_EQ(CLI("head", "b", "--csv"), 0);
    EXPECT_STREQ(cli_output, "a,b\n,\"x\ny\"\n0,z\n");
    ASSERT_EQ(CLI("show", "b", "--json"), 0);
    cJSON *table = cli_json();
    EXPECT_NEAR(number_of(table, "chunk_rows"), 4096, 0);
    cJSON_Delete(table);
}

TEST(CliLoad, CategoriesTakeTheNarrowestCodesThatLeaveRoom)
{
    CLI_SERVICE;
    static const struct {
        unsigned n;
        const char *says;
    } cases[] = {{103, " dict_text[int8] "},    {103, " 103 of 128\n"},
                 {104, " dict_text[int16] "},   {104, " 104 of 130\n"},
                 {26215, " dict_text[int16] "}, {26215, " 26215 of 32768\n"},
                 {26216, " dict_text[int32] "}, {26216, " 26216 of 32770\n"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "%u.csv", cases[i].n);
        FILE *file = fopen(cli_file(name, ""), "we");
        ASSERT_TRUE(file != NULL);
        (void)fputs("c\n", file);
        for (unsigned k = 0; k < 3 * cases[i].n; k++) {
            (void)fprintf(file, "c%u\n", k % cases[i].n);
        }
        ASSERT_EQ(fclose(file), 0);
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/%s", ct_tmpdir(), name);
        ASSERT_EQ(CLI("load", path, "c", "--replace", "--type=c=category"), 0);
        ASSERT_EQ(CLI("show", "c"), 0);
        EXPECT_TRUE(cli_said(cases[i].says));
    }
    ASSERT_EQ(CLI("head", "c", "--csv", "--from", "26215", "-n", "2"), 0);
    EXPECT_STREQ(cli_output, "c\nc26215\nc0\n");
}

TEST(CliLoad, CategoriesCanBeAddedAfterwards)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("c.csv", "c\nred\nNA\nred\n"), "c", "-tc=category"), 0);
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    pint_table *table = NULL;
    pint_column column;
    int32_t code = -1;
    pint_error err = {0};
    EXPECT_OK(pint_table_open(pool, "c", PINT_WRITE, &table, &err), &err);
    EXPECT_OK(pint_table_column(table, "c", &column, &err), &err);
    EXPECT_EQ(((const int8_t *)column.values)[1], -1);
    EXPECT_OK(pint_column_add_category(&column, "red", 3, &code, &err), &err);
    EXPECT_EQ(code, 0);
    EXPECT_OK(pint_column_add_category(&column, "green", 5, &code, &err), &err);
    EXPECT_EQ(code, 1);
    ((int8_t *)column.values)[2] = 1;
    pint_table_close(table);
    ASSERT_EQ(CLI("head", "c"), 0);
    EXPECT_STREQ(cli_output, "c\nred\nnull\ngreen\n");
    pint_pool_leave(pool);
}

TEST(CliLoad, ReadsGzipAndStandardInput)
{
    CLI_SERVICE;
    char line[2048];
    const char *path = cli_file("a.csv", small_csv);
    (void)snprintf(line, sizeof(line),
                   "gzip -k '%s' && '%s' load '%s.gz' zipped && '%s' load - piped < '%s'", path,
                   cli_program, path, cli_program, path);
    ASSERT_EQ(cli_run((const char *const[]){"/bin/sh", "-c", line, NULL}), 0);
    ASSERT_EQ(CLI("head", "zipped", "--csv"), 0);
    EXPECT_STREQ(cli_output, small_csv);
    ASSERT_EQ(CLI("head", "piped", "--csv"), 0);
    EXPECT_STREQ(cli_output, small_csv);
}

TEST(CliLoad, AHeaderAloneIsATableWithoutRows)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("h.csv", "a,b\n"), "h", "-tb=text"), 0);
    EXPECT_TRUE(cli_said("h: 0 rows, 2 columns, "));
    ASSERT_EQ(CLI("head", "h", "--json"), 0);
    EXPECT_STREQ(cli_output, "[]\n");
    ASSERT_EQ(CLI("head", "h"), 0);
    EXPECT_STREQ(cli_output, "a  b\n");
}

TEST(CliLoad, AWrongValueIsNamedAndNothingIsLoaded)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "small"), 0);
    const char *path = cli_file("bad.csv", "id,n\n1,10\n2,2\x1b[2J0\n");
    EXPECT_EQ(CLI("load", path, "bad", "--type", "n=int32"), 1);
    EXPECT_TRUE(cli_said("bad.csv: line 3, column 'n': "));
    EXPECT_TRUE(strchr(cli_output, '\x1b') == NULL);
    EXPECT_TRUE(cli_said("int32"));
    EXPECT_EQ(CLI("load", path, "small", "--replace", "--type", "n=int32"), 1);
    EXPECT_EQ(CLI("load", cli_file("r.csv", "a,b\n1,2\n3\n"), "bad"), 1);
    EXPECT_TRUE(cli_said("r.csv: line 3"));
    EXPECT_EQ(CLI("load", path, "bad", "--type", "nope=int32"), 64);
    EXPECT_EQ(CLI("load", path, "bad", "--type", "n=nope"), 64);
    EXPECT_EQ(CLI("load", ct_tmpdir(), "bad"), 1);
    ASSERT_EQ(CLI("ls", "--json"), 0);
    cJSON *tables = cli_json();
    EXPECT_EQ(cJSON_GetArraySize(tables), 1);
    EXPECT_NEAR(number_of(cJSON_GetArrayItem(tables, 0), "rows"), 3, 0);
    cJSON_Delete(tables);
}

TEST(CliLoad, ATakenNameNeedsReplace)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "t"), 0);
    EXPECT_EQ(CLI("load", cli_file("b.csv", "x\n1\n"), "t"), 1);
    EXPECT_TRUE(cli_said("there is a table 't'; --replace"));
    ASSERT_EQ(CLI("head", "t", "--csv"), 0);
    EXPECT_STREQ(cli_output, small_csv);
    ASSERT_EQ(CLI("load", cli_file("b.csv", "x\n1\n"), "t", "--replace"), 0);
    ASSERT_EQ(CLI("head", "t", "--csv"), 0);
    EXPECT_STREQ(cli_output, "x\n1\n");
}

TEST(CliLoad, AFamilysTableGoesWithTheFamily)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "kept"), 0);
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "mine", "--family"), 0);
    EXPECT_TRUE(ct_eventually(CLI("show", "mine") == 1, 5000));
    EXPECT_TRUE(cli_said("no table 'mine'"));
    EXPECT_EQ(CLI("show", "kept"), 0);
    EXPECT_EQ(CLI("keep", "kept", "--off"), 0);
    EXPECT_TRUE(ct_eventually(CLI("show", "kept") == 1, 5000));
}

TEST(CliLoad, OverTheBudgetFails)
{
    CLI_SERVICE;
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "small"), 0);
    ASSERT_EQ(CLI("quota", "4M"), 0);
    const char *path = cli_file("big.csv", "");
    FILE *file = fopen(path, "we");
    ASSERT_TRUE(file != NULL);
    (void)fputs("a\n", file);
    for (int i = 0; i < 700000; i++) {
        (void)fputs("1\n", file);
    }
    ASSERT_EQ(fclose(file), 0);
    EXPECT_EQ(CLI("load", path, "big"), 1);
    EXPECT_TRUE(cli_said("budget"));
    EXPECT_EQ(CLI("load", path, "big", "-ta=int8"), 0);
}

TEST(CliLoad, ATerminalSeesProgressOnOneLine)
{
    CLI_SERVICE;
    const char *path = cli_file("a.csv", small_csv);
    ASSERT_EQ(cli_run_in_terminal((const char *const[]){cli_program, "load", path, "t", NULL}), 0);
    EXPECT_TRUE(cli_said("\r\033[Kmaking the table, "));
    EXPECT_TRUE(cli_said("\r\033[Kt: 3 rows, 3 columns, ")); /* what was there is wiped away */
    ASSERT_EQ(CLI("load", path, "u"), 0);
    EXPECT_TRUE(strchr(cli_output, '\r') == NULL);
}

/* ---- drop, keep, stop and others ---------------------------------------------------------------
 */

TEST(CliDrop, OneThatIsMissingDoesNotKeepTheOthers)
{
    CLI_SERVICE;
    const char *path = cli_file("a.csv", small_csv);
    ASSERT_EQ(CLI("load", path, "a"), 0);
    ASSERT_EQ(CLI("load", path, "b"), 0);
    EXPECT_EQ(CLI("drop", "a", "nope", "b"), 1);
    EXPECT_TRUE(cli_said("'nope'"));
    ASSERT_EQ(CLI("ls", "--json"), 0);
    cJSON *tables = cli_json();
    EXPECT_EQ(cJSON_GetArraySize(tables), 0);
    cJSON_Delete(tables);
    EXPECT_EQ(CLI("drop", "a"), 1);
}

TEST(CliAdmin, PingStatAndQuota)
{
    CLI_SERVICE;
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    char id[32];
    (void)snprintf(id, sizeof(id), "%016llx", (unsigned long long)pint_pool_session(pool));
    EXPECT_EQ(CLI("ping"), 0);
    EXPECT_TRUE(cli_said("pintabled " PINT_VERSION_STRING " at "));
    EXPECT_EQ(CLI("quota", "64MiB"), 0);
    EXPECT_STREQ(cli_output, "budget 64.0 MiB (67108864 bytes)\n");
    EXPECT_EQ(CLI("stat"), 0);
    EXPECT_TRUE(cli_said("\nbudget      64.0 MiB\n"));
    EXPECT_TRUE(cli_said(id));
    ASSERT_EQ(CLI("stat", "--json"), 0);
    cJSON *stat = cli_json();
    EXPECT_NEAR(number_of(stat, "budget_bytes"), 67108864, 0);
    EXPECT_TRUE(text_of(stat, "address") != NULL);
    const cJSON *session =
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(stat, "sessions"), 0);
    EXPECT_STREQ(text_of(session, "id"), id);
    EXPECT_NEAR(number_of(session, "pid"), getpid(), 0);
    cJSON_Delete(stat);
    pint_pool_leave(pool);
}

/* More sessions than one answer of the service holds. */
TEST(CliAdmin, StatShowsEverySession)
{
    enum { N_SESSIONS = 260 };
    CLI_SERVICE;
    static pint_pool *pools[N_SESSIONS];
    unsigned n = 0;
    while (n < N_SESSIONS) {
        pools[n] = cli_join();
        if (pools[n] == NULL) {
            break;
        }
        n++;
    }
    EXPECT_EQ(CLI("stat", "--json"), 0);
    cJSON *stat = cli_json();
    EXPECT_EQ(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(stat, "sessions")), N_SESSIONS);
    cJSON_Delete(stat);
    while (n-- > 0) {
        pint_pool_leave(pools[n]);
    }
}

PROC(hold_session)
{
    pint_pool *pool = NULL;
    CT_REQUIRE(argc == 2 && pint_pool_join(argv[1], NULL, &pool, NULL) == PINT_OK);
    (void)printf("%016llx\n", (unsigned long long)pint_pool_session(pool));
    CT_REQUIRE(fflush(stdout) == 0);
    for (;;) {
        (void)pause();
    }
}

TEST(CliAdmin, EvictKillsTheProcessOfASession)
{
    CLI_SERVICE;
    int ends[2];
    char id[64] = "";
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ct_spawn_opts("hold_session", ((const char *const[]){cli_address(), NULL}),
                                      .output_fd = ends[1]);
    (void)close(ends[1]);
    (void)ct_read_all(ends[0], id, 18); /* its number and the end of the line */
    (void)close(ends[0]);
    ASSERT_EQ(strlen(id), 17);
    id[16] = '\0';
    EXPECT_EQ(CLI("stop"), 1); /* two sessions are joined */
    EXPECT_TRUE(cli_said("sessions are joined"));
    EXPECT_EQ(CLI("evict", id), 0);
    EXPECT_EQ(ct_wait(child), 128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(CLI("evict", id) == 1, 5000)); /* not there any more */
    pint_pool_leave(pool);
}

TEST(CliAdmin, StopReturnsWhenTheServiceHasGone)
{
    CLI_SERVICE;
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    EXPECT_EQ(CLI("stop", "--force"), 0);
    EXPECT_EQ(CLI("ping"), 69);
    pint_pool_leave(pool);
}

TEST(CliAdmin, ServeBecomesTheService)
{
    CLI_SERVICE;
    char address[600];
    int ends[2];
    char ready[8] = "";
    (void)snprintf(address, sizeof(address), "--address=%s", cli_address());
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const char *const argv[] = {cli_program, address, "serve", "--budget", "64M", NULL};
    const pid_t service = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = ends[1]});
    (void)close(ends[1]);
    (void)ct_read_all(ends[0], ready, 6);
    EXPECT_STREQ(ready, "ready");
    EXPECT_EQ(CLI("stat"), 0);
    EXPECT_TRUE(cli_said("\nbudget      64.0 MiB\n"));
    EXPECT_EQ(CLI("serve"), 69); /* the address is taken */
    EXPECT_EQ(CLI("stop"), 0);
    EXPECT_EQ(ct_wait(service), 0);
    (void)close(ends[0]);
}

TEST(CliAdmin, ALostOutputIsAnError)
{
    CLI_SERVICE;
    char line[1024];
    ASSERT_EQ(CLI("load", cli_file("a.csv", small_csv), "t"), 0);
    (void)snprintf(line, sizeof(line), "'%s' head t > /dev/full", cli_program);
    EXPECT_EQ(cli_run((const char *const[]){"/bin/sh", "-c", line, NULL}), 70);
    EXPECT_STREQ(cli_output, "pintable: cannot write to standard output\n");
}
