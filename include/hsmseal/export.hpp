#pragma once

/// @def HSMSEAL_API
/// Marks what the library shows. CMake and pkg-config define HSMSEAL_STATIC_DEFINE for those who link it statically.

/// @def HSMSEAL_SQL_API
/// The same for the component `sql`.

#if defined(HSMSEAL_STATIC_DEFINE)
#define HSMSEAL_API
#define HSMSEAL_SQL_API
#elif defined(_WIN32)
#if defined(HSMSEAL_BUILDING)
#define HSMSEAL_API __declspec(dllexport)
#else
#define HSMSEAL_API __declspec(dllimport)
#endif
#if defined(HSMSEAL_SQL_BUILDING)
#define HSMSEAL_SQL_API __declspec(dllexport)
#else
#define HSMSEAL_SQL_API __declspec(dllimport)
#endif
#else
#define HSMSEAL_API __attribute__((visibility("default")))
#define HSMSEAL_SQL_API __attribute__((visibility("default")))
#endif
