/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/ipc/live.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/client.h"
#include "ipc/connect.h"

pint_error live_err;

const char *live_path(const char *tail)
{
    static char texts[8][512];
    static unsigned next;
    char *text = texts[next++ % 8];
    (void)snprintf(text, sizeof(texts[0]), "%s%s", ct_tmpdir(), tail);
    return text;
}

void live_set_up(void)
{
    (void)setenv("PINTABLED", PINT_BIN_DIR "/pintabled", 1);
    (void)setenv("PINTABLE_LINGER", "30", 1);
    (void)unsetenv("PINTABLE_ADDRESS");
    (void)unsetenv("PINTABLE_FAMILY");
}

pint_status live_join(const char *address, uint32_t flags, pint_pool **out)
{
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = flags;
    return pint_pool_join(address, &options, out, &live_err);
}

/* Connect to the service and ask without a session. */
pint_status live_ask(const char *address, const char *method, const cJSON *params,
                     cJSON **out_result)
{
    char socket_path[600];
    pinti_client *client = NULL;
    pinti_hello hello;
    (void)snprintf(socket_path, sizeof(socket_path), "%s/pool-v1.sock", address);
    const int64_t deadline_ms = pinti_clock_ms() + 10000;
    pint_status status = pinti_client_open(socket_path, deadline_ms, &client, &live_err);
    if (status == PINT_OK) {
        status = pinti_client_hello(client, deadline_ms, &hello, &live_err);
    }
    if (status == PINT_OK) {
        status = pinti_client_request(client, method, params, 10000, out_result, &live_err);
    }
    pinti_client_close(client);
    return status;
}

void live_stop(void)
{
    cJSON *params = cJSON_Parse("{\"force\":true}");
    EXPECT_OK(live_ask(ct_tmpdir(), "stop", params, NULL), &live_err);
    cJSON_Delete(params);
    EXPECT_TRUE(ct_eventually(access(live_path("/pool-v1.sock"), F_OK) != 0, 10000));
}

/* A member of what stat answers; -1 when there is no answer. */
double live_stat_number(const char *key)
{
    cJSON *result = NULL;
    double number = -1;
    if (live_ask(ct_tmpdir(), "stat", NULL, &result) == PINT_OK) {
        number = cJSON_GetNumberValue(cJSON_GetObjectItem(result, key));
    }
    cJSON_Delete(result);
    return number;
}

int live_stat_sessions(void)
{
    cJSON *result = NULL;
    int n = -1;
    if (live_ask(ct_tmpdir(), "stat", NULL, &result) == PINT_OK) {
        n = cJSON_GetArraySize(cJSON_GetObjectItem(result, "sessions"));
    }
    cJSON_Delete(result);
    return n;
}

pid_t live_service_pid(void)
{
    return (pid_t)live_stat_number("pid");
}

pint_field live_field(const char *name, pint_type type)
{
    pint_field field = PINT_FIELD_INIT;
    field.name = name;
    field.type = type;
    return field;
}

pint_status live_create(pint_pool *pool, const char *name, uint64_t rows, pint_table **out)
{
    pint_field fields[2];
    fields[0] = live_field("id", PINT_INT64);
    fields[1] = live_field("x", PINT_FLOAT64);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = 2;
    return pint_table_create(pool, name, &schema, rows, out, &live_err);
}

/* Parent of a process, from /proc. */
static pid_t parent_of(pid_t pid)
{
    char name[64];
    char text[512] = "";
    (void)snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    (void)ct_read_all(fd, text, sizeof(text));
    (void)close(fd);
    const char *after = strrchr(text, ')');
    int parent = -1;
    return after != NULL && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

void live_kill_all(void)
{
    const pid_t service = live_service_pid();
    const pid_t keeper = parent_of(service);
    ASSERT_TRUE(service > 1 && keeper > 1);
    ASSERT_EQ(kill(keeper, SIGSTOP), 0);
    EXPECT_EQ(kill(service, SIGKILL), 0);
    EXPECT_EQ(kill(keeper, SIGKILL), 0);
    EXPECT_TRUE(ct_eventually(kill(keeper, 0) != 0, 5000));
}

/* A service that is not private, as a child of the test. */
pid_t live_start(const char *option, const char *value)
{
    const char *const argv[] = {PINT_BIN_DIR "/pintabled", "--address", ct_tmpdir(), "--log",
                                live_path("/service.log"), option,      value,       NULL};
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const pid_t pid = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = null});
    (void)close(null);
    EXPECT_TRUE(ct_eventually(live_stat_number("pid") > 0, 10000));
    return pid;
}
