/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_LEDGER_H
#define IPC_SERVICE_LEDGER_H

/* Bytes in use, in all and for each uid. Invariant: used == the sum over the uids. */

#include <stdbool.h>
#include <stdint.h>

#include "pintable/status.h"

typedef struct pinti_ledger {
    uint64_t used;
    uint64_t limit;     /* of all */
    uint64_t uid_limit; /* of one uid; 0: the same as limit */
    struct pinti_ledger_line {
        uint32_t uid;
        uint64_t bytes;
    } * lines;
    uint32_t n;
    uint32_t room;
} pinti_ledger;

void pinti_ledger_done(pinti_ledger *ledger);

/* May uid have bytes more? Makes the uid's line, so that a following add cannot fail.
 * PINT_E_QUOTA names asked, used, limit; PINT_E_NO_MEMORY. */
pint_status pinti_ledger_check(pinti_ledger *ledger, uint32_t uid, uint64_t bytes, pint_error *err);

/* Add without looking at limits (rebuild). False: out of memory. */
bool pinti_ledger_add(pinti_ledger *ledger, uint32_t uid, uint64_t bytes);

/* Take off; never below 0. */
void pinti_ledger_sub(pinti_ledger *ledger, uint32_t uid, uint64_t bytes);

uint64_t pinti_ledger_of(const pinti_ledger *ledger, uint32_t uid);

#endif
