/* SPDX-License-Identifier: Apache-2.0 */

/* Statuses as exceptions, and waiting. */

#include "native.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void *native_raise(native_state *state, const pint_error *err)
{
    PyObject *kind = NULL;
    if (PyErr_Occurred() != NULL) {
        return NULL; /* raised by a signal handler, which ended the call */
    }
    if (state != NULL && state->errors != NULL) {
        PyObject *key = PyLong_FromLong(err->status);
        if (key == NULL) {
            return NULL;
        }
        kind = PyDict_GetItemWithError(state->errors, key); /* borrowed */
        Py_DECREF(key);
        if (kind == NULL && PyErr_Occurred() != NULL) {
            return NULL;
        }
        kind = kind != NULL ? kind : state->default_error;
    }
    /* names in a message come from shared memory: they need not be UTF-8 */
    PyObject *message =
        PyUnicode_DecodeUTF8(err->message, (Py_ssize_t)strlen(err->message), "replace");
    if (message == NULL) {
        return NULL;
    }
    if (kind == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s: %U", pint_status_name(err->status), message);
        Py_DECREF(message);
        return NULL;
    }
    Py_INCREF(kind); /* its constructor may replace the table of classes */
    PyObject *exception =
        PyObject_CallFunction(kind, "Oii", message, (int)err->status, (int)err->sys_errno);
    Py_DECREF(message);
    if (exception != NULL) {
        PyErr_SetObject(kind, exception);
        Py_DECREF(exception);
    }
    Py_DECREF(kind);
    return NULL;
}

void *native_raise_as(native_state *state, pint_status status, const char *format, ...)
{
    pint_error err = {.status = status};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    return native_raise(state, &err);
}

int native_wait(native_state *state, native_try call, void *context, int64_t timeout_ms,
                const char *operation)
{
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = call(context, timeout_ms, &err);
    native_wait_end(thread);
    if (status == PINT_E_TIMEOUT) { /* in the unit that was asked for */
        (void)native_raise_as(state, PINT_E_TIMEOUT, "%s: nothing within %.3f s", operation,
                              (double)timeout_ms / 1000);
    } else if (status < 0) {
        (void)native_raise(state, &err);
    }
    return status < 0 ? -1 : status;
}
