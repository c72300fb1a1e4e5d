/* SPDX-License-Identifier: Apache-2.0 */

/* pintable ls: the tables of the pool. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/inspect.h"
#include "ipc/cli/output.h"

typedef struct name_list {
    char (*names)[PINT_NAME_BYTES_MAX + 1];
    size_t n_names;
    size_t room;
} name_list;

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void collect_names(pint_pool *pool, name_list *list)
{
    uint64_t cursor = 0;
    for (;;) {
        if (list->n_names == list->room) {
            list->room = list->room == 0 ? 64 : list->room * 2;
            void *grown = reallocarray(list->names, list->room, sizeof(*list->names));
            if (grown == NULL) {
                pinti_cli_out_of_memory();
            }
            list->names = grown;
        }
        if (pint_pool_next_table(pool, &cursor, list->names[list->n_names], NULL) != PINT_OK) {
            break;
        }
        list->n_names++;
    }
    if (list->n_names > 1) {
        qsort(list->names, list->n_names, sizeof(*list->names), compare_names);
    }
}

static void add_line(pinti_grid *grid, const char *name, const pint_table *table, uint32_t n_jobs)
{
    char text[PINTI_OUT_ROOM];
    const bool is_kept = pinti_inspect_is_kept(table);
    const bool is_frozen = pint_table_is_frozen(table) != 0;
    pinti_grid_add(grid, "%s", name);
    pinti_grid_add(grid, "%" PRIu64, pint_table_rows(table));
    pinti_grid_add(grid, "%" PRIu32, pint_table_columns(table));
    pinti_grid_add(grid, "%s", pinti_out_bytes(text, pint_table_bytes(table)));
    pinti_grid_add(grid, "%" PRIu64, pint_table_chunks(table));
    pinti_grid_add(grid, "%" PRIu32, n_jobs);
    pinti_grid_add(grid, "%s", pinti_out_age(text, table->desc->rec->created_ns));
    pinti_grid_add(grid, "%s%s%s", is_kept ? "kept" : "", is_kept && is_frozen ? ", " : "",
                   is_frozen ? "frozen"
                   : is_kept ? ""
                             : "-");
}

static void add_object(cJSON *array, const char *name, const pint_table *table, uint32_t n_jobs)
{
    char text[PINTI_OUT_ROOM];
    cJSON *object = pinti_append_object(array);
    pinti_put_text(object, "name", name);
    pinti_put_u64(object, "rows", pint_table_rows(table));
    pinti_put_u64(object, "columns", pint_table_columns(table));
    pinti_put_u64(object, "bytes", pint_table_bytes(table));
    pinti_put_u64(object, "chunk_rows", pint_table_chunk_rows(table));
    pinti_put_u64(object, "chunks", pint_table_chunks(table));
    pinti_put_u64(object, "jobs", n_jobs);
    pinti_put_bool(object, "kept", pinti_inspect_is_kept(table));
    pinti_put_bool(object, "frozen", pint_table_is_frozen(table) != 0);
    pinti_put_u64(object, "uid", table->desc->rec->uid);
    pinti_put_text(object, "created", pinti_out_moment(text, table->desc->rec->created_ns));
}

/* Tables that go meanwhile are left out. */
static int list_tables(pint_pool *pool, bool as_json)
{
    static const char *const headings[] = {"NAME",    ">ROWS", ">COLUMNS", ">SIZE",
                                           ">CHUNKS", ">JOBS", ">AGE",     "STATE"};
    pint_error err = {0};
    pinti_job_list jobs;
    name_list list = {0};
    if (pinti_inspect_jobs(pool, &jobs, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    collect_names(pool, &list);
    pinti_grid grid;
    cJSON *array = pinti_new_array();
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    int result = PINTI_EXIT_OK;
    for (size_t i = 0; i < list.n_names && result == PINTI_EXIT_OK; i++) {
        pint_table *table;
        const pint_status status = pint_table_open(pool, list.names[i], PINT_READ, &table, &err);
        if (status == PINT_OK) {
            const uint32_t n_jobs = pinti_job_list_count(&jobs, table);
            if (as_json) {
                add_object(array, list.names[i], table, n_jobs);
            } else {
                add_line(&grid, list.names[i], table, n_jobs);
            }
            pint_table_close(table);
        } else if (status != PINT_E_NOT_FOUND && status != PINT_E_DROPPED) {
            result = pinti_cli_fail(&err);
        }
    }
    if (result != PINTI_EXIT_OK) {
        cJSON_Delete(array);
    } else if (as_json) {
        pinti_out_json(array);
    } else {
        pinti_grid_print(&grid);
        cJSON_Delete(array);
    }
    pinti_grid_done(&grid);
    pinti_job_list_done(&jobs);
    free(list.names);
    return result;
}

static int run(const pinti_args *args)
{
    pint_pool *pool;
    int result = pinti_cli_join(args, PINT_JOIN_READ | PINT_JOIN_NO_START, &pool);
    if (result == PINTI_EXIT_OK) {
        result = list_tables(pool, pinti_args_has(args, "json"));
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_ls = {
    .name = "ls",
    .operands = "",
    .summary = "list the tables",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .run = run,
};
