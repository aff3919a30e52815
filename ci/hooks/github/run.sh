#!/usr/bin/env bash
# `karat ci` with the action's inputs. They are settings of whoever wrote the workflow; nothing that the author of a change
# can name reaches this script but through karat itself.
set -euo pipefail

arguments=(ci --out "${KARAT_OUT:-out}")
[[ -n ${KARAT_GATE:-} ]] && arguments+=(--gate "$KARAT_GATE")
[[ ${KARAT_PROMOTE:-false} == true ]] && arguments+=(--promote)
[[ ${KARAT_DATA_MAY_CHANGE:-false} == true ]] && arguments+=(--data-may-change)
exec karat -C "${KARAT_PROJECT:-.}" "${arguments[@]}"
