/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PINTABLE_STATUS_H
#define PINTABLE_STATUS_H

/*
 * Status codes and the error record that every fallible call fills.
 *
 * A status is 0 for success, negative for an error, positive for an outcome of a successful call
 * that carries no result (only pint_job_next() has these). Negative codes are grouped by the
 * largest thing the caller must throw away, so that a caller can act on the group alone:
 *
 *   -1  .. -19   this call: nothing has changed, arguments or conditions were not right
 *   -20 .. -39   this table: close it, or recover the chunk the message names
 *   -40 .. -59   the service connection: mapped data stay usable, requests do not work
 *   -60 .. -79   the device copy: drop it, host data are intact
 *   -80 .. -99   this process: out of memory, descriptors or kernel support
 *
 * Numbers are never reused or renumbered.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define PINT_API        __attribute__((visibility("default")))
#    define PINT_MUST_CHECK __attribute__((warn_unused_result))
#else
#    define PINT_API
#    define PINT_MUST_CHECK
#endif

/* name, number, text */
#define PINT_STATUS_MAP(X)                                                                         \
    X(OK, 0, "success")                                                                            \
    X(FINISHED, 1, "the job has no chunk left: each is done or failed")                            \
    X(AGAIN, 2, "the caller's own session holds the only chunks left, or every undo buffer")       \
    X(E_INVALID, -1, "invalid argument")                                                           \
    X(E_RANGE, -2, "value outside its range or limit")                                             \
    X(E_NOT_FOUND, -3, "no such table, column, job or pool")                                       \
    X(E_EXISTS, -4, "the name is taken")                                                           \
    X(E_PERMISSION, -5, "not permitted")                                                           \
    X(E_TYPE, -6, "the column's type does not allow this")                                         \
    X(E_BUSY, -7, "a chunk is leased to another holder")                                           \
    X(E_TIMEOUT, -8, "timed out")                                                                  \
    X(E_CHANGED, -9, "the data changed while they were read")                                      \
    X(E_FROZEN, -10, "the table is frozen")                                                        \
    X(E_UNSUPPORTED, -11, "not supported")                                                         \
    X(E_QUOTA, -12, "byte budget or quota exceeded")                                               \
    X(E_STATE, -13, "not possible in this state")                                                  \
    X(E_LIMIT, -14, "too many of a thing")                                                         \
    X(E_INTERRUPTED, -15, "interrupted")                                                           \
    X(E_TORN, -20, "a writer died inside this chunk and its bytes cannot be trusted")              \
    X(E_DROPPED, -21, "the table was dropped")                                                     \
    X(E_CORRUPT, -22, "shared memory holds a value that cannot be")                                \
    X(E_LEASE_LOST, -23, "the lease is not held any more")                                         \
    X(E_GONE, -40, "the service is gone")                                                          \
    X(E_PROTOCOL, -41, "the service sent something that is not the protocol")                      \
    X(E_VERSION, -42, "library and service speak different versions")                              \
    X(E_NO_SERVICE, -43, "no service runs at this address")                                        \
    X(E_STALE, -44, "the pool was replaced: leave it and join again")                              \
    X(E_NO_DEVICE, -60, "no such device, or no driver that can use it")                            \
    X(E_DEVICE, -61, "the device's driver refused or failed a call")                               \
    X(E_DEVICE_MEMORY, -62, "out of device memory")                                                \
    X(E_DEVICE_AHEAD, -63, "the newest data are on a device, not on the host")                     \
    X(E_DEVICE_LOST, -64, "the device, its context or the device copy is lost")                    \
    X(E_NO_MEMORY, -80, "out of memory")                                                           \
    X(E_SYSTEM, -81, "a system call failed")                                                       \
    X(E_FORKED, -82, "the handle belongs to the process before fork()")                            \
    X(E_FD_LIMIT, -83, "out of file descriptors")

/* The width is ABI; enumerators are named constants of it. */
typedef int32_t pint_status;

enum pint_status_code {
#define PINT_STATUS_ENUM(name, number, text) PINT_##name = number,
    PINT_STATUS_MAP(PINT_STATUS_ENUM)
#undef PINT_STATUS_ENUM
};

#define PINT_IS_CALL_ERROR(s)    ((s) <= -1 && (s) >= -19)
#define PINT_IS_TABLE_ERROR(s)   ((s) <= -20 && (s) >= -39)
#define PINT_IS_SERVICE_ERROR(s) ((s) <= -40 && (s) >= -59)
#define PINT_IS_DEVICE_ERROR(s)  ((s) <= -60 && (s) >= -79)
#define PINT_IS_PROCESS_ERROR(s) ((s) <= -80 && (s) >= -99)

#define PINT_ERROR_MESSAGE_BYTES 240

/**
 * What went wrong, in words. Plain data owned by the caller; every function that takes one accepts
 * NULL. Written only when the call fails; a later failure overwrites it.
 */
typedef struct pint_error {
    pint_status status;                     /* the status the call returned */
    int32_t sys_errno;                      /* errno of the system call behind it, or 0 */
    char message[PINT_ERROR_MESSAGE_BYTES]; /* operation, object, value, limit; always terminated */
} pint_error;

/**
 * The name of a status as written in this header, without PINT_ ("E_BUSY").
 *
 * Owns:    the string is static.
 * Threads: any.
 * On error: an unknown number gives "unknown status".
 * @since 0.1
 */
PINT_API const char *pint_status_name(pint_status status);

/**
 * One sentence about a status, for people. Same rules as pint_status_name().
 * @since 0.1
 */
PINT_API const char *pint_status_text(pint_status status);

#ifdef __cplusplus
}
#endif

#endif
