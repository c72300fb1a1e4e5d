/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Callbacks of libcsv that pack fields into columns. libcsv gives fields and record ends, no
 * positions: line numbers are counted from the record ends (CSV_REPALL_NL reports every CR and LF
 * outside quotes) and from the line ends inside quoted fields.
 *
 * Invariant between records: field == 0 and every raw has n_rows rows.
 */
#include "csv_reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_value.h"

#define MAX_COLUMNS       (1u << 20) /* a header longer than this is not a table */
#define FIELD_STEP_BYTES  (1u << 16) /* libcsv grows a long field by this much at a time */
#define DEFAULT_DELIMITER ','

void pinti_csv_reader_fail(pinti_csv_reader *reader, int status, const char *format, ...)
{
    if (reader->status != 0) {
        return;
    }
    reader->status = status;
    if (reader->message == NULL || reader->message_bytes == 0) {
        return;
    }
    const int used = snprintf(reader->message, reader->message_bytes, "%s: ", reader->shown_path);
    if (used >= 0 && (size_t)used < reader->message_bytes) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(reader->message + used, reader->message_bytes - (size_t)used, format,
                        arguments);
        va_end(arguments);
    }
}

static void fail_memory(pinti_csv_reader *reader)
{
    pinti_csv_reader_fail(reader, -ENOMEM, "out of memory after %llu rows",
                          (unsigned long long)reader->n_rows);
}

/* libcsv trims what this accepts; fields are to stay as they are. */
static int no_space(unsigned char c)
{
    (void)c;
    return 0;
}

/* ---- line numbers ---- */

/* Line ends inside a quoted field: LF, CRLF or CR. */
static uint64_t count_line_ends(const char *s, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += s[i] == '\n' || (s[i] == '\r' && (i + 1 == n || s[i + 1] != '\n'));
    }
    return count;
}

/* Note where row n_rows starts. */
static bool note_line(pinti_csv_reader *reader)
{
    const uint64_t line = reader->record_line;
    if (reader->n_rows == 0) {
        reader->first_line = line;
        reader->last_line = line;
        return true;
    }
    const uint64_t step = line - reader->last_line - 1;
    reader->last_line = line;
    if (reader->steps == NULL && step == 0) {
        return true;
    }
    if (reader->steps == NULL ||
        reader->steps_room - reader->steps_bytes < PINTI_CSV_VARINT_BYTES) {
        const size_t room = reader->steps_room * 2 + 4096;
        unsigned char *steps = realloc(reader->steps, room);
        if (steps == NULL) {
            return false;
        }
        if (reader->steps == NULL) {
            reader->first_step = reader->n_rows;
        }
        reader->steps = steps;
        reader->steps_room = room;
    }
    reader->steps_bytes += pinti_csv_varint_put(reader->steps + reader->steps_bytes, step);
    return true;
}

uint64_t pinti_csv_reader_line(const pinti_csv_reader *reader, uint64_t row)
{
    uint64_t line = reader->first_line + row;
    size_t at = 0;
    for (uint64_t i = reader->first_step; i <= row && at < reader->steps_bytes; i++) {
        uint64_t step;
        at += pinti_csv_varint_get(reader->steps + at, &step);
        line += step;
    }
    return line;
}

/* ---- header ---- */

static void add_name(pinti_csv_reader *reader, const char *text, size_t n)
{
    if (n == 0) {
        pinti_csv_reader_fail(reader, -EBADMSG, "line %llu: column %u has no name",
                              (unsigned long long)reader->record_line, reader->n_columns + 1);
        return;
    }
    if (reader->n_columns == MAX_COLUMNS) {
        pinti_csv_reader_fail(reader, -EBADMSG, "line %llu: more than %u columns",
                              (unsigned long long)reader->record_line, MAX_COLUMNS);
        return;
    }
    if (reader->n_columns == reader->columns_room) {
        const uint32_t room = reader->columns_room * 2 + 16;
        char **names = realloc(reader->names, room * sizeof(*names));
        if (names == NULL) {
            fail_memory(reader);
            return;
        }
        reader->names = names;
        reader->columns_room = room;
    }
    char *name = malloc(n + 1);
    if (name == NULL) {
        fail_memory(reader);
        return;
    }
    memcpy(name, text, n);
    name[n] = '\0';
    reader->names[reader->n_columns++] = name;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(**(char **const *)a, **(char **const *)b);
}

/* Sort pointers into names, so that equal names meet and the positions stay known. */
static void check_unique(pinti_csv_reader *reader)
{
    const uint32_t n = reader->n_columns;
    char ***sorted = malloc(n * sizeof(*sorted));
    if (sorted == NULL) {
        fail_memory(reader);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        sorted[i] = &reader->names[i];
    }
    qsort(sorted, n, sizeof(*sorted), compare_names);
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(*sorted[i - 1], *sorted[i]) == 0) {
            const long one = sorted[i - 1] - reader->names;
            const long other = sorted[i] - reader->names;
            char shown[PINTI_CSV_SHOWN_BYTES];
            pinti_csv_reader_fail(reader, -EBADMSG,
                                  "line %llu: columns %ld and %ld have the same name '%s'",
                                  (unsigned long long)reader->record_line,
                                  (one < other ? one : other) + 1, (one < other ? other : one) + 1,
                                  pinti_csv_value_show(*sorted[i], strlen(*sorted[i]), shown));
            break;
        }
    }
    free(sorted);
}

/* Put a wish "column=TYPE" (checked by check_wishes()) where it belongs. */
static void place_wish(pinti_csv_reader *reader, const char *wish)
{
    const char *equals = strrchr(wish, '=');
    const size_t name_bytes = (size_t)(equals - wish);
    char shown[PINTI_CSV_SHOWN_BYTES];
    for (uint32_t i = 0; i < reader->n_columns; i++) {
        if (strlen(reader->names[i]) != name_bytes ||
            memcmp(reader->names[i], wish, name_bytes) != 0) {
            continue;
        }
        if (reader->wishes[i].kind != PINTI_CSV_AUTO) {
            pinti_csv_reader_fail(reader, -EINVAL, "two types are given for column '%s'",
                                  pinti_csv_value_show(wish, name_bytes, shown));
        }
        (void)pinti_csv_type_parse(equals + 1, strlen(equals + 1), &reader->wishes[i]);
        return;
    }
    pinti_csv_reader_fail(reader, -EINVAL, "there is no column '%s' to give the type %s",
                          pinti_csv_value_show(wish, name_bytes, shown), equals + 1);
}

static void end_header(pinti_csv_reader *reader)
{
    check_unique(reader);
    if (reader->status != 0) {
        return;
    }
    reader->raws = calloc(reader->n_columns, sizeof(*reader->raws));
    reader->wishes = calloc(reader->n_columns, sizeof(*reader->wishes));
    if (reader->raws == NULL || reader->wishes == NULL) {
        fail_memory(reader);
        return;
    }
    for (uint32_t i = 0; i < reader->options.n_types; i++) {
        place_wish(reader, reader->options.types[i]);
    }
    reader->header_done = true;
}

/* ---- records ---- */

static bool is_listed_null(const pinti_csv_options *options, const char *text, size_t n)
{
    for (uint32_t i = 0; i < options->n_nulls; i++) {
        if (strlen(options->nulls[i]) == n && memcmp(options->nulls[i], text, n) == 0) {
            return true;
        }
    }
    return false;
}

/* The default spellings other than the empty one, by hand: this runs for every field. */
static bool is_default_null(const char *text, size_t n)
{
    return (n == 2 && text[0] == 'N' && text[1] == 'A') ||
           (n == 3 && memcmp(text, "N/A", 3) == 0) ||
           (n == 4 && (memcmp(text, "null", 4) == 0 || memcmp(text, "NULL", 4) == 0));
}

/* text NULL: empty and not quoted. */
static void add_value(pinti_csv_reader *reader, const char *text, size_t n)
{
    bool null;
    if (n == 0) {
        null = reader->empty_is_null && (text == NULL || reader->options.quoted_null);
    } else if (reader->default_nulls) {
        null = is_default_null(text, n);
    } else {
        null = is_listed_null(&reader->options, text, n);
    }
    const char *value = null ? NULL : n == 0 ? "" : text;
    if (!pinti_csv_raw_add(&reader->raws[reader->field], value, null ? 0 : n)) {
        fail_memory(reader);
    }
}

static void fail_utf8(pinti_csv_reader *reader, const char *text, size_t n, size_t valid)
{
    char column[PINTI_CSV_SHOWN_BYTES] = "";
    char shown[PINTI_CSV_SHOWN_BYTES];
    const size_t from = valid > 8 ? valid - 8 : 0; /* show the place, not the start */
    const char *name = reader->header_done ? reader->names[reader->field] : "";
    pinti_csv_reader_fail(reader, -EBADMSG,
                          "line %llu, column %llu%s%s%s: byte %llu of the value is not UTF-8, at "
                          "'%s'; convert the file to UTF-8 first",
                          (unsigned long long)reader->record_line,
                          (unsigned long long)reader->field + 1, *name == '\0' ? "" : " '",
                          pinti_csv_value_show(name, strlen(name), column),
                          *name == '\0' ? "" : "'", (unsigned long long)valid + 1,
                          pinti_csv_value_show(text + from, n - from, shown));
}

/* libcsv: a field ended. field is NULL when it is empty and not quoted. */
static void on_field(void *field, size_t n, void *argument)
{
    pinti_csv_reader *reader = argument;
    const char *text = field;
    if (reader->status != 0) {
        return;
    }
    if (reader->field == 0) {
        reader->record_line = reader->line;
        reader->after_cr = false;
    }
    if (reader->header_done && reader->field >= reader->n_columns) {
        reader->field++; /* only counted, on_record_end() complains with the total */
        return;
    }
    if (reader->seen_quote && n > 0) {
        reader->line += count_line_ends(text, n);
    }
    if (reader->seen_high && n > 0) {
        const size_t valid = pinti_csv_value_utf8_prefix(text, n);
        if (valid < n) {
            fail_utf8(reader, text, n, valid);
            return;
        }
    }
    if (!reader->header_done) {
        add_name(reader, text, n);
    } else {
        add_value(reader, text, n);
    }
    reader->field++;
}

static void end_row(pinti_csv_reader *reader)
{
    if (reader->field != reader->n_columns) {
        pinti_csv_reader_fail(
            reader, -EBADMSG, "line %llu: %llu field%s, but the header has %u column%s",
            (unsigned long long)reader->record_line, (unsigned long long)reader->field,
            reader->field == 1 ? "" : "s", reader->n_columns, reader->n_columns == 1 ? "" : "s");
        return;
    }
    if (!note_line(reader)) {
        fail_memory(reader);
        return;
    }
    reader->n_rows++;
}

/* libcsv: CR or LF outside quotes, or -1 for the end of the file after a record without either. */
static void on_record_end(int c, void *argument)
{
    pinti_csv_reader *reader = argument;
    if (reader->status != 0) {
        return;
    }
    const bool blank = reader->field == 0;
    if (blank && c == '\n' && reader->after_cr) {
        reader->after_cr = false;
        return;
    }
    if (blank && reader->header_done && reader->n_columns == 1) {
        on_field(NULL, 0, reader);
        end_row(reader);
    } else if (!blank && reader->header_done) {
        end_row(reader);
    } else if (!blank) {
        end_header(reader);
    }
    reader->field = 0;
    reader->line++;
    reader->after_cr = c == '\r';
}

/* ---- feeding ---- */

static void check_wishes(pinti_csv_reader *reader)
{
    for (uint32_t i = 0; i < reader->options.n_types; i++) {
        const char *wish = reader->options.types[i];
        const char *equals = strrchr(wish, '=');
        pinti_csv_type type;
        if (equals == NULL || equals == wish) {
            pinti_csv_reader_fail(reader, -EINVAL, "type '%s' is not of the form COLUMN=TYPE",
                                  wish);
        } else if (!pinti_csv_type_parse(equals + 1, strlen(equals + 1), &type)) {
            pinti_csv_reader_fail(
                reader, -EINVAL,
                "'%s' in '%s' is not a type; types are bool, int8 to int64, uint8 to uint64, "
                "float32, float64, date, timestamp[s|ms|us|ns][,UTC], category, text",
                equals + 1, wish);
        }
    }
}

void pinti_csv_reader_init(pinti_csv_reader *reader, const char *shown_path,
                           const pinti_csv_options *options, char *message, size_t message_bytes)
{
    *reader = (pinti_csv_reader){.shown_path = shown_path,
                                 .options = *options,
                                 .default_nulls = options->nulls == NULL,
                                 .empty_is_null =
                                     options->nulls == NULL || is_listed_null(options, "", 0),
                                 .message_bytes = message_bytes,
                                 .line = 1,
                                 .record_line = 1};
    reader->message = message;
    char delimiter = DEFAULT_DELIMITER;
    if (options->delimiter != '\0') {
        delimiter = options->delimiter;
    }
    (void)csv_init(&reader->parser, CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL |
                                        CSV_EMPTY_IS_NULL); /* cannot fail with a parser */
    csv_set_delim(&reader->parser, (unsigned char)delimiter);
    csv_set_space_func(&reader->parser, no_space);
    csv_set_blk_size(&reader->parser, FIELD_STEP_BYTES);
    if (delimiter == '"' || delimiter == '\r' || delimiter == '\n' ||
        (unsigned char)delimiter >= 0x80) {
        pinti_csv_reader_fail(reader, -EINVAL,
                              "the delimiter must be one ASCII character other than a quote, CR "
                              "or LF");
    }
    check_wishes(reader);
}

void pinti_csv_reader_done(pinti_csv_reader *reader)
{
    for (uint32_t i = 0; i < reader->n_columns; i++) {
        free(reader->names[i]);
        if (reader->raws != NULL) {
            pinti_csv_raw_done(&reader->raws[i]);
        }
    }
    free(reader->names);
    free(reader->raws);
    free(reader->wishes);
    free(reader->steps);
    csv_free(&reader->parser);
}

/* Line of the record that is being read, whether or not a field of it has ended. */
static unsigned long long current_line(const pinti_csv_reader *reader)
{
    return reader->field > 0 ? reader->record_line : reader->line;
}

/* Is a byte >= 0x80 among n? */
static bool has_high(const char *bytes, size_t n)
{
    uint64_t all = 0;
    for (; n >= sizeof(all); n -= sizeof(all), bytes += sizeof(all)) {
        uint64_t word;
        memcpy(&word, bytes, sizeof(word));
        all |= word;
    }
    for (; n > 0; n--, bytes++) {
        all |= (unsigned char)*bytes;
    }
    return (all & UINT64_C(0x8080808080808080)) != 0;
}

void pinti_csv_reader_feed(pinti_csv_reader *reader, const char *bytes, size_t n)
{
    const char *nul = memchr(bytes, '\0', n);
    const size_t n_clean = nul != NULL ? (size_t)(nul - bytes) : n;
    reader->seen_quote = reader->seen_quote || memchr(bytes, '"', n) != NULL;
    reader->seen_high = reader->seen_high || has_high(bytes, n);
    const size_t n_parsed =
        csv_parse(&reader->parser, bytes, n_clean, on_field, on_record_end, reader);
    if (n_parsed < n_clean) {
        if (csv_error(&reader->parser) == CSV_EPARSE) {
            pinti_csv_reader_fail(
                reader, -EBADMSG,
                "line %llu, field %llu: a quote in the middle; a field with quotes must be in "
                "quotes, and each quote inside it doubled",
                current_line(reader), (unsigned long long)reader->field + 1);
        }
        fail_memory(reader); /* the only other reason; keeps an error that is set */
    } else if (nul != NULL) {
        pinti_csv_reader_fail(reader, -EBADMSG,
                              "line %llu, field %llu: a NUL byte; this is not CSV text in UTF-8",
                              current_line(reader), (unsigned long long)reader->field + 1);
    }
}

void pinti_csv_reader_end(pinti_csv_reader *reader)
{
    if (reader->status == 0 && csv_fini(&reader->parser, on_field, on_record_end, reader) != 0) {
        pinti_csv_reader_fail(reader, -EBADMSG,
                              "line %llu, field %llu: the quote that opens it is never closed",
                              current_line(reader), (unsigned long long)reader->field + 1);
    }
    if (!reader->header_done) {
        pinti_csv_reader_fail(reader, -EBADMSG,
                              "the file is empty; it must begin with a line of column names");
    }
}
