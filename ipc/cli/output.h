/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_OUTPUT_H
#define IPC_CLI_OUTPUT_H

/* How results are printed: text made safe for a terminal, sizes and times for people, aligned
 * tables, and one JSON document for scripts. */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- text ------------------------------------------------------------------------------------ */

/* Write text so that it cannot command a terminal: control characters and those that change the
 * direction of writing become \n, \t, \xHH or \u{HHHH}, bytes that are not UTF-8 \xHH. */
void pinti_out_text(FILE *out, const char *text, size_t bytes);

/* A JSON string with its quotes: pure data, with everything of the above as \uHHHH; bytes that are
 * not UTF-8 become U+FFFD. */
void pinti_out_json_text(FILE *out, const char *text, size_t bytes);

/* The columns of a terminal that UTF-8 text without control characters takes. */
size_t pinti_out_width(const char *text);

/* A number's text for people. The buffer is the caller's and is returned. */
#define PINTI_OUT_ROOM 48
const char *pinti_out_bytes(char out[PINTI_OUT_ROOM], uint64_t bytes);     /* "1.5 MiB" */
const char *pinti_out_seconds(char out[PINTI_OUT_ROOM], uint64_t seconds); /* "2 h 5 min" */
const char *pinti_out_age(char out[PINTI_OUT_ROOM], uint64_t since_ns);    /* of CLOCK_REALTIME */
const char *pinti_out_moment(char out[PINTI_OUT_ROOM], uint64_t since_ns); /* ISO 8601, UTC */

/* ---- aligned tables -------------------------------------------------------------------------- */

typedef struct pinti_grid {
    unsigned n_columns;
    bool *is_right; /* per column: align right */
    size_t *widths;
    char **cells; /* the header's first, row after row */
    size_t n_cells;
    size_t room;
} pinti_grid;

/* headings: n_columns of them; one that begins with '>' is aligned right. */
void pinti_grid_init(pinti_grid *grid, const char *const *headings, unsigned n_columns);
/* Append the next cell. The text is escaped by pinti_out_text(). */
void pinti_grid_add(pinti_grid *grid, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same with text that is escaped already; takes it (from malloc). */
void pinti_grid_take(pinti_grid *grid, char *text);
void pinti_grid_print(const pinti_grid *grid);
void pinti_grid_done(pinti_grid *grid);

/* ---- JSON ------------------------------------------------------------------------------------ */

/* Members of an object. Out of memory ends the program. Integers are written in full. */
void pinti_put_u64(cJSON *object, const char *key, uint64_t value);
void pinti_put_text(cJSON *object, const char *key, const char *value);
void pinti_put_bool(cJSON *object, const char *key, bool value);
void pinti_put_number(cJSON *object, const char *key, double value);
cJSON *pinti_put_array(cJSON *object, const char *key);
cJSON *pinti_put_object(cJSON *object, const char *key);
cJSON *pinti_new_object(void);
cJSON *pinti_new_array(void);
cJSON *pinti_append_object(cJSON *array);

/* Print the document with a newline, and delete it. */
void pinti_out_json(cJSON *document);

#endif
