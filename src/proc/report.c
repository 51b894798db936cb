/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Reports: to the hook of the node's owner, or as lines on standard error, abnormal things only. */
#include "base/diag.h"
#include "proc/proc.h"

static void say(const struct cop_report *r)
{
	char reason[COP_EXIT_FORMAT_MAX];
	const char *who = r->label[0] ? r->label : r->name;

	cop_exit_format(&r->reason, reason, sizeof reason);
	switch ((enum cop_report_kind)r->kind) {
	case COP_REPORT_EXIT:
		if (!cop_exit_is_clean(&r->reason))
			diag_warn("process %d%s%s ended: %s", r->os_pid, who[0] ? " " : "", who, reason);
		break;
	case COP_REPORT_INIT_FAILED:
		diag_error("supervisor %s: unable to start: %s%s%s", who, reason, r->child ? ": " : "", r->child ? r->child : "");
		break;
	case COP_REPORT_START_ERROR:
		diag_error("supervisor %s: unable to start %s: %s", who, r->child, reason);
		break;
	case COP_REPORT_SHUTDOWN_ERROR:
		diag_warn("supervisor %s: %s did not end as asked: %s", who, r->child, reason);
		break;
	case COP_REPORT_LIMIT:
		diag_error("supervisor %s: too many restarts, the last because of %s", who, r->child);
		break;
	case COP_REPORT_INIT:
	case COP_REPORT_PROGRESS:
	case COP_REPORT_CHILD_TERMINATED: /* the process's own end was said */
		break;
	}
}

void proc_report(struct cop_report *r)
{
	if (!r->name)
		r->name = "";
	if (!r->label)
		r->label = "";
	if (proc.report)
		proc.report(r);
	else if (!proc.quiet)
		say(r);
}
