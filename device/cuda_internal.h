/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_CUDA_INTERNAL_H
#define DEVICE_CUDA_INTERNAL_H

/*
 * Inside the backend "cuda". Every call of the driver happens with the primary context made current
 * for it, and none in a forked child: a function begins with pinti_cuda_enter().
 */

#include <pthread.h>

#include "device/backend.h"
#include "device/cuda_device.h"

/* What was tried and worked. */
typedef struct pinti_cuda_abilities {
    bool vmm;
    bool ipc;
    bool map_host;
} pinti_cuda_abilities;

/* Staging memory that the driver allocated, since it could not be registered. */
typedef struct pinti_cuda_block {
    struct pinti_cuda_block *next;
    void *host;
} pinti_cuda_block;

typedef struct pinti_cuda_state {
    pinti_backend base; /* first */
    pinti_cuda_device device;
    bool can_register_read_only;
    bool registers_any; /* the GPU uses the host's page tables: no flag for read-only memory */
    pthread_mutex_t lock;
    bool is_probed; /* under lock, as abilities */
    pinti_cuda_abilities abilities;
    pinti_cuda_block *blocks; /* under lock */
} pinti_cuda_state;

static inline pinti_cuda_state *pinti_cuda_of(pinti_backend *backend)
{
    return (pinti_cuda_state *)(void *)backend; /* base is its first member */
}

/* cuda_probe.c: try each ability once on this device; the result holds for the backend's life,
 * unless memory was short. The context is current. */
pinti_cuda_abilities pinti_cuda_probe(pinti_cuda_state *cuda);

/* cuda_memory.c, cuda_stream.c: the members of pinti_backend_ops with these names. */
pint_status pinti_cuda_import(pinti_backend *backend, uint32_t kind, int fd, const uint8_t ipc[64],
                              uint64_t bytes, bool writable, uint64_t *out_address,
                              pint_error *err);
void pinti_cuda_release(pinti_backend *backend, uint32_t kind, uint64_t address, uint64_t bytes);
pint_status pinti_cuda_pin(pinti_backend *backend, void *host, uint64_t bytes, bool read_only,
                           pint_error *err);
pint_status pinti_cuda_unpin(pinti_backend *backend, void *host, uint64_t bytes, pint_error *err);
pint_status pinti_cuda_mapped(pinti_backend *backend, void *host, uint64_t *out_address,
                              pint_error *err);
pint_status pinti_cuda_staging_alloc(pinti_backend *backend, uint64_t bytes, void **out_host,
                                     pint_error *err);
void pinti_cuda_staging_free(pinti_backend *backend, void *host, uint64_t bytes);

pint_status pinti_cuda_stream_create(pinti_backend *backend, void **out_stream, pint_error *err);
void pinti_cuda_stream_destroy(pinti_backend *backend, void *stream);
pint_status pinti_cuda_stream_check(pinti_backend *backend, void *stream, pint_error *err);
pint_status pinti_cuda_stream_wait(pinti_backend *backend, void *stream, pint_error *err);
pint_status pinti_cuda_stream_call(pinti_backend *backend, void *stream, void (*function)(void *),
                                   void *context, pint_error *err);
pint_status pinti_cuda_copy(pinti_backend *backend, bool to_device, const pinti_piece *pieces,
                            uint32_t n_pieces, void *stream, pint_error *err);
pint_status pinti_cuda_mark(pinti_backend *backend, void *stream, pinti_mark **out_mark,
                            pint_error *err);
pint_status pinti_cuda_mark_passed(pinti_backend *backend, pinti_mark *mark, pint_error *err);
pint_status pinti_cuda_mark_wait(pinti_backend *backend, pinti_mark *mark, pint_error *err);
void pinti_cuda_mark_free(pinti_backend *backend, pinti_mark *mark);
pint_status pinti_cuda_stream_after(pinti_backend *backend, void *stream, pinti_mark *mark,
                                    pint_error *err);

#endif
