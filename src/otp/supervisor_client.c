/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The callers' side of supervisors: starting one, and its child API. Runs in any process; waits for the
 * supervisor's answer for as long as that takes, as OTP does. */
#include <coppice/supervisor.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "otp/supervisor_private.h"

struct birth {
	const struct cop_supervisor *spec;
};

static void process(void *arg)
{
	struct birth *b = arg;

	supervisor_main(b->spec, -1);
}

enum cop_start cop_supervisor_start_link(const struct cop_supervisor *spec, struct cop_started *started_r)
{
	struct birth b = { spec };

	PROC_REQUIRE();
	return server_start_process(process, &b, true, true, spec->name, spec->name ? spec->name : "supervisor",
	    COP_INFINITY, started_r);
}

/* --- the child API --- */

/* The callers name a supervisor or have its pid: either way it is not there. */
static int absent(void)
{
	if (errno == ENOENT)
		errno = ESRCH;
	return -1;
}

static int call(struct cop_dest sup, enum supervisor_tag tag, const void *data, size_t len, struct supervisor_reply *r)
{
	struct cop_exit reason;

	memset(r, 0, sizeof *r);
	r->how = -1;
	if (cop_server_ask(sup, tag, data, len, r, sizeof *r, COP_INFINITY, &reason) < 0) {
		(void)absent();
		r->err = errno; /* or EPIPE: it died of it, or meanwhile */
		r->reason = reason;
		return -1;
	}
	r->reason = proc_sane_exit(&r->reason);
	return 0;
}

static enum cop_start started(const struct supervisor_reply *r, struct cop_started *started_r)
{
	started_r->pid.id = r->pid;
	started_r->reason = r->reason;
	if (r->how < 0)
		errno = r->err;
	return r->how > 0 ? COP_STARTED : r->how == 0 ? COP_IGNORED : COP_NOT_STARTED;
}

static int done(const struct supervisor_reply *r)
{
	if (r->how >= 0)
		return 0;
	errno = r->err;
	return -1;
}

enum cop_start cop_supervisor_start_child(struct cop_dest sup, const struct cop_child *child,
    struct cop_started *started_r)
{
	struct supervisor_reply r;
	size_t size = 4096, len;
	void *buf = NULL, *more;

	PROC_REQUIRE();
	memset(started_r, 0, sizeof *started_r);
	for (;;) {
		more = realloc(buf, size);
		if (!more) {
			free(buf);
			errno = ENOMEM;
			return COP_NOT_STARTED;
		}
		buf = more;
		len = supervisor_pack(child, buf, size);
		if (len > 0)
			break;
		size *= 4;
		if (size > COP_MSG_MAX) {
			free(buf);
			started_r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "invalid_child_spec");
			errno = EINVAL;
			return COP_NOT_STARTED;
		}
	}
	(void)call(sup, SUPERVISOR_START_CHILD, buf, len, &r);
	free(buf);
	return started(&r, started_r);
}

int cop_supervisor_terminate_child(struct cop_dest sup, const char *id)
{
	struct supervisor_reply r;

	PROC_REQUIRE();
	(void)call(sup, SUPERVISOR_TERMINATE_CHILD, id, strlen(id), &r);
	return done(&r);
}

int cop_supervisor_terminate_pid(struct cop_dest sup, cop_pid pid)
{
	struct supervisor_reply r;

	PROC_REQUIRE();
	(void)call(sup, SUPERVISOR_TERMINATE_PID, &pid.id, sizeof pid.id, &r);
	return done(&r);
}

enum cop_start cop_supervisor_restart_child(struct cop_dest sup, const char *id, struct cop_started *started_r)
{
	struct supervisor_reply r;

	PROC_REQUIRE();
	(void)call(sup, SUPERVISOR_RESTART_CHILD, id, strlen(id), &r);
	return started(&r, started_r);
}

int cop_supervisor_delete_child(struct cop_dest sup, const char *id)
{
	struct supervisor_reply r;

	PROC_REQUIRE();
	(void)call(sup, SUPERVISOR_DELETE_CHILD, id, strlen(id), &r);
	return done(&r);
}

long cop_supervisor_which_children(struct cop_dest sup, struct cop_child_info *info, size_t max)
{
	struct cop_response r;
	size_t n;

	PROC_REQUIRE();
	if (cop_server_call(sup, SUPERVISOR_WHICH_CHILDREN, NULL, 0, COP_INFINITY, &r) < 0)
		return absent();
	if (r.msg.tag == ENOMEM) { /* it had none for the answer */
		cop_response_done(&r);
		errno = ENOMEM;
		return -1;
	}
	n = r.msg.len / sizeof *info;
	if (n > 0 && max > 0)
		memcpy(info, r.msg.data, (n < max ? n : max) * sizeof *info);
	cop_response_done(&r);
	return (long)n;
}

int cop_supervisor_count_children(struct cop_dest sup, struct cop_child_counts *counts_r)
{
	PROC_REQUIRE();
	if (cop_server_ask(sup, SUPERVISOR_COUNT_CHILDREN, NULL, 0, counts_r, sizeof *counts_r, COP_INFINITY, NULL) < 0)
		return absent();
	return 0;
}
