/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pintable-broker UUID: the process that makes GPU memory for the service pintabled, which starts
 * it, with its socket as descriptor 3. Ends when the socket does.
 *
 * It sees just its own GPU, whatever the environment of the service hides: the first client's
 * CUDA_VISIBLE_DEVICES, which a service that was started by it inherits, must not decide which GPUs
 * others can use. A part of a GPU (MIG) has a UUID of the same form but another prefix, and a
 * driver that did not find a device does not look again: the program then starts anew to try the
 * other.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "device/cuda_broker.h"

#define SOCKET      3
#define UUID_DIGITS 32u

#define EXIT_DEVICE 1 /* answered: the device cannot be used */
#define EXIT_USAGE  2

extern char **environ;

static int usage(void)
{
    (void)fputs("pintable-broker makes GPU memory for pintabled, which starts it.\n", stderr);
    return EXIT_USAGE;
}

static bool is_socket(int fd)
{
    int type = 0;
    socklen_t bytes = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_SEQPACKET;
}

/* "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" in the environment of the driver. */
static bool show_only(const char *prefix, const char *uuid)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s%.8s-%.4s-%.4s-%.4s-%.12s", prefix, uuid, uuid + 8,
                   uuid + 12, uuid + 16, uuid + 20);
    return setenv("CUDA_VISIBLE_DEVICES", name, 1) == 0;
}

/* Start this program anew, for the other prefix. Returns on failure. */
static void try_as_mig(char **argv)
{
    char mig[] = "MIG-";
    char *again[] = {argv[0], argv[1], mig, NULL};
    if (fcntl(SOCKET, F_SETFD, 0) == 0) {
        (void)execve("/proc/self/exe", again, environ);
        (void)fcntl(SOCKET, F_SETFD, FD_CLOEXEC);
    }
}

int main(int argc, char **argv)
{
    const char *prefix = argc == 3 ? argv[2] : "GPU-";
    const bool is_first = argc == 2;
    if ((argc != 2 && argc != 3) || (!is_first && strcmp(prefix, "MIG-") != 0) ||
        strlen(argv[1]) != UUID_DIGITS ||
        strspn(argv[1], "0123456789abcdefABCDEF") != UUID_DIGITS || !is_socket(SOCKET)) {
        return usage();
    }
    /* Programs that the driver starts do not get it. */
    pint_error err;
    pinti_cuda_broker *broker = NULL;
    if (fcntl(SOCKET, F_SETFD, FD_CLOEXEC) != 0 || !show_only(prefix, argv[1])) {
        perror("pintable-broker");
        return EXIT_USAGE;
    }
    pint_status status = pinti_cuda_broker_open(argv[1], &broker, &err);
    if (status == PINT_E_NO_DEVICE && is_first) {
        try_as_mig(argv);
    }
    if (status != PINT_OK) {
        (void)fprintf(stderr, "pintable-broker: %s\n", err.message);
        pinti_cuda_broker_refuse(SOCKET, &err);
        return EXIT_DEVICE;
    }
    status = pinti_cuda_broker_serve(broker, SOCKET, &err);
    if (status != PINT_OK) {
        (void)fprintf(stderr, "pintable-broker: %s\n", err.message);
    }
    pinti_cuda_broker_close(broker);
    return status == PINT_OK ? EXIT_SUCCESS : EXIT_DEVICE;
}
