/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WORD_H
#define HOST_WORD_H

/*
 * The 64-bit words that protocols turn on. Packing only; the protocols are in lease.c, job.c,
 * sweep.c. No carry ever leaves a field.
 *
 * Chunk word, one per (column, chunk). 0: version 0, free, host newest.
 *   bits 0      host stale: the host copy is NOT the newest (inverted, so that 0 is a fresh table)
 *        1..8   device copies 0..7 that hold the newest committed bytes
 *        9..11  state
 *        12..25 holder: session index, 0 nobody
 *        26..63 seq: moves on at every claim, commit, abandon, mark and sweep
 *
 * Job word, one per (job, chunk). 0: pending, never tried.
 *   bits 0..3   state
 *        4..7   attempts: deaths and failures so far
 *        8..23  undo buffer + 1, 0 none
 *        24..37 holder
 *        38..63 seq, moves on at every change
 *
 * Undo word, one per undo buffer: 0 free, else chunk + 1 << 16 | holder.
 * Copier word, one per (device copy, chunk): who works on the chunk there (coherence.h). 0 nobody.
 *   bits 0..13 session index, 14..15 what it does, 26..63 seq of the chunk word it holds (push,
 *        write)
 * Intent word, in the slot: what the session is about to take (hint for the sweep; 0 none).
 *   bits 0..1 kind, 2..17 table or job index, 18..33 column, 34..63 chunk
 */

#include <stdbool.h>
#include <stdint.h>

enum pinti_chunk_state {
    PINTI_CHUNK_CLEAN = 0,
    PINTI_CHUNK_HELD = 1,          /* plain lease without undo: death loses the host's bytes */
    PINTI_CHUNK_HELD_TORN = 2,     /* the same; the host's bytes were not good when claimed */
    PINTI_CHUNK_TORN = 3,          /* a writer died inside; only a full rewrite or recover clears */
    PINTI_CHUNK_RESTORE = 4,       /* old bytes lie in an undo buffer of a job word in REDO */
    PINTI_CHUNK_JOB_HELD = 5,      /* held for a job word; that word says what death means */
    PINTI_CHUNK_JOB_HELD_TORN = 6, /* the same; the host's bytes were not good when claimed */
    PINTI_CHUNK_DEVICE_HELD = 7,   /* written on a device, or copied from one to the host */
};

#define PINTI_HOST_STALE         1ull
#define PINTI_CHUNK_MASK         0x1ffull
#define PINTI_CHUNK_STATE_SHIFT  9
#define PINTI_CHUNK_HOLDER_SHIFT 12
#define PINTI_CHUNK_SEQ_SHIFT    26
#define PINTI_HOLDER_MASK        0x3fffull

static inline uint32_t pinti_chunk_state(uint64_t w)
{
    return (uint32_t)(w >> PINTI_CHUNK_STATE_SHIFT) & 7u;
}

static inline uint32_t pinti_chunk_holder(uint64_t w)
{
    return (uint32_t)((w >> PINTI_CHUNK_HOLDER_SHIFT) & PINTI_HOLDER_MASK);
}

static inline uint64_t pinti_chunk_seq(uint64_t w)
{
    return w >> PINTI_CHUNK_SEQ_SHIFT;
}

/* The word that follows w: seq + 1 (wraps inside its field), the rest as given. */
static inline uint64_t pinti_chunk_next(uint64_t w, uint32_t state, uint32_t holder, uint64_t mask)
{
    return (((w >> PINTI_CHUNK_SEQ_SHIFT) + 1) << PINTI_CHUNK_SEQ_SHIFT) |
           ((uint64_t)holder << PINTI_CHUNK_HOLDER_SHIFT) |
           ((uint64_t)state << PINTI_CHUNK_STATE_SHIFT) | mask;
}

static inline bool pinti_chunk_is_held(uint32_t state)
{
    return state == PINTI_CHUNK_HELD || state == PINTI_CHUNK_HELD_TORN ||
           state == PINTI_CHUNK_JOB_HELD || state == PINTI_CHUNK_JOB_HELD_TORN ||
           state == PINTI_CHUNK_DEVICE_HELD;
}

/* Places with the newest bytes, not inverted: bit 0 the host, bit 1 + d device d. */
#define PINTI_PLACE_HOST 1ull

static inline uint64_t pinti_chunk_places(uint64_t w)
{
    return (w & PINTI_CHUNK_MASK) ^ PINTI_HOST_STALE;
}

/* The word that follows w when nobody holds it and these places have the newest bytes: none, and it
 * is torn. */
static inline uint64_t pinti_chunk_settled(uint64_t w, uint64_t places)
{
    return pinti_chunk_next(w, places != 0 ? PINTI_CHUNK_CLEAN : PINTI_CHUNK_TORN, 0,
                            places ^ PINTI_HOST_STALE);
}

enum pinti_copier_kind {
    PINTI_COPIER_CLAIM = 0, /* about to claim the chunk word */
    PINTI_COPIER_PUSH = 2,  /* it holds it, and writes to the host */
    PINTI_COPIER_WRITE = 3  /* it holds it, and writes on the device: also a pull */
};

/* seq of claimed: the chunk word it holds; 0 for none */
static inline uint64_t pinti_copier(uint32_t session, uint32_t kind, uint64_t claimed)
{
    return (claimed & ~((1ull << PINTI_CHUNK_SEQ_SHIFT) - 1)) | (uint64_t)kind << 14 | session;
}

static inline uint32_t pinti_copier_kind(uint64_t w)
{
    return (uint32_t)(w >> 14) & 3u;
}

static inline uint32_t pinti_copier_session(uint64_t w)
{
    return (uint32_t)(w & PINTI_HOLDER_MASK);
}

enum pinti_job_state {
    PINTI_JOB_PENDING = 0,
    PINTI_JOB_CLAIMED = 1,    /* holder s; the columns it holds have their old bytes */
    PINTI_JOB_LEASED = 2,     /* holder s, old bytes in undo u */
    PINTI_JOB_COMMITTING = 3, /* the one commit point: death rolls forward */
    PINTI_JOB_DONE = 4,
    PINTI_JOB_REDO = 5,      /* undo u must be copied back before anything else */
    PINTI_JOB_RESTORING = 6, /* holder s copies u back */
    PINTI_JOB_FAILED = 7,
};

#define PINTI_JOB_UNDO_MAX 0xfffeu

static inline uint32_t pinti_job_state(uint64_t w)
{
    return (uint32_t)w & 15u;
}

static inline uint32_t pinti_job_attempts(uint64_t w)
{
    return (uint32_t)(w >> 4) & 15u;
}

/* undo buffer + 1, 0 none */
static inline uint32_t pinti_job_undo(uint64_t w)
{
    return (uint32_t)(w >> 8) & 0xffffu;
}

static inline uint32_t pinti_job_holder(uint64_t w)
{
    return (uint32_t)((w >> 24) & PINTI_HOLDER_MASK);
}

static inline uint64_t pinti_job_next_word(uint64_t w, uint32_t state, uint32_t attempts,
                                           uint32_t undo, uint32_t holder)
{
    return (((w >> 38) + 1) << 38) | ((uint64_t)holder << 24) | ((uint64_t)undo << 8) |
           ((uint64_t)attempts << 4) | state;
}

static inline uint64_t pinti_undo_word(uint32_t holder, uint64_t chunk)
{
    return (chunk + 1) << 16 | holder;
}

static inline uint32_t pinti_undo_holder(uint64_t w)
{
    return (uint32_t)(w & PINTI_HOLDER_MASK);
}

static inline uint64_t pinti_undo_chunk(uint64_t w)
{
    return (w >> 16) - 1;
}

enum pinti_intent_kind { PINTI_INTENT_LEASE = 1, PINTI_INTENT_JOB = 2, PINTI_INTENT_DICT = 3 };

static inline uint64_t pinti_intent(uint32_t kind, uint32_t index, uint32_t column, uint64_t chunk)
{
    return (uint64_t)kind | (uint64_t)index << 2 | (uint64_t)column << 18 | chunk << 34;
}

static inline uint32_t pinti_intent_kind(uint64_t w)
{
    return (uint32_t)w & 3u;
}

static inline uint32_t pinti_intent_index(uint64_t w)
{
    return (uint32_t)(w >> 2) & 0xffffu;
}

static inline uint32_t pinti_intent_column(uint64_t w)
{
    return (uint32_t)(w >> 18) & 0xffffu;
}

static inline uint64_t pinti_intent_chunk(uint64_t w)
{
    return w >> 34;
}

/* View word, in the slot: a column that the session has writable views of (writable_view.h). 0:
 * none. bits 0..1 phase, 2..17 table, 18..33 column, 34..63 generation of the table, low 30 bits */
static inline uint64_t pinti_view_name(uint32_t table, uint32_t generation, uint32_t column)
{
    return (uint64_t)table << 2 | (uint64_t)column << 18 | (uint64_t)generation << 34;
}

static inline uint32_t pinti_view_phase(uint64_t w)
{
    return (uint32_t)w & 3u;
}

static inline uint32_t pinti_view_table(uint64_t w)
{
    return (uint32_t)(w >> 2) & 0xffffu;
}

static inline uint32_t pinti_view_column(uint64_t w)
{
    return (uint32_t)(w >> 18) & 0xffffu;
}

static inline bool pinti_view_is_generation(uint64_t w, uint32_t generation)
{
    return w >> 34 == ((uint64_t)generation << 34) >> 34;
}

/* Reference word, in the slot: generation << 32 | count (R11). */
static inline uint32_t pinti_ref_generation(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

static inline uint32_t pinti_ref_count(uint64_t w)
{
    return (uint32_t)w;
}

static inline uint32_t pinti_gen_of(uint64_t gen_state)
{
    return (uint32_t)(gen_state >> 32);
}

static inline uint32_t pinti_state_of(uint64_t gen_state)
{
    return (uint32_t)gen_state & 0xffu;
}

#endif
