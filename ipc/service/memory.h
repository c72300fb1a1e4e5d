/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_MEMORY_H
#define IPC_SERVICE_MEMORY_H

/*
 * Who has which bytes of the data and sync segments: free ranges, slab states, the byte ledger and
 * quotas. The physical work (prefault, zero, punch) is done by the preparer, a helper process that
 * may be killed by the kernel in our place (ipc/service/preparer.h); this file only decides what
 * there is to do. Process-local; rebuilt from the catalog's extents by the next incarnation.
 *
 * Use: take -> preparer does the plan -> prepared -> make the record; or prepared -> give. Other
 * takes and gives may come between. A plan with n == 0 needs no preparer and no prepared().
 */

#include <stdbool.h>
#include <stdint.h>

#include "ipc/service/range.h"
#include "pintable/status.h"

typedef struct pinti_memory pinti_memory;

enum pinti_work_kind {
    PINTI_WORK_POPULATE = 1, /* make physical memory; new memory reads as zero */
    PINTI_WORK_ZERO = 2,
    PINTI_WORK_PUNCH = 3 /* give physical memory back; reads as zero afterwards */
};

/* Work for the preparer, in order. Punched and populated data are whole slabs, the rest of sync
 * and ZERO is whole pages or 64-byte units. */
typedef struct pinti_work {
    enum pinti_work_kind kind;
    bool sync; /* range is in the sync segment, else data */
    pinti_range range;
} pinti_work;

#define PINTI_WORK_MAX 256u

enum pinti_plan_purpose {
    PINTI_PLAN_TAKE = 1,
    PINTI_PLAN_TRIM = 2,
    PINTI_PLAN_CLEAN = 3,
    PINTI_PLAN_RECOVER = 4
};

typedef struct pinti_plan {
    enum pinti_plan_purpose purpose; /* for pinti_memory_prepared() */
    uint32_t n;
    pinti_work work[PINTI_WORK_MAX];
} pinti_plan;

/* catalog: for the slab states and the counters of its header (formatted before). NULL: out of
 * memory. */
pinti_memory *pinti_memory_new(void *catalog, uint64_t data_bytes, uint64_t sync_bytes,
                               uint64_t budget_bytes);
void pinti_memory_free(pinti_memory *memory);

/* Is this slab pinned by anybody? Asked after the slab was set to PUNCHING (R8); a pinned slab goes
 * back to COMMITTED. Without it no slab is pinned. */
void pinti_memory_on_pinned(pinti_memory *memory, bool (*is_pinned)(void *ctx, uint32_t slab),
                            void *ctx);

/* Rebuild: these bytes are in use. All free committed slabs count as dirty afterwards. */
pint_status pinti_memory_mark_used(pinti_memory *memory, bool sync, pinti_range range, uint32_t uid,
                                   pint_error *err);

/* After a crash, once everything in use is marked and before the first take: plans that punch what
 * the last incarnation may have left half punched or populated without recording it. False when
 * there is nothing (more) to do; call again after pinti_memory_prepared(). */
bool pinti_memory_plan_recover(pinti_memory *memory, pinti_plan *out_plan);

/* Find room for a table or job: first fit at the lowest address, warm memory first; runs of a slab
 * or more are slab aligned, smaller ones page aligned and packed into slabs partly in use. Charges
 * uid and the budget; when the budget would be passed, warm free slabs elsewhere are put into the
 * plan to be punched first. The plan says what the preparer must do before the ranges may be used
 * (zeroed: dirty data are zeroed; sync always is). Ranges come back rounded up to what is charged:
 * data to pages, sync to 64 bytes. On error nothing changed.
 * PINT_E_QUOTA names asked, used, limit. */
pint_status pinti_memory_take(pinti_memory *memory, uint64_t data_bytes, uint64_t sync_bytes,
                              bool zeroed, uint32_t uid, pinti_range *out_data,
                              pinti_range *out_sync, pinti_plan *out_plan, pint_error *err);

/* The preparer did the plan (ok); or did not, or failed or died and undid it: what the plan
 * populates in the data segment is then without memory, what it punches is punched again by a later
 * plan, what it zeroes is dirty. Slab states change here. Once for every plan with n != 0. */
void pinti_memory_prepared(pinti_memory *memory, const pinti_plan *plan, bool ok);

/* Give ranges back: they become free and dirty. Not before their plan was prepared. */
void pinti_memory_give(pinti_memory *memory, pinti_range data, pinti_range sync, uint32_t uid);

/* Who is charged changes (bytes held after a drop are charged to the holder). */
void pinti_memory_charge(pinti_memory *memory, uint64_t bytes, uint32_t from_uid, uint32_t to_uid);

/* Memory outside of the segments (device copies of device "host") counts against budget and uid as
 * theirs does. take: PINT_E_QUOTA; what is warm and free beyond the budget afterwards is for
 * pinti_memory_plan_trim(). count: without looking at limits (rebuild); false: out of memory. */
pint_status pinti_memory_take_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes,
                                      pint_error *err);
bool pinti_memory_count_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes);
void pinti_memory_give_outside(pinti_memory *memory, uint32_t uid, uint64_t bytes);

/* Idle: plan to hand warm free memory back to the kernel, down to keep_bytes of it. False when
 * there is nothing to do. pinti_memory_prepared() ends it: slabs become ABSENT. */
bool pinti_memory_plan_trim(pinti_memory *memory, uint64_t keep_bytes, pinti_plan *out_plan);

/* Idle: plan to zero some dirty free committed memory (about max_bytes) ahead of need. The ranges
 * are nobody's until prepared. */
bool pinti_memory_plan_clean(pinti_memory *memory, uint64_t max_bytes, pinti_plan *out_plan);

/* PINT_E_RANGE: less than is in use, or more than the segment holds. What is committed beyond a
 * smaller budget is for pinti_memory_plan_trim(). */
pint_status pinti_memory_set_budget(pinti_memory *memory, uint64_t bytes, pint_error *err);
void pinti_memory_set_uid_limit(pinti_memory *memory, uint64_t bytes); /* per uid; 0: the budget */
uint64_t pinti_memory_budget(const pinti_memory *memory);
uint64_t pinti_memory_used(const pinti_memory *memory);      /* in tables and jobs */
uint64_t pinti_memory_committed(const pinti_memory *memory); /* slabs and sync pages held */
uint64_t pinti_memory_warm(const pinti_memory *memory);      /* slabs held and wholly free */
uint64_t pinti_memory_dirty(const pinti_memory *memory);     /* free data bytes to be zeroed */
uint64_t pinti_memory_uid_used(const pinti_memory *memory, uint32_t uid);

/* Half of min(RAM, cgroup limit v1/v2), rounded down to slabs. */
uint64_t pinti_memory_default_budget(void);

#endif
