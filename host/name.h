/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_NAME_H
#define HOST_NAME_H

/* Names as zero-padded words, their hash, and the place of the hash in the name index. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "host/layout.h"

typedef struct pinti_name {
    uint64_t words[PINTI_NAME_WORDS]; /* words at and after n_words are not set */
    uint32_t bytes;
    uint32_t n_words;
    uint64_t hash;
} pinti_name;

/* Word i of a text of that many bytes, zero padded; i * 8 < bytes. */
static inline uint64_t pinti_name_word(const char *text, size_t bytes, uint32_t i)
{
    uint64_t word = 0;
    const size_t left = bytes - i * 8ull;
    if (left >= 8) {
        memcpy(&word, text + i * 8ull, 8);
    } else if (bytes >= 8) { /* little endian: the last eight bytes, shifted down */
        memcpy(&word, text + bytes - 8, 8);
        word >>= 8 * (8 - left);
    } else {
        for (size_t at = left; at-- > 0;) {
            word = word << 8 | (unsigned char)text[at];
        }
    }
    return word;
}

/* False when the text is no name: empty, over 255 bytes. Does not check UTF-8. */
static inline bool pinti_name_set(pinti_name *name, const char *text)
{
    const size_t bytes = strnlen(text, PINTI_NAME_BYTES_MAX + 1u);
    if (bytes == 0 || bytes > PINTI_NAME_BYTES_MAX) {
        return false;
    }
    name->bytes = (uint32_t)bytes;
    name->n_words = (uint32_t)((bytes + 7) / 8);
    uint64_t h = 0x9e3779b97f4a7c15ull ^ bytes;
    for (uint32_t i = 0; i < name->n_words; i++) {
        /* each word by a load of its own: words read back from one copy of the whole text would
         * each wait for several of its stores */
        const uint64_t word = pinti_name_word(text, bytes, i);
        name->words[i] = word;
        h = (h ^ word) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    name->hash = h;
    return true;
}

/* First place in the index, and the tag kept there: probing is linear from the first place. */
static inline uint32_t pinti_index_first(uint64_t hash)
{
    return (uint32_t)(hash >> 8) & (PINTI_INDEX_SLOTS - 1u);
}

static inline uint32_t pinti_index_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

/* Is this text allowed as a column name: UTF-8, 1..255 bytes, no control characters (C0, DEL, C1)?
 */
bool pinti_column_name_is_valid(const char *text, size_t bytes);

/* The same for a table or job name, which moreover has no '/' and is not "." or "..". */
bool pinti_name_is_valid(const char *text, size_t bytes);

/* Is it well-formed UTF-8 (no overlong forms, surrogates, or beyond U+10FFFF)? */
bool pinti_utf8_is_valid(const char *text, size_t bytes);

#endif
