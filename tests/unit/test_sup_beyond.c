/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor core, rule by rule: what is documented beyond OTP (backoff, interrupting calls,
 * disabled children), and what the owner of a core relies on. sup_play.h explains the language.
 */
#include "sup_play.h"

T_CASE(backoff_grows_and_resets)
{
	static const int64_t delay[] = { 10, 20, 40, 50, 50 };
	struct sup_child_spec spec = permanent;
	size_t i;

	spec.backoff = (struct sup_backoff){ .min_ms = 10, .max_ms = 50, .factor_milli = 2000, .reset_ms = 1000 };
	supervisor(SUP_ONE_FOR_ONE, 100);
	add('a', spec);
	up();
	for (i = 0; i < 5; i++) {
		died('a', "exit:1");
		EXPECT("restart a:a");
		T_EQ_INT(sup_child_status(s, slot_named('a')), SUP_ST_BACKOFF);
		T_EQ_INT(timer[0] - now, delay[i]);
		pass(delay[i]);
		EXPECT("start a");
	}
	pass(1000);
	died('a', "exit:1");
	T_EQ_INT(timer[0] - now, 10);
	done();
}

T_CASE(backoff_of_a_group)
{
	struct sup_child_spec spec = permanent;

	spec.backoff = (struct sup_backoff){ .min_ms = 10, .max_ms = 50, .factor_milli = 2000 };
	supervisor(SUP_ONE_FOR_ALL, 100);
	add('a', permanent);
	add('b', spec);
	up();
	died('b', "exit:1");
	EXPECT("restart b:ab, stop a");
	T_EQ_STR(standing(), "a-b~");
	T_EQ_INT(sup_restarts_left(s, now), 99);
	pass(10);
	EXPECT("start a, start b");
	T_EQ_INT(sup_restarts_left(s, now), 99);
	done();
}

T_CASE(shutdown_during_backoff)
{
	struct sup_child_spec spec = permanent;

	spec.backoff = (struct sup_backoff){ .min_ms = 10, .max_ms = 50, .factor_milli = 2000 };
	supervisor(SUP_ONE_FOR_ONE, 100);
	add('a', permanent);
	add('b', spec);
	up();
	died('b', "exit:1");
	shutdown_order("shutdown");
	EXPECT("restart b:b, stop a, exit shutdown");
	T_EQ_INT(timer[1], -1);
	done();
}

T_CASE(interrupt_ends_a_start)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("abc");
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	call(SUP_OP_TERMINATE, 'b');
	EXPECT("start a, start b");
	release('b');
	call_with(SUP_OP_TERMINATE, 'b', true);
	EXPECT("stop b, reply 2 ok, start c, inited, reply 1 ok");
	T_EQ_STR(standing(), "a+b-c+");
	done();
}

T_CASE(interrupt_cycles_in_place)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("abc");
	hold('b');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	release('b');
	call_with(SUP_OP_CYCLE, 'b', true);
	EXPECT("start a, start b, stop b, start b, reply 1 ok, start c, inited");
	done();
}

T_CASE(interrupted_start_child)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	up();
	hold('a');
	start_child('a', permanent);
	release('a');
	call_with(SUP_OP_TERMINATE, 'a', true);
	EXPECT("start a, stop a, reply 2 ok, reply 1 failed, forget a");
	done();
}

T_CASE(disabled_until_asked_for)
{
	struct sup_child_spec spec = permanent;

	spec.enabled = false;
	supervisor(SUP_ONE_FOR_ALL, 9);
	add('a', permanent);
	add('b', spec);
	feed((struct sup_event){ .type = SUP_EV_INIT });
	died('a', "exit:1");
	EXPECT("start a, inited, restart a:a, start a");
	T_EQ_STR(standing(), "a+b-");
	call(SUP_OP_RESTART, 'b');
	died('b', "exit:1");
	EXPECT("start b, reply 1 ok, restart b:ab, stop a, start a, start b");
	done();
}

/* What waits for a child does not find the next one that gets its slot. */
T_CASE(a_slot_given_again)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add('a', permanent);
	add('b', temporary);
	up();
	hold('a');
	call(SUP_OP_CYCLE, 'a');
	died('b', "normal");
	call(SUP_OP_CYCLE, 'a');
	call(SUP_OP_TERMINATE, 'b');
	died('a', "shutdown");
	started('a', SUP_START_OK);
	EXPECT("stop a, start a, reply 1 ok, forget b, stop a");
	start_child('d', permanent);
	T_EQ_INT(slot_named('d'), slot_named('b'));
	release('a');
	died('a', "shutdown");
	EXPECT("start a, reply 2 ok, reply 3 not_found, start d, reply 4 ok");
	done();
}

T_CASE(waiting_start_is_no_part_of_a_group)
{
	supervisor(SUP_ONE_FOR_ALL, 9);
	add_all("ab");
	up();
	hold('b');
	died('a', "exit:1");
	start_child('c', permanent);
	EXPECT("restart a:ab, stop b");
	died('b', "shutdown");
	EXPECT("start a, start b");
	started('b', SUP_START_OK);
	EXPECT("start c, reply 1 ok");
	done();
}

T_CASE(calls_at_the_end)
{
	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("ab");
	up();
	hold('b');
	call(SUP_OP_CYCLE, 'b');
	call(SUP_OP_CYCLE, 'a');
	shutdown_order("shutdown");
	EXPECT("stop b");
	died('b', "shutdown");
	EXPECT("reply 1 shutting_down, reply 2 shutting_down, stop a, exit shutdown");
	call(SUP_OP_RESTART, 'a');
	EXPECT("reply 3 shutting_down");
	done();
}

T_CASE(too_many_calls)
{
	int i;

	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("a");
	hold('a');
	feed((struct sup_event){ .type = SUP_EV_INIT });
	out[0] = '\0';
	for (i = 0; i < SUP_CALLS_MAX; i++) {
		T_CHECK(sup_call_room(s));
		call(SUP_OP_DELETE, 'a');
	}
	T_CHECK(!sup_call_room(s));
	EXPECT("");
	started('a', SUP_START_OK);
	T_CHECK(sup_call_room(s));
	T_EQ_INT(strncmp(out, "inited, reply 1 running, reply 2 running, ", 42), 0);
	done();
}

T_CASE(new_flags_keep_what_was_counted)
{
	struct sup_flags flags = { .max_restarts = 2, .max_seconds = 1, .max_children = SUP_NO_LIMIT };
	int i;

	supervisor(SUP_ONE_FOR_ONE, 9);
	add_all("a");
	up();
	for (i = 0; i < 5; i++) {
		died('a', "exit:1");
		pass(1000);
	}
	T_EQ_INT(sup_restarts_left(s, now), 4);
	T_EQ_INT(sup_set_flags(s, &flags), 0);
	flags.max_restarts = 9;
	flags.max_seconds = 5;
	T_EQ_INT(sup_set_flags(s, &flags), 0);
	T_EQ_INT(sup_restarts_left(s, now), 4);
	done();
}

T_CASE(places_in_the_middle)
{
	uint32_t slot;

	supervisor(SUP_REST_FOR_ONE, 9);
	add_all("ab");
	up();
	T_EQ_INT(sup_child_add(s, &permanent, slot_named('a'), &slot), 0);
	name_of[slot] = 'm';
	slot_of['m' - 'a'] = slot;
	call(SUP_OP_START, 'm');
	T_EQ_INT(sup_child_add(s, &permanent, SUP_NONE, &slot), 0);
	name_of[slot] = 'f';
	slot_of['f' - 'a'] = slot;
	call(SUP_OP_START, 'f');
	T_EQ_STR(standing(), "f+a+m+b+");
	out[0] = '\0';
	died('m', "exit:1");
	EXPECT("restart m:mb, stop b, start m, start b");
	done();
}

/* A stop of very many children needs no memory and no deep stack. */
T_CASE(ten_thousand_children)
{
	struct sup_flags flags = { .dynamic = true, .max_restarts = 1, .max_seconds = 1, .max_children = SUP_NO_LIMIT };
	struct sup_event ev = { .type = SUP_EV_INIT };
	struct sup_action act;
	uint32_t slot, i, stops = 0;

	s = sup_create(&flags);
	sup_step(s, &ev);
	while (sup_next_action(s, &act))
		;
	for (i = 0; i < 10000; i++) {
		T_REQUIRE(sup_child_add(s, &permanent, sup_last(s), &slot) == 0);
		sup_step(s, &(struct sup_event){ .type = SUP_EV_CALL, .op = SUP_OP_START, .slot = slot });
		while (sup_next_action(s, &act))
			;
		sup_step(s, &(struct sup_event){ .type = SUP_EV_STARTED, .slot = slot });
		while (sup_next_action(s, &act))
			;
	}
	T_EQ_INT(sup_slots(s), 10000);
	sup_step(s, &(struct sup_event){ .type = SUP_EV_SHUTDOWN });
	while (sup_next_action(s, &act))
		stops += act.type == SUP_ACT_STOP;
	T_EQ_INT(stops, 10000);
	done();
}

T_MAIN(T_RUN(backoff_grows_and_resets), T_RUN(backoff_of_a_group), T_RUN(shutdown_during_backoff),
	T_RUN(interrupt_ends_a_start), T_RUN(interrupt_cycles_in_place), T_RUN(interrupted_start_child),
	T_RUN(disabled_until_asked_for), T_RUN(a_slot_given_again), T_RUN(waiting_start_is_no_part_of_a_group),
	T_RUN(calls_at_the_end), T_RUN(too_many_calls), T_RUN(new_flags_keep_what_was_counted),
	T_RUN(places_in_the_middle), T_RUN(ten_thousand_children))
