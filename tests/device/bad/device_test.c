/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Devices that cannot be opened and memory that cannot be had, at the public API: the status says
 * which, the message has the driver's name of the error, and a table that is in use on device
 * "host" in the same process goes on as before.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/device/bad/scenario.h"

#define ROWS     (4u * WORLD_CHUNK_ROWS)
#define RW       (PINT_READ | PINT_WRITE)
#define UUID_0   "66616b65-6375-6461-2d64-657669636500"
#define UUID_1   "66616b65-6375-6461-2d64-657669636501"
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char fake_driver[] = "PINTABLE_LIBCUDA=" FAKECUDA_PATH;

static void set_up(world *w)
{
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1), 0); /* for the broker */
    ASSERT_NO_FATAL(world_set_up(w, ROWS));
}

/* The rows of x are as world_set_up() made them, on the host and on device "host". */
static void expect_intact(world *w)
{
    for (uint64_t i = 0; i < ROWS; i++) {
        ASSERT_EQ(world_host(w)[i], (double)i);
    }
    ASSERT_OK(pint_device_begin(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, 10000, &live_err),
              &live_err);
    EXPECT_EQ(world_device_sum(w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, &live_err),
              &live_err);
}

/* ---- devices that are not there -------------------------------------------------------------- */

/* Arguments: address, name of a device, status, a text of the message. */
PROC(open_refused)
{
    world w;
    pint_error err = {.message = ""};
    CT_REQUIRE(argc == 5 && world_join(&w, argv[1], PINT_WRITE));
    const int n_fds = scenario_descriptors();
    for (int again = 0; again < 2; again++) {
        pint_device *device = NULL;
        const pint_status status = pint_device_open(w.pool, argv[2], &device, &err);
        (void)fprintf(stderr, "%s: status %d: %s\n", argv[2], status, err.message);
        CT_REQUIRE(status == (pint_status)strtol(argv[3], NULL, 10));
        CT_REQUIRE(err.status == status && device == NULL);
        CT_REQUIRE(strstr(err.message, argv[4]) != NULL);
        CT_REQUIRE(strlen(err.message) < sizeof(err.message) - 1);
    }
    CT_REQUIRE(scenario_descriptors() == n_fds);
    expect_intact(&w);
    world_leave(&w);
    return 0;
}

static void expect_refused(const char *name, pint_status status, const char *text,
                           const char *const *env)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%d", status);
    const char *const args[] = {ct_tmpdir(), name, number, text, NULL};
    if (ct_wait(ct_spawn_opts("open_refused", args, .env = env)) != 0) {
        FAIL("device '%s'", name);
    }
}

TEST(BadDevice, UnknownNames, .timeout_s = 60)
{
    static const char *const unknown[] = {"gpu", "", "cuda", "CUDA:0", "host:0", "host ", "cuda0"};
    static const char *const malformed[] = {"cuda:",
                                            "cuda:-1",
                                            "cuda:0x0",
                                            "cuda:1000",
                                            "cuda:0,1",
                                            "cuda:" UUID_0,
                                            "cuda:GPU-",
                                            "cuda:GPU-66616b65",
                                            "cuda:gpu-" UUID_0,
                                            "cuda:GPU-" UUID_0 "0",
                                            "cuda:\xff\x01",
                                            "cuda:GPU-66616b65-6375-6461-2d64-65766963650g"};
    static const char *const absent[] = {"cuda:2", "cuda:999",
                                         "cuda:GPU-00000000-0000-0000-0000-000000000000",
                                         "cuda:ffffffffffffffffffffffffffffffff"};
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        expect_refused(unknown[i], PINT_E_NO_DEVICE, "there are \"host\"", ENV(fake_driver));
    }
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        expect_refused(malformed[i], PINT_E_NO_DEVICE, "32 hexadecimal digits", ENV(fake_driver));
    }
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        expect_refused(absent[i], PINT_E_NO_DEVICE, "not among the 2 GPUs",
                       ENV(fake_driver, "FAKECUDA_DEVICES=2"));
    }
    world_tear_down(&w);
}

TEST(BadDevice, HiddenInEveryForm, .timeout_s = 60)
{
    static const char *const all_hidden[] = {
        "CUDA_VISIBLE_DEVICES=",
        "CUDA_VISIBLE_DEVICES=-1",
        "CUDA_VISIBLE_DEVICES=-1,0",
        "CUDA_VISIBLE_DEVICES=7",
        "CUDA_VISIBLE_DEVICES=nonsense",
        "CUDA_VISIBLE_DEVICES=GPU-00000000-0000-0000-0000-000000000000"};
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < sizeof(all_hidden) / sizeof(all_hidden[0]); i++) {
        expect_refused("cuda:0", PINT_E_NO_DEVICE, "CUDA_ERROR_NO_DEVICE (100)",
                       ENV(fake_driver, "FAKECUDA_DEVICES=2", all_hidden[i]));
    }
    expect_refused("cuda:GPU-" UUID_0, PINT_E_NO_DEVICE, "CUDA_VISIBLE_DEVICES",
                   ENV(fake_driver, "FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=GPU-" UUID_1));
    expect_refused("cuda:1", PINT_E_NO_DEVICE, "not among the 1 GPUs",
                   ENV(fake_driver, "FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES=1"));
    world_tear_down(&w);
}

TEST(BadDevice, DriversThatAreNone, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "/nowhere/libcuda.so.1: cannot open",
                   ENV("PINTABLE_LIBCUDA=/nowhere/libcuda.so.1"));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "is another library",
                   ENV("PINTABLE_LIBCUDA=libm.so.6"));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                   ENV(fake_driver, "FAKECUDA_DRIVER=stub"));
#ifdef PINT_CUDA_STUB
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                   ENV("PINTABLE_LIBCUDA=" PINT_CUDA_STUB));
#endif
    /* of a toolkit that has no cuGetProcAddress_v2 yet */
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                   ENV("PINTABLE_LIBCUDA=" FAKECUDA_OLD_PATH, "FAKECUDA_DRIVER=stub"));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "CUDA 11.4 but not cuGetProcAddress_v2",
                   ENV("PINTABLE_LIBCUDA=" FAKECUDA_OLD_PATH));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "too old: it has CUDA 11.8",
                   ENV(fake_driver, "FAKECUDA_VERSION=11080"));
    expect_refused("cuda:0", PINT_E_NO_DEVICE, "cuInit: CUDA_ERROR_NO_DEVICE (100)",
                   ENV(fake_driver, "FAKECUDA_DEVICES=0"));
    world_tear_down(&w);
}

TEST(BadDevice, DriversThatDoNotStart, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    expect_refused("cuda:0", PINT_E_DEVICE, "cuInit: CUDA_ERROR_UNKNOWN (999)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuInit:1"));
    /* of which the fake has no name, as a driver may not; nor when it refuses to give one */
    expect_refused("cuda:0", PINT_E_DEVICE, "cuInit: unknown error (803)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuInit:1:803"));
    expect_refused("cuda:0", PINT_E_DEVICE, "cuInit: unknown error (999)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuInit:1,cuGetErrorName:1+"));
    expect_refused("cuda:0", PINT_E_FORKED, "use spawn or exec",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuInit:1:3"));
    expect_refused("cuda:0", PINT_E_DEVICE, "cuDeviceGetCount: CUDA_ERROR_UNKNOWN (999)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuDeviceGetCount:1+"));
    expect_refused("cuda:0", PINT_E_DEVICE, "cuDeviceGetAttribute: CUDA_ERROR_UNKNOWN (999)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuDeviceGetAttribute:1+"));
    expect_refused("cuda:0", PINT_E_DEVICE_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY (2)",
                   ENV(fake_driver, "FAKECUDA_FAIL=cuDevicePrimaryCtxRetain:1+:2"));
    world_tear_down(&w);
}

/* Each look-up that the driver refuses: without an entry point that is needed no device is opened,
 * one that is not needed is just not there. */
TEST(BadDevice, EveryLookUpOfTheDriver, .timeout_s = 100)
{
    static const char *const names[] = {
#define NAME(member_, name_, symbol_, version_, params_) #name_,
        PINTI_CU_REQUIRED(NAME)
#undef NAME
    };
    world w;
    char setting[64];
    char text[128];
    ASSERT_NO_FATAL(set_up(&w));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_FAIL=cuGetProcAddress:%zu", i + 1);
        (void)snprintf(text, sizeof(text), "cuGetProcAddress of %s: %s (999)", names[i],
                       strcmp(names[i], "cuGetErrorName") == 0 ? "unknown error"
                                                               : "CUDA_ERROR_UNKNOWN");
        expect_refused("cuda:0", PINT_E_DEVICE, text, ENV(fake_driver, setting));
    }
    world_tear_down(&w);
}

/* ---- fork ------------------------------------------------------------------------------------ */

static int open_in_child(world *w)
{
    pint_device *device = NULL;
    pint_error err = {.message = ""};
    return pint_device_open(w->pool, "cuda:0", &device, &err) == PINT_E_FORKED && device == NULL &&
                   strstr(err.message, "fork()") != NULL
               ? 0
               : 1;
}

PROC(opens_and_forks)
{
    world w;
    pint_device *device = NULL;
    int status = -1;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        _exit(open_in_child(&w));
    }
    CT_REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
    pint_device_close(device);
    expect_intact(&w);
    world_leave(&w);
    return 0;
}

TEST(BadDevice, AfterForkItIsNotOpenedAgain, .timeout_s = 60)
{
    world w;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer's malloc() may be locked for ever in a child of fork()");
#endif
    ASSERT_NO_FATAL(set_up(&w));
    const pid_t pid = ct_spawn_opts("opens_and_forks", ENV(ct_tmpdir()), .env = ENV(fake_driver));
    EXPECT_EQ(ct_wait(pid), 0);
    world_tear_down(&w);
}

/* ---- memory that cannot be had --------------------------------------------------------------- */

/* The importer's share of the GPU is used up by its first copy. */
PROC(has_no_room)
{
    world w;
    pint_device *device = NULL;
    pint_copy *first = NULL;
    pint_copy *second = NULL;
    pint_column n;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_table_column(w.table, "n", &n, &live_err) == PINT_OK);
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    for (uint32_t kind = PINT_COPY_VMM; kind <= PINT_COPY_IPC; kind++) {
        CT_REQUIRE(pint_copy_open(device, &w.x, kind, PINT_WRITE, &first, &live_err) == PINT_OK);
        const int n_fds = scenario_descriptors();
        for (int again = 0; again < 3; again++) {
            EXPECT_STATUS(PINT_E_DEVICE_MEMORY,
                          pint_copy_open(device, &n, kind, PINT_WRITE, &second, &live_err),
                          &live_err);
            EXPECT_NE(strstr(live_err.message, "CUDA_ERROR_OUT_OF_MEMORY (2)"), NULL);
            EXPECT_EQ(second, NULL);
        }
        EXPECT_EQ(scenario_descriptors(), n_fds);
        CT_REQUIRE(pint_copy_drop(first, &live_err) == PINT_OK);
        pint_copy_close(first); /* room again: the one that could not be imported */
        CT_REQUIRE(pint_copy_open(device, &n, kind, PINT_WRITE, &second, &live_err) == PINT_OK);
        CT_REQUIRE(pint_copy_drop(second, &live_err) == PINT_OK);
        pint_copy_close(second);
        second = NULL;
    }
    pint_device_close(device);
    expect_intact(&w);
    world_leave(&w);
    return 0;
}

TEST(BadMemory, AFullGpuOfTheImporter, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pid_t pid = ct_spawn_opts("has_no_room", ENV(ct_tmpdir()),
                                    .env = ENV(fake_driver, "FAKECUDA_MEMORY_MIB=2"));
    EXPECT_EQ(ct_wait(pid), 0);
    world_tear_down(&w);
}

/* No host memory can be registered at all, not even a staging ring. */
PROC(registers_nothing)
{
    world w;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    void *stream = NULL;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    uint64_t address = 0;
    CT_REQUIRE(argc == 2 && world_join(&w, argv[1], PINT_WRITE));
    const int n_fds = scenario_descriptors();
    CT_REQUIRE(pint_device_open(w.pool, "cuda:0", &device, &live_err) == PINT_OK);
    CT_REQUIRE(pint_copy_open(device, &w.x, 0, PINT_WRITE, &copy, &live_err) == PINT_OK);
    CT_REQUIRE(pint_stream_create(device, &stream, &live_err) == PINT_OK);
    EXPECT_STATUS(PINT_E_DEVICE, pint_device_pin(device, w.table, NULL, NULL, &live_err),
                  &live_err);
    EXPECT_NE(strstr(live_err.message, "cuMemHostRegister: CUDA_ERROR_NOT_SUPPORTED (801)"), NULL);
    EXPECT_STATUS(PINT_E_DEVICE, pint_device_mapped(device, &w.x, &address, &live_err), &live_err);
    EXPECT_EQ(address, 0u);
    for (uint32_t access = PINT_READ; access <= RW; access++) {
        if (access == PINT_WRITE) { /* moves nothing: it may begin */
            continue;
        }
        EXPECT_STATUS(PINT_E_DEVICE,
                      pint_device_begin(copy, 0, PINT_ALL_ROWS, access, stream, 1000, &live_err),
                      &live_err);
        EXPECT_NE(strstr(live_err.message, "CUDA_ERROR_NOT_SUPPORTED (801)"), NULL);
        EXPECT_EQ(pint_copy_places(copy, 0) & 1u, 1u);
    }
    CT_REQUIRE(pint_device_get_info(device, &info, &live_err) == PINT_OK);
    EXPECT_EQ(info.pinned_bytes, 0u);
    EXPECT_EQ(info.can_map_host, 0u);
    CT_REQUIRE(pint_copy_drop(copy, &live_err) == PINT_OK);
    pint_stream_destroy(device, stream);
    pint_copy_close(copy);
    pint_device_close(device);
    EXPECT_EQ(scenario_descriptors(), n_fds);
    expect_intact(&w);
    world_leave(&w);
    return 0;
}

/* The driver has a call for memory that is registered from the start. */
static bool has_own_memory(void)
{
    static const char *const names[] = {
#define NAME(member_, name_, symbol_, version_, params_) #name_,
        PINTI_CU_REQUIRED(NAME) PINTI_CU_OPTIONAL(NAME)
#undef NAME
    };
    bool has = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        has = has || strcmp(names[i], "cuMemHostAlloc") == 0;
    }
    return has;
}

TEST(BadMemory, NothingCanBeRegistered, .timeout_s = 60)
{
    const char *const failing = has_own_memory()
                                    ? "FAKECUDA_FAIL=cuMemHostRegister:1+:801,cuMemHostAlloc:1+:801"
                                    : "FAKECUDA_FAIL=cuMemHostRegister:1+:801";
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pid_t pid =
        ct_spawn_opts("registers_nothing", ENV(ct_tmpdir()), .env = ENV(fake_driver, failing));
    EXPECT_EQ(ct_wait(pid), 0);
    ASSERT_NO_FATAL(expect_intact(&w));
    ASSERT_NO_FATAL(world_host_write(&w, 0, 1)); /* nobody holds anything */
    world_tear_down(&w);
}
