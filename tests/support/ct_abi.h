/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_CT_ABI_H
#define TESTS_SUPPORT_CT_ABI_H

/*
 * The border between the C side (ct.h, ct.c) and the C++ side (ct_gtest.cc) of the test shim:
 * plain data and extern "C" functions, nothing else. No exception may cross it.
 */

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One test. Static storage in the test file; linked into a list by a constructor. */
typedef struct ct_case {
    const char *suite;
    const char *name;
    const char *file;
    int line;
    void (*body)(void);
    int timeout_s; /* seconds until the process is ended; 0 means CT_DEFAULT_TIMEOUT_S */
    struct ct_case *next;
} ct_case;

#define CT_DEFAULT_TIMEOUT_S 60

/* Cases in the order of their registration. Defined in ct.c. */
const ct_case *ct_first_case(void);

/* Implemented in ct.c, called by ct_gtest.cc. */
int ct_proc_main(int argc, char **argv, int *out_status); /* 1: a child; exit with the status */
void ct_case_begin(const ct_case *test);
void ct_case_end(void); /* reports leaked descriptors and children, removes ct_tmpdir() */

/* Implemented in ct_gtest.cc, called by ct.c in the process that runs GoogleTest. */
void ct_gtest_fail(const char *file, int line, int fatal, const char *text);
void ct_gtest_skip(const char *file, int line, const char *why);
int ct_gtest_has_fatal_failure(void);

#ifdef __cplusplus
}
#endif

#endif
