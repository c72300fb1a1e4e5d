/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_COPIES_H
#define IPC_COPIES_H

/*
 * Client side of device copies: devices and copies made, found, opened and dropped by request
 * (docs/protocol.md, device.open and copy.*). What happens to the memory afterwards is device/'s.
 *
 * A copy is open in this session while its slot refers to it: generation << 32 | count at
 * pinti_slot_copies(slot)[index], as for tables (R11). The service does not free the memory of a
 * copy that a slot refers to.
 *
 * Threads: any.
 */

#include "host/table.h"
#include "pintable/column.h"

/* Find or make the pool's record of a device: *out_device is its index, below PINTI_DEVICES_MAX.
 * name: UTF-8 for people, cut to what the record holds. PINT_E_LIMIT: the pool knows 8 others. */
pint_status pinti_request_device(pint_pool *pool, const uint8_t uuid[16], bool is_cuda,
                                 const char *name, uint32_t *out_device, pint_error *err);

/* The copy of a column on a device, one-sided: LIVE or CLOSING. False: there is none. It may be
 * gone the next moment unless a reference is held. */
bool pinti_copy_find(const pint_column *column, uint32_t device, uint32_t *out_index,
                     uint32_t *out_generation);

typedef struct pinti_opened_copy {
    uint32_t index; /* of the record, which is LIVE or was when the reference was taken */
    uint32_t generation;
    bool created; /* by this call */
    int fd; /* the memory, owned by the caller; -1 for PINT_COPY_IPC, whose handle is rec->ipc */
} pinti_opened_copy;

/*
 * Open the copy of a column: on success this session refers to it once more, until
 * pinti_copy_release(). Never waits for another session; may wait for the broker of the GPU.
 *
 * kind 0: whatever is there, else PINT_COPY_VMM. may_create needs a pool joined to write.
 * PINT_E_NOT_FOUND (none, and !may_create), PINT_E_EXISTS (of another kind), PINT_E_BUSY (the one
 * that was dropped is still open somewhere, for 2 s), PINT_E_TYPE, PINT_E_QUOTA, PINT_E_LIMIT,
 * PINT_E_DEVICE, PINT_E_DEVICE_MEMORY, PINT_E_UNSUPPORTED, PINT_E_DROPPED, PINT_E_PERMISSION.
 */
pint_status pinti_request_copy(const pint_column *column, uint32_t device, uint32_t kind,
                               bool may_create, pinti_opened_copy *out_copy, pint_error *err);

/* Give one reference back, after the memory was unmapped. Never blocks, never fails. */
void pinti_copy_release(pint_pool *pool, uint32_t index, uint32_t generation);

/* Drop it for everybody: the record becomes DYING, the device leaves the masks of its chunks. Who
 * has it open keeps the memory until release. PINT_OK also when it is gone already.
 * PINT_E_BUSY: a session reads on the device, or holds a chunk by way of the copy;
 * PINT_E_DEVICE_AHEAD: a chunk is newest there alone, so bring it to the host first. Nothing has
 * changed then, and the record was CLOSING for a moment. PINT_E_PERMISSION. */
pint_status pinti_request_copy_drop(pint_pool *pool, uint32_t index, uint32_t generation,
                                    pint_error *err);

/* The same at any price (the device is lost): chunks that were newest there alone are torn. */
pint_status pinti_request_copy_discard(pint_pool *pool, uint32_t index, uint32_t generation,
                                       pint_error *err);

/* Is it dropped, or its broker dead? Not while it is CLOSING. Then brackets fail, and the memory
 * may hold anything. */
bool pinti_copy_is_dropped(const pint_pool *pool, uint32_t index, uint32_t generation);

#endif
