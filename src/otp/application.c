/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* An application: a node that is one supervision tree, until it ends or is asked to. */
#include <stdlib.h>
#include <string.h>

#include <coppice/node.h>
#include <coppice/supervisor.h>

#include "proc/proc.h"

static _Noreturn void end_with(int status)
{
	struct cop_exit reason = cop_exit_make(status ? COP_EXIT_CODE : COP_EXIT_NORMAL, status);

	cop_exit(&reason);
}

static void application(void *arg)
{
	const struct cop_supervisor *top = arg;
	struct cop_exit shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0), actual;
	struct cop_started s;
	struct cop_msg msg;

	(void)cop_trap_exit(true);
	cop_set_label("application");
	switch (cop_supervisor_start_link(top, &s)) {
	case COP_IGNORED:
		end_with(0);
	case COP_NOT_STARTED:
		end_with(1);
	case COP_STARTED:
		break;
	}
	while (cop_receive(&msg, NULL, NULL, COP_INFINITY) == 1) {
		if (msg.kind == COP_MSG_EXIT && cop_pid_is(msg.from, s.pid))
			end_with(cop_exit_is_clean(&msg.reason) && msg.reason.kind == COP_EXIT_NORMAL ? 0 : 1);
		if (msg.kind == COP_MSG_EXIT && cop_pid_is(msg.from, cop_parent())) {
			if (cop_server_stop(cop_to(s.pid), &shutdown, COP_INFINITY, &actual) < 0 && actual.kind == COP_EXIT_KILLED)
				end_with(1);
			end_with(0);
		}
		cop_msg_done(&msg);
	}
	end_with(1);
}

int cop_run_tree(const struct cop_node_options *options, const struct cop_supervisor *top)
{
	return cop_run(options, application, (void *)(uintptr_t)top);
}
