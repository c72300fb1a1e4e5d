/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pool: the process's shared handle on a pool.
 *
 * fork(). A child inherits the objects and, through the library, one reference for each that the
 * parent held. They become references of the child's own session at its first use of the pool;
 * until then only the parent's keep the memory, and an inherited array is read without any use of
 * the library that could notice. So the fork handler makes the child a session at once if it has
 * inherited open tables: half a millisecond for each fork of such a process. What the parent closes
 * before that is the one case left; such a table says that it is dropped. If there is no service
 * the child goes on without a session, and each use tries again.
 *
 * Objects that die in the child give up the child's references, one each, as many as were taken
 * over. Leases are void in the child: the library knows whose they are.
 */

#include "native.h"

#include <string.h>

static PyObject *pool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"address", "read_only", "start", "timeout", NULL};
    PyObject *address_arg = Py_None;
    int is_read_only = 0;
    int may_start = 1;
    int64_t timeout_ms = 10000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$ppO&:Pool", (char **)names, &address_arg,
                                     &is_read_only, &may_start, native_timeout, &timeout_ms)) {
        return NULL;
    }
    PyObject *path = NULL; /* bytes; a path may be any */
    if (address_arg != Py_None && PyUnicode_FSConverter(address_arg, &path) == 0) {
        return NULL;
    }
    native_pool *self = (native_pool *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(path);
        return NULL;
    }
    native_state *state = native_state_of((PyObject *)self);
    pint_join_options options = PINT_JOIN_INIT;
    options.flags = PINT_JOIN_SHARED | (is_read_only ? PINT_JOIN_READ : 0) |
                    (may_start ? 0 : PINT_JOIN_NO_START);
    /* The library takes 0 for its own default, and has no "no limit". */
    options.timeout_ms = timeout_ms < 0 ? INT32_MAX : timeout_ms == 0 ? 1 : timeout_ms;
    const char *address = path != NULL ? PyBytes_AsString(path) : NULL;
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_pool_join(address, &options, &self->handle, &err);
    native_wait_end(thread);
    Py_XDECREF(path);
    if (status != PINT_OK) {
        self->handle = NULL;
        Py_DECREF((PyObject *)self);
        return native_raise(state, &err);
    }
    self->is_read_only = is_read_only;
    self->next = state->pools;
    state->pools = self;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    native_pool *self = (native_pool *)object;
    PyTypeObject *type = Py_TYPE(object);
    native_state *state = native_state_of(object);
    if (self->handle != NULL && state != NULL) {
        for (native_pool **at = &state->pools; *at != NULL; at = &(*at)->next) {
            if (*at == self) {
                *at = self->next;
                break;
            }
        }
        if (!state->is_exiting) {
            PyThreadState *thread = PyEval_SaveThread();
            pint_pool_leave(self->handle); /* counted: leaves when it was the last one */
            PyEval_RestoreThread(thread);
        }
    }
    PyObject_Free(object);
    Py_DECREF(type);
}

PyObject *native_after_fork(PyObject *module, PyObject *unused)
{
    (void)unused;
    native_state *state = PyModule_GetState(module);
    native_interrupt_after_fork();
    for (native_pool *pool = state->pools; pool != NULL; pool = pool->next) {
        if (pool->n_tables > 0) {
            /* 0: there is no service; see above. The child has one thread: the lock is kept. */
            (void)pint_pool_session(pool->handle);
        }
    }
    Py_RETURN_NONE;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static PyObject *pool_tables(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_pool *self = (native_pool *)object;
    PyObject *names = PyList_New(0);
    uint64_t cursor = 0;
    while (names != NULL) {
        char name[PINT_NAME_BYTES_MAX + 1];
        pint_error err;
        const pint_status status = pint_pool_next_table(self->handle, &cursor, name, &err);
        if (status == PINT_E_NOT_FOUND) {
            break;
        }
        PyObject *text = NULL;
        if (status != PINT_OK) {
            (void)native_raise(native_state_of(object), &err);
        } else {
            text = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
        }
        if (text == NULL || PyList_Append(names, text) != 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(text);
    }
    return names;
}

static PyObject *pool_open(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"name", "write", NULL};
    native_pool *self = (native_pool *)object;
    const char *name;
    int is_write = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|p:open", (char **)names, native_name, &name,
                                     &is_write)) {
        return NULL;
    }
    native_state *state = native_state_of(object);
    native_table *table = native_table_alloc(state, self);
    if (table == NULL) {
        return NULL;
    }
    pint_table *handle;
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status =
        pint_table_open(self->handle, name, is_write ? PINT_WRITE : PINT_READ, &handle, &err);
    native_wait_end(thread);
    if (status != PINT_OK) {
        Py_DECREF((PyObject *)table);
        return native_raise(state, &err);
    }
    native_table_opened(table, handle, 1);
    return (PyObject *)table;
}

static PyObject *pool_open_id(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"id", "write", NULL};
    native_pool *self = (native_pool *)object;
    uint64_t id;
    int is_write = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|p:open_id", (char **)names, native_u64, &id,
                                     &is_write)) {
        return NULL;
    }
    native_state *state = native_state_of(object);
    native_table *table = native_table_alloc(state, self);
    if (table == NULL) {
        return NULL;
    }
    pint_table *handle;
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status =
        pint_table_open_id(self->handle, id, is_write ? PINT_WRITE : PINT_READ, &handle, &err);
    native_wait_end(thread);
    if (status != PINT_OK) {
        Py_DECREF((PyObject *)table);
        return native_raise(state, &err);
    }
    native_table_opened(table, handle, 1);
    return (PyObject *)table;
}

static PyObject *pool_drop(PyObject *object, PyObject *arg)
{
    native_pool *self = (native_pool *)object;
    const char *name;
    if (native_name(arg, &name) == 0) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_table_drop(self->handle, name, &err);
    native_wait_end(thread);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *pool_rename(PyObject *object, PyObject *args)
{
    native_pool *self = (native_pool *)object;
    const char *old_name;
    const char *new_name;
    if (!PyArg_ParseTuple(args, "O&O&:rename", native_name, &old_name, native_name, &new_name)) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_table_rename(self->handle, old_name, new_name, &err);
    native_wait_end(thread);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *pool_contains(PyObject *object, PyObject *args)
{
    uint64_t address;
    uint64_t n_bytes;
    if (!PyArg_ParseTuple(args, "O&O&:contains", native_u64, &address, native_u64, &n_bytes)) {
        return NULL;
    }
    const void *at = (const void *)(uintptr_t)address;
    return PyBool_FromLong(pint_pool_contains(((native_pool *)object)->handle, at, n_bytes));
}

static PyMethodDef methods[] = {
    NATIVE_METHOD("tables", pool_tables, METH_NOARGS,
                  "tables()\n--\n\nNames of the pool's tables, in no order."),
    NATIVE_METHOD("open", pool_open, METH_VARARGS | METH_KEYWORDS,
                  "open(name, write=False)\n--\n\nOpen a published table."),
    NATIVE_METHOD("open_id", pool_open_id, METH_VARARGS | METH_KEYWORDS,
                  "open_id(id, write=False)\n--\n\nOpen a published table by its id."),
    NATIVE_METHOD("create", native_pool_create, METH_VARARGS | METH_KEYWORDS,
                  "create(name, fields, rows, chunk_rows=0, flags=0, metadata=None)\n--\n\n"
                  "Create a table that nobody sees until it is published.\n\n"
                  "A field is (name, type, nullable, unit, zone, width_bytes, list_length,\n"
                  "item_type, data_bytes, n_categories, metadata)."),
    NATIVE_METHOD("drop", pool_drop, METH_O, "drop(name)\n--\n\nDrop a table by name."),
    NATIVE_METHOD("rename", pool_rename, METH_VARARGS,
                  "rename(old, new)\n--\n\nGive a table another name."),
    NATIVE_METHOD("contains", pool_contains, METH_VARARGS,
                  "contains(address, n_bytes)\n--\n\n"
                  "Whether all of a range of memory lies in the pool's columns."),
    {NULL, NULL, 0, NULL},
};

/* ---- facts ----------------------------------------------------------------------------------- */

static PyObject *get_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyUnicode_DecodeFSDefault(pint_pool_address(((native_pool *)object)->handle));
}

static PyObject *get_id(PyObject *object, void *unused)
{
    (void)unused;
    uint8_t id[16];
    pint_pool_id(((native_pool *)object)->handle, id);
    return PyBytes_FromStringAndSize((const char *)id, sizeof(id));
}

static PyObject *get_session(PyObject *object, void *unused)
{
    (void)unused;
    pint_pool *handle = ((native_pool *)object)->handle;
    PyThreadState *thread = native_wait_begin(); /* after fork() it joins */
    const uint64_t session = pint_pool_session(handle);
    native_wait_end(thread);
    if (session == 0) {
        return native_raise_as(native_state_of(object), PINT_E_FORKED,
                               "session: this process could not join the pool after fork()");
    }
    return PyLong_FromUnsignedLongLong(session);
}

static PyObject *get_read_only(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_pool *)object)->is_read_only);
}

static void drop_owner(PyObject *capsule)
{
    Py_XDECREF((PyObject *)PyCapsule_GetContext(capsule));
}

static PyObject *get_capsule(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *capsule = PyCapsule_New(((native_pool *)object)->handle, "pintable.pool", drop_owner);
    if (capsule != NULL) {
        (void)PyCapsule_SetContext(capsule, object); /* fails for what is no capsule only */
        Py_INCREF(object);
    }
    return capsule;
}

static PyGetSetDef attributes[] = {
    NATIVE_GET("address", get_address, "Path of the socket."),
    NATIVE_GET("id", get_id, "16 bytes that no other pool has."),
    NATIVE_GET("session", get_session, "Number of this process's session."),
    NATIVE_GET("read_only", get_read_only, "Whether it was joined to read only."),
    NATIVE_GET("capsule", get_capsule, "Capsule 'pintable.pool' with the pint_pool *."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, (void *)pool_new},
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc,
     (void *)PyDoc_STR("Pool(address=None, *, read_only=False, start=True, timeout=10.0)\n--\n\n"
                       "This process's handle on a pool of tables.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Pool",
    .basicsize = sizeof(native_pool),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_pool_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
