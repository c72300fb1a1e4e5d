/* SPDX-License-Identifier: Apache-2.0 */

/* What a joined pool can tell of itself: from its handle and the catalog, without the service. */

#include <string.h>

#include "host/catalog.h"
#include "host/error.h"
#include "host/pool.h"
#include "host/word.h"

#define NAME_TRIES 1000u /* a rename takes a few stores */

void pint_pool_id(const pint_pool *pool, uint8_t *out_id)
{
    _Static_assert(sizeof(pool->header->pool_id) == 16, "an id has 16 bytes");
    memcpy(out_id, pool->header->pool_id, sizeof(pool->header->pool_id));
}

int pint_pool_contains(const pint_pool *pool, const void *address, uint64_t n_bytes)
{
    if (pool == NULL) {
        return 0;
    }
    const uint64_t need = n_bytes != 0 ? n_bytes : 1;
    const uintptr_t base = (uintptr_t)pool->data;
    const uintptr_t at = (uintptr_t)address;
    return at >= base && need <= pool->data_bytes && at - base <= pool->data_bytes - need;
}

uint64_t pint_pool_session(pint_pool *pool)
{
    if (pool == NULL || pinti_pool_enter(pool, NULL) != PINT_OK) {
        return 0;
    }
    return pool->session_id;
}

const char *pint_pool_address(const pint_pool *pool)
{
    return pool->address;
}

pint_status pint_pool_next_table(pint_pool *pool, uint64_t *cursor, char *out_name, pint_error *err)
{
    if (pool == NULL || cursor == NULL || out_name == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "next table: NULL argument");
    }
    uint32_t n = pinti_load32_acquire(&pool->header->xn_tables);
    if (n > PINTI_TABLES_MAX) {
        n = PINTI_TABLES_MAX;
    }
    for (; *cursor < n; (*cursor)++) {
        const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[*cursor];
        const uint64_t state = pinti_load64_acquire(&rec->xgen_state);
        if (pinti_state_of(state) != PINTI_LIVE) {
            continue;
        }
        for (uint32_t i = 0; i < NAME_TRIES; i++) {
            if (pinti_catalog_read_name(rec, out_name)) {
                (*cursor)++;
                return PINT_OK;
            }
        }
    }
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "next table: no further table");
}
