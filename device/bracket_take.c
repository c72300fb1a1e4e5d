/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Taking the chunks of a bracket: every one, ascending, or none.
 *
 * A begin that meets a chunk which another has gives back what it took, untouched, and waits on the
 * table's bell with nothing in its hands; so no two of them can wait for each other. It looks at
 * all chunks before it takes the first, so that two waiters do not wake each other for ever. Chunks
 * that this process has in an open bracket of its own are refused at once: waiting for them would
 * be waiting for the caller.
 */

#include "device/bracket.h"
#include "host/error.h"
#include "host/job.h"
#include "host/wait.h"

/* ---- taking one chunk: require import->lock -------------------------------------------------- */

static enum pinti_verdict refuse(pinti_begin *b, enum pinti_coherence seen, uint32_t chunk)
{
    b->seen = seen;
    b->chunk = chunk;
    return seen == PINTI_COH_BUSY ? PINTI_BEGIN_BLOCKED : PINTI_BEGIN_REFUSED;
}

static enum pinti_verdict block(pinti_begin *b, bool by_self, uint32_t chunk)
{
    b->seen = PINTI_COH_BUSY;
    b->chunk = chunk;
    return by_self ? PINTI_BEGIN_BLOCKED_BY_SELF : PINTI_BEGIN_BLOCKED;
}

/*
 * A column that is stored to at any time (host/writable_view.h) is never newest on the device: each
 * bracket copies. But bytes that an open bracket of this process reads must stand still, and
 * waiting for its end would be waiting for the caller. So the new bracket shares them, as they were
 * when that one began, if nobody has committed other bytes since: then seq is as it was, and only
 * views can have taken the device out of the mask.
 */
static bool shares_what_is_read(const pinti_begin *b, uint32_t chunk)
{
    const pinti_column_desc *column = b->import->desc.column;
    const pinti_chunk_use *use = &b->import->uses[chunk];
    const uint64_t word = pinti_load64_seq(&column->words[chunk]);
    return use->n_open > 0 && pinti_chunk_state(word) == PINTI_CHUNK_CLEAN &&
           (word & PINTI_HOST_STALE) == 0 && pinti_chunk_seq(word) == use->seq;
}

/* The chunk is being copied for another bracket of this process, and held by us. */
static enum pinti_verdict share_pull(pinti_begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    pinti_pull *pull = use->pull;
    if (!pull->is_marked) {
        return block(b, false, chunk); /* just being enqueued: the bell will ring */
    }
    if (use->n_open == 0 && pinti_hold_is_older_than_views(&b->import->desc, chunk)) {
        return block(b, false, chunk); /* for one that has ended: later stores are not in it */
    }
    bool is_known = false;
    for (uint32_t i = 0; i < b->n_shared; i++) {
        is_known = is_known || b->shared[i] == pull;
    }
    if (!is_known) {
        b->shared[b->n_shared++] = pull;
        pull->n_users++;
    }
    pinti_device_read_join(&b->import->desc, chunk);
    return PINTI_BEGIN_TAKEN;
}

static enum pinti_verdict take_to_read(pinti_begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    if (use->writer != PINTI_WRITER_NONE) {
        return block(b, use->writer == PINTI_WRITER_OPEN, chunk);
    }
    enum pinti_verdict verdict = PINTI_BEGIN_TAKEN;
    if (use->pull != NULL) {
        verdict = share_pull(b, chunk);
    } else {
        enum pinti_coherence seen;
        do {
            const uint64_t word = pinti_load64_seq(&b->import->desc.column->words[chunk]);
            seen = pinti_device_read_begin(&b->import->desc, chunk);
            if (seen == PINTI_COH_OK) {
                use->seq = pinti_chunk_seq(word);
            }
            if (seen == PINTI_COH_PULL && shares_what_is_read(b, chunk)) {
                seen = PINTI_COH_OK; /* the session's bit is set */
            }
            if (seen != PINTI_COH_PULL) {
                break;
            }
            if (use->n_readers > 0) { /* of older bytes, which the copy would change */
                return block(b, use->n_open > 0, chunk);
            }
            pinti_taken *taken = &b->taken[b->n_stale];
            seen = pinti_device_take(&b->import->desc, chunk, PINTI_TAKE_TO_PULL, taken);
            if (seen == PINTI_COH_OK) {
                pinti_device_read_join(&b->import->desc, chunk);
                use->pull = b->pull;
                b->pull->chunks[b->n_stale].chunk = chunk;
                b->pull->chunks[b->n_stale].word = taken->word;
                b->stale[b->n_stale++] = chunk;
            }
        } while (seen == PINTI_COH_THERE); /* another session was faster: read */
        if (seen != PINTI_COH_OK) {
            return refuse(b, seen, chunk);
        }
    }
    if (verdict == PINTI_BEGIN_TAKEN) {
        use->n_readers++;
        use->n_open++;
    }
    return verdict;
}

static enum pinti_verdict take_to_write(pinti_begin *b, uint32_t chunk)
{
    pinti_chunk_use *use = &b->import->uses[chunk];
    if (use->writer != PINTI_WRITER_NONE || use->n_readers > 0 || use->pull != NULL) {
        return block(b, use->writer == PINTI_WRITER_OPEN || use->n_open > 0, chunk);
    }
    pinti_taken *taken = &b->taken[chunk - b->first];
    const bool is_read = (b->access & PINT_READ) != 0;
    const enum pinti_coherence seen = pinti_device_take(
        &b->import->desc, chunk, is_read ? PINTI_TAKE_TO_CHANGE : PINTI_TAKE_TO_REPLACE, taken);
    if (seen != PINTI_COH_OK) {
        return refuse(b, seen, chunk);
    }
    use->writer = PINTI_WRITER_OPEN;
    b->bracket->words[chunk - b->first] = taken->word;
    if (is_read && !taken->had_device) {
        b->stale[b->n_stale++] = chunk;
    }
    return PINTI_BEGIN_TAKEN;
}

/* Is a chunk held, without taking anything? */
static bool is_held_by_another(const pinti_begin *b, uint32_t chunk)
{
    const pinti_copy_desc *desc = &b->import->desc;
    const uint64_t word = pinti_load64_seq(&desc->column->words[chunk]);
    const pinti_chunk_use *use = &b->import->uses[chunk];
    return pinti_chunk_is_held(pinti_chunk_state(word)) && use->pull == NULL &&
           use->writer != PINTI_WRITER_OPEN;
}

void pinti_begin_give_back(pinti_begin *b, uint32_t end)
{
    pinti_import *import = b->import;
    uint32_t at_stale = 0;
    for (uint32_t chunk = b->first; chunk < end; chunk++) {
        pinti_chunk_use *use = &import->uses[chunk];
        if ((b->access & PINT_WRITE) != 0) {
            (void)pinti_device_give_back(&import->desc, chunk, &b->taken[chunk - b->first]);
            use->writer = PINTI_WRITER_NONE;
            continue;
        }
        use->n_open--;
        if (--use->n_readers == 0) {
            pinti_device_read_end(&import->desc, chunk);
        }
        if (at_stale < b->n_stale && b->stale[at_stale] == chunk) {
            (void)pinti_device_give_back(&import->desc, chunk, &b->taken[at_stale++]);
            use->pull = NULL;
        }
    }
    b->n_stale = 0;
}

/* ---- taking all ------------------------------------------------------------------------------ */

/* One attempt: true when it is over, with b->verdict. */
static bool try_all(void *context)
{
    pinti_begin *b = context;
    const uint32_t end = b->first + b->n;
    b->verdict = PINTI_BEGIN_TAKEN;
    (void)pthread_mutex_lock(&b->import->lock);
    for (uint32_t chunk = b->first; b->verdict == PINTI_BEGIN_TAKEN && chunk < end; chunk++) {
        if (is_held_by_another(b, chunk)) {
            b->verdict = block(b, false, chunk);
        }
    }
    for (uint32_t chunk = b->first; b->verdict == PINTI_BEGIN_TAKEN && chunk < end; chunk++) {
        b->verdict =
            (b->access & PINT_WRITE) != 0 ? take_to_write(b, chunk) : take_to_read(b, chunk);
        if (b->verdict != PINTI_BEGIN_TAKEN) {
            pinti_begin_give_back(b, chunk);
        }
    }
    (void)pthread_mutex_unlock(&b->import->lock);
    if (b->verdict != PINTI_BEGIN_TAKEN) {
        pinti_begin_leave_shared(b);
    }
    return b->verdict != PINTI_BEGIN_BLOCKED;
}

static pint_status explain(const pinti_begin *b, pint_error *err)
{
    const char *name = b->import->desc.column->name;
    if (b->verdict == PINTI_BEGIN_BLOCKED_BY_SELF) {
        return pinti_fail(err, PINT_E_BUSY, 0,
                          "begin: chunk %u of column '%s' is in an open bracket of this process",
                          b->chunk, name);
    }
    switch (b->seen) {
    case PINTI_COH_BUSY:
        return pinti_fail(err, PINT_E_BUSY, 0, "begin: chunk %u of column '%s' is held by another",
                          b->chunk, name);
    case PINTI_COH_TORN:
        return pinti_fail(err, PINT_E_TORN, 0,
                          "begin: chunk %u of column '%s' is torn: a writer died in it", b->chunk,
                          name);
    case PINTI_COH_FROZEN:
        return pinti_fail(err, PINT_E_FROZEN, 0, "begin: the table is frozen");
    case PINTI_COH_GONE:
    case PINTI_COH_LOST:
        return pinti_fail(err, PINT_E_DEVICE_LOST, 0, "begin: the copy of column '%s' was dropped",
                          name);
    case PINTI_COH_OK:
    case PINTI_COH_THERE:
    case PINTI_COH_PULL:
    case PINTI_COH_PUSH:
    case PINTI_COH_RESTORE:
    case PINTI_COH_CHANGED:
        break;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0, "begin: chunk %u of column '%s' cannot be", b->chunk,
                      name);
}

/* Get what refused a chunk out of the way. PINT_OK: try again. */
static pint_status clear(pinti_begin *b, int64_t left_ms, pint_error *err)
{
    if (b->verdict == PINTI_BEGIN_REFUSED && b->seen == PINTI_COH_PUSH) {
        return pinti_push_elsewhere(b->import, b->chunk, left_ms, err);
    }
    if (b->verdict == PINTI_BEGIN_REFUSED && b->seen == PINTI_COH_RESTORE) {
        if (!pinti_chunk_restore(b->import->table->desc, b->chunk)) {
            b->verdict =
                PINTI_BEGIN_BLOCKED; /* another puts it back, or the job is not swept yet */
        }
        return PINT_OK;
    }
    return explain(b, err);
}

static bool was_refused_once(void *context)
{
    pinti_begin *b = context;
    return try_all(b) && !(b->verdict == PINTI_BEGIN_REFUSED && b->seen == PINTI_COH_RESTORE);
}

pint_status pinti_begin_take(pinti_begin *b, int64_t timeout_ms, pint_error *err)
{
    const pinti_table_desc *table = b->import->desc.table;
    const int64_t start_ms = pinti_now_ms();
    (void)try_all(b);
    while (b->verdict != PINTI_BEGIN_TAKEN) {
        const int64_t left_ms = pinti_time_left(start_ms, timeout_ms);
        if (b->verdict == PINTI_BEGIN_BLOCKED) {
            if (timeout_ms == 0) {
                return explain(b, err);
            }
            const pint_status status = pinti_wait(table->pool, table->bell, was_refused_once, b,
                                                  left_ms, true, "begin", err);
            if (status != PINT_OK) {
                return status;
            }
            continue;
        }
        const pint_status status = clear(b, left_ms, err);
        if (status != PINT_OK) {
            return status;
        }
        if (b->verdict != PINTI_BEGIN_BLOCKED) {
            (void)try_all(b);
        }
    }
    return PINT_OK;
}
