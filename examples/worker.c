/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The smallest complete CPU worker: join, open, take chunks until there are none, leave.
 * usage: worker TABLE COLUMN      doubles every value of a float64 column, each exactly once,
 *                                 however many of these run at once and whichever are killed
 */

#include <stdio.h>

#include <pintable/pintable.h>

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "usage: worker TABLE COLUMN\n");
        return 64;
    }
    pint_error err = {0};
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_job *job = NULL;
    pint_column column;
    const pint_use use = {argv[2], PINT_INOUT, 0};
    pint_lease lease;
    unsigned n_chunks = 0;
    int exit_status = 1;

    if (pint_pool_join(NULL, NULL, &pool, &err) != PINT_OK ||
        pint_table_open(pool, argv[1], PINT_WRITE, &table, &err) != PINT_OK ||
        pint_table_column(table, argv[2], &column, &err) != PINT_OK) {
        goto done;
    }
    if (column.type != PINT_FLOAT64) {
        (void)snprintf(err.message, sizeof(err.message), "column '%s' is not float64", argv[2]);
        goto done;
    }
    if (pint_job_create(table, "double", &use, 1, &job, &err) != PINT_OK) {
        goto done;
    }
    double *values = pint_column_values(&column);
    pint_status status;
    while ((status = pint_job_next(job, &lease, &err)) == PINT_OK) {
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            values[row] *= 2; /* dies here? the chunk's old values come back, another does it */
        }
        if (pint_job_done(job, &lease, &err) != PINT_OK) {
            goto done;
        }
        n_chunks++;
    }
    exit_status = status == PINT_FINISHED ? 0 : 1;
done:
    if (exit_status != 0) {
        (void)fprintf(stderr, "worker: %s\n", err.message);
    } else {
        (void)printf("worker: doubled %u chunks of column %s\n", n_chunks, argv[2]);
    }
    pint_job_close(job);
    pint_table_close(table);
    pint_pool_leave(pool);
    return exit_status;
}
