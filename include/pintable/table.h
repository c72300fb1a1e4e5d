/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_TABLE_H
#define PINTABLE_TABLE_H

/*
 * Tables: named sets of typed columns of equal length in shared memory.
 *
 * Life: create (invisible) -> fill -> publish (visible under its name) -> drop. Memory returns
 * when no session refers to the table any more.
 *
 * Threads: a table handle may be used by any number of threads; close it once for each open.
 */

#include <pintable/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pint_table pint_table; /* process-local handle on a shared table */

#define PINT_READ    1u
#define PINT_WRITE   2u /* implies PINT_READ */
#define PINT_REPLACE 1u /* pint_table_publish(): take the name over from a live table */

/**
 * Create a table that nobody else sees until it is published.
 *
 * All its memory is there when the call returns: no later access inside it can fail for lack of
 * memory. Rows read as zero (numbers 0, text empty, bits 0, nullable columns: every row null)
 * unless the schema says PINT_UNINITIALISED.
 *
 * Shape:    n_rows rows, 0 to 2^48, in each of schema->n_fields columns.
 * Owns:     creates *out_table (open for writing), closed with pint_table_close(); borrows the
 * rest. Closing before publishing drops the table. Service:  one or more requests; idempotent when
 * the service restarts meanwhile. On error: *out_table untouched, nothing allocated.
 *
 * @param[in] name   UTF-8, 1 to PINT_NAME_BYTES_MAX bytes, no control characters, no '/'
 * @retval PINT_E_QUOTA       the byte budget of the pool or the user does not allow it
 * @retval PINT_E_NO_MEMORY   the machine refused the memory
 * @retval PINT_E_PERMISSION  the pool was joined read-only
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_create(pint_pool *pool, const char *name,
                                                       const pint_schema *schema, uint64_t n_rows,
                                                       pint_table **out_table, pint_error *err);

/**
 * Make a created table visible under its name, in one step.
 *
 * @param[in] flags  0, or PINT_REPLACE: a live table of that name is dropped in the same step, so
 *                   that an opener finds the old one or the new one, never none
 * @retval PINT_E_EXISTS  a live table has that name
 * @retval PINT_E_STATE   already published
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_publish(pint_table *table, uint32_t flags,
                                                        pint_error *err);

/**
 * Open a published table by name: a few atomic operations, no system call.
 *
 * Owns: creates *out_table; each open is closed once. The data stay mapped and valid until then,
 *       also when the table is dropped or the service dies.
 *
 * @param[in] mode  PINT_READ, or PINT_WRITE
 * @retval PINT_E_NOT_FOUND   no table of that name
 * @retval PINT_E_PERMISSION  PINT_WRITE in a pool joined read-only
 * @retval PINT_E_FROZEN      PINT_WRITE on a frozen table
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_open(pint_pool *pool, const char *name,
                                                     uint32_t mode, pint_table **out_table,
                                                     pint_error *err);

/**
 * Open a published table by pint_table_id(): finds it also after a rename. Looks at every table of
 * the pool, so it is for when the name has failed.
 * @retval PINT_E_NOT_FOUND  no live table has this id
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_open_id(pint_pool *pool, uint64_t table_id,
                                                        uint32_t mode, pint_table **out_table,
                                                        pint_error *err);

/**
 * Move every column of a table that was never published into a published one: new columns behind
 * those there, complete from the moment they are seen. No data are copied.
 *
 * How a column is added: pint_table_create() one with the new columns and the target's rows and
 * chunk_rows, fill it, then call this. Its name is of no matter.
 *
 * Shape:     from has as many rows and as large chunks as table.
 * Owns:      on success takes from, which is closed: find its columns in table again. On error from
 *            is as before.
 * Processes: others that have table open find the columns by name from their next look on; column
 *            positions never change.
 * Service:   one request; idempotent when the service restarts meanwhile.
 *
 * @param[in] table  opened for writing, published
 * @param[in] from   created by this session, not published, opened once
 * @retval PINT_E_EXISTS      a column of table has the name of one of from
 * @retval PINT_E_INVALID     rows or chunk rows differ, or both are the same table
 * @retval PINT_E_STATE       table is not published, or from is
 * @retval PINT_E_FROZEN, PINT_E_DROPPED
 * @retval PINT_E_PERMISSION  table belongs to another user, or was opened to read
 * @retval PINT_E_LIMIT       more than 65536 columns
 * @retval PINT_E_BUSY        a chunk of from is leased, or a job of it is open
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_add_columns(pint_table *table, pint_table *from,
                                                            pint_error *err);

/** Give the handle up. NULL is allowed. Columns of it must not be used afterwards. @since 0.1 */
PINT_API void pint_table_close(pint_table *table);

/**
 * Drop a table by name. Sessions that have it open keep their data until they close it.
 * @retval PINT_E_NOT_FOUND   no table of that name
 * @retval PINT_E_PERMISSION  it belongs to another user, or the pool was joined read-only
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_drop(pint_pool *pool, const char *name,
                                                     pint_error *err);

/**
 * Give a table another name. It is found under one of the two at every moment.
 * @retval PINT_E_EXISTS  a live table has the new name
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_rename(pint_pool *pool, const char *name,
                                                       const char *new_name, pint_error *err);

/**
 * Freeze: from now on nobody can open it for writing, claim or mark in it. For ever.
 *
 * Holders of older write handles get PINT_E_FROZEN from the calls of this library; their plain
 * stores cannot be stopped, so freeze when writers are done.
 * @retval PINT_E_BUSY  a chunk is leased
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_freeze(pint_table *table, pint_error *err);

/* Facts about an open table. Plain reads, never fail; all are constant while it is open, except
 * the name (pint_table_rename()), the state (drop, freeze), and the number of columns and bytes,
 * which grow (pint_table_add_columns()). */

/** Never 0, never used again in this pool. @since 0.1 */
PINT_API uint64_t pint_table_id(const pint_table *table);
/** What the creator gave as schema->metadata. View in shared memory, not terminated, valid until
 * the table is closed; written by another process: check it. NULL and 0 for none. @since 0.1 */
PINT_API const void *pint_table_metadata(const pint_table *table, uint64_t *out_bytes);

/** Copy the current name into out_name, PINT_NAME_BYTES_MAX + 1 bytes. @since 0.1 */
PINT_API void pint_table_name(const pint_table *table, char *out_name);
PINT_API uint64_t pint_table_rows(const pint_table *table);
PINT_API uint32_t pint_table_columns(const pint_table *table);
PINT_API uint64_t pint_table_chunk_rows(const pint_table *table);
PINT_API uint64_t pint_table_chunks(const pint_table *table);
/** Bytes of shared memory the table takes, buffers and chunk words together. @since 0.1 */
PINT_API uint64_t pint_table_bytes(const pint_table *table);
PINT_API int pint_table_is_frozen(const pint_table *table);
PINT_API int pint_table_is_dropped(const pint_table *table);
PINT_API int pint_table_is_writable(const pint_table *table);
/** The pool it was opened in. Borrowed. @since 0.1 */
PINT_API pint_pool *pint_table_pool(const pint_table *table);

#ifdef __cplusplus
}
#endif

#endif
