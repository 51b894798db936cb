/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Where a node's files are, the lock that makes it the only one of its name, and its control
 * socket. Hides the rules of the table in the interface (root, XDG, the two overriding
 * variables) and the checks that keep other users out: a runtime directory is used only if it
 * is a real directory that belongs to us and that nobody else can write to. Runs in root at
 * start and in the command.
 *
 * Regime: never allocates. A directory that cannot be made is missing, not fatal; one that is
 * not safe is.
 */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"

#define LISTEN_BACKLOG 128
#define RUNTIME_BASES 2

static const char *env_dir(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0' ? v : NULL;
}

/* As env_dir(), but the XDG rules say that a relative one is to be ignored. */
static const char *env_absolute(const char *name)
{
	const char *v = env_dir(name);

	return v != NULL && v[0] == '/' ? v : NULL;
}

/* Writes a path; false, and "" in buf, if it does not fit. */
static bool __attribute__((format(printf, 2, 3)))
path_format(char buf[NODE_PATH_MAX], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, NODE_PATH_MAX, fmt, ap);
	va_end(ap);
	if (n >= 0 && n < NODE_PATH_MAX)
		return true;
	buf[0] = '\0';
	errno = ENAMETOOLONG;
	return false;
}

/* Makes an overriding variable's value absolute: what runs later may have another directory. */
static bool path_absolute(char buf[NODE_PATH_MAX], const char *dir)
{
	char cwd[PATH_MAX];

	if (dir[0] == '/')
		return path_format(buf, "%s", dir);
	if (getcwd(cwd, sizeof(cwd)) != NULL)
		return path_format(buf, "%s/%s", cwd, dir);
	buf[0] = '\0';
	return false;
}

static bool is_own_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

/* --- which directories --- */

/* XDG_RUNTIME_DIR counts only if it is ours: su and sudo like to leave another user's behind. */
static const char *xdg_runtime_dir(void)
{
	const char *xdg = env_absolute("XDG_RUNTIME_DIR");

	return xdg != NULL && is_own_dir(xdg) ? xdg : NULL;
}

static bool temporary_base(char buf[NODE_PATH_MAX])
{
	return path_format(buf, "/tmp/coppice-%lu", (unsigned long)geteuid());
}

/* The i-th place to look for runtime directories; false: there are no more. */
static bool runtime_base(int i, char buf[NODE_PATH_MAX])
{
	const char *dir = env_dir("COPPICE_RUNTIME_DIR");

	if (dir != NULL)
		return i == 0 && path_absolute(buf, dir);
	if (geteuid() == 0)
		return i == 0 && path_format(buf, "/run/coppice");
	dir = xdg_runtime_dir();
	if (dir == NULL)
		return i == 0 && temporary_base(buf);
	if (i == 0)
		return path_format(buf, "%s/coppice", dir);
	return i == 1 && temporary_base(buf);
}

const char *node_dirs_base(int i)
{
	static char base[RUNTIME_BASES][NODE_PATH_MAX];

	if (i < 0 || i >= RUNTIME_BASES || !runtime_base(i, base[i]))
		return NULL;
	return base[i];
}

static bool home_state_base(char buf[NODE_PATH_MAX])
{
	const char *dir = env_absolute("XDG_STATE_HOME");

	if (dir != NULL)
		return path_format(buf, "%s/coppice", dir);
	dir = env_absolute("HOME");
	if (dir != NULL)
		return path_format(buf, "%s/.local/state/coppice", dir);
	buf[0] = '\0';
	errno = ENOENT;
	return false;
}

static bool state_base(char buf[NODE_PATH_MAX])
{
	const char *dir = env_dir("COPPICE_STATE_DIR");

	if (dir != NULL)
		return path_absolute(buf, dir);
	if (geteuid() == 0)
		return path_format(buf, "/var/lib/coppice");
	return home_state_base(buf);
}

static void name_dirs(struct node_dirs *d, const char *node)
{
	char base[NODE_PATH_MAX];

	memset(d, 0, sizeof(*d));
	if (runtime_base(0, base))
		path_format(d->runtime, "%s/%s", base, node);
	if (state_base(base))
		path_format(d->state, "%s/%s", base, node);
	if (geteuid() == 0 && env_dir("COPPICE_STATE_DIR") == NULL)
		path_format(d->log, "/var/log/coppice/%s", node);
	else if (d->state[0] != '\0')
		path_format(d->log, "%s/log", d->state);
}

/* --- making and checking --- */

/* Makes a directory and those above it; one that exists already is left as it is. 0 if it can then
 * be written to. */
static int make_path(const char *path, mode_t mode)
{
	char part[NODE_PATH_MAX];
	size_t len = strlen(path);
	int why = 0;

	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		why = mkdir(part, mode) < 0 ? errno : 0;
	}
	if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	if (why != 0 && why != EEXIST)
		errno = why;
	return -1;
}

/* Opens a directory that nobody but us could have made or can change. A mode that only lets others
 * look is narrowed. -1 with errno; EPERM: it is not safe. */
static int open_private(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		if (errno == ELOOP || errno == ENOTDIR || errno == EACCES)
			errno = EPERM;
		return -1;
	}
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) == 0 &&
	    ((st.st_mode & 055) == 0 || fchmod(fd, 0700) == 0))
		return fd;
	close(fd);
	errno = EPERM;
	return -1;
}

/* 0: safe, or not there; -1 with EPERM. */
static int check_private(const char *path)
{
	int fd = open_private(path);

	if (fd < 0)
		return errno == EPERM ? -1 : 0;
	close(fd);
	return 0;
}

/* Says why check_private() refused a directory. */
static int say_unsafe(const char *path)
{
	static const char refused[] = "refused to use the runtime directory";
	struct stat st;

	if (lstat(path, &st) < 0)
		diag_error_errno("%s %s", refused, path);
	else if (S_ISLNK(st.st_mode))
		diag_error("%s %s: it is a symbolic link", refused, path);
	else if (!S_ISDIR(st.st_mode))
		diag_error("%s %s: it is not a directory", refused, path);
	else if (st.st_uid != geteuid())
		diag_error("%s %s: it belongs to user %lu", refused, path, (unsigned long)st.st_uid);
	else if ((st.st_mode & 022) != 0)
		diag_error("%s %s: others can write to it (mode %04o)", refused, path, (unsigned)st.st_mode & 07777);
	else
		diag_error("%s %s: it cannot be opened (mode %04o)", refused, path, (unsigned)st.st_mode & 07777);
	errno = EPERM;
	return -1;
}

/* The directory under /tmp is the only base that anybody could have made before us. */
static int check_base(const struct node_dirs *d)
{
	char tmp[NODE_PATH_MAX];
	size_t len;

	if (!temporary_base(tmp))
		return 0;
	len = strlen(tmp);
	if (strncmp(d->runtime, tmp, len) != 0 || d->runtime[len] != '/' || check_private(tmp) == 0)
		return 0;
	return say_unsafe(tmp);
}

/* The parts above the runtime directory may be shared (/run/coppice); it itself is not. */
static void make_above(const char *path)
{
	char above[NODE_PATH_MAX];
	char *slash;

	snprintf(above, sizeof(above), "%s", path);
	slash = strrchr(above, '/');
	if (slash != NULL && slash != above) {
		*slash = '\0';
		make_path(above, geteuid() == 0 ? 0755 : 0700);
	}
}

/* Makes the runtime directory. Who may do without gets an empty name and no complaint. */
static int make_runtime(char *path, bool optional)
{
	if (path[0] != '\0' && make_path(path, 0700) == 0)
		return 0;
	if (!optional && path[0] != '\0')
		diag_error_errno("unable to make the runtime directory %s", path);
	else if (!optional)
		diag_error("unable to find a runtime directory: its name would be too long");
	path[0] = '\0';
	return optional ? 0 : -1;
}

/* Nothing is made in a directory before that was looked at. */
static int take_runtime(struct node_dirs *d, bool create, bool optional)
{
	if (create)
		make_above(d->runtime);
	if (check_base(d) < 0 || (create && make_runtime(d->runtime, optional) < 0))
		return -1;
	if (d->runtime[0] != '\0' && check_private(d->runtime) < 0)
		return say_unsafe(d->runtime);
	return 0;
}

/* Makes one directory, or empties its name and says so. */
static void make_or_drop(char *path, mode_t mode, const char *what, bool quiet)
{
	if (path[0] == '\0' || make_path(path, mode) == 0)
		return;
	if (!quiet)
		diag_warn_errno("unable to make the %s directory %s", what, path);
	path[0] = '\0';
}

static void warn_homeless(void)
{
	char base[NODE_PATH_MAX];

	if (state_base(base) || errno != ENOENT)
		diag_warn("unable to find a state directory: state and logs are not kept");
	else
		diag_warn("no HOME and no XDG_STATE_HOME: logs and state are not kept");
}

static void make_state(struct node_dirs *d, bool quiet)
{
	mode_t mode = geteuid() == 0 ? 0755 : 0700;

	if (d->state[0] == '\0' && !quiet)
		warn_homeless();
	make_or_drop(d->state, mode, "state", quiet);
	make_or_drop(d->log, mode, "log", quiet);
}

int node_dirs_init(struct node_dirs *d, const char *node, bool create, bool quiet)
{
	mode_t mask = umask(022);
	int result;

	name_dirs(d, node);
	result = take_runtime(d, create, quiet);
	if (result == 0 && create)
		make_state(d, quiet);
	umask(mask);
	return result;
}

/* --- lock and socket --- */

int node_lock(const struct node_dirs *d)
{
	int dir, fd, saved;

	if (d->runtime[0] == '\0') {
		errno = ENOENT;
		return -1;
	}
	dir = open_private(d->runtime);
	if (dir < 0)
		return -1;
	fd = openat(dir, PROTO_LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		saved = errno;
		fds_close(&fd);
		errno = saved;
	}
	saved = errno;
	close(dir);
	errno = saved;
	return fd;
}

/* Fills in the address of a socket; a path too long for one leads through its directory's
 * descriptor, which *dir_r then holds (else -1). */
static int socket_address(struct sockaddr_un *sa, const char *path, int *dir_r)
{
	char dir[NODE_PATH_MAX];
	const char *slash = strrchr(path, '/');
	int n;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*dir_r = -1;
	if (strlen(path) < sizeof(sa->sun_path)) {
		memcpy(sa->sun_path, path, strlen(path) + 1);
		return 0;
	}
	if (slash == NULL || !path_format(dir, "%.*s", (int)(slash - path), path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	*dir_r = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir_r < 0)
		return -1;
	n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d%s", *dir_r, slash);
	if (n >= 0 && (size_t)n < sizeof(sa->sun_path))
		return 0;
	fds_close(dir_r);
	errno = ENAMETOOLONG;
	return -1;
}

/* Tells whether somebody else listens there. Our own old socket, which is about to be replaced,
 * does not count: the kernel knows who called listen. */
static bool others_listen(const struct sockaddr_un *sa)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	bool others = false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0)
		others = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid != getpid();
	else
		others = errno == EAGAIN; /* alive, only its queue is full */
	close(fd);
	return others;
}

/* Makes way for the socket: only what is a dead socket of ours is removed. */
static int remove_stale(const struct sockaddr_un *sa, bool ask)
{
	struct stat st;

	if (lstat(sa->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode) || (st.st_uid != geteuid() && geteuid() != 0)) {
		errno = EEXIST;
		return -1;
	}
	if (ask && others_listen(sa)) {
		errno = EADDRINUSE;
		return -1;
	}
	return unlink(sa->sun_path) < 0 && errno != ENOENT ? -1 : 0;
}

/* The mode is right from the first moment: no chmod after bind that somebody could outrun. */
static int bind_private(int fd, const struct sockaddr_un *sa)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)sa, sizeof(*sa));

	umask(mask);
	return r;
}

static int listen_at(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int saved;

	if (fd < 0)
		return -1;
	if (bind_private(fd, sa) == 0 && listen(fd, LISTEN_BACKLOG) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int node_listen(const struct node_dirs *d, const char *path_override)
{
	char path[NODE_PATH_MAX];
	struct sockaddr_un sa;
	int dir, fd = -1, saved;

	if (path_override == NULL && d->runtime[0] == '\0') {
		errno = ENOENT;
		return -1;
	}
	if (!(path_override != NULL ? path_format(path, "%s", path_override)
	    : path_format(path, "%s/%s", d->runtime, PROTO_SOCKET_NAME)))
		return -1;
	if (socket_address(&sa, path, &dir) < 0)
		return -1;
	/* The lock proves that nobody else uses the default place; it says nothing about others. */
	if (remove_stale(&sa, path_override != NULL) == 0)
		fd = listen_at(&sa);
	saved = errno;
	fds_close(&dir);
	errno = saved;
	return fd;
}

/* --- a node that leaves no trace --- */

void node_dirs_remove(const struct node_dirs *d)
{
	static const char *const files[] = { PROTO_SOCKET_NAME, PROTO_LOCK_NAME };
	char path[NODE_PATH_MAX];
	size_t i;

	for (i = 0; i < sizeof files / sizeof files[0] && d->runtime[0] != '\0'; i++)
		if (path_format(path, "%s/%s", d->runtime, files[i]))
			unlink(path);
	if (d->runtime[0] != '\0')
		rmdir(d->runtime);
	if (d->log[0] != '\0')
		rmdir(d->log); /* only if nothing was written */
	if (d->state[0] != '\0')
		rmdir(d->state);
}
