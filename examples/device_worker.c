/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The smallest complete device worker: join, open the device copy of a column, bring to the device
 * what is newer on the host, work there on a stream, and give it back for CPU workers to read.
 * usage: device_worker TABLE COLUMN [DEVICE]
 *
 * On "host" (the default) the work is done: a float64 column is standardised, (x - mean) / sd. A
 * kernel for a GPU needs a compiler for one: on "cuda:0" the column is brought to the GPU and it is
 * said where it is, which is all that is different. Start as many as you like: each chunk is moved
 * once, and workers that are killed leave their chunks as they were, or torn, never half done.
 */

#include <math.h>
#include <stdio.h>

#include <pintable/pintable.h>

/* What the kernel works on: addresses on the device, which only the device may follow. */
typedef struct work {
    double *values;
    uint64_t n_rows;
} work;

static void standardise(void *context)
{
    const work *w = context;
    double sum = 0;
    double squares = 0;
    for (uint64_t i = 0; i < w->n_rows; i++) {
        sum += w->values[i];
        squares += w->values[i] * w->values[i];
    }
    const double mean = sum / (double)w->n_rows;
    const double sd = sqrt(squares / (double)w->n_rows - mean * mean);
    for (uint64_t i = 0; i < w->n_rows; i++) {
        w->values[i] = sd > 0 ? (w->values[i] - mean) / sd : 0;
    }
}

/* One bracket: nothing of it blocks but the wait for chunks that others hold, until the last line.
 */
static pint_status work_once(pint_device *device, pint_copy *copy, uint64_t n_rows, int is_cuda,
                             pint_error *err)
{
    void *stream = NULL;
    const uint32_t access = is_cuda ? PINT_READ : PINT_READ | PINT_WRITE;
    work w = {(double *)(uintptr_t)pint_copy_values(copy), n_rows};
    pint_status status = pint_stream_create(device, &stream, err);
    if (status != PINT_OK) {
        return status;
    }
    status = pint_device_begin(copy, 0, PINT_ALL_ROWS, access, stream, -1, err);
    if (status == PINT_OK) {
        if (!is_cuda) { /* kernel<<<..., stream>>>(values, n_rows) where there is nvcc */
            status = pint_stream_call(device, stream, standardise, &w, err);
        }
        if (status == PINT_OK) {
            status = pint_device_end(copy, 0, PINT_ALL_ROWS, access, stream, err);
        }
    }
    if (status == PINT_OK) {
        status = pint_stream_wait(device, stream, err); /* w lives until here */
    }
    pint_stream_destroy(device, stream);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 4) {
        (void)fprintf(stderr, "usage: device_worker TABLE COLUMN [DEVICE]\n");
        return 64;
    }
    pint_error err = {0};
    pint_pool *pool = NULL;
    pint_table *table = NULL;
    pint_device *device = NULL;
    pint_copy *copy = NULL;
    pint_column column;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    uint64_t to_device = 0;
    uint64_t to_host = 0;
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
    if (pint_device_open(pool, argc == 4 ? argv[3] : "host", &device, &err) != PINT_OK ||
        pint_device_get_info(device, &info, &err) != PINT_OK ||
        pint_copy_open(device, &column, 0, PINT_WRITE, &copy, &err) != PINT_OK ||
        work_once(device, copy, pint_table_rows(table), info.is_cuda != 0, &err) != PINT_OK ||
        pint_copy_to_host(copy, 0, PINT_ALL_ROWS, -1, NULL, &err) != PINT_OK) {
        goto done;
    }
    pint_copy_moved(copy, &to_device, &to_host);
    (void)printf("%s: %llu bytes to the device, %llu back\n", info.name,
                 (unsigned long long)to_device, (unsigned long long)to_host);
    if (info.is_cuda) {
        (void)printf("column %s is at device address %#llx; there is no kernel here to change it\n",
                     argv[2], (unsigned long long)pint_copy_values(copy));
    } else {
        (void)printf("column %s is standardised, for everybody\n", argv[2]);
    }
    exit_status = 0;
done:
    if (exit_status != 0) {
        (void)fprintf(stderr, "device_worker: %s\n", err.message);
    }
    pint_copy_close(copy);
    pint_device_close(device);
    pint_table_close(table);
    pint_pool_leave(pool);
    return exit_status;
}
