/* SPDX-License-Identifier: Apache-2.0 */

/* Text and categories of a Column as str. */

#include "native.h"

#include <string.h>

#define STACK_BYTES 1024u

/*
 * Bytes in shared memory to str. They are copied first: another process may change them while the
 * decoder reads them, and it reads them twice.
 */
static PyObject *decode(native_state *state, const char *text, uint64_t n_bytes, const char *what)
{
    char on_stack[STACK_BYTES];
    char *copy = on_stack;
    if (n_bytes > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    if (n_bytes == 0) {
        return PyUnicode_FromString("");
    }
    if (n_bytes > sizeof(on_stack)) {
        copy = PyMem_Malloc((size_t)n_bytes);
        if (copy == NULL) {
            return PyErr_NoMemory();
        }
    }
    memcpy(copy, text, (size_t)n_bytes);
    PyObject *result = PyUnicode_DecodeUTF8(copy, (Py_ssize_t)n_bytes, "strict");
    if (copy != on_stack) {
        PyMem_Free(copy);
    }
    if (result == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return native_raise_as(state, PINT_E_CORRUPT, "%s: the text is not UTF-8", what);
    }
    return result;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static PyObject *column_get_text(PyObject *object, PyObject *arg)
{
    uint64_t row;
    const pint_column *column = native_column_use((native_column *)object);
    if (column == NULL || native_u64(arg, &row) == 0) {
        return NULL;
    }
    native_state *state = native_state_of(object);
    const char *text;
    uint64_t n_bytes;
    pint_error err;
    if (pint_column_get_text(column, row, &text, &n_bytes, &err) != PINT_OK) {
        return native_raise(state, &err);
    }
    return decode(state, text, n_bytes, "get text");
}

static PyObject *column_put_text(PyObject *object, PyObject *args)
{
    uint64_t row;
    PyObject *text_arg;
    Py_ssize_t n_bytes;
    if (!PyArg_ParseTuple(args, "O&O:put_text", native_u64, &row, &text_arg)) {
        return NULL;
    }
    const char *text = PyUnicode_AsUTF8AndSize(text_arg, &n_bytes);
    const pint_column *column = text != NULL ? native_column_use((native_column *)object) : NULL;
    pint_error err;
    if (column == NULL) {
        return NULL;
    }
    if (pint_column_put_text(column, row, text, (uint64_t)n_bytes, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

/* ---- categories ------------------------------------------------------------------------------ */

static PyObject *category_of(native_state *state, const pint_column *column, uint64_t code)
{
    const char *text;
    uint64_t n_bytes;
    pint_error err;
    if (pint_column_category(column, code, &text, &n_bytes, &err) != PINT_OK) {
        return native_raise(state, &err);
    }
    return decode(state, text, n_bytes, "category");
}

static PyObject *column_category(PyObject *object, PyObject *arg)
{
    uint64_t code;
    const pint_column *column = native_column_use((native_column *)object);
    if (column == NULL || native_u64(arg, &code) == 0) {
        return NULL;
    }
    return category_of(native_state_of(object), column, code);
}

static PyObject *column_categories(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_column *self = (native_column *)object;
    native_state *state = native_state_of(object);
    PyObject *list = PyList_New(0);
    /* Asked each time: making a str may run the collector, and that any code. */
    const pint_column *column = list != NULL ? native_column_use(self) : NULL;
    const uint64_t n = column != NULL ? pint_column_categories(column) : 0;
    for (uint64_t code = 0; column != NULL && code < n; code++) {
        PyObject *text = category_of(state, column, code);
        const int added = text != NULL ? PyList_Append(list, text) : -1;
        Py_XDECREF(text);
        column = added == 0 ? native_column_use(self) : NULL;
    }
    if (column == NULL) {
        Py_CLEAR(list);
    }
    return list;
}

static PyObject *column_add_category(PyObject *object, PyObject *arg)
{
    native_column *self = (native_column *)object;
    Py_ssize_t n_bytes;
    const char *text = PyUnicode_AsUTF8AndSize(arg, &n_bytes);
    const pint_column *column = text != NULL ? native_column_begin(self) : NULL;
    if (column == NULL) {
        return NULL;
    }
    int32_t code;
    pint_error err;
    PyThreadState *thread = native_wait_begin(); /* may wait for another process that adds */
    const pint_status status =
        pint_column_add_category(column, text, (uint64_t)n_bytes, &code, &err);
    native_wait_end(thread);
    native_table_end(self->table);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return PyLong_FromLong(code);
}

/* offsets are int64, one more than there are categories; every one inside the text. The library
 * trusts them as far as they ascend. */
static int put_categories(native_column *self, const Py_buffer *offsets, const Py_buffer *text)
{
    native_state *state = native_state_of((PyObject *)self);
    const int64_t *at = offsets->buf;
    const Py_ssize_t n_offsets = offsets->len / (Py_ssize_t)sizeof(*at);
    if (n_offsets < 1 || at[0] < 0 || at[n_offsets - 1] > text->len) {
        (void)native_raise_as(state, PINT_E_INVALID,
                              "put categories: the offsets do not lie inside the text");
        return -1;
    }
    const pint_column *column = native_column_begin(self);
    if (column == NULL) {
        return -1;
    }
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status =
        pint_column_put_categories(column, (uint64_t)n_offsets - 1, at, text->buf, &err);
    PyEval_RestoreThread(thread);
    native_table_end(self->table);
    if (status != PINT_OK) {
        (void)native_raise(state, &err);
        return -1;
    }
    return 0;
}

static PyObject *column_put_categories(PyObject *object, PyObject *args)
{
    PyObject *offsets_arg;
    PyObject *text_arg;
    Py_buffer offsets;
    Py_buffer text;
    if (!PyArg_ParseTuple(args, "OO:put_categories", &offsets_arg, &text_arg) ||
        native_view_int64(offsets_arg, "put_categories", &offsets) != 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(text_arg, &text, PyBUF_CONTIG_RO) != 0) {
        PyBuffer_Release(&offsets);
        return NULL;
    }
    const int result = put_categories((native_column *)object, &offsets, &text);
    PyBuffer_Release(&text);
    PyBuffer_Release(&offsets);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef native_text_methods[] = {
    NATIVE_METHOD("get_text", column_get_text, METH_O,
                  "get_text(row)\n--\n\nText of a row, or of its category; '' under null."),
    NATIVE_METHOD("put_text", column_put_text, METH_VARARGS,
                  "put_text(row, text)\n--\n\n"
                  "Write a row of text before publishing, rows ascending."),
    NATIVE_METHOD("category", column_category, METH_O, "category(code)\n--\n\nText of a category."),
    NATIVE_METHOD("categories", column_categories, METH_NOARGS,
                  "categories()\n--\n\nTexts of all categories so far; the index is the code."),
    NATIVE_METHOD("add_category", column_add_category, METH_O,
                  "add_category(text)\n--\n\nCode of a category, added if it is not there."),
    NATIVE_METHOD("put_categories", column_put_categories, METH_VARARGS,
                  "put_categories(offsets, text)\n--\n\n"
                  "Write all categories at once, before publishing."),
    {NULL, NULL, 0, NULL},
};
