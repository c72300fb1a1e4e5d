/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_PIN_H
#define DEVICE_PIN_H

/* What the files of pinning share: notes and budget (pin_note.c), registrations (pin.c), what is
 * pinned (pin_table.c). */

#include "device/internal.h"

/* ---- pin_note.c ------------------------------------------------------------------------------ */

/* Of the process, with all devices. *out_limit: for the message when it does not fit. */
bool pinti_pin_budget_take(uint64_t bytes, uint64_t *out_limit);
void pinti_pin_budget_give(uint64_t bytes);

/* Note a piece, then look whether all of it may be registered. */
pint_status pinti_pin_note(const pint_pool *pool, uint32_t first, uint32_t end, pint_error *err);
void pinti_pin_note_give(const pint_pool *pool, uint32_t first, uint32_t end);

/* ---- pin.c: require pins.lock ---------------------------------------------------------------- */

typedef struct pinti_pin_told {
    pint_pin_progress call; /* NULL: nobody wants to know */
    void *context;
    uint64_t done_bytes;
    uint64_t all_bytes;
} pinti_pin_told;

/* Keep every slab of a run registered. */
pint_status pinti_pin_set_add(pint_device *device, pinti_pin_set *set, pinti_slab_run run,
                              pinti_pin_told *told, pint_error *err);
void pinti_pin_set_drop(pint_device *device, pinti_pin_set *set);

/* Unregister what is left. */
void pinti_pin_pieces_drop(pint_device *device);

/* pinti_pin_span() */
uint64_t pinti_pin_span_locked(const pint_device *device, const char *at, uint64_t bytes);

#endif
