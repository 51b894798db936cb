#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The models of the mailbox, of links and monitors, and of names are what they claim to be, in each state that
# they can come to, and each bug that is put into them is found (tests/model/run).
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

if command -v spin >/dev/null; then
	tests/model/run >"$tap_tmp/model" || true
	sed -n '/^#/p; /^not ok/s/^/# /p' "$tap_tmp/model"
	verdict "the models run to the end" grep -q '^1\.\.' "$tap_tmp/model"
	sed -n '/^not ok/p' "$tap_tmp/model" | empty "$(grep -c '^ok' "$tap_tmp/model") models and seeded bugs"
else
	skip "models" "spin is not there"
fi
done_testing
