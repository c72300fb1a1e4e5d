/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_DEVICE_DEVICE_WORLD_H
#define TESTS_DEVICE_DEVICE_WORLD_H

/* A real service, one table, and its column x on device "host". */

#include "device/host_backend.h"
#include "device/internal.h"
#include "tests/ipc/live.h"

#define WORLD_CHUNK_ROWS 1024u

typedef struct world {
    pint_pool *pool;
    pint_table *table; /* t: id int64, x float64, b bool and n float32, both nullable */
    pint_column x;
    pint_device *device;
    pint_copy *copy; /* of x, to write */
    void *stream;
} world;

/* Start a service, make and publish table "t" of some rows: x[i] = i. */
void world_set_up(world *w, uint64_t rows);
void world_tear_down(world *w);

/* Join, open table and column, device and copy: in another process. False: live_err says why. */
bool world_join(world *w, const char *address, uint32_t access);
void world_leave(world *w);

/* Kernels: with a world as their context, on all rows of x on the device. */
double world_device_sum(world *w, uint64_t first, uint64_t n_rows);
void world_device_add(world *w, uint64_t first, uint64_t n_rows, double what);

/* Plain values of x on host and device. */
double *world_host(const world *w);
double *world_device(const world *w);

/* A stream that does not get on until it is let go. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    bool is_reached;
} gate;
void gate_put(gate *g, world *w, void *stream);
void gate_await(gate *g);
void gate_open(gate *g);

/* A lease on a chunk of x, value written to all its rows, committed. */
void world_host_write(world *w, uint64_t chunk, double value);

/* Wait until chunk places are as said. */
bool world_places(world *w, uint64_t chunk, uint32_t places);

#endif
