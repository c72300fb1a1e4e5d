/* SPDX-License-Identifier: Apache-2.0 */

/* See facts.h. Here: running the sections, and what they share. Exit status 77: no GPU. */

#include "tests/device/gpu/facts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECTION_SECONDS 60u
#define NO_GPU          77

pinti_cuda_device facts_gpu;
size_t facts_bytes = (size_t)1 << 30;

static const struct {
    const char *name;
    void (*run)(void);
} sections[] = {
    {"device", facts_device},
    {"context that was destroyed", facts_context},
    {"registration, per GiB", facts_registration},
    {"registration, what is refused", facts_refusals},
    {"copies", facts_copies},
    {"memory by descriptor", facts_descriptors},
    {"memory by descriptor, owner dead before the import", facts_orphans},
    {"memory by descriptor, mapped to read", facts_read_only},
    {"memory by handle", facts_handles},
    {"memory by handle, importer in another PID namespace", facts_handles_namespace},
    {"completion words", facts_words},
    {"after fork()", facts_fork},
    {"graph capture by another thread", facts_capture},
    {"at exit", facts_exit},
};

void facts_say(const char *what, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    (void)printf("%-52s %s\n", what, text);
    (void)fflush(stdout); /* a child that is forked or killed must not have it in its buffer */
}

const char *facts_rc(pinti_cu_result result)
{
    static char texts[8][64];
    static unsigned int next;
    char *text = texts[next++ % 8];
    if (result == PINTI_CU_SUCCESS) {
        return "ok";
    }
    (void)snprintf(text, sizeof(texts[0]), "%s (%d)", pinti_cuda_result_name(result), (int)result);
    return text;
}

double facts_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

bool facts_open(bool with_context)
{
    pint_error err;
    pint_status status = pinti_cuda_device_find("0", &facts_gpu, &err);
    if (status == PINT_OK && with_context) {
        status = pinti_cuda_device_retain(&facts_gpu, &err);
    }
    if (status == PINT_OK && with_context &&
        pinti_cuda.ctx_push_current(facts_gpu.context) != PINTI_CU_SUCCESS) {
        (void)snprintf(err.message, sizeof(err.message), "cuCtxPushCurrent fails");
        status = PINT_E_DEVICE;
    }
    if (status != PINT_OK) {
        facts_say("not asked", "%s", err.message);
    }
    return status == PINT_OK;
}

void *facts_entry(const char *name, int version)
{
    void *address = NULL;
    pinti_cu_proc_found found = PINTI_CU_PROC_NOT_FOUND;
    const pinti_cu_result result =
        pinti_cuda.get_proc_address(name, &address, version, PINTI_CU_PROC_ADDRESS_DEFAULT, &found);
    return result == PINTI_CU_SUCCESS && found == PINTI_CU_PROC_FOUND ? address : NULL;
}

void *facts_memory(size_t bytes, bool is_resident, unsigned int memfd_flags)
{
    const int fd = memfd_create("facts", MFD_CLOEXEC | memfd_flags);
    void *at = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (at == MAP_FAILED) {
        facts_say("not asked", "memory: %s", strerror(errno));
        at = NULL;
    } else if (is_resident) {
        memset(at, 1, bytes);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return at;
}

/* Run a section in a child. */
static int run(void (*section)(void))
{
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(SECTION_SECONDS);
        section();
        exit(EXIT_SUCCESS);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("gpu_facts");
        exit(EXIT_FAILURE);
    }
    return status;
}

static void look(void)
{
    pint_error err;
    if (pinti_cuda_load(&err) != PINT_OK) {
        (void)fprintf(stderr, "%s\n", err.message);
        exit(NO_GPU);
    }
}

int main(void)
{
    const char *mib = getenv("FACTS_MIB");
    if (mib != NULL && mib[0] != '\0') {
        facts_bytes = (size_t)strtoul(mib, NULL, 10) << 20;
    }
    const int status = run(look);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS) {
        return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
    }
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        (void)printf("== %s\n", sections[i].name);
        (void)fflush(stdout);
        const int ended = run(sections[i].run);
        if (WIFSIGNALED(ended)) {
            facts_say("the process was ended by", "signal %d (%s)", WTERMSIG(ended),
                      strsignal(WTERMSIG(ended)));
        }
    }
    return EXIT_SUCCESS;
}
