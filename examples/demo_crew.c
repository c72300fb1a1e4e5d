/* SPDX-License-Identifier: Apache-2.0 */

/* The demo's workers, seen from their parent: start, tell, watch, reap. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "demo.h"

void start_worker(worker *w, int number, bool is_victim)
{
    int down[2];
    int up[2];
    if (pipe(down) != 0 || pipe(up) != 0) {
        die("pipe", NULL);
    }
    char arguments[4][16];
    (void)snprintf(arguments[0], sizeof(arguments[0]), "%d", number);
    (void)snprintf(arguments[1], sizeof(arguments[1]), "%d", is_victim);
    (void)snprintf(arguments[2], sizeof(arguments[2]), "%d", down[0]);
    (void)snprintf(arguments[3], sizeof(arguments[3]), "%d", up[1]);
    w->pid = fork();
    if (w->pid < 0) {
        die("fork", NULL);
    }
    if (w->pid == 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        (void)execl("/proc/self/exe", "demo", "--worker", arguments[0], arguments[1], arguments[2],
                    arguments[3], (char *)NULL);
        _exit(127);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    w->to = down[1];
    w->from = up[0];
}

void tell_worker(const worker *to, const work *w)
{
    if (write(to->to, w->moments, sizeof(w->moments)) != (ssize_t)sizeof(w->moments)) {
        die("cannot tell a worker", NULL);
    }
}

void await_first_chunk(pint_job *job)
{
    pint_error err;
    pint_job_progress p = PINT_JOB_PROGRESS_INIT;
    while (p.n_held + p.n_done + p.n_redone == 0) {
        if (pint_job_wait(job, 1, &err) < PINT_E_TIMEOUT) {
            die("wait", &err);
        }
        TRY(pint_job_get_progress(job, &p, &err));
    }
}

double watch(pint_job *job, worker *workers, int n, int *out_killed)
{
    pint_error err;
    const double start = now_s();
    double end = 0;
    int left = n;
    uint32_t live = (uint32_t)n;
    *out_killed = -1;
    while (left > 0) {
        pint_job_progress p = PINT_JOB_PROGRESS_INIT;
        TRY(pint_job_get_progress(job, &p, &err));
        if (end == 0 && p.n_done + p.n_failed == p.n_chunks) {
            end = now_s();
        }
        show_progress(&p, live);
        int status;
        const pid_t pid = waitpid(-1, &status, end == 0 ? WNOHANG : 0);
        for (int i = 0; pid > 0 && i < n; i++) {
            if (workers[i].pid != pid) {
                continue;
            }
            left--;
            live--;
            if (WIFSIGNALED(status)) {
                *out_killed = i;
                hide_progress();
                (void)printf("  worker %d killed by signal %d, %s half way through a chunk\n", i,
                             WTERMSIG(status), WTERMSIG(status) == SIGKILL ? "SIGKILL," : "");
            } else if (WEXITSTATUS(status) != 0) {
                die("a worker failed", NULL);
            }
        }
        if (pid <= 0 && end == 0) {
            /* until the job moves on, or 20 ms */
            if (pint_job_wait(job, 20, &err) < PINT_E_TIMEOUT) {
                die("wait", &err);
            }
        }
    }
    hide_progress();
    return (end == 0 ? now_s() : end) - start;
}

void read_reports(worker *workers, int n)
{
    for (int i = 0; i < n; i++) {
        workers[i].has_report =
            read(workers[i].from, &workers[i].r, sizeof(report)) == (ssize_t)sizeof(report);
        (void)close(workers[i].to);
        (void)close(workers[i].from);
    }
}
