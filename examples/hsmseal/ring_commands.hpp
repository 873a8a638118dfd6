#pragma once

#include "command.hpp"

namespace tool {

// The commands below `ring`, one function for each file.
void add_ring_views(Tool& tool, CLI::App* ring);
void add_ring_making(Tool& tool, CLI::App* ring);
void add_ring_changes(Tool& tool, CLI::App* ring);
void add_ring_removal(Tool& tool, CLI::App* ring);
void add_ring_log(Tool& tool, CLI::App* ring);

}  // namespace tool
