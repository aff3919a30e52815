#!/usr/bin/env bash
# Puts one binary, `karat`, on the PATH of the steps after this one.
#
# KARAT_URL and KARAT_SHA256: a release, checked against the digest before it is made executable. Without them karat is
# built from the source beside this script.
set -euo pipefail

bin=${RUNNER_TEMP:?}/karat-bin
mkdir -p "$bin"

if [[ -n ${KARAT_URL:-} ]]; then
    if [[ ! ${KARAT_SHA256:-} =~ ^[0-9a-f]{64}$ ]]; then
        echo "karat: \`url\` needs \`sha256\`, 64 hex digits in lower case" >&2
        exit 2
    fi
    curl --fail --silent --show-error --location --retry 3 --max-time 300 --max-filesize 300000000 \
        --proto '=https,file' --proto-redir '=https' --output "$bin/karat.part" -- "$KARAT_URL"
    if ! sha256sum --check --status <<<"$KARAT_SHA256  $bin/karat.part"; then
        echo "karat: what lies at \`url\` has SHA-256 $(sha256sum <"$bin/karat.part" | cut -d' ' -f1), expected $KARAT_SHA256" >&2
        rm -f "$bin/karat.part"
        exit 2
    fi
    chmod +x "$bin/karat.part"
    mv "$bin/karat.part" "$bin/karat"
else
    source=$(cd "$(dirname "$0")/../../.." && pwd)
    cargo install --locked --quiet --root "$RUNNER_TEMP/karat-root" --path "$source/crates/cli"
    mv "$RUNNER_TEMP/karat-root/bin/karat" "$bin/karat"
fi

"$bin/karat" --version
echo "$bin" >>"${GITHUB_PATH:?}"
