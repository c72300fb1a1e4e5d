/* SPDX-License-Identifier: Apache-2.0 */

/* Status codes and their words, and the filling of a pint_error. */

#include <errno.h>
#include <string.h>

#include "host/error.h"
#include "host/name.h"
#include "tests/host/fixture.h"

static const struct {
    const char *name;
    pint_status number;
    const char *text;
} statuses[] = {
#define ROW(name_, number_, text_) {#name_, number_, text_},
    PINT_STATUS_MAP(ROW)
#undef ROW
};

TEST(Status, HasTheNameAndTextOfTheHeader)
{
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        EXPECT_STREQ(pint_status_name(statuses[i].number), statuses[i].name);
        EXPECT_STREQ(pint_status_text(statuses[i].number), statuses[i].text);
    }
}

TEST(Status, NamesNumbersAndTextsDiffer)
{
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        for (size_t j = 0; j < i; j++) {
            EXPECT_NE(statuses[i].number, statuses[j].number);
            EXPECT_STRNE(statuses[i].name, statuses[j].name);
            EXPECT_STRNE(statuses[i].text, statuses[j].text);
        }
    }
}

TEST(Status, AnUnknownNumberSaysSo)
{
    const pint_status unknown[] = {3, 100, -16, -24, -59, -65, -79, -100, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < COUNT_OF(unknown); i++) {
        EXPECT_STREQ(pint_status_name(unknown[i]), "unknown status");
        EXPECT_STREQ(pint_status_text(unknown[i]), "unknown status");
    }
}

TEST(Status, EachErrorIsInExactlyOneGroupAndOutcomesAreInNone)
{
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        const pint_status s = statuses[i].number;
        const int groups = PINT_IS_CALL_ERROR(s) + PINT_IS_TABLE_ERROR(s) +
                           PINT_IS_SERVICE_ERROR(s) + PINT_IS_DEVICE_ERROR(s) +
                           PINT_IS_PROCESS_ERROR(s);
        EXPECT_EQ(groups, s < 0 ? 1 : 0);
        EXPECT_EQ(strncmp(statuses[i].name, "E_", 2) == 0, s < 0);
    }
}

TEST(Fail, FillsTheRecordAndReturnsTheStatus)
{
    pint_error err;
    memset(&err, 0xee, sizeof(err));
    EXPECT_EQ(pinti_fail(&err, PINT_E_RANGE, 0, "row %d of %d", 7, 5), PINT_E_RANGE);
    EXPECT_EQ(err.status, PINT_E_RANGE);
    EXPECT_EQ(err.sys_errno, 0);
    EXPECT_STREQ(err.message, "row 7 of 5");
}

TEST(Fail, WithoutARecordReturnsTheStatus)
{
    EXPECT_EQ(pinti_fail(NULL, PINT_E_BUSY, ENOENT, "%s", "nobody reads this"), PINT_E_BUSY);
}

TEST(Fail, AddsTheSystemErrorsText)
{
    pint_error err;
    (void)pinti_fail(&err, PINT_E_SYSTEM, ENOENT, "open '%s'", "x");
    EXPECT_EQ(err.sys_errno, ENOENT);
    EXPECT_STREQ(err.message, "open 'x': No such file or directory");
}

TEST(Fail, LongMessageIsCutAndTerminated)
{
    char text[2 * PINT_ERROR_MESSAGE_BYTES];
    memset(text, 'm', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    for (int sys_errno = 0; sys_errno <= ENOENT; sys_errno++) {
        struct {
            pint_error err;
            char guard[8];
        } at;
        memset(&at, '#', sizeof(at));
        (void)pinti_fail(&at.err, PINT_E_SYSTEM, sys_errno, "%s", text);
        EXPECT_EQ(strlen(at.err.message), PINT_ERROR_MESSAGE_BYTES - 1u);
        EXPECT_MEMEQ(at.guard, "########", 8);
    }
}

TEST(Fail, SystemTextIsCutWhereTheMessageEnds)
{
    for (int bytes = 200; bytes < PINT_ERROR_MESSAGE_BYTES; bytes++) {
        pint_error err;
        memset(&err, '#', sizeof(err));
        (void)pinti_fail(&err, PINT_E_SYSTEM, ENAMETOOLONG, "%*s", bytes, "m");
        ASSERT_LT(strnlen(err.message, sizeof(err.message)), sizeof(err.message));
    }
}

TEST(Fail, CutMessageIsStillUtf8)
{
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < COUNT_OF(characters); i++) {
        char text[400] = "";
        while (strlen(text) + 4 < sizeof(text)) {
            strncat(text, characters[i], 4);
        }
        for (int lead = 0; lead < 8; lead++) {
            pint_error err;
            (void)pinti_fail(&err, PINT_E_NOT_FOUND, 0, "%.*s%s", lead, "abcdefgh", text);
            EXPECT_TRUE(pinti_utf8_is_valid(err.message, strlen(err.message)));
            EXPECT_GE(strlen(err.message), PINT_ERROR_MESSAGE_BYTES - 4u);
        }
    }
}

TEST(Fail, BytesOfAMessageThatFitsAreNotTouched)
{
    pint_error err;
    (void)pinti_fail(&err, PINT_E_INVALID, 0, "%s", "cut \xe2\x82");
    EXPECT_STREQ(err.message, "cut \xe2\x82");
}
