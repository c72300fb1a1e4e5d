/* SPDX-License-Identifier: Apache-2.0 */

/* Who has device copies open: the one thing about them that only the service sees, in the slots of
 * all sessions. The rest is in the catalog, which everybody who joins can read. */

#include "host/error.h"
#include "host/word.h"
#include "ipc/json.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/session.h"

#define ANSWER_MAX 500u /* copies in one answer: what surely fits in a message */

static bool add_copy(const pinti_service *service, uint32_t copy, uint32_t generation, cJSON *array)
{
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(array, item)) {
        cJSON_Delete(item);
        return false;
    }
    return pinti_json_add_u64(item, "copy", copy) &&
           pinti_json_add_u64(item, "generation", generation) &&
           pinti_json_add_u64(
               item, "sessions",
               pinti_session_count_holders(service, PINTI_REF_COPY, copy, generation));
}

pint_status pinti_method_copy_users(pinti_call *call, pint_error *err)
{
    const pinti_service *service = call->service;
    uint64_t first = 0;
    uint32_t n_added = 0;
    const pint_status status =
        pinti_json_u64_or(call->params, "first", PINTI_COPIES_MAX, 0, &first, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    cJSON *array = cJSON_AddArrayToObject(call->result, "copies");
    bool good = array != NULL;
    const uint32_t n = pinti_cat_n_copies(service->cat);
    for (uint32_t i = (uint32_t)first; i < n && good; i++) {
        /* relaxed: own earlier store */
        const uint64_t word =
            pinti_load64_relaxed(&pinti_cat_copies(service->catalog)[i].xgen_state);
        if (pinti_state_of(word) == PINTI_FREE) {
            continue;
        }
        if (n_added == ANSWER_MAX) {
            good = pinti_json_add_u64(call->result, "next", i);
            break;
        }
        good = add_copy(service, i, pinti_gen_of(word), array);
        n_added++;
    }
    return good ? PINT_OK : pinti_fail(err, PINT_E_NO_MEMORY, 0, "copy.users");
}
