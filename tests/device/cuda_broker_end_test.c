/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real service and the real broker, whose driver stops it anywhere, or fails it as after a
 * reset of the GPU. tests/service/copy_broker_end_test.c has what the service does with other
 * brokers.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/device/device_world.h"

#define ROWS (8u * WORLD_CHUNK_ROWS)

/* A world on "host" whose service, not this process, has a setting of the fake driver. */
static void set_up(world *w, const char *name, const char *value)
{
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_DIR "/libcuda.so.1", 1), 0);
    EXPECT_EQ(setenv("PINT_TEST_DEVICE", "host", 1), 0);
    EXPECT_EQ(setenv(name, value, 1), 0);
    world_set_up(w, ROWS);
    EXPECT_EQ(unsetenv(name), 0);
}

/* A number that stat tells about the GPU; -1: the pool does not know it. */
static double gpu_number(const char *address, const char *key)
{
    cJSON *result = NULL;
    double number = -1;
    EXPECT_OK(live_ask(address, "stat", NULL, &result), &live_err);
    const cJSON *device;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(result, "devices"))
    {
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "cuda"))) {
            number = cJSON_GetObjectItemCaseSensitive(device, key)->valuedouble;
        }
    }
    cJSON_Delete(result);
    return number;
}

/* ---- killed at each step --------------------------------------------------------------------- */

/* Opens a copy of kind argv[2], whose broker is killed over it; then another. */
PROC(opener)
{
    world w;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    const uint32_t kind = (uint32_t)strtoul(argv[2], NULL, 10);
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(device, &w.x, kind, PINT_WRITE, &copy, &live_err) == PINT_E_DEVICE);
    CT_REQUIRE(strstr(live_err.message, "broker") != NULL);
    CT_REQUIRE(gpu_number(argv[1], "bytes") == 0);
    CT_REQUIRE(pint_copy_open(device, &w.x, kind, PINT_WRITE, &copy, &live_err) == PINT_OK);
    pint_copy_close(copy);
    pint_device_close(device);
    world_leave(&w);
    return 0;
}

/* Makes two copies by handle, and drops one, over which the broker is killed: both are gone. */
PROC(dropper)
{
    world w;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    pint_copy *other = NULL;
    pint_column id;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_table_column(w.table, "id", &id, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(device, &w.x, PINT_COPY_IPC, PINT_WRITE, &copy, &live_err) ==
               PINT_OK);
    CT_REQUIRE(pint_copy_open(device, &id, PINT_COPY_IPC, PINT_WRITE, &other, &live_err) ==
               PINT_OK);
    pint_copy_close(other);
    CT_REQUIRE(pint_copy_drop(copy, &live_err) == PINT_OK);
    pint_copy_close(copy);
    CT_REQUIRE(ct_eventually(gpu_number(argv[1], "copies") == 0, 20000));
    CT_REQUIRE(pint_copy_open(device, &w.x, PINT_COPY_IPC, PINT_WRITE, &copy, &live_err) ==
               PINT_OK);
    pint_copy_close(copy);
    pint_device_close(device);
    world_leave(&w);
    return 0;
}

static void kill_at(const char *call, uint32_t kind, const char *proc)
{
    world w;
    char setting[4200];
    char file[4096];
    char text[2] = {(char)('0' + kind), '\0'};
    (void)snprintf(file, sizeof(file), "%s/stopped", ct_tmpdir());
    (void)unlink(file);
    (void)snprintf(setting, sizeof(setting), "%s:1:%s", call, file);
    ASSERT_NO_FATAL(set_up(&w, "FAKECUDA_STOP", setting));
    const pid_t child = ct_spawn(proc, (const char *const[]){ct_tmpdir(), text, NULL});
    EXPECT_TRUE(ct_eventually(access(file, F_OK) == 0, 20000));
    const pid_t broker = (pid_t)gpu_number(ct_tmpdir(), "broker_pid");
    ASSERT_GT(broker, 1);
    EXPECT_EQ(kill(broker, SIGKILL), 0);
    EXPECT_EQ(ct_wait(child), 0);
    EXPECT_NE((pid_t)gpu_number(ct_tmpdir(), "broker_pid"), broker);
    EXPECT_TRUE(ct_eventually(gpu_number(ct_tmpdir(), "brokers_ending") == 0, 10000));
    world_tear_down(&w);
}

TEST(CudaBrokerEnd, KilledWhileTheDriverStarts, .timeout_s = 60)
{
    kill_at("cuInit", PINT_COPY_VMM, "opener");
    kill_at("cuDevicePrimaryCtxRetain", PINT_COPY_IPC, "opener");
}

TEST(CudaBrokerEnd, KilledWhileItMakes, .timeout_s = 60)
{
    kill_at("cuMemCreate", PINT_COPY_VMM, "opener");
    kill_at("cuMemAlloc", PINT_COPY_IPC, "opener");
}

TEST(CudaBrokerEnd, KilledWithMemoryThatNobodyHasYet, .timeout_s = 60)
{
    kill_at("cuMemExportToShareableHandle", PINT_COPY_VMM, "opener");
    kill_at("cuMemRelease", PINT_COPY_VMM, "opener"); /* exported, not sent */
    kill_at("cuIpcGetMemHandle", PINT_COPY_IPC, "opener");
}

TEST(CudaBrokerEnd, KilledWhileItFrees, .timeout_s = 60)
{
    kill_at("cuMemFree", PINT_COPY_IPC, "dropper");
}

/* ---- a driver that is of no use any more ----------------------------------------------------- */

/* The first copy is made; after that all calls fail for as long as the process lives. */
static void expect_replaced(const char *failure, uint32_t kind)
{
    world w;
    pint_device *device = NULL;
    pint_copy *x = NULL;
    pint_copy *id = NULL;
    pint_column column;
    ASSERT_NO_FATAL(set_up(&w, "FAKECUDA_FAIL", failure));
    ASSERT_OK(pint_table_column(w.table, "id", &column, &live_err), &live_err);
    ASSERT_OK(pint_device_open(w.pool, "cuda:0", &device, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(device, &w.x, kind, PINT_WRITE, &x, &live_err), &live_err);
    const double broker = gpu_number(ct_tmpdir(), "broker_pid");
    ASSERT_OK(pint_copy_open(device, &column, kind, PINT_WRITE, &id, &live_err), &live_err);
    EXPECT_GT(gpu_number(ct_tmpdir(), "broker_pid"), 1);
    EXPECT_TRUE(gpu_number(ct_tmpdir(), "broker_pid") != broker);
    pint_copy_close(id);
    pint_copy_close(x);
    pint_device_close(device);
    world_tear_down(&w);
}

TEST(CudaBrokerEnd, AfterAResetItsSuccessorMakesWhatItCouldNot, .timeout_s = 60)
{
    expect_replaced("cuMemCreate:2+:46", PINT_COPY_VMM);  /* CUDA_ERROR_DEVICE_UNAVAILABLE */
    expect_replaced("cuMemCreate:2+:214", PINT_COPY_VMM); /* CUDA_ERROR_ECC_UNCORRECTABLE */
    expect_replaced("cuMemCreate:2+:802", PINT_COPY_VMM); /* CUDA_ERROR_SYSTEM_NOT_READY */
    expect_replaced("cuMemCreate:2+:999", PINT_COPY_VMM); /* CUDA_ERROR_UNKNOWN */
    expect_replaced("cuMemExportToShareableHandle:2+:4", PINT_COPY_VMM);
    expect_replaced("cuMemAlloc:2+:46", PINT_COPY_IPC);
}

TEST(CudaBrokerEnd, ADeviceThatStaysAwayIsSaidToBe, .timeout_s = 60)
{
    static const struct {
        const char *failure;
        pint_status status;
        const char *text;
    } all[] = {
        {"cuMemCreate:1+:214", PINT_E_DEVICE_LOST, "(214)"},
        {"cuMemCreate:1+:46", PINT_E_NO_DEVICE, "(46)"},
        {"cuInit:1+:802", PINT_E_DEVICE, "(802)"},
        {"cuInit:1+:100", PINT_E_NO_DEVICE, "(100)"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        world w;
        pint_device *device = NULL;
        pint_copy *copy = NULL;
        ASSERT_NO_FATAL(set_up(&w, "FAKECUDA_FAIL", all[i].failure));
        ASSERT_OK(pint_device_open(w.pool, "cuda:0", &device, &live_err), &live_err);
        for (int n = 0; n < 2; n++) {
            EXPECT_STATUS(all[i].status,
                          pint_copy_open(device, &w.x, 0, PINT_WRITE, &copy, &live_err), &live_err);
            EXPECT_NE(strstr(live_err.message, all[i].text), NULL);
        }
        EXPECT_EQ(gpu_number(ct_tmpdir(), "broker_pid"), 0);
        pint_device_close(device);
        world_tear_down(&w);
    }
}
