/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_BACKEND_H
#define DEVICE_BACKEND_H

/*
 * What device/ needs of a kind of device. Two implement it: host (device/host_backend.c: memory is
 * a memfd, a stream is a thread) and cuda (device/cuda_backend.c: the driver API, found at run
 * time). Nothing above this line knows which it is.
 *
 * A pinti_backend is one open device of this process, shared by all pint_device handles on it.
 * Every call is safe from any thread. Addresses are uint64_t: device addresses, which only kernels
 * and copies may follow.
 */

#include <stdbool.h>

#include "pintable/device.h"

typedef struct pinti_backend pinti_backend;
typedef struct pinti_mark pinti_mark; /* a point on a stream, to be asked whether it has passed */

/* One piece of a copy. Both sides are contiguous. */
typedef struct pinti_piece {
    uint64_t device_address;
    void *host;
    uint64_t bytes;
} pinti_piece;

typedef struct pinti_backend_ops {
    /* Open a device by the part of the name behind the colon ("" for host). Sets uuid, name. */
    pint_status (*open)(const char *which, pinti_backend **out_backend, pint_error *err);
    void (*close)(pinti_backend *backend); /* after everything else was given back */
    pint_status (*info)(pinti_backend *backend, pint_device_info *info, pint_error *err);

    /* Memory of a copy, from what the service handed out: fd (PINT_COPY_VMM; borrowed) or the 64
     * bytes (PINT_COPY_IPC). The same allocation is imported once a process by the caller. */
    pint_status (*import)(pinti_backend *backend, uint32_t kind, int fd, const uint8_t ipc[64],
                          uint64_t bytes, bool writable, uint64_t *out_address, pint_error *err);
    void (*release)(pinti_backend *backend, uint32_t kind, uint64_t address, uint64_t bytes);

    /* Register host memory: page-aligned, one piece, at most 1 GiB; unregistered with the same
     * address. PINT_E_DEVICE when refused. */
    pint_status (*pin)(pinti_backend *backend, void *host, uint64_t bytes, bool read_only,
                       pint_error *err);
    pint_status (*unpin)(pinti_backend *backend, void *host, uint64_t bytes, pint_error *err);
    pint_status (*mapped)(pinti_backend *backend, void *host, uint64_t *out_address,
                          pint_error *err);
    /* Memory that is registered from the start, for the staging ring. */
    pint_status (*staging_alloc)(pinti_backend *backend, uint64_t bytes, void **out_host,
                                 pint_error *err);
    void (*staging_free)(pinti_backend *backend, void *host, uint64_t bytes);

    pint_status (*stream_create)(pinti_backend *backend, void **out_stream, pint_error *err);
    void (*stream_destroy)(pinti_backend *backend, void *stream);
    /* Is this a stream the caller may name? NULL where the kind cannot tell. */
    pint_status (*stream_check)(pinti_backend *backend, void *stream, pint_error *err);
    pint_status (*stream_wait)(pinti_backend *backend, void *stream, pint_error *err);
    pint_status (*stream_call)(pinti_backend *backend, void *stream, void (*function)(void *),
                               void *context, pint_error *err);

    /* Enqueue copies; registered host memory only. Pieces do not overlap. */
    pint_status (*copy)(pinti_backend *backend, bool to_device, const pinti_piece *pieces,
                        uint32_t n_pieces, void *stream, pint_error *err);

    /* A mark on the stream at what was enqueued so far. passed: PINT_OK, PINT_E_TIMEOUT (not yet),
     * or PINT_E_DEVICE: the work before it failed. wait blocks. */
    pint_status (*mark)(pinti_backend *backend, void *stream, pinti_mark **out_mark,
                        pint_error *err);
    pint_status (*mark_passed)(pinti_backend *backend, pinti_mark *mark, pint_error *err);
    pint_status (*mark_wait)(pinti_backend *backend, pinti_mark *mark, pint_error *err);
    void (*mark_free)(pinti_backend *backend, pinti_mark *mark);
    /* Call function(context) once when the mark has passed or failed, on any thread, with no lock
     * held; not after mark_free. NULL where the kind cannot: the watcher then asks now and then. */
    void (*mark_notify)(pinti_backend *backend, pinti_mark *mark, void (*function)(void *context),
                        void *context);
    /* Make a stream wait for a mark of another stream, without blocking the caller. */
    pint_status (*stream_after)(pinti_backend *backend, void *stream, pinti_mark *mark,
                                pint_error *err);
} pinti_backend_ops;

/* Start of every backend's own struct. */
struct pinti_backend {
    const pinti_backend_ops *ops;
    bool is_cuda;
    uint8_t uuid[16];
    char name[32];
};

extern const pinti_backend_ops pinti_host_backend;
extern const pinti_backend_ops pinti_cuda_backend;

#endif
