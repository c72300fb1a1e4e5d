/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOST_WAIT_H
#define HOST_WAIT_H

/*
 * Waiting for a word to move on (R22, tests/model/wait_bell.pml). A bell is {rings, asleep bit}.
 *
 *   waiter                            committer
 *   1 bell |= asleep (seq), keep it   a change the word (seq)
 *   2 look at the word again          b bell has asleep (seq)? then {n, 1} -> {n + 1, 0}, wake all
 *   3 sleep while bell is as kept
 *
 * Either 2 sees the change, or b sees the bit. The count matters: with a mere 0 or 1, a second
 * waiter could set the bell again between b and 3, and the first would sleep through its change.
 * The bit is cleared before the wake, and a committer that dies between the two is made up for by
 * the sweep, which rings every table the dead could have written. A waiter never sleeps longer than
 * half a second without looking again: a hostile peer can delay it by so much, and a dead service
 * is noticed. Between its sleeps it asks whether to give up (host/interrupt.h), but only after it
 * has looked: what has come is taken.
 */

#include "host/pool.h"

#define PINTI_WAIT_SLICE_MS 500

#define PINTI_BELL_ASLEEP 1u

void pinti_bell_ring_slow(pinti_bell *bell);

/* Wake all, asleep bit or not: for the sweep. */
void pinti_bell_ring_always(pinti_bell *bell);

static inline void pinti_bell_ring(pinti_bell *bell)
{
    /* seq: after the change of the word; pairs with step 1 */
    if (__builtin_expect((pinti_load32_seq(&bell->xbell) & PINTI_BELL_ASLEEP) != 0, 0)) {
        pinti_bell_ring_slow(bell);
    }
}

/* Returns true when there is nothing to wait for any more. */
typedef bool (*pinti_condition)(void *context);

/* Wait until condition(context), at most timeout_ms (-1: no limit, 0: look once) and not less.
 * need_service: also end with PINT_E_GONE when the service stays away. PINT_E_INTERRUPTED leaves
 * what PINT_E_TIMEOUT leaves: the condition was false when it was looked at last. */
pint_status pinti_wait(pint_pool *pool, pinti_bell *bell, pinti_condition condition, void *context,
                       int64_t timeout_ms, bool need_service, const char *operation,
                       pint_error *err);

int64_t pinti_now_ms(void); /* CLOCK_MONOTONIC */

#endif
