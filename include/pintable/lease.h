/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_LEASE_H
#define PINTABLE_LEASE_H

/*
 * Leases: the exclusive right of one session to write one chunk of some columns.
 *
 * A lease ends by commit, by abandon, or by the death of its session; there are no timeouts, so a
 * stopped process keeps its lease. What death leaves behind depends on the use declared:
 *
 *   PINT_INOUT   old bytes were saved at the claim and are put back before anyone else gets the
 *                chunk: as if the claim had never been
 *   PINT_OUT     the holder promised to write every row: the chunk is torn until another
 *                full rewrite, or pint_column_recover()
 *   PINT_UPDATE  some rows may be written, nothing was saved: torn likewise
 *
 * Where a device copy still has the committed bytes, a chunk is not torn but newest there.
 *
 * Threads: a lease may be handed to another thread of the process; it is used by one at a time.
 */

#include <pintable/column.h>

#ifdef __cplusplus
extern "C" {
#endif

/* how a chunk is used */
#define PINT_IN     1u
#define PINT_OUT    2u
#define PINT_INOUT  3u
#define PINT_UPDATE 4u

/** A held lease; plain data. first and n_rows are for the caller, the rest is the library's. */
typedef struct pint_lease {
    uint64_t first;  /* first row */
    uint64_t n_rows; /* rows of the chunk; the last chunk may be short */
    uint64_t chunk;  /* chunk index */
    uint64_t opaque[5];
} pint_lease;

/**
 * Claim one chunk of some columns of one table, all or none.
 *
 * Shape:     n_columns columns of the same table, 1 to 64, in any order, no one twice.
 * Threads:   not recursive: a second claim of a chunk one holds waits, then times out.
 * On error:  nothing is held.
 *
 * @param[in]  use         PINT_OUT, PINT_INOUT or PINT_UPDATE, for all of them
 * @param[in]  timeout_ms  how long to wait for another holder; -1: no limit; 0: do not wait
 * @retval PINT_E_BUSY     another session or thread holds a chunk (timeout_ms 0)
 * @retval PINT_E_TIMEOUT  the same, after the time
 * @retval PINT_E_TORN     torn, and use is not PINT_OUT
 * @retval PINT_E_DEVICE_AHEAD  newest on a device only, and use is not PINT_OUT:
 * pint_copy_to_host()
 * @retval PINT_E_TYPE     a PINT_TEXT column
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_lease_claim(const pint_column *columns,
                                                      uint32_t n_columns, uint64_t chunk,
                                                      uint32_t use, int64_t timeout_ms,
                                                      pint_lease *out_lease, pint_error *err);

/**
 * Publish what was written and give the chunk back. The lease is void afterwards, also on error.
 * @retval PINT_E_LEASE_LOST  it was not held any more (evicted, or corrupted by another writer)
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_lease_commit(pint_lease *lease, pint_error *err);

/**
 * Give the chunk back without publishing: PINT_INOUT restores the old bytes, else it is torn, or
 * newest on a device that still has the committed bytes.
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_lease_abandon(pint_lease *lease, pint_error *err);

#ifdef __cplusplus
}
#endif

#endif
