/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Table: an open table.
 *
 * close() is for the user: from then on every method raises. The handle is given up when in
 * addition nothing uses it: no call, lease, job or capsule (n_calls), no buffer (n_views). Buffers,
 * leases and jobs keep their Table object, so its end comes after theirs in any order of deaths.
 */

#include "native.h"

#include <string.h>

/* ---- life ------------------------------------------------------------------------------------ */

native_table *native_table_alloc(native_state *state, native_pool *pool)
{
    native_table *self = (native_table *)PyType_GenericAlloc(state->table_type, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)pool);
        self->pool = pool;
        self->is_closed = 1;
    }
    return self;
}

void native_table_opened(native_table *self, pint_table *handle, int is_published)
{
    self->handle = handle;
    self->is_closed = 0;
    self->is_published = is_published;
    self->pool->n_tables++;
}

/* Give the handle up if nobody needs it any more. The caller holds a reference on self, or its
 * death is what happens. */
static void settle(native_table *self)
{
    if (!self->is_closed || self->n_calls != 0 || self->n_views != 0) {
        return;
    }
    native_table *successor = self->successor;
    self->successor = NULL;
    if (successor != NULL) {
        native_table_view_end(successor);
        Py_DECREF((PyObject *)successor);
    }
    pint_table *handle = self->handle;
    self->handle = NULL;
    if (handle == NULL) {
        return;
    }
    self->pool->n_tables--;
    const native_state *state = native_state_of((PyObject *)self);
    if (state != NULL && !state->is_exiting) {
        PyThreadState *thread = PyEval_SaveThread(); /* a request, if never published */
        pint_table_close(handle);
        PyEval_RestoreThread(thread);
    }
}

static void dealloc(PyObject *object)
{
    native_table *self = (native_table *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->is_closed = 1;
    settle(self); /* all who count keep a reference, so both counts are 0 */
    Py_DECREF((PyObject *)self->pool);
    PyObject_Free(object);
    Py_DECREF(type);
}

pint_table *native_table_handle(const native_table *self)
{
    if (self->is_closed) {
        PyErr_SetString(PyExc_ValueError, "the table is closed");
        return NULL;
    }
    return self->handle;
}

pint_table *native_table_begin(native_table *self)
{
    pint_table *handle = native_table_handle(self);
    self->n_calls += handle != NULL;
    return handle;
}

void native_table_end(native_table *self)
{
    self->n_calls--;
    settle(self);
}

void native_table_view_begin(native_table *self)
{
    self->n_views++;
}

void native_table_view_end(native_table *self)
{
    self->n_views--;
    settle(self);
}

static PyObject *table_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_table *self = (native_table *)object;
    self->is_closed = 1;
    settle(self);
    Py_RETURN_NONE;
}

/* ---- columns --------------------------------------------------------------------------------- */

static PyObject *table_column(PyObject *object, PyObject *arg)
{
    native_table *self = (native_table *)object;
    pint_table *handle = native_table_handle(self);
    const char *name;
    if (handle == NULL || native_name(arg, &name) == 0) {
        return NULL;
    }
    pint_column column;
    pint_error err;
    if (pint_table_column(handle, name, &column, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return native_column_new(self, &column);
}

static PyObject *table_column_at(PyObject *object, PyObject *arg)
{
    native_table *self = (native_table *)object;
    pint_table *handle = native_table_handle(self);
    uint32_t index;
    if (handle == NULL || native_u32(arg, &index) == 0) {
        return NULL;
    }
    pint_column column;
    pint_error err;
    if (pint_table_column_at(handle, index, &column, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return native_column_new(self, &column);
}

static PyObject *table_column_names(PyObject *object, PyObject *unused)
{
    (void)unused;
    pint_table *handle = native_table_handle((native_table *)object);
    PyObject *names = handle != NULL ? PyList_New(0) : NULL;
    if (names == NULL) {
        return NULL;
    }
    const uint32_t n_columns = pint_table_columns(handle);
    for (uint32_t i = 0; i < n_columns; i++) {
        pint_column column;
        pint_error err;
        PyObject *name = NULL;
        if (pint_table_column_at(handle, i, &column, &err) != PINT_OK) {
            (void)native_raise(native_state_of(object), &err);
        } else {
            const char *text = pint_column_name(&column);
            name = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
        }
        const int added = name != NULL ? PyList_Append(names, name) : -1;
        Py_XDECREF(name);
        if (added != 0) {
            Py_DECREF(names);
            return NULL;
        }
    }
    return names;
}

/* ---- changes --------------------------------------------------------------------------------- */

static PyObject *table_publish(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"replace", NULL};
    native_table *self = (native_table *)object;
    int is_replace = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:publish", (char **)names, &is_replace)) {
        return NULL;
    }
    pint_table *handle = native_table_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_table_publish(handle, is_replace ? PINT_REPLACE : 0, &err);
    native_wait_end(thread);
    if (status == PINT_OK) {
        self->is_published = 1;
    }
    native_table_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *table_freeze(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_table *self = (native_table *)object;
    pint_table *handle = native_table_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_table_freeze(handle, &err);
    native_wait_end(thread);
    native_table_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

/* from's handle is gone, its memory is self's: buffers made of from live on self from now. */
static void move_views(native_table *self, native_table *from)
{
    from->handle = NULL;
    from->pool->n_tables--;
    if (from->n_views > 0) {
        Py_INCREF((PyObject *)self);
        native_table_view_begin(self);
        from->successor = self;
    }
}

static PyObject *table_add_columns(PyObject *object, PyObject *arg)
{
    native_table *self = (native_table *)object;
    native_table *from = (native_table *)arg;
    native_state *state = native_state_of(object);
    if (Py_TYPE(arg) != Py_TYPE(object)) {
        return PyErr_Format(PyExc_TypeError, "add_columns: a Table is needed, not %R", arg);
    }
    if (native_table_handle(self) == NULL || native_table_handle(from) == NULL) {
        return NULL;
    }
    if (from != self && from->n_calls != 0) {
        return native_raise_as(state, PINT_E_STATE,
                               "add columns: the table to take them from is in use by a call, "
                               "lease, job or capsule");
    }
    self->n_calls++;
    from->n_calls++;
    const int was_closed = from->is_closed;
    from->is_closed = from != self; /* no other thread begins anything with it now */
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_table_add_columns(self->handle, from->handle, &err);
    native_wait_end(thread);
    if (status == PINT_OK) {
        move_views(self, from);
    } else {
        from->is_closed = was_closed;
    }
    native_table_end(from);
    native_table_end(self);
    if (status != PINT_OK) {
        return native_raise(state, &err);
    }
    Py_RETURN_NONE;
}

static PyObject *table_drop_job(PyObject *object, PyObject *arg)
{
    native_table *self = (native_table *)object;
    const char *name;
    if (native_name(arg, &name) == 0) {
        return NULL;
    }
    pint_table *handle = native_table_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status = pint_job_drop(handle, name, &err);
    native_wait_end(thread);
    native_table_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    NATIVE_METHOD("column", table_column, METH_O, "column(name)\n--\n\nA column by name."),
    NATIVE_METHOD("column_at", table_column_at, METH_O,
                  "column_at(index)\n--\n\nA column by position."),
    NATIVE_METHOD("column_names", table_column_names, METH_NOARGS,
                  "column_names()\n--\n\nNames of the columns in order."),
    NATIVE_METHOD("publish", table_publish, METH_VARARGS | METH_KEYWORDS,
                  "publish(replace=False)\n--\n\nMake a created table visible."),
    NATIVE_METHOD("freeze", table_freeze, METH_NOARGS,
                  "freeze()\n--\n\nNobody can write to it any more, for ever."),
    NATIVE_METHOD("add_columns", table_add_columns, METH_O,
                  "add_columns(from_)\n--\n\n"
                  "Move the columns of an unpublished table into this one; closes that."),
    NATIVE_METHOD("claim", native_table_claim, METH_VARARGS | METH_KEYWORDS,
                  "claim(columns, chunk, use, timeout=None)\n--\n\n"
                  "Lease a chunk of some columns, all or none."),
    NATIVE_METHOD("job", native_table_job, METH_VARARGS | METH_KEYWORDS,
                  "job(name, uses=())\n--\n\n"
                  "Create or join a job. uses: (column, IN, OUT or INOUT); none: join only."),
    NATIVE_METHOD("drop_job", table_drop_job, METH_O, "drop_job(name)\n--\n\nForget a job."),
    NATIVE_METHOD("close", table_close, METH_NOARGS,
                  "close()\n--\n\nNo further use; buffers made of it stay good."),
    {NULL, NULL, 0, NULL},
};

/* ---- facts ----------------------------------------------------------------------------------- */

static PyObject *get_pool(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *pool = (PyObject *)((native_table *)object)->pool;
    Py_INCREF((PyObject *)pool);
    return pool;
}

static PyObject *get_name(PyObject *object, void *unused)
{
    (void)unused;
    const pint_table *handle = native_table_handle((native_table *)object);
    if (handle == NULL) {
        return NULL;
    }
    char name[PINT_NAME_BYTES_MAX + 1];
    pint_table_name(handle, name);
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

/* Facts that are a number. closure: the function that tells it. */
typedef uint64_t (*number_fact)(const pint_table *table);
typedef int (*flag_fact)(const pint_table *table);

static uint64_t n_columns_of(const pint_table *table)
{
    return pint_table_columns(table);
}

static const number_fact id_fact = pint_table_id;
static const number_fact rows_fact = pint_table_rows;
static const number_fact columns_fact = n_columns_of;
static const number_fact chunk_rows_fact = pint_table_chunk_rows;
static const number_fact chunks_fact = pint_table_chunks;
static const number_fact bytes_fact = pint_table_bytes;
static const flag_fact frozen_fact = pint_table_is_frozen;
static const flag_fact dropped_fact = pint_table_is_dropped;
static const flag_fact writable_fact = pint_table_is_writable;

static PyObject *get_number(PyObject *object, void *fact)
{
    const pint_table *handle = native_table_handle((native_table *)object);
    return handle != NULL ? PyLong_FromUnsignedLongLong((*(const number_fact *)fact)(handle))
                          : NULL;
}

static PyObject *get_flag(PyObject *object, void *fact)
{
    const pint_table *handle = native_table_handle((native_table *)object);
    return handle != NULL ? PyBool_FromLong((*(const flag_fact *)fact)(handle)) : NULL;
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_table *)object)->is_closed);
}

static PyObject *get_published(PyObject *object, void *unused)
{
    (void)unused;
    const native_table *self = (native_table *)object;
    return native_table_handle(self) != NULL ? PyBool_FromLong(self->is_published) : NULL;
}

static PyObject *get_metadata(PyObject *object, void *unused)
{
    (void)unused;
    const pint_table *handle = native_table_handle((native_table *)object);
    if (handle == NULL) {
        return NULL;
    }
    uint64_t n_bytes = 0;
    const void *at = pint_table_metadata(handle, &n_bytes);
    if (at == NULL || n_bytes == 0) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize(at, (Py_ssize_t)n_bytes);
}

static void end_capsule(PyObject *capsule)
{
    native_table *table = PyCapsule_GetContext(capsule);
    if (table != NULL) {
        native_table_end(table);
        Py_DECREF((PyObject *)table);
    }
}

/* The capsule counts as a call: who has the handle may do anything with it but close it. */
static PyObject *get_capsule(PyObject *object, void *unused)
{
    (void)unused;
    native_table *self = (native_table *)object;
    pint_table *handle = native_table_handle(self);
    PyObject *capsule =
        handle != NULL ? PyCapsule_New(handle, "pintable.table", end_capsule) : NULL;
    if (capsule != NULL) {
        (void)PyCapsule_SetContext(capsule, self); /* fails for what is no capsule only */
        Py_INCREF((PyObject *)self);
        self->n_calls++;
    }
    return capsule;
}

#define NATIVE_FACT(name, function, fact, doc)                                                     \
    {                                                                                              \
        name, function, NULL, PyDoc_STR(doc), (void *)(uintptr_t) & (fact)                         \
    }

static PyGetSetDef attributes[] = {
    NATIVE_GET("pool", get_pool, "The Pool it was opened in."),
    NATIVE_GET("name", get_name, "Its name now."),
    NATIVE_FACT("id", get_number, id_fact, "Its number: never used again in the pool."),
    NATIVE_FACT("rows", get_number, rows_fact, "Rows."),
    NATIVE_FACT("n_columns", get_number, columns_fact, "Columns."),
    NATIVE_FACT("chunk_rows", get_number, chunk_rows_fact, "Rows of a chunk."),
    NATIVE_FACT("chunks", get_number, chunks_fact, "Chunks."),
    NATIVE_FACT("nbytes", get_number, bytes_fact, "Bytes of shared memory."),
    NATIVE_FACT("frozen", get_flag, frozen_fact, "Whether it was frozen."),
    NATIVE_FACT("dropped", get_flag, dropped_fact, "Whether it was dropped."),
    NATIVE_FACT("writable", get_flag, writable_fact, "Opened for writing and not frozen."),
    NATIVE_GET("closed", get_closed, "Whether close() was called. Never raises."),
    NATIVE_GET("published", get_published, "Whether it was published, as this handle knows."),
    NATIVE_GET("metadata", get_metadata, "The creator's bytes, or None."),
    NATIVE_GET("capsule", get_capsule, "Capsule 'pintable.table' with the pint_table *."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("An open table.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Table",
    .basicsize = sizeof(native_table),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_table_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
