/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SUPPORT_CT_H
#define TESTS_SUPPORT_CT_H

/*
 * Tests in C, run by GoogleTest.
 *
 *     TEST(ChunkLease, SecondWriterWaitsUntilRelease, .timeout_s = 10)
 *     {
 *         ASSERT_OK(pint_pool_join(NULL, NULL, &pool, &err), &err);
 *         EXPECT_EQ(n_rows, 42);
 *     }
 *
 * A test fails when an expectation fails, when it leaves descriptors open or children running, and
 * when it runs longer than its timeout. ASSERT_* return from the function they stand in, which must
 * return void; after a call of a function that asserts, use ASSERT_NO_FATAL(f()).
 * Operands are evaluated once. Integers compare by value: -1 never equals UINT64_MAX.
 *
 * Other processes are started with ct_spawn() and run a PROC(name) body of the same program. They
 * report by exit status. EXPECT_* and CT_REQUIRE() may be used there: a failure is printed and
 * makes the status CT_PROC_FAILED.
 */

#ifdef __cplusplus
#    error "ct.h is for C tests"
#endif

#include "pintable/status.h"
#include "tests/support/ct_abi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- Tests ------------------------------------------------------------------------------------ */

/* Options after the name are designated initialisers of ct_case: .timeout_s = 5. */
#define TEST(suite_, name_, ...)                                                                   \
    static void ct_body_##suite_##_##name_(void);                                                  \
    static ct_case ct_case_##suite_##_##name_ = {.suite = #suite_,                                 \
                                                 .name = #name_,                                   \
                                                 .file = __FILE__,                                 \
                                                 .line = __LINE__,                                 \
                                                 .body = ct_body_##suite_##_##name_,               \
                                                 __VA_ARGS__};                                     \
    __attribute__((constructor)) static void ct_register_##suite_##_##name_(void)                  \
    {                                                                                              \
        ct_add_case(&ct_case_##suite_##_##name_);                                                  \
    }                                                                                              \
    static void ct_body_##suite_##_##name_(void)

#define SKIP(why_)                                                                                 \
    do {                                                                                           \
        ct_skip(__FILE__, __LINE__, (why_));                                                       \
        return;                                                                                    \
    } while (0)

/* Fails the test with a formatted text and returns. */
#define FAIL(...)                                                                                  \
    do {                                                                                           \
        ct_fail(__FILE__, __LINE__, true, __VA_ARGS__);                                            \
        return;                                                                                    \
    } while (0)

#define ASSERT_NO_FATAL(statement_)                                                                \
    do {                                                                                           \
        statement_;                                                                                \
        if (ct_has_fatal_failure()) {                                                              \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* --- Expectations ----------------------------------------------------------------------------- */

#define CT_ASSERT(check_)                                                                          \
    do {                                                                                           \
        if (!(check_)) {                                                                           \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define CT_COMPARE(op_, a_, b_, fatal_)                                                            \
    ct_check_compare(CT_AT(fatal_), (op_), CT_VALUE(a_), CT_VALUE(b_), #a_, #b_)

#define EXPECT_EQ(a_, b_) ((void)CT_COMPARE(CT_EQ, a_, b_, false))
#define EXPECT_NE(a_, b_) ((void)CT_COMPARE(CT_NE, a_, b_, false))
#define EXPECT_LT(a_, b_) ((void)CT_COMPARE(CT_LT, a_, b_, false))
#define EXPECT_LE(a_, b_) ((void)CT_COMPARE(CT_LE, a_, b_, false))
#define EXPECT_GT(a_, b_) ((void)CT_COMPARE(CT_GT, a_, b_, false))
#define EXPECT_GE(a_, b_) ((void)CT_COMPARE(CT_GE, a_, b_, false))
#define ASSERT_EQ(a_, b_) CT_ASSERT(CT_COMPARE(CT_EQ, a_, b_, true))
#define ASSERT_NE(a_, b_) CT_ASSERT(CT_COMPARE(CT_NE, a_, b_, true))
#define ASSERT_LT(a_, b_) CT_ASSERT(CT_COMPARE(CT_LT, a_, b_, true))
#define ASSERT_LE(a_, b_) CT_ASSERT(CT_COMPARE(CT_LE, a_, b_, true))
#define ASSERT_GT(a_, b_) CT_ASSERT(CT_COMPARE(CT_GT, a_, b_, true))
#define ASSERT_GE(a_, b_) CT_ASSERT(CT_COMPARE(CT_GE, a_, b_, true))

#define EXPECT_TRUE(x_)  ((void)ct_check_bool(CT_AT(false), !!(x_), true, #x_))
#define EXPECT_FALSE(x_) ((void)ct_check_bool(CT_AT(false), !!(x_), false, #x_))
/* Written out, so that compilers and analysers know what holds afterwards. */
#define ASSERT_TRUE(x_)                                                                            \
    do {                                                                                           \
        if (!(x_)) {                                                                               \
            (void)ct_check_bool(CT_AT(true), false, true, #x_);                                    \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define ASSERT_FALSE(x_)                                                                           \
    do {                                                                                           \
        if (x_) {                                                                                  \
            (void)ct_check_bool(CT_AT(true), true, false, #x_);                                    \
            return;                                                                                \
        }                                                                                          \
    } while (0)

/* Strings may be NULL; NULL equals only NULL. */
#define EXPECT_STREQ(a_, b_) ((void)ct_check_string(CT_AT(false), (a_), (b_), true, #a_, #b_))
#define EXPECT_STRNE(a_, b_) ((void)ct_check_string(CT_AT(false), (a_), (b_), false, #a_, #b_))
#define ASSERT_STREQ(a_, b_) CT_ASSERT(ct_check_string(CT_AT(true), (a_), (b_), true, #a_, #b_))
#define ASSERT_STRNE(a_, b_) CT_ASSERT(ct_check_string(CT_AT(true), (a_), (b_), false, #a_, #b_))

#define EXPECT_MEMEQ(a_, b_, bytes_)                                                               \
    ((void)ct_check_memory(CT_AT(false), (a_), (b_), (bytes_), #a_, #b_))
#define ASSERT_MEMEQ(a_, b_, bytes_)                                                               \
    CT_ASSERT(ct_check_memory(CT_AT(true), (a_), (b_), (bytes_), #a_, #b_))

#define EXPECT_NEAR(a_, b_, tolerance_)                                                            \
    ((void)ct_check_near(CT_AT(false), (a_), (b_), (tolerance_), #a_, #b_))
#define ASSERT_NEAR(a_, b_, tolerance_)                                                            \
    CT_ASSERT(ct_check_near(CT_AT(true), (a_), (b_), (tolerance_), #a_, #b_))

/* err_ is a const pint_error * or NULL; its message is printed when the status is another. */
#define EXPECT_OK(status_, err_)                                                                   \
    ((void)ct_check_status(CT_AT(false), PINT_OK, (status_), (err_), #status_))
#define ASSERT_OK(status_, err_)                                                                   \
    CT_ASSERT(ct_check_status(CT_AT(true), PINT_OK, (status_), (err_), #status_))
#define EXPECT_STATUS(expected_, actual_, err_)                                                    \
    ((void)ct_check_status(CT_AT(false), (expected_), (actual_), (err_), #actual_))
#define ASSERT_STATUS(expected_, actual_, err_)                                                    \
    CT_ASSERT(ct_check_status(CT_AT(true), (expected_), (actual_), (err_), #actual_))

/* --- Other processes -------------------------------------------------------------------------- */

/* Exit status of a child in which an EXPECT_* or CT_REQUIRE failed. Sanitizers use 1, 23, 66. */
#define CT_PROC_FAILED 70

/* Body of an entry point; argv[0] is the name, then ct_spawn()'s arguments. Returns the status. */
#define PROC(name_)                                                                                \
    static int ct_proc_body_##name_(int argc, char **argv);                                        \
    static ct_proc ct_proc_##name_ = {.name = #name_, .body = ct_proc_body_##name_, .next = NULL}; \
    __attribute__((constructor)) static void ct_register_proc_##name_(void)                        \
    {                                                                                              \
        ct_add_proc(&ct_proc_##name_);                                                             \
    }                                                                                              \
    static int ct_proc_body_##name_(__attribute__((unused)) int argc,                              \
                                    __attribute__((unused)) char **argv)

/* For PROC bodies: prints the condition and errno and ends the process with CT_PROC_FAILED. */
#define CT_REQUIRE(condition_)                                                                     \
    do {                                                                                           \
        if (!(condition_)) {                                                                       \
            ct_require_failed(__FILE__, __LINE__, #condition_);                                    \
        }                                                                                          \
    } while (0)

typedef struct ct_spawn_opts {
    const char *const *env; /* "NAME=value" to add or replace, NULL-terminated; may be NULL */
    const int *inherit_fds; /* open in the child under the same numbers */
    size_t n_inherit_fds;
    int output_fd; /* > 0: becomes the child's standard output and error */
    bool outlives; /* survives the death of its parent; else it is killed with it */
} ct_spawn_opts;

/*
 * Start this program again with the body PROC(name). args are NULL-terminated, may be NULL.
 * Returns the child's pid, or -1 after failing the test. Every child must be waited for with
 * ct_wait(); one that is left is killed at the end of the test and fails it.
 */
pid_t ct_spawn(const char *name, const char *const *args);
pid_t ct_spawn_with(const char *name, const char *const *args, const ct_spawn_opts *opts);
#define ct_spawn_opts(name_, args_, ...)                                                           \
    ct_spawn_with((name_), (args_), &(const ct_spawn_opts){__VA_ARGS__})

/* Start another program: argv[0] is its path. No ready/go link. */
pid_t ct_spawn_program(const char *const *argv, const ct_spawn_opts *opts);

/* Wait for a child's end: exit status, or 128 + signal; -1 if it is not a child. */
int ct_wait(pid_t pid);

/*
 * Every ct_spawn() child has a link to its parent: each ct_ready() in the child ends one
 * ct_wait_ready() in the parent, each ct_go() in the parent ends one ct_wait_go() in the child.
 * ct_wait_ready() is false when the child has died or nothing came in 30 s.
 */
void ct_ready(void);
bool ct_wait_ready(pid_t pid);
bool ct_go(pid_t pid);
bool ct_wait_go(void);

/* Read fd to its end, or until the buffer is full; text is always terminated. Returns the bytes. */
size_t ct_read_all(int fd, char *text, size_t capacity);

/* --- Time and files --------------------------------------------------------------------------- */

/* Milliseconds on the monotonic clock. */
uint64_t ct_now_ms(void);

/* Sleep one millisecond. Only for polling: see ct_eventually(). */
void ct_nap(void);

/*
 * True as soon as the condition holds, false if it does not within deadline_ms. For facts that
 * another process or thread brings about and that cannot be waited for.
 */
#define ct_eventually(condition_, deadline_ms_)                                                    \
    __extension__({                                                                                \
        const uint64_t ct_end_ms = ct_now_ms() + (uint64_t)(deadline_ms_);                         \
        bool ct_holds = !!(condition_);                                                            \
        while (!ct_holds && ct_now_ms() < ct_end_ms) {                                             \
            ct_nap();                                                                              \
            ct_holds = !!(condition_);                                                             \
        }                                                                                          \
        ct_holds;                                                                                  \
    })

/*
 * The test's own directory, mode 0700, made at the first call and removed with all it holds when
 * the test ends. A view, valid until then. Not in children: pass the path as an argument.
 */
const char *ct_tmpdir(void);

/* --- Implementation of the macros ------------------------------------------------------------- */

typedef struct ct_proc {
    const char *name;
    int (*body)(int argc, char **argv);
    struct ct_proc *next;
} ct_proc;

typedef struct ct_where {
    const char *file;
    int line;
    bool fatal;
} ct_where;

#define CT_AT(fatal_) ((ct_where){.file = __FILE__, .line = __LINE__, .fatal = (fatal_)})

enum ct_op { CT_EQ, CT_NE, CT_LT, CT_LE, CT_GT, CT_GE };
enum ct_kind { CT_SIGNED, CT_UNSIGNED, CT_DOUBLE, CT_POINTER };

typedef struct ct_value {
    enum ct_kind kind;
    union {
        int64_t i;
        uint64_t u;
        double d;
        const void *p;
    } as;
} ct_value;

ct_value ct_value_signed(int64_t i);
ct_value ct_value_unsigned(uint64_t u);
ct_value ct_value_double(double d);
ct_value ct_value_pointer(const void *p);

/* clang-format off */
#define CT_VALUE(x_)                                                                               \
    (_Generic((x_),                                                                                \
        _Bool: ct_value_unsigned,                                                                  \
        char: ct_value_signed,                                                                     \
        signed char: ct_value_signed,                                                              \
        short: ct_value_signed,                                                                    \
        int: ct_value_signed,                                                                      \
        long: ct_value_signed,                                                                     \
        long long: ct_value_signed,                                                                \
        unsigned char: ct_value_unsigned,                                                          \
        unsigned short: ct_value_unsigned,                                                         \
        unsigned int: ct_value_unsigned,                                                           \
        unsigned long: ct_value_unsigned,                                                          \
        unsigned long long: ct_value_unsigned,                                                     \
        float: ct_value_double,                                                                    \
        double: ct_value_double,                                                                   \
        default: ct_value_pointer)(x_))
/* clang-format on */

void ct_add_case(ct_case *test);
void ct_add_proc(ct_proc *proc);
void ct_fail(const char *file, int line, bool fatal, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void ct_skip(const char *file, int line, const char *why);
bool ct_has_fatal_failure(void);
__attribute__((noreturn)) void ct_require_failed(const char *file, int line, const char *condition);

bool ct_check_compare(ct_where at, enum ct_op op, ct_value a, ct_value b, const char *a_text,
                      const char *b_text);
bool ct_check_bool(ct_where at, bool actual, bool expected, const char *text);
bool ct_check_string(ct_where at, const char *a, const char *b, bool equal, const char *a_text,
                     const char *b_text);
bool ct_check_memory(ct_where at, const void *a, const void *b, size_t bytes, const char *a_text,
                     const char *b_text);
bool ct_check_near(ct_where at, double a, double b, double tolerance, const char *a_text,
                   const char *b_text);
bool ct_check_status(ct_where at, pint_status expected, pint_status actual, const pint_error *err,
                     const char *text);

#endif
