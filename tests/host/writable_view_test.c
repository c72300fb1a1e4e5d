/* SPDX-License-Identifier: Apache-2.0 */

/* Writable views: what is counted, what it does to the masks, what death, fork() and hostile slots
 * leave. */

#include "host/writable_view.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/crash.h"
#include "tests/host/coherence_world.h"

static uint32_t registered(const pint_column *column)
{
    return PINTI_VIEWS_COUNT(pinti_load64_seq(&pinti_column_desc_of(column)->state->xviews));
}

static uint64_t slot_word(const world *w, int session, uint32_t place)
{
    return pinti_load64_seq(&pinti_slot_views(w->session[session]->slot)[place]);
}

static pint_view *begin(const pint_column *column)
{
    pint_view *view = NULL;
    pint_error err;
    EXPECT_OK(pint_column_view_begin(column, &view, &err), &err);
    return view;
}

/* What the service does when the session's references end. */
static void sweep_views(const world *w, int session)
{
    const pint_pool *pool = w->session[session];
    const pinti_sweep_view view = {pool->catalog, pool->sync, pool->sync_bytes, pool->bells};
    pinti_views_sweep(&view, pool->slot);
}

/* ---- counting -------------------------------------------------------------------------------- */

TEST(WritableView, IsRegisteredOncePerSession)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    pint_view *first = begin(&w.x[ME]);
    pint_view *second = begin(&w.x[ME]);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    EXPECT_EQ(pinti_view_phase(slot_word(&w, ME, 0)), (uint32_t)PINTI_VIEW_REGISTERED);
    pint_view *others = begin(&w.x[OTHER]);
    EXPECT_EQ(registered(&w.x[ME]), 2u);
    pint_column_view_end(first);
    EXPECT_EQ(registered(&w.x[ME]), 2u);
    pint_column_view_end(second);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    EXPECT_EQ(slot_word(&w, ME, 0), 0ull);
    EXPECT_TRUE(pinti_column_is_host_changed(pinti_column_desc_of(&w.x[ME])));
    pint_column_view_end(others);
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    EXPECT_FALSE(pinti_column_is_host_changed(pinti_column_desc_of(&w.x[ME])));
    pint_column_view_end(NULL);
    tear_down(&w);
}

TEST(WritableView, PlacesInTheSlotAreUsedAgain)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_column y = column_of(w.table[ME], "y");
    const pint_column z = column_of(w.table[ME], "z");
    pint_view *of_x = begin(&w.x[ME]);
    pint_view *of_y = begin(&y);
    const uint64_t word = slot_word(&w, ME, 1);
    EXPECT_EQ(pinti_view_column(word), y.index);
    EXPECT_EQ(pinti_view_table(word), pinti_table_index(w.table[ME]));
    pint_column_view_end(of_x);
    pint_view *of_z = begin(&z);
    EXPECT_EQ(pinti_view_column(slot_word(&w, ME, 0)), z.index);
    const pinti_slot_header *header = (const pinti_slot_header *)(const void *)w.session[ME]->slot;
    EXPECT_EQ(pinti_load32_seq(&header->xn_views), 2u);
    pint_column_view_end(of_z);
    pint_column_view_end(of_y);
    tear_down(&w);
}

TEST(WritableView, IsRefusedWhereNothingCanBeStored)
{
    world w;
    pint_error err;
    pint_view *view = NULL;
    pint_table *reader;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_field fields[] = {field_of("text", PINT_TEXT, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    pint_table *texts = local_table_new(w.session[ME], "texts", &schema, CHUNK_ROWS);
    const pint_column text = column_of(texts, "text");
    EXPECT_STATUS(PINT_E_TYPE, pint_column_view_begin(&text, &view, &err), &err);
    pint_table_close(texts);
    ASSERT_OK(pint_table_open(w.session[OTHER], "t", PINT_READ, &reader, &err), &err);
    const pint_column read = column_of(reader, "x");
    EXPECT_STATUS(PINT_E_PERMISSION, pint_column_view_begin(&read, &view, &err), &err);
    pint_table_close(reader);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_view_begin(NULL, &view, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pint_column_view_begin(&w.x[ME], NULL, &err), &err);
    ASSERT_OK(local_table_freeze(w.table[ME]), NULL);
    EXPECT_STATUS(PINT_E_FROZEN, pint_column_view_begin(&w.x[ME], &view, &err), &err);
    EXPECT_TRUE(view == NULL);
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    tear_down(&w);
}

/* The memory of added columns is another table's from then on, and so are the views of it. */
TEST(WritableView, OfColumnsThatAreMovedGoesWithThem)
{
    world w;
    pint_error err;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_field fields[] = {field_of("new", PINT_INT64, 0)};
    const pint_schema schema = schema_of(fields, 1, CHUNK_ROWS);
    pint_table *donor = local_table_build(w.session[ME], "donor", &schema, ROWS);
    const pint_column before = column_of(donor, "new");
    pint_view *view = begin(&before);
    ASSERT_OK(local_table_add_columns(w.table[ME], donor, &err), &err);
    (void)local_pool_reap(w.local);
    const pint_column moved = column_of(w.table[ME], "new");
    EXPECT_EQ(registered(&moved), 1u);
    const uint64_t word = slot_word(&w, ME, 0);
    EXPECT_EQ(pinti_view_table(word), pinti_table_index(w.table[ME]));
    EXPECT_EQ(pinti_view_column(word), moved.index);
    pint_view *of_moved = begin(&moved);
    pint_column_view_end(view);
    EXPECT_EQ(registered(&moved), 1u);
    pint_column_view_end(of_moved);
    EXPECT_EQ(registered(&moved), 0u);
    tear_down(&w);
}

/* ---- masks ----------------------------------------------------------------------------------- */

TEST(WritableView, TakesDevicesOutOfEveryMaskThatTheHostIsIn)
{
    static const struct {
        uint32_t state, before, after;
    } cases[] = {
        {PINTI_CHUNK_CLEAN, H, H},
        {PINTI_CHUNK_CLEAN, H | A | B, H},
        {PINTI_CHUNK_CLEAN, A, A}, /* ahead: nowhere else are its bytes */
        {PINTI_CHUNK_CLEAN, A | B, A | B},
        {PINTI_CHUNK_TORN, NOWHERE, NOWHERE},
        {PINTI_CHUNK_DEVICE_HELD, H | B, H},
        {PINTI_CHUNK_DEVICE_HELD, B, B},
        {PINTI_CHUNK_HELD, A, NOWHERE}, /* the host was good when it was claimed */
        {PINTI_CHUNK_JOB_HELD, A | B, NOWHERE},
        {PINTI_CHUNK_HELD_TORN, A, A},
        {PINTI_CHUNK_JOB_HELD_TORN, B, B},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        ASSERT_NO_FATAL(set_up(&w));
        const bool is_held = pinti_chunk_is_held(cases[i].state);
        const uint32_t holder = is_held ? index_of(&w, OTHER) : 0;
        put_word(&w, make_word(SEQ0, cases[i].state, holder, cases[i].before));
        pint_view *view = begin(&w.x[ME]);
        EXPECT_EQ(word_now(&w), make_word(SEQ0, cases[i].state, holder, cases[i].after));
        put_places(&w, H);
        pint_column_view_end(view);
        tear_down(&w);
    }
}

/* Takes what an operation needs, and ends it as it went well, or untouched for CHANGE. */
static void go_through(world *w, enum operation operation, pint_view **early, bool ends_early,
                       const pint_column *by)
{
    pinti_taken taken;
    ASSERT_EQ(perform(w, operation, &taken), OK);
    pint_view *view = by != NULL ? begin(by) : NULL;
    if (ends_early) {
        pint_column_view_end(view != NULL ? view : *early);
        *early = NULL;
        view = NULL;
    }
    if (operation == PULL) {
        EXPECT_EQ(pinti_device_pulled(&w->a[ME], CHUNK, taken.word), OK);
    } else if (operation == PUSH) {
        EXPECT_EQ(pinti_push_commit(&w->a[ME], CHUNK, taken.word), OK);
    } else {
        EXPECT_EQ(pinti_device_give_back(&w->a[ME], CHUNK, &taken), OK);
    }
    EXPECT_EQ(pinti_load64_seq(&chunk_of(w, 'A')->xcopier), 0ull);
    if (view != NULL) {
        *early = view;
    }
}

/* Before the operation, or in the middle of it; still there at its end, or gone by then. */
TEST(WritableView, KeepsHostAndDeviceApartWheneverThereWasOne)
{
    static const enum operation operations[] = {PULL, PUSH, CHANGE};
    static const uint32_t before[] = {H, A, H | A};
    for (size_t i = 0; i < COUNT_OF(operations); i++) {
        for (int way = 0; way < 4; way++) {
            world w;
            ASSERT_NO_FATAL(set_up(&w));
            const bool is_before = (way & 1) != 0;
            const bool ends_early = (way & 2) != 0;
            pint_view *view = is_before ? begin(&w.x[OTHER]) : NULL;
            put_places(&w, before[i]); /* H and A only where no view was registered */
            ASSERT_NO_FATAL(
                go_through(&w, operations[i], &view, ends_early, is_before ? NULL : &w.x[OTHER]));
            EXPECT_EQ(places_of(word_now(&w)), (uint32_t)H);
            EXPECT_EQ(state_of(&w.x[ME], CHUNK), (uint32_t)PINTI_CHUNK_CLEAN);
            pint_column_view_end(view);
            tear_down(&w);
        }
    }
}

TEST(WritableView, ThatIsGoneBeforeLeavesNothing)
{
    static const enum operation operations[] = {PULL, PUSH, CHANGE};
    static const uint32_t before[] = {H, A, H | A};
    for (size_t i = 0; i < COUNT_OF(operations); i++) {
        world w;
        pint_view *none = NULL;
        ASSERT_NO_FATAL(set_up(&w));
        pint_column_view_end(begin(&w.x[ME]));
        put_places(&w, before[i]);
        ASSERT_NO_FATAL(go_through(&w, operations[i], &none, false, NULL));
        EXPECT_EQ(places_of(word_now(&w)), (uint32_t)(H | A));
        tear_down(&w);
    }
}

TEST(WritableView, OfAFrozenTableDoesNotCount)
{
    world w;
    pint_view *none = NULL;
    ASSERT_NO_FATAL(set_up(&w));
    pint_view *view = begin(&w.x[OTHER]);
    ASSERT_OK(local_table_freeze(w.table[ME]), NULL);
    EXPECT_FALSE(pinti_column_is_host_changed(pinti_column_desc_of(&w.x[ME])));
    put_places(&w, H);
    ASSERT_NO_FATAL(go_through(&w, PULL, &none, false, NULL));
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)(H | A));
    pint_column_view_end(view);
    tear_down(&w);
}

/* A lease that dies cannot go back to a device: what views stored before it is not there. */
TEST(WritableView, LeavesNoDeviceToGoBackTo)
{
    world w;
    pint_error err;
    pint_lease lease;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | A);
    ASSERT_OK(pint_lease_claim(&w.x[OTHER], 1, CHUNK, PINT_UPDATE, 0, &lease, &err), &err);
    pint_view *view = begin(&w.x[ME]);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
    EXPECT_EQ(state_of(&w.x[ME], CHUNK), (uint32_t)PINTI_CHUNK_TORN);
    pint_column_view_end(view);
    tear_down(&w);
}

/* Died between the two steps in which host and device go into one mask. */
TEST(WritableView, IsNotTrustedToHaveBeenLookedForByTheDead)
{
    world w;
    pinti_taken taken;
    ASSERT_NO_FATAL(set_up(&w));
    put_places(&w, H | B);
    ASSERT_EQ(perform(&w, PULL, &taken), OK);
    put_word(&w, word_now(&w) | BIT_A);
    EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)));
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)(H | B));
    put_places(&w, H | B); /* and if the copier does not say which device it was */
    ASSERT_EQ(perform(&w, PULL, &taken), OK);
    put_word(&w, word_now(&w) | BIT_A);
    pinti_store64_seq(&chunk_of(&w, 'A')->xcopier,
                      pinti_copier(index_of(&w, ME), PINTI_COPIER_CLAIM, 0));
    EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)));
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)H);
    /* a push adds the host to every device that is there; none of them was looked for */
    put_places(&w, A | B);
    ASSERT_EQ(perform(&w, PUSH, &taken), OK);
    put_word(&w, word_now(&w) & ~PINTI_HOST_STALE);
    EXPECT_TRUE(local_copy_sweep(w.local, w.copy_a, index_of(&w, ME)));
    EXPECT_EQ(places_of(word_now(&w)), (uint32_t)H);
    tear_down(&w);
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct storm {
    world *w;
    int session;
    uint64_t n_seen_together;
    pinti_a32 *is_over;
} storm;

static bool are_together(const world *w)
{
    const uint64_t word = word_now(w);
    return pinti_chunk_state(word) == PINTI_CHUNK_CLEAN && places_of(word) == (H | A);
}

static void *look_through_views(void *context)
{
    storm *s = context;
    for (int i = 0; i < 3000; i++) {
        pint_view *view = begin(&s->w->x[s->session]);
        for (int look = 0; look < 4; look++) {
            s->n_seen_together += are_together(s->w) ? 1 : 0;
        }
        pint_column_view_end(view);
    }
    return NULL;
}

static void *pull_for_ever(void *context)
{
    storm *s = context;
    pinti_copy_desc *copy = &s->w->a[s->session];
    while (pinti_load32_acquire(s->is_over) == 0) {
        pinti_taken taken;
        if (pinti_device_take(copy, CHUNK, PINTI_TAKE_TO_PULL, &taken) == OK) {
            (void)pinti_device_pulled(copy, CHUNK, taken.word);
        }
        if (pinti_device_take(copy, CHUNK, PINTI_TAKE_TO_CHANGE, &taken) == OK) {
            (void)pinti_device_give_back(copy, CHUNK, &taken);
        }
    }
    return NULL;
}

TEST(WritableView, IsNeverLivedThroughByAMaskOfBothSides, .timeout_s = 100)
{
    world w;
    pthread_t threads[6];
    storm storms[6];
    pinti_a32 is_over = 0;
    ASSERT_NO_FATAL(set_up(&w));
    for (int i = 0; i < 6; i++) {
        storms[i] = (storm){.w = &w, .session = i % 2, .is_over = &is_over};
        ASSERT_EQ(pthread_create(&threads[i], NULL, i < 4 ? look_through_views : pull_for_ever,
                                 &storms[i]),
                  0);
    }
    for (int i = 0; i < 6; i++) {
        if (i == 4) {
            pinti_store32_release(&is_over, 1);
        }
        ASSERT_EQ(pthread_join(threads[i], NULL), 0);
        EXPECT_EQ(storms[i].n_seen_together, 0ull);
    }
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    EXPECT_EQ(slot_word(&w, ME, 0), 0ull);
    tear_down(&w);
}

/* ---- what the service sweeps ----------------------------------------------------------------- */

TEST(WritableView, OfTheDeadIsTakenBackOnce)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    const pint_column y = column_of(w.table[ME], "y");
    (void)begin(&w.x[ME]);
    (void)begin(&w.x[ME]);
    (void)begin(&y);
    pint_view *others = begin(&w.x[OTHER]);
    sweep_views(&w, ME);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    EXPECT_EQ(registered(&y), 0u);
    sweep_views(&w, ME);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    pint_column_view_end(others);
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    tear_down(&w);
}

TEST(WritableView, WordsOfHostileSlotsAreReadWithCare)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    pint_view *others = begin(&w.x[OTHER]);
    pinti_slot_header *header = (pinti_slot_header *)(void *)w.session[ME]->slot;
    pinti_a64 *words = pinti_slot_views(w.session[ME]->slot);
    const uint64_t good = slot_word(&w, OTHER, 0);
    uint64_t random = random_seed();
    for (uint32_t i = 0; i < 4096; i++) {
        pinti_store64_seq(&words[i], random_next(&random));
    }
    pinti_store64_seq(&words[0], good ^ 1ull << 34);      /* generation */
    pinti_store64_seq(&words[1], good | 0xffffull << 18); /* column */
    pinti_store64_seq(&words[2], good - PINTI_VIEW_REGISTERED + PINTI_VIEW_REGISTERING);
    pinti_store64_seq(&words[3], good - PINTI_VIEW_REGISTERED + PINTI_VIEW_UNREGISTERING);
    pinti_store32_seq(&header->xn_views, UINT32_MAX);
    sweep_views(&w, ME);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    for (uint32_t i = 0; i < 4096; i++) {
        EXPECT_EQ(pinti_load64_seq(&words[i]), 0ull);
    }
    for (uint32_t i = 0; i < 3; i++) { /* more than there are: never below none */
        pinti_store64_seq(&words[i], good);
    }
    sweep_views(&w, ME);
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    pinti_store64_seq(&pinti_column_desc_of(&w.x[ME])->state->xviews, 1);
    pint_column_view_end(others);
    tear_down(&w);
}

#if PINT_CRASHPOINTS
static bool dies_at(enum pinti_crash_point point, const pint_column *column)
{
    const pid_t pid = fork();
    if (pid == 0) {
        pint_view *view;
        pinti_crash_arm(point, 1);
        if (pint_column_view_begin(column, &view, NULL) == PINT_OK) {
            pint_column_view_end(view);
        }
        _exit(0);
    }
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* Whatever was passing is left as it is: at most one more than there are, never one less. */
TEST(WritableView, OfAProcessKilledAtAnyPointIsNotMissed)
{
    static const struct {
        enum pinti_crash_point point;
        uint32_t left; /* after the sweep */
    } cases[] = {
        {PINTI_CRASH_VIEW_REGISTERING, 0}, {PINTI_CRASH_VIEW_COUNTED, 1},
        {PINTI_CRASH_VIEW_REGISTERED, 0},  {PINTI_CRASH_VIEW_UNREGISTERING, 1},
        {PINTI_CRASH_VIEW_UNCOUNTED, 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        world w;
        ASSERT_NO_FATAL(set_up(&w));
        pint_view *others = begin(&w.x[OTHER]);
        EXPECT_TRUE(dies_at(cases[i].point, &w.x[ME]));
        sweep_views(&w, ME);
        EXPECT_EQ(registered(&w.x[ME]), 1u + cases[i].left);
        EXPECT_EQ(slot_word(&w, ME, 0), 0ull);
        pint_column_view_end(others);
        tear_down(&w);
    }
}

/* The service, too, may die in the middle. */
TEST(WritableView, IsNotTakenBackTwiceByAServiceThatDies)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    (void)begin(&w.x[ME]);
    pint_view *others = begin(&w.x[OTHER]);
    const pid_t pid = fork();
    if (pid == 0) {
        pinti_crash_arm(PINTI_CRASH_SERVICE_VIEW_HALF, 1);
        sweep_views(&w, ME);
        _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status));
    sweep_views(&w, ME);
    EXPECT_EQ(registered(&w.x[ME]), 2u);
    pint_column_view_end(others); /* there was a fork(): stays while its session is mapped */
    sweep_views(&w, OTHER);
    EXPECT_EQ(registered(&w.x[ME]), 1u); /* counts as changed until the table goes */
    tear_down(&w);
}
#endif

/* ---- fork() ---------------------------------------------------------------------------------- */

/* A child may store through what it inherited, so the parent's end of the view does not end that.
 */
TEST(WritableView, ThatAForkedChildMayHaveStaysRegistered)
{
    world w;
    ASSERT_NO_FATAL(set_up(&w));
    pint_view *view = begin(&w.x[ME]);
    const pid_t pid = fork();
    if (pid == 0) {
        pint_column_view_end(view); /* it has no session: nothing of the parent's is touched */
        _exit(registered(&w.x[ME]) == 1 ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    pint_column_view_end(view);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    view = begin(&w.x[ME]);
    pint_column_view_end(view);
    EXPECT_EQ(registered(&w.x[ME]), 1u);
    sweep_views(&w, ME); /* nobody maps its pages any more */
    EXPECT_EQ(registered(&w.x[ME]), 0u);
    tear_down(&w);
}
