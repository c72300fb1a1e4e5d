/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_IPC_LIVE_H
#define TESTS_IPC_LIVE_H

/* Help for tests against the real service at the test's own folder. */

#include <cjson/cJSON.h>

#include "pintable/pintable.h"
#include "tests/support/ct.h"

extern pint_error live_err; /* of the last call that failed */

/* The test's folder with a tail; a few texts are kept at a time. */
const char *live_path(const char *tail);

/* Variables that decide which service is started and joined. */
void live_set_up(void);

/* flags: of pint_join_options. */
pint_status live_join(const char *address, uint32_t flags, pint_pool **out);

/* Start a service that is not private, with one option, and wait until it answers. */
pid_t live_start(const char *option, const char *value);

/* Ask it to stop, and wait until its socket is gone. */
void live_stop(void);

/* SIGKILL for the service and its keeper, so that neither starts the other again. */
void live_kill_all(void);

/* Connect to the service and ask without a session. */
pint_status live_ask(const char *address, const char *method, const cJSON *params,
                     cJSON **out_result);

/* From what stat answers; -1 when there is no answer. */
double live_stat_number(const char *key);
int live_stat_sessions(void);
pid_t live_service_pid(void);

/* A table of the columns id, int64, and x, float64; not published. */
pint_status live_create(pint_pool *pool, const char *name, uint64_t rows, pint_table **out);
pint_field live_field(const char *name, pint_type type);

#endif
