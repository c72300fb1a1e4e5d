/* SPDX-License-Identifier: Apache-2.0 */

/* See attach.h. */

#include "tests/fakecuda/attach.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fake_api fake;

static const char *const names[] = {
    "CUDA_VISIBLE_DEVICES", "FAKECUDA_CAPTURE",    "FAKECUDA_ASYNC",        "FAKECUDA_DEVICES",
    "FAKECUDA_DRIVER",      "FAKECUDA_FAIL",       "FAKECUDA_HIDE",         "FAKECUDA_HOST_ALIAS",
    "FAKECUDA_LOG",         "FAKECUDA_MEMORY_MIB", "FAKECUDA_NO_READ_ONLY", "FAKECUDA_SEED",
    "FAKECUDA_VERSION",
};

static void fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "fake driver: %s: %s\n", what, why);
    abort();
}

static void clear_settings(void)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)unsetenv(names[i]);
    }
}

static void find(void *library, const char *name, void *out_function)
{
    void *address = dlsym(library, name);
    if (address == NULL) {
        fail(name, "not exported");
    }
    memcpy(out_function, &address, sizeof(address));
}

bool fake_find(void)
{
    void *library = dlopen(FAKECUDA_PATH, RTLD_NOW | RTLD_NOLOAD);
    if (library == NULL) {
        return false;
    }
    find(library, "fakecuda_reset", &fake.reset);
    find(library, "fakecuda_calls", &fake.calls);
    find(library, "fakecuda_bytes_to_device", &fake.bytes_to_device);
    find(library, "fakecuda_bytes_to_host", &fake.bytes_to_host);
    return true;
}

static void attach(void)
{
    (void)setenv("PINTABLE_LIBCUDA", FAKECUDA_PATH, 1);
    pint_error err;
    if (pinti_cuda_load(&err) != PINT_OK) {
        fail("load", err.message);
    }
    if (!fake_find()) {
        fail("another driver is loaded", dlerror());
    }
}

void fake_begin(const char *const *settings)
{
    clear_settings();
    if (fake.reset == NULL) {
        attach();
    }
    fake.reset();
    for (size_t i = 0; settings != NULL && settings[i] != NULL; i++) {
        const size_t bytes = strcspn(settings[i], "=");
        char name[64];
        (void)snprintf(name, sizeof(name), "%.*s", (int)bytes, settings[i]);
        bool known = false;
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            known = known || strcmp(name, names[k]) == 0;
        }
        if (!known || settings[i][bytes] != '=') {
            fail(settings[i], "no such setting");
        }
        (void)setenv(name, settings[i] + bytes + 1, 1);
    }
    const pinti_cu_result result = pinti_cuda.init(0);
    if (result != PINTI_CU_SUCCESS) {
        fail("cuInit", pinti_cuda_result_name(result));
    }
}

pinti_cu_context fake_begin_context(const char *const *settings)
{
    fake_begin(settings);
    pinti_cu_context context = NULL;
    if (pinti_cuda.primary_ctx_retain(&context, 0) != PINTI_CU_SUCCESS ||
        pinti_cuda.ctx_push_current(context) != PINTI_CU_SUCCESS) {
        fail("device 0", "no context");
    }
    return context;
}

void fake_end(void)
{
    clear_settings();
    fake.reset();
}
