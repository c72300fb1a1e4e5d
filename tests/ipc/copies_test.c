/* SPDX-License-Identifier: Apache-2.0 */
/* Device copies between processes, by the client's requests, with a service that may die. */

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/word.h"
#include "ipc/copies.h"
#include "pintable/device.h"
#include "tests/ipc/live.h"

enum { ROWS = 4096, VALUE = 77 };

static const uint8_t host_uuid[16] = {1, 2, 3};

static pint_pool *pool;
static pint_table *table;
static pint_column column;
static uint32_t device;
static pinti_opened_copy opened;

static void start(void)
{
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &pool), &live_err);
    ASSERT_OK(live_create(pool, "t", ROWS, &table), &live_err);
    ASSERT_OK(pint_table_publish(table, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_column(table, "x", &column, &live_err), &live_err);
    ASSERT_OK(pinti_request_device(pool, host_uuid, false, "host", &device, &live_err), &live_err);
}

static void finish(void)
{
    pint_table_close(table);
    pint_pool_leave(pool);
    live_stop();
}

static uint64_t refs_of(const pinti_opened_copy *copy)
{
    return pinti_ref_count(pinti_load64_seq(&pinti_slot_copies(pool->slot)[copy->index]));
}

static uint32_t state_of(uint32_t index)
{
    return pinti_state_of(pinti_load64_seq(&pinti_cat_copies(pool->catalog)[index].xgen_state));
}

/* The first byte of the memory behind a descriptor; -1: it cannot be mapped. */
static int first_byte(int fd, int to_store)
{
    uint8_t *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return -1;
    }
    if (to_store >= 0) {
        at[0] = (uint8_t)to_store;
    }
    const int byte = at[0];
    (void)munmap(at, 4096);
    return byte;
}

TEST(Copies, AreOpenedFoundReleasedAndDropped)
{
    uint32_t index = 99;
    uint32_t generation = 99;
    pinti_opened_copy one;
    pinti_opened_copy two;
    ASSERT_NO_FATAL(start());
    EXPECT_FALSE(pinti_copy_find(&column, device, &index, &generation));
    EXPECT_STATUS(PINT_E_NOT_FOUND, pinti_request_copy(&column, device, 0, false, &one, &live_err),
                  &live_err);
    ASSERT_OK(pinti_request_copy(&column, device, 0, true, &one, &live_err), &live_err);
    EXPECT_TRUE(one.created);
    EXPECT_EQ(refs_of(&one), 1u);
    ASSERT_OK(pinti_request_copy(&column, device, PINT_COPY_VMM, true, &two, &live_err), &live_err);
    EXPECT_FALSE(two.created);
    EXPECT_EQ(two.index, one.index);
    EXPECT_EQ(refs_of(&one), 2u);
    EXPECT_TRUE(pinti_copy_find(&column, device, &index, &generation));
    EXPECT_EQ(index, one.index);
    EXPECT_EQ(generation, one.generation);
    EXPECT_FALSE(pinti_copy_find(&column, device + 1, &index, &generation));
    EXPECT_FALSE(pinti_copy_find(&column, 1000, &index, &generation));
    EXPECT_EQ(first_byte(one.fd, VALUE), VALUE);
    EXPECT_EQ(first_byte(two.fd, -1), VALUE);
    EXPECT_EQ(close(one.fd), 0);
    EXPECT_EQ(close(two.fd), 0);
    pinti_copy_release(pool, one.index, one.generation);
    EXPECT_FALSE(pinti_copy_is_dropped(pool, one.index, one.generation));
    EXPECT_OK(pinti_request_copy_drop(pool, one.index, one.generation, &live_err), &live_err);
    EXPECT_OK(pinti_request_copy_drop(pool, one.index, one.generation, &live_err), &live_err);
    EXPECT_TRUE(pinti_copy_is_dropped(pool, one.index, one.generation));
    EXPECT_FALSE(pinti_copy_find(&column, device, &index, &generation));
    EXPECT_EQ(state_of(one.index), PINTI_DYING);
    pinti_copy_release(pool, one.index, one.generation); /* says so to the service */
    EXPECT_TRUE(ct_eventually(state_of(one.index) == PINTI_FREE, 10000));
    pinti_copy_release(pool, one.index, one.generation); /* one too many: nothing */
    EXPECT_TRUE(pinti_copy_is_dropped(pool, UINT32_MAX, 1));
    ASSERT_NO_FATAL(finish());
}

/* arguments: address, then "make" or "open". Holds the copy until it is told to go, or dies. */
PROC(holder)
{
    pint_table *own = NULL;
    pint_column x;
    uint32_t at = 0;
    pinti_opened_copy copy;
    CT_REQUIRE(argc == 3);
    live_set_up();
    CT_REQUIRE(live_join(argv[1], 0, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(own, "x", &x, &live_err) == PINT_OK);
    CT_REQUIRE(pinti_request_device(pool, host_uuid, false, "host", &at, &live_err) == PINT_OK);
    const bool makes = strcmp(argv[2], "make") == 0;
    CT_REQUIRE(pinti_request_copy(&x, at, 0, makes, &copy, &live_err) == PINT_OK);
    EXPECT_EQ(first_byte(copy.fd, makes ? VALUE : -1), VALUE);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    pinti_copy_release(pool, copy.index, copy.generation);
    CT_REQUIRE(close(copy.fd) == 0);
    pint_table_close(own);
    pint_pool_leave(pool);
    return 0;
}

TEST(Copies, OutliveTheirMakerAndAreImportedAfterwards)
{
    ASSERT_NO_FATAL(start());
    const char *make[] = {ct_tmpdir(), "make", NULL};
    const char *open[] = {ct_tmpdir(), "open", NULL};
    const pid_t maker = ct_spawn("holder", make);
    ASSERT_TRUE(ct_wait_ready(maker));
    const pid_t user = ct_spawn("holder", open);
    ASSERT_TRUE(ct_wait_ready(user));
    EXPECT_EQ(kill(maker, SIGKILL), 0);
    EXPECT_EQ(ct_wait(maker), 128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 2, 10000));
    pinti_opened_copy copy;
    ASSERT_OK(pinti_request_copy(&column, device, 0, false, &copy, &live_err), &live_err);
    EXPECT_EQ(first_byte(copy.fd, -1), VALUE);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_copy_release(pool, copy.index, copy.generation);
    /* an importer's death ends its reference alone */
    EXPECT_OK(pinti_request_copy_drop(pool, copy.index, copy.generation, &live_err), &live_err);
    EXPECT_EQ(state_of(copy.index), PINTI_DYING);
    EXPECT_EQ(kill(user, SIGKILL), 0);
    EXPECT_EQ(ct_wait(user), 128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(state_of(copy.index) == PINTI_FREE, 10000));
    ASSERT_NO_FATAL(finish());
}

TEST(Copies, SurviveTheService)
{
    ASSERT_NO_FATAL(start());
    pinti_opened_copy copy;
    pinti_opened_copy again;
    ASSERT_OK(pinti_request_copy(&column, device, 0, true, &copy, &live_err), &live_err);
    EXPECT_EQ(first_byte(copy.fd, VALUE), VALUE);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(kill(live_service_pid(), SIGKILL), 0);
        ASSERT_OK(pinti_request_copy(&column, device, 0, false, &again, &live_err), &live_err);
        EXPECT_EQ(again.index, copy.index);
        EXPECT_EQ(again.generation, copy.generation);
        EXPECT_EQ(first_byte(again.fd, -1), VALUE);
        EXPECT_EQ(close(again.fd), 0);
        pinti_copy_release(pool, again.index, again.generation);
    }
    EXPECT_EQ(refs_of(&copy), 1u);
    /* dropped while nobody serves: the request waits for the next one */
    EXPECT_EQ(kill(live_service_pid(), SIGKILL), 0);
    EXPECT_OK(pinti_request_copy_drop(pool, copy.index, copy.generation, &live_err), &live_err);
    EXPECT_EQ(first_byte(copy.fd, -1), VALUE);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_copy_release(pool, copy.index, copy.generation);
    EXPECT_TRUE(ct_eventually(state_of(copy.index) == PINTI_FREE, 10000));
    ASSERT_NO_FATAL(finish());
}

TEST(Copies, OfADroppedTableGoOnUntilTheyAreClosed)
{
    ASSERT_NO_FATAL(start());
    pinti_opened_copy copy;
    ASSERT_OK(pinti_request_copy(&column, device, 0, true, &copy, &live_err), &live_err);
    EXPECT_OK(pint_table_drop(pool, "t", &live_err), &live_err);
    EXPECT_FALSE(pinti_copy_is_dropped(pool, copy.index, copy.generation));
    EXPECT_EQ(first_byte(copy.fd, VALUE), VALUE);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_copy_release(pool, copy.index, copy.generation);
    pint_table_close(table);
    table = NULL;
    EXPECT_TRUE(ct_eventually(live_stat_number("dying") == 0, 10000));
    EXPECT_EQ(live_stat_number("used_bytes"), 0);
    pint_pool_leave(pool);
    live_stop();
}

/* Asks for a drop that is refused, again and again. */
static void *drop_in_vain(void *context)
{
    pinti_a32 *is_over = context;
    const pinti_opened_copy copy = opened;
    for (int i = 0; i < 50; i++) {
        pint_error err;
        EXPECT_STATUS(PINT_E_DEVICE_AHEAD,
                      pinti_request_copy_drop(pool, copy.index, copy.generation, &err), &err);
    }
    pinti_store32_seq(is_over, 1);
    return NULL;
}

/* The service looks at many chunks then, and the copy is CLOSING meanwhile. */
TEST(Copies, AreFoundWhileTheServiceLooksWhetherTheyCanBeDropped)
{
    enum { CHUNKS = 100000 };
    pint_field field = live_field("z", PINT_INT8);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = 512;
    ASSERT_NO_FATAL(start());
    pint_table *large;
    pint_column z;
    ASSERT_OK(pint_table_create(pool, "l", &schema, CHUNKS * 512ull, &large, &live_err), &live_err);
    ASSERT_OK(pint_table_publish(large, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_column(large, "z", &z, &live_err), &live_err);
    ASSERT_OK(pinti_request_copy(&z, device, 0, true, &opened, &live_err), &live_err);
    pinti_store64_seq(&pinti_column_desc_of(&z)->words[CHUNKS - 1],
                      pinti_chunk_settled(0, 2ull << device));
    pinti_a32 is_over;
    pthread_t thread;
    uint64_t n_missed = 0;
    pinti_store32_seq(&is_over, 0);
    ASSERT_EQ(pthread_create(&thread, NULL, drop_in_vain, &is_over), 0);
    while (pinti_load32_seq(&is_over) == 0) {
        uint32_t index;
        uint32_t generation;
        n_missed += pinti_copy_find(&z, device, &index, &generation) ? 0 : 1;
    }
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(n_missed, 0u);
    EXPECT_EQ(close(opened.fd), 0);
    pinti_copy_release(pool, opened.index, opened.generation);
    pint_table_close(large);
    ASSERT_NO_FATAL(finish());
}

TEST(Copies, OfAddedColumnsAreLikeOthers)
{
    ASSERT_NO_FATAL(start());
    pint_table *from = NULL;
    ASSERT_OK(live_create(pool, "f", ROWS, &from), &live_err);
    EXPECT_STATUS(PINT_E_EXISTS, pint_table_add_columns(table, from, &live_err), &live_err);
    pint_table_close(from);
    pint_field field = live_field("y", PINT_INT32);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = pint_table_chunk_rows(table);
    ASSERT_OK(pint_table_create(pool, "g", &schema, ROWS, &from, &live_err), &live_err);
    ASSERT_OK(pint_table_add_columns(table, from, &live_err), &live_err);
    pint_column y;
    ASSERT_OK(pint_table_column(table, "y", &y, &live_err), &live_err);
    pinti_opened_copy copy;
    ASSERT_OK(pinti_request_copy(&y, device, 0, true, &copy, &live_err), &live_err);
    uint32_t index = 0;
    uint32_t generation = 0;
    EXPECT_TRUE(pinti_copy_find(&y, device, &index, &generation));
    EXPECT_EQ(index, copy.index);
    EXPECT_EQ(pinti_cat_copies(pool->catalog)[index].values_bytes / 4 >= ROWS, true);
    EXPECT_FALSE(pinti_copy_find(&column, device, &index, &generation));
    EXPECT_EQ(close(copy.fd), 0);
    pinti_copy_release(pool, copy.index, copy.generation);
    ASSERT_NO_FATAL(finish());
}

TEST(Copies, AFrozenTableHasCopiesToo)
{
    ASSERT_NO_FATAL(start());
    pinti_opened_copy copy;
    ASSERT_OK(pint_table_freeze(table, &live_err), &live_err);
    ASSERT_OK(pinti_request_copy(&column, device, 0, true, &copy, &live_err), &live_err);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_copy_release(pool, copy.index, copy.generation);
    ASSERT_NO_FATAL(finish());
}

/* arguments: address. */
PROC(reads_only)
{
    pint_table *own = NULL;
    pint_column x;
    uint32_t at = 0;
    pinti_opened_copy copy;
    live_set_up();
    CT_REQUIRE(argc == 2);
    CT_REQUIRE(live_join(argv[1], PINT_JOIN_READ, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(own, "x", &x, &live_err) == PINT_OK);
    EXPECT_OK(pinti_request_device(pool, host_uuid, false, "host", &at, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_request_copy(&x, at, 0, true, &copy, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_request_copy_drop(pool, 0, 1, &live_err), &live_err);
    pint_table_close(own);
    pint_pool_leave(pool);
    return 0;
}

TEST(Copies, AreNotForReaders)
{
    ASSERT_NO_FATAL(start());
    const char *args[] = {ct_tmpdir(), NULL};
    EXPECT_EQ(ct_wait(ct_spawn("reads_only", args)), 0);
    ASSERT_NO_FATAL(finish());
}

/* arguments: address. Opens and drops the same copy as others do. */
PROC(contender)
{
    pint_table *own = NULL;
    pint_column x;
    uint32_t at = 0;
    CT_REQUIRE(argc == 2);
    live_set_up();
    CT_REQUIRE(live_join(argv[1], 0, &pool) == PINT_OK);
    CT_REQUIRE(pint_table_open(pool, "t", PINT_READ, &own, &live_err) == PINT_OK);
    CT_REQUIRE(pint_table_column(own, "x", &x, &live_err) == PINT_OK);
    CT_REQUIRE(pinti_request_device(pool, host_uuid, false, "host", &at, &live_err) == PINT_OK);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    for (int i = 0; i < 100; i++) {
        pinti_opened_copy copy;
        const pint_status status = pinti_request_copy(&x, at, 0, true, &copy, &live_err);
        if (status == PINT_E_BUSY) {
            continue; /* two others passed a dropped one between them for 2 s */
        }
        EXPECT_OK(status, &live_err);
        CT_REQUIRE(status == PINT_OK);
        EXPECT_GE(first_byte(copy.fd, -1), 0);
        EXPECT_EQ(close(copy.fd), 0);
        if (i % 3 == 0) {
            EXPECT_OK(pinti_request_copy_drop(pool, copy.index, copy.generation, &live_err),
                      &live_err);
        }
        pinti_copy_release(pool, copy.index, copy.generation);
    }
    pint_table_close(own);
    pint_pool_leave(pool);
    return 0;
}

TEST(Copies, SeveralProcessesOpenAndDropAtOnce, .timeout_s = 60)
{
    enum { PROCS = 4 };
    pid_t pids[PROCS];
    ASSERT_NO_FATAL(start());
    const char *args[] = {ct_tmpdir(), NULL};
    for (int i = 0; i < PROCS; i++) {
        pids[i] = ct_spawn("contender", args);
        ASSERT_TRUE(ct_wait_ready(pids[i]));
    }
    for (int i = 0; i < PROCS; i++) {
        EXPECT_TRUE(ct_go(pids[i]));
    }
    for (int i = 0; i < PROCS; i++) {
        EXPECT_EQ(ct_wait(pids[i]), 0);
    }
    uint32_t index = 0;
    uint32_t generation = 0;
    if (pinti_copy_find(&column, device, &index, &generation)) {
        EXPECT_OK(pinti_request_copy_drop(pool, index, generation, &live_err), &live_err);
    }
    EXPECT_TRUE(ct_eventually(live_stat_number("dying") == 0, 10000));
    const uint32_t n =
        pinti_load32_acquire(&((const pinti_catalog_header *)pool->catalog)->xn_copies);
    for (uint32_t i = 0; i < n; i++) {
        EXPECT_EQ(state_of(i), PINTI_FREE);
    }
    ASSERT_NO_FATAL(finish());
}
