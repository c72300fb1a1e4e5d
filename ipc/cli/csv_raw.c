/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packed fields of one CSV column. Invariant: raw->last is the only block that is added to, and
 * used_bytes of every block ends at the end of a field.
 */
#include "csv_raw.h"

#include <stdlib.h>

#define FIRST_BLOCK_BYTES 256u       /* small: a file may have thousands of columns */
#define MAX_BLOCK_BYTES   (1u << 20) /* big enough that malloc maps it and free gives it back */

pinti_csv_block *pinti_csv_raw_grow(pinti_csv_raw *raw, size_t text_bytes)
{
    const size_t overhead = sizeof(pinti_csv_block) + PINTI_CSV_VARINT_BYTES;
    size_t total = FIRST_BLOCK_BYTES;
    if (text_bytes > SIZE_MAX - overhead) {
        return NULL;
    }
    if (raw->last != NULL) {
        total = raw->last->room_bytes < MAX_BLOCK_BYTES / 2
                    ? (raw->last->room_bytes + sizeof(pinti_csv_block)) * 2
                    : MAX_BLOCK_BYTES;
    }
    total = total < text_bytes + overhead ? text_bytes + overhead : total;
    pinti_csv_block *block = malloc(total);
    if (block == NULL) {
        return NULL;
    }
    block->next = NULL;
    block->used_bytes = 0;
    block->room_bytes = total - sizeof(*block);
    if (raw->last == NULL) {
        raw->first = block;
    } else {
        raw->last->next = block;
    }
    raw->last = block;
    return block;
}

void pinti_csv_raw_done(pinti_csv_raw *raw)
{
    pinti_csv_block *block = raw->first;
    while (block != NULL) {
        pinti_csv_block *next = block->next;
        free(block);
        block = next;
    }
    *raw = (pinti_csv_raw){0};
}
