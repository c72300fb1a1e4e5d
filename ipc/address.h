/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_ADDRESS_H
#define IPC_ADDRESS_H

/* Where the socket is, and whether the folder it lies in is safe. */

#include <stddef.h>

#include "pintable/status.h"

#define PINTI_SOCKET_NAME                                                                          \
    "pool-v1.sock"                     /* v1: the layout version; two versions run side by side    \
                                        */
#define PINTI_LOCK_NAME "pool-v1.lock" /* flock: start and exit of a private service (R18) */
#define PINTI_LOG_NAME  "pool-v1.log"

typedef struct pinti_address {
    char folder[4096];
    char socket[108]; /* sizeof(sun_path) */
    char lock[4096 + 32];
    char log[4096 + 32];
} pinti_address;

/* Resolve: text (a folder, or a path that ends in .sock), else $PINTABLE_ADDRESS, else
 * $XDG_RUNTIME_DIR/pintable, /run/user/UID/pintable, ${TMPDIR:-/tmp}/pintable-UID, the first whose
 * parent exists. create: make the folder (0700) where it is ours to make. A default folder must be
 * owned by this user, mode 0700, no symlink; a named one must exist or be creatable and not be
 * writable by others. PINT_E_RANGE: path too long for a socket (limit 107 bytes). */
pint_status pinti_address_resolve(const char *text, int create, pinti_address *out,
                                  pint_error *err);

#endif
