/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The creator's own bytes of a table and of its columns. They lie in the table's extent of the data
 * segment, are written before the creator gets its handle and never again, and mean nothing to the
 * library. Offset and size are checked once, when the table is described; the bytes are a peer's.
 */

#include "host/table.h"

bool pinti_metadata_map(const pint_pool *pool, uint64_t off, uint64_t bytes,
                        pinti_metadata *out_metadata)
{
    *out_metadata = (pinti_metadata){NULL, 0};
    if (bytes == 0) {
        return true; /* then the offset means nothing */
    }
    if (bytes > PINT_METADATA_BYTES_MAX || off % PINTI_CACHE_LINE != 0 ||
        bytes > pool->data_bytes || off > pool->data_bytes - bytes) {
        return false;
    }
    *out_metadata = (pinti_metadata){pool->data + off, bytes};
    return true;
}

static const void *view(const pinti_metadata *metadata, uint64_t *out_bytes)
{
    if (out_bytes != NULL) {
        *out_bytes = metadata->bytes;
    }
    return metadata->at;
}

const void *pint_table_metadata(const pint_table *table, uint64_t *out_bytes)
{
    return view(&table->desc->metadata, out_bytes);
}

const void *pint_column_metadata(const pint_column *column, uint64_t *out_bytes)
{
    return view(&pinti_column_desc_of(column)->metadata, out_bytes);
}
