/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The client's side of a connection. What arrives is hostile until checked: length and descriptors
 * by wire.c, grammar by json.c, here the envelope, and every member by whoever asked.
 *
 * Invariant: one thread at a time has the client (take_client()), and while none has it the
 * connection is either between requests (answers still to come only for posts, whose ids are lower
 * than the next one) or closed, socket -1. Every failure in the middle closes it; the next request
 * reconnects. The program is asked whether to go on by the thread that has the client; what it does
 * then may come back here: it is refused, not let wait for itself.
 */

#include "ipc/client.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "host/error.h"
#include "host/interrupt.h"
#include "ipc/connect.h"
#include "ipc/json.h"

#ifndef SYS_pidfd_open
#    define SYS_pidfd_open 434
#endif

#define TOKEN_DIGITS       32
#define SENDS_MAX          3  /* of a request: one that kills the service must not go on for ever */
#define POSTS_MAX          32 /* answers the service may owe us for posts */
#define LEAVE_MS           1000
#define RECONNECT_PAUSE_MS 10
#define SERVER_ERROR_FIRST (-32768.0) /* JSON-RPC's own codes */
#define SERVER_ERROR_LAST  (-32000.0)
#define SERVER_NO_METHOD   (-32601)
#define SERVER_BAD_PARAMS  (-32602)

struct pinti_client {
    pthread_mutex_t lock; /* of the next three; held for a moment only */
    pthread_cond_t is_free;
    pthread_t taker;
    bool is_taken;         /* a thread is in the middle of something; all below is its */
    int socket;            /* -1: none */
    uint64_t last_id;      /* of the messages of this connection and earlier ones */
    uint64_t last_request; /* number of the last create */
    uint64_t unread;       /* number of a create that was sent and whose answer was not read; 0 */
    pinti_find_made find_made;
    void *find_context;
    unsigned n_posts; /* posts sent and not known to be answered */
    bool has_session;
    bool is_stale; /* the pool was replaced */
    uint64_t session;
    char token[TOKEN_DIGITS + 1];
    char path[108];
    char in[PINTI_WIRE_BYTES_MAX + 1];
    char out[PINTI_WIRE_BYTES_MAX + 1];
};

/* What to send, and how long it and the answer may take. */
typedef struct outgoing {
    const char *method;
    const char *params; /* JSON text; NULL: none */
    int fd;             /* goes along; -1: none */
    int64_t deadline_ms;
} outgoing;

/* Descriptors that come with an answer. */
typedef struct fd_room {
    int fds[PINTI_WIRE_FDS_MAX];
    unsigned room;
    unsigned n_fds;
} fd_room;

static void close_fds(const int *fds, unsigned n_fds)
{
    for (unsigned i = 0; i < n_fds; i++) {
        (void)close(fds[i]);
    }
}

static void disconnect(pinti_client *client)
{
    if (client->socket >= 0) {
        (void)close(client->socket);
    }
    client->socket = -1;
    client->n_posts = 0;
}

/* Take the client, unless somebody has it. */
static bool try_take_client(pinti_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    const bool taken = !client->is_taken;
    if (taken) {
        client->is_taken = true;
        client->taker = pthread_self();
    }
    (void)pthread_mutex_unlock(&client->lock);
    return taken;
}

/* Requires: client->lock. Wait a while, or until it may be free. */
static void await_client(pinti_client *client)
{
    struct timespec until = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PINTI_INTERRUPT_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000l;
    until.tv_nsec %= 1000000000l;
    (void)pthread_cond_timedwait(&client->is_free, &client->lock, &until);
}

/* Take the client. Another thread may have it for as long as the service does not answer. */
static pint_status take_client(pinti_client *client, const char *method, pint_error *err)
{
    while (!try_take_client(client)) {
        (void)pthread_mutex_lock(&client->lock);
        const bool is_own = client->is_taken && pthread_equal(client->taker, pthread_self()) != 0;
        if (client->is_taken && !is_own) {
            await_client(client);
        }
        (void)pthread_mutex_unlock(&client->lock);
        if (is_own) {
            return pinti_fail(err, PINT_E_STATE, 0,
                              "%s: this thread is in the middle of a request of this pool", method);
        }
        if (pinti_is_interrupted()) {
            return pinti_fail_interrupted(method, err);
        }
    }
    return PINT_OK;
}

static void give_client(pinti_client *client)
{
    (void)pthread_mutex_lock(&client->lock);
    client->is_taken = false;
    (void)pthread_cond_signal(&client->is_free);
    (void)pthread_mutex_unlock(&client->lock);
}

/* 0 or an errno. */
static int init_taking(pinti_client *client)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error != 0) {
        return error;
    }
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0) {
        error = pthread_cond_init(&client->is_free, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes);
    return error != 0 ? error : pthread_mutex_init(&client->lock, NULL);
}

/* ---- one message out ------------------------------------------------------------------------- */

static pint_status fail_timeout(const char *method, pint_error *err)
{
    return pinti_fail(err, PINT_E_TIMEOUT, 0, "%s: the service does not answer", method);
}

/* Wait until the socket takes more, or ends. */
static pint_status wait_writable(const pinti_client *client, const outgoing *m, pint_error *err)
{
    const int left = pinti_left_ms(m->deadline_ms);
    if (left == 0) {
        return fail_timeout(m->method, err);
    }
    const int waited = pinti_wire_wait_room(client->socket, left);
    if (waited == PINTI_WIRE_INTERRUPTED) {
        return pinti_fail_interrupted(m->method, err);
    }
    return PINT_OK; /* whatever else it was, the next send tells */
}

/* Format the envelope into client->out. 0 when it does not fit. */
static size_t format_message(pinti_client *client, const char *method, const char *params)
{
    const int bytes =
        snprintf(client->out, sizeof(client->out),
                 "{\"jsonrpc\":\"2.0\",\"id\":%" PRIu64 ",\"method\":\"%s\",\"params\":%s}",
                 client->last_id + 1, method, params != NULL ? params : "{}");
    return bytes > 0 && (unsigned)bytes <= PINTI_WIRE_BYTES_MAX ? (size_t)bytes : 0;
}

static pint_status send_message(pinti_client *client, const outgoing *m, pint_error *err)
{
    const size_t bytes = format_message(client, m->method, m->params);
    if (bytes == 0) {
        return pinti_fail(err, PINT_E_LIMIT, 0, "%s: the message is longer than %u bytes",
                          m->method, PINTI_WIRE_BYTES_MAX);
    }
    for (;;) {
        pint_status status;
        const int sent =
            pinti_wire_send(client->socket, client->out, bytes, &m->fd, m->fd >= 0 ? 1 : 0, true);
        switch (sent) {
        case 0:
            client->last_id++;
            return PINT_OK;
        case PINTI_WIRE_CLOSED:
            return PINTI_CLIENT_LOST;
        case PINTI_WIRE_WOULD_BLOCK:
            status = wait_writable(client, m, err);
            if (status != PINT_OK) {
                return status;
            }
            break;
        case PINTI_WIRE_TOO_MANY_FDS_IN_FLIGHT:
            return pinti_fail(err, PINT_E_FD_LIMIT, ETOOMANYREFS, "%s", m->method);
        default:
            return pinti_fail(err, PINT_E_SYSTEM, -sent, "%s: send", m->method);
        }
    }
}

/* ---- one message in -------------------------------------------------------------------------- */

static pint_status fail_protocol(const char *method, const char *what, pint_error *err)
{
    return pinti_fail(err, PINT_E_PROTOCOL, 0, "%s: the service %s", method, what);
}

/* Could this process take so many descriptors at once? */
static bool has_free_fds(unsigned room)
{
    int probes[PINTI_WIRE_FDS_MAX];
    unsigned n = 0;
    while (n < room && (probes[n] = eventfd(0, EFD_CLOEXEC)) >= 0) {
        n++;
    }
    close_fds(probes, n);
    return n == room;
}

/* A packet that wire.c refused. The kernel cuts descriptors off that it finds no room for. */
static pint_status fail_malformed(const char *method, unsigned room, pint_error *err)
{
    if (!has_free_fds(room)) {
        return pinti_fail(err, PINT_E_FD_LIMIT, EMFILE, "%s: %u descriptors are needed at once",
                          method, room);
    }
    return fail_protocol(method, "sent a malformed packet", err);
}

/* The next packet into client->in. */
static pint_status receive(pinti_client *client, const char *method, fd_room *fds,
                           int64_t deadline_ms, size_t *out_bytes, pint_error *err)
{
    for (;;) {
        fds->n_fds = 0;
        const int got = pinti_wire_recv(client->socket, client->in, out_bytes, fds->fds, fds->room,
                                        &fds->n_fds, true);
        switch (got) {
        case 0:
            return PINT_OK;
        case PINTI_WIRE_CLOSED:
            return PINTI_CLIENT_LOST;
        case PINTI_WIRE_MALFORMED:
            return fail_malformed(method, fds->room, err);
        case PINTI_WIRE_WOULD_BLOCK:
            break;
        default:
            return pinti_fail(err, PINT_E_SYSTEM, -got, "%s: receive", method);
        }
        const int left = pinti_left_ms(deadline_ms);
        if (left == 0) {
            return fail_timeout(method, err);
        }
        const int waited = pinti_wire_wait(client->socket, left);
        if (waited == PINTI_WIRE_INTERRUPTED) {
            return pinti_fail_interrupted(method, err);
        }
        if (waited < 0) {
            return pinti_fail(err, PINT_E_SYSTEM, -waited, "%s: poll", method);
        }
    }
}

/* The error the service answered with: its code when it is one of ours, and its words. */
static pint_status fail_answer(const char *method, const cJSON *error, pint_error *err)
{
    static const char *const keys[] = {"code", "message"};
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
    const char *message;
    char text[PINT_ERROR_MESSAGE_BYTES];
    if (pinti_json_only(error, keys, 2, NULL) != PINT_OK || !cJSON_IsNumber(code) ||
        pinti_json_string(error, "message", &message, NULL) != PINT_OK) {
        return fail_protocol(method, "sent an error that is none", err);
    }
    (void)pinti_printable(text, sizeof(text), message, strlen(message));
    if (code->valuedouble >= SERVER_ERROR_FIRST && code->valuedouble <= SERVER_ERROR_LAST) {
        const int own = (int)code->valuedouble;
        return pinti_fail(err,
                          own == SERVER_NO_METHOD    ? PINT_E_UNSUPPORTED
                          : own == SERVER_BAD_PARAMS ? PINT_E_INVALID
                                                     : PINT_E_PROTOCOL,
                          0, "%s: the service refused the message: %s", method, text);
    }
    /* written so that NaN fails; the range is the one of pint_status codes */
    if (!(code->valuedouble >= -99.0 && code->valuedouble <= -1.0)) {
        return fail_protocol(method, "sent an error code that is none", err);
    }
    const pint_status status = (pint_status)code->valuedouble;
    if (strncmp(pint_status_name(status), "E_", 2) != 0) {
        return fail_protocol(method, "sent an error code that is none", err);
    }
    return pinti_fail(err, status, 0, "%s", text);
}

enum answer {
    ANSWER_BAD,  /* none that can be understood: close the connection */
    ANSWER_OLD,  /* to an earlier message: look for the next */
    ANSWER_OURS, /* a result, or an error of the service's */
};

/* Take an answer apart. Fills *out_result when it returns PINT_OK and ANSWER_OURS. */
static pint_status open_answer(pinti_client *client, const char *method, size_t bytes,
                               enum answer *out_answer, cJSON **out_result, pint_error *err)
{
    static const char *const keys[] = {"jsonrpc", "id", "result", "error"};
    cJSON *root = NULL;
    const char *version;
    uint64_t id;
    *out_answer = ANSWER_BAD;
    pint_status status = pinti_json_parse(client->in, bytes, &root, err);
    if (status != PINT_OK) {
        return status == PINT_E_NO_MEMORY ? status
                                          : fail_protocol(method, "sent no JSON message", err);
    }
    cJSON *result = cJSON_GetObjectItemCaseSensitive(root, "result");
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
    if (pinti_json_only(root, keys, 4, NULL) != PINT_OK ||
        pinti_json_string(root, "jsonrpc", &version, NULL) != PINT_OK ||
        strcmp(version, "2.0") != 0 || (result == NULL) == (error == NULL)) {
        status = fail_protocol(method, "sent no answer", err);
    } else if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(root, "id")) && error != NULL) {
        status = fail_answer(method, error, err); /* our message could not be read */
    } else if (pinti_json_u64(root, "id", client->last_id, &id, NULL) != PINT_OK) {
        status = fail_protocol(method, "sent an answer to no question", err);
    } else if (id < client->last_id) {
        *out_answer = ANSWER_OLD;
    } else if (error != NULL) {
        *out_answer = ANSWER_OURS;
        status = fail_answer(method, error, err);
    } else if (!cJSON_IsObject(result)) {
        status = fail_protocol(method, "sent a result that is no object", err);
    } else {
        *out_answer = ANSWER_OURS;
        *out_result = cJSON_DetachItemViaPointer(root, result);
    }
    cJSON_Delete(root);
    return status;
}

/* One message and its answer. *out_answered: the connection is fine, also when the answer is an
 * error; else it must be closed. */
static pint_status ask(pinti_client *client, const outgoing *m, fd_room *fds, cJSON **out_result,
                       bool *out_answered, pint_error *err)
{
    *out_answered = false;
    pint_status status = send_message(client, m, err);
    if (status != PINT_OK) {
        return status;
    }
    enum answer answer = ANSWER_OLD;
    while (answer == ANSWER_OLD) {
        size_t bytes;
        status = receive(client, m->method, fds, m->deadline_ms, &bytes, err);
        if (status != PINT_OK) {
            return status;
        }
        status = open_answer(client, m->method, bytes, &answer, out_result, err);
        if (status != PINT_OK || answer == ANSWER_OLD) {
            close_fds(fds->fds, fds->n_fds);
            fds->n_fds = 0;
        }
        if (answer == ANSWER_OLD && client->n_posts == 0) {
            return fail_protocol(m->method, "answers what was not asked", err);
        }
        client->n_posts -= answer == ANSWER_OLD ? 1 : 0;
    }
    client->n_posts = 0; /* answers come in order: all before this one are read */
    *out_answered = answer == ANSWER_OURS;
    return status;
}

/* ask(); closes the connection unless it is fine. */
static pint_status ask_for_fds(pinti_client *client, const outgoing *m, fd_room *fds,
                               cJSON **out_result, pint_error *err)
{
    bool answered;
    const pint_status status = ask(client, m, fds, out_result, &answered, err);
    if (!answered) {
        disconnect(client);
    }
    return status;
}

/* The same for an answer without descriptors. */
static pint_status ask_or_close(pinti_client *client, const outgoing *m, cJSON **out_result,
                                pint_error *err)
{
    fd_room none = {.room = 0};
    return ask_for_fds(client, m, &none, out_result, err);
}

/* ---- joining and coming back ----------------------------------------------------------------- */

/* A pidfd of this process, for services whose kernel or pid namespace has no other way to one. */
static int open_own_pidfd(void)
{
    const long fd = syscall(SYS_pidfd_open, getpid(), 0);
    return fd < 0 ? -1 : (int)fd;
}

/* Ask with the own pidfd going along, or without it where it cannot be had or sent. Consumes
 * params, which gets the member "pidfd", and closes the connection unless it is fine. */
static pint_status ask_with_pidfd(pinti_client *client, const char *method, cJSON *params,
                                  int64_t deadline_ms, fd_room *fds, cJSON **out_result,
                                  pint_error *err)
{
    outgoing m = {.method = method, .fd = open_own_pidfd(), .deadline_ms = deadline_ms};
    pint_status status;
    bool again;
    do {
        bool answered = false;
        cJSON_DeleteItemFromObjectCaseSensitive(params, "pidfd");
        char *text = cJSON_AddBoolToObject(params, "pidfd", m.fd >= 0) != NULL
                         ? cJSON_PrintUnformatted(params)
                         : NULL;
        m.params = text;
        const uint64_t id_before = client->last_id;
        status = text != NULL ? ask(client, &m, fds, out_result, &answered, err)
                              : pinti_fail(err, PINT_E_NO_MEMORY, 0, "%s", method);
        cJSON_free(text);
        /* SO_PASSRIGHTS 0 at the other end, or too many descriptors in flight */
        again = m.fd >= 0 && client->last_id == id_before &&
                (status == PINT_E_FD_LIMIT || status == PINT_E_SYSTEM);
        if (m.fd >= 0) {
            (void)close(m.fd);
            m.fd = -1;
        }
        if (!answered && !again) {
            disconnect(client);
        }
    } while (again);
    cJSON_Delete(params);
    return status;
}

/* Take up the session on a new connection. */
static pint_status resume(pinti_client *client, int64_t deadline_ms, pint_error *err)
{
    cJSON *params = cJSON_CreateObject();
    if (params == NULL || !pinti_json_add_hex64(params, "session", client->session) ||
        cJSON_AddStringToObject(params, "token", client->token) == NULL) {
        cJSON_Delete(params);
        disconnect(client);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "resume");
    }
    fd_room fds = {.room = 0};
    cJSON *result = NULL;
    pint_status status = ask_with_pidfd(client, "resume", params, deadline_ms, &fds, &result, err);
    cJSON_Delete(result);
    if (status == PINT_E_NOT_FOUND || status == PINT_E_STALE || status == PINT_E_PERMISSION) {
        /* Another pool now, or one that has ended this session: nothing leads back. */
        client->is_stale = true;
        disconnect(client);
        status =
            pinti_fail(err, PINT_E_STALE, 0,
                       "the service does not know this session any more: leave and join again");
    } else if (status != PINT_OK) {
        disconnect(client);
    }
    return status;
}

static pint_status fail_gone(const pinti_client *client, int sys_errno, pint_error *err)
{
    char text[112];
    return pinti_fail(err, PINT_E_GONE, sys_errno, "no service at '%s' for %d ms",
                      pinti_printable(text, sizeof(text), client->path, strlen(client->path)),
                      PINTI_AWAY_MS);
}

/*
 * Drop the table of a create whose answer was not read. Requires: the session was just resumed, so
 * the catalog says for sure what that create has made. The service's refusal is an end, too: then
 * the table is gone, or another's.
 */
static pint_status drop_unread(pinti_client *client, int64_t deadline_ms, pint_error *err)
{
    uint32_t table;
    uint32_t generation;
    if (client->unread == 0) {
        return PINT_OK;
    }
    if (client->find_made(client->find_context, client->session, client->unread, &table,
                          &generation)) {
        char params[64];
        (void)snprintf(params, sizeof(params), "{\"table\":%" PRIu32 ",\"generation\":%" PRIu32 "}",
                       table, generation);
        const outgoing m = {
            .method = "table.drop", .params = params, .fd = -1, .deadline_ms = deadline_ms};
        cJSON *result = NULL;
        const pint_status status = ask_or_close(client, &m, &result, err);
        cJSON_Delete(result);
        if (client->socket < 0) {
            return status;
        }
    }
    client->unread = 0;
    return PINT_OK;
}

/* Make socket >= 0 with the session resumed. PINT_E_GONE, PINT_E_STALE, or what stands in the way.
 */
static pint_status reconnect(pinti_client *client, pint_error *err)
{
    const int64_t deadline_ms = pinti_clock_ms() + PINTI_AWAY_MS;
    if (client->is_stale) {
        return pinti_fail(err, PINT_E_STALE, 0, "the pool was replaced: leave it and join again");
    }
    if (!client->has_session) {
        return pinti_fail(err, PINT_E_GONE, 0, "the connection to the service ended");
    }
    for (;;) {
        pint_error inner = {0};
        pint_status status = pinti_connect(client->path, deadline_ms, &client->socket, &inner);
        if (status == PINT_OK) {
            status = resume(client, deadline_ms, &inner);
            if (status == PINT_OK) {
                status = drop_unread(client, deadline_ms, &inner);
            }
        } else {
            client->socket = -1;
        }
        if (status == PINT_OK) {
            return PINT_OK;
        }
        const bool may_come =
            status == PINT_E_NO_SERVICE || status == PINTI_CLIENT_LOST || status == PINT_E_TIMEOUT;
        if (!may_come) {
            if (err != NULL) {
                *err = inner;
            }
            return status;
        }
        if (pinti_left_ms(deadline_ms) == 0) {
            return fail_gone(client, inner.sys_errno, err);
        }
        if (!pinti_pause_ms(RECONNECT_PAUSE_MS, deadline_ms)) {
            return pinti_fail_interrupted("resume", err);
        }
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* All messages of a call, once. */
static pint_status send_parts(pinti_client *client, const pinti_exchange *call, uint64_t request,
                              int64_t deadline_ms, cJSON **out_result, pint_error *err)
{
    bool more = true;
    for (unsigned part = 0; more; part++) {
        char *params = NULL;
        more = false;
        pint_status status = PINT_OK;
        if (call->make != NULL) {
            status = call->make(call->context, request, part, &params, &more, err);
        }
        if (status != PINT_OK) {
            if (part > 0) {
                disconnect(client); /* the service would wait for the rest */
            }
            return status;
        }
        const outgoing m = {.method = part == 0 ? call->method : call->more_method,
                            .params = params,
                            .fd = -1,
                            .deadline_ms = deadline_ms};
        cJSON *result = NULL;
        fd_room fds = {.room = !more && call->out_fd != NULL ? 1 : 0};
        status = ask_for_fds(client, &m, &fds, &result, err);
        cJSON_free(params);
        if (status != PINT_OK) {
            return status;
        }
        if (fds.room != 0) {
            *call->out_fd = fds.n_fds != 0 ? fds.fds[0] : -1;
        }
        if (more || out_result == NULL) {
            cJSON_Delete(result);
        } else {
            *out_result = result;
        }
    }
    return PINT_OK;
}

static pint_status call_locked(pinti_client *client, const pinti_exchange *call, cJSON **out_result,
                               pint_error *err)
{
    const int64_t deadline_ms = pinti_clock_ms() + call->timeout_ms;
    const uint64_t request = call->numbered ? ++client->last_request : 0;
    bool sent = false;
    for (unsigned n = 0; n < SENDS_MAX; n++) {
        if (client->socket < 0) {
            const pint_status status = reconnect(client, err);
            if (status != PINT_OK) {
                return status;
            }
        }
        if (sent && call->took_effect != NULL && call->took_effect(call->context)) {
            if (out_result != NULL) {
                *out_result = NULL;
            }
            return PINT_OK;
        }
        const pint_status status = send_parts(client, call, request, deadline_ms, out_result, err);
        if (status != PINTI_CLIENT_LOST) {
            /* the older one was settled when this connection was made */
            client->unread = call->makes_table && client->socket < 0 ? request : client->unread;
            return status;
        }
        sent = true;
    }
    client->unread = call->makes_table ? request : client->unread;
    return pinti_fail(err, PINT_E_GONE, 0, "%s: the service ended %u times during the request",
                      call->method, SENDS_MAX);
}

pint_status pinti_client_call(pinti_client *client, const pinti_exchange *call, cJSON **out_result,
                              pint_error *err)
{
    pint_status status = take_client(client, call->method, err);
    if (status == PINT_OK) {
        status = call_locked(client, call, out_result, err);
        give_client(client);
    }
    return status;
}

static pint_status make_copy(void *context, uint64_t request, unsigned part, char **out_params,
                             bool *out_more, pint_error *err)
{
    (void)request;
    (void)part;
    *out_more = false;
    *out_params = cJSON_PrintUnformatted(context);
    return *out_params != NULL ? PINT_OK : pinti_fail(err, PINT_E_NO_MEMORY, 0, "request");
}

pint_status pinti_client_request(pinti_client *client, const char *method, const cJSON *params,
                                 int timeout_ms, cJSON **out_result, pint_error *err)
{
    const pinti_exchange call = {.method = method,
                                 .make = params != NULL ? make_copy : NULL,
                                 .context = (void *)params, /* only printed */
                                 .timeout_ms = timeout_ms};
    return pinti_client_call(client, &call, out_result, err);
}

pint_status pinti_client_alive(pinti_client *client, pint_error *err)
{
    if (!try_take_client(client)) {
        return PINT_OK;
    }
    if (client->socket >= 0) {
        struct pollfd entry = {.fd = client->socket, .events = POLLRDHUP};
        if (poll(&entry, 1, 0) > 0) {
            disconnect(client);
        }
    }
    const pint_status status = client->socket >= 0 ? PINT_OK : reconnect(client, err);
    give_client(client);
    return status;
}

/* Read the answers to posts that have come. False when the connection is not usable. */
static bool drain(pinti_client *client)
{
    for (;;) {
        size_t bytes;
        const int got = pinti_wire_recv(client->socket, client->in, &bytes, NULL, 0, NULL, true);
        if (got == PINTI_WIRE_WOULD_BLOCK) {
            return true;
        }
        if (got != 0 || client->n_posts == 0) {
            disconnect(client);
            return false;
        }
        client->n_posts--; /* the text does not matter: it is an answer to nobody */
    }
}

bool pinti_client_post(pinti_client *client, const char *method, const char *params)
{
    bool is_sent = false;
    if (!try_take_client(client)) {
        return false;
    }
    if (client->socket >= 0 && drain(client) && client->n_posts < POSTS_MAX) {
        const outgoing m = {
            .method = method, .params = params, .fd = -1}; /* no deadline: does not wait */
        const pint_status status = send_message(client, &m, NULL);
        if (status == PINT_OK) {
            client->n_posts++;
            is_sent = true;
        } else if (status != PINT_E_TIMEOUT) {
            disconnect(client);
        }
    }
    give_client(client);
    return is_sent;
}

/* ---- life ------------------------------------------------------------------------------------ */

pint_status pinti_client_open(const char *socket_path, int64_t deadline_ms,
                              pinti_client **out_client, pint_error *err)
{
    int fd;
    const pint_status status = pinti_connect(socket_path, deadline_ms, &fd, err);
    if (status != PINT_OK) {
        return status;
    }
    pinti_client *client = calloc(1, sizeof(*client));
    if (client == NULL || init_taking(client) != 0) {
        free(client);
        (void)close(fd);
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "connection");
    }
    (void)snprintf(client->path, sizeof(client->path), "%s", socket_path);
    client->socket = fd;
    *out_client = client;
    return PINT_OK;
}

static cJSON *hello_params(void)
{
    cJSON *params = cJSON_CreateObject();
    if (params != NULL && pinti_json_add_u64(params, "protocol", PINTI_PROTOCOL_VERSION) &&
        pinti_json_add_u64(params, "layout", PINTI_LAYOUT_VERSION) &&
        pinti_json_add_u64(params, "signature", pinti_layout_signature())) {
        return params;
    }
    cJSON_Delete(params);
    return NULL;
}

static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdefABCDEF") == digits;
}

static pint_status check_hello(const cJSON *result, pinti_hello *out, pint_error *err)
{
    static const char *const keys[] = {"service", "incarnation", "pool", "private"};
    const char *service;
    const char *pool;
    if (pinti_json_only(result, keys, 4, err) != PINT_OK ||
        pinti_json_string(result, "service", &service, err) != PINT_OK ||
        pinti_json_string(result, "pool", &pool, err) != PINT_OK ||
        pinti_json_u64(result, "incarnation", UINT64_MAX, &out->incarnation, err) != PINT_OK ||
        pinti_json_bool_or(result, "private", false, &out->is_private, err) != PINT_OK ||
        !is_hex(pool, TOKEN_DIGITS)) {
        return fail_protocol("hello", "sent a result that is none", err);
    }
    (void)pinti_printable(out->service, sizeof(out->service), service, strlen(service));
    char half[17];
    memcpy(half, pool, 16);
    half[16] = '\0';
    out->pool_id[0] = strtoull(half, NULL, 16);
    out->pool_id[1] = strtoull(pool + 16, NULL, 16);
    return PINT_OK;
}

pint_status pinti_client_hello(pinti_client *client, int64_t deadline_ms, pinti_hello *out,
                               pint_error *err)
{
    cJSON *result = NULL;
    cJSON *params = hello_params();
    char *text = params != NULL ? cJSON_PrintUnformatted(params) : NULL;
    cJSON_Delete(params);
    if (text == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "hello");
    }
    const outgoing m = {.method = "hello", .params = text, .fd = -1, .deadline_ms = deadline_ms};
    pint_status status = take_client(client, m.method, err);
    if (status == PINT_OK) {
        status = client->socket < 0 ? pinti_fail(err, PINT_E_GONE, 0, "hello: not connected")
                                    : ask_or_close(client, &m, &result, err);
        give_client(client);
    }
    cJSON_free(text);
    if (status == PINTI_CLIENT_LOST) {
        status = pinti_fail(err, PINT_E_GONE, 0, "hello: the service ended the connection");
    }
    if (status == PINT_OK) {
        status = check_hello(result, out, err);
    }
    cJSON_Delete(result);
    return status;
}

static cJSON *join_params(bool writable, uint64_t family)
{
    char command[32];
    const char *name = program_invocation_short_name;
    cJSON *params = hello_params();
    (void)pinti_printable(command, sizeof(command), name, strlen(name));
    if (params != NULL && cJSON_AddStringToObject(params, "mode", writable ? "rw" : "ro") != NULL &&
        cJSON_AddStringToObject(params, "command", command) != NULL &&
        (family == 0 || pinti_json_add_hex64(params, "family", family))) {
        return params;
    }
    cJSON_Delete(params);
    return NULL;
}

static pint_status check_joined(pinti_client *client, const cJSON *result, bool writable,
                                pinti_joined *out, pint_error *err)
{
    static const char *const keys[] = {"session", "index", "token", "family", "mode"};
    const char *token;
    const char *mode;
    uint64_t index;
    if (pinti_json_only(result, keys, 5, err) != PINT_OK ||
        pinti_json_hex64(result, "session", &out->session, err) != PINT_OK ||
        pinti_json_u64(result, "index", PINTI_SESSIONS_MAX - 1, &index, err) != PINT_OK ||
        pinti_json_string(result, "token", &token, err) != PINT_OK ||
        pinti_json_hex64(result, "family", &out->family, err) != PINT_OK ||
        pinti_json_string(result, "mode", &mode, err) != PINT_OK || out->session == 0 ||
        index == 0 || out->family == 0 || !is_hex(token, TOKEN_DIGITS) ||
        strcmp(mode, writable ? "rw" : "ro") != 0) {
        return fail_protocol("join", "sent a result that is none", err);
    }
    out->index = (uint32_t)index;
    client->session = out->session;
    memcpy(client->token, token, sizeof(client->token));
    client->has_session = true;
    return PINT_OK;
}

pint_status pinti_client_join(pinti_client *client, bool writable, uint64_t family,
                              int64_t deadline_ms, pinti_joined *out, pint_error *err)
{
    fd_room fds = {.room = PINTI_POOL_FDS};
    cJSON *result = NULL;
    cJSON *params = join_params(writable, family);
    if (params == NULL) {
        return pinti_fail(err, PINT_E_NO_MEMORY, 0, "join");
    }
    pint_status status = ask_with_pidfd(client, "join", params, deadline_ms, &fds, &result, err);
    if (status != PINT_OK) {
        return status;
    }
    if (fds.n_fds != PINTI_POOL_FDS) {
        status = fail_protocol("join", "sent too few descriptors", err);
    } else {
        status = check_joined(client, result, writable, out, err);
    }
    cJSON_Delete(result);
    if (status != PINT_OK) {
        close_fds(fds.fds, fds.n_fds);
        disconnect(client);
        return status;
    }
    memcpy(out->fds, fds.fds, sizeof(out->fds));
    return PINT_OK;
}

void pinti_client_set_finder(pinti_client *client, pinti_find_made find, void *context)
{
    client->find_made = find;
    client->find_context = context;
}

void pinti_client_close(pinti_client *client)
{
    if (client == NULL) {
        return;
    }
    disconnect(client);
    pinti_client_abandon(client);
}

void pinti_client_leave(pinti_client *client)
{
    if (client == NULL) {
        return;
    }
    if (client->socket >= 0 && client->has_session) {
        const outgoing m = {
            .method = "leave", .fd = -1, .deadline_ms = pinti_clock_ms() + LEAVE_MS};
        cJSON *result = NULL;
        pinti_interrupt_hold(); /* LEAVE_MS at most */
        (void)ask_or_close(client, &m, &result, NULL);
        pinti_interrupt_release();
        cJSON_Delete(result);
    }
    pinti_client_close(client);
}

void pinti_client_abandon(pinti_client *client)
{
    if (client == NULL) {
        return;
    }
    /* Another thread may have held the lock at fork(): it is not destroyed. */
    free(client);
}
