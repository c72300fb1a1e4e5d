/* SPDX-License-Identifier: Apache-2.0 */

/* What every command needs: complaints, exit statuses, joining, memory. */

#include "ipc/cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/output.h"

void pinti_complain(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int bytes = vasprintf(&text, format, arguments);
    va_end(arguments);
    (void)fflush(stdout); /* so that the two streams of a terminal keep their order */
    (void)fputs("pintable: ", stderr);
    if (bytes < 0) {
        (void)fputs("out of memory\n", stderr);
        return;
    }
    pinti_out_text(stderr, text, (size_t)bytes);
    (void)fputc('\n', stderr);
    free(text);
}

int pinti_cli_exit_of(pint_status status)
{
    switch (status) {
    case PINT_OK:
        return PINTI_EXIT_OK;
    case PINT_E_PERMISSION:
        return PINTI_EXIT_PERMISSION;
    case PINT_E_BUSY:
    case PINT_E_TIMEOUT:
    case PINT_E_CHANGED:
    case PINT_E_INTERRUPTED:
        return PINTI_EXIT_BUSY;
    case PINT_E_PROTOCOL:
    case PINT_E_CORRUPT:
        return PINTI_EXIT_INTERNAL;
    default:
        break;
    }
    if (PINT_IS_SERVICE_ERROR(status)) {
        return PINTI_EXIT_NO_SERVICE;
    }
    return PINT_IS_PROCESS_ERROR(status) ? PINTI_EXIT_INTERNAL : PINTI_EXIT_FAILED;
}

int pinti_cli_fail(const pint_error *err)
{
    static const char no_service[] = "no service";
    const char *text = err->message[0] != '\0' ? err->message : pint_status_text(err->status);
    if (err->status == PINT_E_NO_SERVICE) {
        const bool says_so = strncmp(text, no_service, sizeof(no_service) - 1) == 0;
        pinti_complain("%s%s ('pintable serve' starts one)",
                       says_so ? "" : "no service runs: ", text);
    } else {
        pinti_complain("%s", text);
    }
    return pinti_cli_exit_of(err->status);
}

int pinti_cli_join(const pinti_args *args, uint32_t flags, pint_pool **out_pool)
{
    pint_error err = {0};
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = flags;
    const pint_status status = pint_pool_join(args->address, &options, out_pool, &err);
    return status == PINT_OK ? PINTI_EXIT_OK : pinti_cli_fail(&err);
}

void pinti_cli_out_of_memory(void)
{
    (void)fputs("pintable: out of memory\n", stderr);
    exit(PINTI_EXIT_INTERNAL);
}

void *pinti_cli_alloc(size_t n, size_t bytes)
{
    void *memory = calloc(n > 0 ? n : 1, bytes);
    if (memory == NULL) {
        pinti_cli_out_of_memory();
    }
    return memory;
}
