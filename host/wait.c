/* SPDX-License-Identifier: Apache-2.0 */

/* Bells and waiting: see wait.h. */

#include "host/wait.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"

int64_t pinti_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void wake_all(pinti_bell *bell)
{
    (void)syscall(SYS_futex, &bell->xbell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void pinti_bell_ring_slow(pinti_bell *bell)
{
    uint32_t now = pinti_load32_relaxed(&bell->xbell); /* relaxed: the swap checks it */
    while ((now & PINTI_BELL_ASLEEP) != 0) {
        /* {n, 1} -> {n + 1, 0}: one committer wins and wakes all; who loses sees the bit gone */
        if (pinti_cas32_seq(&bell->xbell, &now, now + 1)) {
            wake_all(bell);
            return;
        }
    }
}

void pinti_bell_ring_always(pinti_bell *bell)
{
    uint32_t now = pinti_load32_relaxed(&bell->xbell);
    while (!pinti_cas32_seq(&bell->xbell, &now, (now | PINTI_BELL_ASLEEP) + 1)) {
        /* now is the newer value */
    }
    wake_all(bell);
}

/* Step 1: the value to sleep on. */
static uint32_t announce(pinti_bell *bell)
{
    return atomic_fetch_or_explicit(&bell->xbell, PINTI_BELL_ASLEEP, memory_order_seq_cst) |
           PINTI_BELL_ASLEEP;
}

/* Wakes, times out, is ended by a signal, or finds the bell rung: each means "look again". True: it
 * was a signal. */
static bool sleep_on(pinti_bell *bell, uint32_t as_kept, int64_t ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    return syscall(SYS_futex, &bell->xbell, FUTEX_WAIT, as_kept, &time, NULL, 0) != 0 &&
           errno == EINTR;
}

pint_status pinti_wait(pint_pool *pool, pinti_bell *bell, pinti_condition condition, void *context,
                       int64_t timeout_ms, bool need_service, const char *operation,
                       pint_error *err)
{
    if (condition(context)) {
        return PINT_OK;
    }
    const int64_t start = now_us();
    int64_t next_look = pinti_now_ms() + PINTI_WAIT_SLICE_MS;
    int64_t next_question = pinti_now_ms() + PINTI_INTERRUPT_MS;
    for (;;) {
        int64_t slice = pinti_has_interrupt() ? PINTI_INTERRUPT_MS : PINTI_WAIT_SLICE_MS;
        if (timeout_ms >= 0) {
            const int64_t left = timeout_ms - (now_us() - start) / 1000; /* rounded up */
            if (left <= 0) {
                return pinti_fail(err, PINT_E_TIMEOUT, 0, "%s: nothing within %" PRId64 " ms",
                                  operation, timeout_ms);
            }
            slice = left < slice ? left : slice;
        }
        const uint32_t as_kept = announce(bell);
        if (condition(context)) {
            return PINT_OK;
        }
        const bool was_signal = sleep_on(bell, as_kept, slice);
        if (condition(context)) {
            return PINT_OK;
        }
        /* not after every wake-up: a busy table wakes us thousands of times a second */
        if (was_signal || pinti_now_ms() >= next_question) {
            if (pinti_is_interrupted()) {
                return pinti_fail_interrupted(operation, err);
            }
            next_question = pinti_now_ms() + PINTI_INTERRUPT_MS;
        }
        if (need_service && pinti_now_ms() >= next_look) {
            const pint_status status = pool->ops->alive(pool, err);
            if (status != PINT_OK) {
                return status;
            }
            next_look = pinti_now_ms() + PINTI_WAIT_SLICE_MS;
        }
    }
}
