/* SPDX-License-Identifier: Apache-2.0 */

/* The program's say in how long a call waits: see interrupt.h. */

#include "host/interrupt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#include "host/error.h"
#include "pintable/pool.h"

/* The context is stored before the function that is called with it. A change while another thread
 * waits is the caller's to avoid (pool.h), so the two are never of different pairs. */
static _Atomic(pint_interrupt) function;
static _Atomic(void *) function_context;

static _Thread_local unsigned n_holds;

void pint_set_interrupt(pint_interrupt check, void *context)
{
    atomic_store_explicit(&function_context, context, memory_order_relaxed);
    /* release: the context comes before; pairs with pinti_is_interrupted() */
    atomic_store_explicit(&function, check, memory_order_release);
}

bool pinti_has_interrupt(void)
{
    /* relaxed: only looked at, not called */
    return n_holds == 0 && atomic_load_explicit(&function, memory_order_relaxed) != NULL;
}

bool pinti_is_interrupted(void)
{
    if (n_holds != 0) {
        return false;
    }
    /* acquire: its context; pairs with pint_set_interrupt() */
    const pint_interrupt check = atomic_load_explicit(&function, memory_order_acquire);
    if (check == NULL) {
        return false;
    }
    const int kept = errno;
    const bool ends = check(atomic_load_explicit(&function_context, memory_order_relaxed)) != 0;
    errno = kept;
    return ends;
}

pint_status pinti_fail_interrupted(const char *operation, pint_error *err)
{
    return pinti_fail(err, PINT_E_INTERRUPTED, 0, "%s: interrupted", operation);
}

void pinti_interrupt_hold(void)
{
    n_holds++;
}

void pinti_interrupt_release(void)
{
    n_holds--;
}
