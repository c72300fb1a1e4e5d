/* SPDX-License-Identifier: Apache-2.0 */

/* See cuda_broker.h. One thread, one message at a time. */

#include "device/cuda_broker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/cuda_device.h"
#include "host/error.h"
#include "ipc/json.h" /* check-ok: a program that talks to the service, not the library */
#include "ipc/wire.h" /* check-ok: as above */
#include "pintable/device.h"

/* Smaller allocations may share a block of this size with others, and a handle exports the block.
 */
#define IPC_BLOCK_BYTES (2ull << 20)

/* Memory shared by a CUDA IPC handle. */
typedef struct allocation {
    struct allocation *next;
    uint64_t id;
    uint64_t n_asked; /* a service that was restarted asks again, and gives back what is too many */
    size_t bytes;
    pinti_cu_ptr address;
    pinti_cu_ipc_handle handle;
} allocation;

struct pinti_cuda_broker {
    pinti_cuda_device device;
    allocation *allocations;
};

static char buffer[PINTI_WIRE_BYTES_MAX + 1];

/* --- Messages --------------------------------------------------------------------------------- */

static pint_status parse_object(const cJSON *root, pinti_broker_order *out, pint_error *err)
{
    static const char *const free_keys[] = {"free"};
    static const char *const allocate_keys[] = {"allocate", "kind", "id"};
    out->is_free = cJSON_GetObjectItemCaseSensitive(root, "free") != NULL;
    if (out->is_free) {
        const pint_status status = pinti_json_only(root, free_keys, 1, err);
        return status == PINT_OK ? pinti_json_u64(root, "free", UINT64_MAX, &out->id, err) : status;
    }
    uint64_t kind = 0;
    pint_status status = pinti_json_only(root, allocate_keys, 3, err);
    if (status == PINT_OK) {
        status = pinti_json_u64(root, "allocate", UINT64_MAX, &out->bytes, err);
    }
    if (status == PINT_OK) {
        status = pinti_json_u64(root, "kind", PINT_COPY_IPC, &kind, err);
    }
    if (status == PINT_OK) {
        status = pinti_json_u64(root, "id", UINT64_MAX, &out->id, err);
    }
    if (status == PINT_OK && (kind < PINT_COPY_VMM || out->bytes == 0)) {
        status = pinti_fail(err, PINT_E_PROTOCOL, 0, "allocate: %" PRIu64 " bytes of kind %" PRIu64,
                            out->bytes, kind);
    }
    out->kind = (uint32_t)kind;
    return status;
}

pint_status pinti_broker_order_parse(const char *text, size_t bytes, pinti_broker_order *out,
                                     pint_error *err)
{
    cJSON *root = NULL;
    memset(out, 0, sizeof(*out));
    pint_status status = pinti_json_parse(text, bytes, &root, err);
    if (status == PINT_OK) {
        status = cJSON_IsObject(root) ? parse_object(root, out, err)
                                      : pinti_fail(err, PINT_E_PROTOCOL, 0, "not an object");
    }
    cJSON_Delete(root);
    return status == PINT_OK ? PINT_OK : PINT_E_PROTOCOL;
}

void pinti_base64_of_handle(const uint8_t handle[64], char out[89])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < 63; i += 3) {
        const uint32_t bits =
            (uint32_t)handle[i] << 16 | (uint32_t)handle[i + 1] << 8 | handle[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) {
            out[n++] = digits[bits >> (unsigned int)shift & 63u];
        }
    }
    out[n++] = digits[handle[63] >> 2];
    out[n++] = digits[(handle[63] & 3u) << 4];
    out[n++] = '=';
    out[n++] = '=';
    out[n] = '\0';
}

/* Send an object and delete it. fd: -1, or borrowed. */
static pint_status send_object(int socket, cJSON *root, bool is_whole, int fd, pint_error *err)
{
    char text[1024];
    const bool is_text = is_whole && cJSON_PrintPreallocated(root, text, sizeof(text), 0) != 0;
    cJSON_Delete(root);
    if (!is_text) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
    }
    const int rc = pinti_wire_send(socket, text, strlen(text), &fd, fd >= 0 ? 1 : 0, false);
    return rc == 0 ? PINT_OK
                   : pinti_fail(err, PINT_E_SYSTEM, rc < 0 ? -rc : 0, "the service is gone");
}

/* is_last: there will be no other answer. */
static pint_status send_failure(int socket, uint64_t id, const pint_error *reason, bool is_last,
                                pint_error *err)
{
    cJSON *root = cJSON_CreateObject();
    const bool is_whole = root != NULL && pinti_json_add_u64(root, "id", id) &&
                          cJSON_AddStringToObject(root, "error", reason->message) != NULL &&
                          cJSON_AddNumberToObject(root, "status", reason->status) != NULL &&
                          (!is_last || cJSON_AddTrueToObject(root, "last") != NULL);
    return send_object(socket, root, is_whole, -1, err);
}

static pint_status send_memory(int socket, uint64_t id, int fd, const pinti_cu_ipc_handle *handle,
                               pint_error *err)
{
    char base64[89];
    cJSON *root = cJSON_CreateObject();
    bool is_whole = root != NULL && pinti_json_add_u64(root, "id", id) &&
                    cJSON_AddTrueToObject(root, "ok") != NULL;
    if (is_whole && handle != NULL) {
        pinti_base64_of_handle((const uint8_t *)handle->bytes, base64);
        is_whole = cJSON_AddStringToObject(root, "ipc", base64) != NULL;
    }
    return send_object(socket, root, is_whole, fd, err);
}

/* --- Memory of its own ------------------------------------------------------------------------ */

/* Allocate and export. The context is current. */
static pint_status make_ipc(pinti_cuda_broker *broker, allocation *a, pint_error *err)
{
    pinti_cu_result result = pinti_cuda.mem_alloc(&a->address, a->bytes);
    if (result != PINTI_CU_SUCCESS) {
        return pinti_cuda_fail(err, result, "cuMemAlloc", "GPU %d (%s): %zu bytes",
                               broker->device.ordinal, broker->device.name, a->bytes);
    }
    result = pinti_cuda.ipc_get_mem_handle(&a->handle, a->address);
    if (result != PINTI_CU_SUCCESS) {
        (void)pinti_cuda.mem_free(a->address);
        return pinti_cuda_fail(err, result, "cuIpcGetMemHandle", "GPU %d (%s): %zu bytes",
                               broker->device.ordinal, broker->device.name, a->bytes);
    }
    return PINT_OK;
}

static allocation **link_of(pinti_cuda_broker *broker, uint64_t id)
{
    allocation **link = &broker->allocations;
    while (*link != NULL && (*link)->id != id) {
        link = &(*link)->next;
    }
    return link;
}

static pint_status add_ipc(pinti_cuda_broker *broker, const pinti_broker_order *order, size_t bytes,
                           const allocation **out, pint_error *err)
{
    pint_status status = PINT_OK;
    if (broker->device.context == NULL) {
        status = pinti_cuda_device_retain(&broker->device, err);
    }
    allocation *a = status == PINT_OK ? calloc(1, sizeof(*a)) : NULL;
    if (a == NULL) {
        return status != PINT_OK ? status
                                 : pinti_fail(err, PINT_E_DEVICE_MEMORY, 0, "broker: no memory");
    }
    a->id = order->id;
    a->n_asked = 1;
    a->bytes = bytes;
    status = pinti_cuda_enter(&broker->device, err);
    if (status == PINT_OK) {
        status = make_ipc(broker, a, err);
        pinti_cuda_leave();
    }
    if (status != PINT_OK) {
        free(a);
        return status;
    }
    a->next = broker->allocations;
    broker->allocations = a;
    *out = a;
    return PINT_OK;
}

static pint_status get_ipc(pinti_cuda_broker *broker, const pinti_broker_order *order,
                           const allocation **out, pint_error *err)
{
    const pinti_cuda_device *device = &broker->device;
    if (!pinti_cuda_has_ipc() || order->bytes > SIZE_MAX - IPC_BLOCK_BYTES) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "GPU %d (%s): no CUDA IPC handle for %" PRIu64 " bytes", device->ordinal,
                          device->name, order->bytes);
    }
    const size_t bytes = (order->bytes + IPC_BLOCK_BYTES - 1) / IPC_BLOCK_BYTES * IPC_BLOCK_BYTES;
    allocation *known = *link_of(broker, order->id);
    if (known == NULL) {
        return add_ipc(broker, order, bytes, out, err);
    }
    if (known->bytes != bytes) {
        return pinti_fail(err, PINT_E_DEVICE, 0, "copy %" PRIu64 " exists with %zu bytes",
                          order->id, known->bytes);
    }
    known->n_asked++;
    *out = known;
    return PINT_OK;
}

/* Nobody may have it open any more: the service knows. An id that is not there went earlier. */
static pint_status free_ipc(pinti_cuda_broker *broker, uint64_t id, pint_error *err)
{
    allocation **link = link_of(broker, id);
    allocation *a = *link;
    if (a == NULL || --a->n_asked > 0) {
        return PINT_OK;
    }
    *link = a->next;
    pint_status status = pinti_cuda_enter(&broker->device, err);
    if (status == PINT_OK) {
        const pinti_cu_result result = pinti_cuda.mem_free(a->address);
        if (result != PINTI_CU_SUCCESS) {
            status = pinti_cuda_fail(err, result, "cuMemFree", "GPU %d (%s): %zu bytes",
                                     broker->device.ordinal, broker->device.name, a->bytes);
        }
        pinti_cuda_leave();
    }
    free(a);
    return status;
}

/* --- Serving ---------------------------------------------------------------------------------- */

static pint_status get_vmm(const pinti_cuda_broker *broker, const pinti_broker_order *order,
                           int *out_fd, pint_error *err)
{
    const size_t bytes = pinti_cuda_granules(&broker->device, order->bytes);
    return bytes != 0 ? pinti_cuda_make_exported(&broker->device, bytes, out_fd, err)
                      : pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                                   "GPU %d (%s): %" PRIu64 " bytes cannot be shared by descriptor",
                                   broker->device.ordinal, broker->device.name, order->bytes);
}

/* PINT_E_STATE: the socket has ended. */
static pint_status receive(int socket, pinti_broker_order *out, pint_error *err)
{
    size_t bytes = 0;
    const int rc = pinti_wire_recv(socket, buffer, &bytes, NULL, 0, NULL, false);
    if (rc == PINTI_WIRE_CLOSED) {
        return PINT_E_STATE;
    }
    if (rc < 0) {
        return pinti_fail(err, PINT_E_SYSTEM, -rc, "broker: socket");
    }
    if (rc != 0) {
        return pinti_fail(err, PINT_E_PROTOCOL, 0, "broker: a message that cannot be received");
    }
    return pinti_broker_order_parse(buffer, bytes, out, err);
}

/* Not just an end: a socket that ends with messages unread takes answers with it. */
void pinti_cuda_broker_refuse(int socket, const pint_error *reason)
{
    pinti_broker_order order;
    while (receive(socket, &order, NULL) == PINT_OK) {
        if (!order.is_free && send_failure(socket, order.id, reason, true, NULL) != PINT_OK) {
            return;
        }
    }
}

/*
 * Is the driver of this process of no use any more? A device that was lost comes back to a new
 * process only. Of other failures nobody knows; a new process is cheap, unless this one has memory
 * that would go with it.
 */
static bool is_past_help(const pinti_cuda_broker *broker, pint_status status)
{
    return status == PINT_E_DEVICE_LOST || status == PINT_E_NO_DEVICE ||
           (status == PINT_E_DEVICE && broker->allocations == NULL);
}

/* The status of what was asked for, if this was the last answer; else PINT_OK. */
static pint_status allocate(pinti_cuda_broker *broker, int socket, const pinti_broker_order *order,
                            pint_error *err)
{
    int fd = -1;
    const allocation *a = NULL;
    pint_error reason;
    const pint_status made = order->kind == PINT_COPY_VMM ? get_vmm(broker, order, &fd, &reason)
                                                          : get_ipc(broker, order, &a, &reason);
    const bool is_last = made != PINT_OK && is_past_help(broker, made);
    pint_status status;
    if (made == PINT_OK) {
        status = send_memory(socket, order->id, fd, a != NULL ? &a->handle : NULL, err);
    } else {
        status = send_failure(socket, order->id, &reason, is_last, err);
    }
    if (fd >= 0) {
        (void)close(fd); /* the one that was sent keeps the memory */
    }
    if (status == PINT_OK && is_last) {
        pinti_cuda_broker_refuse(socket, &reason);
        if (err != NULL) {
            *err = reason;
        }
        return made;
    }
    return status;
}

/* Nobody waits for it: a failure matters when it says that the device is lost. */
static pint_status free_one(pinti_cuda_broker *broker, int socket, uint64_t id, pint_error *err)
{
    pint_error reason;
    if (free_ipc(broker, id, &reason) != PINT_E_DEVICE_LOST) {
        return PINT_OK; /* the memory goes with the process */
    }
    pinti_cuda_broker_refuse(socket, &reason);
    if (err != NULL) {
        *err = reason;
    }
    return PINT_E_DEVICE_LOST;
}

pint_status pinti_cuda_broker_serve(pinti_cuda_broker *broker, int socket, pint_error *err)
{
    for (;;) {
        pinti_broker_order order;
        pint_status status = receive(socket, &order, err);
        if (status == PINT_OK) {
            status = order.is_free ? free_one(broker, socket, order.id, err)
                                   : allocate(broker, socket, &order, err);
        }
        if (status != PINT_OK) {
            return status == PINT_E_STATE ? PINT_OK : status;
        }
    }
}

pint_status pinti_cuda_broker_open(const char *device, pinti_cuda_broker **out_broker,
                                   pint_error *err)
{
    pinti_cuda_broker *broker = calloc(1, sizeof(*broker));
    if (broker == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "broker: no memory");
    }
    const pint_status status = pinti_cuda_device_find(device, &broker->device, err);
    if (status != PINT_OK) {
        free(broker);
        return status;
    }
    *out_broker = broker;
    return PINT_OK;
}

void pinti_cuda_broker_close(pinti_cuda_broker *broker)
{
    if (broker == NULL) {
        return;
    }
    while (broker->allocations != NULL) {
        broker->allocations->n_asked = 1;
        (void)free_ipc(broker, broker->allocations->id, NULL);
    }
    pinti_cuda_device_release(&broker->device);
    free(broker);
}
