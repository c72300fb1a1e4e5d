/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Host memory registered with a device (R8). Slabs, not tables, are registered: two tables may
 * share one, and a driver refuses what overlaps. A registration is a piece, which is used by any
 * number of sets; a set is what one user (a pinned table, an open copy) keeps.
 *
 *   note the slabs in the session's slot (seq) -> look: COMMITTED, pool not stale -> register
 *   unregister -> take the note back
 *
 * The service takes physical memory away only from slabs that nobody notes, looked at after it
 * marked them PUNCHING: either it sees the note, or we see the mark.
 */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/internal.h"
#include "host/error.h"

#define PIECE_SLABS_MAX ((uint32_t)((1ull << 30) / PINTI_SLAB_BYTES))

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

static bool budget_take(uint64_t bytes, uint64_t *out_limit)
{
    (void)pthread_mutex_lock(&budget.lock);
    *out_limit = read_limit();
    const bool fits = bytes <= *out_limit && budget.bytes <= *out_limit - bytes;
    budget.bytes += fits ? bytes : 0;
    (void)pthread_mutex_unlock(&budget.lock);
    return fits;
}

static void budget_give(uint64_t bytes)
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

/* Note a piece, then look whether all of it may be registered. */
static pint_status note_set(const pint_pool *pool, uint32_t first, uint32_t end, pint_error *err)
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

static void note_give(const pint_pool *pool, uint32_t first, uint32_t end)
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
    if (!budget_take(bytes, &limit)) {
        free(piece);
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "pin: %" PRIu64 " bytes more; the process may pin %" PRIu64
                          " (PINTABLE_PIN_BYTES)",
                          bytes, limit);
    }
    pint_status status = note_set(device->pool, first, end, err);
    if (status == PINT_OK) {
        status = device->backend->ops->pin(device->backend, slab_address(device, first), bytes,
                                           !device->pool->writable, err);
        if (status != PINT_OK) {
            note_give(device->pool, first, end);
        }
    }
    if (status != PINT_OK) {
        budget_give(bytes);
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
    note_give(device->pool, piece->first_slab, piece->first_slab + piece->n_slabs);
    device->pins.bytes -= bytes;
    budget_give(bytes);
    free(piece);
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

static void set_release_locked(pint_device *device, pinti_pin_set *set)
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
    set_release_locked(device, set);
    (void)pthread_mutex_unlock(&device->pins.lock);
}

typedef struct progress {
    pint_pin_progress call; /* NULL: nobody wants to know */
    void *context;
    uint64_t done_bytes;
    uint64_t all_bytes;
} progress;

/* Keep every slab of a run registered. Requires pins.lock. */
static pint_status set_add_run(pint_device *device, pinti_pin_set *set, pinti_slab_run run,
                               progress *told, pint_error *err)
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

/* ---- what is to be pinned -------------------------------------------------------------------- */

typedef struct runs {
    pinti_slab_run *at; /* room for 5 per column */
    uint32_t n;
} runs;

static void add_buffer(const pint_pool *pool, const void *buffer, uint64_t bytes, runs *out)
{
    if (buffer == NULL || bytes == 0) {
        return;
    }
    const uint64_t off = (uint64_t)((const char *)buffer - pool->data);
    out->at[out->n++] = (pinti_slab_run){
        .first = (uint32_t)(off / PINTI_SLAB_BYTES),
        .end = (uint32_t)((off + bytes - 1) / PINTI_SLAB_BYTES + 1),
    };
}

static void add_column(const pint_pool *pool, const pinti_column_desc *column, uint64_t rows,
                       runs *out)
{
    const uint64_t bits_bytes = (rows + 7) / 8;
    add_buffer(pool, column->values, column->row_bytes != 0 ? rows * column->row_bytes : bits_bytes,
               out);
    add_buffer(pool, column->validity, bits_bytes, out);
    add_buffer(pool, column->offsets, (rows + 1) * 8, out);
    add_buffer(pool, column->data, column->data_bytes, out);
    add_buffer(pool, column->dict_offsets, (column->n_categories + 1) * 8, out);
}

static int by_first(const void *a, const void *b)
{
    const pinti_slab_run *left = a;
    const pinti_slab_run *right = b;
    return left->first < right->first ? -1 : left->first > right->first;
}

/* Ascending, joined where they touch. Buffers of one table lie close together. */
static void join_runs(runs *out)
{
    qsort(out->at, out->n, sizeof(*out->at), by_first);
    uint32_t n = 0;
    for (uint32_t i = 0; i < out->n; i++) {
        if (n > 0 && out->at[i].first <= out->at[n - 1].end) {
            if (out->at[i].end > out->at[n - 1].end) {
                out->at[n - 1].end = out->at[i].end;
            }
        } else {
            out->at[n++] = out->at[i];
        }
    }
    out->n = n;
}

/* Register all runs, or none. Requires pins.lock. */
static pint_status set_make(pint_device *device, runs *wanted, pint_pin_progress call,
                            void *context, pinti_pin_set *set, pint_error *err)
{
    progress told = {.call = call, .context = context};
    pint_status status = PINT_OK;
    join_runs(wanted);
    for (uint32_t i = 0; i < wanted->n; i++) {
        told.all_bytes += (wanted->at[i].end - wanted->at[i].first) * PINTI_SLAB_BYTES;
    }
    for (uint32_t i = 0; status == PINT_OK && i < wanted->n; i++) {
        status = set_add_run(device, set, wanted->at[i], &told, err);
    }
    if (status != PINT_OK) {
        set_release_locked(device, set);
    }
    return status;
}

pint_status pinti_pin_column(pint_device *device, const pinti_column_desc *column,
                             uint64_t row_capacity, pinti_pin_set *set, pint_error *err)
{
    pinti_slab_run room[5];
    runs wanted = {.at = room};
    add_column(device->pool, column, row_capacity, &wanted);
    (void)pthread_mutex_lock(&device->pins.lock);
    const pint_status status = set_make(device, &wanted, NULL, NULL, set, err);
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

/* pinti_pin_span(). Requires pins.lock. */
static uint64_t span_locked(const pint_device *device, const char *at, uint64_t bytes)
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
    const uint64_t span = span_locked(device, at, bytes);
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

/* ---- tables ---------------------------------------------------------------------------------- */

/* Of a table as it is now: columns that are added later are not in it. Requires pins.lock. */
static pint_status pin_all_columns(pint_device *device, const pint_table *table,
                                   pint_pin_progress call, void *context, pinti_pin_set *set,
                                   pint_error *err)
{
    const uint32_t n_columns = pint_table_columns(table);
    runs wanted = {.at = calloc((size_t)n_columns * 5 + 1, sizeof(pinti_slab_run))};
    if (wanted.at == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    for (uint32_t i = 0; i < n_columns; i++) {
        add_column(device->pool, pinti_column_desc_at(table->desc, i),
                   table->desc->rec->row_capacity, &wanted);
    }
    const pint_status status = set_make(device, &wanted, call, context, set, err);
    free(wanted.at);
    return status;
}

static pinti_pinned_table **link_of(pint_device *device, const pint_table *table)
{
    pinti_pinned_table **link = &device->pins.tables;
    while (*link != NULL && (*link)->table->desc != table->desc) {
        link = &(*link)->next;
    }
    return link;
}

/* Requires pins.lock. */
static pint_status pin_table(pint_device *device, pint_table *table, pint_pin_progress call,
                             void *context, pinti_pinned_table **out_pinned, pint_error *err)
{
    pinti_pinned_table *pinned = *link_of(device, table);
    if (pinned != NULL) {
        pinned->n_pins++;
        *out_pinned = pinned;
        return PINT_OK;
    }
    pinned = calloc(1, sizeof(*pinned));
    if (pinned == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "pin: no memory");
    }
    const pint_status status = pin_all_columns(device, table, call, context, &pinned->set, err);
    if (status != PINT_OK) {
        free(pinned);
        return status;
    }
    pinti_table_hold(table);
    pinned->table = table;
    pinned->n_pins = 1;
    pinned->next = device->pins.tables;
    device->pins.tables = pinned;
    *out_pinned = pinned;
    return PINT_OK;
}

static void unpin_table(pint_device *device, pinti_pinned_table **link)
{
    pinti_pinned_table *pinned = *link;
    *link = pinned->next;
    set_release_locked(device, &pinned->set);
    pint_table_close(pinned->table);
    free(pinned);
}

static pint_status check(const pint_device *device, const pint_table *table, pint_error *err)
{
    if (device == NULL || table == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "pin: NULL argument");
    }
    const pint_status status = pinti_device_enter(device, err);
    if (status == PINT_OK && table->desc->pool != device->pool) {
        return pinti_fail(err, PINT_E_INVALID, 0, "pin: the device was opened for another pool");
    }
    return status;
}

pint_status pint_device_pin(pint_device *device, pint_table *table, pint_pin_progress progress_call,
                            void *context, pint_error *err)
{
    pinti_pinned_table *pinned;
    pint_status status = check(device, table, err);
    if (status == PINT_OK) {
        (void)pthread_mutex_lock(&device->pins.lock);
        status = pin_table(device, table, progress_call, context, &pinned, err);
        (void)pthread_mutex_unlock(&device->pins.lock);
    }
    return status;
}

pint_status pint_device_unpin(pint_device *device, pint_table *table, pint_error *err)
{
    pint_status status = check(device, table, err);
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&device->pins.lock);
    pinti_pinned_table **link = link_of(device, table);
    const pinti_pinned_table *pinned = *link;
    if (pinned == NULL || pinned->n_pins <= (uint64_t)pinned->is_mapped) {
        status = pinti_fail(err, PINT_E_STATE, 0, "unpin: the table is not pinned");
    } else if (--(*link)->n_pins == 0) {
        unpin_table(device, link);
    }
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

/* A kernel follows one pointer through all of the values, which lie in several registrations when
 * they are large: the device must see these behind one another, as the host does. */
static pint_status map_values(pint_device *device, const pint_column *column, uint64_t *out_address,
                              pint_error *err)
{
    const pinti_backend_ops *ops = device->backend->ops;
    const pinti_table_desc *table = column->table->desc;
    char *values = column->values;
    const uint32_t row_bytes = pinti_column_desc_of(column)->row_bytes;
    const uint64_t rows = table->rec->row_capacity;
    const uint64_t bytes = row_bytes != 0 ? rows * row_bytes : (rows + 7) / 8;
    uint64_t first = 0;
    pint_status status = ops->mapped(device->backend, values, &first, err);
    uint64_t done = 0;
    while (status == PINT_OK && done < bytes) {
        uint64_t end;
        const uint64_t span = span_locked(device, values + done, bytes - done);
        status = ops->mapped(device->backend, values + done, &end, err);
        if (status == PINT_OK && (span == 0 || end != first + done)) {
            status = pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                                "mapped: device '%s' does not see column '%s' in one piece",
                                device->backend->name, pint_column_name(column));
        }
        done += span;
    }
    *out_address = status == PINT_OK ? first : *out_address;
    return status;
}

pint_status pint_device_mapped(pint_device *device, const pint_column *column,
                               uint64_t *out_address, pint_error *err)
{
    if (column == NULL || column->table == NULL || out_address == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "mapped: NULL argument");
    }
    pint_status status = check(device, column->table, err);
    if (status == PINT_OK && column->values == NULL) {
        status = pinti_fail(err, PINT_E_TYPE, 0, "mapped: a text column has no values");
    }
    if (status != PINT_OK) {
        return status;
    }
    pinti_pinned_table *pinned;
    (void)pthread_mutex_lock(&device->pins.lock);
    status = pin_table(device, column->table, NULL, NULL, &pinned, err);
    if (status == PINT_OK) {
        status = map_values(device, column, out_address, err);
        if (status == PINT_OK && !pinned->is_mapped) {
            pinned->is_mapped = true;
        } else if (--pinned->n_pins == 0) { /* one is kept, however often it is asked for */
            unpin_table(device, link_of(device, column->table));
        }
    }
    (void)pthread_mutex_unlock(&device->pins.lock);
    return status;
}

void pinti_pins_init(pinti_pins *pins)
{
    (void)pthread_mutex_init(&pins->lock, NULL);
}

void pinti_pins_done(pint_device *device)
{
    (void)pthread_mutex_lock(&device->pins.lock);
    while (device->pins.tables != NULL) {
        unpin_table(device, &device->pins.tables);
    }
    while (device->pins.pieces != NULL) { /* none is left but of sets that were never released */
        device->pins.pieces->n_users = 1;
        piece_drop(device, device->pins.pieces);
    }
    (void)pthread_mutex_unlock(&device->pins.lock);
}
