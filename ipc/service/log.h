/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_LOG_H
#define IPC_SERVICE_LOG_H

/* One line an event: time, process, text. At most 100 lines in 10 s, so that no client can fill a
 * disk. Nothing a client sent is printed but by way of pinti_printable(). */

#include <stdbool.h>

/* To this file (appended to, made 0600, no link followed); NULL: standard error. */
bool pinti_log_open(const char *path);
void pinti_log_close(void);
int pinti_log_fd(void); /* -1: standard error */
void pinti_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
