/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash table over strings that are kept back to back, as the finished dictionary wants them.
 * Invariant: every entry has exactly one slot, reached from its hash without crossing a free slot;
 * entries are never removed.
 */
#include "csv_dict.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS   64u
#define FIRST_ENTRIES 16u
#define FIRST_BYTES   256u

/* Multiply and fold, 8 bytes at a time (in the manner of wyhash); spreads, does not resist. */
static uint32_t hash_bytes(const char *text, size_t n)
{
    const uint64_t multiplier = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t hash = (uint64_t)n * multiplier;
    while (n >= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, text, sizeof(word));
        hash = (hash ^ word) * multiplier;
        hash ^= hash >> 32;
        text += sizeof(word);
        n -= sizeof(word);
    }
    uint64_t tail = 0;
    memcpy(&tail, text, n);
    hash = (hash ^ tail) * multiplier;
    hash ^= hash >> 29;
    hash *= multiplier;
    return (uint32_t)(hash >> 32);
}

bool pinti_csv_dict_init(pinti_csv_dict *dict)
{
    pinti_csv_dict fresh = {
        .n_slots = FIRST_SLOTS, .entries_room = FIRST_ENTRIES, .data_room = FIRST_BYTES};
    fresh.slots = calloc(FIRST_SLOTS, sizeof(*fresh.slots));
    fresh.hashes = malloc(FIRST_ENTRIES * sizeof(*fresh.hashes));
    fresh.strings.offsets = malloc((FIRST_ENTRIES + 1) * sizeof(*fresh.strings.offsets));
    fresh.strings.data = malloc(FIRST_BYTES);
    if (fresh.slots == NULL || fresh.hashes == NULL || fresh.strings.offsets == NULL ||
        fresh.strings.data == NULL) {
        pinti_csv_dict_done(&fresh);
        return false;
    }
    fresh.strings.offsets[0] = 0;
    *dict = fresh;
    return true;
}

void pinti_csv_dict_done(pinti_csv_dict *dict)
{
    free(dict->slots);
    free(dict->hashes);
    free(dict->strings.offsets);
    free(dict->strings.data);
    *dict = (pinti_csv_dict){0};
}

static bool grow_slots(pinti_csv_dict *dict)
{
    if (dict->n_slots > UINT32_MAX / 2) {
        return false;
    }
    const uint32_t n_slots = dict->n_slots * 2;
    uint32_t *slots = calloc(n_slots, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    for (uint32_t entry = 0; entry < dict->strings.n; entry++) {
        uint32_t at = dict->hashes[entry] & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = entry + 1;
    }
    free(dict->slots);
    dict->slots = slots;
    dict->n_slots = n_slots;
    return true;
}

static bool grow_entries(pinti_csv_dict *dict)
{
    const uint64_t room = dict->entries_room * 2;
    uint32_t *hashes = realloc(dict->hashes, room * sizeof(*hashes));
    if (hashes == NULL) {
        return false;
    }
    dict->hashes = hashes;
    int64_t *offsets = realloc(dict->strings.offsets, (room + 1) * sizeof(*offsets));
    if (offsets == NULL) {
        return false;
    }
    dict->strings.offsets = offsets;
    dict->entries_room = room;
    return true;
}

/* Room for text_bytes more bytes of strings. */
static bool grow_data(pinti_csv_dict *dict, size_t text_bytes)
{
    const size_t used = (size_t)dict->strings.offsets[dict->strings.n];
    if (text_bytes <= dict->data_room - used) {
        return true;
    }
    const size_t room = (used + text_bytes) * 2; /* both are in memory: no overflow */
    char *data = realloc(dict->strings.data, room);
    if (data == NULL) {
        return false;
    }
    dict->strings.data = data;
    dict->data_room = room;
    return true;
}

pinti_csv_dict_result pinti_csv_dict_code(pinti_csv_dict *dict, const char *text, size_t text_bytes,
                                          uint64_t max_entries, int32_t *out_code)
{
    pinti_csv_strings *strings = &dict->strings;
    const uint32_t hash = hash_bytes(text, text_bytes);
    uint32_t at = hash & (dict->n_slots - 1);
    for (; dict->slots[at] != 0; at = (at + 1) & (dict->n_slots - 1)) {
        const uint32_t entry = dict->slots[at] - 1;
        const int64_t begin = strings->offsets[entry];
        if (dict->hashes[entry] == hash &&
            (size_t)(strings->offsets[entry + 1] - begin) == text_bytes &&
            memcmp(strings->data + begin, text, text_bytes) == 0) {
            *out_code = (int32_t)entry;
            return PINTI_CSV_DICT_OK;
        }
    }
    if (strings->n >= max_entries) {
        return PINTI_CSV_DICT_FULL;
    }
    if ((strings->n == dict->entries_room && !grow_entries(dict)) || !grow_data(dict, text_bytes)) {
        return PINTI_CSV_DICT_NO_MEMORY;
    }
    const int64_t begin = strings->offsets[strings->n];
    memcpy(strings->data + begin, text, text_bytes);
    strings->offsets[strings->n + 1] = begin + (int64_t)text_bytes;
    dict->hashes[strings->n] = hash;
    dict->slots[at] = (uint32_t)strings->n + 1;
    strings->n++;
    if (strings->n * 2 >= dict->n_slots && !grow_slots(dict)) {
        return PINTI_CSV_DICT_NO_MEMORY;
    }
    *out_code = (int32_t)(strings->n - 1);
    return PINTI_CSV_DICT_OK;
}

pinti_csv_strings pinti_csv_dict_take(pinti_csv_dict *dict)
{
    pinti_csv_strings strings = dict->strings;
    int64_t *offsets = realloc(strings.offsets, (strings.n + 1) * sizeof(*offsets));
    strings.offsets = offsets != NULL ? offsets : strings.offsets;
    const size_t data_bytes = (size_t)strings.offsets[strings.n];
    char *data = realloc(strings.data, data_bytes > 0 ? data_bytes : 1);
    strings.data = data != NULL ? data : strings.data;
    dict->strings = (pinti_csv_strings){0};
    pinti_csv_dict_done(dict);
    return strings;
}
