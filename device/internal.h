/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_INTERNAL_H
#define DEVICE_INTERNAL_H

/*
 * What the files of device/ share: an open device, the copies this process has imported on it, and
 * who in this process uses which chunk of them.
 *
 * Lock order: registry (device.c), device->lock, import->lock, pin locks (pin*.c), staging lock
 * (transfer.c). None of them is held while a stream, the service or another process is waited for,
 * but for the pin and staging locks, under which the driver registers and copies. The watcher's
 * lock (watch.c) is taken last and held for list work only.
 */

#include <pthread.h>

#include "device/backend.h"
#include "device/watch.h"
#include "host/coherence.h"
#include "host/wait.h"

/* ---- waiting --------------------------------------------------------------------------------- */

/* How long a call may wait, in all of its parts. */
typedef struct pinti_limit {
    int64_t timeout_ms; /* -1: no limit; 0: not at all */
    int64_t start_ms;
} pinti_limit;

static inline pinti_limit pinti_limit_start(int64_t timeout_ms)
{
    return (pinti_limit){timeout_ms, pinti_now_ms()};
}

/* What is left: -1 no limit, 0 nothing. */
static inline int64_t pinti_limit_left(const pinti_limit *limit)
{
    if (limit->timeout_ms <= 0) {
        return limit->timeout_ms < 0 ? -1 : 0;
    }
    const int64_t left = limit->timeout_ms - (pinti_now_ms() - limit->start_ms);
    return left > 0 ? left : 0;
}

/* What is said when nothing is left. */
static inline pint_status pinti_limit_status(const pinti_limit *limit)
{
    return limit->timeout_ms == 0 ? PINT_E_BUSY : PINT_E_TIMEOUT;
}

/* ---- pinned memory (pin*.c) ------------------------------------------------------------------ */

/* One registration: whole slabs of the pool's data segment. Pieces of a device never overlap. */
typedef struct pinti_pin_piece {
    struct pinti_pin_piece *next; /* ascending */
    uint32_t first_slab;
    uint32_t n_slabs;
    uint64_t n_users;
} pinti_pin_piece;

/* Pieces that one user keeps registered. */
typedef struct pinti_pin_set {
    pinti_pin_piece **pieces;
    uint32_t n_pieces;
    uint32_t room;
} pinti_pin_set;

typedef struct pinti_slab_run {
    uint32_t first;
    uint32_t end;
} pinti_slab_run;

/* A table that was pinned by pint_device_pin() or pint_device_mapped(). */
typedef struct pinti_pinned_table {
    struct pinti_pinned_table *next;
    pint_table *table; /* one reference of our own */
    uint64_t n_pins;
    bool is_mapped; /* one of them is pint_device_mapped()'s: until the device is closed */
    pinti_pin_set set;
} pinti_pinned_table;

typedef struct pinti_pins {
    pthread_mutex_t lock;
    pinti_pin_piece *pieces;
    pinti_pinned_table *tables;
    uint64_t bytes;
} pinti_pins;

/* ---- staging (transfer.c) -------------------------------------------------------------------- */

#define PINTI_STAGING_BYTES      (64ull << 20)
#define PINTI_STAGING_SLOTS      16u
#define PINTI_STAGING_SLOT_BYTES (PINTI_STAGING_BYTES / PINTI_STAGING_SLOTS)

typedef struct pinti_staging {
    pthread_mutex_t lock;
    char *base; /* NULL until first needed */
    uint32_t next;
    struct {
        pinti_mark *mark; /* NULL: free */
        char *to_host;    /* where its bytes go when the mark has passed; NULL: nowhere */
        uint64_t bytes;
    } slots[PINTI_STAGING_SLOTS];
} pinti_staging;

/* ---- devices (device.c) ---------------------------------------------------------------------- */

struct pinti_import;

struct pint_device {
    struct pint_device *next; /* of the process; under the registry lock, as n_users */
    uint64_t n_users;         /* handles; the same device and pool give the same handle */
    pint_pool *pool;
    pinti_backend *backend;
    uint32_t index;   /* in the catalog: place in the masks, less one */
    uint64_t process; /* *pinti_fork_word when it was opened */
    pthread_mutex_t lock;
    struct pinti_import *imports; /* under lock */
    void *copy_streams[2];        /* to the host, to the device; NULL until needed; under lock */
    pinti_pins pins;
    pinti_staging staging;
};

/* The process is the one that opened it, and its session is usable. PINT_E_FORKED. */
pint_status pinti_device_enter(const pint_device *device, pint_error *err);

/* PINT_E_FORKED unless this is the process of the word. */
pint_status pinti_device_check_process(uint64_t process, const char *operation, pint_error *err);

/* The device's own streams, one per direction. Copies run there, so that they neither wait for what
 * is enqueued on the caller's stream nor hold their chunks for so long. */
pint_status pinti_device_copy_stream(pint_device *device, bool to_device, void **out_stream,
                                     pint_error *err);

/* One user more; pint_device_close() is one less. */
void pinti_device_hold(pint_device *device);

/* Another device of this process and pool with this index, or NULL. Counted: give it back with
 * pint_device_close(). */
pint_device *pinti_device_of_place(const pint_pool *pool, uint32_t index);

/* ---- copies (copy.c) ------------------------------------------------------------------------- */

/* Copies towards the device that a read bracket has enqueued: their chunks are held until the mark
 * has passed. Counted under import->lock: the watcher, and brackets of other streams that are about
 * to wait for the mark. */
typedef struct pinti_pull {
    pinti_task task; /* first */
    struct pinti_import *import;
    uint32_t n_users;
    bool is_marked; /* task.mark is there: other streams may wait for it */
    uint32_t n;
    struct {
        uint32_t chunk;
        uint64_t word; /* as held */
    } chunks[];
} pinti_pull;

/* What this process does with a chunk of a copy. Under import->lock. */
typedef struct pinti_chunk_use {
    uint32_t
        n_readers;   /* brackets, open or ended but not passed; not 0: the session's bit is set */
    uint32_t n_open; /* of these, not ended */
    uint32_t writer; /* enum pinti_chunk_writer */
    uint32_t reserved;
    uint64_t seq;     /* of the chunk word, when what the readers read was newest */
    pinti_pull *pull; /* in flight: the chunk is held by us, and n_readers is not 0 */
} pinti_chunk_use;

enum pinti_chunk_writer { PINTI_WRITER_NONE, PINTI_WRITER_OPEN, PINTI_WRITER_ENDED };

/* An open bracket, or one that has ended and whose stream has not come to its end yet. */
typedef struct pinti_bracket {
    pinti_task task; /* first */
    struct pinti_bracket *next;
    struct pinti_import *import;
    const pint_copy *copy; /* NULL when it has ended */
    uint64_t thread;       /* that began it */
    void *stream;
    uint64_t first; /* rows as the caller said */
    uint64_t n_rows;
    uint32_t access;
    uint32_t first_chunk;
    uint32_t n_chunks;
    uint64_t words[]; /* n_chunks with PINT_WRITE: as held */
} pinti_bracket;

/* A device copy in this process: one per process, pool and generation, shared by all handles. */
typedef struct pinti_import {
    struct pinti_import *next;
    pint_device *device;
    uint64_t n_users;  /* handles and tasks; under device->lock */
    pint_table *table; /* one reference of our own */
    pint_column column;
    pinti_copy_desc desc;
    uint64_t address;  /* writable; copies go there */
    uint64_t readable; /* the same memory mapped read-only for PINT_READ handles; 0: not made */
    pthread_mutex_t lock;
    pinti_chunk_use *uses;    /* n_chunks; sparse */
    pinti_bracket *brackets;  /* open ones */
    pinti_bracket *ended;     /* their streams have not passed, or it was not noticed yet */
    pthread_mutex_t pin_lock; /* taken before the device's pins.lock */
    bool is_pin_refused;      /* by the driver: not tried again */
    pinti_pin_set set;        /* its host memory is registered when there are pieces */
} pinti_import;

struct pint_copy {
    pinti_import *import;
    uint32_t access;
    uint64_t process;
    pinti_a64 to_device; /* bytes */
    pinti_a64 to_host;
};

/* One reference more of the session on a table that the caller has open; pint_table_close() is one
 * less. */
void pinti_table_hold(const pint_table *table);

void pinti_import_use(pinti_import *import);
void pinti_import_drop(pinti_import *import);

/* What this process has of a column on a device, counted, or NULL. */
pinti_import *pinti_import_of_column(pint_device *device, const pinti_column_desc *column);

/* PINT_E_FORKED, PINT_E_DEVICE_LOST: dropped meanwhile. */
pint_status pinti_copy_enter(const pint_copy *copy, const char *operation, pint_error *err);

static inline pinti_bell *pinti_import_bell(const pinti_import *import)
{
    return import->desc.table->bell;
}

/* ---- brackets (bracket*.c) ------------------------------------------------------------------- */

/* Rows to whole chunks. PINT_E_RANGE. */
pint_status pinti_rows_to_chunks(const pinti_import *import, const char *operation, uint64_t first,
                                 uint64_t n_rows, uint32_t *out_first, uint32_t *out_n,
                                 pint_error *err);

/* The first of some chunks that the calling thread has in an open bracket with one of these
 * accesses; UINT32_MAX: none. To wait for such a one would be to wait for oneself. Requires
 * import->lock. */
uint32_t pinti_own_bracket(const pinti_import *import, uint32_t first, uint32_t n, uint32_t access);

/* The same for one chunk of the column, on another device than this one. Takes locks. */
bool pinti_own_bracket_elsewhere(const pinti_import *import, uint32_t chunk);

/* Can this be the word of a chunk? No wait ends for one that cannot. */
static inline bool pinti_chunk_can_be(uint64_t word)
{
    return pinti_chunk_is_held(pinti_chunk_state(word)) == (pinti_chunk_holder(word) != 0);
}

/* Wait until the brackets of this process that have ended on some chunks are over. PINT_E_BUSY,
 * PINT_E_TIMEOUT. */
pint_status pinti_brackets_settle(pinti_import *import, uint32_t first, uint32_t n,
                                  const pinti_limit *limit, const char *operation, pint_error *err);

/* End what a handle has left open, as if its process had died. Blocks. */
void pinti_brackets_abandon(pint_copy *copy);

/* ---- device to host (push.c) ----------------------------------------------------------------- */

enum pinti_push_mode {
    PINTI_PUSH_ALL,
    PINTI_PUSH_SKIP_TORN, /* torn chunks stay as they are */
    PINTI_PUSH_HERE,      /* so do chunks that are newest on another device */
    PINTI_PUSH_OWN        /* both of them do */
};

/* Bring chunks that are newest on the device to the host; returns when they are there. */
pint_status pinti_push(pinti_import *import, uint32_t first, uint32_t n, enum pinti_push_mode mode,
                       const pinti_limit *limit, uint64_t *out_bytes, pint_error *err);

/* A chunk that neither the host nor this device has: by way of another device, if this process has
 * its copy open there. PINT_E_DEVICE_AHEAD. */
pint_status pinti_push_elsewhere(pinti_import *import, uint64_t chunk, const pinti_limit *limit,
                                 pint_error *err);

/* ---- moving bytes (transfer.c) --------------------------------------------------------------- */

/*
 * Enqueue copies of some chunks, ascending, values and validity. Adjacent ones are joined up to
 * PINTI_RUN_BYTES. Memory that is not registered goes through the staging ring: towards the host
 * the call then waits for the copies.
 */
#define PINTI_RUN_BYTES (64ull << 20)
pint_status pinti_transfer(pinti_import *import, bool to_device, const uint32_t *chunks, uint32_t n,
                           void *stream, uint64_t *out_bytes, pint_error *err);

/* After everything on the device has passed. */
void pinti_staging_done(pint_device *device);

/* ---- pin*.c ---------------------------------------------------------------------------------- */

void pinti_pins_init(pinti_pins *pins);

/* Unregister everything. */
void pinti_pins_done(pint_device *device);

/* Register a column's buffers; an error leaves nothing. */
pint_status pinti_pin_column(pint_device *device, const pinti_column_desc *column,
                             uint64_t row_capacity, pinti_pin_set *set, pint_error *err);
void pinti_pin_set_release(pint_device *device, pinti_pin_set *set);

/* How many of the bytes from an address on lie in one registration; 0: it is not registered. */
uint64_t pinti_pin_span(pint_device *device, const char *at, uint64_t bytes);

uint64_t pinti_pins_bytes(const pint_device *device);

/* In a forked child nothing is registered. */
void pinti_pins_forget(void);

#endif
