/* SPDX-License-Identifier: Apache-2.0 */
/* Records of devices and device copies, and what the next incarnation makes of them. */

#include <stdlib.h>
#include <string.h>

#include "host/word.h"
#include "ipc/service/catalog.h"
#include "pintable/device.h"
#include "tests/service/catalog_support.h"
#include "tests/support/ct.h"

enum { ROWS = 5000 };

static world w;
static uint32_t table;
static uint32_t generation;
static uint32_t host;
static uint32_t gpu;

static pinti_device_ask device_ask(uint8_t first, bool is_cuda)
{
    pinti_device_ask ask = {.is_cuda = is_cuda, .may_make = true, .name = "device"};
    ask.uuid[0] = first;
    return ask;
}

static void open_world(void)
{
    const pinti_device_ask host_ask = device_ask(1, false);
    const pinti_device_ask gpu_ask = device_ask(2, true);
    ASSERT_TRUE(world_open(&w));
    ASSERT_OK(world_create(&w, "t", ROWS, "a:int32 b:text c:bool? d:float64", 0, &table,
                           &generation, NULL),
              NULL);
    ASSERT_OK(pinti_cat_publish(w.cat, table, generation, false, NULL), NULL);
    ASSERT_OK(pinti_cat_device_open(w.cat, &host_ask, &host, NULL), NULL);
    ASSERT_OK(pinti_cat_device_open(w.cat, &gpu_ask, &gpu, NULL), NULL);
    ASSERT_NE(host, gpu);
}

static pinti_copy_ask ask_for(uint32_t column, uint32_t device, uint32_t kind)
{
    return (pinti_copy_ask){.table = table,
                            .generation = generation,
                            .column = column,
                            .device = device,
                            .kind = kind,
                            .uid = WORLD_UID,
                            .session = WORLD_SESSION};
}

static pint_status make(const pinti_copy_ask *ask, uint32_t *out_copy)
{
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    pint_status status = pinti_cat_copy_check(w.cat, ask, NULL);
    if (status == PINT_OK) {
        status = pinti_memory_take(w.memory, 0, pinti_cat_copy_sync_bytes(w.cat, ask), false,
                                   ask->uid, &data, &sync, &plan, NULL);
    }
    if (status != PINT_OK) {
        return status;
    }
    if (plan.n != 0) {
        pinti_memory_prepared(w.memory, &plan, true);
    }
    status = pinti_cat_copy_create(w.cat, ask, &sync, out_copy, NULL);
    if (status != PINT_OK) {
        pinti_memory_give(w.memory, data, sync, ask->uid);
    }
    return status;
}

static uint32_t state_of(uint32_t copy)
{
    return pinti_state_of(pinti_load64_relaxed(&pinti_cat_copies(w.catalog)[copy].xgen_state));
}

static uint32_t named(uint32_t column, uint32_t device)
{
    return pinti_load32_relaxed(
        &pinti_cat_column(w.catalog, &pinti_cat_tables(w.catalog)[table], column)->xcopy[device]);
}

TEST(CopyCatalog, DevicesAreFoundByUuid)
{
    ASSERT_NO_FATAL(open_world());
    uint32_t index = 99;
    pinti_device_ask ask = device_ask(2, true);
    ask.may_make = false;
    EXPECT_OK(pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
    EXPECT_EQ(index, gpu);
    ask.is_cuda = false;
    EXPECT_STATUS(PINT_E_INVALID, pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
    ask = device_ask(3, true);
    ask.may_make = false;
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
    ask.may_make = true;
    memset(ask.name, 'n', sizeof(ask.name)); /* not terminated */
    for (uint8_t i = 3; i <= PINTI_DEVICES_MAX; i++) {
        ask.uuid[0] = i;
        EXPECT_OK(pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
        EXPECT_EQ(index, i - 1u);
    }
    EXPECT_EQ(strlen(pinti_cat_devices(w.catalog)[2].name), 31u);
    ask.uuid[0] = 100;
    EXPECT_STATUS(PINT_E_LIMIT, pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
    EXPECT_OK(world_restart(&w, NULL), NULL);
    ask.uuid[0] = 1;
    ask.is_cuda = false;
    EXPECT_OK(pinti_cat_device_open(w.cat, &ask, &index, NULL), NULL);
    EXPECT_EQ(index, host);
    world_close(&w);
}

TEST(CopyCatalog, ShapesFollowTheColumn)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_table_rec *rec = &pinti_cat_tables(w.catalog)[table];
    uint32_t copy = 0;
    const pinti_copy_ask bits = ask_for(2, host, PINT_COPY_VMM);
    ASSERT_OK(make(&bits, &copy), NULL);
    const pinti_copy_rec *shape = &pinti_cat_copies(w.catalog)[copy];
    EXPECT_EQ(shape->values_bytes, (rec->row_capacity + 7) / 8);
    EXPECT_EQ(shape->validity_bytes, (rec->row_capacity + 7) / 8);
    EXPECT_EQ(shape->validity_off % 256, 0u);
    EXPECT_GE(shape->validity_off, shape->values_bytes);
    EXPECT_GE(shape->bytes, shape->validity_off + shape->validity_bytes);
    EXPECT_EQ(shape->bytes % PINTI_PAGE_BYTES, 0u);
    EXPECT_EQ(shape->n_chunks, rec->n_chunks);
    EXPECT_GE(shape->sync_bytes,
              sizeof(pinti_copy_sync) + shape->n_chunks * sizeof(pinti_copy_chunk));
    const pinti_copy_ask wide = ask_for(3, gpu, PINT_COPY_IPC);
    ASSERT_OK(make(&wide, &copy), NULL);
    shape = &pinti_cat_copies(w.catalog)[copy];
    EXPECT_EQ(shape->values_bytes, rec->row_capacity * 8);
    EXPECT_EQ(shape->validity_off, PINTI_NO_BUFFER);
    EXPECT_EQ(shape->bytes % (2u << 20), 0u);
    const pinti_copy_ask text = ask_for(1, host, PINT_COPY_VMM);
    EXPECT_STATUS(PINT_E_TYPE, make(&text, &copy), NULL);
    const pinti_copy_ask beyond = ask_for(4, host, PINT_COPY_VMM);
    EXPECT_STATUS(PINT_E_NOT_FOUND, make(&beyond, &copy), NULL);
    const pinti_copy_ask by_handle = ask_for(0, host, PINT_COPY_IPC);
    EXPECT_STATUS(PINT_E_UNSUPPORTED, make(&by_handle, &copy), NULL);
    const pinti_copy_ask nowhere = ask_for(0, 7, PINT_COPY_VMM);
    EXPECT_STATUS(PINT_E_NOT_FOUND, make(&nowhere, &copy), NULL);
    world_close(&w);
}

static uint32_t freed_copy;
static void note_free(void *ctx, uint32_t copy)
{
    ++*(int *)ctx;
    freed_copy = copy;
}

TEST(CopyCatalog, LivesFromBuildingToFree)
{
    int n_freed = 0;
    ASSERT_NO_FATAL(open_world());
    pinti_cat_on_copy_free(w.cat, note_free, &n_freed);
    const pinti_copy_ask ask = ask_for(0, host, PINT_COPY_VMM);
    const uint64_t used = pinti_memory_used(w.memory);
    uint32_t copy = 99;
    uint32_t found = 99;
    EXPECT_FALSE(pinti_cat_copy_find(w.cat, &ask, &found));
    ASSERT_OK(make(&ask, &copy), NULL);
    const uint64_t bytes = pinti_cat_copies(w.catalog)[copy].bytes;
    EXPECT_EQ(state_of(copy), PINTI_BUILDING);
    EXPECT_EQ(named(0, host), 0u);
    EXPECT_TRUE(pinti_cat_copy_find(w.cat, &ask, &found));
    EXPECT_EQ(found, copy);
    EXPECT_EQ(pinti_cat_device_bytes(w.cat, host), bytes);
    EXPECT_GE(pinti_memory_used(w.memory), used + bytes); /* the pool pays for the host's */
    EXPECT_GE(pinti_memory_committed(w.memory), bytes);
    pinti_cat_copy_set_live(w.cat, copy, NULL, 0);
    EXPECT_EQ(state_of(copy), PINTI_LIVE);
    EXPECT_EQ(named(0, host), copy + 1);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 0u);
    pinti_cat_copy_close(w.cat, copy);
    EXPECT_EQ(state_of(copy), PINTI_CLOSING);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    pinti_cat_copy_reopen(w.cat, copy);
    EXPECT_EQ(state_of(copy), PINTI_LIVE);
    EXPECT_EQ(named(0, host), copy + 1);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    pinti_cat_copy_close(w.cat, copy);
    pinti_cat_copy_kill(w.cat, copy);
    pinti_cat_copy_kill(w.cat, copy); /* again: nothing */
    EXPECT_EQ(named(0, host), 0u);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 1u);
    EXPECT_EQ(pinti_cat_reap(w.cat, everybody_refers, NULL), 0u);
    EXPECT_EQ(n_freed, 0);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    EXPECT_EQ(n_freed, 1);
    EXPECT_EQ(freed_copy, copy);
    EXPECT_EQ(state_of(copy), PINTI_FREE);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_device_bytes(w.cat, host), 0u);
    /* generations of an index grow */
    const uint32_t old =
        pinti_gen_of(pinti_load64_relaxed(&pinti_cat_copies(w.catalog)[copy].xgen_state));
    uint32_t next = 99;
    ASSERT_OK(make(&ask, &next), NULL);
    EXPECT_EQ(next, copy);
    EXPECT_FALSE(pinti_cat_has_copy(w.cat, next, old));
    EXPECT_TRUE(pinti_cat_has_copy(w.cat, next, old + 1));
    world_close(&w);
}

TEST(CopyCatalog, MemoryMayBeReleasedBeforeTheRecord)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask ask = ask_for(0, host, PINT_COPY_VMM);
    uint32_t copy = 0;
    ASSERT_OK(make(&ask, &copy), NULL);
    const uint64_t used = pinti_memory_used(w.memory);
    const uint64_t bytes = pinti_cat_device_bytes(w.cat, host);
    pinti_cat_copy_kill(w.cat, copy);
    EXPECT_TRUE(pinti_cat_copy_has_memory(w.cat, copy));
    pinti_cat_copy_released(w.cat, copy);
    pinti_cat_copy_released(w.cat, copy); /* counted once */
    EXPECT_FALSE(pinti_cat_copy_has_memory(w.cat, copy));
    EXPECT_EQ(pinti_cat_device_bytes(w.cat, host), 0u);
    EXPECT_EQ(pinti_memory_used(w.memory), used - bytes);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    EXPECT_LT(pinti_memory_used(w.memory), used - bytes); /* its chunk words, too */
    world_close(&w);
}

TEST(CopyCatalog, ARestartKeepsLiveCopiesAndEndsHalfMadeOnes)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask asks[] = {ask_for(0, host, PINT_COPY_VMM), ask_for(0, gpu, PINT_COPY_IPC),
                                   ask_for(3, host, PINT_COPY_VMM), ask_for(3, gpu, PINT_COPY_VMM)};
    uint32_t copies[4];
    uint8_t handle[64];
    memset(handle, 7, sizeof(handle));
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(make(&asks[i], &copies[i]), NULL);
    }
    pinti_cat_copy_set_live(w.cat, copies[0], NULL, 0);
    pinti_cat_copy_set_live(w.cat, copies[1], handle, 1234);
    pinti_cat_copy_set_live(w.cat, copies[2], NULL, 0);
    pinti_cat_copy_kill(w.cat, copies[2]);
    /* as if cut off between LIVE and the name, and between the name and DYING */
    pinti_store32_relaxed(
        &pinti_cat_column(w.catalog, &pinti_cat_tables(w.catalog)[table], 0)->xcopy[host], 0);
    pinti_store32_relaxed(
        &pinti_cat_column(w.catalog, &pinti_cat_tables(w.catalog)[table], 3)->xcopy[host],
        copies[2] + 1);
    const uint64_t used = pinti_memory_used(w.memory);
    const uint64_t on_host = pinti_cat_device_bytes(w.cat, host);
    const uint64_t on_gpu = pinti_cat_device_bytes(w.cat, gpu);
    for (int n = 0; n < 2; n++) {
        ASSERT_OK(world_restart(&w, NULL), NULL);
        EXPECT_EQ(pinti_memory_used(w.memory), used);
        EXPECT_EQ(pinti_memory_uid_used(w.memory, WORLD_UID), used);
        EXPECT_EQ(pinti_cat_device_bytes(w.cat, host), on_host);
        EXPECT_EQ(pinti_cat_device_bytes(w.cat, gpu), on_gpu);
        EXPECT_EQ(named(0, host), copies[0] + 1);
        EXPECT_EQ(named(0, gpu), copies[1] + 1);
        EXPECT_EQ(named(3, host), 0u);
        EXPECT_EQ(state_of(copies[3]), PINTI_DYING); /* was BUILDING */
        EXPECT_EQ(pinti_cat_n_dying(w.cat), 2u);
        EXPECT_EQ(pinti_cat_copies(w.catalog)[copies[1]].broker, 1234u);
        EXPECT_MEMEQ(pinti_cat_copies(w.catalog)[copies[1]].ipc, handle, 64);
    }
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u);
    world_close(&w);
}

TEST(CopyCatalog, ADroppedTableWaitsForItsCopies)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask ask = ask_for(0, gpu, PINT_COPY_VMM);
    const pinti_copy_ask half = ask_for(3, gpu, PINT_COPY_VMM);
    uint32_t copy = 0;
    uint32_t building = 0;
    ASSERT_OK(make(&ask, &copy), NULL);
    ASSERT_OK(make(&half, &building), NULL);
    pinti_cat_copy_set_live(w.cat, copy, NULL, 0);
    ASSERT_OK(pinti_cat_drop(w.cat, table, generation, NULL), NULL);
    EXPECT_EQ(state_of(copy), PINTI_LIVE);
    EXPECT_STATUS(PINT_E_DROPPED, pinti_cat_copy_check(w.cat, &ask, NULL), NULL);
    EXPECT_EQ(pinti_cat_reap(w.cat, everybody_refers, NULL), 0u);
    EXPECT_OK(world_restart(&w, NULL), NULL);
    EXPECT_EQ(state_of(copy), PINTI_LIVE);
    EXPECT_EQ(state_of(building), PINTI_DYING);
    /* the copies and, after them, the table */
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 3u);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    EXPECT_EQ(pinti_memory_used(w.memory), 0u);
    world_close(&w);
}

TEST(CopyCatalog, AHostCopyBeyondTheBudgetChangesNothing)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask ask = ask_for(3, host, PINT_COPY_VMM);
    uint32_t copy = 99;
    const uint64_t used = pinti_memory_used(w.memory);
    pinti_memory_set_uid_limit(w.memory, used + pinti_cat_copy_sync_bytes(w.cat, &ask) + 64);
    EXPECT_STATUS(PINT_E_QUOTA, make(&ask, &copy), NULL);
    EXPECT_EQ(pinti_memory_used(w.memory), used);
    EXPECT_EQ(pinti_cat_device_bytes(w.cat, host), 0u);
    EXPECT_FALSE(pinti_cat_copy_find(w.cat, &ask, &copy));
    const pinti_copy_ask elsewhere = ask_for(3, gpu, PINT_COPY_VMM); /* not the pool's memory */
    EXPECT_OK(make(&elsewhere, &copy), NULL);
    world_close(&w);
}

/* Nobody has taken anything from it yet. */
TEST(CopyCatalog, ARestartReopensWhatWasBeingClosed)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask ask = ask_for(0, host, PINT_COPY_VMM);
    uint32_t copy = 0;
    ASSERT_OK(make(&ask, &copy), NULL);
    pinti_cat_copy_set_live(w.cat, copy, NULL, 0);
    pinti_cat_copy_close(w.cat, copy);
    ASSERT_OK(world_restart(&w, NULL), NULL);
    EXPECT_EQ(state_of(copy), PINTI_LIVE);
    EXPECT_EQ(named(0, host), copy + 1);
    EXPECT_EQ(pinti_cat_n_dying(w.cat), 0u);
    world_close(&w);
}

/* Columns that were added lie in later runs of records. */
TEST(CopyCatalog, AddedColumnsHaveCopiesToo)
{
    ASSERT_NO_FATAL(open_world());
    uint32_t donor = 0;
    uint32_t donor_generation = 0;
    uint32_t copy = 0;
    ASSERT_OK(world_create(&w, "d", ROWS, "e:int64", 0, &donor, &donor_generation, NULL), NULL);
    pinti_copy_ask of_donor = ask_for(0, gpu, PINT_COPY_VMM);
    of_donor.table = donor;
    of_donor.generation = donor_generation;
    ASSERT_OK(make(&of_donor, &copy), NULL);
    EXPECT_STATUS(PINT_E_BUSY,
                  pinti_cat_add_columns(w.cat, table, generation, donor, donor_generation,
                                        WORLD_SESSION, NULL),
                  NULL);
    pinti_cat_copy_kill(w.cat, copy);
    EXPECT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 1u);
    ASSERT_OK(pinti_cat_add_columns(w.cat, table, generation, donor, donor_generation,
                                    WORLD_SESSION, NULL),
              NULL);
    const pinti_copy_ask ask = ask_for(4, host, PINT_COPY_VMM);
    ASSERT_OK(make(&ask, &copy), NULL);
    pinti_cat_copy_set_live(w.cat, copy, NULL, 0);
    EXPECT_EQ(named(4, host), copy + 1);
    EXPECT_OK(world_restart(&w, NULL), NULL);
    EXPECT_EQ(named(4, host), copy + 1);
    world_close(&w);
}

TEST(CopyCatalog, ARecordThatCannotBeIsNotTaken)
{
    ASSERT_NO_FATAL(open_world());
    const pinti_copy_ask ask = ask_for(0, host, PINT_COPY_VMM);
    uint32_t copy = 0;
    ASSERT_OK(make(&ask, &copy), NULL);
    pinti_cat_copy_set_live(w.cat, copy, NULL, 0);
    pinti_copy_rec *rec = &pinti_cat_copies(w.catalog)[copy];
    const pinti_copy_rec good = *rec;
    rec->column = 77;
    EXPECT_STATUS(PINT_E_CORRUPT, world_restart(&w, NULL), NULL);
    *rec = good;
    rec->device = 8;
    EXPECT_STATUS(PINT_E_CORRUPT, world_restart(&w, NULL), NULL);
    *rec = good;
    rec->table_generation++;
    EXPECT_STATUS(PINT_E_CORRUPT, world_restart(&w, NULL), NULL);
    *rec = good;
    rec->n_chunks++;
    EXPECT_STATUS(PINT_E_CORRUPT, world_restart(&w, NULL), NULL);
    *rec = good;
    rec->sync_off = pinti_cat_tables(w.catalog)[table].sync_off; /* somebody else's */
    EXPECT_STATUS(PINT_E_CORRUPT, world_restart(&w, NULL), NULL);
    *rec = good;
    EXPECT_OK(world_restart(&w, NULL), NULL);
    world_close(&w);
}
