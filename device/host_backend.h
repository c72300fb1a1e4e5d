/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_HOST_BACKEND_H
#define DEVICE_HOST_BACKEND_H

/*
 * What tests ask of backend "host" beyond device/backend.h: to behave like a driver that is short
 * of something. Not in the public library's exports.
 */

#include "device/backend.h"

extern const uint8_t pinti_host_uuid[16];

/* Registrations of more than this are refused from now on; UINT64_MAX: none. */
void pinti_host_limit_pin(pinti_backend *backend, uint64_t most_bytes);

/* Work on a stream fails from here on. */
pint_status pinti_host_fail_stream(pinti_backend *backend, void *stream, pint_error *err);

/* Registrations there are now, staging not counted. */
uint32_t pinti_host_n_pinned(pinti_backend *backend);

#endif
