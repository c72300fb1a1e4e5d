/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_BRACKET_H
#define DEVICE_BRACKET_H

/* A begin on its way: what bracket.c asks for, bracket_take.c takes and pull.c brings. */

#include "device/internal.h"

/* What a pass over the chunks found. */
enum pinti_verdict {
    PINTI_BEGIN_TAKEN,
    PINTI_BEGIN_BLOCKED,         /* by another: wait */
    PINTI_BEGIN_BLOCKED_BY_SELF, /* by an open bracket of the calling thread */
    PINTI_BEGIN_REFUSED          /* by what seen says */
};

/* Of one column. */
typedef struct pinti_begin {
    pint_copy *copy;
    pinti_import *import;
    uint32_t access;
    uint32_t first; /* chunks */
    uint32_t n;
    void *stream;
    pinti_bracket *bracket;
    pinti_taken *taken; /* n with PINT_WRITE; else of those that are pulled */
    uint32_t *stale;    /* chunks to be copied, ascending */
    uint32_t n_stale;
    pinti_pull *pull;    /* reading: what is to be copied */
    pinti_pull **shared; /* pulls of other brackets to wait for */
    uint32_t n_shared;
    pinti_mark *mark; /* behind the copies; NULL: there are none */
    enum pinti_coherence seen;
    uint32_t chunk; /* where the verdict comes from */
} pinti_begin;

/* Of all columns, which are of one table and device, ascending. */
typedef struct pinti_begins {
    pinti_begin *all;
    uint32_t n;
    enum pinti_verdict verdict;
    pinti_begin *at;   /* where it comes from */
    void *copy_stream; /* NULL until there is something to copy */
} pinti_begins;

/* ---- bracket_take.c -------------------------------------------------------------------------- */

/* Take all chunks, or none; waits for what others hold. */
pint_status pinti_begin_take(pinti_begins *group, const pinti_limit *limit, pint_error *err);

/* Give everything back, neither read nor written. */
void pinti_begin_give_back(pinti_begins *group);

/* ---- pull.c ---------------------------------------------------------------------------------- */

/* Let the caller's stream find the newest bytes of what was taken. On failure all is given back. */
pint_status pinti_begin_bring(pinti_begins *group, pint_error *err);

/* Leave the pulls of others. Takes import->lock. */
void pinti_begin_leave_shared(pinti_begin *b);

#endif
