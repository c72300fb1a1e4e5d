/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_CUDA_DRIVER_H
#define DEVICE_CUDA_DRIVER_H

/*
 * The CUDA driver, found at run time. Nothing is linked to CUDA: the library starts, and everything
 * but the backend cuda works, on machines without a driver.
 *
 * The first pinti_cuda_load() of a process loads the driver; nothing does so before. Its outcome
 * holds for the life of the process, since a driver is never unloaded: its threads run on. The
 * driver does not survive fork(): a child of a process that has initialised it gets
 * PINT_E_FORKED, for good; a child of one that has not may load it itself.
 */

#include <stdbool.h>

#include "device/cuda_abi.h"
#include "pintable/status.h"

typedef enum pinti_cuda_outcome {
    PINTI_CUDA_NOT_TRIED = 0,
    PINTI_CUDA_READY,
    PINTI_CUDA_NO_DRIVER, /* no libcuda.so.1, or none that is a driver */
    PINTI_CUDA_STUB,      /* the toolkit's linking aid */
    PINTI_CUDA_TOO_OLD,   /* before CUDA 12.0 */
    PINTI_CUDA_NO_DEVICE, /* a driver, but no device, or all are hidden */
    PINTI_CUDA_FORKED,    /* initialised before fork(), by us or by another library */
    PINTI_CUDA_FAILED     /* the driver refused to start; it says why */
} pinti_cuda_outcome;

/* Entry points: filled by the pinti_cuda_load() that succeeds, constant from then on. Optional ones
 * (PINTI_CU_OPTIONAL) may be NULL. */
extern pinti_cuda_api pinti_cuda;

/*
 * Load and initialise the driver: $PINTABLE_LIBCUDA if set and not empty, else libcuda.so.1.
 * Creates no context. Any thread; all but the first wait for the first. On error the message says
 * which outcome it was, with the driver's own name of the error.
 */
pint_status pinti_cuda_load(pint_error *err);

/* What the load came to, in this process. */
pinti_cuda_outcome pinti_cuda_load_outcome(void);

/* This process is a fork()ed child of one that initialised the driver: no call can succeed. */
bool pinti_cuda_is_forked(void);

/* Of a loaded driver: 1000 * major + 10 * minor of the newest CUDA it speaks; else 0. */
int pinti_cuda_version(void);

/* All of cuMemAlloc, cuMemFree, cuMemGetAddressRange and cuIpc*MemHandle are there. */
bool pinti_cuda_has_ipc(void);

/* The driver's own name of a result ("CUDA_ERROR_OUT_OF_MEMORY"), or "unknown error". Static. */
const char *pinti_cuda_result_name(pinti_cu_result result);

/* The status for a result: E_DEVICE_LOST if nothing of the context works any more. */
pint_status pinti_cuda_status(pinti_cu_result result);

/*
 * Fill err (may be NULL) and return the status for a failed call. The message is what the format
 * gives (object, sizes), then ": call: CUDA_ERROR_NAME (number)".
 */
pint_status pinti_cuda_fail(pint_error *err, pinti_cu_result result, const char *call,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
