/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_CLI_CLI_H
#define IPC_CLI_CLI_H

/*
 * The program pintable: commands, their arguments, exit statuses. One file cmd_*.c per command.
 *
 * A command prints its results to standard output and everything else to standard error through
 * pinti_complain(). Memory that runs out ends the program (pinti_cli_alloc()).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pintable/pool.h"

/* docs/cli.md, and pintable --help. 64 and above are those of sysexits.h. */
enum pinti_exit {
    PINTI_EXIT_OK = 0,
    PINTI_EXIT_FAILED = 1,      /* the operation failed: not found, name taken, bad data */
    PINTI_EXIT_BUSY = 2,        /* timed out or busy: the same may succeed later */
    PINTI_EXIT_USAGE = 64,      /* the command line is wrong */
    PINTI_EXIT_NO_SERVICE = 69, /* no service runs at the address, or it went away */
    PINTI_EXIT_INTERNAL = 70,   /* memory, a system call, the protocol */
    PINTI_EXIT_PERMISSION = 77
};

typedef struct pinti_cli_option {
    char letter;       /* 0: none */
    const char *name;  /* without dashes */
    const char *value; /* placeholder of its value; NULL: a switch */
    const char *help;  /* lines separated by \n */
} pinti_cli_option;

struct pinti_args;

typedef struct pinti_cli_command {
    const char *name;
    const char *operands; /* as shown in the usage line */
    const char *summary;  /* one line */
    const char *details;  /* further help; NULL for none */
    const pinti_cli_option *options;
    unsigned n_options;
    unsigned min_operands;
    unsigned max_operands;
    bool is_raw; /* every argument is an operand: they are another program's */
    int (*run)(const struct pinti_args *args);
} pinti_cli_command;

extern const pinti_cli_command pinti_cmd_serve;
extern const pinti_cli_command pinti_cmd_ls;
extern const pinti_cli_command pinti_cmd_show;
extern const pinti_cli_command pinti_cmd_head;
extern const pinti_cli_command pinti_cmd_load;
extern const pinti_cli_command pinti_cmd_drop;
extern const pinti_cli_command pinti_cmd_jobs;
extern const pinti_cli_command pinti_cmd_stat;
extern const pinti_cli_command pinti_cmd_devices;
extern const pinti_cli_command pinti_cmd_copies;
extern const pinti_cli_command pinti_cmd_discard;
extern const pinti_cli_command pinti_cmd_ping;
extern const pinti_cli_command pinti_cmd_evict;
extern const pinti_cli_command pinti_cmd_quota;
extern const pinti_cli_command pinti_cmd_keep;
extern const pinti_cli_command pinti_cmd_stop;

/* ---- arguments (args.c) ---------------------------------------------------------------------- */

typedef struct pinti_given {
    const pinti_cli_option *option;
    const char *value;
} pinti_given;

typedef struct pinti_args {
    const pinti_cli_command *command;
    const char *address; /* NULL: the default */
    const char **operands;
    unsigned n_operands;
    pinti_given *given; /* in the order of the command line */
    unsigned n_given;
    bool wants_help;
} pinti_args;

/* Take the arguments after the command's name apart; complains and returns false when they are
 * wrong. Views into argv. */
bool pinti_args_parse(const pinti_cli_command *command, int argc, char **argv, pinti_args *out);
void pinti_args_done(pinti_args *args);

/* One of the program's own options, before the command. Returns how many arguments it took, 0 when
 * argv[0] is none. */
int pinti_args_global(int argc, char **argv, const char **out_address, bool *out_help,
                      bool *out_version);

bool pinti_args_has(const pinti_args *args, const char *option);
/* Last value given, or NULL. */
const char *pinti_args_value(const pinti_args *args, const char *option);
/* Every value given, in order: *out_values is the caller's to free, NULL when there is none. */
uint32_t pinti_args_values(const pinti_args *args, const char *option, const char ***out_values);

/* Decimal number up to max of an option or operand; complains. */
bool pinti_args_u64(const char *what, const char *text, uint64_t max, uint64_t *out);
/* The same with a suffix: K, M, G, T, for powers of 1024 (also KiB, KB and so on). */
bool pinti_args_bytes(const char *what, const char *text, uint64_t *out);
/* Is it allowed as a table's name? Complains. */
bool pinti_args_check_name(const char *name);

/* Help of one command, to standard output. */
void pinti_args_print_help(const pinti_cli_command *command);

/* ---- for every command (cli.c) --------------------------------------------------------------- */

/* "pintable: text" on standard error; control characters are escaped. */
void pinti_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Complain about a failed call and return the exit status for it. */
int pinti_cli_fail(const pint_error *err);
int pinti_cli_exit_of(pint_status status);

/* Join. flags: PINT_JOIN_READ, PINT_JOIN_NO_START. Complains; PINTI_EXIT_OK or the exit status. */
int pinti_cli_join(const pinti_args *args, uint32_t flags, pint_pool **out_pool);

/* n items of `bytes` each, zeroed. Never NULL: the program ends with PINTI_EXIT_INTERNAL. */
void *pinti_cli_alloc(size_t n, size_t bytes);
void pinti_cli_out_of_memory(void) __attribute__((noreturn));

#endif
