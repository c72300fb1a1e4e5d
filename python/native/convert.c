/* SPDX-License-Identifier: Apache-2.0 */

/* Arguments: Python objects to what the library takes. */

#include "native.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define TIMEOUT_MS_MAX 9e15 /* some 285,000 years: such a time is no limit */

int native_u64(PyObject *object, void *out)
{
    PyObject *number = PyNumber_Index(object);
    if (number == NULL) {
        return 0;
    }
    const unsigned long long value = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (value == (unsigned long long)-1 && PyErr_Occurred() != NULL) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Format(PyExc_ValueError, "%R is not between 0 and 2**64 - 1", object);
        }
        return 0;
    }
    *(uint64_t *)out = value;
    return 1;
}

int native_u32(PyObject *object, void *out)
{
    uint64_t value;
    if (native_u64(object, &value) == 0) {
        return 0;
    }
    if (value > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%R is not between 0 and 2**32 - 1", object);
        return 0;
    }
    *(uint32_t *)out = (uint32_t)value;
    return 1;
}

int native_name(PyObject *object, void *out)
{
    Py_ssize_t n_bytes;
    const char *text = PyUnicode_AsUTF8AndSize(object, &n_bytes); /* a TypeError if no str */
    if (text == NULL) {
        return 0;
    }
    if (strlen(text) != (size_t)n_bytes) {
        PyErr_SetString(PyExc_ValueError, "a name may not contain a null character");
        return 0;
    }
    *(const char **)out = text;
    return 1;
}

int native_timeout(PyObject *object, void *out)
{
    int64_t *out_ms = out;
    if (object == Py_None) {
        *out_ms = -1;
        return 1;
    }
    const double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred() != NULL) {
        return 0;
    }
    if (isnan(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError, "a timeout is None, or seconds from 0 up, not %R", object);
        return 0;
    }
    const double ms = ceil(seconds * 1000);
    *out_ms = ms > TIMEOUT_MS_MAX ? -1 : (int64_t)ms;
    return 1;
}

int native_view_bytes(PyObject *object, uint64_t n_bytes, int is_writable, const char *what,
                      Py_buffer *out)
{
    if (PyObject_GetBuffer(object, out, is_writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) != 0) {
        return -1;
    }
    if ((uint64_t)out->len != n_bytes) {
        PyErr_Format(PyExc_ValueError, "%s: a buffer of %zd bytes where %llu are needed", what,
                     out->len, (unsigned long long)n_bytes);
        PyBuffer_Release(out);
        return -1;
    }
    return 0;
}

int native_view_int64(PyObject *object, const char *what, Py_buffer *out)
{
    if (PyObject_GetBuffer(object, out, PyBUF_CONTIG_RO | PyBUF_FORMAT) != 0) {
        return -1;
    }
    const char *format = out->format != NULL ? out->format : "B";
    format += strchr("@=<", format[0]) != NULL && format[0] != '\0';
    if (out->itemsize == 8 && (strcmp(format, "q") == 0 || strcmp(format, "l") == 0)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s: a buffer of int64 is needed, not of format '%s'", what,
                 out->format != NULL ? out->format : "B");
    PyBuffer_Release(out);
    return -1;
}
