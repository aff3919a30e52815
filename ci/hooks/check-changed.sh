#!/usr/bin/env bash
# check-changed.sh FILE…: runs `karat check` for each pointer file among FILE…, `<project>/snapshots/<dataset>.toml`. Other
# files are none of its business, so most commits take no time.
#
# KARAT_SKIP=1 skips it. What takes longer than KARAT_HOOK_SECONDS (10) is left to CI, with a line that says so: this hook
# saves a round trip and decides nothing.
set -euo pipefail

if [[ -n ${KARAT_SKIP:-} ]]; then
    echo "karat: skipped, KARAT_SKIP is set" >&2
    exit 0
fi
pointers=()
for file in "$@"; do
    [[ $file =~ (^|/)snapshots/[A-Za-z0-9][A-Za-z0-9._-]*\.toml$ && -f $file ]] && pointers+=("$file")
done
((${#pointers[@]})) || exit 0
if ! command -v karat >/dev/null; then
    echo "karat: not on PATH, so ${#pointers[@]} changed snapshots are left to CI" >&2
    exit 0
fi

began=$SECONDS
limit=${KARAT_HOOK_SECONDS:-10}
worst=0
for file in "${pointers[@]}"; do
    project=$(dirname "$(dirname "./$file")")
    dataset=$(basename "$file" .toml)
    left=$((limit - (SECONDS - began)))
    code=124
    if ((0 < left)); then
        code=0
        timeout "$left" karat -C "$project" check "$dataset" >/dev/null || code=$?
    fi
    case $code in
    0) ;;
    124) echo "karat: \`$file\` takes longer than $limit s to check and is left to CI" >&2 ;;
    *) worst=$code ;;
    esac
done
if ((worst)); then
    echo "karat: \`git commit --no-verify\`, \`git push --no-verify\` or KARAT_SKIP=1 go on without this check" >&2
fi
exit "$worst"
