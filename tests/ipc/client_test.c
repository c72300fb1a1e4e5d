/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client against a service that a thread of the test plays: lost connections, resuming, and
 * answers that are none.
 */

#include "ipc/client.h"
#include "ipc/connect.h"
#include "tests/support/ct.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TOKEN "00112233445566778899aabbccddeeff"
#define JOINED                                                                                     \
    "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"" TOKEN                             \
    "\",\"family\":\"00000000000000bb\",\"mode\":\"rw\"}"
#define LONG_MS 10000

static pint_error err;

/* ---- the service ----------------------------------------------------------------------------- */

typedef struct fake {
    char path[108];
    int listener;
    int connection;
    void (*script)(struct fake *f);
    const char *argument; /* of the script */
    pthread_t thread;
    unsigned n_pidfds; /* received */
    unsigned n_wrong;  /* things that were not as the script expects */
    char in[PINTI_WIRE_BYTES_MAX + 1];
    char log[4096]; /* "method " for each message */
} fake;

static void *fake_main(void *argument)
{
    fake *f = argument;
    f->script(f);
    return NULL;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        abort();
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    return address;
}

static int listen_at(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0 ||
        listen(fd, 8) != 0) {
        abort();
    }
    return fd;
}

static void fake_start(fake *f, void (*script)(fake *f), const char *argument)
{
    memset(f, 0, sizeof(*f));
    (void)snprintf(f->path, sizeof(f->path), "%s/s.sock", ct_tmpdir());
    f->listener = listen_at(f->path);
    f->connection = -1;
    f->script = script;
    f->argument = argument;
    if (pthread_create(&f->thread, NULL, fake_main, f) != 0) {
        abort();
    }
}

static void fake_hang_up(fake *f)
{
    if (f->connection >= 0) {
        (void)close(f->connection);
    }
    f->connection = -1;
}

static void fake_end(fake *f)
{
    (void)pthread_join(f->thread, NULL);
    fake_hang_up(f);
    if (f->listener >= 0) {
        (void)close(f->listener);
    }
    (void)unlink(f->path);
    EXPECT_EQ(f->n_wrong, 0);
}

static void fake_accept(fake *f)
{
    fake_hang_up(f);
    f->connection = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    f->n_wrong += f->connection < 0 ? 1 : 0;
}

/* Receive a message, which must be this method. Returns its id. */
static unsigned long fake_expect(fake *f, const char *method)
{
    size_t bytes;
    int fd;
    unsigned n_fds = 0;
    char key[64];
    if (pinti_wire_recv(f->connection, f->in, &bytes, &fd, 1, &n_fds, false) != 0) {
        f->n_wrong++;
        return 0;
    }
    if (n_fds > 0) {
        f->n_pidfds++;
        (void)close(fd);
    }
    (void)snprintf(key, sizeof(key), "\"method\":\"%s\"", method);
    const char *id = strstr(f->in, "\"id\":");
    if (strstr(f->in, key) == NULL || id == NULL) {
        (void)fprintf(stderr, "expected %s, got %s\n", method, f->in);
        f->n_wrong++;
        return 0;
    }
    (void)snprintf(f->log + strlen(f->log), sizeof(f->log) - strlen(f->log), "%s ", method);
    return strtoul(id + 5, NULL, 10);
}

static void fake_send(fake *f, const char *text, unsigned n_fds)
{
    int fds[PINTI_WIRE_FDS_MAX];
    for (unsigned i = 0; i < n_fds; i++) {
        fds[i] = f->listener;
    }
    f->n_wrong += pinti_wire_send(f->connection, text, strlen(text), fds, n_fds, false) != 0;
}

static void fake_answer(fake *f, unsigned long id, const char *kind, const char *text,
                        unsigned n_fds)
{
    char out[2048];
    (void)snprintf(out, sizeof(out), "{\"jsonrpc\":\"2.0\",\"id\":%lu,\"%s\":%s}", id, kind, text);
    fake_send(f, out, n_fds);
}

static void fake_join(fake *f)
{
    fake_accept(f);
    fake_answer(f, fake_expect(f, "join"), "result", JOINED, PINTI_POOL_FDS);
}

static void fake_resume(fake *f)
{
    fake_accept(f);
    const unsigned long id = fake_expect(f, "resume");
    f->n_wrong += strstr(f->in, "\"token\":\"" TOKEN "\"") == NULL;
    f->n_wrong += strstr(f->in, "\"session\":\"00000000000000aa\"") == NULL;
    fake_answer(f, id, "result", "{\"incarnation\":2}", 0);
}

/* ---- the client ------------------------------------------------------------------------------ */

static pinti_client *client;
static pinti_joined joined;

static pint_status open_and_join(const fake *f, int ms)
{
    client = NULL;
    pint_status status = pinti_client_open(f->path, pinti_clock_ms() + ms, &client, &err);
    if (status == PINT_OK) {
        status = pinti_client_join(client, true, 0xbb, pinti_clock_ms() + ms, &joined, &err);
    }
    if (status == PINT_OK) {
        for (unsigned i = 0; i < PINTI_POOL_FDS; i++) {
            EXPECT_EQ(close(joined.fds[i]), 0);
        }
    }
    return status;
}

static pint_status ping(void)
{
    return pinti_client_request(client, "ping", NULL, LONG_MS, NULL, &err);
}

static void script_join(fake *f)
{
    fake_join(f);
}

TEST(Client, JoinsAndSendsAPidfdOfItself)
{
    fake f;
    fake_start(&f, script_join, NULL);
    EXPECT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_EQ(joined.session, 0xaa);
    EXPECT_EQ(joined.index, 3);
    EXPECT_EQ(joined.family, 0xbb);
    pinti_client_close(client);
    fake_end(&f);
    EXPECT_EQ(f.n_pidfds, 1);
    EXPECT_NE(strstr(f.in, "\"pidfd\":true"), NULL);
    EXPECT_NE(strstr(f.in, "\"family\":\"00000000000000bb\""), NULL);
    EXPECT_NE(strstr(f.in, "\"mode\":\"rw\""), NULL);
}

static void script_answer_join(fake *f)
{
    fake_accept(f);
    const unsigned long id = fake_expect(f, "join");
    fake_answer(f, id, "result", f->argument, PINTI_POOL_FDS);
}

TEST(Client, RefusesResultsOfJoinThatAreNone)
{
    const char *const bad[] = {
        "{}",
        "[]",
        "null",
        "{\"session\":\"0000000000000000\",\"index\":3,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\",\"mode\":\"rw\"}",
        "{\"session\":\"00000000000000aa\",\"index\":0,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\",\"mode\":\"rw\"}",
        "{\"session\":\"00000000000000aa\",\"index\":16384,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\",\"mode\":\"rw\"}",
        "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"0011\","
        "\"family\":\"00000000000000bb\",\"mode\":\"rw\"}",
        "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"" TOKEN
        "\",\"family\":\"0000000000000000\",\"mode\":\"rw\"}",
        "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\",\"mode\":\"ro\"}",
        "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\",\"mode\":\"rw\",\"more\":1}",
        "{\"session\":\"00000000000000aa\",\"index\":3,\"token\":\"" TOKEN
        "\",\"family\":\"00000000000000bb\"}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake f;
        fake_start(&f, script_answer_join, bad[i]);
        if (open_and_join(&f, LONG_MS) != PINT_E_PROTOCOL) {
            FAIL("taken: %s", bad[i]);
        }
        pinti_client_close(client);
        fake_end(&f);
    }
}

static void script_count_fds(fake *f)
{
    fake_accept(f);
    const unsigned long id = fake_expect(f, "join");
    fake_answer(f, id, "result", JOINED, (unsigned)strtoul(f->argument, NULL, 10));
}

TEST(Client, RefusesJoinWithAnotherNumberOfDescriptors)
{
    const char *const counts[] = {"0", "1", "5", "7", "8"};
    for (size_t i = 0; i < 5; i++) {
        fake f;
        fake_start(&f, script_count_fds, counts[i]);
        EXPECT_STATUS(PINT_E_PROTOCOL, open_and_join(&f, LONG_MS), &err);
        pinti_client_close(client);
        fake_end(&f);
    }
}

static void script_join_then_send(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "ping");
    fake_send(f, f->argument, 0);
}

TEST(Client, RefusesMessagesThatAreNoAnswers)
{
    const char *const bad[] = {
        "x",
        "{}",
        "[]",
        "{\"jsonrpc\":\"2.0\",\"id\":2}",
        "{\"jsonrpc\":\"1.0\",\"id\":2,\"result\":{}}",
        "{\"jsonrpc\":2.0,\"id\":2,\"result\":{}}",
        "{\"id\":2,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2.5,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":-1,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{},\"error\":{\"code\":-5,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{},\"x\":1}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"id\":2,\"result\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":\"no\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-5}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":\"-5\",\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":0,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":100,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-99,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-1e9,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32600,\"message\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":2}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        fake f;
        fake_start(&f, script_join_then_send, bad[i]);
        ASSERT_OK(open_and_join(&f, LONG_MS), &err);
        if (ping() != PINT_E_PROTOCOL) {
            FAIL("taken: %s", bad[i]);
        }
        pinti_client_close(client);
        fake_end(&f);
    }
}

static void script_malformed(fake *f)
{
    fake_join(f);
    const unsigned long id = fake_expect(f, "ping");
    if (strcmp(f->argument, "fds") == 0) {
        fake_answer(f, id, "result", "{}", 2);
        return;
    }
    static char text[PINTI_WIRE_BYTES_MAX + 100];
    memset(text, 'x', sizeof(text));
    f->n_wrong += send(f->connection, text, sizeof(text), MSG_NOSIGNAL) != (ssize_t)sizeof(text);
}

TEST(Client, RefusesMalformedPackets)
{
    const char *const kinds[] = {"fds", "long"};
    for (size_t i = 0; i < 2; i++) {
        fake f;
        fake_start(&f, script_malformed, kinds[i]);
        ASSERT_OK(open_and_join(&f, LONG_MS), &err);
        EXPECT_STATUS(PINT_E_PROTOCOL, ping(), &err);
        pinti_client_close(client);
        fake_end(&f);
    }
}

static void script_error(fake *f)
{
    fake_join(f);
    const char *const errors[] = {
        "{\"code\":-4,\"message\":\"the name \\u001b[31mx\\n is taken\"}",
        "{\"code\":-32601,\"message\":\"no such method\"}",
    };
    for (int i = 0; i < 2; i++) {
        fake_answer(f, fake_expect(f, "ping"), "error", errors[i], 0);
    }
    fake_answer(f, fake_expect(f, "ping"), "result", "{}", 0);
}

TEST(Client, PassesErrorsOnAndKeepsTheConnection)
{
    fake f;
    fake_start(&f, script_error, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_STATUS(PINT_E_EXISTS, ping(), &err);
    EXPECT_STREQ(err.message, "the name ?[31mx? is taken");
    EXPECT_STATUS(PINT_E_UNSUPPORTED, ping(), &err);
    EXPECT_OK(ping(), &err);
    pinti_client_close(client);
    fake_end(&f);
}

/* ---- lost connections ------------------------------------------------------------------------ */

static void script_hang_up(fake *f)
{
    fake_accept(f);
    if (strcmp(f->argument, "after") == 0) {
        (void)fake_expect(f, "join");
    }
    fake_hang_up(f);
}

TEST(Client, ReportsAConnectionLostBeforeTheAnswerToJoin)
{
    const char *const when[] = {"before", "after"};
    for (size_t i = 0; i < 2; i++) {
        fake f;
        fake_start(&f, script_hang_up, when[i]);
        EXPECT_EQ(open_and_join(&f, LONG_MS), PINTI_CLIENT_LOST);
        pinti_client_close(client);
        fake_end(&f);
    }
}

static void script_resume(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "ping");
    fake_hang_up(f); /* the answer is lost */
    fake_resume(f);
    fake_answer(f, fake_expect(f, "ping"), "result", "{}", 0);
}

TEST(Client, ResumesAndRepeatsARequestWhoseAnswerWasLost)
{
    fake f;
    fake_start(&f, script_resume, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_OK(ping(), &err);
    pinti_client_close(client);
    fake_end(&f);
    EXPECT_STREQ(f.log, "join ping resume ping ");
    EXPECT_EQ(f.n_pidfds, 2);
}

/* Made of three messages: "a 1", "b", "c", with the request number in the first. */
static pint_status make_three(void *context, uint64_t request, unsigned part, char **out_params,
                              bool *out_more, pint_error *e)
{
    unsigned *n_made = context;
    char text[64];
    (void)e;
    (*n_made)++;
    (void)snprintf(text, sizeof(text), "{\"part\":%u,\"request\":%lu}", part,
                   (unsigned long)request);
    *out_params = cJSON_malloc(sizeof(text));
    memcpy(*out_params, text, sizeof(text));
    *out_more = part < 2;
    return PINT_OK;
}

static void expect_part(fake *f, unsigned part, bool answer)
{
    char key[64];
    const unsigned long id = fake_expect(f, part == 0 ? "first" : "more");
    (void)snprintf(key, sizeof(key), "{\"part\":%u,\"request\":%s}", part, f->argument);
    f->n_wrong += strstr(f->in, key) == NULL;
    if (answer) {
        fake_answer(f, id, "result", part == 2 ? "{\"done\":1}" : "{}", 0);
    }
}

static void script_parts(fake *f)
{
    fake_join(f);
    expect_part(f, 0, true);
    expect_part(f, 1, true);
    expect_part(f, 2, false);
    fake_resume(f);
    expect_part(f, 0, true);
    expect_part(f, 1, false);
    fake_resume(f);
    expect_part(f, 0, true);
    expect_part(f, 1, true);
    expect_part(f, 2, true);
}

TEST(Client, RepeatsACreateFromItsFirstMessageUnderTheSameNumber)
{
    fake f;
    unsigned n_made = 0;
    const pinti_exchange exchange = {.method = "first",
                                     .more_method = "more",
                                     .make = make_three,
                                     .context = &n_made,
                                     .timeout_ms = LONG_MS,
                                     .numbered = true};
    fake_start(&f, script_parts, "1");
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    cJSON *result = NULL;
    EXPECT_OK(pinti_client_call(client, &exchange, &result, &err), &err);
    EXPECT_TRUE(cJSON_HasObjectItem(result, "done"));
    cJSON_Delete(result);
    EXPECT_EQ(n_made, 8);
    pinti_client_close(client);
    fake_end(&f);
}

static bool yes(void *context)
{
    *(unsigned *)context += 1;
    return true;
}

static void script_resume_only(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "change");
    fake_resume(f);
}

TEST(Client, DoesNotRepeatAChangeThatTookEffect)
{
    fake f;
    unsigned n_asked = 0;
    const pinti_exchange exchange = {
        .method = "change", .took_effect = yes, .context = &n_asked, .timeout_ms = LONG_MS};
    fake_start(&f, script_resume_only, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    cJSON *result = (cJSON *)(uintptr_t)&f; /* must be set to NULL */
    EXPECT_OK(pinti_client_call(client, &exchange, &result, &err), &err);
    EXPECT_EQ(result, NULL);
    EXPECT_EQ(n_asked, 1);
    pinti_client_close(client);
    fake_end(&f);
    EXPECT_STREQ(f.log, "join change resume ");
}

static void script_die_each_time(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "ping");
    for (int i = 0; i < 2; i++) {
        fake_resume(f);
        (void)fake_expect(f, "ping");
    }
    fake_hang_up(f);
}

TEST(Client, GivesUpOnARequestThatEndsTheServiceThreeTimes)
{
    fake f;
    fake_start(&f, script_die_each_time, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_STATUS(PINT_E_GONE, ping(), &err);
    pinti_client_close(client);
    fake_end(&f);
}

static void script_refuse_resume(fake *f)
{
    fake_join(f);
    fake_accept(f);
    fake_answer(f, fake_expect(f, "resume"), "error",
                "{\"code\":-3,\"message\":\"no such session\"}", 0);
}

TEST(Client, CallsThePoolStaleForEverWhenTheSessionIsUnknown)
{
    fake f;
    fake_start(&f, script_refuse_resume, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_TRUE(ct_eventually(f.connection < 0 || true, 1));
    EXPECT_STATUS(PINT_E_STALE, ping(), &err);
    fake_end(&f);
    EXPECT_STATUS(PINT_E_STALE, ping(), &err);
    EXPECT_STATUS(PINT_E_STALE, pinti_client_alive(client, &err), &err);
    pinti_client_leave(client);
}

static void script_join_and_go(fake *f)
{
    fake_join(f);
    (void)close(f->listener);
    f->listener = -1;
    fake_hang_up(f);
}

TEST(Client, CallsTheServiceGoneAfterASecondWithoutIt)
{
    fake f;
    fake_start(&f, script_join_and_go, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    (void)pthread_join(f.thread, NULL);
    uint64_t start_ms = ct_now_ms();
    EXPECT_STATUS(PINT_E_GONE, ping(), &err);
    EXPECT_GE(ct_now_ms() - start_ms, 900);
    EXPECT_LE(ct_now_ms() - start_ms, 3000);
    start_ms = ct_now_ms();
    EXPECT_STATUS(PINT_E_GONE, pinti_client_alive(client, &err), &err);
    EXPECT_GE(ct_now_ms() - start_ms, 900);
    EXPECT_LE(ct_now_ms() - start_ms, 3000);
    (void)pinti_client_post(client, "table.closed", NULL); /* does nothing, at once */

    /* it comes back */
    (void)unlink(f.path);
    f.listener = listen_at(f.path);
    f.script = fake_resume;
    ASSERT_EQ(pthread_create(&f.thread, NULL, fake_main, &f), 0);
    EXPECT_OK(pinti_client_alive(client, &err), &err);
    pinti_client_close(client);
    fake_end(&f);
}

static void script_never_answer_resume(fake *f)
{
    fake_join(f);
    fake_accept(f);
    (void)fake_expect(f, "resume");
    char byte;
    f->n_wrong += recv(f->connection, &byte, 1, 0) != 0; /* until the client gives up */
}

TEST(Client, CallsAServiceGoneThatTakesConnectionsButDoesNotResume)
{
    fake f;
    fake_start(&f, script_never_answer_resume, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_STATUS(PINT_E_GONE, ping(), &err);
    EXPECT_LE(ct_now_ms() - start_ms, 3000);
    pinti_client_close(client);
    fake_end(&f);
}

static void script_silent(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "ping");
    char byte;
    f->n_wrong += recv(f->connection, &byte, 1, 0) != 0;
}

TEST(Client, TimesOutOnASilentService)
{
    fake f;
    fake_start(&f, script_silent, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_OK(pinti_client_alive(client, &err), &err);
    const uint64_t start_ms = ct_now_ms();
    EXPECT_STATUS(PINT_E_TIMEOUT, pinti_client_request(client, "ping", NULL, 100, NULL, &err),
                  &err);
    EXPECT_GE(ct_now_ms() - start_ms, 99);
    pinti_client_close(client);
    fake_end(&f);
}

/* ---- posts ----------------------------------------------------------------------------------- */

static void script_posts(fake *f)
{
    unsigned long ids[8];
    fake_join(f);
    for (int i = 0; i < 3; i++) {
        ids[i] = fake_expect(f, "note");
    }
    ids[3] = fake_expect(f, "ping");
    for (int i = 0; i < 4; i++) {
        fake_answer(f, ids[i], "result", "{}", 0);
    }
    fake_answer(f, fake_expect(f, "note"), "error", "{\"code\":-3,\"message\":\"x\"}", 0);
    fake_answer(f, fake_expect(f, "ping"), "result", "{}", 0);
}

TEST(Client, PassesOverTheAnswersToPosts)
{
    fake f;
    fake_start(&f, script_posts, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    for (int i = 0; i < 3; i++) {
        (void)pinti_client_post(client, "note", NULL);
    }
    EXPECT_OK(ping(), &err);
    (void)pinti_client_post(client, "note", NULL);
    EXPECT_OK(ping(), &err);
    pinti_client_close(client);
    fake_end(&f);
}

static void script_answer_for_ever(fake *f)
{
    fake_join(f);
    (void)fake_expect(f, "ping");
    const char *text = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
    while (pinti_wire_send(f->connection, text, strlen(text), NULL, 0, false) == 0) {
    }
}

TEST(Client, IsNotHeldUpByAnswersToNothing)
{
    fake f;
    fake_start(&f, script_answer_for_ever, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    EXPECT_STATUS(PINT_E_PROTOCOL, ping(), &err);
    pinti_client_close(client);
    fake_end(&f);
}

static void script_ignore_posts(fake *f)
{
    fake_join(f);
    size_t bytes;
    unsigned n = 0;
    while (pinti_wire_recv(f->connection, f->in, &bytes, NULL, 0, NULL, false) == 0) {
        n++;
    }
    f->n_wrong += n != 32;
}

TEST(Client, StopsPostingToAServiceThatDoesNotAnswer)
{
    fake f;
    fake_start(&f, script_ignore_posts, NULL);
    ASSERT_OK(open_and_join(&f, LONG_MS), &err);
    for (int i = 0; i < 1000; i++) {
        (void)pinti_client_post(client, "note", NULL);
    }
    pinti_client_close(client);
    fake_end(&f);
}

/* ---- who listens ----------------------------------------------------------------------------- */

TEST(Connect, TellsWhatIsAtThePath)
{
    char path[600];
    int fd = -1;
    (void)snprintf(path, sizeof(path), "%s/x.sock", ct_tmpdir());
    EXPECT_STATUS(PINT_E_NO_SERVICE, pinti_connect(path, 0, &fd, &err), &err);
    const int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    EXPECT_EQ(close(file), 0);
    EXPECT_STATUS(PINT_E_INVALID, pinti_connect(path, 0, &fd, &err), &err);
    EXPECT_EQ(unlink(path), 0);
    EXPECT_EQ(mkdir(path, 0700), 0);
    EXPECT_STATUS(PINT_E_INVALID, pinti_connect(path, 0, &fd, &err), &err);
    EXPECT_EQ(rmdir(path), 0);

    char real[600];
    (void)snprintf(real, sizeof(real), "%s/real.sock", ct_tmpdir());
    const int listener = listen_at(real);
    ASSERT_EQ(symlink(real, path), 0);
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_connect(path, 0, &fd, &err), &err);
    EXPECT_EQ(unlink(path), 0);
    EXPECT_OK(pinti_connect(real, 0, &fd, &err), &err);
    EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_EQ(close(fd), 0);
    EXPECT_EQ(close(listener), 0);
    EXPECT_STATUS(PINT_E_NO_SERVICE, pinti_connect(real, 0, &fd, &err), &err);
    EXPECT_EQ(unlink(real), 0);

    /* a stream socket */
    const struct sockaddr_un address = address_of(real);
    const int stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(bind(stream, (const struct sockaddr *)(const void *)&address, sizeof(address)), 0);
    ASSERT_EQ(listen(stream, 1), 0);
    EXPECT_STATUS(PINT_E_INVALID, pinti_connect(real, 0, &fd, &err), &err);
    EXPECT_EQ(close(stream), 0);
}

TEST(Connect, WaitsForAFullQueueUntilTheDeadline)
{
    char path[600];
    int fds[64];
    int n = 0;
    (void)snprintf(path, sizeof(path), "%s/x.sock", ct_tmpdir());
    const struct sockaddr_un address = address_of(path);
    const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(bind(listener, (const struct sockaddr *)(const void *)&address, sizeof(address)), 0);
    ASSERT_EQ(listen(listener, 1), 0);
    pint_status status = PINT_OK;
    while (n < 64 && status == PINT_OK) {
        status = pinti_connect(path, pinti_clock_ms() + 50, &fds[n], &err);
        n += status == PINT_OK;
    }
    EXPECT_STATUS(PINT_E_TIMEOUT, status, &err);
    for (int i = 0; i < n; i++) {
        EXPECT_EQ(close(fds[i]), 0);
    }
    EXPECT_EQ(close(listener), 0);
}

PROC(listen_as_stranger)
{
    CT_REQUIRE(argc == 3);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const struct sockaddr_un address = address_of(argv[1]);
    CT_REQUIRE(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) == 0);
    CT_REQUIRE(setuid((uid_t)strtoul(argv[2], NULL, 10)) == 0);
    CT_REQUIRE(listen(fd, 8) == 0);
    ct_ready();
    CT_REQUIRE(ct_wait_go());
    CT_REQUIRE(close(fd) == 0);
    return 0;
}

TEST(Connect, RefusesAStrangerAndTakesTheOwnerOfTheFolder)
{
    if (geteuid() != 0) {
        SKIP("needs root, to let another user listen");
    }
    char folder[600];
    char path[700];
    int fd = -1;
    (void)snprintf(folder, sizeof(folder), "%s/f", ct_tmpdir());
    (void)snprintf(path, sizeof(path), "%s/x.sock", folder);
    ASSERT_EQ(mkdir(folder, 0755), 0);
    const char *const arguments[] = {path, "12345", NULL};
    const pid_t child = ct_spawn("listen_as_stranger", arguments);
    ASSERT_TRUE(ct_wait_ready(child));
    EXPECT_STATUS(PINT_E_PERMISSION, pinti_connect(path, 0, &fd, &err), &err);
    EXPECT_NE(strstr(err.message, "12345"), NULL);
    ASSERT_EQ(chown(folder, 12345, 12345), 0);
    EXPECT_OK(pinti_connect(path, 0, &fd, &err), &err);
    EXPECT_EQ(close(fd), 0);
    EXPECT_TRUE(ct_go(child));
    EXPECT_EQ(ct_wait(child), 0);
    EXPECT_EQ(chown(folder, 0, 0), 0);
}
