/* SPDX-License-Identifier: Apache-2.0 */

/* pintable: look at and change the tables of a pool from a shell. docs/cli.md. */

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "ipc/cli/cli.h"
#include "pintable/version.h"

static const pinti_cli_command *const commands[] = {
    &pinti_cmd_ls,      &pinti_cmd_show,   &pinti_cmd_head,    &pinti_cmd_load,
    &pinti_cmd_drop,    &pinti_cmd_keep,   &pinti_cmd_jobs,    &pinti_cmd_stat,
    &pinti_cmd_devices, &pinti_cmd_copies, &pinti_cmd_discard, &pinti_cmd_ping,
    &pinti_cmd_evict,   &pinti_cmd_quota,  &pinti_cmd_serve,   &pinti_cmd_stop,
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
    (void)fputs("usage: pintable [--address PATH] COMMAND [ARGUMENT]...\n\n"
                "Tables in shared memory: load, look at and drop them; see the service.\n\n",
                out);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        (void)fprintf(out, "  %-7s %s\n", commands[i]->name, commands[i]->summary);
    }
    (void)fputs("\n"
                "  -a, --address PATH  socket, or folder of it, of the service\n"
                "                      (default: $PINTABLE_ADDRESS, else the user's own)\n"
                "  -h, --help          print this; 'pintable COMMAND --help' for a command\n"
                "  -V, --version       print the version\n"
                "\n"
                "Only 'load' starts a service where none runs: a private one that exits 60 s\n"
                "after its last user, if no table is kept.\n"
                "\n"
                "exit status: 0 done; 1 failed (not found, name taken, bad data); 2 timed out or\n"
                "busy; 64 wrong command line; 69 no service; 70 internal error; 77 not permitted\n",
                out);
}

static const pinti_cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    pinti_complain("unknown command '%s'; see 'pintable --help'", name);
    return NULL;
}

/* A result that did not reach its reader is none: a full disk, a closed standard output. */
static int flush_output(int status)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        pinti_complain("cannot write to standard output");
        return status == PINTI_EXIT_OK ? PINTI_EXIT_INTERNAL : status;
    }
    return status;
}

static int run_command(const pinti_cli_command *command, int argc, char **argv, const char *address)
{
    pinti_args args = {.address = address};
    if (!pinti_args_parse(command, argc, argv, &args)) {
        return PINTI_EXIT_USAGE;
    }
    int status = PINTI_EXIT_OK;
    if (args.wants_help) {
        pinti_args_print_help(command);
    } else {
        status = command->run(&args);
    }
    pinti_args_done(&args);
    return status;
}

/* "pintable help [COMMAND]" */
static int run_help(int argc, char **argv)
{
    if (argc == 0) {
        print_help(stdout);
        return PINTI_EXIT_OK;
    }
    const pinti_cli_command *command = find_command(argv[0]);
    if (command == NULL) {
        return PINTI_EXIT_USAGE;
    }
    pinti_args_print_help(command);
    return PINTI_EXIT_OK;
}

int main(int argc, char **argv)
{
    const char *address = NULL;
    bool wants_help = false;
    bool wants_version = false;
    int at = 1;
    /* for the widths of characters only; without it each counts as one column */
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    while (at < argc) {
        const int taken =
            pinti_args_global(argc - at, argv + at, &address, &wants_help, &wants_version);
        if (taken < 0) {
            return PINTI_EXIT_USAGE;
        }
        if (taken == 0) {
            break;
        }
        at += taken;
    }
    if (wants_help) {
        print_help(stdout);
        return flush_output(PINTI_EXIT_OK);
    }
    if (wants_version) {
        (void)printf("pintable %s\n", PINT_VERSION_STRING);
        return flush_output(PINTI_EXIT_OK);
    }
    if (at >= argc) {
        print_help(stderr);
        return PINTI_EXIT_USAGE;
    }
    if (strcmp(argv[at], "help") == 0) {
        return flush_output(run_help(argc - at - 1, argv + at + 1));
    }
    const pinti_cli_command *command = find_command(argv[at]);
    if (command == NULL) {
        return PINTI_EXIT_USAGE;
    }
    return flush_output(run_command(command, argc - at - 1, argv + at + 1, address));
}
