/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every call of the driver, of every entry point, failing in turn, and every call the last one of
 * its process: in the worker that makes a copy, in one that imports it, in the broker. After each:
 * a status with the driver's name of the error, nothing left behind, every row of the host as it
 * was or wholly changed, and the same work succeeds.
 *
 * How often an entry point is called is read from the log of a run without failures.
 */

#include "tests/device/bad/sweep.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A process loads its driver once: what fails then fails for good. */
static bool is_for_good(const char *name, unsigned int nth)
{
    return nth == 1 &&
           sweep_is_one_of(name, LIST("cuInit", "cuDriverGetVersion", "cuDeviceGetCount"));
}

/* ---- a worker -------------------------------------------------------------------------------- */

/* What could not be unregistered is in the way of who registers it again; copies are staged. */
static bool is_still_registered(const scenario_end *end, const char *name)
{
    return sweep_is_one_of(name, LIST("cuMemHostUnregister", "cuCtxPushCurrent", "cuCtxGetId")) &&
           sweep_is_one_of(end->step, LIST("pin", "mapped")) && end->status == PINT_E_DEVICE &&
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
    if (first.status == PINT_OK ? has_failed && !sweep_is_absorbed(name, nth, 1)
                                : !has_failed || !sweep_tells_why(&first, name)) {
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

/* ---- its run ------------------------------------------------------------------------------- */

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
    ASSERT_NO_FATAL(sweep_count_log(log, counts));
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

/* ---- the worker's calls ---------------------------------------------------------------------- */

/* One run of a worker with a failure; what is left for others is as it should be. */
static void try_worker(sweep *s, int entry, unsigned int nth, bool is_killed)
{
    const char *code = entry == ENTRY_work ? WORK_CODE : ERROR_CODE;
    if (s->role == SCENARIO_IMPORTS) {
        ASSERT_NO_FATAL(put_ahead(s));
    }
    const int status = run_worker(s, NULL, sweep_entries[entry], nth, is_killed ? "kill" : code);
    if (status != 0 && (!is_killed || status != 128 + SIGKILL)) {
        FAIL("%s, call %u: the worker ended with %d", sweep_entries[entry], nth, status);
    }
    ASSERT_TRUE(ct_eventually(live_stat_sessions() == 1, 20000));
    ASSERT_TRUE(ct_eventually(scenario_is_at_rest(&s->w), 20000));
    if (s->role != SCENARIO_IMPORTS) { /* once or twice there, or not at all */
        ASSERT_NO_FATAL(sweep_expect_as_ever(s, 2, !is_killed));
    } else {
        ASSERT_OK(pint_copy_to_host(s->w.copy, 0, PINT_ALL_ROWS, 20000, NULL, &live_err),
                  &live_err);
        ASSERT_NO_FATAL(sweep_expect_whole(s, 1, 1, true));
    }
    if (ct_has_fatal_failure()) {
        FAIL("after %s, call %u", sweep_entries[entry], nth);
    }
}

/* Calls around others: to be killed there is to be killed in those. */
static bool is_around(const char *name)
{
    return sweep_is_one_of(name, LIST("cuCtxPushCurrent", "cuCtxPopCurrent", "cuCtxGetId",
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
    ASSERT_NO_FATAL(sweep_set_up(&s, role, kind));
    if (role == SCENARIO_IMPORTS) {
        ASSERT_NO_FATAL(put_ahead(&s));
    }
    ASSERT_NO_FATAL(learn(&s, counts));
    for (uint64_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk++) {
        s.added[chunk] = role == SCENARIO_IMPORTS ? 1 : 2;
    }
    for (int entry = 0; entry < N_ENTRIES; entry++) {
        for (unsigned int nth = 1; sweep_is_swept(sweep_entries[entry]) && nth <= counts[entry];
             nth++) {
            if (role == SCENARIO_STAGES && !is_of_copies(sweep_entries[entry])) {
                continue; /* as in the sweep of who registers */
            }
            if (is_killed && (is_around(sweep_entries[entry]) || at++ % n_parts != part)) {
                continue;
            }
            try_worker(&s, entry, nth, is_killed);
            n++;
            if (ct_has_fatal_failure()) {
                FAIL("after %s, call %u", sweep_entries[entry], nth);
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
    sweep_tear_down(&s);
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
    ASSERT_NO_FATAL(sweep_set_up(&s, SCENARIO_CREATES, 0));
    for (s.kind = PINT_COPY_VMM; s.kind <= PINT_COPY_IPC; s.kind++) {
        for (s.role = SCENARIO_CREATES; s.role <= SCENARIO_STAGES; s.role++) {
            ASSERT_EQ(run_worker(&s, live_path("/worker.log"), "", 0, ""), 0);
        }
    }
    ASSERT_NO_FATAL(sweep_count_log(live_path("/worker.log"), counts));
    ASSERT_NO_FATAL(sweep_count_log(live_path("/broker.log"), counts));
    for (int entry = 0; entry < ENTRY_work; entry++) {
        const bool is_unused = sweep_is_one_of(sweep_entries[entry], unused);
        if (sweep_is_swept(sweep_entries[entry]) && (counts[entry] > 0) == is_unused) {
            FAIL("%s: called %u times, %sin the list of those that are not", sweep_entries[entry],
                 (unsigned)counts[entry], is_unused ? "" : "not ");
        }
    }
    sweep_tear_down(&s);
}
