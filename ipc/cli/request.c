/* SPDX-License-Identifier: Apache-2.0 */

/* A connection that has said hello and no more. */

#include "ipc/cli/request.h"

#include "ipc/connect.h"
#include "ipc/json.h"

#define CONNECT_MS 10000

int pinti_asker_open(const pinti_args *args, pinti_asker *out)
{
    pint_error err = {0};
    const int64_t deadline_ms = pinti_clock_ms() + CONNECT_MS;
    *out = (pinti_asker){0};
    pint_status status = pinti_address_resolve(args->address, 0, &out->address, &err);
    if (status == PINT_OK) {
        status = pinti_client_open(out->address.socket, deadline_ms, &out->client, &err);
    }
    if (status == PINT_OK) {
        status = pinti_client_hello(out->client, deadline_ms, &out->hello, &err);
    }
    if (status == PINTI_CLIENT_LOST) {
        pinti_complain("the service at '%s' ended the connection", out->address.socket);
        pinti_asker_close(out);
        return PINTI_EXIT_NO_SERVICE;
    }
    if (status != PINT_OK) {
        pinti_asker_close(out);
        return pinti_cli_fail(&err);
    }
    return PINTI_EXIT_OK;
}

int pinti_asker_request(pinti_asker *asker, const char *method, cJSON *params, int timeout_ms,
                        cJSON **out_result)
{
    pint_error err = {0};
    const pint_status status =
        pinti_client_request(asker->client, method, params, timeout_ms, out_result, &err);
    cJSON_Delete(params);
    return status == PINT_OK ? PINTI_EXIT_OK : pinti_cli_fail(&err);
}

void pinti_asker_close(pinti_asker *asker)
{
    pinti_client_close(asker->client);
    asker->client = NULL;
}

uint64_t pinti_answer_number(const cJSON *object, const char *key)
{
    uint64_t value = 0;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 0x1p53) {
        return (uint64_t)item->valuedouble; /* also where it has a fraction: ages */
    }
    (void)pinti_json_u64_or(object, key, UINT64_MAX, 0, &value, NULL);
    return value;
}

const char *pinti_answer_text(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsString(item) ? item->valuestring : "?";
}

bool pinti_answer_flag(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key)) != 0;
}
