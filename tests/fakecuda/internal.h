/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAKECUDA_INTERNAL_H
#define TESTS_FAKECUDA_INTERNAL_H

/*
 * Inside the fake driver. One lock guards all of its state; FAKE_ENTER takes it and it is given
 * back when the entry point returns. It is not held while a host function runs.
 *
 * A device address is an address of this process: memory of a device is a memfd, mapped. So what
 * crosses processes (descriptors, lifetimes, protection) is the kernel's doing, not imitation.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "device/cuda_abi.h"

#define FAKE_EXPORT __attribute__((visibility("default")))

/* Every entry point, with the driver's symbol and a name of ours. */
#define FAKE_DECLARE(member_, name_, symbol_, version_, params_)                                   \
    FAKE_EXPORT pinti_cu_result fake_##member_ params_ __asm__(#symbol_);
PINTI_CU_REQUIRED(FAKE_DECLARE)
PINTI_CU_OPTIONAL(FAKE_DECLARE)
#undef FAKE_DECLARE

enum fake_call {
#define FAKE_CALL(member_, name_, symbol_, version_, params_) FAKE_CALL_##member_,
    PINTI_CU_REQUIRED(FAKE_CALL) PINTI_CU_OPTIONAL(FAKE_CALL)
#undef FAKE_CALL
        FAKE_CALL_work, /* not an entry point: an operation of a stream that is carried out */
    FAKE_N_CALLS
};

/* --- entry.c: settings, entering a call ------------------------------------------------------- */

#define FAKE_DEVICES_MAX    8
#define FAKE_GRANULE        ((size_t)2 << 20)
#define FAKE_REGISTER_MAX   ((size_t)1 << 39) /* one call of this or more fails: drivers from 580 */
#define FAKE_DRIVER_VERSION 13000

#define FAKE_PAGE ((size_t)4096)

enum fake_capture { FAKE_CAPTURE_NONE, FAKE_CAPTURE_ELSEWHERE, FAKE_CAPTURE_STREAMS };
enum fake_async { FAKE_ASYNC_SYNC, FAKE_ASYNC_RANDOM, FAKE_ASYNC_THREAD };

typedef struct fake_settings {
    bool is_stub;
    int version;
    int n_physical; /* devices of the machine, visible or not */
    size_t memory_bytes;
    enum fake_async async;
    unsigned int seed;
    enum fake_capture capture;
    bool host_alias;   /* device pointers of registered memory differ from the host's */
    bool no_read_only; /* READ_ONLY registration is not supported */
} fake_settings;

extern fake_settings fake_set;
extern pthread_mutex_t fake_lock;
extern _Thread_local bool fake_in_host_func;
extern _Thread_local pinti_cu_capture_mode fake_capture_mode;

pinti_cu_result fake_enter(enum fake_call call);
void fake_leave(const int *guard);

/* Count an operation of a stream; an injected failure, or SUCCESS. */
pinti_cu_result fake_count_work(void);

/* Return a refusal; else hold the lock to the end of the function. */
#define FAKE_ENTER(member_)                                                                        \
    const pinti_cu_result fake_refused = fake_enter(FAKE_CALL_##member_);                          \
    if (fake_refused != PINTI_CU_SUCCESS) {                                                        \
        return fake_refused;                                                                       \
    }                                                                                              \
    __attribute__((cleanup(fake_leave), unused)) const int fake_guard = 0

/* The same, and the current context; 201 without one, its error if it is broken. */
#define FAKE_ENTER_CONTEXT(member_, context_)                                                      \
    FAKE_ENTER(member_);                                                                           \
    pinti_cu_context context_ = NULL;                                                              \
    const pinti_cu_result fake_no_context = fake_context_now(&(context_));                         \
    if (fake_no_context != PINTI_CU_SUCCESS) {                                                     \
        return fake_no_context;                                                                    \
    }

/* --- device.c: devices and their primary contexts --------------------------------------------- */

struct CUctx_st {
    int physical;           /* number of the device in the machine */
    unsigned int n_retains; /* 0: the context does not exist */
    uint64_t incarnation;   /* 1 more each time the context is made anew */
    pinti_cu_result broken; /* what every call of the context returns since work failed, or 0 */
    size_t used_bytes;      /* physical memory that this process refers to */
    struct CUstream_st *legacy, *per_thread; /* the default streams, or NULL */
};

bool fake_devices_ready(void); /* after cuInit() */
pinti_cu_result fake_devices_start(void);
pinti_cu_context fake_device_at(pinti_cu_device device); /* NULL: no such device is visible */
pinti_cu_device fake_ordinal_of_physical(int physical);  /* -1: not visible */
pinti_cu_device fake_ordinal_of(pinti_cu_context context);
pinti_cu_result fake_context_now(pinti_cu_context *out_context);
void fake_devices_reset(void);

/* --- memory.c: what lies at which device address ---------------------------------------------- */

enum fake_kind {
    FAKE_ALLOC,  /* cuMemAlloc */
    FAKE_IMPORT, /* cuIpcOpenMemHandle */
    FAKE_MAPPING /* cuMemMap */
};

typedef struct fake_range {
    struct fake_range *next;
    enum fake_kind kind;
    uintptr_t base;
    size_t bytes;
    pinti_cu_context context; /* the device's */
    pinti_cu_access access;
    unsigned long long buffer_id;
    int fd;                       /* ALLOC: the memfd */
    bool is_exported;             /* ALLOC: a handle was made */
    struct fake_physical *memory; /* MAPPING */
    unsigned int n_opens;         /* IMPORT */
    pid_t owner;                  /* IMPORT: */
    int owner_fd;
    uint64_t owner_inode;
} fake_range;

fake_range *fake_range_add(enum fake_kind kind, pinti_cu_context context, uintptr_t base,
                           size_t bytes);
void fake_range_remove(fake_range *range);
fake_range *fake_range_first(void);
/* The range that holds all of [at, at + bytes), or NULL. */
fake_range *fake_range_find(uintptr_t at, size_t bytes);
/* Count bytes against the device's memory; false if they do not fit. */
bool fake_charge(pinti_cu_context context, size_t bytes);
/* New memory of a device, not zero at its beginning; -1 if there is none. */
int fake_memfd(int physical, size_t bytes);
/* Which device of the machine a descriptor's memory is of; -1: not memory of a device. */
int fake_memfd_physical(int fd);
uint64_t fake_inode(int fd);
void fake_memory_reset(void);

/* --- vmm.c, ipc.c, host.c --------------------------------------------------------------------- */

void fake_vmm_reset(void);
bool fake_import_is_alive(const fake_range *range);

typedef struct fake_registration {
    struct fake_registration *next;
    uintptr_t base;
    size_t bytes;
    uintptr_t alias; /* the device's address of base */
    unsigned int flags;
    pinti_cu_context context;
    uint64_t incarnation; /* of the context */
    unsigned long long buffer_id;
    bool is_allocated; /* by cuMemHostAlloc, not registered */
} fake_registration;

/* The registration that holds all of [at, at + bytes) as host or device address, or NULL. */
fake_registration *fake_registration_find(uintptr_t at, size_t bytes);
void fake_host_reset(void);

/* --- stream.c: streams, events, when work runs; work.c: what work does --------------------------
 */

enum fake_work { FAKE_COPY, FAKE_FILL, FAKE_WRITE64, FAKE_FUNCTION, FAKE_RECORD, FAKE_WAIT };

typedef struct fake_op {
    struct fake_op *next;
    enum fake_work work;
    uint64_t number; /* of all operations of the process, in the order of the calls */
    uintptr_t dst, src;
    size_t bytes;
    uint64_t value;
    pinti_cu_host_fn function;
    void *data;
    struct CUstream_st *wait_stream; /* WAIT: until it has done wait_number */
    uint64_t wait_number;
} fake_op;

pinti_cu_result fake_stream_of(pinti_cu_context context, pinti_cu_stream handle,
                               pinti_cu_stream *out_stream);
/* Append a copy of op; out_number may be NULL. Then other work may run, as the mode says. */
pinti_cu_result fake_stream_append(pinti_cu_stream stream, const fake_op *op, uint64_t *out_number);
void fake_streams_reset(void);
void fake_streams_drop(pinti_cu_context context); /* the context is no more */

/* Carry out an operation that is not a FUNCTION, RECORD or WAIT. */
pinti_cu_result fake_work_do(const fake_op *op);
void fake_work_reset(void);

#endif
