/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_DEVICE_BAD_SWEEP_H
#define TESTS_DEVICE_BAD_SWEEP_H

/*
 * What the sweeps over the driver's calls share: the entry points, what our code does when one of
 * them fails, and the table that the work is done on.
 */

#include "tests/device/bad/scenario.h"

#define ERROR_CODE "999"
#define WORK_CODE  "719"

enum {
#define NUMBER(member_, name_, symbol_, version_, params_) ENTRY_##member_,
    PINTI_CU_REQUIRED(NUMBER) PINTI_CU_OPTIONAL(NUMBER)
#undef NUMBER
        ENTRY_work, /* an operation of a stream */
    N_ENTRIES
};

extern const char *const sweep_entries[N_ENTRIES];

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
bool sweep_is_one_of(const char *name, const char *const *list);

/* Loading has tests of its own, and names are asked for only after another failure: BadDevice. */
bool sweep_is_swept(const char *name);

/* Our code works without an answer, or nobody is there who could be told. n_trials: how often the
 * process has tried before what the device can do. */
bool sweep_is_absorbed(const char *name, unsigned int nth, unsigned int n_trials);

/* The status is right, and the text has the call and the driver's name of the error. */
bool sweep_tells_why(const scenario_end *end, const char *name);

/* Calls by entry point in a log of the fake; "work" is not in it. Counts are added to. */
void sweep_count_log(const char *path, uint64_t counts[N_ENTRIES]);

typedef struct sweep {
    world w; /* this process, no device open but in role IMPORTS */
    scenario_role role;
    uint32_t kind;
    double added[SCENARIO_CHUNKS]; /* how often 1 was added to every row of a chunk */
} sweep;

/* A service, and a broker that starts with a failure when the file "wanted" names one. */
void sweep_set_up(sweep *s, scenario_role role, uint32_t kind);
void sweep_tear_down(sweep *s);

/* Every row of a chunk has had 1 added as often as every other, least to most times since the last
 * look; in all chunks alike, unless a process was killed while it gave them back. */
void sweep_expect_whole(sweep *s, double least, double most, bool is_alike);

/* The same work in this process, in which nothing fails. */
void sweep_expect_as_ever(sweep *s, double most, bool is_alike);

#endif
