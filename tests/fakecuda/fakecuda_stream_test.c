/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fake driver's streams: what copies are allowed, when work runs in each mode, events, and what
 * a failure leaves.
 */

#include <string.h>
#include <sys/mman.h>

#include "tests/fakecuda/attach.h"
#include "tests/support/ct.h"

#define PAGE     ((size_t)4096)
#define BYTES    (8 * PAGE)
#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Host pages, registered; memory of the device; two streams that do not wait for the default one.
 */
typedef struct bench {
    char *host;
    pinti_cu_ptr device;
    pinti_cu_stream a, b;
} bench;

static void set_up(bench *s, const char *const *settings)
{
    (void)fake_begin_context(settings);
    s->host = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_TRUE(s->host != MAP_FAILED);
    ASSERT_EQ(pinti_cuda.mem_host_register(s->host, BYTES, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_alloc(&s->device, BYTES), 0);
    ASSERT_EQ(pinti_cuda.stream_create(&s->a, PINTI_CU_STREAM_NON_BLOCKING), 0);
    ASSERT_EQ(pinti_cuda.stream_create(&s->b, PINTI_CU_STREAM_NON_BLOCKING), 0);
}

static void tear_down(bench *s)
{
    fake_end();
    EXPECT_EQ(munmap(s->host, BYTES), 0);
}

static char *device_bytes(const bench *s)
{
    return (char *)(uintptr_t)s->device;
}

static void push_letter(void *text)
{
    char *at = text;
    at[strlen(at)] = 'f';
}

/* --- Which copies ----------------------------------------------------------------------------- */

TEST(FakeCopy, NeedsRegisteredHostMemory)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    char pageable[16] = "pageable";
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, pageable, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(pageable, s.device, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, BYTES + 1, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device + 1, s.host, BYTES, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async((uintptr_t)s.host, s.host + PAGE, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, device_bytes(&s) + PAGE, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(device_bytes(&s) + PAGE, s.device, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(s.host, (uintptr_t)s.host + PAGE, 8, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, BYTES, s.a), 0);
    tear_down(&s);
}

TEST(FakeCopy, MayNotCrossTwoRegistrations)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    ASSERT_EQ(pinti_cuda.mem_host_unregister(s.host), 0);
    ASSERT_EQ(pinti_cuda.mem_host_register(s.host, 4 * PAGE, 0), 0);
    ASSERT_EQ(pinti_cuda.mem_host_register(s.host + 4 * PAGE, 4 * PAGE, 0), 0);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host + 3 * PAGE, 2 * PAGE, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(s.host + 3 * PAGE, s.device, 2 * PAGE, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, 4 * PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host + 4 * PAGE, 4 * PAGE, s.a), 0);
    tear_down(&s);
}

TEST(FakeCopy, MovesBytesBothWaysAndCountsThem)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    memset(s.host, 'x', PAGE);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.memcpy_dtod_async(s.device + PAGE, s.device, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 'y', 10, s.a), 0);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(s.host + PAGE, s.device, 2 * PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(s.host[PAGE], 'y');
    EXPECT_EQ(s.host[PAGE + 10], 'x');
    EXPECT_EQ(s.host[3 * PAGE - 1], 'x');
    EXPECT_EQ(fake.bytes_to_device(), PAGE);
    EXPECT_EQ(fake.bytes_to_host(), 2 * PAGE);
    tear_down(&s);
}

TEST(FakeCopy, BatchHasRulesOfItsOwn)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    memcpy(s.host, "ab", 2);
    pinti_cu_ptr dsts[] = {s.device, s.device + PAGE};
    pinti_cu_ptr srcs[] = {(uintptr_t)s.host, (uintptr_t)s.host + 1};
    size_t bytes[] = {1, 1};
    size_t start = 0;
    pinti_cu_copy_attributes attributes = {.src_order = PINTI_CU_SRC_ORDER_STREAM};
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 1, NULL), 1);
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 0, &attributes, &start, 1, s.a), 1);
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 0, s.a), 1);
    attributes.src_order = PINTI_CU_SRC_ORDER_INVALID;
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 1, s.a), 1);
    attributes.src_order = PINTI_CU_SRC_ORDER_STREAM;
    srcs[1] = (uintptr_t)&s;
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 1, s.a), 1);
    srcs[1] = (uintptr_t)s.host + 1;
    EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 1, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(device_bytes(&s)[0], 'a');
    EXPECT_EQ(device_bytes(&s)[PAGE], 'b');
    tear_down(&s);
}

TEST(FakeCopy, InABatchHasNoOrder)
{
    bool backwards = false;
    for (char seed = '1'; seed <= '9' && !backwards; seed++) {
        char setting[] = "FAKECUDA_SEED=0";
        setting[sizeof(setting) - 2] = seed;
        bench s;
        ASSERT_NO_FATAL(set_up(&s, ENV(setting)));
        memcpy(s.host, "ab", 2);
        /* Both write the same byte, which no correct program does. */
        pinti_cu_ptr dsts[] = {s.device, s.device};
        pinti_cu_ptr srcs[] = {(uintptr_t)s.host, (uintptr_t)s.host + 1};
        size_t bytes[] = {1, 1};
        size_t start = 0;
        pinti_cu_copy_attributes attributes = {.src_order = PINTI_CU_SRC_ORDER_STREAM};
        EXPECT_EQ(pinti_cuda.memcpy_batch_async(dsts, srcs, bytes, 2, &attributes, &start, 1, s.a),
                  0);
        EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
        backwards = device_bytes(&s)[0] == 'a';
        tear_down(&s);
    }
    EXPECT_TRUE(backwards);
}

/* --- When work runs --------------------------------------------------------------------------- */

TEST(FakeAsync, NothingRunsBeforeItIsWaitedForAndThenOnlyThat)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    char a[4] = "";
    char b[4] = "";
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, a), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.b, push_letter, b), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.b, push_letter, b), 0);
    EXPECT_STREQ(a, "");
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_STREQ(a, "f");
    EXPECT_STREQ(b, "");
    EXPECT_EQ(pinti_cuda.stream_query(s.b), 600);
    EXPECT_STREQ(b, "f");
    EXPECT_EQ(pinti_cuda.stream_query(s.b), 0);
    EXPECT_STREQ(b, "ff");
    tear_down(&s);
}

TEST(FakeAsync, TheSourceIsReadWhenTheCopyRunsNotWhenItIsCalled)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    s.host[0] = 'a';
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, 1, s.a), 0);
    EXPECT_NE(device_bytes(&s)[0], 'a');
    s.host[0] = 'b'; /* too early: what a forgotten wait looks like */
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(device_bytes(&s)[0], 'b');
    tear_down(&s);
}

static char order[8];

static void say_a(void *unused)
{
    (void)unused;
    order[strlen(order)] = 'a';
}

static void say_b(void *unused)
{
    (void)unused;
    order[strlen(order)] = 'b';
}

TEST(FakeAsync, RandomModeMixesStreamsButKeepsTheOrderInEach)
{
    bool a_first = false;
    bool b_first = false;
    for (int seed = 1; seed < 40 && !(a_first && b_first); seed++) {
        char setting[] = "FAKECUDA_SEED=00";
        setting[sizeof(setting) - 3] = (char)('0' + seed / 10);
        setting[sizeof(setting) - 2] = (char)('0' + seed % 10);
        bench s;
        ASSERT_NO_FATAL(set_up(&s, ENV("FAKECUDA_ASYNC=random", setting)));
        memset(order, 0, sizeof(order));
        EXPECT_EQ(pinti_cuda.launch_host_func(s.a, say_a, NULL), 0);
        EXPECT_EQ(pinti_cuda.launch_host_func(s.b, say_b, NULL), 0);
        EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 1, 1, s.a), 0);
        EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 2, 1, s.a), 0);
        EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
        EXPECT_EQ(pinti_cuda.stream_synchronize(s.b), 0);
        EXPECT_EQ(device_bytes(&s)[0], 2);
        a_first = a_first || strcmp(order, "ab") == 0;
        b_first = b_first || strcmp(order, "ba") == 0;
        tear_down(&s);
    }
    EXPECT_TRUE(a_first && b_first);
}

static void set_flag(void *flag)
{
    __atomic_store_n((int *)flag, 1, __ATOMIC_RELEASE);
}

TEST(FakeAsync, ThreadModeRunsWithoutAnyoneWaiting)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, ENV("FAKECUDA_ASYNC=thread")));
    int flag = 0;
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 7, 1, s.a), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, set_flag, &flag), 0);
    EXPECT_TRUE(ct_eventually(__atomic_load_n(&flag, __ATOMIC_ACQUIRE) == 1, 20000));
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_query(s.a), 0);
    EXPECT_EQ(device_bytes(&s)[0], 7);
    tear_down(&s);
}

TEST(FakeAsync, WordsAreWrittenInStreamOrder)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, ENV("FAKECUDA_HOST_ALIAS=1")));
    pinti_cu_ptr word = 0;
    ASSERT_EQ(pinti_cuda.mem_host_get_device_pointer(&word, s.host + 64, 0), 0);
    EXPECT_EQ(pinti_cuda.stream_write_value64(s.a, word + 4, 42, 0), 1);
    EXPECT_EQ(pinti_cuda.stream_write_value64(s.a, word, 42, 0), 0);
    uint64_t value = 0;
    memcpy(&value, s.host + 64, sizeof(value));
    EXPECT_EQ(value, 0u);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    memcpy(&value, s.host + 64, sizeof(value));
    EXPECT_EQ(value, 42u);
    tear_down(&s);
}

TEST(FakeAsync, TheDefaultStreamOrdersBlockingStreams)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    pinti_cu_stream blocking = NULL;
    ASSERT_EQ(pinti_cuda.stream_create(&blocking, 0), 0);
    char early[4] = "";
    char free_text[4] = "";
    char late[4] = "";
    EXPECT_EQ(pinti_cuda.launch_host_func(blocking, push_letter, early), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, free_text), 0);
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 1, 1, NULL), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(blocking, push_letter, late), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(PINTI_CU_STREAM_LEGACY), 0);
    EXPECT_STREQ(early, "f");
    EXPECT_STREQ(free_text, "");
    EXPECT_STREQ(late, "");
    EXPECT_EQ(device_bytes(&s)[0], 1);
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 2, 1, NULL), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(blocking, push_letter, early), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(blocking), 0);
    EXPECT_EQ(device_bytes(&s)[0], 2);
    tear_down(&s);
}

/* --- Events ----------------------------------------------------------------------------------- */

TEST(FakeEvent, OrdersStreamsAndIsDoneWhenItsStreamGotThere)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    pinti_cu_event event = NULL;
    char text[4] = "";
    ASSERT_EQ(pinti_cuda.event_create(&event, PINTI_CU_EVENT_DISABLE_TIMING), 0);
    EXPECT_EQ(pinti_cuda.event_query(event), 0); /* never recorded */
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, text), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, text), 0);
    EXPECT_EQ(pinti_cuda.event_record(event, s.a), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, text), 0);
    EXPECT_EQ(pinti_cuda.stream_wait_event(s.b, event, 0), 0);
    EXPECT_EQ(pinti_cuda.event_query(event), 600);
    EXPECT_STREQ(text, "f");
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.b), 0);
    EXPECT_STREQ(text, "ff");
    EXPECT_EQ(pinti_cuda.event_query(event), 0);
    EXPECT_EQ(pinti_cuda.event_record(event, s.a), 0);
    EXPECT_EQ(pinti_cuda.event_synchronize(event), 0);
    EXPECT_STREQ(text, "fff");
    EXPECT_EQ(pinti_cuda.event_destroy(event), 0);
    EXPECT_EQ(pinti_cuda.event_destroy(event), 400);
    EXPECT_EQ(pinti_cuda.event_query(event), 400);
    tear_down(&s);
}

TEST(FakeEvent, AWaitIsForTheRecordBeforeIt)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    pinti_cu_event event = NULL;
    char text[4] = "";
    ASSERT_EQ(pinti_cuda.event_create(&event, 0), 0);
    EXPECT_EQ(pinti_cuda.event_record(event, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_wait_event(s.b, event, 0), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, text), 0);
    EXPECT_EQ(pinti_cuda.event_record(event, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.b), 0);
    EXPECT_STREQ(text, "");
    tear_down(&s);
}

TEST(FakeStream, OnceDestroyedIsRefusedButItsWorkIsDone)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    pinti_cu_event event = NULL;
    ASSERT_EQ(pinti_cuda.event_create(&event, 0), 0);
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 3, 1, s.a), 0);
    EXPECT_EQ(pinti_cuda.event_record(event, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_destroy(s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 400);
    EXPECT_EQ(pinti_cuda.stream_destroy(s.a), 400);
    EXPECT_EQ(pinti_cuda.event_synchronize(event), 0);
    EXPECT_EQ(device_bytes(&s)[0], 3);
    tear_down(&s);
}

/* --- What fails ------------------------------------------------------------------------------- */

TEST(FakeFailure, OfWorkBreaksTheContextAndTheRestIsNotDone)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, ENV("FAKECUDA_FAIL=work:2:719")));
    char text[4] = "";
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 1, 1, s.a), 0);
    EXPECT_EQ(pinti_cuda.memset_d8_async(s.device, 2, 1, s.a), 0);
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, push_letter, text), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 719);
    EXPECT_EQ(device_bytes(&s)[0], 1);
    EXPECT_STREQ(text, "");
    EXPECT_EQ(pinti_cuda.stream_query(s.b), 719);
    pinti_cu_ptr ptr = 0;
    EXPECT_EQ(pinti_cuda.mem_alloc(&ptr, PAGE), 719);
    tear_down(&s);
}

TEST(FakeFailure, MemoryFreedUnderACopyIsAnIllegalAddress)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.mem_free(s.device), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 700);
    tear_down(&s);
}

TEST(FakeFailure, HostMemoryUnregisteredUnderACopyIsAnIllegalAddress)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(s.host, s.device, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.mem_host_unregister(s.host), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 700);
    tear_down(&s);
}

TEST(FakeFailure, WritingReadOnlyMemoryIsAnIllegalAddress)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    ASSERT_EQ(pinti_cuda.mem_host_unregister(s.host), 0);
    ASSERT_EQ(pinti_cuda.mem_host_register(s.host, BYTES, PINTI_CU_REGISTER_READ_ONLY), 0);
    EXPECT_EQ(pinti_cuda.memcpy_htod_async(s.device, s.host, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(pinti_cuda.memcpy_dtoh_async(s.host, s.device, PAGE, s.a), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 700);
    tear_down(&s);
}

static void call_driver(void *out_result)
{
    int n = 0;
    *(pinti_cu_result *)out_result = pinti_cuda.device_get_count(&n);
}

TEST(FakeFailure, AHostFunctionMayNotCallTheDriver)
{
    bench s;
    ASSERT_NO_FATAL(set_up(&s, NULL));
    pinti_cu_result result = PINTI_CU_SUCCESS;
    EXPECT_EQ(pinti_cuda.launch_host_func(s.a, call_driver, &result), 0);
    EXPECT_EQ(pinti_cuda.stream_synchronize(s.a), 0);
    EXPECT_EQ(result, 800);
    tear_down(&s);
}
