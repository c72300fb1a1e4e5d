/* SPDX-License-Identifier: Apache-2.0 */

/* The shared-memory format as docs/format.md says it. A test that fails here says: raise
 * PINTI_LAYOUT_VERSION, then pin the new numbers. */

#include "tests/host/fixture.h"

TEST(Layout, SignatureOfVersionThreeIsStable)
{
    EXPECT_EQ(PINTI_LAYOUT_VERSION, 3u);
    EXPECT_EQ(pinti_layout_signature(), 0x40f5120au);
}

TEST(Layout, MagicsReadAsTextInMemory)
{
    const uint64_t magic = PINTI_MAGIC;
    const uint64_t slot_magic = PINTI_SLOT_MAGIC;
    EXPECT_MEMEQ(&magic, "PNTABLE1", 8);
    EXPECT_MEMEQ(&slot_magic, "PNTSLOT1", 8);
}

TEST(Layout, CatalogAreasAreWhereTheyAre)
{
    static const uint64_t areas[] = {
        PINTI_CAT_INDEX_OFF,   PINTI_CAT_SESSIONS_OFF, PINTI_CAT_TABLES_OFF, PINTI_CAT_JOBS_OFF,
        PINTI_CAT_EXTENTS_OFF, PINTI_CAT_USES_OFF,     PINTI_CAT_SLABS_OFF,  PINTI_CAT_COLUMNS_OFF,
        PINTI_CAT_COPIES_OFF,  PINTI_CAT_BYTES};
    static const uint64_t bytes[] = {
        PINTI_INDEX_SLOTS * 8ull, PINTI_SESSIONS_MAX * 128ull, PINTI_TABLES_MAX * 512ull,
        PINTI_JOBS_MAX * 512ull,  PINTI_EXTENTS_MAX * 32ull,   PINTI_USES_MAX * 4ull,
        PINTI_SLABS_MAX * 1ull,   PINTI_COLUMNS_MAX * 512ull,  PINTI_COPIES_MAX * 256ull};
    EXPECT_LE(sizeof(pinti_catalog_header), PINTI_CAT_INDEX_OFF);
    for (size_t i = 0; i < COUNT_OF(areas); i++) {
        EXPECT_EQ(areas[i] % PINTI_PAGE_BYTES, 0ull);
    }
    for (size_t i = 0; i < COUNT_OF(bytes); i++) {
        EXPECT_EQ(areas[i + 1] - areas[i], bytes[i]);
    }
    EXPECT_EQ(PINTI_CAT_BYTES >> 20, 615ull);
}

TEST(Layout, CatalogAccessorsLeadToTheAreas)
{
    static char base[8];
    EXPECT_EQ((uintptr_t)pinti_cat_index(base) - (uintptr_t)base, PINTI_CAT_INDEX_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_sessions(base) - (uintptr_t)base, PINTI_CAT_SESSIONS_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_tables(base) - (uintptr_t)base, PINTI_CAT_TABLES_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_jobs(base) - (uintptr_t)base, PINTI_CAT_JOBS_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_extents(base) - (uintptr_t)base, PINTI_CAT_EXTENTS_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_uses(base) - (uintptr_t)base, PINTI_CAT_USES_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_slabs(base) - (uintptr_t)base, PINTI_CAT_SLABS_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_columns(base) - (uintptr_t)base, PINTI_CAT_COLUMNS_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_copies(base) - (uintptr_t)base, PINTI_CAT_COPIES_OFF);
    EXPECT_EQ((uintptr_t)pinti_cat_devices(base) - (uintptr_t)base, PINTI_CAT_DEVICES_OFF);
}

TEST(Layout, SlotAreasFollowEachOtherInsideTheSlot)
{
    EXPECT_LE(sizeof(pinti_slot_header), PINTI_SLOT_INTENTS_OFF);
    EXPECT_EQ(PINTI_SLOT_INTENTS_OFF % PINTI_PAGE_BYTES, 0ull);
    EXPECT_EQ(PINTI_SLOT_TABLES_OFF - PINTI_SLOT_INTENTS_OFF, PINTI_INTENTS * 8ull);
    EXPECT_EQ(PINTI_SLOT_JOBS_OFF - PINTI_SLOT_TABLES_OFF, PINTI_TABLES_MAX * 8ull);
    EXPECT_EQ(PINTI_SLOT_PINS_OFF - PINTI_SLOT_JOBS_OFF, PINTI_JOBS_MAX * 8ull);
    EXPECT_EQ(PINTI_SLOT_COPIES_OFF - PINTI_SLOT_PINS_OFF, PINTI_SLABS_MAX / 8);
    EXPECT_EQ(PINTI_SLOT_VIEWS_OFF - PINTI_SLOT_COPIES_OFF, PINTI_COPIES_MAX * 8ull);
    EXPECT_LE(PINTI_SLOT_VIEWS_OFF + PINTI_VIEWS_MAX * 8ull, PINTI_SLOT_BYTES);
    EXPECT_EQ(PINTI_SLOT_BYTES, 4ull << 20);
}

TEST(Layout, SegmentsHaveTheSizesOfTheFormat)
{
    EXPECT_EQ(PINTI_BELL_BYTES, 256ull << 10);
    EXPECT_EQ(PINTI_TETHER_BYTES, 4096ull);
    EXPECT_EQ(PINTI_SLAB_BYTES, 2ull << 20);
}

TEST(Layout, FieldsWrittenByDifferentProcessesAreOnDifferentLines)
{
    EXPECT_EQ(offsetof(pinti_catalog_header, xindex_seq) % PINTI_CACHE_LINE, 0u);
    EXPECT_EQ(offsetof(pinti_job_sync, xredone) % PINTI_CACHE_LINE, 0u);
    EXPECT_NE(offsetof(pinti_job_sync, xredone) / PINTI_CACHE_LINE,
              offsetof(pinti_job_sync, xcursor) / PINTI_CACHE_LINE);
    EXPECT_EQ(offsetof(pinti_slot_header, xschema_generation) % PINTI_CACHE_LINE, 0u);
    EXPECT_EQ(sizeof(pinti_bell) % PINTI_CACHE_LINE, 0u);
    EXPECT_EQ(sizeof(pinti_column_state) % PINTI_CACHE_LINE, 0u);
}

TEST(Layout, NumbersOfRecordsFitTheWordsThatNameThem)
{
    EXPECT_LE(PINTI_SESSIONS_MAX - 1ull, PINTI_HOLDER_MASK);
    EXPECT_LE(PINTI_TABLES_MAX - 1ull, 0xffffull); /* intent: 16 bits */
    EXPECT_LE(PINTI_JOBS_MAX - 1ull, 0xffffull);
    EXPECT_LE(PINTI_TABLE_COLUMNS_MAX - 1ull, 0xffffull);
    EXPECT_LE(PINTI_CHUNKS_MAX - 1ull, (1ull << 30) - 1);
    EXPECT_GE((uint64_t)PINTI_INDEX_SLOTS, 2ull * PINTI_TABLES_MAX); /* at most half full */
}
