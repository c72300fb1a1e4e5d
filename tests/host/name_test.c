/* SPDX-License-Identifier: Apache-2.0 */

/* Which bytes are UTF-8, which texts are names, and what is shown of hostile ones. */

#include <string.h>

#include "host/error.h"
#include "host/name.h"
#include "tests/host/fixture.h"

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Written the other way round than the code under test: decode first, then judge the number. */
static size_t decode(const unsigned char *text, size_t bytes)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char c = text[0];
    const size_t n = c < 0x80             ? 1
                     : (c & 0xe0) == 0xc0 ? 2
                     : (c & 0xf0) == 0xe0 ? 3
                     : (c & 0xf8) == 0xf0 ? 4
                                          : 0;
    if (n == 0 || n > bytes) {
        return 0;
    }
    uint32_t point = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        point = point << 6 | (text[i] & 0x3fu);
    }
    const bool surrogate = point >= 0xd800 && point <= 0xdfff;
    return point < smallest[n] || point > 0x10ffff || surrogate ? 0 : n;
}

static bool is_utf8(const unsigned char *text, size_t bytes)
{
    size_t n;
    for (size_t i = 0; i < bytes; i += n) {
        n = decode(text + i, bytes - i);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

TEST(Utf8, EveryTextOfOneToThreeBytesIsJudgedRight)
{
    for (uint32_t n = 1; n <= 3; n++) {
        for (uint32_t v = 0; v < 1u << (8 * n); v++) {
            const unsigned char text[3] = {(unsigned char)v, (unsigned char)(v >> 8),
                                           (unsigned char)(v >> 16)};
            if (pinti_utf8_is_valid((const char *)text, n) != is_utf8(text, n)) {
                FAIL("%02x %02x %02x, %u bytes", text[0], text[1], text[2], n);
            }
        }
    }
}

TEST(Utf8, EveryFourByteLeadWithEverySecondByteIsJudgedRight)
{
    static const unsigned char tails[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xff};
    for (uint32_t lead = 0xe0; lead <= 0xff; lead++) {
        for (uint32_t second = 0; second <= 0xff; second++) {
            for (size_t i = 0; i < COUNT_OF(tails) * COUNT_OF(tails); i++) {
                const unsigned char text[4] = {(unsigned char)lead, (unsigned char)second,
                                               tails[i / COUNT_OF(tails)],
                                               tails[i % COUNT_OF(tails)]};
                if (pinti_utf8_is_valid((const char *)text, 4) != is_utf8(text, 4)) {
                    FAIL("%02x %02x %02x %02x", text[0], text[1], text[2], text[3]);
                }
            }
        }
    }
}

/* The eight-bytes-at-a-time path must not step over a bad byte at any place, nor read past the end
 * (the text is copied to the end of an allocation for the sanitizer to see). */
TEST(Utf8, ABadByteIsFoundAtAnyPlaceOfALongText)
{
    for (size_t bytes = 1; bytes <= 40; bytes++) {
        char *text = malloc(bytes);
        ASSERT_TRUE(text != NULL);
        memset(text, 'a', bytes);
        EXPECT_TRUE(pinti_utf8_is_valid(text, bytes));
        for (size_t at = 0; at < bytes; at++) {
            text[at] = (char)0x80;
            EXPECT_FALSE(pinti_utf8_is_valid(text, bytes));
            text[at] = (char)0xf0; /* cut off, or followed by ASCII */
            EXPECT_FALSE(pinti_utf8_is_valid(text, bytes));
            text[at] = 'a';
        }
        free(text);
    }
}

TEST(Utf8, ACharacterIsFoundAcrossWordBorders)
{
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < COUNT_OF(characters); i++) {
        const size_t n = strlen(characters[i]);
        for (size_t at = 0; at < 20; at++) {
            char text[32];
            memset(text, 'x', sizeof(text));
            memcpy(text + at, characters[i], n);
            EXPECT_TRUE(pinti_utf8_is_valid(text, sizeof(text)));
            EXPECT_TRUE(pinti_utf8_is_valid(text, at + n));
            EXPECT_FALSE(pinti_utf8_is_valid(text, at + n - 1)); /* truncated */
        }
    }
}

TEST(Utf8, NothingIsValid)
{
    EXPECT_TRUE(pinti_utf8_is_valid("", 0));
    EXPECT_TRUE(pinti_utf8_is_valid(NULL, 0));
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool both_valid(const char *text)
{
    const bool as_column = pinti_column_name_is_valid(text, strlen(text));
    const bool as_table = pinti_name_is_valid(text, strlen(text));
    EXPECT_EQ(as_column, as_table);
    return as_column && as_table;
}

TEST(Name, OrdinaryTextsAreNames)
{
    static const char *const names[] = {"a",
                                        "A b",
                                        "...",
                                        ".a",
                                        "a.b",
                                        "%s%n",
                                        "-",
                                        " ",
                                        "\\",
                                        "'\"",
                                        "\xc3\xa9",
                                        "\xc2\xa0",
                                        "\xe2\x80\xae"
                                        "right to left",
                                        "\xe2\x80\x8b",
                                        "\xf4\x8f\xbf\xbf",
                                        "C:\\x"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        EXPECT_TRUE(both_valid(names[i]));
    }
}

TEST(Name, HasOneToMaximumBytes)
{
    char text[PINTI_NAME_BYTES_MAX + 2];
    memset(text, 'n', sizeof(text));
    EXPECT_FALSE(pinti_name_is_valid(text, 0));
    EXPECT_FALSE(pinti_column_name_is_valid(text, 0));
    EXPECT_TRUE(pinti_name_is_valid(text, 1));
    EXPECT_TRUE(pinti_name_is_valid(text, PINTI_NAME_BYTES_MAX));
    EXPECT_TRUE(pinti_column_name_is_valid(text, PINTI_NAME_BYTES_MAX));
    EXPECT_FALSE(pinti_name_is_valid(text, PINTI_NAME_BYTES_MAX + 1u));
    EXPECT_FALSE(pinti_column_name_is_valid(text, PINTI_NAME_BYTES_MAX + 1u));
}

TEST(Name, HasNoControlCharacterAtAnyPlace)
{
    for (size_t at = 0; at < 3; at++) {
        for (uint32_t c = 0; c < 0x80; c++) {
            char text[3] = {'a', 'b', 'c'};
            text[at] = (char)c;
            EXPECT_EQ(pinti_column_name_is_valid(text, 3), c >= 0x20 && c != 0x7f);
            EXPECT_EQ(pinti_name_is_valid(text, 3), c >= 0x20 && c != 0x7f && c != '/');
        }
    }
    for (uint32_t c = 0x80; c < 0xc0; c++) { /* U+0080 .. U+00BF: C1 ends at U+009F */
        const char text[2] = {(char)0xc2, (char)c};
        EXPECT_EQ(pinti_name_is_valid(text, 2), c >= 0xa0);
    }
}

TEST(Name, OfATableIsNoPath)
{
    static const char *const paths[] = {"/", "a/b", "a/../b", "/a", "a/", ".", ".."};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        EXPECT_FALSE(pinti_name_is_valid(paths[i], strlen(paths[i])));
        EXPECT_TRUE(pinti_column_name_is_valid(paths[i], strlen(paths[i])));
    }
}

TEST(Name, IsUtf8)
{
    static const char *const bad[] = {"\xff", "\xc0\x80", "\xed\xa0\x80", "a\xc3",
                                      "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        EXPECT_FALSE(both_valid(bad[i]));
    }
}

/* ---- keys ------------------------------------------------------------------------------------ */

TEST(NameKey, LongestNameFitsAndALongerOneDoesNot)
{
    pinti_name key;
    char text[PINTI_NAME_BYTES_MAX + 2];
    memset(text, 'n', sizeof(text));
    text[PINTI_NAME_BYTES_MAX + 1] = '\0';
    EXPECT_FALSE(pinti_name_set(&key, text));
    text[PINTI_NAME_BYTES_MAX] = '\0';
    ASSERT_TRUE(pinti_name_set(&key, text));
    EXPECT_EQ(key.bytes, PINTI_NAME_BYTES_MAX);
    EXPECT_EQ(key.n_words, (uint32_t)PINTI_NAME_WORDS);
    EXPECT_FALSE(pinti_name_set(&key, ""));
}

TEST(NameKey, IsZeroPaddedToAWholeWord)
{
    for (size_t bytes = 1; bytes <= PINTI_NAME_BYTES_MAX; bytes++) {
        pinti_name key;
        char text[PINTI_NAME_BYTES_MAX + 1] = {0};
        unsigned char padded[PINTI_NAME_WORDS * 8] = {0};
        memset(&key, 0xee, sizeof(key));
        memset(text, 'z', bytes);
        memset(padded, 'z', bytes);
        ASSERT_TRUE(pinti_name_set(&key, text));
        ASSERT_EQ(key.n_words, (uint32_t)((bytes + 7) / 8));
        ASSERT_MEMEQ(key.words, padded, key.n_words * 8u);
    }
}

TEST(NameKey, HashDependsOnEveryByteAndTheLength)
{
    pinti_name a;
    pinti_name b;
    ASSERT_TRUE(pinti_name_set(&a, "table-0001"));
    for (size_t at = 0; at < 10; at++) {
        char text[] = "table-0001";
        text[at] ^= 1;
        ASSERT_TRUE(pinti_name_set(&b, text));
        EXPECT_NE(a.hash, b.hash);
    }
    ASSERT_TRUE(pinti_name_set(&b, "table-0001"));
    EXPECT_EQ(a.hash, b.hash);
    EXPECT_LT(pinti_index_first(a.hash), PINTI_INDEX_SLOTS);
}

/* ---- what is shown --------------------------------------------------------------------------- */

static const char *shown(const char *text, size_t room)
{
    static char out[64];
    memset(out, '#', sizeof(out));
    const char *result = pinti_printable(out, room, text, strlen(text));
    EXPECT_TRUE(result == out);
    EXPECT_EQ(out[room], '#'); /* not a byte beyond */
    return out;
}

TEST(Printable, OrdinaryTextIsCopied)
{
    EXPECT_STREQ(shown("table \xc3\xa9", 40), "table \xc3\xa9");
    EXPECT_STREQ(shown("", 40), "");
    EXPECT_STREQ(shown("exact", 6), "exact");
}

TEST(Printable, ControlCharactersBecomeQuestionMarks)
{
    EXPECT_STREQ(shown("a\nb\x1b[31m\x7f", 40), "a?b?[31m?");
    EXPECT_STREQ(shown("a\xc2\x85"
                       "b",
                       40),
                 "a??b"); /* C1: next line */
    char out[8];
    EXPECT_STREQ(pinti_printable(out, sizeof(out), "a\0b", 3), "a?b");
}

TEST(Printable, BytesThatAreNotUtf8BecomeQuestionMarks)
{
    EXPECT_STREQ(shown("a\xff\xc3z", 40), "a??z");
}

TEST(Printable, LongTextIsCutWithTwoDots)
{
    EXPECT_STREQ(shown("abcdefghij", 8), "abcde..");
    EXPECT_STREQ(shown("abcdefghij", 4), "a..");
    EXPECT_STREQ(shown("abcdefghij", 3), "..");
    EXPECT_STREQ(shown("abcdefghij", 1), "");
}

TEST(Printable, NoRoomLeavesTheBufferAlone)
{
    char out[1] = {'#'};
    EXPECT_TRUE(pinti_printable(out, 0, "abc", 3) == out);
    EXPECT_EQ(out[0], '#');
}

TEST(Printable, IsAlwaysPrintableUtf8OfAtMostTheRoom)
{
    uint64_t random = random_seed();
    static const char *const pieces[] = {"a",  "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                         "\n", "\xc2\x9f", "\x7f"};
    for (int i = 0; i < 50000; i++) {
        char text[128] = "";
        char out[40];
        const size_t room = 1 + random_below(&random, sizeof(out));
        const uint64_t n = random_below(&random, 20);
        for (uint64_t k = 0; k < n; k++) {
            strncat(text, pieces[random_below(&random, COUNT_OF(pieces))], 8);
        }
        size_t bytes = strlen(text);
        if (bytes != 0 && random_below(&random, 4) == 0) { /* break a character */
            bytes = random_below(&random, bytes);
        }
        (void)pinti_printable(out, room, text, bytes);
        ASSERT_LT(strnlen(out, sizeof(out)), room);
        ASSERT_TRUE(out[0] == '\0' || pinti_column_name_is_valid(out, strlen(out)));
    }
}
