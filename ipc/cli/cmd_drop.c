/* SPDX-License-Identifier: Apache-2.0 */

/* pintable drop: take tables away. */

#include "ipc/cli/cli.h"
#include "pintable/table.h"

static int run(const pinti_args *args)
{
    pint_pool *pool;
    for (unsigned i = 0; i < args->n_operands; i++) {
        if (!pinti_args_check_name(args->operands[i])) {
            return PINTI_EXIT_USAGE;
        }
    }
    int result = pinti_cli_join(args, PINT_JOIN_NO_START, &pool);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    /* one that cannot be dropped does not keep the others; the first failure gives the status */
    for (unsigned i = 0; i < args->n_operands; i++) {
        pint_error err = {0};
        if (pint_table_drop(pool, args->operands[i], &err) != PINT_OK) {
            const int failed = pinti_cli_fail(&err);
            result = result == PINTI_EXIT_OK ? failed : result;
        }
    }
    pint_pool_leave(pool);
    return result;
}

const pinti_cli_command pinti_cmd_drop = {
    .name = "drop",
    .operands = "NAME...",
    .summary = "drop tables; who has one open keeps its data until closing it",
    .min_operands = 1,
    .max_operands = 1u << 20,
    .run = run,
};
