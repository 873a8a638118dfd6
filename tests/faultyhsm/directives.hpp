#pragma once

#include <cstddef>

#include "faultyhsm/faults.hpp"

namespace faulty {

/// By the place in the table; a function's index is 0 for a directive that names none, kFunctions is that of `*`.
Trigger& trigger_at(std::size_t directive, std::size_t index);
unsigned long fired_of(std::size_t directive);

/// What a directive does the moment it is given, beside arming its trigger.
void take_effect(Fault fault, std::size_t function);
void lose_effect(Fault fault, std::size_t function);

}  // namespace faulty
