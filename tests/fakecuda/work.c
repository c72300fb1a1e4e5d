/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies, fills and words: checked when they are enqueued, and checked again when they run, since
 * what they name may be gone by then. Then the context is broken by an illegal address, as on the
 * device.
 */

#include <stdlib.h>
#include <string.h>

#include "tests/fakecuda/fakecuda.h"
#include "tests/fakecuda/internal.h"

static uint64_t bytes_to_device, bytes_to_host;
static unsigned int batch_order;

/* Where one side of an operation lies. */
typedef struct place {
    const fake_range *device;        /* or */
    const fake_registration *pinned; /* by host or device address */
} place;

static bool find_place(uintptr_t at, size_t bytes, place *out)
{
    out->device = fake_range_find(at, bytes);
    out->pinned = out->device == NULL ? fake_registration_find(at, bytes) : NULL;
    return out->device != NULL || out->pinned != NULL;
}

static bool can_access(const place *at, bool writes)
{
    if (at->pinned != NULL) {
        return at->pinned->incarnation == at->pinned->context->incarnation &&
               (!writes || (at->pinned->flags & PINTI_CU_REGISTER_READ_ONLY) == 0);
    }
    if (at->device->kind == FAKE_IMPORT && !fake_import_is_alive(at->device)) {
        return false;
    }
    return writes ? at->device->access == PINTI_CU_ACCESS_READWRITE
                  : at->device->access != PINTI_CU_ACCESS_NONE;
}

static pinti_cu_result do_copy(const fake_op *op)
{
    place dst;
    place src;
    if (!find_place(op->dst, op->bytes, &dst) || !find_place(op->src, op->bytes, &src) ||
        !can_access(&dst, true) || !can_access(&src, false)) {
        return PINTI_CU_ILLEGAL_ADDRESS;
    }
    memmove((void *)op->dst, (const void *)op->src, op->bytes);
    if (dst.device != NULL && src.pinned != NULL) {
        bytes_to_device += op->bytes;
    } else if (dst.pinned != NULL && src.device != NULL) {
        bytes_to_host += op->bytes;
    }
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_work_do(const fake_op *op)
{
    if (op->work == FAKE_COPY) {
        return do_copy(op);
    }
    place dst;
    if (!find_place(op->dst, op->bytes, &dst) || !can_access(&dst, true)) {
        return PINTI_CU_ILLEGAL_ADDRESS;
    }
    if (op->work == FAKE_FILL) {
        memset((void *)op->dst, (int)op->value, op->bytes);
    } else {
        /* release: what the stream did before is visible to whoever acquires the word */
        __atomic_store_n((uint64_t *)op->dst, op->value, __ATOMIC_RELEASE);
    }
    return PINTI_CU_SUCCESS;
}

/* --- Enqueueing ------------------------------------------------------------------------------- */

enum side { HOST, DEVICE, EITHER };

/* Memory of the device, or registered: a copy from or to pageable memory would not be
 * asynchronous, and none may cross two registrations. */
static bool is_side(uintptr_t at, size_t bytes, enum side side)
{
    place found;
    if (!find_place(at, bytes, &found)) {
        return false;
    }
    return side == EITHER || (side == HOST ? found.pinned != NULL : found.device != NULL);
}

static pinti_cu_result append_copy(pinti_cu_context context, pinti_cu_stream handle,
                                   const fake_op *op, enum side dst, enum side src)
{
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS) {
        return result;
    }
    if (op->bytes == 0) {
        return PINTI_CU_SUCCESS;
    }
    if (!is_side(op->dst, op->bytes, dst) || !is_side(op->src, op->bytes, src)) {
        return PINTI_CU_INVALID_VALUE;
    }
    return fake_stream_append(stream, op, NULL);
}

pinti_cu_result fake_memcpy_htod_async(pinti_cu_ptr dst, const void *src, size_t bytes,
                                       pinti_cu_stream stream)
{
    FAKE_ENTER_CONTEXT(memcpy_htod_async, context)
    const fake_op op = {
        .work = FAKE_COPY, .dst = (uintptr_t)dst, .src = (uintptr_t)src, .bytes = bytes};
    return append_copy(context, stream, &op, DEVICE, HOST);
}

pinti_cu_result fake_memcpy_dtoh_async(void *dst, pinti_cu_ptr src, size_t bytes,
                                       pinti_cu_stream stream)
{
    FAKE_ENTER_CONTEXT(memcpy_dtoh_async, context)
    const fake_op op = {
        .work = FAKE_COPY, .dst = (uintptr_t)dst, .src = (uintptr_t)src, .bytes = bytes};
    return append_copy(context, stream, &op, HOST, DEVICE);
}

pinti_cu_result fake_memcpy_dtod_async(pinti_cu_ptr dst, pinti_cu_ptr src, size_t bytes,
                                       pinti_cu_stream stream)
{
    FAKE_ENTER_CONTEXT(memcpy_dtod_async, context)
    const fake_op op = {
        .work = FAKE_COPY, .dst = (uintptr_t)dst, .src = (uintptr_t)src, .bytes = bytes};
    return append_copy(context, stream, &op, DEVICE, DEVICE);
}

/* Attributes i apply from copy starts[i] on. */
static bool are_attributes(const pinti_cu_copy_attributes *attributes, const size_t *starts,
                           size_t n_attributes, size_t n_copies)
{
    if (attributes == NULL || starts == NULL || n_attributes == 0 || n_attributes > n_copies ||
        starts[0] != 0) {
        return false;
    }
    for (size_t i = 0; i < n_attributes; i++) {
        if (attributes[i].src_order == PINTI_CU_SRC_ORDER_INVALID ||
            (unsigned int)attributes[i].src_order > PINTI_CU_SRC_ORDER_ANY ||
            (i > 0 && (starts[i] <= starts[i - 1] || starts[i] >= n_copies))) {
            return false;
        }
    }
    return true;
}

/* The copies of a batch have no order among them: they are enqueued in a random one. */
static pinti_cu_result append_shuffled(pinti_cu_stream stream, fake_op *ops, size_t n)
{
    for (size_t left = n; left > 0; left--) {
        const size_t i = (size_t)rand_r(&batch_order) % left;
        const pinti_cu_result result = fake_stream_append(stream, &ops[i], NULL);
        if (result != PINTI_CU_SUCCESS) {
            return result;
        }
        ops[i] = ops[left - 1];
    }
    return PINTI_CU_SUCCESS;
}

pinti_cu_result fake_memcpy_batch_async(pinti_cu_ptr *dsts, pinti_cu_ptr *srcs, size_t *bytes,
                                        size_t n_copies, pinti_cu_copy_attributes *attributes,
                                        size_t *attribute_starts, size_t n_attributes,
                                        pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(memcpy_batch_async, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result found = fake_stream_of(context, handle, &stream);
    if (found != PINTI_CU_SUCCESS) {
        return found;
    }
    if (stream == context->legacy || dsts == NULL || srcs == NULL || bytes == NULL ||
        n_copies == 0 || !are_attributes(attributes, attribute_starts, n_attributes, n_copies)) {
        return PINTI_CU_INVALID_VALUE;
    }
    for (size_t i = 0; i < n_copies; i++) {
        if (bytes[i] == 0 || !is_side((uintptr_t)dsts[i], bytes[i], EITHER) ||
            !is_side((uintptr_t)srcs[i], bytes[i], EITHER)) {
            return PINTI_CU_INVALID_VALUE;
        }
    }
    fake_op *ops = calloc(n_copies, sizeof(*ops));
    if (ops == NULL) {
        return PINTI_CU_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < n_copies; i++) {
        ops[i] = (fake_op){.work = FAKE_COPY,
                           .dst = (uintptr_t)dsts[i],
                           .src = (uintptr_t)srcs[i],
                           .bytes = bytes[i]};
    }
    if (batch_order == 0) {
        batch_order = fake_set.seed;
    }
    const pinti_cu_result result = append_shuffled(stream, ops, n_copies);
    free(ops);
    return result;
}

pinti_cu_result fake_memset_d8_async(pinti_cu_ptr dst, unsigned char value, size_t bytes,
                                     pinti_cu_stream handle)
{
    FAKE_ENTER_CONTEXT(memset_d8_async, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS || bytes == 0) {
        return result;
    }
    if (!is_side((uintptr_t)dst, bytes, EITHER)) {
        return PINTI_CU_INVALID_VALUE;
    }
    const fake_op op = {.work = FAKE_FILL, .dst = (uintptr_t)dst, .bytes = bytes, .value = value};
    return fake_stream_append(stream, &op, NULL);
}

pinti_cu_result fake_stream_write_value64(pinti_cu_stream handle, pinti_cu_ptr ptr, uint64_t value,
                                          unsigned int flags)
{
    FAKE_ENTER_CONTEXT(stream_write_value64, context)
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = fake_stream_of(context, handle, &stream);
    if (result != PINTI_CU_SUCCESS) {
        return result;
    }
    if (flags != PINTI_CU_WRITE_VALUE_DEFAULT || ptr % sizeof(value) != 0 ||
        !is_side((uintptr_t)ptr, sizeof(value), EITHER)) {
        return PINTI_CU_INVALID_VALUE;
    }
    const fake_op op = {
        .work = FAKE_WRITE64, .dst = (uintptr_t)ptr, .bytes = sizeof(value), .value = value};
    return fake_stream_append(stream, &op, NULL);
}

/* --- Extensions for tests --------------------------------------------------------------------- */

void fake_work_reset(void)
{
    bytes_to_device = 0;
    bytes_to_host = 0;
    batch_order = 0;
}

uint64_t fakecuda_bytes_to_device(void)
{
    (void)pthread_mutex_lock(&fake_lock);
    const uint64_t bytes = bytes_to_device;
    (void)pthread_mutex_unlock(&fake_lock);
    return bytes;
}

uint64_t fakecuda_bytes_to_host(void)
{
    (void)pthread_mutex_lock(&fake_lock);
    const uint64_t bytes = bytes_to_host;
    (void)pthread_mutex_unlock(&fake_lock);
    return bytes;
}
