/* SPDX-License-Identifier: Apache-2.0 */
/* Which schemas are refused, with what message, and where the buffers of the others go. */
#include "ipc/service/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/service/catalog_support.h"
#include "tests/support/ct.h"

/* A good schema of one column 'x' of this type, for a case to spoil. */
static struct pinti_schema_column *one_column(pinti_schema *schema, const char *type)
{
    char columns[64];
    (void)snprintf(columns, sizeof(columns), "x:%s", type);
    return world_schema("t", 1000, columns, schema) ? schema->columns : NULL;
}

/* The schema is refused with this status and a message that has this text. */
static void expect_refused(pinti_schema *schema, pint_status status, const char *text)
{
    pint_error err = {0};
    EXPECT_STATUS(status, pinti_cat_check_schema(schema, &err), &err);
    if (strstr(err.message, text) == NULL) {
        EXPECT_STREQ(err.message, text);
    }
    free(schema->columns);
}

TEST(Schema, GoodOnesAreTaken)
{
    pint_error err;
    pinti_schema schema;
    ASSERT_TRUE(world_schema("all types", 1000,
                             "a:bool? b:bool8 c:int8 d:int16 e:int32 f:int64 g:uint8 h:uint16 "
                             "i:uint32 j:uint64 k:float16 l:float32 m:float64 n:date32 o:timestamp "
                             "p:binary_fixed q:text? r:dict_text s:list_fixed km/h:int8",
                             &schema));
    EXPECT_OK(pinti_cat_check_schema(&schema, &err), &err);
    free(schema.columns);
}

TEST(Schema, BadNamesAreRefused)
{
    static const char *const table_names[] = {"",     ".",        "..",   "a/b",
                                              "a\nb", "a\x1b[1m", "\xff", "\xc2\x85"};
    static const char *const column_names[] = {"", "a\tb", "\x7f", "\xed\xa0\x80"};
    pinti_schema schema;
    for (size_t i = 0; i < sizeof(table_names) / sizeof(table_names[0]); i++) {
        ASSERT_TRUE(one_column(&schema, "int8") != NULL);
        (void)snprintf(schema.name, sizeof(schema.name), "%s", table_names[i]);
        expect_refused(&schema, PINT_E_INVALID, "name");
    }
    for (size_t i = 0; i < sizeof(column_names) / sizeof(column_names[0]); i++) {
        ASSERT_TRUE(one_column(&schema, "int8") != NULL);
        (void)snprintf(schema.columns[0].name, sizeof(schema.columns[0].name), "%s",
                       column_names[i]);
        expect_refused(&schema, PINT_E_INVALID, "name");
    }
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    memset(schema.name, 'a', sizeof(schema.name)); /* no end */
    expect_refused(&schema, PINT_E_INVALID, "255");
}

TEST(Schema, DuplicateColumnsAreRefused)
{
    pinti_schema schema;
    ASSERT_TRUE(world_schema("t", 10, "a:int8 b:int8 c:int8 b:int16", &schema));
    expect_refused(&schema, PINT_E_INVALID, "columns 1 and 3");
}

TEST(Schema, CountsOutsideTheirLimitsAreRefused)
{
    pinti_schema schema;
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.n_columns = 0;
    expect_refused(&schema, PINT_E_INVALID, "0 columns");
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.n_columns = PINTI_TABLE_COLUMNS_MAX + 1;
    expect_refused(&schema, PINT_E_LIMIT, "65537 columns");
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.n_rows = PINTI_ROWS_MAX + 1;
    expect_refused(&schema, PINT_E_RANGE, "281474976710657 rows");
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.n_rows = UINT64_MAX;
    expect_refused(&schema, PINT_E_RANGE, "rows");
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.flags = 4;
    expect_refused(&schema, PINT_E_INVALID, "flags 0x4");
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    schema.n_rows = PINTI_ROWS_MAX;
    schema.chunk_rows = 512;
    expect_refused(&schema, PINT_E_LIMIT, "chunks");
}

TEST(Schema, MetadataOverTheLimitAreRefused)
{
    static const uint64_t over[] = {PINT_METADATA_BYTES_MAX + 1ull, UINT64_MAX - 63, UINT64_MAX};
    pinti_schema schema;
    pint_error err;
    for (size_t i = 0; i < sizeof(over) / sizeof(over[0]); i++) {
        ASSERT_TRUE(one_column(&schema, "int8") != NULL);
        schema.metadata_bytes = over[i];
        expect_refused(&schema, PINT_E_RANGE, "bytes of metadata, at most 16777216");
        struct pinti_schema_column *column = one_column(&schema, "int8");
        ASSERT_TRUE(column != NULL);
        column->metadata_bytes = over[i];
        expect_refused(&schema, PINT_E_RANGE, "column 'x'");
    }
    struct pinti_schema_column *column = one_column(&schema, "int8");
    ASSERT_TRUE(column != NULL);
    column->metadata_bytes = PINT_METADATA_BYTES_MAX;
    schema.metadata_bytes = PINT_METADATA_BYTES_MAX;
    EXPECT_OK(pinti_cat_check_schema(&schema, &err), &err);
    free(schema.columns);
}

TEST(Schema, ChunkRowsAreAPowerOfTwo)
{
    static const uint64_t bad[] = {1, 3, 256, 511, 513, 1000, 1ull << 49, UINT64_MAX};
    pinti_schema schema;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ASSERT_TRUE(one_column(&schema, "int8") != NULL);
        schema.chunk_rows = bad[i];
        expect_refused(&schema, PINT_E_RANGE, "power of two");
    }
}

TEST(Schema, TypesAndTheirParametersMustMatch)
{
    pinti_schema schema;
    struct pinti_schema_column *column;
#define REFUSED(type_, status_, text_, ...)                                                        \
    do {                                                                                           \
        column = one_column(&schema, (type_));                                                     \
        ASSERT_TRUE(column != NULL);                                                               \
        __VA_ARGS__;                                                                               \
        expect_refused(&schema, (status_), (text_));                                               \
    } while (0)
    REFUSED("int8", PINT_E_INVALID, "type 0", column->type = 0);
    REFUSED("int8", PINT_E_INVALID, "type 20", column->type = 20);
    REFUSED("int8", PINT_E_INVALID, "type 4294967295", column->type = UINT32_MAX);
    REFUSED("int8", PINT_E_INVALID, "flags", column->flags = 2);
    REFUSED("int8", PINT_E_INVALID, "unit", column->unit = PINT_SECOND);
    REFUSED("timestamp", PINT_E_INVALID, "unit 0", column->unit = 0);
    REFUSED("timestamp", PINT_E_INVALID, "unit 5", column->unit = 5);
    REFUSED("int64", PINT_E_INVALID, "zone", memcpy(column->zone, "UTC", 4));
    REFUSED("timestamp", PINT_E_INVALID, "zone", memcpy(column->zone, "U\nC", 4));
    REFUSED("timestamp", PINT_E_RANGE, "zone", memset(column->zone, 'z', sizeof(column->zone)));
    REFUSED("binary_fixed", PINT_E_RANGE, "width of 0", column->width_bytes = 0);
    REFUSED("binary_fixed", PINT_E_RANGE, "1048576", column->width_bytes = (1u << 20) + 1);
    REFUSED("int8", PINT_E_INVALID, "width", column->width_bytes = 1);
    REFUSED("list_fixed", PINT_E_RANGE, "length of 0", column->list_length = 0);
    REFUSED("list_fixed", PINT_E_RANGE, "2147483648", column->list_length = 1u << 31);
    REFUSED("list_fixed", PINT_E_INVALID, "item type", column->item_type = PINT_TEXT);
    REFUSED("list_fixed", PINT_E_INVALID, "item type", column->item_type = PINT_BOOL);
    REFUSED("list_fixed", PINT_E_INVALID, "item type", column->item_type = UINT32_MAX);
    REFUSED("int8", PINT_E_INVALID, "length", column->list_length = 1);
    REFUSED("int8", PINT_E_INVALID, "item type", column->item_type = PINT_INT8);
    REFUSED("dict_text", PINT_E_INVALID, "int8, int16 or int32", column->item_type = PINT_INT64);
    REFUSED("dict_text", PINT_E_RANGE, "at most 32768", column->n_categories = 32769);
    REFUSED("dict_text", PINT_E_RANGE, "at most 128",
            (column->item_type = PINT_INT8, column->n_categories = 129));
    REFUSED("dict_text", PINT_E_RANGE, "at most 2147483647",
            (column->item_type = PINT_INT32, column->n_categories = 1ull << 31));
    REFUSED("text", PINT_E_INVALID, "categories", column->n_categories = 1);
    REFUSED("int8", PINT_E_INVALID, "text", column->data_bytes = 1);
    REFUSED("text", PINT_E_RANGE, "text", column->data_bytes = UINT64_MAX);
    REFUSED("text", PINT_E_RANGE, "text", column->data_bytes = (1ull << 48) + 1);
#undef REFUSED
}

TEST(Schema, RowsTimesWidthMayNotOverflow)
{
    pinti_schema schema;
    struct pinti_schema_column *column = one_column(&schema, "list_fixed");
    ASSERT_TRUE(column != NULL);
    schema.n_rows = PINTI_ROWS_MAX;
    schema.chunk_rows = 1ull << 30;
    column->list_length = 1u << 20;
    column->item_type = PINT_FLOAT64;
    expect_refused(&schema, PINT_E_RANGE, "2^63");
}

TEST(Schema, NamesInMessagesArePrintable)
{
    pint_error err = {0};
    pinti_schema schema;
    ASSERT_TRUE(one_column(&schema, "int8") != NULL);
    (void)snprintf(schema.name, sizeof(schema.name), "%s", "evil\x1b[2J\n%s%n");
    EXPECT_STATUS(PINT_E_INVALID, pinti_cat_check_schema(&schema, &err), &err);
    for (const char *c = err.message; *c != '\0'; c++) {
        ASSERT_TRUE(*c >= ' ' && *c != 0x7f);
    }
    EXPECT_TRUE(strstr(err.message, "%s%n") != NULL);
    free(schema.columns);
}

static uint64_t chosen_chunk_rows(const char *columns, uint64_t n_rows)
{
    pinti_schema schema;
    pint_error err;
    if (!world_schema("t", n_rows, columns, &schema)) {
        return 0;
    }
    EXPECT_OK(pinti_cat_check_schema(&schema, &err), &err);
    free(schema.columns);
    return schema.chunk_rows;
}

TEST(Schema, ChunksAreAsLongAsAMebibyteAndSixtyFourChunksAllow)
{
    EXPECT_EQ(chosen_chunk_rows("a:int8", 0), 512u);
    EXPECT_EQ(chosen_chunk_rows("a:int8", 1000), 512u);
    EXPECT_EQ(chosen_chunk_rows("a:int8", 64 * 1024), 1024u);
    EXPECT_EQ(chosen_chunk_rows("a:int8", 64 * 1024 - 1024), 512u);
    EXPECT_EQ(chosen_chunk_rows("a:float64", 1ull << 30), 131072u);
    EXPECT_EQ(chosen_chunk_rows("a:bool", 1ull << 40), 8u << 20);
    EXPECT_EQ(chosen_chunk_rows("a:text b:int8", 1ull << 30), 131072u);
    EXPECT_EQ(chosen_chunk_rows("a:list_fixed", 1ull << 30), 2048u); /* 400 bytes a row */
}

static void add_range(pinti_range *ranges, uint32_t *n, uint64_t off, uint64_t bytes)
{
    if (off != PINTI_NO_BUFFER) {
        ranges[(*n)++] = (pinti_range){.off = off, .bytes = bytes};
    }
}

static int by_offset(const void *a, const void *b)
{
    const uint64_t x = ((const pinti_range *)a)->off;
    const uint64_t y = ((const pinti_range *)b)->off;
    return x < y ? -1 : x > y;
}

TEST(Schema, BuffersAreAlignedInsideAndApart)
{
    static const uint64_t rows[] = {0, 1, 63, 64, 65, 512, 513, 100000, 5000000};
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        pinti_schema schema;
        pinti_shape shape;
        pint_error err;
        pinti_range ranges[64];
        uint32_t n = 0;
        uint64_t cursor = 0;
        ASSERT_TRUE(world_schema(
            "t", rows[k], "a:bool? b:text? c:dict_text? d:float64? e:binary_fixed", &schema));
        schema.metadata_bytes = k % 3 * 1000;
        for (uint32_t i = 0; i < schema.n_columns; i++) {
            schema.columns[i].metadata_bytes = (k + i) % 4 * (1u << 20) + i % 2;
        }
        ASSERT_OK(pinti_cat_check_schema(&schema, &err), &err);
        ASSERT_OK(pinti_schema_shape(&schema, &shape, &err), &err);
        EXPECT_GE(shape.row_capacity, rows[k]);
        EXPECT_EQ(shape.row_capacity % 64, 0u);
        if (shape.n_chunks > 1) {
            EXPECT_EQ(shape.row_capacity, shape.n_chunks * shape.chunk_rows);
        }
        for (uint32_t i = 0; i < schema.n_columns; i++) {
            pinti_place place;
            const struct pinti_schema_column *column = &schema.columns[i];
            const uint64_t row_bytes = pinti_schema_row_bytes(column);
            ASSERT_TRUE(pinti_schema_place(&schema, &shape, i, &cursor, &place));
            add_range(ranges, &n, place.validity, shape.row_capacity / 8);
            add_range(ranges, &n, place.values,
                      row_bytes == 0 ? shape.row_capacity / 8 : shape.row_capacity * row_bytes);
            add_range(ranges, &n, place.offsets, (shape.row_capacity + 1) * 8);
            add_range(ranges, &n, place.data, column->data_bytes);
            add_range(ranges, &n, place.dict_offsets, (column->n_categories + 1) * 8);
            EXPECT_EQ(place.metadata == PINTI_NO_BUFFER, column->metadata_bytes == 0);
            add_range(ranges, &n, place.metadata, column->metadata_bytes);
            EXPECT_EQ(place.state % 64, 0u);
            EXPECT_EQ(place.words % 64, 0u);
            EXPECT_LE(place.words + shape.n_chunks * 8, shape.sync_bytes);
            EXPECT_LE(place.state + 64, shape.sync_bytes);
        }
        EXPECT_EQ(shape.metadata == PINTI_NO_BUFFER, schema.metadata_bytes == 0);
        add_range(ranges, &n, shape.metadata, schema.metadata_bytes);
        qsort(ranges, n, sizeof(ranges[0]), by_offset);
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t end = ranges[i].off + ranges[i].bytes;
            EXPECT_EQ(ranges[i].off % (ranges[i].bytes >= PINTI_SLAB_BYTES ? 4096 : 64), 0u);
            EXPECT_LE(end, i + 1 < n ? ranges[i + 1].off : shape.data_bytes);
        }
        free(schema.columns);
    }
}
