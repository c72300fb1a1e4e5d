/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_GPU_PROBE_H
#define BENCH_GPU_PROBE_H

/* What the parts of the probe share. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "device/cuda_driver.h"

/* Before a process does anything with the driver; a line each. False: it cannot go on. */
bool probe_start_driver(void);
bool probe_start_context(void); /* the first GPU's primary one, current in this thread */

double probe_now_ms(void);
const char *probe_words(pinti_cu_result result);
/* Fill device memory and wait. */
pinti_cu_result probe_fill(pinti_cu_ptr at, size_t bytes);

/* fork(): a child that dies with this process, or when it takes too long; 0 in the child. */
pid_t probe_start_child(void);

/* share.c */
void probe_descriptors_alive(void);
void probe_descriptors_dead(void);
void probe_handles_together(void);
void probe_handles_user_apart(void);
void probe_handles_both_apart(void);

#endif
