/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One connection to the control socket, as control_client.c serves it and control_accept.c admits
 * and evicts it. The rest of control knows it by the functions of control_private.h only.
 */
#ifndef NODE_CONTROL_CLIENT_H
#define NODE_CONTROL_CLIENT_H

#include "node/control_private.h"

struct client {
	TAILQ_ENTRY(client) entry;
	struct control *ctl;
	int fd;
	struct loop_source src;
	struct loop_timer timer;
	int64_t fresh_ms;        /* since when it has no request */
	int64_t progress_ms;     /* when it last took something, or got something to take */
	uint8_t *in, *out;
	size_t in_len, in_cap;
	size_t out_pos, out_len, out_cap;
	struct request *request; /* what it waits for */
	bool advancing;          /* its requests are being looked at */
	bool eof;                /* it sends no more */
	bool closing;            /* to be closed when all is sent */
	bool dead;
};

/* Takes fd over on success; NULL: no memory. */
struct client *client_open(struct control *c, int fd);
/* Reads what is there already. */
void client_serve(struct client *cl);

#endif
