/* SPDX-License-Identifier: Apache-2.0 */

/* Status names and texts from the one table in pintable/status.h, and the filling of pint_error. */

#include "host/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/name.h"

const char *pint_status_name(pint_status status)
{
    switch (status) {
#define PINTI_STATUS_NAME(name, number, text)                                                      \
    case number:                                                                                   \
        return #name;
        PINT_STATUS_MAP(PINTI_STATUS_NAME)
#undef PINTI_STATUS_NAME
    default:
        return "unknown status";
    }
}

const char *pint_status_text(pint_status status)
{
    switch (status) {
#define PINTI_STATUS_TEXT(name, number, text)                                                      \
    case number:                                                                                   \
        return text;
        PINT_STATUS_MAP(PINTI_STATUS_TEXT)
#undef PINTI_STATUS_TEXT
    default:
        return "unknown status";
    }
}

/* A text that was cut at its end: without the part of a character that may be left there. */
static void trim_character(char *text, size_t bytes)
{
    size_t at = bytes;
    while (at > 0 && bytes - at < 3 && ((unsigned char)text[at - 1] & 0xc0u) == 0x80u) {
        at--;
    }
    if (at > 0 && (unsigned char)text[at - 1] >= 0xc0u &&
        !pinti_utf8_is_valid(text + at - 1, bytes - at + 1)) {
        text[at - 1] = '\0';
    }
}

pint_status pinti_fail(pint_error *err, pint_status status, int sys_errno, const char *format, ...)
{
    if (err == NULL) {
        return status;
    }
    err->status = status;
    err->sys_errno = sys_errno;
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(err->message, sizeof(err->message), format, arguments);
    va_end(arguments);
    if (n >= (int)sizeof(err->message)) {
        trim_character(err->message, sizeof(err->message) - 1);
    }
    if (sys_errno != 0 && n >= 0 && (size_t)n + 2 < sizeof(err->message)) {
        char text[96];
        /* the GNU strerror_r: returns the text, which may or may not lie in the buffer */
        const char *reason = strerror_r(sys_errno, text, sizeof(text));
        (void)snprintf(err->message + n, sizeof(err->message) - (size_t)n, ": %s", reason);
    }
    return status;
}

const char *pinti_printable(char *out, size_t room, const char *text, size_t text_bytes)
{
    if (room == 0) {
        return out;
    }
    const bool is_utf8 = pinti_utf8_is_valid(text, text_bytes);
    size_t n = text_bytes < room ? text_bytes : room - 1;
    const bool cut = n < text_bytes;
    if (cut) {
        n -= n >= 2 ? 2 : 0;
        while (n > 0 && is_utf8 && ((unsigned char)text[n] & 0xc0u) == 0x80u) {
            n--; /* not in the middle of a character */
        }
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool is_c1 = c == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0u;
        out[i] = c < 0x20 || c == 0x7f || is_c1 || (c >= 0x80 && !is_utf8) ? '?' : text[i];
        if (is_c1) {
            out[++i] = '?';
        }
    }
    if (cut && n + 2 < room) {
        out[n++] = '.';
        out[n++] = '.';
    }
    out[n] = '\0';
    return out;
}
