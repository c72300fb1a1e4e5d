/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Taking the chunks of a bracket: every one, ascending, or none.
 *
 * A begin that meets a chunk which another has gives back what it took, untouched, and waits on the
 * table's bell with nothing in its hands; so no two of them can wait for each other. It looks at
 * all chunks before it takes the first, so that two waiters do not wake each other for ever. Chunks
 * that the calling thread has in an open bracket are refused at once: to wait for them would be to
 * wait for oneself.
 *
 * Several columns are taken as one is: ascending by column, then by chunk.
 */

#include "device/bracket.h"
#include "host/error.h"
#include "host/job.h"

/* ---- taking one chunk: require import->lock -------------------------------------------------- */

static enum pinti_verdict refuse(pinti_begin *b, enum pinti_coherence seen, uint32_t chunk)
{
    b->seen = seen;
    b->chunk = chunk;
    return seen == PINTI_COH_BUSY ? PINTI_BEGIN_BLOCKED : PINTI_BEGIN_REFUSED;
}

static enum pinti_verdict block(pinti_begin *b, uint32_t chunk)
{
    b->seen = PINTI_COH_BUSY;
    b->chunk = chunk;
    return PINTI_BEGIN_BLOCKED;
}

static enum pinti_verdict block_by_self(pinti_begin *b, uint32_t chunk)
{
    b->chunk = chunk;
    return PINTI_BEGIN_BLOCKED_BY_SELF;
}

static bool is_read_by_caller(const pinti_begin *b, uint32_t chunk)
{
    return pinti_own_bracket(b->import, chunk, 1, PINT_READ) == chunk;
}

/*
 * A column that is stored to at any time (host/writable_view.h) is never newest on the device: each
 * bracket copies, and waits for those that read older bytes. But to wait for one of its own thread
 * would be to wait for itself. So it shares what that one reads, as it was when that one began, if
 * nobody has committed other bytes since: then seq is as it was, and only views can have taken the
 * device out of the mask.
 */
static bool shares_what_is_read(const pinti_begin *b, uint32_t chunk)
{
    const pinti_chunk_use *use = &b->import->uses[chunk];
    const uint64_t word = pinti_load64_seq(&b->import->desc.column->words[chunk]);
    return pinti_chunk_state(word) == PINTI_CHUNK_CLEAN && (word & PINTI_HOST_STALE) == 0 &&
           pinti_chunk_seq(word) == use->seq && is_read_by_caller(b, chunk);
}

/* The chunk is being copied for another bracket of this process, and held by us: may this one share
 * it? Not while it is just being enqueued; nor where there are views, unless the caller reads it:
 * later stores are not in it. The bell will ring. */
static bool can_share_pull(const pinti_begin *b, uint32_t chunk)
{
    return b->import->uses[chunk].pull->is_marked &&
           (!pinti_hold_is_older_than_views(&b->import->desc, chunk) ||
            is_read_by_caller(b, chunk));
}

static enum pinti_verdict share_pull(pinti_begin *b, uint32_t chunk)
{
    pinti_pull *pull = b->import->uses[chunk].pull;
    if (!can_share_pull(b, chunk)) {
        return block(b, chunk);
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
        return block(b, chunk);
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
                return block(b, chunk);
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
        return block(b, chunk);
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

/* Does another session read or copy the chunk on the device? */
static bool is_used_elsewhere(const pinti_begin *b, uint32_t chunk)
{
    const pinti_copy_desc *desc = &b->import->desc;
    const uint64_t own_bit = 1ull << desc->slot;
    return (pinti_load64_seq(&desc->chunks[chunk].xreaders) & ~own_bit) != 0 ||
           pinti_load64_seq(&desc->chunks[chunk].xcopier) != 0;
}

/* What is in the way of a chunk, without taking anything. All that may last must be seen here: to
 * take chunks and give them back rings the bell, and whoever did so in vain would not sleep. */
static enum pinti_verdict look_at(pinti_begin *b, uint32_t chunk)
{
    const pinti_copy_desc *desc = &b->import->desc;
    const pinti_chunk_use *use = &b->import->uses[chunk];
    const bool is_write = (b->access & PINT_WRITE) != 0;
    const uint64_t word = pinti_load64_seq(&desc->column->words[chunk]);
    const bool is_used = use->n_readers > 0 || use->pull != NULL;
    if (use->writer != PINTI_WRITER_NONE || (is_write && is_used)) {
        return block(b, chunk);
    }
    if (use->pull != NULL) {
        return can_share_pull(b, chunk) ? PINTI_BEGIN_TAKEN : block(b, chunk);
    }
    if (pinti_chunk_state(word) == PINTI_CHUNK_RESTORE) { /* perhaps for as long as another likes */
        return refuse(b, PINTI_COH_RESTORE, chunk);
    }
    const bool is_clean = pinti_chunk_state(word) == PINTI_CHUNK_CLEAN;
    const bool is_stale =
        is_clean && (pinti_chunk_places(word) & pinti_place_bit(desc->device)) == 0;
    if (use->n_readers > 0 && is_stale) { /* of older bytes, which a copy would change */
        return shares_what_is_read(b, chunk) ? PINTI_BEGIN_TAKEN
               : is_read_by_caller(b, chunk) ? block_by_self(b, chunk)
                                             : block(b, chunk);
    }
    /* what is torn is refused to those who read it, whoever uses it */
    const bool is_change = is_stale || (is_write && (is_clean || (b->access & PINT_READ) == 0));
    return pinti_chunk_is_held(pinti_chunk_state(word)) ||
                   (is_change && is_used_elsewhere(b, chunk))
               ? block(b, chunk)
               : PINTI_BEGIN_TAKEN;
}

/* Give back chunks [first, end), which were taken and neither read nor written. Requires
 * import->lock. */
static void give_back(pinti_begin *b, uint32_t end)
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

/* Look at a column before anything is taken. */
static enum pinti_verdict look(pinti_begin *b)
{
    enum pinti_verdict verdict = PINTI_BEGIN_TAKEN;
    (void)pthread_mutex_lock(&b->import->lock);
    /* a reader is in the way of writers alone */
    const uint32_t in_the_way =
        (b->access & PINT_WRITE) != 0 ? PINT_READ | PINT_WRITE : (uint32_t)PINT_WRITE;
    const uint32_t own = pinti_own_bracket(b->import, b->first, b->n, in_the_way);
    if (own != UINT32_MAX) {
        verdict = block_by_self(b, own);
    }
    for (uint32_t i = 0; verdict == PINTI_BEGIN_TAKEN && i < b->n; i++) {
        verdict = look_at(b, b->first + i);
    }
    (void)pthread_mutex_unlock(&b->import->lock);
    return verdict;
}

/* Take a column, or nothing of it. */
static enum pinti_verdict take(pinti_begin *b)
{
    enum pinti_verdict verdict = PINTI_BEGIN_TAKEN;
    (void)pthread_mutex_lock(&b->import->lock);
    for (uint32_t i = 0; verdict == PINTI_BEGIN_TAKEN && i < b->n; i++) {
        const uint32_t chunk = b->first + i;
        verdict = (b->access & PINT_WRITE) != 0 ? take_to_write(b, chunk) : take_to_read(b, chunk);
        if (verdict != PINTI_BEGIN_TAKEN) {
            give_back(b, chunk);
        }
    }
    (void)pthread_mutex_unlock(&b->import->lock);
    if (verdict != PINTI_BEGIN_TAKEN) {
        pinti_begin_leave_shared(b);
    }
    return verdict;
}

/* Give back the first n columns. */
static void give_back_columns(pinti_begins *group, uint32_t n)
{
    while (n > 0) {
        pinti_begin *b = &group->all[--n];
        (void)pthread_mutex_lock(&b->import->lock);
        give_back(b, b->first + b->n);
        (void)pthread_mutex_unlock(&b->import->lock);
        pinti_begin_leave_shared(b);
    }
}

void pinti_begin_give_back(pinti_begins *group)
{
    give_back_columns(group, group->n);
}

static void try_all(pinti_begins *group)
{
    group->verdict = PINTI_BEGIN_TAKEN;
    for (uint32_t i = 0; group->verdict == PINTI_BEGIN_TAKEN && i < group->n; i++) {
        group->at = &group->all[i];
        group->verdict = look(group->at);
    }
    for (uint32_t i = 0; group->verdict == PINTI_BEGIN_TAKEN && i < group->n; i++) {
        group->at = &group->all[i];
        group->verdict = take(group->at);
        if (group->verdict != PINTI_BEGIN_TAKEN) {
            give_back_columns(group, i);
        }
    }
}

/* One attempt, with old bytes put back that nobody else is putting back: true when it is over. */
static bool attempt(void *context)
{
    pinti_begins *group = context;
    try_all(group);
    while (group->verdict == PINTI_BEGIN_REFUSED && group->at->seen == PINTI_COH_RESTORE) {
        if (!pinti_chunk_restore(group->at->import->table->desc, group->at->chunk)) {
            group->verdict = PINTI_BEGIN_BLOCKED; /* another does, or the job is not swept yet */
            break;
        }
        try_all(group);
    }
    return group->verdict != PINTI_BEGIN_BLOCKED;
}

/* ---- what is in the way ---------------------------------------------------------------------- */

static pint_status explain_self(const pinti_begin *b, pint_error *err)
{
    return pinti_fail(err, PINT_E_BUSY, 0,
                      "begin: chunk %u of column '%s' is in a bracket that this thread has open: "
                      "end it first",
                      b->chunk, b->import->desc.column->name);
}

/* Nothing is left of the time. */
static pint_status explain_blocked(const pinti_begin *b, const pinti_limit *limit, pint_error *err)
{
    return pinti_fail(err, pinti_limit_status(limit), 0, "begin: chunk %u of column '%s' %s",
                      b->chunk, b->import->desc.column->name,
                      b->seen == PINTI_COH_RESTORE ? "gets its old bytes back"
                                                   : "is held by another");
}

static pint_status explain_refused(const pinti_begin *b, pint_error *err)
{
    const char *name = b->import->desc.column->name;
    switch (b->seen) {
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
    case PINTI_COH_BUSY:
    case PINTI_COH_OK:
    case PINTI_COH_THERE:
    case PINTI_COH_PULL:
    case PINTI_COH_PUSH:
    case PINTI_COH_RESTORE:
        break;
    }
    return pinti_fail(err, PINT_E_CORRUPT, 0,
                      "begin: the word of chunk %u of column '%s' cannot be", b->chunk, name);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* For what others hold. PINT_OK: the verdict is another one. */
static pint_status wait_for_others(pinti_begins *group, const pinti_limit *limit, pint_error *err)
{
    const pinti_begin *b = group->at;
    const pinti_table_desc *table = b->import->desc.table;
    if (!pinti_chunk_can_be(pinti_load64_seq(&b->import->desc.column->words[b->chunk]))) {
        return explain_refused(b, err); /* seen is BUSY, of which there is no end */
    }
    if (pinti_own_bracket_elsewhere(b->import, b->chunk)) {
        return explain_self(b, err);
    }
    const int64_t left_ms = pinti_limit_left(limit);
    if (left_ms == 0) {
        return explain_blocked(b, limit, err);
    }
    const pint_status status =
        pinti_wait(table->pool, table->bell, attempt, group, left_ms, true, "begin", err);
    return status == PINT_E_TIMEOUT ? explain_blocked(group->at, limit, err) : status;
}

pint_status pinti_begin_take(pinti_begins *group, const pinti_limit *limit, pint_error *err)
{
    pint_status status = PINT_OK;
    (void)attempt(group);
    while (status == PINT_OK && group->verdict != PINTI_BEGIN_TAKEN) {
        pinti_begin *b = group->at;
        if (group->verdict == PINTI_BEGIN_BLOCKED) {
            status = wait_for_others(group, limit, err);
        } else if (group->verdict == PINTI_BEGIN_BLOCKED_BY_SELF) {
            status = explain_self(b, err);
        } else if (b->seen != PINTI_COH_PUSH) {
            status = explain_refused(b, err);
        } else { /* newest on another device */
            status = pinti_push_elsewhere(b->import, b->chunk, limit, err);
            if (status == PINT_OK) {
                (void)attempt(group);
            }
        }
    }
    return status;
}
