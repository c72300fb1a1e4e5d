/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pint_table_add_columns(): one request. After a lost connection it is repeated only if it has not
 * happened: the donor's record says where its columns went, and stands still while this session
 * refers to it.
 */

#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/table.h"
#include "host/word.h"
#include "host/writable_view.h"
#include "ipc/json.h"
#include "ipc/pool_ops.h"

typedef struct addition {
    const pinti_table_desc *table;
    const pinti_table_desc *from;
} addition;

static pint_status make_params(void *context, uint64_t request, unsigned part, char **out_params,
                               bool *out_more, pint_error *err)
{
    const addition *add = context;
    (void)request;
    (void)part;
    *out_more = false;
    *out_params = NULL;
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && pinti_json_add_u64(params, "table", add->table->index) &&
        pinti_json_add_u64(params, "generation", add->table->generation) &&
        pinti_json_add_u64(params, "from", add->from->index) &&
        pinti_json_add_u64(params, "from_generation", add->from->generation)) {
        *out_params = cJSON_PrintUnformatted(params);
    }
    cJSON_Delete(params);
    return *out_params != NULL
               ? PINT_OK
               : pinti_fail(err, PINT_E_NO_MEMORY, 0, "add columns: no memory for the request");
}

static bool is_moved(void *context)
{
    const addition *add = context;
    const pinti_table_rec *from = add->from->rec;
    /* acquire: pairs with the store of DYING, before which moved_to was stored */
    const uint64_t state = pinti_load64_acquire(&from->xgen_state);
    return pinti_gen_of(state) == add->from->generation && pinti_state_of(state) == PINTI_DYING &&
           from->moved_to == ((uint64_t)add->table->generation << 32 | (add->table->index + 1ull));
}

static uint32_t state_of(const pint_table *table)
{
    return pinti_state_of(pinti_load64_acquire(&table->desc->rec->xgen_state));
}

/* What can be said without asking; the service looks at all of it again. */
static pint_status check(const pint_table *table, const pint_table *from, pint_error *err)
{
    pint_pool *pool = table->desc->pool;
    pint_status status = pinti_pool_enter(pool, err);
    if (status == PINT_OK && from->desc->pool != pool) {
        status = pinti_fail(err, PINT_E_INVALID, 0, "add columns: tables of different pools");
    }
    if (status == PINT_OK && table->desc == from->desc) {
        status = pinti_fail(err, PINT_E_INVALID, 0, "add columns: of a table to itself");
    }
    if (status == PINT_OK && (pint_table_is_dropped(table) || pint_table_is_dropped(from))) {
        status = pinti_fail(err, PINT_E_DROPPED, 0, "add columns: the table was dropped");
    }
    if (status == PINT_OK) {
        status = pinti_table_check_write(table, "add columns", err);
    }
    if (status == PINT_OK && state_of(table) != PINTI_LIVE) {
        status = pinti_fail(err, PINT_E_STATE, 0, "add columns: the table is not published");
    }
    if (status == PINT_OK && state_of(from) != PINTI_BUILDING) {
        status = pinti_fail(err, PINT_E_STATE, 0, "add columns: of a table that is published");
    }
    /* relaxed: this thread's handle is counted in it */
    const uint64_t refs = pinti_load64_relaxed(&pinti_slot_tables(pool->slot)[from->desc->index]);
    if (status == PINT_OK && pinti_ref_count(refs) != 1) {
        status = pinti_fail(err, PINT_E_BUSY, 0,
                            "add columns: their table is open more than once; close its jobs");
    }
    return status;
}

pint_status pint_table_add_columns(pint_table *table, pint_table *from, pint_error *err)
{
    if (table == NULL || from == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "add columns: NULL argument");
    }
    pint_status status = check(table, from, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_text_finish(from);
    addition add = {.table = table->desc, .from = from->desc};
    const pinti_exchange exchange = {.method = "table.add_columns",
                                     .make = make_params,
                                     .took_effect = is_moved,
                                     .context = &add,
                                     .timeout_ms = PINTI_REQUEST_MS};
    status = pinti_client_call(pinti_client_of(table->desc->pool), &exchange, NULL, err);
    if (status == PINT_OK) {
        pinti_views_move(add.from, add.table);
        pint_table_close(from); /* it is DYING: nothing is discarded */
    }
    return status;
}
