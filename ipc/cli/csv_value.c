/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts of single CSV values to numbers, dates and instants. No state; the locale is passed in
 * because strtod() would read "1,5" as a number under some process locales.
 */
#include "csv_value.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_NUMBER_BYTES 511 /* a longer text is not taken for a number */
#define SECONDS_PER_DAY  86400

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool equals(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(s, word, n) == 0;
}

bool pinti_csv_value_bool(const char *s, size_t n, bool lenient, uint8_t *out_value)
{
    if (equals(s, n, "true") || equals(s, n, "TRUE") || equals(s, n, "True") ||
        (lenient && equals(s, n, "1"))) {
        *out_value = 1;
        return true;
    }
    if (equals(s, n, "false") || equals(s, n, "FALSE") || equals(s, n, "False") ||
        (lenient && equals(s, n, "0"))) {
        *out_value = 0;
        return true;
    }
    return false;
}

bool pinti_csv_value_integer(const char *s, size_t n, bool lenient, pinti_csv_integer *out_value)
{
    const bool negative = n > 0 && s[0] == '-';
    size_t i = n > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    if (i == n || n > MAX_NUMBER_BYTES) {
        return false;
    }
    if (!lenient && s[i] == '0' && (n - i > 1 || negative)) {
        return false;
    }
    uint64_t magnitude = 0;
    for (const size_t safe = n < 18 ? n : 18; i < safe; i++) { /* 18 digits cannot overflow */
        if (!is_digit(s[i])) {
            return false;
        }
        magnitude = magnitude * 10 + (uint64_t)(s[i] - '0');
    }
    for (; i < n; i++) {
        if (!is_digit(s[i])) {
            return false;
        }
        const uint64_t digit = (uint64_t)(s[i] - '0');
        if (__builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, digit, &magnitude)) {
            return false;
        }
    }
    *out_value = (pinti_csv_integer){.negative = negative, .magnitude = magnitude};
    return true;
}

/* A decimal literal taken apart: value = mantissa * 10^exponent when n_digits <= 19. */
typedef struct decimal {
    uint64_t mantissa; /* the first 19 significant digits */
    int exponent;      /* clamped: enough to be outside every fast path */
    unsigned n_digits; /* significant, without leading zeros */
    bool negative;
    bool is_integer; /* neither point nor exponent */
    bool is_word;    /* inf or nan */
} decimal;

static bool scan_word(const char *s, size_t n, decimal *out)
{
    out->is_word = true;
    return (n == 3 && (strncasecmp(s, "inf", 3) == 0 || strncasecmp(s, "nan", 3) == 0)) ||
           (n == 8 && strncasecmp(s, "infinity", 8) == 0);
}

static void push_digit(decimal *number, char digit)
{
    if (number->n_digits == 0 && digit == '0') {
        return;
    }
    if (number->n_digits < 19) {
        number->mantissa = number->mantissa * 10 + (uint64_t)(digit - '0');
    }
    number->n_digits++;
}

/* The digits after 'e'; adds to number->exponent. */
static bool scan_exponent(const char *s, size_t n, decimal *number)
{
    const bool negative = n > 0 && s[0] == '-';
    size_t i = n > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
    if (i == n) {
        return false;
    }
    int exponent = 0;
    for (; i < n; i++) {
        if (!is_digit(s[i])) {
            return false;
        }
        exponent = exponent < 100000 ? exponent * 10 + (s[i] - '0') : exponent;
    }
    number->exponent += negative ? -exponent : exponent;
    return true;
}

static bool scan_decimal(const char *s, size_t n, bool lenient, decimal *out)
{
    *out = (decimal){.is_integer = true};
    if (n == 0 || n > MAX_NUMBER_BYTES) {
        return false;
    }
    out->negative = s[0] == '-';
    size_t i = s[0] == '-' || s[0] == '+' ? 1 : 0;
    const size_t whole_at = i;
    while (i < n && is_digit(s[i])) {
        push_digit(out, s[i++]);
    }
    const size_t n_whole = i - whole_at;
    if (n_whole == 0 && (i == n || s[i] != '.')) {
        return scan_word(s + i, n - i, out);
    }
    if (!lenient && n_whole > 1 && s[whole_at] == '0') {
        return false;
    }
    size_t n_fraction = 0;
    if (i < n && s[i] == '.') {
        out->is_integer = false;
        for (i++; i < n && is_digit(s[i]); i++) {
            push_digit(out, s[i]);
            n_fraction++;
        }
    }
    out->exponent = -(int)n_fraction; /* n_fraction <= MAX_NUMBER_BYTES */
    if (n_whole + n_fraction == 0) {
        return false;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        out->is_integer = false;
        return scan_exponent(s + i + 1, n - i - 1, out);
    }
    return i == n;
}

/* Does float64 hold this integer literal exactly? Above 19 digits: no, without looking. */
static bool is_exact_integer(const decimal *number)
{
    if (number->n_digits > 19) {
        return false;
    }
    const double near = (double)number->mantissa; /* mantissa < 10^19 < 2^64: the cast back is */
    return (uint64_t)near == number->mantissa;    /* defined                                    */
}

/*
 * Numbers of one exact multiplication or division (Clinger): mantissa and power of ten are exact,
 * so the one rounding is the right one. Needs arithmetic in plain double.
 */
static bool convert_small(const decimal *number, double *out_value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const bool plain_double = FLT_EVAL_METHOD == 0 && DBL_MANT_DIG == 53;
    if (!plain_double || number->n_digits > 19 || number->mantissa > (UINT64_C(1) << 53) ||
        number->exponent < -22 || number->exponent > 22) {
        return false;
    }
    const double mantissa = (double)number->mantissa;
    const double value = number->exponent < 0 ? mantissa / powers[-number->exponent]
                                              : mantissa * powers[number->exponent];
    *out_value = number->negative ? -value : value;
    return true;
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 uint128;
#endif

/*
 * Numbers of 16 to 19 digits with up to 19 of them after the point, as programs print float64 to be
 * read back: divide in integers, which leaves an exact remainder, and round once, half to even.
 */
static bool convert_quotient(const decimal *number, double *out_value)
{
#ifdef __SIZEOF_INT128__
    if (number->n_digits > 19 || number->mantissa == 0 || number->exponent >= 0 ||
        number->exponent < -19 || DBL_MANT_DIG != 53) {
        return false;
    }
    uint64_t divisor = 1;
    for (int i = number->exponent; i < 0; i++) {
        divisor *= 10;
    }
    const int mantissa_shift = __builtin_clzll(number->mantissa);
    const int divisor_shift = __builtin_clzll(divisor);
    divisor <<= divisor_shift;
    /* Both have their top bit set, so the quotient has 63 or 64 bits: 10 or 11 more than needed. */
    const uint128 dividend = (uint128)(number->mantissa << mantissa_shift) << 63;
    const uint64_t quotient = (uint64_t)(dividend / divisor);
    const bool inexact = dividend != (uint128)quotient * divisor;
    const int dropped_bits = 11 - __builtin_clzll(quotient);
    const uint64_t half = UINT64_C(1) << (dropped_bits - 1);
    const uint64_t dropped = quotient & (half * 2 - 1);
    uint64_t kept = quotient >> dropped_bits;
    kept += dropped > half || (dropped == half && (inexact || (kept & 1) != 0));
    /* Exact: kept <= 2^53, and the value is between 1e-19 and 1e19. */
    const double value = ldexp((double)kept, dropped_bits - 63 + divisor_shift - mantissa_shift);
    *out_value = number->negative ? -value : value;
    return true;
#else
    (void)number;
    (void)out_value;
    return false;
#endif
}

/* Copy for strtod_l(), which needs a NUL. */
static const char *terminated(const char *s, size_t n, char copy[MAX_NUMBER_BYTES + 1])
{
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

bool pinti_csv_value_float64(const char *s, size_t n, bool lenient, locale_t c_locale,
                             double *out_value)
{
    decimal number;
    if (!scan_decimal(s, n, lenient, &number)) {
        return false;
    }
    if (!lenient && number.is_integer && !number.is_word && !is_exact_integer(&number)) {
        return false;
    }
    if (!number.is_word &&
        (convert_small(&number, out_value) || convert_quotient(&number, out_value))) {
        return true;
    }
    char copy[MAX_NUMBER_BYTES + 1];
    const double value = strtod_l(terminated(s, n, copy), NULL, c_locale);
    if (!number.is_word && (isinf(value) || (value == 0 && number.n_digits > 0))) {
        return false;
    }
    *out_value = value;
    return true;
}

bool pinti_csv_value_float32(const char *s, size_t n, bool lenient, locale_t c_locale,
                             float *out_value)
{
    decimal number;
    if (!scan_decimal(s, n, lenient, &number)) {
        return false;
    }
    char copy[MAX_NUMBER_BYTES + 1];
    const float value = strtof_l(terminated(s, n, copy), NULL, c_locale);
    if (!number.is_word && (isinf(value) || (value == 0 && number.n_digits > 0))) {
        return false;
    }
    *out_value = value;
    return true;
}

/* n digits at s as a number; -1 when one is not a digit. */
static int digits(const char *s, size_t n)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s[i])) {
            return -1;
        }
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

/*
 * Days since 1970-01-01 in the proleptic Gregorian calendar: count years from March, so that the
 * leap day ends a year, in cycles of 400 years (146097 days). 719468 days lie between 0000-03-01
 * and 1970-01-01.
 */
static int32_t days_from_civil(int year, int month, int day)
{
    const int y = month <= 2 ? year - 1 : year;
    const int cycle = y / 400; /* y >= 0 */
    const int year_of_cycle = y - cycle * 400;
    const int month_from_march = month <= 2 ? month + 9 : month - 3;
    const int day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    return cycle * 146097 + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 +
           day_of_year - 719468;
}

bool pinti_csv_value_date(const char *s, size_t n, int32_t *out_days)
{
    static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (n != 10 || s[4] != '-' || s[7] != '-') {
        return false;
    }
    const int year = digits(s, 4);
    const int month = digits(s + 5, 2);
    const int day = digits(s + 8, 2);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days[month - 1]) {
        return false;
    }
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && day == 29 && !leap) {
        return false;
    }
    *out_days = days_from_civil(year, month, day);
    return true;
}

/* hh:mm[:ss[.f]] at the start of s; returns the bytes read, 0 when it does not fit. */
static size_t scan_clock(const char *s, size_t n, pinti_csv_instant *instant)
{
    if (n < 5 || s[2] != ':') {
        return 0;
    }
    const int hour = digits(s, 2);
    const int minute = digits(s + 3, 2);
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59) {
        return 0;
    }
    instant->seconds += hour * 3600 + minute * 60;
    if (n == 5 || s[5] != ':') {
        return 5;
    }
    const int second = n < 8 ? -1 : digits(s + 6, 2);
    if (second < 0 || second > 59) {
        return 0;
    }
    instant->seconds += second;
    size_t i = 8;
    if (i == n || s[i] != '.') {
        return i;
    }
    uint32_t scale = 100000000; /* nanoseconds of the next digit */
    for (i++; i < n && is_digit(s[i]); i++) {
        if (instant->n_fraction == 9) {
            return 0;
        }
        instant->nanoseconds += (uint32_t)(s[i] - '0') * scale;
        instant->n_fraction++;
        scale /= 10;
    }
    return instant->n_fraction == 0 ? 0 : i;
}

/* Z, +hh, +hhmm or +hh:mm as all of s. */
static bool scan_zone(const char *s, size_t n, int *out_offset_seconds)
{
    if (n == 1 && s[0] == 'Z') {
        *out_offset_seconds = 0;
        return true;
    }
    if ((n != 3 && n != 5 && !(n == 6 && s[3] == ':')) || (s[0] != '+' && s[0] != '-')) {
        return false;
    }
    const int hours = digits(s + 1, 2);
    const int minutes = n == 3 ? 0 : digits(s + n - 2, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return false;
    }
    const int offset = hours * 3600 + minutes * 60;
    *out_offset_seconds = s[0] == '-' ? -offset : offset;
    return true;
}

bool pinti_csv_value_instant(const char *s, size_t n, bool lenient, pinti_csv_instant *out_value)
{
    int32_t days;
    if (n < 10 || !pinti_csv_value_date(s, 10, &days)) {
        return false;
    }
    pinti_csv_instant instant = {.seconds = (int64_t)days * SECONDS_PER_DAY};
    if (n == 10) {
        if (lenient) {
            *out_value = instant;
        }
        return lenient;
    }
    if (s[10] != 'T' && s[10] != ' ') {
        return false;
    }
    const size_t clock_bytes = scan_clock(s + 11, n - 11, &instant);
    if (clock_bytes == 0) {
        return false;
    }
    const size_t zone_at = 11 + clock_bytes;
    if (zone_at < n) {
        int offset_seconds;
        if (!scan_zone(s + zone_at, n - zone_at, &offset_seconds)) {
            return false;
        }
        instant.seconds -= offset_seconds;
        instant.has_zone = true;
    }
    *out_value = instant;
    return true;
}

/* Bytes of the UTF-8 character at s (n >= 1), 0 when it is not one (table 3-7 of Unicode). */
static size_t utf8_character(const unsigned char *s, size_t n)
{
    const unsigned char c = s[0];
    if (c < 0x80) {
        return 1;
    }
    size_t bytes;
    unsigned char low = 0x80; /* range of the second byte: no overlong forms, no surrogates */
    unsigned char high = 0xbf;
    if (c >= 0xc2 && c <= 0xdf) {
        bytes = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        bytes = 3;
        low = c == 0xe0 ? 0xa0 : 0x80;
        high = c == 0xed ? 0x9f : 0xbf;
    } else if (c >= 0xf0 && c <= 0xf4) {
        bytes = 4;
        low = c == 0xf0 ? 0x90 : 0x80;
        high = c == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (n < bytes || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < bytes; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

size_t pinti_csv_value_utf8_prefix(const char *s, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)s;
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof(word)) {
            memcpy(&word, s + i, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        const size_t character = utf8_character(bytes + i, n - i);
        if (character == 0) {
            break;
        }
        i += character;
    }
    return i;
}

/* One character or bad byte of s as shown in a message; returns the bytes of s it stands for. */
static size_t show_character(const char *s, size_t n, char piece[5])
{
    const unsigned char c = (unsigned char)s[0];
    const size_t bytes = utf8_character((const unsigned char *)s, n);
    if (c == '\n' || c == '\r' || c == '\t') {
        (void)snprintf(piece, 5, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (bytes == 0 || c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0)) {
        (void)snprintf(piece, 5, "\\x%02x", c);
        return 1;
    } else {
        memcpy(piece, s, bytes);
        piece[bytes] = '\0';
    }
    return bytes;
}

const char *pinti_csv_value_show(const char *s, size_t n, char shown[PINTI_CSV_SHOWN_BYTES])
{
    size_t used = 0;
    size_t i = 0;
    while (i < n && used < 40) {
        i += show_character(s + i, n - i, shown + used);
        used += strlen(shown + used);
    }
    (void)snprintf(shown + used, PINTI_CSV_SHOWN_BYTES - used, "%s", i < n ? "..." : "");
    return shown;
}
