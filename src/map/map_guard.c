/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The process that the user started: it guards the runner. It passes signals on, waits, and is the one to
 * whom everything comes that a dead runner leaves behind: that is killed until nothing is left. The
 * runner in turn is told of the guard's death by the kernel, and is in a session of its own, so that who
 * kills the guard's process group does not kill both. Allocates nothing after the fork.
 */
#include "map/map.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/text.h"
#include "map/map_private.h"

/* What is passed on; INT and TERM also where they are ignored, as a shell does for what it starts with `&`:
 * who sends one to us means us. */
static const int passed[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT };

static bool is_ignored(int sig)
{
	struct sigaction sa;

	return sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

static void pass_on(pid_t runner, int sig)
{
	if ((sig == SIGHUP || sig == SIGQUIT || sig == SIGTSTP) && is_ignored(sig))
		return;
	kill(runner, sig); /* our child, and not reaped */
	if (sig == SIGTSTP)
		kill(getpid(), SIGSTOP); /* the shell waits for us; CONT is passed on as well */
}

/* Waits for the runner; its wait status. */
static int attend(pid_t runner)
{
	sigset_t set;
	size_t i;
	int sig, status;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (i = 0; i < sizeof passed / sizeof passed[0]; i++)
		sigaddset(&set, passed[i]);
	for (;;) {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == runner)
				return status;
		if (pid < 0 && errno == ECHILD)
			return 0;
		sig = sigwaitinfo(&set, NULL);
		if (sig > 0 && sig != SIGCHLD)
			pass_on(runner, sig);
	}
}

static _Noreturn void become_runner(const struct map_options *o, struct ledger *ledger, struct joblog *log,
    const sigset_t *mask, pid_t guard)
{
	int status;

	/* HUP, which kills everything, when the guard is gone; perhaps it is already. */
	if (prctl(PR_SET_PDEATHSIG, SIGHUP) < 0 || getppid() != guard)
		_exit(MAP_BROKEN);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* who kills what is called as the user called it kills the guard alone */
	prctl(PR_SET_NAME, "map-runner");
	setproctitle("map");
	status = runner_main(o, ledger, log, mask, guard);
	_exit(status);
}

int map_run(const struct map_options *o)
{
	struct ledger *ledger = NULL;
	struct joblog log;
	sigset_t all, mask;
	pid_t guard = getpid(), runner;
	int status;

	if (joblog_open(&log, o) < 0 || (o->results && !o->dry_run && results_prepare(o) < 0))
		return MAP_BROKEN;
	if (log.fd >= 0 && !(ledger = ledger_make())) {
		diag_error_errno("map: unable to make shared memory");
		return MAP_BROKEN;
	}
	signal(SIGCHLD, SIG_DFL); /* ignored, it would take our children's deaths from us */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		diag_warn_errno("map: unable to become a subreaper");
	runner = fork();
	if (runner == 0)
		become_runner(o, ledger, &log, &mask, guard);
	if (runner < 0) {
		diag_error_errno("map: unable to make a process");
		return MAP_BROKEN;
	}
	status = attend(runner);
	if (ledger)
		ledger_settle(ledger, log.fd);
	slots_end();
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	diag_error("map: the runner was killed by SIG%s", text_signal_name(WTERMSIG(status)));
	return MAP_BROKEN;
}
