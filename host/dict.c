/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Categories. They are append-only (R20): the tail lease is taken, the list is looked through
 * again, text and offset are written, the count is published, the lease is given back; only then is
 * the code handed out. A reader clamps to the published count. A dead appender published nothing:
 * the sweep frees the lease and what it wrote beyond the count is overwritten.
 *
 * The index. To find a text among many categories, each process keeps a hash index of those it has
 * seen: open addressing, an entry is hash << 32 | code + 1. It is made at the first search, and
 * each search first takes in what was published since. The shared text decides: an entry whose text
 * is not the one looked for is passed over, so bytes that a hostile peer changes can hide a
 * category, but not give a wrong one. Lock: pool->dict_lock, held for no system call but the
 * allocator's.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/intent.h"
#include "host/name.h"
#include "host/table.h"
#include "host/wait.h"
#include "host/word.h"

#define INDEX_ROOM_MIN 64u

struct pinti_dict {
    uint64_t n_seen;    /* categories taken in: codes 0 to this less one */
    uint64_t n_entries; /* fewer where a text is there twice: the first one counts */
    uint64_t room;      /* power of two, more than twice n_entries */
    uint64_t *entries;  /* 0: empty */
};

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t published_categories(const pinti_column_desc *desc)
{
    /* acquire: their text and offsets are complete; pairs with the release in publish() */
    const uint64_t n = pinti_load64_acquire(&desc->state->xdict_count);
    return n < desc->n_categories ? n : desc->n_categories;
}

uint64_t pint_column_categories(const pint_column *column)
{
    return column->type == PINT_DICT_TEXT ? published_categories(pinti_column_desc_of(column)) : 0;
}

pint_status pint_column_category(const pint_column *column, uint64_t code, const char **out_text,
                                 uint64_t *out_bytes, pint_error *err)
{
    if (column == NULL || out_text == NULL || out_bytes == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "category: NULL argument");
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (column->type != PINT_DICT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "category: column '%s' is of type %s", desc->name,
                          pint_type_name(column->type));
    }
    const uint64_t n = published_categories(desc);
    if (code >= n) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "category: code %" PRIu64 " of %" PRIu64 " in column '%s'", code, n,
                          desc->name);
    }
    return pinti_text_slice(desc, desc->dict_offsets, code, out_text, out_bytes, err);
}

/* ---- the index ------------------------------------------------------------------------------- */

static uint32_t hash_text(const char *text, uint64_t text_bytes)
{
    uint64_t h = 0x9e3779b97f4a7c15ull ^ text_bytes;
    uint64_t i = 0;
    while (i < text_bytes) {
        const uint64_t n = text_bytes - i < 8 ? text_bytes - i : 8;
        uint64_t word = 0;
        memcpy(&word, text + i, n);
        h = (h ^ word) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
        i += n;
    }
    return (uint32_t)(h * 0xc4ceb9fe1a85ec53ull >> 32);
}

static bool category_is(const pinti_column_desc *desc, uint64_t code, const char *text,
                        uint64_t text_bytes)
{
    const char *have = NULL;
    uint64_t have_bytes = 0;
    return pinti_text_slice(desc, desc->dict_offsets, code, &have, &have_bytes, NULL) == PINT_OK &&
           have_bytes == text_bytes && (text_bytes == 0 || memcmp(have, text, text_bytes) == 0);
}

/* The place of a text's entry, or the empty one where it would go. There is always an empty one. */
static uint64_t *probe(const struct pinti_dict *dict, const pinti_column_desc *desc, uint32_t hash,
                       const char *text, uint64_t text_bytes)
{
    for (uint64_t at = hash;; at++) {
        uint64_t *entry = &dict->entries[at & (dict->room - 1)];
        if (*entry == 0 || ((uint32_t)(*entry >> 32) == hash &&
                            category_is(desc, (uint32_t)*entry - 1, text, text_bytes))) {
            return entry;
        }
    }
}

/* Twice the room. False: no memory; the index is as before. */
static bool grow(struct pinti_dict *dict)
{
    const uint64_t room = dict->room != 0 ? 2 * dict->room : INDEX_ROOM_MIN;
    uint64_t *entries = calloc(room, sizeof(*entries));
    if (entries == NULL) {
        return false;
    }
    for (uint64_t i = 0; i < dict->room; i++) {
        if (dict->entries[i] == 0) {
            continue;
        }
        uint64_t at = dict->entries[i] >> 32;
        while (entries[at & (room - 1)] != 0) {
            at++;
        }
        entries[at & (room - 1)] = dict->entries[i];
    }
    free(dict->entries);
    dict->entries = entries;
    dict->room = room;
    return true;
}

/* Take in the categories up to n. False: no memory. */
static bool take_in(struct pinti_dict *dict, const pinti_column_desc *desc, uint64_t n)
{
    for (; dict->n_seen < n; dict->n_seen++) {
        const char *text = NULL;
        uint64_t text_bytes = 0;
        if (2 * (dict->n_entries + 1) >= dict->room && !grow(dict)) {
            return false;
        }
        if (pinti_text_slice(desc, desc->dict_offsets, dict->n_seen, &text, &text_bytes, NULL) !=
            PINT_OK) {
            continue; /* offsets that cannot be: this category has no text to be found by */
        }
        const uint32_t hash = hash_text(text, text_bytes);
        uint64_t *entry = probe(dict, desc, hash, text, text_bytes);
        if (*entry == 0) {
            *entry = (uint64_t)hash << 32 | (uint32_t)(dict->n_seen + 1);
            dict->n_entries++;
        }
    }
    return true;
}

void pinti_dict_free(struct pinti_dict *dict)
{
    if (dict != NULL) {
        free(dict->entries);
        free(dict);
    }
}

/* Without memory for an index. */
static int64_t find_one_by_one(const pinti_column_desc *desc, uint64_t n, const char *text,
                               uint64_t text_bytes)
{
    for (uint64_t code = 0; code < n; code++) {
        if (category_is(desc, code, text, text_bytes)) {
            return (int64_t)code;
        }
    }
    return -1;
}

/* Look among the first n categories, all published: the code, or -1. */
static int64_t find_category(pinti_table_desc *table, pinti_column_desc *desc, uint64_t n,
                             const char *text, uint64_t text_bytes)
{
    int64_t code = -1;
    (void)pthread_mutex_lock(&table->pool->dict_lock);
    if (desc->dict == NULL) {
        desc->dict = calloc(1, sizeof(*desc->dict));
    }
    if (desc->dict == NULL || !take_in(desc->dict, desc, n)) {
        code = find_one_by_one(desc, n, text, text_bytes);
    } else if (desc->dict->n_entries != 0) {
        const uint32_t hash = hash_text(text, text_bytes);
        code = (int64_t)(uint32_t)*probe(desc->dict, desc, hash, text, text_bytes) - 1;
    }
    (void)pthread_mutex_unlock(&table->pool->dict_lock);
    return code;
}

/* ---- appending ------------------------------------------------------------------------------- */

struct tail_wait {
    pinti_a64 *lease;
    uint64_t session;
};

static bool take_tail(void *context)
{
    const struct tail_wait *wait = context;
    uint64_t nobody = 0;
    /* seq: pairs with the store when it is given back, or with the sweep */
    return pinti_cas64_seq(wait->lease, &nobody, wait->session);
}

/* Take the tail lease of a column; *out_place: the intent that goes with it. */
static pint_status tail_begin(const pint_column *column, const char *operation, uint32_t *out_place,
                              pint_error *err)
{
    const pinti_table_desc *table = column->table->desc;
    pint_pool *pool = table->pool;
    *out_place =
        pinti_intent_note(pool, pinti_intent(PINTI_INTENT_DICT, table->index, column->index, 0));
    struct tail_wait wait = {&pinti_column_desc_of(column)->state->xdict_lease,
                             pool->session_index};
    const pint_status status =
        pinti_wait(pool, table->bell, take_tail, &wait, -1, true, operation, err);
    if (status != PINT_OK) {
        pinti_intent_clear(pool, *out_place);
    }
    return status;
}

static void tail_end(const pint_column *column, uint32_t place)
{
    const pinti_table_desc *table = column->table->desc;
    /* seq, hence release: gives the tail to take_tail(); and before the look at the bell */
    pinti_store64_seq(&pinti_column_desc_of(column)->state->xdict_lease, 0);
    pinti_bell_ring(table->bell);
    pinti_intent_clear(table->pool, place);
}

static void publish(const pinti_column_desc *desc, uint64_t n)
{
    PINTI_CRASHPOINT(DICT_WRITTEN);
    /* release: text and offsets before the count; pairs with published_categories() */
    pinti_store64_release(&desc->state->xdict_count, n);
    PINTI_CRASHPOINT(DICT_PUBLISHED);
}

static pint_status fail_number(const pinti_column_desc *desc, const char *operation,
                               pint_error *err)
{
    return pinti_fail(err, PINT_E_RANGE, 0, "%s: column '%s' has room for %" PRIu64 " categories",
                      operation, desc->name, desc->n_categories);
}

/* R20, under the tail lease: n categories are published, text is none of them. */
static pint_status append(const pinti_column_desc *desc, uint64_t n, const char *text,
                          uint64_t text_bytes, pint_error *err)
{
    const uint64_t end =
        n == 0 ? 0 : pinti_load64_relaxed((const pinti_a64 *)(const void *)&desc->dict_offsets[n]);
    if (n >= desc->n_categories) {
        return fail_number(desc, "add category", err);
    }
    if (end > desc->data_bytes || text_bytes > desc->data_bytes - end) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "add category: column '%s': %" PRIu64 " bytes after %" PRIu64
                          ", room for %" PRIu64,
                          desc->name, text_bytes, end, desc->data_bytes);
    }
    if (text_bytes != 0) {
        memcpy(desc->data + end, text, text_bytes);
    }
    if (n == 0) {
        desc->dict_offsets[0] = 0;
    }
    desc->dict_offsets[n + 1] = (int64_t)(end + text_bytes);
    publish(desc, n + 1);
    return PINT_OK;
}

static pint_status check_type(const pint_column *column, const char *operation, pint_error *err)
{
    if (column->type != PINT_DICT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "%s: column '%s' is of type %s", operation,
                          pinti_column_desc_of(column)->name, pint_type_name(column->type));
    }
    return PINT_OK;
}

static pint_status check_category(const pint_column *column, const char *text, uint64_t text_bytes,
                                  const int32_t *out_code, pint_error *err)
{
    if (column == NULL || out_code == NULL || (text == NULL && text_bytes != 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add category: NULL argument");
    }
    const pint_status status = check_type(column, "add category", err);
    if (status != PINT_OK) {
        return status;
    }
    if (!pinti_utf8_is_valid(text, text_bytes)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add category: column '%s': not UTF-8",
                          pinti_column_desc_of(column)->name);
    }
    return pinti_table_check_write(column->table, "add category", err);
}

pint_status pint_column_add_category(const pint_column *column, const char *text,
                                     uint64_t text_bytes, int32_t *out_code, pint_error *err)
{
    pint_status status = check_category(column, text, text_bytes, out_code, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_table_desc *table = column->table->desc;
    status = pinti_pool_enter(table->pool, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_column_desc *desc = pinti_column_desc_own(column);
    const uint64_t seen = published_categories(desc);
    int64_t code = find_category(table, desc, seen, text, text_bytes);
    if (code < 0) {
        uint32_t place;
        status = tail_begin(column, "add category", &place, err);
        if (status != PINT_OK) {
            return status;
        }
        PINTI_CRASHPOINT(DICT_HELD);
        const uint64_t n = published_categories(desc);
        code = n != seen ? find_category(table, desc, n, text, text_bytes) : -1;
        if (code < 0) {
            status = append(desc, n, text, text_bytes, err);
            code = (int64_t)n;
        }
        tail_end(column, place);
    }
    if (status == PINT_OK) {
        *out_code = (int32_t)code;
    }
    return status;
}

/* ---- all at once ----------------------------------------------------------------------------- */

static pint_status check_offsets(const pinti_column_desc *desc, uint64_t n, const int64_t *offsets,
                                 pint_error *err)
{
    if (n > desc->n_categories) {
        return fail_number(desc, "put categories", err);
    }
    for (uint64_t i = 0; i < n; i++) {
        if (offsets[i] < 0 || offsets[i + 1] < offsets[i]) {
            return pinti_fail(err, PINT_E_INVALID, 0,
                              "put categories: column '%s': offsets %" PRId64 " to %" PRId64
                              " of category %" PRIu64,
                              desc->name, offsets[i], offsets[i + 1], i);
        }
    }
    if (n != 0 && (uint64_t)(offsets[n] - offsets[0]) > desc->data_bytes) {
        return pinti_fail(err, PINT_E_RANGE, 0,
                          "put categories: column '%s': %" PRId64 " bytes, room for %" PRIu64,
                          desc->name, offsets[n] - offsets[0], desc->data_bytes);
    }
    return PINT_OK;
}

/* Each text is UTF-8 if all of it is and none begins inside a character. */
static pint_status check_texts(const pinti_column_desc *desc, uint64_t n, const int64_t *offsets,
                               const char *text, pint_error *err)
{
    const int64_t end = offsets[n];
    bool is_good = pinti_utf8_is_valid(text + offsets[0], (size_t)(end - offsets[0]));
    for (uint64_t i = 0; i < n && is_good; i++) {
        is_good = offsets[i] == end || ((unsigned char)text[offsets[i]] & 0xc0u) != 0x80u;
    }
    return is_good ? PINT_OK
                   : pinti_fail(err, PINT_E_INVALID, 0, "put categories: column '%s': not UTF-8",
                                desc->name);
}

static pint_status check_put(const pint_column *column, uint64_t n, const int64_t *offsets,
                             const char *text, pint_error *err)
{
    if (column == NULL || (n != 0 && offsets == NULL)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "put categories: NULL argument");
    }
    pint_status status = check_type(column, "put categories", err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t state = pinti_load64_acquire(&table->rec->xgen_state);
    if (pinti_gen_of(state) != table->generation || pinti_state_of(state) != PINTI_BUILDING ||
        (column->table->mode & PINT_WRITE) == 0) {
        return pinti_fail(err, PINT_E_STATE, 0,
                          "put categories: column '%s' of a published table: add them one by one",
                          desc->name);
    }
    status = check_offsets(desc, n, offsets, err);
    if (status != PINT_OK || n == 0 || offsets[n] == offsets[0]) {
        return status;
    }
    if (text == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "put categories: NULL argument");
    }
    return check_texts(desc, n, offsets, text, err);
}

pint_status pint_column_put_categories(const pint_column *column, uint64_t n,
                                       const int64_t *offsets, const char *text, pint_error *err)
{
    pint_status status = check_put(column, n, offsets, text, err);
    if (status == PINT_OK) {
        status = pinti_pool_enter(column->table->desc->pool, err);
    }
    uint32_t place;
    if (status == PINT_OK) {
        status = tail_begin(column, "put categories", &place, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    PINTI_CRASHPOINT(DICT_HELD);
    if (published_categories(desc) != 0) {
        status = pinti_fail(err, PINT_E_STATE, 0, "put categories: column '%s' has %" PRIu64,
                            desc->name, published_categories(desc));
    } else if (n != 0) {
        const int64_t begin = offsets[0];
        for (uint64_t i = 0; i <= n; i++) {
            desc->dict_offsets[i] = offsets[i] - begin;
        }
        if (offsets[n] != begin) {
            memcpy(desc->data, text + begin, (size_t)(offsets[n] - begin));
        }
        publish(desc, n);
    }
    tail_end(column, place);
    return status;
}
