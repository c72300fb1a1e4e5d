/* SPDX-License-Identifier: Apache-2.0 */

/* Pool.create(): tuples to a schema. */

#include "native.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of a bytes object, or nothing for None; borrowed. */
static int get_metadata(PyObject *object, const void **out, uint64_t *out_bytes)
{
    *out = NULL;
    *out_bytes = 0;
    if (object == Py_None) {
        return 0;
    }
    char *at;
    Py_ssize_t n_bytes;
    if (PyBytes_AsStringAndSize(object, &at, &n_bytes) != 0) {
        return -1;
    }
    *out = n_bytes != 0 ? at : NULL;
    *out_bytes = (uint64_t)n_bytes;
    return 0;
}

/* What field points to is owned by the tuple. */
static int get_field(PyObject *tuple, pint_field *field)
{
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "create: a field is a tuple");
        return -1;
    }
    *field = (pint_field)PINT_FIELD_INIT;
    int is_nullable;
    PyObject *zone;
    PyObject *metadata;
    if (!PyArg_ParseTuple(tuple, "O&O&pO&OO&O&O&O&O&O;create: a field has 11 items", native_name,
                          &field->name, native_u32, &field->type, &is_nullable, native_u32,
                          &field->unit, &zone, native_u32, &field->width_bytes, native_u32,
                          &field->list_length, native_u32, &field->item_type, native_u64,
                          &field->data_bytes, native_u64, &field->n_categories, &metadata)) {
        return -1;
    }
    field->flags = is_nullable ? PINT_NULLABLE : 0;
    if (zone != Py_None && native_name(zone, &field->zone) == 0) {
        return -1;
    }
    return get_metadata(metadata, &field->metadata, &field->metadata_bytes);
}

static pint_field *get_fields(PyObject *tuple, Py_ssize_t n_fields)
{
    pint_field *fields = PyMem_Calloc((size_t)n_fields + 1, sizeof(*fields));
    if (fields == NULL) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n_fields; i++) {
        if (get_field(PyTuple_GetItem(tuple, i), &fields[i]) != 0) {
            PyMem_Free(fields);
            return NULL;
        }
    }
    return fields;
}

PyObject *native_pool_create(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"name",  "fields",   "rows", "chunk_rows",
                                  "flags", "metadata", NULL};
    native_pool *self = (native_pool *)object;
    native_state *state = native_state_of(object);
    pint_schema schema = PINT_SCHEMA_INIT;
    const char *name;
    PyObject *fields_arg;
    uint64_t n_rows;
    PyObject *metadata = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&OO&|O&O&O:create", (char **)names,
                                     native_name, &name, &fields_arg, native_u64, &n_rows,
                                     native_u64, &schema.chunk_rows, native_u32, &schema.flags,
                                     &metadata) ||
        get_metadata(metadata, &schema.metadata, &schema.metadata_bytes) != 0) {
        return NULL;
    }
    /* A tuple of tuples of ours: nobody can change it while the lock is given up. */
    PyObject *tuple = PySequence_Tuple(fields_arg);
    if (tuple == NULL) {
        return NULL;
    }
    const Py_ssize_t n_fields = PyTuple_Size(tuple);
    pint_field *fields = NULL;
    native_table *table = NULL;
    if (n_fields > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "create: too many fields");
        goto done;
    }
    fields = get_fields(tuple, n_fields);
    table = fields != NULL ? native_table_alloc(state, self) : NULL;
    if (table == NULL) {
        goto done;
    }
    schema.n_fields = (uint32_t)n_fields;
    schema.fields = fields;
    pint_table *handle;
    pint_error err;
    PyThreadState *thread = native_wait_begin();
    const pint_status status =
        pint_table_create(self->handle, name, &schema, n_rows, &handle, &err);
    native_wait_end(thread);
    if (status == PINT_OK) {
        native_table_opened(table, handle, 0);
    } else {
        Py_CLEAR(table);
        (void)native_raise(state, &err);
    }
done:
    PyMem_Free(fields);
    Py_DECREF(tuple);
    return (PyObject *)table;
}
