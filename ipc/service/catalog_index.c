/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name index: open addressing, linear probing, at most half full. Readers probe it at any
 * moment (host/catalog.c), so an entry appears, changes or goes by one store; only a removal moves
 * other entries, and says so by an odd xindex_seq. While it moves them an entry is there twice,
 * never not at all, and no empty place appears between an entry and the place it is looked for
 * from.
 */
#include <string.h>

#include "ipc/service/catalog_internal.h"

#define MASK (PINTI_INDEX_SLOTS - 1u)

static uint64_t make_entry(uint64_t hash, uint32_t table_index)
{
    return (uint64_t)pinti_index_tag(hash) << 32 | (table_index + 1);
}

static bool has_name(const pinti_table_rec *rec, const pinti_name *name)
{
    bool same = pinti_load32_relaxed(&rec->xname_bytes) == name->bytes;
    for (uint32_t i = 0; i < name->n_words && same; i++) {
        same = pinti_load64_relaxed(&rec->xname[i]) == name->words[i];
    }
    return same;
}

uint64_t pinti_index_hash(const pinti_table_rec *rec)
{
    char text[PINTI_NAME_BYTES_MAX + 1];
    pinti_name name;
    return pinti_name_set(&name, pinti_cat_name(rec, text)) ? name.hash : 0;
}

uint32_t pinti_index_find(const pinti_cat *cat, const pinti_name *name, uint32_t *out_place)
{
    uint32_t place = pinti_index_first(name->hash);
    for (uint32_t n = 0; n < PINTI_INDEX_SLOTS; n++, place = (place + 1) & MASK) {
        const uint64_t entry = pinti_load64_relaxed(&cat->index[place]);
        if (entry == 0) {
            return 0;
        }
        const uint32_t number = (uint32_t)entry;
        if ((uint32_t)(entry >> 32) != pinti_index_tag(name->hash) || number > PINTI_TABLES_MAX) {
            continue;
        }
        const pinti_table_rec *rec = &cat->tables[number - 1];
        if (pinti_cat_state(&rec->xgen_state) == PINTI_LIVE && has_name(rec, name)) {
            if (out_place != NULL) {
                *out_place = place;
            }
            return number;
        }
    }
    return 0;
}

void pinti_index_insert(pinti_cat *cat, uint64_t hash, uint32_t table_index)
{
    uint32_t place = pinti_index_first(hash);
    while (pinti_load64_relaxed(&cat->index[place]) != 0) {
        place = (place + 1) & MASK;
    }
    /* Publishes the record; pairs with the acquire load in pinti_catalog_lookup(). */
    pinti_store64_release(&cat->index[place], make_entry(hash, table_index));
}

void pinti_index_swap(pinti_cat *cat, uint32_t place, uint32_t table_index)
{
    const uint64_t entry = pinti_load64_relaxed(&cat->index[place]);
    pinti_store64_release(&cat->index[place], (entry & ~(uint64_t)UINT32_MAX) | (table_index + 1));
}

/* First place of an entry whose tag is not the whole hash: taken from the name it stands for. */
static uint32_t home_of(const pinti_cat *cat, uint64_t entry)
{
    const uint32_t number = (uint32_t)entry;
    return number == 0 || number > PINTI_TABLES_MAX
               ? 0
               : pinti_index_first(pinti_index_hash(&cat->tables[number - 1]));
}

/* Close the gap at place: entries behind it that may lie nearer to their first place move up. */
static void close_gap(pinti_cat *cat, uint32_t gap)
{
    uint32_t at = gap;
    for (;;) {
        at = (at + 1) & MASK;
        const uint64_t entry = pinti_load64_relaxed(&cat->index[at]);
        if (entry == 0) {
            break;
        }
        /* Stays if its first place lies behind the gap: in (gap, at], around the end. */
        const uint32_t from_home = (at - home_of(cat, entry)) & MASK;
        const uint32_t from_gap = (at - gap) & MASK;
        if (from_home < from_gap) {
            continue;
        }
        pinti_store64_release(&cat->index[gap], entry);
        PINTI_CRASHPOINT(SERVICE_INDEX_MOVING);
        gap = at;
    }
    pinti_store64_release(&cat->index[gap], 0);
}

/* Odd: a reader's miss does not count. release: ordered before the moves that follow for a reader
 * that acquires one of them; pairs with the loads of xindex_seq in pinti_catalog_lookup(). */
void pinti_index_begin_moving(pinti_cat *cat)
{
    const uint32_t seq = pinti_load32_relaxed(&cat->header->xindex_seq);
    pinti_store32_release(&cat->header->xindex_seq, seq | 1u);
}

void pinti_index_end_moving(pinti_cat *cat)
{
    const uint32_t seq = pinti_load32_relaxed(&cat->header->xindex_seq);
    pinti_store32_release(&cat->header->xindex_seq, seq + 1u);
}

void pinti_index_remove(pinti_cat *cat, uint64_t hash, uint32_t table_index)
{
    const uint64_t wanted = make_entry(hash, table_index);
    uint32_t place = pinti_index_first(hash);
    for (;; place = (place + 1) & MASK) {
        const uint64_t entry = pinti_load64_relaxed(&cat->index[place]);
        if (entry == 0) {
            return;
        }
        if (entry == wanted) {
            break;
        }
    }
    pinti_index_begin_moving(cat);
    close_gap(cat, place);
    pinti_index_end_moving(cat);
}

/* Entries are right when there is one for each live table, at a place where it is found. */
static bool is_right(const pinti_cat *cat)
{
    uint32_t n_entries = 0;
    for (uint32_t i = 0; i < PINTI_INDEX_SLOTS; i++) {
        n_entries += pinti_load64_relaxed(&cat->index[i]) != 0;
    }
    uint32_t n_live = 0;
    const uint32_t n = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n; i++) {
        char text[PINTI_NAME_BYTES_MAX + 1];
        pinti_name name;
        if (pinti_cat_state(&cat->tables[i].xgen_state) != PINTI_LIVE) {
            continue;
        }
        n_live++;
        if (!pinti_name_set(&name, pinti_cat_name(&cat->tables[i], text)) ||
            pinti_index_find(cat, &name, NULL) != i + 1) {
            return false;
        }
    }
    return n_live == n_entries && (pinti_load32_relaxed(&cat->header->xindex_seq) & 1u) == 0;
}

void pinti_index_repair(pinti_cat *cat)
{
    if (is_right(cat)) {
        return;
    }
    pinti_index_begin_moving(cat);
    for (uint32_t i = 0; i < PINTI_INDEX_SLOTS; i++) {
        if (pinti_load64_relaxed(&cat->index[i]) != 0) {
            pinti_store64_release(&cat->index[i], 0);
        }
    }
    const uint32_t n = pinti_load32_relaxed(&cat->header->xn_tables);
    for (uint32_t i = 0; i < n; i++) {
        if (pinti_cat_state(&cat->tables[i].xgen_state) == PINTI_LIVE) {
            pinti_index_insert(cat, pinti_index_hash(&cat->tables[i]), i);
        }
    }
    pinti_index_end_moving(cat);
}
