/* SPDX-License-Identifier: Apache-2.0 */

/*
 * device/cuda_abi.h against the toolkit's <cuda.h>: sizes, offsets, constants, and the type, name,
 * symbol and version of every entry point. The compiler decides all of it but two casts.
 * Built where a toolkit is installed; what came after 12.0 is compared from the version that
 * brought it.
 *
 * Entry points are compared by naming the toolkit's types in our own parameter lists: see "Names"
 * below. A version that the toolkit does not have is an unknown type PFN_..._v...
 */

#include "device/cuda_abi.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <stdio.h>

#define SAME_VALUE(ours_, theirs_)                                                                 \
    _Static_assert((long long)(ours_) == (long long)(theirs_), #ours_ " is not " #theirs_)
#define SAME_SIZE(ours_, theirs_)                                                                  \
    _Static_assert(sizeof(ours_) == sizeof(theirs_) && _Alignof(ours_) == _Alignof(theirs_),       \
                   #ours_ " is not like " #theirs_)
#define SAME_FIELD(ours_, field_, theirs_, their_field_)                                           \
    _Static_assert(offsetof(ours_, field_) == offsetof(theirs_, their_field_) &&                   \
                       sizeof(((ours_ *)0)->field_) == sizeof(((theirs_ *)0)->their_field_),       \
                   #ours_ "." #field_ " is not " #theirs_ "." #their_field_)
#define SAME_TYPE(ours_, theirs_)                                                                  \
    _Static_assert(__builtin_types_compatible_p(ours_, theirs_), #ours_ " is not " #theirs_)

/* --- Scalars and handles: the same types ------------------------------------------------------ */

SAME_TYPE(pinti_cu_device, CUdevice);
SAME_TYPE(pinti_cu_ptr, CUdeviceptr);
SAME_TYPE(pinti_cu_mem, CUmemGenericAllocationHandle);
SAME_TYPE(pinti_cu_context, CUcontext);
SAME_TYPE(pinti_cu_stream, CUstream);
SAME_TYPE(pinti_cu_event, CUevent);
SAME_TYPE(pinti_cu_host_fn, CUhostFn);
SAME_TYPE(uint64_t, cuuint64_t);

/* --- Enumerations and constants --------------------------------------------------------------- */

SAME_SIZE(pinti_cu_result, CUresult);
SAME_SIZE(pinti_cu_device_attribute, CUdevice_attribute);
SAME_SIZE(pinti_cu_mem_type, CUmemAllocationType);
SAME_SIZE(pinti_cu_handle_type, CUmemAllocationHandleType);
SAME_SIZE(pinti_cu_location_type, CUmemLocationType);
SAME_SIZE(pinti_cu_granularity, CUmemAllocationGranularity_flags);
SAME_SIZE(pinti_cu_access, CUmemAccess_flags);
#if CUDA_VERSION >= 12080
SAME_SIZE(pinti_cu_src_order, CUmemcpySrcAccessOrder);
#endif
SAME_SIZE(pinti_cu_pointer_attribute, CUpointer_attribute);
SAME_SIZE(pinti_cu_capture_mode, CUstreamCaptureMode);
SAME_SIZE(pinti_cu_capture_status, CUstreamCaptureStatus);
SAME_SIZE(pinti_cu_proc_found, CUdriverProcAddressQueryResult);

#define SAME_RESULT(name_) SAME_VALUE(PINTI_CU_##name_, CUDA_ERROR_##name_)
SAME_VALUE(PINTI_CU_SUCCESS, CUDA_SUCCESS);
SAME_RESULT(INVALID_VALUE);
SAME_RESULT(OUT_OF_MEMORY);
SAME_RESULT(NOT_INITIALIZED);
SAME_RESULT(DEINITIALIZED);
SAME_RESULT(STUB_LIBRARY);
SAME_RESULT(DEVICE_UNAVAILABLE);
SAME_RESULT(NO_DEVICE);
SAME_RESULT(INVALID_DEVICE);
SAME_RESULT(INVALID_CONTEXT);
SAME_RESULT(MAP_FAILED);
SAME_RESULT(ALREADY_MAPPED);
SAME_RESULT(ECC_UNCORRECTABLE);
SAME_RESULT(NVLINK_UNCORRECTABLE);
#if CUDA_VERSION >= 12080
SAME_RESULT(CONTAINED);
SAME_RESULT(TENSOR_MEMORY_LEAK);
#endif
SAME_RESULT(OPERATING_SYSTEM);
SAME_RESULT(INVALID_HANDLE);
SAME_RESULT(NOT_FOUND);
SAME_RESULT(NOT_READY);
SAME_RESULT(ILLEGAL_ADDRESS);
SAME_RESULT(LAUNCH_TIMEOUT);
SAME_RESULT(CONTEXT_IS_DESTROYED);
SAME_RESULT(ASSERT);
SAME_RESULT(TOO_MANY_PEERS);
SAME_RESULT(HOST_MEMORY_ALREADY_REGISTERED);
SAME_RESULT(HOST_MEMORY_NOT_REGISTERED);
SAME_RESULT(HARDWARE_STACK_ERROR);
SAME_RESULT(ILLEGAL_INSTRUCTION);
SAME_RESULT(MISALIGNED_ADDRESS);
SAME_RESULT(INVALID_ADDRESS_SPACE);
SAME_RESULT(INVALID_PC);
SAME_RESULT(LAUNCH_FAILED);
SAME_RESULT(NOT_PERMITTED);
SAME_RESULT(NOT_SUPPORTED);
SAME_VALUE(PINTI_CU_CAPTURE_UNSUPPORTED, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
SAME_RESULT(MPS_CLIENT_TERMINATED);
SAME_RESULT(EXTERNAL_DEVICE);
SAME_RESULT(UNKNOWN);

#define SAME_ATTRIBUTE(ours_, theirs_)                                                             \
    SAME_VALUE(PINTI_CU_DEV_##ours_, CU_DEVICE_ATTRIBUTE_##theirs_)
SAME_ATTRIBUTE(INTEGRATED, INTEGRATED);
SAME_ATTRIBUTE(COMPUTE_MODE, COMPUTE_MODE);
SAME_ATTRIBUTE(ASYNC_ENGINE_COUNT, ASYNC_ENGINE_COUNT);
SAME_ATTRIBUTE(UNIFIED_ADDRESSING, UNIFIED_ADDRESSING);
SAME_ATTRIBUTE(COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MAJOR);
SAME_ATTRIBUTE(COMPUTE_CAPABILITY_MINOR, COMPUTE_CAPABILITY_MINOR);
SAME_ATTRIBUTE(HOST_NATIVE_ATOMIC, HOST_NATIVE_ATOMIC_SUPPORTED);
SAME_ATTRIBUTE(PAGEABLE_MEMORY_ACCESS, PAGEABLE_MEMORY_ACCESS);
SAME_ATTRIBUTE(HOST_POINTER_FOR_REGISTERED, CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM);
SAME_ATTRIBUTE(HOST_REGISTER, HOST_REGISTER_SUPPORTED);
SAME_ATTRIBUTE(PAGEABLE_USES_HOST_PAGE_TABLES, PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES);
SAME_ATTRIBUTE(VIRTUAL_MEMORY_MANAGEMENT, VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED);
SAME_ATTRIBUTE(HANDLE_TYPE_POSIX_FD, HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED);
SAME_ATTRIBUTE(READ_ONLY_HOST_REGISTER, READ_ONLY_HOST_REGISTER_SUPPORTED);
SAME_ATTRIBUTE(STREAM_MEM_OPS_64, CAN_USE_64_BIT_STREAM_MEM_OPS);
SAME_ATTRIBUTE(IPC_EVENT, IPC_EVENT_SUPPORTED);
#if CUDA_VERSION >= 12020
SAME_ATTRIBUTE(HOST_NUMA_ID, HOST_NUMA_ID);
#endif
SAME_VALUE(PINTI_CU_COMPUTE_MODE_DEFAULT, CU_COMPUTEMODE_DEFAULT);

SAME_VALUE(PINTI_CU_REGISTER_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE);
SAME_VALUE(PINTI_CU_REGISTER_DEVICEMAP, CU_MEMHOSTREGISTER_DEVICEMAP);
SAME_VALUE(PINTI_CU_REGISTER_IOMEMORY, CU_MEMHOSTREGISTER_IOMEMORY);
SAME_VALUE(PINTI_CU_REGISTER_READ_ONLY, CU_MEMHOSTREGISTER_READ_ONLY);

SAME_VALUE(PINTI_CU_HOST_ALLOC_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);

SAME_VALUE(PINTI_CU_MEM_TYPE_PINNED, CU_MEM_ALLOCATION_TYPE_PINNED);
SAME_VALUE(PINTI_CU_HANDLE_TYPE_NONE, CU_MEM_HANDLE_TYPE_NONE);
SAME_VALUE(PINTI_CU_HANDLE_TYPE_POSIX_FD, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
SAME_VALUE(PINTI_CU_LOCATION_INVALID, CU_MEM_LOCATION_TYPE_INVALID);
SAME_VALUE(PINTI_CU_LOCATION_DEVICE, CU_MEM_LOCATION_TYPE_DEVICE);
#if CUDA_VERSION >= 12020
SAME_VALUE(PINTI_CU_LOCATION_HOST, CU_MEM_LOCATION_TYPE_HOST);
#endif
SAME_VALUE(PINTI_CU_GRANULARITY_MINIMUM, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
SAME_VALUE(PINTI_CU_GRANULARITY_RECOMMENDED, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
SAME_VALUE(PINTI_CU_ACCESS_NONE, CU_MEM_ACCESS_FLAGS_PROT_NONE);
SAME_VALUE(PINTI_CU_ACCESS_READ, CU_MEM_ACCESS_FLAGS_PROT_READ);
SAME_VALUE(PINTI_CU_ACCESS_READWRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);

SAME_VALUE(PINTI_CU_IPC_HANDLE_BYTES, CU_IPC_HANDLE_SIZE);
SAME_VALUE(PINTI_CU_IPC_LAZY_PEER_ACCESS, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);

SAME_VALUE(PINTI_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME_VALUE(PINTI_CU_CAPTURE_GLOBAL, CU_STREAM_CAPTURE_MODE_GLOBAL);
SAME_VALUE(PINTI_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME_VALUE(PINTI_CU_CAPTURE_RELAXED, CU_STREAM_CAPTURE_MODE_RELAXED);
SAME_VALUE(PINTI_CU_CAPTURE_NONE, CU_STREAM_CAPTURE_STATUS_NONE);
SAME_VALUE(PINTI_CU_CAPTURE_ACTIVE, CU_STREAM_CAPTURE_STATUS_ACTIVE);
SAME_VALUE(PINTI_CU_CAPTURE_INVALIDATED, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
SAME_VALUE(PINTI_CU_EVENT_DEFAULT, CU_EVENT_DEFAULT);
SAME_VALUE(PINTI_CU_EVENT_BLOCKING_SYNC, CU_EVENT_BLOCKING_SYNC);
SAME_VALUE(PINTI_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME_VALUE(PINTI_CU_WRITE_VALUE_DEFAULT, CU_STREAM_WRITE_VALUE_DEFAULT);
#if CUDA_VERSION >= 12080
SAME_VALUE(PINTI_CU_SRC_ORDER_INVALID, CU_MEMCPY_SRC_ACCESS_ORDER_INVALID);
SAME_VALUE(PINTI_CU_SRC_ORDER_STREAM, CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
SAME_VALUE(PINTI_CU_SRC_ORDER_DURING_CALL, CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL);
SAME_VALUE(PINTI_CU_SRC_ORDER_ANY, CU_MEMCPY_SRC_ACCESS_ORDER_ANY);
#endif

SAME_VALUE(PINTI_CU_POINTER_CONTEXT, CU_POINTER_ATTRIBUTE_CONTEXT);
SAME_VALUE(PINTI_CU_POINTER_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SAME_VALUE(PINTI_CU_POINTER_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_DEVICE_POINTER);
SAME_VALUE(PINTI_CU_POINTER_HOST_POINTER, CU_POINTER_ATTRIBUTE_HOST_POINTER);
SAME_VALUE(PINTI_CU_POINTER_BUFFER_ID, CU_POINTER_ATTRIBUTE_BUFFER_ID);
SAME_VALUE(PINTI_CU_POINTER_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
SAME_VALUE(PINTI_CU_POINTER_LEGACY_IPC, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
SAME_VALUE(PINTI_CU_POINTER_RANGE_START, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
SAME_VALUE(PINTI_CU_POINTER_RANGE_BYTES, CU_POINTER_ATTRIBUTE_RANGE_SIZE);
SAME_VALUE(PINTI_CU_POINTER_MAPPED, CU_POINTER_ATTRIBUTE_MAPPED);
SAME_VALUE(PINTI_CU_POINTER_HANDLE_TYPES, CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES);
SAME_VALUE(PINTI_CU_MEMORY_HOST, CU_MEMORYTYPE_HOST);
SAME_VALUE(PINTI_CU_MEMORY_DEVICE, CU_MEMORYTYPE_DEVICE);

SAME_VALUE(PINTI_CU_PROC_ADDRESS_DEFAULT, CU_GET_PROC_ADDRESS_DEFAULT);
SAME_VALUE(PINTI_CU_PROC_FOUND, CU_GET_PROC_ADDRESS_SUCCESS);
SAME_VALUE(PINTI_CU_PROC_NOT_FOUND, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
SAME_VALUE(PINTI_CU_PROC_VERSION_TOO_LOW, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);

/* --- Structures ------------------------------------------------------------------------------- */

SAME_SIZE(pinti_cu_uuid, CUuuid);
SAME_SIZE(pinti_cu_ipc_handle, CUipcMemHandle);

SAME_SIZE(pinti_cu_location, CUmemLocation);
SAME_FIELD(pinti_cu_location, type, CUmemLocation, type);
SAME_FIELD(pinti_cu_location, id, CUmemLocation, id);

SAME_SIZE(pinti_cu_mem_prop, CUmemAllocationProp);
SAME_FIELD(pinti_cu_mem_prop, type, CUmemAllocationProp, type);
SAME_FIELD(pinti_cu_mem_prop, handle_types, CUmemAllocationProp, requestedHandleTypes);
SAME_FIELD(pinti_cu_mem_prop, location, CUmemAllocationProp, location);
SAME_FIELD(pinti_cu_mem_prop, win32_metadata, CUmemAllocationProp, win32HandleMetaData);
SAME_FIELD(pinti_cu_mem_prop, alloc_flags, CUmemAllocationProp, allocFlags);
SAME_FIELD(pinti_cu_mem_prop, alloc_flags.usage, CUmemAllocationProp, allocFlags.usage);
SAME_FIELD(pinti_cu_mem_prop, alloc_flags.gpu_direct_rdma, CUmemAllocationProp,
           allocFlags.gpuDirectRDMACapable);

SAME_SIZE(pinti_cu_access_desc, CUmemAccessDesc);
SAME_FIELD(pinti_cu_access_desc, location, CUmemAccessDesc, location);
SAME_FIELD(pinti_cu_access_desc, flags, CUmemAccessDesc, flags);

#if CUDA_VERSION >= 12080
SAME_SIZE(pinti_cu_copy_attributes, CUmemcpyAttributes);
SAME_FIELD(pinti_cu_copy_attributes, src_order, CUmemcpyAttributes, srcAccessOrder);
SAME_FIELD(pinti_cu_copy_attributes, src_hint, CUmemcpyAttributes, srcLocHint);
SAME_FIELD(pinti_cu_copy_attributes, dst_hint, CUmemcpyAttributes, dstLocHint);
SAME_FIELD(pinti_cu_copy_attributes, flags, CUmemcpyAttributes, flags);
#endif

/* --- Names: from here on our parameter lists mean the toolkit's types --------------------------
 */

#define pinti_cu_result            CUresult
#define pinti_cu_uuid              CUuuid
#define pinti_cu_device_attribute  CUdevice_attribute
#define pinti_cu_mem_prop          CUmemAllocationProp
#define pinti_cu_handle_type       CUmemAllocationHandleType
#define pinti_cu_granularity       CUmemAllocationGranularity_flags
#define pinti_cu_access_desc       CUmemAccessDesc
#define pinti_cu_ipc_handle        CUipcMemHandle
#define pinti_cu_copy_attributes   CUmemcpyAttributes
#define pinti_cu_capture_mode      CUstreamCaptureMode
#define pinti_cu_capture_status    CUstreamCaptureStatus
#define pinti_cu_pointer_attribute CUpointer_attribute
#define pinti_cu_proc_found        CUdriverProcAddressQueryResult

/* cuda.h maps a base name to its newest symbol, by macros: name_ is expanded here. A later major
 * version may map to newer symbols than ours, which stay; 12 does not map all names. */
#define TEXT_OF_(name_) #name_
#define TEXT_OF(name_)  TEXT_OF_(name_)
#define IS_SYMBOL(name_, unmapped_, symbol_)                                                       \
    (CUDA_VERSION >= 14000 || __builtin_strcmp(TEXT_OF(name_), symbol_) == 0 ||                    \
     (CUDA_VERSION < 13000 && __builtin_strcmp(TEXT_OF(name_), unmapped_) == 0))

#define SAME_ENTRY(member_, name_, symbol_, version_, params_)                                     \
    _Static_assert(__builtin_types_compatible_p(CUresult(*) params_, PFN_##name_##_v##version_),   \
                   #name_ ": another type");                                                       \
    _Static_assert(IS_SYMBOL(name_, #name_, #symbol_), #name_ ": another symbol");

PINTI_CU_REQUIRED(SAME_ENTRY)
PINTI_CU_OPTIONAL_12(SAME_ENTRY)
#if CUDA_VERSION >= 13000
PINTI_CU_OPTIONAL_13(SAME_ENTRY)
#elif CUDA_VERSION >= 12080
/* The reason why an older driver's entry point of that name is never called. */
#    define OTHER_ENTRY(member_, name_, symbol_, version_, params_)                                \
        _Static_assert(!__builtin_types_compatible_p(CUresult(*) params_, PFN_##name_##_v12080),   \
                       #name_ ": the same type as in 12.8");
PINTI_CU_OPTIONAL_13(OTHER_ENTRY)
#endif

int main(void)
{
    if (PINTI_CU_STREAM_LEGACY != CU_STREAM_LEGACY ||
        PINTI_CU_STREAM_PER_THREAD != CU_STREAM_PER_THREAD) {
        (void)fprintf(stderr, "the default streams have other values in cuda.h\n");
        return 1;
    }
    (void)printf("device/cuda_abi.h agrees with cuda.h %d.%d\n", CUDA_VERSION / 1000,
                 CUDA_VERSION % 1000 / 10);
    return 0;
}
