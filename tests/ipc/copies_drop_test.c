/* SPDX-License-Identifier: Apache-2.0 */
/* Drops of a device copy by one session while another works on it: what cannot be dropped now is
 * as it was, and nobody who works on it notices anything but a moment's BUSY. */

#include <pthread.h>
#include <stdlib.h>
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
}

static void close_copy(worker *w)
{
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
    uint64_t n_done;
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
            w->n_done++;
        } else if (end != PINTI_COH_BUSY) {
            w->wrong = end;
        }
        if (pinti_copy_is_dropped(user.pool, user.opened.index, user.opened.generation)) {
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
    EXPECT_GT(w.n_done, 0ull);
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
