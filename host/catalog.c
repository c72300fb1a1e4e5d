/* SPDX-License-Identifier: Apache-2.0 */

/* One-sided lookup by name: see catalog.h. */

#include "host/catalog.h"

#include "host/word.h"

#define LOOKUP_TRIES 64u

enum match { MATCH, NO_MATCH, CHANGING };

/* Does a live record bear this name? *out_gen_state is set on MATCH. */
static enum match record_matches(const pinti_table_rec *rec, const pinti_name *name,
                                 uint64_t *out_gen_state)
{
    /* acquire: pairs with the release store of LIVE after the record was filled */
    const uint64_t gen_state = pinti_load64_acquire(&rec->xgen_state);
    if (pinti_state_of(gen_state) != PINTI_LIVE) {
        return NO_MATCH;
    }
    /* acquire: pairs with the release stores around a rename; the words lie between two reads */
    const uint32_t seq = pinti_load32_acquire(&rec->xname_seq);
    if ((seq & 1u) != 0) {
        return CHANGING;
    }
    /* acquire on each word keeps the second read of xname_seq after it */
    if (pinti_load32_acquire(&rec->xname_bytes) != name->bytes) {
        return pinti_load32_acquire(&rec->xname_seq) == seq ? NO_MATCH : CHANGING;
    }
    for (uint32_t i = 0; i < name->n_words; i++) {
        if (pinti_load64_acquire(&rec->xname[i]) != name->words[i]) {
            return pinti_load32_acquire(&rec->xname_seq) == seq ? NO_MATCH : CHANGING;
        }
    }
    if (pinti_load32_acquire(&rec->xname_seq) != seq) {
        return CHANGING;
    }
    *out_gen_state = gen_state;
    return MATCH;
}

/* One walk along the probe sequence. */
static enum match probe(const void *catalog, const pinti_name *name, uint32_t *out_index,
                        uint64_t *out_gen_state)
{
    /* the mapping is read-only; the accessors take no const to serve the service, too */
    pinti_a64 *index = pinti_cat_index((void *)(uintptr_t)catalog);
    const pinti_table_rec *tables = pinti_cat_tables((void *)(uintptr_t)catalog);
    const uint32_t tag = pinti_index_tag(name->hash);
    enum match result = NO_MATCH;
    uint32_t at = pinti_index_first(name->hash);
    for (uint32_t n = 0; n < PINTI_INDEX_SLOTS; n++) {
        /* acquire: pairs with the release store of the entry, after the record */
        const uint64_t entry = pinti_load64_acquire(&index[at]);
        if (entry == 0) {
            break;
        }
        const uint32_t table = (uint32_t)entry - 1;
        if ((uint32_t)(entry >> 32) == tag && table < PINTI_TABLES_MAX) {
            const enum match match = record_matches(&tables[table], name, out_gen_state);
            if (match == MATCH) {
                *out_index = table;
                return MATCH;
            }
            if (match == CHANGING) {
                result = CHANGING;
            }
        }
        at = (at + 1) & (PINTI_INDEX_SLOTS - 1u);
    }
    return result;
}

enum pinti_lookup pinti_catalog_lookup(const void *catalog, const pinti_name *name,
                                       uint32_t *out_index, uint64_t *out_gen_state)
{
    const pinti_catalog_header *header = catalog;
    for (uint32_t n = 0; n < LOOKUP_TRIES; n++) {
        /* acquire: entries are read after; pairs with the release that made it even */
        const uint32_t seq = pinti_load32_acquire(&header->xindex_seq);
        const enum match match = probe(catalog, name, out_index, out_gen_state);
        if (match == MATCH) {
            return PINTI_LOOKUP_FOUND;
        }
        /* the entries were read with acquire, so this read comes after them */
        if (match == NO_MATCH && (seq & 1u) == 0 &&
            pinti_load32_acquire(&header->xindex_seq) == seq) {
            return PINTI_LOOKUP_MISS;
        }
    }
    return PINTI_LOOKUP_UNSURE;
}

bool pinti_catalog_read_name(const pinti_table_rec *rec, char *out)
{
    uint64_t words[PINTI_NAME_WORDS];
    const uint32_t seq = pinti_load32_acquire(&rec->xname_seq);
    const uint32_t bytes = pinti_load32_acquire(&rec->xname_bytes);
    for (uint32_t i = 0; i < PINTI_NAME_WORDS; i++) {
        words[i] = pinti_load64_acquire(&rec->xname[i]);
    }
    if ((seq & 1u) != 0 || pinti_load32_acquire(&rec->xname_seq) != seq ||
        bytes > PINTI_NAME_BYTES_MAX) {
        return false;
    }
    memcpy(out, words, PINTI_NAME_BYTES_MAX);
    out[bytes] = '\0';
    return true;
}
