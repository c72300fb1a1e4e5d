/* SPDX-License-Identifier: Apache-2.0 */

/* pintable devices: where the pool has, or may have, device copies. */

#include "ipc/cli/devices.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "ipc/cli/output.h"
#include "ipc/cli/request.h"

#define UUID_DIGITS 32u

static void add_broker(pinti_grid *grid, const cJSON *device)
{
    const uint64_t pid = pinti_answer_number(device, "broker_pid");
    const uint64_t n_ending = pinti_answer_number(device, "brokers_ending");
    char text[2 * PINTI_OUT_ROOM] = "-";
    if (pid != 0) {
        (void)snprintf(text, sizeof(text), "%" PRIu64, pid);
    }
    if (n_ending != 0) {
        const size_t used = strlen(text);
        (void)snprintf(text + used, sizeof(text) - used, ", %" PRIu64 " killed, not ended",
                       n_ending);
    }
    pinti_grid_add(grid, "%s", text);
}

void pinti_print_devices(const cJSON *devices)
{
    static const char *const headings[] = {">DEVICE", "NAME",    "UUID",    "KIND",
                                           ">COPIES", ">MEMORY", ">BUDGET", "BROKER"};
    pinti_grid grid;
    const cJSON *device;
    char text[PINTI_OUT_ROOM];
    if (cJSON_GetArraySize(devices) == 0) {
        return;
    }
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    cJSON_ArrayForEach(device, devices)
    {
        const uint64_t budget = pinti_answer_number(device, "budget_bytes");
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(device, "device"));
        pinti_grid_add(&grid, "%s", pinti_answer_text(device, "name"));
        pinti_grid_add(&grid, "%s", pinti_answer_text(device, "uuid"));
        pinti_grid_add(&grid, "%s", pinti_answer_flag(device, "cuda") ? "cuda" : "host");
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(device, "copies"));
        pinti_grid_add(&grid, "%s", pinti_out_bytes(text, pinti_answer_number(device, "bytes")));
        pinti_grid_add(&grid, "%s", budget != 0 ? pinti_out_bytes(text, budget) : "-");
        add_broker(&grid, device);
    }
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

bool pinti_read_uuid(const char *what, const char *text, char out[33])
{
    static const char *const prefixes[] = {"cuda:", "GPU-", "MIG-"};
    const char *at = text;
    size_t n = 0;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        const size_t bytes = strlen(prefixes[i]);
        at += strncmp(at, prefixes[i], bytes) == 0 ? bytes : 0;
    }
    for (; n < UUID_DIGITS && *at != '\0'; at++) {
        if (isxdigit((unsigned char)*at)) {
            out[n++] = (char)tolower((unsigned char)*at);
        } else if (*at != '-' || n == 0) {
            break;
        }
    }
    out[n] = '\0';
    if (n != UUID_DIGITS || *at != '\0') {
        pinti_complain("%s: '%s' is not the UUID of a device, as printed by 'pintable devices'",
                       what, text);
        return false;
    }
    return true;
}

static int run(const pinti_args *args)
{
    pinti_asker asker;
    cJSON *stat = NULL;
    int result = pinti_asker_open(args, &asker);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    result = pinti_asker_request(&asker, "stat", NULL, PINTI_REQUEST_MS, &stat);
    if (result == PINTI_EXIT_OK) {
        cJSON *devices = cJSON_DetachItemFromObjectCaseSensitive(stat, "devices");
        devices = devices != NULL ? devices : pinti_new_array();
        if (pinti_args_has(args, "json")) {
            pinti_out_json(devices);
        } else if (cJSON_GetArraySize(devices) == 0) {
            (void)printf("no devices\n");
            cJSON_Delete(devices);
        } else {
            pinti_print_devices(devices);
            cJSON_Delete(devices);
        }
    }
    cJSON_Delete(stat);
    pinti_asker_close(&asker);
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_devices = {
    .name = "devices",
    .operands = "",
    .summary = "list the devices that columns have copies on",
    .details =
        "A device is known to the pool from its first use on. MEMORY: of its copies. BROKER: the\n"
        "process that makes them; one that was killed and has not ended hangs in the driver.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .run = run,
};
