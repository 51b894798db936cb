/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* All of libcoppice. Including only the header of the module in use is just as good. */
#ifndef COPPICE_COPPICE_H
#define COPPICE_COPPICE_H

#include <coppice/agent.h>
#include <coppice/exit.h>
#include <coppice/message.h>
#include <coppice/node.h>
#include <coppice/process.h>
#include <coppice/registry.h>
#include <coppice/server.h>
#include <coppice/supervisor.h>
#include <coppice/task.h>
#include <coppice/version.h>

#endif
