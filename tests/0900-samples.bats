#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The sample configurations, run for real.

load helper

sample() {
	cp "$COP_SRCDIR/etc/$1" "$COP_TMP/node.conf"
}

need() {
	[ -x "$1" ] || skip "$1 is not installed"
}

# A sample's directory must not be the one the tests run in.
start_sample() {
	sample "$1"
	cd "$COP_TMP"
	node_start
}

redis_says() {
	local line
	exec 5<>/dev/tcp/127.0.0.1/7001
	printf '%s\r\n' "$1" >&5
	read -r -t 10 line <&5
	exec 5>&-
	echo "${line%$'\r'}"
}

@test "every sample is a valid configuration" {
	cd "$COP_SRCDIR/etc"
	for file in *.conf; do
		run cop check "$file"
		assert_status 0
		assert_match "$output" "^$file: ok: "
	done
}

@test "demo: everything comes up" {
	start_sample demo.conf
	for path in ticker shop/store shop/api shop/web trio/a trio/b trio/c fragile/friend \
		fragile/core/bomb; do
		wait_event ready path=$path >/dev/null
	done
	node_stop
}

@test "demo: one_for_one heals the one" {
	start_sample demo.conf
	pid=$(wait_event ready path=ticker | field pid)
	web=$(wait_event ready path=shop/web | field pid)
	kill -9 "$pid"
	assert_equal "$(wait_event exit path=ticker | field reason)" signal:KILL
	wait_event -n 2 ready path=ticker >/dev/null
	assert_equal "$(child shop/web pid)" "$web"
}

@test "demo: rest_for_one takes the later ones, in order" {
	start_sample demo.conf
	cop signal shop/api KILL
	wait_event restart path=shop children=shop/api,shop/web >/dev/null
	wait_event -n 2 ready path=shop/web >/dev/null
	assert_equal "$(events_of start path='shop/*' | field path | paste -sd ' ')" \
		"shop/store shop/api shop/web shop/api shop/web"
}

@test "demo: one_for_all takes all, last first, and starts all, first first" {
	start_sample demo.conf
	cop signal trio/a KILL
	wait_event restart path=trio children=trio/a,trio/b,trio/c >/dev/null
	wait_event -n 2 ready path=trio/c >/dev/null
	assert_equal "$(events_of exit path='trio/*' | field path | paste -sd ' ')" "trio/a trio/c trio/b"
	assert_equal "$(events_of exit path=trio/c | field reason)" killed
	assert_equal "$(events_of start path='trio/*' | field path | paste -sd ' ')" \
		"trio/a trio/b trio/c trio/a trio/b trio/c"
}

@test "demo: a budget used up is escalated" {
	start_sample demo.conf
	for n in 1 2 3; do
		wait_event -n $n ready path=fragile/core/bomb >/dev/null
		cop signal fragile/core/bomb KILL
	done
	wait_event limit path=fragile/core max_restarts=2 >/dev/null
	wait_event restart path=fragile children=fragile/friend,fragile/core >/dev/null
	wait_event -n 4 ready path=fragile/core/bomb >/dev/null
	wait_event -n 2 ready path=fragile/friend >/dev/null
	assert_equal "$(child fragile/core restarts_left)" 2
	assert_equal "$(child fragile restarts_left)" 1
}

@test "demo: children of the pool come and go" {
	start_sample demo.conf
	cop add pool id=guest -- sleep 1000
	wait_event ready path=pool/guest >/dev/null
	pid=$(child pool/guest pid)
	cop remove pool/guest
	assert_gone "$pid"
	run cop status pool/guest
	assert_status 4
}

@test "web: nginx follows redis, redis does not follow nginx" {
	need /usr/bin/redis-server
	need /usr/sbin/nginx
	cp "$COP_SRCDIR/etc/web/nginx.conf" "$COP_TMP"
	start_sample web.conf
	redis=$(wait_event -t 40 ready path=site/redis | field pid)
	nginx=$(wait_event -t 40 ready path=site/nginx | field pid)
	assert_equal "$(curl -sS http://127.0.0.1:7080/)" "grown again"

	kill -9 "$nginx"
	wait_event -t 40 -n 2 ready path=site/nginx >/dev/null
	assert_equal "$(child site/redis pid)" "$redis"
	assert_equal "$(curl -sS http://127.0.0.1:7080/)" "grown again"

	kill -9 "$redis"
	wait_event -t 40 restart path=site children=site/redis,site/nginx >/dev/null
	wait_event -t 40 -n 3 ready path=site/nginx >/dev/null
	assert_equal "$(curl -sS http://127.0.0.1:7080/)" "grown again"
	assert_equal "$(redis_says PING)" +PONG
	node_stop
	grep -q 'bye bye' "$COPPICE_STATE_DIR"/*/log/site/redis/current ||
		grep -rq 'bye bye' "$COPPICE_STATE_DIR"
}

@test "container: the end of the application is the end of the node, with its status" {
	start_sample container.conf
	app=$(wait_event ready path=app | field pid)
	kill -TERM "$app"
	node_wait
	assert_equal "$NODE_STATUS" 0
	grep -q serving "$COP_TMP/stdout"
}
