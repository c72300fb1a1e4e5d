/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DeviceCopy: the device copy of a column, open in this process.
 *
 * Brackets (device_bracket.c) and memories (device_memory.c) count as uses: close() waits for them.
 */

#include "native.h"

/* ---- life of a copy -------------------------------------------------------------------------- */

struct opening {
    pint_device *device;
    const pint_column *column;
    uint32_t kind;
    uint32_t access;
    pint_copy *copy;
};

static pint_status try_open(void *context, int64_t timeout_ms, pint_error *err)
{
    struct opening *opening = context;
    (void)timeout_ms;
    return pint_copy_open(opening->device, opening->column, opening->kind, opening->access,
                          &opening->copy, err);
}

PyObject *native_device_open_copy(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"column", "access", "kind", NULL};
    native_device *device = (native_device *)object;
    native_state *state = native_state_of(object);
    PyObject *column_arg;
    struct opening opening = {.kind = 0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O&|O&:open_copy", (char **)names,
                                     state->column_type, &column_arg, native_u32, &opening.access,
                                     native_u32, &opening.kind)) {
        return NULL;
    }
    native_column *column = (native_column *)column_arg;
    native_device_copy *self =
        (native_device_copy *)PyType_GenericAlloc(state->device_copy_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->is_closed = 1;
    opening.device = native_device_begin(device);
    if (opening.device == NULL) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    opening.column = native_column_begin(column);
    if (opening.column == NULL || native_wait(state, try_open, &opening, -1, "copy") != PINT_OK) {
        if (opening.column != NULL) {
            native_table_end(column->table);
        }
        native_device_end(device);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    const uint64_t rows = pint_table_rows(opening.column->table);
    const uint64_t bitmap_bytes = (rows + 7) / 8;
    self->values_bytes = opening.column->type == PINT_BOOL
                             ? bitmap_bytes
                             : rows * pint_column_row_bytes(opening.column);
    self->validity_bytes = pint_copy_validity(opening.copy) != 0 ? bitmap_bytes : 0;
    native_table_end(column->table); /* the copy has a reference of its own */
    Py_INCREF(object);
    self->device = device; /* with the count */
    self->handle = opening.copy;
    self->is_writable = (opening.access & PINT_WRITE) != 0;
    self->is_closed = 0;
    return (PyObject *)self;
}

static pint_status try_discard(void *context, int64_t timeout_ms, pint_error *err)
{
    const struct opening *opening = context;
    (void)timeout_ms;
    return pint_copy_discard(opening->device, opening->column, err);
}

PyObject *native_device_discard_copy(PyObject *object, PyObject *arg)
{
    native_device *device = (native_device *)object;
    native_state *state = native_state_of(object);
    if (Py_TYPE(arg) != state->column_type) {
        PyErr_Format(PyExc_TypeError, "discard: a Column is needed, not %R", arg);
        return NULL;
    }
    native_column *column = (native_column *)arg;
    struct opening opening = {.device = native_device_begin(device)};
    if (opening.device == NULL) {
        return NULL;
    }
    int status = -1;
    opening.column = native_column_begin(column);
    if (opening.column != NULL) {
        status = native_wait(state, try_discard, &opening, -1, "discard");
        native_table_end(column->table);
    }
    native_device_end(device);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Give the handle up if nobody needs it any more. */
static void settle(native_device_copy *self)
{
    pint_copy *handle = self->handle;
    if (!self->is_closed || self->n_uses != 0 || handle == NULL) {
        return;
    }
    self->handle = NULL;
    const native_state *state = native_state_of((PyObject *)self);
    if (state != NULL && !state->is_exiting) {
        PyThreadState *thread = PyEval_SaveThread();
        pint_copy_close(handle);
        PyEval_RestoreThread(thread);
        native_device_end(self->device);
    }
}

static void copy_dealloc(PyObject *object)
{
    native_device_copy *self = (native_device_copy *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->is_closed = 1;
    settle(self); /* all who count keep a reference, so the count is 0 */
    Py_XDECREF((PyObject *)self->device);
    PyObject_Free(object);
    Py_DECREF(type);
}

static pint_copy *copy_handle(const native_device_copy *self)
{
    if (self->is_closed) {
        PyErr_SetString(PyExc_ValueError, "the device copy is closed");
        return NULL;
    }
    return self->handle;
}

pint_copy *native_device_copy_begin(native_device_copy *self)
{
    pint_copy *handle = copy_handle(self);
    self->n_uses += handle != NULL;
    return handle;
}

void native_device_copy_end(native_device_copy *self)
{
    self->n_uses--;
    settle(self);
}

static PyObject *copy_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device_copy *self = (native_device_copy *)object;
    self->is_closed = 1;
    settle(self);
    Py_RETURN_NONE;
}

/* ---- moving ---------------------------------------------------------------------------------- */

struct moving {
    pint_copy *copy;
    uint64_t first;
    uint64_t n_rows;
    uint64_t bytes;
};

static pint_status try_to_host(void *context, int64_t timeout_ms, pint_error *err)
{
    struct moving *m = context;
    return pint_copy_to_host(m->copy, m->first, m->n_rows, timeout_ms, &m->bytes, err);
}

static pint_status try_own_host(void *context, int64_t timeout_ms, pint_error *err)
{
    const struct moving *m = context;
    return pint_copy_own_host(m->copy, m->first, m->n_rows, timeout_ms, err);
}

static pint_status try_wait(void *context, int64_t timeout_ms, pint_error *err)
{
    const struct moving *m = context;
    return pint_copy_wait(m->copy, m->first, m->n_rows, timeout_ms, err);
}

/* A call on rows that may wait. Bytes moved, or NULL and raised. */
static PyObject *on_rows(PyObject *object, PyObject *args, PyObject *kwargs, native_try call,
                         const char *operation)
{
    static const char *names[] = {"first", "n_rows", "timeout", NULL};
    native_device_copy *self = (native_device_copy *)object;
    struct moving moving = {.bytes = 0};
    int64_t timeout_ms = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|O&", (char **)names, native_u64,
                                     &moving.first, native_u64, &moving.n_rows, native_timeout,
                                     &timeout_ms)) {
        return NULL;
    }
    moving.copy = native_device_copy_begin(self);
    if (moving.copy == NULL) {
        return NULL;
    }
    const int status = native_wait(native_state_of(object), call, &moving, timeout_ms, operation);
    native_device_copy_end(self);
    return status < 0 ? NULL : PyLong_FromUnsignedLongLong(moving.bytes);
}

static PyObject *copy_to_host(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return on_rows(object, args, kwargs, try_to_host, "to host");
}

static PyObject *copy_own_host(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return on_rows(object, args, kwargs, try_own_host, "own host");
}

static PyObject *copy_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
    return on_rows(object, args, kwargs, try_wait, "wait");
}

static pint_status try_drop(void *context, int64_t timeout_ms, pint_error *err)
{
    (void)timeout_ms;
    return pint_copy_drop(context, err);
}

static PyObject *copy_drop(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device_copy *self = (native_device_copy *)object;
    pint_copy *handle = native_device_copy_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    const int status = native_wait(native_state_of(object), try_drop, handle, -1, "drop");
    native_device_copy_end(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static PyObject *copy_export(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device_copy *self = (native_device_copy *)object;
    pint_copy *copy = native_device_copy_begin(self);
    if (copy == NULL) {
        return NULL;
    }
    pint_handle handle = PINT_HANDLE_INIT;
    pint_error err;
    PyThreadState *thread = native_wait_begin(); /* asks the service for a descriptor */
    const pint_status status = pint_copy_export(copy, &handle, &err);
    native_wait_end(thread);
    native_device_copy_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return Py_BuildValue("(Iy#KKKKiy#)", (unsigned int)handle.kind, (const char *)handle.uuid,
                         (Py_ssize_t)sizeof(handle.uuid), (unsigned long long)handle.generation,
                         (unsigned long long)handle.bytes, (unsigned long long)handle.values_off,
                         (unsigned long long)handle.validity_off, (int)handle.fd,
                         (const char *)handle.ipc, (Py_ssize_t)sizeof(handle.ipc));
}

static PyObject *copy_places(PyObject *object, PyObject *arg)
{
    pint_copy *handle = copy_handle((native_device_copy *)object);
    uint64_t chunk;
    if (handle == NULL || native_u64(arg, &chunk) == 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLong(pint_copy_places(handle, chunk));
}

static PyObject *copy_moved(PyObject *object, PyObject *unused)
{
    (void)unused;
    pint_copy *handle = copy_handle((native_device_copy *)object);
    if (handle == NULL) {
        return NULL;
    }
    uint64_t to_device;
    uint64_t to_host;
    pint_copy_moved(handle, &to_device, &to_host);
    return Py_BuildValue("(KK)", (unsigned long long)to_device, (unsigned long long)to_host);
}

/* Facts that are a number. closure: the function that tells it. */
typedef uint64_t (*number_fact)(const pint_copy *copy);

static uint64_t kind_of(const pint_copy *copy)
{
    return pint_copy_kind(copy);
}

static const number_fact bytes_fact = pint_copy_bytes;
static const number_fact kind_fact = kind_of;
static const number_fact generation_fact = pint_copy_generation;

static PyObject *get_number(PyObject *object, void *fact)
{
    const pint_copy *handle = copy_handle((native_device_copy *)object);
    return handle != NULL ? PyLong_FromUnsignedLongLong((*(const number_fact *)fact)(handle))
                          : NULL;
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_device_copy *)object)->is_closed);
}

/* ---- the types ------------------------------------------------------------------------------- */

#define NATIVE_FACT(name, fact, doc)                                                               \
    {                                                                                              \
        name, get_number, NULL, PyDoc_STR(doc), (void *)(uintptr_t) & (fact)                       \
    }

static PyMethodDef copy_methods[] = {
    NATIVE_METHOD("memory", native_device_copy_memory, METH_VARARGS | METH_KEYWORDS,
                  "memory(first_byte, n_bytes, *, validity=False, read_only=True)\n--\n\n"
                  "Bytes of the values, or of the validity bitmap: a DeviceMemory."),
    NATIVE_METHOD("to_host", copy_to_host, METH_VARARGS | METH_KEYWORDS,
                  "to_host(first, n_rows, timeout=None)\n--\n\n"
                  "Bring what is newer on the device to the host; bytes copied."),
    NATIVE_METHOD("own_host", copy_own_host, METH_VARARGS | METH_KEYWORDS,
                  "own_host(first, n_rows, timeout=None)\n--\n\n"
                  "The same, and take the rows off all devices."),
    NATIVE_METHOD("wait", copy_wait, METH_VARARGS | METH_KEYWORDS,
                  "wait(first, n_rows, timeout=None)\n--\n\n"
                  "Wait until what brackets of this process wrote there is published."),
    NATIVE_METHOD("export", copy_export, METH_NOARGS,
                  "export()\n--\n\n(kind, uuid, generation, bytes, values offset, validity offset, "
                  "descriptor, IPC handle). The descriptor is the caller's."),
    NATIVE_METHOD("places", copy_places, METH_O,
                  "places(chunk)\n--\n\nWhere it is newest: bit 0 the host, bit 1 this device."),
    NATIVE_METHOD("moved", copy_moved, METH_NOARGS,
                  "moved()\n--\n\n(bytes to the device, bytes to the host) by this handle."),
    NATIVE_METHOD("drop", copy_drop, METH_NOARGS, "drop()\n--\n\nDrop it for everybody."),
    NATIVE_METHOD("close", copy_close, METH_NOARGS,
                  "close()\n--\n\nNo further use; memories made of it stay good."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef copy_attributes[] = {
    NATIVE_FACT("nbytes", bytes_fact, "Bytes of device memory."),
    NATIVE_FACT("kind", kind_fact, "COPY_VMM or COPY_IPC."),
    NATIVE_FACT("generation", generation_fact, "Number of the allocation, never used again."),
    NATIVE_GET("closed", get_closed, "Whether close() was called."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot copy_slots[] = {
    {Py_tp_dealloc, (void *)copy_dealloc},
    {Py_tp_methods, copy_methods},
    {Py_tp_getset, copy_attributes},
    {Py_tp_doc, (void *)PyDoc_STR("The device copy of a column.")},
    {0, NULL},
};

static PyType_Spec copy_spec = {
    .name = "pintable._native.DeviceCopy",
    .basicsize = sizeof(native_device_copy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = copy_slots,
};

PyTypeObject *native_device_copy_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &copy_spec, NULL);
}
