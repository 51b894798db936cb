#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Servers in the configuration file, and what the shell says to them: a module in C, and executables that
# speak JSON lines, well and badly. The well-behaved ones are the examples of coppice-server(7).

bats_require_minimum_version 1.5.0
load helper

setup_file() {
	export MODULE=$BATS_FILE_TMPDIR/counter.so SH_COUNTER=$BATS_FILE_TMPDIR/counter.sh
	export PY_COUNTER=$BATS_FILE_TMPDIR/counter.py NAUGHTY=$BATS_TEST_DIRNAME/helpers/naughty.py
	# shellcheck disable=SC2086 # words of flags
	"${CC:-cc}" -std=c17 -D_GNU_SOURCE -O1 -shared -fPIC -I"$COP_SRCDIR/src/include" -o "$MODULE" \
		"$BATS_TEST_DIRNAME/helpers/counter.c"
	example 1 >"$SH_COUNTER"
	example 2 | sed "1s|.*|#!$COP_PYTHON|" >"$PY_COUNTER"
	chmod 755 "$SH_COUNTER" "$PY_COUNTER"
}

setup() {
	cop_setup
}

# example N: the N-th literal display of the page's examples.
example() {
	awk -v want="$1" '
	/^\.Sh/ { here = $2 == "EXAMPLES" }
	/^\.Ed/ { on = 0 }
	on { gsub(/\\e/, "\\"); gsub(/\\&/, ""); gsub(/\\-/, "-"); print }
	here && /^\.Bd.*-literal/ { on = ++n == want }' "$COP_SRCDIR/doc/man/coppice-server.7"
}

needs_json() {
	[ "${COP_JANSSON:-yes}" != no ] || skip "built without jansson"
}

# module KEYS: a child `c` out of the module, called counter.
module() {
	echo "{ id = \"c\"; module = \"$MODULE\"; server = \"counter_ops\"; name = \"counter\"; $1 }"
}

# json ID NAME COMMAND: a child that speaks JSON.
json() {
	echo "{ id = \"$1\"; exec = [ $3 ]; server = \"json\"; name = \"$2\"; }"
}

naughty() {
	json n naughty "\"$COP_PYTHON\", \"$NAUGHTY\""
}

bystander() {
	json y bystander "\"$COP_PYTHON\", \"$NAUGHTY\""
}

# tree CHILD...: a node with these children, started.
tree() {
	local children
	children=$(printf '%s,\n' "$@")
	node_conf <<-END
		node = "demo";
		supervisor: { max_restarts = 1000; max_seconds = 60; children = ( ${children%,} ); };
	END
	node_start
}

# Asks the bystander: it has the same process as at the beginning, and answers at once.
bystander_is_well() {
	assert_equal "$(cop call bystander '"hello"' --timeout 10000)" '"hello"'
	assert_equal "$(events_of start path=y | wc -l)" 1
}

restarted() {
	wait_event -n "$2" ready "path=$1" >/dev/null
}

log_has() {
	wait_until "$COP_DEADLINE" grep -qE -- "$2" "$COPPICE_STATE_DIR/demo/log/$1/current"
}

pid_of() {
	cop names --json | "$COP_PYTHON" -c "import json,sys
print([n['pid'] for n in json.load(sys.stdin)['names'] if n['name'] == '$1'][0])"
}

# --- call, cast, send, names ---------------------------------------------------------------

@test "the same words for servers in C, in the shell and in Python" {
	needs_json
	tree "$(module '')" "$(json s shell "\"$SH_COUNTER\"")" "$(json p python "\"$PY_COUNTER\"")"
	local name
	for name in counter shell python; do
		assert_equal "$(cop call $name '{"op":"add"}' | tr -d ' ')" '{"value":1}'
		cop cast $name '{"op":"add"}'
		assert_equal "$(cop call $name '{ "op" : "get" }' | tr -d ' ')" '{"value":2}'
		assert_equal "$(echo '{"op":"add"}' | cop call $name - | tr -d ' ')" '{"value":3}'
	done
	cop cast shell '{"op":"stop"}'
	cop cast python '{"op":"stop"}'
	wait_event exit path=s reason=normal asked=false
	wait_event exit path=p reason=normal asked=false
	restarted s 2
	assert_equal "$(cop call shell 1)" '{"value":0}'
	node_stop
}

@test "names: who has one, which child it is" {
	needs_json
	tree "$(module '')" "{ id = \"app\"; type = \"supervisor\"; children = ( $(json p python "\"$PY_COUNTER\"") ); }" \
		'{ id = "plain"; exec = [ "/bin/sleep", "1000" ]; }'
	run -0 cop names
	assert_match "${lines[0]}" '^NAME +PID +PATH'
	assert_match "${lines[1]}" '^counter +[0-9]+ +c$'
	assert_match "${lines[2]}" '^python +[0-9]+ +app/p$'
	assert_equal "${#lines[@]}" 3
	assert_equal "$(pid_of counter)" "$(child c pid)"
	node_stop
}

@test "exit statuses say what happened" {
	needs_json
	tree "$(module '')"
	run --separate-stderr -4 cop call nobody 1
	assert_equal "$stderr" "coppice: nobody: no such name"
	run -4 cop cast nobody 1
	run -4 cop send nobody 1
	run --separate-stderr -2 cop call counter '{"op":'
	assert_match "$stderr" "MSG is not JSON"
	run --separate-stderr -1 cop call counter '"boom"'
	assert_equal "$stderr" "coppice: counter: ended: boom"
	wait_event exit path=c reason=boom
	restarted c 2
	run --separate-stderr -5 cop call counter '"never"' --timeout 50
	assert_equal "$stderr" "coppice: counter: no reply within 50 ms"
	assert_equal "$(cop call counter 1)" '{"value":0}'
	node_stop
	run -3 cop call counter 1
}

@test "many calls at once, one of them to a server that says nothing" {
	needs_json
	tree "$(module '')" "$(naughty)"
	local i pids=()
	cop call naughty '{"op":"never"}' --timeout 3000 &
	local slow=$!
	for i in {1..20}; do
		cop call counter '{"op":"add"}' >/dev/null &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	assert_equal "$(cop call counter 1)" '{"value":20}'
	i=0
	wait $slow || i=$?
	assert_equal $i 5
	node_stop
}

@test "a client that goes away takes its call with it" {
	needs_json
	tree "$(naughty)"
	local i
	for i in {1..100}; do
		timeout -s KILL 0.02 "$COPPICE" call naughty '{"op":"never"}' 2>/dev/null || true
	done
	assert_equal "$(cop call naughty '"well"')" '"well"'
	node_stop
}

@test "a new control process answers as the old one did" {
	needs_json
	tree "$(module '')"
	assert_equal "$(cop call counter '"add"')" '{"value":1}'
	kill -KILL "$(pgrep -P "$NODE_PID" -f 'coppice: control')"
	wait_event note 'text=*control*' >/dev/null
	assert_equal "$(cop call counter '"add"')" '{"value":2}'
	node_stop
}

# --- modules -------------------------------------------------------------------------------

@test "args reach init as JSON; environment, directory and log are a worker's" {
	needs_json
	tree "$(module 'args = { n = 1; big = 5000000000; f = 1.5; w = 2.0; s = "a\"b\n"; l = ( 1, "x", true ); }; env = { ANSWER = "42"; };')"
	assert_equal "$(cop call counter '"args"')" \
		'{"n":1,"big":5000000000,"f":1.5,"w":2.0,"s":"a\"b\u000a","l":[1,"x",true]}'
	assert_equal "$(cop call counter '"env"')" 42
	cop send counter '"note"'
	log_has c '^info "note"'
	assert_match "$(cop log c)" 'init \{"n":1'
	assert_match "$(child c command)" 'counter.so counter_ops$'
	node_stop
}

@test "how a start fails" {
	node_conf <<-END
		supervisor: { children = (
		  { id = "file"; enabled = false; module = "/nonexistent.so"; server = "counter_ops"; },
		  { id = "text"; enabled = false; module = "$COP_TMP/node.conf"; server = "counter_ops"; },
		  { id = "symbol"; enabled = false; module = "$MODULE"; server = "no_ops"; },
		  { id = "refuse"; enabled = false; module = "$MODULE"; server = "counter_ops"; args = "refuse"; },
		  { id = "ignore"; enabled = false; module = "$MODULE"; server = "counter_ops"; args = "ignore"; },
		  { id = "hang"; enabled = false; module = "$MODULE"; server = "counter_ops"; args = "hang"; ready_timeout = 100; },
		  { id = "one"; module = "$MODULE"; server = "counter_ops"; name = "x"; },
		  { id = "two"; enabled = false; module = "$MODULE"; server = "counter_ops"; name = "y"; args = "trap"; }
		); };
	END
	node_start
	local id
	for id in file text symbol refuse hang; do run -1 cop start $id; done
	wait_event start_failed path=file reason=exec:ENOENT step=dlopen
	wait_event start_failed path=text reason=exec:ELIBBAD step=dlopen
	wait_event start_failed path=symbol reason=exec:ENOENT step=dlsym
	wait_event start_failed path=refuse reason=no_luck
	wait_event start_failed path=hang reason=timeout
	cop start ignore
	wait_event start_failed path=ignore reason=ignore
	assert_equal "$(child ignore state)" stopped
	assert_match "$(cop log file)" 'unable to load the module /nonexistent.so'
	node_stop
}

@test "stop is an exit signal: terminate runs for who traps, and only then" {
	tree "$(module '')" \
		"{ id = \"t\"; module = \"$MODULE\"; server = \"counter_ops\"; name = \"trapping\"; args = \"trap\"; }"
	cop stop c
	cop stop t
	wait_event stop path=c how=shutdown
	wait_event exit path=c reason=shutdown asked=true
	wait_event exit path=t reason=shutdown asked=true
	log_has t '^terminate shutdown'
	refute grep -q '^terminate' "$COPPICE_STATE_DIR/demo/log/c/current"
	run -0 cop names
	assert_equal "$output" ""
	cop start c
	cop start t
	cop signal t STOP
	kill -KILL "$(child c pid)"
	wait_event exit path=c reason=killed asked=false
	restarted c 3
	node_stop
	wait_until 5 test -e "$COP_TMP/status"
}

@test "a death has its reason, and the name is there again after the restart" {
	needs_json
	tree "$(module 'limits = { core = 0; };')"
	run -1 cop call counter '"abort"'
	assert_match "$output" 'ended: signal:ABRT'
	wait_event exit path=c reason=signal:ABRT
	restarted c 2
	kill -KILL "$(child c pid)"
	wait_event exit path=c reason=killed
	restarted c 3
	kill -SEGV "$(child c pid)"
	restarted c 4
	assert_equal "$(cop call counter '"add"')" '{"value":1}'
	node_stop
}

@test "a supervisor that is killed takes its servers with it, and their names come back" {
	needs_json
	tree "{ id = \"app\"; type = \"supervisor\"; children = ( $(module ''),
	  { id = \"in\"; type = \"supervisor\"; children = ( $(naughty) ); } ); }"
	local n
	for n in 2 3 4; do
		kill -KILL "$(child app pid)"
		restarted app/in/n $n
		assert_equal "$(cop call counter '"add"')" '{"value":1}'
		assert_equal "$(cop call naughty '"well"')" '"well"'
	done
	kill -KILL "$(child app/in pid)"
	restarted app/in/n 5
	assert_equal "$(cop call naughty '"well"')" '"well"'
	run -0 cop names
	assert_equal "${#lines[@]}" 3
	node_stop
}

@test "a server that writes over the node's memory does not keep anybody from being restarted" {
	needs_json
	local what
	for what in zeros ones slots; do
		tree "$(module '')" '{ id = "plain"; exec = [ "/bin/sleep", "1000" ]; }' \
			'{ id = "app"; type = "supervisor"; children = ( { id = "x"; exec = [ "/bin/sleep", "1000" ]; } ); }'
		cop cast counter '"add"'
		timeout 5 "$COPPICE" call counter "\"$what\"" --timeout 500 || true
		wait_event exit path=c reason=exit:9
		restarted c 2
		kill -KILL "$(child plain pid)"
		restarted plain 2
		kill -KILL "$(child app/x pid)"
		restarted app/x 2
		kill -KILL "$(child app pid)"
		restarted app/x 3
		node_stop
		rm -rf "$COPPICE_RUNTIME_DIR"/* "$COPPICE_STATE_DIR"/*
	done
}

# --- JSON servers that are not well --------------------------------------------------------

@test "garbage ends the worker, says why once, and harms nobody else" {
	needs_json
	tree "$(naughty)" "$(bystander)"
	local op n=1
	for op in garbage array latin1 long unknown verbless; do
		run -1 cop call naughty "{\"op\":\"$op\"}"
		assert_match "$output" 'naughty: ended: (bad_json|protocol_error)$'
		n=$((n + 1))
		restarted n $n
	done
	wait_event -n 3 exit path=n reason=bad_json
	wait_event -n 3 exit path=n reason=protocol_error
	assert_equal "$(grep -c 'coppice: server naughty: .*it is ended' "$COPPICE_STATE_DIR/demo/log/n/current")" 6
	log_has n 'server naughty: line 1: not a JSON object .*Traceback'
	assert_equal "$(events_of restart 'cause=n' | wc -l)" 6
	bystander_is_well
	node_stop
}

@test "a line of a megabyte is a line, and escapes stay what they are" {
	needs_json
	tree "$(naughty)"
	assert_equal "$(cop call naughty '{"op":"big","size":1000000}' | wc -c)" 1000003
	assert_equal "$(cop call naughty '["ä\u0000\n\u001b",1e3,-0.5,123456789012345678,null,{"b":1,"a":2}]')" \
		'["ä\u0000\n\u001B",1000.0,-0.5,123456789012345678,null,{"b":1,"a":2}]'
	assert_equal "$(cop call naughty '{"op":"raw","text":"\n  { \"send\" : \"nobody\", \"msg\" : 1, \"more\" : 2 }\r\n\n"}')" '"ok"'
	assert_equal "$(cop call naughty '{"op":"twice"}')" 1
	assert_equal "$(cop call naughty '"well"')" '"well"'
	node_stop
}

@test "a worker that stalls is felt by its callers alone" {
	needs_json
	tree "$(naughty)" "$(bystander)"
	run -5 cop call naughty '{"op":"stall"}' --timeout 200
	local i
	for i in {1..5}; do run -5 cop call naughty "\"$(printf 'x%.0s' {1..60000})\"" --timeout 100; done
	bystander_is_well
	assert_equal "$(child n state)" running
	cop restart n
	assert_equal "$(cop call naughty '"well"')" '"well"'
	node_stop
}

@test "a worker that floods is felt by nobody" {
	needs_json
	tree "$(naughty)" "$(bystander)" "$(module '')"
	cop cast naughty '{"op":"flood","to":"nobody"}'
	bystander_is_well
	assert_equal "$(cop call counter '"add"')" '{"value":1}'
	cop restart n
	cop cast naughty '{"op":"flood","to":"counter"}'
	log_has c '^info "flood"'
	assert_equal "$(cop call counter '"add"')" '{"value":2}'
	cop restart n
	cop cast naughty '{"op":"flood","to":"bystander"}'
	log_has y '^info "flood"'
	bystander_is_well
	cop stop n
	wait_event exit path=n reason=shutdown
	node_stop
}

@test "a worker that dies during a call: its reason, and its last words" {
	needs_json
	tree "$(naughty)"
	run -1 cop call naughty '{"op":"exit","status":7}'
	assert_match "$output" 'naughty: ended: exit:7'
	wait_event exit path=n reason=exit:7
	restarted n 2
	assert_equal "$(cop call naughty '{"op":"last"}')" '"last words"'
	wait_event exit path=n reason=normal
	restarted n 3
	run -1 cop call naughty '{"op":"stop","reason":"tired"}'
	assert_match "$output" 'naughty: ended: tired'
	wait_event exit path=n reason=tired
	restarted n 4
	node_stop
}

@test "the companion and the worker die together, whoever is killed" {
	needs_json
	tree "$(naughty)"
	local companion worker
	companion=$(pid_of naughty) worker=$(child n pid)
	kill -KILL "$companion"
	wait_event exit path=n reason=killed
	assert_gone "$companion" "$worker"
	restarted n 2
	companion=$(pid_of naughty) worker=$(child n pid)
	kill -KILL "$worker"
	wait_event exit path=n reason=signal:KILL
	assert_gone "$companion" "$worker"
	restarted n 3
	assert_equal "$(events_of restart 'cause=n' | wc -l)" 2
	companion=$(pid_of naughty) worker=$(child n pid)
	kill -STOP "$companion"
	kill -KILL "$worker"
	restarted n 4
	assert_equal "$(cop call naughty '"well"')" '"well"'
	cop stop n
	wait_event exit path=n reason=shutdown asked=true
	run -0 cop names
	assert_equal "$output" ""
	node_stop
}

@test "without cgroups the companion is nobody's orphan" {
	needs_json
	export COPPICE_NO_CGROUP=1
	tree "$(naughty)" "$(bystander)" '{ id = "d"; exec = [ "/bin/sh", "-c", "(sleep 1000 &) ; exec sleep 1000" ]; }'
	local n
	for n in 2 3 4; do
		kill -KILL "$(child d pid)"
		restarted d $n
		run -1 cop call naughty '{"op":"exit"}'
		restarted n $n
	done
	bystander_is_well
	node_stop
}

@test "a name that is taken is a failed start without a process" {
	needs_json
	node_conf <<-END
		supervisor: { children = ( { id = "pool"; type = "dynamic_supervisor"; }, $(module '') ); };
	END
	node_start
	run -1 cop add pool id=a server=json name=counter -- "$PY_COUNTER"
	assert_match "$output" already_started
	wait_event start_failed path=pool/a reason=already_started
	assert_equal "$(events_of start path=pool/a | wc -l)" 0
	run -0 cop add pool id=b server=json name=python -- "$PY_COUNTER"
	assert_equal "$(cop call python '{"op":"add"}')" '{"value":1}'
	run -0 cop names
	assert_match "$output" 'python +[0-9]+ +pool/b'
	cop remove pool/b
	run -4 cop call python 1
	node_stop
}

@test "servers call each other, and hear of failures" {
	needs_json
	tree "$(naughty)" "$(bystander)" "$(module '')" \
		"{ id = \"b\"; module = \"$MODULE\"; server = \"binary_ops\"; name = \"binary\"; args = \"naughty\"; }"
	ask() {
		cop call naughty "{\"op\":\"ask\",\"to\":\"$1\",\"msg\":$2,\"timeout\":${3:-5000}}" | tr -d ' '
	}
	assert_match "$(ask counter '"add"')" '^\{"reply":"a[0-9]+","msg":\{"value":1\}\}$'
	assert_match "$(ask bystander '[1,2]')" '"msg":\[1,2\]\}$'
	assert_match "$(ask nobody 1)" '"reason":"noproc"'
	assert_match "$(ask naughty 1)" '"reason":"calling_self"'
	assert_match "$(ask counter '"boom"')" '"reason":"boom"'
	assert_match "$(ask counter '"never"' 50)" '"reason":"timeout"'
	assert_equal "$(cop call binary '"x"')" '{"tag":7,"base64":"Ingi"}'
	log_has n 'info \{"tag": 7, "base64": "aGVsbG8="\}'
	assert_equal "$(cop call naughty '{"op":"after","ms":20}')" '"it came"'
	node_stop
}

# --- reload --------------------------------------------------------------------------------

@test "a reload replaces a server whose module, arguments or name changed, and no other" {
	needs_json
	write() {
		node_conf <<-END
			node = "demo";
			supervisor: { children = (
			  { id = "c"; module = "$1"; server = "counter_ops"; name = "$2"; args = $3; },
			  $(bystander) ); };
		END
	}
	write "$MODULE" counter 1
	node_start
	write "$MODULE" counter 2
	assert_match "$(cop reload)" 'changed.*c'
	assert_equal "$(cop call counter '"args"')" 2
	write "$MODULE" zaehler 2
	cop reload
	assert_equal "$(cop call zaehler '"args"')" 2
	run -4 cop call counter 1
	cp "$MODULE" "$COP_TMP/beside.so"
	write beside.so zaehler 2
	cop reload
	assert_match "$(child c command)" "$COP_TMP/beside.so"
	assert_equal "$(events_of start path=c | wc -l)" 4
	bystander_is_well
	node_stop
}

# --- the tutorial --------------------------------------------------------------------------

send_state() {
	[ "$(cop call send_server '"state"' | tr -d ' ')" = "$1" ]
}

@test "the tutorial's SendServer in the shell: sends, tries again, is killed, comes back, terminates" {
	needs_json
	tree "$(json sender send_server "\"$COP_SRCDIR/etc/examples/send_server.sh\", \"$COP_TMP/outbox\", \"20\"")"
	cop cast send_server '{"send":"hello@world.com"}'
	cop cast send_server '{"send":"konnichiwa@world.com"}'
	wait_until "$COP_DEADLINE" send_state \
		'[{"address":"hello@world.com","state":"sent"},{"address":"konnichiwa@world.com","state":"3"}]'
	cop signal sender KILL
	restarted sender 2
	send_state '[]'
	cop cast send_server '{"send":"again@world.com"}'
	wait_until "$COP_DEADLINE" send_state '[{"address":"again@world.com","state":"sent"}]'
	node_stop
	grep -q 'terminating, 1 emails' "$COPPICE_STATE_DIR/demo/log/sender/current"
	assert_equal "$(cat "$COP_TMP/outbox")" $'Dear hello@world.com\nDear again@world.com'
}
