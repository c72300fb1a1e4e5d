/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SERVICE_PID_NAMESPACE_H
#define TESTS_SERVICE_PID_NAMESPACE_H

/* A pintabled that is process 1 of a pid namespace of its own, as in a container. */

#include "tests/service/raw.h"

/* As raw_start(); service->pid is that of its parent, which ends with its status. False, without a
 * failure: pid namespaces are not permitted here; then the test is to be skipped. */
bool pidns_start(raw_service *service, const char *dir, const char *name);

/* Its keeper, which is process 1 in there, as it is numbered out here. */
pid_t pidns_keeper(const raw_service *service);

/* Children of a process: how many of them are zombies, how many not, and one that is not. */
typedef struct pidns_children {
    int n_zombies;
    int n_living;
    pid_t living;
} pidns_children;
pidns_children pidns_children_of(pid_t parent);

#endif
