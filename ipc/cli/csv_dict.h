/* SPDX-License-Identifier: Apache-2.0 */
/* Number distinct strings by first appearance: the dictionary of a category column. */
#ifndef PINTABLE_IPC_CLI_CSV_DICT_H
#define PINTABLE_IPC_CLI_CSV_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csv.h"

typedef struct pinti_csv_dict {
    pinti_csv_strings strings; /* the entries so far */
    uint32_t *hashes;          /* of each entry, to grow slots without reading the strings */
    uint32_t *slots;           /* open addressing, linear; entry + 1, 0: free */
    uint32_t n_slots;          /* a power of two, more than twice strings.n */
    uint64_t entries_room;     /* of hashes; of strings.offsets less 1 */
    size_t data_room;          /* bytes of strings.data */
} pinti_csv_dict;

/* False: out of memory, nothing to free. */
bool pinti_csv_dict_init(pinti_csv_dict *dict);
void pinti_csv_dict_done(pinti_csv_dict *dict);

typedef enum pinti_csv_dict_result {
    PINTI_CSV_DICT_OK = 0,
    PINTI_CSV_DICT_FULL, /* a new string, and the dictionary has max_entries already */
    PINTI_CSV_DICT_NO_MEMORY,
} pinti_csv_dict_result;

/* Find or add a string; max_entries <= INT32_MAX. *out_code only with PINTI_CSV_DICT_OK. */
pinti_csv_dict_result pinti_csv_dict_code(pinti_csv_dict *dict, const char *text, size_t text_bytes,
                                          uint64_t max_entries, int32_t *out_code);

/* Give the entries, shrunk to size, to the caller, who frees offsets and data; dict is done. */
pinti_csv_strings pinti_csv_dict_take(pinti_csv_dict *dict);

#endif
