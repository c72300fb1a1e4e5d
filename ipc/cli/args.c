/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Arguments: one table of options for each command gives the parser and the help. Options and
 * operands may be mixed; "--" ends the options; "-" is an operand.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/name.h"
#include "ipc/cli/cli.h"

/* What every command takes. */
static const pinti_cli_option common[] = {
    {'a', "address", "PATH",
     "socket, or folder of it, of the service\n(default: $PINTABLE_ADDRESS, else the user's own)"},
    {'h', "help", NULL, "print this"},
};
#define N_COMMON    (sizeof(common) / sizeof(common[0]))
#define HELP_COLUMN 26

/* ---- parsing --------------------------------------------------------------------------------- */

static const pinti_cli_option *find_in(const pinti_cli_option *options, size_t n_options,
                                       const char *name, size_t name_bytes, char letter)
{
    for (size_t i = 0; i < n_options; i++) {
        const pinti_cli_option *option = &options[i];
        if (name != NULL
                ? strlen(option->name) == name_bytes && memcmp(option->name, name, name_bytes) == 0
                : option->letter == letter) {
            return option;
        }
    }
    return NULL;
}

/* By name, or by letter when name is NULL. */
static const pinti_cli_option *find(const pinti_cli_command *command, const char *name,
                                    size_t name_bytes, char letter)
{
    const pinti_cli_option *option =
        command != NULL ? find_in(command->options, command->n_options, name, name_bytes, letter)
                        : NULL;
    return option != NULL ? option : find_in(common, N_COMMON, name, name_bytes, letter);
}

static void complain_usage(const pinti_cli_command *command, const char *what, const char *text)
{
    const char *space = command != NULL ? " " : "";
    const char *name = command != NULL ? command->name : "";
    pinti_complain("%s%s%s '%s'; see 'pintable%s%s --help'", name, command != NULL ? ": " : "",
                   what, text, space, name);
}

/* One option at argv[0], which begins with '-' and is neither "-" nor "--". Returns the arguments
 * it took, 0 when it is wrong (complained about when command is not NULL). */
static int take_option(const pinti_cli_command *command, int argc, char **argv,
                       pinti_given *out_given)
{
    const char *text = argv[0];
    const bool is_long = text[1] == '-';
    const char *equals = is_long ? strchr(text, '=') : NULL;
    const size_t name_bytes = equals != NULL ? (size_t)(equals - text) - 2 : strlen(text + 1) - 1;
    const pinti_cli_option *option =
        is_long ? find(command, text + 2, name_bytes, '\0') : find(command, NULL, 0, text[1]);
    if (option == NULL) {
        if (command != NULL) {
            complain_usage(command, "unknown option", text);
        }
        return 0;
    }
    const char *attached =
        is_long ? (equals != NULL ? equals + 1 : NULL) : (text[2] != '\0' ? text + 2 : NULL);
    *out_given = (pinti_given){option, attached};
    if (option->value == NULL) {
        if (attached != NULL && command != NULL) {
            complain_usage(command, "no value belongs to option", text);
        }
        return attached == NULL ? 1 : 0;
    }
    if (attached != NULL) {
        return 1;
    }
    if (argc < 2) {
        complain_usage(command, "a value is missing after", text);
        return 0;
    }
    out_given->value = argv[1];
    return 2;
}

static void take_given(pinti_args *args, const pinti_given *given)
{
    if (given->option == &common[0]) {
        args->address = given->value;
    } else if (given->option == &common[1]) {
        args->wants_help = true;
    } else {
        args->given[args->n_given++] = *given;
    }
}

static bool check_operands(const pinti_args *args)
{
    const pinti_cli_command *command = args->command;
    if (args->wants_help) {
        return true;
    }
    if (args->n_operands > command->max_operands) {
        complain_usage(command, "unexpected", args->operands[command->max_operands]);
        return false;
    }
    if (args->n_operands < command->min_operands) {
        pinti_complain("usage: pintable %s%s %s", command->name,
                       command->n_options > 0 ? " [OPTION]..." : "", command->operands);
        return false;
    }
    return true;
}

bool pinti_args_parse(const pinti_cli_command *command, int argc, char **argv, pinti_args *out)
{
    pinti_args args = {.command = command, .address = out->address};
    args.operands = pinti_cli_alloc((size_t)argc + 1, sizeof(*args.operands));
    args.given = pinti_cli_alloc((size_t)argc + 1, sizeof(*args.given));
    bool only_operands = command->is_raw;
    for (int i = 0; i < argc;) {
        if (only_operands || argv[i][0] != '-' || argv[i][1] == '\0') {
            args.operands[args.n_operands++] = argv[i++];
            continue;
        }
        if (strcmp(argv[i], "--") == 0) {
            only_operands = true;
            i++;
            continue;
        }
        pinti_given given;
        const int taken = take_option(command, argc - i, argv + i, &given);
        if (taken == 0) {
            pinti_args_done(&args);
            return false;
        }
        take_given(&args, &given);
        i += taken;
    }
    if (!check_operands(&args)) {
        pinti_args_done(&args);
        return false;
    }
    *out = args;
    return true;
}

void pinti_args_done(pinti_args *args)
{
    free(args->operands);
    free(args->given);
    *args = (pinti_args){0};
}

int pinti_args_global(int argc, char **argv, const char **out_address, bool *out_help,
                      bool *out_version)
{
    if (argv[0][0] != '-') {
        return 0;
    }
    if (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0) {
        *out_version = true;
        return 1;
    }
    if (argv[0][1] == '\0' || strcmp(argv[0], "--") == 0) {
        complain_usage(NULL, "unexpected", argv[0]);
        return -1;
    }
    pinti_given given;
    const int taken = take_option(NULL, argc, argv, &given);
    if (taken == 0) {
        complain_usage(NULL, "wrong option", argv[0]);
        return -1;
    }
    if (given.option == &common[0]) {
        *out_address = given.value;
    } else {
        *out_help = true;
    }
    return taken;
}

/* ---- asking ---------------------------------------------------------------------------------- */

bool pinti_args_has(const pinti_args *args, const char *option)
{
    for (unsigned i = 0; i < args->n_given; i++) {
        if (strcmp(args->given[i].option->name, option) == 0) {
            return true;
        }
    }
    return false;
}

const char *pinti_args_value(const pinti_args *args, const char *option)
{
    const char *value = NULL;
    for (unsigned i = 0; i < args->n_given; i++) {
        if (strcmp(args->given[i].option->name, option) == 0) {
            value = args->given[i].value;
        }
    }
    return value;
}

uint32_t pinti_args_values(const pinti_args *args, const char *option, const char ***out_values)
{
    uint32_t n = 0;
    *out_values = NULL;
    for (unsigned i = 0; i < args->n_given; i++) {
        if (strcmp(args->given[i].option->name, option) == 0) {
            if (*out_values == NULL) {
                *out_values = pinti_cli_alloc(args->n_given, sizeof(**out_values));
            }
            (*out_values)[n++] = args->given[i].value;
        }
    }
    return n;
}

/* Digits only: strtoull() alone takes spaces and signs. *out_rest: what follows them. */
static bool parse_u64(const char *text, uint64_t *out, const char **out_rest)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    *out_rest = end;
    return errno == 0;
}

bool pinti_args_u64(const char *what, const char *text, uint64_t max, uint64_t *out)
{
    const char *rest;
    uint64_t value;
    if (!parse_u64(text, &value, &rest) || *rest != '\0' || value > max) {
        pinti_complain("%s '%s' is not a number from 0 to %" PRIu64, what, text, max);
        return false;
    }
    *out = value;
    return true;
}

bool pinti_args_bytes(const char *what, const char *text, uint64_t *out)
{
    static const char letters[] = "KMGTP";
    const char *rest = "?";
    uint64_t value;
    bool is_number = parse_u64(text, &value, &rest);
    const char *letter = *rest != '\0' ? strchr(letters, *rest & ~0x20) : NULL;
    unsigned shift = 0;
    if (is_number && letter != NULL) {
        shift = 10 * ((unsigned)(letter - letters) + 1);
        rest++;
        rest += *rest == 'i' && rest[1] == 'B' ? 1 : 0;
    }
    rest += is_number && *rest == 'B' ? 1 : 0;
    if (!is_number || *rest != '\0' || value << shift >> shift != value) {
        pinti_complain("%s '%s' is not a number of bytes, such as 1048576, 512M or 64G", what,
                       text);
        return false;
    }
    *out = value << shift;
    return true;
}

bool pinti_args_check_name(const char *name)
{
    if (pinti_name_is_valid(name, strlen(name))) {
        return true;
    }
    pinti_complain("'%s' cannot be the name of a table: UTF-8, 1 to %u bytes, no control "
                   "characters, no '/'",
                   name, PINT_NAME_BYTES_MAX);
    return false;
}

/* ---- help ------------------------------------------------------------------------------------ */

static void print_option(const pinti_cli_option *option)
{
    char left[64];
    (void)snprintf(left, sizeof(left), "  %c%c%c --%s%s%s", option->letter != '\0' ? '-' : ' ',
                   option->letter != '\0' ? option->letter : ' ',
                   option->letter != '\0' ? ',' : ' ', option->name,
                   option->value != NULL ? " " : "", option->value != NULL ? option->value : "");
    const char *line = option->help;
    (void)printf("%-*s", HELP_COLUMN, left);
    if (strlen(left) >= HELP_COLUMN) {
        (void)printf("\n%*s", HELP_COLUMN, "");
    }
    for (;;) {
        const char *end = strchr(line, '\n');
        if (end == NULL) {
            (void)printf("%s\n", line);
            return;
        }
        (void)printf("%.*s\n%*s", (int)(end - line), line, HELP_COLUMN, "");
        line = end + 1;
    }
}

void pinti_args_print_help(const pinti_cli_command *command)
{
    (void)printf("usage: pintable %s [OPTION]...%s%s\n\n%s\n\n", command->name,
                 command->operands[0] != '\0' ? " " : "", command->operands, command->summary);
    for (unsigned i = 0; i < command->n_options; i++) {
        print_option(&command->options[i]);
    }
    for (unsigned i = 0; i < N_COMMON; i++) {
        print_option(&common[i]);
    }
    if (command->details != NULL) {
        (void)printf("\n%s\n", command->details);
    }
}
