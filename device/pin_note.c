/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What must be known of a registration besides the device: the process's budget, and the notes in
 * the session's slot (R8).
 *
 *   note the slabs in the session's slot (seq) -> look: COMMITTED, pool not stale -> register
 *   unregister -> take the note back
 *
 * The service takes physical memory away only from slabs that nobody notes, looked at after it
 * marked them PUNCHING: either it sees the note, or we see the mark.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/pin.h"
#include "host/error.h"

/* ---- budget of the process ------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock; /* taken last */
    uint64_t bytes;       /* registered or about to be, with all devices */
} budget = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* $PINTABLE_PIN_BYTES, or half of the machine's memory: pinned memory cannot be swapped or moved.
 */
static uint64_t read_limit(void)
{
    const char *text = getenv("PINTABLE_PIN_BYTES");
    if (text != NULL && text[0] >= '0' && text[0] <= '9') {
        char *end = NULL;
        errno = 0;
        const unsigned long long bytes = strtoull(text, &end, 10);
        if (*end == '\0' && errno == 0) {
            return bytes;
        }
    }
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

bool pinti_pin_budget_take(uint64_t bytes, uint64_t *out_limit)
{
    (void)pthread_mutex_lock(&budget.lock);
    *out_limit = read_limit();
    const bool fits = bytes <= *out_limit && budget.bytes <= *out_limit - bytes;
    budget.bytes += fits ? bytes : 0;
    (void)pthread_mutex_unlock(&budget.lock);
    return fits;
}

void pinti_pin_budget_give(uint64_t bytes)
{
    (void)pthread_mutex_lock(&budget.lock);
    budget.bytes -= bytes;
    (void)pthread_mutex_unlock(&budget.lock);
}

/* ---- notes in the slot ----------------------------------------------------------------------- */

/* How many pieces of how many devices are noted for each slab of a pool: the slot has one bit. */
typedef struct notes {
    struct notes *next;
    const pint_pool *pool;
    uint8_t *counts; /* n_slabs; sparse */
    uint64_t n_pieces;
} notes;

static pthread_mutex_t notes_lock = PTHREAD_MUTEX_INITIALIZER;
static notes *all_notes;

/* Of a pool, made when there is none. Requires notes_lock. NULL: no memory. */
static notes *notes_of(const pint_pool *pool)
{
    notes *found = all_notes;
    while (found != NULL && found->pool != pool) {
        found = found->next;
    }
    if (found == NULL) {
        found = calloc(1, sizeof(*found));
        void *counts = mmap(NULL, pool->n_slabs, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (found == NULL || counts == MAP_FAILED) {
            free(found);
            if (counts != MAP_FAILED) {
                (void)munmap(counts, pool->n_slabs);
            }
            return NULL;
        }
        found->pool = pool;
        found->counts = counts;
        found->next = all_notes;
        all_notes = found;
    }
    return found;
}

/* The last piece of a pool is gone. Requires notes_lock. */
static void notes_drop(notes *old)
{
    notes **link = &all_notes;
    while (*link != old) {
        link = &(*link)->next;
    }
    *link = old->next;
    (void)munmap(old->counts, old->pool->n_slabs);
    free(old);
}

static pinti_a8 *note_byte(const pint_pool *pool, uint32_t slab)
{
    return (pinti_a8 *)(void *)(pool->slot + PINTI_SLOT_PINS_OFF) + slab / 8;
}

static void note_clear(notes *mine, uint32_t first, uint32_t end)
{
    for (uint32_t slab = first; slab < end; slab++) {
        if (--mine->counts[slab] == 0) {
            /* release: the registration is gone before; pairs with the service's look */
            (void)pinti_and8_release(note_byte(mine->pool, slab), (uint8_t) ~(1u << slab % 8));
        }
    }
    if (--mine->n_pieces == 0) {
        notes_drop(mine);
    }
}

pint_status pinti_pin_note(const pint_pool *pool, uint32_t first, uint32_t end, pint_error *err)
{
    pint_status status = PINT_OK;
    (void)pthread_mutex_lock(&notes_lock);
    notes *mine = notes_of(pool);
    if (mine == NULL) {
        (void)pthread_mutex_unlock(&notes_lock);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    mine->n_pieces++;
    for (uint32_t slab = first; slab < end; slab++) {
        mine->counts[slab]++;
        /* seq: before the looks below; pairs with pinti_session_pins() of the service */
        (void)atomic_fetch_or_explicit(note_byte(pool, slab), (uint8_t)(1u << slab % 8),
                                       memory_order_seq_cst);
    }
    for (uint32_t slab = first; status == PINT_OK && slab < end; slab++) {
        if (pinti_load8_seq(&pinti_cat_slabs(pool->catalog)[slab]) != PINTI_SLAB_COMMITTED) {
            status = pinti_fail(err, PINT_E_STATE, 0, "pin: slab %" PRIu32 " has no memory", slab);
        }
    }
    if (status == PINT_OK && pinti_pool_is_stale(pool)) {
        status = pinti_fail(err, PINT_E_STALE, 0, "pin: the pool was replaced");
    }
    if (status != PINT_OK) {
        note_clear(mine, first, end);
    }
    (void)pthread_mutex_unlock(&notes_lock);
    return status;
}

void pinti_pin_note_give(const pint_pool *pool, uint32_t first, uint32_t end)
{
    (void)pthread_mutex_lock(&notes_lock);
    notes *mine = notes_of(pool);
    if (mine != NULL) { /* it is there: the piece was noted */
        note_clear(mine, first, end);
    }
    (void)pthread_mutex_unlock(&notes_lock);
}

void pinti_pins_forget(void)
{
    /* in a forked child: slot and registrations are the parent's */
    all_notes = NULL;
    budget.bytes = 0;
    (void)pthread_mutex_init(&notes_lock, NULL);
    (void)pthread_mutex_init(&budget.lock, NULL);
}
