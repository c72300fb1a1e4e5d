/* SPDX-License-Identifier: Apache-2.0 */

/* Ids of pools and tables, opening by id, what memory is a pool's, and metadata as a reader finds
 * them: also in records that cannot be. */

#include <string.h>

#include "tests/host/fixture.h"

#define CHUNK_ROWS 512u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_pool *other;
} setting;

static void set_up(setting *s)
{
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    s->other = local_session_new(s->local);
}

static pint_table *build(pint_pool *session, const char *name, uint64_t n_rows)
{
    pint_field fields[] = {field_of("x", PINT_INT64, 0), field_of("y", PINT_INT8, 0)};
    fields[1].metadata_bytes = 10;
    pint_schema schema = schema_of(fields, 2, CHUNK_ROWS);
    schema.metadata_bytes = 100;
    return local_table_build(session, name, &schema, n_rows);
}

static pint_table *make(pint_pool *session, const char *name, uint64_t n_rows)
{
    pint_table *table = build(session, name, n_rows);
    local_table_publish(session, table);
    return table;
}

static uint64_t references(const pint_pool *pool, uint32_t index)
{
    return pinti_ref_count(pinti_load64_seq(&pinti_slot_tables(pool->slot)[index]));
}

static pint_status try_id(pint_pool *pool, uint64_t id, uint32_t mode)
{
    pint_table *table = NULL;
    const pint_status status = pint_table_open_id(pool, id, mode, &table, NULL);
    EXPECT_EQ(table != NULL, status == PINT_OK);
    pint_table_close(table);
    return status;
}

/* ---- pools ----------------------------------------------------------------------------------- */

TEST(PoolId, IsThatOfTheCatalogInEverySession)
{
    setting s;
    uint8_t id[18] = {0};
    uint8_t other[16];
    set_up(&s);
    id[16] = 0x5a;
    pint_pool_id(s.session, id);
    pint_pool_id(s.other, other);
    EXPECT_MEMEQ(id, s.session->header->pool_id, 16);
    EXPECT_MEMEQ(id, other, 16);
    EXPECT_EQ(id[16], 0x5a); /* not a byte more */
    local_pool_free(s.local);
}

TEST(PoolContains, ExactlyTheColumnMemory)
{
    setting s;
    set_up(&s);
    pint_table *table = make(s.session, "t", 100);
    const pint_column x = column_of(table, "x");
    const char *data = s.session->data;
    const uint64_t bytes = s.session->data_bytes;
    EXPECT_EQ(pint_pool_contains(s.session, pint_column_values(&x), 800), 1);
    EXPECT_EQ(pint_pool_contains(s.session, data, bytes), 1);
    EXPECT_EQ(pint_pool_contains(s.session, data, bytes + 1), 0);
    EXPECT_EQ(pint_pool_contains(s.session, data, UINT64_MAX), 0);
    EXPECT_EQ(pint_pool_contains(s.session, data + bytes - 1, 1), 1);
    EXPECT_EQ(pint_pool_contains(s.session, data + bytes - 1, 0), 1);
    EXPECT_EQ(pint_pool_contains(s.session, data + bytes - 1, 2), 0);
    EXPECT_EQ(pint_pool_contains(s.session, data + bytes - 1, UINT64_MAX), 0);
    EXPECT_EQ(pint_pool_contains(s.session, data + bytes, 0), 0); /* an empty range at the end */
    EXPECT_EQ(pint_pool_contains(s.session, data - 1, 2), 0);
    EXPECT_EQ(pint_pool_contains(s.session, s.session->sync, 1), 0);
    EXPECT_EQ(pint_pool_contains(s.session, &s, 1), 0);
    EXPECT_EQ(pint_pool_contains(s.session, NULL, 0), 0);
    EXPECT_EQ(pint_pool_contains(NULL, data, 1), 0);
    pint_table_close(table);
    local_pool_free(s.local);
}

/* ---- tables by id ---------------------------------------------------------------------------- */

TEST(TableId, IsNeverZeroAndNeverUsedAgain)
{
    setting s;
    uint64_t seen = 0;
    uint32_t index = 0;
    set_up(&s);
    for (int i = 0; i < 20; i++) { /* the same index, over and over */
        pint_table *table = make(s.session, "t", 10);
        index = i == 0 ? pinti_table_index(table) : index;
        EXPECT_EQ(pinti_table_index(table), index);
        EXPECT_GT(pint_table_id(table), seen);
        seen = pint_table_id(table);
        ASSERT_OK(local_table_drop(s.session, "t"), NULL);
        pint_table_close(table);
        (void)local_pool_reap(s.local);
    }
    local_pool_free(s.local);
}

TEST(OpenId, FindsTheTableInEverySessionAlsoAfterARename)
{
    setting s;
    pint_error err;
    pint_table *found = NULL;
    set_up(&s);
    pint_table *decoy = make(s.session, "decoy", 5);
    pint_table *table = make(s.session, "t", 10);
    const uint64_t id = pint_table_id(table);
    ASSERT_OK(pint_table_open_id(s.other, id, PINT_READ, &found, &err), &err);
    EXPECT_EQ(pint_table_rows(found), 10ull);
    EXPECT_EQ(pint_table_id(found), id);
    EXPECT_EQ(pint_table_is_writable(found), 0);
    pint_table_close(found);
    ASSERT_OK(local_table_rename(s.session, "t", "u"), NULL);
    ASSERT_OK(local_table_rename(s.session, "decoy", "t"), NULL);
    ASSERT_OK(pint_table_open_id(s.other, id, PINT_WRITE, &found, &err), &err);
    char name[PINT_NAME_BYTES_MAX + 1];
    pint_table_name(found, name);
    EXPECT_STREQ(name, "u");
    EXPECT_EQ(pint_table_is_writable(found), 1);
    EXPECT_EQ(references(s.other, pinti_table_index(found)), 1ull);
    pint_table_close(found);
    EXPECT_EQ(references(s.other, pinti_table_index(table)), 0ull);
    pint_table_close(decoy);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(OpenId, OfWhatIsNotLiveIsNotFoundAndLeavesNoReference)
{
    setting s;
    pint_error err;
    pint_table *found = NULL;
    set_up(&s);
    pint_table *building = build(s.session, "b", 10);
    pint_table *dropped = make(s.session, "d", 10);
    const uint64_t id = pint_table_id(dropped);
    ASSERT_OK(local_table_drop(s.session, "d"), NULL);
    EXPECT_EQ(try_id(s.session, pint_table_id(building), PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_EQ(try_id(s.other, id, PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_EQ(try_id(s.other, 0, PINT_READ), PINT_E_NOT_FOUND); /* what FREE records have */
    EXPECT_EQ(try_id(s.other, id + 1, PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_STATUS(PINT_E_NOT_FOUND,
                  pint_table_open_id(s.other, UINT64_MAX, PINT_READ, &found, &err), &err);
    EXPECT_TRUE(strstr(err.message, "id 18446744073709551615") != NULL);
    const uint32_t index = pinti_table_index(dropped);
    pint_table_close(dropped);
    (void)local_pool_reap(s.local);
    pint_table *next = make(s.session, "d", 10); /* the index again, another id */
    EXPECT_EQ(pinti_table_index(next), index);
    EXPECT_EQ(try_id(s.other, id, PINT_READ), PINT_E_NOT_FOUND);
    EXPECT_EQ(references(s.other, index), 0ull);
    pint_table_close(next);
    pint_table_close(building);
    local_pool_free(s.local);
}

TEST(OpenId, RefusesWhatOpenRefuses)
{
    setting s;
    pint_error err;
    pint_table *found = NULL;
    set_up(&s);
    pint_table *table = make(s.session, "t", 10);
    const uint64_t id = pint_table_id(table);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open_id(NULL, id, PINT_READ, &found, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_table_open_id(s.other, id, PINT_READ, NULL, &err), &err);
    EXPECT_EQ(try_id(s.other, id, 0), PINT_E_INVALID);
    EXPECT_EQ(try_id(s.other, id, 4), PINT_E_INVALID);
    s.other->writable = false; /* as if joined read-only */
    EXPECT_EQ(try_id(s.other, id, PINT_WRITE), PINT_E_PERMISSION);
    EXPECT_EQ(try_id(s.other, id, PINT_READ), PINT_OK);
    s.other->writable = true;
    ASSERT_OK(local_table_freeze(table), NULL);
    EXPECT_EQ(try_id(s.other, id, PINT_WRITE), PINT_E_FROZEN);
    pinti_store32_seq(&((pinti_slot_header *)(void *)s.other->slot)->xstale, 1);
    EXPECT_EQ(try_id(s.other, id, PINT_READ), PINT_E_STALE);
    pinti_a64 *word = &pinti_slot_tables(s.session->slot)[pinti_table_index(table)];
    EXPECT_EQ(references(s.other, pinti_table_index(table)), 0ull);
    const uint64_t good = pinti_load64_seq(word);
    pinti_store64_seq(word, 0x7777ull << 32 | 1); /* a slot that refers to another generation */
    EXPECT_EQ(try_id(s.session, id, PINT_READ), PINT_E_CORRUPT);
    pinti_store64_seq(word, good);
    pint_table_close(table);
    local_pool_free(s.local);
}

/* ---- metadata -------------------------------------------------------------------------------- */

TEST(Metadata, AreWhereTheRecordSays)
{
    setting s;
    pint_error err;
    pint_table *theirs = NULL;
    uint64_t bytes = 77;
    set_up(&s);
    pint_table *table = make(s.session, "t", 10);
    char *own = (char *)(uintptr_t)pint_table_metadata(table, &bytes);
    ASSERT_EQ(bytes, 100ull);
    EXPECT_EQ(pint_pool_contains(s.session, own, bytes), 1);
    memset(own, 'm', 100);
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &theirs, &err), &err);
    EXPECT_MEMEQ(pint_table_metadata(theirs, &bytes), own, 100);
    const pint_column x = column_of(theirs, "x");
    const pint_column y = column_of(theirs, "y");
    EXPECT_TRUE(pint_column_metadata(&y, &bytes) != NULL);
    EXPECT_EQ(bytes, 10ull);
    EXPECT_TRUE(pint_column_metadata(&y, NULL) != NULL); /* who does not ask for the size */
    EXPECT_TRUE(pint_column_metadata(&x, &bytes) == NULL);
    EXPECT_EQ(bytes, 0ull);
    pint_table_close(theirs);
    pint_table_close(table);
    local_pool_free(s.local);
}

TEST(Metadata, OutsideTheMemoryOrOverTheLimitAreCorrupt)
{
    setting s;
    pint_error err;
    pint_table *table = NULL;
    set_up(&s);
    pint_table *mine = make(s.session, "t", 10);
    pinti_table_rec *rec = &pinti_cat_tables(s.other->catalog)[pinti_table_index(mine)];
    pinti_column_rec *column = &pinti_cat_columns(s.other->catalog)[rec->runs[0].first + 1];
    struct {
        uint64_t *off, *bytes;
    } places[] = {{&rec->metadata_off, &rec->metadata_bytes},
                  {&column->metadata_off, &column->metadata_bytes}};
    const uint64_t end = s.other->data_bytes;
    const struct {
        uint64_t off, bytes;
    } wrong[] = {{0, PINT_METADATA_BYTES_MAX + 1ull},
                 {0, UINT64_MAX},
                 {1, 1},
                 {32, 8},
                 {end, 1},
                 {end - 64, 65},
                 {UINT64_MAX - 63, 64},
                 {PINTI_NO_BUFFER, 1},
                 {1ull << 63, 64}};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        const uint64_t good_off = *places[i].off;
        const uint64_t good_bytes = *places[i].bytes;
        for (size_t k = 0; k < COUNT_OF(wrong); k++) {
            *places[i].off = wrong[k].off;
            *places[i].bytes = wrong[k].bytes;
            EXPECT_STATUS(PINT_E_CORRUPT, pint_table_open(s.other, "t", PINT_READ, &table, &err),
                          &err);
        }
        *places[i].off = good_off;
        *places[i].bytes = good_bytes;
    }
    EXPECT_EQ(references(s.other, pinti_table_index(mine)), 0ull);
    /* without bytes the offset means nothing; and the last bytes there are may be metadata */
    rec->metadata_off = 12345;
    rec->metadata_bytes = 0;
    column->metadata_off = end - 64;
    column->metadata_bytes = 64;
    uint64_t bytes;
    ASSERT_OK(pint_table_open(s.other, "t", PINT_READ, &table, &err), &err);
    EXPECT_TRUE(pint_table_metadata(table, &bytes) == NULL);
    EXPECT_EQ(bytes, 0ull);
    const pint_column y = column_of(table, "y");
    EXPECT_TRUE(pint_column_metadata(&y, &bytes) == s.other->data + end - 64);
    pint_table_close(table);
    pint_table_close(mine);
    local_pool_free(s.local);
}
