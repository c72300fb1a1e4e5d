/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/device/bad/scenario.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RW      (PINT_READ | PINT_WRITE)
#define WAIT_MS 10000

bool scenario_join(world *w, const char *address)
{
    *w = (world){0};
    return live_join(address, 0, &w->pool) == PINT_OK &&
           pint_table_open(w->pool, "t", PINT_WRITE, &w->table, &live_err) == PINT_OK &&
           pint_table_column(w->table, "x", &w->x, &live_err) == PINT_OK;
}

void scenario_leave(world *w)
{
    pint_table_close(w->table);
    pint_pool_leave(w->pool);
}

/* ---- the steps ------------------------------------------------------------------------------- */

/* Note where it ended. True: go on. */
static bool step(scenario_end *end, const char *name, pint_status status)
{
    end->step = name;
    end->status = status;
    return status == PINT_OK;
}

static void add_one(void *context)
{
    double *x = context;
    for (uint32_t i = 0; i < SCENARIO_ROWS; i++) {
        x[i] += 1;
    }
}

typedef struct total {
    const double *x;
    double sum;
} total;

static void sum_up(void *context)
{
    total *t = context;
    for (uint32_t i = 0; i < SCENARIO_ROWS; i++) {
        t->sum += t->x[i];
    }
}

static bool open_all(world *w, uint32_t kind, uint32_t access, scenario_end *end)
{
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    return step(end, "open device", pint_device_open(w->pool, "cuda:0", &w->device, &end->err)) &&
           step(end, "info", pint_device_get_info(w->device, &info, &end->err)) &&
           step(end, "open copy",
                pint_copy_open(w->device, &w->x, kind, access, &w->copy, &end->err)) &&
           step(end, "stream", pint_stream_create(w->device, &w->stream, &end->err));
}

/* Read all rows on the device, by a kernel. */
static bool read_all(world *w, scenario_end *end)
{
    static total t; /* a kernel that could not be waited for runs later */
    t = (total){.x = world_device(w)};
    if (!step(end, "begin to read",
              pint_device_begin(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, WAIT_MS,
                                &end->err))) {
        return false;
    }
    const bool is_enqueued =
        step(end, "kernel", pint_stream_call(w->device, w->stream, sum_up, &t, &end->err));
    pint_error err;
    const pint_status waited = pint_stream_wait(w->device, w->stream, &err);
    const pint_status ended =
        pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, NULL);
    if (is_enqueued && waited != PINT_OK) {
        end->err = err;
    }
    if (!is_enqueued || !step(end, "wait", waited) || !step(end, "end", ended)) {
        return false;
    }
    end->sum = t.sum;
    return true;
}

static bool to_host(world *w, scenario_end *end)
{
    return step(end, "to host",
                pint_copy_to_host(w->copy, 0, PINT_ALL_ROWS, WAIT_MS, NULL, &end->err));
}

/* What was done is there: no failure was kept silent. */
static bool check(scenario_end *end, bool is_good)
{
    pint_status status = PINT_OK;
    if (!is_good) {
        status = end->err.status = PINT_E_STATE;
        (void)snprintf(end->err.message, sizeof(end->err.message), "the rows have other values");
    }
    return step(end, "check", status);
}

/* Add 1 to all rows on the device, and find them so on the host, which has the newest before. */
static bool change_all(world *w, scenario_end *end)
{
    const double first = world_host(w)[0];
    const double last = world_host(w)[SCENARIO_ROWS - 1];
    return step(end, "begin to write",
                pint_device_begin(w->copy, 0, PINT_ALL_ROWS, RW, w->stream, WAIT_MS, &end->err)) &&
           step(end, "kernel",
                pint_stream_call(w->device, w->stream, add_one, world_device(w), &end->err)) &&
           step(end, "end", pint_device_end(w->copy, 0, PINT_ALL_ROWS, RW, w->stream, &end->err)) &&
           step(end, "wait", pint_stream_wait(w->device, w->stream, &end->err)) &&
           to_host(w, end) &&
           check(end,
                 world_host(w)[0] == first + 1 && world_host(w)[SCENARIO_ROWS - 1] == last + 1);
}

/* Every other chunk stored anew on the host: four separate pieces are stale. */
static bool store_every_other_chunk(world *w, scenario_end *end)
{
    for (uint64_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk += 2) {
        pint_lease lease;
        if (!step(end, "lease",
                  pint_lease_claim(&w->x, 1, chunk, PINT_UPDATE, WAIT_MS, &lease, &end->err)) ||
            !step(end, "commit", pint_lease_commit(&lease, &end->err))) {
            return false;
        }
    }
    return true;
}

static bool cancel_one(world *w, scenario_end *end)
{
    return step(end, "begin to cancel",
                pint_device_begin(w->copy, 0, 1, RW, w->stream, WAIT_MS, &end->err)) &&
           step(end, "cancel", pint_device_cancel(w->copy, 0, 1, RW, w->stream, &end->err));
}

static bool pin_and_map(world *w, scenario_end *end)
{
    uint64_t address = 0;
    return step(end, "pin", pint_device_pin(w->device, w->table, NULL, NULL, &end->err)) &&
           step(end, "unpin", pint_device_unpin(w->device, w->table, &end->err)) &&
           step(end, "mapped", pint_device_mapped(w->device, &w->x, &address, &end->err));
}

static bool hand_out(world *w, scenario_end *end)
{
    pint_handle handle = PINT_HANDLE_INIT;
    pint_copy *reader = NULL;
    if (!step(end, "export", pint_copy_export(w->copy, &handle, &end->err))) {
        return false;
    }
    if (handle.fd >= 0) {
        (void)close(handle.fd);
    }
    const bool is_open = step(end, "open to read",
                              pint_copy_open(w->device, &w->x, 0, PINT_READ, &reader, &end->err));
    pint_copy_close(reader);
    return is_open;
}

static double host_sum(const world *w)
{
    double sum = 0;
    for (uint64_t i = 0; i < SCENARIO_ROWS; i++) {
        sum += world_host(w)[i];
    }
    return sum;
}

static void give_back(world *w)
{
    pint_stream_destroy(w->device, w->stream);
    pint_copy_close(w->copy);
    pint_device_close(w->device);
    w->stream = NULL;
    w->copy = NULL;
    w->device = NULL;
}

scenario_end scenario_run(world *w, scenario_role role, uint32_t kind)
{
    scenario_end end = {.status = PINT_OK};
    const bool is_staged = role == SCENARIO_STAGES;
    CT_REQUIRE(
        (is_staged ? setenv("PINTABLE_PIN_BYTES", "0", 1) : unsetenv("PINTABLE_PIN_BYTES")) == 0);
    if (role == SCENARIO_IMPORTS) {
        (void)(open_all(w, 0, PINT_READ, &end) && read_all(w, &end) && hand_out(w, &end) &&
               to_host(w, &end) && check(&end, end.sum == host_sum(w)));
    } else {
        (void)(open_all(w, kind, PINT_WRITE, &end) && to_host(w, &end) && change_all(w, &end) &&
               store_every_other_chunk(w, &end) && read_all(w, &end) &&
               check(&end, end.sum == host_sum(w)) && hand_out(w, &end) &&
               (is_staged || pin_and_map(w, &end)) && cancel_one(w, &end) &&
               step(&end, "drop", pint_copy_drop(w->copy, &end.err)));
    }
    give_back(w);
    return end;
}

/* ---- what is left ---------------------------------------------------------------------------- */

int scenario_descriptors(void)
{
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    CT_REQUIRE(folder != NULL);
    while (readdir(folder) != NULL) {
        n++;
    }
    (void)closedir(folder);
    return n;
}

/* Calls that make something, and those that end it. */
static const char *const pairs[][3] = {
    {"cuDevicePrimaryCtxRetain", "", "cuDevicePrimaryCtxRelease"},
    {"cuCtxPushCurrent", "", "cuCtxPopCurrent"},
    {"cuMemCreate", "cuMemImportFromShareableHandle", "cuMemRelease"},
    {"cuMemAlloc", "", "cuMemFree"},
    {"cuMemAddressReserve", "", "cuMemAddressFree"},
    {"cuMemMap", "", "cuMemUnmap"},
    {"cuIpcOpenMemHandle", "", "cuIpcCloseMemHandle"},
    {"cuMemHostRegister", "", "cuMemHostUnregister"},
    {"cuStreamCreate", "", "cuStreamDestroy"},
    {"cuEventCreate", "", "cuEventDestroy"},
};

static uint64_t made(const char *name, const char *failed)
{
    const uint64_t n = name[0] != '\0' ? fake.calls(name) : 0;
    return n - (n > 0 && strcmp(name, failed) == 0 ? 1 : 0);
}

/* An address range that cannot be unmapped is not given back, on purpose; memory that cannot be
 * unregistered cannot be registered anew; in a broken context nothing is made that could be ended;
 * and who cannot enter the context ends nothing there. */
static bool may_stay(const char *end, const char *failed)
{
    if (strcmp(failed, "cuMemUnmap") == 0) {
        return strcmp(end, "cuMemAddressFree") == 0;
    }
    if (strcmp(failed, "cuMemHostUnregister") == 0) {
        return strcmp(end, failed) == 0;
    }
    if (strcmp(failed, "work") == 0) {
        return strcmp(end, "cuEventDestroy") == 0 || strcmp(end, "cuStreamDestroy") == 0;
    }
    return (strcmp(failed, "cuCtxPushCurrent") == 0 || strcmp(failed, "cuCtxGetId") == 0) &&
           strcmp(end, "cuCtxPopCurrent") != 0 && strcmp(end, "cuDevicePrimaryCtxRelease") != 0;
}

/* The memory of a mapping that stays is a descriptor of the fake's. */
static bool keeps_memory(const char *failed)
{
    return may_stay("cuMemAddressFree", failed) || strcmp(failed, "cuMemRelease") == 0 ||
           strcmp(failed, "cuIpcCloseMemHandle") == 0;
}

static uint64_t noted_slabs(const pint_pool *pool)
{
    const pinti_a8 *pins = (const pinti_a8 *)(const void *)(pool->slot + PINTI_SLOT_PINS_OFF);
    uint64_t n = 0;
    for (uint32_t i = 0; i < pool->n_slabs; i++) {
        n += (uint32_t)pins[i / 8] >> i % 8 & 1u;
    }
    return n;
}

static uint64_t noted_copies(const pint_pool *pool)
{
    pinti_a64 *refs = pinti_slot_copies(pool->slot);
    uint64_t n = 0;
    for (uint32_t i = 0; i < PINTI_COPIES_MAX; i++) {
        n += pinti_ref_count(pinti_load64_seq(&refs[i])) != 0;
    }
    return n;
}

const char *scenario_left_behind(const world *w, int n_fds, const char *failed)
{
    static char text[1024];
    size_t n = 0;
    text[0] = '\0';
    const int n_more = scenario_descriptors() - n_fds;
    if (n_more != 0 && !(n_more == 1 && keeps_memory(failed))) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%d descriptors more; ", n_more);
    }
    if (noted_slabs(w->pool) != 0 || noted_copies(w->pool) != 0) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%u slabs and %u copies in the slot; ",
                              (unsigned)noted_slabs(w->pool), (unsigned)noted_copies(w->pool));
    }
    for (size_t i = 0; fake.calls != NULL && i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const uint64_t n_made = made(pairs[i][0], failed) + made(pairs[i][1], failed);
        const uint64_t n_ended = fake.calls(pairs[i][2]);
        if (n_made != n_ended && !may_stay(pairs[i][2], failed)) {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %u, %s %u; ", pairs[i][0],
                                  (unsigned)n_made, pairs[i][2], (unsigned)n_ended);
        }
    }
    return text;
}

/* ---- the table ------------------------------------------------------------------------------- */

bool scenario_is_at_rest(const world *w)
{
    for (uint32_t chunk = 0; chunk < SCENARIO_CHUNKS; chunk++) {
        const uint64_t word = pinti_load64_seq(&pinti_column_desc_of(&w->x)->words[chunk]);
        if (pinti_chunk_is_held(pinti_chunk_state(word)) ||
            pinti_chunk_state(word) == PINTI_CHUNK_TORN) {
            return false;
        }
    }
    return true;
}
