/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_SCHEMA_H
#define IPC_SERVICE_SCHEMA_H

/* From a checked schema to the places of a table's buffers and words; see docs/format.md. */

#include "ipc/service/catalog.h"

/* Sizes that follow from a schema. */
typedef struct pinti_shape {
    uint64_t row_capacity;
    uint64_t chunk_rows;
    uint32_t n_chunks;
    uint64_t words_bytes; /* of one column: 8 a chunk, rounded up to cache lines */
    uint64_t data_bytes;
    uint64_t sync_bytes;
    uint64_t metadata; /* place of the table's own metadata, behind all columns; as pinti_place */
} pinti_shape;

/* Where the things of one column are, from the start of the table's extent and sync block.
 * PINTI_NO_BUFFER: it has none. */
typedef struct pinti_place {
    uint64_t validity;
    uint64_t values;
    uint64_t offsets;
    uint64_t data;
    uint64_t dict_offsets;
    uint64_t metadata;
    uint64_t words;
    uint64_t state;
} pinti_place;

/* PINT_E_RANGE: sizes overflow; PINT_E_LIMIT: too many chunks. */
pint_status pinti_schema_shape(const pinti_schema *schema, pinti_shape *out_shape, pint_error *err);

/* The place of column i; *cursor, 0 before column 0, is where the buffers end so far. False: sizes
 * overflow (not for a schema that has a shape). */
bool pinti_schema_place(const pinti_schema *schema, const pinti_shape *shape, uint32_t i,
                        uint64_t *cursor, pinti_place *out_place);

/* Bytes of a row in the values buffer; 0 for bits and text. */
uint32_t pinti_schema_row_bytes(const struct pinti_schema_column *column);

#endif
