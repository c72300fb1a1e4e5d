/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Work on streams: copies, marks (events), waits. Streams are the caller's CUstream, or of
 * cuStreamCreate(); NULL is the legacy default stream.
 */

#include <inttypes.h>
#include <stdlib.h>

#include "device/cuda_internal.h"
#include "host/error.h"

#define BATCH_RUNS_MIN 4u /* below, single calls cost no more */
#define BATCH_RUNS_MAX 128u

struct pinti_mark {
    pinti_cu_event event;
};

static pint_status failed(const pinti_cuda_state *cuda, pinti_cu_result result, const char *call,
                          pint_error *err)
{
    return pinti_cuda_fail(err, result, call, "GPU %d (%s)", cuda->device.ordinal,
                           cuda->device.name);
}

/* --- Streams ---------------------------------------------------------------------------------- */

pint_status pinti_cuda_stream_create(pinti_backend *backend, void **out_stream, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pinti_cu_stream stream = NULL;
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING);
    pinti_cuda_leave();
    if (result != PINTI_CU_SUCCESS) {
        return failed(cuda, result, "cuStreamCreate", err);
    }
    *out_stream = stream;
    return PINT_OK;
}

void pinti_cuda_stream_destroy(pinti_backend *backend, void *stream)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    if (pinti_cuda_enter(&cuda->device, NULL) != PINT_OK) {
        return;
    }
    (void)pinti_cuda.stream_synchronize(stream); /* the driver's own destroy does not wait */
    (void)pinti_cuda.stream_destroy(stream);
    pinti_cuda_leave();
}

/* What is enqueued on a stream that is being captured does not run: it would look as if it had. */
static pint_status refuse_capture(const pinti_cuda_state *cuda, pinti_cu_stream stream,
                                  pint_error *err)
{
    pinti_cu_capture_status capture = PINTI_CU_CAPTURE_NONE;
    if (pinti_cuda.stream_is_capturing == NULL) {
        return PINT_OK;
    }
    const pinti_cu_result result = pinti_cuda.stream_is_capturing(stream, &capture);
    if (result != PINTI_CU_SUCCESS) {
        return failed(cuda, result, "cuStreamIsCapturing", err);
    }
    if (capture != PINTI_CU_CAPTURE_NONE) {
        return pinti_fail(err, PINT_E_STATE, 0,
                          "GPU %d (%s): the stream is being captured into a graph: begin before "
                          "the graph is launched, end after it",
                          cuda->device.ordinal, cuda->device.name);
    }
    return PINT_OK;
}

pint_status pinti_cuda_stream_check(pinti_backend *backend, void *stream, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status == PINT_OK) {
        status = refuse_capture(cuda, stream, err);
        pinti_cuda_leave();
    }
    return status;
}

pint_status pinti_cuda_stream_wait(pinti_backend *backend, void *stream, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.stream_synchronize(stream);
    pinti_cuda_leave();
    return result == PINTI_CU_SUCCESS ? PINT_OK : failed(cuda, result, "cuStreamSynchronize", err);
}

pint_status pinti_cuda_stream_call(pinti_backend *backend, void *stream, void (*function)(void *),
                                   void *context, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.launch_host_func(stream, function, context);
    pinti_cuda_leave();
    return result == PINTI_CU_SUCCESS ? PINT_OK : failed(cuda, result, "cuLaunchHostFunc", err);
}

/* --- Copies ----------------------------------------------------------------------------------- */

static pint_status copy_one_by_one(const pinti_cuda_state *cuda, bool to_device,
                                   const pinti_piece *pieces, uint32_t n_pieces,
                                   pinti_cu_stream stream, pint_error *err)
{
    for (uint32_t i = 0; i < n_pieces; i++) {
        const pinti_piece *piece = &pieces[i];
        const pinti_cu_result result =
            to_device ? pinti_cuda.memcpy_htod_async(piece->device_address, piece->host,
                                                     piece->bytes, stream)
                      : pinti_cuda.memcpy_dtoh_async(piece->host, piece->device_address,
                                                     piece->bytes, stream);
        if (result != PINTI_CU_SUCCESS) {
            return pinti_cuda_fail(err, result,
                                   to_device ? "cuMemcpyHtoDAsync" : "cuMemcpyDtoHAsync",
                                   "GPU %d (%s): %" PRIu64 " bytes", cuda->device.ordinal,
                                   cuda->device.name, piece->bytes);
        }
    }
    return PINT_OK;
}

/* One call for many pieces. They have no order among them, which is why pieces do not overlap; the
 * source is read in the order of the stream. */
static pinti_cu_result copy_batch(bool to_device, const pinti_piece *pieces, uint32_t n_pieces,
                                  pinti_cu_stream stream)
{
    pinti_cu_ptr from[BATCH_RUNS_MAX];
    pinti_cu_ptr to[BATCH_RUNS_MAX];
    size_t bytes[BATCH_RUNS_MAX];
    pinti_cu_copy_attributes attributes = {.src_order = PINTI_CU_SRC_ORDER_STREAM};
    size_t first = 0;
    for (uint32_t i = 0; i < n_pieces; i++) {
        const pinti_cu_ptr host = (uintptr_t)pieces[i].host;
        from[i] = to_device ? host : pieces[i].device_address;
        to[i] = to_device ? pieces[i].device_address : host;
        bytes[i] = pieces[i].bytes;
    }
    return pinti_cuda.memcpy_batch_async(to, from, bytes, n_pieces, &attributes, &first, 1, stream);
}

/* The entry point takes no default stream. */
static bool is_real(const void *stream)
{
    return stream != NULL && stream != PINTI_CU_STREAM_LEGACY &&
           stream != PINTI_CU_STREAM_PER_THREAD;
}

/* A batch that is refused is done piece by piece: that says which piece it was, if the driver
 * refuses it then, too. Pieces of the batch that are under way all the same are copied twice. */
static pint_status copy(const pinti_cuda_state *cuda, bool to_device, const pinti_piece *pieces,
                        uint32_t n_pieces, pinti_cu_stream stream, pint_error *err)
{
    const bool is_batch = pinti_cuda.memcpy_batch_async != NULL && is_real(stream);
    pint_status status = PINT_OK;
    for (uint32_t done = 0; status == PINT_OK && done < n_pieces;) {
        const uint32_t left = n_pieces - done;
        const uint32_t n = left < BATCH_RUNS_MAX ? left : BATCH_RUNS_MAX;
        pinti_cu_result result = PINTI_CU_NOT_SUPPORTED;
        if (is_batch && n >= BATCH_RUNS_MIN) {
            result = copy_batch(to_device, pieces + done, n, stream);
        }
        if (pinti_cuda_status(result) == PINT_E_DEVICE_LOST) {
            return pinti_cuda_fail(
                err, result, "cuMemcpyBatchAsync", "GPU %d (%s): %" PRIu32 " copies %s the device",
                cuda->device.ordinal, cuda->device.name, n, to_device ? "to" : "from");
        }
        if (result != PINTI_CU_SUCCESS) {
            status = copy_one_by_one(cuda, to_device, pieces + done, n, stream, err);
        }
        done += n;
    }
    return status;
}

/* After an error some of the pieces may be under way. */
pint_status pinti_cuda_copy(pinti_backend *backend, bool to_device, const pinti_piece *pieces,
                            uint32_t n_pieces, void *stream, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    status = copy(cuda, to_device, pieces, n_pieces, stream, err);
    pinti_cuda_leave();
    return status;
}

/* --- Marks ------------------------------------------------------------------------------------ */

static pint_status record(const pinti_cuda_state *cuda, pinti_mark *mark, pinti_cu_stream stream,
                          pint_error *err)
{
    const pint_status status = refuse_capture(cuda, stream, err); /* it would never pass */
    if (status != PINT_OK) {
        return status;
    }
    pinti_cu_result result = pinti_cuda.event_create(&mark->event, PINTI_CU_EVENT_DISABLE_TIMING);
    if (result != PINTI_CU_SUCCESS) {
        return failed(cuda, result, "cuEventCreate", err);
    }
    result = pinti_cuda.event_record(mark->event, stream);
    if (result != PINTI_CU_SUCCESS) {
        (void)pinti_cuda.event_destroy(mark->event);
        return failed(cuda, result, "cuEventRecord", err);
    }
    return PINT_OK;
}

pint_status pinti_cuda_mark(pinti_backend *backend, void *stream, pinti_mark **out_mark,
                            pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_mark *mark = calloc(1, sizeof(*mark));
    if (mark == NULL) {
        status = pinti_fail(err, PINT_E_NO_MEMORY, 0, "device 'cuda': mark");
    } else {
        status = record(cuda, mark, stream, err);
    }
    pinti_cuda_leave();
    if (status != PINT_OK) {
        free(mark);
        return status;
    }
    *out_mark = mark;
    return PINT_OK;
}

pint_status pinti_cuda_mark_passed(pinti_backend *backend, pinti_mark *mark, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.event_query(mark->event);
    pinti_cuda_leave();
    if (result == PINTI_CU_NOT_READY) {
        return pinti_fail(err, PINT_E_TIMEOUT, 0, "GPU %d (%s): not yet", cuda->device.ordinal,
                          cuda->device.name);
    }
    return result == PINTI_CU_SUCCESS ? PINT_OK : failed(cuda, result, "cuEventQuery", err);
}

pint_status pinti_cuda_mark_wait(pinti_backend *backend, pinti_mark *mark, pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.event_synchronize(mark->event);
    pinti_cuda_leave();
    return result == PINTI_CU_SUCCESS ? PINT_OK : failed(cuda, result, "cuEventSynchronize", err);
}

void pinti_cuda_mark_free(pinti_backend *backend, pinti_mark *mark)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    if (mark != NULL && pinti_cuda_enter(&cuda->device, NULL) == PINT_OK) {
        (void)pinti_cuda.event_destroy(mark->event);
        pinti_cuda_leave();
    }
    free(mark);
}

pint_status pinti_cuda_stream_after(pinti_backend *backend, void *stream, pinti_mark *mark,
                                    pint_error *err)
{
    const pinti_cuda_state *cuda = pinti_cuda_of(backend);
    const pint_status status = pinti_cuda_enter(&cuda->device, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_cu_result result = pinti_cuda.stream_wait_event(stream, mark->event, 0);
    pinti_cuda_leave();
    return result == PINTI_CU_SUCCESS ? PINT_OK : failed(cuda, result, "cuStreamWaitEvent", err);
}
