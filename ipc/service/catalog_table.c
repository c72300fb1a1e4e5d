/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables: create, publish, rename, freeze, keep, drop. Only this process writes records, so its own
 * loads are relaxed; stores name the reader they are ordered for.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "host/error.h"
#include "ipc/service/catalog_internal.h"
#include "ipc/service/schema.h"

static pint_status no_such(const pinti_cat *cat, uint32_t index, uint32_t generation,
                           pint_error *err)
{
    const bool dropped = pinti_cat_has_table(cat, index, generation);
    return pinti_fail(err, dropped ? PINT_E_DROPPED : PINT_E_NOT_FOUND, 0,
                      "table %" PRIu32 ", generation %" PRIu32 ": %s", index, generation,
                      dropped ? "dropped" : "no such table");
}

/* The record of a table that is BUILDING or LIVE; else NULL and err. */
static pinti_table_rec *present(const pinti_cat *cat, uint32_t index, uint32_t generation,
                                pint_error *err)
{
    if (!pinti_cat_has_table(cat, index, generation) ||
        pinti_cat_state(&cat->tables[index].xgen_state) == PINTI_DYING) {
        (void)no_such(cat, index, generation, err);
        return NULL;
    }
    return &cat->tables[index];
}

/* ---- names ----------------------------------------------------------------------------------- */

/* For messages. Returns out. */
static const char *shown(char out[100], const char *name)
{
    return pinti_printable(out, 100, name, strnlen(name, PINTI_NAME_BYTES_MAX + 1));
}

static void words_of(const char *name, uint64_t out_words[PINTI_NAME_WORDS])
{
    memset(out_words, 0, PINTI_NAME_WORDS * sizeof(*out_words));
    memcpy(out_words, name, strnlen(name, PINTI_NAME_BYTES_MAX));
}

/* Each store is a release, so that a reader that saw a word of the new name sees the odd number. */
static void set_name(pinti_table_rec *rec, const uint64_t words[PINTI_NAME_WORDS],
                     uint32_t name_bytes)
{
    const uint32_t seq = pinti_load32_relaxed(&rec->xname_seq) | 1u;
    pinti_store32_release(&rec->xname_seq, seq);
    pinti_store32_release(&rec->xname_bytes, name_bytes);
    for (uint32_t i = 0; i < PINTI_NAME_WORDS; i++) {
        pinti_store64_release(&rec->xname[i], words[i]);
    }
    pinti_store32_release(&rec->xname_seq, seq + 1u);
}

pint_status pinti_cat_find(pinti_cat *cat, const char *name, uint32_t *out_index,
                           uint32_t *out_generation, pint_error *err)
{
    pinti_name key;
    char text[100];
    const uint32_t found = pinti_name_set(&key, name) ? pinti_index_find(cat, &key, NULL) : 0;
    if (found == 0) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0, "table '%s': no such table", shown(text, name));
    }
    *out_index = found - 1;
    *out_generation = pinti_gen_of(pinti_load64_relaxed(&cat->tables[found - 1].xgen_state));
    return PINT_OK;
}

/* ---- create ---------------------------------------------------------------------------------- */

static uint64_t place_at(uint64_t base, uint64_t place)
{
    return place == PINTI_NO_BUFFER ? PINTI_NO_BUFFER : base + place;
}

/* 0 for none, as in a record that knows of no metadata. */
static uint64_t metadata_at(uint64_t base, uint64_t place)
{
    return place == PINTI_NO_BUFFER ? 0 : base + place;
}

static void fill_column(pinti_column_rec *rec, const struct pinti_schema_column *column,
                        const pinti_place *place, uint64_t data_off, uint64_t sync_off)
{
    memset(rec, 0, sizeof(*rec));
    rec->name_bytes = (uint32_t)strnlen(column->name, PINTI_NAME_BYTES_MAX);
    memcpy(rec->name, column->name, rec->name_bytes);
    rec->type = column->type;
    rec->flags = column->flags;
    rec->unit = column->unit;
    rec->row_bytes = pinti_schema_row_bytes(column);
    rec->list_length = column->list_length;
    rec->item_type = column->item_type;
    rec->birth = 1;
    rec->validity_off = place_at(data_off, place->validity);
    rec->values_off = place_at(data_off, place->values);
    rec->offsets_off = place_at(data_off, place->offsets);
    rec->data_off = place_at(data_off, place->data);
    rec->data_bytes = column->data_bytes;
    rec->dict_offsets_off = place_at(data_off, place->dict_offsets);
    rec->n_categories = column->n_categories;
    rec->words_off = sync_off + place->words;
    rec->state_off = sync_off + place->state;
    rec->metadata_off = metadata_at(data_off, place->metadata);
    rec->metadata_bytes = column->metadata_bytes;
    memcpy(rec->zone, column->zone, strnlen(column->zone, PINT_ZONE_BYTES_MAX));
}

static void fill_table(pinti_cat *cat, uint32_t index, const pinti_schema *schema,
                       const pinti_shape *shape, const pinti_owner *owner, const pinti_range *data,
                       const pinti_range *sync)
{
    pinti_table_rec *rec = &cat->tables[index];
    uint64_t words[PINTI_NAME_WORDS];
    struct timespec now;
    words_of(schema->name, words);
    set_name(rec, words, (uint32_t)strnlen(schema->name, PINTI_NAME_BYTES_MAX));
    (void)clock_gettime(CLOCK_REALTIME, &now);
    rec->id = cat->header->next_table_id++;
    rec->creator_session = owner->session;
    rec->creator_request = owner->request;
    rec->family = owner->family;
    rec->uid = owner->uid;
    rec->gid = owner->gid;
    rec->n_rows = schema->n_rows;
    rec->row_capacity = shape->row_capacity;
    rec->chunk_rows = shape->chunk_rows;
    rec->n_chunks = shape->n_chunks;
    pinti_store32_relaxed(&rec->xn_columns, schema->n_columns); /* xgen_state comes after */
    rec->sync_off = sync->off;
    rec->sync_bytes = sync->bytes;
    rec->schema_generation = 1;
    pinti_store64_relaxed(&rec->xbytes, data->bytes + sync->bytes);
    rec->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    rec->metadata_off = metadata_at(data->off, shape->metadata);
    rec->metadata_bytes = schema->metadata_bytes;
    rec->moved_to = 0;
    memset(rec->runs, 0, sizeof(rec->runs));
    memset(rec->reserved, 0, sizeof(rec->reserved));
}

/* Free numbers for the table, its columns and its extent. */
static pint_status take_numbers(pinti_cat *cat, uint32_t n_columns, uint32_t *out_index,
                                uint32_t *out_columns, uint32_t *out_extent, pint_error *err)
{
    if (!pinti_cat_take_number(&cat->free_tables, 1, out_index)) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "table.create: %u tables are in use",
                          PINTI_TABLES_MAX);
    }
    if (!pinti_cat_take_number(&cat->free_columns, n_columns, out_columns)) {
        (void)pinti_ranges_add(&cat->free_tables, *out_index, 1);
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "table.create: no room for %" PRIu32 " columns, the pool has %u",
                          n_columns, PINTI_COLUMNS_MAX);
    }
    if (!pinti_cat_take_number(&cat->free_extents, 1, out_extent)) {
        (void)pinti_ranges_add(&cat->free_tables, *out_index, 1);
        (void)pinti_ranges_add(&cat->free_columns, *out_columns, n_columns);
        return pinti_fail(err, PINT_E_LIMIT, 0, "table.create: %u extents are in use",
                          PINTI_EXTENTS_MAX);
    }
    return PINT_OK;
}

pint_status pinti_cat_create(pinti_cat *cat, const pinti_schema *schema, const pinti_owner *owner,
                             const pinti_range *data, const pinti_range *sync, uint32_t *out_index,
                             uint32_t *out_generation, pint_error *err)
{
    pinti_shape shape = {0};
    pint_status status = pinti_schema_shape(schema, &shape, err);
    if (status == PINT_OK && (data->bytes < shape.data_bytes || sync->bytes < shape.sync_bytes)) {
        status = pinti_fail(err, PINT_E_INVALID, 0, "table.create: the memory is too short");
    }
    if (status != PINT_OK) {
        return status;
    }
    uint32_t index = 0;
    uint32_t first_column = 0;
    uint32_t extent = 0;
    status = take_numbers(cat, schema->n_columns, &index, &first_column, &extent, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_table_rec *rec = &cat->tables[index];
    const uint32_t generation = pinti_cat_next_generation(&rec->xgen_state);
    uint64_t cursor = 0;
    for (uint32_t i = 0; i < schema->n_columns; i++) {
        pinti_place place;
        (void)pinti_schema_place(schema, &shape, i, &cursor, &place);
        fill_column(&cat->columns[first_column + i], &schema->columns[i], &place, data->off,
                    sync->off);
    }
    cat->extents[extent] = (pinti_extent){.off = data->off,
                                          .bytes = data->bytes,
                                          .owner = index,
                                          .kind = PINTI_EXTENT_TABLE,
                                          .generation = generation};
    fill_table(cat, index, schema, &shape, owner, data, sync);
    rec->runs[0].first = first_column;
    rec->runs[0].count = schema->n_columns;
    rec->first_extent = extent + 1;
    PINTI_CRASHPOINT(SERVICE_CREATE_HALF);
    if (index >= pinti_load32_relaxed(&cat->header->xn_tables)) {
        pinti_store32_release(&cat->header->xn_tables, index + 1);
    }
    const uint64_t flags = (schema->flags & PINT_KEPT) != 0 ? PINTI_RECORD_KEPT : 0;
    /* Publishes all of the record; pairs with the acquire loads of whoever opens it. */
    pinti_store64_release(&rec->xgen_state, (uint64_t)generation << 32 | flags | PINTI_BUILDING);
    PINTI_CRASHPOINT(SERVICE_CREATED);
    cat->table_info[index] = (struct pinti_cat_table){.uid = owner->uid};
    pinti_cat_link_request(cat, index);
    cat->n_building++;
    *out_index = index;
    *out_generation = generation;
    return PINT_OK;
}

/* ---- publish --------------------------------------------------------------------------------- */

static bool is_kept(const pinti_table_rec *rec)
{
    return (pinti_load64_relaxed(&rec->xgen_state) & PINTI_RECORD_KEPT) != 0;
}

/* LIVE -> DYING; the index is the caller's. */
static void end_live(pinti_cat *cat, uint32_t index)
{
    pinti_table_rec *rec = &cat->tables[index];
    cat->n_live--;
    cat->n_kept -= is_kept(rec);
    cat->n_dying++;
    /* Ordered before the slots are read; partner: open notes the slot, then reads the state. */
    pinti_cat_set_state(&rec->xgen_state, PINTI_DYING);
}

static void kill_jobs(pinti_cat *cat, uint32_t index)
{
    for (uint32_t job = cat->table_info[index].jobs; job != 0; job = cat->job_info[job - 1].next) {
        pinti_cat_job_kill(cat, job - 1);
    }
}

void pinti_cat_journal_begin(pinti_cat *cat, enum pinti_journal_kind kind, uint32_t table)
{
    pinti_journal *journal = pinti_cat_journal(cat);
    const uint64_t gen_state = pinti_load64_relaxed(&cat->tables[table].xgen_state);
    journal->kind = kind;
    /* From here on a crash carries the change through: rebuild reads this first. */
    pinti_store64_release(&journal->xtable, (uint64_t)pinti_gen_of(gen_state) << 32 | (table + 1));
}

void pinti_cat_journal_end(pinti_cat *cat)
{
    pinti_store64_release(&pinti_cat_journal(cat)->xtable, 0);
}

pint_status pinti_cat_publish(pinti_cat *cat, uint32_t index, uint32_t generation, bool replace,
                              pint_error *err)
{
    pinti_table_rec *rec = present(cat, index, generation, err);
    if (rec == NULL) {
        return no_such(cat, index, generation, err);
    }
    char text[PINTI_NAME_BYTES_MAX + 1];
    char printable[100];
    pinti_name name;
    if (!pinti_name_set(&name, pinti_cat_name(rec, text))) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "table %" PRIu32 " has no name", index);
    }
    if (pinti_cat_state(&rec->xgen_state) != PINTI_BUILDING) {
        return pinti_fail(err, PINT_E_STATE, 0, "table '%s' is published", shown(printable, text));
    }
    uint32_t place = 0;
    const uint32_t old = pinti_index_find(cat, &name, &place);
    if (old != 0 && !replace) {
        return pinti_fail(err, PINT_E_EXISTS, 0, "table '%s': the name is taken",
                          shown(printable, text));
    }
    cat->n_building--;
    cat->n_live++;
    cat->n_kept += is_kept(rec);
    if (old == 0) {
        /* Between the two stores the table is live and has no entry: rebuild adds it. */
        pinti_cat_set_state(&rec->xgen_state, PINTI_LIVE);
        PINTI_CRASHPOINT(SERVICE_PUBLISH_HALF);
        pinti_index_insert(cat, name.hash, index);
        return PINT_OK;
    }
    pinti_cat_journal(cat)->replaced = old;
    pinti_cat_journal_begin(cat, PINTI_JOURNAL_PUBLISH, index);
    pinti_cat_set_state(&rec->xgen_state, PINTI_LIVE);
    /* A reader that took the old entry and finds its table DYING looks again. */
    pinti_index_begin_moving(cat);
    pinti_index_swap(cat, place, index);
    PINTI_CRASHPOINT(SERVICE_PUBLISH_HALF);
    end_live(cat, old - 1);
    pinti_index_end_moving(cat);
    pinti_cat_journal_end(cat);
    kill_jobs(cat, old - 1);
    return PINT_OK;
}

/* ---- rename ---------------------------------------------------------------------------------- */

pint_status pinti_cat_rename(pinti_cat *cat, uint32_t index, uint32_t generation,
                             const char *new_name, pint_error *err)
{
    pinti_table_rec *rec = present(cat, index, generation, err);
    if (rec == NULL) {
        return no_such(cat, index, generation, err);
    }
    char printable[100];
    pinti_name name;
    if (!pinti_name_is_valid(new_name, strnlen(new_name, PINTI_NAME_BYTES_MAX + 1)) ||
        !pinti_name_set(&name, new_name)) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "table.rename to '%s': a name is 1 to %u bytes of UTF-8 without control "
                          "characters and '/', and not . or ..",
                          shown(printable, new_name), PINTI_NAME_BYTES_MAX);
    }
    const bool live = pinti_cat_state(&rec->xgen_state) == PINTI_LIVE;
    const uint32_t taken = pinti_index_find(cat, &name, NULL);
    if (taken == index + 1) {
        return PINT_OK;
    }
    if (live && taken != 0) {
        return pinti_fail(err, PINT_E_EXISTS, 0, "table.rename to '%s': the name is taken",
                          shown(printable, new_name));
    }
    uint64_t words[PINTI_NAME_WORDS];
    words_of(new_name, words);
    const uint64_t old_hash = pinti_index_hash(rec);
    pinti_journal *journal = pinti_cat_journal(cat);
    journal->name_bytes = name.bytes;
    memcpy(journal->name, words, sizeof(journal->name));
    pinti_cat_journal_begin(cat, PINTI_JOURNAL_RENAME, index);
    if (live) {
        pinti_index_insert(cat, name.hash, index);
    }
    PINTI_CRASHPOINT(SERVICE_RENAME_HALF);
    set_name(rec, words, name.bytes);
    PINTI_CRASHPOINT(SERVICE_RENAMED);
    if (live) {
        pinti_index_remove(cat, old_hash, index);
    }
    pinti_cat_journal_end(cat);
    return PINT_OK;
}

void pinti_cat_finish_journal(pinti_cat *cat)
{
    const pinti_journal *journal = pinti_cat_journal(cat);
    const uint64_t table = pinti_load64_relaxed(&journal->xtable);
    const uint32_t index = (uint32_t)table - 1;
    if (table == 0) {
        return;
    }
    /* A miss does not count until pinti_index_repair() is through: names and entries disagree. */
    pinti_index_begin_moving(cat);
    if (pinti_cat_has_table(cat, index, (uint32_t)(table >> 32))) {
        pinti_table_rec *rec = &cat->tables[index];
        if (journal->kind == PINTI_JOURNAL_RENAME) {
            set_name(rec, journal->name, journal->name_bytes);
        } else if (journal->kind == PINTI_JOURNAL_PUBLISH) {
            pinti_cat_set_state(&rec->xgen_state, PINTI_LIVE);
            if (journal->replaced - 1 < PINTI_TABLES_MAX) {
                pinti_cat_set_state(&cat->tables[journal->replaced - 1].xgen_state, PINTI_DYING);
            }
        } else if (journal->kind == PINTI_JOURNAL_COLUMNS) {
            pinti_cat_finish_columns(cat, index, journal);
        }
    }
    /* The index is put right by pinti_index_repair(), which needs no journal. */
    pinti_cat_journal_end(cat);
}

/* ---- flags and end --------------------------------------------------------------------------- */

pint_status pinti_cat_freeze(pinti_cat *cat, uint32_t index, uint32_t generation, pint_error *err)
{
    pinti_table_rec *rec = present(cat, index, generation, err);
    if (rec == NULL) {
        return no_such(cat, index, generation, err);
    }
    const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
    /* Ordered before the caller looks for held chunks; partner: a claim, then this word. */
    pinti_store64_seq(&rec->xgen_state, gen_state | PINTI_RECORD_FROZEN);
    return PINT_OK;
}

void pinti_cat_thaw(pinti_cat *cat, uint32_t index, uint32_t generation)
{
    pinti_table_rec *rec = present(cat, index, generation, NULL);
    if (rec != NULL) {
        const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
        pinti_store64_seq(&rec->xgen_state, gen_state & ~(uint64_t)PINTI_RECORD_FROZEN);
    }
}

pint_status pinti_cat_keep(pinti_cat *cat, uint32_t index, uint32_t generation, bool keep,
                           pint_error *err)
{
    pinti_table_rec *rec = present(cat, index, generation, err);
    if (rec == NULL) {
        return no_such(cat, index, generation, err);
    }
    const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
    if (pinti_state_of(gen_state) == PINTI_LIVE && is_kept(rec) != keep) {
        cat->n_kept = keep ? cat->n_kept + 1 : cat->n_kept - 1;
    }
    const uint64_t others = gen_state & ~(uint64_t)PINTI_RECORD_KEPT;
    pinti_store64_release(&rec->xgen_state, others | (keep ? PINTI_RECORD_KEPT : 0u));
    return PINT_OK;
}

void pinti_cat_charge(pinti_cat *cat, uint32_t index, uint32_t generation, uint32_t uid)
{
    if (!pinti_cat_has_table(cat, index, generation)) {
        return;
    }
    struct pinti_cat_table *info = &cat->table_info[index];
    pinti_memory_charge(cat->memory, pinti_load64_relaxed(&cat->tables[index].xbytes), info->uid,
                        uid);
    info->uid = uid;
    for (uint32_t job = info->jobs; job != 0; job = cat->job_info[job - 1].next) {
        pinti_memory_charge(cat->memory, cat->jobs[job - 1].bytes, cat->job_info[job - 1].uid, uid);
        cat->job_info[job - 1].uid = uid;
    }
}

void pinti_cat_table_kill(pinti_cat *cat, uint32_t index)
{
    pinti_table_rec *rec = &cat->tables[index];
    const uint32_t state = pinti_cat_state(&rec->xgen_state);
    if (state == PINTI_BUILDING) {
        cat->n_building--;
        cat->n_dying++;
        pinti_cat_set_state(&rec->xgen_state, PINTI_DYING);
    } else if (state == PINTI_LIVE) {
        end_live(cat, index);
        PINTI_CRASHPOINT(SERVICE_DROP_HALF);
        pinti_index_remove(cat, pinti_index_hash(rec), index);
    }
    kill_jobs(cat, index);
}

pint_status pinti_cat_drop(pinti_cat *cat, uint32_t index, uint32_t generation, pint_error *err)
{
    if (present(cat, index, generation, err) == NULL) {
        return no_such(cat, index, generation, err);
    }
    pinti_cat_table_kill(cat, index);
    return PINT_OK;
}
