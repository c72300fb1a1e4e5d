/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_JOB_H
#define PINTABLE_JOB_H

/*
 * Jobs: a named work-sharing loop over the chunks of a table. Any number of processes take chunks
 * of it; each chunk takes effect exactly once, whoever dies when. "Effect" is what is written to
 * the columns the job declares; work done elsewhere may happen more than once.
 *
 * Threads: a job handle may be used by any number of threads.
 */

#include <pintable/lease.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pint_job pint_job; /* process-local handle on a shared job */

/** One column of a job. */
typedef struct pint_use {
    const char *column; /* name; borrowed */
    uint32_t use;       /* PINT_IN, PINT_OUT (every row of the chunk is written) or PINT_INOUT */
    uint32_t reserved;  /* 0 */
} pint_use;

/**
 * Create a job on a table, or join the one of that name.
 *
 * Whoever comes first creates it; the others get the same job if they name the same columns and
 * uses. n_uses 0 joins an existing job only. Memory: one undo buffer for each chunk in flight
 * (twice the processors, at least 8) with the bytes of the PINT_INOUT columns of a chunk.
 *
 * Owns:  creates *out_job, closed with pint_job_close(); keeps a reference on the table's memory.
 * @retval PINT_E_EXISTS     a job of that name has other columns or uses
 * @retval PINT_E_NOT_FOUND  n_uses is 0 and there is none; or no such column
 * @retval PINT_E_TYPE       a PINT_TEXT column other than PINT_IN
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_create(pint_table *table, const char *name,
                                                     const pint_use *uses, uint32_t n_uses,
                                                     pint_job **out_job, pint_error *err);

/** Give the handle up; the job and its state stay. NULL is allowed. @since 0.1 */
PINT_API void pint_job_close(pint_job *job);

/**
 * Forget a job by name. Holders of its chunks may finish them.
 * @retval PINT_E_NOT_FOUND
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_drop(pint_table *table, const char *name,
                                                   pint_error *err);

/**
 * Take the next chunk, waiting while others hold the last ones (they may die and leave them).
 *
 * @param[in]  timeout_ms  for the waiting; -1: no limit
 * @param[out] out_lease   rows [first, first + n_rows) are the caller's until done, fail or death
 * @retval PINT_OK          out_lease is held
 * @retval PINT_FINISHED    every chunk is done or failed; nothing is held
 * @retval PINT_AGAIN       this session holds the only chunks left, or every undo buffer: finish
 *                          some first
 * @retval PINT_E_TIMEOUT
 * @retval PINT_E_TORN      a chunk of a PINT_IN or PINT_INOUT column is torn: recover it
 * @retval PINT_E_DEVICE_AHEAD  one is newest on a device only: pint_copy_to_host()
 * @retval PINT_E_GONE      chunks are held by the dead and no service is there to free them
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_next_timed(pint_job *job, int64_t timeout_ms,
                                                         pint_lease *out_lease, pint_error *err);

/** pint_job_next_timed() without a limit. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_job_next(pint_job *job, pint_lease *out_lease,
                                                   pint_error *err);

/**
 * The chunk is done: its columns are published and it will not be handed out again. The lease is
 * void afterwards, also on error.
 * @retval PINT_E_LEASE_LOST
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_done(pint_job *job, pint_lease *lease,
                                                   pint_error *err);

/**
 * The chunk could not be done: PINT_INOUT columns get their old bytes back, and it is handed out
 * again, or set aside as failed the third time (deaths count too).
 *
 * @param[in] text  why, at most 200 bytes are kept; NULL for none
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_fail(pint_job *job, pint_lease *lease,
                                                   const char *text, pint_error *err);

/**
 * The chunk cannot be done by anyone: as pint_job_fail(), but it is set aside as failed at once.
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_reject(pint_job *job, pint_lease *lease,
                                                     const char *text, pint_error *err);

/** What a job has come to. Counts of chunks, read one by one while others work. */
typedef struct pint_job_progress {
    uint32_t struct_bytes; /* sizeof(pint_job_progress) as the caller was compiled */
    uint32_t reserved;
    uint64_t n_chunks;
    uint64_t n_done;
    uint64_t n_failed;
    uint64_t n_held;   /* taken by somebody now */
    uint64_t n_redone; /* times a chunk was handed out again after a death or failure */
} pint_job_progress;

#define PINT_JOB_PROGRESS_INIT                                                                     \
    {                                                                                              \
        sizeof(pint_job_progress), 0, 0, 0, 0, 0, 0                                                \
    }

/** @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_job_get_progress(const pint_job *job,
                                                           pint_job_progress *progress,
                                                           pint_error *err);

/**
 * Wait until every chunk is done or failed.
 * @param[in] timeout_ms  -1: no limit; 0: just look
 * @retval PINT_E_TIMEOUT
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_wait(pint_job *job, int64_t timeout_ms,
                                                   pint_error *err);

/**
 * Text of a failure, newest of that chunk. The first 64 failures of a job keep their text.
 * @param[out] out_text  room for 201 bytes
 * @retval PINT_E_NOT_FOUND  the chunk has not failed, or its text was not kept
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_failure(const pint_job *job, uint64_t chunk,
                                                      char *out_text, pint_error *err);

/**
 * One failed chunk after another, ascending.
 *
 * Start with *cursor 0.
 *
 * @param[in,out] cursor  position; opaque
 * @retval PINT_E_NOT_FOUND  no further one
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_job_next_failed(const pint_job *job, uint64_t *cursor,
                                                          uint64_t *out_chunk, pint_error *err);

#ifdef __cplusplus
}
#endif

#endif
