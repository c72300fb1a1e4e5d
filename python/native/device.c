/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Device: a device opened for the tables of a pool; its streams, and host memory pinned for it.
 *
 * close() is for the user; the handle goes when in addition no call, stream or copy uses it. What
 * dies after the interpreter has begun to end is left to the end of the process.
 */

#include "native.h"

#include <string.h>

/* ---- life ------------------------------------------------------------------------------------ */

struct opening {
    pint_pool *pool;
    const char *name;
    pint_device *device;
};

static pint_status try_open(void *context, int64_t timeout_ms, pint_error *err)
{
    struct opening *opening = context;
    (void)timeout_ms;
    return pint_device_open(opening->pool, opening->name, &opening->device, err);
}

static PyObject *device_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"pool", "name", NULL};
    native_state *state = PyType_GetModuleState(type);
    PyObject *pool;
    struct opening opening = {.device = NULL};
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O!O&:Device", (char **)names, state->pool_type,
                                     &pool, native_name, &opening.name)) {
        return NULL;
    }
    native_device *self = (native_device *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    Py_INCREF(pool);
    self->pool = (native_pool *)pool;
    opening.pool = self->pool->handle;
    pint_error err;
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    if (native_wait(state, try_open, &opening, -1, "device") != PINT_OK) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->handle = opening.device;
    if (pint_device_get_info(self->handle, &info, &err) != PINT_OK) {
        (void)native_raise(state, &err);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->is_cuda = info.is_cuda != 0;
    return (PyObject *)self;
}

/* Give the handle up if nobody needs it any more. */
static void settle(native_device *self)
{
    pint_device *handle = self->handle;
    if (!self->is_closed || self->n_calls != 0 || handle == NULL) {
        return;
    }
    self->handle = NULL;
    const native_state *state = native_state_of((PyObject *)self);
    if (state != NULL && !state->is_exiting) {
        PyThreadState *thread = PyEval_SaveThread(); /* waits for brackets that have ended */
        pint_device_close(handle);
        PyEval_RestoreThread(thread);
    }
}

static void dealloc(PyObject *object)
{
    native_device *self = (native_device *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->is_closed = 1;
    settle(self); /* all who count keep a reference, so the count is 0 */
    Py_XDECREF((PyObject *)self->pool);
    PyObject_Free(object);
    Py_DECREF(type);
}

pint_device *native_device_begin(native_device *self)
{
    if (self->is_closed) {
        PyErr_SetString(PyExc_ValueError, "the device is closed");
        return NULL;
    }
    self->n_calls++;
    return self->handle;
}

void native_device_end(native_device *self)
{
    self->n_calls--;
    settle(self);
}

static PyObject *device_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device *self = (native_device *)object;
    self->is_closed = 1;
    settle(self);
    Py_RETURN_NONE;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static PyObject *device_info(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device *self = (native_device *)object;
    pint_device *handle = native_device_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    pint_device_info info = PINT_DEVICE_INFO_INIT;
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_device_get_info(handle, &info, &err);
    PyEval_RestoreThread(thread);
    native_device_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    PyObject *name = PyUnicode_DecodeUTF8(info.name, (Py_ssize_t)strlen(info.name), "replace");
    if (name == NULL) {
        return NULL;
    }
    return Py_BuildValue(
        "{sN,sN,sy#,sK,sK,sK,sK,sN,sN,sN,sI,si}", "name", name, "is_cuda",
        PyBool_FromLong((long)info.is_cuda), "uuid", (const char *)info.uuid, (Py_ssize_t)16,
        "memory", (unsigned long long)info.memory_bytes, "free",
        (unsigned long long)info.free_bytes, "pinned", (unsigned long long)info.pinned_bytes,
        "budget", (unsigned long long)info.budget_bytes, "can_vmm",
        PyBool_FromLong((long)info.can_vmm), "can_ipc", PyBool_FromLong((long)info.can_ipc),
        "can_map_host", PyBool_FromLong((long)info.can_map_host), "driver_version",
        (unsigned int)info.driver_version, "ordinal", (int)info.ordinal);
}

static PyObject *get_is_cuda(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_device *)object)->is_cuda);
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_device *)object)->is_closed);
}

/* ---- streams: numbers, as other packages pass them ------------------------------------------- */

static int to_stream(PyObject *object, void *out)
{
    uint64_t number;
    if (native_u64(object, &number) == 0) {
        return 0;
    }
    *(void **)out = (void *)(uintptr_t)number; /* the driver's handles are pointers */
    return 1;
}

static PyObject *device_stream_create(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_device *self = (native_device *)object;
    pint_device *handle = native_device_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    void *stream = NULL;
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_stream_create(handle, &stream, &err);
    PyEval_RestoreThread(thread);
    if (status != PINT_OK) {
        native_device_end(self);
        return native_raise(native_state_of(object), &err);
    }
    return PyLong_FromVoidPtr(stream); /* the count is given back by stream_destroy() */
}

static PyObject *device_stream_destroy(PyObject *object, PyObject *arg)
{
    native_device *self = (native_device *)object;
    const native_state *state = native_state_of(object);
    void *stream;
    if (to_stream(arg, &stream) == 0) {
        return NULL;
    }
    if (self->handle != NULL && state != NULL && !state->is_exiting) {
        PyThreadState *thread = PyEval_SaveThread();
        pint_stream_destroy(self->handle, stream);
        PyEval_RestoreThread(thread);
        native_device_end(self);
    }
    Py_RETURN_NONE;
}

struct stream_wait {
    pint_device *device;
    void *stream;
};

static pint_status try_stream_wait(void *context, int64_t timeout_ms, pint_error *err)
{
    const struct stream_wait *wait = context;
    (void)timeout_ms;
    return pint_stream_wait(wait->device, wait->stream, err);
}

static PyObject *device_stream_wait(PyObject *object, PyObject *arg)
{
    native_device *self = (native_device *)object;
    struct stream_wait wait;
    if (to_stream(arg, &wait.stream) == 0) {
        return NULL;
    }
    wait.device = native_device_begin(self);
    if (wait.device == NULL) {
        return NULL;
    }
    const int status =
        native_wait(native_state_of(object), try_stream_wait, &wait, -1, "stream wait");
    native_device_end(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- pinning --------------------------------------------------------------------------------- */

struct pinning {
    PyThreadState *thread; /* of the call, put aside */
    PyObject *progress;    /* or NULL */
};

/* Between pieces, on the thread of the call: signals, and the caller's function. */
static int on_pinned(void *context, uint64_t done_bytes, uint64_t all_bytes)
{
    struct pinning *pinning = context;
    PyEval_RestoreThread(pinning->thread);
    int stops = PyErr_CheckSignals() != 0;
    if (!stops && pinning->progress != NULL) {
        PyObject *result = PyObject_CallFunction(
            pinning->progress, "KK", (unsigned long long)done_bytes, (unsigned long long)all_bytes);
        stops = result == NULL;
        Py_XDECREF(result);
    }
    pinning->thread = PyEval_SaveThread(); /* what was raised stays with the thread's state */
    return stops;
}

static int get_table(PyObject *object, native_state *state, const char *operation,
                     native_table **out_table, pint_table **out_handle)
{
    if (Py_TYPE(object) != state->table_type) {
        PyErr_Format(PyExc_TypeError, "%s: a Table is needed, not %R", operation, object);
        return -1;
    }
    *out_table = (native_table *)object;
    *out_handle = native_table_begin(*out_table);
    return *out_handle != NULL ? 0 : -1;
}

static PyObject *device_pin(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"table", "progress", NULL};
    native_device *self = (native_device *)object;
    native_state *state = native_state_of(object);
    PyObject *table_arg;
    PyObject *progress = Py_None;
    native_table *table;
    pint_table *table_handle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:pin", (char **)names, &table_arg,
                                     &progress) ||
        get_table(table_arg, state, "pin", &table, &table_handle) != 0) {
        return NULL;
    }
    pint_device *handle = native_device_begin(self);
    if (handle == NULL) {
        native_table_end(table);
        return NULL;
    }
    struct pinning pinning = {.progress = progress != Py_None ? progress : NULL};
    pint_error err;
    pinning.thread = PyEval_SaveThread();
    const pint_status status = pint_device_pin(handle, table_handle, on_pinned, &pinning, &err);
    PyEval_RestoreThread(pinning.thread);
    if (status != PINT_OK) {
        (void)native_raise(state, &err);
    }
    native_device_end(self);
    native_table_end(table);
    if (status != PINT_OK) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *device_unpin(PyObject *object, PyObject *arg)
{
    native_device *self = (native_device *)object;
    native_state *state = native_state_of(object);
    native_table *table;
    pint_table *table_handle;
    if (get_table(arg, state, "unpin", &table, &table_handle) != 0) {
        return NULL;
    }
    pint_device *handle = native_device_begin(self);
    if (handle == NULL) {
        native_table_end(table);
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_device_unpin(handle, table_handle, &err);
    PyEval_RestoreThread(thread);
    native_device_end(self);
    native_table_end(table);
    if (status != PINT_OK) {
        return native_raise(state, &err);
    }
    Py_RETURN_NONE;
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    NATIVE_METHOD("info", device_info, METH_NOARGS, "info()\n--\n\nFacts now, a dict."),
    NATIVE_METHOD("open_copy", native_device_open_copy, METH_VARARGS | METH_KEYWORDS,
                  "open_copy(column, access, kind=0)\n--\n\n"
                  "Open the device copy of a column; makes it if there is none."),
    NATIVE_METHOD("discard_copy", native_device_discard_copy, METH_O,
                  "discard_copy(column)\n--\n\nDrop a column's copy without opening it."),
    NATIVE_METHOD("begin", native_device_begin_rows, METH_VARARGS | METH_KEYWORDS,
                  "begin(copies, first, n_rows, access, stream, timeout=None)\n--\n\n"
                  "Take rows of all copies or of none for work on a stream: a DeviceBracket."),
    NATIVE_METHOD("stream_create", device_stream_create, METH_NOARGS,
                  "stream_create()\n--\n\nA stream, a number; destroy it."),
    NATIVE_METHOD("stream_destroy", device_stream_destroy, METH_O,
                  "stream_destroy(stream)\n--\n\nWait for its work and destroy it."),
    NATIVE_METHOD("stream_wait", device_stream_wait, METH_O,
                  "stream_wait(stream)\n--\n\nWait for its work."),
    NATIVE_METHOD("pin", device_pin, METH_VARARGS | METH_KEYWORDS,
                  "pin(table, progress=None)\n--\n\n"
                  "Register a table's memory; progress(bytes done, bytes) between pieces."),
    NATIVE_METHOD("unpin", device_unpin, METH_O, "unpin(table)\n--\n\nOnce for each pin."),
    NATIVE_METHOD("close", device_close, METH_NOARGS,
                  "close()\n--\n\nNo further use; memories and copies stay good."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    NATIVE_GET("is_cuda", get_is_cuda, "Whether it is a GPU."),
    NATIVE_GET("closed", get_closed, "Whether close() was called."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, (void *)device_new},
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("Device(pool, name)\n--\n\nA device, for a pool's tables.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Device",
    .basicsize = sizeof(native_device),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_device_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
