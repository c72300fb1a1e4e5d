/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of single CSV values to numbers, dates and instants. All functions look at exactly n bytes
 * (no NUL needed), do not depend on the process locale, and leave their outputs untouched when the
 * text does not fit. `lenient` is the reading of a type that the user asked for, see csv.h.
 */
#ifndef PINTABLE_IPC_CLI_CSV_VALUE_H
#define PINTABLE_IPC_CLI_CSV_VALUE_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool pinti_csv_value_bool(const char *s, size_t n, bool lenient, uint8_t *out_value);

/* An integer as sign and magnitude, so that the caller checks its own range. */
typedef struct pinti_csv_integer {
    bool negative;
    uint64_t magnitude;
} pinti_csv_integer;

bool pinti_csv_value_integer(const char *s, size_t n, bool lenient, pinti_csv_integer *out_value);

/* c_locale is the "C" locale; the results are correctly rounded (round to nearest, even). */
bool pinti_csv_value_float64(const char *s, size_t n, bool lenient, locale_t c_locale,
                             double *out_value);
bool pinti_csv_value_float32(const char *s, size_t n, bool lenient, locale_t c_locale,
                             float *out_value);

/* Days since 1970-01-01. */
bool pinti_csv_value_date(const char *s, size_t n, int32_t *out_days);

typedef struct pinti_csv_instant {
    int64_t seconds;      /* since 1970-01-01T00:00:00; UTC with a zone, else local */
    uint32_t nanoseconds; /* 0 to 999999999, forward of seconds */
    uint8_t n_fraction;   /* digits after the point, 0 to 9 */
    bool has_zone;
} pinti_csv_instant;

/* lenient: a bare date is its midnight, without a zone. */
bool pinti_csv_value_instant(const char *s, size_t n, bool lenient, pinti_csv_instant *out_value);

/* The bytes of the longest prefix that is valid UTF-8 (no surrogates, nothing above U+10FFFF). */
size_t pinti_csv_value_utf8_prefix(const char *s, size_t n);

#define PINTI_CSV_SHOWN_BYTES 72 /* room for pinti_csv_value_show() */

/*
 * Write at most about 40 bytes of a value for a message: control characters and bytes that are not
 * UTF-8 as \n, \t, \r or \xNN, "..." where it was clipped. Returns shown.
 */
const char *pinti_csv_value_show(const char *s, size_t n, char shown[PINTI_CSV_SHOWN_BYTES]);

#endif
