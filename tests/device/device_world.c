/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/device/device_world.h"

#include <stdlib.h>
#include <string.h>

/* "host", or what the environment of the test says. */
static const char *world_device_name(void)
{
    const char *name = getenv("PINT_TEST_DEVICE");
    return name != NULL ? name : "host";
}

static pint_status create(world *w, uint64_t rows)
{
    pint_field fields[4] = {live_field("id", PINT_INT64), live_field("x", PINT_FLOAT64),
                            live_field("b", PINT_BOOL), live_field("n", PINT_FLOAT32)};
    fields[2].flags = PINT_NULLABLE;
    fields[3].flags = PINT_NULLABLE;
    pint_schema schema = PINT_SCHEMA_INIT;
    schema.fields = fields;
    schema.n_fields = 4;
    schema.chunk_rows = WORLD_CHUNK_ROWS;
    return pint_table_create(w->pool, "t", &schema, rows, &w->table, &live_err);
}

static void open_device(world *w, uint32_t access)
{
    ASSERT_OK(pint_device_open(w->pool, world_device_name(), &w->device, &live_err), &live_err);
    ASSERT_OK(pint_copy_open(w->device, &w->x, 0, access, &w->copy, &live_err), &live_err);
    ASSERT_OK(pint_stream_create(w->device, &w->stream, &live_err), &live_err);
}

void world_set_up(world *w, uint64_t rows)
{
    *w = (world){0};
    live_set_up();
    ASSERT_OK(live_join(ct_tmpdir(), 0, &w->pool), &live_err);
    ASSERT_OK(create(w, rows), &live_err);
    ASSERT_OK(pint_table_column(w->table, "x", &w->x, &live_err), &live_err);
    for (uint64_t i = 0; i < rows; i++) {
        ((double *)w->x.values)[i] = (double)i;
    }
    ASSERT_OK(pint_table_publish(w->table, 0, &live_err), &live_err);
    ASSERT_NO_FATAL(open_device(w, PINT_WRITE));
}

void world_leave(world *w)
{
    pint_stream_destroy(w->device, w->stream);
    pint_copy_close(w->copy);
    pint_device_close(w->device);
    pint_table_close(w->table);
    pint_pool_leave(w->pool);
}

void world_tear_down(world *w)
{
    world_leave(w);
    live_stop();
}

bool world_join(world *w, const char *address, uint32_t access)
{
    *w = (world){0};
    return live_join(address, PINT_JOIN_NO_START, &w->pool) == PINT_OK &&
           pint_table_open(w->pool, "t", access, &w->table, &live_err) == PINT_OK &&
           pint_table_column(w->table, "x", &w->x, &live_err) == PINT_OK &&
           pint_device_open(w->pool, world_device_name(), &w->device, &live_err) == PINT_OK &&
           pint_copy_open(w->device, &w->x, 0, access, &w->copy, &live_err) == PINT_OK &&
           pint_stream_create(w->device, &w->stream, &live_err) == PINT_OK;
}

double *world_host(const world *w)
{
    return w->x.values;
}

double *world_device(const world *w)
{
    return (double *)(uintptr_t)pint_copy_values(w->copy);
}

/* ---- kernels --------------------------------------------------------------------------------- */

typedef struct kernel {
    double *values;
    uint64_t first;
    uint64_t n_rows;
    double number;
} kernel;

static void run_sum(void *context)
{
    kernel *k = context;
    for (uint64_t i = k->first; i < k->first + k->n_rows; i++) {
        k->number += k->values[i];
    }
}

static void run_add(void *context)
{
    const kernel *k = context;
    for (uint64_t i = k->first; i < k->first + k->n_rows; i++) {
        k->values[i] += k->number;
    }
}

double world_device_sum(world *w, uint64_t first, uint64_t n_rows)
{
    kernel k = {world_device(w), first, n_rows, 0};
    EXPECT_OK(pint_stream_call(w->device, w->stream, run_sum, &k, &live_err), &live_err);
    EXPECT_OK(pint_stream_wait(w->device, w->stream, &live_err), &live_err);
    return k.number;
}

void world_device_add(world *w, uint64_t first, uint64_t n_rows, double what)
{
    kernel k = {world_device(w), first, n_rows, what};
    EXPECT_OK(pint_stream_call(w->device, w->stream, run_add, &k, &live_err), &live_err);
    EXPECT_OK(pint_stream_wait(w->device, w->stream, &live_err), &live_err);
}

/* ---- gates ----------------------------------------------------------------------------------- */

static void run_gate(void *context)
{
    gate *g = context;
    (void)pthread_mutex_lock(&g->lock);
    g->is_reached = true;
    (void)pthread_cond_broadcast(&g->changed);
    while (!g->is_open) {
        (void)pthread_cond_wait(&g->changed, &g->lock);
    }
    (void)pthread_mutex_unlock(&g->lock);
}

void gate_put(gate *g, world *w, void *stream)
{
    *g = (gate){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    EXPECT_OK(pint_stream_call(w->device, stream, run_gate, g, &live_err), &live_err);
}

void gate_await(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    while (!g->is_reached) {
        (void)pthread_cond_wait(&g->changed, &g->lock);
    }
    (void)pthread_mutex_unlock(&g->lock);
}

void gate_open(gate *g)
{
    (void)pthread_mutex_lock(&g->lock);
    g->is_open = true;
    (void)pthread_cond_broadcast(&g->changed);
    (void)pthread_mutex_unlock(&g->lock);
}

/* ---- the host's side ------------------------------------------------------------------------- */

void world_host_write(world *w, uint64_t chunk, double value)
{
    pint_lease lease;
    ASSERT_OK(pint_lease_claim(&w->x, 1, chunk, PINT_OUT, 10000, &lease, &live_err), &live_err);
    for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
        world_host(w)[row] = value;
    }
    ASSERT_OK(pint_lease_commit(&lease, &live_err), &live_err);
}

bool world_places(world *w, uint64_t chunk, uint32_t places)
{
    return ct_eventually(pint_copy_places(w->copy, chunk) == places, 10000);
}
