/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Host memory registered with a device. Slabs, not tables, are registered: two tables may share
 * one, and a driver refuses what overlaps. A registration is a piece, which is used by any number
 * of sets; a set is what one user (a pinned table, an open copy) keeps.
 */

#include <inttypes.h>
#include <stdlib.h>

#include "device/pin.h"
#include "host/error.h"

#define PIECE_SLABS_MAX ((uint32_t)((1ull << 30) / PINTI_SLAB_BYTES))

/* ---- pieces: require pins.lock --------------------------------------------------------------- */

static void *slab_address(const pint_device *device, uint32_t slab)
{
    return device->pool->data + slab * PINTI_SLAB_BYTES;
}

/* The piece a slab lies in; else NULL, and *out_end is where the next piece begins. */
static pinti_pin_piece *piece_of(const pint_device *device, uint32_t slab, uint32_t *out_end)
{
    *out_end = UINT32_MAX;
    for (pinti_pin_piece *piece = device->pins.pieces; piece != NULL; piece = piece->next) {
        if (slab < piece->first_slab) {
            *out_end = piece->first_slab;
            return NULL;
        }
        if (slab < piece->first_slab + piece->n_slabs) {
            return piece;
        }
    }
    return NULL;
}

static void piece_insert(pint_device *device, pinti_pin_piece *piece)
{
    pinti_pin_piece **link = &device->pins.pieces;
    while (*link != NULL && (*link)->first_slab < piece->first_slab) {
        link = &(*link)->next;
    }
    piece->next = *link;
    *link = piece;
    device->pins.bytes += piece->n_slabs * PINTI_SLAB_BYTES;
}

/* Register slabs [first, end) as one piece. */
static pint_status piece_make(pint_device *device, uint32_t first, uint32_t end,
                              pinti_pin_piece **out_piece, pint_error *err)
{
    const uint64_t bytes = (end - first) * PINTI_SLAB_BYTES;
    uint64_t limit;
    pinti_pin_piece *piece = calloc(1, sizeof(*piece));
    if (piece == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    if (!pinti_pin_budget_take(bytes, &limit)) {
        free(piece);
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "pin: %" PRIu64 " bytes more; the process may pin %" PRIu64
                          " (PINTABLE_PIN_BYTES)",
                          bytes, limit);
    }
    pint_status status = pinti_pin_note(device->pool, first, end, err);
    if (status == PINT_OK) {
        status = device->backend->ops->pin(device->backend, slab_address(device, first), bytes,
                                           !device->pool->writable, err);
        if (status != PINT_OK) {
            pinti_pin_note_give(device->pool, first, end);
        }
    }
    if (status != PINT_OK) {
        pinti_pin_budget_give(bytes);
        free(piece);
        return status;
    }
    piece->first_slab = first;
    piece->n_slabs = end - first;
    piece_insert(device, piece);
    *out_piece = piece;
    return PINT_OK;
}

/* The same with the driver's consent to as much as it takes: halved until it does not refuse, down
 * to one slab. */
static pint_status piece_make_some(pint_device *device, uint32_t first, uint32_t end,
                                   pinti_pin_piece **out_piece, pint_error *err)
{
    uint32_t n = end - first < PIECE_SLABS_MAX ? end - first : PIECE_SLABS_MAX;
    for (;;) {
        const pint_status status = piece_make(device, first, first + n, out_piece, err);
        if (status != PINT_E_DEVICE || n == 1) {
            return status;
        }
        n = (n + 1) / 2;
    }
}

static void piece_drop(pint_device *device, pinti_pin_piece *piece)
{
    if (--piece->n_users > 0) {
        return;
    }
    pinti_pin_piece **link = &device->pins.pieces;
    while (*link != piece) {
        link = &(*link)->next;
    }
    *link = piece->next;
    const uint64_t bytes = piece->n_slabs * PINTI_SLAB_BYTES;
    /* A driver that cannot unregister has lost its context, and the registration with it. The note
     * goes after, so that the memory is not taken away under a registration. */
    (void)device->backend->ops->unpin(device->backend, slab_address(device, piece->first_slab),
                                      bytes, NULL);
    pinti_pin_note_give(device->pool, piece->first_slab, piece->first_slab + piece->n_slabs);
    device->pins.bytes -= bytes;
    pinti_pin_budget_give(bytes);
    free(piece);
}

void pinti_pin_pieces_drop(pint_device *device)
{
    while (device->pins.pieces != NULL) { /* none is left but of sets that were never released */
        device->pins.pieces->n_users = 1;
        piece_drop(device, device->pins.pieces);
    }
}

/* ---- sets ------------------------------------------------------------------------------------ */

static bool set_add(pinti_pin_set *set, pinti_pin_piece *piece)
{
    for (uint32_t i = set->n_pieces; i-- > 0;) {
        if (set->pieces[i] == piece) {
            return true; /* two runs of one set in one piece */
        }
    }
    if (set->n_pieces == set->room) {
        const uint32_t room = set->room == 0 ? 8 : set->room * 2;
        pinti_pin_piece **grown = realloc(set->pieces, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        set->pieces = grown;
        set->room = room;
    }
    set->pieces[set->n_pieces++] = piece;
    piece->n_users++;
    return true;
}

void pinti_pin_set_drop(pint_device *device, pinti_pin_set *set)
{
    while (set->n_pieces > 0) {
        piece_drop(device, set->pieces[--set->n_pieces]);
    }
    free(set->pieces);
    *set = (pinti_pin_set){0};
}

void pinti_pin_set_release(pint_device *device, pinti_pin_set *set)
{
    (void)pthread_mutex_lock(&device->pins.lock);
    pinti_pin_set_drop(device, set);
    (void)pthread_mutex_unlock(&device->pins.lock);
}

pint_status pinti_pin_set_add(pint_device *device, pinti_pin_set *set, pinti_slab_run run,
                              pinti_pin_told *told, pint_error *err)
{
    for (uint32_t slab = run.first; slab < run.end;) {
        uint32_t end;
        pinti_pin_piece *piece = piece_of(device, slab, &end);
        if (piece == NULL) {
            const pint_status status =
                piece_make_some(device, slab, end < run.end ? end : run.end, &piece, err);
            if (status != PINT_OK) {
                return status;
            }
        }
        if (!set_add(set, piece)) {
            if (piece->n_users == 0) {
                piece->n_users = 1;
                piece_drop(device, piece);
            }
            return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
        }
        end = piece->first_slab + piece->n_slabs;
        end = end < run.end ? end : run.end;
        told->done_bytes += (end - slab) * PINTI_SLAB_BYTES;
        slab = end;
        if (told->call != NULL &&
            told->call(told->context, told->done_bytes, told->all_bytes) != 0) {
            return pinti_fail(err, PINT_E_INTERRUPTED, 0, "pin: stopped by the caller");
        }
    }
    return PINT_OK;
}

/* ---- facts ----------------------------------------------------------------------------------- */

uint64_t pinti_pin_span_locked(const pint_device *device, const char *at, uint64_t bytes)
{
    const uint64_t off = (uint64_t)(at - device->pool->data);
    uint32_t end;
    const pinti_pin_piece *piece = piece_of(device, (uint32_t)(off / PINTI_SLAB_BYTES), &end);
    if (piece == NULL) {
        return 0;
    }
    const uint64_t span = (piece->first_slab + piece->n_slabs) * PINTI_SLAB_BYTES - off;
    return span < bytes ? span : bytes;
}

uint64_t pinti_pin_span(pint_device *device, const char *at, uint64_t bytes)
{
    (void)pthread_mutex_lock(&device->pins.lock);
    const uint64_t span = pinti_pin_span_locked(device, at, bytes);
    (void)pthread_mutex_unlock(&device->pins.lock);
    return span;
}

uint64_t pinti_pins_bytes(const pint_device *device)
{
    pint_device *own = (pint_device *)(uintptr_t)device; /* its lock is not part of its value */
    (void)pthread_mutex_lock(&own->pins.lock);
    const uint64_t bytes = own->pins.bytes;
    (void)pthread_mutex_unlock(&own->pins.lock);
    return bytes;
}
