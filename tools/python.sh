# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The Python half of ./run: environments, tests, the wheel, the matrix of versions.
# Sourced by run, which has need(), need_build(), die() and the counts.
#
# pip is used as the user has configured it; its output goes to build/*.log, shown when it fails.

python="" # the interpreter in use, set by need_python

# --- Interpreters and environments ----------------------------------------------------------------

# True if this is a CPython >= 3.11 that can make an environment and has its headers.
fits_python() {
    "$1" -c '
import os, sys, sysconfig
import ensurepip, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
ok = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"
sys.exit(not (ok and os.path.exists(header)))' 2>/dev/null
}

need_python() {
    local candidate
    for candidate in python3 python3.{11..20} /usr/bin/python3; do
        if command -v "$candidate" >/dev/null && fits_python "$candidate"; then
            python=$(command -v "$candidate")
            return
        fi
    done
    python=/usr/bin/python3
    need python3 python3-venv python3-dev ca-certificates
    fits_python "$python" || die "needs Python 3.11 or later with venv and Python.h" 69
}

# Lines of a list in pyproject.toml: project_list project optional-dependencies test
project_list() {
    "$python" - "$@" <<'PY'
import sys, tomllib
value = tomllib.load(open("pyproject.toml", "rb"))
for key in sys.argv[1:]:
    value = value[key]
print("\n".join(value))
PY
}

# make_venv DIR PYTHON "VENV OPTION..." REQUIREMENT...: an environment with these packages, from
# binary packages only. Kept while the arguments stay the same; then pip is not run at all, unless
# $fresh is set: then newer versions are looked for.
make_venv() {
    local dir=$1 interpreter=$2 key
    local -a venv_options requirements=("${@:4}")
    read -ra venv_options <<<"$3"
    key="$("$interpreter" -c 'import sys; print(sys.version, sys.base_prefix)') ${*:3}"
    if [[ -x $dir/bin/python && -e $dir/.made && $(<"$dir/.made") == "$key" ]]; then
        [[ -n ${fresh:-} ]] || return 0
    else
        rm -rf -- "$dir"
        mkdir -p "$(dirname "$dir")"
        "$interpreter" -m venv "${venv_options[@]}" "$dir" >"$dir.log" 2>&1 || return 1
    fi
    "$dir/bin/python" -m pip install --upgrade --only-binary=:all: "${requirements[@]}" \
        >"$dir.log" 2>&1 || return 1
    printf '%s\n' "$key" >"$dir/.made"
}

# Says in one line which of the requirements an environment does not have.
say_missing() {
    local what=$1 dir=$2 missing
    shift 2
    missing=$("$dir/bin/python" - "$@" 2>/dev/null <<'PY'
import importlib.metadata, re, sys
for requirement in sys.argv[1:]:
    try:
        importlib.metadata.version(re.match(r"[\w.-]+", requirement)[0])
    except importlib.metadata.PackageNotFoundError:
        print(requirement, end=" ")
PY
    ) || missing="$* "
    tail -n 3 "$dir.log" >&2 || true
    echo "run: $what not run, pip could not get: $missing(log: $dir.log)" >&2
}

# pytest_counts FILE: "passed failed skipped" of pytest's JUnit file.
pytest_counts() {
    local total errors failed skipped
    total=$(pytest_count "$1" tests)
    errors=$(pytest_count "$1" errors)
    failed=$(pytest_count "$1" failures)
    skipped=$(pytest_count "$1" skipped)
    echo "$((total - errors - failed - skipped)) $((errors + failed)) $skipped"
}
pytest_count() { grep -o '<testsuite [^>]*' "$1" | head -n 1 | grep -o " $2=\"[0-9]*\"" | grep -o '[0-9]*'; }

# run_pytest VENV NAME ARGUMENT...: sets passed, failed, skipped from build/NAME.junit.xml.
passed=0 failed=0 skipped=0
run_pytest() {
    local dir=$1 junit=$PWD/build/$2.junit.xml rc=0 counts
    shift 2
    passed=0 failed=0 skipped=0
    rm -f "$junit"
    # The tests see the packaged library and service, and a service of their own; those of GPUs run
    # on the fake driver where the C tests have built it.
    local fake=$PWD/build/dev/tests/fakecuda/libcuda.so.1
    [[ -e $fake ]] || fake=""
    env -u PINTABLED -u PINTABLE_ADDRESS -u PYTHONPATH -u PYTHONUNBUFFERED \
        PYTHONDONTWRITEBYTECODE=1 \
        ${fake:+FAKECUDA_LIBRARY="$fake"} \
        "$dir/bin/python" -P -m pytest -q --continue-on-collection-errors --reruns 1 \
        --junit-xml="$junit" "$@" || rc=$?
    if [[ -s $junit ]] && counts=$(pytest_counts "$junit"); then
        read -r passed failed skipped <<<"$counts"
    fi
    # 5: no test was selected. Anything else that is not a failed test: pytest itself has failed.
    if ((rc != 0 && failed == 0)); then
        failed=1
    fi
    ((rc == 0))
}

# --- ./run test ------------------------------------------------------------------------------------

# install_package VENV: builds in build/pip, where little is done when little has changed.
install_package() {
    "$1/bin/python" -m pip install --no-deps --force-reinstall --no-build-isolation \
        --config-settings=build-dir=build/pip . >build/pip.log 2>&1 || {
        cat build/pip.log >&2
        return 1
    }
}

# Makes build/venv with everything that the tests use, and the package.
make_test_venv() {
    local dir=$PWD/build/venv
    local -a requirements
    need_python
    need_build
    mkdir -p build
    mapfile -t requirements < <(
        project_list build-system requires
        project_list project optional-dependencies test
        echo ruff
    )
    if ! make_venv "$dir" "$python" "" "${requirements[@]}"; then
        say_missing "Python tests" "$dir" "${requirements[@]}"
        return 1
    fi
    install_package "$dir" || {
        echo "run: the Python package does not build" >&2
        return 1
    }
}

# Adds to the counts of run.
test_python() {
    echo "== python"
    if [[ ${PINT_TEST_PYTHON:-1} == 0 ]]; then
        echo "run: Python tests left out: PINT_TEST_PYTHON=0"
        n_skipped=$((n_skipped + 1))
        return
    fi
    if ! make_test_venv; then
        n_failed=$((n_failed + 1))
        return
    fi
    run_pytest build/venv python || true
    n_passed=$((n_passed + passed))
    n_failed=$((n_failed + failed))
    n_skipped=$((n_skipped + skipped))
}

# --- ./run wheel -----------------------------------------------------------------------------------

# Builds the wheel in isolation, as `pip install .` does, and gives it the tag that it deserves.
# Leaves exactly one file in build/wheel.
build_wheel() {
    local glibc_minor=34 tools=$PWD/build/wheel.tools verdict reached raw
    need_python
    need_build
    mkdir -p build
    make_venv "$tools" "$python" "" auditwheel wheel || {
        say_missing "the wheel's check" "$tools" auditwheel wheel
        return 1
    }
    rm -rf build/wheel build/wheel.raw
    if ! "$tools/bin/python" -m pip wheel --no-deps -w build/wheel.raw . >build/wheel.log 2>&1; then
        cat build/wheel.log >&2
        echo "run: the wheel does not build" >&2
        return 1
    fi
    raw=$(echo build/wheel.raw/pintable-*.whl)
    verdict=$("$tools/bin/auditwheel" show "$raw" 2>>build/wheel.log) || {
        cat build/wheel.log >&2
        return 1
    }
    reached=$(grep -oE 'platform tag: "manylinux_2_[0-9]+_' <<<"${verdict//$'\n'/ }" | head -n 1 |
        grep -oE '[0-9]+_$' | tr -d _ || true)
    if [[ -z $reached ]] || ((reached > glibc_minor)); then
        echo "$verdict" >&2
        echo "run: the wheel needs more than glibc 2.$glibc_minor" >&2
        return 1
    fi
    # Only the tag changes: everything that is loaded is inside already, under its own name.
    mkdir -p build/wheel
    cp "$raw" build/wheel/
    "$tools/bin/python" -m wheel tags --remove \
        --platform-tag "manylinux_2_${glibc_minor}_$(uname -m)" build/wheel/*.whl >>build/wheel.log
    tools/check_wheel.sh build/wheel/*.whl
}

run_wheel() {
    build_wheel || die "no wheel"
    rm -rf build/wheel.clean
    if ! { "$python" -m venv build/wheel.clean &&
        build/wheel.clean/bin/python -m pip install --no-index build/wheel/*.whl; } \
        >build/wheel.clean.log 2>&1; then
        cat build/wheel.clean.log >&2
        die "the wheel cannot be installed"
    fi
    tools/smoke_wheel.sh build/wheel.clean || die "the wheel does not work"
    ls -l build/wheel/*.whl
}

# --- ./run matrix ----------------------------------------------------------------------------------

# NAME|PACKAGES, on the interpreter of the tests.
version_legs=(
    'pandas2.2|pandas==2.2.* numpy==1.26.* pyarrow==15.*'
    'pandas2.3|pandas==2.3.* numpy>=2 pyarrow==18.*'
    'pandas3|pandas>=3 numpy pyarrow'
    'no-pyarrow|pandas numpy'
    'no-pandas|numpy'
    'bare|'
)
leg_tools=(pytest pytest-rerunfailures pytest-timeout)
leg_extras=(cloudpickle joblib tqdm)

# Other interpreters >= 3.11: "NAME PATH", one of each minor version.
other_pythons() {
    local minor candidate own
    own=$("$python" -c 'import sys; print(sys.version_info.minor)')
    for minor in {11..20}; do
        ((minor != own)) || continue
        for candidate in "python3.$minor" \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python3; do
            if candidate=$(command -v "$candidate") && "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
                echo "python3.$minor $candidate"
                break
            fi
        done
    done
}

version_of() { "$1/bin/python" -c "
import importlib.metadata as m
try: print(m.version('$2'))
except m.PackageNotFoundError: print('-')"; }

matrix_rows=()
matrix_failed=0

# leg NAME PYTHON "VENV OPTIONS" "PYTEST OPTIONS" REQUIREMENT...
leg() {
    local name=$1 interpreter=$2 options=$3 dir=$PWD/build/matrix/$1 start=$SECONDS status=passed
    local -a pytest_options requirements=("${@:5}")
    read -ra pytest_options <<<"$4"
    echo "== $name"
    if ! fresh=1 make_venv "$dir" "$interpreter" "$options" "${requirements[@]}"; then
        say_missing "leg $name" "$dir" "${requirements[@]}"
        matrix_rows+=("$name|$("$interpreter" -c 'import platform; print(platform.python_version())')|||||||packages not available")
        return
    fi
    if ! "$dir/bin/python" -m pip install --no-deps --no-index --force-reinstall build/wheel/*.whl \
        >"$dir.install.log" 2>&1; then
        cat "$dir.install.log" >&2
        passed=0 failed=1 skipped=0 status="wheel not installed"
    else
        run_pytest "$dir" "matrix/$name" "${pytest_options[@]}" || status=FAILED
    fi
    [[ $status == passed ]] || matrix_failed=1
    matrix_rows+=("$name|$("$dir/bin/python" -c 'import platform; print(platform.python_version())')|$(version_of "$dir" numpy)|$(version_of "$dir" pandas)|$(version_of "$dir" pyarrow)|$passed|$failed|$skipped|$status, $((SECONDS - start)) s")
}

# Debian's own interpreter and PyTorch; its pandas (1.5) is too old for us, so only tests of torch.
debian_leg() {
    if ! (need python3-venv python3-torch python3-numpy); then
        matrix_rows+=("debian||||||||packages not available: python3-torch")
        return
    fi
    leg debian /usr/bin/python3 --system-site-packages "-m torch" "${leg_tools[@]}"
}

run_matrix() {
    local row name packages interpreter
    local -a wanted=("$@") names=() requirements others
    need_python
    mapfile -t others < <(other_pythons)
    for row in "${version_legs[@]}"; do names+=("${row%%|*}"); done
    for row in "${others[@]}"; do names+=("${row%% *}"); done
    names+=(debian)
    ((${#wanted[@]} > 0)) || wanted=("${names[@]}")
    for name in "${wanted[@]}"; do
        [[ " ${names[*]} " == *" $name "* ]] || die "no leg $name; legs: ${names[*]}" 64
    done
    build_wheel || die "no wheel"
    mkdir -p build/matrix
    for row in "${version_legs[@]}"; do
        name=${row%%|*}
        [[ " ${wanted[*]} " == *" $name "* ]] || continue
        read -ra requirements <<<"${row#*|}"
        packages=("${leg_extras[@]}")
        [[ $name != bare ]] || packages=()
        leg "$name" "$python" "" "" "${leg_tools[@]}" "${packages[@]}" "${requirements[@]}"
    done
    for row in "${others[@]}"; do
        read -r name interpreter <<<"$row"
        [[ " ${wanted[*]} " == *" $name "* ]] || continue
        leg "$name" "$interpreter" "" "" "${leg_tools[@]}" "${leg_extras[@]}" numpy pandas pyarrow
    done
    if [[ " ${wanted[*]} " == *" debian "* ]]; then
        debian_leg
    fi
    echo
    printf '%s\n' "leg|python|numpy|pandas|pyarrow|passed|failed|skipped|result" "${matrix_rows[@]}" |
        awk -F '|' '{ printf "%-12s %-8s %-8s %-8s %-8s %7s %7s %8s  %s\n", $1, $2, $3, $4, $5, $6, $7, $8, $9 }'
    ((matrix_failed == 0))
}

# --- ./run bench python ----------------------------------------------------------------------------

# bench_python [--json FILE]: FILE is absolute.
bench_python() {
    make_test_venv || die "no environment for the Python benchmarks"
    env -u PINTABLED -u PINTABLE_ADDRESS -u PYTHONPATH -u PYTHONUNBUFFERED \
        PYTHONDONTWRITEBYTECODE=1 \
        build/venv/bin/python bench/python/bench.py "$@"
}
