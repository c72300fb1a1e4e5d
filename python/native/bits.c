/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Nulls and bit-packed values, in bulk: a byte a row here, a bit a row in shared memory, least
 * significant bit first.
 *
 * A byte of shared memory that also holds rows outside the range is changed by compare-and-swap,
 * since another process may store those rows at the same time. Bytes wholly inside are the
 * caller's.
 */

#include "native.h"

#include <stdatomic.h>
#include <string.h>

/* ---- packing --------------------------------------------------------------------------------- */

#define EVERY_BYTE 0x0101010101010101u
#define LOW_SEVEN  0x7f7f7f7f7f7f7f7fu
#define HIGH_BIT   0x8080808080808080u

/* Per byte of eight: 1 where it is not 0. */
static uint64_t ones_where_set(uint64_t eight)
{
    return ((((eight & LOW_SEVEN) + LOW_SEVEN) | eight) & HIGH_BIT) >> 7;
}

/* Eight bytes of 0 or 1 for the bits of a byte, the lowest bit first in memory. */
static uint64_t expand(uint8_t bits)
{
    return ones_where_set((bits * EVERY_BYTE) & 0x8040201008040201u);
}

/* The reverse. Byte i is 2^(8 i); the factor's 2^(56 - 7 i) takes it to bit 56 + i, and no two
 * products meet in one bit, so nothing carries. */
static uint8_t collapse(uint64_t eight)
{
    return (uint8_t)((ones_where_set(eight) * 0x0102040810204080u) >> 56);
}

static uint8_t load_byte(const uint8_t *at)
{
    /* relaxed: one byte; what orders it is the chunk's lease or stamp */
    return atomic_load_explicit((const _Atomic uint8_t *)(const void *)at, memory_order_relaxed);
}

/* Bits of mask become those of value; the others belong to others. */
static void merge_byte(uint8_t *at, uint8_t mask, uint8_t value)
{
    _Atomic uint8_t *byte = (_Atomic uint8_t *)(void *)at;
    uint8_t now = atomic_load_explicit(byte, memory_order_relaxed); /* the swap checks it */
    uint8_t next;
    do {
        next = (uint8_t)((now & (uint8_t)~mask) | (value & mask));
        /* release: a value stored before is seen by who acquires the chunk's word later, as with
         * pint_column_set_null() */
    } while (!atomic_compare_exchange_weak_explicit(byte, &now, next, memory_order_release,
                                                    memory_order_relaxed));
}

/* Bits of rows [first, first + n_rows) to bytes. flip 0xff: a clear bit becomes 1. */
static void unpack(const uint8_t *bits, uint64_t first, uint64_t n_rows, uint8_t flip, uint8_t *out)
{
    uint64_t done = 0;
    while (done < n_rows) {
        const uint64_t row = first + done;
        const uint64_t lead = row % 8;
        const uint64_t in_byte = 8 - lead < n_rows - done ? 8 - lead : n_rows - done;
        const uint64_t eight = expand((uint8_t)(load_byte(&bits[row / 8]) ^ flip)) >> (8 * lead);
        memcpy(&out[done], &eight, in_byte);
        done += in_byte;
    }
}

/* Whole bytes, no one else's rows in them: bit r set where is_set[r] is 1. */
static void pack_bits(uint8_t *bits, const uint8_t *is_set, uint64_t n_bytes, uint8_t flip)
{
    for (uint64_t i = 0; i < n_bytes; i++) {
        uint64_t eight;
        memcpy(&eight, &is_set[8 * i], sizeof(eight));
        bits[i] = (uint8_t)(collapse(eight) ^ flip);
    }
}

/* Bytes to the bits of rows [first, first + n_rows). flip 0xff: a byte of 0 becomes a set bit. */
static void pack(uint8_t *bits, uint64_t first, uint64_t n_rows, uint8_t flip, const uint8_t *in)
{
    uint64_t done = 0;
    while (done < n_rows) {
        const uint64_t row = first + done;
        const uint64_t lead = row % 8;
        if (lead == 0 && n_rows - done >= 8) {
            const uint64_t n_bytes = (n_rows - done) / 8;
            pack_bits(&bits[row / 8], &in[done], n_bytes, flip);
            done += 8 * n_bytes;
            continue;
        }
        const uint64_t in_byte = 8 - lead < n_rows - done ? 8 - lead : n_rows - done;
        uint64_t eight = 0;
        memcpy(&eight, &in[done], in_byte);
        const uint8_t mask = (uint8_t)(((1u << in_byte) - 1) << lead);
        merge_byte(&bits[row / 8], mask, (uint8_t)((uint8_t)(collapse(eight) ^ flip) << lead));
        done += in_byte;
    }
}

/* ---- nulls ----------------------------------------------------------------------------------- */

static int check_nullable(const native_column *self, const char *operation)
{
    if (self->column.validity != NULL) {
        return 0;
    }
    (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_TYPE,
                          "%s: column '%s' is not nullable", operation,
                          pint_column_name(&self->column));
    return -1;
}

static PyObject *column_set_null(PyObject *object, PyObject *args)
{
    uint64_t row;
    int is_null;
    if (!PyArg_ParseTuple(args, "O&p:set_null", native_u64, &row, &is_null)) {
        return NULL;
    }
    const pint_column *column = native_column_use((native_column *)object);
    pint_error err;
    if (column == NULL) {
        return NULL;
    }
    if (pint_column_set_null(column, row, is_null, &err) != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *column_set_null_rows(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    PyObject *rows_arg;
    int is_null;
    Py_buffer rows;
    if (!PyArg_ParseTuple(args, "Op:set_null_rows", &rows_arg, &is_null) ||
        native_view_int64(rows_arg, "set_null_rows", &rows) != 0) {
        return NULL;
    }
    const pint_column *column = native_column_begin(self);
    if (column == NULL) {
        PyBuffer_Release(&rows);
        return NULL;
    }
    const int64_t *row = rows.buf;
    const Py_ssize_t n_rows = rows.len / (Py_ssize_t)sizeof(*row);
    pint_status status = PINT_OK;
    pint_error err;
    PyThreadState *thread = PyEval_SaveThread();
    for (Py_ssize_t i = 0; i < n_rows && status == PINT_OK; i++) {
        status = pint_column_set_null(column, (uint64_t)row[i], is_null, &err);
    }
    PyEval_RestoreThread(thread);
    native_table_end(self->table);
    PyBuffer_Release(&rows);
    if (status != PINT_OK) {
        return native_raise(native_state_of(object), &err);
    }
    Py_RETURN_NONE;
}

static PyObject *column_is_null(PyObject *object, PyObject *arg)
{
    native_column *self = (native_column *)object;
    uint64_t row;
    const pint_column *column = native_column_use(self);
    if (column == NULL || native_u64(arg, &row) == 0 ||
        native_column_check_rows(self, row, 1, "is_null") != 0) {
        return NULL;
    }
    return PyBool_FromLong(pint_column_is_null(column, row));
}

static PyObject *column_count_null(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    uint64_t first;
    uint64_t n_rows;
    if (!PyArg_ParseTuple(args, "O&O&:count_null", native_u64, &first, native_u64, &n_rows) ||
        native_column_use(self) == NULL ||
        native_column_check_rows(self, first, n_rows, "count_null") != 0) {
        return NULL;
    }
    const pint_column *column = native_column_begin(self);
    PyThreadState *thread = PyEval_SaveThread();
    const uint64_t n = pint_column_count_null(column, first, n_rows);
    PyEval_RestoreThread(thread);
    native_table_end(self->table);
    return PyLong_FromUnsignedLongLong(n);
}

/* ---- bulk ------------------------------------------------------------------------------------ */

/* (first, n, buffer of n bytes), the rows checked, the table counted as in use. */
struct bulk {
    uint64_t first;
    uint64_t n_rows;
    Py_buffer bytes;
};

static int bulk_begin(native_column *self, PyObject *args, const char *operation, int is_store,
                      struct bulk *out)
{
    PyObject *buffer;
    if (!PyArg_ParseTuple(args, "O&O&O", native_u64, &out->first, native_u64, &out->n_rows,
                          &buffer) ||
        native_column_use(self) == NULL ||
        native_column_check_rows(self, out->first, out->n_rows, operation) != 0 ||
        native_view_bytes(buffer, out->n_rows, !is_store, operation, &out->bytes) != 0) {
        return -1;
    }
    /* asked now, after the buffer's owner may have run code */
    if (native_column_begin(self) == NULL) {
        PyBuffer_Release(&out->bytes);
        return -1;
    }
    if (is_store && native_column_check_write(self, operation) != 0) {
        native_table_end(self->table);
        PyBuffer_Release(&out->bytes);
        return -1;
    }
    return 0;
}

static void bulk_end(native_column *self, struct bulk *bulk)
{
    native_table_end(self->table);
    PyBuffer_Release(&bulk->bytes);
}

static void bulk_store(uint8_t *bits, const struct bulk *bulk, uint8_t flip)
{
    PyThreadState *thread = PyEval_SaveThread();
    pack(bits, bulk->first, bulk->n_rows, flip, bulk->bytes.buf);
    PyEval_RestoreThread(thread);
}

static void bulk_load(const uint8_t *bits, const struct bulk *bulk, uint8_t flip)
{
    PyThreadState *thread = PyEval_SaveThread();
    unpack(bits, bulk->first, bulk->n_rows, flip, bulk->bytes.buf);
    PyEval_RestoreThread(thread);
}

static PyObject *column_null_mask(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    struct bulk bulk;
    if (bulk_begin(self, args, "null_mask", 0, &bulk) != 0) {
        return NULL;
    }
    if (self->column.validity != NULL) {
        bulk_load(self->column.validity, &bulk, 0xff);
    } else if (bulk.n_rows != 0) {
        memset(bulk.bytes.buf, 0, bulk.n_rows);
    }
    bulk_end(self, &bulk);
    Py_RETURN_NONE;
}

static PyObject *column_store_null_mask(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    struct bulk bulk;
    if (bulk_begin(self, args, "store_null_mask", 1, &bulk) != 0) {
        return NULL;
    }
    const int is_bad = check_nullable(self, "store_null_mask");
    if (is_bad == 0) {
        bulk_store(self->column.validity, &bulk, 0xff);
    }
    bulk_end(self, &bulk);
    if (is_bad != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int check_bits(const native_column *self, const char *operation)
{
    if (self->column.type == PINT_BOOL) {
        return 0;
    }
    (void)native_raise_as(native_state_of((PyObject *)self), PINT_E_TYPE,
                          "%s: column '%s' is of type %s, not bit", operation,
                          pint_column_name(&self->column), pint_type_name(self->column.type));
    return -1;
}

static PyObject *column_get_bools(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    struct bulk bulk;
    if (bulk_begin(self, args, "get_bools", 0, &bulk) != 0) {
        return NULL;
    }
    const int is_bad = check_bits(self, "get_bools");
    if (is_bad == 0) {
        bulk_load(self->column.values, &bulk, 0);
    }
    bulk_end(self, &bulk);
    if (is_bad != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *column_store_bools(PyObject *object, PyObject *args)
{
    native_column *self = (native_column *)object;
    struct bulk bulk;
    if (bulk_begin(self, args, "store_bools", 1, &bulk) != 0) {
        return NULL;
    }
    const int is_bad = check_bits(self, "store_bools");
    if (is_bad == 0) {
        bulk_store(self->column.values, &bulk, 0);
    }
    bulk_end(self, &bulk);
    if (is_bad != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef native_bits_methods[] = {
    NATIVE_METHOD("set_null", column_set_null, METH_VARARGS,
                  "set_null(row, is_null)\n--\n\nMark a row null, or not; its value stays."),
    NATIVE_METHOD("set_null_rows", column_set_null_rows, METH_VARARGS,
                  "set_null_rows(rows, is_null)\n--\n\n"
                  "The same for a buffer of int64 rows; rows before a bad one are marked."),
    NATIVE_METHOD("is_null", column_is_null, METH_O, "is_null(row)\n--\n\nWhether a row is null."),
    NATIVE_METHOD("count_null", column_count_null, METH_VARARGS,
                  "count_null(first, n)\n--\n\nNulls among rows."),
    NATIVE_METHOD("null_mask", column_null_mask, METH_VARARGS,
                  "null_mask(first, n, out)\n--\n\nout[i] = 1 where row first + i is null."),
    NATIVE_METHOD("store_null_mask", column_store_null_mask, METH_VARARGS,
                  "store_null_mask(first, n, mask)\n--\n\n"
                  "Rows become null where the mask is not 0, and not null elsewhere."),
    NATIVE_METHOD("get_bools", column_get_bools, METH_VARARGS,
                  "get_bools(first, n, out)\n--\n\nBits to bytes of 0 and 1."),
    NATIVE_METHOD("store_bools", column_store_bools, METH_VARARGS,
                  "store_bools(first, n, values)\n--\n\nBytes to bits; not 0 is true."),
    {NULL, NULL, 0, NULL},
};
