/* SPDX-License-Identifier: Apache-2.0 */

/* Optimistic reads against writers that run: every read that says OK is the whole of one commit.
 * Not for ThreadSanitizer: the reader copies while the writer stores, by design, and throws such a
 * copy away (host/read.c). */

#include <pthread.h>
#include <string.h>

#include "tests/host/fixture.h"

#define ROWS       1536u
#define CHUNK_ROWS 512u
#define WRITES     20000u
#define READERS    2u

typedef struct race {
    local_pool *local;
    pint_table *table;
    pinti_a32 stop;
} race;

typedef struct actor {
    pthread_t thread;
    race *race;
    pint_pool *session;
    uint64_t random;
    pinti_a64 n_whole;
    pinti_a64 n_in_place; /* the same, read in place */
    char wrong[160];
} actor;

static void set_up(race *r)
{
    const pint_field fields[] = {field_of("x", PINT_INT64, PINT_NULLABLE),
                                 field_of("bit", PINT_BOOL, 0)};
    const pint_schema schema = schema_of(fields, 2, CHUNK_ROWS);
    r->local = local_pool_new();
    r->table = local_table_new(local_session_new(r->local), "t", &schema, ROWS);
}

/* Write number n: every value of the chunk is n, every null and bit is n's lowest bit. */
static void write_pattern(const pint_column *x, const pint_column *bit, const pint_lease *lease,
                          uint64_t n)
{
    const uint8_t bits = (n & 1) != 0 ? 0xff : 0;
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows; row++) {
        ((int64_t *)x->values)[row] = (int64_t)n;
    }
    memset(x->validity + lease->first / 8, bits, lease->n_rows / 8);
    memset((uint8_t *)bit->values + lease->first / 8, bits, lease->n_rows / 8);
}

static void *write_often(void *argument)
{
    actor *a = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(a->session, "t", PINT_WRITE, &table, &err) != PINT_OK) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "%.100s", err.message);
        return NULL;
    }
    const pint_column both[] = {column_of(table, "x"), column_of(table, "bit")};
    for (uint64_t n = 1; n <= WRITES && a->wrong[0] == '\0'; n++) {
        const uint64_t chunk = random_below(&a->random, ROWS / CHUNK_ROWS);
        const uint32_t use = n % 8 == 0 ? PINT_INOUT : n % 2 == 0 ? PINT_OUT : PINT_UPDATE;
        pint_lease lease;
        pint_status status = pint_lease_claim(both, 2, chunk, use, 60000, &lease, &err);
        if (status == PINT_OK) {
            write_pattern(&both[0], &both[1], &lease, n);
            /* an abandoned write is undone: its pattern must never be read as whole with n */
            status = use == PINT_INOUT && n % 16 == 0 ? pint_lease_abandon(&lease, &err)
                                                      : pint_lease_commit(&lease, &err);
        }
        if (status != PINT_OK) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "write: %.100s", err.message);
        }
        if (n % 64 == 0) {
            ct_nap(); /* let readers get a whole one */
        }
    }
    pint_table_close(table);
    return NULL;
}

/* Is a copy of n rows of one chunk one commit's? */
static void check_copy(actor *a, const int64_t *values, const uint8_t *validity, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const bool valid = (validity[i / 8] >> (i % 8) & 1) != 0;
        if (values[i] != values[0] || valid != ((values[0] & 1) != 0)) {
            (void)snprintf(a->wrong, sizeof(a->wrong),
                           "row %" PRIu64 " is %" PRId64 " valid %d, the first %" PRId64, i,
                           values[i], valid, values[0]);
        }
    }
    if (values[0] != 0 && values[0] % 16 == 0) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "an abandoned write %" PRId64, values[0]);
    }
}

/* The same without a copy: a sum of what was read, judged only when it is known to be whole. */
static void read_in_place(actor *a, const pint_column *x, uint64_t chunk)
{
    pint_error err;
    uint64_t stamp;
    const int64_t *values = (const int64_t *)x->values + chunk * CHUNK_ROWS;
    const uint8_t *validity = x->validity + chunk * CHUNK_ROWS / 8;
    pint_status status = pint_column_read_begin(x, chunk, &stamp, &err);
    if (status == PINT_OK) {
        int64_t sum = 0;
        uint64_t n_valid = 0;
        for (uint64_t i = 0; i < CHUNK_ROWS; i++) {
            sum += values[i];
            n_valid += validity[i / 8] >> (i % 8) & 1;
        }
        const int64_t first = values[0];
        status = pint_column_read_end(x, chunk, stamp, &err);
        if (status == PINT_OK) {
            (void)pinti_add64_relaxed(&a->n_in_place, 1);
            if (sum != first * (int64_t)CHUNK_ROWS ||
                n_valid != ((first & 1) != 0 ? CHUNK_ROWS : 0) || (first != 0 && first % 16 == 0)) {
                (void)snprintf(a->wrong, sizeof(a->wrong),
                               "in place: sum %" PRId64 ", valid %" PRIu64 ", the first %" PRId64,
                               sum, n_valid, first);
            }
        }
    }
    if (status != PINT_OK && status != PINT_E_BUSY && status != PINT_E_CHANGED) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "in place: %.100s", err.message);
    }
}

static void *read_often(void *argument)
{
    actor *a = argument;
    pint_table *table;
    pint_error err;
    if (pint_table_open(a->session, "t", PINT_READ, &table, &err) != PINT_OK) {
        (void)snprintf(a->wrong, sizeof(a->wrong), "%.100s", err.message);
        return NULL;
    }
    const pint_column x = column_of(table, "x");
    const pint_column bit = column_of(table, "bit");
    while (pinti_load32_acquire(&a->race->stop) == 0 && a->wrong[0] == '\0') {
        int64_t values[CHUNK_ROWS];
        uint8_t validity[CHUNK_ROWS / 8];
        uint8_t bits[CHUNK_ROWS / 8];
        const uint64_t chunk = random_below(&a->random, ROWS / CHUNK_ROWS);
        const uint64_t skip = random_below(&a->random, CHUNK_ROWS);
        const uint64_t first = chunk * CHUNK_ROWS + skip;
        const uint64_t n = CHUNK_ROWS - skip;
        pint_status status = pint_column_read(&x, first, n, values, validity, &err);
        if (status == PINT_OK) {
            (void)pinti_add64_relaxed(&a->n_whole, 1);
            check_copy(a, values, validity, n);
        } else if (status != PINT_E_BUSY && status != PINT_E_CHANGED) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "read: %.100s", err.message);
        }
        read_in_place(a, &x, chunk);
        status = pint_column_read(&bit, chunk * CHUNK_ROWS, CHUNK_ROWS, bits, NULL, &err);
        for (size_t i = 0; status == PINT_OK && i < sizeof(bits); i++) {
            if (bits[i] != bits[0] || (bits[0] != 0 && bits[0] != 0xff)) {
                (void)snprintf(a->wrong, sizeof(a->wrong), "bits %02x and %02x", bits[0], bits[i]);
            }
        }
    }
    pint_table_close(table);
    return NULL;
}

TEST(ReadRace, EveryReadThatIsOkIsTheWholeOfOneCommit, .timeout_s = 200)
{
    race r = {.stop = 0};
    actor writers[2];
    actor readers[READERS] = {0};
    uint64_t random = random_seed();
    set_up(&r);
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i].race = &r;
        readers[i].session = local_session_new(r.local);
        readers[i].random = random_next(&random);
        /* one that may swap the word, and one that may only look at it */
        readers[i].session->writable = i != 0;
        ASSERT_EQ(pthread_create(&readers[i].thread, NULL, read_often, &readers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(writers); i++) {
        writers[i] = (actor){
            .race = &r, .session = local_session_new(r.local), .random = random_next(&random)};
        ASSERT_EQ(pthread_create(&writers[i].thread, NULL, write_often, &writers[i]), 0);
    }
    for (size_t i = 0; i < COUNT_OF(writers); i++) {
        (void)pthread_join(writers[i].thread, NULL);
        EXPECT_STREQ(writers[i].wrong, "");
    }
    for (uint32_t i = 0; i < READERS; i++) { /* now nothing refuses them */
        EXPECT_TRUE(ct_eventually(pinti_load64_relaxed(&readers[i].n_whole) != 0, 60000));
        EXPECT_TRUE(ct_eventually(pinti_load64_relaxed(&readers[i].n_in_place) != 0, 60000));
    }
    pinti_store32_release(&r.stop, 1);
    for (uint32_t i = 0; i < READERS; i++) {
        (void)pthread_join(readers[i].thread, NULL);
        EXPECT_STREQ(readers[i].wrong, "");
    }
    pint_table_close(r.table);
    local_pool_free(r.local);
}

/* A reader that is overtaken must say CHANGED. The copy is made long by a large chunk, and a marker
 * runs all the time; sooner or later a mark falls into it. */
static void *mark_often(void *argument)
{
    actor *a = argument;
    pint_error err;
    const pint_column x = column_of(a->race->table, "x");
    while (pinti_load32_acquire(&a->race->stop) == 0 && a->wrong[0] == '\0') {
        if (pint_column_mark(&x, 0, 1, &err) != PINT_OK) {
            (void)snprintf(a->wrong, sizeof(a->wrong), "mark: %.100s", err.message);
        }
    }
    return NULL;
}

TEST(ReadRace, AReadThatIsOvertakenSaysChanged, .timeout_s = 100)
{
    race r = {.stop = 0};
    pint_error err;
    static int64_t out[CHUNK_ROWS];
    set_up(&r);
    actor marker = {.race = &r};
    const pint_column x = column_of(r.table, "x");
    ASSERT_EQ(pthread_create(&marker.thread, NULL, mark_often, &marker), 0);
    EXPECT_TRUE(ct_eventually(
        pint_column_read(&x, 0, CHUNK_ROWS, out, NULL, &err) == PINT_E_CHANGED, 60000));
    pinti_store32_release(&r.stop, 1);
    (void)pthread_join(marker.thread, NULL);
    EXPECT_STREQ(marker.wrong, "");
    EXPECT_OK(pint_column_read(&x, 0, CHUNK_ROWS, out, NULL, &err), &err);
    pint_table_close(r.table);
    local_pool_free(r.local);
}

TEST(ReadRace, AReadInPlaceThatIsOvertakenSaysChanged, .timeout_s = 100)
{
    race r = {.stop = 0};
    pint_error err;
    uint64_t stamp = 0;
    set_up(&r);
    actor marker = {.race = &r};
    const pint_column x = column_of(r.table, "x");
    ASSERT_EQ(pthread_create(&marker.thread, NULL, mark_often, &marker), 0);
    EXPECT_TRUE(ct_eventually(pint_column_read_begin(&x, 0, &stamp, &err) == PINT_OK &&
                                  pint_column_read_end(&x, 0, stamp, &err) == PINT_E_CHANGED,
                              60000));
    pinti_store32_release(&r.stop, 1);
    (void)pthread_join(marker.thread, NULL);
    EXPECT_STREQ(marker.wrong, "");
    pint_table_close(r.table);
    local_pool_free(r.local);
}
