/* SPDX-License-Identifier: Apache-2.0 */

/* fork() in a joined process: see fork.h. Lock order: list_lock, pool->fork_lock,
 * pool->lock, pool->dict_lock, pool->view_lock. */

#include "host/fork.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host/error.h"
#include "host/word.h"
#include "host/writable_view.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pint_pool *pools;          /* every joined pool of the process */
static uint64_t n_forks = 1;      /* copied by fork, unlike the word: words only grow down a line */
static pinti_a64 word_before = 0; /* what pinti_fork_word points to until the page is there */
static pinti_a64 *word_page;

const pinti_a64 *pinti_fork_word = &word_before;

void pinti_fork_settle(void)
{
    (void)pthread_mutex_lock(&list_lock);
    if (word_page != NULL && pinti_load64_relaxed(word_page) == 0) {
        pinti_store64_relaxed(word_page, ++n_forks);
    }
    (void)pthread_mutex_unlock(&list_lock);
}

/* Copy the reference words in use; words of a pool that this process has not rejoined are already
 * in the copy that its own fork made. */
static void snapshot_references(pint_pool *pool)
{
    if (pinti_load64_relaxed(pinti_fork_word) != pool->fork_word) {
        return;
    }
    free(pool->fork_table_refs);
    free(pool->fork_job_refs);
    pool->n_fork_tables = pinti_load32_acquire(&pool->header->xn_tables);
    pool->n_fork_jobs = pinti_load32_acquire(&pool->header->xn_jobs);
    if (pool->n_fork_tables > PINTI_TABLES_MAX) {
        pool->n_fork_tables = PINTI_TABLES_MAX;
    }
    if (pool->n_fork_jobs > PINTI_JOBS_MAX) {
        pool->n_fork_jobs = PINTI_JOBS_MAX;
    }
    pool->fork_table_refs = calloc((size_t)pool->n_fork_tables + 1, sizeof(uint64_t));
    pool->fork_job_refs = calloc((size_t)pool->n_fork_jobs + 1, sizeof(uint64_t));
    if (pool->fork_table_refs == NULL || pool->fork_job_refs == NULL) {
        pool->n_fork_tables = 0; /* the child will find its tables not referred to and say so */
        pool->n_fork_jobs = 0;
        return;
    }
    for (uint32_t i = 0; i < pool->n_fork_tables; i++) {
        pool->fork_table_refs[i] = pinti_load64_relaxed(&pinti_slot_tables(pool->slot)[i]);
    }
    for (uint32_t i = 0; i < pool->n_fork_jobs; i++) {
        pool->fork_job_refs[i] = pinti_load64_relaxed(&pinti_slot_jobs(pool->slot)[i]);
    }
}

static void before_fork(void)
{
    (void)pthread_mutex_lock(&list_lock);
    for (pint_pool *pool = pools; pool != NULL; pool = pool->next) {
        (void)pthread_mutex_lock(&pool->fork_lock);
        (void)pthread_mutex_lock(&pool->lock);
        (void)pthread_mutex_lock(&pool->dict_lock);
        (void)pthread_mutex_lock(&pool->view_lock);
        snapshot_references(pool);
        pinti_views_keep(pool);
    }
}

static void unlock_all(void)
{
    for (pint_pool *pool = pools; pool != NULL; pool = pool->next) {
        (void)pthread_mutex_unlock(&pool->view_lock);
        (void)pthread_mutex_unlock(&pool->dict_lock);
        (void)pthread_mutex_unlock(&pool->lock);
        (void)pthread_mutex_unlock(&pool->fork_lock);
    }
    (void)pthread_mutex_unlock(&list_lock);
}

static void after_fork_in_parent(void)
{
    for (pint_pool *pool = pools; pool != NULL; pool = pool->next) {
        if (pinti_load64_relaxed(pinti_fork_word) == pool->fork_word) {
            free(pool->fork_table_refs);
            free(pool->fork_job_refs);
            pool->fork_table_refs = NULL;
            pool->fork_job_refs = NULL;
            pool->n_fork_tables = 0; /* a child made behind our back finds no copy */
            pool->n_fork_jobs = 0;
        }
    }
    unlock_all();
}

static void after_fork_in_child(void)
{
    unlock_all();
    pinti_fork_settle();
}

static pthread_once_t watch_once = PTHREAD_ONCE_INIT;
static int watch_errno;

static void start_watching(void)
{
    void *page =
        mmap(NULL, PINTI_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        watch_errno = errno;
        return;
    }
    if (madvise(page, PINTI_PAGE_BYTES, MADV_WIPEONFORK) != 0) {
        watch_errno = errno;
        (void)munmap(page, PINTI_PAGE_BYTES);
        return;
    }
    watch_errno = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    word_page = page;
    pinti_store64_relaxed(word_page, n_forks);
    pinti_fork_word = word_page;
}

pint_status pinti_fork_start(pint_error *err)
{
    (void)pthread_once(&watch_once, start_watching);
    if (watch_errno != 0) {
        return pinti_fail(err, PINT_E_SYSTEM, watch_errno, "cannot watch for fork()");
    }
    pinti_fork_settle(); /* a child made without handlers, joining anew */
    return PINT_OK;
}

pint_status pinti_fork_watch(pint_pool *pool, pint_error *err)
{
    const pint_status status = pinti_fork_start(err);
    if (status != PINT_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&list_lock);
    pool->fork_word = pinti_load64_relaxed(pinti_fork_word);
    pool->next = pools;
    pools = pool;
    (void)pthread_mutex_unlock(&list_lock);
    return PINT_OK;
}

void pinti_fork_forget(pint_pool *pool)
{
    (void)pthread_mutex_lock(&list_lock);
    for (pint_pool **at = &pools; *at != NULL; at = &(*at)->next) {
        if (*at == pool) {
            *at = pool->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&list_lock);
}

pint_status pinti_pool_enter_slow(pint_pool *pool, pint_error *err)
{
    pinti_fork_settle();
    (void)pthread_mutex_lock(&pool->fork_lock);
    pint_status status = PINT_OK;
    const uint64_t word = pinti_load64_relaxed(pinti_fork_word);
    if (pool->fork_word != word) { /* no other thread of the child was faster */
        status = pool->ops->rejoin(pool, err);
        if (status == PINT_OK) {
            /* release: the new slot comes before; pairs with pinti_pool_enter() */
            pinti_store64_release(&pool->fork_word, word);
        }
    }
    (void)pthread_mutex_unlock(&pool->fork_lock);
    return status;
}
