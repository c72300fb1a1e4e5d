/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Leases outside jobs. PINT_OUT and PINT_UPDATE claim the chunk words themselves (claim.h); death
 * tears. PINT_INOUT goes through the lease set of its columns (job.h), so that there is one
 * protocol for undo.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/intent.h"
#include "host/job.h"

#define LEASE_COLUMNS_MAX 64u

/* What is to be claimed. */
struct request {
    pint_table *table;
    const pint_column *columns;
    uint64_t chunk;
    uint32_t n_columns;
    uint32_t use;
    uint32_t sorted[LEASE_COLUMNS_MAX]; /* column indices, ascending */
    pinti_lease *lease;
    pinti_job_desc *set;            /* PINT_INOUT */
    struct pinti_lease_part *parts; /* several plain columns */
    pint_error *err;
    pint_status status;
};

/* ---- plain claims ---------------------------------------------------------------------------- */

static void fill_plain(const struct request *request)
{
    pinti_table_desc *table = request->table->desc;
    *request->lease = (pinti_lease){
        .first = request->chunk << table->chunk_shift,
        .n_rows = pinti_chunk_rows_of(table, request->chunk),
        .chunk = request->chunk,
        .owner = table,
        .intent.n_columns = request->n_columns,
        .process = pinti_fork_word32(),
        .kind = request->n_columns == 1 ? PINTI_LEASE_ONE : PINTI_LEASE_PLAIN,
    };
}

static uint32_t note_intent(const pinti_table_desc *table, uint32_t column, uint64_t chunk)
{
    return pinti_intent_note(table->pool,
                             pinti_intent(PINTI_INTENT_LEASE, table->index, column, chunk));
}

/* The table was frozen while its chunk was being claimed. */
__attribute__((noinline, cold)) static void
take_back(const pinti_table_desc *table, pinti_a64 *word, uint64_t claimed, pinti_a64 *intent)
{
    (void)pinti_chunk_unclaim(word, claimed);
    pinti_bell_ring(table->bell);
    pinti_intent_clear_entry(intent);
}

/* One column. */
static enum pinti_claim claim_one(struct request *request)
{
    const pinti_table_desc *table = request->table->desc;
    const uint32_t column = request->sorted[0];
    pinti_a64 *intent = pinti_intent_entry(table->pool, note_intent(table, column, request->chunk));
    PINTI_CRASHPOINT(LEASE_INTENT);
    pinti_a64 *at = &pinti_column_desc_at(table, column)->words[request->chunk];
    uint64_t word;
    const enum pinti_claim claim = pinti_chunk_claim(at, table->pool->session_index, false,
                                                     request->use == PINT_OUT, false, &word);
    if (__builtin_expect(claim != PINTI_CLAIMED, 0)) {
        pinti_intent_clear_entry(intent);
        return claim;
    }
    if (pinti_table_is_frozen_after_claim(table->rec)) {
        take_back(table, at, word, intent);
        return PINTI_CLAIM_FROZEN;
    }
    PINTI_CRASHPOINT(LEASE_CLAIMED);
    fill_plain(request);
    request->lease->word = word;
    request->lease->intent.entry = intent;
    request->lease->u.word_at = at;
    return PINTI_CLAIMED;
}

/* Give the first n claimed columns back untouched. */
static void unclaim_parts(const struct request *request, uint32_t n)
{
    const pinti_table_desc *table = request->table->desc;
    while (n-- > 0) {
        const struct pinti_lease_part *part = &request->parts[n];
        (void)pinti_chunk_unclaim(&pinti_column_desc_at(table, part->column)->words[request->chunk],
                                  part->word);
        pinti_intent_clear(table->pool, part->reserved);
    }
    pinti_bell_ring(table->bell);
}

/* R7: several columns, ascending, all or none. Intents: one per column, at reserved >> 0. */
static enum pinti_claim claim_several(struct request *request, uint32_t *out_failed)
{
    const pinti_table_desc *table = request->table->desc;
    pint_pool *pool = table->pool;
    for (uint32_t i = 0; i < request->n_columns; i++) {
        struct pinti_lease_part *part = &request->parts[i];
        part->column = request->sorted[i];
        part->reserved = note_intent(table, part->column, request->chunk);
        const enum pinti_claim claim = pinti_chunk_claim(
            &pinti_column_desc_at(table, part->column)->words[request->chunk], pool->session_index,
            false, request->use == PINT_OUT, false, &part->word);
        if (claim == PINTI_CLAIMED) {
            PINTI_CRASHPOINT(LEASE_PART_CLAIMED);
            continue;
        }
        pinti_intent_clear(pool, part->reserved);
        *out_failed = part->column;
        unclaim_parts(request, i);
        return claim;
    }
    if (pinti_table_is_frozen_after_claim(table->rec)) {
        *out_failed = request->parts[0].column;
        unclaim_parts(request, request->n_columns);
        return PINTI_CLAIM_FROZEN;
    }
    PINTI_CRASHPOINT(LEASE_CLAIMED);
    fill_plain(request);
    request->lease->u.parts = request->parts;
    return PINTI_CLAIMED;
}

/* All claimable now? A look without a claim, so that two waiters do not wake each other for ever.
 */
static enum pinti_claim peek_several(const struct request *request, uint32_t *out_failed)
{
    const pinti_table_desc *table = request->table->desc;
    for (uint32_t i = 0; i < request->n_columns; i++) {
        const uint64_t word = pinti_load64_seq(
            &pinti_column_desc_at(table, request->sorted[i])->words[request->chunk]);
        const uint32_t state = pinti_chunk_state(word);
        *out_failed = request->sorted[i];
        if (pinti_chunk_is_held(state)) {
            return PINTI_CLAIM_BUSY;
        }
        if (state == PINTI_CHUNK_RESTORE) {
            return PINTI_CLAIM_RESTORE;
        }
        if (request->use != PINT_OUT &&
            (state == PINTI_CHUNK_TORN || (word & PINTI_HOST_STALE) != 0)) {
            return state == PINTI_CHUNK_TORN ? PINTI_CLAIM_TORN : PINTI_CLAIM_AHEAD;
        }
    }
    return PINTI_CLAIMED;
}

static enum pinti_claim claim_plain(struct request *request, uint32_t *out_failed)
{
    if (request->n_columns == 1) {
        *out_failed = request->sorted[0];
        return claim_one(request);
    }
    const enum pinti_claim claim = peek_several(request, out_failed);
    return claim == PINTI_CLAIMED ? claim_several(request, out_failed) : claim;
}

/* One attempt: true when the request is over, with request->status; false: held by another. */
static bool try_claim(void *context)
{
    struct request *request = context;
    if (request->set != NULL) {
        const enum pinti_take take =
            pinti_job_take(request->set, request->chunk, request->lease, request->err);
        request->status = take == PINTI_TAKEN         ? PINT_OK
                          : take == PINTI_TAKE_FROZEN ? PINT_E_FROZEN
                          : take == PINTI_TAKE_AHEAD  ? PINT_E_DEVICE_AHEAD
                                                      : PINT_E_TORN;
        return take == PINTI_TAKEN || take == PINTI_TAKE_TORN || take == PINTI_TAKE_AHEAD ||
               take == PINTI_TAKE_FROZEN;
    }
    uint32_t failed = 0;
    enum pinti_claim claim = claim_plain(request, &failed);
    if (__builtin_expect(claim == PINTI_CLAIM_RESTORE, 0) &&
        pinti_chunk_restore(request->table->desc, request->chunk)) {
        claim = claim_plain(request, &failed);
    }
    if (__builtin_expect(claim == PINTI_CLAIMED, 1)) {
        request->status = PINT_OK;
        return true;
    }
    if (claim != PINTI_CLAIM_TORN && claim != PINTI_CLAIM_AHEAD && claim != PINTI_CLAIM_FROZEN) {
        return false;
    }
    request->status =
        pinti_claim_fail(claim, "claim", pinti_column_desc_at(request->table->desc, failed),
                         request->chunk, request->err);
    return true;
}

/* ---- claim ----------------------------------------------------------------------------------- */

static pint_status sort_columns(struct request *request)
{
    for (uint32_t i = 0; i < request->n_columns; i++) {
        const pint_column *column = &request->columns[i];
        if (column->table == NULL || column->table->desc != request->table->desc ||
            column->index >= pinti_load32_acquire(&request->table->desc->xn_columns)) {
            return pinti_fail(request->err, PINT_E_INVALID, 0,
                              "claim: columns of different tables");
        }
        const pinti_column_desc *desc = pinti_column_desc_of(column);
        if (desc->type == PINT_TEXT) {
            return pinti_fail(request->err, PINT_E_TYPE, 0,
                              "claim: text column '%s' cannot be written in place", desc->name);
        }
        uint32_t at = i;
        for (; at > 0 && request->sorted[at - 1] > column->index; at--) {
            request->sorted[at] = request->sorted[at - 1];
        }
        if (at > 0 && request->sorted[at - 1] == column->index) {
            return pinti_fail(request->err, PINT_E_INVALID, 0, "claim: column '%s' twice",
                              desc->name);
        }
        request->sorted[at] = column->index;
    }
    return PINT_OK;
}

static pint_status prepare(struct request *request)
{
    const pinti_table_desc *table = request->table->desc;
    if (request->chunk >= table->n_chunks) {
        return pinti_fail(request->err, PINT_E_RANGE, 0, "claim: chunk %" PRIu64 " of %u",
                          request->chunk, table->n_chunks);
    }
    pint_status status = pinti_table_check_write(request->table, "claim", request->err);
    if (status == PINT_OK) {
        status = pinti_pool_enter(table->pool, request->err);
    }
    if (status == PINT_OK) {
        status = sort_columns(request);
    }
    if (status == PINT_OK && request->use == PINT_INOUT) {
        status = pinti_lease_set_get(request->table, request->sorted, request->n_columns,
                                     &request->set, request->err);
    } else if (status == PINT_OK && request->n_columns > 1) {
        request->parts = calloc(request->n_columns, sizeof(*request->parts));
        if (request->parts == NULL) {
            status = pinti_fail(request->err, PINT_E_NO_MEMORY, 0, "claim: %u columns",
                                request->n_columns);
        }
    }
    return status;
}

__attribute__((noinline, cold)) static pint_status
claim_slow(const pint_column *columns, uint32_t n_columns, uint64_t chunk, uint32_t use,
           int64_t timeout_ms, pint_lease *out_lease, pint_error *err)
{
    if (columns == NULL || out_lease == NULL || columns[0].table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "claim: NULL argument");
    }
    if (n_columns == 0 || n_columns > LEASE_COLUMNS_MAX) {
        return pinti_fail(err, PINT_E_RANGE, 0, "claim: %u columns, not 1 to %u", n_columns,
                          LEASE_COLUMNS_MAX);
    }
    if (use < PINT_OUT || use > PINT_UPDATE) {
        return pinti_fail(err, PINT_E_INVALID, 0, "claim: use %u", use);
    }
    struct request request;
    request.table = columns[0].table;
    request.columns = columns;
    request.chunk = chunk;
    request.n_columns = n_columns;
    request.use = use;
    request.lease = (pinti_lease *)(void *)out_lease;
    request.set = NULL;
    request.parts = NULL;
    request.err = err;
    pint_status status = prepare(&request);
    if (__builtin_expect(status == PINT_OK, 1)) {
        if (__builtin_expect(!try_claim(&request), 0)) {
            if (timeout_ms == 0) {
                request.status = pinti_claim_fail(
                    PINTI_CLAIM_BUSY, "claim",
                    pinti_column_desc_at(request.table->desc, request.sorted[0]), chunk, err);
            } else {
                status = pinti_wait(request.table->desc->pool, request.table->desc->bell, try_claim,
                                    &request, timeout_ms, true, "claim", err);
            }
        }
        if (status == PINT_OK) {
            status = request.status;
        }
    }
    if (__builtin_expect(status != PINT_OK, 0)) {
        free(request.parts);
    }
    return status;
}

/* The table was frozen while the fast path claimed: the claim is taken back. */
__attribute__((noinline, cold)) static pint_status refuse_frozen(pinti_lease *lease,
                                                                 pint_error *err)
{
    lease->kind = PINTI_LEASE_VOID;
    take_back(lease->owner, lease->u.word_at, lease->word, lease->intent.entry);
    return pinti_fail(err, PINT_E_FROZEN, 0, "claim: the table is frozen");
}

enum fast { FAST_CLAIMED, FAST_FROZEN, FAST_NOT };

/*
 * The fast path: one free column, no undo, a place for the intent. No call is made on it, and what
 * it needs of the column is in one cache line. FAST_NOT: nothing was done, whatever the reason is;
 * claim_slow() finds out. The pool need not be entered: see pinti_intent_session().
 */
static inline enum fast claim_fast(const pint_column *column, uint64_t chunk, pinti_lease *lease)
{
    const pinti_column_desc *target = pinti_column_desc_claimable(column);
    if (__builtin_expect(target == NULL || chunk >= target->n_chunks, 0)) {
        return FAST_NOT;
    }
    const pint_pool *pool = target->pool;
    pinti_a64 *word = &target->words[chunk];
    uint64_t now = pinti_load64_acquire(word); /* acquire: pairs with pinti_chunk_commit() */
    const uint64_t not_free = 7ull << PINTI_CHUNK_STATE_SHIFT | PINTI_HOST_STALE;
    pinti_a64 *intent;
    if (__builtin_expect((now & not_free) != 0 ||
                             !pinti_intent_note_fast(
                                 pool, target->intent | pinti_intent(0, 0, 0, chunk), &intent),
                         0)) {
        return FAST_NOT;
    }
    PINTI_CRASHPOINT(LEASE_INTENT);
    /* pinti_chunk_next() with state HELD: free, so holder and state bits of now are 0 */
    const uint64_t next = (now + (1ull << PINTI_CHUNK_SEQ_SHIFT)) | pool->held_bits;
    if (__builtin_expect(!pinti_cas64_seq(word, &now, next), 0)) { /* as in pinti_chunk_claim() */
        pinti_intent_clear_entry(intent);
        return FAST_NOT;
    }
    PINTI_CRASHPOINT(LEASE_CLAIMED);
    const uint64_t first = chunk * target->chunk_rows;
    const uint64_t left = target->n_rows - first;
    lease->first = first;
    lease->n_rows = left < target->chunk_rows ? left : target->chunk_rows;
    lease->chunk = chunk;
    lease->owner = target->table;
    lease->word = next;
    lease->intent.entry = intent;
    lease->process = (uint32_t)pinti_intent_mine.session;
    lease->kind = PINTI_LEASE_ONE;
    lease->u.word_at = word;
    return __builtin_expect(pinti_table_is_frozen_after_claim(target->table_rec), 0) ? FAST_FROZEN
                                                                                     : FAST_CLAIMED;
}

pint_status pint_lease_claim(const pint_column *columns, uint32_t n_columns, uint64_t chunk,
                             uint32_t use, int64_t timeout_ms, pint_lease *out_lease,
                             pint_error *err)
{
    if (__builtin_expect(n_columns == 1 && (use == PINT_UPDATE || use == PINT_OUT) &&
                             columns != NULL && out_lease != NULL,
                         1)) {
        pinti_lease *lease = (pinti_lease *)(void *)out_lease;
        const enum fast fast = claim_fast(columns, chunk, lease);
        if (__builtin_expect(fast == FAST_CLAIMED, 1)) {
            return PINT_OK;
        }
        if (fast == FAST_FROZEN) {
            return refuse_frozen(lease, err);
        }
    }
    return claim_slow(columns, n_columns, chunk, use, timeout_ms, out_lease, err);
}

/* ---- end ------------------------------------------------------------------------------------- */

enum lease_end { END_COMMIT, END_ABANDON };

/* Commit or tear the words of a plain lease. False: some word was not held as claimed; the others
 * are given back all the same. */
static bool end_plain(const pinti_lease *lease, enum lease_end how)
{
    pinti_table_desc *table = lease->owner;
    pint_pool *pool = table->pool;
    bool is_held = lease->process == pinti_fork_word32();
    if (!is_held) {
        return false; /* of the process before fork(): its intents are not in this slot */
    }
    if (lease->kind == PINTI_LEASE_ONE) {
        pinti_a64 *word = lease->u.word_at;
        is_held = how == END_COMMIT ? pinti_chunk_commit(word, lease->word)
                                    : pinti_chunk_tear(word, lease->word);
        PINTI_CRASHPOINT(LEASE_COMMITTED);
        pinti_bell_ring(table->bell);
        pinti_intent_clear_entry(lease->intent.entry);
        return is_held;
    }
    for (uint32_t i = 0; i < lease->intent.n_columns; i++) {
        const struct pinti_lease_part *part = &lease->u.parts[i];
        pinti_a64 *word = &pinti_column_desc_at(table, part->column)->words[lease->chunk];
        const bool is_part_held = how == END_COMMIT ? pinti_chunk_commit(word, part->word)
                                                    : pinti_chunk_tear(word, part->word);
        is_held = is_held && is_part_held;
        PINTI_CRASHPOINT(LEASE_PART_COMMITTED);
    }
    PINTI_CRASHPOINT(LEASE_COMMITTED);
    pinti_bell_ring(table->bell);
    for (uint32_t i = 0; i < lease->intent.n_columns; i++) {
        pinti_intent_clear(pool, lease->u.parts[i].reserved);
    }
    return is_held;
}

__attribute__((noinline, cold)) static pint_status end(pint_lease *lease, enum lease_end how,
                                                       const char *operation, pint_error *err)
{
    if (lease == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    pinti_lease *mine = (pinti_lease *)(void *)lease;
    bool is_held = false;
    if (mine->kind == PINTI_LEASE_PLAIN || mine->kind == PINTI_LEASE_ONE) {
        pinti_table_desc *table = mine->owner;
        if (pinti_load64_relaxed(pinti_fork_word) == table->pool->fork_word) {
            is_held = end_plain(mine, how);
        }
        if (mine->kind == PINTI_LEASE_PLAIN) {
            free(mine->u.parts);
        }
    } else if (mine->kind == PINTI_LEASE_UNDO) {
        pinti_job_desc *set = mine->owner;
        if (pinti_load64_relaxed(pinti_fork_word) == set->pool->fork_word) {
            is_held = how == END_COMMIT ? pinti_job_commit(set, mine)
                                        : pinti_job_abandon(set, mine, PINTI_ABANDON_FREELY);
        }
    } else {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: not a held lease", operation);
    }
    mine->kind = PINTI_LEASE_VOID;
    if (__builtin_expect(is_held, 1)) {
        return PINT_OK;
    }
    return pinti_fail(err, PINT_E_LEASE_LOST, 0, "%s: chunk %" PRIu64 " is not held any more",
                      operation, mine->chunk);
}

/* What follows a commit on the fast path when somebody sleeps. */
__attribute__((noinline, cold)) static pint_status commit_and_ring(pinti_lease *lease)
{
    const pinti_table_desc *table = lease->owner;
    pinti_bell_ring_slow(table->bell);
    pinti_intent_clear_entry(lease->intent.entry);
    return PINT_OK;
}

pint_status pint_lease_commit(pint_lease *lease, pint_error *err)
{
    pinti_lease *mine = (pinti_lease *)(void *)lease;
    /* the fast path: what end() does, without calls, which tries again where this does not do */
    if (__builtin_expect(mine == NULL || mine->kind != PINTI_LEASE_ONE ||
                             pinti_fork_word32() != mine->process ||
                             !pinti_chunk_end_once(mine->u.word_at, mine->word, PINTI_HOLD_COMMIT),
                         0)) {
        return end(lease, END_COMMIT, "commit", err);
    }
    PINTI_CRASHPOINT(LEASE_COMMITTED);
    const pinti_table_desc *table = mine->owner;
    mine->kind = PINTI_LEASE_VOID;
    /* seq: as in pinti_bell_ring() */
    if (__builtin_expect((pinti_load32_seq(&table->bell->xbell) & PINTI_BELL_ASLEEP) != 0, 0)) {
        return commit_and_ring(mine);
    }
    pinti_intent_clear_entry(mine->intent.entry);
    return PINT_OK;
}

pint_status pint_lease_abandon(pint_lease *lease, pint_error *err)
{
    return end(lease, END_ABANDON, "abandon", err);
}
