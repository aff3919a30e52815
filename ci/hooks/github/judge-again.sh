#!/usr/bin/env bash
# judge-again.sh TAKEN SEEN: works the verdict out again and writes the comment. A verdict that is not a pass is a result and
# ends with 0 here, because the comment says it; an artifact that was refused is not, and its reason is the comment.
set -euo pipefail

taken=$1 seen=$2
mkdir -p "$seen"
code=0
karat -C "${KARAT_PROJECT:-.}" judge --artifact "$PWD/$taken" --commit "${HEAD_SHA:?}" --out "$PWD/$seen" \
    2>"$seen/stderr" || code=$?
cat "$seen/stderr" >&2
if [[ -f $seen/comment.md ]]; then exit 0; fi
# Only the code: the words around it may quote the artifact.
word=$(sed -n 's/^error\[\([a-z-]*\)\]:.*/\1/p' "$seen/stderr" | head -n 1)
{
    echo "<!-- karat:refused -->"
    echo "# karat: no verdict"
    echo
    echo "What the job left was refused: \`${word:-unknown}\`. The log of \`karat publish\` says more."
} >"$seen/comment.md"
exit "$code"
