/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ctrl-C. The library asks the function below while it waits (pint_set_interrupt()); it runs the
 * handlers of signals that have come, as the interpreter would between two lines. When one of them
 * raises, the call ends and what it raised goes out (native_raise()).
 *
 * Only Python's main thread runs handlers, so only it is asked: any other might find the
 * interpreter ended, and would be ended itself, with locks of the library held. And it is asked
 * only in calls that gave the interpreter's lock up through native_wait_begin(): those that can
 * report an exception. A handler may run any Python code, calls of this module among it; so what is
 * known of the call that asked is put aside meanwhile.
 */

#include "native.h"

static unsigned long main_thread;            /* of the process, guarded by the interpreter's lock */
static _Thread_local PyThreadState *waiting; /* the thread's, while it may be asked */

PyThreadState *native_wait_begin(void)
{
    const int is_main = PyThread_get_thread_ident() == main_thread;
    PyThreadState *thread = PyEval_SaveThread();
    waiting = is_main ? thread : NULL;
    return thread;
}

void native_wait_end(PyThreadState *thread)
{
    waiting = NULL;
    PyEval_RestoreThread(thread);
}

static int ask(void *context)
{
    PyThreadState *thread = waiting;
    (void)context;
    if (thread == NULL) {
        return 0;
    }
    waiting = NULL;
    PyEval_RestoreThread(thread);
    /* raised before: the library has asked again after it was told to end the call */
    const int ends = PyErr_Occurred() != NULL || PyErr_CheckSignals() != 0;
    (void)PyEval_SaveThread();
    waiting = thread;
    return ends;
}

void native_interrupt_after_fork(void)
{
    main_thread = PyThread_get_thread_ident(); /* the only one */
}

int native_interrupt_install(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread =
        threading != NULL ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = thread != NULL ? PyObject_GetAttrString(thread, "ident") : NULL;
    const unsigned long number = ident != NULL ? PyLong_AsUnsignedLong(ident) : 0;
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    if (PyErr_Occurred() != NULL) {
        return -1;
    }
    main_thread = number;
    pint_set_interrupt(ask, NULL);
    return 0;
}
