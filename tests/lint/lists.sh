#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What is in the tree is in the makefile's lists: compiled, tested, installed, released.
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

if [ -e .git ]; then
	verdict "the lists are up to date (else run contrib/sources)" contrib/sources --check
else
	skip "the lists are up to date" "not a working tree"
fi

# One place for the version.
version=$(sed -n 's/^AC_INIT(\[coppice\], \[\([0-9.]*\)\].*/\1/p' configure.ac)
grep -rnF "\"$version\"" src | empty "no source repeats the version $version"
grep -q "^Coppice $version" NEWS || echo "NEWS" | empty "NEWS begins with the version"
done_testing
