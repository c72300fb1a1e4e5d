/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/service/pid_namespace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/ct.h"

#define NOT_PERMITTED 77

static bool write_text(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        (void)close(fd);
    }
    return good;
}

/* Children of this process are to be in a new pid namespace; in a user namespace as well where only
 * that is permitted, with this user as itself. */
static bool leave_namespace(void)
{
    char uid[64];
    char gid[64];
    (void)snprintf(uid, sizeof(uid), "%u %u 1", (unsigned)getuid(), (unsigned)getuid());
    (void)snprintf(gid, sizeof(gid), "%u %u 1", (unsigned)getgid(), (unsigned)getgid());
    return unshare(CLONE_NEWPID) == 0 ||
           (unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0 &&
            write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/uid_map", uid) &&
            write_text("/proc/self/gid_map", gid));
}

/* Runs argv[1] as process 1. */
PROC(process_one)
{
    int status = 0;
    CT_REQUIRE(argc > 1);
    if (!leave_namespace()) {
        return NOT_PERMITTED;
    }
    const pid_t pid = fork();
    CT_REQUIRE(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)execv(argv[1], argv + 1);
        _exit(127);
    }
    CT_REQUIRE(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool pidns_start(raw_service *service, const char *dir, const char *name)
{
    int ready[2];
    char number[16];
    char byte = 0;
    if (pipe2(ready, O_CLOEXEC) != 0) {
        return false;
    }
    (void)snprintf(service->address, sizeof(service->address), "%s/%s.sock", dir, name);
    (void)snprintf(number, sizeof(number), "%d", ready[1]);
    const char *args[] = {PINT_BIN_DIR "/pintabled",
                          "--address",
                          service->address,
                          "--budget",
                          "64M",
                          "--ready-fd",
                          number,
                          "--restarts-max",
                          "60",
                          NULL};
    /* the leak checker looks for its own number in /proc, which is that of another namespace */
    const char *const env[] = {"LSAN_OPTIONS=detect_leaks=0", NULL};
    service->pid = ct_spawn_opts("process_one", args, .env = env, .inherit_fds = &ready[1],
                                 .n_inherit_fds = 1);
    (void)close(ready[1]);
    const bool is_ready = read(ready[0], &byte, 1) == 1;
    (void)close(ready[0]);
    if (!is_ready) {
        EXPECT_EQ(ct_wait(service->pid), NOT_PERMITTED);
    }
    return is_ready;
}

pid_t pidns_keeper(const raw_service *service)
{
    return pidns_children_of(service->pid).living;
}

pidns_children pidns_children_of(pid_t parent)
{
    pidns_children found = {.living = -1};
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry = folder != NULL ? readdir(folder) : NULL; entry != NULL;
         entry = readdir(folder)) {
        char path[300];
        char state = '\0';
        int ppid = 0;
        (void)snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "re") : NULL;
        if (file == NULL) {
            continue;
        }
        if (fscanf(file, "%*d (%*[^)]) %c %d", &state, &ppid) == 2 && ppid == (int)parent) {
            found.n_zombies += state == 'Z' ? 1 : 0;
            found.n_living += state != 'Z' ? 1 : 0;
            found.living = state != 'Z' ? (pid_t)strtol(entry->d_name, NULL, 10) : found.living;
        }
        (void)fclose(file);
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return found;
}
