#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The book's sender, with real mail to a mail server of our own: in C in three ways, and as `coppice map`.

bats_require_minimum_version 1.5.0
load helper

GOOD="hello@world.com hola@world.com nihao@world.com"

setup_file() {
	compile "$BATS_FILE_TMPDIR/sender" <"$COP_SRCDIR/etc/examples/sender.c"
}

setup() {
	cop_setup
	"$COP_PYTHON" "$COP_SRCDIR/etc/examples/mail_sink.py" "$COP_TMP" 3>&- 4>&- &
	SINK=$!
	wait_until "$COP_DEADLINE" test -s "$COP_TMP/port"
	SMTP_PORT=$(cat "$COP_TMP/port")
	export SMTP_PORT
}

teardown() {
	kill "$SINK"
	wait "$SINK" 2>/dev/null || true
	cop_teardown
}

sender() {
	run --separate-stderr timeout "$COP_DEADLINE" "$BATS_FILE_TMPDIR/sender" "$@"
}

sent() {
	sort "$COP_TMP/sent" 2>/dev/null | sed 's/ .*//' | tr '\n' ' '
}

@test "C: async and async_stream send to everybody, and tell in order" {
	for way in async async_stream async_stream_nolink; do
		rm -f "$COP_TMP/sent"
		# shellcheck disable=SC2086 # words
		sender "$way" $GOOD
		assert_status 0
		assert_equal "$output" "hello@world.com: email_sent
hola@world.com: email_sent
nihao@world.com: email_sent"
		assert_equal "$(sent)" "$GOOD "
	done
	assert_equal "$(sort -u "$COP_TMP/sent" | head -n 1)" "hello@world.com Welcome, hello@world.com"
}

@test "C: a crash takes those along that are linked with it" {
	for way in async async_stream; do
		# shellcheck disable=SC2086 # words
		sender "$way" konnichiwa@world.com $GOOD
		assert_status 134
	done
}

@test "C: under a supervisor, a crash is one result among others" {
	sender async_stream_nolink hello@world.com konnichiwa@world.com hola@world.com nihao@world.com
	assert_status 0
	assert_match "$output" "^hello@world.com: email_sent
konnichiwa@world.com: signal:ABRT(\+core)?
hola@world.com: email_sent
nihao@world.com: email_sent$"
	assert_equal "$(sent)" "$GOOD "
}

# --- the same from the shell; an item's failure is its own --------------------------------------

need_msmtp() {
	command -v msmtp >/dev/null || skip "msmtp is not installed"
}

@test "map: sends to everybody, and tells in order" {
	need_msmtp
	# shellcheck disable=SC2086 # words
	run cop map -P 3 -- "$COP_SRCDIR/etc/examples/send_email.sh" {} ::: $GOOD
	assert_status 0
	assert_equal "$output" "email to hello@world.com sent
email to hola@world.com sent
email to nihao@world.com sent"
	assert_equal "$(sent)" "$GOOD "
}

@test "map: one crash is one failed item" {
	need_msmtp
	run cop map -P 2 -- "$COP_SRCDIR/etc/examples/send_email.sh" {} \
		::: hello@world.com konnichiwa@world.com hola@world.com nihao@world.com
	assert_status 1
	assert_match "$output" "oops, couldn't send email to konnichiwa@world.com!"
	assert_equal "$(sent)" "$GOOD "
}

@test "map: with --halt now, a crash stops the others" {
	need_msmtp
	run cop map -P 1 --halt now,fail=1 -- "$COP_SRCDIR/etc/examples/send_email.sh" {} \
		::: hello@world.com konnichiwa@world.com hola@world.com nihao@world.com
	assert_match "$status" "^[1-9]"
	assert_equal "$(sent)" "hello@world.com "
}
