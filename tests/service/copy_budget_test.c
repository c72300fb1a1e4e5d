/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets of device memory, and which copies make way. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/word.h"
#include "pintable/device.h"
#include "tests/service/copy_raw.h"
#include "tests/support/ct.h"

enum { TABLES = 4, ROWS = 1 << 18 /* 2 MiB of float64 */ };
#define MIB (1ull << 20)

static raw_service service;
static copy_client a;
static uint32_t tables[TABLES];
static uint32_t generations[TABLES];

static void start_with(const char *const *args, const char *const *env)
{
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "b", args, env));
    ASSERT_TRUE(copy_join(&a, service.address));
    for (int i = 0; i < TABLES; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "t%d", i);
        ASSERT_TRUE(copy_table(&a, name, ROWS, &tables[i], &generations[i]));
    }
}

static void start(const char *budget, const char *const *env)
{
    const char *args[] = {"--device-budget", budget, NULL};
    start_with(args, env);
}

static void finish(void)
{
    EXPECT_TRUE(copy_leave(&a));
    EXPECT_EQ(raw_terminate(&service), 0);
}

static raw_copy open_one(int i, int device)
{
    const raw_copy copy = copy_open(&a, tables[i], generations[i], device, 0, true);
    if (copy.fd >= 0) {
        EXPECT_EQ(close(copy.fd), 0);
    }
    return copy;
}

static bool is_there(int i, int device)
{
    return copy_named(&a, tables[i], device) != 0;
}

TEST(CopyBudget, TheLeastRecentlyOpenedMakesWay)
{
    ASSERT_NO_FATAL(start("4M", fake_broker_env()));
    const int device = copy_device(&a, COPY_CUDA, true);
    ASSERT_EQ(device, 0);
    EXPECT_EQ(copy_stat(service.address, device, "budget_bytes"), 4 * MIB);
    EXPECT_EQ(open_one(0, device).code, 0);
    const uint64_t opened_ms = ct_now_ms();
    EXPECT_TRUE(ct_eventually(ct_now_ms() > opened_ms + 1, 1000)); /* the clock's step */
    EXPECT_EQ(open_one(1, device).code, 0);
    EXPECT_EQ(copy_stat(service.address, device, "bytes"), 4 * MIB);
    const uint64_t again_ms = ct_now_ms();
    EXPECT_TRUE(ct_eventually(ct_now_ms() > again_ms + 1, 1000));
    EXPECT_EQ(open_one(0, device).code, 0); /* more recent than 1 now */
    EXPECT_EQ(open_one(2, device).code, 0);
    EXPECT_TRUE(is_there(0, device));
    EXPECT_FALSE(is_there(1, device));
    EXPECT_TRUE(is_there(2, device));
    EXPECT_EQ(copy_stat(service.address, device, "bytes"), 4 * MIB);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyBudget, NeitherCopiesInUseNorTheirOnlyBytesMakeWay)
{
    ASSERT_NO_FATAL(start("4M", fake_broker_env()));
    const int device = copy_device(&a, COPY_CUDA, true);
    const raw_copy used = open_one(0, device);
    ASSERT_EQ(used.code, 0);
    copy_refer(&a, &used);
    const raw_copy ahead = open_one(1, device);
    ASSERT_EQ(ahead.code, 0);
    pinti_a64 *words = copy_words(&a, tables[1]);
    pinti_store64_seq(&words[3], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2u));
    EXPECT_EQ(open_one(2, device).code, PINT_E_QUOTA);
    EXPECT_TRUE(is_there(0, device));
    EXPECT_TRUE(is_there(1, device));
    pinti_store64_seq(&words[3], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u)); /* brought down */
    EXPECT_EQ(open_one(2, device).code, 0);
    EXPECT_TRUE(is_there(0, device));
    EXPECT_FALSE(is_there(1, device));
    EXPECT_EQ(pinti_load64_seq(&words[3]) & PINTI_CHUNK_MASK, 0u);
    copy_unrefer(&a, &used);
    EXPECT_EQ(open_one(3, device).code, 0); /* 2 was opened later than 0 */
    EXPECT_FALSE(is_there(0, device));
    ASSERT_NO_FATAL(finish());
}

TEST(CopyBudget, OneThatCannotFitEvictsNobody)
{
    ASSERT_NO_FATAL(start("8M," COPY_CUDA "=2M", fake_broker_env()));
    const int device = copy_device(&a, COPY_CUDA, true);
    EXPECT_EQ(copy_stat(service.address, device, "budget_bytes"), 2 * MIB);
    EXPECT_EQ(open_one(0, device).code, 0);
    uint32_t big = 0;
    uint32_t generation = 0;
    ASSERT_TRUE(copy_table(&a, "big", 2 * ROWS, &big, &generation));
    EXPECT_EQ(copy_open(&a, big, generation, device, 0, true).code, PINT_E_QUOTA);
    EXPECT_TRUE(is_there(0, device));
    const int other = copy_device(&a, "c0da0000000000000000000000000002", true);
    EXPECT_EQ(copy_stat(service.address, other, "budget_bytes"), 8 * MIB);
    ASSERT_NO_FATAL(finish());
}

/* It would fit an empty device, but not beside what is in use. */
TEST(CopyBudget, OneThatDoesNotFitBesideWhatStaysEvictsNobody)
{
    ASSERT_NO_FATAL(start("6M", fake_broker_env()));
    const int device = copy_device(&a, COPY_CUDA, true);
    const raw_copy used = open_one(0, device);
    ASSERT_EQ(used.code, 0);
    copy_refer(&a, &used);
    EXPECT_EQ(open_one(1, device).code, 0);
    uint32_t big = 0;
    uint32_t generation = 0;
    ASSERT_TRUE(copy_table(&a, "big", 3 * ROWS, &big, &generation)); /* 6M */
    EXPECT_EQ(copy_open(&a, big, generation, device, 0, true).code, PINT_E_QUOTA);
    EXPECT_TRUE(is_there(0, device));
    EXPECT_TRUE(is_there(1, device));
    /* what only seems to be in use is in nobody's way */
    ASSERT_TRUE(copy_table(&a, "fits", 2 * ROWS, &big, &generation)); /* 4M */
    ASSERT_TRUE(is_there(1, device));
    const uint32_t idle = copy_named(&a, tables[1], device) - 1;
    pinti_store64_seq(&copy_chunks(&a, idle)[0].xreaders, 1ull << 7);
    const raw_copy copy = copy_open(&a, big, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    EXPECT_TRUE(is_there(0, device));
    EXPECT_FALSE(is_there(1, device));
    ASSERT_NO_FATAL(finish());
}

/* Two idle copies of 2M on the host, and a table whose copy does not fit, they or not. */
static void expect_nobody_evicted_for(uint64_t rows)
{
    uint32_t big = 0;
    uint32_t generation = 0;
    const int device = copy_device(&a, COPY_HOST, false);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(open_one(i, device).code, 0);
    }
    ASSERT_TRUE(copy_table(&a, "big", rows, &big, &generation));
    EXPECT_EQ(copy_open(&a, big, generation, device, 0, true).code, PINT_E_QUOTA);
    for (int i = 0; i < 2; i++) {
        EXPECT_TRUE(is_there(i, device));
    }
}

TEST(CopyBudget, OnTheHostNobodyIsEvictedInVain)
{
    ASSERT_NO_FATAL(start("1M", NULL));
    ASSERT_NO_FATAL(expect_nobody_evicted_for(15 * ROWS)); /* 30M more; 42M of 64M are in use */
    ASSERT_NO_FATAL(finish());
}

TEST(CopyBudget, NorForAUserWhoHasTooMuchAlready)
{
    const char *args[] = {"--uid-bytes", "32M", NULL};
    ASSERT_NO_FATAL(start_with(args, NULL));
    ASSERT_NO_FATAL(expect_nobody_evicted_for(7 * ROWS)); /* 14M more; 26M of 32M are in use */
    ASSERT_NO_FATAL(finish());
}

/* The service has --budget 64M for all. */
TEST(CopyBudget, OfTheHostIsThePools)
{
    ASSERT_NO_FATAL(start("1M", NULL)); /* does not concern the host */
    const int device = copy_device(&a, COPY_HOST, false);
    uint32_t big = 0;
    uint32_t generation = 0;
    EXPECT_EQ(open_one(0, device).code, 0);
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_GE(now.used_bytes, (TABLES * 2 + 2) * MIB);
    EXPECT_GE(now.committed_bytes, now.used_bytes);
    EXPECT_EQ(copy_stat(service.address, device, "bytes"), 2 * MIB);
    ASSERT_TRUE(copy_table(&a, "big", 12 * ROWS, &big, &generation)); /* 24M: 34M in use */
    const raw_copy copy = copy_open(&a, big, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0); /* 58M */
    EXPECT_EQ(close(copy.fd), 0);
    EXPECT_EQ(open_one(1, device).code, 0); /* 60M */
    EXPECT_EQ(open_one(2, device).code, 0); /* 62M */
    EXPECT_TRUE(is_there(0, device));
    EXPECT_EQ(open_one(3, device).code, 0); /* chunk words besides: somebody makes way */
    EXPECT_FALSE(is_there(0, device));
    /* tables do not push copies out: their budget is what is left */
    uint64_t index = 0;
    uint64_t gen = 0;
    EXPECT_EQ(raw_make_table(&a.session, "more", 4 * ROWS, false, &index, &gen), PINT_E_QUOTA);
    EXPECT_EQ(copy_drop(&a, &copy, false), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, copy.copy) == PINTI_FREE, 10000));
    EXPECT_EQ(raw_make_table(&a.session, "more", 4 * ROWS, false, &index, &gen), 0);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyBudget, OptionsAreRead)
{
    static const char *const good[] = {"1", "8G", "1M,0123456789abcdef0123456789abcdef=2M",
                                       "0123456789abcdef0123456789abcdef=2M", NULL};
    static const char *const bad[] = {"",
                                      "0",
                                      "8X",
                                      "1M,2M",
                                      "abc=1M",
                                      "=1M",
                                      "0123456789ABCDEF0123456789abcdef=2M",
                                      "0123456789abcdef0123456789abcdef=",
                                      NULL};
    for (int i = 0; good[i] != NULL; i++) {
        const char *args[] = {"--device-budget", good[i], "--version", NULL};
        EXPECT_EQ(raw_run(args, NULL), 0);
    }
    for (int i = 0; bad[i] != NULL; i++) {
        const char *args[] = {"--device-budget", bad[i], "--version", NULL};
        EXPECT_EQ(raw_run(args, NULL), 64);
    }
}
