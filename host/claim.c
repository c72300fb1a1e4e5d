/* SPDX-License-Identifier: Apache-2.0 */

/* The rare ends of a hold, and what a claim that failed means, in words. */

#include "host/claim.h"

#include <inttypes.h>
#include <stdio.h>

#include "host/error.h"

bool pinti_chunk_end_slow(pinti_a64 *word, uint64_t held, enum pinti_hold_end end)
{
    uint64_t now = pinti_load64_acquire(word);
    while (pinti_chunk_is_same_hold(now, held)) {
        if (pinti_cas64_seq(word, &now, pinti_chunk_after(now, end))) { /* as pinti_chunk_end() */
            return true;
        }
    }
    return false;
}

/* "device place 0", "device places 0, 2", for a message. */
static const char *devices_of(uint64_t word, char text[64])
{
    const uint64_t devices = pinti_chunk_places(word) >> 1;
    size_t n =
        (size_t)snprintf(text, 64, "device place%s", (devices & (devices - 1)) != 0 ? "s" : "");
    const char *before = " ";
    for (uint32_t d = 0; d < PINTI_DEVICES_MAX; d++) {
        if ((devices >> d & 1u) != 0) {
            n += (size_t)snprintf(text + n, 64 - n, "%s%u", before, d);
            before = ", ";
        }
    }
    return text;
}

pint_status pinti_claim_fail(enum pinti_claim claim, const char *operation,
                             const pinti_column_desc *column, uint64_t chunk, pint_error *err)
{
    const uint64_t now = pinti_load64_relaxed(&column->words[chunk]); /* for the message only */
    char devices[64];
    switch (claim) {
    case PINTI_CLAIM_TORN:
        return pinti_fail(err, PINT_E_TORN, 0,
                          "%s: chunk %" PRIu64 " of column '%s' is torn: a writer died in it",
                          operation, chunk, column->name);
    case PINTI_CLAIM_AHEAD:
        return pinti_fail(err, PINT_E_DEVICE_AHEAD, 0,
                          "%s: chunk %" PRIu64
                          " of column '%s' is newest on %s ('pintable devices'), not on the host",
                          operation, chunk, column->name, devices_of(now, devices));
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
