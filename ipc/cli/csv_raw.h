/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unconverted fields of one CSV column, packed.
 *
 * A field is a varint (7 bits per byte, low bits first, high bit: more follow) and its bytes; the
 * varint is 0 for null and length + 1 otherwise. So a field of up to 126 bytes costs what it and
 * its delimiter cost in the file. Fields sit in a list of blocks, each field whole in one block:
 * nothing is moved when a column grows, and a view of a field stays valid until _done().
 */
#ifndef PINTABLE_IPC_CLI_CSV_RAW_H
#define PINTABLE_IPC_CLI_CSV_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct pinti_csv_block {
    struct pinti_csv_block *next;
    size_t used_bytes;
    size_t room_bytes; /* of bytes[] */
    unsigned char bytes[];
} pinti_csv_block;

/* All zero is an empty column. */
typedef struct pinti_csv_raw {
    pinti_csv_block *first;
    pinti_csv_block *last;
    uint64_t n_rows; /* nulls included */
    uint64_t n_null;
    uint64_t text_bytes; /* of all fields, without the varints */
} pinti_csv_raw;

#define PINTI_CSV_VARINT_BYTES 10 /* most bytes of a varint of 64 bits */

/* Write value, return the bytes written (at most PINTI_CSV_VARINT_BYTES). */
static inline size_t pinti_csv_varint_put(unsigned char *to, uint64_t value)
{
    size_t n = 0;
    while (value >= 0x80) {
        to[n++] = (unsigned char)(value | 0x80);
        value >>= 7;
    }
    to[n++] = (unsigned char)value;
    return n;
}

/* Read a value written by pinti_csv_varint_put(), return the bytes read. */
static inline size_t pinti_csv_varint_get(const unsigned char *from, uint64_t *out_value)
{
    uint64_t value = from[0] & 0x7f;
    size_t n = 1;
    for (unsigned shift = 7; (from[n - 1] & 0x80) != 0; shift += 7) {
        value |= (uint64_t)(from[n++] & 0x7f) << shift;
    }
    *out_value = value;
    return n;
}

/* Append a block with room for a field of text_bytes. NULL: out of memory. */
pinti_csv_block *pinti_csv_raw_grow(pinti_csv_raw *raw, size_t text_bytes);

/* Append a field; text NULL (and 0 bytes) is null. False: out of memory, nothing added. */
static inline bool pinti_csv_raw_add(pinti_csv_raw *raw, const void *text, size_t text_bytes)
{
    pinti_csv_block *block = raw->last;
    if (block == NULL || block->room_bytes - block->used_bytes < PINTI_CSV_VARINT_BYTES ||
        block->room_bytes - block->used_bytes - PINTI_CSV_VARINT_BYTES < text_bytes) {
        block = pinti_csv_raw_grow(raw, text_bytes);
        if (block == NULL) {
            return false;
        }
    }
    unsigned char *to = block->bytes + block->used_bytes;
    const size_t head_bytes = pinti_csv_varint_put(to, text == NULL ? 0 : (uint64_t)text_bytes + 1);
    if (text != NULL) {
        memcpy(to + head_bytes, text, text_bytes);
    } else {
        raw->n_null++;
    }
    block->used_bytes += head_bytes + text_bytes;
    raw->text_bytes += text_bytes;
    raw->n_rows++;
    return true;
}

/* Free the blocks and zero raw. */
void pinti_csv_raw_done(pinti_csv_raw *raw);

typedef struct pinti_csv_cursor {
    const pinti_csv_block *block;
    size_t at; /* bytes from the start of the block */
} pinti_csv_cursor;

static inline pinti_csv_cursor pinti_csv_raw_start(const pinti_csv_raw *raw)
{
    return (pinti_csv_cursor){.block = raw->first, .at = 0};
}

/*
 * The next field as a view, valid until pinti_csv_raw_done(); *out_text is NULL for null. False
 * after the last one.
 */
static inline bool pinti_csv_raw_next(pinti_csv_cursor *cursor, const char **out_text,
                                      size_t *out_bytes)
{
    while (cursor->block != NULL && cursor->at == cursor->block->used_bytes) {
        cursor->block = cursor->block->next;
        cursor->at = 0;
    }
    if (cursor->block == NULL) {
        return false;
    }
    const unsigned char *bytes = cursor->block->bytes + cursor->at;
    uint64_t head;
    const size_t head_bytes = pinti_csv_varint_get(bytes, &head);
    const size_t n = head == 0 ? 0 : (size_t)(head - 1);
    *out_text = head == 0 ? NULL : (const char *)bytes + head_bytes;
    *out_bytes = n;
    cursor->at += head_bytes + n;
    return true;
}

#endif
