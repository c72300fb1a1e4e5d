/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker for docker/check.sh: doubles every value of a float64 column, chunk by chunk.
 *
 * usage: chunk_worker TABLE COLUMN          says each chunk it has done, then how many
 *        chunk_worker TABLE COLUMN --hold   overwrites the first half of one chunk with rubbish,
 *                                           says so, and waits to be killed
 *
 * It is compiled apart, against an installed pintable: it stands on the public API alone.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <pintable/pintable.h>

#define JOB     "double"
#define RUBBISH (-1e300)

static int fail(const char *what, const pint_error *err)
{
    (void)fprintf(stderr, "chunk_worker: %s: %s\n", what, err->message);
    return 1;
}

/* Does not return while the process lives. */
static void hold(double *values, const pint_lease *lease)
{
    for (uint64_t row = lease->first; row < lease->first + lease->n_rows / 2; row++) {
        values[row] = RUBBISH;
    }
    (void)printf("holding chunk %" PRIu64 "\n", lease->chunk);
    (void)fflush(stdout);
    while (true) {
        (void)pause();
    }
}

static int work(pint_job *job, double *values, bool is_holder)
{
    pint_error err = {0};
    pint_lease lease;
    pint_status status;
    uint64_t n = 0;
    while ((status = pint_job_next(job, &lease, &err)) == PINT_OK) {
        if (is_holder) {
            hold(values, &lease);
        }
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            values[row] *= 2;
        }
        status = pint_job_done(job, &lease, &err);
        if (status != PINT_OK) {
            return fail("done", &err);
        }
        (void)printf("did chunk %" PRIu64 "\n", lease.chunk);
        (void)fflush(stdout);
        n++;
    }
    if (status != PINT_FINISHED) {
        return fail("next", &err);
    }
    (void)printf("%" PRIu64 " chunks\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    const bool is_holder = argc == 4 && strcmp(argv[3], "--hold") == 0;
    if (argc != 3 && !is_holder) {
        (void)fprintf(stderr, "usage: chunk_worker TABLE COLUMN [--hold]\n");
        return 64;
    }
    pint_error err = {0};
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_column column;
    const pint_use use = {argv[2], PINT_INOUT, 0};
    int exit_status = 1;
    if (pint_pool_join(NULL, NULL, &pool, &err) != PINT_OK) {
        (void)fail("join", &err);
    } else if (pint_table_open(pool, argv[1], PINT_WRITE, &table, &err) != PINT_OK ||
               pint_table_column(table, argv[2], &column, &err) != PINT_OK) {
        (void)fail("open", &err);
    } else if (column.type != PINT_FLOAT64) {
        (void)fprintf(stderr, "chunk_worker: column '%s' is not float64\n", argv[2]);
    } else if (pint_job_create(table, JOB, &use, 1, &job, &err) != PINT_OK) {
        (void)fail("job", &err);
    } else {
        exit_status = work(job, pint_column_values(&column), is_holder);
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    return exit_status;
}
