#!/usr/bin/env bash
# take-artifact.sh DIR: takes the files that `karat judge` reads out of the artifact `karat` of run RUN_ID.
#
# The artifact was made by a job that ran somebody's change. So: a limit on what is downloaded and on what each file unpacks
# to, and no name of the archive is ever used. The four names below are asked for, whatever else is in it; a name with a path, a
# link or a thousand files have nothing to hold on to.
set -euo pipefail

into=$1
ARCHIVE_BYTES_MAX=${ARCHIVE_BYTES_MAX:-1000000000}
FILE_BYTES_MAX=${FILE_BYTES_MAX:-1000000000}
NAMES=(ci.json verdict.json predictions.parquet)
NAMES_MAYBE=(baseline-predictions.parquet anchor-predictions.parquet)

if [[ ! ${RUN_ID:-} =~ ^[0-9]+$ || ! ${REPOSITORY:-} =~ ^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$ ]]; then
    echo "karat: RUN_ID or REPOSITORY is not what GitHub sets" >&2
    exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

found=$(gh api "repos/$REPOSITORY/actions/runs/$RUN_ID/artifacts?name=karat&per_page=1" \
    --jq '.artifacts[0] | select(.expired | not) | "\(.id) \(.size_in_bytes)"')
read -r id n_bytes <<<"$found" || true
if [[ ! ${id:-} =~ ^[0-9]+$ || ! ${n_bytes:-} =~ ^[0-9]+$ ]]; then
    echo "karat: run $RUN_ID left no artifact \`karat\`" >&2
    exit 1
fi
if ((ARCHIVE_BYTES_MAX < n_bytes)); then
    echo "karat: the artifact has $n_bytes bytes, at most $ARCHIVE_BYTES_MAX are taken" >&2
    exit 1
fi
# What is said and what comes may differ.
gh api "repos/$REPOSITORY/actions/artifacts/$id/zip" | head -c $((ARCHIVE_BYTES_MAX + 1)) >"$scratch/artifact.zip"
if ((ARCHIVE_BYTES_MAX < $(stat -c %s "$scratch/artifact.zip"))); then
    echo "karat: the artifact is longer than $ARCHIVE_BYTES_MAX bytes" >&2
    exit 1
fi

mkdir -p "$into"
take() {
    # To standard output and through a limit: unzip creates no file and follows no name.
    { unzip -p "$scratch/artifact.zip" "$1" 2>/dev/null || true; } | head -c $((FILE_BYTES_MAX + 1)) >"$scratch/file"
    if ((FILE_BYTES_MAX < $(stat -c %s "$scratch/file"))); then
        echo "karat: \`$1\` of the artifact is longer than $FILE_BYTES_MAX bytes" >&2
        exit 1
    fi
    [[ -s $scratch/file ]] && mv "$scratch/file" "$into/$1"
}
for name in "${NAMES[@]}"; do
    if ! take "$name"; then
        echo "karat: the artifact has no \`$name\`: its job ended before there was a verdict" >&2
        exit 1
    fi
done
for name in "${NAMES_MAYBE[@]}"; do take "$name" || true; done
