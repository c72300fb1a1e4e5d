/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every call of the driver, of every entry point, failing in turn, and every call the last one of
 * its process: in the worker that makes a copy, in one that imports it, in the broker. After each:
 * a status with the driver's name of the error, nothing left behind, every row of the host as it
 * was or wholly changed, and the same work succeeds.
 *
 * How often an entry point is called is read from the log of a run without failures.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/device/bad/scenario.h"

#define ERROR_CODE "999"
#define ERROR_TEXT "CUDA_ERROR_UNKNOWN (999)"
#define WORK_CODE  "719"
#define WORK_TEXT  "CUDA_ERROR_LAUNCH_FAILED (719)"

/* ---- entry points ---------------------------------------------------------------------------- */

enum {
#define NUMBER(member_, name_, symbol_, version_, params_) ENTRY_##member_,
    PINTI_CU_REQUIRED(NUMBER) PINTI_CU_OPTIONAL(NUMBER)
#undef NUMBER
        ENTRY_work, /* an operation of a stream */
    N_ENTRIES
};

static const char *const entries[N_ENTRIES] = {
#define NAME(member_, name_, symbol_, version_, params_) #name_,
    PINTI_CU_REQUIRED(NAME) PINTI_CU_OPTIONAL(NAME)
#undef NAME
        "work",
};

static bool is_one_of(const char *name, const char *const *list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        if (strcmp(list[i], name) == 0) {
            return true;
        }
    }
    return false;
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Loading has tests of its own, and names are asked for only after another failure: BadDevice. */
static bool is_swept(const char *name)
{
    return !is_one_of(name, LIST("cuGetProcAddress", "cuGetErrorName"));
}

/* Our code works without an answer, or nobody is there who could be told. n_trials: how often the
 * process has tried before what the device can do. */
static bool is_absorbed(const char *name, unsigned int nth, unsigned int n_trials)
{
    /* what ends something: it stays in the driver, and is not used again */
    if (is_one_of(name, LIST("cuMemUnmap", "cuMemAddressFree", "cuIpcCloseMemHandle", "cuMemFree",
                             "cuMemHostUnregister", "cuStreamDestroy", "cuEventDestroy",
                             "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease",
                             "cuThreadExchangeStreamCaptureMode"))) {
        return true;
    }
    /* another way is found: memory that cannot be registered is staged, a mark that cannot be made
     * or asked is waited for, a batch is copied piece by piece, a size is believed */
    if (is_one_of(name, LIST("cuMemHostRegister", "cuEventCreate", "cuEventRecord", "cuEventQuery",
                             "cuEventSynchronize", "cuStreamSynchronize", "cuCtxPushCurrent",
                             "cuCtxGetId", "cuStreamIsCapturing", "cuMemcpyBatchAsync",
                             "cuMemGetAddressRange"))) {
        return true;
    }
    if (strcmp(name, "cuDeviceGetAttribute") == 0) { /* the first two decide whether there is VMM */
        return nth > 2;
    }
    if (strcmp(name, "cuMemRelease") == 0) { /* a trial makes and imports */
        return nth <= 2 * n_trials;
    }
    return nth <= n_trials &&
           is_one_of(name, LIST("cuMemCreate", "cuMemExportToShareableHandle",
                                "cuMemImportFromShareableHandle", "cuMemAddressReserve", "cuMemMap",
                                "cuMemSetAccess", "cuMemAlloc", "cuIpcGetMemHandle",
                                "cuMemHostGetDevicePointer"));
}

/* A process loads its driver once: what fails then fails for good. */
static bool is_for_good(const char *name, unsigned int nth)
{
    return nth == 1 && is_one_of(name, LIST("cuInit", "cuDriverGetVersion", "cuDeviceGetCount"));
}

/* ---- the log --------------------------------------------------------------------------------- */

/* Calls by entry point in a log; "work" is not in it. Counts are added to. */
static void count_log(const char *path, uint64_t counts[N_ENTRIES])
{
    char line[256];
    FILE *file = fopen(path, "re");
    ASSERT_TRUE(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *name = strchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; name != NULL && i < N_ENTRIES; i++) {
            counts[i] += strcmp(entries[i], name + 1) == 0;
        }
    }
    EXPECT_EQ(fclose(file), 0);
}

/* ---- a worker -------------------------------------------------------------------------------- */

static bool tells_why(const scenario_end *end, const char *name)
{
    if (strcmp(name, "work") == 0) {
        return end->status == PINT_E_DEVICE_LOST && strstr(end->err.message, WORK_TEXT) != NULL;
    }
    if (strcmp(name, "cuCtxGetId") == 0 && end->status == PINT_E_DEVICE_LOST) {
        return true; /* taken for another context */
    }
    return end->status == PINT_E_DEVICE && strstr(end->err.message, ERROR_TEXT) != NULL &&
           strstr(end->err.message, name) != NULL;
}

/* What could not be unregistered is in the way of who registers it again; copies are staged. */
static bool is_still_registered(const scenario_end *end, const char *name)
{
    return is_one_of(name, LIST("cuMemHostUnregister", "cuCtxPushCurrent", "cuCtxGetId")) &&
           is_one_of(end->step, LIST("pin", "mapped")) && end->status == PINT_E_DEVICE &&
           strstr(end->err.message, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED (712)") != NULL;
}

static int complain(const char *what, const scenario_end *end, const char *more)
{
    (void)fprintf(stderr, "%s: status %d in step \"%s\": %s %s\n", what, end->status, end->step,
                  end->status != PINT_OK ? end->err.message : "", more);
    return CT_PROC_FAILED;
}

/* Does it all twice: the failure is in the first time. Arguments: address, role, kind, the entry
 * point that fails, at which call (0: none). */
PROC(sweep_worker)
{
    world w;
    CT_REQUIRE(argc == 6 && scenario_join(&w, argv[1]));
    const scenario_role role = (scenario_role)strtol(argv[2], NULL, 10);
    const uint32_t kind = (uint32_t)strtoul(argv[3], NULL, 10);
    const char *name = argv[4];
    const unsigned int nth = (unsigned int)strtoul(argv[5], NULL, 10);
    const int n_fds = scenario_descriptors();
    const scenario_end first = scenario_run(&w, role, kind);
    CT_REQUIRE(fake_find());
    const bool has_failed = nth > 0 && fake.calls(name) >= nth;
    if (first.status == PINT_OK ? has_failed && !is_absorbed(name, nth, 1)
                                : !has_failed || !tells_why(&first, name)) {
        return complain("the first time", &first, "");
    }
    const char *left = scenario_left_behind(&w, n_fds, has_failed ? name : "");
    if (left[0] != '\0' && !is_for_good(name, nth)) {
        return complain("the first time", &first, left);
    }
    /* A process whose work failed is not used again. How often the watcher asks is not the same
     * each time: a failure that has not come yet would come in the second. */
    if (strcmp(name, "work") == 0 || (nth > 0 && !has_failed)) {
        scenario_leave(&w);
        return 0;
    }
    const scenario_end second = scenario_run(&w, role, kind);
    if (second.status != PINT_OK && !is_for_good(name, nth) &&
        !is_still_registered(&second, name)) {
        return complain("the second time", &second, "");
    }
    left = scenario_left_behind(&w, n_fds, has_failed ? name : "");
    if (left[0] != '\0' && !is_for_good(name, nth)) {
        return complain("the second time", &second, left);
    }
    scenario_leave(&w);
    return 0;
}

/* ---- around it ------------------------------------------------------------------------------- */

typedef struct sweep {
    world w; /* this process, no device open but in role IMPORTS */
    scenario_role role;
    uint32_t kind;
    double added[SCENARIO_CHUNKS]; /* how often 1 was added to every row of a chunk */
} sweep;

/* The broker's program: the real one, with a failure if one is wanted of the next that starts. */
static void write_broker(void)
{
    const char *path = live_path("/broker");
    FILE *file = fopen(path, "we");
    ASSERT_TRUE(file != NULL);
    EXPECT_GT(fprintf(file,
                      "#!/bin/sh\n"
                      "if mv '%s/wanted' '%s/taken' 2>/dev/null; then\n"
                      "    FAKECUDA_FAIL=$(cat '%s/taken')\n"
                      "    export FAKECUDA_FAIL\n"
                      "fi\n"
                      "FAKECUDA_LOG='%s/broker.log' exec '%s' \"$@\"\n",
                      ct_tmpdir(), ct_tmpdir(), ct_tmpdir(), ct_tmpdir(),
                      PINT_BIN_DIR "/pintable-broker"),
              0);
    EXPECT_EQ(fclose(file), 0);
    EXPECT_EQ(chmod(path, 0700), 0);
    EXPECT_EQ(setenv("PINTABLE_BROKER", path, 1), 0);
}

static void set_up(sweep *s, scenario_role role, uint32_t kind)
{
    *s = (sweep){.role = role, .kind = kind};
    EXPECT_EQ(setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1), 0);
    EXPECT_EQ(setenv("FAKECUDA_ASYNC", "sync", 1), 0); /* as late as the driver's rules allow */
    ASSERT_NO_FATAL(write_broker());
    ASSERT_NO_FATAL(world_set_up(&s->w, SCENARIO_ROWS));
    /* of device "host", which is not in this play */
    pint_stream_destroy(s->w.device, s->w.stream);
    ASSERT_OK(pint_copy_drop(s->w.copy, &live_err), &live_err);
    pint_copy_close(s->w.copy);
    pint_device_close(s->w.device);
    s->w.copy = NULL;
    s->w.device = NULL;
    s->w.stream = NULL;
}

static void tear_down(sweep *s)
{
    world_tear_down(&s->w);
    EXPECT_EQ(unsetenv("PINTABLE_BROKER"), 0);
    EXPECT_EQ(unsetenv("FAKECUDA_ASYNC"), 0);
}

static int run_worker(const sweep *s, const char *log, const char *name, unsigned int nth,
                      const char *code)
{
    char role[16];
    char kind[16];
    char number[16];
    char log_setting[600] = "FAKECUDA_LOG=";
    char fail_setting[128] = "FAKECUDA_FAIL=";
    (void)snprintf(role, sizeof(role), "%d", (int)s->role);
    (void)snprintf(kind, sizeof(kind), "%u", s->kind);
    (void)snprintf(number, sizeof(number), "%u", nth);
    if (log != NULL) {
        (void)snprintf(log_setting, sizeof(log_setting), "FAKECUDA_LOG=%s", log);
    }
    if (nth > 0) {
        (void)snprintf(fail_setting, sizeof(fail_setting), "FAKECUDA_FAIL=%s:%u:%s", name, nth,
                       code);
    }
    const char *const args[] = {ct_tmpdir(), role, kind, name, number, NULL};
    const char *const env[] = {log_setting, fail_setting, NULL};
    return ct_wait(ct_spawn_opts("sweep_worker", args, .env = env));
}

/* How often each entry point is called when all goes well. */
static void learn(sweep *s, uint64_t counts[N_ENTRIES])
{
    const char *log = live_path("/worker.log");
    memset(counts, 0, N_ENTRIES * sizeof(counts[0]));
    ASSERT_EQ(run_worker(s, log, "", 0, ""), 0);
    ASSERT_NO_FATAL(count_log(log, counts));
    for (int i = 0; i < N_ENTRIES; i++) {
        counts[i] = (counts[i] + 1) / 2; /* it does it twice */
    }
    counts[ENTRY_init] = counts[ENTRY_driver_get_version] = 1;
    counts[ENTRY_work] = s->role == SCENARIO_IMPORTS ? 2 : 8;
}

/* As a writer who has the newest rows on the GPU alone. */
static void put_ahead(sweep *s)
{
    world *w = &s->w;
    if (w->device == NULL) {
        ASSERT_OK(pint_device_open(w->pool, "cuda:0", &w->device, &live_err), &live_err);
        ASSERT_OK(pint_copy_open(w->device, &w->x, s->kind, PINT_WRITE, &w->copy, &live_err),
                  &live_err);
        ASSERT_OK(pint_stream_create(w->device, &w->stream, &live_err), &live_err);
    }
    ASSERT_OK(pint_device_begin(w->copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w->stream, 10000,
                                &live_err),
              &live_err);
    world_device_add(w, 0, SCENARIO_ROWS, 1);
    ASSERT_OK(
        pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ | PINT_WRITE, w->stream, &live_err),
        &live_err);
    ASSERT_TRUE(world_places(w, SCENARIO_CHUNKS - 1, 2));
}

/* Every row of a chunk has had 1 added as often as every other, least to most times since the last
 * look; in all chunks alike, unless a process was killed while it gave them back. */
static void expect_whole(sweep *s, double least, double most, bool is_alike)
{
    const double first = world_host(&s->w)[0] - s->added[0];
    for (uint64_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk++) {
        const double *x = world_host(&s->w) + chunk * WORLD_CHUNK_ROWS;
        const double added = x[0] - (double)(chunk * WORLD_CHUNK_ROWS);
        const double more = added - s->added[chunk];
        EXPECT_TRUE(more >= least && more <= most && (!is_alike || more == first));
        for (uint64_t i = 0; i < WORLD_CHUNK_ROWS; i++) {
            ASSERT_EQ(x[i], x[0] + (double)i);
        }
        s->added[chunk] = added;
    }
}

static double host_sum(const sweep *s)
{
    double sum = 0;
    for (uint64_t i = 0; i < SCENARIO_ROWS; i++) {
        sum += world_host(&s->w)[i];
    }
    return sum;
}

/* The same work in this process, in which nothing fails. */
static void expect_as_ever(sweep *s, double most, bool is_alike)
{
    const scenario_end end = scenario_run(&s->w, SCENARIO_CREATES, s->kind);
    ASSERT_OK(end.status, &end.err);
    ASSERT_NO_FATAL(expect_whole(s, 1, most + 1, is_alike));
    EXPECT_EQ(end.sum, host_sum(s));
    EXPECT_TRUE(scenario_is_at_rest(&s->w));
}

/* ---- the worker's calls ---------------------------------------------------------------------- */

/* One run of a worker with a failure; what is left for others is as it should be. */
static void try_worker(sweep *s, int entry, unsigned int nth, bool is_killed)
{
    const char *code = entry == ENTRY_work ? WORK_CODE : ERROR_CODE;
    if (s->role == SCENARIO_IMPORTS) {
        ASSERT_NO_FATAL(put_ahead(s));
    }
    const int status = run_worker(s, NULL, entries[entry], nth, is_killed ? "kill" : code);
    if (status != 0 && (!is_killed || status != 128 + SIGKILL)) {
        FAIL("%s, call %u: the worker ended with %d", entries[entry], nth, status);
    }
    ASSERT_TRUE(ct_eventually(live_stat_sessions() == 1, 20000));
    ASSERT_TRUE(ct_eventually(scenario_is_at_rest(&s->w), 20000));
    if (s->role != SCENARIO_IMPORTS) { /* once or twice there, or not at all */
        ASSERT_NO_FATAL(expect_as_ever(s, 2, !is_killed));
    } else {
        ASSERT_OK(pint_copy_to_host(s->w.copy, 0, PINT_ALL_ROWS, 20000, NULL, &live_err),
                  &live_err);
        ASSERT_NO_FATAL(expect_whole(s, 1, 1, true));
    }
    if (ct_has_fatal_failure()) {
        FAIL("after %s, call %u", entries[entry], nth);
    }
}

/* Calls around others: to be killed there is to be killed in those. */
static bool is_around(const char *name)
{
    return is_one_of(name, LIST("cuCtxPushCurrent", "cuCtxPopCurrent", "cuCtxGetId",
                                "cuThreadExchangeStreamCaptureMode", "cuDeviceGetAttribute"));
}

static bool is_of_copies(const char *name)
{
    return strncmp(name, "cuMemHost", 9) == 0 || strncmp(name, "cuMemcpy", 8) == 0 ||
           strncmp(name, "cuEvent", 7) == 0 || strncmp(name, "cuStream", 8) == 0 ||
           strcmp(name, "work") == 0;
}

/* The service gives a GPU a second to stop working for the dead: kills are shared out over tests,
 * of which part has every n_parts-th. */
static void sweep_workers(scenario_role role, uint32_t kind, unsigned int part,
                          unsigned int n_parts)
{
    const bool is_killed = n_parts > 1;
    sweep s;
    uint64_t counts[N_ENTRIES];
    unsigned int n = 0;
    unsigned int at = 0;
    ASSERT_NO_FATAL(set_up(&s, role, kind));
    if (role == SCENARIO_IMPORTS) {
        ASSERT_NO_FATAL(put_ahead(&s));
    }
    ASSERT_NO_FATAL(learn(&s, counts));
    for (uint64_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk++) {
        s.added[chunk] = role == SCENARIO_IMPORTS ? 1 : 2;
    }
    for (int entry = 0; entry < N_ENTRIES; entry++) {
        for (unsigned int nth = 1; is_swept(entries[entry]) && nth <= counts[entry]; nth++) {
            if (role == SCENARIO_STAGES && !is_of_copies(entries[entry])) {
                continue; /* as in the sweep of who registers */
            }
            if (is_killed && (is_around(entries[entry]) || at++ % n_parts != part)) {
                continue;
            }
            try_worker(&s, entry, nth, is_killed);
            n++;
            if (ct_has_fatal_failure()) {
                FAIL("after %s, call %u", entries[entry], nth);
            }
        }
    }
    (void)printf("%u runs\n", n);
    EXPECT_GT(n, is_killed ? 5u : role == SCENARIO_STAGES ? 20u : 50u);
    if (role == SCENARIO_IMPORTS) {
        pint_stream_destroy(s.w.device, s.w.stream);
        pint_copy_close(s.w.copy);
        pint_device_close(s.w.device);
    }
    s.w.stream = NULL;
    s.w.copy = NULL;
    s.w.device = NULL;
    tear_down(&s);
}

TEST(CudaSweep, EveryCallOfWhoMakesACopy, .timeout_s = 200)
{
    sweep_workers(SCENARIO_CREATES, PINT_COPY_VMM, 0, 1);
}

TEST(CudaSweep, EveryCallOfWhoMakesACopyByHandle, .timeout_s = 200)
{
    sweep_workers(SCENARIO_CREATES, PINT_COPY_IPC, 0, 1);
}

TEST(CudaSweep, EveryCallOfWhoStagesWhatItCopies, .timeout_s = 200)
{
    sweep_workers(SCENARIO_STAGES, PINT_COPY_VMM, 0, 1);
}

TEST(CudaSweep, EveryCallOfWhoImportsACopy, .timeout_s = 200)
{
    sweep_workers(SCENARIO_IMPORTS, PINT_COPY_VMM, 0, 1);
}

TEST(CudaSweep, EveryCallOfWhoImportsACopyByHandle, .timeout_s = 200)
{
    sweep_workers(SCENARIO_IMPORTS, PINT_COPY_IPC, 0, 1);
}

#define KILLED_TEST(part_)                                                                         \
    TEST(CudaSweep, WhoMakesACopyIsKilled##part_, .timeout_s = 200)                                \
    {                                                                                              \
        sweep_workers(SCENARIO_CREATES, PINT_COPY_VMM, part_, 4);                                  \
    }                                                                                              \
    TEST(CudaSweep, WhoImportsACopyByHandleIsKilled##part_, .timeout_s = 200)                      \
    {                                                                                              \
        sweep_workers(SCENARIO_IMPORTS, PINT_COPY_IPC, part_, 4);                                  \
    }
KILLED_TEST(0)
KILLED_TEST(1)
KILLED_TEST(2)
KILLED_TEST(3)

/* ---- the broker's calls ---------------------------------------------------------------------- */

static pid_t broker_pid(void)
{
    cJSON *result = NULL;
    double pid = 0;
    EXPECT_OK(live_ask(ct_tmpdir(), "stat", NULL, &result), &live_err);
    const cJSON *device;
    cJSON_ArrayForEach(device, cJSON_GetObjectItemCaseSensitive(result, "devices"))
    {
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(device, "cuda"))) {
            pid = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(device, "broker_pid"));
        }
    }
    cJSON_Delete(result);
    return pid > 1 ? (pid_t)pid : 0;
}

static void end_broker(void)
{
    const pid_t pid = broker_pid();
    if (pid != 0) {
        ASSERT_EQ(kill(pid, SIGKILL), 0);
        ASSERT_TRUE(ct_eventually(broker_pid() != pid, 10000));
    }
    (void)unlink(live_path("/broker.log"));
}

/* Of the next broker that is started. */
static void want_failure(const char *name, unsigned int nth, const char *code)
{
    FILE *file = fopen(live_path("/wanted"), "we");
    ASSERT_TRUE(file != NULL);
    EXPECT_GT(fprintf(file, "%s:%u:%s\n", name, nth, code), 0);
    EXPECT_EQ(fclose(file), 0);
}

/* What the driver refuses the broker, a client is told; that the broker has ended, too. */
static bool is_told(const scenario_end *end, const char *name, bool is_killed)
{
    if (strcmp(end->step, "open copy") != 0) {
        return false;
    }
    return is_killed ? end->status == PINT_E_DEVICE &&
                           strstr(end->err.message, "the broker of the device") != NULL &&
                           strstr(end->err.message, "it has ended") != NULL
                     : tells_why(end, name);
}

/* Without an answer to these a broker does not begin to serve. */
static bool is_of_start(const char *name)
{
    return is_one_of(name, LIST("cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet",
                                "cuDeviceGetUuid", "cuDeviceGetName", "cuDeviceGetAttribute",
                                "cuMemGetAllocationGranularity"));
}

static void try_broker(sweep *s, int entry, unsigned int nth, bool is_killed)
{
    const int n_fds = scenario_descriptors();
    ASSERT_NO_FATAL(end_broker());
    ASSERT_NO_FATAL(want_failure(entries[entry], nth, is_killed ? "kill" : ERROR_CODE));
    const scenario_end end = scenario_run(&s->w, SCENARIO_CREATES, s->kind);
    ASSERT_TRUE(access(live_path("/wanted"), F_OK) != 0); /* it was a new broker */
    if (end.status == PINT_OK ? !is_killed && !is_absorbed(entries[entry], nth, 0)
                              : !is_told(&end, entries[entry], is_killed)) {
        FAIL("%s, call %u: status %d in step \"%s\": %s", entries[entry], nth, end.status, end.step,
             end.status != PINT_OK ? end.err.message : "");
    }
    EXPECT_STREQ(scenario_left_behind(&s->w, n_fds, ""), "");
    if (!is_killed && is_of_start(entries[entry])) { /* it has answered, and ends */
        ASSERT_TRUE(ct_eventually(broker_pid() == 0, 10000));
    }
    /* killed when the copy was dropped: all was done */
    ASSERT_NO_FATAL(expect_whole(s, 0, 1, true));
    ASSERT_NO_FATAL(expect_as_ever(s, 0, true));
    EXPECT_STREQ(scenario_left_behind(&s->w, n_fds, ""), "");
}

static void sweep_broker(uint32_t kind, bool is_killed)
{
    sweep s;
    uint64_t counts[N_ENTRIES] = {0};
    unsigned int n = 0;
    ASSERT_NO_FATAL(set_up(&s, SCENARIO_CREATES, kind));
    ASSERT_NO_FATAL(expect_as_ever(&s, 0, true));
    ASSERT_TRUE(fake_find());
    ASSERT_NO_FATAL(count_log(live_path("/broker.log"), counts));
    for (int entry = 0; entry < N_ENTRIES; entry++) {
        for (unsigned int nth = 1; is_swept(entries[entry]) && nth <= counts[entry]; nth++) {
            try_broker(&s, entry, nth, is_killed);
            n++;
            if (ct_has_fatal_failure()) {
                FAIL("after %s, call %u", entries[entry], nth);
            }
        }
    }
    (void)printf("%u runs\n", n);
    EXPECT_GT(n, 8u);
    tear_down(&s);
}

TEST(CudaSweep, EveryCallOfTheBroker, .timeout_s = 200)
{
    sweep_broker(PINT_COPY_VMM, false);
}

TEST(CudaSweep, EveryCallOfTheBrokerForAHandle, .timeout_s = 200)
{
    sweep_broker(PINT_COPY_IPC, false);
}

TEST(CudaSweep, TheBrokerIsKilledInEveryCall, .timeout_s = 200)
{
    sweep_broker(PINT_COPY_VMM, true);
}

TEST(CudaSweep, TheBrokerForAHandleIsKilledInEveryCall, .timeout_s = 200)
{
    sweep_broker(PINT_COPY_IPC, true);
}

/* ---- what is swept --------------------------------------------------------------------------- */

/* In the table for tests and for what may come; our code does not call them. */
static const char *const unused[] = {"cuGetErrorString", "cuDeviceTotalMem", "cuCtxGetCurrent",
                                     "cuStreamQuery", "cuPointerGetAttribute",
                                     "cuDeviceCanAccessPeer", "cuMemcpyDtoDAsync",
                                     "cuMemsetD8Async", "cuStreamWriteValue64",
                                     /* where nothing can be registered: BadMemory */
                                     "cuMemHostAlloc", "cuMemFreeHost", NULL};

/* An entry point that is new is either called in what is swept here, or it is in the list. */
TEST(CudaSweep, HasEveryEntryPointThatOurCodeCalls, .timeout_s = 60)
{
    sweep s;
    uint64_t counts[N_ENTRIES] = {0};
    ASSERT_NO_FATAL(set_up(&s, SCENARIO_CREATES, 0));
    for (s.kind = PINT_COPY_VMM; s.kind <= PINT_COPY_IPC; s.kind++) {
        for (s.role = SCENARIO_CREATES; s.role <= SCENARIO_STAGES; s.role++) {
            ASSERT_EQ(run_worker(&s, live_path("/worker.log"), "", 0, ""), 0);
        }
    }
    ASSERT_NO_FATAL(count_log(live_path("/worker.log"), counts));
    ASSERT_NO_FATAL(count_log(live_path("/broker.log"), counts));
    for (int entry = 0; entry < ENTRY_work; entry++) {
        const bool is_unused = is_one_of(entries[entry], unused);
        if (is_swept(entries[entry]) && (counts[entry] > 0) == is_unused) {
            FAIL("%s: called %u times, %sin the list of those that are not", entries[entry],
                 (unsigned)counts[entry], is_unused ? "" : "not ");
        }
    }
    tear_down(&s);
}
