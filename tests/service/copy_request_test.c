/* SPDX-License-Identifier: Apache-2.0 */
/* Devices and device copies by request: found, made, dropped, refused. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/word.h"
#include "pintable/device.h"
#include "tests/service/copy_raw.h"
#include "tests/support/ct.h"

#ifndef F_GET_SEALS
#    define F_GET_SEALS 1034
#endif

enum { ROWS = 100000 };

static raw_service service;
static raw_stat before;
static copy_client a;
static copy_client b;
static uint32_t table;
static uint32_t generation;
static int host;

static void start(void)
{
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "c", NULL, NULL));
    ASSERT_TRUE(copy_join(&a, service.address));
    ASSERT_TRUE(copy_join(&b, service.address));
    ASSERT_TRUE(raw_get_stat(service.address, &before));
    host = copy_device(&a, COPY_HOST, false);
    ASSERT_EQ(host, 0);
    ASSERT_TRUE(copy_table(&a, "t", ROWS, &table, &generation));
}

static void finish(void)
{
    EXPECT_TRUE(copy_leave(&a));
    EXPECT_TRUE(copy_leave(&b));
    EXPECT_EQ(raw_terminate(&service), 0);
}

static void close_copy(const raw_copy *copy)
{
    if (copy->fd >= 0) {
        EXPECT_EQ(close(copy->fd), 0);
    }
}

TEST(CopyRequest, IsMadeOnceAndFoundByEverybody)
{
    ASSERT_NO_FATAL(start());
    const raw_copy none = copy_open(&b, table, generation, host, 0, false);
    EXPECT_EQ(none.code, PINT_E_NOT_FOUND);
    const raw_copy first = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(first.code, 0);
    EXPECT_TRUE(first.created);
    EXPECT_EQ(first.kind, PINT_COPY_VMM);
    const raw_copy second = copy_open(&b, table, generation, host, PINT_COPY_VMM, false);
    ASSERT_EQ(second.code, 0);
    EXPECT_FALSE(second.created);
    EXPECT_EQ(second.copy, first.copy);
    EXPECT_EQ(second.generation, first.generation);
    EXPECT_EQ(copy_named(&a, table, host), first.copy + 1);
    EXPECT_EQ(copy_state(&a, first.copy), PINTI_LIVE);

    const pinti_copy_rec *rec = copy_record(&a, first.copy);
    EXPECT_GE(rec->values_bytes, ROWS * 8ull);
    EXPECT_GE(rec->bytes, rec->values_bytes);
    EXPECT_EQ(rec->validity_off, PINTI_NO_BUFFER);
    struct stat one;
    struct stat two;
    ASSERT_EQ(fstat(first.fd, &one), 0);
    ASSERT_EQ(fstat(second.fd, &two), 0);
    EXPECT_EQ(one.st_ino, two.st_ino); /* the same memory */
    EXPECT_EQ((uint64_t)one.st_size, rec->bytes);
    EXPECT_EQ(one.st_mode & 0777, 0600);
    EXPECT_GE((uint64_t)one.st_blocks * 512, rec->bytes); /* no access raises SIGBUS */
    EXPECT_EQ(fcntl(first.fd, F_GET_SEALS) & 7, 7);       /* seal, shrink, grow */
    close_copy(&first);
    close_copy(&second);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, IsFreedWhenDroppedAndUnreferred)
{
    ASSERT_NO_FATAL(start());
    raw_stat with_table;
    ASSERT_TRUE(raw_get_stat(service.address, &with_table));
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    copy_refer(&b, &copy);
    EXPECT_EQ(copy_drop(&a, &copy, false), 0);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_DYING); /* b has it open */
    EXPECT_EQ(copy_named(&a, table, host), 0u);
    EXPECT_EQ(copy_drop(&a, &copy, false), 0); /* asked again */
    /* the device's place in the chunk words is the old one's until it is gone */
    const raw_copy next = copy_open(&a, table, generation, host, 0, true);
    EXPECT_EQ(next.code, PINT_E_BUSY);
    copy_unrefer(&b, &copy);
    const raw_copy again = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(again.code, 0);
    EXPECT_TRUE(again.created);
    EXPECT_TRUE(again.copy != copy.copy || again.generation != copy.generation);
    EXPECT_EQ(copy_drop(&a, &copy, true), 0); /* of the old generation: nothing happens */
    EXPECT_EQ(copy_state(&a, again.copy), PINTI_LIVE);
    EXPECT_EQ(copy_drop(&a, &again, false), 0);
    EXPECT_TRUE(ct_eventually(copy_state(&a, again.copy) == PINTI_FREE, 10000));
    close_copy(&copy);
    close_copy(&again);
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.used_bytes, with_table.used_bytes);
    EXPECT_EQ(copy_stat(service.address, host, "bytes"), 0u);
    EXPECT_EQ(copy_stat(service.address, host, "copies"), 0u);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, DropLosesNoBytesUnlessForced)
{
    ASSERT_NO_FATAL(start());
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    pinti_a64 *words = copy_words(&a, table);
    /* newest on the device alone */
    pinti_store64_seq(&words[1], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, PINTI_HOST_STALE | 2u));
    pinti_store64_seq(&words[2], pinti_chunk_next(0, PINTI_CHUNK_CLEAN, 0, 2u)); /* and the host */
    EXPECT_EQ(copy_drop(&b, &copy, false), PINT_E_DEVICE_AHEAD);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE);
    EXPECT_EQ(copy_named(&a, table, host), copy.copy + 1);
    pinti_copy_chunk *chunks = copy_chunks(&a, copy.copy);
    copy_refer(&a, &copy);
    pinti_store32_seq(&copy_sync(&a, copy.copy)->xslots[0], a.session.index);
    pinti_store64_seq(&chunks[3].xreaders, 1);
    EXPECT_EQ(copy_drop(&b, &copy, false), PINT_E_BUSY);
    pinti_store64_seq(&chunks[3].xreaders, 0);
    EXPECT_EQ(copy_drop(&b, &copy, false), PINT_E_DEVICE_AHEAD);
    EXPECT_EQ(copy_drop(&b, &copy, true), 0);
    EXPECT_EQ(pinti_chunk_state(pinti_load64_seq(&words[1])), PINTI_CHUNK_TORN);
    EXPECT_EQ(pinti_chunk_state(pinti_load64_seq(&words[2])), PINTI_CHUNK_CLEAN);
    EXPECT_EQ(pinti_load64_seq(&words[2]) & PINTI_CHUNK_MASK, 0u); /* the host alone */
    EXPECT_EQ(pinti_load64_seq(&words[0]), 0u);
    close_copy(&copy);
    ASSERT_NO_FATAL(finish());
}

/* What a reads and takes by right in the first chunks, and words of nobody in the others. */
static void put_words(const raw_copy *copy)
{
    pinti_copy_sync *sync = copy_sync(&a, copy->copy);
    pinti_copy_chunk *chunks = copy_chunks(&a, copy->copy);
    const uint32_t index_b = b.session.index; /* does not refer to it */
    pinti_store32_seq(&sync->xslots[3], a.session.index);
    pinti_store32_seq(&sync->xslots[9], UINT32_MAX);
    pinti_store32_seq(&sync->xslots[10], PINTI_SESSIONS_MAX);
    pinti_store32_seq(&sync->xslots[11], index_b);
    pinti_store64_seq(&chunks[0].xreaders, 1ull << 3);
    pinti_store64_seq(&chunks[1].xcopier, pinti_copier(a.session.index, PINTI_COPIER_CLAIM, 0));
    pinti_store64_seq(&chunks[2].xreaders, UINT64_MAX);
    pinti_store64_seq(&chunks[2].xcopier, UINT64_MAX);
    pinti_store64_seq(&chunks[3].xcopier, pinti_copier(index_b, PINTI_COPIER_WRITE, 1ull << 30));
    pinti_store64_seq(&chunks[4].xcopier, pinti_copier(777, PINTI_COPIER_PUSH, 0));
    pinti_store64_seq(&chunks[5].xreaders, 1ull << 9 | 1ull << 11 | 1ull << 63);
}

static void expect_only_words_of(const raw_copy *copy, uint32_t index)
{
    pinti_copy_sync *sync = copy_sync(&a, copy->copy);
    pinti_copy_chunk *chunks = copy_chunks(&a, copy->copy);
    for (uint32_t i = 0; i < PINTI_COPY_READERS; i++) {
        EXPECT_EQ(pinti_load32_seq(&sync->xslots[i]), i == 3 ? index : 0);
    }
    const uint64_t readers = index != 0 ? 1ull << 3 : 0;
    const uint64_t copier = index != 0 ? pinti_copier(index, PINTI_COPIER_CLAIM, 0) : 0;
    for (uint32_t i = 0; i < copy_record(&a, copy->copy)->n_chunks; i++) {
        EXPECT_EQ(pinti_load64_seq(&chunks[i].xreaders), i == 0 || i == 2 ? readers : 0);
        EXPECT_EQ(pinti_load64_seq(&chunks[i].xcopier), i == 1 ? copier : 0);
    }
}

TEST(CopyRequest, WordsOfNobodyStandInNobodysWay)
{
    ASSERT_NO_FATAL(start());
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    ASSERT_GE(copy_record(&a, copy.copy)->n_chunks, 6u);
    copy_refer(&a, &copy);
    /* found by who opens it */
    put_words(&copy);
    const raw_copy second = copy_open(&b, table, generation, host, 0, false);
    EXPECT_EQ(second.code, 0);
    expect_only_words_of(&copy, a.session.index);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE);
    /* by who drops it: a works on it */
    put_words(&copy);
    EXPECT_EQ(copy_drop(&b, &copy, false), PINT_E_BUSY);
    expect_only_words_of(&copy, a.session.index);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE);
    /* and not any more */
    put_words(&copy);
    copy_unrefer(&a, &copy);
    EXPECT_EQ(copy_drop(&b, &copy, false), 0);
    close_copy(&copy);
    close_copy(&second);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, GoesOnForThoseWhoHaveADroppedTableOpen)
{
    ASSERT_NO_FATAL(start());
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    raw_refer(&b.session, table, generation);
    copy_refer(&b, &copy);
    EXPECT_EQ(raw_code(a.session.fd, "table.drop", "{\"name\":\"t\"}"), 0);
    EXPECT_EQ(raw_code(a.session.fd, "table.closed", "{}"), 0);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE); /* its words are right to the end */
    const raw_copy late = copy_open(&a, table, generation, host, 0, true);
    EXPECT_EQ(late.code, PINT_E_DROPPED);
    /* the table waits for the copy, though only that is referred to */
    pinti_store64_seq(&pinti_slot_tables(b.session.slot)[table], 0);
    EXPECT_EQ(raw_code(a.session.fd, "table.closed", "{}"), 0);
    EXPECT_EQ(copy_state(&a, copy.copy), PINTI_LIVE);
    copy_unrefer(&b, &copy);
    EXPECT_TRUE(ct_eventually(copy_state(&a, copy.copy) == PINTI_FREE, 10000));
    close_copy(&copy);
    raw_stat now;
    EXPECT_TRUE(ct_eventually(raw_get_stat(service.address, &now) && now.dying == 0, 10000));
    EXPECT_EQ(now.used_bytes, 0u);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, OfAnUnpublishedTableIsItsMakersOnly)
{
    ASSERT_NO_FATAL(start());
    uint64_t index = 0;
    uint64_t gen = 0;
    ASSERT_EQ(raw_make_table(&a.session, "u", 512, false, &index, &gen), 0);
    const raw_copy other = copy_open(&b, (uint32_t)index, (uint32_t)gen, host, 0, true);
    EXPECT_EQ(other.code, PINT_E_STATE);
    const raw_copy own = copy_open(&a, (uint32_t)index, (uint32_t)gen, host, 0, true);
    ASSERT_EQ(own.code, 0);
    /* its columns cannot become another table's while they have copies */
    EXPECT_EQ(raw_code(a.session.fd, "table.add_columns",
                       "{\"table\":%" PRIu32 ",\"generation\":%" PRIu32 ",\"from\":%" PRIu64
                       ",\"from_generation\":%" PRIu64 "}",
                       table, generation, index, gen),
              PINT_E_BUSY);
    EXPECT_EQ(copy_drop(&a, &own, false), 0);
    close_copy(&own);
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, KnowsEightDevices)
{
    ASSERT_NO_FATAL(start());
    char uuid[40];
    for (int i = 1; i < 8; i++) {
        (void)snprintf(uuid, sizeof(uuid), "%032x", 0x100 + i);
        EXPECT_EQ(copy_device(&a, uuid, true), i);
        EXPECT_EQ(copy_device(&b, uuid, true), i);
    }
    EXPECT_EQ(copy_device(&a, "ffffffffffffffffffffffffffffffff", true), -1);
    EXPECT_EQ(copy_device(&a, COPY_HOST, true), -1); /* known as the host */
    EXPECT_EQ(copy_device(&a, COPY_HOST, false), 0);
    raw_session reader;
    ASSERT_TRUE(raw_join(&reader, service.address, "ro", ""));
    EXPECT_EQ(raw_code(reader.fd, "device.open", "{\"uuid\":\"" COPY_HOST "\"}"), 0);
    EXPECT_EQ(raw_code(reader.fd, "device.open", "{\"uuid\":\"%032x\"}", 0x999), PINT_E_PERMISSION);
    EXPECT_TRUE(raw_leave(&reader));
    ASSERT_NO_FATAL(finish());
}

/* One at a time. */
static const struct {
    const char *method;
    const char *params;
    int code;
} bad[] = {
    {"device.open", "{}", -32602},
    {"device.open", "{\"uuid\":\"\"}", -32602},
    {"device.open", "{\"uuid\":\"0000000000000000000000000000001\"}", -32602},
    {"device.open", "{\"uuid\":\"000000000000000000000000000000011\"}", -32602},
    {"device.open", "{\"uuid\":\"0000000000000000000000000000000G\"}", -32602},
    {"device.open", "{\"uuid\":7}", -32602},
    {"device.open", "{\"uuid\":\"" COPY_HOST "\",\"cuda\":1}", -32602},
    {"device.open", "{\"uuid\":\"" COPY_HOST "\",\"name\":[]}", -32602},
    {"device.open", "{\"uuid\":\"" COPY_HOST "\",\"more\":1}", -32602},
    {"copy.open", "{}", -32602},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0}", -32602},
    {"copy.open", "{\"table\":65536,\"generation\":1,\"column\":0,\"device\":0}", PINT_E_RANGE},
    {"copy.open", "{\"table\":65535,\"generation\":1,\"column\":0,\"device\":0}", PINT_E_DROPPED},
    {"copy.open", "{\"table\":0,\"generation\":2,\"column\":0,\"device\":0}", PINT_E_DROPPED},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":1,\"device\":0}", PINT_E_NOT_FOUND},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":4294967295,\"device\":0}",
     PINT_E_NOT_FOUND},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0,\"device\":1}", PINT_E_NOT_FOUND},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0,\"device\":4294967295}",
     PINT_E_NOT_FOUND},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0,\"device\":0,\"kind\":3}",
     PINT_E_INVALID},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0,\"device\":0,\"kind\":2}",
     PINT_E_UNSUPPORTED},
    {"copy.open", "{\"table\":-1,\"generation\":1,\"column\":0,\"device\":0}", -32602},
    {"copy.open", "{\"table\":0,\"generation\":1,\"column\":0,\"device\":0,\"create\":\"yes\"}",
     -32602},
    {"copy.drop", "{}", -32602},
    {"copy.drop", "{\"copy\":4294967295,\"generation\":1}", 0},
    {"copy.drop", "{\"copy\":16384,\"generation\":1}", 0},
    {"copy.drop", "{\"copy\":0,\"generation\":0}", 0},
    {"copy.drop", "{\"copy\":0,\"generation\":1,\"force\":1}", -32602},
};

TEST(CopyRequest, RefusesWhatIsNoRequest)
{
    ASSERT_NO_FATAL(start());
    EXPECT_EQ(table, 0u);
    EXPECT_EQ(generation, 1u);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const int code = raw_code(b.session.fd, bad[i].method, "%s", bad[i].params);
        EXPECT_EQ(code, bad[i].code);
        if (code != bad[i].code) {
            (void)fprintf(stderr, "%s %s\n", bad[i].method, bad[i].params);
        }
    }
    raw_session reader;
    ASSERT_TRUE(raw_join(&reader, service.address, "ro", ""));
    EXPECT_EQ(raw_code(reader.fd, "copy.open",
                       "{\"table\":0,\"generation\":1,\"column\":0,\"device\":0}"),
              PINT_E_PERMISSION);
    EXPECT_EQ(raw_code(reader.fd, "copy.drop", "{\"copy\":0,\"generation\":1}"), PINT_E_PERMISSION);
    EXPECT_TRUE(raw_leave(&reader));
    ASSERT_NO_FATAL(finish());
}

TEST(CopyRequest, HasNoCopyOfText)
{
    ASSERT_NO_FATAL(start());
    cJSON *answer = raw_call(a.session.fd, "table.create",
                             "{\"request\":%" PRIu64 ",\"name\":\"s\",\"rows\":10,\"columns\":"
                             "[{\"name\":\"s\",\"type\":\"text\",\"data_bytes\":100}]}",
                             ++a.session.request);
    const raw_copy copy = copy_open(&a, (uint32_t)raw_number(answer, "table"),
                                    (uint32_t)raw_number(answer, "generation"), host, 0, true);
    EXPECT_EQ(copy.code, PINT_E_TYPE);
    cJSON_Delete(answer);
    ASSERT_NO_FATAL(finish());
}

/* Descriptors that a client does not fetch are not piled up: its own answers wait, others' do not.
 */
TEST(CopyRequest, AClientThatDoesNotReadHoldsFewDescriptors)
{
    enum { ASKED = 60 };
    ASSERT_NO_FATAL(start());
    const raw_copy copy = copy_open(&a, table, generation, host, 0, true);
    ASSERT_EQ(copy.code, 0);
    close_copy(&copy);
    raw_stat idle;
    ASSERT_TRUE(raw_get_stat(service.address, &idle));
    for (int i = 0; i < ASKED; i++) {
        EXPECT_TRUE(copy_send_open(&b, table, generation, host, 0, false));
    }
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_LE(now.fds, idle.fds + 1); /* the one that waits to be sent */
    for (int i = 0; i < ASKED; i++) {
        const raw_copy one = copy_receive(&b);
        EXPECT_EQ(one.code, 0);
        EXPECT_EQ(one.copy, copy.copy);
        ASSERT_GE(one.fd, 0);
        close_copy(&one);
    }
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.fds, idle.fds);
    ASSERT_NO_FATAL(finish());
}
