/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_POOL_H
#define HOST_POOL_H

/*
 * A joined pool as this process has it mapped, and what host/ needs from the service. host/ knows
 * no sockets: ipc/client.c fills in the operations and the segments.
 */

#include <pthread.h>

#include "host/interrupt.h"
#include "host/layout.h"
#include "pintable/job.h"

struct pinti_table_desc;
struct pinti_table_head;
struct pinti_job_desc;

/* Requests that only the service can answer. All may block; all fill err. */
typedef struct pinti_pool_ops {
    /* The calling process is a fork of the one that joined: become a session of one's own, with a
     * new slot that refers to every table and job that was open. Called with fork_lock held. */
    pint_status (*rejoin)(pint_pool *pool, pint_error *err);
    /* Slow lookup, when the index moved during a one-sided one. */
    pint_status (*find_table)(pint_pool *pool, const char *name, uint32_t *out_index,
                              uint32_t *out_generation, pint_error *err);
    /* Create or join a job; name NULL: the unnamed lease set of these uses (one per set). uses:
     * column << 2 | (use - 1), ascending. n_uses 0: join only. */
    pint_status (*create_job)(pint_pool *pool, uint32_t table, uint32_t generation,
                              const char *name, const uint32_t *uses, uint32_t n_uses,
                              uint32_t *out_job, uint32_t *out_generation, pint_error *err);
    pint_status (*drop_job)(pint_pool *pool, uint32_t table, uint32_t generation, const char *name,
                            pint_error *err);
    /* PINT_OK while a service answers or is coming back; PINT_E_GONE when it stayed away a second.
     * Never blocks longer than that. */
    pint_status (*alive)(pint_pool *pool, pint_error *err);
    /* A table that was dropped has been closed: the service may look at once. Best effort. */
    void (*closed_dropped)(pint_pool *pool);
    /* The last handle on a table that was never published was closed: drop it. Best effort. */
    void (*discard_table)(pint_pool *pool, uint32_t table, uint32_t generation);
    /* Nobody holds the pool any more: unmap it, end the session, free the handle. */
    void (*leave)(pint_pool *pool);
} pinti_pool_ops;

struct pinti_table_entry {
    struct pinti_table_head *head; /* NULL, or cached */
    pinti_a32 generation;          /* of it; 0: none; read before the pointer is followed */
};

struct pint_pool {
    /* ---- segments: constant after join, but for slot and tether (rejoin) ---- */
    void *catalog; /* read-only mapping, PINTI_CAT_BYTES */
    char *sync;
    char *data;
    pinti_bell *bells;
    char *slot; /* own, PINTI_SLOT_BYTES, MADV_DONTFORK */
    void *tether;
    const pinti_catalog_header *header; /* = catalog */
    uint64_t data_bytes;                /* copies, taken once and checked at join */
    uint64_t sync_bytes;
    uint32_t n_slabs;
    uint32_t session_index;
    uint64_t session_id;
    uint64_t family;
    bool writable; /* sync and data are mapped for writing */
    char *address; /* socket path */

    /* ---- this process ---- */
    pinti_a64 fork_word;  /* *pinti_fork_word when the session was made; see host/fork.h */
    pinti_a64 serial;     /* << 32: no other session of this process has or had it */
    uint64_t held_bits;   /* what a plain claim puts into a chunk word beside seq and mask */
    pthread_mutex_t lock; /* descriptor tables; taken after fork_lock */
    pthread_mutex_t fork_lock;
    pthread_mutex_t dict_lock; /* indexes of categories, host/dict.c; the last one to be taken */
    pthread_mutex_t view_lock; /* the three below; taken after lock, and nothing after it */
    struct pint_view *views;   /* writable views of this process (host/writable_view.h) */
    uint32_t view_hint;        /* no place in the slot below it is free */
    struct pinti_table_entry *tables;    /* [PINTI_TABLES_MAX] by index: what is cached; sparse */
    struct pinti_table_head *heads;      /* [PINTI_TABLE_HEADS_MAX], sparse, used from the start */
    struct pinti_table_head *free_heads; /* under lock */
    uint32_t n_heads;                    /* ever used; under lock */
    struct pinti_job_desc **jobs;
    pinti_a32 *job_gens;
    _Atomic uint32_t intent_hint; /* where the next free intent may be */
    pinti_a32 n_lease_sets;       /* of all its tables; changed under lock */

    /* slot references as they were at fork(), taken by the prepare handler; for rejoin */
    uint64_t *fork_table_refs; /* [n_fork_tables] reference words */
    uint64_t *fork_job_refs;
    uint32_t n_fork_tables;
    uint32_t n_fork_jobs;

    pinti_a32 n_holds; /* pint_pool_leave() is one less: see pinti_pool_hold() */

    const pinti_pool_ops *ops;
    void *client;           /* ipc's */
    struct pint_pool *next; /* list of all pools of the process, for the fork handlers */
};

/* Map the segments from descriptors (borrowed) and check them: sizes, seals, header. fds in the
 * order catalog, sync, data, bell, slot, tether. Fills the segment part of pool; on error nothing
 * stays mapped. */
#define PINTI_POOL_FDS 6
pint_status pinti_pool_map(pint_pool *pool, const int fds[PINTI_POOL_FDS], bool writable,
                           uint64_t session_id, uint32_t session_index, pint_error *err);
void pinti_pool_unmap(pint_pool *pool);

/* Map a new slot and tether for the forked child (after the old tether stays until refs are taken
 * over; the old slot mapping does not exist in the child). Re-references what was open. */
pint_status pinti_pool_remap_session(pint_pool *pool, int slot_fd, int tether_fd,
                                     uint64_t session_id, uint32_t session_index, pint_error *err);

/* Allocate / free the process-local part (descriptor tables, locks, list of pools). */
pint_status pinti_pool_init(pint_pool *pool, pint_error *err);
void pinti_pool_done(pint_pool *pool);

/*
 * Who has given a driver addresses of the pool's memory holds the pool: it is unmapped, and the
 * session ends, when the handle has been left and the last hold is given back. Made with one hold,
 * the handle's own.
 */
void pinti_pool_hold(pint_pool *pool);
void pinti_pool_let_go(pint_pool *pool);

/* In a forked child: a hold of the parent's, which nobody will give back here. */
void pinti_pool_forget_hold(pint_pool *pool);

/* The word of this process: another one after fork() (host/fork.c). */
extern const pinti_a64 *pinti_fork_word __attribute__((visibility("hidden")));

/* Its low half, which tells a process from its ancestors up to 2^32 forks back. */
static inline uint32_t pinti_fork_word32(void)
{
    return (uint32_t)pinti_load64_relaxed(pinti_fork_word); /* relaxed: as in pinti_pool_enter() */
}

pint_status pinti_pool_enter_slow(pint_pool *pool, pint_error *err);

/* Was the session made by this process? */
static inline bool pinti_pool_is_entered(const pint_pool *pool)
{
    /* relaxed: the word changes only by fork(), seen by the child's first thread; acquire: a slot
     * that a sibling thread has just rejoined with; pairs with pinti_pool_enter_slow() */
    return __builtin_expect(
        pinti_load64_relaxed(pinti_fork_word) == pinti_load64_acquire(&pool->fork_word), 1);
}

/* The session may be used: same process as at join, else rejoin. One load when all is well. Every
 * call that touches the slot or claims anything starts with it. */
static inline pint_status pinti_pool_enter(pint_pool *pool, pint_error *err)
{
    return pinti_pool_is_entered(pool) ? PINT_OK : pinti_pool_enter_slow(pool, err);
}

/* The same for calls that close something and cannot tell that they were interrupted. */
static inline pint_status pinti_pool_enter_to_close(pint_pool *pool)
{
    if (pinti_pool_is_entered(pool)) {
        return PINT_OK;
    }
    pinti_interrupt_hold();
    const pint_status status = pinti_pool_enter_slow(pool, NULL);
    pinti_interrupt_release();
    return status;
}

/* R11: count one more, or one less, reference of this session on (index, generation). refs: the
 * slot's words of tables or jobs. Taking fails when another generation is still referred to;
 * dropping fails when none is held. */
bool pinti_ref_take(pinti_a64 *refs, uint32_t index, uint32_t generation);
bool pinti_ref_take_patiently(pinti_a64 *refs, uint32_t index, uint32_t generation);
bool pinti_ref_drop(pinti_a64 *refs, uint32_t index, uint32_t generation);

/* Taking failed: a sibling thread is between its reference on another generation and its second
 * look at the record, and takes the reference back at once. Yield to it; false after a second of
 * that. *start_ms: 0 at first. pinti_ref_take_patiently() does both. */
bool pinti_ref_wait_for_sibling(int64_t *start_ms);

static inline bool pinti_pool_is_stale(const pint_pool *pool)
{
    /* seq: after the store to the slot, as the service stores stale before it reads slots (R3) */
    return pinti_load32_seq(&((const pinti_slot_header *)(const void *)pool->slot)->xstale) != 0;
}

/* Take a reference (open) on a table or job that the service just made for this session, whatever
 * its record state; used by create and by rejoin. */
pint_status pinti_table_adopt(pint_pool *pool, uint32_t index, uint32_t generation, uint32_t mode,
                              pint_table **out_table, pint_error *err);
uint32_t pinti_table_index(const pint_table *table);
uint32_t pinti_table_generation(const pint_table *table);

#endif
