// Catch2 2 compiles its runner here, once for all test programs, and without sanitizers: it takes minutes otherwise.
// Catch2 3 brings its own.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
