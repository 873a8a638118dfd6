#pragma once

/// The version of the headers; CMake reads it from here, so it is written in one place.
#define HSMSEAL_VERSION_MAJOR 0
#define HSMSEAL_VERSION_MINOR 1
#define HSMSEAL_VERSION_PATCH 0
