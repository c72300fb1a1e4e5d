/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_LAUNCH_H
#define IPC_LAUNCH_H

/* Starting a private service where none runs (R18). */

#include <stdint.h>

#include "ipc/address.h"

/*
 * See that a service runs at the address: under the start lock, start one unless somebody else just
 * did. PINT_OK: connect now (it may have gone again: start over). Only the owner of the folder may.
 * After PINT_E_TIMEOUT and PINT_E_INTERRUPTED a service may still be starting.
 *
 * The program is $PINTABLED, else pintabled beside this library or program (same folder, ../bin,
 * ../libexec/pintable), else the folder it was installed to, else in $PATH.
 */
pint_status pinti_launch(const pinti_address *address, int64_t deadline_ms, pint_error *err);

#endif
