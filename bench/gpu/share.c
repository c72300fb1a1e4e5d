/* SPDX-License-Identifier: Apache-2.0 */

/* What processes can share of a GPU's memory, and what is left of it when its owner dies. */

#include "bench/gpu/probe.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/wire.h"

#define VMM_BYTES (64ull << 20)

/* ---- memory by descriptor -------------------------------------------------------------------- */

static void kill_child(pid_t child)
{
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

/* Makes memory without a context, sends its descriptor, and stays until it is killed. */
_Noreturn static void own_memory(int socket)
{
    pinti_cu_mem_prop prop = {.type = PINTI_CU_MEM_TYPE_PINNED,
                              .handle_types = PINTI_CU_HANDLE_TYPE_POSIX_FD,
                              .location = {PINTI_CU_LOCATION_DEVICE, 0}};
    pinti_cu_mem memory = 0;
    size_t granule = 0;
    int fd = -1;
    if (!probe_start_driver()) {
        _exit(1);
    }
    (void)pinti_cuda.mem_get_granularity(&granule, &prop, PINTI_CU_GRANULARITY_MINIMUM);
    double start = probe_now_ms();
    pinti_cu_result result = pinti_cuda.mem_create(&memory, VMM_BYTES, &prop, 0);
    (void)printf("without a context, granules of %zu KiB: 64 MiB made in %.2f ms (%s)\n",
                 granule >> 10, probe_now_ms() - start, probe_words(result));
    if (result == PINTI_CU_SUCCESS) {
        start = probe_now_ms();
        result = pinti_cuda.mem_export(&fd, memory, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0);
        (void)printf("exported in %.2f ms (%s)\n", probe_now_ms() - start, probe_words(result));
    }
    (void)fflush(stdout);
    if (result != PINTI_CU_SUCCESS || pinti_wire_send(socket, "{}", 2, &fd, 1, false) != 0) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

static pinti_cu_result import_memory(int fd, pinti_cu_access access, pinti_cu_ptr *out_address)
{
    const pinti_cu_access_desc desc = {{PINTI_CU_LOCATION_DEVICE, 0}, access};
    pinti_cu_mem memory = 0;
    pinti_cu_result result =
        pinti_cuda.mem_import(&memory, (void *)(intptr_t)fd, PINTI_CU_HANDLE_TYPE_POSIX_FD);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_address_reserve(out_address, VMM_BYTES, 0, 0, 0);
    }
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_map(*out_address, VMM_BYTES, 0, memory, 0);
    }
    if (result == PINTI_CU_SUCCESS) {
        (void)pinti_cuda.mem_release(memory);
        result = pinti_cuda.mem_set_access(*out_address, VMM_BYTES, &desc, 1);
    }
    return result;
}

static void use_memory(int fd, pid_t owner, bool is_owner_dead)
{
    pinti_cu_ptr address = 0;
    if (!probe_start_context()) {
        return;
    }
    const double start = probe_now_ms();
    pinti_cu_result result = import_memory(fd, PINTI_CU_ACCESS_READWRITE, &address);
    (void)printf("imported %s in %.2f ms (%s)\n",
                 is_owner_dead ? "after the owner was killed" : "while the owner lives",
                 probe_now_ms() - start, probe_words(result));
    if (result == PINTI_CU_SUCCESS) {
        (void)printf("written: %s\n", probe_words(probe_fill(address, VMM_BYTES)));
    }
    if (!is_owner_dead) {
        kill_child(owner);
        (void)printf("written after the owner was killed: %s\n",
                     probe_words(probe_fill(address, VMM_BYTES)));
    }
    result = import_memory(fd, PINTI_CU_ACCESS_READ, &address);
    (void)printf("imported to be read: %s; ", probe_words(result));
    (void)fflush(stdout); /* the next line may be the last */
    (void)printf("written all the same: %s\n", probe_words(probe_fill(address, 4096)));
}

static void tell_descriptors(bool kill_first)
{
    int sockets[2];
    int fd = -1;
    static char text[PINTI_WIRE_BYTES_MAX + 1];
    size_t text_bytes = 0;
    unsigned n_fds = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
        return;
    }
    const pid_t owner = probe_start_child();
    if (owner == 0) {
        own_memory(sockets[0]);
    }
    (void)close(sockets[0]);
    if (pinti_wire_recv(sockets[1], text, &text_bytes, &fd, 1, &n_fds, false) != 0 || n_fds != 1) {
        (void)printf("the owner sent nothing\n");
        kill_child(owner);
        return;
    }
    if (kill_first) {
        kill_child(owner);
    }
    use_memory(fd, owner, kill_first);
}

void probe_descriptors_alive(void)
{
    tell_descriptors(false);
}

void probe_descriptors_dead(void)
{
    tell_descriptors(true);
}

/* ---- legacy handles -------------------------------------------------------------------------- */

/* Like probe_start_child(), as the first process of a PID namespace of its own if so wanted. */
static pid_t start_child_in(bool own_namespace)
{
    const pid_t child = probe_start_child();
    if (child != 0 || !own_namespace) {
        return child;
    }
    if (unshare(CLONE_NEWPID) != 0) {
        (void)printf("no PID namespace (%s): in that of the others\n", strerror(errno));
        return 0;
    }
    const pid_t inside = probe_start_child();
    if (inside == 0) {
        return 0;
    }
    (void)waitpid(inside, NULL, 0);
    _exit(0);
}

static bool has_legacy_calls(void)
{
    if (!pinti_cuda_has_ipc()) {
        (void)printf("this driver has no legacy handles\n");
    }
    return pinti_cuda_has_ipc();
}

/* Sends a handle, ends when it is told to. */
_Noreturn static void own_handle(int socket)
{
    pinti_cu_ptr first = 0;
    pinti_cu_ptr second = 0;
    pinti_cu_ptr opened = 0;
    pinti_cu_ipc_handle handles[2];
    char go;
    if (!probe_start_context() || !has_legacy_calls()) {
        _exit(1);
    }
    pinti_cu_result result = pinti_cuda.mem_alloc(&first, 1 << 20);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_alloc(&second, 1 << 20);
    }
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.ipc_get_mem_handle(&handles[0], first);
    }
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.ipc_get_mem_handle(&handles[1], second);
    }
    if (result != PINTI_CU_SUCCESS) {
        (void)printf("no handle: %s\n", probe_words(result));
        (void)fflush(stdout);
        _exit(1);
    }
    (void)printf("process %d: two of 1 MiB have %s; opened by its owner: %s\n", (int)getpid(),
                 memcmp(&handles[0], &handles[1], sizeof(handles[0])) == 0 ? "the same handle"
                                                                           : "two handles",
                 probe_words(pinti_cuda.ipc_open_mem_handle(&opened, handles[0],
                                                            PINTI_CU_IPC_LAZY_PEER_ACCESS)));
    (void)fflush(stdout);
    (void)send(socket, &handles[0], sizeof(handles[0]), MSG_NOSIGNAL);
    (void)recv(socket, &go, 1, 0);
    _exit(0); /* without freeing anything */
}

static void open_handle(int socket)
{
    pinti_cu_ipc_handle handle;
    pinti_cu_ptr first = 0;
    pinti_cu_ptr second = 0;
    char end;
    if (recv(socket, &handle, sizeof(handle), 0) != sizeof(handle) || !probe_start_context() ||
        !has_legacy_calls()) {
        return;
    }
    double start = probe_now_ms();
    const pinti_cu_result result =
        pinti_cuda.ipc_open_mem_handle(&first, handle, PINTI_CU_IPC_LAZY_PEER_ACCESS);
    (void)printf("process %d: opened in %.3f ms (%s)", (int)getpid(), probe_now_ms() - start,
                 probe_words(result));
    start = probe_now_ms();
    const pinti_cu_result again =
        pinti_cuda.ipc_open_mem_handle(&second, handle, PINTI_CU_IPC_LAZY_PEER_ACCESS);
    (void)printf("; once more in %.3f ms (%s), %s address\n", probe_now_ms() - start,
                 probe_words(again), first == second ? "the same" : "another");
    (void)fflush(stdout);
    (void)send(socket, "x", 1, MSG_NOSIGNAL);
    (void)recv(socket, &end, 1, 0); /* end of file: the owner has ended */
    const pinti_cu_result late =
        pinti_cuda.ipc_open_mem_handle(&second, handle, PINTI_CU_IPC_LAZY_PEER_ACCESS);
    (void)printf("opened after its owner ended: %s\n", probe_words(late));
    (void)fflush(stdout);
    if (result == PINTI_CU_SUCCESS) { /* last: it may break the context */
        (void)printf("written after its owner ended: %s\n", probe_words(probe_fill(first, 4096)));
    }
}

static void tell_handles(bool is_owner_apart, bool is_user_apart)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
        return;
    }
    const pid_t owner = start_child_in(is_owner_apart);
    if (owner == 0) {
        (void)close(sockets[1]);
        own_handle(sockets[0]);
    }
    (void)close(sockets[0]);
    const pid_t user = start_child_in(is_user_apart);
    if (user == 0) {
        open_handle(sockets[1]);
        (void)fflush(stdout);
        _exit(0);
    }
    (void)close(sockets[1]);
    (void)waitpid(user, NULL, 0);
    kill_child(owner);
}

void probe_handles_together(void)
{
    tell_handles(false, false);
}

void probe_handles_user_apart(void)
{
    tell_handles(false, true);
}

void probe_handles_both_apart(void)
{
    tell_handles(true, true);
}
