/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PYTHON_NATIVE_H
#define PYTHON_NATIVE_H

/*
 * pintable._native: the C library as Python objects, one to one and without opinions; everything
 * that a user sees is made of these by the modules beside it. Limited API of Python 3.11, so that
 * one file serves every later version. Only what the public headers offer is used.
 *
 *   Pool <- Table <- Column          an arrow is a strong reference
 *    ^        ^---- Buffer, Lease, Job
 *    |
 *    +-- Device <- DeviceCopy <- DeviceBracket, DeviceMemory
 *
 * No object refers to one that could refer back, so there are no cycles and no type takes part in
 * garbage collection.
 *
 * The interpreter's lock guards every field of every object here. Calls that wait, talk to the
 * service or go over many rows give the lock up; what such a call uses is held by a count
 * (native_table_begin()) first, so that a close() in another thread is put off, not raced.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pintable/pintable.h>

typedef struct native_pool native_pool;
typedef struct native_table native_table;
typedef struct native_column native_column;
typedef struct native_buffer native_buffer;
typedef struct native_lease native_lease;
typedef struct native_job native_job;
typedef struct native_device native_device;
typedef struct native_device_copy native_device_copy;

/* Of the module; reached from any object through its type. */
typedef struct native_state {
    PyTypeObject *pool_type;
    PyTypeObject *table_type;
    PyTypeObject *column_type;
    PyTypeObject *buffer_type;
    PyTypeObject *lease_type;
    PyTypeObject *job_type;
    PyTypeObject *device_type;
    PyTypeObject *device_copy_type;
    PyTypeObject *device_bracket_type;
    PyTypeObject *device_memory_type;
    PyObject *errors;        /* dict: status -> exception class; NULL before _set_errors() */
    PyObject *default_error; /* for statuses not in it */
    native_pool *pools;      /* every Pool alive, for the fork handler; borrowed */
    int is_exiting;          /* the interpreter ends: nothing is closed or left any more */
} native_state;

struct native_pool {
    PyObject_HEAD pint_pool *handle;
    native_pool *next;
    Py_ssize_t n_tables; /* handles of it that are open */
    int is_read_only;
};

struct native_table {
    PyObject_HEAD native_pool *pool;
    pint_table *handle;      /* NULL: given up, or moved into successor */
    native_table *successor; /* add_columns() moved the memory there; one of its n_views is ours */
    Py_ssize_t n_calls;      /* what may still use the handle: calls, leases, jobs, capsules */
    Py_ssize_t n_views;      /* what only needs the memory: buffers, moved tables with buffers */
    int is_closed;           /* for the user; the handle goes when both counts are 0 */
    int is_published;        /* as far as this handle knows */
};

struct native_column {
    PyObject_HEAD native_table *table;
    pint_column column; /* its pointers are good while the table's handle is open */
};

struct native_job {
    PyObject_HEAD native_table *table; /* one of its n_calls is ours while handle is not NULL */
    pint_job *handle;
    PyObject *name;
    Py_ssize_t n_calls; /* calls and leases that use the handle */
    int is_closed;
};

struct native_device {
    PyObject_HEAD native_pool *pool;
    pint_device *handle;
    Py_ssize_t n_calls; /* calls, streams and copies that use the handle */
    int is_closed;
    int is_cuda;
};

struct native_device_copy {
    PyObject_HEAD native_device *device; /* one of its n_calls is ours while handle is not NULL */
    pint_copy *handle;
    Py_ssize_t n_uses; /* calls, open brackets, memories */
    uint64_t values_bytes;
    uint64_t validity_bytes; /* 0: not nullable */
    int is_closed;
    int is_writable;
};

/* module.c */
native_state *native_state_of(PyObject *object); /* NULL only when the interpreter takes it apart */

/* interrupt.c: give the interpreter's lock up for a call that may wait and can raise, and take it
 * back. Signal handlers may run between the two, and what they raise is set at the end, with a
 * status that is an error. Other calls that give the lock up are not interrupted. */
PyThreadState *native_wait_begin(void);
void native_wait_end(PyThreadState *thread);
int native_interrupt_install(void); /* -1: raised */
void native_interrupt_after_fork(void);

/* error.c: raising. All return NULL, with an exception set: the one that is set already, if a
 * signal handler raised it. */
void *native_raise(native_state *state, const pint_error *err);
void *native_raise_as(native_state *state, pint_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A call that waits. Runs without the interpreter's lock. */
typedef pint_status (*native_try)(void *context, int64_t timeout_ms, pint_error *err);

/* Make the call, which signals may end. timeout_ms: -1 no limit, 0 one try. The outcome is >= 0; -1
 * with an exception set. */
int native_wait(native_state *state, native_try call, void *context, int64_t timeout_ms,
                const char *operation);

/* convert.c: converters for "O&": 1, or 0 with an exception set. */
int native_u32(PyObject *object, void *out);     /* uint32_t */
int native_u64(PyObject *object, void *out);     /* uint64_t */
int native_name(PyObject *object, void *out);    /* const char *, borrowed from a str */
int native_timeout(PyObject *object, void *out); /* int64_t ms: None is -1 */
/* Views, to be released. Contiguous; bytes: item size 1; int64: item size 8, signed. -1: raised */
int native_view_bytes(PyObject *object, uint64_t n_bytes, int is_writable, const char *what,
                      Py_buffer *out);
int native_view_int64(PyObject *object, const char *what, Py_buffer *out);

/* pool.c */
PyTypeObject *native_pool_type(PyObject *module);
PyObject *native_after_fork(PyObject *module, PyObject *unused);

/* schema.c */
PyObject *native_pool_create(PyObject *self, PyObject *args, PyObject *kwargs);

/* table.c */
PyTypeObject *native_table_type(PyObject *module);
native_table *native_table_alloc(native_state *state, native_pool *pool);
void native_table_opened(native_table *table, pint_table *handle, int is_published);
pint_table *native_table_handle(const native_table *table); /* NULL and raised when closed */
pint_table *native_table_begin(native_table *table);        /* the same, and counted */
void native_table_end(native_table *table);
void native_table_view_begin(native_table *table);
void native_table_view_end(native_table *table);

/* column.c */
PyTypeObject *native_column_type(PyObject *module);
PyObject *native_column_new(native_table *table, const pint_column *column);
/* The table is open, else NULL and raised; as native_table_begin(), ended by native_table_end(). */
const pint_column *native_column_use(const native_column *self);
const pint_column *native_column_begin(native_column *self);
/* Rows inside the table; the table may be written. Else -1 and raised. */
int native_column_check_rows(const native_column *self, uint64_t first, uint64_t n_rows,
                             const char *operation);
int native_column_check_write(const native_column *self, const char *operation);

/* read.c: methods of Column that read while others write */
extern PyMethodDef native_read_methods[];

/* bits.c: methods of Column for nulls and bits */
extern PyMethodDef native_bits_methods[];

/* text.c: methods of Column for text and categories */
extern PyMethodDef native_text_methods[];

/* copy.c: a function of the module */
PyObject *native_copy(PyObject *module, PyObject *pairs);

/* encode.c: a function of the module */
PyObject *native_encode_text(PyObject *module, PyObject *args);

/* buffer.c */
PyTypeObject *native_buffer_type(PyObject *module);
/* Takes the view, also when it fails. */
PyObject *native_buffer_new(native_table *table, void *address, uint64_t n_bytes, int is_read_only,
                            pint_view *view);

/* lease.c */
PyTypeObject *native_lease_type(PyObject *module);
PyObject *native_table_claim(PyObject *self, PyObject *args, PyObject *kwargs);
/* A lease to be filled by a job, and its ends. NULL / -1 and raised. */
native_lease *native_lease_alloc(native_state *state, native_table *table, native_job *job);
pint_lease *native_lease_plain(native_lease *lease);
void native_lease_taken(native_lease *lease);
enum native_lease_end { LEASE_DONE, LEASE_FAIL, LEASE_REJECT };
int native_lease_end_job(native_lease *lease, native_job *job, enum native_lease_end how,
                         const char *text);

/* job.c */
PyTypeObject *native_job_type(PyObject *module);
PyObject *native_table_job(PyObject *self, PyObject *args, PyObject *kwargs);
pint_job *native_job_begin(native_job *job); /* NULL and raised when closed */
void native_job_end(native_job *job);

/* device.c */
PyTypeObject *native_device_type(PyObject *module);
pint_device *native_device_begin(native_device *device); /* NULL and raised when closed; counted */
void native_device_end(native_device *device);

/* device_copy.c */
PyTypeObject *native_device_copy_type(PyObject *module);
PyObject *native_device_open_copy(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *native_device_discard_copy(PyObject *self, PyObject *column);
pint_copy *native_device_copy_begin(native_device_copy *copy); /* NULL and raised when closed */
void native_device_copy_end(native_device_copy *copy);

/* device_bracket.c */
PyTypeObject *native_device_bracket_type(PyObject *module);
PyObject *native_device_begin_rows(PyObject *self, PyObject *args, PyObject *kwargs);

/* device_memory.c */
PyTypeObject *native_device_memory_type(PyObject *module);
PyObject *native_device_copy_memory(PyObject *self, PyObject *args, PyObject *kwargs);
void native_device_memory_exit(void); /* the interpreter ends: see there */

/* Docstrings and casts of method tables. A method's C type depends on its flags; the void (*)(void)
 * between keeps the compiler from taking the cast for a mistake. */
#define NATIVE_METHOD(name, function, flags, doc)                                                  \
    {                                                                                              \
        name, (PyCFunction)(void (*)(void))(function), flags, PyDoc_STR(doc)                       \
    }
#define NATIVE_GET(name, function, doc)                                                            \
    {                                                                                              \
        name, function, NULL, PyDoc_STR(doc), NULL                                                 \
    }

#endif
