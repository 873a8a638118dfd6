// A library that is missing where libneeds_absent is copied to.
extern "C" int absent() { return 1; }
