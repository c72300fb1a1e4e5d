/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_REQUEST_H
#define IPC_CLI_REQUEST_H

/* Asking the service without joining its pool, and taking its answers apart. Never starts one. */

#include "ipc/address.h"
#include "ipc/cli/cli.h"
#include "ipc/client.h"

typedef struct pinti_asker {
    pinti_address address;
    pinti_client *client;
    pinti_hello hello;
} pinti_asker;

/* Connect and say hello. Complains; PINTI_EXIT_OK or the exit status. */
int pinti_asker_open(const pinti_args *args, pinti_asker *out);

/* params: NULL for none; taken. *out_result is the caller's to delete; out_result may be NULL.
 * Complains; PINTI_EXIT_OK or the exit status. */
int pinti_asker_request(pinti_asker *asker, const char *method, cJSON *params, int timeout_ms,
                        cJSON **out_result);

void pinti_asker_close(pinti_asker *asker);

/* Members of an answer, as far as they are there and of their kind, else 0, "?", false: a newer
 * service may have others. */
uint64_t pinti_answer_number(const cJSON *object, const char *key);
const char *pinti_answer_text(const cJSON *object, const char *key);
bool pinti_answer_flag(const cJSON *object, const char *key);

#endif
