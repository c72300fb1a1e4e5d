/* SPDX-License-Identifier: Apache-2.0 */
/* The byte ledger: one line for each uid that ever had memory. Uids of one machine are few. */
#include "ipc/service/ledger.h"

#include <inttypes.h>
#include <stdlib.h>

#include "host/error.h"

static struct pinti_ledger_line *find_line(const pinti_ledger *ledger, uint32_t uid)
{
    for (uint32_t i = 0; i < ledger->n; i++) {
        if (ledger->lines[i].uid == uid) {
            return &ledger->lines[i];
        }
    }
    return NULL;
}

static struct pinti_ledger_line *make_line(pinti_ledger *ledger, uint32_t uid)
{
    struct pinti_ledger_line *line = find_line(ledger, uid);
    if (line != NULL) {
        return line;
    }
    if (ledger->n == ledger->room) {
        const uint32_t room = ledger->room == 0 ? 8 : ledger->room * 2;
        struct pinti_ledger_line *grown = realloc(ledger->lines, room * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        ledger->lines = grown;
        ledger->room = room;
    }
    line = &ledger->lines[ledger->n++];
    *line = (struct pinti_ledger_line){.uid = uid};
    return line;
}

void pinti_ledger_done(pinti_ledger *ledger)
{
    free(ledger->lines);
    *ledger = (pinti_ledger){0};
}

pint_status pinti_ledger_check(pinti_ledger *ledger, uint32_t uid, uint64_t bytes, pint_error *err)
{
    const struct pinti_ledger_line *line = make_line(ledger, uid);
    if (line == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "ledger of uid %" PRIu32, uid);
    }
    if (ledger->used > ledger->limit || bytes > ledger->limit - ledger->used) {
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " bytes asked, %" PRIu64 " of the pool's budget of %" PRIu64
                          " bytes are in use",
                          bytes, ledger->used, ledger->limit);
    }
    if (ledger->uid_limit != 0 &&
        (line->bytes > ledger->uid_limit || bytes > ledger->uid_limit - line->bytes)) {
        return pinti_fail(err, PINT_E_QUOTA, 0,
                          "%" PRIu64 " bytes asked, uid %" PRIu32 " uses %" PRIu64
                          " of its %" PRIu64 " bytes",
                          bytes, uid, line->bytes, ledger->uid_limit);
    }
    return PINT_OK;
}

bool pinti_ledger_add(pinti_ledger *ledger, uint32_t uid, uint64_t bytes)
{
    struct pinti_ledger_line *line = make_line(ledger, uid);
    if (line == NULL) {
        return false;
    }
    line->bytes += bytes;
    ledger->used += bytes;
    return true;
}

void pinti_ledger_sub(pinti_ledger *ledger, uint32_t uid, uint64_t bytes)
{
    struct pinti_ledger_line *line = find_line(ledger, uid);
    if (line == NULL) {
        return;
    }
    const uint64_t taken = bytes < line->bytes ? bytes : line->bytes;
    line->bytes -= taken;
    ledger->used -= taken;
}

uint64_t pinti_ledger_of(const pinti_ledger *ledger, uint32_t uid)
{
    const struct pinti_ledger_line *line = find_line(ledger, uid);
    return line == NULL ? 0 : line->bytes;
}
