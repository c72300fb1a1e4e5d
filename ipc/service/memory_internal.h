/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_MEMORY_INTERNAL_H
#define IPC_SERVICE_MEMORY_INTERNAL_H

/*
 * Memory of a pool as sets of ranges. Every page of the data segment is in use, or free and
 *
 *   in whole   its slab is wholly free, ABSENT or COMMITTED; slabs being punched are left out
 *   in warm    a subset of whole: the slab is COMMITTED
 *   in parts   its slab is COMMITTED and partly in use
 *
 * and dirty is the subset of (warm + parts) that may hold old bytes, clean_parts is parts without
 * dirty: small takes go there first, because they need no preparer then. slab_used[i] is how many
 * bytes of slab i are in use; a slab that a pending plan will populate is ABSENT and partly in use,
 * and its rest is in no set. The sync segment has no slabs: free, dirty, got (pages that have
 * physical memory), and clean: free and got and not dirty. Committed bytes count data slabs from
 * the moment a plan will populate them to the moment a plan will punch them. A punch that failed is
 * in to_punch, still PUNCHING and counted, and comes first in the next plan that punches.
 *
 * Plans do not depend on the order in which they are done: what a plan works on is in no set until
 * it is prepared.
 */

#include "host/layout.h"
#include "ipc/service/ledger.h"
#include "ipc/service/memory.h"

#define PINTI_SYNC_UNIT 64u

struct pinti_memory {
    pinti_catalog_header *header;
    pinti_a8 *slabs;
    uint64_t data_bytes;
    uint64_t sync_bytes;
    uint32_t *slab_used; /* [data_bytes / slab]; sparse */
    pinti_ranges whole;
    pinti_ranges warm;
    pinti_ranges parts;
    pinti_ranges clean_parts;
    pinti_ranges dirty;
    pinti_ranges to_punch;
    pinti_ranges sync_free;
    pinti_ranges sync_dirty;
    pinti_ranges sync_got;
    pinti_ranges sync_clean;
    uint64_t data_committed;
    uint64_t outside_bytes; /* held, not in the segments */
    pinti_ledger ledger;
    bool (*is_pinned)(void *ctx, uint32_t slab);
    void *pinned_ctx;
    bool to_recover; /* absent data and free sync may have memory nobody counts */
    uint64_t recover_data_at;
    uint64_t recover_sync_at;
};

static inline uint64_t pinti_round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

static inline uint64_t pinti_round_down(uint64_t n, uint64_t unit)
{
    return n & ~(unit - 1);
}

static inline uint64_t pinti_min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint32_t pinti_slab_of(uint64_t off)
{
    return (uint32_t)(off / PINTI_SLAB_BYTES);
}

/* The service alone writes slab states. */
static inline uint32_t pinti_slab_state(const pinti_memory *memory, uint32_t slab)
{
    return pinti_load8_relaxed(&memory->slabs[slab]);
}

/* add and remove of sets that have been reserved. */
static inline void pinti_put(pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    (void)pinti_ranges_add(set, off, bytes);
}

static inline void pinti_pull(pinti_ranges *set, uint64_t off, uint64_t bytes)
{
    (void)pinti_ranges_remove(set, off, bytes);
}

/* Show the counters to readers of the catalog. */
void pinti_memory_report(pinti_memory *memory);

/* After this each set takes a plan's worth of changes without failing, so that calls are all or
 * nothing. */
bool pinti_memory_reserve(pinti_memory *memory);

/* Free -> in use. The rest of a slab that was wholly free goes to parts; unless it is ABSENT, then
 * pinti_memory_prepared() does that. dirty is left to the caller. */
void pinti_memory_occupy(pinti_memory *memory, pinti_range r);

/* Add what of [off, off + bytes) is not in but to set. */
void pinti_memory_put_except(pinti_ranges *set, uint64_t off, uint64_t bytes,
                             const pinti_ranges *but);

/* In use -> free. ABSENT slabs (their plan failed) only become whole again. */
void pinti_memory_vacate(pinti_memory *memory, pinti_range r, bool is_dirty);

#endif
