/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What lies at which device address; cuMemAlloc and its family; the budget of a device. Only what
 * this process refers to counts against the budget: a fake has no machine-wide book.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fakecuda/internal.h"

#define MEMFD_NAME "fakecuda-device-"
#define FRESH_BYTE 0xa5 /* new memory is not zero */
#define FREED_BYTE 0xdb /* what importers read once the exporter has freed */

static fake_range *ranges;
static unsigned long long n_buffers;

/* --- Ranges ----------------------------------------------------------------------------------- */

fake_range *fake_range_first(void)
{
    return ranges;
}

fake_range *fake_range_add(enum fake_kind kind, pinti_cu_context context, uintptr_t base,
                           size_t bytes)
{
    fake_range *range = calloc(1, sizeof(*range));
    if (range == NULL) {
        abort();
    }
    range->kind = kind;
    range->context = context;
    range->base = base;
    range->bytes = bytes;
    range->access = PINTI_CU_ACCESS_READWRITE;
    range->buffer_id = ++n_buffers;
    range->fd = -1;
    range->next = ranges;
    ranges = range;
    return range;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + FAKE_PAGE - 1) / FAKE_PAGE * FAKE_PAGE;
}

/* A MAPPING's address belongs to its reservation and stays. */
void fake_range_remove(fake_range *range)
{
    for (fake_range **at = &ranges; *at != NULL; at = &(*at)->next) {
        if (*at == range) {
            *at = range->next;
            break;
        }
    }
    if (range->kind != FAKE_MAPPING) {
        if (range->is_exported) {
            memset((void *)range->base, FREED_BYTE, range->bytes);
        }
        (void)munmap((void *)range->base, whole_pages(range->bytes));
        range->context->used_bytes -= range->bytes;
    }
    if (range->fd >= 0) {
        (void)close(range->fd);
    }
    free(range);
}

fake_range *fake_range_find(uintptr_t at, size_t bytes)
{
    for (fake_range *range = ranges; range != NULL; range = range->next) {
        if (at >= range->base && at - range->base < range->bytes &&
            bytes <= range->bytes - (at - range->base)) {
            return range;
        }
    }
    return NULL;
}

bool fake_charge(pinti_cu_context context, size_t bytes)
{
    if (bytes > fake_set.memory_bytes - context->used_bytes) {
        return false;
    }
    context->used_bytes += bytes;
    return true;
}

void fake_memory_reset(void)
{
    while (ranges != NULL) {
        fake_range_remove(ranges);
    }
}

/* --- Memory ----------------------------------------------------------------------------------- */

int fake_memfd(int physical, size_t bytes)
{
    char name[64];
    (void)snprintf(name, sizeof(name), MEMFD_NAME "%d", physical);
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    char fresh[FAKE_PAGE];
    memset(fresh, FRESH_BYTE, sizeof(fresh));
    size_t done = 0;
    bool ok = ftruncate(fd, (off_t)bytes) == 0;
    while (ok && done < bytes && done < FAKE_GRANULE) {
        ok = pwrite(fd, fresh, sizeof(fresh), (off_t)done) == (ssize_t)sizeof(fresh);
        done += sizeof(fresh);
    }
    if (!ok) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

int fake_memfd_physical(int fd)
{
    char path[64];
    char target[128];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(path, target, sizeof(target) - 1);
    static const char prefix[] = "/memfd:" MEMFD_NAME;
    if (n < (ssize_t)sizeof(prefix) || memcmp(target, prefix, sizeof(prefix) - 1) != 0) {
        return -1;
    }
    target[n] = '\0';
    return (int)strtol(target + sizeof(prefix) - 1, NULL, 10);
}

uint64_t fake_inode(int fd)
{
    struct stat facts;
    return fstat(fd, &facts) == 0 ? facts.st_ino : 0;
}

pinti_cu_result fake_mem_get_info(size_t *out_free_bytes, size_t *out_total_bytes)
{
    FAKE_ENTER_CONTEXT(mem_get_info, context)
    *out_free_bytes = fake_set.memory_bytes - context->used_bytes;
    *out_total_bytes = fake_set.memory_bytes;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_alloc(pinti_cu_ptr *out_ptr, size_t bytes)
{
    FAKE_ENTER_CONTEXT(mem_alloc, context)
    if (bytes == 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (!fake_charge(context, bytes)) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    const int fd = fake_memfd(context->physical, whole_pages(bytes));
    void *base = fd < 0 ? MAP_FAILED
                        : mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        context->used_bytes -= bytes;
        if (fd >= 0) {
            (void)close(fd);
        }
        return PINTI_CU_OUT_OF_MEMORY;
    }
    fake_range_add(FAKE_ALLOC, context, (uintptr_t)base, bytes)->fd = fd;
    *out_ptr = (uintptr_t)base;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_free(pinti_cu_ptr ptr)
{
    FAKE_ENTER_CONTEXT(mem_free, context)
    fake_range *range = fake_range_find((uintptr_t)ptr, 1);
    if (range == NULL || range->base != (uintptr_t)ptr || range->kind != FAKE_ALLOC) {
        return PINTI_CU_INVALID_VALUE;
    }
    fake_range_remove(range);
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_get_address_range(pinti_cu_ptr *out_base, size_t *out_bytes,
                                           pinti_cu_ptr ptr)
{
    FAKE_ENTER_CONTEXT(mem_get_address_range, context)
    const fake_range *range = fake_range_find((uintptr_t)ptr, 1);
    if (range == NULL) {
        return PINTI_CU_NOT_FOUND;
    }
    if (out_base != NULL) {
        *out_base = range->base;
    }
    if (out_bytes != NULL) {
        *out_bytes = range->bytes;
    }
    return PINTI_CU_SUCCESS;
}

/* --- Facts about an address ------------------------------------------------------------------- */

typedef struct facts {
    pinti_cu_context context;
    unsigned int memory_type;
    uintptr_t device, host, start;
    size_t bytes;
    unsigned long long buffer_id, handle_types;
    int is_legacy;
} facts;

static bool facts_of(uintptr_t at, facts *out)
{
    const fake_range *range = fake_range_find(at, 1);
    if (range != NULL) {
        *out = (facts){.context = range->context,
                       .memory_type = PINTI_CU_MEMORY_DEVICE,
                       .device = at,
                       .start = range->base,
                       .bytes = range->bytes,
                       .buffer_id = range->buffer_id,
                       .handle_types = range->kind == FAKE_MAPPING ? PINTI_CU_HANDLE_TYPE_POSIX_FD
                                                                   : PINTI_CU_HANDLE_TYPE_NONE,
                       .is_legacy = range->kind == FAKE_ALLOC};
        return true;
    }
    const fake_registration *pinned = fake_registration_find(at, 1);
    if (pinned == NULL) {
        return false;
    }
    const bool by_host = at - pinned->base < pinned->bytes;
    const uintptr_t off = by_host ? at - pinned->base : at - pinned->alias;
    *out = (facts){.context = pinned->context,
                   .memory_type = PINTI_CU_MEMORY_HOST,
                   .device = pinned->alias + off,
                   .host = pinned->base + off,
                   .start = by_host ? pinned->base : pinned->alias,
                   .bytes = pinned->bytes,
                   .buffer_id = pinned->buffer_id};
    return true;
}

pinti_cu_result fake_pointer_get_attribute(void *out_value, pinti_cu_pointer_attribute attribute,
                                           pinti_cu_ptr ptr)
{
    FAKE_ENTER(pointer_get_attribute);
    facts known;
    if (out_value == NULL || !facts_of((uintptr_t)ptr, &known)) {
        return PINTI_CU_INVALID_VALUE;
    }
    switch (attribute) {
    case PINTI_CU_POINTER_CONTEXT:
        *(pinti_cu_context *)out_value = known.context;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_MEMORY_TYPE:
        *(unsigned int *)out_value = known.memory_type;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_DEVICE_POINTER:
        *(pinti_cu_ptr *)out_value = known.device;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_HOST_POINTER:
        if (known.host == 0) {
            return PINTI_CU_INVALID_VALUE;
        }
        *(void **)out_value = (void *)known.host;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_BUFFER_ID:
        *(unsigned long long *)out_value = known.buffer_id;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_DEVICE_ORDINAL:
        *(int *)out_value = fake_ordinal_of(known.context);
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_LEGACY_IPC:
        *(int *)out_value = known.is_legacy;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_RANGE_START:
        *(void **)out_value = (void *)known.start;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_RANGE_BYTES:
        *(size_t *)out_value = known.bytes;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_MAPPED:
        *(int *)out_value = 1;
        return PINTI_CU_SUCCESS;
    case PINTI_CU_POINTER_HANDLE_TYPES:
        *(unsigned long long *)out_value = known.handle_types;
        return PINTI_CU_SUCCESS;
    default:
        return PINTI_CU_INVALID_VALUE;
    }
}
