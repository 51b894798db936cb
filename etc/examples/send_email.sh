#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# send_email.sh ADDRESS: sends one message to ADDRESS through the mail server on port $SMTP_PORT of this machine. As in
# the book, one address is bad luck: konnichiwa@world.com.
set -eu
[ "$1" != konnichiwa@world.com ] || { echo "oops, couldn't send email to $1!" >&2; kill -s SEGV $$; }
printf 'From: team@example.com\nTo: %s\nSubject: Welcome, %s\n\nHello!\n' "$1" "$1" |
	msmtp --file=/dev/null --host=127.0.0.1 --port="$SMTP_PORT" --from=team@example.com -- "$1"
echo "email to $1 sent"
