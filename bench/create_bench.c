/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: what does the service take to make a small table and to drop it again?
 * Ours:     create_drop: pint_table_create() of 3 columns, 1,000 rows, zeroed, from a warm slab,
 *           and pint_table_close() before publishing, which drops it.
 *           create_publish_drop: the same with pint_table_publish() and pint_table_drop() by name.
 * Baseline: two bare round trips of 200 bytes on a SOCK_SEQPACKET socket with a process that only
 *           sends them back; client and other end on the same two CPUs as client and service.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support/bench.h"
#include "bench/support/process.h"

#define BATCH         50u
#define N_ROWS        1000u
#define MESSAGE_BYTES 200u
#define ROUND_TRIPS   2u

struct create {
    pint_pool *pool;
    pint_schema schema;
    int socket;
};

static double create_drop(void *context)
{
    const struct create *create = context;
    pint_error err;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        pint_table *table;
        BENCH_OK(pint_table_create(create->pool, "small", &create->schema, N_ROWS, &table, &err),
                 &err);
        BENCH_CHECK(pint_table_rows(table) == N_ROWS && pint_table_columns(table) == 3);
        pint_table_close(table);
    }
    return (double)(bench_now_ns() - start) / BATCH / 1000;
}

static double create_publish_drop(void *context)
{
    const struct create *create = context;
    pint_error err;
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        pint_table *table;
        BENCH_OK(pint_table_create(create->pool, "small", &create->schema, N_ROWS, &table, &err),
                 &err);
        BENCH_CHECK(pint_table_rows(table) == N_ROWS && pint_table_columns(table) == 3);
        BENCH_OK(pint_table_publish(table, 0, &err), &err);
        pint_table_close(table);
        BENCH_OK(pint_table_drop(create->pool, "small", &err), &err);
    }
    return (double)(bench_now_ns() - start) / BATCH / 1000;
}

static double baseline(void *context)
{
    const struct create *create = context;
    char out[MESSAGE_BYTES];
    char in[MESSAGE_BYTES];
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < BATCH * ROUND_TRIPS; i++) {
        memset(out, (int)(i & 0x7f), sizeof(out));
        BENCH_CHECK(send(create->socket, out, sizeof(out), 0) == (ssize_t)sizeof(out));
        BENCH_CHECK(recv(create->socket, in, sizeof(in), 0) == (ssize_t)sizeof(in));
        BENCH_CHECK(in[MESSAGE_BYTES - 1] == out[0]);
    }
    return (double)(bench_now_ns() - start) / BATCH / 1000;
}

static void echo(void)
{
    char bytes[MESSAGE_BYTES];
    bench_child_say((bench_message){0});
    for (;;) {
        const ssize_t n = recv(BENCH_SHARED_FD, bytes, sizeof(bytes), 0);
        if (n <= 0 || send(BENCH_SHARED_FD, bytes, (size_t)n, MSG_NOSIGNAL) != n) {
            return;
        }
    }
}

static const bench_role roles[] = {{"echo", echo}};

static void run(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        bench_die("socketpair: %s", strerror(errno));
    }
    bench_pin(bench_cpu(0));
    bench_service_start(bench_cpu(1));
    bench_child child;
    bench_spawn("echo", bench_cpu(1), ends[1], &child);
    (void)close(ends[1]);

    const pint_type types[] = {PINT_INT64, PINT_FLOAT64, PINT_INT32};
    const char *const names[] = {"id", "value", "count"};
    pint_field fields[3];
    for (unsigned i = 0; i < 3; i++) {
        fields[i] = (pint_field)PINT_FIELD_INIT;
        fields[i].name = names[i];
        fields[i].type = types[i];
    }
    struct create create = {.pool = bench_join(), .schema = PINT_SCHEMA_INIT, .socket = ends[0]};
    create.schema.fields = fields;
    create.schema.n_fields = 3;

    bench_spec spec = {.name = "create_drop",
                       .unit = "us",
                       .baseline = "two bare socket round trips",
                       .kind = BENCH_EXCESS_MAX,
                       .target = 60,
                       .n_rounds = 61,
                       .n_warm = 3};
    bench_measure(&spec, create_drop, baseline, &create);
    spec.name = "create_publish_drop";
    spec.kind = BENCH_NO_TARGET;
    bench_measure(&spec, create_publish_drop, baseline, &create);
    (void)close(ends[0]);
    bench_child_end(&child);
    pint_pool_leave(create.pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
