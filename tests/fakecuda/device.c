/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Devices, CUDA_VISIBLE_DEVICES, and primary contexts with their stack per thread. A context that
 * was released to the end is gone, also for those who still have it on their stack.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fakecuda/internal.h"

#define STACK_MAX 16

static struct CUctx_st devices[FAKE_DEVICES_MAX];
static int n_devices;
static bool started;

typedef struct stack {
    uint64_t era; /* of fake_devices_reset() */
    unsigned int n;
    struct {
        pinti_cu_context context;
        uint64_t incarnation;
    } top[STACK_MAX];
} stack;

static _Thread_local stack contexts;
static uint64_t era;

/* 16 bytes, the same for a device of the machine in every process. */
static pinti_cu_uuid uuid_of(int physical)
{
    pinti_cu_uuid uuid;
    memcpy(uuid.bytes, "fakecuda-device", 15);
    uuid.bytes[15] = (char)physical;
    return uuid;
}

static bool is_uuid_text(const char *text, size_t bytes, int physical)
{
    const pinti_cu_uuid uuid = uuid_of(physical);
    char full[64];
    size_t n = (size_t)snprintf(full, sizeof(full), "GPU-");
    for (int i = 0; i < 16; i++) {
        const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        n += (size_t)snprintf(full + n, sizeof(full) - n, dash ? "-%02x" : "%02x",
                              (unsigned char)uuid.bytes[i]);
    }
    return bytes == n && memcmp(full, text, n) == 0;
}

static int physical_named(const char *text, size_t bytes)
{
    for (int i = 0; i < fake_set.n_physical; i++) {
        char number[8];
        const size_t n = (size_t)snprintf(number, sizeof(number), "%d", i);
        if ((n == bytes && memcmp(number, text, n) == 0) || is_uuid_text(text, bytes, i)) {
            return i;
        }
    }
    return -1;
}

/* The list ends at the first entry that names no device, or one twice. */
static void choose_visible(const char *list)
{
    n_devices = 0;
    for (const char *at = list; *at != '\0' && n_devices < FAKE_DEVICES_MAX;) {
        const size_t n = strcspn(at, ",");
        const int physical = physical_named(at, n);
        if (physical < 0 || fake_ordinal_of_physical(physical) >= 0) {
            return;
        }
        devices[n_devices++].physical = physical;
        at += n + (at[n] == ',');
    }
}

pinti_cu_result fake_devices_start(void)
{
    if (!started) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        if (visible != NULL) {
            choose_visible(visible);
        } else {
            n_devices = fake_set.n_physical;
            for (int i = 0; i < n_devices; i++) {
                devices[i].physical = i;
            }
        }
        started = n_devices > 0;
    }
    return started ? PINTI_CU_SUCCESS : PINTI_CU_NO_DEVICE;
}

bool fake_devices_ready(void)
{
    return started;
}

pinti_cu_context fake_device_at(pinti_cu_device device)
{
    return device >= 0 && device < n_devices ? &devices[device] : NULL;
}

pinti_cu_device fake_ordinal_of_physical(int physical)
{
    for (int i = 0; i < n_devices; i++) {
        if (devices[i].physical == physical) {
            return i;
        }
    }
    return -1;
}

pinti_cu_device fake_ordinal_of(pinti_cu_context context)
{
    return (pinti_cu_device)(context - devices);
}

void fake_devices_reset(void)
{
    const uint64_t later = devices[0].incarnation + 1;
    memset(devices, 0, sizeof(devices));
    for (int i = 0; i < FAKE_DEVICES_MAX; i++) {
        devices[i].incarnation = later;
    }
    n_devices = 0;
    started = false;
    era++;
}

/* --- Devices ---------------------------------------------------------------------------------- */

pinti_cu_result fake_device_get_count(int *out_count)
{
    FAKE_ENTER(device_get_count);
    *out_count = n_devices;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_device_get(pinti_cu_device *out_device, int ordinal)
{
    FAKE_ENTER(device_get);
    if (fake_device_at(ordinal) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    *out_device = ordinal;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_device_get_name(char *name, int room, pinti_cu_device device)
{
    FAKE_ENTER(device_get_name);
    if (fake_device_at(device) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    if (name == NULL || room <= 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    (void)snprintf(name, (size_t)room, "Fake device %d", fake_device_at(device)->physical);
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_device_get_uuid(pinti_cu_uuid *out_uuid, pinti_cu_device device)
{
    FAKE_ENTER(device_get_uuid);
    if (fake_device_at(device) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    *out_uuid = uuid_of(fake_device_at(device)->physical);
    return PINTI_CU_SUCCESS;
}

static int attribute_of(pinti_cu_device_attribute attribute)
{
    switch (attribute) {
    case PINTI_CU_DEV_ASYNC_ENGINE_COUNT:
        return 2;
    case PINTI_CU_DEV_COMPUTE_CAPABILITY_MAJOR:
        return 9;
    case PINTI_CU_DEV_UNIFIED_ADDRESSING:
    case PINTI_CU_DEV_HOST_REGISTER:
    case PINTI_CU_DEV_VIRTUAL_MEMORY_MANAGEMENT:
    case PINTI_CU_DEV_HANDLE_TYPE_POSIX_FD:
    case PINTI_CU_DEV_STREAM_MEM_OPS_64:
    case PINTI_CU_DEV_IPC_EVENT:
        return 1;
    case PINTI_CU_DEV_HOST_POINTER_FOR_REGISTERED:
        return fake_set.host_alias ? 0 : 1;
    case PINTI_CU_DEV_READ_ONLY_HOST_REGISTER:
        return fake_set.no_read_only ? 0 : 1;
    case PINTI_CU_DEV_INTEGRATED:
    case PINTI_CU_DEV_COMPUTE_MODE:
    case PINTI_CU_DEV_COMPUTE_CAPABILITY_MINOR:
    case PINTI_CU_DEV_HOST_NATIVE_ATOMIC:
    case PINTI_CU_DEV_PAGEABLE_MEMORY_ACCESS:
    case PINTI_CU_DEV_PAGEABLE_USES_HOST_PAGE_TABLES:
    case PINTI_CU_DEV_HOST_NUMA_ID:
        return 0;
    default:
        return -1;
    }
}

pinti_cu_result fake_device_get_attribute(int *out_value, pinti_cu_device_attribute attribute,
                                          pinti_cu_device device)
{
    FAKE_ENTER(device_get_attribute);
    if (fake_device_at(device) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    const int value = attribute_of(attribute);
    if (value < 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    *out_value = value;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_device_total_mem(size_t *out_bytes, pinti_cu_device device)
{
    FAKE_ENTER(device_total_mem);
    if (fake_device_at(device) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    *out_bytes = fake_set.memory_bytes;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_device_can_access_peer(int *out_can, pinti_cu_device device,
                                            pinti_cu_device peer)
{
    FAKE_ENTER(device_can_access_peer);
    if (fake_device_at(device) == NULL || fake_device_at(peer) == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    *out_can = 0;
    return PINTI_CU_SUCCESS;
}

/* --- Contexts --------------------------------------------------------------------------------- */

static stack *own_stack(void)
{
    if (contexts.era != era) {
        contexts.era = era;
        contexts.n = 0;
    }
    return &contexts;
}

pinti_cu_result fake_context_now(pinti_cu_context *out_context)
{
    const stack *own = own_stack();
    if (own->n == 0) {
        return PINTI_CU_INVALID_CONTEXT;
    }
    pinti_cu_context context = own->top[own->n - 1].context;
    if (context->n_retains == 0 || context->incarnation != own->top[own->n - 1].incarnation) {
        return PINTI_CU_CONTEXT_IS_DESTROYED;
    }
    *out_context = context;
    return context->broken;
}

pinti_cu_result fake_primary_ctx_retain(pinti_cu_context *out_context, pinti_cu_device device)
{
    FAKE_ENTER(primary_ctx_retain);
    pinti_cu_context context = fake_device_at(device);
    if (context == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    context->n_retains++;
    *out_context = context;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_primary_ctx_release(pinti_cu_device device)
{
    FAKE_ENTER(primary_ctx_release);
    pinti_cu_context context = fake_device_at(device);
    if (context == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    if (context->n_retains == 0) {
        return PINTI_CU_INVALID_CONTEXT;
    }
    if (--context->n_retains == 0) {
        fake_streams_drop(context);
        for (fake_range *range = fake_range_first(), *next; range != NULL; range = next) {
            next = range->next;
            if (range->context == context && range->kind != FAKE_MAPPING) {
                fake_range_remove(range);
            }
        }
        context->incarnation++;
        context->broken = PINTI_CU_SUCCESS;
    }
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_ctx_push_current(pinti_cu_context context)
{
    FAKE_ENTER(ctx_push_current);
    stack *own = own_stack();
    if (context == NULL || context < devices || context >= devices + n_devices ||
        context->n_retains == 0) {
        return PINTI_CU_INVALID_CONTEXT;
    }
    if (own->n == STACK_MAX) {
        return PINTI_CU_INVALID_VALUE; /* someone pushes and does not pop */
    }
    own->top[own->n].context = context;
    own->top[own->n].incarnation = context->incarnation;
    own->n++;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_ctx_pop_current(pinti_cu_context *out_context)
{
    FAKE_ENTER(ctx_pop_current);
    stack *own = own_stack();
    if (own->n == 0) {
        return PINTI_CU_INVALID_CONTEXT;
    }
    own->n--;
    if (out_context != NULL) {
        *out_context = own->top[own->n].context;
    }
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_ctx_get_current(pinti_cu_context *out_context)
{
    FAKE_ENTER(ctx_get_current);
    const stack *own = own_stack();
    *out_context = own->n == 0 ? NULL : own->top[own->n - 1].context;
    return PINTI_CU_SUCCESS;
}

/* Another one for each time the context is made; never 0. */
pinti_cu_result fake_ctx_get_id(pinti_cu_context context, unsigned long long *out_id)
{
    FAKE_ENTER(ctx_get_id);
    if (context == NULL || context < devices || context >= devices + n_devices || out_id == NULL) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (context->n_retains == 0) {
        return PINTI_CU_CONTEXT_IS_DESTROYED;
    }
    *out_id = context->incarnation + 1;
    return PINTI_CU_SUCCESS;
}
