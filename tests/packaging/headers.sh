#!/bin/sh
# Every public header compiles alone, with CMake's own check of header sets.
# shellcheck source=tests/packaging/common.sh
. "$(dirname "$0")/common.sh"
tree=$work/staged

quietly cmake --build "$tree" --target all_verify_interface_header_sets
installed=$(find "$work/shared/include" -name '*.hpp' | wc -l)
compiled=$(find "$tree" -path '*verify_interface_header_sets*' -name '*.o' | wc -l)
[ "$installed" -gt 20 ] || fail "only $installed headers are installed"
[ "$compiled" -eq "$installed" ] || fail "$compiled headers were compiled, but $installed are installed"
