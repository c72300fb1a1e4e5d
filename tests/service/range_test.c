/* SPDX-License-Identifier: Apache-2.0 */
/* pinti_ranges against a plain array of flags, and its promises one by one. */
#include "ipc/service/range.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/ct.h"

#define UNITS 400u

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Is the set exactly the flags, in ranges that neither touch nor are empty? */
static void expect_same(const pinti_ranges *set, const bool flags[UNITS])
{
    bool seen[UNITS] = {false};
    uint64_t total = 0;
    uint32_t n = 0;
    uint64_t at = 0;
    uint64_t last_end = UINT64_MAX;
    pinti_range r;
    while (pinti_ranges_next(set, at, &r)) {
        ASSERT_GT(r.bytes, 0u);
        ASSERT_LE(r.off + r.bytes, UNITS);
        ASSERT_NE(r.off, last_end);
        memset(&seen[r.off], true, r.bytes);
        total += r.bytes;
        at = r.off + r.bytes;
        last_end = at;
        n++;
    }
    EXPECT_EQ(set->n, n);
    EXPECT_EQ(set->total, total);
    ASSERT_MEMEQ(seen, flags, sizeof(seen));
}

static uint64_t plain_first_fit(const bool flags[UNITS], uint64_t bytes, uint64_t align)
{
    for (uint64_t off = 0; off + bytes <= UNITS; off += align) {
        uint64_t n = 0;
        while (n < bytes && flags[off + n]) {
            n++;
        }
        if (n == bytes) {
            return off;
        }
    }
    return UINT64_MAX;
}

TEST(Ranges, BehaveAsAnArrayOfFlags, .timeout_s = 60)
{
    uint64_t seed = 0x1234567887654321ull;
    pinti_ranges set;
    bool flags[UNITS] = {false};
    pinti_ranges_init(&set);
    for (uint32_t round = 0; round < 60000; round++) {
        const uint64_t off = next_random(&seed) % UNITS;
        const uint64_t most = 1 + next_random(&seed) % 40;
        const uint64_t bytes = most < UNITS - off ? most : UNITS - off;
        const bool adds = next_random(&seed) % 2 == 0;
        ASSERT_TRUE(adds ? pinti_ranges_add(&set, off, bytes)
                         : pinti_ranges_remove(&set, off, bytes));
        memset(&flags[off], adds, bytes);
        const uint64_t align = 1ull << next_random(&seed) % 5;
        const uint64_t want = 1 + next_random(&seed) % 30;
        uint64_t found = UINT64_MAX;
        (void)pinti_ranges_first_fit(&set, want, align, &found);
        ASSERT_EQ(found, plain_first_fit(flags, want, align));
        if (round % 16 == 0) {
            ASSERT_NO_FATAL(expect_same(&set, flags));
        }
    }
    pinti_ranges_done(&set);
}

TEST(Ranges, PrevIsCutAtTheLimit)
{
    pinti_ranges set;
    pinti_range r = {0, 0};
    pinti_ranges_init(&set);
    ASSERT_TRUE(pinti_ranges_add(&set, 10, 10));
    ASSERT_TRUE(pinti_ranges_add(&set, 40, 10));
    ASSERT_TRUE(pinti_ranges_prev(&set, 1000, &r));
    EXPECT_EQ(r.off, 40u);
    EXPECT_EQ(r.bytes, 10u);
    ASSERT_TRUE(pinti_ranges_prev(&set, 45, &r));
    EXPECT_EQ(r.bytes, 5u);
    ASSERT_TRUE(pinti_ranges_prev(&set, 40, &r));
    EXPECT_EQ(r.off, 10u);
    EXPECT_FALSE(pinti_ranges_prev(&set, 10, &r));
    EXPECT_FALSE(pinti_ranges_prev(&set, 0, &r));
    pinti_ranges_done(&set);
}

TEST(Ranges, HasAllAndHasAnyLookAtEveryUnit)
{
    pinti_ranges set;
    pinti_ranges_init(&set);
    ASSERT_TRUE(pinti_ranges_add(&set, 10, 10));
    EXPECT_TRUE(pinti_ranges_has_all(&set, 12, 8));
    EXPECT_FALSE(pinti_ranges_has_all(&set, 12, 9));
    EXPECT_FALSE(pinti_ranges_has_all(&set, 9, 2));
    EXPECT_TRUE(pinti_ranges_has_all(&set, 1000, 0));
    EXPECT_TRUE(pinti_ranges_has_any(&set, 0, 11));
    EXPECT_FALSE(pinti_ranges_has_any(&set, 0, 10));
    EXPECT_FALSE(pinti_ranges_has_any(&set, 20, 5));
    pinti_ranges_done(&set);
}

TEST(Ranges, ReservedChangesNeedNoMemory)
{
    pinti_ranges set;
    pinti_ranges_init(&set);
    ASSERT_TRUE(pinti_ranges_add(&set, 0, 100000));
    ASSERT_TRUE(pinti_ranges_reserve(&set, 1000));
    const struct pinti_range_node *nodes = set.nodes;
    for (uint64_t i = 0; i < 1000; i++) {
        ASSERT_TRUE(pinti_ranges_remove(&set, i * 2 + 1, 1)); /* each splits a range */
    }
    EXPECT_EQ(set.n, 1001u);
    EXPECT_TRUE(nodes == set.nodes);
    pinti_ranges_done(&set);
}

TEST(Ranges, WorkAtTheEndOfTheNumbers)
{
    pinti_ranges set;
    uint64_t off = 0;
    pinti_ranges_init(&set);
    ASSERT_TRUE(pinti_ranges_add(&set, 1ull << 62, 1ull << 62));
    EXPECT_TRUE(pinti_ranges_first_fit(&set, 1ull << 62, 1ull << 62, &off));
    EXPECT_EQ(off, 1ull << 62);
    EXPECT_FALSE(pinti_ranges_first_fit(&set, UINT64_MAX, 1ull << 62, &off));
    pinti_ranges_done(&set);
}

TEST(Ranges, EmptySetHasNothing)
{
    pinti_ranges set;
    pinti_range r;
    uint64_t off;
    pinti_ranges_init(&set);
    EXPECT_FALSE(pinti_ranges_next(&set, 0, &r));
    EXPECT_FALSE(pinti_ranges_prev(&set, UINT64_MAX, &r));
    EXPECT_FALSE(pinti_ranges_first_fit(&set, 1, 1, &off));
    EXPECT_TRUE(pinti_ranges_remove(&set, 0, 10));
    EXPECT_FALSE(pinti_ranges_has_any(&set, 0, 10));
    pinti_ranges_done(&set);
}
