#pragma once

// The version of the headers; CMake reads it from here, so it is written in one place.

/// While it is 0, another minor version may break what compiled.
#define HSMSEAL_VERSION_MAJOR 0
/// Programs are compiled anew for another one: it is part of the libraries' SONAME.
#define HSMSEAL_VERSION_MINOR 1
/// Corrections only: programs stay as they are.
#define HSMSEAL_VERSION_PATCH 0
