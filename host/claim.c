/* SPDX-License-Identifier: Apache-2.0 */

/* What a claim that failed means, in words. */

#include "host/claim.h"

#include <inttypes.h>

#include "host/error.h"

pint_status pinti_claim_fail(enum pinti_claim claim, const char *operation,
                             const pinti_column_desc *column, uint64_t chunk, pint_error *err)
{
    const uint64_t now = pinti_load64_relaxed(&column->words[chunk]); /* for the message only */
    switch (claim) {
    case PINTI_CLAIM_TORN:
        return pinti_fail(err, PINT_E_TORN, 0,
                          "%s: chunk %" PRIu64 " of column '%s' is torn: a writer died in it",
                          operation, chunk, column->name);
    case PINTI_CLAIM_AHEAD:
        return pinti_fail(err, PINT_E_BUSY, 0,
                          "%s: chunk %" PRIu64 " of column '%s' is newer on a device", operation,
                          chunk, column->name);
    case PINTI_CLAIM_FROZEN:
        return pinti_fail(err, PINT_E_FROZEN, 0, "%s: the table is frozen", operation);
    case PINTI_CLAIM_RESTORE:
    case PINTI_CLAIM_BUSY:
    case PINTI_CLAIMED:
    default:
        return pinti_fail(err, PINT_E_BUSY, 0,
                          "%s: chunk %" PRIu64 " of column '%s' is held by session index %u",
                          operation, chunk, column->name, pinti_chunk_holder(now));
    }
}
