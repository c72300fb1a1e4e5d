/* SPDX-License-Identifier: Apache-2.0 */

/* Facts about the device, its context, and memory of the host: see facts.h. */

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/device/gpu/facts.h"

#define GIB        ((double)((size_t)1 << 30))
#define BATCH_MAX  1024u
#define COPY_TURNS 3

/* ---- the device ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    pinti_cu_device_attribute attribute;
} asked[] = {
    {"host memory can be registered", PINTI_CU_DEV_HOST_REGISTER},
    {"... also mapped read-only", PINTI_CU_DEV_READ_ONLY_HOST_REGISTER},
    {"registered memory at the host's address", PINTI_CU_DEV_HOST_POINTER_FOR_REGISTERED},
    {"atomics on host memory", PINTI_CU_DEV_HOST_NATIVE_ATOMIC},
    {"pageable memory access", PINTI_CU_DEV_PAGEABLE_MEMORY_ACCESS},
    {"... by the host's page tables", PINTI_CU_DEV_PAGEABLE_USES_HOST_PAGE_TABLES},
    {"memory by descriptor", PINTI_CU_DEV_HANDLE_TYPE_POSIX_FD},
    {"legacy IPC (as far as the attribute knows)", PINTI_CU_DEV_IPC_EVENT},
    {"64-bit stream memory operations", PINTI_CU_DEV_STREAM_MEM_OPS_64},
    {"copy engines", PINTI_CU_DEV_ASYNC_ENGINE_COUNT},
    {"NUMA node of the host side", PINTI_CU_DEV_HOST_NUMA_ID},
    {"compute mode", PINTI_CU_DEV_COMPUTE_MODE},
};

void facts_device(void)
{
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    const double start = facts_ms();
    if (!facts_open(false)) {
        return;
    }
    const double loaded = facts_ms();
    if (!facts_open(true)) {
        return;
    }
    facts_say("GPU", "%s, compute capability %d.%d", facts_gpu.name,
              pinti_cuda_attribute(&facts_gpu, PINTI_CU_DEV_COMPUTE_CAPABILITY_MAJOR),
              pinti_cuda_attribute(&facts_gpu, PINTI_CU_DEV_COMPUTE_CAPABILITY_MINOR));
    facts_say("CUDA version of the driver", "%d", pinti_cuda_version());
    facts_say("loading, cuInit", "%.1f ms", loaded - start);
    facts_say("primary context", "%.1f ms", facts_ms() - loaded);
    const pinti_cu_result result = pinti_cuda.mem_get_info(&free_bytes, &total_bytes);
    facts_say("memory, free of all, with one idle context", "%zu of %zu MiB, %s", free_bytes >> 20,
              total_bytes >> 20, facts_rc(result));
    facts_say("granule of shared memory", "%zu", facts_gpu.granule);
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        facts_say(asked[i].name, "%d", pinti_cuda_attribute(&facts_gpu, asked[i].attribute));
    }
    facts_say("cuMemcpyBatchAsync", "%s; asked for as of 13.0 the driver %s",
              pinti_cuda.memcpy_batch_async != NULL ? "used" : "not used",
              facts_entry("cuMemcpyBatchAsync", 13000) != NULL ? "gives one" : "gives none");
}

/* ---- the context ----------------------------------------------------------------------------- */

/* What those see who retained it when another library resets the device. */
void facts_context(void)
{
    pinti_cu_stream stream = NULL;
    pinti_cu_context context = NULL;
    if (!facts_open(true) || pinti_cuda.ctx_get_id == NULL ||
        pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING) != PINTI_CU_SUCCESS) {
        return;
    }
    unsigned long long id = 0;
    (void)pinti_cuda.ctx_get_id(facts_gpu.context, &id);
    facts_say("number of the context", "%llu", id);
    pinti_cu_result (*reset)(pinti_cu_device);
    void *entry = facts_entry("cuDevicePrimaryCtxReset", 11000);
    memcpy(&reset, &entry, sizeof(reset));
    facts_say("cuDevicePrimaryCtxReset, while it is retained", "%s",
              reset != NULL ? facts_rc(reset(facts_gpu.ordinal)) : "not in this driver");
    facts_say("cuCtxPushCurrent then", "%s",
              facts_rc(pinti_cuda.ctx_push_current(facts_gpu.context)));
    facts_say("cuCtxGetId then", "%s", facts_rc(pinti_cuda.ctx_get_id(facts_gpu.context, &id)));
    const pinti_cu_result retained = pinti_cuda.primary_ctx_retain(&context, facts_gpu.ordinal);
    facts_say("cuDevicePrimaryCtxRetain then", "%s, %s address", facts_rc(retained),
              context == facts_gpu.context ? "the same" : "another");
    const pinti_cu_result again = pinti_cuda.ctx_get_id(context, &id);
    facts_say("its number", "%llu, %s", id, facts_rc(again));
    pint_error err = {.message = "ok"};
    (void)pinti_cuda_enter(&facts_gpu, &err);
    facts_say("what this library says", "%s", err.message);
}

/* ---- registration ---------------------------------------------------------------------------- */

static void time_registration(const char *what, bool is_resident, unsigned int memfd_flags,
                              int advice)
{
    char *at = facts_memory(facts_bytes, false, memfd_flags);
    pinti_cu_ptr address = 0;
    if (at == NULL) {
        return;
    }
    (void)madvise(at, facts_bytes, advice);
    if (is_resident) {
        memset(at, 1, facts_bytes);
    }
    const double scale = GIB / (double)facts_bytes;
    const double start = facts_ms();
    const pinti_cu_result made = pinti_cuda.mem_host_register(
        at, facts_bytes, PINTI_CU_REGISTER_PORTABLE | PINTI_CU_REGISTER_DEVICEMAP);
    const double registered = facts_ms();
    if (made != PINTI_CU_SUCCESS) {
        facts_say(what, "%s", facts_rc(made));
        return;
    }
    const pinti_cu_result pointed = pinti_cuda.mem_host_get_device_pointer(&address, at, 0);
    const double before = facts_ms();
    const pinti_cu_result undone = pinti_cuda.mem_host_unregister(at);
    facts_say(what, "%.1f ms, back %.1f ms, %s; %s, %s the host's address",
              (registered - start) * scale, (facts_ms() - before) * scale, facts_rc(undone),
              facts_rc(pointed), address == (uintptr_t)at ? "at" : "not at");
    (void)munmap(at, facts_bytes);
}

void facts_registration(void)
{
    if (!facts_open(true)) {
        return;
    }
    time_registration("not resident", false, 0, MADV_NORMAL);
    time_registration("resident", true, 0, MADV_NORMAL);
    time_registration("resident, huge pages advised", true, 0, MADV_HUGEPAGE);
    time_registration("hugetlbfs", true, MFD_HUGETLB, MADV_NORMAL);
}

static const char *register_rc(void *at, size_t bytes, unsigned int flags)
{
    return facts_rc(pinti_cuda.mem_host_register(at, bytes, flags));
}

/* A registration whose memory was unmapped under it. */
static void stale_address(size_t page)
{
    char *at = facts_memory(page, true, 0);
    if (at == NULL || pinti_cuda.mem_host_register(at, page, 0) != PINTI_CU_SUCCESS ||
        munmap(at, page) != 0) {
        return;
    }
    void *anew = mmap(at, page, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (anew != MAP_FAILED) {
        facts_say("the address of one that was unmapped", "%s", register_rc(anew, page, 0));
    }
}

void facts_refusals(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *at = facts_memory(4 * page, true, 0);
    if (at == NULL || !facts_open(true)) {
        return;
    }
    facts_say("8 bytes in a page", "%s", register_rc(at + 100, 8, 0));
    facts_say("8 others in it", "%s", register_rc(at + 2000, 8, 0));
    facts_say("two pages", "%s", register_rc(at + 2 * page, 2 * page, 0));
    facts_say("the second of them again", "%s", register_rc(at + 3 * page, page, 0));
    facts_say("the second of them undone", "%s",
              facts_rc(pinti_cuda.mem_host_unregister(at + 3 * page)));
    char *plain = mmap(NULL, page, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (plain != MAP_FAILED) {
        facts_say("mapped to read, plainly", "%s", register_rc(plain, page, 0));
        facts_say("mapped to read, with the flag", "%s",
                  register_rc(plain, page, PINTI_CU_REGISTER_READ_ONLY));
    }
    stale_address(page);
    void *own = NULL;
    const pinti_cu_result result =
        pinti_cuda.mem_host_alloc(&own, page, PINTI_CU_HOST_ALLOC_PORTABLE);
    facts_say("memory of the driver's own instead", "%s", facts_rc(result));
}

/* ---- copies ---------------------------------------------------------------------------------- */

typedef struct pieces {
    pinti_cu_ptr device[BATCH_MAX], host[BATCH_MAX];
    size_t bytes[BATCH_MAX];
    size_t n;
} pieces;

static pinti_cu_result one_by_one(const pieces *p, bool to_device, pinti_cu_stream stream)
{
    pinti_cu_result result = PINTI_CU_SUCCESS;
    for (size_t i = 0; result == PINTI_CU_SUCCESS && i < p->n; i++) {
        void *host = (void *)(uintptr_t)p->host[i];
        result = to_device ? pinti_cuda.memcpy_htod_async(p->device[i], host, p->bytes[i], stream)
                           : pinti_cuda.memcpy_dtoh_async(host, p->device[i], p->bytes[i], stream);
    }
    return result;
}

static pinti_cu_result as_batch(pieces *p, bool to_device, pinti_cu_stream stream)
{
    pinti_cu_copy_attributes attributes = {.src_order = PINTI_CU_SRC_ORDER_STREAM};
    size_t first = 0;
    return pinti_cuda.memcpy_batch_async(to_device ? p->device : p->host,
                                         to_device ? p->host : p->device, p->bytes, p->n,
                                         &attributes, &first, 1, stream);
}

/* GB/s of the best turn; 0 with the reason in *out_result. */
static double speed(pieces *p, bool to_device, bool is_batch, pinti_cu_stream stream,
                    pinti_cu_result *out_result)
{
    double best = 0;
    for (int turn = 0; turn < COPY_TURNS; turn++) {
        const double start = facts_ms();
        *out_result = is_batch ? as_batch(p, to_device, stream) : one_by_one(p, to_device, stream);
        if (*out_result == PINTI_CU_SUCCESS) {
            *out_result = pinti_cuda.stream_synchronize(stream);
        }
        if (*out_result != PINTI_CU_SUCCESS) {
            return 0;
        }
        const double now = (double)p->n * (double)p->bytes[0] / (facts_ms() - start) / 1e6;
        best = now > best ? now : best;
    }
    return best;
}

static void say_speed(const char *what, pieces *p, pinti_cu_ptr device, char *host,
                      size_t piece_bytes, pinti_cu_stream stream)
{
    /* Every other piece, so that nobody can join them. */
    const size_t room = facts_bytes / piece_bytes / 2;
    p->n = room < BATCH_MAX ? room : BATCH_MAX;
    for (size_t i = 0; i < p->n; i++) {
        p->device[i] = device + 2 * i * piece_bytes;
        p->host[i] = (uintptr_t)host + 2 * i * piece_bytes;
        p->bytes[i] = piece_bytes;
    }
    for (int to_device = 1; p->n > 0 && to_device >= 0; to_device--) {
        char line[96];
        pinti_cu_result single;
        pinti_cu_result batch = PINTI_CU_NOT_SUPPORTED;
        const double a = speed(p, to_device != 0, false, stream, &single);
        const double b = pinti_cuda.memcpy_batch_async == NULL
                             ? 0
                             : speed(p, to_device != 0, true, stream, &batch);
        (void)snprintf(line, sizeof(line), "%s, %zu KiB, %s the device", what, piece_bytes >> 10,
                       to_device != 0 ? "to" : "from");
        facts_say(line, "%.2f GB/s singly (%s), %.2f as a batch (%s)", a, facts_rc(single), b,
                  facts_rc(batch));
    }
}

void facts_copies(void)
{
    static const size_t sizes[] = {4u << 10, 64u << 10, 256u << 10, 1u << 20, 16u << 20};
    static pieces p;
    pinti_cu_stream stream = NULL;
    pinti_cu_ptr address = 0;
    void *own = NULL;
    pint_error err;
    int fd = -1;
    char *host = facts_memory(facts_bytes, true, 0);
    if (host == NULL || !facts_open(true) ||
        pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING) != PINTI_CU_SUCCESS) {
        return;
    }
    /* As a copy's memory is: imported, mapped by us. */
    const size_t bytes = pinti_cuda_granules(&facts_gpu, facts_bytes);
    if (pinti_cuda_make_exported(&facts_gpu, bytes, &fd, &err) != PINT_OK ||
        pinti_cuda_map(&facts_gpu, fd, bytes, true, &address, &err) != PINT_OK) {
        facts_say("not asked", "%s", err.message);
        return;
    }
    facts_say("registering the host's side", "%s", register_rc(host, facts_bytes, 0));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        say_speed("registered memory", &p, address, host, sizes[i], stream);
    }
    const pinti_cu_result result =
        pinti_cuda.mem_host_alloc(&own, facts_bytes, PINTI_CU_HOST_ALLOC_PORTABLE);
    if (result == PINTI_CU_SUCCESS) {
        memset(own, 1, facts_bytes);
        say_speed("memory of the driver's", &p, address, own, 16u << 20, stream);
    }
}
