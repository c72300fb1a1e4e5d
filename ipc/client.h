/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLIENT_H
#define IPC_CLIENT_H

/*
 * A client of the service: one connection, requests and replies one thread at a time, and the
 * way back after the service died (docs/protocol.md).
 *
 * Every wait asks whether to go on (host/interrupt.h). A request that is interrupted, or fails in
 * another way before its answer, costs the connection: the answer is never read, and once the
 * session was resumed on the next one, the request has taken effect or never will, for a service
 * that takes a session over forgets what it was asked before and has not done.
 *
 * Threads:   any, except open, leave and abandon.
 * Processes: only the one that opened it. A forked child makes a client of its own and leaves the
 *            inherited socket open and alone (R9): it calls pinti_client_abandon() at most.
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/pool.h"
#include "ipc/wire.h"

typedef struct pinti_client pinti_client;

/* The connection ended before the answer of join came; the caller may start again. Never
 * forwarded. */
#define PINTI_CLIENT_LOST ((pint_status)100)

#define PINTI_REQUEST_MS 10000
#define PINTI_CREATE_MS  120000 /* and more for large tables */
#define PINTI_AWAY_MS    1000   /* a service that stays away longer is gone */

/* Connect, and send nothing yet: hello, or join, must follow at once. Errors of pinti_connect(). */
pint_status pinti_client_open(const char *socket_path, int64_t deadline_ms,
                              pinti_client **out_client, pint_error *err);

/* Say hello: for programs that ask without joining (stat, stop, ...). */
typedef struct pinti_hello {
    char service[64]; /* version text */
    uint64_t incarnation;
    uint64_t pool_id[2];
    bool is_private;
} pinti_hello;
pint_status pinti_client_hello(pinti_client *client, int64_t deadline_ms, pinti_hello *out,
                               pint_error *err);

/* What join gives. The descriptors are the caller's. */
typedef struct pinti_joined {
    uint64_t session;
    uint64_t family;
    uint32_t index;
    int fds[PINTI_POOL_FDS];
} pinti_joined;

/* family 0: none yet. PINTI_CLIENT_LOST when the connection ended before an answer. */
pint_status pinti_client_join(pinti_client *client, bool writable, uint64_t family,
                              int64_t deadline_ms, pinti_joined *out, pint_error *err);

/*
 * A request of one or more messages.
 *
 * When the connection is lost before the answer, the client reconnects, resumes its session and
 * sends everything again, three times at most. That is sound for reads, and for creates, which the
 * service knows by their request number. For other changes took_effect is asked before anything is
 * sent again: the catalog outlives the service and a new incarnation finishes half-made changes
 * before it answers resume, so the catalog says for sure whether the lost request was done.
 */
typedef struct pinti_exchange {
    const char *method;
    const char *more_method; /* of the second message and later ones */
    /* Make the parameters of message `part`: cJSON text, which the client frees. Sets *out_more
     * when another message follows. NULL: no parameters. */
    pint_status (*make)(void *context, uint64_t request, unsigned part, char **out_params,
                        bool *out_more, pint_error *err);
    /* NULL: sending it twice does no harm. */
    bool (*took_effect)(void *context);
    void *context;
    int timeout_ms;
    bool numbered;    /* takes a request number */
    bool makes_table; /* numbered; what it made is dropped if its answer was not read */
    /* NULL: none. Else a descriptor may come with the answer to the last message: the caller's; -1:
     * none did. Set only where the call succeeds. */
    int *out_fd;
} pinti_exchange;

/* *out_result: the answer to the last message, the caller's to delete; NULL when the request was
 * found to have taken effect. out_result itself may be NULL. */
pint_status pinti_client_call(pinti_client *client, const pinti_exchange *call, cJSON **out_result,
                              pint_error *err);

/* Look for the table that a request of this session made and nobody published. */
typedef bool (*pinti_find_made)(void *context, uint64_t session, uint64_t request,
                                uint32_t *out_table, uint32_t *out_generation);

/* Who knows the catalog; before the first request that makes a table. */
void pinti_client_set_finder(pinti_client *client, pinti_find_made find, void *context);

/* One message; params is borrowed and may be NULL. For requests that may be repeated. */
pint_status pinti_client_request(pinti_client *client, const char *method, const cJSON *params,
                                 int timeout_ms, cJSON **out_result, pint_error *err);

/* Is somebody there? Looks at the connection without a round trip; reconnects and resumes when it
 * ended. Within PINTI_AWAY_MS; PINT_OK at once while another thread talks to the service. */
pint_status pinti_client_alive(pinti_client *client, pint_error *err);

/* Send a message (params: JSON text, NULL for none) and do not wait for the answer. Never blocks.
 * False: not sent. */
bool pinti_client_post(pinti_client *client, const char *method, const char *params);

/* Leave (best effort, within a second), close, free. NULL is allowed. */
void pinti_client_leave(pinti_client *client);

/* Close without a word: the service sees the end of the connection. NULL is allowed. */
void pinti_client_close(pinti_client *client);

/* In a forked child: free what belongs to the parent's connection, leaving its socket open. */
void pinti_client_abandon(pinti_client *client);

#endif
