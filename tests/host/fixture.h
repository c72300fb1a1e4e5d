/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOST_FIXTURE_H
#define TESTS_HOST_FIXTURE_H

/* Schemas in few words, and repeatable random numbers. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host/table.h"
#include "host/wait.h"
#include "host/word.h"
#include "tests/support/ct.h"
#include "tests/support/local_pool.h"

#define COUNT_OF(array_) (sizeof(array_) / sizeof((array_)[0]))

static inline pint_field field_of(const char *name, pint_type type, uint32_t flags)
{
    pint_field field = PINT_FIELD_INIT;
    field.name = name;
    field.type = type;
    field.flags = flags;
    return field;
}

static inline pint_schema schema_of(const pint_field *fields, uint32_t n_fields,
                                    uint64_t chunk_rows)
{
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = n_fields;
    schema.chunk_rows = chunk_rows;
    return schema;
}

/* A column that must be there: the test ends if not. */
static inline pint_column column_of(pint_table *table, const char *name)
{
    pint_column column;
    pint_error err;
    if (pint_table_column(table, name, &column, &err) != PINT_OK) {
        (void)fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return column;
}

static inline pinti_a64 *word_of(const pint_column *column, uint64_t chunk)
{
    return &pinti_column_desc_of(column)->words[chunk];
}

static inline uint32_t state_of(const pint_column *column, uint64_t chunk)
{
    return pinti_chunk_state(pinti_load64_seq(word_of(column, chunk)));
}

/* Has a waiter on this table announced itself? */
static inline bool is_anybody_asleep(const pint_table *table)
{
    return (pinti_load32_seq(&table->desc->bell->xbell) & PINTI_BELL_ASLEEP) != 0;
}

/* Seed of a random test, printed; PINT_TEST_SEED repeats one. */
static inline uint64_t random_seed(void)
{
    const char *text = getenv("PINT_TEST_SEED");
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t seed =
        text != NULL ? strtoull(text, NULL, 0) : (uint64_t)now.tv_sec << 20 ^ (uint64_t)now.tv_nsec;
    (void)printf("PINT_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
    return random_next(state) % limit;
}

#endif
