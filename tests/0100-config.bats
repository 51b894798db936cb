# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck disable=SC2030,SC2031,SC2016 # variables of each test; backquotes in messages
#
# Configuration files, as `coppice check` and `coppice run` take them or refuse them. What each
# error says is in tests/config and tests/unit/test_config.c; here is what a user sees.

load helper

# conf NAME: standard input as a configuration in the test's directory.
conf() {
	cat >"$COP_TMP/$1"
	chmod 644 "$COP_TMP/$1"
}

# check FILE...: from the test's directory, with both outputs apart.
check() {
	status=0
	(cd "$COP_TMP" && "$COPPICE" check "$@" >out 2>err) || status=$?
	out=$(cat "$COP_TMP/out") err=$(cat "$COP_TMP/err")
}

@test "a good file is one line on standard output" {
	conf a.conf <<-'END'
	supervisor: { children = (
	  { id = "w"; exec = [ "x" ]; instances = 2; },
	  { id = "s"; type = "supervisor"; children = ( { id = "v"; exec = [ "x" ]; } ); }
	); };
	END
	check a.conf
	assert_equal "$status" 0
	assert_equal "$out" "a.conf: ok: 4 children, 2 supervisors, at most 15 restarts in 5 s before the node gives up"
	assert_equal "$err" ""
}

@test "errors go to standard error, all in one go, each with file and line, status 78" {
	conf b.conf <<-'END'
	supervisor: {
	  stratgy = "one_for_one";
	  children = (
	    { id = "a"; exec = [ "x" ]; nice = 40; },
	    { id = "a"; exec = [ "x" ]; significant = true; }
	  );
	};
	END
	check b.conf
	assert_equal "$status" 78
	assert_equal "$out" ""
	assert_match "$err" 'b\.conf:2: unknown key `stratgy`; did you mean `strategy`\?'
	assert_match "$err" 'b\.conf:4: `nice` is 40; it must be a whole number from -20 to 19'
	assert_match "$err" 'b\.conf:5: duplicate id "a"; the first is in line 4'
	assert_match "$err" 'b\.conf:5: a permanent child cannot be `significant`'
	[ "$(grep -cv '^b\.conf:[0-9]*: ' "$COP_TMP/err")" = 0 ]
}

@test "several files are each judged" {
	echo 'supervisor: { };' | conf good.conf
	echo 'supervisor: {' | conf bad.conf
	check good.conf bad.conf "$COP_TMP/good.conf" none.conf
	assert_equal "$status" 78
	[ "$(grep -c ': ok: ' "$COP_TMP/out")" = 2 ]
	assert_match "$err" 'bad\.conf:2: syntax error: the `\{` of line 1 is never closed'
	assert_match "$err" 'none\.conf: unable to open: No such file or directory'
}

@test "a runtime directory that is not safe: run says which and why, and makes nothing in it" {
	echo 'supervisor: { };' | conf node.conf
	mkdir -p "$COP_TMP/rt" "$COP_TMP/elsewhere"
	ln -s "$COP_TMP/elsewhere" "$COP_TMP/rt/node"
	status=0
	COPPICE_RUNTIME_DIR=$COP_TMP/rt "$COPPICE" run "$COP_TMP/node.conf" 2>"$COP_TMP/err" </dev/null || status=$?
	assert_equal "$status" 1
	assert_equal "$(cat "$COP_TMP/err")" \
		"coppice: refused to use the runtime directory $COP_TMP/rt/node: it is a symbolic link"
	[ -z "$(ls "$COP_TMP/elsewhere")" ]
	rm "$COP_TMP/rt/node"
	: >"$COP_TMP/rt/node"
	status=0
	COPPICE_RUNTIME_DIR=$COP_TMP/rt "$COPPICE" run "$COP_TMP/node.conf" 2>"$COP_TMP/err" </dev/null || status=$?
	assert_equal "$status" 1
	assert_match "$(cat "$COP_TMP/err")" "$COP_TMP/rt/node"
}

@test "run starts nothing from a bad file" {
	conf node.conf <<-END
	supervisor: { children = (
	  { id = "a"; exec = [ "touch", "$COP_TMP/started" ]; },
	  { id = "b"; exec = [ ]; }
	); };
	END
	status=0
	"$COPPICE" run "$COP_TMP/node.conf" >"$COP_TMP/out" 2>"$COP_TMP/err" </dev/null || status=$?
	assert_equal "$status" 78
	assert_match "$(cat "$COP_TMP/err")" 'node\.conf:3: `exec` is empty'
	[ ! -e "$COP_TMP/started" ]
}

@test "a file that others can write is refused" {
	echo 'supervisor: { };' | conf c.conf
	chmod 666 "$COP_TMP/c.conf"
	check c.conf
	assert_equal "$status" 78
	assert_match "$err" '^c\.conf: refused: .*/c\.conf can be written by others \(mode 0666\)$'
	chmod 644 "$COP_TMP/c.conf"
	mkdir "$COP_TMP/open"
	chmod 777 "$COP_TMP/open"
	cp "$COP_TMP/c.conf" "$COP_TMP/open/c.conf"
	check open/c.conf
	assert_equal "$status" 78
	assert_match "$err" '^open/c\.conf: refused: .*/open can be written by others \(mode 0777\)$'
	chmod 1777 "$COP_TMP/open"
	check open/c.conf
	assert_equal "$status" 0
}

@test "an include must stay below the configuration's directory" {
	mkdir "$COP_TMP/conf"
	echo 'node = "x";' | conf outside.conf
	printf '@include "../outside.conf"\nsupervisor: { };\n' | conf conf/d.conf
	check conf/d.conf
	assert_equal "$status" 78
	assert_match "$err" '^conf/d\.conf:1: unable to include conf/\.\./outside\.conf: refused: it is outside'
	mkfifo "$COP_TMP/conf/fifo"
	printf 'include = [ "f*" ];\nsupervisor: { };\n' | conf conf/d.conf
	check conf/d.conf
	assert_equal "$status" 78
	assert_match "$err" '^conf/d\.conf:1: unable to include conf/fifo: refused: it is a fifo'
}

@test "an odd user name never becomes root" {
	for name in 0day 0x10 -1 4294967295 4294967296 ''; do
		echo "supervisor: { children = ( { id = \"a\"; exec = [ \"x\" ]; user = \"$name\"; } ); };" | conf u.conf
		check u.conf
		assert_equal "$status" 78
		assert_match "$err" "^u\\.conf:1: \"$name\" is no name of a user"
	done
}

@test "hostile bytes are an error in little time" {
	head -c 100000 /dev/urandom | conf r.conf
	check r.conf
	assert_equal "$status" 78
	assert_match "$err" '^r\.conf:[0-9]+: '
	head -c 1000000 /dev/zero | tr '\0' '(' | conf p.conf
	check p.conf
	assert_equal "$status" 78
	assert_match "$err" '^p\.conf:1: brackets are nested deeper than 1024$'
	# Nothing of it reaches the terminal.
	printf 'supervisor: { \033]0;title\007 = 1; };' | conf t.conf
	check t.conf
	assert_equal "$status" 78
	[ "$(tr -d '\n' <"$COP_TMP/err" | tr -cd '\000-\037' | wc -c)" = 0 ]
}

@test "neither the locale nor the shell's variables change anything" {
	conf l.conf <<-'END'
	supervisor: { children = (
	  { id = "i"; exec = [ "x" ]; backoff = { factor = 1.5; }; limits = { nofile = 10; }; } ); };
	END
	export LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 IFS=i TZ=Asia/Kathmandu POSIXLY_CORRECT=1
	check l.conf
	assert_equal "$status" 0
}

@test "the examples of the man page and the samples pass" {
	page=$COP_SRCDIR/doc/man/coppice.conf.5
	n=1
	while awk -v want="$n" '
		/^\.Sh/ { here = $2 == "EXAMPLES" }
		/^\.Ed/ { on = 0 }
		on { gsub(/\\e/, "\\"); gsub(/\\&/, ""); print }
		here && /^\.Bd.*-literal/ { on = ++i == want }' "$page" >"$COP_TMP/example.conf" &&
		[ -s "$COP_TMP/example.conf" ]; do
		chmod 644 "$COP_TMP/example.conf"
		if grep -q 'user = ' "$COP_TMP/example.conf" && [ "$(id -u)" != 0 ]; then
			sed -i 's/user = "[a-z]*";//' "$COP_TMP/example.conf"
		fi
		if [ "${COP_JANSSON:-yes}" = no ]; then
			sed -i 's/server = "json"; *name = "[a-z]*";//; s/server = "json";//' "$COP_TMP/example.conf"
		fi
		check example.conf
		assert_equal "$err" ""
		assert_equal "$status" 0
		n=$((n + 1))
	done
	[ "$n" -ge 4 ]
	for file in "$COP_SRCDIR"/etc/*.conf; do
		conf "${file##*/}" <"$file"
		check "${file##*/}"
		assert_equal "$status" 0
	done
}

@test "an env_file as a shell would have it: the error says what to change" {
	printf 'C = 3\nexport B=2\n' | conf e.env
	echo 'supervisor: { children = ( { id = "a"; exec = [ "x" ]; env_file = "e.env"; } ); };' | conf e.conf
	check e.conf
	assert_equal "$status" 78
	assert_match "$err" 'e\.env:1: .*; there must be no blanks around ='
	assert_match "$err" 'e\.env:2: .*; write it without `export`'
}

@test "check stays small" {
	conf m.conf <<-'END'
	supervisor: { children = ( { id = "a"; exec = [ "x" ]; } ); };
	END
	# Ten times what it needs: a parser that would take more is stopped by its own limits.
	if [ -z "${COP_SANITIZERS// /}" ]; then
		(cd "$COP_TMP" && ulimit -v 65536 && "$COPPICE" check m.conf)
	fi
}
