/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_CUDA_DEVICE_H
#define DEVICE_CUDA_DEVICE_H

/*
 * One GPU of the loaded driver: finding it, its primary context, the sizes of its memory. Used by
 * the backend and by the broker.
 *
 * The primary context is shared with every other library of the process, so it is made current for
 * single calls and never left current: between pinti_cuda_enter() and pinti_cuda_leave().
 */

#include <stdbool.h>

#include "device/cuda_driver.h"

typedef struct pinti_cuda_device {
    pinti_cu_device ordinal;
    uint8_t uuid[16];
    char name[32];            /* as the driver calls it; printable */
    size_t granule;           /* cuMemCreate() sizes are multiples; 0: it has none of that family */
    pinti_cu_context context; /* retained, or NULL */
    unsigned long long
        context_id; /* another one is another context at the same address; 0: unknown */
} pinti_cuda_device;

/*
 * Load the driver and find a device: by its number in this process ("0"), by "GPU-" or "MIG-" and a
 * UUID with dashes, or by 32 hexadecimal digits. No context is made.
 */
pint_status pinti_cuda_device_find(const char *which, pinti_cuda_device *out, pint_error *err);

/* Retain the primary context: the first one of a process makes it, in device memory. */
pint_status pinti_cuda_device_retain(pinti_cuda_device *device, pint_error *err);
void pinti_cuda_device_release(pinti_cuda_device *device);

/*
 * Make the context current for this thread. PINT_E_FORKED without touching the driver;
 * PINT_E_DEVICE_LOST when another library has destroyed it, also if it has made it anew since: then
 * what we had in it is gone all the same.
 *
 * Until pinti_cuda_leave() no capture of a graph by another thread forbids our calls, nor is it
 * invalidated by them. Enter and leave do not nest.
 */
pint_status pinti_cuda_enter(const pinti_cuda_device *device, pint_error *err);
void pinti_cuda_leave(void);

/* A fact of the device, 0 when the driver does not know it. Needs no context. */
int pinti_cuda_attribute(const pinti_cuda_device *device, pinti_cu_device_attribute attribute);

/* bytes rounded up to whole granules; 0: too large, or the device has no granules. */
size_t pinti_cuda_granules(const pinti_cuda_device *device, uint64_t bytes);

/* Memory of this device that can be exported as a descriptor. */
pinti_cu_mem_prop pinti_cuda_exportable(const pinti_cuda_device *device);

/* Make bytes (whole granules) of such memory and export it; only the descriptor keeps it. Makes no
 * context. */
pint_status pinti_cuda_make_exported(const pinti_cuda_device *device, size_t bytes, int *out_fd,
                                     pint_error *err);

/* Map memory that was exported, from its start. The caller keeps fd. */
pint_status pinti_cuda_map(const pinti_cuda_device *device, int fd, size_t bytes, bool writable,
                           pinti_cu_ptr *out_address, pint_error *err);
void pinti_cuda_unmap(pinti_cu_ptr address, size_t bytes);

#endif
