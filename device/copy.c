/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Device copies in this process: asked for by request, imported once, described and checked once,
 * shared by all handles, given back when neither a handle nor work on a stream needs them.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/internal.h"
#include "host/error.h"
#include "host/interrupt.h"
#include "ipc/copies.h"

#define DROP_MS       1000 /* for work that has ended and is just being noticed */
#define DROP_PAUSE_MS 2

/* ---- tables ---------------------------------------------------------------------------------- */

void pinti_table_hold(const pint_table *table)
{
    const pinti_table_desc *desc = table->desc;
    /* The caller's own reference is of this generation and stays meanwhile: it cannot fail. */
    (void)pinti_ref_take(pinti_slot_tables(desc->pool->slot), desc->index, desc->generation);
}

/* ---- imports --------------------------------------------------------------------------------- */

/* Requires device->lock. */
static pinti_import *import_find(const pint_device *device, uint32_t index, uint32_t generation)
{
    pinti_import *import = device->imports;
    while (import != NULL &&
           (import->desc.index != index || import->desc.generation != generation)) {
        import = import->next;
    }
    return import;
}

static size_t uses_bytes(const pinti_import *import)
{
    return ((size_t)import->desc.n_chunks + 1) * sizeof(pinti_chunk_use);
}

/* Map the copy's memory and take the session's place among its readers. */
static pint_status import_map(pinti_import *import, int fd, pint_error *err)
{
    const pinti_copy_rec *rec = import->desc.rec;
    pinti_backend *backend = import->device->backend;
    void *uses = mmap(NULL, uses_bytes(import), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (uses == MAP_FAILED) {
        return pinti_fail(err, PINT_E_NO_MEMORY, errno, "copy: %u chunks", import->desc.n_chunks);
    }
    import->uses = uses;
    pint_status status = backend->ops->import(backend, rec->kind, fd, rec->ipc, rec->bytes, true,
                                              &import->address, err);
    if (status == PINT_OK) {
        status = pinti_copy_slot_take(&import->desc, err);
        if (status != PINT_OK) {
            backend->ops->release(backend, rec->kind, import->address, rec->bytes);
        }
    }
    if (status != PINT_OK) {
        (void)munmap(uses, uses_bytes(import));
    }
    return status;
}

/* Of a copy that the session refers to. Takes the reference on success. Requires device->lock. */
static pint_status import_make(pint_device *device, const pint_column *column,
                               const pinti_opened_copy *opened, pinti_import **out_import,
                               pint_error *err)
{
    pinti_import *import = calloc(1, sizeof(*import));
    if (import == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "copy: no memory");
    }
    import->device = device;
    import->column = *column;
    pint_status status = pinti_copy_describe(device->pool, opened->index, opened->generation,
                                             column, &import->desc, err);
    if (status == PINT_OK && import->desc.device != device->index) {
        status = pinti_fail(err, PINT_E_CORRUPT, 0, "copy: record %u is of another device",
                            opened->index);
    }
    if (status == PINT_OK) {
        status = import_map(import, opened->fd, err);
    }
    if (status != PINT_OK) {
        free(import);
        return status;
    }
    import->table = column->table;
    pinti_table_hold(column->table);
    (void)pthread_mutex_init(&import->lock, NULL);
    (void)pthread_mutex_init(&import->pin_lock, NULL);
    import->next = device->imports;
    device->imports = import;
    *out_import = import;
    return PINT_OK;
}

void pinti_import_use(pinti_import *import)
{
    (void)pthread_mutex_lock(&import->device->lock);
    import->n_users++;
    (void)pthread_mutex_unlock(&import->device->lock);
}

/* Nobody needs it, and it is in no list. */
static void import_free(pinti_import *import)
{
    pint_device *device = import->device;
    pinti_backend *backend = device->backend;
    const pinti_copy_rec *rec = import->desc.rec;
    pinti_pin_set_release(device, &import->set);
    if (import->readable != 0) {
        backend->ops->release(backend, rec->kind, import->readable, rec->bytes);
    }
    backend->ops->release(backend, rec->kind, import->address, rec->bytes);
    pinti_copy_slot_give(&import->desc);
    /* Behind its last use (R9): from now on the service may free the memory. */
    pinti_copy_release(device->pool, import->desc.index, import->desc.generation);
    (void)munmap(import->uses, uses_bytes(import));
    pint_table_close(import->table);
    (void)pthread_mutex_destroy(&import->lock);
    (void)pthread_mutex_destroy(&import->pin_lock);
    free(import);
}

void pinti_import_drop(pinti_import *import)
{
    pint_device *device = import->device;
    (void)pthread_mutex_lock(&device->lock);
    const bool is_last = --import->n_users == 0;
    if (is_last) {
        pinti_import **link = &device->imports;
        while (*link != import) {
            link = &(*link)->next;
        }
        *link = import->next;
    }
    (void)pthread_mutex_unlock(&device->lock);
    if (is_last) {
        import_free(import);
    }
}

pinti_import *pinti_import_of_column(pint_device *device, const pinti_column_desc *column)
{
    (void)pthread_mutex_lock(&device->lock);
    pinti_import *import = device->imports;
    while (import != NULL &&
           (import->desc.column != column ||
            pinti_copy_is_dropped(device->pool, import->desc.index, import->desc.generation))) {
        import = import->next;
    }
    if (import != NULL) {
        import->n_users++;
    }
    (void)pthread_mutex_unlock(&device->lock);
    return import;
}

/* The one this process has already, counted; NULL: none, or it was dropped. */
static pinti_import *import_known(pint_device *device, const pint_column *column, uint32_t kind)
{
    uint32_t index;
    uint32_t generation;
    if (!pinti_copy_find(column, device->index, &index, &generation)) {
        return NULL;
    }
    (void)pthread_mutex_lock(&device->lock);
    pinti_import *import = import_find(device, index, generation);
    if (import != NULL &&
        (kind == 0 || kind == PINT_COPY_EXISTING || kind == import->desc.rec->kind)) {
        import->n_users++;
    } else {
        import = NULL;
    }
    (void)pthread_mutex_unlock(&device->lock);
    return import;
}

/* Ask the service, which makes the copy if there is none and that is wanted. */
static pint_status import_request(pint_device *device, const pint_column *column, uint32_t kind,
                                  pinti_import **out_import, pint_error *err)
{
    pinti_opened_copy opened;
    pint_status status =
        pinti_request_copy(column, device->index, kind != PINT_COPY_EXISTING ? kind : 0,
                           kind != PINT_COPY_EXISTING, &opened, err);
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&device->lock);
    pinti_import *import = import_find(device, opened.index, opened.generation);
    const bool is_new = import == NULL;
    if (is_new) {
        status = import_make(device, column, &opened, &import, err);
    }
    if (status == PINT_OK) {
        import->n_users++;
        *out_import = import;
    }
    (void)pthread_mutex_unlock(&device->lock);
    if (!is_new || status != PINT_OK) { /* another thread was faster: one reference is enough */
        pinti_copy_release(device->pool, opened.index, opened.generation);
    }
    if (opened.fd >= 0) {
        (void)close(opened.fd);
    }
    return status;
}

/* A descriptor of the copy's memory, once more; -1 where there is none. */
static pint_status import_fd(const pinti_import *import, int *out_fd, pint_error *err)
{
    pinti_opened_copy opened;
    const pint_status status = pinti_request_copy(&import->column, import->device->index,
                                                  import->desc.rec->kind, false, &opened, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_copy_release(import->device->pool, opened.index, opened.generation);
    if (opened.index != import->desc.index || opened.generation != import->desc.generation) {
        if (opened.fd >= 0) {
            (void)close(opened.fd);
        }
        return pinti_fail(err, PINT_E_DEVICE_LOST, 0, "copy: it was dropped");
    }
    *out_fd = opened.fd;
    return PINT_OK;
}

/* Those who only read get an address that cannot be written through, where the kind allows it. */
static pint_status make_readable(pinti_import *import, pint_error *err)
{
    const pinti_copy_rec *rec = import->desc.rec;
    pinti_backend *backend = import->device->backend;
    (void)pthread_mutex_lock(&import->lock);
    const bool is_there = import->readable != 0;
    (void)pthread_mutex_unlock(&import->lock);
    if (is_there || rec->kind != PINT_COPY_VMM) {
        return PINT_OK;
    }
    int fd = -1;
    uint64_t address = 0;
    pint_status status = import_fd(import, &fd, err);
    if (status == PINT_OK) {
        status = backend->ops->import(backend, rec->kind, fd, rec->ipc, rec->bytes, false, &address,
                                      err);
        (void)close(fd);
    }
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&import->lock);
    const bool is_surplus = import->readable != 0;
    if (!is_surplus) {
        import->readable = address;
    }
    (void)pthread_mutex_unlock(&import->lock);
    if (is_surplus) { /* another thread was faster */
        backend->ops->release(backend, rec->kind, address, rec->bytes);
    }
    return PINT_OK;
}

/* ---- handles --------------------------------------------------------------------------------- */

static pint_status check_open(const pint_device *device, const pint_column *column, uint32_t kind,
                              uint32_t access, pint_error *err)
{
    const pint_table *table = column->table;
    const pint_status status = pinti_device_enter(device, err);
    if (status != PINT_OK) {
        return status;
    }
    if (table->desc->pool != device->pool) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy: the device was opened for another pool");
    }
    if (kind > PINT_COPY_EXISTING) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy: kind %u", kind);
    }
    if (access == 0 || (access & ~(PINT_READ | PINT_WRITE)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy: access %u", access);
    }
    if (!device->pool->writable) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "copy: the pool was joined read-only");
    }
    if (column->type == PINT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "copy: text column '%s' has no device copy",
                          pint_column_name(column));
    }
    return (access & PINT_WRITE) != 0 ? pinti_table_check_write(table, "copy", err) : PINT_OK;
}

pint_status pint_copy_open(pint_device *device, const pint_column *column, uint32_t kind,
                           uint32_t access, pint_copy **out_copy, pint_error *err)
{
    if (device == NULL || column == NULL || column->table == NULL || out_copy == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "copy: NULL argument");
    }
    pint_status status = check_open(device, column, kind, access, err);
    if (status != PINT_OK) {
        return status;
    }
    pint_copy *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "copy: no memory");
    }
    copy->import = import_known(device, column, kind);
    if (copy->import == NULL) {
        status = import_request(device, column, kind, &copy->import, err);
    }
    if (status == PINT_OK && (access & PINT_WRITE) == 0) {
        status = make_readable(copy->import, err);
        if (status != PINT_OK) {
            pinti_import_drop(copy->import);
        }
    }
    if (status != PINT_OK) {
        free(copy);
        return status;
    }
    copy->access = (access & PINT_WRITE) != 0 ? PINT_READ | PINT_WRITE : PINT_READ;
    copy->process = device->process;
    pinti_device_hold(device);
    *out_copy = copy;
    return PINT_OK;
}

static bool is_of_this_process(const pint_copy *copy)
{
    return copy->process == pinti_load64_relaxed(pinti_fork_word); /* relaxed: see device.c */
}

void pint_copy_close(pint_copy *copy)
{
    if (copy == NULL) {
        return;
    }
    if (is_of_this_process(copy)) {
        pint_device *device = copy->import->device;
        pinti_brackets_abandon(copy);
        pinti_import_drop(copy->import);
        pint_device_close(device);
    }
    free(copy);
}

pint_status pinti_copy_enter(const pint_copy *copy, const char *operation, pint_error *err)
{
    if (copy == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "%s: NULL argument", operation);
    }
    pint_status status = pinti_device_check_process(copy->process, operation, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_import *import = copy->import;
    status = pinti_pool_enter(import->device->pool, err);
    if (status == PINT_OK &&
        pinti_copy_is_dropped(import->device->pool, import->desc.index, import->desc.generation)) {
        return pinti_fail(err, PINT_E_DEVICE_LOST, 0, "%s: the copy of column '%s' was dropped",
                          operation, import->desc.column->name);
    }
    return status;
}

static bool has_open_bracket(pinti_import *import)
{
    (void)pthread_mutex_lock(&import->lock);
    const bool is_open = import->brackets != NULL;
    (void)pthread_mutex_unlock(&import->lock);
    return is_open;
}

/* Bring what only this device has to the host, then ask. */
static pint_status drop_once(pint_copy *copy, const pinti_limit *limit, pint_error *err)
{
    pinti_import *import = copy->import;
    const uint32_t n = import->desc.n_chunks;
    uint64_t bytes = 0;
    /* brackets of this process that have ended are in the way until they are over */
    pint_status status = pinti_brackets_settle(import, 0, n, limit, "drop", err);
    if (status == PINT_OK) {
        status = pinti_push(import, 0, n, PINTI_PUSH_OWN, limit, &bytes, err);
        (void)pinti_add64_relaxed(&copy->to_host, bytes); /* relaxed: only a number */
    }
    return status == PINT_OK ? pinti_request_copy_drop(import->device->pool, import->desc.index,
                                                       import->desc.generation, err)
                             : status;
}

static bool never(void *context)
{
    (void)context;
    return false;
}

/* Another process works on the copy: let it get on. PINT_E_INTERRUPTED. */
static pint_status drop_pause(const pinti_table_desc *table, pint_error *err)
{
    const pint_status status =
        pinti_wait(table->pool, table->bell, never, NULL, DROP_PAUSE_MS, false, "drop", err);
    return status == PINT_E_TIMEOUT ? PINT_OK : status;
}

pint_status pint_copy_drop(pint_copy *copy, pint_error *err)
{
    pint_status status = pinti_copy_enter(copy, "drop", err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_limit limit = pinti_limit_start(DROP_MS);
    pint_error inner;
    for (;;) {
        if (has_open_bracket(copy->import)) {
            return pinti_fail(err, PINT_E_BUSY, 0, "drop: a bracket is open on the copy");
        }
        status = drop_once(copy, &limit, &inner);
        if ((status != PINT_E_BUSY && status != PINT_E_DEVICE_AHEAD) ||
            pinti_limit_left(&limit) == 0) {
            break;
        }
        /* what another process has just finished can be brought the next time */
        const pint_status paused = drop_pause(copy->import->desc.table, err);
        if (paused != PINT_OK) {
            return paused;
        }
    }
    if (status == PINT_E_TIMEOUT || status == PINT_E_DEVICE_AHEAD) {
        return pinti_fail(err, PINT_E_BUSY, 0, "%s", inner.message);
    }
    if (status != PINT_OK && err != NULL) {
        *err = inner;
    }
    return status;
}

pint_status pint_copy_discard(pint_device *device, const pint_column *column, pint_error *err)
{
    uint32_t index;
    uint32_t generation;
    if (device == NULL || column == NULL || column->table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "discard: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    if (status != PINT_OK) {
        return status;
    }
    if (column->table->desc->pool != device->pool) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "discard: the device was opened for another pool");
    }
    if ((column->table->mode & PINT_WRITE) == 0) { /* what is lost was the table's */
        return pinti_fail(err, PINT_E_PERMISSION, 0, "discard: the table was opened to read");
    }
    if (!pinti_copy_find(column, device->index, &index, &generation)) {
        return pinti_fail(err, PINT_E_NOT_FOUND, 0, "discard: column '%s' has no copy on '%s'",
                          pint_column_name(column), device->backend->name);
    }
    return pinti_request_copy_discard(device->pool, index, generation, err);
}

/* ---- facts ----------------------------------------------------------------------------------- */

static uint64_t address_of(const pint_copy *copy)
{
    const pinti_import *import = copy->import;
    const bool is_reader = (copy->access & PINT_WRITE) == 0;
    return is_reader && import->readable != 0 ? import->readable : import->address;
}

uint64_t pint_copy_values(const pint_copy *copy)
{
    return address_of(copy) + copy->import->desc.rec->values_off;
}

uint64_t pint_copy_validity(const pint_copy *copy)
{
    const uint64_t off = copy->import->desc.rec->validity_off;
    return off != PINTI_NO_BUFFER ? address_of(copy) + off : 0;
}

uint64_t pint_copy_bytes(const pint_copy *copy)
{
    return copy->import->desc.rec->bytes;
}

uint32_t pint_copy_kind(const pint_copy *copy)
{
    return copy->import->desc.rec->kind;
}

uint64_t pint_copy_generation(const pint_copy *copy)
{
    return copy->import->desc.rec->id;
}

uint32_t pint_copy_places(const pint_copy *copy, uint64_t chunk)
{
    const pinti_copy_desc *desc = &copy->import->desc;
    if (chunk >= desc->n_chunks) {
        return 0;
    }
    /* acquire: bytes of the places that it names are visible; pairs with the commits */
    const uint64_t word = pinti_load64_acquire(&desc->column->words[chunk]);
    if (pinti_chunk_state(word) == PINTI_CHUNK_TORN) {
        return 0;
    }
    const uint64_t places = pinti_chunk_places(word);
    return ((places & PINTI_PLACE_HOST) != 0 ? 1u : 0u) |
           ((places & pinti_place_bit(desc->device)) != 0 ? 2u : 0u);
}

void pint_copy_moved(const pint_copy *copy, uint64_t *out_to_device, uint64_t *out_to_host)
{
    if (out_to_device != NULL) {
        *out_to_device = pinti_load64_relaxed(&copy->to_device);
    }
    if (out_to_host != NULL) {
        *out_to_host = pinti_load64_relaxed(&copy->to_host);
    }
}

/* ---- export ---------------------------------------------------------------------------------- */

pint_status pint_copy_export(pint_copy *copy, pint_handle *out_handle, pint_error *err)
{
    if (copy == NULL || out_handle == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "export: NULL argument");
    }
    const uint32_t struct_bytes = out_handle->struct_bytes;
    if (struct_bytes < sizeof(pint_handle)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "export: pint_handle of %u bytes", struct_bytes);
    }
    pint_status status = pinti_copy_enter(copy, "export", err);
    const pinti_import *import = copy->import;
    int fd = -1;
    if (status == PINT_OK && pint_copy_kind(copy) == PINT_COPY_VMM) {
        status = import_fd(import, &fd, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const pinti_copy_rec *rec = import->desc.rec;
    pint_handle handle = PINT_HANDLE_INIT;
    handle.struct_bytes = struct_bytes;
    handle.kind = rec->kind;
    memcpy(handle.uuid, import->device->backend->uuid, sizeof(handle.uuid));
    handle.generation = rec->id;
    handle.bytes = rec->bytes;
    handle.values_off = rec->values_off;
    handle.validity_off = rec->validity_off; /* PINTI_NO_BUFFER is UINT64_MAX */
    handle.fd = fd;
    memcpy(handle.ipc, rec->ipc, sizeof(handle.ipc));
    *out_handle = handle;
    return PINT_OK;
}
