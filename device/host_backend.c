/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Backend "host": device memory is a memfd, a stream is a thread, a handle is a descriptor. It
 * keeps the rules of a real driver, so that code which works here does not fail there: copies are
 * made later, by another thread; only registered host memory is copied, and no copy crosses from
 * one registration into the next; registrations do not overlap.
 */

#include "device/host_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/host_stream.h"
#include "host/error.h"
#include "host/layout.h"

#ifndef F_GET_SEALS
#    define F_GET_SEALS   1034
#    define F_SEAL_SHRINK 0x0002
#endif

const uint8_t pinti_host_uuid[16] = "pintable host  \x01";

/* A registration, or staging memory, which is registered from the start. */
typedef struct region {
    struct region *next;
    const char *at;
    uint64_t bytes;
    bool is_staging;
} region;

typedef struct stream_entry {
    struct stream_entry *next;
    pinti_host_stream *stream;
} stream_entry;

typedef struct host_backend {
    pinti_backend base;
    pthread_mutex_t lock;
    region *regions;       /* under lock, as all below */
    stream_entry *streams; /* the default one among them */
    pinti_host_stream *default_stream;
    uint64_t pin_limit;
} host_backend;

static host_backend *host_of(pinti_backend *backend)
{
    return (host_backend *)(void *)backend; /* base is its first member */
}

/* ---- open ------------------------------------------------------------------------------------ */

static pint_status host_open(const char *which, pinti_backend **out_backend, pint_error *err)
{
    if (which[0] != '\0') {
        return pinti_fail(err, PINT_E_NO_DEVICE, 0, "device 'host' has no number and no UUID");
    }
    host_backend *host = calloc(1, sizeof(*host));
    if (host == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'host': no memory");
    }
    host->base.ops = &pinti_host_backend;
    memcpy(host->base.uuid, pinti_host_uuid, sizeof(pinti_host_uuid));
    memcpy(host->base.name, "host", sizeof("host"));
    host->pin_limit = UINT64_MAX;
    (void)pthread_mutex_init(&host->lock, NULL);
    *out_backend = &host->base;
    return PINT_OK;
}

static void host_close(pinti_backend *backend)
{
    host_backend *host = host_of(backend);
    while (host->streams != NULL) {
        stream_entry *entry = host->streams;
        host->streams = entry->next;
        pinti_host_stream_free(entry->stream);
        free(entry);
    }
    while (host->regions != NULL) {
        region *next = host->regions->next;
        free(host->regions);
        host->regions = next;
    }
    (void)pthread_mutex_destroy(&host->lock);
    free(host);
}

static pint_status host_info(pinti_backend *backend, pint_device_info *info, pint_error *err)
{
    (void)backend;
    (void)err;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    info->is_cuda = 0;
    info->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * page;
    info->free_bytes = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * page;
    info->can_vmm = 1;
    info->can_ipc = 0;
    info->can_map_host = 1;
    info->driver_version = 0;
    return PINT_OK;
}

/* ---- memory of copies ------------------------------------------------------------------------ */

/* The service made the descriptor, but it came over a socket: nothing is touched that could vanish
 * under us. */
static pint_status check_memory(int fd, uint64_t bytes, pint_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "device 'host': memory of the copy");
    }
    const int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || st.st_size < 0 ||
        (uint64_t)st.st_size < bytes || bytes == 0) {
        return pinti_fail(err, PINT_E_PROTOCOL, 0,
                          "device 'host': memory of %" PRId64 " bytes, sealed %d, for a copy of "
                          "%" PRIu64 " bytes",
                          (int64_t)st.st_size, seals, bytes);
    }
    return PINT_OK;
}

static pint_status host_import(pinti_backend *backend, uint32_t kind, int fd, const uint8_t ipc[64],
                               uint64_t bytes, bool writable, uint64_t *out_address,
                               pint_error *err)
{
    (void)backend;
    (void)ipc;
    if (kind != PINT_COPY_VMM) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "device 'host': copies are shared by descriptor only");
    }
    const pint_status status = check_memory(fd, bytes, err);
    if (status != PINT_OK) {
        return status;
    }
    void *at = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return pinti_fail(err, errno == ENOMEM ? PINT_E_DEVICE_MEMORY : PINT_E_SYSTEM, errno,
                          "device 'host': cannot map %" PRIu64 " bytes", bytes);
    }
    (void)madvise(at, bytes, MADV_DONTDUMP); /* R13 */
    /* a forked child has no device copies, here as on a GPU */
    if (madvise(at, bytes, MADV_DONTFORK) != 0) {
        const int reason = errno;
        (void)munmap(at, bytes);
        return pinti_fail(err, PINT_E_SYSTEM, reason, "device 'host': MADV_DONTFORK");
    }
    *out_address = (uint64_t)(uintptr_t)at;
    return PINT_OK;
}

static void host_release(pinti_backend *backend, uint32_t kind, uint64_t address, uint64_t bytes)
{
    (void)backend;
    (void)kind;
    (void)munmap((void *)(uintptr_t)address, bytes);
}

/* ---- registration ---------------------------------------------------------------------------- */

/* The region that holds the first byte. Requires the lock. */
static const region *region_of(const host_backend *host, const char *at)
{
    for (const region *r = host->regions; r != NULL; r = r->next) {
        if (at >= r->at && (uint64_t)(at - r->at) < r->bytes) {
            return r;
        }
    }
    return NULL;
}

static bool overlaps(const host_backend *host, const char *at, uint64_t bytes)
{
    for (const region *r = host->regions; r != NULL; r = r->next) {
        if (at < r->at + r->bytes && r->at < at + bytes) {
            return true;
        }
    }
    return false;
}

static pint_status add_region(host_backend *host, void *at, uint64_t bytes, bool is_staging,
                              pint_error *err)
{
    region *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'host': no memory to register");
    }
    *r = (region){.at = at, .bytes = bytes, .is_staging = is_staging};
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&host->lock);
    if (overlaps(host, at, bytes)) {
        status = pinti_fail(err, PINT_E_DEVICE, 0,
                            "device 'host': part of this memory is registered already");
    } else if (!is_staging && bytes > host->pin_limit) {
        status = pinti_fail(err, PINT_E_DEVICE, 0,
                            "device 'host': registration of %" PRIu64 " bytes refused", bytes);
    } else {
        r->next = host->regions;
        host->regions = r;
    }
    (void)pthread_mutex_unlock(&host->lock);
    if (status != PINT_OK) {
        free(r);
    }
    return status;
}

/* False: nothing is registered at just this address. */
static bool remove_region(host_backend *host, const void *at)
{
    (void)pthread_mutex_lock(&host->lock);
    region **link = &host->regions;
    while (*link != NULL && (*link)->at != at) {
        link = &(*link)->next;
    }
    region *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    (void)pthread_mutex_unlock(&host->lock);
    free(found);
    return found != NULL;
}

static pint_status host_pin(pinti_backend *backend, void *host, uint64_t bytes, bool read_only,
                            pint_error *err)
{
    (void)read_only;
    return add_region(host_of(backend), host, bytes, false, err);
}

static pint_status host_unpin(pinti_backend *backend, void *host, uint64_t bytes, pint_error *err)
{
    (void)bytes;
    return remove_region(host_of(backend), host)
               ? PINT_OK
               : pinti_fail(err, PINT_E_DEVICE, 0, "device 'host': this is not registered");
}

static pint_status host_mapped(pinti_backend *backend, void *host, uint64_t *out_address,
                               pint_error *err)
{
    host_backend *self = host_of(backend);
    (void)pthread_mutex_lock(&self->lock);
    const bool is_known = region_of(self, host) != NULL;
    (void)pthread_mutex_unlock(&self->lock);
    if (!is_known) {
        return pinti_fail(err, PINT_E_DEVICE, 0, "device 'host': this is not registered");
    }
    *out_address = (uint64_t)(uintptr_t)host;
    return PINT_OK;
}

static pint_status host_staging_alloc(pinti_backend *backend, uint64_t bytes, void **out_host,
                                      pint_error *err)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return pinti_fail(err, PINT_E_NO_MEMORY, errno, "device 'host': staging memory");
    }
    const pint_status status = add_region(host_of(backend), at, bytes, true, err);
    if (status != PINT_OK) {
        (void)munmap(at, bytes);
        return status;
    }
    *out_host = at;
    return PINT_OK;
}

static void host_staging_free(pinti_backend *backend, void *host, uint64_t bytes)
{
    (void)remove_region(host_of(backend), host);
    (void)munmap(host, bytes);
}

/* ---- streams --------------------------------------------------------------------------------- */

static pint_status make_stream(host_backend *host, pinti_host_stream **out, pint_error *err)
{
    stream_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'host': stream");
    }
    const pint_status status = pinti_host_stream_new(&entry->stream, err);
    if (status != PINT_OK) {
        free(entry);
        return status;
    }
    *out = entry->stream;
    entry->next = host->streams;
    host->streams = entry;
    return PINT_OK;
}

/* The stream behind a caller's handle; NULL is the default stream, made when first used. */
static pint_status find_stream(host_backend *host, void *handle, pinti_host_stream **out,
                               pint_error *err)
{
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&host->lock);
    if (handle == NULL) {
        if (host->default_stream == NULL) {
            status = make_stream(host, &host->default_stream, err);
        }
        *out = host->default_stream;
    } else {
        const stream_entry *entry = host->streams;
        while (entry != NULL && entry->stream != handle) {
            entry = entry->next;
        }
        *out = handle;
        if (entry == NULL) {
            status = pinti_fail(err, PINT_E_INVALID, 0,
                                "device 'host': the stream is none of pint_stream_create()");
        }
    }
    (void)pthread_mutex_unlock(&host->lock);
    return status;
}

static pint_status host_stream_create(pinti_backend *backend, void **out_stream, pint_error *err)
{
    host_backend *host = host_of(backend);
    pinti_host_stream *stream = NULL;
    (void)pthread_mutex_lock(&host->lock);
    const pint_status status = make_stream(host, &stream, err);
    (void)pthread_mutex_unlock(&host->lock);
    if (status == PINT_OK) {
        *out_stream = stream;
    }
    return status;
}

static void host_stream_destroy(pinti_backend *backend, void *stream)
{
    host_backend *host = host_of(backend);
    (void)pthread_mutex_lock(&host->lock);
    stream_entry **link = &host->streams;
    while (*link != NULL && (*link)->stream != stream) {
        link = &(*link)->next;
    }
    stream_entry *entry = *link;
    if (entry != NULL && entry->stream != host->default_stream) {
        *link = entry->next;
    } else {
        entry = NULL; /* not ours, or not the caller's */
    }
    (void)pthread_mutex_unlock(&host->lock);
    if (entry != NULL) {
        pinti_host_stream_free(entry->stream);
        free(entry);
    }
}

static pint_status host_stream_check(pinti_backend *backend, void *stream, pint_error *err)
{
    pinti_host_stream *found;
    return find_stream(host_of(backend), stream, &found, err);
}

static pint_status host_stream_wait(pinti_backend *backend, void *stream, pint_error *err)
{
    pinti_host_stream *found;
    const pint_status status = find_stream(host_of(backend), stream, &found, err);
    return status == PINT_OK ? pinti_host_stream_wait(found, err) : status;
}

static pint_status host_stream_call(pinti_backend *backend, void *stream, void (*function)(void *),
                                    void *context, pint_error *err)
{
    pinti_host_stream *found;
    const pint_status status = find_stream(host_of(backend), stream, &found, err);
    return status == PINT_OK ? pinti_host_stream_call(found, function, context, err) : status;
}

/* Every piece inside one registration. */
static pint_status check_pieces(host_backend *host, const pinti_piece *pieces, uint32_t n_pieces,
                                pint_error *err)
{
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&host->lock);
    for (uint32_t i = 0; status == PINT_OK && i < n_pieces; i++) {
        const char *at = pieces[i].host;
        const region *r = region_of(host, at);
        if (r == NULL || pieces[i].bytes > r->bytes - (uint64_t)(at - r->at)) {
            status = pinti_fail(err, PINT_E_DEVICE, 0,
                                "device 'host': a copy of %" PRIu64 " bytes %s", pieces[i].bytes,
                                r == NULL ? "of memory that is not registered"
                                          : "crosses from one registration into the next");
        }
    }
    (void)pthread_mutex_unlock(&host->lock);
    return status;
}

static pint_status host_copy(pinti_backend *backend, bool to_device, const pinti_piece *pieces,
                             uint32_t n_pieces, void *stream, pint_error *err)
{
    host_backend *host = host_of(backend);
    pinti_host_stream *found;
    pint_status status = find_stream(host, stream, &found, err);
    if (status == PINT_OK) {
        status = check_pieces(host, pieces, n_pieces, err);
    }
    return status == PINT_OK ? pinti_host_stream_copy(found, to_device, pieces, n_pieces, err)
                             : status;
}

/* ---- marks ----------------------------------------------------------------------------------- */

static pint_status host_mark(pinti_backend *backend, void *stream, pinti_mark **out_mark,
                             pint_error *err)
{
    pinti_host_stream *found;
    const pint_status status = find_stream(host_of(backend), stream, &found, err);
    return status == PINT_OK ? pinti_host_mark_new(found, out_mark, err) : status;
}

static pint_status host_mark_passed(pinti_backend *backend, pinti_mark *mark, pint_error *err)
{
    (void)backend;
    return pinti_host_mark_passed(mark, err);
}

static pint_status host_mark_wait(pinti_backend *backend, pinti_mark *mark, pint_error *err)
{
    (void)backend;
    return pinti_host_mark_wait(mark, err);
}

static void host_mark_free(pinti_backend *backend, pinti_mark *mark)
{
    (void)backend;
    pinti_host_mark_free(mark);
}

static void host_mark_notify(pinti_backend *backend, pinti_mark *mark,
                             void (*function)(void *context), void *context)
{
    (void)backend;
    pinti_host_mark_notify(mark, function, context);
}

static pint_status host_stream_after(pinti_backend *backend, void *stream, pinti_mark *mark,
                                     pint_error *err)
{
    pinti_host_stream *found;
    const pint_status status = find_stream(host_of(backend), stream, &found, err);
    return status == PINT_OK ? pinti_host_stream_after(found, mark, err) : status;
}

const pinti_backend_ops pinti_host_backend = {
    .open = host_open,
    .close = host_close,
    .info = host_info,
    .import = host_import,
    .release = host_release,
    .pin = host_pin,
    .unpin = host_unpin,
    .mapped = host_mapped,
    .staging_alloc = host_staging_alloc,
    .staging_free = host_staging_free,
    .stream_create = host_stream_create,
    .stream_destroy = host_stream_destroy,
    .stream_check = host_stream_check,
    .stream_wait = host_stream_wait,
    .stream_call = host_stream_call,
    .copy = host_copy,
    .mark = host_mark,
    .mark_passed = host_mark_passed,
    .mark_wait = host_mark_wait,
    .mark_free = host_mark_free,
    .mark_notify = host_mark_notify,
    .stream_after = host_stream_after,
};

/* ---- for tests ------------------------------------------------------------------------------- */

void pinti_host_limit_pin(pinti_backend *backend, uint64_t most_bytes)
{
    host_backend *host = host_of(backend);
    (void)pthread_mutex_lock(&host->lock);
    host->pin_limit = most_bytes;
    (void)pthread_mutex_unlock(&host->lock);
}

pint_status pinti_host_fail_stream(pinti_backend *backend, void *stream, pint_error *err)
{
    pinti_host_stream *found;
    const pint_status status = find_stream(host_of(backend), stream, &found, err);
    return status == PINT_OK ? pinti_host_stream_fail(found, err) : status;
}

uint32_t pinti_host_n_pinned(pinti_backend *backend)
{
    host_backend *host = host_of(backend);
    uint32_t n = 0;
    (void)pthread_mutex_lock(&host->lock);
    for (const region *r = host->regions; r != NULL; r = r->next) {
        n += !r->is_staging;
    }
    (void)pthread_mutex_unlock(&host->lock);
    return n;
}
