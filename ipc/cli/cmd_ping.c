/* SPDX-License-Identifier: Apache-2.0 */

/* pintable ping: is a service there, and how long does a round trip take? */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ipc/cli/output.h"
#include "ipc/cli/request.h"

static double now_ms(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int run(const pinti_args *args)
{
    pinti_asker asker;
    int result = pinti_asker_open(args, &asker);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    const double start_ms = now_ms();
    result = pinti_asker_request(&asker, "ping", NULL, PINTI_REQUEST_MS, NULL);
    if (result == PINTI_EXIT_OK) {
        const double took_ms = now_ms() - start_ms;
        (void)printf("pintabled ");
        pinti_out_text(stdout, asker.hello.service, strlen(asker.hello.service));
        (void)printf(" at ");
        pinti_out_text(stdout, asker.address.socket, strlen(asker.address.socket));
        (void)printf(": %.3f ms\n", took_ms);
    }
    pinti_asker_close(&asker);
    return result;
}

const pinti_cli_command pinti_cmd_ping = {
    .name = "ping",
    .operands = "",
    .summary = "ask the service for a sign of life",
    .run = run,
};
