/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAKECUDA_ATTACH_H
#define TESTS_FAKECUDA_ATTACH_H

/*
 * Using the fake driver in a test. The driver is loaded once per process, as ever; fake_begin()
 * puts it back to its beginnings, with settings of its own.
 *
 *     fake_begin((const char *const[]){"FAKECUDA_FAIL=cuMemCreate:2:2", NULL});
 *     ... pinti_cuda.mem_create(...)
 *     fake_end();
 */

#include "device/cuda_driver.h"
#include "tests/fakecuda/fakecuda.h"

#define FAKECUDA_PATH     FAKECUDA_DIR "/libcuda.so.1"
#define FAKECUDA_OLD_PATH FAKECUDA_DIR "/libcuda-old.so.1"

/* The fake's extensions; valid after fake_begin(). */
typedef struct fake_api {
    void (*reset)(void);
    uint64_t (*calls)(const char *name);
    uint64_t (*bytes_to_device)(void);
    uint64_t (*bytes_to_host)(void);
} fake_api;

extern fake_api fake;

/* Find the extensions of the fake that this process has loaded by the environment it was started
 * with: nothing is reset. False: no driver, or another one, is loaded. */
bool fake_find(void);

/* Set the environment to these settings alone (may be NULL), load, reset, cuInit(). Ends the
 * process when that fails: a test cannot go on. */
void fake_begin(const char *const *settings);

/* The same, then retain the primary context of device 0 and make it current. */
pinti_cu_context fake_begin_context(const char *const *settings);

/* Forget all, settings too. */
void fake_end(void);

#endif
