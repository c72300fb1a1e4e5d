/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loading the driver: every outcome, once per process, threads, fork(). A process loads one driver
 * in its life, so each case is a process of its own, with the fake as its driver.
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fakecuda/attach.h"
#include "tests/support/ct.h"

#define FAKE_DRIVER   "PINTABLE_LIBCUDA=" FAKECUDA_PATH
#define CHILD_SECONDS 30
#define N_THREADS     8

/* --- Outcomes --------------------------------------------------------------------------------- */

/* args: outcome, status, a text of the message. */
PROC(load)
{
    CT_REQUIRE(argc == 4);
    CT_REQUIRE(pinti_cuda_load_outcome() == PINTI_CUDA_NOT_TRIED);
    for (int again = 0; again < 2; again++) {
        pint_error err = {.message = ""};
        const pint_status status = pinti_cuda_load(&err);
        (void)fprintf(stderr, "status %d outcome %d: %s\n", status, (int)pinti_cuda_load_outcome(),
                      err.message);
        CT_REQUIRE(status == (pint_status)strtol(argv[2], NULL, 10));
        CT_REQUIRE(pinti_cuda_load(NULL) == status);
        CT_REQUIRE((long)pinti_cuda_load_outcome() == strtol(argv[1], NULL, 10));
        CT_REQUIRE(strstr(err.message, argv[3]) != NULL);
        CT_REQUIRE(status == PINT_OK || err.status == status);
        CT_REQUIRE((pinti_cuda_version() > 0) == (status == PINT_OK));
        CT_REQUIRE(pinti_cuda_has_ipc() == (status == PINT_OK));
    }
    return 0;
}

static void expect_load(pinti_cuda_outcome outcome, pint_status status, const char *text,
                        const char *const *env)
{
    char outcome_text[16];
    char status_text[16];
    (void)snprintf(outcome_text, sizeof(outcome_text), "%d", (int)outcome);
    (void)snprintf(status_text, sizeof(status_text), "%d", status);
    const char *const args[] = {outcome_text, status_text, text, NULL};
    const pid_t child = ct_spawn_opts("load", args, .env = env);
    EXPECT_EQ(ct_wait(child), 0);
}

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(CudaLoad, FindsTheDriverThatTheEnvironmentNames)
{
    expect_load(PINTI_CUDA_READY, PINT_OK, "", ENV(FAKE_DRIVER));
}

TEST(CudaLoad, WithoutTheVariableLooksForTheUsualName)
{
    expect_load(PINTI_CUDA_READY, PINT_OK, "",
                ENV("PINTABLE_LIBCUDA=", "LD_LIBRARY_PATH=" FAKECUDA_DIR));
}

TEST(CudaLoad, WithoutADriverSaysSo)
{
    expect_load(PINTI_CUDA_NO_DRIVER, PINT_E_NO_DEVICE, "/nowhere/libcuda.so.1: cannot open",
                ENV("PINTABLE_LIBCUDA=/nowhere/libcuda.so.1"));
}

TEST(CudaLoad, AnotherLibraryIsNoDriver)
{
    expect_load(PINTI_CUDA_NO_DRIVER, PINT_E_NO_DEVICE, "'libm.so.6' is another library",
                ENV("PINTABLE_LIBCUDA=libm.so.6"));
}

TEST(CudaLoad, AStubIsNoDriver)
{
    expect_load(PINTI_CUDA_STUB, PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                ENV(FAKE_DRIVER, "FAKECUDA_DRIVER=stub"));
}

TEST(CudaLoad, AStubThatShowsOnlyWhenInitialisedIsNoDriver)
{
    expect_load(PINTI_CUDA_STUB, PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuInit:1:34"));
}

TEST(CudaLoad, TheToolkitsStubIsNoDriver)
{
#ifdef PINT_CUDA_STUB
    expect_load(PINTI_CUDA_STUB, PINT_E_NO_DEVICE, "stub (CUDA_ERROR_STUB_LIBRARY, 34)",
                ENV("PINTABLE_LIBCUDA=" PINT_CUDA_STUB));
#else
    SKIP("no CUDA toolkit is installed");
#endif
}

TEST(CudaLoad, ADriverWithoutLookUpByVersionIsTooOld)
{
    expect_load(PINTI_CUDA_TOO_OLD, PINT_E_NO_DEVICE, "CUDA 11.4 but not cuGetProcAddress_v2",
                ENV("PINTABLE_LIBCUDA=" FAKECUDA_OLD_PATH));
}

TEST(CudaLoad, ADriverBeforeTwelveIsTooOld)
{
    expect_load(PINTI_CUDA_TOO_OLD, PINT_E_NO_DEVICE, "CUDA 11.8 but not cuGetProcAddress",
                ENV(FAKE_DRIVER, "FAKECUDA_VERSION=11080"));
    expect_load(PINTI_CUDA_TOO_OLD, PINT_E_NO_DEVICE, "CUDA 0.0 but not",
                ENV(FAKE_DRIVER, "FAKECUDA_VERSION=0"));
    expect_load(PINTI_CUDA_READY, PINT_OK, "", ENV(FAKE_DRIVER, "FAKECUDA_VERSION=12000"));
}

TEST(CudaLoad, ADriverWithoutOneRequiredEntryIsTooOld)
{
    expect_load(PINTI_CUDA_TOO_OLD, PINT_E_NO_DEVICE, "CUDA 13.0 but not cuMemCreate",
                ENV(FAKE_DRIVER, "FAKECUDA_HIDE=cuMemCreate"));
}

TEST(CudaLoad, AMachineWithoutADeviceHasTheDriversNameOfIt)
{
    expect_load(PINTI_CUDA_NO_DEVICE, PINT_E_NO_DEVICE, "cuInit: CUDA_ERROR_NO_DEVICE (100)",
                ENV(FAKE_DRIVER, "FAKECUDA_DEVICES=0"));
}

TEST(CudaLoad, HiddenDevicesAreNone)
{
    expect_load(PINTI_CUDA_NO_DEVICE, PINT_E_NO_DEVICE, "CUDA_ERROR_NO_DEVICE (100)",
                ENV(FAKE_DRIVER, "FAKECUDA_DEVICES=2", "CUDA_VISIBLE_DEVICES="));
    expect_load(PINTI_CUDA_NO_DEVICE, PINT_E_NO_DEVICE, "no CUDA device is visible",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuDeviceGetCount:1:100"));
}

TEST(CudaLoad, ADriverThatDoesNotStartHasItsReasonInTheMessage)
{
    expect_load(PINTI_CUDA_FAILED, PINT_E_DEVICE, "cuInit: CUDA_ERROR_UNKNOWN (999)",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuInit:1:999"));
    expect_load(PINTI_CUDA_FAILED, PINT_E_DEVICE, "cuInit: unknown error (803)",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuInit:1:803"));
    expect_load(PINTI_CUDA_FAILED, PINT_E_DEVICE, "cuDriverGetVersion: CUDA_ERROR_UNKNOWN (999)",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuDriverGetVersion:1:999"));
    expect_load(PINTI_CUDA_FAILED, PINT_E_DEVICE, "cuDeviceGetCount: CUDA_ERROR_UNKNOWN (999)",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuDeviceGetCount:1:999"));
}

TEST(CudaLoad, ADriverThatAnotherLibraryInitialisedBeforeForkSaysSo)
{
    expect_load(PINTI_CUDA_FORKED, PINT_E_FORKED, "use spawn or exec",
                ENV(FAKE_DRIVER, "FAKECUDA_FAIL=cuInit:1:3"));
}

/* --- The table -------------------------------------------------------------------------------- */

PROC(optional_entries)
{
    CT_REQUIRE(pinti_cuda_load(NULL) == PINT_OK);
    const int version = (int)strtol(argv[1], NULL, 10);
#define IS_THERE(member_, name_, symbol_, version_, params_)                                       \
    CT_REQUIRE((pinti_cuda.member_ != NULL) == ((version_) <= version));
    PINTI_CU_REQUIRED(IS_THERE)
    PINTI_CU_OPTIONAL(IS_THERE)
#undef IS_THERE
    CT_REQUIRE(pinti_cuda_version() == version);
    CT_REQUIRE(pinti_cuda_has_ipc());
    return 0;
}

/* 12.8: asked for cuMemcpyBatchAsync of 13.0, it gives its own, with other parameters. */
TEST(CudaTable, HasWhatTheDriverHasAndNothingOlderInItsPlace)
{
    static const char *const versions[] = {"12000", "12080", "12090", "13000", "13050"};
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        const char *const args[] = {versions[i], NULL};
        char setting[64];
        (void)snprintf(setting, sizeof(setting), "FAKECUDA_VERSION=%s", versions[i]);
        const pid_t child =
            ct_spawn_opts("optional_entries", args, .env = ENV(FAKE_DRIVER, setting));
        EXPECT_EQ(ct_wait(child), 0);
    }
}

PROC(without_ipc)
{
    CT_REQUIRE(pinti_cuda_load(NULL) == PINT_OK);
    CT_REQUIRE(!pinti_cuda_has_ipc());
    return 0;
}

TEST(CudaTable, LegacyIpcIsOffWhenAnyOfItsEntriesIsMissing)
{
    static const char *const hides[] = {
        "FAKECUDA_HIDE=cuMemAlloc",          "FAKECUDA_HIDE=cuMemFree",
        "FAKECUDA_HIDE=cuIpcGetMemHandle",   "FAKECUDA_HIDE=cuIpcOpenMemHandle",
        "FAKECUDA_HIDE=cuIpcCloseMemHandle", "FAKECUDA_HIDE=cuMemGetAddressRange"};
    for (size_t i = 0; i < sizeof(hides) / sizeof(hides[0]); i++) {
        EXPECT_EQ(ct_wait(ct_spawn_opts("without_ipc", NULL, .env = ENV(FAKE_DRIVER, hides[i]))),
                  0);
    }
}

/* --- When and how often ----------------------------------------------------------------------- */

static bool is_mapped(const char *part)
{
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    CT_REQUIRE(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        found = found || strstr(line, part) != NULL;
    }
    CT_REQUIRE(fclose(maps) == 0);
    return found;
}

PROC(lazy)
{
    CT_REQUIRE(!is_mapped(FAKECUDA_PATH));
    CT_REQUIRE(pinti_cuda_load_outcome() == PINTI_CUDA_NOT_TRIED);
    CT_REQUIRE(pinti_cuda_version() == 0 && !pinti_cuda_has_ipc() && !pinti_cuda_is_forked());
    CT_REQUIRE(strcmp(pinti_cuda_result_name(PINTI_CU_OUT_OF_MEMORY), "unknown error") == 0);
    CT_REQUIRE(!is_mapped(FAKECUDA_PATH));
    CT_REQUIRE(pinti_cuda_load(NULL) == PINT_OK);
    CT_REQUIRE(is_mapped(FAKECUDA_PATH));
    return 0;
}

TEST(CudaLoad, HappensAtTheFirstCallAndNotBefore)
{
    EXPECT_EQ(ct_wait(ct_spawn_opts("lazy", NULL, .env = ENV(FAKE_DRIVER))), 0);
}

static pthread_barrier_t barrier;

static void *load_in_thread(void *out_status)
{
    (void)pthread_barrier_wait(&barrier);
    *(pint_status *)out_status = pinti_cuda_load(NULL);
    return NULL;
}

PROC(threads)
{
    pthread_t threads[N_THREADS];
    pint_status statuses[N_THREADS];
    CT_REQUIRE(pthread_barrier_init(&barrier, NULL, N_THREADS) == 0);
    for (size_t i = 0; i < N_THREADS; i++) {
        CT_REQUIRE(pthread_create(&threads[i], NULL, load_in_thread, &statuses[i]) == 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        CT_REQUIRE(pthread_join(threads[i], NULL) == 0);
        CT_REQUIRE(statuses[i] == PINT_OK);
    }
    CT_REQUIRE(pthread_barrier_destroy(&barrier) == 0);
    int n_devices = 0;
    CT_REQUIRE(pinti_cuda.device_get_count(&n_devices) == PINTI_CU_SUCCESS && n_devices == 1);
    return 0;
}

static int lines_that_end_in(const char *path, const char *end)
{
    char line[256];
    int n = 0;
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        const size_t bytes = strlen(line);
        n += bytes >= strlen(end) && strcmp(line + bytes - strlen(end), end) == 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return n;
}

TEST(CudaLoad, OfManyThreadsHappensOnce)
{
    char log[256];
    (void)snprintf(log, sizeof(log), "FAKECUDA_LOG=%s/log", ct_tmpdir());
    EXPECT_EQ(ct_wait(ct_spawn_opts("threads", NULL, .env = ENV(FAKE_DRIVER, log))), 0);
    EXPECT_EQ(lines_that_end_in(log + strlen("FAKECUDA_LOG="), " cuInit"), 1);
}

/* --- fork() ----------------------------------------------------------------------------------- */

static int end_of(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int in_child(int (*body)(void))
{
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        _exit(body());
    }
    return end_of(pid);
}

/* The same without the C library noticing. */
static int in_raw_child(int (*body)(void))
{
    const pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        _exit(body());
    }
    return end_of(pid);
}

#define CHECK(condition_)                                                                          \
    do {                                                                                           \
        if (!(condition_)) {                                                                       \
            return 1 + __LINE__ % 120;                                                             \
        }                                                                                          \
    } while (0)

static int is_forked(void)
{
    pint_error err;
    CHECK(pinti_cuda_load(&err) == PINT_E_FORKED);
    CHECK(err.status == PINT_E_FORKED && strstr(err.message, "use spawn or exec") != NULL);
    CHECK(pinti_cuda_is_forked());
    CHECK(pinti_cuda_load_outcome() == PINTI_CUDA_FORKED);
    int n_devices = -1;
    CHECK(pinti_cuda.device_get_count(&n_devices) == PINTI_CU_NOT_INITIALIZED && n_devices == -1);
    CHECK(pinti_cuda.init(0) == PINTI_CU_NOT_INITIALIZED);
    CHECK(pinti_cuda_fail(&err, PINTI_CU_NOT_INITIALIZED, "cuInit", "device") == PINT_E_FORKED);
    return 0;
}

static int is_forked_with_grandchild(void)
{
    CHECK(is_forked() == 0);
    CHECK(in_child(is_forked) == 0);
    return 0;
}

static int is_ready(void)
{
    CHECK(pinti_cuda_load(NULL) == PINT_OK);
    CHECK(!pinti_cuda_is_forked() && pinti_cuda_load_outcome() == PINTI_CUDA_READY);
    int n_devices = 0;
    CHECK(pinti_cuda.device_get_count(&n_devices) == PINTI_CU_SUCCESS && n_devices == 1);
    return 0;
}

PROC(fork_after_load)
{
    CT_REQUIRE(is_ready() == 0);
    EXPECT_EQ(in_child(is_forked_with_grandchild), 0);
    EXPECT_EQ(in_raw_child(is_forked), 0);
    EXPECT_EQ(is_ready(), 0);
    return 0;
}

TEST(CudaFork, AChildOfALoadedProcessCannotUseTheDriver)
{
    EXPECT_EQ(ct_wait(ct_spawn_opts("fork_after_load", NULL, .env = ENV(FAKE_DRIVER))), 0);
}

PROC(fork_before_load)
{
    EXPECT_EQ(in_child(is_ready), 0);
    EXPECT_EQ(pinti_cuda_load_outcome(), PINTI_CUDA_NOT_TRIED);
    EXPECT_EQ(is_ready(), 0);
    return 0;
}

TEST(CudaFork, AChildOfAProcessThatHasNotLoadedLoadsByItself)
{
    EXPECT_EQ(ct_wait(ct_spawn_opts("fork_before_load", NULL, .env = ENV(FAKE_DRIVER))), 0);
}

static int has_no_driver(void)
{
    CHECK(pinti_cuda_load(NULL) == PINT_E_NO_DEVICE);
    CHECK(pinti_cuda_load_outcome() == PINTI_CUDA_NO_DRIVER && !pinti_cuda_is_forked());
    return 0;
}

PROC(fork_without_driver)
{
    EXPECT_EQ(has_no_driver(), 0);
    EXPECT_EQ(in_child(has_no_driver), 0);
    return 0;
}

TEST(CudaFork, AChildOfAProcessWithoutADriverHasNoneEither)
{
    EXPECT_EQ(ct_wait(ct_spawn_opts("fork_without_driver", NULL,
                                    .env = ENV("PINTABLE_LIBCUDA=/nowhere/libcuda.so.1"))),
              0);
}

/* --- Errors ----------------------------------------------------------------------------------- */

TEST(CudaError, HasOperationNameAndNumber)
{
    fake_begin(NULL);
    pint_error err;
    EXPECT_STATUS(PINT_E_DEVICE_MEMORY,
                  pinti_cuda_fail(&err, PINTI_CU_OUT_OF_MEMORY, "cuMemCreate",
                                  "column '%s': %d bytes", "x", 4096),
                  NULL);
    EXPECT_STREQ(err.message, "column 'x': 4096 bytes: cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY (2)");
    EXPECT_EQ(err.status, PINT_E_DEVICE_MEMORY);
    EXPECT_EQ(err.sys_errno, 0);
    EXPECT_STATUS(PINT_E_DEVICE, pinti_cuda_fail(NULL, PINTI_CU_UNKNOWN, "cuInit", "x"), NULL);
    fake_end();
}

TEST(CudaError, ALongTextDoesNotPushOutTheName)
{
    fake_begin(NULL);
    char text[2 * PINT_ERROR_MESSAGE_BYTES];
    memset(text, 'm', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    pint_error err;
    (void)pinti_cuda_fail(&err, PINTI_CU_HOST_MEMORY_ALREADY_REGISTERED,
                          "cuMemGetAllocationGranularity", "%s", text);
    EXPECT_TRUE(strstr(err.message, "mm: cuMemGetAllocationGranularity: "
                                    "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED (712)") != NULL);
    fake_end();
}

TEST(CudaError, StatusSaysWhatIsLost)
{
    static const struct {
        pinti_cu_result result;
        pint_status status;
    } cases[] = {
        {PINTI_CU_SUCCESS, PINT_OK},
        {PINTI_CU_INVALID_VALUE, PINT_E_DEVICE},
        {PINTI_CU_NOT_INITIALIZED, PINT_E_DEVICE},
        {PINTI_CU_OUT_OF_MEMORY, PINT_E_DEVICE_MEMORY},
        {PINTI_CU_STUB_LIBRARY, PINT_E_NO_DEVICE},
        {PINTI_CU_NO_DEVICE, PINT_E_NO_DEVICE},
        {PINTI_CU_INVALID_DEVICE, PINT_E_NO_DEVICE},
        {PINTI_CU_NOT_SUPPORTED, PINT_E_UNSUPPORTED},
        {PINTI_CU_INVALID_CONTEXT, PINT_E_DEVICE},
        {PINTI_CU_ILLEGAL_ADDRESS, PINT_E_DEVICE_LOST},
        {PINTI_CU_LAUNCH_FAILED, PINT_E_DEVICE_LOST},
        {PINTI_CU_CONTEXT_IS_DESTROYED, PINT_E_DEVICE_LOST},
        {PINTI_CU_ECC_UNCORRECTABLE, PINT_E_DEVICE_LOST},
        {PINTI_CU_DEINITIALIZED, PINT_E_DEVICE_LOST},
        {PINTI_CU_NVLINK_UNCORRECTABLE, PINT_E_DEVICE_LOST},
        {PINTI_CU_CONTAINED, PINT_E_DEVICE_LOST},
        {PINTI_CU_TENSOR_MEMORY_LEAK, PINT_E_DEVICE_LOST},
        {PINTI_CU_MPS_CLIENT_TERMINATED, PINT_E_DEVICE_LOST},
        {PINTI_CU_EXTERNAL_DEVICE, PINT_E_DEVICE_LOST},
        {PINTI_CU_CAPTURE_UNSUPPORTED, PINT_E_DEVICE},
        {PINTI_CU_DEVICE_UNAVAILABLE, PINT_E_NO_DEVICE},
        {(pinti_cu_result)12345, PINT_E_DEVICE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_EQ(pinti_cuda_status(cases[i].result), cases[i].status);
    }
}
