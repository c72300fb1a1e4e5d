/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loading the CUDA driver: see cuda_driver.h. Everything here is written once, inside load_once,
 * and read after pthread_once(), which orders it. The exception are init_word and init_called: a
 * child forked in the middle of a load reads them, as the only thread there is.
 */

#include "device/cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/error.h"
#include "host/fork.h"
#include "host/word.h"

#define LIBRARY_NAME "libcuda.so.1"

typedef pinti_cu_result (*get_proc_address)(const char *name, void **out_address, int version,
                                            uint64_t flags, pinti_cu_proc_found *out_found);

pinti_cuda_api pinti_cuda;

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static pinti_cuda_outcome outcome;
static pint_error failure; /* valid unless the outcome is READY */
static int driver_version;
static pinti_cu_result (*error_name)(pinti_cu_result, const char **);

/* Set before the driver is initialised. A child inherits them, but has another fork word. */
static uint64_t init_word;
static pinti_a32 init_called;

typedef struct entry {
    const char *name;
    size_t off; /* of the member in pinti_cuda_api */
    int version;
    bool required;
} entry;

static const entry entries[] = {
#define REQUIRED_ROW(member_, name_, symbol_, version_, params_)                                   \
    {#name_, offsetof(pinti_cuda_api, member_), version_, true},
#define OPTIONAL_ROW(member_, name_, symbol_, version_, params_)                                   \
    {#name_, offsetof(pinti_cuda_api, member_), version_, false},
    PINTI_CU_REQUIRED(REQUIRED_ROW) PINTI_CU_OPTIONAL(OPTIONAL_ROW)
#undef REQUIRED_ROW
#undef OPTIONAL_ROW
};

#define N_ENTRIES (sizeof(entries) / sizeof(entries[0]))

/* --- Outcomes --------------------------------------------------------------------------------- */

static pint_status status_of(pinti_cuda_outcome o)
{
    switch (o) {
    case PINTI_CUDA_READY:
        return PINT_OK;
    case PINTI_CUDA_FORKED:
        return PINT_E_FORKED;
    case PINTI_CUDA_FAILED:
        return PINT_E_DEVICE;
    case PINTI_CUDA_NOT_TRIED:
    case PINTI_CUDA_NO_DRIVER:
    case PINTI_CUDA_STUB:
    case PINTI_CUDA_TOO_OLD:
    case PINTI_CUDA_NO_DEVICE:
    default:
        return PINT_E_NO_DEVICE;
    }
}

static void settle(pinti_cuda_outcome o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void settle(pinti_cuda_outcome o, const char *format, ...)
{
    char text[PINT_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)pinti_fail(&failure, status_of(o), 0, "%s", text);
    outcome = o;
}

static void settle_forked(void)
{
    settle(PINTI_CUDA_FORKED,
           "CUDA was initialised before fork(), and the driver does not work in a "
           "forked child: use spawn or exec");
}

/* --- Loading ---------------------------------------------------------------------------------- */

/* The addresses of function pointers and of objects are the same size here (POSIX). */
static void set_address(void *out_function, void *address)
{
    memcpy(out_function, &address, sizeof(address));
}

/* Fill the table. Returns the first required name that is missing, or NULL. Looked for by a library
 * that is called cuGetProcAddress_v2, the flag for the default means: NULL is the legacy default
 * stream, however the program was compiled. */
static const char *resolve(get_proc_address find, pinti_cu_result *out_result)
{
    const char *missing = NULL;
    *out_result = PINTI_CU_SUCCESS;
    for (size_t i = 0; i < N_ENTRIES; i++) {
        void *address = NULL;
        pinti_cu_proc_found found = PINTI_CU_PROC_NOT_FOUND;
        const pinti_cu_result result = find(entries[i].name, &address, entries[i].version,
                                            PINTI_CU_PROC_ADDRESS_DEFAULT, &found);
        if (result != PINTI_CU_SUCCESS || found != PINTI_CU_PROC_FOUND) {
            address = NULL;
        }
        if (address == NULL && entries[i].required && missing == NULL) {
            missing = entries[i].name;
            *out_result = result;
        }
        set_address((char *)&pinti_cuda + entries[i].off, address);
    }
    error_name = pinti_cuda.get_error_name;
    return missing;
}

/* The version by the one call that works before cuInit() and in every driver; 0 if even that fails,
 * and then why. A stub of a toolkit before 12.0 shows itself here. */
static int version_of_library(void *library, pinti_cu_result *out_why)
{
    pinti_cu_result (*get_version)(int *);
    set_address(&get_version, dlsym(library, "cuDriverGetVersion"));
    int version = 0;
    const pinti_cu_result result = get_version == NULL ? PINTI_CU_SUCCESS : get_version(&version);
    if (result != PINTI_CU_SUCCESS) {
        *out_why = result;
        return 0;
    }
    return version;
}

/* A library that cannot give us the required entry points: why? */
static void settle_unusable(const char *path, void *library, pinti_cu_result result,
                            const char *missing)
{
    pinti_cu_result why = result;
    const int version = library != NULL ? version_of_library(library, &why) : 0;
    if (why == PINTI_CU_STUB_LIBRARY) {
        settle(PINTI_CUDA_STUB,
               "no CUDA driver: '%.100s' is the toolkit's stub (CUDA_ERROR_STUB_LIBRARY, %d)", path,
               PINTI_CU_STUB_LIBRARY);
        return;
    }
    if (version >= 12000 && result != PINTI_CU_SUCCESS && result != PINTI_CU_NOT_FOUND) {
        settle(PINTI_CUDA_FAILED, "CUDA driver: cuGetProcAddress of %s: %s (%d)", missing,
               pinti_cuda_result_name(result), (int)result);
        return;
    }
    if (version == 0 && dlsym(library, "cuInit") == NULL) {
        settle(PINTI_CUDA_NO_DRIVER, "no CUDA driver: '%.100s' is another library", path);
        return;
    }
    settle(PINTI_CUDA_TOO_OLD,
           "the CUDA driver is too old: it has CUDA %d.%d but not %s; 12.0 is needed (driver 525)",
           version / 1000, version % 1000 / 10, missing);
}

/*
 * The driver answers a request for an interface that is newer than itself with the newest it has
 * under that name, whose parameters may be others. Such an entry point is as good as missing.
 * False: the outcome is settled.
 */
static bool drop_newer_entries(const char *path, void *library)
{
    const pinti_cu_result result = pinti_cuda.driver_get_version(&driver_version);
    if (result != PINTI_CU_SUCCESS) {
        driver_version = 0;
        settle(PINTI_CUDA_FAILED, "CUDA driver: cuDriverGetVersion: %s (%d)",
               pinti_cuda_result_name(result), (int)result);
        return false;
    }
    for (size_t i = 0; i < N_ENTRIES; i++) {
        if (entries[i].version > driver_version) {
            if (entries[i].required) {
                driver_version = 0;
                settle_unusable(path, library, PINTI_CU_SUCCESS, entries[i].name);
                return false;
            }
            set_address((char *)&pinti_cuda + entries[i].off, NULL);
        }
    }
    return true;
}

/* After cuInit(): is there something to work with? */
static void check_devices(void)
{
    int n_devices = 0;
    const pinti_cu_result result = pinti_cuda.device_get_count(&n_devices);
    if (result != PINTI_CU_SUCCESS && result != PINTI_CU_NO_DEVICE) {
        settle(PINTI_CUDA_FAILED, "CUDA driver: cuDeviceGetCount: %s (%d)",
               pinti_cuda_result_name(result), (int)result);
        return;
    }
    if (result == PINTI_CU_NO_DEVICE || n_devices <= 0) {
        settle(PINTI_CUDA_NO_DEVICE, "no CUDA device is visible to this process");
        return;
    }
    outcome = PINTI_CUDA_READY;
}

static void initialise(const char *path)
{
    init_word = pinti_load64_relaxed(pinti_fork_word);
    /* release: the word comes before; pairs with pinti_cuda_is_forked() */
    pinti_store32_release(&init_called, 1);
    const pinti_cu_result result = pinti_cuda.init(0);
    if (result == PINTI_CU_SUCCESS) {
        check_devices();
    } else if (result == PINTI_CU_STUB_LIBRARY) {
        settle_unusable(path, NULL, result, NULL);
    } else if (result == PINTI_CU_NO_DEVICE) {
        settle(PINTI_CUDA_NO_DEVICE,
               "no CUDA device is visible to this process: cuInit: %s (%d); "
               "CUDA_VISIBLE_DEVICES and the container's devices decide",
               pinti_cuda_result_name(result), (int)result);
    } else if (result == PINTI_CU_NOT_INITIALIZED) {
        settle_forked(); /* another library was first, in an ancestor */
    } else {
        settle(PINTI_CUDA_FAILED, "CUDA driver: cuInit: %s (%d)", pinti_cuda_result_name(result),
               (int)result);
    }
}

static void load(void)
{
    /* A child forked while another thread was loading comes here anew. */
    if (pinti_cuda_is_forked()) {
        settle_forked();
        return;
    }
    if (pinti_fork_start(&failure) != PINT_OK) {
        outcome = PINTI_CUDA_FAILED;
        return;
    }
    const char *path = secure_getenv("PINTABLE_LIBCUDA");
    if (path == NULL || path[0] == '\0') {
        path = LIBRARY_NAME;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        const char *reason = dlerror();
        settle(PINTI_CUDA_NO_DRIVER, "no CUDA driver: %s", reason != NULL ? reason : path);
        return;
    }
    get_proc_address find;
    set_address(&find, dlsym(library, "cuGetProcAddress_v2"));
    if (find == NULL) {
        settle_unusable(path, library, PINTI_CU_SUCCESS, "cuGetProcAddress_v2");
        return;
    }
    pinti_cu_result result = PINTI_CU_SUCCESS;
    const char *missing = resolve(find, &result);
    if (missing != NULL) {
        settle_unusable(path, library, result, missing);
        return;
    }
    if (drop_newer_entries(path, library)) {
        initialise(path);
    }
}

pint_status pinti_cuda_load(pint_error *err)
{
    (void)pthread_once(&load_once, load);
    if (pinti_cuda_is_forked()) {
        return pinti_fail(err, PINT_E_FORKED, 0,
                          "CUDA was initialised before fork(), and the driver does not work in a "
                          "forked child: use spawn or exec");
    }
    if (outcome == PINTI_CUDA_READY) {
        return PINT_OK;
    }
    if (err != NULL) {
        *err = failure;
    }
    return failure.status;
}

pinti_cuda_outcome pinti_cuda_load_outcome(void)
{
    return pinti_cuda_is_forked() ? PINTI_CUDA_FORKED : outcome;
}

bool pinti_cuda_is_forked(void)
{
    /* acquire: the word was set before; pairs with initialise(). Relaxed for the fork word: it only
     * changes in a child, before any code of the child runs. */
    return pinti_load32_acquire(&init_called) != 0 &&
           pinti_load64_relaxed(pinti_fork_word) != init_word;
}

int pinti_cuda_version(void)
{
    return outcome == PINTI_CUDA_READY ? driver_version : 0;
}

bool pinti_cuda_has_ipc(void)
{
    return outcome == PINTI_CUDA_READY && pinti_cuda.mem_alloc != NULL &&
           pinti_cuda.mem_free != NULL && pinti_cuda.mem_get_address_range != NULL &&
           pinti_cuda.ipc_get_mem_handle != NULL && pinti_cuda.ipc_open_mem_handle != NULL &&
           pinti_cuda.ipc_close_mem_handle != NULL;
}

/* --- Errors ----------------------------------------------------------------------------------- */

const char *pinti_cuda_result_name(pinti_cu_result result)
{
    const char *name = NULL;
    if (error_name == NULL || error_name(result, &name) != PINTI_CU_SUCCESS || name == NULL) {
        return "unknown error";
    }
    return name;
}

/* The cases are those that we act on; every other result is E_DEVICE. Lost is what cuda.h says of
 * that every further call returns the same, until the process ends. */
pint_status pinti_cuda_status(pinti_cu_result result)
{
    switch ((int)result) {
    case PINTI_CU_SUCCESS:
        return PINT_OK;
    case PINTI_CU_OUT_OF_MEMORY:
        return PINT_E_DEVICE_MEMORY;
    case PINTI_CU_STUB_LIBRARY:
    case PINTI_CU_NO_DEVICE:
    case PINTI_CU_INVALID_DEVICE:
    case PINTI_CU_DEVICE_UNAVAILABLE: /* to this process: by its compute mode */
        return PINT_E_NO_DEVICE;
    case PINTI_CU_NOT_INITIALIZED:
        return pinti_cuda_is_forked() ? PINT_E_FORKED : PINT_E_DEVICE;
    case PINTI_CU_NOT_SUPPORTED:
        return PINT_E_UNSUPPORTED;
    case PINTI_CU_DEINITIALIZED:
    case PINTI_CU_ECC_UNCORRECTABLE:
    case PINTI_CU_NVLINK_UNCORRECTABLE:
    case PINTI_CU_CONTAINED:
    case PINTI_CU_ILLEGAL_ADDRESS:
    case PINTI_CU_LAUNCH_TIMEOUT:
    case PINTI_CU_CONTEXT_IS_DESTROYED:
    case PINTI_CU_ASSERT:
    case PINTI_CU_HARDWARE_STACK_ERROR:
    case PINTI_CU_ILLEGAL_INSTRUCTION:
    case PINTI_CU_MISALIGNED_ADDRESS:
    case PINTI_CU_INVALID_ADDRESS_SPACE:
    case PINTI_CU_INVALID_PC:
    case PINTI_CU_LAUNCH_FAILED:
    case PINTI_CU_TENSOR_MEMORY_LEAK:
    case PINTI_CU_MPS_CLIENT_TERMINATED:
    case PINTI_CU_EXTERNAL_DEVICE:
        return PINT_E_DEVICE_LOST;
    default:
        return PINT_E_DEVICE;
    }
}

pint_status pinti_cuda_fail(pint_error *err, pinti_cu_result result, const char *call,
                            const char *format, ...)
{
    char what[PINT_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    /* The names at the end tell more than the end of a long text: room is kept for them. */
    return pinti_fail(err, pinti_cuda_status(result), 0, "%.140s: %.40s: %s (%d)", what, call,
                      pinti_cuda_result_name(result), (int)result);
}
