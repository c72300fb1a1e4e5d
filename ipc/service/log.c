/* SPDX-License-Identifier: Apache-2.0 */

/* The log of keeper and service, which share the descriptor. */

#include "ipc/service/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/service/kernel.h"

#define LINES_MAX 100u
#define WINDOW_MS 10000u

static int log_fd = -1;
static uint64_t window_ms;
static unsigned n_lines;

bool pinti_log_open(const char *path)
{
    if (path == NULL) {
        return true;
    }
    log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return log_fd >= 0;
}

void pinti_log_close(void)
{
    if (log_fd >= 0) {
        (void)close(log_fd);
        log_fd = -1;
    }
}

int pinti_log_fd(void)
{
    return log_fd;
}

void pinti_log(const char *format, ...)
{
    const uint64_t now_ms = pinti_clock_ms();
    if (now_ms - window_ms >= WINDOW_MS) {
        window_ms = now_ms;
        n_lines = 0;
    }
    if (++n_lines > LINES_MAX) {
        return;
    }
    char line[512];
    const time_t now = time(NULL);
    struct tm utc;
    size_t used = gmtime_r(&now, &utc) == NULL
                      ? 0
                      : strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ ", &utc);
    used += (size_t)snprintf(line + used, sizeof(line) - used, "pintabled[%d] ", (int)getpid());
    va_list args;
    va_start(args, format);
    const int bytes = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    if (bytes > 0) {
        const size_t room = sizeof(line) - used - 2;
        used += (size_t)bytes < room ? (size_t)bytes : room;
    }
    line[used++] = '\n';
    /* a full disk or a closed pipe must not stop the service */
    const ssize_t written = write(log_fd >= 0 ? log_fd : STDERR_FILENO, line, used);
    (void)written;
}
