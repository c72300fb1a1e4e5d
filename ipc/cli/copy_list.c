/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Records are read as in inspect.c: copied, checked, and looked at again when all that they point
 * to was read. The sessions that have a copy open are in slots, which only the service sees.
 */

#include "ipc/cli/copy_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/catalog.h"
#include "host/word.h"
#include "ipc/cli/cli.h"
#include "ipc/cli/output.h"
#include "ipc/cli/request.h"
#include "ipc/pool_ops.h"
#include "pintable/device.h"

#define NAME_TRIES 64u

const char *pinti_copy_kind_name(uint32_t kind)
{
    return kind == PINT_COPY_IPC ? "ipc" : "vmm";
}

/* ---- one record ------------------------------------------------------------------------------ */

/* Table and column, and where the column's words are. False: there is no such table any more. */
static bool read_column(const pint_pool *pool, const pinti_copy_rec *rec, pinti_listed_copy *out)
{
    const pinti_table_rec *table = &pinti_cat_tables(pool->catalog)[rec->table % PINTI_TABLES_MAX];
    const uint64_t word = pinti_load64_acquire(&table->xgen_state);
    bool has_name = false;
    for (unsigned tries = 0; tries < NAME_TRIES && !has_name; tries++) {
        has_name = pinti_catalog_read_name(table, out->table);
    }
    const pinti_column_rec *column = pinti_cat_column(pool->catalog, table, rec->column);
    if (!has_name || column == NULL || column->name_bytes > PINTI_NAME_BYTES_MAX ||
        pinti_gen_of(word) != rec->table_generation || column->words_off % sizeof(uint64_t) != 0 ||
        column->words_off > pool->sync_bytes ||
        rec->n_chunks > (pool->sync_bytes - column->words_off) / sizeof(uint64_t)) {
        return false;
    }
    memcpy(out->column, column->name, column->name_bytes);
    out->column[column->name_bytes] = '\0';
    out->words = (const pinti_a64 *)(const void *)(pool->sync + column->words_off);
    out->is_orphan = pinti_state_of(word) == PINTI_DYING;
    return pinti_load64_acquire(&table->xgen_state) == word;
}

static void read_device(const pint_pool *pool, uint32_t device, pinti_listed_copy *out)
{
    const pinti_device_rec *rec = &pinti_cat_devices(pool->catalog)[device % PINTI_DEVICES_MAX];
    memcpy(out->device_name, rec->name, sizeof(rec->name));
    out->device_name[sizeof(rec->name) - 1] = '\0';
    for (size_t i = 0; i < sizeof(rec->uuid); i++) {
        (void)snprintf(out->uuid + 2 * i, 3, "%02x", rec->uuid[i]);
    }
}

/* Its place in the words is the copy's while it is not dropped. */
static void count_places(pinti_listed_copy *copy)
{
    const uint64_t bit = 2ull << copy->device;
    for (uint64_t i = 0; i < copy->n_chunks && copy->state != PINTI_DYING; i++) {
        /* relaxed: counts for people */
        const uint64_t places = pinti_chunk_places(pinti_load64_relaxed(&copy->words[i]));
        copy->n_current += (places & bit) != 0 ? 1 : 0;
        copy->n_alone += places == bit ? 1 : 0;
    }
}

bool pinti_listed_copy_is_torn(const pinti_listed_copy *copy, uint64_t chunk)
{
    const uint32_t state = pinti_chunk_state(pinti_load64_relaxed(&copy->words[chunk]));
    return state == PINTI_CHUNK_TORN || state == PINTI_CHUNK_HELD_TORN ||
           state == PINTI_CHUNK_JOB_HELD_TORN;
}

static bool fits(const pinti_copy_filter *filter, const pinti_listed_copy *copy)
{
    return (filter->table == NULL || strcmp(filter->table, copy->table) == 0) &&
           (filter->column == NULL || strcmp(filter->column, copy->column) == 0) &&
           (filter->uuid == NULL || strcmp(filter->uuid, copy->uuid) == 0);
}

static bool read_copy(const pint_pool *pool, uint32_t index, const pinti_copy_filter *filter,
                      pinti_listed_copy *out)
{
    const pinti_copy_rec *rec = &pinti_cat_copies(pool->catalog)[index];
    /* acquire: pairs with the release store after the record was filled */
    const uint64_t word = pinti_load64_acquire(&rec->xgen_state);
    const uint32_t state = pinti_state_of(word);
    if (state == PINTI_FREE || rec->device >= PINTI_DEVICES_MAX) {
        return false;
    }
    *out = (pinti_listed_copy){
        .index = index,
        .record_generation = pinti_gen_of(word),
        .device = rec->device,
        .kind = rec->kind,
        .state = state == PINTI_BUILDING || state == PINTI_DYING ? state : PINTI_LIVE,
        .generation = rec->id,
        .bytes = rec->bytes,
        .n_chunks = rec->n_chunks,
    };
    if (!read_column(pool, rec, out)) {
        return false;
    }
    read_device(pool, rec->device, out);
    if (!fits(filter, out)) {
        return false;
    }
    count_places(out);
    return pinti_gen_of(pinti_load64_acquire(&rec->xgen_state)) == out->record_generation;
}

/* ---- who has them open ----------------------------------------------------------------------- */

static void note_users(const cJSON *answer, pinti_copy_list *list)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(answer, "copies"))
    {
        const uint64_t index = pinti_answer_number(item, "copy");
        const uint64_t generation = pinti_answer_number(item, "generation");
        for (uint32_t i = 0; i < list->n_copies; i++) {
            pinti_listed_copy *copy = &list->copies[i];
            if (copy->index == index && copy->record_generation == generation) {
                copy->n_sessions = pinti_answer_number(item, "sessions");
            }
        }
    }
}

static pint_status ask_users(pint_pool *pool, pinti_copy_list *list, pint_error *err)
{
    uint64_t first = 0;
    pint_status status = PINT_OK;
    do {
        cJSON *answer = NULL;
        cJSON *params = pinti_new_object();
        pinti_put_u64(params, "first", first);
        status = pinti_client_request(pinti_client_of(pool), "copy.users", params, PINTI_REQUEST_MS,
                                      &answer, err);
        cJSON_Delete(params);
        note_users(answer, list);
        const uint64_t next = pinti_answer_number(answer, "next");
        first = next > first ? next : 0; /* positions only grow */
        cJSON_Delete(answer);
    } while (status == PINT_OK && first != 0);
    return status;
}

/* ---- the list -------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const pinti_listed_copy *left = a;
    const pinti_listed_copy *right = b;
    int order = strcmp(left->table, right->table);
    order = order != 0 ? order : strcmp(left->column, right->column);
    order = order != 0 ? order : (left->device > right->device) - (left->device < right->device);
    return order != 0
               ? order
               : (left->generation > right->generation) - (left->generation < right->generation);
}

pint_status pinti_copy_list_read(pint_pool *pool, const pinti_copy_filter *filter,
                                 pinti_copy_list *out, pint_error *err)
{
    *out = (pinti_copy_list){0};
    uint32_t room = 0;
    const uint32_t used = pinti_load32_acquire(&pool->header->xn_copies);
    const uint32_t n = used < PINTI_COPIES_MAX ? used : PINTI_COPIES_MAX;
    for (uint32_t index = 0; index < n; index++) {
        if (out->n_copies == room) {
            room = room == 0 ? 16 : room * 2;
            pinti_listed_copy *grown = reallocarray(out->copies, room, sizeof(*grown));
            if (grown == NULL) {
                pinti_cli_out_of_memory();
            }
            out->copies = grown;
        }
        out->n_copies += read_copy(pool, index, filter, &out->copies[out->n_copies]) ? 1 : 0;
    }
    if (out->n_copies > 1) {
        qsort(out->copies, out->n_copies, sizeof(*out->copies), compare);
    }
    return out->n_copies > 0 ? ask_users(pool, out, err) : PINT_OK;
}

void pinti_copy_list_done(pinti_copy_list *list)
{
    free(list->copies);
    *list = (pinti_copy_list){0};
}
