/* SPDX-License-Identifier: Apache-2.0 */

/* See sweep.h. */

#include "tests/device/bad/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ERROR_TEXT "CUDA_ERROR_UNKNOWN (999)"
#define WORK_TEXT  "CUDA_ERROR_LAUNCH_FAILED (719)"

/* ---- entry points ---------------------------------------------------------------------------- */

const char *const sweep_entries[N_ENTRIES] = {
#define NAME(member_, name_, symbol_, version_, params_) #name_,
    PINTI_CU_REQUIRED(NAME) PINTI_CU_OPTIONAL(NAME)
#undef NAME
        "work",
};

bool sweep_is_one_of(const char *name, const char *const *list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        if (strcmp(list[i], name) == 0) {
            return true;
        }
    }
    return false;
}

bool sweep_is_swept(const char *name)
{
    return !sweep_is_one_of(name, LIST("cuGetProcAddress", "cuGetErrorName"));
}

bool sweep_is_absorbed(const char *name, unsigned int nth, unsigned int n_trials)
{
    /* what ends something: it stays in the driver, and is not used again */
    if (sweep_is_one_of(name, LIST("cuMemUnmap", "cuMemAddressFree", "cuIpcCloseMemHandle",
                                   "cuMemFree", "cuMemHostUnregister", "cuStreamDestroy",
                                   "cuEventDestroy", "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease",
                                   "cuThreadExchangeStreamCaptureMode"))) {
        return true;
    }
    /* another way is found: memory that cannot be registered is staged, a mark that cannot be made
     * or asked is waited for, a batch is copied piece by piece, a size is believed */
    if (sweep_is_one_of(name, LIST("cuMemHostRegister", "cuEventCreate", "cuEventRecord",
                                   "cuEventQuery", "cuEventSynchronize", "cuStreamSynchronize",
                                   "cuCtxPushCurrent", "cuCtxGetId", "cuStreamIsCapturing",
                                   "cuMemcpyBatchAsync", "cuMemGetAddressRange"))) {
        return true;
    }
    if (strcmp(name, "cuDeviceGetAttribute") == 0) { /* the first two decide whether there is VMM */
        return nth > 2;
    }
    if (strcmp(name, "cuMemRelease") == 0) { /* a trial makes and imports */
        return nth <= 2 * n_trials;
    }
    return nth <= n_trials &&
           sweep_is_one_of(name, LIST("cuMemCreate", "cuMemExportToShareableHandle",
                                      "cuMemImportFromShareableHandle", "cuMemAddressReserve",
                                      "cuMemMap", "cuMemSetAccess", "cuMemAlloc",
                                      "cuIpcGetMemHandle", "cuMemHostGetDevicePointer"));
}

/* ---- the log --------------------------------------------------------------------------------- */

void sweep_count_log(const char *path, uint64_t counts[N_ENTRIES])
{
    char line[256];
    FILE *file = fopen(path, "re");
    ASSERT_TRUE(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        const char *name = strchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; name != NULL && i < N_ENTRIES; i++) {
            counts[i] += strcmp(sweep_entries[i], name + 1) == 0;
        }
    }
    EXPECT_EQ(fclose(file), 0);
}

bool sweep_tells_why(const scenario_end *end, const char *name)
{
    if (strcmp(name, "work") == 0) {
        return end->status == PINT_E_DEVICE_LOST && strstr(end->err.message, WORK_TEXT) != NULL;
    }
    return end->status == PINT_E_DEVICE && strstr(end->err.message, ERROR_TEXT) != NULL &&
           strstr(end->err.message, name) != NULL;
}

/* ---- around it ------------------------------------------------------------------------------- */

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

void sweep_set_up(sweep *s, scenario_role role, uint32_t kind)
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

void sweep_tear_down(sweep *s)
{
    world_tear_down(&s->w);
    EXPECT_EQ(unsetenv("PINTABLE_BROKER"), 0);
    EXPECT_EQ(unsetenv("FAKECUDA_ASYNC"), 0);
}

void sweep_expect_whole(sweep *s, double least, double most, bool is_alike)
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

void sweep_expect_as_ever(sweep *s, double most, bool is_alike)
{
    const scenario_end end = scenario_run(&s->w, SCENARIO_CREATES, s->kind);
    ASSERT_OK(end.status, &end.err);
    ASSERT_NO_FATAL(sweep_expect_whole(s, 1, most + 1, is_alike));
    EXPECT_EQ(end.sum, host_sum(s));
    EXPECT_TRUE(scenario_is_at_rest(&s->w));
}
