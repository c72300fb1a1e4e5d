/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read a CSV file into typed columns in ordinary (process-local) memory.
 *
 * Input: RFC 4180 with a header line, UTF-8 (a BOM is skipped), lines ended by LF, CRLF or CR;
 * plain or gzip. A field is taken as it stands: spaces are never trimmed. Blank lines are skipped,
 * except in a file of one column, where a blank line is the record of one empty field.
 *
 * Types are inferred from every value of the file, never from a sample. A column takes the first
 * of these that every value that is not null fits:
 *   bool       true false TRUE FALSE True False (0 and 1 are integers)
 *   int64      [+-]digits without leading zeros; "-0" is not one (an integer has no -0)
 *   uint64     the same, when a value exceeds int64 and none is negative
 *   float64    decimal with '.', optional exponent, or [+-]inf, infinity, nan in any case; nothing
 *              is lost silently: a column with an integer that float64 cannot hold exactly, or a
 *              value that overflows to infinity or underflows to zero, is text. "007" and "007.5"
 *              are text (codes, not numbers), and so are hexadecimal and more than 511 bytes
 *   date32     YYYY-MM-DD, a real day of the years 0001 to 9999
 *   timestamp  date, 'T' or space, hh:mm[:ss[.1 to 9 digits]], then Z or +hh:mm (+hhmm, +hh) in
 *              all values or in none. The most fraction digits in the column choose s, ms, us or
 *              ns; with zones the values become UTC. hh is 00 to 23 and ss 00 to 59
 *   category   distinct <= values / 2 and distinct <= max(256, values / 20)
 *   text       everything else
 * A column without any value is float64, all null.
 *
 * A type asked for by the caller is more lenient where the wish is clear: integers and floats may
 * have leading zeros, integers may be "-0", bool takes 0 and 1, timestamp takes a bare date as
 * midnight; and strict elsewhere: a value that does not fit is an error.
 */
#ifndef PINTABLE_IPC_CLI_CSV_H
#define PINTABLE_IPC_CLI_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pinti_csv_kind {
    PINTI_CSV_AUTO = 0, /* in a wish: infer; never in a result */
    PINTI_CSV_BOOL,     /* values: uint8_t, 0 or 1 */
    PINTI_CSV_INT8,
    PINTI_CSV_INT16,
    PINTI_CSV_INT32,
    PINTI_CSV_INT64,
    PINTI_CSV_UINT8,
    PINTI_CSV_UINT16,
    PINTI_CSV_UINT32,
    PINTI_CSV_UINT64,
    PINTI_CSV_FLOAT32,
    PINTI_CSV_FLOAT64,
    PINTI_CSV_DATE32,    /* values: int32_t days since 1970-01-01 */
    PINTI_CSV_TIMESTAMP, /* values: int64_t units since 1970-01-01T00:00:00 */
    PINTI_CSV_CATEGORY,  /* values: int32_t index into strings, numbered by first appearance */
    PINTI_CSV_TEXT,      /* no values; row i is strings entry i */
} pinti_csv_kind;

typedef enum pinti_csv_unit {
    PINTI_CSV_UNIT_AUTO = 0, /* in a wish: from the data; in a result: not a timestamp */
    PINTI_CSV_SECOND,
    PINTI_CSV_MILLISECOND,
    PINTI_CSV_MICROSECOND,
    PINTI_CSV_NANOSECOND,
} pinti_csv_unit;

typedef struct pinti_csv_type {
    pinti_csv_kind kind;
    pinti_csv_unit unit; /* timestamp only */
    bool utc;            /* timestamp only; in a wish: values without a zone are UTC too */
} pinti_csv_type;

/* Entry i is data[offsets[i]] to data[offsets[i + 1]]; UTF-8, no NUL, not terminated. */
typedef struct pinti_csv_strings {
    uint64_t n;
    int64_t *offsets; /* n + 1, bytes from data, the first is 0 */
    char *data;       /* offsets[n] bytes; never NULL */
} pinti_csv_strings;

typedef struct pinti_csv_column {
    char *name; /* UTF-8, not empty, unique in the table */
    pinti_csv_type type;
    uint64_t n_null;
    /* Bit i, least significant first, set: row i has a value. Whole 8-byte words, unused bits
     * 0. NULL when n_null is 0. */
    uint8_t *validity;
    /* n_rows items of pinti_csv_item_bytes(); NULL for text. Null rows hold NaN in floats, -1 in
     * category and 0 elsewhere, so that code that ignores validity does no harm. */
    void *values;
    pinti_csv_strings strings; /* text: one entry per row; category: the dictionary; else zero */
} pinti_csv_column;

typedef struct pinti_csv_table {
    uint64_t n_rows;
    uint32_t n_columns;
    pinti_csv_column *columns;
} pinti_csv_table;

/*
 * Called about every 256 KiB. read_bytes counts the file as stored (compressed); file_bytes is its
 * size, 0 when not known (a pipe). Return non-zero to stop reading.
 */
typedef int (*pinti_csv_progress)(void *arg, uint64_t read_bytes, uint64_t file_bytes);

/* All zero gives the defaults. Strings and lists are borrowed for the call. */
typedef struct pinti_csv_options {
    char delimiter; /* one ASCII byte, not a quote, CR or LF; 0: ',' */
    /* Texts that mean "no value"; NULL: the empty field, NA, N/A, null, NULL. The empty text
     * matches an unquoted empty field only ("" is an empty string), unless quoted_null; the
     * others match quoted or not, because libcsv does not tell. */
    const char *const *nulls;
    uint32_t n_nulls; /* with nulls; 0: nothing is null */
    bool quoted_null; /* a quoted empty field is null too, for writers that quote everything */
    /* Wishes "column=TYPE", split at the last '='; see pinti_csv_type_parse(). */
    const char *const *types;
    uint32_t n_types;
    pinti_csv_progress progress; /* may be NULL */
    void *progress_arg;
} pinti_csv_options;

/*
 * Read path ("-": standard input, which stays open) into out_table.
 *
 * Creates the table: pinti_csv_table_done() frees it. Memory at the peak is about the size of the
 * uncompressed file plus the columns returned. options may be NULL.
 *
 * On error out_table is untouched and message (may be NULL with size 0) says file, line where the
 * record starts, column, value (clipped, control characters escaped) and what was expected.
 * Returns 0, or -EINVAL for options, -EBADMSG for contents, -ENOMEM, -ECANCELED when progress
 * stopped it, or the negative errno of the system call that failed.
 */
int pinti_csv_read(const char *path, const pinti_csv_options *options, pinti_csv_table *out_table,
                   char *message, size_t message_bytes);

/* Free what a table holds and zero it; a zero table is allowed. */
void pinti_csv_table_done(pinti_csv_table *table);

/*
 * Parse bool, int8 to int64, uint8 to uint64, float32, float64, date (date32), category, text,
 * timestamp, timestamp[s|ms|us|ns]; for UTC append ",UTC" or write it in the brackets as Arrow
 * does: timestamp[ms, UTC]. False: not a type, out_type untouched.
 */
bool pinti_csv_type_parse(const char *text, size_t text_bytes, pinti_csv_type *out_type);

#define PINTI_CSV_TYPE_NAME_BYTES 32 /* room for every type name with its NUL */

/* Write the name that pinti_csv_type_parse() reads; returns name. */
const char *pinti_csv_type_name(const pinti_csv_type *type, char name[PINTI_CSV_TYPE_NAME_BYTES]);

/* Bytes of one item of values; 0 for text. */
size_t pinti_csv_item_bytes(pinti_csv_kind kind);

#endif
