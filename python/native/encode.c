/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Python strings to the buffers of a text column, in private memory: what is refused is known, and
 * how much room the text needs, before a table is created.
 *
 * One pass, since strings lie all over memory and going to each is most of the work. It runs under
 * the interpreter's lock and looks for signals now and then, where other code may run and change
 * the items: nothing read before is relied on after.
 */

#include "native.h"

#include <math.h>
#include <string.h>

#define SIGNALS_EVERY 65536 /* items */
#define CACHE_LINE    64
#define AHEAD         16    /* items fetched before their turn */
#define ROOM_BYTES    65536 /* for text, at first */

/* A one-dimensional array of objects, or a list or tuple. */
struct items {
    Py_buffer view;
    PyObject *sequence; /* NULL: view */
    Py_ssize_t n;
};

static int items_begin(PyObject *objects, struct items *out)
{
    *out = (struct items){0};
    if (PyList_Check(objects) || PyTuple_Check(objects)) {
        out->sequence = PySequence_Tuple(objects); /* one that nobody changes */
        if (out->sequence == NULL) {
            return -1;
        }
        out->n = PyTuple_Size(out->sequence);
        return 0;
    }
    if (PyObject_GetBuffer(objects, &out->view, PyBUF_STRIDED_RO | PyBUF_FORMAT) != 0) {
        return -1;
    }
    if (out->view.ndim != 1 || out->view.format == NULL || strcmp(out->view.format, "O") != 0) {
        PyErr_SetString(PyExc_TypeError, "text: a one-dimensional array of objects is needed");
        PyBuffer_Release(&out->view);
        return -1;
    }
    out->n = out->view.shape[0];
    return 0;
}

static void items_end(struct items *items)
{
    if (items->sequence != NULL) {
        Py_DECREF(items->sequence);
    } else {
        PyBuffer_Release(&items->view);
    }
}

/* Borrowed; NULL for an item that was never set, which reads as None. */
static PyObject *item_at(const struct items *items, Py_ssize_t i)
{
    if (items->sequence != NULL) {
        return PyTuple_GetItem(items->sequence, i);
    }
    PyObject *item;
    memcpy(&item, (const char *)items->view.buf + i * items->view.strides[0], sizeof(item));
    return item;
}

/* Have the processor read an item that comes soon. */
static void fetch_ahead(const struct items *items, Py_ssize_t i)
{
    if (i + AHEAD < items->n) {
        const char *item = (const char *)item_at(items, i + AHEAD);
        __builtin_prefetch(item);
        __builtin_prefetch(item + CACHE_LINE);
    }
}

static int is_missing(PyObject *item, PyObject *missing)
{
    if (item == NULL || item == Py_None) {
        return 1;
    }
    if (PyUnicode_CheckExact(item)) {
        return 0;
    }
    if (PyFloat_Check(item) && isnan(PyFloat_AsDouble(item))) {
        return 1;
    }
    const Py_ssize_t n = PyTuple_Size(missing);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (PyTuple_GetItem(missing, i) == item) {
            return 1;
        }
    }
    return 0;
}

/* Give the exception that is set the attribute row. */
static void tell_row(Py_ssize_t row)
{
    PyObject *type;
    PyObject *value;
    PyObject *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *number = PyLong_FromSsize_t(row);
    if (number == NULL || value == NULL || PyObject_SetAttrString(value, "row", number) != 0) {
        PyErr_Clear(); /* the exception itself matters more */
    }
    Py_XDECREF(number);
    PyErr_Restore(type, value, trace);
}

/* UTF-8 of an item that is not missing; good while the item is not changed. NULL: raised. */
static const char *text_of(PyObject *item, Py_ssize_t row, Py_ssize_t *out_bytes)
{
    const char *text = NULL;
    if (PyUnicode_CheckExact(item) || PyUnicode_Check(item)) { /* the first is no call */
        text = PyUnicode_AsUTF8AndSize(item, out_bytes);       /* refuses lone surrogates */
    } else {
        PyErr_Format(PyExc_TypeError, "row %zd is neither text nor missing: %R", row, item);
    }
    if (text == NULL) {
        tell_row(row);
    }
    return text;
}

/* ---- the buffers of a column ----------------------------------------------------------------- */

/* bytearrays, which nothing else refers to before they are returned */
struct column_text {
    PyObject *offsets;  /* int64, one more than items */
    PyObject *validity; /* bits: 1 for text, 0 for missing and behind the last */
    PyObject *text;
    Py_ssize_t room_bytes; /* size of text */
    Py_ssize_t n_bytes;    /* of it in use */
    Py_ssize_t n_missing;
};

/* Make room for n_more bytes behind what is there. The average of the n_done items decides how much
 * more, so that few steps are needed, but never over four times what is needed now. */
static int grow(struct column_text *out, Py_ssize_t n_more, Py_ssize_t n_done, Py_ssize_t n_items)
{
    if (n_more > PY_SSIZE_T_MAX / 8 - out->n_bytes) {
        (void)PyErr_NoMemory();
        return -1;
    }
    const Py_ssize_t needed = out->n_bytes + n_more;
    const double expected = 1.0625 * (double)needed / (double)(n_done + 1) * (double)n_items;
    Py_ssize_t room = 4 * needed;
    if (expected < (double)room) {
        room = (Py_ssize_t)expected;
    }
    if (room < needed + needed / 4) {
        room = needed + needed / 4;
    }
    if (PyByteArray_Resize(out->text, room) != 0) {
        return -1;
    }
    out->room_bytes = room;
    return 0;
}

/* Encode items [first, stop), first a multiple of eight. Runs no Python code but to raise. */
static int encode_some(struct column_text *out, const struct items *items, PyObject *missing,
                       Py_ssize_t first, Py_ssize_t stop)
{
    int64_t *ends = (int64_t *)(void *)PyByteArray_AsString(out->offsets) + 1;
    uint8_t *validity = (uint8_t *)PyByteArray_AsString(out->validity);
    char *text = PyByteArray_AsString(out->text);
    unsigned bits = 0;
    for (Py_ssize_t i = first; i < stop; i++) {
        fetch_ahead(items, i);
        PyObject *item = item_at(items, i);
        if (is_missing(item, missing)) {
            out->n_missing++;
        } else {
            Py_ssize_t n_bytes;
            const char *source = text_of(item, i, &n_bytes);
            if (source == NULL) {
                return -1;
            }
            if (n_bytes > out->room_bytes - out->n_bytes) {
                if (grow(out, n_bytes, i, items->n) != 0) {
                    return -1;
                }
                text = PyByteArray_AsString(out->text);
            }
            memcpy(text + out->n_bytes, source, (size_t)n_bytes);
            out->n_bytes += n_bytes;
            bits |= 1u << (i % 8);
        }
        ends[i] = out->n_bytes;
        if (i % 8 == 7 || i + 1 == stop) {
            validity[i / 8] = (uint8_t)bits;
            bits = 0;
        }
    }
    return 0;
}

static int encode(struct column_text *out, const struct items *items, PyObject *missing)
{
    const int64_t begin = 0;
    if (items->n >= PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(begin)) {
        (void)PyErr_NoMemory();
        return -1;
    }
    out->room_bytes = ROOM_BYTES;
    out->offsets = PyByteArray_FromStringAndSize(NULL, (items->n + 1) * (Py_ssize_t)sizeof(begin));
    out->validity = PyByteArray_FromStringAndSize(NULL, items->n / 8 + (items->n % 8 != 0));
    out->text = PyByteArray_FromStringAndSize(NULL, out->room_bytes);
    if (out->offsets == NULL || out->validity == NULL || out->text == NULL) {
        return -1;
    }
    memcpy(PyByteArray_AsString(out->offsets), &begin, sizeof(begin));
    for (Py_ssize_t first = 0; first < items->n; first += SIGNALS_EVERY) {
        const Py_ssize_t left = items->n - first;
        const Py_ssize_t stop = first + (left < SIGNALS_EVERY ? left : SIGNALS_EVERY);
        if (encode_some(out, items, missing, first, stop) != 0 || PyErr_CheckSignals() != 0) {
            return -1;
        }
    }
    return PyByteArray_Resize(out->text, out->n_bytes);
}

PyObject *native_encode_text(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *objects;
    PyObject *missing;
    struct items items;
    if (!PyArg_ParseTuple(args, "OO!:encode_text", &objects, &PyTuple_Type, &missing) ||
        items_begin(objects, &items) != 0) {
        return NULL;
    }
    struct column_text out = {0};
    PyObject *result = NULL;
    if (encode(&out, &items, missing) == 0) {
        result = Py_BuildValue("OOOn", out.offsets, out.validity, out.text, out.n_missing);
    }
    items_end(&items);
    Py_XDECREF(out.offsets);
    Py_XDECREF(out.validity);
    Py_XDECREF(out.text);
    return result;
}
