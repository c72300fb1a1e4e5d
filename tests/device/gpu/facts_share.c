/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Facts about device memory in several processes: see facts.h. The section's process forks the
 * owner before it loads the driver itself, and imports what the owner sends.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/wire.h" /* check-ok: to pass descriptors */
#include "tests/device/gpu/facts.h"

#define SHARED_BYTES ((size_t)64 << 20)
#define SMALL_BYTES  ((size_t)1 << 20)

static size_t shared_bytes(void)
{
    return facts_bytes < SHARED_BYTES ? facts_bytes : SHARED_BYTES;
}

typedef struct owner {
    pid_t pid;
    int socket;
} owner;

/* A process that runs body(socket) and then stays until it is killed. */
static owner start(void (*body)(int socket))
{
    int ends[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return (owner){-1, -1};
    }
    const pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(ends[0]);
        body(ends[1]);
        (void)pause();
        _exit(EXIT_SUCCESS);
    }
    (void)close(ends[1]);
    return (owner){pid, ends[0]};
}

static void end(const owner *o)
{
    if (o->pid > 0) {
        (void)kill(o->pid, SIGKILL);
        (void)waitpid(o->pid, NULL, 0);
    }
}

/* ---- by descriptor --------------------------------------------------------------------------- */

/* As a broker: no context, nothing mapped. */
static void own_descriptor(int socket)
{
    pinti_cu_mem mem = 0;
    int fd = -1;
    if (!facts_open(false)) {
        _exit(EXIT_FAILURE);
    }
    const pinti_cu_mem_prop prop = pinti_cuda_exportable(&facts_gpu);
    const size_t bytes = pinti_cuda_granules(&facts_gpu, shared_bytes());
    const double start_ms = facts_ms();
    pinti_cu_result result = pinti_cuda.mem_create(&mem, bytes, &prop, 0);
    const double created = facts_ms();
    facts_say("cuMemCreate without a context", "%.2f ms, %s", created - start_ms, facts_rc(result));
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_export(&fd, mem, PINTI_CU_HANDLE_TYPE_POSIX_FD, 0);
        facts_say("cuMemExportToShareableHandle", "%.2f ms, %s, %s by programs",
                  facts_ms() - created, facts_rc(result),
                  fcntl(fd, F_GETFD) == FD_CLOEXEC ? "not inherited" : "inherited");
        (void)pinti_cuda.mem_release(mem);
    }
    (void)pinti_wire_send(socket, "x", 1, &fd, fd >= 0 ? 1 : 0, false);
    if (fd >= 0) {
        (void)close(fd); /* what was sent keeps the memory, if anything does */
    }
}

static int receive(const owner *o)
{
    static char text[PINTI_WIRE_BYTES_MAX + 1];
    size_t bytes = 0;
    unsigned int n_fds = 0;
    int fd = -1;
    const int rc = pinti_wire_recv(o->socket, text, &bytes, &fd, 1, &n_fds, false);
    return rc == 0 && n_fds == 1 ? fd : -1;
}

static void say_import(const char *what, int fd, bool writable, pinti_cu_ptr *out_address)
{
    pint_error err = {.message = "ok"};
    const size_t bytes = pinti_cuda_granules(&facts_gpu, shared_bytes());
    const double start_ms = facts_ms();
    (void)pinti_cuda_map(&facts_gpu, fd, bytes, writable, out_address, &err);
    facts_say(what, "%.2f ms, %s", facts_ms() - start_ms, err.message);
}

static void say_fill(const char *what, pinti_cu_ptr address)
{
    const pinti_cu_result enqueued = pinti_cuda.memset_d8_async(address, 7, 4096, NULL);
    facts_say(what, "enqueued: %s, done: %s", facts_rc(enqueued),
              facts_rc(pinti_cuda.stream_synchronize(NULL)));
}

void facts_descriptors(void)
{
    const owner o = start(own_descriptor);
    const int fd = receive(&o);
    pinti_cu_ptr address = 0;
    pinti_cu_ptr second = 0;
    if (fd >= 0 && facts_open(true)) {
        say_import("import and map", fd, true, &address);
        say_fill("writing it", address);
        say_import("the same descriptor again", fd, true, &second);
        (void)close(fd);
        end(&o);
        say_fill("writing it, owner and descriptor gone", address);
    }
    end(&o);
}

void facts_orphans(void)
{
    const owner o = start(own_descriptor);
    const int fd = receive(&o);
    pinti_cu_ptr address = 0;
    end(&o);
    if (fd >= 0 && facts_open(true)) {
        say_import("import and map", fd, true, &address);
        say_fill("writing it", address);
    }
}

void facts_read_only(void)
{
    const owner o = start(own_descriptor);
    const int fd = receive(&o);
    pinti_cu_ptr writable = 0;
    pinti_cu_ptr readable = 0;
    if (fd >= 0 && facts_open(true)) {
        say_import("to write", fd, true, &writable);
        say_import("the same memory to read", fd, false, &readable);
        say_fill("writing through the first", writable);
        say_fill("writing through the second (must fail)", readable);
    }
    end(&o);
}

/* ---- by handle ------------------------------------------------------------------------------- */

typedef struct handles {
    pinti_cu_ipc_handle large, small;
} handles;

/* Goes when the importer has all it wants of it: the exporter's death. */
static void own_handles(int socket)
{
    pinti_cu_ptr large = 0;
    pinti_cu_ptr small = 0;
    pinti_cu_ptr another = 0;
    pinti_cu_ptr own = 0;
    pinti_cu_ipc_handle other;
    handles h;
    char word = 0;
    memset(&h, 0, sizeof(h));
    memset(&other, 0, sizeof(other));
    if (!facts_open(true) || !pinti_cuda_has_ipc()) {
        _exit(EXIT_FAILURE);
    }
    pinti_cu_result result = pinti_cuda.mem_alloc(&large, shared_bytes());
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.ipc_get_mem_handle(&h.large, large);
    }
    facts_say("cuMemAlloc, cuIpcGetMemHandle", "%s", facts_rc(result));
    (void)pinti_cuda.mem_alloc(&small, SMALL_BYTES);
    (void)pinti_cuda.mem_alloc(&another, SMALL_BYTES);
    (void)pinti_cuda.ipc_get_mem_handle(&h.small, small);
    (void)pinti_cuda.ipc_get_mem_handle(&other, another);
    facts_say("two allocations of 1 MiB", "%s handle, addresses %lld KiB apart",
              memcmp(&h.small, &other, sizeof(other)) == 0 ? "one" : "each its own",
              (long long)(another - small) / 1024);
    facts_say(
        "opening one's own", "%s",
        facts_rc(pinti_cuda.ipc_open_mem_handle(&own, h.large, PINTI_CU_IPC_LAZY_PEER_ACCESS)));
    (void)send(socket, &h, sizeof(h), MSG_NOSIGNAL);
    (void)recv(socket, &word, sizeof(word), 0);
    _exit(EXIT_SUCCESS);
}

static pinti_cu_ptr say_open(const char *what, const pinti_cu_ipc_handle *handle)
{
    pinti_cu_ptr address = 0;
    const double start_ms = facts_ms();
    const pinti_cu_result result =
        pinti_cuda.ipc_open_mem_handle(&address, *handle, PINTI_CU_IPC_LAZY_PEER_ACCESS);
    facts_say(what, "%.3f ms, %s", facts_ms() - start_ms, facts_rc(result));
    return address;
}

static void say_range(const char *what, pinti_cu_ptr address)
{
    pinti_cu_ptr base = 0;
    size_t bytes = 0;
    const pinti_cu_result result = pinti_cuda.mem_get_address_range(&base, &bytes, address);
    facts_say(what, "%zu KiB, %lld into it, %s", bytes >> 10, (long long)(address - base),
              facts_rc(result));
}

static void import_handles(const owner *o)
{
    handles h;
    if (recv(o->socket, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || !facts_open(true)) {
        return;
    }
    const pinti_cu_ptr address = say_open("opening it", &h.large);
    const pinti_cu_ptr again = say_open("opening it again", &h.large);
    facts_say("both at", "%s address", address == again ? "one" : "another");
    say_range("its size, asked for", address);
    say_range("size of the small one", say_open("opening the small one", &h.small));
    if (address != 0) {
        say_fill("writing it", address);
    }
    char word = 0;
    (void)shutdown(o->socket, SHUT_WR);
    (void)recv(o->socket, &word, sizeof(word), 0); /* ends with the owner */
    (void)say_open("opening it, the owner gone", &h.large);
    if (address != 0) {
        say_fill("writing it, the owner gone", address);
    }
}

void facts_handles(void)
{
    const owner o = start(own_handles);
    import_handles(&o);
    end(&o);
}

void facts_handles_namespace(void)
{
    const owner o = start(own_handles);
    if (unshare(CLONE_NEWPID) != 0) {
        facts_say("not asked", "a PID namespace of one's own: %s", strerror(errno));
        end(&o);
        return;
    }
    const pid_t importer = fork(); /* the first process of the new namespace */
    if (importer == 0) {
        import_handles(&o);
        exit(EXIT_SUCCESS);
    }
    (void)waitpid(importer, NULL, 0);
    end(&o);
}
