/* SPDX-License-Identifier: Apache-2.0 */

/* Facts about words, fork(), graph captures and the end of a process: see facts.h. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/device/gpu/facts.h"

#define WORD_MS 2000

/* A stream writes a word that the host waits for. */
void facts_words(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint64_t *word = facts_memory(page, true, 0);
    pinti_cu_ptr address = 0;
    pinti_cu_stream stream = NULL;
    if (word == NULL || !facts_open(true) || pinti_cuda.stream_write_value64 == NULL ||
        pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING) != PINTI_CU_SUCCESS ||
        pinti_cuda.mem_host_register(word, page, PINTI_CU_REGISTER_DEVICEMAP) != PINTI_CU_SUCCESS ||
        pinti_cuda.mem_host_get_device_pointer(&address, word, 0) != PINTI_CU_SUCCESS) {
        return;
    }
    for (uint64_t turn = 1; turn <= 3; turn++) {
        const double start = facts_ms();
        const pinti_cu_result result =
            pinti_cuda.stream_write_value64(stream, address, turn, PINTI_CU_WRITE_VALUE_DEFAULT);
        /* acquire: what the stream did before the word is visible with it */
        while (result == PINTI_CU_SUCCESS && __atomic_load_n(word, __ATOMIC_ACQUIRE) != turn &&
               facts_ms() - start < WORD_MS) {
            (void)pinti_cuda.stream_query(stream);
        }
        facts_say("cuStreamWriteValue64 until the host sees it", "%.1f us, %s",
                  (facts_ms() - start) * 1e3, facts_rc(result));
    }
}

void facts_fork(void)
{
    if (!facts_open(true)) {
        return;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        int n = 0;
        pint_error err;
        facts_say("cuDeviceGetCount in the child", "%s", facts_rc(pinti_cuda.device_get_count(&n)));
        facts_say("cuInit in the child", "%s", facts_rc(pinti_cuda.init(0)));
        (void)pinti_cuda_load(&err);
        facts_say("what this library says", "%s", err.message);
        _exit(EXIT_SUCCESS);
    }
    (void)waitpid(pid, NULL, 0);
    facts_say("the parent goes on", "%s", facts_rc(pinti_cuda.stream_synchronize(NULL)));
}

/* ---- capture --------------------------------------------------------------------------------- */

static void *query_from_another_thread(void *event)
{
    pint_error err = {.message = "ok"};
    if (pinti_cuda_enter(&facts_gpu, &err) == PINT_OK) { /* relaxed */
        facts_say("cuEventQuery of another thread, relaxed", "%s",
                  facts_rc(pinti_cuda.event_query(event)));
        pinti_cuda_leave();
    }
    (void)pinti_cuda.ctx_push_current(facts_gpu.context);
    facts_say("... in the mode that threads start with", "%s",
              facts_rc(pinti_cuda.event_query(event)));
    return NULL;
}

void facts_capture(void)
{
    pinti_cu_result (*begin)(pinti_cu_stream, pinti_cu_capture_mode);
    pinti_cu_result (*finish)(pinti_cu_stream, void **);
    pinti_cu_stream stream = NULL;
    pinti_cu_event event = NULL;
    pthread_t thread;
    void *graph = NULL;
    if (!facts_open(true)) {
        return;
    }
    void *begin_entry = facts_entry("cuStreamBeginCapture", 10010);
    void *finish_entry = facts_entry("cuStreamEndCapture", 10000);
    memcpy(&begin, &begin_entry, sizeof(begin));
    memcpy(&finish, &finish_entry, sizeof(finish));
    if (begin == NULL || finish == NULL ||
        pinti_cuda.stream_create(&stream, PINTI_CU_STREAM_NON_BLOCKING) != PINTI_CU_SUCCESS ||
        pinti_cuda.event_create(&event, PINTI_CU_EVENT_DISABLE_TIMING) != PINTI_CU_SUCCESS ||
        pinti_cuda.event_record(event, NULL) != PINTI_CU_SUCCESS ||
        pinti_cuda.stream_synchronize(NULL) != PINTI_CU_SUCCESS) {
        facts_say("not asked", "this driver captures no graphs");
        return;
    }
    facts_say("beginning a capture", "%s", facts_rc(begin(stream, PINTI_CU_CAPTURE_GLOBAL)));
    if (pthread_create(&thread, NULL, query_from_another_thread, event) == 0) {
        (void)pthread_join(thread, NULL);
    }
    facts_say("ending the capture", "%s", facts_rc(finish(stream, &graph)));
}

/* ---- the end --------------------------------------------------------------------------------- */

static pinti_cu_event last_event;

static void ask_at_exit(void)
{
    facts_say("cuEventQuery, of an exit handler", "%s",
              facts_rc(pinti_cuda.event_query(last_event)));
    pint_error err = {.message = "ok"};
    if (pinti_cuda_enter(&facts_gpu, &err) == PINT_OK) {
        pinti_cuda_leave();
    }
    facts_say("what this library says", "%s", err.message);
}

/* Handlers run in reverse: this one is older than the driver's, and runs after it. */
void facts_exit(void)
{
    (void)atexit(ask_at_exit);
    if (facts_open(true) &&
        pinti_cuda.event_create(&last_event, PINTI_CU_EVENT_DISABLE_TIMING) == PINTI_CU_SUCCESS) {
        facts_say("recording an event", "%s", facts_rc(pinti_cuda.event_record(last_event, NULL)));
    }
}
