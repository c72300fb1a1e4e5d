/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SERVICE_RAW_H
#define TESTS_SERVICE_RAW_H

/* A real pintabled and a client of it that is nothing but a socket, so that it can misbehave. */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RAW_FDS_MAX  16u
#define RAW_ARGS_MAX 24

typedef struct raw_service {
    pid_t pid; /* as started: the first keeper */
    char address[108];
} raw_service;

typedef struct raw_stat {
    uint64_t incarnation, pid, keeper_pid, fds, used_bytes, committed_bytes, rss_bytes, connections,
        tables, dying;
    int n_sessions; /* in this answer */
    int n_orphaned;
} raw_stat;

/* A client's end of a session. */
typedef struct raw_session {
    int fd; /* socket; -1: none */
    char id[20];
    char token[36];
    char family[20];
    uint32_t index;
    int fds[6]; /* catalog, sync, data, bell, slot, tether */
    void *slot;
    void *tether;
    uint64_t request; /* last used */
} raw_session;

/* Start pintabled at DIR/NAME.sock and wait until it serves. args (may be NULL) follow --budget
 * 64M; env may be NULL. False after failing the test. */
bool raw_start(raw_service *service, const char *dir, const char *name, const char *const *args,
               const char *const *env);
/* Just run it: exit status. */
int raw_run(const char *const *args, const char *const *env);
int raw_terminate(raw_service *service); /* SIGTERM; exit status */

int raw_connect(const char *address); /* -1: refused */
bool raw_send(int fd, const char *text);
bool raw_send_bytes(int fd, const void *bytes, size_t n, const int *fds, unsigned n_fds);
/* The next answer, or NULL: connection ended, or nothing came in 10 s. Descriptors that come are
 * closed unless fds is given. */
cJSON *raw_receive(int fd, int *fds, unsigned *n_fds);
bool raw_is_closed(int fd); /* ends within 10 s; answers before the end are passed over */

/* Send {"jsonrpc":"2.0","id":7,"method":METHOD,"params":PARAMS} and take the answer. */
cJSON *raw_call(int fd, const char *method, const char *params_format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, down to its error code; 0: a result; 1: no answer. */
int raw_code(int fd, const char *method, const char *params_format, ...)
    __attribute__((format(printf, 3, 4)));
int raw_code_of(const cJSON *answer);
uint64_t raw_number(const cJSON *answer, const char *key); /* of the result; UINT64_MAX: none */
const char *raw_text(const cJSON *answer, const char *key);

/* Connect, join, map slot and tether. extra: more members of params ("" for none). */
bool raw_join(raw_session *session, const char *address, const char *mode, const char *extra);
void raw_unmap(raw_session *session);
void raw_close(raw_session *session); /* socket, mappings, descriptors, without leaving */
bool raw_leave(raw_session *session); /* and close */
bool raw_resume(raw_session *session, const char *address);
/* A table of one float64 column, published if publish; generation in *out_generation. */
int raw_make_table(raw_session *session, const char *name, uint64_t rows, bool publish,
                   uint64_t *out_table, uint64_t *out_generation);
/* Note a reference in the slot, as a client that opens the table does. */
void raw_refer(raw_session *session, uint64_t table, uint64_t generation);

bool raw_get_stat(const char *address, raw_stat *out);
/* Sessions, descriptors and bytes are (soon) what they were. */
bool raw_is_back(const char *address, const raw_stat *before);

uint32_t raw_signature(void);

#endif
