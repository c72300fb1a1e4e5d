/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_COPY_LIST_H
#define IPC_CLI_COPY_LIST_H

/* All device copies of a pool: what the catalog, the chunk words and the service say about them. */

#include "host/table.h"

typedef struct pinti_listed_copy {
    char table[PINTI_NAME_BYTES_MAX + 1];
    char column[PINTI_NAME_BYTES_MAX + 1];
    char device_name[32];
    char uuid[33];
    uint32_t index; /* of its record */
    uint32_t record_generation;
    uint32_t device;
    uint32_t kind;
    uint32_t state;      /* PINTI_BUILDING, PINTI_LIVE or PINTI_DYING */
    bool is_orphan;      /* of a table that was dropped */
    uint64_t generation; /* as handles carry it; never another's */
    uint64_t bytes;      /* of device memory */
    uint64_t n_chunks;
    uint64_t n_current;     /* chunks whose newest bytes it has */
    uint64_t n_alone;       /* of these, those that no other place has */
    uint64_t n_sessions;    /* that have it open */
    const pinti_a64 *words; /* of the column, n_chunks, while the table exists */
} pinti_listed_copy;

typedef struct pinti_copy_list {
    pinti_listed_copy *copies; /* by table, column, device */
    uint32_t n_copies;
} pinti_copy_list;

/* Which ones; NULL: all. */
typedef struct pinti_copy_filter {
    const char *table;
    const char *column;
    const char *uuid; /* 32 digits */
} pinti_copy_filter;

/* What is dropped meanwhile is left out. The list is the caller's, to be freed by
 * pinti_copy_list_done(), whatever is returned. */
pint_status pinti_copy_list_read(pint_pool *pool, const pinti_copy_filter *filter,
                                 pinti_copy_list *out, pint_error *err);
void pinti_copy_list_done(pinti_copy_list *list);

/* Are the bytes of a chunk, or what its holder makes of them, not to be trusted? */
bool pinti_listed_copy_is_torn(const pinti_listed_copy *copy, uint64_t chunk);

const char *pinti_copy_kind_name(uint32_t kind);

#endif
