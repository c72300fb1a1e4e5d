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

typedef struct pinti_column_desc {
    pinti_a64 *words; /* n_chunks */
    uint32_t type;
    uint32_t row_bytes; /* 0 for bits and text */
    const pinti_column_rec *rec;
    pinti_column_state *state;
    char *values;      /* NULL for text */
    uint8_t *validity; /* NULL when not nullable */
    int64_t *offsets;  /* text */
    char *data;        /* text, or text of categories */
    int64_t *dict_offsets;
    uint64_t data_bytes;
    uint64_t n_categories;
    char name[PINTI_NAME_BYTES_MAX + 1];
    char zone[64];
} pinti_column_desc;

typedef struct pinti_table_desc {
    /* the first cache line is all that claiming touches */
    struct pinti_table_head *head;
    pint_pool *pool;
    const pinti_table_rec *rec;
    uint32_t index;
    uint32_t generation;
    pinti_bell *bell;
    uint64_t n_rows;
    uint64_t chunk_rows;
    uint32_t chunk_shift; /* log2(chunk_rows) */
    uint32_t n_chunks;
    uint32_t n_columns;
    /* the second */
    struct pinti_lease_set *lease_sets; /* leases with undo used so far; under pool->lock */
    uint32_t n_buckets;                 /* power of two, at least twice n_columns */
    uint32_t *buckets;                  /* column index + 1 by hash of the name */
    pinti_a8 *operation_locks;          /* see host/job_chunk.c; NULL until a job is opened */
    pinti_column_desc columns[];
} pinti_table_desc;

_Static_assert(offsetof(pinti_table_desc, lease_sets) >= PINTI_CACHE_LINE, "first line");

static inline const pinti_column_desc *pinti_column_desc_of(const pint_column *column)
{
    return &column->table->desc->columns[column->index];
}

/* May this handle change the table now? PINT_E_PERMISSION, PINT_E_FROZEN. */
pint_status pinti_table_check_write(const pint_table *table, const char *operation,
                                    pint_error *err);

/* After a claim: was the table frozen before it? seq: after the claim's swap; pairs with the
 * service, which stores the flag first and looks for held words after. If so the claim is taken
 * back. */
static inline bool pinti_table_is_frozen_after_claim(const pinti_table_desc *desc)
{
    return (pinti_load64_seq(&desc->rec->xgen_state) & PINTI_RECORD_FROZEN) != 0;
}

/* Before a table is published, by its creator: rows behind the last text that was put are empty.
 * More text may be put afterwards if publishing fails. */
void pinti_text_finish(const pint_table *table);

/* Rows of a chunk: chunk_rows but for the last. */
static inline uint64_t pinti_chunk_rows_of(const pinti_table_desc *desc, uint64_t chunk)
{
    const uint64_t first = chunk << desc->chunk_shift;
    const uint64_t left = desc->n_rows - first;
    return left < desc->chunk_rows ? left : desc->chunk_rows;
}

void pinti_table_descs_free(pint_pool *pool);

#endif
