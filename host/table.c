/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Opening and closing tables, one-sided (R11, tests/model/open_drop.pml):
 *
 *   opener                                   service dropping
 *   1 find name -> index, LIVE generation    a record := DYING (seq)
 *   2 slot word += 1 (seq)                   b read every slot's word (seq)
 *   3 read the record again: still LIVE?     c nobody refers: free the memory, FREE
 *     read stale: still 0?
 *   if not: slot word -= 1, start again
 *
 * Either 3 sees DYING, or b sees the reference.
 */

#include "host/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/catalog.h"
#include "host/error.h"
#include "host/job.h"
#include "host/word.h"

#define OPEN_TRIES 1000u

/* ---- descriptors ----------------------------------------------------------------------------- */

static bool range_is_inside(uint64_t off, uint64_t bytes, uint64_t limit)
{
    return off % PINTI_CACHE_LINE == 0 && bytes <= limit && off <= limit - bytes;
}

/* One buffer of a column: *out is NULL for none. */
static bool map_buffer(const pint_pool *pool, uint64_t off, uint64_t bytes, void **out)
{
    *out = NULL;
    if (off == PINTI_NO_BUFFER) {
        return true;
    }
    if (!range_is_inside(off, bytes, pool->data_bytes)) {
        return false;
    }
    *out = pool->data + off;
    return true;
}

bool pinti_column_describe(pinti_table_desc *desc, uint32_t index, const pinti_column_rec *rec,
                           pinti_column_desc *column)
{
    const pint_pool *pool = desc->pool;
    const uint64_t rows = desc->rec->row_capacity;
    column->pool = desc->pool;
    column->table = desc;
    column->table_rec = desc->rec;
    column->intent = pinti_intent(PINTI_INTENT_LEASE, desc->index, index, 0);
    column->n_rows = desc->n_rows;
    column->chunk_rows = desc->chunk_rows;
    column->n_chunks = desc->n_chunks;
    column->rec = rec;
    column->type = rec->type;
    column->row_bytes = rec->row_bytes;
    column->data_bytes = rec->data_bytes;
    column->n_categories = rec->n_categories;
    if (rec->name_bytes == 0 || rec->name_bytes > PINTI_NAME_BYTES_MAX ||
        pint_type_name(rec->type) == NULL || rec->row_bytes > 1u << 28 ||
        rec->n_categories > INT32_MAX || rec->data_bytes > pool->data_bytes ||
        !range_is_inside(rec->words_off, desc->n_chunks * 8ull, pool->sync_bytes) ||
        !range_is_inside(rec->state_off, sizeof(pinti_column_state), pool->sync_bytes)) {
        return false;
    }
    memcpy(column->name, rec->name, PINTI_NAME_BYTES_MAX);
    column->name[rec->name_bytes] = '\0';
    memcpy(column->zone, rec->zone, sizeof(column->zone) - 1);
    column->words = (pinti_a64 *)(void *)(pool->sync + rec->words_off);
    column->state = (pinti_column_state *)(void *)(pool->sync + rec->state_off);
    uint64_t value_bytes = (rows + 7) / 8;
    if (rec->row_bytes != 0 && __builtin_mul_overflow(rows, rec->row_bytes, &value_bytes)) {
        return false;
    }
    void *values;
    void *validity;
    void *offsets;
    void *data;
    void *dict_offsets;
    if (!map_buffer(pool, rec->values_off, value_bytes, &values) ||
        !map_buffer(pool, rec->validity_off, (rows + 7) / 8, &validity) ||
        !map_buffer(pool, rec->offsets_off, (rows + 1) * 8, &offsets) ||
        !map_buffer(pool, rec->data_off, rec->data_bytes, &data) ||
        !map_buffer(pool, rec->dict_offsets_off, (rec->n_categories + 1) * 8, &dict_offsets)) {
        return false;
    }
    if (!pinti_metadata_map(pool, rec->metadata_off, rec->metadata_bytes, &column->metadata)) {
        return false;
    }
    const bool is_text = rec->type == PINT_TEXT;
    if ((values == NULL) != is_text || (offsets != NULL) != is_text ||
        (validity != NULL) != ((rec->flags & PINT_NULLABLE) != 0) ||
        (dict_offsets != NULL) != (rec->type == PINT_DICT_TEXT) ||
        (data != NULL) != (is_text || rec->type == PINT_DICT_TEXT)) {
        return false;
    }
    column->values = values;
    column->validity = validity;
    column->offsets = offsets;
    column->data = data;
    column->dict_offsets = dict_offsets;
    return true;
}

static uint64_t hash_name(const char *text)
{
    pinti_name name;
    return pinti_name_set(&name, text) ? name.hash : 0;
}

/* The columns there are now; later ones go into blocks (host/column_block.c). */
static bool describe_columns(pinti_table_desc *desc)
{
    for (uint32_t n = 0; n < desc->n_first; n++) {
        const pinti_column_rec *rec = pinti_cat_column(desc->pool->catalog, desc->rec, n);
        if (rec == NULL || !pinti_column_describe(desc, n, rec, &desc->columns[n])) {
            return false;
        }
        uint64_t at = hash_name(desc->columns[n].name);
        while (desc->buckets[at & (desc->n_buckets - 1)] != 0) {
            at++;
        }
        desc->buckets[at & (desc->n_buckets - 1)] = n + 1;
    }
    return true;
}

/* Under the pool's lock. NULL: there are too many. */
static struct pinti_table_head *head_take(pint_pool *pool)
{
    struct pinti_table_head *head = pool->free_heads;
    if (head != NULL) {
        pool->free_heads = head->next;
    } else if (pool->n_heads < PINTI_TABLE_HEADS_MAX) {
        head = &pool->heads[pool->n_heads++];
    }
    return head;
}

static void head_give(pint_pool *pool, struct pinti_table_head *head)
{
    if (head != NULL) {
        head->next = pool->free_heads;
        pool->free_heads = head;
    }
}

static void desc_free(pinti_table_desc *desc)
{
    if (desc != NULL) {
        head_give(desc->pool, desc->head);
        while (desc->lease_sets != NULL) { /* the pool is left: references go with the slot */
            struct pinti_lease_set *set = desc->lease_sets;
            desc->lease_sets = set->next;
            free(set);
        }
        pinti_columns_free(desc);
        free(desc->buckets);
        free(desc);
    }
}

/* Build a descriptor from a record this session refers to. NULL and err on failure. */
static pinti_table_desc *desc_new(pint_pool *pool, uint32_t index, uint32_t generation,
                                  pint_error *err)
{
    const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[index];
    pinti_table_desc *desc;
    /* acquire: the columns below it are complete; pairs with the service adding some */
    const uint32_t n_columns = pinti_load32_acquire(&rec->xn_columns);
    const uint64_t chunk_rows = rec->chunk_rows;
    if (n_columns == 0 || n_columns > PINTI_TABLE_COLUMNS_MAX || rec->n_rows > PINTI_ROWS_MAX ||
        chunk_rows < PINTI_CHUNK_ROWS_MIN || (chunk_rows & (chunk_rows - 1)) != 0 ||
        rec->row_capacity < rec->n_rows || rec->row_capacity > 2 * PINTI_ROWS_MAX ||
        rec->n_chunks > PINTI_CHUNKS_MAX ||
        rec->n_chunks != (rec->n_rows + chunk_rows - 1) / chunk_rows) {
        (void)pinti_fail(err, PINT_E_CORRUPT, 0, "open: table record %u cannot be", index);
        return NULL;
    }
    const size_t bytes =
        (sizeof(*desc) + (size_t)n_columns * sizeof(desc->columns[0]) + PINTI_CACHE_LINE - 1) /
        PINTI_CACHE_LINE * PINTI_CACHE_LINE;
    desc = aligned_alloc(PINTI_CACHE_LINE, bytes);
    if (desc == NULL) {
        (void)pinti_fail(err, PINT_E_NO_MEMORY, 0, "open: a table of %u columns", n_columns);
        return NULL;
    }
    memset(desc, 0, bytes);
    desc->n_buckets = 4;
    while (desc->n_buckets < 2 * n_columns) {
        desc->n_buckets *= 2;
    }
    desc->buckets = calloc(desc->n_buckets, sizeof(*desc->buckets));
    desc->pool = pool;
    desc->rec = rec;
    desc->bell = &pool->bells[index % PINTI_BELLS];
    desc->index = index;
    desc->generation = generation;
    desc->n_rows = rec->n_rows;
    desc->chunk_rows = chunk_rows;
    desc->chunk_shift = (uint32_t)__builtin_ctzll(chunk_rows);
    desc->n_chunks = rec->n_chunks;
    desc->n_first = n_columns;
    pinti_store32_relaxed(&desc->xn_columns, n_columns); /* the descriptor is published later */
    desc->head = head_take(pool);
    if (desc->buckets == NULL || desc->head == NULL) {
        (void)pinti_fail(err, PINT_E_NO_MEMORY, 0, "open: a table of %u columns", n_columns);
        goto err_desc;
    }
    if (!pinti_metadata_map(pool, rec->metadata_off, rec->metadata_bytes, &desc->metadata)) {
        (void)pinti_fail(err, PINT_E_CORRUPT, 0, "open: the metadata of table record %u cannot be",
                         index);
        goto err_desc;
    }
    if (!describe_columns(desc)) {
        (void)pinti_fail(err, PINT_E_CORRUPT, 0, "open: a column of table record %u cannot be",
                         index);
        goto err_desc;
    }
    *desc->head = (struct pinti_table_head){
        .handles = {{desc, PINT_READ}, {desc, PINT_READ | PINT_WRITE}},
        .pool = pool,
        .index = index,
        .generation = generation,
    };
    return desc;
err_desc:
    desc_free(desc);
    return NULL;
}

/* The descriptor of a generation this session refers to, made if need be. */
static pinti_table_desc *desc_get_slow(pint_pool *pool, uint32_t index, uint32_t generation,
                                       pint_error *err)
{
    (void)pthread_mutex_lock(&pool->lock);
    struct pinti_table_entry *entry = &pool->tables[index];
    pinti_table_desc *desc = entry->head != NULL ? entry->head->handles[0].desc : NULL;
    if (desc == NULL || desc->generation != generation) {
        pinti_table_desc *fresh = desc_new(pool, index, generation, err);
        if (fresh != NULL) {
            entry->head = fresh->head;
            /* release: pairs with head_get() */
            pinti_store32_release(&entry->generation, generation);
            desc_free(desc); /* of a generation nobody in this session refers to any more */
        }
        desc = fresh;
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return desc;
}

/* NULL and err when there is no descriptor and none can be made. */
static inline struct pinti_table_head *head_get(pint_pool *pool, uint32_t index,
                                                uint32_t generation, pint_error *err)
{
    /* acquire: the head behind it is complete; pairs with desc_get_slow() */
    if (__builtin_expect(pinti_load32_acquire(&pool->tables[index].generation) == generation, 1)) {
        return pool->tables[index].head;
    }
    const pinti_table_desc *desc = desc_get_slow(pool, index, generation, err);
    return desc != NULL ? desc->head : NULL;
}

void pinti_table_descs_free(pint_pool *pool)
{
    const uint32_t n = pool->header != NULL ? pinti_load32_acquire(&pool->header->xn_tables) : 0;
    for (uint32_t i = 0; i < n && i < PINTI_TABLES_MAX; i++) {
        if (pool->tables[i].head != NULL) {
            desc_free(pool->tables[i].head->handles[0].desc);
            pool->tables[i].head = NULL;
        }
    }
}

/* ---- open and close -------------------------------------------------------------------------- */

enum reference { REFERRED, GONE, STALE, CROSSED };

/* After a reference was dropped: what the last one leaves to be done. Descriptors may not be
 * followed here: without a reference they go when another generation takes the index. */
static void after_drop(pint_pool *pool, uint32_t index, uint32_t generation)
{
    /* relaxed: a hint, and in BUILDING the record is this session's own */
    const uint64_t now = pinti_load64_relaxed(&pinti_cat_tables(pool->catalog)[index].xgen_state);
    const bool is_same = pinti_gen_of(now) == generation;
    const uint32_t state = pinti_state_of(now);
    /* relaxed: a set is counted by a thread that holds a reference, so before its own drop, which
     * comes before ours in the order of the slot's word if ours is the last */
    if (__builtin_expect(
            is_same && state == PINTI_LIVE && pinti_load32_relaxed(&pool->n_lease_sets) == 0, 1)) {
        return;
    }
    const uint64_t word = pinti_load64_relaxed(&pinti_slot_tables(pool->slot)[index]);
    if (pinti_ref_count(word) != 0) {
        return;
    }
    pinti_lease_sets_close(pool, index, generation);
    if (is_same && state == PINTI_BUILDING) {
        pool->ops->discard_table(pool, index, generation);
    } else if (is_same && state != PINTI_LIVE) {
        pool->ops->closed_dropped(pool); /* the memory waited for us */
    }
}

/* Steps 2 and 3 of the protocol above. */
static inline enum reference refer(pint_pool *pool, uint32_t index, uint32_t generation)
{
    pinti_a64 *refs = pinti_slot_tables(pool->slot);
    if (!pinti_ref_take(refs, index, generation)) {
        return CROSSED;
    }
    const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[index];
    const uint64_t again = pinti_load64_seq(&rec->xgen_state); /* seq: after the slot's word */
    const bool is_live = pinti_gen_of(again) == generation && pinti_state_of(again) == PINTI_LIVE;
    if (__builtin_expect(is_live && !pinti_pool_is_stale(pool), 1)) {
        return REFERRED;
    }
    (void)pinti_ref_drop(refs, index, generation);
    after_drop(pool, index, generation); /* a sibling may have closed its handle meanwhile */
    return is_live ? STALE : GONE;
}

static pint_status not_found(const char *name, pint_error *err)
{
    char shown[80];
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "open: no table '%s' in the pool",
                      pinti_printable(shown, sizeof(shown), name, strlen(name)));
}

static pint_status refuse_write(const pint_pool *pool, uint64_t gen_state, const char *name,
                                pint_error *err)
{
    char shown[80];
    (void)pinti_printable(shown, sizeof(shown), name, strlen(name));
    if (!pool->writable) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "open: table '%s' for writing, in a pool joined read-only", shown);
    }
    if ((gen_state & PINTI_RECORD_FROZEN) != 0) {
        return pinti_fail(err, PINT_E_FROZEN, 0, "open: table '%s' for writing: it is frozen",
                          shown);
    }
    return PINT_OK;
}

/* Where a name is now; while names move for long, by asking the service. PINT_E_NOT_FOUND, or why
 * it could not be asked. */
static pint_status look_up(pint_pool *pool, const pinti_name *name, const char *text,
                           uint32_t *out_index, uint64_t *out_gen_state, pint_error *err)
{
    const enum pinti_lookup found =
        pinti_catalog_lookup(pool->catalog, name, out_index, out_gen_state);
    if (__builtin_expect(found == PINTI_LOOKUP_FOUND, 1)) {
        return PINT_OK;
    }
    if (found == PINTI_LOOKUP_MISS) {
        return not_found(text, err);
    }
    uint32_t generation;
    const pint_status status = pool->ops->find_table(pool, text, out_index, &generation, err);
    if (status != PINT_OK) {
        return status == PINT_E_NOT_FOUND ? not_found(text, err) : status;
    }
    if (*out_index >= PINTI_TABLES_MAX) {
        return not_found(text, err);
    }
    const uint64_t now =
        pinti_load64_acquire(&pinti_cat_tables(pool->catalog)[*out_index].xgen_state);
    *out_gen_state = (uint64_t)generation << 32 | (now & 0xffffffffu);
    return PINT_OK;
}

/* The handle of a table that was just referred to. The reference goes if there can be none. */
static inline pint_status hand_out(pint_pool *pool, uint32_t index, uint32_t generation,
                                   bool is_write, pint_table **out_table, pint_error *err)
{
    struct pinti_table_head *head = head_get(pool, index, generation, err);
    if (__builtin_expect(head == NULL, 0)) {
        (void)pinti_ref_drop(pinti_slot_tables(pool->slot), index, generation);
        return err != NULL ? err->status : PINT_E_CORRUPT;
    }
    *out_table = &head->handles[is_write];
    return PINT_OK;
}

/* No reference: PINT_OK when the opener is to look again. *n counts the tries. */
static pint_status after_refusal(enum reference result, uint32_t index, int64_t *crossed_ms,
                                 uint32_t *n, pint_error *err)
{
    if (result == STALE) {
        return pinti_fail(err, PINT_E_STALE, 0, "open: the pool was replaced");
    }
    if (result == CROSSED) {
        return pinti_ref_wait_for_sibling(crossed_ms)
                   ? PINT_OK /* not a try */
                   : pinti_fail(err, PINT_E_CORRUPT, 0,
                                "open: the slot refers to another generation of table %u", index);
    }
    (*n)++; /* GONE: dropped or replaced between lookup and reference */
    return PINT_OK;
}

pint_status pint_table_open(pint_pool *pool, const char *name, uint32_t mode,
                            pint_table **out_table, pint_error *err)
{
    if (__builtin_expect(pool == NULL || name == NULL || out_table == NULL, 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "open: NULL argument");
    }
    const bool is_write = (mode & PINT_WRITE) != 0;
    if (__builtin_expect(mode == 0 || (mode & ~(PINT_READ | PINT_WRITE)) != 0, 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "open: mode %u", mode);
    }
    pint_status status = pinti_pool_enter(pool, err);
    if (__builtin_expect(status != PINT_OK, 0)) {
        return status;
    }
    pinti_name key;
    if (__builtin_expect(!pinti_name_set(&key, name), 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "open: a name has 1 to %u bytes",
                          PINTI_NAME_BYTES_MAX);
    }
    int64_t crossed_ms = 0;
    for (uint32_t n = 0; n < OPEN_TRIES;) {
        uint32_t index;
        uint64_t gen_state;
        status = look_up(pool, &key, name, &index, &gen_state, err);
        if (__builtin_expect(status != PINT_OK, 0)) {
            return status;
        }
        if (is_write) {
            status = refuse_write(pool, gen_state, name, err);
            if (__builtin_expect(status != PINT_OK, 0)) {
                return status;
            }
        }
        const enum reference result = refer(pool, index, pinti_gen_of(gen_state));
        if (__builtin_expect(result == REFERRED, 1)) {
            return hand_out(pool, index, pinti_gen_of(gen_state), is_write, out_table, err);
        }
        status = after_refusal(result, index, &crossed_ms, &n, err);
        if (status != PINT_OK) {
            return status;
        }
    }
    return not_found(name, err);
}

/* A live table of this id. The id is read before there is a reference, so it is a hint; but a live
 * table keeps id and index, so none that lives all the while is passed over. */
static bool find_id(const pint_pool *pool, uint64_t id, uint32_t *out_index,
                    uint64_t *out_gen_state)
{
    const uint32_t n = pinti_load32_acquire(&pool->header->xn_tables);
    for (uint32_t i = 0; i < n && i < PINTI_TABLES_MAX; i++) {
        const pinti_table_rec *rec = &pinti_cat_tables(pool->catalog)[i];
        /* acquire: pairs with the release store of LIVE after the record was filled */
        const uint64_t gen_state = pinti_load64_acquire(&rec->xgen_state);
        if (pinti_state_of(gen_state) == PINTI_LIVE &&
            pinti_load64_relaxed((const pinti_a64 *)(const void *)&rec->id) == id) {
            *out_index = i;
            *out_gen_state = gen_state;
            return true;
        }
    }
    return false;
}

pint_status pint_table_open_id(pint_pool *pool, uint64_t table_id, uint32_t mode,
                               pint_table **out_table, pint_error *err)
{
    if (pool == NULL || out_table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "open: NULL argument");
    }
    const bool is_write = (mode & PINT_WRITE) != 0;
    if (mode == 0 || (mode & ~(PINT_READ | PINT_WRITE)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "open: mode %u", mode);
    }
    pint_status status = pinti_pool_enter(pool, err);
    char shown[32];
    (void)snprintf(shown, sizeof(shown), "id %" PRIu64, table_id);
    int64_t crossed_ms = 0;
    for (uint32_t n = 0; status == PINT_OK && n < OPEN_TRIES;) {
        uint32_t index;
        uint64_t gen_state;
        if (!find_id(pool, table_id, &index, &gen_state)) {
            break;
        }
        status = is_write ? refuse_write(pool, gen_state, shown, err) : PINT_OK;
        if (status != PINT_OK) {
            return status;
        }
        const uint32_t generation = pinti_gen_of(gen_state);
        const enum reference result = refer(pool, index, generation);
        if (result == REFERRED) {
            /* behind the reference the record stands still */
            if (pinti_cat_tables(pool->catalog)[index].id == table_id) {
                return hand_out(pool, index, generation, is_write, out_table, err);
            }
            (void)pinti_ref_drop(pinti_slot_tables(pool->slot), index, generation);
            after_drop(pool, index, generation);
            n++;
            continue;
        }
        status = after_refusal(result, index, &crossed_ms, &n, err);
    }
    return status != PINT_OK ? status
                             : pinti_fail(err, PINT_E_NOT_FOUND, 0,
                                          "open: no live table in the pool has %s", shown);
}

pint_status pinti_table_adopt(pint_pool *pool, uint32_t index, uint32_t generation, uint32_t mode,
                              pint_table **out_table, pint_error *err)
{
    if (index >= PINTI_TABLES_MAX ||
        !pinti_ref_take_patiently(pinti_slot_tables(pool->slot), index, generation)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "create: table %u generation %u cannot be", index,
                          generation);
    }
    /* the session's own BUILDING table cannot be freed while it lives: no second look needed */
    struct pinti_table_head *head = head_get(pool, index, generation, err);
    if (head == NULL) {
        (void)pinti_ref_drop(pinti_slot_tables(pool->slot), index, generation);
        return err != NULL ? err->status : PINT_E_CORRUPT;
    }
    *out_table = &head->handles[(mode & PINT_WRITE) != 0];
    return PINT_OK;
}

void pint_table_close(pint_table *table)
{
    if (table == NULL) {
        return;
    }
    const struct pinti_table_head *head = pinti_table_head_of(table);
    pint_pool *pool = head->pool;
    if (pinti_pool_enter_to_close(pool) != PINT_OK) {
        return; /* a forked child without a session holds no references */
    }
    const uint32_t index = head->index;
    const uint32_t generation = head->generation;
    if (pinti_ref_drop(pinti_slot_tables(pool->slot), index, generation)) {
        after_drop(pool, index, generation);
    }
}

/* ---- facts ----------------------------------------------------------------------------------- */

uint64_t pint_table_id(const pint_table *table)
{
    return table->desc->rec->id;
}

uint32_t pinti_table_index(const pint_table *table)
{
    return table->desc->index;
}

uint32_t pinti_table_generation(const pint_table *table)
{
    return table->desc->generation;
}

static uint64_t gen_state_of(const pint_table *table)
{
    return pinti_load64_acquire(&table->desc->rec->xgen_state);
}

pint_status pinti_table_check_write(const pint_table *table, const char *operation, pint_error *err)
{
    if ((table->mode & PINT_WRITE) == 0) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: the table was opened to read", operation);
    }
    if ((gen_state_of(table) & PINTI_RECORD_FROZEN) != 0) {
        return pinti_fail(err, PINT_E_FROZEN, 0, "%s: the table is frozen", operation);
    }
    return PINT_OK;
}

void pint_table_name(const pint_table *table, char *out_name)
{
    while (!pinti_catalog_read_name(table->desc->rec, out_name)) {
        /* a rename takes a few stores; a service that died in it is replaced and finishes it */
    }
}

uint64_t pint_table_rows(const pint_table *table)
{
    return table->desc->n_rows;
}

uint32_t pint_table_columns(const pint_table *table)
{
    pinti_table_desc *desc = table->desc;
    /* relaxed: compared only; acquire below, when it is handed out */
    if (pinti_load32_relaxed(&desc->xn_columns) != pinti_load32_acquire(&desc->rec->xn_columns)) {
        (void)pinti_columns_extend(desc, NULL); /* without memory: fewer than there are */
    }
    return pinti_load32_acquire(&desc->xn_columns);
}

uint64_t pint_table_chunk_rows(const pint_table *table)
{
    return table->desc->chunk_rows;
}

uint64_t pint_table_chunks(const pint_table *table)
{
    return table->desc->n_chunks;
}

uint64_t pint_table_bytes(const pint_table *table)
{
    return pinti_load64_relaxed(&table->desc->rec->xbytes); /* relaxed: a number for people */
}

int pint_table_is_frozen(const pint_table *table)
{
    return (gen_state_of(table) & PINTI_RECORD_FROZEN) != 0;
}

int pint_table_is_dropped(const pint_table *table)
{
    const uint64_t state = gen_state_of(table);
    return pinti_gen_of(state) != table->desc->generation ||
           (pinti_state_of(state) != PINTI_LIVE && pinti_state_of(state) != PINTI_BUILDING);
}

int pint_table_is_writable(const pint_table *table)
{
    return (table->mode & PINT_WRITE) != 0 && !pint_table_is_frozen(table);
}

pint_pool *pint_table_pool(const pint_table *table)
{
    return table->desc->pool;
}
