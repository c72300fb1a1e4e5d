/* SPDX-License-Identifier: Apache-2.0 */
/* Device copies between processes that are killed: what comes back is right, or torn; never wrong.
 */

#include "tests/device/device_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNKS 8u
#define ROWS   (CHUNKS * WORLD_CHUNK_ROWS)
#define RW     (PINT_READ | PINT_WRITE)

static pid_t start(const char *proc, const char *how)
{
    const char *const arguments[] = {ct_tmpdir(), how, NULL};
    return ct_spawn(proc, arguments);
}

static pid_t start_numbered(const char *proc, int number)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", number);
    return start(proc, text);
}

static uint32_t word_state(const world *w, uint64_t chunk)
{
    return pinti_chunk_state(pinti_load64_seq(&pinti_column_desc_of(&w->x)->words[chunk]));
}

/* Nobody holds, copies or reads the chunk any more. */
static bool is_at_rest(const world *w, uint64_t chunk)
{
    const pinti_copy_desc *copy = &w->copy->import->desc;
    return !pinti_chunk_is_held(word_state(w, chunk)) &&
           pinti_load64_seq(&copy->chunks[chunk].xcopier) == 0 &&
           pinti_load64_seq(&copy->chunks[chunk].xreaders) == 0;
}

static pint_status read_all(world *w)
{
    const pint_status status =
        pint_device_begin(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, 20000, &live_err);
    return status != PINT_OK
               ? status
               : pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, &live_err);
}

/* ---- many at once ---------------------------------------------------------------------------- */

static void add_one(double *values)
{
    for (uint32_t i = 0; i < WORLD_CHUNK_ROWS; i++) {
        values[i] += 1;
    }
}

static void add_one_call(void *context)
{
    add_one(context);
}

/* Adds 1 to chunks on the device. Arguments: address, how often. */
PROC(device_adder)
{
    world w;
    unsigned seed = (unsigned)getpid();
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    for (long n = strtol(argv[2], NULL, 10); n > 0; n--) {
        const uint64_t row = (uint64_t)(rand_r(&seed) % (int)CHUNKS) * WORLD_CHUNK_ROWS;
        const pint_status status =
            pint_device_begin(w.copy, row, WORLD_CHUNK_ROWS, RW, w.stream, 30000, &live_err);
        if (status == PINT_E_TORN) {
            continue; /* another was killed there */
        }
        CT_REQUIRE(status == PINT_OK);
        CT_REQUIRE(pint_stream_call(w.device, w.stream, add_one_call, world_device(&w) + row,
                                    &live_err) == PINT_OK);
        CT_REQUIRE(pint_device_end(w.copy, row, WORLD_CHUNK_ROWS, RW, w.stream, &live_err) ==
                   PINT_OK);
    }
    world_leave(&w);
    return 0;
}

/* The same on the host, under leases. */
PROC(host_adder)
{
    world w;
    unsigned seed = (unsigned)getpid();
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    for (long n = strtol(argv[2], NULL, 10); n > 0; n--) {
        const uint64_t chunk = (uint64_t)(rand_r(&seed) % (int)CHUNKS);
        pint_lease lease;
        pint_status status;
        do {
            status = pint_copy_to_host(w.copy, chunk * WORLD_CHUNK_ROWS, 1, 30000, NULL, &live_err);
            if (status == PINT_OK) {
                status = pint_lease_claim(&w.x, 1, chunk, PINT_UPDATE, 30000, &lease, &live_err);
            }
        } while (status == PINT_E_DEVICE_AHEAD);
        if (status == PINT_E_TORN) {
            continue;
        }
        CT_REQUIRE(status == PINT_OK);
        add_one(world_host(&w) + chunk * WORLD_CHUNK_ROWS);
        CT_REQUIRE(pint_lease_commit(&lease, &live_err) == PINT_OK);
    }
    world_leave(&w);
    return 0;
}

/* How often 1 was added to a chunk, which must be the same for all its rows; -1: it is torn. */
static double additions(world *w, uint64_t chunk)
{
    const uint64_t row = chunk * WORLD_CHUNK_ROWS;
    const pint_status status = pint_copy_to_host(w->copy, row, 1, 30000, NULL, &live_err);
    if (status == PINT_E_TORN) {
        return -1;
    }
    EXPECT_OK(status, &live_err);
    const double n = world_host(w)[row] - (double)row;
    for (uint64_t i = 0; i < WORLD_CHUNK_ROWS; i++) {
        if (world_host(w)[row + i] - (double)(row + i) != n) {
            EXPECT_EQ(world_host(w)[row + i] - (double)(row + i), n);
            break;
        }
    }
    return n;
}

TEST(DeviceProcesses, LoseNoAdditionBetweenHostAndDevice, .timeout_s = 100)
{
    enum { EACH = 150 };
    world w;
    pid_t workers[4];
    double sum = 0;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (int i = 0; i < 4; i++) {
        workers[i] = start_numbered(i % 2 == 0 ? "device_adder" : "host_adder", EACH);
    }
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(ct_wait(workers[i]), 0);
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        sum += additions(&w, chunk);
    }
    EXPECT_EQ(sum, 4.0 * EACH);
    world_tear_down(&w);
}

TEST(DeviceProcesses, KilledAtRandomLeaveWholeChunksOrTornOnes, .timeout_s = 100)
{
    enum { KILLS = 24 };
    world w;
    pid_t workers[4];
    unsigned seed = (unsigned)getpid();
    (void)printf("seed %u\n", seed);
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (int i = 0; i < 4; i++) {
        workers[i] = start_numbered(i % 2 == 0 ? "device_adder" : "host_adder", 1000000);
    }
    for (int n = 0; n < KILLS; n++) {
        const int i = rand_r(&seed) % 4;
        const uint64_t until = ct_now_ms() + 5 + (uint64_t)(rand_r(&seed) % 40);
        while (ct_now_ms() < until) {
            ct_nap();
        }
        (void)kill(workers[i], SIGKILL);
        EXPECT_EQ(ct_wait(workers[i]), 128 + SIGKILL);
        for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) { /* torn ones would end the work */
            if (word_state(&w, chunk) == PINTI_CHUNK_TORN) {
                const uint64_t row = chunk * WORLD_CHUNK_ROWS;
                ASSERT_OK(pint_device_begin(w.copy, row, 1, PINT_WRITE, w.stream, 20000, &live_err),
                          &live_err);
                for (uint64_t k = 0; k < WORLD_CHUNK_ROWS; k++) {
                    world_device(&w)[row + k] = (double)(row + k);
                }
                ASSERT_OK(pint_device_end(w.copy, row, 1, PINT_WRITE, w.stream, &live_err),
                          &live_err);
            }
        }
        workers[i] = start_numbered(i % 2 == 0 ? "device_adder" : "host_adder", 1000000);
    }
    for (int i = 0; i < 4; i++) {
        (void)kill(workers[i], SIGKILL);
        (void)ct_wait(workers[i]);
    }
    for (uint64_t chunk = 0; chunk < CHUNKS; chunk++) {
        EXPECT_TRUE(ct_eventually(is_at_rest(&w, chunk), 20000));
        EXPECT_GE(additions(&w, chunk), -1.0); /* and its rows are alike */
    }
    world_tear_down(&w);
}

/* ---- one death at a time --------------------------------------------------------------------- */

/* Makes the copy, adds 1 to all of x on the device, and dies when that is committed. */
PROC(creator)
{
    world w;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    CT_REQUIRE(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, 0, &live_err) == PINT_OK);
    world_device_add(&w, 0, ROWS, 1);
    CT_REQUIRE(pint_device_end(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err) == PINT_OK);
    CT_REQUIRE(world_places(&w, CHUNKS - 1, 2));
    (void)kill(getpid(), SIGKILL);
    return 0;
}

TEST(DeviceProcesses, TheCreatorsDeathLeavesItsCopyToOthers, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    pint_copy_close(w.copy); /* only the creator has it */
    w.copy = NULL;
    EXPECT_EQ(ct_wait(start("creator", "-")), 128 + SIGKILL);
    EXPECT_TRUE(ct_eventually(live_stat_sessions() == 1, 10000));
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &w.copy, &live_err), &live_err);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2); /* newest there alone, and not lost */
    ASSERT_OK(read_all(&w), &live_err);
    EXPECT_EQ(world_device_sum(&w, 0, 3), 6.0);
    EXPECT_EQ(additions(&w, 0), 1.0);
    world_tear_down(&w);
}

static void die(void *context)
{
    double *values = context;
    values[0] = -1; /* half a chunk is written */
    (void)kill(getpid(), SIGKILL);
}

/* Dies on chunk 0. Arguments: address, and where. */
PROC(dying)
{
    world w;
    gate g;
    void *copies = NULL;
    CT_REQUIRE(argc == 3 && world_join(&w, argv[1], PINT_WRITE));
    const char *where = argv[2];
    if (strcmp(where, "kernel") == 0) { /* in the kernel of a write bracket */
        CT_REQUIRE(pint_device_begin(w.copy, 0, 1, RW, w.stream, 9000, &live_err) == PINT_OK);
        CT_REQUIRE(pint_stream_call(w.device, w.stream, die, world_device(&w), &live_err) ==
                   PINT_OK);
        CT_REQUIRE(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err) == PINT_OK);
    } else if (strcmp(where, "open") == 0) { /* before the end of it */
        CT_REQUIRE(pint_device_begin(w.copy, 0, 1, RW, w.stream, 9000, &live_err) == PINT_OK);
        world_device(&w)[0] = -1;
        (void)kill(getpid(), SIGKILL);
    } else if (strcmp(where, "ended") == 0) { /* after it, the stream not having got there */
        CT_REQUIRE(pint_device_begin(w.copy, 0, 1, RW, w.stream, 9000, &live_err) == PINT_OK);
        world_device(&w)[0] = -1;
        gate_put(&g, &w, w.stream);
        CT_REQUIRE(pint_device_end(w.copy, 0, 1, RW, w.stream, &live_err) == PINT_OK);
        (void)kill(getpid(), SIGKILL);
    } else if (strcmp(where, "pull") == 0) { /* chunk on its way to the device */
        CT_REQUIRE(pinti_device_copy_stream(w.device, true, &copies, &live_err) == PINT_OK);
        gate_put(&g, &w, copies);
        CT_REQUIRE(pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 9000, &live_err) ==
                   PINT_OK);
        (void)kill(getpid(), SIGKILL);
    } else if (strcmp(where, "push") == 0) { /* chunk on its way to the host */
        CT_REQUIRE(pinti_device_copy_stream(w.device, false, &copies, &live_err) == PINT_OK);
        CT_REQUIRE(pint_stream_call(w.device, copies, die, world_host(&w), &live_err) == PINT_OK);
        CT_REQUIRE(pint_copy_to_host(w.copy, 0, 1, 9000, NULL, &live_err) == PINT_E_DEVICE);
    } else if (strcmp(where, "reading") == 0) {
        CT_REQUIRE(pint_device_begin(w.copy, 0, 1, PINT_READ, w.stream, 9000, &live_err) ==
                   PINT_OK);
        (void)kill(getpid(), SIGKILL);
    }
    CT_REQUIRE(ct_eventually(false, 20000)); /* somebody kills us */
    return 0;
}

static void die_somewhere(world *w, const char *where)
{
    EXPECT_EQ(ct_wait(start("dying", where)), 128 + SIGKILL);
    ASSERT_TRUE(ct_eventually(is_at_rest(w, 0), 10000));
}

TEST(DeviceProcesses, AWriterKilledAnywhereRollsBackToTheHost, .timeout_s = 100)
{
    static const char *const places[] = {"kernel", "open", "ended", "pull", "reading"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        world w;
        ASSERT_NO_FATAL(world_set_up(&w, ROWS));
        ASSERT_NO_FATAL(die_somewhere(&w, places[i]));
        EXPECT_EQ(pint_copy_places(w.copy, 0) & 1u, 1); /* the host had it and has it */
        EXPECT_EQ(world_host(&w)[0], 0.0);
        ASSERT_OK(read_all(&w), &live_err);
        EXPECT_EQ(world_device_sum(&w, 0, 4), 6.0);
        EXPECT_TRUE(ct_eventually(is_at_rest(&w, 0), 10000));
        ASSERT_NO_FATAL(world_host_write(&w, 0, 2)); /* nobody's rights are left */
        ASSERT_OK(read_all(&w), &live_err);
        EXPECT_EQ(world_device_sum(&w, 0, 4), 8.0);
        world_tear_down(&w);
        if (ct_has_fatal_failure()) {
            FAIL("at %s", places[i]);
        }
    }
}

/* Newest on the device alone: what was being written is lost, and said to be. */
TEST(DeviceProcesses, AWriterKilledWhereTheHostIsStaleTears, .timeout_s = 100)
{
    static const char *const places[] = {"kernel", "open", "ended"};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        world w;
        ASSERT_NO_FATAL(world_set_up(&w, ROWS));
        EXPECT_EQ(ct_wait(start("creator", "-")), 128 + SIGKILL);
        ASSERT_NO_FATAL(die_somewhere(&w, places[i]));
        EXPECT_EQ(pint_copy_places(w.copy, 0), 0);
        EXPECT_STATUS(PINT_E_TORN, read_all(&w), &live_err);
        EXPECT_EQ(additions(&w, 0), -1.0);
        EXPECT_EQ(additions(&w, 1), 1.0); /* the others are whole */
        world_tear_down(&w);
        if (ct_has_fatal_failure()) {
            FAIL("at %s", places[i]);
        }
    }
}

TEST(DeviceProcesses, APusherKilledLeavesTheChunkOnTheDevice, .timeout_s = 60)
{
    world w;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    EXPECT_EQ(ct_wait(start("creator", "-")), 128 + SIGKILL);
    ASSERT_NO_FATAL(die_somewhere(&w, "push"));
    EXPECT_EQ(world_host(&w)[0], -1.0); /* half brought, and not taken for newest */
    EXPECT_EQ(pint_copy_places(w.copy, 0), 2);
    EXPECT_EQ(additions(&w, 0), 1.0);
    EXPECT_EQ(pint_copy_places(w.copy, 0), 3);
    world_tear_down(&w);
}

/* ---- the service ----------------------------------------------------------------------------- */

TEST(DeviceProcesses, TheServiceMayDieAndComeBack, .timeout_s = 60)
{
    world w;
    pint_copy *again = NULL;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, 0, &live_err), &live_err);
    ASSERT_EQ(kill(live_service_pid(), SIGKILL), 0);
    world_device_add(&w, 0, ROWS, 1);
    ASSERT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, RW, w.stream, &live_err), &live_err);
    EXPECT_EQ(additions(&w, 3), 1.0); /* one-sided: no service needed */
    EXPECT_TRUE(ct_eventually(live_service_pid() > 1, 10000));
    const uint64_t generation = pint_copy_generation(w.copy);
    pint_copy_close(w.copy);
    ASSERT_OK(pint_copy_open(w.device, &w.x, 0, PINT_WRITE, &again, &live_err), &live_err);
    EXPECT_EQ(pint_copy_generation(again), generation); /* the keeper had its memory */
    EXPECT_EQ(pint_copy_places(again, 0), 2);
    w.copy = again;
    EXPECT_EQ(additions(&w, 0), 1.0);
    world_tear_down(&w);
}

/* ---- fork ------------------------------------------------------------------------------------ */

static int use_in_child(world *w)
{
    pint_error err = {0};
    pint_device *again = NULL;
    pint_copy *copy = NULL;
    void *stream = NULL;
    if (pint_device_begin(w->copy, 0, 1, PINT_READ, w->stream, 0, &err) != PINT_E_FORKED ||
        pint_device_end(w->copy, 0, PINT_ALL_ROWS, PINT_READ, w->stream, &err) != PINT_E_FORKED ||
        pint_copy_to_host(w->copy, 0, 1, 0, NULL, &err) != PINT_E_FORKED ||
        pint_device_pin(w->device, w->table, NULL, NULL, &err) != PINT_E_FORKED ||
        pint_stream_wait(w->device, w->stream, &err) != PINT_E_FORKED ||
        pint_copy_drop(w->copy, &err) != PINT_E_FORKED) {
        return 1;
    }
    pint_copy_close(w->copy); /* gives nothing of the parent's back */
    pint_device_close(w->device);
    /* a device of its own, for a session of its own */
    if (pint_device_open(w->pool, "host", &again, &err) != PINT_OK ||
        pint_copy_open(again, &w->x, 0, PINT_WRITE, &copy, &err) != PINT_OK ||
        pint_stream_create(again, &stream, &err) != PINT_OK ||
        pint_device_begin(copy, 0, PINT_ALL_ROWS, PINT_READ, stream, 10000, &err) != PINT_OK ||
        pint_device_end(copy, 0, PINT_ALL_ROWS, PINT_READ, stream, &err) != PINT_OK ||
        pint_stream_wait(again, stream, &err) != PINT_OK) {
        return 2;
    }
    pint_stream_destroy(again, stream);
    pint_copy_close(copy);
    pint_device_close(again);
    return 0;
}

TEST(DeviceProcesses, AfterForkTheParentsHandlesSaySo)
{
    world w;
    int status = -1;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer's malloc() may be locked for ever in a child of fork()");
#endif
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_OK(pint_device_begin(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, 0, &live_err),
              &live_err);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(30);
        _exit(use_in_child(&w));
    }
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(world_device_sum(&w, 0, 3), 3.0);
    EXPECT_OK(pint_device_end(w.copy, 0, PINT_ALL_ROWS, PINT_READ, w.stream, &live_err), &live_err);
    world_tear_down(&w);
}

/* ---- many sessions --------------------------------------------------------------------------- */

/* Here and not with the others: ThreadSanitizer has no address space for so many pools. */
TEST(DeviceProcesses, AtMostSixtyFourSessionsHaveACopyOpen, .timeout_s = 100)
{
    enum { SESSIONS = PINTI_COPY_READERS };
    world w;
    world others[SESSIONS];
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    for (int i = 0; i < SESSIONS - 1; i++) {
        ASSERT_TRUE(world_join(&others[i], ct_tmpdir(), PINT_READ));
        EXPECT_NE(pint_copy_values(others[i].copy), pint_copy_values(w.copy));
    }
    EXPECT_FALSE(world_join(&others[SESSIONS - 1], ct_tmpdir(), PINT_READ));
    EXPECT_EQ(live_err.status, PINT_E_LIMIT);
    world_leave(&others[SESSIONS - 1]); /* what there is of it */
    world_leave(&others[0]);
    ASSERT_TRUE(world_join(&others[0], ct_tmpdir(), PINT_READ));
    EXPECT_EQ(world_device_sum(&others[0], 0, 3), 0.0); /* nothing was brought yet */
    ASSERT_OK(pint_device_begin(others[0].copy, 0, 1, PINT_READ, others[0].stream, 1000, &live_err),
              &live_err);
    EXPECT_EQ(world_device_sum(&others[0], 0, 3), 3.0);
    ASSERT_OK(pint_device_end(others[0].copy, 0, 1, PINT_READ, others[0].stream, &live_err),
              &live_err);
    for (int i = 0; i < SESSIONS - 1; i++) {
        world_leave(&others[i]);
    }
    world_tear_down(&w);
}

/* ---- the example ----------------------------------------------------------------------------- */

static int run_example(const char *column, const char *device, char *output, size_t room)
{
    const char *const argv[] = {PINT_DEVICE_WORKER, "t", column, device, NULL};
    int fds[2];
    if (pipe(fds) != 0) {
        return -1;
    }
    const pid_t pid = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = fds[1]});
    (void)close(fds[1]);
    const size_t n = ct_read_all(fds[0], output, room - 1);
    output[n < room ? n : room - 1] = '\0';
    (void)close(fds[0]);
    return ct_wait(pid);
}

TEST(DeviceProcesses, TheExampleStandardisesAColumn, .timeout_s = 60)
{
    world w;
    char output[1024];
    double sum = 0;
    double squares = 0;
    ASSERT_NO_FATAL(world_set_up(&w, ROWS));
    ASSERT_EQ(setenv("PINTABLE_ADDRESS", ct_tmpdir(), 1), 0);
    EXPECT_EQ(run_example("x", "host", output, sizeof(output)), 0);
    EXPECT_TRUE(strstr(output, "host: 65536 bytes to the device, 65536 back") != NULL);
    for (uint64_t i = 0; i < ROWS; i++) {
        sum += world_host(&w)[i];
        squares += world_host(&w)[i] * world_host(&w)[i];
    }
    EXPECT_NEAR(sum / ROWS, 0, 1e-9);
    EXPECT_NEAR(squares / ROWS, 1, 1e-9);
    EXPECT_EQ(run_example("x", "cuda:nonsense", output, sizeof(output)), 1);
    EXPECT_EQ(run_example("id", "host", output, sizeof(output)), 1); /* not float64 */
    ASSERT_EQ(unsetenv("PINTABLE_ADDRESS"), 0);
    world_tear_down(&w);
}
