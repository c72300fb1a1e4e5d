/* SPDX-License-Identifier: Apache-2.0 */

/* What the demo prints. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "demo.h"

double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

void line(const char *what, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)printf("  %-28s %s\n", what, text);
}

static int compare_seconds(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

void print_facts(const facts *f, const worker *workers)
{
    double attach[WORKERS_MAX];
    uint64_t pss = 0;
    uint64_t attach_bytes = 0;
    int n = 0;
    for (int i = 0; i < f->n_workers; i++) {
        if (workers[i].has_report) {
            attach[n] = workers[i].r.attach_s;
            pss += workers[i].r.pss_bytes;
            attach_bytes += workers[i].r.attach_bytes;
            n++;
        }
    }
    qsort(attach, (size_t)n, sizeof(attach[0]), compare_seconds);
    const double median = n == 0 ? 0 : attach[n / 2];
    n = n == 0 ? 1 : n;
    (void)printf("\n");
    line("table", "%" PRIu64 " rows, %" PRIu64 " columns, %.1f MiB, %" PRIu64 " nulls", f->rows,
         f->columns, mib(f->bytes), f->n_null);
    line("load from CSV", "%.2f s", f->load_s);
    line("scan for mean, deviation", "%.1f ms", f->scan_s * 1e3);
    line("job, in place", "%.1f ms with %d workers, %.2f GB/s read and written", f->job_s * 1e3,
         f->n_workers, (double)f->touched / f->job_s * 1e-9);
    line("the same in one process", "%.1f ms", f->single_s * 1e3);
    line("attach (join, open)",
         "%.0f us (median); table bytes copied: 0 of %" PRIu64 ", private memory added: %.2f MiB",
         median * 1e6, f->bytes, mib(attach_bytes) / n);
    line("memory a worker", "PSS %.1f MiB, against %.1f MiB for a private copy of the table",
         mib(pss) / n, mib(f->bytes));
    line("chunks", "%" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " redone", f->progress.n_done,
         f->progress.n_failed, f->progress.n_redone);
    line("killed",
         f->killed >= 0 ? "worker %d, its chunk put back and done by another"
                        : "nobody (the job was over too soon)%.0d",
         f->killed);
    line("result", f->differences == 0 ? "identical to the single-process result, bit for bit"
                                       : "WRONG: values differ");
}

/* ---- progress -------------------------------------------------------------------------------- */

static bool is_terminal(void)
{
    return isatty(STDOUT_FILENO) == 1;
}

void show_progress(const pint_job_progress *p, uint32_t n_live)
{
    const int width = 40;
    const int full = p->n_chunks == 0 ? width : (int)(p->n_done * (uint64_t)width / p->n_chunks);
    if (!is_terminal()) {
        return;
    }
    (void)printf("\r  [");
    for (int i = 0; i < width; i++) {
        (void)fputs(i < full ? "█" : "·", stdout);
    }
    (void)printf("] %" PRIu64 "/%" PRIu64 " chunks, %u workers, %" PRIu64 " redone ", p->n_done,
                 p->n_chunks, n_live, p->n_redone);
    (void)fflush(stdout);
}

void hide_progress(void)
{
    if (is_terminal()) {
        (void)printf("\r\033[K");
    }
}
