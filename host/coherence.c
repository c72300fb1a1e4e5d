/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The brackets of coherence.h, one chunk at a time. Every hold of a chunk by way of a copy has its
 * copier word, from before the claim to after the end; readers have bits beside it.
 *
 * DEVICE_HELD does not say on which device. The copier word does: it carries the seq of the chunk
 * word it holds, which no other hold has. It is stored after the claim; before that it says CLAIM,
 * and a claimer that is still there looks at the copy's record later than forget looked at it.
 */

#include "host/coherence.h"

#include <inttypes.h>

#include "host/claim.h"
#include "host/error.h"
#include "host/writable_view.h"

/* ---- describing ------------------------------------------------------------------------------ */

static bool fits(uint64_t off, uint64_t bytes, uint64_t room, uint64_t align)
{
    return off % align == 0 && off <= room && bytes <= room - off;
}

/* Buffers of the copy: room for every row the column has room for. */
static bool buffers_can_be(const pinti_copy_rec *rec, const pinti_column_desc *column,
                           uint64_t row_capacity)
{
    const uint64_t bits_bytes = (row_capacity + 7) / 8;
    const uint64_t values_bytes =
        column->row_bytes != 0 ? row_capacity * column->row_bytes : bits_bytes;
    const bool has_validity = rec->validity_off != PINTI_NO_BUFFER;
    return rec->values_bytes >= values_bytes &&
           fits(rec->values_off, rec->values_bytes, rec->bytes, 256) &&
           has_validity == (column->validity != NULL) &&
           (!has_validity || (rec->validity_bytes >= bits_bytes &&
                              fits(rec->validity_off, rec->validity_bytes, rec->bytes, 256)));
}

pint_status pinti_copy_describe(const pint_pool *pool, uint32_t index, uint32_t generation,
                                const pint_column *column, pinti_copy_desc *out_copy,
                                pint_error *err)
{
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    if (!pool->writable) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "copy: the pool was joined read-only");
    }
    if (index >= PINTI_COPIES_MAX) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "copy: index %u of %u", index, PINTI_COPIES_MAX);
    }
    const pinti_copy_rec *rec = &pinti_cat_copies(pool->catalog)[index];
    /* acquire: the record is complete; pairs with the release store of its state */
    const uint64_t gen_state = pinti_load64_acquire(&rec->xgen_state);
    if (pinti_gen_of(gen_state) != generation || pinti_state_of(gen_state) == PINTI_FREE) {
        return pinti_fail(err, PINT_E_DROPPED, 0, "copy: the one of column '%s' was dropped",
                          desc->name);
    }
    const uint64_t chunks_bytes = (uint64_t)table->n_chunks * sizeof(pinti_copy_chunk);
    if (rec->table != table->index || rec->table_generation != table->generation ||
        rec->column != column->index || rec->device >= PINTI_DEVICES_MAX ||
        rec->n_chunks != table->n_chunks || desc->type == PINT_TEXT ||
        rec->sync_bytes < sizeof(pinti_copy_sync) + chunks_bytes ||
        !fits(rec->sync_off, rec->sync_bytes, pool->sync_bytes, PINTI_CACHE_LINE) ||
        !buffers_can_be(rec, desc, table->rec->row_capacity)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "copy: record %u of column '%s' cannot be", index,
                          desc->name);
    }
    char *sync = pool->sync + rec->sync_off;
    *out_copy = (pinti_copy_desc){
        .table = table,
        .column = desc,
        .rec = rec,
        .sync = (pinti_copy_sync *)(void *)sync,
        .chunks = (pinti_copy_chunk *)(void *)(sync + sizeof(pinti_copy_sync)),
        .n_chunks = table->n_chunks,
        .device = rec->device,
        .slot = PINTI_COPY_READERS,
        .index = index,
        .generation = generation,
    };
    return PINT_OK;
}

static uint32_t session_of(const pinti_copy_desc *copy)
{
    return copy->table->pool->session_index;
}

pint_status pinti_copy_slot_take(pinti_copy_desc *copy, pint_error *err)
{
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        uint32_t nobody = 0;
        /* seq, hence acquire: the last owner's bits are gone; pairs with pinti_copy_slot_give() and
         * the sweep */
        if (pinti_load32_relaxed(&copy->sync->xslots[i]) == 0 &&
            pinti_cas32_seq(&copy->sync->xslots[i], &nobody, session_of(copy))) {
            copy->slot = i;
            return PINT_OK;
        }
    }
    return pinti_fail(err, PINT_E_LIMIT, 0, "copy: %u sessions have the one of column '%s' open",
                      PINTI_COPY_READERS, copy->column->name);
}

void pinti_copy_slot_give(pinti_copy_desc *copy)
{
    if (copy->slot < PINTI_COPY_READERS) {
        /* release: our bits are cleared; pairs with pinti_copy_slot_take() */
        pinti_store32_release(&copy->sync->xslots[copy->slot], 0);
        copy->slot = PINTI_COPY_READERS;
    }
}

/* ---- words ----------------------------------------------------------------------------------- */

static pinti_a64 *word_at(const pinti_copy_desc *copy, uint64_t chunk)
{
    return &copy->column->words[chunk];
}

static void ring(const pinti_copy_desc *copy)
{
    pinti_bell_ring(copy->table->bell);
}

/* What the copy's record says to whoever begins. seq: after his first change; pairs with the
 * service, which stores CLOSING and DYING before it reads copiers, words and readers. */
static enum pinti_coherence look_at_record(const pinti_copy_desc *copy)
{
    const uint64_t gen_state = pinti_load64_seq(&copy->rec->xgen_state);
    const uint32_t state = pinti_state_of(gen_state);
    if (pinti_gen_of(gen_state) != copy->generation) {
        return PINTI_COH_GONE;
    }
    return state == PINTI_LIVE      ? PINTI_COH_OK
           : state == PINTI_CLOSING ? PINTI_COH_BUSY
                                    : PINTI_COH_GONE;
}

static uint64_t own_bit(const pinti_copy_desc *copy)
{
    return copy->slot < PINTI_COPY_READERS ? 1ull << copy->slot : 0;
}

/* What the state of a word that is not held says to a caller who needs good bytes somewhere. OK: it
 * is CLEAN, and places has the newest bytes. */
static enum pinti_coherence look(uint64_t word, uint64_t *places)
{
    const uint32_t state = pinti_chunk_state(word);
    *places = state == PINTI_CHUNK_CLEAN ? pinti_chunk_places(word) : 0;
    if (state == PINTI_CHUNK_RESTORE) {
        return PINTI_COH_RESTORE;
    }
    if (state == PINTI_CHUNK_TORN || (state == PINTI_CHUNK_CLEAN && *places == 0)) {
        return PINTI_COH_TORN;
    }
    return state == PINTI_CHUNK_CLEAN && pinti_chunk_holder(word) == 0 ? PINTI_COH_OK
                                                                       : PINTI_COH_BUSY;
}

static enum pinti_coherence look_to_pull(uint64_t word, uint64_t device_bit)
{
    uint64_t places;
    const enum pinti_coherence seen = look(word, &places);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    return (places & device_bit) != 0         ? PINTI_COH_THERE
           : (places & PINTI_PLACE_HOST) == 0 ? PINTI_COH_PUSH
                                              : PINTI_COH_OK;
}

static enum pinti_coherence look_to_push(uint64_t word, uint64_t device_bit)
{
    uint64_t places;
    const enum pinti_coherence seen = look(word, &places);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    return (places & PINTI_PLACE_HOST) != 0 ? PINTI_COH_THERE
           : (places & device_bit) == 0     ? PINTI_COH_PUSH
                                            : PINTI_COH_OK;
}

static enum pinti_coherence look_to_read(uint64_t word, uint64_t device_bit)
{
    uint64_t places;
    const enum pinti_coherence seen = look(word, &places);
    return seen == PINTI_COH_OK && (places & device_bit) == 0 ? PINTI_COH_PULL : seen;
}

static enum pinti_coherence look_to_hold(uint64_t word, uint64_t device_bit,
                                         enum pinti_device_use use)
{
    enum pinti_coherence seen;
    switch (use) {
    case PINTI_TAKE_TO_PUSH:
        return look_to_push(word, device_bit);
    case PINTI_TAKE_TO_CHANGE:
        seen = look_to_pull(word, device_bit);
        return seen == PINTI_COH_THERE ? PINTI_COH_OK : seen;
    case PINTI_TAKE_TO_REPLACE:
        seen = look_to_pull(word, device_bit);
        return seen == PINTI_COH_RESTORE || seen == PINTI_COH_BUSY ? seen : PINTI_COH_OK;
    case PINTI_TAKE_TO_PULL:
    default:
        return look_to_pull(word, device_bit);
    }
}

/* ---- copier words ---------------------------------------------------------------------------- */

static bool copier_take(const pinti_copy_desc *copy, uint64_t chunk)
{
    uint64_t nobody = 0;
    /* seq: before the claim of the chunk word; pairs with the service, which reads a held word,
     * then this one, then that word again */
    return pinti_cas64_seq(&copy->chunks[chunk].xcopier, &nobody,
                           pinti_copier(session_of(copy), PINTI_COPIER_CLAIM, 0));
}

/* Give it back if it is still as given: a session that is swept has lost it. */
static void copier_give(const pinti_copy_desc *copy, uint64_t chunk, enum pinti_copier_kind kind,
                        uint64_t claimed)
{
    uint64_t mine = pinti_copier(session_of(copy), kind, claimed);
    (void)pinti_cas64_seq(&copy->chunks[chunk].xcopier, &mine, 0);
    ring(copy);
}

/* ---- writable views: steps a and c of writable_view.h ---------------------------------------- */

/* The copier being ours, before the chunk is taken. */
static void note_views(pinti_copy_desc *copy, uint64_t chunk)
{
    const uint64_t views = pinti_table_is_frozen_after_claim(copy->table->rec)
                               ? PINTI_VIEWS_IGNORED
                               : pinti_load64_seq(&copy->column->state->xviews);
    /* relaxed: read by the copier alone */
    pinti_store64_relaxed(&copy->chunks[chunk].xviews, views);
}

/* May a view have changed the host's bytes since, or do so at any time? */
bool pinti_hold_is_older_than_views(const pinti_copy_desc *copy, uint64_t chunk)
{
    const uint64_t noted = pinti_load64_relaxed(&copy->chunks[chunk].xviews);
    /* seq: after both sides went into the mask; pairs with step 4, which comes after step 2 */
    return noted != PINTI_VIEWS_IGNORED &&
           (PINTI_VIEWS_COUNT(noted) != 0 ||
            pinti_load64_seq(&copy->column->state->xviews) != noted);
}

static bool has_both_sides(uint64_t places)
{
    return (places & PINTI_PLACE_HOST) != 0 && (places & ~PINTI_PLACE_HOST) != 0;
}

/* ---- holds ----------------------------------------------------------------------------------- */

static bool is_device_hold(uint64_t now, uint64_t held)
{
    return pinti_chunk_is_same_hold(now, held) && pinti_chunk_state(now) == PINTI_CHUNK_DEVICE_HELD;
}

/* End the hold: of the places that are left in the mask keep some, add some; host and devices
 * together only where no view stands against it. Only the service and views take devices out
 * meanwhile. False: not held as claimed. */
static bool hold_end(pinti_copy_desc *copy, uint64_t chunk, uint64_t claimed, uint64_t keep,
                     uint64_t add)
{
    pinti_a64 *at = word_at(copy, chunk);
    uint64_t held = claimed;
    uint64_t now = pinti_load64_acquire(at);
    while (is_device_hold(now, claimed)) {
        const uint64_t places = (pinti_chunk_places(now) & keep) | add;
        if (!has_both_sides(places)) {
            /* seq, hence release: what the holder did comes before; pairs with the acquire loads of
             * whoever finds the place in the mask */
            if (pinti_cas64_seq(at, &now, pinti_chunk_settled(now, places))) {
                return true;
            }
            continue;
        }
        held = (now & ~PINTI_CHUNK_MASK) | (places ^ PINTI_HOST_STALE);
        /* seq: step b, before the look at the views */
        if (pinti_cas64_seq(at, &now, held)) {
            now = held;
            break;
        }
    }
    const uint64_t left = pinti_hold_is_older_than_views(copy, chunk) ? PINTI_PLACE_HOST : ~0ull;
    while (is_device_hold(now, held)) {
        /* seq, hence release: as above */
        if (pinti_cas64_seq(at, &now, pinti_chunk_settled(now, pinti_chunk_places(now) & left))) {
            return true;
        }
    }
    return false;
}

/* End a push or a write: first the word, then the copier. */
static enum pinti_coherence operation_end(pinti_copy_desc *copy, uint64_t chunk, uint64_t claimed,
                                          enum pinti_copier_kind kind, uint64_t keep, uint64_t add)
{
    const bool is_held = pinti_chunk_holder(claimed) == session_of(copy) &&
                         hold_end(copy, chunk, claimed, keep, add);
    copier_give(copy, chunk, kind, claimed);
    return is_held ? PINTI_COH_OK : PINTI_COH_LOST;
}

static enum pinti_copier_kind kind_of(enum pinti_device_use use)
{
    return use == PINTI_TAKE_TO_PUSH ? PINTI_COPIER_PUSH : PINTI_COPIER_WRITE;
}

/* Claim the word, the copier being ours. */
static enum pinti_coherence hold_begin(pinti_copy_desc *copy, uint64_t chunk,
                                       enum pinti_device_use use, pinti_taken *taken)
{
    const uint64_t device = pinti_place_bit(copy->device);
    pinti_a64 *at = word_at(copy, chunk);
    uint64_t now = pinti_load64_acquire(at);
    for (;;) {
        const enum pinti_coherence seen = look_to_hold(now, device, use);
        if (seen != PINTI_COH_OK) {
            return seen;
        }
        const uint64_t places =
            pinti_chunk_state(now) == PINTI_CHUNK_CLEAN ? pinti_chunk_places(now) : 0;
        /* a push writes to the host, which is not in the mask; all others to d */
        const uint64_t left = use == PINTI_TAKE_TO_PUSH ? places : places & ~device;
        const uint64_t claimed = pinti_chunk_next(now, PINTI_CHUNK_DEVICE_HELD, session_of(copy),
                                                  left ^ PINTI_HOST_STALE);
        /* seq: before the looks at the record, the freeze and the readers; acquire: bytes committed
         * before are visible; pairs with the ends of holds */
        if (pinti_cas64_seq(at, &now, claimed)) {
            *taken = (pinti_taken){claimed, use, (places & device) != 0};
            /* seq: before the look at the record. From here on forget knows that it is our hold. */
            pinti_store64_seq(&copy->chunks[chunk].xcopier,
                              pinti_copier(session_of(copy), kind_of(use), claimed));
            return PINTI_COH_OK;
        }
    }
}

/* Readers that are in the way: a pull changes what this session's own readers read, too; a push
 * changes nothing on the device. */
static uint64_t readers_against(const pinti_copy_desc *copy, uint64_t chunk,
                                enum pinti_device_use use)
{
    const uint64_t readers = pinti_load64_seq(&copy->chunks[chunk].xreaders);
    return use == PINTI_TAKE_TO_PUSH   ? 0
           : use == PINTI_TAKE_TO_PULL ? readers
                                       : readers & ~own_bit(copy);
}

enum pinti_coherence pinti_device_look(const pinti_copy_desc *copy, uint64_t chunk,
                                       enum pinti_device_use use)
{
    const enum pinti_coherence seen =
        look_to_hold(pinti_load64_seq(word_at(copy, chunk)), pinti_place_bit(copy->device), use);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    if (pinti_load64_seq(&copy->chunks[chunk].xcopier) != 0 ||
        readers_against(copy, chunk, use) != 0) {
        return PINTI_COH_BUSY;
    }
    return look_at_record(copy);
}

enum pinti_coherence pinti_device_take(pinti_copy_desc *copy, uint64_t chunk,
                                       enum pinti_device_use use, pinti_taken *out_taken)
{
    enum pinti_coherence seen = pinti_device_look(copy, chunk, use);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    if (!copier_take(copy, chunk)) {
        return PINTI_COH_BUSY;
    }
    pinti_taken taken;
    note_views(copy, chunk);
    seen = hold_begin(copy, chunk, use, &taken);
    if (seen != PINTI_COH_OK) {
        copier_give(copy, chunk, PINTI_COPIER_CLAIM, 0);
        return seen;
    }
    const bool is_change = use == PINTI_TAKE_TO_CHANGE || use == PINTI_TAKE_TO_REPLACE;
    seen = look_at_record(copy);
    if (seen == PINTI_COH_GONE) {
        /* d is not this copy's place any more. BUSY, though: it is until DYING, which comes after
         * this look, so that forget sees the copier word and takes the hold, or what it left. */
        taken.had_device = false;
    } else if (seen == PINTI_COH_OK && is_change &&
               pinti_table_is_frozen_after_claim(copy->table->rec)) {
        seen = PINTI_COH_FROZEN;
    } else if (seen == PINTI_COH_OK && readers_against(copy, chunk, use) != 0) {
        /* seq: after the claim. A reader that sets its bit after this look finds the word held. */
        seen = PINTI_COH_BUSY;
    }
    if (seen != PINTI_COH_OK) {
        (void)pinti_device_give_back(copy, chunk, &taken);
        return seen;
    }
    *out_taken = taken;
    return PINTI_COH_OK;
}

enum pinti_coherence pinti_device_give_back(pinti_copy_desc *copy, uint64_t chunk,
                                            const pinti_taken *taken)
{
    const bool is_push = taken->use == PINTI_TAKE_TO_PUSH; /* its mask has d, or not any more */
    return operation_end(copy, chunk, taken->word, kind_of(taken->use), ~0ull,
                         taken->had_device && !is_push ? pinti_place_bit(copy->device) : 0);
}

enum pinti_coherence pinti_device_pulled(pinti_copy_desc *copy, uint64_t chunk, uint64_t word)
{
    return operation_end(copy, chunk, word, PINTI_COPIER_WRITE, ~0ull,
                         pinti_place_bit(copy->device));
}

enum pinti_coherence pinti_device_write_commit(pinti_copy_desc *copy, uint64_t chunk, uint64_t word)
{
    return operation_end(copy, chunk, word, PINTI_COPIER_WRITE, 0, pinti_place_bit(copy->device));
}

enum pinti_coherence pinti_device_write_cancel(pinti_copy_desc *copy, uint64_t chunk, uint64_t word)
{
    return operation_end(copy, chunk, word, PINTI_COPIER_WRITE, ~0ull, 0);
}

enum pinti_coherence pinti_push_commit(pinti_copy_desc *copy, uint64_t chunk, uint64_t word)
{
    return operation_end(copy, chunk, word, PINTI_COPIER_PUSH, ~0ull, PINTI_PLACE_HOST);
}

enum pinti_coherence pinti_push_cancel(pinti_copy_desc *copy, uint64_t chunk, uint64_t word)
{
    return operation_end(copy, chunk, word, PINTI_COPIER_PUSH, ~0ull, 0);
}

/* ---- reading on the device ------------------------------------------------------------------- */

/* Returns whether it was set before. */
static bool reader_set(pinti_a64 *readers, uint64_t bit)
{
    uint64_t now = pinti_load64_acquire(readers);
    /* seq: before the look at the chunk word */
    while (!pinti_cas64_seq(readers, &now, now | bit)) {
    }
    return (now & bit) != 0;
}

static void reader_clear(pinti_a64 *readers, uint64_t bit)
{
    uint64_t now = pinti_load64_acquire(readers);
    /* seq, hence release: our reading comes before; pairs with the looks of pullers and writers.
     * And before the look at the bell. */
    while (!pinti_cas64_seq(readers, &now, now & ~bit)) {
    }
}

enum pinti_coherence pinti_device_read_begin(pinti_copy_desc *copy, uint64_t chunk)
{
    const uint64_t device = pinti_place_bit(copy->device);
    pinti_a64 *at = word_at(copy, chunk);
    pinti_a64 *readers = &copy->chunks[chunk].xreaders;
    enum pinti_coherence seen = look_to_read(pinti_load64_seq(at), device);
    if (seen == PINTI_COH_OK) {
        seen = look_at_record(copy);
    }
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    const bool was_set = reader_set(readers, own_bit(copy));
    /* seq: after the bit; acquire: the bytes on the device are visible; pairs with the commits */
    seen = look_to_read(pinti_load64_seq(at), device);
    /* The bit of the mask was this copy's if the copy is there after the mask was read. */
    if (seen == PINTI_COH_OK) {
        seen = look_at_record(copy);
    }
    if (seen != PINTI_COH_OK && !was_set) {
        reader_clear(readers, own_bit(copy));
        ring(copy);
    }
    return seen;
}

void pinti_device_read_join(pinti_copy_desc *copy, uint64_t chunk)
{
    (void)reader_set(&copy->chunks[chunk].xreaders, own_bit(copy));
}

void pinti_device_read_end(pinti_copy_desc *copy, uint64_t chunk)
{
    reader_clear(&copy->chunks[chunk].xreaders, own_bit(copy));
    ring(copy);
}

/* ---- the host alone -------------------------------------------------------------------------- */

enum pinti_coherence pinti_own_host(pinti_copy_desc *copy, uint64_t chunk)
{
    pinti_a64 *at = word_at(copy, chunk);
    if (pinti_table_is_frozen_after_claim(copy->table->rec)) {
        return PINTI_COH_FROZEN;
    }
    uint64_t now = pinti_load64_acquire(at);
    for (;;) {
        uint64_t places;
        const enum pinti_coherence seen = look(now, &places);
        if (seen != PINTI_COH_OK) {
            return seen;
        }
        if ((places & PINTI_PLACE_HOST) == 0) {
            return PINTI_COH_PUSH;
        }
        /* seq, hence acquire: what a push brought is visible */
        if (pinti_cas64_seq(at, &now, pinti_chunk_settled(now, PINTI_PLACE_HOST))) {
            ring(copy);
            return PINTI_COH_OK;
        }
    }
}
