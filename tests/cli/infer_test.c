/* SPDX-License-Identifier: Apache-2.0 */
/* The types of CSV columns: inferred, and asked for. */
#include "ipc/cli/csv.h"
#include "tests/cli/csv_show.h"
#include "tests/support/ct.h"

#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- inference ---- */

TEST(CsvInfer, TakesTheNarrowestTypeOfEachColumn)
{
    EXPECT_STREQ(csv_show("b,i,f,d,t\n"
                          "true,-1,1.5,2013-01-01,2013-01-01 06:00:00\n"
                          "FALSE,2,2,1969-12-31,1969-12-31T23:59:59\n"),
                 "b bool: 1 0 | i int64: -1 2 | f float64: 1.5 2 | d date32: 15706 -1 | "
                 "t timestamp[s]: 1357020000 -1");
}

TEST(CsvInfer, LooksAtEveryValueNotAtASample)
{
    const size_t n = 200000;
    char *text = malloc(n * 2 + 16);
    ASSERT_TRUE(text != NULL);
    size_t used = (size_t)snprintf(text, 8, "a\n");
    for (size_t i = 0; i < n; i++) {
        used += (size_t)snprintf(text + used, 8, "7\n");
    }
    used += (size_t)snprintf(text + used, 8, "7.5\n");
    pinti_csv_table table = {0};
    EXPECT_EQ(pinti_csv_read(csv_write_file(text, used), NULL, &table, NULL, 0), 0);
    free(text);
    ASSERT_EQ(table.n_rows, n + 1);
    EXPECT_EQ(table.columns[0].type.kind, PINTI_CSV_FLOAT64);
    EXPECT_EQ(((double *)table.columns[0].values)[n], 7.5);
    pinti_csv_table_done(&table);
}

TEST(CsvInfer, BoolIsWordsOnly)
{
    EXPECT_STREQ(csv_show("a,b,c\nTrue,1,true\nFalse,0,yes\n"),
                 "a bool: 1 0 | b int64: 1 0 | c text: 'true' 'yes'");
}

TEST(CsvInfer, KeepsIntegersThatWouldLoseDigits)
{
    EXPECT_STREQ(csv_show("zip,neg0,plus\n007,-0,+5\n010,1,-5\n"),
                 "zip text: '007' '010' | neg0 float64: -0 1 | plus int64: 5 -5");
    EXPECT_STREQ(csv_show("a,b,c\n"
                          "9223372036854775807,9223372036854775808,18446744073709551615\n"
                          "-9223372036854775808,0,18446744073709551616\n"),
                 "a int64: 9223372036854775807 -9223372036854775808 | "
                 "b uint64: 9223372036854775808 0 | "
                 "c text: '18446744073709551615' '18446744073709551616'");
    EXPECT_STREQ(csv_show("a,b,c\n9007199254740993,9007199254740992,9223372036854775808\n"
                          "0.5,0.5,-1\n"),
                 "a text: '9007199254740993' '0.5' | b float64: 9007199254740992 0.5 | "
                 "c float64: 9.2233720368547758e+18 -1");
}

TEST(CsvInfer, ReadsTheSpellingsOfFloats)
{
    EXPECT_STREQ(csv_show("a\n.5\n5.\n-1e3\n+2.5E-1\n1e+2\nInf\n-infinity\nNaN\n4.9e-324\n"),
                 "a float64: 0.5 5 -1000 0.25 100 inf -inf nan 4.9406564584124654e-324");
}

TEST(CsvInfer, KeepsAsTextWhatIsNotADecimalNumber)
{
    const char *const texts[] = {"1e999", "1e-999", "0x10", " 1", "1 ",    "1,5", "007.5", "1e",
                                 "1e+",   ".",      "+",    "-",  "1.2.3", "1_0", "inff",  "nan(1)",
                                 "1d5",   "--1",    "+-1",  "e5", "\t1",   "1f",  "١"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[64];
        char expected[64];
        (void)snprintf(text, sizeof(text), "a\n\"%s\"\n", texts[i]);
        (void)snprintf(expected, sizeof(expected), "a text: '%s'", texts[i]);
        EXPECT_STREQ(csv_show(text), expected);
    }
}

/* Every digit count and exponent that the fast paths split on, against strtod(). */
TEST(CsvInfer, RoundsFloatsAsStrtodDoes)
{
    enum { N_ROWS = 20000 };
    char *text = malloc(N_ROWS * 32 + 8);
    ASSERT_TRUE(text != NULL);
    size_t used = (size_t)snprintf(text, 8, "a\n");
    uint64_t random = UINT64_C(88172645463325252); /* xorshift, fixed seed */
    for (size_t i = 0; i < N_ROWS; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        used += (size_t)snprintf(text + used, 32, "%" PRIu64 "e%d\n", (random >> (random % 50)) | 1,
                                 (int)(random % 80) - 40);
    }
    pinti_csv_table table = {0};
    ASSERT_EQ(pinti_csv_read(csv_write_file(text, used), NULL, &table, NULL, 0), 0);
    ASSERT_EQ(table.n_rows, N_ROWS);
    const char *at = text + 2;
    for (size_t i = 0; i < N_ROWS; i++) {
        char *end;
        ASSERT_EQ(((double *)table.columns[0].values)[i], strtod(at, &end));
        at = end + 1;
    }
    pinti_csv_table_done(&table);
    free(text);
}

TEST(CsvInfer, DoesNotDependOnTheLocale)
{
    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL) {
        SKIP("no locale with a decimal comma is installed");
    }
    EXPECT_STREQ(csv_show_options("a;b\n0.12345678901234567890;1,5\n",
                                  &(pinti_csv_options){.delimiter = ';'}),
                 "a float64: 0,12345678901234568 | b text: '1,5'");
    (void)setlocale(LC_ALL, "C");
}

TEST(CsvInfer, AcceptsRealDaysOnly)
{
    EXPECT_STREQ(csv_show("a\n0001-01-01\n9999-12-31\n2000-02-29\n"),
                 "a date32: -719162 2932896 11016");
    const char *const texts[] = {"2023-02-30", "1900-02-29", "2023-13-01", "2023-00-01",
                                 "2023-01-00", "0000-01-01", "2023-1-01",  "2023/01/01"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[64];
        char expected[64];
        (void)snprintf(text, sizeof(text), "a\n%s\n", texts[i]);
        (void)snprintf(expected, sizeof(expected), "a text: '%s'", texts[i]);
        EXPECT_STREQ(csv_show(text), expected);
    }
}

TEST(CsvInfer, ChoosesTheTimestampUnitByTheFractionDigits)
{
    EXPECT_STREQ(csv_show("s,ms,us,ns\n"
                          "1970-01-01T00:01,1970-01-01T00:00:01,1970-01-01 00:00:00.0001,"
                          "1970-01-01T00:00:00.000000001\n"
                          "1970-01-01T00:00:02,1969-12-31T23:59:59.9,1970-01-01 00:00:01,"
                          "1970-01-01T00:00:01\n"),
                 "s timestamp[s]: 60 2 | ms timestamp[ms]: 1000 -100 | "
                 "us timestamp[us]: 100 1000000 | ns timestamp[ns]: 1 1000000000");
}

TEST(CsvInfer, TurnsZonesIntoUtc)
{
    EXPECT_STREQ(csv_show("a\n1970-01-01T00:00:00Z\n1970-01-01T02:00:00+02:00\n"
                          "1970-01-01 00:00:00-0130\n1970-01-01 00:00+01\n"),
                 "a timestamp[s],UTC: 0 0 5400 -3600");
}

TEST(CsvInfer, KeepsAsTextWhatIsNotATimestamp)
{
    const char *const texts[] = {
        "2013-01-01T00:00:60",    "2013-01-01T24:00:00",  "2013-01-01T00:60:00",
        "2013-01-01T00:00:00.",   "2013-01-01T00:00:5",   "2013-01-01T00:00:00.0123456789",
        "2013-02-30T00:00:00",    "2013-01-01T00:00:00z", "2013-01-01T00:00:00+1:00",
        "2013-01-01T00:00:00+24", "2013-01-01  00:00:00", "9999-01-01T00:00:00.123456789",
        "2013-01-01T0000",        "2013-01-01T"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[64];
        char expected[64];
        (void)snprintf(text, sizeof(text), "a\n%s\n", texts[i]);
        (void)snprintf(expected, sizeof(expected), "a text: '%s'", texts[i]);
        EXPECT_STREQ(csv_show(text), expected);
    }
    EXPECT_STREQ(csv_show("a,b\n2013-01-01T00:00:00Z,2013-01-01\n2013-01-01T00:00:00,"
                          "2013-01-01T00:00:00\n"),
                 "a text: '2013-01-01T00:00:00Z' '2013-01-01T00:00:00' | "
                 "b text: '2013-01-01' '2013-01-01T00:00:00'");
}

TEST(CsvInfer, MakesCategoriesOfRepeatedTexts)
{
    EXPECT_STREQ(csv_show("a,b\ny,p\nx,q\nNA,NA\ny,r\nx,\"\"\n"),
                 "a category: 0='y' 1='x' null 0='y' 1='x' | b text: 'p' 'q' null 'r' ''");
}

TEST(CsvInfer, StopsCategoriesAtATwentiethOfTheRows)
{
    enum { N_ROWS = 8000 };
    char *text = malloc(N_ROWS * 16 + 8);
    ASSERT_TRUE(text != NULL);
    for (unsigned extra = 0; extra < 2; extra++) { /* 400 distinct values, then 401 */
        size_t used = (size_t)snprintf(text, 8, "a\n");
        for (unsigned i = 0; i < N_ROWS; i++) {
            used += (size_t)snprintf(text + used, 16, "v%u\n", i % (400 + extra));
        }
        pinti_csv_table table = {0};
        ASSERT_EQ(pinti_csv_read(csv_write_file(text, used), NULL, &table, NULL, 0), 0);
        EXPECT_EQ(table.columns[0].type.kind, extra == 0 ? PINTI_CSV_CATEGORY : PINTI_CSV_TEXT);
        EXPECT_EQ(table.columns[0].strings.n, extra == 0 ? 400 : N_ROWS);
        if (extra == 0) {
            EXPECT_EQ(((int32_t *)table.columns[0].values)[N_ROWS - 1], 399);
        }
        pinti_csv_table_done(&table);
    }
    free(text);
}

TEST(CsvInfer, ColumnWithoutValuesIsFloat)
{
    EXPECT_STREQ(csv_show("a,b\n,1\nNA,2\n"), "a float64: null null | b int64: 1 2");
    EXPECT_STREQ(csv_show("a,b\n"), "a float64: | b float64:");
    EXPECT_STREQ(csv_show("a,b"), "a float64: | b float64:");
}

/* ---- types asked for ---- */

TEST(CsvWish, NarrowsAndIsLenientWhereTheWishIsClear)
{
    const char *const types[] = {"a=int8",  "b=uint16", "c=float32", "d=bool",
                                 "e=int32", "f=text",   "g=category"};
    EXPECT_STREQ(csv_show_options("a,b,c,d,e,f,g\n-128,0065535,0.1,1,-0,1,1\n127,,2,0,+7,2,2\n",
                                  &(pinti_csv_options){.types = types, .n_types = 7}),
                 "a int8: -128 127 | b uint16: 65535 null | c float32: 0.100000001 2 | "
                 "d bool: 1 0 | e int32: 0 7 | f text: '1' '2' | g category: 0='1' 1='2'");
}

TEST(CsvWish, RefusesValuesThatDoNotFit)
{
    EXPECT_STREQ(csv_show_as("delay=int8", "delay\n1\n300\n"),
                 "line 3, column 'delay': '300' is not int8 (-128 to 127)");
    EXPECT_STREQ(csv_show_as("a=int8", "a\n-129\n"),
                 "line 2, column 'a': '-129' is not int8 (-128 to 127)");
    EXPECT_STREQ(csv_show_as("a=uint8", "a\n-1\n"),
                 "line 2, column 'a': '-1' is not uint8 (0 to 255)");
    EXPECT_STREQ(csv_show_as("a=uint32", "a\n4294967296\n"),
                 "line 2, column 'a': '4294967296' is not uint32 (0 to 4294967295)");
    EXPECT_STREQ(csv_show_as("a=int64", "a\n1.0\n"),
                 "line 2, column 'a': '1.0' is not int64 "
                 "(-9223372036854775808 to 9223372036854775807)");
    EXPECT_STREQ(csv_show_as("a=float64", "a\n1e999\n"),
                 "line 2, column 'a': '1e999' is not float64 (a decimal number in range, inf or "
                 "nan)");
    EXPECT_STREQ(csv_show_as("a=float32", "a\n1e39\n"),
                 "line 2, column 'a': '1e39' is not float32 (a decimal number in range, inf or "
                 "nan)");
    EXPECT_STREQ(csv_show_as("a=date", "a\n2023-02-30\n"),
                 "line 2, column 'a': '2023-02-30' is not date32 (YYYY-MM-DD)");
    EXPECT_STREQ(csv_show_as("a=bool", "a\nyes\n"),
                 "line 2, column 'a': 'yes' is not bool (true, false, 1 or 0)");
    EXPECT_STREQ(csv_show_as("a=int8", "a\n\"\"\n"),
                 "line 2, column 'a': '' is not int8 (-128 to 127)");
}

TEST(CsvWish, TimestampTakesUnitAndZoneFromTheDataUnlessNamed)
{
    EXPECT_STREQ(csv_show_as("a=timestamp", "a\n1970-01-02\n1970-01-01T00:00:00.5\n"),
                 "a timestamp[ms]: 86400000 500");
    EXPECT_STREQ(csv_show_as("a=timestamp[us]", "a\n1970-01-01T01:00:00+01:00\n"),
                 "a timestamp[us],UTC: 0");
    EXPECT_STREQ(
        csv_show_as("a=timestamp[s,UTC]", "a\n1970-01-01T00:00:01.000\n1970-01-01 00:00Z\n"),
        "a timestamp[s],UTC: 1 0");
    EXPECT_STREQ(csv_show_as("a=timestamp[s]", "a\n1970-01-01T00:00:01.5\n"),
                 "line 2, column 'a': '1970-01-01T00:00:01.5' is not timestamp[s] "
                 "(YYYY-MM-DDThh:mm:ss without a zone, no finer than the unit)");
    EXPECT_STREQ(csv_show_as("a=timestamp[s]", "a\n1970-01-01T00:00Z\n1970-01-01T00:00\n"),
                 "line 3, column 'a': '1970-01-01T00:00' is not timestamp[s],UTC "
                 "(YYYY-MM-DDThh:mm:ss with Z or +hh:mm, no finer than the unit)");
    EXPECT_STREQ(csv_show_as("a=timestamp[ns]", "a\n2300-01-01T00:00\n"),
                 "line 2, column 'a': '2300-01-01T00:00' is not timestamp[ns] "
                 "(YYYY-MM-DDThh:mm:ss without a zone, in 1677 to 2262)");
}

TEST(CsvWish, MustNameAColumnAndAType)
{
    EXPECT_STREQ(csv_show_as("x=int8", "a\n1\n"), "there is no column 'x' to give the type int8");
    EXPECT_STREQ(csv_show_as("a", "a\n1\n"), "type 'a' is not of the form COLUMN=TYPE");
    EXPECT_EQ(strncmp(csv_show_as("a=int7", "a\n1\n"), "'int7' in 'a=int7' is not a type", 32), 0);
    const char *const twice[] = {"a=int8", "a=int16"};
    EXPECT_STREQ(csv_show_options("a\n1\n", &(pinti_csv_options){.types = twice, .n_types = 2}),
                 "two types are given for column 'a'");
    EXPECT_STREQ(csv_show_as("a=b=int8", "a=b\n1\n"), "a=b int8: 1");
}

TEST(CsvWish, TypeNamesAreReadBack)
{
    const char *const names[] = {"bool",          "int8",
                                 "int16",         "int32",
                                 "int64",         "uint8",
                                 "uint16",        "uint32",
                                 "uint64",        "float32",
                                 "float64",       "date32",
                                 "text",          "category",
                                 "timestamp[s]",  "timestamp[ms],UTC",
                                 "timestamp[us]", "timestamp[ns],UTC",
                                 "timestamp",     "timestamp,UTC"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        pinti_csv_type type;
        char name[PINTI_CSV_TYPE_NAME_BYTES];
        ASSERT_TRUE(pinti_csv_type_parse(names[i], strlen(names[i]), &type));
        EXPECT_STREQ(pinti_csv_type_name(&type, name), names[i]);
    }
    const char *const wrong[] = {"",
                                 "auto",
                                 "int",
                                 "int8 ",
                                 "timestamp[",
                                 "timestamp[]",
                                 "timestamp[m]",
                                 "timestamp[s],CET",
                                 "timestamp[s,UTC],UTC"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        pinti_csv_type type;
        EXPECT_FALSE(pinti_csv_type_parse(wrong[i], strlen(wrong[i]), &type));
    }
}
