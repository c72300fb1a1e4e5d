/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the figures were taken on. No measurement, but for the pages that a pool gets here: the
 * baselines of other benches use the same kind.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define CLOCK_READS 100000u

/* The rest of the first line of a file that starts with prefix, past blanks and ':'. */
static void fact_from(const char *name, const char *path, const char *prefix)
{
    char line[512];
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, prefix, strlen(prefix)) == 0) {
            char *text = line + strlen(prefix);
            text += strspn(text, " \t:");
            text[strcspn(text, "\n")] = '\0';
            bench_fact(name, "%s", text);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void fact_pool_pages(void)
{
    const uint64_t rows = 1ull << 23;
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    pint_table *table = bench_table(pool, "pages", PINT_INT64, 1, rows, 0, PINT_UNINITIALISED);
    const pint_column column = bench_column(table, 0);
    memset(pint_column_values(&column), 1, rows * 8);
    bench_fact("pool_pages", "%s", bench_pages_of(pint_column_values(&column)));
    pint_table_close(table);
    pint_pool_leave(pool);
    bench_service_stop();
}

static void run(void)
{
    struct utsname kernel;
    (void)uname(&kernel);
    const char *commit = getenv("BENCH_COMMIT");
    fact_from("cpu", "/proc/cpuinfo", "model name");
    bench_fact("cpus", "%u", bench_n_cpus());
    bench_fact("memory_gib", "%.1f available", (double)bench_memory_available() / (1u << 30));
    bench_fact("kernel", "%s %s", kernel.release, kernel.machine);
    fact_from("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource",
              "");
    fact_from("thp", "/sys/kernel/mm/transparent_hugepage/enabled", "");
    fact_from("thp_shmem", "/sys/kernel/mm/transparent_hugepage/shmem_enabled", "");
    fact_from("load", "/proc/loadavg", "");
    bench_fact("compiler", "%s", __VERSION__);
    bench_fact("commit", "%s", commit != NULL && commit[0] != '\0' ? commit : "none");
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < CLOCK_READS; i++) {
        (void)bench_now_ns();
    }
    bench_fact("clock_ns", "%.1f a reading", (double)(bench_now_ns() - start) / CLOCK_READS);
    fact_pool_pages();
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, NULL, 0);
}
