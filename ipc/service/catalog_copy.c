/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices and device copies in the catalog.
 *
 *   FREE -> BUILDING   the record, its sync block, its bytes counted; its memory is being asked for
 *        -> LIVE       the memory is there; the column's xcopy[device] names the record
 *        -> CLOSING    to be dropped or evicted, unless somebody needs it: then LIVE again
 *        -> DYING      dropped, evicted, its broker dead, or never made
 *        -> FREE       no slot refers to it
 *
 * CLOSING lasts no longer than one function of the service. A crash in it leaves a record that
 * rebuild makes LIVE. A crash in BUILDING leaves one that rebuild makes DYING, so that whoever may
 * have made the memory is told to give it back. The name in the column is stored after LIVE and
 * taken away before DYING; rebuild puts it right.
 *
 * At most one record that is not FREE exists for a (column, device): the device's bit in chunk
 * words means that copy. So a dropped copy that somebody still has open is in the way of a new one.
 *
 * A dropped table keeps its copies: who has both open goes on using them. It is freed after them.
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "host/error.h"
#include "ipc/service/catalog_internal.h"
#include "pintable/device.h"

#define ALIGN_VALUES     256u
#define CUDA_GRANULARITY (2ull << 20) /* of device allocations, on every GPU so far */

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

/* ---- devices --------------------------------------------------------------------------------- */

bool pinti_cat_has_device(const pinti_cat *cat, uint32_t device)
{
    return device < PINTI_DEVICES_MAX &&
           pinti_load32_relaxed(&pinti_cat_devices(cat->catalog)[device].xis_there) != 0;
}

pint_status pinti_cat_device_open(pinti_cat *cat, const pinti_device_ask *ask, uint32_t *out_device,
                                  pint_error *err)
{
    pinti_device_rec *devices = pinti_cat_devices(cat->catalog);
    uint32_t free_at = PINTI_DEVICES_MAX;
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX; i++) {
        if (!pinti_cat_has_device(cat, i)) {
            free_at = i;
            break; /* they are never given up */
        }
        if (memcmp(devices[i].uuid, ask->uuid, sizeof(ask->uuid)) == 0) {
            if ((devices[i].is_cuda != 0) != ask->is_cuda) {
                return pinti_fail(err, PINT_E_INVALID, 0,
                                  "device.open: this UUID is known as %s device",
                                  devices[i].is_cuda != 0 ? "a CUDA" : "the host");
            }
            *out_device = i;
            return PINT_OK;
        }
    }
    if (!ask->may_make) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "device.open: a read-only session cannot add a device");
    }
    if (free_at == PINTI_DEVICES_MAX) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "device.open: the pool knows %u devices already",
                          PINTI_DEVICES_MAX);
    }
    pinti_device_rec *rec = &devices[free_at];
    rec->is_cuda = ask->is_cuda ? 1 : 0;
    memcpy(rec->uuid, ask->uuid, sizeof(rec->uuid));
    memcpy(rec->name, ask->name, sizeof(rec->name));
    rec->name[sizeof(rec->name) - 1] = '\0';
    rec->budget_bytes = ask->budget_bytes;
    /* Publishes the record; pairs with the acquire loads of its readers. */
    pinti_store32_release(&rec->xis_there, 1);
    *out_device = free_at;
    return PINT_OK;
}

uint64_t pinti_cat_device_bytes(const pinti_cat *cat, uint32_t device)
{
    return cat->device_bytes[device];
}

static bool is_cuda(const pinti_cat *cat, uint32_t device)
{
    return pinti_cat_devices(cat->catalog)[device].is_cuda != 0;
}

/* ---- finding --------------------------------------------------------------------------------- */

bool pinti_cat_has_copy(const pinti_cat *cat, uint32_t copy, uint32_t generation)
{
    if (copy >= PINTI_COPIES_MAX) {
        return false;
    }
    const uint64_t gen_state = pinti_load64_relaxed(&cat->copies[copy].xgen_state);
    return pinti_gen_of(gen_state) == generation && pinti_state_of(gen_state) != PINTI_FREE;
}

uint32_t pinti_cat_n_copies(const pinti_cat *cat)
{
    const uint32_t n = pinti_load32_relaxed(&cat->header->xn_copies); /* own earlier store */
    return n > PINTI_COPIES_MAX ? PINTI_COPIES_MAX : n;
}

pinti_column_rec *pinti_cat_copy_column(const pinti_cat *cat, const pinti_copy_rec *rec)
{
    return pinti_cat_has_table(cat, rec->table, rec->table_generation)
               ? pinti_cat_column(cat->catalog, &cat->tables[rec->table], rec->column)
               : NULL;
}

bool pinti_cat_copy_find(const pinti_cat *cat, const pinti_copy_ask *ask, uint32_t *out_copy)
{
    if (cat->table_info[ask->table].n_copies == 0) {
        return false;
    }
    const uint32_t n = pinti_cat_n_copies(cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = &cat->copies[i];
        if (pinti_cat_state(&rec->xgen_state) != PINTI_FREE && rec->table == ask->table &&
            rec->table_generation == ask->generation && rec->column == ask->column &&
            rec->device == ask->device) {
            *out_copy = i;
            return true;
        }
    }
    return false;
}

/* ---- making ---------------------------------------------------------------------------------- */

typedef struct copy_shape {
    uint64_t values_bytes;
    uint64_t validity_off;
    uint64_t validity_bytes;
    uint64_t bytes;
    uint64_t sync_bytes;
} copy_shape;

pint_status pinti_cat_copy_check(const pinti_cat *cat, const pinti_copy_ask *ask, pint_error *err)
{
    char text[100];
    if (!pinti_cat_has_device(cat, ask->device)) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0, "copy.open: the pool knows no device %" PRIu32,
                          ask->device);
    }
    if (!pinti_cat_has_table(cat, ask->table, ask->generation) ||
        pinti_cat_state(&cat->tables[ask->table].xgen_state) == PINTI_DYING) {
        return pinti_fail(err, PINT_E_DROPPED, 0,
                          "copy.open: table %" PRIu32 ", generation %" PRIu32 ", is gone",
                          ask->table, ask->generation);
    }
    const pinti_table_rec *table = &cat->tables[ask->table];
    if (pinti_cat_state(&table->xgen_state) == PINTI_BUILDING &&
        table->creator_session != ask->session) {
        return pinti_fail(err, PINT_E_STATE, 0, "copy.open: the table is not published");
    }
    const pinti_column_rec *column = pinti_cat_column(cat->catalog, table, ask->column);
    if (column == NULL) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0,
                          "copy.open: column %" PRIu32 " of a table with %" PRIu32 " columns",
                          ask->column, pinti_load32_relaxed(&table->xn_columns));
    }
    if (column->values_off == PINTI_NO_BUFFER || column->type == PINT_TEXT) {
        return pinti_fail(
            err, PINT_E_TYPE, 0, "copy.open: column '%s': text has no device copies",
            pinti_printable(text, sizeof(text), (const char *)column->name, column->name_bytes));
    }
    if (ask->kind != PINT_COPY_VMM && ask->kind != PINT_COPY_IPC) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy.open: no kind of copy has number %" PRIu32,
                          ask->kind);
    }
    if (ask->kind == PINT_COPY_IPC && !is_cuda(cat, ask->device)) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "copy.open: host memory is shared by descriptor only");
    }
    return PINT_OK;
}

/* Of a column that was checked: its buffers exist in host memory, so no size overflows. */
static copy_shape shape_copy(const pinti_cat *cat, const pinti_copy_ask *ask)
{
    const pinti_table_rec *table = &cat->tables[ask->table];
    const pinti_column_rec *column = pinti_cat_column(cat->catalog, table, ask->column);
    const uint64_t bits_bytes = (table->row_capacity + 7) / 8;
    copy_shape shape = {.validity_off = PINTI_NO_BUFFER};
    shape.values_bytes =
        column->row_bytes == 0 ? bits_bytes : table->row_capacity * column->row_bytes;
    shape.bytes = round_up(shape.values_bytes, ALIGN_VALUES);
    if (column->validity_off != PINTI_NO_BUFFER) {
        shape.validity_off = shape.bytes;
        shape.validity_bytes = bits_bytes;
        shape.bytes += bits_bytes;
    }
    shape.bytes = round_up(shape.bytes == 0 ? 1 : shape.bytes,
                           is_cuda(cat, ask->device) ? CUDA_GRANULARITY : PINTI_PAGE_BYTES);
    shape.sync_bytes = round_up(
        sizeof(pinti_copy_sync) + table->n_chunks * sizeof(pinti_copy_chunk), PINTI_CACHE_LINE);
    return shape;
}

uint64_t pinti_cat_copy_sync_bytes(const pinti_cat *cat, const pinti_copy_ask *ask)
{
    return shape_copy(cat, ask).sync_bytes;
}

uint64_t pinti_cat_copy_bytes(const pinti_cat *cat, const pinti_copy_ask *ask)
{
    return shape_copy(cat, ask).bytes;
}

static void fill_copy(pinti_cat *cat, uint32_t index, const pinti_copy_ask *ask,
                      const copy_shape *shape, const pinti_range *sync)
{
    pinti_copy_rec *rec = &cat->copies[index];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    rec->id = ++cat->header->next_copy_id;
    rec->table = ask->table;
    rec->table_generation = ask->generation;
    rec->column = ask->column;
    rec->device = ask->device;
    rec->kind = ask->kind;
    rec->n_chunks = cat->tables[ask->table].n_chunks;
    rec->bytes = shape->bytes;
    rec->values_off = 0;
    rec->values_bytes = shape->values_bytes;
    rec->validity_off = shape->validity_off;
    rec->validity_bytes = shape->validity_bytes;
    rec->sync_off = sync->off;
    rec->sync_bytes = sync->bytes;
    rec->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    rec->broker = 0;
    rec->uid = ask->uid;
    memset(rec->ipc, 0, sizeof(rec->ipc));
}

/* From now on its bytes are counted. */
static void count_copy(pinti_cat *cat, uint32_t copy)
{
    const pinti_copy_rec *rec = &cat->copies[copy];
    cat->table_info[rec->table].n_copies++;
    cat->copy_info[copy].has_memory = true;
    cat->device_bytes[rec->device] += rec->bytes;
}

pint_status pinti_cat_copy_create(pinti_cat *cat, const pinti_copy_ask *ask,
                                  const pinti_range *sync, uint32_t *out_copy, pint_error *err)
{
    const copy_shape shape = shape_copy(cat, ask);
    uint32_t index = 0;
    if (sync->bytes < shape.sync_bytes) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy.open: the memory is too short");
    }
    if (!pinti_cat_take_number(&cat->free_copies, 1, &index)) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "copy.open: %u device copies are there already",
                          PINTI_COPIES_MAX);
    }
    if (!is_cuda(cat, ask->device)) {
        const pint_status status =
            pinti_memory_take_outside(cat->memory, ask->uid, shape.bytes, err);
        if (status != PINT_OK) {
            (void)pinti_ranges_add(&cat->free_copies, index, 1);
            return status;
        }
    }
    pinti_copy_rec *rec = &cat->copies[index];
    const uint32_t generation = pinti_cat_next_generation(&rec->xgen_state);
    fill_copy(cat, index, ask, &shape, sync);
    if (index >= pinti_load32_relaxed(&cat->header->xn_copies)) {
        pinti_store32_release(&cat->header->xn_copies, index + 1);
    }
    /* Publishes all of the record; pairs with the acquire loads of whoever looks at it. */
    pinti_store64_release(&rec->xgen_state, (uint64_t)generation << 32 | PINTI_BUILDING);
    PINTI_CRASHPOINT(SERVICE_COPY_BUILDING);
    count_copy(cat, index);
    *out_copy = index;
    return PINT_OK;
}

static void name_copy(pinti_cat *cat, uint32_t copy, uint32_t name)
{
    const pinti_copy_rec *rec = &cat->copies[copy];
    pinti_column_rec *column = pinti_cat_copy_column(cat, rec);
    if (column != NULL) {
        /* release: the record is complete; pairs with pinti_copy_find() */
        pinti_store32_release(&column->xcopy[rec->device], name);
    }
}

void pinti_cat_copy_set_live(pinti_cat *cat, uint32_t copy, const uint8_t ipc[64], uint64_t broker)
{
    pinti_copy_rec *rec = &cat->copies[copy];
    if (ipc != NULL) {
        memcpy(rec->ipc, ipc, sizeof(rec->ipc));
        rec->broker = broker;
    }
    pinti_cat_set_state(&rec->xgen_state, PINTI_LIVE);
    PINTI_CRASHPOINT(SERVICE_COPY_LIVE);
    name_copy(cat, copy, copy + 1);
}

void pinti_cat_copy_close(pinti_cat *cat, uint32_t copy)
{
    /* Ordered before copiers, words, readers and slots are read; partner: who begins in the copy,
     * or opens it, makes his change, then reads the state. */
    pinti_cat_set_state(&cat->copies[copy].xgen_state, PINTI_CLOSING);
    PINTI_CRASHPOINT(SERVICE_COPY_CLOSING);
}

void pinti_cat_copy_reopen(pinti_cat *cat, uint32_t copy)
{
    pinti_cat_set_state(&cat->copies[copy].xgen_state, PINTI_LIVE);
    PINTI_CRASHPOINT(SERVICE_COPY_REOPENED);
}

void pinti_cat_copy_kill(pinti_cat *cat, uint32_t copy)
{
    pinti_copy_rec *rec = &cat->copies[copy];
    const uint32_t state = pinti_cat_state(&rec->xgen_state);
    if (state == PINTI_FREE || state == PINTI_DYING) {
        return;
    }
    name_copy(cat, copy, 0);
    /* Ordered before the slots are read; partner: open notes the slot, then reads the state. */
    pinti_cat_set_state(&rec->xgen_state, PINTI_DYING);
    cat->n_dying++;
    PINTI_CRASHPOINT(SERVICE_COPY_DYING);
}

/* ---- ending ---------------------------------------------------------------------------------- */

void pinti_cat_on_copy_free(pinti_cat *cat, void (*on_free)(void *ctx, uint32_t copy), void *ctx)
{
    cat->on_copy_free = on_free;
    cat->on_copy_free_ctx = ctx;
}

bool pinti_cat_copy_has_memory(const pinti_cat *cat, uint32_t copy)
{
    return cat->copy_info[copy].has_memory;
}

void pinti_cat_copy_released(pinti_cat *cat, uint32_t copy)
{
    const pinti_copy_rec *rec = &cat->copies[copy];
    if (!cat->copy_info[copy].has_memory) {
        return;
    }
    cat->copy_info[copy].has_memory = false;
    cat->device_bytes[rec->device] -= rec->bytes;
    if (!is_cuda(cat, rec->device)) {
        pinti_memory_give_outside(cat->memory, rec->uid, rec->bytes);
    }
}

static void free_copy(pinti_cat *cat, uint32_t copy)
{
    pinti_copy_rec *rec = &cat->copies[copy];
    const pinti_range sync = {.off = rec->sync_off, .bytes = rec->sync_bytes};
    const bool was_dying = pinti_cat_state(&rec->xgen_state) == PINTI_DYING;
    name_copy(cat, copy, 0);
    if (cat->on_copy_free != NULL) {
        cat->on_copy_free(cat->on_copy_free_ctx, copy);
    }
    pinti_cat_copy_released(cat, copy);
    pinti_cat_set_state(&rec->xgen_state, PINTI_FREE);
    PINTI_CRASHPOINT(SERVICE_COPY_FREE_HALF);
    pinti_memory_give(cat->memory, (pinti_range){0, 0}, sync, rec->uid);
    cat->table_info[rec->table].n_copies--;
    (void)pinti_ranges_add(&cat->free_copies, copy, 1);
    cat->n_dying -= was_dying ? 1 : 0;
}

uint32_t pinti_cat_reap_copies(pinti_cat *cat,
                               bool (*refers)(void *ctx, int kind, uint32_t index,
                                              uint32_t generation),
                               void *ctx)
{
    uint32_t n_freed = 0;
    const uint32_t n = pinti_cat_n_copies(cat);
    for (uint32_t i = 0; i < n; i++) {
        const pinti_copy_rec *rec = &cat->copies[i];
        const uint64_t gen_state = pinti_load64_relaxed(&rec->xgen_state);
        const uint32_t state = pinti_state_of(gen_state);
        const bool of_dropped = state == PINTI_LIVE &&
                                pinti_cat_state(&cat->tables[rec->table].xgen_state) == PINTI_DYING;
        if ((state == PINTI_DYING || of_dropped) &&
            !refers(ctx, PINTI_REF_COPY, i, pinti_gen_of(gen_state))) {
            if (of_dropped) {
                /* Somebody may be taking a reference just now: he looks at the state after. */
                pinti_cat_copy_kill(cat, i);
                if (refers(ctx, PINTI_REF_COPY, i, pinti_gen_of(gen_state))) {
                    continue;
                }
            }
            free_copy(cat, i);
            n_freed++;
        }
    }
    return n_freed;
}

/* ---- rebuild --------------------------------------------------------------------------------- */

static pint_status rebuild_copy(pinti_cat *cat, uint32_t index, pint_error *err)
{
    pinti_copy_rec *rec = &cat->copies[index];
    uint32_t state = pinti_cat_state(&rec->xgen_state);
    if (state == PINTI_FREE) {
        return PINT_OK;
    }
    if (pinti_cat_copy_column(cat, rec) == NULL || !pinti_cat_has_device(cat, rec->device) ||
        rec->n_chunks != cat->tables[rec->table].n_chunks ||
        rec->sync_bytes < sizeof(pinti_copy_sync) + rec->n_chunks * sizeof(pinti_copy_chunk) ||
        !pinti_ranges_has_all(&cat->free_copies, index, 1) ||
        !pinti_ranges_remove(&cat->free_copies, index, 1)) {
        return pinti_fail(err, PINT_E_CORRUPT, 0, "device copy %" PRIu32 " has no column or device",
                          index);
    }
    const pint_status status = pinti_memory_mark_used(
        cat->memory, true, (pinti_range){.off = rec->sync_off, .bytes = rec->sync_bytes}, rec->uid,
        err);
    if (status != PINT_OK) {
        return status;
    }
    if (!is_cuda(cat, rec->device) &&
        !pinti_memory_count_outside(cat->memory, rec->uid, rec->bytes)) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device copy %" PRIu32, index);
    }
    count_copy(cat, index);
    if (state == PINTI_CLOSING) {
        pinti_cat_copy_reopen(cat, index);
        state = PINTI_LIVE;
    }
    if (state == PINTI_BUILDING) {
        pinti_cat_copy_kill(cat, index); /* counts it */
    } else {
        name_copy(cat, index, state == PINTI_LIVE ? index + 1 : 0);
        cat->n_dying += state == PINTI_DYING ? 1 : 0;
    }
    return PINT_OK;
}

pint_status pinti_cat_rebuild_copies(pinti_cat *cat, pint_error *err)
{
    pint_status status = PINT_OK;
    const uint32_t n = pinti_cat_n_copies(cat);
    for (uint32_t i = 0; i < n && status == PINT_OK; i++) {
        status = rebuild_copy(cat, i, err);
    }
    return status;
}
