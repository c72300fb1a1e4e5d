/* SPDX-License-Identifier: Apache-2.0 */

/* Rounds, medians, and the lines they come out as. */

#include "bench/support/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/support/process.h"

#define PLACES       3u /* samples in a round */
#define ORDERS       6u
#define LINE_BYTES   1024
#define NUMBER_BYTES 32

static FILE *json; /* NULL: not wanted */

/* ---- numbers --------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct summary {
    double median;
    double p10;
    double p90;
};

/* Nearest value from below, so that each is one that was seen. */
static double at_fraction(const double *sorted, size_t n, double fraction)
{
    return sorted[(size_t)(fraction * (double)(n - 1) + 0.5)];
}

static struct summary summarise(const double *values, size_t n)
{
    double *sorted = bench_alloc(n * sizeof(*sorted));
    memcpy(sorted, values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_doubles);
    const struct summary result = {
        .median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2,
        .p10 = at_fraction(sorted, n, 0.1),
        .p90 = at_fraction(sorted, n, 0.9),
    };
    free(sorted);
    return result;
}

static double *ratios_of(const double *a, const double *b, size_t n)
{
    double *ratios = bench_alloc(n * sizeof(*ratios));
    for (size_t i = 0; i < n; i++) {
        ratios[i] = a[i] / b[i];
    }
    return ratios;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Text for inside of JSON quotes. */
static const char *escape(char out[LINE_BYTES], const char *text)
{
    size_t used = 0;
    for (; *text != '\0' && used + 3 < LINE_BYTES; text++) {
        if ((unsigned char)*text < ' ') {
            continue;
        }
        if (*text == '"' || *text == '\\') {
            out[used++] = '\\';
        }
        out[used++] = *text;
    }
    out[used] = '\0';
    return out;
}

/* Four significant digits, no exponent where a person reads it. */
static const char *show(char out[NUMBER_BYTES], double value)
{
    const double size = fabs(value);
    const int decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
    (void)snprintf(out, NUMBER_BYTES, "%.*f", decimals, value);
    return out;
}

static void show_target(const bench_spec *spec, char *out, size_t room)
{
    switch (spec->kind) {
    case BENCH_VALUE_MAX:
        (void)snprintf(out, room, "<= %g %s", spec->target, spec->unit);
        break;
    case BENCH_RATIO_MAX:
        (void)snprintf(out, room, "ratio <= %g", spec->target);
        break;
    case BENCH_RATIO_MIN:
        (void)snprintf(out, room, "ratio >= %g", spec->target);
        break;
    case BENCH_EXCESS_MAX:
        (void)snprintf(out, room, "<= baseline + %g %s", spec->target, spec->unit);
        break;
    case BENCH_NO_TARGET:
    default:
        out[0] = '\0';
        break;
    }
}

void bench_fact(const char *name, const char *format, ...)
{
    char text[LINE_BYTES];
    char escaped[LINE_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)printf("# %-14s %s\n", name, text);
    if (json != NULL) {
        (void)fprintf(json, "{\"fact\":\"%s\",\"value\":\"%s\"}\n", name, escape(escaped, text));
    }
}

struct row {
    const char *name;
    const char *unit;
    struct summary value;
    size_t n;
    const struct summary *baseline; /* NULL: none */
    const struct summary *ratio;    /* NULL: none */
    const char *target;
    const char *verdict;
};

static void print_row(const struct row *row)
{
    char numbers[5][NUMBER_BYTES] = {""};
    static bool has_header = false;
    if (!has_header) {
        (void)printf("%-24s %-7s %10s %10s %10s %5s %10s %7s  %s\n", "bench", "unit", "median",
                     "p10", "p90", "n", "baseline", "ratio", "target");
        has_header = true;
    }
    if (row->baseline != NULL) {
        (void)show(numbers[3], row->baseline->median);
    }
    if (row->ratio != NULL) {
        (void)show(numbers[4], row->ratio->median);
    }
    (void)printf("%-24s %-7s %10s %10s %10s %5zu %10s %7s  %s%s\n", row->name, row->unit,
                 show(numbers[0], row->value.median), show(numbers[1], row->value.p10),
                 show(numbers[2], row->value.p90), row->n, numbers[3], numbers[4], row->target,
                 row->verdict);
    (void)fflush(stdout);
}

static void print_json(const bench_spec *spec, const struct summary *value, size_t n,
                       const struct summary *baseline, const struct summary *ratio, bool is_met)
{
    char target[64];
    if (json == NULL) {
        return;
    }
    (void)fprintf(json,
                  "{\"bench\":\"%s\",\"unit\":\"%s\",\"value\":%.6g,\"p10\":%.6g,\"p90\":%.6g,"
                  "\"n\":%zu,",
                  spec->name, spec->unit, value->median, value->p10, value->p90, n);
    if (baseline != NULL) {
        (void)fprintf(json,
                      "\"baseline\":\"%s\",\"baseline_value\":%.6g,\"ratio\":%.4g,"
                      "\"ratio_p10\":%.4g,\"ratio_p90\":%.4g,",
                      spec->baseline, baseline->median, ratio->median, ratio->p10, ratio->p90);
    } else {
        (void)fprintf(json, "\"baseline\":null,\"baseline_value\":null,\"ratio\":null,"
                            "\"ratio_p10\":null,\"ratio_p90\":null,");
    }
    show_target(spec, target, sizeof(target));
    if (spec->kind == BENCH_NO_TARGET) {
        (void)fprintf(json, "\"target\":null,\"met\":null}\n");
    } else {
        (void)fprintf(json, "\"target\":\"%s\",\"met\":%s}\n", target, is_met ? "true" : "false");
    }
    (void)fflush(json);
}

static double median_excess(const double *ours, const double *baseline, size_t n)
{
    double *excess = bench_alloc(n * sizeof(*excess));
    for (size_t i = 0; i < n; i++) {
        excess[i] = ours[i] - baseline[i];
    }
    const double median = summarise(excess, n).median;
    free(excess);
    return median;
}

static bool is_met(const bench_spec *spec, double value, double ratio, double excess)
{
    switch (spec->kind) {
    case BENCH_VALUE_MAX:
        return value <= spec->target;
    case BENCH_RATIO_MAX:
        return ratio <= spec->target;
    case BENCH_RATIO_MIN:
        return ratio >= spec->target;
    case BENCH_EXCESS_MAX:
        return excess <= spec->target;
    case BENCH_NO_TARGET:
    default:
        return true;
    }
}

void bench_report(const bench_spec *spec, const double *ours, const double *baseline, size_t n)
{
    struct summary base = {0};
    struct summary ratio = {0};
    char target[NUMBER_BYTES * 2];
    double excess = 0;
    struct row row = {.name = spec->name,
                      .unit = spec->unit,
                      .value = summarise(ours, n),
                      .n = n,
                      .target = target,
                      .verdict = ""};
    if (baseline != NULL) {
        double *ratios = ratios_of(ours, baseline, n);
        base = summarise(baseline, n);
        ratio = summarise(ratios, n);
        excess = median_excess(ours, baseline, n);
        free(ratios);
        row.baseline = &base;
        row.ratio = &ratio;
    }
    const bool met = is_met(spec, row.value.median, ratio.median, excess);
    show_target(spec, target, sizeof(target));
    if (spec->kind != BENCH_NO_TARGET) {
        row.verdict = met ? ": met" : ": MISSED";
    }
    print_row(&row);
    print_json(spec, &row.value, n, row.baseline, row.ratio, met);
}

void bench_report_noise(const bench_spec *spec, const double *first, const double *second, size_t n)
{
    char name[128];
    double *ratios = ratios_of(second, first, n);
    const struct row row = {.name = "  baseline / baseline",
                            .unit = "ratio",
                            .value = summarise(ratios, n),
                            .n = n,
                            .target = "",
                            .verdict = ""};
    (void)snprintf(name, sizeof(name), "%s/aa", spec->name);
    const bench_spec line = {.name = name, .unit = "ratio", .kind = BENCH_NO_TARGET};
    print_row(&row);
    print_json(&line, &row.value, n, NULL, NULL, true);
    free(ratios);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

void bench_measure(const bench_spec *spec, bench_sample ours, bench_sample baseline, void *context)
{
    enum { OURS, BASE, AGAIN };
    /* so that each is in each place, and after each other, equally often */
    static const unsigned order[ORDERS][PLACES] = {{OURS, BASE, AGAIN}, {OURS, AGAIN, BASE},
                                                   {BASE, AGAIN, OURS}, {AGAIN, BASE, OURS},
                                                   {BASE, OURS, AGAIN}, {AGAIN, OURS, BASE}};
    const unsigned n = spec->n_rounds;
    double *samples[PLACES];
    BENCH_CHECK(n > 0);
    for (unsigned i = 0; i < PLACES; i++) {
        samples[i] = bench_alloc(n * sizeof(double));
    }
    for (unsigned round = 0; round < spec->n_warm + n; round++) {
        for (unsigned place = 0; place < PLACES; place++) {
            const unsigned which = order[round % ORDERS][place];
            if (baseline == NULL && which != OURS) {
                continue;
            }
            const double sample = which == OURS ? ours(context) : baseline(context);
            if (round >= spec->n_warm) {
                samples[which][round - spec->n_warm] = sample;
            }
        }
    }
    bench_report(spec, samples[OURS], baseline != NULL ? samples[BASE] : NULL, n);
    if (baseline != NULL) {
        bench_report_noise(spec, samples[BASE], samples[AGAIN], n);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        free(samples[i]);
    }
}

/* ---- small things ---------------------------------------------------------------------------- */

uint64_t bench_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_pause_us(uint64_t us)
{
    const struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                                  .tv_nsec = (long)(us % 1000000) * 1000};
    (void)nanosleep(&time, NULL);
}

void bench_die(const char *format, ...)
{
    va_list args;
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

void *bench_alloc(size_t bytes)
{
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    if (p == NULL) {
        bench_die("out of memory: %zu bytes", bytes);
    }
    return p;
}

int bench_main(int argc, char **argv, void (*run)(void), const bench_role *roles, size_t n_roles)
{
    if (argc == 3 && strcmp(argv[1], BENCH_ROLE_OPTION) == 0) {
        for (size_t i = 0; i < n_roles; i++) {
            if (strcmp(argv[2], roles[i].name) == 0) {
                roles[i].body();
                return EXIT_SUCCESS;
            }
        }
        bench_die("no role %s", argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "--json") == 0) {
        json = fopen(argv[2], "ae");
        if (json == NULL) {
            bench_die("%s: %s", argv[2], strerror(errno));
        }
    } else if (argc != 1) {
        (void)fprintf(stderr, "usage: %s [--json FILE]\n", argv[0]);
        return 64;
    }
    bench_processes_start();
    run();
    bench_processes_end();
    if (json != NULL && fclose(json) != 0) {
        bench_die("%s: %s", argv[2], strerror(errno));
    }
    return EXIT_SUCCESS;
}
