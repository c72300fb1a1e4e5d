/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Host memory: registered, or allocated by the driver. Registration is checked against what the
 * kernel would allow: the range must be mapped and, unless registered read-only, writable; a shared
 * mapping of a regular file cannot be pinned. Pages are pinned whole, so registrations may not
 * share one.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/fakecuda/internal.h"

#define KNOWN_FLAGS                                                                                \
    (PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP | PINTI_CU_REGISTER_READ_ONLY)

static fake_registration *registrations;
static unsigned long long n_buffers = 1ull << 32; /* apart from those of device memory */

fake_registration *fake_registration_find(uintptr_t at, size_t bytes)
{
    for (fake_registration *r = registrations; r != NULL; r = r->next) {
        const bool by_host = at >= r->base && at - r->base < r->bytes;
        const bool by_device = at >= r->alias && at - r->alias < r->bytes;
        const uintptr_t off = by_host ? at - r->base : at - r->alias;
        if ((by_host || by_device) && bytes <= r->bytes - off) {
            return r;
        }
    }
    return NULL;
}

static uintptr_t page_of(uintptr_t at)
{
    return at / FAKE_PAGE * FAKE_PAGE;
}

static uintptr_t page_after(uintptr_t at)
{
    return page_of(at + FAKE_PAGE - 1);
}

static bool overlaps(uintptr_t at, size_t bytes)
{
    for (const fake_registration *r = registrations; r != NULL; r = r->next) {
        if (page_of(at) < page_after(r->base + r->bytes) &&
            page_of(r->base) < page_after(at + bytes)) {
            return true;
        }
    }
    return false;
}

/* A line of /proc/self/maps. */
typedef struct kernel_mapping {
    uintptr_t start, end;
    bool readable, writable, shared;
    bool regular_file;
} kernel_mapping;

static bool parse_mapping(const char *line, kernel_mapping *out)
{
    char access[5];
    char path[256] = "";
    uint64_t inode = 0;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %" SCNu64 " %255[^\n]", &out->start,
               &out->end, access, &inode, path) < 4) {
        return false;
    }
    out->readable = access[0] == 'r';
    out->writable = access[1] == 'w';
    out->shared = access[3] == 's';
    static const char *const in_memory[] = {"/memfd:", "/dev/shm/", "/dev/zero", "/SYSV",
                                            "/anon_hugepage"};
    out->regular_file = inode != 0;
    for (size_t i = 0; i < sizeof(in_memory) / sizeof(in_memory[0]); i++) {
        if (strncmp(path, in_memory[i], strlen(in_memory[i])) == 0) {
            out->regular_file = false;
        }
    }
    return true;
}

/* Mappings come in the order of their addresses. */
static bool can_be_pinned(uintptr_t at, uintptr_t end, bool read_only)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) {
        abort();
    }
    char line[512];
    bool ok = true;
    while (ok && at < end && fgets(line, sizeof(line), maps) != NULL) {
        kernel_mapping m;
        if (!parse_mapping(line, &m) || m.end <= at) {
            continue;
        }
        ok = m.start <= at && m.readable && (m.writable || read_only) &&
             !(m.shared && m.writable && m.regular_file);
        at = m.end;
    }
    (void)fclose(maps);
    return ok && at >= end;
}

/* The device's address: the host's, or a second mapping of the same pages. 0: not possible. */
static uintptr_t alias_of(uintptr_t at, size_t bytes)
{
    if (!fake_set.host_alias) {
        return at;
    }
    const uintptr_t first = page_of(at);
    /* An old size of 0 makes another mapping and leaves the first; shared mappings only. */
    void *second = mremap((void *)first, 0, page_after(at + bytes) - first, MREMAP_MAYMOVE);
    return second == MAP_FAILED ? 0 : (uintptr_t)second + (at - first);
}

static void add(fake_registration *r, pinti_cu_context context)
{
    r->context = context;
    r->incarnation = context->incarnation;
    r->buffer_id = ++n_buffers;
    r->next = registrations;
    registrations = r;
}

pinti_cu_result fake_mem_host_register(void *base, size_t bytes, unsigned int flags)
{
    FAKE_ENTER_CONTEXT(mem_host_register, context)
    const uintptr_t at = (uintptr_t)base;
    const bool read_only = (flags & PINTI_CU_REGISTER_READ_ONLY) != 0;
    if (base == NULL || bytes == 0 || (flags & ~KNOWN_FLAGS) != 0 || bytes > UINTPTR_MAX - at) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (read_only && fake_set.no_read_only) {
        return PINTI_CU_NOT_SUPPORTED;
    }
    if (bytes >= FAKE_REGISTER_MAX) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    if (overlaps(at, bytes)) {
        return PINTI_CU_HOST_MEMORY_ALREADY_REGISTERED;
    }
    if (!can_be_pinned(page_of(at), page_after(at + bytes), read_only)) {
        return PINTI_CU_INVALID_VALUE;
    }
    const uintptr_t alias = alias_of(at, bytes);
    fake_registration *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        abort();
    }
    if (alias == 0) {
        free(r);
        return PINTI_CU_NOT_SUPPORTED;
    }
    *r = (fake_registration){.base = at, .bytes = bytes, .alias = alias, .flags = flags};
    add(r, context);
    return PINTI_CU_SUCCESS;
}

static void forget(fake_registration **at)
{
    fake_registration *r = *at;
    *at = r->next;
    if (r->alias != r->base) {
        const uintptr_t first = page_of(r->alias);
        (void)munmap((void *)first, page_after(r->alias + r->bytes) - first);
    }
    if (r->is_allocated) {
        (void)munmap((void *)r->base, page_after(r->bytes));
    }
    free(r);
}

pinti_cu_result fake_mem_host_alloc(void **out_host, size_t bytes, unsigned int flags)
{
    FAKE_ENTER_CONTEXT(mem_host_alloc, context)
    if (out_host == NULL || bytes == 0 || flags != PINTI_CU_HOST_ALLOC_PORTABLE) {
        return PINTI_CU_INVALID_VALUE;
    }
    fake_registration *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        abort();
    }
    void *host =
        mmap(NULL, page_after(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED) {
        free(r);
        return PINTI_CU_OUT_OF_MEMORY;
    }
    *r = (fake_registration){
        .base = (uintptr_t)host, .bytes = bytes, .alias = (uintptr_t)host, .is_allocated = true};
    add(r, context);
    *out_host = host;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_mem_free_host(void *host)
{
    FAKE_ENTER_CONTEXT(mem_free_host, context)
    for (fake_registration **at = &registrations; *at != NULL; at = &(*at)->next) {
        if ((*at)->base == (uintptr_t)host && (*at)->is_allocated) {
            forget(at);
            return PINTI_CU_SUCCESS;
        }
    }
    return PINTI_CU_INVALID_VALUE;
}

/* Needs no current context, but the one it was registered in must still be there. */
pinti_cu_result fake_mem_host_unregister(void *base)
{
    FAKE_ENTER(mem_host_unregister);
    for (fake_registration **at = &registrations; *at != NULL; at = &(*at)->next) {
        if ((*at)->base == (uintptr_t)base && !(*at)->is_allocated) {
            if ((*at)->incarnation != (*at)->context->incarnation) {
                return PINTI_CU_CONTEXT_IS_DESTROYED;
            }
            forget(at);
            return PINTI_CU_SUCCESS;
        }
    }
    return PINTI_CU_HOST_MEMORY_NOT_REGISTERED;
}

pinti_cu_result fake_mem_host_get_device_pointer(pinti_cu_ptr *out_ptr, void *host,
                                                 unsigned int flags)
{
    FAKE_ENTER_CONTEXT(mem_host_get_device_pointer, context)
    const fake_registration *r = fake_registration_find((uintptr_t)host, 1);
    if (out_ptr == NULL || flags != 0 || r == NULL || (uintptr_t)host - r->base >= r->bytes) {
        return PINTI_CU_INVALID_VALUE;
    }
    *out_ptr = r->alias + ((uintptr_t)host - r->base);
    return PINTI_CU_SUCCESS;
}

void fake_host_reset(void)
{
    while (registrations != NULL) {
        forget(&registrations);
    }
}
