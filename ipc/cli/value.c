/* SPDX-License-Identifier: Apache-2.0 */

/* Values as text. Bytes come from memory that others may be writing: each is copied out once. */

#include "ipc/cli/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/output.h"

#define GRID_TEXT_BYTES   60u /* longest text, longest list and longest binary for people */
#define GRID_LIST_ITEMS   4u
#define GRID_BINARY_BYTES 16u
#define NUMBER_ROOM       64
#define SECONDS_PER_DAY   86400
#define INTEGER_MAX       1e15 /* whole numbers up to here are written without an exponent */

/* ---- numbers --------------------------------------------------------------------------------- */

static double half_to_double(uint16_t bits)
{
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    const int exponent = bits >> 10 & 31;
    const double fraction = bits & 0x3ffu;
    if (exponent == 31) {
        return fraction > 0 ? (double)NAN : sign * (double)INFINITY;
    }
    return exponent == 0 ? sign * ldexp(fraction, -24)
                         : sign * ldexp(fraction + 1024.0, exponent - 25);
}

/* Would this number, rounded to half precision, be these bits? */
static bool is_half(double value, uint16_t bits)
{
    const double exact = half_to_double(bits);
    if ((bits & 0x7fffu) == 0) {
        return fabs(value) <= 0.0;
    }
    /* the distance to the neighbour towards 0 is the smaller one */
    return fabs(value - exact) * 2 < fabs(exact - half_to_double((uint16_t)(bits - 1u)));
}

/* Does the text read back as exactly the value? */
static bool reads_back(const char *text, pint_type type, double value, uint16_t half)
{
    if (type == PINT_FLOAT32) {
        return strtof(text, NULL) == (float)value;
    }
    const double back = strtod(text, NULL);
    return type == PINT_FLOAT16 ? is_half(back, half) : back == value;
}

/* The shortest text that reads back as the same value. */
static void print_float(FILE *out, const char *bytes, pint_type type, enum pinti_form form)
{
    double value = 0;
    uint16_t half = 0;
    if (type == PINT_FLOAT64) {
        memcpy(&value, bytes, sizeof(value));
    } else if (type == PINT_FLOAT32) {
        float narrow;
        memcpy(&narrow, bytes, sizeof(narrow));
        value = (double)narrow;
    } else {
        memcpy(&half, bytes, sizeof(half));
        value = half_to_double(half);
    }
    if (isnan(value) || isinf(value)) {
        const char *quote = form == PINTI_FORM_JSON ? "\"" : "";
        const char *text = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
        (void)fprintf(out, "%s%s%s", quote, text, quote);
        return;
    }
    if (fabs(value) < INTEGER_MAX && value == trunc(value)) {
        (void)fprintf(out, "%.0f", value);
        return;
    }
    char text[NUMBER_ROOM];
    const int last = type == PINT_FLOAT64 ? 17 : type == PINT_FLOAT32 ? 9 : 5;
    for (int digits = type == PINT_FLOAT64   ? 15
                      : type == PINT_FLOAT32 ? 6
                                             : 1;
         digits <= last; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        if (reads_back(text, type, value, half)) {
            break;
        }
    }
    (void)fputs(text, out);
}

static int64_t signed_of(const char *bytes, pint_type type)
{
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    switch (pint_type_bytes(type)) {
    case 1:
        memcpy(&i8, bytes, sizeof(i8));
        return i8;
    case 2:
        memcpy(&i16, bytes, sizeof(i16));
        return i16;
    case 4:
        memcpy(&i32, bytes, sizeof(i32));
        return i32;
    default:
        memcpy(&i64, bytes, sizeof(i64));
        return i64;
    }
}

static uint64_t unsigned_of(const char *bytes, pint_type type)
{
    const uint32_t width = pint_type_bytes(type);
    const uint64_t value = (uint64_t)signed_of(bytes, type);
    return width < 8 ? value & ((1ull << width * 8) - 1) : value;
}

/* ---- dates ----------------------------------------------------------------------------------- */

/*
 * Days since 1970-01-01 as a date of the proleptic Gregorian calendar, counted in eras of 400 years
 * from 0000-03-01 (H. Hinnant, chrono-compatible low-level date algorithms).
 */
static void print_date(FILE *out, int64_t days)
{
    const int64_t shifted = days + 719468;
    const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    const int64_t day_of_era = shifted - era * 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month_from_march = (5 * day_of_year + 2) / 153;
    const int64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    const int64_t month = month_from_march + (month_from_march < 10 ? 3 : -9);
    const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
    (void)fprintf(out, "%s%04" PRId64 "-%02" PRId64 "-%02" PRId64,
                  year < 0      ? "-"
                  : year > 9999 ? "+"
                                : "",
                  year < 0 ? -year : year, month, day);
}

static int64_t floor_div(int64_t value, int64_t by, int64_t *out_rest)
{
    int64_t quotient = value / by;
    *out_rest = value % by;
    if (*out_rest < 0) {
        *out_rest += by;
        quotient--;
    }
    return quotient;
}

static void print_timestamp(FILE *out, int64_t value, pint_unit unit, bool has_zone)
{
    int64_t per_second = 1;
    int digits = 0;
    for (pint_unit u = PINT_SECOND; u < unit && u < PINT_NANOSECOND; u++) {
        per_second *= 1000;
        digits += 3;
    }
    int64_t fraction;
    int64_t second;
    const int64_t seconds = floor_div(value, per_second, &fraction);
    print_date(out, floor_div(seconds, SECONDS_PER_DAY, &second));
    (void)fprintf(out, "T%02" PRId64 ":%02" PRId64 ":%02" PRId64, second / 3600, second / 60 % 60,
                  second % 60);
    if (digits > 0) {
        (void)fprintf(out, ".%0*" PRId64, digits, fraction);
    }
    if (has_zone) {
        (void)fputc('Z', out);
    }
}

/* ---- one value ------------------------------------------------------------------------------- */

/* A number, truth value, date or moment at bytes; quoted in JSON where JSON has no such thing. */
static void print_primitive(FILE *out, const pint_column *column, const char *bytes, pint_type type,
                            enum pinti_form form)
{
    const bool is_time = type == PINT_DATE32 || type == PINT_TIMESTAMP;
    const char *quote = is_time && form == PINTI_FORM_JSON ? "\"" : "";
    switch (type) {
    case PINT_BOOL8:
        (void)fputs(*bytes != 0 ? "true" : "false", out);
        break;
    case PINT_UINT8:
    case PINT_UINT16:
    case PINT_UINT32:
    case PINT_UINT64:
        (void)fprintf(out, "%" PRIu64, unsigned_of(bytes, type));
        break;
    case PINT_FLOAT16:
    case PINT_FLOAT32:
    case PINT_FLOAT64:
        print_float(out, bytes, type, form);
        break;
    case PINT_DATE32:
        (void)fputs(quote, out);
        print_date(out, signed_of(bytes, type));
        (void)fputs(quote, out);
        break;
    case PINT_TIMESTAMP:
        (void)fputs(quote, out);
        print_timestamp(out, signed_of(bytes, type), pint_column_unit(column),
                        pint_column_zone(column)[0] != '\0');
        (void)fputs(quote, out);
        break;
    default: /* int8 to int64 */
        (void)fprintf(out, "%" PRId64, signed_of(bytes, type));
        break;
    }
}

static void print_list(FILE *out, const pint_column *column, const char *bytes,
                       enum pinti_form form)
{
    const uint32_t n = pint_column_list_length(column);
    const pint_type type = pint_column_item_type(column);
    const uint32_t shown = form == PINTI_FORM_GRID && n > GRID_LIST_ITEMS + 1 ? GRID_LIST_ITEMS : n;
    (void)fputs(form == PINTI_FORM_CSV && n > 1 ? "\"[" : "[", out);
    for (uint32_t i = 0; i < shown; i++) {
        (void)fputs(i > 0 ? ", " : "", out);
        print_primitive(out, column, bytes + (size_t)i * pint_type_bytes(type), type, form);
    }
    if (shown < n) {
        (void)fprintf(out, ", … %" PRIu32 " more", n - shown);
    }
    (void)fputs(form == PINTI_FORM_CSV && n > 1 ? "]\"" : "]", out);
}

static void print_binary(FILE *out, const pint_column *column, const char *bytes,
                         enum pinti_form form)
{
    const uint32_t n = pint_column_row_bytes(column);
    const uint32_t shown = form == PINTI_FORM_GRID && n > GRID_BINARY_BYTES ? GRID_BINARY_BYTES : n;
    const char *quote = form == PINTI_FORM_JSON ? "\"" : "";
    (void)fputs(quote, out);
    for (uint32_t i = 0; i < shown; i++) {
        (void)fprintf(out, "%02x", (unsigned char)bytes[i]);
    }
    (void)fputs(shown < n ? "…" : "", out);
    (void)fputs(quote, out);
}

void pinti_value_csv_text(FILE *out, const char *text, uint64_t bytes)
{
    static const char special[] = ",\"\r\n";
    bool needs_quotes = bytes == 0 || text[0] == ' ' || text[bytes - 1] == ' ';
    for (uint64_t i = 0; i < bytes && !needs_quotes; i++) {
        needs_quotes = memchr(special, text[i], sizeof(special) - 1) != NULL;
    }
    if (!needs_quotes) {
        (void)fwrite(text, 1, (size_t)bytes, out);
        return;
    }
    (void)fputc('"', out);
    for (uint64_t i = 0; i < bytes; i++) {
        if (text[i] == '"') {
            (void)fputc('"', out);
        }
        (void)fputc(text[i], out);
    }
    (void)fputc('"', out);
}

static void print_text(FILE *out, const char *text, uint64_t bytes, enum pinti_form form)
{
    if (form == PINTI_FORM_JSON) {
        pinti_out_json_text(out, text, (size_t)bytes);
        return;
    }
    if (form == PINTI_FORM_CSV) {
        pinti_value_csv_text(out, text, bytes);
        return;
    }
    uint64_t shown = bytes;
    if (bytes > GRID_TEXT_BYTES) {
        shown = GRID_TEXT_BYTES - 1;
        while (shown > 0 && ((unsigned char)text[shown] & 0xc0u) == 0x80u) {
            shown--; /* not in the middle of a character */
        }
    }
    pinti_out_text(out, text, (size_t)shown);
    (void)fputs(shown < bytes ? "…" : "", out);
}

pint_status pinti_value_print(FILE *out, const pint_column *column, uint64_t row,
                              enum pinti_form form, pint_error *err)
{
    if (pint_column_is_null(column, row)) {
        (void)fputs(form == PINTI_FORM_CSV ? "" : "null", out);
        return PINT_OK;
    }
    const char *text;
    uint64_t bytes;
    switch (column->type) {
    case PINT_BOOL:
        (void)fputs(pint_column_get_bool(column, row) ? "true" : "false", out);
        return PINT_OK;
    case PINT_TEXT:
    case PINT_DICT_TEXT: {
        const pint_status status = pint_column_get_text(column, row, &text, &bytes, err);
        if (status != PINT_OK) {
            (void)fputs(form == PINTI_FORM_JSON ? "null" : "?", out);
            return status;
        }
        print_text(out, text, bytes, form);
        return PINT_OK;
    }
    default:
        break;
    }
    const char *value =
        (const char *)pint_column_values(column) + row * pint_column_row_bytes(column);
    if (column->type == PINT_LIST_FIXED) {
        print_list(out, column, value, form);
    } else if (column->type == PINT_BINARY_FIXED) {
        print_binary(out, column, value, form);
    } else {
        print_primitive(out, column, value, column->type, form);
    }
    return PINT_OK;
}

/* ---- types ----------------------------------------------------------------------------------- */

const char *pinti_value_unit(pint_unit unit)
{
    static const char *const names[] = {"", "s", "ms", "us", "ns"};
    return unit < sizeof(names) / sizeof(names[0]) ? names[unit] : "";
}

int pinti_value_is_number(pint_type type)
{
    return type >= PINT_INT8 && type <= PINT_FLOAT64;
}

char *pinti_value_type(const pint_column *column)
{
    const char *name = pint_type_name(column->type);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL) {
        pinti_cli_out_of_memory();
        return NULL; /* not reached */
    }
    (void)fputs(name != NULL ? name : "?", out);
    const char *item = pint_type_name(pint_column_item_type(column));
    const char *zone = pint_column_zone(column);
    switch (column->type) {
    case PINT_TIMESTAMP:
        (void)fprintf(out, "[%s%s", pinti_value_unit(pint_column_unit(column)),
                      zone[0] != '\0' ? ", " : "");
        pinti_out_text(out, zone, strlen(zone));
        (void)fputc(']', out);
        break;
    case PINT_DICT_TEXT:
        (void)fprintf(out, "[%s]", item != NULL ? item : "?");
        break;
    case PINT_LIST_FIXED:
        (void)fprintf(out, "[%s, %" PRIu32 "]", item != NULL ? item : "?",
                      pint_column_list_length(column));
        break;
    case PINT_BINARY_FIXED:
        (void)fprintf(out, "[%" PRIu32 "]", pint_column_row_bytes(column));
        break;
    default:
        break;
    }
    if (fclose(out) != 0) {
        pinti_cli_out_of_memory();
    }
    return text;
}
