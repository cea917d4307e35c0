// Checks of a communicator that hold on every back end, as bodies that every rank runs: the thread ranks of
// the test program and the processes of an MPI job. Inputs are functions of (rank, index), so each rank knows
// what all others hold and compares bit for bit with a plain reference; equal to it on both back ends means
// equal to each other.
#pragma once

#include "parallel/communicator.h"

namespace jevons::test {

void check_reductions(
    Communicator& world);                 // all_reduce, reduce_scatter: dtypes, sizes, operations, in place
void check_gathers(Communicator& world);  // all_gather, broadcast
void check_exchanges(
    Communicator& world);  // all_to_all, all_to_all_v with uneven and empty parts, send, recv
void check_empty_parts(Communicator& world);     // exchanges with ranks that send, receive or have nothing
void check_overlaps(Communicator& world);        // input and output that overlap are refused
void check_split(Communicator& world);           // subgroups, their order, wire bytes
void check_many_under_way(Communicator& world);  // several collectives started before the first wait

}  // namespace jevons::test
