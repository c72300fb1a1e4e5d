/* SPDX-License-Identifier: Apache-2.0 */

/*
 * CPU and GPU workers on one column of doubles, each in a process of its own:
 *
 *   gpu_worker TABLE COLUMN produce      a CPU worker: writes chunk after chunk under leases
 *   gpu_worker TABLE COLUMN standardise  a GPU worker: (x - mean) / sd, on the GPU
 *   gpu_worker TABLE COLUMN check        another GPU worker: reads the same device copy, which it
 *                                        gets by its handle; nothing is moved
 *   gpu_worker TABLE COLUMN print        a CPU worker again: reads the result. It opens the device
 *                                        to bring to the host what is newer there
 *   gpu_worker TABLE COLUMN mapped       a GPU worker without a copy: its kernel reads the table's
 *                                        own pages, which the runtime library knows as registered
 *
 * Start as many of each as you like. The device is $GPU, or "cuda:0".
 */

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cuda_runtime.h>

#include <pintable/device.cuh>
#include <pintable/pintable.h>

namespace
{

constexpr unsigned threads = 256;
constexpr unsigned blocks = 1024;

/* Number, sum and sum of squares of what is valid. */
struct moments {
    double n;
    double sum;
    double squares;
};

__device__ double warp_sum(double x)
{
    for (int width = 16; width > 0; width /= 2) {
        x += __shfl_down_sync(0xffffffffu, x, width);
    }
    return x;
}

__global__ void add_up(pintable::values<const double> x, moments *out)
{
    moments mine = {0, 0, 0};
    for (uint64_t row = pintable::first_row(); row < x.rows(); row += pintable::row_step()) {
        if (x.is_valid(row)) {
            mine.n += 1;
            mine.sum += x[row];
            mine.squares += x[row] * x[row];
        }
    }
    mine.n = warp_sum(mine.n);
    mine.sum = warp_sum(mine.sum);
    mine.squares = warp_sum(mine.squares);
    if (threadIdx.x % 32 == 0) {
        atomicAdd(&out->n, mine.n);
        atomicAdd(&out->sum, mine.sum);
        atomicAdd(&out->squares, mine.squares);
    }
}

__global__ void standardise(pintable::values<double> x, const moments *in)
{
    const double mean = in->sum / in->n;
    const double variance = in->squares / in->n - mean * mean;
    const double scale = variance > 0 ? rsqrt(variance) : 0;
    for (uint64_t row = pintable::first_row(); row < x.rows(); row += pintable::row_step()) {
        if (x.is_valid(row)) {
            x[row] = (x[row] - mean) * scale;
        }
    }
}

/* What is open; closed in reverse. */
struct work {
    pint_pool *pool = nullptr;
    pint_table *table = nullptr;
    pint_column column = {};
    pint_device *device = nullptr;
    pint_copy *copy = nullptr;
    pint_error err = {};

    ~work()
    {
        pint_copy_close(copy);
        pint_device_close(device);
        pint_table_close(table);
        pint_pool_leave(pool);
    }

    bool join(const char *table_name, const char *column_name)
    {
        if (pint_pool_join(nullptr, nullptr, &pool, &err) != PINT_OK ||
            pint_table_open(pool, table_name, PINT_WRITE, &table, &err) != PINT_OK ||
            pint_table_column(table, column_name, &column, &err) != PINT_OK) {
            return false;
        }
        if (!pintable::is_row_type<double>(column.type)) {
            (void)std::snprintf(err.message, sizeof(err.message), "column '%s' is not float64",
                                column_name);
            return false;
        }
        return true;
    }

    bool open_device()
    {
        const char *name = std::getenv("GPU");
        return pint_device_open(pool, name != nullptr ? name : "cuda:0", &device, &err) ==
                   PINT_OK &&
               use_device();
    }

    /* The same GPU for the runtime library: streams and memory are of its primary context. */
    bool use_device()
    {
        pint_device_info info = PINT_DEVICE_INFO_INIT;
        int n_devices = 0;
        if (pint_device_get_info(device, &info, &err) != PINT_OK) {
            return false;
        }
        if (info.is_cuda == 0) { /* GPU=host: for the roles without kernels */
            return true;
        }
        if (!cuda(cudaGetDeviceCount(&n_devices), "cudaGetDeviceCount")) {
            return false;
        }
        for (int i = 0; i < n_devices; i++) {
            cudaDeviceProp properties;
            if (!cuda(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties")) {
                return false;
            }
            if (std::memcmp(properties.uuid.bytes, info.uuid, sizeof(info.uuid)) == 0) {
                return cuda(cudaSetDevice(i), "cudaSetDevice");
            }
        }
        (void)std::snprintf(err.message, sizeof(err.message),
                            "the runtime library does not see '%s'", info.name);
        return false;
    }

    bool open_on_device(uint32_t access)
    {
        return open_device() && pint_copy_open(device, &column, 0, access, &copy, &err) == PINT_OK;
    }

    bool cuda(cudaError_t result, const char *what)
    {
        if (result != cudaSuccess) {
            (void)std::snprintf(err.message, sizeof(err.message), "%s: %s", what,
                                cudaGetErrorString(result));
        }
        return result == cudaSuccess;
    }
};

bool produce(work &w)
{
    const uint64_t n_rows = pint_table_rows(w.table);
    const uint64_t chunk_rows = pint_table_chunk_rows(w.table);
    double *x = static_cast<double *>(pint_column_values(&w.column));
    for (uint64_t chunk = 0; chunk * chunk_rows < n_rows; chunk++) {
        pint_lease lease;
        if (pint_lease_claim(&w.column, 1, chunk, PINT_OUT, -1, &lease, &w.err) != PINT_OK) {
            return false;
        }
        for (uint64_t row = lease.first; row < lease.first + lease.n_rows; row++) {
            x[row] = static_cast<double>(row * 2654435761u % 1000);
        }
        if (pint_lease_commit(&lease, &w.err) != PINT_OK) {
            return false;
        }
    }
    return true;
}

/* One bracket: the values come to the GPU if they are newer on the host, kernels run on the stream,
 * and what they write is the newest afterwards. */
bool on_gpu(work &w, bool writes)
{
    const uint32_t access = writes ? PINT_READ | PINT_WRITE : PINT_READ;
    const uint64_t n_rows = pint_table_rows(w.table);
    cudaStream_t stream = nullptr;
    moments *sums = nullptr;
    moments result = {};
    void *own = nullptr;
    if (!w.open_on_device(writes ? PINT_WRITE : PINT_READ) ||
        pint_stream_create(w.device, &own, &w.err) != PINT_OK) {
        return false;
    }
    stream = static_cast<cudaStream_t>(own);
    bool good = w.cuda(cudaMalloc(&sums, sizeof(*sums)), "cudaMalloc") &&
                w.cuda(cudaMemsetAsync(sums, 0, sizeof(*sums), stream), "cudaMemsetAsync") &&
                pint_device_begin(w.copy, 0, PINT_ALL_ROWS, access, stream, -1, &w.err) == PINT_OK;
    if (good) {
        add_up<<<blocks, threads, 0, stream>>>(pintable::values<const double>(w.copy, n_rows),
                                               sums);
        if (writes) {
            standardise<<<blocks, threads, 0, stream>>>(pintable::values<double>(w.copy, n_rows),
                                                        sums);
        }
        good = w.cuda(cudaGetLastError(), "kernel");
        const pint_status status =
            good ? pint_device_end(w.copy, 0, PINT_ALL_ROWS, access, stream, &w.err)
                 : pint_device_cancel(w.copy, 0, PINT_ALL_ROWS, access, stream, nullptr);
        good = good && status == PINT_OK;
    }
    good = good &&
           w.cuda(cudaMemcpyAsync(&result, sums, sizeof(result), cudaMemcpyDefault, stream),
                  "cudaMemcpyAsync") &&
           pint_stream_wait(w.device, stream, &w.err) == PINT_OK;
    if (good) {
        uint64_t to_device = 0;
        uint64_t to_host = 0;
        pint_copy_moved(w.copy, &to_device, &to_host);
        std::printf(
            "%.0f values, mean %g, sd %g; moved %llu bytes to the GPU, %llu back\n", result.n,
            result.sum / result.n,
            std::sqrt(result.squares / result.n - result.sum / result.n * (result.sum / result.n)),
            static_cast<unsigned long long>(to_device), static_cast<unsigned long long>(to_host));
    }
    (void)cudaFree(sums);
    pint_stream_destroy(w.device, own);
    return good;
}

/* What the runtime library says of memory that this library has registered: as of its own. */
bool is_registered(work &w, const void *host, void **out_device)
{
    cudaPointerAttributes attributes;
    unsigned int flags = 0;
    void *const at = const_cast<void *>(host);
    if (!w.cuda(cudaPointerGetAttributes(&attributes, at), "cudaPointerGetAttributes") ||
        !w.cuda(cudaHostGetFlags(&flags, at), "cudaHostGetFlags") ||
        !w.cuda(cudaHostGetDevicePointer(out_device, at, 0), "cudaHostGetDevicePointer")) {
        return false;
    }
    std::printf("host memory at %p: %s, flags 0x%x, on the GPU at %p\n", host,
                attributes.type == cudaMemoryTypeHost ? "registered" : "not registered", flags,
                *out_device);
    return attributes.type == cudaMemoryTypeHost;
}

/* A kernel over host memory: for what is read once. Nobody writes meanwhile. */
bool mapped(work &w)
{
    const uint64_t n_rows = pint_table_rows(w.table);
    uint64_t address = 0;
    void *values = nullptr;
    void *validity = nullptr;
    moments *sums = nullptr;
    moments result = {};
    bool good = w.open_device() &&
                pint_device_mapped(w.device, &w.column, &address, &w.err) == PINT_OK &&
                is_registered(w, pint_column_values(&w.column), &values) &&
                (w.column.validity == nullptr || is_registered(w, w.column.validity, &validity));
    if (good && reinterpret_cast<uintptr_t>(values) != address) {
        (void)std::snprintf(w.err.message, sizeof(w.err.message), "two addresses of one column");
        good = false;
    }
    good = good && w.cuda(cudaMalloc(&sums, sizeof(*sums)), "cudaMalloc") &&
           w.cuda(cudaMemset(sums, 0, sizeof(*sums)), "cudaMemset");
    if (good) {
        add_up<<<blocks, threads>>>(
            pintable::values<const double>(address, reinterpret_cast<uintptr_t>(validity), n_rows),
            sums);
        good = w.cuda(cudaGetLastError(), "kernel") &&
               w.cuda(cudaMemcpy(&result, sums, sizeof(result), cudaMemcpyDeviceToHost), "sums");
    }
    if (good) {
        std::printf("%.0f values, mean %g; nothing was moved\n", result.n, result.sum / result.n);
    }
    (void)cudaFree(sums);
    return good;
}

bool print(work &w)
{
    if (!w.open_on_device(PINT_READ) ||
        pint_copy_to_host(w.copy, 0, PINT_ALL_ROWS, -1, nullptr, &w.err) != PINT_OK) {
        return false;
    }
    const uint64_t n_rows = pint_table_rows(w.table);
    const double *x = static_cast<const double *>(pint_column_values(&w.column));
    for (uint64_t row = 0; row < n_rows && row < 10; row++) {
        std::printf("%g\n", x[row]);
    }
    return true;
}

} /* namespace */

int main(int argc, char **argv)
{
    const char *role = argc == 4 ? argv[3] : "";
    const bool writes = std::strcmp(role, "standardise") == 0;
    const bool is_gpu = writes || std::strcmp(role, "check") == 0;
    const bool is_producer = std::strcmp(role, "produce") == 0;
    const bool is_mapped = std::strcmp(role, "mapped") == 0;
    if (!is_gpu && !is_producer && !is_mapped && std::strcmp(role, "print") != 0) {
        (void)std::fprintf(
            stderr, "usage: gpu_worker TABLE COLUMN produce|standardise|check|print|mapped\n");
        return 64;
    }
    work w;
    const bool good = w.join(argv[1], argv[2]) && (is_gpu        ? on_gpu(w, writes)
                                                   : is_producer ? produce(w)
                                                   : is_mapped   ? mapped(w)
                                                                 : print(w));
    if (!good) {
        (void)std::fprintf(stderr, "gpu_worker: %s\n", w.err.message);
    }
    return good ? 0 : 1;
}
