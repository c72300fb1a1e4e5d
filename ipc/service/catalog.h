/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_CATALOG_H
#define IPC_SERVICE_CATALOG_H

/*
 * The service's side of the catalog: makes, publishes, renames, drops and frees tables and jobs.
 * Pure memory operations on the mapped catalog plus process-local indexes that
 * pinti_cat_rebuild() makes from it, so that a new incarnation goes on where the last one died.
 * Every change is ordered so that a crash between any two stores leaves the old or the new state.
 * No sockets, no JSON, no system calls.
 */

#include "host/layout.h"
#include "host/name.h"
#include "ipc/service/memory.h"
#include "pintable/types.h"

/* A checked, owned schema as the service keeps it while a table is being created. */
typedef struct pinti_schema {
    char name[PINTI_NAME_BYTES_MAX + 1];
    uint64_t n_rows;
    uint64_t chunk_rows; /* 0: choose */
    uint32_t flags;      /* PINT_UNINITIALISED, PINT_KEPT */
    uint32_t n_columns;
    uint32_t room;
    uint64_t metadata_bytes; /* of the table: room for what its creator writes */
    struct pinti_schema_column {
        char name[PINTI_NAME_BYTES_MAX + 1];
        char zone[64];
        uint32_t type, flags, unit, width_bytes, list_length, item_type;
        uint64_t data_bytes, n_categories, metadata_bytes;
    } * columns;
} pinti_schema;

/* Who asks. */
typedef struct pinti_owner {
    uint64_t session, request, family;
    uint32_t uid, gid;
} pinti_owner;

typedef struct pinti_cat pinti_cat; /* process-local state around one mapped catalog */

/* catalog: writable mapping of PINTI_CAT_BYTES, formatted. memory: made from the same catalog,
 * borrowed for the object's life. NULL: out of memory. Call pinti_cat_rebuild() next. */
pinti_cat *pinti_cat_new(void *catalog, pinti_memory *memory);
void pinti_cat_free(pinti_cat *cat);

/* Write the header of a fresh catalog (n_slabs etc. from the given sizes). */
void pinti_cat_format(void *catalog, uint64_t data_bytes, uint64_t sync_bytes,
                      uint64_t budget_bytes, const uint64_t pool_id[2]);

/* Read what is there, in any incarnation: finish or undo half-made changes (BUILDING records of
 * dead creators stay until their session ends), rebuild the name index if a move was cut off, mark
 * extents and sync ranges as used in memory. */
pint_status pinti_cat_rebuild(pinti_cat *cat, pint_error *err);

/* Check a schema: everything docs/protocol.md and pintable/types.h promise, with the limit in the
 * message. Sets chunk_rows. */
pint_status pinti_cat_check_schema(pinti_schema *schema, pint_error *err);

/* Bytes of data and sync memory that a checked schema needs. */
pint_status pinti_cat_measure(const pinti_schema *schema, uint64_t *out_data_bytes,
                              uint64_t *out_sync_bytes, pint_error *err);

/* Make the record (BUILDING) in memory already allocated and prepared by pinti_memory. On error
 * the ranges stay the caller's. */
pint_status pinti_cat_create(pinti_cat *cat, const pinti_schema *schema, const pinti_owner *owner,
                             const pinti_range *data, const pinti_range *sync, uint32_t *out_index,
                             uint32_t *out_generation, pint_error *err);

/* The table a session made with this request number, if it is still there and was not dropped:
 * repeated creates. */
bool pinti_cat_find_request(pinti_cat *cat, uint64_t session, uint64_t request, uint32_t *out_index,
                            uint32_t *out_generation);

/* Live table by name. PINT_E_NOT_FOUND. */
pint_status pinti_cat_find(pinti_cat *cat, const char *name, uint32_t *out_index,
                           uint32_t *out_generation, pint_error *err);

/* With replace, a live table of the name is dropped in the same step. PINT_E_EXISTS, PINT_E_STATE:
 * published before. */
pint_status pinti_cat_publish(pinti_cat *cat, uint32_t index, uint32_t generation, bool replace,
                              pint_error *err);
pint_status pinti_cat_rename(pinti_cat *cat, uint32_t index, uint32_t generation,
                             const char *new_name, pint_error *err);
pint_status pinti_cat_freeze(pinti_cat *cat, uint32_t index, uint32_t generation, pint_error *err);

/* Take a freeze back at once, because a chunk turned out to be held: nobody was promised anything.
 */
void pinti_cat_thaw(pinti_cat *cat, uint32_t index, uint32_t generation);
pint_status pinti_cat_keep(pinti_cat *cat, uint32_t index, uint32_t generation, bool keep,
                           pint_error *err);

/* From now on uid is charged for the table and its jobs (it holds them after their drop). */
void pinti_cat_charge(pinti_cat *cat, uint32_t index, uint32_t generation, uint32_t uid);

/* Move every column of a BUILDING table of this session into a LIVE one (catalog_columns.c).
 * PINT_OK also when that was done before. Errors: see pint_table_add_columns(). */
pint_status pinti_cat_add_columns(pinti_cat *cat, uint32_t target, uint32_t target_generation,
                                  uint32_t donor, uint32_t donor_generation, uint64_t session,
                                  pint_error *err);

/* LIVE or BUILDING -> DYING (sequentially consistent) and out of the index; its jobs too. */
pint_status pinti_cat_drop(pinti_cat *cat, uint32_t index, uint32_t generation, pint_error *err);

/* Jobs. uses: column << 2 | (use - 1), in any order, checked and sorted here. See
 * pinti_pool_ops.create_job. find: PINT_E_EXISTS when the job of that name has other uses,
 * PINT_E_NOT_FOUND; n_uses 0 finds by name alone. create: only after find said PINT_E_NOT_FOUND.
 * n_undo 0: chosen. */
pint_status pinti_cat_job_find(pinti_cat *cat, uint32_t table, uint32_t generation,
                               const char *name_or_null, const uint32_t *uses, uint32_t n_uses,
                               uint32_t *out_job, uint32_t *out_generation, pint_error *err);
pint_status pinti_cat_job_measure(pinti_cat *cat, uint32_t table, uint32_t generation,
                                  const uint32_t *uses, uint32_t n_uses, uint32_t n_undo,
                                  uint64_t *out_data_bytes, uint64_t *out_sync_bytes,
                                  pint_error *err);
pint_status pinti_cat_job_create(pinti_cat *cat, uint32_t table, uint32_t generation,
                                 const char *name_or_null, const uint32_t *uses, uint32_t n_uses,
                                 uint32_t n_undo, const pinti_owner *owner, const pinti_range *data,
                                 const pinti_range *sync, uint32_t *out_job,
                                 uint32_t *out_generation, pint_error *err);
pint_status pinti_cat_job_drop(pinti_cat *cat, uint32_t job, uint32_t generation, pint_error *err);

/* A dropped job's undo buffers may hold the only good bytes of a chunk. needs_undo(ctx, job) says
 * whether any of its words is in REDO or RESTORING; with it a dropped job is freed when no slot
 * refers to it and it is not needed; without it only when no slot refers to its table either. */
void pinti_cat_on_needs_undo(pinti_cat *cat,
                             bool (*needs_undo)(void *ctx, const pinti_job_rec *job), void *ctx);

/* ---- devices and device copies (catalog_copy.c) ---- */

typedef struct pinti_device_ask {
    uint8_t uuid[16];
    char name[32]; /* for people */
    bool is_cuda;
    bool may_make;
    uint64_t budget_bytes; /* of one that is made; 0: no limit */
} pinti_device_ask;

/* Find the device by UUID, or make its record. PINT_E_LIMIT, PINT_E_PERMISSION, PINT_E_INVALID. */
pint_status pinti_cat_device_open(pinti_cat *cat, const pinti_device_ask *ask, uint32_t *out_device,
                                  pint_error *err);
bool pinti_cat_has_device(const pinti_cat *cat, uint32_t device);
/* Bytes of the copies on it whose memory was not released. */
uint64_t pinti_cat_device_bytes(const pinti_cat *cat, uint32_t device);

/* Which copy, and who asks. */
typedef struct pinti_copy_ask {
    uint32_t table, generation, column, device;
    uint32_t kind; /* of one that is made: PINT_COPY_VMM, PINT_COPY_IPC */
    uint32_t uid;
    uint64_t session;
} pinti_copy_ask;

/* May there be such a copy? PINT_E_NOT_FOUND, _DROPPED, _STATE, _TYPE, _UNSUPPORTED. Before all
 * that follow. */
pint_status pinti_cat_copy_check(const pinti_cat *cat, const pinti_copy_ask *ask, pint_error *err);
/* The record of this column and device that is not FREE, whatever its kind. */
bool pinti_cat_copy_find(const pinti_cat *cat, const pinti_copy_ask *ask, uint32_t *out_copy);
uint64_t pinti_cat_copy_sync_bytes(const pinti_cat *cat, const pinti_copy_ask *ask);
uint64_t pinti_cat_copy_bytes(const pinti_cat *cat, const pinti_copy_ask *ask);

/* BUILDING, in zeroed sync memory; there must be none. Host memory is charged to the pool and the
 * uid: PINT_E_QUOTA. On error the range stays the caller's. */
pint_status pinti_cat_copy_create(pinti_cat *cat, const pinti_copy_ask *ask,
                                  const pinti_range *sync, uint32_t *out_copy, pint_error *err);
/* BUILDING -> LIVE. ipc NULL: PINT_COPY_VMM. broker: serial of the process that owns it. */
void pinti_cat_copy_set_live(pinti_cat *cat, uint32_t copy, const uint8_t ipc[64], uint64_t broker);
/* LIVE -> CLOSING (sequentially consistent): nothing begins in it, who opens it waits. To be
 * followed by _reopen() or _kill() before anything else is served. */
void pinti_cat_copy_close(pinti_cat *cat, uint32_t copy);
/* CLOSING -> LIVE: nothing was taken from anybody. The bell must be rung afterwards. */
void pinti_cat_copy_reopen(pinti_cat *cat, uint32_t copy);
/* BUILDING, LIVE or CLOSING -> DYING (sequentially consistent); nothing otherwise. */
void pinti_cat_copy_kill(pinti_cat *cat, uint32_t copy);
/* Its memory is given back: it counts no more. */
void pinti_cat_copy_released(pinti_cat *cat, uint32_t copy);
bool pinti_cat_copy_has_memory(const pinti_cat *cat, uint32_t copy); /* not yet released */

bool pinti_cat_has_copy(const pinti_cat *cat, uint32_t copy, uint32_t generation);
uint32_t pinti_cat_n_copies(const pinti_cat *cat); /* indices to look at */
pinti_column_rec *pinti_cat_copy_column(const pinti_cat *cat, const pinti_copy_rec *rec);

/* Called by pinti_cat_reap() before a copy becomes FREE: no slot refers to it. */
void pinti_cat_on_copy_free(pinti_cat *cat, void (*on_free)(void *ctx, uint32_t copy), void *ctx);

/* Is anything DYING? Then the loop calls pinti_cat_reap() every 100 ms and at each hint (R16). */
uint32_t pinti_cat_n_dying(const pinti_cat *cat);

/* What refers() is asked about. */
enum pinti_ref_kind { PINTI_REF_TABLE = 1, PINTI_REF_JOB = 2, PINTI_REF_COPY = 3 };

/* Free every DYING table, job and device copy that no slot refers to, and the copies of dropped
 * tables: refers(ctx, kind, index, generation) is asked after the record was marked. Returns how
 * many were freed. Not while a helper sweeps the words of all tables: it would sweep reused memory.
 */
uint32_t pinti_cat_reap(pinti_cat *cat,
                        bool (*refers)(void *ctx, int kind, uint32_t index, uint32_t generation),
                        void *ctx);

/* Drop what belongs to nobody: BUILDING tables of an ended session; and, when family_lives() says
 * no, unkept live tables nobody refers to. Called when a session has ended. */
void pinti_cat_session_ended(pinti_cat *cat, uint64_t session);
bool pinti_cat_drop_ownerless(pinti_cat *cat, bool (*family_lives)(void *ctx, uint64_t family),
                              bool (*refers)(void *ctx, int kind, uint32_t index,
                                             uint32_t generation),
                              void *ctx); /* true: some remain that are still referred to */

uint32_t pinti_cat_n_live(const pinti_cat *cat);
uint32_t pinti_cat_n_kept(const pinti_cat *cat);

#endif
