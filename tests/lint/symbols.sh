#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Four lists of the public functions are one: the public headers, the version map, the symbols of
# the shared library, and the man pages of section 3.
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

# Types of functions end in _f. Inline functions are in the headers and the man pages alone.
for header in src/include/coppice/*.h; do code_of "$header"; done >"$tap_tmp/code"
grep -oE '\bcop_[a-z0-9_]+\(' "$tap_tmp/code" | tr -d '(' | grep -v '_f$' | sort -u >"$tap_tmp/headers"
grep -E '^static inline ' "$tap_tmp/code" | grep -oE '\bcop_[a-z0-9_]+\(' | tr -d '(' | sort -u >"$tap_tmp/inline"
comm -23 "$tap_tmp/headers" "$tap_tmp/inline" >"$tap_tmp/exported"
grep -oE '^[[:space:]]*cop_[a-z0-9_]+;' src/coppice.map | tr -d ' \t;' | sort -u >"$tap_tmp/map"
cat doc/man/*.3 | sed -n 's/^\.Fo \(cop_[a-z0-9_]*\).*/\1/p; s/^\.Fn \(cop_[a-z0-9_]*\).*/\1/p' |
	sort -u >"$tap_tmp/man"

diff "$tap_tmp/exported" "$tap_tmp/map" | empty "headers (<) and version map (>) agree"
diff "$tap_tmp/headers" "$tap_tmp/man" | empty "headers (<) and man pages (>) agree"

library=$COP_BUILDDIR/.libs/libcoppice.so
if [ -e "$library" ]; then
	nm -D --defined-only "$library" | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' |
		grep -v '^__\(asan\|odr\|ubsan\|tsan\|gcov\|llvm\)' | sort -u >"$tap_tmp/library"
	diff "$tap_tmp/map" "$tap_tmp/library" | empty "version map (<) and libcoppice.so (>) agree"
	nm -D --defined-only "$library" | awk '$2 ~ /[BDGRSC]/ { print $3 }' |
		grep -v '^__\(asan\|odr\|ubsan\|tsan\|gcov\|llvm\)' | empty "libcoppice.so exports no data"
else
	not_ok "libcoppice.so is built"
fi
done_testing
