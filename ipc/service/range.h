/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_RANGE_H
#define IPC_SERVICE_RANGE_H

/*
 * A set of numbers kept as disjoint, never adjacent ranges in address order: free bytes, dirty
 * bytes, free record numbers. Add, remove, neighbours and first fit take O(log n).
 *
 * Adding or removing one range makes the set at most one range longer. Whoever must not fail later
 * reserves before: after pinti_ranges_reserve(set, n) the next n adds and removes cannot fail.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct pinti_range {
    uint64_t off;
    uint64_t bytes; /* 0: none */
} pinti_range;

typedef struct pinti_ranges {
    struct pinti_range_node *nodes; /* [room]; a treap linked by number; 0 is nobody */
    uint32_t room;
    uint32_t n;
    uint32_t n_used; /* nodes [1, n_used) were handed out at some time */
    uint32_t unused; /* list of those given back */
    uint32_t root;
    uint64_t total; /* sum of the ranges' bytes */
} pinti_ranges;

void pinti_ranges_init(pinti_ranges *set);
void pinti_ranges_done(pinti_ranges *set);

/* Make room so that n more ranges fit. False: out of memory (the set is as before). */
bool pinti_ranges_reserve(pinti_ranges *set, uint32_t n);

/* Unite with [off, off + bytes), which may overlap what is there. False: out of memory. */
bool pinti_ranges_add(pinti_ranges *set, uint64_t off, uint64_t bytes);

/* Take away what lies in [off, off + bytes). False: out of memory (a range had to be split). */
bool pinti_ranges_remove(pinti_ranges *set, uint64_t off, uint64_t bytes);

/* The first range that has a byte at or after from, cut to begin there at the earliest. */
bool pinti_ranges_next(const pinti_ranges *set, uint64_t from, pinti_range *out_range);

/* The last range that has a byte before limit, cut to end there at the latest. */
bool pinti_ranges_prev(const pinti_ranges *set, uint64_t limit, pinti_range *out_range);

/* Are all, is any of [off, off + bytes) in the set? */
bool pinti_ranges_has_all(const pinti_ranges *set, uint64_t off, uint64_t bytes);
bool pinti_ranges_has_any(const pinti_ranges *set, uint64_t off, uint64_t bytes);

/* Lowest multiple of align (a power of two) at which bytes (not 0) lie in the set. */
bool pinti_ranges_first_fit(const pinti_ranges *set, uint64_t bytes, uint64_t align,
                            uint64_t *out_off);

#endif
