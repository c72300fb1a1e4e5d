/* SPDX-License-Identifier: Apache-2.0 */

/* pintable serve: become pintabled. Looks for it where the library does (ipc/launch.c). */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/cli/cli.h"

#define PROGRAM "pintabled"

/* Replace this process if the program is there. Returns when it is not. */
static void try_program(const char *path, char *const *argv)
{
    if (access(path, X_OK) == 0) {
        (void)execv(path, argv);
    }
}

static void try_beside(char *const *argv)
{
    static const char *const places[] = {"/" PROGRAM, "/../bin/" PROGRAM,
                                         "/../libexec/pintable/" PROGRAM};
    char folder[PATH_MAX];
    const ssize_t bytes = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    if (bytes <= 0) {
        return;
    }
    folder[bytes] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        return;
    }
    *slash = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[PATH_MAX + 64];
        const int written = snprintf(path, sizeof(path), "%s%s", folder, places[i]);
        if (written > 0 && (size_t)written < sizeof(path)) {
            try_program(path, argv);
        }
    }
}

static int run(const pinti_args *args)
{
    /* name, --address PATH, operands, NULL */
    const char **arguments = pinti_cli_alloc((size_t)args->n_operands + 4, sizeof(*arguments));
    unsigned n = 0;
    arguments[n++] = PROGRAM;
    if (args->address != NULL) {
        arguments[n++] = "--address";
        arguments[n++] = args->address;
    }
    for (unsigned i = 0; i < args->n_operands; i++) {
        arguments[n++] = args->operands[i];
    }
    char *const *argv = (char *const *)arguments; /* execv() changes none of them */
    const char *named = getenv("PINTABLED");
    if (named != NULL && named[0] != '\0') {
        try_program(named, argv);
        pinti_complain("serve: $PINTABLED names no program: '%s'", named);
    } else {
        try_beside(argv);
        (void)execvp(PROGRAM, argv);
        pinti_complain("serve: '" PROGRAM "' is neither beside this program nor in $PATH: %s",
                       strerror(errno));
    }
    free(arguments);
    return PINTI_EXIT_INTERNAL;
}

const pinti_cli_command pinti_cmd_serve = {
    .name = "serve",
    .operands = "[OPTION OF pintabled]...",
    .summary = "run a service in the foreground (pintabled)",
    .details = "Becomes the program pintabled with the same options; see 'pintabled --help'.",
    .max_operands = 1u << 20,
    .is_raw = true,
    .run = run,
};
