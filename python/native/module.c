/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The module: types, constants, the table of exception classes, and what happens when the process
 * forks and when the interpreter ends.
 *
 * Interpreters: state is per module object, and the main thread is the same for all (interrupt.c),
 * so interpreters that share a lock can each have theirs. Those with a lock of their own are not
 * announced as supported; Python then refuses the import there.
 */

#include "native.h"

native_state *native_state_of(PyObject *object)
{
    native_state *state = PyType_GetModuleState(Py_TYPE(object));
    if (state == NULL) {
        PyErr_Clear();
    }
    return state;
}

/* ---- functions ------------------------------------------------------------------------------- */

static PyObject *set_errors(PyObject *module, PyObject *args)
{
    PyObject *errors;
    PyObject *default_error;
    if (!PyArg_ParseTuple(args, "O!O:_set_errors", &PyDict_Type, &errors, &default_error)) {
        return NULL;
    }
    native_state *state = PyModule_GetState(module);
    PyObject *copy = PyDict_Copy(errors); /* later changes by the caller are not meant */
    if (copy == NULL) {
        return NULL;
    }
    PyObject *old_errors = state->errors;
    PyObject *old_default = state->default_error;
    Py_INCREF(default_error);
    state->errors = copy;
    state->default_error = default_error;
    Py_XDECREF(old_errors);
    Py_XDECREF(old_default);
    Py_RETURN_NONE;
}

static PyObject *status_name(PyObject *module, PyObject *arg)
{
    (void)module;
    const long status = PyLong_AsLong(arg);
    if (status == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    const pint_status known =
        status < INT32_MIN || status > INT32_MAX ? INT32_MIN : (pint_status)status;
    return PyUnicode_FromString(pint_status_name(known));
}

/* Called by atexit: objects that die from here on are not taken apart. The end of the process gives
 * all of it back, and views that other modules keep stay good to the last moment. */
static PyObject *at_exit(PyObject *module, PyObject *unused)
{
    (void)unused;
    native_state *state = PyModule_GetState(module);
    state->is_exiting = 1;
    native_device_memory_exit();
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    NATIVE_METHOD("_set_errors", set_errors, METH_VARARGS,
                  "_set_errors(classes, default)\n--\n\n"
                  "Exception classes by status number; raised as cls(message, status, errno)."),
    NATIVE_METHOD("_after_fork", native_after_fork, METH_NOARGS, NULL),
    NATIVE_METHOD("_at_exit", at_exit, METH_NOARGS, NULL),
    NATIVE_METHOD("status_name", status_name, METH_O,
                  "status_name(status)\n--\n\nName of a status, such as 'E_BUSY'."),
    NATIVE_METHOD("copy", native_copy, METH_O,
                  "copy(pairs)\n--\n\n"
                  "Copy the items of each source into its target, a contiguous buffer of as many "
                  "bytes.\n\nNone of them may change or overlap meanwhile."),
    NATIVE_METHOD("encode_text", native_encode_text, METH_VARARGS,
                  "encode_text(objects, missing)\n--\n\n"
                  "(offsets, validity, text, number missing): buffers of a text column, from a "
                  "sequence or object array of str.\n\n"
                  "Missing are None, NaN and what is identical to an item of missing."),
    {NULL, NULL, 0, NULL},
};

/* ---- constants ------------------------------------------------------------------------------- */

struct constant {
    const char *name;
    long value;
};

static const struct constant constants[] = {
    {"READ", PINT_READ},
    {"WRITE", PINT_WRITE},
    {"REPLACE", PINT_REPLACE},
    {"IN", PINT_IN},
    {"OUT", PINT_OUT},
    {"INOUT", PINT_INOUT},
    {"UPDATE", PINT_UPDATE},
    {"BOOL", PINT_BOOL},
    {"BOOL8", PINT_BOOL8},
    {"INT8", PINT_INT8},
    {"INT16", PINT_INT16},
    {"INT32", PINT_INT32},
    {"INT64", PINT_INT64},
    {"UINT8", PINT_UINT8},
    {"UINT16", PINT_UINT16},
    {"UINT32", PINT_UINT32},
    {"UINT64", PINT_UINT64},
    {"FLOAT16", PINT_FLOAT16},
    {"FLOAT32", PINT_FLOAT32},
    {"FLOAT64", PINT_FLOAT64},
    {"DATE32", PINT_DATE32},
    {"TIMESTAMP", PINT_TIMESTAMP},
    {"BINARY_FIXED", PINT_BINARY_FIXED},
    {"TEXT", PINT_TEXT},
    {"DICT_TEXT", PINT_DICT_TEXT},
    {"LIST_FIXED", PINT_LIST_FIXED},
    {"UNIT_NONE", PINT_UNIT_NONE},
    {"SECOND", PINT_SECOND},
    {"MILLISECOND", PINT_MILLISECOND},
    {"MICROSECOND", PINT_MICROSECOND},
    {"NANOSECOND", PINT_NANOSECOND},
    {"UNINITIALISED", PINT_UNINITIALISED},
    {"KEPT", PINT_KEPT},
    {"COPY_VMM", PINT_COPY_VMM},
    {"COPY_IPC", PINT_COPY_IPC},
    {"COPY_EXISTING", PINT_COPY_EXISTING},
    {"NAME_BYTES_MAX", PINT_NAME_BYTES_MAX},
    {"ZONE_BYTES_MAX", PINT_ZONE_BYTES_MAX},
    {"METADATA_BYTES_MAX", PINT_METADATA_BYTES_MAX},
};

static const struct constant statuses[] = {
#define STATUS(name, number, text) {#name, number},
    PINT_STATUS_MAP(STATUS)
#undef STATUS
};

static int add_constants(PyObject *module)
{
    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) != 0) {
            return -1;
        }
    }
    if (PyModule_AddStringConstant(module, "version", PINT_VERSION_STRING) != 0) {
        return -1;
    }
    PyObject *names = PyDict_New();
    if (names == NULL) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        PyObject *number = PyLong_FromLong(statuses[i].value);
        if (number == NULL || PyDict_SetItemString(names, statuses[i].name, number) != 0) {
            Py_XDECREF(number);
            Py_DECREF(names);
            return -1;
        }
        Py_DECREF(number);
    }
    const int added = PyModule_AddObjectRef(module, "statuses", names);
    Py_DECREF(names);
    return added;
}

/* ---- life of the module ---------------------------------------------------------------------- */

static int add_type(PyObject *module, PyTypeObject *type, PyTypeObject **out_type)
{
    *out_type = type; /* owned by the state */
    return type != NULL ? PyModule_AddType(module, type) : -1;
}

static int add_types(PyObject *module, native_state *state)
{
    return add_type(module, native_pool_type(module), &state->pool_type) == 0 &&
                   add_type(module, native_table_type(module), &state->table_type) == 0 &&
                   add_type(module, native_column_type(module), &state->column_type) == 0 &&
                   add_type(module, native_buffer_type(module), &state->buffer_type) == 0 &&
                   add_type(module, native_lease_type(module), &state->lease_type) == 0 &&
                   add_type(module, native_job_type(module), &state->job_type) == 0 &&
                   add_type(module, native_device_type(module), &state->device_type) == 0 &&
                   add_type(module, native_device_copy_type(module), &state->device_copy_type) ==
                       0 &&
                   add_type(module, native_device_bracket_type(module),
                            &state->device_bracket_type) == 0 &&
                   add_type(module, native_device_memory_type(module),
                            &state->device_memory_type) == 0
               ? 0
               : -1;
}

/* owner.method(handler), or owner.method(key=handler). */
static int call_registrar(const char *owner, const char *method, const char *key, PyObject *handler)
{
    PyObject *module = PyImport_ImportModule(owner);
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, method) : NULL;
    PyObject *args = key == NULL ? PyTuple_Pack(1, handler) : PyTuple_New(0);
    PyObject *kwargs = key == NULL ? NULL : Py_BuildValue("{sO}", key, handler);
    PyObject *result = NULL;
    if (function != NULL && args != NULL && (key == NULL || kwargs != NULL)) {
        result = PyObject_Call(function, args, kwargs);
    }
    Py_XDECREF(result);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(function);
    Py_XDECREF(module);
    return result != NULL ? 0 : -1;
}

static int add_handlers(PyObject *module)
{
    PyObject *forked = PyObject_GetAttrString(module, "_after_fork");
    PyObject *exiting = PyObject_GetAttrString(module, "_at_exit");
    const int added =
        forked != NULL && exiting != NULL &&
                call_registrar("os", "register_at_fork", "after_in_child", forked) == 0 &&
                call_registrar("atexit", "register", NULL, exiting) == 0
            ? 0
            : -1;
    Py_XDECREF(forked);
    Py_XDECREF(exiting);
    return added;
}

static int execute(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    return add_types(module, state) == 0 && add_constants(module) == 0 &&
                   native_interrupt_install() == 0 && add_handlers(module) == 0
               ? 0
               : -1;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    native_state *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
    Py_VISIT(state->pool_type);
    Py_VISIT(state->table_type);
    Py_VISIT(state->column_type);
    Py_VISIT(state->buffer_type);
    Py_VISIT(state->lease_type);
    Py_VISIT(state->job_type);
    Py_VISIT(state->device_type);
    Py_VISIT(state->device_copy_type);
    Py_VISIT(state->device_bracket_type);
    Py_VISIT(state->device_memory_type);
    Py_VISIT(state->errors);
    Py_VISIT(state->default_error);
    return 0;
}

static int clear(PyObject *module)
{
    native_state *state = PyModule_GetState(module);
    if (state == NULL) {
        return 0;
    }
    Py_CLEAR(state->pool_type);
    Py_CLEAR(state->table_type);
    Py_CLEAR(state->column_type);
    Py_CLEAR(state->buffer_type);
    Py_CLEAR(state->lease_type);
    Py_CLEAR(state->job_type);
    Py_CLEAR(state->device_type);
    Py_CLEAR(state->device_copy_type);
    Py_CLEAR(state->device_bracket_type);
    Py_CLEAR(state->device_memory_type);
    Py_CLEAR(state->errors);
    Py_CLEAR(state->default_error);
    return 0;
}

static void release(void *module)
{
    (void)clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "pintable._native",
    .m_doc = PyDoc_STR("The C library of pintable as Python objects. Private: use pintable."),
    .m_size = sizeof(native_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
