/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_INTERRUPT_H
#define HOST_INTERRUPT_H

/*
 * Asking whether to give up a wait: pint_set_interrupt(). Every loop of the library that waits for
 * another process asks between its system calls, and ends with PINT_E_INTERRUPTED when told so. An
 * answer is given once: whoever asks passes it on, up to the caller of the library.
 */

#include <stdbool.h>

#include "pintable/status.h"

/* A thread that waits asks at least so often. */
#define PINTI_INTERRUPT_MS 100

/* Is there anybody to ask? If not, waits need not be cut short for it. */
bool pinti_has_interrupt(void);

/* Ask. True: end the call. Runs code of the program, which may take time and make calls of its own;
 * errno is kept. */
bool pinti_is_interrupted(void);

pint_status pinti_fail_interrupted(const char *operation, pint_error *err);

/* Between the two this thread does not ask: for calls that end something and cannot tell that they
 * were ended. Their waits are bounded. They nest. */
void pinti_interrupt_hold(void);
void pinti_interrupt_release(void);

#endif
