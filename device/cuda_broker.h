/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_CUDA_BROKER_H
#define DEVICE_CUDA_BROKER_H

/*
 * The broker of one GPU: makes the memory of device copies for the service, which never loads CUDA.
 * The other side is ipc/service/broker.h; the messages are those of docs/protocol.md, "Brokers".
 *
 * Memory shared by descriptor is kept by its descriptors and mappings, not by the broker, and needs
 * no context. Memory shared by CUDA IPC handles is the broker's: it is gone when the broker ends.
 * The first such request makes a context.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pintable/status.h"

typedef struct pinti_cuda_broker pinti_cuda_broker;

/* One message to a broker: either of the two. */
typedef struct pinti_broker_order {
    bool is_free;
    uint64_t id;
    uint64_t bytes;
    uint32_t kind;
} pinti_broker_order;

/* Strict: an object with just the members of one kind of message. */
pint_status pinti_broker_order_parse(const char *text, size_t bytes, pinti_broker_order *out,
                                     pint_error *err);

/* 64 bytes to 88 characters and a zero. */
void pinti_base64_of_handle(const uint8_t handle[64], char out[89]);

/* Load the driver and find the device. device: 32 hexadecimal digits, or another name that
 * pinti_cuda_device_find() takes. */
pint_status pinti_cuda_broker_open(const char *device, pinti_cuda_broker **out_broker,
                                   pint_error *err);

/* Give back everything, the context too. NULL is allowed. */
void pinti_cuda_broker_close(pinti_cuda_broker *broker);

/*
 * Receive messages and answer them until the socket ends (PINT_OK), a message is none
 * (PINT_E_PROTOCOL), the answer cannot be sent (PINT_E_SYSTEM) or the driver of this process is of
 * no use any more (PINT_E_DEVICE_LOST, PINT_E_NO_DEVICE, PINT_E_DEVICE): that was answered, and
 * then all requests were refused until the socket ended.
 */
pint_status pinti_cuda_broker_serve(pinti_cuda_broker *broker, int socket, pint_error *err);

/* Answer every request with this error, and that there will be no other answer, until the socket
 * ends. */
void pinti_cuda_broker_refuse(int socket, const pint_error *reason);

#endif
