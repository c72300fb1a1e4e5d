/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Buffer: a range of a table's memory with the buffer protocol, from which arrays are made.
 *
 * A writable one that anybody may store through at any time is a view of its column: while it lives
 * the column counts as changed on the host. One that is written under a lease, or by who marks the
 * rows afterwards, is not.
 *
 * An array keeps its buffer, the buffer keeps its table, also when that is closed, replaced or
 * dropped: the memory goes back when the last array is gone.
 */

#include "native.h"

struct native_buffer {
    PyObject_HEAD native_table *table; /* one of its n_views is ours */
    void *address;
    Py_ssize_t n_bytes;
    int is_read_only;
    pint_view *view; /* NULL: stores are none, or made known otherwise */
};

PyObject *native_buffer_new(native_table *table, void *address, uint64_t n_bytes, int is_read_only,
                            pint_view *view)
{
    static char nothing[1]; /* what a buffer of no bytes points to: consumers dislike NULL */
    native_state *state = native_state_of((PyObject *)table);
    if (n_bytes > PY_SSIZE_T_MAX) {
        pint_column_view_end(view);
        return native_raise_as(state, PINT_E_CORRUPT, "a buffer of %llu bytes cannot be",
                               (unsigned long long)n_bytes);
    }
    native_buffer *self = (native_buffer *)PyType_GenericAlloc(state->buffer_type, 0);
    if (self == NULL) {
        pint_column_view_end(view);
        return NULL;
    }
    Py_INCREF((PyObject *)table);
    native_table_view_begin(table);
    self->table = table;
    self->address = n_bytes != 0 ? address : nothing;
    self->n_bytes = (Py_ssize_t)n_bytes;
    self->is_read_only = is_read_only;
    self->view = view;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    native_buffer *self = (native_buffer *)object;
    PyTypeObject *type = Py_TYPE(object);
    const native_state *state = native_state_of(object);
    if (state != NULL && !state->is_exiting) { /* else the session ends, and its views with it */
        pint_column_view_end(self->view);
    }
    if (self->table != NULL) {
        native_table_view_end(self->table);
        Py_DECREF((PyObject *)self->table);
    }
    PyObject_Free(object);
    Py_DECREF(type);
}

static int get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    const native_buffer *self = (native_buffer *)object;
    return PyBuffer_FillInfo(view, object, self->address, self->n_bytes, self->is_read_only, flags);
}

static PyObject *get_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromVoidPtr(((native_buffer *)object)->address);
}

static PyObject *get_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((native_buffer *)object)->n_bytes);
}

static PyObject *get_readonly(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_buffer *)object)->is_read_only);
}

static Py_ssize_t length(PyObject *object)
{
    return ((native_buffer *)object)->n_bytes;
}

static PyGetSetDef attributes[] = {
    NATIVE_GET("address", get_address, "Address of the first byte."),
    NATIVE_GET("nbytes", get_nbytes, "Bytes."),
    NATIVE_GET("readonly", get_readonly, "Whether views of it may not be written to."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("A range of a table's memory; keeps the table's memory.")},
    {Py_bf_getbuffer, (void *)get_buffer},
    {Py_sq_length, (void *)length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Buffer",
    .basicsize = sizeof(native_buffer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_buffer_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
