// What ThreadSanitizer, which asks for it by this name, leaves out of its reports.

extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() {
  // C_GetTokenInfo of SoftHSM 2.6.1 tells the time with gmtime(), which has one answer for all threads.
  return "race:libsofthsm2.so\n";
}
