/* SPDX-License-Identifier: Apache-2.0 */

/* hello, join, resume, leave, ping: who the client is and that it still is. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/json.h"
#include "ipc/service/death.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/keeper.h"
#include "ipc/wire.h"
#include "pintable/version.h"

static bool add_hex128(cJSON *object, const char *key, const uint64_t value[2])
{
    char digits[40];
    (void)snprintf(digits, sizeof(digits), "%016" PRIx64 "%016" PRIx64, value[0], value[1]);
    return cJSON_AddStringToObject(object, key, digits) != NULL;
}

static pint_status no_memory(pint_error *err)
{
    return pinti_fail(err, PINT_E_NO_MEMORY, 0, "answer");
}

static pint_status check_versions(const pinti_call *call, pint_error *err)
{
    uint64_t protocol = 0;
    uint64_t layout = 0;
    uint64_t signature = 0;
    pint_status status = pinti_json_u64(call->params, "protocol", UINT64_MAX, &protocol, err);
    if (status == PINT_OK) {
        status = pinti_json_u64(call->params, "layout", UINT64_MAX, &layout, err);
    }
    if (status == PINT_OK) {
        status = pinti_json_u64(call->params, "signature", UINT64_MAX, &signature, err);
    }
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    const uint32_t own = pinti_layout_signature();
    if (protocol != PINTI_PROTOCOL_VERSION || layout != PINTI_LAYOUT_VERSION || signature != own) {
        return pinti_fail(err, PINT_E_VERSION, 0,
                          "the client has protocol %" PRIu64 ", layout %" PRIu64
                          ", signature %08" PRIx64 "; the service has %u, %u, %08x",
                          protocol, layout, signature, PINTI_PROTOCOL_VERSION, PINTI_LAYOUT_VERSION,
                          own);
    }
    return PINT_OK;
}

pint_status pinti_method_hello(pinti_call *call, pint_error *err)
{
    const pint_status status = check_versions(call, err);
    if (status != PINT_OK) {
        return status;
    }
    const pinti_base *base = call->service->base;
    const bool good =
        cJSON_AddStringToObject(call->result, "service", PINT_VERSION_STRING) != NULL &&
        pinti_json_add_u64(call->result, "incarnation", call->service->incarnation) &&
        add_hex128(call->result, "pool", base->segments.pool_id) &&
        cJSON_AddBoolToObject(call->result, "private", base->options.private_service) != NULL;
    return good ? PINT_OK : no_memory(err);
}

pint_status pinti_method_ping(pinti_call *call, pint_error *err)
{
    (void)call;
    (void)err;
    return PINT_OK;
}

/* ---- the pidfd ------------------------------------------------------------------------------ */

/* Has the other end gone? A pid is only worth something while it has not. */
static bool is_connected(const pinti_connection *connection)
{
    struct pollfd entry = {.fd = connection->fd, .events = POLLRDHUP};
    return poll(&entry, 1, 0) == 0;
}

/* A descriptor of the peer's process in the best way this kernel has; -1: none. *out_foreign: the
 * client gave it, so it may be anybody's. */
static int get_pidfd(pinti_call *call, bool *out_foreign)
{
    const pinti_features *features = &call->service->base->features;
    const pinti_connection *connection = call->connection;
    int fd = -1;
    *out_foreign = false;
    if (features->peerpidfd) {
        fd = pinti_pidfd_of_peer(connection->fd);
    }
    if (fd < 0 && features->pidfd && connection->pid > 0) {
        fd = pinti_pidfd_open(connection->pid);
        if (fd >= 0 && !is_connected(connection)) {
            (void)close(fd);
            fd = -1;
        }
    }
    if (fd < 0 && call->fd >= 0 && pinti_pidfd_check(call->fd)) {
        fd = call->fd;
        call->fd = -1;
        *out_foreign = true;
    }
    return fd;
}

/* A descriptor came exactly if the message says so. */
static pint_status check_fd(const pinti_call *call, pint_error *err)
{
    bool said = false;
    const pint_status status = pinti_json_bool_or(call->params, "pidfd", false, &said, err);
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    if (call->fd >= 0 && !said) {
        return PINTI_CALL_MALFORMED;
    }
    if (call->fd < 0 && said) {
        (void)pinti_fail(err, PINT_E_INVALID, 0, "'pidfd' is true, but no descriptor came");
        return PINTI_CALL_BAD_PARAMS;
    }
    return PINT_OK;
}

/* ---- join ----------------------------------------------------------------------------------- */

static pint_status read_join(pinti_call *call, pinti_join *join, pint_error *err)
{
    const char *mode = NULL;
    const char *command = NULL;
    pint_status status = pinti_json_string(call->params, "mode", &mode, err);
    if (status == PINT_OK) {
        status = pinti_json_string_or(call->params, "command", "", &command, err);
    }
    if (status == PINT_OK && pinti_call_has(call, "family")) {
        status = pinti_json_hex64(call->params, "family", &join->family, err);
    }
    if (status == PINT_OK && strcmp(mode, "rw") != 0 && strcmp(mode, "ro") != 0) {
        status = pinti_fail(err, PINT_E_INVALID, 0, "'mode' is neither \"rw\" nor \"ro\"");
    }
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    join->read_only = strcmp(mode, "ro") == 0;
    (void)pinti_printable(join->command, sizeof(join->command), command, strlen(command));
    return PINT_OK;
}

static pint_status check_rights(const pinti_call *call, const pinti_join *join, pint_error *err)
{
    const pinti_connection *connection = call->connection;
    const pinti_segments *segments = &call->service->base->segments;
    if (join->read_only ? !connection->may_read : !connection->may_write) {
        return pinti_fail(err, PINT_E_PERMISSION, 0, "join: uid %u may not join this pool %s",
                          connection->uid, join->read_only ? "for reading" : "for writing");
    }
    if (join->read_only && (segments->sync_ro_fd < 0 || segments->data_ro_fd < 0)) {
        return pinti_fail(err, PINT_E_UNSUPPORTED, 0,
                          "join: read-only needs /proc, which the service did not have");
    }
    return PINT_OK;
}

/*
 * A client that joins and does not read leaves six descriptors in flight, which the kernel counts
 * against the service. While many do, no further ones are sent out.
 */
static pint_status check_in_flight(const pinti_call *call, pint_error *err)
{
    uint32_t n = 0;
    const pinti_service *service = call->service;
    for (uint32_t i = 0; i < service->n_connections; i++) {
        const pinti_connection *other = service->connections[i];
        if (other->uid == call->connection->uid && pinti_connection_has_unread_fds(other)) {
            n++;
        }
    }
    if (n >= service->joins_in_flight_max) {
        return pinti_fail(err, PINT_E_LIMIT, 0,
                          "join: %u clients of uid %u have not read their answers, the limit is %u",
                          n, call->connection->uid, service->joins_in_flight_max);
    }
    return PINT_OK;
}

static bool fill_join(const pinti_call *call, const pinti_session *session)
{
    return pinti_json_add_hex64(call->result, "session", session->id) &&
           pinti_json_add_u64(call->result, "index", session->index) &&
           add_hex128(call->result, "token", session->token) &&
           pinti_json_add_hex64(call->result, "family", session->family) &&
           cJSON_AddStringToObject(call->result, "mode", session->read_only ? "ro" : "rw") != NULL;
}

pint_status pinti_method_join(pinti_call *call, pint_error *err)
{
    pinti_connection *connection = call->connection;
    pinti_join join = {.uid = connection->uid, .gid = connection->gid, .pid = connection->pid};
    if (connection->session != NULL) {
        return pinti_fail(err, PINT_E_STATE, 0, "join: this connection has a session");
    }
    pint_status status = check_fd(call, err);
    if (status == PINT_OK) {
        status = check_versions(call, err);
    }
    if (status == PINT_OK) {
        status = read_join(call, &join, err);
    }
    if (status == PINT_OK) {
        status = check_rights(call, &join, err);
    }
    if (status == PINT_OK) {
        status = check_in_flight(call, err);
    }
    if (status != PINT_OK) {
        return status;
    }
    pinti_session *session = NULL;
    join.pidfd = get_pidfd(call, &join.pidfd_is_foreign);
    status = pinti_session_create(call->service, &join, &session, err);
    if (status != PINT_OK) {
        if (join.pidfd >= 0) {
            (void)close(join.pidfd);
        }
        return status;
    }
    connection->session = session;
    session->connection = connection;
    if (!fill_join(call, session)) {
        return PINTI_CALL_MALFORMED; /* out of memory: the connection and with it the session end */
    }
    call->reply_with_fds = true;
    return PINT_OK;
}

/* ---- resume --------------------------------------------------------------------------------- */

/* Time does not tell how much of it was right. */
static bool token_is(const char *text, const uint64_t token[2])
{
    char expected[40];
    unsigned difference = 0;
    (void)snprintf(expected, sizeof(expected), "%016" PRIx64 "%016" PRIx64, token[0], token[1]);
    if (strlen(text) != 32) {
        return false;
    }
    for (size_t i = 0; i < 32; i++) {
        difference |= (unsigned)(unsigned char)text[i] ^ (unsigned)(unsigned char)expected[i];
    }
    return difference == 0;
}

static pint_status check_resume(const pinti_call *call, const pinti_session *session,
                                const char *token, pint_error *err)
{
    const pinti_connection *connection = call->connection;
    if (session == NULL || !token_is(token, session->token) || session->process_ended ||
        session->has_left) {
        return pinti_fail(err, PINT_E_STALE, 0, "resume: no such session in this pool: join again");
    }
    if (session->uid != connection->uid ||
        (session->pid > 0 && connection->pid > 0 && session->pid != connection->pid)) {
        return pinti_fail(err, PINT_E_PERMISSION, 0,
                          "resume: the session belongs to process %d of uid %u", (int)session->pid,
                          session->uid);
    }
    return PINT_OK;
}

/* A session that had no pidfd may get one now. */
static void renew_pidfd(pinti_call *call, pinti_session *session)
{
    if (session->pidfd >= 0) {
        return;
    }
    session->pidfd = get_pidfd(call, &session->pidfd_is_foreign);
    if (session->pidfd < 0) {
        return;
    }
    const pinti_held held = {.id = session->id,
                             .token = {session->token[0], session->token[1]},
                             .index = session->index,
                             .pidfd_is_foreign = session->pidfd_is_foreign,
                             .slot_fd = session->slot_fd,
                             .tether_fd = session->tether_fd,
                             .pidfd = session->pidfd};
    (void)pinti_keeper_send_hold(call->service->base, &held);
    if (!pinti_service_watch(call->service, session->pidfd, EPOLLIN, &session->source)) {
        (void)close(session->pidfd);
        session->pidfd = -1;
    }
}

pint_status pinti_method_resume(pinti_call *call, pint_error *err)
{
    pinti_connection *connection = call->connection;
    const char *token = NULL;
    uint64_t id = 0;
    if (connection->session != NULL) {
        return pinti_fail(err, PINT_E_STATE, 0, "resume: this connection has a session");
    }
    pint_status status = check_fd(call, err);
    if (status != PINT_OK) {
        return status;
    }
    status = pinti_json_hex64(call->params, "session", &id, err);
    if (status == PINT_OK) {
        status = pinti_json_string(call->params, "token", &token, err);
    }
    if (status != PINT_OK) {
        return pinti_call_refuse(status);
    }
    pinti_session *session = pinti_session_by_id(call->service, id);
    status = check_resume(call, session, token, err);
    if (status != PINT_OK) {
        return status;
    }
    if (!pinti_json_add_u64(call->result, "incarnation", call->service->incarnation)) {
        return no_memory(err);
    }
    pinti_connection *old = session->connection;
    session->connection = connection;
    connection->session = session;
    session->probe_ms = 0;
    session->probe_wait_ms = 0;
    if (old != NULL) {
        old->session = NULL;
        pinti_connection_close(call->service, old);
    }
    renew_pidfd(call, session);
    return PINT_OK;
}

pint_status pinti_method_leave(pinti_call *call, pint_error *err)
{
    (void)err;
    pinti_connection *connection = call->connection;
    pinti_session *session = connection->session;
    call->close_after = true;
    connection->session = NULL;
    session->connection = NULL;
    (void)pinti_session_leave(call->service, session);
    return PINT_OK;
}
