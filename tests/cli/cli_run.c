/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/cli/cli_run.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/json.h"
#include "tests/support/ct.h"

char cli_output[1 << 18];
const char cli_program[] = PINT_BIN_DIR "/pintable";
static const char service[] = "PINTABLED=" PINT_BIN_DIR "/pintabled";

static const char *in_tmpdir(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", ct_tmpdir(), name);
    return path;
}

const char *cli_address(void)
{
    return in_tmpdir("pool");
}

static int run_with(const char *const *argv, int output_fd, int read_fd)
{
    char address[600];
    (void)snprintf(address, sizeof(address), "PINTABLE_ADDRESS=%s", cli_address());
    const char *const env[] = {address, service, "PINTABLE_FAMILY=", "TERM=xterm", NULL};
    const pid_t pid =
        ct_spawn_program(argv, &(const ct_spawn_opts){.env = env, .output_fd = output_fd});
    (void)close(output_fd);
    cli_output[0] = '\0';
    if (pid >= 0) {
        (void)ct_read_all(read_fd, cli_output, sizeof(cli_output));
    }
    (void)close(read_fd);
    return pid >= 0 ? ct_wait(pid) : -1;
}

int cli_run(const char *const *argv)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        ct_fail(__FILE__, __LINE__, true, "pipe2");
        return -1;
    }
    return run_with(argv, ends[1], ends[0]);
}

int cli_run_in_terminal(const char *const *argv)
{
    char name[64];
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    const bool is_open = master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 &&
                         ptsname_r(master, name, sizeof(name)) == 0;
    const int slave = is_open ? open(name, O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    if (slave < 0) {
        (void)close(master);
        return -1;
    }
    return run_with(argv, slave, master);
}

bool cli_said(const char *text)
{
    if (strstr(cli_output, text) != NULL) {
        return true;
    }
    (void)fprintf(stderr, "not found: %s\nin: %s\n", text, cli_output);
    return false;
}

cJSON *cli_json(void)
{
    cJSON *json = NULL;
    pint_error err = {0};
    const pint_status status = pinti_json_parse(cli_output, strlen(cli_output), &json, &err);
    if (status != PINT_OK) {
        ct_fail(__FILE__, __LINE__, false, "no JSON: %s in: %s", err.message, cli_output);
        return NULL;
    }
    return json;
}

const char *cli_file(const char *name, const char *text)
{
    const char *path = in_tmpdir(name);
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        ct_fail(__FILE__, __LINE__, true, "cannot write %s", path);
    }
    return path;
}

pint_pool *cli_join(void)
{
    pint_pool *pool = NULL;
    pint_error err = {0};
    (void)setenv("PINTABLED", PINT_BIN_DIR "/pintabled", 1);
    const pint_status status = pint_pool_join(cli_address(), NULL, &pool, &err);
    if (status != PINT_OK) {
        ct_fail(__FILE__, __LINE__, true, "join: %s", err.message);
        return NULL;
    }
    return pool;
}

int cli_set_up(void)
{
    (void)unsetenv("PINTABLE_FAMILY"); /* of an earlier test's join */
    return 0;
}

void cli_stop_service(const int *guard)
{
    (void)guard;
    (void)CLI("stop", "--force");
}
