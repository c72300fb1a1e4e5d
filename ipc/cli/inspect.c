/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading records that the service may take back at any moment, without a reference on them: copy
 * the record, check it, read what it points to, and look at the generation again. What was read is
 * shown only if the record is still the same one.
 */

#include "ipc/cli/inspect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host/catalog.h"
#include "host/error.h"
#include "host/word.h"
#include "ipc/cli/cli.h"

/* ---- chunks ---------------------------------------------------------------------------------- */

void pinti_inspect_chunks(const pint_column *column, uint64_t first, uint64_t n,
                          pinti_chunk_counts *out)
{
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t n_chunks = pint_table_chunks(column->table);
    *out = (pinti_chunk_counts){0};
    for (uint64_t chunk = first; chunk < n_chunks && chunk - first < n; chunk++) {
        /* relaxed: counts for people; no bytes are read because of them */
        const uint32_t state = pinti_chunk_state(pinti_load64_relaxed(&desc->words[chunk]));
        out->n_torn += state == PINTI_CHUNK_TORN || state == PINTI_CHUNK_HELD_TORN ||
                       state == PINTI_CHUNK_JOB_HELD_TORN;
        out->n_held += pinti_chunk_is_held(state);
        out->n_restoring += state == PINTI_CHUNK_RESTORE;
    }
}

/* ---- jobs ------------------------------------------------------------------------------------ */

/* Copy a job's record; false unless it is live. *out_gen_state: to be compared afterwards. */
static bool copy_record(const pinti_job_rec *rec, pinti_job_rec *out, uint64_t *out_gen_state)
{
    /* acquire: pairs with the release store of LIVE after the record was filled */
    *out_gen_state = pinti_load64_acquire(&rec->xgen_state);
    if (pinti_state_of(*out_gen_state) != PINTI_LIVE) {
        return false;
    }
    const pinti_a64 *from = (const pinti_a64 *)(const void *)rec;
    for (size_t i = 0; i < sizeof(*rec) / sizeof(uint64_t); i++) {
        /* acquire: keeps the second read of xgen_state after it */
        const uint64_t word = pinti_load64_acquire(&from[i]);
        memcpy((char *)out + i * sizeof(word), &word, sizeof(word));
    }
    return true;
}

static bool lies_inside(const pint_pool *pool, uint64_t off, uint64_t bytes)
{
    return off % sizeof(uint64_t) == 0 && off <= pool->sync_bytes &&
           bytes <= pool->sync_bytes - off;
}

static bool record_is_sound(const pint_pool *pool, const pinti_job_rec *job)
{
    return job->name_bytes <= PINTI_NAME_BYTES_MAX && job->table < PINTI_TABLES_MAX &&
           job->n_chunks <= PINTI_CHUNKS_MAX &&
           lies_inside(pool, job->words_off, job->n_chunks * sizeof(uint64_t)) &&
           lies_inside(pool, job->sync_off, sizeof(pinti_job_sync)) &&
           lies_inside(pool, job->fails_off, PINTI_FAIL_TEXTS * sizeof(pinti_fail_text));
}

/* The live table of a job. */
static bool read_table_name(const pint_pool *pool, const pinti_job_rec *job, char *out)
{
    const pinti_table_rec *table = &pinti_cat_tables(pool->catalog)[job->table];
    const uint64_t gen_state = pinti_load64_acquire(&table->xgen_state);
    for (unsigned tries = 0; tries < 64; tries++) {
        if (pinti_catalog_read_name(table, out)) {
            return pinti_gen_of(gen_state) == job->table_generation &&
                   pinti_state_of(gen_state) == PINTI_LIVE &&
                   pinti_load64_acquire(&table->xgen_state) == gen_state;
        }
    }
    return false;
}

static void count_chunks(const pinti_a64 *words, pinti_job_info *info)
{
    for (uint64_t chunk = 0; chunk < info->n_chunks; chunk++) {
        const uint64_t word = pinti_load64_acquire(&words[chunk]);
        info->n_done += pinti_job_state(word) == PINTI_JOB_DONE;
        info->n_failed += pinti_job_state(word) == PINTI_JOB_FAILED;
        info->n_held += pinti_job_holder(word) != 0;
    }
}

/* Texts of failures whose chunk has failed for good; the newest of a chunk comes last. */
static void read_failures(const pinti_fail_text *fails, const pinti_a64 *words,
                          pinti_job_info *info)
{
    if (info->n_failed == 0) {
        return;
    }
    info->failures = pinti_cli_alloc(PINTI_FAIL_TEXTS, sizeof(*info->failures));
    for (uint32_t i = 0; i < PINTI_FAIL_TEXTS; i++) {
        /* acquire: pairs with the release after the text was written */
        const uint64_t chunk = pinti_load64_acquire(&fails[i].xchunk) - 1;
        if (chunk >= info->n_chunks ||
            pinti_job_state(pinti_load64_acquire(&words[chunk])) != PINTI_JOB_FAILED) {
            continue;
        }
        uint32_t at = 0;
        while (at < info->n_failures && info->failures[at].chunk != chunk) {
            at++;
        }
        pinti_failure *failure = &info->failures[at];
        failure->chunk = chunk;
        memcpy(failure->text, fails[i].text, PINTI_FAIL_TEXT_BYTES);
        failure->text[PINTI_FAIL_TEXT_BYTES] = '\0';
        info->n_failures += at == info->n_failures;
    }
}

/* One job. PINT_OK and *out_there false: there is none, or none any more. */
static pint_status read_job(pint_pool *pool, uint32_t index, pinti_job_info *out, bool *out_there,
                            pint_error *err)
{
    const pinti_job_rec *rec = &pinti_cat_jobs(pool->catalog)[index];
    pinti_job_rec job;
    uint64_t gen_state;
    *out_there = false;
    if (!copy_record(rec, &job, &gen_state) || job.name_bytes == 0) {
        return PINT_OK;
    }
    const bool is_sound = record_is_sound(pool, &job);
    if (pinti_load64_acquire(&rec->xgen_state) != gen_state) {
        return PINT_OK;
    }
    if (!is_sound) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "job %" PRIu32 ": its record cannot be", index);
    }
    pinti_job_info info = {.table_index = job.table,
                           .table_generation = job.table_generation,
                           .n_chunks = job.n_chunks,
                           .bytes = job.bytes,
                           .created_ns = job.created_ns};
    memcpy(info.name, job.name, PINTI_NAME_BYTES_MAX);
    info.name[job.name_bytes] = '\0';
    if (!read_table_name(pool, &job, info.table)) {
        return PINT_OK;
    }
    const pinti_a64 *words = (const pinti_a64 *)(const void *)(pool->sync + job.words_off);
    const pinti_job_sync *sync = (const pinti_job_sync *)(const void *)(pool->sync + job.sync_off);
    count_chunks(words, &info);
    info.n_redone = pinti_load64_acquire(&sync->xredone);
    read_failures((const pinti_fail_text *)(const void *)(pool->sync + job.fails_off), words,
                  &info);
    if (pinti_load64_acquire(&rec->xgen_state) != gen_state) {
        free(info.failures);
        return PINT_OK;
    }
    *out = info;
    *out_there = true;
    return PINT_OK;
}

static int compare_jobs(const void *a, const void *b)
{
    const pinti_job_info *left = a;
    const pinti_job_info *right = b;
    const int order = strcmp(left->table, right->table);
    return order != 0 ? order : strcmp(left->name, right->name);
}

pint_status pinti_inspect_jobs(pint_pool *pool, pinti_job_list *out, pint_error *err)
{
    pinti_job_list list = {0};
    uint32_t room = 0;
    const uint32_t used = pinti_load32_acquire(&pool->header->xn_jobs);
    const uint32_t n = used < PINTI_JOBS_MAX ? used : PINTI_JOBS_MAX;
    for (uint32_t index = 0; index < n; index++) {
        if (list.n_jobs == room) {
            room = room == 0 ? 16 : room * 2;
            pinti_job_info *grown = reallocarray(list.jobs, room, sizeof(*grown));
            if (grown == NULL) {
                pinti_cli_out_of_memory();
                return PINT_E_NO_MEMORY; /* not reached */
            }
            list.jobs = grown;
        }
        bool there;
        const pint_status status = read_job(pool, index, &list.jobs[list.n_jobs], &there, err);
        if (status != PINT_OK) {
            pinti_job_list_done(&list);
            return status;
        }
        list.n_jobs += there ? 1 : 0;
    }
    if (list.n_jobs > 1) {
        qsort(list.jobs, list.n_jobs, sizeof(*list.jobs), compare_jobs);
    }
    *out = list;
    return PINT_OK;
}

void pinti_job_list_done(pinti_job_list *list)
{
    for (uint32_t i = 0; i < list->n_jobs; i++) {
        free(list->jobs[i].failures);
    }
    free(list->jobs);
    *list = (pinti_job_list){0};
}

uint32_t pinti_job_list_count(const pinti_job_list *list, const pint_table *table)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n_jobs; i++) {
        n += list->jobs[i].table_index == pinti_table_index(table) &&
             list->jobs[i].table_generation == pinti_table_generation(table);
    }
    return n;
}
