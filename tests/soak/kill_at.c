/* Kills the process at one of its database statements or file renames: for tests of what a crash leaves behind.
 *
 * Loaded with LD_PRELOAD. HSMSEAL_KILL_AT=N with N even kills before the statement N/2, with N odd after it. Without it
 * the number of instants is written to the file HSMSEAL_KILL_COUNT names, when the process ends. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static long passed; /* instants so far; the database is used by one thread at a time */

static void instant(void) {
  const char* at = getenv("HSMSEAL_KILL_AT");
  if (at && passed == atol(at)) raise(SIGKILL);
  ++passed;
}

__attribute__((destructor)) static void tell(void) {
  const char* path = getenv("HSMSEAL_KILL_COUNT");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld\n", passed);
  fclose(file);
}

#define AROUND(type, name, parameters, arguments)        \
  type name parameters {                                 \
    static type(*real) parameters;                       \
    if (!real) *(void**)&real = dlsym(RTLD_NEXT, #name); \
    instant();                                           \
    type result = real arguments;                        \
    instant();                                           \
    return result;                                       \
  }

AROUND(int, sqlite3_step, (void* statement), (statement))
AROUND(int, rename, (const char* from, const char* to), (from, to))
AROUND(void*, PQexec, (void* connection, const char* query), (connection, query))
AROUND(void*, PQprepare, (void* connection, const char* name, const char* query, int count, const unsigned* types),
       (connection, name, query, count, types))
AROUND(void*, PQexecPrepared,
       (void* connection, const char* name, int count, const char* const* values, const int* lengths,
        const int* formats, int result_format),
       (connection, name, count, values, lengths, formats, result_format))
AROUND(void*, PQexecParams,
       (void* connection, const char* query, int count, const unsigned* types, const char* const* values,
        const int* lengths, const int* formats, int result_format),
       (connection, query, count, types, values, lengths, formats, result_format))
