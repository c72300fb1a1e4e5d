/* SPDX-License-Identifier: Apache-2.0 */

/* The program pintabled: options, then keeper and service in turn (see base.h). */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/service/broker.h"
#include "ipc/service/keeper.h"
#include "ipc/service/listener.h"
#include "ipc/service/log.h"
#include "ipc/service/memory.h"
#include "ipc/service/service.h"
#include "pintable/version.h"

#define BUDGET_BYTES_MIN (2 * PINTI_SLAB_BYTES)

static const char usage[] =
    "Usage: pintabled [options]\n"
    "Serve a pool of tables in shared memory until SIGTERM or 'pintable stop'.\n"
    "\n"
    "  --address PATH      folder of the socket, or a path ending in .sock\n"
    "                      (default: $PINTABLE_ADDRESS, else the user's runtime directory)\n"
    "  --budget BYTES      memory for tables, K M G T allowed (default: half of the machine's)\n"
    "  --uid-bytes BYTES   of it for any one user (default: all)\n"
    "  --device-budget BYTES[,UUID=BYTES]...\n"
    "                      memory for device copies on each CUDA device, and on those named by\n"
    "                      the 32 hexadecimal digits of their UUID (default: no limit)\n"
    "  --mode OCTAL        who may join beside the owner, as for a file: group and others,\n"
    "                      r read-only, w read-write (default: 0600)\n"
    "  --sessions-max N    sessions of one user (default: 1024)\n"
    "  --idle-trim SECONDS hand free memory back after so long without creates, 0: never\n"
    "                      (default: 300)\n"
    "  --log FILE          append to FILE instead of standard error\n"
    "  --foreground        stay in the foreground (always so)\n"
    "  --ready-fd N        write one byte there when clients are served, not 'ready' to stdout\n"
    "  --restarts-max N    give up after more crashes than this in 10 s (default: 5, at most 60)\n"
    "  --private           exit when nobody has needed the service for a while\n"
    "  --linger SECONDS    with --private: that while (default: 60)\n"
    "  --lock-fd N         with --private: open file that holds the start lock\n"
    "  --daemonize         go on in a second process while the first exits at once\n"
    "  --version, --help\n"
    "\n"
    "PINTABLED_DISABLE switches kernel features off, to test what replaces them: peerpidfd, "
    "pidfd,\n"
    "collapse, populate, noexec_seal, future_write.\n"
    "\n"
    "Exit status: 0 stopped, 64 usage, 69 the address is taken, 70 crashed too often,\n"
    "71 operating system error, 77 not permitted.\n";

static int complain(int exit_status, const char *what, const char *text)
{
    (void)fprintf(stderr, "pintabled: %s%s%s\n", what, text != NULL ? ": " : "",
                  text != NULL ? text : "");
    return exit_status;
}

/* ---- options ------------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t max, int base, uint64_t *out, char **out_end)
{
    errno = 0;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    const unsigned long long value = strtoull(text, out_end, base);
    if (errno != 0 || value > max) {
        return false;
    }
    *out = value;
    return true;
}

static bool parse_count(const char *text, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    return parse_number(text, max, 10, out, &end) && *end == '\0';
}

/* "4G", "512M", "1048576" */
static bool parse_bytes(const char *text, uint64_t *out)
{
    static const char suffixes[] = "KMGT";
    char *end = NULL;
    uint64_t value = 0;
    if (!parse_number(text, UINT64_MAX, 10, &value, &end)) {
        return false;
    }
    const char *suffix = *end != '\0' ? strchr(suffixes, *end) : NULL;
    if (suffix != NULL) {
        const uint64_t unit = 1ull << (10 * (unsigned)(suffix - suffixes + 1));
        end++;
        if (__builtin_mul_overflow(value, unit, &value)) {
            return false;
        }
    }
    *out = value;
    return *end == '\0';
}

static bool parse_uuid(const char *text, uint8_t out[16])
{
    for (size_t i = 0; i < 32; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL) {
            return false;
        }
        out[i / 2] = (uint8_t)(out[i / 2] << 4 | (uint8_t)(digit - digits));
    }
    return text[32] == '\0';
}

/* "8G", "8G,0123…=2G,…", "0123…=2G" */
static bool parse_device_budget(const char *text, pinti_options *options)
{
    const uint32_t room = sizeof(options->device_budgets) / sizeof(options->device_budgets[0]);
    char parts[1024];
    char *rest = NULL;
    if (strlen(text) >= sizeof(parts) || text[0] == '\0') {
        return false;
    }
    memcpy(parts, text, strlen(text) + 1);
    options->device_bytes = 0;
    options->n_device_budgets = 0;
    bool has_default = false;
    for (char *part = strtok_r(parts, ",", &rest); part != NULL;
         part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        uint64_t bytes = 0;
        if (!parse_bytes(equals != NULL ? equals + 1 : part, &bytes) || bytes == 0) {
            return false;
        }
        if (equals == NULL) {
            if (has_default) {
                return false;
            }
            has_default = true;
            options->device_bytes = bytes;
            continue;
        }
        *equals = '\0';
        const uint32_t at = options->n_device_budgets;
        if (at == room || !parse_uuid(part, options->device_budgets[at].uuid)) {
            return false;
        }
        options->device_budgets[at].bytes = bytes;
        options->n_device_budgets++;
    }
    return true;
}

static bool parse_fd(const char *text, int *out)
{
    uint64_t value = 0;
    if (!parse_count(text, INT32_MAX, &value) || fcntl((int)value, F_GETFD) < 0) {
        return false;
    }
    *out = (int)value;
    return true;
}

enum option_id {
    OPTION_ADDRESS = 256,
    OPTION_BUDGET,
    OPTION_UID_BYTES,
    OPTION_DEVICE_BUDGET,
    OPTION_MODE,
    OPTION_SESSIONS_MAX,
    OPTION_IDLE_TRIM,
    OPTION_LOG,
    OPTION_FOREGROUND,
    OPTION_READY_FD,
    OPTION_RESTARTS_MAX,
    OPTION_PRIVATE,
    OPTION_LINGER,
    OPTION_LOCK_FD,
    OPTION_DAEMONIZE,
    OPTION_INDICES,
    OPTION_BROKER_MS,
    OPTION_VERSION,
    OPTION_HELP
};

static const struct option long_options[] = {
    {"address", required_argument, NULL, OPTION_ADDRESS},
    {"budget", required_argument, NULL, OPTION_BUDGET},
    {"uid-bytes", required_argument, NULL, OPTION_UID_BYTES},
    {"device-budget", required_argument, NULL, OPTION_DEVICE_BUDGET},
    {"mode", required_argument, NULL, OPTION_MODE},
    {"sessions-max", required_argument, NULL, OPTION_SESSIONS_MAX},
    {"idle-trim", required_argument, NULL, OPTION_IDLE_TRIM},
    {"log", required_argument, NULL, OPTION_LOG},
    {"foreground", no_argument, NULL, OPTION_FOREGROUND},
    {"ready-fd", required_argument, NULL, OPTION_READY_FD},
    {"restarts-max", required_argument, NULL, OPTION_RESTARTS_MAX},
    {"private", no_argument, NULL, OPTION_PRIVATE},
    {"linger", required_argument, NULL, OPTION_LINGER},
    {"lock-fd", required_argument, NULL, OPTION_LOCK_FD},
    {"daemonize", no_argument, NULL, OPTION_DAEMONIZE},
    {"test-indices", required_argument, NULL, OPTION_INDICES}, /* makes reuse of indices testable */
    {"test-broker-ms", required_argument, NULL, OPTION_BROKER_MS}, /* likewise for slow brokers */
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

/* False: the argument is not good. */
static bool set_option(pinti_options *options, int id, const char *text)
{
    uint64_t value = 0;
    bool good = true;
    char *end = NULL;
    switch (id) {
    case OPTION_ADDRESS:
        options->address = text;
        return text[0] != '\0';
    case OPTION_BUDGET:
        good = parse_bytes(text, &options->budget_bytes);
        return good && options->budget_bytes >= BUDGET_BYTES_MIN;
    case OPTION_UID_BYTES:
        return parse_bytes(text, &options->uid_bytes);
    case OPTION_DEVICE_BUDGET:
        return parse_device_budget(text, options);
    case OPTION_BROKER_MS:
        good = parse_count(text, PINTI_BROKER_MS, &value) && value > 0;
        options->broker_ms = (uint32_t)value;
        return good;
    case OPTION_MODE:
        good = parse_number(text, 0777, 8, &value, &end) && *end == '\0';
        options->mode = (uint32_t)value;
        return good;
    case OPTION_SESSIONS_MAX:
        good = parse_count(text, PINTI_SESSIONS_MAX, &value) && value > 0;
        options->sessions_max = (uint32_t)value;
        return good;
    case OPTION_INDICES:
        good = parse_count(text, PINTI_SESSIONS_MAX, &value) && value > 1;
        options->index_max = (uint32_t)value;
        return good;
    case OPTION_IDLE_TRIM:
        return parse_count(text, UINT32_MAX, &options->idle_trim_s);
    case OPTION_LOG:
        options->log = text;
        return text[0] != '\0';
    case OPTION_FOREGROUND:
        return true;
    case OPTION_READY_FD:
        return parse_fd(text, &options->ready_fd);
    case OPTION_RESTARTS_MAX:
        good = parse_count(text, PINTI_RESTARTS_ROOM - 4, &value);
        options->restarts_max = (uint32_t)value;
        return good;
    case OPTION_PRIVATE:
        options->private_service = true;
        return true;
    case OPTION_LINGER:
        return parse_count(text, UINT32_MAX, &options->linger_s);
    case OPTION_LOCK_FD:
        return parse_fd(text, &options->lock_fd);
    case OPTION_DAEMONIZE:
        options->daemonize = true;
        return true;
    default:
        return false;
    }
}

static const char *option_name(int id)
{
    for (const struct option *o = long_options; o->name != NULL; o++) {
        if (o->val == id) {
            return o->name;
        }
    }
    return "?";
}

/* True: go on. Else *out_status is the exit status. */
static bool read_options(int argc, char **argv, pinti_options *options, int *out_status)
{
    bool has_linger = false;
    options->mode = 0600;
    options->sessions_max = 1024;
    options->index_max = PINTI_SESSIONS_MAX;
    options->restarts_max = 5;
    options->broker_ms = PINTI_BROKER_MS;
    options->linger_s = 60;
    options->idle_trim_s = 300;
    for (;;) {
        const int id = getopt_long(argc, argv, "", long_options, NULL);
        if (id < 0) {
            break;
        }
        if (id == OPTION_HELP || id == OPTION_VERSION) {
            (void)fputs(id == OPTION_HELP ? usage : "pintabled " PINT_VERSION_STRING "\n", stdout);
            *out_status = fflush(stdout) == 0 ? PINTI_EXIT_OK : PINTI_EXIT_OS;
            return false;
        }
        if (id == '?') {
            *out_status = complain(PINTI_EXIT_USAGE, "see pintabled --help", NULL);
            return false;
        }
        has_linger = has_linger || id == OPTION_LINGER;
        if (!set_option(options, id, optarg)) {
            (void)fprintf(stderr, "pintabled: bad value for --%s: %s\n", option_name(id),
                          optarg != NULL ? optarg : "");
            *out_status = PINTI_EXIT_USAGE;
            return false;
        }
    }
    if (optind < argc) {
        *out_status = complain(PINTI_EXIT_USAGE, "unexpected argument", argv[optind]);
        return false;
    }
    if (!options->private_service && (has_linger || options->lock_fd >= 0)) {
        *out_status = complain(PINTI_EXIT_USAGE, "--linger and --lock-fd go with --private", NULL);
        return false;
    }
    return true;
}

/* ---- the process --------------------------------------------------------------------------- */

static void harden(void)
{
    struct rlimit limit;
    const struct rlimit none = {0, 0};
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* closes /proc/PID/fd and mem to the same user */
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
    /* what a shell allowed the first user of a private service is not for all its users */
    const int raised[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_FSIZE};
    for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++) {
        if (getrlimit((__rlimit_resource_t)raised[i], &limit) == 0) {
            limit.rlim_cur = limit.rlim_max;
            (void)setrlimit((__rlimit_resource_t)raised[i], &limit);
        }
    }
    (void)umask(077);
}

static void set_signals(void)
{
    sigset_t set;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGCHLD, SIG_DFL);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL); /* read from a signalfd */
}

/* Descriptors 0 to 2 must exist, or a segment would become somebody's standard output. */
static bool fill_standard_streams(void)
{
    int fd = -1;
    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        (void)close(fd);
    }
    return fd >= 0;
}

static int status_of(pint_status status)
{
    if (status == PINT_E_EXISTS || status == PINT_E_NO_SERVICE) {
        return PINTI_EXIT_UNAVAILABLE;
    }
    if (status == PINT_E_PERMISSION) {
        return PINTI_EXIT_PERMISSION;
    }
    return status == PINT_E_RANGE || status == PINT_E_INVALID ? PINTI_EXIT_USAGE : PINTI_EXIT_OS;
}

static int fail(pint_status status, const pint_error *err)
{
    return complain(status_of(status), err->message, NULL);
}

static int prepare(pinti_base *base)
{
    pint_error err = {.status = PINT_OK};
    base->uid = geteuid();
    base->gid = getegid();
    if (!pinti_features_set(&base->features, getenv("PINTABLED_DISABLE"))) {
        return complain(PINTI_EXIT_USAGE, "PINTABLED_DISABLE names an unknown feature", NULL);
    }
    pint_status status = pinti_address_resolve(base->options.address, 1, &base->address, &err);
    if (status != PINT_OK) {
        return fail(status, &err);
    }
    if (!pinti_log_open(base->options.log)) {
        return complain(errno == EACCES ? PINTI_EXIT_PERMISSION : PINTI_EXIT_OS, "cannot open log",
                        base->options.log);
    }
    if (base->options.daemonize && chdir("/") != 0) {
        return complain(PINTI_EXIT_OS, "chdir", "/"); /* all paths are absolute or open by now */
    }
    pinti_features_probe(&base->features);
    status = pinti_listener_open(base, &err);
    if (status != PINT_OK) {
        return fail(status, &err);
    }
    if (base->options.budget_bytes == 0) {
        base->options.budget_bytes = pinti_memory_default_budget();
    }
    status =
        pinti_segments_create(&base->segments, &base->features, base->options.budget_bytes, &err);
    if (status != PINT_OK) {
        pinti_listener_unlink(base);
        return fail(PINT_E_SYSTEM, &err);
    }
    return PINTI_EXIT_OK;
}

/* True in the process that is to go on. The library starts us like this, so that we are nobody's
 * child (ipc/launch.c); it has made the session and the streams already. */
static bool daemonize(int *out_status)
{
    const pid_t pid = fork();
    if (pid < 0) {
        *out_status = complain(PINTI_EXIT_OS, "fork", strerror(errno));
    }
    return pid == 0;
}

int main(int argc, char **argv)
{
    static pinti_base base;
    int exit_status = PINTI_EXIT_OK;
    pinti_base_init(&base);
    if (!fill_standard_streams()) {
        return PINTI_EXIT_OS;
    }
    if (!read_options(argc, argv, &base.options, &exit_status)) {
        return exit_status;
    }
    if (base.options.daemonize && !daemonize(&exit_status)) {
        return exit_status;
    }
    /* what a careless parent left open is not ours to keep */
    const int keep[] = {base.options.lock_fd, base.options.ready_fd};
    pinti_close_all_but(keep, sizeof(keep) / sizeof(keep[0]));
    harden();
    set_signals();
    exit_status = prepare(&base);
    if (exit_status == PINTI_EXIT_OK) {
        enum pinti_role role = PINTI_ROLE_KEEPER;
        while (role != PINTI_ROLE_EXIT) {
            role = role == PINTI_ROLE_KEEPER ? pinti_keeper_run(&base) : pinti_service_run(&base);
        }
        exit_status = base.exit_status;
    }
    pinti_base_done(&base);
    return exit_status;
}
