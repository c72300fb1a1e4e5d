/* SPDX-License-Identifier: Apache-2.0 */
/* How values, tables and jobs are shown: every type in every form, what is torn, what failed. */

#include "ipc/cli/cli.h"
#include "ipc/cli/output.h"
#include "tests/cli/cli_run.h"
#include "tests/support/ct.h"

#include "host/word.h"
#include "ipc/copies.h"
#include "pintable/device.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pint_error err;

/* ---- a table of one column, filled by the test --------------------------------------------------
 */

typedef struct one_column {
    pint_pool *pool;
    pint_table *table;
    pint_column column;
} one_column;

static pint_field field_of(pint_type type)
{
    pint_field field = PINT_FIELD_INIT;
    field.name = "v";
    field.type = type;
    return field;
}

/* Create table "t" with n_rows rows of the field. */
static one_column make(const pint_field *field, uint64_t n_rows)
{
    one_column made = {.pool = cli_join()};
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = field;
    schema.n_fields = 1;
    if (made.pool != NULL) {
        EXPECT_OK(pint_table_create(made.pool, "t", &schema, n_rows, &made.table, &err), &err);
    }
    if (made.table != NULL) {
        EXPECT_OK(pint_table_column_at(made.table, 0, &made.column, &err), &err);
    }
    return made;
}

static void fill(one_column *made, const void *values, size_t bytes)
{
    memcpy(made->column.values, values, bytes);
}

/* Publish, run head in all forms, and leave. */
static void expect_shown(one_column *made, const char *grid, const char *csv, const char *json)
{
    EXPECT_OK(pint_table_publish(made->table, 0, &err), &err);
    EXPECT_EQ(CLI("head", "t"), 0);
    EXPECT_STREQ(cli_output, grid);
    EXPECT_EQ(CLI("head", "t", "--csv"), 0);
    EXPECT_STREQ(cli_output, csv);
    EXPECT_EQ(CLI("head", "t", "--json"), 0);
    EXPECT_STREQ(cli_output, json);
    cJSON *parsed = cJSON_Parse(cli_output);
    EXPECT_TRUE(parsed != NULL);
    cJSON_Delete(parsed);
    pint_table_close(made->table);
    pint_pool_leave(made->pool);
}

TEST(CliHead, IntegersInFull)
{
    CLI_SERVICE;
    const pint_field wide = field_of(PINT_UINT64);
    one_column made = make(&wide, 2);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const uint64_t[]){UINT64_MAX, 7}, 16);
    expect_shown(&made, "                   v\n18446744073709551615\n                   7\n",
                 "v\n18446744073709551615\n7\n",
                 "[\n {\"v\": 18446744073709551615},\n {\"v\": 7}\n]\n");
}

TEST(CliHead, NarrowIntegersKeepTheirSign)
{
    CLI_SERVICE;
    const pint_field narrow = field_of(PINT_INT8);
    one_column made = make(&narrow, 2);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const int8_t[]){-128, 127}, 2);
    expect_shown(&made, "   v\n-128\n 127\n", "v\n-128\n127\n",
                 "[\n {\"v\": -128},\n {\"v\": 127}\n]\n");
}

TEST(CliHead, FloatsAreTheShortestThatReadBack)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_FLOAT64);
    one_column made = make(&field, 7);
    ASSERT_TRUE(made.table != NULL);
    fill(&made,
         (const double[]){0.1, 0.1 + 0.2, 1e300, 123456789012.0, (double)NAN, (double)-INFINITY,
                          -0.0},
         56);
    expect_shown(&made,
                 "                  v\n                0.1\n0.30000000000000004\n"
                 "             1e+300\n       123456789012\n                NaN\n"
                 "          -Infinity\n                 -0\n",
                 "v\n0.1\n0.30000000000000004\n1e+300\n123456789012\nNaN\n-Infinity\n-0\n",
                 "[\n {\"v\": 0.1},\n {\"v\": 0.30000000000000004},\n {\"v\": 1e+300},\n"
                 " {\"v\": 123456789012},\n {\"v\": \"NaN\"},\n {\"v\": \"-Infinity\"},\n"
                 " {\"v\": -0}\n]\n");
}

TEST(CliHead, HalfFloats)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_FLOAT16);
    one_column made = make(&field, 6);
    ASSERT_TRUE(made.table != NULL);
    /* 0.1, the largest, the smallest, infinity, a third, the smallest normal one */
    fill(&made, (const uint16_t[]){0x2e66, 0x7bff, 0x0001, 0x7c00, 0x3555, 0x0400}, 12);
    expect_shown(&made,
                 "        v\n      0.1\n    65504\n    6e-08\n Infinity\n   0.3333\n6.104e-05\n",
                 "v\n0.1\n65504\n6e-08\nInfinity\n0.3333\n6.104e-05\n",
                 "[\n {\"v\": 0.1},\n {\"v\": 65504},\n {\"v\": 6e-08},\n {\"v\": \"Infinity\"},\n"
                 " {\"v\": 0.3333},\n {\"v\": 6.104e-05}\n]\n");
}

TEST(CliHead, NullsAndTruth)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_BOOL);
    field.flags = PINT_NULLABLE;
    one_column made = make(&field, 3);
    ASSERT_TRUE(made.table != NULL);
    EXPECT_OK(pint_column_set_bool(&made.column, 0, 1, &err), &err);
    EXPECT_OK(pint_column_set_null(&made.column, 0, 0, &err), &err);
    EXPECT_OK(pint_column_set_null(&made.column, 2, 0, &err), &err);
    expect_shown(&made, "v\ntrue\nnull\nfalse\n", "v\ntrue\n\nfalse\n",
                 "[\n {\"v\": true},\n {\"v\": null},\n {\"v\": false}\n]\n");
}

TEST(CliHead, DatesOfAllYears)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_DATE32);
    one_column made = make(&field, 6);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const int32_t[]){0, 11016, -1, INT32_MAX, INT32_MIN, -719528}, 24);
    expect_shown(
        &made,
        "v\n1970-01-01\n2000-02-29\n1969-12-31\n+5881580-07-11\n-5877641-06-23\n"
        "0000-01-01\n",
        "v\n1970-01-01\n2000-02-29\n1969-12-31\n+5881580-07-11\n-5877641-06-23\n"
        "0000-01-01\n",
        "[\n {\"v\": \"1970-01-01\"},\n {\"v\": \"2000-02-29\"},\n {\"v\": \"1969-12-31\"},\n"
        " {\"v\": \"+5881580-07-11\"},\n {\"v\": \"-5877641-06-23\"},\n"
        " {\"v\": \"0000-01-01\"}\n]\n");
}

TEST(CliHead, TimestampsWithUnitAndZone)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_TIMESTAMP);
    field.unit = PINT_MILLISECOND;
    field.zone = "Europe/Berlin";
    one_column made = make(&field, 3);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const int64_t[]){0, -1, 1577934245123}, 24);
    expect_shown(&made,
                 "v\n1970-01-01T00:00:00.000Z\n1969-12-31T23:59:59.999Z\n"
                 "2020-01-02T03:04:05.123Z\n",
                 "v\n1970-01-01T00:00:00.000Z\n1969-12-31T23:59:59.999Z\n"
                 "2020-01-02T03:04:05.123Z\n",
                 "[\n {\"v\": \"1970-01-01T00:00:00.000Z\"},\n"
                 " {\"v\": \"1969-12-31T23:59:59.999Z\"},\n"
                 " {\"v\": \"2020-01-02T03:04:05.123Z\"}\n]\n");
}

TEST(CliHead, TimestampsAtTheEndsOfTheRange)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_TIMESTAMP);
    field.unit = PINT_NANOSECOND;
    one_column made = make(&field, 2);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const int64_t[]){INT64_MIN, INT64_MAX}, 16);
    expect_shown(&made, "v\n1677-09-21T00:12:43.145224192\n2262-04-11T23:47:16.854775807\n",
                 "v\n1677-09-21T00:12:43.145224192\n2262-04-11T23:47:16.854775807\n",
                 "[\n {\"v\": \"1677-09-21T00:12:43.145224192\"},\n"
                 " {\"v\": \"2262-04-11T23:47:16.854775807\"}\n]\n");
}

TEST(CliHead, EmbeddingsAndBinary)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_LIST_FIXED);
    field.item_type = PINT_FLOAT32;
    field.list_length = 6;
    one_column made = make(&field, 1);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, (const float[]){0.1f, 2, -3, (float)NAN, 5, 6}, 24);
    expect_shown(&made, "v\n[0.1, 2, -3, NaN, … 2 more]\n", "v\n\"[0.1, 2, -3, NaN, 5, 6]\"\n",
                 "[\n {\"v\": [0.1, 2, -3, \"NaN\", 5, 6]}\n]\n");
    EXPECT_EQ(CLI("stop", "--force"), 0);
    field = field_of(PINT_BINARY_FIXED);
    field.width_bytes = 3;
    made = make(&field, 1);
    ASSERT_TRUE(made.table != NULL);
    fill(&made, "\x00\xff\x1b", 3);
    expect_shown(&made, "v\n00ff1b\n", "v\n00ff1b\n", "[\n {\"v\": \"00ff1b\"}\n]\n");
}

TEST(CliHead, TextCannotCommandATerminal)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_TEXT);
    field.data_bytes = 1000;
    one_column made = make(&field, 4);
    ASSERT_TRUE(made.table != NULL);
    EXPECT_OK(pint_column_put_text(&made.column, 0, "a\x1b[2J\"b\n", 8, &err), &err);
    EXPECT_OK(pint_column_put_text(&made.column, 1, "\xc2\x9b\xe2\x80\xa8x", 6, &err), &err);
    EXPECT_OK(pint_column_put_text(&made.column, 2, "h\xc3\xa9, \\", 6, &err), &err);
    EXPECT_OK(pint_column_put_text(&made.column, 3, "", 0, &err), &err);
    expect_shown(&made, "v\na\\x1B[2J\"b\\n\n\\u{9B}\\u{2028}x\nh\xc3\xa9, \\\n\n",
                 "v\n\"a\x1b[2J\"\"b\n\"\n\xc2\x9b\xe2\x80\xa8x\n\"h\xc3\xa9, \\\"\n\"\"\n",
                 "[\n {\"v\": \"a\\u001b[2J\\\"b\\n\"},\n {\"v\": \"\\u009b\\u2028x\"},\n"
                 " {\"v\": \"h\xc3\xa9, \\\\\"},\n {\"v\": \"\"}\n]\n");
}

TEST(CliHead, LongTextIsCutForPeopleOnly)
{
    CLI_SERVICE;
    char text[101];
    char line[128];
    memset(text, 'x', 100);
    text[100] = '\0';
    pint_field field = field_of(PINT_TEXT);
    field.data_bytes = 1000;
    one_column made = make(&field, 1);
    ASSERT_TRUE(made.table != NULL);
    EXPECT_OK(pint_column_put_text(&made.column, 0, text, 100, &err), &err);
    EXPECT_OK(pint_table_publish(made.table, 0, &err), &err);
    EXPECT_EQ(CLI("head", "t"), 0);
    (void)snprintf(line, sizeof(line), "v\n%.59s…\n", text);
    EXPECT_STREQ(cli_output, line);
    EXPECT_EQ(CLI("head", "t", "--csv"), 0);
    (void)snprintf(line, sizeof(line), "v\n%s\n", text);
    EXPECT_STREQ(cli_output, line);
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}

TEST(CliHead, AValueThatCannotBeReadIsAnError)
{
    CLI_SERVICE;
    pint_field field = field_of(PINT_DICT_TEXT);
    field.item_type = PINT_INT8;
    field.n_categories = 4;
    field.data_bytes = 100;
    one_column made = make(&field, 2);
    ASSERT_TRUE(made.table != NULL);
    int32_t code;
    EXPECT_OK(pint_column_add_category(&made.column, "red", 3, &code, &err), &err);
    fill(&made, (const int8_t[]){0, 3}, 2);
    EXPECT_OK(pint_table_publish(made.table, 0, &err), &err);
    EXPECT_EQ(CLI("head", "t"), 1);
    EXPECT_TRUE(cli_said("v\nred\n?\npintable: values that could not be read: 1, "));
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}

TEST(CliHead, ColumnsAndRowsAreChosen)
{
    CLI_SERVICE;
    const char *path = cli_file("a.csv", "\"x,y\",>z,c\n1,4,7\n2,5,8\n3,6,9\n");
    ASSERT_EQ(CLI("load", path, "t"), 0);
    EXPECT_EQ(CLI("head", "t", "-n", "1"), 0);
    EXPECT_STREQ(cli_output, "x,y  >z  c\n  1   4  7\n");
    EXPECT_EQ(CLI("head", "t", "-c", "c,>z", "-c", "x,y", "--csv", "--from=2"), 0);
    EXPECT_STREQ(cli_output, "c,>z,\"x,y\"\n9,6,3\n");
    EXPECT_EQ(CLI("head", "t", "-n", "0", "-j"), 0);
    EXPECT_STREQ(cli_output, "[]\n");
    EXPECT_EQ(CLI("head", "t", "--from", "99", "-c", "c"), 0);
    EXPECT_STREQ(cli_output, "c\n");
    EXPECT_EQ(CLI("head", "t", "-c", "c,nope"), 1);
    EXPECT_TRUE(cli_said("'nope'"));
    EXPECT_EQ(CLI("head", "nope"), 1);
    EXPECT_TRUE(cli_said("'nope'"));
}

/* ---- show and jobs
 * -------------------------------------------------------------------------------- */

static const cJSON *first_column(const cJSON *table)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(table, "columns"), 0);
}

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

PROC(die_holding)
{
    pint_pool *pool = NULL;
    pint_table *table;
    pint_column column;
    pint_lease lease;
    CT_REQUIRE(argc == 2 && pint_pool_join(argv[1], NULL, &pool, NULL) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_WRITE, &table, NULL) == PINT_OK);
    CT_REQUIRE(pint_table_column_at(table, 0, &column, NULL) == PINT_OK);
    CT_REQUIRE(pint_lease_claim(&column, 1, 1, PINT_UPDATE, 0, &lease, NULL) == PINT_OK);
    CT_REQUIRE(raise(SIGKILL) == 0);
    return 0;
}

static bool is_torn(void)
{
    bool torn = false;
    if (CLI("show", "t", "--json") == 0) {
        cJSON *table = cli_json();
        torn = number_of(first_column(table), "torn_chunks") > 0;
        cJSON_Delete(table);
    }
    return torn;
}

TEST(CliShow, TornChunksAreNamedWhereverTheyShow)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_INT32);
    one_column made = make(&field, 2000);
    ASSERT_TRUE(made.table != NULL);
    EXPECT_OK(pint_table_publish(made.table, 0, &err), &err);
    EXPECT_EQ(ct_wait(ct_spawn("die_holding", (const char *const[]){cli_address(), NULL})),
              128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(is_torn(), 10000));
    EXPECT_EQ(CLI("show", "t"), 0);
    EXPECT_TRUE(cli_said("\nv       int32      -  8.0 KiB     1     0\n"));
    EXPECT_EQ(CLI("head", "t", "-n1"), 0);
    EXPECT_STREQ(cli_output, "v\n0\n"); /* chunk 0 is fine */
    EXPECT_EQ(CLI("head", "t", "-n1", "--from", "512"), 0);
    EXPECT_TRUE(cli_said("v\n0\npintable: note: column 'v': 1 of these chunks are torn"));
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}

/* Chunk 0 done, chunk 1 failed three times, chunk 2 held, chunk 3 not yet taken. */
static pint_lease work_on(pint_job *job)
{
    pint_lease held[4];
    unsigned n_held = 0;
    bool failed = false;
    pint_lease kept = {0};
    while (!failed) {
        pint_lease lease;
        if (pint_job_next_timed(job, 1000, &lease, &err) != PINT_OK) {
            ct_fail(__FILE__, __LINE__, false, "next: %s", err.message);
            break;
        }
        if (lease.chunk == 0) {
            EXPECT_OK(pint_job_done(job, &lease, &err), &err);
        } else if (lease.chunk == 1) {
            pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
            EXPECT_OK(pint_job_fail(job, &lease, "disk\nfull", &err), &err);
            EXPECT_OK(pint_job_get_progress(job, &progress, &err), &err);
            failed = progress.n_failed == 1;
        } else if (lease.chunk == 2) {
            kept = lease;
        } else {
            held[n_held++] = lease;
        }
    }
    while (n_held-- > 0) { /* given back: counts as one attempt */
        EXPECT_OK(pint_job_fail(job, &held[n_held], NULL, &err), &err);
    }
    return kept;
}

TEST(CliJobs, ProgressAndFailures)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_INT32);
    one_column made = make(&field, 2000);
    ASSERT_TRUE(made.table != NULL);
    EXPECT_OK(pint_table_publish(made.table, 0, &err), &err);
    EXPECT_EQ(CLI("jobs"), 0);
    EXPECT_STREQ(cli_output, "TABLE  JOB  CHUNKS  DONE  FAILED  HELD  REDONE  AGE  STATE\n");
    const pint_use use = {.column = "v", .use = PINT_INOUT};
    pint_job *job = NULL;
    ASSERT_OK(pint_job_create(made.table, "norm", &use, 1, &job, &err), &err);
    pint_lease held = work_on(job);
    EXPECT_EQ(CLI("jobs", "t"), 0);
    EXPECT_TRUE(cli_said("\nt      norm       4     1       1     1 "));
    EXPECT_TRUE(cli_said(" open\n"));
    EXPECT_TRUE(cli_said("\nt/norm chunk 1 failed: disk?full\n"));
    EXPECT_EQ(CLI("jobs", "--json"), 0);
    cJSON *jobs = cli_json();
    const cJSON *shown = cJSON_GetArrayItem(jobs, 0);
    EXPECT_NEAR(number_of(shown, "chunks"), 4, 0);
    EXPECT_NEAR(number_of(shown, "done"), 1, 0);
    EXPECT_NEAR(number_of(shown, "failed"), 1, 0);
    EXPECT_NEAR(number_of(shown, "held"), 1, 0);
    EXPECT_TRUE(number_of(shown, "redone") >= 2);
    EXPECT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(shown, "finished")));
    cJSON_Delete(jobs);
    EXPECT_EQ(CLI("show", "t"), 0);
    EXPECT_TRUE(cli_said("\nv       int32      -  8.0 KiB     0     1\n"));
    EXPECT_TRUE(cli_said("\nnorm       4     1       1     1 "));
    EXPECT_OK(pint_job_done(job, &held, &err), &err);
    pint_job_close(job);
    EXPECT_OK(pint_job_drop(made.table, "norm", &err), &err);
    EXPECT_EQ(CLI("jobs", "--json"), 0);
    EXPECT_STREQ(cli_output, "[]\n");
    EXPECT_EQ(CLI("jobs", "nope"), 1);
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}

/* ---- text for people
 * ------------------------------------------------------------------------------ */

TEST(CliOutput, SizesAndTimes)
{
    char out[PINTI_OUT_ROOM];
    EXPECT_STREQ(pinti_out_bytes(out, 0), "0 B");
    EXPECT_STREQ(pinti_out_bytes(out, 1023), "1023 B");
    EXPECT_STREQ(pinti_out_bytes(out, 1024), "1.0 KiB");
    EXPECT_STREQ(pinti_out_bytes(out, (1u << 20) - 1), "1.0 MiB");
    EXPECT_STREQ(pinti_out_bytes(out, 1610612736), "1.5 GiB");
    EXPECT_STREQ(pinti_out_bytes(out, UINT64_MAX), "16.0 EiB");
    EXPECT_STREQ(pinti_out_seconds(out, 59), "59 s");
    EXPECT_STREQ(pinti_out_seconds(out, 61), "1 min 1 s");
    EXPECT_STREQ(pinti_out_seconds(out, 7320), "2 h 2 min");
    EXPECT_STREQ(pinti_out_seconds(out, 90000), "1 d 1 h");
    EXPECT_STREQ(pinti_out_moment(out, 1000000000ull * 1000000000), "2001-09-09T01:46:40Z");
}

TEST(CliOutput, BytesOnTheCommandLine)
{
    uint64_t bytes = 0;
    EXPECT_TRUE(pinti_args_bytes("x", "0", &bytes));
    EXPECT_EQ(bytes, 0);
    EXPECT_TRUE(pinti_args_bytes("x", "1k", &bytes));
    EXPECT_EQ(bytes, 1024);
    EXPECT_TRUE(pinti_args_bytes("x", "3MB", &bytes));
    EXPECT_EQ(bytes, 3u << 20);
    EXPECT_TRUE(pinti_args_bytes("x", "2GiB", &bytes));
    EXPECT_EQ(bytes, 2ull << 30);
    EXPECT_FALSE(pinti_args_bytes("x", "", &bytes));
    EXPECT_FALSE(pinti_args_bytes("x", "1KiBx", &bytes));
    EXPECT_FALSE(pinti_args_bytes("x", "1Ki", &bytes));
    EXPECT_FALSE(pinti_args_bytes("x", "G", &bytes));
    EXPECT_FALSE(pinti_args_bytes("x", "18446744073709551616", &bytes));
    EXPECT_FALSE(pinti_args_bytes("x", "18446744073709551615K", &bytes));
}

TEST(CliOutput, WidthCountsColumnsOfATerminal)
{
    EXPECT_EQ(pinti_out_width("abc"), 3);
    EXPECT_EQ(pinti_out_width("h\xc3\xa9"), 2);
    EXPECT_EQ(pinti_out_width(""), 0);
}

/* ---- added columns ----------------------------------------------------------------------------
 */

TEST(CliShow, AddedColumnsAreShownCountedAndPrinted)
{
    CLI_SERVICE;
    const pint_field field = field_of(PINT_INT32);
    pint_field added = field_of(PINT_DICT_TEXT);
    pint_table *from = NULL;
    pint_column column;
    int32_t code;
    added.name = "added";
    added.item_type = PINT_INT8;
    added.n_categories = 4;
    added.data_bytes = 64;
    one_column made = make(&field, 2);
    ASSERT_TRUE(made.table != NULL);
    ASSERT_OK(pint_table_publish(made.table, 0, &err), &err);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &added;
    schema.n_fields = 1;
    schema.chunk_rows = pint_table_chunk_rows(made.table);
    ASSERT_OK(pint_table_create(made.pool, "donor", &schema, 2, &from, &err), &err);
    ASSERT_OK(pint_table_column_at(from, 0, &column, &err), &err);
    ASSERT_OK(pint_column_add_category(&column, "red", 3, &code, &err), &err);
    EXPECT_EQ(CLI("ls"), 0);
    EXPECT_TRUE(strstr(cli_output, "donor") == NULL); /* not while it is made */
    ASSERT_OK(pint_table_add_columns(made.table, from, &err), &err);
    EXPECT_EQ(CLI("head", "t"), 0);
    EXPECT_STREQ(cli_output, "v  added\n0  red\n0  red\n");
    ASSERT_EQ(CLI("show", "t", "--json"), 0);
    cJSON *table = cli_json();
    const cJSON *columns = cJSON_GetObjectItem(table, "columns");
    EXPECT_EQ(cJSON_GetArraySize(columns), 2);
    const cJSON *item = cJSON_GetArrayItem(columns, 1);
    EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(item, "name")), "added");
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(item, "categories")), 1);
    const double bytes = cJSON_GetNumberValue(cJSON_GetObjectItem(table, "bytes"));
    EXPECT_EQ(bytes, (double)pint_table_bytes(made.table));
    cJSON_Delete(table);
    ASSERT_EQ(CLI("show", "t"), 0);
    EXPECT_TRUE(strstr(cli_output, "\nadded ") != NULL);
    ASSERT_EQ(CLI("ls", "--json"), 0);
    cJSON *tables = cli_json();
    EXPECT_EQ(cJSON_GetArraySize(tables), 1);
    item = cJSON_GetArrayItem(tables, 0);
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(item, "columns")), 2);
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(item, "bytes")), bytes);
    cJSON_Delete(tables);
    ASSERT_EQ(CLI("stat", "--json"), 0);
    cJSON *stat = cli_json();
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(stat, "used_bytes")), bytes);
    cJSON_Delete(stat);
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}

/* ---- device copies ----------------------------------------------------------------------------
 */

TEST(CliShow, CopiesAndDevicesAreListed)
{
    static const uint8_t uuid[16] = {0xab, 0xcd};
    CLI_SERVICE;
    const pint_field field = field_of(PINT_FLOAT64);
    one_column made = make(&field, 4096);
    uint32_t device = 0;
    pinti_opened_copy copy;
    ASSERT_OK(pint_table_publish(made.table, 0, &err), &err);
    EXPECT_EQ(CLI("show", "t"), 0);
    EXPECT_FALSE(cli_said("COPY OF"));
    ASSERT_OK(pinti_request_device(made.pool, uuid, false, "host", &device, &err), &err);
    ASSERT_OK(pinti_request_copy(&made.column, device, 0, true, &copy, &err), &err);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_a64 *words = pinti_column_desc_own(&made.column)->words;
    pinti_store64_seq(&words[0], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2u));
    pinti_store64_seq(&words[1], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u));
    EXPECT_EQ(CLI("show", "t"), 0);
    EXPECT_TRUE(cli_said("COPY OF"));
    EXPECT_TRUE(cli_said("host    vmm"));
    EXPECT_EQ(CLI("show", "--json", "t"), 0);
    cJSON *json = cli_json();
    const cJSON *column = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "columns"), 0);
    const cJSON *shown = cJSON_GetArrayItem(cJSON_GetObjectItem(column, "copies"), 0);
    EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(shown, "uuid")),
                 "abcd0000000000000000000000000000");
    EXPECT_STREQ(cJSON_GetStringValue(cJSON_GetObjectItem(shown, "kind")), "vmm");
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(shown, "current_chunks")), 2.0);
    EXPECT_EQ(cJSON_GetNumberValue(cJSON_GetObjectItem(shown, "alone_chunks")), 1.0);
    cJSON_Delete(json);
    EXPECT_EQ(CLI("stat"), 0);
    EXPECT_TRUE(cli_said("abcd0000000000000000000000000000  host"));
    pinti_copy_release(made.pool, copy.index, copy.generation);
    pint_table_close(made.table);
    pint_pool_leave(made.pool);
}
