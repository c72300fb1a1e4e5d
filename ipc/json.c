/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cJSON behind our own border: text goes to cJSON only after pinti_json_scan(), trees come out only
 * without duplicate names. Members are looked up with their case.
 *
 * cJSON_ParseWithLength() also stores its place of error in a global variable, which nothing here
 * reads; parsing in several threads at once is safe in every other respect.
 */

#include "ipc/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "ipc/json_scan.h"

#define EXACT_MAX (1ull << 53) /* largest integer up to which doubles hold each one */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Objects of a few members are compared pair by pair; large ones are sorted, so that a hostile
 * message costs n log n. */
static pint_status check_duplicates(const cJSON *object, pint_error *err)
{
    enum { FEW = 24 };
    const char *few[FEW];
    size_t n_names = 0;
    for (const cJSON *member = object->child; member != NULL; member = member->next) {
        n_names++;
    }
    const char **names = few;
    if (n_names > FEW) {
        names = malloc(n_names * sizeof(*names));
        if (names == NULL) {
            return pinti_fail(err, PINT_E_NO_MEMORY, 0, "JSON: object of %zu members", n_names);
        }
    }
    size_t i = 0;
    for (const cJSON *member = object->child; member != NULL; member = member->next) {
        names[i++] = member->string;
    }
    qsort(names, n_names, sizeof(*names), compare_names);
    pint_status status = PINT_OK;
    for (i = 1; i < n_names && status == PINT_OK; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            char text[64];
            status = pinti_fail(err, PINT_E_INVALID, 0, "JSON: member '%s' is there twice",
                                pinti_printable(text, sizeof(text), names[i], strlen(names[i])));
        }
    }
    if (names != few) {
        free(names);
    }
    return status;
}

static pint_status check_item(const cJSON *item, pint_error *err)
{
    if (cJSON_IsNumber(item) && !isfinite(item->valuedouble)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "JSON: a number is too large");
    }
    return cJSON_IsObject(item) ? check_duplicates(item, err) : PINT_OK;
}

/* Every item, in the order of the text. */
static pint_status check_tree(const cJSON *root, pint_error *err)
{
    const cJSON *above[PINTI_JSON_DEPTH_MAX]; /* as deep as the scan lets through */
    unsigned depth = 0;
    const cJSON *item = root;
    for (;;) {
        const pint_status status = check_item(item, err);
        if (status != PINT_OK) {
            return status;
        }
        if (item->child != NULL && depth < PINTI_JSON_DEPTH_MAX) {
            above[depth++] = item;
            item = item->child;
            continue;
        }
        while (depth > 0 && item->next == NULL) {
            item = above[--depth];
        }
        if (depth == 0) {
            return PINT_OK;
        }
        item = item->next;
    }
}

pint_status pinti_json_parse(const char *text, size_t bytes, cJSON **out, pint_error *err)
{
    pinti_json_fault fault;
    if (!pinti_json_scan(text, bytes, &fault)) {
        return pinti_fail(err, fault.limit ? PINT_E_LIMIT : PINT_E_INVALID, 0,
                          "JSON: %s (byte %zu of %zu)", fault.what, fault.at, bytes);
    }
    cJSON *root = cJSON_ParseWithLength(text, bytes);
    if (root == NULL) {
        /* The grammar was right, so only memory can be missing. */
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "JSON message of %zu bytes", bytes);
    }
    const pint_status status = check_tree(root, err);
    if (status != PINT_OK) {
        cJSON_Delete(root);
        return status;
    }
    *out = root;
    return PINT_OK;
}

static pint_status fail_type(const char *key, const char *expected, pint_error *err)
{
    return pinti_fail(err, PINT_E_INVALID, 0, "'%s' is not %s", key, expected);
}

/* The member; NULL and err (PINT_E_INVALID) when it is not there. */
static const cJSON *find(const cJSON *object, const char *key, pint_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "'%s' is missing", key);
    }
    return item;
}

/* The text of a member; NULL and err (PINT_E_INVALID) when it has none. */
static const char *find_text(const cJSON *object, const char *key, pint_error *err)
{
    const cJSON *item = find(object, key, err);
    if (item != NULL && !cJSON_IsString(item)) {
        (void)fail_type(key, "a string", err);
        return NULL;
    }
    return item != NULL ? item->valuestring : NULL;
}

static bool has(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key) != NULL;
}

/* Digits only, no sign, no leading zero, at most 2^64 - 1. */
static bool decimal_value(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || __builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

static bool integer_value(const cJSON *item, uint64_t *out)
{
    if (cJSON_IsString(item)) {
        return decimal_value(item->valuestring, out);
    }
    if (!cJSON_IsNumber(item)) {
        return false;
    }
    const double value = item->valuedouble;
    /* written so that NaN fails */
    if (!(value >= 0.0 && value <= (double)EXACT_MAX)) {
        return false;
    }
    const uint64_t whole = (uint64_t)value;
    if ((double)whole < value || (double)whole > value) {
        return false;
    }
    *out = whole;
    return true;
}

pint_status pinti_json_u64(const cJSON *object, const char *key, uint64_t max, uint64_t *out,
                           pint_error *err)
{
    uint64_t value = 0;
    const cJSON *item = find(object, key, err);
    if (item == NULL) {
        return PINT_E_INVALID;
    }
    if (!integer_value(item, &value)) {
        return fail_type(key, "an integer from 0 to 2^53, or a decimal string up to 2^64 - 1", err);
    }
    if (value > max) {
        return pinti_fail(err, PINT_E_RANGE, 0, "'%s' is %" PRIu64 ", the limit is %" PRIu64, key,
                          value, max);
    }
    *out = value;
    return PINT_OK;
}

pint_status pinti_json_u64_or(const cJSON *object, const char *key, uint64_t max, uint64_t fallback,
                              uint64_t *out, pint_error *err)
{
    if (!has(object, key)) {
        *out = fallback;
        return PINT_OK;
    }
    return pinti_json_u64(object, key, max, out, err);
}

pint_status pinti_json_string(const cJSON *object, const char *key, const char **out,
                              pint_error *err)
{
    const char *text = find_text(object, key, err);
    if (text == NULL) {
        return PINT_E_INVALID;
    }
    *out = text;
    return PINT_OK;
}

pint_status pinti_json_string_or(const cJSON *object, const char *key, const char *fallback,
                                 const char **out, pint_error *err)
{
    if (!has(object, key)) {
        *out = fallback;
        return PINT_OK;
    }
    return pinti_json_string(object, key, out, err);
}

pint_status pinti_json_bool_or(const cJSON *object, const char *key, bool fallback, bool *out,
                               pint_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL) {
        *out = fallback;
        return PINT_OK;
    }
    if (!cJSON_IsBool(item)) {
        return fail_type(key, "true or false", err);
    }
    *out = cJSON_IsTrue(item) != 0;
    return PINT_OK;
}

pint_status pinti_json_array(const cJSON *object, const char *key, const cJSON **out,
                             pint_error *err)
{
    const cJSON *item = find(object, key, err);
    if (item == NULL) {
        return PINT_E_INVALID;
    }
    if (!cJSON_IsArray(item)) {
        return fail_type(key, "an array", err);
    }
    *out = item;
    return PINT_OK;
}

pint_status pinti_json_hex64(const cJSON *object, const char *key, uint64_t *out, pint_error *err)
{
    uint64_t value = 0;
    const char *text = find_text(object, key, err);
    if (text == NULL) {
        return PINT_E_INVALID;
    }
    if (strlen(text) != 16) {
        return fail_type(key, "16 hexadecimal digits", err);
    }
    for (const char *c = text; *c != '\0'; c++) {
        const char *digits = "0123456789abcdef";
        const char *digit = strchr(digits, *c >= 'A' && *c <= 'F' ? *c - 'A' + 'a' : *c);
        if (digit == NULL) {
            return fail_type(key, "16 hexadecimal digits", err);
        }
        value = value << 4 | (uint64_t)(digit - digits);
    }
    *out = value;
    return PINT_OK;
}

pint_status pinti_json_only(const cJSON *object, const char *const *keys, unsigned n_keys,
                            pint_error *err)
{
    if (!cJSON_IsObject(object)) {
        return pinti_fail(err, PINT_E_INVALID, 0, "not a JSON object");
    }
    for (const cJSON *member = object->child; member != NULL; member = member->next) {
        unsigned i = 0;
        while (i < n_keys && strcmp(member->string, keys[i]) != 0) {
            i++;
        }
        if (i == n_keys) {
            char text[64];
            return pinti_fail(
                err, PINT_E_INVALID, 0, "unknown member '%s'",
                pinti_printable(text, sizeof(text), member->string, strlen(member->string)));
        }
    }
    return PINT_OK;
}

bool pinti_json_add_u64(cJSON *object, const char *key, uint64_t value)
{
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%" PRIu64, value);
    if (value <= EXACT_MAX) {
        return cJSON_AddRawToObject(object, key, digits) != NULL;
    }
    return cJSON_AddStringToObject(object, key, digits) != NULL;
}

bool pinti_json_add_hex64(cJSON *object, const char *key, uint64_t value)
{
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%016" PRIx64, value);
    return cJSON_AddStringToObject(object, key, digits) != NULL;
}
