/* SPDX-License-Identifier: Apache-2.0 */

/* pintable load: a CSV file becomes a table, whole or not at all. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/load_table.h"
#include "ipc/cli/output.h"
#include "ipc/connect.h"

#define MESSAGE_BYTES 1024
#define PROGRESS_MS   100
#define CLEAR_LINE    "\r\033[K"

/* ---- progress -------------------------------------------------------------------------------- */

/* One line of a terminal, written again and again; nothing where standard error is no terminal. */
typedef struct progress {
    bool is_shown;
    bool is_dirty; /* the line holds something */
    int64_t start_ms;
    int64_t shown_ms;
} progress;

static void start_progress(progress *line)
{
    const char *term = getenv("TERM");
    *line =
        (progress){.is_shown = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0,
                   .start_ms = pinti_clock_ms()};
}

static void show_progress(progress *line, const char *text)
{
    line->shown_ms = pinti_clock_ms();
    if (line->is_shown) {
        (void)fprintf(stderr, CLEAR_LINE "%s, %.1f s", text,
                      (double)(line->shown_ms - line->start_ms) / 1000.0);
        (void)fflush(stderr);
        line->is_dirty = true;
    }
}

static void end_progress(progress *line)
{
    if (line->is_dirty) {
        (void)fputs(CLEAR_LINE, stderr);
        (void)fflush(stderr);
        line->is_dirty = false;
    }
}

static int on_read(void *arg, uint64_t read_bytes, uint64_t file_bytes)
{
    progress *line = arg;
    char size[PINTI_OUT_ROOM];
    char text[3 * PINTI_OUT_ROOM];
    const bool is_end = file_bytes > 0 && read_bytes >= file_bytes;
    if (!is_end && pinti_clock_ms() - line->shown_ms < PROGRESS_MS) {
        return 0;
    }
    if (is_end) {
        (void)snprintf(text, sizeof(text), "converting");
    } else if (file_bytes > 0) {
        (void)snprintf(text, sizeof(text), "reading: %.0f %% of %s",
                       100.0 * (double)read_bytes / (double)file_bytes,
                       pinti_out_bytes(size, file_bytes));
    } else if (read_bytes > 0) {
        (void)snprintf(text, sizeof(text), "reading: %s", pinti_out_bytes(size, read_bytes));
    } else {
        (void)snprintf(text, sizeof(text), "reading"); /* a pipe has no offset */
    }
    show_progress(line, text);
    return 0;
}

/* ---- reading the file ------------------------------------------------------------------------ */

static int exit_of_read(int result)
{
    switch (-result) {
    case EINVAL:
        return PINTI_EXIT_USAGE;
    case ENOMEM:
        return PINTI_EXIT_INTERNAL;
    case EACCES:
    case EPERM:
        return PINTI_EXIT_PERMISSION;
    default:
        return PINTI_EXIT_FAILED;
    }
}

/* One byte, "tab" or "\t". */
static bool parse_delimiter(const char *text, char *out)
{
    if (text == NULL) {
        *out = '\0'; /* the reader's default */
        return true;
    }
    if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0) {
        *out = '\t';
        return true;
    }
    if (text[0] == '\0' || text[1] != '\0') {
        pinti_complain("load: --delimiter takes one character, or 'tab', not '%s'", text);
        return false;
    }
    *out = text[0];
    return true;
}

static int read_file(const pinti_args *args, char delimiter, progress *line, pinti_csv_table *out)
{
    char message[MESSAGE_BYTES] = "";
    const char **nulls;
    const char **types;
    pinti_csv_options options = {.delimiter = delimiter,
                                 .quoted_null = pinti_args_has(args, "quoted-null"),
                                 .progress = line->is_shown ? on_read : NULL,
                                 .progress_arg = line};
    options.n_nulls = pinti_args_values(args, "null", &nulls);
    options.n_types = pinti_args_values(args, "type", &types);
    options.nulls = nulls;
    options.types = types;
    const int result = pinti_csv_read(args->operands[0], &options, out, message, sizeof(message));
    free(nulls);
    free(types);
    if (result != 0) {
        end_progress(line);
        pinti_complain("%s", message);
        return exit_of_read(result);
    }
    return PINTI_EXIT_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Before a long file is read: join where a service runs, and see that the name is free. *out_pool
 * stays NULL where none runs, so that a file that cannot be read starts none. */
static int look_ahead(const pinti_args *args, bool replace, pint_pool **out_pool)
{
    pint_error err = {0};
    pint_join_options options = PINT_JOIN_INIT;
    pint_table *table;
    options.flags = PINT_JOIN_NO_START;
    const pint_status status = pint_pool_join(args->address, &options, out_pool, &err);
    if (status == PINT_E_NO_SERVICE) {
        *out_pool = NULL;
        return PINTI_EXIT_OK;
    }
    if (status != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    if (replace ||
        pint_table_open(*out_pool, args->operands[1], PINT_READ, &table, &err) != PINT_OK) {
        return PINTI_EXIT_OK;
    }
    pint_table_close(table);
    pint_pool_leave(*out_pool);
    pinti_complain("load: there is a table '%s'; --replace takes its place", args->operands[1]);
    return PINTI_EXIT_FAILED;
}

static int load(const pinti_args *args, const pinti_load_options *options, char delimiter)
{
    pint_error err = {0};
    pint_pool *pool = NULL;
    pinti_csv_table source = {0};
    pinti_loaded loaded = {0};
    progress line;
    start_progress(&line);
    int result = look_ahead(args, options->replace, &pool);
    if (result != PINTI_EXIT_OK) {
        return result;
    }
    result = read_file(args, delimiter, &line, &source);
    if (result == PINTI_EXIT_OK) {
        if (pinti_args_has(args, "floats")) {
            pinti_load_floats(&source);
        }
        show_progress(&line, "making the table");
        if (pool == NULL) {
            result = pinti_cli_join(args, 0, &pool);
        }
    }
    if (result == PINTI_EXIT_OK) {
        const pint_status status =
            pinti_load_table(pool, args->operands[1], &source, options, &loaded, &err);
        end_progress(&line);
        result = status == PINT_OK ? PINTI_EXIT_OK : pinti_cli_fail(&err);
    }
    end_progress(&line);
    pinti_csv_table_done(&source);
    pint_pool_leave(pool);
    if (result == PINTI_EXIT_OK && !pinti_args_has(args, "quiet")) {
        char size[PINTI_OUT_ROOM];
        pinti_out_text(stdout, args->operands[1], strlen(args->operands[1]));
        (void)printf(": %" PRIu64 " rows, %" PRIu32 " columns, %s, %.2f s\n", loaded.n_rows,
                     loaded.n_columns, pinti_out_bytes(size, loaded.bytes),
                     (double)(pinti_clock_ms() - line.start_ms) / 1000.0);
    }
    return result;
}

/* --add NAME=TYPE, each; the names are views into values, cut at their last '='. */
static bool parse_added(char **values, uint32_t n, pinti_load_added *out)
{
    for (uint32_t i = 0; i < n; i++) {
        char *equals = strrchr(values[i], '=');
        if (equals == NULL || equals == values[i]) {
            pinti_complain("load: --add takes COLUMN=TYPE, not '%s'", values[i]);
            return false;
        }
        *equals = '\0';
        out[i] = (pinti_load_added){values[i], pint_type_by_name(equals + 1)};
        if (pint_type_bytes(out[i].type) == 0 || out[i].type == PINT_TIMESTAMP) {
            pinti_complain("load: --add %s: '%s' is none of bool8, int8 to int64, uint8 to uint64, "
                           "float16 to float64, date32",
                           values[i], equals + 1);
            return false;
        }
    }
    return true;
}

static int load_with_added(const pinti_args *args, pinti_load_options *options, char delimiter)
{
    const char **values;
    const uint32_t n = pinti_args_values(args, "add", &values);
    char **copies = pinti_cli_alloc(n + 1u, sizeof(*copies));
    pinti_load_added *added = pinti_cli_alloc(n + 1u, sizeof(*added));
    for (uint32_t i = 0; i < n; i++) {
        const size_t bytes = strlen(values[i]) + 1;
        copies[i] = pinti_cli_alloc(bytes, 1);
        memcpy(copies[i], values[i], bytes);
    }
    int result = PINTI_EXIT_USAGE;
    if (parse_added(copies, n, added)) {
        options->added = added;
        options->n_added = n;
        result = load(args, options, delimiter);
    }
    for (uint32_t i = 0; i < n; i++) {
        free(copies[i]);
    }
    free(copies);
    free(added);
    free(values);
    return result;
}

static int run(const pinti_args *args)
{
    char delimiter;
    const char *chunk_text = pinti_args_value(args, "chunk-rows");
    pinti_load_options options = {.is_kept = !pinti_args_has(args, "family"),
                                  .replace = pinti_args_has(args, "replace")};
    if (!pinti_args_check_name(args->operands[1]) ||
        !parse_delimiter(pinti_args_value(args, "delimiter"), &delimiter) ||
        (chunk_text != NULL &&
         !pinti_args_u64("--chunk-rows", chunk_text, UINT32_MAX, &options.chunk_rows))) {
        return PINTI_EXIT_USAGE;
    }
    if (options.chunk_rows != 0 &&
        (options.chunk_rows < 512 || (options.chunk_rows & (options.chunk_rows - 1)) != 0)) {
        pinti_complain("load: --chunk-rows takes a power of two, 512 or more, not '%s'",
                       chunk_text);
        return PINTI_EXIT_USAGE;
    }
    return load_with_added(args, &options, delimiter);
}

static const pinti_cli_option options[] = {
    {'t', "type", "COLUMN=TYPE", "type of a column instead of the one found; may be repeated"},
    {'\0', "null", "TEXT",
     "text that means no value; may be repeated\n"
     "(default: the empty field, NA, N/A, null, NULL)"},
    {'\0', "quoted-null", NULL, "a quoted empty field is null, too"},
    {'d', "delimiter", "C", "between fields (default: ','); 'tab' for a tabulator"},
    {'\0', "floats", NULL, "integer columns become float64 (those that lose no digit)"},
    {'\0', "add", "COLUMN=TYPE", "a further column of zeros, room for results; may be repeated"},
    {'r', "replace", NULL, "take the place of a table of that name"},
    {'\0', "family", NULL,
     "do not keep the table: it goes with the last process of\n"
     "the family ($PINTABLE_FAMILY) that this one belongs to"},
    {'q', "quiet", NULL, "say nothing on success"},
    {'\0', "chunk-rows", "ROWS", "rows of a chunk: a power of two, 512 or more (default: chosen)"},
};

const pinti_cli_command pinti_cmd_load = {
    .name = "load",
    .operands = "FILE NAME",
    .summary = "make a table from a CSV file, which may be gzipped ('-': standard input)",
    .details =
        "The first line names the columns. Types are found from every value of the file. Those\n"
        "that --type takes: bool, int8 to int64, uint8 to uint64, float32, float64, date,\n"
        "timestamp[s|ms|us|ns], category, text; timestamp[ms,UTC] for values that are UTC.\n"
        "A file with a wrong value makes no table. The table is kept until it is dropped.\n"
        "Starts a private service where none runs.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_operands = 2,
    .max_operands = 2,
    .run = run,
};
