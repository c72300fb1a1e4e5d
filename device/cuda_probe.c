/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a GPU can do, found out by doing it: attributes claim what some systems then refuse (WSL2,
 * sandboxes that forward only part of the driver, MIG).
 */

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/cuda_internal.h"

enum outcome { NO, YES, SHORT_OF_MEMORY };

static enum outcome outcome_of(pint_status status)
{
    if (status == PINT_OK) {
        return YES;
    }
    return status == PINT_E_DEVICE_MEMORY ? SHORT_OF_MEMORY : NO;
}

/* Make, export, import and map the smallest piece. */
static enum outcome try_vmm(const pinti_cuda_device *device)
{
    int fd = -1;
    pinti_cu_ptr address = 0;
    const size_t bytes = pinti_cuda_granules(device, 1);
    if (bytes == 0) {
        return NO;
    }
    pint_status status = pinti_cuda_make_exported(device, bytes, &fd, NULL);
    if (status != PINT_OK) {
        return outcome_of(status);
    }
    status = pinti_cuda_map(device, fd, bytes, false, &address, NULL);
    (void)close(fd);
    if (status == PINT_OK) {
        pinti_cuda_unmap(address, bytes);
    }
    return outcome_of(status);
}

/* Make a handle. It cannot be opened here: a process cannot open its own. */
static enum outcome try_ipc(const pinti_cuda_device *device)
{
    pinti_cu_ptr address = 0;
    pinti_cu_ipc_handle handle;
    if (!pinti_cuda_has_ipc() || pinti_cuda_attribute(device, PINTI_CU_DEV_IPC_EVENT) == 0) {
        return NO;
    }
    pinti_cu_result result = pinti_cuda.mem_alloc(&address, 1);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.ipc_get_mem_handle(&handle, address);
        (void)pinti_cuda.mem_free(address);
    }
    return outcome_of(pinti_cuda_status(result));
}

/* Register one page and ask for its device address. */
static enum outcome try_register(const pinti_cuda_device *device)
{
    const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    pinti_cu_ptr address = 0;
    if (pinti_cuda_attribute(device, PINTI_CU_DEV_HOST_REGISTER) == 0) {
        return NO;
    }
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return SHORT_OF_MEMORY;
    }
    *(char *)at = 1; /* faulted in */
    pinti_cu_result result = pinti_cuda.mem_host_register(
        at, bytes, PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_host_get_device_pointer(&address, at, 0);
        const pinti_cu_result undone = pinti_cuda.mem_host_unregister(at);
        if (undone != PINTI_CU_SUCCESS) {
            return NO; /* the page stays mapped: the driver may still use it */
        }
    }
    (void)munmap(at, bytes);
    return outcome_of(pinti_cuda_status(result));
}

pinti_cuda_abilities pinti_cuda_probe(pinti_cuda_state *cuda)
{
    (void)pthread_mutex_lock(&cuda->lock);
    if (!cuda->is_probed) {
        const enum outcome vmm = try_vmm(&cuda->device);
        const enum outcome ipc = try_ipc(&cuda->device);
        const enum outcome mapped = try_register(&cuda->device);
        /* A full device says nothing about what it can do: believed, and tried again. */
        cuda->abilities.vmm = vmm != NO;
        cuda->abilities.ipc = ipc != NO;
        cuda->abilities.map_host = mapped != NO;
        cuda->is_probed =
            vmm != SHORT_OF_MEMORY && ipc != SHORT_OF_MEMORY && mapped != SHORT_OF_MEMORY;
    }
    const pinti_cuda_abilities abilities = cuda->abilities;
    (void)pthread_mutex_unlock(&cuda->lock);
    return abilities;
}
