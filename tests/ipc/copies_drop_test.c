/* SPDX-License-Identifier: Apache-2.0 */
/* Drops of a device copy by one session while another works on it: what cannot be dropped now is
 * as it was, and nobody who works on it notices anything but a moment's BUSY. */

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/coherence.h"
#include "ipc/copies.h"
#include "tests/ipc/live.h"

#define CHUNK_ROWS 512u
#define CHUNKS     20000u /* so that looking at all of them takes a while */
#define LAST       (CHUNKS - 1u)
#define DROPS      400u

static const uint8_t host_uuid[16] = {1, 2, 3};

/* One session with the copy open. */
typedef struct worker {
    pint_pool *pool;
    pint_table *table;
    pint_column column;
    pinti_opened_copy opened;
    pinti_copy_desc copy;
    void *memory; /* of the device */
} worker;

static worker owner;
static worker user;
static pinti_a32 stop;

static void open_copy(worker *w)
{
    uint32_t device = 0;
    ASSERT_OK(pint_table_column(w->table, "x", &w->column, &live_err), &live_err);
    ASSERT_OK(pinti_request_device(w->pool, host_uuid, false, "host", &device, &live_err),
              &live_err);
    ASSERT_OK(pinti_request_copy(&w->column, device, 0, true, &w->opened, &live_err), &live_err);
    ASSERT_OK(pinti_copy_describe(w->pool, w->opened.index, w->opened.generation, &w->column,
                                  &w->copy, &live_err),
              &live_err);
    ASSERT_OK(pinti_copy_slot_take(&w->copy, &live_err), &live_err);
    w->memory = mmap(NULL, w->copy.rec->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, w->opened.fd, 0);
    ASSERT_TRUE(w->memory != MAP_FAILED);
}

static void close_copy(worker *w)
{
    EXPECT_EQ(munmap(w->memory, w->copy.rec->bytes), 0);
    pinti_copy_slot_give(&w->copy);
    pinti_copy_release(w->pool, w->opened.index, w->opened.generation);
    EXPECT_EQ(close(w->opened.fd), 0);
    pint_table_close(w->table);
    pint_pool_leave(w->pool);
}

static void start(void)
{
    pint_field field = live_field("x", PINT_INT8);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = CHUNK_ROWS;
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &owner.pool), &live_err);
    ASSERT_OK(pint_table_create(owner.pool, "t", &schema, (uint64_t)CHUNKS * CHUNK_ROWS,
                                &owner.table, &live_err),
              &live_err);
    ASSERT_OK(pint_table_publish(owner.table, 0, &live_err), &live_err);
    ASSERT_OK(live_join(ct_tmpdir(), 0, &user.pool), &live_err);
    ASSERT_OK(pint_table_open(user.pool, "t", PINT_WRITE, &user.table, &live_err), &live_err);
    ASSERT_NO_FATAL(open_copy(&owner));
    ASSERT_NO_FATAL(open_copy(&user));
}

static void finish(void)
{
    close_copy(&user);
    close_copy(&owner);
    live_stop();
}

static uint64_t word_of(const worker *w, uint32_t chunk)
{
    return pinti_load64_seq(&w->copy.column->words[chunk]);
}

/* The device alone has the newest bytes of the last chunk. */
static void write_on_device(worker *w)
{
    pinti_taken taken;
    ASSERT_EQ(pinti_device_take(&w->copy, LAST, PINTI_TAKE_TO_REPLACE, &taken), PINTI_COH_OK);
    ASSERT_EQ(pinti_device_write_commit(&w->copy, LAST, taken.word), PINTI_COH_OK);
}

/* ---- what the user does, again and again ------------------------------------------------------
 */

typedef struct work {
    enum pinti_coherence (*act)(void);
    enum pinti_coherence wrong; /* an end that should not have been; OK: none */
    pinti_a64 n_done;
} work;

/* Writes, or thinks better of it. */
static enum pinti_coherence act_write(void)
{
    static unsigned n;
    pinti_taken taken;
    const enum pinti_coherence seen =
        pinti_device_take(&user.copy, LAST, PINTI_TAKE_TO_CHANGE, &taken);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    return n++ % 2 == 0 ? pinti_device_write_commit(&user.copy, LAST, taken.word)
                        : pinti_device_give_back(&user.copy, LAST, &taken);
}

/* Begins to bring it to the host, and leaves it at that. */
static enum pinti_coherence act_push(void)
{
    pinti_taken taken;
    const enum pinti_coherence seen =
        pinti_device_take(&user.copy, LAST, PINTI_TAKE_TO_PUSH, &taken);
    return seen != PINTI_COH_OK ? seen : pinti_push_cancel(&user.copy, LAST, taken.word);
}

static enum pinti_coherence act_read(void)
{
    const enum pinti_coherence seen = pinti_device_read_begin(&user.copy, LAST);
    if (seen == PINTI_COH_OK) {
        pinti_device_read_end(&user.copy, LAST);
    }
    return seen;
}

/* Opens it once more. */
static enum pinti_coherence act_open(void)
{
    pinti_opened_copy again;
    pint_error err;
    const pint_status status =
        pinti_request_copy(&user.column, user.copy.device, 0, false, &again, &err);
    EXPECT_OK(status, &err);
    if (status != PINT_OK) {
        return PINTI_COH_GONE;
    }
    (void)close(again.fd);
    pinti_copy_release(user.pool, again.index, again.generation);
    return again.generation == user.opened.generation ? PINTI_COH_OK : PINTI_COH_GONE;
}

static void *work_on(void *argument)
{
    work *w = argument;
    while (pinti_load32_acquire(&stop) == 0 && w->wrong == PINTI_COH_OK) {
        const enum pinti_coherence end = w->act();
        if (end == PINTI_COH_OK) {
            (void)pinti_add64_relaxed(&w->n_done, 1); /* relaxed: a count */
        } else if (end != PINTI_COH_BUSY) {
            w->wrong = end;
        }
        if (w->wrong == PINTI_COH_OK &&
            pinti_copy_is_dropped(user.pool, user.opened.index, user.opened.generation)) {
            w->wrong = PINTI_COH_GONE;
        }
    }
    return NULL;
}

/* It is newest on the device alone, or held for a moment: no drop may succeed. */
static void drop_against(enum pinti_coherence (*act)(void))
{
    work w = {.act = act};
    pthread_t thread;
    unsigned n_ahead = 0;
    ASSERT_NO_FATAL(start());
    ASSERT_NO_FATAL(write_on_device(&user));
    pinti_store32_release(&stop, 0);
    ASSERT_EQ(pthread_create(&thread, NULL, work_on, &w), 0);
    pint_status status = PINT_E_BUSY;
    for (unsigned n = 0; n < DROPS && (status == PINT_E_BUSY || status == PINT_E_DEVICE_AHEAD);
         n++) {
        status = pinti_request_copy_drop(owner.pool, owner.opened.index, owner.opened.generation,
                                         &live_err);
        n_ahead += status == PINT_E_DEVICE_AHEAD ? 1 : 0;
    }
    pinti_store32_release(&stop, 1);
    (void)pthread_join(thread, NULL);
    EXPECT_TRUE(status == PINT_E_BUSY || status == PINT_E_DEVICE_AHEAD);
    EXPECT_EQ(w.wrong, PINTI_COH_OK);
    EXPECT_GT(pinti_load64_relaxed(&w.n_done), 0ull);
    const uint64_t word = word_of(&owner, LAST);
    EXPECT_EQ(pinti_chunk_state(word), (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(pinti_chunk_places(word), pinti_place_bit(owner.copy.device));
    EXPECT_EQ(pinti_load64_seq(&owner.copy.chunks[LAST].xcopier), 0ull);
    EXPECT_EQ(pinti_load64_seq(&owner.copy.chunks[LAST].xreaders), 0ull);
    /* at rest it is ahead, no more and no less */
    EXPECT_STATUS(
        PINT_E_DEVICE_AHEAD,
        pinti_request_copy_drop(owner.pool, owner.opened.index, owner.opened.generation, &live_err),
        &live_err);
    ASSERT_NO_FATAL(finish());
}

TEST(CopiesDrop, AWriterOfWhatOnlyTheDeviceHasLosesNothing, .timeout_s = 120)
{
    drop_against(act_write);
}

TEST(CopiesDrop, APushOfWhatOnlyTheDeviceHasLosesNothing, .timeout_s = 120)
{
    drop_against(act_push);
}

TEST(CopiesDrop, AReaderOfWhatOnlyTheDeviceHasGoesOn, .timeout_s = 120)
{
    drop_against(act_read);
}

TEST(CopiesDrop, WhoOpensWhatOnlyTheDeviceHasFindsIt, .timeout_s = 120)
{
    drop_against(act_open);
}

/* ---- a drop that succeeds ---------------------------------------------------------------------
 */

/* The first value of the last chunk counts the writes that were committed. */
static uint8_t *on_device(worker *w)
{
    return (uint8_t *)w->memory + w->copy.rec->values_off + (uint64_t)LAST * CHUNK_ROWS;
}

static uint8_t *on_host(worker *w)
{
    return (uint8_t *)w->column.values + (uint64_t)LAST * CHUNK_ROWS;
}

static void spin(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        (void)word_of(&user, LAST);
    }
}

/* Most of the time in a bracket, so that a drop meets it; the rest is for a drop to succeed in. */
static enum pinti_coherence act_count(void)
{
    static uint32_t random;
    pinti_taken taken;
    random = random * 1664525u + 1013904223u;
    spin(random >> 18);
    const enum pinti_coherence seen =
        pinti_device_take(&user.copy, LAST, PINTI_TAKE_TO_CHANGE, &taken);
    if (seen != PINTI_COH_OK) {
        return seen;
    }
    if (!taken.had_device) {
        *on_device(&user) = *on_host(&user);
    }
    spin(random >> 16);
    ++*on_device(&user);
    return pinti_device_write_commit(&user.copy, LAST, taken.word);
}

/* Bring it to the host, as pint_copy_drop() does. */
static void bring_down(worker *w)
{
    pinti_taken taken;
    enum pinti_coherence seen;
    while ((seen = pinti_device_take(&w->copy, LAST, PINTI_TAKE_TO_PUSH, &taken)) ==
           PINTI_COH_BUSY) {
    }
    if (seen == PINTI_COH_OK) {
        *on_host(w) = *on_device(w);
        EXPECT_EQ(pinti_push_commit(&w->copy, LAST, taken.word), PINTI_COH_OK);
    } else {
        EXPECT_EQ(seen, PINTI_COH_THERE);
    }
}

TEST(CopiesDrop, EveryWriteThatWasCommittedIsOnTheHostAfterwards, .timeout_s = 120)
{
    work w = {.act = act_count};
    pthread_t thread;
    ASSERT_NO_FATAL(start());
    pinti_store32_release(&stop, 0);
    ASSERT_EQ(pthread_create(&thread, NULL, work_on, &w), 0);
    EXPECT_TRUE(ct_eventually(pinti_load64_relaxed(&w.n_done) >= 100, 10000));
    pint_status status = PINT_E_BUSY;
    while (status == PINT_E_BUSY || status == PINT_E_DEVICE_AHEAD) {
        bring_down(&owner);
        status = pinti_request_copy_drop(owner.pool, owner.opened.index, owner.opened.generation,
                                         &live_err);
    }
    EXPECT_OK(status, &live_err);
    (void)pthread_join(thread, NULL);
    EXPECT_EQ(w.wrong, PINTI_COH_GONE); /* not LOST: what was begun was ended */
    const uint64_t word = word_of(&owner, LAST);
    EXPECT_EQ(pinti_chunk_state(word), (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(pinti_chunk_places(word), PINTI_PLACE_HOST);
    EXPECT_EQ(*on_host(&owner), (uint8_t)pinti_load64_relaxed(&w.n_done));
    ASSERT_NO_FATAL(finish());
}
