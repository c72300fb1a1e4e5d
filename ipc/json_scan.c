/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A scanner for RFC 8259 that keeps nothing but its place. It runs before cJSON, which accepts
 * more than the grammar and allocates before it checks. What it lets through, cJSON reads the same
 * way; no text of more than PINTI_JSON_NODES_MAX values gets there.
 */

#include "ipc/json_scan.h"

#include <string.h>

#include "host/name.h"
#include "ipc/json.h"

/* Longest number, in characters. cJSON copies numbers into 64 bytes. */
#define NUMBER_CHARS_MAX 40

/* Digits and value of 2^53: beyond it a double no longer holds every integer. */
#define EXACT_MAX "9007199254740992"

typedef struct scanner {
    const char *text;
    size_t bytes;
    size_t at; /* <= bytes */
    unsigned depth;
    unsigned n_nodes;
    bool is_object[PINTI_JSON_DEPTH_MAX]; /* the containers around at, outermost first */
    pinti_json_fault *fault;
} scanner;

static bool refuse(scanner *s, const char *what)
{
    s->fault->what = what;
    s->fault->at = s->at;
    s->fault->limit = false;
    return false;
}

static bool beyond(scanner *s, const char *what)
{
    (void)refuse(s, what);
    s->fault->limit = true;
    return false;
}

/* The character at the place, or -1 at the end. */
static int peek(const scanner *s)
{
    return s->at < s->bytes ? (unsigned char)s->text[s->at] : -1;
}

static bool take(scanner *s, int c)
{
    if (peek(s) != c) {
        return false;
    }
    s->at++;
    return true;
}

static void skip_space(scanner *s)
{
    for (;;) {
        const int c = peek(s);
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return;
        }
        s->at++;
    }
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(int c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Four hexadecimal digits. */
static bool scan_unit(scanner *s, unsigned *out_unit)
{
    unsigned unit = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_value(peek(s));
        if (digit < 0) {
            return refuse(s, "\\u needs four hexadecimal digits");
        }
        unit = unit * 16 + (unsigned)digit;
        s->at++;
    }
    *out_unit = unit;
    return true;
}

/* After "\u". Adds the bytes of the character in UTF-8. */
static bool scan_unicode(scanner *s, size_t *decoded_bytes)
{
    unsigned unit;
    if (!scan_unit(s, &unit)) {
        return false;
    }
    if (unit == 0) {
        return refuse(s, "\\u0000 is not allowed");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        return refuse(s, "low surrogate without a high one");
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        unsigned low;
        if (!take(s, '\\') || !take(s, 'u')) {
            return refuse(s, "high surrogate without a low one");
        }
        if (!scan_unit(s, &low)) {
            return false;
        }
        if (low < 0xdc00 || low > 0xdfff) {
            return refuse(s, "high surrogate without a low one");
        }
        *decoded_bytes += 4;
        return true;
    }
    *decoded_bytes += unit < 0x80 ? 1u : unit < 0x800 ? 2u : 3u;
    return true;
}

/* After "\". */
static bool scan_escape(scanner *s, size_t *decoded_bytes)
{
    const int c = peek(s);
    if (c == 'u') {
        s->at++;
        return scan_unicode(s, decoded_bytes);
    }
    /* strchr() would find the terminator for 0 */
    if (c <= 0 || strchr("\"\\/bfnrt", c) == NULL) {
        return refuse(s, "unknown escape in a string");
    }
    s->at++;
    *decoded_bytes += 1;
    return true;
}

/* At the opening quote. */
static bool scan_string(scanner *s)
{
    size_t decoded_bytes = 0;
    s->at++;
    for (;;) {
        const int c = peek(s);
        if (c < 0) {
            return refuse(s, "a string does not end");
        }
        if (c < 0x20) {
            return refuse(s, "control character in a string");
        }
        s->at++;
        if (c == '"') {
            return true;
        }
        if (c != '\\') {
            decoded_bytes++;
        } else if (!scan_escape(s, &decoded_bytes)) {
            return false;
        }
        if (decoded_bytes > PINTI_JSON_STRING_MAX) {
            return beyond(s, "a string is longer than 4096 bytes");
        }
    }
}

static bool scan_digits(scanner *s)
{
    if (!is_digit(peek(s))) {
        return refuse(s, "a digit is missing in a number");
    }
    while (is_digit(peek(s))) {
        s->at++;
    }
    return true;
}

/* An integer that a double would round is refused here: later nobody could tell. */
static bool check_exact(scanner *s, const char *digits, size_t n_digits)
{
    const size_t room = sizeof(EXACT_MAX) - 1;
    if (n_digits > room || (n_digits == room && memcmp(digits, EXACT_MAX, room) > 0)) {
        return beyond(s, "an integer is beyond 2^53; write it as a string");
    }
    return true;
}

static bool scan_number(scanner *s)
{
    const size_t start = s->at;
    (void)take(s, '-');
    const size_t digits = s->at;
    if (take(s, '0')) {
        if (is_digit(peek(s))) {
            return refuse(s, "a number begins with 0");
        }
    } else if (!scan_digits(s)) {
        return false;
    }
    const size_t n_digits = s->at - digits;
    bool integer = true;
    if (take(s, '.')) {
        integer = false;
        if (!scan_digits(s)) {
            return false;
        }
    }
    if (take(s, 'e') || take(s, 'E')) {
        integer = false;
        if (!take(s, '+')) {
            (void)take(s, '-');
        }
        if (!scan_digits(s)) {
            return false;
        }
    }
    if (s->at - start > NUMBER_CHARS_MAX) {
        return beyond(s, "a number is longer than 40 characters");
    }
    return !integer || check_exact(s, s->text + digits, n_digits);
}

static bool scan_word(scanner *s, const char *word)
{
    const size_t word_bytes = strlen(word);
    if (s->bytes - s->at < word_bytes || memcmp(s->text + s->at, word, word_bytes) != 0) {
        return refuse(s, "not a JSON value");
    }
    s->at += word_bytes;
    return true;
}

static bool enter(scanner *s, bool is_object)
{
    if (s->depth == PINTI_JSON_DEPTH_MAX) {
        return beyond(s, "nested deeper than 16");
    }
    s->is_object[s->depth++] = is_object;
    s->at++;
    return true;
}

/* One value; of a container only its opening bracket. out_opened: that was so. */
static bool scan_value(scanner *s, bool *out_opened)
{
    *out_opened = false;
    if (s->n_nodes == PINTI_JSON_NODES_MAX) {
        return beyond(s, "more than 8192 values");
    }
    s->n_nodes++;
    const int c = peek(s);
    switch (c) {
    case '{':
    case '[':
        *out_opened = true;
        return enter(s, c == '{');
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    case -1:
        return refuse(s, "a value is missing at the end");
    default:
        return c == '-' || is_digit(c) ? scan_number(s) : refuse(s, "not a JSON value");
    }
}

/* Name and colon of a member. */
static bool scan_name(scanner *s)
{
    skip_space(s);
    if (peek(s) != '"') {
        return refuse(s, "a member's name is missing");
    }
    if (!scan_string(s)) {
        return false;
    }
    skip_space(s);
    if (!take(s, ':')) {
        return refuse(s, "':' is missing after a member's name");
    }
    return true;
}

/*
 * After a value, or after an opening bracket (opened): close what ends here, and stop before the
 * next value. True with depth 0: the outermost value is complete.
 */
static bool scan_between(scanner *s, bool opened)
{
    while (s->depth > 0) {
        const bool is_object = s->is_object[s->depth - 1];
        skip_space(s);
        if (take(s, is_object ? '}' : ']')) {
            s->depth--;
            opened = false;
            continue;
        }
        if (!opened && !take(s, ',')) {
            return refuse(s, is_object ? "',' or '}' is missing" : "',' or ']' is missing");
        }
        return !is_object || scan_name(s);
    }
    return true;
}

bool pinti_json_scan(const char *text, size_t bytes, pinti_json_fault *fault)
{
    scanner s = {.text = text, .bytes = bytes, .fault = fault};
    if (!pinti_utf8_is_valid(text, bytes)) {
        return refuse(&s, "not UTF-8");
    }
    do {
        bool opened;
        skip_space(&s);
        if (!scan_value(&s, &opened) || !scan_between(&s, opened)) {
            return false;
        }
    } while (s.depth > 0);
    skip_space(&s);
    if (s.at != bytes) {
        return refuse(&s, "bytes after the value");
    }
    return true;
}
