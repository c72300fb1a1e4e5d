/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_JSON_SCAN_H
#define IPC_JSON_SCAN_H

/* Grammar and limits of a message, checked without allocating anything. */

#include <stdbool.h>
#include <stddef.h>

typedef struct pinti_json_fault {
    const char *what; /* static text */
    size_t at;        /* byte where the scan stopped */
    bool limit;       /* well-formed as far as read, but beyond a limit of ours */
} pinti_json_fault;

/* True when the text is one JSON value by RFC 8259, with spaces around it at most, within the
 * limits of ipc/json.h; else fault says why not. Does not see duplicate names. */
bool pinti_json_scan(const char *text, size_t bytes, pinti_json_fault *fault);

#endif
