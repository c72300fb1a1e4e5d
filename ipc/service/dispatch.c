/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One message in, one reply out, or the connection's end. Whether a method may be called at all is
 * decided here, by a table; what it may be called with, by the method.
 */

#include "ipc/service/dispatch.h"

#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/json.h"

#define KEYS_MAX 8u
#define ID_MAX   (1ull << 53)

typedef struct method_entry {
    const char *name;
    pinti_method method;
    enum pinti_method_needs needs;
    bool takes_fd;
    bool greets;
    const char *keys[KEYS_MAX + 1]; /* members its params may have */
} method_entry;

static const method_entry methods[] = {
    {"hello",
     pinti_method_hello,
     PINTI_NEEDS_NOTHING,
     false,
     true,
     {"protocol", "layout", "signature"}},
    {"join",
     pinti_method_join,
     PINTI_NEEDS_NOTHING,
     true,
     true,
     {"protocol", "layout", "signature", "mode", "family", "command", "pidfd"}},
    {"resume", pinti_method_resume, PINTI_NEEDS_NOTHING, true, true, {"session", "token", "pidfd"}},
    {"leave", pinti_method_leave, PINTI_NEEDS_SESSION, false, false, {NULL}},
    {"ping", pinti_method_ping, PINTI_NEEDS_NOTHING, false, false, {NULL}},
    {"table.create",
     pinti_method_table_create,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"request", "name", "rows", "chunk_rows", "flags", "metadata_bytes", "columns", "more"}},
    {"table.columns",
     pinti_method_table_columns,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"columns", "more"}},
    {"table.publish",
     pinti_method_table_publish,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"table", "generation", "replace"}},
    {"table.drop",
     pinti_method_table_drop,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"name", "table", "generation"}},
    {"table.rename",
     pinti_method_table_rename,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"name", "new_name"}},
    {"table.freeze",
     pinti_method_table_freeze,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"table", "generation"}},
    {"table.add_columns",
     pinti_method_table_add_columns,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"table", "generation", "from", "from_generation"}},
    {"table.keep", pinti_method_table_keep, PINTI_NEEDS_WRITER, false, false, {"name", "keep"}},
    {"table.find", pinti_method_table_find, PINTI_NEEDS_SESSION, false, false, {"name"}},
    {"table.closed", pinti_method_table_closed, PINTI_NEEDS_SESSION, false, false, {NULL}},
    {"job.create",
     pinti_method_job_create,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"request", "table", "generation", "name", "uses", "undo", "more"}},
    {"job.uses", pinti_method_job_uses, PINTI_NEEDS_WRITER, false, false, {"uses", "more"}},
    {"job.drop",
     pinti_method_job_drop,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"table", "generation", "name"}},
    {"device.open",
     pinti_method_device_open,
     PINTI_NEEDS_SESSION,
     false,
     false,
     {"uuid", "cuda", "name"}},
    {"copy.open",
     pinti_method_copy_open,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"table", "generation", "column", "device", "kind", "create"}},
    {"copy.drop",
     pinti_method_copy_drop,
     PINTI_NEEDS_WRITER,
     false,
     false,
     {"copy", "generation", "force"}},
    {"copy.users", pinti_method_copy_users, PINTI_NEEDS_READER, false, false, {"first"}},
    {"stat", pinti_method_stat, PINTI_NEEDS_READER, false, false, {"first"}},
    {"budget", pinti_method_budget, PINTI_NEEDS_READER, false, false, {"bytes"}},
    {"evict", pinti_method_evict, PINTI_NEEDS_READER, false, false, {"session"}},
    {"stop", pinti_method_stop, PINTI_NEEDS_READER, false, false, {"force"}},
};

static const method_entry *find_method(const char *name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static pint_status check_needs(const pinti_call *call, const method_entry *entry, pint_error *err)
{
    const pinti_connection *connection = call->connection;
    const pinti_session *session = connection->session;
    switch (entry->needs) {
    case PINTI_NEEDS_NOTHING:
        return PINT_OK;
    case PINTI_NEEDS_READER:
        return connection->may_read
                   ? PINT_OK
                   : pinti_fail(err, PINT_E_PERMISSION, 0, "%s: uid %u may not join this pool",
                                entry->name, connection->uid);
    case PINTI_NEEDS_SESSION:
    case PINTI_NEEDS_WRITER:
        break;
    }
    if (session == NULL) {
        return pinti_fail(err, PINT_E_STATE, 0, "%s: this connection has no session: join first",
                          entry->name);
    }
    if (session->process_ended) {
        return pinti_fail(err, PINT_E_STATE, 0, "%s: the process that joined has ended",
                          entry->name);
    }
    if (entry->needs == PINTI_NEEDS_WRITER && session->read_only) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "%s: this session joined read-only",
                          entry->name);
    }
    return PINT_OK;
}

/* The request's id; 0 when it has none that is good. */
static uint64_t request_id(const cJSON *request)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(request, "id");
    uint64_t value = 0;
    if (!cJSON_IsNumber(id) || pinti_json_u64(request, "id", ID_MAX, &value, NULL) != PINT_OK) {
        return 0;
    }
    return value;
}

/* The method of a request that has the right form, or NULL with *out_code and err set. */
static const method_entry *check_request(const cJSON *request, uint64_t id, int *out_code,
                                         pint_error *err)
{
    static const char *const keys[] = {"jsonrpc", "id", "method", "params"};
    const char *version = NULL;
    const char *name = NULL;
    *out_code = PINTI_RPC_NOT_A_REQUEST;
    if (pinti_json_only(request, keys, 4, err) != PINT_OK ||
        pinti_json_string(request, "jsonrpc", &version, err) != PINT_OK ||
        pinti_json_string(request, "method", &name, err) != PINT_OK) {
        return NULL;
    }
    if (strcmp(version, "2.0") != 0) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "'jsonrpc' is not \"2.0\"");
        return NULL;
    }
    if (id == 0) {
        (void)pinti_fail(err, PINT_E_INVALID, 0,
                         "'id' is missing or not an integer from 1 to 2^53");
        return NULL;
    }
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(request, "params");
    if (params != NULL && !cJSON_IsObject(params)) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "'params' is not an object");
        return NULL;
    }
    const method_entry *entry = find_method(name);
    if (entry == NULL) {
        char text[64];
        *out_code = PINTI_RPC_NO_METHOD;
        (void)pinti_fail(err, PINT_E_INVALID, 0, "no method '%s'",
                         pinti_printable(text, sizeof(text), name, strlen(name)));
    }
    return entry;
}

static pint_status run(pinti_call *call, const method_entry *entry, pint_error *err)
{
    unsigned n_keys = 0;
    while (entry->keys[n_keys] != NULL) {
        n_keys++;
    }
    if (pinti_json_only(call->params, entry->keys, n_keys, err) != PINT_OK) {
        return PINTI_CALL_BAD_PARAMS;
    }
    const pint_status status = check_needs(call, entry, err);
    return status != PINT_OK ? status : entry->method(call, err);
}

/* Send what the method came to; takes the result. */
static void answer(pinti_call *call, pint_status status, const pint_error *err)
{
    pinti_service *service = call->service;
    pinti_connection *connection = call->connection;
    if (status == PINTI_CALL_LATER) {
        connection->busy = true;
        cJSON_Delete(call->result);
        return;
    }
    if (status == PINTI_CALL_MALFORMED) {
        cJSON_Delete(call->result);
        pinti_connection_close(service, connection);
        return;
    }
    connection->closing = connection->closing || call->close_after;
    if (status == PINT_OK && call->reply_fd_plus_1 != 0) {
        pinti_connection_reply_fd(service, connection, call->id, call->result,
                                  call->reply_fd_plus_1 - 1);
        return;
    }
    if (status == PINT_OK) {
        pinti_connection_reply(service, connection, call->id, call->result, call->reply_with_fds);
        return;
    }
    cJSON_Delete(call->result);
    pinti_connection_fail(service, connection, call->id,
                          status == PINTI_CALL_BAD_PARAMS ? PINTI_RPC_BAD_PARAMS : status,
                          err->message);
}

static void handle_request(pinti_service *service, pinti_connection *connection,
                           const cJSON *request, int *fd)
{
    pint_error err = {.status = PINT_OK};
    int code = 0;
    const uint64_t id = request_id(request);
    const method_entry *entry = check_request(request, id, &code, &err);
    if (*fd >= 0 && (entry == NULL || !entry->takes_fd)) {
        pinti_connection_close(service, connection);
        return;
    }
    if (entry == NULL) {
        pinti_connection_fail(service, connection, id, code, err.message);
        return;
    }
    if (entry->greets) {
        pinti_connection_greet(service, connection);
    }
    cJSON *none = NULL;
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(request, "params");
    if (params == NULL) {
        none = cJSON_CreateObject();
        params = none;
    }
    pinti_call call = {.service = service,
                       .connection = connection,
                       .id = id,
                       .params = params,
                       .result = cJSON_CreateObject(),
                       .fd = *fd};
    if (params == NULL || call.result == NULL) {
        cJSON_Delete(call.result);
        pinti_connection_close(service, connection);
    } else {
        const pint_status status = run(&call, entry, &err);
        *fd = call.fd;
        answer(&call, status, &err);
    }
    cJSON_Delete(none);
}

void pinti_dispatch(pinti_service *service, pinti_connection *connection, size_t bytes, int fd)
{
    pint_error err = {.status = PINT_OK};
    cJSON *request = NULL;
    if (pinti_json_parse(service->buffer, bytes, &request, &err) == PINT_OK) {
        handle_request(service, connection, request, &fd);
        cJSON_Delete(request);
    } else if (fd >= 0) {
        pinti_connection_close(service, connection);
    } else {
        pinti_connection_fail(service, connection, 0, PINTI_RPC_NOT_JSON, err.message);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}
