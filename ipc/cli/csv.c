/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read a CSV file: open, feed the reader, convert column by column. A column's packed fields are
 * freed as soon as it is converted, so that the peak is one copy of the file plus the columns.
 */
#include "csv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "csv_reader.h"
#include "csv_value.h"
#include "infer.h"

#define CHUNK_BYTES (256u << 10)

typedef struct kind_row {
    const char *name;
    size_t item_bytes;
} kind_row;

static const kind_row kinds[] = {
    [PINTI_CSV_AUTO] = {"auto", 0},         [PINTI_CSV_BOOL] = {"bool", 1},
    [PINTI_CSV_INT8] = {"int8", 1},         [PINTI_CSV_INT16] = {"int16", 2},
    [PINTI_CSV_INT32] = {"int32", 4},       [PINTI_CSV_INT64] = {"int64", 8},
    [PINTI_CSV_UINT8] = {"uint8", 1},       [PINTI_CSV_UINT16] = {"uint16", 2},
    [PINTI_CSV_UINT32] = {"uint32", 4},     [PINTI_CSV_UINT64] = {"uint64", 8},
    [PINTI_CSV_FLOAT32] = {"float32", 4},   [PINTI_CSV_FLOAT64] = {"float64", 8},
    [PINTI_CSV_DATE32] = {"date32", 4},     [PINTI_CSV_TIMESTAMP] = {"timestamp", 8},
    [PINTI_CSV_CATEGORY] = {"category", 4}, [PINTI_CSV_TEXT] = {"text", 0},
};

static const char *const units[] = {
    [PINTI_CSV_UNIT_AUTO] = "",     [PINTI_CSV_SECOND] = "s",      [PINTI_CSV_MILLISECOND] = "ms",
    [PINTI_CSV_MICROSECOND] = "us", [PINTI_CSV_NANOSECOND] = "ns",
};

size_t pinti_csv_item_bytes(pinti_csv_kind kind)
{
    return kinds[kind].item_bytes;
}

const char *pinti_csv_type_name(const pinti_csv_type *type, char name[PINTI_CSV_TYPE_NAME_BYTES])
{
    const char *unit = type->kind == PINTI_CSV_TIMESTAMP ? units[type->unit] : "";
    const bool utc = type->kind == PINTI_CSV_TIMESTAMP && type->utc;
    (void)snprintf(name, PINTI_CSV_TYPE_NAME_BYTES, "%s%s%s%s%s", kinds[type->kind].name,
                   *unit != '\0' ? "[" : "", unit, *unit != '\0' ? "]" : "", utc ? ",UTC" : "");
    return name;
}

/* ---- type names ---- */

/* Does s begin with word? Then step over it. */
static bool skip_word(const char **s, const char *end, const char *word)
{
    const size_t n = strlen(word);
    if ((size_t)(end - *s) < n || memcmp(*s, word, n) != 0) {
        return false;
    }
    *s += n;
    return true;
}

/* What follows "timestamp": nothing, [unit], [unit,UTC] or [unit, UTC], then perhaps ",UTC". */
static bool parse_timestamp_rest(const char *s, const char *end, pinti_csv_type *type)
{
    if (skip_word(&s, end, "[")) {
        for (pinti_csv_unit unit = PINTI_CSV_SECOND; unit <= PINTI_CSV_NANOSECOND; unit++) {
            if (skip_word(&s, end, units[unit])) {
                type->unit = unit;
                break;
            }
        }
        type->utc = skip_word(&s, end, ",UTC") || skip_word(&s, end, ", UTC");
        if (type->unit == PINTI_CSV_UNIT_AUTO || !skip_word(&s, end, "]")) {
            return false;
        }
    }
    type->utc = (!type->utc && skip_word(&s, end, ",UTC")) || type->utc;
    return s == end;
}

bool pinti_csv_type_parse(const char *text, size_t text_bytes, pinti_csv_type *out_type)
{
    const char *end = text + text_bytes;
    for (pinti_csv_kind kind = PINTI_CSV_BOOL; kind <= PINTI_CSV_TEXT; kind++) {
        const char *s = text;
        if (kind != PINTI_CSV_TIMESTAMP && skip_word(&s, end, kinds[kind].name) && s == end) {
            *out_type = (pinti_csv_type){.kind = kind};
            return true;
        }
    }
    if (text_bytes == 4 && memcmp(text, "date", 4) == 0) {
        *out_type = (pinti_csv_type){.kind = PINTI_CSV_DATE32};
        return true;
    }
    pinti_csv_type type = {.kind = PINTI_CSV_TIMESTAMP};
    const char *s = text;
    if (!skip_word(&s, end, "timestamp") || !parse_timestamp_rest(s, end, &type)) {
        return false;
    }
    *out_type = type;
    return true;
}

/* ---- the file ---- */

/* Open path for reading through zlib, which passes plain files on as they are. */
static gzFile open_file(pinti_csv_reader *reader, const char *path, uint64_t *out_file_bytes)
{
    const bool standard_input = strcmp(path, "-") == 0;
    const int fd = standard_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                                  : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        const int error = errno;
        pinti_csv_reader_fail(reader, -error, "cannot open: %s", strerror(error));
        goto close_fd;
    }
    if (S_ISDIR(status.st_mode)) {
        pinti_csv_reader_fail(reader, -EISDIR, "cannot read: it is a directory");
        goto close_fd;
    }
    gzFile file = gzdopen(fd, "rb");
    if (file == NULL) {
        pinti_csv_reader_fail(reader, -ENOMEM, "out of memory");
        goto close_fd;
    }
    (void)gzbuffer(file, CHUNK_BYTES); /* only a bigger buffer; the default works too */
    *out_file_bytes = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
    return file;
close_fd:
    if (fd >= 0) {
        (void)close(fd);
    }
    return NULL;
}

/* The file gave fewer bytes than asked: its end, or an error. */
static void check_end(pinti_csv_reader *reader, gzFile file)
{
    const int system_error = errno;
    int code = Z_OK;
    (void)gzerror(file, &code); /* its text names the fd, not the file */
    switch (code) {
    case Z_OK:
    case Z_STREAM_END:
        break;
    case Z_ERRNO:
        pinti_csv_reader_fail(reader, system_error != 0 ? -system_error : -EIO, "cannot read: %s",
                              strerror(system_error));
        break;
    case Z_MEM_ERROR:
        pinti_csv_reader_fail(reader, -ENOMEM, "out of memory");
        break;
    case Z_BUF_ERROR:
        pinti_csv_reader_fail(reader, -EBADMSG, "the gzip data are cut off before their end");
        break;
    default:
        pinti_csv_reader_fail(reader, -EBADMSG, "the gzip data are damaged");
        break;
    }
}

static void report_progress(pinti_csv_reader *reader, gzFile file, uint64_t file_bytes)
{
    const pinti_csv_options *options = &reader->options;
    if (options->progress == NULL || reader->status != 0) {
        return;
    }
    const z_off_t at = gzoffset(file); /* -1 where the file cannot tell, as a pipe */
    if (options->progress(options->progress_arg, at < 0 ? 0 : (uint64_t)at, file_bytes) != 0) {
        pinti_csv_reader_fail(reader, -ECANCELED, "stopped");
    }
}

/* Read the whole file into the reader. */
static void read_file(pinti_csv_reader *reader, const char *path)
{
    uint64_t file_bytes;
    char *chunk = malloc(CHUNK_BYTES);
    if (chunk == NULL) {
        pinti_csv_reader_fail(reader, -ENOMEM, "out of memory");
        return;
    }
    gzFile file = open_file(reader, path, &file_bytes);
    if (file == NULL) {
        goto free_chunk;
    }
    bool first = true;
    bool more = true;
    while (more && reader->status == 0) {
        errno = 0;
        const int got = gzread(file, chunk, CHUNK_BYTES); /* short only at the end or an error */
        more = got == (int)CHUNK_BYTES;
        if (got > 0) {
            const size_t bom = first && got >= 3 && memcmp(chunk, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
            const int read_error = errno;
            pinti_csv_reader_feed(reader, chunk + bom, (size_t)got - bom);
            errno = read_error;
        }
        first = false;
        if (!more) {
            check_end(reader, file);
        }
        report_progress(reader, file, file_bytes);
    }
    if (reader->status == 0) {
        pinti_csv_reader_end(reader);
    }
    (void)gzclose_r(file); /* reading: nothing is left to fail */
free_chunk:
    free(chunk);
}

/* ---- columns ---- */

static void fail_misfit(pinti_csv_reader *reader, uint32_t column, const pinti_csv_misfit *misfit)
{
    char name[PINTI_CSV_SHOWN_BYTES];
    char value[PINTI_CSV_SHOWN_BYTES];
    char type[PINTI_CSV_TYPE_NAME_BYTES];
    const char *column_name = reader->names[column];
    pinti_csv_reader_fail(reader, -EBADMSG, "line %llu, column '%s': '%s' is not %s %s",
                          (unsigned long long)pinti_csv_reader_line(reader, misfit->row),
                          pinti_csv_value_show(column_name, strlen(column_name), name),
                          pinti_csv_value_show(misfit->text, misfit->text_bytes, value),
                          pinti_csv_type_name(&misfit->type, type), misfit->expected);
}

/* Convert the packed fields into out_table, whose columns take the names from the reader. */
static void convert_columns(pinti_csv_reader *reader, pinti_csv_table *out_table)
{
    pinti_csv_table table = {.n_rows = reader->n_rows, .n_columns = reader->n_columns};
    table.columns = calloc(table.n_columns, sizeof(*table.columns));
    if (table.columns == NULL) {
        pinti_csv_reader_fail(reader, -ENOMEM, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < table.n_columns && reader->status == 0; i++) {
        pinti_csv_misfit misfit;
        const int status =
            pinti_csv_infer(&reader->raws[i], &reader->wishes[i], &table.columns[i], &misfit);
        if (status == -EBADMSG) {
            fail_misfit(reader, i, &misfit);
        } else if (status != 0) {
            pinti_csv_reader_fail(reader, status, "out of memory converting column %u", i + 1);
        }
        pinti_csv_raw_done(&reader->raws[i]);
        table.columns[i].name = reader->names[i];
        reader->names[i] = NULL;
    }
    if (reader->status != 0) {
        pinti_csv_table_done(&table);
        return;
    }
    *out_table = table;
}

int pinti_csv_read(const char *path, const pinti_csv_options *options, pinti_csv_table *out_table,
                   char *message, size_t message_bytes)
{
    static const pinti_csv_options no_options = {0};
    pinti_csv_reader reader;
    pinti_csv_reader_init(&reader, strcmp(path, "-") == 0 ? "standard input" : path,
                          options != NULL ? options : &no_options, message, message_bytes);
    if (reader.status == 0) {
        read_file(&reader, path);
    }
    if (reader.status == 0) {
        convert_columns(&reader, out_table);
    }
    pinti_csv_reader_done(&reader);
    return reader.status;
}

void pinti_csv_table_done(pinti_csv_table *table)
{
    for (uint32_t i = 0; i < table->n_columns; i++) {
        pinti_csv_column *column = &table->columns[i];
        free(column->name);
        free(column->validity);
        free(column->values);
        free(column->strings.offsets);
        free(column->strings.data);
    }
    free(table->columns);
    *table = (pinti_csv_table){0};
}
