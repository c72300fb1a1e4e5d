/* SPDX-License-Identifier: Apache-2.0 */

/* Methods of Column that read while others write: rows copied, chunks in place, checked rows. */

#include "native.h"

static PyObject *column_validate(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    uint64_t first;
    uint64_t n_rows;
    if (!PyArg_ParseTuple(args, "O&O&:validate", native_u64, &first, native_u64, &n_rows)) {
        return NULL;
    }
    const pint_column *column = native_column_begin(self);
    if (column == NULL) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_column_validate(column, first, n_rows, &err);
    PyEval_RestoreThread(thread);
    native_table_end(self->table);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *column_read_begin(PyObject *object, PyObject *arg)
{
    uint64_t chunk;
    uint64_t stamp;
    const pint_column *column = native_column_use((native_column *)object);
    pint_error err;
    if (column == NULL || native_u64(arg, &chunk) == 0) {
        return NULL;
    }
    if (pint_column_read_begin(column, chunk, &stamp, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return PyLong_FromUnsignedLongLong(stamp);
}

static int append_chunk(PyObject *list, uint64_t chunk)
{
    PyObject *number = PyLong_FromUnsignedLongLong(chunk);
    const int status = number != NULL ? PyList_Append(list, number) : -1;
    Py_XDECREF(number);
    return status;
}

/*
 * The lock is kept: a chunk is a load and a test, some 10 ns. Chunks in somebody's hands and torn
 * ones are not newest on a device.
 */
static PyObject *column_device_ahead(PyObject *object, PyObject *args)
{
    uint64_t first;
    uint64_t n;
    if (!PyArg_ParseTuple(args, "O&O&:device_ahead", native_u64, &first, native_u64, &n)) {
        return NULL;
    }
    const pint_column *column = native_column_use((native_column *)object);
    PyObject *found = column != NULL ? PyList_New(0) : NULL;
    for (uint64_t i = 0; found != NULL && i < n; i++) {
        uint64_t stamp;
        pint_error err;
        const pint_status status = pint_column_read_begin(column, first + i, &stamp, &err);
        if (status == PINT_OK || status == PINT_E_BUSY || status == PINT_E_TORN) {
            continue;
        }
        if (status != PINT_E_DEVICE_AHEAD) {
            (void)native_raise(native_state_of(object), &err);
            Py_CLEAR(found);
        } else if (append_chunk(found, first + i) != 0) {
            Py_CLEAR(found);
        }
    }
    return found;
}

static PyObject *column_read_end(PyObject *object, PyObject *args)
{
    uint64_t chunk;
    uint64_t stamp;
    if (!PyArg_ParseTuple(args, "O&O&:read_end", native_u64, &chunk, native_u64, &stamp)) {
        return NULL;
    }
    const pint_column *column = native_column_use((native_column *)object);
    pint_error err;
    if (column == NULL) {
        return NULL;
    }
    if (pint_column_read_end(column, chunk, stamp, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

/* values and validity are buffers of the right size, or validity is empty. */
static int read_rows(native_column *self, uint64_t first, uint64_t n_rows, const Py_buffer *values,
                     const Py_buffer *validity)
{
    const pint_column *column = native_column_begin(self);
    if (column == NULL) {
        return -1;
    }
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_column_read(column, first, n_rows, values->buf,
                                                validity != NULL ? validity->buf : NULL, &err);
    PyEval_RestoreThread(thread);
    native_table_end(self->table);
    if (status != PINT_OK) {
        (void)native_raise(native_state_of((PyObject *)self), &err);
        return -1;
    }
    return 0;
}

static PyObject *column_read(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    uint64_t first;
    uint64_t n_rows;
    PyObject *values_arg;
    PyObject *validity_arg = Py_None;
    if (!PyArg_ParseTuple(args, "O&O&O|O:read", native_u64, &first, native_u64, &n_rows,
                          &values_arg, &validity_arg)) {
        return NULL;
    }
    const pint_column *column = native_column_use(self);
    /* checked before the sizes are multiplied */
    if (column == NULL || native_column_check_rows(self, first, n_rows, "read") != 0) {
        return NULL;
    }
    const uint64_t n_bytes =
        column->type == PINT_BOOL ? (n_rows + 7) / 8 : n_rows * pint_column_row_bytes(column);
    Py_buffer values;
    Py_buffer validity;
    if (native_view_bytes(values_arg, n_bytes, 1, "read", &values) != 0) {
        return NULL;
    }
    const int has_validity = validity_arg != Py_None;
    if (has_validity &&
        native_view_bytes(validity_arg, (n_rows + 7) / 8, 1, "read", &validity) != 0) {
        PyBuffer_Release(&values);
        return NULL;
    }
    const int result = read_rows(self, first, n_rows, &values, has_validity ? &validity : NULL);
    PyBuffer_Release(&values);
    if (has_validity) {
        PyBuffer_Release(&validity);
    }
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef native_read_methods[] = {
    NATIVE_METHOD("validate", column_validate, METH_VARARGS,
                  "validate(first, n)\n--\n\nCheck that rows hold what the type promises."),
    NATIVE_METHOD("read_begin", column_read_begin, METH_O,
                  "read_begin(chunk)\n--\n\nBegin to read a chunk in place; gives a stamp."),
    NATIVE_METHOD("device_ahead", column_device_ahead, METH_VARARGS,
                  "device_ahead(first, n)\n--\n\n"
                  "Those of n chunks that are newest on a device only, as a list."),
    NATIVE_METHOD("read_end", column_read_end, METH_VARARGS,
                  "read_end(chunk, stamp)\n--\n\nRaises if what was read has changed."),
    NATIVE_METHOD("read", column_read, METH_VARARGS,
                  "read(first, n, out_values, out_validity=None)\n--\n\n"
                  "Copy rows of one moment, bits from bit 0."),
    {NULL, NULL, 0, NULL},
};
