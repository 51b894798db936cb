/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The link between a supervisor and its parent (parent_link.h). Never blocks, never allocates. */
#include "node/parent_link.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/fds.h"
#include "base/wire.h"
#include "node/proto.h"

int plink_open(int fd_r[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd_r);
}

int plink_send(int fd, const struct plink_msg *m)
{
	uint8_t buf[PLINK_MAX];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, m->kind);
	wire_put_u8(&w, m->how);
	wire_put_u8(&w, m->has_cause);
	wire_put_i32(&w, m->value);
	proto_put_exit(&w, &m->reason);
	proto_put_exit(&w, &m->cause);
	wire_put_str(&w, m->cause_path);
	return fds_send(fd, buf, w.len, NULL, 0) < 0 ? -1 : 0;
}

int plink_recv(int fd, struct plink_msg *m)
{
	uint8_t buf[PLINK_MAX];
	struct wire_in w;
	size_t n_fds;
	ssize_t n = fds_recv(fd, buf, sizeof buf, NULL, 0, &n_fds);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0)
		return -1;
	wire_in_init(&w, buf, (size_t)n);
	m->kind = wire_get_u8(&w);
	m->how = wire_get_u8(&w);
	m->has_cause = wire_get_u8(&w);
	m->value = wire_get_i32(&w);
	proto_get_exit(&w, &m->reason);
	proto_get_exit(&w, &m->cause);
	wire_get_str(&w, m->cause_path, sizeof m->cause_path);
	return wire_done(&w) ? 1 : -1;
}
