/* SPDX-License-Identifier: Apache-2.0 */

/* Job: a named loop over the chunks of a table that processes share. close() is put off until no
 * call and no lease uses the handle. */

#include "native.h"

#include <string.h>

#define FAILURE_TEXT_BYTES 201u /* what pint_job_failure() writes at most */

/* ---- life ------------------------------------------------------------------------------------ */

static void settle(native_job *self)
{
    if (!self->is_closed || self->n_calls != 0 || self->handle == NULL) {
        return;
    }
    const native_state *state = native_state_of((PyObject *)self);
    pint_job *handle = self->handle;
    self->handle = NULL;
    if (state != NULL && !state->is_exiting) {
        PyThreadState *thread = PyEval_SaveThread();
        pint_job_close(handle);
        PyEval_RestoreThread(thread);
    }
    native_table_end(self->table);
}

pint_job *native_job_begin(native_job *self)
{
    if (self->is_closed) {
        PyErr_SetString(PyExc_ValueError, "the job is closed");
        return NULL;
    }
    self->n_calls++;
    return self->handle;
}

void native_job_end(native_job *self)
{
    self->n_calls--;
    settle(self);
}

static void dealloc(PyObject *object)
{
    native_job *self = (native_job *)object;
    PyTypeObject *type = Py_TYPE(object);
    self->is_closed = 1;
    settle(self);
    Py_XDECREF(self->name);
    Py_XDECREF((PyObject *)self->table);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* uses: a tuple of (name, use) that nobody else can change; owns what out_uses points to. */
static int get_uses(PyObject *tuple, pint_use *uses, Py_ssize_t n_uses)
{
    for (Py_ssize_t i = 0; i < n_uses; i++) {
        PyObject *pair = PyTuple_GetItem(tuple, i);
        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError, "job: a use is a tuple (column, use)");
            return -1;
        }
        if (!PyArg_ParseTuple(pair, "O&O&;job: a use is (column, use)", native_name,
                              &uses[i].column, native_u32, &uses[i].use)) {
            return -1;
        }
    }
    return 0;
}

static native_job *alloc(native_table *table, PyObject *name)
{
    const native_state *state = native_state_of((PyObject *)table);
    native_job *self = (native_job *)PyType_GenericAlloc(state->job_type, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)table);
        self->table = table;
        Py_INCREF(name);
        self->name = name;
        self->is_closed = 1;
    }
    return self;
}

PyObject *native_table_job(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"name", "uses", NULL};
    native_table *table = (native_table *)object;
    PyObject *name_arg;
    PyObject *uses_arg = NULL;
    const char *name;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|O:job", (char **)names, &name_arg,
                                     &uses_arg) ||
        native_name(name_arg, &name) == 0) {
        return NULL;
    }
    PyObject *tuple = uses_arg != NULL ? PySequence_Tuple(uses_arg) : PyTuple_New(0);
    if (tuple == NULL) {
        return NULL;
    }
    const Py_ssize_t n_uses = PyTuple_Size(tuple);
    native_job *self = NULL;
    pint_table *handle = NULL;
    pint_use *uses = PyMem_Calloc((size_t)n_uses + 1, sizeof(*uses));
    if (uses == NULL || n_uses > INT32_MAX) {
        (void)PyErr_NoMemory();
        goto done;
    }
    self = get_uses(tuple, uses, n_uses) == 0 ? alloc(table, name_arg) : NULL;
    handle = self != NULL ? native_table_begin(table) : NULL;
    if (handle == NULL) {
        Py_CLEAR(self);
        goto done;
    }
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status =
        pint_job_create(handle, name, uses, (uint32_t)n_uses, &self->handle, &err);
    native_wait_end(thread);
    if (status == PINT_OK) {
        self->is_closed = 0; /* the count on the table is the job's from now */
    } else {
        self->handle = NULL;
        native_table_end(table);
        Py_CLEAR(self);
        (void)native_raise(native_state_of(object), &err);
    }
done:
    PyMem_Free(uses);
    Py_DECREF(tuple);
    return (PyObject *)self;
}

static PyObject *job_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_job *self = (native_job *)object;
    self->is_closed = 1;
    settle(self);
    Py_RETURN_NONE;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

struct next {
    pint_job *job;
    pint_lease *out_lease;
};

static pint_status try_next(void *context, int64_t timeout_ms, pint_error *err)
{
    struct next *next = context;
    return pint_job_next_timed(next->job, timeout_ms, next->out_lease, err);
}

static PyObject *job_next(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"timeout", NULL};
    native_job *self = (native_job *)object;
    native_state *state = native_state_of(object);
    int64_t timeout_ms = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:next", (char **)names, native_timeout,
                                     &timeout_ms)) {
        return NULL;
    }
    native_lease *lease = native_lease_alloc(state, self->table, self);
    struct next next = {.job = lease != NULL ? native_job_begin(self) : NULL};
    if (next.job == NULL) {
        Py_XDECREF((PyObject *)lease);
        return NULL;
    }
    next.out_lease = native_lease_plain(lease);
    const int status = native_wait(state, try_next, &next, timeout_ms, "next");
    if (status == PINT_OK) {
        native_lease_taken(lease);
    }
    native_job_end(self);
    if (status == PINT_OK) {
        return (PyObject *)lease;
    }
    Py_DECREF((PyObject *)lease);
    if (status == PINT_FINISHED) {
        Py_RETURN_NONE;
    }
    if (status == PINT_AGAIN) {
        return native_raise_as(state, PINT_AGAIN, "next: %s", pint_status_text(PINT_AGAIN));
    }
    return NULL;
}

/* text: a str of any length, lone surrogates replaced; bytes, or NULL and raised. The library cuts
 * it to what it keeps. */
static PyObject *failure_bytes(PyObject *text)
{
    return PyUnicode_AsEncodedString(text, "utf-8", "replace");
}

static PyObject *end_lease(PyObject *object, PyObject *args, enum native_lease_end how)
{
    const native_state *state = native_state_of(object);
    PyObject *lease;
    PyObject *text_arg = Py_None;
    if (!PyArg_ParseTuple(args, how == LEASE_DONE ? "O!" : "O!|O", state->lease_type, &lease,
                          &text_arg)) {
        return NULL;
    }
    PyObject *bytes = NULL;
    if (text_arg != Py_None) {
        bytes = PyUnicode_Check(text_arg) ? failure_bytes(text_arg) : NULL;
        if (bytes == NULL) {
            if (PyErr_Occurred() == NULL) {
                PyErr_Format(PyExc_TypeError, "a reason is a str or None, not %R", text_arg);
            }
            return NULL;
        }
    }
    const char *text = bytes != NULL ? PyBytes_AsString(bytes) : NULL;
    const int result = native_lease_end_job((native_lease *)lease, (native_job *)object, how, text);
    Py_XDECREF(bytes);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *job_done(PyObject *object, PyObject *args)
{
    return end_lease(object, args, LEASE_DONE);
}

static PyObject *job_fail(PyObject *object, PyObject *args)
{
    return end_lease(object, args, LEASE_FAIL);
}

static PyObject *job_reject(PyObject *object, PyObject *args)
{
    return end_lease(object, args, LEASE_REJECT);
}

/* ---- what it has come to --------------------------------------------------------------------- */

static PyObject *job_progress(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_job *self = (native_job *)object;
    const pint_job *handle = native_job_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    pint_job_progress progress = PINT_JOB_PROGRESS_INIT;
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    const pint_status status = pint_job_get_progress(handle, &progress, &err);
    PyEval_RestoreThread(thread);
    native_job_end(self);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return Py_BuildValue("KKKKK", (unsigned long long)progress.n_chunks,
                         (unsigned long long)progress.n_done, (unsigned long long)progress.n_failed,
                         (unsigned long long)progress.n_held,
                         (unsigned long long)progress.n_redone);
}

static pint_status try_wait(void *context, int64_t timeout_ms, pint_error *err)
{
    return pint_job_wait(context, timeout_ms, err);
}

static PyObject *job_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"timeout", NULL};
    native_job *self = (native_job *)object;
    int64_t timeout_ms = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&:wait", (char **)names, native_timeout,
                                     &timeout_ms)) {
        return NULL;
    }
    pint_job *handle = native_job_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    const int status =
        native_wait(native_state_of(object), try_wait, handle, timeout_ms, "wait for the job");
    native_job_end(self);
    if (status < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *job_failure(PyObject *object, PyObject *arg)
{
    native_job *self = (native_job *)object;
    uint64_t chunk;
    if (native_u64(arg, &chunk) == 0) {
        return NULL;
    }
    const pint_job *handle = native_job_begin(self);
    if (handle == NULL) {
        return NULL;
    }
    char text[FAILURE_TEXT_BYTES];
    pint_error err;
    const pint_status status = pint_job_failure(handle, chunk, text, &err);
    native_job_end(self);
    if (status == PINT_E_NOT_FOUND) {
        Py_RETURN_NONE;
    }
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *job_failed(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_job *self = (native_job *)object;
    const pint_job *handle = native_job_begin(self);
    PyObject *chunks = handle != NULL ? PyList_New(0) : NULL;
    uint64_t cursor = 0;
    while (chunks != NULL) {
        uint64_t chunk;
        pint_error err;
        const pint_status status = pint_job_next_failed(handle, &cursor, &chunk, &err);
        if (status == PINT_E_NOT_FOUND) {
            break;
        }
        PyObject *number = NULL;
        if (status == PINT_OK) {
            number = PyLong_FromUnsignedLongLong(chunk);
        } else {
            (void)native_raise(native_state_of(object), &err);
        }
        if (number == NULL || PyList_Append(chunks, number) != 0) {
            Py_CLEAR(chunks);
        }
        Py_XDECREF(number);
    }
    if (handle != NULL) {
        native_job_end(self);
    }
    return chunks;
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    NATIVE_METHOD("next", job_next, METH_VARARGS | METH_KEYWORDS,
                  "next(timeout=None)\n--\n\n"
                  "The next chunk as a Lease; None when all are done or failed."),
    NATIVE_METHOD("done", job_done, METH_VARARGS, "done(lease)\n--\n\nThe chunk is done."),
    NATIVE_METHOD("fail", job_fail, METH_VARARGS,
                  "fail(lease, text=None)\n--\n\n"
                  "The chunk could not be done; it is handed out again, three times in all."),
    NATIVE_METHOD("reject", job_reject, METH_VARARGS,
                  "reject(lease, text=None)\n--\n\nThe chunk can be done by nobody."),
    NATIVE_METHOD("progress", job_progress, METH_NOARGS,
                  "progress()\n--\n\n(chunks, done, failed, held, redone)"),
    NATIVE_METHOD("wait", job_wait, METH_VARARGS | METH_KEYWORDS,
                  "wait(timeout=None)\n--\n\nWait until every chunk is done or failed."),
    NATIVE_METHOD("failure", job_failure, METH_O,
                  "failure(chunk)\n--\n\nWhy a chunk failed, or None."),
    NATIVE_METHOD("failed", job_failed, METH_NOARGS, "failed()\n--\n\nChunks that failed."),
    NATIVE_METHOD("close", job_close, METH_NOARGS,
                  "close()\n--\n\nGive the handle up; the job stays."),
    {NULL, NULL, 0, NULL},
};

static PyObject *get_table(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *table = (PyObject *)((native_job *)object)->table;
    Py_INCREF((PyObject *)table);
    return table;
}

static PyObject *get_name(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *name = ((native_job *)object)->name;
    Py_INCREF(name);
    return name;
}

static PyGetSetDef attributes[] = {
    NATIVE_GET("table", get_table, "Its Table."),
    NATIVE_GET("name", get_name, "Its name."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("A named loop over the chunks of a table.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Job",
    .basicsize = sizeof(native_job),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_job_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
