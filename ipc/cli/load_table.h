/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_LOAD_TABLE_H
#define IPC_CLI_LOAD_TABLE_H

/* From columns in ordinary memory to a table in shared memory. */

#include "ipc/cli/csv.h"
#include "pintable/column.h"

/* A further column, all zero: room for results. */
typedef struct pinti_load_added {
    const char *name;
    pint_type type; /* of a fixed width */
} pinti_load_added;

typedef struct pinti_load_options {
    uint64_t chunk_rows; /* 0: chosen by the service */
    bool is_kept;
    bool replace;
    const pinti_load_added *added; /* after the file's columns */
    uint32_t n_added;
} pinti_load_options;

typedef struct pinti_loaded {
    uint64_t n_rows;
    uint32_t n_columns;
    uint64_t bytes;
} pinti_loaded;

/* Make floats of all columns of 64-bit integers (missing values become NaN under the null), as
 * pandas does where values are missing. Integers beyond 2^53 lose digits: such a column stays as it
 * is. */
void pinti_load_floats(pinti_csv_table *table);

/*
 * Create the table, fill it, publish it. On error nothing of it is left.
 *
 *   bool -> bool8; integers, floats, date32, timestamp (UTC -> zone "UTC") as they are;
 *   category -> dict_text with room for a quarter more categories, 16 at least, and codes of the
 *   narrowest type for that many; text -> text without further room.
 * A column is nullable only when the file has nulls in it.
 */
pint_status pinti_load_table(pint_pool *pool, const char *name, const pinti_csv_table *source,
                             const pinti_load_options *options, pinti_loaded *out, pint_error *err);

#endif
