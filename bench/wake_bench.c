/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Question: how long from a commit in one process to another's waking up from waiting for it?
 * Ours:     half a round trip: claim and commit in a chunk of one column, then pint_column_wait()
 *           until the other process has done the same in the other column.
 * Baseline: half a round trip through two futex words in a shared mapping: store, wake, wait.
 *           Both by the same two processes. wake: on two CPUs; wake_same_cpu: on one, where the
 *           processor need not be woken up and the library's own part shows most.
 */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/support/bench.h"
#include "bench/support/memory.h"
#include "bench/support/process.h"

#define TRIPS   200u
#define WAIT_MS 10000

enum { BY_TABLE = 1, BY_FUTEX = 2 };

struct board {
    _Alignas(64) _Atomic uint32_t ping;
    _Alignas(64) _Atomic uint32_t pong;
};

/* One end: what it writes to and what it waits for. */
struct end {
    pint_column mine;
    pint_column theirs;
    uint64_t seen; /* version of theirs */
    _Atomic uint32_t *my_word;
    _Atomic uint32_t *their_word;
    bench_child other; /* of the end that starts */
};

/* ---- through the table ----------------------------------------------------------------------- */

static void commit(struct end *end)
{
    pint_error err;
    pint_lease lease;
    BENCH_OK(pint_lease_claim(&end->mine, 1, 0, PINT_UPDATE, WAIT_MS, &lease, &err), &err);
    BENCH_OK(pint_lease_commit(&lease, &err), &err);
}

/* The version moves on once at the claim and once at the commit. */
static void wait_for_commit(struct end *end)
{
    pint_error err;
    const uint64_t wanted = end->seen + 2;
    while (end->seen != wanted) {
        BENCH_OK(pint_column_wait(&end->theirs, 0, end->seen, WAIT_MS, &end->seen, &err), &err);
    }
}

/* ---- through futexes ------------------------------------------------------------------------- */

static void bump(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void wait_for_bump(_Atomic uint32_t *word, uint32_t seen)
{
    while (atomic_load(word) == seen) {
        if (syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0) != 0 && errno != EAGAIN &&
            errno != EINTR) {
            bench_die("futex");
        }
    }
}

/* ---- the two ends ---------------------------------------------------------------------------- */

static struct end make_end(pint_table *table, struct board *board, bool is_ping)
{
    struct end end = {.mine = bench_column(table, is_ping ? 0 : 1),
                      .theirs = bench_column(table, is_ping ? 1 : 0),
                      .my_word = is_ping ? &board->ping : &board->pong,
                      .their_word = is_ping ? &board->pong : &board->ping};
    end.seen = pint_column_version(&end.theirs, 0);
    return end;
}

static void answer(struct end *end, uint64_t what)
{
    uint32_t word = atomic_load(end->my_word); /* theirs was as far when the last run was over */
    for (unsigned i = 0; i < TRIPS; i++) {
        if (what == BY_TABLE) {
            wait_for_commit(end);
            commit(end);
        } else {
            wait_for_bump(end->their_word, word++);
            bump(end->my_word);
        }
    }
}

static void pong(void)
{
    struct board *board = bench_map(BENCH_SHARED_FD, sizeof(*board));
    pint_pool *pool = bench_join();
    pint_table *table = bench_open(pool, "wake");
    struct end end = make_end(table, board, false);
    bench_child_say((bench_message){0});
    bench_message message;
    while (bench_child_hear(&message)) {
        bench_child_say((bench_message){.what = 1}); /* about to wait */
        answer(&end, message.what);
        bench_child_say((bench_message){.what = 2});
    }
    pint_table_close(table);
    pint_pool_leave(pool);
}

static const bench_role roles[] = {{"pong", pong}};

static double run_once(struct end *end, uint64_t what)
{
    bench_tell(&end->other, (bench_message){.what = what});
    (void)bench_hear(&end->other);
    bench_pause_us(200); /* it is asleep when the first trip starts */
    uint32_t word = atomic_load(end->their_word);
    const uint64_t version = pint_column_version(&end->mine, 0);
    const uint32_t bumps = atomic_load(end->my_word);
    const uint64_t start = bench_now_ns();
    for (unsigned i = 0; i < TRIPS; i++) {
        if (what == BY_TABLE) {
            commit(end);
            wait_for_commit(end);
        } else {
            bump(end->my_word);
            wait_for_bump(end->their_word, word++);
        }
    }
    const uint64_t ns = bench_now_ns() - start;
    (void)bench_hear(&end->other);
    if (what == BY_TABLE) {
        BENCH_CHECK(pint_column_version(&end->mine, 0) == version + 2ull * TRIPS);
    } else {
        BENCH_CHECK(atomic_load(end->my_word) == bumps + TRIPS &&
                    atomic_load(end->their_word) == word);
    }
    return (double)ns / TRIPS / 2 / 1000;
}

static double ours(void *context)
{
    return run_once(context, BY_TABLE);
}

static double baseline(void *context)
{
    return run_once(context, BY_FUTEX);
}

static void measure(pint_table *table, unsigned place, bench_spec spec)
{
    const int fd = bench_memfd(sizeof(struct board));
    struct board *board = bench_map(fd, sizeof(*board));
    struct end end = make_end(table, board, true);
    bench_spawn("pong", bench_cpu(place), fd, &end.other);
    (void)close(fd);
    bench_measure(&spec, ours, baseline, &end);
    bench_child_end(&end.other);
    bench_unmap(board, sizeof(*board));
}

static void run(void)
{
    pint_error err;
    bench_pin(bench_cpu(0));
    bench_service_start(BENCH_ANY_CPU);
    pint_pool *pool = bench_join();
    pint_table *table = bench_table(pool, "wake", PINT_INT64, 2, 512, 512, 0);
    BENCH_OK(pint_table_publish(table, 0, &err), &err);
    bench_spec spec = {.name = "wake",
                       .unit = "us",
                       .baseline = "bare futex ping-pong",
                       .kind = BENCH_RATIO_MAX,
                       .target = 1.2,
                       .n_rounds = 61,
                       .n_warm = 3};
    measure(table, 1, spec);
    spec.name = "wake_same_cpu";
    measure(table, 0, spec);
    pint_table_close(table);
    pint_pool_leave(pool);
}

int main(int argc, char **argv)
{
    return bench_main(argc, argv, run, roles, sizeof(roles) / sizeof(roles[0]));
}
