/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_DISPATCH_H
#define IPC_SERVICE_DISPATCH_H

/* From a message to a method and back to a reply: docs/protocol.md. */

#include "ipc/service/connection.h"
#include "ipc/service/session.h"

/* JSON-RPC's own error codes. */
#define PINTI_RPC_NOT_JSON      (-32700)
#define PINTI_RPC_NOT_A_REQUEST (-32600)
#define PINTI_RPC_NO_METHOD     (-32601)
#define PINTI_RPC_BAD_PARAMS    (-32602)

/* What a method returns besides a pint_status (positive, never sent). */
enum pinti_call_outcome {
    PINTI_CALL_LATER = 1,      /* it will reply; the connection is busy until then */
    PINTI_CALL_BAD_PARAMS = 2, /* err says which */
    PINTI_CALL_MALFORMED = 3   /* a packet that ends the connection without an answer */
};

typedef struct pinti_call {
    pinti_service *service;
    pinti_connection *connection;
    uint64_t id;
    const cJSON *params; /* an object */
    cJSON *result;       /* an empty object to add to */
    int fd;              /* came with the message; the method sets -1 when it takes it */
    bool reply_with_fds;
    int reply_fd_plus_1; /* one descriptor that goes with the reply, borrowed; 0: none */
    bool close_after;
} pinti_call;

static inline bool pinti_call_has(const pinti_call *call, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(call->params, key) != NULL;
}

/* A parameter was refused: -32602 for the wrong form, the status itself for a value out of range.
 */
static inline pint_status pinti_call_refuse(pint_status status)
{
    return status == PINT_E_INVALID ? PINTI_CALL_BAD_PARAMS : status;
}

typedef pint_status (*pinti_method)(pinti_call *call, pint_error *err);

enum pinti_method_needs {
    PINTI_NEEDS_NOTHING,
    PINTI_NEEDS_SESSION,
    PINTI_NEEDS_WRITER,
    PINTI_NEEDS_READER /* somebody who could join */
};

/* The message in service->buffer. fd: a descriptor that came with it, or -1; taken. */
void pinti_dispatch(pinti_service *service, pinti_connection *connection, size_t bytes, int fd);

/* methods_session.c */
pint_status pinti_method_hello(pinti_call *call, pint_error *err);
pint_status pinti_method_join(pinti_call *call, pint_error *err);
pint_status pinti_method_resume(pinti_call *call, pint_error *err);
pint_status pinti_method_leave(pinti_call *call, pint_error *err);
pint_status pinti_method_ping(pinti_call *call, pint_error *err);
/* methods_table.c */
pint_status pinti_method_table_create(pinti_call *call, pint_error *err);
pint_status pinti_method_table_columns(pinti_call *call, pint_error *err);
pint_status pinti_method_table_publish(pinti_call *call, pint_error *err);
pint_status pinti_method_table_drop(pinti_call *call, pint_error *err);
pint_status pinti_method_table_rename(pinti_call *call, pint_error *err);
pint_status pinti_method_table_freeze(pinti_call *call, pint_error *err);
pint_status pinti_method_table_keep(pinti_call *call, pint_error *err);
pint_status pinti_method_table_find(pinti_call *call, pint_error *err);
pint_status pinti_method_table_add_columns(pinti_call *call, pint_error *err);
pint_status pinti_method_table_closed(pinti_call *call, pint_error *err);
/* methods_job.c */
pint_status pinti_method_job_create(pinti_call *call, pint_error *err);
pint_status pinti_method_job_uses(pinti_call *call, pint_error *err);
pint_status pinti_method_job_drop(pinti_call *call, pint_error *err);
/* methods_copy.c */
pint_status pinti_method_device_open(pinti_call *call, pint_error *err);
pint_status pinti_method_copy_open(pinti_call *call, pint_error *err);
pint_status pinti_method_copy_drop(pinti_call *call, pint_error *err);
/* methods_users.c */
pint_status pinti_method_copy_users(pinti_call *call, pint_error *err);
/* methods_admin.c */
pint_status pinti_method_stat(pinti_call *call, pint_error *err);
pint_status pinti_method_budget(pinti_call *call, pint_error *err);
pint_status pinti_method_evict(pinti_call *call, pint_error *err);
pint_status pinti_method_stop(pinti_call *call, pint_error *err);
void pinti_admin_leases_ended(pinti_service *service, uint64_t session_id); /* evict replies */

#endif
