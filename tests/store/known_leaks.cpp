// What LeakSanitizer, which asks for it by this name, leaves out of its reports.

extern "C" const char* __lsan_default_suppressions();

extern "C" const char* __lsan_default_suppressions() {
  // psqlODBC 13 loses the results of statements that fail, or during which the connection ends.
  // SOCI 4.0 ends the process if a connection over ODBC cannot be closed: hsmseal gives the session up, see SessionCloser.
  return "leak:psqlodbcw.so\n"
         "leak:open_odbc_session\n";
}
