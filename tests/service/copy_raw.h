/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SERVICE_COPY_RAW_H
#define TESTS_SERVICE_COPY_RAW_H

/* Device copies asked for by a client that is nothing but a socket; brokers that misbehave. */

#include "host/layout.h"
#include "tests/service/raw.h"

/* A session with what it maps beside its slot. */
typedef struct copy_client {
    raw_session session;
    void *catalog;
    char *sync;
} copy_client;

typedef struct raw_copy {
    int code; /* of the answer; 0: the rest is set */
    uint32_t copy;
    uint32_t generation;
    uint64_t kind;
    bool created;
    int fd; /* -1: none came */
} raw_copy;

#define COPY_HOST "00000000000000000000000000000001"
#define COPY_CUDA "c0da0000000000000000000000000001"

bool copy_join(copy_client *client, const char *address);
/* Socket, mappings and descriptors go, as at death. */
void copy_die(copy_client *client);
bool copy_leave(copy_client *client);

/* The index of a device; -1: refused. */
int copy_device(copy_client *client, const char *uuid, bool is_cuda);

/* A published table of one float64 column: its index, generation 1 of a fresh service or later. */
bool copy_table(copy_client *client, const char *name, uint64_t rows, uint32_t *out_table,
                uint32_t *out_generation);

/* Column 0. Takes no reference. */
raw_copy copy_open(copy_client *client, uint32_t table, uint32_t generation, int device,
                   uint32_t kind, bool create);
/* Only the message; the answer is for copy_receive(). */
bool copy_send_open(copy_client *client, uint32_t table, uint32_t generation, int device,
                    uint32_t kind, bool create);
raw_copy copy_receive(copy_client *client);
int copy_drop(copy_client *client, const raw_copy *copy, bool force);

void copy_refer(copy_client *client, const raw_copy *copy);
void copy_unrefer(copy_client *client, const raw_copy *copy);

/* What shared memory says. */
pinti_copy_rec *copy_record(const copy_client *client, uint32_t copy);
uint32_t copy_state(const copy_client *client, uint32_t copy);
uint32_t copy_named(const copy_client *client, uint32_t table, int device); /* xcopy of column 0 */
pinti_a64 *copy_words(const copy_client *client, uint32_t table);
pinti_copy_sync *copy_sync(const copy_client *client, uint32_t copy);
pinti_copy_chunk *copy_chunks(const copy_client *client, uint32_t copy);

/* A number of a device in stat; UINT64_MAX: none. */
uint64_t copy_stat(const char *address, int device, const char *key);

/* ---- the fake broker --------------------------------------------------------------------------
 */

/* "PINTABLE_BROKER=…" and "FAKE_BROKER=…", for raw_start(); views. */
const char *const *fake_broker_env(void);
/* What it does with requests from now on: see fake_broker.c. */
void fake_broker_mode(const char *mode);
/* Where it stops, once, from now on: see fake_broker.c. */
void fake_broker_stop_at(const char *place);
/* Lines of its log that contain the text. */
int fake_broker_count(const char *text);

#endif
