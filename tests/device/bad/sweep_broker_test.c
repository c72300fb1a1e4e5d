/* SPDX-License-Identifier: Apache-2.0 */

/* The broker's calls, each failing and each the last: see sweep_test.c. */

#include "tests/device/bad/sweep.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
                     : sweep_tells_why(end, name);
}

/* Without an answer to these a broker does not begin to serve. */
static bool is_of_start(const char *name)
{
    return sweep_is_one_of(name, LIST("cuInit", "cuDriverGetVersion", "cuDeviceGetCount",
                                      "cuDeviceGet", "cuDeviceGetUuid", "cuDeviceGetName",
                                      "cuDeviceGetAttribute", "cuMemGetAllocationGranularity"));
}

static void try_broker(sweep *s, int entry, unsigned int nth, bool is_killed)
{
    const int n_fds = scenario_descriptors();
    ASSERT_NO_FATAL(end_broker());
    ASSERT_NO_FATAL(want_failure(sweep_entries[entry], nth, is_killed ? "kill" : ERROR_CODE));
    const scenario_end end = scenario_run(&s->w, SCENARIO_CREATES, s->kind);
    ASSERT_TRUE(access(live_path("/wanted"), F_OK) != 0); /* it was a new broker */
    if (end.status == PINT_OK ? !is_killed && !sweep_is_absorbed(sweep_entries[entry], nth, 0)
                              : !is_told(&end, sweep_entries[entry], is_killed)) {
        FAIL("%s, call %u: status %d in step \"%s\": %s", sweep_entries[entry], nth, end.status,
             end.step, end.status != PINT_OK ? end.err.message : "");
    }
    EXPECT_STREQ(scenario_left_behind(&s->w, n_fds, ""), "");
    if (is_killed || is_of_start(sweep_entries[entry])) { /* or it has answered, and ends */
        ASSERT_TRUE(ct_eventually(broker_pid() == 0, 10000));
    }
    /* killed when the copy was dropped: all was done */
    ASSERT_NO_FATAL(sweep_expect_whole(s, 0, 1, true));
    ASSERT_NO_FATAL(sweep_expect_as_ever(s, 0, true));
    EXPECT_STREQ(scenario_left_behind(&s->w, n_fds, ""), "");
}

static void sweep_broker(uint32_t kind, bool is_killed)
{
    sweep s;
    uint64_t counts[N_ENTRIES] = {0};
    unsigned int n = 0;
    ASSERT_NO_FATAL(sweep_set_up(&s, SCENARIO_CREATES, kind));
    ASSERT_NO_FATAL(sweep_expect_as_ever(&s, 0, true));
    ASSERT_TRUE(fake_find());
    ASSERT_NO_FATAL(sweep_count_log(live_path("/broker.log"), counts));
    for (int entry = 0; entry < N_ENTRIES; entry++) {
        for (unsigned int nth = 1; sweep_is_swept(sweep_entries[entry]) && nth <= counts[entry];
             nth++) {
            try_broker(&s, entry, nth, is_killed);
            n++;
            if (ct_has_fatal_failure()) {
                FAIL("after %s, call %u", sweep_entries[entry], nth);
            }
        }
    }
    (void)printf("%u runs\n", n);
    EXPECT_GT(n, 8u);
    sweep_tear_down(&s);
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
