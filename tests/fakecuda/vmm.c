/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Physical allocations, their descriptors, and mapping them (cuMemCreate and its family). None of
 * it needs a context. An exported descriptor is the memfd itself, so the memory lives as long as a
 * handle, a mapping or a descriptor of any process refers to it.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fakecuda/internal.h"

typedef struct fake_physical {
    struct fake_physical *next;
    pinti_cu_mem handle;
    int fd;
    uint64_t inode;
    size_t bytes;
    pinti_cu_context context;
    bool exportable;
    unsigned int n_handles; /* created or imported, not released */
    unsigned int n_maps;
} fake_physical;

typedef struct reservation {
    struct reservation *next;
    uintptr_t base;
    size_t bytes;
} reservation;

static fake_physical *memories;
static reservation *reservations;
static pinti_cu_mem n_handles_made;

static bool in_granules(unsigned long long value)
{
    return value % FAKE_GRANULE == 0;
}

/* --- Physical memory -------------------------------------------------------------------------- */

static fake_physical *memory_of(pinti_cu_mem handle)
{
    for (fake_physical *memory = memories; memory != NULL; memory = memory->next) {
        if (memory->handle == handle && memory->n_handles > 0) {
            return memory;
        }
    }
    return NULL;
}

static void drop_if_unused(fake_physical *memory)
{
    if (memory->n_handles > 0 || memory->n_maps > 0) {
        return;
    }
    for (fake_physical **at = &memories; *at != NULL; at = &(*at)->next) {
        if (*at == memory) {
            *at = memory->next;
            break;
        }
    }
    memory->context->used_bytes -= memory->bytes;
    (void)close(memory->fd);
    free(memory);
}

/* Takes fd. */
static fake_physical *add_memory(pinti_cu_context context, int fd, size_t bytes, bool exportable)
{
    fake_physical *memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        abort();
    }
    memory->handle = ++n_handles_made << 8;
    memory->fd = fd;
    memory->inode = fake_inode(fd);
    memory->bytes = bytes;
    memory->context = context;
    memory->exportable = exportable;
    memory->n_handles = 1;
    memory->next = memories;
    memories = memory;
    return memory;
}

static pinti_cu_result check_prop(const pinti_cu_mem_prop *prop)
{
    if (prop == NULL || prop->type != PINTI_CU_MEM_TYPE_PINNED || prop->win32_metadata != NULL ||
        prop->location.type != PINTI_CU_LOCATION_DEVICE) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (prop->handle_types != PINTI_CU_HANDLE_TYPE_NONE &&
        prop->handle_types != PINTI_CU_HANDLE_TYPE_POSIX_FD) {
        return PINTI_CU_NOT_SUPPORTED;
    }
    return fake_device_at(prop->location.id) == NULL ? PINTI_CU_INVALID_DEVICE : PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_get_granularity(size_t *out_bytes, const pinti_cu_mem_prop *prop,
                                         pinti_cu_granularity option)
{
    FAKE_ENTER(mem_get_granularity);
    const pinti_cu_result result = check_prop(prop);
    if (result != PINTI_CU_SUCCESS || out_bytes == NULL ||
        (unsigned int)option > PINTI_CU_GRANULARITY_RECOMMENDED) {
        return result != PINTI_CU_SUCCESS ? result : PINTI_CU_INVALID_VALUE;
    }
    *out_bytes = FAKE_GRANULE;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_create(pinti_cu_mem *out_mem, size_t bytes, const pinti_cu_mem_prop *prop,
                                unsigned long long flags)
{
    FAKE_ENTER(mem_create);
    const pinti_cu_result result = check_prop(prop);
    if (result != PINTI_CU_SUCCESS) {
        return result;
    }
    if (out_mem == NULL || bytes == 0 || !in_granules(bytes) || flags != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    pinti_cu_context context = fake_device_at(prop->location.id);
    if (!fake_charge(context, bytes)) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    const int fd = fake_memfd(context->physical, bytes);
    if (fd < 0) {
        context->used_bytes -= bytes;
        return PINTI_CU_OUT_OF_MEMORY;
    }
    const bool exportable = prop->handle_types == PINTI_CU_HANDLE_TYPE_POSIX_FD;
    *out_mem = add_memory(context, fd, bytes, exportable)->handle;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_release(pinti_cu_mem mem)
{
    FAKE_ENTER(mem_release);
    fake_physical *memory = memory_of(mem);
    if (memory == NULL) {
        return PINTI_CU_INVALID_VALUE;
    }
    memory->n_handles--;
    drop_if_unused(memory);
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_export(void *out_handle, pinti_cu_mem mem, pinti_cu_handle_type type,
                                unsigned long long flags)
{
    FAKE_ENTER(mem_export);
    const fake_physical *memory = memory_of(mem);
    if (out_handle == NULL || memory == NULL || flags != 0 || !memory->exportable ||
        type != PINTI_CU_HANDLE_TYPE_POSIX_FD) {
        return PINTI_CU_INVALID_VALUE;
    }
    const int fd = dup(memory->fd); /* inherited by programs, unless the caller sees to it */
    if (fd < 0) {
        return PINTI_CU_OPERATING_SYSTEM;
    }
    memcpy(out_handle, &fd, sizeof(fd));
    return PINTI_CU_SUCCESS;
}

/* The caller keeps its descriptor. The same memory imported again gives the same handle once more,
 * to be released as often. */
pinti_cu_result fake_mem_import(pinti_cu_mem *out_mem, void *os_handle, pinti_cu_handle_type type)
{
    FAKE_ENTER(mem_import);
    const int fd = (int)(intptr_t)os_handle;
    const int physical = fake_memfd_physical(fd);
    struct stat facts;
    if (out_mem == NULL || type != PINTI_CU_HANDLE_TYPE_POSIX_FD || physical < 0 ||
        fstat(fd, &facts) != 0 || !in_granules((unsigned long long)facts.st_size)) {
        return PINTI_CU_INVALID_VALUE;
    }
    pinti_cu_context context = fake_device_at(fake_ordinal_of_physical(physical));
    if (context == NULL) {
        return PINTI_CU_INVALID_DEVICE;
    }
    for (fake_physical *memory = memories; memory != NULL; memory = memory->next) {
        if (memory->inode == facts.st_ino) {
            memory->n_handles++;
            *out_mem = memory->handle;
            return PINTI_CU_SUCCESS;
        }
    }
    const size_t bytes = (size_t)facts.st_size;
    if (!fake_charge(context, bytes)) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    const int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own_fd < 0) {
        context->used_bytes -= bytes;
        return PINTI_CU_OPERATING_SYSTEM;
    }
    *out_mem = add_memory(context, own_fd, bytes, true)->handle;
    return PINTI_CU_SUCCESS;
}

/* --- Addresses -------------------------------------------------------------------------------- */

static reservation *reservation_of(uintptr_t at, size_t bytes)
{
    for (reservation *r = reservations; r != NULL; r = r->next) {
        if (at >= r->base && at - r->base < r->bytes && bytes <= r->bytes - (at - r->base)) {
            return r;
        }
    }
    return NULL;
}

/* A mapping that has a byte in [at, at + bytes). */
static fake_range *mapping_in(uintptr_t at, size_t bytes)
{
    for (fake_range *range = fake_range_first(); range != NULL; range = range->next) {
        if (range->kind == FAKE_MAPPING && range->base < at + bytes &&
            at < range->base + range->bytes) {
            return range;
        }
    }
    return NULL;
}

static void *reserve(void *at, size_t bytes, int flags)
{
    return mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

pinti_cu_result fake_mem_address_reserve(pinti_cu_ptr *out_ptr, size_t bytes, size_t alignment,
                                         pinti_cu_ptr hint, unsigned long long flags)
{
    FAKE_ENTER(mem_address_reserve);
    (void)hint; /* may be passed over */
    const size_t align = alignment < FAKE_GRANULE ? FAKE_GRANULE : alignment;
    if (out_ptr == NULL || bytes == 0 || !in_granules(bytes) ||
        (alignment & (alignment - 1)) != 0 || flags != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    char *raw = reserve(NULL, bytes + align, 0);
    if (raw == MAP_FAILED) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    const size_t lead = (align - (uintptr_t)raw % align) % align;
    if (lead > 0) {
        (void)munmap(raw, lead);
    }
    (void)munmap(raw + lead + bytes, align - lead);
    reservation *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        abort();
    }
    r->base = (uintptr_t)raw + lead;
    r->bytes = bytes;
    r->next = reservations;
    reservations = r;
    *out_ptr = r->base;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_address_free(pinti_cu_ptr ptr, size_t bytes)
{
    FAKE_ENTER(mem_address_free);
    for (reservation **at = &reservations; *at != NULL; at = &(*at)->next) {
        reservation *r = *at;
        if (r->base == (uintptr_t)ptr && r->bytes == bytes) {
            if (mapping_in(r->base, r->bytes) != NULL) {
                return PINTI_CU_INVALID_VALUE;
            }
            *at = r->next;
            (void)munmap((void *)r->base, r->bytes);
            free(r);
            return PINTI_CU_SUCCESS;
        }
    }
    return PINTI_CU_INVALID_VALUE;
}

pinti_cu_result fake_mem_map(pinti_cu_ptr ptr, size_t bytes, size_t offset, pinti_cu_mem mem,
                             unsigned long long flags)
{
    FAKE_ENTER(mem_map);
    fake_physical *memory = memory_of(mem);
    const uintptr_t at = (uintptr_t)ptr;
    if (memory == NULL || flags != 0 || offset != 0 || bytes == 0 || !in_granules(bytes) ||
        !in_granules(ptr) || bytes > memory->bytes || reservation_of(at, bytes) == NULL ||
        mapping_in(at, bytes) != NULL) {
        return PINTI_CU_INVALID_VALUE;
    }
    /* Not accessible before cuMemSetAccess(). */
    if (mmap((void *)at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, memory->fd, 0) == MAP_FAILED) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    fake_range *range = fake_range_add(FAKE_MAPPING, memory->context, at, bytes);
    range->access = PINTI_CU_ACCESS_NONE;
    range->memory = memory;
    memory->n_maps++;
    return PINTI_CU_SUCCESS;
}

/* [at, at + bytes) consists of whole mappings. */
static bool is_whole_mappings(uintptr_t at, size_t bytes)
{
    const uintptr_t end = at + bytes;
    while (at < end) {
        const fake_range *range = mapping_in(at, 1);
        if (range == NULL || range->base != at || range->bytes > end - at) {
            return false;
        }
        at += range->bytes;
    }
    return true;
}

static void unmap(fake_range *range)
{
    fake_physical *memory = range->memory;
    if (reserve((void *)range->base, range->bytes, MAP_FIXED) == MAP_FAILED) {
        abort();
    }
    fake_range_remove(range);
    memory->n_maps--;
    drop_if_unused(memory);
}

pinti_cu_result fake_mem_unmap(pinti_cu_ptr ptr, size_t bytes)
{
    FAKE_ENTER(mem_unmap);
    if (bytes == 0 || !is_whole_mappings((uintptr_t)ptr, bytes)) {
        return PINTI_CU_INVALID_VALUE;
    }
    for (fake_range *range; (range = mapping_in((uintptr_t)ptr, bytes)) != NULL;) {
        unmap(range);
    }
    return PINTI_CU_SUCCESS;
}

static int protection(pinti_cu_access access)
{
    switch (access) {
    case PINTI_CU_ACCESS_READWRITE:
        return PROT_READ | PROT_WRITE;
    case PINTI_CU_ACCESS_READ:
        return PROT_READ;
    case PINTI_CU_ACCESS_NONE:
    default:
        return PROT_NONE;
    }
}

/* The devices of the fake are not peers: only the memory's own can be given access. */
pinti_cu_result fake_mem_set_access(pinti_cu_ptr ptr, size_t bytes,
                                    const pinti_cu_access_desc *descs, size_t n_descs)
{
    FAKE_ENTER(mem_set_access);
    if (descs == NULL || n_descs != 1 || bytes == 0 ||
        descs->location.type != PINTI_CU_LOCATION_DEVICE ||
        !is_whole_mappings((uintptr_t)ptr, bytes) ||
        (descs->flags != PINTI_CU_ACCESS_NONE && descs->flags != PINTI_CU_ACCESS_READ &&
         descs->flags != PINTI_CU_ACCESS_READWRITE)) {
        return PINTI_CU_INVALID_VALUE;
    }
    for (uintptr_t at = (uintptr_t)ptr; at < (uintptr_t)ptr + bytes;) {
        fake_range *range = mapping_in(at, 1);
        if (range->context != fake_device_at(descs->location.id)) {
            return PINTI_CU_INVALID_DEVICE;
        }
        if (mprotect((void *)range->base, range->bytes, protection(descs->flags)) != 0) {
            return PINTI_CU_NOT_SUPPORTED;
        }
        range->access = descs->flags;
        at += range->bytes;
    }
    return PINTI_CU_SUCCESS;
}

void fake_vmm_reset(void)
{
    while (memories != NULL) { /* their mappings are forgotten already */
        memories->n_handles = 0;
        memories->n_maps = 0;
        drop_if_unused(memories);
    }
    while (reservations != NULL) {
        reservation *r = reservations;
        reservations = r->next;
        (void)munmap((void *)r->base, r->bytes);
        free(r);
    }
}
