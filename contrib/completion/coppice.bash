# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
# shellcheck shell=bash
#
# Completion of coppice(1) for bash: commands, their options, files, signals, and the paths and
# events of the node that the words so far name. A node that does not answer delays nothing for
# longer than a second.

# Asks the node that the line names; what is wrong with it is not said here.
_coppice_ask() {
	local i
	local -a where=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) break ;;
		--node | --socket)
			# "--node=x" comes as three words
			if [[ ${COMP_WORDS[i + 1]-} == = ]]; then
				where+=("${COMP_WORDS[i]}=${COMP_WORDS[i + 2]-}")
			else
				where+=("${COMP_WORDS[i]}=${COMP_WORDS[i + 1]-}")
			fi
			;;
		esac
	done
	command "${COMP_WORDS[0]}" "${where[@]}" --timeout 1000 "$@" 2>/dev/null
}

# The paths of all children: the first column, without its heading.
_coppice_paths() {
	local path rest heading=1

	while read -r path rest; do
		[[ $heading == 1 ]] || echo "$path"
		heading=0
	done < <(_coppice_ask status)
}

# The registered names.
_coppice_names() {
	local name rest heading=1

	while read -r name rest; do
		[[ $heading == 1 ]] || echo "$name"
		heading=0
	done < <(_coppice_ask names)
}

_coppice_nodes() {
	local base
	local -a sockets=() bases=("${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/coppice}" "/tmp/coppice-$UID")

	# where the program itself looks
	((UID == 0)) && bases=(/run/coppice)
	[[ -n ${COPPICE_RUNTIME_DIR-} ]] && bases=("$COPPICE_RUNTIME_DIR")
	for base in "${bases[@]}"; do
		[[ -n $base ]] && sockets+=("$base"/*/control)
	done
	for base in "${sockets[@]}"; do
		[[ -S $base ]] && base=${base%/control} && echo "${base##*/}"
	done
}

# Completes the present word from the words given.
_coppice_words() {
	local cur=${COMP_WORDS[COMP_CWORD]}

	[[ $cur == = ]] && cur=''
	mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
}

_coppice_files() {
	local cur=${COMP_WORDS[COMP_CWORD]}

	[[ $cur == = ]] && cur=''
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

# Completes the argument of an option; 1 if the option has none.
_coppice_argument() {
	case $1 in
	--node) _coppice_words "$(_coppice_nodes)" ;;
	--socket) _coppice_files ;;
	--restart) _coppice_words permanent transient temporary ;;
	--lines | -n) _coppice_words all ;;
	--on-timeout) _coppice_words kill exit ;;
	--halt) _coppice_words never soon now soon,fail= now,fail= soon,done= now,done= ;;
	--joblog | --results) _coppice_files ;;
	--timeout | --since | --jobs | -P | --max-args | --retries | --backoff | --block | --records) COMPREPLY=() ;;
	*) return 1 ;;
	esac
}

# The options of a command.
_coppice_options() {
	local talk='--node --socket --timeout --json --quiet --help'

	case $1 in
	run) echo '--restart --node --socket --quiet --help' ;;
	check) echo '--quiet --help' ;;
	start | stop | restart | remove | add | shutdown) echo "--no-wait $talk" ;;
	reload) echo "--dry-run --no-wait $talk" ;;
	events) echo "--follow --since $talk" ;;
	log) echo "--follow --lines $talk" ;;
	map)
		echo '-P -0 --jobs --null --max-args --unordered --line-buffer --tag --timeout --on-timeout --retries' \
			'--backoff --halt --pipe --block --records --joblog --resume --resume-failed --results' \
			'--dry-run --progress --bar --eta --json --node --supervisor --quiet --help --'
		;;
	status | tree | signal | task | call | cast | send | names) echo "$talk" ;;
	*) echo '--node --socket --timeout --json --quiet --help --version' ;;
	esac
}

# Completes operand number $2 of command $1.
_coppice_operand() {
	case $1 in
	'') _coppice_words run check status tree start stop restart signal add task remove reload events log call cast send names map shutdown help ;;
	help) _coppice_words run check status tree start stop restart signal add task remove reload events log call cast send names map shutdown ;;
	run | check) _coppice_files ;;
	map) _coppice_words -- ;;
	status | log | task) [[ $2 == 0 ]] && _coppice_words "$(_coppice_paths)" ;;
	start | stop | restart | remove) _coppice_words "$(_coppice_paths)" ;;
	call | cast | send) [[ $2 == 0 ]] && _coppice_words "$(_coppice_names)" ;;
	signal)
		case $2 in
		0) _coppice_words "$(_coppice_paths)" ;;
		1) _coppice_words HUP INT QUIT KILL USR1 USR2 TERM CONT STOP ALRM WINCH ;;
		esac
		;;
	add)
		case $2 in
		0) _coppice_words "$(_coppice_paths)" ;;
		*)
			compopt -o nospace 2>/dev/null
			_coppice_words id= restart= shutdown= significant= dir= user= group= ready= --
			;;
		esac
		;;
	esac
}

_coppice() {
	local i word cmd='' n=0 prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--)
			# what stands behind is a command line of its own, or the rest of the operands
			if [[ $cmd == run || $cmd == add || $cmd == task || $cmd == map ]]; then
				_command_offset $((i + 1)) 2>/dev/null || mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
				return
			fi
			;;
		--node | --socket | --restart | --lines | -n | --timeout | --since | --on-timeout | --halt | --joblog | --results | \
			--jobs | -P | --max-args | --retries | --backoff | --block | --records)
			[[ ${COMP_WORDS[i + 1]-} == = ]] && ((i++))
			((i++))
			;;
		-*) ;;
		*)
			if [[ -z $cmd ]]; then cmd=$word; else ((n++)); fi
			;;
		esac
	done
	# "--node=x" comes as the words --node, = and x
	[[ ${COMP_WORDS[COMP_CWORD]} == = ]] || [[ $prev != = ]] || prev=${COMP_WORDS[COMP_CWORD - 2]}
	if _coppice_argument "$prev"; then
		return
	fi
	if [[ ${COMP_WORDS[COMP_CWORD]} == -* ]]; then
		_coppice_words "$(_coppice_options "$cmd")"
	else
		_coppice_operand "$cmd" "$n"
	fi
}

complete -F _coppice coppice
