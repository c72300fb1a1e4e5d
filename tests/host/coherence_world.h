/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOST_COHERENCE_WORLD_H
#define TESTS_HOST_COHERENCE_WORLD_H

/* A table with copies of one column on two devices, open in two sessions, and chunk words in plain
 * terms: places H, A, B instead of masks. */

#include <string.h>

#include "host/claim.h"
#include "host/coherence.h"
#include "tests/host/fixture.h"

#define DEVICE_A   0u
#define DEVICE_B   7u /* the last place of the mask */
#define CHUNK_ROWS 512u
#define ROWS       (4 * CHUNK_ROWS)
#define CHUNK      1u /* the one that most tests work on */

/* places: a set of these */
enum { NOWHERE = 0, H = 1, A = 2, B = 4 };

/* sessions */
enum { ME = 0, OTHER = 1, N_SESSIONS = 2 };

typedef struct world {
    local_pool *local;
    pint_pool *session[N_SESSIONS];
    pint_table *table[N_SESSIONS];
    pint_column x[N_SESSIONS];
    uint32_t copy_a, copy_b; /* records */
    pinti_copy_desc a[N_SESSIONS], b[N_SESSIONS];
} world;

static inline void describe(world *w, int session, uint32_t copy, pinti_copy_desc *out)
{
    pint_error err;
    ASSERT_OK(pinti_copy_describe(w->session[session], copy, LOCAL_COPY_GENERATION, &w->x[session],
                                  out, &err),
              &err);
    ASSERT_OK(pinti_copy_slot_take(out, &err), &err);
}

static inline void set_up(world *w)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, PINT_NULLABLE),
                                 field_of("y", PINT_INT32, 0), field_of("z", PINT_INT32, 0)};
    const pint_schema schema = schema_of(fields, COUNT_OF(fields), CHUNK_ROWS);
    pint_error err;
    memset(w, 0, sizeof(*w));
    w->local = local_pool_new();
    for (int s = 0; s < N_SESSIONS; s++) {
        w->session[s] = local_session_new(w->local);
    }
    w->table[ME] = local_table_new(w->session[ME], "t", &schema, ROWS);
    ASSERT_OK(pint_table_open(w->session[OTHER], "t", PINT_WRITE, &w->table[OTHER], &err), &err);
    for (int s = 0; s < N_SESSIONS; s++) {
        w->x[s] = column_of(w->table[s], "x");
    }
    w->copy_a = local_copy_new(w->local, &w->x[ME], DEVICE_A);
    w->copy_b = local_copy_new(w->local, &w->x[ME], DEVICE_B);
    for (int s = 0; s < N_SESSIONS; s++) {
        ASSERT_NO_FATAL(describe(w, s, w->copy_a, &w->a[s]));
        ASSERT_NO_FATAL(describe(w, s, w->copy_b, &w->b[s]));
    }
}

static inline void tear_down(world *w)
{
    local_pool_free(w->local); /* ends the sessions */
}

static inline uint32_t index_of(const world *w, int session)
{
    return w->session[session]->session_index;
}

#define BIT_A (UINT64_C(2) << DEVICE_A)
#define BIT_B (UINT64_C(2) << DEVICE_B)

static inline uint64_t mask_of(uint32_t places)
{
    uint64_t mask = (places & H) != 0 ? 0u : 1u;
    mask |= (places & A) != 0 ? BIT_A : 0u;
    mask |= (places & B) != 0 ? BIT_B : 0u;
    return mask;
}

static inline uint32_t places_of(uint64_t word)
{
    return ((word & PINTI_HOST_STALE) == 0 ? H : 0) | ((word & BIT_A) != 0 ? A : 0) |
           ((word & BIT_B) != 0 ? B : 0);
}

static inline uint64_t make_word(uint64_t seq, uint32_t state, uint32_t holder, uint32_t places)
{
    return pinti_chunk_next((seq - 1) << PINTI_CHUNK_SEQ_SHIFT, state, holder, mask_of(places));
}

static inline uint64_t word_now(const world *w)
{
    return pinti_load64_seq(word_of(&w->x[ME], CHUNK));
}

static inline void put_word(world *w, uint64_t word)
{
    pinti_store64_seq(word_of(&w->x[ME], CHUNK), word);
}

#define SEQ0 1000u

/* Nobody holds it, and these places have the newest bytes. */
static inline void put_places(world *w, uint32_t places)
{
    put_word(w,
             make_word(SEQ0, places == NOWHERE ? PINTI_CHUNK_TORN : PINTI_CHUNK_CLEAN, 0, places));
}

static inline pinti_copy_chunk *chunk_of(world *w, char device)
{
    return &(device == 'A' ? w->a : w->b)[ME].chunks[CHUNK];
}

/* The chunk word, and that nobody is left in the words of both copies. */
static inline void expect_settled(world *w, uint64_t seq, uint32_t places)
{
    const uint64_t word = word_now(w);
    EXPECT_EQ(pinti_chunk_seq(word), seq);
    EXPECT_EQ(pinti_chunk_state(word),
              (uint32_t)(places == NOWHERE ? PINTI_CHUNK_TORN : PINTI_CHUNK_CLEAN));
    EXPECT_EQ(pinti_chunk_holder(word), 0u);
    EXPECT_EQ(places_of(word), places);
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'A')->xcopier), 0ull);
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'B')->xcopier), 0ull);
}

static inline void expect_readers(world *w, uint64_t of_a, uint64_t of_b)
{
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'A')->xreaders), of_a);
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'B')->xreaders), of_b);
}

/* As if a waiter had announced itself; has_rung() tells whether it would have been woken. */
static inline void announce_waiter(const world *w)
{
    pinti_store32_seq(&w->table[ME]->desc->bell->xbell, PINTI_BELL_ASLEEP);
}

static inline bool has_rung(const world *w)
{
    return !is_anybody_asleep(w->table[ME]);
}

/* ---- operations on device A, by the session ME ----------------------------------------------- */

enum operation { READ, PULL, CHANGE, REPLACE, PUSH, OWN, N_OPERATIONS };

#define OK    PINTI_COH_OK
#define BUSY  PINTI_COH_BUSY
#define THERE PINTI_COH_THERE
#define UP    PINTI_COH_PULL
#define DOWN  PINTI_COH_PUSH
#define TORN  PINTI_COH_TORN

/* On device A, of a CLEAN word without a holder. */
static const int on_clean[8][N_OPERATIONS] = {
    /*       READ  PULL   CHANGE REPLACE PUSH   OWN */
    [NOWHERE] = {TORN, TORN, TORN, OK, TORN, TORN},
    [H] = {UP, OK, OK, OK, THERE, OK},
    [A] = {OK, THERE, OK, OK, OK, DOWN},
    [H | A] = {OK, THERE, OK, OK, THERE, OK},
    [B] = {UP, DOWN, DOWN, OK, DOWN, DOWN},
    [H | B] = {UP, OK, OK, OK, THERE, OK},
    [A | B] = {OK, THERE, OK, OK, OK, DOWN},
    [H | A | B] = {OK, THERE, OK, OK, THERE, OK},
};

static inline int expected_on(uint32_t state, uint32_t holder, uint32_t places,
                              enum operation operation)
{
    switch (state) {
    case PINTI_CHUNK_CLEAN:
        return holder == 0 || on_clean[places][READ] == TORN ? on_clean[places][operation] : BUSY;
    case PINTI_CHUNK_TORN:
        return operation == REPLACE ? OK : TORN;
    case PINTI_CHUNK_RESTORE:
        return PINTI_COH_RESTORE;
    default:
        return BUSY;
    }
}

static inline int perform(world *w, enum operation operation, pinti_taken *taken)
{
    static const enum pinti_device_use uses[] = {[PULL] = PINTI_TAKE_TO_PULL,
                                                 [CHANGE] = PINTI_TAKE_TO_CHANGE,
                                                 [REPLACE] = PINTI_TAKE_TO_REPLACE,
                                                 [PUSH] = PINTI_TAKE_TO_PUSH};
    if (operation == READ) {
        return pinti_device_read_begin(&w->a[ME], CHUNK);
    }
    if (operation == OWN) {
        return pinti_own_host(&w->a[ME], CHUNK);
    }
    return pinti_device_take(&w->a[ME], CHUNK, uses[operation], taken);
}

#endif
