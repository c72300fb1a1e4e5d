/* SPDX-License-Identifier: Apache-2.0 */

/* pintable stat: the service, its memory, its sessions. */

#include <inttypes.h>
#include <string.h>

#include "ipc/cli/output.h"
#include "ipc/cli/request.h"
#include "ipc/json.h"

#define LABEL_WIDTH 12

/* Members are shown as far as they are there and of their kind: a newer service may have others. */
static uint64_t number_of(const cJSON *object, const char *key)
{
    uint64_t value = 0;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 0x1p53) {
        return (uint64_t)item->valuedouble; /* also where it has a fraction: ages */
    }
    (void)pinti_json_u64_or(object, key, UINT64_MAX, 0, &value, NULL);
    return value;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "?";
}

static bool flag_of(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key)) != 0;
}

static void print_label(const char *label)
{
    (void)printf("%-*s", LABEL_WIDTH, label);
}

static void print_text(const char *label, const char *text)
{
    print_label(label);
    pinti_out_text(stdout, text, strlen(text));
    (void)putchar('\n');
}

static void print_bytes(const char *label, uint64_t bytes)
{
    char text[PINTI_OUT_ROOM];
    print_label(label);
    (void)printf("%s\n", pinti_out_bytes(text, bytes));
}

static void print_features(const cJSON *features)
{
    const cJSON *feature;
    print_label("features");
    const char *gap = "";
    cJSON_ArrayForEach(feature, features)
    {
        if (feature->string != NULL) {
            (void)printf("%s%s", gap, cJSON_IsTrue(feature) ? "" : "no ");
            pinti_out_text(stdout, feature->string, strlen(feature->string));
            gap = ", ";
        }
    }
    (void)putchar('\n');
}

static void print_service(const cJSON *stat, const pinti_asker *asker)
{
    char text[PINTI_OUT_ROOM];
    print_label("service");
    (void)printf("pintabled ");
    pinti_out_text(stdout, asker->hello.service, strlen(asker->hello.service));
    (void)printf(", pid %" PRIu64 ", up %s", number_of(stat, "pid"),
                 pinti_out_seconds(text, number_of(stat, "uptime_s")));
    const uint64_t incarnation = number_of(stat, "incarnation");
    if (incarnation > 1) {
        (void)printf(", restarted %" PRIu64 " times after a crash", incarnation - 1);
    }
    (void)putchar('\n');
    print_text("address", asker->address.socket);
    print_text("pool", text_of(stat, "pool"));
    if (flag_of(stat, "private")) {
        print_label("private");
        (void)printf("yes: exits %" PRIu64 " s after its last user, if no table is kept\n",
                     number_of(stat, "idle_exit_s"));
    }
    print_bytes("budget", number_of(stat, "budget_bytes"));
    print_bytes("committed", number_of(stat, "committed_bytes"));
    print_bytes("used", number_of(stat, "used_bytes"));
    print_label("tables");
    (void)printf("%" PRIu64 ", %" PRIu64 " more waiting for their last user\n",
                 number_of(stat, "tables"), number_of(stat, "dying"));
    print_label("jobs");
    (void)printf("%" PRIu64 "\n", number_of(stat, "jobs"));
    print_text("pages", text_of(stat, "huge"));
    print_features(cJSON_GetObjectItemCaseSensitive(stat, "features"));
    print_label("itself");
    (void)printf("%s, %" PRIu64 " descriptors\n",
                 pinti_out_bytes(text, number_of(stat, "rss_bytes")), number_of(stat, "fds"));
}

static void print_devices(const cJSON *devices)
{
    static const char *const headings[] = {"DEVICE",  "UUID",    "KIND",   ">COPIES",
                                           ">MEMORY", ">BUDGET", ">BROKER"};
    pinti_grid grid;
    const cJSON *device;
    char text[PINTI_OUT_ROOM];
    if (cJSON_GetArraySize(devices) == 0) {
        return;
    }
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    cJSON_ArrayForEach(device, devices)
    {
        const uint64_t budget = number_of(device, "budget_bytes");
        const uint64_t broker = number_of(device, "broker_pid");
        pinti_grid_add(&grid, "%s", text_of(device, "name"));
        pinti_grid_add(&grid, "%s", text_of(device, "uuid"));
        pinti_grid_add(&grid, "%s", flag_of(device, "cuda") ? "cuda" : "host");
        pinti_grid_add(&grid, "%" PRIu64, number_of(device, "copies"));
        pinti_grid_add(&grid, "%s", pinti_out_bytes(text, number_of(device, "bytes")));
        pinti_grid_add(&grid, "%s", budget != 0 ? pinti_out_bytes(text, budget) : "-");
        if (broker != 0) {
            pinti_grid_add(&grid, "%" PRIu64, broker);
        } else {
            pinti_grid_add(&grid, "-");
        }
    }
    (void)putchar('\n');
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

static void print_sessions(const cJSON *sessions)
{
    static const char *const headings[] = {"SESSION", ">PID",    ">UID",    "MODE", "STATE",
                                           ">AGE",    ">LEASES", ">TABLES", "LINK", "COMMAND"};
    pinti_grid grid;
    const cJSON *session;
    char text[PINTI_OUT_ROOM];
    if (cJSON_GetArraySize(sessions) == 0) {
        (void)printf("\nno sessions\n");
        return;
    }
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    cJSON_ArrayForEach(session, sessions)
    {
        pinti_grid_add(&grid, "%s", text_of(session, "id"));
        pinti_grid_add(&grid, "%" PRIu64, number_of(session, "pid"));
        pinti_grid_add(&grid, "%" PRIu64, number_of(session, "uid"));
        pinti_grid_add(&grid, "%s", text_of(session, "mode"));
        pinti_grid_add(&grid, "%s", text_of(session, "state"));
        pinti_grid_add(&grid, "%s", pinti_out_seconds(text, number_of(session, "age_s")));
        pinti_grid_add(&grid, "%" PRIu64, number_of(session, "leases"));
        pinti_grid_add(&grid, "%" PRIu64, number_of(session, "tables"));
        pinti_grid_add(&grid, "%s", flag_of(session, "connected") ? "up" : "away");
        pinti_grid_add(&grid, "%s", text_of(session, "command"));
    }
    (void)putchar('\n');
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

/* One answer holds so many sessions; "next" says where the next answer goes on. Adds theirs to the
 * sessions of stat. */
static int add_further_sessions(pinti_asker *asker, cJSON *stat)
{
    uint64_t next = number_of(stat, "next");
    cJSON *sessions = cJSON_GetObjectItemCaseSensitive(stat, "sessions");
    cJSON_DeleteItemFromObjectCaseSensitive(stat, "next");
    while (next != 0) {
        cJSON *more = NULL;
        cJSON *params = pinti_new_object();
        pinti_put_u64(params, "first", next);
        const int result = pinti_asker_request(asker, "stat", params, PINTI_REQUEST_MS, &more);
        if (result != PINTI_EXIT_OK) {
            return result;
        }
        cJSON *added = cJSON_GetObjectItemCaseSensitive(more, "sessions");
        while (added != NULL && added->child != NULL) {
            (void)cJSON_AddItemToArray(sessions, cJSON_DetachItemViaPointer(added, added->child));
        }
        const uint64_t after = number_of(more, "next");
        next = after > next ? after : 0; /* positions only grow */
        cJSON_Delete(more);
    }
    return PINTI_EXIT_OK;
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
        result = add_further_sessions(&asker, stat);
    }
    if (result == PINTI_EXIT_OK && pinti_args_has(args, "json")) {
        pinti_put_text(stat, "address", asker.address.socket);
        pinti_out_json(stat);
        stat = NULL;
    } else if (result == PINTI_EXIT_OK) {
        print_service(stat, &asker);
        print_devices(cJSON_GetObjectItemCaseSensitive(stat, "devices"));
        print_sessions(cJSON_GetObjectItemCaseSensitive(stat, "sessions"));
    }
    cJSON_Delete(stat);
    pinti_asker_close(&asker);
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_stat = {
    .name = "stat",
    .operands = "",
    .summary = "show the service, its memory, its devices and its sessions",
    .details = "committed: memory the pool holds; used: what of it is in tables and jobs.\n"
               "STATE orphaned: the process died, a forked child of it still maps the pool.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .run = run,
};
