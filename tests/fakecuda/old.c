/* SPDX-License-Identifier: Apache-2.0 */

/* The little of a driver of CUDA 11.4 that a loader meets: no cuGetProcAddress_v2. */

#include <stdlib.h>
#include <string.h>

#include "device/cuda_abi.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT pinti_cu_result old_init(unsigned int flags) __asm__("cuInit");
EXPORT pinti_cu_result old_driver_get_version(int *out_version) __asm__("cuDriverGetVersion");

pinti_cu_result old_init(unsigned int flags)
{
    (void)flags;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result old_driver_get_version(int *out_version)
{
    const char *driver = getenv("FAKECUDA_DRIVER");
    if (driver != NULL && strcmp(driver, "stub") == 0) {
        return PINTI_CU_STUB_LIBRARY;
    }
    *out_version = 11040;
    return PINTI_CU_SUCCESS;
}
