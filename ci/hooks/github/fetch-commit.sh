#!/usr/bin/env bash
# Fetches the objects of the commit HEAD_SHA, so that `karat judge` can read what it points to. Nothing is checked out, no
# branch moves, and no hook of this clone runs.
set -euo pipefail

if [[ ! ${HEAD_SHA:-} =~ ^[0-9a-f]{40}$ ]]; then
    echo "karat: HEAD_SHA is no commit" >&2
    exit 2
fi
git -c core.hooksPath=/dev/null fetch --no-tags --no-recurse-submodules --depth 1 --quiet origin "$HEAD_SHA"
