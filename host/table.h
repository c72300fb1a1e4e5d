/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_TABLE_H
#define HOST_TABLE_H

/*
 * An open table as this process sees it. One descriptor per (index, generation), made at the first
 * open, its offsets checked once then, kept until another generation takes the index or the pool
 * is left. A handle is a descriptor and a mode; opens are counted in the session's slot.
 *
 * Why a descriptor may be followed without a lock: whoever follows it holds a reference on its
 * generation in the slot, and the service gives the index to another generation only when no slot
 * refers to the old one.
 */

#include <string.h>

#include "host/pool.h"

struct pint_table {
    struct pinti_table_desc *desc;
    uint32_t mode; /* PINT_READ, or PINT_READ | PINT_WRITE */
};

/* The handles of a descriptor, and all that closing needs of it: one cache line, close to those of
 * other tables, so that 10,000 tables in use take 160 pages and not a page each. */
struct pinti_table_head {
    _Alignas(PINTI_CACHE_LINE) pint_table handles[2]; /* [0] to read, [1] to write */
    pint_pool *pool;
    uint32_t index;
    uint32_t generation;
    struct pinti_table_head *next; /* while it is free */
};

/* Two for each table: descriptors that forked children must keep are not used again. */
#define PINTI_TABLE_HEADS_MAX (2u * PINTI_TABLES_MAX)

_Static_assert(sizeof(struct pinti_table_head) == PINTI_CACHE_LINE, "one line");

static inline const struct pinti_table_head *pinti_table_head_of(const pint_table *table)
{
    return (const struct pinti_table_head *)(const void *)(table -
                                                           ((table->mode & PINT_WRITE) != 0));
}

/* Metadata as it lies in the data segment. Checked when it is described: inside the segment, not
 * over the limit. NULL and 0 for none. */
typedef struct pinti_metadata {
    char *at;
    uint64_t bytes;
} pinti_metadata;

struct pinti_dict;

struct pinti_table_desc;

typedef struct pinti_column_desc {
    /* the first cache line is all that claiming needs of column and table, one load away: what a
     * claim costs beyond its locked operation is instructions */
    _Alignas(PINTI_CACHE_LINE) pinti_a64 *words; /* n_chunks */
    pint_pool *pool;
    struct pinti_table_desc *table;
    const pinti_table_rec *table_rec;
    uint64_t intent; /* of a plain lease, for chunk 0 */
    uint64_t n_rows;
    uint64_t chunk_rows;
    uint32_t n_chunks;
    uint32_t reserved;
    /* the second */
    const pinti_column_rec *rec;
    uint32_t type;
    uint32_t row_bytes; /* 0 for bits and text */
    pinti_column_state *state;
    char *values;      /* NULL for text */
    uint8_t *validity; /* NULL when not nullable */
    int64_t *offsets;  /* text */
    char *data;        /* text, or text of categories */
    int64_t *dict_offsets;
    uint64_t data_bytes;
    uint64_t n_categories;
    struct pinti_dict *dict; /* index of the categories, host/dict.c; under pool->dict_lock */
    struct pint_view *view;  /* writable views; under pool->view_lock; NULL: there were none */
    pinti_metadata metadata;
    char name[PINTI_NAME_BYTES_MAX + 1];
    char zone[64];
} pinti_column_desc;

/* Operation locks of some columns, n_chunks each: see host/job_chunk.c. NULL until a job is opened;
 * under pool->lock. */
typedef struct pinti_lock_map {
    pinti_a8 *locks;
    size_t bytes;
} pinti_lock_map;

/* Columns that were added since the descriptor was made (host/column_block.c). A block is never
 * moved and not freed before the descriptor. */
typedef struct pinti_column_block {
    uint32_t first; /* position of its first column */
    uint32_t room;
    uint32_t n_buckets;  /* power of two, at least twice room */
    pinti_a32 *xbuckets; /* column index + 1 by hash of the name; stored when the column is complete
                          */
    pinti_lock_map map;
    pinti_column_desc columns[];
} pinti_column_block;

#define PINTI_COLUMN_BLOCKS (PINTI_COLUMN_RUNS - 1u) /* of rooms as those of runs 1, 2, ... */

typedef struct pinti_table_desc {
    /* the first cache line is all that committing touches */
    struct pinti_table_head *head;
    pint_pool *pool;
    const pinti_table_rec *rec;
    pinti_bell *bell;
    uint64_t n_rows;
    uint64_t chunk_rows;
    uint32_t index;
    uint32_t chunk_shift; /* log2(chunk_rows) */
    uint32_t n_chunks;
    pinti_a32 xn_columns; /* described: those below it are complete (acquire) */
    /* the second */
    struct pinti_lease_set *lease_sets; /* leases with undo used so far; under pool->lock */
    uint32_t generation;
    uint32_t n_first;   /* columns when the descriptor was made */
    uint32_t n_buckets; /* power of two, at least twice n_first */
    uint32_t *buckets;  /* column index + 1 by hash of the name, of the n_first */
    pinti_lock_map map; /* of the n_first */
    pinti_metadata metadata;
    pinti_column_block *blocks[PINTI_COLUMN_BLOCKS]; /* further columns, in order; NULL: not yet */
    pinti_column_desc columns[];                     /* n_first */
} pinti_table_desc;

_Static_assert(offsetof(pinti_column_desc, rec) == PINTI_CACHE_LINE, "first line");
_Static_assert(offsetof(pinti_table_desc, lease_sets) == PINTI_CACHE_LINE, "first line");
_Static_assert(sizeof(void *) == sizeof(uint64_t), "a pointer fills pint_column.reserved[0], [1]");

/* The library's own view of a column: in pint_column.reserved[0], so that it need not be looked for
 * again. */
static inline const pinti_column_desc *pinti_column_desc_of(const pint_column *column)
{
    const pinti_column_desc *desc;
    memcpy(&desc, &column->reserved[0], sizeof(column->reserved[0]));
    return desc;
}

/* The same in pint_column.reserved[1], if the column may be claimed through it: the table was
 * opened for writing, and it is not text. Else NULL, and pint_lease_claim() finds out what is
 * wrong. */
static inline const pinti_column_desc *pinti_column_desc_claimable(const pint_column *column)
{
    const pinti_column_desc *desc;
    memcpy(&desc, &column->reserved[1], sizeof(column->reserved[1]));
    return desc;
}

/* The same, for what this process adds to its view under a lock of its own. */
static inline pinti_column_desc *pinti_column_desc_own(const pint_column *column)
{
    pinti_column_desc *desc;
    memcpy(&desc, &column->reserved[0], sizeof(column->reserved[0]));
    return desc;
}

const pinti_column_desc *pinti_column_desc_added(const pinti_table_desc *desc, uint32_t index);

/* By position, below a value of xn_columns that was loaded with acquire, by this thread or by one
 * that it had the position from. */
static inline const pinti_column_desc *pinti_column_desc_at(const pinti_table_desc *desc,
                                                            uint32_t index)
{
    return __builtin_expect(index < desc->n_first, 1) ? &desc->columns[index]
                                                      : pinti_column_desc_added(desc, index);
}

/* Find one of the columns behind the first, describing what was added meanwhile. False: no such
 * name; or, with err->status, no memory or a record that cannot be. */
bool pinti_column_find_added(pinti_table_desc *desc, const char *name, uint64_t hash,
                             uint32_t *out_index, pint_error *err);

/* Describe what was added to the table since; the second under pool->lock. PINT_E_NO_MEMORY,
 * PINT_E_CORRUPT. */
pint_status pinti_columns_extend(pinti_table_desc *desc, pint_error *err);
pint_status pinti_columns_extend_locked(pinti_table_desc *desc, pint_error *err);

/* Operation locks of the column at a position: n_chunks of them, NULL for none. Under pool->lock.
 * False: no memory. */
bool pinti_operation_locks(pinti_table_desc *desc, uint32_t index, pinti_a8 **out_locks);

/* ---- between host/column_block.c and table.c ------------------------------------------------- */

/* Fill and check the view of one column, by its position. False: its record cannot be. */
bool pinti_column_describe(pinti_table_desc *desc, uint32_t index, const pinti_column_rec *rec,
                           pinti_column_desc *column);

/* What columns.c made for a descriptor that is freed. */
void pinti_columns_free(pinti_table_desc *desc);

/* ---- checks ---------------------------------------------------------------------------------- */

/* May this handle change the table now? PINT_E_PERMISSION, PINT_E_FROZEN. */
pint_status pinti_table_check_write(const pint_table *table, const char *operation,
                                    pint_error *err);

/* After a claim: was the table frozen before it? seq: after the claim's swap; pairs with the
 * service, which stores the flag first and looks for held words after. If so the claim is taken
 * back. */
static inline bool pinti_table_is_frozen_after_claim(const pinti_table_rec *rec)
{
    return (pinti_load64_seq(&rec->xgen_state) & PINTI_RECORD_FROZEN) != 0;
}

/* Before a table is published, by its creator: rows behind the last text that was put are empty.
 * More text may be put afterwards if publishing fails. */
void pinti_text_finish(const pint_table *table);

/* Rows of a chunk: chunk_rows but for the last. */
static inline uint64_t pinti_chunk_rows_of(const pinti_table_desc *desc, uint64_t chunk)
{
    const uint64_t left = desc->n_rows - (chunk << desc->chunk_shift);
    return left < desc->chunk_rows ? left : desc->chunk_rows;
}

/* host/metadata.c. False: the record's offset and size cannot be. */
bool pinti_metadata_map(const pint_pool *pool, uint64_t off, uint64_t bytes,
                        pinti_metadata *out_metadata);

/* host/dict.c. NULL is allowed. */
void pinti_dict_free(struct pinti_dict *dict);

/* Text i of offsets into a column's text, each read once and checked against the room. */
pint_status pinti_text_slice(const pinti_column_desc *desc, const int64_t *offsets, uint64_t i,
                             const char **out_text, uint64_t *out_bytes, pint_error *err);

void pinti_table_descs_free(pint_pool *pool);

#endif
