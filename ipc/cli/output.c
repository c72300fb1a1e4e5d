/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Printing. Whatever comes from a table, a name or the service may hold anything, so no byte of it
 * reaches the output but through put_character() here, whatever the form of the output.
 */

#include "ipc/cli/output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

#include "host/name.h"
#include "ipc/cli/cli.h"

#define GRID_GAP    2
#define REPLACEMENT 0xfffdu

/* ---- characters ------------------------------------------------------------------------------ */

/* Length of the UTF-8 sequence that a first byte begins; 1 for one that begins none. */
static size_t sequence_bytes(unsigned char first)
{
    return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
}

/* Decode one character. False: not UTF-8, *out_code is the byte, one byte long. */
static bool decode(const char *text, size_t bytes, uint32_t *out_code, size_t *out_bytes)
{
    const size_t n = sequence_bytes((unsigned char)text[0]);
    *out_code = (unsigned char)text[0];
    *out_bytes = 1;
    if (n > bytes || !pinti_utf8_is_valid(text, n)) {
        return false;
    }
    if (n > 1) {
        uint32_t code = (unsigned char)text[0] & (0xffu >> (n + 1));
        for (size_t i = 1; i < n; i++) {
            code = code << 6 | ((unsigned char)text[i] & 0x3fu);
        }
        *out_code = code;
        *out_bytes = n;
    }
    return true;
}

/* Does it command a terminal, or make text look like another: C0, DEL, C1, line and paragraph
 * separators, direction marks? */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0x200e || code == 0x200f ||
           code == 0x61c || code == 0xfeff;
}

void pinti_out_text(FILE *out, const char *text, size_t bytes)
{
    size_t n;
    for (size_t i = 0; i < bytes; i += n) {
        uint32_t code;
        if (!decode(text + i, bytes - i, &code, &n)) {
            (void)fprintf(out, "\\x%02X", code);
        } else if (!is_control(code)) {
            (void)fwrite(text + i, 1, n, out);
        } else if (code == '\n' || code == '\t' || code == '\r') {
            (void)fputs(code == '\n' ? "\\n" : code == '\t' ? "\\t" : "\\r", out);
        } else {
            (void)fprintf(out, code < 0x80 ? "\\x%02X" : "\\u{%X}", code);
        }
    }
}

/* One character inside a JSON string that is already JSON but for what is_control() names. */
static void put_json_character(FILE *out, const char *text, size_t n, uint32_t code, bool is_utf8)
{
    if (!is_utf8) {
        (void)fprintf(out, "\\u%04x", REPLACEMENT);
    } else if (code == '\n' || code == '\t' || code == '\r') {
        (void)fputs(code == '\n' ? "\\n" : code == '\t' ? "\\t" : "\\r", out);
    } else if (is_control(code)) {
        (void)fprintf(out, "\\u%04x", code); /* all of them are below U+10000 */
    } else {
        (void)fwrite(text, 1, n, out);
    }
}

void pinti_out_json_text(FILE *out, const char *text, size_t bytes)
{
    size_t n;
    (void)fputc('"', out);
    for (size_t i = 0; i < bytes; i += n) {
        uint32_t code;
        const bool is_utf8 = decode(text + i, bytes - i, &code, &n);
        if (code == '"' || code == '\\') {
            (void)fputc('\\', out);
        }
        put_json_character(out, text + i, n, code, is_utf8);
    }
    (void)fputc('"', out);
}

size_t pinti_out_width(const char *text)
{
    const size_t bytes = strlen(text);
    size_t width = 0;
    size_t n;
    for (size_t i = 0; i < bytes; i += n) {
        uint32_t code;
        (void)decode(text + i, bytes - i, &code, &n);
        const int columns = code < 0x80 ? 1 : wcwidth((wchar_t)code);
        width += columns < 0 ? 1 : (size_t)columns;
    }
    return width;
}

/* ---- sizes and times ------------------------------------------------------------------------- */

const char *pinti_out_bytes(char out[PINTI_OUT_ROOM], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out, PINTI_OUT_ROOM, "%.*f %s", unit == 0 ? 0 : 1, value, units[unit]);
    return out;
}

const char *pinti_out_seconds(char out[PINTI_OUT_ROOM], uint64_t seconds)
{
    if (seconds < 60) {
        (void)snprintf(out, PINTI_OUT_ROOM, "%" PRIu64 " s", seconds);
    } else if (seconds < 3600) {
        (void)snprintf(out, PINTI_OUT_ROOM, "%" PRIu64 " min %" PRIu64 " s", seconds / 60,
                       seconds % 60);
    } else if (seconds < 86400) {
        (void)snprintf(out, PINTI_OUT_ROOM, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600,
                       seconds / 60 % 60);
    } else {
        (void)snprintf(out, PINTI_OUT_ROOM, "%" PRIu64 " d %" PRIu64 " h", seconds / 86400,
                       seconds / 3600 % 24);
    }
    return out;
}

const char *pinti_out_age(char out[PINTI_OUT_ROOM], uint64_t since_ns)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    const uint64_t age_ns = now_ns > since_ns ? now_ns - since_ns : 0; /* clocks are set back */
    return pinti_out_seconds(out, age_ns / 1000000000u);
}

const char *pinti_out_moment(char out[PINTI_OUT_ROOM], uint64_t since_ns)
{
    const time_t seconds = (time_t)(since_ns / 1000000000u);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, PINTI_OUT_ROOM, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        (void)snprintf(out, PINTI_OUT_ROOM, "%" PRIu64 " ns", since_ns);
    }
    return out;
}

/* ---- aligned tables -------------------------------------------------------------------------- */

void pinti_grid_init(pinti_grid *grid, const char *const *headings, unsigned n_columns)
{
    *grid = (pinti_grid){.n_columns = n_columns};
    grid->is_right = pinti_cli_alloc(n_columns, sizeof(*grid->is_right));
    grid->widths = pinti_cli_alloc(n_columns, sizeof(*grid->widths));
    for (unsigned i = 0; i < n_columns; i++) {
        grid->is_right[i] = headings[i][0] == '>';
        pinti_grid_add(grid, "%s", headings[i] + (grid->is_right[i] ? 1 : 0));
    }
}

void pinti_grid_take(pinti_grid *grid, char *text)
{
    if (grid->n_cells == grid->room) {
        const size_t room = grid->room == 0 ? 256 : grid->room * 2;
        char **cells = reallocarray(grid->cells, room, sizeof(*cells));
        if (cells == NULL) {
            pinti_cli_out_of_memory();
        }
        grid->cells = cells;
        grid->room = room;
    }
    const size_t column = grid->n_cells % grid->n_columns;
    const size_t width = pinti_out_width(text);
    if (width > grid->widths[column]) {
        grid->widths[column] = width;
    }
    grid->cells[grid->n_cells++] = text;
}

void pinti_grid_add(pinti_grid *grid, const char *format, ...)
{
    char *text = NULL;
    char *escaped = NULL;
    size_t escaped_bytes = 0;
    va_list arguments;
    va_start(arguments, format);
    const int bytes = vasprintf(&text, format, arguments);
    va_end(arguments);
    FILE *out = bytes >= 0 ? open_memstream(&escaped, &escaped_bytes) : NULL;
    if (out == NULL) {
        pinti_cli_out_of_memory();
        return; /* not reached */
    }
    pinti_out_text(out, text, (size_t)bytes);
    free(text);
    if (fclose(out) != 0) {
        pinti_cli_out_of_memory();
    }
    pinti_grid_take(grid, escaped);
}

void pinti_grid_print(const pinti_grid *grid)
{
    size_t pending = 0; /* spaces before the next cell that is not empty: no line ends in spaces */
    for (size_t i = 0; i < grid->n_cells; i++) {
        const size_t column = i % grid->n_columns;
        const char *cell = grid->cells[i];
        const size_t fill = grid->widths[column] - pinti_out_width(cell);
        pending += grid->is_right[column] ? fill : 0;
        if (cell[0] != '\0') {
            (void)printf("%*s%s", (int)pending, "", cell);
            pending = 0;
        }
        pending += (grid->is_right[column] ? 0 : fill) + GRID_GAP;
        if (column + 1 == grid->n_columns) {
            (void)putchar('\n');
            pending = 0;
        }
    }
}

void pinti_grid_done(pinti_grid *grid)
{
    for (size_t i = 0; i < grid->n_cells; i++) {
        free(grid->cells[i]);
    }
    free(grid->cells);
    free(grid->widths);
    free(grid->is_right);
    *grid = (pinti_grid){0};
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static cJSON *made(cJSON *item)
{
    if (item == NULL) {
        pinti_cli_out_of_memory();
    }
    return item;
}

void pinti_put_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    (void)made(cJSON_AddRawToObject(object, key, text)); /* a cJSON number is a double */
}

void pinti_put_text(cJSON *object, const char *key, const char *value)
{
    (void)made(cJSON_AddStringToObject(object, key, value));
}

void pinti_put_bool(cJSON *object, const char *key, bool value)
{
    (void)made(cJSON_AddBoolToObject(object, key, value));
}

void pinti_put_number(cJSON *object, const char *key, double value)
{
    (void)made(cJSON_AddNumberToObject(object, key, value));
}

cJSON *pinti_put_array(cJSON *object, const char *key)
{
    return made(cJSON_AddArrayToObject(object, key));
}

cJSON *pinti_put_object(cJSON *object, const char *key)
{
    return made(cJSON_AddObjectToObject(object, key));
}

cJSON *pinti_new_object(void)
{
    return made(cJSON_CreateObject());
}

cJSON *pinti_new_array(void)
{
    return made(cJSON_CreateArray());
}

cJSON *pinti_append_object(cJSON *array)
{
    cJSON *object = pinti_new_object();
    if (!cJSON_AddItemToArray(array, object)) {
        pinti_cli_out_of_memory();
    }
    return object;
}

void pinti_out_json(cJSON *document)
{
    char *text = cJSON_Print(document);
    if (text == NULL) {
        pinti_cli_out_of_memory();
        return; /* not reached */
    }
    const size_t bytes = strlen(text);
    size_t n;
    for (size_t i = 0; i < bytes; i += n) {
        uint32_t code;
        const bool is_utf8 = decode(text + i, bytes - i, &code, &n);
        if (code == '\n' || code == '\t') {
            (void)fputc((int)code, stdout); /* layout: cJSON escapes those inside strings */
        } else {
            put_json_character(stdout, text + i, n, code, is_utf8);
        }
    }
    (void)fputc('\n', stdout);
    cJSON_free(text);
    cJSON_Delete(document);
}
