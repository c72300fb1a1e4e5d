/* SPDX-License-Identifier: Apache-2.0 */
/* The creator's own bytes, from the schema to another process. */

#include "tests/ipc/live.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 3u
#define LARGE   (5u << 20)

/* Byte i of the metadata of column c; c COLUMNS is the table. */
static unsigned char byte_of(unsigned c, size_t i)
{
    return (unsigned char)(i * 31 + i / 251 + c * 101 + 7);
}

static const size_t sizes[COLUMNS + 1] = {1, 0, LARGE, 1000};

static bool is_as_given(const void *metadata, uint64_t bytes, unsigned c)
{
    if (bytes != sizes[c] || (metadata == NULL) != (bytes == 0)) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (((const unsigned char *)metadata)[i] != byte_of(c, i)) {
            return false;
        }
    }
    return true;
}

static bool is_all_as_given(pint_table *table)
{
    uint64_t bytes = 1;
    const void *metadata = pint_table_metadata(table, &bytes);
    bool is_good = is_as_given(metadata, bytes, COLUMNS);
    for (uint32_t c = 0; c < COLUMNS && is_good; c++) {
        pint_column column;
        is_good = pint_table_column_at(table, c, &column, &live_err) == PINT_OK;
        metadata = is_good ? pint_column_metadata(&column, &bytes) : NULL;
        is_good = is_good && is_as_given(metadata, bytes, c);
    }
    return is_good;
}

/* Metadata of every size, in one allocation each; freed by the caller. */
static void make_schema(pint_field fields[COLUMNS], pint_schema *schema, unsigned char **out)
{
    static const char *const names[] = {"a", "b", "c"};
    *schema = (pint_schema)PINT_SCHEMA_INIT;
    *out = malloc(LARGE + 2048);
    ASSERT_TRUE(*out != NULL);
    unsigned char *next = *out;
    for (unsigned c = 0; c <= COLUMNS; c++) {
        for (size_t i = 0; i < sizes[c]; i++) {
            next[i] = byte_of(c, i);
        }
        if (c < COLUMNS) {
            fields[c] = live_field(names[c], PINT_INT64);
            fields[c].metadata = next;
            fields[c].metadata_bytes = sizes[c];
        } else {
            schema->metadata = next;
            schema->metadata_bytes = sizes[c];
        }
        next += sizes[c];
    }
    schema->fields = fields;
    schema->n_fields = COLUMNS;
}

/* arguments: address */
PROC(read_metadata)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    (void)argc;
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_READ, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_READ, &table, &live_err) == PINT_OK);
    CT_REQUIRE(is_all_as_given(table));
    uint64_t bytes;
    const void *metadata = pint_table_metadata(table, &bytes);
    CT_REQUIRE(pint_pool_contains(pool, metadata, bytes) == 1);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}

TEST(Metadata, AreSeenByTheCreatorAndByAnotherProcess)
{
    pint_field fields[COLUMNS];
    pint_schema schema;
    unsigned char *bytes = NULL;
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_NO_FATAL(make_schema(fields, &schema, &bytes));
    ASSERT_OK(pint_table_create(pool, "t", &schema, 100, &table, &live_err), &live_err);
    free(bytes); /* it was borrowed */
    EXPECT_TRUE(is_all_as_given(table));
    EXPECT_GE(pint_table_bytes(table), (uint64_t)LARGE); /* it is charged */
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    const char *const arguments[] = {ct_tmpdir(), NULL};
    EXPECT_EQ(ct_wait(ct_spawn("read_metadata", arguments)), 0);
    ASSERT_OK(pint_table_rename(pool, "t", "u", &live_err), &live_err);
    EXPECT_TRUE(is_all_as_given(table));
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* Memory used before is zeroed by the client when it is little and warm: metadata come after. And
 * in a table that is not zeroed they are whole, too. */
TEST(Metadata, AreWholeInMemoryThatWasUsedBefore)
{
    static const char given[] = "given";
    pint_pool *pool = NULL;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    for (uint32_t n = 0; n < 8; n++) {
        pint_table *table = NULL;
        pint_column column;
        uint64_t bytes;
        pint_field field = live_field("x", PINT_INT64);
        field.metadata = given;
        field.metadata_bytes = 5;
        pint_schema schema = PINT_SCHEMA_INIT;
        schema.fields = &field;
        schema.n_fields = 1;
        schema.flags = n % 2 != 0 ? PINT_UNINITIALISED : 0;
        schema.metadata = given + 1;
        schema.metadata_bytes = 4;
        ASSERT_OK(pint_table_create(pool, "t", &schema, 100, &table, &live_err), &live_err);
        ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
        EXPECT_MEMEQ(pint_table_metadata(table, &bytes), "iven", 4);
        EXPECT_EQ(bytes, 4);
        EXPECT_MEMEQ(pint_column_metadata(&column, &bytes), "given", 5);
        EXPECT_EQ(bytes, 5);
        for (int row = 0; row < 100; row++) {
            int64_t *values = pint_column_values(&column);
            EXPECT_TRUE(n % 2 != 0 || values[row] == 0);
            values[row] = -1;
        }
        pint_table_close(table);
    }
    pint_pool_leave(pool);
    live_stop();
}

TEST(Metadata, ThatCannotBeAreRefused)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_field field = live_field("x", PINT_INT64);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    static const uint64_t over[] = {PINT_METADATA_BYTES_MAX + 1ull, UINT64_MAX};
    for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++) {
        field.metadata = "";
        field.metadata_bytes = over[i];
        EXPECT_STATUS(PINT_E_RANGE, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                      &live_err);
        field.metadata_bytes = 0;
        schema.metadata = "";
        schema.metadata_bytes = over[i];
        EXPECT_STATUS(PINT_E_RANGE, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                      &live_err);
        schema.metadata_bytes = 0;
    }
    field.metadata = NULL;
    field.metadata_bytes = 1;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                  &live_err);
    field.metadata_bytes = 0;
    schema.metadata = NULL;
    schema.metadata_bytes = 1;
    EXPECT_STATUS(PINT_E_INVALID, pint_table_create(pool, "t", &schema, 1, &table, &live_err),
                  &live_err);
    schema.metadata_bytes = 0;
    schema.metadata = "not read";
    EXPECT_EQ(table, NULL);
    ASSERT_OK(pint_table_create(pool, "t", &schema, 1, &table, &live_err), &live_err);
    uint64_t bytes = 1;
    EXPECT_EQ(pint_table_metadata(table, &bytes), NULL);
    EXPECT_EQ(bytes, 0);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

TEST(Metadata, OfTheLargestSizeAreTaken)
{
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    uint64_t bytes;
    unsigned char *large = malloc(PINT_METADATA_BYTES_MAX);
    ASSERT_TRUE(large != NULL);
    for (size_t i = 0; i < PINT_METADATA_BYTES_MAX; i++) {
        large[i] = byte_of(0, i);
    }
    pint_field field = live_field("x", PINT_BOOL);
    field.metadata = large;
    field.metadata_bytes = PINT_METADATA_BYTES_MAX;
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(pint_table_create(pool, "t", &schema, 0, &table, &live_err), &live_err);
    pint_column column;
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    EXPECT_MEMEQ(pint_column_metadata(&column, &bytes), large, PINT_METADATA_BYTES_MAX);
    EXPECT_EQ(bytes, PINT_METADATA_BYTES_MAX);
    free(large);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

/* A caller compiled before there was metadata has shorter structs, and whatever behind them. */
TEST(Metadata, OfAnOlderCallerAreNone)
{
    enum { FIELD_BYTES = offsetof(pint_field, metadata) };
    _Alignas(pint_field) unsigned char fields[2 * FIELD_BYTES + sizeof(pint_field)];
    _Alignas(pint_schema) unsigned char schema[sizeof(pint_schema)];
    static const char *const names[] = {"a", "b"};
    memset(fields, 0xaa, sizeof(fields));
    memset(schema, 0xaa, sizeof(schema));
    for (unsigned i = 0; i < 2; i++) {
        pint_field field = live_field(names[i], PINT_INT64);
        field.struct_bytes = FIELD_BYTES;
        memcpy(fields + i * (size_t)FIELD_BYTES, &field, FIELD_BYTES);
    }
    pint_schema own = PINT_SCHEMA_INIT;
    own.struct_bytes = offsetof(pint_schema, metadata);
    own.fields = (const pint_field *)(const void *)fields;
    own.n_fields = 2;
    memcpy(schema, &own, own.struct_bytes);
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_column column;
    uint64_t bytes = 1;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(pint_table_create(pool, "t", (const pint_schema *)(const void *)schema, 10, &table,
                                &live_err),
              &live_err);
    EXPECT_EQ(pint_table_columns(table), 2);
    EXPECT_EQ(pint_table_metadata(table, &bytes), NULL);
    EXPECT_EQ(bytes, 0);
    ASSERT_OK(pint_table_column(table, "b", &column, &live_err), &live_err);
    EXPECT_EQ(pint_column_metadata(&column, NULL), NULL);
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

TEST(OpenId, FindsATableAfterItsNameWentToAnother)
{
    pint_pool *pool = NULL;
    pint_pool *other = NULL;
    pint_table *table = NULL;
    pint_table *next = NULL;
    pint_table *found = NULL;
    uint8_t ids[2][16];
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_READ, &other), &live_err);
    pint_pool_id(pool, ids[0]);
    pint_pool_id(other, ids[1]);
    EXPECT_MEMEQ(ids[0], ids[1], 16);
    ASSERT_OK(live_create(pool, "t", 10, &table), &live_err);
    const uint64_t id = pint_table_id(table);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open_id(other, id, PINT_READ, &found, &live_err),
                  &live_err); /* not published */
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_rename(pool, "t", "old", &live_err), &live_err);
    ASSERT_OK(live_create(pool, "t", 20, &next), &live_err);
    ASSERT_OK(pint_table_publish(next, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_open_id(other, id, PINT_READ, &found, &live_err), &live_err);
    EXPECT_EQ(pint_table_rows(found), 10);
    EXPECT_STATUS(PINT_E_PERMISSION, pint_table_open_id(other, id, PINT_WRITE, &found, &live_err),
                  &live_err);
    ASSERT_OK(pint_table_drop(pool, "old", &live_err), &live_err);
    EXPECT_EQ(pint_table_rows(found), 10); /* as long as it is open */
    pint_table_close(found);
    EXPECT_STATUS(PINT_E_NOT_FOUND, pint_table_open_id(other, id, PINT_READ, &found, &live_err),
                  &live_err);
    pint_table_close(table);
    pint_table_close(next);
    pint_pool_leave(other);
    pint_pool_leave(pool);
    live_stop();
}
