/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Directories, lock and control socket of a node: the table of the interface, and who is kept out. */
#include "t.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/diag.h"
#include "node/node.h"

static char tmp[64];
static struct node_dirs dirs;

static void environment(const char *name, const char *value)
{
	if (value != NULL)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void clear_environment(void)
{
	environment("COPPICE_RUNTIME_DIR", NULL);
	environment("COPPICE_STATE_DIR", NULL);
	environment("XDG_RUNTIME_DIR", NULL);
	environment("XDG_STATE_HOME", NULL);
	environment("HOME", "/home/somebody");
}

/* A private directory for runtime and state. */
static void enter(void)
{
	char path[128];

	clear_environment();
	strcpy(tmp, "/tmp/test_dirs.XXXXXX");
	T_REQUIRE(mkdtemp(tmp) != NULL);
	snprintf(path, sizeof(path), "%s/run", tmp);
	environment("COPPICE_RUNTIME_DIR", path);
	snprintf(path, sizeof(path), "%s/state", tmp);
	environment("COPPICE_STATE_DIR", path);
}

static void leave(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", tmp);
	T_EQ_INT(system(command), 0);
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode & 07777 : (mode_t)-1;
}

/* The rest of the case runs as a user without rights; root only. */
static bool become_user(uid_t uid)
{
	return geteuid() == 0 && setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0;
}

T_CASE(names_for_root)
{
	clear_environment();
	if (geteuid() != 0)
		return;
	T_EQ_INT(node_dirs_init(&dirs, "demo", false, true), 0);
	T_EQ_STR(dirs.runtime, "/run/coppice/demo");
	T_EQ_STR(dirs.state, "/var/lib/coppice/demo");
	T_EQ_STR(dirs.log, "/var/log/coppice/demo");
	T_EQ_STR(node_dirs_base(0), "/run/coppice");
	T_CHECK(node_dirs_base(1) == NULL);
}

T_CASE(names_for_others)
{
	clear_environment();
	if (!become_user(54321))
		return;
	T_EQ_INT(node_dirs_init(&dirs, "demo", false, true), 0);
	T_EQ_STR(dirs.runtime, "/tmp/coppice-54321/demo");
	T_EQ_STR(dirs.state, "/home/somebody/.local/state/coppice/demo");
	T_EQ_STR(dirs.log, "/home/somebody/.local/state/coppice/demo/log");
	environment("XDG_STATE_HOME", "/x");
	environment("XDG_RUNTIME_DIR", "/"); /* not ours */
	T_EQ_INT(node_dirs_init(&dirs, "demo", false, true), 0);
	T_EQ_STR(dirs.runtime, "/tmp/coppice-54321/demo");
	T_EQ_STR(dirs.state, "/x/coppice/demo");
	environment("XDG_STATE_HOME", "relative");
	environment("HOME", NULL);
	T_EQ_INT(node_dirs_init(&dirs, "demo", false, true), 0);
	T_EQ_STR(dirs.state, "");
	T_EQ_STR(dirs.log, "");
}

T_CASE(a_runtime_dir_of_xdg_counts_if_it_is_ours)
{
	char path[128], expected[256];

	enter();
	environment("COPPICE_RUNTIME_DIR", NULL);
	T_REQUIRE(chmod(tmp, 0700) == 0);
	if (geteuid() == 0 && (chown(tmp, 54321, 54321) < 0 || !become_user(54321)))
		return;
	environment("XDG_RUNTIME_DIR", tmp);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	snprintf(expected, sizeof(expected), "%s/coppice/demo", tmp);
	T_EQ_STR(dirs.runtime, expected);
	T_EQ_INT(mode_of(dirs.runtime), 0700);
	T_EQ_STR(node_dirs_base(1), "/tmp/coppice-54321");
	snprintf(path, sizeof(path), "rm -rf %s/*", tmp);
	T_EQ_INT(system(path), 0);
	rmdir(tmp); /* works if /tmp has no sticky bit for us; the owner may */
}

T_CASE(overrides_and_modes)
{
	char expected[256];

	enter();
	umask(0);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	T_EQ_INT(umask(022), 0); /* put back */
	snprintf(expected, sizeof(expected), "%s/run/demo", tmp);
	T_EQ_STR(dirs.runtime, expected);
	snprintf(expected, sizeof(expected), "%s/state/demo/log", tmp);
	T_EQ_STR(dirs.log, expected);
	T_EQ_INT(mode_of(dirs.runtime), 0700);
	T_CHECK((mode_of(dirs.log) & 022) == 0);
	leave();
}

T_CASE(a_relative_override_becomes_absolute)
{
	enter();
	T_REQUIRE(chdir(tmp) == 0);
	environment("COPPICE_RUNTIME_DIR", "here");
	T_EQ_INT(node_dirs_init(&dirs, "demo", false, true), 0);
	T_CHECK(dirs.runtime[0] == '/' && strstr(dirs.runtime, "/here/demo") != NULL);
	T_REQUIRE(chdir("/") == 0);
	leave();
}

T_CASE(loose_modes_are_narrowed_or_refused)
{
	enter();
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	T_REQUIRE(chmod(dirs.runtime, 0755) == 0);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	T_EQ_INT(mode_of(dirs.runtime), 0700);
	T_REQUIRE(chmod(dirs.runtime, 0777) == 0);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), -1);
	leave();
}

T_CASE(what_another_user_has_put_there_is_refused)
{
	char path[128];

	enter();
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	if (geteuid() == 0) {
		T_REQUIRE(chown(dirs.runtime, 54321, 54321) == 0);
		T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), -1);
		T_EQ_INT(node_lock(&dirs), -1);
	}
	T_REQUIRE(rmdir(dirs.runtime) == 0);
	snprintf(path, sizeof(path), "%s/elsewhere", tmp);
	T_REQUIRE(mkdir(path, 0700) == 0 && symlink(path, dirs.runtime) == 0);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), -1);
	leave();
}

T_CASE(what_cannot_be_made_is_missing)
{
	enter();
	environment("COPPICE_RUNTIME_DIR", "/proc/nothing");
	environment("COPPICE_STATE_DIR", "/proc/nothing");
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	T_EQ_STR(dirs.runtime, "");
	T_EQ_STR(dirs.state, "");
	T_EQ_STR(dirs.log, "");
	T_EQ_INT(node_lock(&dirs), -1);
	T_EQ_INT(node_listen(&dirs, NULL), -1);
	leave();
}

T_CASE(one_has_the_lock)
{
	int fd, second;

	enter();
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	fd = node_lock(&dirs);
	T_CHECK(fd >= 0);
	second = node_lock(&dirs);
	T_EQ_INT(second, -1);
	T_EQ_INT(errno, EWOULDBLOCK);
	close(fd);
	fd = node_lock(&dirs);
	T_CHECK(fd >= 0);
	close(fd);
	leave();
}

static const char *socket_path(void)
{
	static char path[NODE_PATH_MAX + 16];

	snprintf(path, sizeof(path), "%s/control", dirs.runtime);
	return path;
}

static bool connects(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	bool ok;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.100s", path);
	ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	close(fd);
	return ok;
}

T_CASE(the_socket_is_private_and_replaces_a_stale_one)
{
	int fd, again;

	enter();
	umask(0);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	fd = node_listen(&dirs, NULL);
	T_CHECK(fd >= 0);
	T_EQ_INT(mode_of(socket_path()), 0600);
	T_EQ_INT(umask(0), 0);
	T_CHECK(connects(socket_path()));
	again = node_listen(&dirs, NULL); /* as after USR1 */
	T_CHECK(again >= 0 && connects(socket_path()));
	close(fd);
	T_CHECK(connects(socket_path()));
	close(again);
	T_CHECK(!connects(socket_path()));
	fd = node_listen(&dirs, NULL);
	T_CHECK(fd >= 0 && connects(socket_path()));
	close(fd);
	leave();
}

T_CASE(what_is_no_socket_is_not_removed)
{
	char target[128];
	int fd;

	enter();
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	fd = open(socket_path(), O_CREAT | O_WRONLY, 0600);
	close(fd);
	T_EQ_INT(node_listen(&dirs, NULL), -1);
	T_EQ_INT(errno, EEXIST);
	unlink(socket_path());
	snprintf(target, sizeof(target), "%s/victim", tmp);
	fd = open(target, O_CREAT | O_WRONLY, 0600);
	close(fd);
	T_REQUIRE(symlink(target, socket_path()) == 0);
	T_EQ_INT(node_listen(&dirs, NULL), -1);
	T_EQ_INT(access(target, F_OK), 0);
	leave();
}

T_CASE(a_living_socket_elsewhere_is_not_taken_over)
{
	char path[128];
	int fd, fd2;
	pid_t pid;

	enter();
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	snprintf(path, sizeof(path), "%s/other", tmp);
	fd = node_listen(&dirs, path);
	T_CHECK(fd >= 0);
	fd2 = node_listen(&dirs, path); /* our own may be opened again */
	T_CHECK(fd2 >= 0);
	close(fd);
	pid = fork();
	if (pid == 0)
		_exit(node_listen(&dirs, path) == -1 && errno == EADDRINUSE ? 0 : 1);
	T_REQUIRE(waitpid(pid, &fd, 0) == pid);
	T_EQ_INT(fd, 0);
	close(fd2);
	leave();
}

T_CASE(a_long_path_is_no_problem)
{
	char path[512];
	struct stat st;
	int fd;

	enter();
	snprintf(path, sizeof(path), "%s/%0150d", tmp, 0);
	T_REQUIRE(mkdir(path, 0700) == 0);
	environment("COPPICE_RUNTIME_DIR", path);
	T_EQ_INT(node_dirs_init(&dirs, "demo", true, true), 0);
	fd = node_listen(&dirs, NULL);
	T_CHECK(fd >= 0);
	T_CHECK(lstat(socket_path(), &st) == 0 && S_ISSOCK(st.st_mode));
	close(fd);
	leave();
}

T_MAIN(T_RUN(names_for_root), T_RUN(names_for_others), T_RUN(a_runtime_dir_of_xdg_counts_if_it_is_ours),
    T_RUN(overrides_and_modes), T_RUN(a_relative_override_becomes_absolute),
    T_RUN(loose_modes_are_narrowed_or_refused), T_RUN(what_another_user_has_put_there_is_refused),
    T_RUN(what_cannot_be_made_is_missing), T_RUN(one_has_the_lock),
    T_RUN(the_socket_is_private_and_replaces_a_stale_one), T_RUN(what_is_no_socket_is_not_removed),
    T_RUN(a_living_socket_elsewhere_is_not_taken_over), T_RUN(a_long_path_is_no_problem))
