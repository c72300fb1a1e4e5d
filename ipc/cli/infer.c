/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Type inference and conversion of a column. Inference is trial: convert the whole column to each
 * type of a ladder, narrowest first, and keep the first that every value fits. A column of another
 * type falls through at its first value, so the ladder costs little; only a value that breaks the
 * type late in the file costs a pass.
 */
#include "infer.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv_dict.h"
#include "csv_value.h"

#define CATEGORY_ALWAYS_MAX 256u /* distinct values that make a category at any number of rows */
#define CATEGORY_SHARE      20u  /* or one distinct value per this many values */

typedef struct converter {
    const pinti_csv_raw *raw;
    pinti_csv_type type; /* the type tried */
    bool lenient;        /* asked for by the user */
    bool bare_is_utc;    /* asked for UTC: a timestamp without a zone is UTC */
    locale_t c_locale;
    void *values; /* raw->n_rows + 1 items of 8 bytes, enough for every kind */
    pinti_csv_misfit *misfit;
} converter;

/* Store one value as item `row` of values; false: it does not fit the type. */
typedef bool (*store_function)(const converter *conv, const char *s, size_t n, uint64_t row);

static bool store_bool(const converter *conv, const char *s, size_t n, uint64_t row)
{
    return pinti_csv_value_bool(s, n, conv->lenient, (uint8_t *)conv->values + row);
}

static bool store_int64(const converter *conv, const char *s, size_t n, uint64_t row)
{
    pinti_csv_integer value;
    if (!pinti_csv_value_integer(s, n, conv->lenient, &value) ||
        value.magnitude > (uint64_t)INT64_MAX + (value.negative ? 1 : 0)) {
        return false;
    }
    /* Two's complement negation in unsigned; the conversion is defined by gcc and clang. */
    ((int64_t *)conv->values)[row] =
        (int64_t)(value.negative ? UINT64_C(0) - value.magnitude : value.magnitude);
    return true;
}

static bool store_uint64(const converter *conv, const char *s, size_t n, uint64_t row)
{
    pinti_csv_integer value;
    if (!pinti_csv_value_integer(s, n, conv->lenient, &value) ||
        (value.negative && value.magnitude != 0)) {
        return false;
    }
    ((uint64_t *)conv->values)[row] = value.magnitude;
    return true;
}

/* The integers that only a wish gives. */
static bool store_narrow(const converter *conv, const char *s, size_t n, uint64_t row)
{
    pinti_csv_integer value;
    if (!pinti_csv_value_integer(s, n, conv->lenient, &value)) {
        return false;
    }
    const bool is_signed = conv->type.kind < PINTI_CSV_UINT8;
    const unsigned bits = 8 * (unsigned)pinti_csv_item_bytes(conv->type.kind);
    const uint64_t max = (UINT64_C(1) << (is_signed ? bits - 1 : bits)) - 1;
    const uint64_t limit = !value.negative ? max : is_signed ? max + 1 : 0;
    if (value.magnitude > limit) {
        return false;
    }
    const uint64_t word = value.negative ? UINT64_C(0) - value.magnitude : value.magnitude;
    if (bits == 8) {
        ((uint8_t *)conv->values)[row] = (uint8_t)word;
    } else if (bits == 16) {
        ((uint16_t *)conv->values)[row] = (uint16_t)word;
    } else {
        ((uint32_t *)conv->values)[row] = (uint32_t)word;
    }
    return true;
}

static bool store_float32(const converter *conv, const char *s, size_t n, uint64_t row)
{
    return pinti_csv_value_float32(s, n, conv->lenient, conv->c_locale,
                                   (float *)conv->values + row);
}

static bool store_float64(const converter *conv, const char *s, size_t n, uint64_t row)
{
    return pinti_csv_value_float64(s, n, conv->lenient, conv->c_locale,
                                   (double *)conv->values + row);
}

static bool store_date(const converter *conv, const char *s, size_t n, uint64_t row)
{
    return pinti_csv_value_date(s, n, (int32_t *)conv->values + row);
}

static int64_t units_per_second(pinti_csv_unit unit)
{
    return unit == PINTI_CSV_SECOND        ? 1
           : unit == PINTI_CSV_MILLISECOND ? 1000
           : unit == PINTI_CSV_MICROSECOND ? 1000000
                                           : 1000000000;
}

static bool store_timestamp(const converter *conv, const char *s, size_t n, uint64_t row)
{
    pinti_csv_instant instant;
    if (!pinti_csv_value_instant(s, n, conv->lenient, &instant)) {
        return false;
    }
    if (instant.has_zone != conv->type.utc && !conv->bare_is_utc) {
        return false;
    }
    const int64_t per_second = units_per_second(conv->type.unit);
    const int64_t nanoseconds_per_unit = 1000000000 / per_second;
    int64_t value;
    if (instant.nanoseconds % nanoseconds_per_unit != 0 ||
        __builtin_mul_overflow(instant.seconds, per_second, &value) ||
        __builtin_add_overflow(value, instant.nanoseconds / nanoseconds_per_unit, &value)) {
        return false;
    }
    ((int64_t *)conv->values)[row] = value;
    return true;
}

static store_function store_of(pinti_csv_kind kind)
{
    switch (kind) {
    case PINTI_CSV_BOOL:
        return store_bool;
    case PINTI_CSV_INT8:
    case PINTI_CSV_INT16:
    case PINTI_CSV_INT32:
    case PINTI_CSV_UINT8:
    case PINTI_CSV_UINT16:
    case PINTI_CSV_UINT32:
        return store_narrow;
    case PINTI_CSV_INT64:
        return store_int64;
    case PINTI_CSV_UINT64:
        return store_uint64;
    case PINTI_CSV_FLOAT32:
        return store_float32;
    case PINTI_CSV_FLOAT64:
        return store_float64;
    case PINTI_CSV_DATE32:
        return store_date;
    case PINTI_CSV_TIMESTAMP:
        return store_timestamp;
    case PINTI_CSV_AUTO:
    case PINTI_CSV_CATEGORY:
    case PINTI_CSV_TEXT:
        break;
    }
    return NULL;
}

/* What a null row holds; see pinti_csv_column.values. */
static void store_null(const converter *conv, size_t item_bytes, uint64_t row)
{
    if (conv->type.kind == PINTI_CSV_FLOAT64) {
        ((double *)conv->values)[row] = (double)NAN;
    } else if (conv->type.kind == PINTI_CSV_FLOAT32) {
        ((float *)conv->values)[row] = NAN;
    } else {
        memset((char *)conv->values + row * item_bytes, 0, item_bytes);
    }
}

static const char *expected_text(const pinti_csv_type *type)
{
    switch (type->kind) {
    case PINTI_CSV_BOOL:
        return "(true, false, 1 or 0)";
    case PINTI_CSV_INT8:
        return "(-128 to 127)";
    case PINTI_CSV_INT16:
        return "(-32768 to 32767)";
    case PINTI_CSV_INT32:
        return "(-2147483648 to 2147483647)";
    case PINTI_CSV_INT64:
        return "(-9223372036854775808 to 9223372036854775807)";
    case PINTI_CSV_UINT8:
        return "(0 to 255)";
    case PINTI_CSV_UINT16:
        return "(0 to 65535)";
    case PINTI_CSV_UINT32:
        return "(0 to 4294967295)";
    case PINTI_CSV_UINT64:
        return "(0 to 18446744073709551615)";
    case PINTI_CSV_FLOAT32:
    case PINTI_CSV_FLOAT64:
        return "(a decimal number in range, inf or nan)";
    case PINTI_CSV_DATE32:
        return "(YYYY-MM-DD)";
    case PINTI_CSV_TIMESTAMP:
        if (type->unit == PINTI_CSV_NANOSECOND) {
            return type->utc ? "(YYYY-MM-DDThh:mm:ss with Z or +hh:mm, in 1677 to 2262)"
                             : "(YYYY-MM-DDThh:mm:ss without a zone, in 1677 to 2262)";
        }
        return type->utc ? "(YYYY-MM-DDThh:mm:ss with Z or +hh:mm, no finer than the unit)"
                         : "(YYYY-MM-DDThh:mm:ss without a zone, no finer than the unit)";
    case PINTI_CSV_AUTO:
    case PINTI_CSV_CATEGORY:
    case PINTI_CSV_TEXT:
        break;
    }
    return "";
}

/* Convert all values to conv->type. False: one does not fit, *conv->misfit is filled. */
static bool try_type(const converter *conv)
{
    const store_function store = store_of(conv->type.kind);
    const size_t item_bytes = pinti_csv_item_bytes(conv->type.kind);
    pinti_csv_cursor cursor = pinti_csv_raw_start(conv->raw);
    const char *text;
    size_t text_bytes;
    for (uint64_t row = 0; pinti_csv_raw_next(&cursor, &text, &text_bytes); row++) {
        if (text == NULL) {
            store_null(conv, item_bytes, row);
        } else if (!store(conv, text, text_bytes, row)) {
            *conv->misfit = (pinti_csv_misfit){.row = row,
                                               .text = text,
                                               .text_bytes = text_bytes,
                                               .type = conv->type,
                                               .expected = expected_text(&conv->type)};
            return false;
        }
    }
    return true;
}

/*
 * Complete conv->type for a timestamp: the unit from the most fraction digits, the zone from the
 * first value, unless the wish names them. False: the first value is not an instant, so that no
 * pass over the column is lost on columns of other types.
 */
static bool choose_timestamp(converter *conv, const pinti_csv_type *wish)
{
    unsigned n_fraction = 0;
    bool first = true;
    conv->type = (pinti_csv_type){PINTI_CSV_TIMESTAMP, wish->unit, wish->utc};
    pinti_csv_cursor cursor = pinti_csv_raw_start(conv->raw);
    const char *text;
    size_t text_bytes;
    while (pinti_csv_raw_next(&cursor, &text, &text_bytes)) {
        pinti_csv_instant instant;
        if (text == NULL) {
            continue;
        }
        if (!pinti_csv_value_instant(text, text_bytes, conv->lenient, &instant)) {
            break; /* try_type() will meet it too */
        }
        if (first) {
            first = false;
            conv->type.utc = wish->utc || instant.has_zone;
        }
        n_fraction = instant.n_fraction > n_fraction ? instant.n_fraction : n_fraction;
    }
    if (conv->type.unit == PINTI_CSV_UNIT_AUTO) {
        conv->type.unit = n_fraction == 0   ? PINTI_CSV_SECOND
                          : n_fraction <= 3 ? PINTI_CSV_MILLISECOND
                          : n_fraction <= 6 ? PINTI_CSV_MICROSECOND
                                            : PINTI_CSV_NANOSECOND;
    }
    return !first;
}

/* Climb the ladder; false: none fits, the column is category or text. */
static bool infer_fixed(converter *conv)
{
    static const pinti_csv_kind ladder[] = {PINTI_CSV_BOOL, PINTI_CSV_INT64, PINTI_CSV_UINT64,
                                            PINTI_CSV_FLOAT64, PINTI_CSV_DATE32};
    if (conv->raw->n_null == conv->raw->n_rows) {
        conv->type = (pinti_csv_type){.kind = PINTI_CSV_FLOAT64};
        return try_type(conv);
    }
    for (size_t i = 0; i < sizeof(ladder) / sizeof(ladder[0]); i++) {
        conv->type = (pinti_csv_type){.kind = ladder[i]};
        if (try_type(conv)) {
            return true;
        }
    }
    return choose_timestamp(conv, &(pinti_csv_type){0}) && try_type(conv);
}

/* Positive result of convert_category(): more distinct values than max_entries. */
#define TOO_MANY 1

/* Number the values; 0, TOO_MANY or -ENOMEM. *out_strings is written with 0 only. */
static int convert_category(const converter *conv, uint64_t max_entries,
                            pinti_csv_strings *out_strings)
{
    pinti_csv_dict dict;
    if (!pinti_csv_dict_init(&dict)) {
        return -ENOMEM;
    }
    int32_t *codes = conv->values;
    const char *last_text = NULL; /* sorted and repeated columns need no look-up */
    size_t last_bytes = 0;
    int32_t last_code = -1;
    pinti_csv_cursor cursor = pinti_csv_raw_start(conv->raw);
    const char *text;
    size_t text_bytes;
    for (uint64_t row = 0; pinti_csv_raw_next(&cursor, &text, &text_bytes); row++) {
        if (text == NULL) {
            codes[row] = -1;
            continue;
        }
        if (last_text == NULL || text_bytes != last_bytes ||
            memcmp(text, last_text, text_bytes) != 0) {
            const pinti_csv_dict_result result =
                pinti_csv_dict_code(&dict, text, text_bytes, max_entries, &last_code);
            if (result != PINTI_CSV_DICT_OK) {
                pinti_csv_dict_done(&dict);
                return result == PINTI_CSV_DICT_FULL ? TOO_MANY : -ENOMEM;
            }
            last_text = text;
            last_bytes = text_bytes;
        }
        codes[row] = last_code;
    }
    *out_strings = pinti_csv_dict_take(&dict);
    return 0;
}

/* The strings in row order. The 8-byte items of conv->values become the offsets (taken). */
static int convert_text(converter *conv, pinti_csv_strings *out_strings)
{
    const pinti_csv_raw *raw = conv->raw;
    char *data = malloc(raw->text_bytes > 0 ? raw->text_bytes : 1);
    if (data == NULL) {
        return -ENOMEM;
    }
    int64_t *offsets = conv->values;
    conv->values = NULL;
    pinti_csv_cursor cursor = pinti_csv_raw_start(raw);
    const char *text;
    size_t text_bytes;
    uint64_t row = 0;
    int64_t at = 0;
    offsets[0] = 0;
    while (pinti_csv_raw_next(&cursor, &text, &text_bytes)) {
        if (text != NULL) {
            memcpy(data + at, text, text_bytes);
            at += (int64_t)text_bytes;
        }
        offsets[++row] = at;
    }
    *out_strings = (pinti_csv_strings){.n = raw->n_rows, .offsets = offsets, .data = data};
    return 0;
}

/* category when it pays (see csv.h), else text, into out_strings and conv->type. */
static int infer_strings(converter *conv, pinti_csv_strings *out_strings)
{
    const uint64_t n_values = conv->raw->n_rows - conv->raw->n_null;
    uint64_t max_entries = n_values / CATEGORY_SHARE;
    max_entries = max_entries < CATEGORY_ALWAYS_MAX ? CATEGORY_ALWAYS_MAX : max_entries;
    max_entries = max_entries > n_values / 2 ? n_values / 2 : max_entries;
    max_entries = max_entries > INT32_MAX ? INT32_MAX : max_entries;
    conv->type = (pinti_csv_type){.kind = PINTI_CSV_CATEGORY};
    const int status = convert_category(conv, max_entries, out_strings);
    if (status != TOO_MANY) {
        return status;
    }
    conv->type.kind = PINTI_CSV_TEXT;
    return convert_text(conv, out_strings);
}

/* Convert as the user asked; only CATEGORY and TEXT write out_strings. */
static int convert_wish(converter *conv, const pinti_csv_type *wish, pinti_csv_strings *out_strings)
{
    conv->type = *wish;
    if (wish->kind == PINTI_CSV_TEXT) {
        return convert_text(conv, out_strings);
    }
    if (wish->kind == PINTI_CSV_CATEGORY) {
        const int status = convert_category(conv, INT32_MAX, out_strings);
        return status == TOO_MANY ? -ENOMEM : status;
    }
    if (wish->kind == PINTI_CSV_TIMESTAMP) {
        (void)choose_timestamp(conv, wish); /* a column without values keeps the wish */
    }
    return try_type(conv) ? 0 : -EBADMSG;
}

/* The validity bitmap; NULL with *out_ok true when nothing is null. */
static uint8_t *build_validity(const pinti_csv_raw *raw, bool *out_ok)
{
    *out_ok = true;
    if (raw->n_null == 0) {
        return NULL;
    }
    uint64_t *words = calloc(raw->n_rows / 64 + 1, sizeof(*words));
    uint8_t *bits = (uint8_t *)words;
    if (bits == NULL) {
        *out_ok = false;
        return NULL;
    }
    pinti_csv_cursor cursor = pinti_csv_raw_start(raw);
    const char *text;
    size_t text_bytes;
    for (uint64_t row = 0; pinti_csv_raw_next(&cursor, &text, &text_bytes); row++) {
        if (text != NULL) {
            bits[row / 8] = (uint8_t)(bits[row / 8] | 1u << (row % 8));
        }
    }
    return bits;
}

/* Give back what values does not need for its kind. NULL for text, whose offsets took it. */
static void *shrink_values(void *values, pinti_csv_kind kind, uint64_t n_rows)
{
    const size_t bytes = pinti_csv_item_bytes(kind) * n_rows;
    if (values == NULL) {
        return NULL;
    }
    void *shrunk = realloc(values, bytes > 0 ? bytes : 1);
    return shrunk != NULL ? shrunk : values;
}

int pinti_csv_infer(const pinti_csv_raw *raw, const pinti_csv_type *wish,
                    pinti_csv_column *out_column, pinti_csv_misfit *out_misfit)
{
    converter conv = {.raw = raw,
                      .lenient = wish->kind != PINTI_CSV_AUTO,
                      .bare_is_utc = wish->kind == PINTI_CSV_TIMESTAMP && wish->utc,
                      .misfit = out_misfit};
    pinti_csv_strings strings = {0};
    uint8_t *validity = NULL;
    bool ok = false;
    int status = -ENOMEM;
    conv.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (conv.c_locale == (locale_t)0) {
        return -ENOMEM;
    }
    if (raw->n_rows >= SIZE_MAX / 8 - 1) {
        goto free_locale;
    }
    conv.values = malloc(raw->n_rows * 8 + 8);
    if (conv.values == NULL) {
        goto free_locale;
    }
    validity = build_validity(raw, &ok);
    if (!ok) {
        goto free_values;
    }
    if (wish->kind != PINTI_CSV_AUTO) {
        status = convert_wish(&conv, wish, &strings);
    } else {
        status = infer_fixed(&conv) ? 0 : infer_strings(&conv, &strings);
    }
    if (status != 0) {
        goto free_validity;
    }
    freelocale(conv.c_locale);
    out_column->type = conv.type;
    out_column->n_null = raw->n_null;
    out_column->validity = validity;
    out_column->values = shrink_values(conv.values, conv.type.kind, raw->n_rows);
    out_column->strings = strings;
    return 0;
free_validity:
    free(validity);
free_values:
    free(conv.values);
free_locale:
    freelocale(conv.c_locale);
    return status;
}
