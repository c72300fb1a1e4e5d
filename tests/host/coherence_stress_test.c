/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sessions on threads that do everything to two chunks and two device copies at once: host leases,
 * kernels, pulls, pushes, readers, and deaths with their sweeps. Every
 * version of a chunk is a number and a pattern made of it: a mixture of two versions, a version
 * older than what was committed before, or one that was never committed is found by whoever reads
 * it. Device memory is plain memory, so that ThreadSanitizer sees two who use it at once; the
 * host's is read by optimistic readers, so it is copied with atomic loads and stores.
 */

#include <pthread.h>

#include "tests/host/coherence_world.h"

#define THREADS 6u
#define ROUNDS  120000u
#define CHUNKS  2u

/* What each thread does in a round. */
#define STRESS_MAP(X)                                                                              \
    X(LEASE)                                                                                       \
    X(LEASE_UNDO)                                                                                  \
    X(LEASE_REWRITE)                                                                               \
    X(LEASE_ABANDON)                                                                               \
    X(HOST_READ)                                                                                   \
    X(OWN_HOST)                                                                                    \
    X(PULL_AND_READ)                                                                               \
    X(KERNEL_CHANGE)                                                                               \
    X(KERNEL_REPLACE)                                                                              \
    X(KERNEL_CANCEL)                                                                               \
    X(COPY_TO_HOST)                                                                                \
    X(READ_ON_DEVICE)                                                                              \
    X(DIE_WRITING)                                                                                 \
    X(DIE_PUSHING)                                                                                 \
    X(DIE_PULLING)

enum stress {
#define STRESS_ENUM(name) STRESS_##name,
    STRESS_MAP(STRESS_ENUM)
#undef STRESS_ENUM
        N_STRESS
};

static const char *const stress_names[] = {
#define STRESS_NAME(name) #name,
    STRESS_MAP(STRESS_NAME)
#undef STRESS_NAME
};

typedef struct storm {
    world w;
    pinti_a64 truth[CHUNKS];                 /* number of the newest committed version */
    uint64_t memory[2][CHUNKS * CHUNK_ROWS]; /* of the devices */
    uint64_t host_writes[CHUNKS];            /* plain: two host writers at once are a data race */
} storm;

typedef struct actor {
    pthread_t thread;
    storm *storm;
    pint_pool *session;
    pint_column x;
    pinti_copy_desc copies[2];
    uint64_t random;
    uint64_t n_done[N_STRESS];
    char wrong[200];
} actor;

static uint64_t pattern(uint64_t version, uint64_t row)
{
    return row == 0 ? version : (version * 0x9e3779b97f4a7c15ull) ^ (row * 0xbf58476d1ce4e5b9ull);
}

static pinti_a64 *host_of(const actor *a, uint64_t chunk)
{
    return (pinti_a64 *)(void *)((int64_t *)a->x.values + chunk * CHUNK_ROWS);
}

static uint64_t *device_of(const actor *a, uint32_t device, uint64_t chunk)
{
    return &a->storm->memory[device][chunk * CHUNK_ROWS];
}

static void complain(actor *a, const char *what, uint64_t chunk, uint64_t is, uint64_t should)
{
    if (a->wrong[0] == '\0') {
        (void)snprintf(a->wrong, sizeof(a->wrong),
                       "%s: chunk %" PRIu64 ": %" PRIu64 ", not %" PRIu64, what, chunk, is, should);
    }
}

/* One version, whole, and not older than least. */
static void check_version(actor *a, const uint64_t *values, const char *what, uint64_t chunk,
                          uint64_t least)
{
    for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
        if (values[row] != pattern(values[0], row)) {
            complain(a, what, chunk, row, values[0]);
            return;
        }
    }
    if (values[0] < least || values[0] > pinti_load64_acquire(&a->storm->truth[chunk])) {
        complain(a, what, chunk, values[0], least);
    }
}

static void store_device(const actor *a, uint32_t device, uint64_t chunk, uint64_t version,
                         uint64_t rows)
{
    uint64_t *to = device_of(a, device, chunk);
    for (uint64_t row = 0; row < rows; row++) {
        to[row] = pattern(version, row);
    }
}

static void store_host(actor *a, uint64_t chunk, uint64_t version, uint64_t rows)
{
    a->storm->host_writes[chunk]++;
    for (uint64_t row = 0; row < rows; row++) {
        pinti_store64_relaxed(&host_of(a, chunk)[row], pattern(version, row));
    }
}

static void copy_to_device(const actor *a, uint32_t device, uint64_t chunk, uint64_t rows)
{
    uint64_t *to = device_of(a, device, chunk);
    for (uint64_t row = 0; row < rows; row++) {
        to[row] = pinti_load64_acquire(&host_of(a, chunk)[row]);
    }
}

static void copy_to_host(actor *a, uint32_t device, uint64_t chunk, uint64_t rows)
{
    const uint64_t *from = device_of(a, device, chunk);
    a->storm->host_writes[chunk]++;
    for (uint64_t row = 0; row < rows; row++) {
        pinti_store64_relaxed(&host_of(a, chunk)[row], from[row]);
    }
}

static uint64_t truth_of(const actor *a, uint64_t chunk)
{
    return pinti_load64_acquire(&a->storm->truth[chunk]);
}

/* The holder's next version; the commit that follows publishes it. */
static uint64_t next_version(actor *a, uint64_t chunk)
{
    return truth_of(a, chunk) + 1;
}

static void set_truth(actor *a, uint64_t chunk, uint64_t version)
{
    pinti_store64_release(&a->storm->truth[chunk], version);
}

/* ---- acts; each true when it came to do anything --------------------------------------------- */

static bool lease(actor *a, uint64_t chunk, uint32_t use, bool is_commit)
{
    pint_lease held;
    pint_error err;
    const pint_status status = pint_lease_claim(&a->x, 1, chunk, use, 0, &held, &err);
    if (status != PINT_OK) {
        if (status != PINT_E_BUSY && status != PINT_E_TORN && status != PINT_E_DEVICE_AHEAD) {
            complain(a, err.message, chunk, (uint64_t)(int64_t)status, 0);
        }
        return false;
    }
    if (use != PINT_OUT) {
        uint64_t values[CHUNK_ROWS];
        for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
            values[row] = pinti_load64_acquire(&host_of(a, chunk)[row]);
        }
        check_version(a, values, "lease", chunk, truth_of(a, chunk));
    }
    const uint64_t version = next_version(a, chunk);
    store_host(a, chunk, version, is_commit ? CHUNK_ROWS : CHUNK_ROWS / 2);
    if (is_commit) {
        set_truth(a, chunk, version);
    }
    if ((is_commit ? pint_lease_commit(&held, &err) : pint_lease_abandon(&held, &err)) != PINT_OK) {
        complain(a, err.message, chunk, 0, 0);
    }
    return true;
}

static bool host_read(actor *a, uint64_t chunk)
{
    uint64_t values[CHUNK_ROWS];
    const uint64_t least = truth_of(a, chunk);
    if (pint_column_read(&a->x, chunk * CHUNK_ROWS, CHUNK_ROWS, values, NULL, NULL) != PINT_OK) {
        return false;
    }
    /* a version is counted a moment before it is committed: the one before is right, too */
    check_version(a, values, "host read", chunk, least == 0 ? 0 : least - 1);
    return true;
}

static bool pull_and_read(actor *a, uint32_t device, uint64_t chunk)
{
    pinti_taken taken;
    pinti_copy_desc *copy = &a->copies[device];
    if (pinti_device_take(copy, chunk, PINTI_TAKE_TO_PULL, &taken) != PINTI_COH_OK) {
        return false;
    }
    copy_to_device(a, device, chunk, CHUNK_ROWS);
    pinti_device_read_join(copy, chunk);
    const uint64_t truth = truth_of(a, chunk);
    check_version(a, device_of(a, device, chunk), "pull", chunk, truth);
    if (pinti_device_pulled(copy, chunk, taken.word) != PINTI_COH_OK) {
        complain(a, "pulled", chunk, 0, 0);
    }
    check_version(a, device_of(a, device, chunk), "after the pull", chunk, truth);
    pinti_device_read_end(copy, chunk);
    return true;
}

static bool kernel(actor *a, uint32_t device, uint64_t chunk, enum pinti_device_use use,
                   bool is_commit)
{
    pinti_taken taken;
    pinti_copy_desc *copy = &a->copies[device];
    if (pinti_device_take(copy, chunk, use, &taken) != PINTI_COH_OK) {
        return false;
    }
    if (use == PINTI_TAKE_TO_CHANGE) {
        if (!taken.had_device) {
            copy_to_device(a, device, chunk, CHUNK_ROWS);
        }
        check_version(a, device_of(a, device, chunk), "kernel", chunk, truth_of(a, chunk));
    }
    const uint64_t version = next_version(a, chunk);
    store_device(a, device, chunk, version, is_commit ? CHUNK_ROWS : CHUNK_ROWS / 2);
    if (is_commit) {
        set_truth(a, chunk, version);
    }
    if ((is_commit ? pinti_device_write_commit(copy, chunk, taken.word)
                   : pinti_device_write_cancel(copy, chunk, taken.word)) != PINTI_COH_OK) {
        complain(a, "end of a write", chunk, 0, 0);
    }
    return true;
}

static bool push(actor *a, uint32_t device, uint64_t chunk)
{
    pinti_taken taken;
    pinti_copy_desc *copy = &a->copies[device];
    if (pinti_device_take(copy, chunk, PINTI_TAKE_TO_PUSH, &taken) != PINTI_COH_OK) {
        return false;
    }
    check_version(a, device_of(a, device, chunk), "push", chunk, truth_of(a, chunk));
    copy_to_host(a, device, chunk, CHUNK_ROWS);
    if (pinti_push_commit(copy, chunk, taken.word) != PINTI_COH_OK) {
        complain(a, "push", chunk, 0, 0);
    }
    return true;
}

static bool read_on_device(actor *a, uint32_t device, uint64_t chunk)
{
    const uint64_t least = truth_of(a, chunk);
    if (pinti_device_read_begin(&a->copies[device], chunk) != PINTI_COH_OK) {
        return false;
    }
    check_version(a, device_of(a, device, chunk), "read", chunk, least == 0 ? 0 : least - 1);
    pinti_device_read_end(&a->copies[device], chunk);
    return true;
}

/* What the session has begun on devices is half done when it dies; its streams have ended. */
static bool die(actor *a, uint32_t device, uint64_t chunk, enum stress how)
{
    pinti_taken taken;
    pinti_copy_desc *copy = &a->copies[device];
    if (how == STRESS_DIE_PULLING) {
        if (pinti_device_take(copy, chunk, PINTI_TAKE_TO_PULL, &taken) != PINTI_COH_OK) {
            return false;
        }
        copy_to_device(a, device, chunk, CHUNK_ROWS / 2);
    } else if (how == STRESS_DIE_PUSHING) {
        if (pinti_device_take(copy, chunk, PINTI_TAKE_TO_PUSH, &taken) != PINTI_COH_OK) {
            return false;
        }
        copy_to_host(a, device, chunk, CHUNK_ROWS / 2);
    } else {
        if (pinti_device_take(copy, chunk, PINTI_TAKE_TO_REPLACE, &taken) != PINTI_COH_OK) {
            return false;
        }
        pinti_device_read_join(copy, chunk); /* a reader bit to be swept, too */
        store_device(a, device, chunk, UINT32_MAX, CHUNK_ROWS / 2);
    }
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t index = a->copies[i].index;
        (void)local_copy_sweep(a->storm->w.local, index, a->session->session_index);
        a->copies[i].slot = PINTI_COPY_READERS;
        if (pinti_copy_slot_take(&a->copies[i], NULL) != PINT_OK) {
            complain(a, "slot", chunk, 0, 0);
        }
    }
    return true;
}

static bool act(actor *a, enum stress what, uint32_t device, uint64_t chunk)
{
    static const uint32_t uses[] = {[STRESS_LEASE] = PINT_UPDATE,
                                    [STRESS_LEASE_UNDO] = PINT_INOUT,
                                    [STRESS_LEASE_REWRITE] = PINT_OUT,
                                    [STRESS_LEASE_ABANDON] = PINT_UPDATE};
    switch (what) {
    case STRESS_LEASE:
    case STRESS_LEASE_UNDO:
    case STRESS_LEASE_REWRITE:
    case STRESS_LEASE_ABANDON:
        return lease(a, chunk, uses[what], what != STRESS_LEASE_ABANDON);
    case STRESS_HOST_READ:
        return host_read(a, chunk);
    case STRESS_OWN_HOST:
        return pinti_own_host(&a->copies[device], chunk) == PINTI_COH_OK;
    case STRESS_PULL_AND_READ:
        return pull_and_read(a, device, chunk);
    case STRESS_KERNEL_CHANGE:
    case STRESS_KERNEL_CANCEL:
        return kernel(a, device, chunk, PINTI_TAKE_TO_CHANGE, what == STRESS_KERNEL_CHANGE);
    case STRESS_KERNEL_REPLACE:
        return kernel(a, device, chunk, PINTI_TAKE_TO_REPLACE, true);
    case STRESS_COPY_TO_HOST:
        return push(a, device, chunk);
    case STRESS_READ_ON_DEVICE:
        return read_on_device(a, device, chunk);
    case STRESS_DIE_WRITING:
    case STRESS_DIE_PUSHING:
    case STRESS_DIE_PULLING:
        return die(a, device, chunk, what);
    case N_STRESS:
    default:
        return false;
    }
}

static void *run(void *argument)
{
    actor *a = argument;
    for (uint32_t round = 0; round < ROUNDS && a->wrong[0] == '\0'; round++) {
        const enum stress what = (enum stress)random_below(&a->random, N_STRESS);
        const bool loses_bytes = what == STRESS_LEASE_ABANDON || what == STRESS_KERNEL_CANCEL ||
                                 what >= STRESS_DIE_WRITING;
        if (loses_bytes && random_below(&a->random, 16) != 0) {
            continue; /* else chunks are torn most of the time */
        }
        a->n_done[what] +=
            act(a, what, (uint32_t)random_below(&a->random, 2), random_below(&a->random, CHUNKS));
    }
    return NULL;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void open_actor(storm *s, actor *a, uint64_t seed)
{
    pint_table *table;
    pint_error err;
    *a = (actor){.storm = s, .session = local_session_new(s->w.local), .random = seed};
    ASSERT_OK(pint_table_open(a->session, "t", PINT_WRITE, &table, &err), &err);
    a->x = column_of(table, "x");
    for (uint32_t i = 0; i < 2; i++) {
        ASSERT_OK(pinti_copy_describe(a->session, i == 0 ? s->w.copy_a : s->w.copy_b,
                                      LOCAL_COPY_GENERATION, &a->x, &a->copies[i], &err),
                  &err);
        ASSERT_OK(pinti_copy_slot_take(&a->copies[i], &err), &err);
    }
}

/* All has come to rest: nobody holds anything, and every place in the mask has the newest bytes. */
static void expect_rest(storm *s, actor *a)
{
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        const uint64_t word = pinti_load64_seq(word_of(&a->x, chunk));
        EXPECT_FALSE(pinti_chunk_is_held(pinti_chunk_state(word)));
        EXPECT_EQ(pinti_chunk_holder(word), 0u);
        for (uint32_t i = 0; i < 2; i++) {
            EXPECT_EQ(pinti_load64_seq(&a->copies[i].chunks[chunk].xcopier), 0ull);
            EXPECT_EQ(pinti_load64_seq(&a->copies[i].chunks[chunk].xreaders), 0ull);
            if ((places_of(word) & (i == 0 ? A : B)) != 0) {
                check_version(a, device_of(a, i, chunk), "at rest", chunk, truth_of(a, chunk));
            }
        }
        if ((places_of(word) & H) != 0) {
            uint64_t values[CHUNK_ROWS];
            for (uint64_t row = 0; row < CHUNK_ROWS; row++) {
                values[row] = pinti_load64_acquire(&host_of(a, chunk)[row]);
            }
            check_version(a, values, "at rest", chunk, truth_of(a, chunk));
        }
        EXPECT_GT(s->host_writes[chunk], 0ull);
    }
    EXPECT_STREQ(a->wrong, "");
}

TEST(CoherenceStress, NobodyEverSeesAnythingButWholeVersionsThatWereCommitted, .timeout_s = 200)
{
    static storm s;
    static actor actors[THREADS];
    uint64_t random = random_seed();
    ASSERT_NO_FATAL(set_up(&s.w));
    for (uint32_t i = 0; i < THREADS; i++) {
        ASSERT_NO_FATAL(open_actor(&s, &actors[i], random_next(&random)));
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        store_host(&actors[0], chunk, 0, CHUNK_ROWS);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        ASSERT_EQ(pthread_create(&actors[i].thread, NULL, run, &actors[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        (void)pthread_join(actors[i].thread, NULL);
        EXPECT_STREQ(actors[i].wrong, "");
    }
    for (uint32_t what = 0; what < N_STRESS; what++) {
        uint64_t n = 0;
        for (uint32_t i = 0; i < THREADS; i++) {
            n += actors[i].n_done[what];
        }
        (void)printf("%s %" PRIu64 "\n", stress_names[what], n);
        EXPECT_GT(n, 0ull);
    }
    expect_rest(&s, &actors[0]);
    tear_down(&s.w);
}

/* ---- duels ----------------------------------------------------------------------------------- */

/*
 * Readers against one who changes the device, on one chunk, as fast as they can and with little to
 * do in between: what one does first and looks at after is what the other looks at after and does
 * first, and they meet between the two.
 */

#define DUEL_CHANGES 20000u /* at least, and reads */
#define DUEL_READS   20000u
#define DUEL_ROWS    16u
#define DUELLISTS    4u

typedef struct duel {
    bool is_pull; /* else a kernel writes */
    pinti_a32 stop;
    pinti_a64 n_changes;
    pinti_a64 n_reads;
} duel;

static duel the_duel;

/* Something was wrong: all stop. */
static void stop_at(actor *a, const char *what, uint64_t row, uint64_t is, uint64_t should)
{
    complain(a, what, row, is, should);
    pinti_store32_release(&the_duel.stop, 1);
}

static void *read_in_duel(void *argument)
{
    actor *a = argument;
    while (pinti_load32_acquire(&the_duel.stop) == 0) {
        if (pinti_device_read_begin(&a->copies[0], 0) == PINTI_COH_OK) {
            const uint64_t *values = device_of(a, 0, 0);
            for (uint64_t row = 0; row < DUEL_ROWS; row++) {
                if (values[row] != values[0]) {
                    stop_at(a, "read in a duel", row, values[row], values[0]);
                }
            }
            pinti_device_read_end(&a->copies[0], 0);
            (void)pinti_add64_relaxed(&the_duel.n_reads, 1); /* relaxed: a count */
        }
    }
    return NULL;
}

/* Changes what the readers read. version: no other change has it. */
static void change_in_duel(actor *a, uint64_t version)
{
    pinti_copy_desc *copy = &a->copies[0];
    pinti_taken taken;
    if (the_duel.is_pull) { /* the host moves on, then the device follows */
        (void)pinti_own_host(copy, 0);
    }
    if (pinti_device_take(copy, 0, the_duel.is_pull ? PINTI_TAKE_TO_PULL : PINTI_TAKE_TO_CHANGE,
                          &taken) != PINTI_COH_OK) {
        return;
    }
    uint64_t *values = device_of(a, 0, 0);
    for (uint64_t row = 0; row < DUEL_ROWS; row++) {
        values[row] = version;
    }
    const enum pinti_coherence end = the_duel.is_pull
                                         ? pinti_device_pulled(copy, 0, taken.word)
                                         : pinti_device_write_commit(copy, 0, taken.word);
    if (end != PINTI_COH_OK) {
        stop_at(a, "end in a duel", 0, (uint64_t)end, 0);
    }
    (void)pinti_add64_relaxed(&the_duel.n_changes, 1); /* relaxed: a count */
}

/* Two of them: between one's looks the other may have pulled, a reader come, and the host moved on.
 */
static void *change_until_enough(void *argument)
{
    actor *a = argument;
    uint64_t version = a->random; /* apart from the other's by more than there are tries */
    while (pinti_load32_acquire(&the_duel.stop) == 0) {
        change_in_duel(a, ++version);
        if (pinti_load64_relaxed(&the_duel.n_changes) >= DUEL_CHANGES &&
            pinti_load64_relaxed(&the_duel.n_reads) >= DUEL_READS) {
            pinti_store32_release(&the_duel.stop, 1);
        }
    }
    return NULL;
}

static void fight(bool is_pull)
{
    static storm s;
    static actor actors[DUELLISTS];
    memset(&s, 0, sizeof(s));
    ASSERT_NO_FATAL(set_up(&s.w));
    for (uint32_t i = 0; i < DUELLISTS; i++) {
        ASSERT_NO_FATAL(open_actor(&s, &actors[i], (uint64_t)i << 48));
    }
    the_duel.is_pull = is_pull;
    pinti_store32_release(&the_duel.stop, 0);
    pinti_store64_relaxed(&the_duel.n_reads, 0);
    pinti_store64_relaxed(&the_duel.n_changes, 0);
    pinti_store64_seq(word_of(&actors[0].x, 0), make_word(1, PINTI_CHUNK_CLEAN, 0, H | A));
    for (uint32_t i = 0; i < DUELLISTS; i++) {
        ASSERT_EQ(pthread_create(&actors[i].thread, NULL,
                                 i < 2 ? change_until_enough : read_in_duel, &actors[i]),
                  0);
    }
    for (uint32_t i = 0; i < DUELLISTS; i++) {
        (void)pthread_join(actors[i].thread, NULL);
        EXPECT_STREQ(actors[i].wrong, "");
    }
    tear_down(&s.w);
}

TEST(CoherenceStress, AKernelThatWritesAndReadersNeverMeet, .timeout_s = 200)
{
    fight(false);
}

TEST(CoherenceStress, APullAndReadersNeverMeet, .timeout_s = 200)
{
    fight(true);
}
