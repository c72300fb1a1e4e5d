/* SPDX-License-Identifier: Apache-2.0 */

/* pintable stat: the service, its memory, its sessions. */

#include <inttypes.h>
#include <string.h>

#include "ipc/cli/devices.h"
#include "ipc/cli/output.h"
#include "ipc/cli/request.h"

#define LABEL_WIDTH 12

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
    (void)printf(", pid %" PRIu64 ", up %s", pinti_answer_number(stat, "pid"),
                 pinti_out_seconds(text, pinti_answer_number(stat, "uptime_s")));
    const uint64_t incarnation = pinti_answer_number(stat, "incarnation");
    if (incarnation > 1) {
        (void)printf(", restarted %" PRIu64 " times after a crash", incarnation - 1);
    }
    (void)putchar('\n');
    print_text("address", asker->address.socket);
    print_text("pool", pinti_answer_text(stat, "pool"));
    if (pinti_answer_flag(stat, "private")) {
        print_label("private");
        (void)printf("yes: exits %" PRIu64 " s after its last user, if no table is kept\n",
                     pinti_answer_number(stat, "idle_exit_s"));
    }
    print_bytes("budget", pinti_answer_number(stat, "budget_bytes"));
    print_bytes("committed", pinti_answer_number(stat, "committed_bytes"));
    print_bytes("used", pinti_answer_number(stat, "used_bytes"));
    print_label("tables");
    (void)printf("%" PRIu64 ", %" PRIu64 " more waiting for their last user\n",
                 pinti_answer_number(stat, "tables"), pinti_answer_number(stat, "dying"));
    print_label("jobs");
    (void)printf("%" PRIu64 "\n", pinti_answer_number(stat, "jobs"));
    print_text("pages", pinti_answer_text(stat, "huge"));
    print_features(cJSON_GetObjectItemCaseSensitive(stat, "features"));
    print_label("itself");
    (void)printf("%s, %" PRIu64 " descriptors\n",
                 pinti_out_bytes(text, pinti_answer_number(stat, "rss_bytes")),
                 pinti_answer_number(stat, "fds"));
}

static void print_devices(const cJSON *devices)
{
    if (cJSON_GetArraySize(devices) > 0) {
        (void)putchar('\n');
        pinti_print_devices(devices);
    }
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
        pinti_grid_add(&grid, "%s", pinti_answer_text(session, "id"));
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(session, "pid"));
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(session, "uid"));
        pinti_grid_add(&grid, "%s", pinti_answer_text(session, "mode"));
        pinti_grid_add(&grid, "%s", pinti_answer_text(session, "state"));
        pinti_grid_add(&grid, "%s", pinti_out_seconds(text, pinti_answer_number(session, "age_s")));
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(session, "leases"));
        pinti_grid_add(&grid, "%" PRIu64, pinti_answer_number(session, "tables"));
        pinti_grid_add(&grid, "%s", pinti_answer_flag(session, "connected") ? "up" : "away");
        pinti_grid_add(&grid, "%s", pinti_answer_text(session, "command"));
    }
    (void)putchar('\n');
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

/* One answer holds so many sessions; "next" says where the next answer goes on. Adds theirs to the
 * sessions of stat. */
static int add_further_sessions(pinti_asker *asker, cJSON *stat)
{
    uint64_t next = pinti_answer_number(stat, "next");
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
        const uint64_t after = pinti_answer_number(more, "next");
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
