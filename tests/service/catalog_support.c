/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/service/catalog_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/catalog.h"

#define DATA_BYTES   (4096 * PINTI_SLAB_BYTES)
#define SYNC_BYTES   (256ull << 20)
#define BUDGET_BYTES (DATA_BYTES / 2)

bool world_open(world *w)
{
    const uint64_t id[2] = {1, 2};
    memset(w, 0, sizeof(*w));
    /* private, so that a fork has a copy of its own */
    w->catalog = mmap(NULL, PINTI_CAT_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->catalog == MAP_FAILED) {
        return false;
    }
    pinti_cat_format(w->catalog, DATA_BYTES, SYNC_BYTES, BUDGET_BYTES, id);
    return world_restart(w, NULL) == PINT_OK;
}

void world_close(world *w)
{
    pinti_cat_free(w->cat);
    pinti_memory_free(w->memory);
    (void)munmap(w->catalog, PINTI_CAT_BYTES);
}

pint_status world_restart(world *w, pint_error *err)
{
    pinti_cat_free(w->cat);
    pinti_memory_free(w->memory);
    w->memory = pinti_memory_new(w->catalog, DATA_BYTES, SYNC_BYTES, BUDGET_BYTES);
    w->cat = w->memory == NULL ? NULL : pinti_cat_new(w->catalog, w->memory);
    return w->cat == NULL ? PINT_E_NO_MEMORY : pinti_cat_rebuild(w->cat, err);
}

bool world_schema(const char *name, uint64_t n_rows, const char *columns, pinti_schema *out_schema)
{
    char text[4096];
    char *rest = NULL;
    memset(out_schema, 0, sizeof(*out_schema));
    (void)snprintf(out_schema->name, sizeof(out_schema->name), "%s", name);
    out_schema->n_rows = n_rows;
    out_schema->columns = calloc(200, sizeof(*out_schema->columns));
    if (out_schema->columns == NULL) {
        return false;
    }
    out_schema->room = 200;
    (void)snprintf(text, sizeof(text), "%s", columns);
    for (char *field = strtok_r(text, " ", &rest); field != NULL;
         field = strtok_r(NULL, " ", &rest)) {
        struct pinti_schema_column *column = &out_schema->columns[out_schema->n_columns++];
        char *type = strchr(field, ':');
        *type++ = '\0';
        char *nullable = strchr(type, '?');
        if (nullable != NULL) {
            *nullable = '\0';
            column->flags = PINT_NULLABLE;
        }
        (void)snprintf(column->name, sizeof(column->name), "%s", field);
        column->type = pint_type_by_name(type);
        column->data_bytes = column->type == PINT_TEXT || column->type == PINT_DICT_TEXT ? 1000 : 0;
        column->unit = column->type == PINT_TIMESTAMP ? PINT_NANOSECOND : 0;
        column->width_bytes = column->type == PINT_BINARY_FIXED ? 12 : 0;
        column->list_length = column->type == PINT_LIST_FIXED ? 100 : 0;
        column->item_type = column->type == PINT_LIST_FIXED  ? PINT_FLOAT32
                            : column->type == PINT_DICT_TEXT ? PINT_INT16
                                                             : 0;
        column->n_categories = column->type == PINT_DICT_TEXT ? 100 : 0;
    }
    return true;
}

pint_status world_create(world *w, const char *name, uint64_t n_rows, const char *columns,
                         uint32_t flags, uint32_t *out_index, uint32_t *out_generation,
                         pint_error *err)
{
    pinti_schema schema;
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    if (!world_schema(name, n_rows, columns, &schema)) {
        return PINT_E_NO_MEMORY;
    }
    schema.flags = flags;
    const pinti_owner owner = {.session = WORLD_SESSION,
                               .request = ++w->request,
                               .family = WORLD_FAMILY,
                               .uid = WORLD_UID};
    pint_status status = pinti_cat_check_schema(&schema, err);
    if (status == PINT_OK) {
        status = pinti_cat_measure(&schema, &data_bytes, &sync_bytes, err);
    }
    if (status == PINT_OK) {
        status = pinti_memory_take(w->memory, data_bytes, sync_bytes, true, WORLD_UID, &data, &sync,
                                   &plan, err);
    }
    if (status == PINT_OK) {
        pinti_memory_prepared(w->memory, &plan, true);
        status =
            pinti_cat_create(w->cat, &schema, &owner, &data, &sync, out_index, out_generation, err);
        if (status != PINT_OK) {
            pinti_memory_give(w->memory, data, sync, WORLD_UID);
        }
    }
    free(schema.columns);
    return status;
}

bool world_publish(world *w, const char *name, uint32_t *out_index, uint32_t *out_generation)
{
    return world_create(w, name, 100, "a:int32", 0, out_index, out_generation, NULL) == PINT_OK &&
           pinti_cat_publish(w->cat, *out_index, *out_generation, true, NULL) == PINT_OK;
}

pint_status world_job(world *w, uint32_t table, uint32_t generation, const char *name,
                      const uint32_t *uses, uint32_t n_uses, uint32_t *out_job,
                      uint32_t *out_generation, pint_error *err)
{
    const pinti_owner owner = {.session = WORLD_SESSION, .family = WORLD_FAMILY, .uid = WORLD_UID};
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    pinti_range data;
    pinti_range sync;
    pinti_plan plan;
    pint_status status = pinti_cat_job_measure(w->cat, table, generation, uses, n_uses, 0,
                                               &data_bytes, &sync_bytes, err);
    if (status == PINT_OK) {
        status = pinti_memory_take(w->memory, data_bytes, sync_bytes, false, WORLD_UID, &data,
                                   &sync, &plan, err);
    }
    if (status == PINT_OK) {
        pinti_memory_prepared(w->memory, &plan, true);
        status = pinti_cat_job_create(w->cat, table, generation, name, uses, n_uses, 0, &owner,
                                      &data, &sync, out_job, out_generation, err);
        if (status != PINT_OK) {
            pinti_memory_give(w->memory, data, sync, WORLD_UID);
        }
    }
    return status;
}

uint32_t world_lookup(const world *w, const char *text)
{
    pinti_name name;
    uint32_t index = 0;
    uint64_t gen_state = 0;
    return pinti_name_set(&name, text) &&
                   pinti_catalog_lookup(w->catalog, &name, &index, &gen_state) == PINTI_LOOKUP_FOUND
               ? index + 1
               : 0;
}

bool nobody_refers(void *ctx, int kind, uint32_t index, uint32_t generation)
{
    (void)ctx;
    (void)kind;
    (void)index;
    (void)generation;
    return false;
}

bool everybody_refers(void *ctx, int kind, uint32_t index, uint32_t generation)
{
    (void)ctx;
    (void)kind;
    (void)index;
    (void)generation;
    return true;
}
