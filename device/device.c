/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Devices: found by name, one pint_device per (device, pool) and one backend per device in a
 * process, whoever opens it how often. Streams of the caller.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/internal.h"
#include "host/error.h"
#include "ipc/copies.h"

#if PINT_WITH_CUDA
#    define CUDA_OPS (&pinti_cuda_backend)
#else
#    define CUDA_OPS NULL
#endif

/* A backend and the devices that use it: one per pool. */
typedef struct backend_entry {
    struct backend_entry *next;
    pinti_backend *backend;
    uint64_t n_users;
} backend_entry;

static struct {
    pthread_mutex_t lock; /* for list work only: fork() and the opening of others wait for it */
    backend_entry *backends;
    pint_device *devices;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- fork ------------------------------------------------------------------------------------ */

static void before_fork(void)
{
    (void)pthread_mutex_lock(&registry.lock);
    pinti_watch_before_fork();
}

static void after_fork_in_parent(void)
{
    pinti_watch_after_fork(false);
    (void)pthread_mutex_unlock(&registry.lock);
}

/* What the parent had open is not usable here, nor may it be closed: it is forgotten. */
static void after_fork_in_child(void)
{
    for (pint_device *device = registry.devices; device != NULL; device = device->next) {
        pinti_pool_forget_hold(device->pool); /* nothing of it is registered here */
    }
    registry.backends = NULL;
    registry.devices = NULL;
    pinti_watch_after_fork(true);
    pinti_pins_forget();
    (void)pthread_mutex_unlock(&registry.lock);
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static int fork_errno;

static void watch_forks(void)
{
    fork_errno = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- backends -------------------------------------------------------------------------------- */

/* Requires registry.lock. */
static backend_entry **backend_link(const uint8_t uuid[16])
{
    backend_entry **link = &registry.backends;
    while (*link != NULL && memcmp((*link)->backend->uuid, uuid, 16) != 0) {
        link = &(*link)->next;
    }
    return link;
}

/* Enter it, counted, or count the one that is there: the same device by another name, for another
 * pool, or opened by a thread that was faster. Takes both arguments. */
static pinti_backend *backend_enter(pinti_backend *backend, backend_entry *entry)
{
    (void)pthread_mutex_lock(&registry.lock);
    backend_entry *there = *backend_link(backend->uuid);
    if (there != NULL) {
        there->n_users++;
    } else {
        *entry = (backend_entry){.next = registry.backends, .backend = backend, .n_users = 1};
        registry.backends = entry;
    }
    (void)pthread_mutex_unlock(&registry.lock);
    if (there == NULL) {
        return backend;
    }
    backend->ops->close(backend);
    free(entry);
    return there->backend; /* our count keeps it */
}

/* The backend of a name, counted. Names of one device differ; its UUID does not. May take seconds:
 * a driver is started. */
static pint_status backend_get(const char *name, pinti_backend **out_backend, pint_error *err)
{
    const bool is_cuda = strncmp(name, "cuda:", 5) == 0;
    if (!is_cuda && strcmp(name, "host") != 0) {
        char shown[80];
        return pinti_fail(err, PINT_E_NO_DEVICE, 0,
                          "device '%s': there are \"host\", \"cuda:NUMBER\" and \"cuda:UUID\"",
                          pinti_printable(shown, sizeof(shown), name, strnlen(name, 64)));
    }
    const pinti_backend_ops *ops = is_cuda ? CUDA_OPS : &pinti_host_backend;
    if (ops == NULL) {
        return pinti_fail(err, PINT_E_NO_DEVICE, 0,
                          "device '%s': this library was built without CUDA", name);
    }
    pinti_backend *backend = NULL;
    backend_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device: no memory");
    }
    const pint_status status = ops->open(is_cuda ? name + 5 : "", &backend, err);
    if (status != PINT_OK) {
        free(entry);
        return status;
    }
    *out_backend = backend_enter(backend, entry);
    return PINT_OK;
}

static void backend_put(pinti_backend *backend)
{
    (void)pthread_mutex_lock(&registry.lock);
    backend_entry **link = backend_link(backend->uuid);
    backend_entry *entry = *link;
    const bool is_last = --entry->n_users == 0;
    if (is_last) {
        *link = entry->next;
    }
    (void)pthread_mutex_unlock(&registry.lock);
    if (is_last) {
        backend->ops->close(backend);
        free(entry);
    }
}

/* ---- open and close -------------------------------------------------------------------------- */

/* What this process has, counted, or NULL. Requires registry.lock. */
static pint_device *device_find(const pint_pool *pool, const pinti_backend *backend)
{
    pint_device *device = registry.devices;
    while (device != NULL && (device->pool != pool || device->backend != backend)) {
        device = device->next;
    }
    if (device != NULL) {
        device->n_users++;
    }
    return device;
}

static pint_device *device_known(const pint_pool *pool, const pinti_backend *backend)
{
    (void)pthread_mutex_lock(&registry.lock);
    pint_device *device = device_find(pool, backend);
    (void)pthread_mutex_unlock(&registry.lock);
    return device;
}

/* The pool's number of a device. The service answers the same to all who ask. */
static pint_status ask_index(pint_pool *pool, const pinti_backend *backend, uint32_t *out_index,
                             pint_error *err)
{
    const pint_status status =
        pinti_request_device(pool, backend->uuid, backend->is_cuda, backend->name, out_index, err);
    return status != PINT_OK || *out_index < PINTI_DEVICES_MAX
               ? status
               : pinti_fail(err, PINT_E_PROTOCOL, 0, "device: the service says it has index %u",
                            *out_index);
}

static void device_free(pint_device *device)
{
    (void)pthread_mutex_destroy(&device->pins.lock);
    (void)pthread_mutex_destroy(&device->staging.lock);
    (void)pthread_mutex_destroy(&device->lock);
    free(device);
}

/* A device this process has not open in this pool yet, or had not a moment ago: NULL, no memory.
 * Takes the use of the backend on success. */
static pint_device *device_make(pint_pool *pool, pinti_backend *backend, uint32_t index)
{
    pint_device *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        return NULL;
    }
    device->n_users = 1;
    device->pool = pool;
    device->backend = backend;
    device->index = index;
    device->process = pinti_load64_relaxed(pinti_fork_word);
    (void)pthread_mutex_init(&device->lock, NULL);
    (void)pthread_mutex_init(&device->staging.lock, NULL);
    pinti_pins_init(&device->pins);
    (void)pthread_mutex_lock(&registry.lock);
    pint_device *there = device_find(pool, backend);
    if (there == NULL) {
        pinti_pool_hold(pool);
        pinti_watch_retain();
        device->next = registry.devices;
        registry.devices = device;
    }
    (void)pthread_mutex_unlock(&registry.lock);
    if (there != NULL) { /* another thread was faster */
        device_free(device);
        backend_put(backend);
        return there;
    }
    return device;
}

pint_status pint_device_open(pint_pool *pool, const char *name, pint_device **out_device,
                             pint_error *err)
{
    if (pool == NULL || name == NULL || out_device == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "device: NULL argument");
    }
    pint_status status = pinti_pool_enter(pool, err);
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_once(&fork_once, watch_forks);
    if (fork_errno != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, fork_errno, "device: cannot watch for fork()");
    }
    pinti_backend *backend = NULL;
    status = backend_get(name, &backend, err);
    if (status != PINT_OK) {
        return status;
    }
    pint_device *device = device_known(pool, backend);
    if (device != NULL) {
        backend_put(backend);
        *out_device = device;
        return PINT_OK;
    }
    uint32_t index;
    status = ask_index(pool, backend, &index, err);
    if (status == PINT_OK) {
        device = device_make(pool, backend, index);
        if (device != NULL) {
            *out_device = device;
            return PINT_OK;
        }
        status = pinti_fail(err, PINT_E_NO_MEMORY, 0, "device: no memory");
    }
    backend_put(backend);
    return status;
}

static bool is_of_this_process(const pint_device *device)
{
    /* relaxed: the word changes only by fork(), seen by the child's first thread */
    return device->process == pinti_load64_relaxed(pinti_fork_word);
}

pint_status pinti_device_enter(const pint_device *device, pint_error *err)
{
    if (!is_of_this_process(device)) {
        return pinti_fail(err, PINT_E_FORKED, 0,
                          "device '%s' was opened before fork(): open it again, in a process that "
                          "was started by exec if it is a GPU",
                          device->backend->name);
    }
    return pinti_pool_enter(device->pool, err);
}

pint_status pinti_device_check_process(uint64_t process, const char *operation, pint_error *err)
{
    /* relaxed: the word changes only by fork(), seen by the child's first thread */
    return process == pinti_load64_relaxed(pinti_fork_word)
               ? PINT_OK
               : pinti_fail(err, PINT_E_FORKED, 0, "%s: the copy was opened before fork()",
                            operation);
}

/* The last handle: nobody else can find the device any more. */
static void device_end(pint_device *device)
{
    pinti_backend *backend = device->backend;
    for (uint32_t i = 0; i < 2; i++) {
        if (device->copy_streams[i] != NULL) {
            (void)backend->ops->stream_wait(backend, device->copy_streams[i], NULL);
        }
    }
    /* Brackets that have ended are finished first: they are the last users of imports. */
    pinti_watch_drain(device);
    pinti_staging_done(device);
    pinti_pins_done(device);
    for (uint32_t i = 0; i < 2; i++) {
        if (device->copy_streams[i] != NULL) {
            backend->ops->stream_destroy(backend, device->copy_streams[i]);
        }
    }
    pinti_watch_release();
}

void pint_device_close(pint_device *device)
{
    if (device == NULL || !is_of_this_process(device)) {
        return; /* a forked child has nothing to give back: see R9 */
    }
    (void)pthread_mutex_lock(&registry.lock);
    const bool is_last = --device->n_users == 0;
    if (is_last) {
        pint_device **link = &registry.devices;
        while (*link != device) {
            link = &(*link)->next;
        }
        *link = device->next;
    }
    (void)pthread_mutex_unlock(&registry.lock);
    if (is_last) {
        pint_pool *pool = device->pool;
        pinti_backend *backend = device->backend;
        device_end(device);
        device_free(device);
        backend_put(backend);
        pinti_pool_let_go(pool); /* nothing of it is registered any more */
    }
}

void pinti_device_hold(pint_device *device)
{
    (void)pthread_mutex_lock(&registry.lock);
    device->n_users++;
    (void)pthread_mutex_unlock(&registry.lock);
}

pint_device *pinti_device_of_place(const pint_pool *pool, uint32_t index)
{
    (void)pthread_mutex_lock(&registry.lock);
    pint_device *device = registry.devices;
    while (device != NULL && (device->pool != pool || device->index != index)) {
        device = device->next;
    }
    if (device != NULL) {
        device->n_users++;
    }
    (void)pthread_mutex_unlock(&registry.lock);
    return device;
}

/* ---- facts ----------------------------------------------------------------------------------- */

#define INFO_BYTES_MIN offsetof(pint_device_info, driver_version) + sizeof(uint32_t)

pint_status pint_device_get_info(const pint_device *device, pint_device_info *info, pint_error *err)
{
    if (device == NULL || info == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "device: NULL argument");
    }
    const uint32_t struct_bytes = info->struct_bytes;
    if (struct_bytes < INFO_BYTES_MIN) {
        return pinti_fail(err, PINT_E_INVALID, 0, "device: pint_device_info of %u bytes",
                          struct_bytes);
    }
    pint_status status = pinti_device_enter(device, err);
    pint_device_info now = PINT_DEVICE_INFO_INIT;
    if (status == PINT_OK) {
        status = device->backend->ops->info(device->backend, &now, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    const pinti_backend *backend = device->backend;
    now.struct_bytes = struct_bytes;
    now.is_cuda = backend->is_cuda;
    memcpy(now.uuid, backend->uuid, sizeof(now.uuid));
    memcpy(now.name, backend->name, strnlen(backend->name, sizeof(backend->name) - 1));
    now.pinned_bytes = pinti_pins_bytes(device);
    now.budget_bytes = pinti_cat_devices(device->pool->catalog)[device->index].budget_bytes;
    memcpy(info, &now, struct_bytes < sizeof(now) ? struct_bytes : sizeof(now));
    return PINT_OK;
}

/* ---- streams --------------------------------------------------------------------------------- */

pint_status pint_stream_create(pint_device *device, void **out_stream, pint_error *err)
{
    if (device == NULL || out_stream == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "stream: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    return status == PINT_OK ? device->backend->ops->stream_create(device->backend, out_stream, err)
                             : status;
}

void pint_stream_destroy(pint_device *device, void *stream)
{
    if (device != NULL && stream != NULL && is_of_this_process(device)) {
        device->backend->ops->stream_destroy(device->backend, stream);
    }
}

pint_status pint_stream_wait(pint_device *device, void *stream, pint_error *err)
{
    if (device == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "stream: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    return status == PINT_OK ? device->backend->ops->stream_wait(device->backend, stream, err)
                             : status;
}

pint_status pint_stream_call(pint_device *device, void *stream, void (*function)(void *context),
                             void *context, pint_error *err)
{
    if (device == NULL || function == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "stream: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    return status == PINT_OK
               ? device->backend->ops->stream_call(device->backend, stream, function, context, err)
               : status;
}

pint_status pinti_device_copy_stream(pint_device *device, bool to_device, void **out_stream,
                                     pint_error *err)
{
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&device->lock);
    void **stream = &device->copy_streams[to_device];
    if (*stream == NULL) {
        status = device->backend->ops->stream_create(device->backend, stream, err);
    }
    *out_stream = *stream;
    (void)pthread_mutex_unlock(&device->lock);
    return status;
}
