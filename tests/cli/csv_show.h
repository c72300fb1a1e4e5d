/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CSV tests by example: a test writes a small file, and compares the whole table, printed as
 * "name type: value value null | name type: ...", or the error message without the path.
 */
#ifndef TESTS_CLI_CSV_SHOW_H
#define TESTS_CLI_CSV_SHOW_H

#include <stddef.h>

#include "ipc/cli/csv.h"

/* A path in the directory of the test, valid until the next call. */
const char *csv_file_path(const char *name);

/* Write n bytes to the file x.csv of the test; returns its path, valid as csv_file_path(). */
const char *csv_write_file(const void *bytes, size_t n);

/*
 * The table, or the error, which must begin with the path and leave the output alone. Valid until
 * the next call of a csv_show function.
 */
const char *csv_show_path(const char *path, const pinti_csv_options *options);

/* The same for a file with this text: with options, with one type asked for, with neither. */
const char *csv_show_options(const char *text, const pinti_csv_options *options);
const char *csv_show_as(const char *type, const char *text);
const char *csv_show(const char *text);

#endif
