/* SPDX-License-Identifier: Apache-2.0 */

/* pintable evict, quota, keep, stop: what changes the service and its sessions. */

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/cli/output.h"
#include "ipc/cli/request.h"
#include "ipc/json.h"
#include "ipc/pool_ops.h"

#define EVICT_MS       60000 /* a process in a core dump or in a driver takes its time to die */
#define STOP_MS        10000
#define SESSION_DIGITS 16

/* ---- evict ----------------------------------------------------------------------------------- */

static int run_evict(const pinti_args *args)
{
    const char *text = args->operands[0];
    const size_t digits = strlen(text);
    if (digits == 0 || digits > SESSION_DIGITS ||
        strspn(text, "0123456789abcdefABCDEF") != digits) {
        pinti_complain("evict: '%s' is not a session: 1 to %d hexadecimal digits, as printed by "
                       "'pintable stat'",
                       text, SESSION_DIGITS);
        return PINTI_EXIT_USAGE;
    }
    pinti_asker asker;
    int result = pinti_asker_open(args, &asker);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    cJSON *params = pinti_new_object();
    if (!pinti_json_add_hex64(params, "session", strtoull(text, NULL, 16))) {
        pinti_cli_out_of_memory();
    }
    result = pinti_asker_request(&asker, "evict", params, EVICT_MS, NULL);
    pinti_asker_close(&asker);
    return result;
}

const pinti_cli_command pinti_cmd_evict = {
    .name = "evict",
    .operands = "SESSION",
    .summary = "kill the process of a session and wait until its leases have ended",
    .details = "SESSION is the number that 'pintable stat' prints. For the owner of the service.",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_evict,
};

/* ---- quota ----------------------------------------------------------------------------------- */

static int run_quota(const pinti_args *args)
{
    uint64_t bytes;
    if (!pinti_args_bytes("quota", args->operands[0], &bytes)) {
        return PINTI_EXIT_USAGE;
    }
    pinti_asker asker;
    int result = pinti_asker_open(args, &asker);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    cJSON *answer = NULL;
    cJSON *params = pinti_new_object();
    if (!pinti_json_add_u64(params, "bytes", bytes)) {
        pinti_cli_out_of_memory();
    }
    result = pinti_asker_request(&asker, "budget", params, PINTI_REQUEST_MS, &answer);
    if (result == PINTI_EXIT_OK) {
        char text[PINTI_OUT_ROOM];
        (void)pinti_json_u64(answer, "bytes", UINT64_MAX, &bytes, NULL); /* else as asked for */
        (void)printf("budget %s (%" PRIu64 " bytes)\n", pinti_out_bytes(text, bytes), bytes);
    }
    cJSON_Delete(answer);
    pinti_asker_close(&asker);
    return result;
}

const pinti_cli_command pinti_cmd_quota = {
    .name = "quota",
    .operands = "BYTES",
    .summary = "set the byte budget of the pool",
    .details = "BYTES may end in K, M, G or T (powers of 1024); no less than is in use now.\n"
               "For the owner of the service.",
    .min_operands = 1,
    .max_operands = 1,
    .run = run_quota,
};

/* ---- keep ------------------------------------------------------------------------------------ */

static int run_keep(const pinti_args *args)
{
    pint_error err = {0};
    pint_pool *pool;
    if (!pinti_args_check_name(args->operands[0])) {
        return PINTI_EXIT_USAGE;
    }
    const int result = pinti_cli_join(args, PINT_JOIN_NO_START, &pool);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    cJSON *params = pinti_new_object();
    pinti_put_text(params, "name", args->operands[0]);
    pinti_put_bool(params, "keep", !pinti_args_has(args, "off"));
    const pint_status status = pinti_client_request(pinti_client_of(pool), "table.keep", params,
                                                    PINTI_REQUEST_MS, NULL, &err);
    cJSON_Delete(params);
    pint_pool_leave(pool);
    return status == PINT_OK ? PINTI_EXIT_OK : pinti_cli_fail(&err);
}

static const pinti_cli_option keep_options[] = {
    {'\0', "off", NULL,
     "drop it when the processes that made it have gone: at once, if\nthey have"},
};

const pinti_cli_command pinti_cmd_keep = {
    .name = "keep",
    .operands = "NAME",
    .summary = "keep a table until it is dropped, whoever leaves",
    .options = keep_options,
    .n_options = sizeof(keep_options) / sizeof(keep_options[0]),
    .min_operands = 1,
    .max_operands = 1,
    .run = run_keep,
};

/* ---- stop ------------------------------------------------------------------------------------ */

/* The service tells its own number of a process: in another pid namespace that is a stranger's, or
 * nobody's, here. */
static bool is_pintabled(uint64_t pid)
{
    static const char name[] = "pintabled";
    char path[64];
    char found[sizeof(name)] = "";
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/comm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t bytes = fread(found, 1, sizeof(name) - 1, file);
    (void)fclose(file);
    return bytes == sizeof(name) - 1 && memcmp(found, name, bytes) == 0;
}

/* A descriptor of the process that goes last, the keeper, to see the end by; -1 where that cannot
 * be had. */
static int open_service_process(pinti_asker *asker)
{
    cJSON *stat = NULL;
    uint64_t pid = 0;
    if (pinti_client_request(asker->client, "stat", NULL, PINTI_REQUEST_MS, &stat, NULL) !=
        PINT_OK) {
        return -1;
    }
    (void)pinti_json_u64_or(stat, "keeper_pid", INT32_MAX, 0, &pid, NULL);
    cJSON_Delete(stat);
    return pid != 0 && is_pintabled(pid) ? (int)syscall(SYS_pidfd_open, (pid_t)pid, 0) : -1;
}

static int run_stop(const pinti_args *args)
{
    pinti_asker asker;
    int result = pinti_asker_open(args, &asker);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    const int process = open_service_process(&asker);
    cJSON *params = pinti_new_object();
    pinti_put_bool(params, "force", pinti_args_has(args, "force"));
    result = pinti_asker_request(&asker, "stop", params, STOP_MS, NULL);
    pinti_asker_close(&asker);
    if (process >= 0) {
        struct pollfd entry = {.fd = process, .events = POLLIN};
        if (result == PINTI_EXIT_OK && poll(&entry, 1, STOP_MS) == 0) {
            pinti_complain("stop: the service has agreed, but is still there after %d s",
                           STOP_MS / 1000);
            result = PINTI_EXIT_BUSY;
        }
        (void)close(process);
    }
    return result;
}

static const pinti_cli_option stop_options[] = {
    {'\0', "force", NULL, "also while sessions are joined; what they have mapped stays theirs"},
};

const pinti_cli_command pinti_cmd_stop = {
    .name = "stop",
    .operands = "",
    .summary = "stop the service; its tables are gone then",
    .options = stop_options,
    .n_options = sizeof(stop_options) / sizeof(stop_options[0]),
    .run = run_stop,
};
