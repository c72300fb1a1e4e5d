/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_CATALOG_H
#define HOST_CATALOG_H

/*
 * Reading the catalog while the service changes it: lookup by name.
 *
 * The name index is an open-addressing table: tag << 32 | table index + 1, probed linearly until an
 * empty place. Three things may happen under a reader:
 *   a name is published     one store fills an empty place (found from then on)
 *   a name changes          the new entry comes before the record's name changes, the old entry
 *                           goes after: the record answers to exactly one name at each instant
 *   entries move            (removal shifts later ones back) xindex_seq is odd meanwhile: a miss
 *                           counts only if xindex_seq was even before and is unchanged after
 */

#include "host/name.h"

enum pinti_lookup {
    PINTI_LOOKUP_FOUND = 0,
    PINTI_LOOKUP_MISS = 1,   /* no such name at some moment during the call */
    PINTI_LOOKUP_UNSURE = 2, /* it kept changing: ask the service */
};

/* Find a name. out_gen_state: as the record had it (LIVE) when its name matched. */
enum pinti_lookup pinti_catalog_lookup(const void *catalog, const pinti_name *name,
                                       uint32_t *out_index, uint64_t *out_gen_state);

/* Copy a record's current name into out[PINTI_NAME_BYTES_MAX + 1]. False while it changes. */
bool pinti_catalog_read_name(const pinti_table_rec *rec, char *out);

#endif
