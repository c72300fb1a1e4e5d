/* SPDX-License-Identifier: Apache-2.0 */

/* Device copies of a column, as the catalog and the chunk words say. */

#include <stdio.h>
#include <string.h>

#include "host/word.h"
#include "ipc/cli/inspect.h"
#include "ipc/copies.h"

static void count_places(const pint_column *column, uint32_t device, pinti_copy_info *out)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t n_chunks = pint_table_chunks(column->table);
    const uint64_t bit = 2ull << device;
    for (uint64_t chunk = 0; chunk < n_chunks; chunk++) {
        /* relaxed: counts for people */
        const uint64_t places = pinti_chunk_places(pinti_load64_relaxed(&desc->words[chunk]));
        out->n_current += (places & bit) != 0 ? 1 : 0;
        out->n_alone += places == bit ? 1 : 0;
    }
}

uint32_t pinti_inspect_copies(const pint_column *column, pinti_copy_info out[PINTI_DEVICES_MAX])
{
    void *catalog = column->table->desc->pool->catalog;
    uint32_t n = 0;
    for (uint32_t device = 0; device < PINTI_DEVICES_MAX; device++) {
        const pinti_device_rec *rec = &pinti_cat_devices(catalog)[device];
        uint32_t index = 0;
        uint32_t generation = 0;
        /* acquire: pairs with the store that publishes the device's record */
        if (pinti_load32_acquire(&rec->xis_there) == 0 ||
            !pinti_copy_find(column, device, &index, &generation)) {
            continue;
        }
        pinti_copy_info *info = &out[n];
        *info = (pinti_copy_info){.kind = pinti_cat_copies(catalog)[index].kind,
                                  .bytes = pinti_cat_copies(catalog)[index].bytes};
        memcpy(info->device, rec->name, sizeof(rec->name));
        info->device[sizeof(rec->name) - 1] = '\0';
        for (size_t i = 0; i < sizeof(rec->uuid); i++) {
            (void)snprintf(info->uuid + 2 * i, 3, "%02x", rec->uuid[i]);
        }
        count_places(column, device, info);
        n += pinti_copy_is_dropped(column->table->desc->pool, index, generation) ? 0 : 1;
    }
    return n;
}
