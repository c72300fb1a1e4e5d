// SPDX-License-Identifier: Apache-2.0
//
// The only C++ of the test shim: runs the C cases registered through ct.h under GoogleTest.

#include "tests/support/ct_abi.h"

#include <gtest/gtest.h>

namespace
{

// One fixture type for every suite, as testing::RegisterTest requires.
class CTest : public testing::Test
{
  public:
    explicit CTest(const ct_case *test) : case_(test)
    {
    }

    void SetUp() override
    {
        ct_case_begin(case_);
    }
    void TestBody() override
    {
        case_->body();
    }
    void TearDown() override
    {
        ct_case_end();
    }

  private:
    const ct_case *case_;
};

} // namespace

extern "C" void ct_gtest_fail(const char *file, int line, int fatal, const char *text)
{
    if (fatal != 0) {
        GTEST_FAIL_AT(file, line) << text;
    }
    ADD_FAILURE_AT(file, line) << text;
}

extern "C" void ct_gtest_skip(const char *file, int line, const char *why)
{
    // GTEST_SKIP reports this file, so the place in the test goes into the text.
    GTEST_SKIP() << file << ":" << line << ": " << why;
}

extern "C" int ct_gtest_has_fatal_failure(void)
{
    return testing::Test::HasFatalFailure() ? 1 : 0;
}

int main(int argc, char **argv)
{
    int status = 0;
    if (ct_proc_main(argc, argv, &status) != 0) {
        return status;
    }
    testing::InitGoogleTest(&argc, argv);
    if (argc > 1) {
        std::cerr << "unknown argument: " << argv[1] << "\n";
        return 2;
    }
    for (const ct_case *c = ct_first_case(); c != nullptr; c = c->next) {
        testing::RegisterTest(c->suite, c->name, nullptr, nullptr, c->file, c->line,
                              [c]() -> CTest * { return new CTest(c); });
    }
    return RUN_ALL_TESTS();
}
