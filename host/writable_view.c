/* SPDX-License-Identifier: Apache-2.0 */

/* Writable views in the process that has them: see writable_view.h. */

#include "host/writable_view.h"

#include <stdlib.h>

#include "host/crash.h"
#include "host/error.h"
#include "host/word.h"

/* ---- the slot's words: under pool->view_lock ------------------------------------------------- */

static pinti_a64 *slot_word(const pint_view *view)
{
    return view->place < PINTI_VIEWS_MAX ? &pinti_slot_views(view->pool->slot)[view->place] : NULL;
}

static void set_phase(const pint_view *view, uint64_t word)
{
    pinti_a64 *at = slot_word(view);
    if (at != NULL) {
        /* seq: phases and the column's word change in this order; read by the service at death */
        pinti_store64_seq(at, word);
    }
}

static uint32_t take_place(pint_pool *pool)
{
    const pinti_a64 *words = pinti_slot_views(pool->slot);
    pinti_slot_header *header = (pinti_slot_header *)(void *)pool->slot;
    uint32_t place = pool->view_hint;
    /* relaxed: only this process writes them, under the lock */
    while (place < PINTI_VIEWS_MAX && pinti_load64_relaxed(&words[place]) != 0) {
        place++;
    }
    pool->view_hint = place < PINTI_VIEWS_MAX ? place + 1 : place;
    if (place < PINTI_VIEWS_MAX && place >= pinti_load32_relaxed(&header->xn_views)) {
        /* release: before the word is used; pairs with the service's acquire */
        pinti_store32_release(&header->xn_views, place + 1);
    }
    return place;
}

static void give_place(pint_view *view)
{
    set_phase(view, 0);
    if (view->place < view->pool->view_hint) {
        view->pool->view_hint = view->place;
    }
    view->place = PINTI_VIEWS_MAX;
}

/* ---- registering: under pool->view_lock ------------------------------------------------------ */

static bool has_copies(const pint_view *view)
{
    for (uint32_t i = 0; i < PINTI_DEVICES_MAX; i++) {
        /* seq: after step 2. A copy that is named later is opened later, and whoever works with it
         * sees step 2. */
        if (pinti_load32_seq(&view->rec->xcopy[i]) != 0) {
            return true;
        }
    }
    return false;
}

/* Are the host's bytes the newest, or were they when it was claimed to be written there? Then what
 * the devices have besides is what a view makes stale. */
static bool host_counts(uint64_t word)
{
    switch (pinti_chunk_state(word)) {
    case PINTI_CHUNK_CLEAN:
    case PINTI_CHUNK_DEVICE_HELD:
        return (word & PINTI_HOST_STALE) == 0;
    case PINTI_CHUNK_HELD:
    case PINTI_CHUNK_JOB_HELD:
        return true;
    default:
        return false; /* the devices are ahead, or nobody has good bytes */
    }
}

/* Step 4. Also from words that are held: as when a device goes (claim.h). Their seq stays. */
static void devices_leave(const pint_view *view)
{
    for (uint32_t i = 0; i < view->n_chunks; i++) {
        /* seq: after step 2; pairs with step b of the others */
        uint64_t now = pinti_load64_seq(&view->words[i]);
        while ((now & PINTI_CHUNK_MASK & ~PINTI_HOST_STALE) != 0 && host_counts(now)) {
            const uint64_t next = now & ~(PINTI_CHUNK_MASK & ~PINTI_HOST_STALE);
            if (pinti_cas64_seq(&view->words[i], &now, next)) {
                break;
            }
        }
    }
}

static void view_register(pint_view *view)
{
    view->place = take_place(view->pool);
    set_phase(view, view->name | PINTI_VIEW_REGISTERING);
    PINTI_CRASHPOINT(VIEW_REGISTERING);
    (void)pinti_add64_seq(&view->state->xviews, PINTI_VIEWS_ONE_MORE);
    PINTI_CRASHPOINT(VIEW_COUNTED);
    set_phase(view, view->name | PINTI_VIEW_REGISTERED);
    PINTI_CRASHPOINT(VIEW_REGISTERED);
    if (has_copies(view)) {
        devices_leave(view);
    }
    view->is_registered = true;
    view->is_kept = false;
    view->process = pinti_load64_relaxed(pinti_fork_word);
}

static void view_unregister(pint_view *view)
{
    set_phase(view, view->name | PINTI_VIEW_UNREGISTERING);
    PINTI_CRASHPOINT(VIEW_UNREGISTERING);
    /* seq, hence release: the stores through the views come before; pairs with step a of whoever
     * copies them to a device next */
    (void)pinti_add64_seq(&view->state->xviews, UINT64_MAX);
    PINTI_CRASHPOINT(VIEW_UNCOUNTED);
    give_place(view);
    view->is_registered = false;
}

/* By this process, and not by the one that it was forked from? */
static bool is_ours(const pint_view *view)
{
    return view->is_registered && view->process == pinti_load64_relaxed(pinti_fork_word);
}

/* ---- views of this process: under pool->view_lock -------------------------------------------- */

static pint_view *view_new(pinti_column_desc *column, uint32_t index)
{
    pint_view *view = calloc(1, sizeof(*view));
    if (view == NULL) {
        return NULL;
    }
    const pinti_table_desc *table = column->table;
    pint_pool *pool = column->pool;
    view->pool = pool;
    view->column = column;
    view->rec = column->rec;
    view->state = column->state;
    view->words = column->words;
    view->n_chunks = column->n_chunks;
    view->name = pinti_view_name(table->index, table->generation, index);
    view->place = PINTI_VIEWS_MAX;
    view->next = pool->views;
    if (pool->views != NULL) {
        pool->views->previous = view;
    }
    pool->views = view;
    column->view = view;
    return view;
}

static void view_free(pint_view *view)
{
    if (view->next != NULL) {
        view->next->previous = view->previous;
    }
    if (view->previous != NULL) {
        view->previous->next = view->next;
    } else {
        view->pool->views = view->next;
    }
    free(view);
}

pint_status pint_column_view_begin(const pint_column *column, pint_view **out_view, pint_error *err)
{
    if (column == NULL || out_view == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "view: NULL argument");
    }
    pinti_column_desc *desc = pinti_column_desc_own(column);
    pint_pool *pool = desc->pool;
    if (desc->type == PINT_TEXT) {
        return pinti_fail(err, PINT_E_TYPE, 0, "view: column '%s' is of text", desc->name);
    }
    pint_status status = pinti_table_check_write(column->table, "view", err);
    if (status == PINT_OK) {
        status = pinti_pool_enter(pool, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&pool->view_lock);
    pint_view *view = desc->view != NULL ? desc->view : view_new(desc, column->index);
    if (view != NULL) {
        if (!is_ours(view)) {
            view_register(view);
        }
        view->n_views++;
    }
    (void)pthread_mutex_unlock(&pool->view_lock);
    if (view == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "view of column '%s'", desc->name);
    }
    *out_view = view;
    return PINT_OK;
}

void pint_column_view_end(pint_view *view)
{
    if (view == NULL) {
        return;
    }
    pint_pool *pool = view->pool;
    (void)pthread_mutex_lock(&pool->view_lock);
    if (--view->n_views == 0) {
        if (is_ours(view) && !view->is_kept) {
            view_unregister(view);
        }
        if (view->column == NULL) { /* a word that is kept stays in the slot without it */
            view_free(view);
        }
    }
    (void)pthread_mutex_unlock(&pool->view_lock);
}

/* ---- what becomes of their columns and their process ----------------------------------------- */

/* Position of the column whose state this is: the newest ones first. */
static bool find_moved(const pinti_table_desc *to, uint64_t state_off, uint32_t *out_index)
{
    /* acquire: the columns below it are complete; pairs with the service adding some */
    for (uint32_t i = pinti_load32_acquire(&to->rec->xn_columns); i-- > 0;) {
        const pinti_column_rec *rec = pinti_cat_column(to->pool->catalog, to->rec, i);
        if (rec != NULL && rec->state_off == state_off) {
            *out_index = i;
            return true;
        }
    }
    return false;
}

void pinti_views_move(const pinti_table_desc *from, const pinti_table_desc *to)
{
    pint_pool *pool = from->pool;
    (void)pthread_mutex_lock(&pool->view_lock);
    for (pint_view *view = pool->views; view != NULL; view = view->next) {
        uint32_t index;
        if (view->column != NULL && view->column->table == from && view->n_views > 0 &&
            find_moved(to, view->rec->state_off, &index)) {
            view->rec = pinti_cat_column(to->pool->catalog, to->rec, index);
            view->name = pinti_view_name(to->index, to->generation, index);
            view->column->view = NULL; /* the new column makes one of its own */
            view->column = NULL;
            if (is_ours(view)) {
                set_phase(view, view->name | PINTI_VIEW_REGISTERED);
            }
        }
    }
    (void)pthread_mutex_unlock(&pool->view_lock);
}

void pinti_views_forget_column(pinti_column_desc *column)
{
    if (column->view == NULL) {
        return;
    }
    pint_pool *pool = column->pool;
    (void)pthread_mutex_lock(&pool->view_lock);
    pint_view *view = column->view;
    column->view = NULL;
    view->column = NULL;
    /* What is registered still names a generation that is over; the service passes it by. */
    view->is_registered = false;
    if (view->n_views == 0) {
        view_free(view);
    }
    (void)pthread_mutex_unlock(&pool->view_lock);
}

void pinti_views_free(pint_pool *pool)
{
    while (pool->views != NULL) {
        view_free(pool->views);
    }
}

void pinti_views_keep(pint_pool *pool)
{
    for (pint_view *view = pool->views; view != NULL; view = view->next) {
        view->is_kept = view->is_kept || (view->n_views > 0 && is_ours(view));
    }
}

void pinti_views_take_over(pint_pool *pool)
{
    (void)pthread_mutex_lock(&pool->view_lock);
    pool->view_hint = 0;
    for (pint_view *view = pool->views; view != NULL; view = view->next) {
        view->is_registered = false;
        view->is_kept = false;
        view->place = PINTI_VIEWS_MAX;
        if (view->n_views > 0) {
            view_register(view);
        }
    }
    (void)pthread_mutex_unlock(&pool->view_lock);
}
