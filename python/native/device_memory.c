/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DeviceMemory: bytes of a device copy, from which arrays of other packages are made: by address,
 * as a DLPack capsule, and on "host" by the buffer protocol. It keeps the copy open, so the address
 * is good for as long as an array lives; what may be read or written there, and when, is up to
 * brackets.
 *
 * DLPack: layouts of the public specification, versions 0 (unversioned) and 1.0. The consumer calls
 * the deleter once, on any thread, with or without the interpreter's lock. After the interpreter
 * has begun to end nobody may take that lock, so the rest is left to the end of the process.
 */

#include "native.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define DL_MAJOR         1u
#define DL_MINOR         0u
#define DL_FLAG_READONLY 1u
#define DL_FLAG_COPIED   2u
#define DL_CPU           1
#define DL_CUDA          2
#define DIMENSIONS_MAX   2
#define COPY_ALIGNMENT   64u

typedef struct dl_tensor {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t n_dimensions;
    uint8_t type_code;
    uint8_t type_bits;
    uint16_t type_lanes;
    int64_t *shape;
    int64_t *strides; /* in items */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed dl_managed;
struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(dl_managed *self);
};

typedef struct dl_versioned dl_versioned;
struct dl_versioned {
    uint32_t major;
    uint32_t minor;
    void *context;
    void (*deleter)(dl_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
};

_Static_assert(sizeof(dl_tensor) == 48 && sizeof(dl_managed) == 64 && sizeof(dl_versioned) == 80,
               "as in the DLPack specification, 64-bit");

typedef struct native_device_memory {
    PyObject_HEAD native_device_copy *copy; /* one of its n_uses is ours */
    uint64_t address;
    Py_ssize_t n_bytes;
    int is_read_only;
} native_device_memory;

/* What a capsule owns: a reference to the memory, or a copy of its bytes. */
typedef struct exported {
    union {
        dl_managed plain;
        dl_versioned versioned;
    } as;
    int64_t shape[DIMENSIONS_MAX];
    int64_t strides[DIMENSIONS_MAX];
    PyObject *memory; /* strong, or NULL */
    void *copied;     /* or NULL */
} exported;

static atomic_int is_exiting;

void native_device_memory_exit(void)
{
    /* relaxed: deleters that run at the same time are already waiting for the lock we hold */
    atomic_store_explicit(&is_exiting, 1, memory_order_relaxed);
}

/* ---- life ------------------------------------------------------------------------------------ */

PyObject *native_device_copy_memory(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"first_byte", "n_bytes", "validity", "read_only", NULL};
    native_device_copy *copy = (native_device_copy *)object;
    native_state *state = native_state_of(object);
    uint64_t first;
    uint64_t n_bytes;
    int is_validity = 0;
    int is_read_only = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|$pp:memory", (char **)names, native_u64,
                                     &first, native_u64, &n_bytes, &is_validity, &is_read_only)) {
        return NULL;
    }
    const uint64_t room = is_validity ? copy->validity_bytes : copy->values_bytes;
    if (first > room || n_bytes > room - first || n_bytes > PY_SSIZE_T_MAX) {
        return native_raise_as(state, PINT_E_RANGE, "memory: bytes %llu + %llu of %llu",
                               (unsigned long long)first, (unsigned long long)n_bytes,
                               (unsigned long long)room);
    }
    native_device_memory *self =
        (native_device_memory *)PyType_GenericAlloc(state->device_memory_type, 0);
    if (self == NULL) {
        return NULL;
    }
    const pint_copy *handle = native_device_copy_begin(copy);
    if (handle == NULL) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    Py_INCREF(object);
    self->copy = copy;
    self->address = (is_validity ? pint_copy_validity(handle) : pint_copy_values(handle)) + first;
    self->n_bytes = (Py_ssize_t)n_bytes;
    self->is_read_only = is_read_only || !copy->is_writable;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    native_device_memory *self = (native_device_memory *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->copy != NULL) {
        native_device_copy_end(self->copy);
        Py_DECREF((PyObject *)self->copy);
    }
    PyObject_Free(object);
    Py_DECREF(type);
}

static int get_buffer(PyObject *object, Py_buffer *view, int flags)
{
    const native_device_memory *self = (native_device_memory *)object;
    if (self->copy->device->is_cuda) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "memory of a GPU has no buffer on the host");
        return -1;
    }
    return PyBuffer_FillInfo(view, object, (void *)(uintptr_t)self->address, self->n_bytes,
                             self->is_read_only, flags);
}

/* ---- DLPack ---------------------------------------------------------------------------------- */

static void exported_free(exported *e)
{
    if (e->memory == NULL) {
        free(e->copied);
        free(e);
        return;
    }
    /* relaxed: see native_device_memory_exit() */
    if (atomic_load_explicit(&is_exiting, memory_order_relaxed) || !Py_IsInitialized()) {
        return;
    }
    const PyGILState_STATE lock = PyGILState_Ensure();
    PyObject *error_type; /* a deleter leaves the exception that is being raised alone */
    PyObject *error_value;
    PyObject *error_trace;
    PyErr_Fetch(&error_type, &error_value, &error_trace);
    Py_DECREF(e->memory);
    PyErr_Restore(error_type, error_value, error_trace);
    PyGILState_Release(lock);
    free(e);
}

static void delete_plain(dl_managed *managed)
{
    exported_free(managed->context);
}

static void delete_versioned(dl_versioned *managed)
{
    exported_free(managed->context);
}

/* A consumer renames the capsule when it takes what is in it. */
static void end_capsule(PyObject *capsule)
{
    static const char *const names[] = {"dltensor", "dltensor_versioned"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (PyCapsule_IsValid(capsule, names[i])) {
            exported_free(PyCapsule_GetContext(capsule));
            return;
        }
    }
}

static int get_shape(PyObject *tuple, exported *e, uint64_t *out_items)
{
    const Py_ssize_t n = PyTuple_Size(tuple);
    if (n < 1 || n > DIMENSIONS_MAX) {
        PyErr_SetString(PyExc_ValueError, "dlpack: a shape of one or two dimensions is needed");
        return -1;
    }
    uint64_t items = 1;
    for (Py_ssize_t i = n; i-- > 0;) {
        const long long size = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));
        if (size == -1 && PyErr_Occurred() != NULL) {
            return -1;
        }
        e->shape[i] = size;
        e->strides[i] = (int64_t)items;
        if (size < 0 || __builtin_mul_overflow(items, (uint64_t)size, &items)) {
            PyErr_SetString(PyExc_ValueError, "dlpack: this shape cannot be");
            return -1;
        }
    }
    *out_items = items;
    return (int)n;
}

/* The first bytes of the memory in e, which has not got a reference to it. -1: raised */
static int copy_bytes(const native_device_memory *self, exported *e, uint64_t n_bytes)
{
    const size_t room = ((size_t)n_bytes / COPY_ALIGNMENT + 1) * COPY_ALIGNMENT;
    if (self->copy->device->is_cuda) {
        PyErr_SetString(PyExc_BufferError, "memory of a GPU is not copied here");
        return -1;
    }
    e->copied = aligned_alloc(COPY_ALIGNMENT, room);
    if (e->copied == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    PyThreadState *thread = PyEval_SaveThread(); /* the caller has a reference to the memory */
    memcpy(e->copied, (const void *)(uintptr_t)self->address, (size_t)n_bytes);
    PyEval_RestoreThread(thread);
    return 0;
}

static PyObject *memory_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static const char *names[] = {"code", "bits", "shape", "device_id", "versioned", "copy", NULL};
    const native_device_memory *self = (native_device_memory *)object;
    unsigned char code;
    unsigned char bits;
    PyObject *shape;
    int device_id;
    int is_versioned;
    int is_copy = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "bbO!ip|$p:dlpack", (char **)names, &code, &bits,
                                     &PyTuple_Type, &shape, &device_id, &is_versioned, &is_copy)) {
        return NULL;
    }
    exported *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return PyErr_NoMemory();
    }
    uint64_t items = 0;
    const int n_dimensions = get_shape(shape, e, &items);
    if (n_dimensions < 0) {
        free(e);
        return NULL;
    }
    uint64_t n_bytes;
    if (__builtin_mul_overflow(items, (uint64_t)bits / 8, &n_bytes) ||
        n_bytes > (uint64_t)self->n_bytes) {
        free(e);
        PyErr_SetString(PyExc_ValueError, "dlpack: the shape is larger than the memory");
        return NULL;
    }
    if (is_copy && copy_bytes(self, e, n_bytes) != 0) {
        free(e);
        return NULL;
    }
    uint64_t flags = self->is_read_only ? DL_FLAG_READONLY : 0;
    void *data = (void *)(uintptr_t)self->address;
    if (is_copy) {
        flags = DL_FLAG_COPIED;
        data = e->copied;
    }
    const dl_tensor tensor = {
        .data = items != 0 ? data : NULL,
        .device_type = self->copy->device->is_cuda ? DL_CUDA : DL_CPU,
        .device_id = device_id,
        .n_dimensions = n_dimensions,
        .type_code = code,
        .type_bits = bits,
        .type_lanes = 1,
        .shape = e->shape,
        .strides = e->strides,
    };
    if (is_versioned) {
        e->as.versioned = (dl_versioned){.major = DL_MAJOR,
                                         .minor = DL_MINOR,
                                         .context = e,
                                         .deleter = delete_versioned,
                                         .flags = flags,
                                         .tensor = tensor};
    } else {
        e->as.plain = (dl_managed){.tensor = tensor, .context = e, .deleter = delete_plain};
    }
    PyObject *capsule =
        PyCapsule_New(&e->as, is_versioned ? "dltensor_versioned" : "dltensor", NULL);
    if (capsule == NULL) {
        free(e->copied);
        free(e);
        return NULL;
    }
    if (!is_copy) {
        Py_INCREF(object);
        e->memory = object;
    }
    /* these fail for what is no capsule only */
    (void)PyCapsule_SetContext(capsule, e);
    (void)PyCapsule_SetDestructor(capsule, end_capsule);
    return capsule;
}

/* ---- the type -------------------------------------------------------------------------------- */

static PyObject *get_address(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((native_device_memory *)object)->address);
}

static PyObject *get_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((native_device_memory *)object)->n_bytes);
}

static PyObject *get_readonly(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((native_device_memory *)object)->is_read_only);
}

static PyMethodDef methods[] = {
    NATIVE_METHOD("dlpack", memory_dlpack, METH_VARARGS | METH_KEYWORDS,
                  "dlpack(code, bits, shape, device_id, versioned, *, copy=False)\n--\n\n"
                  "A DLPack capsule of it, rows in order; of a copy on \"host\" alone."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    NATIVE_GET("address", get_address, "Device address of the first byte."),
    NATIVE_GET("nbytes", get_nbytes, "Bytes."),
    NATIVE_GET("readonly", get_readonly, "Whether it may not be written to."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_doc, (void *)PyDoc_STR("Bytes of a device copy; keeps the copy open.")},
    {Py_bf_getbuffer, (void *)get_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pintable._native.DeviceMemory",
    .basicsize = sizeof(native_device_memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyTypeObject *native_device_memory_type(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}
