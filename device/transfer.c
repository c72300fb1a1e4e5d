/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Moving chunks between host and device: which bytes, joined to how large copies, and by which way.
 *
 * Host memory that is registered is copied directly, cut where one registration ends: no driver
 * copies across two. What cannot be registered goes through a ring of 16 slots of 4 MiB that can:
 *
 *   to the device  wait until the slot's last copy is done; store into it; enqueue; mark
 *   to the host    enqueue; mark; when the slot is needed again, or at the end: wait, store
 */

#include <stdlib.h>
#include <string.h>

#include "device/internal.h"
#include "host/error.h"

#define BATCH_PIECES 128u

/* One transfer under way. */
typedef struct transfer {
    pint_device *device;
    void *stream;
    bool to_device;
    bool is_registered;
    uint64_t bytes;
    pint_error *err;
    uint32_t n_pieces;
    pinti_piece pieces[BATCH_PIECES];
} transfer;

/* ---- direct ---------------------------------------------------------------------------------- */

static pint_status flush(transfer *t)
{
    if (t->n_pieces == 0) {
        return PINT_OK;
    }
    pinti_backend *backend = t->device->backend;
    const pint_status status =
        backend->ops->copy(backend, t->to_device, t->pieces, t->n_pieces, t->stream, t->err);
    t->n_pieces = 0;
    return status;
}

static pint_status add_direct(transfer *t, uint64_t address, char *host, uint64_t bytes)
{
    while (bytes > 0) {
        const uint64_t most = bytes < PINTI_RUN_BYTES ? bytes : PINTI_RUN_BYTES;
        const uint64_t span = pinti_pin_span(t->device, host, most);
        if (span == 0) {
            return pinti_fail(t->err, PINT_E_STATE, 0, "copy: host memory is not registered");
        }
        if (t->n_pieces == BATCH_PIECES) {
            const pint_status status = flush(t);
            if (status != PINT_OK) {
                return status;
            }
        }
        t->pieces[t->n_pieces++] = (pinti_piece){address, host, span};
        address += span;
        host += span;
        bytes -= span;
    }
    return PINT_OK;
}

/* ---- staged: require staging.lock ------------------------------------------------------------ */

/* Wait until a slot is free; what it brought goes to where it belongs. */
static pint_status slot_settle(pint_device *device, uint32_t i, pint_error *err)
{
    pinti_staging *staging = &device->staging;
    if (staging->slots[i].mark == NULL) {
        return PINT_OK;
    }
    const pinti_backend_ops *ops = device->backend->ops;
    const pint_status status = ops->mark_wait(device->backend, staging->slots[i].mark, err);
    ops->mark_free(device->backend, staging->slots[i].mark);
    staging->slots[i].mark = NULL;
    if (status == PINT_OK && staging->slots[i].to_host != NULL) {
        memcpy(staging->slots[i].to_host, staging->base + i * PINTI_STAGING_SLOT_BYTES,
               staging->slots[i].bytes);
    }
    return status;
}

static pint_status settle_all(pint_device *device, pint_error *err)
{
    pint_status status = PINT_OK;
    for (uint32_t n = 0; n < PINTI_STAGING_SLOTS; n++) {
        const uint32_t i = (device->staging.next + n) % PINTI_STAGING_SLOTS; /* oldest first */
        const pint_status one = slot_settle(device, i, status == PINT_OK ? err : NULL);
        status = status == PINT_OK ? one : status;
    }
    return status;
}

static pint_status add_staged(transfer *t, uint64_t address, char *host, uint64_t bytes)
{
    pinti_backend *backend = t->device->backend;
    pinti_staging *staging = &t->device->staging;
    while (bytes > 0) {
        const uint32_t i = staging->next;
        const uint64_t part = bytes < PINTI_STAGING_SLOT_BYTES ? bytes : PINTI_STAGING_SLOT_BYTES;
        char *slot = staging->base + i * PINTI_STAGING_SLOT_BYTES;
        pint_status status = slot_settle(t->device, i, t->err);
        if (status != PINT_OK) {
            return status;
        }
        if (t->to_device) {
            memcpy(slot, host, part);
        }
        const pinti_piece piece = {address, slot, part};
        status = backend->ops->copy(backend, t->to_device, &piece, 1, t->stream, t->err);
        if (status == PINT_OK) {
            status = backend->ops->mark(backend, t->stream, &staging->slots[i].mark, t->err);
            if (status != PINT_OK) { /* the slot may be in use: nothing says until when */
                (void)backend->ops->stream_wait(backend, t->stream, NULL);
            }
        }
        if (status != PINT_OK) {
            return status;
        }
        staging->slots[i].to_host = t->to_device ? NULL : host;
        staging->slots[i].bytes = part;
        staging->next = (i + 1) % PINTI_STAGING_SLOTS;
        address += part;
        host += part;
        bytes -= part;
    }
    return PINT_OK;
}

static pint_status staging_make(pint_device *device, pint_error *err)
{
    void *base = NULL;
    if (device->staging.base != NULL) {
        return PINT_OK;
    }
    const pint_status status =
        device->backend->ops->staging_alloc(device->backend, PINTI_STAGING_BYTES, &base, err);
    device->staging.base = base;
    return status;
}

void pinti_staging_done(pint_device *device)
{
    (void)pthread_mutex_lock(&device->staging.lock);
    if (device->staging.base != NULL) {
        (void)settle_all(device, NULL);
        device->backend->ops->staging_free(device->backend, device->staging.base,
                                           PINTI_STAGING_BYTES);
        device->staging.base = NULL;
    }
    (void)pthread_mutex_unlock(&device->staging.lock);
}

/* ---- which bytes ----------------------------------------------------------------------------- */

static pint_status add(transfer *t, uint64_t address, char *host, uint64_t bytes)
{
    t->bytes += bytes;
    return t->is_registered ? add_direct(t, address, host, bytes)
                            : add_staged(t, address, host, bytes);
}

/* Bytes of rows [0, n) of a buffer; row_bytes 0: bits. Chunks begin at multiples of 512 rows. */
static uint64_t bytes_of_rows(uint32_t row_bytes, uint64_t n)
{
    return row_bytes != 0 ? n * row_bytes : (n + 7) / 8;
}

/* Chunks [first, end) of one buffer. */
static pint_status add_buffer(transfer *t, const pinti_import *import, uint32_t row_bytes,
                              uint64_t off, char *host, uint32_t first, uint32_t end)
{
    const pinti_table_desc *table = import->desc.table;
    const uint64_t last_row = (uint64_t)end << table->chunk_shift;
    const uint64_t from = bytes_of_rows(row_bytes, (uint64_t)first << table->chunk_shift);
    const uint64_t to =
        bytes_of_rows(row_bytes, last_row < table->n_rows ? last_row : table->n_rows);
    return to > from ? add(t, import->address + off + from, host + from, to - from) : PINT_OK;
}

static pint_status add_run(transfer *t, const pinti_import *import, uint32_t first, uint32_t end)
{
    const pinti_column_desc *column = import->desc.column;
    const pinti_copy_rec *rec = import->desc.rec;
    pint_status status =
        add_buffer(t, import, column->row_bytes, rec->values_off, column->values, first, end);
    if (status == PINT_OK && column->validity != NULL) {
        status = add_buffer(t, import, 0, rec->validity_off, (char *)column->validity, first, end);
    }
    return status;
}

static pint_status add_chunks(transfer *t, const pinti_import *import, const uint32_t *chunks,
                              uint32_t n)
{
    pint_status status = PINT_OK;
    for (uint32_t i = 0; status == PINT_OK && i < n;) {
        const uint32_t first = i;
        while (++i < n && chunks[i] == chunks[i - 1] + 1) {
        }
        status = add_run(t, import, chunks[first], chunks[i - 1] + 1);
    }
    return status;
}

/* Register the column's memory if that has not been done. False: it cannot be. */
static bool is_registered(pinti_import *import)
{
    (void)pthread_mutex_lock(&import->pin_lock);
    if (import->set.n_pieces == 0 && !import->is_pin_refused) {
        const pint_status status =
            pinti_pin_column(import->device, import->desc.column,
                             import->desc.table->rec->row_capacity, &import->set, NULL);
        /* over the budget: there may be room later */
        import->is_pin_refused = status != PINT_OK && status != PINT_E_QUOTA;
    }
    const bool is_there = import->set.n_pieces > 0;
    (void)pthread_mutex_unlock(&import->pin_lock);
    return is_there;
}

pint_status pinti_transfer(pinti_import *import, bool to_device, const uint32_t *chunks, uint32_t n,
                           void *stream, uint64_t *out_bytes, pint_error *err)
{
    pint_device *device = import->device;
    transfer t;
    t.device = device;
    t.stream = stream;
    t.to_device = to_device;
    t.is_registered = is_registered(import);
    t.bytes = 0;
    t.err = err;
    t.n_pieces = 0;
    pint_status status;
    if (t.is_registered) {
        status = add_chunks(&t, import, chunks, n);
        if (status == PINT_OK) {
            status = flush(&t);
        }
    } else {
        (void)pthread_mutex_lock(&device->staging.lock);
        status = staging_make(device, err);
        if (status == PINT_OK) {
            status = add_chunks(&t, import, chunks, n);
            if (!to_device) {
                const pint_status settled = settle_all(device, status == PINT_OK ? err : NULL);
                status = status == PINT_OK ? settled : status;
            }
        }
        (void)pthread_mutex_unlock(&device->staging.lock);
    }
    *out_bytes = status == PINT_OK ? t.bytes : 0;
    return status;
}
