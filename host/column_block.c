/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Columns that are added to a table while it is open. A descriptor is made with the columns there
 * are then; later ones go into blocks, which are allocated once and never moved, so that pointers
 * and copies of columns stay valid.
 *
 *   service                        the thread that looks, under pool->lock     any thread
 *   records of the new columns     load rec.xn_columns (acquire)               load desc.xn_columns
 *   rec.xn_columns (release)       block, column, bucket of its name            (acquire): all
 * below desc.xn_columns (release)                    it may be followed
 *
 * Nobody is told about an addition: whoever does not find a column by name or position, or asks how
 * many there are, looks at the record again. Nothing else on the way of a claim or a read does.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/error.h"
#include "host/name.h"
#include "host/table.h"
#include "host/writable_view.h"

/* The block of a position behind the first columns; *out_first: position of its first. */
static uint32_t block_of(const pinti_table_desc *desc, uint32_t index, uint32_t *out_first)
{
    uint32_t first = desc->n_first;
    uint32_t block = 0;
    while (block + 1 < PINTI_COLUMN_BLOCKS && index - first >= pinti_run_room(block + 1)) {
        first += pinti_run_room(block + 1);
        block++;
    }
    *out_first = first;
    return block;
}

const pinti_column_desc *pinti_column_desc_added(const pinti_table_desc *desc, uint32_t index)
{
    uint32_t first;
    const uint32_t block = block_of(desc, index, &first);
    return &desc->blocks[block]->columns[index - first];
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Among the columns below n, an acquired value of xn_columns. */
static bool find_below(const pinti_table_desc *desc, uint32_t n, const char *name, uint64_t hash,
                       uint32_t *out_index)
{
    for (uint32_t at = desc->n_first, b = 0; at < n && b < PINTI_COLUMN_BLOCKS; b++) {
        const pinti_column_block *block = desc->blocks[b];
        for (uint64_t place = hash;; place++) {
            /* relaxed: an entry below n was stored before xn_columns */
            const uint32_t entry =
                pinti_load32_relaxed(&block->xbuckets[place & (block->n_buckets - 1)]);
            if (entry == 0) {
                break;
            }
            if (entry - 1 < n && strcmp(block->columns[entry - 1 - block->first].name, name) == 0) {
                *out_index = entry - 1;
                return true;
            }
        }
        at += block->room;
    }
    return false;
}

bool pinti_column_find_added(pinti_table_desc *desc, const char *name, uint64_t hash,
                             uint32_t *out_index, pint_error *err)
{
    /* acquire: blocks, columns and buckets; pairs with pinti_columns_extend_locked() */
    const uint32_t n = pinti_load32_acquire(&desc->xn_columns);
    if (find_below(desc, n, name, hash, out_index)) {
        return true;
    }
    if (pinti_load32_acquire(&desc->rec->xn_columns) == n ||
        pinti_columns_extend(desc, err) != PINT_OK) {
        return false;
    }
    return find_below(desc, pinti_load32_acquire(&desc->xn_columns), name, hash, out_index);
}

/* ---- growing --------------------------------------------------------------------------------- */

static pinti_column_block *block_new(uint32_t first, uint32_t room)
{
    /* sizes of aligned types: a multiple of the line, as aligned_alloc() wants */
    const size_t bytes = sizeof(pinti_column_block) + room * sizeof(pinti_column_desc);
    pinti_column_block *block = aligned_alloc(PINTI_CACHE_LINE, bytes);
    if (block == NULL) {
        return NULL;
    }
    memset(block, 0, bytes);
    block->first = first;
    block->room = room;
    block->n_buckets = 2 * room; /* rooms are powers of two */
    block->xbuckets = calloc(block->n_buckets, sizeof(*block->xbuckets));
    if (block->xbuckets == NULL) {
        free(block);
        return NULL;
    }
    return block;
}

/* The column at a position: described, but not counted by xn_columns yet. */
static pint_status add_column(pinti_table_desc *desc, uint32_t index, pint_error *err)
{
    uint32_t first;
    const uint32_t b = block_of(desc, index, &first);
    if (desc->blocks[b] == NULL) {
        desc->blocks[b] = block_new(first, pinti_run_room(b + 1));
    }
    pinti_column_block *block = desc->blocks[b];
    if (block == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "column: a table of %u columns", index + 1);
    }
    const pinti_column_rec *rec = pinti_cat_column(desc->pool->catalog, desc->rec, index);
    pinti_column_desc *column = &block->columns[index - first];
    pinti_name name;
    if (rec == NULL || !pinti_column_describe(desc, index, rec, column) ||
        !pinti_name_set(&name, column->name)) {
        memset(column, 0, sizeof(*column));
        return pinti_fail(err, PINT_E_CORRUPT, 0, "column: %u of table record %u cannot be", index,
                          desc->index);
    }
    uint64_t place = name.hash;
    while (pinti_load32_relaxed(&block->xbuckets[place & (block->n_buckets - 1)]) != 0) {
        place++;
    }
    /* relaxed: counts for a reader only below xn_columns, which is stored after it */
    pinti_store32_relaxed(&block->xbuckets[place & (block->n_buckets - 1)], index + 1);
    return PINT_OK;
}

pint_status pinti_columns_extend_locked(pinti_table_desc *desc, pint_error *err)
{
    uint32_t n = pinti_load32_relaxed(&desc->xn_columns); /* changed under this lock only */
    /* acquire: runs and records below it; pairs with the service's release (catalog_columns.c) */
    const uint32_t n_now = pinti_load32_acquire(&desc->rec->xn_columns);
    if (n_now > PINTI_TABLE_COLUMNS_MAX) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "column: %u columns in table record %u", n_now,
                          desc->index);
    }
    pint_status status = PINT_OK;
    while (n < n_now && status == PINT_OK) {
        status = add_column(desc, n, err);
        n += status == PINT_OK ? 1 : 0;
    }
    /* release: the columns below it; pairs with the acquire of whoever follows them */
    pinti_store32_release(&desc->xn_columns, n);
    return status;
}

pint_status pinti_columns_extend(pinti_table_desc *desc, pint_error *err)
{
    (void)pthread_mutex_lock(&desc->pool->lock);
    const pint_status status = pinti_columns_extend_locked(desc, err);
    (void)pthread_mutex_unlock(&desc->pool->lock);
    return status;
}

/* ---- operation locks ------------------------------------------------------------------------- */

/* A forked child gets zeros: its parent's leases are not its own. */
static bool make_map(pinti_lock_map *map, uint32_t n_columns, uint32_t n_chunks)
{
    const size_t bytes = (size_t)n_columns * n_chunks;
    if (map->locks != NULL) {
        return true;
    }
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return false;
    }
    (void)madvise(at, bytes, MADV_WIPEONFORK);
    map->locks = at;
    map->bytes = bytes;
    return true;
}

/* What came to these columns after they were described. */
static void free_extras(pinti_column_desc *columns, uint32_t n, const pinti_lock_map *map)
{
    for (uint32_t i = 0; i < n; i++) {
        pinti_dict_free(columns[i].dict);
        pinti_views_forget_column(&columns[i]);
    }
    if (map->locks != NULL) {
        (void)munmap(map->locks, map->bytes);
    }
}

bool pinti_operation_locks(pinti_table_desc *desc, uint32_t index, pinti_a8 **out_locks)
{
    uint32_t first = 0;
    uint32_t room = desc->n_first;
    pinti_lock_map *map = &desc->map;
    *out_locks = NULL;
    if (desc->n_chunks == 0) {
        return true;
    }
    if (index >= desc->n_first) {
        pinti_column_block *block = desc->blocks[block_of(desc, index, &first)];
        room = block->room;
        map = &block->map;
    }
    if (!make_map(map, room, desc->n_chunks)) {
        return false;
    }
    *out_locks = &map->locks[(uint64_t)(index - first) * desc->n_chunks];
    return true;
}

void pinti_columns_free(pinti_table_desc *desc)
{
    for (uint32_t b = 0; b < PINTI_COLUMN_BLOCKS && desc->blocks[b] != NULL; b++) {
        pinti_column_block *block = desc->blocks[b];
        free_extras(block->columns, block->room, &block->map);
        free(block->xbuckets);
        free(block);
    }
    free_extras(desc->columns, desc->n_first, &desc->map);
}
