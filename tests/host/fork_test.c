/* SPDX-License-Identifier: Apache-2.0 */

/* What a forked child finds: another fork word, a copy of the references, void leases, and one
 * rejoin however many threads come first. Children report by exit status. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/fork.h"
#include "host/job.h"
#include "host/writable_view.h"
#include "tests/host/fixture.h"

#define CHUNK_ROWS    512u
#define CHILD_SECONDS 30

typedef struct setting {
    local_pool *local;
    pint_pool *session;
    pint_table *table;
    pint_column x, y;
} setting;

/* The stub's record; a child has its own copy. */
static pinti_a32 n_rejoins;
static pint_status rejoin_status;
static pinti_pool_ops stub_ops;

static pint_status stub_rejoin(pint_pool *pool, pint_error *err)
{
    (void)pool;
    (void)err;
    (void)pinti_add32_relaxed(&n_rejoins, 1);
    return rejoin_status;
}

static void set_up(setting *s)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, 0), field_of("y", PINT_INT8, 0)};
    const pint_schema schema = schema_of(fields, 2, CHUNK_ROWS);
    s->local = local_pool_new();
    s->session = local_session_new(s->local);
    stub_ops = *s->session->ops;
    stub_ops.rejoin = stub_rejoin;
    s->session->ops = &stub_ops;
    rejoin_status = PINT_OK;
    pinti_store32_relaxed(&n_rejoins, 0);
    s->table = local_table_new(s->session, "t", &schema, 4 * CHUNK_ROWS);
    s->x = column_of(s->table, "x");
    s->y = column_of(s->table, "y");
}

static void tear_down(setting *s)
{
    pint_table_close(s->table);
    local_pool_free(s->local);
}

static int end_of(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Run body in a forked child: 0, or the line at which it failed (modulo 251). */
static int in_child(int (*body)(setting *s), setting *s)
{
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        _exit(body(s));
    }
    return end_of(pid);
}

/* The same without the C library noticing: no handlers run. */
static int in_raw_child(int (*body)(setting *s), setting *s)
{
    const pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        _exit(body(s));
    }
    return end_of(pid);
}

#define CHECK(condition_)                                                                          \
    do {                                                                                           \
        if (!(condition_)) {                                                                       \
            return 1 + __LINE__ % 120;                                                             \
        }                                                                                          \
    } while (0)

static uint64_t word_now(void)
{
    return pinti_load64_relaxed(pinti_fork_word);
}

/* ---- the word -------------------------------------------------------------------------------- */

static uint64_t parents_word;

static int body_word_of_grandchild(setting *s)
{
    CHECK(word_now() != 0 && word_now() != parents_word && word_now() != s->session->fork_word);
    return 0;
}

static int body_word_of_child(setting *s)
{
    CHECK(word_now() != 0 && word_now() != parents_word);
    const uint64_t mine = word_now();
    parents_word = mine;
    CHECK(in_child(body_word_of_grandchild, s) == 0);
    CHECK(word_now() == mine);
    return 0;
}

TEST(ForkWord, DiffersInAChildAndInAGrandchildAndStaysInTheParent)
{
    setting s;
    set_up(&s);
    parents_word = word_now();
    EXPECT_EQ(parents_word, s.session->fork_word);
    EXPECT_NE(parents_word, 0ull);
    EXPECT_EQ(in_child(body_word_of_child, &s), 0);
    EXPECT_EQ(word_now(), s.session->fork_word);
    tear_down(&s);
}

static int body_word_of_raw_child(setting *s)
{
    CHECK(word_now() != s->session->fork_word);
    pinti_fork_settle();
    const uint64_t mine = word_now();
    CHECK(mine != 0 && mine != s->session->fork_word);
    pinti_fork_settle();
    CHECK(word_now() == mine);
    return 0;
}

TEST(ForkWord, DiffersInAChildMadeBehindTheLibrarysBack)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_raw_child(body_word_of_raw_child, &s), 0);
    EXPECT_EQ(word_now(), s.session->fork_word);
    tear_down(&s);
}

/* ---- entering -------------------------------------------------------------------------------- */

TEST(ForkEnter, NeverRejoinsInTheProcessThatJoined)
{
    setting s;
    pint_error err;
    set_up(&s);
    for (int i = 0; i < 100; i++) {
        EXPECT_OK(pinti_pool_enter(s.session, &err), &err);
    }
    EXPECT_EQ(pinti_load32_relaxed(&n_rejoins), 0u);
    tear_down(&s);
}

static pthread_barrier_t gate;

static void *enter_at_the_gate(void *argument)
{
    (void)pthread_barrier_wait(&gate);
    return pinti_pool_enter(argument, NULL) == PINT_OK ? argument : NULL;
}

static int body_enter_threads(setting *s)
{
    enum { N = 8 };
    pthread_t threads[N];
    CHECK(pthread_barrier_init(&gate, NULL, N) == 0);
    for (int i = 0; i < N; i++) {
        CHECK(pthread_create(&threads[i], NULL, enter_at_the_gate, s->session) == 0);
    }
    for (int i = 0; i < N; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result != NULL);
    }
    CHECK(pinti_load32_relaxed(&n_rejoins) == 1);
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    CHECK(pinti_load32_relaxed(&n_rejoins) == 1);
    return 0;
}

TEST(ForkEnter, RejoinsExactlyOnceWithSeveralThreads)
{
    setting s;
    set_up(&s);
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(in_child(body_enter_threads, &s), 0);
    }
    tear_down(&s);
}

static int body_enter_fails_first(setting *s)
{
    pint_table *table;
    rejoin_status = PINT_E_GONE;
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_E_GONE);
    CHECK(pint_table_open(s->session, "t", PINT_READ, &table, NULL) == PINT_E_GONE);
    CHECK(pint_pool_session(s->session) == 0);
    rejoin_status = PINT_OK;
    CHECK(pint_table_open(s->session, "t", PINT_READ, &table, NULL) == PINT_OK);
    CHECK(pinti_load32_relaxed(&n_rejoins) == 4);
    return 0;
}

TEST(ForkEnter, IsTriedAgainAfterItFailed)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_child(body_enter_fails_first, &s), 0);
    tear_down(&s);
}

static int body_rejoins_again(setting *s)
{
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    CHECK(pinti_load32_relaxed(&n_rejoins) == 2);
    return 0;
}

static int body_rejoin_then_fork(setting *s)
{
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    CHECK(pinti_load32_relaxed(&n_rejoins) == 1);
    return in_child(body_rejoins_again, s);
}

TEST(ForkEnter, RejoinsOnceMoreInAGrandchild)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_child(body_rejoin_then_fork, &s), 0);
    tear_down(&s);
}

static int body_raw_enter(setting *s)
{
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    CHECK(pinti_load32_relaxed(&n_rejoins) == 1);
    return 0;
}

TEST(ForkEnter, RejoinsInAChildMadeBehindTheLibrarysBack)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_raw_child(body_raw_enter, &s), 0);
    tear_down(&s);
}

static int body_close_only(setting *s)
{
    rejoin_status = PINT_E_GONE;
    pint_table_close(s->table); /* nothing to give back without a session */
    const uint32_t index = pinti_table_index(s->table);
    CHECK(pinti_ref_count(pinti_load64_seq(&pinti_slot_tables(s->session->slot)[index])) == 1);
    return 0;
}

TEST(ForkEnter, CloseInAChildWithoutASessionLeavesTheParentsReference)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_child(body_close_only, &s), 0);
    tear_down(&s);
}

/* ---- references ------------------------------------------------------------------------------ */

static int body_snapshot(setting *s)
{
    const pint_pool *pool = s->session;
    const uint32_t index = pinti_table_index(s->table);
    CHECK(pool->fork_table_refs != NULL && index < pool->n_fork_tables);
    CHECK(pool->fork_table_refs[index] == ((uint64_t)pinti_table_generation(s->table) << 32 | 2));
    CHECK(pool->fork_job_refs != NULL && pool->n_fork_jobs == 1);
    CHECK(pinti_ref_count(pool->fork_job_refs[0]) == 1);
    return 0;
}

static int body_snapshot_of_grandchild(setting *s)
{
    /* the child has not rejoined: its child gets the same copy */
    CHECK(body_snapshot(s) == 0);
    return in_child(body_snapshot, s);
}

TEST(ForkReferences, AreCopiedForChildrenAndTheirChildrenAndNotKeptByTheParent)
{
    static const pint_use uses[] = {{"x", PINT_OUT, 0}};
    setting s;
    pint_error err;
    pint_job *job;
    set_up(&s);
    ASSERT_OK(pint_job_create(s.table, "j", uses, 1, &job, &err), &err);
    EXPECT_EQ(in_child(body_snapshot, &s), 0);
    EXPECT_EQ(in_child(body_snapshot_of_grandchild, &s), 0);
    EXPECT_TRUE(s.session->fork_table_refs == NULL);
    EXPECT_TRUE(s.session->fork_job_refs == NULL);
    pint_job_close(job);
    tear_down(&s);
}

static int sealed_file(uint64_t bytes)
{
    const int fd = memfd_create("fork_test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        _exit(99);
    }
    return fd;
}

/* Becomes session 77 as the service would make it. */
static pint_status rejoin_with_new_slot(pint_pool *pool, pint_error *err)
{
    const int slot = sealed_file(PINTI_SLOT_BYTES);
    const int tether = sealed_file(PINTI_TETHER_BYTES);
    const pinti_slot_header header = {
        .magic = PINTI_SLOT_MAGIC, .session_id = 77, .session_index = 7};
    if (pwrite(slot, &header, sizeof(header), 0) != (ssize_t)sizeof(header)) {
        _exit(98);
    }
    const pint_status status = pinti_pool_remap_session(pool, slot, tether, 77, 7, err);
    (void)close(slot);
    (void)close(tether);
    (void)pinti_add32_relaxed(&n_rejoins, 1);
    return status;
}

static int body_new_slot(setting *s)
{
    pint_pool *pool = s->session;
    const char *old_slot = pool->slot;
    const uint32_t index = pinti_table_index(s->table);
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pinti_pool_enter(pool, NULL) == PINT_OK);
    CHECK(pool->session_id == 77 && pool->session_index == 7 && pool->slot != old_slot);
    CHECK(pinti_load64_seq(&pinti_slot_tables(pool->slot)[index]) ==
          ((uint64_t)pinti_table_generation(s->table) << 32 | 1));
    CHECK(pool->fork_table_refs == NULL);
    pint_lease lease;
    pint_lease undone;
    CHECK(pint_lease_claim(&s->x, 1, 0, PINT_UPDATE, 0, &lease, NULL) == PINT_OK);
    CHECK(pinti_chunk_holder(pinti_load64_seq(word_of(&s->x, 0))) == 7);
    CHECK(pint_lease_claim(&s->x, 1, 1, PINT_INOUT, 0, &undone, NULL) == PINT_OK);
    CHECK(pint_lease_commit(&undone, NULL) == PINT_OK);
    CHECK(pint_lease_commit(&lease, NULL) == PINT_OK);
    pint_table_close(s->table);
    CHECK(pinti_ref_count(pinti_load64_seq(&pinti_slot_tables(pool->slot)[index])) == 0);
    CHECK(pinti_ref_count(
              pinti_load64_seq(&pinti_slot_tables((void *)(uintptr_t)old_slot)[index])) == 1);
    return 0;
}

TEST(ForkReferences, OfAChildsNewSlotAreThoseOfTheParent)
{
    setting s;
    set_up(&s);
    pint_error err;
    pint_lease lease; /* makes the lease set, whose job the child takes over */
    ASSERT_OK(pint_lease_claim(&s.x, 1, 2, PINT_INOUT, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(in_child(body_new_slot, &s), 0);
    tear_down(&s);
}

static uint32_t registered(const pint_column *column)
{
    return PINTI_VIEWS_COUNT(pinti_load64_seq(&pinti_column_desc_of(column)->state->xviews));
}

static pint_view *inherited_view;

static int body_views(setting *s)
{
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(registered(&s->x) == 1);
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    CHECK(registered(&s->x) == 2 && registered(&s->y) == 0);
    CHECK(pinti_view_phase(pinti_load64_seq(&pinti_slot_views(s->session->slot)[0])) ==
          PINTI_VIEW_REGISTERED);
    pint_view *more;
    CHECK(pint_column_view_begin(&s->x, &more, NULL) == PINT_OK);
    CHECK(registered(&s->x) == 2);
    pint_column_view_end(more);
    CHECK(registered(&s->x) == 2);
    pint_column_view_end(inherited_view);
    CHECK(registered(&s->x) == 1);
    CHECK(pinti_load64_seq(&pinti_slot_views(s->session->slot)[0]) == 0);
    return 0;
}

/* Registered by the child's own session before it lets go of the parent's pages. */
TEST(ForkViews, AreTheChildsOwnAfterItsRejoin)
{
    setting s;
    set_up(&s);
    pint_error err;
    pint_view *gone;
    ASSERT_OK(pint_column_view_begin(&s.x, &inherited_view, &err), &err);
    ASSERT_OK(pint_column_view_begin(&s.y, &gone, &err), &err);
    pint_column_view_end(gone);
    EXPECT_EQ(in_child(body_views, &s), 0);
    EXPECT_EQ(registered(&s.x), 1u);
    pint_column_view_end(inherited_view);
    tear_down(&s);
}

static int body_new_slot_raw(setting *s)
{
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    const uint32_t index = pinti_table_index(s->table);
    CHECK(pinti_ref_count(pinti_load64_seq(&pinti_slot_tables(s->session->slot)[index])) == 0);
    return 0;
}

/* Without the handlers there is no copy; an earlier fork's must not be mistaken for one. */
TEST(ForkReferences, OfAChildMadeBehindTheLibrarysBackAreNone)
{
    setting s;
    set_up(&s);
    EXPECT_EQ(in_child(body_snapshot_of_grandchild, &s) == 0, false); /* no job here: only forks */
    EXPECT_EQ(in_raw_child(body_new_slot_raw, &s), 0);
    tear_down(&s);
}

/* ---- leases ---------------------------------------------------------------------------------- */

static pint_lease inherited[3];

static int body_inherited_leases(setting *s)
{
    for (uint64_t i = 0; i < COUNT_OF(inherited); i++) {
        const uint64_t word = pinti_load64_seq(word_of(&s->x, i));
        CHECK((i % 2 == 0 ? pint_lease_commit(&inherited[i], NULL)
                          : pint_lease_abandon(&inherited[i], NULL)) == PINT_E_LEASE_LOST);
        CHECK(pint_lease_commit(&inherited[i], NULL) == PINT_E_INVALID);
        CHECK(pinti_load64_seq(word_of(&s->x, i)) == word);
    }
    return 0;
}

static uint64_t n_intents(const pint_pool *session)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < PINTI_INTENTS; i++) {
        n += pinti_load64_seq(&pinti_slot_intents(session->slot)[i]) != 0;
    }
    return n;
}

/* What the lease noted in the parent's slot must not be cleared in the child's, where its own
 * leases are noted at the same places. */
static int body_inherited_leases_after_rejoin(setting *s)
{
    pint_lease mine[2];
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pinti_pool_enter(s->session, NULL) == PINT_OK);
    s->session->intent_hint = 0;
    for (uint64_t i = 0; i < COUNT_OF(mine); i++) {
        CHECK(pint_lease_claim(&s->y, 1, i, PINT_UPDATE, 0, &mine[i], NULL) == PINT_OK);
    }
    CHECK(n_intents(s->session) == COUNT_OF(mine));
    CHECK(body_inherited_leases(s) == 0);
    CHECK(n_intents(s->session) == COUNT_OF(mine));
    for (uint64_t i = 0; i < COUNT_OF(mine); i++) {
        CHECK(pint_lease_commit(&mine[i], NULL) == PINT_OK);
    }
    CHECK(n_intents(s->session) == 0);
    return 0;
}

TEST(ForkLease, IsVoidInTheChildAndStaysTheParents)
{
    static const uint32_t uses[] = {PINT_OUT, PINT_INOUT, PINT_UPDATE};
    setting s;
    pint_error err;
    set_up(&s);
    for (uint64_t i = 0; i < COUNT_OF(inherited); i++) {
        ASSERT_OK(pint_lease_claim(&s.x, 1, i, uses[i], 0, &inherited[i], &err), &err);
    }
    EXPECT_EQ(in_child(body_inherited_leases, &s), 0);
    EXPECT_EQ(in_child(body_inherited_leases_after_rejoin, &s), 0);
    for (uint64_t i = 0; i < COUNT_OF(inherited); i++) {
        EXPECT_OK(pint_lease_commit(&inherited[i], &err), &err);
    }
    tear_down(&s);
}

/* The first call of a child may be a claim: the place that the thread had for its intents is the
 * parent's, and so is the holder it would have claimed for. */
static int body_claim_first(setting *s)
{
    pint_lease lease;
    const uint32_t parent = s->session->session_index;
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pint_lease_claim(&s->x, 1, 2, PINT_UPDATE, 0, &lease, NULL) == PINT_OK);
    CHECK(s->session->session_index != parent);
    CHECK(pinti_chunk_holder(pinti_load64_seq(word_of(&s->x, 2))) == s->session->session_index);
    CHECK(n_intents(s->session) == 1);
    CHECK(pint_lease_commit(&lease, NULL) == PINT_OK);
    CHECK(n_intents(s->session) == 0);
    return 0;
}

TEST(ForkLease, AClaimOfAChildIsItsOwnThoughItsThreadClaimedBefore)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    ASSERT_OK(pint_lease_claim(&s.x, 1, 2, PINT_UPDATE, 0, &lease, &err), &err);
    ASSERT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(in_child(body_claim_first, &s), 0);
    EXPECT_EQ(in_raw_child(body_claim_first, &s), 0);
    tear_down(&s);
}

/* A chunk whose lease the parent held at the fork can be claimed by the child later. */
static int body_claim_after_parent(setting *s)
{
    pint_lease lease;
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pint_lease_claim(&s->x, 1, 1, PINT_INOUT, 0, &lease, NULL) == PINT_E_BUSY);
    CHECK(pint_lease_claim(&s->x, 1, 1, PINT_INOUT, 20000, &lease, NULL) == PINT_OK);
    CHECK(pint_lease_commit(&lease, NULL) == PINT_OK);
    return 0;
}

TEST(ForkLease, AChunkThatWasHeldAtTheForkIsFreeForTheChildLater)
{
    setting s;
    pint_error err;
    pint_lease lease;
    set_up(&s);
    ASSERT_OK(pint_lease_claim(&s.x, 1, 1, PINT_INOUT, 0, &lease, &err), &err);
    const pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(CHILD_SECONDS);
        _exit(body_claim_after_parent(&s));
    }
    EXPECT_TRUE(ct_eventually(is_anybody_asleep(s.table), 20000));
    EXPECT_OK(pint_lease_commit(&lease, &err), &err);
    EXPECT_EQ(end_of(pid), 0);
    tear_down(&s);
}

/* ---- forks of a busy process ----------------------------------------------------------------- */

typedef struct worker {
    pthread_t thread;
    setting *s;
    uint64_t chunk;
    pinti_a32 *stop;
    pint_status status;
} worker;

static void *open_and_lease(void *argument)
{
    worker *w = argument;
    while (w->status == PINT_OK && pinti_load32_acquire(w->stop) == 0) {
        pint_table *table;
        pint_lease lease;
        w->status = pint_table_open(w->s->session, "t", PINT_WRITE, &table, NULL);
        if (w->status != PINT_OK) {
            break;
        }
        const pint_column x = column_of(table, "x");
        w->status = pint_lease_claim(&x, 1, w->chunk, PINT_INOUT, 20000, &lease, NULL);
        if (w->status == PINT_OK) {
            w->status = pint_lease_commit(&lease, NULL);
        }
        pint_table_close(table);
    }
    return NULL;
}

static int body_use_after_busy_fork(setting *s)
{
    pint_table *table;
    pint_lease lease;
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pint_table_open(s->session, "t", PINT_WRITE, &table, NULL) == PINT_OK);
    const pint_column x = column_of(table, "x");
    CHECK(pint_lease_claim(&x, 1, 3, PINT_UPDATE, 0, &lease, NULL) == PINT_OK);
    CHECK(pint_lease_commit(&lease, NULL) == PINT_OK);
    pint_table_close(table);
    return 0;
}

TEST(ForkBusy, AChildOfAProcessWithRunningThreadsWorks, .timeout_s = 100)
{
    setting s;
    worker workers[3];
    pinti_a32 stop = 0;
    set_up(&s);
    for (uint64_t i = 0; i < COUNT_OF(workers); i++) {
        workers[i] = (worker){.s = &s, .chunk = i, .stop = &stop};
        ASSERT_EQ(pthread_create(&workers[i].thread, NULL, open_and_lease, &workers[i]), 0);
    }
    for (int i = 0; i < 40; i++) {
        EXPECT_EQ(in_child(body_use_after_busy_fork, &s), 0);
    }
    pinti_store32_release(&stop, 1);
    for (uint64_t i = 0; i < COUNT_OF(workers); i++) {
        (void)pthread_join(workers[i].thread, NULL);
        EXPECT_STATUS(PINT_OK, workers[i].status, NULL);
    }
    tear_down(&s);
}

/* The index of categories has a lock of its own (host/dict.c): no child may find it taken. */

static void *add_categories(void *argument)
{
    worker *w = argument;
    pint_table *table;
    w->status = pint_table_open(w->s->session, "d", PINT_WRITE, &table, NULL);
    if (w->status != PINT_OK) {
        return NULL;
    }
    const pint_column kind = column_of(table, "kind");
    for (uint32_t n = 0; w->status == PINT_OK && pinti_load32_acquire(w->stop) == 0; n++) {
        char text[16];
        int32_t code;
        (void)snprintf(text, sizeof(text), "kind %u", n % 1000);
        w->status = pint_column_add_category(&kind, text, strlen(text), &code, NULL);
    }
    pint_table_close(table);
    return NULL;
}

static int body_add_categories(setting *s)
{
    pint_table *table;
    int32_t codes[2];
    stub_ops.rejoin = rejoin_with_new_slot;
    CHECK(pint_table_open(s->session, "d", PINT_WRITE, &table, NULL) == PINT_OK);
    const pint_column kind = column_of(table, "kind");
    CHECK(pint_column_add_category(&kind, "kind 0", 6, &codes[0], NULL) == PINT_OK);
    CHECK(codes[0] == 0); /* the index it inherited, or one of its own */
    CHECK(pint_column_add_category(&kind, "child", 5, &codes[0], NULL) == PINT_OK);
    CHECK(pint_column_add_category(&kind, "child", 5, &codes[1], NULL) == PINT_OK);
    CHECK(codes[0] == codes[1]);
    pint_table_close(table);
    return 0;
}

TEST(ForkBusy, AChildOfAProcessThatAddsCategoriesAddsItsOwn, .timeout_s = 100)
{
    setting s;
    pinti_a32 stop = 0;
    int32_t code;
    set_up(&s);
    pint_field field = field_of("kind", PINT_DICT_TEXT, 0);
    field.item_type = PINT_INT16;
    field.n_categories = 2000;
    field.data_bytes = 20000;
    const pint_schema schema = schema_of(&field, 1, CHUNK_ROWS);
    pint_table *table = local_table_new(s.session, "d", &schema, 10);
    const pint_column kind = column_of(table, "kind");
    ASSERT_OK(pint_column_add_category(&kind, "kind 0", 6, &code, NULL), NULL);
    worker w = {.s = &s, .stop = &stop};
    ASSERT_EQ(pthread_create(&w.thread, NULL, add_categories, &w), 0);
    for (int i = 0; i < 40; i++) {
        EXPECT_EQ(in_child(body_add_categories, &s), 0);
    }
    pinti_store32_release(&stop, 1);
    (void)pthread_join(w.thread, NULL);
    EXPECT_STATUS(PINT_OK, w.status, NULL);
    pint_table_close(table);
    tear_down(&s);
}
