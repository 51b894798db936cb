/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Arguments and environment of a new process, and finding its program. The tables are static:
 * one process at a time is made of them. They are filled before there is a process, or by the
 * process itself if it has its own copy of them; only its pid is put in by the process in any
 * case. What does not fit is E2BIG, as execve(2) would say. Strings of the configuration are
 * used where they are, in the image. Raw system calls only.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/raw.h"

#define ARGS_MAX 65536
#define VARS_MAX 65536
#define TEXT_MAX (64 * 1024) /* of the variables that we write ourselves */
#define PID_VARS 2
#define PID_DIGITS 10
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *argv[ARGS_MAX];
static char *envp[VARS_MAX];
static uint32_t n_env;
static char text[TEXT_MAX];
static size_t text_len;
static bool too_big;
static char *pid_at[PID_VARS]; /* where the digits of the pid belong */
static int n_pids;

/* --- strings --- */

static void put_char(char c)
{
	if (text_len < sizeof text)
		text[text_len++] = c;
	else
		too_big = true;
}

static void put_text(const char *s)
{
	while (*s)
		put_char(*s++);
}

static void put_number(uint64_t v)
{
	char digits[24], *p = digits + sizeof digits - 1;

	*p = '\0';
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	put_text(p);
}

/* --- variables --- */

static size_t name_len(const char *var)
{
	return strcspn(var, "=");
}

/* The entry with var's name; n_env if there is none. */
static uint32_t find(const char *name, size_t len)
{
	uint32_t i;

	for (i = 0; i < n_env; i++)
		if (strncmp(envp[i], name, len) == 0 && envp[i][len] == '=')
			return i;
	return n_env;
}

/* Sets NAME=value; the last one of a name wins. The string stays where it is. */
static void set_var(const char *var)
{
	uint32_t i = find(var, name_len(var));

	if (i + 1 >= VARS_MAX) {
		too_big = true;
		return;
	}
	envp[i] = (char *)(uintptr_t)var;
	if (i == n_env)
		n_env++;
}

/* Begins a variable of our own; set_begun() ends it. */
static char *begin(const char *name)
{
	char *start = text + text_len;

	put_text(name);
	put_char('=');
	return start;
}

static void set_begun(char *start)
{
	put_char('\0');
	if (!too_big)
		set_var(start);
}

static void set_text(const char *name, const char *value)
{
	char *start = begin(name);

	put_text(value);
	set_begun(start);
}

static void set_number(const char *name, uint64_t value)
{
	char *start = begin(name);

	put_number(value);
	set_begun(start);
}

/* Leaves room for the digits of a pid that is not known yet. */
static void set_pid(const char *name)
{
	char *start = begin(name);
	int i;

	pid_at[n_pids++] = text + text_len;
	for (i = 0; i < PID_DIGITS; i++)
		put_char('0');
	set_begun(start);
}

/* The value of a variable of the child's environment, or NULL. */
static const char *get_var(const char *name)
{
	size_t len = strlen(name);
	uint32_t i = find(name, len);

	return i < n_env ? envp[i] + len + 1 : NULL;
}

/* --- filling --- */

/* What concerns the node itself, or would be wrong for a child of ours. */
static bool is_ours(const char *var)
{
	static const char *const ours[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS",
		"LISTEN_PID", "LISTEN_FDNAMES", "COPPICE_SOCKET", "COPPICE_NODE", "COPPICE_PATH",
		"INVOCATION_ID", NULL };
	size_t len = name_len(var);
	int i;

	for (i = 0; ours[i]; i++)
		if (strlen(ours[i]) == len && strncmp(var, ours[i], len) == 0)
			return true;
	return false;
}

static void inherit(void)
{
	char **e;

	for (e = environ; e && *e; e++) {
		if (is_ours(*e) || !strchr(*e, '='))
			continue;
		if (n_env + 1 >= VARS_MAX) {
			too_big = true;
			return;
		}
		envp[n_env++] = *e; /* has no duplicates that matter: the first one counts everywhere */
	}
}

static void set_user_vars(const struct spec_image *img, const struct spec_worker *w)
{
	const char *name = spec_string(img, w->user_name), *home = spec_string(img, w->user_home);
	const char *shell = spec_string(img, w->user_shell);

	if (name) {
		set_text("USER", name);
		set_text("LOGNAME", name);
	}
	if (home)
		set_text("HOME", home);
	if (shell)
		set_text("SHELL", shell);
}

static void set_sockets(const struct exec_plan *p)
{
	const struct spec_list *l = &p->child->worker.sockets;
	char *start;
	uint32_t i;

	if (l->count == 0)
		return;
	set_number("LISTEN_FDS", l->count);
	set_pid("LISTEN_PID");
	start = begin("LISTEN_FDNAMES");
	for (i = 0; i < l->count; i++) {
		const struct spec_socket *s = spec_socket_at(&p->img, spec_list_num(&p->img, l, i));
		const char *name = s ? spec_string(&p->img, s->name) : NULL;

		if (i > 0)
			put_char(':');
		put_text(name ? name : "unknown");
	}
	set_begun(start);
}

static void set_ours(const struct exec_plan *p)
{
	const struct spec_worker *w = &p->child->worker;

	set_text("INVOCATION_ID", p->invocation);
	set_text("COPPICE_NODE", p->node->name);
	set_text("COPPICE_PATH", spec_string(&p->img, p->child->path));
	if (p->notify)
		set_text("NOTIFY_SOCKET", p->notify);
	if (w->watchdog_ms > 0) {
		set_number("WATCHDOG_USEC", (uint64_t)w->watchdog_ms * 1000);
		set_pid("WATCHDOG_PID");
	}
	set_sockets(p);
}

int exec_env_fill(const struct exec_plan *p)
{
	const struct spec_worker *w = &p->child->worker;
	uint32_t i;

	text_len = n_env = 0;
	n_pids = 0;
	too_big = false;
	if (w->exec.count == 0 && w->server != SPEC_SERVER_MODULE)
		return EINVAL;
	if (w->exec.count >= ARGS_MAX)
		return E2BIG;
	for (i = 0; i < w->exec.count; i++)
		argv[i] = (char *)(uintptr_t)spec_list_str(&p->img, &w->exec, i);
	argv[i] = NULL;
	if (!w->env_clear)
		inherit();
	else
		set_text("PATH", DEFAULT_PATH);
	set_user_vars(&p->img, w);
	for (i = 0; i < w->env.count; i++)
		set_var(spec_list_str(&p->img, &w->env, i));
	set_ours(p);
	envp[n_env] = NULL;
	return too_big ? E2BIG : 0;
}

void exec_env_pid(pid_t pid)
{
	char digits[PID_DIGITS], *d = digits + PID_DIGITS;
	unsigned v = (unsigned)pid;
	size_t n;
	int i;

	do
		*--d = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	n = (size_t)(digits + PID_DIGITS - d);
	for (i = 0; i < n_pids; i++) {
		memcpy(pid_at[i], d, n);
		pid_at[i][n] = '\0';
	}
}

void exec_env_use(void)
{
	environ = envp;
}

/* --- running --- */

/* Tries one directory of PATH. */
static int try_in(const char *dir, size_t dir_len, const char *name)
{
	static char full[PATH_MAX];
	size_t n = strlen(name);

	if (dir_len + 1 + n >= sizeof full)
		return ENAMETOOLONG;
	memcpy(full, dir, dir_len);
	full[dir_len] = '/';
	memcpy(full + dir_len + 1, name, n + 1);
	return raw_err(raw3(SYS_execve, full, argv, envp));
}

/* Tells whether the program may still be found further on. */
static bool goes_on(int err)
{
	return err == ENOENT || err == ENOTDIR || err == EACCES || err == ENAMETOOLONG || err == ESTALE ||
	    err == ENODEV || err == ETIMEDOUT || err == ELOOP;
}

int exec_env_run(void)
{
	const char *path = get_var("PATH"), *name = argv[0];
	int err, best = ENOENT;
	size_t len;

	if (strchr(name, '/') || !*name)
		return raw_err(raw3(SYS_execve, name, argv, envp));
	for (path = path ? path : DEFAULT_PATH; *path; path += len + (path[len] == ':')) {
		len = strcspn(path, ":");
		if (len == 0)
			continue; /* an empty element is never the current directory */
		err = try_in(path, len, name);
		if (!goes_on(err))
			return err;
		if (err == EACCES)
			best = EACCES; /* was there, but could not be executed */
	}
	return best;
}
