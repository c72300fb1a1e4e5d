/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_DEVICE_H
#define PINTABLE_DEVICE_H

/*
 * Device copies: the twin of a column in the memory of a device, shared by every process that uses
 * the device, kept coherent with the host chunk by chunk.
 *
 *   device   "host" (device memory is host memory, copies are made by threads: works everywhere),
 *            "cuda:N" (the N-th GPU visible to this process) or "cuda:UUID"
 *   copy     the device copy of one column; owned by the service, not by a process
 *   bracket  pint_device_begin() ... work on a stream ... pint_device_end()
 *
 * A chunk is newest on the host, on devices, or both; never on both when they differ. Only stale
 * chunks are moved. Who writes takes the chunk first, on either side: host writers by a lease, a
 * job or pint_column_mark(), device writers by a bracket. While there is a writable view
 * (pint_column_view_begin()) chunks are never newest on both, and each bracket moves what it reads.
 *
 * Streams are the caller's: a CUstream or cudaStream_t on a CUDA device; on "host", and wherever
 * the caller has none, one of pint_stream_create(). NULL is the default stream of the device.
 *
 * Threads:   devices and copies may be used by any number of threads.
 * Processes: handles do not survive fork(): PINT_E_FORKED in the child. Start GPU workers by exec.
 */

#include <pintable/column.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pint_device pint_device; /* process-local handle on a device */
typedef struct pint_copy pint_copy;     /* process-local handle on a device copy */

/* kinds of a copy, chosen when it is created; one cannot be turned into the other */
#define PINT_COPY_VMM                                                                              \
    1u                   /* shared by descriptor: outlives every process, may be mapped read-only  \
                          */
#define PINT_COPY_IPC 2u /* shared by the 64-byte CUDA IPC handle; lives as long as its broker */

#define PINT_COPY_EXISTING 3u /* pint_copy_open() alone: whatever is there, and make none */

#define PINT_DEVICE_NAME_BYTES_MAX 63u
#define PINT_ALL_ROWS              UINT64_MAX /* as n_rows: to the end of the table */

/** What a device can do, found out by trying. Start from PINT_DEVICE_INFO_INIT. */
typedef struct pint_device_info {
    uint32_t struct_bytes; /* sizeof(pint_device_info) as the caller was compiled */
    uint32_t is_cuda;      /* 0: backend "host" */
    uint8_t uuid[16];      /* never an ordinal: ordinals differ between processes */
    char name[PINT_DEVICE_NAME_BYTES_MAX + 1]; /* for people; terminated */
    uint64_t memory_bytes;                     /* of the device */
    uint64_t free_bytes;                       /* at the moment of the call */
    uint64_t pinned_bytes;                     /* host memory this process has registered with it */
    uint64_t budget_bytes;                     /* for copies of this pool; 0: no limit */
    uint32_t can_vmm;                          /* PINT_COPY_VMM works here */
    uint32_t can_ipc;                          /* PINT_COPY_IPC works here */
    uint32_t can_map_host;                     /* kernels may read pinned host memory */
    uint32_t driver_version;                   /* CUDA: as cuDriverGetVersion, 13000; else 0 */
    int32_t ordinal; /* CUDA: of the GPU in this process, as cudaSetDevice() counts; else -1 */
    uint32_t reserved;
} pint_device_info;

#define PINT_DEVICE_INFO_INIT                                                                      \
    {                                                                                              \
        sizeof(pint_device_info), 0, {0}, {0}, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0                       \
    }

/**
 * Open a device for the tables of a pool.
 *
 * Owns:      creates *out_device, closed with pint_device_close(). A pool that is left before stays
 *            joined until then.
 * Processes: loads the CUDA driver when the name says so, and keeps the GPU's primary context.
 * @param[in] name  "host", "cuda:0", "cuda:GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", or "cuda:"
 * and the 32 hexadecimal digits alone
 * @retval PINT_E_NO_DEVICE   no driver, one before CUDA 12.0, no such GPU, or it is hidden from
 * this process; says which
 * @retval PINT_E_LIMIT       the pool knows 8 devices already
 * @retval PINT_E_FORKED      the driver was loaded before fork()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_open(pint_pool *pool, const char *name,
                                                      pint_device **out_device, pint_error *err);

/** Give it up: unregisters what was pinned. Copies opened from it are closed first by the caller.
 * NULL is allowed. @since 0.1 */
PINT_API void pint_device_close(pint_device *device);

/** Facts and capabilities. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_device_get_info(const pint_device *device,
                                                          pint_device_info *info, pint_error *err);

/* ---- streams ------------------------------------------------------------------------------- */

/** Make a stream: work on it runs in order. Destroyed with pint_stream_destroy(). @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_stream_create(pint_device *device, void **out_stream,
                                                        pint_error *err);
/** Wait for its work, then destroy it. @since 0.1 */
PINT_API void pint_stream_destroy(pint_device *device, void *stream);
/** Wait until all work enqueued so far is done. PINT_E_DEVICE: it failed. @since 0.1 */
PINT_API PINT_MUST_CHECK pint_status pint_stream_wait(pint_device *device, void *stream,
                                                      pint_error *err);
/**
 * Enqueue a call of a function on a host thread: the kernel of backend "host". It must not call
 * the device API.
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_stream_call(pint_device *device, void *stream,
                                                      void (*function)(void *context),
                                                      void *context, pint_error *err);

/* ---- pinning ------------------------------------------------------------------------------- */

/** Called between pieces: bytes done and in all. Not 0: stop, and undo what was pinned. May not
 * call the device API. */
typedef int (*pint_pin_progress)(void *context, uint64_t done_bytes, uint64_t all_bytes);

/**
 * Register a table's host memory with the device, in pieces of at most 1 GiB, so that copies run at
 * full speed and kernels may read it. Optional: a bracket pins what it moves if it fits the budget,
 * else goes through a staging ring.
 *
 * Counted: unpin once for each pin.
 * @param[in] progress  or NULL
 * @retval PINT_E_QUOTA         over the pin budget of the process ($PINTABLE_PIN_BYTES)
 * @retval PINT_E_DEVICE        the driver refused; nothing stays pinned
 * @retval PINT_E_INTERRUPTED   progress said so
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_pin(pint_device *device, pint_table *table,
                                                     pint_pin_progress progress, void *context,
                                                     pint_error *err);
PINT_API PINT_MUST_CHECK pint_status pint_device_unpin(pint_device *device, pint_table *table,
                                                       pint_error *err);

/**
 * Address at which kernels see the column's host memory; pins the table for as long as the device
 * is open. For data that are read once: every access goes over the bus. Not coherent by itself:
 * what is newer on a device is not there.
 * @retval PINT_E_UNSUPPORTED  the device cannot
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_mapped(pint_device *device,
                                                        const pint_column *column,
                                                        uint64_t *out_address, pint_error *err);

/* ---- copies -------------------------------------------------------------------------------- */

/**
 * Open the device copy of a column; the first one creates it, others import the same memory.
 *
 * Shape: as the column: values at pint_copy_values(), validity bitmap at pint_copy_validity().
 * Owns:  creates *out_copy, closed with pint_copy_close(). The device memory stays until the copy
 *        or the table is dropped, or it is evicted for another when nobody has it open.
 *
 * @param[in] kind    PINT_COPY_VMM or PINT_COPY_IPC for one that is created; 0: whatever is there,
 *                    else VMM; PINT_COPY_EXISTING: whatever is there
 * @param[in] access  PINT_READ, or PINT_WRITE
 * @retval PINT_E_NOT_FOUND    PINT_COPY_EXISTING, and there is none
 * @retval PINT_E_EXISTS       there is one of another kind
 * @retval PINT_E_UNSUPPORTED  the device has no copies of this kind
 * @retval PINT_E_BUSY         the one before was dropped, and somebody still has it open
 * @retval PINT_E_TYPE         a PINT_TEXT column
 * @retval PINT_E_QUOTA        over the device's budget and nothing can be evicted
 * @retval PINT_E_DEVICE_MEMORY the device is out of memory
 * @retval PINT_E_PERMISSION   PINT_WRITE on a table opened to read, or the pool was joined
 * read-only
 * @retval PINT_E_LIMIT        64 sessions have it open
 * @retval PINT_E_DEVICE       the driver refused, or the broker that makes the memory has ended or
 * hangs; says what
 * @retval PINT_E_DEVICE_LOST  it was dropped meanwhile
 * @retval PINT_E_NO_MEMORY, PINT_E_FORKED, PINT_E_GONE, PINT_E_STALE
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_open(pint_device *device, const pint_column *column,
                                                    uint32_t kind, uint32_t access,
                                                    pint_copy **out_copy, pint_error *err);

/** Give the handle up. Brackets that are open on it are cancelled, which waits for their streams.
 * NULL is allowed. @since 0.1 */
PINT_API void pint_copy_close(pint_copy *copy);

/**
 * Bring what is newer on the device to the host, then drop the copy for everybody. Those who have
 * it open keep the memory until they close it; their calls give PINT_E_DEVICE_LOST from then on.
 *
 * Loses nothing: it is dropped only when no session has a bracket on it or copies from or to it,
 * and no chunk is newest there alone; waits up to a second for that. Else it stays as it was, and
 * who works on it notices nothing. Torn chunks stay torn, and what is newest on another device
 * stays there. For the user of the copy or of the table, the service's user and root.
 *
 * @retval PINT_E_BUSY          a bracket is open on it in this process, or others work on it all
 *                              the time: try again
 * @retval PINT_E_PERMISSION    another user's copy of another user's table, or the pool was joined
 *                              read-only
 * @retval PINT_E_DEVICE_LOST   it was dropped already, or the device is lost: pint_copy_discard()
 * @retval PINT_E_DEVICE        the driver refused the copies to the host; says what
 * @retval PINT_E_GONE, PINT_E_NO_SERVICE, PINT_E_STALE
 *                              no answer: it may be dropped or not; it can be asked for again
 * @retval PINT_E_FORKED
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_drop(pint_copy *copy, pint_error *err);

/**
 * Drop a column's copy on a device for everybody, at any price and without opening it: for memory
 * that cannot be opened any more, as after a reset of the GPU. Chunks that were newest there alone
 * become torn, open brackets on it publish nothing, and whoever begins one gets PINT_E_DEVICE_LOST.
 * Those who have it open keep the memory until they close it.
 * @retval PINT_E_NOT_FOUND   the column has no copy on this device
 * @retval PINT_E_PERMISSION  the table was opened to read, or the pool was joined read-only
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_discard(pint_device *device,
                                                       const pint_column *column, pint_error *err);

/** Device address of row 0's value; on "host" a plain pointer. Constant while open. @since 0.1 */
PINT_API uint64_t pint_copy_values(const pint_copy *copy);
/** Device address of the validity bitmap; 0 when the column is not nullable. @since 0.1 */
PINT_API uint64_t pint_copy_validity(const pint_copy *copy);
/** Bytes of device memory. @since 0.1 */
PINT_API uint64_t pint_copy_bytes(const pint_copy *copy);
PINT_API uint32_t pint_copy_kind(const pint_copy *copy);
/** Number of this allocation: never used again in the pool. @since 0.1 */
PINT_API uint64_t pint_copy_generation(const pint_copy *copy);

/* ---- brackets ------------------------------------------------------------------------------ */

/**
 * Take rows for work on a stream: waits for rights, enqueues the copies of stale chunks, and leaves
 * the stream such that work enqueued next finds the newest values on the device.
 *
 * Shape:   rows are widened to whole chunks.
 * Device:  copies and the caller's work are asynchronous; the call blocks only for chunks that
 *          others hold, and for as long as they do.
 * Rights:  readers share a chunk; a writer has it alone, on all devices and the host. Others are
 *          other processes and other threads of this one. What the calling thread itself has in an
 *          open bracket is not waited for: it would wait for itself.
 * Writing: PINT_WRITE promises every row of the chunks will be written, and brings nothing;
 *          PINT_READ | PINT_WRITE brings them first. Chunks of a writer that dies or whose stream
 *          fails come back from the host where it has them, else they are torn.
 *
 * Nothing is taken unless it returns PINT_OK.
 *
 * @param[in] access      PINT_READ, PINT_WRITE or both
 * @param[in] timeout_ms  -1: no limit; 0: do not wait
 * @retval PINT_E_BUSY       with timeout_ms 0: another holds a chunk; with any timeout_ms: the
 *                           calling thread has a chunk in an open bracket that is in the way
 * @retval PINT_E_TIMEOUT    others held a chunk all the time
 * @retval PINT_E_INTERRUPTED  the wait was ended by pint_set_interrupt()'s function
 * @retval PINT_E_TORN       a chunk is torn, and access has PINT_READ
 * @retval PINT_E_DEVICE_AHEAD  a chunk is newest on a device where this process has not opened its
 *                           copy, and access has PINT_READ
 * @retval PINT_E_DEVICE_LOST  the copy was dropped, or the GPU is lost
 * @retval PINT_E_DEVICE     the driver refused, or the stream has failed; says what
 * @retval PINT_E_DEVICE_MEMORY, PINT_E_NO_MEMORY  of the device, of the host
 * @retval PINT_E_FROZEN, PINT_E_PERMISSION  access has PINT_WRITE, and the table or copy is not
 *                           for writing
 * @retval PINT_E_RANGE      rows outside the table
 * @retval PINT_E_INVALID    access, or on "host" the stream, is none
 * @retval PINT_E_CORRUPT    a chunk's word cannot be
 * @retval PINT_E_FORKED     the copy was opened before fork()
 * @retval PINT_E_GONE, PINT_E_STALE  the service stays away, or was replaced with another pool
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_begin(pint_copy *copy, uint64_t first,
                                                       uint64_t n_rows, uint32_t access,
                                                       void *stream, int64_t timeout_ms,
                                                       pint_error *err);

/**
 * Give the rows back once the stream has come to this point: with PINT_WRITE the device then has
 * the newest values. Same copy, rows, access and stream as the begin; any thread. Does not block,
 * but after PINT_WRITE on a column with writable views (pint_column_view_begin()): then it waits
 * for the stream and brings the rows to the host, where the views' next stores are kept.
 *
 * Others see it when the stream has passed, noticed by the library's own thread: pint_copy_wait()
 * waits for that. If the stream fails until then, nothing is published, as by
 * pint_device_cancel(); pint_stream_wait() says so.
 *
 * The bracket has ended also when an error is returned, but for PINT_E_STATE, PINT_E_INVALID and
 * PINT_E_FORKED.
 *
 * @retval PINT_E_STATE   there is no such open bracket
 * @retval PINT_E_DEVICE, PINT_E_DEVICE_LOST  the stream has failed already, nothing was published
 * @retval PINT_E_FORKED  the copy was opened before fork()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_end(pint_copy *copy, uint64_t first,
                                                     uint64_t n_rows, uint32_t access, void *stream,
                                                     pint_error *err);

/**
 * Give rows back without publishing: as the death of their holder. Rows taken with PINT_WRITE come
 * back from the host where it has them, else they are torn. Waits for the stream, and does not mind
 * if it has failed.
 * @retval PINT_E_STATE   there is no such open bracket
 * @retval PINT_E_FORKED  the copy was opened before fork()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_cancel(pint_copy *copy, uint64_t first,
                                                        uint64_t n_rows, uint32_t access,
                                                        void *stream, pint_error *err);

/**
 * pint_device_begin() on the same rows of several columns: of all, or of none. Nothing is in hand
 * while it waits, so that two that want the same columns in different orders do not wait for each
 * other.
 *
 * @param[in] copies  of different columns of one table, on one device; in any order
 * @retval PINT_E_INVALID  none, several tables or devices, or a column twice
 * @retval others     as for pint_device_begin()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_begin_all(pint_copy *const *copies,
                                                           uint32_t n_copies, uint64_t first,
                                                           uint64_t n_rows, uint32_t access,
                                                           void *stream, int64_t timeout_ms,
                                                           pint_error *err);

/**
 * pint_device_end() on several columns. If one of them has no such open bracket, none ends.
 * @retval others     as for pint_device_end()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_end_all(pint_copy *const *copies,
                                                         uint32_t n_copies, uint64_t first,
                                                         uint64_t n_rows, uint32_t access,
                                                         void *stream, pint_error *err);

/**
 * pint_device_cancel() on several columns. If one of them has no such open bracket, none ends.
 * @retval others     as for pint_device_cancel()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_device_cancel_all(pint_copy *const *copies,
                                                            uint32_t n_copies, uint64_t first,
                                                            uint64_t n_rows, uint32_t access,
                                                            void *stream, pint_error *err);

/**
 * Wait until brackets of this process that have ended on these rows are over: their streams have
 * passed the end, and what they wrote is published. To be called before another process is told
 * that it is done. Brackets that are open, and those of other processes, are not waited for.
 *
 * Does not say whether the work succeeded: pint_stream_wait() does. Also on a copy that was
 * dropped.
 *
 * @param[in] timeout_ms  -1: no limit; 0: do not wait
 * @retval PINT_E_BUSY, PINT_E_TIMEOUT  with timeout_ms 0, with another: not yet
 * @retval PINT_E_INTERRUPTED  as for pint_device_begin()
 * @retval PINT_E_RANGE, PINT_E_FORKED
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_wait(pint_copy *copy, uint64_t first,
                                                    uint64_t n_rows, int64_t timeout_ms,
                                                    pint_error *err);

/**
 * Bring chunks that are newer on the device to the host; returns when they are there. Leases, jobs
 * and plain readers of the host find them from then on. On failure some may be there already.
 * @param[in] timeout_ms  for chunks that others hold. -1: no limit; 0: do not wait
 * @param[out] out_bytes  bytes copied, or NULL; left alone on failure
 * @retval PINT_E_BUSY       with timeout_ms 0: another holds a chunk; with any timeout_ms: the
 *                           calling thread has a chunk in an open bracket with PINT_WRITE
 * @retval PINT_E_TIMEOUT    others held a chunk all the time
 * @retval PINT_E_INTERRUPTED  as for pint_device_begin()
 * @retval PINT_E_TORN          a chunk is torn
 * @retval PINT_E_DEVICE_AHEAD  as for pint_device_begin()
 * @retval PINT_E_DEVICE     the driver refused or the copy failed; the chunks are newest on the
 *                           device, as before
 * @retval PINT_E_DEVICE_LOST  the copy was dropped, or the GPU is lost
 * @retval PINT_E_NO_MEMORY, PINT_E_RANGE, PINT_E_CORRUPT, PINT_E_FORKED, PINT_E_GONE, PINT_E_STALE
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_to_host(pint_copy *copy, uint64_t first,
                                                       uint64_t n_rows, int64_t timeout_ms,
                                                       uint64_t *out_bytes, pint_error *err);

/**
 * Before rows are stored plainly (not under a lease) on the host while the column has device
 * copies: brings what is newer on this device and takes the chunks off all devices.
 * pint_column_mark() afterwards tells others.
 * @param[in] timeout_ms  as for pint_copy_to_host()
 * @retval PINT_E_PERMISSION  the copy was opened to read
 * @retval PINT_E_FROZEN   the table is frozen
 * @retval others          as for pint_copy_to_host()
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_own_host(pint_copy *copy, uint64_t first,
                                                        uint64_t n_rows, int64_t timeout_ms,
                                                        pint_error *err);

/** Where the newest bytes of a chunk are: bit 0 the host, bit 1 this device. @since 0.1 */
PINT_API uint32_t pint_copy_places(const pint_copy *copy, uint64_t chunk);

/** Bytes moved by this handle so far, to the device and to the host. @since 0.1 */
PINT_API void pint_copy_moved(const pint_copy *copy, uint64_t *out_to_device,
                              uint64_t *out_to_host);

/* ---- handles for code that does not know this library ---------------------------------------- */

#define PINT_IPC_HANDLE_BYTES 64u

/** A device copy's memory, for a foreign importer. Start from PINT_HANDLE_INIT. */
typedef struct pint_handle {
    uint32_t struct_bytes; /* sizeof(pint_handle) as the caller was compiled */
    uint32_t kind;         /* PINT_COPY_VMM: fd; PINT_COPY_IPC: ipc */
    uint8_t uuid[16];      /* of the device */
    uint64_t generation;   /* pint_copy_generation() */
    uint64_t bytes;        /* of the allocation */
    uint64_t values_off;   /* from its start */
    uint64_t validity_off; /* UINT64_MAX: none */
    int32_t fd;            /* owned by the caller, who closes it; -1 for PINT_COPY_IPC */
    uint32_t reserved;
    uint8_t ipc[PINT_IPC_HANDLE_BYTES]; /* a cudaIpcMemHandle_t */
} pint_handle;

#define PINT_HANDLE_INIT                                                                           \
    {                                                                                              \
        sizeof(pint_handle), 0, {0}, 0, 0, 0, 0, -1, 0,                                            \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/**
 * The raw handle of a copy. The importer reads between brackets of its own or of a cooperating
 * process: nothing protects it otherwise.
 * @since 0.1
 */
PINT_API PINT_MUST_CHECK pint_status pint_copy_export(pint_copy *copy, pint_handle *out_handle,
                                                      pint_error *err);

#ifdef __cplusplus
}
#endif

#endif
