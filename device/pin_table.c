/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is pinned: which memory a table and a column have, tables pinned by the caller, and the
 * address at which kernels see a column's host memory.
 */

#include <stdlib.h>

#include "device/pin.h"
#include "host/error.h"

/* ---- what is to be pinned -------------------------------------------------------------------- */

typedef struct runs {
    pinti_slab_run *at; /* room for 5 per column */
    uint32_t n;
} runs;

static void add_buffer(const pint_pool *pool, const void *buffer, uint64_t bytes, runs *out)
{
    if (buffer == NULL || bytes == 0) {
        return;
    }
    const uint64_t off = (uint64_t)((const char *)buffer - pool->data);
    out->at[out->n++] = (pinti_slab_run){
        .first = (uint32_t)(off / PINTI_SLAB_BYTES),
        .end = (uint32_t)((off + bytes - 1) / PINTI_SLAB_BYTES + 1),
    };
}

static void add_column(const pint_pool *pool, const pinti_column_desc *column, uint64_t rows,
                       runs *out)
{
    const uint64_t bits_bytes = (rows + 7) / 8;
    add_buffer(pool, column->values, column->row_bytes != 0 ? rows * column->row_bytes : bits_bytes,
               out);
    add_buffer(pool, column->validity, bits_bytes, out);
    add_buffer(pool, column->offsets, (rows + 1) * 8, out);
    add_buffer(pool, column->data, column->data_bytes, out);
    add_buffer(pool, column->dict_offsets, (column->n_categories + 1) * 8, out);
}

static int by_first(const void *a, const void *b)
{
    const pinti_slab_run *left = a;
    const pinti_slab_run *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* Ascending, joined where they touch. Buffers of one table lie close together. */
static void join_runs(runs *out)
{
    qsort(out->at, out->n, sizeof(*out->at), by_first);
    uint32_t n = 0;
    for (uint32_t i = 0; i < out->n; i++) {
        if (n > 0 && out->at[i].first <= out->at[n - 1].end) {
            if (out->at[i].end > out->at[n - 1].end) {
                out->at[n - 1].end = out->at[i].end;
            }
        } else {
            out->at[n++] = out->at[i];
        }
    }
    out->n = n;
}

/* Register all runs, or none. Requires pins.lock. */
static pint_status set_make(pint_device *device, runs *wanted, pint_pin_progress call,
                            void *context, pinti_pin_set *set, pint_error *err)
{
    pinti_pin_told told = {.call = call, .context = context};
    pint_status status = PINT_OK;
    join_runs(wanted);
    for (uint32_t i = 0; i < wanted->n; i++) {
        told.all_bytes += (wanted->at[i].end - wanted->at[i].first) * PINTI_SLAB_BYTES;
    }
    for (uint32_t i = 0; status == PINT_OK && i < wanted->n; i++) {
        status = pinti_pin_set_add(device, set, wanted->at[i], &told, err);
    }
    if (status != PINT_OK) {
        pinti_pin_set_drop(device, set);
    }
    return status;
}

pint_status pinti_pin_column(pint_device *device, const pinti_column_desc *column,
                             uint64_t row_capacity, pinti_pin_set *set, pint_error *err)
{
    pinti_slab_run room[5];
    runs wanted = {.at = room};
    add_column(device->pool, column, row_capacity, &wanted);
    (void)pthread_mutex_lock(&device->pins.lock);
    const pint_status status = set_make(device, &wanted, NULL, NULL, set, err);
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Of a table as it is now: columns that are added later are not in it. Requires pins.lock. */
static pint_status pin_all_columns(pint_device *device, const pint_table *table,
                                   pint_pin_progress call, void *context, pinti_pin_set *set,
                                   pint_error *err)
{
    const uint32_t n_columns = pint_table_columns(table);
    runs wanted = {.at = calloc((size_t)n_columns * 5 + 1, sizeof(pinti_slab_run))};
    if (wanted.at == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    for (uint32_t i = 0; i < n_columns; i++) {
        add_column(device->pool, pinti_column_desc_at(table->desc, i),
                   table->desc->rec->row_capacity, &wanted);
    }
    const pint_status status = set_make(device, &wanted, call, context, set, err);
    free(wanted.at);
    return status;
}

static pinti_pinned_table **link_of(pint_device *device, const pint_table *table)
{
    pinti_pinned_table **link = &device->pins.tables;
    while (*link != NULL && (*link)->table->desc != table->desc) {
        link = &(*link)->next;
    }
    return link;
}

/* Requires pins.lock. */
static pint_status pin_table(pint_device *device, pint_table *table, pint_pin_progress call,
                             void *context, pinti_pinned_table **out_pinned, pint_error *err)
{
    pinti_pinned_table *pinned = *link_of(device, table);
    if (pinned != NULL) {
        pinned->n_pins++;
        *out_pinned = pinned;
        return PINT_OK;
    }
    pinned = calloc(1, sizeof(*pinned));
    if (pinned == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    const pint_status status = pin_all_columns(device, table, call, context, &pinned->set, err);
    if (status != PINT_OK) {
        free(pinned);
        return status;
    }
    pinti_table_hold(table);
    pinned->table = table;
    pinned->n_pins = 1;
    pinned->next = device->pins.tables;
    device->pins.tables = pinned;
    *out_pinned = pinned;
    return PINT_OK;
}

static void unpin_table(pint_device *device, pinti_pinned_table **link)
{
    pinti_pinned_table *pinned = *link;
    *link = pinned->next;
    pinti_pin_set_drop(device, &pinned->set);
    pint_table_close(pinned->table);
    free(pinned);
}

static pint_status check(const pint_device *device, const pint_table *table, pint_error *err)
{
    if (device == NULL || table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "pin: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    if (status == PINT_OK && table->desc->pool != device->pool) {
        return pinti_fail(err, PINT_E_INVALID, 0, "pin: the device was opened for another pool");
    }
    return status;
}

pint_status pint_device_pin(pint_device *device, pint_table *table, pint_pin_progress progress_call,
                            void *context, pint_error *err)
{
    pinti_pinned_table *pinned;
    pint_status status = check(device, table, err);
    if (status == PINT_OK) {
        (void)pthread_mutex_lock(&device->pins.lock);
        status = pin_table(device, table, progress_call, context, &pinned, err);
        (void)pthread_mutex_unlock(&device->pins.lock);
    }
    return status;
}

pint_status pint_device_unpin(pint_device *device, pint_table *table, pint_error *err)
{
    pint_status status = check(device, table, err);
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&device->pins.lock);
    pinti_pinned_table **link = link_of(device, table);
    const pinti_pinned_table *pinned = *link;
    if (pinned == NULL || pinned->n_pins <= (uint64_t)pinned->is_mapped) {
        status = pinti_fail(err, PINT_E_STATE, 0, "unpin: the table is not pinned");
    } else if (--(*link)->n_pins == 0) {
        unpin_table(device, link);
    }
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

/* A kernel follows one pointer through all of the values, which lie in several registrations when
 * they are large: the device must see these behind one another, as the host does. */
static pint_status map_values(pint_device *device, const pint_column *column, uint64_t *out_address,
                              pint_error *err)
{
    const pinti_backend_ops *ops = device->backend->ops;
    const pinti_table_desc *table = column->table->desc;
    char *values = column->values;
    const uint32_t row_bytes = pinti_column_desc_of(column)->row_bytes;
    const uint64_t rows = table->rec->row_capacity;
    const uint64_t bytes = row_bytes != 0 ? rows * row_bytes : (rows + 7) / 8;
    uint64_t first = 0;
    pint_status status = ops->mapped(device->backend, values, &first, err);
    uint64_t done = 0;
    while (status == PINT_OK && done < bytes) {
        uint64_t end;
        const uint64_t span = pinti_pin_span_locked(device, values + done, bytes - done);
        status = ops->mapped(device->backend, values + done, &end, err);
        if (status == PINT_OK && (span == 0 || end != first + done)) {
            status = pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                                "mapped: device '%s' does not see column '%s' in one piece",
                                device->backend->name, pint_column_name(column));
        }
        done += span;
    }
    *out_address = status == PINT_OK ? first : *out_address;
    return status;
}

pint_status pint_device_mapped(pint_device *device, const pint_column *column,
                               uint64_t *out_address, pint_error *err)
{
    if (column == NULL || column->table == NULL || out_address == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "mapped: NULL argument");
    }
    pint_status status = check(device, column->table, err);
    if (status == PINT_OK && column->values == NULL) {
        status = pinti_fail(err, PINT_E_TYPE, 0, "mapped: a text column has no values");
    }
    if (status != PINT_OK) {
        return status;
    }
    pinti_pinned_table *pinned;
    (void)pthread_mutex_lock(&device->pins.lock);
    status = pin_table(device, column->table, NULL, NULL, &pinned, err);
    if (status == PINT_OK) {
        status = map_values(device, column, out_address, err);
        if (status == PINT_OK && !pinned->is_mapped) {
            pinned->is_mapped = true;
        } else if (--pinned->n_pins == 0) { /* one is kept, however often it is asked for */
            unpin_table(device, link_of(device, column->table));
        }
    }
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

void pinti_pins_init(pinti_pins *pins)
{
    (void)pthread_mutex_init(&pins->lock, NULL);
}

void pinti_pins_done(pint_device *device)
{
    (void)pthread_mutex_lock(&device->pins.lock);
    while (device->pins.tables != NULL) {
        unpin_table(device, &device->pins.tables);
    }
    pinti_pin_pieces_drop(device);
    (void)pthread_mutex_unlock(&device->pins.lock);
}
