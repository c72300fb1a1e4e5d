/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way into the fake driver: settings from the environment, what every call checks first
 * (forked, inside a host function, not initialised, failure wanted by the test), cuGetProcAddress,
 * and the extensions for tests.
 */

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fakecuda/fakecuda.h"
#include "tests/fakecuda/internal.h"

#define FAILURES_MAX 16

fake_settings fake_set;
pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
_Thread_local bool fake_in_host_func;
_Thread_local pinti_cu_capture_mode fake_capture_mode;

/* The process that called cuInit(), or 0. Read without the lock: a forked child must not take it.
 */
static _Atomic int64_t init_pid;
static bool settled; /* the environment has been read */
static char hidden[512];
static uint64_t n_calls[FAKE_N_CALLS];

typedef struct failure {
    enum fake_call call;
    uint64_t nth;
    bool and_later;
    bool is_death;
    pinti_cu_result result;
} failure;

static failure failures[FAILURES_MAX];
static size_t n_failures;

/* Where to stop, once: FAKECUDA_STOP. */
static struct {
    enum fake_call call;
    uint64_t nth; /* 0: nowhere */
    char path[512];
} stop;

typedef struct entry {
    const char *name;
    int version;
    void (*address)(void);
} entry;

static const entry entries[FAKE_N_CALLS] = {
#define ROW(member_, name_, symbol_, version_, params_)                                            \
    [FAKE_CALL_##member_] = {#name_, version_, (void (*)(void))fake_##member_},
    PINTI_CU_REQUIRED(ROW) PINTI_CU_OPTIONAL(ROW)
#undef ROW
        [FAKE_CALL_work] = {"work", 0, NULL},
};

/* --- Settings --------------------------------------------------------------------------------- */

/* A test that misspells a setting must not pass. */
static void bad_setting(const char *name, const char *value)
{
    (void)fprintf(stderr, "fakecuda: %s=%s is not understood\n", name, value);
    abort();
}

static unsigned long number_setting(const char *name, unsigned long otherwise, unsigned long most)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0') {
        return otherwise;
    }
    char *end = NULL;
    const unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value > most) {
        bad_setting(name, text);
    }
    return value;
}

static enum fake_call call_named(const char *name, size_t bytes)
{
    for (int i = 0; i < FAKE_N_CALLS; i++) {
        if (strlen(entries[i].name) == bytes && memcmp(entries[i].name, name, bytes) == 0) {
            return (enum fake_call)i;
        }
    }
    return FAKE_N_CALLS;
}

/* NAME:N[+][:CODE|:kill],... */
static void read_failures(void)
{
    n_failures = 0;
    const char *text = getenv("FAKECUDA_FAIL");
    while (text != NULL && text[0] != '\0') {
        failure f = {.and_later = false, .result = PINTI_CU_UNKNOWN};
        const size_t name_bytes = strcspn(text, ":");
        f.call = call_named(text, name_bytes);
        if (f.call == FAKE_N_CALLS || text[name_bytes] != ':' || n_failures == FAILURES_MAX) {
            bad_setting("FAKECUDA_FAIL", text);
        }
        char *end = NULL;
        f.nth = strtoul(text + name_bytes + 1, &end, 10);
        if (*end == '+') {
            f.and_later = true;
            end++;
        }
        if (strncmp(end, ":kill", 5) == 0) {
            f.is_death = true;
            end += 5;
        } else if (*end == ':') {
            f.result = (pinti_cu_result)strtoul(end + 1, &end, 10);
        }
        if (f.nth == 0 || (*end != '\0' && *end != ',')) {
            bad_setting("FAKECUDA_FAIL", text);
        }
        failures[n_failures++] = f;
        text = *end == ',' ? end + 1 : end;
    }
}

/* NAME:N:FILE */
static void read_stop(void)
{
    const char *text = getenv("FAKECUDA_STOP");
    stop.nth = 0;
    if (text == NULL || text[0] == '\0') {
        return;
    }
    char *end = NULL;
    const size_t name_bytes = strcspn(text, ":");
    stop.call = call_named(text, name_bytes);
    stop.nth = text[name_bytes] == ':' ? strtoul(text + name_bytes + 1, &end, 10) : 0;
    if (stop.call == FAKE_N_CALLS || stop.nth == 0 || *end != ':' ||
        snprintf(stop.path, sizeof(stop.path), "%s", end + 1) >= (int)sizeof(stop.path)) {
        bad_setting("FAKECUDA_STOP", text);
    }
}

static bool is_setting(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text != NULL && strcmp(text, value) == 0;
}

static void read_settings(void)
{
    fake_set = (fake_settings){.is_stub = is_setting("FAKECUDA_DRIVER", "stub")};
    const char *driver = getenv("FAKECUDA_DRIVER");
    if (driver != NULL && driver[0] != '\0' && !fake_set.is_stub) {
        bad_setting("FAKECUDA_DRIVER", driver);
    }
    fake_set.version = (int)number_setting("FAKECUDA_VERSION", FAKE_DRIVER_VERSION, 99990);
    fake_set.n_physical = (int)number_setting("FAKECUDA_DEVICES", 1, FAKE_DEVICES_MAX);
    fake_set.memory_bytes = (size_t)number_setting("FAKECUDA_MEMORY_MIB", 1024, 1u << 20) << 20;
    fake_set.seed = (unsigned int)number_setting("FAKECUDA_SEED", 1, UINT32_MAX);
    fake_set.host_alias = number_setting("FAKECUDA_HOST_ALIAS", 0, 1) == 1;
    fake_set.no_read_only = number_setting("FAKECUDA_NO_READ_ONLY", 0, 1) == 1;
    const char *async = getenv("FAKECUDA_ASYNC");
    if (async == NULL || async[0] == '\0' || strcmp(async, "sync") == 0) {
        fake_set.async = FAKE_ASYNC_SYNC;
    } else if (strcmp(async, "random") == 0) {
        fake_set.async = FAKE_ASYNC_RANDOM;
    } else if (strcmp(async, "thread") == 0) {
        fake_set.async = FAKE_ASYNC_THREAD;
    } else {
        bad_setting("FAKECUDA_ASYNC", async);
    }
    const char *capture = getenv("FAKECUDA_CAPTURE");
    if (capture != NULL && strcmp(capture, "elsewhere") == 0) {
        fake_set.capture = FAKE_CAPTURE_ELSEWHERE;
    } else if (capture != NULL && strcmp(capture, "streams") == 0) {
        fake_set.capture = FAKE_CAPTURE_STREAMS;
    } else if (capture != NULL && capture[0] != '\0') {
        bad_setting("FAKECUDA_CAPTURE", capture);
    }
    const char *hide = getenv("FAKECUDA_HIDE");
    (void)snprintf(hidden, sizeof(hidden), "%s", hide != NULL ? hide : "");
    read_failures();
    read_stop();
    settled = true;
}

/* --- Log -------------------------------------------------------------------------------------- */

/* One line per call, "PID NAME" or "PID NAME refused CODE", appended by one write: the lines of
 * several processes do not mix. The file is opened for each line, so that no descriptor stays. */
static void log_call(enum fake_call call, pinti_cu_result refused)
{
    const char *path = getenv("FAKECUDA_LOG");
    if (path == NULL || path[0] == '\0') {
        return;
    }
    const int log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0) {
        bad_setting("FAKECUDA_LOG", path);
    }
    char line[128];
    int n = 0;
    if (refused == PINTI_CU_SUCCESS) {
        n = snprintf(line, sizeof(line), "%d %s\n", (int)getpid(), entries[call].name);
    } else {
        n = snprintf(line, sizeof(line), "%d %s refused %d\n", (int)getpid(), entries[call].name,
                     (int)refused);
    }
    if (write(log_fd, line, (size_t)n) != n) {
        bad_setting("FAKECUDA_LOG", path);
    }
    (void)close(log_fd);
}

/* --- Entering --------------------------------------------------------------------------------- */

static pinti_cu_result injected(enum fake_call call)
{
    const uint64_t nth = ++n_calls[call];
    for (size_t i = 0; i < n_failures; i++) {
        const failure *f = &failures[i];
        if (f->call == call && (f->nth == nth || (f->and_later && nth > f->nth))) {
            if (f->is_death) {
                (void)kill(getpid(), SIGKILL);
            }
            return f->result;
        }
    }
    return PINTI_CU_SUCCESS;
}

/* Calls that work in every process at any time. */
static bool is_plain(enum fake_call call)
{
    return call == FAKE_CALL_get_proc_address || call == FAKE_CALL_get_error_name ||
           call == FAKE_CALL_get_error_string;
}

/* Calls that might wait for the device, or make or free memory: not while some thread captures a
 * graph, unless the caller's thread has said that it does not care. */
static bool is_unsafe_in_capture(enum fake_call call)
{
    switch ((int)call) {
    case FAKE_CALL_event_query:
    case FAKE_CALL_event_synchronize:
    case FAKE_CALL_stream_query:
    case FAKE_CALL_stream_synchronize:
    case FAKE_CALL_primary_ctx_retain:
    case FAKE_CALL_mem_alloc:
    case FAKE_CALL_mem_free:
    case FAKE_CALL_mem_host_alloc:
    case FAKE_CALL_mem_free_host:
    case FAKE_CALL_mem_host_register:
    case FAKE_CALL_mem_host_unregister:
    case FAKE_CALL_mem_map:
    case FAKE_CALL_mem_unmap:
    case FAKE_CALL_ipc_open_mem_handle:
    case FAKE_CALL_ipc_close_mem_handle:
        return true;
    default:
        return false;
    }
}

static pinti_cu_result refusal(enum fake_call call)
{
    const pinti_cu_result wanted = injected(call);
    if (wanted != PINTI_CU_SUCCESS) {
        return wanted;
    }
    if (fake_set.is_stub) {
        return PINTI_CU_STUB_LIBRARY;
    }
    const bool early =
        is_plain(call) || call == FAKE_CALL_init || call == FAKE_CALL_driver_get_version;
    if (!early && !fake_devices_ready()) {
        return PINTI_CU_NOT_INITIALIZED;
    }
    if (fake_set.capture == FAKE_CAPTURE_ELSEWHERE &&
        fake_capture_mode != PINTI_CU_CAPTURE_RELAXED && is_unsafe_in_capture(call)) {
        return PINTI_CU_CAPTURE_UNSUPPORTED;
    }
    return PINTI_CU_SUCCESS;
}

/* The first process that makes the file stops; what the call would have done is not done yet. */
static void may_stop(enum fake_call call)
{
    if (stop.nth == 0 || stop.call != call || n_calls[call] != stop.nth) {
        return;
    }
    const int fd = open(stop.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
        (void)raise(SIGSTOP);
    }
}

pinti_cu_result fake_enter(enum fake_call call)
{
    const int64_t pid = atomic_load_explicit(&init_pid, memory_order_relaxed);
    if (pid != 0 && pid != getpid() && !is_plain(call)) {
        return PINTI_CU_NOT_INITIALIZED; /* forked: the lock may be held by a thread that is gone */
    }
    if (fake_in_host_func && !is_plain(call)) {
        return PINTI_CU_NOT_PERMITTED;
    }
    (void)pthread_mutex_lock(&fake_lock);
    if (!settled) {
        read_settings();
    }
    const pinti_cu_result refused = refusal(call);
    log_call(call, refused);
    may_stop(call);
    if (refused != PINTI_CU_SUCCESS) {
        (void)pthread_mutex_unlock(&fake_lock);
    }
    return refused;
}

void fake_leave(const int *guard)
{
    (void)guard;
    (void)pthread_mutex_unlock(&fake_lock);
}

pinti_cu_result fake_count_work(void)
{
    return injected(FAKE_CALL_work);
}

/* --- Calls of the driver as such -------------------------------------------------------------- */

pinti_cu_result fake_init(unsigned int flags)
{
    FAKE_ENTER(init);
    if (flags != 0) {
        return PINTI_CU_INVALID_VALUE;
    }
    const pinti_cu_result result = fake_devices_start();
    if (result == PINTI_CU_SUCCESS) {
        /* relaxed: a child that reads it was forked by a thread that came through here */
        atomic_store_explicit(&init_pid, getpid(), memory_order_relaxed);
    }
    return result;
}

pinti_cu_result fake_driver_get_version(int *out_version)
{
    FAKE_ENTER(driver_get_version);
    *out_version = fake_set.version;
    return PINTI_CU_SUCCESS;
}

static bool is_hidden(const char *name)
{
    const size_t bytes = strlen(name);
    for (const char *at = hidden; *at != '\0';) {
        const size_t n = strcspn(at, ",");
        if (n == bytes && memcmp(at, name, n) == 0) {
            return true;
        }
        at += n + (at[n] == ',');
    }
    return false;
}

/* What a driver from 12.8 to before 13.0 has under the name: other parameters, the stream behind
 * one more. Nobody here knows them, so a call is a mistake that must not pass. */
static pinti_cu_result batch_of_12_8(void)
{
    (void)fputs("fakecuda: cuMemcpyBatchAsync of CUDA 12.8 was called as that of 13.0\n", stderr);
    abort();
}

#define BATCH_OF_12_8 12080

/* An interface that another one has replaced: given to those who ask for no newer one, and to those
 * who do, by a driver that has no newer one. */
static bool find_replaced(enum fake_call call, int version, void **out_address)
{
    const int least = version < fake_set.version ? version : fake_set.version;
    if (call != FAKE_CALL_memcpy_batch_async || least < BATCH_OF_12_8 ||
        least >= entries[call].version) {
        return false;
    }
    pinti_cu_result (*const old)(void) = batch_of_12_8;
    memcpy(out_address, &old, sizeof(*out_address));
    return true;
}

/* As declared in cuda_abi.h; a driver has what came out before it. */
pinti_cu_result fake_get_proc_address(const char *name, void **out_address, int version,
                                      uint64_t flags, pinti_cu_proc_found *out_found)
{
    FAKE_ENTER(get_proc_address);
    if (name == NULL || out_address == NULL || flags > 2) {
        return PINTI_CU_INVALID_VALUE;
    }
    const enum fake_call call = call_named(name, strlen(name));
    pinti_cu_proc_found found = PINTI_CU_PROC_FOUND;
    if (find_replaced(call, version, out_address) && !is_hidden(name)) {
        if (out_found != NULL) {
            *out_found = found;
        }
        return PINTI_CU_SUCCESS;
    }
    if (call == FAKE_N_CALLS || entries[call].address == NULL || is_hidden(name) ||
        entries[call].version > fake_set.version) {
        found = PINTI_CU_PROC_NOT_FOUND;
    } else if (version < entries[call].version) {
        found = PINTI_CU_PROC_VERSION_TOO_LOW;
    }
    if (out_found != NULL) {
        *out_found = found;
    }
    *out_address = NULL;
    if (found == PINTI_CU_PROC_FOUND) {
        memcpy(out_address, &entries[call].address, sizeof(*out_address));
    }
    return found == PINTI_CU_PROC_FOUND || out_found != NULL ? PINTI_CU_SUCCESS
                                                             : PINTI_CU_NOT_FOUND;
}

static const struct {
    pinti_cu_result result;
    const char *name, *text;
} results[] = {
    {PINTI_CU_SUCCESS, "CUDA_SUCCESS", "no error"},
    {PINTI_CU_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {PINTI_CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {PINTI_CU_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {PINTI_CU_STUB_LIBRARY, "CUDA_ERROR_STUB_LIBRARY", "stub library"},
    {PINTI_CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {PINTI_CU_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {PINTI_CU_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {PINTI_CU_MAP_FAILED, "CUDA_ERROR_MAP_FAILED", "mapping of buffer object failed"},
    {PINTI_CU_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {PINTI_CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {PINTI_CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {PINTI_CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access"},
    {PINTI_CU_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {PINTI_CU_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {PINTI_CU_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {PINTI_CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {PINTI_CU_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {PINTI_CU_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {PINTI_CU_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {PINTI_CU_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static pinti_cu_result words_of(pinti_cu_result result, const char **out_name,
                                const char **out_text)
{
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        if (results[i].result == result) {
            *out_name = results[i].name;
            *out_text = results[i].text;
            return PINTI_CU_SUCCESS;
        }
    }
    *out_name = NULL;
    *out_text = NULL;
    return PINTI_CU_INVALID_VALUE;
}

/* Without the lock: they work after fork() too. */
/* Counted, and refused when the test wants it. In a forked child the lock is not touched. */
static pinti_cu_result enter_words(enum fake_call call)
{
    const int64_t pid = atomic_load_explicit(&init_pid, memory_order_relaxed);
    const bool is_forked = pid != 0 && pid != getpid();
    const pinti_cu_result refused = is_forked ? PINTI_CU_SUCCESS : fake_enter(call);
    if (!is_forked && refused == PINTI_CU_SUCCESS) {
        fake_leave(NULL);
    }
    return refused;
}

pinti_cu_result fake_get_error_name(pinti_cu_result result, const char **out_name)
{
    const char *text = NULL;
    const pinti_cu_result refused = enter_words(FAKE_CALL_get_error_name);
    return refused == PINTI_CU_SUCCESS ? words_of(result, out_name, &text) : refused;
}

pinti_cu_result fake_get_error_string(pinti_cu_result result, const char **out_text)
{
    const char *name = NULL;
    const pinti_cu_result refused = enter_words(FAKE_CALL_get_error_string);
    return refused == PINTI_CU_SUCCESS ? words_of(result, &name, out_text) : refused;
}

/* --- Extensions for tests --------------------------------------------------------------------- */

void fakecuda_reset(void)
{
    (void)pthread_mutex_lock(&fake_lock);
    fake_streams_reset();
    fake_host_reset();
    fake_memory_reset();
    fake_vmm_reset();
    fake_devices_reset();
    fake_work_reset();
    memset(n_calls, 0, sizeof(n_calls));
    atomic_store_explicit(&init_pid, 0, memory_order_relaxed);
    settled = false;
    (void)pthread_mutex_unlock(&fake_lock);
}

uint64_t fakecuda_calls(const char *name)
{
    (void)pthread_mutex_lock(&fake_lock);
    const enum fake_call call = call_named(name, strlen(name));
    if (call == FAKE_N_CALLS) {
        bad_setting("fakecuda_calls", name);
    }
    const uint64_t n = n_calls[call];
    (void)pthread_mutex_unlock(&fake_lock);
    return n;
}
