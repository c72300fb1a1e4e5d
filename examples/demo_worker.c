/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker process of the demo: attaches, waits for the moments, takes chunks until there are none,
 * and tells its parent what that took.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "demo.h"

#define VICTIM_CHUNK 0u /* in which of its chunks the one dies that must, counted from 0 */

static uint64_t rollup_kib(const char *field)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    uint64_t kib = 0;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const size_t n = strlen(field);
        if (strncmp(line, field, n) == 0 && line[n] == ':') {
            kib += strtoull(line + n + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib;
}

static uint64_t private_bytes(void)
{
    return rollup_kib("Anonymous") * 1024;
}

int worker_main(bool is_victim, int from_parent, int to_parent)
{
    pint_error err;
    report r = {0};
    static work w; /* large */
    const uint64_t before = private_bytes();
    const double start = now_s();
    pint_pool *pool;
    TRY(pint_pool_join(NULL, NULL, &pool, &err));
    pint_table *table;
    TRY(pint_table_open(pool, TABLE, PINT_WRITE, &table, &err));
    find_columns(table, &w);
    r.attach_s = now_s() - start;
    const uint64_t after = private_bytes();
    r.attach_bytes = after > before ? after - before : 0;
    if (read(from_parent, w.moments, sizeof(w.moments)) != (ssize_t)sizeof(w.moments)) {
        die("worker: no moments", NULL);
    }
    pint_job *job = join_job(table, &w);
    pint_lease lease;
    pint_status status;
    while ((status = pint_job_next(job, &lease, &err)) == PINT_OK) {
        const double t = now_s();
        do_chunk(&w, &lease, is_victim && r.n_chunks == VICTIM_CHUNK);
        TRY(pint_job_done(job, &lease, &err));
        r.busy_s += now_s() - t;
        r.n_chunks++;
    }
    if (status != PINT_FINISHED) {
        die("worker: next", &err);
    }
    r.pss_bytes = rollup_kib("Pss") * 1024;
    r.private_bytes = private_bytes();
    if (write(to_parent, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        return 1;
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    return 0;
}
