/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets of clients. A connection is in one of three moods: read (one message at a time), busy (a
 * request is being worked on, nothing is read, so that the client's own socket fills up and holds
 * it back), closing (the outbox empties, then it ends). Descriptors go out with the reply of join,
 * and one with that of copy.open; of these a client that does not read holds UNREAD_FDS_MAX in
 * flight at most, and nothing more is read from it while another waits.
 */

#include "ipc/service/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/error.h"
#include "ipc/json.h"
#include "ipc/service/death.h"
#include "ipc/service/dispatch.h"
#include "ipc/service/operation.h"
#include "ipc/wire.h"

#ifndef SO_PEERGROUPS
#    define SO_PEERGROUPS 59
#endif

#define ACCEPTS_MAX       32   /* at one event */
#define MESSAGES_MAX      8    /* of one connection at one event */
#define SPARE_CONNECTIONS 256u /* of one uid, beyond its sessions */
#define LISTEN_AGAIN_MS   50u
#define SEND_AGAIN_MS     20u
#define UNREAD_FDS_MAX    16u

/* ---- events -------------------------------------------------------------------------------- */

static uint32_t wanted_events(const pinti_connection *connection)
{
    uint32_t events = EPOLLRDHUP;
    if (!connection->busy && !connection->closing && connection->n_queued_fds == 0) {
        events |= EPOLLIN;
    }
    if (connection->first_reply != NULL) {
        events |= EPOLLOUT;
    }
    return events;
}

/* full_sends false: descriptors could not be sent; a timer tries again, not the socket's room. */
static void set_events(pinti_service *service, pinti_connection *connection, bool full_sends)
{
    uint32_t events = wanted_events(connection);
    if (!full_sends) {
        events &= ~(uint32_t)EPOLLOUT;
    }
    if (connection->closed || events == connection->events) {
        return;
    }
    struct epoll_event event = {.events = events, .data = {.ptr = &connection->source}};
    if (epoll_ctl(service->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) == 0) {
        connection->events = events;
    }
}

/* ---- those who have said nothing yet ------------------------------------------------------- */

static void list_silent(pinti_service *service, pinti_connection *connection)
{
    connection->silent_prev = service->newest_silent;
    if (service->newest_silent != NULL) {
        service->newest_silent->silent_next = connection;
    } else {
        service->oldest_silent = connection;
        pinti_service_at(service, PINTI_TIMER_GREET, connection->connected_ms + PINTI_GREET_MS);
    }
    service->newest_silent = connection;
}

void pinti_connection_greet(pinti_service *service, pinti_connection *connection)
{
    if (connection->greeted) {
        return;
    }
    connection->greeted = true;
    pinti_connection *prev = connection->silent_prev;
    pinti_connection *next = connection->silent_next;
    *(prev != NULL ? &prev->silent_next : &service->oldest_silent) = next;
    *(next != NULL ? &next->silent_prev : &service->newest_silent) = prev;
    connection->silent_prev = NULL;
    connection->silent_next = NULL;
}

void pinti_connections_greet_due(pinti_service *service)
{
    const uint64_t now_ms = pinti_clock_ms();
    while (service->oldest_silent != NULL &&
           service->oldest_silent->connected_ms + PINTI_GREET_MS <= now_ms) {
        pinti_connection_close(service, service->oldest_silent);
    }
    if (service->oldest_silent != NULL) {
        pinti_service_at(service, PINTI_TIMER_GREET,
                         service->oldest_silent->connected_ms + PINTI_GREET_MS);
    }
}

/* ---- accepting ----------------------------------------------------------------------------- */

static bool in_groups(int fd, gid_t wanted)
{
    gid_t few[64];
    socklen_t bytes = sizeof(few);
    gid_t *groups = few;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0) {
        if (errno != ERANGE) {
            return false;
        }
        groups = malloc(bytes);
        if (groups == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0) {
            free(groups);
            return false;
        }
    }
    bool found = false;
    for (size_t i = 0; i < bytes / sizeof(gid_t) && !found; i++) {
        found = groups[i] == wanted;
    }
    if (groups != few) {
        free(groups);
    }
    return found;
}

/* What the pool's mode lets this peer do. */
static void set_rights(const pinti_base *base, pinti_connection *connection)
{
    const uint32_t mode = base->options.mode;
    connection->is_admin = connection->uid == 0 || connection->uid == base->uid;
    uint32_t bits = mode & 7u;
    if (connection->is_admin) {
        bits = 6u;
    } else if (connection->gid == base->gid || in_groups(connection->fd, base->gid)) {
        bits = mode >> 3 & 7u;
    }
    connection->may_write = (bits & 2u) != 0;
    connection->may_read = connection->may_write || (bits & 4u) != 0;
}

static uint32_t connections_of_uid(const pinti_service *service, uint32_t uid)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < service->n_connections; i++) {
        n += service->connections[i]->uid == uid ? 1 : 0;
    }
    return n;
}

static bool add(pinti_service *service, pinti_connection *connection)
{
    if (service->n_connections == service->connections_room) {
        const uint32_t room = service->connections_room == 0 ? 64 : service->connections_room * 2;
        pinti_connection **grown = realloc(service->connections, room * sizeof(pinti_connection *));
        if (grown == NULL) {
            return false;
        }
        service->connections = grown;
        service->connections_room = room;
    }
    connection->place = service->n_connections;
    service->connections[service->n_connections++] = connection;
    return true;
}

/* Takes fd. */
static void welcome(pinti_service *service, int fd)
{
    struct ucred peer = {.pid = 0, .uid = UINT32_MAX, .gid = UINT32_MAX};
    socklen_t bytes = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0 ||
        connections_of_uid(service, peer.uid) >=
            service->base->options.sessions_max + SPARE_CONNECTIONS) {
        (void)close(fd);
        return;
    }
    pinti_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        (void)close(fd);
        return;
    }
    connection->source.kind = PINTI_SOURCE_CONNECTION;
    connection->fd = fd;
    connection->uid = peer.uid;
    connection->gid = peer.gid;
    connection->pid = peer.pid;
    connection->connected_ms = pinti_clock_ms();
    connection->last_reply = &connection->first_reply;
    connection->events = wanted_events(connection);
    set_rights(service->base, connection);
    if (!add(service, connection)) {
        (void)close(fd);
        free(connection);
        return;
    }
    if (!pinti_service_watch(service, fd, connection->events, &connection->source)) {
        service->n_connections--;
        (void)close(fd);
        free(connection);
        return;
    }
    list_silent(service, connection);
    pinti_service_check_idle(service);
}

static void stop_listening(pinti_service *service)
{
    if (service->listening) {
        pinti_service_unwatch(service, service->base->listen_fd);
        service->listening = false;
    }
    pinti_service_in(service, PINTI_TIMER_LISTEN, LISTEN_AGAIN_MS);
}

void pinti_connections_listen_due(pinti_service *service)
{
    if (service->reserve_fd < 0) {
        service->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (!service->listening) {
        service->listening = pinti_service_watch(service, service->base->listen_fd, EPOLLIN,
                                                 &service->listener_source);
    }
    if (!service->listening) {
        pinti_service_in(service, PINTI_TIMER_LISTEN, LISTEN_AGAIN_MS);
    }
}

/* No descriptors left: turn one client away with the spare one, then leave the backlog alone for a
 * while, or a level-triggered listener would wake us without end. */
static void turn_away(pinti_service *service)
{
    if (service->reserve_fd >= 0) {
        (void)close(service->reserve_fd);
        const int fd = accept4(service->base->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            (void)close(fd);
        }
        service->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    stop_listening(service);
}

void pinti_connections_accept(pinti_service *service)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        const int fd = accept4(service->base->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(service, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE) {
            turn_away(service);
        } else if (errno == ENOMEM || errno == ENOBUFS) {
            stop_listening(service);
        } else if (errno == ECONNABORTED || errno == EINTR) {
            continue;
        }
        return;
    }
}

/* ---- ending -------------------------------------------------------------------------------- */

static void free_reply(pinti_reply *reply)
{
    if (reply->fd >= 0) {
        (void)close(reply->fd);
    }
    free(reply);
}

static void free_replies(pinti_connection *connection)
{
    while (connection->first_reply != NULL) {
        pinti_reply *next = connection->first_reply->next;
        free_reply(connection->first_reply);
        connection->first_reply = next;
    }
    connection->n_queued_fds = 0;
    connection->last_reply = &connection->first_reply;
    connection->outbox_bytes = 0;
}

void pinti_assembly_clear(pinti_service *service, pinti_connection *connection)
{
    pinti_assembly *assembly = &connection->assembly;
    service->schema_bytes -= assembly->charged_bytes;
    free(assembly->schema.columns);
    free(assembly->uses);
    memset(assembly, 0, sizeof(*assembly));
}

static void dismantle(pinti_service *service, pinti_connection *connection)
{
    pinti_connection_greet(service, connection);
    free_replies(connection);
    pinti_assembly_clear(service, connection);
    if (connection->operation != NULL) {
        pinti_operation_orphan(connection->operation);
        connection->operation = NULL;
    }
    pinti_connection *last = service->connections[--service->n_connections];
    service->connections[connection->place] = last;
    last->place = connection->place;
}

void pinti_connection_close(pinti_service *service, pinti_connection *connection)
{
    if (connection->closed) {
        return;
    }
    connection->closed = true;
    pinti_service_unwatch(service, connection->fd);
    (void)close(connection->fd);
    connection->fd = -1;
    dismantle(service, connection);
    pinti_session *session = connection->session;
    connection->session = NULL;
    pinti_service_bury(service, &connection->source);
    if (session != NULL && session->connection == connection) {
        session->connection = NULL;
        session->away_since_ms = pinti_clock_ms();
        session->probe_wait_ms = 0;
        (void)pinti_session_probe(service, session); /* it may have died, or called exec */
    }
    pinti_service_check_idle(service);
}

void pinti_connections_close_all(pinti_service *service)
{
    while (service->n_connections > 0) {
        pinti_connection *connection = service->connections[service->n_connections - 1];
        if (connection->fd >= 0) {
            (void)close(connection->fd);
        }
        dismantle(service, connection);
        free(connection);
    }
    free(service->connections);
    service->connections = NULL;
}

/* ---- replies ------------------------------------------------------------------------------- */

static int send_reply(pinti_service *service, const pinti_connection *connection,
                      const pinti_reply *reply)
{
    const pinti_session *session = connection->session;
    const pinti_segments *segments = &service->base->segments;
    if (!reply->with_fds) {
        return pinti_wire_send(connection->fd, reply->text, reply->bytes, &reply->fd,
                               reply->fd >= 0 ? 1 : 0, true);
    }
    if (session == NULL) {
        return PINTI_WIRE_CLOSED; /* it ended before it could be told of */
    }
    const int fds[PINTI_JOIN_FDS] = {
        segments->catalog_fd,
        session->read_only ? segments->sync_ro_fd : segments->sync_fd,
        session->read_only ? segments->data_ro_fd : segments->data_fd,
        segments->bell_fd,
        session->slot_fd,
        session->tether_fd,
    };
    return pinti_wire_send(connection->fd, reply->text, reply->bytes, fds, PINTI_JOIN_FDS, true);
}

static bool has_read_all(const pinti_connection *connection)
{
    int bytes = 0;
    return ioctl(connection->fd, SIOCOUTQ, &bytes) == 0 && bytes == 0;
}

/* May another descriptor be in flight to this client? */
static bool may_send_fd(pinti_connection *connection)
{
    if (connection->n_sent_fds >= UNREAD_FDS_MAX && has_read_all(connection)) {
        connection->n_sent_fds = 0;
    }
    return connection->n_sent_fds < UNREAD_FDS_MAX;
}

/* Send what the socket takes. False: the connection was closed. */
static bool flush(pinti_service *service, pinti_connection *connection)
{
    bool full_sends = true;
    while (connection->first_reply != NULL) {
        pinti_reply *reply = connection->first_reply;
        const int rc = reply->fd < 0 || may_send_fd(connection)
                           ? send_reply(service, connection, reply)
                           : PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT;
        if (rc == PINTI_WIRE_WOULD_BLOCK) {
            break;
        }
        if (rc == PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT || rc == -ENOBUFS || rc == -ENOMEM) {
            pinti_service_in(service, PINTI_TIMER_SEND, SEND_AGAIN_MS);
            full_sends = false;
            break;
        }
        if (rc != 0) {
            pinti_connection_close(service, connection);
            return false;
        }
        connection->fds_unread = connection->fds_unread || reply->with_fds;
        connection->first_reply = reply->next;
        if (connection->first_reply == NULL) {
            connection->last_reply = &connection->first_reply;
        }
        connection->outbox_bytes -= reply->bytes;
        if (reply->fd >= 0) {
            connection->n_queued_fds--;
            connection->n_sent_fds++;
        }
        free_reply(reply);
    }
    if (connection->first_reply == NULL && connection->closing) {
        pinti_connection_close(service, connection);
        return false;
    }
    set_events(service, connection, full_sends);
    return true;
}

bool pinti_connection_has_unread_fds(const pinti_connection *connection)
{
    int bytes = 0;
    return connection->fds_unread && ioctl(connection->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void pinti_connections_send_due(pinti_service *service)
{
    for (uint32_t i = 0; i < service->n_connections;) {
        pinti_connection *connection = service->connections[i];
        if (connection->first_reply == NULL || flush(service, connection)) {
            i++; /* else another one is at i now */
        }
    }
}

/* text and fd are taken; fd -1: none. */
static void post(pinti_service *service, pinti_connection *connection, char *text, bool with_fds,
                 int fd)
{
    const size_t bytes = text == NULL ? 0 : strlen(text);
    pinti_reply *reply = NULL;
    if (bytes > 0 && bytes <= PINTI_WIRE_BYTES_MAX) {
        reply = malloc(sizeof(*reply) + bytes);
    }
    if (reply == NULL || connection->outbox_bytes + bytes > PINTI_OUTBOX_BYTES_MAX) {
        free(reply);
        cJSON_free(text);
        if (fd >= 0) {
            (void)close(fd);
        }
        pinti_connection_close(service, connection); /* it does not read, or there is no memory */
        return;
    }
    reply->next = NULL;
    reply->bytes = bytes;
    reply->with_fds = with_fds;
    reply->fd = fd;
    connection->n_queued_fds += fd >= 0 ? 1 : 0;
    memcpy(reply->text, text, bytes);
    cJSON_free(text);
    *connection->last_reply = reply;
    connection->last_reply = &reply->next;
    connection->outbox_bytes += bytes;
    (void)flush(service, connection);
}

/* {"jsonrpc":"2.0","id":…}, or NULL */
static cJSON *envelope(uint64_t id)
{
    cJSON *reply = cJSON_CreateObject();
    const bool good = cJSON_AddStringToObject(reply, "jsonrpc", "2.0") != NULL &&
                      (id != 0 ? pinti_json_add_u64(reply, "id", id)
                               : cJSON_AddNullToObject(reply, "id") != NULL);
    if (!good) {
        cJSON_Delete(reply);
        return NULL;
    }
    return reply;
}

/* result and fd are taken. */
static void reply_with(pinti_service *service, pinti_connection *connection, uint64_t id,
                       cJSON *result, bool with_fds, int fd)
{
    cJSON *reply = envelope(id);
    char *text = NULL;
    if (reply != NULL && cJSON_AddItemToObject(reply, "result", result)) {
        text = cJSON_PrintUnformatted(reply);
    } else {
        cJSON_Delete(result);
    }
    cJSON_Delete(reply);
    post(service, connection, text, with_fds, fd);
}

void pinti_connection_reply(pinti_service *service, pinti_connection *connection, uint64_t id,
                            cJSON *result, bool with_fds)
{
    if (connection->closed) {
        cJSON_Delete(result);
        return;
    }
    reply_with(service, connection, id, result, with_fds, -1);
}

void pinti_connection_reply_fd(pinti_service *service, pinti_connection *connection, uint64_t id,
                               cJSON *result, int fd)
{
    const int own = connection->closed ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own >= 0) {
        reply_with(service, connection, id, result, false, own);
        return;
    }
    cJSON_Delete(result);
    pinti_connection_fail(service, connection, id, PINT_E_LIMIT,
                          "copy.open: the service has no descriptors left");
}

void pinti_connection_fail(pinti_service *service, pinti_connection *connection, uint64_t id,
                           int code, const char *message)
{
    if (connection->closed) {
        return;
    }
    char printable[PINT_ERROR_MESSAGE_BYTES];
    (void)pinti_printable(printable, sizeof(printable), message, strlen(message));
    cJSON *reply = envelope(id);
    cJSON *error = cJSON_AddObjectToObject(reply, "error");
    char *text = NULL;
    if (cJSON_AddNumberToObject(error, "code", code) != NULL &&
        cJSON_AddStringToObject(error, "message", printable) != NULL) {
        text = cJSON_PrintUnformatted(reply);
    }
    cJSON_Delete(reply);
    post(service, connection, text, false, -1);
}

void pinti_connection_resume(pinti_service *service, pinti_connection *connection)
{
    connection->busy = false;
    connection->operation = NULL;
    if (!connection->closed) {
        set_events(service, connection, true);
    }
}

/* ---- requests ------------------------------------------------------------------------------ */

/* One message. False: there is none, or the connection has ended. */
static bool take_message(pinti_service *service, pinti_connection *connection)
{
    size_t bytes = 0;
    int fd = -1;
    unsigned n_fds = 0;
    /* one descriptor may come before there is a session: the client's own pidfd */
    const unsigned fds_room = connection->session == NULL ? 1 : 0;
    const int rc =
        pinti_wire_recv(connection->fd, service->buffer, &bytes, &fd, fds_room, &n_fds, true);
    if (rc == PINTI_WIRE_WOULD_BLOCK) {
        return false;
    }
    if (rc != 0) {
        pinti_connection_close(service, connection);
        return false;
    }
    connection->fds_unread = false;
    pinti_dispatch(service, connection, bytes, n_fds > 0 ? fd : -1);
    return !connection->closed && !connection->busy && !connection->closing &&
           connection->n_queued_fds == 0;
}

void pinti_connection_ready(pinti_service *service, pinti_connection *connection, uint32_t events)
{
    if ((events & EPOLLOUT) != 0 && !flush(service, connection)) {
        return;
    }
    if (connection->busy || connection->closing || connection->n_queued_fds > 0) {
        /* not read just now; but an end is an end */
        if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) {
            pinti_connection_close(service, connection);
        }
        return;
    }
    for (int i = 0; i < MESSAGES_MAX && take_message(service, connection); i++) {
    }
    if (!connection->closed) {
        set_events(service, connection, true);
    }
}
