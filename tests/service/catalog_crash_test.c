/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crash after every single store into the catalog. The catalog is made read-only; each store to
 * it faults, is let through alone by single-stepping the processor, and then a forked copy of the
 * process plays the next incarnation: it rebuilds from what is there and must find the state before
 * or after the operation, and everything usable.
 */
#include "tests/support/ct.h"

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

#    include <signal.h>
#    include <stdio.h>
#    include <stdlib.h>
#    include <string.h>
#    include <sys/mman.h>
#    include <sys/wait.h>
#    include <ucontext.h>
#    include <unistd.h>

#    include "ipc/service/catalog_internal.h"
#    include "tests/service/catalog_support.h"

#    define TRAP_FLAG         0x100
#    define USE_INOUT(column) ((uint32_t)(column) << 2 | 2u)

typedef bool (*check_fn)(world *w);

static struct {
    world *w;
    check_fn check;
    uint32_t n_stores;
    uint32_t n_bad;
    uint32_t first_bad;
} crash;

static void protect(int how)
{
    (void)mprotect(crash.w->catalog, PINTI_CAT_BYTES, how);
}

/* What must hold whatever was cut off. */
static bool is_usable(world *w)
{
    uint32_t index;
    uint32_t generation;
    uint32_t job;
    const uint32_t uses[] = {USE_INOUT(0)};
    if (!world_publish(w, "after the crash", &index, &generation) ||
        world_lookup(w, "after the crash") != index + 1 ||
        world_job(w, index, generation, "j", uses, 1, &job, &job, NULL) != PINT_OK) {
        return false;
    }
    /* dropping everything leaves nothing in use */
    const uint32_t n = pinti_load32_relaxed(&((pinti_catalog_header *)w->catalog)->xn_tables);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t gen_state =
            pinti_load64_relaxed(&pinti_cat_tables(w->catalog)[i].xgen_state);
        if (pinti_state_of(gen_state) == PINTI_LIVE ||
            pinti_state_of(gen_state) == PINTI_BUILDING) {
            (void)pinti_cat_drop(w->cat, i, pinti_gen_of(gen_state), NULL);
        }
    }
    (void)pinti_cat_reap(w->cat, nobody_refers, NULL);
    if (pinti_memory_used(w->memory) != 0 || pinti_cat_n_dying(w->cat) != 0 ||
        pinti_cat_n_live(w->cat) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < PINTI_INDEX_SLOTS; i++) {
        if (pinti_load64_relaxed(&pinti_cat_index(w->catalog)[i]) != 0) {
            return false;
        }
    }
    return world_restart(w, NULL) == PINT_OK && pinti_memory_used(w->memory) == 0;
}

/* Runs in the signal handler; the interrupted code was no library code, but a plain store. */
static void play_next_incarnation(void)
{
    const pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        world *w = crash.w;
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGTRAP, SIG_DFL);
        protect(PROT_READ | PROT_WRITE);
        w->cat = NULL; /* the dead one's */
        w->memory = NULL;
        if (world_restart(w, NULL) != PINT_OK) {
            _exit(2);
        }
        if (!crash.check(w)) {
            _exit(3);
        }
        _exit(is_usable(w) ? 0 : 4);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        if (crash.n_bad++ == 0) {
            crash.first_bad = crash.n_stores;
            (void)fprintf(stderr, "store %u: wait status 0x%x\n", crash.n_stores, (unsigned)status);
        }
    }
    crash.n_stores++;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const char *at = info->si_addr;
    const char *catalog = crash.w->catalog;
    if (at < catalog || at >= catalog + PINTI_CAT_BYTES) {
        (void)signal(number, SIG_DFL); /* not ours: faults again and dies */
        return;
    }
    protect(PROT_READ | PROT_WRITE);
    uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number;
    (void)info;
    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    play_next_incarnation();
    protect(PROT_READ);
}

static void begin_crashes(world *w, check_fn check)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    memset(&crash, 0, sizeof(crash));
    crash.w = w;
    crash.check = check;
    action.sa_sigaction = on_fault;
    (void)sigaction(SIGSEGV, &action, NULL);
    action.sa_sigaction = on_step;
    (void)sigaction(SIGTRAP, &action, NULL);
    protect(PROT_READ);
}

static void end_crashes(void)
{
    protect(PROT_READ | PROT_WRITE);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)signal(SIGTRAP, SIG_DFL);
    EXPECT_GT(crash.n_stores, 0u);
    EXPECT_EQ(crash.n_bad, 0u);
    if (crash.n_bad != 0) {
        EXPECT_EQ(crash.first_bad, UINT32_MAX);
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static struct {
    uint32_t index;
    uint32_t generation;
    uint32_t old;
    uint32_t old_generation;
    uint64_t bytes;
} op;

static uint32_t state_of(const world *w, uint32_t index)
{
    return pinti_state_of(pinti_load64_relaxed(&pinti_cat_tables(w->catalog)[index].xgen_state));
}

/* A pool with some tables and holes, so that nothing is at its first place. */
static bool open_used_world(world *w)
{
    uint32_t index;
    uint32_t generation;
    char name[32];
    if (!world_open(w)) {
        return false;
    }
    for (uint32_t i = 0; i < 6; i++) {
        (void)snprintf(name, sizeof(name), "other-%u", i);
        if (!world_publish(w, name, &index, &generation)) {
            return false;
        }
        if (i == 2 && pinti_cat_drop(w->cat, index, generation, NULL) != PINT_OK) {
            return false;
        }
    }
    return pinti_cat_reap(w->cat, nobody_refers, NULL) == 1;
}

static bool others_are_there(const world *w)
{
    return world_lookup(w, "other-0") != 0 && world_lookup(w, "other-1") != 0 &&
           world_lookup(w, "other-2") == 0 && world_lookup(w, "other-5") != 0;
}

static bool check_create(world *w)
{
    uint32_t index;
    uint32_t generation;
    if (!others_are_there(w) || world_lookup(w, "t") != 0) {
        return false;
    }
    /* not there, or there with all it needs: then the repeated request finds it */
    return !pinti_cat_find_request(w->cat, WORLD_SESSION, w->request, &index, &generation) ||
           (state_of(w, index) == PINTI_BUILDING &&
            pinti_cat_publish(w->cat, index, generation, false, NULL) == PINT_OK &&
            world_lookup(w, "t") == index + 1);
}

TEST(CatalogCrash, CreateIsThereOrNot, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    begin_crashes(&w, check_create);
    const pint_status status =
        world_create(&w, "t", 2000, "a:int32? b:text", 0, &op.index, &op.generation, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

static bool check_publish(world *w)
{
    const uint32_t found = world_lookup(w, "t");
    return others_are_there(w) &&
           (found == 0 ? state_of(w, op.index) == PINTI_BUILDING : found == op.index + 1);
}

TEST(CatalogCrash, PublishIsDoneOrNot, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_OK(world_create(&w, "t", 10, "a:int8", 0, &op.index, &op.generation, &err), &err);
    begin_crashes(&w, check_publish);
    const pint_status status = pinti_cat_publish(w.cat, op.index, op.generation, false, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

static bool check_replace(world *w)
{
    const uint32_t found = world_lookup(w, "t");
    if (!others_are_there(w)) {
        return false;
    }
    if (found == op.old + 1) {
        return state_of(w, op.old) == PINTI_LIVE && state_of(w, op.index) == PINTI_BUILDING;
    }
    return found == op.index + 1 && state_of(w, op.old) == PINTI_DYING;
}

TEST(CatalogCrash, ReplaceLeavesTheOldOrTheNew, .timeout_s = 300)
{
    world w;
    pint_error err;
    uint32_t job;
    const uint32_t uses[] = {USE_INOUT(0)};
    ASSERT_TRUE(open_used_world(&w));
    /* the new one is older than the old one */
    ASSERT_OK(world_create(&w, "t", 10, "a:int8", 0, &op.index, &op.generation, &err), &err);
    ASSERT_TRUE(world_publish(&w, "t", &op.old, &op.old_generation));
    ASSERT_OK(world_job(&w, op.old, op.old_generation, "j", uses, 1, &job, &job, &err), &err);
    begin_crashes(&w, check_replace);
    const pint_status status = pinti_cat_publish(w.cat, op.index, op.generation, true, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

static bool check_rename(world *w)
{
    const bool old = world_lookup(w, "t") == op.index + 1;
    const bool new = world_lookup(w, "quite another name, longer than it was") == op.index + 1;
    return others_are_there(w) && old != new;
}

TEST(CatalogCrash, RenameLeavesExactlyOneName, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(world_publish(&w, "t", &op.index, &op.generation));
    begin_crashes(&w, check_rename);
    const pint_status status = pinti_cat_rename(w.cat, op.index, op.generation,
                                                "quite another name, longer than it was", &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

static bool check_drop(world *w)
{
    const uint32_t found = world_lookup(w, "t");
    return others_are_there(w) && (found == op.index + 1 ? state_of(w, op.index) == PINTI_LIVE
                                                         : state_of(w, op.index) != PINTI_LIVE);
}

TEST(CatalogCrash, DropIsDoneOrNot, .timeout_s = 300)
{
    world w;
    pint_error err;
    uint32_t job;
    const uint32_t uses[] = {USE_INOUT(0)};
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(world_publish(&w, "t", &op.index, &op.generation));
    ASSERT_OK(world_job(&w, op.index, op.generation, "j", uses, 1, &job, &job, &err), &err);
    ASSERT_OK(world_job(&w, op.index, op.generation, "k", uses, 1, &job, &job, &err), &err);
    begin_crashes(&w, check_drop);
    const pint_status status = pinti_cat_drop(w.cat, op.index, op.generation, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

static bool check_reap(world *w)
{
    const uint32_t state = state_of(w, op.index);
    return others_are_there(w) && (state == PINTI_DYING || state == PINTI_FREE);
}

TEST(CatalogCrash, FreeingIsDoneOrDoneAgain, .timeout_s = 300)
{
    world w;
    pint_error err;
    uint32_t job;
    uint32_t n_freed;
    const uint32_t uses[] = {USE_INOUT(0)};
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(world_publish(&w, "t", &op.index, &op.generation));
    ASSERT_OK(world_job(&w, op.index, op.generation, "j", uses, 1, &job, &job, &err), &err);
    ASSERT_OK(pinti_cat_drop(w.cat, op.index, op.generation, &err), &err);
    begin_crashes(&w, check_reap);
    n_freed = pinti_cat_reap(w.cat, nobody_refers, NULL);
    end_crashes();
    EXPECT_EQ(n_freed, 2u);
    world_close(&w);
}

static bool check_job(world *w)
{
    uint32_t job;
    uint32_t generation;
    const uint32_t uses[] = {USE_INOUT(0)};
    const pint_status status =
        pinti_cat_job_find(w->cat, op.index, op.generation, "j", uses, 1, &job, &generation, NULL);
    return others_are_there(w) && (status == PINT_OK || status == PINT_E_NOT_FOUND);
}

TEST(CatalogCrash, JobIsThereOrNot, .timeout_s = 300)
{
    world w;
    pint_error err;
    uint32_t job;
    const uint32_t uses[] = {USE_INOUT(0)};
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(world_publish(&w, "t", &op.index, &op.generation));
    begin_crashes(&w, check_job);
    const pint_status status =
        world_job(&w, op.index, op.generation, "j", uses, 1, &job, &job, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

/* All of the donor's columns are there, or none is and the donor is as it was. */
static bool check_add(world *w)
{
    const pinti_table_rec *rec = &pinti_cat_tables(w->catalog)[op.index];
    const pinti_table_rec *donor = &pinti_cat_tables(w->catalog)[op.old];
    const uint32_t n = pinti_load32_relaxed(&rec->xn_columns);
    const uint64_t bytes =
        pinti_load64_relaxed(&rec->xbytes) + pinti_load64_relaxed(&donor->xbytes);
    if (!others_are_there(w) || world_lookup(w, "t") != op.index + 1 || bytes != op.bytes) {
        return false;
    }
    if (n == 1) {
        return state_of(w, op.old) == PINTI_BUILDING &&
               pinti_load32_relaxed(&donor->xn_columns) == 20;
    }
    const pinti_column_rec *first = pinti_cat_column(w->catalog, rec, 1);
    const pinti_column_rec *last = pinti_cat_column(w->catalog, rec, 20);
    return n == 21 && pinti_cat_column(w->catalog, rec, 21) == NULL &&
           state_of(w, op.old) == PINTI_DYING && strcmp((const char *)first->name, "c0") == 0 &&
           first->block_bytes != 0 && last->block_bytes == 0 &&
           strcmp((const char *)last->name, "c19") == 0;
}

/* A live table of one column and 20 columns to be added to it; the latter have a job. */
static bool make_addition(world *w)
{
    char columns[512];
    size_t bytes = 0;
    uint32_t job;
    const uint32_t uses[] = {USE_INOUT(3)};
    for (unsigned i = 0; i < 20; i++) {
        bytes += (size_t)snprintf(columns + bytes, sizeof(columns) - bytes, "%sc%u:int32",
                                  i == 0 ? "" : " ", i);
    }
    if (!world_publish(w, "t", &op.index, &op.generation) ||
        world_create(w, "donor", 100, columns, 0, &op.old, &op.old_generation, NULL) != PINT_OK ||
        world_job(w, op.old, op.old_generation, "j", uses, 1, &job, &job, NULL) != PINT_OK) {
        return false;
    }
    op.bytes = pinti_load64_relaxed(&pinti_cat_tables(w->catalog)[op.index].xbytes) +
               pinti_load64_relaxed(&pinti_cat_tables(w->catalog)[op.old].xbytes);
    return true;
}

static pint_status add(world *w, pint_error *err)
{
    return pinti_cat_add_columns(w->cat, op.index, op.generation, op.old, op.old_generation,
                                 WORLD_SESSION, err);
}

TEST(CatalogCrash, AddedColumnsAreAllThereOrNone, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(make_addition(&w));
    begin_crashes(&w, check_add);
    const pint_status status = add(&w, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    EXPECT_TRUE(check_add(&w));
    world_close(&w);
}

/* A second addition, to the same run, that is cut off leaves the first as it is. */
static bool check_second(world *w)
{
    const pinti_table_rec *rec = &pinti_cat_tables(w->catalog)[op.index];
    const uint32_t n = pinti_load32_relaxed(&rec->xn_columns);
    return others_are_there(w) && (n == 21 || n == 22) &&
           pinti_cat_column(w->catalog, rec, 1)->block_bytes != 0 &&
           (n == 21 ? state_of(w, op.old) == PINTI_BUILDING
                    : pinti_cat_column(w->catalog, rec, 21)->block_bytes != 0);
}

TEST(CatalogCrash, ASecondAdditionLeavesTheFirst, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(make_addition(&w));
    ASSERT_OK(add(&w, &err), &err);
    ASSERT_OK(world_create(&w, "d", 100, "more:int8", 0, &op.old, &op.old_generation, &err), &err);
    begin_crashes(&w, check_second);
    const pint_status status = add(&w, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    world_close(&w);
}

TEST(CatalogCrash, FreeingATableWithAddedColumnsIsDoneOrDoneAgain, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(make_addition(&w));
    ASSERT_OK(add(&w, &err), &err);
    ASSERT_EQ(pinti_cat_reap(w.cat, nobody_refers, NULL), 2u); /* the donor and its job */
    ASSERT_OK(pinti_cat_drop(w.cat, op.index, op.generation, &err), &err);
    begin_crashes(&w, check_reap);
    const uint32_t n_freed = pinti_cat_reap(w.cat, nobody_refers, NULL);
    end_crashes();
    EXPECT_EQ(n_freed, 1u);
    world_close(&w);
}

/* The next incarnation dies too, while it carries the addition through. */
TEST(CatalogCrash, AnAdditionIsCarriedThroughByTheSecondNext, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(make_addition(&w));
    pinti_table_rec *rec = &pinti_cat_tables(w.catalog)[op.index];
    pinti_table_rec *donor = &pinti_cat_tables(w.catalog)[op.old];
    const pinti_table_rec before = *rec;
    const pinti_table_rec donor_before = *donor;
    const pinti_extent extent = pinti_cat_extents(w.catalog)[donor->first_extent - 1];
    ASSERT_OK(add(&w, &err), &err);
    pinti_journal *journal = pinti_cat_journal(w.cat);
    ASSERT_EQ(journal->kind, PINTI_JOURNAL_COLUMNS); /* what the addition wrote; armed again */
    pinti_store64_relaxed(&journal->xtable, (uint64_t)op.generation << 32 | (op.index + 1));
    /* as it was when the journal was written, but for the runs, which are filled before */
    pinti_store32_relaxed(&rec->xn_columns, 1);
    pinti_store64_relaxed(&rec->xbytes, pinti_load64_relaxed(&before.xbytes));
    rec->first_extent = before.first_extent;
    *donor = donor_before;
    pinti_cat_extents(w.catalog)[donor->first_extent - 1] = extent;
    begin_crashes(&w, check_add);
    const pint_status status = world_restart(&w, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    EXPECT_EQ(pinti_load32_relaxed(&rec->xn_columns), 21u);
    EXPECT_TRUE(check_add(&w));
    world_close(&w);
}

/* A crash of the rebuild itself: what it had mended stays mended. */
TEST(CatalogCrash, RebuildMayBeCutOffAndBegunAgain, .timeout_s = 300)
{
    world w;
    pint_error err;
    ASSERT_TRUE(open_used_world(&w));
    ASSERT_TRUE(world_publish(&w, "t", &op.index, &op.generation));
    /* a rename that stopped in the middle of the name, and an index in the middle of a move */
    pinti_catalog_header *header = w.catalog;
    pinti_table_rec *rec = &pinti_cat_tables(w.catalog)[op.index];
    ASSERT_OK(pinti_cat_rename(w.cat, op.index, op.generation,
                               "quite another name, longer than it was", &err),
              &err);
    pinti_journal *journal = (pinti_journal *)(void *)((char *)w.catalog + PINTI_CAT_JOURNAL_OFF);
    ASSERT_EQ(journal->kind, PINTI_JOURNAL_RENAME); /* what the rename wrote; armed again */
    pinti_store64_relaxed(&journal->xtable, (uint64_t)op.generation << 32 | (op.index + 1));
    pinti_store64_relaxed(&rec->xname[2], 0x4141414141414141ull);
    pinti_store32_relaxed(&rec->xname_seq, pinti_load32_relaxed(&rec->xname_seq) | 1u);
    pinti_store32_relaxed(&header->xindex_seq, pinti_load32_relaxed(&header->xindex_seq) | 1u);
    begin_crashes(&w, check_rename);
    const pint_status status = world_restart(&w, &err);
    end_crashes();
    EXPECT_OK(status, &err);
    EXPECT_EQ(pinti_load32_relaxed(&header->xindex_seq) % 2, 0u);
    EXPECT_EQ(pinti_load32_relaxed(&rec->xname_seq) % 2, 0u);
    EXPECT_TRUE(check_rename(&w));
    world_close(&w);
}

#else

TEST(CatalogCrash, NeedsSingleStepping)
{
    SKIP("single-stepping of stores is written for x86-64, and not for ThreadSanitizer");
}

#endif
