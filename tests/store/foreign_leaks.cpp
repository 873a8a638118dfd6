// Leaks of other people's libraries, which LeakSanitizer asks a program for by this name.

extern "C" const char* __lsan_default_suppressions();

extern "C" const char* __lsan_default_suppressions() {
  // psqlODBC 13 loses the result of a statement during which the server's connection ends.
  return "leak:psqlodbcw.so\n";
}
