/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_JOB_H
#define HOST_JOB_H

/*
 * Jobs as this process sees them, and the lease sets that leases with undo are made of: a lease set
 * is an unnamed job whose chunks go back to PENDING instead of DONE.
 */

#include "host/claim.h"

struct pinti_job_desc;

struct pint_job {
    struct pinti_job_desc *desc;
};

/* One column of a job. Offsets are into an undo buffer; only INOUT columns have them. */
typedef struct pinti_job_use {
    const pinti_column_desc *column;
    uint32_t index;
    uint32_t use;              /* PINT_IN, PINT_OUT, PINT_INOUT */
    pinti_a8 *operation_locks; /* of the column, by chunk; see host/job_chunk.c. NULL for PINT_IN */
    uint64_t undo_values_off;
    uint64_t undo_validity_off;
} pinti_job_use;

typedef struct pinti_job_desc {
    uint64_t serial; /* no other descriptor of this process has or had it */
    pint_pool *pool;
    pinti_table_desc *table; /* kept alive by the reference each handle holds on the table */
    const pinti_job_rec *rec;
    uint32_t index;
    uint32_t generation;
    uint32_t n_chunks;
    uint32_t n_undo;
    bool is_lease_set;
    bool has_inout;
    pinti_a64 *words;
    pinti_a64 *undo_words;
    pinti_job_sync *sync;
    pinti_fail_text *fails;
    char *undo;
    uint64_t undo_bytes;
    pinti_a32 xscan_from; /* chunks before it are DONE or FAILED, as this process has seen */
    struct pint_job handle;
    uint32_t n_uses;
    pinti_job_use uses[]; /* ascending by column: claims go in this order (R7) */
} pinti_job_desc;

/* The undo leases of one column set, on a table's list. */
struct pinti_lease_set {
    struct pinti_lease_set *next;
    pint_job *job;
};

/* A lease as the library uses it; the same bytes as pint_lease. */
typedef struct pinti_lease {
    uint64_t first;
    uint64_t n_rows;
    uint64_t chunk;
    void *owner;   /* pinti_table_desc (plain), pinti_job_desc (job, undo) */
    uint64_t word; /* plain with one column: as claimed; job: the LEASED word */
    union {
        uint32_t place;     /* or PINTI_INTENT_NONE */
        pinti_a64 *entry;   /* plain, one column; NULL: none */
        uint32_t n_columns; /* plain, several: each part has its intent */
    } intent;
    uint32_t process; /* pinti_fork_word32() at the claim: a lease is void in a forked child */
    uint32_t kind;    /* enum pinti_lease_kind */
    union {
        pinti_a64 *word_at;             /* plain, one column: its chunk word */
        struct pinti_lease_part *parts; /* plain, several: allocated, ascending */
    } u;
} pinti_lease;

struct pinti_lease_part {
    uint64_t word;
    uint32_t column;
    uint32_t reserved;
};

enum pinti_lease_kind {
    PINTI_LEASE_VOID = 0,
    PINTI_LEASE_PLAIN = 0x51, /* several columns */
    PINTI_LEASE_ONE = 0x52,   /* plain, one column */
    PINTI_LEASE_UNDO = 0x53,
    PINTI_LEASE_JOB = 0x54
};

_Static_assert(sizeof(pinti_lease) == sizeof(pint_lease), "a lease is plain data");

/* ---- host/job_chunk.c: one chunk through its states ------------------------------------------ */

enum pinti_take {
    PINTI_TAKEN = 0,
    PINTI_TAKE_BUSY = 1,    /* the job word or a column is held by another session */
    PINTI_TAKE_OWN = 2,     /* the same, by this session */
    PINTI_TAKE_OVER = 3,    /* DONE or FAILED */
    PINTI_TAKE_TORN = 4,    /* a torn column that is not rewritten; err says which */
    PINTI_TAKE_NO_UNDO = 5, /* every undo buffer is in use */
    PINTI_TAKE_FROZEN = 6,  /* the table was frozen; err says so */
    PINTI_TAKE_AHEAD = 7    /* a column that is read is newest on a device; err says which */
};

/* Try to take one chunk: PENDING or REDO -> LEASED. Fills lease on PINTI_TAKEN. */
enum pinti_take pinti_job_take(pinti_job_desc *job, uint64_t chunk, pinti_lease *lease,
                               pint_error *err);

/* Does this session hold every undo buffer? Then waiting for one may be waiting for oneself. */
bool pinti_job_undo_is_own(const pinti_job_desc *job);

/* R1, the one commit point. False: not held. */
bool pinti_job_commit(pinti_job_desc *job, const pinti_lease *lease);

enum pinti_abandon {
    PINTI_ABANDON_FREELY,  /* no attempt is counted */
    PINTI_ABANDON_FAILED,  /* one more attempt */
    PINTI_ABANDON_REJECTED /* the last attempt */
};

/* The holder gives up: old bytes back, PENDING again, or FAILED after the last attempt. False: not
 * held. */
bool pinti_job_abandon(pinti_job_desc *job, const pinti_lease *lease, enum pinti_abandon how);

/* A claimer of something else met RESTORE in this chunk: find the job word in REDO and put the
 * bytes back on its behalf. False: nothing to be done now (another does it, or it is not REDO yet).
 */
bool pinti_chunk_restore(pinti_table_desc *table, uint64_t chunk);

/* ---- host/job.c ------------------------------------------------------------------------------ */

pint_status pinti_lease_set_get(pint_table *table, const uint32_t *columns, uint32_t n_columns,
                                pinti_job_desc **out_job, pint_error *err);
void pinti_lease_sets_close(pint_pool *pool, uint32_t table, uint32_t generation);
void pinti_job_descs_free(pint_pool *pool);

/* Is the job's record still that of this descriptor? To be asked after a word of it was read. */
bool pinti_job_is_there(const pinti_job_desc *job);

/* Open a job of a table by index: reference, descriptor. */
pint_status pinti_job_open(pint_table *table, uint32_t index, uint32_t generation,
                           pint_job **out_job, pint_error *err);

#endif
