/* SPDX-License-Identifier: Apache-2.0 */
/* Device copies as an operator sees and drops them, without any device at hand. */

#include <string.h>
#include <unistd.h>

#include "host/word.h"
#include "ipc/copies.h"
#include "tests/cli/cli_run.h"
#include "tests/support/ct.h"

enum { CHUNK = 512, ROWS = 4 * CHUNK };

#define UUID_0 "abcd0000000000000000000000000000"
#define UUID_1 "ef010000000000000000000000000000"

static pint_error err;

/* Table "t" of columns x and y, each with a copy on two devices; all open in this session. */
typedef struct copies {
    pint_pool *pool;
    pint_table *table;
    pint_column columns[2];
    pinti_opened_copy at[2][2]; /* column, device */
} copies;

static void set_up(copies *c)
{
    static const uint8_t uuids[2][16] = {{0xab, 0xcd}, {0xef, 0x01}};
    static const char *const names[2] = {"a GPU", "other"};
    pint_field fields[2] = {PINT_FIELD_INIT, PINT_FIELD_INIT};
    pint_schema schema = PINT_SCHEMA_INIT;
    *c = (copies){.pool = cli_join()};
    ASSERT_TRUE(c->pool != NULL);
    for (int i = 0; i < 2; i++) {
        fields[i].name = i == 0 ? "x" : "y";
        fields[i].type = PINT_FLOAT64;
    }
    schema.fields = fields;
    schema.n_fields = 2;
    schema.chunk_rows = CHUNK;
    ASSERT_OK(pint_table_create(c->pool, "t", &schema, ROWS, &c->table, &err), &err);
    ASSERT_OK(pint_table_publish(c->table, 0, &err), &err);
    for (uint32_t i = 0; i < 2; i++) {
        ASSERT_OK(pint_table_column_at(c->table, i, &c->columns[i], &err), &err);
        for (int d = 0; d < 2; d++) {
            uint32_t device = 0;
            ASSERT_OK(pinti_request_device(c->pool, uuids[d], false, names[d], &device, &err),
                      &err);
            ASSERT_EQ(device, d);
            ASSERT_OK(pinti_request_copy(&c->columns[i], device, 0, true, &c->at[i][d], &err),
                      &err);
            EXPECT_EQ(close(c->at[i][d].fd), 0);
        }
    }
}

static void release(copies *c, int column, int device)
{
    pinti_copy_release(c->pool, c->at[column][device].index, c->at[column][device].generation);
}

static void tear_down(copies *c)
{
    for (int i = 0; i < 4; i++) {
        release(c, i / 2, i % 2);
    }
    pint_table_close(c->table);
    pint_pool_leave(c->pool);
}

static bool is_live(const copies *c, int column, int device)
{
    return !pinti_copy_is_dropped(c->pool, c->at[column][device].index,
                                  c->at[column][device].generation);
}

/* Mask of places of a chunk, as a device leaves it. */
static pinti_a64 *word(const copies *c, int column, uint64_t chunk)
{
    return &pinti_column_desc_own(&c->columns[column])->words[chunk];
}

static void set_places(const copies *c, int column, uint64_t chunk, uint64_t places)
{
    pinti_store64_seq(word(c, column, chunk),
                      pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, places ^ PINTI_HOST_STALE));
}

static double number_of(const cJSON *object, const char *key)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static const char *text_of(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

TEST(CliCopies, DevicesAreListed)
{
    CLI_SERVICE;
    copies c;
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    EXPECT_EQ(CLI("devices"), 0);
    EXPECT_STREQ(cli_output, "no devices\n");
    EXPECT_EQ(CLI("devices", "--json"), 0);
    EXPECT_STREQ(cli_output, "[]\n");
    pint_pool_leave(pool);
    ASSERT_NO_FATAL(set_up(&c));
    EXPECT_EQ(CLI("devices"), 0);
    EXPECT_TRUE(cli_said("0  a GPU  " UUID_0 "  host"));
    EXPECT_EQ(CLI("devices", "--json"), 0);
    cJSON *json = cli_json();
    EXPECT_EQ(cJSON_GetArraySize(json), 2);
    const cJSON *device = cJSON_GetArrayItem(json, 1);
    EXPECT_EQ(number_of(device, "device"), 1);
    EXPECT_STREQ(text_of(device, "uuid"), UUID_1);
    EXPECT_EQ(number_of(device, "copies"), 2);
    EXPECT_GE(number_of(device, "bytes"), 2 * ROWS * 8);
    EXPECT_GT(number_of(device, "broker_pid"), 1);
    EXPECT_EQ(number_of(device, "brokers_ending"), 0);
    cJSON_Delete(json);
    tear_down(&c);
}

TEST(CliCopies, CopiesAreListed)
{
    CLI_SERVICE;
    copies c;
    pint_pool *pool = cli_join();
    ASSERT_TRUE(pool != NULL);
    EXPECT_EQ(CLI("copies"), 0);
    EXPECT_STREQ(cli_output, "no device copies\n");
    EXPECT_EQ(CLI("copies", "t"), 1);
    EXPECT_EQ(CLI("copies", "a/b"), 64);
    pint_pool_leave(pool);
    ASSERT_NO_FATAL(set_up(&c));
    set_places(&c, 0, 1, 2);      /* device 0 alone */
    set_places(&c, 0, 2, 1 | 2);  /* and the host */
    set_places(&c, 0, 3, 1 | 4u); /* device 1 and the host */
    release(&c, 1, 1);
    EXPECT_EQ(CLI("copies", "t"), 0);
    EXPECT_TRUE(cli_said("t      x            0  a GPU  vmm"));
    EXPECT_TRUE(cli_said("2 of 4"));
    EXPECT_EQ(CLI("copies", "--json"), 0);
    cJSON *json = cli_json();
    ASSERT_EQ(cJSON_GetArraySize(json), 4);
    static const struct {
        const char *column, *uuid;
        int current, alone, sessions;
    } all[] = {{"x", UUID_0, 2, 1, 1},
               {"x", UUID_1, 1, 0, 1},
               {"y", UUID_0, 0, 0, 1},
               {"y", UUID_1, 0, 0, 0}};
    for (int i = 0; i < 4; i++) {
        const cJSON *item = cJSON_GetArrayItem(json, i);
        EXPECT_STREQ(text_of(item, "table"), "t");
        EXPECT_STREQ(text_of(item, "column"), all[i].column);
        EXPECT_STREQ(text_of(item, "uuid"), all[i].uuid);
        EXPECT_STREQ(text_of(item, "kind"), "vmm");
        EXPECT_STREQ(text_of(item, "state"), "live");
        EXPECT_EQ(number_of(item, "chunks"), 4);
        EXPECT_EQ(number_of(item, "current_chunks"), all[i].current);
        EXPECT_EQ(number_of(item, "alone_chunks"), all[i].alone);
        EXPECT_EQ(number_of(item, "sessions"), all[i].sessions);
        EXPECT_GE(number_of(item, "bytes"), ROWS * 8);
        EXPECT_GT(number_of(item, "generation"), 0);
    }
    cJSON_Delete(json);
    /* dropped, and open still: it has its memory */
    EXPECT_EQ(CLI("discard", "t", "y", "--device", UUID_0), 0);
    EXPECT_EQ(CLI("copies", "t"), 0);
    EXPECT_TRUE(cli_said("dropped"));
    EXPECT_EQ(CLI("discard", "t", "y", "--device", UUID_0), 1);
    EXPECT_EQ(CLI("drop", "t"), 0);
    EXPECT_EQ(CLI("copies"), 0);
    EXPECT_TRUE(cli_said("table dropped"));
    EXPECT_EQ(CLI("discard", "t"), 1);
    for (int i = 0; i < 3; i++) {
        release(&c, i / 2, i % 2);
    }
    pint_table_close(c.table);
    pint_pool_leave(c.pool);
}

TEST(CliDiscard, NothingIsLostWithoutYes)
{
    CLI_SERVICE;
    copies c;
    ASSERT_NO_FATAL(set_up(&c));
    set_places(&c, 0, 1, 2); /* device 0 alone */
    set_places(&c, 0, 2, 4); /* device 1 alone */
    set_places(&c, 1, 0, 2);
    EXPECT_EQ(CLI("discard", "t"), 1);
    EXPECT_TRUE(cli_said("column 'x' has 1 of its 4 chunks on device 0"));
    EXPECT_TRUE(cli_said("column 'y' has 1 of its 4 chunks on device 0"));
    EXPECT_TRUE(cli_said("nothing was dropped: 3 chunks would be torn"));
    for (int i = 0; i < 4; i++) {
        EXPECT_TRUE(is_live(&c, i / 2, i % 2));
    }
    /* what loses nothing needs no word */
    EXPECT_EQ(CLI("discard", "t", "y", "--device", UUID_1), 0);
    EXPECT_TRUE(cli_said("y: copy on device 1 (other) dropped"));
    EXPECT_TRUE(cli_said("0 chunks torn; its memory goes with its last user"));
    EXPECT_FALSE(is_live(&c, 1, 1));
    EXPECT_TRUE(is_live(&c, 1, 0));
    EXPECT_EQ(CLI("discard", "t", "x", "--yes"), 0);
    EXPECT_TRUE(cli_said("x: copy on device 0 (a GPU) dropped"));
    EXPECT_TRUE(cli_said("1 chunk torn"));
    EXPECT_FALSE(is_live(&c, 0, 0));
    EXPECT_FALSE(is_live(&c, 0, 1));
    EXPECT_TRUE(is_live(&c, 1, 0));
    for (uint64_t chunk = 0; chunk < 4; chunk++) {
        EXPECT_EQ(pinti_chunk_state(pinti_load64_seq(word(&c, 0, chunk))),
                  chunk == 1 || chunk == 2 ? PINTI_CHUNK_TORN : PINTI_CHUNK_CLEAN);
    }
    tear_down(&c);
}

TEST(CliDiscard, ASessionAtWorkIsInTheWay)
{
    CLI_SERVICE;
    copies c;
    ASSERT_NO_FATAL(set_up(&c));
    const pinti_copy_rec *rec = &pinti_cat_copies(c.pool->catalog)[c.at[0][0].index];
    pinti_copy_sync *sync = (pinti_copy_sync *)(void *)(c.pool->sync + rec->sync_off);
    pinti_copy_chunk *chunks = (pinti_copy_chunk *)(void *)(sync + 1);
    pinti_store32_seq(&sync->xslots[5], c.pool->session_index);
    pinti_store64_seq(&chunks[2].xreaders, 1ull << 5);
    EXPECT_EQ(CLI("discard", "t", "x"), 2);
    EXPECT_TRUE(cli_said("--yes drops it all the same"));
    EXPECT_TRUE(is_live(&c, 0, 0));
    EXPECT_FALSE(is_live(&c, 0, 1)); /* one that cannot be dropped does not keep the others */
    EXPECT_EQ(CLI("discard", "t", "x", "--yes"), 0);
    EXPECT_FALSE(is_live(&c, 0, 0));
    tear_down(&c);
}

TEST(CliDiscard, UuidsAreTakenAsTheyArePrintedAnywhere)
{
    CLI_SERVICE;
    copies c;
    ASSERT_NO_FATAL(set_up(&c));
    static const char *const wrong[] = {"",         "0",        "abcd",     "a GPU",
                                        UUID_0 "0", "-" UUID_0, "GPU-xbcd", "cuda:0"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        EXPECT_EQ(CLI("discard", "t", "--device", wrong[i]), 64);
    }
    EXPECT_EQ(CLI("discard", "t", "--device", "00000000000000000000000000000000"), 1);
    EXPECT_EQ(CLI("discard", "t", "z"), 1);
    EXPECT_EQ(CLI("discard", "u"), 1);
    EXPECT_EQ(CLI("discard"), 64);
    for (int i = 0; i < 4; i++) {
        EXPECT_TRUE(is_live(&c, i / 2, i % 2));
    }
    EXPECT_EQ(CLI("discard", "t", "x", "-d", "GPU-ABCD0000-0000-0000-0000-000000000000"), 0);
    EXPECT_EQ(CLI("discard", "t", "y", "-d", "cuda:MIG-abcd0000-0000-0000-0000-000000000000"), 0);
    EXPECT_TRUE(!is_live(&c, 0, 0) && is_live(&c, 0, 1) && !is_live(&c, 1, 0) && is_live(&c, 1, 1));
    tear_down(&c);
}
