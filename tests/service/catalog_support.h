/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SERVICE_CATALOG_SUPPORT_H
#define TESTS_SERVICE_CATALOG_SUPPORT_H

/* A catalog with its writer, for tests: memory is only decided on, nothing is populated. */

#include "ipc/service/catalog.h"

#define WORLD_SESSION 77u
#define WORLD_FAMILY  7u
#define WORLD_UID     1000u

typedef struct world {
    void *catalog;
    pinti_memory *memory;
    pinti_cat *cat;
    uint64_t request; /* of the last create */
} world;

bool world_open(world *w);
void world_close(world *w);

/* Forget the process-local state and rebuild it, as the next incarnation does. */
pint_status world_restart(world *w, pint_error *err);

/* columns: "a:int32 b:text b8:bool?", ? is nullable; text has room for 1000 bytes, binary_fixed 12,
 * list_fixed 100 float32, dict_text 100 categories in int16. free() out_schema->columns. */
bool world_schema(const char *name, uint64_t n_rows, const char *columns, pinti_schema *out_schema);

/* Check, take memory, create. */
pint_status world_create(world *w, const char *name, uint64_t n_rows, const char *columns,
                         uint32_t flags, uint32_t *out_index, uint32_t *out_generation,
                         pint_error *err);

/* create and publish, with replace. False on any error. */
bool world_publish(world *w, const char *name, uint32_t *out_index, uint32_t *out_generation);

/* Measure, take memory, create a job. */
pint_status world_job(world *w, uint32_t table, uint32_t generation, const char *name,
                      const uint32_t *uses, uint32_t n_uses, uint32_t *out_job,
                      uint32_t *out_generation, pint_error *err);

/* As a reader of the catalog sees it: index + 1, or 0. */
uint32_t world_lookup(const world *w, const char *name);

bool nobody_refers(void *ctx, int kind, uint32_t index, uint32_t generation);
bool everybody_refers(void *ctx, int kind, uint32_t index, uint32_t generation);

#endif
