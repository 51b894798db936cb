#!/usr/bin/env bats
# SPDX-FileCopyrightText: The Coppice authors
# SPDX-License-Identifier: ISC
#
# The campaigns against a node of talking processes, in short. Longer, and with other seeds:
#     tests/campaign/campaign ledger --seconds 3600 --seed 7

load helper

campaign=$COP_BUILDDIR/tests/campaign/campaign

@test "campaigns: nothing that was sent is lost, but with its receiver, and every end is told once" {
	run timeout 60 "$campaign" ledger --seconds 3 --seed $RANDOM
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "campaigns: 3,000 deaths leave nothing in the segment" {
	run timeout 120 "$campaign" deaths --count 3000 --seed $RANDOM
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "campaigns: tasks and streams, of which anybody may be killed, leave nothing" {
	run timeout 120 "$campaign" tasks --seconds 3 --seed $RANDOM
	echo "$output"
	[ "$status" -eq 0 ]
}

@test "campaigns: while somebody writes over the segment, supervisors go on restarting" {
	run timeout 120 "$campaign" hostile --seconds 3 --seed $RANDOM
	echo "$output"
	[ "$status" -eq 0 ]
}
