#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# What must not stand in the sources, whatever the reason.
# shellcheck disable=SC2086,SC2046 # names without blanks
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

mkdir "$tap_tmp/code"
for file in $(sources); do code_of "$file" >"$tap_tmp/code/$(echo "$file" | tr / :)"; done
cd "$tap_tmp/code" || exit 99

# calls REGEX: where a function is called, comments aside.
calls() {
	grep -nE "(^|[^A-Za-z0-9_.>\"])($1)[[:space:]]*\(" ./*
}

calls 'system|popen|wordexp' | empty "no shell is ever involved"
calls 'alloca|__builtin_alloca|strdupa' | empty "nothing of unknown size on the stack"
calls 'strcpy|strcat|sprintf|vsprintf|gets|strncpy|strncat|stpcpy' | empty "no unbounded copies"
calls 'atoi|atol|atoll|atof' | empty "no number is read without a check"
calls 'mktemp|tmpnam|tempnam' | empty "no temporary names"
calls 'signal|siginterrupt|sigset' | grep -vE 'SIG_(DFL|IGN)\)' | empty "handlers are set up with sigaction"
calls 'rand|random|srand|srandom|drand48' | empty "randomness comes from the kernel"
calls 'sleep|usleep' | empty "nothing sleeps instead of waiting"
calls 'setlocale' | grep -v '^\./src:cli:' | empty "no locale, but for drawing"
calls 'vfork|daemon' | empty "neither vfork nor daemon"
calls 'select|FD_SET' | empty "no select: descriptors above 1023 are common"
calls 'setjmp|longjmp|sigsetjmp|siglongjmp' | empty "no jumps between functions"
grep -nE '\bcop_[a-z]+\b.*\bassert\(|(^|[^A-Z_])assert\(' ./* | empty "DIAG_ASSERT, which stays in releases"

cd "$COP_SRCDIR" || exit 99
all=$(find src tests contrib doc etc m4 .ci configure.ac Makefile.am README NEWS CONTRIBUTING \
	-type f ! -path 'tests/conformance/*' ! -name '*.pyc' ! -name '*.log' ! -name '*.trs' ! -name '*.o' \
	! -name '*.lo' ! -name 'libtool.m4' ! -name 'lt*.m4' ! -path '*/.deps/*' ! -path '*/.libs/*' 2>/dev/null)
grep -nE '\b(TO''DO|FIX''ME|XX''X|HA''CK)\b' $all | empty "nothing is left for later"
grep -nE '[[:blank:]]+$' $(echo "$all" | tr ' ' '\n' | grep -v '^tests/config/') |
	empty "no blanks at ends of lines"
grep -nE '^ {8}[^ ]' $(sources) | empty "C is indented with tabs"
for file in $(sources) $(find tests -name '*.[ch]' -o -name '*.bats' -o -name '*.bash' \
	-o -name '*.sh' -o -name '*.py') Makefile.am configure.ac; do
	head -n 4 "$file" | grep -q 'SPDX-License-Identifier: ISC' || echo "$file"
done | empty "every source names its licence"
wc -l $(sources) | awk '$2 != "total" && $1 > 1000' | empty "no file of more than 1,000 lines"
awk 'length($0) > 120 { print FILENAME ":" FNR ": " length($0) " columns" }' \
	$(sources) | empty "no line of more than 120 columns"
# A file opens with what it decides, where it runs and how it allocates.
for file in $(find src -name '*.c' | sort); do
	sed -n '3,6p' "$file" | grep -q '^/\*' || echo "$file"
done | empty "every C file opens with a comment"
for file in $(find src -name '*.h' | sort); do
	code_of "$file" | grep -q '^#ifndef [A-Z0-9_]*_H$' || echo "$file"
done | empty "every header has a guard"
done_testing
