/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One chunk of a job through its states (R1, tests/model/lease_job.pml). s: the holder; u: an undo
 * buffer with the old bytes of the INOUT columns, owned by the job; without INOUT there is none.
 *
 *             take              old bytes saved      done                columns committed
 *   PENDING ---------> CLAIMED(s) ---------> LEASED(s,u) ----> COMMITTING(s,u) ---------> DONE
 *     ^  ^              ^   |                |  |    ^              |
 *     |  |   s died     |   |   fail, abandon|  |    |              +-- s died: rolled forward
 *     |  +--------------|---+                |  |    | u copied back, to go on
 *     |  columns clean  |                    v  |    |
 *     +-----------------+ <----------- RESTORING(s,u)+
 *       (FAILED at the     u copied back    ^   |    |
 *        third attempt)                     |   | s died: columns RESTORE
 *                                           |   v    v
 *                                           +-- REDO(u)
 *
 * To reject a chunk is to fail it with attempts at the maximum, so that it ends as FAILED whoever
 * puts the old bytes back.
 *
 * COMMITTING is the one commit point: death behind it is rolled forward. After old bytes were put
 * back for good the word is CLAIMED again, without u: whoever dies there leaves columns that have
 * their old bytes, which is what CLAIMED means. Nobody else gets an INOUT column between LEASED and
 * one of these two: its word is JOB_HELD or RESTORE all the while. OUT columns that may be half
 * written are torn before the word leaves LEASED other than by COMMITTING.
 *
 * One operation at a time. A word names the session that holds it, not the thread or the job. So
 * within a process each (column, chunk) has an operation lock, taken for all columns of a chunk
 * before the first shared change and given back after the last: then a word JOB_HELD(s) belongs to
 * the one job word of s that lists the column, and the sweep cannot take one job's half-written
 * column for another's. Plain leases need none: their words are HELD, not JOB_HELD.
 */

#include <string.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/intent.h"
#include "host/job.h"

/* ---- undo buffers ---------------------------------------------------------------------------- */

/* Take a free buffer for a chunk: buffer + 1, or 0. */
static uint32_t undo_take(pinti_job_desc *job, uint64_t chunk)
{
    for (uint32_t u = 0; u < job->n_undo; u++) {
        uint64_t nobody = 0;
        /* seq, hence acquire: the last user's copy is over; pairs with undo_free() */
        if (pinti_load64_relaxed(&job->undo_words[u]) == 0 &&
            pinti_cas64_seq(&job->undo_words[u], &nobody,
                            pinti_undo_word(job->pool->session_index, chunk))) {
            return u + 1;
        }
    }
    return 0;
}

/* Is one free? A look without taking it, so that a waiter does not claim and unclaim columns, and
 * wake the other waiters, for nothing. */
static bool undo_is_free(const pinti_job_desc *job)
{
    bool is_free = !job->has_inout;
    for (uint32_t u = 0; u < job->n_undo && !is_free; u++) {
        is_free = pinti_load64_seq(&job->undo_words[u]) == 0; /* seq: after the bell was set */
    }
    return is_free;
}

bool pinti_job_undo_is_own(const pinti_job_desc *job)
{
    bool is_own = job->n_undo != 0;
    for (uint32_t u = 0; u < job->n_undo && is_own; u++) {
        /* acquire: a look only; who frees one rings the bell */
        is_own = pinti_undo_holder(pinti_load64_acquire(&job->undo_words[u])) ==
                 job->pool->session_index;
    }
    return is_own;
}

static void undo_free(pinti_job_desc *job, uint32_t undo)
{
    if (undo != 0 && undo <= job->n_undo) {
        /* release: copies from it are over; pairs with undo_take() */
        pinti_store64_release(&job->undo_words[undo - 1], 0);
    }
}

/* Bytes of a column's values and validity in one chunk. Chunks start at multiples of 512 rows, so
 * bits start at a byte. The buffers have room for whole chunks: the last one is copied whole. */
static uint64_t chunk_value_bytes(const pinti_job_desc *job, const pinti_column_desc *column)
{
    return column->row_bytes != 0 ? job->table->chunk_rows * column->row_bytes
                                  : job->table->chunk_rows / 8;
}

static void copy_undo(pinti_job_desc *job, uint64_t chunk, uint32_t undo, bool save)
{
    char *buffer = job->undo + (uint64_t)(undo - 1) * job->undo_bytes;
    const uint64_t validity_bytes = job->table->chunk_rows / 8;
    bool is_first = true;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        const pinti_job_use *use = &job->uses[i];
        if (use->use != PINT_INOUT) {
            continue;
        }
        const uint64_t bytes = chunk_value_bytes(job, use->column);
        const uint64_t rows_left =
            job->table->rec->row_capacity - (chunk << job->table->chunk_shift);
        const uint64_t capacity =
            use->column->row_bytes != 0 ? rows_left * use->column->row_bytes : rows_left / 8;
        const uint64_t n = bytes < capacity ? bytes : capacity;
        char *values = use->column->values + chunk * bytes;
        char *old = buffer + use->undo_values_off;
        memcpy(save ? old : values, save ? values : old, n);
        if (is_first) {
            if (save) {
                PINTI_CRASHPOINT(JOB_UNDO_HALF);
            } else {
                PINTI_CRASHPOINT(JOB_RESTORE_HALF);
            }
        }
        is_first = false;
        if (use->column->validity != NULL) {
            const uint64_t m = validity_bytes < rows_left / 8 ? validity_bytes : rows_left / 8;
            char *bits = (char *)use->column->validity + chunk * validity_bytes;
            char *old_bits = buffer + use->undo_validity_off;
            memcpy(save ? old_bits : bits, save ? bits : old_bits, m);
        }
    }
}

/* ---- columns --------------------------------------------------------------------------------- */

static bool is_written(const pinti_job_use *use)
{
    return use->use == PINT_OUT || use->use == PINT_INOUT;
}

static pinti_a8 *operation_lock(const pinti_job_desc *job, uint32_t use, uint64_t chunk)
{
    return &job->uses[use].operation_locks[chunk];
}

static void operation_end(const pinti_job_desc *job, uint64_t chunk, uint32_t n_uses)
{
    for (uint32_t i = 0; i < n_uses; i++) {
        if (is_written(&job->uses[i])) {
            /* release: the operation's shared changes come before; pairs with operation_begin() */
            pinti_store8_release(operation_lock(job, i, chunk), 0);
        }
    }
}

/* Take the operation locks of the chunk's written columns, all or none. */
static bool operation_begin(const pinti_job_desc *job, uint64_t chunk)
{
    for (uint32_t i = 0; i < job->n_uses; i++) {
        uint8_t nobody = 0;
        if (is_written(&job->uses[i]) &&
            !pinti_cas8_seq(operation_lock(job, i, chunk), &nobody, 1)) {
            operation_end(job, chunk, i);
            return false;
        }
    }
    return true;
}

static bool is_held_for_job(uint64_t word, uint32_t session)
{
    const uint32_t state = pinti_chunk_state(word);
    return pinti_chunk_holder(word) == session &&
           (state == PINTI_CHUNK_JOB_HELD || state == PINTI_CHUNK_JOB_HELD_TORN);
}

/* Look, without taking anything, whether all columns could be claimed. redo: INOUT columns are in
 * RESTORE, which is as it should be. */
static enum pinti_take columns_peek(pinti_job_desc *job, uint64_t chunk, bool redo,
                                    bool *out_restore, pint_error *err)
{
    *out_restore = false;
    enum pinti_take result = PINTI_TAKEN;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        const pinti_job_use *use = &job->uses[i];
        const uint64_t word = pinti_load64_acquire(&use->column->words[chunk]);
        const uint32_t state = pinti_chunk_state(word);
        if (__builtin_expect(state == PINTI_CHUNK_CLEAN, 1)) {
            if (__builtin_expect((word & PINTI_HOST_STALE) != 0, 0) && use->use != PINT_OUT) {
                (void)pinti_claim_fail(PINTI_CLAIM_AHEAD, "job", use->column, chunk, err);
                return PINTI_TAKE_AHEAD;
            }
            continue;
        }
        if (state == PINTI_CHUNK_TORN) {
            if (use->use != PINT_OUT) {
                (void)pinti_claim_fail(PINTI_CLAIM_TORN, "job", use->column, chunk, err);
                return PINTI_TAKE_TORN;
            }
        } else if (state == PINTI_CHUNK_RESTORE) {
            if (!redo || use->use != PINT_INOUT) {
                *out_restore = true;
                result = PINTI_TAKE_BUSY;
            }
        } else {
            result = pinti_chunk_holder(word) == job->pool->session_index ? PINTI_TAKE_OWN
                                                                          : PINTI_TAKE_BUSY;
        }
    }
    return result;
}

/* R7: claim the written columns in ascending order, all or none. */
static bool columns_claim(pinti_job_desc *job, uint64_t chunk, bool redo)
{
    const uint32_t session = job->pool->session_index;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        const pinti_job_use *use = &job->uses[i];
        if (!is_written(use)) {
            continue;
        }
        uint64_t word;
        const bool is_inout = use->use == PINT_INOUT;
        const enum pinti_claim claim = pinti_chunk_claim(&use->column->words[chunk], session, true,
                                                         !is_inout, redo && is_inout, &word);
        if (__builtin_expect(claim == PINTI_CLAIMED, 1)) {
            continue;
        }
        while (i-- > 0) { /* none */
            use = &job->uses[i];
            if (!is_written(use)) {
                continue;
            }
            word = pinti_load64_relaxed(&use->column->words[chunk]);
            if (redo && use->use == PINT_INOUT) {
                (void)pinti_chunk_to_restore(&use->column->words[chunk], word);
            } else {
                (void)pinti_chunk_unclaim(&use->column->words[chunk], word);
            }
        }
        return false;
    }
    return true;
}

enum columns_end {
    COLUMNS_COMMIT,  /* what was written is in effect */
    COLUMNS_UNCLAIM, /* the old bytes are there */
    COLUMNS_TEAR_OUT /* OUT columns only: they may be half written */
};

/* End this session's hold on the written columns. */
static void columns_end(pinti_job_desc *job, uint64_t chunk, enum columns_end how)
{
    const uint32_t session = job->pool->session_index;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        const pinti_job_use *use = &job->uses[i];
        if (!is_written(use)) {
            continue;
        }
        pinti_a64 *at = &use->column->words[chunk];
        /* relaxed: the word is this session's, nobody else changes it */
        const uint64_t word = pinti_load64_relaxed(at);
        if (!is_held_for_job(word, session)) {
            continue; /* OUT columns torn before, or not claimed by a mere restore */
        }
        if (how == COLUMNS_COMMIT) {
            (void)pinti_chunk_commit(at, word);
            PINTI_CRASHPOINT(JOB_PART_COMMITTED);
        } else if (how == COLUMNS_UNCLAIM) {
            (void)pinti_chunk_unclaim(at, word);
        } else if (use->use == PINT_OUT) {
            (void)pinti_chunk_tear(at, word);
        }
    }
}

/* ---- taking ---------------------------------------------------------------------------------- */

static void fill_lease(pinti_job_desc *job, uint64_t chunk, uint64_t word, uint32_t intent,
                       pinti_lease *lease)
{
    *lease = (pinti_lease){
        .first = chunk << job->table->chunk_shift,
        .n_rows = pinti_chunk_rows_of(job->table, chunk),
        .chunk = chunk,
        .owner = job,
        .word = word,
        .process = pinti_fork_word32(),
        .intent.place = intent,
        .kind = job->is_lease_set ? PINTI_LEASE_UNDO : PINTI_LEASE_JOB,
    };
}

/* PENDING -> CLAIMED -> LEASED. now: the word as read. */
static enum pinti_take take_pending(pinti_job_desc *job, uint64_t chunk, uint64_t now,
                                    pinti_lease *lease)
{
    pint_pool *pool = job->pool;
    const uint32_t session = pool->session_index;
    pinti_a64 *word = &job->words[chunk];
    const uint32_t attempts = pinti_job_attempts(now);
    if (!operation_begin(job, chunk)) {
        return PINTI_TAKE_OWN;
    }
    const uint32_t intent =
        pinti_intent_note(pool, pinti_intent(PINTI_INTENT_JOB, job->index, 0, chunk));
    PINTI_CRASHPOINT(JOB_INTENT);
    uint64_t mine = pinti_job_next_word(now, PINTI_JOB_CLAIMED, attempts, 0, session);
    if (!pinti_cas64_seq(word, &now, mine)) {
        pinti_intent_clear(pool, intent);
        operation_end(job, chunk, job->n_uses);
        return PINTI_TAKE_BUSY; /* another was faster */
    }
    PINTI_CRASHPOINT(JOB_CLAIMED);
    enum pinti_take result = PINTI_TAKE_BUSY;
    if (!columns_claim(job, chunk, false)) {
        goto give_back;
    }
    if (pinti_table_is_frozen_after_claim(job->table->rec)) {
        columns_end(job, chunk, COLUMNS_UNCLAIM);
        result = PINTI_TAKE_FROZEN;
        goto give_back;
    }
    PINTI_CRASHPOINT(JOB_COLUMNS_CLAIMED);
    uint32_t undo = 0;
    if (job->has_inout) {
        undo = undo_take(job, chunk);
        if (undo == 0) {
            columns_end(job, chunk, COLUMNS_UNCLAIM);
            result = PINTI_TAKE_NO_UNDO;
            goto give_back;
        }
        PINTI_CRASHPOINT(JOB_UNDO_TAKEN);
        copy_undo(job, chunk, undo, true);
        PINTI_CRASHPOINT(JOB_UNDO_SAVED);
    }
    mine = pinti_job_next_word(mine, PINTI_JOB_LEASED, attempts, undo, session);
    /* release: the saved bytes before the word that vouches for them; pairs with take_redo() */
    pinti_store64_release(word, mine);
    PINTI_CRASHPOINT(JOB_LEASED);
    fill_lease(job, chunk, mine, intent, lease);
    return PINTI_TAKEN;

give_back:
    /* seq: before the look at the bell */
    pinti_store64_seq(word, pinti_job_next_word(mine, PINTI_JOB_PENDING, attempts, 0, 0));
    pinti_bell_ring(job->table->bell);
    pinti_intent_clear(pool, intent);
    operation_end(job, chunk, job->n_uses);
    return result;
}

/* REDO -> RESTORING, undo buffer and INOUT columns taken. On success *out_word is the job word. */
static bool redo_claim(pinti_job_desc *job, uint64_t chunk, uint64_t now, bool all_columns,
                       uint64_t *out_word)
{
    const uint32_t session = job->pool->session_index;
    const uint32_t undo = pinti_job_undo(now);
    if (undo == 0 || undo > job->n_undo) {
        return false; /* no such buffer: a word that cannot be */
    }
    pinti_a64 *word = &job->words[chunk];
    const uint64_t mine =
        pinti_job_next_word(now, PINTI_JOB_RESTORING, pinti_job_attempts(now), undo, session);
    /* seq, hence acquire: the saved bytes are visible; pairs with LEASED, or with the sweep */
    if (!pinti_cas64_seq(word, &now, mine)) {
        return false;
    }
    PINTI_CRASHPOINT(JOB_RESTORING);
    pinti_store64_seq(&job->undo_words[undo - 1], pinti_undo_word(session, chunk));
    bool is_claimed = true;
    if (all_columns) {
        is_claimed = columns_claim(job, chunk, true);
    } else {
        for (uint32_t i = 0; i < job->n_uses; i++) {
            uint64_t claimed;
            if (job->uses[i].use == PINT_INOUT) {
                /* RESTORE can only be taken by the holder of this job word: it succeeds */
                (void)pinti_chunk_claim(&job->uses[i].column->words[chunk], session, true, false,
                                        true, &claimed);
            }
        }
    }
    if (!is_claimed) {
        pinti_store64_seq(
            word, pinti_job_next_word(mine, PINTI_JOB_REDO, pinti_job_attempts(mine), undo, 0));
        return false;
    }
    PINTI_CRASHPOINT(JOB_RESTORE_CLAIMED);
    *out_word = mine;
    return true;
}

/* RESTORING, bytes copied back -> CLAIMED -> columns clean -> PENDING or FAILED. */
static void restore_finish(pinti_job_desc *job, uint64_t chunk, uint64_t mine)
{
    pinti_a64 *word = &job->words[chunk];
    const uint32_t attempts = pinti_job_attempts(mine);
    const uint32_t undo = pinti_job_undo(mine);
    mine = pinti_job_next_word(mine, PINTI_JOB_CLAIMED, attempts, 0, job->pool->session_index);
    /* release: the bytes are back before the word says so; pairs with the sweep */
    pinti_store64_release(word, mine);
    PINTI_CRASHPOINT(JOB_RESTORED);
    columns_end(job, chunk, COLUMNS_UNCLAIM);
    const bool is_final = attempts >= PINTI_ATTEMPTS_MAX && !job->is_lease_set;
    pinti_store64_seq(word,
                      pinti_job_next_word(mine, is_final ? PINTI_JOB_FAILED : PINTI_JOB_PENDING,
                                          job->is_lease_set ? 0 : attempts, 0, 0));
    undo_free(job, undo);
    pinti_bell_ring(job->table->bell);
}

/* Only put the old bytes back: nobody goes on with the chunk now. */
static bool restore_only(pinti_job_desc *job, uint64_t chunk, uint64_t now)
{
    pint_pool *pool = job->pool;
    if (!operation_begin(job, chunk)) {
        return false;
    }
    const uint32_t intent =
        pinti_intent_note(pool, pinti_intent(PINTI_INTENT_JOB, job->index, 0, chunk));
    uint64_t mine;
    const bool is_mine = redo_claim(job, chunk, now, false, &mine);
    if (is_mine) {
        PINTI_CRASHPOINT(FOREIGN_RESTORING);
        copy_undo(job, chunk, pinti_job_undo(mine), false);
        PINTI_CRASHPOINT(FOREIGN_RESTORED);
        restore_finish(job, chunk, mine);
    }
    pinti_intent_clear(pool, intent);
    operation_end(job, chunk, job->n_uses);
    return is_mine;
}

/* REDO -> RESTORING -> LEASED: put the old bytes back and go on. */
static enum pinti_take take_redo(pinti_job_desc *job, uint64_t chunk, uint64_t now,
                                 pinti_lease *lease)
{
    if (pinti_job_attempts(now) >= PINTI_ATTEMPTS_MAX && !job->is_lease_set) {
        return restore_only(job, chunk, now) ? PINTI_TAKE_OVER : PINTI_TAKE_BUSY;
    }
    pint_pool *pool = job->pool;
    if (!operation_begin(job, chunk)) {
        return PINTI_TAKE_OWN;
    }
    const uint32_t intent =
        pinti_intent_note(pool, pinti_intent(PINTI_INTENT_JOB, job->index, 0, chunk));
    uint64_t mine;
    if (!redo_claim(job, chunk, now, true, &mine)) {
        pinti_bell_ring(job->table->bell);
        pinti_intent_clear(pool, intent);
        operation_end(job, chunk, job->n_uses);
        return PINTI_TAKE_BUSY;
    }
    const uint32_t undo = pinti_job_undo(mine);
    copy_undo(job, chunk, undo, false);
    mine = pinti_job_next_word(mine, PINTI_JOB_LEASED, pinti_job_attempts(mine), undo,
                               pool->session_index);
    /* release: as in take_pending() */
    pinti_store64_release(&job->words[chunk], mine);
    PINTI_CRASHPOINT(JOB_LEASED);
    fill_lease(job, chunk, mine, intent, lease);
    return PINTI_TAKEN;
}

enum pinti_take pinti_job_take(pinti_job_desc *job, uint64_t chunk, pinti_lease *lease,
                               pint_error *err)
{
    const uint64_t now = pinti_load64_acquire(&job->words[chunk]);
    const uint32_t state = pinti_job_state(now);
    switch (state) {
    case PINTI_JOB_DONE:
    case PINTI_JOB_FAILED:
        return PINTI_TAKE_OVER;
    case PINTI_JOB_PENDING:
    case PINTI_JOB_REDO:
        break;
    default:
        return pinti_job_holder(now) == job->pool->session_index ? PINTI_TAKE_OWN : PINTI_TAKE_BUSY;
    }
    const bool redo = state == PINTI_JOB_REDO;
    bool is_restore;
    enum pinti_take result = columns_peek(job, chunk, redo, &is_restore, err);
    if (is_restore && pinti_chunk_restore(job->table, chunk)) {
        result = columns_peek(job, chunk, redo, &is_restore, err);
    }
    if (result != PINTI_TAKEN) {
        return result;
    }
    if (redo) {
        return take_redo(job, chunk, now, lease);
    }
    result = undo_is_free(job) ? take_pending(job, chunk, now, lease) : PINTI_TAKE_NO_UNDO;
    if (__builtin_expect(result == PINTI_TAKE_FROZEN, 0)) {
        (void)pinti_fail(err, PINT_E_FROZEN, 0, "job: the table is frozen");
    }
    return result;
}

/* ---- ending ---------------------------------------------------------------------------------- */

/* Is the lease still this session's? The word is changed by nobody else while it is. */
static bool is_held(const pinti_job_desc *job, const pinti_lease *lease)
{
    return lease->process == pinti_fork_word32() &&
           pinti_load64_relaxed(&job->words[lease->chunk]) == lease->word;
}

bool pinti_job_commit(pinti_job_desc *job, const pinti_lease *lease)
{
    if (__builtin_expect(!is_held(job, lease), 0)) {
        return false;
    }
    const uint32_t undo = pinti_job_undo(lease->word);
    const uint32_t attempts = pinti_job_attempts(lease->word);
    pinti_a64 *word = &job->words[lease->chunk];
    const uint64_t committing = pinti_job_next_word(lease->word, PINTI_JOB_COMMITTING, attempts,
                                                    undo, job->pool->session_index);
    /* release: the holder's stores come before the one commit point; pairs with the sweep */
    pinti_store64_release(word, committing);
    PINTI_CRASHPOINT(JOB_COMMITTING);
    columns_end(job, lease->chunk, COLUMNS_COMMIT);
    PINTI_CRASHPOINT(JOB_COLUMNS_COMMITTED);
    const uint32_t state = job->is_lease_set ? PINTI_JOB_PENDING : PINTI_JOB_DONE;
    /* seq: before the look at the bell */
    pinti_store64_seq(
        word, pinti_job_next_word(committing, state, job->is_lease_set ? 0 : attempts, 0, 0));
    PINTI_CRASHPOINT(JOB_DONE);
    undo_free(job, undo);
    PINTI_CRASHPOINT(JOB_UNDO_FREED);
    pinti_bell_ring(job->table->bell);
    pinti_intent_clear(job->pool, lease->intent.place);
    operation_end(job, lease->chunk, job->n_uses);
    return true;
}

bool pinti_job_abandon(pinti_job_desc *job, const pinti_lease *lease, enum pinti_abandon how)
{
    if (!is_held(job, lease)) {
        return false;
    }
    const uint32_t undo = pinti_job_undo(lease->word);
    uint32_t attempts = pinti_job_attempts(lease->word);
    if (how == PINTI_ABANDON_REJECTED) {
        attempts = PINTI_ATTEMPTS_MAX;
    } else if (how == PINTI_ABANDON_FAILED && attempts < PINTI_ATTEMPTS_MAX) {
        attempts++;
    }
    columns_end(job, lease->chunk, COLUMNS_TEAR_OUT);
    pinti_a64 *word = &job->words[lease->chunk];
    const uint64_t restoring = pinti_job_next_word(lease->word, PINTI_JOB_RESTORING, attempts, undo,
                                                   job->pool->session_index);
    pinti_store64_release(word, restoring); /* death from here: REDO, as before */
    if (undo != 0) {
        copy_undo(job, lease->chunk, undo, false);
    }
    if (how != PINTI_ABANDON_REJECTED) {
        (void)pinti_add64_relaxed(&job->sync->xredone, 1); /* relaxed: a count for people */
    }
    restore_finish(job, lease->chunk, restoring);
    pinti_intent_clear(job->pool, lease->intent.place);
    operation_end(job, lease->chunk, job->n_uses);
    return true;
}

/* ---- on another's behalf --------------------------------------------------------------------- */

/* Does job i belong to this table, with old bytes of the chunk waiting? *out_generation: of the
 * job. */
static bool wants_restore(const pinti_table_desc *table, uint32_t i, uint64_t chunk,
                          uint32_t *out_generation)
{
    const pint_pool *pool = table->pool;
    const pinti_job_rec *rec = &pinti_cat_jobs(pool->catalog)[i];
    pinti_a64 *refs = pinti_slot_jobs(pool->slot);
    const uint32_t generation = pinti_gen_of(pinti_load64_acquire(&rec->xgen_state));
    bool is_wanted = false;
    if (!pinti_ref_take(refs, i, generation)) {
        return false;
    }
    /* seq: after the slot. Only behind a reference do the plain fields stand still. */
    const uint64_t state = pinti_load64_seq(&rec->xgen_state);
    if (pinti_gen_of(state) == generation && pinti_state_of(state) != PINTI_FREE &&
        rec->table == table->index && rec->table_generation == table->generation &&
        chunk < rec->n_chunks && rec->words_off % 8 == 0 && rec->words_off <= pool->sync_bytes &&
        rec->n_chunks * 8ull <= pool->sync_bytes - rec->words_off) {
        const pinti_a64 *words = (const pinti_a64 *)(void *)(pool->sync + rec->words_off);
        is_wanted = pinti_job_state(pinti_load64_acquire(&words[chunk])) == PINTI_JOB_REDO;
    }
    (void)pinti_ref_drop(refs, i, generation);
    *out_generation = generation;
    return is_wanted;
}

bool pinti_chunk_restore(pinti_table_desc *table, uint64_t chunk)
{
    pint_pool *pool = table->pool;
    uint32_t n = pinti_load32_acquire(&pool->header->xn_jobs);
    n = n < PINTI_JOBS_MAX ? n : PINTI_JOBS_MAX;
    bool is_done = false;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t generation;
        pint_job *job;
        if (!wants_restore(table, i, chunk, &generation) ||
            pinti_job_open(&table->head->handles[1], i, generation, &job, NULL) != PINT_OK) {
            continue;
        }
        /* Slot, word, record, in this order (job_reap.pml): the service asks the words before the
         * slots. A job whose word waits, and which is there after that, is not freed before we have
         * closed it; had it been freed before our reference, the record would say so. */
        const uint64_t now = pinti_load64_acquire(&job->desc->words[chunk]);
        if (pinti_job_state(now) == PINTI_JOB_REDO && pinti_job_is_there(job->desc) &&
            restore_only(job->desc, chunk, now)) {
            is_done = true;
        }
        pint_job_close(job);
    }
    return is_done;
}
