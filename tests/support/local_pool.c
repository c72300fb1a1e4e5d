/* SPDX-License-Identifier: Apache-2.0 */

/* See local_pool.h. Requests are serialised by one mutex, as the service serialises them. */

#include "tests/support/local_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/coherence.h"
#include "host/wait.h"
#include "host/writable_view.h"
#include "ipc/service/catalog.h"

#define DATA_BYTES   (256ull << 20)
#define SYNC_BYTES   (32ull << 20)
#define COPY_BYTES   (1ull << 20) /* of sync, behind what the catalog shares out */
#define SESSIONS_MAX 96u

struct local_pool {
    void *catalog;
    char *sync;
    char *data;
    pinti_bell *bells;
    pinti_memory *memory;
    pinti_cat *cat;
    pthread_mutex_t lock;
    pint_pool *sessions[SESSIONS_MAX]; /* by index */
    uint64_t next_session;
    uint64_t next_request;
    uint32_t n_copies;
    uint64_t copy_bytes; /* used */
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "local pool: %s\n", what);
        abort();
    }
}

static void *shared(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    must(at != MAP_FAILED, "mmap");
    return at;
}

static bool needs_undo(void *context, const pinti_job_rec *job);

local_pool *local_pool_new(void)
{
    local_pool *local = calloc(1, sizeof(*local));
    must(local != NULL, "memory");
    const uint64_t id[2] = {1, 2};
    pint_error err;
    local->catalog = shared(PINTI_CAT_BYTES);
    local->sync = shared(SYNC_BYTES + COPY_BYTES);
    local->data = shared(DATA_BYTES);
    local->bells = shared(PINTI_BELL_BYTES);
    pinti_cat_format(local->catalog, DATA_BYTES, SYNC_BYTES, DATA_BYTES, id);
    local->memory = pinti_memory_new(local->catalog, DATA_BYTES, SYNC_BYTES, DATA_BYTES);
    must(local->memory != NULL, "pinti_memory_new");
    local->cat = pinti_cat_new(local->catalog, local->memory);
    must(local->cat != NULL, "pinti_cat_new");
    pinti_cat_on_needs_undo(local->cat, needs_undo, local);
    must(pinti_cat_rebuild(local->cat, &err) == PINT_OK, "pinti_cat_rebuild");
    (void)pthread_mutex_init(&local->lock, NULL);
    local->next_session = 1;
    return local;
}

void local_pool_free(local_pool *local)
{
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        if (local->sessions[i] != NULL) {
            (void)local_session_kill(local, local->sessions[i], false);
        }
    }
    pinti_cat_free(local->cat);
    pinti_memory_free(local->memory);
    (void)munmap(local->catalog, PINTI_CAT_BYTES);
    (void)munmap(local->sync, SYNC_BYTES + COPY_BYTES);
    (void)munmap(local->data, DATA_BYTES);
    (void)munmap(local->bells, PINTI_BELL_BYTES);
    (void)pthread_mutex_destroy(&local->lock);
    free(local);
}

local_pool *local_pool_of(pint_pool *session)
{
    return session->client;
}

/* ---- what the service does ------------------------------------------------------------------- */

static bool refers(void *context, int kind, uint32_t index, uint32_t generation)
{
    local_pool *local = context;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        if (local->sessions[i] == NULL) {
            continue;
        }
        char *slot = local->sessions[i]->slot;
        const uint64_t word = pinti_load64_seq(kind == 1 ? &pinti_slot_tables(slot)[index]
                                                         : &pinti_slot_jobs(slot)[index]);
        if (pinti_ref_generation(word) == generation && pinti_ref_count(word) != 0) {
            return true;
        }
    }
    return false;
}

static bool needs_undo(void *context, const pinti_job_rec *job)
{
    const local_pool *local = context;
    const pinti_sweep_view view = {local->catalog, local->sync, SYNC_BYTES, local->bells};
    return pinti_sweep_job_is_busy(&view, (uint32_t)(job - pinti_cat_jobs(local->catalog))) != 0;
}

uint32_t local_pool_reap(local_pool *local)
{
    (void)pthread_mutex_lock(&local->lock);
    const uint32_t n = pinti_cat_reap(local->cat, refers, local);
    (void)pthread_mutex_unlock(&local->lock);
    return n;
}

uint64_t local_pool_used(local_pool *local)
{
    return pinti_memory_used(local->memory);
}

/* Do a plan as the preparer would; fresh anonymous memory needs nothing but zeroing of dirty. */
static void prepare(local_pool *local, const pinti_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++) {
        const pinti_work *work = &plan->work[i];
        char *base = work->sync ? local->sync : local->data;
        if (work->kind == PINTI_WORK_ZERO) {
            memset(base + work->range.off, 0, work->range.bytes);
        } else if (work->kind == PINTI_WORK_PUNCH) {
            (void)madvise(base + work->range.off, work->range.bytes, MADV_REMOVE);
        }
    }
    pinti_memory_prepared(local->memory, plan, true);
}

static pint_status take(local_pool *local, uint64_t data_bytes, uint64_t sync_bytes, bool zeroed,
                        pinti_range *data, pinti_range *sync, pint_error *err)
{
    static pinti_plan plan; /* large; under the lock */
    const pint_status status =
        pinti_memory_take(local->memory, data_bytes, sync_bytes, zeroed, 0, data, sync, &plan, err);
    if (status == PINT_OK) {
        prepare(local, &plan);
    }
    return status;
}

static pint_status op_rejoin(pint_pool *pool, pint_error *err)
{
    (void)pool;
    (void)err;
    return PINT_OK; /* a forked child of a test goes on as the same session: only one of them acts
                     */
}

static pint_status op_find_table(pint_pool *pool, const char *name, uint32_t *out_index,
                                 uint32_t *out_generation, pint_error *err)
{
    local_pool *local = pool->client;
    (void)pthread_mutex_lock(&local->lock);
    const pint_status status = pinti_cat_find(local->cat, name, out_index, out_generation, err);
    (void)pthread_mutex_unlock(&local->lock);
    return status;
}

static pinti_owner owner_of(pint_pool *pool)
{
    local_pool *local = pool->client;
    return (pinti_owner){
        .session = pool->session_id, .request = ++local->next_request, .family = 1};
}

static pint_status op_create_job(pint_pool *pool, uint32_t table, uint32_t generation,
                                 const char *name, const uint32_t *uses, uint32_t n_uses,
                                 uint32_t *out_job, uint32_t *out_generation, pint_error *err)
{
    local_pool *local = pool->client;
    (void)pthread_mutex_lock(&local->lock);
    pint_status status = pinti_cat_job_find(local->cat, table, generation, name, uses, n_uses,
                                            out_job, out_generation, err);
    if (status == PINT_E_NOT_FOUND && n_uses != 0) {
        uint64_t data_bytes;
        uint64_t sync_bytes;
        pinti_range data = {0, 0};
        pinti_range sync = {0, 0};
        status = pinti_cat_job_measure(local->cat, table, generation, uses, n_uses, 0, &data_bytes,
                                       &sync_bytes, err);
        if (status == PINT_OK) {
            status = take(local, data_bytes, sync_bytes, false, &data, &sync, err);
        }
        if (status == PINT_OK) {
            const pinti_owner owner = owner_of(pool);
            status = pinti_cat_job_create(local->cat, table, generation, name, uses, n_uses, 0,
                                          &owner, &data, &sync, out_job, out_generation, err);
        }
    }
    (void)pthread_mutex_unlock(&local->lock);
    return status;
}

static pint_status op_drop_job(pint_pool *pool, uint32_t table, uint32_t generation,
                               const char *name, pint_error *err)
{
    local_pool *local = pool->client;
    uint32_t job;
    uint32_t job_generation;
    (void)pthread_mutex_lock(&local->lock);
    pint_status status = pinti_cat_job_find(local->cat, table, generation, name, NULL, 0, &job,
                                            &job_generation, err);
    if (status == PINT_OK) {
        status = pinti_cat_job_drop(local->cat, job, job_generation, err);
    }
    (void)pthread_mutex_unlock(&local->lock);
    return status;
}

static pint_status op_alive(pint_pool *pool, pint_error *err)
{
    (void)pool;
    (void)err;
    return PINT_OK;
}

static void op_closed_dropped(pint_pool *pool)
{
    (void)local_pool_reap(pool->client);
}

static void op_discard_table(pint_pool *pool, uint32_t table, uint32_t generation)
{
    local_pool *local = pool->client;
    (void)pthread_mutex_lock(&local->lock);
    (void)pinti_cat_drop(local->cat, table, generation, NULL);
    (void)pinti_cat_reap(local->cat, refers, local);
    (void)pthread_mutex_unlock(&local->lock);
}

static const pinti_pool_ops local_ops = {
    .rejoin = op_rejoin,
    .find_table = op_find_table,
    .create_job = op_create_job,
    .drop_job = op_drop_job,
    .alive = op_alive,
    .closed_dropped = op_closed_dropped,
    .discard_table = op_discard_table,
};

/* ---- sessions -------------------------------------------------------------------------------- */

pint_pool *local_session_new(local_pool *local)
{
    pint_pool *pool = calloc(1, sizeof(*pool));
    must(pool != NULL, "memory");
    pint_error err;
    (void)pthread_mutex_lock(&local->lock);
    uint32_t index = 1;
    while (index < SESSIONS_MAX && local->sessions[index] != NULL) {
        index++;
    }
    must(index < SESSIONS_MAX, "sessions");
    pool->session_index = index;
    pool->session_id = local->next_session++;
    pool->catalog = local->catalog;
    pool->header = local->catalog;
    pool->sync = local->sync;
    pool->data = local->data;
    pool->bells = local->bells;
    pool->slot = shared(PINTI_SLOT_BYTES);
    pool->data_bytes = DATA_BYTES;
    pool->sync_bytes = SYNC_BYTES + COPY_BYTES;
    pool->n_slabs = (uint32_t)(DATA_BYTES / PINTI_SLAB_BYTES);
    pool->writable = true;
    pool->ops = &local_ops;
    pool->client = local;
    must(pinti_pool_init(pool, &err) == PINT_OK, "pinti_pool_init");
    local->sessions[index] = pool;
    (void)pthread_mutex_unlock(&local->lock);
    return pool;
}

pinti_sweep_result local_session_sweep(local_pool *local, pint_pool *session, bool all_words)
{
    const pinti_sweep_view view = {local->catalog, local->sync, SYNC_BYTES, local->bells};
    pinti_sweep_result result = {0};
    if (all_words) {
        pinti_sweep_all(&view, session->session_index, &result);
    } else {
        pinti_sweep_listed(&view, session->slot, session->session_index, &result);
    }
    return result;
}

pinti_sweep_result local_session_kill(local_pool *local, pint_pool *session, bool all_words)
{
    const pinti_sweep_result result = local_session_sweep(local, session, all_words);
    (void)pthread_mutex_lock(&local->lock);
    local->sessions[session->session_index] = NULL;
    (void)pinti_cat_session_ended(local->cat, session->session_id);
    (void)pinti_cat_reap(local->cat, refers, local);
    (void)pthread_mutex_unlock(&local->lock);
    pinti_pool_done(session);
    (void)munmap(session->slot, PINTI_SLOT_BYTES);
    free(session);
    return result;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void fill_schema(pinti_schema *to, const char *name, const pint_schema *from,
                        uint64_t n_rows)
{
    memset(to, 0, sizeof(*to));
    (void)snprintf(to->name, sizeof(to->name), "%s", name);
    to->n_rows = n_rows;
    to->chunk_rows = from->chunk_rows;
    to->flags = from->flags;
    to->metadata_bytes = from->metadata_bytes; /* the bytes themselves are not copied */
    to->n_columns = from->n_fields;
    to->room = from->n_fields;
    to->columns = calloc(from->n_fields, sizeof(to->columns[0]));
    must(to->columns != NULL, "memory");
    for (uint32_t i = 0; i < from->n_fields; i++) {
        const pint_field *field = &from->fields[i];
        struct pinti_schema_column *column = &to->columns[i];
        (void)snprintf(column->name, sizeof(column->name), "%s", field->name);
        (void)snprintf(column->zone, sizeof(column->zone), "%s",
                       field->zone != NULL ? field->zone : "");
        column->type = field->type;
        column->flags = field->flags;
        column->unit = field->unit;
        column->width_bytes = field->width_bytes;
        column->list_length = field->list_length;
        column->item_type = field->item_type;
        column->data_bytes = field->data_bytes;
        column->n_categories = field->n_categories;
        column->metadata_bytes = field->metadata_bytes;
    }
}

pint_table *local_table_build(pint_pool *session, const char *name, const pint_schema *schema,
                              uint64_t n_rows)
{
    local_pool *local = session->client;
    pinti_schema checked;
    pint_error err = {0};
    uint64_t data_bytes = 0;
    uint64_t sync_bytes = 0;
    pinti_range data = {0, 0};
    pinti_range sync = {0, 0};
    uint32_t index = 0;
    uint32_t generation = 0;
    fill_schema(&checked, name, schema, n_rows);
    (void)pthread_mutex_lock(&local->lock);
    const pinti_owner owner = owner_of(session);
    pint_status status = pinti_cat_check_schema(&checked, &err);
    if (status == PINT_OK) {
        status = pinti_cat_measure(&checked, &data_bytes, &sync_bytes, &err);
    }
    if (status == PINT_OK) {
        status = take(local, data_bytes, sync_bytes, (schema->flags & PINT_UNINITIALISED) == 0,
                      &data, &sync, &err);
    }
    if (status == PINT_OK) {
        status =
            pinti_cat_create(local->cat, &checked, &owner, &data, &sync, &index, &generation, &err);
    }
    (void)pthread_mutex_unlock(&local->lock);
    free(checked.columns);
    must(status == PINT_OK, err.message);
    pint_table *table = NULL;
    must(pinti_table_adopt(session, index, generation, PINT_READ | PINT_WRITE, &table, &err) ==
             PINT_OK,
         "adopt");
    return table;
}

static void publish(pint_pool *session, pint_table *table, bool replace)
{
    local_pool *local = session->client;
    pint_error err = {0};
    pinti_text_finish(table);
    (void)pthread_mutex_lock(&local->lock);
    const pint_status status = pinti_cat_publish(local->cat, pinti_table_index(table),
                                                 pinti_table_generation(table), replace, &err);
    if (replace) {
        (void)pinti_cat_reap(local->cat, refers, local);
    }
    (void)pthread_mutex_unlock(&local->lock);
    must(status == PINT_OK, err.message);
}

void local_table_publish(pint_pool *session, pint_table *table)
{
    publish(session, table, false);
}

void local_table_replace(pint_pool *session, pint_table *table)
{
    publish(session, table, true);
}

pint_table *local_table_new(pint_pool *session, const char *name, const pint_schema *schema,
                            uint64_t n_rows)
{
    pint_table *table = local_table_build(session, name, schema, n_rows);
    local_table_publish(session, table);
    return table;
}

pint_status local_table_add_columns(pint_table *table, pint_table *from, pint_error *err)
{
    pint_pool *session = pint_table_pool(table);
    local_pool *local = session->client;
    pinti_text_finish(from);
    (void)pthread_mutex_lock(&local->lock);
    const pint_status status = pinti_cat_add_columns(
        local->cat, pinti_table_index(table), pinti_table_generation(table),
        pinti_table_index(from), pinti_table_generation(from), session->session_id, err);
    (void)pthread_mutex_unlock(&local->lock);
    if (status == PINT_OK) {
        pinti_views_move(from->desc, table->desc);
        pint_table_close(from);
    }
    return status;
}

/* Find a live table and do something with it, under the lock. */
static pint_status with_table(pint_pool *session, const char *name, const char *new_name)
{
    local_pool *local = session->client;
    uint32_t index;
    uint32_t generation;
    (void)pthread_mutex_lock(&local->lock);
    pint_status status = pinti_cat_find(local->cat, name, &index, &generation, NULL);
    if (status == PINT_OK && new_name != NULL) {
        status = pinti_cat_rename(local->cat, index, generation, new_name, NULL);
    } else if (status == PINT_OK) {
        status = pinti_cat_drop(local->cat, index, generation, NULL);
        (void)pinti_cat_reap(local->cat, refers, local);
    }
    (void)pthread_mutex_unlock(&local->lock);
    return status;
}

pint_status local_table_drop(pint_pool *session, const char *name)
{
    return with_table(session, name, NULL);
}

pint_status local_table_rename(pint_pool *session, const char *name, const char *new_name)
{
    return with_table(session, name, new_name);
}

pint_status local_table_freeze(pint_table *table)
{
    local_pool *local = local_pool_of(pint_table_pool(table));
    (void)pthread_mutex_lock(&local->lock);
    const pint_status status =
        pinti_cat_freeze(local->cat, pinti_table_index(table), pinti_table_generation(table), NULL);
    (void)pthread_mutex_unlock(&local->lock);
    return status;
}

/* ---- device copies --------------------------------------------------------------------------- */

uint32_t local_copy_new(local_pool *local, const pint_column *column, uint32_t device)
{
    const pinti_table_desc *table = column->table->desc;
    const pinti_column_desc *desc = pinti_column_desc_of(column);
    const uint64_t rows = table->rec->row_capacity;
    (void)pthread_mutex_lock(&local->lock);
    const uint32_t index = local->n_copies++;
    pinti_copy_rec *rec = &pinti_cat_copies(local->catalog)[index];
    must(index < PINTI_COPIES_MAX, "copies");
    rec->id = index + 1;
    rec->table = table->index;
    rec->table_generation = table->generation;
    rec->column = column->index;
    rec->device = device;
    rec->kind = 1;
    rec->n_chunks = table->n_chunks;
    rec->values_bytes = desc->row_bytes != 0 ? rows * desc->row_bytes : (rows + 7) / 8;
    rec->validity_off = PINTI_NO_BUFFER;
    rec->bytes = (rec->values_bytes + 255) / 256 * 256;
    if (desc->validity != NULL) {
        rec->validity_off = rec->bytes;
        rec->validity_bytes = (rows + 7) / 8;
        rec->bytes += rec->validity_bytes;
    }
    rec->sync_off = SYNC_BYTES + local->copy_bytes;
    rec->sync_bytes = (sizeof(pinti_copy_sync) + rec->n_chunks * sizeof(pinti_copy_chunk) +
                       PINTI_CACHE_LINE - 1) /
                      PINTI_CACHE_LINE * PINTI_CACHE_LINE;
    local->copy_bytes += rec->sync_bytes;
    must(local->copy_bytes <= COPY_BYTES, "sync memory of copies");
    pinti_store64_release(&rec->xgen_state, (uint64_t)LOCAL_COPY_GENERATION << 32 | PINTI_LIVE);
    pinti_column_rec *columns = pinti_cat_columns(local->catalog);
    pinti_store32_release(&columns[desc->rec - columns].xcopy[device], index + 1);
    (void)pthread_mutex_unlock(&local->lock);
    return index;
}

static const pinti_copy_rec *copy_at(const local_pool *local, uint32_t copy, pinti_a64 **out_words,
                                     pinti_copy_sync **out_sync)
{
    const pinti_copy_rec *rec = &pinti_cat_copies(local->catalog)[copy];
    const pinti_table_rec *table = &pinti_cat_tables(local->catalog)[rec->table];
    const pinti_column_rec *column = pinti_cat_column(local->catalog, table, rec->column);
    *out_words = (pinti_a64 *)(void *)(local->sync + column->words_off);
    *out_sync = (pinti_copy_sync *)(void *)(local->sync + rec->sync_off);
    return rec;
}

static void set_copy_state(local_pool *local, uint32_t copy, enum pinti_record_state state)
{
    pinti_store64_seq(&pinti_cat_copies(local->catalog)[copy].xgen_state,
                      (uint64_t)LOCAL_COPY_GENERATION << 32 | (uint64_t)state);
}

enum pinti_copy_use local_copy_close(local_pool *local, uint32_t copy)
{
    pinti_a64 *words;
    pinti_copy_sync *sync;
    const pinti_copy_rec *rec = copy_at(local, copy, &words, &sync);
    set_copy_state(local, copy, PINTI_CLOSING);
    const enum pinti_copy_use use = pinti_copy_use_of((pinti_copy_chunk *)(void *)(sync + 1), words,
                                                      rec->n_chunks, rec->device);
    if (use != PINTI_COPY_IDLE) {
        local_copy_reopen(local, copy);
    }
    return use;
}

void local_copy_reopen(local_pool *local, uint32_t copy)
{
    set_copy_state(local, copy, PINTI_LIVE);
    pinti_bell_ring_always(
        &local->bells[pinti_cat_copies(local->catalog)[copy].table % PINTI_BELLS]);
}

bool local_copy_mend(local_pool *local, uint32_t copy, const pinti_copy_users *users)
{
    pinti_a64 *words;
    pinti_copy_sync *sync;
    const pinti_copy_rec *rec = copy_at(local, copy, &words, &sync);
    pinti_copy_chunk *chunks = (pinti_copy_chunk *)(void *)(sync + 1);
    set_copy_state(local, copy, PINTI_CLOSING);
    const bool has_changed = pinti_copy_clear_strays(sync, chunks, rec->n_chunks, users);
    local_copy_reopen(local, copy);
    return has_changed;
}

void local_copy_drop(local_pool *local, uint32_t copy)
{
    pinti_a64 *words;
    pinti_copy_sync *sync;
    const pinti_copy_rec *rec = copy_at(local, copy, &words, &sync);
    set_copy_state(local, copy, PINTI_DYING);
    pinti_copy_forget((pinti_copy_chunk *)(void *)(sync + 1), words, rec->n_chunks, rec->device);
    pinti_bell_ring_always(&local->bells[rec->table % PINTI_BELLS]);
}

bool local_copy_sweep(local_pool *local, uint32_t copy, uint32_t session)
{
    pinti_a64 *words;
    pinti_copy_sync *sync;
    const pinti_copy_rec *rec = copy_at(local, copy, &words, &sync);
    const bool has_changed = pinti_copy_sweep(sync, (pinti_copy_chunk *)(void *)(sync + 1), words,
                                              rec->n_chunks, rec->device, session);
    if (has_changed) {
        pinti_bell_ring_always(&local->bells[rec->table % PINTI_BELLS]);
    }
    return has_changed;
}
