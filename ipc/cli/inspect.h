/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_INSPECT_H
#define IPC_CLI_INSPECT_H

/* Looking at what only the shared memory says: states of chunks, jobs, records. */

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "host/job.h"
#include "host/table.h"

/* Chunks of a column by what stands in the way of using them. */
typedef struct pinti_chunk_counts {
    uint64_t n_torn;      /* a writer died inside, or holds it again since */
    uint64_t n_held;      /* leased now */
    uint64_t n_restoring; /* a dead holder's; its old bytes are to be put back */
} pinti_chunk_counts;

/* Among the chunks [first, first + n), clipped to the table. */
void pinti_inspect_chunks(const pint_column *column, uint64_t first, uint64_t n,
                          pinti_chunk_counts *out);

/* A device copy of a column (inspect_copies.c). */
typedef struct pinti_copy_info {
    char device[32]; /* its name */
    char uuid[33];
    uint32_t kind;
    uint64_t bytes;     /* of device memory */
    uint64_t n_current; /* chunks whose newest bytes it has */
    uint64_t n_alone;   /* of these, those that no other place has */
} pinti_copy_info;

/* Fills out in the order of devices; returns how many. */
uint32_t pinti_inspect_copies(const pint_column *column, pinti_copy_info out[PINTI_DEVICES_MAX]);

typedef struct pinti_failure {
    uint64_t chunk;
    char text[PINTI_FAIL_TEXT_BYTES + 1];
} pinti_failure;

typedef struct pinti_job_info {
    char table[PINTI_NAME_BYTES_MAX + 1];
    char name[PINTI_NAME_BYTES_MAX + 1];
    uint32_t table_index;
    uint32_t table_generation;
    uint64_t n_chunks;
    uint64_t n_done;
    uint64_t n_failed;
    uint64_t n_held;
    uint64_t n_redone;
    uint64_t bytes;
    uint64_t created_ns;
    pinti_failure *failures; /* of chunks that have failed for good; those whose text was kept */
    uint32_t n_failures;
} pinti_job_info;

typedef struct pinti_job_list {
    pinti_job_info *jobs; /* by table, then by name */
    uint32_t n_jobs;
} pinti_job_list;

/* The named jobs of live tables, read from the catalog. A job that goes meanwhile is left out.
 * PINT_E_CORRUPT: a record points outside its segment. */
pint_status pinti_inspect_jobs(pint_pool *pool, pinti_job_list *out, pint_error *err);
void pinti_job_list_done(pinti_job_list *list);

/* Named jobs of one open table. */
uint32_t pinti_job_list_count(const pinti_job_list *list, const pint_table *table);

/* Append a job to an array of JSON (cmd_jobs.c). */
void pinti_put_job(cJSON *array, const pinti_job_info *job);

static inline bool pinti_inspect_is_kept(const pint_table *table)
{
    /* acquire: nothing hangs on it; like every other look at this word */
    return (pinti_load64_acquire(&table->desc->rec->xgen_state) & PINTI_RECORD_KEPT) != 0;
}

#endif
