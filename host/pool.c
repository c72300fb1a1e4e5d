/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mapping a pool's segments and checking that they are what they claim to be. The descriptors came
 * over a socket: sizes and seals are verified, not assumed, so that no later access can meet a
 * shortened file. The tether is mapped first and unmapped last (R2).
 */

#include "host/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "host/error.h"
#include "host/fork.h"
#include "host/job.h"
#include "host/table.h"
#include "host/wait.h"
#include "host/word.h"
#include "host/writable_view.h"

#define CROSSING_MS 1000 /* longer than a thread is kept from running between two instructions */

#ifndef F_GET_SEALS
#    define F_GET_SEALS   1034
#    define F_SEAL_SHRINK 0x0002
#endif

enum { FD_CATALOG, FD_SYNC, FD_DATA, FD_BELL, FD_SLOT, FD_TETHER };

static const char *const segment_names[PINTI_POOL_FDS] = {"catalog", "sync", "data",
                                                          "bell",    "slot", "tether"};

/* Map a whole segment at a slab-aligned address. bytes 0: whatever the file has. */
static pint_status map_segment(int which, int fd, uint64_t bytes, int protection, void **out,
                               pint_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "join: %s segment", segment_names[which]);
    }
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return pinti_fail(err, PINT_E_PROTOCOL, 0, "join: the %s segment is not sealed",
                          segment_names[which]);
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size != bytes) {
        return pinti_fail(err, PINT_E_PROTOCOL, 0,
                          "join: the %s segment has %" PRId64 " bytes, not %" PRIu64,
                          segment_names[which], (int64_t)st.st_size, bytes);
    }
    /* Reserve one slab more, then map at the aligned address inside and give the ends back. */
    const size_t align = bytes >= PINTI_SLAB_BYTES ? PINTI_SLAB_BYTES : 0;
    char *room =
        mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        return pinti_fail(err, PINT_E_NO_MEMORY, errno,
                          "join: no address space for the %s segment of %" PRIu64 " bytes",
                          segment_names[which], bytes);
    }
    const size_t lead = align == 0 ? 0 : (align - ((uintptr_t)room & (align - 1))) & (align - 1);
    void *at = mmap(room + lead, bytes, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (at == MAP_FAILED) {
        const int reason = errno;
        (void)munmap(room, bytes + align);
        return pinti_fail(
            err, reason == EACCES || reason == EPERM ? PINT_E_PERMISSION : PINT_E_NO_MEMORY, reason,
            "join: cannot map the %s segment", segment_names[which]);
    }
    if (lead > 0) {
        (void)munmap(room, lead);
    }
    if (align - lead > 0) {
        (void)munmap(room + lead + bytes, align - lead);
    }
    (void)madvise(at, bytes, MADV_DONTDUMP); /* R13: a pool in a core dump delays death */
    *out = at;
    return PINT_OK;
}

static void unmap_segment(void *at, uint64_t bytes)
{
    if (at != NULL) {
        (void)munmap(at, bytes);
    }
}

/* Take the sizes from the catalog header once, and check them. */
static pint_status check_header(pint_pool *pool, pint_error *err)
{
    const pinti_catalog_header *header = pool->catalog;
    if (header->magic != PINTI_MAGIC || header->layout_version != PINTI_LAYOUT_VERSION ||
        header->signature != pinti_layout_signature()) {
        return pinti_fail(err, PINT_E_VERSION, 0,
                          "join: catalog layout %u signature %08x; this library has %u %08x",
                          header->layout_version, header->signature, PINTI_LAYOUT_VERSION,
                          pinti_layout_signature());
    }
    pool->header = header;
    pool->data_bytes = header->data_bytes;
    pool->sync_bytes = header->sync_bytes;
    pool->n_slabs = header->n_slabs;
    if (pool->data_bytes == 0 || pool->data_bytes % PINTI_SLAB_BYTES != 0 ||
        pool->data_bytes / PINTI_SLAB_BYTES != pool->n_slabs || pool->n_slabs > PINTI_SLABS_MAX ||
        pool->sync_bytes == 0 || pool->sync_bytes % PINTI_PAGE_BYTES != 0) {
        return pinti_fail(err, PINT_E_CORRUPT, 0,
                          "join: catalog header: data %" PRIu64 " bytes, sync %" PRIu64 " bytes",
                          pool->data_bytes, pool->sync_bytes);
    }
    return PINT_OK;
}

/* Map slot and tether and check that the slot is this session's. */
static pint_status map_session(pint_pool *pool, int slot_fd, int tether_fd, uint64_t session_id,
                               uint32_t session_index, void **out_slot, void **out_tether,
                               pint_error *err)
{
    void *tether = NULL;
    void *slot = NULL;
    pint_status status =
        map_segment(FD_TETHER, tether_fd, PINTI_TETHER_BYTES, PROT_READ | PROT_WRITE, &tether, err);
    if (status != PINT_OK) {
        return status;
    }
    status = map_segment(FD_SLOT, slot_fd, PINTI_SLOT_BYTES, PROT_READ | PROT_WRITE, &slot, err);
    if (status != PINT_OK) {
        goto err_tether;
    }
    const pinti_slot_header *header = slot;
    if (header->magic != PINTI_SLOT_MAGIC || header->session_id != session_id ||
        header->session_index != session_index || session_index == 0 ||
        session_index >= PINTI_SESSIONS_MAX) {
        status = pinti_fail(err, PINT_E_PROTOCOL, 0, "join: the slot is not session %" PRIu64 "'s",
                            session_id);
        goto err_slot;
    }
    /* R11: a forked child has no slot until it has its own */
    if (madvise(slot, PINTI_SLOT_BYTES, MADV_DONTFORK) != 0) {
        status = pinti_fail(err, PINT_E_SYSTEM, errno, "join: MADV_DONTFORK on the slot");
        goto err_slot;
    }
    pool->session_id = session_id;
    pool->session_index = session_index;
    *out_slot = slot;
    *out_tether = tether;
    return PINT_OK;
err_slot:
    unmap_segment(slot, PINTI_SLOT_BYTES);
err_tether:
    unmap_segment(tether, PINTI_TETHER_BYTES);
    return status;
}

pint_status pinti_pool_map(pint_pool *pool, const int fds[PINTI_POOL_FDS], bool writable,
                           uint64_t session_id, uint32_t session_index, pint_error *err)
{
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *slot = NULL;
    pool->writable = writable;
    pint_status status = map_session(pool, fds[FD_SLOT], fds[FD_TETHER], session_id, session_index,
                                     &slot, &pool->tether, err);
    if (status != PINT_OK) {
        return status;
    }
    pool->slot = slot;
    void *sync = NULL;
    void *data = NULL;
    void *bells = NULL;
    status =
        map_segment(FD_CATALOG, fds[FD_CATALOG], PINTI_CAT_BYTES, PROT_READ, &pool->catalog, err);
    if (status == PINT_OK) {
        status = check_header(pool, err);
    }
    if (status == PINT_OK) {
        status = map_segment(FD_SYNC, fds[FD_SYNC], pool->sync_bytes, protection, &sync, err);
    }
    if (status == PINT_OK) {
        pool->sync = sync;
        status = map_segment(FD_DATA, fds[FD_DATA], pool->data_bytes, protection, &data, err);
    }
    if (status == PINT_OK) {
        pool->data = data;
        status = map_segment(FD_BELL, fds[FD_BELL], PINTI_BELL_BYTES, PROT_READ | PROT_WRITE,
                             &bells, err);
    }
    if (status != PINT_OK) {
        pinti_pool_unmap(pool);
        return status;
    }
    pool->bells = bells;
    return PINT_OK;
}

void pinti_pool_unmap(pint_pool *pool)
{
    unmap_segment(pool->data, pool->data_bytes);
    unmap_segment(pool->sync, pool->sync_bytes);
    unmap_segment(pool->bells, PINTI_BELL_BYTES);
    unmap_segment(pool->catalog, PINTI_CAT_BYTES);
    /* in a forked child that never rejoined the slot is not mapped, and the address may be in use
     * by something else */
    if (pool->fork_word == pinti_load64_relaxed(pinti_fork_word) || pool->fork_word == 0) {
        unmap_segment(pool->slot, PINTI_SLOT_BYTES);
    }
    unmap_segment(pool->tether, PINTI_TETHER_BYTES);
    pool->data = NULL;
    pool->sync = NULL;
    pool->bells = NULL;
    pool->catalog = NULL;
    pool->header = NULL;
    pool->slot = NULL;
    pool->tether = NULL;
}

bool pinti_ref_take(pinti_a64 *refs, uint32_t index, uint32_t generation)
{
    uint64_t word = pinti_load64_relaxed(&refs[index]); /* relaxed: the swap checks it */
    for (;;) {
        const uint64_t fresh = (uint64_t)generation << 32 | 1u;
        uint64_t next = fresh;
        if (pinti_ref_count(word) != 0) {
            if (pinti_ref_generation(word) != generation || pinti_ref_count(word) == UINT32_MAX) {
                return false;
            }
            next = word + 1;
        }
        /* seq: the service marks the record, then reads this word; we write it, then read the
         * record again (open.pml) */
        if (pinti_cas64_seq(&refs[index], &word, next)) {
            return true;
        }
    }
}

bool pinti_ref_wait_for_sibling(int64_t *start_ms)
{
    const int64_t now = pinti_now_ms();
    *start_ms = *start_ms != 0 ? *start_ms : now;
    (void)sched_yield();
    return now - *start_ms < CROSSING_MS;
}

bool pinti_ref_take_patiently(pinti_a64 *refs, uint32_t index, uint32_t generation)
{
    int64_t start_ms = 0;
    while (!pinti_ref_take(refs, index, generation)) {
        if (!pinti_ref_wait_for_sibling(&start_ms)) {
            return false;
        }
    }
    return true;
}

bool pinti_ref_drop(pinti_a64 *refs, uint32_t index, uint32_t generation)
{
    uint64_t word = pinti_load64_relaxed(&refs[index]);
    for (;;) {
        if (pinti_ref_generation(word) != generation || pinti_ref_count(word) == 0) {
            return false;
        }
        /* seq, hence release: uses of the table come before; pairs with the service's scan */
        if (pinti_cas64_seq(&refs[index], &word, word - 1)) {
            return true;
        }
    }
}

/* Take over in a new slot what the parent referred to at fork. The parent's references (or its
 * tether, which this process still maps) keep all of it alive meanwhile. */
static void take_over_references(pint_pool *pool, void *slot)
{
    for (uint32_t i = 0; i < pool->n_fork_tables; i++) {
        if (pinti_ref_count(pool->fork_table_refs[i]) != 0) {
            pinti_store64_seq(&pinti_slot_tables(slot)[i], pool->fork_table_refs[i]);
        }
    }
    for (uint32_t i = 0; i < pool->n_fork_jobs; i++) {
        if (pinti_ref_count(pool->fork_job_refs[i]) != 0) {
            pinti_store64_seq(&pinti_slot_jobs(slot)[i], pool->fork_job_refs[i]);
        }
    }
    free(pool->fork_table_refs);
    free(pool->fork_job_refs);
    pool->fork_table_refs = NULL;
    pool->fork_job_refs = NULL;
    pool->n_fork_tables = 0;
    pool->n_fork_jobs = 0;
}

/* What is derived from the session: at join and again at rejoin. */
static void number_session(pint_pool *pool)
{
    static pinti_a64 n_sessions;
    /* relaxed: only a number; the low half is left free, see pinti_intent_session() */
    pinti_store64_relaxed(&pool->serial, (pinti_add64_relaxed(&n_sessions, 1) + 1) << 32);
    pool->held_bits = (uint64_t)pool->session_index << PINTI_CHUNK_HOLDER_SHIFT |
                      (uint64_t)PINTI_CHUNK_HELD << PINTI_CHUNK_STATE_SHIFT | PINTI_HOST_STALE;
}

pint_status pinti_pool_remap_session(pint_pool *pool, int slot_fd, int tether_fd,
                                     uint64_t session_id, uint32_t session_index, pint_error *err)
{
    void *slot = NULL;
    void *tether = NULL;
    const pint_status status =
        map_session(pool, slot_fd, tether_fd, session_id, session_index, &slot, &tether, err);
    if (status != PINT_OK) {
        return status;
    }
    take_over_references(pool, slot);
    number_session(pool);
    pool->slot = slot; /* the parent's is not mapped here: nothing to unmap */
    pinti_views_take_over(pool);
    unmap_segment(pool->tether, PINTI_TETHER_BYTES); /* now our own references hold */
    pool->tether = tether;
    return PINT_OK;
}

/* A sparse array of n elements: address space only, pages where used. */
static void *sparse_array(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

pint_status pinti_pool_init(pint_pool *pool, pint_error *err)
{
    number_session(pool);
    pinti_store32_relaxed(&pool->n_holds, 1); /* relaxed: nobody else knows the pool yet */
    pool->tables = sparse_array(PINTI_TABLES_MAX * sizeof(*pool->tables));
    pool->heads = sparse_array(PINTI_TABLE_HEADS_MAX * sizeof(*pool->heads));
    pool->jobs = sparse_array(PINTI_JOBS_MAX * sizeof(*pool->jobs));
    pool->job_gens = sparse_array(PINTI_JOBS_MAX * sizeof(*pool->job_gens));
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_mutex_init(&pool->fork_lock, NULL);
    (void)pthread_mutex_init(&pool->dict_lock, NULL);
    (void)pthread_mutex_init(&pool->view_lock, NULL);
    if (pool->tables == NULL || pool->heads == NULL || pool->jobs == NULL ||
        pool->job_gens == NULL) {
        pinti_pool_done(pool);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join: no memory for the handle tables");
    }
    const pint_status status = pinti_fork_watch(pool, err);
    if (status != PINT_OK) {
        pinti_pool_done(pool);
    }
    return status;
}

void pinti_pool_hold(pint_pool *pool)
{
    /* relaxed: the caller has one hold already, or the handle, which is one */
    (void)atomic_fetch_add_explicit(&pool->n_holds, 1, memory_order_relaxed);
}

void pinti_pool_forget_hold(pint_pool *pool)
{
    /* relaxed: a forked child has one thread */
    (void)atomic_fetch_sub_explicit(&pool->n_holds, 1, memory_order_relaxed);
}

void pinti_pool_let_go(pint_pool *pool)
{
    /* release: what this holder did with the pool comes before; acquire, of the last one: after
     * what all others did. Pairs with itself. */
    if (atomic_fetch_sub_explicit(&pool->n_holds, 1, memory_order_acq_rel) == 1) {
        pool->ops->leave(pool);
    }
}

void pinti_pool_done(pint_pool *pool)
{
    pinti_fork_forget(pool);
    if (pool->tables != NULL) {
        pinti_table_descs_free(pool);
        (void)munmap(pool->tables, PINTI_TABLES_MAX * sizeof(*pool->tables));
    }
    if (pool->heads != NULL) {
        (void)munmap(pool->heads, PINTI_TABLE_HEADS_MAX * sizeof(*pool->heads));
    }
    if (pool->jobs != NULL) {
        pinti_job_descs_free(pool);
        (void)munmap(pool->jobs, PINTI_JOBS_MAX * sizeof(*pool->jobs));
    }
    if (pool->job_gens != NULL) {
        (void)munmap(pool->job_gens, PINTI_JOBS_MAX * sizeof(*pool->job_gens));
    }
    pinti_views_free(pool);
    free(pool->fork_table_refs);
    free(pool->fork_job_refs);
    pool->tables = NULL;
    pool->heads = NULL;
    pool->jobs = NULL;
    pool->job_gens = NULL;
    pool->fork_table_refs = NULL;
    pool->fork_job_refs = NULL;
    (void)pthread_mutex_destroy(&pool->lock);
    (void)pthread_mutex_destroy(&pool->fork_lock);
    (void)pthread_mutex_destroy(&pool->dict_lock);
    (void)pthread_mutex_destroy(&pool->view_lock);
}
