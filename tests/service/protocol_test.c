/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client may send, and what it may not: every case against a real service, which must go on
 * answering others and end with the descriptors and bytes it had before.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/service/raw.h"
#include "tests/support/ct.h"

#define NOT_JSON      (-32700)
#define NOT_A_REQUEST (-32600)
#define NO_METHOD     (-32601)
#define BAD_PARAMS    (-32602)

static raw_service service;
static raw_stat before;

static void set_up(void)
{
    ASSERT_TRUE(raw_start(&service, ct_tmpdir(), "p", NULL, NULL));
    ASSERT_TRUE(raw_get_stat(service.address, &before));
}

static void tear_down(void)
{
    EXPECT_TRUE(raw_is_back(service.address, &before));
    raw_stat now;
    ASSERT_TRUE(raw_get_stat(service.address, &now));
    EXPECT_EQ(now.incarnation, 1); /* it never died */
    EXPECT_EQ(raw_terminate(&service), 0);
}

static bool is_alive(void)
{
    const int fd = raw_connect(service.address);
    const bool good = fd >= 0 && raw_code(fd, "ping", "{}") == 0;
    (void)close(fd);
    return good;
}

/* ---- packets -------------------------------------------------------------------------------- */

TEST(Protocol, EndsConnectionsThatSendWhatIsNoPacket)
{
    static char big[1 << 18];
    const size_t sizes[] = {65537, 100000, 200000};
    ASSERT_NO_FATAL(set_up());
    memset(big, ' ', sizeof(big));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const int fd = raw_connect(service.address);
        ASSERT_TRUE(raw_send_bytes(fd, big, sizes[i], NULL, 0));
        EXPECT_TRUE(raw_is_closed(fd));
        EXPECT_EQ(close(fd), 0);
    }
    const int fd = raw_connect(service.address);
    EXPECT_TRUE(raw_send_bytes(fd, "", 0, NULL, 0));
    EXPECT_TRUE(raw_is_closed(fd));
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(is_alive());
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, AnswersTheLongestMessageAndOneByte)
{
    static char text[65537];
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    memset(text, ' ', 65536);
    const char *ping = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    memcpy(text, ping, strlen(ping));
    EXPECT_TRUE(raw_send_bytes(fd, text, 65536, NULL, 0));
    cJSON *answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), 0);
    cJSON_Delete(answer);
    EXPECT_TRUE(raw_send_bytes(fd, "1", 1, NULL, 0));
    answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), NOT_A_REQUEST);
    cJSON_Delete(answer);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, EndsConnectionsThatSendDescriptorsWhereNoneBelong)
{
    const char *messages[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nothing\"}",
        "{}",
        "garbage",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resume\",\"params\":{\"session\":"
        "\"0000000000000001\",\"token\":\"00000000000000000000000000000000\"}}",
    };
    ASSERT_NO_FATAL(set_up());
    int fds[9];
    for (size_t i = 0; i < 9; i++) {
        fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    }
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        const unsigned counts[] = {1, 2, 9};
        for (size_t k = 0; k < 3; k++) {
            const int fd = raw_connect(service.address);
            EXPECT_TRUE(raw_send_bytes(fd, messages[i], strlen(messages[i]), fds, counts[k]));
            EXPECT_TRUE(raw_is_closed(fd));
            EXPECT_EQ(close(fd), 0);
        }
    }
    /* the connection itself */
    const int fd = raw_connect(service.address);
    EXPECT_TRUE(raw_send_bytes(fd, messages[0], strlen(messages[0]), &fd, 1));
    EXPECT_TRUE(raw_is_closed(fd));
    EXPECT_EQ(close(fd), 0);
    for (size_t i = 0; i < 9; i++) {
        EXPECT_EQ(close(fds[i]), 0);
    }
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, TakesADescriptorThatIsNoPidfdForNothing)
{
    char text[512];
    ASSERT_NO_FATAL(set_up());
    (void)snprintf(text, sizeof(text),
                   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"join\",\"params\":{\"protocol\":1,"
                   "\"layout\":3,\"signature\":%" PRIu32 ",\"mode\":\"rw\",\"pidfd\":true}}",
                   raw_signature());
    const int fd = raw_connect(service.address);
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    EXPECT_TRUE(raw_send_bytes(fd, text, strlen(text), &null, 1));
    cJSON *answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), 0);
    cJSON_Delete(answer);
    EXPECT_EQ(close(null), 0);
    EXPECT_EQ(close(fd), 0);
    const int other = raw_connect(service.address);
    EXPECT_TRUE(raw_send(other, text)); /* says it sends one, and does not */
    answer = raw_receive(other, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), BAD_PARAMS);
    cJSON_Delete(answer);
    EXPECT_EQ(close(other), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, RefusesStreamClients)
{
    ASSERT_NO_FATAL(set_up());
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%s", service.address);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(fd, (const struct sockaddr *)&name, sizeof(name)), -1);
    EXPECT_EQ(errno, EPROTOTYPE);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

/* ---- JSON ----------------------------------------------------------------------------------- */

#define PING(rest) "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"" rest "}"

TEST(Protocol, AnswersWhatIsNotJsonAndGoesOn)
{
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "{]",
        "[[[[[[[[[[[[[[[[[[[[",
        "nul",
        "truex",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "0x10",
        "-",
        "--1",
        "1e999",
        "NaN",
        "Infinity",
        "'a'",
        "{a:1}",
        "{\"a\":1,}",
        "{\"a\":1}x",
        "{}{}",
        "{\"a\" 1}",
        "[1,]",
        "[,]",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"a\nb\"",
        "\"\x01\"",
        "\"\xff\"",
        "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\xef\xbb\xbf{}",
        "/* */{}",
        "{\"a\":1,\"a\":2}",
        PING(",\"id\":2"),
        "{\"jsonrpc\":\"2.0\",\"id\":9007199254740994,\"method\":\"ping\"}",
        PING(",\"params\":{\"x\":1,\"x\":2}"),
    };
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "hello", "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 "}",
                       raw_signature()),
              0);
    for (size_t i = 1; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ASSERT_TRUE(raw_send(fd, texts[i]));
        cJSON *answer = raw_receive(fd, NULL, NULL);
        if (raw_code_of(answer) != NOT_JSON) {
            (void)fprintf(stderr, "text %zu: %s\n", i, texts[i]);
        }
        EXPECT_EQ(raw_code_of(answer), NOT_JSON);
        EXPECT_TRUE(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(answer, "id")));
        cJSON_Delete(answer);
    }
    EXPECT_TRUE(raw_send_bytes(fd, "{\"a\":\0001}", 8, NULL, 0));
    cJSON *answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), NOT_JSON);
    cJSON_Delete(answer);
    EXPECT_EQ(raw_code(fd, "ping", "{}"), 0);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, LimitsDepthValuesAndStrings)
{
    static char text[65536];
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    memset(text, '[', 32768);
    memset(text + 32768, ']', 32767);
    text[65535] = '\0';
    ASSERT_TRUE(raw_send(fd, text));
    cJSON *answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), NOT_JSON);
    cJSON_Delete(answer);
    text[0] = '[';
    for (size_t i = 1; i < 65534; i += 2) {
        text[i] = '0';
        text[i + 1] = ',';
    }
    text[65533] = ']';
    text[65534] = '\0';
    ASSERT_TRUE(raw_send(fd, text));
    answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), NOT_JSON);
    cJSON_Delete(answer);
    memset(text, 'a', 60000);
    text[0] = '"';
    text[59999] = '"';
    text[60000] = '\0';
    ASSERT_TRUE(raw_send(fd, text));
    answer = raw_receive(fd, NULL, NULL);
    EXPECT_EQ(raw_code_of(answer), NOT_JSON);
    cJSON_Delete(answer);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, AnswersWhatIsNoRequest)
{
    static const char *const texts[] = {
        "1",
        "null",
        "true",
        "\"ping\"",
        "[]",
        "{}",
        "[" PING("") "]",
        "{\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1e300,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":null}",
        PING(",\"more\":1"),
        PING(",\"params\":[]"),
        PING(",\"params\":1"),
        PING(",\"params\":null"),
        PING(",\"Params\":{}"),
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
    };
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ASSERT_TRUE(raw_send(fd, texts[i]));
        cJSON *answer = raw_receive(fd, NULL, NULL);
        if (raw_code_of(answer) != NOT_A_REQUEST) {
            (void)fprintf(stderr, "text %zu: %s\n", i, texts[i]);
        }
        EXPECT_EQ(raw_code_of(answer), NOT_A_REQUEST);
        cJSON_Delete(answer);
    }
    EXPECT_EQ(raw_code(fd, "nothing", "{}"), NO_METHOD);
    EXPECT_EQ(raw_code(fd, "Ping", "{}"), NO_METHOD);
    EXPECT_EQ(raw_code(fd, "", "{}"), NO_METHOD);
    EXPECT_EQ(raw_code(fd, "%%s%%n\\u001b[31m", "{}"), NO_METHOD);
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

/* ---- parameters ----------------------------------------------------------------------------- */

typedef struct good_call {
    const char *method;
    const char *params; /* every member, well formed, whatever it leads to */
} good_call;

static const good_call good_calls[] = {
    {"hello", "{\"protocol\":1,\"layout\":3,\"signature\":1}"},
    {"join",
     "{\"protocol\":1,\"layout\":3,\"signature\":1,\"mode\":\"rw\",\"family\":\"0000000000000001\","
     "\"command\":\"c\",\"pidfd\":false}"},
    {"resume", "{\"session\":\"0000000000000063\",\"token\":\"00000000000000000000000000000000\","
               "\"pidfd\":false}"},
    {"table.create",
     "{\"request\":1,\"name\":\"n\",\"rows\":1,\"chunk_rows\":512,\"flags\":0,\"columns\":[],"
     "\"more\":true}"},
    {"table.columns", "{\"columns\":[],\"more\":true}"},
    {"table.publish", "{\"table\":9,\"generation\":9,\"replace\":false}"},
    {"table.drop", "{\"name\":\"n\"}"},
    {"table.drop", "{\"table\":9,\"generation\":9}"},
    {"table.rename", "{\"name\":\"n\",\"new_name\":\"m\"}"},
    {"table.freeze", "{\"table\":9,\"generation\":9}"},
    {"table.keep", "{\"name\":\"n\",\"keep\":true}"},
    {"table.find", "{\"name\":\"n\"}"},
    {"job.create",
     "{\"request\":1,\"table\":9,\"generation\":9,\"name\":\"j\",\"uses\":[],\"undo\":0,"
     "\"more\":true}"},
    {"job.uses", "{\"uses\":[],\"more\":true}"},
    {"job.drop", "{\"table\":9,\"generation\":9,\"name\":\"j\"}"},
    {"copy.users", "{\"first\":0}"},
    {"stat", "{\"first\":0}"},
    {"budget", "{\"bytes\":67108864}"},
    {"evict", "{\"session\":\"0000000000000063\"}"},
    {"stop", "{\"force\":false}"},
};

static const char *const wrong_values[] = {
    "null",
    "true",
    "-1",
    "1.5",
    "1e300",
    "9007199254740994",
    "18446744073709551616",
    "\"\"",
    "\"-1\"",
    "\"1x\"",
    "\"x\"",
    "[]",
    "[[]]",
    "[null]",
    "[-1]",
    "[\"\"]",
    "{}",
    "{\"a\":1}",
    "\"18446744073709551616\"",
    "123456789012345678901234567890123456789012345678901234567890",
};

/* Every parameter with every wrong value, one at a time, left out, and one too many. */
TEST(Protocol, AnswersWrongParametersOfEveryMethod, .timeout_s = 60)
{
    ASSERT_NO_FATAL(set_up());
    raw_session session;
    raw_session other; /* so that stop is refused */
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    ASSERT_TRUE(raw_join(&other, service.address, "rw", ""));
    for (size_t m = 0; m < sizeof(good_calls) / sizeof(good_calls[0]); m++) {
        const good_call *good = &good_calls[m];
        cJSON *whole = cJSON_Parse(good->params);
        const int n = cJSON_GetArraySize(whole);
        for (int i = 0; i < n; i++) {
            const char *key = cJSON_GetArrayItem(whole, i)->string;
            for (size_t v = 0; v <= sizeof(wrong_values) / sizeof(wrong_values[0]); v++) {
                cJSON *params = cJSON_Parse(good->params);
                if (v < sizeof(wrong_values) / sizeof(wrong_values[0])) {
                    (void)cJSON_ReplaceItemInObject(params, key, cJSON_CreateRaw(wrong_values[v]));
                } else {
                    cJSON_DeleteItemFromObject(params, key);
                }
                char *text = cJSON_PrintUnformatted(params);
                if (strcmp(text, "{\"force\":true}") == 0) {
                    (void)snprintf(text, 2, "{"); /* that would be right, and stop it */
                }
                const int code = raw_code(session.fd, good->method, "%s", text);
                EXPECT_NE(code, 1); /* an answer of whatever kind, on the same connection */
                cJSON_free(text);
                cJSON_Delete(params);
            }
        }
        (void)cJSON_AddNumberToObject(whole, "extra", 1);
        char *text = cJSON_PrintUnformatted(whole);
        EXPECT_EQ(raw_code(session.fd, good->method, "%s", text), BAD_PARAMS);
        cJSON_free(text);
        cJSON_Delete(whole);
    }
    EXPECT_EQ(raw_code(session.fd, "budget", "{\"bytes\":67108864}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    EXPECT_TRUE(raw_leave(&other));
    ASSERT_NO_FATAL(tear_down());
}

static const char create_text[] =
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"table.create\",\"params\":{\"request\":1,\"name\":"
    "\"t\",\"rows\":\"1000\",\"chunk_rows\":0,\"flags\":0,\"columns\":[{\"name\":\"a\",\"type\":"
    "\"timestamp\",\"nullable\":true,\"unit\":\"ns\",\"zone\":\"UTC\"},{\"name\":\"b\",\"type\":"
    "\"dict_text\",\"item\":\"int8\",\"data_bytes\":100,\"categories\":7}]}}";

TEST(Protocol, AnswersAMessageCutOffAtEveryByte)
{
    ASSERT_NO_FATAL(set_up());
    raw_session session;
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    for (size_t n = 1; n < sizeof(create_text) - 1; n++) {
        ASSERT_TRUE(raw_send_bytes(session.fd, create_text, n, NULL, 0));
        cJSON *answer = raw_receive(session.fd, NULL, NULL);
        EXPECT_EQ(raw_code_of(answer), NOT_JSON);
        cJSON_Delete(answer);
    }
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

/* Random changes of a good message: an answer each, and nothing is left behind. */
TEST(Protocol, AnswersDamagedMessages, .timeout_s = 60)
{
    static char text[sizeof(create_text) + 16];
    static const char bytes[] = "\"{}[]:,0123456789-+.eEtruefalsn\\/ \t\x01\x7f\xff";
    const char *seed_text = getenv("PINT_TEST_SEED");
    unsigned seed = seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)getpid();
    (void)printf("PINT_TEST_SEED=%u\n", seed);
    ASSERT_NO_FATAL(set_up());
    raw_session session;
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    for (int i = 0; i < 20000; i++) {
        memcpy(text, create_text, sizeof(create_text));
        for (int k = rand_r(&seed) % 4; k >= 0; k--) {
            const size_t at = (size_t)rand_r(&seed) % (sizeof(create_text) - 1);
            text[at] = bytes[(size_t)rand_r(&seed) % (sizeof(bytes) - 1)];
        }
        ASSERT_TRUE(raw_send_bytes(session.fd, text, sizeof(create_text) - 1, NULL, 0));
        cJSON *answer = raw_receive(session.fd, NULL, NULL);
        ASSERT_TRUE(answer != NULL);
        cJSON_Delete(answer);
    }
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

/* ---- order ---------------------------------------------------------------------------------- */

TEST(Protocol, NeedsASessionForWhatNeedsOne)
{
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "table.find", "{\"name\":\"n\"}"), PINT_E_STATE);
    EXPECT_EQ(raw_code(fd, "table.drop", "{\"name\":\"n\"}"), PINT_E_STATE);
    EXPECT_EQ(raw_code(fd, "leave", "{}"), PINT_E_STATE);
    EXPECT_EQ(raw_code(fd, "ping", "{}"), 0);
    EXPECT_EQ(close(fd), 0);
    raw_session session;
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_EQ(raw_code(session.fd, "join",
                       "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 ",\"mode\":\"rw\"}",
                       raw_signature()),
              PINT_E_STATE);
    EXPECT_EQ(raw_code(session.fd, "resume", "{\"session\":\"%s\",\"token\":\"%s\"}", session.id,
                       session.token),
              PINT_E_STATE);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(raw_code(session.fd, "hello",
                           "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 "}",
                           raw_signature()),
                  0);
    }
    EXPECT_EQ(raw_code(session.fd, "table.columns", "{\"columns\":[]}"), PINT_E_STATE);
    EXPECT_EQ(raw_code(session.fd, "job.uses", "{\"uses\":[]}"), PINT_E_STATE);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, TellsBothVersionsWhenTheyDiffer)
{
    static const char *const params[] = {
        "{\"protocol\":2,\"layout\":3,\"signature\":1,\"mode\":\"rw\"}",
        "{\"protocol\":1,\"layout\":3,\"signature\":1,\"mode\":\"rw\"}",
        "{\"protocol\":1,\"layout\":3,\"signature\":1,\"mode\":\"rw\"}",
    };
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    for (size_t i = 0; i < 3; i++) {
        cJSON *answer = raw_call(fd, "join", "%s", params[i]);
        EXPECT_EQ(raw_code_of(answer), PINT_E_VERSION);
        const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(error, "message"));
        char signature[16];
        (void)snprintf(signature, sizeof(signature), "%08x", raw_signature());
        EXPECT_TRUE(strstr(text, signature) != NULL);
        cJSON_Delete(answer);
    }
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, AnswersPipelinedRequestsInOrder)
{
    ASSERT_NO_FATAL(set_up());
    raw_session session;
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    char text[256];
    /* a create waits for its memory; what comes after it waits too */
    for (int round = 0; round < 20; round++) {
        for (int i = 1; i <= 60; i++) {
            (void)snprintf(text, sizeof(text),
                           i % 20 == 1
                               ? "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"table.create\","
                                 "\"params\":{\"request\":%d,\"name\":\"t\",\"rows\":100000,"
                                 "\"columns\":[{\"name\":\"a\",\"type\":\"int64\"}]}}"
                               : "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"ping\"}",
                           i, round * 100 + i);
            ASSERT_TRUE(raw_send(session.fd, text));
        }
        for (int i = 1; i <= 60; i++) {
            cJSON *answer = raw_receive(session.fd, NULL, NULL);
            const cJSON *id = cJSON_GetObjectItemCaseSensitive(answer, "id");
            EXPECT_EQ(cJSON_IsNumber(id) ? id->valueint : -1, i);
            cJSON_Delete(answer);
        }
    }
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}

/* ---- clients that do less than they should --------------------------------------------------- */

TEST(Protocol, EndsConnectionsThatSayNothing)
{
    ASSERT_NO_FATAL(set_up());
    const int silent = raw_connect(service.address);
    const int polite = raw_connect(service.address);
    EXPECT_EQ(raw_code(polite, "hello", "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 "}",
                       raw_signature()),
              0);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_TRUE(raw_is_closed(silent));
    EXPECT_GE(ct_now_ms() - start_ms, 1500);
    EXPECT_EQ(raw_code(polite, "ping", "{}"), 0);
    EXPECT_EQ(close(silent), 0);
    EXPECT_EQ(close(polite), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, EndsConnectionsThatDoNotRead)
{
    const char *stat = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stat\"}";
    ASSERT_NO_FATAL(set_up());
    const int fd = raw_connect(service.address);
    EXPECT_EQ(raw_code(fd, "hello", "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 "}",
                       raw_signature()),
              0);
    bool ended = false;
    for (int i = 0; i < 10000 && !ended; i++) {
        ended = !raw_send(fd, stat);
    }
    EXPECT_TRUE(ended);
    EXPECT_TRUE(is_alive());
    EXPECT_EQ(close(fd), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, TakesHalfClosedConnectionsForEnded)
{
    ASSERT_NO_FATAL(set_up());
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        raw_session session;
        ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
        raw_unmap(&session);
        EXPECT_EQ(shutdown(session.fd, how), 0);
        if (how == SHUT_RD) {
            (void)raw_send(session.fd, PING("")); /* the answer cannot be delivered */
        } else if (how == SHUT_WR) {
            EXPECT_TRUE(raw_is_closed(session.fd));
        }
        EXPECT_TRUE(raw_is_back(service.address, &before));
        raw_close(&session);
    }
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, IsNotHeldUpByFiveHundredSilentClients, .timeout_s = 60)
{
    enum { N = 500 };
    static int fds[N];
    ASSERT_NO_FATAL(set_up());
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(service.address);
        ASSERT_GE(fds[i], 0);
        if (i % 2 == 1) {
            (void)raw_send(fds[i], "{\"jsonrpc\"");
        }
    }
    const uint64_t start_ms = ct_now_ms();
    const int good = raw_connect(service.address);
    EXPECT_EQ(raw_code(good, "hello", "{\"protocol\":1,\"layout\":3,\"signature\":%" PRIu32 "}",
                       raw_signature()),
              0);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(raw_code(good, "ping", "{}"), 0);
    }
    EXPECT_LT(ct_now_ms() - start_ms, 1000);
    raw_session session;
    EXPECT_TRUE(raw_join(&session, service.address, "rw", ""));
    EXPECT_TRUE(raw_leave(&session));
    EXPECT_TRUE(raw_is_closed(fds[0]));
    EXPECT_TRUE(raw_is_closed(fds[N - 1]));
    for (int i = 0; i < N; i++) {
        EXPECT_EQ(close(fds[i]), 0);
    }
    EXPECT_EQ(close(good), 0);
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, TakesConnectionsThatComeAndGo)
{
    ASSERT_NO_FATAL(set_up());
    for (int i = 0; i < 3000; i++) {
        const int fd = raw_connect(service.address);
        ASSERT_GE(fd, 0);
        if (i % 3 == 0) {
            (void)raw_send(fd, PING(""));
        }
        EXPECT_EQ(close(fd), 0);
    }
    ASSERT_NO_FATAL(tear_down());
}

TEST(Protocol, SurvivesRunningOutOfDescriptors, .timeout_s = 60)
{
    enum { N = 100 };
    int fds[N];
    raw_session session;
    ASSERT_NO_FATAL(set_up());
    ASSERT_TRUE(raw_join(&session, service.address, "rw", ""));
    const struct rlimit small = {before.fds + 20, before.fds + 20};
    ASSERT_EQ(prlimit((pid_t)before.pid, RLIMIT_NOFILE, &small, NULL), 0);
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(service.address);
        ASSERT_GE(fds[i], 0);
    }
    /* who is in stays in */
    EXPECT_EQ(raw_code(session.fd, "ping", "{}"), 0);
    EXPECT_EQ(raw_make_table(&session, "t", 10, true, NULL, NULL), 0);
    for (int i = 0; i < N; i++) {
        EXPECT_EQ(close(fds[i]), 0);
    }
    EXPECT_TRUE(ct_eventually(is_alive(), 10000));
    /* joins that do not fit are refused, and cost nothing */
    raw_session sessions[12];
    int n_joined = 0;
    for (int i = 0; i < 12; i++) {
        n_joined += raw_join(&sessions[i], service.address, "rw", "") ? 1 : 0;
    }
    EXPECT_GT(n_joined, 0);
    EXPECT_LT(n_joined, 12);
    for (int i = 0; i < 12; i++) {
        raw_close(&sessions[i]);
    }
    EXPECT_EQ(raw_code(session.fd, "table.drop", "{\"name\":\"t\"}"), 0);
    EXPECT_TRUE(raw_leave(&session));
    ASSERT_NO_FATAL(tear_down());
}
