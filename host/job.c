/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Handing out a job's chunks. The cursor and each thread's stash of chunks from it are hints for
 * finding work without contention; the job words are the truth: when the cursor is past the end,
 * all words are looked at, and "finished" is said only when each is DONE or FAILED (R1).
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/job.h"
#include "host/name.h"

#define STASH_CHUNKS       8u   /* taken from the cursor at once: one cache line of words */
#define STASH_WORTH_CHUNKS 512u /* below it, single chunks: an idle worker should find some */

/* This thread's chunks [next, end) of one job, taken from the cursor and not tried yet. */
static __thread struct {
    uint64_t job; /* serial */
    uint64_t session_id;
    uint32_t next;
    uint32_t end;
} stash __attribute__((tls_model("initial-exec")));

/* ---- create, drop ---------------------------------------------------------------------------- */

static pint_status collect_uses(pint_table *table, const pint_use *uses, uint32_t n_uses,
                                uint32_t *out, pint_error *err)
{
    for (uint32_t i = 0; i < n_uses; i++) {
        char shown[80];
        pint_column column;
        if (uses[i].column == NULL || uses[i].use < PINT_IN || uses[i].use > PINT_INOUT) {
            return pinti_fail(err, PINT_E_INVALID, 0, "job: use %u of column %u", uses[i].use, i);
        }
        const pint_status status = pint_table_column(table, uses[i].column, &column, err);
        if (status != PINT_OK) {
            return status;
        }
        (void)pinti_printable(shown, sizeof(shown), uses[i].column, strlen(uses[i].column));
        if (column.type == PINT_TEXT && uses[i].use != PINT_IN) {
            return pinti_fail(err, PINT_E_TYPE, 0,
                              "job: text column '%s' cannot be written in place", shown);
        }
        out[i] = column.index << 2 | (uses[i].use - 1);
        for (uint32_t j = i; j > 0 && out[j - 1] >= out[j]; j--) { /* ascending; lists are short */
            if (out[j - 1] >> 2 == out[j] >> 2) {
                return pinti_fail(err, PINT_E_INVALID, 0, "job: column '%s' twice", shown);
            }
            const uint32_t swap = out[j];
            out[j] = out[j - 1];
            out[j - 1] = swap;
        }
    }
    return PINT_OK;
}

static pint_status check_name(const char *name, pint_error *err)
{
    if (name == NULL || !pinti_name_is_valid(name, strlen(name))) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "job: a name has 1 to %u bytes of UTF-8, no control characters, no '/'",
                          PINTI_NAME_BYTES_MAX);
    }
    return PINT_OK;
}

pint_status pint_job_create(pint_table *table, const char *name, const pint_use *uses,
                            uint32_t n_uses, pint_job **out_job, pint_error *err)
{
    if (table == NULL || out_job == NULL || (uses == NULL && n_uses != 0)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "job: NULL argument");
    }
    const uint32_t n_columns = pint_table_columns(table);
    if (n_uses > n_columns) {
        return pinti_fail(err, PINT_E_INVALID, 0, "job: %u uses of %u columns", n_uses, n_columns);
    }
    pint_status status = check_name(name, err);
    if (status == PINT_OK) {
        status = pinti_table_check_write(table, "job", err);
    }
    if (status == PINT_OK) {
        status = pinti_pool_enter(table->desc->pool, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    uint32_t *sorted = malloc((n_uses + 1ull) * sizeof(*sorted));
    if (sorted == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "job: %u uses", n_uses);
    }
    status = collect_uses(table, uses, n_uses, sorted, err);
    if (status == PINT_OK) {
        pint_pool *pool = table->desc->pool;
        uint32_t index = 0;
        uint32_t generation = 0;
        status = pool->ops->create_job(pool, table->desc->index, table->desc->generation, name,
                                       sorted, n_uses, &index, &generation, err);
        if (status == PINT_OK) {
            status = pinti_job_open(table, index, generation, out_job, err);
        }
    }
    free(sorted);
    return status;
}

pint_status pint_job_drop(pint_table *table, const char *name, pint_error *err)
{
    if (table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "drop job: NULL argument");
    }
    pint_status status = check_name(name, err);
    if (status == PINT_OK) {
        status = pinti_table_check_write(table, "drop job", err);
    }
    if (status == PINT_OK) {
        status = pinti_pool_enter(table->desc->pool, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    pint_pool *pool = table->desc->pool;
    return pool->ops->drop_job(pool, table->desc->index, table->desc->generation, name, err);
}

/* ---- next ------------------------------------------------------------------------------------ */

struct search {
    pinti_job_desc *job;
    pinti_lease *lease;
    pint_error *err;
    enum { FOUND, FINISHED, ONLY_OWN, TORN, AHEAD, FROZEN, OTHERS_HOLD } outcome;
};

/* From the stash or the cursor: false when both are used up, or there is no undo buffer. */
static bool take_fresh(struct search *search)
{
    pinti_job_desc *job = search->job;
    if (stash.job != job->serial || stash.session_id != job->pool->session_id) {
        stash.job = job->serial;
        stash.session_id = job->pool->session_id;
        stash.next = 0;
        stash.end = 0; /* chunks of another job left behind stay PENDING: the search finds them */
    }
    for (;;) {
        while (stash.next < stash.end) {
            const enum pinti_take take =
                pinti_job_take(job, stash.next, search->lease, search->err);
            if (take == PINTI_TAKE_NO_UNDO || take == PINTI_TAKE_FROZEN) {
                return false; /* the chunk stays in the stash */
            }
            stash.next++;
            if (take == PINTI_TAKEN) {
                return true;
            }
        }
        /* relaxed: a hint */
        if (pinti_load64_relaxed(&job->sync->xcursor) >= job->n_chunks) {
            return false;
        }
        const uint32_t n = job->n_chunks >= STASH_WORTH_CHUNKS ? STASH_CHUNKS : 1;
        const uint64_t from = pinti_add64_relaxed(&job->sync->xcursor, n);
        if (from >= job->n_chunks) {
            return false;
        }
        stash.next = (uint32_t)from;
        stash.end = from + n < job->n_chunks ? (uint32_t)from + n : job->n_chunks;
    }
}

/* Look at every word that is not over yet. */
static void take_any(struct search *search)
{
    pinti_job_desc *job = search->job;
    uint32_t first_open = job->n_chunks;
    bool is_other = false;
    bool is_own = false;
    enum pinti_take refused = PINTI_TAKEN; /* of the last chunk that waiting will not mend */
    for (uint32_t chunk = pinti_load32_relaxed(&job->xscan_from); chunk < job->n_chunks; chunk++) {
        const enum pinti_take take = pinti_job_take(job, chunk, search->lease, search->err);
        if (take == PINTI_TAKE_OVER) {
            continue;
        }
        if (first_open == job->n_chunks) {
            first_open = chunk;
            /* relaxed: over stays over, so an older value only costs time */
            pinti_store32_relaxed(&job->xscan_from, first_open);
        }
        if (take == PINTI_TAKEN) {
            search->outcome = FOUND;
            return;
        }
        if (take == PINTI_TAKE_FROZEN) {
            search->outcome = FROZEN;
            return;
        }
        if (take == PINTI_TAKE_TORN || take == PINTI_TAKE_AHEAD) {
            refused = take;
        }
        if (take == PINTI_TAKE_NO_UNDO) { /* the same for every chunk that is free */
            const bool is_all_own = pinti_job_undo_is_own(job);
            is_own = is_own || is_all_own;
            is_other = is_other || !is_all_own;
            continue;
        }
        is_own = is_own || take == PINTI_TAKE_OWN;
        is_other = is_other || take == PINTI_TAKE_BUSY;
    }
    /* refusals come first: the chunks that others hold will not mend them; err is the last one's */
    search->outcome = refused == PINTI_TAKE_TORN    ? TORN
                      : refused == PINTI_TAKE_AHEAD ? AHEAD
                      : is_other                    ? OTHERS_HOLD
                      : is_own                      ? ONLY_OWN
                                                    : FINISHED;
}

static bool search_ends(void *context)
{
    struct search *search = context;
    take_any(search);
    return search->outcome != OTHERS_HOLD;
}

pint_status pint_job_next_timed(pint_job *job, int64_t timeout_ms, pint_lease *out_lease,
                                pint_error *err)
{
    if (job == NULL || out_lease == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "next: NULL argument");
    }
    pinti_job_desc *desc = job->desc;
    pint_status status = pinti_pool_enter(desc->pool, err);
    if (__builtin_expect(status != PINT_OK, 0)) {
        return status;
    }
    status = pinti_table_check_write(&desc->table->head->handles[1], "next", err);
    if (__builtin_expect(status != PINT_OK, 0)) {
        return status;
    }
    struct search search = {.job = desc, .lease = (pinti_lease *)(void *)out_lease, .err = err};
    if (__builtin_expect(take_fresh(&search), 1)) {
        return PINT_OK;
    }
    status = pinti_wait(desc->pool, desc->table->bell, search_ends, &search, timeout_ms, true,
                        "next", err);
    if (status != PINT_OK) {
        return status;
    }
    switch (search.outcome) {
    case FOUND:
        return PINT_OK;
    case FINISHED:
        return PINT_FINISHED;
    case ONLY_OWN:
        return PINT_AGAIN;
    case FROZEN:
        return PINT_E_FROZEN;
    case AHEAD:
        return PINT_E_DEVICE_AHEAD;
    case TORN:
    case OTHERS_HOLD:
    default:
        return PINT_E_TORN;
    }
}

pint_status pint_job_next(pint_job *job, pint_lease *out_lease, pint_error *err)
{
    return pint_job_next_timed(job, -1, out_lease, err);
}

/* ---- done, fail, reject
 * ----------------------------------------------------------------------------- */

static pint_status check_lease(const pint_job *job, const pint_lease *lease, const char *operation,
                               pint_error *err)
{
    if (job == NULL || lease == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    const pinti_lease *mine = (const pinti_lease *)(const void *)lease;
    if (mine->kind != PINTI_LEASE_JOB || mine->owner != job->desc ||
        mine->chunk >= job->desc->n_chunks) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: not a held lease of this job", operation);
    }
    return PINT_OK;
}

static pint_status lost(const pinti_lease *lease, const char *operation, pint_error *err)
{
    return pinti_fail(err, PINT_E_LEASE_LOST, 0, "%s: chunk %" PRIu64 " is not held any more",
                      operation, lease->chunk);
}

pint_status pint_job_done(pint_job *job, pint_lease *lease, pint_error *err)
{
    pint_status status = check_lease(job, lease, "done", err);
    if (__builtin_expect(status != PINT_OK, 0)) {
        return status;
    }
    pinti_lease *mine = (pinti_lease *)(void *)lease;
    status = pinti_pool_enter(job->desc->pool, err);
    if (status == PINT_OK && !pinti_job_commit(job->desc, mine)) {
        status = lost(mine, "done", err);
    }
    mine->kind = PINTI_LEASE_VOID;
    return status;
}

static void keep_text(pinti_job_desc *job, uint64_t chunk, const char *text)
{
    /* relaxed: the number is only for sharing out places */
    const uint32_t n = atomic_fetch_add_explicit(&job->sync->xn_fails, 1, memory_order_relaxed);
    if (n >= PINTI_FAIL_TEXTS) {
        return;
    }
    pinti_fail_text *place = &job->fails[n];
    place->session = job->pool->session_id;
    (void)pinti_printable(place->text, PINTI_FAIL_TEXT_BYTES + 1, text, strlen(text));
    /* release: the text is complete; pairs with pint_job_failure() */
    pinti_store64_release(&place->xchunk, chunk + 1);
}

static pint_status give_up(pint_job *job, pint_lease *lease, const char *text,
                           enum pinti_abandon how, const char *operation, pint_error *err)
{
    pint_status status = check_lease(job, lease, operation, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_lease *mine = (pinti_lease *)(void *)lease;
    status = pinti_pool_enter(job->desc->pool, err);
    if (status == PINT_OK) {
        if (text != NULL) {
            keep_text(job->desc, mine->chunk, text);
        }
        if (!pinti_job_abandon(job->desc, mine, how)) {
            status = lost(mine, operation, err);
        }
    }
    mine->kind = PINTI_LEASE_VOID;
    return status;
}

pint_status pint_job_fail(pint_job *job, pint_lease *lease, const char *text, pint_error *err)
{
    return give_up(job, lease, text, PINTI_ABANDON_FAILED, "fail", err);
}

pint_status pint_job_reject(pint_job *job, pint_lease *lease, const char *text, pint_error *err)
{
    return give_up(job, lease, text, PINTI_ABANDON_REJECTED, "reject", err);
}

/* ---- progress -------------------------------------------------------------------------------- */

static void count_chunks(const pinti_job_desc *job, pint_job_progress *progress)
{
    progress->n_chunks = job->n_chunks;
    progress->n_done = 0;
    progress->n_failed = 0;
    progress->n_held = 0;
    for (uint32_t chunk = 0; chunk < job->n_chunks; chunk++) {
        /* acquire: who sees a chunk done may read what was written; pairs with the commit */
        const uint64_t word = pinti_load64_acquire(&job->words[chunk]);
        const uint32_t state = pinti_job_state(word);
        progress->n_done += state == PINTI_JOB_DONE;
        progress->n_failed += state == PINTI_JOB_FAILED;
        progress->n_held += pinti_job_holder(word) != 0;
    }
    progress->n_redone = pinti_load64_relaxed(&job->sync->xredone);
}

pint_status pint_job_get_progress(const pint_job *job, pint_job_progress *progress, pint_error *err)
{
    if (job == NULL || progress == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "progress: NULL argument");
    }
    if (progress->struct_bytes != sizeof(*progress)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "progress: struct_bytes %u, not %zu",
                          progress->struct_bytes, sizeof(*progress));
    }
    count_chunks(job->desc, progress);
    return PINT_OK;
}

static bool job_is_over(void *context)
{
    const pinti_job_desc *job = context;
    pint_job_progress progress;
    count_chunks(job, &progress);
    return progress.n_done + progress.n_failed == progress.n_chunks;
}

pint_status pint_job_wait(pint_job *job, int64_t timeout_ms, pint_error *err)
{
    if (job == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "wait: NULL argument");
    }
    return pinti_wait(job->desc->pool, job->desc->table->bell, job_is_over, job->desc, timeout_ms,
                      false, "wait for the job", err);
}

pint_status pint_job_failure(const pint_job *job, uint64_t chunk, char *out_text, pint_error *err)
{
    if (job == NULL || out_text == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "failure: NULL argument");
    }
    for (uint32_t i = PINTI_FAIL_TEXTS; i-- > 0;) {
        const pinti_fail_text *place = &job->desc->fails[i];
        /* acquire: pairs with keep_text() */
        if (pinti_load64_acquire(&place->xchunk) == chunk + 1) {
            memcpy(out_text, place->text, PINTI_FAIL_TEXT_BYTES);
            out_text[PINTI_FAIL_TEXT_BYTES] = '\0';
            return PINT_OK;
        }
    }
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "failure: no text of chunk %" PRIu64, chunk);
}

pint_status pint_job_next_failed(const pint_job *job, uint64_t *cursor, uint64_t *out_chunk,
                                 pint_error *err)
{
    if (job == NULL || cursor == NULL || out_chunk == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "next failed: NULL argument");
    }
    for (; *cursor < job->desc->n_chunks; (*cursor)++) {
        /* acquire: the text of a failure was kept before; pairs with the end of restore_finish() */
        const uint64_t word = pinti_load64_acquire(&job->desc->words[*cursor]);
        if (pinti_job_state(word) == PINTI_JOB_FAILED) {
            *out_chunk = (*cursor)++;
            return PINT_OK;
        }
    }
    return pinti_fail(err, PINT_E_NOT_FOUND, 0, "next failed: no further failed chunk");
}
