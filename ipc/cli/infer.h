/* SPDX-License-Identifier: Apache-2.0 */
/* Find the type of a column of packed CSV fields and convert it. The rules are in csv.h. */
#ifndef PINTABLE_IPC_CLI_INFER_H
#define PINTABLE_IPC_CLI_INFER_H

#include <stddef.h>
#include <stdint.h>

#include "csv.h"
#include "csv_raw.h"

/* The value that does not fit the type asked for. */
typedef struct pinti_csv_misfit {
    uint64_t row;     /* from 0, the header not counted */
    const char *text; /* view into the raw column */
    size_t text_bytes;
    pinti_csv_type type;  /* what was asked for, with the unit and zone taken from the data */
    const char *expected; /* static text in brackets: range or form */
} pinti_csv_misfit;

/*
 * Convert raw into out_column (all but the name) as wish says; PINTI_CSV_AUTO infers. Returns 0,
 * -ENOMEM, or -EBADMSG with out_misfit filled (only for a wish other than AUTO). out_column is
 * written on success only; the caller frees validity, values and strings. raw is not changed.
 */
int pinti_csv_infer(const pinti_csv_raw *raw, const pinti_csv_type *wish,
                    pinti_csv_column *out_column, pinti_csv_misfit *out_misfit);

#endif
