/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAKECUDA_FAKECUDA_H
#define TESTS_FAKECUDA_FAKECUDA_H

/*
 * A CUDA driver for tests: a libcuda.so.1 that keeps the driver's rules and lets nothing slip. It
 * is loaded like the real one, through $PINTABLE_LIBCUDA. README.md lists the rules.
 *
 * Settings are read from the environment at the first call of a process, and again after
 * fakecuda_reset(). A setting that is not understood ends the process. CODE may be "kill": the
 * process is killed in that call.
 *
 *   FAKECUDA_DEVICES=N       devices of the machine (1); CUDA_VISIBLE_DEVICES picks from them
 *   FAKECUDA_MEMORY_MIB=N    memory of each (1024); what this process refers to counts against it
 *   FAKECUDA_DRIVER=stub     every call gives 34
 *   FAKECUDA_VERSION=N       the CUDA version of the driver (13000); it has no entry point of a
 * later one FAKECUDA_HIDE=NAME,...   entry points that cuGetProcAddress does not find
 *   FAKECUDA_ASYNC=MODE      when work of streams runs:
 *                            sync    not before a synchronise or query needs it, and then only what
 * is needed random  at any call, in a random order across streams thread  on a thread of the driver
 *   FAKECUDA_SEED=N          of the mode random, and of the order inside a batch
 *   FAKECUDA_FAIL=NAME:N[+][:CODE],...   the N-th call of NAME (with +: and all later) gives CODE
 * (999). NAME "work": the N-th operation of any stream fails and breaks its context
 *   FAKECUDA_HOST_ALIAS=1    the device pointer of registered memory is not the host pointer
 *   FAKECUDA_NO_READ_ONLY=1  memory cannot be registered read-only
 *   FAKECUDA_LOG=PATH        a line per call: "PID NAME", or "PID NAME refused CODE"
 */

#include <stdint.h>

/* Exported besides the driver's own names; found by dlsym (attach.h). */

/* As if the process had not yet used the driver. All memory of devices is unmapped. */
__attribute__((visibility("default"))) void fakecuda_reset(void);

/* Calls of an entry point since then, refused ones too; "work": operations carried out. */
__attribute__((visibility("default"))) uint64_t fakecuda_calls(const char *name);

/* Bytes that copies have moved since then, from host to device and back. */
__attribute__((visibility("default"))) uint64_t fakecuda_bytes_to_device(void);
__attribute__((visibility("default"))) uint64_t fakecuda_bytes_to_host(void);

#endif
