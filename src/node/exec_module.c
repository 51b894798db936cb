/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the process of a module does where another one would call execve: it becomes a process of the
 * node, loads the shared object and is a server of it. It was forked in the ordinary way, so everything
 * may be called here. Nobody but this process ever has the shared object in its memory.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <coppice/server.h>
#include "base/diag.h"
#include "base/fds.h"
#include "node/exec_child.h"
#include "node/member.h"
#include "otp/server.h"

/* dlopen(3) has no errno. What the dynamic linker says is for the log. */
static int load_errno(const char *path)
{
	diag_error("unable to load the module %s: %s", path, dlerror());
	return access(path, R_OK) < 0 ? errno : ELIBBAD;
}

static void default_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL); /* dispositions are the default already */
}

int exec_module(struct exec_plan *p, enum exec_step *step_r)
{
	const struct spec_worker *w = &p->child->worker;
	const char *path = spec_string(&p->img, w->module), *args = spec_string(&p->img, w->args);
	struct server_start start = {
		.name = spec_string(&p->img, w->name), .arg = args ? args : "", .arg_size = args ? strlen(args) : 0,
	};
	const struct cop_server_ops *ops;
	struct group own = { .dirfd = -1 };
	void *module;

	group_forked(&own);
	exec_env_use();
	setvbuf(stdout, NULL, _IOLBF, 0); /* it is the log */
	default_signals();
	member_become(p->member, MEMBER_WORKER, p->fds.ready);
	setproctitle("server %s", spec_string(&p->img, p->child->path));
	*step_r = EXEC_STEP_DLOPEN;
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module)
		return load_errno(path);
	*step_r = EXEC_STEP_DLSYM;
	ops = dlsym(module, spec_string(&p->img, w->symbol));
	if (!ops) {
		diag_error("the module %s has no %s: %s", path, spec_string(&p->img, w->symbol), dlerror());
		return ENOENT;
	}
	exec_child_executing(p);
	fds_close(&p->status);
	server_run(ops, &start);
}
