/* SPDX-License-Identifier: Apache-2.0 */
/* Device copies and the deaths of sessions, the service, the keeper. */

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/coherence.h"
#include "host/crash.h"
#include "host/wait.h"
#include "host/word.h"
#include "host/writable_view.h"
#include "pintable/device.h"
#include "tests/service/copy_raw.h"
#include "tests/support/ct.h"

enum { ROWS = 100000 };

static raw_service service;
static copy_client a;
static copy_client b;
static uint32_t table;
static uint32_t generation;
static int device;

static void start_with(const char *const *env, bool cuda)
{
    const char *args[] = {"--restarts-max", "60", NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "d", args, env));
    ASSERT_TRUE(copy_join(&a, service.address));
    ASSERT_TRUE(copy_join(&b, service.address));
    device = copy_device(&a, cuda ? COPY_CUDA : COPY_HOST, cuda);
    ASSERT_EQ(device, 0);
    ASSERT_TRUE(copy_table(&b, "t", ROWS, &table, &generation));
}

static void finish(void)
{
    EXPECT_TRUE(copy_leave(&b));
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "stop", "{\"force\":true}"), 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(ct_eventually(access(service.address, F_OK) != 0, 10000));
    (void)ct_wait(service.pid);
}

/* As pinti_device_take() leaves a chunk of this session. */
static void hold_for_device(copy_client *client, uint32_t copy, uint32_t chunk, bool host_has)
{
    const uint32_t index = client->session.index;
    pinti_a64 *words = copy_words(client, table);
    const uint64_t held = pinti_chunk_next(0, PINTI_CHUNK_DEVICE_HELD, index,
                                           host_has ? 0 : (uint64_t)PINTI_HOST_STALE);
    pinti_store64_seq(&words[chunk], held);
    pinti_store64_seq(&copy_chunks(client, copy)[chunk].xcopier,
                      pinti_copier(index, PINTI_COPIER_WRITE, held));
}

/* A session that reads chunk 0, is about to take chunk 1, writes chunks 2 and 3 on the device. */
static void busy(copy_client *client, const raw_copy *copy)
{
    copy_refer(client, copy);
    pinti_store32_seq(&copy_sync(client, copy->copy)->xslots[5], client->session.index);
    pinti_copy_chunk *chunks = copy_chunks(client, copy->copy);
    /* slot 9 is another's, 8 nobody's */
    copy_refer(&b, copy);
    pinti_store32_seq(&copy_sync(client, copy->copy)->xslots[9], b.session.index);
    pinti_store64_seq(&chunks[0].xreaders, 1ull << 5 | 1ull << 8 | 1ull << 9);
    pinti_store64_seq(&chunks[4].xcopier, pinti_copier(999, PINTI_COPIER_WRITE, 1ull << 40));
    pinti_store64_seq(&chunks[5].xcopier, pinti_copier(b.session.index, PINTI_COPIER_CLAIM, 0));
    pinti_store64_seq(&chunks[1].xcopier,
                      pinti_copier(client->session.index, PINTI_COPIER_CLAIM, 0));
    hold_for_device(client, copy->copy, 2, true);
    hold_for_device(client, copy->copy, 3, false);
}

static bool is_swept(const copy_client *client, const raw_copy *copy)
{
    const pinti_a64 *words = copy_words(client, table);
    const pinti_copy_chunk *chunks = copy_chunks(client, copy->copy);
    return pinti_load64_seq(&chunks[0].xreaders) == 1ull << 9 &&
           pinti_load64_seq(&chunks[4].xcopier) == 0 &&
           pinti_load64_seq(&chunks[5].xcopier) ==
               pinti_copier(b.session.index, PINTI_COPIER_CLAIM, 0) &&
           pinti_load64_seq(&chunks[1].xcopier) == 0 && pinti_load64_seq(&chunks[2].xcopier) == 0 &&
           pinti_chunk_state(pinti_load64_seq(&words[2])) == PINTI_CHUNK_CLEAN &&
           pinti_chunk_state(pinti_load64_seq(&words[3])) == PINTI_CHUNK_TORN &&
           pinti_load32_seq(&copy_sync(client, copy->copy)->xslots[5]) == 0;
}

TEST(CopyDeath, OfTheCreatorLeavesTheCopyAndClearsWhatItHeld)
{
    ASSERT_NO_FATAL(start_with(NULL, false));
    const raw_copy copy = copy_open(&a, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    busy(&a, &copy);
    EXPECT_EQ(pwrite(copy.fd, "seven", 5, 100), 5);
    struct stat made;
    ASSERT_EQ(fstat(copy.fd, &made), 0);
    EXPECT_EQ(close(copy.fd), 0);
    EXPECT_FALSE(is_swept(&b, &copy));
    copy_die(&a);
    EXPECT_TRUE(ct_eventually(is_swept(&b, &copy), 10000));
    /* a third imports what the dead one made */
    ASSERT_TRUE(copy_join(&a, service.address));
    const raw_copy again = copy_open(&a, table, generation, device, 0, false);
    ASSERT_EQ(again.code, 0);
    EXPECT_EQ(again.copy, copy.copy);
    struct stat found;
    ASSERT_EQ(fstat(again.fd, &found), 0);
    EXPECT_EQ(found.st_ino, made.st_ino);
    char text[6] = "";
    EXPECT_EQ(pread(again.fd, text, 5, 100), 5);
    EXPECT_STREQ(text, "seven");
    EXPECT_EQ(close(again.fd), 0);
    EXPECT_TRUE(copy_leave(&a));
    ASSERT_NO_FATAL(finish());
}

TEST(CopyDeath, ReferencesAndHoldsStayWhileAChildMapsTheTether)
{
    ASSERT_NO_FATAL(start_with(NULL, false));
    const raw_copy copy = copy_open(&a, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    busy(&a, &copy);
    copy_unrefer(&b, &copy);
    /* the socket ends, the mapping stays, as in a child that was forked */
    EXPECT_EQ(close(a.session.fd), 0);
    a.session.fd = -1;
    EXPECT_EQ(copy_drop(&b, &copy, true), 0);
    EXPECT_EQ(raw_code(b.session.fd, "table.closed", "{}"), 0);
    EXPECT_EQ(copy_state(&b, copy.copy), PINTI_DYING);
    copy_die(&a);
    EXPECT_TRUE(ct_eventually(copy_state(&b, copy.copy) == PINTI_FREE, 10000));
    ASSERT_NO_FATAL(finish());
}

TEST(CopyDeath, OnAGpuWorkMayGoOnForASecond)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env(), true));
    const raw_copy copy = copy_open(&a, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    busy(&a, &copy);
    const uint64_t died_ms = ct_now_ms();
    copy_die(&a);
    /* the process lives, so only its socket and its tether tell */
    while (!is_swept(&b, &copy) && ct_now_ms() < died_ms + 10000) {
        ct_nap();
    }
    EXPECT_TRUE(is_swept(&b, &copy));
    EXPECT_GE(ct_now_ms() - died_ms, 1000u);
    ASSERT_NO_FATAL(finish());
}

/* The socket ended long before: the second is one from the end of the last mapping. */
TEST(CopyDeath, OnAGpuTheSecondIsOneFromTheLastMapping)
{
    ASSERT_NO_FATAL(start_with(fake_broker_env(), true));
    const raw_copy copy = copy_open(&a, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    busy(&a, &copy);
    const uint64_t away_ms = ct_now_ms();
    EXPECT_EQ(close(a.session.fd), 0);
    a.session.fd = -1;
    EXPECT_TRUE(ct_eventually(ct_now_ms() >= away_ms + 1100, 10000));
    EXPECT_FALSE(is_swept(&b, &copy));
    const uint64_t died_ms = ct_now_ms();
    copy_die(&a);
    EXPECT_TRUE(ct_eventually(is_swept(&b, &copy), 10000));
    EXPECT_GE(ct_now_ms() - died_ms, 1000u);
    ASSERT_NO_FATAL(finish());
}

/* What was held with bytes that a device still has is said to be left to it. */
TEST(CopyDeath, WhatIsLeftToADeviceIsLogged)
{
    char log[4096];
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/log.txt", ct_tmpdir());
    const char *args[] = {"--log", path, NULL};
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "d", args, NULL));
    ASSERT_TRUE(copy_join(&a, service.address));
    ASSERT_TRUE(copy_join(&b, service.address));
    ASSERT_TRUE(copy_table(&b, "t", ROWS, &table, &generation));
    /* leases without undo on two chunks, of one of which a device has the committed bytes */
    pinti_a64 *words = copy_words(&b, table);
    pinti_store64_seq(&words[0],
                      pinti_chunk_next(0, PINTI_CHUNK_HELD, a.session.index, PINTI_HOST_STALE));
    pinti_store64_seq(
        &words[1], pinti_chunk_next(0, PINTI_CHUNK_HELD, a.session.index, PINTI_HOST_STALE | 2u));
    pinti_a64 *intents = pinti_slot_intents(a.session.slot);
    pinti_store64_seq(&intents[0], pinti_intent(PINTI_INTENT_LEASE, table, 0, 0));
    pinti_store64_seq(&intents[1], pinti_intent(PINTI_INTENT_LEASE, table, 0, 1));
    copy_die(&a);
    EXPECT_TRUE(
        ct_eventually(pinti_chunk_state(pinti_load64_seq(&words[0])) == PINTI_CHUNK_TORN &&
                          pinti_chunk_state(pinti_load64_seq(&words[1])) == PINTI_CHUNK_CLEAN,
                      10000));
    ASSERT_NO_FATAL(finish());
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    (void)ct_read_all(fd, log, sizeof(log));
    EXPECT_NE(strstr(log, "1 torn, 1 left to devices"), NULL);
    EXPECT_EQ(close(fd), 0);
}

TEST(CopyDeath, OfTheServiceTakesNothing)
{
    ASSERT_NO_FATAL(start_with(NULL, false));
    const raw_copy copy = copy_open(&a, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    copy_refer(&a, &copy);
    struct stat made;
    ASSERT_EQ(fstat(copy.fd, &made), 0);
    EXPECT_EQ(close(copy.fd), 0);
    for (uint32_t n = 0; n < 3; n++) {
        raw_stat now;
        ASSERT_TRUE(raw_get_stat(service.address, &now));
        const uint64_t used = now.used_bytes;
        EXPECT_EQ(kill((pid_t)(n == 1 ? now.keeper_pid : now.pid), SIGKILL), 0);
        if (n == 1) { /* the keeper: its successor has the descriptor too, see the next round */
            const uint64_t old = now.keeper_pid;
            EXPECT_TRUE(
                ct_eventually(raw_get_stat(service.address, &now) && now.keeper_pid != old, 10000));
        } else {
            EXPECT_TRUE(raw_is_closed(a.session.fd));
            EXPECT_TRUE(raw_resume(&a.session, service.address));
            EXPECT_TRUE(raw_resume(&b.session, service.address));
        }
        const raw_copy again = copy_open(&b, table, generation, device, 0, false);
        ASSERT_EQ(again.code, 0);
        EXPECT_EQ(again.copy, copy.copy);
        EXPECT_EQ(again.generation, copy.generation);
        struct stat found;
        ASSERT_EQ(fstat(again.fd, &found), 0);
        EXPECT_EQ(found.st_ino, made.st_ino);
        EXPECT_EQ(close(again.fd), 0);
        ASSERT_TRUE(raw_get_stat(service.address, &now));
        EXPECT_EQ(now.used_bytes, used);
        EXPECT_EQ(copy_stat(service.address, device, "copies"), 1u);
    }
    EXPECT_EQ(copy_drop(&b, &copy, false), 0);
    copy_unrefer(&a, &copy);
    EXPECT_EQ(raw_code(b.session.fd, "table.closed", "{}"), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&b, copy.copy) == PINTI_FREE, 10000));
    EXPECT_EQ(copy_stat(service.address, device, "bytes"), 0u);
    EXPECT_TRUE(copy_leave(&a));
    ASSERT_NO_FATAL(finish());
}

#if PINT_CRASHPOINTS
/* The service dies at a place inside copy.open or copy.drop; the request comes again. */
static void crash_at(enum pinti_crash_point point)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "PINTABLE_CRASH=%s:1", pinti_crash_name(point));
    const char *env[] = {text, NULL};
    raw_stat empty;
    ASSERT_NO_FATAL(start_with(env, false));
    ASSERT_TRUE(raw_get_stat(service.address, &empty));
    raw_copy copy = copy_open(&b, table, generation, device, 0, true);
    if (copy.code == 1) { /* the connection ended */
        EXPECT_TRUE(raw_resume(&b.session, service.address));
        /* what was being made is given up before it can be made again */
        EXPECT_TRUE(ct_eventually(
            (copy = copy_open(&b, table, generation, device, 0, true)).code != PINT_E_BUSY, 10000));
    }
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(copy_named(&b, table, device), copy.copy + 1);
    struct stat st;
    EXPECT_EQ(fstat(copy.fd, &st), 0);
    EXPECT_EQ((uint64_t)st.st_size, copy_record(&b, copy.copy)->bytes);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_store64_seq(&copy_words(&b, table)[1], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u));
    if (copy_drop(&b, &copy, false) == 1) {
        EXPECT_TRUE(raw_resume(&b.session, service.address));
        EXPECT_EQ(copy_drop(&b, &copy, false), 0);
    }
    EXPECT_TRUE(ct_eventually(copy_state(&b, copy.copy) == PINTI_FREE, 10000));
    EXPECT_EQ(pinti_load64_seq(&copy_words(&b, table)[1]) & PINTI_CHUNK_MASK, 0u);
    EXPECT_EQ(copy_named(&b, table, device), 0u);
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.used_bytes, empty.used_bytes);
    EXPECT_EQ(now.incarnation, 2u);
    EXPECT_EQ(copy_stat(service.address, device, "bytes"), 0u);
    copy_die(&a);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyDeath, OfTheServiceAtAnyPlaceOfMakingAndDropping, .timeout_s = 60)
{
    static const enum pinti_crash_point points[] = {
        PINTI_CRASH_SERVICE_COPY_BUILDING, PINTI_CRASH_SERVICE_COPY_HELD,
        PINTI_CRASH_SERVICE_COPY_LIVE,     PINTI_CRASH_SERVICE_COPY_CLOSING,
        PINTI_CRASH_SERVICE_COPY_DYING,    PINTI_CRASH_SERVICE_COPY_FREE_HALF};
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        ASSERT_NO_FATAL(crash_at(points[i]));
    }
}

/* A drop that is cut off before anything was taken: the copy is LIVE again by itself, and who met
 * it in between is woken. */
static void cut_off_at(enum pinti_crash_point point)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "PINTABLE_CRASH=%s:1", pinti_crash_name(point));
    const char *env[] = {text, NULL};
    ASSERT_NO_FATAL(start_with(env, false));
    const raw_copy copy = copy_open(&b, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    pinti_bell *bells =
        mmap(NULL, PINTI_BELL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, b.session.fds[3], 0);
    ASSERT_TRUE(bells != MAP_FAILED);
    const uint64_t ahead = pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2u);
    pinti_store64_seq(&copy_words(&b, table)[1], ahead);
    pinti_a32 *bell = &bells[table % PINTI_BELLS].xbell;
    pinti_store32_seq(bell, PINTI_BELL_ASLEEP);
    EXPECT_EQ(copy_drop(&b, &copy, false), 1); /* the connection ended */
    EXPECT_TRUE(ct_eventually((pinti_load32_seq(bell) & PINTI_BELL_ASLEEP) == 0, 10000));
    EXPECT_EQ(copy_state(&b, copy.copy), PINTI_LIVE);
    EXPECT_EQ(copy_named(&b, table, device), copy.copy + 1);
    EXPECT_EQ(pinti_load64_seq(&copy_words(&b, table)[1]), ahead);
    EXPECT_TRUE(raw_resume(&b.session, service.address));
    EXPECT_EQ(copy_drop(&b, &copy, false), PINT_E_DEVICE_AHEAD);
    EXPECT_EQ(copy_state(&b, copy.copy), PINTI_LIVE);
    EXPECT_EQ(munmap(bells, PINTI_BELL_BYTES), 0);
    copy_die(&a);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyDeath, OfTheServiceInADropThatIsRefused, .timeout_s = 60)
{
    ASSERT_NO_FATAL(cut_off_at(PINTI_CRASH_SERVICE_COPY_CLOSING));
    ASSERT_NO_FATAL(cut_off_at(PINTI_CRASH_SERVICE_COPY_REOPENED));
}

/* Somebody has the copy open, so that it is not freed: its place is out of the masks all the same.
 */
TEST(CopyDeath, OfTheServiceBeforeADroppedCopyIsForgotten)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "PINTABLE_CRASH=%s:1",
                   pinti_crash_name(PINTI_CRASH_SERVICE_COPY_DYING));
    const char *env[] = {text, NULL};
    ASSERT_NO_FATAL(start_with(env, false));
    const raw_copy copy = copy_open(&b, table, generation, device, 0, true);
    ASSERT_EQ(copy.code, 0);
    EXPECT_EQ(close(copy.fd), 0);
    copy_refer(&a, &copy);
    pinti_store64_seq(&copy_words(&b, table)[1], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u));
    EXPECT_EQ(copy_drop(&b, &copy, false), 1); /* the connection ended */
    EXPECT_TRUE(ct_eventually((pinti_load64_seq(&copy_words(&b, table)[1]) & PINTI_CHUNK_MASK) == 0,
                              10000));
    EXPECT_EQ(copy_state(&b, copy.copy), PINTI_DYING);
    EXPECT_TRUE(raw_resume(&b.session, service.address));
    EXPECT_EQ(copy_drop(&b, &copy, false), 0);
    copy_die(&a);
    EXPECT_TRUE(ct_eventually(copy_state(&b, copy.copy) == PINTI_FREE, 10000));
    ASSERT_NO_FATAL(finish());
}
#endif

/* ---- writable views -------------------------------------------------------------------------- */

static pinti_a64 *views_of_table(void)
{
    const pinti_table_rec *rec = &pinti_cat_tables(b.catalog)[table];
    const pinti_column_rec *column = pinti_cat_column(b.catalog, rec, 0);
    return &((pinti_column_state *)(void *)(b.sync + column->state_off))->xviews;
}

/* As pint_column_view_begin() leaves the slot. */
static void note_view(raw_session *session)
{
    pinti_slot_header *header = session->slot;
    pinti_store32_release(&header->xn_views, 1);
    pinti_store64_seq(&pinti_slot_views(session->slot)[0],
                      pinti_view_name(table, generation, 0) | PINTI_VIEW_REGISTERED);
}

static int n_sessions(void)
{
    raw_stat stat;
    return raw_get_stat(service.address, &stat) ? (int)stat.n_sessions : -1;
}

/* A reader can write its slot, but cannot have views: it must not end those of others. */
TEST(ViewDeath, EndsTheViewsOfASessionThatCouldStoreAndOfNoOther)
{
    raw_session reader;
    ASSERT_NO_FATAL(start_with(NULL, false));
    ASSERT_TRUE(raw_join(&reader, service.address, "ro", ""));
    pinti_store64_seq(views_of_table(), 2 * PINTI_VIEWS_ONE_MORE);
    note_view(&reader);
    note_view(&a.session);
    EXPECT_TRUE(raw_leave(&reader));
    copy_die(&a);
    EXPECT_TRUE(ct_eventually(n_sessions() == 1, 10000)); /* both are over */
    EXPECT_EQ(PINTI_VIEWS_COUNT(pinti_load64_seq(views_of_table())), 1u);
    ASSERT_NO_FATAL(finish());
}
