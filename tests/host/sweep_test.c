/* SPDX-License-Identifier: Apache-2.0 */

/* The sweep on memory that hostile processes wrote: it reads nothing outside the segments (which
 * lie on the heap here, for AddressSanitizer), ends, leaves the words of others alone, and done
 * twice is done once. */

#include <string.h>

#include "host/job.h"
#include "tests/host/fixture.h"

#define CHUNK_ROWS 512u
#define ROWS       (9 * CHUNK_ROWS)
#define SYNC_BYTES (256u << 10)
#define AREA_BYTES (64u << 10) /* of each catalog area: what the setting uses, and more */
#define VICTIM     5u
#define OTHER      6u

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pinti_sweep_view view;
    void *slot;
    uint32_t table, n_jobs;
    uint64_t random;
} setting;

static const uint64_t areas[] = {0, PINTI_CAT_TABLES_OFF, PINTI_CAT_JOBS_OFF, PINTI_CAT_USES_OFF,
                                 PINTI_CAT_COLUMNS_OFF};

/* One table with jobs of every kind, then copies of its segments. */
static void set_up(setting *s)
{
    pint_field fields[] = {field_of("x", PINT_INT64, PINT_NULLABLE), field_of("y", PINT_INT32, 0),
                           field_of("text", PINT_TEXT, 0), field_of("kind", PINT_DICT_TEXT, 0)};
    fields[3].item_type = PINT_INT8;
    fields[3].n_categories = 10;
    fields[3].data_bytes = 10;
    static const pint_use uses[][2] = {{{"x", PINT_INOUT, 0}, {"y", PINT_OUT, 0}},
                                       {{"x", PINT_OUT, 0}, {"y", PINT_IN, 0}},
                                       {{"x", PINT_IN, 0}, {"kind", PINT_INOUT, 0}}};
    const pint_schema schema = schema_of(fields, 4, CHUNK_ROWS);
    pint_error err;
    pint_lease lease;
    memset(s, 0, sizeof(*s));
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    pint_table *table = local_table_new(s->session, "t", &schema, ROWS);
    s->table = pinti_table_index(table);
    for (size_t i = 0; i < COUNT_OF(uses); i++) {
        pint_job *job;
        char name[8];
        (void)snprintf(name, sizeof(name), "j%zu", i);
        ASSERT_OK(pint_job_create(table, name, uses[i], 2, &job, &err), &err);
        pint_job_close(job);
    }
    const pint_column x = column_of(table, "x"); /* a lease set, too */
    ASSERT_OK(pint_lease_claim(&x, 1, 0, PINT_INOUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    s->n_jobs = COUNT_OF(uses) + 1;
    s->view.catalog = calloc(1, PINTI_CAT_BYTES);
    s->view.sync = malloc(SYNC_BYTES);
    s->view.sync_bytes = SYNC_BYTES;
    s->view.bells = calloc(PINTI_BELLS, sizeof(*s->view.bells));
    s->slot = calloc(1, PINTI_SLOT_BYTES);
    ASSERT_TRUE(s->view.catalog != NULL && s->view.sync != NULL && s->view.bells != NULL &&
                s->slot != NULL);
    for (size_t i = 0; i < COUNT_OF(areas); i++) {
        memcpy((char *)s->view.catalog + areas[i], (const char *)s->session->catalog + areas[i],
               AREA_BYTES);
    }
    memcpy(s->view.sync, s->session->sync, SYNC_BYTES);
    pint_table_close(table);
}

static void tear_down(setting *s)
{
    free(s->slot);
    free(s->view.bells);
    free(s->view.sync);
    free(s->view.catalog);
    local_pool_free(s->local);
}

static const pinti_table_rec *table_of(const setting *s)
{
    return &pinti_cat_tables(s->view.catalog)[s->table];
}

static pinti_column_rec *column_at(const setting *s, uint32_t i)
{
    return &pinti_cat_columns(s->view.catalog)[table_of(s)->runs[0].first + i];
}

static uint64_t *sync_words(const setting *s, uint64_t off)
{
    return (uint64_t *)(void *)(s->view.sync + off);
}

/* A word with a holder that means something, in any state, or any word. */
static uint64_t random_word(setting *s, bool of_job)
{
    static const uint32_t holders[] = {VICTIM, VICTIM, VICTIM, OTHER, 0, 0x3fff};
    const uint32_t holder = holders[random_below(&s->random, COUNT_OF(holders))];
    const uint64_t word = random_next(&s->random);
    if (random_below(&s->random, 8) == 0) {
        return word;
    }
    return of_job ? pinti_job_next_word(word, (uint32_t)random_below(&s->random, 10),
                                        (uint32_t)random_below(&s->random, 16),
                                        (uint32_t)random_below(&s->random, 40), holder)
                  : pinti_chunk_next(word, (uint32_t)random_below(&s->random, 8), holder,
                                     random_below(&s->random, 512));
}

static uint64_t random_intent(setting *s)
{
    if (random_below(&s->random, 4) == 0) {
        return random_next(&s->random);
    }
    return pinti_intent((uint32_t)random_below(&s->random, 4),
                        (uint32_t)random_below(&s->random, 8),
                        (uint32_t)random_below(&s->random, 6), random_below(&s->random, 12));
}

/* Everything a writer can write: all words of the table and its jobs, and the victim's slot. */
static void make_hostile(setting *s)
{
    const pinti_table_rec *table = table_of(s);
    for (uint32_t c = 0; c < pinti_load32_relaxed(&table->xn_columns); c++) {
        for (uint32_t chunk = 0; chunk < table->n_chunks; chunk++) {
            sync_words(s, column_at(s, c)->words_off)[chunk] = random_word(s, false);
        }
        sync_words(s, column_at(s, c)->state_off)[0] = random_below(&s->random, 8);
    }
    for (uint32_t j = 0; j < s->n_jobs; j++) {
        const pinti_job_rec *job = &pinti_cat_jobs(s->view.catalog)[j];
        for (uint32_t chunk = 0; chunk < job->n_chunks; chunk++) {
            sync_words(s, job->words_off)[chunk] = random_word(s, true);
        }
        for (uint32_t u = 0; u < job->n_undo; u++) {
            sync_words(s, job->undo_words_off)[u] =
                random_below(&s->random, 4) == 0
                    ? random_next(&s->random)
                    : pinti_undo_word(VICTIM + (uint32_t)random_below(&s->random, 2),
                                      random_below(&s->random, 12));
        }
    }
    for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
        pinti_store64_relaxed(&pinti_slot_intents(s->slot)[i],
                              random_below(&s->random, 4) == 0 ? 0 : random_intent(s));
    }
    for (uint32_t i = 0; i < 100; i++) {
        pinti_store64_relaxed(&pinti_slot_tables(s->slot)[random_below(&s->random, 1000)],
                              random_next(&s->random));
    }
}

static pinti_sweep_result sweep(setting *s, uint32_t session, bool all_words)
{
    pinti_sweep_result result = {0};
    if (all_words) {
        pinti_sweep_all(&s->view, session, &result);
    } else {
        pinti_sweep_listed(&s->view, s->slot, session, &result);
    }
    return result;
}

/* ---- others' words --------------------------------------------------------------------------- */

static void expect_only_victims_changed(const setting *s, const char *before)
{
    const pinti_table_rec *table = table_of(s);
    for (uint32_t c = 0; c < pinti_load32_relaxed(&table->xn_columns); c++) {
        const pinti_column_rec *column = column_at(s, c);
        for (uint32_t chunk = 0; chunk < table->n_chunks; chunk++) {
            uint64_t old;
            memcpy(&old, before + column->words_off + chunk * 8ull, sizeof(old));
            const uint64_t now = sync_words(s, column->words_off)[chunk];
            if (now != old && (pinti_chunk_holder(old) != VICTIM ||
                               !pinti_chunk_is_held(pinti_chunk_state(old)))) {
                FAIL("column %u chunk %u: %016" PRIx64 " became %016" PRIx64, c, chunk, old, now);
            }
            if (now != old && (pinti_chunk_holder(now) != 0 ||
                               pinti_chunk_seq(now) != pinti_chunk_seq(old + (1ull << 26)))) {
                FAIL("column %u chunk %u: %016" PRIx64 " is no successor", c, chunk, now);
            }
        }
        uint64_t old;
        memcpy(&old, before + column->state_off, sizeof(old));
        const uint64_t now = sync_words(s, column->state_off)[0];
        EXPECT_TRUE(now == old || (old == VICTIM && now == 0));
    }
    for (uint32_t j = 0; j < s->n_jobs; j++) {
        const pinti_job_rec *job = &pinti_cat_jobs(s->view.catalog)[j];
        for (uint32_t chunk = 0; chunk < job->n_chunks; chunk++) {
            uint64_t old;
            memcpy(&old, before + job->words_off + chunk * 8ull, sizeof(old));
            const uint64_t now = sync_words(s, job->words_off)[chunk];
            EXPECT_TRUE(now == old || pinti_job_holder(old) == VICTIM);
            EXPECT_TRUE(now == old || pinti_job_holder(now) == 0);
        }
        for (uint32_t u = 0; u < job->n_undo; u++) {
            uint64_t old;
            memcpy(&old, before + job->undo_words_off + u * 8ull, sizeof(old));
            const uint64_t now = sync_words(s, job->undo_words_off)[u];
            EXPECT_TRUE(now == old || (pinti_undo_holder(old) == VICTIM && now == 0));
        }
    }
}

static void expect_victim_holds_nothing(const setting *s)
{
    const pinti_table_rec *table = table_of(s);
    for (uint32_t c = 0; c < pinti_load32_relaxed(&table->xn_columns); c++) {
        EXPECT_NE(sync_words(s, column_at(s, c)->state_off)[0], (uint64_t)VICTIM);
        for (uint32_t chunk = 0; chunk < table->n_chunks; chunk++) {
            const uint64_t word = sync_words(s, column_at(s, c)->words_off)[chunk];
            EXPECT_FALSE(pinti_chunk_holder(word) == VICTIM &&
                         pinti_chunk_is_held(pinti_chunk_state(word)));
        }
    }
    for (uint32_t j = 0; j < s->n_jobs; j++) {
        const pinti_job_rec *job = &pinti_cat_jobs(s->view.catalog)[j];
        for (uint32_t chunk = 0; chunk < job->n_chunks; chunk++) {
            const uint64_t word = sync_words(s, job->words_off)[chunk];
            const uint32_t state = pinti_job_state(word);
            EXPECT_FALSE(pinti_job_holder(word) == VICTIM &&
                         (state == PINTI_JOB_CLAIMED || state == PINTI_JOB_LEASED ||
                          state == PINTI_JOB_COMMITTING || state == PINTI_JOB_RESTORING));
        }
    }
}

static void hostile_rounds(bool all_words)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    char *before = malloc(SYNC_BYTES);
    ASSERT_TRUE(before != NULL);
    s.random = random_seed();
    for (int round = 0; round < 100; round++) {
        make_hostile(&s);
        memcpy(before, s.view.sync, SYNC_BYTES);
        (void)sweep(&s, VICTIM, all_words);
        ASSERT_NO_FATAL(expect_only_victims_changed(&s, before));
        if (all_words) {
            expect_victim_holds_nothing(&s);
        }
    }
    free(before);
    tear_down(&s);
}

TEST(SweepHostile, ListedChangesOnlyTheDeadSessionsWords, .timeout_s = 100)
{
    hostile_rounds(false);
}

TEST(SweepHostile, AllChangesOnlyTheDeadSessionsWordsAndLeavesItNone, .timeout_s = 100)
{
    hostile_rounds(true);
}

TEST(SweepHostile, TwiceIsOnce, .timeout_s = 100)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    char *once = malloc(SYNC_BYTES);
    ASSERT_TRUE(once != NULL);
    s.random = random_seed();
    for (int round = 0; round < 200; round++) {
        const bool all_words = round % 2 == 0;
        make_hostile(&s);
        (void)sweep(&s, VICTIM, all_words);
        memcpy(once, s.view.sync, SYNC_BYTES);
        const pinti_sweep_result again = sweep(&s, VICTIM, all_words);
        ASSERT_MEMEQ(s.view.sync, once, SYNC_BYTES);
        EXPECT_EQ(again.n_torn + again.n_restore + again.n_reverted + again.n_forwarded, 0ull);
    }
    free(once);
    tear_down(&s);
}

TEST(SweepHostile, AfterTheListOfIntentsTheFullSweepFindsWhatTheyMissed)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    s.random = random_seed();
    for (int round = 0; round < 50; round++) {
        make_hostile(&s);
        (void)sweep(&s, VICTIM, false);
        (void)sweep(&s, VICTIM, true);
        expect_victim_holds_nothing(&s);
    }
    tear_down(&s);
}

TEST(SweepHostile, NobodysIndexSweepsNothing)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    char *before = malloc(SYNC_BYTES);
    ASSERT_TRUE(before != NULL);
    s.random = random_seed();
    make_hostile(&s);
    memcpy(before, s.view.sync, SYNC_BYTES);
    (void)sweep(&s, 0, false);
    (void)sweep(&s, 0, true);
    EXPECT_MEMEQ(s.view.sync, before, SYNC_BYTES);
    pinti_sweep_result result = {0};
    pinti_sweep_listed(&s.view, NULL, VICTIM, &result);
    EXPECT_MEMEQ(s.view.sync, before, SYNC_BYTES);
    free(before);
    tear_down(&s);
}

/* Offsets in the catalog are the service's own; still each is checked before use. */
TEST(SweepHostile, OffsetsOutsideTheSegmentAreNotFollowed, .timeout_s = 100)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    s.random = random_seed();
    static const uint64_t wrong[] = {SYNC_BYTES - 8, SYNC_BYTES,     SYNC_BYTES + 8, 4,
                                     UINT64_MAX,     UINT64_MAX - 7, 1ull << 63,     1ull << 40};
    for (int round = 0; round < 300; round++) {
        pinti_column_rec *column = column_at(&s, (uint32_t)random_below(&s.random, 4));
        pinti_job_rec *job = &pinti_cat_jobs(s.view.catalog)[random_below(&s.random, s.n_jobs)];
        pinti_table_rec *table = &pinti_cat_tables(s.view.catalog)[s.table];
        const pinti_column_rec good_column = *column;
        const pinti_job_rec good_job = *job;
        const pinti_table_rec good_table = *table;
        make_hostile(&s);
        uint64_t *const fields[] = {&column->words_off, &column->state_off, &job->words_off,
                                    &job->undo_words_off, &job->sync_off};
        *fields[random_below(&s.random, COUNT_OF(fields))] =
            wrong[random_below(&s.random, COUNT_OF(wrong))];
        if (round % 4 == 0) {
            job->first_use = UINT32_MAX - (uint32_t)random_below(&s.random, 3);
        } else if (round % 4 == 1) {
            job->table = (uint32_t)random_next(&s.random);
        } else if (round % 4 == 2) {
            table->runs[0].first = PINTI_COLUMNS_MAX - (uint32_t)random_below(&s.random, 2);
        }
        (void)sweep(&s, VICTIM, round % 2 == 0);
        (void)pinti_sweep_table_is_held(&s.view, s.table);
        for (uint32_t j = 0; j < s.n_jobs; j++) {
            (void)pinti_sweep_job_is_busy(&s.view, j);
        }
        *column = good_column;
        *job = good_job;
        *table = good_table;
    }
    tear_down(&s);
}

/* ---- what it does with honest words -----------------------------------------------------------
 */

TEST(Sweep, RingsTheBellsOfWhatTheDeadHadOpen)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    pinti_store64_relaxed(&pinti_slot_tables(s.slot)[s.table], 1ull << 32 | 1);
    pinti_bell *bell = &s.view.bells[s.table % PINTI_BELLS];
    pinti_store32_seq(&bell->xbell, PINTI_BELL_ASLEEP);
    (void)sweep(&s, VICTIM, false);
    EXPECT_EQ(pinti_load32_seq(&bell->xbell) & PINTI_BELL_ASLEEP, 0u);
    pinti_store32_seq(&bell->xbell, PINTI_BELL_ASLEEP);
    (void)sweep(&s, VICTIM, true);
    EXPECT_EQ(pinti_load32_seq(&bell->xbell) & PINTI_BELL_ASLEEP, 0u);
    tear_down(&s);
}

TEST(Sweep, CountsTheIntentsOfASlot)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_EQ(pinti_sweep_count_held(&s.view, s.slot, VICTIM), 0ull);
    EXPECT_EQ(pinti_sweep_count_held(&s.view, NULL, VICTIM), 0ull);
    for (uint32_t i = 0; i < 3; i++) {
        pinti_store64_relaxed(&pinti_slot_intents(s.slot)[i * 1000],
                              pinti_intent(PINTI_INTENT_LEASE, s.table, 0, i));
    }
    EXPECT_EQ(pinti_sweep_count_held(&s.view, s.slot, VICTIM), 3ull);
    tear_down(&s);
}

TEST(Sweep, SaysWhetherATableIsHeld)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    EXPECT_EQ(pinti_sweep_table_is_held(&s.view, s.table), 0);
    EXPECT_EQ(pinti_sweep_table_is_held(&s.view, PINTI_TABLES_MAX), 0);
    EXPECT_EQ(pinti_sweep_table_is_held(&s.view, 77), 0); /* no such table */
    static const struct {
        uint32_t state;
        int held;
    } cases[] = {{PINTI_CHUNK_CLEAN, 0},        {PINTI_CHUNK_HELD, 1},
                 {PINTI_CHUNK_HELD_TORN, 1},    {PINTI_CHUNK_TORN, 0},
                 {PINTI_CHUNK_RESTORE, 1},      {PINTI_CHUNK_JOB_HELD, 1},
                 {PINTI_CHUNK_JOB_HELD_TORN, 1}};
    uint64_t *word = &sync_words(&s, column_at(&s, 3)->words_off)[table_of(&s)->n_chunks - 1];
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        *word = pinti_chunk_next(0, cases[i].state, OTHER, 0);
        EXPECT_EQ(pinti_sweep_table_is_held(&s.view, s.table), cases[i].held);
    }
    tear_down(&s);
}

TEST(Sweep, SaysWhetherAJobIsBusy)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    const pinti_job_rec *job = &pinti_cat_jobs(s.view.catalog)[0];
    EXPECT_EQ(pinti_sweep_job_is_busy(&s.view, 0), 0);
    EXPECT_EQ(pinti_sweep_job_is_busy(&s.view, PINTI_JOBS_MAX), 0);
    uint64_t *word = &sync_words(&s, job->words_off)[job->n_chunks - 1];
    *word = pinti_job_next_word(0, PINTI_JOB_LEASED, 0, 1, OTHER);
    EXPECT_EQ(pinti_sweep_job_is_busy(&s.view, 0), 1);
    *word = pinti_job_next_word(0, PINTI_JOB_REDO, 1, 1, 0);
    EXPECT_EQ(pinti_sweep_job_is_busy(&s.view, 0), 1);
    *word = pinti_job_next_word(0, PINTI_JOB_DONE, 0, 0, 0);
    EXPECT_EQ(pinti_sweep_job_is_busy(&s.view, 0), 0);
    tear_down(&s);
}
