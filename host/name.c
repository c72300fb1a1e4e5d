/* SPDX-License-Identifier: Apache-2.0 */

/* Which texts are names, and what is UTF-8. */

#include "host/name.h"

/* Length of the well-formed character at text, 0 if there is none; see table 3-7 of the Unicode
 * standard, which this follows row by row. */
static size_t utf8_character(const unsigned char *text, size_t bytes)
{
    const unsigned char c = text[0];
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        return bytes >= 2 && (text[1] & 0xc0u) == 0x80u ? 2 : 0;
    }
    if (c >= 0xe0 && c <= 0xef) {
        if (bytes < 3 || (text[1] & 0xc0u) != 0x80u || (text[2] & 0xc0u) != 0x80u) {
            return 0;
        }
        const bool is_overlong = c == 0xe0 && text[1] < 0xa0;
        const bool is_surrogate = c == 0xed && text[1] > 0x9f;
        return is_overlong || is_surrogate ? 0 : 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (bytes < 4 || (text[1] & 0xc0u) != 0x80u || (text[2] & 0xc0u) != 0x80u ||
            (text[3] & 0xc0u) != 0x80u) {
            return 0;
        }
        const bool is_overlong = c == 0xf0 && text[1] < 0x90;
        const bool is_beyond = c == 0xf4 && text[1] > 0x8f;
        return is_overlong || is_beyond ? 0 : 4;
    }
    return 0;
}

bool pinti_utf8_is_valid(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes) {
        uint64_t word;
        if (bytes - i >= sizeof(word)) { /* eight ASCII bytes at a time */
            memcpy(&word, text + i, sizeof(word));
            if ((word & 0x8080808080808080ull) == 0) {
                i += sizeof(word);
                continue;
            }
        }
        const size_t n = utf8_character((const unsigned char *)text + i, bytes - i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

bool pinti_column_name_is_valid(const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > PINTI_NAME_BYTES_MAX || !pinti_utf8_is_valid(text, bytes)) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)text[i];
        const bool is_c1 = c == 0xc2 && (unsigned char)text[i + 1] < 0xa0u;
        if (c < 0x20 || c == 0x7f || is_c1) {
            return false;
        }
    }
    return true;
}

bool pinti_name_is_valid(const char *text, size_t bytes)
{
    const bool is_dots =
        (bytes == 1 && text[0] == '.') || (bytes == 2 && text[0] == '.' && text[1] == '.');
    return !is_dots && pinti_column_name_is_valid(text, bytes) && memchr(text, '/', bytes) == NULL;
}
