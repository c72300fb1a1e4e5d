/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DeviceBracket: the same rows of one device copy or several, taken for work on a stream until
 * end() or cancel(), or until the object dies, which cancels.
 *
 * A bracket counts as a use of each copy while it is held, so close() of a copy waits for it. Its
 * is_held goes before the interpreter's lock is given up, so that of two threads one ends it.
 */

#include "native.h"

typedef struct native_device_bracket {
    PyObject_HEAD PyObject *copies; /* tuple of DeviceCopy; NULL before begin */
    pint_copy **handles;            /* of them, in order; good while held */
    uint32_t n;
    uint64_t first;
    uint64_t n_rows;
    void *stream;
    uint32_t access;
    int is_held; /* and one of the n_uses of each copy is ours */
} native_device_bracket;

/* ---- begin ----------------------------------------------------------------------------------- */

static pint_status try_begin(void *context, int64_t timeout_ms, pint_error *err)
{
    const native_device_bracket *bracket = context;
    return pint_device_begin_all(bracket->handles, bracket->n, bracket->first, bracket->n_rows,
                                 bracket->access, bracket->stream, timeout_ms, err);
}

/* Of the first n copies. */
static void end_uses(const native_device_bracket *self, Py_ssize_t n)
{
    while (n > 0) {
        native_device_copy_end((native_device_copy *)PyTuple_GetItem(self->copies, --n));
    }
}

/* Use every copy. -1 and raised, with none used. */
static int begin_uses(const native_state *state, const native_device_bracket *self)
{
    for (uint32_t i = 0; i < self->n; i++) {
        PyObject *copy = PyTuple_GetItem(self->copies, (Py_ssize_t)i);
        if (Py_TYPE(copy) != state->device_copy_type) {
            PyErr_Format(PyExc_TypeError, "begin: a DeviceCopy is needed, not %R", copy);
            end_uses(self, (Py_ssize_t)i);
            return -1;
        }
        self->handles[i] = native_device_copy_begin((native_device_copy *)copy);
        if (self->handles[i] == NULL) {
            end_uses(self, (Py_ssize_t)i);
            return -1;
        }
    }
    return 0;
}

PyObject *native_device_begin_rows(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"copies", "first", "n_rows", "access", "stream", "timeout", NULL};
    native_state *state = native_state_of(object);
    PyObject *copies;
    uint64_t stream;
    int64_t timeout_ms = -1;
    native_device_bracket *self =
        (native_device_bracket *)PyType_GenericAlloc(state->device_bracket_type, 0);
    if (self == NULL) {
        return NULL;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O&O&O&O&|O&:begin", (char **)names,
                                     &PyTuple_Type, &copies, native_u64, &self->first, native_u64,
                                     &self->n_rows, native_u32, &self->access, native_u64, &stream,
                                     native_timeout, &timeout_ms)) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    Py_INCREF(copies);
    self->copies = copies;
    self->n = (uint32_t)PyTuple_Size(copies);
    self->stream = (void *)(uintptr_t)stream;
    self->handles = PyMem_Calloc(self->n + 1u, sizeof(self->handles[0]));
    if (self->handles == NULL) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    if (begin_uses(state, self) != 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    if (native_wait(state, try_begin, self, timeout_ms, "begin") != PINT_OK) {
        end_uses(self, (Py_ssize_t)self->n);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->is_held = 1; /* with the uses */
    return (PyObject *)self;
}

/* ---- end ------------------------------------------------------------------------------------- */

/* Requires is_held. -1 and raised; the bracket is over in any case. */
static int over(native_device_bracket *self, int is_published)
{
    pint_error err;
    self->is_held = 0;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status =
        is_published ? pint_device_end_all(self->handles, self->n, self->first, self->n_rows,
                                           self->access, self->stream, &err)
                     : pint_device_cancel_all(self->handles, self->n, self->first, self->n_rows,
                                              self->access, self->stream, &err);
    PyEval_RestoreThread(thread);
    end_uses(self, (Py_ssize_t)self->n);
    if (status != PINT_OK) {
        (void)native_raise(native_state_of((PyObject *)self), &err);
        return -1;
    }
    return 0;
}

static PyObject *finish(PyObject *object, int is_published)
{
    native_device_bracket *self = (native_device_bracket *)object;
    if (!self->is_held) {
        return native_raise_as(native_state_of(object), PINT_E_STATE, "the bracket has ended");
    }
    if (over(self, is_published) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *bracket_end(PyObject *object, PyObject *unused)
{
    (void)unused;
    return finish(object, 1);
}

static PyObject *bracket_cancel(PyObject *object, PyObject *unused)
{
    (void)unused;
    return finish(object, 0);
}

static void dealloc(PyObject *object)
{
    native_device_bracket *self = (native_device_bracket *)object;
    PyTypeObject *type = Py_TYPE(object);
    const native_state *state = native_state_of(object);
    if (self->is_held && state != NULL && !state->is_exiting) {
        PyObject *error_type; /* a destructor leaves the exception that is being raised alone */
        PyObject *error_value;
        PyObject *error_trace;
        PyErr_Fetch(&error_type, &error_value, &error_trace);
        if (over(self, 0) != 0) {
            PyErr_Clear(); /* forked, or the stream failed: whoever takes the chunk next is told */
        }
        PyErr_Restore(error_type, error_value, error_trace);
    }
    Py_XDECREF(self->copies);
    PyMem_Free(self->handles);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyObject *get_held(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_device_bracket *)object)->is_held);
}

static PyMethodDef methods[] = {
    NATIVE_METHOD("end", bracket_end, METH_NOARGS,
                  "end()\n--\n\nGive the rows back once the stream has come to this point."),
    NATIVE_METHOD("cancel", bracket_cancel, METH_NOARGS,
                  "cancel()\n--\n\nGive the rows back; what was written is not published."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    NATIVE_GET("held", get_held, "Whether it was neither ended nor cancelled."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("Rows of device copies, taken for work on a stream.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.DeviceBracket",
    .basicsize = sizeof(native_device_bracket),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_device_bracket_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
