/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_DEMO_DEVICE_H
#define EXAMPLES_DEMO_DEVICE_H

/* The device phase of the demo (demo_device.c), and kernels for it on a GPU (demo_gpu.c). */

#include <stdbool.h>
#include <stdint.h>

#include <pintable/pintable.h>

/*
 * Square a float64 column on a device into another, let a worker process change 1 % of the chunks,
 * square those, and have n_readers processes compare on the CPU. Prints its lines. False: wrong.
 */
bool demo_device_phase(pint_table *table, const char *from, const char *to, int n_readers);

#define DEMO_DEVICE_ROLE "--device-worker"
/* A process started by the phase: argv of main(). Returns its exit status. */
int demo_device_worker(const char *table, int argc, char **argv);

/* Load the kernel for the GPU with this UUID; false, with the reason in why, if it cannot be. */
bool demo_gpu_load(const uint8_t uuid[16], const char **why);
/* Enqueue to[i] = from[i] * from[i] for n float64 values at device addresses. */
bool demo_gpu_square(void *stream, uint64_t to, uint64_t from, uint64_t n);

#endif
