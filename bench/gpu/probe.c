/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Facts about a GPU and its driver that documents leave open, found out by doing: a line each, as
 * text. It judges nothing and changes no settings. Each part runs in a process of its own, since
 * some of them break their context or are killed by what they try; one that hangs is ended.
 *
 * usage: gpu_probe      the first GPU that is visible. Exit status 77: there is none.
 */

#include "bench/gpu/probe.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PART_LIMIT_S 25u
#define GIB          (1ull << 30)
#define EXIT_NO_GPU  77

double probe_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

const char *probe_words(pinti_cu_result result)
{
    return result == PINTI_CU_SUCCESS ? "ok" : pinti_cuda_result_name(result);
}

bool probe_start_driver(void)
{
    pint_error err;
    const double start = probe_now_ms();
    if (pinti_cuda_load(&err) != PINT_OK) {
        (void)printf("no driver: %s\n", err.message);
        return false;
    }
    (void)printf("cuInit %.1f ms\n", probe_now_ms() - start);
    return true;
}

bool probe_start_context(void)
{
    pinti_cu_context context = NULL;
    if (!probe_start_driver()) {
        return false;
    }
    const double start = probe_now_ms();
    pinti_cu_result result = pinti_cuda.primary_ctx_retain(&context, 0);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.ctx_push_current(context);
    }
    (void)printf("primary context %.1f ms: %s\n", probe_now_ms() - start, probe_words(result));
    return result == PINTI_CU_SUCCESS;
}

static pinti_cu_stream new_stream(void)
{
    pinti_cu_stream stream = NULL;
    const pinti_cu_result result = pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING);
    if (result != PINTI_CU_SUCCESS) {
        (void)printf("cuStreamCreate: %s\n", probe_words(result));
    }
    return stream;
}

pinti_cu_result probe_fill(pinti_cu_ptr at, size_t bytes)
{
    pinti_cu_stream stream = new_stream();
    if (pinti_cuda.memset_d8_async == NULL) {
        return PINTI_CU_NOT_SUPPORTED;
    }
    const pinti_cu_result result = pinti_cuda.memset_d8_async(at, 7, bytes, stream);
    return result != PINTI_CU_SUCCESS ? result : pinti_cuda.stream_synchronize(stream);
}

pid_t probe_start_child(void)
{
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(PART_LIMIT_S);
    }
    return child;
}

static void *shared_memory(size_t bytes, int protection, unsigned flags)
{
    const int fd = memfd_create("probe", MFD_CLOEXEC | flags);
    void *at = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        at = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
    }
    const int reason = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (at == MAP_FAILED) {
        (void)printf("no shared memory of %zu bytes: %s\n", bytes, strerror(reason));
        return NULL;
    }
    return at;
}

/* ---- what it says of itself ------------------------------------------------------------------ */

static void tell_attributes(void)
{
    static const struct {
        const char *name;
        pinti_cu_device_attribute attribute;
    } asked[] = {
        {"compute capability, major", PINTI_CU_DEV_COMPUTE_CAPABILITY_MAJOR},
        {"compute capability, minor", PINTI_CU_DEV_COMPUTE_CAPABILITY_MINOR},
        {"compute mode", PINTI_CU_DEV_COMPUTE_MODE},
        {"integrated", PINTI_CU_DEV_INTEGRATED},
        {"copy engines", PINTI_CU_DEV_ASYNC_ENGINE_COUNT},
        {"unified addressing", PINTI_CU_DEV_UNIFIED_ADDRESSING},
        {"host memory can be registered", PINTI_CU_DEV_HOST_REGISTER},
        {"read-only registration", PINTI_CU_DEV_READ_ONLY_HOST_REGISTER},
        {"host pointer of registered memory", PINTI_CU_DEV_HOST_POINTER_FOR_REGISTERED},
        {"host native atomics", PINTI_CU_DEV_HOST_NATIVE_ATOMIC},
        {"pageable memory", PINTI_CU_DEV_PAGEABLE_MEMORY_ACCESS},
        {"pageable by the host's page tables", PINTI_CU_DEV_PAGEABLE_USES_HOST_PAGE_TABLES},
        {"virtual memory management", PINTI_CU_DEV_VIRTUAL_MEMORY_MANAGEMENT},
        {"handles as descriptors", PINTI_CU_DEV_HANDLE_TYPE_POSIX_FD},
        {"legacy handles", PINTI_CU_DEV_IPC_EVENT},
        {"64-bit stream memory operations", PINTI_CU_DEV_STREAM_MEM_OPS_64},
        {"host NUMA node", PINTI_CU_DEV_HOST_NUMA_ID},
    };
    char name[256] = "";
    size_t total = 0;
    size_t left = 0;
    if (!probe_start_context()) {
        return;
    }
    (void)pinti_cuda.device_get_name(name, (int)sizeof(name), 0);
    (void)printf("%s, driver of CUDA %d.%d\n", name, pinti_cuda_version() / 1000,
                 pinti_cuda_version() % 1000 / 10);
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        int value = 0;
        const pinti_cu_result result =
            pinti_cuda.device_get_attribute(&value, asked[i].attribute, 0);
        (void)printf("%s: %d (%s)\n", asked[i].name, value, probe_words(result));
    }
    const pinti_cu_result result = pinti_cuda.mem_get_info(&left, &total);
    (void)printf("with one idle context %zu MiB of %zu are free (%s)\n", left >> 20, total >> 20,
                 probe_words(result));
}

/* ---- registering host memory ----------------------------------------------------------------- */

#define REGISTER_FLAGS (PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP)

/* 1 GiB, or as much as there is of that kind; what overlaps and what is inside of it, too. */
static void register_much(const char *name, unsigned memfd_flags, bool is_huge, bool is_touched)
{
    pinti_cu_ptr address = 0;
    char *at = shared_memory(GIB, PROT_READ | PROT_WRITE, memfd_flags);
    if (at == NULL) {
        return;
    }
    if (is_huge) {
        (void)madvise(at, GIB, MADV_HUGEPAGE);
    }
    double start = probe_now_ms();
    for (size_t i = 0; is_touched && i < GIB; i += 4096) {
        at[i] = 1;
    }
    const double touch_ms = probe_now_ms() - start;
    start = probe_now_ms();
    const pinti_cu_result made = pinti_cuda.mem_host_register(at, GIB, REGISTER_FLAGS);
    const double register_ms = probe_now_ms() - start;
    (void)printf("%s: touched in %.0f ms, registered in %.1f ms (%s)\n", name, touch_ms,
                 register_ms, probe_words(made));
    if (made == PINTI_CU_SUCCESS) {
        const pinti_cu_result got = pinti_cuda.mem_host_get_device_pointer(&address, at, 0);
        const pinti_cu_result twice =
            pinti_cuda.mem_host_register(at + GIB / 2, 4096, REGISTER_FLAGS);
        const pinti_cu_result inside = pinti_cuda.mem_host_unregister(at + 4096);
        start = probe_now_ms();
        const pinti_cu_result undone = pinti_cuda.mem_host_unregister(at);
        (void)printf("  device pointer %s the host's (%s); a page of it again: %s; unregister from "
                     "inside: %s; unregistered in %.1f ms (%s)\n",
                     address == (uintptr_t)at ? "is" : "is not", probe_words(got),
                     probe_words(twice), probe_words(inside), probe_now_ms() - start,
                     probe_words(undone));
    }
    (void)munmap(at, GIB);
}

static void tell_registering(void)
{
    if (!probe_start_context()) {
        return;
    }
    register_much("1 GiB of 4 KiB pages, not touched", 0, false, false);
    register_much("1 GiB of 4 KiB pages, touched", 0, false, true);
    register_much("1 GiB, huge pages asked for", 0, true, true);
    register_much("1 GiB of hugetlbfs", MFD_HUGETLB, false, false);
    void *read_only = shared_memory(8192, PROT_READ, 0);
    if (read_only != NULL) {
        const pinti_cu_result plain = pinti_cuda.mem_host_register(read_only, 8192, REGISTER_FLAGS);
        const pinti_cu_result marked = pinti_cuda.mem_host_register(
            read_only, 8192, PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_READ_ONLY);
        (void)printf("mapped read-only: %s; with the flag for that: %s\n", probe_words(plain),
                     probe_words(marked));
    }
    char *odd = shared_memory(16384, PROT_READ | PROT_WRITE, 0);
    if (odd != NULL) {
        const pinti_cu_result first = pinti_cuda.mem_host_register(odd + 100, 8, REGISTER_FLAGS);
        const pinti_cu_result second = pinti_cuda.mem_host_register(odd + 2000, 8, REGISTER_FLAGS);
        (void)printf("8 bytes, not aligned: %s; others of that page: %s\n", probe_words(first),
                     probe_words(second));
    }
    void *stale = shared_memory(8192, PROT_READ | PROT_WRITE, 0);
    if (stale != NULL) {
        const pinti_cu_result first = pinti_cuda.mem_host_register(stale, 8192, REGISTER_FLAGS);
        (void)mmap(stale, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
                   0);
        const pinti_cu_result again = pinti_cuda.mem_host_register(stale, 8192, REGISTER_FLAGS);
        (void)printf("unmapped while registered (%s), other memory there registered: %s\n",
                     probe_words(first), probe_words(again));
    }
}

/* ---- copies ---------------------------------------------------------------------------------- */

#define COPY_BYTES (256ull << 20)
#define REPEATS    3

typedef struct copies {
    char *host;
    pinti_cu_ptr device;
    pinti_cu_stream stream;
    bool to_device;
    size_t piece;
    size_t n;
    pinti_cu_ptr *to; /* room for as many pieces as there are of the smallest size */
    pinti_cu_ptr *from;
    size_t *bytes;
} copies;

static pinti_cu_result copy_one_by_one(const copies *c)
{
    pinti_cu_result result = PINTI_CU_SUCCESS;
    for (size_t i = 0; result == PINTI_CU_SUCCESS && i < c->n; i++) {
        const size_t at = i * c->piece;
        result =
            c->to_device
                ? pinti_cuda.memcpy_htod_async(c->device + at, c->host + at, c->piece, c->stream)
                : pinti_cuda.memcpy_dtoh_async(c->host + at, c->device + at, c->piece, c->stream);
    }
    return result;
}

static pinti_cu_result copy_as_batch(const copies *c)
{
    pinti_cu_copy_attributes attributes = {.src_order = PINTI_CU_SRC_ORDER_STREAM};
    size_t start = 0;
    if (pinti_cuda.memcpy_batch_async == NULL) {
        return PINTI_CU_NOT_SUPPORTED;
    }
    for (size_t i = 0; i < c->n; i++) {
        const pinti_cu_ptr host = (uintptr_t)c->host + i * c->piece;
        const pinti_cu_ptr device = c->device + i * c->piece;
        c->to[i] = c->to_device ? device : host;
        c->from[i] = c->to_device ? host : device;
        c->bytes[i] = c->piece;
    }
    return pinti_cuda.memcpy_batch_async(c->to, c->from, c->bytes, c->n, &attributes, &start, 1,
                                         c->stream);
}

/* The best of some. */
static void tell_speed(const copies *c, const char *how,
                       pinti_cu_result (*enqueue)(const copies *c))
{
    double best_ms = 0;
    for (int i = 0; i < REPEATS; i++) {
        const double start = probe_now_ms();
        pinti_cu_result result = enqueue(c);
        if (result == PINTI_CU_SUCCESS) {
            result = pinti_cuda.stream_synchronize(c->stream);
        }
        const double ms = probe_now_ms() - start;
        if (result != PINTI_CU_SUCCESS) {
            (void)printf("  %s: %s", how, probe_words(result));
            return;
        }
        best_ms = i == 0 || ms < best_ms ? ms : best_ms;
    }
    (void)printf("  %s %.2f GB/s", how, (double)(c->n * c->piece) / best_ms / 1e6);
}

static void tell_copies(void)
{
    const size_t smallest = 4096;
    const size_t most = (16ull << 20) / smallest; /* of the small ones 16 MiB are enough */
    if (!probe_start_context() || pinti_cuda.mem_alloc == NULL) {
        return;
    }
    copies c = {.host = shared_memory(COPY_BYTES, PROT_READ | PROT_WRITE, 0),
                .stream = new_stream(),
                .to = calloc(most, sizeof(*c.to)),
                .from = calloc(most, sizeof(*c.from)),
                .bytes = calloc(most, sizeof(*c.bytes))};
    if (c.host == NULL || c.to == NULL || c.from == NULL || c.bytes == NULL) {
        return;
    }
    memset(c.host, 1, COPY_BYTES);
    pinti_cu_result result = pinti_cuda.mem_host_register(c.host, COPY_BYTES, REGISTER_FLAGS);
    if (result == PINTI_CU_SUCCESS) {
        result = pinti_cuda.mem_alloc(&c.device, COPY_BYTES);
    }
    if (result != PINTI_CU_SUCCESS) {
        (void)printf("no memory to copy: %s\n", probe_words(result));
        return;
    }
    for (c.piece = smallest; c.piece <= (64ull << 20); c.piece *= 4) {
        const size_t n = COPY_BYTES / c.piece;
        c.n = n < most ? n : most;
        for (int to_device = 1; to_device >= 0; to_device--) {
            c.to_device = to_device == 1;
            (void)printf("%s the device in pieces of %zu KiB:", c.to_device ? "to" : "from",
                         c.piece >> 10);
            tell_speed(&c, "one by one", copy_one_by_one);
            tell_speed(&c, "as a batch", copy_as_batch);
            (void)printf("\n");
        }
    }
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* From a call to the value being seen by a CPU, in registered memory. */
static void tell_write_value(void)
{
    uint64_t *word = shared_memory(4096, PROT_READ | PROT_WRITE, 0);
    pinti_cu_ptr address = 0;
    if (word == NULL || !probe_start_context()) {
        return;
    }
    if (pinti_cuda.stream_write_value64 == NULL) {
        (void)printf("this driver has no cuStreamWriteValue64\n");
        return;
    }
    pinti_cu_stream stream = new_stream();
    (void)pinti_cuda.mem_host_register(word, 4096, REGISTER_FLAGS);
    (void)pinti_cuda.mem_host_get_device_pointer(&address, word, 0);
    for (uint64_t i = 1; i <= 3; i++) { /* the first is slower */
        const double start = probe_now_ms();
        const pinti_cu_result result =
            pinti_cuda.stream_write_value64(stream, address, i, PINTI_CU_WRITE_VALUE_DEFAULT);
        bool is_seen = false;
        while (result == PINTI_CU_SUCCESS && !is_seen && probe_now_ms() - start < 1000) {
            is_seen = __atomic_load_n(word, __ATOMIC_ACQUIRE) == i;
        }
        (void)printf("cuStreamWriteValue64: %s, %s after %.1f us\n", probe_words(result),
                     is_seen ? "seen" : "not seen", (probe_now_ms() - start) * 1e3);
    }
}

static void tell_fork(void)
{
    if (!probe_start_driver()) {
        return;
    }
    const pid_t child = probe_start_child();
    if (child == 0) {
        int n = -1;
        const pinti_cu_result result = pinti_cuda.device_get_count(&n);
        (void)printf("in a child forked after cuInit: cuDeviceGetCount %s, cuInit %s\n",
                     probe_words(result), probe_words(pinti_cuda.init(0)));
        (void)fflush(stdout);
        _exit(0);
    }
    (void)waitpid(child, NULL, 0);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void tell(const char *title, void (*part)(void))
{
    int status = 0;
    (void)printf("\n== %s\n", title);
    const pid_t child = probe_start_child();
    if (child == 0) {
        part();
        (void)fflush(stdout);
        _exit(0);
    }
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status)) {
        (void)printf("ended by signal %d (%s)\n", WTERMSIG(status),
                     WTERMSIG(status) == SIGALRM ? "it took too long"
                                                 : strsignal(WTERMSIG(status)));
    }
}

/* In a child: this process must not have loaded the driver when it forks. */
static bool has_gpu(void)
{
    int status = 1;
    const pid_t child = probe_start_child();
    if (child == 0) {
        const bool is_there = probe_start_driver();
        (void)fflush(stdout);
        _exit(is_there ? 0 : 1);
    }
    return waitpid(child, &status, 0) == child && status == 0;
}

int main(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* a part that is ended has said what it knew */
    if (!has_gpu()) {
        return EXIT_NO_GPU;
    }
    tell("attributes", tell_attributes);
    tell("registering host memory", tell_registering);
    tell("copies", tell_copies);
    tell("memory by descriptor", probe_descriptors_alive);
    tell("memory by descriptor, its owner dead before it is imported", probe_descriptors_dead);
    tell("legacy handles", probe_handles_together);
    tell("legacy handles, the importer in a PID namespace", probe_handles_user_apart);
    tell("legacy handles, each in a PID namespace", probe_handles_both_apart);
    tell("a value written by a stream", tell_write_value);
    tell("after fork()", tell_fork);
    return fflush(stdout) == 0 ? 0 : 1;
}
