/* SPDX-License-Identifier: Apache-2.0 */
/* A service in a pid namespace of its own, and clients outside, as in containers. */

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "pintable/status.h"
#include "tests/service/pid_namespace.h"
#include "tests/support/ct.h"

#define START(service_)                                                                            \
    do {                                                                                           \
        if (!pidns_start(&(service_), ct_tmpdir(), "c")) {                                         \
            SKIP("pid namespaces are not permitted");                                              \
        }                                                                                          \
    } while (0)

static void stop(raw_service *service)
{
    const int fd = raw_connect(service->address);
    EXPECT_EQ(raw_code(fd, "stop", "{\"force\":true}"), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_EQ(ct_wait(service->pid), 0);
}

static uint64_t incarnation(const raw_service *service)
{
    raw_stat now = {.incarnation = 0};
    (void)raw_get_stat(service->address, &now);
    return now.incarnation;
}

/* What a crash of the service leaves becomes the keeper's, which is process 1. */
TEST(Container, ProcessOneWaitsForWhatOthersLeave)
{
    raw_service service;
    START(service);
    const pid_t keeper = pidns_keeper(&service);
    ASSERT_GT(keeper, 1);
    for (uint64_t n = 2; n <= 4; n++) {
        /* the service is what is left when the helpers of the last one have gone */
        EXPECT_TRUE(ct_eventually(pidns_children_of(keeper).n_living == 1, 10000));
        EXPECT_EQ(kill(pidns_children_of(keeper).living, SIGKILL), 0);
        EXPECT_TRUE(ct_eventually(incarnation(&service) == n, 10000));
    }
    EXPECT_TRUE(ct_eventually(pidns_children_of(keeper).n_living == 1 &&
                                  pidns_children_of(keeper).n_zombies == 0,
                              10000));
    stop(&service);
}

TEST(Container, EvictingAcrossNamespacesSaysWhatToDo)
{
    raw_service service;
    raw_session session;
    START(service);
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    const int fd = raw_connect(service.address);
    cJSON *answer = raw_call(fd, "evict", "{\"session\":\"%s\"}", session.id);
    EXPECT_EQ(raw_code_of(answer), PINT_E_UNSUPPORTED);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "message"));
    ASSERT_TRUE(text != NULL);
    EXPECT_NE(strstr(text, "another pid namespace"), NULL);
    EXPECT_NE(strstr(text, "stop its container"), NULL);
    EXPECT_NE(strstr(text, "'raw'"), NULL);
    cJSON_Delete(answer);
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(raw_leave(&session));
    stop(&service);
}
