#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# SendServer as a shell script: the last section of doc/tutorial.md; coppice-server(7).
#
#	send_server.sh OUTBOX RETRY_MS

outbox=$1 retry_ms=$2 max_retries=3
emails='' # words: ADDRESS=sent, or ADDRESS=N after N retries

# Delivers an email: a line in a file. One address never works.
deliver() {
	[ "$1" != konnichiwa@world.com ] && echo "Dear $1" >>"$outbox"
}

retry_later() {
	echo "{\"send_after\":$retry_ms,\"msg\":\"retry\"}"
}

# handle_call: a question.
state() {
	list=
	for email in $emails; do
		list="$list${list:+,}{\"address\":\"${email%=*}\",\"state\":\"${email##*=}\"}"
	done
	echo "{\"reply\":$1,\"msg\":[$list]}"
}

# handle_cast: a request.
send() {
	if deliver "$1"; then emails="$emails $1=sent"; else emails="$emails $1=0"; fi
}

# handle_info: everything else.
retry() {
	all=$emails emails=
	for email in $all; do
		address=${email%=*} n=${email##*=}
		if [ "$n" = sent ] || [ "$n" -ge $max_retries ]; then
			emails="$emails $email"
		elif deliver "$address"; then
			emails="$emails $address=sent"
		else
			emails="$emails $address=$((n + 1))"
		fi
	done
	retry_later
}

# terminate: standard error is the log.
terminate() {
	# shellcheck disable=SC2086 # words are what is counted
	set -- $emails
	echo "terminating, $# emails" >&2
	exit 0
}
trap terminate TERM

echo "started, max_retries is $max_retries" >&2
retry_later
while IFS= read -r line; do
	case $line in
	'{"call":'*'"msg":"state"}')
		ref=${line#'{"call":'}
		state "${ref%%,*}"
		;;
	'{"cast":{"send":"'*)
		address=${line#'{"cast":{"send":"'}
		send "${address%%\"*}"
		;;
	'{"info":"retry"}') retry ;;
	esac
done
