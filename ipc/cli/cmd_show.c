/* SPDX-License-Identifier: Apache-2.0 */

/* pintable show: everything about one table but its values. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/copy_list.h"
#include "ipc/cli/inspect.h"
#include "ipc/cli/output.h"
#include "ipc/cli/value.h"

typedef struct column_facts {
    pint_column column;
    char *type;
    uint64_t n_null;
    uint64_t bytes;
    pinti_chunk_counts chunks;
    pinti_copy_info copies[PINTI_DEVICES_MAX];
    uint32_t n_copies;
} column_facts;

/* Bytes of a column's buffers, as laid out for whole chunks. */
static uint64_t column_bytes(const pint_column *column)
{
    const pinti_column_rec *rec = pinti_column_desc_of(column)->rec;
    const uint64_t rows = column->table->desc->rec->row_capacity;
    uint64_t bytes = rec->data_bytes;
    bytes += rec->validity_off != PINTI_NO_BUFFER ? (rows + 7) / 8 : 0;
    bytes += rec->offsets_off != PINTI_NO_BUFFER ? (rows + 1) * sizeof(int64_t) : 0;
    bytes +=
        rec->dict_offsets_off != PINTI_NO_BUFFER ? (rec->n_categories + 1) * sizeof(int64_t) : 0;
    if (rec->values_off != PINTI_NO_BUFFER) {
        bytes += column->type == PINT_BOOL ? (rows + 7) / 8 : rows * rec->row_bytes;
    }
    return bytes;
}

/* Columns may be added while they are shown: what counts is how many there were here. */
static column_facts *collect_columns(pint_table *table, uint32_t *out_n)
{
    const uint32_t n = pint_table_columns(table);
    column_facts *facts = pinti_cli_alloc(n, sizeof(*facts));
    for (uint32_t i = 0; i < n; i++) {
        column_facts *fact = &facts[i];
        if (pint_table_column_at(table, i, &fact->column, NULL) != PINT_OK) {
            continue; /* i is a position of the table: cannot be */
        }
        fact->type = pinti_value_type(&fact->column);
        fact->n_null = pint_column_count_null(&fact->column, 0, pint_table_rows(table));
        fact->bytes = column_bytes(&fact->column);
        pinti_inspect_chunks(&fact->column, 0, UINT64_MAX, &fact->chunks);
        fact->n_copies = pinti_inspect_copies(&fact->column, fact->copies);
    }
    *out_n = n;
    return facts;
}

static void print_jobs(const pinti_job_list *jobs, const pint_table *table)
{
    static const char *const headings[] = {"JOB",     ">CHUNKS", ">DONE",
                                           ">FAILED", ">HELD",   ">REDONE"};
    if (pinti_job_list_count(jobs, table) == 0) {
        return;
    }
    pinti_grid grid;
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    for (uint32_t i = 0; i < jobs->n_jobs; i++) {
        const pinti_job_info *job = &jobs->jobs[i];
        if (job->table_index == pinti_table_index(table) &&
            job->table_generation == pinti_table_generation(table)) {
            pinti_grid_add(&grid, "%s", job->name);
            pinti_grid_add(&grid, "%" PRIu64, job->n_chunks);
            pinti_grid_add(&grid, "%" PRIu64, job->n_done);
            pinti_grid_add(&grid, "%" PRIu64, job->n_failed);
            pinti_grid_add(&grid, "%" PRIu64, job->n_held);
            pinti_grid_add(&grid, "%" PRIu64, job->n_redone);
        }
    }
    (void)putchar('\n');
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

static void print_facts(pint_table *table, const char *name)
{
    char text[PINTI_OUT_ROOM];
    char moment[PINTI_OUT_ROOM];
    const pinti_table_rec *rec = table->desc->rec;
    (void)printf("table    ");
    pinti_out_text(stdout, name, strlen(name));
    (void)printf("\nrows     %" PRIu64 "\n", pint_table_rows(table));
    (void)printf("size     %s (%" PRIu64 " bytes)\n",
                 pinti_out_bytes(text, pint_table_bytes(table)), pint_table_bytes(table));
    (void)printf("chunks   %" PRIu64 " of %" PRIu64 " rows\n", pint_table_chunks(table),
                 pint_table_chunk_rows(table));
    (void)printf("created  %s, %s ago, by uid %" PRIu32 "\n",
                 pinti_out_moment(moment, rec->created_ns), pinti_out_age(text, rec->created_ns),
                 rec->uid);
    (void)printf("state    %s, %s\n\n",
                 pinti_inspect_is_kept(table) ? "kept" : "dropped when its last user leaves",
                 pint_table_is_frozen(table) ? "frozen" : "can be written");
}

static void print_columns(const column_facts *facts, uint32_t n_facts)
{
    static const char *const headings[] = {"COLUMN", "TYPE",  ">NULLS",     ">SIZE",
                                           ">TORN",  ">HELD", ">CATEGORIES"};
    pinti_grid grid;
    char text[PINTI_OUT_ROOM];
    bool has_categories = false;
    for (uint32_t i = 0; i < n_facts; i++) {
        has_categories = has_categories || facts[i].column.type == PINT_DICT_TEXT;
    }
    pinti_grid_init(&grid, headings,
                    sizeof(headings) / sizeof(headings[0]) - (has_categories ? 0 : 1));
    for (uint32_t i = 0; i < n_facts; i++) {
        const column_facts *fact = &facts[i];
        pinti_grid_add(&grid, "%s", pint_column_name(&fact->column));
        pinti_grid_add(&grid, "%s", fact->type);
        if (pint_column_is_nullable(&fact->column)) {
            pinti_grid_add(&grid, "%" PRIu64, fact->n_null);
        } else {
            pinti_grid_add(&grid, "-");
        }
        pinti_grid_add(&grid, "%s", pinti_out_bytes(text, fact->bytes));
        pinti_grid_add(&grid, "%" PRIu64, fact->chunks.n_torn);
        pinti_grid_add(&grid, "%" PRIu64, fact->chunks.n_held + fact->chunks.n_restoring);
        if (has_categories && fact->column.type == PINT_DICT_TEXT) {
            pinti_grid_add(&grid, "%" PRIu64 " of %" PRIu64, pint_column_categories(&fact->column),
                           pinti_column_desc_of(&fact->column)->n_categories);
        } else if (has_categories) {
            pinti_grid_add(&grid, "%s", "");
        }
    }
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
}

static void print_copies(const column_facts *facts, uint32_t n_facts)
{
    static const char *const headings[] = {"COPY OF", "DEVICE",   "KIND",
                                           ">SIZE",   ">CURRENT", ">NEWEST THERE ALONE"};
    pinti_grid grid;
    char text[PINTI_OUT_ROOM];
    bool has_copies = false;
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    for (uint32_t i = 0; i < n_facts; i++) {
        for (uint32_t k = 0; k < facts[i].n_copies; k++) {
            const pinti_copy_info *copy = &facts[i].copies[k];
            has_copies = true;
            pinti_grid_add(&grid, "%s", pint_column_name(&facts[i].column));
            pinti_grid_add(&grid, "%s", copy->device);
            pinti_grid_add(&grid, "%s", pinti_copy_kind_name(copy->kind));
            pinti_grid_add(&grid, "%s", pinti_out_bytes(text, copy->bytes));
            pinti_grid_add(&grid, "%" PRIu64, copy->n_current);
            pinti_grid_add(&grid, "%" PRIu64, copy->n_alone);
        }
    }
    if (has_copies) {
        (void)putchar('\n');
        pinti_grid_print(&grid);
    }
    pinti_grid_done(&grid);
}

static void put_copies(cJSON *object, const column_facts *fact)
{
    cJSON *array = pinti_put_array(object, "copies");
    for (uint32_t i = 0; i < fact->n_copies; i++) {
        const pinti_copy_info *copy = &fact->copies[i];
        cJSON *item = pinti_append_object(array);
        pinti_put_text(item, "device", copy->device);
        pinti_put_text(item, "uuid", copy->uuid);
        pinti_put_text(item, "kind", pinti_copy_kind_name(copy->kind));
        pinti_put_u64(item, "bytes", copy->bytes);
        pinti_put_u64(item, "current_chunks", copy->n_current);
        pinti_put_u64(item, "alone_chunks", copy->n_alone);
    }
}

static void put_column(cJSON *array, const column_facts *fact)
{
    const pint_column *column = &fact->column;
    cJSON *object = pinti_append_object(array);
    const char *type = pint_type_name(column->type);
    const char *item = pint_type_name(pint_column_item_type(column));
    pinti_put_text(object, "name", pint_column_name(column));
    pinti_put_text(object, "type", type != NULL ? type : "?");
    pinti_put_bool(object, "nullable", pint_column_is_nullable(column) != 0);
    pinti_put_u64(object, "nulls", fact->n_null);
    if (column->type == PINT_TIMESTAMP) {
        pinti_put_text(object, "unit", pinti_value_unit(pint_column_unit(column)));
        if (pint_column_zone(column)[0] != '\0') {
            pinti_put_text(object, "zone", pint_column_zone(column));
        }
    }
    if (item != NULL) {
        pinti_put_text(object, "item", item);
    }
    if (column->type == PINT_LIST_FIXED) {
        pinti_put_u64(object, "length", pint_column_list_length(column));
    }
    if (column->type == PINT_BINARY_FIXED) {
        pinti_put_u64(object, "width", pint_column_row_bytes(column));
    }
    if (column->type == PINT_DICT_TEXT) {
        pinti_put_u64(object, "categories", pint_column_categories(column));
        pinti_put_u64(object, "categories_room", pinti_column_desc_of(column)->n_categories);
    }
    pinti_put_u64(object, "bytes", fact->bytes);
    pinti_put_u64(object, "torn_chunks", fact->chunks.n_torn);
    pinti_put_u64(object, "held_chunks", fact->chunks.n_held);
    pinti_put_u64(object, "restoring_chunks", fact->chunks.n_restoring);
    put_copies(object, fact);
}

static void print_json(pint_table *table, const char *name, const column_facts *facts,
                       uint32_t n_facts, const pinti_job_list *jobs)
{
    char text[PINTI_OUT_ROOM];
    cJSON *object = pinti_new_object();
    pinti_put_text(object, "name", name);
    pinti_put_u64(object, "rows", pint_table_rows(table));
    pinti_put_u64(object, "bytes", pint_table_bytes(table));
    pinti_put_u64(object, "chunk_rows", pint_table_chunk_rows(table));
    pinti_put_u64(object, "chunks", pint_table_chunks(table));
    pinti_put_bool(object, "kept", pinti_inspect_is_kept(table));
    pinti_put_bool(object, "frozen", pint_table_is_frozen(table) != 0);
    pinti_put_u64(object, "uid", table->desc->rec->uid);
    pinti_put_text(object, "created", pinti_out_moment(text, table->desc->rec->created_ns));
    cJSON *columns = pinti_put_array(object, "columns");
    for (uint32_t i = 0; i < n_facts; i++) {
        put_column(columns, &facts[i]);
    }
    cJSON *array = pinti_put_array(object, "jobs");
    for (uint32_t i = 0; i < jobs->n_jobs; i++) {
        if (jobs->jobs[i].table_index == pinti_table_index(table) &&
            jobs->jobs[i].table_generation == pinti_table_generation(table)) {
            pinti_put_job(array, &jobs->jobs[i]);
        }
    }
    pinti_out_json(object);
}

static int show(pint_pool *pool, const char *name, bool as_json)
{
    pint_error err = {0};
    pint_table *table;
    pinti_job_list jobs;
    if (pint_table_open(pool, name, PINT_READ, &table, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    if (pinti_inspect_jobs(pool, &jobs, &err) != PINT_OK) {
        pint_table_close(table);
        return pinti_cli_fail(&err);
    }
    uint32_t n_facts;
    column_facts *facts = collect_columns(table, &n_facts);
    if (as_json) {
        print_json(table, name, facts, n_facts, &jobs);
    } else {
        print_facts(table, name);
        print_columns(facts, n_facts);
        print_copies(facts, n_facts);
        print_jobs(&jobs, table);
    }
    for (uint32_t i = 0; i < n_facts; i++) {
        free(facts[i].type);
    }
    free(facts);
    pinti_job_list_done(&jobs);
    pint_table_close(table);
    return PINTI_EXIT_OK;
}

static int run(const pinti_args *args)
{
    pint_pool *pool;
    const char *name = args->operands[0];
    if (!pinti_args_check_name(name)) {
        return PINTI_EXIT_USAGE;
    }
    int result = pinti_cli_join(args, PINT_JOIN_READ | PINT_JOIN_NO_START, &pool);
    if (result == PINTI_EXIT_OK) {
        result = show(pool, name, pinti_args_has(args, "json"));
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_show = {
    .name = "show",
    .operands = "NAME",
    .summary = "show a table's columns, chunks, device copies and jobs",
    .details =
        "TORN counts chunks whose writer died inside without undo: their bytes are not to be\n"
        "trusted until they are rewritten or recovered. HELD counts chunks that are leased, or\n"
        "left by the dead and still to be put back from undo. Of a device copy, CURRENT counts\n"
        "chunks whose newest bytes it has, NEWEST THERE ALONE those that the host does not have.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
