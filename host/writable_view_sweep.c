/* SPDX-License-Identifier: Apache-2.0 */

/* What the service does about the writable views of a session that is over: writable_view.h. */

#include "host/crash.h"
#include "host/word.h"
#include "host/writable_view.h"

/* The view word of the column that a slot's word names, or NULL: it is not there any more, or
 * cannot be. */
static pinti_a64 *column_word(const pinti_sweep_view *view, uint64_t word)
{
    const pinti_table_rec *table = &pinti_cat_tables(view->catalog)[pinti_view_table(word)];
    const uint64_t gen_state = pinti_load64_acquire(&table->xgen_state);
    if (pinti_state_of(gen_state) == PINTI_FREE ||
        !pinti_view_is_generation(word, pinti_gen_of(gen_state))) {
        return NULL;
    }
    const pinti_column_rec *column =
        pinti_cat_column(view->catalog, table, pinti_view_column(word));
    if (column == NULL || column->state_off % PINTI_CACHE_LINE != 0 ||
        view->sync_bytes < sizeof(pinti_column_state) ||
        column->state_off > view->sync_bytes - sizeof(pinti_column_state)) {
        return NULL;
    }
    return &((pinti_column_state *)(void *)(view->sync + column->state_off))->xviews;
}

/* One registration less, but never less than none. */
static void count_down(pinti_a64 *views)
{
    uint64_t now = pinti_load64_acquire(views);
    /* seq, hence release: the stores through views come before; see view_unregister() */
    while (PINTI_VIEWS_COUNT(now) != 0 && !pinti_cas64_seq(views, &now, now - 1)) {
    }
}

void pinti_views_sweep(const pinti_sweep_view *view, void *slot)
{
    if (slot == NULL) {
        return;
    }
    pinti_a64 *words = pinti_slot_views(slot);
    /* acquire: pairs with take_place(). Pages behind it are holes: reading them would fill them. */
    uint32_t n = pinti_load32_acquire(&((pinti_slot_header *)slot)->xn_views);
    n = n < PINTI_VIEWS_MAX ? n : PINTI_VIEWS_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t word = pinti_load64_acquire(&words[i]);
        pinti_a64 *views = pinti_view_phase(word) == PINTI_VIEW_REGISTERED
                               ? column_word(view, word)
                               : NULL; /* passing: it may have been counted or not */
        if (views != NULL) {
            /* From here on until it is 0 the next incarnation would leave the column as it is. */
            pinti_store64_seq(&words[i], word - PINTI_VIEW_REGISTERED + PINTI_VIEW_UNREGISTERING);
            PINTI_CRASHPOINT(SERVICE_VIEW_HALF);
            count_down(views);
        }
        if (word != 0) {
            pinti_store64_seq(&words[i], 0);
        }
    }
}
