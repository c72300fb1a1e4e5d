/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_ERROR_H
#define HOST_ERROR_H

/* Filling a pint_error: called by the function that first decides the error, passed through above.
 */

#include "pintable/status.h"

/* Fill err (may be NULL) with a formatted message and return status. sys_errno 0: no system call.
 * With a sys_errno the message gets ": " and the error's text appended. */
pint_status pinti_fail(pint_error *err, pint_status status, int sys_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Copy text for use inside a message: control characters and bytes that are not UTF-8 become '?',
 * cut at room - 1 bytes (with ".."). Returns out. */
const char *pinti_printable(char *out, size_t room, const char *text, size_t text_bytes);

#endif
