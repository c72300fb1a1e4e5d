/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A broker without a GPU: its memory is memfds, its IPC handles are made up. The file "mode" in
 * $FAKE_BROKER says what it does with the next request, "log" there is what it was asked:
 *
 *   ok         as it should
 *   refuse     out of device memory
 *   strange    an error with a status that is none of a device's
 *   hang       no answer
 *   die        it ends before it answers
 *   answer_die it answers and ends
 *   text       no JSON
 *   other_id   an answer to another question
 *   no_fd      success without a descriptor
 *   with_fd    an error, or an IPC handle, with a descriptor
 *   short_ipc  a handle of too few characters
 *   both       ok and error
 *   two_fds    two descriptors
 *   twice      the answer, and once more
 *   last       an error of unknown kind, its last answer; then it waits to be ended
 *   worn       the same, of a lost device, unless it is the first request of this process
 *   lost       the same, always
 *
 * "stop_at" there is a place where it stops (SIGSTOP), after a line "stopped PLACE" in the log,
 * once (the file is removed): "start", before it reads anything; "made", with memory that nobody
 * has been told of; "free", with a message to free.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINK 3
#define HANDLE                                                                                     \
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="

static const char *folder;

static void write_log(const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/log", folder);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)dprintf(fd, "%s\n", text);
        (void)close(fd);
    }
}

static void read_file(const char *name, char out[32])
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    out[0] = '\0';
    if (file == NULL || fgets(out, 32, file) == NULL) {
        memcpy(out, "ok", sizeof("ok"));
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void may_stop(const char *place)
{
    char path[512];
    char line[64];
    char where[32];
    read_file("stop_at", where);
    if (strcmp(where, place) == 0) {
        (void)snprintf(path, sizeof(path), "%s/stop_at", folder);
        (void)unlink(path);
        (void)snprintf(line, sizeof(line), "stopped %s", place);
        write_log(line);
        (void)raise(SIGSTOP);
    }
}

static void send_text(const char *text, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }
    (void)sendmsg(LINK, &message, MSG_NOSIGNAL);
}

static unsigned n_asked; /* requests for memory */

static void answer(const char *mode, uint64_t bytes, unsigned kind, uint64_t id)
{
    char text[512];
    int fds[2];
    fds[0] = memfd_create("fake", MFD_CLOEXEC);
    fds[1] = LINK;
    may_stop("made");
    if (fds[0] < 0 || ftruncate(fds[0], (off_t)bytes) != 0) {
        _exit(1);
    }
    const bool is_ipc = kind == 2;
    const bool other = strcmp(mode, "other_id") == 0;
    unsigned n_fds = is_ipc ? 0 : 1;
    (void)snprintf(text, sizeof(text),
                   is_ipc ? "{\"id\":%" PRIu64 ",\"ok\":true,\"ipc\":\"" HANDLE "\"}"
                          : "{\"id\":%" PRIu64 ",\"ok\":true}",
                   other ? id + 1000 : id);
    if (strcmp(mode, "refuse") == 0) {
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%" PRIu64 ",\"error\":\"CUDA_ERROR_OUT_OF_MEMORY\",\"status\":-62}",
                       id);
        n_fds = 0;
    } else if (strcmp(mode, "last") == 0) {
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%" PRIu64 ",\"error\":\"odd\",\"status\":-61,\"last\":true}", id);
        n_fds = 0;
    } else if (strcmp(mode, "lost") == 0 || (strcmp(mode, "worn") == 0 && n_asked > 1)) {
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%" PRIu64 ",\"error\":\"gone\",\"status\":-64,\"last\":true}", id);
        n_fds = 0;
    } else if (strcmp(mode, "strange") == 0) {
        (void)snprintf(text, sizeof(text),
                       "{\"id\":%" PRIu64 ",\"error\":\"an\\u0007odd one\",\"status\":-40}", id);
        n_fds = 0;
    } else if (strcmp(mode, "text") == 0) {
        (void)snprintf(text, sizeof(text), "here you are");
    } else if (strcmp(mode, "no_fd") == 0) {
        n_fds = 0;
    } else if (strcmp(mode, "with_fd") == 0) {
        n_fds = 1;
        if (!is_ipc) {
            (void)snprintf(text, sizeof(text), "{\"id\":%" PRIu64 ",\"error\":\"no\"}", id);
        }
    } else if (strcmp(mode, "short_ipc") == 0) {
        (void)snprintf(text, sizeof(text), "{\"id\":%" PRIu64 ",\"ok\":true,\"ipc\":\"AAEC\"}", id);
        n_fds = 0;
    } else if (strcmp(mode, "both") == 0) {
        (void)snprintf(text, sizeof(text), "{\"id\":%" PRIu64 ",\"ok\":true,\"error\":\"no\"}", id);
    } else if (strcmp(mode, "two_fds") == 0) {
        n_fds = 2;
    }
    send_text(text, fds, n_fds);
    if (strcmp(mode, "twice") == 0) {
        send_text(text, fds, n_fds);
    }
    (void)close(fds[0]);
    if (strcmp(mode, "answer_die") == 0) {
        _exit(0);
    }
}

int main(int argc, char **argv)
{
    char buffer[512];
    char mode[32];
    char line[128];
    folder = getenv("FAKE_BROKER");
    if (argc != 2 || folder == NULL || strlen(argv[1]) != 32) {
        return 2;
    }
    (void)snprintf(line, sizeof(line), "start %s", argv[1]);
    write_log(line);
    may_stop("start");
    for (;;) {
        const ssize_t n = recv(LINK, buffer, sizeof(buffer) - 1, 0);
        if (n <= 0) {
            write_log("end");
            return 0;
        }
        buffer[n] = '\0';
        write_log(buffer);
        uint64_t bytes = 0;
        uint64_t id = 0;
        unsigned kind = 0;
        if (sscanf(buffer, "{\"allocate\":%" SCNu64 ",\"kind\":%u,\"id\":%" SCNu64 "}", &bytes,
                   &kind, &id) != 3) {
            may_stop("free");
            continue;
        }
        n_asked++;
        read_file("mode", mode);
        if (strcmp(mode, "die") == 0) {
            return 1;
        }
        if (strcmp(mode, "hang") != 0) {
            answer(mode, bytes, kind, id);
        }
    }
}
