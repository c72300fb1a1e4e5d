/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DEVICE_CUDA_ABI_H
#define DEVICE_CUDA_ABI_H

/*
 * The part of the CUDA driver API that we call, in our own words, so that it compiles without the
 * toolkit. Values and layouts are those of <cuda.h> 12.0 to 13.5; tests/device/abi_check.c
 * compares each of them with <cuda.h> where that is installed. Both headers can be included
 * together.
 *
 * An entry point is asked for by its base name and the version of the interface declared here, so a
 * newer driver that changes an entry point still gives us this one.
 */

#include <stddef.h>
#include <stdint.h>

/* --- Scalars and handles ---------------------------------------------------------------------- */

typedef int pinti_cu_device;             /* ordinal, different from process to process */
typedef unsigned long long pinti_cu_ptr; /* device address; one address space with the host */
typedef unsigned long long pinti_cu_mem; /* physical allocation (cuMemCreate), not an address */

/* The driver's own tags, so that cudaStream_t and CUstream are this type as they are. */
typedef struct CUctx_st *pinti_cu_context;
typedef struct CUstream_st *pinti_cu_stream;
typedef struct CUevent_st *pinti_cu_event;
typedef void (*pinti_cu_host_fn)(void *data);

/* Results that we tell apart; the driver knows more. Unsigned int in the ABI. */
typedef enum pinti_cu_result {
    PINTI_CU_SUCCESS = 0,
    PINTI_CU_INVALID_VALUE = 1,
    PINTI_CU_OUT_OF_MEMORY = 2,
    PINTI_CU_NOT_INITIALIZED = 3, /* also every call in a forked child */
    PINTI_CU_DEINITIALIZED = 4,   /* the process is on its way out */
    PINTI_CU_STUB_LIBRARY = 34,   /* the toolkit's linking aid instead of a driver */
    PINTI_CU_DEVICE_UNAVAILABLE = 46,
    PINTI_CU_NO_DEVICE = 100,
    PINTI_CU_INVALID_DEVICE = 101,
    PINTI_CU_INVALID_CONTEXT = 201,
    PINTI_CU_MAP_FAILED = 205,
    PINTI_CU_ALREADY_MAPPED = 208,
    PINTI_CU_ECC_UNCORRECTABLE = 214,
    PINTI_CU_NVLINK_UNCORRECTABLE = 220,
    PINTI_CU_CONTAINED = 226, /* uncorrectable, but only this process is hit */
    PINTI_CU_OPERATING_SYSTEM = 304,
    PINTI_CU_INVALID_HANDLE = 400,
    PINTI_CU_NOT_FOUND = 500,
    PINTI_CU_NOT_READY = 600,
    PINTI_CU_ILLEGAL_ADDRESS = 700,
    PINTI_CU_LAUNCH_TIMEOUT = 702,
    PINTI_CU_CONTEXT_IS_DESTROYED = 709,
    PINTI_CU_ASSERT = 710,
    PINTI_CU_TOO_MANY_PEERS = 711,
    PINTI_CU_HOST_MEMORY_ALREADY_REGISTERED = 712,
    PINTI_CU_HOST_MEMORY_NOT_REGISTERED = 713,
    PINTI_CU_HARDWARE_STACK_ERROR = 714,
    PINTI_CU_ILLEGAL_INSTRUCTION = 715,
    PINTI_CU_MISALIGNED_ADDRESS = 716,
    PINTI_CU_INVALID_ADDRESS_SPACE = 717,
    PINTI_CU_INVALID_PC = 718,
    PINTI_CU_LAUNCH_FAILED = 719,
    PINTI_CU_TENSOR_MEMORY_LEAK = 721,
    PINTI_CU_NOT_PERMITTED = 800,
    PINTI_CU_NOT_SUPPORTED = 801,
    PINTI_CU_MPS_CLIENT_TERMINATED = 810,
    PINTI_CU_CAPTURE_UNSUPPORTED = 900, /* some thread captures a graph, and forbids the call */
    PINTI_CU_EXTERNAL_DEVICE = 911,
    PINTI_CU_UNKNOWN = 999
} pinti_cu_result;

/* --- Devices ---------------------------------------------------------------------------------- */

typedef struct pinti_cu_uuid {
    char bytes[16];
} pinti_cu_uuid;

typedef enum pinti_cu_device_attribute {
    PINTI_CU_DEV_INTEGRATED = 18,
    PINTI_CU_DEV_COMPUTE_MODE = 20,
    PINTI_CU_DEV_ASYNC_ENGINE_COUNT = 40,
    PINTI_CU_DEV_UNIFIED_ADDRESSING = 41,
    PINTI_CU_DEV_COMPUTE_CAPABILITY_MAJOR = 75,
    PINTI_CU_DEV_COMPUTE_CAPABILITY_MINOR = 76,
    PINTI_CU_DEV_HOST_NATIVE_ATOMIC = 86,
    PINTI_CU_DEV_PAGEABLE_MEMORY_ACCESS = 88,
    PINTI_CU_DEV_HOST_POINTER_FOR_REGISTERED = 91,
    PINTI_CU_DEV_HOST_REGISTER = 99,
    PINTI_CU_DEV_PAGEABLE_USES_HOST_PAGE_TABLES = 100,
    PINTI_CU_DEV_VIRTUAL_MEMORY_MANAGEMENT = 102,
    PINTI_CU_DEV_HANDLE_TYPE_POSIX_FD = 103,
    PINTI_CU_DEV_READ_ONLY_HOST_REGISTER = 113,
    PINTI_CU_DEV_STREAM_MEM_OPS_64 = 122,
    PINTI_CU_DEV_IPC_EVENT = 125, /* the nearest there is to "legacy IPC works": probe it too */
    PINTI_CU_DEV_HOST_NUMA_ID = 134
} pinti_cu_device_attribute;

#define PINTI_CU_COMPUTE_MODE_DEFAULT 0 /* several processes may use the device */

/* --- Host memory ------------------------------------------------------------------------------ */

#define PINTI_CU_REGISTER_PORTABLE  0x1u
#define PINTI_CU_REGISTER_DEVICEMAP 0x2u
#define PINTI_CU_REGISTER_IOMEMORY  0x4u
#define PINTI_CU_REGISTER_READ_ONLY 0x8u

#define PINTI_CU_HOST_ALLOC_PORTABLE 0x1u

/* --- Physical allocations and mappings (VMM) -------------------------------------------------- */

typedef enum pinti_cu_mem_type { PINTI_CU_MEM_TYPE_PINNED = 1 } pinti_cu_mem_type;
typedef enum pinti_cu_handle_type {
    PINTI_CU_HANDLE_TYPE_NONE = 0,
    PINTI_CU_HANDLE_TYPE_POSIX_FD = 1
} pinti_cu_handle_type;
typedef enum pinti_cu_location_type {
    PINTI_CU_LOCATION_INVALID = 0,
    PINTI_CU_LOCATION_DEVICE = 1, /* id: ordinal */
    PINTI_CU_LOCATION_HOST = 2
} pinti_cu_location_type;
typedef enum pinti_cu_granularity {
    PINTI_CU_GRANULARITY_MINIMUM = 0,
    PINTI_CU_GRANULARITY_RECOMMENDED = 1
} pinti_cu_granularity;
typedef enum pinti_cu_access {
    PINTI_CU_ACCESS_NONE = 0,
    PINTI_CU_ACCESS_READ = 1,
    PINTI_CU_ACCESS_READWRITE = 3
} pinti_cu_access;

typedef struct pinti_cu_location {
    pinti_cu_location_type type;
    int id;
} pinti_cu_location;

typedef struct pinti_cu_mem_prop {
    pinti_cu_mem_type type;
    pinti_cu_handle_type handle_types;
    pinti_cu_location location;
    void *win32_metadata; /* NULL */
    struct {
        unsigned char compression;
        unsigned char gpu_direct_rdma;
        unsigned short usage;
        unsigned char reserved[4];
    } alloc_flags; /* zero */
} pinti_cu_mem_prop;

typedef struct pinti_cu_access_desc {
    pinti_cu_location location;
    pinti_cu_access flags;
} pinti_cu_access_desc;

/* --- Legacy IPC ------------------------------------------------------------------------------- */

#define PINTI_CU_IPC_HANDLE_BYTES     64
#define PINTI_CU_IPC_LAZY_PEER_ACCESS 0x1u /* must be given */

typedef struct pinti_cu_ipc_handle {
    char bytes[PINTI_CU_IPC_HANDLE_BYTES];
} pinti_cu_ipc_handle;

/* --- Streams, events, copies ------------------------------------------------------------------ */

#define PINTI_CU_STREAM_NON_BLOCKING 0x1u /* does not wait for the default stream */
#define PINTI_CU_STREAM_LEGACY       ((pinti_cu_stream)0x1)
#define PINTI_CU_STREAM_PER_THREAD   ((pinti_cu_stream)0x2)

/* Which calls of a thread a capture of any thread's forbids: one of these per thread. */
typedef enum pinti_cu_capture_mode {
    PINTI_CU_CAPTURE_GLOBAL = 0, /* every thread's start */
    PINTI_CU_CAPTURE_THREAD_LOCAL = 1,
    PINTI_CU_CAPTURE_RELAXED = 2 /* none */
} pinti_cu_capture_mode;

typedef enum pinti_cu_capture_status {
    PINTI_CU_CAPTURE_NONE = 0, /* what is enqueued on the stream runs */
    PINTI_CU_CAPTURE_ACTIVE = 1,
    PINTI_CU_CAPTURE_INVALIDATED = 2
} pinti_cu_capture_status;

#define PINTI_CU_EVENT_DEFAULT        0x0u
#define PINTI_CU_EVENT_BLOCKING_SYNC  0x1u
#define PINTI_CU_EVENT_DISABLE_TIMING 0x2u

#define PINTI_CU_WRITE_VALUE_DEFAULT                                                               \
    0x0u /* earlier work of the stream is visible before the value */

/* When the source of a batched copy is read. */
typedef enum pinti_cu_src_order {
    PINTI_CU_SRC_ORDER_INVALID = 0,
    PINTI_CU_SRC_ORDER_STREAM = 1,
    PINTI_CU_SRC_ORDER_DURING_CALL = 2,
    PINTI_CU_SRC_ORDER_ANY = 3
} pinti_cu_src_order;

typedef struct pinti_cu_copy_attributes {
    pinti_cu_src_order src_order;
    pinti_cu_location src_hint;
    pinti_cu_location dst_hint;
    unsigned int flags;
} pinti_cu_copy_attributes;

typedef enum pinti_cu_pointer_attribute {
    PINTI_CU_POINTER_CONTEXT = 1,        /* pinti_cu_context */
    PINTI_CU_POINTER_MEMORY_TYPE = 2,    /* unsigned int: PINTI_CU_MEMORY_* */
    PINTI_CU_POINTER_DEVICE_POINTER = 3, /* pinti_cu_ptr */
    PINTI_CU_POINTER_HOST_POINTER = 4,   /* void * */
    PINTI_CU_POINTER_BUFFER_ID = 7,      /* unsigned long long */
    PINTI_CU_POINTER_DEVICE_ORDINAL = 9, /* int */
    PINTI_CU_POINTER_LEGACY_IPC = 10,    /* int: 1 if cuIpcGetMemHandle() takes it */
    PINTI_CU_POINTER_RANGE_START = 11,   /* void * */
    PINTI_CU_POINTER_RANGE_BYTES = 12,   /* size_t */
    PINTI_CU_POINTER_MAPPED = 13,        /* int */
    PINTI_CU_POINTER_HANDLE_TYPES = 14   /* unsigned long long: mask of pinti_cu_handle_type */
} pinti_cu_pointer_attribute;

#define PINTI_CU_MEMORY_HOST   1u
#define PINTI_CU_MEMORY_DEVICE 2u

/* --- Finding entry points --------------------------------------------------------------------- */

#define PINTI_CU_PROC_ADDRESS_DEFAULT 0u

typedef enum pinti_cu_proc_found {
    PINTI_CU_PROC_FOUND = 0,
    PINTI_CU_PROC_NOT_FOUND = 1,
    PINTI_CU_PROC_VERSION_TOO_LOW = 2
} pinti_cu_proc_found;

/* --- Entry points ----------------------------------------------------------------------------- */

/*
 * Rows: member of pinti_cuda, base name, symbol as exported, version, parameters.
 * A version is 1000 * major + 10 * minor of the CUDA release that brought this interface.
 */
/* clang-format off */

/* Without one of these the driver is too old. All are in 12.0. */
#define PINTI_CU_REQUIRED(X) \
    X(init, cuInit, cuInit, 2000, (unsigned int flags)) \
    X(driver_get_version, cuDriverGetVersion, cuDriverGetVersion, 2020, (int *out_version)) \
    X(get_proc_address, cuGetProcAddress, cuGetProcAddress_v2, 12000, \
      (const char *name, void **out_address, int version, uint64_t flags, pinti_cu_proc_found *out_found)) \
    X(get_error_name, cuGetErrorName, cuGetErrorName, 6000, (pinti_cu_result result, const char **out_name)) \
    X(get_error_string, cuGetErrorString, cuGetErrorString, 6000, (pinti_cu_result result, const char **out_text)) \
    X(device_get_count, cuDeviceGetCount, cuDeviceGetCount, 2000, (int *out_count)) \
    X(device_get, cuDeviceGet, cuDeviceGet, 2000, (pinti_cu_device *out_device, int ordinal)) \
    X(device_get_name, cuDeviceGetName, cuDeviceGetName, 2000, (char *name, int room, pinti_cu_device device)) \
    X(device_get_uuid, cuDeviceGetUuid, cuDeviceGetUuid_v2, 11040, (pinti_cu_uuid *out_uuid, pinti_cu_device device)) \
    X(device_get_attribute, cuDeviceGetAttribute, cuDeviceGetAttribute, 2000, \
      (int *out_value, pinti_cu_device_attribute attribute, pinti_cu_device device)) \
    X(device_total_mem, cuDeviceTotalMem, cuDeviceTotalMem_v2, 3020, (size_t *out_bytes, pinti_cu_device device)) \
    X(primary_ctx_retain, cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, 7000, \
      (pinti_cu_context *out_context, pinti_cu_device device)) \
    X(primary_ctx_release, cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, 11000, (pinti_cu_device device)) \
    X(ctx_push_current, cuCtxPushCurrent, cuCtxPushCurrent_v2, 4000, (pinti_cu_context context)) \
    X(ctx_pop_current, cuCtxPopCurrent, cuCtxPopCurrent_v2, 4000, (pinti_cu_context *out_context)) \
    X(ctx_get_current, cuCtxGetCurrent, cuCtxGetCurrent, 4000, (pinti_cu_context *out_context)) \
    X(mem_get_info, cuMemGetInfo, cuMemGetInfo_v2, 3020, (size_t *out_free_bytes, size_t *out_total_bytes)) \
    X(mem_host_register, cuMemHostRegister, cuMemHostRegister_v2, 6050, (void *base, size_t bytes, unsigned int flags)) \
    X(mem_host_unregister, cuMemHostUnregister, cuMemHostUnregister, 4000, (void *base)) \
    X(mem_host_get_device_pointer, cuMemHostGetDevicePointer, cuMemHostGetDevicePointer_v2, 3020, \
      (pinti_cu_ptr *out_ptr, void *host, unsigned int flags)) \
    X(mem_get_granularity, cuMemGetAllocationGranularity, cuMemGetAllocationGranularity, 10020, \
      (size_t *out_bytes, const pinti_cu_mem_prop *prop, pinti_cu_granularity option)) \
    X(mem_create, cuMemCreate, cuMemCreate, 10020, \
      (pinti_cu_mem *out_mem, size_t bytes, const pinti_cu_mem_prop *prop, unsigned long long flags)) \
    X(mem_release, cuMemRelease, cuMemRelease, 10020, (pinti_cu_mem mem)) \
    X(mem_export, cuMemExportToShareableHandle, cuMemExportToShareableHandle, 10020, \
      (void *out_handle, pinti_cu_mem mem, pinti_cu_handle_type type, unsigned long long flags)) \
    X(mem_import, cuMemImportFromShareableHandle, cuMemImportFromShareableHandle, 10020, \
      (pinti_cu_mem *out_mem, void *os_handle, pinti_cu_handle_type type)) \
    X(mem_address_reserve, cuMemAddressReserve, cuMemAddressReserve, 10020, \
      (pinti_cu_ptr *out_ptr, size_t bytes, size_t alignment, pinti_cu_ptr hint, unsigned long long flags)) \
    X(mem_address_free, cuMemAddressFree, cuMemAddressFree, 10020, (pinti_cu_ptr ptr, size_t bytes)) \
    X(mem_map, cuMemMap, cuMemMap, 10020, \
      (pinti_cu_ptr ptr, size_t bytes, size_t offset, pinti_cu_mem mem, unsigned long long flags)) \
    X(mem_unmap, cuMemUnmap, cuMemUnmap, 10020, (pinti_cu_ptr ptr, size_t bytes)) \
    X(mem_set_access, cuMemSetAccess, cuMemSetAccess, 10020, \
      (pinti_cu_ptr ptr, size_t bytes, const pinti_cu_access_desc *descs, size_t n_descs)) \
    X(stream_create, cuStreamCreate, cuStreamCreate, 2000, (pinti_cu_stream *out_stream, unsigned int flags)) \
    X(stream_destroy, cuStreamDestroy, cuStreamDestroy_v2, 4000, (pinti_cu_stream stream)) \
    X(stream_synchronize, cuStreamSynchronize, cuStreamSynchronize, 2000, (pinti_cu_stream stream)) \
    X(stream_query, cuStreamQuery, cuStreamQuery, 2000, (pinti_cu_stream stream)) \
    X(stream_wait_event, cuStreamWaitEvent, cuStreamWaitEvent, 3020, \
      (pinti_cu_stream stream, pinti_cu_event event, unsigned int flags)) \
    X(launch_host_func, cuLaunchHostFunc, cuLaunchHostFunc, 10000, \
      (pinti_cu_stream stream, pinti_cu_host_fn function, void *data)) \
    X(event_create, cuEventCreate, cuEventCreate, 2000, (pinti_cu_event *out_event, unsigned int flags)) \
    X(event_record, cuEventRecord, cuEventRecord, 2000, (pinti_cu_event event, pinti_cu_stream stream)) \
    X(event_query, cuEventQuery, cuEventQuery, 2000, (pinti_cu_event event)) \
    X(event_synchronize, cuEventSynchronize, cuEventSynchronize, 2000, (pinti_cu_event event)) \
    X(event_destroy, cuEventDestroy, cuEventDestroy_v2, 4000, (pinti_cu_event event)) \
    X(memcpy_htod_async, cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, 3020, \
      (pinti_cu_ptr dst, const void *src, size_t bytes, pinti_cu_stream stream)) \
    X(memcpy_dtoh_async, cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, 3020, \
      (void *dst, pinti_cu_ptr src, size_t bytes, pinti_cu_stream stream))

/* A missing one is NULL in pinti_cuda, and what needs it is off. These are in 12.0. */
#define PINTI_CU_OPTIONAL_12(X) \
    X(mem_alloc, cuMemAlloc, cuMemAlloc_v2, 3020, (pinti_cu_ptr *out_ptr, size_t bytes)) \
    X(mem_free, cuMemFree, cuMemFree_v2, 3020, (pinti_cu_ptr ptr)) \
    X(mem_host_alloc, cuMemHostAlloc, cuMemHostAlloc, 2020, (void **out_host, size_t bytes, unsigned int flags)) \
    X(mem_free_host, cuMemFreeHost, cuMemFreeHost, 2000, (void *host)) \
    X(ctx_get_id, cuCtxGetId, cuCtxGetId, 12000, (pinti_cu_context context, unsigned long long *out_id)) \
    X(thread_exchange_capture_mode, cuThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, 10010, \
      (pinti_cu_capture_mode *mode)) \
    X(stream_is_capturing, cuStreamIsCapturing, cuStreamIsCapturing, 10000, \
      (pinti_cu_stream stream, pinti_cu_capture_status *out_status)) \
    X(mem_get_address_range, cuMemGetAddressRange, cuMemGetAddressRange_v2, 3020, \
      (pinti_cu_ptr *out_base, size_t *out_bytes, pinti_cu_ptr ptr)) \
    X(ipc_get_mem_handle, cuIpcGetMemHandle, cuIpcGetMemHandle, 4010, (pinti_cu_ipc_handle *out_handle, pinti_cu_ptr base)) \
    X(ipc_open_mem_handle, cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2, 11000, \
      (pinti_cu_ptr *out_ptr, pinti_cu_ipc_handle handle, unsigned int flags)) \
    X(ipc_close_mem_handle, cuIpcCloseMemHandle, cuIpcCloseMemHandle, 4010, (pinti_cu_ptr ptr)) \
    X(pointer_get_attribute, cuPointerGetAttribute, cuPointerGetAttribute, 4000, \
      (void *out_value, pinti_cu_pointer_attribute attribute, pinti_cu_ptr ptr)) \
    X(device_can_access_peer, cuDeviceCanAccessPeer, cuDeviceCanAccessPeer, 4000, \
      (int *out_can, pinti_cu_device device, pinti_cu_device peer)) \
    X(memcpy_dtod_async, cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, 3020, \
      (pinti_cu_ptr dst, pinti_cu_ptr src, size_t bytes, pinti_cu_stream stream)) \
    X(memset_d8_async, cuMemsetD8Async, cuMemsetD8Async, 3020, \
      (pinti_cu_ptr dst, unsigned char value, size_t bytes, pinti_cu_stream stream)) \
    X(stream_write_value64, cuStreamWriteValue64, cuStreamWriteValue64_v2, 11070, \
      (pinti_cu_stream stream, pinti_cu_ptr ptr, uint64_t value, unsigned int flags))

/* The same, of 13.0 and later. */
#define PINTI_CU_OPTIONAL_13(X) \
    X(memcpy_batch_async, cuMemcpyBatchAsync, cuMemcpyBatchAsync_v2, 13000, \
      (pinti_cu_ptr *dsts, pinti_cu_ptr *srcs, size_t *bytes, size_t n_copies, \
       pinti_cu_copy_attributes *attributes, size_t *attribute_starts, size_t n_attributes, \
       pinti_cu_stream stream))

#define PINTI_CU_OPTIONAL(X) PINTI_CU_OPTIONAL_12(X) PINTI_CU_OPTIONAL_13(X)

/* clang-format on */

#define PINTI_CU_MEMBER(member_, name_, symbol_, version_, params_)                                \
    pinti_cu_result(*member_) params_;
typedef struct pinti_cuda_api {
    PINTI_CU_REQUIRED(PINTI_CU_MEMBER)
    PINTI_CU_OPTIONAL(PINTI_CU_MEMBER)
} pinti_cuda_api;
#undef PINTI_CU_MEMBER

#endif
