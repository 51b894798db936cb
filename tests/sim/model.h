/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The reference model: OTP's supervisor and DynamicSupervisor written down as they are
 * described, as one blocking process with a mailbox, and nothing else in mind. Start and
 * shutdown are functions that wait for an answer and leave all other messages where they are.
 * It shares no code with otp/sup_core.c.
 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "world.h"

/* Situations that a set of histories must have met. X(name) */
#define MODEL_SITUATIONS(X) \
	X(limit) X(limit_by_failed_start) X(limit_dynamic) X(window_slid) X(window_edge) \
	X(restart_one) X(restart_one_for_all) X(restart_rest_for_one) X(restart_dynamic) \
	X(failed_start_in_init) X(failed_start_in_group) X(failed_restart) X(retry_cancelled) \
	X(retry_after_other_mail) X(ignored) X(ignored_dynamic_restart) X(disabled_skipped) \
	X(temporary_dropped_with_group) X(finished_started_with_group) X(absorbed_exit) \
	X(exit_waited) X(two_exits_waited) X(call_waited) X(call_shutting_down) X(start_call_cut) \
	X(start_over_at_end) X(shutdown_idle) X(shutdown_in_init) X(shutdown_in_start) X(shutdown_in_stop) \
	X(shutdown_in_group_stop) X(shutdown_in_backoff) X(auto_any) X(auto_all) X(auto_not_yet) \
	X(backoff) X(backoff_grown) X(backoff_max) X(backoff_reset) X(backoff_group) \
	X(backoff_cancelled) X(backoff_overtaken) X(killed_late) X(brutal) X(died_while_stopping) \
	X(interrupt_terminate) X(interrupt_cycle) X(interrupt_in_group) X(interrupt_call) \
	X(started_child) X(start_child_failed) X(restarted_child) X(restart_child_failed) \
	X(restarting_refused) X(deleted_child) X(cycled) X(not_found) X(max_children) \
	X(parallel_stop) X(update) X(new_flags)

enum model_situation {
#define X(name) SIT_##name,
	MODEL_SITUATIONS(X)
#undef X
	MODEL_SITUATION_COUNT
};

/* Plays a history to its end. met[] is set for each situation that it met. Returns false if
 * the supervisor never ended. */
bool model_run(const struct history *h, struct trace *t, bool met[MODEL_SITUATION_COUNT]);

#endif
