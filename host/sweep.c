/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ending a dead session's leases (R1, R2, R7, R21). Only words are changed, never data: chunks with
 * saved bytes become RESTORE / REDO for the next claimer to put back, others become torn unless a
 * device still has the committed bytes (claim.h), commits and restores that had passed their point
 * of no return are completed.
 *
 * Columns come before the job word that speaks for them, all job words before what is left HELD by
 * plain leases, undo words last: a sweep cut off anywhere may simply be run again. Undo words are
 * freed by compare-and-swap only: their chunk may be finished, and the buffer taken by another,
 * meanwhile.
 */

#include "host/sweep.h"

#include "host/claim.h"
#include "host/crash.h"
#include "pintable/job.h"

enum phase { PHASE_WORDS, PHASE_UNDO, N_JOB_PHASES };

/* ---- checked access -------------------------------------------------------------------------- */

/* An array of n words in the sync segment, or NULL. */
static pinti_a64 *words_at(const pinti_sweep_view *view, uint64_t off, uint64_t n)
{
    if (off % 8 != 0 || n > view->sync_bytes / 8 || off > view->sync_bytes - n * 8) {
        return NULL;
    }
    return (pinti_a64 *)(void *)(view->sync + off);
}

static const pinti_table_rec *table_at(const pinti_sweep_view *view, uint32_t index)
{
    if (index >= PINTI_TABLES_MAX) {
        return NULL;
    }
    const pinti_table_rec *rec = &pinti_cat_tables(view->catalog)[index];
    return pinti_state_of(pinti_load64_acquire(&rec->xgen_state)) == PINTI_FREE ? NULL : rec;
}

static const pinti_job_rec *job_at(const pinti_sweep_view *view, uint32_t index)
{
    if (index >= PINTI_JOBS_MAX) {
        return NULL;
    }
    const pinti_job_rec *rec = &pinti_cat_jobs(view->catalog)[index];
    return pinti_state_of(pinti_load64_acquire(&rec->xgen_state)) == PINTI_FREE ? NULL : rec;
}

/* Column record of a table by position in the schema, or NULL. */
static const pinti_column_rec *column_at(const pinti_sweep_view *view, const pinti_table_rec *table,
                                         uint32_t column)
{
    return pinti_cat_column(view->catalog, table, column);
}

/* Wake even if nobody seems to sleep: the dead may have cleared the bell without waking. */
static void ring(const pinti_sweep_view *view, uint32_t table)
{
    pinti_bell_ring_always(&view->bells[table % PINTI_BELLS]);
}

/* Change a word from what it was read as; the dead do not change it, so it works unless somebody
 * writes where he must not. */
static void change(pinti_a64 *word, uint64_t from, uint64_t to)
{
    (void)pinti_cas64_seq(word, &from, to);
}

/* ---- job words ------------------------------------------------------------------------------- */

enum columns_fate {
    FATE_SAVED,    /* old bytes in an undo buffer: INOUT -> RESTORE, OUT may be half written */
    FATE_FORWARD,  /* committed: CLEAN */
    FATE_UNTOUCHED /* the old bytes are there: as before the claim */
};

static enum pinti_hold_end end_of(uint32_t use, enum columns_fate fate)
{
    switch (fate) {
    case FATE_SAVED:
        return use == PINT_INOUT ? PINTI_HOLD_RESTORE : PINTI_HOLD_TEAR;
    case FATE_FORWARD:
        return PINTI_HOLD_COMMIT;
    case FATE_UNTOUCHED:
    default:
        return PINTI_HOLD_UNCLAIM;
    }
}

/* End a dead session's hold. The dead do not change the word, so it works unless somebody writes
 * where he must not. */
static void end_hold(pinti_a64 *at, uint64_t held, enum pinti_hold_end end,
                     pinti_sweep_result *result)
{
    const uint64_t after = pinti_chunk_after(held, end);
    (void)pinti_chunk_end(at, held, end);
    if (end == PINTI_HOLD_COMMIT) {
        result->n_forwarded++;
    } else if (end == PINTI_HOLD_RESTORE) {
        result->n_restore++;
    } else if (pinti_chunk_state(after) == PINTI_CHUNK_TORN) {
        result->n_torn++;
    } else if (end == PINTI_HOLD_UNCLAIM) {
        result->n_reverted++;
    } else {
        result->n_rolled_back++;
    }
    PINTI_CRASHPOINT(SERVICE_SWEEP_HALF);
}

static void sweep_columns(const pinti_sweep_view *view, const pinti_job_rec *job, uint64_t chunk,
                          uint32_t session, enum columns_fate fate, pinti_sweep_result *result)
{
    const pinti_table_rec *table = table_at(view, job->table);
    if (table == NULL || job->first_use > PINTI_USES_MAX ||
        job->n_uses > PINTI_USES_MAX - job->first_use) {
        return;
    }
    const uint32_t *uses = pinti_cat_uses(view->catalog) + job->first_use;
    for (uint32_t i = 0; i < job->n_uses; i++) {
        const uint32_t use = (uses[i] & 3u) + 1;
        const pinti_column_rec *column = column_at(view, table, uses[i] >> 2);
        if (use == PINT_IN || column == NULL) {
            continue;
        }
        pinti_a64 *words = words_at(view, column->words_off, table->n_chunks);
        if (words == NULL || chunk >= table->n_chunks) {
            continue;
        }
        const uint64_t word = pinti_load64_acquire(&words[chunk]);
        const uint32_t state = pinti_chunk_state(word);
        if (pinti_chunk_holder(word) == session &&
            (state == PINTI_CHUNK_JOB_HELD || state == PINTI_CHUNK_JOB_HELD_TORN)) {
            end_hold(&words[chunk], word, end_of(use, fate), result);
        }
    }
}

/* PENDING, or FAILED at the limit; the unnamed lease sets know no failure. */
static uint64_t try_again(const pinti_job_rec *job, uint64_t word, uint32_t attempts)
{
    const bool is_set = job->name_bytes == 0;
    const bool is_final = attempts >= PINTI_ATTEMPTS_MAX && !is_set;
    return pinti_job_next_word(word, is_final ? PINTI_JOB_FAILED : PINTI_JOB_PENDING,
                               is_set ? 0 : attempts, 0, 0);
}

/* Free undo buffers the dead session took for this chunk and no job word refers to. */
static void sweep_undo(const pinti_sweep_view *view, const pinti_job_rec *job, pinti_a64 *words,
                       uint64_t chunk, uint32_t session)
{
    pinti_a64 *undo = words_at(view, job->undo_words_off, job->n_undo);
    for (uint32_t u = 0; undo != NULL && u < job->n_undo; u++) {
        const uint64_t word = pinti_load64_acquire(&undo[u]);
        if (word != 0 && pinti_undo_holder(word) == session && pinti_undo_chunk(word) == chunk &&
            pinti_job_undo(pinti_load64_acquire(&words[chunk])) != u + 1) {
            change(&undo[u], word, 0);
        }
    }
}

static void count_redone(const pinti_sweep_view *view, const pinti_job_rec *job)
{
    pinti_a64 *sync = words_at(view, job->sync_off, sizeof(pinti_job_sync) / 8);
    if (sync != NULL) { /* relaxed: a count for people */
        (void)pinti_add64_relaxed(&((pinti_job_sync *)(void *)sync)->xredone, 1);
    }
}

static void sweep_job_word(const pinti_sweep_view *view, uint32_t index, uint64_t chunk,
                           uint32_t session, enum phase phase, pinti_sweep_result *result)
{
    const pinti_job_rec *job = job_at(view, index);
    if (job == NULL || chunk >= job->n_chunks) {
        return;
    }
    pinti_a64 *words = words_at(view, job->words_off, job->n_chunks);
    if (words == NULL) {
        return;
    }
    if (phase == PHASE_UNDO) {
        sweep_undo(view, job, words, chunk, session);
        return;
    }
    const uint64_t word = pinti_load64_acquire(&words[chunk]);
    if (pinti_job_holder(word) != session) {
        return;
    }
    uint32_t attempts = pinti_job_attempts(word);
    const uint32_t undo = pinti_job_undo(word);
    switch (pinti_job_state(word)) {
    case PINTI_JOB_LEASED:
    case PINTI_JOB_RESTORING:
        attempts += attempts < PINTI_ATTEMPTS_MAX ? 1 : 0;
        sweep_columns(view, job, chunk, session, FATE_SAVED, result);
        change(&words[chunk], word,
               undo != 0 ? pinti_job_next_word(word, PINTI_JOB_REDO, attempts, undo, 0)
                         : try_again(job, word, attempts));
        count_redone(view, job);
        break;
    case PINTI_JOB_COMMITTING:
        sweep_columns(view, job, chunk, session, FATE_FORWARD, result);
        change(&words[chunk], word,
               job->name_bytes == 0 ? pinti_job_next_word(word, PINTI_JOB_PENDING, 0, 0, 0)
                                    : pinti_job_next_word(word, PINTI_JOB_DONE, attempts, 0, 0));
        break;
    case PINTI_JOB_CLAIMED: /* also a finished restore: at the limit it becomes FAILED */
        sweep_columns(view, job, chunk, session, FATE_UNTOUCHED, result);
        change(&words[chunk], word, try_again(job, word, attempts));
        break;
    default:
        break;
    }
}

/* ---- plain leases and dictionary tails ------------------------------------------------------- */

/* all: also words held for a job that no job word spoke for (cannot be; treated as torn), and words
 * held for devices: when the index is given to another session no stream of the dead is left, and
 * pinti_copy_sweep() has ended them but where a copy was gone before. */
static void sweep_chunk_word(pinti_a64 *at, uint32_t session, bool all, pinti_sweep_result *result)
{
    const uint64_t word = pinti_load64_acquire(at);
    const uint32_t state = pinti_chunk_state(word);
    const bool is_plain = state == PINTI_CHUNK_HELD || state == PINTI_CHUNK_HELD_TORN;
    if (pinti_chunk_holder(word) == session && (is_plain || (all && pinti_chunk_is_held(state)))) {
        end_hold(at, word, PINTI_HOLD_TEAR, result);
    }
}

static void sweep_dict(const pinti_sweep_view *view, const pinti_column_rec *column,
                       uint32_t session)
{
    pinti_a64 *state = words_at(view, column->state_off, sizeof(pinti_column_state) / 8);
    if (state != NULL) {
        /* what the dead appender wrote beyond the count is overwritten by the next */
        change(&((pinti_column_state *)(void *)state)->xdict_lease, session, 0);
    }
}

static void sweep_plain_intent(const pinti_sweep_view *view, uint64_t intent, uint32_t session,
                               pinti_sweep_result *result)
{
    const uint32_t index = pinti_intent_index(intent);
    const pinti_table_rec *table = table_at(view, index);
    if (table == NULL) {
        return;
    }
    const pinti_column_rec *column = column_at(view, table, pinti_intent_column(intent));
    if (column == NULL) {
        return;
    }
    if (pinti_intent_kind(intent) == PINTI_INTENT_DICT) {
        sweep_dict(view, column, session);
    } else {
        pinti_a64 *words = words_at(view, column->words_off, table->n_chunks);
        const uint64_t chunk = pinti_intent_chunk(intent);
        if (words != NULL && chunk < table->n_chunks) {
            sweep_chunk_word(&words[chunk], session, false, result);
        }
    }
}

/* ---- the two sweeps -------------------------------------------------------------------------- */

void pinti_sweep_listed(const pinti_sweep_view *view, void *slot, uint32_t session_index,
                        pinti_sweep_result *result)
{
    if (slot == NULL || session_index == 0) {
        return;
    }
    const pinti_a64 *intents = pinti_slot_intents(slot);
    for (int phase = PHASE_WORDS; phase < N_JOB_PHASES; phase++) {
        for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
            const uint64_t intent = pinti_load64_acquire(&intents[i]);
            if (pinti_intent_kind(intent) == PINTI_INTENT_JOB) {
                sweep_job_word(view, pinti_intent_index(intent), pinti_intent_chunk(intent),
                               session_index, (enum phase)phase, result);
            }
        }
    }
    for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
        const uint64_t intent = pinti_load64_acquire(&intents[i]);
        const uint32_t kind = pinti_intent_kind(intent);
        if (kind == PINTI_INTENT_LEASE || kind == PINTI_INTENT_DICT) {
            sweep_plain_intent(view, intent, session_index, result);
        }
    }
    /* every table the dead had open: it may have died between clearing a bell and waking */
    const uint32_t n_tables =
        pinti_load32_acquire(&((const pinti_catalog_header *)view->catalog)->xn_tables);
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX; i++) {
        if (pinti_ref_count(pinti_load64_relaxed(&pinti_slot_tables(slot)[i])) != 0) {
            ring(view, i);
        }
    }
}

static void sweep_table(const pinti_sweep_view *view, uint32_t index, uint32_t session,
                        pinti_sweep_result *result)
{
    const pinti_table_rec *table = table_at(view, index);
    if (table == NULL) {
        return;
    }
    const uint32_t n_columns = pinti_load32_acquire(&table->xn_columns);
    for (uint32_t c = 0; c < n_columns; c++) {
        const pinti_column_rec *column = column_at(view, table, c);
        if (column == NULL) {
            return;
        }
        sweep_dict(view, column, session);
        pinti_a64 *words = words_at(view, column->words_off, table->n_chunks);
        for (uint32_t chunk = 0; words != NULL && chunk < table->n_chunks; chunk++) {
            sweep_chunk_word(&words[chunk], session, true, result);
        }
    }
    ring(view, index);
}

void pinti_sweep_all(const pinti_sweep_view *view, uint32_t session_index,
                     pinti_sweep_result *result)
{
    const pinti_catalog_header *header = view->catalog;
    const uint32_t n_jobs = pinti_load32_acquire(&header->xn_jobs);
    const uint32_t n_tables = pinti_load32_acquire(&header->xn_tables);
    if (session_index == 0) {
        return;
    }
    for (int phase = PHASE_WORDS; phase < N_JOB_PHASES; phase++) {
        for (uint32_t i = 0; i < n_jobs && i < PINTI_JOBS_MAX; i++) {
            const pinti_job_rec *job = job_at(view, i);
            if (phase == PHASE_UNDO && (job == NULL || job->n_undo == 0)) {
                continue;
            }
            for (uint32_t chunk = 0; job != NULL && chunk < job->n_chunks; chunk++) {
                sweep_job_word(view, i, chunk, session_index, (enum phase)phase, result);
            }
        }
    }
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX; i++) {
        sweep_table(view, i, session_index, result);
    }
}

/* ---- questions ------------------------------------------------------------------------------- */

uint64_t pinti_sweep_count_held(const pinti_sweep_view *view, void *slot, uint32_t session_index)
{
    (void)view;
    (void)session_index;
    uint64_t n = 0;
    for (uint32_t i = 0; slot != NULL && i < PINTI_INTENTS; i++) {
        n += pinti_load64_relaxed(&pinti_slot_intents(slot)[i]) != 0; /* relaxed: for people */
    }
    return n;
}

int pinti_sweep_table_is_held(const pinti_sweep_view *view, uint32_t table_index)
{
    const pinti_table_rec *table = table_at(view, table_index);
    const uint32_t n_columns = table == NULL ? 0 : pinti_load32_acquire(&table->xn_columns);
    for (uint32_t c = 0; c < n_columns; c++) {
        const pinti_column_rec *column = column_at(view, table, c);
        const pinti_a64 *words =
            column == NULL ? NULL : words_at(view, column->words_off, table->n_chunks);
        for (uint32_t chunk = 0; words != NULL && chunk < table->n_chunks; chunk++) {
            const uint32_t state = pinti_chunk_state(pinti_load64_seq(&words[chunk]));
            if (state != PINTI_CHUNK_CLEAN && state != PINTI_CHUNK_TORN) {
                return 1;
            }
        }
    }
    return 0;
}

int pinti_sweep_job_is_busy(const pinti_sweep_view *view, uint32_t job_index)
{
    const pinti_job_rec *job = job_at(view, job_index);
    const pinti_a64 *words = job == NULL ? NULL : words_at(view, job->words_off, job->n_chunks);
    for (uint32_t chunk = 0; words != NULL && chunk < job->n_chunks; chunk++) {
        const uint64_t word = pinti_load64_seq(&words[chunk]);
        if (pinti_job_holder(word) != 0 || pinti_job_state(word) == PINTI_JOB_REDO) {
            return 1;
        }
    }
    return 0;
}
