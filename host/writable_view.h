/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WRITABLE_VIEW_H
#define HOST_WRITABLE_VIEW_H

/*
 * Writable views: pointers into a column through which rows may be stored at any time and without
 * pint_column_mark(). While there is one the column counts as changed on the host: nobody knows
 * when, so no device ever has its newest bytes together with the host
 * (tests/model/writable_view.pml).
 *
 *   column's word (pinti_column_state.xviews)   registrations, and how many there ever were
 *   slot's word (word.h)                        which column this session has registered
 *
 *   first view of a column in a session       1 slot word := REGISTERING
 *                                             2 column's word: one more, and one more ever
 *                                             3 slot word := REGISTERED
 *                                             4 every chunk that the host has newest: devices leave
 *                                               its mask
 *   an operation that puts host and device    a before it takes the chunk: note the column's word
 *   into one mask (coherence.c: the end of    b both go into the mask, the chunk still held
 *   a pull, a push, a give-back)              c is the noted word 0 registrations, and the column's
 *                                               word the noted one? if not the host alone
 *                                             d the hold ends, with the places that are left
 *   last view gone                            5 slot word := UNREGISTERING
 *                                             6 column's word: one less
 *                                             7 slot word := 0
 *
 * Either c sees 2, or 4 comes after b and takes the device out; so from 4 to 6 the two are never in
 * one mask, and no store through a view can make them differ. After 6 what a device had read is
 * still not in the mask: the next bracket copies. Nobody looks at anything when a view ends, and a
 * column without device copies costs its 1, 2 and 3 alone.
 *
 * A chunk whose newest bytes are on devices only stays so: what a view stores there is lost when
 * they come to the host, as with any plain store. So the end of a bracket that has written brings
 * its chunks to the host at once where there are views (bring_under_views()). Frozen tables do not
 * count: nobody stores there.
 *
 * Death: the service takes 5 to 7 for a REGISTERED word when nobody maps the session's pages any
 * more, forked children included. In a passing phase it cannot tell whether the column's word was
 * changed, and leaves it: never fewer registrations than views, perhaps one more until the table
 * goes, which costs copies and not bytes.
 *
 * fork(): views of the parent's are good in the child, and the parent's registrations are kept from
 * then on for as long as anybody maps its session. The child's own session registers anew what was
 * inherited, before it gives up the parent's.
 *
 * Views of a process are counted under pool->view_lock, in a pint_view per column; shared words are
 * touched by the first and the last.
 */

#include "host/sweep.h"
#include "host/table.h"

#define PINTI_VIEWS_COUNT(word_) ((uint32_t)(word_))
#define PINTI_VIEWS_ONE_MORE     (1ull << 32 | 1u) /* a registration; what ends it is - 1 */

/* What an operation notes (a) where views do not count. */
#define PINTI_VIEWS_IGNORED UINT64_MAX

/* Phases of a slot's view word; 0: the word is free. */
enum pinti_view_phase {
    PINTI_VIEW_REGISTERING = 1,
    PINTI_VIEW_REGISTERED = 2,
    PINTI_VIEW_UNREGISTERING = 3
};

struct pint_view {
    struct pint_view *next; /* of the pool's list */
    struct pint_view *previous;
    pint_pool *pool;
    pinti_column_desc *column; /* that has it in its field view; NULL: gone, or moved */
    const pinti_column_rec *rec;
    pinti_column_state *state;
    pinti_a64 *words; /* n_chunks */
    uint32_t n_chunks;
    uint32_t n_views;   /* of this process */
    uint64_t name;      /* slot word, without a phase */
    uint32_t place;     /* of it; PINTI_VIEWS_MAX: all were taken, and death will not find it */
    bool is_registered; /* by the session of the process below */
    bool is_kept;       /* there was a fork(): until the session ends */
    uint64_t process;   /* *pinti_fork_word */
};

/* Does a device that reads the column have to copy each time? seq: what a view stored before is
 * seen by the copy that follows; pairs with step 2. */
static inline bool pinti_column_is_host_changed(const pinti_column_desc *column)
{
    return PINTI_VIEWS_COUNT(pinti_load64_seq(&column->state->xviews)) != 0 &&
           !pinti_table_is_frozen_after_claim(column->table_rec);
}

/* The columns of a table were added to another: their views are of its columns now. Before the
 * session gives up its reference on the first. */
void pinti_views_move(const pinti_table_desc *from, const pinti_table_desc *to);

/* The descriptor of a column is freed. */
void pinti_views_forget_column(pinti_column_desc *column);

/* The pool is left: all of it is freed, views end with the session. */
void pinti_views_free(pint_pool *pool);

/* For fork.c, with the lock held: what is registered now stays so. */
void pinti_views_keep(pint_pool *pool);

/* The process has a session of its own after fork(): register what was inherited. */
void pinti_views_take_over(pint_pool *pool);

/* For the service: unregister what a session has left whose pages nobody maps. Only for sessions
 * that could write; whose slot, words and records are bound-checked here. May be cut off anywhere
 * and run again. */
void pinti_views_sweep(const pinti_sweep_view *view, void *slot);

#endif
