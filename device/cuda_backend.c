/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Backend "cuda": the driver API, found at run time. Memory of copies is made by a broker and
 * imported here (cuda_memory.c); work is enqueued on the caller's streams (cuda_stream.c).
 *
 * Marks do not tell when they pass: a host function per mark would delay the stream, and none is
 * called once work has failed. The watcher asks.
 */

#include <stdlib.h>
#include <string.h>

#include "device/cuda_internal.h"
#include "host/error.h"

static pint_status cuda_open(const char *which, pinti_backend **out_backend, pint_error *err)
{
    pinti_cuda_state *cuda = calloc(1, sizeof(*cuda));
    if (cuda == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'cuda': no memory");
    }
    pint_status status = pinti_cuda_device_find(which, &cuda->device, err);
    if (status == PINT_OK) {
        status = pinti_cuda_device_retain(&cuda->device, err);
    }
    if (status != PINT_OK) {
        free(cuda);
        return status;
    }
    cuda->base.ops = &pinti_cuda_backend;
    cuda->base.is_cuda = true;
    memcpy(cuda->base.uuid, cuda->device.uuid, sizeof(cuda->base.uuid));
    memcpy(cuda->base.name, cuda->device.name, sizeof(cuda->base.name));
    cuda->can_register_read_only =
        pinti_cuda_attribute(&cuda->device, PINTI_CU_DEV_READ_ONLY_HOST_REGISTER) != 0;
    cuda->registers_any =
        pinti_cuda_attribute(&cuda->device, PINTI_CU_DEV_PAGEABLE_USES_HOST_PAGE_TABLES) != 0;
    (void)pthread_mutex_init(&cuda->lock, NULL);
    *out_backend = &cuda->base;
    return PINT_OK;
}

/* In a forked child only our own memory goes. */
static void cuda_close(pinti_backend *backend)
{
    pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pinti_cuda_device_release(&cuda->device);
    (void)pthread_mutex_destroy(&cuda->lock);
    free(cuda);
}

static pint_status cuda_info(pinti_backend *backend, pint_device_info *info, pint_error *err)
{
    pinti_cuda_state *cuda = pinti_cuda_of(backend);
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.mem_get_info(&free_bytes, &total_bytes);
    pinti_cuda_abilities abilities = {0};
    if (result == PINTI_CU_SUCCESS) {
        abilities = pinti_cuda_probe(cuda);
    }
    pinti_cuda_leave();
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemGetInfo", "GPU %d (%s)", cuda->device.ordinal,
                               cuda->device.name);
    }
    info->is_cuda = 1;
    info->memory_bytes = total_bytes;
    info->free_bytes = free_bytes;
    info->can_vmm = abilities.vmm;
    info->can_ipc = abilities.ipc;
    info->can_map_host = abilities.map_host;
    info->driver_version = (uint32_t)pinti_cuda_version();
    info->ordinal = cuda->device.ordinal;
    return PINT_OK;
}

const pinti_backend_ops pinti_cuda_backend = {
    .open = cuda_open,
    .close = cuda_close,
    .info = cuda_info,
    .import = pinti_cuda_import,
    .release = pinti_cuda_release,
    .pin = pinti_cuda_pin,
    .unpin = pinti_cuda_unpin,
    .mapped = pinti_cuda_mapped,
    .staging_alloc = pinti_cuda_staging_alloc,
    .staging_free = pinti_cuda_staging_free,
    .stream_create = pinti_cuda_stream_create,
    .stream_destroy = pinti_cuda_stream_destroy,
    .stream_wait = pinti_cuda_stream_wait,
    .stream_call = pinti_cuda_stream_call,
    .copy = pinti_cuda_copy,
    .mark = pinti_cuda_mark,
    .mark_passed = pinti_cuda_mark_passed,
    .mark_wait = pinti_cuda_mark_wait,
    .mark_free = pinti_cuda_mark_free,
    .mark_notify = NULL,
    .stream_after = pinti_cuda_stream_after,
};
