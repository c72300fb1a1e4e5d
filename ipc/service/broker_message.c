/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What service and broker say to each other. A broker runs with our own rights, but a driver's
 * code runs in it: what comes from it is checked like what comes from a client.
 */

#include "ipc/service/broker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "ipc/json.h"

#define IPC_BASE64_BYTES 88u

size_t pinti_broker_ask(char *out, size_t room, uint64_t bytes, uint32_t kind, uint64_t id)
{
    const int n =
        snprintf(out, room, "{\"allocate\":%" PRIu64 ",\"kind\":%" PRIu32 ",\"id\":%" PRIu64 "}",
                 bytes, kind, id);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at == NULL ? -1 : (int)(at - digits);
}

bool pinti_base64_decode(const char *text, uint8_t out[64])
{
    uint32_t bits = 0;
    uint32_t n_bits = 0;
    size_t n = 0;
    if (strnlen(text, IPC_BASE64_BYTES + 1u) != IPC_BASE64_BYTES ||
        strcmp(text + IPC_BASE64_BYTES - 2, "==") != 0) {
        return false;
    }
    for (size_t i = 0; i < IPC_BASE64_BYTES - 2; i++) {
        const int digit = digit_of(text[i]);
        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)digit) & 0xffffu;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    return n == 64 && (bits & ((1u << n_bits) - 1u)) == 0; /* 86 digits: 4 bits over, which are 0 */
}

/* The status a broker gives, or PINT_E_DEVICE: of those that say something about a device. */
static pint_status status_of(const cJSON *root)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "status");
    /* written so that NaN fails */
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= -99.0 && item->valuedouble <= -1.0)) {
        return PINT_E_DEVICE;
    }
    const pint_status status = (pint_status)item->valuedouble;
    const bool fits = status == PINT_E_NO_DEVICE || status == PINT_E_DEVICE ||
                      status == PINT_E_DEVICE_MEMORY || status == PINT_E_DEVICE_LOST ||
                      status == PINT_E_UNSUPPORTED;
    return fits ? status : PINT_E_DEVICE;
}

static pint_status take_error(const cJSON *root, pinti_broker_reply *out)
{
    const char *text = NULL;
    if (pinti_json_string(root, "error", &text, NULL) != PINT_OK ||
        cJSON_GetObjectItemCaseSensitive(root, "ok") != NULL ||
        cJSON_GetObjectItemCaseSensitive(root, "ipc") != NULL) {
        return PINT_E_PROTOCOL;
    }
    (void)pinti_printable(out->text, sizeof(out->text), text, strlen(text));
    out->status = status_of(root);
    return pinti_json_bool_or(root, "last", false, &out->is_last, NULL) == PINT_OK
               ? PINT_OK
               : PINT_E_PROTOCOL;
}

static pint_status take_success(const cJSON *root, pinti_broker_reply *out)
{
    const char *ipc = NULL;
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "ok")) ||
        cJSON_GetObjectItemCaseSensitive(root, "status") != NULL ||
        cJSON_GetObjectItemCaseSensitive(root, "last") != NULL) {
        return PINT_E_PROTOCOL;
    }
    out->status = PINT_OK;
    out->has_ipc = cJSON_GetObjectItemCaseSensitive(root, "ipc") != NULL;
    if (out->has_ipc && (pinti_json_string(root, "ipc", &ipc, NULL) != PINT_OK ||
                         !pinti_base64_decode(ipc, out->ipc))) {
        return PINT_E_PROTOCOL;
    }
    return PINT_OK;
}

pint_status pinti_broker_parse(const char *text, size_t bytes, pinti_broker_reply *out)
{
    static const char *const keys[] = {"id", "ok", "ipc", "error", "status", "last"};
    cJSON *root = NULL;
    memset(out, 0, sizeof(*out));
    pint_status status = pinti_json_parse(text, bytes, &root, NULL);
    if (status != PINT_OK) {
        return PINT_E_PROTOCOL;
    }
    if (pinti_json_only(root, keys, 6, NULL) != PINT_OK ||
        pinti_json_u64(root, "id", UINT64_MAX, &out->id, NULL) != PINT_OK) {
        status = PINT_E_PROTOCOL;
    } else {
        status = cJSON_GetObjectItemCaseSensitive(root, "error") != NULL ? take_error(root, out)
                                                                         : take_success(root, out);
    }
    cJSON_Delete(root);
    return status;
}
