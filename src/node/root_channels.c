/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The channels of a node (doc/design/0001): made by root before the first fork and kept by it,
 * so that what is in them survives whoever reads or writes. Without a control socket there is
 * no control process and none of its channels.
 */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/root_private.h"

#define EVENT_PIPE_BYTES (1 << 20)
#define JOURNAL_BYTES (1 << 20)

static int pair(struct root *r, enum node_fd a, enum node_fd b)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
		return -1;
	r->node.fd[a] = fd[0];
	r->node.fd[b] = fd[1];
	return 0;
}

static int pipe_pair(struct root *r, enum node_fd rd, enum node_fd wr, int bytes)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	if (bytes > 0)
		(void)fcntl(fd[1], F_SETPIPE_SZ, bytes); /* a smaller one only fills earlier */
	r->node.fd[rd] = fd[0];
	r->node.fd[wr] = fd[1];
	return 0;
}

static int memory(struct root *r, enum node_fd which, const char *name, off_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes) < 0)
		return -1;
	r->node.fd[which] = fd;
	return 0;
}

int root_channels_open(struct root *r)
{
	if (pair(r, NODE_FD_KEEP_W, NODE_FD_KEEP_R) < 0 || pair(r, NODE_FD_LOG_ROOT, NODE_FD_LOG_LOG) < 0 ||
	    memory(r, NODE_FD_JOURNAL, "coppice-journal", JOURNAL_BYTES) < 0)
		return -1;
	if (loop_attach(&r->loop, &r->keep_src, r->node.fd[NODE_FD_KEEP_R], EPOLLIN, root_keep_ready, r) < 0)
		return -1;
	if (r->node.fd[NODE_FD_LISTEN] < 0)
		return 0;
	if (pipe_pair(r, NODE_FD_EVENT_R, NODE_FD_EVENT_W, EVENT_PIPE_BYTES) < 0 ||
	    pair(r, NODE_FD_HELLO_W, NODE_FD_HELLO_R) < 0 || pair(r, NODE_FD_LINES_W, NODE_FD_LINES_R) < 0 ||
	    pair(r, NODE_FD_CTL_ROOT, NODE_FD_CTL_CTL) < 0 ||
	    memory(r, NODE_FD_HISTORY, "coppice-history", NODE_HISTORY_BYTES) < 0)
		return -1;
	return 0;
}

int root_channel_renew(struct root *r, enum node_fd a, enum node_fd b, struct loop_source *src,
    loop_source_f *ready)
{
	loop_detach(&r->loop, src);
	fds_close(&r->node.fd[a]);
	fds_close(&r->node.fd[b]);
	if (pair(r, a, b) < 0)
		return -1;
	return loop_attach(&r->loop, src, r->node.fd[a], EPOLLIN, ready, r);
}
