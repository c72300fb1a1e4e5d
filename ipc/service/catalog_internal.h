/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_CATALOG_INTERNAL_H
#define IPC_SERVICE_CATALOG_INTERNAL_H

/*
 * Inside of the catalog's writer: catalog.c (life of the object, rebuild), catalog_index.c (names),
 * catalog_table.c, catalog_columns.c, catalog_job.c, catalog_copy.c, catalog_reap.c.
 *
 * What a crash leaves: a record counts from the release store of its xgen_state on. Extents, column
 * records and uses count only while a record that is not FREE points at them. So everything is
 * written before xgen_state says BUILDING or LIVE, and nothing has to be taken back. Only rename,
 * publish with replace and the adding of columns change several words that belong together; they
 * are noted in the journal first and finished by rebuild.
 */

#include "host/crash.h"
#include "host/word.h"
#include "ipc/service/catalog.h"

/* A change of several words in progress, in the catalog's first page behind the header. Private to
 * the service. Rebuild carries it through to the end. */
typedef struct pinti_journal {
    pinti_a64 xtable; /* generation << 32 | table index + 1, stored last (release); 0: none */
    uint32_t kind;
    uint32_t replaced;   /* PUBLISH: index + 1 of the table that loses the name */
    uint32_t name_bytes; /* RENAME: the new name */
    uint32_t reserved;
    union {
        uint64_t name[PINTI_NAME_WORDS];
        struct pinti_journal_columns { /* COLUMNS: catalog_columns.c; the table is the target */
            uint32_t donor;            /* index */
            uint32_t donor_generation;
            uint32_t extent;      /* of the donor: index + 1 */
            uint32_t next_extent; /* first of the target before: index + 1, 0 for none */
            uint32_t n_columns;   /* of the target afterwards */
            uint32_t schema_generation;
            uint64_t bytes; /* of the target afterwards */
        } columns;
    };
} pinti_journal;

enum pinti_journal_kind {
    PINTI_JOURNAL_RENAME = 1,
    PINTI_JOURNAL_PUBLISH = 2,
    PINTI_JOURNAL_COLUMNS = 3
};

#define PINTI_CAT_JOURNAL_OFF 1024u
_Static_assert(PINTI_CAT_JOURNAL_OFF >= sizeof(pinti_catalog_header), "layout 3");
_Static_assert(PINTI_CAT_JOURNAL_OFF + sizeof(pinti_journal) <= PINTI_CAT_DEVICES_OFF, "layout 3");

/* What the process knows beside a table's record; lists are linked by index + 1, 0 ends. */
struct pinti_cat_table {
    uint32_t uid;          /* is charged for it */
    uint32_t next_request; /* tables in the same request bucket */
    uint32_t jobs;         /* first job */
    uint32_t n_donors;     /* DYING tables whose columns moved here: see catalog_columns.c */
    uint32_t n_copies;     /* device copies that are not FREE */
};

struct pinti_cat_job {
    uint32_t uid;
    uint32_t next; /* of the same table */
};

struct pinti_cat_copy {
    bool has_memory; /* its bytes are counted */
};

#define PINTI_REQUEST_BUCKETS (1u << 14)

struct pinti_cat {
    void *catalog;
    pinti_catalog_header *header;
    pinti_table_rec *tables;
    pinti_job_rec *jobs;
    pinti_copy_rec *copies;
    pinti_extent *extents;
    uint32_t *uses;
    pinti_column_rec *columns;
    pinti_a64 *index;
    pinti_memory *memory;
    uint32_t n_cpus;

    /* free numbers in the catalog's areas */
    pinti_ranges free_tables;
    pinti_ranges free_jobs;
    pinti_ranges free_extents;
    pinti_ranges free_columns;
    pinti_ranges free_uses;
    pinti_ranges free_copies;

    struct pinti_cat_table *table_info; /* [PINTI_TABLES_MAX], sparse */
    struct pinti_cat_job *job_info;     /* [PINTI_JOBS_MAX], sparse */
    struct pinti_cat_copy *copy_info;   /* [PINTI_COPIES_MAX] */
    uint64_t device_bytes[PINTI_DEVICES_MAX];
    uint32_t *request_buckets; /* [PINTI_REQUEST_BUCKETS] */
    uint32_t n_building;
    uint32_t n_live;
    uint32_t n_kept;  /* of the live */
    uint32_t n_dying; /* tables, jobs and copies */

    bool (*needs_undo)(void *ctx, const pinti_job_rec *job);
    void *needs_undo_ctx;
    void (*on_copy_free)(void *ctx, uint32_t copy);
    void *on_copy_free_ctx;
};

/* ---- catalog.c ---- */

static inline uint32_t pinti_cat_state(const pinti_a64 *gen_state)
{
    /* The service alone writes records; it reads its own stores. */
    return pinti_state_of(pinti_load64_relaxed(gen_state));
}

/* Does index name the table (job) of this generation in a state other than FREE? */
bool pinti_cat_has_table(const pinti_cat *cat, uint32_t index, uint32_t generation);
bool pinti_cat_has_job(const pinti_cat *cat, uint32_t index, uint32_t generation);

/* The generation after the one in gen_state; never 0. */
uint32_t pinti_cat_next_generation(const pinti_a64 *gen_state);

/* The record's name as text. Returns out. */
const char *pinti_cat_name(const pinti_table_rec *rec, char out[PINTI_NAME_BYTES_MAX + 1]);

/* Take one number (a run of n numbers) that is free, the lowest. False: none. */
bool pinti_cat_take_number(pinti_ranges *numbers, uint32_t n, uint32_t *out_first);

/* The memory of one extent, by index + 1: bytes 0 for none. */
pinti_range pinti_cat_extent(const pinti_cat *cat, uint32_t first_extent);

/* Store another state, keeping generation and flags, ordered before later loads (slots). */
void pinti_cat_set_state(pinti_a64 *gen_state, enum pinti_record_state state);

/* The journal of the mapped catalog. */
static inline pinti_journal *pinti_cat_journal(const pinti_cat *cat)
{
    return (pinti_journal *)(void *)((char *)cat->catalog + PINTI_CAT_JOURNAL_OFF);
}

/* Arm the journal, its fields being filled, for a table that is not FREE; and disarm it. */
void pinti_cat_journal_begin(pinti_cat *cat, enum pinti_journal_kind kind, uint32_t table);
void pinti_cat_journal_end(pinti_cat *cat);

/* Link a table into its request bucket; a job into its table's list. */
void pinti_cat_link_request(pinti_cat *cat, uint32_t index);
void pinti_cat_unlink_request(pinti_cat *cat, uint32_t index);
void pinti_cat_link_job(pinti_cat *cat, uint32_t job);
void pinti_cat_unlink_job(pinti_cat *cat, uint32_t job);

/* ---- catalog_index.c ---- */

/* The live table of this name: index + 1, or 0. */
uint32_t pinti_index_find(const pinti_cat *cat, const pinti_name *name, uint32_t *out_place);

/* Add an entry; never full (half of the places at most are used). */
void pinti_index_insert(pinti_cat *cat, uint64_t hash, uint32_t table_index);

/* One store: the entry at place names another table of the same name. */
void pinti_index_swap(pinti_cat *cat, uint32_t place, uint32_t table_index);

/* Remove the entry of this hash and table if there is one, moving later ones back. */
void pinti_index_remove(pinti_cat *cat, uint64_t hash, uint32_t table_index);

/* The hash of the record's present name. */
uint64_t pinti_index_hash(const pinti_table_rec *rec);

/* Is every live table found under its name, and nothing else in the index? Else make it so. */
void pinti_index_repair(pinti_cat *cat);

/* An odd xindex_seq: misses do not count. Also around a publish with replace. */
void pinti_index_begin_moving(pinti_cat *cat);
void pinti_index_end_moving(pinti_cat *cat);

/* ---- catalog_table.c ---- */

/* Carry a journalled change through that was cut off. Before the index is repaired. */
void pinti_cat_finish_journal(pinti_cat *cat);

/* LIVE or BUILDING -> DYING and out of the index, its jobs too. */
void pinti_cat_table_kill(pinti_cat *cat, uint32_t index);

/* ---- catalog_columns.c ---- */

/* How many of a table's runs are in use: those that xn_columns reaches. */
uint32_t pinti_cat_n_runs(const pinti_table_rec *rec);

/* The sync block that came with this column, the first of its block: bytes 0 for none. */
pinti_range pinti_cat_column_block(const pinti_column_rec *column);

/* Carry a journalled adding of columns through: its steps may have been taken before. */
void pinti_cat_finish_columns(pinti_cat *cat, uint32_t target, const pinti_journal *journal);

/* ---- catalog_job.c ---- */

void pinti_cat_job_kill(pinti_cat *cat, uint32_t job); /* LIVE -> DYING */

/* ---- catalog_copy.c ---- */

/* After the tables. A copy that was being made is DYING afterwards. */
pint_status pinti_cat_rebuild_copies(pinti_cat *cat, pint_error *err);
uint32_t pinti_cat_reap_copies(pinti_cat *cat,
                               bool (*refers)(void *ctx, int kind, uint32_t index,
                                              uint32_t generation),
                               void *ctx);

#endif
