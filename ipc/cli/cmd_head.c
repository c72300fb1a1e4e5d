/* SPDX-License-Identifier: Apache-2.0 */

/* pintable head: some rows of a table. Rows are read as they are at this moment, without a lease.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "ipc/cli/inspect.h"
#include "ipc/cli/output.h"
#include "ipc/cli/value.h"

#define ROWS_DEFAULT 10u

typedef struct selection {
    pint_table *table;
    pint_column *columns;
    uint32_t n_columns;
    uint64_t first;
    uint64_t end;
    uint64_t n_unread;     /* values that could not be read */
    pint_error unread_err; /* of the first of them */
} selection;

/* ---- which columns --------------------------------------------------------------------------- */

/* Append the column of this name. False: there is none (err says so). */
static bool take_column(selection *sel, const char *name, pint_error *err)
{
    pint_column *grown =
        reallocarray(sel->columns, (size_t)sel->n_columns + 1, sizeof(*sel->columns));
    if (grown == NULL) {
        pinti_cli_out_of_memory();
        return false; /* not reached */
    }
    sel->columns = grown;
    if (pint_table_column(sel->table, name, &sel->columns[sel->n_columns], err) != PINT_OK) {
        return false;
    }
    sel->n_columns++;
    return true;
}

/* One --columns: a name, which may hold commas, or names separated by commas. */
static bool take_columns(selection *sel, const char *text, pint_error *err)
{
    if (take_column(sel, text, err)) {
        return true;
    }
    if (strchr(text, ',') == NULL) {
        return false;
    }
    char *names = strdup(text);
    if (names == NULL) {
        pinti_cli_out_of_memory();
    }
    bool ok = true;
    char *rest = names;
    while (ok && rest != NULL) {
        const char *name = strsep(&rest, ",");
        ok = take_column(sel, name, err);
    }
    free(names);
    return ok;
}

static int select_columns(const pinti_args *args, selection *sel)
{
    pint_error err = {0};
    const char **texts;
    const uint32_t n_texts = pinti_args_values(args, "columns", &texts);
    bool ok = true;
    for (uint32_t i = 0; i < n_texts && ok; i++) {
        ok = take_columns(sel, texts[i], &err);
    }
    free(texts);
    if (!ok) {
        return pinti_cli_fail(&err);
    }
    if (n_texts > 0) {
        return PINTI_EXIT_OK;
    }
    sel->n_columns = pint_table_columns(sel->table);
    sel->columns = pinti_cli_alloc(sel->n_columns, sizeof(*sel->columns));
    for (uint32_t i = 0; i < sel->n_columns; i++) {
        if (pint_table_column_at(sel->table, i, &sel->columns[i], &err) != PINT_OK) {
            return pinti_cli_fail(&err);
        }
    }
    return PINTI_EXIT_OK;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void print_value(FILE *out, selection *sel, uint32_t column, uint64_t row,
                        enum pinti_form form)
{
    pint_error err = {0};
    if (pinti_value_print(out, &sel->columns[column], row, form, &err) != PINT_OK) {
        if (sel->n_unread == 0) {
            sel->unread_err = err;
        }
        sel->n_unread++;
    }
}

static void print_grid(selection *sel)
{
    if (sel->n_columns == 0) {
        return;
    }
    pinti_grid grid;
    const char **headings = pinti_cli_alloc(sel->n_columns, sizeof(*headings));
    char **owned = pinti_cli_alloc(sel->n_columns, sizeof(*owned));
    for (uint32_t i = 0; i < sel->n_columns; i++) {
        const char *name = pint_column_name(&sel->columns[i]);
        /* '>' aligns right; a name that begins with it keeps it behind another one */
        const bool marks = pinti_value_is_number(sel->columns[i].type) || name[0] == '>';
        if (asprintf(&owned[i], "%s%s", marks ? ">" : "", name) < 0) {
            pinti_cli_out_of_memory();
        }
        headings[i] = owned[i];
    }
    pinti_grid_init(&grid, headings, sel->n_columns);
    for (uint64_t row = sel->first; row < sel->end; row++) {
        for (uint32_t i = 0; i < sel->n_columns; i++) {
            char *text = NULL;
            size_t bytes = 0;
            FILE *out = open_memstream(&text, &bytes);
            if (out == NULL) {
                pinti_cli_out_of_memory();
                return; /* not reached */
            }
            print_value(out, sel, i, row, PINTI_FORM_GRID);
            if (fclose(out) != 0) {
                pinti_cli_out_of_memory();
            }
            pinti_grid_take(&grid, text);
        }
    }
    pinti_grid_print(&grid);
    pinti_grid_done(&grid);
    for (uint32_t i = 0; i < sel->n_columns; i++) {
        free(owned[i]);
    }
    free(owned);
    free(headings);
}

static void print_csv(selection *sel)
{
    for (uint32_t i = 0; i < sel->n_columns; i++) {
        const char *name = pint_column_name(&sel->columns[i]);
        (void)fputs(i > 0 ? "," : "", stdout);
        pinti_value_csv_text(stdout, name, strlen(name));
    }
    (void)fputc('\n', stdout);
    for (uint64_t row = sel->first; row < sel->end; row++) {
        for (uint32_t i = 0; i < sel->n_columns; i++) {
            (void)fputs(i > 0 ? "," : "", stdout);
            print_value(stdout, sel, i, row, PINTI_FORM_CSV);
        }
        (void)fputc('\n', stdout);
    }
}

/* An array of objects, one a line. Written directly: a cJSON number is a double. */
static void print_json(selection *sel)
{
    (void)fputs("[", stdout);
    for (uint64_t row = sel->first; row < sel->end; row++) {
        (void)fputs(row > sel->first ? ",\n {" : "\n {", stdout);
        for (uint32_t i = 0; i < sel->n_columns; i++) {
            const char *name = pint_column_name(&sel->columns[i]);
            (void)fputs(i > 0 ? ", " : "", stdout);
            pinti_out_json_text(stdout, name, strlen(name));
            (void)fputs(": ", stdout);
            print_value(stdout, sel, i, row, PINTI_FORM_JSON);
        }
        (void)fputc('}', stdout);
    }
    (void)fputs(sel->first < sel->end ? "\n]\n" : "]\n", stdout);
}

/* Torn bytes are never shown without a word. */
static void note_torn(const selection *sel)
{
    if (sel->first >= sel->end) {
        return;
    }
    const uint64_t chunk_rows = pint_table_chunk_rows(sel->table);
    const uint64_t first = sel->first / chunk_rows;
    const uint64_t n = (sel->end - 1) / chunk_rows - first + 1;
    for (uint32_t i = 0; i < sel->n_columns; i++) {
        pinti_chunk_counts counts;
        pinti_inspect_chunks(&sel->columns[i], first, n, &counts);
        if (counts.n_torn + counts.n_restoring > 0) {
            pinti_complain("note: column '%s': %" PRIu64 " of these chunks are torn: a writer died "
                           "inside, the values cannot be trusted",
                           pint_column_name(&sel->columns[i]), counts.n_torn + counts.n_restoring);
        }
    }
}

static int print_rows(const pinti_args *args, selection *sel)
{
    if (pinti_args_has(args, "json")) {
        print_json(sel);
    } else if (pinti_args_has(args, "csv")) {
        print_csv(sel);
    } else {
        print_grid(sel);
    }
    note_torn(sel);
    if (sel->n_unread > 0) {
        pinti_complain("values that could not be read: %" PRIu64 ", the first: %s", sel->n_unread,
                       sel->unread_err.message);
        return PINTI_EXIT_FAILED;
    }
    return PINTI_EXIT_OK;
}

static int head(const pinti_args *args, pint_pool *pool, uint64_t first, uint64_t n_rows)
{
    pint_error err = {0};
    selection sel = {0};
    if (pint_table_open(pool, args->operands[0], PINT_READ, &sel.table, &err) != PINT_OK) {
        return pinti_cli_fail(&err);
    }
    const uint64_t rows = pint_table_rows(sel.table);
    sel.first = first < rows ? first : rows;
    sel.end = n_rows < rows - sel.first ? sel.first + n_rows : rows;
    int result = select_columns(args, &sel);
    if (result == PINTI_EXIT_OK) {
        result = print_rows(args, &sel);
    }
    free(sel.columns);
    pint_table_close(sel.table);
    return result;
}

static int run(const pinti_args *args)
{
    pint_pool *pool;
    uint64_t first = 0;
    uint64_t n_rows = ROWS_DEFAULT;
    const char *rows_text = pinti_args_value(args, "rows");
    const char *from_text = pinti_args_value(args, "from");
    if (!pinti_args_check_name(args->operands[0]) ||
        (rows_text != NULL && !pinti_args_u64("--rows", rows_text, PINTI_ROWS_MAX, &n_rows)) ||
        (from_text != NULL && !pinti_args_u64("--from", from_text, PINTI_ROWS_MAX, &first))) {
        return PINTI_EXIT_USAGE;
    }
    if (pinti_args_has(args, "json") && pinti_args_has(args, "csv")) {
        pinti_complain("head: --json and --csv exclude each other");
        return PINTI_EXIT_USAGE;
    }
    int result = pinti_cli_join(args, PINT_JOIN_READ | PINT_JOIN_NO_START, &pool);
    if (result == PINTI_EXIT_OK) {
        result = head(args, pool, first, n_rows);
        pint_pool_leave(pool);
    }
    return result;
}

static const pinti_cli_option options[] = {
    {'n', "rows", "ROWS", "how many rows (default: 10)"},
    {'f', "from", "ROW", "first row, counted from 0 (default: 0)"},
    {'c', "columns", "A,B", "these columns, in this order; may be repeated"},
    {'j', "json", NULL, "print a JSON array with one object for each row"},
    {'\0', "csv", NULL, "print CSV with a header line"},
};

const pinti_cli_command pinti_cmd_head = {
    .name = "head",
    .operands = "NAME",
    .summary = "print the first rows of a table, or others",
    .details =
        "Dates and timestamps are ISO 8601; Z where the column has a zone (UTC). Without --json\n"
        "or --csv long values are cut, and control characters are written \\n, \\x1B. A null\n"
        "is printed as null, in CSV as an empty field (empty text as \"\"). JSON has NaN and\n"
        "infinities as strings. Values are read as they are while others may write them.",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
