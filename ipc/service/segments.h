/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_SEGMENTS_H
#define IPC_SERVICE_SEGMENTS_H

/* The memfds of a pool and of its sessions: sizes, modes, seals. Layout: host/layout.h. */

#include <stdint.h>

#include "host/layout.h"
#include "ipc/service/kernel.h"
#include "pintable/status.h"

typedef struct pinti_segments {
    int catalog_fd; /* as handed out: sealed against new writable mappings, or opened read-only */
    int sync_fd;
    int sync_ro_fd; /* -1: no /proc, so nobody can join read-only */
    int data_fd;
    int data_ro_fd;
    int bell_fd;
    void *catalog; /* the one writable mapping, inherited by fork */
    uint64_t data_bytes;
    uint64_t sync_bytes;
    uint64_t pool_id[2];
} pinti_segments;

#define PINTI_DATA_BYTES_MIN (4ull << 30)
#define PINTI_SYNC_BYTES_MIN (256ull << 20)

/* Make, map, format and seal a fresh pool. future_write false: the catalog's seal is not used (see
 * pinti_features); every handed-out descriptor has mode 0. */
pint_status pinti_segments_create(pinti_segments *segments, const pinti_features *features,
                                  uint64_t budget_bytes, pint_error *err);
void pinti_segments_init(pinti_segments *segments);
void pinti_segments_done(pinti_segments *segments);

/* Slot of a session: PINTI_SLOT_BYTES, header filled in, sealed, mapped at *out_slot. */
pint_status pinti_slot_create(const pinti_features *features, uint64_t session_id, uint32_t index,
                              const uint64_t token[2], int *out_fd, void **out_slot,
                              pint_error *err);
/* Map the slot of a session that an earlier incarnation made. */
pint_status pinti_slot_map(int fd, void **out_slot, pint_error *err);

/* Tether of a session: one page, never mapped here; F_SEAL_WRITE can still be added. */
pint_status pinti_tether_create(const pinti_features *features, int *out_fd, pint_error *err);

#endif
