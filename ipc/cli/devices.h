/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_DEVICES_H
#define IPC_CLI_DEVICES_H

/* The devices of a pool, as stat answers them. */

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Aligned, a line for each; nothing where there are none. */
void pinti_print_devices(const cJSON *devices);

/* Is text a way to write the UUID of a device: 32 hexadecimal digits, with or without dashes, after
 * "cuda:", "GPU-" or "MIG-"? out: the digits, small. Complains. */
bool pinti_read_uuid(const char *what, const char *text, char out[33]);

#endif
