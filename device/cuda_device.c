/* SPDX-License-Identifier: Apache-2.0 */

/* See cuda_device.h. */

#include "device/cuda_device.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"

#define UUID_DIGITS        32u
#define UUID_DASHED        36u /* 8-4-4-4-12 */
#define ORDINAL_DIGITS_MAX 3u  /* more digits than that are a UUID or a mistake */
#define SHOWN_BYTES        64u

/* --- Which device ----------------------------------------------------------------------------- */

static int hex_of(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_dash(unsigned int i)
{
    return i == 8 || i == 13 || i == 18 || i == 23;
}

/* 32 digits, with dashes where a UUID has them or without any. */
static bool parse_uuid(const char *text, bool dashed, uint8_t out[16])
{
    const size_t bytes = dashed ? UUID_DASHED : UUID_DIGITS;
    unsigned int n = 0;
    if (strnlen(text, bytes + 1) != bytes) {
        return false;
    }
    for (unsigned int i = 0; i < bytes; i++) {
        if (dashed && is_dash(i)) {
            if (text[i] != '-') {
                return false;
            }
            continue;
        }
        const int digit = hex_of(text[i]);
        if (digit < 0) {
            return false;
        }
        out[n / 2] = (uint8_t)(n % 2 == 0 ? digit << 4 : out[n / 2] | digit);
        n++;
    }
    return true;
}

static bool parse_ordinal(const char *text, int *out)
{
    const size_t bytes = strnlen(text, ORDINAL_DIGITS_MAX + 1);
    *out = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        *out = *out * 10 + (text[i] - '0');
    }
    return bytes > 0 && bytes <= ORDINAL_DIGITS_MAX;
}

/* Fill out with the facts of device number ordinal. */
static pint_status read_facts(int ordinal, pinti_cuda_device *out, pint_error *err)
{
    pinti_cu_uuid uuid;
    char name[128] = "";
    memset(out, 0, sizeof(*out));
    pinti_cu_result result = pinti_cuda.device_get(&out->ordinal, ordinal);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuDeviceGet", "device 'cuda:%d'", ordinal);
    }
    result = pinti_cuda.device_get_uuid(&uuid, out->ordinal);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuDeviceGetUuid", "device 'cuda:%d'", ordinal);
    }
    memcpy(out->uuid, uuid.bytes, sizeof(out->uuid));
    result = pinti_cuda.device_get_name(name, (int)sizeof(name), out->ordinal);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuDeviceGetName", "device 'cuda:%d'", ordinal);
    }
    (void)pinti_printable(out->name, sizeof(out->name), name, strnlen(name, sizeof(name)));
    return PINT_OK;
}

static pint_status not_visible(const char *which, int n_devices, pint_error *err)
{
    char shown[SHOWN_BYTES];
    return pinti_fail(err, PINT_E_NO_DEVICE, 0,
                      "device 'cuda:%s': not among the %d GPUs that this process sees; "
                      "CUDA_VISIBLE_DEVICES and the container's devices decide",
                      pinti_printable(shown, sizeof(shown), which, strnlen(which, SHOWN_BYTES)),
                      n_devices);
}

static pint_status find_uuid(const char *which, const uint8_t uuid[16], int n_devices,
                             pinti_cuda_device *out, pint_error *err)
{
    for (int i = 0; i < n_devices; i++) {
        const pint_status status = read_facts(i, out, err);
        if (status != PINT_OK || memcmp(out->uuid, uuid, sizeof(out->uuid)) == 0) {
            return status;
        }
    }
    return not_visible(which, n_devices, err);
}

static pint_status find(const char *which, pinti_cuda_device *out, pint_error *err)
{
    uint8_t uuid[16];
    int ordinal = 0;
    int n_devices = 0;
    const bool is_ordinal = parse_ordinal(which, &ordinal);
    const bool is_dashed = strncmp(which, "GPU-", 4) == 0 || strncmp(which, "MIG-", 4) == 0;
    if (!is_ordinal && !parse_uuid(is_dashed ? which + 4 : which, is_dashed, uuid)) {
        char shown[SHOWN_BYTES];
        return pinti_fail(
            err, PINT_E_NO_DEVICE, 0,
            "device 'cuda:%s': a GPU is named by its number, by 'GPU-' and its UUID, "
            "or by 32 hexadecimal digits",
            pinti_printable(shown, sizeof(shown), which, strnlen(which, SHOWN_BYTES)));
    }
    const pinti_cu_result result = pinti_cuda.device_get_count(&n_devices);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuDeviceGetCount", "CUDA driver");
    }
    if (!is_ordinal) {
        return find_uuid(which, uuid, n_devices, out, err);
    }
    return ordinal < n_devices ? read_facts(ordinal, out, err) : not_visible(which, n_devices, err);
}

int pinti_cuda_attribute(const pinti_cuda_device *device, pinti_cu_device_attribute attribute)
{
    int value = 0;
    return pinti_cuda.device_get_attribute(&value, attribute, device->ordinal) == PINTI_CU_SUCCESS
               ? value
               : 0;
}

/* 0 where there is no memory of this kind, or the driver does not know of it: that is a fact. Any
 * other failure is an error: it would be taken for the fact as long as the process lives. */
static pint_status read_granule(pinti_cuda_device *device, pint_error *err)
{
    static const pinti_cu_device_attribute needed[] = {PINTI_CU_DEV_VIRTUAL_MEMORY_MANAGEMENT,
                                                       PINTI_CU_DEV_HANDLE_TYPE_POSIX_FD};
    const pinti_cu_mem_prop prop = pinti_cuda_exportable(device);
    const char *call = "cuDeviceGetAttribute";
    pinti_cu_result result = PINTI_CU_SUCCESS;
    int has = 1;
    for (size_t i = 0; i < 2 && result == PINTI_CU_SUCCESS && has != 0; i++) {
        result = pinti_cuda.device_get_attribute(&has, needed[i], device->ordinal);
    }
    if (result == PINTI_CU_SUCCESS && has != 0) {
        call = "cuMemGetAllocationGranularity";
        result =
            pinti_cuda.mem_get_granularity(&device->granule, &prop, PINTI_CU_GRANULARITY_MINIMUM);
    }
    if (result == PINTI_CU_SUCCESS) {
        return PINT_OK;
    }
    device->granule = 0;
    return result == PINTI_CU_NOT_SUPPORTED || result == PINTI_CU_INVALID_VALUE
               ? PINT_OK
               : pinti_cuda_fail(err, result, call, "GPU %d (%s)", device->ordinal, device->name);
}

pint_status pinti_cuda_device_find(const char *which, pinti_cuda_device *out, pint_error *err)
{
    pint_status status = pinti_cuda_load(err);
    if (status == PINT_OK) {
        status = find(which, out, err);
    }
    return status == PINT_OK ? read_granule(out, err) : status;
}

/* --- Context ---------------------------------------------------------------------------------- */

/* Of this thread, between enter and leave: what it was before. */
static _Thread_local pinti_cu_capture_mode capture_mode;

/* A thread that captures a graph forbids others the calls that it deems unsafe, and fails itself
 * when one is made. None of ours touches a stream but for those that it is given. */
static void ignore_captures(void)
{
    capture_mode = PINTI_CU_CAPTURE_RELAXED;
    if (pinti_cuda.thread_exchange_capture_mode != NULL) {
        (void)pinti_cuda.thread_exchange_capture_mode(&capture_mode);
    }
}

static void heed_captures(void)
{
    if (pinti_cuda.thread_exchange_capture_mode != NULL) {
        (void)pinti_cuda.thread_exchange_capture_mode(&capture_mode);
    }
}

/* 0: the driver does not say. */
static unsigned long long id_of(pinti_cu_context context)
{
    unsigned long long id = 0;
    const bool is_known =
        pinti_cuda.ctx_get_id != NULL && pinti_cuda.ctx_get_id(context, &id) == PINTI_CU_SUCCESS;
    return is_known ? id : 0;
}

pint_status pinti_cuda_device_retain(pinti_cuda_device *device, pint_error *err)
{
    ignore_captures();
    const pinti_cu_result result = pinti_cuda.primary_ctx_retain(&device->context, device->ordinal);
    heed_captures();
    if (result != PINTI_CU_SUCCESS) {
        device->context = NULL;
        return pinti_cuda_fail(err, result, "cuDevicePrimaryCtxRetain", "GPU %d (%s)%s",
                               device->ordinal, device->name,
                               result == PINTI_CU_DEVICE_UNAVAILABLE
                                   ? ": in use; its compute mode lets in one process at most"
                                   : "");
    }
    device->context_id = id_of(device->context);
    return PINT_OK;
}

void pinti_cuda_device_release(pinti_cuda_device *device)
{
    if (device->context != NULL && !pinti_cuda_is_forked()) {
        (void)pinti_cuda.primary_ctx_release(device->ordinal);
    }
    device->context = NULL;
}

/* It was retained: only a reset of the device takes it away. */
static pint_status context_is_gone(const pinti_cuda_device *device, const char *how,
                                   pint_error *err)
{
    return pinti_fail(err, PINT_E_DEVICE_LOST, 0,
                      "GPU %d (%s): its context is gone; has this process called "
                      "cudaDeviceReset()? %s",
                      device->ordinal, device->name, how);
}

/* One that was made anew after a reset may lie at the old one's address: its id is another. */
static pint_status check_same_context(const pinti_cuda_device *device, pint_error *err)
{
    unsigned long long id = 0;
    if (device->context_id == 0) {
        return PINT_OK;
    }
    const pinti_cu_result result = pinti_cuda.ctx_get_id(device->context, &id);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuCtxGetId", "GPU %d (%s)", device->ordinal,
                               device->name);
    }
    return id == device->context_id ? PINT_OK
                                    : context_is_gone(device, "Another one is in its place", err);
}

pint_status pinti_cuda_enter(const pinti_cuda_device *device, pint_error *err)
{
    if (pinti_cuda_is_forked()) {
        return pinti_fail(err, PINT_E_FORKED, 0,
                          "GPU %d (%s) was opened before fork(), and the driver does not work in a "
                          "forked child: start GPU workers by exec",
                          device->ordinal, device->name);
    }
    const pinti_cu_result result = pinti_cuda.ctx_push_current(device->context);
    if (result == PINTI_CU_INVALID_CONTEXT || result == PINTI_CU_CONTEXT_IS_DESTROYED) {
        char how[80];
        (void)snprintf(how, sizeof(how), "cuCtxPushCurrent: %.40s (%d)",
                       pinti_cuda_result_name(result), (int)result);
        return context_is_gone(device, how, err);
    }
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuCtxPushCurrent", "GPU %d (%s)", device->ordinal,
                               device->name);
    }
    const pint_status status = check_same_context(device, err);
    if (status != PINT_OK) {
        pinti_cu_context context;
        (void)pinti_cuda.ctx_pop_current(&context);
        return status;
    }
    ignore_captures();
    return PINT_OK;
}

void pinti_cuda_leave(void)
{
    pinti_cu_context context;
    heed_captures();
    (void)pinti_cuda.ctx_pop_current(&context);
}

/* --- Memory that is shared by descriptor ------------------------------------------------------ */

size_t pinti_cuda_granules(const pinti_cuda_device *device, uint64_t bytes)
{
    const size_t granule = device->granule;
    if (granule == 0 || bytes > SIZE_MAX - granule) {
        return 0;
    }
    return (bytes + granule - 1) / granule * granule;
}

pinti_cu_mem_prop pinti_cuda_exportable(const pinti_cuda_device *device)
{
    return (pinti_cu_mem_prop){.type = PINTI_CU_MEM_TYPE_PINNED,
                               .handle_types = PINTI_CU_HANDLE_TYPE_POSIX_FD,
                               .location = {PINTI_CU_LOCATION_DEVICE, device->ordinal}};
}

pint_status pinti_cuda_make_exported(const pinti_cuda_device *device, size_t bytes, int *out_fd,
                                     pint_error *err)
{
    const pinti_cu_mem_prop prop = pinti_cuda_exportable(device);
    pinti_cu_mem mem = 0;
    int fd = -1;
    pinti_cu_result result = pinti_cuda.mem_create(&mem, bytes, &prop, 0);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemCreate", "GPU %d (%s): %zu bytes",
                               device->ordinal, device->name, bytes);
    }
    result = pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0);
    const pinti_cu_result released = pinti_cuda.mem_release(mem);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemExportToShareableHandle",
                               "GPU %d (%s): %zu bytes", device->ordinal, device->name, bytes);
    }
    /* Nothing says that the driver's descriptor is not inherited by programs; one would keep the
     * memory. */
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (released != PINTI_CU_SUCCESS) { /* it would stay in memory when the descriptor is closed */
        (void)close(fd);
        return pinti_cuda_fail(err, released, "cuMemRelease", "GPU %d (%s): %zu bytes",
                               device->ordinal, device->name, bytes);
    }
    *out_fd = fd;
    return PINT_OK;
}

/* Map a handle at a reserved address and allow access. */
static pint_status map_at(const pinti_cuda_device *device, pinti_cu_mem mem, pinti_cu_ptr address,
                          size_t bytes, bool writable, pint_error *err)
{
    const pinti_cu_access_desc access = {.location = {PINTI_CU_LOCATION_DEVICE, device->ordinal},
                                         .flags = writable ? PINTI_CU_ACCESS_READWRITE
                                                           : PINTI_CU_ACCESS_READ};
    pinti_cu_result result = pinti_cuda.mem_map(address, bytes, 0, mem, 0);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemMap", "GPU %d (%s): %zu bytes of a copy",
                               device->ordinal, device->name, bytes);
    }
    result = pinti_cuda.mem_set_access(address, bytes, &access, 1);
    if (result != PINTI_CU_SUCCESS) {
        (void)pinti_cuda.mem_unmap(address, bytes);
        return pinti_cuda_fail(err, result, "cuMemSetAccess", "GPU %d (%s): %zu bytes, %s",
                               device->ordinal, device->name, bytes,
                               writable ? "to write" : "to read");
    }
    return PINT_OK;
}

pint_status pinti_cuda_map(const pinti_cuda_device *device, int fd, size_t bytes, bool writable,
                           pinti_cu_ptr *out_address, pint_error *err)
{
    pinti_cu_mem mem = 0;
    pinti_cu_ptr address = 0;
    pinti_cu_result result =
        pinti_cuda.mem_import(&mem, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemImportFromShareableHandle",
                               "GPU %d (%s): memory of a copy", device->ordinal, device->name);
    }
    pint_status status = PINT_OK;
    result = pinti_cuda.mem_address_reserve(&address, bytes, 0, 0, 0);
    if (result != PINTI_CU_SUCCESS) {
        status = pinti_cuda_fail(err, result, "cuMemAddressReserve", "GPU %d (%s): %zu bytes",
                                 device->ordinal, device->name, bytes);
    } else {
        status = map_at(device, mem, address, bytes, writable, err);
        if (status != PINT_OK) {
            (void)pinti_cuda.mem_address_free(address, bytes);
        }
    }
    /* The mapping keeps the memory; a handle kept as well would keep it beyond the unmap. */
    result = pinti_cuda.mem_release(mem);
    if (status == PINT_OK && result != PINTI_CU_SUCCESS) {
        pinti_cuda_unmap(address, bytes);
        status = pinti_cuda_fail(err, result, "cuMemRelease", "GPU %d (%s): memory of a copy",
                                 device->ordinal, device->name);
    }
    if (status == PINT_OK) {
        *out_address = address;
    }
    return status;
}

void pinti_cuda_unmap(pinti_cu_ptr address, size_t bytes)
{
    /* An address range that cannot be unmapped is not given back: it would be mapped over. */
    if (pinti_cuda.mem_unmap(address, bytes) == PINTI_CU_SUCCESS) {
        (void)pinti_cuda.mem_address_free(address, bytes);
    }
}
