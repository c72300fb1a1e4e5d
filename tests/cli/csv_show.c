/* SPDX-License-Identifier: Apache-2.0 */
/* Tables and errors of the CSV reader as text; see csv_show.h. */
#include "tests/cli/csv_show.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/ct.h"

static char shown[1u << 16]; /* the last table or message */
static size_t shown_bytes;

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(shown + shown_bytes, sizeof(shown) - shown_bytes, format, arguments);
    va_end(arguments);
    shown_bytes += n > 0 ? (size_t)n : 0;
    shown_bytes = shown_bytes < sizeof(shown) ? shown_bytes : sizeof(shown) - 1;
}

const char *csv_file_path(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", ct_tmpdir(), name);
    return path;
}

const char *csv_write_file(const void *bytes, size_t n)
{
    const char *path = csv_file_path("x.csv");
    FILE *file = fopen(path, "we");
    EXPECT_TRUE(file != NULL && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
    return path;
}

static void put_string(const pinti_csv_strings *strings, uint64_t i)
{
    put("'%.*s'", (int)(strings->offsets[i + 1] - strings->offsets[i]),
        strings->data + strings->offsets[i]);
}

static bool is_valid(const pinti_csv_column *column, uint64_t row)
{
    return column->validity == NULL || ((column->validity[row / 8] >> (row % 8)) & 1) != 0;
}

static void put_value(const pinti_csv_column *column, uint64_t row)
{
    const void *values = column->values;
    switch (column->type.kind) {
    case PINTI_CSV_BOOL:
    case PINTI_CSV_UINT8:
        put("%u", ((const uint8_t *)values)[row]);
        break;
    case PINTI_CSV_INT8:
        put("%d", ((const int8_t *)values)[row]);
        break;
    case PINTI_CSV_INT16:
        put("%d", ((const int16_t *)values)[row]);
        break;
    case PINTI_CSV_UINT16:
        put("%u", ((const uint16_t *)values)[row]);
        break;
    case PINTI_CSV_INT32:
    case PINTI_CSV_DATE32:
        put("%" PRId32, ((const int32_t *)values)[row]);
        break;
    case PINTI_CSV_UINT32:
        put("%" PRIu32, ((const uint32_t *)values)[row]);
        break;
    case PINTI_CSV_INT64:
    case PINTI_CSV_TIMESTAMP:
        put("%" PRId64, ((const int64_t *)values)[row]);
        break;
    case PINTI_CSV_UINT64:
        put("%" PRIu64, ((const uint64_t *)values)[row]);
        break;
    case PINTI_CSV_FLOAT32:
        put("%.9g", (double)((const float *)values)[row]);
        break;
    case PINTI_CSV_FLOAT64:
        put("%.17g", ((const double *)values)[row]);
        break;
    case PINTI_CSV_CATEGORY:
        put("%" PRId32 "=", ((const int32_t *)values)[row]);
        put_string(&column->strings, (uint64_t)((const int32_t *)values)[row]);
        break;
    case PINTI_CSV_TEXT:
        put_string(&column->strings, row);
        break;
    case PINTI_CSV_AUTO:
        put("?");
        break;
    }
}

static const char *show_table(const pinti_csv_table *table)
{
    char name[PINTI_CSV_TYPE_NAME_BYTES];
    shown_bytes = 0;
    put("%s", "");
    for (uint32_t i = 0; i < table->n_columns; i++) {
        const pinti_csv_column *column = &table->columns[i];
        uint64_t n_null = 0;
        put("%s%s %s:", i == 0 ? "" : " | ", column->name,
            pinti_csv_type_name(&column->type, name));
        for (uint64_t row = 0; row < table->n_rows; row++) {
            put(" ");
            if (is_valid(column, row)) {
                put_value(column, row);
            } else {
                n_null++;
                put("null");
            }
        }
        EXPECT_EQ(n_null, column->n_null);
        EXPECT_EQ(column->validity == NULL, n_null == 0);
    }
    return shown;
}

const char *csv_show_path(const char *path, const pinti_csv_options *options)
{
    static char message[512];
    pinti_csv_table table = {.n_rows = 99};
    if (pinti_csv_read(path, options, &table, message, sizeof(message)) == 0) {
        (void)show_table(&table);
        pinti_csv_table_done(&table);
        return shown;
    }
    EXPECT_EQ(table.n_rows, 99);
    const size_t path_bytes = strlen(path);
    EXPECT_EQ(strncmp(message, path, path_bytes), 0);
    EXPECT_EQ(strncmp(message + path_bytes, ": ", 2), 0);
    return message + path_bytes + 2;
}

const char *csv_show_options(const char *text, const pinti_csv_options *options)
{
    return csv_show_path(csv_write_file(text, strlen(text)), options);
}

const char *csv_show(const char *text)
{
    return csv_show_options(text, NULL);
}

const char *csv_show_as(const char *type, const char *text)
{
    return csv_show_options(text, &(pinti_csv_options){.types = &type, .n_types = 1});
}
