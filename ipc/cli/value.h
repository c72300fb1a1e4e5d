/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_VALUE_H
#define IPC_CLI_VALUE_H

/* One value of a table as text: for people, as CSV, as JSON. */

#include <stdio.h>

#include "pintable/column.h"

enum pinti_form {
    PINTI_FORM_GRID, /* for people: long values are cut, control characters escaped, null: null */
    PINTI_FORM_CSV,  /* RFC 4180, whole and unescaped: null is empty, empty text is "" */
    PINTI_FORM_JSON  /* numbers in full; NaN and infinities as strings; dates as ISO 8601 */
};

/*
 * Write the value of a row. Dates and timestamps are ISO 8601 with the digits of their unit, and Z
 * when the column has a zone (values are UTC then); binary is hexadecimal; lists are [a, b].
 *
 * A value that cannot be read (a code without category, offsets that cannot be) is written as ?, in
 * JSON null, and its status returned.
 */
pint_status pinti_value_print(FILE *out, const pint_column *column, uint64_t row,
                              enum pinti_form form, pint_error *err);

/* "timestamp[ms, UTC]", "dict_text[int8]", "list_fixed[float32, 768]", "binary_fixed[16]": the
 * caller frees it. Escaped for a terminal. */
char *pinti_value_type(const pint_column *column);

/* A field of a line of CSV, quoted where that is needed. */
void pinti_value_csv_text(FILE *out, const char *text, uint64_t bytes);

/* Are values of this type numbers, aligned to the right? */
int pinti_value_is_number(pint_type type);

/* "s", "ms", "us", "ns", or "" . */
const char *pinti_value_unit(pint_unit unit);

#endif
