/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor core, rule by rule: OTP's rules. The numbers are those of the list of
 * subtleties that re-implementations of OTP's supervisor get wrong (52 to 99). Those about
 * nested supervisors are in test_sup_scenarios.c. sup_play.h explains the language.
 */
#include "sup_play.h"

/* --- order --- */

T_CASE(s52_start_and_stop_order)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("abcd");
	feed((struct sup_event){ .type = SUP_EV_INIT });
	EXPECT("start a, start b, start c, start d, inited");
	T_EQ_STR(standing(), "a+b+c+d+");
	shutdown_order("shutdown");
	EXPECT("stop d, stop c, stop b, stop a, exit shutdown");
	T_CHECK(sup_ended(s));
	done();
}

T_CASE(s52_one_after_another)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("ab");
	hold('a');
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	EXPECT("start a");
	started('a', SUP_START_OK);
	EXPECT("start b");
	started('b', SUP_START_OK);
	EXPECT("inited");
	shutdown_order("shutdown");
	EXPECT("stop b");
	died('b', "shutdown");
	EXPECT("stop a");
	died('a', "shutdown");
	EXPECT("exit shutdown");
	done();
}

T_CASE(s53_rest_for_one)
{
	supervisor(SUP_REST_FOR_ONE, 3);
	add_all("abcd");
	up();
	died('b', "signal:KILL");
	EXPECT("restart b:bcd, stop d, stop c, start b, start c, start d");
	done();
}

T_CASE(s54_one_for_all)
{
	supervisor(SUP_ONE_FOR_ALL, 3);
	add_all("abcd");
	up();
	died('b', "signal:KILL");
	EXPECT("restart b:abcd, stop d, stop c, stop a, start a, start b, start c, start d");
	done();
}

T_CASE(s56_start_failure)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("abxc");
	fails['x' - 'a'] = 1;
	feed((struct sup_event){ .type = SUP_EV_INIT });
	EXPECT("start a, start b, start x, stop b, stop a, exit shutdown:failed_to_start_child by x");
	done();
}

T_CASE(s57_places)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("ab");
	up();
	start_child('c', permanent);
	T_EQ_STR(standing(), "a+b+c+");
	call(SUP_OP_TERMINATE, 'a');
	call(SUP_OP_RESTART, 'a');
	T_EQ_STR(standing(), "a+b+c+");
	call(SUP_OP_TERMINATE, 'a');
	call(SUP_OP_DELETE, 'a');
	start_child('a', permanent);
	T_EQ_STR(standing(), "b+c+a+");
	done();
}

T_CASE(s58_s95_specs_are_checked)
{
	const struct sup_flags never = { .max_restarts = 1, .max_seconds = 1 };
	const struct sup_flags any = { .max_restarts = 1, .max_seconds = 1, .auto_shutdown = SUP_AUTO_ANY_SIGNIFICANT };
	const struct sup_flags no_period = { .max_restarts = 1 };
	const struct sup_flags bad = { .max_seconds = 1, .dynamic = true, .strategy = SUP_ONE_FOR_ALL };
	struct sup_child_spec spec = significant(transient);
	uint32_t slot;

	T_CHECK(sup_create(&no_period) == NULL && errno == EINVAL);
	T_CHECK(sup_create(&bad) == NULL && errno == EINVAL);
	s = sup_create(&never);
	T_CHECK(sup_child_add(s, &spec, SUP_NONE, &slot) == -1 && errno == EINVAL);
	done();
	s = sup_create(&any);
	T_CHECK(sup_child_add(s, &spec, SUP_NONE, &slot) == 0);
	spec = significant(permanent);
	T_CHECK(sup_child_add(s, &spec, SUP_NONE, &slot) == -1 && errno == EINVAL);
	done();
}

/* --- restarts --- */

T_CASE(s59_group_starts_what_was_down)
{
	supervisor(SUP_ONE_FOR_ALL, 3);
	add('a', transient);
	add_all("bc");
	up();
	died('a', "normal");
	call(SUP_OP_TERMINATE, 'c');
	EXPECT("stop c, reply 1 ok");
	T_EQ_STR(standing(), "a-b+c-");
	died('b', "exit:1");
	EXPECT("restart b:abc, start a, start b, start c");
	done();
}

T_CASE(s60_temporary_does_not_come_back)
{
	supervisor(SUP_ONE_FOR_ALL, 3);
	add('a', permanent);
	add('b', temporary);
	add('c', permanent);
	up();
	died('a', "exit:1");
	EXPECT("restart a:ac, stop c, stop b, forget b, start a, start c");
	done();
}

T_CASE(s61_no_group_without_restart)
{
	supervisor(SUP_ONE_FOR_ALL, 0);
	add('a', permanent);
	add('b', temporary);
	add('c', transient);
	up();
	died('b', "signal:SEGV");
	EXPECT("forget b");
	died('c', "normal");
	EXPECT("");
	T_EQ_STR(standing(), "a+c-");
	done();
}

T_CASE(s62_s74_clean_reasons)
{
	static const char *const clean[] = { "normal", "shutdown", "shutdown:done" };
	size_t i;

	for (i = 0; i < 3; i++) {
		supervisor(SUP_ONE_FOR_ONE, 3);
		add('p', permanent);
		add('t', transient);
		up();
		died('t', clean[i]);
		EXPECT("");
		died('p', clean[i]);
		EXPECT("restart p:p, start p");
		done();
	}
	supervisor(SUP_ONE_FOR_ONE, 3);
	add('t', transient);
	up();
	died('t', "killed");
	EXPECT("restart t:t, start t");
	done();
}

T_CASE(s63_limit)
{
	supervisor(SUP_ONE_FOR_ONE, 2);
	add_all("abc");
	up();
	died('b', "exit:1");
	died('b', "exit:1");
	EXPECT("restart b:b, start b, restart b:b, start b");
	T_EQ_INT(sup_restarts_left(s, now), 0);
	died('b', "exit:1");
	EXPECT("limit b, stop c, stop a, exit shutdown by b");
	done();
}

T_CASE(s63_limit_zero)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("a");
	up();
	died('a', "normal");
	EXPECT("limit a, exit shutdown by a");
	done();
}

T_CASE(s64_failed_attempts_count)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("ab");
	up();
	fails['b' - 'a'] = 2;
	died('b', "exit:1");
	EXPECT("restart b:b, start b, restart b:b, start b, restart b:b, start b");
	T_EQ_INT(sup_restarts_left(s, now), 0);
	T_EQ_STR(standing(), "a+b+");
	done();
}

T_CASE(s64_fails_for_ever)
{
	supervisor(SUP_ONE_FOR_ONE, 3);
	add_all("ab");
	up();
	fails['b' - 'a'] = 100;
	died('b', "exit:1");
	EXPECT("restart b:b, start b, restart b:b, start b, restart b:b, start b, limit b, stop a, exit shutdown by b");
	done();
}

T_CASE(s65_rest_for_one_goes_on_from_the_failed)
{
	supervisor(SUP_REST_FOR_ONE, 5);
	add_all("abcd");
	up();
	fails['c' - 'a'] = 1;
	died('b', "exit:1");
	EXPECT("restart b:bcd, stop d, stop c, start b, start c, restart c:cd, start c, start d");
	done();
}

T_CASE(s66_one_for_all_begins_again)
{
	supervisor(SUP_ONE_FOR_ALL, 5);
	add_all("abcd");
	up();
	fails['c' - 'a'] = 1;
	died('b', "exit:1");
	EXPECT("restart b:abcd, stop d, stop c, stop a, start a, start b, start c, "
	       "restart c:abcd, stop b, stop a, start a, start b, start c, start d");
	done();
}

T_CASE(s67_between_attempts_calls_are_answered)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("ab");
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	started('b', SUP_START_OK);
	died('b', "exit:1");
	out[0] = '\0';
	call(SUP_OP_RESTART, 'b');
	call(SUP_OP_DELETE, 'b');
	call(SUP_OP_TERMINATE, 'b');
	EXPECT("");
	started('b', SUP_START_FAILED);
	EXPECT("reply 1 restarting, reply 2 restarting, reply 3 ok");
	T_EQ_STR(standing(), "a+b-");
	T_CHECK(sup_idle(s));
	done();
}

T_CASE(s68_shutdown_in_a_restart_loop)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("ab");
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	started('b', SUP_START_OK);
	died('b', "exit:1");
	out[0] = '\0';
	release('b');
	shutdown_order("shutdown");
	EXPECT("stop b, stop a, exit shutdown");
	done();
}

T_CASE(s69_deaths_at_once)
{
	supervisor(SUP_ONE_FOR_ALL, 9);
	add_all("abc");
	up();
	soon((struct sup_event){ .type = SUP_EV_EXITED, .slot = slot_named('b'), .reason = reason_of("signal:KILL") });
	soon((struct sup_event){ .type = SUP_EV_EXITED, .slot = slot_named('c'), .reason = reason_of("signal:KILL") });
	died('a', "signal:KILL");
	EXPECT("restart a:abc, stop c, start a, start b, start c");
	T_EQ_INT(sup_restarts_left(s, now), 8);
	done();
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("abc");
	up();
	all_died("abc");
	T_EQ_INT(sup_restarts_left(s, now), 6);
	done();
}

/* c and b die while the supervisor is busy: their exits are absorbed, they are not stopped. */
T_CASE(s69_waiting_exits_are_absorbed)
{
	supervisor(SUP_ONE_FOR_ALL, 9);
	add_all("abcd");
	up();
	hold('d');
	call(SUP_OP_TERMINATE, 'd');
	died('b', "signal:KILL");
	died('a', "signal:KILL");
	EXPECT("stop d");
	release('d');
	died('d', "shutdown");
	EXPECT("reply 1 ok, restart b:abcd, stop c, start a, start b, start c, start d");
	T_EQ_INT(sup_restarts_left(s, now), 8);
	done();
}

T_CASE(s70_later_then_earlier)
{
	supervisor(SUP_REST_FOR_ONE, 9);
	add_all("abc");
	up();
	died('c', "exit:1");
	died('a', "exit:1");
	EXPECT("restart c:c, start c, restart a:abc, stop c, stop b, start a, start b, start c");
	T_EQ_INT(sup_restarts_left(s, now), 7);
	done();
}

T_CASE(s71_whole_seconds_inclusive)
{
	supervisor(SUP_ONE_FOR_ONE, 1);
	add_all("a");
	up();
	now = 10999;
	died('a', "exit:1");
	now = 15000;
	T_EQ_INT(sup_restarts_left(s, now), 0);
	now = 15999; /* 5 whole seconds after 10: counts still */
	T_EQ_INT(sup_restarts_left(s, now), 0);
	now = 16000;
	T_EQ_INT(sup_restarts_left(s, now), 1);
	died('a', "exit:1");
	EXPECT("restart a:a, start a, restart a:a, start a");
	now = 21999;
	died('a', "exit:1");
	EXPECT("limit a, exit shutdown by a");
	done();
}

T_CASE(s72_calls_do_not_count)
{
	int i;

	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("ab");
	up();
	for (i = 0; i < 5; i++) {
		call(SUP_OP_TERMINATE, 'b');
		call(SUP_OP_RESTART, 'b');
		call(SUP_OP_CYCLE, 'a');
	}
	start_child('c', permanent);
	T_EQ_STR(standing(), "a+b+c+");
	done();
}

T_CASE(s73_restart_child_fails)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("ab");
	up();
	call(SUP_OP_TERMINATE, 'b');
	fails['b' - 'a'] = 1;
	call(SUP_OP_RESTART, 'b');
	EXPECT("stop b, reply 1 ok, start b, reply 2 failed");
	T_EQ_STR(standing(), "a+b-");
	T_EQ_INT(sup_child_status(s, slot_named('b')), SUP_ST_FAILED);
	done();
}

/* --- shutdown --- */

T_CASE(s77_reason_is_the_supervisors_own)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("a");
	up();
	shutdown_order("oops");
	EXPECT("stop a, exit oops");
	done();
}

T_CASE(s78_killed_after_its_time)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', with_shutdown(permanent, 100));
	up();
	hold('a');
	shutdown_order("shutdown");
	pass(99);
	EXPECT("stop a");
	release('a');
	pass(1);
	EXPECT("kill a, exit shutdown");
	done();
}

T_CASE(s79_brutal_kill)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', with_shutdown(permanent, SUP_SHUTDOWN_BRUTAL));
	up();
	shutdown_order("shutdown");
	EXPECT("kill a, exit shutdown");
	done();
}

T_CASE(s80_shutdown_0)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', with_shutdown(permanent, 0));
	up();
	shutdown_order("shutdown");
	EXPECT("stop a, kill a, exit shutdown");
	done();
}

T_CASE(shutdown_infinity_waits)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', with_shutdown(permanent, SUP_SHUTDOWN_INFINITY));
	up();
	hold('a');
	shutdown_order("shutdown");
	T_EQ_INT(timer[0], -1);
	EXPECT("stop a");
	died('a', "shutdown");
	EXPECT("exit shutdown");
	done();
}

T_CASE(s81_crash_while_stopping_siblings)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("abc");
	up();
	hold('c');
	shutdown_order("shutdown");
	died('b', "signal:SEGV");
	EXPECT("stop c");
	died('c', "shutdown");
	EXPECT("stop a, exit shutdown");
	done();
}

T_CASE(s82_crash_during_terminate_child)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("ab");
	up();
	hold('b');
	call(SUP_OP_TERMINATE, 'b');
	died('a', "signal:SEGV");
	EXPECT("stop b");
	died('b', "shutdown");
	EXPECT("reply 1 ok, restart a:a, start a");
	done();
}

/* Other than OTP, a shutdown order does not wait for the start. */
T_CASE(s83_shutdown_ends_a_start)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("abc");
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	EXPECT("start a, start b");
	release('b');
	shutdown_order("shutdown");
	EXPECT("stop b, stop a, exit shutdown");
	done();
}

/* ... but others may have to be stopped first, and it may be over until then. */
T_CASE(s83_start_over_before_its_turn)
{
	static const char *const expected[] = { "stop a, exit shutdown", "exit shutdown", "exit shutdown" };
	int result;

	for (result = SUP_START_OK; result <= SUP_START_FAILED; result++) {
		supervisor(SUP_ONE_FOR_ONE, 9);
		add_all("ab");
		up();
		hold('a');
		hold('b');
		died('a', "exit:1");
		shutdown_order("shutdown");
		EXPECT("restart a:a, start a, stop b");
		started('a', (enum sup_start_result)result);
		release('a');
		died('b', "shutdown");
		release('b');
		EXPECT(expected[result]);
		done();
	}
}

T_CASE(s83_shutdown_in_a_group_restart)
{
	supervisor(SUP_REST_FOR_ONE, 9);
	add_all("abc");
	up();
	hold('c');
	died('b', "exit:1");
	shutdown_order("shutdown");
	EXPECT("restart b:bc, stop c");
	died('c', "shutdown");
	EXPECT("stop a, exit shutdown");
	done();
}

T_CASE(s87_terminate_child_twice)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', permanent);
	add('b', temporary);
	up();
	call(SUP_OP_TERMINATE, 'a');
	call(SUP_OP_TERMINATE, 'a');
	EXPECT("stop a, reply 1 ok, reply 2 ok");
	call(SUP_OP_TERMINATE, 'b');
	call(SUP_OP_TERMINATE, 'b');
	EXPECT("stop b, forget b, reply 3 ok, reply 4 not_found");
	done();
}

T_CASE(lifecycle_refusals)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("a");
	up();
	call(SUP_OP_RESTART, 'a');
	call(SUP_OP_DELETE, 'a');
	EXPECT("reply 1 running, reply 2 running");
	call(SUP_OP_TERMINATE, 'a');
	call(SUP_OP_DELETE, 'a');
	call(SUP_OP_RESTART, 'a');
	EXPECT("stop a, reply 3 ok, forget a, reply 4 ok, reply 5 not_found");
	done();
}

T_CASE(start_child_fails)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add_all("a");
	up();
	fails['b' - 'a'] = 1;
	start_child('b', permanent);
	EXPECT("start b, reply 1 failed, forget b");
	T_EQ_STR(standing(), "a+");
	done();
}

T_CASE(s90_ignored_children)
{
	supervisor(SUP_ONE_FOR_ONE, 0);
	add('a', permanent);
	add('b', temporary);
	ignores[0] = ignores[1] = 1;
	feed((struct sup_event){ .type = SUP_EV_INIT });
	EXPECT("start a, start b, forget b, inited");
	T_EQ_STR(standing(), "a-");
	ignores[2] = ignores[3] = 1;
	start_child('c', permanent);
	start_child('d', temporary);
	EXPECT("start c, reply 1 ignored, start d, reply 2 ignored, forget d");
	call(SUP_OP_RESTART, 'a');
	EXPECT("start a, reply 3 ok");
	T_EQ_STR(standing(), "a+c-");
	done();
}

/* --- auto_shutdown --- */

T_CASE(s92_any_significant)
{
	supervisor_auto(SUP_AUTO_ANY_SIGNIFICANT);
	add('a', permanent);
	add('b', significant(transient));
	add('c', transient);
	up();
	died('b', "exit:1");
	died('c', "normal");
	EXPECT("restart b:b, start b");
	died('b', "normal");
	EXPECT("stop a, exit shutdown by b");
	done();
}

T_CASE(s93_not_by_terminate_child)
{
	supervisor_auto(SUP_AUTO_ANY_SIGNIFICANT);
	add('a', permanent);
	add('b', significant(transient));
	add('c', significant(temporary));
	up();
	call(SUP_OP_TERMINATE, 'b');
	call(SUP_OP_TERMINATE, 'c');
	EXPECT("stop b, reply 1 ok, stop c, forget c, reply 2 ok");
	done();
}

T_CASE(s93_not_by_a_group)
{
	const struct sup_flags flags = { .strategy = SUP_ONE_FOR_ALL, .auto_shutdown = SUP_AUTO_ANY_SIGNIFICANT,
		.max_restarts = 3, .max_seconds = 5 };

	supervisor_auto(SUP_AUTO_ANY_SIGNIFICANT);
	T_EQ_INT(sup_set_flags(s, &flags), 0);
	add('a', permanent);
	add('b', significant(temporary));
	up();
	died('a', "exit:1");
	EXPECT("restart a:a, stop b, forget b, start a");
	done();
}

T_CASE(s94_all_significant)
{
	supervisor_auto(SUP_AUTO_ALL_SIGNIFICANT);
	add('a', permanent);
	add('b', significant(transient));
	add('c', significant(temporary));
	add('d', significant(transient));
	ignores[3] = 1;
	up();
	died('c', "exit:1");
	EXPECT("forget c");
	died('b', "normal");
	EXPECT("stop a, exit shutdown by b");
	done();
}

T_CASE(s94_a_restarting_one_is_not_gone)
{
	struct sup_child_spec slow = significant(transient);

	slow.backoff = (struct sup_backoff){ .min_ms = 100, .max_ms = 100, .factor_milli = 1000 };
	supervisor_auto(SUP_AUTO_ALL_SIGNIFICANT);
	add('a', slow);
	add('b', significant(transient));
	up();
	died('a', "exit:1");
	died('b', "normal");
	EXPECT("restart a:a");
	pass(100);
	EXPECT("start a");
	died('a', "normal");
	EXPECT("exit shutdown by a");
	done();
}

/* --- dynamic supervisors --- */

T_CASE(s96_parallel_stop)
{
	dynamic(3, SUP_NO_LIMIT);
	up();
	start_child('a', with_shutdown(permanent, 100));
	start_child('b', with_shutdown(permanent, 50));
	start_child('c', with_shutdown(permanent, SUP_SHUTDOWN_BRUTAL));
	out[0] = '\0';
	hold('a');
	hold('b');
	shutdown_order("shutdown");
	EXPECT("stop a, stop b, kill c");
	release('b');
	pass(50);
	EXPECT("kill b");
	died('a', "shutdown");
	EXPECT("exit shutdown");
	done();
}

T_CASE(s97_forgets_what_ends)
{
	dynamic(3, SUP_NO_LIMIT);
	up();
	start_child('a', transient);
	start_child('b', permanent);
	out[0] = '\0';
	died('a', "normal");
	EXPECT("forget a");
	call(SUP_OP_TERMINATE, 'a');
	EXPECT("reply 3 not_found");
	call(SUP_OP_TERMINATE, 'b');
	EXPECT("stop b, forget b, reply 4 ok");
	done();
}

T_CASE(s98_max_children)
{
	struct sup_child_spec slow = permanent;
	uint32_t slot;

	slow.backoff = (struct sup_backoff){ .min_ms = 100, .max_ms = 100, .factor_milli = 1000 };
	dynamic(3, 2);
	up();
	start_child('a', slow);
	start_child('b', temporary);
	out[0] = '\0';
	died('a', "exit:1");
	T_CHECK(sup_child_add(s, &slow, sup_last(s), &slot) == -1 && errno == EOVERFLOW);
	call(SUP_OP_TERMINATE, 'a'); /* a retry is due */
	EXPECT("restart a:a, forget a, reply 3 ok");
	start_child('c', permanent);
	EXPECT("start c, reply 4 ok");
	done();
}

T_CASE(s99_ignore_on_restart)
{
	dynamic(3, SUP_NO_LIMIT);
	up();
	start_child('a', permanent);
	out[0] = '\0';
	ignores[0] = 1;
	died('a', "exit:1");
	EXPECT("restart a:a, start a, forget a");
	T_EQ_STR(standing(), "");
	done();
}

T_MAIN(T_RUN(s52_start_and_stop_order), T_RUN(s52_one_after_another), T_RUN(s53_rest_for_one),
	T_RUN(s54_one_for_all), T_RUN(s56_start_failure), T_RUN(s57_places), T_RUN(s58_s95_specs_are_checked),
	T_RUN(s59_group_starts_what_was_down), T_RUN(s60_temporary_does_not_come_back),
	T_RUN(s61_no_group_without_restart), T_RUN(s62_s74_clean_reasons), T_RUN(s63_limit),
	T_RUN(s63_limit_zero), T_RUN(s64_failed_attempts_count), T_RUN(s64_fails_for_ever),
	T_RUN(s65_rest_for_one_goes_on_from_the_failed), T_RUN(s66_one_for_all_begins_again),
	T_RUN(s67_between_attempts_calls_are_answered), T_RUN(s68_shutdown_in_a_restart_loop),
	T_RUN(s69_deaths_at_once), T_RUN(s69_waiting_exits_are_absorbed), T_RUN(s70_later_then_earlier),
	T_RUN(s71_whole_seconds_inclusive), T_RUN(s72_calls_do_not_count), T_RUN(s73_restart_child_fails),
	T_RUN(s77_reason_is_the_supervisors_own), T_RUN(s78_killed_after_its_time), T_RUN(s79_brutal_kill),
	T_RUN(s80_shutdown_0), T_RUN(shutdown_infinity_waits), T_RUN(s81_crash_while_stopping_siblings),
	T_RUN(s82_crash_during_terminate_child), T_RUN(s83_shutdown_ends_a_start),
	T_RUN(s83_start_over_before_its_turn), T_RUN(s83_shutdown_in_a_group_restart),
	T_RUN(s87_terminate_child_twice), T_RUN(lifecycle_refusals), T_RUN(start_child_fails),
	T_RUN(s90_ignored_children), T_RUN(s92_any_significant), T_RUN(s93_not_by_terminate_child),
	T_RUN(s93_not_by_a_group), T_RUN(s94_all_significant), T_RUN(s94_a_restarting_one_is_not_gone),
	T_RUN(s96_parallel_stop), T_RUN(s97_forgets_what_ends), T_RUN(s98_max_children),
	T_RUN(s99_ignore_on_restart))
