/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_HOST_COPY_H
#define DEVICE_HOST_COPY_H

/*
 * How the streams of backend "host" copy. memcpy decides by the bytes of one call whether it goes
 * past the caches, and only for so many that pieces never reach it; here whoever knows the whole
 * decides.
 */

#include <stdbool.h>
#include <stdint.h>

/* Work that copies more than this in all goes past the caches: its first bytes would be out of them
 * before its last are in. */
#define PINTI_HOST_PAST_BYTES (16ull << 20)

/* Bytes do not overlap. Whatever order the stores are made in, this thread's next release publishes
 * them. */
void pinti_host_copy(void *to, const void *from, uint64_t bytes, bool is_past_caches);

#endif
