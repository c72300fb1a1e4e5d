/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What may be done with a descriptor that was handed out is decided here, once: SHRINK, GROW and
 * SEAL on all (no SIGBUS by truncation), FUTURE_WRITE on the catalog after it was mapped, mode 0 so
 * that a read-only descriptor cannot be opened again for writing by another user. Read-only ones
 * are made before the mode is taken away: afterwards even their maker could not (unless root).
 */

#include "ipc/service/segments.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/service/catalog.h"

#ifndef F_ADD_SEALS
#    define F_ADD_SEALS   1033
#    define F_SEAL_SEAL   0x0001
#    define F_SEAL_SHRINK 0x0002
#    define F_SEAL_GROW   0x0004
#endif
#ifndef F_SEAL_FUTURE_WRITE
#    define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)

static pint_status fail(const char *what, const char *name, pint_error *err)
{
    const int reason = errno;
    const pint_status status =
        reason == EMFILE || reason == ENFILE ? PINT_E_FD_LIMIT : PINT_E_SYSTEM;
    return pinti_fail(err, status, reason, "%s of the %s segment", what, name);
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

/* Mode 0, then the seals. */
static pint_status close_off(int fd, int seals, const char *name, pint_error *err)
{
    if (fchmod(fd, 0) != 0) {
        return fail("fchmod", name, err);
    }
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
        return fail("sealing", name, err);
    }
    return PINT_OK;
}

void pinti_segments_init(pinti_segments *segments)
{
    memset(segments, 0, sizeof(*segments));
    segments->catalog_fd = -1;
    segments->sync_fd = -1;
    segments->sync_ro_fd = -1;
    segments->data_fd = -1;
    segments->data_ro_fd = -1;
    segments->bell_fd = -1;
}

void pinti_segments_done(pinti_segments *segments)
{
    if (segments->catalog != NULL) {
        (void)munmap(segments->catalog, PINTI_CAT_BYTES);
        segments->catalog = NULL;
    }
    close_fd(&segments->catalog_fd);
    close_fd(&segments->sync_fd);
    close_fd(&segments->sync_ro_fd);
    close_fd(&segments->data_fd);
    close_fd(&segments->data_ro_fd);
    close_fd(&segments->bell_fd);
}

static pint_status create_catalog(pinti_segments *segments, const pinti_features *features,
                                  uint64_t budget_bytes, pint_error *err)
{
    segments->catalog_fd = pinti_memfd(features, "pintable-catalog", PINTI_CAT_BYTES);
    if (segments->catalog_fd < 0) {
        return fail("memfd_create", "catalog", err);
    }
    void *catalog =
        mmap(NULL, PINTI_CAT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, segments->catalog_fd, 0);
    if (catalog == MAP_FAILED) {
        return fail("mmap", "catalog", err);
    }
    segments->catalog = catalog;
    (void)madvise(catalog, PINTI_CAT_BYTES, MADV_DONTDUMP);
    pinti_cat_format(catalog, segments->data_bytes, segments->sync_bytes, budget_bytes,
                     segments->pool_id);
    if (features->future_write) {
        return close_off(segments->catalog_fd, SEALS_SIZE | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL,
                         "catalog", err);
    }
    const int read_only = pinti_reopen_read_only(segments->catalog_fd);
    if (read_only < 0) {
        return fail("opening again", "catalog", err);
    }
    const pint_status status =
        close_off(segments->catalog_fd, SEALS_SIZE | F_SEAL_SEAL, "catalog", err);
    (void)close(segments->catalog_fd);
    segments->catalog_fd = read_only;
    return status;
}

/* out_ro_fd NULL: nobody needs it read-only. */
static pint_status create_plain(const pinti_features *features, const char *name, uint64_t bytes,
                                int *out_fd, int *out_ro_fd, pint_error *err)
{
    *out_fd = pinti_memfd(features, name, bytes);
    if (*out_fd < 0) {
        return fail("memfd_create", name, err);
    }
    if (out_ro_fd != NULL) {
        *out_ro_fd = pinti_reopen_read_only(*out_fd);
    }
    return close_off(*out_fd, SEALS_SIZE | F_SEAL_SEAL, name, err);
}

pint_status pinti_segments_create(pinti_segments *segments, const pinti_features *features,
                                  uint64_t budget_bytes, pint_error *err)
{
    const uint64_t max = (uint64_t)PINTI_SLABS_MAX * PINTI_SLAB_BYTES;
    uint64_t data_bytes = budget_bytes > max / 16 ? max : budget_bytes * 16;
    if (data_bytes < PINTI_DATA_BYTES_MIN) {
        data_bytes = PINTI_DATA_BYTES_MIN;
    }
    segments->data_bytes =
        (data_bytes + PINTI_SLAB_BYTES - 1) / PINTI_SLAB_BYTES * PINTI_SLAB_BYTES;
    segments->sync_bytes = segments->data_bytes / 64 > PINTI_SYNC_BYTES_MIN
                               ? segments->data_bytes / 64
                               : PINTI_SYNC_BYTES_MIN;
    if (!pinti_random(segments->pool_id, sizeof(segments->pool_id))) {
        return pinti_fail(err, PINT_E_SYSTEM, errno, "getrandom");
    }
    pint_status status = create_catalog(segments, features, budget_bytes, err);
    if (status == PINT_OK) {
        status = create_plain(features, "pintable-sync", segments->sync_bytes, &segments->sync_fd,
                              &segments->sync_ro_fd, err);
    }
    if (status == PINT_OK) {
        status = create_plain(features, "pintable-data", segments->data_bytes, &segments->data_fd,
                              &segments->data_ro_fd, err);
    }
    if (status == PINT_OK) {
        status = create_plain(features, "pintable-bell", PINTI_BELL_BYTES, &segments->bell_fd, NULL,
                              err);
    }
    return status;
}

pint_status pinti_slot_map(int fd, void **out_slot, pint_error *err)
{
    void *slot = mmap(NULL, PINTI_SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (slot == MAP_FAILED) {
        return fail("mmap", "slot", err);
    }
    (void)madvise(slot, PINTI_SLOT_BYTES, MADV_DONTDUMP);
    (void)madvise(slot, PINTI_SLOT_BYTES, MADV_DONTFORK); /* helpers must not keep it alive */
    *out_slot = slot;
    return PINT_OK;
}

pint_status pinti_slot_create(const pinti_features *features, uint64_t session_id, uint32_t index,
                              const uint64_t token[2], int *out_fd, void **out_slot,
                              pint_error *err)
{
    int fd = -1;
    void *slot = NULL;
    pint_status status = create_plain(features, "pintable-slot", PINTI_SLOT_BYTES, &fd, NULL, err);
    if (status == PINT_OK) {
        status = pinti_slot_map(fd, &slot, err);
    }
    if (status != PINT_OK || slot == NULL) {
        close_fd(&fd);
        return status;
    }
    pinti_slot_header *header = slot;
    header->magic = PINTI_SLOT_MAGIC;
    header->session_id = session_id;
    header->session_index = index;
    header->token[0] = token[0];
    header->token[1] = token[1];
    *out_fd = fd;
    *out_slot = slot;
    return PINT_OK;
}

pint_status pinti_tether_create(const pinti_features *features, int *out_fd, pint_error *err)
{
    int fd = pinti_memfd(features, "pintable-tether", PINTI_TETHER_BYTES);
    if (fd < 0) {
        return fail("memfd_create", "tether", err);
    }
    const pint_status status = close_off(fd, SEALS_SIZE, "tether", err);
    if (status != PINT_OK) {
        close_fd(&fd);
        return status;
    }
    *out_fd = fd;
    return PINT_OK;
}
