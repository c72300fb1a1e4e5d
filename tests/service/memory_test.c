/* SPDX-License-Identifier: Apache-2.0 */
/* What pinti_memory decides; a model that does plans at once stands for the preparer. */
#include "ipc/service/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/layout.h"
#include "ipc/service/catalog.h"
#include "ipc/service/memory_internal.h"
#include "tests/support/ct.h"

#define SLAB       PINTI_SLAB_BYTES
#define PAGE       PINTI_PAGE_BYTES
#define DATA_BYTES (512 * SLAB)
#define SYNC_BYTES (1ull << 20)
#define UID        1000u

typedef struct pool {
    void *catalog;
    pinti_memory *memory;
    uint8_t *pages; /* [DATA_BYTES / PAGE]: NONE, ZERO, DIRTY */
    uint8_t *sync;  /* [SYNC_BYTES / 64] */
} pool;

enum { NONE = 0, ZERO = 1, DIRTY = 2 };

static void *map_catalog(void)
{
    void *at = mmap(NULL, PINTI_CAT_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static bool open_pool(pool *p, uint64_t budget)
{
    const uint64_t id[2] = {1, 2};
    p->catalog = map_catalog();
    if (p->catalog == NULL) {
        return false;
    }
    pinti_cat_format(p->catalog, DATA_BYTES, SYNC_BYTES, budget, id);
    p->memory = pinti_memory_new(p->catalog, DATA_BYTES, SYNC_BYTES, budget);
    p->pages = calloc(DATA_BYTES / PAGE, 1);
    p->sync = calloc(SYNC_BYTES / 64, 1);
    return p->memory != NULL && p->pages != NULL && p->sync != NULL;
}

static void close_pool(pool *p)
{
    pinti_memory_free(p->memory);
    free(p->pages);
    free(p->sync);
    (void)munmap(p->catalog, PINTI_CAT_BYTES);
}

static void do_plan(pool *p, const pinti_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        const pinti_work *work = &plan->work[i];
        const uint64_t unit = work->sync ? 64 : PAGE;
        uint8_t *map = work->sync ? p->sync : p->pages;
        for (uint64_t u = work->range.off / unit; u < (work->range.off + work->range.bytes) / unit;
             u++) {
            if (work->kind == PINTI_WORK_POPULATE) {
                map[u] = map[u] == NONE ? ZERO : map[u];
            } else if (work->kind == PINTI_WORK_ZERO) {
                EXPECT_NE(map[u], NONE); /* zeroing must not allocate */
                map[u] = ZERO;
            } else {
                map[u] = NONE;
            }
        }
    }
}

static void prepare(pool *p, const pinti_plan *plan)
{
    if (plan->n != 0) {
        do_plan(p, plan);
        pinti_memory_prepared(p->memory, plan, true);
    }
}

/* After its plan a range has memory and, unless it is uninitialised, reads as zero; then it is
 * written to. */
static void expect_usable(pool *p, pinti_range data, pinti_range sync, bool zeroed)
{
    for (uint64_t u = data.off / PAGE; u < (data.off + data.bytes) / PAGE; u++) {
        ASSERT_NE(p->pages[u], NONE);
        ASSERT_TRUE(!zeroed || p->pages[u] == ZERO);
        p->pages[u] = DIRTY;
    }
    for (uint64_t u = sync.off / 64; u < (sync.off + sync.bytes) / 64; u++) {
        ASSERT_EQ(p->sync[u], ZERO);
        p->sync[u] = DIRTY;
    }
}

static pint_status take(pool *p, uint64_t data_bytes, uint64_t sync_bytes, pinti_range *out_data,
                        pinti_range *out_sync)
{
    pinti_plan plan;
    const pint_status status = pinti_memory_take(p->memory, data_bytes, sync_bytes, true, UID,
                                                 out_data, out_sync, &plan, NULL);
    if (status == PINT_OK) {
        prepare(p, &plan);
        expect_usable(p, *out_data, *out_sync, true);
    }
    return status;
}

TEST(Memory, FirstTakePopulatesAndTheNextOneFindsItWarm)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    pint_error err;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    ASSERT_OK(pinti_memory_take(p.memory, 3 * SLAB, 128, true, UID, &data, &sync, &plan, &err),
              &err);
    ASSERT_EQ(plan.n, 2u);
    EXPECT_EQ(plan.work[0].kind, PINTI_WORK_POPULATE);
    EXPECT_EQ(plan.work[0].range.bytes, 3 * SLAB);
    EXPECT_EQ(plan.work[1].sync, true);
    EXPECT_EQ(plan.work[1].range.bytes, 16 * PAGE); /* some ahead */
    prepare(&p, &plan);
    EXPECT_EQ(pinti_memory_committed(p.memory), 3 * SLAB + 16 * PAGE);
    EXPECT_EQ(pinti_memory_used(p.memory), 3 * SLAB + 128);
    pinti_memory_give(p.memory, data, sync, UID);
    EXPECT_EQ(pinti_memory_used(p.memory), 0u);
    EXPECT_EQ(pinti_memory_warm(p.memory), 3 * SLAB);
    /* uninitialised: nothing to do but the chunk words */
    ASSERT_OK(pinti_memory_take(p.memory, 3 * SLAB, 0, false, UID, &data, &sync, &plan, &err),
              &err);
    EXPECT_EQ(plan.n, 0u);
    close_pool(&p);
}

TEST(Memory, OffsetZeroOfSyncIsNeverHandedOut)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    ASSERT_OK(take(&p, PAGE, 64, &data, &sync), NULL);
    EXPECT_NE(sync.off, 0u);
    close_pool(&p);
}

TEST(Memory, SmallTakesShareASlabAndLeaveWarmRunsWhole)
{
    pool p;
    pinti_range big;
    pinti_range small[3];
    pinti_range sync;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    ASSERT_OK(take(&p, PAGE, 64, &small[0], &sync), NULL);
    ASSERT_OK(take(&p, 8 * SLAB, 64, &big, &sync), NULL);
    pinti_memory_give(p.memory, big, (pinti_range){0, 0}, UID);
    for (uint32_t i = 1; i < 3; i++) {
        ASSERT_OK(take(&p, PAGE, 64, &small[i], &sync), NULL);
        EXPECT_EQ(small[i].off, small[0].off + i * PAGE);
    }
    EXPECT_EQ(pinti_memory_warm(p.memory), 8 * SLAB);
    close_pool(&p);
}

TEST(Memory, SlabBecomesWholeAgainWhenItsLastPieceIsGiven)
{
    pool p;
    pinti_range small[4];
    pinti_range sync;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    for (uint32_t i = 0; i < 4; i++) {
        ASSERT_OK(take(&p, SLAB / 4, 0, &small[i], &sync), NULL);
    }
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_EQ(pinti_memory_warm(p.memory), 0u);
        pinti_memory_give(p.memory, small[(i + 1) % 4], (pinti_range){0, 0}, UID);
    }
    EXPECT_EQ(pinti_memory_warm(p.memory), SLAB);
    EXPECT_EQ(pinti_memory_dirty(p.memory), SLAB);
    close_pool(&p);
}

TEST(Memory, DirtyMemoryIsZeroedAndCleanMemoryIsNot)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    ASSERT_OK(take(&p, PAGE, 0, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    /* one dirty page in front, the rest of the slab was never used */
    ASSERT_OK(pinti_memory_take(p.memory, SLAB, 0, true, UID, &data, &sync, &plan, NULL), NULL);
    ASSERT_EQ(plan.n, 1u);
    EXPECT_EQ(plan.work[0].kind, PINTI_WORK_ZERO);
    EXPECT_EQ(plan.work[0].range.bytes, PAGE);
    close_pool(&p);
}

TEST(Memory, SmallTakesGoToCleanPlacesFirst)
{
    pool p;
    pinti_range data[3];
    pinti_range sync[3];
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    ASSERT_OK(take(&p, PAGE, 640, &data[0], &sync[0]), NULL);
    ASSERT_OK(take(&p, PAGE, 640, &data[1], &sync[1]), NULL);
    pinti_memory_give(p.memory, data[0], sync[0], UID);
    ASSERT_OK(pinti_memory_take(p.memory, PAGE, 640, true, UID, &data[2], &sync[2], &plan, NULL),
              NULL);
    EXPECT_EQ(plan.n, 0u);
    expect_usable(&p, data[2], sync[2], true);
    EXPECT_NE(data[2].off, data[0].off);
    /* what is to be uninitialised takes the dirty place */
    ASSERT_OK(pinti_memory_take(p.memory, PAGE, 640, false, UID, &data[2], &sync[2], &plan, NULL),
              NULL);
    EXPECT_EQ(plan.n, 0u);
    EXPECT_EQ(data[2].off, data[0].off);
    close_pool(&p);
}

TEST(Memory, RefusesBeyondTheBudgetAndChangesNothing)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    pint_error err = {0};
    ASSERT_TRUE(open_pool(&p, 4 * SLAB));
    EXPECT_STATUS(
        PINT_E_QUOTA,
        pinti_memory_take(p.memory, 4 * SLAB + 1, 0, true, UID, &data, &sync, &plan, &err), &err);
    EXPECT_TRUE(strstr(err.message, "8388608") != NULL); /* the limit */
    /* the chunk words do not fit beside so many data */
    EXPECT_STATUS(PINT_E_QUOTA, take(&p, 4 * SLAB, 64, &data, &sync), NULL);
    EXPECT_STATUS(PINT_E_QUOTA, take(&p, UINT64_MAX, 64, &data, &sync), NULL);
    EXPECT_STATUS(PINT_E_QUOTA, take(&p, 64, UINT64_MAX - 10, &data, &sync), NULL);
    EXPECT_EQ(pinti_memory_used(p.memory), 0u);
    EXPECT_EQ(pinti_memory_committed(p.memory), 0u);
    ASSERT_OK(take(&p, 4 * SLAB, 0, &data, &sync), NULL);
    close_pool(&p);
}

TEST(Memory, LimitOfAUidHoldsForThatUidOnly)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    pint_error err;
    ASSERT_TRUE(open_pool(&p, 16 * SLAB));
    pinti_memory_set_uid_limit(p.memory, 4 * SLAB);
    ASSERT_OK(take(&p, 4 * SLAB, 0, &data, &sync), NULL);
    EXPECT_STATUS(PINT_E_QUOTA, take(&p, PAGE, 0, &data, &sync), NULL);
    EXPECT_OK(pinti_memory_take(p.memory, PAGE, 0, true, UID + 1, &data, &sync, &plan, &err), &err);
    pinti_memory_charge(p.memory, 4 * SLAB, UID, UID + 2);
    EXPECT_EQ(pinti_memory_uid_used(p.memory, UID), 0u);
    EXPECT_EQ(pinti_memory_uid_used(p.memory, UID + 2), 4 * SLAB);
    close_pool(&p);
}

TEST(Memory, PunchesWarmSlabsElsewhereToStayInTheBudget)
{
    pool p;
    pinti_range a;
    pinti_range b;
    pinti_range c;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 8 * SLAB));
    ASSERT_OK(take(&p, 2 * SLAB, 0, &a, &sync), NULL);
    ASSERT_OK(take(&p, 2 * SLAB, 0, &b, &sync), NULL);
    ASSERT_OK(take(&p, 2 * SLAB, 0, &c, &sync), NULL);
    pinti_memory_give(p.memory, a, sync, UID);
    pinti_memory_give(p.memory, c, sync, UID);
    /* four in a row are free behind b only: c's two are reused, a's two must go */
    ASSERT_OK(pinti_memory_take(p.memory, 6 * SLAB, 0, true, UID, &a, &sync, &plan, NULL), NULL);
    EXPECT_EQ(plan.work[0].kind, PINTI_WORK_PUNCH);
    EXPECT_EQ(plan.work[0].range.off, 0u);
    EXPECT_EQ(plan.work[0].range.bytes, 2 * SLAB);
    EXPECT_EQ(pinti_cat_slabs(p.catalog)[0], PINTI_SLAB_PUNCHING);
    prepare(&p, &plan);
    expect_usable(&p, a, sync, true);
    EXPECT_EQ(pinti_cat_slabs(p.catalog)[0], PINTI_SLAB_ABSENT);
    EXPECT_EQ(pinti_memory_committed(p.memory), 8 * SLAB);
    close_pool(&p);
}

static bool is_pinned(void *ctx, uint32_t slab)
{
    const pool *p = ctx;
    EXPECT_EQ(pinti_cat_slabs(p->catalog)[slab], PINTI_SLAB_PUNCHING); /* R8: asked after that */
    return slab == 1;
}

TEST(Memory, PinnedSlabsAreNotPunched)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 8 * SLAB));
    pinti_memory_on_pinned(p.memory, is_pinned, &p);
    ASSERT_OK(take(&p, 4 * SLAB, 0, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    ASSERT_TRUE(pinti_memory_plan_trim(p.memory, 0, &plan));
    prepare(&p, &plan);
    EXPECT_EQ(pinti_cat_slabs(p.catalog)[1], PINTI_SLAB_COMMITTED);
    EXPECT_EQ(pinti_memory_committed(p.memory), SLAB);
    EXPECT_EQ(pinti_memory_warm(p.memory), SLAB);
    close_pool(&p);
}

TEST(Memory, TrimKeepsWhatItIsTold)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 32 * SLAB));
    ASSERT_OK(take(&p, 16 * SLAB, 128 * PAGE, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    ASSERT_TRUE(pinti_memory_plan_trim(p.memory, 4 * SLAB, &plan));
    prepare(&p, &plan);
    EXPECT_EQ(pinti_memory_warm(p.memory), 4 * SLAB);
    EXPECT_LE(pinti_memory_committed(p.memory), 4 * SLAB + 32 * PAGE);
    EXPECT_FALSE(pinti_memory_plan_trim(p.memory, 4 * SLAB, &plan));
    ASSERT_OK(take(&p, 16 * SLAB, 128 * PAGE, &data, &sync), NULL);
    close_pool(&p);
}

TEST(Memory, CleanedMemoryNeedsNoPlan)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 32 * SLAB));
    ASSERT_OK(take(&p, 3 * SLAB + PAGE, 200, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    EXPECT_EQ(pinti_memory_dirty(p.memory), 3 * SLAB + PAGE);
    for (uint32_t i = 0; pinti_memory_plan_clean(p.memory, SLAB, &plan); i++) {
        ASSERT_LT(i, 8u);
        prepare(&p, &plan);
    }
    EXPECT_EQ(pinti_memory_dirty(p.memory), 0u);
    EXPECT_EQ(pinti_memory_warm(p.memory), 4 * SLAB);
    ASSERT_OK(
        pinti_memory_take(p.memory, 3 * SLAB + PAGE, 200, true, UID, &data, &sync, &plan, NULL),
        NULL);
    EXPECT_EQ(plan.n, 0u);
    expect_usable(&p, data, sync, true);
    close_pool(&p);
}

TEST(Memory, RangesBeingCleanedAreHandedOutToNobody)
{
    pool p;
    pinti_range data;
    pinti_range other;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 32 * SLAB));
    ASSERT_OK(take(&p, SLAB, 64, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    ASSERT_TRUE(pinti_memory_plan_clean(p.memory, 2 * SLAB, &plan));
    ASSERT_OK(take(&p, SLAB, 64, &other, &sync), NULL);
    EXPECT_NE(other.off, data.off);
    pinti_memory_prepared(p.memory, &plan, false);
    EXPECT_EQ(pinti_memory_dirty(p.memory), SLAB);
    close_pool(&p);
}

TEST(Memory, RestOfASlabIsFreeOnlyOnceItIsPopulated)
{
    pool p;
    pinti_range a;
    pinti_range b;
    pinti_range sync;
    pinti_plan plan_a;
    pinti_plan plan_b;
    ASSERT_TRUE(open_pool(&p, 32 * SLAB));
    ASSERT_OK(pinti_memory_take(p.memory, PAGE, 0, true, UID, &a, &sync, &plan_a, NULL), NULL);
    ASSERT_OK(pinti_memory_take(p.memory, PAGE, 0, true, UID, &b, &sync, &plan_b, NULL), NULL);
    EXPECT_NE(a.off / SLAB, b.off / SLAB);
    EXPECT_EQ(plan_b.n, 1u);
    prepare(&p, &plan_b); /* in any order */
    prepare(&p, &plan_a);
    expect_usable(&p, a, sync, true);
    expect_usable(&p, b, sync, true);
    close_pool(&p);
}

TEST(Memory, FailedPlanCostsNothing)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 32 * SLAB));
    ASSERT_OK(
        pinti_memory_take(p.memory, 5 * SLAB + PAGE, 64, true, UID, &data, &sync, &plan, NULL),
        NULL);
    pinti_memory_prepared(p.memory, &plan, false);
    pinti_memory_give(p.memory, data, sync, UID);
    EXPECT_EQ(pinti_memory_committed(p.memory), 0u);
    EXPECT_EQ(pinti_memory_used(p.memory), 0u);
    EXPECT_EQ(pinti_memory_dirty(p.memory), 0u);
    EXPECT_EQ(pinti_cat_slabs(p.catalog)[0], PINTI_SLAB_ABSENT);
    ASSERT_OK(take(&p, 5 * SLAB + PAGE, 64, &data, &sync), NULL);
    close_pool(&p);
}

TEST(Memory, FailedPunchIsDoneAgainBeforeTheSlabIsUsed)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    ASSERT_TRUE(open_pool(&p, 4 * SLAB));
    ASSERT_OK(take(&p, 4 * SLAB, 0, &data, &sync), NULL);
    pinti_memory_give(p.memory, data, sync, UID);
    ASSERT_TRUE(pinti_memory_plan_trim(p.memory, 0, &plan));
    pinti_memory_prepared(p.memory, &plan, false);
    EXPECT_EQ(pinti_memory_committed(p.memory), 4 * SLAB);
    ASSERT_OK(take(&p, 2 * SLAB, 0, &data, &sync), NULL); /* in the budget by punching first */
    ASSERT_TRUE(pinti_memory_plan_trim(p.memory, 4 * SLAB, &plan) ||
                pinti_memory_committed(p.memory) == 2 * SLAB);
    close_pool(&p);
}

TEST(Memory, NextIncarnationFindsEverythingInUse)
{
    pool p;
    pinti_range data[3];
    pinti_range sync[3];
    pinti_plan plan;
    pint_error err;
    ASSERT_TRUE(open_pool(&p, 64 * SLAB));
    for (uint32_t i = 0; i < 3; i++) {
        ASSERT_OK(take(&p, (i + 1) * SLAB + PAGE, 100 * (i + 1), &data[i], &sync[i]), NULL);
    }
    pinti_catalog_header *header = p.catalog;
    pinti_store32_relaxed(&header->xn_tables, 3); /* the records are the catalog's business */
    pinti_store8_relaxed(&pinti_cat_slabs(p.catalog)[100], PINTI_SLAB_PUNCHING);
    p.pages[100 * SLAB / PAGE] = DIRTY;
    const uint64_t used = pinti_memory_used(p.memory);
    pinti_memory_free(p.memory);
    p.memory = pinti_memory_new(p.catalog, DATA_BYTES, SYNC_BYTES, 64 * SLAB);
    ASSERT_TRUE(p.memory != NULL);
    for (uint32_t i = 0; i < 3; i++) {
        ASSERT_OK(pinti_memory_mark_used(p.memory, false, data[i], UID, &err), &err);
        ASSERT_OK(pinti_memory_mark_used(p.memory, true, sync[i], UID, &err), &err);
        EXPECT_STATUS(PINT_E_CORRUPT, pinti_memory_mark_used(p.memory, false, data[i], UID, &err),
                      &err);
    }
    EXPECT_EQ(pinti_memory_used(p.memory), used);
    while (pinti_memory_plan_recover(p.memory, &plan)) {
        prepare(&p, &plan);
    }
    EXPECT_EQ(pinti_cat_slabs(p.catalog)[100], PINTI_SLAB_ABSENT);
    EXPECT_EQ(p.pages[100 * SLAB / PAGE], NONE);
    pinti_range all;
    pinti_range words;
    ASSERT_OK(take(&p, 40 * SLAB, 300 * PAGE / 64, &all, &words), NULL);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(all.off >= data[i].off + data[i].bytes || data[i].off >= all.off + all.bytes);
        EXPECT_TRUE(words.off >= sync[i].off + sync[i].bytes ||
                    sync[i].off >= words.off + words.bytes);
    }
    close_pool(&p);
}

TEST(Memory, BudgetCannotBeSetBelowWhatIsUsed)
{
    pool p;
    pinti_range data;
    pinti_range sync;
    pint_error err;
    ASSERT_TRUE(open_pool(&p, 8 * SLAB));
    ASSERT_OK(take(&p, 4 * SLAB, 0, &data, &sync), NULL);
    EXPECT_STATUS(PINT_E_RANGE, pinti_memory_set_budget(p.memory, 3 * SLAB, &err), &err);
    EXPECT_STATUS(PINT_E_RANGE, pinti_memory_set_budget(p.memory, DATA_BYTES + 1, &err), &err);
    EXPECT_OK(pinti_memory_set_budget(p.memory, 4 * SLAB, &err), &err);
    EXPECT_STATUS(PINT_E_QUOTA, take(&p, PAGE, 0, &data, &sync), NULL);
    close_pool(&p);
}

TEST(Memory, DefaultBudgetIsWholeSlabsOfSomeSize)
{
    const uint64_t bytes = pinti_memory_default_budget();
    EXPECT_GE(bytes, SLAB);
    EXPECT_EQ(bytes % SLAB, 0u);
}

/* ---- at random ------------------------------------------------------------------------------- */

#define HELD 200u

static uint64_t common_bytes(const pinti_ranges *a, const pinti_ranges *b)
{
    uint64_t n = 0;
    pinti_range x;
    pinti_range y;
    for (uint64_t at = 0; pinti_ranges_next(a, at, &x) && pinti_ranges_next(b, x.off, &y);) {
        const uint64_t x_end = x.off + x.bytes;
        const uint64_t y_end = y.off + y.bytes;
        at = y.off < x_end ? (x_end < y_end ? x_end : y_end) : y.off;
        n += y.off < x_end ? at - y.off : 0;
    }
    return n;
}

/* The sets are what memory_internal.h says they are. */
static void expect_consistent(const pinti_memory *m)
{
    ASSERT_EQ(common_bytes(&m->warm, &m->whole), m->warm.total);
    ASSERT_EQ(common_bytes(&m->whole, &m->parts), 0u);
    ASSERT_EQ(common_bytes(&m->dirty, &m->warm) + common_bytes(&m->dirty, &m->parts),
              m->dirty.total);
    ASSERT_EQ(common_bytes(&m->clean_parts, &m->parts), m->clean_parts.total);
    ASSERT_EQ(common_bytes(&m->clean_parts, &m->dirty), 0u);
    ASSERT_EQ(m->clean_parts.total, m->parts.total - common_bytes(&m->parts, &m->dirty));
    ASSERT_EQ(common_bytes(&m->sync_dirty, &m->sync_free), m->sync_dirty.total);
    ASSERT_EQ(common_bytes(&m->sync_clean, &m->sync_free), m->sync_clean.total);
    ASSERT_EQ(common_bytes(&m->sync_clean, &m->sync_got), m->sync_clean.total);
    ASSERT_EQ(common_bytes(&m->sync_clean, &m->sync_dirty), 0u);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

typedef struct held {
    pinti_range data;
    pinti_range sync;
    pinti_plan *pending; /* not done yet */
    bool zeroed;
} held;

/* Marks the pages of a range as owned; false if one already is. */
static bool own(uint8_t *owned, pinti_range r, uint64_t unit, bool take_it)
{
    for (uint64_t u = r.off / unit; u < (r.off + r.bytes) / unit; u++) {
        if (owned[u] == take_it) {
            return false;
        }
        owned[u] = take_it;
    }
    return true;
}

/* Of this run; PINT_TEST_SEED names another one. */
static uint64_t random_seed(void)
{
    const char *text = getenv("PINT_TEST_SEED");
    const uint64_t seed = text == NULL ? 0 : strtoull(text, NULL, 0);
    return seed == 0 ? 0x5eed5eed12345ull : seed;
}

static uint64_t random_bytes(uint64_t *seed)
{
    switch (next_random(seed) % 4) {
    case 0:
        return 1 + next_random(seed) % (4 * PAGE);
    case 1:
        return 1 + next_random(seed) % SLAB;
    case 2:
        return 1 + next_random(seed) % (6 * SLAB);
    default:
        return next_random(seed) % 2 == 0 ? 0 : SLAB;
    }
}

static void finish_pending(pool *p, held *h, bool ok)
{
    if (ok) {
        prepare(p, h->pending);
    } else if (h->pending->n != 0) { /* as the preparer undoes it */
        for (uint32_t i = 0; i < h->pending->n; i++) {
            const pinti_work *work = &h->pending->work[i];
            if (work->kind == PINTI_WORK_POPULATE && !work->sync) {
                memset(&p->pages[work->range.off / PAGE], NONE, work->range.bytes / PAGE);
            }
        }
        pinti_memory_prepared(p->memory, h->pending, false);
    }
    free(h->pending);
    h->pending = NULL;
}

TEST(Memory, RandomTakesAndGivesNeverOverlapLeakOrShowOldBytes, .timeout_s = 120)
{
    uint64_t seed = random_seed();
    pool p;
    static held all[HELD];
    memset(all, 0, sizeof(all));
    ASSERT_TRUE(open_pool(&p, 96 * SLAB));
    uint8_t *owned = calloc(DATA_BYTES / PAGE, 1);
    uint8_t *owned_sync = calloc(SYNC_BYTES / 64, 1);
    ASSERT_TRUE(owned != NULL && owned_sync != NULL);
    uint32_t n_refused = 0;
    for (uint32_t round = 0; round < 12000; round++) {
        held *h = &all[next_random(&seed) % HELD];
        if (h->pending != NULL) {
            const bool ok = next_random(&seed) % 8 != 0;
            finish_pending(&p, h, ok);
            if (ok) {
                ASSERT_NO_FATAL(expect_usable(&p, h->data, h->sync, h->zeroed));
            } else {
                ASSERT_TRUE(own(owned, h->data, PAGE, false));
                ASSERT_TRUE(own(owned_sync, h->sync, 64, false));
                pinti_memory_give(p.memory, h->data, h->sync, UID);
                memset(h, 0, sizeof(*h));
            }
        } else if (h->data.bytes + h->sync.bytes != 0) {
            ASSERT_TRUE(own(owned, h->data, PAGE, false));
            ASSERT_TRUE(own(owned_sync, h->sync, 64, false));
            pinti_memory_give(p.memory, h->data, h->sync, UID);
            memset(h, 0, sizeof(*h));
        } else {
            h->pending = malloc(sizeof(*h->pending));
            ASSERT_TRUE(h->pending != NULL);
            h->zeroed = next_random(&seed) % 3 != 0;
            const pint_status status =
                pinti_memory_take(p.memory, random_bytes(&seed), next_random(&seed) % 3000,
                                  h->zeroed, UID, &h->data, &h->sync, h->pending, NULL);
            if (status != PINT_OK) {
                EXPECT_EQ(status, PINT_E_QUOTA);
                n_refused++;
                free(h->pending);
                memset(h, 0, sizeof(*h));
            } else {
                ASSERT_TRUE(own(owned, h->data, PAGE, true));
                ASSERT_TRUE(own(owned_sync, h->sync, 64, true));
            }
        }
        pinti_plan idle;
        if (round % 50 == 7 && pinti_memory_plan_clean(p.memory, 4 * SLAB, &idle)) {
            prepare(&p, &idle);
        }
        if (round % 200 == 11 && pinti_memory_plan_trim(p.memory, 8 * SLAB, &idle)) {
            prepare(&p, &idle);
        }
        if (round % 20 == 3) {
            ASSERT_NO_FATAL(expect_consistent(p.memory));
        }
        /* beyond the budget only by pending sync pages and by punches that failed */
        ASSERT_LE(pinti_memory_committed(p.memory), 104 * SLAB);
    }
    EXPECT_GT(n_refused, 0u);
    for (uint32_t i = 0; i < HELD; i++) {
        if (all[i].pending != NULL) {
            finish_pending(&p, &all[i], true);
        }
        pinti_memory_give(p.memory, all[i].data, all[i].sync, UID);
    }
    EXPECT_EQ(pinti_memory_used(p.memory), 0u);
    pinti_plan plan;
    while (pinti_memory_plan_trim(p.memory, 0, &plan)) {
        prepare(&p, &plan);
    }
    EXPECT_LE(pinti_memory_committed(p.memory), SYNC_BYTES);
    uint64_t n_left = 0;
    for (uint64_t u = 0; u < DATA_BYTES / PAGE; u++) {
        n_left += p.pages[u] != NONE;
    }
    EXPECT_EQ(n_left, 0u);
    /* all of the address space is one free range again */
    ASSERT_OK(pinti_memory_set_budget(p.memory, DATA_BYTES, NULL), NULL);
    pinti_range data;
    pinti_range sync;
    EXPECT_OK(
        pinti_memory_take(p.memory, DATA_BYTES - SLAB, 0, true, UID, &data, &sync, &plan, NULL),
        NULL);
    free(owned);
    free(owned_sync);
    close_pool(&p);
}
