/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_DEVICE_BAD_SCENARIO_H
#define TESTS_DEVICE_BAD_SCENARIO_H

/*
 * All that a worker does with a device copy, on a GPU of the fake driver, as one function that
 * stops at the first failure and gives back what it had. For tests that make any one call of the
 * driver fail: what the worker leaves must be as if it had not been there, or as if it had come to
 * its end.
 */

#include "tests/device/device_world.h"
#include "tests/fakecuda/attach.h"

#define SCENARIO_CHUNKS 8u
#define SCENARIO_ROWS   (SCENARIO_CHUNKS * WORLD_CHUNK_ROWS)

typedef enum scenario_role {
    SCENARIO_CREATES, /* makes the copy, adds 1 to every row on the device, drops the copy */
    SCENARIO_STAGES,  /* the same, with nothing of the table registered */
    SCENARIO_IMPORTS  /* opens the copy of another to read, brings it to the host */
} scenario_role;

/* Where it ended: PINT_OK, or the first failure. */
typedef struct scenario_end {
    pint_status status;
    const char *step;
    pint_error err;
    double sum; /* of all rows, as seen on the device; 0 when it did not get there */
} scenario_end;

/* Join the service at an address and open table "t", its column x: no device yet. */
bool scenario_join(world *w, const char *address);
void scenario_leave(world *w);

scenario_end scenario_run(world *w, scenario_role role, uint32_t kind);

/* What the process has not given back, as text; "" when there is nothing. n_fds: descriptors open
 * before. Calls that were made to fail (failed; "" for none) count as not made. */
const char *scenario_left_behind(const world *w, int n_fds, const char *failed);
int scenario_descriptors(void);

/* Nobody holds a chunk of x, and none is torn. Asks the host's words alone. */
bool scenario_is_at_rest(const world *w);

#endif
