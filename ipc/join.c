/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Joining and leaving a pool, and joining again after fork().
 *
 * The family (R17) travels in the environment. A process that finds no PINTABLE_FAMILY chooses one,
 * at random, once, and sets the variable for its children; so a family is a tree of processes, the
 * same in every pool, and a number left over from another pool is nobody else's by accident.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"
#include "host/pool.h"
#include "host/word.h"
#include "ipc/address.h"
#include "ipc/connect.h"
#include "ipc/launch.h"
#include "ipc/pool_ops.h"
#include "ipc/shared.h"
#include "pintable/pool.h"

#define JOIN_MS          10000
#define TRIES_MAX        20 /* a service that exits as we come is met twice, hardly three times */
#define RETRY_PAUSE_MS   10
#define FAMILY_VARIABLE  "PINTABLE_FAMILY"
#define FAMILY_DIGITS    16
#define STRUCT_BYTES_MAX 4096u

/* ---- parameter structs ----------------------------------------------------------------------- */

pint_status pinti_copy_struct(void *out, size_t own_bytes, const void *in, uint32_t in_bytes,
                              size_t min_bytes, const char *what, pint_error *err)
{
    if (in_bytes < min_bytes || in_bytes > STRUCT_BYTES_MAX) {
        return pinti_fail(err, PINT_E_INVALID, 0,
                          "%s: struct_bytes is %u; start from the initialiser macro", what,
                          in_bytes);
    }
    for (size_t i = own_bytes; i < in_bytes; i++) {
        if (((const char *)in)[i] != 0) {
            return pinti_fail(err, PINT_E_INVALID, 0,
                              "%s: byte %zu is set, and this library is too old to know it", what,
                              i);
        }
    }
    memcpy(out, in, in_bytes < own_bytes ? in_bytes : own_bytes);
    return PINT_OK;
}

static pint_status read_options(const pint_join_options *in, pint_join_options *out,
                                pint_error *err)
{
    *out = (pint_join_options)PINT_JOIN_INIT;
    if (in != NULL) {
        const pint_status status = pinti_copy_struct(out, sizeof(*out), in, in->struct_bytes,
                                                     sizeof(*out), "pint_join_options", err);
        if (status != PINT_OK) {
            return status;
        }
    }
    if ((out->flags & ~(PINT_JOIN_READ | PINT_JOIN_NO_START | PINT_JOIN_SHARED)) != 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "join: unknown flags 0x%x", out->flags);
    }
    if (out->timeout_ms < 0) {
        return pinti_fail(err, PINT_E_INVALID, 0, "join: timeout of %" PRId64 " ms",
                          out->timeout_ms);
    }
    if (out->timeout_ms == 0) {
        out->timeout_ms = JOIN_MS;
    }
    if (out->timeout_ms > INT32_MAX) {
        out->timeout_ms = INT32_MAX;
    }
    return PINT_OK;
}

/* ---- the family ------------------------------------------------------------------------------ */

static bool family_value(const char *text, uint64_t *out)
{
    if (strlen(text) != FAMILY_DIGITS || strspn(text, "0123456789abcdefABCDEF") != FAMILY_DIGITS) {
        return false;
    }
    *out = strtoull(text, NULL, 16);
    return *out != 0;
}

static uint64_t random_family(void)
{
    uint64_t value = 0;
    while (value == 0 && getrandom(&value, sizeof(value), 0) < 0 && errno == EINTR) {
    }
    return value;
}

/* The family to join with. *out_inherited: the environment says it. No lock: a child forked by
 * another thread in the middle must be able to join. */
static pint_status get_family(uint64_t *out, bool *out_inherited, pint_error *err)
{
    static _Atomic uint64_t chosen;
    const char *text = getenv(FAMILY_VARIABLE);
    *out_inherited = text != NULL && text[0] != '\0';
    if (*out_inherited) {
        if (!family_value(text, out)) {
            return pinti_fail(err, PINT_E_INVALID, 0,
                              "join: $" FAMILY_VARIABLE " is not %d hexadecimal digits, not all 0",
                              FAMILY_DIGITS);
        }
        return PINT_OK;
    }
    /* relaxed: the value is all there is to see */
    uint64_t family = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (family == 0) {
        const uint64_t mine = random_family();
        if (mine == 0) {
            return pinti_fail(err, PINT_E_SYSTEM, errno, "join: getrandom");
        }
        /* failure: another thread was faster, and its value is in family */
        if (atomic_compare_exchange_strong_explicit(&chosen, &family, mine, memory_order_relaxed,
                                                    memory_order_relaxed)) {
            family = mine;
        }
    }
    *out = family;
    return PINT_OK;
}

/* For child processes. Once per process, unless the variable is removed again. Like every setenv()
 * it must not meet a thread that reads the environment. */
static void pass_family_on(uint64_t family)
{
    char digits[FAMILY_DIGITS + 1];
    (void)snprintf(digits, sizeof(digits), "%016" PRIx64, family);
    (void)setenv(FAMILY_VARIABLE, digits,
                 1); /* out of memory: children are families of their own */
}

/* ---- joining --------------------------------------------------------------------------------- */

static void close_fds(const int *fds, unsigned n_fds)
{
    for (unsigned i = 0; i < n_fds; i++) {
        (void)close(fds[i]);
    }
}

/* How to enter. */
typedef struct entry {
    const char *socket;
    const pinti_address *launch; /* where to start a service when none runs; NULL: do not */
    uint64_t family;
    int64_t deadline_ms;
    bool writable;
} entry;

/* Connect and join. Starts again when the service goes away in the middle. */
static pint_status enter_service(const entry *e, pinti_client **out_client,
                                 pinti_joined *out_joined, pint_error *err)
{
    for (unsigned n = 0; n < TRIES_MAX; n++) {
        pinti_client *client = NULL;
        pint_status status = pinti_client_open(e->socket, e->deadline_ms, &client, err);
        if (status == PINT_E_NO_SERVICE && e->launch != NULL) {
            status = pinti_launch(e->launch, e->deadline_ms, err);
            if (status != PINT_OK) {
                return status;
            }
            continue;
        }
        if (status != PINT_OK) {
            return status;
        }
        status = pinti_client_join(client, e->writable, e->family, e->deadline_ms, out_joined, err);
        if (status == PINT_OK) {
            *out_client = client;
            return PINT_OK;
        }
        pinti_client_close(client);
        if (status != PINTI_CLIENT_LOST) {
            return status;
        }
        if (pinti_left_ms(e->deadline_ms) == 0) {
            break;
        }
        if (!pinti_pause_ms(RETRY_PAUSE_MS, e->deadline_ms)) {
            return pinti_fail_interrupted("join", err);
        }
    }
    return pinti_fail(err, PINT_E_NO_SERVICE, 0,
                      "join: the service ends connections before it answers");
}

/* NULL: out of memory. */
static pint_pool *make_pool(const pinti_address *address)
{
    pint_pool *pool = calloc(1, sizeof(*pool));
    char *path = strdup(address->socket);
    if (pool == NULL || path == NULL) {
        free(pool);
        free(path);
        return NULL;
    }
    pool->address = path;
    pool->ops = &pinti_ipc_ops;
    return pool;
}

static void free_pool(pint_pool *pool)
{
    free(pool->address);
    free(pool);
}

pint_status pinti_pool_join_at(const pinti_address *address, const pint_join_options *options,
                               int64_t deadline_ms, pint_pool **out_pool, pint_error *err)
{
    pinti_client *client = NULL;
    pinti_joined joined = {0};
    bool inherited = false;
    entry e = {.socket = address->socket,
               .launch = (options->flags & PINT_JOIN_NO_START) == 0 ? address : NULL,
               .deadline_ms = deadline_ms,
               .writable = (options->flags & PINT_JOIN_READ) == 0};
    pint_status status = get_family(&e.family, &inherited, err);
    if (status != PINT_OK) {
        return status;
    }
    pint_pool *pool = make_pool(address);
    if (pool == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join: pool handle");
    }
    status = enter_service(&e, &client, &joined, err);
    if (status != PINT_OK) {
        goto err_pool;
    }
    /* Mapped before the pool enters the list of the fork handlers, which look into it. */
    status = pinti_pool_map(pool, joined.fds, e.writable, joined.session, joined.index, err);
    close_fds(joined.fds, PINTI_POOL_FDS);
    if (status != PINT_OK) {
        goto err_client;
    }
    pool->client = client;
    pool->family = joined.family;
    pinti_client_set_finder(client, pinti_requests_find_made, pool);
    status = pinti_pool_init(pool, err);
    if (status != PINT_OK) {
        goto err_map;
    }
    if (!inherited) {
        pass_family_on(joined.family);
    }
    *out_pool = pool;
    return PINT_OK;
err_map:
    pinti_pool_unmap(pool);
err_client:
    pinti_client_leave(client);
err_pool:
    free_pool(pool);
    return status;
}

pint_status pint_pool_join(const char *address, const pint_join_options *options,
                           pint_pool **out_pool, pint_error *err)
{
    pint_join_options own;
    if (out_pool == NULL) {
        return pinti_fail(err, PINT_E_INVALID, 0, "join: NULL argument");
    }
    pint_status status = read_options(options, &own, err);
    if (status != PINT_OK) {
        return status;
    }
    const int64_t deadline_ms = pinti_clock_ms() + own.timeout_ms;
    pinti_address *place = malloc(sizeof(*place));
    if (place == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join: address");
    }
    status = pinti_address_resolve(address, (own.flags & PINT_JOIN_NO_START) == 0, place, err);
    if (status == PINT_OK) {
        status = (own.flags & PINT_JOIN_SHARED) != 0
                     ? pinti_shared_join(place, &own, deadline_ms, out_pool, err)
                     : pinti_pool_join_at(place, &own, deadline_ms, out_pool, err);
    }
    free(place);
    return status;
}

void pint_pool_leave(pint_pool *pool)
{
    if (pool != NULL && pinti_shared_leave(pool)) {
        pinti_pool_let_go(pool);
    }
}

void pinti_pool_leave_now(pint_pool *pool)
{
    pinti_client *client = pinti_client_of(pool);
    /* In a child that never used the pool the session and its socket are the parent's. */
    const bool inherited = pinti_load64_relaxed(pinti_fork_word) != pool->fork_word;
    /* Descriptors are found through the catalog: freed first. The tether is free before the service
     * hears of it, so that it can end the session at once. */
    pinti_pool_done(pool);
    pinti_pool_unmap(pool);
    if (inherited) {
        pinti_client_abandon(client);
    } else {
        pinti_client_leave(client);
    }
    free_pool(pool);
}

/* ---- after fork() ---------------------------------------------------------------------------- */

/* Is this descriptor the catalog that is mapped already? Another pool may have taken the address.
 */
static bool is_same_pool(const pint_pool *pool, int catalog_fd)
{
    pinti_catalog_header header;
    return pread(catalog_fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
           memcmp(header.pool_id, pool->header->pool_id, sizeof(header.pool_id)) == 0;
}

static bool is_dead(uint64_t reference, uint64_t record_state)
{
    return pinti_ref_count(reference) != 0 &&
           (pinti_ref_generation(reference) != pinti_gen_of(record_state) ||
            pinti_state_of(record_state) == PINTI_FREE);
}

/* Give up references whose table or job is gone. Handles on them were inherited and may still be
 * asked (pint_table_is_dropped()) or closed, so what they point to stays, for ever: it is only
 * taken out of the tables, where it would be freed when another generation takes the index. */
static void drop_dead_references(pint_pool *pool)
{
    const uint32_t n_tables = pinti_load32_acquire(&pool->header->xn_tables);
    const uint32_t n_jobs = pinti_load32_acquire(&pool->header->xn_jobs);
    (void)pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < n_tables && i < PINTI_TABLES_MAX; i++) {
        pinti_a64 *reference = &pinti_slot_tables(pool->slot)[i];
        /* relaxed: nobody else writes to the new slot yet */
        if (is_dead(pinti_load64_relaxed(reference),
                    pinti_load64_seq(&pinti_cat_tables(pool->catalog)[i].xgen_state))) {
            pinti_store64_seq(reference, 0);
            pinti_store32_release(&pool->tables[i].generation, 0);
            pool->tables[i].head = NULL;
        }
    }
    for (uint32_t i = 0; i < n_jobs && i < PINTI_JOBS_MAX; i++) {
        pinti_a64 *reference = &pinti_slot_jobs(pool->slot)[i];
        if (is_dead(pinti_load64_relaxed(reference), /* as above */
                    pinti_load64_seq(&pinti_cat_jobs(pool->catalog)[i].xgen_state))) {
            pinti_store64_seq(reference, 0);
            pinti_store32_release(&pool->job_gens[i], 0);
            pool->jobs[i] = NULL;
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
}

/*
 * The new slot refers to what the parent referred to at fork(); the parent may have closed some of
 * it since, and the service may have freed that just before the new references were written. One
 * round trip decides: the service scans slots and frees within one event, so every free that missed
 * our references is in the catalog when it answers, and none can miss them afterwards. Without an
 * answer nobody frees either.
 */
static void settle_references(pint_pool *pool, pinti_client *client)
{
    pinti_interrupt_hold(); /* the service has just answered, and there is no way back from here */
    (void)pinti_client_request(client, "ping", NULL, PINTI_REQUEST_MS, NULL, NULL);
    pinti_interrupt_release();
    drop_dead_references(pool);
}

/* Requires: fork_lock. The parent's client is given up without a word: its lock may be held for
 * ever, its socket stays open (R9), its other end is the parent's session. */
pint_status pinti_pool_rejoin(pint_pool *pool, pint_error *err)
{
    pinti_client *client = NULL;
    pinti_joined joined = {0};
    const entry e = {.socket = pool->address,
                     .family = pool->family,
                     .deadline_ms = pinti_clock_ms() + JOIN_MS,
                     .writable = pool->writable};
    pint_status status = enter_service(&e, &client, &joined, err);
    if (status == PINT_E_NO_SERVICE) {
        return pinti_fail(err, PINT_E_GONE, 0,
                          "the service is gone: this process cannot become a session after fork()");
    }
    if (status != PINT_OK) {
        return status;
    }
    if (is_same_pool(pool, joined.fds[0])) {
        status = pinti_pool_remap_session(pool, joined.fds[PINTI_POOL_FDS - 2],
                                          joined.fds[PINTI_POOL_FDS - 1], joined.session,
                                          joined.index, err);
    } else {
        status =
            pinti_fail(err, PINT_E_STALE, 0,
                       "after fork(): another pool has taken the address; leave and join again");
    }
    close_fds(joined.fds, PINTI_POOL_FDS);
    if (status != PINT_OK) {
        pinti_client_leave(client);
        return status;
    }
    pinti_client_set_finder(client, pinti_requests_find_made, pool);
    settle_references(pool, client);
    pinti_client_abandon(pinti_client_of(pool));
    pool->client = client;
    pool->family = joined.family;
    return PINT_OK;
}
