/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker is killed at every numbered crash point of the lease, job, undo and dictionary
 * protocols; it is swept as the service would, and the others finish. Checked each time: every
 * INOUT value is changed exactly once, no half-written chunk is clean, no word is held by the dead,
 * no undo buffer is lost. Each kill is swept in four ways: what the intents list, all words, both,
 * and the list twice as a service would that died in the first sweep.
 */

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/crash.h"
#include "host/job.h"
#include "tests/support/ct.h"
#include "tests/support/local_pool.h"

#define ROWS       4096u
#define CHUNK_ROWS 512u
#define CHUNKS     (ROWS / CHUNK_ROWS)

static const pint_use uses[] = {{"a", PINT_INOUT, 0}, {"b", PINT_INOUT, 0}, {"out", PINT_OUT, 0}};

typedef struct setting {
    local_pool *local;
    pint_pool *victim;
    pint_pool *survivor;
    pint_table *victim_table;
    pint_table *table;
    pint_column a, b, out, kind; /* a, b: INOUT; out: OUT; kind: dictionary */
} setting;

/* The catalog code's private part is this process's: children must find what they use made. */
static void make_jobs(setting *s)
{
    pint_error err;
    pint_job *job;
    pint_lease lease;
    pint_column columns[2] = {s->a, s->b};
    ASSERT_OK(pint_job_create(s->table, "job", uses, 3, &job, &err), &err);
    pint_job_close(job);
    ASSERT_OK(pint_lease_claim(columns, 2, 0, PINT_INOUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_abandon(&lease, &err), &err);
}

static void set_up(setting *s)
{
    pint_error err;
    pint_field fields[4] = {PINT_FIELD_INIT, PINT_FIELD_INIT, PINT_FIELD_INIT, PINT_FIELD_INIT};
    const char *const names[] = {"a", "b", "out", "kind"};
    const pint_type types[] = {PINT_INT64, PINT_BOOL, PINT_INT32, PINT_DICT_TEXT};
    for (int i = 0; i < 4; i++) {
        fields[i].name = names[i];
        fields[i].type = types[i];
    }
    fields[0].flags = PINT_NULLABLE;
    fields[3].item_type = PINT_INT16;
    fields[3].n_categories = 100;
    fields[3].data_bytes = 1000;
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.n_fields = 4;
    schema.fields = fields;
    schema.chunk_rows = CHUNK_ROWS;
    s->local = local_pool_new();
    s->victim = local_session_new(s->local);
    s->survivor = local_session_new(s->local);
    s->victim_table = local_table_new(s->victim, "t", &schema, ROWS);
    ASSERT_OK(pint_table_open(s->survivor, "t", PINT_WRITE, &s->table, &err), &err);
    ASSERT_OK(pint_table_column(s->table, "a", &s->a, &err), &err);
    ASSERT_OK(pint_table_column(s->table, "b", &s->b, &err), &err);
    ASSERT_OK(pint_table_column(s->table, "out", &s->out, &err), &err);
    ASSERT_OK(pint_table_column(s->table, "kind", &s->kind, &err), &err);
    for (uint64_t row = 0; row < ROWS; row++) {
        ((int64_t *)s->a.values)[row] = (int64_t)row;
        ASSERT_OK(pint_column_set_null(&s->a, row, row % 3 == 0, &err), &err);
        ASSERT_OK(pint_column_set_bool(&s->b, row, row % 5 == 0, &err), &err);
    }
    ASSERT_NO_FATAL(make_jobs(s));
}

/* The in-place work on one chunk: a + 1, its nulls and b flipped, out rewritten. */
static void work_on(pint_table *table, const pint_lease *lease, bool flip)
{
    pint_column a, b, out;
    if (pint_table_column(table, "a", &a, NULL) != PINT_OK ||
        pint_table_column(table, "b", &b, NULL) != PINT_OK ||
        pint_table_column(table, "out", &out, NULL) != PINT_OK) {
        abort();
    }
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows; row++) {
        ((int64_t *)a.values)[row] += 1;
        ((int32_t *)out.values)[row] = (int32_t)row;
        if (flip) {
            a.validity[row / 8] ^= (uint8_t)(1u << (row % 8));
            ((uint8_t *)b.values)[row / 8] ^= (uint8_t)(1u << (row % 8));
        }
    }
}

/* Take chunks until there are none; the n-th is failed rather than done (0: none is). */
static int run_job(pint_table *table, unsigned fail_at)
{
    pint_error err;
    pint_job *job;
    pint_lease lease;
    if (pint_job_create(table, "job", uses, 3, &job, &err) != PINT_OK) {
        return 2;
    }
    pint_status status;
    unsigned n = 0;
    while ((status = pint_job_next_timed(job, 20000, &lease, &err)) == PINT_OK) {
        work_on(table, &lease, true);
        status = ++n == fail_at ? pint_job_fail(job, &lease, "on purpose", &err)
                                : pint_job_done(job, &lease, &err);
        if (status != PINT_OK) {
            return 3;
        }
    }
    pint_job_close(job);
    return status == PINT_FINISHED ? 0 : 4;
}

enum sweep_way { LISTED, ALL, LISTED_THEN_ALL, LISTED_TWICE, N_SWEEP_WAYS };

static void sweep(setting *s, enum sweep_way way)
{
    if (way != ALL) {
        (void)local_session_sweep(s->local, s->victim, false);
    }
    if (way == LISTED_TWICE) {
        (void)local_session_sweep(s->local, s->victim, false);
    }
    if (way == ALL || way == LISTED_THEN_ALL) {
        (void)local_session_sweep(s->local, s->victim, true);
    }
}

/* Run body in a child of the victim session armed with a point; true when it was killed there. */
static bool kill_at(setting *s, enum pinti_crash_point point, unsigned nth, int (*body)(setting *s))
{
    const pid_t pid = fork();
    if (pid == 0) {
        pinti_crash_arm(point, nth);
        _exit(body(s));
    }
    int status = 0;
    (void)waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) {
        EXPECT_EQ(WTERMSIG(status), SIGKILL);
        return true;
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return false;
}

static void expect_nothing_held(setting *s, enum pinti_crash_point point)
{
    const pinti_table_desc *table = s->table->desc;
    const uint32_t dead = s->victim->session_index;
    for (uint32_t c = 0; c < table->n_first; c++) {
        EXPECT_NE(pinti_load64_seq(&table->columns[c].state->xdict_lease), (uint64_t)dead);
        for (uint32_t chunk = 0; chunk < table->n_chunks; chunk++) {
            const uint64_t word = pinti_load64_seq(&table->columns[c].words[chunk]);
            if (pinti_chunk_holder(word) == dead) {
                FAIL("%s: column %u chunk %u is held by the dead", pinti_crash_name(point), c,
                     chunk);
            }
        }
    }
}

static void expect_undo_free(setting *s, const char *name)
{
    pint_error err;
    pint_job *job;
    if (name == NULL) {
        return;
    }
    ASSERT_OK(pint_job_create(s->table, name, NULL, 0, &job, &err), &err);
    for (uint32_t u = 0; u < job->desc->n_undo; u++) {
        EXPECT_EQ(pinti_load64_seq(&job->desc->undo_words[u]), 0ull);
    }
    pint_job_close(job);
}

static void expect_once(setting *s, enum pinti_crash_point point, int64_t times)
{
    for (uint64_t row = 0; row < ROWS; row++) {
        const int64_t value = ((const int64_t *)s->a.values)[row];
        if (value != (int64_t)row + times) {
            FAIL("%s: row %d is %d, not %d", pinti_crash_name(point), (int)row, (int)value,
                 (int)((int64_t)row + times));
        }
        const bool flipped = (times & 1) != 0;
        if (pint_column_is_null(&s->a, row) != ((row % 3 == 0) != flipped) ||
            pint_column_get_bool(&s->b, row) != ((row % 5 == 0) != flipped)) {
            FAIL("%s: bits of row %d", pinti_crash_name(point), (int)row);
        }
    }
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static int body_job(setting *s)
{
    return run_job(s->victim_table, 3);
}

/* Die twice in a row at the same chunk's restore: the second victim meets the first one's REDO. */
static void kill_job_at(enum pinti_crash_point point, unsigned nth, enum sweep_way way)
{
    setting s;
    ASSERT_NO_FATAL(set_up(&s));
    const bool restore_path =
        point == PINTI_CRASH_JOB_RESTORING || point == PINTI_CRASH_JOB_RESTORE_CLAIMED ||
        point == PINTI_CRASH_JOB_RESTORE_HALF || point == PINTI_CRASH_JOB_RESTORED;
    if (restore_path) { /* leave a chunk in REDO first */
        EXPECT_TRUE(kill_at(&s, PINTI_CRASH_JOB_LEASED, 2, body_job));
        sweep(&s, way);
    }
    EXPECT_TRUE(kill_at(&s, point, nth, body_job));
    sweep(&s, way);
    expect_nothing_held(&s, point);
    EXPECT_EQ(run_job(s.table, 0), 0);
    expect_once(&s, point, 1);
    expect_undo_free(&s, "job");
    for (uint64_t row = 0; row < ROWS; row++) {
        ASSERT_EQ(((const int32_t *)s.out.values)[row], (int32_t)row);
    }
    tear_down(&s);
}

static const enum pinti_crash_point job_points[] = {
    PINTI_CRASH_JOB_INTENT,
    PINTI_CRASH_JOB_CLAIMED,
    PINTI_CRASH_JOB_COLUMNS_CLAIMED,
    PINTI_CRASH_JOB_UNDO_TAKEN,
    PINTI_CRASH_JOB_UNDO_HALF,
    PINTI_CRASH_JOB_UNDO_SAVED,
    PINTI_CRASH_JOB_LEASED,
    PINTI_CRASH_JOB_RESTORING,
    PINTI_CRASH_JOB_RESTORE_CLAIMED,
    PINTI_CRASH_JOB_RESTORE_HALF,
    PINTI_CRASH_JOB_RESTORED,
    PINTI_CRASH_JOB_COMMITTING,
    PINTI_CRASH_JOB_PART_COMMITTED,
    PINTI_CRASH_JOB_COLUMNS_COMMITTED,
    PINTI_CRASH_JOB_DONE,
    PINTI_CRASH_JOB_UNDO_FREED,
};

TEST(Crash, JobIsExactlyOnceWhenAWorkerDiesAtAnyPoint, .timeout_s = 100)
{
    for (size_t i = 0; i < sizeof(job_points) / sizeof(job_points[0]); i++) {
        for (int way = 0; way < N_SWEEP_WAYS; way++) {
            ASSERT_NO_FATAL(kill_job_at(job_points[i], 1, (enum sweep_way)way));
        }
    }
}

TEST(Crash, CommitOfSeveralColumnsIsRolledForward, .timeout_s = 60)
{
    for (unsigned nth = 1; nth <= 3; nth++) {
        ASSERT_NO_FATAL(kill_job_at(PINTI_CRASH_JOB_PART_COMMITTED, nth, LISTED));
    }
}

TEST(Crash, ChunkThatKillsThreeWorkersFailsWithItsOldBytes, .timeout_s = 60)
{
    setting s;
    pint_error err;
    pint_job *job;
    ASSERT_NO_FATAL(set_up(&s));
    ASSERT_OK(pint_job_create(s.table, "job", uses, 3, &job, &err), &err);
    for (int n = 0; n < 3; n++) {
        const pid_t pid = fork();
        if (pid == 0) {
            pint_lease lease;
            pint_job *mine;
            if (pint_job_create(s.victim_table, "job", NULL, 0, &mine, NULL) != PINT_OK) {
                _exit(1);
            }
            pinti_store64_relaxed(&mine->desc->sync->xcursor,
                                  CHUNKS); /* always the first open one */
            if (pint_job_next(mine, &lease, NULL) != PINT_OK || lease.chunk != 0) {
                _exit(2);
            }
            work_on(s.victim_table, &lease, true);
            (void)kill(getpid(), SIGKILL);
        }
        int status = 0;
        (void)waitpid(pid, &status, 0);
        ASSERT_TRUE(WIFSIGNALED(status));
        sweep(&s, LISTED);
    }
    EXPECT_EQ(run_job(s.table, 0), 0);
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    ASSERT_OK(pint_job_get_progress(job, &progress, &err), &err);
    EXPECT_EQ(progress.n_failed, 1ull);
    EXPECT_EQ(progress.n_done, CHUNKS - 1ull);
    for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
        ASSERT_EQ(((const int64_t *)s.a.values)[row], (int64_t)row);
        ASSERT_EQ(pint_column_is_null(&s.a, row), row % 3 == 0);
    }
    EXPECT_EQ(pinti_chunk_state(pinti_load64_seq(&s.table->desc->columns[0].words[0])),
              (uint32_t)PINTI_CHUNK_CLEAN);
    EXPECT_EQ(pinti_chunk_state(pinti_load64_seq(&s.table->desc->columns[2].words[0])),
              (uint32_t)PINTI_CHUNK_TORN); /* out was half written by the dead */
    expect_undo_free(&s, "job");
    pint_job_close(job);
    tear_down(&s);
}

/* ---- leases ---------------------------------------------------------------------------------- */

static pint_status lease_once(pint_table *table, uint32_t use, const char *const *names, uint32_t n,
                              uint64_t chunk, bool flip)
{
    pint_column columns[4];
    pint_lease lease;
    for (uint32_t i = 0; i < n; i++) {
        if (pint_table_column(table, names[i], &columns[i], NULL) != PINT_OK) {
            abort();
        }
    }
    const pint_status status = pint_lease_claim(columns, n, chunk, use, 20000, &lease, NULL);
    if (status != PINT_OK) {
        return status;
    }
    work_on(table, &lease, flip);
    return pint_lease_commit(&lease, NULL);
}

static const char *const names_abo[] = {"out", "b", "a"};

static int body_plain(setting *s)
{
    return lease_once(s->victim_table, PINT_UPDATE, names_abo, 3, 4, false);
}

static int body_plain_one(setting *s)
{
    return lease_once(s->victim_table, PINT_UPDATE, names_abo + 2, 1, 4, false);
}

static int body_undo(setting *s)
{
    return lease_once(s->victim_table, PINT_INOUT, names_abo + 1, 2, 4, true);
}

static const enum pinti_crash_point lease_points[] = {
    PINTI_CRASH_LEASE_INTENT,         PINTI_CRASH_LEASE_PART_CLAIMED, PINTI_CRASH_LEASE_CLAIMED,
    PINTI_CRASH_LEASE_PART_COMMITTED, PINTI_CRASH_LEASE_COMMITTED,
};

TEST(Crash, PlainLeaseIsTornNotCleanWhenItsHolderDies, .timeout_s = 60)
{
    for (size_t i = 0; i < sizeof(lease_points) / sizeof(lease_points[0]); i++) {
        for (int one = 0; one < 2; one++) {
            const enum pinti_crash_point point = lease_points[i];
            if ((one != 0 && (point == PINTI_CRASH_LEASE_PART_CLAIMED ||
                              point == PINTI_CRASH_LEASE_PART_COMMITTED)) ||
                (one == 0 && point == PINTI_CRASH_LEASE_INTENT)) {
                continue; /* not on that path */
            }
            setting s;
            pint_error err;
            ASSERT_NO_FATAL(set_up(&s));
            EXPECT_TRUE(kill_at(&s, point, 1, one != 0 ? body_plain_one : body_plain));
            sweep(&s, LISTED);
            expect_nothing_held(&s, point);
            const bool is_whole = point == PINTI_CRASH_LEASE_COMMITTED;
            const pint_status status = lease_once(s.table, PINT_UPDATE, names_abo + 2, 1, 4, false);
            const bool is_untouched =
                point == PINTI_CRASH_LEASE_INTENT || point == PINTI_CRASH_LEASE_PART_CLAIMED;
            if (is_whole || is_untouched) {
                /* a is claimed first (ascending), so at PART_CLAIMED it counts as written */
                EXPECT_TRUE(status == PINT_OK || point == PINTI_CRASH_LEASE_PART_CLAIMED);
            } else if (point == PINTI_CRASH_LEASE_CLAIMED) {
                EXPECT_EQ(status, PINT_E_TORN);
                int64_t out[CHUNK_ROWS];
                EXPECT_STATUS(
                    PINT_E_TORN,
                    pint_column_read(&s.a, 4ull * CHUNK_ROWS, CHUNK_ROWS, out, NULL, &err), &err);
                /* a full rewrite clears it (R7) */
                EXPECT_OK(lease_once(s.table, PINT_OUT, names_abo + 2, 1, 4, false), NULL);
                EXPECT_OK(pint_column_read(&s.a, 4ull * CHUNK_ROWS, CHUNK_ROWS, out, NULL, &err),
                          &err);
            }
            tear_down(&s);
        }
    }
}

TEST(Crash, LeaseWithUndoIsAsIfItHadNeverBeen, .timeout_s = 100)
{
    for (size_t i = 0; i < sizeof(job_points) / sizeof(job_points[0]); i++) {
        const enum pinti_crash_point point = job_points[i];
        if (point >= PINTI_CRASH_JOB_RESTORING && point <= PINTI_CRASH_JOB_RESTORED) {
            continue; /* FOREIGN_ points below */
        }
        for (int way = 0; way < N_SWEEP_WAYS; way++) {
            setting s;
            ASSERT_NO_FATAL(set_up(&s));
            EXPECT_TRUE(kill_at(&s, point, 1, body_undo));
            sweep(&s, (enum sweep_way)way);
            expect_nothing_held(&s, point);
            const bool in_effect = point >= PINTI_CRASH_JOB_COMMITTING;
            /* another use of the chunk, through no undo at all, must find whole bytes */
            ASSERT_EQ(lease_once(s.table, PINT_UPDATE, names_abo + 2, 1, 4, false), PINT_OK);
            const uint64_t row = 4ull * CHUNK_ROWS + 7;
            EXPECT_EQ(((const int64_t *)s.a.values)[row], (int64_t)row + 1 + in_effect);
            EXPECT_EQ(pint_column_is_null(&s.a, row), (row % 3 == 0) != in_effect);
            EXPECT_EQ(pint_column_get_bool(&s.b, row), (row % 5 == 0) != in_effect);
            tear_down(&s);
        }
    }
}

static int body_foreign(setting *s)
{
    return lease_once(s->victim_table, PINT_UPDATE, names_abo + 2, 1, 4, false) == PINT_OK ? 0 : 9;
}

TEST(Crash, RestoreOnAnothersBehalfMayDieToo, .timeout_s = 60)
{
    const enum pinti_crash_point points[] = {
        PINTI_CRASH_JOB_RESTORING,     PINTI_CRASH_JOB_RESTORE_CLAIMED,
        PINTI_CRASH_FOREIGN_RESTORING, PINTI_CRASH_JOB_RESTORE_HALF,
        PINTI_CRASH_FOREIGN_RESTORED,  PINTI_CRASH_JOB_RESTORED,
    };
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        for (int way = 0; way < N_SWEEP_WAYS; way++) {
            setting s;
            ASSERT_NO_FATAL(set_up(&s));
            EXPECT_TRUE(kill_at(&s, PINTI_CRASH_JOB_LEASED, 1, body_undo)); /* chunk 4: REDO */
            sweep(&s, (enum sweep_way)way);
            EXPECT_TRUE(kill_at(&s, points[i], 1, body_foreign));
            sweep(&s, (enum sweep_way)way);
            expect_nothing_held(&s, points[i]);
            ASSERT_EQ(lease_once(s.table, PINT_UPDATE, names_abo + 2, 1, 4, false), PINT_OK);
            const uint64_t row = 4ull * CHUNK_ROWS + 7;
            EXPECT_EQ(((const int64_t *)s.a.values)[row], (int64_t)row + 1);
            EXPECT_EQ(pint_column_is_null(&s.a, row), row % 3 == 0);
            tear_down(&s);
        }
    }
}

/* ---- dictionary ------------------------------------------------------------------------------ */

static int body_category(setting *s)
{
    pint_column kind;
    int32_t code;
    return pint_table_column(s->victim_table, "kind", &kind, NULL) == PINT_OK &&
                   pint_column_add_category(&kind, "second", 6, &code, NULL) == PINT_OK
               ? 0
               : 5;
}

TEST(Crash, DictionaryStaysWholeWhenAnAppenderDies, .timeout_s = 60)
{
    const enum pinti_crash_point points[] = {PINTI_CRASH_DICT_HELD, PINTI_CRASH_DICT_WRITTEN,
                                             PINTI_CRASH_DICT_PUBLISHED};
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        for (int way = 0; way < N_SWEEP_WAYS; way++) {
            setting s;
            pint_error err;
            int32_t code = -1;
            const char *text;
            uint64_t bytes;
            ASSERT_NO_FATAL(set_up(&s));
            ASSERT_OK(pint_column_add_category(&s.kind, "first", 5, &code, &err), &err);
            EXPECT_TRUE(kill_at(&s, points[i], 1, body_category));
            sweep(&s, (enum sweep_way)way);
            expect_nothing_held(&s, points[i]);
            const bool published = points[i] == PINTI_CRASH_DICT_PUBLISHED;
            EXPECT_EQ(pint_column_categories(&s.kind), published ? 2ull : 1ull);
            ASSERT_OK(pint_column_add_category(&s.kind, "third", 5, &code, &err), &err);
            EXPECT_EQ(code, published ? 2 : 1);
            ASSERT_OK(pint_column_category(&s.kind, (uint64_t)code, &text, &bytes, &err), &err);
            EXPECT_EQ(bytes, 5ull);
            EXPECT_MEMEQ(text, "third", 5);
            tear_down(&s);
        }
    }
}
