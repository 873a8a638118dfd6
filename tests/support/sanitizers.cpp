// What the sanitizers, which ask for it by these names, do otherwise and leave out of their reports.

extern "C" const char* __asan_default_options();
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __asan_default_options() {
  // LeakSanitizer of clang 14 guesses where variables of threads are in libraries that were loaded later, such as drivers,
  // and sometimes falls over a wrong guess.
  return "intercept_tls_get_addr=0";
}

extern "C" const char* __lsan_default_suppressions() {
  // psqlODBC 13 loses the results of statements that fail, or during which the connection ends.
  // SOCI 4.0 ends the process if a connection over ODBC cannot be closed: hsmseal gives the session up, see SessionCloser.
  // OpenSSL, which SoftHSM uses, keeps something for each thread until that has ended.
  return "leak:psqlodbcw.so\n"
         "leak:libcrypto.so\n"
         "leak:open_odbc_session\n";
}

extern "C" const char* __tsan_default_suppressions() {
  // C_GetTokenInfo of SoftHSM 2.6.1 tells the time with gmtime(), which has one answer for all threads.
  // Botan makes its allocator at the first use, guarded by code of its own that ThreadSanitizer does not see.
  // An error that threads share is counted in libstdc++, which is not instrumented: who ends it last ends it alone.
  // Tests change the faulty driver's list of functions while it is read.
  return "race:softhsm2.so\n"
         "race:std::__exception_ptr::exception_ptr::_M_release\n"
         "race:faultyhsm.so\n"
         "race:Botan::mlock_allocator::mlock_allocator\n";
}
