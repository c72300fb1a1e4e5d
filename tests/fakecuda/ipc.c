/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Legacy IPC handles. A handle names a memfd of its owner, reached through /proc/PID/fd: it is dead
 * when the owner has ended or has freed the memory. What an importer sees then is undefined in the
 * real driver; here its copies fail and break the context, and freed memory holds a pattern.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fakecuda/internal.h"

typedef struct handle {
    char magic[8];
    int64_t owner;
    uint64_t inode; /* of the memfd: numbers of processes and descriptors are used again */
    uint64_t bytes;
    int32_t fd; /* of the owner */
    int32_t physical;
    char zero[24];
} handle;

_Static_assert(sizeof(handle) == sizeof(pinti_cu_ipc_handle), "a handle has 64 bytes");

static const char magic[8] = "fakeIPC";

/* The owner's memfd, opened anew; -1 if it is gone. */
static int open_of_owner(pid_t owner, int owner_fd, uint64_t inode)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)owner, owner_fd);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fake_inode(fd) != inode) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

bool fake_import_is_alive(const fake_range *range)
{
    const int fd = open_of_owner(range->owner, range->owner_fd, range->owner_inode);
    if (fd < 0) {
        return false;
    }
    (void)close(fd);
    return true;
}

pinti_cu_result fake_ipc_get_mem_handle(pinti_cu_ipc_handle *out_handle, pinti_cu_ptr base)
{
    FAKE_ENTER_CONTEXT(ipc_get_mem_handle, context)
    fake_range *range = fake_range_find((uintptr_t)base, 1);
    if (out_handle == NULL || range == NULL || range->kind != FAKE_ALLOC ||
        range->base != (uintptr_t)base) {
        return PINTI_CU_INVALID_VALUE;
    }
    handle made = {.owner = getpid(),
                   .inode = fake_inode(range->fd),
                   .bytes = range->bytes,
                   .fd = range->fd,
                   .physical = range->context->physical};
    memcpy(made.magic, magic, sizeof(magic));
    memcpy(out_handle->bytes, &made, sizeof(made));
    range->is_exported = true;
    return PINTI_CU_SUCCESS;
}

static fake_range *import_of(const handle *wanted)
{
    for (fake_range *range = fake_range_first(); range != NULL; range = range->next) {
        if (range->kind == FAKE_IMPORT && range->owner == (pid_t)wanted->owner &&
            range->owner_inode == wanted->inode) {
            return range;
        }
    }
    return NULL;
}

static pinti_cu_result import_new(const handle *wanted, pinti_cu_context context,
                                  pinti_cu_ptr *out_ptr)
{
    const int fd = open_of_owner((pid_t)wanted->owner, wanted->fd, wanted->inode);
    if (fd < 0) {
        return PINTI_CU_INVALID_HANDLE;
    }
    const size_t bytes = (size_t)wanted->bytes;
    if (!fake_charge(context, bytes)) {
        (void)close(fd);
        return PINTI_CU_OUT_OF_MEMORY;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (base == MAP_FAILED) {
        context->used_bytes -= bytes;
        return PINTI_CU_MAP_FAILED;
    }
    fake_range *range = fake_range_add(FAKE_IMPORT, context, (uintptr_t)base, bytes);
    range->owner = (pid_t)wanted->owner;
    range->owner_fd = wanted->fd;
    range->owner_inode = wanted->inode;
    range->n_opens = 1;
    *out_ptr = range->base;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_ipc_open_mem_handle(pinti_cu_ptr *out_ptr, pinti_cu_ipc_handle sent,
                                         unsigned int flags)
{
    FAKE_ENTER_CONTEXT(ipc_open_mem_handle, current)
    handle wanted;
    memcpy(&wanted, sent.bytes, sizeof(wanted));
    if (out_ptr == NULL || flags != PINTI_CU_IPC_LAZY_PEER_ACCESS) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (memcmp(wanted.magic, magic, sizeof(magic)) != 0 || wanted.bytes == 0) {
        return PINTI_CU_INVALID_HANDLE;
    }
    if (wanted.owner == getpid()) {
        return PINTI_CU_INVALID_CONTEXT; /* also when the owner has that number in its container */
    }
    if (fake_device_at(fake_ordinal_of_physical(wanted.physical)) != current) {
        return PINTI_CU_INVALID_DEVICE; /* hidden, or not the current context's */
    }
    fake_range *range = import_of(&wanted);
    if (range == NULL) {
        return import_new(&wanted, current, out_ptr);
    }
    if (!fake_import_is_alive(range)) {
        return PINTI_CU_INVALID_HANDLE;
    }
    range->n_opens++;
    *out_ptr = range->base;
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_ipc_close_mem_handle(pinti_cu_ptr ptr)
{
    FAKE_ENTER_CONTEXT(ipc_close_mem_handle, context)
    fake_range *range = fake_range_find((uintptr_t)ptr, 1);
    if (range == NULL || range->kind != FAKE_IMPORT || range->base != (uintptr_t)ptr) {
        return PINTI_CU_INVALID_VALUE;
    }
    if (--range->n_opens == 0) {
        fake_range_remove(range);
    }
    return PINTI_CU_SUCCESS;
}
