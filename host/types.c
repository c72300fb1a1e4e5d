/* SPDX-License-Identifier: Apache-2.0 */

/* Names and widths of the column types: one table. */

#include <string.h>

#include "pintable/types.h"

static const struct {
    const char *name;
    uint32_t bytes; /* of a value in the values buffer; 0: depends, or bits */
} types[] = {
    [PINT_BOOL] = {"bool", 0},
    [PINT_BOOL8] = {"bool8", 1},
    [PINT_INT8] = {"int8", 1},
    [PINT_INT16] = {"int16", 2},
    [PINT_INT32] = {"int32", 4},
    [PINT_INT64] = {"int64", 8},
    [PINT_UINT8] = {"uint8", 1},
    [PINT_UINT16] = {"uint16", 2},
    [PINT_UINT32] = {"uint32", 4},
    [PINT_UINT64] = {"uint64", 8},
    [PINT_FLOAT16] = {"float16", 2},
    [PINT_FLOAT32] = {"float32", 4},
    [PINT_FLOAT64] = {"float64", 8},
    [PINT_DATE32] = {"date32", 4},
    [PINT_TIMESTAMP] = {"timestamp", 8},
    [PINT_BINARY_FIXED] = {"binary_fixed", 0},
    [PINT_TEXT] = {"text", 0},
    [PINT_DICT_TEXT] = {"dict_text", 0},
    [PINT_LIST_FIXED] = {"list_fixed", 0},
};

#define N_TYPES (sizeof(types) / sizeof(types[0]))

const char *pint_type_name(pint_type type)
{
    return type < N_TYPES ? types[type].name : NULL;
}

pint_type pint_type_by_name(const char *name)
{
    for (pint_type type = 1; name != NULL && type < N_TYPES; type++) {
        if (types[type].name != NULL && strcmp(types[type].name, name) == 0) {
            return type;
        }
    }
    return 0;
}

uint32_t pint_type_bytes(pint_type type)
{
    return type < N_TYPES ? types[type].bytes : 0;
}
