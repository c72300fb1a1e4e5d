/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rows that are not there, rights that one does not have, columns that have no copy: refused, with
 * nothing taken, nothing moved and nothing changed. Run on "host" and on a GPU of the fake driver.
 */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/device/device_world.h"

#define CHUNKS 4u
#define ROWS   (3u * WORLD_CHUNK_ROWS + 5) /* the last chunk has 5 rows: no whole byte of bits */
#define RW     (PINT_READ | PINT_WRITE)

/* Held by nobody, read and copied by nobody. */
static bool is_at_rest(const pint_copy *copy)
{
    const pinti_copy_desc *desc = &copy->import->desc;
    for (uint32_t i = 0; i < desc->n_chunks; i++) {
        if (pinti_chunk_is_held(pinti_chunk_state(pinti_load64_seq(&desc->column->words[i]))) ||
            pinti_load64_seq(&desc->chunks[i].xcopier) != 0 ||
            pinti_load64_seq(&desc->chunks[i].xreaders) != 0) {
            return false;
        }
    }
    return true;
}

static void expect_untouched(world *w)
{
    uint64_t to_device = 1;
    uint64_t to_host = 1;
    pint_copy_moved(w->copy, &to_device, &to_host);
    EXPECT_EQ(to_device, 0u);
    EXPECT_EQ(to_host, 0u);
    EXPECT_TRUE(is_at_rest(w->copy));
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(world_host(w)[i], (double)i);
    }
    for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
        EXPECT_EQ(pint_copy_places(w->copy, chunk), 1u);
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const uint64_t outside[][2] = {
    {ROWS, 1},
    {ROWS - 1, 2},
    {0, ROWS + 1},
    {ROWS + 1, 0},
    {ROWS + 1, PINT_ALL_ROWS},
    {UINT64_MAX, 0},
    {UINT64_MAX, 1},
    {UINT64_MAX, PINT_ALL_ROWS},
    {1, UINT64_MAX - 1}, /* the sum is UINT64_MAX */
    {2, UINT64_MAX - 1}, /* and here 0 */
    {UINT64_MAX - 1, 2},
    {1ull << 63, 1ull << 63},
    {0, UINT64_MAX - 1},
};

TEST(BadRows, OutsideTheTable)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        const uint64_t first = outside[i][0];
        const uint64_t n = outside[i][1];
        uint64_t bytes = 7;
        for (uint32_t access = PINT_READ; access <= RW; access++) {
            EXPECT_STATUS(PINT_E_RANGE,
                          pint_device_begin(w.copy, first, n, access, w.stream, -1, &live_err),
                          &live_err);
            EXPECT_STATUS(PINT_E_STATE,
                          pint_device_end(w.copy, first, n, access, w.stream, &live_err),
                          &live_err);
            EXPECT_STATUS(PINT_E_STATE,
                          pint_device_cancel(w.copy, first, n, access, w.stream, &live_err),
                          &live_err);
        }
        EXPECT_STATUS(PINT_E_RANGE, pint_copy_to_host(w.copy, first, n, -1, &bytes, &live_err),
                      &live_err);
        EXPECT_STATUS(PINT_E_RANGE, pint_copy_own_host(w.copy, first, n, -1, &live_err), &live_err);
        EXPECT_EQ(bytes, 7u);
    }
    EXPECT_EQ(pint_copy_places(w.copy, CHUNKS), 0u);
    EXPECT_EQ(pint_copy_places(w.copy, UINT64_MAX), 0u);
    ASSERT_NO_FATAL(expect_untouched(&w));
    world_tear_down(&w);
}

/* No rows are rows: at the start, inside, at the end; nothing is taken for them. */
TEST(BadRows, NoneAtAll)
{
    static const uint64_t at[] = {0, 1, WORLD_CHUNK_ROWS, ROWS - 1, ROWS};
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        const uint64_t n = at[i] == ROWS ? PINT_ALL_ROWS : 0; /* to the end, from there on */
        uint64_t bytes = 7;
        for (uint32_t access = PINT_READ; access <= RW; access++) {
            ASSERT_OK(pint_device_begin(w.copy, at[i], n, access, w.stream, 0, &live_err),
                      &live_err);
            EXPECT_TRUE(is_at_rest(w.copy));
            ASSERT_OK(pint_device_end(w.copy, at[i], n, access, w.stream, &live_err), &live_err);
        }
        ASSERT_OK(pint_copy_to_host(w.copy, at[i], n, 0, &bytes, &live_err), &live_err);
        EXPECT_EQ(bytes, 0u);
        ASSERT_OK(pint_copy_own_host(w.copy, at[i], n, 0, &live_err), &live_err);
    }
    ASSERT_OK(pint_stream_wait(w.device, w.stream, &live_err), &live_err);
    ASSERT_NO_FATAL(expect_untouched(&w));
    world_tear_down(&w);
}

/* ---- rights ---------------------------------------------------------------------------------- */

static void expect_no_write(pint_copy *copy, void *stream, pint_status status)
{
    for (uint32_t access = PINT_WRITE; access <= RW; access++) {
        EXPECT_STATUS(status,
                      pint_device_begin(copy, 0, PINT_ALL_ROWS, access, stream, -1, &live_err),
                      &live_err);
    }
    EXPECT_STATUS(status, pint_copy_own_host(copy, 0, PINT_ALL_ROWS, -1, &live_err), &live_err);
    EXPECT_TRUE(is_at_rest(copy));
}

TEST(BadRights, WhoReadsDoesNotWrite)
{
    world w;
    world r;
    pint_copy *copy = NULL;
    pint_pool *readers = NULL;
    pint_table *table = NULL;
    pint_column x;
    pint_device *device = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    /* a copy opened to read, of a table opened to write */
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_READ, &copy, &live_err), &live_err);
    expect_no_write(copy, w.stream, PINT_E_PERMISSION);
    pint_copy_close(copy);
    copy = NULL;
    /* a table opened to read */
    ASSERT_TRUE(world_join(&r, ct_tmpdir(), PINT_READ));
    for (uint32_t access = PINT_WRITE; access <= RW; access++) {
        EXPECT_STATUS(PINT_E_PERMISSION,
                      pint_copy_open(r.device, &r.x, 0, access, &copy, &live_err), &live_err);
    }
    expect_no_write(r.copy, r.stream, PINT_E_PERMISSION);
    world_leave(&r);
    /* a pool joined to read */
    ASSERT_OK(live_join(ct_tmpdir(), PINT_JOIN_READ | PINT_JOIN_NO_START, &readers), &live_err);
    ASSERT_OK(pint_table_open(readers, "t", PINT_READ, &table, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &x, &live_err), &live_err);
    const char *name = getenv("PINT_TEST_DEVICE");
    const pint_status opened =
        pint_device_open(readers, name != NULL ? name : "host", &device, &live_err);
    if (opened == PINT_OK) {
        EXPECT_STATUS(PINT_E_PERMISSION, pint_copy_open(device, &x, 0, PINT_READ, &copy, &live_err),
                      &live_err);
    } else {
        EXPECT_STATUS(PINT_E_PERMISSION, opened, &live_err);
    }
    EXPECT_EQ(copy, NULL);
    pint_device_close(device);
    pint_table_close(table);
    pint_pool_leave(readers);
    ASSERT_NO_FATAL(expect_untouched(&w));
    /* a table that was frozen when its copy was open to write */
    ASSERT_OK(pint_table_freeze(w.table, &live_err), &live_err);
    expect_no_write(w.copy, w.stream, PINT_E_FROZEN);
    ASSERT_NO_FATAL(expect_untouched(&w));
    world_tear_down(&w);
}

/* ---- columns, pools, devices ----------------------------------------------------------------- */

TEST(BadColumn, TextAndForeigners)
{
    world w;
    world r;
    pint_field fields[1] = {live_field("s", PINT_TEXT)};
    pint_schema schema = PINT_SCHEMA_INIT;
    pint_table *text = NULL;
    pint_column s;
    pint_copy *copy = NULL;
    uint64_t address = 7;
    fields[0].data_bytes = 100;
    schema.fields = fields;
    schema.n_fields = 1;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_create(w.pool, "text", &schema, 10, &text, &live_err), &live_err);
    ASSERT_OK(pint_table_column(text, "s", &s, &live_err), &live_err);
    for (uint32_t access = PINT_READ; access <= RW; access++) {
        EXPECT_STATUS(PINT_E_TYPE, pint_copy_open(w.device, &s, 0, access, &copy, &live_err),
                      &live_err);
        EXPECT_NE(strstr(live_err.message, "'s'"), NULL);
    }
    EXPECT_STATUS(PINT_E_TYPE, pint_device_mapped(w.device, &s, &address, &live_err), &live_err);
    /* memory of another pool: what a session has not mapped here cannot be pinned, nor copied */
    ASSERT_TRUE(world_join(&r, ct_tmpdir(), PINT_WRITE));
    EXPECT_STATUS(PINT_E_INVALID, pint_device_pin(w.device, r.table, NULL, NULL, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_unpin(w.device, r.table, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_mapped(w.device, &r.x, &address, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_copy_open(w.device, &r.x, 0, PINT_READ, &copy, &live_err),
                  &live_err);
    EXPECT_EQ(address, 7u);
    EXPECT_EQ(copy, NULL);
    world_leave(&r);
    pint_table_close(text);
    ASSERT_NO_FATAL(expect_untouched(&w));
    world_tear_down(&w);
}

TEST(BadColumn, StructuresOfAnotherSize)
{
    world w;
    pint_handle handle = PINT_HANDLE_INIT;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (uint32_t bytes = 0; bytes < sizeof(handle); bytes += 4) {
        handle.struct_bytes = bytes;
        EXPECT_STATUS(PINT_E_INVALID, pint_copy_export(w.copy, &handle, &live_err), &live_err);
        EXPECT_EQ(handle.fd, -1);
    }
    for (uint32_t bytes = 0; bytes < offsetof(pint_device_info, driver_version); bytes += 4) {
        info.struct_bytes = bytes;
        EXPECT_STATUS(PINT_E_INVALID, pint_device_get_info(w.device, &info, &live_err), &live_err);
    }
    EXPECT_EQ(info.memory_bytes, 0u);
    world_tear_down(&w);
}

/* ---- bits ------------------------------------------------------------------------------------ */

static void set_bytes(void *context)
{
    unsigned char *last = context; /* of the last chunk: 5 bits of one byte */
    *last = 0xff;
}

/* Of a column of bits the last chunk has 5 rows: they come back, and no byte but theirs. */
TEST(BadRows, BitsThatFillNoByte)
{
    world w;
    pint_column b;
    pint_copy *copy = NULL;
    uint64_t bytes = 0;
    const uint64_t first = (CHUNKS - 1) * WORLD_CHUNK_ROWS;
    const uint64_t last_byte = first / 8;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_table_column(w.table, "b", &b, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w.device, &b, PINT_COPY_VMM, PINT_WRITE, &copy, &live_err), &live_err);
    ASSERT_OK(pint_device_begin(copy, 0, PINT_ALL_ROWS, RW, w.stream, 0, &live_err), &live_err);
    ASSERT_OK(pint_stream_call(w.device, w.stream, set_bytes,
                               (void *)(uintptr_t)(pint_copy_values(copy) + last_byte), &live_err),
              &live_err);
    ASSERT_OK(pint_device_end(copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err), &live_err);
    /* by rows that begin and end inside a byte: they are widened to their chunk */
    ASSERT_OK(pint_copy_to_host(copy, first + 3, 1, 10000, &bytes, &live_err), &live_err);
    EXPECT_EQ(bytes, 2u); /* a byte of values, one of validity */
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(((const unsigned char *)b.values)[i / 8] >> i % 8 & 1, i >= first);
    }
    EXPECT_EQ(pint_copy_places(copy, CHUNKS - 1), 3u);
    EXPECT_EQ(pint_copy_places(copy, 0), 2u);
    EXPECT_STATUS(PINT_E_RANGE,
                  pint_device_begin(copy, first, 6, PINT_READ, w.stream, 0, &live_err), &live_err);
    ASSERT_OK(pint_copy_drop(copy, &live_err), &live_err);
    pint_copy_close(copy);
    world_tear_down(&w);
}
