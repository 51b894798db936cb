/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* A stand-in for root around the log process (log_rig.h). Allocates freely. */
#include "log_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/log_name.h"

#define TIME_US INT64_C(1767225600000000) /* of all marks */

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	printf("# log rig: unable to %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(99);
}

/* --- the node ----------------------------------------------------------------------------- */

static void open_pair(struct rig *r, enum node_fd a, enum node_fd b)
{
	int fd[2];

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0, "make a link");
	r->node.fd[a] = fd[0];
	r->node.fd[b] = fd[1];
}

static void open_journal(struct rig *r)
{
	fds_close(&r->node.fd[NODE_FD_JOURNAL]);
	r->node.fd[NODE_FD_JOURNAL] = memfd_create("journal", MFD_CLOEXEC);
	must(r->node.fd[NODE_FD_JOURNAL] >= 0 && ftruncate(r->node.fd[NODE_FD_JOURNAL], 1 << 20) == 0,
	    "make the journal");
}

void rig_open(struct rig *r)
{
	int i, fd[2];

	memset(r, 0, sizeof(*r));
	for (i = 0; i < NODE_FDS; i++)
		r->node.fd[i] = -1;
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		r->node.sockets[i] = -1;
	r->node.root_pid = getpid();
	snprintf(r->node.name, sizeof(r->node.name), "rig");
	memset(r->node.secret, 'a', PROTO_MARK_SECRET);
	r->node.secret[0] = '7';
	open_pair(r, NODE_FD_LOG_ROOT, NODE_FD_LOG_LOG);
	open_pair(r, NODE_FD_LINES_W, NODE_FD_LINES_R);
	must(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0, "make the event pipe");
	r->node.fd[NODE_FD_EVENT_R] = fd[0];
	r->node.fd[NODE_FD_EVENT_W] = fd[1];
	open_journal(r);
	snprintf(r->dir, sizeof(r->dir), "/tmp/cop-log-XXXXXX");
	must(mkdtemp(r->dir) != NULL, "make a directory");
	diag_init("log");
	diag_set_quiet(1);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *f)
{
	(void)st;
	(void)kind;
	if (f->level > 0 && remove(path) < 0)
		return -1;
	return 0;
}

void rig_clear(struct rig *r)
{
	uint32_t i;

	for (i = 0; i < r->n; i++) {
		fds_close(&r->s[i].rd);
		fds_close(&r->s[i].wr);
		fds_close(&r->s[i].ready_rd);
		fds_close(&r->s[i].ready_wr);
		free(r->s[i].want);
	}
	r->n = 0;
	nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	open_journal(r);
}

void rig_close(struct rig *r)
{
	int i;

	if (r->pid)
		rig_kill(r);
	rig_clear(r);
	for (i = 0; i < NODE_FDS; i++)
		fds_close(&r->node.fd[i]);
	rmdir(r->dir);
}

struct rig_stream *rig_add(struct rig *r, size_t pipe_bytes, uint64_t max_bytes, uint32_t max_files,
    bool timestamps, const char *regex)
{
	struct rig_stream *s = &r->s[r->n];
	int fd[2];

	*s = (struct rig_stream){ .ready_rd = -1, .ready_wr = -1, .kept = true };
	must(pipe2(fd, O_CLOEXEC) == 0, "make a pipe");
	s->rd = fd[0];
	s->wr = fd[1];
	fds_set_nonblock(s->wr, true);
	if (pipe_bytes)
		must(fcntl(s->wr, F_SETPIPE_SZ, (int)pipe_bytes) >= 0, "size a pipe");
	if (regex) {
		must(pipe2(fd, O_CLOEXEC) == 0, "make a pipe");
		s->ready_rd = fd[0];
		s->ready_wr = fd[1];
		snprintf(s->keep.regex, sizeof(s->keep.regex), "%s", regex);
	}
	snprintf(s->keep.path, sizeof(s->keep.path), "child%u", r->n);
	snprintf(s->keep.dir, sizeof(s->keep.dir), "%s/%u/log", r->dir, r->n);
	s->keep.max_bytes = max_bytes;
	s->keep.max_files = max_files;
	s->keep.timestamps = timestamps;
	r->n++;
	return s;
}

void rig_make_dirs(const struct rig_stream *s)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s", s->keep.dir);
	*strrchr(path, '/') = '\0';
	must(mkdir(path, 0755) == 0 || errno == EEXIST, "make a directory");
	must(mkdir(s->keep.dir, 0755) == 0 || errno == EEXIST, "make a directory");
}

bool rig_small_disk(const struct rig_stream *s)
{
	rig_make_dirs(s);
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("coppice-test", s->keep.dir, "tmpfs", 0, "size=64k") == 0;
}

void rig_no_small_disk(const struct rig_stream *s)
{
	must(umount2(s->keep.dir, MNT_DETACH) == 0, "unmount");
}

/* --- the process -------------------------------------------------------------------------- */

static _Noreturn void run_log(struct rig *r, bool traced)
{
	static struct proto_keep_log keep[RIG_STREAMS_MAX];
	static int fds[RIG_STREAMS_MAX], ready[RIG_STREAMS_MAX];
	static uint32_t slots[RIG_STREAMS_MAX];
	uint32_t i, n = 0;

	for (i = 0; i < r->n; i++) {
		fds_close(&r->s[i].wr);
		fds_close(&r->s[i].ready_rd);
		if (!r->s[i].kept)
			continue;
		keep[n] = r->s[i].keep;
		fds[n] = r->s[i].rd;
		ready[n] = r->s[i].ready_wr;
		slots[n++] = i;
	}
	if (traced) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
	}
	log_main(&r->node, keep, fds, ready, slots, n);
}

/* As root does: what was said to a predecessor is void. */
static void renew_link(struct rig *r)
{
	fds_close(&r->node.fd[NODE_FD_LOG_ROOT]);
	fds_close(&r->node.fd[NODE_FD_LOG_LOG]);
	open_pair(r, NODE_FD_LOG_ROOT, NODE_FD_LOG_LOG);
}

void rig_start(struct rig *r, bool traced)
{
	renew_link(r);
	fflush(stdout);
	r->node.root_pid = getpid();
	r->pid = fork();
	must(r->pid >= 0, "fork");
	if (r->pid == 0)
		run_log(r, traced);
}

void rig_say(struct rig *r, uint8_t kind)
{
	must(fds_send(r->node.fd[NODE_FD_LOG_ROOT], &kind, 1, NULL, 0) == 1, "tell the log process");
}

void rig_adopt(struct rig *r, struct rig_stream *s)
{
	uint8_t buf[sizeof(s->keep) + 64];
	int fds[2] = { s->rd, s->ready_wr };
	struct wire_out w;

	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, KEEP_ADOPT);
	wire_put_u32(&w, (uint32_t)(s - r->s));
	proto_put_keep_log(&w, &s->keep);
	must(fds_send(r->node.fd[NODE_FD_LOG_ROOT], buf, w.len, fds, s->ready_wr >= 0 ? 2 : 1) > 0,
	    "hand a pipe over");
}

void rig_take_drops(struct rig *r)
{
	uint8_t buf[64];
	struct wire_in w;
	ssize_t n;
	size_t n_fds;
	uint32_t slot;

	while ((n = fds_recv(r->node.fd[NODE_FD_LOG_ROOT], buf, sizeof(buf), NULL, 0, &n_fds)) > 0) {
		wire_in_init(&w, buf, (size_t)n);
		if (wire_get_u8(&w) != KEEP_DROP)
			continue;
		slot = wire_get_u32(&w);
		if (slot < r->n && wire_done(&w))
			r->s[slot].kept = false;
	}
}

int rig_finish(struct rig *r)
{
	int status = -1;

	rig_say(r, KEEP_FINISH);
	waitpid(r->pid, &status, 0);
	rig_take_drops(r);
	r->pid = 0;
	return status;
}

void rig_kill(struct rig *r)
{
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	r->pid = 0;
}

/* --- what the children say ---------------------------------------------------------------- */

static void want(struct rig_stream *s, const char *text, size_t len)
{
	if (s->want_len + len > s->want_cap) {
		s->want_cap = (s->want_len + len) * 2;
		s->want = realloc(s->want, s->want_cap);
		must(s->want != NULL, "allocate");
	}
	memcpy(s->want + s->want_len, text, len);
	s->want_len += len;
}

static bool put_raw(struct rig_stream *s, const char *text, size_t len)
{
	return write(s->wr, text, len) == (ssize_t)len;
}

bool rig_put(struct rig_stream *s, const char *text, size_t len)
{
	if (len == 0)
		return true;
	if (!put_raw(s, text, len))
		return false;
	want(s, text, len);
	s->mid = text[len - 1] != '\n';
	return true;
}

bool rig_puts(struct rig_stream *s, const char *text)
{
	return rig_put(s, text, strlen(text));
}

static bool put_mark(struct rig *r, struct rig_stream *s, const char *text, const char *record)
{
	char mark[PROTO_MARK_MAX];
	int n = snprintf(mark + 1, sizeof(mark) - 1, "%s%s\n", r->node.secret, text);

	mark[0] = '\0';
	if (!put_raw(s, mark, (size_t)n + 1))
		return false;
	if (s->mid)
		want(s, "\n", 1);
	s->mid = false;
	want(s, record, strlen(record));
	return true;
}

bool rig_start_mark(struct rig *r, struct rig_stream *s, int pid)
{
	char text[64], record[128], iso[CLOCK_ISO_SIZE];

	snprintf(text, sizeof(text), "S %d %lld", pid, (long long)TIME_US);
	snprintf(record, sizeof(record), "%s coppice: start pid %d\n", clock_iso(TIME_US, iso), pid);
	return put_mark(r, s, text, record);
}

bool rig_exit_mark(struct rig *r, struct rig_stream *s, int pid, const char *reason)
{
	char text[128], record[160], iso[CLOCK_ISO_SIZE];

	snprintf(text, sizeof(text), "X %d %lld 3141 %s", pid, (long long)TIME_US, reason);
	snprintf(record, sizeof(record), "%s coppice: exit pid %d %s after 3.141 s\n",
	    clock_iso(TIME_US, iso), pid, reason);
	return put_mark(r, s, text, record);
}

void rig_put_numbered(struct rig_stream *s, int from, int to)
{
	char line[128];
	int i;

	fds_set_nonblock(s->wr, false);
	for (i = from; i < to; i++) {
		int n = snprintf(line, sizeof(line), "line %d 0123456789012345678901234567890123456789\n", i);

		must(write(s->wr, line, (size_t)n) == n, "write");
	}
	fds_set_nonblock(s->wr, true);
}

/* --- what is in the files ----------------------------------------------------------------- */

static int rotated_only(const struct dirent *e)
{
	return log_name_is_rotated(e->d_name);
}

static char *slurp(const char *dir, const char *name, size_t *len_r)
{
	char path[4600], *text;
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	*len_r = 0;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return NULL;
	}
	text = malloc((size_t)st.st_size + 1);
	must(text && read(fd, text, (size_t)st.st_size) == st.st_size, "read a file");
	close(fd);
	*len_r = (size_t)st.st_size;
	return text;
}

struct files {
	char *all;
	size_t len;
	size_t largest;
	bool torn; /* a rotated file ends within a line */
};

static void add_file(struct files *f, const char *dir, const char *name)
{
	size_t n;
	char *text = slurp(dir, name, &n);

	if (!text)
		return;
	f->all = realloc(f->all, f->len + n + 1);
	must(f->all != NULL, "allocate");
	memcpy(f->all + f->len, text, n);
	f->len += n;
	if (n > f->largest)
		f->largest = n;
	if (strcmp(name, LOG_NAME_CURRENT) != 0 && (n == 0 || text[n - 1] != '\n'))
		f->torn = true;
	free(text);
}

static void read_files(const struct rig_stream *s, struct files *f)
{
	struct dirent **list = NULL;
	int i, n = scandir(s->keep.dir, &list, rotated_only, alphasort);

	*f = (struct files){ .all = calloc(1, 1) };
	for (i = 0; i < n; i++) {
		add_file(f, s->keep.dir, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	add_file(f, s->keep.dir, LOG_NAME_CURRENT);
}

char *rig_read(const struct rig_stream *s, size_t *len_r)
{
	struct files f;

	read_files(s, &f);
	*len_r = f.len;
	return f.all;
}

int rig_rotated(const struct rig_stream *s)
{
	struct dirent **list = NULL;
	int i, n = scandir(s->keep.dir, &list, rotated_only, NULL);

	for (i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return n;
}

/* "line 17 0123...": the number, or -1. */
static long numbered(const char *p, const char *nl)
{
	char *after;
	long n;

	if (strncmp(p, "line ", 5) != 0)
		return -1;
	n = strtol(p + 5, &after, 10);
	return strncmp(after, " 0123456789", 11) == 0 && nl - after == 41 ? n : -1;
}

/* "TIME coppice: 17 lines (1234 bytes) lost: ...": 17, or -1. */
static long lost_lines(const char *p)
{
	return strncmp(p + 27, " coppice: ", 10) == 0 && strstr(p, " lost: ") ? strtol(p + 37, NULL, 10) : -1;
}

bool rig_count_numbered(const struct rig_stream *s, long *lines_r, long *lost_r)
{
	size_t len;
	char *text = rig_read(s, &len), *p, *nl;
	long next = 0, n;

	*lines_r = *lost_r = 0;
	text[len] = '\0';
	for (p = text; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
		if ((n = lost_lines(p)) > 0) {
			*lost_r += n;
			next += n;
		} else if (numbered(p, nl) == next) {
			++*lines_r;
			next++;
		} else {
			break;
		}
	}
	if (*p)
		printf("# instead of line %ld there is \"%.80s\"\n", next, p);
	len = strlen(p);
	free(text);
	return len == 0;
}

static bool is_stamp(const char *p, size_t len)
{
	return len >= 28 && p[4] == '-' && p[10] == 'T' && p[19] == '.' && p[26] == 'Z' && p[27] == ' ';
}

/* Takes the timestamps off all lines but records, which have one in any case. */
static size_t strip(char *text, size_t len)
{
	size_t from = 0, to = 0;

	while (from < len) {
		char *nl = memchr(text + from, '\n', len - from);
		size_t n = nl ? (size_t)(nl - text) + 1 - from : len - from;
		size_t skip = is_stamp(text + from, n) && (n < 37 || memcmp(text + from + 28, "coppice:", 8) != 0)
		    ? 28 : 0;

		memmove(text + to, text + from + skip, n - skip);
		to += n - skip;
		from += n;
	}
	return to;
}

static const char *compare(const struct rig_stream *s, struct files *f)
{
	static char why[256];
	size_t i;

	if (s->keep.timestamps)
		f->len = strip(f->all, f->len);
	if (s->keep.max_bytes && f->largest > s->keep.max_bytes) {
		snprintf(why, sizeof(why), "a file has %zu bytes", f->largest);
		return why;
	}
	for (i = 0; i < f->len && i < s->want_len && f->all[i] == s->want[i]; i++)
		;
	if (i == f->len && i == s->want_len)
		return f->torn && !s->keep.timestamps ? "a line is torn by a rotation" : NULL;
	snprintf(why, sizeof(why), "byte %zu differs: %zu bytes are there, %zu were put; there: \"%.*s\"", i,
	    f->len, s->want_len, (int)(f->len - i < 60 ? f->len - i : 60), f->all + i);
	return why;
}

const char *rig_verdict(const struct rig_stream *s)
{
	struct files f;
	const char *why;

	read_files(s, &f);
	why = compare(s, &f);
	free(f.all);
	return why;
}

bool rig_wait(const struct rig_stream *s, int ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (rig_verdict(s)) {
		if (clock_mono_ms() > until)
			return false;
		poll(NULL, 0, 2);
	}
	return true;
}
