/* SPDX-License-Identifier: Apache-2.0 */

/* Column: facts, buffers, versions, waiting. Reading while others write is in read.c, nulls and
 * bits in bits.c, text and categories in text.c. */

#include "native.h"

#include <string.h>

PyObject *native_column_new(native_table *table, const pint_column *column)
{
    const native_state *state = native_state_of((PyObject *)table);
    native_column *self = (native_column *)PyType_GenericAlloc(state->column_type, 0);
    if (self != NULL) {
        Py_INCREF((PyObject *)table);
        self->table = table;
        self->column = *column;
    }
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_XDECREF((PyObject *)((native_column *)object)->table);
    PyObject_Free(object);
    Py_DECREF(type);
}

/* ---- use ------------------------------------------------------------------------------------- */

const pint_column *native_column_use(const native_column *self)
{
    return native_table_handle(self->table) != NULL ? &self->column : NULL;
}

const pint_column *native_column_begin(native_column *self)
{
    return native_table_begin(self->table) != NULL ? &self->column : NULL;
}

int native_column_check_rows(const native_column *self, uint64_t first, uint64_t n_rows,
                             const char *operation)
{
    const uint64_t rows = pint_table_rows(self->table->handle);
    if (first <= rows && n_rows <= rows - first) {
        return 0;
    }
    (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_RANGE,
                          "%s: rows %llu + %llu of %llu in column '%s'", operation,
                          (unsigned long long)first, (unsigned long long)n_rows,
                          (unsigned long long)rows, pint_column_name(&self->column));
    return -1;
}

int native_column_check_write(const native_column *self, const char *operation)
{
    const pint_table *table = self->table->handle;
    if (pint_table_is_writable(table)) {
        return 0;
    }
    native_state *state = native_state_of((PyObject *)self);
    if (pint_table_is_frozen(table)) {
        (void)native_raise_as(state, PINT_E_FROZEN, "%s: the table is frozen", operation);
    } else {
        (void)native_raise_as(state, PINT_E_PERMISSION, "%s: the table was opened to read",
                              operation);
    }
    return -1;
}

static int check_chunk(const native_column *self, uint64_t chunk, const char *operation)
{
    const uint64_t n_chunks = pint_table_chunks(self->table->handle);
    if (chunk < n_chunks) {
        return 0;
    }
    (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_RANGE,
                          "%s: chunk %llu of %llu in column '%s'", operation,
                          (unsigned long long)chunk, (unsigned long long)n_chunks,
                          pint_column_name(&self->column));
    return -1;
}

/* ---- buffers --------------------------------------------------------------------------------- */

/* What a buffer is for. */
enum buffer_use {
    BUFFER_READ,
    BUFFER_STORE, /* under a lease, or the rows are marked afterwards, or nobody sees the table yet
                   */
    BUFFER_VIEW   /* at any time, if the table may be written */
};

/* Begin a view, if the column can be stored to. *out_view NULL: it cannot. -1: raised. */
static int begin_view(const native_column *self, pint_view **out_view)
{
    pint_error err;
    *out_view = NULL;
    if (!pint_table_is_writable(self->table->handle)) {
        return 0;
    }
    const pint_status status = pint_column_view_begin(&self->column, out_view, &err);
    if (status == PINT_OK || status == PINT_E_FROZEN) { /* frozen since */
        return 0;
    }
    (void)native_raise(native_state_of((PyObject *)self), &err);
    return -1;
}

/*
 * Memory for an array. After fork() the session comes first: from here on the reference that keeps
 * the memory is this process's own. See pool.c.
 */
static PyObject *make_buffer(native_column *self, void *address, uint64_t n_bytes,
                             enum buffer_use use)
{
    pint_table *table = native_table_begin(self->table);
    if (table == NULL) {
        return NULL;
    }
    pint_pool *pool = pint_table_pool(table);
    PyThreadState *thread = PyEval_SaveThread();
    const uint64_t session = pint_pool_session(pool);
    PyEval_RestoreThread(thread);
    PyObject *buffer = NULL;
    pint_view *view = NULL;
    if (session == 0) {
        (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_FORKED,
                              "buffer: this process could not join the pool after fork()");
    } else if (use != BUFFER_VIEW || begin_view(self, &view) == 0) {
        const int may_store = use == BUFFER_VIEW
                                  ? view != NULL
                                  : use == BUFFER_STORE && pint_table_is_writable(table);
        buffer = native_buffer_new(self->table, address, n_bytes, !may_store, view);
    }
    native_table_end(self->table);
    return buffer;
}

static PyObject *values_for(PyObject *object, enum buffer_use use)
{
    native_column *self = (native_column *)object;
    const pint_column *column = native_column_use(self);
    if (column == NULL) {
        return NULL;
    }
    if (column->type == PINT_TEXT) {
        Py_RETURN_NONE;
    }
    const uint64_t rows = pint_table_rows(self->table->handle);
    const uint32_t row_bytes = pint_column_row_bytes(column);
    const uint64_t n_bytes = column->type == PINT_BOOL ? (rows + 7) / 8 : rows * row_bytes;
    return make_buffer(self, column->values, n_bytes, use);
}

static PyObject *column_values(PyObject *object, PyObject *unused)
{
    (void)unused;
    return values_for(object, BUFFER_VIEW);
}

static PyObject *column_read_values(PyObject *object, PyObject *unused)
{
    (void)unused;
    return values_for(object, BUFFER_READ);
}

static PyObject *column_store_values(PyObject *object, PyObject *unused)
{
    (void)unused;
    return values_for(object, BUFFER_STORE);
}

/* Who sees the table already stores nulls by store_null_mask() and the like. */
static PyObject *column_validity(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_column *self = (native_column *)object;
    const pint_column *column = native_column_use(self);
    if (column == NULL) {
        return NULL;
    }
    if (column->validity == NULL) {
        Py_RETURN_NONE;
    }
    return make_buffer(self, column->validity, (pint_table_rows(self->table->handle) + 7) / 8,
                       self->table->is_published ? BUFFER_READ : BUFFER_STORE);
}

/* Text may be written before publishing only, so a published table's is read-only for everyone. */
static PyObject *column_offsets(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_column *self = (native_column *)object;
    const pint_column *column = native_column_use(self);
    if (column == NULL) {
        return NULL;
    }
    if (column->offsets == NULL) {
        Py_RETURN_NONE;
    }
    const uint64_t rows = pint_table_rows(self->table->handle);
    return make_buffer(self, column->offsets, (rows + 1) * sizeof(int64_t),
                       self->table->is_published ? BUFFER_READ : BUFFER_STORE);
}

static PyObject *column_data(PyObject *object, PyObject *unused)
{
    (void)unused;
    native_column *self = (native_column *)object;
    const pint_column *column = native_column_use(self);
    if (column == NULL) {
        return NULL;
    }
    if (column->data == NULL) {
        Py_RETURN_NONE;
    }
    return make_buffer(self, column->data, pint_column_data_bytes(column),
                       self->table->is_published ? BUFFER_READ : BUFFER_STORE);
}

/* ---- versions -------------------------------------------------------------------------------- */

static PyObject *column_mark(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    uint64_t first;
    uint64_t n_rows;
    if (!PyArg_ParseTuple(args, "O&O&:mark", native_u64, &first, native_u64, &n_rows)) {
        return NULL;
    }
    const pint_column *column = native_column_use(self);
    pint_error err;
    if (column == NULL) {
        return NULL;
    }
    if (pint_column_mark(column, first, n_rows, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *column_version(PyObject *object, PyObject *arg)
{
    native_column *self = (native_column *)object;
    uint64_t chunk;
    const pint_column *column = native_column_use(self);
    if (column == NULL || native_u64(arg, &chunk) == 0 ||
        check_chunk(self, chunk, "version") != 0) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(pint_column_version(column, chunk));
}

struct version_wait {
    const pint_column *column;
    uint64_t chunk;
    uint64_t seen;
    uint64_t now;
};

static pint_status try_version(void *context, int64_t timeout_ms, pint_error *err)
{
    struct version_wait *wait = context;
    return pint_column_wait(wait->column, wait->chunk, wait->seen, timeout_ms, &wait->now, err);
}

static PyObject *column_wait(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"chunk", "seen", "timeout", NULL};
    native_column *self = (native_column *)object;
    struct version_wait wait = {0};
    int64_t timeout_ms = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|O&:wait", (char **)names, native_u64,
                                     &wait.chunk, native_u64, &wait.seen, native_timeout,
                                     &timeout_ms)) {
        return NULL;
    }
    wait.column = native_column_begin(self);
    if (wait.column == NULL) {
        return NULL;
    }
    const int status = native_wait(native_state_of(object), try_version, &wait, timeout_ms, "wait");
    native_table_end(self->table);
    return status == PINT_OK ? PyLong_FromUnsignedLongLong(wait.now) : NULL;
}

static PyObject *column_recover(PyObject *object, PyObject *arg)
{
    uint64_t chunk;
    const pint_column *column = native_column_use((native_column *)object);
    pint_error err;
    if (column == NULL || native_u64(arg, &chunk) == 0) {
        return NULL;
    }
    if (pint_column_recover(column, chunk, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static const PyMethodDef own_methods[] = {
    NATIVE_METHOD("values", column_values, METH_NOARGS,
                  "values()\n--\n\nBuffer of the values, bits or codes; None for text. Where the "
                  "table may be written a writable view: devices copy the column each time."),
    NATIVE_METHOD("read_values", column_read_values, METH_NOARGS,
                  "read_values()\n--\n\nThe same, read-only."),
    NATIVE_METHOD("store_values", column_store_values, METH_NOARGS,
                  "store_values()\n--\n\nThe same, for stores under a lease or with mark() "
                  "after them."),
    NATIVE_METHOD("validity", column_validity, METH_NOARGS,
                  "validity()\n--\n\nBuffer of the bitmap, bit 1: a value; None: not nullable."),
    NATIVE_METHOD("offsets", column_offsets, METH_NOARGS,
                  "offsets()\n--\n\nBuffer of rows + 1 int64 offsets of text, else None."),
    NATIVE_METHOD("data", column_data, METH_NOARGS,
                  "data()\n--\n\nBuffer of the bytes of text, else None."),
    NATIVE_METHOD("mark", column_mark, METH_VARARGS,
                  "mark(first, n)\n--\n\nRows stored to plainly have changed."),
    NATIVE_METHOD("version", column_version, METH_O, "version(chunk)\n--\n\nVersion of a chunk."),
    NATIVE_METHOD("wait", column_wait, METH_VARARGS | METH_KEYWORDS,
                  "wait(chunk, seen, timeout=None)\n--\n\n"
                  "Wait for another version than the one seen; gives the new one."),
    NATIVE_METHOD("recover", column_recover, METH_O,
                  "recover(chunk)\n--\n\nAccept a torn chunk's bytes as they are."),
};

/* ---- facts ----------------------------------------------------------------------------------- */

static PyObject *get_table(PyObject *object, void *unused)
{
    (void)unused;
    PyObject *table = (PyObject *)((native_column *)object)->table;
    Py_INCREF((PyObject *)table);
    return table;
}

static PyObject *get_name(PyObject *object, void *unused)
{
    (void)unused;
    const pint_column *column = native_column_use((native_column *)object);
    if (column == NULL) {
        return NULL;
    }
    const char *name = pint_column_name(column);
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

static PyObject *get_zone(PyObject *object, void *unused)
{
    (void)unused;
    const pint_column *column = native_column_use((native_column *)object);
    if (column == NULL) {
        return NULL;
    }
    const char *zone = pint_column_zone(column);
    if (zone[0] == '\0') {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeUTF8(zone, (Py_ssize_t)strlen(zone), "replace");
}

static PyObject *get_nullable(PyObject *object, void *unused)
{
    (void)unused;
    const pint_column *column = native_column_use((native_column *)object);
    return column != NULL ? PyBool_FromLong(pint_column_is_nullable(column)) : NULL;
}

static PyObject *get_metadata(PyObject *object, void *unused)
{
    (void)unused;
    const pint_column *column = native_column_use((native_column *)object);
    if (column == NULL) {
        return NULL;
    }
    uint64_t n_bytes = 0;
    const void *at = pint_column_metadata(column, &n_bytes);
    if (at == NULL || n_bytes == 0) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize(at, (Py_ssize_t)n_bytes);
}

/* Facts that are a number. closure: the function that tells it. */
typedef uint64_t (*number_fact)(const pint_column *column);

static uint64_t tell_type(const pint_column *column)
{
    return column->type;
}

static uint64_t tell_index(const pint_column *column)
{
    return column->index;
}

static uint64_t tell_unit(const pint_column *column)
{
    return pint_column_unit(column);
}

static uint64_t tell_row_bytes(const pint_column *column)
{
    return pint_column_row_bytes(column);
}

static uint64_t tell_list_length(const pint_column *column)
{
    return pint_column_list_length(column);
}

static uint64_t tell_item_type(const pint_column *column)
{
    return pint_column_item_type(column);
}

static const number_fact type_fact = tell_type;
static const number_fact index_fact = tell_index;
static const number_fact unit_fact = tell_unit;
static const number_fact row_bytes_fact = tell_row_bytes;
static const number_fact list_length_fact = tell_list_length;
static const number_fact item_type_fact = tell_item_type;
static const number_fact data_bytes_fact = pint_column_data_bytes;
static const number_fact categories_fact = pint_column_categories;

static PyObject *get_number(PyObject *object, void *fact)
{
    const pint_column *column = native_column_use((native_column *)object);
    return column != NULL ? PyLong_FromUnsignedLongLong((*(const number_fact *)fact)(column))
                          : NULL;
}

#define NATIVE_FACT(name, fact, doc)                                                               \
    {                                                                                              \
        name, get_number, NULL, PyDoc_STR(doc), (void *)(uintptr_t) & (fact)                       \
    }

static PyGetSetDef attributes[] = {
    NATIVE_GET("table", get_table, "Its Table."),
    NATIVE_GET("name", get_name, "Its name."),
    NATIVE_FACT("type", type_fact, "Type number."),
    NATIVE_FACT("index", index_fact, "Position in the table; never changes."),
    NATIVE_GET("nullable", get_nullable, "Whether it has a validity bitmap."),
    NATIVE_FACT("unit", unit_fact, "Unit of timestamps."),
    NATIVE_GET("zone", get_zone, "Zone of timestamps, or None."),
    NATIVE_FACT("row_bytes", row_bytes_fact, "Bytes of a row's value; 0 for bits and text."),
    NATIVE_FACT("list_length", list_length_fact, "Items of a row's list."),
    NATIVE_FACT("item_type", item_type_fact, "Type of an item or of a code."),
    NATIVE_FACT("data_bytes", data_bytes_fact, "Room for text in bytes."),
    NATIVE_FACT("n_categories", categories_fact, "Categories so far."),
    NATIVE_GET("metadata", get_metadata, "The creator's bytes, or None."),
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the type -------------------------------------------------------------------------------- */

#define N_METHODS_MAX 64u

/* The methods of four files, put together once: type slots take one array, which must stay. */
static PyMethodDef methods[N_METHODS_MAX + 1];

static int gather(size_t at, const PyMethodDef *from, size_t n_from)
{
    for (size_t i = 0; i < n_from && from[i].ml_name != NULL; i++) {
        if (at == N_METHODS_MAX) {
            PyErr_SetString(PyExc_SystemError, "too many methods of Column");
            return -1;
        }
        methods[at++] = from[i];
    }
    return (int)at;
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("A column of an open table.")},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.Column",
    .basicsize = sizeof(native_column),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_column_type(PyObject *module)
{
    int n = gather(0, own_methods, sizeof(own_methods) / sizeof(own_methods[0]));
    n = n >= 0 ? gather((size_t)n, native_read_methods, N_METHODS_MAX) : n;
    n = n >= 0 ? gather((size_t)n, native_bits_methods, N_METHODS_MAX) : n;
    n = n >= 0 ? gather((size_t)n, native_text_methods, N_METHODS_MAX) : n;
    return n >= 0 ? (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL) : NULL;
}
