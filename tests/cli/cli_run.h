/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CLI_CLI_RUN_H
#define TESTS_CLI_CLI_RUN_H

/* Running the program pintable as a user would, against a service of the test's own. */

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "pintable/pintable.h"

/* What the last CLI() printed, standard output and error together. */
extern char cli_output[1 << 18];

/* Run argv, pintable first, with the test's address; exit status, or 128 + signal. */
int cli_run(const char *const *argv);
#define CLI(...) cli_run((const char *const[]){cli_program, __VA_ARGS__, (const char *)0})
extern const char cli_program[]; /* path of pintable */

/* The same with a terminal as standard output and error. */
int cli_run_in_terminal(const char *const *argv);

/* Did it print this? */
bool cli_said(const char *text);

/* The output as JSON by the strict parser; NULL (and a failed test) when it is none. */
cJSON *cli_json(void);

/* Address of the test's service: a folder that may not exist yet. */
const char *cli_address(void);

/* Write a file into the test's directory; its path, a view valid until the eighth next call. */
const char *cli_file(const char *name, const char *text);

/* Join the test's pool in this process; starts a service. NULL after failing the test. */
pint_pool *cli_join(void);

/* At the start of a test that starts a service: stops it at the end of the test, however it ends.
 */
#define CLI_SERVICE                                                                                \
    __attribute__((cleanup(cli_stop_service), unused)) const int cli_guard = cli_set_up()
int cli_set_up(void);
void cli_stop_service(const int *guard);

#endif
