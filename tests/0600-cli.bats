#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck disable=SC2154,SC2016 # bats' run sets status and output; `words` in messages
#
# The command line from outside: usage, exit statuses, and what every command prints.

load helper

# JSON on standard input; the argument is a Python expression about j that must be true.
json() {
	"$COP_PYTHON" -c '
import json, sys
j = json.load(sys.stdin)
if not eval("(" + sys.argv[1] + ")"):
    print("not true:", sys.argv[1]); print(json.dumps(j, indent=1)); sys.exit(1)
' "$1"
}

# The same for a stream of one value a line: j is the list of them.
json_lines() {
	"$COP_PYTHON" -c '
import json, sys
j = [json.loads(line) for line in sys.stdin]
if not eval("(" + sys.argv[1] + ")"):
    print("not true:", sys.argv[1]); print(json.dumps(j, indent=1)); sys.exit(1)
' "$1"
}

demo_conf() {
	node_conf <<'END'
node = "demo";
supervisor: {
	strategy = "one_for_one"; max_restarts = 3; max_seconds = 5;
	children = (
		{ id = "cache"; exec = [ "/bin/sh", "-c", "echo one; echo two; exec /bin/sleep 1000" ]; },
		{ id = "off"; enabled = false; exec = [ "/bin/sleep", "1000" ]; },
		{ id = "app"; type = "supervisor"; strategy = "rest_for_one"; children = (
			{ id = "db"; exec = [ "/bin/sleep", "1000" ]; },
			{ id = "api"; restart = "transient"; exec = [ "/bin/sleep", "1000" ]; } ); },
		{ id = "pool"; type = "dynamic_supervisor"; max_children = 2; }
	);
};
END
}

demo_start() {
	demo_conf
	node_start
}

# --- without a node ------------------------------------------------------------------------

@test "version and help are there without a node" {
	run "$COPPICE" --version
	assert_status 0
	assert_match "$output" '^coppice [0-9]+\.[0-9]+\.[0-9]+$'
	run "$COPPICE" --help
	assert_status 0
	for command in run check status tree start stop restart signal add task remove reload events log map shutdown; do
		assert_match "$output" "  $command "
		run "$COPPICE" "$command" --help
		assert_status 0
		assert_match "$output" "^usage: coppice $command"
		run "$COPPICE" help "$command"
		assert_status 0
		run "$COPPICE" --help
	done
	run "$COPPICE" help help
	assert_status 0
	assert_match "$output" '^usage: coppice help'
}

@test "wrong usage ends with 2, one line and a hint" {
	for words in "" "statsu" "status a b" "status --follow" "status --json=x" "stop" "signal web" "signal web NOSUCH" \
		"add pool" "add pool x -- /bin/true" "run" "run --" "run a b" "run f -- cmd" "log a -n x" "events --since x" \
		"status --timeout x" "check" "--nonsense" "shutdown now"; do
		# shellcheck disable=SC2086
		run "$COPPICE" $words
		assert_status 2
		assert_equal "${#lines[@]}" 1
		assert_match "$output" '^coppice: .*see `coppice .*--help`'
	done
	run "$COPPICE" statsu
	assert_match "$output" 'did you mean `status`'
}

@test "an empty PATH is wrong usage, not the whole tree" {
	for words in "status" "start" "stop a" "restart" "remove" "log" "signal"; do
		# shellcheck disable=SC2086
		if [ "$words" = signal ]; then run "$COPPICE" signal "" TERM; else run "$COPPICE" $words ""; fi
		assert_status 2
		assert_match "$output" "^coppice: ${words% *}: PATH is empty"
	done
	run "$COPPICE" add "" -- /bin/true
	assert_status 2
	assert_match "$output" '^coppice: add: PATH is empty'
}

@test "no node is running: 3" {
	for words in "status" "status web" "tree" "start a" "stop a" "restart a" "signal a TERM" "add p -- /bin/true" \
		"remove a" "reload" "events" "events --follow" "log a" "shutdown"; do
		# shellcheck disable=SC2086
		run "$COPPICE" $words
		assert_status 3
		assert_equal "$output" "coppice: no node is running"
		# shellcheck disable=SC2086
		run "$COPPICE" --node demo $words
		assert_status 3
		# shellcheck disable=SC2086
		run "$COPPICE" --socket "$COP_TMP/none" $words
		assert_status 3
	done
}

@test "check: one line a file, all errors of bad ones, 78" {
	demo_conf
	run "$COPPICE" check "$COP_TMP/node.conf"
	assert_status 0
	assert_match "$output" \
		"^$COP_TMP/node.conf: ok: 6 children, 3 supervisors, at most [0-9]+ restarts in 5 s before the node gives up\$"
	printf 'supervisor: {\n children = ( { id = "a"; exce = [ "x" ]; } );\n};\n' >"$COP_TMP/bad.conf"
	run "$COPPICE" check "$COP_TMP/bad.conf" "$COP_TMP/node.conf"
	assert_status 78
	assert_match "$output" "bad.conf:2: "
	assert_match "$output" "node.conf: ok: "
	run "$COPPICE" check --quiet "$COP_TMP/node.conf"
	assert_status 0
	assert_equal "$output" ""
	run "$COPPICE" run "$COP_TMP/bad.conf"
	assert_status 78
}

@test "output that cannot be written is a failure" {
	run bash -c '"$COPPICE" --help >/dev/full'
	assert_status 1
}

# --- looking -------------------------------------------------------------------------------

@test "status --json has the documented shape" {
	demo_start
	cop status --json >"$COP_TMP/json"
	json "[j[k] for k in ('node', 'version', 'state')] == ['demo', '0.1.0', 'running'] and
		j['pid'] == $NODE_PID and j['uptime_ms'] >= 0" <"$COP_TMP/json"
	json "[j['root'][k] for k in ('path', 'type', 'strategy', 'max_restarts', 'max_seconds', 'restarts_left', 'state')]
		== ['/', 'supervisor', 'one_for_one', 3, 5, 3, 'running']" <"$COP_TMP/json"
	json "[c['path'] for c in j['root']['children']] == ['cache', 'off', 'app', 'pool']" <"$COP_TMP/json"
	json "[c['path'] for c in j['root']['children'][2]['children']] == ['app/db', 'app/api']" <"$COP_TMP/json"
	json "[c['type'] for c in j['root']['children']] == ['worker', 'worker', 'supervisor', 'dynamic_supervisor']" \
		<"$COP_TMP/json"
	json "all(k in c for c in j['root']['children'] for k in
		('path', 'id', 'type', 'restart', 'pid', 'state', 'restarts', 'uptime_ms', 'last_exit'))" <"$COP_TMP/json"
	json "[(c['state'], c['pid'], c['uptime_ms'], c['last_exit']) for c in j['root']['children'] if c['id'] == 'off']
		== [('stopped', None, None, None)]" <"$COP_TMP/json"
	json "j['root']['children'][2]['children'][1]['restart'] == 'transient'" <"$COP_TMP/json"
	cop tree --json | json "j['root']['path'] == '/'"
}

@test "status is a table that can be cut by blanks" {
	demo_start
	run cop status
	assert_status 0
	assert_equal "${#lines[@]}" 7
	assert_match "${lines[0]}" '^PATH +STATE +PID +UPTIME +RESTARTS +DESCRIPTION'
	assert_match "${lines[1]}" '^cache +running +[0-9]+ +[0-9]+:[0-9][0-9]:[0-9][0-9] +0 +'
	assert_match "${lines[2]}" '^off +stopped +- +- +0'
	assert_equal "$(cop status | awk '$1 == "app/db" { print $2, $3 }')" "running $(child app/db pid)"
	run cop status --quiet
	assert_status 0
	assert_equal "$output" ""
}

@test "status PATH: a block, and 0, 3 or 4" {
	demo_start
	run cop status cache
	assert_status 0
	for line in 'Status +: running' 'Command +: /bin/sh' "PID +: $(child cache pid)" 'Uptime +: ' 'Restarts +: 0' \
		'Restart type +: permanent' 'Shutdown +: 5000 ms'; do
		assert_match "$output" "$line"
	done
	run cop status off
	assert_status 3
	for path in nobody cache/x app/nobody ../x 'a b' "$(printf 'x%.0s' {1..600})"; do
		run cop status "$path"
		assert_status 4
		run cop status --json "$path"
		assert_status 4
	done
	run cop status app
	assert_status 0
	assert_match "$output" 'Strategy +: rest_for_one'
	run cop status /
	assert_status 0
	cop status cache --json | json "j['path'] == 'cache' and j['state'] == 'running' and j['exits'] == []"
	cop status app --json | json "[c['path'] for c in j['children']] == ['app/db', 'app/api']"
}

@test "a death is remembered: when, why, how long, what it wrote" {
	demo_start
	pid=$(child cache pid)
	cop signal cache KILL
	wait_event exit path=cache "pid=$pid"
	wait_until "$COP_DEADLINE" death_has_lines
	cop status cache --json | json "j['last_exit'] == 'signal:KILL' and j['restarts'] == 1 and
		[(e['pid'], e['reason'], e['asked']) for e in j['exits']] == [($pid, 'signal:KILL', False)] and
		j['exits'][0]['ran_ms'] >= 0 and 'two' in j['exits'][0]['lines']"
	run cop status cache
	assert_match "$output" "signal:KILL, pid $pid, ran "
	assert_match "$output" '\| two'
}

death_has_lines() {
	cop status cache --json | json "'two' in j['exits'][0]['lines']" >/dev/null
}

@test "--quiet prints nothing, with --json neither" {
	demo_start
	for words in "status" "status cache" "tree" "events" "log cache" "stop cache" "start cache" "restart cache" \
		"signal cache CONT" "add pool -- /bin/sleep 1000" "reload" "remove app/api" "shutdown"; do
		# shellcheck disable=SC2086
		run cop --quiet --json $words
		assert_status 0
		assert_equal "$output" ""
	done
	node_wait
}

@test "the top supervisor and the logs of supervisors: each command says what is wrong" {
	demo_start
	for verb in start restart remove stop log; do
		run cop "$verb" /
		assert_status 1
		case $verb in
		start) want='runs as long as the node does' ;;
		restart) want='cannot be restarted' ;;
		remove) want='cannot be removed' ;;
		stop) want='is stopped with' ;;
		log) want='a supervisor has no log of its own' ;;
		esac
		assert_match "$output" "^coppice: /: .*$want"
	done
	run cop log app
	assert_status 1
	assert_equal "$output" "coppice: app: a supervisor has no log of its own"
	run cop log nobody
	assert_status 4
}

@test "a dynamic supervisor's strategy is shown as dynamic everywhere" {
	demo_start
	run cop tree
	assert_match "$output" 'pool  running  pid [0-9]+  dynamic, restarts left'
	run cop status
	assert_match "$output" 'dynamic, restarts left'
	run cop status pool
	assert_match "$output" 'Strategy +: dynamic'
}

@test "tree draws in the locale's characters" {
	demo_start
	LC_ALL=C run cop tree
	assert_status 0
	assert_match "$output" '(^|
)\|- app  running  pid [0-9]+  rest_for_one, restarts left 3/3 in 5 s'
	assert_match "$output" '`- pool'
	LC_ALL=C.UTF-8 run cop tree
	assert_match "$output" '├─ cache'
}

# --- acting --------------------------------------------------------------------------------

@test "stop, start, restart" {
	demo_start
	run cop stop app/api cache
	assert_status 0
	run cop status cache
	assert_status 3
	assert_equal "$(child cache state)" stopped
	assert_equal "$(child cache last_exit)" shutdown
	run cop start cache
	assert_status 0
	assert_equal "$(child cache state)" running
	pid=$(child cache pid)
	run cop restart cache
	assert_status 0
	assert_match "$(child cache pid)" '^[0-9]+$'
	[ "$(child cache pid)" != "$pid" ]
	run cop start nobody
	assert_status 4
	run cop start nobody cache
	assert_status 4
	run cop stop --json cache
	assert_status 0
	json "[(r['path'], r['status']) for r in j['results']] == [('cache', 0)]" <<<"$output"
	run cop restart --quiet cache app/db
	assert_status 0
	assert_equal "$output" ""
}

@test "a stop that takes too long: --timeout ends with 1, --no-wait at once" {
	node_conf <<'END'
supervisor: { children = ( { id = "stubborn"; shutdown = 60000;
	exec = [ "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done" ]; ready = "log:up"; } ); };
END
	node_start
	run cop stop stubborn --timeout 100
	assert_status 1
	assert_equal "$output" "coppice: timed out after 100 ms"
	run cop stop stubborn --no-wait
	assert_status 0
	assert_equal "$(child stubborn state)" stopping
	cop signal stubborn KILL
	wait_child stubborn state stopped
}

@test "signal: by name and number; unknown ones are wrong usage" {
	demo_start
	run cop signal cache SIGCONT
	assert_status 0
	run cop signal cache 18
	assert_status 0
	run cop signal cache NOSUCH
	assert_status 2
	run cop signal off TERM
	assert_status 1
	run cop signal nobody TERM
	assert_status 4
}

@test "add and remove under a dynamic supervisor" {
	demo_start
	run cop add pool id=one restart=temporary -- /bin/sleep 1000
	assert_status 0
	assert_equal "$output" pool/one
	cop status pool/one --json | json "j['state'] == 'running' and j['restart'] == 'temporary' and j['dynamic']"
	run cop add pool --json -- /bin/sleep 1000
	assert_status 0
	path=$(field path <<<"$output")
	assert_match "$path" '^pool/sleep'
	run cop add pool -- /bin/sleep 1000
	assert_status 1
	run cop add nobody -- /bin/sleep 1
	assert_status 4
	run cop add pool nonsense=1 -- /bin/sleep 1
	assert_match "$status" '^(2|78)$'
	run cop remove pool/one "$path"
	assert_status 0
	run cop status pool/one
	assert_status 4
	run cop remove app/db
	assert_status 0
	run cop status app/db
	assert_status 4
}

@test "reload prints the difference and touches only that" {
	demo_start
	run cop reload
	assert_status 0
	assert_equal "$output" "no changes"
	cop reload --json | json "j == {'added': [], 'changed': [], 'removed': []}"
	sed -i -e '/id = "off"/d' -e 's/{ id = "cache"; exec/{ id = "new"; exec = [ "\/bin\/sleep", "1" ]; }, &/' \
		-e 's/max_children = 2/max_children = 3/' "$COP_TMP/node.conf"
	pid=$(child cache pid)
	run cop reload --dry-run
	assert_status 0
	assert_match "$output" 'added new'
	assert_match "$output" 'changed pool'
	assert_match "$output" 'removed off'
	assert_equal "${#lines[@]}" 3
	run cop status new
	assert_status 4
	cop reload --json | json "j == {'added': ['new'], 'changed': ['pool'], 'removed': ['off']}"
	assert_equal "$(child cache pid)" "$pid"
	echo 'nonsense = 1;' >>"$COP_TMP/node.conf"
	run cop reload
	assert_status 78
	assert_match "$output" 'node.conf:[0-9]+: '
	run cop status new
	assert_match "$status" '^[03]$'
}

@test "events: shape, order, --since, --follow" {
	demo_start
	cop events --json | json_lines "[e['seq'] for e in j] == sorted(e['seq'] for e in j) and
		all(k in e for e in j for k in ('seq', 'time', 'event')) and
		[e['path'] for e in j if e['event'] == 'start'][:2] == ['/', 'cache']"
	last=$(cop events --json | tail -n 1 | field seq)
	run cop events --json --since $((last + 1))
	assert_status 0
	assert_equal "$output" ""
	assert_equal "$(cop events --json --since 0)" "$(cop events --json)"
	assert_equal "$(cop events | wc -l)" "$(cop events --json | wc -l)"
	cop events --json --follow --since $((last + 1)) >"$COP_TMP/followed" 3>&- &
	follower=$!
	cop stop cache
	wait_until "$COP_DEADLINE" grep -q '"event":"exit"' "$COP_TMP/followed"
	node_stop
	# a follower ends with the node, and that is no failure
	wait "$follower"
	json_lines "[e['event'] for e in j if e.get('path') == 'cache'][:2] == ['stop', 'exit']" <"$COP_TMP/followed"
}

@test "log: the last lines, all, as JSON, followed" {
	demo_start
	wait_until "$COP_DEADLINE" log_has two
	run cop log cache -n 1
	assert_status 0
	assert_match "$output" two
	assert_equal "${#lines[@]}" 1
	cop log cache -n all --json | json_lines "[l['line'] for l in j if 'one' in l['line']] != []"
	run cop log nobody
	assert_status 4
	cop log cache --follow -n all >"$COP_TMP/followed" 3>&- &
	follower=$!
	wait_until "$COP_DEADLINE" followed two 1
	cop restart cache
	wait_until "$COP_DEADLINE" followed two 2
	node_stop
	wait "$follower"
}

# followed TEXT N: exactly N lines of what was followed so far contain it.
followed() {
	[ "$(grep -c "$1" "$COP_TMP/followed")" = "$2" ]
}

log_has() {
	cop log cache -n all | grep -q "$1"
}

# --- the node as a whole -------------------------------------------------------------------

@test "shutdown waits for the end, and run ends with 0" {
	demo_start
	run cop shutdown
	assert_status 0
	run kill -0 "$NODE_PID"
	assert_status 1
	node_wait
	assert_equal "$NODE_STATUS" 0
	run cop shutdown
	assert_status 3
}

@test "shutdown --no-wait, --timeout, --json" {
	node_conf <<'END'
supervisor: { children = ( { id = "slow"; shutdown = 60000;
	exec = [ "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done" ]; ready = "log:up"; } ); };
END
	node_start
	run cop shutdown --no-wait
	assert_status 0
	run cop shutdown --timeout 100
	assert_status 1
	assert_equal "$output" "coppice: timed out after 100 ms"
	cop signal slow KILL
	node_wait
	assert_equal "$NODE_STATUS" 0
}

@test "finding the node: --socket, COPPICE_SOCKET, --node, the only one" {
	demo_start
	socket=$COPPICE_RUNTIME_DIR/demo/control
	for words in "--socket $socket" "--node demo" "--socket $socket --node demo" ""; do
		# shellcheck disable=SC2086
		run cop status --json $words
		assert_status 0
		assert_equal "$(field node <<<"$output")" demo
	done
	COPPICE_SOCKET=$socket COPPICE_RUNTIME_DIR=$COP_TMP/none run cop status
	assert_status 0
	COPPICE_SOCKET=$socket run cop status --node other
	assert_status 3
	run cop status --node other
	assert_status 3
	printf 'node = "second"; supervisor: { children = (); };\n' >"$COP_TMP/second.conf"
	"$COPPICE" run "$COP_TMP/second.conf" 2>"$COP_TMP/second.err" 3>&- &
	second=$!
	wait_until "$COP_DEADLINE" cop status --quiet --node second
	run cop status
	assert_status 2
	assert_match "$output" 'several nodes are running: (demo, second|second, demo)'
	run cop shutdown --node second
	assert_status 0
	wait "$second"
	run cop status --quiet
	assert_status 0
}

@test "what a child is called or says is escaped" {
	demo_start
	run cop add pool id=esc -- /bin/sh -c $'exec sleep 1000 # \e[2J\n\x07'
	assert_status 0
	run cop status
	assert_match "$output" ' \\x1b\[2J\\x0a\\x07'
	cop status pool/esc --json | json "' \\\\x1b[2J' in j['command']"
}

@test "what is below a stopped supervisor is stopped, and still seen" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "app"; type = "supervisor"; children = (
		    { id = "db"; exec = [ "sleep", "1000" ]; },
		    { id = "in"; type = "supervisor"; children = ( { id = "api"; exec = [ "sleep", "1001" ]; } ); } ); } ); };
	END
	node_start
	cop stop app
	assert_equal "$(cop status | awk 'NR > 1 { print $1, $2 }' | tr '\n' ';')" \
		"app stopped;app/db stopped;app/in stopped;app/in/api stopped;"
	assert_match "$(cop tree)" "api  stopped"
	run cop status app/in/api
	assert_status 3
	cop start app
	assert_equal "$(child app/in/api state)" running
	node_stop
}
