/* SPDX-License-Identifier: Apache-2.0 */
/* Brackets on several columns of a table at once: all of them, or none. */

#include <limits.h>

#include "host/error.h"
#include "tests/device/device_world.h"

#define ROWS (4u * WORLD_CHUNK_ROWS)
#define RW   (PINT_READ | PINT_WRITE)

/* Columns x, id and n of a world, in this order. */
typedef struct trio {
    world w;
    pint_column columns[3];
    pint_copy *copies[3];
} trio;

static void set_up(trio *t)
{
    static const char *const names[] = {"x", "id", "n"};
    ASSERT_NO_FATAL(world_set_up(&t->w, ROWS));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(pint_table_column(t->w.table, names[i], &t->columns[i], &live_err), &live_err);
        ASSERT_OK(
            pint_copy_open(t->w.device, &t->columns[i], 0, PINT_WRITE, &t->copies[i], &live_err),
            &live_err);
    }
}

static void tear_down(trio *t)
{
    for (int i = 0; i < 3; i++) {
        pint_copy_close(t->copies[i]);
    }
    world_tear_down(&t->w);
}

static pint_status begin(trio *t, uint32_t access, int64_t timeout_ms)
{
    return pint_device_begin_all(t->copies, 3, 0, PINT_ALL_ROWS, access, t->w.stream, timeout_ms,
                                 &live_err);
}

static pint_status end(trio *t, uint32_t access)
{
    return pint_device_end_all(t->copies, 3, 0, PINT_ALL_ROWS, access, t->w.stream, &live_err);
}

static bool all_are(const trio *t, uint32_t places)
{
    bool are = true;
    for (int i = 0; i < 3; i++) {
        for (uint64_t chunk = 0; chunk < 4; chunk++) {
            are = are && pint_copy_places(t->copies[i], chunk) == places;
        }
    }
    return are;
}

TEST(BracketAll, BringsAndPublishesEveryColumn)
{
    trio t;
    ASSERT_NO_FATAL(set_up(&t));
    ASSERT_OK(begin(&t, PINT_READ, 10000), &live_err);
    EXPECT_EQ(world_device_sum(&t.w, 0, ROWS), (double)ROWS * (ROWS - 1) / 2);
    ASSERT_OK(end(&t, PINT_READ), &live_err);
    EXPECT_TRUE(ct_eventually(all_are(&t, 3), 10000));
    ASSERT_OK(begin(&t, RW, 10000), &live_err);
    world_device_add(&t.w, 0, ROWS, 1);
    ASSERT_OK(end(&t, RW), &live_err);
    EXPECT_TRUE(ct_eventually(all_are(&t, 2), 10000));
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(pint_copy_to_host(t.copies[i], 0, PINT_ALL_ROWS, 10000, NULL, &live_err),
                  &live_err);
    }
    EXPECT_EQ(world_host(&t.w)[7], 8.0);
    tear_down(&t);
}

/* The second column by number has a chunk that is held: the others come back as they were. */
TEST(BracketAll, TakesNothingWhenOneIsHeld)
{
    trio t;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&t));
    ASSERT_OK(begin(&t, RW, 10000), &live_err); /* newest on the device alone */
    ASSERT_OK(end(&t, RW), &live_err);
    ASSERT_TRUE(ct_eventually(all_are(&t, 2), 10000));
    ASSERT_OK(pint_lease_claim(&t.columns[0], 1, 3, PINT_OUT, 0, &lease, &live_err), &live_err);
    static const uint32_t accesses[] = {PINT_READ, PINT_WRITE, RW};
    for (size_t i = 0; i < 3; i++) {
        EXPECT_STATUS(PINT_E_BUSY, begin(&t, accesses[i], 0), &live_err);
        EXPECT_STATUS(PINT_E_TIMEOUT, begin(&t, accesses[i], 20), &live_err);
        EXPECT_STATUS(PINT_E_STATE, end(&t, accesses[i]), &live_err);
    }
    for (int i = 0; i < 3; i++) { /* others may have what was not taken */
        EXPECT_EQ(pint_copy_places(t.copies[i], 0), 2);
        EXPECT_OK(pint_copy_to_host(t.copies[i], 0, 1, 0, NULL, &live_err), &live_err);
    }
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
    EXPECT_OK(begin(&t, RW, 10000), &live_err);
    EXPECT_OK(end(&t, RW), &live_err);
    tear_down(&t);
}

/* Nothing is held, so that columns are taken before the torn one is met. */
TEST(BracketAll, TakesNothingWhenOneIsTorn)
{
    trio t;
    pint_copy *n = NULL;
    ASSERT_NO_FATAL(set_up(&t));
    n = t.copies[2];
    ASSERT_OK(begin(&t, RW, 10000), &live_err); /* newest on the device alone */
    ASSERT_OK(end(&t, RW), &live_err);
    ASSERT_TRUE(ct_eventually(all_are(&t, 2), 10000));
    ASSERT_OK(pint_device_begin(n, 0, 1, RW, t.w.stream, 0, &live_err), &live_err);
    ASSERT_OK(pint_device_cancel(n, 0, 1, RW, t.w.stream, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_TORN, begin(&t, RW, 10000), &live_err);
    EXPECT_STATUS(PINT_E_TORN, begin(&t, PINT_READ, 10000), &live_err);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(pint_copy_places(t.copies[i], 3), 2);
        EXPECT_OK(pint_copy_to_host(t.copies[i], 0, PINT_ALL_ROWS, 0, NULL, &live_err), &live_err);
    }
    ASSERT_NO_FATAL(world_host_write(&t.w, 3, 1));
    EXPECT_OK(begin(&t, PINT_WRITE, 0), &live_err); /* nobody reads; and it mends what is torn */
    EXPECT_OK(end(&t, PINT_WRITE), &live_err);
    tear_down(&t);
}

/* Backend "host" with copies that fail when their time has come. */
static struct {
    pinti_backend_ops ops;
    const pinti_backend_ops *good;
    int n_good; /* copies that succeed before all others fail */
} failing;

static pint_status copy_or_fail(pinti_backend *backend, bool to_device, const pinti_piece *pieces,
                                uint32_t n_pieces, void *stream, pint_error *err)
{
    if (failing.n_good-- > 0) {
        return failing.good->copy(backend, to_device, pieces, n_pieces, stream, err);
    }
    return pinti_fail(err, PINT_E_DEVICE, 0, "as the test wants it");
}

/* Before anything works on the device. */
static void let_copies_fail(pinti_backend *backend)
{
    failing.good = backend->ops;
    failing.ops = *backend->ops;
    failing.ops.copy = copy_or_fail;
    failing.n_good = INT_MAX;
    backend->ops = &failing.ops;
}

/* "x" is on its way to the device when "n" fails; "id" is newest on the device. */
static void fail_last(trio *t, uint32_t access)
{
    ASSERT_OK(pint_device_begin(t->copies[1], 0, PINT_ALL_ROWS, RW, t->w.stream, 0, &live_err),
              &live_err);
    ASSERT_OK(pint_device_end(t->copies[1], 0, PINT_ALL_ROWS, RW, t->w.stream, &live_err),
              &live_err);
    ASSERT_OK(pint_copy_wait(t->copies[1], 0, PINT_ALL_ROWS, 10000, &live_err), &live_err);
    failing.n_good = 1;
    EXPECT_STATUS(PINT_E_DEVICE, begin(t, access, 10000), &live_err);
    EXPECT_EQ(failing.n_good, -1);
    failing.n_good = INT_MAX;
}

TEST(BracketAll, AFailureOfOneGivesAllBack)
{
    static const uint32_t accesses[] = {PINT_READ, RW};
    for (size_t i = 0; i < 2; i++) {
        trio t;
        ASSERT_NO_FATAL(set_up(&t));
        let_copies_fail(t.w.device->backend);
        ASSERT_NO_FATAL(fail_last(&t, accesses[i]));
        for (uint64_t chunk = 0; chunk < 4; chunk++) {
            EXPECT_EQ(pint_copy_places(t.copies[0], chunk), 1);
            EXPECT_EQ(pint_copy_places(t.copies[1], chunk), 2); /* not torn */
            EXPECT_EQ(pint_copy_places(t.copies[2], chunk), 1);
        }
        EXPECT_STATUS(PINT_E_STATE, end(&t, accesses[i]), &live_err);
        ASSERT_NO_FATAL(world_host_write(&t.w, 0, 1)); /* nobody holds anything */
        EXPECT_OK(begin(&t, RW, 0), &live_err);
        ASSERT_OK(pint_stream_wait(t.w.device, t.w.stream, &live_err), &live_err);
        EXPECT_EQ(world_device(&t.w)[0], 1.0);
        EXPECT_OK(end(&t, RW), &live_err);
        tear_down(&t);
    }
}

TEST(BracketAll, CancelTakesAllBack)
{
    trio t;
    ASSERT_NO_FATAL(set_up(&t));
    ASSERT_OK(begin(&t, RW, 10000), &live_err);
    world_device_add(&t.w, 0, ROWS, 1);
    ASSERT_OK(pint_device_cancel_all(t.copies, 3, 0, PINT_ALL_ROWS, RW, t.w.stream, &live_err),
              &live_err);
    EXPECT_TRUE(all_are(&t, 1));
    EXPECT_EQ(world_host(&t.w)[7], 7.0);
    tear_down(&t);
}

TEST(BracketAll, EndsAllOrNone)
{
    trio t;
    ASSERT_NO_FATAL(set_up(&t));
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(pint_device_begin(t.copies[i], 0, PINT_ALL_ROWS, RW, t.w.stream, 0, &live_err),
                  &live_err);
    }
    EXPECT_STATUS(PINT_E_STATE, end(&t, RW), &live_err);
    EXPECT_STATUS(PINT_E_STATE,
                  pint_device_cancel_all(t.copies, 3, 0, PINT_ALL_ROWS, RW, t.w.stream, &live_err),
                  &live_err);
    /* they are open as before: to wait for them would be to wait for oneself */
    EXPECT_STATUS(PINT_E_BUSY, begin(&t, RW, -1), &live_err);
    EXPECT_OK(pint_device_end_all(t.copies, 2, 0, PINT_ALL_ROWS, RW, t.w.stream, &live_err),
              &live_err);
    EXPECT_OK(begin(&t, RW, 10000), &live_err);
    EXPECT_OK(end(&t, RW), &live_err);
    tear_down(&t);
}

TEST(BracketAll, RefusesWhatCannotBe)
{
    trio t;
    pint_table *other = NULL;
    pint_column y;
    pint_field field = live_field("y", PINT_FLOAT64);
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = &field;
    schema.n_fields = 1;
    schema.chunk_rows = WORLD_CHUNK_ROWS;
    ASSERT_NO_FATAL(set_up(&t));
    pint_copy *twice[] = {t.copies[0], t.copies[1], t.copies[0]};
    pint_copy *mixed[] = {t.copies[0], NULL};
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_device_begin_all(NULL, 1, 0, 1, RW, t.w.stream, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_device_begin_all(t.copies, 0, 0, 1, RW, t.w.stream, 0, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_device_begin_all(twice, 3, 0, 1, RW, t.w.stream, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_device_begin_all(mixed, 2, 0, 1, RW, t.w.stream, 0, &live_err), &live_err);
    ASSERT_OK(pint_table_create(t.w.pool, "u", &schema, ROWS, &other, &live_err), &live_err);
    ASSERT_OK(pint_table_column(other, "y", &y, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(t.w.device, &y, 0, PINT_WRITE, &mixed[1], &live_err), &live_err);
    EXPECT_STATUS(PINT_E_INVALID,
                  pint_device_begin_all(mixed, 2, 0, 1, RW, t.w.stream, 0, &live_err), &live_err);
    EXPECT_STATUS(PINT_E_RANGE,
                  pint_device_begin_all(t.copies, 3, 0, ROWS + 1, RW, t.w.stream, 0, &live_err),
                  &live_err);
    EXPECT_STATUS(PINT_E_INVALID, pint_device_end_all(NULL, 3, 0, 1, RW, t.w.stream, &live_err),
                  &live_err);
    EXPECT_TRUE(all_are(&t, 1));
    pint_copy_close(mixed[1]);
    pint_table_close(other);
    tear_down(&t);
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct worker {
    pthread_t thread;
    trio *t;
    bool is_backwards;
    int n_failed;
    pint_error err;
} worker;

/* Takes the columns again and again, in an order of its own. */
static void *take_and_end(void *argument)
{
    worker *me = argument;
    pint_copy *copies[3];
    void *stream = NULL;
    for (int i = 0; i < 3; i++) {
        copies[i] = me->t->copies[me->is_backwards ? 2 - i : i];
    }
    me->n_failed = pint_stream_create(me->t->w.device, &stream, &me->err) != PINT_OK;
    for (int n = 0; n < 100 && me->n_failed == 0; n++) {
        pint_status status =
            pint_device_begin_all(copies, 3, 0, PINT_ALL_ROWS, RW, stream, 20000, &me->err);
        if (status == PINT_OK) {
            status = pint_device_end_all(copies, 3, 0, PINT_ALL_ROWS, RW, stream, &me->err);
        }
        me->n_failed += status != PINT_OK;
    }
    pint_stream_destroy(me->t->w.device, stream);
    return NULL;
}

TEST(BracketAll, ThreadsDoNotWaitForEachOther, .timeout_s = 60)
{
    enum { THREADS = 4 };
    trio t;
    worker workers[THREADS] = {0};
    ASSERT_NO_FATAL(set_up(&t));
    for (int i = 0; i < THREADS; i++) {
        workers[i].t = &t;
        workers[i].is_backwards = i % 2 != 0;
        ASSERT_EQ(pthread_create(&workers[i].thread, NULL, take_and_end, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        EXPECT_EQ(workers[i].n_failed, 0);
        EXPECT_STREQ(workers[i].n_failed == 0 ? "" : workers[i].err.message, "");
    }
    EXPECT_OK(pint_copy_to_host(t.copies[0], 0, PINT_ALL_ROWS, 10000, NULL, &live_err), &live_err);
    EXPECT_EQ(world_host(&t.w)[7], 7.0);
    tear_down(&t);
}
