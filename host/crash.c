/* SPDX-License-Identifier: Apache-2.0 */

/* Crash points for tests: see crash.h. One process-wide armed point. */

#include "host/crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/atomic.h"

static const char *const crash_names[] = {"NONE",
#define PINTI_CRASHPOINT_NAME(name) #name,
                                          PINTI_CRASHPOINT_MAP(PINTI_CRASHPOINT_NAME)
#undef PINTI_CRASHPOINT_NAME
};

static pinti_a32 crash_point; /* armed point */
static pinti_a32 crash_left;  /* passes left before death */

const char *pinti_crash_name(enum pinti_crash_point point)
{
    return (unsigned)point < PINTI_CRASH_COUNT ? crash_names[point] : "unknown";
}

void pinti_crash_arm(enum pinti_crash_point point, unsigned nth)
{
    pinti_store32_seq(&crash_left, nth == 0 ? 1 : nth);
    pinti_store32_seq(&crash_point, (uint32_t)point);
}

#if PINT_CRASHPOINTS
__attribute__((constructor)) static void crash_arm_from_environment(void)
{
    const char *text = getenv("PINTABLE_CRASH");
    if (text == NULL) {
        return;
    }
    const size_t name_bytes = strcspn(text, ":");
    for (unsigned i = 1; i < PINTI_CRASH_COUNT; i++) {
        if (strlen(crash_names[i]) == name_bytes && memcmp(crash_names[i], text, name_bytes) == 0) {
            const char *nth = text + name_bytes;
            pinti_crash_arm((enum pinti_crash_point)i,
                            *nth == ':' ? (unsigned)strtoul(nth + 1, NULL, 10) : 1);
        }
    }
}

void pinti_crash_pass(enum pinti_crash_point point)
{
    /* relaxed: only the thread that armed it, or the process's start, must be seen */
    if (pinti_load32_relaxed(&crash_point) != (uint32_t)point) {
        return;
    }
    if (atomic_fetch_sub_explicit(&crash_left, 1, memory_order_relaxed) == 1) {
        (void)kill(getpid(), SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
}
#endif
