/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_COLUMN_H
#define PINTABLE_COLUMN_H

/*
 * Columns: plain pointers into shared memory, and the calls around them.
 *
 * Writing. A process may store into rows it knows to be its own and then call pint_column_mark().
 * Where nobody can say when there will be stores, pint_column_view_begin() says that there may be.
 * Where several processes share the work, chunks are claimed (lease.h, job.h). Validity and
 * bit-packed values are stored through the calls below (atomic on their byte), or plainly by the
 * owner of a range that is a multiple of 512 rows.
 *
 * Threads: any; a pint_column is plain data and may be copied. It is valid while its table is open.
 */

#include <pintable/table.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A column of an open table. Filled by pint_table_column(); read it through the functions.
 */
typedef struct pint_column {
    pint_table *table; /* borrowed */
    void *values;      /* fixed-width values, bits or codes; NULL for PINT_TEXT */
    uint8_t *validity; /* bitmap, NULL when not nullable */
    int64_t *offsets;  /* PINT_TEXT: rows + 1 of them, else NULL */
    char *data;        /* PINT_TEXT: the text, else NULL */
    uint32_t index;    /* position in the schema */
    pint_type type;
    uint64_t reserved[2];
} pint_column;

/**
 * Find a column by name.
 * @retval PINT_E_NOT_FOUND  no such column
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_table_column(pint_table *table, const char *name,
                                                       pint_column *out_column, pint_error *err);

/** The column at a position, 0 to pint_table_columns() - 1. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_table_column_at(pint_table *table, uint32_t index,
                                                          pint_column *out_column, pint_error *err);

/**
 * First value of the column in shared memory; writable when the table was opened for writing, else
 * the pages are read-only or must be treated so. 64-byte aligned. View, valid until the table is
 * closed. NULL for PINT_TEXT.
 * @since 0.1
 */
static inline void *pint_column_values(const pint_column *column)
{
    return column->values;
}

/* Facts; constant. Strings are views, valid until the table is closed. */
PINT_API const char *pint_column_name(const pint_column *column);
PINT_API pint_unit pint_column_unit(const pint_column *column);
PINT_API const char *pint_column_zone(const pint_column *column); /* "" for none */
PINT_API int pint_column_is_nullable(const pint_column *column);
/** Bytes of a row in the values buffer; 0 for PINT_BOOL and PINT_TEXT. @since 0.1 */
PINT_API uint32_t pint_column_row_bytes(const pint_column *column);
PINT_API uint32_t pint_column_list_length(const pint_column *column);
PINT_API pint_type pint_column_item_type(const pint_column *column);
/** Room for text in bytes (PINT_TEXT, PINT_DICT_TEXT), else 0. @since 0.1 */
PINT_API uint64_t pint_column_data_bytes(const pint_column *column);

/** What the creator gave as field->metadata. As pint_table_metadata(). @since 0.1 */
PINT_API const void *pint_column_metadata(const pint_column *column, uint64_t *out_bytes);

/* ---- nulls and bits: atomic on the byte they live in ------------------------------------- */

/**
 * Mark one row null, or not null. The value stored under a null is left alone.
 * @retval PINT_E_TYPE   the column is not nullable
 * @retval PINT_E_RANGE  no such row
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_set_null(const pint_column *column, uint64_t row,
                                                          int is_null, pint_error *err);

/** 1 if the row is null, 0 if not, or if there is no such row or the column is not nullable. */
PINT_API int pint_column_is_null(const pint_column *column, uint64_t row);

/** Nulls among rows [first, first + n_rows), clipped to the table. @since 0.1 */
PINT_API uint64_t pint_column_count_null(const pint_column *column, uint64_t first,
                                         uint64_t n_rows);

/** Store one value of a PINT_BOOL or PINT_BOOL8 column. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_column_set_bool(const pint_column *column, uint64_t row,
                                                          int value, pint_error *err);

/** One value of a PINT_BOOL or PINT_BOOL8 column: 0 or 1; 0 where there is none. @since 0.1 */
PINT_API int pint_column_get_bool(const pint_column *column, uint64_t row);

/* ---- text and categories ------------------------------------------------------------------ */

/**
 * Write one value of a PINT_TEXT column of a table not yet published, rows in ascending order.
 *
 * Rows that are skipped read as empty. The bytes must be UTF-8. Instead of this call the creator
 * may fill column->offsets (rows + 1 of them, from 0, ascending) and column->data as a whole.
 * @retval PINT_E_STATE   published, or a row at or after this one was already written
 * @retval PINT_E_RANGE   no such row, or the text does not fit the column's room
 * @retval PINT_E_INVALID not UTF-8
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_put_text(const pint_column *column, uint64_t row,
                                                          const char *text, uint64_t text_bytes,
                                                          pint_error *err);

/**
 * One value of a PINT_TEXT or PINT_DICT_TEXT column; a null row of the latter gives "".
 *
 * Offsets and codes are checked against the column's room each time.
 * @param[out] out_text  view, not terminated, valid until the table is closed
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_get_text(const pint_column *column, uint64_t row,
                                                          const char **out_text,
                                                          uint64_t *out_bytes, pint_error *err);

/**
 * Code of a category of a PINT_DICT_TEXT column, added if it is not there yet.
 *
 * Processes: any number may call it at once; categories are only ever appended.
 * @retval PINT_E_RANGE  no room for a further category or its text
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_add_category(const pint_column *column,
                                                              const char *text, uint64_t text_bytes,
                                                              int32_t *out_code, pint_error *err);

/**
 * Write all categories at once, by the creator of a table not yet published.
 *
 * Shape: n texts; text i is text[offsets[i] .. offsets[i + 1]), n + 1 offsets, ascending. Code of
 *        text i is i. No two may be the same; that is not checked.
 * @retval PINT_E_STATE   published, or the column has categories already
 * @retval PINT_E_RANGE   more than the column has room for, in number or bytes
 * @retval PINT_E_INVALID offsets not ascending, or a text is not UTF-8
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_put_categories(const pint_column *column,
                                                                uint64_t n, const int64_t *offsets,
                                                                const char *text, pint_error *err);

/** Categories so far; codes are 0 to this less one. @since 0.1 */
PINT_API uint64_t pint_column_categories(const pint_column *column);

/** Text of a category. View, not terminated, valid until the table is closed. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_column_category(const pint_column *column, uint64_t code,
                                                          const char **out_text,
                                                          uint64_t *out_bytes, pint_error *err);

/**
 * Check that rows hold what the column's type promises, before they go to code that trusts them:
 * offsets ascending and inside the room (PINT_TEXT), codes of rows that are not null below the
 * number of categories and codes under null from -1 up (PINT_DICT_TEXT), bytes 0 or 1 (PINT_BOOL8).
 * Other types hold always.
 *
 * Shape: rows [first, first + n_rows) inside the table; reads them once.
 * Holds: for what was there during the call.
 * @retval PINT_E_CORRUPT  names the first row that is not as promised
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_validate(const pint_column *column, uint64_t first,
                                                          uint64_t n_rows, pint_error *err);

/* ---- writable views ------------------------------------------------------------------------- */

/** A pointer into a column that is stored through; see pint_column_view_begin(). */
typedef struct pint_view pint_view;

/**
 * From now on rows of the column may be stored to plainly, at any time and without
 * pint_column_mark(), by whoever has a pointer: until pint_column_view_end() the column counts as
 * changed on the host. Brackets on a device copy its chunks anew each time they read them, and the
 * end of one that has written waits until its rows are on the host.
 *
 * Rows that a device has newest already (PINT_E_DEVICE_AHEAD), or that are stored to while a
 * bracket has them to write: what is stored there is lost when they come to the host.
 * pint_copy_own_host() first.
 *
 * Cost:      some memory operations for the first view of a column in a process, with a look at
 *            each chunk if it has device copies; a count for all others.
 * Processes: counted for the process; when it dies the service ends its views, after the last child
 *            forked from it. A column whose process died in the middle of this call or of the next
 *            may count as changed for as long as the table is there.
 * fork():    views are good in the child, to be ended there as well. The parent's column counts
 *            for as long as the parent or a child without a session of its own lives.
 *
 * @param[out] out_view  to be ended before the pool is left. Good also after
 *                       pint_table_add_columns() moved the column to another table.
 * @retval PINT_E_PERMISSION  the table was opened to read
 * @retval PINT_E_FROZEN
 * @retval PINT_E_TYPE        PINT_TEXT: not written after publishing
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_view_begin(const pint_column *column,
                                                            pint_view **out_view, pint_error *err);

/** No more stores through this view. NULL is allowed. Never blocks. @since 0.1 */
PINT_API void pint_column_view_end(pint_view *view);

/* ---- versions, reading while others write, waiting ----------------------------------------- */

/**
 * Tell others that rows stored plainly have changed: moves the version of their chunks on. Device
 * copies are out of date from then on; where there are any, pint_copy_own_host() comes before the
 * stores.
 *
 * Shape: rows [first, first + n_rows) inside the table.
 * @retval PINT_E_BUSY    a chunk is leased; chunks before it were marked
 * @retval PINT_E_DEVICE_AHEAD  a chunk was newest on a device only; chunks before it were marked
 * @retval PINT_E_FROZEN, PINT_E_PERMISSION
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_mark(const pint_column *column, uint64_t first,
                                                      uint64_t n_rows, pint_error *err);

/** Version of a chunk: moves on at every claim, commit, abandon and mark. @since 0.1 */
PINT_API uint64_t pint_column_version(const pint_column *column, uint64_t chunk);

/**
 * Copy rows out so that the copy is what some moment's commits left, without a lease.
 *
 * Shape:    rows [first, first + n_rows) inside the table; out_values has room for
 *           n_rows * pint_column_row_bytes(), bits for PINT_BOOL starting at bit 0.
 * Types:    every type but PINT_TEXT (whose bytes do not change after publishing).
 * Holds:    for changes made under leases or followed by mark; plain stores not yet marked are
 *           not noticed.
 *
 * @param[out] out_validity  n_rows bits starting at bit 0, or NULL
 * @retval PINT_E_CHANGED  a chunk changed meanwhile: try again
 * @retval PINT_E_BUSY     a chunk is being written
 * @retval PINT_E_TORN     a chunk's writer died in it
 * @retval PINT_E_DEVICE_AHEAD  a chunk is newest on a device only: pint_copy_to_host()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_read(const pint_column *column, uint64_t first,
                                                      uint64_t n_rows, void *out_values,
                                                      uint8_t *out_validity, pint_error *err);

/**
 * Begin to read a chunk in place, without a copy and without a lease: pint_column_read() in two
 * halves. Read through the pointers, use nothing of it yet, then ask pint_column_read_end().
 *
 * Types: every one.
 * Holds: as pint_column_read().
 *
 * @param[out] out_stamp  for pint_column_read_end()
 * @retval PINT_E_RANGE  no such chunk
 * @retval PINT_E_BUSY   it is being written
 * @retval PINT_E_TORN   its writer died in it
 * @retval PINT_E_DEVICE_AHEAD  it is newest on a device only: pint_copy_to_host()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_read_begin(const pint_column *column,
                                                            uint64_t chunk, uint64_t *out_stamp,
                                                            pint_error *err);

/**
 * Was everything read since pint_column_read_begin() of one moment?
 *
 * @retval PINT_E_CHANGED      no: throw away what was read
 * @retval PINT_E_UNSUPPORTED  in a pool joined read-only, on a processor that may reorder loads:
 *                             use pint_column_read()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_read_end(const pint_column *column, uint64_t chunk,
                                                          uint64_t stamp, pint_error *err);

/**
 * Wait until a chunk's version differs from the one seen.
 *
 * @param[in]  timeout_ms   -1: no limit; 0: just look
 * @param[out] out_version  may be NULL
 * @retval PINT_E_TIMEOUT  still the same
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_wait(const pint_column *column, uint64_t chunk,
                                                      uint64_t seen_version, int64_t timeout_ms,
                                                      uint64_t *out_version, pint_error *err);

/**
 * Accept a torn chunk's bytes as they are: the explicit way out of PINT_E_TORN (the other is a
 * lease with PINT_OUT that rewrites the whole chunk).
 * @retval PINT_E_STATE  the chunk is not torn
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_column_recover(const pint_column *column, uint64_t chunk,
                                                         pint_error *err);

#ifdef __cplusplus
}
#endif

#endif
