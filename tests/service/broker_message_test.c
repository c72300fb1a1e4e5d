/* SPDX-License-Identifier: Apache-2.0 */
/* What a broker may answer, and what is no answer. */

#include <stdio.h>
#include <string.h>

#include "ipc/service/broker.h"
#include "tests/support/ct.h"

/* 00 01 … 3f */
#define HANDLE                                                                                     \
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="

static pint_status parse(const char *text, pinti_broker_reply *out)
{
    return pinti_broker_parse(text, strlen(text), out);
}

TEST(BrokerMessage, SuccessIsTakenApart)
{
    pinti_broker_reply reply;
    EXPECT_OK(parse("{\"id\":5,\"ok\":true}", &reply), NULL);
    EXPECT_EQ(reply.id, 5u);
    EXPECT_EQ(reply.status, PINT_OK);
    EXPECT_FALSE(reply.has_ipc);
    EXPECT_OK(parse("{\"ipc\":\"" HANDLE "\",\"ok\":true,\"id\":6}", &reply), NULL);
    EXPECT_EQ(reply.id, 6u);
    EXPECT_TRUE(reply.has_ipc);
    for (int i = 0; i < 64; i++) {
        EXPECT_EQ(reply.ipc[i], i);
    }
}

TEST(BrokerMessage, ErrorsKeepStatusesOfDevicesOnly)
{
    static const struct {
        const char *text;
        pint_status status;
    } all[] = {
        {"{\"id\":1,\"error\":\"e\",\"status\":-60}", PINT_E_NO_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":-61}", PINT_E_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":-62}", PINT_E_DEVICE_MEMORY},
        {"{\"id\":1,\"error\":\"e\",\"status\":-64}", PINT_E_DEVICE_LOST},
        {"{\"id\":1,\"error\":\"e\",\"status\":-11}", PINT_E_UNSUPPORTED},
        {"{\"id\":1,\"error\":\"e\"}", PINT_E_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":0}", PINT_E_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":-40}", PINT_E_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":-1e300}", PINT_E_DEVICE},
        {"{\"id\":1,\"error\":\"e\",\"status\":\"-62\"}", PINT_E_DEVICE},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pinti_broker_reply reply;
        EXPECT_OK(parse(all[i].text, &reply), NULL);
        EXPECT_EQ(reply.status, all[i].status);
        EXPECT_STREQ(reply.text, "e");
        EXPECT_FALSE(reply.is_last);
    }
    pinti_broker_reply last;
    EXPECT_OK(parse("{\"id\":1,\"error\":\"e\",\"status\":-64,\"last\":true}", &last), NULL);
    EXPECT_TRUE(last.is_last);
}

TEST(BrokerMessage, AnythingElseIsNoAnswer)
{
    static const char *const all[] = {
        "",
        "here you are",
        "[]",
        "7",
        "{}",
        "{\"ok\":true}",
        "{\"id\":1}",
        "{\"id\":1,\"ok\":false}",
        "{\"id\":1,\"ok\":1}",
        "{\"id\":-1,\"ok\":true}",
        "{\"id\":1.5,\"ok\":true}",
        "{\"id\":1,\"ok\":true,\"status\":-62}",
        "{\"id\":1,\"ok\":true,\"error\":\"no\"}",
        "{\"id\":1,\"error\":7}",
        "{\"id\":1,\"error\":\"e\",\"ipc\":\"" HANDLE "\"}",
        "{\"id\":1,\"ok\":true,\"more\":1}",
        "{\"id\":1,\"id\":1,\"ok\":true}",
        "{\"id\":1,\"ok\":true,\"ipc\":7}",
        "{\"id\":1,\"ok\":true,\"ipc\":\"\"}",
        "{\"id\":1,\"ok\":true,\"ipc\":\"AAEC\"}",
        "{\"id\":1,\"ok\":true}x",
        "{\"id\":1,\"ok\":true,\"last\":true}",
        "{\"id\":1,\"error\":\"e\",\"last\":1}",
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pinti_broker_reply reply;
        EXPECT_STATUS(PINT_E_PROTOCOL, parse(all[i], &reply), NULL);
    }
}

TEST(BrokerMessage, Base64IsTakenToTheLetter)
{
    uint8_t out[64];
    char text[] = HANDLE;
    ASSERT_EQ(strlen(text), 88u);
    EXPECT_TRUE(pinti_base64_decode(text, out));
    for (size_t i = 0; i < 88; i++) {
        const char was = text[i];
        for (const char *c = "-_ =\n"; *c != '\0'; c++) {
            text[i] = *c;
            EXPECT_EQ(pinti_base64_decode(text, out), *c == was); /* '=' at the end */
        }
        text[i] = was;
    }
    text[85] = 'x'; /* bits beyond the last byte */
    EXPECT_FALSE(pinti_base64_decode(text, out));
    text[85] = 'w';
    text[87] = '\0';
    EXPECT_FALSE(pinti_base64_decode(text, out));
    EXPECT_FALSE(pinti_base64_decode(HANDLE "A", out));
    memset(text, '/', 85);
    (void)memcpy(text + 85, "w==", 4);
    EXPECT_TRUE(pinti_base64_decode(text, out));
    for (int i = 0; i < 64; i++) {
        EXPECT_EQ(out[i], 255);
    }
}

TEST(BrokerMessage, RequestsAreAsWritten)
{
    char text[128] = "";
    const size_t bytes = pinti_broker_ask(text, sizeof(text), 2097152, 2, UINT64_MAX);
    EXPECT_EQ(bytes, strlen(text));
    EXPECT_STREQ(text, "{\"allocate\":2097152,\"kind\":2,\"id\":18446744073709551615}");
    EXPECT_EQ(pinti_broker_ask(text, 10, 1, 1, 1), 0u);
}
