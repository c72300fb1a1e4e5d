/* SPDX-License-Identifier: Apache-2.0 */
/* The strict border in front of cJSON: what passes, what does not, and every failing malloc. */

#include "ipc/json.h"
#include "tests/support/ct.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pint_error err;

static pint_status parse_bytes(const char *text, size_t bytes)
{
    /* a copy of exactly this size: a sanitizer sees any read beyond it */
    char *copy = malloc(bytes > 0 ? bytes : 1);
    cJSON *root = NULL;
    if (copy == NULL) {
        return PINT_E_NO_MEMORY;
    }
    memcpy(copy, text, bytes);
    const pint_status status = pinti_json_parse(copy, bytes, &root, &err);
    if (status != PINT_OK) {
        EXPECT_EQ(root, NULL);
    }
    cJSON_Delete(root);
    free(copy);
    return status;
}

static pint_status parse(const char *text)
{
    return parse_bytes(text, strlen(text));
}

/* A text of count times piece between head and tail, in a buffer of the caller's to free. */
static char *repeat(const char *head, const char *piece, size_t count, const char *tail)
{
    const size_t piece_bytes = strlen(piece);
    char *text = malloc(strlen(head) + piece_bytes * count + strlen(tail) + 1);
    if (text == NULL) {
        abort();
    }
    char *at = stpcpy(text, head);
    for (size_t i = 0; i < count; i++) {
        at = stpcpy(at, piece);
    }
    (void)stpcpy(at, tail);
    return text;
}

static pint_status parse_repeat(const char *head, const char *piece, size_t count, const char *tail)
{
    char *text = repeat(head, piece, count, tail);
    const pint_status status = parse(text);
    free(text);
    return status;
}

TEST(Json, AcceptsEveryKindOfValue)
{
    /* clang-format off */
    const char *const good[] = {
        "0",          "-0",
        "12",         "-1.5e+3",
        "1E-2",       "0.0",
        "9007199254740992", "-9007199254740992",
        "true",       "false",
        "null",       "\"\"",
        "[]",         "{}",
        " \t\r\n{ \"a\" : [ 1 , 2 ] , \"A\" : { } } \n",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"",
        "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf \x7f\"",
        "{\"\":1}",
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (parse(good[i]) != PINT_OK) {
            FAIL("refused: %s (%s)", good[i], err.message);
        }
    }
}

TEST(Json, RefusesWhatIsNotJson)
{
    /* clang-format off */
    const char *const bad[] = {
        "",           " ",         "\xef\xbb\xbf{}", "{\"a\":1} x", "{}{}",      "1 2",
        "01",         "-01",       "00",        "0x10",      "1.",        ".5",
        "-.5",        "1e",        "1e+",       "+1",        "-",         "--1",
        "1.e3",       "NaN",       "Infinity",  "-Infinity", "nan",       "inf",
        "tru",        "truex",     "True",      "nul",       "nulll",     "undefined",
        "'a'",        "\"a",       "\"\\\"",    "\"\\x\"",   "\"\\u12\"", "\"\\u12g4\"",
        "\"\\",       "\"\\u",     "[",         "{",         "]",         "}",
        "[1",         "[1,",       "[1,]",      "[,1]",      "[1 2]",     "[1}",
        "{\"a\"}",    "{\"a\":}",  "{\"a\":1,}", "{,}",      "{a:1}",     "{1:1}",
        "{\"a\" 1}",  "{\"a\":1]", "{\"a\":1 \"b\":2}", "{\"a\":1", "{\"a\"", "{\"a\":",
        "[1]]",       "// c\n1",   "/* c */ 1", "[1] // c",  "#",         "\v1",
        "\f1",        "\xc2\xa0[]", "1,",     ":",         ",",         "\\",
        "[[[[",       "{\"a\":{\"a\":{\"a\":", "\"\t\"",    "\"\n\"",    "\"\x1f\"",
        "\"\\u0000\"", "{\"\\u0000\":1}", "\"a\\u0000b\"",
        /* surrogates: lone low, lone high, high and no low, reversed */
        "\"\\udc00\"", "\"\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"",
        "\"\\ud800\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud83d\\u\"", "\"\\ud83d\\ude0\"",
        /* UTF-8: stray continuation, overlong, surrogates, too large, cut */
        "\"\x80\"", "\"\xbf\"", "\"\xc0\xaf\"", "\"\xc1\xbf\"", "\"\xe0\x80\xaf\"",
        "\"\xe0\x9f\xbf\"", "\"\xf0\x80\x80\xaf\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xed\xa0\x80\"",
        "\"\xed\xbf\xbf\"", "\"\xf4\x90\x80\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xfe\"",
        "\"\xc3\"", "\"\xe2\x82\"", "\"\xf0\x9f\x98\"", "\xc3\xa9",
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const pint_status status = parse(bad[i]);
        if (status != PINT_E_INVALID) {
            FAIL("number %zu, %s: status %d", i, bad[i], status);
        }
        EXPECT_TRUE(strncmp(err.message, "JSON", 4) == 0);
    }
}

TEST(Json, RefusesZeroBytesAnywhere)
{
    const char texts[][8] = {"{}\0", "\0{}", "[1\0]", "\"a\0b\"", "[1,\0 2]"};
    const size_t bytes[] = {3, 3, 4, 5, 7};
    for (size_t i = 0; i < 5; i++) {
        EXPECT_STATUS(PINT_E_INVALID, parse_bytes(texts[i], bytes[i]), NULL);
    }
}

TEST(Json, RefusesAMessageCutAtAnyByte)
{
    const char *text =
        "{\"jsonrpc\":\"2.0\",\"id\":12,\"method\":\"table.create\",\"params\":"
        "{\"name\":\"\xe2\x82\xac \\ud83d\\ude00\",\"rows\":\"18446744073709551615\","
        "\"x\":[-1.5e-3,true,false,null,{}],\"more\":false}}";
    const size_t bytes = strlen(text);
    ASSERT_OK(parse_bytes(text, bytes), &err);
    for (size_t cut = 0; cut < bytes; cut++) {
        EXPECT_STATUS(PINT_E_INVALID, parse_bytes(text, cut), NULL);
    }
}

/* No status but these three, whatever one byte is. A sanitizer watches. */
TEST(Json, SurvivesAnyByteAtAnyPlace)
{
    const char *text = "{\"a\":[1,-0.5e3,\"\\u00e9\xc3\xa9\",true,null],\"b\":{\"c\":\"12\"}}";
    const size_t bytes = strlen(text);
    char changed[128];
    for (size_t at = 0; at < bytes; at++) {
        memcpy(changed, text, bytes);
        for (int value = 0; value < 256; value++) {
            changed[at] = (char)value;
            const pint_status status = parse_bytes(changed, bytes);
            EXPECT_TRUE(status == PINT_OK || status == PINT_E_INVALID || status == PINT_E_LIMIT);
        }
    }
}

TEST(Json, LimitsDepth)
{
    char text[80];
    for (int depth = 15; depth <= 18; depth++) {
        int at = 0;
        for (int i = 0; i < depth; i++) {
            text[at++] = '[';
        }
        for (int i = 0; i < depth; i++) {
            text[at++] = ']';
        }
        text[at] = '\0';
        EXPECT_STATUS(depth <= PINTI_JSON_DEPTH_MAX ? PINT_OK : PINT_E_LIMIT, parse(text), &err);
    }
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("", "[", 1001, ""), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("", "{\"a\":", 1001, "1"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("", "[", 65536, ""), NULL);
}

TEST(Json, LimitsTheNumberOfValues)
{
    /* the array counts as one */
    EXPECT_OK(parse_repeat("[", "0,", PINTI_JSON_NODES_MAX - 2, "0]"), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("[", "0,", PINTI_JSON_NODES_MAX - 1, "0]"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("[", "0,", 32000, "0]"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("[", "{},", 20000, "0]"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("{", "\"a\":0,", 10000, "\"b\":0}"), NULL);
}

TEST(Json, LimitsStringsByTheirDecodedBytes)
{
    EXPECT_OK(parse_repeat("\"", "x", 4096, "\""), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("\"", "x", 4097, "\""), NULL);
    EXPECT_OK(parse_repeat("\"", "\\n", 4096, "\""), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("\"", "\\n", 4097, "\""), NULL);
    EXPECT_OK(parse_repeat("\"", "\\ud83d\\ude00", 1024, "\""), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("\"", "\\ud83d\\ude00", 1025, "\""), NULL);
    EXPECT_OK(parse_repeat("\"", "\\u20ac", 1365, "\""), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("\"", "\\u20ac", 1366, "\""), NULL);
    EXPECT_OK(parse_repeat("{\"", "k", 4096, "\":1}"), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("{\"", "k", 4097, "\":1}"), NULL);
}

TEST(Json, LimitsNumbers)
{
    EXPECT_OK(parse_repeat("0.", "1", 38, ""), &err);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("0.", "1", 39, ""), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("", "1", 60, ""), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse_repeat("1e", "0", 1000, "1"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse("9007199254740993"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse("-9007199254740993"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse("9223372036854775808"), NULL);
    EXPECT_STATUS(PINT_E_LIMIT, parse("18446744073709551615"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("1e999"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("[-1e999]"), NULL);
    EXPECT_OK(parse("1e-999"), &err);
}

TEST(Json, RefusesDuplicateNamesAlsoWhenTheyAreSpelledDifferently)
{
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"a\":1,\"a\":1}"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"a\":1,\"b\":2,\"\\u0061\":1}"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("[{\"x\":{\"/\":1,\"\\/\":1}}]"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"\":1,\"\":2}"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"\xc3\xa9\":1,\"\\u00e9\":2}"), NULL);
    EXPECT_OK(parse("{\"a\":1,\"A\":2,\"b\":{\"a\":3},\"c\":[{\"a\":1},{\"a\":1}]}"), &err);
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"x\x1b\":1}"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("{\"\\u001b[31m\":1,\"\\u001b[31m\":1}"), NULL);
    EXPECT_EQ(strchr(err.message, '\x1b'), NULL); /* safe to print */
}

TEST(Json, FindsADuplicateAmongThousandsOfNames, .timeout_s = 20)
{
    const size_t room = 1 << 17;
    char *text = malloc(room);
    ASSERT_NE(text, NULL);
    size_t at = 1;
    text[0] = '{';
    for (int i = 0; i < 8000; i++) {
        at += (size_t)snprintf(text + at, room - at, "\"%d\":0,", i);
    }
    (void)snprintf(text + at, room - at, "\"x\":0}");
    EXPECT_OK(parse(text), &err);
    (void)snprintf(text + at, room - at, "\"4711\":0}");
    EXPECT_STATUS(PINT_E_INVALID, parse(text), NULL);
    free(text);
}

/* ---- members ------------------------------------------------------------------------------- */

static cJSON *must_parse(const char *text)
{
    cJSON *root = NULL;
    if (pinti_json_parse(text, strlen(text), &root, &err) != PINT_OK) {
        (void)fprintf(stderr, "test text: %s\n", err.message);
        abort();
    }
    return root;
}

TEST(JsonMember, TakesIntegersAsNumbersOrDecimalStrings)
{
    cJSON *root = must_parse(
        "{\"zero\":0,\"minus_zero\":-0,\"big\":9007199254740992,\"e\":1e3,\"whole\":4096.0,"
        "\"s0\":\"0\",\"s1\":\"1\",\"smax\":\"18446744073709551615\",\"s53\":"
        "\"9007199254740993\"}");
    const struct {
        const char *key;
        uint64_t value;
    } good[] = {{"zero", 0}, {"minus_zero", 0},    {"big", 1ull << 53},
                {"e", 1000}, {"whole", 4096},      {"s0", 0},
                {"s1", 1},   {"smax", UINT64_MAX}, {"s53", (1ull << 53) + 1}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t value = 77;
        EXPECT_OK(pinti_json_u64(root, good[i].key, UINT64_MAX, &value, &err), &err);
        EXPECT_EQ(value, good[i].value);
    }
    cJSON_Delete(root);
}

TEST(JsonMember, RefusesWhatIsNoIntegerInRange)
{
    /* clang-format off */
    const char *const bad[] = {
        "-1",    "0.1",  "4096.5",   "1e16",     "1e300",   "-1e300",  "\"\"",     "\"01\"",
        "\"00\"", "\"-1\"", "\"+1\"", "\" 1\"",  "\"1 \"",  "\"1e3\"", "\"0x10\"", "\"1.0\"",
        "\"18446744073709551616\"", "\"99999999999999999999999\"", "\"\xd9\xa1\"", "null",
        "true",  "[]",   "{}",       "\"abc\"",
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[80];
        uint64_t value = 77;
        (void)snprintf(text, sizeof(text), "{\"n\":%s}", bad[i]);
        cJSON *root = must_parse(text);
        EXPECT_STATUS(PINT_E_INVALID, pinti_json_u64(root, "n", UINT64_MAX, &value, &err), NULL);
        EXPECT_NE(strstr(err.message, "'n'"), NULL);
        EXPECT_STATUS(PINT_E_INVALID, pinti_json_u64_or(root, "n", UINT64_MAX, 3, &value, &err),
                      NULL);
        EXPECT_EQ(value, 77);
        cJSON_Delete(root);
    }
}

TEST(JsonMember, ChecksTheMaximumAndFallsBackOnlyWhenAbsent)
{
    cJSON *root = must_parse("{\"n\":11,\"N\":1}");
    uint64_t value = 77;
    EXPECT_STATUS(PINT_E_RANGE, pinti_json_u64(root, "n", 10, &value, &err), NULL);
    EXPECT_EQ(value, 77);
    EXPECT_OK(pinti_json_u64(root, "n", 11, &value, &err), &err);
    EXPECT_EQ(value, 11);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_u64(root, "m", 10, &value, &err), NULL);
    EXPECT_OK(pinti_json_u64_or(root, "m", 10, 5, &value, &err), &err);
    EXPECT_EQ(value, 5);
    EXPECT_OK(pinti_json_u64(root, "N", 10, &value, &err), &err);
    EXPECT_EQ(value, 1);
    cJSON_Delete(root);
}

TEST(JsonMember, GivesStringsBoolsArraysAndHex)
{
    cJSON *root = must_parse("{\"s\":\"t\\u00e9xt\",\"b\":true,\"f\":false,\"a\":[1],\"n\":null,"
                             "\"h\":\"00ffAB0123456789\",\"h15\":\"00ffAB012345678\","
                             "\"h17\":\"00ffAB01234567890\",\"hx\":\"00ffAB012345678g\"}");
    const char *text = NULL;
    bool flag = false;
    const cJSON *array = NULL;
    uint64_t value = 0;
    EXPECT_OK(pinti_json_string(root, "s", &text, &err), &err);
    EXPECT_STREQ(text, "t\xc3\xa9xt");
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_string(root, "b", &text, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_string(root, "S", &text, &err), NULL);
    EXPECT_OK(pinti_json_string_or(root, "none", "fallback", &text, &err), &err);
    EXPECT_STREQ(text, "fallback");
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_string_or(root, "n", "fallback", &text, &err), NULL);

    EXPECT_OK(pinti_json_bool_or(root, "b", false, &flag, &err), &err);
    EXPECT_TRUE(flag);
    EXPECT_OK(pinti_json_bool_or(root, "f", true, &flag, &err), &err);
    EXPECT_FALSE(flag);
    EXPECT_OK(pinti_json_bool_or(root, "none", true, &flag, &err), &err);
    EXPECT_TRUE(flag);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_bool_or(root, "n", true, &flag, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_bool_or(root, "s", true, &flag, &err), NULL);

    EXPECT_OK(pinti_json_array(root, "a", &array, &err), &err);
    EXPECT_EQ(cJSON_GetArraySize(array), 1);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_array(root, "s", &array, &err), NULL);

    EXPECT_OK(pinti_json_hex64(root, "h", &value, &err), &err);
    EXPECT_EQ(value, 0x00ffab0123456789ull);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_hex64(root, "h15", &value, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_hex64(root, "h17", &value, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_hex64(root, "hx", &value, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_hex64(root, "b", &value, &err), NULL);
    cJSON_Delete(root);
}

TEST(JsonMember, RefusesUnknownMembersAndOtherThanObjects)
{
    const char *const keys[] = {"a", "b"};
    cJSON *root = must_parse("{\"b\":1,\"a\":[]}");
    EXPECT_OK(pinti_json_only(root, keys, 2, &err), &err);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_only(root, keys, 1, &err), NULL);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_only(cJSON_GetObjectItem(root, "a"), keys, 2, &err),
                  NULL);
    cJSON_Delete(root);
    root = must_parse("{\"A\":1}");
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_only(root, keys, 2, &err), NULL);
    cJSON_Delete(root);
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_only(NULL, keys, 2, &err), NULL);
}

static void check_round_trip(uint64_t value, const char *expected)
{
    cJSON *root = cJSON_CreateObject();
    ASSERT_TRUE(pinti_json_add_u64(root, "n", value));
    ASSERT_TRUE(pinti_json_add_hex64(root, "h", value));
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    ASSERT_NE(text, NULL);
    EXPECT_EQ(strncmp(text, expected, strlen(expected)), 0);
    root = must_parse(text);
    cJSON_free(text);
    uint64_t n = 1;
    uint64_t h = 1;
    EXPECT_OK(pinti_json_u64(root, "n", UINT64_MAX, &n, &err), &err);
    EXPECT_OK(pinti_json_hex64(root, "h", &h, &err), &err);
    EXPECT_EQ(n, value);
    EXPECT_EQ(h, value);
    cJSON_Delete(root);
}

TEST(JsonMember, WritesIntegersThatReadTheSame)
{
    check_round_trip(0, "{\"n\":0,");
    check_round_trip(2147483648u, "{\"n\":2147483648,");
    check_round_trip(999999999999999ull, "{\"n\":999999999999999,");
    check_round_trip(1000000000000000ull, "{\"n\":1000000000000000,");
    check_round_trip(1500000000000001ull, "{\"n\":1500000000000001,");
    check_round_trip(1ull << 53, "{\"n\":9007199254740992,");
    check_round_trip((1ull << 53) + 1, "{\"n\":\"9007199254740993\",");
    check_round_trip(UINT64_MAX, "{\"n\":\"18446744073709551615\",");
}

/* A locale with a decimal comma: an installed one, or one made in the test's folder. */
static bool set_german_locale(void)
{
    if (setlocale(LC_ALL, "de_DE.UTF-8") != NULL || setlocale(LC_ALL, "de_DE") != NULL) {
        return true;
    }
    char folder[600];
    (void)snprintf(folder, sizeof(folder), "%s/de_DE.UTF-8", ct_tmpdir());
    const char *const argv[] = {"/usr/bin/localedef", "-i", "de_DE", "-f", "UTF-8", folder, NULL};
    if (access(argv[0], X_OK) != 0) {
        return false;
    }
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const pid_t child = ct_spawn_program(argv, &(const ct_spawn_opts){.output_fd = null});
    (void)ct_wait(child);
    (void)close(null);
    return setenv("LOCPATH", ct_tmpdir(), 1) == 0 && setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

TEST(JsonMember, DoesNotDependOnTheLocale)
{
    if (!set_german_locale()) {
        SKIP("no de_DE locale is installed or can be made");
    }
    ASSERT_STREQ(localeconv()->decimal_point, ",");
    cJSON *root = must_parse("{\"n\":1.5,\"m\":1500000000000000,\"k\":2.0,\"s\":\"12\"}");
    uint64_t value = 0;
    EXPECT_STATUS(PINT_E_INVALID, pinti_json_u64(root, "n", 100, &value, &err), NULL);
    EXPECT_OK(pinti_json_u64(root, "m", UINT64_MAX, &value, &err), &err);
    EXPECT_EQ(value, 1500000000000000ull);
    EXPECT_OK(pinti_json_u64(root, "k", UINT64_MAX, &value, &err), &err);
    EXPECT_EQ(value, 2);
    EXPECT_OK(pinti_json_u64(root, "s", UINT64_MAX, &value, &err), &err);
    EXPECT_EQ(value, 12);
    cJSON_Delete(root);
    EXPECT_STATUS(PINT_E_INVALID, parse("1,5"), NULL);
    EXPECT_STATUS(PINT_E_INVALID, parse("[1,5,]"), NULL);
    check_round_trip(1500000000000000ull, "{\"n\":1500000000000000,");
    EXPECT_NE(setlocale(LC_ALL, "C"), NULL);
}

/* ---- every malloc fails once ------------------------------------------------------------------
 */

static unsigned allocations_left;

static void *limited_malloc(size_t bytes)
{
    if (allocations_left == 0) {
        return NULL;
    }
    allocations_left--;
    return malloc(bytes);
}

TEST(JsonMemory, FailsCleanlyAtEveryAllocation)
{
    const char *text = "{\"a\":[1,\"two\",{\"three\":null}],\"b\":\"\\u00e9\",\"c\":{}}";
    cJSON_Hooks hooks = {.malloc_fn = limited_malloc, .free_fn = free};
    cJSON_InitHooks(&hooks);
    unsigned k = 0;
    for (;; k++) {
        cJSON *root = NULL;
        allocations_left = k;
        const pint_status status = pinti_json_parse(text, strlen(text), &root, &err);
        if (status == PINT_OK) {
            cJSON_Delete(root);
            break;
        }
        EXPECT_STATUS(PINT_E_NO_MEMORY, status, NULL);
        EXPECT_EQ(root, NULL);
    }
    EXPECT_GE(k, 10);

    bool done = false;
    for (k = 0; !done; k++) {
        allocations_left = 1;
        cJSON *root = cJSON_CreateObject();
        allocations_left = k;
        done = pinti_json_add_u64(root, "a", 1) && pinti_json_add_u64(root, "b", 1ull << 53) &&
               pinti_json_add_u64(root, "c", UINT64_MAX) && pinti_json_add_hex64(root, "d", 4);
        cJSON_Delete(root);
    }
    EXPECT_GE(k, 8);
    cJSON_InitHooks(NULL);
}
