/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_JSON_H
#define IPC_JSON_H

/*
 * The strict border between cJSON and us. cJSON alone accepts trailing bytes, duplicate keys,
 * "01", raw control characters, invalid UTF-8, and multiplies memory by 40; none of that passes.
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "pintable/status.h"

#define PINTI_JSON_DEPTH_MAX  16
#define PINTI_JSON_NODES_MAX  8192 /* counted before cJSON allocates */
#define PINTI_JSON_STRING_MAX 4096

/* Parse one whole message: valid UTF-8, RFC 8259 grammar to the letter (checked by our own scan
 * before cJSON sees it), no duplicate keys, no "\u0000", depth, nodes and strings within limits.
 * The caller deletes *out. */
pint_status pinti_json_parse(const char *text, size_t bytes, cJSON **out, pint_error *err);

/* Members of an object. A required one that is missing or of another type gives PINT_E_INVALID
 * naming the member. Integers are JSON integers in [0, 2^53] or decimal strings up to 2^64 - 1. */
pint_status pinti_json_u64(const cJSON *object, const char *key, uint64_t max, uint64_t *out,
                           pint_error *err);
pint_status pinti_json_u64_or(const cJSON *object, const char *key, uint64_t max, uint64_t fallback,
                              uint64_t *out, pint_error *err);
pint_status pinti_json_string(const cJSON *object, const char *key, const char **out,
                              pint_error *err); /* view into the object */
pint_status pinti_json_string_or(const cJSON *object, const char *key, const char *fallback,
                                 const char **out, pint_error *err);
pint_status pinti_json_bool_or(const cJSON *object, const char *key, bool fallback, bool *out,
                               pint_error *err);
pint_status pinti_json_array(const cJSON *object, const char *key, const cJSON **out,
                             pint_error *err);
pint_status pinti_json_hex64(const cJSON *object, const char *key, uint64_t *out,
                             pint_error *err); /* 16 hexadecimal digits */

/* Refuse members other than the n_keys known ones. */
pint_status pinti_json_only(const cJSON *object, const char *const *keys, unsigned n_keys,
                            pint_error *err);

/* Add members; false when out of memory. Integers above 2^53 become decimal strings. */
bool pinti_json_add_u64(cJSON *object, const char *key, uint64_t value);
bool pinti_json_add_hex64(cJSON *object, const char *key, uint64_t value);

#endif
