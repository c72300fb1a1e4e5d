/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IPC_SERVICE_KERNEL_H
#define IPC_SERVICE_KERNEL_H

/*
 * Kernel features that glibc 2.34 does not wrap, and those that an older kernel may lack. Each can
 * be switched off by PINTABLED_DISABLE (comma list) so that its fallback is tested on any kernel.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct pinti_features {
    bool peerpidfd;    /* SO_PEERPIDFD, 6.5 */
    bool pidfd;        /* pidfd_open, 5.3 */
    bool collapse;     /* MADV_COLLAPSE, 6.1 */
    bool populate;     /* MADV_POPULATE_WRITE, 5.14 */
    bool noexec_seal;  /* MFD_NOEXEC_SEAL, 6.3 */
    bool future_write; /* F_SEAL_FUTURE_WRITE, 5.1 */
} pinti_features;

/* All true but those that disabled (a comma list, may be NULL) names. False: an unknown name. */
bool pinti_features_set(pinti_features *features, const char *disabled);

/* Find out by trying which of the allowed ones this kernel has. */
void pinti_features_probe(pinti_features *features);

/* A sealable memfd of this size, close-on-exec. The descriptor, or -1 with errno. */
int pinti_memfd(const pinti_features *features, const char *name, uint64_t bytes);

/* The same file opened again, read-only, by way of /proc. The descriptor, or -1 with errno. */
int pinti_reopen_read_only(int fd);

/* Descriptors of processes: -1 with errno where there is none. */
int pinti_pidfd_open(pid_t pid);
int pinti_pidfd_of_peer(int socket);
int pinti_pidfd_kill(int pidfd, int signal_number);
bool pinti_pidfd_check(int fd); /* is it one? */

/* Is the tether (or life page) mapped by nobody? Adds F_SEAL_WRITE, which succeeds exactly then. */
enum pinti_tether { PINTI_TETHER_FREE, PINTI_TETHER_MAPPED, PINTI_TETHER_TAMPERED };
enum pinti_tether pinti_tether_probe(int fd);

/* Close every descriptor above 2 that is not in the list. */
void pinti_close_all_but(const int *keep, size_t n_keep);

uint64_t pinti_clock_ms(void); /* CLOCK_MONOTONIC */
uint64_t pinti_clock_realtime_ns(void);

/* Random bytes from the kernel; false with errno. */
bool pinti_random(void *out, size_t bytes);

#endif
