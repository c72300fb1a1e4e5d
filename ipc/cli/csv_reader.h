/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From CSV bytes to packed columns: records, header, nulls, line numbers, and the checks of
 * everything that is wrong with a file before types matter. Internal to csv.c and csv_reader.c.
 */
#ifndef PINTABLE_IPC_CLI_CSV_READER_H
#define PINTABLE_IPC_CLI_CSV_READER_H

#include <csv.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csv.h"
#include "csv_raw.h"

#ifndef LIBCSV_H__
#    error "<csv.h> is not libcsv: keep ipc/cli out of the include path"
#endif

typedef struct pinti_csv_reader {
    const char *shown_path;
    pinti_csv_options options;
    bool default_nulls;
    bool empty_is_null; /* the empty text is among the null spellings */
    char *message;      /* the caller's, message_bytes long; may be NULL with 0 */
    size_t message_bytes;
    int status; /* the first error, 0 so far; callbacks of libcsv do nothing once it is set */

    struct csv_parser parser;
    bool seen_quote; /* since then a field can hold a line end */
    bool seen_high;  /* a byte >= 0x80: since then fields are checked for UTF-8 */

    char **names; /* n_columns; the header while header_done is false */
    pinti_csv_raw *raws;
    pinti_csv_type *wishes; /* n_columns, after the header */
    uint32_t n_columns;
    uint32_t columns_room; /* of names */
    bool header_done;
    uint64_t n_rows;

    uint64_t field;       /* fields of the current record so far */
    uint64_t line;        /* physical line of the next byte, from 1, up to the current field */
    uint64_t record_line; /* where the current record starts */
    bool after_cr;        /* the last byte was a CR that ended a line: LF belongs to it */

    /* Line numbers of the rows: row 0 starts at first_line; row i at 1 + steps[i] lines below row
     * i - 1. Most files have only zero steps, so nothing is stored before the first other one;
     * after that steps holds varints, from row first_step on. */
    uint64_t first_line;
    uint64_t first_step;
    uint64_t last_line;
    unsigned char *steps; /* NULL: all zero */
    size_t steps_bytes;
    size_t steps_room;
} pinti_csv_reader;

/* Check the options and prepare. On failure the error is set; pinti_csv_reader_done() in any case.
 */
void pinti_csv_reader_init(pinti_csv_reader *reader, const char *shown_path,
                           const pinti_csv_options *options, char *message, size_t message_bytes);
void pinti_csv_reader_done(pinti_csv_reader *reader);

/* Take the next bytes of the file. Errors are in reader->status. */
void pinti_csv_reader_feed(pinti_csv_reader *reader, const char *bytes, size_t n);

/* The file ended: finish the last record and check that there was a header. */
void pinti_csv_reader_end(pinti_csv_reader *reader);

/* Line where a row (from 0) starts. */
uint64_t pinti_csv_reader_line(const pinti_csv_reader *reader, uint64_t row);

/* Set the error unless one is set already; the message gets the path in front. */
__attribute__((format(printf, 3, 4))) void
pinti_csv_reader_fail(pinti_csv_reader *reader, int status, const char *format, ...);

#endif
