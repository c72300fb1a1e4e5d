/* SPDX-License-Identifier: Apache-2.0 */

/* pintable jobs: how far each job has come. */

#include <inttypes.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/inspect.h"
#include "ipc/cli/output.h"

void pinti_put_job(cJSON *array, const pinti_job_info *job)
{
    char text[PINTI_OUT_ROOM];
    cJSON *object = pinti_append_object(array);
    pinti_put_text(object, "table", job->table);
    pinti_put_text(object, "name", job->name);
    pinti_put_u64(object, "chunks", job->n_chunks);
    pinti_put_u64(object, "done", job->n_done);
    pinti_put_u64(object, "failed", job->n_failed);
    pinti_put_u64(object, "held", job->n_held);
    pinti_put_u64(object, "redone", job->n_redone);
    pinti_put_bool(object, "finished", job->n_done + job->n_failed == job->n_chunks);
    pinti_put_u64(object, "bytes", job->bytes);
    pinti_put_text(object, "created", pinti_out_moment(text, job->created_ns));
    cJSON *failures = pinti_put_array(object, "failures");
    for (uint32_t i = 0; i < job->n_failures; i++) {
        cJSON *failure = pinti_append_object(failures);
        pinti_put_u64(failure, "chunk", job->failures[i].chunk);
        pinti_put_text(failure, "text", job->failures[i].text);
    }
}

static bool is_wanted(const pinti_job_info *job, const char *table)
{
    return table == NULL || strcmp(job->table, table) == 0;
}

static void print_failures(const pinti_job_info *job)
{
    for (uint32_t i = 0; i < job->n_failures; i++) {
        (void)printf("\n");
        pinti_out_text(stdout, job->table, strlen(job->table));
        (void)printf("/");
        pinti_out_text(stdout, job->name, strlen(job->name));
        (void)printf(" chunk %" PRIu64 " failed: ", job->failures[i].chunk);
        pinti_out_text(stdout, job->failures[i].text, strlen(job->failures[i].text));
    }
    if (job->n_failures > 0) {
        (void)printf("\n");
    }
}

static void print_jobs(const pinti_job_list *list, const char *table)
{
    static const char *const headings[] = {"TABLE", "JOB",     ">CHUNKS", ">DONE", ">FAILED",
                                           ">HELD", ">REDONE", ">AGE",    "STATE"};
    pinti_grid grid;
    char text[PINTI_OUT_ROOM];
    pinti_grid_init(&grid, headings, sizeof(headings) / sizeof(headings[0]));
    for (uint32_t i = 0; i < list->n_jobs; i++) {
        const pinti_job_info *job = &list->jobs[i];
        if (!is_wanted(job, table)) {
            continue;
        }
        pinti_grid_add(&grid, "%s", job->table);
        pinti_grid_add(&grid, "%s", job->name);
        pinti_grid_add(&grid, "%" PRIu64, job->n_chunks);
        pinti_grid_add(&grid, "%" PRIu64, job->n_done);
        pinti_grid_add(&grid, "%" PRIu64, job->n_failed);
        pinti_grid_add(&grid, "%" PRIu64, job->n_held);
        pinti_grid_add(&grid, "%" PRIu64, job->n_redone);
        pinti_grid_add(&grid, "%s", pinti_out_age(text, job->created_ns));
        pinti_grid_add(&grid, "%s",
                       job->n_done + job->n_failed == job->n_chunks ? "finished" : "open");
    }
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
    for (uint32_t i = 0; i < list->n_jobs; i++) {
        if (is_wanted(&list->jobs[i], table)) {
            print_failures(&list->jobs[i]);
        }
    }
}

static int list_jobs(pint_pool *pool, const char *table, bool as_json)
{
    pint_error err = {0};
    pinti_job_list list;
    if (table != NULL) { /* a table without jobs is fine, one that does not exist is not */
        pint_table *handle;
        if (pint_table_open(pool, table, PINT_READ, &handle, &err) != PINT_OK) {
            return pinti_cli_fail(&err);
        }
        pint_table_close(handle);
    }
    if (pinti_inspect_jobs(pool, &list, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    if (as_json) {
        cJSON *array = pinti_new_array();
        for (uint32_t i = 0; i < list.n_jobs; i++) {
            if (is_wanted(&list.jobs[i], table)) {
                pinti_put_job(array, &list.jobs[i]);
            }
        }
        pinti_out_json(array);
    } else {
        print_jobs(&list, table);
    }
    pinti_job_list_done(&list);
    return PINTI_EXIT_OK;
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
        result = list_jobs(pool, table, pinti_args_has(args, "json"));
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {{'j', "json", NULL, "print JSON"}};

const pinti_cli_command pinti_cmd_jobs = {
    .name = "jobs",
    .operands = "[TABLE]",
    .summary = "show how far the jobs of all tables, or of one, have come",
    .details = "HELD: taken by a worker now. REDONE: times a chunk was handed out again after a\n"
               "death or a failure. FAILED: given up after three; why is printed below.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .max_operands = 1,
    .run = run,
};
