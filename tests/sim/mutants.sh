#!/bin/sh
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# Proves that the simulator sees mistakes: builds it with one seeded bug in the supervisor core
# at a time, and demands that each is found. Each mutant is a sed script for a copy of one file
# of src/otp; one that changes nothing (the file was rewritten since) is a failure, too.
#
#     mutants.sh [NAME]          all of them, or one
#
# Environment: CC, CFLAGS, COP_SRCDIR (the top of the sources). Prints TAP; exit status 0 or 1.
set -u
top=${COP_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
only=${1:-}
cc="${CC:-cc} -std=c17 -D_GNU_SOURCE ${CFLAGS:--O1}"
cc="$cc $(pkg-config --cflags libbsd-overlay)"
libs=$(pkg-config --libs libbsd-overlay)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
count=0
failed=0

# compile SOURCE OBJECT: with the copy of src/otp before the original.
compile() {
	$cc -I"$dir/src" -I"$top/src" -I"$top/src/include" -c "$1" -o "$2"
}

# The parts that no mutant changes.
prepare() {
	mkdir -p "$dir/src/otp" "$dir/fixed" "$dir/core" || return 1
	# the core alone: servers and supervisor processes are no part of it
	cp "$top"/src/otp/sup_*.[ch] "$dir/src/otp/" || return 1
	for file in "$top"/src/base/[!v]*.c "$top"/tests/sim/*.c; do # version.c wants config.h
		compile "$file" "$dir/fixed/$(basename "$file" .c).o" || return 1
	done
	for file in "$dir"/src/otp/*.c; do
		compile "$file" "$dir/core/$(basename "$file" .c).o" || return 1
	done
}

link_sim() {
	# shellcheck disable=SC2086 # several words each
	$cc "$dir"/fixed/*.o "$dir"/core/*.o -o "$dir/sim" $libs
}

result() {
	count=$((count + 1))
	if [ "$1" != ok ]; then failed=$((failed + 1)); fi
	echo "$1 $count - $2"
}

# caught: runs the simulator; true if it found a difference or the core gave up.
caught() {
	timeout 60 "$dir/sim" >"$dir/out" 2>&1
	status=$?
	[ $status -eq 124 ] && return 1
	[ $status -gt 2 ] || grep -q '^FAILED' "$dir/out"
}

# mutant NAME FILE SCRIPT
mutant() {
	if [ -n "$only" ] && [ "$only" != "$1" ]; then return; fi
	original=$top/src/otp/$2.c
	copy=$dir/src/otp/$2.c
	sed -e "$3" "$original" >"$copy"
	if cmp -s "$original" "$copy"; then
		result 'not ok' "$1: the edit does not apply to $2.c any more"
	elif ! compile "$copy" "$dir/core/$2.o" 2>"$dir/out" || ! link_sim 2>"$dir/out"; then
		result 'not ok' "$1: does not compile"
		sed 's/^/# /' "$dir/out"
	elif caught; then
		result ok "$1 ($(grep '^FAILED' "$dir/out" || echo 'it gave up'))"
	else
		result 'not ok' "$1: not found"
	fi
	cp "$original" "$copy"
	compile "$copy" "$dir/core/$2.o"
}

if ! prepare || ! link_sim; then
	echo "Bail out! the simulator does not compile"
	exit 1
fi
if caught; then
	echo "Bail out! the simulator fails without any mutant"
	exit 1
fi

# --- intensity ---
mutant window_edge_excluded sup_intensity \
	's/second < now - /second <= now - /; s/second >= now - /second > now - /'
mutant one_restart_more sup_intensity 's/count(i, now) >= i->max_restarts/count(i, now) > i->max_restarts/'
mutant seconds_rounded sup_intensity 's|ms / 1000 :|(ms + 500) / 1000 :|'
mutant retry_not_counted sup_core '/== SUP_ST_RETRYING)$/{n;s/restart(/restart_after_delay(/;}'
mutant counted_again_after_delay sup_core 's/^\(	*\)restart_after_delay(s, slot);/\1restart(s, slot);/'
mutant absorbed_exit_stays sup_core '/^static void absorb_exit/,/^}/{/sup_mail_remove/d;}'
# --- order and groups ---
mutant stops_forwards sup_core \
	's/: s->last;/: s->first;/; s/SUP_NONE : s->child\[slot\].prev;/SUP_NONE : s->child[slot].next;/; s/prev = c->prev;/prev = c->next;/'
mutant rest_begins_one_early sup_core \
	's/SUP_ONE_FOR_ALL ? SUP_NONE : slot);/SUP_ONE_FOR_ALL ? SUP_NONE : s->child[slot].prev);/'
mutant strategies_swapped sup_core 's/strategy == SUP_ONE_FOR_ALL ? SUP_NONE/strategy == SUP_REST_FOR_ONE ? SUP_NONE/'
mutant temporary_started_with_group sup_core \
	'/^static void stopped/,/^}/s/spec.restart == SUP_TEMPORARY/spec.restart > SUP_TEMPORARY/'
mutant group_takes_waiting_child sup_core 's/(!s->child\[i\].pending_add || /(true || /'
mutant disabled_started_with_group sup_core 's/c->in_range && c->spec.enabled/c->in_range/'
mutant mailbox_backwards sup_mailbox '/^uint32_t sup_mail_pop(/,/^}/s/s->mail_first/s->mail_last/'
# --- who is restarted ---
mutant transient_after_shutdown sup_core 's/!cop_exit_is_clean(&c->exit)/c->exit.kind != COP_EXIT_NORMAL/'
mutant permanent_not_after_normal sup_core \
	's/c->spec.restart == SUP_PERMANENT ||$/(c->spec.restart == SUP_PERMANENT \&\& c->exit.kind != COP_EXIT_NORMAL) ||/'
mutant dynamic_keeps_finished sup_core '/^static bool dropped/,/^}/s/s->flags.dynamic || //'
mutant retry_survives_terminate sup_core '/^static void cancel_retry/,/^}/{/sup_mail_remove/d;/TERMINATED/d;}'
# --- auto_shutdown ---
mutant any_is_all sup_core 's/auto_shutdown == SUP_AUTO_ANY_SIGNIFICANT ||/auto_shutdown > SUP_AUTO_ALL_SIGNIFICANT ||/'
mutant restarting_is_gone sup_core 's/(has_process(&s->child\[i\]) || restarting(&s->child\[i\]))/has_process(\&s->child[i])/'
mutant auto_on_terminate_child sup_core \
	's/^\(	*\)if (s->flags.dynamic && sup_slot_used(s, s->subject))$/\1if (sup_slot_used(s, s->subject) \&\& s->child[s->subject].spec.significant) { begin_exit(s, cop_exit_make(COP_EXIT_SHUTDOWN, 0), s->subject, NULL); return; }\n&/'
# --- calls ---
mutant failed_child_kept sup_core '/^static void start_failed/,/^}/s/s->call.op == SUP_OP_START || //'
mutant one_child_more sup_children 's/s->n_specs >= s->flags.max_children/s->n_specs > s->flags.max_children/'
mutant call_finds_the_next_child sup_mailbox 's/s->calls\[i\].slot = SUP_NONE;/(void)0;/'
# --- the end ---
mutant shutdown_waits_for_start sup_core 's/s->phase == SUP_PH_START_WAIT && !s->interrupted/false/'
mutant start_over_unseen sup_core '/^static void on_started/,/^}/s/if (s->doing == SUP_DO_EXIT) {/if (false) {/'
mutant brutal_is_gentle sup_core 's/shutdown_ms == SUP_SHUTDOWN_BRUTAL/shutdown_ms < SUP_SHUTDOWN_BRUTAL/'
mutant never_killed sup_core '/^static void on_timer/,/^}/s/c->status == SUP_ST_STOPPING/false/'
# --- backoff ---
mutant delay_never_resets sup_backoff 's/(b->reset_ms > 0 && /(false \&\& /'
mutant delay_has_no_limit sup_backoff 's/next > b->max_ms ? b->max_ms : //'

echo "1..$count"
[ $failed -eq 0 ]
