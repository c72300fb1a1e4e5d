/* SPDX-License-Identifier: Apache-2.0 */

/* See raw.h. Nothing of the library's client is used, only the layout. */

#include "tests/service/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/layout.h"
#include "tests/support/ct.h"

#define WAIT_MS 10000

static char buffer[1 << 17];

uint32_t raw_signature(void)
{
    return pinti_layout_signature();
}

/* ---- the service ---------------------------------------------------------------------------- */

bool raw_start(raw_service *service, const char *dir, const char *name, const char *const *args,
               const char *const *env)
{
    int ready[2];
    char number[16];
    char byte = 0;
    const char *argv[RAW_ARGS_MAX] = {PINT_BIN_DIR "/pintabled",
                                      "--address",
                                      service->address,
                                      "--budget",
                                      "64M",
                                      "--ready-fd",
                                      number};
    int n = 7;
    for (; args != NULL && *args != NULL && n < RAW_ARGS_MAX - 1; args++) {
        argv[n++] = *args;
    }
    (void)snprintf(service->address, sizeof(service->address), "%s/%s.sock", dir, name);
    if (pipe2(ready, O_CLOEXEC) != 0) {
        return false;
    }
    (void)snprintf(number, sizeof(number), "%d", ready[1]);
    service->pid = ct_spawn_program(
        argv, &(const ct_spawn_opts){.env = env, .inherit_fds = &ready[1], .n_inherit_fds = 1});
    (void)close(ready[1]);
    const bool good = read(ready[0], &byte, 1) == 1;
    (void)close(ready[0]);
    EXPECT_TRUE(good);
    return good;
}

int raw_run(const char *const *args, const char *const *env)
{
    const char *argv[RAW_ARGS_MAX] = {PINT_BIN_DIR "/pintabled"};
    int n = 1;
    for (; *args != NULL && n < RAW_ARGS_MAX - 1; args++) {
        argv[n++] = *args;
    }
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const pid_t pid = ct_spawn_program(argv, &(const ct_spawn_opts){.env = env, .output_fd = null});
    (void)close(null);
    return ct_wait(pid);
}

int raw_terminate(raw_service *service)
{
    (void)kill(service->pid, SIGTERM);
    return ct_wait(service->pid);
}

/* ---- messages ------------------------------------------------------------------------------- */

int raw_connect(const char *address)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", address);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0) {
        return fd;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return -1;
}

bool raw_send_bytes(int fd, const void *bytes, size_t n, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(RAW_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)n;
}

bool raw_send(int fd, const char *text)
{
    return raw_send_bytes(fd, text, strlen(text), NULL, 0);
}

static ssize_t receive(int fd, int *fds, unsigned *n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(RAW_FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = buffer, .iov_len = sizeof(buffer) - 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    if (poll(&entry, 1, WAIT_MS) <= 0) {
        return -2;
    }
    const ssize_t bytes = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    unsigned n = 0;
    for (struct cmsghdr *c = bytes >= 0 ? CMSG_FIRSTHDR(&message) : NULL; c != NULL;
         c = CMSG_NXTHDR(&message, c)) {
        const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
            if (fds != NULL && n < RAW_FDS_MAX) {
                fds[n++] = got;
            } else {
                (void)close(got);
            }
        }
    }
    if (n_fds != NULL) {
        *n_fds = n;
    }
    return bytes;
}

cJSON *raw_receive(int fd, int *fds, unsigned *n_fds)
{
    const ssize_t bytes = receive(fd, fds, n_fds);
    if (bytes <= 0) {
        return NULL;
    }
    buffer[bytes] = '\0';
    return cJSON_Parse(buffer);
}

bool raw_is_closed(int fd)
{
    for (;;) {
        const ssize_t bytes = receive(fd, NULL, NULL);
        if (bytes <= 0) {
            return bytes != -2;
        }
    }
}

static cJSON *call(int fd, const char *method, const char *format, va_list args)
{
    static char params[1 << 16];
    static char text[1 << 17];
    (void)vsnprintf(params, sizeof(params), format, args);
    (void)snprintf(text, sizeof(text),
                   "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"%s\",\"params\":%s}", method,
                   params);
    return raw_send(fd, text) ? raw_receive(fd, NULL, NULL) : NULL;
}

cJSON *raw_call(int fd, const char *method, const char *params_format, ...)
{
    va_list args;
    va_start(args, params_format);
    cJSON *answer = call(fd, method, params_format, args);
    va_end(args);
    return answer;
}

int raw_code_of(const cJSON *answer)
{
    if (answer == NULL) {
        return 1;
    }
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
    return error == NULL ? 0 : code->valueint;
}

int raw_code(int fd, const char *method, const char *params_format, ...)
{
    va_list args;
    va_start(args, params_format);
    cJSON *answer = call(fd, method, params_format, args);
    va_end(args);
    const int code = raw_code_of(answer);
    cJSON_Delete(answer);
    return code;
}

uint64_t raw_number(const cJSON *answer, const char *key)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(result, key);
    return cJSON_IsNumber(item) ? (uint64_t)item->valuedouble : UINT64_MAX;
}

const char *raw_text(const cJSON *answer, const char *key)
{
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(result, key));
    return text != NULL ? text : "";
}

/* ---- sessions ------------------------------------------------------------------------------- */

bool raw_join(raw_session *session, const char *address, const char *mode, const char *extra)
{
    char text[1024];
    int fds[RAW_FDS_MAX];
    unsigned n_fds = 0;
    memset(session, 0, sizeof(*session));
    session->fd = raw_connect(address);
    (void)snprintf(text, sizeof(text),
                   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"join\",\"params\":{\"protocol\":1,"
                   "\"layout\":3,\"signature\":%" PRIu32 ",\"mode\":\"%s\",\"command\":\"raw\"%s}}",
                   raw_signature(), mode, extra);
    cJSON *answer = session->fd >= 0 && raw_send(session->fd, text)
                        ? raw_receive(session->fd, fds, &n_fds)
                        : NULL;
    const bool good = raw_code_of(answer) == 0 && n_fds == 6;
    if (good) {
        (void)snprintf(session->id, sizeof(session->id), "%s", raw_text(answer, "session"));
        (void)snprintf(session->token, sizeof(session->token), "%s", raw_text(answer, "token"));
        (void)snprintf(session->family, sizeof(session->family), "%s", raw_text(answer, "family"));
        session->index = (uint32_t)raw_number(answer, "index");
        memcpy(session->fds, fds, sizeof(session->fds));
        const int protection = PROT_READ | PROT_WRITE;
        session->tether = mmap(NULL, PINTI_TETHER_BYTES, protection, MAP_SHARED, fds[5], 0);
        session->slot = mmap(NULL, PINTI_SLOT_BYTES, protection, MAP_SHARED, fds[4], 0);
    } else {
        for (unsigned i = 0; i < n_fds; i++) {
            (void)close(fds[i]);
        }
        for (unsigned i = 0; i < 6; i++) {
            session->fds[i] = -1;
        }
        char *why = cJSON_PrintUnformatted(answer);
        (void)fprintf(stderr, "join: %s\n", why != NULL ? why : "no answer");
        cJSON_free(why);
    }
    cJSON_Delete(answer);
    return good && session->tether != MAP_FAILED && session->slot != MAP_FAILED;
}

void raw_unmap(raw_session *session)
{
    if (session->slot != NULL) {
        (void)munmap(session->slot, PINTI_SLOT_BYTES);
        session->slot = NULL;
    }
    if (session->tether != NULL) {
        (void)munmap(session->tether, PINTI_TETHER_BYTES);
        session->tether = NULL;
    }
}

void raw_close(raw_session *session)
{
    raw_unmap(session);
    for (unsigned i = 0; i < 6; i++) {
        if (session->fds[i] >= 0) {
            (void)close(session->fds[i]);
            session->fds[i] = -1;
        }
    }
    if (session->fd >= 0) {
        (void)close(session->fd);
        session->fd = -1;
    }
}

bool raw_leave(raw_session *session)
{
    raw_unmap(session);
    const bool good = raw_code(session->fd, "leave", "{}") == 0 && raw_is_closed(session->fd);
    raw_close(session);
    return good;
}

bool raw_resume(raw_session *session, const char *address)
{
    if (session->fd >= 0) {
        (void)close(session->fd);
    }
    session->fd = raw_connect(address);
    return session->fd >= 0 &&
           raw_code(session->fd, "resume", "{\"session\":\"%s\",\"token\":\"%s\"}", session->id,
                    session->token) == 0;
}

int raw_make_table(raw_session *session, const char *name, uint64_t rows, bool publish,
                   uint64_t *out_table, uint64_t *out_generation)
{
    cJSON *answer = raw_call(session->fd, "table.create",
                             "{\"request\":%" PRIu64 ",\"name\":\"%s\",\"rows\":%" PRIu64
                             ",\"columns\":[{\"name\":\"x\",\"type\":\"float64\"}]}",
                             ++session->request, name, rows);
    int code = raw_code_of(answer);
    const uint64_t table = raw_number(answer, "table");
    const uint64_t generation = raw_number(answer, "generation");
    cJSON_Delete(answer);
    if (code == 0 && publish) {
        code = raw_code(session->fd, "table.publish",
                        "{\"table\":%" PRIu64 ",\"generation\":%" PRIu64 "}", table, generation);
    }
    if (out_table != NULL) {
        *out_table = table;
        *out_generation = generation;
    }
    return code;
}

void raw_refer(raw_session *session, uint64_t table, uint64_t generation)
{
    pinti_store64_seq(&pinti_slot_tables(session->slot)[table], generation << 32 | 1u);
}

/* ---- stat ----------------------------------------------------------------------------------- */

bool raw_get_stat(const char *address, raw_stat *out)
{
    memset(out, 0, sizeof(*out));
    const int fd = raw_connect(address);
    if (fd < 0) {
        return false;
    }
    cJSON *answer = raw_call(fd, "stat", "{}");
    (void)close(fd);
    if (raw_code_of(answer) != 0) {
        cJSON_Delete(answer);
        return false;
    }
    out->incarnation = raw_number(answer, "incarnation");
    out->pid = raw_number(answer, "pid");
    out->keeper_pid = raw_number(answer, "keeper_pid");
    out->fds = raw_number(answer, "fds");
    out->used_bytes = raw_number(answer, "used_bytes");
    out->committed_bytes = raw_number(answer, "committed_bytes");
    out->rss_bytes = raw_number(answer, "rss_bytes");
    out->connections = raw_number(answer, "connections");
    out->tables = raw_number(answer, "tables");
    out->dying = raw_number(answer, "dying");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    const cJSON *sessions = cJSON_GetObjectItemCaseSensitive(result, "sessions");
    out->n_sessions = cJSON_GetArraySize(sessions);
    for (const cJSON *s = sessions->child; s != NULL; s = s->next) {
        const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s, "state"));
        out->n_orphaned += strcmp(state, "orphaned") == 0 ? 1 : 0;
    }
    cJSON_Delete(answer);
    return true;
}

static bool is_now_back(const char *address, const raw_stat *before, raw_stat *now)
{
    return raw_get_stat(address, now) && now->n_sessions == before->n_sessions &&
           now->fds == before->fds && now->used_bytes == before->used_bytes &&
           now->connections == before->connections && now->dying == before->dying &&
           now->tables == before->tables;
}

bool raw_is_back(const char *address, const raw_stat *before)
{
    raw_stat now;
    const bool back = ct_eventually(is_now_back(address, before, &now), WAIT_MS);
    if (!back) {
        (void)fprintf(
            stderr,
            "sessions %d -> %d, fds %" PRIu64 " -> %" PRIu64 ", used %" PRIu64 " -> %" PRIu64
            ", connections %" PRIu64 " -> %" PRIu64 ", dying %" PRIu64 " -> %" PRIu64 "\n",
            before->n_sessions, now.n_sessions, before->fds, now.fds, before->used_bytes,
            now.used_bytes, before->connections, now.connections, before->dying, now.dying);
    }
    return back;
}
