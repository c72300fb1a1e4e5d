/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lease: a chunk of some columns, this process's to write until it is committed, abandoned, or the
 * object dies, which abandons it. A lease that a job handed out is ended through the job: commit()
 * is then the job's done(), abandon() its fail().
 *
 * A held lease counts as a use of its table, and of its job: close() of these waits for it. is_held
 * goes before the interpreter's lock is given up, so that of two threads one ends the lease.
 */

#include "native.h"

struct native_lease {
    PyObject_HEAD native_table *table; /* one of its n_calls is ours while held */
    native_job *job; /* NULL: claimed plainly; else one of its n_calls is ours while held */
    pint_lease lease;
    int is_held;
};

native_lease *native_lease_alloc(native_state *state, native_table *table, native_job *job)
{
    native_lease *self = (native_lease *)PyType_GenericAlloc(state->lease_type, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)table);
        self->table = table;
        Py_XINCREF((PyObject *)job);
        self->job = job;
    }
    return self;
}

pint_lease *native_lease_plain(native_lease *self)
{
    return &self->lease;
}

void native_lease_taken(native_lease *self)
{
    self->is_held = 1;
    self->table->n_calls++;
    if (self->job != NULL) {
        self->job->n_calls++;
    }
}

/* What follows the end of a lease, whatever it was. */
static void let_go(native_lease *self)
{
    if (self->job != NULL) {
        native_job_end(self->job);
    }
    native_table_end(self->table);
}

static pint_status end_with_job(native_lease *self, enum native_lease_end how, const char *text,
                                pint_error *err)
{
    pint_job *job = self->job->handle;
    switch (how) {
    case LEASE_DONE:
        return pint_job_done(job, &self->lease, err);
    case LEASE_REJECT:
        return pint_job_reject(job, &self->lease, text, err);
    case LEASE_FAIL:
    default:
        return pint_job_fail(job, &self->lease, text, err);
    }
}

/* Requires is_held. -1 and raised; the lease is over in any case. */
static int end(native_lease *self, enum native_lease_end how, const char *text)
{
    native_state *state = native_state_of((PyObject *)self);
    pint_error err;
    pint_status status;
    self->is_held = 0;
    PyThreadState *thread = PyEval_SaveThread(); /* undoing copies */
    if (self->job != NULL) {
        status = end_with_job(self, how, text, &err);
    } else if (how == LEASE_DONE) {
        status = pint_lease_commit(&self->lease, &err);
    } else {
        status = pint_lease_abandon(&self->lease, &err);
    }
    PyEval_RestoreThread(thread);
    let_go(self);
    if (status != PINT_OK) {
        (void)native_raise(state, &err);
        return -1;
    }
    return 0;
}

static int check_held(const native_lease *self)
{
    if (self->is_held) {
        return 0;
    }
    (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_LEASE_LOST,
                          "the lease of chunk %llu has ended",
                          (unsigned long long)self->lease.chunk);
    return -1;
}

int native_lease_end_job(native_lease *self, native_job *job, enum native_lease_end how,
                         const char *text)
{
    if (self->job != job) {
        (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_INVALID,
                              "the lease is not of this job");
        return -1;
    }
    return check_held(self) == 0 ? end(self, how, text) : -1;
}

static void dealloc(PyObject *object)
{
    native_lease *self = (native_lease *)object;
    PyTypeObject *type = Py_TYPE(object);
    native_state *state = native_state_of(object);
    if (self->is_held && state != NULL && !state->is_exiting) {
        PyObject *error_type; /* a destructor leaves the exception that is being raised alone */
        PyObject *error_value;
        PyObject *error_trace;
        PyErr_Fetch(&error_type, &error_value, &error_trace);
        if (end(self, LEASE_FAIL, "the lease was let go without a result") != 0) {
            PyErr_Clear(); /* lost or torn: whoever claims the chunk next is told */
        }
        PyErr_Restore(error_type, error_value, error_trace);
    }
    Py_XDECREF((PyObject *)self->job);
    Py_XDECREF((PyObject *)self->table);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* ---- claiming -------------------------------------------------------------------------------- */

#define COLUMNS_MAX 64 /* of one claim: the library's limit */

struct claim {
    pint_column columns[COLUMNS_MAX];
    uint32_t n_columns;
    uint64_t chunk;
    uint32_t use;
    pint_lease *out_lease;
};

static pint_status try_claim(void *context, int64_t timeout_ms, pint_error *err)
{
    struct claim *claim = context;
    return pint_lease_claim(claim->columns, claim->n_columns, claim->chunk, claim->use, timeout_ms,
                            claim->out_lease, err);
}

static int get_columns(native_table *self, PyObject *sequence, struct claim *claim)
{
    native_state *state = native_state_of((PyObject *)self);
    PyObject *tuple = PySequence_Tuple(sequence);
    if (tuple == NULL) {
        return -1;
    }
    int result = -1;
    const Py_ssize_t n = PyTuple_Size(tuple);
    if (n < 1 || n > COLUMNS_MAX) {
        (void)native_raise_as(state, PINT_E_INVALID, "claim: 1 to %d columns, not %lld",
                              COLUMNS_MAX, (long long)n);
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (Py_TYPE(item) != state->column_type) {
            PyErr_Format(PyExc_TypeError, "claim: a Column is needed, not %R", item);
            goto done;
        }
        native_column *column = (native_column *)item;
        /* Of another Table object of the same table and mode it may be: the handle is the same,
         * and it is self that is counted. */
        if (column->table->handle != self->handle) {
            PyErr_SetString(PyExc_ValueError, "claim: a column of another table");
            goto done;
        }
        claim->columns[i] = column->column;
    }
    claim->n_columns = (uint32_t)n;
    result = 0;
done:
    Py_DECREF(tuple);
    return result;
}

PyObject *native_table_claim(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"columns", "chunk", "use", "timeout", NULL};
    native_table *self = (native_table *)object;
    native_state *state = native_state_of(object);
    struct claim claim = {.n_columns = 0};
    PyObject *columns;
    int64_t timeout_ms = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO&O&|O&:claim", (char **)names, &columns,
                                     native_u64, &claim.chunk, native_u32, &claim.use,
                                     native_timeout, &timeout_ms) ||
        native_table_handle(self) == NULL || get_columns(self, columns, &claim) != 0) {
        return NULL;
    }
    native_lease *lease = native_lease_alloc(state, self, NULL);
    if (lease == NULL || native_table_begin(self) == NULL) {
        Py_XDECREF((PyObject *)lease);
        return NULL;
    }
    claim.out_lease = &lease->lease;
    const int status = native_wait(state, try_claim, &claim, timeout_ms, "claim");
    if (status == PINT_OK) {
        native_lease_taken(lease);
    }
    native_table_end(self);
    if (status != PINT_OK) {
        Py_CLEAR(lease);
    }
    return (PyObject *)lease;
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyObject *lease_commit(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_lease *self = (native_lease *)object;
    if (check_held(self) != 0 || end(self, LEASE_DONE, NULL) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *lease_abandon(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_lease *self = (native_lease *)object;
    if (check_held(self) != 0 || end(self, LEASE_FAIL, NULL) != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    NATIVE_METHOD("commit", lease_commit, METH_NOARGS,
                  "commit()\n--\n\nPublish what was written. The lease is over, also on error."),
    NATIVE_METHOD("abandon", lease_abandon, METH_NOARGS,
                  "abandon()\n--\n\n"
                  "Give the chunk back unpublished: old bytes come back, or it is torn."),
    {NULL, NULL, 0, NULL},
};

static PyObject *get_first(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((native_lease *)object)->lease.first);
}

static PyObject *get_n_rows(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((native_lease *)object)->lease.n_rows);
}

static PyObject *get_chunk(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((native_lease *)object)->lease.chunk);
}

static PyObject *get_held(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_lease *)object)->is_held);
}

static PyGetSetDef attributes[] = {
    NATIVE_GET("first", get_first, "First row."),
    NATIVE_GET("n_rows", get_n_rows, "Rows; the last chunk may be short."),
    NATIVE_GET("chunk", get_chunk, "Chunk."),
    NATIVE_GET("held", get_held, "Whether it was not ended by this process."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("A leased chunk.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Lease",
    .basicsize = sizeof(native_lease),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_lease_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
