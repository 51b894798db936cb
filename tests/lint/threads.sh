#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck disable=SC2086,SC2046 # several words
#
# Sending, receiving, links, monitors and burying with threads in place of processes, under ThreadSanitizer: no
# data race but those that suppressions name with their reason (tests/tsan).
. "${COP_SRCDIR:=$(cd "$(dirname "$0")/../.." && pwd)}/tests/lint/tap"

flags="-std=gnu17 -g -O1 -w -fsanitize=thread -DPROC_THREADS -include $COP_BUILDDIR/config.h -Isrc -Isrc/include"
flags="$flags $(pkg-config --cflags libbsd-overlay)"
if ! echo 'int main(void) { return 0; }' | $CC -fsanitize=thread -x c - -o "$tap_tmp/probe" 2>/dev/null ||
	! "$tap_tmp/probe"; then
	skip "threads" "no ThreadSanitizer here"
	done_testing
fi
verdict "it compiles" $CC $flags -o "$tap_tmp/threads" tests/tsan/threads.c src/base/*.c src/ipc/*.c src/proc/*.c \
	$(pkg-config --libs libbsd-overlay) -pthread
if [ -x "$tap_tmp/threads" ]; then
	TSAN_OPTIONS="suppressions=$PWD/tests/tsan/suppressions halt_on_error=0 exitcode=66" \
		timeout 100 "$tap_tmp/threads" ${THREADS_SECONDS:-2} >"$tap_tmp/said" 2>&1
	status=$?
	sed 's/^/# /' "$tap_tmp/said" | head -n 200
	grep -c 'WARNING: ThreadSanitizer' "$tap_tmp/said" | grep -v '^0$' | empty "no data race"
	verdict "nothing is lost" test $status -eq 0
fi
done_testing
