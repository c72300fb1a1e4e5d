/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SUPPORT_BENCH_H
#define BENCH_SUPPORT_BENCH_H

/*
 * Measuring one thing against its bare counterpart on a machine that is not quiet.
 *
 * A comparison runs rounds of three samples: ours, the baseline, and the baseline again, each in
 * every place of the round equally often. A round gives one ratio ours / baseline and one ratio
 * baseline / baseline (the A/A line: what the machine's noise alone does). Reported are medians.
 *
 * A sample checks its own result and ends the program when it is wrong: no number without a check.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pintable/pintable.h"

/* What must hold, about the median of the samples or of the ratios of the rounds. */
enum bench_target {
    BENCH_NO_TARGET,
    BENCH_VALUE_MAX, /* value <= target */
    BENCH_RATIO_MAX, /* ratio <= target */
    BENCH_RATIO_MIN, /* ratio >= target */
    BENCH_EXCESS_MAX /* value - baseline <= target, in the unit */
};

typedef struct bench_spec {
    const char *name;
    const char *unit;     /* of samples: "ns", "us", "ms", "GB/s", "items/s" */
    const char *baseline; /* its name; NULL for none */
    enum bench_target kind;
    double target;
    unsigned n_rounds;
    unsigned n_warm; /* rounds run first and dropped */
} bench_spec;

/* Returns one sample in the unit. */
typedef double (*bench_sample)(void *context);

/* Measure and report. ours only, or ours against baseline. */
void bench_measure(const bench_spec *spec, bench_sample ours, bench_sample baseline, void *context);

/* Report samples taken some other way; baseline may be NULL. Rounds dropped are not among them. */
void bench_report(const bench_spec *spec, const double *ours, const double *baseline, size_t n);

/* The A/A line: ratios of two samples of the baseline. */
void bench_report_noise(const bench_spec *spec, const double *first, const double *second,
                        size_t n);

/* A fact about the machine or the run. */
void bench_fact(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* CLOCK_MONOTONIC, ns. */
uint64_t bench_now_ns(void);

/* Wait without running, about so long. */
void bench_pause_us(uint64_t us);

/* What a pointer leads to may be read and written here, as far as the compiler knows. */
static inline void bench_touch(const void *p)
{
    __asm__("" : : "r"(p) : "memory");
}

/* Say why and end the program, with what it started. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void bench_expect_ok(pint_status status, const pint_error *err, const char *file,
                                   int line)
{
    if (__builtin_expect(status != PINT_OK, 0)) {
        bench_die("%s:%d: %s: %s", file, line, pint_status_name(status), err->message);
    }
}

/* The call must succeed. `err_` is the pint_error it was given. */
#define BENCH_OK(call_, err_) bench_expect_ok((call_), (err_), __FILE__, __LINE__)

#define BENCH_CHECK(condition_)                                                                    \
    ((condition_) ? (void)0 : bench_die("%s:%d: wrong result: %s", __FILE__, __LINE__, #condition_))

/* Zeroed; does not fail. */
void *bench_alloc(size_t bytes);

/*
 * A program: bench_main() takes the arguments apart (--json FILE: append JSON lines there; without
 * it they are not written), and calls run(), or in a child started by bench_spawn() the role's
 * body.
 */
typedef struct bench_role {
    const char *name;
    void (*body)(void); /* talks by bench_child_*(); returns to exit */
} bench_role;

int bench_main(int argc, char **argv, void (*run)(void), const bench_role *roles, size_t n_roles);

#endif
