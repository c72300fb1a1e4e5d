/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pintable discard: drop device copies, also of a device that nobody can open any more. Without
 * --yes nothing is lost: all is looked at before anything is touched, and the service refuses what
 * has changed since.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/copy_list.h"
#include "ipc/cli/devices.h"
#include "ipc/cli/output.h"
#include "ipc/copies.h"

typedef struct discard_ask {
    pinti_copy_filter filter;
    char uuid[33];
    bool yes;
} discard_ask;

static bool is_there(const pinti_listed_copy *copy)
{
    return copy->state != PINTI_DYING && !copy->is_orphan;
}

static uint32_t count_there(const pinti_copy_list *list)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n_copies; i++) {
        n += is_there(&list->copies[i]) ? 1 : 0;
    }
    return n;
}

/* True: chunks would be torn, which was complained about. */
static bool would_tear(const pinti_copy_list *list)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < list->n_copies; i++) {
        const pinti_listed_copy *copy = &list->copies[i];
        if (is_there(copy) && copy->n_alone > 0) {
            pinti_complain("discard: column '%s' has %" PRIu64 " of its %" PRIu64
                           " chunks on device %" PRIu32 " (%s) alone",
                           copy->column, copy->n_alone, copy->n_chunks, copy->device,
                           copy->device_name);
            n += copy->n_alone;
        }
    }
    if (n > 0) {
        pinti_complain("discard: nothing was dropped: %" PRIu64
                       " %s would be torn; bring the bytes "
                       "to the host first, or say --yes",
                       n, n == 1 ? "chunk" : "chunks");
    }
    return n > 0;
}

static bool *note_torn(const pinti_listed_copy *copy)
{
    bool *torn = pinti_cli_alloc(copy->n_chunks, sizeof(*torn));
    for (uint64_t i = 0; i < copy->n_chunks; i++) {
        torn[i] = pinti_listed_copy_is_torn(copy, i);
    }
    return torn;
}

static uint64_t count_newly_torn(const pinti_listed_copy *copy, const bool *before)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < copy->n_chunks; i++) {
        n += pinti_listed_copy_is_torn(copy, i) && !before[i] ? 1 : 0;
    }
    return n;
}

static int discard_one(pint_pool *pool, const pinti_listed_copy *copy, bool yes)
{
    pint_error err = {0};
    bool *before = note_torn(copy);
    const pint_status status =
        yes ? pinti_request_copy_discard(pool, copy->index, copy->record_generation, &err)
            : pinti_request_copy_drop(pool, copy->index, copy->record_generation, &err);
    int result = PINTI_EXIT_OK;
    if (status == PINT_OK) {
        char text[PINTI_OUT_ROOM];
        const uint64_t n_torn = count_newly_torn(copy, before);
        pinti_out_text(stdout, copy->column, strlen(copy->column));
        (void)printf(": copy on device %" PRIu32 " (", copy->device);
        pinti_out_text(stdout, copy->device_name, strlen(copy->device_name));
        (void)printf(") dropped, %s, %" PRIu64 " %s torn%s\n", pinti_out_bytes(text, copy->bytes),
                     n_torn, n_torn == 1 ? "chunk" : "chunks",
                     copy->n_sessions > 0 ? "; its memory goes with its last user" : "");
    } else if (status == PINT_E_BUSY || status == PINT_E_DEVICE_AHEAD) {
        pinti_complain("discard: column '%s': %s (--yes drops it all the same)", copy->column,
                       err.message);
        result = pinti_cli_exit_of(status);
    } else {
        result = pinti_cli_fail(&err);
    }
    free(before);
    return result;
}

static int discard_all(pint_pool *pool, const pinti_copy_list *list, const discard_ask *ask)
{
    int result = PINTI_EXIT_OK;
    if (!ask->yes && would_tear(list)) {
        return PINTI_EXIT_FAILED;
    }
    /* one that cannot be dropped does not keep the others; the first failure gives the status */
    for (uint32_t i = 0; i < list->n_copies; i++) {
        if (is_there(&list->copies[i])) {
            const int failed = discard_one(pool, &list->copies[i], ask->yes);
            result = result == PINTI_EXIT_OK ? failed : result;
        }
    }
    return result;
}

static int discard(pint_pool *pool, const discard_ask *ask)
{
    pint_error err = {0};
    pint_table *table; /* open, so that its chunks stay its own while they are counted */
    pinti_copy_list list;
    int result;
    if (pint_table_open(pool, ask->filter.table, PINT_READ, &table, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    if (pinti_copy_list_read(pool, &ask->filter, &list, &err) != PINT_OK) {
        result = pinti_cli_fail(&err);
    } else if (count_there(&list) == 0) {
        pinti_complain("discard: there is no such device copy; see 'pintable copies'");
        result = PINTI_EXIT_FAILED;
    } else {
        result = discard_all(pool, &list, ask);
    }
    pinti_copy_list_done(&list);
    pint_table_close(table);
    return result;
}

static int run(const pinti_args *args)
{
    pint_pool *pool;
    const char *device = pinti_args_value(args, "device");
    discard_ask ask = {.filter = {.table = args->operands[0],
                                  .column = args->n_operands > 1 ? args->operands[1] : NULL},
                       .yes = pinti_args_has(args, "yes")};
    if (!pinti_args_check_name(args->operands[0]) ||
        (device != NULL && !pinti_read_uuid("discard", device, ask.uuid))) {
        return PINTI_EXIT_USAGE;
    }
    ask.filter.uuid = device != NULL ? ask.uuid : NULL;
    int result = pinti_cli_join(args, PINT_JOIN_NO_START, &pool);
    if (result == PINTI_EXIT_OK) {
        result = discard(pool, &ask);
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {
    {'d', "device", "UUID", "those on this device alone, as 'pintable devices' prints it"},
    {'y', "yes", NULL, "also if that tears chunks, or takes them from sessions that work there"},
};

const pinti_cli_command pinti_cmd_discard = {
    .name = "discard",
    .operands = "TABLE [COLUMN]",
    .summary = "drop the device copies of a table or column",
    .details =
        "For copies on a device that no process can open any more, as after its reset. A chunk\n"
        "that is newest there alone is torn then: not to be trusted until it is rewritten or\n"
        "recovered. Without --yes nothing is dropped if there is such a chunk, and no copy that a\n"
        "session works on. For the user of the copy or table, the owner of the service and root.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_operands = 1,
    .max_operands = 2,
    .run = run,
};
