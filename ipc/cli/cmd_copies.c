/* SPDX-License-Identifier: Apache-2.0 */

/* pintable copies: the device copies of the pool, or of one table. */

#include <inttypes.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/copy_list.h"
#include "ipc/cli/output.h"

/* "live", or why it is not to be had. */
static const char *state_name(const pinti_listed_copy *copy)
{
    return copy->state == PINTI_DYING      ? "dropped"
           : copy->state == PINTI_BUILDING ? "being made"
           : copy->is_orphan               ? "table dropped"
                                           : "live";
}

static void print_copies(const pinti_copy_list *list)
{
    static const char *const headings[] = {"TABLE",       "COLUMN",   ">DEVICE",
                                           "NAME",        "KIND",     ">SIZE",
                                           ">GENERATION", ">CURRENT", ">NEWEST THERE ALONE",
                                           ">SESSIONS",   "STATE"};
    pinti_grid grid;
    char text[PINTI_OUT_ROOM];
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    for (uint32_t i = 0; i < list->n_copies; i++) {
        const pinti_listed_copy *copy = &list->copies[i];
        pinti_grid_add(&grid, "%s", copy->table);
        pinti_grid_add(&grid, "%s", copy->column);
        pinti_grid_add(&grid, "%" PRIu32, copy->device);
        pinti_grid_add(&grid, "%s", copy->device_name);
        pinti_grid_add(&grid, "%s", pinti_copy_kind_name(copy->kind));
        pinti_grid_add(&grid, "%s", pinti_out_bytes(text, copy->bytes));
        pinti_grid_add(&grid, "%" PRIu64, copy->generation);
        pinti_grid_add(&grid, "%" PRIu64 " of %" PRIu64, copy->n_current, copy->n_chunks);
        pinti_grid_add(&grid, "%" PRIu64, copy->n_alone);
        pinti_grid_add(&grid, "%" PRIu64, copy->n_sessions);
        pinti_grid_add(&grid, "%s", state_name(copy));
    }
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

static void print_json(const pinti_copy_list *list)
{
    cJSON *array = pinti_new_array();
    for (uint32_t i = 0; i < list->n_copies; i++) {
        const pinti_listed_copy *copy = &list->copies[i];
        cJSON *object = pinti_append_object(array);
        pinti_put_text(object, "table", copy->table);
        pinti_put_text(object, "column", copy->column);
        pinti_put_u64(object, "device", copy->device);
        pinti_put_text(object, "name", copy->device_name);
        pinti_put_text(object, "uuid", copy->uuid);
        pinti_put_text(object, "kind", pinti_copy_kind_name(copy->kind));
        pinti_put_u64(object, "bytes", copy->bytes);
        pinti_put_u64(object, "generation", copy->generation);
        pinti_put_u64(object, "chunks", copy->n_chunks);
        pinti_put_u64(object, "current_chunks", copy->n_current);
        pinti_put_u64(object, "alone_chunks", copy->n_alone);
        pinti_put_u64(object, "sessions", copy->n_sessions);
        pinti_put_text(object, "state", state_name(copy));
    }
    pinti_out_json(array);
}

/* A table without copies is none to complain about; one that is not there is. */
static int check_table(pint_pool *pool, const char *name)
{
    pint_error err = {0};
    pint_table *table;
    if (pint_table_open(pool, name, PINT_READ, &table, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    pint_table_close(table);
    return PINTI_EXIT_OK;
}

static int list_copies(pint_pool *pool, const char *table, bool as_json)
{
    pint_error err = {0};
    pinti_copy_list list;
    const pinti_copy_filter filter = {.table = table};
    int result = PINTI_EXIT_OK;
    if (pinti_copy_list_read(pool, &filter, &list, &err) != PINT_OK) {
        result = pinti_cli_fail(&err);
    } else if (list.n_copies == 0 && table != NULL) {
        result = check_table(pool, table);
    }
    if (result == PINTI_EXIT_OK && as_json) {
        print_json(&list);
    } else if (result == PINTI_EXIT_OK && list.n_copies == 0) {
        (void)printf("no device copies\n");
    } else if (result == PINTI_EXIT_OK) {
        print_copies(&list);
    }
    pinti_copy_list_done(&list);
    return result;
}

static int run(const pinti_args *args)
{
    pint_pool *pool;
    const char *table = args->n_operands > 0 ? args->operands[0] : NULL;
    if (table != NULL && !pinti_args_check_name(table)) {
        return PINTI_EXIT_USAGE;
    }
    int result = pinti_cli_join(args, PINT_JOIN_READ | PINT_JOIN_NO_START, &pool);
    if (result == PINTI_EXIT_OK) {
        result = list_copies(pool, table, pinti_args_has(args, "json"));
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_copies = {
    .name = "copies",
    .operands = "[TABLE]",
    .summary = "list the device copies of all tables, or of one",
    .details =
        "CURRENT counts chunks whose newest bytes the copy has, NEWEST THERE ALONE those that no\n"
        "other place has, SESSIONS those that have it open. One that is dropped keeps its memory\n"
        "until the last of them has closed it.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .max_operands = 1,
    .run = run,
};
