/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_DEVICE_GPU_FACTS_H
#define TESTS_DEVICE_GPU_FACTS_H

/*
 * What no document says and only a GPU with its driver can show: a line per fact. Nothing here
 * passes or fails; the tests beside this rely on what is asked here.
 *
 * A section is a process of its own, forked before the driver is loaded: it may end as it likes.
 */

#include <stdbool.h>
#include <stddef.h>

#include "device/cuda_device.h"

extern pinti_cuda_device facts_gpu; /* of this process, after facts_open() */
extern size_t facts_bytes; /* of what is registered, copied, shared: $FACTS_MIB, or 1 GiB */

/* One line: what, and what it came to. */
void facts_say(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "ok", or the driver's name and number of a result. Good until the eighth call after it. */
const char *facts_rc(pinti_cu_result result);

/* Milliseconds of a clock. */
double facts_ms(void);

/* Load the driver and find GPU 0; with_context: make its primary context current. False: said why.
 */
bool facts_open(bool with_context);

/* An entry point that the library does not use, or NULL. */
void *facts_entry(const char *name, int version);

/* Shared memory as tables have it, bytes long, resident if is_resident; NULL after saying why. */
void *facts_memory(size_t bytes, bool is_resident, unsigned int memfd_flags);

void facts_device(void);
void facts_context(void);
void facts_registration(void);
void facts_refusals(void);
void facts_copies(void);
void facts_descriptors(void);
void facts_orphans(void);
void facts_read_only(void);
void facts_handles(void);
void facts_handles_namespace(void);
void facts_words(void);
void facts_fork(void);
void facts_capture(void);
void facts_exit(void);

#endif
