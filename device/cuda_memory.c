/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory of copies, imported from the broker, and host memory registered with the GPU.
 *
 * Registrations belong to the primary context, which the backend retains longer than they last. One
 * is undone by the address it was made with, and before its memory is unmapped: the GPU would write
 * to the old pages.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "device/cuda_internal.h"
#include "host/error.h"

/* --- Memory of copies ------------------------------------------------------------------------- */

static pint_status import_fd(pinti_cuda_state *cuda, int fd, uint64_t bytes, bool writable,
                             uint64_t *out_address, pint_error *err)
{
    const size_t rounded = pinti_cuda_granules(&cuda->device, bytes);
    if (rounded == 0) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "GPU %d (%s): %" PRIu64 " bytes cannot be shared by descriptor here",
                          cuda->device.ordinal, cuda->device.name, bytes);
    }
    pinti_cu_ptr address = 0;
    const pint_status status = pinti_cuda_map(&cuda->device, fd, rounded, writable, &address, err);
    *out_address = status == PINT_OK ? address : 0;
    return status;
}

/* The driver counts: the same handle opened again gives the same address. */
static pint_status import_ipc(pinti_cuda_state *cuda, const uint8_t ipc[64], uint64_t bytes,
                              uint64_t *out_address, pint_error *err)
{
    pinti_cu_ipc_handle handle;
    pinti_cu_ptr address = 0;
    pinti_cu_ptr base = 0;
    size_t mapped_bytes = 0;
    if (!pinti_cuda_has_ipc()) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "GPU %d (%s): the driver has no CUDA IPC; use PINT_COPY_VMM",
                          cuda->device.ordinal, cuda->device.name);
    }
    memcpy(handle.bytes, ipc, sizeof(handle.bytes));
    pinti_cu_result result =
        pinti_cuda.ipc_open_mem_handle(&address, handle, PINTI_CU_IPC_LAZY_PEER_ACCESS);
    if (result != PINTI_CU_SUCCESS) {
        /* With another PID namespace the driver's answer depends on the numbers of the processes.
         */
        return pinti_cuda_fail(err, result, "cuIpcOpenMemHandle",
                               "GPU %d (%s): a handle needs one PID namespace and the same GPU; "
                               "PINT_COPY_VMM does not",
                               cuda->device.ordinal, cuda->device.name);
    }
    /* A driver that cannot tell the size of what another process made is no reason to refuse it. */
    result = pinti_cuda.mem_get_address_range(&base, &mapped_bytes, address);
    if (result == PINTI_CU_SUCCESS && mapped_bytes - (address - base) < bytes) {
        (void)pinti_cuda.ipc_close_mem_handle(address);
        return pinti_fail(err, PINT_E_PROTOCOL, 0,
                          "GPU %d (%s): a handle of %zu bytes for a copy of %" PRIu64,
                          cuda->device.ordinal, cuda->device.name, mapped_bytes, bytes);
    }
    *out_address = address;
    return PINT_OK;
}

pint_status pinti_cuda_import(pinti_backend *backend, uint32_t kind, int fd, const uint8_t ipc[64],
                              uint64_t bytes, bool writable, uint64_t *out_address, pint_error *err)
{
    pinti_cuda_state *cuda = pinti_cuda_of(backend);
    if (kind != PINT_COPY_VMM && kind != PINT_COPY_IPC) {
        return pinti_fail(err, PINT_E_PROTOCOL, 0, "GPU %d (%s): a copy of kind %" PRIu32,
                          cuda->device.ordinal, cuda->device.name, kind);
    }
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    status = kind == PINT_COPY_VMM ? import_fd(cuda, fd, bytes, writable, out_address, err)
                                   : import_ipc(cuda, ipc, bytes, out_address, err);
    pinti_cuda_leave();
    return status;
}

void pinti_cuda_release(pinti_backend *backend, uint32_t kind, uint64_t address, uint64_t bytes)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    if (pinti_cuda_enter(&cuda->device, NULL) != PINT_OK) {
        return; /* forked, or gone with the context */
    }
    if (kind == PINT_COPY_VMM) {
        pinti_cuda_unmap(address, pinti_cuda_granules(&cuda->device, bytes));
    } else {
        (void)pinti_cuda.ipc_close_mem_handle(address);
    }
    pinti_cuda_leave();
}

/* --- Registration ----------------------------------------------------------------------------- */

/* A refusal is PINT_E_DEVICE whatever its reason (also "out of memory", which here is a limit of
 * the driver): the caller tries a smaller piece, or goes another way. */
static pint_status refused(pint_error *err, pinti_cu_result result, const char *call,
                           const pinti_cuda_state *cuda, uint64_t bytes)
{
    const pint_status status = pinti_cuda_status(result);
    if (status == PINT_E_DEVICE_LOST || status == PINT_E_FORKED) {
        return pinti_cuda_fail(err, result, call, "GPU %d (%s): host memory of %" PRIu64 " bytes",
                               cuda->device.ordinal, cuda->device.name, bytes);
    }
    return pinti_fail(err, PINT_E_DEVICE, 0,
                      "GPU %d (%s): host memory of %" PRIu64 " bytes: %s: %s (%d)",
                      cuda->device.ordinal, cuda->device.name, bytes, call,
                      pinti_cuda_result_name(result), (int)result);
}

pint_status pinti_cuda_pin(pinti_backend *backend, void *host, uint64_t bytes, bool read_only,
                           pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    unsigned int flags = PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP;
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    if (read_only && cuda->can_register_read_only) {
        flags |= PINTI_CU_REGISTER_READ_ONLY;
    } else if (read_only && !cuda->registers_any) {
        pinti_cuda_leave();
        return pinti_fail(err, PINT_E_DEVICE, 0,
                          "GPU %d (%s) cannot register memory that is mapped read-only",
                          cuda->device.ordinal, cuda->device.name);
    }
    const pinti_cu_result result = pinti_cuda.mem_host_register(host, bytes, flags);
    if (result != PINTI_CU_SUCCESS) {
        status = refused(err, result, "cuMemHostRegister", cuda, bytes);
    }
    pinti_cuda_leave();
    return status;
}

pint_status pinti_cuda_unpin(pinti_backend *backend, void *host, uint64_t bytes, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.mem_host_unregister(host);
    if (result != PINTI_CU_SUCCESS) {
        status = refused(err, result, "cuMemHostUnregister", cuda, bytes);
    }
    pinti_cuda_leave();
    return status;
}

/* Always asked for: it is the host's address on some systems only. */
pint_status pinti_cuda_mapped(pinti_backend *backend, void *host, uint64_t *out_address,
                              pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pinti_cu_ptr address = 0;
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.mem_host_get_device_pointer(&address, host, 0);
    if (result != PINTI_CU_SUCCESS) {
        status = pinti_cuda_fail(err, result, "cuMemHostGetDevicePointer",
                                 "GPU %d (%s): registered host memory", cuda->device.ordinal,
                                 cuda->device.name);
    } else {
        *out_address = address;
    }
    pinti_cuda_leave();
    return status;
}

/* --- Staging ---------------------------------------------------------------------------------- */

/* Where nothing can be registered: under confidential computing, in some sandboxes. */
static pint_status alloc_by_driver(pinti_cuda_state *cuda, uint64_t bytes, void **out_host,
                                   pint_error *err)
{
    pinti_cuda_block *block = calloc(1, sizeof(*block));
    if (block == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'cuda': no memory");
    }
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        free(block);
        return status;
    }
    const pinti_cu_result result =
        pinti_cuda.mem_host_alloc(&block->host, bytes, PINTI_CU_HOST_ALLOC_PORTABLE);
    pinti_cuda_leave();
    if (result != PINTI_CU_SUCCESS) {
        free(block);
        return refused(err, result, "cuMemHostAlloc", cuda, bytes);
    }
    (void)pthread_mutex_lock(&cuda->lock);
    block->next = cuda->blocks;
    cuda->blocks = block;
    (void)pthread_mutex_unlock(&cuda->lock);
    *out_host = block->host;
    return PINT_OK;
}

/* False: it is not of the driver's. */
static bool free_by_driver(pinti_cuda_state *cuda, void *host)
{
    (void)pthread_mutex_lock(&cuda->lock);
    pinti_cuda_block **link = &cuda->blocks;
    while (*link != NULL && (*link)->host != host) {
        link = &(*link)->next;
    }
    pinti_cuda_block *block = *link;
    if (block != NULL) {
        *link = block->next;
    }
    (void)pthread_mutex_unlock(&cuda->lock);
    if (block != NULL && pinti_cuda_enter(&cuda->device, NULL) == PINT_OK) {
        (void)pinti_cuda.mem_free_host(host); /* a context that is gone has freed it */
        pinti_cuda_leave();
    }
    free(block);
    return block != NULL;
}

pint_status pinti_cuda_staging_alloc(pinti_backend *backend, uint64_t bytes, void **out_host,
                                     pint_error *err)
{
    /* Populated first: registering memory that is not there yet costs many times as much. */
    void *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) {
        return pinti_fail(err, PINT_E_NO_MEMORY, errno,
                          "device 'cuda': %" PRIu64 " bytes of staging memory", bytes);
    }
    (void)madvise(at, bytes, MADV_DONTDUMP);
    (void)madvise(at, bytes, MADV_DONTFORK); /* a forked child has no use for it */
    const pint_status status = pinti_cuda_pin(backend, at, bytes, false, err);
    if (status == PINT_OK) {
        *out_host = at;
        return PINT_OK;
    }
    (void)munmap(at, bytes);
    const bool can_allocate = pinti_cuda.mem_host_alloc != NULL && pinti_cuda.mem_free_host != NULL;
    return status == PINT_E_DEVICE && can_allocate
               ? alloc_by_driver(pinti_cuda_of(backend), bytes, out_host, err)
               : status;
}

void pinti_cuda_staging_free(pinti_backend *backend, void *host, uint64_t bytes)
{
    pint_error err;
    if (pinti_cuda_is_forked() || free_by_driver(pinti_cuda_of(backend), host)) {
        return; /* in a forked child it is not mapped */
    }
    const pint_status status = pinti_cuda_unpin(backend, host, bytes, &err);
    /* Memory that is still registered stays mapped; with the context its registration is gone. */
    if (status == PINT_OK || status == PINT_E_DEVICE_LOST) {
        (void)munmap(host, bytes);
    }
}
